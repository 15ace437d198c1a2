//! A value that is made from files, and made anew when the files have changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::path::{LONGEST, read_regular, shown};
use crate::error::BuildError;

type Contents = Vec<Zeroizing<Vec<u8>>>;
type Make<T> = dyn Fn(&[Zeroizing<Vec<u8>>]) -> Result<T, BuildError> + Send + Sync;

/// A value that is made from files.
///
/// The files are read at each use of the value. Uses are rare: once for each token. If the contents differ, a new
/// value is made. A file may be missing for a moment while it is replaced, or be half written, or a key may arrive
/// before its certificate. Then the last value that could be made stays in use.
pub(crate) struct FromFiles<T> {
    /// Each with its setting.
    paths: Vec<(&'static str, PathBuf)>,
    make: Box<Make<T>>,
    /// How often the files have been read. The lock is held while they are read, so that the numbers are in the
    /// order of the reads.
    reads: Mutex<u64>,
    last: Mutex<Made<T>>,
}

struct Made<T> {
    of: Contents,
    value: Arc<T>,
    /// The number of the read from which `of` was made.
    number: u64,
    /// The last failure that was logged, so that each is logged once.
    logged: Option<String>,
}

impl<T: Send + Sync + 'static> FromFiles<T> {
    /// Reads the files for the first time. An error names the setting and the file at fault, and shows none of its
    /// contents.
    pub(crate) fn new(
        paths: Vec<(&'static str, PathBuf)>,
        make: impl Fn(&[Zeroizing<Vec<u8>>]) -> Result<T, BuildError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, BuildError> {
        let of = read_all(&paths)?;
        let value = Arc::new(make(&of)?);
        let last = Mutex::new(Made { of, value, number: 0, logged: None });
        Ok(Arc::new(Self { paths, make: Box::new(make), reads: Mutex::new(0), last }))
    }

    #[cfg(feature = "oauth2")]
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter().map(|(_, path)| path)
    }

    /// The value from the present files.
    pub(crate) async fn read(self: &Arc<Self>) -> Arc<T> {
        let this = Arc::clone(self);
        match tokio::task::spawn_blocking(move || this.read_now()).await {
            Ok(value) => value,
            // The runtime is shutting down.
            Err(_) => self.last(),
        }
    }

    /// The value from the last read.
    pub(crate) fn last(&self) -> Arc<T> {
        Arc::clone(&lock(&self.last).value)
    }

    fn read_now(&self) -> Arc<T> {
        let (number, of) = {
            let mut reads = lock(&self.reads);
            *reads += 1;
            (*reads, read_all(&self.paths))
        };
        let made = of.and_then(|of| {
            let known = {
                let last = lock(&self.last);
                (last.of == of).then(|| Arc::clone(&last.value))
            };
            let value = known.map_or_else(|| (self.make)(&of).map(Arc::new), Ok)?;
            Ok((of, value))
        });
        let mut last = lock(&self.last);
        match made {
            // Another thread has read the files after this one, and made its value first. This thread's value
            // may be older.
            Ok(_) if number < last.number => {}
            Ok((of, value)) => *last = Made { of, value, number, logged: None },
            Err(error) => {
                let what = error.to_string();
                if last.logged.as_ref() != Some(&what) {
                    log::warn!("{what}; the earlier contents stay in use");
                    last.logged = Some(what);
                }
            }
        }
        Arc::clone(&last.value)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> fmt::Debug for FromFiles<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths.iter().map(|(_, path)| shown(path)).collect();
        f.debug_tuple("FromFiles").field(&paths).finish()
    }
}

fn read_all(paths: &[(&'static str, PathBuf)]) -> Result<Contents, BuildError> {
    let read = |(field, path): &(&'static str, PathBuf)| {
        let refused = |error| format!("needs the file {}, which cannot be read: {error}", shown(path));
        read_regular(path, LONGEST).map_err(|error| BuildError::new(field, refused(error)))
    };
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(parts: &[Zeroizing<Vec<u8>>]) -> Result<String, BuildError> {
        let text = String::from_utf8_lossy(&parts[0]).into_owned();
        if text.contains("half") { Err(BuildError::new("text", "is half of it")) } else { Ok(text) }
    }

    fn at(path: &std::path::Path) -> Vec<(&'static str, PathBuf)> {
        vec![("text_file", path.to_owned())]
    }

    #[tokio::test]
    async fn a_changed_file_makes_another_value_and_a_bad_one_none() {
        let path = std::env::temp_dir().join(format!("tokenflight-files-{}", std::process::id()));
        let error = FromFiles::new(at(&path), text).unwrap_err();
        assert!(error.field() == "text_file" && error.to_string().contains("cannot be read"), "{error}");
        std::fs::write(&path, "half").unwrap();
        assert_eq!(FromFiles::new(at(&path), text).unwrap_err().to_string(), "`text` is half of it");
        std::fs::write(&path, "one").unwrap();
        let files = FromFiles::new(at(&path), text).unwrap();
        let one = files.read().await;
        assert_eq!(*one, "one");
        assert!(Arc::ptr_eq(&one, &files.read().await), "made once");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(*files.last(), "one");
        assert_eq!((*files.read().await).as_str(), "two");
        std::fs::write(&path, "half").unwrap();
        assert_eq!(*files.read().await, "two");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*files.read().await, "two");
        assert!(!format!("{files:?}").contains("two"));
    }

    /// A thread that has read the files earlier, and makes its value later, changes nothing.
    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = std::env::temp_dir().join(format!("tokenflight-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = FromFiles::new(at(&pipe), |_| Ok(())).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[test]
    fn an_older_value_never_replaces_a_newer_one() {
        use std::sync::mpsc;
        let path = std::env::temp_dir().join(format!("tokenflight-files-order-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let (begun, is_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let files = FromFiles::new(at(&path), move |parts| {
            let text = text(parts)?;
            if text == "two" {
                begun.send(()).unwrap();
                lock(&may_go_on).recv().unwrap();
            }
            Ok(text)
        });
        let files = files.unwrap();
        std::fs::write(&path, "two").unwrap();
        let slow = std::thread::spawn({
            let files = Arc::clone(&files);
            move || files.read_now()
        });
        is_begun.recv().unwrap();
        std::fs::write(&path, "three").unwrap();
        assert_eq!(*files.read_now(), "three");
        go_on.send(()).unwrap();
        assert_eq!(*slow.join().unwrap(), "three");
        assert_eq!(*files.last(), "three");
        std::fs::remove_file(&path).unwrap();
    }
}

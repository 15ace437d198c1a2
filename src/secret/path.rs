//! Files with secrets: read into memory that is wiped, and named in errors without their contents.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// In bytes. No secret, key or certificate is longer.
pub(crate) const LONGEST: u64 = 1024 * 1024;

/// A path for messages. Some users put the key itself in its place. A key is not shown.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let is_key = text.contains(['\n', '\r']) || text.contains("-----BEGIN");
    if is_key { "[not shown: a text was given instead of a path]".to_owned() } else { text }
}

/// Reads a regular file of fewer than `limit` bytes. A pipe or a device may never end, and opening a pipe waits for its writer.
pub(crate) fn read_regular(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
    }
    read(path, limit)
}

/// Symbolic links are followed.
fn read(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // Capacity for the whole file from the beginning: a buffer that grows leaves its old memory behind unwiped.
    let length = file.metadata().map(|data| data.len()).unwrap_or_default().min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == limit {
        let what = format!("it has {limit} bytes or more");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(bytes)
}

//! How often an idle actor wakes its thread, compared with an empty System.
//!
//! ```sh
//! cargo bench --bench idle
//! ```
//!
//! Both have their own thread. The kernel counts how often each gives up its processor.

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("The count is Linux's.");
}

#[cfg(target_os = "linux")]
fn main() {
    use linux::{idle_actor, idle_system};
    const SECONDS: u64 = 10;
    let [system, actor] = [idle_system(), idle_actor()];
    std::thread::sleep(std::time::Duration::from_secs(1)); // what starting takes is over
    let before = [system.switches(), actor.switches()];
    std::thread::sleep(std::time::Duration::from_secs(SECONDS));
    let [system, actor] = [system.switches() - before[0], actor.switches() - before[1]];
    println!("Context switches in {SECONDS} s");
    println!("  an empty System:                      {system}");
    println!("  one with an actor that has a token:   {actor}");
    println!("  more than the empty one, asked: 0 - {}", if actor <= system { "holds" } else { "MISSED" });
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::time::Duration;
    use std::{fs, future, thread};

    use actix::prelude::*;
    use tokenflight::{Token, TokenActor, source_fn};

    /// A thread, by its folder below `/proc`.
    pub(super) struct Thread(PathBuf);

    impl Thread {
        pub(super) fn switches(&self) -> u64 {
            let status = fs::read_to_string(self.0.join("status")).expect("it runs");
            let counts = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
            counts.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum()
        }
    }

    pub(super) fn idle_system() -> Thread {
        run(future::ready(()))
    }

    pub(super) fn idle_actor() -> Thread {
        run(async {
            let lifetime = Duration::from_secs(3600);
            let source = source_fn(move |_| future::ready(Ok(Token::new("s3cret").with_lifetime(lifetime))));
            let handle = TokenActor::builder(source).start().expect("a sound policy");
            handle.get().await.expect("a token");
            std::mem::forget(handle); // the actor would end with it
        })
    }

    fn run(begin: impl Future<Output = ()> + Send + 'static) -> Thread {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            System::new().block_on(async {
                begin.await;
                let folder = fs::read_link("/proc/thread-self").expect("a name for this thread");
                sender.send(Thread(PathBuf::from("/proc").join(folder))).expect("somebody listens");
                future::pending::<()>().await;
            });
        });
        receiver.recv().expect("it starts")
    }
}

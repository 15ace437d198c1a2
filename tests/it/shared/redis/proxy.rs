//! A proxy between a client and its Redis that drops or cuts connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::store::RedisStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::server::Redis;
use crate::support::*;

/// What happens to the connections that are there. The ones that come later are well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trouble {
    /// Whatever is sent, either way, is swallowed without a word.
    Forgotten,
    /// Cut now.
    Reset,
    /// Cut when the client sends something, which Redis never sees.
    ResetBeforeRequest,
    /// Cut when Redis answers, so that the client does not hear what was carried out.
    ResetBeforeAnswer,
}

/// It runs on the test's arbiter, and ends with the test.
pub(super) struct Proxy {
    port: u16,
    /// All connections up to a number are in a trouble.
    trouble: tokio::sync::watch::Sender<(usize, Option<Trouble>)>,
    accepted: Arc<AtomicUsize>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Proxy {
    /// A connection without traffic for longer than `idle` is forgotten.
    pub(super) async fn before(redis: &Redis, idle: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (trouble, _) = tokio::sync::watch::channel((0, None));
        let proxy = Self { port, trouble, accepted: Arc::default(), tasks: Arc::default() };
        let (trouble, accepted, tasks) =
            (proxy.trouble.clone(), Arc::clone(&proxy.accepted), Arc::clone(&proxy.tasks));
        let server = redis.port();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let number = accepted.fetch_add(1, Ordering::Relaxed) + 1;
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let pass = pass(number, client, server, idle, trouble.subscribe());
                tasks.lock().unwrap().push(tokio::spawn(pass));
            }
        });
        proxy.tasks.lock().unwrap().push(accepting);
        proxy
    }

    /// How many connections there have been.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn all_are(&self, trouble: Trouble) {
        self.trouble.send_replace((self.accepted(), Some(trouble)));
    }

    pub(super) fn store(&self, timeout: Duration) -> RedisStore {
        RedisStore::builder(format!("redis://127.0.0.1:{}", self.port)).timeout(timeout).build().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}

async fn pass(
    number: usize,
    mut client: TcpStream,
    mut server: TcpStream,
    idle: Duration,
    mut trouble: tokio::sync::watch::Receiver<(usize, Option<Trouble>)>,
) {
    let (mut asked, mut answered) = ([0; 16_384], [0; 16_384]);
    let mut now = None;
    loop {
        tokio::select! {
            biased;
            changed = trouble.changed(), if now.is_none() => {
                let (until, what) = *trouble.borrow_and_update();
                if changed.is_err() || number > until {
                    continue;
                }
                now = what;
                if now == Some(Trouble::Reset) {
                    break;
                }
            }
            read = client.read(&mut asked) => match (read, now) {
                (Ok(0) | Err(_), _) | (_, Some(Trouble::ResetBeforeRequest)) => break,
                (_, Some(Trouble::Forgotten)) => {}
                (Ok(read), _) => server.write_all(&asked[..read]).await.unwrap(),
            },
            read = server.read(&mut answered) => match (read, now) {
                (Ok(0) | Err(_), _) | (_, Some(Trouble::ResetBeforeAnswer)) => break,
                (_, Some(Trouble::Forgotten)) => {}
                (Ok(read), _) => if client.write_all(&answered[..read]).await.is_err() { break },
            },
            () = tokio::time::sleep(idle), if now.is_none() => now = Some(Trouble::Forgotten),
        }
    }
    // With bytes on the way it is a reset, as a load balancer sends it.
    let _ = client.set_zero_linger();
}

/// For tests in which no connection is forgotten by itself.
pub(super) const NEVER: Duration = HOUR;

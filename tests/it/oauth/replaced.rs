//! Secret, key and certificate are replaced on the disc while eight workers fetch.

use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokenflight::source::SignedJwt;
use tokenflight::{FetchContext, Reason};

use super::loopback::{Loopback, Question, Reply};
use super::strict_server::Pair;
use super::*;

const WORKERS: usize = 8;

/// What has happened so far. Whoever waits for more is woken at each event.
#[derive(Default)]
struct Journal {
    events: Mutex<Events>,
    changed: Condvar,
}

#[derive(Default)]
struct Events {
    /// Requests that were accepted by the old proof, and by the new one.
    by: [usize; 2],
    /// Requests that were refused.
    refused: usize,
    /// Whether the old proof is refused.
    only_new: bool,
    failures: Vec<String>,
}

impl Journal {
    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Events)) {
        change(&mut self.events());
        self.changed.notify_all();
    }

    /// Waits until there are so many more of them.
    #[track_caller]
    fn wait_for_more(&self, more: usize, count: impl Fn(&Events) -> usize) {
        let mut events = self.events();
        let wanted = count(&events) + more;
        while count(&events) < wanted {
            assert!(events.failures.is_empty(), "{:?}", events.failures);
            let (woken, late) = self.changed.wait_timeout(events, secs(60)).unwrap();
            assert!(!late.timed_out(), "nothing happens: {:?}", woken.by);
            events = woken;
        }
    }
}

/// A server that tells the old proof from the new one: `None` is neither.
fn server(
    journal: &Arc<Journal>,
    which: impl Fn(&Question) -> Option<usize> + Send + Sync + 'static,
) -> Loopback {
    let (journal, count) = (Arc::clone(journal), AtomicUsize::new(0));
    Loopback::start(move |_, question| {
        let which = which(question);
        let mut is_good = false;
        journal.note(|events| match which {
            // The old one is good until the new one is seen for the first time.
            Some(which) if which == 1 || !events.only_new => {
                is_good = true;
                events.only_new |= which == 1;
                events.by[which] += 1;
            }
            _ => events.refused += 1,
        });
        if !is_good {
            return Reply::json(401, json!({ "error": "invalid_client" }));
        }
        let token = format!("token-{}", count.fetch_add(1, Ordering::Relaxed));
        Reply::json(200, json!({ "access_token": token, "token_type": "Bearer", "expires_in": 60 }))
    })
}

/// Threads with a runtime each, whose tokens are discarded as soon as they are there: each `get()` needs a request.
struct Workers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(
        client: &Client,
        journal: &Arc<Journal>,
        told: impl Fn(&Token) + Clone + Send + 'static,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let work = || {
            let (client, journal, told) = (client.clone(), Arc::clone(journal), told.clone());
            let is_over = Arc::clone(&is_over);
            move || {
                actix::System::new().block_on(async move {
                    let source = client.client_credentials().build().unwrap();
                    let policy = once().attempts(3).backoff(millis(1)).max_backoff(millis(1));
                    let policy = policy.reports(1_000_000).report_every(millis(1));
                    let handle = TokenActor::builder(source).policy(policy).start().unwrap();
                    while !is_over.load(Ordering::Acquire) {
                        match handle.get().await {
                            Ok(token) => {
                                told(&token);
                                handle.discard(&token);
                            }
                            Err(error) => {
                                journal.note(|events| events.failures.push(error.to_string()));
                                return;
                            }
                        }
                    }
                });
            }
        };
        let threads = (0..WORKERS).map(|_| thread::spawn(work())).collect();
        Self { is_over, threads }
    }

    /// No `get()` has failed.
    #[track_caller]
    fn end(mut self, journal: &Journal) {
        self.is_over.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let events = journal.events();
        assert!(events.failures.is_empty(), "{:?}", events.failures);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

const OLD: fn(&Events) -> usize = |events| events.by[0];
const NEW: fn(&Events) -> usize = |events| events.by[1];

fn secret_server(journal: &Arc<Journal>) -> Loopback {
    server(journal, |question| {
        ["old-secret", "new-secret"]
            .iter()
            .position(|secret| question.field("client_secret") == Some(*secret))
    })
}

fn client_with_secret(server: &Loopback, file: PathBuf) -> Client {
    let client = Client::builder(server.token_url(), "app").secret_file(file);
    client.auth_method(tokenflight::oauth::ClientAuth::Body).build().unwrap()
}

#[test]
fn a_secret_that_is_replaced_as_a_whole_fails_nobody() {
    let (journal, folder) = (Arc::<Journal>::default(), Folder::new());
    let server = secret_server(&journal);
    let client = client_with_secret(&server, folder.write("secret", "old-secret\n"));
    let workers = Workers::start(&client, &journal, |_| {});
    journal.wait_for_more(100, OLD);
    folder.replace("secret", "new-secret\n");
    journal.wait_for_more(100, NEW);
    workers.end(&journal);
}

#[test]
fn a_secret_that_is_written_in_place_fails_nobody() {
    use std::io::Write as _;
    let (journal, folder) = (Arc::<Journal>::default(), Folder::new());
    let server = secret_server(&journal);
    let path = folder.write("secret", "old-secret");
    let client = client_with_secret(&server, path.clone());
    let workers = Workers::start(&client, &journal, |_| {});
    journal.wait_for_more(50, OLD);
    let mut file = std::fs::File::create(path).unwrap();
    // The file is empty now.
    journal.wait_for_more(50, OLD);
    file.write_all(b"new-secret").unwrap();
    journal.wait_for_more(100, NEW);
    workers.end(&journal);
}

#[test]
fn a_private_key_that_is_replaced_fails_nobody() {
    use std::io::Write as _;
    for in_place in [false, true] {
        let (journal, folder) = (Arc::<Journal>::default(), Folder::new());
        let [old, new] = [Pair::p256(), Pair::p256()];
        let path = folder.write("key.pem", &old.pem);
        let pem = new.pem.clone();
        let server = server(&journal, move |question| {
            let jwt = question.field("client_assertion")?;
            [&old, &new].iter().position(|pair| pair.has_signed(jwt))
        });
        let client = Client::builder(server.token_url(), "app").private_key_file(&path).build().unwrap();
        let workers = Workers::start(&client, &journal, |_| {});
        journal.wait_for_more(50, OLD);
        if in_place {
            let (begin, end) = pem.split_at(100);
            let mut file = std::fs::File::create(&path).unwrap();
            journal.wait_for_more(30, OLD);
            file.write_all(begin.as_bytes()).unwrap();
            journal.wait_for_more(30, OLD);
            file.write_all(end.as_bytes()).unwrap();
        } else {
            folder.replace("key.pem", &pem);
        }
        journal.wait_for_more(100, NEW);
        workers.end(&journal);
    }
}

/// At the real server, which accepts both certificates and binds each token to the one that it was asked for with.
#[cfg(feature = "rustls")]
#[test]
fn a_certificate_that_is_replaced_before_its_key_fails_nobody() {
    let provider = Provider::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tls = runtime.block_on(provider.tls());
    let (own, rotated) = (tls.client("tls-pki"), tls.rotated("tls-pki"));
    let (journal, folder) = (Arc::<Journal>::default(), Folder::new());
    let files = tokenflight::oauth::Certificate::from_files(
        folder.write("cert.pem", &own.cert_pem),
        folder.write("key.pem", &own.key_pem),
    );
    let authority = reqwest::Certificate::from_pem(tls.ca_pem.as_bytes()).unwrap();
    let client = client(&provider, "tls-pki")
        .certificate(files)
        .http(move |http| http.add_root_certificate(authority.clone()))
        .build()
        .unwrap();

    let last = Arc::new(Mutex::new(None));
    let told = {
        let (journal, last) = (Arc::clone(&journal), Arc::clone(&last));
        move |token: &Token| {
            *last.lock().unwrap() = Some(token.clone());
            // Which of the two it is, only the server can say.
            journal.note(|events| events.by[0] += 1);
        }
    };
    let bound_to = || {
        let token = last.lock().unwrap().clone().unwrap();
        runtime.block_on(provider.introspect(token.secret()))["cnf"]["x5t#S256"].clone()
    };
    let workers = Workers::start(&client, &journal, told);
    journal.wait_for_more(20, OLD);
    let first = bound_to();
    folder.replace("cert.pem", &rotated.cert_pem);
    journal.wait_for_more(40, OLD);
    assert_eq!(bound_to(), first, "the old pair stays in use");
    folder.replace("key.pem", &rotated.key_pem);
    // The requests that were under way still have the old pair: one a worker, and its token.
    journal.wait_for_more(40, OLD);
    assert_ne!(bound_to(), first, "the new pair is in use");
    workers.end(&journal);
}

#[actix::test]
async fn the_key_of_a_signed_jwt_follows_its_file() {
    let folder = Folder::new();
    let path = folder.write("key.pem", &pem("p256"));
    let of_file = SignedJwt::with_key_file(&path, "robot", "https://auth.example.com").build().unwrap();
    let fixed = private_key_of("rsa");
    let over = SignedJwt::builder(fixed, "robot", "https://auth.example.com")
        .private_key_file(&path)
        .build()
        .unwrap();
    let algorithms = async || {
        let mut found = Vec::new();
        for source in [&of_file, &over] {
            let token = source.fetch(FetchContext::new(Reason::First)).await.unwrap();
            let header = URL_SAFE_NO_PAD.decode(token.secret().split('.').next().unwrap()).unwrap();
            let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
            found.push(header["alg"].as_str().unwrap().to_owned());
        }
        found
    };
    assert_eq!(algorithms().await, ["ES256", "ES256"]);
    folder.replace("key.pem", &pem("p384"));
    assert_eq!(algorithms().await, ["ES384", "ES384"]);
    folder.replace("key.pem", "half");
    assert_eq!(algorithms().await, ["ES384", "ES384"], "the last key stays in use");
    let missing = SignedJwt::with_key_file(folder.path("none.pem"), "robot", "a").build().unwrap_err();
    assert_eq!(missing.field(), "private_key_file");
}

fn pem(name: &str) -> String {
    std::fs::read_to_string(format!("{}/src/oauth/jws/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
}

fn private_key_of(name: &str) -> PrivateKey {
    PrivateKey::from_pem(pem(name)).unwrap()
}

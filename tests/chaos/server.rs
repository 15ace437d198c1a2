//! An unreliable auth server.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::tally::now;

/// More than the sources here take.
const TOO_LONG: usize = 64 * 1024;

pub(crate) struct Server {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    dice: fastrand::Rng,
    tokens: u64,
    last_secret: String,
    served: BTreeMap<&'static str, u64>,
    /// Until then nothing is answered.
    outage_until: Duration,
    /// For each token: whose it is, when its request was here, and when it had not been answered yet.
    good: HashMap<String, (String, Duration, Duration)>,
    /// Each actor's last two tokens with their ends.
    given: HashMap<String, Vec<(String, Duration)>>,
}

impl Server {
    /// On a thread of its own, so that it does not stop with anybody else.
    pub(crate) fn start(seed: u64) -> Self {
        let dice = fastrand::Rng::with_seed(seed);
        let books = Arc::new(Mutex::new(Books { dice, ..Books::default() }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&books);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&serving)));
                }
            });
        });
        Self { address, books }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it did, and how often.
    pub(crate) fn served(&self) -> Vec<(&'static str, u64)> {
        self.books.lock().unwrap().served.iter().map(|(fault, count)| (*fault, *count)).collect()
    }

    /// Requests of one actor that were here at the same time, among those whose token was `received`: of the
    /// others it can't be said whether the client had gone before.
    pub(crate) fn overlaps(&self, received: &[String]) -> Vec<String> {
        let books = self.books.lock().unwrap();
        let mut by_actor: BTreeMap<&str, Vec<(Duration, Duration)>> = BTreeMap::new();
        for secret in received {
            if let Some((actor, from, to)) = books.good.get(secret) {
                by_actor.entry(actor).or_default().push((*from, *to));
            }
        }
        let mut overlaps = Vec::new();
        for (actor, mut requests) in by_actor {
            requests.sort_unstable();
            for pair in requests.windows(2) {
                if pair[1].0 < pair[0].1 {
                    overlaps.push(format!("the server had two requests of {actor} at once"));
                }
            }
        }
        overlaps
    }
}

/// What is done to a request.
enum Deed {
    Send(Vec<u8>),
    Drip(Vec<u8>),
    Hang,
    Reset,
    Close,
}

impl Books {
    /// A token that is on the books from now on.
    fn token(&mut self, actor: &str, came: Duration, expires_in: &str) -> String {
        self.tokens += 1;
        let secret = format!("good-{}-{}", self.tokens, self.dice.u64(..));
        self.good.insert(secret.clone(), (actor.to_owned(), came, now()));
        self.last_secret.clone_from(&secret);
        format!(r#"{{"access_token":"{secret}","token_type":"Bearer","expires_in":{expires_in}}}"#)
    }

    fn good(&mut self, actor: &str, came: Duration) -> String {
        if self.dice.u8(..10) < 3
            && let Some(repeated) = self.repeated(actor)
        {
            return repeated;
        }
        let longest = if self.dice.u8(..4) == 0 { 5_000 } else { 2_000 };
        let lifetime = Duration::from_millis(self.dice.u64(50..longest));
        let quoted = self.dice.u8(..4) == 0;
        let seconds = lifetime.as_secs_f64();
        let expires_in = if quoted { format!("\"{seconds}\"") } else { seconds.to_string() };
        let body = self.token(actor, came, &expires_in);
        let secret = self.last_secret.clone();
        let given = self.given.entry(actor.to_owned()).or_default();
        given.push((secret, came + lifetime));
        if given.len() > 2 {
            given.remove(0);
        }
        body
    }

    /// One of the last two tokens again, with what is left of it, as servers do that keep tokens until their end.
    fn repeated(&mut self, actor: &str) -> Option<String> {
        let now = now();
        let given = self.given.get(actor)?;
        let (secret, end) = given.get(self.dice.usize(..given.len()))?;
        let left = end.checked_sub(now)?.as_secs_f64();
        // From now on it can't be said with which answer its client received it.
        self.good.remove(secret);
        *self.served.entry("of those: a token that it had given before").or_default() += 1;
        Some(format!(r#"{{"access_token":"{secret}","token_type":"Bearer","expires_in":{left}}}"#))
    }

    /// Most of the time it behaves.
    fn decide(&mut self, actor: &str, came: Duration) -> (&'static str, Deed) {
        let body = || "never mind".to_owned();
        if came < self.outage_until {
            return ("is away", Deed::Hang);
        }
        let retry_after = ["", "Retry-After: 0\r\n", "Retry-After: 1\r\n"][self.dice.usize(..3)];
        match self.dice.u32(..48) {
            0 => ("hangs", Deed::Hang),
            1 => ("resets", Deed::Reset),
            2 => ("closes", Deed::Close),
            3 => {
                let answer = http("200 OK", "", &self.good(actor, came));
                ("drips", Deed::Drip(answer))
            }
            4 => ("429", Deed::Send(http("429 Too Many Requests", retry_after, &body()))),
            5 => ("500", Deed::Send(http("500 Internal Server Error", retry_after, &body()))),
            6 => ("503", Deed::Send(http("503 Service Unavailable", retry_after, &body()))),
            7 => ("HTML", Deed::Send(http("200 OK", "", "<!doctype html><title>Sign in</title>"))),
            8 => {
                let mut answer = http("200 OK", "", &self.good(actor, came));
                answer.truncate(answer.len() - 20);
                ("truncated", Deed::Send(answer))
            }
            9 => {
                let long = format!("{{\"access_token\":\"{}\"}}", "x".repeat(TOO_LONG));
                ("oversized", Deed::Send(http("200 OK", "", &long)))
            }
            10 => {
                let wrong =
                    [r#"{"access_token":17}"#, r#"{"access_token":null,"expires_in":[]}"#, "{}", "[]"];
                ("wrong types", Deed::Send(http("200 OK", "", wrong[self.dice.usize(..4)])))
            }
            11 => {
                let dead = format!(r#"{{"access_token":"dead","expires_in":{}}}"#, -self.dice.i32(0..5));
                ("expired", Deed::Send(http("200 OK", "", &dead)))
            }
            12 => {
                let error = r#"{"error":"invalid_client"}"#;
                ("invalid_client", Deed::Send(http("401 Unauthorized", "", error)))
            }
            13 => {
                let missing = self.token(actor, came, "null");
                ("no lifetime", Deed::Send(http("200 OK", "", &missing)))
            }
            14 if self.dice.u8(..4) == 0 => {
                self.outage_until = came + Duration::from_millis(self.dice.u64(200..1_500));
                ("goes away", Deed::Hang)
            }
            _ => {
                let answer = http("200 OK", "", &self.good(actor, came));
                ("a good token", Deed::Send(answer))
            }
        }
    }
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

async fn serve(mut stream: TcpStream, books: Arc<Mutex<Books>>) {
    let Ok(actor) = read(&mut stream).await else { return };
    let came = now();
    let pause = books.lock().unwrap().dice.u64(..20);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let deed = {
        let mut books = books.lock().unwrap();
        let (fault, deed) = books.decide(&actor, came);
        *books.served.entry(fault).or_default() += 1;
        deed
    };
    // A client that goes away in the middle ends it; that is its right.
    let _ = act(&mut stream, deed).await;
}

async fn act(stream: &mut TcpStream, deed: Deed) -> io::Result<()> {
    match deed {
        Deed::Send(bytes) => stream.write_all(&bytes).await?,
        Deed::Drip(bytes) => {
            for byte in bytes {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Deed::Hang => drop(stream.read(&mut [0; 1]).await?),
        Deed::Reset => return stream.set_zero_linger(),
        Deed::Close => {}
    }
    stream.shutdown().await
}

/// Reads a request. Returns its path, by which the actors are told apart.
async fn read(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    }
}

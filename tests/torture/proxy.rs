//! A proxy in front of an authorization server. It loses and delays requests and answers, and records the refresh
//! tokens.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::now;
use aws_lc_rs::digest::{SHA256, digest};

/// The harm that is done to one exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The server never hears of it.
    RequestLost,
    /// The server spends the token, and nobody hears of it.
    AnswerLost,
    RequestLate(Duration),
    AnswerLate(Duration),
}

/// What is known of the refresh tokens, by their hashes.
#[derive(Default)]
pub(crate) struct Book {
    /// When each one came, by the server's clock.
    seen: HashMap<[u8; 32], Vec<Duration>>,
    /// Tokens that came again inside the grace, and outside of it, and those that came a third time.
    pub(crate) inside: usize,
    pub(crate) outside: usize,
    pub(crate) third: usize,
    pub(crate) faults: usize,
    /// By how many requests from now which harm is done.
    next: Option<(usize, Fault)>,
}

impl Book {
    /// How often it has come.
    pub(crate) fn times(&self, refresh_token: &str) -> usize {
        self.seen.get(&hash(refresh_token)).map_or(0, Vec::len)
    }

    /// How many refresh tokens have come.
    pub(crate) fn tokens(&self) -> usize {
        self.seen.len()
    }

    /// The harm that is to be done to this request.
    fn note(&mut self, refresh_token: &str, now: Duration, grace: Duration) -> Option<Fault> {
        let times = self.seen.entry(hash(refresh_token)).or_default();
        times.push(now);
        if let [first, .., _] = times[..] {
            let is_inside = now.saturating_sub(first) < grace;
            *(if is_inside { &mut self.inside } else { &mut self.outside }) += 1;
            self.third += usize::from(times.len() > 2);
        }
        match self.next.take() {
            Some((0, fault)) => {
                self.faults += 1;
                Some(fault)
            }
            Some((left, fault)) => {
                self.next = Some((left - 1, fault));
                None
            }
            None => None,
        }
    }
}

fn hash(refresh_token: &str) -> [u8; 32] {
    digest(&SHA256, refresh_token.as_bytes()).as_ref().try_into().unwrap()
}

/// It ends with the program.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    server: String,
    grace: Duration,
    /// By how much the server's clock was moved.
    forward: Mutex<Duration>,
    book: Mutex<Book>,
}

impl Proxy {
    /// `server`: its host and port.
    pub(crate) fn start(server: &str, grace: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let inner = Inner {
            address: listener.local_addr().unwrap(),
            server: server.to_owned(),
            grace,
            forward: Mutex::default(),
            book: Mutex::default(),
        };
        let proxy = Self(Arc::new(inner));
        let accepting = proxy.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let proxy = accepting.clone();
                // A client that is killed in the middle ends the thread.
                thread::spawn(move || proxy.serve(stream));
            }
        });
        proxy
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.0.address)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap()
    }

    /// The server's clock was moved.
    pub(crate) fn forward(&self, by: Duration) {
        *self.0.forward.lock().unwrap() += by;
    }

    /// Harm is done to the request that follows after so many.
    pub(crate) fn harm(&self, after: usize, fault: Option<Fault>) {
        self.book().next = fault.map(|fault| (after, fault));
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let (head, body) = read(&client)?;
        let field = form_urlencoded::parse(&body).find(|(name, _)| name == "refresh_token");
        let fault = field.and_then(|(_, token)| {
            let now = now() + *self.0.forward.lock().unwrap();
            self.book().note(&token, now, self.0.grace)
        });
        match fault {
            Some(Fault::RequestLost) => return Ok(()),
            Some(Fault::RequestLate(time)) => thread::sleep(time),
            _ => {}
        }
        let answer = self.ask(&head, &body)?;
        match fault {
            Some(Fault::AnswerLost) => return Ok(()),
            Some(Fault::AnswerLate(time)) => thread::sleep(time),
            _ => {}
        }
        client.write_all(&answer)
    }

    fn ask(&self, head: &[String], body: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.0.server)?;
        let mut request = head.join("\r\n").into_bytes();
        request.extend(format!("\r\nhost: {}\r\nconnection: close\r\n\r\n", self.0.server).into_bytes());
        request.extend(body);
        server.write_all(&request)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// One request: its first line and the headers that are passed on, and its body.
fn read(stream: &TcpStream) -> io::Result<(Vec<String>, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_owned();
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "" => break,
            "host" | "connection" => continue,
            "content-length" => length = line[name.len() + 1..].trim().parse().unwrap_or(0),
            _ => {}
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}

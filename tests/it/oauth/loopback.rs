//! A server on loopback that computes its answers, on its own threads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

/// What the server was asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    form: Vec<(String, String)>,
}

impl Question {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A field of the form. A field that is sent twice counts as missing (RFC 6749 section 3.2).
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.form.iter().filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// An answer: a status, headers, and JSON.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Value,
    /// The connection is closed in the middle of the body.
    is_cut: bool,
}

impl Reply {
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body, is_cut: false }
    }

    /// The connection is closed instead.
    pub(super) fn lost() -> Self {
        Self::json(0, Value::Null)
    }

    /// The body breaks off.
    pub(super) fn cut(self) -> Self {
        Self { is_cut: true, ..self }
    }

    pub(super) fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A server that answers by a closure. It ends when it is dropped.
pub(super) struct Loopback {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepts: Option<thread::JoinHandle<()>>,
}

impl Loopback {
    /// The closure gets the server's own origin, such as `http://127.0.0.1:4711`.
    pub(super) fn start(answer: impl Fn(&str, &Question) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, is_over) = (Arc::new(answer), Arc::new(AtomicBool::new(false)));
        let mut server = Self { address, is_over: Arc::clone(&is_over), accepts: None };
        let origin = server.origin();
        server.accepts = Some(thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let (answer, origin) = (Arc::clone(&answer), origin.clone());
                // A client that goes away in the middle ends the thread.
                thread::spawn(move || serve(stream, |question| answer(&origin, question)));
            }
        }));
        server
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn token_url(&self) -> String {
        format!("{}/token", self.origin())
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that accepts. After its end nobody is connected any more.
        let _ = TcpStream::connect(self.address);
        let _ = self.accepts.take().map(thread::JoinHandle::join);
    }
}

/// One question, one answer, one connection.
fn serve(mut stream: TcpStream, answer: impl Fn(&Question) -> Reply) -> io::Result<()> {
    let question = read(&stream)?;
    let Reply { status, headers, body, is_cut } = answer(&question);
    if status == 0 {
        return Ok(());
    }
    let body = body.to_string();
    let mut head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.extend([name, ": ", &value, "\r\n"]);
    }
    let sent = if is_cut { body.len() / 2 } else { body.len() };
    stream.write_all((head + "\r\n" + &body[..sent]).as_bytes())
}

fn read(stream: &TcpStream) -> io::Result<Question> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut question = Question { path, headers: Vec::new(), form: Vec::new() };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.split_once(':') else { break };
        question.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = question.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    question.form = form_urlencoded::parse(&body).into_owned().collect();
    Ok(question)
}

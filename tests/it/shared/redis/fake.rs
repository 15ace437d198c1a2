//! A server that sends the given answers, and keeps what it received.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// It runs on the test's arbiter, and ends with the test.
pub(super) struct Fake {
    port: u16,
    heard: Arc<Mutex<String>>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Fake {
    /// `answer`: to a command, by its words. In RESP, with the `\r\n` at its end.
    pub(super) async fn begin(answer: impl Fn(&[String]) -> String + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self { port, heard: Arc::default(), tasks: Arc::default() };
        let (heard, tasks) = (Arc::clone(&fake.heard), Arc::clone(&fake.tasks));
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let serving = tokio::spawn(serve(client, Arc::clone(&heard), answer.clone()));
                tasks.lock().unwrap().push(serving);
            }
        });
        fake.tasks.lock().unwrap().push(accepting);
        fake
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// All that anybody has sent, in RESP.
    pub(super) fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}

async fn serve(mut client: TcpStream, heard: Arc<Mutex<String>>, answer: impl Fn(&[String]) -> String) {
    let (mut buffer, mut left) = ([0; 16_384], String::new());
    while let Ok(read @ 1..) = client.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        heard.lock().unwrap().push_str(&text);
        left.push_str(&text);
        while let Some((words, rest)) = command(&left) {
            left = rest;
            if client.write_all(answer(&words).as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The first command of a text, as `*2\r\n$4\r\nECHO\r\n$1\r\na\r\n`, and what comes after it.
fn command(text: &str) -> Option<(Vec<String>, String)> {
    let (count, mut rest) = text.strip_prefix('*')?.split_once("\r\n")?;
    let mut words = Vec::new();
    for _ in 0..count.parse().ok()? {
        let (length, after) = rest.strip_prefix('$')?.split_once("\r\n")?;
        let length: usize = length.parse().ok()?;
        words.push(after.get(..length)?.to_owned());
        rest = after.get(length + 2..)?;
    }
    Some((words, rest.to_owned()))
}

/// What a sentinel says of one master, in RESP3.
pub(super) fn named(name: &str, port: u16, host: &str) -> String {
    let fields = [("name", name), ("ip", host), ("port", &port.to_string()), ("flags", "master")];
    let words = fields.iter().flat_map(|(field, value)| [field, value]);
    let words: Vec<String> = words.map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*1\r\n%4\r\n{}", words.concat())
}

/// An answer to HELLO, and an error to everything else.
pub(super) fn says_hello(words: &[String]) -> String {
    match words[0].as_str() {
        "HELLO" => "%1\r\n+proto\r\n:3\r\n".into(),
        _ => "-ERR unknown\r\n".into(),
    }
}

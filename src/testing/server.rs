//! An auth server on loopback that makes the faults a real one can't be asked for.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How a [`FakeAuthServer`] answers a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// An HTTP answer with these headers (besides the length) and this body.
    Http {
        /// The status, with or without a reason: "503" or "200 OK".
        status: String,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Another reply, after so long.
    After(Duration, Box<Reply>),
    /// These bytes, and then the end.
    Raw(Vec<u8>),
    /// These bytes one by one, with a pause before each.
    Drip(Vec<u8>, Duration),
    /// Nothing, for ever.
    Hang,
    /// The connection is closed without an answer.
    Close,
}

impl Reply {
    /// An answer of type `application/json`.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::text(status, "application/json", body)
    }

    /// An answer of this type.
    pub fn text(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self::Http {
            status: status.to_string(),
            headers: vec![("Content-Type".into(), content_type.into())],
            body: body.into().into_bytes(),
        }
    }

    /// With this header too; only an HTTP answer has headers.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Http { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

/// What the server was asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Asked {
    /// Request line and headers, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// An HTTP server on a free port of loopback, which answers as it was told; after the last answer, and without
/// any, with bearer tokens "token-N" for the N-th request that last an hour. It ends when it is dropped.
#[derive(Debug)]
pub struct FakeAuthServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    serving: AbortHandle,
}

#[derive(Debug, Default)]
struct Script {
    replies: VecDeque<Reply>,
    /// A fault that lasts: until when it does is known from its first request on.
    fault: Option<Fault>,
    usual: Option<Usual>,
    asked: Vec<Asked>,
    running: usize,
    most_running: usize,
}

#[derive(Clone, Debug)]
struct Fault {
    time: Duration,
    until: Option<Instant>,
    reply: Reply,
}

/// How it answers where nothing else was said.
#[derive(Clone)]
struct Usual(Arc<dyn Fn(&Asked) -> Reply + Send + Sync>);

impl fmt::Debug for Usual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Usual")
    }
}

impl Script {
    fn reply(&mut self, asked: &Asked) -> Reply {
        self.asked.push(asked.clone());
        if let Some(reply) = self.replies.pop_front() {
            return reply;
        }
        if let Some(fault) = &mut self.fault {
            let until = *fault.until.get_or_insert_with(|| Instant::now() + fault.time);
            if Instant::now() < until {
                return fault.reply.clone();
            }
            self.fault = None;
        }
        let number = self.asked.len();
        let token = || {
            let body =
                format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":3600}}"#);
            Reply::json(200, body)
        };
        self.usual.as_ref().map_or_else(token, |usual| usual.0(asked))
    }
}

impl FakeAuthServer {
    /// Starts it on the tokio runtime in which this is called.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let script = Arc::<Mutex<Script>>::default();
        let serving = tokio::spawn({
            let script = Arc::clone(&script);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&script)));
                }
            }
        });
        Ok(Self { address, script, serving: serving.abort_handle() })
    }

    /// The same, and answers by this where nothing else was said.
    #[cfg(feature = "http")]
    pub(super) async fn answering(
        usual: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let server = Self::start().await?;
        lock(&server.script).usual = Some(Usual(Arc::new(usual)));
        Ok(server)
    }

    /// Scheme, host and port.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its token endpoint is. (It answers at any path.)
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Answers the next request that has no answer yet like this.
    pub fn then(&self, reply: Reply) -> &Self {
        lock(&self.script).replies.push_back(reply);
        self
    }

    /// Answers like this for so long, counted from the next request, by tokio's time.
    pub fn during(&self, time: Duration, reply: Reply) -> &Self {
        lock(&self.script).fault = Some(Fault { time, until: None, reply });
        self
    }

    /// What it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.script).asked.clone()
    }

    /// How many requests it had under way at once, at most.
    pub fn most_at_once(&self) -> usize {
        lock(&self.script).most_running
    }
}

impl Drop for FakeAuthServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One request, one answer, one connection.
async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let Ok(asked) = read(&mut stream).await else { return };
    let reply = {
        let mut script = lock(&script);
        script.running += 1;
        script.most_running = script.most_running.max(script.running);
        script.reply(&asked)
    };
    // A client that goes away in the middle ends the write; that is its right.
    let _ = answer(&mut stream, reply).await;
    lock(&script).running -= 1;
}

async fn answer(stream: &mut TcpStream, mut reply: Reply) -> io::Result<()> {
    while let Reply::After(pause, then) = reply {
        tokio::time::sleep(pause).await;
        reply = *then;
    }
    match reply {
        Reply::Http { status, headers, body } => {
            let mut head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
            for (name, value) in headers {
                head.extend([&name, ": ", &value, "\r\n"]);
            }
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).await?,
        Reply::Drip(bytes, pause) => {
            for byte in bytes {
                tokio::time::sleep(pause).await;
                stream.write_all(&[byte]).await?;
            }
        }
        // Until the client closes the connection.
        Reply::Hang => drop(stream.read(&mut [0; 1]).await?),
        Reply::Close | Reply::After(..) => {}
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> io::Result<Asked> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut asked = Asked { head, body: String::new() };
    let length = asked.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    while bytes.len() < head_end + 4 + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    asked.body = String::from_utf8_lossy(&bytes[head_end + 4..]).into_owned();
    Ok(asked)
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

//! An auth server on loopback that produces faults on demand.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::api::Api;
use super::reply::{Asked, Reply};
use super::request::read;

/// An HTTP server on a free port of loopback. First it gives the answers of its script. After the last one, or
/// without a script, it gives the bearer token "token-N" to the N-th request, with a life of an hour. It ends when
/// it is dropped.
///
/// It is also an API that accepts these tokens, at [`api_url`](Self::api_url), if the test asks for one:
///
/// ```
/// use tokenflight::oauth::Client;
/// use tokenflight::testing::FakeAuthServer;
/// use tokenflight::{FetchContext, Reason, TokenSource};
///
/// # actix_rt::System::new().block_on(async {
/// let server = FakeAuthServer::start().await?;
/// let client = Client::builder(server.url(), "my-app").secret("s3cret").build()?;
/// let token = client.client_credentials().build()?.fetch(FetchContext::new(Reason::First)).await?;
///
/// let ask = || {
///     let request = reqwest::Client::new().get(server.api_url()).header("authorization", token.authorization());
///     async { Ok::<_, reqwest::Error>(request.send().await?.status()) }
/// };
/// assert_eq!(ask().await?, 200);
/// server.revoke(token.secret());
/// assert_eq!(ask().await?, 401);
/// assert_eq!((server.accepted(), server.rejected()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct FakeAuthServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    serving: AbortHandle,
}

#[derive(Debug)]
struct Script {
    replies: VecDeque<Reply>,
    /// A lasting fault.
    fault: Option<Fault>,
    usual: Option<Usual>,
    asked: Vec<Asked>,
    /// The number of these requests.
    times: watch::Sender<usize>,
    lifetime: Duration,
    api: Api,
    running: usize,
    most_running: usize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            replies: VecDeque::new(),
            fault: None,
            usual: None,
            asked: Vec::new(),
            times: watch::Sender::default(),
            lifetime: Duration::from_secs(3600),
            api: Api::default(),
            running: 0,
            most_running: 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Fault {
    time: Duration,
    /// Its first request.
    began: Option<Instant>,
    reply: Reply,
}

/// The answer if the script has none.
#[derive(Clone)]
struct Usual(Arc<dyn Fn(&Asked) -> Reply + Send + Sync>);

impl fmt::Debug for Usual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Usual")
    }
}

impl Script {
    fn reply(&mut self, asked: &Asked) -> Reply {
        // A server with its own rules has no API.
        if self.usual.is_none() && self.api.is_asked(asked) {
            return self.api.answer(asked);
        }
        let reply = self.token_reply(asked);
        self.api.note(&reply);
        self.times.send_replace(self.asked.len());
        reply
    }

    fn token_reply(&mut self, asked: &Asked) -> Reply {
        self.asked.push(asked.clone());
        if let Some(reply) = self.replies.pop_front() {
            return reply;
        }
        if let Some(fault) = &mut self.fault {
            let began = *fault.began.get_or_insert_with(Instant::now);
            if began.elapsed() < fault.time {
                return fault.reply.clone();
            }
            self.fault = None;
        }
        let (number, life) = (self.asked.len(), self.lifetime.as_secs());
        let token = || {
            let body =
                format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":{life}}}"#);
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

    /// The same, with this answer if the script has none.
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

    /// The address of its token endpoint. The server answers at any other path too, except that of
    /// [the API](Self::api_url) if there is one.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// The address of its API: this path, and each path below it. A request with a token that this server issued is
    /// answered 200, any other 401 (RFC 6750 section 3.1). [`asked`](Self::asked) leaves these requests out. The
    /// servers of [`fakes`](super::fakes) have no API.
    ///
    /// The server has an API from the first call of this function on, or of [`issue`](Self::issue),
    /// [`revoke`](Self::revoke), [`revoke_all`](Self::revoke_all), [`api_then`](Self::api_then) or
    /// [`wait_for_api`](Self::wait_for_api). Until then it answers this path as any other.
    pub fn api_url(&self) -> String {
        lock(&self.script).api.open();
        format!("http://{}/api", self.address)
    }

    /// The lifetime of the tokens in its usual answers, in whole seconds. Default 1 h. The API no longer accepts
    /// them after this time, by tokio's time.
    pub fn lifetime(&self, time: Duration) -> &Self {
        lock(&self.script).lifetime = time;
        self
    }

    /// The API accepts this token from now on, as if this server had issued it.
    pub fn issue(&self, secret: &str) -> &Self {
        lock(&self.script).api.open().issue(secret, None);
        self
    }

    /// The API no longer accepts this token, unless it is issued again.
    pub fn revoke(&self, secret: &str) -> &Self {
        lock(&self.script).api.open().revoke(secret);
        self
    }

    /// The API accepts none of the tokens that were issued so far.
    pub fn revoke_all(&self) -> &Self {
        lock(&self.script).api.open().revoke_all();
        self
    }

    /// The next unscripted request to the API gets this answer, with any token.
    pub fn api_then(&self, reply: Reply) -> &Self {
        lock(&self.script).api.open().then(reply);
        self
    }

    /// How many requests the API accepted because of their token.
    pub fn accepted(&self) -> usize {
        lock(&self.script).api.accepted()
    }

    /// How many requests the API rejected because of their token.
    pub fn rejected(&self) -> usize {
        lock(&self.script).api.rejected()
    }

    /// Waits until the token endpoint has got this many requests, counted from the start.
    pub async fn wait_for(&self, times: usize) {
        let asked = lock(&self.script).times.subscribe();
        reached(asked, times).await;
    }

    /// Waits until the API has got this many requests, counted from the start.
    pub async fn wait_for_api(&self, times: usize) {
        let asked = lock(&self.script).api.open().asked.subscribe();
        reached(asked, times).await;
    }

    /// The next unscripted request gets this answer.
    pub fn then(&self, reply: Reply) -> &Self {
        lock(&self.script).replies.push_back(reply);
        self
    }

    /// All requests get this answer for this time, counted from the next request, by tokio's time. With
    /// [`Duration::MAX`] they get it for ever.
    pub fn during(&self, time: Duration, reply: Reply) -> &Self {
        lock(&self.script).fault = Some(Fault { time, began: None, reply });
        self
    }

    /// The requests so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.script).asked.clone()
    }

    /// The maximum number of requests under way at once.
    pub fn most_at_once(&self) -> usize {
        lock(&self.script).most_running
    }
}

/// The sender lives as long as the server.
async fn reached(mut asked: watch::Receiver<usize>, times: usize) {
    let _ = asked.wait_for(|asked| *asked >= times).await;
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
    // The client may close the connection before the answer is written. Then the answer is dropped.
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
        // Waits until the client closes the connection.
        Reply::Hang => drop(stream.read(&mut [0; 1]).await?),
        Reply::Close | Reply::After(..) => {}
    }
    stream.shutdown().await
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

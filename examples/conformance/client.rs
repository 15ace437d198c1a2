//! This crate as a client of the conformance kit: a user's code, controlled by lines.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokenflight::middleware::reqwest::{BearerAuth, SendWith, same_origin_redirects};
use tokenflight::oauth::{Client, DpopKey, PrivateKey};
use tokenflight::source::BoxSource;
use tokenflight::testing::hostile::protocol::{Auth, Configure, Done, FromClient, Grant, Request, ToClient};
use tokenflight::vault::MemoryVault;
use tokenflight::{RefreshPolicy, TokenActor, TokenHandle};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

type Failure = Box<dyn Error>;

/// Reads lines until the last, and answers each call when it has ended: calls run side by side.
pub(crate) async fn drive(
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + 'static,
) -> Result<(), Failure> {
    let (told, lines) = mpsc::unbounded_channel();
    let writing = actix::spawn(write(lines, output));
    let mut input = BufReader::new(input).lines();
    let mut stack = None;
    while let Some(line) = input.next_line().await? {
        match serde_json::from_str(&line)? {
            ToClient::Configure(configure) => {
                stack = Some(Arc::new(Stack::new(&configure)?));
                told.send(FromClient::Ready(true))?;
            }
            ToClient::Call(request) => {
                let stack = stack.clone().ok_or("a call came before the configuration")?;
                let told = told.clone();
                actix::spawn(async move {
                    // Where nobody reads any more, nobody waits for the end of a call.
                    let _ = told.send(FromClient::Done(stack.call(request).await));
                });
            }
            // The last line, or one of a later version.
            _ => break,
        }
    }
    if let Some(stack) = stack {
        stack.tokens.shutdown().await;
    }
    drop(told);
    Ok(writing.await??)
}

async fn write(
    mut lines: mpsc::UnboundedReceiver<FromClient>,
    mut output: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    while let Some(line) = lines.recv().await {
        output.write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes()).await?;
        output.flush().await?;
    }
    Ok(())
}

/// What a user of the crate keeps.
struct Stack {
    tokens: TokenHandle,
    auth: BearerAuth,
    http: reqwest::Client,
}

impl Stack {
    fn new(configure: &Configure) -> Result<Self, Failure> {
        let patience = Duration::from_millis(configure.timeout_ms);
        let policy = RefreshPolicy::default().attempt_timeout(patience);
        let tokens = TokenActor::builder(source(configure)?).policy(policy).start()?;
        let auth = BearerAuth::builder(&tokens).allow(&configure.api).build()?;
        Ok(Self { tokens, auth, http: http(configure.dpop)? })
    }

    async fn call(&self, request: Request) -> Done {
        let id = request.id;
        match self.send(request).await {
            Ok(status) => Done { id, status: Some(status), error: None },
            Err(error) => Done { id, status: None, error: Some(error.to_string()) },
        }
    }

    async fn send(&self, request: Request) -> Result<u16, Failure> {
        let sent = self.http.request(request.method.parse()?, request.url);
        let sent = request.body.into_iter().fold(sent, reqwest::RequestBuilder::body);
        Ok(sent.send_with(&self.auth).await?.status().as_u16())
    }
}

/// Where tokens are bound to a key, no redirect may be followed: the proof names one address. A program makes its clients once,
/// since each takes 100 ms.
fn http(dpop: bool) -> Result<reqwest::Client, Failure> {
    static BEARER: OnceLock<reqwest::Client> = OnceLock::new();
    static DPOP: OnceLock<reqwest::Client> = OnceLock::new();
    let (place, redirects) =
        if dpop { (&DPOP, reqwest::redirect::Policy::none()) } else { (&BEARER, same_origin_redirects()) };
    if let Some(http) = place.get() {
        return Ok(http.clone());
    }
    let http = reqwest::Client::builder().redirect(redirects).build()?;
    Ok(place.get_or_init(|| http).clone())
}

fn source(configure: &Configure) -> Result<BoxSource, Failure> {
    let client = Client::builder(&configure.token_endpoint, &configure.client_id);
    let client = match configure.auth {
        Auth::ClientSecretBasic => client.secret(configure.client_secret.as_deref().unwrap_or_default()),
        Auth::PrivateKeyJwt => {
            let pem = configure.private_key.as_deref().unwrap_or_default();
            client.private_key(PrivateKey::from_pem(pem)?)
        }
        other => return Err(format!("{other:?} is not known").into()),
    };
    let client = if configure.dpop { client.dpop(DpopKey::generate()?) } else { client };
    let client = client.build()?;
    Ok(match (configure.grant, &configure.refresh_token) {
        (Grant::ClientCredentials, _) => BoxSource::new(client.client_credentials().build()?),
        (Grant::RefreshToken, Some(first)) => {
            BoxSource::new(client.refresh_token(MemoryVault::new()).login(first).build()?)
        }
        (other, _) => return Err(format!("{other:?} is not known").into()),
    })
}

//! The Azure SDK's bearer token policy: the whole path of a request, up to a transport that answers at once.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{AUTHORIZATION, Headers};
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{AsyncRawResponse, Context, Method, Request, StatusCode, Url};
use azure_core::time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::JoinHandle;

use crate::peer::{Failure, Peer};
use crate::source::{Source, number};

const API: &str = "https://api.example/";

pub struct Azure {
    policy: BearerTokenAuthorizationPolicy,
    transport: [Arc<dyn Policy>; 1],
}

/// A request that has been answered, or one that is still under way.
pub enum Sent {
    Answered(Reused),
    UnderWay { answer: oneshot::Sender<()>, task: JoinHandle<()> },
}

struct Credential(Source);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let refused = |error| Error::new(ErrorKind::Credential, error);
        let answer = self.0.fetch().await.map_err(refused)?;
        Ok(AccessToken::new(answer.secret, OffsetDateTime::now_utc() + answer.lifetime))
    }
}

/// Answers 200 at once.
#[derive(Debug)]
struct AtOnce;

#[async_trait]
impl Policy for AtOnce {
    async fn send(&self, _: &Context, _: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), ""))
    }
}

/// Answers 401 when it is told to.
#[derive(Debug)]
struct Later {
    told: Mutex<Option<oneshot::Receiver<()>>>,
    has_it: Notify,
}

#[async_trait]
impl Policy for Later {
    async fn send(&self, _: &Context, _: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        self.has_it.notify_one();
        if let Some(told) = self.told.lock().await.take() {
            let _ = told.await;
        }
        Ok(AsyncRawResponse::from_bytes(StatusCode::Unauthorized, Headers::new(), ""))
    }
}

thread_local! {
    /// Making a request is the application's cost, not the policy's.
    static REQUEST: Cell<Option<Request>> = const { Cell::new(None) };
}

/// A request whose parts the next one on this thread takes up.
pub struct Reused(Option<Request>);

impl Reused {
    fn new() -> Self {
        Self(REQUEST.take().or_else(|| Some(Request::new(Url::parse(API).ok()?, Method::Get))))
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        REQUEST.set(self.0.take());
    }
}

impl Peer for Azure {
    const NAME: &str = "azure_core 1.1.0, bearer token policy";
    const NOTE: &str = "writes the header into the request";
    const REJECTS: bool = true;
    type Token = Sent;

    async fn new(source: Source) -> Result<Self, Failure> {
        let policy = BearerTokenAuthorizationPolicy::new(Arc::new(Credential(source)), ["api"]);
        Ok(Self { policy, transport: [Arc::new(AtOnce)] })
    }

    async fn get(&self) -> Result<Sent, Failure> {
        let mut reused = Reused::new();
        let request = reused.0.as_mut().ok_or("no request")?;
        match self.policy.send(&Context::new(), request, &self.transport).await {
            Ok(_) => Ok(Sent::Answered(reused)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn number(token: &Sent) -> u64 {
        let Sent::Answered(Reused(Some(request))) = token else { return 0 };
        request.headers().get_optional_str(&AUTHORIZATION).map_or(0, number)
    }

    async fn send_request(&self) -> Result<Sent, Failure> {
        let (answer, told) = oneshot::channel();
        let later = Arc::new(Later { told: Mutex::new(Some(told)), has_it: Notify::new() });
        let (policy, transport) = (self.policy.clone(), [Arc::clone(&later) as Arc<dyn Policy>]);
        let mut request = Request::new(Url::parse(API).map_err(|error| error.to_string())?, Method::Get);
        let task = tokio::spawn(async move {
            let _ = policy.send(&Context::new(), &mut request, &transport).await;
        });
        later.has_it.notified().await;
        Ok(Sent::UnderWay { answer, task })
    }

    async fn rejected(&self, request: Sent) {
        if let Sent::UnderWay { answer, task } = request {
            let _ = answer.send(());
            let _ = task.await;
        }
    }
}

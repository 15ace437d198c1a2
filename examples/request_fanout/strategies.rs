//! The service under test: requests that need a token, by three strategies.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message};
use http::HeaderValue;
use indicatif::ProgressBar;
use tokenflight::source::ClientCredentials;
use tokenflight::{
    FetchContext, RefreshPolicy, SourceError, Subscribe, Token, TokenActor, TokenHandle, TokenReady,
    TokenSource,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::client::{Api, Credentials, Verdict, http};
use crate::naive::Naive;
use crate::options::{Mode, Strategy};
use crate::record::{CallLog, Failure, Phase, Request, Run};

/// What all runs share.
pub(crate) struct Setup {
    pub(crate) credentials: Rc<Credentials>,
    pub(crate) api_url: reqwest::Url,
    pub(crate) requests: u32,
    /// With `--expire-midway`: how long after the start the first token has expired.
    pub(crate) turn: Option<Duration>,
    /// The calls to the auth server, as the client sees them.
    pub(crate) calls: Arc<CallLog>,
}

/// One run, from a cold start: no token, no connection. The caller fills in the auth server's own count.
///
/// # Errors
/// A setting that cannot work. A request that fails is part of the run.
pub(crate) async fn run(
    setup: &Setup,
    strategy: Strategy,
    mode: Mode,
    progress: &ProgressBar,
) -> Result<Run, String> {
    let service = Rc::new(Service {
        tokens: Tokens::start(setup, strategy)?,
        api: Api::new(http().map_err(|err| err.to_string())?, setup.api_url.clone()),
        progress: progress.clone(),
    });
    let began = Instant::now();
    let requests = match mode {
        Mode::Sequential => one_by_one(&service, setup, began).await,
        Mode::Parallel => all_at_once(&service, setup, began).await,
    };
    let token_ready = service.tokens.stop().await;
    Ok(Run { strategy, mode, began, requests, auth_calls: setup.calls.take(), token_ready, turn: setup.turn })
}

async fn one_by_one(service: &Service, setup: &Setup, began: Instant) -> Vec<Request> {
    let mut requests = Vec::new();
    for number in 0..setup.requests {
        await_turn(setup, number, began).await;
        requests.push(service.request(number.into()).await);
    }
    requests
}

async fn all_at_once(service: &Rc<Service>, setup: &Setup, began: Instant) -> Vec<Request> {
    let mut tasks = Vec::new();
    for number in 0..setup.requests {
        await_turn(setup, number, began).await;
        let service = Rc::clone(service);
        tasks.push(actix_rt::spawn(async move { service.request(number.into()).await }));
    }
    let mut requests = Vec::new();
    for task in tasks {
        requests.push(task.await.expect("a request neither panics nor is aborted"));
    }
    requests
}

/// With `--expire-midway`, half of the requests come when the first token has expired.
async fn await_turn(setup: &Setup, number: u32, began: Instant) {
    if let Some(turn) = setup.turn.filter(|_| number == setup.requests / 2) {
        sleep_until(began + turn).await;
    }
}

/// A service that needs a token for each of its requests to the API.
struct Service {
    tokens: Tokens,
    api: Api,
    progress: ProgressBar,
}

impl Service {
    async fn request(&self, number: u64) -> Request {
        let mut request = Request::begin();
        request.failure = self.attempts(number, &mut request).await.err();
        self.progress.inc(1);
        request
    }

    /// A token, then the API; once more if the API rejects the token, as it may at the edge of its life.
    async fn attempts(&self, number: u64, request: &mut Request) -> Result<(), Failure> {
        for last in [false, true] {
            let grant = self.tokens.get(number).await;
            request.did(Phase::Waiting);
            let grant = grant.map_err(Failure::NoToken)?;

            let connection = self.api.connections.acquire().await;
            request.did(Phase::Queued);
            let _connection = connection.map_err(|err| Failure::Api(err.to_string()))?;

            // Boxed, so that ten thousand requests that still wait are small.
            let verdict = Box::pin(self.api.call(grant.authorization())).await;
            request.did(Phase::Served);
            match verdict.map_err(Failure::Api)? {
                Verdict::Served => return Ok(()),
                Verdict::TokenRejected if !last => self.tokens.reject(&grant),
                Verdict::TokenRejected => {}
            }
        }
        Err(Failure::Api("it answered 401 Unauthorized to two tokens".into()))
    }
}

/// How requests come by their tokens.
enum Tokens {
    Naive(Naive),
    Handle(TokenHandle),
    Recipient(TokenHandle, Addr<Collector>),
}

/// A token, whoever got it.
enum Grant {
    ByHand(HeaderValue),
    Ours(Token),
}

impl Grant {
    fn authorization(&self) -> HeaderValue {
        match self {
            Self::ByHand(authorization) => authorization.clone(),
            Self::Ours(token) => token.authorization(),
        }
    }
}

impl Tokens {
    fn start(setup: &Setup, strategy: Strategy) -> Result<Self, String> {
        Ok(match strategy {
            Strategy::Naive => {
                let http = http().map_err(|err| err.to_string())?;
                Self::Naive(Naive::new(http, Rc::clone(&setup.credentials), Arc::clone(&setup.calls)))
            }
            Strategy::Handle => Self::Handle(start_actor(setup)?),
            Strategy::Recipient => Self::Recipient(start_actor(setup)?, Collector::default().start()),
        })
    }

    async fn get(&self, number: u64) -> Result<Grant, String> {
        match self {
            Self::Naive(naive) => naive.get().await.map(Grant::ByHand),
            Self::Handle(handle) => handle.get().await.map(Grant::Ours).map_err(|err| err.to_string()),
            Self::Recipient(handle, collector) => {
                let (answer, ready) = oneshot::channel();
                collector.do_send(Expect { ticket: number, answer });
                handle.subscribe(Subscribe::new(collector.clone()).ticket(number));
                let ready = ready.await.map_err(|_| "the ticket got no TokenReady")?;
                ready.result.map(Grant::Ours).map_err(|err| err.to_string())
            }
        }
    }

    fn reject(&self, grant: &Grant) {
        match (self, grant) {
            (Self::Naive(naive), Grant::ByHand(authorization)) => naive.reject(authorization),
            (Self::Handle(handle) | Self::Recipient(handle, _), Grant::Ours(token)) => {
                handle.invalidate(token);
            }
            _ => unreachable!("a grant comes from the tokens that it is given back to"),
        }
    }

    /// Ends the actors; returns how many `TokenReady` came.
    async fn stop(&self) -> usize {
        match self {
            Self::Naive(_) => 0,
            Self::Handle(handle) => {
                handle.shutdown().await;
                0
            }
            Self::Recipient(handle, collector) => {
                // In this order: whoever still waits is told before the count is read.
                handle.shutdown().await;
                collector.send(Count).await.unwrap_or_default()
            }
        }
    }
}

fn start_actor(setup: &Setup) -> Result<TokenHandle, String> {
    let who = &setup.credentials;
    let mut source = ClientCredentials::builder(who.token_url.as_str(), who.id.as_str(), who.secret.as_str());
    if let Some(scope) = &who.scope {
        source = source.scope(scope);
    }
    let source = source.build().map_err(|err| err.to_string())?;
    let waiters = usize::try_from(setup.requests).unwrap_or(usize::MAX);
    TokenActor::builder(Counted { source, calls: Arc::clone(&setup.calls) })
        .policy(RefreshPolicy::default().max_waiters(waiters))
        .name("fanout")
        .start()
        .map_err(|err| err.to_string())
}

/// A source that logs its calls.
struct Counted<S> {
    source: S,
    calls: Arc<CallLog>,
}

impl<S: TokenSource> TokenSource for Counted<S> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let _call = self.calls.begin();
        self.source.fetch(cx).await
    }
}

/// The actor that gets a `TokenReady` for each ticket, and hands it to the request that drew it.
#[derive(Default)]
struct Collector {
    waiting: HashMap<u64, oneshot::Sender<TokenReady>>,
    answers: usize,
}

impl Actor for Collector {
    type Context = Context<Self>;
}

/// A request has drawn this ticket.
#[derive(Message)]
#[rtype(result = "()")]
struct Expect {
    ticket: u64,
    answer: oneshot::Sender<TokenReady>,
}

impl Handler<Expect> for Collector {
    type Result = ();

    fn handle(&mut self, expect: Expect, _: &mut Context<Self>) {
        self.waiting.insert(expect.ticket, expect.answer);
    }
}

impl Handler<TokenReady> for Collector {
    type Result = ();

    fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
        self.answers += 1;
        if let Some(answer) = self.waiting.remove(&ready.ticket) {
            // A request that gave up in the meantime has dropped the other end.
            let _ = answer.send(ready);
        }
    }
}

/// How many answers came?
#[derive(Message)]
#[rtype(result = "usize")]
struct Count;

impl Handler<Count> for Collector {
    type Result = usize;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> usize {
        self.answers
    }
}

//! The behaviour without a usable token: how long callers wait, and how often the source is called.
//!
//! All callers are tasks on one thread, an actix arbiter, as in a worker of an actix-web service. Time runs from
//! the first caller's request to the last one's answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::peer::{Failure, Peer};
use crate::source::Source;

/// Who has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// What a case cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub ms: f64,
    pub calls: u64,
    /// Callers who got a token that had ended.
    pub stale: usize,
    /// Callers who got an error.
    pub failed: usize,
    /// Callers who got nothing within 20 s.
    pub unanswered: usize,
}

/// The cases, in the table's order.
pub const CASES: [&str; 5] = [
    "200 callers, no token yet",
    "200 callers, token expired",
    "50 callers, source fails",
    "first of 10 callers aborted",
    "20 late 401s",
];

/// The case of this number; `None` where the peer has no such thing.
pub async fn case<P: Peer>(number: usize) -> Result<Option<Cost>, Failure> {
    let cost = match number {
        0 if P::LAZY => no_token_yet::<P>().await,
        1 if P::KEEPS => expired::<P>().await,
        2 => source_fails::<P>().await,
        3 if P::LAZY => first_aborted::<P>().await,
        4 if P::REJECTS => late_401s::<P>().await,
        _ => return Ok(None),
    };
    cost.map(Some)
}

async fn no_token_yet<P: Peer>() -> Result<Cost, Failure> {
    let source = Source::taking(Duration::from_millis(60));
    let peer = Arc::new(P::new(source.clone()).await?);
    let begin = Instant::now();
    Ok(answers::<P>(begin, callers(&peer, 200), &source, 0).await)
}

async fn expired<P: Peer>() -> Result<Cost, Failure> {
    let source = Source::taking(Duration::from_millis(60)).first_lasts(SHORT_LIFE);
    let peer = at_its_end::<P>(&source).await?;
    let (begin, before) = (Instant::now(), source.calls());
    Ok(answers::<P>(begin, callers(&peer, 200), &source, before).await)
}

async fn source_fails<P: Peer>() -> Result<Cost, Failure> {
    let source = Source::taking(Duration::from_millis(20)).first_lasts(SHORT_LIFE);
    let peer =
        if P::KEEPS { at_its_end::<P>(&source).await? } else { Arc::new(P::new(source.clone()).await?) };
    source.fail();
    let (begin, before) = (Instant::now(), source.calls());
    Ok(answers::<P>(begin, callers(&peer, 50), &source, before).await)
}

async fn first_aborted<P: Peer>() -> Result<Cost, Failure> {
    let source = Source::taking(Duration::from_millis(60));
    let peer = Arc::new(P::new(source.clone()).await?);
    let begin = Instant::now();
    let first = callers(&peer, 1);
    let others = callers(&peer, 9);
    sleep(Duration::from_millis(23)).await;
    first.iter().for_each(JoinHandle::abort);
    Ok(answers::<P>(begin, others, &source, 0).await)
}

async fn late_401s<P: Peer>() -> Result<Cost, Failure> {
    let source = Source::taking(Duration::from_millis(20));
    let peer = P::new(source.clone()).await?;
    peer.get().await?;
    let mut requests = Vec::new();
    for _ in 0..20 {
        requests.push(peer.send_request().await?);
    }
    let (begin, before, mut cost) = (Instant::now(), source.calls(), Cost::default());
    // Each 401 comes when the one before has been dealt with.
    let dealt_with = timeout(PATIENCE, async {
        for request in requests {
            peer.rejected(request).await;
            cost.failed += usize::from(peer.get().await.is_err());
        }
    });
    cost.unanswered = usize::from(dealt_with.await.is_err());
    Ok(Cost { ms: millis(begin), calls: source.calls() - before, ..cost })
}

/// A peer whose token has ended a moment ago.
async fn at_its_end<P: Peer>(source: &Source) -> Result<Arc<P>, Failure> {
    let peer = P::new(source.clone()).await?;
    let first = peer.get().await?;
    while !source.has_ended(P::number(&first)) {
        sleep(Duration::from_millis(2)).await;
    }
    // A peer that counts from when the answer came believes in it for a moment longer.
    sleep(Duration::from_millis(15)).await;
    Ok(Arc::new(peer))
}

type Caller = JoinHandle<Result<u64, Failure>>;

fn callers<P: Peer>(peer: &Arc<P>, count: usize) -> Vec<Caller> {
    (0..count)
        .map(|_| {
            let peer = Arc::clone(peer);
            tokio::spawn(async move { peer.get().await.map(|token| P::number(&token)) })
        })
        .collect()
}

async fn answers<P: Peer>(begin: Instant, callers: Vec<Caller>, source: &Source, before: u64) -> Cost {
    let stop: Vec<_> = callers.iter().map(JoinHandle::abort_handle).collect();
    let waiting = callers.into_iter().map(|caller| timeout(PATIENCE, caller));
    let mut cost = Cost::default();
    for answer in join_all(waiting).await {
        match answer {
            Ok(Ok(Ok(number))) => cost.stale += usize::from(source.has_ended(number)),
            Ok(_) => cost.failed += 1,
            Err(_) => cost.unanswered += 1,
        }
    }
    stop.iter().for_each(tokio::task::AbortHandle::abort);
    Cost { ms: millis(begin), calls: source.calls() - before, ..cost }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

//! A crowd that waits, in tasks or behind recipients, and the moment at which its last member was told.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokenflight::testing::ScriptedSource;
use tokenflight::{RefreshPolicy, Subscribe, TokenActor, TokenHandle, TokenReady};
use tokio::sync::oneshot;

/// An actor whose source waits until it is released, and that lets everybody wait as long as they like.
pub(crate) fn handle() -> (TokenHandle, ScriptedSource) {
    let source = ScriptedSource::new();
    source.hold();
    let long = Duration::from_secs(600);
    let policy = RefreshPolicy::default().max_waiters(4_000_000);
    let policy = policy.wait_timeout(long).attempt_timeout(long).flight_timeout(long);
    let handle = TokenActor::builder(source.clone()).policy(policy).start().expect("a sound policy");
    (handle, source)
}

/// Counts down, and says when it has come to zero.
#[derive(Clone)]
pub(crate) struct Countdown(Rc<Count>);

struct Count {
    left: Cell<usize>,
    end: RefCell<Option<oneshot::Sender<()>>>,
}

impl Countdown {
    pub(crate) fn from(n: usize) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Rc::new(Count { left: Cell::new(n), end: RefCell::new(Some(sender)) })), receiver)
    }

    pub(crate) fn one(&self) {
        let left = self.0.left.get() - 1;
        self.0.left.set(left);
        if left == 0 {
            let _ = self.0.end.take().expect("it comes to zero once").send(());
        }
    }
}

/// What a task of the crowd has to say.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) here: Countdown,
    pub(crate) told: Countdown,
}

/// Starts `n` tasks, and returns when all of them are `here`. The receiver hears when all have been `told`.
pub(crate) async fn tasks<F>(n: usize, mut task: impl FnMut(Seat) -> F) -> oneshot::Receiver<()>
where
    F: Future<Output = ()> + 'static,
{
    let ((here, all_here), (told, all_told)) = (Countdown::from(n), Countdown::from(n));
    let seat = Seat { here, told };
    for _ in 0..n {
        actix_rt::spawn(task(seat.clone()));
    }
    drop(seat);
    all_here.await.expect("they run");
    all_told
}

/// Has `n` tasks wait on the handle, and returns when all of them do and the source has been called.
pub(crate) async fn askers(handle: &TokenHandle, source: &ScriptedSource, n: usize) -> oneshot::Receiver<()> {
    let all_told = tasks(n, |seat| {
        let handle = handle.clone();
        async move {
            seat.here.one();
            handle.get().await.expect("a token");
            seat.told.one();
        }
    })
    .await;
    source.called(1).await;
    all_told
}

/// Subscribes `n` times with the same recipient, and returns when the actor has let all of them in.
pub(crate) async fn subscriptions(handle: &TokenHandle, n: usize) -> oneshot::Receiver<()> {
    let (recipient, all_told) = listener(n);
    for ticket in 0..n {
        handle.subscribe(Subscribe::new(recipient.clone()).ticket(ticket as u64));
    }
    while handle.status().await.expect("it runs").waiters < n {
        tokio::task::yield_now().await;
    }
    all_told
}

/// A recipient that is to be told so often.
pub(crate) fn listener(n: usize) -> (Recipient<TokenReady>, oneshot::Receiver<()>) {
    let (told, all_told) = Countdown::from(n);
    (Listener(told).start().recipient(), all_told)
}

struct Listener(Countdown);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<TokenReady> for Listener {
    type Result = ();

    fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
        assert!(ready.result.is_ok());
        self.0.one();
    }
}

//! Repeats one operation: `instructions current 100000`. `benches/instructions` counts its instructions.
//!
//! It is compiled against two revisions of the crate, so it uses only what both have.
#![allow(clippy::disallowed_methods)] // it measures

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokenflight::{Token, TokenActor, TokenHandle, source_fn};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().expect("what to do");
    let times: u32 = arguments.next().and_then(|times| times.parse().ok()).expect("how many times");
    let handle = handle();
    let token = handle.current().expect("a fresh token");
    let until = ArcSwap::new(Arc::new(Instant::now() + Duration::from_secs(3600)));
    let mut cx = Context::from_waker(Waker::noop());
    match what.as_str() {
        "base" => repeat(times, || Instant::now() < **until.load()),
        "current" => repeat(times, || handle.current()),
        "get" => repeat(times, || {
            let Poll::Ready(token) = pin!(handle.get()).as_mut().poll(&mut cx) else { panic!("a fresh token") };
            token
        }),
        "authorization" => repeat(times, || token.authorization()),
        "clone" => repeat(times, || token.clone()),
        _ => panic!("there is no such thing to do"),
    }
    // Not the actor's end, which takes now more instructions and now less.
    std::process::exit(0);
}

#[inline(never)]
fn repeat<R>(times: u32, mut what: impl FnMut() -> R) {
    for _ in 0..times {
        black_box(what());
    }
}

fn handle() -> TokenHandle {
    let token = Token::new("x".repeat(900)).with_lifetime(Duration::from_secs(3600));
    let source = source_fn(move |_| std::future::ready(Ok(token.clone())));
    let handle = TokenActor::builder(source).spawn_thread().expect("a thread");
    futures_executor::block_on(handle.get()).expect("a token");
    handle
}

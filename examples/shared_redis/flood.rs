//! A flood of news while an actor waits: how long does another task on its arbiter wait? (Measure with `--release`.)

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokenflight::source::{FetchContext, SealKey, SharedSource, source_fn};
use tokenflight::store::RedisStore;
use tokenflight::{RefreshPolicy, SourceError, Token, TokenActor, TokenHandle};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::report::quantile;
use crate::server::Redis;

const RUNS: usize = 5;
const MESSAGES: usize = 1_000_000;
const PATIENT: Duration = Duration::from_secs(120);

pub(crate) async fn run(redis: &Redis) -> io::Result<()> {
    let mut longest = Vec::with_capacity(RUNS);
    for number in 1..=RUNS {
        let (wait, took) = once(redis).await?;
        println!("run {number}: {MESSAGES} messages in {took:.1?}; another task waited at most {wait:.1} ms");
        longest.push(wait);
    }
    println!("another task waits at most {:.1} ms (median of {RUNS} runs)", quantile(&longest, 0.5));
    Ok(())
}

/// How many milliseconds a task waited at most, and how long the flood took.
async fn once(redis: &Redis) -> io::Result<(f64, Duration)> {
    redis.command("FLUSHALL").await?;
    let (called, fetched) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let leader = actor(&redis.url(), &called, &fetched).map_err(io::Error::other)?;
    let waiter = actor(&redis.url(), &called, &fetched).map_err(io::Error::other)?;
    let leads = actix_web::rt::spawn(async move { leader.get().await.is_ok() });
    called.notified().await;
    let waits = actix_web::rt::spawn(async move { waiter.get().await.is_ok() });
    let channel = loop {
        let said = redis.command("PUBSUB CHANNELS").await?;
        let listed = said.lines().find(|line| line.starts_with("tokenflight:")).map(str::to_owned);
        if let Some(channel) = listed {
            break channel;
        }
        tokio::task::yield_now().await;
    };

    let longest = Rc::new(Cell::new(Duration::ZERO));
    let ticks = actix_web::rt::spawn(tick(Rc::clone(&longest)));
    let began = Instant::now();
    let address = redis.url().trim_start_matches("redis://").to_owned();
    let flood = tokio::task::spawn_blocking(move || publish(&address, &channel));
    flood.await.map_err(io::Error::other)??;
    let took = began.elapsed();
    // The news of the token comes after all the others, so whoever has the token has read them all. Twice: an actor
    // whose store does not answer in the flood fetches for itself.
    fetched.notify_one();
    fetched.notify_one();
    let served = leads.await.unwrap_or_default() && waits.await.unwrap_or_default();
    ticks.abort();
    if !served {
        return Err(io::Error::other("an actor was not served"));
    }
    Ok((longest.get().as_secs_f64() * 1_000.0, took))
}

/// Wants to run each millisecond, and notes how late it was.
async fn tick(longest: Rc<Cell<Duration>>) {
    const PACE: Duration = Duration::from_millis(1);
    loop {
        let due = Instant::now() + PACE;
        tokio::time::sleep_until(due).await;
        longest.set(longest.get().max(due.elapsed()));
    }
}

/// One thread sends, without waiting for answers; another counts them.
fn publish(address: &str, channel: &str) -> io::Result<()> {
    const AT_ONCE: usize = 1_000;
    let mut sends = TcpStream::connect(address)?;
    let mut answers = sends.try_clone()?;
    let counting = std::thread::spawn(move || {
        let (mut buffer, mut counted) = ([0; 16_384], 0);
        while counted < MESSAGES {
            let read = answers.read(&mut buffer)?;
            if read == 0 {
                return Err(io::Error::other("redis has closed the connection"));
            }
            // A number, and the end of its line.
            counted += buffer[..read].split(|byte| *byte == b'\n').count() - 1;
        }
        Ok(())
    });
    let batch = format!("PUBLISH {channel} x\r\n").repeat(AT_ONCE);
    for _ in 0..MESSAGES / AT_ONCE {
        sends.write_all(batch.as_bytes())?;
    }
    counting.join().unwrap_or_else(|_| Err(io::Error::other("the flood broke off")))
}

fn actor(
    redis_url: &str,
    called: &Arc<Notify>,
    fetched: &Arc<Notify>,
) -> Result<TokenHandle, Box<dyn std::error::Error + Send + Sync>> {
    let (called, fetched) = (Arc::clone(called), Arc::clone(fetched));
    let source = source_fn(move |_: FetchContext| {
        let (called, fetched) = (Arc::clone(&called), Arc::clone(&fetched));
        async move {
            called.notify_one();
            fetched.notified().await;
            Ok::<_, SourceError>(Token::new("a-token").with_lifetime(Duration::from_secs(3_600)))
        }
    });
    let key = format!("{:032x}{:032x}", 0x1234_5678_9abc_def0_u128, 0x0fed_cba9_8765_4321_u128);
    let source = SharedSource::builder("flood")
        .part("source", "flood")
        .key(SealKey::from_hex("flood", &key)?)
        .lease(PATIENT)
        .build(source, RedisStore::builder(redis_url).build()?)?;
    let policy = RefreshPolicy::default().attempt_timeout(PATIENT);
    Ok(TokenActor::builder(source).policy(policy).start()?)
}

//! Many processes, one refresh: the token is shared in Redis.
//!
//! ```text
//! cargo run --example shared_redis --features redis
//! ```
//!
//! starts a redis-server, an auth server, and 16 worker processes with 4 arbiters each. Every arbiter has an actor
//! with its own connection. All actors need a token at the same moment: first with an empty Redis, then a new
//! token. The output has one line per process: how many of its actors were served and how fast, whether it called
//! the auth server, how often it was woken by news and how often it had to look.
//!
//! The faults, and their costs:
//!
//! ```text
//! cargo run --example shared_redis --features redis -- --kill-owner
//! cargo run --example shared_redis --features redis -- --freeze-redis
//! cargo run --example shared_redis --features redis -- --flush
//! cargo run --example shared_redis --features redis -- --workers 6 --arbiters 1 --wrong-secrets 5
//! cargo run --example shared_redis --features redis -- --rubbish
//! cargo run --example shared_redis --features redis -- --delete-tokens
//! ```
//!
//! `--measure` counts the commands and bytes per token life, and times the script that takes the lease.
//! `--flood-news` publishes a million messages while an actor waits, and times the other tasks of its arbiter.
//! `--redis-url redis://host:6379` uses a running Redis.

mod auth;
mod crew;
mod flood;
mod measure;
mod options;
mod report;
mod server;
mod worker;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use auth::AuthServer;
use crew::Crew;
use options::Options;
use server::Redis;

#[actix_web::main]
async fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    let options = Options::from_args();
    let result = match &options.as_worker {
        Some(number) => worker::run(*number, &options).await,
        None => run(&options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> io::Result<()> {
    let redis = Redis::begin(options.redis_url.as_deref())?;
    if options.flood_news {
        return flood::run(&redis).await;
    }
    let auth = AuthServer::start(options.latency)?;
    println!("auth server: answers after {:?}", options.latency);
    println!("redis:       {}", redis.described());
    println!(
        "workers:     {} processes x {} arbiters, lease {:?}\n",
        options.workers, options.arbiters, options.lease
    );
    let mut crew = Crew::start(options, &redis.url(), &auth.url()).await?;

    let before = measure::Usage::read(&redis).await?;
    if options.kill_owner || options.freeze_redis {
        fault(options, &mut crew, &auth, &redis).await?;
    } else {
        let lines = disturbed(crew.round("get"), &redis, false, options.delete_tokens).await?;
        report::print("an empty redis, everybody wants a token", &lines, auth.calls());
    }
    let warm = measure::Usage::read(&redis).await?;
    if options.flush {
        redis.command("FLUSHALL").await?;
        println!("redis has forgotten everything\n");
    }
    // Those who did without the store may ask it again by then.
    if options.freeze_redis {
        tokio::time::sleep(worker::RETRY_STORE + Duration::from_millis(100)).await;
    }
    let calls = auth.calls();
    let lines = disturbed(crew.round("refresh"), &redis, options.rubbish, options.delete_tokens).await?;
    report::print("the next token, wanted by everybody at once", &lines, auth.calls() - calls);
    if options.measure {
        let after = measure::Usage::read(&redis).await?;
        let actors = options.workers * options.arbiters;
        measure::print("first token, with connecting", warm.since(&before), actors);
        measure::print("next token", after.since(&warm), actors);
        measure::acquire(&redis.url()).await?;
    }
    crew.end().await
}

/// A round, while somebody writes to Redis.
async fn disturbed<T>(
    round: impl Future<Output = io::Result<T>>,
    redis: &Redis,
    rubbish: bool,
    delete_tokens: bool,
) -> io::Result<T> {
    let writers = async {
        match (rubbish, delete_tokens) {
            (true, _) => redis.write_rubbish().await,
            (_, true) => redis.delete_tokens().await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        lines = round => lines,
        failed = writers => failed.and_then(|()| Err(io::Error::other("the writer has ended"))),
    }
}

/// Something happens while the one call is under way.
async fn fault(options: &Options, crew: &mut Crew, auth: &AuthServer, redis: &Redis) -> io::Result<()> {
    crew.tell("get").await?;
    let owner = auth.first_caller().await;
    if options.kill_owner {
        crew.kill(owner).await?;
        println!("worker {owner} has the lease: killed (-9)\n");
    } else {
        redis.freeze()?;
        println!("redis is frozen (SIGSTOP) while worker {owner} has the lease\n");
    }
    let lines = crew.answers().await?;
    if options.freeze_redis {
        redis.thaw()?;
    }
    report::print("everybody wants a token", &lines, auth.calls());
    Ok(())
}

//! The options of the command line, and the combinations that are invalid.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, ValueEnum};
use jiff::SignedDuration;
use reqwest::Url;

/// Where the client secret may stand instead of the command line, which every process can read.
const SECRET_VARIABLE: &str = "FANOUT_CLIENT_SECRET";

/// Many requests, one token: how often is the auth server called?
///
/// Sends requests through a service that needs a token, by three strategies, and counts the calls to the auth
/// server. Without --token-url everything runs in this process: an auth server and a protected API, on real
/// sockets.
// No `Debug`: it would show the client secret.
#[derive(Parser)]
#[command(name = "request_fanout", after_help = "The flight's life: RUST_LOG=tokenflight=debug.")]
pub(crate) struct Options {
    /// How many requests a run sends
    #[arg(long, default_value_t = 9, allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) requests: u32,

    /// How requests come by their token (repeat it, or separate by commas) [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    strategy: Vec<Strategy>,

    /// One request after another, or all at once (repeat it, or separate by commas) [default: both]
    #[arg(long, value_enum, value_delimiter = ',')]
    mode: Vec<Mode>,

    /// How long the built-in auth server takes to answer
    #[arg(long, value_name = "DURATION", default_value = "100ms", allow_hyphen_values = true, value_parser = latency, conflicts_with = "token_url")]
    pub(crate) latency: Duration,

    /// How long the built-in auth server's tokens last, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "1h", allow_hyphen_values = true, value_parser = lifetime, conflicts_with = "token_url")]
    pub(crate) lifetime: Duration,

    /// How long the built-in API takes to answer [default: 20ms, or nothing for more than 100 requests]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = latency, conflicts_with = "api_url")]
    api_latency: Option<Duration>,

    /// The token expires while requests are under way: half of them come after its end
    #[arg(long, conflicts_with_all = ["token_url", "fault"])]
    pub(crate) expire_midway: bool,

    /// What the built-in auth server does wrong
    #[arg(long, value_enum, conflicts_with = "token_url")]
    pub(crate) fault: Option<Fault>,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub(crate) json: bool,

    /// Draw the parallel runs: who waits for a token, who is served, who calls the auth server
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) timeline: Option<PathBuf>,

    /// The token endpoint of a real authorization server (RFC 6749 section 4.4)
    #[arg(long, value_name = "URL", value_parser = http_url, requires = "client_id", help_heading = "Real servers")]
    pub(crate) token_url: Option<Url>,

    /// The client's id; with the built-in auth server, another one than its own is refused
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), help_heading = "Real servers")]
    pub(crate) client_id: Option<String>,

    /// The client's secret, or else from `FANOUT_CLIENT_SECRET`; with the built-in auth server, any is wrong
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new(), help_heading = "Real servers")]
    pub(crate) client_secret: Option<String>,

    /// A scope to ask for (repeat it, or separate by commas or spaces)
    #[arg(long, value_delimiter = ',', help_heading = "Real servers")]
    scope: Vec<String>,

    /// The protected API, called by GET [default: a built-in one, which with --token-url accepts any token]
    #[arg(long, value_name = "URL", value_parser = http_url, requires = "token_url", help_heading = "Real servers")]
    pub(crate) api_url: Option<Url>,
}

/// How a request comes by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Strategy {
    /// Each request that finds no valid token fetches one
    Naive,
    /// Each request awaits `TokenHandle::get`
    Handle,
    /// Each request is a ticket that waits for its `TokenReady`
    Recipient,
}

/// When the requests start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Mode {
    /// One request after another
    Sequential,
    /// All at once
    Parallel,
}

/// What the built-in auth server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// Answers with an HTML page
    Html,
    /// Answers with JSON that has no `access_token`
    MissingToken,
    /// Answers with 10 MB
    HugeBody,
    /// Refuses the client: 400 `unauthorized_client`
    Refuse,
    /// Is out of order: 503
    Unavailable,
    /// Revokes its first token at once: the API answers 401 to it
    Revoke,
}

impl Options {
    /// The process's arguments. `--help` is printed, and ends the process.
    ///
    /// # Errors
    /// What is wrong with them, in a sentence.
    pub(crate) fn from_args() -> Result<Self, String> {
        let mut options = Self::try_parse()
            .map_err(|error| if error.use_stderr() { one_line(&error) } else { error.exit() })?;
        if options.token_url.is_some() && options.client_secret.is_none() {
            options.client_secret = std::env::var(SECRET_VARIABLE).ok().filter(|secret| !secret.is_empty());
        }
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), String> {
        if self.token_url.is_some() && self.client_secret.is_none() {
            return Err(format!(
                "--token-url needs --client-secret, or {SECRET_VARIABLE} in the environment"
            ));
        }
        if self.timeline.is_some() && !self.modes().contains(&Mode::Parallel) {
            return Err("--timeline draws parallel runs: --mode leaves none".into());
        }
        if self.expire_midway && self.requests < 2 {
            return Err(
                "--expire-midway needs at least 2 requests: one before the token's end, one after".into()
            );
        }
        Ok(())
    }

    /// The chosen strategies, each once.
    pub(crate) fn strategies(&self) -> Vec<Strategy> {
        chosen(&self.strategy)
    }

    /// The chosen modes, each once.
    pub(crate) fn modes(&self) -> Vec<Mode> {
        chosen(&self.mode)
    }

    /// The scopes as the token endpoint wants them, with spaces between.
    pub(crate) fn scope(&self) -> Option<String> {
        let scopes: Vec<_> = self.scope.iter().flat_map(|scopes| scopes.split_whitespace()).collect();
        (!scopes.is_empty()).then(|| scopes.join(" "))
    }

    /// Long enough to be seen in the timeline, and nothing where ten thousand requests in a row would pay it.
    pub(crate) fn api_latency(&self) -> Duration {
        let usual = if self.requests > 100 { Duration::ZERO } else { Duration::from_millis(20) };
        self.api_latency.unwrap_or(usual)
    }

    /// How long the first token lasts under `--expire-midway`. The client counts from when it asked, so that
    /// the latency is lost: twice that leaves half the lifetime.
    pub(crate) fn first_lifetime(&self) -> Option<Duration> {
        let seconds = (self.latency * 2).as_secs() + 1;
        self.expire_midway.then(|| Duration::from_secs(seconds))
    }
}

impl Strategy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Handle => "handle",
            Self::Recipient => "recipient",
        }
    }
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Parallel => "parallel",
        }
    }
}

/// What clap has to say, without the usage and the hint at `--help` that make a page of it.
fn one_line(error: &clap::Error) -> String {
    let page = error.to_string();
    let said = page.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split("\n\nFor more information").next().unwrap_or_default();
    let words: Vec<_> = said.split_whitespace().skip_while(|word| *word == "error:").collect();
    words.join(" ").replace(" tip: ", "; ")
}

/// What was asked for, without repetitions; all there is if nothing was.
fn chosen<T: ValueEnum + Ord>(asked: &[T]) -> Vec<T> {
    let mut all = if asked.is_empty() { T::value_variants().to_vec() } else { asked.to_vec() };
    all.sort();
    all.dedup();
    all
}

fn latency(text: &str) -> Result<Duration, String> {
    duration(text, Duration::ZERO..=Duration::from_secs(3600), "from 0s to 1h")
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let lifetime = duration(text, Duration::from_secs(1)..=365 * DAY, "from 1s to 365 days (8760h)")?;
    match lifetime.subsec_nanos() {
        0 => Ok(lifetime),
        _ => Err("must be whole seconds, because `expires_in` is".into()),
    }
}

fn duration(text: &str, range: RangeInclusive<Duration>, limits: &str) -> Result<Duration, String> {
    let signed: SignedDuration =
        text.parse().map_err(|_| "is no duration: write it like 250ms, 30s or 1h")?;
    match Duration::try_from(signed) {
        Ok(duration) if range.contains(&duration) => Ok(duration),
        _ => Err(format!("must be {limits}")),
    }
}

fn http_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|err| format!("is no URL: {err}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("must begin with https:// or http://".into()),
    }
}

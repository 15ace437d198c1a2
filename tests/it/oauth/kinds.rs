//! Helpers of these tests: a source of either kind, and the log of a separate process.

use log::LevelFilter;
use tokenflight::source::{BoxSource, ClientCredentials, ClientCredentialsBuilder};
use tokenflight::source::{JsonEndpoint, JsonEndpointBuilder};
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{FetchContext, Reason, SourceError, Token, TokenError, TokenHandle, TokenSource};

use crate::http_sources::started;
use crate::support::*;

pub(super) const OAUTH: &str = "ClientCredentials";
pub(super) const JSON: &str = "JsonEndpoint";

pub(super) fn oauth(url: impl Into<String>) -> ClientCredentialsBuilder {
    ClientCredentials::builder(url, "app", "hunter2 & Co")
}

pub(super) fn json(url: impl Into<String>) -> JsonEndpointBuilder {
    JsonEndpoint::post(url).header("x-api-key", "hunter2 & Co").lifetime_pointer("/expires_in")
}

/// A source of either kind, with its name.
pub(super) fn both(url: &str) -> [(&'static str, BoxSource); 2] {
    [(OAUTH, BoxSource::new(oauth(url).build().unwrap())), (JSON, BoxSource::new(json(url).build().unwrap()))]
}

/// The actor's outcome for a source of either kind, when the server answers like this.
pub(super) async fn face(reply: &Reply) -> [(&'static str, Result<Token, TokenError>); 2] {
    let server = FakeAuthServer::start().await.unwrap();
    let [(_, oauth), (_, json)] = both(&server.url());
    server.then(reply.clone()).then(reply.clone());
    [(OAUTH, started(oauth).get().await), (JSON, started(json).get().await)]
}

/// The outcome for this source, whose server answers like this.
pub(super) async fn face_with<S: TokenSource>(
    reply: &Reply,
    make: impl FnOnce(String) -> S,
) -> Result<Token, TokenError> {
    let server = FakeAuthServer::start().await.unwrap();
    server.then(reply.clone());
    started_with(&server, make).get().await
}

fn started_with<S: TokenSource>(server: &FakeAuthServer, make: impl FnOnce(String) -> S) -> TokenHandle {
    started(make(server.url()))
}

/// One fetch without an actor.
pub(super) async fn fetch(source: &impl TokenSource) -> Result<Token, SourceError> {
    source.fetch(FetchContext::new(Reason::First)).await
}

#[track_caller]
pub(super) fn assert_lasts(token: &Token, seconds: u64, what: &str) {
    let remaining = token.remaining().unwrap();
    // An answer's `Date` has no fraction of a second, and the machine may be busy.
    assert!(
        (secs(seconds.saturating_sub(20))..=secs(seconds + 2)).contains(&remaining),
        "{what}: {remaining:?}"
    );
}

const HEADING: &str = "##### ";

/// Names what is logged from here on.
pub(super) fn heading(text: &str) {
    eprintln!("{HEADING}{text}");
}

/// What the scene logs under each of its headings. It runs in a process of its own; there this is `None`.
#[track_caller]
pub(super) fn logged<F: Future<Output = ()>>(
    name: &str,
    level: LevelFilter,
    scene: impl FnOnce() -> F,
) -> Option<Vec<(String, String)>> {
    let Some(mut child) = in_its_own_process(name) else {
        env_logger::builder().filter_level(level).init();
        actix_rt::System::new().block_on(scene());
        return None;
    };
    let written = all_that_is_written_by(&mut child);
    let parts = written.split(HEADING).skip(1).map(|part| part.split_once('\n').unwrap_or((part, "")));
    let parts: Vec<_> = parts.map(|(head, text)| (head.to_owned(), text.to_owned())).collect();
    assert!(!parts.is_empty(), "the scene has headings: {written}");
    Some(parts)
}

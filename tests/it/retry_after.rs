//! Promise 8 over HTTP: both forms of `Retry-After` are read and respected. (RFC 9110 section 10.2.3.)

use tokenflight::TokenActor;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::ClientCredentials;
use tokenflight::testing::{FakeAuthServer, ManualClock, Reply};

use crate::support::*;

#[actix::test]
async fn seconds_and_a_date_are_both_waited() {
    let date = httpdate::fmt_http_date(SystemClock.now().wall + secs(120));
    for form in ["120", &date] {
        let server = FakeAuthServer::start().await.unwrap();
        server.then(Reply::json(503, "{}").with_header("Retry-After", form));
        let source = ClientCredentials::builder(server.url(), "id", "secret").build().unwrap();
        let clock = ManualClock::new();
        let handle = TokenActor::builder(source).policy(plain()).clock(clock.clone()).start().unwrap();
        let error = handle.get().await.unwrap_err();
        assert!(error.is_unavailable());
        // A date has no fractions of a second, and time passes on the way.
        let wait = error.retry_after().unwrap();
        assert!((secs(115)..=secs(120)).contains(&wait), "{form}: {wait:?}");
        clock.suspend(secs(100));
        assert!(handle.get().await.is_err(), "{form}: not yet");
        clock.suspend(secs(20));
        assert!(handle.get().await.is_ok(), "{form}");
        assert_eq!(server.asked().len(), 2, "{form}");
    }
}

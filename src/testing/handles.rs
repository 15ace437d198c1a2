//! Handles without an auth server.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::actor::TokenActor;
use crate::error::{BuildError, SourceError};
use crate::handle::TokenHandle;
use crate::policy::RefreshPolicy;
use crate::source::source_fn;
use crate::token::Token;

/// The longest life that an actor accepts by default.
const DAYS_30: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A handle that always has this token, for a test of code that takes a handle. It is ready when this function
/// returns.
///
/// It needs no actix System and no runtime. Its actor has its own thread, which ends with the last clone of the
/// handle. A test that pauses tokio's time may use it. A report of the token is answered with the same token. After
/// a [`discard`](TokenHandle::discard), callers get an error, as from a source that has no other token.
///
/// ```
/// let tokens = tokenflight::testing::fixed_handle("abc")?;
/// assert_eq!(tokens.current().unwrap().authorization(), "Bearer abc");
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// # Errors
/// A token that no header can carry (field `token`), or no thread is available.
pub fn fixed_handle(secret: impl Into<String>) -> Result<TokenHandle, BuildError> {
    let token = Token::new(secret).with_lifetime(DAYS_30);
    let source = source_fn(move |_cx| std::future::ready(Ok(token.clone())));
    // Each report calls the source, which has no other token.
    let policy =
        RefreshPolicy::default().attempts(1).settle(Duration::ZERO).backoff(Duration::from_millis(1));
    let handle = TokenActor::builder(source).name("fixed").policy(policy).spawn_thread()?;
    match block_on(handle.get()) {
        Ok(_) => Ok(handle),
        Err(error) => Err(BuildError::new("token", format!("cannot be used: {error}"))),
    }
}

/// A handle without a token: each flight fails with this error at its first attempt. For a test of code in this
/// situation.
///
/// As for [`fixed_handle`], it needs no actix System and no runtime. Callers get the error that
/// [`errors::failed`](super::errors::failed) makes of `error`.
///
/// ```
/// use tokenflight::SourceError;
///
/// # actix_rt::System::new().block_on(async {
/// let tokens = tokenflight::testing::failing_handle(SourceError::terminal("invalid_client"))?;
/// assert!(tokens.get().await.unwrap_err().is_rejected());
/// # Ok::<(), tokenflight::BuildError>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// No thread is available.
pub fn failing_handle(error: SourceError) -> Result<TokenHandle, BuildError> {
    let source = source_fn(move |_cx| std::future::ready(Err(error.clone())));
    let policy = RefreshPolicy::default().attempts(1);
    TokenActor::builder(source).name("failing").policy(policy).spawn_thread()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until the actor on the other thread has answered.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

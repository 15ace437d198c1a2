//! Any source, as one type.

use std::fmt;
use std::future::Future;
#[cfg(feature = "http")]
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "http")]
use std::task::Poll;

use super::{FetchContext, TokenSource};
use crate::error::SourceError;
#[cfg(feature = "http")]
use crate::panics::Contained;
use crate::token::Token;

/// Any source, as one type. (`dyn TokenSource` is impossible: the futures of two sources have two types.)
///
/// A clone is the same source.
///
/// ```
/// use tokenflight::source::BoxSource;
/// use tokenflight::{Token, source_fn};
///
/// fn source(for_tests: bool) -> BoxSource {
///     if for_tests {
///         BoxSource::new(source_fn(|_cx| async { Ok(Token::new("fake")) }))
///     } else {
///         BoxSource::new(source_fn(|_cx| async { Ok(Token::new("real")) }))
///     }
/// }
/// # let _ = source;
/// ```
#[derive(Clone)]
pub struct BoxSource(Arc<dyn ErasedSource>);

impl BoxSource {
    /// Takes any source.
    pub fn new(source: impl TokenSource) -> Self {
        Self(Arc::new(source))
    }

    /// The future owns the source, and calls it at the first poll. Therefore the code of `fetch` before its first
    /// await also runs inside the future, and so does its panic.
    pub(crate) fn call(&self, cx: FetchContext) -> Fetching {
        #[cfg(feature = "test-util")]
        if let Some(error) = crate::still::refused(&**cx.clock()) {
            return Box::pin(std::future::ready(Err(error)));
        }
        Arc::clone(&self.0).fetch_erased(cx)
    }

    /// Names its parts with the role that it has for another source as a prefix.
    #[cfg(feature = "http")]
    pub(crate) fn identify_as(&self, name: &str, part: &mut dyn FnMut(&str, &str)) {
        self.identify(&mut |inner, value| match inner {
            super::UNNAMED => part(inner, &format!("{name}: {value}")),
            // That token itself stays in this process.
            super::UNSHARED => {}
            _ => part(&format!("{name}.{inner}"), value),
        });
    }

    /// The same for `finish`.
    pub(crate) fn finish_later(&self) -> Finishing {
        Arc::clone(&self.0).finish_erased()
    }

    /// The same for `look`.
    pub(crate) fn look_later(&self, cx: FetchContext) -> Looking {
        Arc::clone(&self.0).look_erased(cx)
    }

    /// Its token, for a request of another source that depends on it. `link` names this source in an error.
    #[cfg(feature = "http")]
    pub(crate) async fn token_for(&self, link: &str, cx: &FetchContext) -> Result<Token, SourceError> {
        let token = self.fetch(cx.for_link()).await.map_err(|error| error.within(link))?;
        match token.break_in_it() {
            Some(flaw) => Err(SourceError::transient(format!("it {flaw}")).within(link)),
            None => Ok(token),
        }
    }

    /// Finishes all sources on which one source depends. They run concurrently, and each panic affects only its own
    /// source.
    #[cfg(feature = "http")]
    pub(crate) fn finish_all<'a>(
        sources: impl IntoIterator<Item = &'a Self>,
    ) -> impl Future<Output = ()> + Send {
        let end = |source: &Self| Contained::new(source.finish_later());
        let mut ends: Vec<_> = sources.into_iter().map(end).collect();
        poll_fn(move |task| {
            ends.retain_mut(|end| Pin::new(end).poll(task).is_pending());
            if ends.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

impl TokenSource for BoxSource {
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send {
        Arc::clone(&self.0).fetch_erased(cx)
    }

    fn look(&self, cx: FetchContext) -> impl Future<Output = Option<Token>> + Send {
        self.look_later(cx)
    }

    fn can_look(&self) -> bool {
        self.0.can_look_erased()
    }

    fn finish(&self) -> impl Future<Output = ()> + Send {
        self.finish_later()
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.0.identify_erased(part);
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.0.credential_erased(part);
    }

    fn rebind(&self, token: Token) -> Token {
        self.0.rebind_erased(token)
    }
}

impl fmt::Debug for BoxSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxSource")
    }
}

/// A call to a source.
pub(crate) type Fetching = Pin<Box<dyn Future<Output = Result<Token, SourceError>> + Send>>;

/// A look at a source.
type Looking = Pin<Box<dyn Future<Output = Option<Token>> + Send>>;

/// The `finish` of a source.
type Finishing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// [`TokenSource`] in a dyn-compatible form.
trait ErasedSource: Send + Sync {
    fn fetch_erased(self: Arc<Self>, cx: FetchContext) -> Fetching;

    fn look_erased(self: Arc<Self>, cx: FetchContext) -> Looking;

    fn can_look_erased(&self) -> bool;

    fn finish_erased(self: Arc<Self>) -> Finishing;

    fn identify_erased(&self, part: &mut dyn FnMut(&str, &str));

    fn credential_erased(&self, part: &mut dyn FnMut(&[u8]));

    fn rebind_erased(&self, token: Token) -> Token;
}

impl<S: TokenSource> ErasedSource for S {
    fn fetch_erased(self: Arc<Self>, cx: FetchContext) -> Fetching {
        Box::pin(async move { S::fetch(&self, cx).await })
    }

    fn look_erased(self: Arc<Self>, cx: FetchContext) -> Looking {
        Box::pin(async move { S::look(&self, cx).await })
    }

    fn can_look_erased(&self) -> bool {
        self.can_look()
    }

    fn finish_erased(self: Arc<Self>) -> Finishing {
        Box::pin(async move { S::finish(&self).await })
    }

    fn identify_erased(&self, part: &mut dyn FnMut(&str, &str)) {
        self.identify(part);
    }

    fn credential_erased(&self, part: &mut dyn FnMut(&[u8])) {
        self.credential(part);
    }

    fn rebind_erased(&self, token: Token) -> Token {
        self.rebind(token)
    }
}

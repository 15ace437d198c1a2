//! A closure as a source.

use std::fmt;
use std::future::Future;

use super::{FetchContext, TokenSource, UNNAMED};
use crate::error::SourceError;
use crate::token::Token;

/// A closure as a [`TokenSource`].
///
/// ```
/// use tokenflight::{FetchContext, Token, source_fn};
///
/// let source = source_fn(|_cx: FetchContext| async { Ok(Token::new("abc")) });
/// # let _ = source;
/// ```
pub fn source_fn<F, Fut>(fetch: F) -> SourceFn<F>
where
    F: Fn(FetchContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, SourceError>> + Send,
{
    SourceFn(fetch)
}

/// The return type of [`source_fn`].
pub struct SourceFn<F>(F);

impl<F> fmt::Debug for SourceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceFn")
    }
}

impl<F, Fut> TokenSource for SourceFn<F>
where
    F: Fn(FetchContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, SourceError>> + Send,
{
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send {
        (self.0)(cx)
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part(UNNAMED, "the closure of `source_fn`");
    }
}

//! The sources of tokens for many keys: the [`KeyedSource`] trait.

use std::fmt;
use std::future::{Future, ready};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;

use super::{BoxSource, FetchContext, Fetching, UNNAMED};
use crate::error::SourceError;
use crate::token::Token;

/// Gets a new token for a key: one call, one token or one error. For a
/// [`TokenRegistry`](crate::registry::TokenRegistry).
///
/// A closure that takes a key and a [`FetchContext`] is a keyed source:
///
/// ```
/// use tokenflight::registry::TokenRegistry;
/// use tokenflight::{FetchContext, Token};
///
/// # actix_rt::System::new().block_on(async {
/// let source = |tenant: String, _cx: FetchContext| async move { Ok(Token::new(format!("for-{tenant}"))) };
/// let tokens = TokenRegistry::builder(source).start()?;
/// assert_eq!(tokens.get(&"acme".to_owned()).await?.secret(), "for-acme");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait KeyedSource<K>: Send + Sync + 'static {
    /// Gets a new token for this key. As for [`TokenSource::fetch`](crate::TokenSource::fetch): there is one call
    /// at a time per key, and the future must not block.
    ///
    /// # Errors
    /// [`SourceError::transient`] if another attempt may help, [`SourceError::terminal`] if it will not.
    fn fetch(&self, key: &K, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send;

    /// The group whose keys share a part of the registry's calls: for example the tenant, if a key is tenant and
    /// scope. One group has at most half of the calls at once.
    ///
    /// Default: `None`, each key is its own group.
    fn group(&self, key: &K) -> Option<Group> {
        let _ = key;
        None
    }

    /// The client whose credentials are sent for this key. If the auth server refuses a client, this concerns all
    /// keys of the client.
    ///
    /// Default: `None`, each key is its own client.
    fn client(&self, key: &K) -> Option<Group> {
        let _ = key;
        None
    }

    /// A token that is newer than the previous one, if there is one without a call: see
    /// [`TokenSource::look`](crate::TokenSource::look). Default: there is no such token.
    fn look(&self, key: &K, cx: FetchContext) -> impl Future<Output = Option<Token>> + Send {
        let _ = (key, cx);
        ready(None)
    }

    /// Whether [`look`](Self::look) can return a token. Default: no.
    fn can_look(&self) -> bool {
        false
    }

    /// Finishes work that must not be interrupted when the process ends: see
    /// [`TokenSource::finish`](crate::TokenSource::finish). Default: there is no such work.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// Names, part by part, everything that decides which token comes for this key: see
    /// [`TokenSource::identify`](crate::TokenSource::identify). Default: everything is [`UNNAMED`].
    fn identify(&self, key: &K, part: &mut dyn FnMut(&str, &str)) {
        let _ = key;
        part(UNNAMED, "what the source asks for");
    }

    /// Names the credential of the next call for this key: see
    /// [`TokenSource::credential`](crate::TokenSource::credential). Default: nothing.
    fn credential(&self, key: &K, part: &mut dyn FnMut(&[u8])) {
        let _ = (key, part);
    }

    /// Gives a stored token of this key the proof that it needs: see
    /// [`TokenSource::rebind`](crate::TokenSource::rebind). Default: the token unchanged.
    #[doc(hidden)]
    fn rebind(&self, key: &K, token: Token) -> Token {
        let _ = key;
        token
    }

    /// The parts that [`identify`](Self::identify) names for every key, for callers without a key. Default: none.
    #[doc(hidden)]
    fn identify_all(&self, part: &mut dyn FnMut(&str, &str)) {
        let _ = part;
    }

    /// The source of only this key, for one call, if it is expensive to make. A caller that needs more than a token
    /// makes it once. Default: none, and the other methods are used.
    ///
    /// # Errors The error that [`fetch`](Self::fetch) would return for a source that cannot be made.
    #[doc(hidden)]
    fn one(&self, key: &K) -> impl Future<Output = Result<Option<BoxSource>, SourceError>> + Send {
        let _ = key;
        ready(Ok(None))
    }
}

impl<K, F, Fut> KeyedSource<K> for F
where
    K: Clone + Send + Sync,
    F: Fn(K, FetchContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, SourceError>> + Send,
{
    fn fetch(&self, key: &K, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send {
        self(key.clone(), cx)
    }

    /// A closure names nothing for any key.
    fn identify_all(&self, part: &mut dyn FnMut(&str, &str)) {
        part(UNNAMED, "what the source asks for");
    }
}

/// Some of a registry's keys: those of one tenant, or of one client.
///
/// ```
/// use tokenflight::source::Group;
///
/// assert_eq!(Group::of("acme"), Group::of("acme"));
/// assert_ne!(Group::of("acme"), Group::of("other"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group(u64);

impl Group {
    /// The group with this name. Only a hash of the name is kept.
    pub fn of(name: impl Hash) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(name))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({:x})", self.0)
    }
}

/// Any source for keys, as one type.
pub(crate) struct BoxKeyed<K>(Arc<dyn Erased<K>>);

impl<K: Clone + Send + Sync + 'static> BoxKeyed<K> {
    pub(crate) fn new(source: impl KeyedSource<K>) -> Self {
        Self(Arc::new(source))
    }

    /// The future owns its inputs, and calls the source at the first poll.
    pub(crate) fn call(&self, key: &K, cx: FetchContext) -> Fetching {
        #[cfg(feature = "test-util")]
        if let Some(error) = crate::still::refused(&**cx.clock()) {
            return Box::pin(ready(Err(error)));
        }
        Arc::clone(&self.0).fetch(key.clone(), cx)
    }

    pub(crate) fn look(
        &self,
        key: &K,
        cx: FetchContext,
    ) -> Pin<Box<dyn Future<Output = Option<Token>> + Send>> {
        Arc::clone(&self.0).look(key.clone(), cx)
    }

    pub(crate) fn can_look(&self) -> bool {
        self.0.can_look()
    }

    pub(crate) fn finish(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Arc::clone(&self.0).finish()
    }

    pub(crate) fn group(&self, key: &K) -> Option<Group> {
        self.0.group(key)
    }

    pub(crate) fn client(&self, key: &K) -> Option<Group> {
        self.0.client(key)
    }
}

impl<K> Clone for BoxKeyed<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for BoxKeyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxKeyed")
    }
}

/// [`KeyedSource`] in a dyn-compatible form.
trait Erased<K>: Send + Sync {
    fn fetch(self: Arc<Self>, key: K, cx: FetchContext) -> Fetching;
    fn look(self: Arc<Self>, key: K, cx: FetchContext)
    -> Pin<Box<dyn Future<Output = Option<Token>> + Send>>;
    fn can_look(&self) -> bool;
    fn finish(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    fn group(&self, key: &K) -> Option<Group>;
    fn client(&self, key: &K) -> Option<Group>;
}

impl<K: Send + Sync + 'static, S: KeyedSource<K>> Erased<K> for S {
    fn fetch(self: Arc<Self>, key: K, cx: FetchContext) -> Fetching {
        Box::pin(async move { S::fetch(&self, &key, cx).await })
    }

    fn look(
        self: Arc<Self>,
        key: K,
        cx: FetchContext,
    ) -> Pin<Box<dyn Future<Output = Option<Token>> + Send>> {
        Box::pin(async move { S::look(&self, &key, cx).await })
    }

    fn can_look(&self) -> bool {
        S::can_look(self)
    }

    fn finish(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { S::finish(&self).await })
    }

    fn group(&self, key: &K) -> Option<Group> {
        S::group(self, key)
    }

    fn client(&self, key: &K) -> Option<Group> {
        S::client(self, key)
    }
}

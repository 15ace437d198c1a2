//! A grant as the source of many keys: one client, and a separate request for each key.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::resume_unwind;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Uri;

use crate::error::{BuildError, SourceError};
use crate::secret::origin::LastSecret;
use crate::source::{BoxSource, FetchContext, Group, KeyedSource, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::ServerClock;

use super::builder::ClientBuilder;
use super::client::Client;
use super::grant::{Grant, GrantBuilder, GrantSource, IntoClient};

/// A source of tokens for many keys by one grant, made by [`GrantBuilder::for_key`]. For a
/// [`TokenRegistry`](crate::registry::TokenRegistry).
pub struct KeyedGrant<G, K> {
    base: GrantBuilder<G>,
    request: Request<G, K>,
    group: Option<Grouping<K>>,
    known: Known,
}

type Request<G, K> = Box<dyn Fn(&K, GrantBuilder<G>) -> GrantBuilder<G, AnyClient> + Send + Sync>;
type Grouping<K> = Box<dyn Fn(&K) -> Group + Send + Sync>;

/// A client, or the settings of a client.
#[derive(Clone, Debug)]
pub enum AnyClient {
    /// A client that was built before.
    Client(Client),
    /// The settings of a client that is built for each request.
    Settings(Box<ClientBuilder>),
}

impl AnyClient {
    /// Whether it takes long to build.
    fn blocks(&self) -> bool {
        match self {
            Self::Client(_) => false,
            Self::Settings(settings) => settings.blocks(),
        }
    }
}

impl From<Client> for AnyClient {
    fn from(client: Client) -> Self {
        Self::Client(client)
    }
}

impl From<ClientBuilder> for AnyClient {
    fn from(settings: ClientBuilder) -> Self {
        Self::Settings(Box::new(settings))
    }
}

impl IntoClient for AnyClient {
    fn into_client(self) -> Result<Client, BuildError> {
        match self {
            Self::Client(client) => Ok(client),
            Self::Settings(settings) => settings.build(),
        }
    }

    fn names(&self) -> (String, String) {
        match self {
            Self::Client(client) => client.names(),
            Self::Settings(settings) => settings.names(),
        }
    }
}

impl<G, C> GrantBuilder<G, C> {
    /// The same request by another client: with its own id and secret, or at a tenant's own server. For use in
    /// [`for_key`](Self::for_key).
    ///
    /// You may pass the settings of a client with a token URL. The client is built once for each call. A client
    /// with only a secret costs nothing, and it uses the connections that all clients share. A client with files,
    /// with settings for the [HTTP client](ClientBuilder::http) or with a [certificate](ClientBuilder::certificate)
    /// is built on a thread for blocking work. The latter two have their own connections. If the server is found by
    /// discovery, or tokens are bound to a key, keep the built [`Client`], because it remembers what it has learnt
    /// about its server.
    pub fn by_client<D>(self, client: D) -> GrantBuilder<G, D> {
        let (_, settings, grant) = self.into_parts();
        GrantBuilder::of_parts(client, settings, grant)
    }
}

#[allow(private_bounds)] // The grants are this crate's own.
impl<G: Grant + Clone, C: IntoClient> GrantBuilder<G, C> {
    /// A source of tokens for many keys: `request` makes each key's request from the common one. Nothing is kept
    /// per key. The keys share the client, its connections, and its knowledge about its server.
    ///
    /// `request` is called for each call to the server, and when the registry asks for the client of a key.
    /// Therefore it should be quick.
    ///
    /// ```
    /// use tokenflight::oauth::Client;
    /// use tokenflight::registry::TokenRegistry;
    ///
    /// # actix_rt::System::new().block_on(async {
    /// let client = Client::builder("https://auth.example.com/token", "my-app").secret("s3cret").build()?;
    /// let source = client.client_credentials().for_key(|tenant: &String, request| {
    ///     request.scope(format!("{tenant}:read")).extra("tenant", tenant)
    /// })?;
    /// let tokens = TokenRegistry::builder(source).start()?;
    /// # let _ = tokens;
    /// # Ok::<(), tokenflight::BuildError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Tenants with their own clients and servers:
    ///
    /// ```
    /// use tokenflight::oauth::Client;
    /// # fn secret_of(tenant: &str) -> String { format!("secret-of-{tenant}") }
    ///
    /// let client = Client::builder("https://auth.example.com/token", "my-app").secret("s3cret").build()?;
    /// let source = client.client_credentials().scope("read").for_key(|tenant: &String, request| {
    ///     let url = format!("https://login.example.com/{tenant}/token");
    ///     request.by_client(Client::with_token_url(url, "my-app").secret(secret_of(tenant)))
    /// })?;
    /// # let _ = source;
    /// # Ok::<(), tokenflight::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// A setting that cannot work for any key. The error names the setting. A wrong setting of one key is a
    /// terminal error of that key's fetch, whose cause is the [`BuildError`].
    pub fn for_key<K, D>(
        self,
        request: impl Fn(&K, GrantBuilder<G>) -> GrantBuilder<G, D> + Send + Sync + 'static,
    ) -> Result<KeyedGrant<G, K>, BuildError>
    where
        D: Into<AnyClient>,
    {
        let (client, settings, grant) = self.into_parts();
        let client = client.into_client()?;
        grant.check(&client)?;
        // The scopes may be set per key.
        let common = super::GrantSettings { require_scopes: false, ..settings.clone() };
        common.checked(G::PARAMETERS, client.dpop_key().is_some())?;
        let request = Box::new(move |key: &K, base| {
            let (client, settings, grant) = request(key, base).into_parts();
            GrantBuilder::of_parts(client.into(), settings, grant)
        });
        Ok(KeyedGrant {
            base: GrantBuilder::of_parts(client, settings, grant),
            request,
            group: None,
            known: Known::default(),
        })
    }
}

impl<G, K> KeyedGrant<G, K> {
    /// The group of keys that share a part of the registry's calls: see [`KeyedSource::group`]. Default: each key
    /// is its own group.
    ///
    /// ```
    /// use tokenflight::oauth::Client;
    ///
    /// let client = Client::builder("https://auth.example.com/token", "my-app").secret("s3cret").build()?;
    /// // A key is a tenant and a scope. One tenant's many scopes do not delay the other tenants.
    /// let source = client
    ///     .client_credentials()
    ///     .for_key(|(tenant, scope): &(u32, String), request| request.audience(tenant.to_string()).scope(scope))?
    ///     .group_by(|(tenant, _)| *tenant);
    /// # let _ = source;
    /// # Ok::<(), tokenflight::BuildError>(())
    /// ```
    pub fn group_by<H: Hash>(mut self, group: impl Fn(&K) -> H + Send + Sync + 'static) -> Self {
        self.group = Some(Box::new(move |key| Group::of(group(key))));
        self
    }
}

#[allow(private_bounds)] // The grants are this crate's own.
impl<G: Grant + Clone, K> KeyedGrant<G, K> {
    fn request(&self, key: &K) -> GrantBuilder<G, AnyClient> {
        (self.request)(key, self.base.clone())
    }

    fn source(&self, key: &K) -> Result<GrantSource<G>, BuildError> {
        build(self.request(key), &self.known)
    }

    /// The same for a thread that must not block.
    async fn made(&self, key: &K) -> Result<GrantSource<G>, SourceError> {
        let request = self.request(key);
        if !request.parts().0.blocks() {
            return build(request, &self.known).map_err(SourceError::terminal);
        }
        let known = self.known.clone();
        match tokio::task::spawn_blocking(move || build(request, &known)).await {
            Ok(made) => made.map_err(SourceError::terminal),
            Err(error) => match error.try_into_panic() {
                // This is a panic of the user's closure.
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(SourceError::transient("the runtime shuts down")),
            },
        }
    }
}

/// With the knowledge of earlier calls about the server and the client.
fn build<G: Grant>(request: GrantBuilder<G, AnyClient>, known: &Known) -> Result<GrantSource<G>, BuildError> {
    let names = request.parts().0.names();
    Ok(request.build()?.with_known(known.clock(&names.1), &known.secret(&names), known.was_timed(&names)))
}

#[allow(private_bounds)] // The grants are this crate's own.
impl<G: Grant + Clone, K: Send + Sync + 'static> KeyedSource<K> for KeyedGrant<G, K> {
    async fn fetch(&self, key: &K, cx: FetchContext) -> Result<Token, SourceError> {
        self.made(key).await?.fetch(cx).await
    }

    fn group(&self, key: &K) -> Option<Group> {
        self.group.as_ref().map(|group| group(key))
    }

    /// Keys with the same id at the same server belong to the same client.
    fn client(&self, key: &K) -> Option<Group> {
        let request = self.request(key);
        let (client, ..) = request.parts();
        Some(Group::of(client.names()))
    }

    /// The sources on which it depends for all keys.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        let (client, _, grant) = self.base.parts();
        BoxSource::finish_all(grant.links().into_iter().chain(client.link()))
    }

    fn identify(&self, key: &K, part: &mut dyn FnMut(&str, &str)) {
        match self.source(key) {
            Ok(source) => source.identify(part),
            Err(_) => part(UNNAMED, "a request that cannot be made"),
        }
    }

    /// The client that the keys share decides. A key's own client is known only with the key.
    fn identify_all(&self, part: &mut dyn FnMut(&str, &str)) {
        self.base.parts().0.identify(part);
    }

    fn credential(&self, key: &K, part: &mut dyn FnMut(&[u8])) {
        if let Ok(source) = self.source(key) {
            source.credential(part);
        }
    }

    fn rebind(&self, key: &K, token: Token) -> Token {
        match self.source(key) {
            Ok(source) => source.rebind(token),
            Err(_) => token,
        }
    }

    async fn one(&self, key: &K) -> Result<Option<BoxSource>, SourceError> {
        self.made(key).await.map(|source| Some(BoxSource::new(source)))
    }
}

/// The knowledge that clients for one request keep for the next request.
#[derive(Clone, Default)]
struct Known(Arc<Mutex<Learnt>>);

#[derive(Default)]
struct Learnt {
    /// The servers' clocks, by the servers' authorities.
    clocks: HashMap<String, ServerClock>,
    /// The secrets that functions returned, by client and server. Therefore a fleet knows a refused secret.
    secrets: HashMap<Group, LastSecret>,
    /// Whether the last proof of a client contained a time, by client and server.
    timed: HashMap<Group, Arc<AtomicBool>>,
}

impl Known {
    fn clock(&self, server: &str) -> ServerClock {
        let uri = server.parse::<Uri>().ok();
        let authority = uri.as_ref().and_then(Uri::authority).map_or(server, |authority| authority.as_str());
        of(&mut self.learnt().clocks, authority.to_owned())
    }

    fn secret(&self, names: &(String, String)) -> LastSecret {
        of(&mut self.learnt().secrets, Group::of(names))
    }

    fn was_timed(&self, names: &(String, String)) -> Arc<AtomicBool> {
        of(&mut self.learnt().timed, Group::of(names))
    }

    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of names. A forgotten name costs one attempt.
fn of<N: Eq + Hash, T: Clone + Default>(known: &mut HashMap<N, T>, name: N) -> T {
    const MOST: usize = 1_000;
    if known.len() >= MOST && !known.contains_key(&name) {
        known.clear();
    }
    known.entry(name).or_default().clone()
}

impl<G, K> fmt::Debug for KeyedGrant<G, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedGrant").field("base", &self.base).finish_non_exhaustive()
    }
}

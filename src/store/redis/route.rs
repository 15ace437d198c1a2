//! The way to Redis: what makes a connection to the server, to the cluster, or to today's master.

use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterConfig};
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, PushInfo,
    RedisError, RedisFuture, RedisResult, TlsMode, Value,
};
use futures_util::future::select_ok;

use super::address::{Address, tcp_settings};
use tls::{trusted_by_both, trusting};

pub(super) enum Route {
    Server(Client),
    Cluster(ClusterClient),
    Sentinels(Sentinels),
}

/// Whom to ask for the master, anew for each connection.
pub(super) struct Sentinels {
    nodes: Vec<ConnectionInfo>,
    master: String,
    servers: ConnectionInfo,
    ca: Option<Vec<u8>>,
}

/// A connection. A clone is the same one.
#[derive(Clone)]
pub(super) enum Wire {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Route {
    /// Nothing is connected yet. `hear`: what a cluster's connections are told.
    pub(super) fn new(
        address: Address,
        ca: Option<Vec<u8>>,
        timeout: Duration,
        hear: impl Fn(PushInfo) + Clone + Send + Sync + 'static,
    ) -> RedisResult<Self> {
        Ok(match address {
            Address::Server(server) => Self::Server(open(server, ca)?),
            Address::Cluster(nodes) => {
                let is_tls = nodes.first().is_some_and(|node| needs_tls(node.addr()));
                let builder = ClusterClient::builder(nodes)
                    .connection_timeout(timeout)
                    .response_timeout(timeout)
                    // With redirections and all: the source waits no longer either.
                    .overall_response_timeout(Some(timeout))
                    .tcp_settings(tcp_settings())
                    .push_sender(move |push: PushInfo| {
                        hear(push);
                        Ok::<(), ()>(())
                    });
                Self::Cluster(trusting(builder, is_tls, ca).build()?)
            }
            Address::Sentinels { sentinels, master, servers } => {
                let sentinels = Sentinels { nodes: sentinels, master, servers, ca };
                // A setting that cannot work is an error now, and not at the first connection.
                for sentinel in &sentinels.nodes {
                    sentinels.client(sentinel)?;
                }
                Self::Sentinels(sentinels)
            }
        })
    }

    /// A cluster is connected to by the first command, a server here.
    pub(super) async fn connect(
        &self,
        timeout: Duration,
        hear: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<Wire> {
        let client = match self {
            Self::Server(client) => client.clone(),
            Self::Cluster(client) => {
                let pending = client.get_pending_async_connection_with_config(ClusterConfig::new());
                return Ok(Wire::Cluster(pending));
            }
            Self::Sentinels(sentinels) => sentinels.find(timeout).await?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_push_sender(move |push: PushInfo| {
                hear(push);
                Ok::<(), ()>(())
            });
        client.get_multiplexed_async_connection_with_config(&config).await.map(Wire::Server)
    }
}

impl Sentinels {
    /// All sentinels are asked at once, so that one that is silent delays nobody. The first that names a server
    /// which says itself that it is the master is believed. They may know none for a moment, even without a
    /// failover, so they are asked again while there is time.
    async fn find(&self, timeout: Duration) -> RedisResult<Client> {
        const PAUSE: Duration = Duration::from_millis(50);
        let mut last = RedisError::from((ErrorKind::Client, "the sentinels do not answer in time"));
        let asking = async {
            loop {
                match self.ask().await {
                    Ok(client) => return client,
                    Err(error) => last = error,
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let found = tokio::time::timeout(timeout, asking).await;
        found.map_err(|_| last)
    }

    async fn ask(&self) -> RedisResult<Client> {
        let asked = self.nodes.iter().map(|sentinel| {
            Box::pin(async move {
                let mut client = self.client(sentinel)?;
                client.async_get_client().await
            })
        });
        select_ok(asked).await.map(|(client, _)| client)
    }

    fn client(&self, sentinel: &ConnectionInfo) -> RedisResult<SentinelClient> {
        let is_tls = needs_tls(sentinel.addr());
        let (servers, login) = (self.servers.redis_settings(), sentinel.redis_settings());
        let mut builder =
            SentinelClientBuilder::new([sentinel.addr().clone()], &self.master, SentinelServerType::Master)?
                .set_client_to_redis_tcp_settings(tcp_settings())
                .set_client_to_sentinel_tcp_settings(tcp_settings())
                .set_client_to_redis_db(servers.db())
                .set_client_to_redis_protocol(servers.protocol());
        if is_tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            builder = trusted_by_both(builder, self.ca.clone());
        }
        if let Some(username) = servers.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = servers.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = login.username() {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = login.password() {
            builder = builder.set_client_to_sentinel_password(password);
        }
        builder.build()
    }
}

impl Wire {
    /// Redis has confirmed it when this returns.
    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Server(connection) => connection.subscribe(channels).await,
            Self::Cluster(connection) => connection.subscribe(channels).await,
        }
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

fn needs_tls(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { .. })
}

fn open(info: ConnectionInfo, ca: Option<Vec<u8>>) -> RedisResult<Client> {
    match ca {
        Some(pem) => tls::client(info, pem),
        None => Client::open(info),
    }
}

#[cfg(feature = "rustls")]
mod tls {
    use ::redis::cluster::ClusterClientBuilder;
    use ::redis::sentinel::SentinelClientBuilder;
    use ::redis::{Client, ConnectionInfo, RedisResult, TlsCertificates};

    fn certificates(pem: Vec<u8>) -> TlsCertificates {
        TlsCertificates { client_tls: None, root_cert: Some(pem) }
    }

    pub(super) fn client(info: ConnectionInfo, pem: Vec<u8>) -> RedisResult<Client> {
        Client::build_with_tls(info, certificates(pem))
    }

    pub(super) fn trusting(
        builder: ClusterClientBuilder,
        is_tls: bool,
        ca: Option<Vec<u8>>,
    ) -> ClusterClientBuilder {
        match ca {
            Some(pem) if is_tls => builder.certs(certificates(pem)),
            _ => builder,
        }
    }

    pub(super) fn trusted_by_both(
        builder: SentinelClientBuilder,
        ca: Option<Vec<u8>>,
    ) -> SentinelClientBuilder {
        let Some(pem) = ca.map(certificates) else { return builder };
        builder.set_client_to_sentinel_certificates(pem.clone()).set_client_to_redis_certificates(pem)
    }
}

/// Without TLS a `rediss` URL is refused by the client, and no certificate can be set.
#[cfg(not(feature = "rustls"))]
mod tls {
    use ::redis::cluster::ClusterClientBuilder;
    use ::redis::sentinel::SentinelClientBuilder;
    use ::redis::{Client, ConnectionInfo, RedisResult};

    pub(super) fn client(info: ConnectionInfo, _: Vec<u8>) -> RedisResult<Client> {
        Client::open(info)
    }

    pub(super) fn trusting(
        builder: ClusterClientBuilder,
        _: bool,
        _: Option<Vec<u8>>,
    ) -> ClusterClientBuilder {
        builder
    }

    pub(super) fn trusted_by_both(
        builder: SentinelClientBuilder,
        _: Option<Vec<u8>>,
    ) -> SentinelClientBuilder {
        builder
    }
}

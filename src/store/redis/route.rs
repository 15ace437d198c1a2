//! The route to Redis: it connects to the server, to the cluster, or to the present master.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterConfig};
use ::redis::cluster_async::ClusterConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, Pipeline, PushInfo, RedisError,
    RedisFuture, RedisResult, Value,
};

use super::address::{Address, tcp_settings};
use super::channels::Channels;
use super::credentials::{Login, refused};
use super::sentinels::Sentinels;
use tls::trusting;

pub(super) struct Route {
    to: To,
    login: Login,
    ca: Option<Vec<u8>>,
}

enum To {
    Server(ConnectionInfo),
    /// Some of its nodes.
    Cluster(Vec<ConnectionInfo>),
    /// The sentinels, and the login of the servers that they watch.
    Sentinels(Sentinels, ConnectionInfo),
}

/// A connection. A clone is the same connection.
#[derive(Clone)]
pub(super) enum Wire {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Route {
    /// This does not connect yet. A setting that cannot work is an error now, and not at the first connection.
    pub(super) fn new(
        address: Address,
        login: Login,
        ca: Option<Vec<u8>>,
        allow_plaintext: bool,
    ) -> RedisResult<Self> {
        let to = match address {
            Address::Server(server) => {
                open(server.clone(), ca.clone())?;
                To::Server(server)
            }
            Address::Cluster(nodes) => {
                trusting(ClusterClient::builder(nodes.clone()), is_tls(&nodes), ca.clone()).build()?;
                To::Cluster(nodes)
            }
            Address::Sentinels { sentinels, master, servers } => {
                for sentinel in &sentinels {
                    open(sentinel.clone(), ca.clone())?;
                }
                To::Sentinels(
                    Sentinels { nodes: sentinels, master, ca: ca.clone(), allow_plaintext },
                    servers,
                )
            }
        };
        Ok(Self { to, login, ca })
    }

    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    /// A cluster connects at the first command, a server connects here. If the server refuses a requested login, a
    /// newer login may exist by now. `channels` gets the push messages of a cluster's connections, `hear` those of
    /// a server's connection.
    pub(super) async fn connect(
        &self,
        timeout: Duration,
        channels: &Arc<Channels>,
        hear: impl Fn(PushInfo) + Clone + Send + Sync + 'static,
    ) -> RedisResult<Wire> {
        let first = self.connect_once(timeout, channels, hear.clone()).await;
        let is_refused = |error: &RedisError| self.login.is_asked() && is_login_refused(error);
        if !first.as_ref().is_err_and(is_refused) {
            return first;
        }
        let second = self.connect_once(timeout, channels, hear).await;
        // As an error after which there is no third try.
        second.map_err(|error| if is_refused(&error) { refused(error.to_string()) } else { error })
    }

    async fn connect_once(
        &self,
        timeout: Duration,
        channels: &Arc<Channels>,
        hear: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<Wire> {
        let credentials = self.login.ask().await?;
        let signed = |server: &ConnectionInfo| {
            credentials.as_ref().map_or_else(|| server.clone(), |credentials| credentials.signed(server))
        };
        let server = match &self.to {
            To::Server(server) => signed(server),
            To::Cluster(nodes) => {
                let nodes = nodes.iter().map(signed).collect();
                return self.cluster(nodes, timeout, channels);
            }
            To::Sentinels(sentinels, servers) => sentinels.find(&signed(servers), timeout).await?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_push_sender(move |push: PushInfo| {
                hear(push);
                Ok::<(), ()>(())
            });
        let client = open(server, self.ca.clone())?;
        client.get_multiplexed_async_connection_with_config(&config).await.map(Wire::Server)
    }

    fn cluster(
        &self,
        nodes: Vec<ConnectionInfo>,
        timeout: Duration,
        channels: &Arc<Channels>,
    ) -> RedisResult<Wire> {
        let is_tls = is_tls(&nodes);
        let hears = Arc::clone(channels);
        let builder = ClusterClient::builder(nodes)
            .connection_timeout(timeout)
            .response_timeout(timeout)
            // This includes redirections: the source does not wait longer either.
            .overall_response_timeout(Some(timeout))
            .tcp_settings(tcp_settings())
            .push_sender(move |push: PushInfo| {
                hears.hear(&push);
                Ok::<(), ()>(())
            });
        let client = trusting(builder, is_tls, self.ca.clone()).build()?;
        Ok(Wire::Cluster(client.get_pending_async_connection_with_config(ClusterConfig::new())))
    }
}

/// The server does not know the login, or no longer knows it: the password is wrong, or was changed.
pub(super) fn is_login_refused(error: &RedisError) -> bool {
    let answers = error.clone().into_server_errors();
    answers.is_some_and(|answers| {
        answers.iter().any(|(_, answer)| matches!(answer.code(), "NOAUTH" | "WRONGPASS"))
    })
}

impl Wire {
    /// When this returns, Redis has confirmed it.
    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Server(connection) => connection.subscribe(channels).await,
            Self::Cluster(connection) => connection.subscribe(channels).await,
        }
    }

    /// When this returns, Redis has confirmed it.
    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Server(connection) => connection.unsubscribe(channels).await,
            Self::Cluster(connection) => connection.unsubscribe(channels).await,
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

/// All hosts of a URL have the same scheme.
fn is_tls(nodes: &[ConnectionInfo]) -> bool {
    nodes.first().is_some_and(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }))
}

pub(super) fn open(info: ConnectionInfo, ca: Option<Vec<u8>>) -> RedisResult<Client> {
    match ca {
        Some(pem) => tls::client(info, pem),
        None => Client::open(info),
    }
}

#[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
mod tls {
    use ::redis::cluster::ClusterClientBuilder;
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
}

/// Without TLS the client refuses a `rediss` URL, and no certificate can be set.
#[cfg(not(any(feature = "rustls", feature = "rustls-no-provider")))]
mod tls {
    use ::redis::cluster::ClusterClientBuilder;
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
}

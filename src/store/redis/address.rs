//! The address of Redis, from a URL: one server, a cluster, or the master that the sentinels name.

use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::io::tcp::socket2::TcpKeepalive;
use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError};
use zeroize::Zeroizing;

pub(super) enum Address {
    Server(ConnectionInfo),
    /// Some of its nodes. They name the other nodes.
    Cluster(Vec<ConnectionInfo>),
    Sentinels {
        /// With the login of the sentinels, which differs from that of the servers.
        sentinels: Vec<ConnectionInfo>,
        /// The master's name at the sentinels.
        master: String,
        /// Login and database of the servers. Its address is that of a sentinel, and is not used.
        servers: ConnectionInfo,
    },
}

impl Address {
    /// Parses a URL. The error does not contain the URL, because the URL may contain a password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let Some((scheme, kind)) = scheme.split_once('+').filter(|(_, kind)| *kind != "unix") else {
            return server(url).map(Self::Server);
        };
        if !matches!(scheme, "redis" | "rediss") {
            return Err("cannot be used: its scheme begins with neither `redis` nor `rediss`".into());
        }
        let parts = Parts::of(scheme, rest)?;
        match kind {
            "cluster" => parts.cluster(),
            "sentinel" => parts.sentinels(),
            _ => Err(format!("cannot be used: after `{scheme}+` comes `cluster`, `sentinel` or `unix`")),
        }
    }
}

impl Address {
    /// Each address in the URL, with its login.
    pub(super) fn named(&self) -> impl Iterator<Item = &ConnectionInfo> {
        let (nodes, servers) = match self {
            Self::Server(server) => (std::slice::from_ref(server), None),
            Self::Cluster(nodes) => (&nodes[..], None),
            Self::Sentinels { sentinels, servers, .. } => (&sentinels[..], Some(servers)),
        };
        nodes.iter().chain(servers)
    }

    /// All hosts of a URL have the same scheme.
    pub(super) fn is_tls(&self) -> bool {
        self.named().all(|info| matches!(info.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// Whether the URL has the password of the servers. (The sentinels' password is another.)
    pub(super) fn has_password(&self) -> bool {
        let servers = match self {
            Self::Server(server) | Self::Sentinels { servers: server, .. } => Some(server),
            Self::Cluster(nodes) => nodes.first(),
        };
        servers.is_some_and(has_password)
    }

    /// Whether a password would cross a network in clear. `is_asked`: there is a password, though not in the URL.
    pub(super) fn tells_password(&self, is_asked: bool) -> bool {
        let has_password = is_asked || self.named().any(has_password);
        has_password && self.named().any(|info| is_read_on_the_way(info.addr()))
    }
}

fn has_password(info: &ConnectionInfo) -> bool {
    info.redis_settings().password().is_some()
}

/// Whether data to this address crosses a network in clear.
pub(super) fn is_read_on_the_way(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) => {
            let is_loopback = host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            !is_loopback && !host.eq_ignore_ascii_case("localhost")
        }
        _ => false,
    }
}

/// A URL with several hosts: `scheme://login@host,host/path?query`. Each host is parsed as its own URL. Therefore
/// escapes, brackets and ports have their usual meaning.
struct Parts<'a> {
    scheme: &'a str,
    /// With the `@`, or empty.
    login: &'a str,
    hosts: Vec<&'a str>,
    path: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    fn of(scheme: &'a str, rest: &'a str) -> Result<Self, String> {
        if rest.contains('#') {
            return Err("cannot be used: `#` has no meaning with several hosts".into());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let query = query.split('&').filter(|pair| !pair.is_empty());
        Ok(Self {
            scheme,
            login,
            hosts: hosts.split(',').collect(),
            path: path.split('/').filter(|part| !part.is_empty()).collect(),
            query: query.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect(),
        })
    }

    fn cluster(self) -> Result<Address, String> {
        if !self.path.is_empty() || !self.query.is_empty() {
            return Err("cannot be used: a cluster's is `redis+cluster://login@host:port,host:port`".into());
        }
        self.nodes(self.login, 6379, "").map(Address::Cluster)
    }

    fn sentinels(self) -> Result<Address, String> {
        let (master, database) = match self.path[..] {
            [master] => (master, "0"),
            [master, database] => (master, database),
            _ => {
                let form = "redis+sentinel://login@host:port,host:port/master/database";
                return Err(format!("cannot be used: for sentinels it is `{form}`"));
            }
        };
        let (mut username, mut password) = ("", "");
        for (name, value) in &self.query {
            match *name {
                "sentinel_username" => username = value,
                "sentinel_password" => password = value,
                // Not quoted: by a typing error it may contain a password.
                _ => return Err("has a parameter besides `sentinel_username` and `sentinel_password`".into()),
            }
        }
        let login = if password.is_empty() { String::new() } else { format!("{username}:{password}@") };
        let login = Zeroizing::new(login);
        let sentinels = self.nodes(&login, 26379, "")?;
        let mut servers = self.nodes(self.login, 26379, database)?;
        Ok(Address::Sentinels { sentinels, master: master.to_owned(), servers: servers.swap_remove(0) })
    }

    /// At least one, or an error.
    fn nodes(&self, login: &str, default_port: u16, database: &str) -> Result<Vec<ConnectionInfo>, String> {
        let node = |host: &&str| {
            if host.is_empty() {
                return Err("cannot be used: a host is missing".to_owned());
            }
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let port = if has_port { String::new() } else { format!(":{default_port}") };
            server(&Zeroizing::new(format!("{}://{login}{host}{port}/{database}", self.scheme)))
        };
        self.hosts.iter().map(node).collect()
    }
}

fn server(url: &str) -> Result<ConnectionInfo, String> {
    let wrong = |error: RedisError| format!("cannot be used: {}", error.category());
    let info = url.into_connection_info().map_err(wrong)?;
    // News come on the same connection, which needs RESP3.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

/// For each connection. A load balancer or firewall may drop an idle connection, and silently discards later data.
/// Probes keep the connection alive there, and show the kernel when the other end is gone.
pub(super) fn tcp_settings() -> TcpSettings {
    const IDLE: Duration = Duration::from_secs(15);
    const PROBE: Duration = Duration::from_secs(5);
    let settings =
        TcpSettings::default().set_keepalive(TcpKeepalive::new().with_time(IDLE).with_interval(PROBE));
    // How long sent data may stay unconfirmed. Probes count too, so three of them end the connection.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(PROBE * 3);
    settings
}

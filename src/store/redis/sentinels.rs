//! The master that the sentinels name.

use std::collections::HashMap;
use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value,
    cmd,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::address::is_read_on_the_way;
use super::credentials::refused;
use super::route::{is_login_refused, open};

/// The sentinels, which are asked for the master for each new connection.
pub(super) struct Sentinels {
    /// With the login of the sentinels.
    pub(super) nodes: Vec<ConnectionInfo>,
    pub(super) master: String,
    pub(super) ca: Option<Vec<u8>>,
    pub(super) allow_plaintext: bool,
}

/// Host and port.
type Named = (String, u16);

/// Adds the name of the sentinel, because the error itself only speaks of a connection.
fn of_a_sentinel(error: RedisError) -> RedisError {
    if !error.is_io_error() {
        return error;
    }
    RedisError::from((error.kind(), "a sentinel cannot be asked", error.to_string()))
}

impl Sentinels {
    /// The master. `servers`: the login of the servers.
    ///
    /// All sentinels are asked at once, and each again after a pause. Therefore a sentinel that is silent or that
    /// knows the old master delays nothing. A lying sentinel must not get the servers' password sent to its own
    /// server. Therefore, of three or more, a majority must name the same server. A majority of one or two means
    /// nothing, so their first answer is accepted. The named server must confirm that it is the master.
    pub(super) async fn find(
        &self,
        servers: &ConnectionInfo,
        timeout: Duration,
    ) -> RedisResult<ConnectionInfo> {
        let mut last = RedisError::from((ErrorKind::Client, "the sentinels do not answer in time"));
        let counting = self.count(servers, timeout, &mut last);
        // Slightly earlier than the operation's own end, so that the error gives this reason.
        let found = tokio::time::timeout(timeout / 8 * 7, counting).await;
        found.unwrap_or_else(|_| Err(last))
    }

    async fn count(
        &self,
        servers: &ConnectionInfo,
        timeout: Duration,
        last: &mut RedisError,
    ) -> RedisResult<ConnectionInfo> {
        const PAUSE: Duration = Duration::from_millis(50);
        let needed = if self.nodes.len() < 3 { 1 } else { self.nodes.len() / 2 + 1 };
        let ask = async |number: usize, pause: Duration| {
            tokio::time::sleep(pause).await;
            (number, self.named_by(&self.nodes[number], timeout).await)
        };
        let mut asked: FuturesUnordered<_> =
            (0..self.nodes.len()).map(|number| ask(number, Duration::ZERO)).collect();
        let mut votes: Vec<Option<Named>> = vec![None; self.nodes.len()];
        while let Some((number, answer)) = asked.next().await {
            asked.push(ask(number, PAUSE));
            let vote = match answer {
                Ok(named) => Some(named),
                Err(error) => {
                    *last = of_a_sentinel(error);
                    None
                }
            };
            votes[number].clone_from(&vote);
            let Some(named) = vote else { continue };
            if votes.iter().filter(|vote| vote.as_ref() == Some(&named)).count() < needed {
                if votes.iter().flatten().any(|other| *other != named) {
                    *last = refused("the sentinels name different masters, and no majority names one".into());
                }
                continue;
            }
            let server = self.server(servers, &named)?;
            match self.is_master(&server, timeout).await {
                Ok(()) => return Ok(server),
                Err(error) if is_login_refused(&error) => return Err(error),
                Err(error) => *last = error,
            }
            // The vote is taken again: the sentinel may name another server now.
            votes.iter_mut().filter(|vote| vote.as_ref() == Some(&named)).for_each(|vote| *vote = None);
        }
        Err((ErrorKind::EmptySentinelList, "the URL names no sentinel").into())
    }

    /// Sentinels with the right to `SENTINEL MASTERS` need no other right.
    async fn named_by(&self, sentinel: &ConnectionInfo, timeout: Duration) -> RedisResult<Named> {
        let mut asks = cmd("SENTINEL");
        asks.arg("MASTERS");
        let masters: Vec<HashMap<String, String>> = self.ask(sentinel, &asks, timeout).await?;
        let unknown = || {
            let text = "the sentinel knows no such master, or considers it down";
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, text))
        };
        let named = |master: &HashMap<String, String>| {
            let flags = master.get("flags")?;
            let is_up = flags.contains("master") && !flags.contains("s_down") && !flags.contains("o_down");
            let named = (master.get("ip")?.clone(), master.get("port")?.parse().ok()?);
            (is_up && *master.get("name")? == self.master).then_some(named)
        };
        masters.iter().find_map(named).ok_or_else(unknown)
    }

    /// The named server, with its login. A sentinel on this machine may name a server on another machine.
    fn server(&self, servers: &ConnectionInfo, (host, port): &Named) -> RedisResult<ConnectionInfo> {
        let address = match servers.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let has_password = servers.redis_settings().password().is_some();
        if has_password && !self.allow_plaintext && is_read_on_the_way(&address) {
            let text = "the sentinels name a master on another host, and the password would be sent in clear: begin \
                        the URL with `rediss`, or say `allow_plaintext`";
            return Err(refused(text.into()));
        }
        Ok(servers.clone().set_addr(address))
    }

    async fn is_master(&self, server: &ConnectionInfo, timeout: Duration) -> RedisResult<()> {
        let role: Vec<Value> = self.ask(server, &cmd("ROLE"), timeout).await?;
        let is_master = match role.first() {
            Some(Value::BulkString(role)) => role == b"master",
            Some(Value::SimpleString(role)) => role == "master",
            _ => false,
        };
        let denies = || {
            let text = "the server that the sentinels name does not say that it is the master";
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, text))
        };
        is_master.then_some(()).ok_or_else(denies)
    }

    /// One command, on a separate connection.
    async fn ask<T: ::redis::FromRedisValue>(
        &self,
        info: &ConnectionInfo,
        question: &::redis::Cmd,
        timeout: Duration,
    ) -> RedisResult<T> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        let client: Client = open(info.clone(), self.ca.clone())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        question.query_async(&mut connection).await
    }
}

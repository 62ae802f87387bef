//! Connections to a store: one that is shared by all requests and pipelines what they ask, to a server or to the nodes of a
//! cluster.
//!
//! It connects and asks; when, how long to wait and what a failure means is for [`super::shared`].

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
};

use super::address::{Address, Place};
use super::script::{self, Step};
use crate::limit::{BackendError, TakeRequest};

/// Questions that wait to be written at once.
const QUEUE: usize = 1024;
/// One node of a cluster, one handshake.
const CONNECT: Duration = Duration::from_secs(1);

/// A connection that is there.
#[derive(Clone)]
pub enum Link {
    /// To a server.
    Server(MultiplexedConnection),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Link::Server(_) => "Server(..)",
            Link::Cluster(_) => "Cluster(..)",
        })
    }
}

impl Link {
    /// Connects, logs in and chooses the database.
    ///
    /// # Errors
    /// Whatever stands in the way; its text has no password.
    pub async fn connect(address: &Address, authorities: Option<&[u8]>) -> RedisResult<Link> {
        let certificates = TlsCertificates { client_tls: None, root_cert: authorities.map(<[u8]>::to_vec) };
        match &address.place {
            Place::Server => {
                let infos = infos(address)?;
                let info = infos.into_iter().next().ok_or_else(nowhere)?;
                let client = if address.tls {
                    Client::build_with_tls(info, certificates)?
                } else {
                    Client::open(info)?
                };
                let connection = client.get_multiplexed_async_connection_with_config(&settings()).await?;
                Ok(Link::Server(connection))
            }
            Place::Cluster => {
                // No time limit and no second try here: both are the store's own.
                let mut builder = ClusterClientBuilder::new(infos(address)?)
                    .connection_timeout(CONNECT)
                    .response_timeout(CONNECT)
                    .overall_response_timeout(Some(CONNECT))
                    .tcp_settings(at_once())
                    .retries(1)
                    .min_retry_wait(1)
                    .max_retry_wait(2);
                if address.tls {
                    builder = builder.tls(TlsMode::Secure).certs(certificates);
                }
                Ok(Link::Cluster(builder.build()?.get_async_connection().await?))
            }
            Place::Sentinel(master) => {
                let sentinels = address.hosts.iter().map(|host| to(host, address.tls));
                let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?;
                builder = builder
                    .set_client_to_redis_db(i64::from(address.database))
                    .set_client_to_redis_tcp_settings(at_once());
                if let Some(user) = &address.user {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = &address.password {
                    builder = builder.set_client_to_redis_password(password);
                }
                if address.tls {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                let mut client = builder.build()?;
                Ok(Link::Server(client.get_async_connection_with_config(&settings()).await?))
            }
        }
    }

    /// Whether keys of different tags may be on different nodes, so that no script can have both.
    pub const fn is_split(&self) -> bool {
        match self {
            Link::Server(_) => false,
            Link::Cluster(_) => true,
        }
    }

    /// Runs the script, sending its text only to a server that does not have it.
    ///
    /// # Errors
    /// There is no answer, or it is an error.
    pub async fn run(
        &self,
        digest: &str,
        prefix: &str,
        step: Step,
        asks: &[TakeRequest<'_>],
    ) -> RedisResult<Value> {
        let command = |name, script| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(asks.len());
            for ask in asks {
                command.arg(script::name(prefix, ask));
            }
            for word in script::step(step)
                .iter()
                .chain(asks.iter().flat_map(script::numbers).collect::<Vec<_>>().iter())
            {
                command.arg(word);
            }
            command
        };
        match self.ask(&command("EVALSHA", digest)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(&command("EVAL", script::TEXT)).await
            }
            other => other,
        }
    }

    /// Removes keys, each by itself: in a cluster they have different homes.
    ///
    /// # Errors
    /// There is no answer, or it is an error.
    pub async fn remove(&self, prefix: &str, asks: &[TakeRequest<'_>]) -> RedisResult<()> {
        for ask in asks {
            let mut command = redis::cmd("DEL");
            command.arg(script::name(prefix, ask));
            self.ask(&command).await?;
        }
        Ok(())
    }

    async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        // Both are handles to a task that writes and reads.
        match self {
            Link::Server(connection) => connection.clone().req_packed_command(command).await,
            Link::Cluster(connection) => connection.clone().req_packed_command(command).await,
        }
        .and_then(Value::extract_error)
    }
}

/// What this error says about the store.
pub fn failure(error: &RedisError) -> BackendError {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
            BackendError::Unreachable
        }
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
            BackendError::ErrorReply
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => BackendError::InvalidReply,
        _ if error.is_timeout() => BackendError::Timeout,
        _ => BackendError::Unreachable,
    }
}

fn settings() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
}

/// A question is sent when it is asked.
fn at_once() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn nowhere() -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "there is no host"))
}

fn to((host, port): &(String, u16), tls: bool) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.clone(), *port)
    }
}

fn infos(address: &Address) -> RedisResult<Vec<redis::ConnectionInfo>> {
    let mut login =
        RedisConnectionInfo::default().set_db(i64::from(address.database)).set_skip_set_lib_name();
    if let Some(user) = &address.user {
        login = login.set_username(user);
    }
    if let Some(password) = &address.password {
        login = login.set_password(password);
    }
    let info = |host| {
        let info = to(host, address.tls).into_connection_info()?;
        Ok(info.set_redis_settings(login.clone()).set_tcp_settings(at_once()))
    };
    address.hosts.iter().map(info).collect()
}

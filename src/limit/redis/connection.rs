//! Connections to a store: one that is shared by all requests and pipelines what they ask, to a server or to the nodes of a
//! cluster.
//!
//! It connects and asks; when, how long to wait and what a failure means is for [`super::redis_backend`].

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

use super::address::{Address, Topology};
use super::script::{self, ScriptOperation};
use crate::limit::{BackendError, TakeRequest};

/// Questions that wait to be written at once.
const PIPELINE_BUFFER: usize = 1024;
/// One node of a cluster, one handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is there.
#[derive(Clone)]
pub enum RedisConnection {
    /// To a server.
    Server(MultiplexedConnection),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RedisConnection::Server(_) => "Server(..)",
            RedisConnection::Cluster(_) => "Cluster(..)",
        })
    }
}

impl RedisConnection {
    /// Connects, logs in and chooses the database.
    ///
    /// # Errors
    /// Whatever stands in the way; its text has no password.
    pub async fn connect(address: &Address, ca_pem: Option<&[u8]>) -> RedisResult<RedisConnection> {
        let certificates = TlsCertificates { client_tls: None, root_cert: ca_pem.map(<[u8]>::to_vec) };
        match &address.topology {
            Topology::Server => {
                let infos = connection_infos(address)?;
                let info = infos.into_iter().next().ok_or_else(no_host_error)?;
                let client = if address.tls {
                    Client::build_with_tls(info, certificates)?
                } else {
                    Client::open(info)?
                };
                let connection =
                    client.get_multiplexed_async_connection_with_config(&connection_config()).await?;
                Ok(RedisConnection::Server(connection))
            }
            Topology::Cluster => {
                // No time limit and no second try here: both are the store's own.
                let mut builder = ClusterClientBuilder::new(connection_infos(address)?)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(CONNECT_TIMEOUT)
                    .overall_response_timeout(Some(CONNECT_TIMEOUT))
                    .tcp_settings(nodelay_settings())
                    .retries(1)
                    .min_retry_wait(1)
                    .max_retry_wait(2);
                if address.tls {
                    builder = builder.tls(TlsMode::Secure).certs(certificates);
                }
                Ok(RedisConnection::Cluster(builder.build()?.get_async_connection().await?))
            }
            Topology::Sentinel(master) => {
                let sentinels = address.hosts.iter().map(|host| connection_addr(host, address.tls));
                let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?;
                builder = builder
                    .set_client_to_redis_db(i64::from(address.database))
                    .set_client_to_redis_tcp_settings(nodelay_settings());
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
                Ok(RedisConnection::Server(
                    client.get_async_connection_with_config(&connection_config()).await?,
                ))
            }
        }
    }

    /// Whether keys of different tags may be on different nodes, so that no script can have both.
    pub const fn is_cluster(&self) -> bool {
        match self {
            RedisConnection::Server(_) => false,
            RedisConnection::Cluster(_) => true,
        }
    }

    /// Runs the script, sending its text only to a server that does not have it.
    ///
    /// # Errors
    /// There is no answer, or it is an error.
    pub async fn run_script(
        &self,
        digest: &str,
        prefix: &str,
        operation: ScriptOperation,
        requests: &[TakeRequest<'_>],
    ) -> RedisResult<Value> {
        let command = |name, script| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(requests.len());
            for ask in requests {
                command.arg(script::key_name(prefix, ask));
            }
            for arg in script::operation_args(operation)
                .iter()
                .chain(requests.iter().flat_map(script::key_args).collect::<Vec<_>>().iter())
            {
                command.arg(arg);
            }
            command
        };
        match self.send(&command("EVALSHA", digest)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(&command("EVAL", script::SOURCE)).await
            }
            other => other,
        }
    }

    /// Removes keys, each by itself: in a cluster they have different homes.
    ///
    /// # Errors
    /// There is no answer, or it is an error.
    pub async fn delete(&self, prefix: &str, requests: &[TakeRequest<'_>]) -> RedisResult<()> {
        for ask in requests {
            let mut command = redis::cmd("DEL");
            command.arg(script::key_name(prefix, ask));
            self.send(&command).await?;
        }
        Ok(())
    }

    async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        // Both are handles to a task that writes and reads.
        match self {
            RedisConnection::Server(connection) => connection.clone().req_packed_command(command).await,
            RedisConnection::Cluster(connection) => connection.clone().req_packed_command(command).await,
        }
        .and_then(Value::extract_error)
    }
}

/// What this error says about the store.
pub fn classify_error(error: &RedisError) -> BackendError {
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

fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE_BUFFER)
}

/// A question is sent when it is asked.
fn nodelay_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn no_host_error() -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "there is no host"))
}

fn connection_addr((host, port): &(String, u16), tls: bool) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.clone(), *port)
    }
}

fn connection_infos(address: &Address) -> RedisResult<Vec<redis::ConnectionInfo>> {
    let mut login =
        RedisConnectionInfo::default().set_db(i64::from(address.database)).set_skip_set_lib_name();
    if let Some(user) = &address.user {
        login = login.set_username(user);
    }
    if let Some(password) = &address.password {
        login = login.set_password(password);
    }
    let info = |host| {
        let info = connection_addr(host, address.tls).into_connection_info()?;
        Ok(info.set_redis_settings(login.clone()).set_tcp_settings(nodelay_settings()))
    };
    address.hosts.iter().map(info).collect()
}

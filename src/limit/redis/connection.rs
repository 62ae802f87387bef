//! Connections to a server or to the nodes of a cluster. All requests share and pipeline one connection per node.
//!
//! [`super::redis_backend`] decides when to connect, applies timeouts and handles failures.

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
use crate::limit::{BackendError, DebitRequest};

/// Commands that may wait to be written.
const PIPELINE_BUFFER: usize = 1024;
/// Timeout for connecting to one node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection.
#[derive(Clone)]
pub enum RedisConnection {
    /// To a single server.
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
    /// Connects, authenticates and selects the database.
    ///
    /// # Errors
    /// The error of the client library. Its text contains no password.
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
                // Minimal timeouts and retries: the backend has its own.
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

    /// Whether keys with different hash tags may be on different nodes, so that one script call cannot use both.
    pub(crate) const fn is_cluster(&self) -> bool {
        match self {
            RedisConnection::Server(_) => false,
            RedisConnection::Cluster(_) => true,
        }
    }

    /// Runs the script by its digest, and uploads it if the server does not have it.
    ///
    /// # Errors
    /// The connection failed, or the server replied with an error.
    pub async fn run_script(
        &self,
        digest: &str,
        prefix: &str,
        operation: ScriptOperation,
        requests: &[DebitRequest<'_>],
    ) -> RedisResult<Value> {
        let command = |name, script| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(requests.len());
            for request in requests {
                command.arg(script::key_name(prefix, request));
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

    /// Deletes keys with one command each, because in a cluster they may be on different nodes.
    ///
    /// # Errors
    /// The connection failed, or the server replied with an error.
    pub async fn delete(&self, prefix: &str, requests: &[DebitRequest<'_>]) -> RedisResult<()> {
        for request in requests {
            let mut command = redis::cmd("DEL");
            command.arg(script::key_name(prefix, request));
            self.send(&command).await?;
        }
        Ok(())
    }

    async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        // Cloning is cheap: both are handles to a task that owns the connection.
        match self {
            RedisConnection::Server(connection) => connection.clone().req_packed_command(command).await,
            RedisConnection::Cluster(connection) => connection.clone().req_packed_command(command).await,
        }
        .and_then(Value::extract_error)
    }
}

/// Classifies an error of the client library.
pub(crate) fn classify_error(error: &RedisError) -> BackendError {
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

/// Disables Nagle's algorithm, so that commands are sent immediately.
fn nodelay_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn no_host_error() -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "address without a host"))
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

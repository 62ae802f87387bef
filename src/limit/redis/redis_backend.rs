//! The Redis backend: debits keys within the timeout while the server is available.
//!
//! One task maintains the connection ([`RedisBackend::start_reconnecting`]): it connects, checks that the server
//! replies in time, and reconnects when the [`super::breaker`] has opened. Requests never wait for it. A
//! [`BackendObserver`] is notified of every call.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::address::Address;
use super::breaker::Breaker;
use super::connection::{self, RedisConnection};
use super::deny_cache::DenyCache;
use super::late_debit::{LateReplies, OwnedRequest};
use super::reply;
use super::script::{self, ScriptOperation};
use super::timeout::with_timeout;
use crate::limit::{
    Backend, BackendError, BackendFuture, DebitError, DebitReply, DebitRequest, OnFailure, QuotaDecision,
    Secret, Timestamp,
};

/// The configured settings. The backend survives reloads while they are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    /// The name in the configuration, and the value of the metric label `store`.
    pub name: String,
    /// The address of the server or servers.
    pub address: Address,
    /// CA certificates that verify the server, in PEM; the system's trust store if `None`.
    pub ca_pem: Option<Vec<u8>>,
    /// The prefix of its key names.
    pub prefix: String,
    /// The secret that hashes keys.
    pub secret: Secret,
    /// The timeout of a call.
    pub timeout: Duration,
    /// What happens to requests while the backend is unavailable.
    pub on_failure: OnFailure,
}

/// Notified of the result of every call.
pub trait BackendObserver: std::fmt::Debug + Send + Sync {
    /// A valid reply was received after this time.
    fn on_success(&self, elapsed: Duration);
    /// The call failed after this time.
    fn on_error(&self, error: BackendError, elapsed: Duration);
}

/// A Redis backend.
#[derive(Debug)]
pub struct RedisBackend {
    inner: Arc<BackendInner>,
    reconnect_task: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct BackendInner {
    settings: BackendSettings,
    digest: String,
    breaker: Mutex<Breaker>,
    connection: ArcSwapOption<(u64, RedisConnection)>,
    deny_cache: DenyCache,
    late_replies: LateReplies,
    /// Notified when the breaker opens.
    breaker_opened: Notify,
    /// Whether a connection was attempted.
    connect_attempted: watch::Sender<bool>,
    observer: Box<dyn BackendObserver>,
}

/// A debit with its reply, and what is needed to undo it.
struct MadeDebit {
    backend: Arc<BackendInner>,
    connection: RedisConnection,
    requests: Vec<OwnedRequest>,
    reply: DebitReply,
}

impl MadeDebit {
    /// Refunds what was debited, on the same connection: it has just replied, and a new one may lead to another server.
    async fn undo(self) {
        if self.reply.admits_all() {
            let requests: Vec<_> = self.requests.iter().map(OwnedRequest::as_request).collect();
            // If this fails, the debit stays: the client gets less than its quota, never more.
            let _ = self.backend.refund(&self.connection, &requests, self.reply.debited_at).await;
        }
    }
}

/// Timeout for connecting, with TLS handshake and authentication.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl RedisBackend {
    /// Creates a backend without a connection.
    pub fn new(settings: BackendSettings, observer: Box<dyn BackendObserver>) -> Self {
        let inner = BackendInner {
            settings,
            digest: script::sha1_digest(script::SOURCE),
            breaker: Mutex::default(),
            connection: ArcSwapOption::empty(),
            deny_cache: DenyCache::default(),
            late_replies: LateReplies::default(),
            breaker_opened: Notify::new(),
            connect_attempted: watch::Sender::new(false),
            observer,
        };
        RedisBackend { inner: Arc::new(inner), reconnect_task: Mutex::default() }
    }

    /// The configured settings.
    pub fn settings(&self) -> &BackendSettings {
        &self.inner.settings
    }

    /// Starts the task that maintains the connection until the backend is dropped. Idempotent; requires a runtime.
    pub fn start_reconnecting(&self) {
        let mut task = self.reconnect_task.lock();
        if task.is_none() {
            *task = Some(tokio::spawn(reconnect(Arc::clone(&self.inner))).abort_handle());
        }
    }

    /// Waits until a connection was attempted once, successfully or not.
    pub(crate) async fn wait_for_first_attempt(&self) {
        let mut attempted = self.inner.connect_attempted.subscribe();
        // Fails only if the sender is dropped, and `self` owns it.
        let _ = attempted.wait_for(|tried| *tried).await;
    }

    /// Whether calls are attempted: connected, and the circuit closed.
    pub fn is_available(&self) -> bool {
        self.inner.breaker.lock().connection().is_some()
    }
}

impl Drop for RedisBackend {
    fn drop(&mut self) {
        if let Some(task) = self.reconnect_task.lock().take() {
            task.abort();
        }
    }
}

impl Backend for RedisBackend {
    fn name(&self) -> &str {
        &self.inner.settings.name
    }

    fn secret(&self) -> Secret {
        self.inner.settings.secret
    }

    fn timeout(&self) -> Duration {
        self.inner.settings.timeout
    }

    fn on_failure(&self) -> OnFailure {
        self.inner.settings.on_failure
    }

    fn debit<'a>(&'a self, requests: &'a [DebitRequest<'a>]) -> BackendFuture<'a, DebitReply, DebitError> {
        Box::pin(async move {
            let deny_cache = &self.inner.deny_cache;
            let now = Instant::now();
            let cached = |decisions| DebitReply { decisions, debited_at: Timestamp::default() };
            if let Some(decisions) = deny_cache.get(requests, now) {
                return Ok(cached(decisions));
            }
            match self.inner.debit(requests).await {
                Ok(reply) => {
                    deny_cache.update(requests, &reply.decisions, Instant::now());
                    Ok(reply)
                }
                // Denials remain in force while the backend is unavailable. A late debit is then undone.
                Err(error) => deny_cache.get_stale(requests, now).map(cached).ok_or(error),
            }
        })
    }

    fn refund<'a>(&'a self, requests: &'a [DebitRequest<'a>], at: Timestamp) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let inner = &self.inner;
            inner.call(|connection| async move { inner.refund(&connection, requests, at).await }, drop).await
        })
    }

    fn reset<'a>(&'a self, requests: &'a [DebitRequest<'a>]) -> BackendFuture<'a, ()> {
        self.inner.deny_cache.remove(requests);
        Box::pin(async move {
            let prefix = &self.inner.settings.prefix;
            let delete = |connection: RedisConnection| async move {
                connection.delete(prefix, requests).await.map_err(|error| connection::classify_error(&error))
            };
            self.inner.call(delete, drop).await
        })
    }
}

impl BackendInner {
    async fn debit(self: &Arc<Self>, requests: &[DebitRequest<'_>]) -> Result<DebitReply, DebitError> {
        // The call owns what it needs, because it outlives the request if it is late.
        let backend = Arc::clone(self);
        let requests: Vec<OwnedRequest> = requests.iter().map(OwnedRequest::copy_of).collect();
        let make = |connection: RedisConnection| async move {
            let borrowed: Vec<_> = requests.iter().map(OwnedRequest::as_request).collect();
            let reply = backend.debit_on(&connection, &borrowed).await?;
            Ok(MadeDebit { backend, connection, requests, reply })
        };
        let mut late = None;
        let made = self
            .call(make, |pending| late = self.late_replies.undo_unless_kept(pending, MadeDebit::undo))
            .await;
        made.map(|made| made.reply).map_err(|error| DebitError { error, late })
    }

    /// Debits all keys, on one node or several.
    async fn debit_on(
        &self,
        connection: &RedisConnection,
        requests: &[DebitRequest<'_>],
    ) -> Result<DebitReply, BackendError> {
        if !connection.is_cluster() {
            return self.take_group(connection, requests).await;
        }
        let groups = group_by_key(requests);
        let replies = join_all(groups.iter().map(|group| self.take_group(connection, group))).await;
        self.combine(connection, requests, &groups, replies).await
    }

    /// Combines the decisions of several nodes. Refunds the debits of some groups if another one denied or failed.
    async fn combine(
        &self,
        connection: &RedisConnection,
        requests: &[DebitRequest<'_>],
        groups: &[Vec<DebitRequest<'_>>],
        replies: Vec<Result<DebitReply, BackendError>>,
    ) -> Result<DebitReply, BackendError> {
        let all = replies.iter().all(|reply| reply.as_ref().is_ok_and(DebitReply::admits_all));
        if !all {
            for (group, reply) in groups.iter().zip(&replies) {
                if let Ok(reply) = reply
                    && reply.admits_all()
                {
                    // If the refund fails, the debit stays: the limit is then stricter, never weaker.
                    let _ =
                        self.run_script(connection, ScriptOperation::Refund(reply.debited_at), group).await;
                }
            }
        }
        let mut decisions: Vec<QuotaDecision> = Vec::with_capacity(requests.len());
        let mut at: Option<Timestamp> = None;
        let mut decided = Vec::new();
        for (group, reply) in groups.iter().zip(replies) {
            let reply = reply?;
            at = Some(at.map_or(reply.debited_at, |at| at.min(reply.debited_at)));
            decided.extend(group.iter().map(|request| (request.rule, request.key)).zip(reply.decisions));
        }
        for request in requests {
            let entry = decided
                .iter()
                .find(|(id, _)| *id == (request.rule, request.key))
                .ok_or(BackendError::InvalidReply)?;
            decisions.push(entry.1);
        }
        Ok(DebitReply { decisions, debited_at: at.unwrap_or_default() })
    }

    async fn take_group(
        &self,
        connection: &RedisConnection,
        requests: &[DebitRequest<'_>],
    ) -> Result<DebitReply, BackendError> {
        reply::parse(requests, &self.run_script(connection, ScriptOperation::Debit, requests).await?)
    }

    /// Undoes a debit made at this time of the server's clock.
    async fn refund(
        &self,
        connection: &RedisConnection,
        requests: &[DebitRequest<'_>],
        at: Timestamp,
    ) -> Result<(), BackendError> {
        let operation = ScriptOperation::Refund(at);
        if !connection.is_cluster() {
            return self.run_script(connection, operation, requests).await.map(drop);
        }
        for group in group_by_key(requests) {
            self.run_script(connection, operation, &group).await?;
        }
        Ok(())
    }

    async fn run_script(
        &self,
        connection: &RedisConnection,
        operation: ScriptOperation,
        requests: &[DebitRequest<'_>],
    ) -> Result<Value, BackendError> {
        let reply = connection.run_script(&self.digest, &self.settings.prefix, operation, requests).await;
        reply.map_err(|error| connection::classify_error(&error))
    }

    /// Runs `operation` within the timeout if the circuit is closed, and records the result. After the timeout `late`
    /// gets the operation, which is still pending.
    async fn call<T, F>(
        &self,
        operation: impl FnOnce(RedisConnection) -> F,
        late: impl FnOnce(Pin<Box<F>>),
    ) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        let current = self.connection.load_full();
        let current_id = self.breaker.lock().connection();
        let Some((id, connection)) = current.as_deref().filter(|(id, _)| Some(*id) == current_id) else {
            self.observer.on_error(BackendError::CircuitOpen, Duration::ZERO);
            return Err(BackendError::CircuitOpen);
        };
        let start = Instant::now();
        let mut pending = Box::pin(operation(connection.clone()));
        let result = with_timeout(self.settings.timeout, pending.as_mut()).await.unwrap_or_else(|| {
            late(pending);
            Err(BackendError::Timeout)
        });
        let elapsed = start.elapsed();
        match &result {
            Ok(_) => {
                self.breaker.lock().record_success(*id);
                self.observer.on_success(elapsed);
            }
            Err(error) => {
                self.observer.on_error(*error, elapsed);
                if self.breaker.lock().record_failure(*id, *error) {
                    self.connection.store(None);
                    warn!(
                        store = self.settings.name,
                        evidence = error.name(),
                        "rate-limit backend unavailable; circuit open"
                    );
                    self.breaker_opened.notify_one();
                }
            }
        }
        result
    }

    fn set_connection(&self, connection: RedisConnection) {
        let mut breaker = self.breaker.lock();
        let id = breaker.close();
        self.connection.store(Some(Arc::new((id, connection))));
    }

    /// Connects, and checks that the server replies in time.
    async fn connect(&self) -> Result<RedisConnection, String> {
        let BackendSettings { address, ca_pem, timeout, .. } = &self.settings;
        let describe = |error: RedisError| error.to_string();
        let connecting = RedisConnection::connect(address, ca_pem.as_deref());
        let connection = with_timeout(CONNECT_TIMEOUT, connecting)
            .await
            .ok_or("timed out connecting")?
            .map_err(describe)?;
        // The first call may have to upload the script; the second measures a normal call.
        for _ in 0..2 {
            let probe =
                connection.run_script(&self.digest, &self.settings.prefix, ScriptOperation::Debit, &[]);
            let value = with_timeout(2 * *timeout, probe)
                .await
                .ok_or("timed out waiting for a reply")?
                .map_err(describe)?;
            reply::parse(&[], &value).map_err(|_| "invalid reply")?;
        }
        Ok(connection)
    }
}

/// Maintains a connection until the task is aborted.
async fn reconnect(inner: Arc<BackendInner>) {
    let (name, at) = (&*inner.settings.name, inner.settings.address.label());
    let mut warned = false;
    loop {
        match inner.connect().await {
            Ok(connection) => {
                inner.set_connection(connection);
                info!(store = name, at, "connected to the rate-limit backend");
                warned = false;
                inner.connect_attempted.send_replace(true);
                inner.breaker_opened.notified().await;
            }
            Err(evidence) => {
                if !warned {
                    warn!(store = name, at, evidence, "cannot reach the rate-limit backend; retrying");
                    warned = true;
                }
                inner.connect_attempted.send_replace(true);
            }
        }
        let backoff = inner.breaker.lock().next_backoff();
        tokio::time::sleep(backoff).await;
    }
}

/// Groups the requests by key: one script call can only use keys with one hash tag.
fn group_by_key<'a>(requests: &[DebitRequest<'a>]) -> Vec<Vec<DebitRequest<'a>>> {
    let mut groups: Vec<Vec<DebitRequest<'a>>> = Vec::new();
    for request in requests {
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| first.key == request.key)) {
            Some(group) => group.push(*request),
            None => groups.push(vec![*request]),
        }
    }
    groups
}

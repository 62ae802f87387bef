//! A store that several gateways share: asked by every request, within its time limit, as long as it answers.
//!
//! One task keeps the connection ([`RedisBackend::start_reconnecting`]): it connects, tries whether the server answers in time, and begins anew
//! when the [`super::breaker`] has opened. Requests never wait for that. What happens is told to a [`BackendObserver`].

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
use super::reply;
use super::script::{self, ScriptOperation};
use crate::limit::{
    Backend, BackendError, BackendFuture, OnFailure, QuotaDecision, Secret, TakeReply, TakeRequest, Timestamp,
};

/// What the operator said about a store. It can stay in use while this is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Its name in the configuration: label.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// Who may have signed its certificates, in PEM; those that the system trusts where there are none.
    pub ca_pem: Option<Vec<u8>>,
    /// What its keys begin with.
    pub prefix: String,
    /// What hides keys in it.
    pub secret: Secret,
    /// How long a decision may take.
    pub timeout: Duration,
    /// What becomes of requests while it does not answer.
    pub on_failure: OnFailure,
}

/// Is told of every question that was asked, or should have been.
pub trait BackendObserver: std::fmt::Debug + Send + Sync {
    /// An answer came after this time.
    fn on_success(&self, elapsed: Duration);
    /// None came that is of use.
    fn on_error(&self, error: BackendError, elapsed: Duration);
}

/// The store.
#[derive(Debug)]
pub struct RedisBackend {
    inner: Arc<BackendInner>,
    reconnect_task: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct BackendInner {
    settings: StoreSettings,
    digest: String,
    breaker: Mutex<Breaker>,
    connection: ArcSwapOption<(u64, RedisConnection)>,
    deny_cache: DenyCache,
    /// The breaker has opened.
    breaker_opened: Notify,
    /// Whether a connection has been tried.
    connect_attempted: watch::Sender<bool>,
    observer: Box<dyn BackendObserver>,
}

/// Connecting, with everything that belongs to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl RedisBackend {
    /// Nothing is connected yet.
    pub fn new(settings: StoreSettings, observer: Box<dyn BackendObserver>) -> Self {
        let inner = BackendInner {
            settings,
            digest: script::sha1_digest(script::SOURCE),
            breaker: Mutex::default(),
            connection: ArcSwapOption::empty(),
            deny_cache: DenyCache::default(),
            breaker_opened: Notify::new(),
            connect_attempted: watch::Sender::new(false),
            observer,
        };
        RedisBackend { inner: Arc::new(inner), reconnect_task: Mutex::default() }
    }

    /// What the operator said.
    pub fn settings(&self) -> &StoreSettings {
        &self.inner.settings
    }

    /// Begins to keep the connection, for as long as the store is in use. Once is enough; needs a runtime.
    pub fn start_reconnecting(&self) {
        let mut task = self.reconnect_task.lock();
        if task.is_none() {
            *task = Some(tokio::spawn(reconnect(Arc::clone(&self.inner))).abort_handle());
        }
    }

    /// Returns when a connection has been tried once, whatever came of it.
    pub async fn wait_for_first_attempt(&self) {
        let mut attempted = self.inner.connect_attempted.subscribe();
        // The sender is ours: it cannot be gone.
        let _ = attempted.wait_for(|tried| *tried).await;
    }

    /// Whether it is asked now.
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

    fn take<'a>(&'a self, asks: &'a [TakeRequest<'a>]) -> BackendFuture<'a, TakeReply> {
        Box::pin(async move {
            let deny_cache = &self.inner.deny_cache;
            let now = Instant::now();
            let cached = |decisions| TakeReply { decisions, taken_at: Timestamp::default() };
            if let Some(decisions) = deny_cache.get(asks, now) {
                return Ok(cached(decisions));
            }
            match self.inner.take(asks).await {
                Ok(taken) => {
                    deny_cache.update(asks, &taken.decisions, Instant::now());
                    Ok(taken)
                }
                // Whom it has refused is refused while it is gone, too.
                Err(failure) => deny_cache.get_stale(asks, now).map(cached).ok_or(failure),
            }
        })
    }

    fn refund<'a>(&'a self, asks: &'a [TakeRequest<'a>], at: Timestamp) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let step = ScriptOperation::Refund(at);
            let inner = &self.inner;
            inner.call(|link| async move { inner.run(&link, step, asks).await.map(drop) }).await
        })
    }

    fn reset<'a>(&'a self, asks: &'a [TakeRequest<'a>]) -> BackendFuture<'a, ()> {
        self.inner.deny_cache.remove(asks);
        Box::pin(async move {
            let prefix = &self.inner.settings.prefix;
            let ask = |link: RedisConnection| async move {
                link.delete(prefix, asks).await.map_err(|error| connection::classify_error(&error))
            };
            self.inner.call(ask).await
        })
    }
}

impl BackendInner {
    async fn take(&self, asks: &[TakeRequest<'_>]) -> Result<TakeReply, BackendError> {
        self.call(|link| async move {
            if !link.is_cluster() {
                return self.take_group(&link, asks).await;
            }
            let groups = group_by_key(asks);
            let answers = join_all(groups.iter().map(|group| self.take_group(&link, group))).await;
            self.combine(&link, asks, &groups, answers).await
        })
        .await
    }

    /// One decision of several: what some keys gave is given back when another refuses or does not answer.
    async fn combine(
        &self,
        link: &RedisConnection,
        asks: &[TakeRequest<'_>],
        groups: &[Vec<TakeRequest<'_>>],
        answers: Vec<Result<TakeReply, BackendError>>,
    ) -> Result<TakeReply, BackendError> {
        let admits_all =
            |taken: &TakeReply| taken.decisions.iter().all(|decision| decision.retry_after().is_none());
        let all = answers.iter().all(|answer| answer.as_ref().is_ok_and(admits_all));
        if !all {
            for (group, answer) in groups.iter().zip(&answers) {
                if let Ok(taken) = answer
                    && admits_all(taken)
                {
                    // Without an answer it stays taken, which is the safe side.
                    let _ = self.run_script(link, ScriptOperation::Refund(taken.taken_at), group).await;
                }
            }
        }
        let mut decisions: Vec<QuotaDecision> = Vec::with_capacity(asks.len());
        let mut at: Option<Timestamp> = None;
        let mut found = Vec::new();
        for (group, answer) in groups.iter().zip(answers) {
            let taken = answer?;
            at = Some(at.map_or(taken.taken_at, |at| at.min(taken.taken_at)));
            found.extend(group.iter().map(|ask| (ask.rule, ask.key)).zip(taken.decisions));
        }
        for ask in asks {
            let entry =
                found.iter().find(|(id, _)| *id == (ask.rule, ask.key)).ok_or(BackendError::InvalidReply)?;
            decisions.push(entry.1);
        }
        Ok(TakeReply { decisions, taken_at: at.unwrap_or_default() })
    }

    async fn take_group(
        &self,
        link: &RedisConnection,
        asks: &[TakeRequest<'_>],
    ) -> Result<TakeReply, BackendError> {
        reply::parse(asks, &self.run_script(link, ScriptOperation::Take, asks).await?)
    }

    async fn run(
        &self,
        link: &RedisConnection,
        step: ScriptOperation,
        asks: &[TakeRequest<'_>],
    ) -> Result<(), BackendError> {
        if !link.is_cluster() {
            return self.run_script(link, step, asks).await.map(drop);
        }
        for group in group_by_key(asks) {
            self.run_script(link, step, &group).await?;
        }
        Ok(())
    }

    async fn run_script(
        &self,
        link: &RedisConnection,
        step: ScriptOperation,
        asks: &[TakeRequest<'_>],
    ) -> Result<Value, BackendError> {
        let answer = link.run_script(&self.digest, &self.settings.prefix, step, asks).await;
        answer.map_err(|error| connection::classify_error(&error))
    }

    /// Asks within the time limit, if the store is asked at all, and tells of it.
    async fn call<'a, T, F>(&'a self, ask: impl FnOnce(RedisConnection) -> F) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, BackendError>> + 'a,
    {
        let current = self.connection.load_full();
        let current_id = self.breaker.lock().connection();
        let Some((connection, link)) = current.as_deref().filter(|(number, _)| Some(*number) == current_id)
        else {
            self.observer.on_error(BackendError::CircuitOpen, Duration::ZERO);
            return Err(BackendError::CircuitOpen);
        };
        let began = Instant::now();
        let answer = with_timeout(self.settings.timeout, ask(link.clone()))
            .await
            .unwrap_or(Err(BackendError::Timeout));
        let elapsed = began.elapsed();
        match &answer {
            Ok(_) => {
                self.breaker.lock().record_success(*connection);
                self.observer.on_success(elapsed);
            }
            Err(failure) => {
                self.observer.on_error(*failure, elapsed);
                if self.breaker.lock().record_failure(*connection, *failure) {
                    self.connection.store(None);
                    warn!(
                        store = self.settings.name,
                        evidence = failure.name(),
                        "rate-limit backend unavailable; circuit open"
                    );
                    self.breaker_opened.notify_one();
                }
            }
        }
        answer
    }

    fn set_connection(&self, link: RedisConnection) {
        let mut breaker = self.breaker.lock();
        let number = breaker.close();
        self.connection.store(Some(Arc::new((number, link))));
    }

    /// Connects, and tries whether an answer comes in time.
    async fn connect(&self) -> Result<RedisConnection, String> {
        let StoreSettings { address, ca_pem: authorities, timeout, .. } = &self.settings;
        let describe = |error: RedisError| error.to_string();
        let connecting = RedisConnection::connect(address, authorities.as_deref());
        let link = with_timeout(CONNECT_TIMEOUT, connecting)
            .await
            .ok_or("no connection in time")?
            .map_err(describe)?;
        // Once for a server that has to be told the script, once for the answer to a known one.
        for _ in 0..2 {
            let probe = link.run_script(&self.digest, &self.settings.prefix, ScriptOperation::Take, &[]);
            let value =
                with_timeout(2 * *timeout, probe).await.ok_or("no answer in time")?.map_err(describe)?;
            reply::parse(&[], &value).map_err(|_| "an answer that makes no sense")?;
        }
        Ok(link)
    }
}

/// Keeps a connection: until the task is aborted.
async fn reconnect(inner: Arc<BackendInner>) {
    let (name, at) = (&*inner.settings.name, inner.settings.address.label());
    let mut warned = false;
    loop {
        match inner.connect().await {
            Ok(link) => {
                inner.set_connection(link);
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

/// The questions of each hash tag, which one script can have.
fn group_by_key<'a>(asks: &[TakeRequest<'a>]) -> Vec<Vec<TakeRequest<'a>>> {
    let mut groups: Vec<Vec<TakeRequest<'a>>> = Vec::new();
    for ask in asks {
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| first.key == ask.key)) {
            Some(group) => group.push(*ask),
            None => groups.push(vec![*ask]),
        }
    }
    groups
}

#[expect(
    clippy::disallowed_methods,
    reason = "the limit of a decision is a few milliseconds, and the lazy timer is up to 20 late"
)]
async fn with_timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

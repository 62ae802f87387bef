//! A store that several gateways share: asked by every request, within its time limit, as long as it answers.
//!
//! One task keeps the connection ([`Shared::keep`]): it connects, tries whether the server answers in time, and begins anew
//! when the [`super::breaker`] has opened. Requests never wait for that. What happens is told to a [`Watch`].

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
use super::answer;
use super::breaker::Breaker;
use super::link::{self, Link};
use super::refused::Refused;
use super::script::{self, Step};
use crate::limit::{
    Backend, BackendError, BackendFuture, OnFailure, QuotaDecision, Secret, TakeReply, TakeRequest, Timestamp,
};

/// What the operator said about a store. It can stay in use while this is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name in the configuration: label.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// Who may have signed its certificates, in PEM; those that the system trusts where there are none.
    pub authorities: Option<Vec<u8>>,
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
pub trait Watch: std::fmt::Debug + Send + Sync {
    /// An answer came after this time.
    fn answered(&self, after: Duration);
    /// None came that is of use.
    fn failed(&self, how: BackendError, after: Duration);
}

/// The store.
#[derive(Debug)]
pub struct Shared {
    inner: Arc<Inner>,
    keeper: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    digest: String,
    breaker: Mutex<Breaker>,
    link: ArcSwapOption<(u64, Link)>,
    refused: Refused,
    /// The breaker has opened.
    opened: Notify,
    /// Whether a connection has been tried.
    tried: watch::Sender<bool>,
    watch: Box<dyn Watch>,
}

/// Connecting, with everything that belongs to it.
const CONNECT: Duration = Duration::from_secs(3);

impl Shared {
    /// Nothing is connected yet.
    pub fn new(settings: Settings, watch: Box<dyn Watch>) -> Self {
        let inner = Inner {
            settings,
            digest: script::digest(script::TEXT),
            breaker: Mutex::default(),
            link: ArcSwapOption::empty(),
            refused: Refused::default(),
            opened: Notify::new(),
            tried: watch::Sender::new(false),
            watch,
        };
        Shared { inner: Arc::new(inner), keeper: Mutex::default() }
    }

    /// What the operator said.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Begins to keep the connection, for as long as the store is in use. Once is enough; needs a runtime.
    pub fn keep(&self) {
        let mut keeper = self.keeper.lock();
        if keeper.is_none() {
            *keeper = Some(tokio::spawn(keep(Arc::clone(&self.inner))).abort_handle());
        }
    }

    /// Returns when a connection has been tried once, whatever came of it.
    pub async fn tried(&self) {
        let mut tried = self.inner.tried.subscribe();
        // The sender is ours: it cannot be gone.
        let _ = tried.wait_for(|tried| *tried).await;
    }

    /// Whether it is asked now.
    pub fn is_asked(&self) -> bool {
        self.inner.breaker.lock().connection().is_some()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.lock().take() {
            keeper.abort();
        }
    }
}

impl Backend for Shared {
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
            let refused = &self.inner.refused;
            let now = Instant::now();
            let known = |decisions| TakeReply { decisions, taken_at: Timestamp::default() };
            if let Some(decisions) = refused.told(asks, now) {
                return Ok(known(decisions));
            }
            match self.inner.take(asks).await {
                Ok(taken) => {
                    refused.heard(asks, &taken.decisions, Instant::now());
                    Ok(taken)
                }
                // Whom it has refused is refused while it is gone, too.
                Err(failure) => refused.still(asks, now).map(known).ok_or(failure),
            }
        })
    }

    fn refund<'a>(&'a self, asks: &'a [TakeRequest<'a>], at: Timestamp) -> BackendFuture<'a, ()> {
        Box::pin(async move {
            let step = Step::GiveBack(at);
            let inner = &self.inner;
            inner.asked(|link| async move { inner.run(&link, step, asks).await.map(drop) }).await
        })
    }

    fn reset<'a>(&'a self, asks: &'a [TakeRequest<'a>]) -> BackendFuture<'a, ()> {
        self.inner.refused.forget(asks);
        Box::pin(async move {
            let prefix = &self.inner.settings.prefix;
            let ask = |link: Link| async move {
                link.remove(prefix, asks).await.map_err(|error| link::failure(&error))
            };
            self.inner.asked(ask).await
        })
    }
}

impl Inner {
    async fn take(&self, asks: &[TakeRequest<'_>]) -> Result<TakeReply, BackendError> {
        self.asked(|link| async move {
            if !link.is_split() {
                return self.take_one(&link, asks).await;
            }
            let groups = by_tag(asks);
            let answers = join_all(groups.iter().map(|group| self.take_one(&link, group))).await;
            self.together(&link, asks, &groups, answers).await
        })
        .await
    }

    /// One decision of several: what some keys gave is given back when another refuses or does not answer.
    async fn together(
        &self,
        link: &Link,
        asks: &[TakeRequest<'_>],
        groups: &[Vec<TakeRequest<'_>>],
        answers: Vec<Result<TakeReply, BackendError>>,
    ) -> Result<TakeReply, BackendError> {
        let admits =
            |taken: &TakeReply| taken.decisions.iter().all(|decision| decision.retry_after().is_none());
        let all = answers.iter().all(|answer| answer.as_ref().is_ok_and(admits));
        if !all {
            for (group, answer) in groups.iter().zip(&answers) {
                if let Ok(taken) = answer
                    && admits(taken)
                {
                    // Without an answer it stays taken, which is the safe side.
                    let _ = self.run_one(link, Step::GiveBack(taken.taken_at), group).await;
                }
            }
        }
        let mut decided: Vec<QuotaDecision> = Vec::with_capacity(asks.len());
        let mut at: Option<Timestamp> = None;
        let mut found = Vec::new();
        for (group, answer) in groups.iter().zip(answers) {
            let taken = answer?;
            at = Some(at.map_or(taken.taken_at, |at| at.min(taken.taken_at)));
            found.extend(group.iter().map(|ask| (ask.rule, ask.key)).zip(taken.decisions));
        }
        for ask in asks {
            let its =
                found.iter().find(|(id, _)| *id == (ask.rule, ask.key)).ok_or(BackendError::InvalidReply)?;
            decided.push(its.1);
        }
        Ok(TakeReply { decisions: decided, taken_at: at.unwrap_or_default() })
    }

    async fn take_one(&self, link: &Link, asks: &[TakeRequest<'_>]) -> Result<TakeReply, BackendError> {
        answer::read(asks, &self.run_one(link, Step::Take, asks).await?)
    }

    async fn run(&self, link: &Link, step: Step, asks: &[TakeRequest<'_>]) -> Result<(), BackendError> {
        if !link.is_split() {
            return self.run_one(link, step, asks).await.map(drop);
        }
        for group in by_tag(asks) {
            self.run_one(link, step, &group).await?;
        }
        Ok(())
    }

    async fn run_one(
        &self,
        link: &Link,
        step: Step,
        asks: &[TakeRequest<'_>],
    ) -> Result<Value, BackendError> {
        let answer = link.run(&self.digest, &self.settings.prefix, step, asks).await;
        answer.map_err(|error| link::failure(&error))
    }

    /// Asks within the time limit, if the store is asked at all, and tells of it.
    async fn asked<'a, T, F>(&'a self, ask: impl FnOnce(Link) -> F) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, BackendError>> + 'a,
    {
        let current = self.link.load_full();
        let wanted = self.breaker.lock().connection();
        let Some((connection, link)) = current.as_deref().filter(|(number, _)| Some(*number) == wanted)
        else {
            self.watch.failed(BackendError::CircuitOpen, Duration::ZERO);
            return Err(BackendError::CircuitOpen);
        };
        let began = Instant::now();
        let answer =
            in_time(self.settings.timeout, ask(link.clone())).await.unwrap_or(Err(BackendError::Timeout));
        let took = began.elapsed();
        match &answer {
            Ok(_) => {
                self.breaker.lock().answered(*connection);
                self.watch.answered(took);
            }
            Err(failure) => {
                self.watch.failed(*failure, took);
                if self.breaker.lock().failed(*connection, *failure) {
                    self.link.store(None);
                    warn!(
                        store = self.settings.name,
                        evidence = failure.name(),
                        "left a store of rate limits alone: it does not answer"
                    );
                    self.opened.notify_one();
                }
            }
        }
        answer
    }

    fn connected(&self, link: Link) {
        let mut breaker = self.breaker.lock();
        let number = breaker.closes();
        self.link.store(Some(Arc::new((number, link))));
    }

    /// Connects, and tries whether an answer comes in time.
    async fn connect(&self) -> Result<Link, String> {
        let Settings { address, authorities, timeout, .. } = &self.settings;
        let said = |error: RedisError| error.to_string();
        let connecting = Link::connect(address, authorities.as_deref());
        let link = in_time(CONNECT, connecting).await.ok_or("no connection in time")?.map_err(said)?;
        // Once for a server that has to be told the script, once for the answer to a known one.
        for _ in 0..2 {
            let trial = link.run(&self.digest, &self.settings.prefix, Step::Take, &[]);
            let value = in_time(2 * *timeout, trial).await.ok_or("no answer in time")?.map_err(said)?;
            answer::read(&[], &value).map_err(|_| "an answer that makes no sense")?;
        }
        Ok(link)
    }
}

/// Keeps a connection: until the task is aborted.
async fn keep(inner: Arc<Inner>) {
    let (name, at) = (&*inner.settings.name, inner.settings.address.label());
    let mut told = false;
    loop {
        match inner.connect().await {
            Ok(link) => {
                inner.connected(link);
                info!(store = name, at, "connected to a store of rate limits");
                told = false;
                inner.tried.send_replace(true);
                inner.opened.notified().await;
            }
            Err(evidence) => {
                if !told {
                    warn!(store = name, at, evidence, "cannot reach a store of rate limits; trying on");
                    told = true;
                }
                inner.tried.send_replace(true);
            }
        }
        let pause = inner.breaker.lock().pause();
        tokio::time::sleep(pause).await;
    }
}

/// The questions of each hash tag, which one script can have.
fn by_tag<'a>(asks: &[TakeRequest<'a>]) -> Vec<Vec<TakeRequest<'a>>> {
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
async fn in_time<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

//! What is in force: read once before the data port opens, read again when its file changes.
//!
//! The invariant: there is always one policy in force, whole. What doesn't load changes nothing but a counter and a log line. As
//! long as nothing has been loaded, everything is refused.

mod exceptions;
mod memory;
mod signed;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use llm_guard_engine::controls::Policy;
use llm_guard_engine::policy::settings::{Exception, Standing};
use llm_guard_engine::policy::{GuardPolicy, PolicyError};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::exceptions::Now;
pub(crate) use self::memory::Memory;
pub(crate) use self::signed::Signed;
use self::signed::{Change, Judge, Looker, Problem};
pub(crate) use self::tokens::token_key;
use crate::telemetry::metrics::Metrics;

/// How often the file is looked at. A change is in force once it was seen twice, so that a file which is just being written isn't
/// taken for a shorter policy: within about a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a folder is looked at whose snapshots are swapped as a whole.
const LOOK_AT_SNAPSHOT_EVERY: Duration = Duration::from_millis(250);
/// How often it is said that there is still nothing in force.
const REMIND_EVERY: Duration = Duration::from_mins(1);
/// A file that is larger is no policy; the engine says so.
const READ_AT_MOST: u64 = 2 * 1024 * 1024;

/// Where the policy comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file, looked at again and again.
    File(PathBuf),
    /// A document that doesn't change.
    Fixed(Box<GuardPolicy>),
    /// Settings that the injector signed.
    Signed(Signed),
}

/// Why there is no policy to begin with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file can't be read.
    #[error("cannot read the policy {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no policy.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PolicyError,
    },
    /// The settings contradict each other.
    #[error("the settings make no policy: {0}")]
    Fixed(#[source] PolicyError),
}

/// What holds for an exchange that begins now.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) policy: Arc<Policy>,
    /// A policy that is judged beside it, and does nothing.
    pub(crate) shadow: Option<Arc<Policy>>,
    /// Everything is refused.
    pub(crate) stop: bool,
    /// Why controls may be in a milder mode than they would have to be.
    pub(crate) exceptions: Vec<Exception>,
    /// The SHA-256 of the settings' text, in hex; only signed settings have one.
    pub(crate) digest: Option<String>,
    /// The serial of signed settings.
    pub(crate) serial: u64,
}

impl Current {
    fn unsigned(policy: Arc<Policy>) -> Self {
        Self { policy, shadow: None, stop: false, exceptions: Vec::new(), digest: None, serial: 0 }
    }
}

/// The policy in force.
#[derive(Debug)]
pub(crate) struct InForce {
    source: Source,
    current: ArcSwap<Current>,
    /// What is wrong with what should be in force instead.
    error: ArcSwapOption<String>,
    loaded: watch::Sender<bool>,
    /// Tells those that run of a stop.
    stops: watch::Sender<bool>,
}

impl InForce {
    /// Loads the policy, with what stands around it. Signed settings are still to come: [`InForce::follow`] brings them.
    pub(crate) async fn load(
        source: Source,
        standing: Standing,
        shadow: Option<PathBuf>,
    ) -> Result<(Arc<Self>, Vec<Followed>), SettingsError> {
        let mut followed = Vec::new();
        let mut current = match &source {
            Source::Fixed(document) => Current::unsigned(Policy::compile(document, &standing).map_err(SettingsError::Fixed)?),
            Source::File(path) => {
                let (policy, file) = Followed::load(path, Of::Policy, standing).await?;
                followed.push(file);
                Current::unsigned(policy)
            }
            Source::Signed(_) => {
                let policy = Policy::compile(&GuardPolicy::built_in(), &standing).map_err(SettingsError::Fixed)?;
                Current { stop: true, ..Current::unsigned(policy) }
            }
        };
        if let Some(path) = &shadow {
            // It is to say what it would do by itself: a mode that stands above the policy in force is none of its business.
            let (policy, file) = Followed::load(path, Of::Shadow, Standing::default()).await?;
            followed.push(file);
            current.shadow = Some(policy);
        }
        let is_loaded = !matches!(source, Source::Signed(_));
        let in_force = Self {
            source,
            current: ArcSwap::from_pointee(current),
            error: ArcSwapOption::empty(),
            loaded: watch::Sender::new(is_loaded),
            stops: watch::Sender::new(false),
        };
        Ok((Arc::new(in_force), followed))
    }

    /// What holds for an exchange that begins now.
    pub(crate) fn now(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// What is wrong with what should be in force, in words.
    pub(crate) fn error(&self) -> Option<Arc<String>> {
        self.error.load_full()
    }

    /// Tells of each change whether everything is refused.
    pub(crate) fn stops(&self) -> watch::Receiver<bool> {
        self.stops.subscribe()
    }

    /// Whether there is anything in force.
    pub(crate) fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Waits until there is.
    pub(crate) async fn loaded(&self) {
        // The sender is right here, so there is no error.
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Follows the source for ever. `files` are those that were read when it was loaded.
    pub(crate) async fn follow(self: Arc<Self>, files: Vec<Followed>, metrics: Arc<Metrics>) {
        match &self.source {
            Source::Fixed(_) | Source::File(_) => self.follow_files(files, &metrics).await,
            Source::Signed(signed) => self.follow_signed(signed, &metrics).await,
        }
    }

    async fn follow_files(&self, mut files: Vec<Followed>, metrics: &Metrics) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !files.is_empty() {
            ticks.tick().await;
            for file in &mut files {
                let Some(policy) = file.look(metrics).await else { continue };
                let Current { policy: before, shadow, .. } = &*self.now();
                let (policy, shadow) = match file.of {
                    Of::Policy => {
                        metrics.mode(policy.mode);
                        (policy, shadow.clone())
                    }
                    Of::Shadow => (Arc::clone(before), Some(policy)),
                };
                self.current.store(Arc::new(Current { shadow, ..Current::unsigned(policy) }));
            }
        }
    }

    async fn follow_signed(&self, signed: &Signed, metrics: &Metrics) {
        let mut ticks = interval(LOOK_AT_SNAPSHOT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looker, mut judge) = (Looker::new(), Judge::new(signed));
        let mut reminded = Instant::now();
        loop {
            ticks.tick().await;
            if !self.is_loaded() && reminded.elapsed() >= REMIND_EVERY {
                reminded = Instant::now();
                tracing::warn!(error = judge.error(), "there are still no settings in force; the data port is closed");
            }
            let look = looker.look(&signed.folder).await;
            let now = Now::read();
            let is_read = look.is_some();
            let change = match look {
                Some(look) => judge.take(look, now),
                None => judge.pass(now),
            };
            change.tell(metrics);
            if let Some(current) = change.loaded {
                if is_read {
                    metrics.reload(true);
                }
                metrics.mode(current.policy.mode);
                metrics.stop(current.stop);
                metrics.excepted_until(current.exceptions.iter().map(|exception| exception.expires).max());
                let Current { policy, shadow, stop, digest, serial, .. } = &current;
                if let Some(memory) = &signed.memory
                    && let Err(error) = memory.keep(*serial).await
                {
                    tracing::error!(path = %memory.path().display(), %error, "the serial can't be kept: after a restart older settings would count");
                }
                let shadow = shadow.as_ref().map(|shadow| shadow.mode.name());
                tracing::info!(digest, serial, mode = policy.mode.name(), shadow, stop, "the settings are in force");
                let stop = current.stop;
                self.current.store(Arc::new(current));
                self.stops.send_replace(stop);
                self.loaded.send_replace(true);
            }
            let error = judge.error();
            if self.error.load().as_deref() != error.as_ref() {
                if change.refused.is_empty() && error.is_some() {
                    tracing::info!(error, "no settings are in force yet");
                }
                self.error.store(error.map(Arc::new));
            }
        }
    }
}

impl Change {
    /// Says what was refused, what begins and what has ended.
    fn tell(&self, metrics: &Metrics) {
        for problem in &self.refused {
            if let Problem::Exception { .. } = problem {
                metrics.exception_refused();
            } else {
                metrics.reload(false);
            }
            tracing::error!(error = %problem, "{}", problem.outcome());
        }
        for (exceptions, what) in [(&self.begun, "an exception begins"), (&self.ended, "an exception has ended")] {
            for Exception { name, mode, expires } in exceptions {
                tracing::warn!(exception = name, mode = mode.name(), %expires, "{what}");
            }
        }
    }
}

/// Which policy a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// The one in force.
    Policy,
    /// The one that is judged beside it.
    Shadow,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Shadow => "shadow",
        }
    }
}

/// A policy's file, which is looked at again and again.
#[derive(Debug)]
pub(crate) struct Followed {
    path: PathBuf,
    of: Of,
    standing: Standing,
    /// What was loaded, or refused, last.
    seen: Vec<u8>,
    /// What stood there at the last look.
    before: Vec<u8>,
    /// A file that is gone, or can't be read, is told of once.
    unreadable: bool,
}

impl Followed {
    async fn load(path: &Path, of: Of, standing: Standing) -> Result<(Arc<Policy>, Self), SettingsError> {
        let path = path.to_owned();
        let bytes = read(&path).await.map_err(|source| SettingsError::Read { path: path.clone(), source })?;
        let policy = compile(&bytes, standing).map_err(|source| SettingsError::File { path: path.clone(), source })?;
        Ok((policy, Self { path, of, standing, seen: bytes.clone(), before: bytes, unreadable: false }))
    }

    /// The policy that stands there now, if it is another one and loads.
    async fn look(&mut self, metrics: &Metrics) -> Option<Arc<Policy>> {
        let (path, of) = (self.path.display(), self.of.name());
        let bytes = match read(&self.path).await {
            Ok(bytes) => bytes,
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    metrics.reload(false);
                    tracing::error!(%path, of, %error, "the policy can't be read; the one in force stays");
                }
                return None;
            }
        };
        self.unreadable = false;
        let is_settled = bytes == self.before;
        self.before = bytes;
        if !is_settled || self.before == self.seen {
            return None;
        }
        self.seen.clone_from(&self.before);
        match compile(&self.seen, self.standing) {
            Ok(policy) => {
                metrics.reload(true);
                tracing::info!(%path, of, mode = policy.mode.name(), "the policy has changed and is in force");
                Some(policy)
            }
            Err(error) => {
                metrics.reload(false);
                // The place and the reason; what stands there may be no policy at all.
                let error = error.to_string();
                let error = error.lines().next().unwrap_or_default();
                tracing::error!(%path, of, error, "the policy doesn't load; the one in force stays");
                None
            }
        }
    }
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(READ_AT_MOST).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn compile(bytes: &[u8], standing: Standing) -> Result<Arc<Policy>, PolicyError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::new("", "the file is not UTF-8"))?;
    GuardPolicy::read_and(text, |document| Policy::compile(document, &standing)).map(|(_, policy)| policy)
}

//! The policy in force: read once before a port is bound, read again when its file changes.
//!
//! The invariant: there is always one policy in force, whole. A file that doesn't load changes nothing but a counter and a log line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use llm_guard_engine::controls::Policy;
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode, PolicyError};
use tokio::io::AsyncReadExt;

use crate::telemetry::metrics::Metrics;

/// How often the file is looked at. A change is in force once it was seen twice, so that a file which is just being written isn't
/// taken for a shorter policy: within about a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A file that is larger is no policy; the engine says so.
const READ_AT_MOST: u64 = 2 * 1024 * 1024;

/// Where the policy comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file, looked at again and again.
    File(PathBuf),
    /// A document that doesn't change.
    Fixed(Box<GuardPolicy>),
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

/// The policy in force.
#[derive(Debug)]
pub(crate) struct InForce {
    source: Source,
    mode: Option<Mode>,
    policy: ArcSwap<Policy>,
}

impl InForce {
    /// Loads the policy. `mode` stands above what it says.
    pub(crate) async fn load(source: Source, mode: Option<Mode>) -> Result<(Arc<Self>, Vec<u8>), SettingsError> {
        let (policy, bytes) = match &source {
            Source::Fixed(document) => (Policy::compile(document, &Standing::of(mode)).map_err(SettingsError::Fixed)?, Vec::new()),
            Source::File(path) => {
                let bytes = read(path).await.map_err(|source| SettingsError::Read { path: path.clone(), source })?;
                let policy = compile(&bytes, mode).map_err(|source| SettingsError::File { path: path.clone(), source })?;
                (policy, bytes)
            }
        };
        Ok((Arc::new(Self { source, mode, policy: ArcSwap::new(policy) }), bytes))
    }

    /// The policy of an exchange that begins now.
    pub(crate) fn now(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Follows the file for ever. `seen` is what it said when it was loaded.
    pub(crate) async fn follow(self: Arc<Self>, mut seen: Vec<u8>, metrics: Arc<Metrics>) {
        let Source::File(path) = &self.source else {
            return;
        };
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // A file that is gone, or can't be read, is told of once.
        let mut unreadable = false;
        let mut before = seen.clone();
        loop {
            ticks.tick().await;
            let bytes = match read(path).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    if !std::mem::replace(&mut unreadable, true) {
                        metrics.reload(false);
                        tracing::error!(path = %path.display(), %error, "the policy can't be read; the one in force stays");
                    }
                    continue;
                }
            };
            unreadable = false;
            let settled = bytes == before;
            if settled && bytes != seen {
                match compile(&bytes, self.mode) {
                    Ok(policy) => {
                        metrics.reload(true);
                        metrics.mode(policy.mode);
                        tracing::info!(path = %path.display(), mode = policy.mode.name(), "the policy has changed and is in force");
                        self.policy.store(policy);
                    }
                    Err(error) => {
                        metrics.reload(false);
                        // The place and the reason; what stands there may be no policy at all.
                        let error = error.to_string();
                        let error = error.lines().next().unwrap_or_default();
                        tracing::error!(path = %path.display(), error, "the policy doesn't load; the one in force stays");
                    }
                }
                seen.clone_from(&bytes);
            }
            before = bytes;
        }
    }
}

async fn read(path: &PathBuf) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(READ_AT_MOST).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn compile(bytes: &[u8], mode: Option<Mode>) -> Result<Arc<Policy>, PolicyError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::Form("the file is not UTF-8".into()))?;
    Policy::compile(&GuardPolicy::read(text)?, &Standing::of(mode))
}

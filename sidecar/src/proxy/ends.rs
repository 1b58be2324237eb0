//! What ends an exchange before its own end: the guard's, or a stop.

use llm_guard_engine::exchange::stopped;
use llm_guard_engine::verdict::{ControlId, Refusal};
use tokio::sync::watch;

use super::drain::{DrainWatch, Stage, reached};

/// Sees both come.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) drain: DrainWatch,
    /// Everything is refused.
    pub(super) stop: watch::Receiver<bool>,
}

/// Which of them came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The time of a drain is over.
    Drain,
    Stop,
}

impl Ends {
    /// Waits for the first.
    pub(super) async fn come(&mut self) -> Cause {
        let Self { drain, stop } = self;
        tokio::select! {
            biased;
            () = reached(drain, Stage::Forced) => Cause::Drain,
            // The sender is gone only when the guard is.
            _ = stop.wait_for(|stop| *stop) => Cause::Stop,
        }
    }

    /// The one that has come.
    pub(super) fn came(&self) -> Option<Cause> {
        if *self.drain.borrow() >= Stage::Forced { Some(Cause::Drain) } else { self.stop.borrow().then_some(Cause::Stop) }
    }
}

impl Cause {
    /// What the client is told.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Drain => {
                Refusal { status: 503, code: "stopped", message: "the guard is shutting down".into(), control: ControlId::Limits }
            }
            Self::Stop => stopped(),
        }
    }
}

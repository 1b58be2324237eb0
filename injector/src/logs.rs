//! Log lines: JSON on stdout, one object a line. The injector sees no prompts and no answers; nothing of a Secret is written either.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Level {
    /// What broke.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what was written to the cluster.
    Info,
    /// And what helps to understand the injector itself.
    Debug,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Sends everything that the injector says to stdout.
pub(crate) fn to_stdout(level: Level) {
    let filter = EnvFilter::new(format!("error,kube_runtime=off,llm_guard_injector={}", level.name()));
    let lines = fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false);
    // A second call changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a defect of the injector ended a task; please report it");
    }));
}

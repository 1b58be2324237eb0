//! Log lines: JSON on stdout, one object a line, none of them with anything of a prompt or an answer.

use std::io::Write;

use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Level {
    /// What broke.
    Error,
    /// And what an operator should look at.
    #[value(alias = "warning", alias = "critical")]
    Warn,
    /// And one line for each exchange.
    Info,
    /// And what helps to understand the guard itself.
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

/// Sends everything that the guard says to stdout.
pub(crate) fn to_stdout(level: Level) {
    // Only our own crates: libraries say at debug level what they read.
    let filter = EnvFilter::new(format!("error,llm_guard_sidecar={}", level.name()));
    let lines = fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false);
    // A second call, in a test or a demo, changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

/// Writes a line whose fields are not all text, beside those of `tracing` and in the same form.
pub(crate) fn write_line(line: &impl Serialize) {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    // A reader that went away must not stop the traffic.
    let _ = std::io::stdout().lock().write_all(&bytes);
}

/// The moment, as every line says it.
pub(crate) fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

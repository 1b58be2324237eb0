//! `drain`: end a running guard gracefully.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::proxy::drain;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The guard's drain socket
    #[arg(long, value_name = "PATH", env = "LLM_GUARD_DRAIN_SOCKET")]
    drain_socket: PathBuf,
    /// How long to wait for the end, in seconds [default: as long as the guard takes, which its --drain-timeout bounds]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: Option<u64>,
}

/// Asks the guard to drain and returns when it has: it serves for five seconds more, takes nothing new then, and lets what
/// runs run out.
pub(crate) fn run(args: &Args) -> ExitCode {
    let path = args.drain_socket.display();
    // The guard takes at most its drain time and a few seconds; a day is longer than any.
    let seconds = args.timeout.unwrap_or(86_400);
    let wait = Duration::from_secs(seconds);
    let asked =
        super::run::runtime().map(|runtime| runtime.block_on(async { tokio::time::timeout(wait, drain::ask(&args.drain_socket)).await }));
    let problem = match asked {
        Ok(Ok(Ok(()))) => return ExitCode::SUCCESS,
        Ok(Ok(Err(error))) | Err(error) => error.to_string(),
        Ok(Err(_)) => format!("it had not ended after {seconds} seconds"),
    };
    eprintln!("llm-guard-sidecar: cannot drain the guard at {path}: {problem}");
    ExitCode::FAILURE
}

//! One file a subcommand.

mod demo;
mod drain;
mod init;
mod reference;
mod run;
mod verify;

use std::process::ExitCode;

/// A tiny guard for model servers: every request and every answer passes a policy.
#[derive(Debug, clap::Parser)]
#[command(name = "llm-guard-sidecar", version, propagate_version = true)]
pub(crate) enum Command {
    /// Guard a port: the model server's clients connect here
    Run(Box<run::Args>),
    /// Play what the guard is for, with an embedded model server
    Demo(demo::Args),
    /// End a running guard gracefully
    Drain(drain::Args),
    /// Write the interception rules into this network namespace
    Init(init::Args),
    /// Prove that the interception rules hold
    Verify(verify::Args),
}

impl Command {
    /// Runs the command to its end; what went wrong is already on stderr.
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::Run(args) => run::run(*args),
            Self::Demo(args) => demo::run(&args),
            Self::Drain(args) => drain::run(&args),
            Self::Init(args) => init::run(&args),
            Self::Verify(args) => verify::run(&args),
        }
    }
}

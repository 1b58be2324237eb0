//! `init`: writes the interception rules into this network namespace.
//!
//! The invariant: it succeeds only if the rules stand for every family that the kernel has.

use std::process::ExitCode;

use crate::intercept::{Backend, Family, GuardGid, GuardPort, GuardUid, Interception, ModelPort, NumberError, ids, iptables};

const AFTER_HELP: &str = "\
Needs root with NET_ADMIN and Debian's iptables; --backend legacy needs NET_RAW and a writable /run
as well. Rules of others stay as they are; a second run changes nothing, and a run with other
numbers replaces the first. Other containers of the pod must have neither NET_ADMIN nor NET_RAW,
and no process but the guard may become its user and group.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    numbers: Numbers,

    /// The kernel interface to write the rules through
    #[arg(long, value_enum, default_value_t = Backend::Nft)]
    backend: Backend,
}

/// The numbers that `init` and `verify` must be given alike.
#[derive(Debug, clap::Args)]
pub(crate) struct Numbers {
    /// The port on which the model serves
    #[arg(long, value_name = "PORT", default_value = "11434")]
    port: ModelPort,

    /// The port on which the guard takes what was meant for the model
    #[arg(long, value_name = "PORT", default_value = "15434")]
    guard_port: GuardPort,

    /// The user that the guard runs as
    #[arg(long, value_name = "ID", default_value = "11434")]
    uid: GuardUid,

    /// The primary group that the guard runs under; only user and group together are let through
    #[arg(long, value_name = "ID")]
    gid: GuardGid,
}

impl Numbers {
    pub(crate) fn interception(&self) -> Result<Interception, NumberError> {
        let Self { port, guard_port, uid, gid } = *self;
        Interception::new(port, guard_port, uid, gid)
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let Args { numbers, backend } = args;
    let interception = match numbers.interception() {
        Ok(interception) => interception,
        Err(error) => {
            eprintln!("init: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = ids::exist(&interception) {
        eprintln!("init: {error}");
        return ExitCode::FAILURE;
    }
    for family in Family::ALL {
        if !family.exists() {
            println!("{family}: this kernel doesn't have it, so it is closed");
            continue;
        }
        if let Err(error) = iptables::apply(*backend, family, &interception) {
            eprintln!("init: {family}: {error}");
            return ExitCode::FAILURE;
        }
        println!("{family}: port {} leads to {}, but for user {} in group {}", numbers.port, numbers.guard_port, numbers.uid, numbers.gid);
    }
    ExitCode::SUCCESS
}

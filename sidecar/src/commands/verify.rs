//! `verify`: proves that the interception rules hold.
//!
//! The invariant: it succeeds only if every way to the model that was tried is closed.

use std::process::ExitCode;
use std::time::Duration;

use super::init::Numbers;
use crate::intercept::verify::{self, Finding, Verdict};

const AFTER_HELP: &str = "\
Run it after init and before the guard and the model start, as a user without privileges: it listens
on both their ports for a moment, connects to the model's port on every address of this pod, and
sees where each connection arrives.

It can't see the rules for connections from outside the pod, which init writes in one transaction
with those that it can see, nor whether the guard itself is let through.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    numbers: Numbers,

    /// How long the whole check may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=300))]
    timeout: u16,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let Args { numbers, timeout } = args;
    let findings = numbers
        .interception()
        .map_err(|error| error.to_string())
        .and_then(|interception| verify::verify(&interception, Duration::from_secs((*timeout).into())).map_err(|error| error.to_string()));
    let findings = match findings {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("verify: {error}");
            return ExitCode::FAILURE;
        }
    };
    for finding in &findings {
        println!("{finding}");
    }
    let bad: Vec<&Finding> = [Verdict::Open, Verdict::Astray]
        .into_iter()
        .flat_map(|verdict| findings.iter().filter(move |it| it.verdict() == verdict))
        .collect();
    let Some(worst) = bad.first() else {
        println!("every way to the model that starts in this pod is closed, or leads to the guard");
        return ExitCode::SUCCESS;
    };
    eprintln!(
        "verify: the rules don't hold for {} of {} ways, as for {}: {}; run init with the same numbers first, and see which other program writes rules into this pod",
        bad.len(),
        findings.len(),
        worst.way,
        worst.outcome
    );
    ExitCode::FAILURE
}

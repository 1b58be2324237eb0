//! One file a subcommand.

mod check;
mod demo;
mod drain;
mod eval;
mod init;
mod kinds;
mod lines;
mod progress;
mod reference;
mod replay;
mod run;
mod verify;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

/// A tiny guard for model servers: every request and every answer passes a policy.
#[derive(Debug, clap::Parser)]
#[command(name = "llm-guard-sidecar", version, propagate_version = true)]
pub(crate) enum Command {
    /// Guard a port: the model server's clients connect here
    Run(Box<run::Args>),
    /// Judge policy files, before they meet traffic
    Check(check::Args),
    /// Judge recorded exchanges by a policy that isn't in force yet, and show what would change
    Replay(replay::Args),
    /// Look at each text of a corpus, and say what is in it
    Eval(eval::Args),
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
    /// The command that this process was started with. What is wrong with it is told, and ends the process.
    pub(crate) fn of_process() -> Self {
        Self::read(std::env::args_os().collect()).unwrap_or_else(|error| error.exit())
    }

    /// In a pod nothing is taken from the environment: whoever makes a Service puts variables there.
    fn read(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut command = <Self as CommandFactory>::command();
        if arguments.iter().any(|argument| argument == run::IN_POD) {
            command = without_environment(command);
        }
        let matches = command.try_get_matches_from_mut(arguments)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// Runs the command to its end; what went wrong is already on stderr.
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::Run(args) => run::run(*args),
            Self::Check(args) => check::run(&args),
            Self::Replay(args) => replay::run(&args),
            Self::Eval(args) => eval::run(&args),
            Self::Demo(args) => demo::run(&args),
            Self::Drain(args) => drain::run(&args),
            Self::Init(args) => init::run(&args),
            Self::Verify(args) => verify::run(&args),
        }
    }
}

fn without_environment(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|command| command.mut_args(|argument| argument.env(clap::builder::Resettable::Reset)))
}

/// Prints a text, and gives the status with which to end: a reader who has seen enough is no error, a full disk is one.
fn say(text: &str, status: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("llm-guard-sidecar: {error}");
            ExitCode::from(2)
        }
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_POD: &str = "run --in-pod --upstream http://127.0.0.1:11434 --settings /s --settings-for c/n/Deployment/x --settings-key";
    /// The public key of RFC 8032, section 7.1, test 1.
    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn read(arguments: &str) -> Result<Command, String> {
        let arguments = ["guard"].into_iter().chain(arguments.split(' ')).map(OsString::from).collect();
        Command::read(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_injector_writes_is_read() {
        let more = "--settings-serial 7 --pod-ips 10.0.0.1,fd00::1 --probe c/liveness={\"tcpSocket\":{\"port\":1}} --host-rewrite --origin * --at-most monitor";
        let read = read(&format!("{IN_POD} {KEY} --settings-key {KEY} {more}"));
        assert!(matches!(read, Ok(Command::Run(_))), "{read:?}");
    }

    #[test]
    fn flags_that_contradict_each_other_are_named_both() {
        for (more, other, both) in [
            ("--policy /p", IN_POD, ["--policy", "--settings"]),
            ("--mode hard", IN_POD, ["--mode", "--settings"]),
            ("--policy /p", "run --in-pod", ["--policy", "--in-pod"]),
            ("--in-pod", "run", ["--settings", "--upstream"]),
            ("--settings /s", "run", ["--settings-for", "--settings-key"]),
            ("--origin *", "run", ["--origin", "--host-rewrite"]),
            ("--pod-ips 10.0.0.1", "run", ["--pod-ips", "--in-pod"]),
            ("--schema", "check --kinds", ["--schema", "--kinds"]),
        ] {
            let key = if other == IN_POD { KEY } else { "" };
            let said = read(format!("{other} {key} {more}").replace("  ", " ").as_str()).unwrap_err();
            assert!(both.iter().all(|flag| said.contains(flag)), "{other} {more}: {said}");
        }
    }

    #[test]
    fn in_a_pod_no_argument_has_a_variable() {
        let variables = |command: &clap::Command| -> Vec<String> {
            let run = command.find_subcommand("run").unwrap();
            run.get_arguments().filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned())).collect()
        };
        let command = <Command as CommandFactory>::command();
        assert!(variables(&command).contains(&"LLM_GUARD_UPSTREAM".to_owned()));
        assert_eq!(variables(&without_environment(command)), Vec::<String>::new());
    }
}

//! Runs `iptables-save` and `iptables-restore`: the only place of the guard that starts processes.
//!
//! The invariant: a call ends within a bounded time and returns success only if the kernel has
//! taken the whole text; a failure carries the program's own words and what the operator can do.

use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::rules::{self, Saved, Standing, Table};
use super::{Backend, Family, Interception};

/// How long one program may run. Legacy iptables waits for its lock this long, less a margin.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long legacy iptables waits for another program that holds its lock.
const LOCK_SECONDS: &str = "10";

/// What a program printed must be there this long after its end.
const MARGIN: Duration = Duration::from_secs(2);

/// A network namespace with more rules than this is not a pod's.
const MOST_OUTPUT: u64 = 4 << 20;

/// How often the rules are read and written until they stand.
const ATTEMPTS: usize = 10;

/// What failed while the rules were written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The image lacks the program.
    #[error("{program} isn't in this image: it needs the Debian package iptables, or another image that has it")]
    Missing { program: String },
    /// The program is there, but can't be started.
    #[error("{program} can't be started: {source}")]
    Start { program: String, source: io::Error },
    /// The program took too long, and was ended.
    #[error("{program} didn't end in time and was stopped; see whether another program holds the lock of iptables")]
    Slow { program: String },
    /// Reading from or writing to the program failed.
    #[error("no talking to {program}: {source}")]
    Pipe { program: String, source: io::Error },
    /// The program printed more than any pod has rules.
    #[error("{program} printed more than {MOST_OUTPUT} bytes: this isn't a pod's network namespace")]
    TooMuch { program: String },
    /// The program ended with an error.
    #[error("{program} failed: {advice}; it said: {said}")]
    Refused { program: String, advice: Advice, said: String },
    /// Another program wrote the table in a form that iptables can't read.
    #[error(
        "the table {table} holds rules that iptables can't read, so ours can't be kept apart from them: let the program that wrote them through nft use a table of its own"
    )]
    Incompatible { table: &'static str },
    /// Others kept changing the rules.
    #[error(
        "the rules were changed by somebody else each of {ATTEMPTS} times that they were written: let one init container after the other write them"
    )]
    Contended,
}

/// What the operator can do about a refusal, told from the program's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// No capability for it.
    Capability(Backend),
    /// The kernel has no nftables, or too little of it.
    NoNft,
    /// The kernel has no legacy iptables.
    NoLegacy,
    /// Legacy iptables keeps a lock file, and can't.
    NoLockFile,
    /// Somebody else holds the lock.
    Locked,
    /// Nothing known.
    Unknown,
}

/// Makes the rules stand for one family.
///
/// The text takes out the jumps that were read before. If somebody else wrote rules meanwhile, it
/// may not fit: it is refused, or leaves a jump too many. Another reading makes one that does.
/// (Whether somebody did can't be told by comparing: another `init` writes the same again.)
pub(crate) fn apply(backend: Backend, family: Family, interception: &Interception) -> Result<(), Error> {
    let mut last = Error::Contended;
    for _ in 0..ATTEMPTS {
        let text = rules::restore_text(interception, &read(backend, family)?);
        match restore(backend, family, &text) {
            Ok(()) if read(backend, family)?.has_each_jump_once(interception) => return Ok(()),
            Ok(()) => last = Error::Contended,
            Err(refusal) if refusal.may_pass() => last = refusal,
            Err(refusal) => return Err(refusal),
        }
    }
    Err(last)
}

fn read(backend: Backend, family: Family) -> Result<Standing, Error> {
    let save = |table: Table| {
        let printed = run(backend, family, Tool::Save, &["-t", table.name()], "")?;
        // Said in a comment, and the exit status is that of a success.
        if printed.lines().any(|line| line.starts_with('#') && line.contains("is incompatible")) {
            return Err(Error::Incompatible { table: table.name() });
        }
        Ok(Saved::new(&printed))
    };
    Ok(Standing { filter: save(Table::Filter)?, nat: save(Table::Nat)? })
}

fn restore(backend: Backend, family: Family, text: &str) -> Result<(), Error> {
    let arguments: &[&str] = match backend {
        // One transaction a table, without a lock.
        Backend::Nft => &["--noflush"],
        Backend::Legacy => &["--noflush", "--wait", LOCK_SECONDS],
    };
    run(backend, family, Tool::Restore, arguments, text).map(drop)
}

impl Error {
    /// Whether another reading of the rules may help. (What a change between reading and writing
    /// is called differs between versions, so this asks for what certainly isn't one.)
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused { advice, .. } => match advice {
                Advice::NoNft | Advice::NoLegacy | Advice::Unknown => true,
                Advice::Capability(_) | Advice::NoLockFile | Advice::Locked => false,
            },
            Self::Contended => true,
            Self::Missing { .. }
            | Self::Start { .. }
            | Self::Slow { .. }
            | Self::Pipe { .. }
            | Self::TooMuch { .. }
            | Self::Incompatible { .. } => false,
        }
    }
}

#[derive(Clone, Copy)]
enum Tool {
    Save,
    Restore,
}

/// The programs' names say their backend, so that the one chosen runs whatever `iptables` is
/// linked to in the image.
fn program(backend: Backend, family: Family, tool: Tool) -> String {
    let family = match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    };
    let backend = match backend {
        Backend::Nft => "nft",
        Backend::Legacy => "legacy",
    };
    let tool = match tool {
        Tool::Save => "save",
        Tool::Restore => "restore",
    };
    format!("{family}-{backend}-{tool}")
}

fn run(backend: Backend, family: Family, tool: Tool, arguments: &[&str], input: &str) -> Result<String, Error> {
    let program = program(backend, family, tool);
    let mut command = Command::new(&program);
    command.args(arguments);
    match finish(&program, command, input, PATIENCE)? {
        (status, printed, _) if status.success() => Ok(printed),
        (status, _, said) => Err(Error::Refused {
            program,
            advice: advise(backend, &said),
            said: if said.trim().is_empty() { status.to_string() } else { said.split_whitespace().collect::<Vec<_>>().join(" ") },
        }),
    }
}

/// Runs the program to its end: how it ended, what it printed, what it complained of.
fn finish(program: &str, mut command: Command, input: &str, patience: Duration) -> Result<(ExitStatus, String, String), Error> {
    let pipe = |source| Error::Pipe { program: program.to_owned(), source };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { program: program.to_owned() },
            _ => Error::Start { program: program.to_owned(), source },
        })?;
    // Threads of their own, not joined: a grandchild may hold a pipe open for longer than we wait.
    let (stdin, input) = (child.stdin.take(), input.to_owned());
    let written = background(move || match stdin {
        Some(mut stdin) => stdin.write_all(input.as_bytes()),
        None => Ok(()),
    });
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let printed = background(move || take(stdout));
    let said = background(move || take(stderr));

    let slow = || Error::Slow { program: program.to_owned() };
    let status = wait(&mut child, patience).map_err(pipe)?.ok_or_else(slow)?;
    let text = |bytes: Receiver<io::Result<Vec<u8>>>| match bytes.recv_timeout(MARGIN) {
        Ok(Ok(bytes)) if bytes.len() as u64 > MOST_OUTPUT => Err(Error::TooMuch { program: program.to_owned() }),
        Ok(Ok(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(Err(source)) => Err(pipe(source)),
        Err(_) => Err(slow()),
    };
    let (printed, said) = (text(printed)?, text(said)?);
    match written.recv_timeout(MARGIN) {
        Ok(Err(source)) if status.success() => Err(pipe(source)),
        Err(_) if status.success() => Err(slow()),
        // A program that fails may do so before it has read everything: its words matter more.
        _ => Ok((status, printed, said)),
    }
}

/// Runs the task beside this thread, which asks for its result when it likes.
fn background<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The asker may be gone already; then nobody wants the result.
    thread::spawn(move || drop(sender.send(task())));
    receiver
}

/// Reads to the end, but keeps one byte more than is allowed at most.
fn take(stream: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.by_ref().take(MOST_OUTPUT + 1).read_to_end(&mut bytes)?;
        io::copy(&mut stream, &mut io::sink())?;
    }
    Ok(bytes)
}

/// Waits for the child; `None` when it took too long, and is dead now.
fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

// === impl Advice ===

fn advise(backend: Backend, said: &str) -> Advice {
    let says = |any: &[&str]| any.iter().any(|words| said.contains(words));
    // The lock first: that a lock can't be taken is no matter of capabilities.
    if says(&["can't open lock file"]) {
        Advice::NoLockFile
    } else if says(&["holding the xtables lock"]) {
        Advice::Locked
    } else if says(&["Permission denied", "Operation not permitted", "must be root"]) {
        Advice::Capability(backend)
    } else {
        match backend {
            Backend::Nft
                if says(&[
                    // No nf_tables at all: its subsystem, or netlink's for packet filters, is unknown.
                    "rule set generation id",
                    "Failed to initialize nft",
                    "Protocol not supported",
                    // nf_tables without the parts that the rules are made of.
                    "TABLE_ADD failed",
                    "CHAIN_ADD failed",
                    "RULE_APPEND failed",
                    "RULE_INSERT failed",
                    "missing kernel module",
                ]) =>
            {
                Advice::NoNft
            }
            Backend::Legacy
                if says(&["Table does not exist", "do you need to insmod", "unable to initialize table", "missing kernel module"]) =>
            {
                Advice::NoLegacy
            }
            Backend::Nft | Backend::Legacy => Advice::Unknown,
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capability(Backend::Nft) => {
                "this container may not write rules: run it as root with the capability NET_ADMIN"
            }
            Self::Capability(Backend::Legacy) => {
                "this container may not write rules: run it as root with the capabilities NET_ADMIN and NET_RAW (the chart's interception.legacy gives both)"
            }
            Self::NoNft => {
                "this node's kernel can't take the rules through nf_tables: it has only legacy iptables, or lacks a module; set the chart's interception.legacy (--backend legacy), or load nf_tables, nft_compat and xt_owner on the node"
            }
            Self::NoLegacy => {
                "this node's kernel has no legacy iptables for it: unset the chart's interception.legacy (--backend nft), or load the iptable_nat, iptable_filter, ip6table_nat and ip6table_filter modules on the node"
            }
            Self::NoLockFile => {
                "legacy iptables needs a place for its lock: a writable /run (the chart's interception.legacy mounts one)"
            }
            Self::Locked => {
                "another program is writing rules and holds the lock: start this one after it has ended"
            }
            Self::Unknown => "the rules were not taken",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_only_legacy_is_sent_to_the_charts_setting() {
        for said in [
            "iptables-nft-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Invalid argument",
            "iptables-nft-restore: Failed to initialize nft: Protocol not supported",
            "iptables-nft-restore v1.8.9 (nf_tables): line 9: CHAIN_ADD failed (No such file or directory): chain OUTPUT",
        ] {
            let advice = advise(Backend::Nft, said);
            assert_eq!(advice, Advice::NoNft, "{said}");
            assert!(advice.to_string().contains("interception.legacy"));
        }
    }

    #[test]
    fn a_missing_capability_is_not_mistaken_for_a_missing_kernel() {
        let nft = "Could not fetch rule set generation id: Permission denied (you must be root)";
        let legacy = "iptables-save v1.8.9 (legacy): Cannot initialize: Permission denied (you must be root)";
        assert_eq!(advise(Backend::Nft, nft), Advice::Capability(Backend::Nft));
        assert_eq!(advise(Backend::Legacy, legacy), Advice::Capability(Backend::Legacy));
    }

    #[test]
    fn a_node_without_legacy_is_sent_back() {
        let said = "can't initialize iptables table `nat': Table does not exist (do you need to insmod?)";
        assert_eq!(advise(Backend::Legacy, said), Advice::NoLegacy);
    }

    #[test]
    fn a_lock_is_told_from_a_lock_file() {
        let read_only = "Fatal: can't open lock file /run/xtables.lock: Read-only file system";
        let forbidden = "Fatal: can't open lock file /run/xtables.lock: Permission denied";
        let held = "Another app is currently holding the xtables lock. Stopped waiting after 1s.";
        assert_eq!(advise(Backend::Legacy, read_only), Advice::NoLockFile);
        assert_eq!(advise(Backend::Legacy, forbidden), Advice::NoLockFile);
        assert_eq!(advise(Backend::Legacy, held), Advice::Locked);
    }

    #[test]
    fn words_that_nobody_foresaw_are_passed_on_without_a_guess() {
        assert_eq!(advise(Backend::Nft, "xyzzy"), Advice::Unknown);
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_prints_and_says_comes_back_apart() {
        let (status, printed, said) = finish("sh", shell("cat; echo no >&2; exit 3"), "yes", PATIENCE).expect("it runs");
        assert_eq!((status.code(), &*printed, &*said), (Some(3), "yes", "no\n"));
    }

    #[test]
    fn a_program_that_prints_without_end_is_refused() {
        let much = format!("head -c {} /dev/zero", MOST_OUTPUT + 1);
        let error = finish("sh", shell(&much), "", PATIENCE).expect_err("too much");
        assert!(matches!(error, Error::TooMuch { .. }), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        let error = finish("sh", shell("exec sleep 600"), "", Duration::from_millis(50));
        assert!(matches!(error, Err(Error::Slow { .. })), "{error:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_package() {
        let error = finish("iptables-none", Command::new("iptables-none"), "", PATIENCE).expect_err("none");
        assert!(error.to_string().contains("package iptables"), "{error}");
    }
}

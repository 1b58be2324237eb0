//! The demo as a process: what its exit status says, how it ends, and what it leaves behind. (What its scenes show is tested
//! beside them.)
//!
//! The invariant: the demo ends by itself or when it is told to, whoever reads its output, and nothing of it goes on running.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use llm_guard_tests::cache;
use llm_guard_tests::guard::Guard;
use llm_guard_tests::process::{Process, run};

const LIMIT: Duration = Duration::from_mins(1);
const PROMISED: &str = "All 7 scenes ended as promised";

struct Demo {
    process: Process,
    _folder: tempfile::TempDir,
}

fn start(command: &mut Command) -> io::Result<Demo> {
    let folder = tempfile::tempdir()?;
    Ok(Demo { process: Process::start(command, &folder.path().join("output"))?, _folder: folder })
}

fn demo(arguments: &[&str]) -> io::Result<Command> {
    let mut command = Command::new(cache::sidecar()?);
    command.arg("demo").args(arguments);
    Ok(command)
}

/// The addresses that the demo names at its end: of the guard, of its metrics, and of the model server.
fn addresses(said: &str) -> Option<[SocketAddr; 3]> {
    let (_, end) = said.split_once("Go on by yourself")?;
    // It is complete once its last line is there.
    end.contains("Ctrl-C ends everything").then_some(())?;
    let mut found = end.split("http://").skip(1).filter_map(|rest| rest.split(['/', ' ', '\n']).next()?.parse().ok());
    Some([found.next()?, found.next()?, found.next()?])
}

#[test]
fn played_once_it_succeeds_and_writes_plain_text() -> io::Result<()> {
    let said = run(&mut demo(&["--once"])?, "", LIMIT)?;
    assert!(said.contains(PROMISED), "{said}");
    assert!(said.chars().all(|character| character == '\n' || !character.is_control()), "{said:?}");
    Ok(())
}

#[test]
fn a_reader_that_goes_away_changes_nothing_of_the_outcome() -> io::Result<()> {
    let script = r#"{ "$0" demo --once; echo "status $?" >&2; } | true"#;
    let mut demo = start(Command::new("sh").args(["-c", script]).arg(cache::sidecar()?))?;
    demo.process.wait_to_end(LIMIT)?;
    let said = demo.process.said()?;
    assert_eq!(said.trim(), "status 0", "nothing else is said, of a panic for instance");
    Ok(())
}

#[test]
fn it_serves_until_it_is_told_to_end_and_leaves_no_port_open() -> io::Result<()> {
    let mut demo = start(&mut demo(&[])?)?;
    let addresses = demo.process.wait_to_say("the demo serves", LIMIT, addresses)?;
    for address in addresses {
        TcpStream::connect(address)?;
    }
    assert_eq!(demo.process.stop(LIMIT)?.code(), Some(0));
    assert!(demo.process.said()?.contains(PROMISED));
    for address in addresses {
        assert_eq!(TcpStream::connect(address).map_err(|error| error.kind()).err(), Some(io::ErrorKind::ConnectionRefused), "{address}");
    }
    Ok(())
}

#[test]
fn ended_before_it_has_shown_everything_it_doesnt_claim_that_it_had() -> io::Result<()> {
    let mut demo = start(&mut demo(&[])?)?;
    demo.process.wait_to_say("the first scene ends", LIMIT, |said| said.contains("An ordinary question").then_some(()))?;
    assert_eq!(demo.process.stop(LIMIT)?.code(), Some(130));
    assert!(!demo.process.said()?.contains(PROMISED));
    Ok(())
}

#[test]
fn the_policy_that_it_prints_is_one_that_the_guard_takes() -> io::Result<()> {
    let policy = run(&mut demo(&["--print-policy"])?, "", LIMIT)?;
    Guard::before("http://127.0.0.1:1", "the_policy_of_the_demo").policy(policy).start().map(drop)
}

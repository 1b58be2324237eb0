//! A process that a test started: its output goes to a file, and it ends with the value that stands for it.
//!
//! The invariant: whatever becomes of the test, the process is reaped by its own id when the value goes out of scope, and
//! so is what it started itself: it leads a process group, and nothing of the group outlives it.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::netns::Ended;

const STEP: Duration = Duration::from_millis(5);

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with its output and its errors going to the file `output`.
    pub fn start(command: &mut Command, output: &Path) -> io::Result<Self> {
        Self::start_with(command, Stdio::null(), output)
    }

    /// The same, for a program that runs until its standard input ends: it ends even if this process is killed.
    pub fn start_held(command: &mut Command, output: &Path) -> io::Result<Self> {
        Self::start_with(command, Stdio::piped(), output)
    }

    fn start_with(command: &mut Command, input: Stdio, output: &Path) -> io::Result<Self> {
        let file = File::create(output)?;
        let child = command
            .stdin(input)
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::other(format!("{} doesn't start: {error}", command.get_program().display())))?;
        Ok(Self { child, output: output.to_path_buf() })
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.output)?).into_owned())
    }

    /// Waits until `find` finds what it looks for in what the process has said.
    pub fn wait_to_say<T>(&mut self, what: &str, limit: Duration, find: impl Fn(&str) -> Option<T>) -> io::Result<T> {
        let end = Instant::now() + limit;
        loop {
            let ended = self.child.try_wait()?;
            let said = self.said()?;
            if let Some(found) = find(&said) {
                return Ok(found);
            }
            if let Some(status) = ended {
                return Err(io::Error::other(format!("ended with {status} before {what}; it said:\n{said}")));
            }
            if Instant::now() >= end {
                return Err(io::Error::other(format!("not within {limit:?}: {what}; it said:\n{said}")));
            }
            thread::sleep(STEP);
        }
    }

    /// Asks it to end, with SIGTERM. It goes on until it chooses to, see [`Process::wait_to_end`].
    pub fn terminate(&mut self) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        // The id is this child's: it isn't reaped yet.
        if signal("TERM", &self.child.id().to_string())? { Ok(()) } else { Err(io::Error::other("SIGTERM could not be sent")) }
    }

    /// Kills it and its group at once.
    pub fn kill(&mut self) -> io::Result<()> {
        if !signal("KILL", &format!("-{}", self.child.id()))? {
            return Err(io::Error::other("there is nothing to kill"));
        }
        self.child.wait().map(|_| ())
    }

    /// Waits for it to end by itself.
    pub fn wait_to_end(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                return Err(io::Error::other(format!("still running {limit:?} after it was to end; it said:\n{}", self.said()?)));
            }
            thread::sleep(STEP);
        }
    }

    /// Asks it to end and waits for that.
    pub fn stop(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        self.terminate()?;
        self.wait_to_end(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.stop(Duration::from_secs(10)).is_err() {
            // Killing and reaping fail only if it has ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // There is nothing to signal if the group has ended with its leader.
        let _ = signal("KILL", &format!("-{}", self.child.id()));
    }
}

/// Sends a signal to a process or, by its negative id, to a group. The standard library can do neither.
fn signal(name: &str, target: &str) -> io::Result<bool> {
    let told = Command::new("sh").args(["-c", "kill -s \"$1\" -- \"$2\" 2>/dev/null", "sh", name, target]).status()?;
    Ok(told.success())
}

/// Runs `command` to its end with `input` on its standard input: how it ended, what it printed, what it complained of.
pub fn end(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Ended> {
    let folder = tempfile::tempdir()?;
    let (given, printed, said) = (folder.path().join("input"), folder.path().join("output"), folder.path().join("errors"));
    fs::write(&given, input)?;
    let child = command
        .stdin(File::open(&given)?)
        .stdout(File::create(&printed)?)
        .stderr(File::create(&said)?)
        .process_group(0)
        .spawn()
        .map_err(|error| io::Error::other(format!("{} doesn't start: {error}", command.get_program().display())))?;
    let mut process = Process { child, output: said };
    let status = process.wait_to_end(limit)?;
    Ok(Ended { status, printed: String::from_utf8_lossy(&fs::read(printed)?).into_owned(), said: process.said()? })
}

/// Runs `command` to its end with `input` on its standard input, and gives what it wrote on its standard output.
pub fn run(command: &mut Command, input: &str, limit: Duration) -> io::Result<String> {
    let Ended { status, printed, said } = end(command, input.as_bytes(), limit)?;
    if status.success() {
        Ok(printed)
    } else {
        Err(io::Error::other(format!("{} ended with {status}:\n{said}", command.get_program().display())))
    }
}

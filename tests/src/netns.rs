//! Network namespaces to test in, and processes inside them.
//!
//! The invariant: what a test makes here is gone when its owner is dropped, also when the test
//! fails, and nothing outside the namespaces changes.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long any command may run.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where Debian has the programs.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A network namespace of its own, with its loopback up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// As whom a process runs: without capabilities, and without a way to gain any.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// A supplementary group.
    pub also: Option<u32>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed.
    pub printed: String,
    /// What it complained of.
    pub said: String,
}

/// A process that runs until this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

// === impl Namespace ===

impl Namespace {
    /// Makes one, under a name that no other test uses.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("llm-guard-test-{}-{count}", std::process::id());
        let mut command = Command::new("ip");
        command.args(["netns", "add", &name]);
        end_well(command)?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Joins two of them by a pair of devices, both named `eth0` and up.
    pub fn join(&self, other: &Self) -> io::Result<()> {
        for namespace in [self, other] {
            // Addresses count at once, without asking whether somebody else has them.
            namespace.sysctl("net.ipv6.conf.default.accept_dad=0")?;
            // No address comes by itself.
            namespace.sysctl("net.ipv6.conf.default.addr_gen_mode=1")?;
        }
        self.ip(&format!("link add eth0 type veth peer name eth0 netns {}", other.name))?;
        self.ip("link set eth0 up")?;
        other.ip("link set eth0 up")
    }

    /// Runs `ip` on this namespace.
    pub fn ip(&self, arguments: &str) -> io::Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]);
        command.args(arguments.split_whitespace());
        end_well(command).map(drop)
    }

    /// Sets a kernel parameter of this namespace.
    pub fn sysctl(&self, setting: &str) -> io::Result<()> {
        let (name, value) = setting.split_once('=').ok_or_else(|| io::Error::other(format!("no setting: {setting}")))?;
        // The namespace's own /proc/sys is seen by its own processes alone.
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let mut command = self.command("/bin/sh");
        command.args(["-c", "printf %s \"$1\" > \"$2\"", "sh", value, &path]);
        end_well(command).map(drop)
    }

    /// A command inside, as root.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        // As in a container: nothing of the environment of whoever runs the tests.
        command.env_clear().env("PATH", PATH);
        command
    }

    /// A command inside, as somebody without privileges.
    #[must_use]
    pub fn command_as(&self, user: User, program: &str) -> Command {
        let User { uid, gid, also } = user;
        let mut command = self.command("setpriv");
        command.arg(format!("--reuid={uid}"));
        command.arg(format!("--regid={gid}"));
        match also {
            Some(group) => command.arg(format!("--groups={group}")),
            None => command.arg("--clear-groups"),
        };
        command.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
        command.arg(program);
        command
    }
}

impl Namespace {
    /// Ends whatever still runs inside, such as the children of a process that was killed.
    fn clear(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut list = Command::new("ip");
            list.args(["netns", "pids", &self.name]);
            let ids = end_well(list)?;
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if ids.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!("these don't end: {ids:?}")));
            }
            // One that has ended meanwhile can't be told so; the next look decides.
            let mut kill = Command::new("kill");
            kill.arg("-KILL").args(ids);
            drop(end(kill)?);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            eprintln!("network namespace {} isn't empty: {error}", self.name);
        }
        let removed = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !matches!(removed, Ok(status) if status.success()) {
            eprintln!("network namespace {} is left over", self.name);
        }
    }
}

// === impl Ended ===

/// Runs a command to its end, which must come in time.
pub fn end(mut command: Command) -> io::Result<Ended> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("{command:?} can't be started: {error}")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let printed = thread::spawn(move || all(stdout));
    let said = thread::spawn(move || all(stderr));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("{command:?} doesn't end")));
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = |thread: thread::JoinHandle<io::Result<String>>| thread.join().unwrap_or_else(|_| Err(io::Error::other("a reader stopped")));
    Ok(Ended { status, printed: text(printed)?, said: text(said)? })
}

/// Runs a command to its end, which must be a success; what it printed.
pub fn end_well(command: Command) -> io::Result<String> {
    let shown = format!("{command:?}");
    let Ended { status, printed, said } = end(command)?;
    if status.success() { Ok(printed) } else { Err(io::Error::other(format!("{shown}: {status}\n{printed}{said}"))) }
}

fn all(stream: Option<impl Read>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

// === impl Running ===

impl Running {
    /// Starts a process, and waits until a line of what it prints or complains of says so.
    pub fn start(command: Command, until: &str) -> io::Result<Self> {
        let shown = format!("{command:?}");
        let running = Self::launch(command)?;
        running.line(until).map_err(|error| io::Error::other(format!("{shown}: {error}")))?;
        Ok(running)
    }

    fn launch(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (send, lines) = mpsc::channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|stream| Box::new(stream) as _), child.stderr.take().map(|stream| Box::new(stream) as _)];
        for stream in streams.into_iter().flatten() {
            let send = send.clone();
            thread::spawn(move || {
                // Read on when nobody listens any more: a full pipe would stop the process.
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    drop(send.send(line));
                }
            });
        }
        Ok(Self { child, lines })
    }

    /// The next line that holds these words.
    pub fn line(&self, words: &str) -> io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return Ok(line),
                Ok(line) => before.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other(format!("no line with {words:?}, but\n{}", before.join("\n"))));
                }
            }
        }
    }

    /// Closes its standard input, which some take as a sign to go on.
    pub fn go_on(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_process_left_behind_outlives_its_namespace() -> io::Result<()> {
        let namespace = Namespace::new()?;
        let mut command = namespace.command("/bin/sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]);
        let parent = Running::start(command, "")?;
        let inside = || {
            let mut list = Command::new("ip");
            list.args(["netns", "pids", &namespace.name]);
            end_well(list)
        };
        assert_eq!(inside()?.lines().count(), 2);
        drop(parent);
        let orphan = inside()?;
        assert_eq!(orphan.lines().count(), 1);
        drop(namespace);
        // It may stay in the table until whoever inherited it has taken note of its end.
        let state = std::fs::read_to_string(format!("/proc/{}/stat", orphan.trim()));
        assert!(state.map_or(true, |state| state.contains(") Z ")), "{orphan}");
        Ok(())
    }
}

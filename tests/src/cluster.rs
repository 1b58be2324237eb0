//! Real Kubernetes for one test: a node of its own, or the API server alone (`tests/cluster/node`).
//!
//! The invariant: whatever becomes of the test, all of it ends with the value that stands for it. The program that keeps it
//! runs until the pipe that this process holds is closed, so it ends even if this process is killed.

mod api;
mod client;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use api::{Api, Namespace};
pub use client::{Answer, Asked, Container, Line, Request, Stream};

use crate::process::{self, Process};
use crate::{cache, records};

/// How long a node may take until it is ready. It takes 15 seconds on a machine with two cores that has nothing else to do.
const READY: Duration = Duration::from_mins(3);

/// Who speaks for the cluster's administrator in the tests' own images.
pub const REGISTRY: &str = "localhost";
/// The tag of all of the tests' images.
pub const TAG: &str = "test";

/// A node with everything that a cluster has, the tests' images imported. What can be done with it is [`Api`]'s, and more.
#[derive(Debug)]
pub struct Node {
    api: Api,
    name: String,
    // The order counts: the process ends before its folder goes.
    _keeper: Process,
    folder: TempDir,
}

/// The API server alone, without anything that would make its objects happen.
#[derive(Debug)]
pub struct Admission {
    api: Api,
    _keeper: Process,
    _folder: TempDir,
}

/// Which API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that the node has.
    Current,
    /// The newest one.
    Next,
}

// === impl Node ===

impl Node {
    /// Starts one. What its guards say becomes records under `name`.
    pub fn start(name: &str) -> io::Result<Self> {
        let images = images()?;
        let folder = tempfile::tempdir()?;
        let mut command = script();
        command.arg("run").arg(folder.path()).args(images);
        let mut keeper = Process::start_held(&mut command, &folder.path().join("node.log"))?;
        wait_until_ready(&mut keeper, folder.path())?;
        let first = fs::read_to_string(folder.path().join("first.pid"))?;
        let api = Api::new(folder.path(), Some(first.trim()))?;
        Ok(Self { api, name: name.to_owned(), _keeper: keeper, folder })
    }

    /// One for all tests that run at the same time. It ends with the last of them.
    pub fn shared(name: &str) -> io::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Node>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = shared.upgrade() {
            return Ok(node);
        }
        let node = Arc::new(Self::start(name)?);
        *shared = Arc::downgrade(&node);
        Ok(node)
    }

    /// What one of the node's own programs has said: `kubelet`, `apiserver`, `containerd`, `cilium`, …
    pub fn said(&self, program: &str) -> io::Result<String> {
        fs::read_to_string(self.folder.path().join("log").join(format!("{program}.log")))
    }

    /// A command that runs in the node's network, as root, beside its pods. What it reaches, the node reaches.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.api.command(program)
    }

    /// Kills a container, by the id that its pod's status tells, as the machine it runs on might.
    pub fn kill(&self, container: &str) -> io::Result<()> {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.folder.path().join("containerd/socket"));
        command.args(["-n", "k8s.io", "task", "kill", "-s", "KILL", container]);
        process::run(&mut command, "", Duration::from_secs(20)).map(drop)
    }

    /// Keeps what the containers of the guard and the injector have said so far, for the look through all records at the
    /// end of the test run. A namespace does so before it goes.
    pub fn keep_records(&self) -> io::Result<()> {
        keep(&self.name, self.folder.path(), "")
    }
}

impl Deref for Node {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.keep_records() {
            eprintln!("no records of the node {} could be kept: {error}", self.name);
        }
    }
}

// === impl Admission ===

impl Admission {
    /// Starts one, on free ports of the loopback.
    pub fn start(version: Version) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let part = match version {
            Version::Current => "kubernetes",
            Version::Next => "kubernetes-next",
        };
        let mut command = script();
        command.arg("admission").arg(folder.path()).arg(part);
        let mut keeper = Process::start_held(&mut command, &folder.path().join("node.log"))?;
        wait_until_ready(&mut keeper, folder.path())?;
        let api = Api::new(folder.path(), None)?;
        Ok(Self { api, _keeper: keeper, _folder: folder })
    }
}

impl Deref for Admission {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

// === helpers ===

/// Asks again and again until there is an answer. What stands in the way meanwhile is told if it takes too long: the last
/// error is what was seen last.
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> io::Result<T> {
    let end = Instant::now() + limit;
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() >= end => {
                return Err(io::Error::other(format!("not within {limit:?}: {what}; seen last: {seen}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// The name of one of the tests' images, as a pod has it.
#[must_use]
pub fn image(name: &str) -> String {
    format!("{REGISTRY}/{name}:{TAG}")
}

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(cache::tests().join("cluster/node"));
    command
}

/// Where `tests/cluster/images/build` has put what it made.
#[must_use]
pub fn made() -> PathBuf {
    std::env::var_os("LLM_GUARD_TEST_IMAGES").map_or_else(|| cache::target().join("test-images"), PathBuf::from)
}

/// The archives among it.
fn images() -> io::Result<Vec<PathBuf>> {
    let folder = made();
    let missing = |why: String| io::Error::other(format!("{}: {why}; run `tests/run images`, which makes them", folder.display()));
    let mut archives: Vec<PathBuf> = fs::read_dir(&folder)
        .map_err(|error| missing(error.to_string()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .collect();
    if archives.is_empty() {
        return Err(missing("there are no images".to_owned()));
    }
    archives.sort();
    archives.into_iter().map(fs::canonicalize).collect()
}

fn wait_until_ready(keeper: &mut Process, folder: &Path) -> io::Result<()> {
    let ready = keeper.wait_to_say("ready", READY, |said| said.lines().any(|line| line == "ready").then_some(()));
    ready.map_err(|error| {
        let mut text = error.to_string();
        for log in fs::read_dir(folder.join("log")).into_iter().flatten().flatten() {
            let said = fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<&str> = said.lines().rev().take(8).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            // Writing to a string can't fail.
            let _ = write!(text, "\n=== {} ===\n{}", log.path().display(), end.join("\n"));
        }
        io::Error::other(text)
    })
}

/// Copies the logs of our own containers, of the pods whose folder begins with `of`, into the records.
fn keep(name: &str, folder: &Path, of: &str) -> io::Result<()> {
    let pods = match fs::read_dir(folder.join("pods")) {
        Ok(pods) => pods,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for pod in pods {
        let pod = pod?;
        let pod_name = pod.file_name().to_string_lossy().into_owned();
        if !pod_name.starts_with(of) {
            continue;
        }
        for container in fs::read_dir(pod.path())? {
            let container = container?;
            let container_name = container.file_name().to_string_lossy().into_owned();
            if !container_name.starts_with("llm-guard") {
                continue;
            }
            let mut said = String::new();
            for log in fs::read_dir(container.path())? {
                said.push_str(&unwrapped(&fs::read_to_string(log?.path())?));
            }
            fs::write(records::path(&format!("{name}-{pod_name}-{container_name}"), "log")?, said)?;
        }
    }
    Ok(())
}

/// What a container said, out of the runtime's log: each line is a time, a stream, `F` or `P` for a whole line or the part of
/// one, and the text.
fn unwrapped(log: &str) -> String {
    let mut said = String::with_capacity(log.len());
    for line in log.lines() {
        let mut fields = line.splitn(4, ' ').skip(2);
        let (Some(whole), Some(text)) = (fields.next(), fields.next()) else { continue };
        said.push_str(text);
        if whole == "F" {
            said.push('\n');
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_that_the_runtime_has_cut_is_put_together() {
        let log = "2024-01-01T00:00:00Z stdout P one \n2024-01-01T00:00:00Z stdout F two\n2024-01-01T00:00:00Z stderr F three\n";
        assert_eq!(unwrapped(log), "one two\nthree\n");
    }

    #[test]
    fn what_was_seen_last_is_told() {
        let mut count = 0;
        let told = wait_until("it counts to a thousand", Duration::from_millis(150), || {
            count += 1;
            Err::<(), _>(format!("it is at {count}"))
        });
        let told = told.expect_err("it never does").to_string();
        assert!(told.contains("it counts to a thousand") && told.contains(&format!("it is at {count}")), "{told}");
    }
}

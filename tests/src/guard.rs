//! The real guard in front of a server, for one test: `llm-guard-sidecar run`, with its addresses read from its own log.
//!
//! The invariant: everything it writes, and its metrics as they stand at its end, become records of the run (see
//! [`crate::records`]), also when the test fails.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use llm_guard_engine::policy::settings::{PublicKey, SigningKey};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::settings::{AUDIENCE, SettingsFolder};
use crate::{cache, plain, records};

/// How long the guard may take to listen, and to end when it has nothing to wait for.
const LIMIT: Duration = Duration::from_secs(20);

/// How a guard is to be started.
#[derive(Debug)]
pub struct Plan {
    name: String,
    upstream: String,
    policy: Option<String>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    files: Option<(u32, u32)>,
}

impl Plan {
    /// The guard listens on the loopback unless an argument says otherwise. One in a pod that has no settings yet doesn't listen.
    pub fn start(self) -> io::Result<Guard> {
        let Self { name, upstream, policy, arguments, variables, files } = self;
        let folder = tempfile::tempdir()?;
        let policy_path = folder.path().join("policy.yaml");
        let mut command = match files {
            None => Command::new(cache::sidecar()?),
            Some((allowed, most)) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={allowed}:{most}")).arg(cache::sidecar()?);
                command
            }
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(variables);
        command.args(["run", "--upstream", &upstream]);
        let socket = folder.path().join("drain.sock").display().to_string();
        for (option, value) in [("--listen", "127.0.0.1:0"), ("--metrics-listen", "127.0.0.1:0"), ("--drain-socket", &socket)] {
            if !arguments.iter().any(|argument| argument == option) {
                command.args([option, value]);
            }
        }
        if let Some(policy) = policy {
            fs::write(&policy_path, policy)?;
            command.arg("--policy").arg(&policy_path);
        }
        command.args(arguments);
        let mut process = Process::start(&mut command, &records::path(&name, "log")?)?;
        let (data, metrics) = process.wait_to_say("the guard listens", LIMIT, listening)?;
        Ok(Guard { name, data, metrics, measured: false, process, policy_path, folder })
    }

    /// The guard's mode.
    #[must_use]
    pub fn mode(self, mode: &str) -> Self {
        self.argument("--mode").argument(mode)
    }

    /// The policy that it loads from a file, see [`Guard::policy_path`].
    #[must_use]
    pub fn policy(mut self, document: impl Into<String>) -> Self {
        self.policy = Some(document.into());
        self
    }

    /// As the injector starts it: by settings that these keys signed.
    #[must_use]
    pub fn in_pod(self, settings: &SettingsFolder, keys: &[&SigningKey]) -> Self {
        let folder = settings.path().display().to_string();
        let plan = ["--in-pod", "--settings", &folder, "--settings-for", AUDIENCE].into_iter().fold(self, Self::argument);
        keys.iter().fold(plan, |plan, key| plan.argument("--settings-key").argument(PublicKey::of(key).to_string()))
    }

    /// How many files it may have open when it starts, and how many it may allow itself.
    #[must_use]
    pub fn files(mut self, allowed: u32, most: u32) -> Self {
        self.files = Some((allowed, most));
        self
    }

    /// A variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// A running guard.
#[derive(Debug)]
pub struct Guard {
    name: String,
    data: SocketAddr,
    metrics: SocketAddr,
    measured: bool,
    // The order counts: the process ends before its folder goes.
    process: Process,
    policy_path: PathBuf,
    folder: TempDir,
}

impl Guard {
    /// A guard in front of `upstream`, a base URL. Its records carry `name`.
    #[must_use]
    pub fn before(upstream: impl Into<String>, name: &str) -> Plan {
        Plan { name: name.to_owned(), upstream: upstream.into(), policy: None, arguments: Vec::new(), variables: Vec::new(), files: None }
    }

    /// Where it takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.data
    }

    /// Where it takes requests, as a base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.data)
    }

    /// Where its metrics and health are.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// The policy's file, there if the plan had a policy. A test may write another into it.
    #[must_use]
    pub fn policy_path(&self) -> &Path {
        &self.policy_path
    }

    /// The socket of the `drain` command.
    #[must_use]
    pub fn drain_socket(&self) -> PathBuf {
        self.folder.path().join("drain.sock")
    }

    /// The process, for a test that ends it or looks at its memory.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log so far: one JSON object a line.
    pub fn log(&self) -> io::Result<Vec<Value>> {
        let said = self.process.said()?;
        Ok(said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Its metrics, as text.
    pub fn metrics(&self) -> io::Result<String> {
        Ok(plain::get(self.metrics, "/metrics")?.text())
    }

    /// The sum of all samples of a metric whose labels include these.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> io::Result<f64> {
        Ok(sum(&self.metrics()?, name, labels))
    }

    /// Posts `document` to `path`. A refusal becomes a record.
    pub fn post(&self, path: &str, document: &Value) -> io::Result<plain::Reply> {
        self.recorded(plain::post(self.data, path, document)?)
    }

    /// Asks for `path`. A refusal becomes a record.
    pub fn get(&self, path: &str) -> io::Result<plain::Reply> {
        self.recorded(plain::get(self.data, path)?)
    }

    /// Keeps a reply if it is an error.
    pub fn recorded(&self, reply: plain::Reply) -> io::Result<plain::Reply> {
        if !reply.status.is_success() {
            records::error_reply(&self.name, &format!("{}\n{:?}\n{}", reply.status, reply.headers, reply.text()))?;
        }
        Ok(reply)
    }

    /// Ends it as an operator would, and tells how it ended.
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        self.measure()?;
        self.process.stop(LIMIT)
    }

    fn measure(&mut self) -> io::Result<()> {
        let metrics = self.metrics()?;
        fs::write(records::path(&self.name, "metrics")?, metrics)?;
        self.measured = true;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A guard that the test ended by itself has no metrics any more; its log is a record already.
        if !self.measured
            && let Err(error) = self.measure()
        {
            eprintln!("{}: no metrics at the end: {error}", self.name);
        }
    }
}

/// The addresses in the line by which the guard tells that it listens, or that it will.
fn listening(said: &str) -> Option<(SocketAddr, SocketAddr)> {
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| find(line, "message").is_some_and(|message| message == "listening" || message == "waiting for settings"))
        .find_map(|line| {
            let address = |field| find(&line, field)?.as_str()?.parse().ok();
            Some((address("data")?, address("metrics")?))
        })
}

/// A field of a log line, whether it stands at the top or under `fields`.
fn find<'a>(line: &'a Value, field: &str) -> Option<&'a Value> {
    line.get(field).or_else(|| line.get("fields")?.get(field))
}

fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    text.lines()
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            let fits = series_name == name && labels.iter().all(|(label, value)| series_labels.contains(&format!("{label}=\"{value}\"")));
            if fits { value.parse::<f64>().ok() } else { None }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_the_samples_whose_labels_fit() {
        let text = "# HELP a_total x\na_total{kind=\"x\",mode=\"soft\"} 2\na_total{kind=\"y\",mode=\"soft\"} 3\nb_total 7\n";
        assert!((sum(text, "a_total", &[("mode", "soft")]) - 5.0).abs() < f64::EPSILON);
        assert!((sum(text, "a_total", &[("kind", "y")]) - 3.0).abs() < f64::EPSILON);
        assert!((sum(text, "b_total", &[]) - 7.0).abs() < f64::EPSILON);
        assert!(sum(text, "c_total", &[]).abs() < f64::EPSILON);
    }

    #[test]
    fn the_addresses_are_read_from_the_line_that_tells_of_them() {
        let said =
            "not JSON\n{\"message\":\"policy loaded\"}\n{\"message\":\"listening\",\"data\":\"127.0.0.1:1\",\"metrics\":\"[::1]:2\"}\n";
        assert_eq!(listening(said), Some((SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 2)))));
        assert_eq!(listening("{\"message\":\"listening\"}"), None);
    }
}

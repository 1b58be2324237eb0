//! A real Prometheus that reads metrics for one test, and answers queries.
//!
//! The invariant: it listens on the loopback alone, and what it stores goes with it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faulty::wait_until;
use crate::plain;
use crate::process::Process;

/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(30);

/// Something that has a page of metrics, and the labels that its series get, as Kubernetes' discovery would give them.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Where the page is.
    pub address: SocketAddr,
    /// The namespace of the pod that it stands for.
    pub namespace: &'a str,
    /// The pod.
    pub pod: &'a str,
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    // The order counts: the process ends before its folder goes.
    _process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that reads `targets` twice a second.
    pub fn start(targets: &[Target<'_>]) -> io::Result<Self> {
        let jobs: Vec<Value> = targets
            .iter()
            .map(|Target { address, namespace, pod }| json!({"targets": [address.to_string()], "labels": {"namespace": namespace, "pod": pod}}))
            .collect();
        Self::start_with(&json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{"job_name": "test", "static_configs": jobs}],
        }))
    }

    /// Starts one with a configuration.
    pub fn start_with(config: &Value) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("prometheus.yaml");
        // JSON is YAML.
        fs::write(&path, config.to_string())?;
        let mut process = Process::start(
            Command::new("prometheus")
                .arg(format!("--config.file={}", path.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg("--web.listen-address=127.0.0.1:0"),
            &folder.path().join("log"),
        )?;
        let address = process.wait_to_say("Prometheus listens", LIMIT, |said| {
            said.lines()
                .filter(|line| line.contains("\"Listening on\""))
                .find_map(|line| line.rsplit_once("address=")?.1.trim().parse().ok())
        })?;
        let started = Self { address, _process: process, _folder: folder };
        // It listens before it has looked at what it stored.
        wait_until("Prometheus is ready", LIMIT, || Ok(plain::get(address, "/-/ready")?.status.is_success()))?;
        Ok(started)
    }

    /// The series that an instant query gives now.
    pub fn query(&self, expression: &str) -> io::Result<Vec<Series>> {
        let data = self.ask(&format!("/api/v1/query?query={}", encode(expression)))?;
        let result = data["result"].as_array().cloned().unwrap_or_default();
        Ok(result
            .into_iter()
            .map(|series| Series {
                labels: series["metric"].as_object().into_iter().flatten().map(|(label, _)| label.clone()).collect(),
                value: series["value"][1].as_str().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN),
            })
            .collect())
    }

    /// The values that a label has in the series of a selector.
    pub fn label_values(&self, selector: &str, label: &str) -> io::Result<Vec<String>> {
        let data = self.ask(&format!("/api/v1/label/{}/values?match[]={}", encode(label), encode(selector)))?;
        Ok(data.as_array().into_iter().flatten().filter_map(|value| Some(value.as_str()?.to_owned())).collect())
    }

    /// The labels of every target that it reads, by job and instance, once so many jobs have any. It looks for targets as it starts, for
    /// one job after the other.
    pub fn targets(&self, jobs: usize) -> io::Result<Vec<Value>> {
        let mut found = Vec::new();
        wait_until("Prometheus has targets", LIMIT, || {
            let data = self.ask("/api/v1/targets?state=active")?;
            found = data["activeTargets"].as_array().into_iter().flatten().map(|target| target["labels"].clone()).collect();
            let of: BTreeSet<String> = found.iter().map(|labels| labels["job"].to_string()).collect();
            Ok(of.len() >= jobs)
        })?;
        found.sort_by_key(|labels| (labels["job"].to_string(), labels["instance"].to_string()));
        Ok(found)
    }

    fn ask(&self, path: &str) -> io::Result<Value> {
        let reply = plain::get(self.address, path)?;
        let mut answer = reply.json()?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(io::Error::other(format!("Prometheus says: {answer}"))) }
    }
}

/// A series that a query gave.
#[derive(Clone, Debug)]
pub struct Series {
    /// The names of its labels.
    pub labels: Vec<String>,
    /// Its value now.
    pub value: f64,
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

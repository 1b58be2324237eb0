//! The real injector beside an API server, outside of the cluster: asked by URL instead of through its Service.
//!
//! The invariant: the webhook configurations are the chart's own, but for how the injector is reached.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Admission, wait_until};
use crate::process::{self, Process};
use crate::{cache, plain, records};

/// The injector's own namespace.
pub const NAMESPACE: &str = "llm-guard-system";
/// The guard's image, which nobody pulls here.
pub const GUARD_IMAGE: &str = "registry.example/llm-guard-sidecar:0.1.0";

/// How long it may take until it is ready.
const READY: Duration = Duration::from_mins(1);

/// A running injector.
#[derive(Debug)]
pub struct Injector {
    // The order counts: the process ends before its folder goes.
    _process: Process,
    _folder: TempDir,
}

impl Injector {
    /// Starts one for an API server that has none yet, and has it asked. What it says becomes a record under `name`.
    pub fn start(name: &str, api: &Admission) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = cache::injector()?;
        let definition = process::end(Command::new(&program).arg("crd"), b"", READY)?;
        api.apply(&definition.printed)?;
        api.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/guardpolicies.llm-guard.io",
            "crd/guardexceptions.llm-guard.io",
            "--timeout=30s",
        ])?;
        api.kubectl(&["create", "namespace", NAMESPACE])?;

        let (webhooks, pages) = (free_port()?, free_port()?);
        let log = records::path(name, "log")?;
        let mut command = Command::new(program);
        command.args(["serve", "--namespace", NAMESPACE, "--guard-image", GUARD_IMAGE]).arg("--kubeconfig").arg(api.kubeconfig());
        command.args(["--listen", &format!("127.0.0.1:{webhooks}"), "--metrics-listen", &format!("127.0.0.1:{pages}")]);
        command.env_clear();
        let process = Process::start(&mut command, &log)?;
        for configuration in configurations(api, folder.path(), webhooks)? {
            api.apply(&configuration.to_string())?;
        }
        wait_until("the injector is ready", READY, || {
            let answer = plain::get(([127, 0, 0, 1], pages).into(), "/readyz").map_err(|error| error.to_string())?;
            let log = || fs::read_to_string(&log).unwrap_or_default();
            if answer.status.is_success() { Ok(()) } else { Err(format!("{}\n{}", answer.text(), log())) }
        })?;
        Ok(Self { _process: process, _folder: folder })
    }
}

/// The chart's webhook configurations, asked for by URL.
fn configurations(api: &Admission, folder: &std::path::Path, port: u16) -> io::Result<Vec<Value>> {
    let chart = cache::tests().with_file_name("deploy").join("chart");
    let mut helm = Command::new(cache::part("helm")?.join("helm"));
    helm.env_clear().env("HOME", folder).arg("template").arg("llm-guard").arg(chart);
    helm.args(["--namespace", NAMESPACE, "--kube-version", "1.34", "--show-only", "templates/webhooks.yaml"]);
    let rendered = process::end(&mut helm, b"", READY)?;
    if !rendered.status.success() {
        return Err(io::Error::other(format!("helm: {}", rendered.said)));
    }
    // Through the API server, which has the chart's shorthand (anchors) written out.
    let listed = api.kubectl_with(&["create", "--dry-run=client", "-o", "json", "-f", "-"], &rendered.printed)?;
    let documents = serde_json::Deserializer::from_str(&listed).into_iter::<Value>().collect::<Result<Vec<_>, _>>()?;
    let mut configurations: Vec<Value> = Vec::new();
    for document in documents {
        match document["items"].as_array() {
            Some(items) => configurations.extend(items.iter().cloned()),
            None => configurations.push(document),
        }
    }
    for webhook in configurations.iter_mut().flat_map(|one| one["webhooks"].as_array_mut().into_iter().flatten()) {
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap_or_default().to_owned();
        webhook["clientConfig"] = json!({"url": format!("https://127.0.0.1:{port}{path}")});
    }
    Ok(configurations)
}

/// A port that is free now. Nothing else on this machine draws from the same range at this moment, most likely.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

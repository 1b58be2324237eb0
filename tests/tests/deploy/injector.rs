//! The real injector, as the chart installs it: with its service account's rights and no others, before a real API server. There is no
//! network of pods here, so the API server finds it by an address in place of its Service's.
//!
//! The invariant: it has exactly the arguments that the chart gives it, but for the addresses, which are free ones of the loopback.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use llm_guard_tests::cluster::{Admission, Api, wait_until};
use llm_guard_tests::process::Process;
use llm_guard_tests::{cache, plain, records};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helm::{Objects, deploy};

const NAMESPACE: &str = "llm-guard-system";
const LIMIT: Duration = Duration::from_secs(30);

/// A running injector.
pub(crate) struct Injector {
    metrics: SocketAddr,
    // The order counts: the process ends before its folder goes.
    process: Process,
    _folder: TempDir,
}

impl Injector {
    /// Installs the manifest and starts the injector, which is ready then, and is asked by the API server.
    pub(crate) fn install(api: &Admission) -> io::Result<Self> {
        let manifest = deploy("manifest.yaml").display().to_string();
        api.kubectl(&["apply", "--server-side", "-f", &manifest])?;

        let folder = tempfile::tempdir()?;
        let [webhooks, metrics] = [free()?, free()?];
        let mut command = Command::new(cache::injector()?);
        command.env_clear().args(Objects::of_file("manifest.yaml")?.arguments()?);
        command.arg(format!("--listen={webhooks}")).arg(format!("--metrics-listen={metrics}"));
        command.arg(format!("--namespace={NAMESPACE}")).arg("--kubeconfig").arg(as_itself(api, &folder)?);
        let process = Process::start(&mut command, &records::path("injector", "log")?)?;
        let this = Self { metrics, process, _folder: folder };
        wait_until("the injector is ready", LIMIT, || {
            let reply = plain::get(metrics, "/readyz").map_err(|error| error.to_string())?;
            if reply.status.is_success() { Ok(()) } else { Err(reply.text()) }
        })
        .map_err(|error| io::Error::other(format!("{error}\n{}", this.said().unwrap_or_default())))?;

        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            let mut configuration = api.json(&[kind, "llm-guard-injector"])?;
            for entry in configuration["webhooks"].as_array_mut().into_iter().flatten() {
                let client = entry["clientConfig"].take();
                let path = client["service"]["path"].as_str().unwrap_or_default();
                entry["clientConfig"] = json!({"caBundle": client["caBundle"], "url": format!("https://{webhooks}{path}")});
            }
            api.kubectl_with(&["replace", "-f", "-"], &configuration.to_string())?;
        }
        Ok(this)
    }

    /// Where its metrics are.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// Its log so far.
    pub(crate) fn said(&self) -> io::Result<String> {
        self.process.said()
    }
}

/// An address of the loopback at which nobody listens.
fn free() -> io::Result<SocketAddr> {
    TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A kubeconfig with the token of the injector's service account.
fn as_itself(api: &Api, folder: &TempDir) -> io::Result<std::path::PathBuf> {
    let token = api.kubectl(&["-n", NAMESPACE, "create", "token", "llm-guard-injector"])?;
    let administrator: Value = serde_saphyr::from_str(&fs::read_to_string(api.kubeconfig())?).map_err(io::Error::other)?;
    let own = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": administrator["clusters"][0]["cluster"]}],
        "users": [{"name": "u", "user": {"token": token.trim()}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
        "current-context": "x",
    });
    let path = folder.path().join("kubeconfig");
    fs::write(&path, own.to_string())?;
    Ok(path)
}

/// A policy, created in the namespace `default`.
pub(crate) fn policy(api: &Api, name: &str, spec: &Value) -> io::Result<Result<(), String>> {
    let policy = json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": name}, "spec": spec});
    let ended = api.try_kubectl(&["-n", "default", "create", "-f", "-"], &policy.to_string())?;
    Ok(if ended.status.success() { Ok(()) } else { Err(ended.said) })
}

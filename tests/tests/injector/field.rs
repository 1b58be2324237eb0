//! What a test has: an API server, the webhook configurations of the chart, injectors, and guards that it plays.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use llm_guard_tests::cluster::{Admission, Version, wait_until};
use llm_guard_tests::faulty::{Act, FaultyServer, answer};
use llm_guard_tests::process::Process;
use llm_guard_tests::{cache, plain, records};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The injector's own namespace.
pub(crate) const SYSTEM: &str = "llm-guard-system";
/// Its name, in all places.
pub(crate) const INJECTOR: &str = "llm-guard-injector";
/// How long what happens "at once" may take on a busy machine; it takes a fraction of a second.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// How long a program may take to begin.
pub(crate) const BEGIN: Duration = Duration::from_secs(30);
/// The port where guards report.
const REPORTS: u16 = 15435;

/// An API server with the definition of policies and the webhooks' configurations, which lead to one injector.
pub(crate) struct Field {
    pub(crate) api: Admission,
    folder: TempDir,
    webhooks: SocketAddr,
}

/// A running injector.
pub(crate) struct Injector {
    process: Process,
    pub(crate) pages: SocketAddr,
}

impl Field {
    /// One without an injector.
    pub(crate) fn bare() -> io::Result<Self> {
        let this = Self { api: Admission::start(Version::Current)?, folder: tempfile::tempdir()?, webhooks: free_address()? };
        this.api.kubectl(&["create", "namespace", SYSTEM])?;
        // As whom it runs, and what it may: what the manifest says.
        let rights = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        let rights: Vec<Value> = manifest()?.into_iter().filter(|document| rights.iter().any(|kind| document["kind"] == *kind)).collect();
        this.api.apply(&list(&rights))?;
        this.write_kubeconfig()?;
        let definition = Command::new(cache::injector()?).arg("crd").output()?;
        this.api.apply(&String::from_utf8_lossy(&definition.stdout))?;
        this.api.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/guardpolicies.llm-guard.io",
            "crd/guardexceptions.llm-guard.io",
            "--timeout=20s",
        ])?;
        Ok(this)
    }

    /// The injector's own kubeconfig: the administrator's, with a token of the service account in place of the certificate.
    fn write_kubeconfig(&self) -> io::Result<()> {
        let token = self.api.kubectl(&["-n", SYSTEM, "create", "token", INJECTOR, "--duration=1h"])?;
        let admin = fs::read_to_string(self.api.kubeconfig())?;
        let mut config: Value = serde_saphyr::from_str(&admin).map_err(io::Error::other)?;
        config["users"][0]["user"] = json!({"token": token.trim()});
        fs::write(self.kubeconfig(), config.to_string())
    }

    /// Lets injectors that start from now on speak to somebody else, who speaks to the API server in their name.
    pub(crate) fn lead_injectors_to(&self, address: SocketAddr) -> io::Result<()> {
        let cluster = json!([{"name": "way", "cluster": {"server": format!("http://{address}")}}]);
        let context = json!([{"name": "way", "context": {"cluster": "way", "user": "way"}}]);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "way",
            "clusters": cluster, "contexts": context, "users": [{"name": "way", "user": {}}],
        });
        fs::write(self.kubeconfig(), config.to_string())
    }

    /// With what injectors speak to the API server.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("injector.kubeconfig")
    }

    /// One with an injector, ready, and the webhooks leading to it.
    pub(crate) fn with_injector(arguments: &[&str]) -> io::Result<(Self, Injector)> {
        let this = Self::bare()?;
        this.install_webhooks()?;
        let injector = this.injector(this.webhooks, arguments)?;
        injector.wait_until_ready()?;
        Ok((this, injector))
    }

    /// Where the webhooks lead.
    pub(crate) fn webhooks(&self) -> SocketAddr {
        self.webhooks
    }

    /// Applies the chart's configurations, of which only the address is another: there is no Service here.
    pub(crate) fn install_webhooks(&self) -> io::Result<()> {
        self.lead_webhooks_to(self.webhooks)
    }

    /// Leads the webhooks to another injector.
    pub(crate) fn lead_webhooks_to(&self, address: SocketAddr) -> io::Result<()> {
        self.api.apply(&list(&configurations(address)?)).map(drop)
    }

    /// Starts an injector that serves the webhooks at `address`.
    pub(crate) fn injector(&self, address: SocketAddr, arguments: &[&str]) -> io::Result<Injector> {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let pages = free_address()?;
        let log = records::path(&format!("injector-{}", COUNT.fetch_add(1, Ordering::Relaxed)), "log")?;
        let mut command = Command::new(cache::injector()?);
        command.env_clear().arg("serve").args(["--namespace", SYSTEM, "--guard-image", "localhost/llm-guard-sidecar:test"]);
        if !arguments.contains(&"--farewell") {
            command.args(["--farewell", "0"]);
        }
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--listen").arg(address.to_string()).arg("--metrics-listen").arg(pages.to_string()).args(arguments);
        Ok(Injector { process: Process::start(&mut command, &log)?, pages })
    }

    /// Runs a subcommand of the injector, which must succeed; what it printed.
    pub(crate) fn command(&self, name: &str) -> io::Result<String> {
        let mut command = Command::new(cache::injector()?);
        command.env_clear().arg(name).args(["--namespace", SYSTEM, "--kubeconfig"]).arg(self.kubeconfig());
        llm_guard_tests::process::run(&mut command, "", BEGIN)
    }

    /// A namespace for the test's pods.
    pub(crate) fn namespace(&self, name: &str, labels: &[(&str, &str)]) -> io::Result<String> {
        let labels: serde_json::Map<String, Value> = labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.api.kubectl_with(&["create", "-f", "-"], &document.to_string())?;
        self.api.kubectl(&["-n", name, "create", "serviceaccount", "default"])?;
        Ok(name.to_owned())
    }

    /// A Deployment `ollama` with its `ReplicaSet`, as the controllers that aren't here would make it.
    pub(crate) fn deployment(&self, namespace: &str, annotations: &Value) -> io::Result<()> {
        let pod = pod("ollama", &json!({}));
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "ollama", "namespace": namespace, "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {"app": "ollama"}},
                "template": {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]},
            },
        });
        self.api.kubectl_with(&["create", "-f", "-"], &deployment.to_string())?;
        let uid = &self.api.json(&["-n", namespace, "deployment", "ollama"])?["metadata"]["uid"];
        let mut set = deployment.clone();
        set["kind"] = json!("ReplicaSet");
        set["metadata"]["name"] = json!("ollama-1");
        set["metadata"]["ownerReferences"] = owner("apps/v1", "Deployment", "ollama", uid);
        self.api.kubectl_with(&["create", "-f", "-"], &set.to_string()).map(drop)
    }

    /// A pod of the Deployment `ollama`.
    pub(crate) fn pod_of_deployment(&self, namespace: &str, name: &str) -> io::Result<()> {
        let uid = &self.api.json(&["-n", namespace, "replicaset", "ollama-1"])?["metadata"]["uid"];
        let mut pod = pod(name, &json!({}));
        pod["metadata"]["ownerReferences"] = owner("apps/v1", "ReplicaSet", "ollama-1", uid);
        self.create(namespace, &pod).map(drop)
    }

    /// Makes an object in a namespace.
    pub(crate) fn create(&self, namespace: &str, object: &Value) -> io::Result<String> {
        self.api.kubectl_with(&["-n", namespace, "create", "-f", "-"], &object.to_string())
    }

    /// The one `ConfigMap` with settings in a namespace: its name, and what the settings say.
    pub(crate) fn settings(&self, namespace: &str) -> Result<(String, Value), String> {
        let maps = self.api.json(&["-n", namespace, "configmaps", "-l", "app.kubernetes.io/managed-by=llm-guard"]);
        let maps = maps.map_err(|error| error.to_string())?;
        let items = maps["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [map] = items else { return Err(format!("there are {} maps", items.len())) };
        let text = map["data"]["settings"].as_str().unwrap_or_default();
        let (_, json) = text.split_once('\n').ok_or_else(|| format!("no settings: {text}"))?;
        let mut settings: Value = serde_json::from_str(json).map_err(|error| format!("{error}: {text}"))?;
        settings["text"] = json!(text);
        Ok((map["metadata"]["name"].as_str().unwrap_or_default().to_owned(), settings))
    }

    /// Waits until the settings in a namespace are as they should be.
    pub(crate) fn wait_for_settings(&self, namespace: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> io::Result<Value> {
        wait_until(what, SOON, || {
            let (_, settings) = self.settings(namespace)?;
            if is_so(&settings) { Ok(settings) } else { Err(settings.to_string()) }
        })
    }

    /// Waits for an event with a reason, and gives its note.
    pub(crate) fn wait_for_event(&self, namespace: &str, reason: &str) -> io::Result<String> {
        wait_until(&format!("the event {reason}"), SOON, || {
            let events = self.api.json(&["-n", namespace, "events.events.k8s.io"]).map_err(|error| error.to_string())?;
            let items = events["items"].as_array().cloned().unwrap_or_default();
            let found = items.iter().find(|event| event["reason"] == reason);
            found.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).ok_or_else(|| format!("{} events", items.len()))
        })
    }

    /// Gives a pod an address, as a kubelet would.
    pub(crate) fn run_at(&self, namespace: &str, pod: &str, address: Ipv4Addr) -> io::Result<()> {
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        let patch = status.to_string();
        self.api.kubectl(&["-n", namespace, "patch", "pod", pod, "--subresource=status", "--type=merge", "-p", &patch]).map(drop)
    }
}

impl Injector {
    /// Waits until it is.
    pub(crate) fn wait_until_ready(&self) -> io::Result<()> {
        wait_until("the injector is ready", BEGIN, || match plain::get(self.pages, "/readyz") {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(reply.text()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// One of its metrics, by the line's beginning.
    pub(crate) fn metric(&self, name: &str) -> io::Result<f64> {
        let page = plain::get(self.pages, "/metrics")?.text();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("llm_guard_injector_{name} ")));
        line.and_then(|value| value.parse().ok()).ok_or_else(|| io::Error::other(format!("no {name} in\n{page}")))
    }

    /// Waits until a metric has a value.
    pub(crate) fn wait_for_metric(&self, name: &str, value: f64, limit: Duration) -> io::Result<()> {
        wait_until(&format!("{name} is {value}"), limit, || match self.metric(name) {
            Ok(found) if (found - value).abs() < 0.5 => Ok(()),
            Ok(found) => Err(found.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Tells it to end.
    pub(crate) fn terminate(&mut self) -> io::Result<()> {
        self.process.terminate()
    }

    /// Waits until it has ended.
    pub(crate) fn wait_to_end(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        self.process.wait_to_end(limit)
    }

    /// What it has said.
    pub(crate) fn said(&self) -> io::Result<String> {
        self.process.said()
    }
}

/// A guard that the test plays: it reports the digest that the test gives it.
pub(crate) struct PlayedGuard {
    pub(crate) address: Ipv4Addr,
    digest: Arc<Mutex<String>>,
    _server: FaultyServer,
}

impl PlayedGuard {
    pub(crate) fn start() -> io::Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let own = std::process::id().to_le_bytes();
        let address = Ipv4Addr::new(127, own[0] | 1, own[1], NEXT.fetch_add(1, Ordering::Relaxed));
        let digest = Arc::new(Mutex::new(String::new()));
        let server = FaultyServer::start_at((address, REPORTS).into(), {
            let digest = Arc::clone(&digest);
            move |_| {
                let digest = digest.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let report = json!({"digest": digest, "serial": 1, "mode": "hard", "error": "it waits for the test"});
                vec![Act::Send(answer("200 OK", "application/json", report.to_string().as_bytes())), Act::Close]
            }
        })?;
        Ok(Self { address, digest, _server: server })
    }

    /// What it reports from now on.
    pub(crate) fn load(&self, digest: &str) {
        digest.clone_into(&mut self.digest.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A pod with a model server in it.
pub(crate) fn pod(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "ollama", "llm-guard": "enabled"}, "annotations": annotations},
        "spec": {"containers": [{"name": "ollama", "image": "ollama/ollama", "ports": [{"containerPort": 11434}, {"containerPort": 9000}]}]},
    })
}

/// The policy of a namespace in which none is named.
pub(crate) fn default_policy(spec: &Value) -> Value {
    json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": "default"}, "spec": spec})
}

fn owner(api_version: &str, kind: &str, name: &str, uid: &Value) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}])
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// What is installed.
fn manifest() -> io::Result<Vec<Value>> {
    let manifest = fs::read_to_string(cache::tests().with_file_name("deploy").join("manifest.yaml"))?;
    serde_saphyr::from_multiple(&manifest).map_err(io::Error::other)
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// How many entries the installed webhook configurations have.
pub(crate) fn entries() -> io::Result<usize> {
    let of = |configuration: &Value| configuration["webhooks"].as_array().map_or(0, Vec::len);
    Ok(configurations(([127, 0, 0, 1], 1).into())?.iter().map(of).sum())
}

/// The webhook configurations that are installed, leading to an address.
fn configurations(address: SocketAddr) -> io::Result<Vec<Value>> {
    let mut found: Vec<Value> = manifest()?
        .into_iter()
        .filter(|document| document["kind"].as_str().is_some_and(|kind| kind.ends_with("WebhookConfiguration")))
        .collect();
    for webhook in found.iter_mut().flat_map(|document| document["webhooks"].as_array_mut().into_iter().flatten()) {
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap_or_default().to_owned();
        webhook["clientConfig"] = json!({"url": format!("https://{address}{path}")});
    }
    if found.len() == 2 { Ok(found) } else { Err(io::Error::other(format!("the manifest has {} webhook configurations", found.len()))) }
}

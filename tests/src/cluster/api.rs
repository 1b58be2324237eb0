//! What a test does to a cluster: kubectl, helm, and what is made of them.
//!
//! The invariant: every call ends within a bounded time, and a failure carries the program's own words.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Asked, Container, Request, Stream};
use super::{keep, wait_until};
use crate::cache;
use crate::netns::Ended;
use crate::process::{self, Process};

/// How long one call may take. A call that waits for something in the cluster has a limit of its own.
const LIMIT: Duration = Duration::from_mins(2);

/// An API server, and its administrator's rights.
#[derive(Debug)]
pub struct Api {
    folder: PathBuf,
    programs: String,
    /// The file of the network namespace in which it can be reached, if that isn't this one.
    network: Option<String>,
}

/// A namespace of Kubernetes for one test. It goes with this value, and does so in the background.
#[derive(Debug)]
pub struct Namespace<'a> {
    api: &'a Api,
    name: String,
}

// === impl Api ===

impl Api {
    pub(super) fn new(folder: &Path, first_process: Option<&str>) -> io::Result<Self> {
        let (kubectl, helm) = (cache::part("kubernetes")?, cache::part("helm")?);
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = format!("{}:{}:{path}:/usr/sbin:/sbin", kubectl.display(), helm.display());
        Ok(Self { folder: folder.to_path_buf(), programs, network: first_process.map(|id| format!("/proc/{id}/ns/net")) })
    }

    /// The file with which others speak to this API server as its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A command with the rights of the administrator, where the API server can be reached.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = match &self.network {
            Some(network) => {
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--net={network}")).arg("--").arg(program);
                enter
            }
            None => Command::new(program),
        };
        // What programs keep for themselves, they keep in the cluster's folder.
        command.env_clear().env("PATH", &self.programs).env("HOME", &self.folder).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs kubectl, which must succeed; what it printed.
    pub fn kubectl<S: AsRef<str>>(&self, arguments: &[S]) -> io::Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// The same with something on its standard input.
    pub fn kubectl_with<S: AsRef<str>>(&self, arguments: &[S], input: &str) -> io::Result<String> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let Ended { status, printed, said } = self.try_kubectl(&arguments, input)?;
        if status.success() {
            Ok(printed)
        } else {
            Err(io::Error::other(format!("kubectl {}: {status}\n{printed}{said}", arguments.join(" "))))
        }
    }

    /// Runs kubectl, however it ends.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> io::Result<Ended> {
        let mut command = self.command("kubectl");
        command.args(arguments);
        process::end(&mut command, input.as_bytes(), LIMIT)
    }

    /// What kubectl shows of an object, or a list of them, as JSON.
    pub fn json(&self, arguments: &[&str]) -> io::Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// Applies documents.
    pub fn apply(&self, yaml: &str) -> io::Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], yaml)
    }

    /// Creates documents that must be refused: the words of the refusal.
    pub fn refused(&self, yaml: &str) -> io::Result<String> {
        let Ended { status, printed, said } = self.try_kubectl(&["create", "-f", "-"], yaml)?;
        if status.success() { Err(io::Error::other(format!("this wasn't refused, but {printed}{yaml}"))) } else { Ok(said) }
    }

    /// Makes a namespace with a name of its own that begins with `name`, and waits for its service account.
    pub fn namespace(&self, name: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> io::Result<Namespace<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let map =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>();
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": map(labels), "annotations": map(annotations)}});
        self.kubectl_with(&["create", "-f", "-"], &document.to_string())?;
        let namespace = Namespace { api: self, name };
        if self.network.is_some() {
            let name = namespace.name();
            wait_until("the namespace has its service account", Duration::from_secs(30), || {
                self.kubectl(&["-n", name, "get", "serviceaccount", "default"]).map_err(|error| error.to_string())
            })?;
        } else {
            // Nobody makes it here.
            self.kubectl(&["-n", namespace.name(), "create", "serviceaccount", "default"])?;
        }
        Ok(namespace)
    }

    /// Installs the chart as an operator does, with `values`, a YAML document, on top of those that name the tests' images; and
    /// waits until it runs.
    pub fn install(&self, values: &str) -> io::Result<String> {
        let (images, own) = (self.folder.join("images.yaml"), self.folder.join("values.yaml"));
        let of = json!({"tag": super::TAG, "pullPolicy": "Never"});
        let mut named = json!({"image": {"registry": super::REGISTRY, "sidecar": of, "injector": of}});
        named["image"]["sidecar"]["repository"] = json!("llm-guard-sidecar");
        named["image"]["injector"]["repository"] = json!("llm-guard-injector");
        fs::write(&images, named.to_string())?;
        fs::write(&own, values)?;
        let chart = cache::tests().with_file_name("deploy").join("chart");
        let mut command = self.command("helm");
        command.args(["upgrade", "--install", "llm-guard"]).arg(chart).args(["--namespace", "llm-guard-system", "--create-namespace"]);
        command.arg("--values").arg(images).arg("--values").arg(own).args(["--wait", "--timeout", "120s"]);
        let Ended { status, printed, said } = process::end(&mut command, b"", LIMIT + LIMIT)?;
        if status.success() {
            Ok(printed)
        } else {
            Err(io::Error::other(format!("helm: {status}\n{printed}{said}\n{}", self.told("llm-guard-system"))))
        }
    }

    /// What a namespace has to tell when something in it doesn't come to be: its pods, its events, the end of each log.
    #[must_use]
    pub fn told(&self, namespace: &str) -> String {
        let part = |arguments: &[&str]| self.kubectl(arguments).unwrap_or_else(|error| error.to_string());
        let pods = part(&["-n", namespace, "get", "pods", "-o", "wide"]);
        let events = part(&[
            "-n",
            namespace,
            "get",
            "events",
            "--sort-by=.lastTimestamp",
            "-o",
            "custom-columns=O:.involvedObject.name,R:.reason,M:.message",
        ]);
        let names = part(&["-n", namespace, "get", "pods", "-o", "name"]);
        let logs: String =
            names.lines().map(|name| part(&["-n", namespace, "logs", name, "--all-containers", "--prefix", "--tail=5"])).collect();
        format!("{pods}{events}{logs}")
    }

    /// Waits until a pod, or all pods of a selector such as `-l=app=x`, are ready.
    pub fn wait_ready(&self, namespace: &str, pods: &str, limit: Duration) -> io::Result<()> {
        wait_until(&format!("{pods} of {namespace} is ready"), limit, || {
            let shown = self.json(&["-n", namespace, "pods", pods]).map_err(|error| error.to_string())?;
            let all = match &shown["items"] {
                Value::Array(items) => items.clone(),
                _ => vec![shown],
            };
            let ready = |pod: &Value| {
                let conditions = pod["status"]["conditions"].as_array();
                conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
            };
            if !all.is_empty() && all.iter().all(ready) { Ok(()) } else { Err(all.iter().map(state).collect::<Vec<_>>().join("; ")) }
        })
        .map_err(|error| io::Error::other(format!("{error}\n{}", self.told(namespace))))
    }

    /// Runs a command in a container, however it ends.
    pub fn exec(&self, container: &Container, command: &[&str]) -> io::Result<Ended> {
        let mut arguments = container.exec();
        arguments.extend_from_slice(command);
        self.try_kubectl(&arguments, "")
    }

    /// Runs a command in a container, which must succeed; what it printed.
    pub fn run(&self, container: &Container, command: &[&str]) -> io::Result<String> {
        let Ended { status, printed, said } = self.exec(container, command)?;
        if status.success() {
            Ok(printed)
        } else {
            Err(io::Error::other(format!("{} in {container:?}: {status}\n{printed}{said}", command.join(" "))))
        }
    }

    /// What a container has said so far.
    pub fn log(&self, container: &Container) -> io::Result<String> {
        let Container { namespace, pod, container } = container;
        self.kubectl(&["-n", namespace, "logs", pod, "-c", container])
    }

    /// The address of a pod.
    pub fn address(&self, namespace: &str, pod: &str) -> io::Result<String> {
        let shown = self.json(&["-n", namespace, "pod", pod])?;
        let address = shown["status"]["podIP"]
            .as_str()
            .ok_or_else(|| io::Error::other(format!("{pod} of {namespace} has no address: {}", state(&shown))))?;
        Ok(address.to_owned())
    }

    /// Sends a request out of a container that has curl in it, and tells what came back.
    pub fn ask(&self, from: &Container, request: &Request) -> io::Result<Asked> {
        let mut command = self.command("kubectl");
        command.args(from.exec()).args(request.curl());
        Asked::of(process::end(&mut command, request.body_bytes(), LIMIT)?)
    }

    /// Sends a request out of a container, and listens to the answer as it comes.
    pub fn stream(&self, from: &Container, request: &Request) -> io::Result<Stream> {
        let mut command = self.command("kubectl");
        command.args(from.exec()).args(request.curl());
        Stream::start(command, request.body_bytes())
    }

    /// Forwards a port of a pod to a free port of the loopback where the API server is, until the value goes: for what a
    /// test asks over a network that is its own, see [`super::Node::command`].
    pub fn forward(&self, namespace: &str, pod: &str, port: u16) -> io::Result<(Process, u16)> {
        let mut command = self.command("kubectl");
        command.args(["-n", namespace, "port-forward", pod, &format!(":{port}")]);
        let mut process = Process::start(&mut command, &self.folder.join(format!("forward-{namespace}-{pod}-{port}.log")))?;
        let local = process.wait_to_say("it forwards", Duration::from_secs(20), |said| {
            let (_, rest) = said.split_once("Forwarding from 127.0.0.1:")?;
            rest.split_once(" ->")?.0.parse().ok()
        })?;
        Ok((process, local))
    }
}

/// What a pod waits for, in a few words.
fn state(pod: &Value) -> String {
    let mut words = vec![format!(
        "{} is {}",
        pod["metadata"]["name"].as_str().unwrap_or("?"),
        pod["status"]["phase"].as_str().unwrap_or("nothing yet")
    )];
    for kind in ["initContainerStatuses", "containerStatuses"] {
        for status in pod["status"][kind].as_array().into_iter().flatten() {
            words.push(format!("{} {}", status["name"].as_str().unwrap_or("?"), status["state"]));
        }
    }
    words.join(", ")
}

// === impl Namespace ===

impl Namespace<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies documents in it.
    pub fn apply(&self, yaml: &str) -> io::Result<String> {
        self.api.kubectl_with(&["-n", &self.name, "apply", "-f", "-"], yaml)
    }

    /// Runs kubectl in it, which must succeed; what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> io::Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(arguments);
        self.api.kubectl(&all)
    }

    /// What kubectl shows of an object in it as JSON.
    pub fn json(&self, arguments: &[&str]) -> io::Result<Value> {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(arguments);
        self.api.json(&all)
    }

    /// Waits until a pod in it, or all of a selector, are ready.
    pub fn wait_ready(&self, pods: &str, limit: Duration) -> io::Result<()> {
        self.api.wait_ready(&self.name, pods, limit)
    }

    /// A container of a pod in it.
    #[must_use]
    pub fn container(&self, pod: &str, container: &str) -> Container {
        Container { namespace: self.name.clone(), pod: pod.to_owned(), container: container.to_owned() }
    }

    /// A pod that waits to be told what to ask, ready. Its one container is called `client`.
    pub fn client(&self, name: &str, labels: &[(&str, &str)]) -> io::Result<Container> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "containers": [{"name": "client", "image": super::image("client"), "imagePullPolicy": "Never"}],
            },
        });
        self.apply(&pod.to_string())?;
        self.wait_ready(name, Duration::from_mins(1))?;
        Ok(self.container(name, "client"))
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if let Err(error) = keep(&self.name, &self.api.folder, &format!("{}_", self.name)) {
            eprintln!("no records of the namespace {} could be kept: {error}", self.name);
        }
        if let Err(error) = self.api.kubectl(&["delete", "namespace", &self.name, "--wait=false"]) {
            eprintln!("the namespace {} is left over: {error}", self.name);
        }
    }
}

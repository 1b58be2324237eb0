//! What the scenes share: a few lines of YAML as they are written by hand, and questions to the cluster.
//!
//! The invariant: every wait is bounded, and what a scene waited for in vain is in its error, with what was seen last.

use std::time::{Duration, Instant};

use llm_guard_tests::cluster::Node;
use llm_guard_tests::planted::Planted;
use serde_json::{Value, json};

/// The namespace from which the chart lets collectors in.
pub(crate) const MONITORING: &str = "monitoring";

/// What a scene has to end with.
pub(crate) type Scene = Result<(), String>;

/// The cluster, and what the scenes plant in it.
pub(crate) struct Stage {
    pub(crate) node: Node,
    pub(crate) planted: Planted,
    /// The certificate of the authority behind the registry, and the registry's address.
    pub(crate) registry: (String, String),
    /// What pods without a label were before there was an injector.
    pub(crate) before: Vec<Value>,
}

/// An answer as a client in a pod saw it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the model said, streamed or not, by Ollama's own routes.
    pub(crate) fn said(&self) -> String {
        let text = |frame: &Value| {
            let piece = frame.pointer("/message/content").or_else(|| frame.get("response"));
            piece.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        self.body.lines().filter_map(|line| serde_json::from_str(line).ok()).map(|frame: Value| text(&frame)).collect()
    }
}

/// Fails a scene unless something holds.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Scene {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Tries something until it works, and says how long that took.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> Result<(T, Duration), String> {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok((value, began.elapsed())),
            Err(seen) if began.elapsed() > limit => return Err(format!("{what}: not within {limit:?}; last: {seen}")),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

impl Stage {
    /// `kubectl` with these words; its output, or what it complained of.
    pub(crate) fn kubectl(&self, words: &str) -> Result<String, String> {
        self.words(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// The same with words that have spaces in them.
    pub(crate) fn words(&self, words: &[&str]) -> Result<String, String> {
        self.node.kubectl(words).map_err(|error| error.to_string())
    }

    /// Runs a command in the node's network, as root, with the machine's processes in sight.
    pub(crate) fn on_node(&self, words: &[&str]) -> Result<String, String> {
        let (program, rest) = words.split_first().ok_or("no command")?;
        let ended = self.node.command(program).args(rest).output().map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ended.status.success() {
            Ok(said(&ended.stdout))
        } else {
            Err(format!("{words:?}: {}{}", said(&ended.stdout), said(&ended.stderr)))
        }
    }

    /// The address under which pods find the registry.
    pub(crate) fn registry_address(&self) -> &str {
        &self.registry.1
    }

    /// The certificate that makes it `registry.ollama.ai`.
    pub(crate) fn registry_certificate(&self) -> &str {
        &self.registry.0
    }

    /// Applies a manifest; what kubectl said of it, warnings too.
    pub(crate) fn apply(&self, yaml: &str) -> Result<String, String> {
        let ended = self.node.try_kubectl(&["apply", "-f", "-"], yaml).map_err(|error| error.to_string())?;
        let said = format!("{}{}", ended.printed, ended.said);
        if ended.status.success() { Ok(said) } else { Err(said) }
    }

    /// Waits until all pods of a workload are ready, and none other.
    pub(crate) fn rolled_out(&self, namespace: &str, workload: &str) -> Scene {
        let done = self.kubectl(&format!("-n {namespace} rollout status {workload} --timeout=120s"));
        done.map(|_| ()).map_err(|error| format!("{error}\n{}", self.why_not_ready(namespace)))
    }

    /// Waits until a pod is ready.
    pub(crate) fn ready(&self, namespace: &str, pod: &str) -> Scene {
        let done = self.kubectl(&format!("-n {namespace} wait --for=condition=Ready pod/{pod} --timeout=120s"));
        done.map(|_| ()).map_err(|error| format!("{error}\n{}", self.why_not_ready(namespace)))
    }

    fn why_not_ready(&self, namespace: &str) -> String {
        let pods = self.kubectl(&format!("-n {namespace} get pods -o wide")).unwrap_or_default();
        let events = self.kubectl(&format!("-n {namespace} get events --sort-by=.lastTimestamp")).unwrap_or_default();
        let last: Vec<&str> = events.lines().rev().take(15).collect();
        format!("{pods}\n{}", last.join("\n"))
    }

    /// An object as the API server has it.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> Result<Value, String> {
        let text = self.kubectl(&format!("-n {namespace} get {name} -o json"))?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// The pods with a label.
    pub(crate) fn pods(&self, namespace: &str, label: &str) -> Result<Vec<Value>, String> {
        let text = self.kubectl(&format!("-n {namespace} get pods -l {label} -o json"))?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// One pod's address.
    pub(crate) fn address(&self, namespace: &str, pod: &str) -> Result<String, String> {
        self.kubectl(&format!("-n {namespace} get pod {pod} -o jsonpath={{.status.podIP}}"))
    }

    /// A Service's address.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Result<String, String> {
        self.kubectl(&format!("-n {namespace} get service {name} -o jsonpath={{.spec.clusterIP}}"))
    }

    /// The first pod of an app.
    pub(crate) fn pod_of(&self, namespace: &str, app: &str) -> Result<String, String> {
        let pods = self.pods(namespace, &format!("app={app}"))?;
        let alive = pods.iter().find(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
        let name = alive.and_then(|pod| pod.pointer("/metadata/name")).and_then(Value::as_str);
        name.map(str::to_owned).ok_or_else(|| format!("no pod of {app} in {namespace}"))
    }
}

/// A chat with a scripted model, as Ollama's own route takes it.
pub(crate) fn chat(model: &str, prompt: &str, stream: bool) -> String {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": prompt}]}).to_string()
}

/// A container from which a scene asks.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
}

impl Place {
    pub(crate) fn new(namespace: &str, pod: &str, container: &str) -> Self {
        Self { namespace: namespace.into(), pod: pod.into(), container: container.into() }
    }
}

impl Stage {
    /// Runs a command in a container; its output, or what it complained of.
    pub(crate) fn run_in(&self, place: &Place, command: &[&str]) -> Result<String, String> {
        let mut words = vec!["-n", &place.namespace, "exec", &place.pod, "-c", &place.container, "--"];
        words.extend(command);
        self.words(&words)
    }

    /// One HTTP request from a container, by curl.
    pub(crate) fn ask(&self, from: &Place, url: &str, body: Option<&str>, more: &[&str]) -> Result<Reply, String> {
        let mut command = vec!["curl", "-sS", "-i", "-N", "-g", "--connect-timeout", "2", "-m", "60"];
        command.extend(more);
        if let Some(body) = body {
            command.extend(["-H", "Content-Type: application/json", "-d", body]);
        }
        command.push(url);
        let said = self.run_in(from, &command)?;
        reply(&said).ok_or_else(|| format!("no HTTP reply: {said:?}"))
    }

    /// Whether a port takes connections and answers anything, from a container.
    pub(crate) fn reaches(&self, from: &Place, address: &str, port: u16) -> bool {
        let url = format!("http://{address}:{port}/");
        let command = ["curl", "-s", "--http0.9", "-o", "/dev/null", "-g", "--connect-timeout", "1", "-m", "3", &url];
        match self.run_in(from, &command) {
            Ok(_) => true,
            // 52 and 56: it connected, and no HTTP came back.
            Err(said) => said.contains("exit code 52") || said.contains("exit code 56"),
        }
    }
}

/// Takes apart what `curl -i` prints: the last head, and the body behind it.
fn reply(text: &str) -> Option<Reply> {
    let text = text.replace("\r\n", "\n");
    let mut rest = text.as_str();
    loop {
        let (head, body) = rest.split_once("\n\n").or_else(|| rest.strip_suffix('\n').map(|head| (head, "")))?;
        let mut lines = head.lines();
        let status: u16 = lines.next()?.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
        if status == 100 {
            rest = body;
            continue;
        }
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.to_lowercase(), value.to_owned()));
        return Some(Reply { status, headers: headers.collect(), body: body.to_owned() });
    }
}

impl Stage {
    /// What a guard says of itself on its own port, asked through the API server.
    fn guard_says(&self, namespace: &str, pod: &str, path: &str) -> Result<String, String> {
        self.kubectl(&format!("get --raw /api/v1/namespaces/{namespace}/pods/{pod}:15435/proxy{path}"))
    }

    /// The settings that a guard has in force.
    pub(crate) fn guards_settings(&self, namespace: &str, pod: &str) -> Result<Value, String> {
        let said = self.guard_says(namespace, pod, "/settings")?;
        serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
    }

    /// The id of the guard's process in a pod, as the node sees it.
    pub(crate) fn guards_process(&self, namespace: &str, pod: &str) -> Result<String, String> {
        let pod = self.object(namespace, &format!("pod/{pod}"))?;
        let uid = pod.pointer("/metadata/uid").and_then(Value::as_str).ok_or("the pod has no uid")?;
        let find = format!(
            "for p in /proc/[0-9]*; do grep -qs {uid} $p/mountinfo && tr '\\0' ' ' <$p/cmdline | grep -q 'llm-guard-sidecar run' && echo ${{p#/proc/}}; done; true"
        );
        let said = self.on_node(&["sh", "-c", &find])?;
        said.lines().next().map(|line| line.trim().to_owned()).ok_or_else(|| "the guard's process isn't there".to_owned())
    }

    /// The samples of one metric, of all guards of an app.
    pub(crate) fn guards_metric(&self, namespace: &str, app: &str, metric: &str) -> Result<String, String> {
        let mut samples = String::new();
        for pod in self.pods(namespace, &format!("app={app}"))? {
            let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            for line in self.guard_says(namespace, name, "/metrics")?.lines().filter(|line| line.starts_with(metric)) {
                samples.push_str(line);
                samples.push('\n');
            }
        }
        Ok(samples)
    }
}

impl Stage {
    /// Installs the chart, or upgrades it, with these values beside those that all scenes need.
    pub(crate) fn install(&self, values: Value) -> Scene {
        install(&self.node, values)
    }
}

/// The chart as the scenes have it: collectors are let in from one namespace.
pub(crate) fn install(node: &Node, mut values: Value) -> Scene {
    values["monitoring"] = json!({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": MONITORING}}}]});
    node.install(&values.to_string()).map(|_| ()).map_err(|error| error.to_string())
}

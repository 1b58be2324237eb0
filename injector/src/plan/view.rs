//! What the injector reads of a pod, and nothing else.
//!
//! The invariant: reading changes nothing. Edits go to the pod as it came ([`mod@super::draft`]), so a field that isn't listed here survives,
//! whatever it is. An explicit null means the same as a field that isn't there, as it does to the API server.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

/// A pod, or the pod that a template makes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: Spec,
    /// See [`Pod::port_named`]: gathered once, since there may be as many Services that ask as there are ports.
    #[serde(skip)]
    named_ports: OnceLock<HashMap<String, i64>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) image_pull_secrets: Vec<Named>,
    pub(crate) host_network: bool,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: bool,
    pub(crate) host_users: Option<bool>,
    pub(crate) os: Named,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) security_context: PodSecurity,
    pub(crate) termination_grace_period_seconds: Option<i64>,
    pub(crate) resources: Resources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) host_path: Option<HostPath>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HostPath {
    pub(crate) path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSecurity {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) fs_group: Option<i64>,
    pub(crate) supplemental_groups: Vec<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    pub(crate) requests: BTreeMap<String, Value>,
    pub(crate) limits: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) env: Vec<Variable>,
    pub(crate) env_from: Vec<Value>,
    pub(crate) security_context: Security,
    pub(crate) liveness_probe: Option<Probe>,
    pub(crate) readiness_probe: Option<Probe>,
    pub(crate) startup_probe: Option<Probe>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) volume_mounts: Vec<Named>,
    pub(crate) restart_policy: String,
    pub(crate) resources: Resources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: String,
    #[serde(rename = "containerPort")]
    pub(crate) number: i64,
    pub(crate) protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) value_from: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Security {
    pub(crate) privileged: bool,
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) allow_privilege_escalation: Option<bool>,
    pub(crate) capabilities: Capabilities,
    pub(crate) proc_mount: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub(crate) add: Vec<String>,
    pub(crate) drop: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Probe {
    pub(crate) http_get: Option<HttpGet>,
    pub(crate) tcp_socket: Option<TcpSocket>,
    pub(crate) grpc: Option<Grpc>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HttpGet {
    pub(crate) path: Option<String>,
    pub(crate) port: Port,
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) http_headers: Vec<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TcpSocket {
    pub(crate) port: Port,
    pub(crate) host: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Grpc {
    pub(crate) port: Port,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) pre_stop: Option<Value>,
}

/// A port by number, or by the name that the container gave it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum Port {
    Number(i64),
    Name(String),
}

impl Default for Port {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// Which of a pod's lists a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    Init,
    Main,
}

impl List {
    /// The list's name in a pod's spec.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Main => "containers",
        }
    }
}

/// A container and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) list: List,
    pub(crate) index: usize,
    pub(crate) container: &'a Container,
}

// === impl Pod ===

impl Pod {
    /// Reads a pod; the error says what isn't of a pod's form.
    pub(crate) fn read(pod: &Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(without_nulls(pod))
    }

    /// Every container, init containers first.
    pub(crate) fn containers(&self) -> impl Iterator<Item = Placed<'_>> {
        let placed = |list| move |(index, container)| Placed { list, index, container };
        let Spec { init_containers, containers, .. } = &self.spec;
        init_containers.iter().enumerate().map(placed(List::Init)).chain(containers.iter().enumerate().map(placed(List::Main)))
    }

    /// The port that a container gives this name, looked for as the Service's endpoints are made: main containers first.
    pub(crate) fn port_named(&self, name: &str) -> Option<u16> {
        let named = self.named_ports.get_or_init(|| {
            let of = |list| self.containers().filter(move |placed| placed.list == list && placed.lasts());
            let mut named = HashMap::new();
            for port in of(List::Main).chain(of(List::Init)).flat_map(|placed| &placed.container.ports) {
                named.entry(port.name.clone()).or_insert(port.number);
            }
            named
        });
        named.get(name).and_then(|number| u16::try_from(*number).ok())
    }
}

// === impl Placed ===

impl Placed<'_> {
    /// Where it stands, as `kubectl` users write it.
    pub(crate) fn field(&self, rest: &str) -> String {
        format!("spec.{}[{}]{}{rest}", self.list.name(), self.index, if rest.is_empty() { "" } else { "." })
    }

    /// Whether it runs beside the main containers, rather than ending before them.
    pub(crate) fn lasts(&self) -> bool {
        self.list == List::Main || self.container.restart_policy == "Always"
    }
}

// === impl Container ===

impl Container {
    /// The number behind a port of a probe: a name is one of this container's own ports, as the kubelet resolves it.
    pub(crate) fn resolve(&self, port: &Port) -> Option<u16> {
        let number = match port {
            Port::Number(number) => Some(*number),
            Port::Name(name) => self.ports.iter().find(|port| port.name == *name).map(|port| port.number),
        };
        number.and_then(|number| u16::try_from(number).ok())
    }

    /// The TCP ports that it declares.
    pub(crate) fn tcp_ports(&self) -> impl Iterator<Item = i64> {
        self.ports.iter().filter(|port| matches!(port.protocol.as_str(), "" | "TCP")).map(|port| port.number)
    }
}

/// A copy without members that are null. Elements of lists keep their places.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), without_nulls(value))).collect(),
        ),
        Value::Array(elements) => Value::Array(elements.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_null_is_a_field_that_is_not_there() {
        let pod = json!({"metadata": {"labels": null}, "spec": {"containers": [{"name": "a", "securityContext": null, "ports": null}], "os": null}});
        let pod = Pod::read(&pod).unwrap();
        assert_eq!(pod.spec.containers[0].name, "a");
        assert!(pod.spec.containers[0].ports.is_empty() && pod.metadata.labels.is_empty());
    }

    #[test]
    fn a_named_port_is_the_containers_own() {
        let container: Container =
            serde_json::from_value(json!({"ports": [{"name": "http", "containerPort": 11434}, {"containerPort": 70000, "name": "odd"}]}))
                .unwrap();
        assert_eq!(container.resolve(&Port::Name("http".into())), Some(11434));
        assert_eq!(container.resolve(&Port::Name("odd".into())), None);
        assert_eq!(container.resolve(&Port::Name("other".into())), None);
        assert_eq!(container.resolve(&Port::Number(80)), Some(80));
    }
}

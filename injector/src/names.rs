//! The names that the injector gives and reads: labels, annotations, containers, ports. Each stands here once.

/// The label that asks for a guard.
pub(crate) const LABEL: &str = "llm-guard";
/// What every other key begins with.
pub(crate) const PREFIX: &str = "llm-guard.io/";

// Annotations that users write.
pub(crate) const MODE: &str = "llm-guard.io/mode";
pub(crate) const POLICY: &str = "llm-guard.io/policy";
/// Names the policy that is judged beside the one in force.
pub(crate) const SHADOW: &str = "llm-guard.io/shadow";
pub(crate) const PORT: &str = "llm-guard.io/port";
pub(crate) const INTERCEPTION: &str = "llm-guard.io/interception";
pub(crate) const CPU_REQUEST: &str = "llm-guard.io/resources-cpu-request";
pub(crate) const CPU_LIMIT: &str = "llm-guard.io/resources-cpu-limit";
pub(crate) const MEMORY_REQUEST: &str = "llm-guard.io/resources-memory-request";
pub(crate) const MEMORY_LIMIT: &str = "llm-guard.io/resources-memory-limit";
pub(crate) const ALLOW_SETUID: &str = "llm-guard.io/allow-setuid";
pub(crate) const OPEN_PORTS: &str = "llm-guard.io/open-ports";
pub(crate) const MINIMUM_MODE: &str = "llm-guard.io/minimum-mode";
pub(crate) const STOP: &str = "llm-guard.io/stop";

/// The label of a pod that has a guard.
pub(crate) const GUARDED: &str = "llm-guard.io/guarded";
/// The label that says whose settings a guarded pod has.
pub(crate) const WORKLOAD: &str = "llm-guard.io/workload";
/// The annotation with the digest of what the guard should have loaded.
pub(crate) const SETTINGS: &str = "llm-guard.io/settings";

/// The label of whatever the injector makes.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub(crate) const MANAGED: &str = "llm-guard";
/// The manager of the fields that the injector writes.
pub(crate) const MANAGER: &str = "llm-guard-injector";
/// The key in a `ConfigMap` with settings.
pub(crate) const KEY: &str = "settings";

// Containers of ours.
pub(crate) const GUARD: &str = "llm-guard";
pub(crate) const INIT: &str = "llm-guard-init";
pub(crate) const VERIFY: &str = "llm-guard-verify";

/// Where the guard takes what was meant for the model.
pub(crate) const DATA_PORT: u16 = 15434;
/// Where the guard's metrics, health and probes are.
pub(crate) const METRICS_PORT: u16 = 15435;
/// The port that is guarded where no annotation names one: Ollama's own.
pub(crate) const DEFAULT_PORT: u16 = 11434;
/// Where the model goes when the guard takes its port.
pub(crate) const MOVED_PORT: u16 = 11435;

/// Whether a container's or a volume's name is one that only the injector gives.
pub(crate) fn is_our_name(name: &str) -> bool {
    name == GUARD || name.starts_with("llm-guard-")
}

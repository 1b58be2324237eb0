//! The guard's own containers and volumes.
//!
//! The invariant: they are a function of what is given here and of nothing else in the pod, written out with every default that the
//! API server would fill in. So what bears our names is compared with what we write, and isn't believed.

use serde_json::{Map, Value, json};

use crate::names::{
    CPU_LIMIT, CPU_REQUEST, DATA_PORT, GUARD, INIT, MEMORY_LIMIT, MEMORY_REQUEST, METRICS_PORT, MODE, MOVED_PORT, VERIFY, is_our_name,
};

use super::earlier::Originals;
use super::keys::{Asked, Interception};
use super::quantity::Quantity;
use super::view::{Resources, Spec};
use super::{Backend, Config, GUARD_UID, SettingsRef};

const SETTINGS_VOLUME: &str = "llm-guard-settings";
const NO_TOKEN_VOLUME: &str = "llm-guard-no-token";
const RUN_VOLUME: &str = "llm-guard-run";
const XTABLES_VOLUME: &str = "llm-guard-xtables";

const SETTINGS_PATH: &str = "/etc/llm-guard/settings";
const RUN_PATH: &str = "/run/llm-guard";
const DRAIN_SOCKET: &str = "/run/llm-guard/drain";
/// Where the guard keeps the highest serial that it loaded.
const SERIAL_PATH: &str = "/run/llm-guard/serial";
const BINARY: &str = "/llm-guard-sidecar";
/// The user and group of the check: anybody but root and the guard.
const NOBODY: i64 = 65534;
/// How long a pod has to end, where it doesn't say.
const GRACE: i64 = 30;
/// What of that time goes by before the guard stops taking exchanges, and after the last one has ended.
const AROUND_DRAIN: i64 = 7;
/// The longest that the guard can be told to drain.
const LONGEST_DRAIN: i64 = 3600;

/// What the guard's containers are made of.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) settings: &'a SettingsRef,
    pub(super) asked: &'a Asked,
    pub(super) interception: Interception,
    pub(super) gid: u32,
    pub(super) spec: &'a Spec,
    pub(super) originals: &'a Originals,
    /// The origins that `OLLAMA_ORIGINS` lets in; the guard answers for the model where it takes its port.
    pub(super) origins: &'a [String],
}

/// A group that nothing else in the pod has, made of a random number.
///
/// In a user namespace of the pod's own there are only 65536; elsewhere there is room for guessing in vain.
pub(super) fn gid(random: u32, spec: &Spec) -> u32 {
    let (first, count) = if spec.host_users == Some(false) { (20_000, 40_000) } else { (100_000, 2_000_000_000) };
    let groups = &spec.security_context;
    // Nobody becomes one of his other groups without SETGID: were there so many that they fill the range, his own must still be left out.
    let others = groups.supplemental_groups.iter().copied().take(1000);
    let containers = spec.init_containers.iter().chain(&spec.containers).filter(|container| !is_our_name(&container.name));
    let taken: Vec<i64> = [groups.run_as_group, groups.fs_group]
        .into_iter()
        .flatten()
        .chain(others)
        .chain(containers.filter_map(|container| container.security_context.run_as_group))
        .collect();
    let mut drawn = random % count;
    // Ends: these are fewer than either range has.
    while taken.contains(&i64::from(first + drawn)) {
        drawn = (drawn + 1) % count;
    }
    first + drawn
}

impl Parts<'_> {
    /// The init containers, in their order.
    pub(super) fn containers(&self) -> Vec<Value> {
        match self.interception {
            Interception::Iptables => vec![self.init(), self.verify(), self.guard()],
            Interception::Port => vec![self.guard()],
        }
    }

    /// The volumes that they mount.
    pub(super) fn volumes(&self) -> Vec<Value> {
        // In memory: a volume on the node's disk would keep the cluster's autoscaler from moving the pod.
        let memory = |name: &str| json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
        let mode = json!({"path": "pod-mode", "fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.annotations['{}']", MODE)}});
        let settings = json!({"name": SETTINGS_VOLUME, "projected": {"defaultMode": 0o644, "sources": [
            {"configMap": {"name": self.settings.config_map}},
            {"downwardAPI": {"items": [mode]}},
        ]}});
        let mut volumes = vec![settings, memory(NO_TOKEN_VOLUME), memory(RUN_VOLUME)];
        if self.legacy() {
            volumes.push(memory(XTABLES_VOLUME));
        }
        volumes
    }

    fn legacy(&self) -> bool {
        self.interception == Interception::Iptables && self.config.backend == Backend::Legacy
    }

    fn init(&self) -> Value {
        let mut args = vec!["init".to_owned()];
        args.extend(self.numbers());
        let mut capabilities = vec!["NET_ADMIN"];
        let mut mounts = vec![no_token()];
        if self.legacy() {
            args.extend(["--backend".to_owned(), "legacy".to_owned()]);
            capabilities.push("NET_RAW");
            mounts.push(json!({"name": XTABLES_VOLUME, "mountPath": "/run"}));
        }
        let security = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": capabilities, "drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        self.container(INIT, &args, &security, &mounts)
    }

    fn verify(&self) -> Value {
        let mut args = vec!["verify".to_owned()];
        args.extend(self.numbers());
        self.container(VERIFY, &args, &unprivileged(NOBODY, NOBODY), &[no_token()])
    }

    fn numbers(&self) -> [String; 4] {
        ["--port".to_owned(), self.asked.port().to_string(), "--gid".to_owned(), self.gid.to_string()]
    }

    fn guard(&self) -> Value {
        let mounts = [
            json!({"name": SETTINGS_VOLUME, "mountPath": SETTINGS_PATH, "readOnly": true}),
            json!({"name": RUN_VOLUME, "mountPath": RUN_PATH}),
            no_token(),
        ];
        let security = unprivileged(GUARD_UID, i64::from(self.gid));
        let mut guard = self.container(GUARD, &self.arguments(), &security, &mounts);
        let probe = |path: &str, period: u32, failures: u32| {
            json!({
                "failureThreshold": failures,
                "httpGet": {"path": path, "port": METRICS_PORT, "scheme": "HTTP"},
                "periodSeconds": period,
                "successThreshold": 1,
                "timeoutSeconds": 2,
            })
        };
        if self.interception == Interception::Iptables {
            let ips = json!({"name": "POD_IPS", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIPs"}}});
            guard["env"] = json!([ips]);
        }
        // The model's port is declared by the model's container, also where the guard takes it: the API server warns of a second one.
        guard["ports"] = json!([{"containerPort": METRICS_PORT, "name": "guard-metrics", "protocol": "TCP"}]);
        guard["restartPolicy"] = json!("Always");
        guard["startupProbe"] = probe("/startupz", 1, 120);
        guard["livenessProbe"] = probe("/healthz", 10, 3);
        guard["lifecycle"] = json!({"preStop": {"exec": {"command": [BINARY, "drain", "--drain-socket", DRAIN_SOCKET]}}});
        guard
    }

    fn arguments(&self) -> Vec<String> {
        let SettingsRef { audience, serial, keys, .. } = self.settings;
        let mut args: Vec<String> = vec!["run".into(), "--in-pod".into()];
        let mut give = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        match self.interception {
            Interception::Iptables => {
                give("--listen", format!("[::]:{DATA_PORT}"));
                give("--upstream", format!("http://127.0.0.1:{}", self.asked.port()));
                // The kubelet puts the pod's addresses in its place.
                give("--pod-ips", "$(POD_IPS)".into());
            }
            Interception::Port => {
                give("--listen", format!("[::]:{}", self.asked.port()));
                give("--upstream", format!("http://127.0.0.1:{MOVED_PORT}"));
            }
        }
        give("--metrics-listen", format!("[::]:{METRICS_PORT}"));
        give("--settings", SETTINGS_PATH.into());
        give("--settings-for", audience.clone());
        for key in keys {
            give("--settings-key", key.clone());
        }
        give("--settings-serial", serial.to_string());
        give("--settings-memory", SERIAL_PATH.into());
        give("--drain-socket", DRAIN_SOCKET.into());
        give("--drain-timeout", drain_seconds(self.spec.termination_grace_period_seconds).to_string());
        for (name, original) in self.originals {
            // `$(NAME)` in an argument is a variable to the kubelet.
            give("--probe", format!("{name}={original}").replace('$', "$$"));
        }
        for origin in self.origins {
            give("--origin", origin.replace('$', "$$"));
        }
        if !self.asked.allow_setuid.is_empty() {
            give("--at-most", "monitor".into());
        }
        if self.interception == Interception::Port {
            args.push("--host-rewrite".into());
        }
        args
    }

    fn container(&self, name: &str, args: &[String], security: &Value, mounts: &[Value]) -> Value {
        let Config { guard_image, guard_pull_policy, .. } = self.config;
        json!({
            "args": args,
            "image": guard_image,
            "imagePullPolicy": guard_pull_policy,
            "name": name,
            "resources": self.resources(),
            "securityContext": security,
            "terminationMessagePath": "/dev/termination-log",
            // What init and verify have to say then stands in the pod's status.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        })
    }

    /// What each of them gets: by annotation, else by configuration. A quota may ask for a limit of every container; and init and verify,
    /// which are over before the guard begins, cost nothing beside it.
    ///
    /// A pod that has resources as a whole shares them with us: the API server would refuse requests that come on top.
    fn resources(&self) -> Value {
        let shared = &self.spec.resources;
        if !shared.requests.is_empty() || !shared.limits.is_empty() {
            return json!({});
        }
        let get = |key: &str, fallback: &Option<String>| self.asked.resources.get(key).or(fallback.as_ref()).cloned();
        let Config { cpu_request, cpu_limit, memory_request, memory_limit, .. } = self.config;
        let requests = [("cpu", get(CPU_REQUEST, cpu_request)), ("memory", get(MEMORY_REQUEST, memory_request))];
        let limits = [("cpu", get(CPU_LIMIT, cpu_limit)), ("memory", get(MEMORY_LIMIT, memory_limit))];
        let map = |amounts: [(&str, Option<String>); 2]| -> Map<String, Value> {
            amounts.into_iter().filter_map(|(name, amount)| amount.map(|amount| (name.to_owned(), amount.into()))).collect()
        };
        let both = [("requests", map(requests)), ("limits", map(limits))];
        both.into_iter()
            .filter(|(_, amounts)| !amounts.is_empty())
            .map(|(name, amounts)| (name.to_owned(), Value::Object(amounts)))
            .collect()
    }

    /// Whether the pod was sure of all that it asks for (`Guaranteed`), and no longer is, with us in it.
    pub(super) fn loses_its_guarantee(&self) -> bool {
        let own = self.spec.init_containers.iter().chain(&self.spec.containers).filter(|container| !is_our_name(&container.name));
        let resources: Resources = serde_json::from_value(self.resources()).unwrap_or_default();
        let shared = &self.spec.resources;
        shared.requests.is_empty()
            && shared.limits.is_empty()
            && own.into_iter().all(|container| guaranteed(&container.resources))
            && !guaranteed(&resources)
    }
}

/// Whether a container gets exactly what it asks for. A request that isn't written is the limit.
fn guaranteed(resources: &Resources) -> bool {
    let amount = |value: Option<&Value>| match value? {
        Value::String(text) => text.parse::<Quantity>().ok(),
        number => number.to_string().parse().ok(),
    };
    ["cpu", "memory"].into_iter().all(|name| {
        let limit = amount(resources.limits.get(name));
        limit.is_some() && amount(resources.requests.get(name)).is_none_or(|request| Some(request) == limit)
    })
}

/// Which request is above its limit.
pub(super) fn above_limit(asked: &Asked, config: &Config) -> Vec<(&'static str, &'static str)> {
    let amount = |key: &str, fallback: &Option<String>| {
        asked.resources.get(key).or(fallback.as_ref()).and_then(|text| text.parse::<Quantity>().ok())
    };
    let pairs = [
        ("cpu", (CPU_REQUEST, &config.cpu_request), (CPU_LIMIT, &config.cpu_limit)),
        ("memory", (MEMORY_REQUEST, &config.memory_request), (MEMORY_LIMIT, &config.memory_limit)),
    ];
    let above = pairs.into_iter().filter_map(|(what, request, limit)| {
        let above = amount(request.0, request.1)? > amount(limit.0, limit.1)?;
        // What was annotated is what can be changed.
        let key = if asked.resources.contains_key(request.0) { request.0 } else { limit.0 };
        above.then_some((key, what))
    });
    above.collect()
}

/// How long the guard may drain, so that its end and the pod's fit into the pod's time.
fn drain_seconds(grace: Option<i64>) -> i64 {
    let grace = grace.unwrap_or(GRACE);
    grace.saturating_sub(AROUND_DRAIN).clamp(grace.clamp(0, 1), LONGEST_DRAIN)
}

fn unprivileged(user: i64, group: i64) -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsGroup": group,
        "runAsNonRoot": true,
        "runAsUser": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Where something is mounted the API server mounts no token.
fn no_token() -> Value {
    json!({"name": NO_TOKEN_VOLUME, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_fits_into_the_pods_time() {
        for (grace, expected) in [
            (None, 23),
            (Some(30), 23),
            (Some(10), 3),
            (Some(8), 1),
            (Some(7), 1),
            (Some(1), 1),
            (Some(0), 0),
            (Some(-5), 0),
            (Some(90_000), 3600),
        ] {
            assert_eq!(drain_seconds(grace), expected, "{grace:?}");
        }
    }

    #[test]
    fn the_group_is_one_that_nothing_else_in_the_pod_has() {
        let spec = |value: Value| serde_json::from_value::<Spec>(value).unwrap();
        assert_eq!(gid(5, &spec(json!({}))), 100_005);
        assert_eq!(gid(u32::MAX, &spec(json!({}))), 100_000 + u32::MAX % 2_000_000_000);
        let groups = json!({"runAsGroup": 100_005, "fsGroup": 100_006, "supplementalGroups": [100_007]});
        let containers = json!([{"name": "a", "securityContext": {"runAsGroup": 100_008}}]);
        assert_eq!(gid(5, &spec(json!({"securityContext": groups, "containers": containers}))), 100_009);
        // However many others there are, of which a process's own can't become one.
        let others: Vec<i64> = (0..50_000).collect();
        let groups = json!({"runAsGroup": 20_005, "supplementalGroups": others});
        assert_eq!(gid(5, &spec(json!({"securityContext": groups, "hostUsers": false, "containers": containers}))), 20_006);
        for random in [0, 39_999, 40_000, u32::MAX] {
            assert!(gid(random, &spec(json!({"hostUsers": false}))) < 65_536);
        }
    }
}

//! A guarded pod, as the controller looks at it.
//!
//! What a pod is, it says in the arguments of its guard, since nobody can change those while it runs; labels and annotations can be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use kube::ResourceExt;
use llm_guard_engine::policy::Mode;

use crate::identity::Identity;
use crate::names::{DATA_PORT, DEFAULT_PORT, GUARD, METRICS_PORT, MODE, SETTINGS, is_our_name};
use crate::plan::keys;

/// The greatest serial that a pod may ask for: 285,000 years of milliseconds. Where the webhook isn't asked, anybody can make a pod that
/// looks guarded; were the last of all numbers taken from it, nothing newer could follow, and old settings would count as new ones.
const LAST_SERIAL: u64 = 1 << 53;

/// A port that a container declares, or an annotation keeps open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpenPort {
    pub(crate) number: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: String,
}

/// A pod with a guard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guarded {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) identity: Identity,
    /// The public keys that its guard knows.
    pub(crate) keys: Vec<String>,
    /// The least serial that its guard takes.
    pub(crate) serial: u64,
    /// What the annotation says that the guard should have loaded.
    pub(crate) told: Option<String>,
    /// The mode that it asks for itself.
    pub(crate) mode: Option<Mode>,
    /// When it was made, in seconds since 1970.
    pub(crate) created: Option<i64>,
    /// Where its guard answers, once it runs: already while init containers do.
    pub(crate) address: Option<IpAddr>,
    /// The port that is guarded.
    pub(crate) port: u16,
    /// The others.
    pub(crate) open: BTreeSet<OpenPort>,
}

impl Guarded {
    /// Reads a pod. Nothing if it holds no guard of this namespace, or has ended.
    pub(crate) fn of(pod: &Pod, cluster: &str, namespace: &str, namespace_uid: &str) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return None;
        }
        let guard = spec.init_containers.iter().flatten().find(|container| container.name == GUARD)?;
        let args = guard.args.as_deref().unwrap_or_default();
        let identity = values(args, "--settings-for").find_map(|audience| Identity::parse(audience, cluster, namespace, namespace_uid))?;
        let annotation = |key: &str| pod.annotations().get(key).map(String::as_str);
        let port = annotation("llm-guard.io/port").and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_PORT);
        // What ends before the pod runs listens nowhere afterwards.
        let lasting = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let mut open = ports(lasting.chain(&spec.containers).filter(|container| !is_our_name(&container.name)));
        let kept = annotation("llm-guard.io/open-ports").unwrap_or_default().split(',');
        open.extend(kept.filter_map(|port| Some(OpenPort { number: port.trim().parse().ok()?, protocol: "TCP".into() })));
        open.retain(|open| open.protocol != "TCP" || ![port, DATA_PORT, METRICS_PORT].contains(&open.number));
        Some(Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            identity,
            keys: values(args, "--settings-key").map(str::to_owned).collect(),
            serial: values(args, "--settings-serial")
                .find_map(|text| text.parse().ok().filter(|serial| *serial <= LAST_SERIAL))
                .unwrap_or_default(),
            told: annotation(SETTINGS).map(str::to_owned),
            mode: annotation(MODE).and_then(keys::mode),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            address: status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()),
            port,
            open,
        })
    }

    /// For events.
    pub(crate) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(self.identity.namespace().to_owned()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// The ports that containers which keep running declare.
fn ports<'a>(containers: impl Iterator<Item = &'a Container>) -> BTreeSet<OpenPort> {
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some(OpenPort { number: u16::try_from(port.container_port).ok()?, protocol })
        })
        .collect()
}

/// The values of a flag, written as `--flag VALUE` or `--flag=VALUE`.
fn values<'a>(args: &'a [String], flag: &'a str) -> impl Iterator<Item = &'a str> {
    args.iter().enumerate().filter_map(move |(place, arg)| match arg.strip_prefix(flag)? {
        "" => args.get(place + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(args: &[&str]) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u",
                "annotations": {"llm-guard.io/port": "8000", "llm-guard.io/open-ports": "9000, 8000"},
            },
            "spec": {
                "initContainers": [{"name": "llm-guard", "args": args, "ports": [{"containerPort": 15435}]}],
                "containers": [{"name": "m", "ports": [{"containerPort": 8000}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 15435}]}],
            },
            "status": {"podIP": "10.0.0.1", "phase": "Running"},
        }))
        .unwrap()
    }

    const FOR: &str = "cluster/uid/Deployment/ollama";

    #[test]
    fn a_pod_is_what_its_guards_arguments_say() {
        let args = ["run", "--settings-for", FOR, "--settings-key", "a", "--settings-key=b", "--settings-serial=7"];
        let guarded = Guarded::of(&pod(&args), "cluster", "n", "uid").unwrap();
        assert_eq!((guarded.identity.audience("cluster").as_str(), guarded.serial), (FOR, 7));
        assert_eq!(guarded.keys, ["a", "b"]);
        assert_eq!(guarded.port, 8000);
        assert_eq!(guarded.address, Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_pod_that_asks_for_more_than_any_serial_doesnt_use_up_the_numbers() {
        let serial = |asked: u64| {
            let args = ["--settings-for", FOR, "--settings-serial", &asked.to_string()];
            Guarded::of(&pod(&args), "cluster", "n", "uid").unwrap().serial
        };
        assert_eq!((serial(LAST_SERIAL), serial(LAST_SERIAL + 1), serial(u64::MAX)), (LAST_SERIAL, 0, 0));
    }

    #[test]
    fn the_guarded_port_and_the_guards_own_are_not_among_the_others() {
        let guarded = Guarded::of(&pod(&["--settings-for", FOR]), "cluster", "n", "uid").unwrap();
        let open: Vec<_> = guarded.open.iter().map(|open| (open.number, open.protocol.as_str())).collect();
        assert_eq!(open, [(53, "UDP"), (9000, "TCP")]);
    }

    #[test]
    fn ports_are_open_of_whatever_runs_on_and_isnt_ours() {
        let mut pod = pod(&["--settings-for", FOR]);
        let container = |name: &str, port: u16, policy: Option<&str>| -> Container {
            let text = serde_json::json!({"name": name, "ports": [{"containerPort": port}], "restartPolicy": policy});
            serde_json::from_value(text).unwrap()
        };
        let spec = pod.spec.as_mut().unwrap();
        spec.init_containers.as_mut().unwrap().extend([
            container("ends", 7001, None),
            container("lasts", 7002, Some("Always")),
            container("llm-guard-verify", 7003, Some("Always")),
        ]);
        spec.containers.push(container("llm-guardian", 7004, None));
        let guarded = Guarded::of(&pod, "cluster", "n", "uid").unwrap();
        let open: Vec<_> = guarded.open.iter().map(|open| open.number).collect();
        assert_eq!(open, [53, 7002, 7004, 9000]);
    }

    #[test]
    fn a_pod_of_another_cluster_or_namespace_or_without_a_guard_is_none() {
        for args in [&["--settings-for", "other/uid/Deployment/ollama"][..], &["--settings-for", "cluster/x/Deployment/ollama"], &["run"]] {
            assert_eq!(Guarded::of(&pod(args), "cluster", "n", "uid"), None, "{args:?}");
        }
        let mut ended = pod(&["--settings-for", FOR]);
        ended.status.as_mut().unwrap().phase = Some("Succeeded".into());
        assert_eq!(Guarded::of(&ended, "cluster", "n", "uid"), None);
    }
}

//! What pods become: the rules one by one, the properties of all pods, and whole pods as files.

mod files;
mod properties;
mod rules;

use serde_json::Value;

use super::*;

/// A namespace with a label, and an injector with its defaults.
pub(crate) fn surroundings() -> Surroundings {
    let labels = BTreeMap::from([("llm-guard".to_owned(), "enabled".to_owned())]);
    Surroundings {
        namespace: Namespace {
            name: "llm".into(),
            uid: "1b6f2a44-0000-4000-8000-000000000001".into(),
            labels,
            annotations: BTreeMap::new(),
        },
        services: Vec::new(),
        config: Config {
            guard_image: "registry.example/llm-guard-sidecar:0.1.0".into(),
            guard_pull_policy: "IfNotPresent".into(),
            guard_pull_secrets: Vec::new(),
            cpu_request: Some("20m".into()),
            cpu_limit: None,
            memory_request: Some("32Mi".into()),
            memory_limit: Some("512Mi".into()),
            backend: Backend::Nft,
            pod_security_default: PodSecurity::Privileged,
            model_server_images: vec!["ollama/ollama".into(), "vllm/vllm-openai".into()],
        },
        random: 7,
        settings: SettingsRef {
            config_map: "llm-guard-deployment-ollama-0123456789ab".into(),
            audience: "cluster-uid/namespace-uid/Deployment/ollama".into(),
            workload_hash: "0123456789abcdef".into(),
            workload: "Deployment/ollama".into(),
            serial: 1_700_000_000_000,
            digest: "d1".repeat(32),
            keys: ["c1".repeat(32), "e2".repeat(32)],
        },
        workload_annotations: BTreeMap::new(),
        bare: false,
        policy: None,
    }
}

/// The plan of a pod that must get a guard.
fn planned(pod: &Value, s: &Surroundings) -> Plan {
    match plan(pod, s) {
        Outcome::Guard(plan) => *plan,
        Outcome::Refused(refusals) => panic!("refused: {refusals:?}"),
        Outcome::Untouched(why) => panic!("untouched: {why:?}"),
    }
}

/// The refusals of a pod, as field and sentence; none if it isn't refused.
fn refused(pod: &Value, s: &Surroundings) -> Vec<String> {
    match plan(pod, s) {
        Outcome::Refused(refusals) => refusals.iter().map(|refusal| format!("{}: {}", refusal.field.path, refusal.obstacle)).collect(),
        Outcome::Guard(_) | Outcome::Untouched(_) => Vec::new(),
    }
}

/// What the API server makes of a pod and a plan's patch.
fn patched(pod: &Value, plan: &Plan) -> Value {
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &crate::patch::patch(plan)).expect("the patch fits the pod that was planned for");
    patched
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

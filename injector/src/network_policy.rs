//! The `NetworkPolicies` around guarded pods, and those of others that open more. Pure.
//!
//! The invariant: where these are the only ones, nothing outside of a guarded pod reaches it but by the guarded port, by ports that its
//! containers declare, and by the guard's own port for metrics, from those who may.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt};
use llm_guard_engine::policy::GuardPolicy;

use crate::guarded::{Guarded, OpenPort};
use crate::identity::{Identity, digest};
use crate::names::{GUARDED, LABEL, MANAGED, MANAGED_BY, METRICS_PORT};

/// The policy of pods that ask for a guard and have none.
pub(crate) const UNGUARDED: &str = "llm-guard-unguarded";
/// The annotation with the digest of what we wrote, by which edits of others are told from our own.
const WRITTEN: &str = "llm-guard.io/written";

/// Who reaches the guards' metrics.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(crate) own_namespace: String,
    pub(crate) monitoring: Vec<NetworkPolicyPeer>,
}

impl Peers {
    /// The injector asks guards what they have loaded; the others read metrics.
    fn all(&self) -> Vec<NetworkPolicyPeer> {
        let injector = NetworkPolicyPeer {
            namespace_selector: Some(labels([("kubernetes.io/metadata.name", self.own_namespace.as_str())])),
            pod_selector: Some(labels([("app.kubernetes.io/name", "llm-guard-injector")])),
            ip_block: None,
        };
        std::iter::once(injector).chain(self.monitoring.iter().cloned()).collect()
    }
}

/// What stands around one workload's pods.
pub(crate) struct Ways<'a> {
    pub(crate) identity: &'a Identity,
    /// The guarded port; several while a rollout changes it.
    pub(crate) guarded: BTreeSet<u16>,
    /// The others that are open to everyone.
    pub(crate) open: BTreeSet<OpenPort>,
    /// Who may come to the guarded port; nothing means everyone.
    pub(crate) from: Option<Vec<NetworkPolicyPeer>>,
}

impl<'a> Ways<'a> {
    pub(crate) fn of<'p>(
        identity: &'a Identity,
        pods: impl IntoIterator<Item = &'p Guarded>,
        from: Option<Vec<NetworkPolicyPeer>>,
    ) -> Self {
        let mut this = Self { identity, guarded: BTreeSet::new(), open: BTreeSet::new(), from };
        for pod in pods {
            this.guarded.insert(pod.port);
            this.open.extend(pod.open.iter().cloned());
        }
        this
    }

    /// The policy of this workload's pods.
    pub(crate) fn policy(&self, peers: &Peers) -> NetworkPolicy {
        let tcp = |number: &u16| port(*number, "TCP");
        let mut ingress = vec![
            NetworkPolicyIngressRule { ports: Some(self.guarded.iter().map(tcp).collect()), from: self.from.clone() },
            NetworkPolicyIngressRule { ports: Some(vec![port(METRICS_PORT, "TCP")]), from: Some(peers.all()) },
        ];
        if !self.open.is_empty() {
            let ports = self.open.iter().map(|open| port(open.number, &open.protocol)).collect();
            ingress.push(NetworkPolicyIngressRule { ports: Some(ports), from: None });
        }
        let selector = labels([(GUARDED, "true"), ("llm-guard.io/workload", self.identity.hash().as_str())]);
        policy(self.identity.namespace(), &self.identity.object_name(), selector, ingress)
    }

    /// Whether a rule of somebody else's lets in what ours wouldn't. What can't be shown to be within ours counts as more.
    fn is_exceeded_by(&self, rule: &NetworkPolicyIngressRule) -> bool {
        let Some(ports) = rule.ports.as_ref().filter(|ports| !ports.is_empty()) else { return true };
        ports.iter().any(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let Some(IntOrString::Int(number)) = port.port.as_ref() else { return true };
            let Ok(number) = u16::try_from(*number) else { return true };
            if port.end_port.is_some_and(|end| end != i32::from(number)) {
                return true;
            }
            if self.open.contains(&OpenPort { number, protocol: protocol.into() }) {
                return false;
            }
            if protocol != "TCP" || !self.guarded.contains(&number) {
                return true;
            }
            match (&self.from, rule.from.as_ref().filter(|from| !from.is_empty())) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(ours), Some(theirs)) => !theirs.iter().all(|peer| ours.contains(peer)),
            }
        })
    }
}

/// The policy that closes pods which ask for a guard and have none: made while the webhook wasn't there.
pub(crate) fn unguarded(namespace: &str) -> NetworkPolicy {
    let mut selector = labels([(LABEL, "enabled")]);
    let lacks = LabelSelectorRequirement { key: GUARDED.into(), operator: "DoesNotExist".into(), values: None };
    selector.match_expressions = Some(vec![lacks]);
    policy(namespace, UNGUARDED, selector, Vec::new())
}

/// Whether a policy of somebody else's opens more on a pod with these labels.
pub(crate) fn opens_more(theirs: &NetworkPolicy, pod: &BTreeMap<String, String>, ways: &Ways<'_>) -> bool {
    let Some(spec) = &theirs.spec else { return false };
    // By the names alone, since those are kept right: anybody can write our label.
    let is_ours = theirs.metadata.name.as_deref().is_some_and(|name| name == UNGUARDED || name == ways.identity.object_name());
    // Without policyTypes a policy is about ingress.
    let about_ingress = spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|sort| sort == "Ingress"));
    if is_ours || !about_ingress {
        return false;
    }
    let selects = match spec.pod_selector.clone().map(Selector::try_from) {
        None => true,
        Some(Ok(selector)) => selector.matches(pod),
        Some(Err(_)) => false,
    };
    selects && spec.ingress.iter().flatten().any(|rule| ways.is_exceeded_by(rule))
}

/// What is there, seen against what should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As it should be.
    Right,
    /// As we wrote it, for what was right then.
    Outdated,
    /// Somebody else wrote it.
    Edited,
}

/// Compares.
pub(crate) fn standing(there: &NetworkPolicy, wanted: &NetworkPolicy) -> Standing {
    let of = |policy: &NetworkPolicy, key: &str| policy.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
    let labelled = there.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGED);
    if there.spec == wanted.spec && labelled && of(there, WRITTEN) == of(wanted, WRITTEN) {
        Standing::Right
    } else if of(there, WRITTEN) == Some(written(there.spec.as_ref())) {
        Standing::Outdated
    } else {
        Standing::Edited
    }
}

/// The peers of a policy's `network.from`, as Kubernetes has them.
pub(crate) fn from(policy: &GuardPolicy) -> Result<Option<Vec<NetworkPolicyPeer>>, String> {
    let Some(from) = &policy.spec.network.from else { return Ok(None) };
    // Older settings may hold what is refused by now.
    policy.spec.network.check().map_err(|error| error.to_string())?;
    let peers = from.iter().map(|peer| serde_json::from_value(serde_json::to_value(peer)?));
    peers.collect::<Result<_, serde_json::Error>>().map(Some).map_err(|error| format!("spec.network.from: {error}"))
}

fn policy(namespace: &str, name: &str, pod_selector: LabelSelector, ingress: Vec<NetworkPolicyIngressRule>) -> NetworkPolicy {
    let spec = NetworkPolicySpec {
        pod_selector: Some(pod_selector),
        // An empty list isn't kept by the API server.
        ingress: Some(ingress).filter(|ingress| !ingress.is_empty()),
        policy_types: Some(vec!["Ingress".into()]),
        egress: None,
    };
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        labels: Some([(MANAGED_BY.to_owned(), MANAGED.to_owned())].into()),
        annotations: Some([(WRITTEN.to_owned(), written(Some(&spec)))].into()),
        ..ObjectMeta::default()
    };
    NetworkPolicy { metadata, spec: Some(spec) }
}

fn written(spec: Option<&NetworkPolicySpec>) -> String {
    digest(&serde_json::to_string(&spec).unwrap_or_default())
}

fn port(number: u16, protocol: &str) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(number.into())), protocol: Some(protocol.into()), end_port: None }
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> LabelSelector {
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    LabelSelector { match_labels: Some(labels.into()), match_expressions: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::{Kind, Whose};

    fn identity() -> Identity {
        Identity::new("llm", "uid", Whose::Workload(Kind::Deployment, "ollama".into()), None)
    }

    fn peers() -> Peers {
        let monitoring = serde_json::from_value(json!({"namespaceSelector": {"matchLabels": {"name": "monitoring"}}})).unwrap();
        Peers { own_namespace: "llm-guard-system".into(), monitoring: vec![monitoring] }
    }

    fn ways(identity: &Identity, from: Option<Vec<NetworkPolicyPeer>>) -> Ways<'_> {
        let open = [OpenPort { number: 53, protocol: "UDP".into() }].into();
        Ways { identity, guarded: [11434].into(), open, from }
    }

    fn team() -> NetworkPolicyPeer {
        serde_json::from_value(json!({"namespaceSelector": {"matchLabels": {"team": "chat"}}})).unwrap()
    }

    fn labels_of_pod() -> BTreeMap<String, String> {
        [("app".to_owned(), "ollama".to_owned()), (GUARDED.to_owned(), "true".to_owned())].into()
    }

    fn theirs(spec: &serde_json::Value) -> NetworkPolicy {
        serde_json::from_value(json!({"metadata": {"name": "theirs"}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_guarded_port_is_open_to_who_may_the_guards_to_monitoring_and_the_rest_as_declared() {
        let policy = serde_json::to_value(ways(&identity(), Some(vec![team()])).policy(&peers())).unwrap();
        let ingress = &policy["spec"]["ingress"];
        assert_eq!(ingress[0]["ports"], json!([{"port": 11434, "protocol": "TCP"}]));
        assert_eq!(ingress[0]["from"][0]["namespaceSelector"]["matchLabels"]["team"], "chat");
        assert_eq!(ingress[1]["ports"][0]["port"], 15435);
        assert_eq!(ingress[1]["from"].as_array().unwrap().len(), 2);
        assert_eq!(ingress[2], json!({"ports": [{"port": 53, "protocol": "UDP"}]}));
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"]["llm-guard.io/workload"], identity().hash());
    }

    #[test]
    fn pods_that_ask_for_a_guard_and_have_none_accept_nothing() {
        let policy = serde_json::to_value(unguarded("llm")).unwrap();
        assert_eq!(policy["spec"].get("ingress"), None);
        let spec = unguarded("llm").spec.unwrap();
        let selector = Selector::try_from(spec.pod_selector.unwrap()).unwrap();
        let asks: BTreeMap<_, _> = [(LABEL.to_owned(), "enabled".to_owned())].into();
        assert!(selector.matches(&asks));
        let mut has = asks.clone();
        has.insert(GUARDED.into(), "true".into());
        assert!(!selector.matches(&has) && !selector.matches(&labels_of_pod()));
    }

    #[test]
    fn what_others_open_beyond_ours_is_found_and_what_lies_within_is_not() {
        let identity = identity();
        let app = json!({"matchLabels": {"app": "ollama"}});
        let ports = |ports: serde_json::Value| json!({"podSelector": app, "ingress": [{"ports": ports}]});
        for (spec, more) in [
            (json!({"podSelector": {}}), false),
            (json!({"podSelector": {}, "ingress": [{}]}), true),
            (json!({"podSelector": {"matchLabels": {"app": "other"}}, "ingress": [{}]}), false),
            (json!({"podSelector": {}, "ingress": [{}], "policyTypes": ["Egress"]}), false),
            (ports(json!([{"port": 11434}])), false),
            (ports(json!([{"port": 11434, "protocol": "UDP"}])), true),
            (ports(json!([{"port": 11434, "endPort": 11435}])), true),
            (ports(json!([{"port": "http"}])), true),
            (ports(json!([{"port": 53, "protocol": "UDP"}, {"port": 11434, "protocol": "TCP"}])), false),
            (ports(json!([{"port": 15435}])), true),
            (ports(json!([{"protocol": "TCP"}])), true),
        ] {
            assert_eq!(opens_more(&theirs(&spec), &labels_of_pod(), &ways(&identity, None)), more, "{spec}");
        }
        let from =
            |peers: serde_json::Value| theirs(&json!({"podSelector": app, "ingress": [{"ports": [{"port": 11434}], "from": peers}]}));
        let narrow = ways(&identity, Some(vec![team()]));
        assert!(!opens_more(&from(json!([team()])), &labels_of_pod(), &narrow));
        assert!(opens_more(&from(json!([team(), {"podSelector": {}}])), &labels_of_pod(), &narrow));
        assert!(opens_more(&from(json!([])), &labels_of_pod(), &narrow));
        let ours = ways(&identity, None).policy(&peers());
        assert!(!opens_more(&ours, &labels_of_pod(), &narrow), "ours is no stranger's");
        let mut disguised = theirs(&json!({"podSelector": {}, "ingress": [{}]}));
        disguised.metadata.labels = Some([(MANAGED_BY.to_owned(), MANAGED.to_owned())].into());
        assert!(opens_more(&disguised, &labels_of_pod(), &narrow), "our label doesn't make it ours");
    }

    #[test]
    fn an_edit_of_somebody_elses_is_told_from_what_we_wrote_before() {
        let identity = identity();
        let (before, wanted) = (ways(&identity, None).policy(&peers()), ways(&identity, Some(vec![team()])).policy(&peers()));
        assert_eq!(standing(&wanted, &wanted), Standing::Right);
        assert_eq!(standing(&before, &wanted), Standing::Outdated);
        let mut edited = wanted.clone();
        edited.spec.as_mut().unwrap().ingress = None;
        assert_eq!(standing(&edited, &wanted), Standing::Edited);
        let mut bare = wanted.clone();
        bare.metadata.labels = None;
        assert_ne!(standing(&bare, &wanted), Standing::Right);
    }

    #[test]
    fn peers_that_kubernetes_would_read_otherwise_are_refused() {
        let read = |from: &serde_json::Value| {
            let text =
                json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "spec": {"network": {"from": from}}}).to_string();
            GuardPolicy::read(&text).map_err(|error| error.to_string()).and_then(|policy| super::from(&policy))
        };
        assert_eq!(read(&json!([team()])), Ok(Some(vec![team()])));
        assert_eq!(super::from(&GuardPolicy::built_in()), Ok(None));
        for bad in [
            json!([]),
            json!([{}]),
            json!([{"podSelecter": {}}]),
            json!([{"podSelector": {"matchLabel": {"a": "b"}}}]),
            json!([{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]),
            json!([{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}]),
            json!(["everyone"]),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}

//! Who goes by which policy of a namespace.
//!
//! The invariant: whoever is found here would feel it if the policy were another one or gone. Pods that are ending, and pods whose workload
//! is gone, would not: the first end under what they have loaded, the second keep their policy as it was.

use std::collections::{BTreeMap, BTreeSet};

use llm_guard_engine::policy::Mode;

use crate::guarded::Guarded;
use crate::identity::{Identity, Whose};
use crate::names::{POLICY, SHADOW};
use crate::settings::Around;

/// Somebody who goes by a policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) identity: Identity,
    /// The policy's name.
    pub(crate) policy: String,
    /// Whether somebody named it, or it holds by its own name.
    pub(crate) named: bool,
    /// The name of the policy that is judged beside it, and whether the workload itself names that.
    pub(crate) shadow: Option<(String, bool)>,
    /// The workload's annotations; nothing for bare pods.
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// The guarded pods, with the modes that they ask for themselves. None: nothing of it runs.
    pub(crate) pods: Vec<(String, Option<Mode>)>,
}

impl User {
    /// For people: `Deployment/ollama`, or the pods that belong to no workload.
    pub(crate) fn names(&self) -> Vec<String> {
        match self.identity.whose() {
            Whose::Workload(..) => vec![self.identity.workload()],
            Whose::Bare => self.pods.iter().map(|(pod, _)| format!("Pod/{pod}")).collect(),
        }
    }

    /// Whether the policy is in use by it: it runs, or names the policy and may run at any time.
    pub(crate) fn uses(&self, policy: &str) -> bool {
        self.policy == policy && (!self.pods.is_empty() || self.named)
    }

    /// The same of the policy that is judged beside the one in force.
    pub(crate) fn shadows(&self, policy: &str) -> bool {
        self.shadow.as_ref().is_some_and(|(shadow, named)| shadow == policy && (!self.pods.is_empty() || *named))
    }
}

/// Everybody in a namespace: whose guarded pods run, and the workloads that say something of policies though none of theirs runs.
///
/// `workloads`: every workload that there is, by kind and name, with its annotations.
pub(crate) fn users(
    namespace: &str,
    namespace_uid: &str,
    namespace_annotations: &BTreeMap<String, String>,
    pods: &[Guarded],
    workloads: &BTreeMap<Whose, BTreeMap<String, String>>,
) -> Vec<User> {
    let mut by_identity = BTreeMap::<Identity, Vec<(String, Option<Mode>)>>::new();
    for pod in pods {
        by_identity.entry(pod.identity.clone()).or_default().push((pod.name.clone(), pod.mode));
    }
    let running: BTreeSet<Whose> = by_identity.keys().map(|identity| identity.whose().clone()).collect();
    for whose in workloads.keys().filter(|whose| !running.contains(*whose)) {
        by_identity.insert(Identity::new(namespace, namespace_uid, whose.clone(), None), Vec::new());
    }
    let user = |(identity, pods): (Identity, Vec<(String, Option<Mode>)>)| {
        let annotations = match identity.whose() {
            Whose::Bare => None,
            whose @ Whose::Workload(..) => Some(workloads.get(whose)?.clone()),
        };
        // What says nothing and doesn't run is most likely no model server at all.
        if pods.is_empty() && annotations.as_ref().is_none_or(BTreeMap::is_empty) {
            return None;
        }
        // A floor says nothing of which policy it is.
        let around = Around { floor: None, namespace: namespace_annotations, workload: annotations.as_ref() };
        let policy = around.policy_name(&identity).0.to_owned();
        // By the namespace's word alone a workload that doesn't run isn't known to use it.
        let named = identity.policy().is_some() || annotations.as_ref().is_some_and(|annotations| annotations.contains_key(POLICY));
        let shadow = around.shadow_name().map(|(name, named)| (name.to_owned(), named));
        Some(User { identity, policy, named, shadow, annotations, pods })
    };
    by_identity.into_iter().filter_map(user).collect()
}

/// The names of those who use a policy, each once, in order.
pub(crate) fn names_of_users(policy: &str, namespace: &BTreeMap<String, String>, name: &str, users: &[User]) -> Vec<String> {
    let mut names: BTreeSet<String> = users.iter().filter(|user| user.uses(policy)).flat_map(User::names).collect();
    if namespace.get(POLICY).is_some_and(|named| named == policy) {
        names.insert(format!("Namespace/{name}"));
    }
    let shadowed = |name: String| format!("{name} (as its shadow)");
    names.extend(users.iter().filter(|user| user.shadows(policy)).flat_map(User::names).map(shadowed));
    if namespace.get(SHADOW).is_some_and(|named| named == policy) {
        names.insert(shadowed(format!("Namespace/{name}")));
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kind;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn deployment(name: &str) -> Whose {
        Whose::Workload(Kind::Deployment, name.into())
    }

    fn pod(name: &str, whose: Whose, policy: Option<&str>) -> Guarded {
        Guarded {
            name: name.into(),
            uid: name.into(),
            identity: Identity::new("n", "uid", whose, policy),
            keys: Vec::new(),
            serial: 0,
            told: None,
            mode: None,
            created: None,
            address: None,
            port: 11434,
            open: BTreeSet::new(),
        }
    }

    #[test]
    fn whoever_has_a_policy_as_its_shadow_is_found_as_such() {
        let workloads = BTreeMap::from([
            (deployment("both"), map(&[(POLICY, "p"), (SHADOW, "p")])),
            (deployment("asleep"), map(&[(SHADOW, "p")])),
            (deployment("quiet"), map(&[("llm-guard.io/mode", "soft")])),
            (deployment("own"), map(&[(SHADOW, "q")])),
        ]);
        let pods = [pod("runs-1", deployment("runs"), None), pod("own-1", deployment("own"), None), pod("bare", Whose::Bare, None)];
        let workloads = workloads.into_iter().chain([(deployment("runs"), map(&[]))]).collect();
        let found = |policy: &str, namespace: &[(&str, &str)]| {
            let namespace = map(namespace);
            names_of_users(policy, &namespace, "n", &users("n", "uid", &namespace, &pods, &workloads))
        };
        let of_workloads = ["Deployment/asleep (as its shadow)", "Deployment/both", "Deployment/both (as its shadow)"];
        assert_eq!(found("p", &[]), of_workloads);
        // By the namespace's word, those that run, and say nothing else.
        let of_namespace = ["Deployment/runs (as its shadow)", "Namespace/n (as its shadow)", "Pod/bare (as its shadow)"];
        assert_eq!(found("p", &[(SHADOW, "p")]), [&of_workloads[..], &of_namespace].concat());
        assert_eq!(found("q", &[(SHADOW, "p")]), ["Deployment/own (as its shadow)"]);
    }

    #[test]
    fn whoever_runs_by_a_policy_or_names_it_is_found_and_nobody_else() {
        let workloads = BTreeMap::from([
            (deployment("plain"), map(&[])),
            (deployment("web"), map(&[])),
            (deployment("named"), map(&[(POLICY, "p")])),
            (deployment("asleep"), map(&[(POLICY, "p")])),
            (deployment("calm"), map(&[("llm-guard.io/mode", "monitor")])),
        ]);
        let pods = [
            pod("plain-1", deployment("plain"), None),
            pod("plain-2", deployment("plain"), Some("q")),
            pod("named-1", deployment("named"), None),
            pod("left-1", deployment("gone"), Some("p")),
            pod("bare", Whose::Bare, None),
            pod("bare-p", Whose::Bare, Some("p")),
        ];
        let found = |policy: &str, namespace: &[(&str, &str)]| {
            let namespace = map(namespace);
            names_of_users(policy, &namespace, "n", &users("n", "uid", &namespace, &pods, &workloads))
        };
        assert_eq!(found("p", &[]), ["Deployment/asleep", "Deployment/named", "Pod/bare-p"]);
        assert_eq!(found("q", &[]), ["Deployment/plain"]);
        assert_eq!(found("default", &[]), ["Deployment/plain", "Pod/bare"]);
        assert_eq!(found("default", &[(POLICY, "r")]), [""; 0]);
        assert_eq!(found("r", &[(POLICY, "r")]), ["Deployment/plain", "Namespace/n", "Pod/bare"]);
    }
}

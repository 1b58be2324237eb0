//! Whose settings: what a workload's `ConfigMap` and `NetworkPolicy` are called, and what its guards compare.
//!
//! The invariant: two workloads, of whatever namespace and cluster, never have the same audience.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The kind that bare pods' settings are written for.
const SHARED: &str = "Namespace";
/// The most characters of a `ConfigMap`'s name that we make: it may be used as a label's value.
const NAME: usize = 63;

/// The kinds of workloads whose annotations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// apps/v1
    Deployment,
    /// apps/v1
    StatefulSet,
    /// apps/v1
    DaemonSet,
    /// batch/v1
    Job,
    /// batch/v1
    CronJob,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::Job, Self::CronJob];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    pub(crate) const fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::Job | Self::CronJob => "batch/v1",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Whose settings: a workload's, or what the bare pods of a namespace share; and the policy that its pods name, if they do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    namespace: String,
    namespace_uid: String,
    whose: Whose,
    policy: Option<String>,
}

/// See [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Whose {
    /// A workload's.
    Workload(Kind, String),
    /// Pods' that belong to no workload whose annotations count.
    Bare,
}

impl Identity {
    /// `policy`: the one that the pod itself names.
    pub(crate) fn new(namespace: &str, namespace_uid: &str, whose: Whose, policy: Option<&str>) -> Self {
        Self { namespace: namespace.into(), namespace_uid: namespace_uid.into(), whose, policy: policy.map(str::to_owned) }
    }

    /// Reads an audience, if it is of this cluster and namespace.
    pub(crate) fn parse(audience: &str, cluster: &str, namespace: &str, namespace_uid: &str) -> Option<Self> {
        let mut parts = audience.split('/');
        let (of, within, kind, name, policy) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next());
        if of != cluster || within != namespace_uid || name.is_empty() || policy == Some("") || parts.next().is_some() {
            return None;
        }
        let whose = match Kind::from_name(kind) {
            Some(kind) => Whose::Workload(kind, name.into()),
            None if kind == SHARED && name == namespace => Whose::Bare,
            None => return None,
        };
        Some(Self::new(namespace, namespace_uid, whose, policy))
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn whose(&self) -> &Whose {
        &self.whose
    }

    /// The policy that the pod itself names.
    pub(crate) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    fn kind_and_name(&self) -> (&str, &str) {
        match &self.whose {
            Whose::Workload(kind, name) => (kind.name(), name),
            Whose::Bare => (SHARED, &self.namespace),
        }
    }

    /// For people: `Deployment/ollama`.
    pub(crate) fn workload(&self) -> String {
        let (kind, name) = self.kind_and_name();
        format!("{kind}/{name}")
    }

    /// What the guard compares.
    pub(crate) fn audience(&self, cluster: &str) -> String {
        let (kind, name) = self.kind_and_name();
        let mut audience = format!("{cluster}/{}/{kind}/{name}", self.namespace_uid);
        if let Some(policy) = &self.policy {
            let _ = write!(audience, "/{policy}");
        }
        audience
    }

    /// The value of the label `llm-guard.io/workload`.
    pub(crate) fn hash(&self) -> String {
        let (kind, name) = self.kind_and_name();
        let parts = [self.namespace_uid.as_str(), kind, name, self.policy.as_deref().unwrap_or_default()];
        hex(&Sha256::digest(parts.join("/").as_bytes())[..8])
    }

    /// The name of the `ConfigMap`, and of the `NetworkPolicy`.
    pub(crate) fn object_name(&self) -> String {
        let (kind, name) = self.kind_and_name();
        let (head, tail) = (format!("llm-guard-{}-", kind.to_lowercase()), format!("-{}", self.hash()));
        let room = NAME - head.len() - tail.len();
        let name: String = name.to_lowercase().chars().take(room).collect();
        format!("{head}{}{tail}", name.trim_end_matches(['-', '.']))
    }
}

/// Whether the injector may have made an object of this name for settings.
pub(crate) fn is_object_name(name: &str) -> bool {
    let hash = name.rsplit_once('-').map(|(_, hash)| hash);
    name.starts_with("llm-guard-") && hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The digest that guards report.
pub(crate) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "cluster";

    fn ollama(policy: Option<&str>) -> Identity {
        Identity::new("llm", "uid", Whose::Workload(Kind::Deployment, "ollama".into()), policy)
    }

    #[test]
    fn an_audience_reads_as_it_was_written() {
        for identity in [
            ollama(None),
            ollama(Some("support")),
            Identity::new("llm", "uid", Whose::Bare, None),
            Identity::new("llm", "uid", Whose::Bare, Some("support")),
        ] {
            assert_eq!(Identity::parse(&identity.audience(CLUSTER), CLUSTER, "llm", "uid"), Some(identity));
        }
        for foreign in [
            "",
            "cluster/uid/Deployment",
            "cluster/uid/Deployment/",
            "cluster/uid/Pod/x",
            "cluster/uid/Deployment/a/b/c",
            "cluster/uid/Namespace/other",
        ] {
            assert_eq!(Identity::parse(foreign, CLUSTER, "llm", "uid"), None, "{foreign}");
        }
    }

    #[test]
    fn names_fit_and_differ_whatever_the_workload_is_called() {
        let long = |end: &str| Identity::new("llm", "uid", Whose::Workload(Kind::StatefulSet, format!("{}.{end}", "a.".repeat(100))), None);
        let all = [long("x"), long("y"), ollama(None), ollama(Some("p")), Identity::new("llm", "uid", Whose::Bare, None)];
        let names = all.map(|who| who.object_name());
        for name in &names {
            assert!(name.len() <= NAME && is_object_name(name) && !name.contains(".-"), "{name}");
        }
        let mut distinct = names.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        assert!(!is_object_name("llm-guard-unguarded") && !is_object_name("kube-root-ca.crt"));
    }
}

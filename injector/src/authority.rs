//! Who may change what: RBAC doesn't see labels and annotations, so the injector looks at what a change of them means, and which verb
//! on `guardpolicies` it takes. Pure; whether somebody has the verb, [`crate::access`] asks.
//!
//! | verb | for |
//! | --- | --- |
//! | `lower` | a mode, a floor or a policy that isn't provably as strong as what holds; what keeps a pod in monitor |
//! | `exempt` | pods that get no guard, and ports that go past it |
//! | `stop` | to set or to lift a stop |
//!
//! Reviewed is what people edit: namespaces, workloads with their templates, bare `ReplicaSets` and `ReplicationControllers`, policies, and
//! pods that somebody makes. What Kubernetes' own controllers make of a reviewed template isn't asked about again: they have the
//! verbs no more than any other program, and whoever edited the template was asked. They are known by their user, which nobody else
//! has; what an object says of its owner anybody can write, so it opens nothing. Any other program that makes pods is asked about like
//! a person.
//!
//! The invariant: what changes none of our keys, and no policy, asks nothing.

pub(crate) mod strength;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use llm_guard_engine::policy::{GuardPolicy, Mode};
use serde_json::Value;

use crate::names::{ALLOW_SETUID, INTERCEPTION, LABEL, MINIMUM_MODE, MODE, OPEN_PORTS, POLICY, PORT, STOP};
use crate::plan::Asked;
use crate::plan::keys::{self, Interception};
use crate::settings::DEFAULT_POLICY;
use strength::{Held, weaker};

/// A verb on `guardpolicies.llm-guard.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verb {
    Lower,
    Exempt,
    Stop,
}

impl Verb {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Exempt => "exempt",
            Self::Stop => "stop",
        }
    }
}

/// Something that takes a verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) verb: Verb,
    /// What it is about, as `kubectl` users write it.
    pub(crate) field: String,
    /// What becomes of it, in words that quote no policy.
    pub(crate) what: String,
}

impl Ask {
    fn new(verb: Verb, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { verb, field: field.into(), what: what.into() }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

type Annotations = BTreeMap<String, String>;

/// What stands around pods and says what holds for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) namespace: &'a Annotations,
    pub(crate) workload: Option<&'a Annotations>,
    /// The policy that the pods name themselves.
    pub(crate) policy: Option<&'a str>,
    /// Their own mode.
    pub(crate) pod: Option<Mode>,
}

impl Situation<'_> {
    fn mode(&self) -> Option<Mode> {
        let read = |annotations: &Annotations| annotations.get(MODE).and_then(|value| keys::mode(value));
        // A value that nobody understands hides the namespace's, as it does where settings are made.
        match self.workload.filter(|workload| workload.contains_key(MODE)) {
            Some(workload) => read(workload),
            None => read(self.namespace),
        }
    }

    /// The policy that they go by.
    pub(crate) fn policy_name(&self) -> &str {
        let named = self
            .policy
            .or_else(|| self.workload.and_then(|workload| workload.get(POLICY)).or_else(|| self.namespace.get(POLICY)).map(String::as_str));
        named.unwrap_or(DEFAULT_POLICY)
    }

    pub(crate) fn held(&self, policy: GuardPolicy) -> Held {
        let floor = self.namespace.get(MINIMUM_MODE).and_then(|value| keys::mode(value));
        Held { mode: self.mode(), floor, pod: self.pod, policy }
    }

    /// What is weaker in `new`. `policies`: the policy of a name, where there is one that can be used. Where the old one can't be, `last`
    /// holds, and without it nothing does. Where the new one can't be, what holds stays for now, and gives way to whatever somebody
    /// makes of that name.
    pub(crate) fn weaker(
        &self,
        new: &Situation<'_>,
        policies: &dyn Fn(&str) -> Option<GuardPolicy>,
        last: Option<&GuardPolicy>,
    ) -> Option<String> {
        let before = policies(self.policy_name()).or_else(|| last.cloned())?;
        let held = self.held(before.clone());
        let after = if new.policy_name() == self.policy_name() { Some(before) } else { policies(new.policy_name()) };
        match after {
            Some(after) => weaker(&held, &new.held(after)),
            None => held.enforces().then(|| "policy: there is none of the new name that can be used".to_owned()),
        }
    }
}

/// Why an annotation asks: what it said and what it says.
pub(crate) fn change(old: Option<&String>, new: Option<&String>) -> String {
    let said =
        |value: Option<&String>| value.map_or("nothing".to_owned(), |value| format!("'{}'", value.chars().take(100).collect::<String>()));
    format!("from {} to {}", said(old), said(new))
}

fn changed<'a>(key: &str, old: &'a Annotations, new: &'a Annotations) -> Option<String> {
    let (old, new) = (old.get(key), new.get(key));
    (old != new).then(|| change(old, new))
}

fn stops(annotations: &Annotations) -> bool {
    annotations.get(STOP).is_some_and(|value| value == "true")
}

/// Whether a stop is set or lifted.
pub(crate) fn stop(old: &Annotations, new: &Annotations) -> Option<Ask> {
    let said = changed(STOP, old, new).filter(|_| stops(old) != stops(new))?;
    Some(Ask::new(Verb::Stop, annotation("", STOP), said))
}

fn annotation(prefix: &str, key: &str) -> String {
    format!("{prefix}metadata.annotations[{key}]")
}

/// The first of these keys that has changed, as a field: what a weaker mode or policy is put down to.
fn field(prefix: &str, old: &Annotations, new: &Annotations) -> Option<String> {
    [MODE, POLICY].into_iter().find(|key| old.get(*key) != new.get(*key)).map(|key| annotation(prefix, key))
}

/// What a changed namespace asks, but for modes and policies, which depend on who is in it.
pub(crate) fn namespace(labels: [&BTreeMap<String, String>; 2], annotations: [&Annotations; 2]) -> Vec<Ask> {
    let mut asks = Vec::new();
    let [old, new] = labels;
    // Another value than `enabled` is refused elsewhere, and guards nobody less.
    if old.contains_key(LABEL) && !new.contains_key(LABEL) {
        asks.push(Ask::new(Verb::Exempt, format!("metadata.labels[{LABEL}]"), change(old.get(LABEL), None)));
    }
    let [old, new] = annotations;
    let floor = |annotations: &Annotations| annotations.get(MINIMUM_MODE).map(|value| keys::mode(value).unwrap_or_default());
    // Under a floor of `monitor` no pod is exempt, so its end is a lower floor as well.
    if floor(new) < floor(old) {
        asks.extend(changed(MINIMUM_MODE, old, new).map(|said| Ask::new(Verb::Lower, annotation("", MINIMUM_MODE), said)));
    }
    asks.extend(stop(old, new));
    asks
}

/// What a pod, or a template for pods, says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template {
    label: Option<String>,
    annotations: Annotations,
}

impl Template {
    pub(crate) fn of(pod: Option<&Value>) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let Some(pod) = pod else { return Self::default() };
        let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
        Self {
            label: text(pod["metadata"]["labels"].get(LABEL)),
            annotations: annotations
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .filter(|(key, _)| keys::ours(key))
                .collect(),
        }
    }

    /// Whether its pods get a guard, if there is a model in them.
    fn asks(&self, namespace_labelled: bool) -> bool {
        match self.label.as_deref() {
            Some("enabled") => true,
            Some("disabled") => false,
            _ => namespace_labelled,
        }
    }

    pub(crate) fn policy(&self) -> Option<&str> {
        self.annotations.get(POLICY).map(String::as_str)
    }

    pub(crate) fn mode(&self) -> Option<Mode> {
        self.annotations.get(MODE).and_then(|value| keys::mode(value))
    }
}

/// A workload, or a pod that somebody makes, before and after.
#[derive(Clone, Debug)]
pub(crate) struct Made<'a> {
    /// Where in the object the pod stands: `spec.template.`
    pub(crate) prefix: &'static str,
    pub(crate) namespace: &'a Annotations,
    pub(crate) namespace_labelled: bool,
    /// The object's own annotations, where they count.
    pub(crate) workload: Option<[&'a Annotations; 2]>,
    pub(crate) templates: [Template; 2],
    /// Whether it is new: before, there was nothing that could be weaker, but what its namespace says of it.
    pub(crate) new: bool,
}

impl Made<'_> {
    /// What holds for its pods, before and after.
    pub(crate) fn situations(&self) -> [Situation<'_>; 2] {
        [0, 1].map(|which: usize| Situation {
            namespace: self.namespace,
            workload: self.workload.map(|annotations| annotations[which]),
            policy: self.templates[which].policy(),
            pod: self.templates[which].mode(),
        })
    }

    /// What it asks.
    pub(crate) fn asks(&self, policies: &dyn Fn(&str) -> Option<GuardPolicy>, last: Option<&GuardPolicy>) -> Vec<Ask> {
        let mut asks = Vec::new();
        let [old, new] = &self.templates;
        if let Some([old, new]) = self.workload {
            asks.extend(stop(old, new));
        }
        if !old.asks(self.namespace_labelled) {
            return asks;
        }
        if !new.asks(self.namespace_labelled) {
            let said = change(old.label.as_ref(), new.label.as_ref());
            asks.push(Ask::new(Verb::Exempt, format!("{}metadata.labels[{LABEL}]", self.prefix), said));
            return asks;
        }
        let [before, after] = self.situations();
        if let Some(weaker) = before.weaker(&after, policies, last) {
            let of_workload = self.workload.and_then(|[old, new]| field("", old, new));
            let field = of_workload.or_else(|| field(self.prefix, &old.annotations, &new.annotations));
            asks.push(Ask::new(Verb::Lower, field.unwrap_or_else(|| annotation("", MODE)), weaker));
        }
        asks.extend(self.openings());
        asks
    }

    /// What of a template lets something past the guard.
    fn openings(&self) -> Vec<Ask> {
        let [old, new] = &self.templates;
        let [before, after] = [old, new].map(|template| Asked::of(&template.annotations));
        let asked_by_port = |asked: &Asked| asked.interception == Some(Interception::Port);
        let grows = |old: &BTreeSet<String>, new: &BTreeSet<String>| !new.is_subset(old);
        [
            (Verb::Exempt, OPEN_PORTS, !after.open_ports.is_subset(&before.open_ports)),
            // The port of what is new is its author's word for where the model is; of what there is, the guard stands there.
            (Verb::Exempt, PORT, !self.new && before.port() != after.port()),
            (Verb::Lower, ALLOW_SETUID, grows(&before.allow_setuid, &after.allow_setuid)),
            (Verb::Lower, INTERCEPTION, asked_by_port(&after) && !asked_by_port(&before)),
        ]
        .into_iter()
        .filter(|(_, _, weaker)| *weaker)
        .filter_map(|(verb, key, _)| Some(Ask::new(verb, annotation(self.prefix, key), changed(key, &old.annotations, &new.annotations)?)))
        .collect()
    }
}

/// What a guarded pod that is changed asks: its own mode counts where it is stricter.
pub(crate) fn pod_changed(old: &Template, new: &Template) -> Vec<Ask> {
    let lower = new.mode().unwrap_or_default() < old.mode().unwrap_or_default();
    let said = changed(MODE, &old.annotations, &new.annotations).filter(|_| lower);
    said.map(|said| Ask::new(Verb::Lower, annotation("", MODE), said)).into_iter().collect()
}

/// A weaker mode or policy of a namespace.
pub(crate) fn of_namespace(old: &Annotations, new: &Annotations, whose: &str, weaker: &str) -> Ask {
    Ask::new(Verb::Lower, field("", old, new).unwrap_or_else(|| annotation("", MODE)), format!("{weaker} (for {whose})"))
}

/// A weaker policy.
pub(crate) fn of_policy(whose: &str, weaker: &str) -> Ask {
    Ask::new(Verb::Lower, "spec", format!("{weaker} (for {whose})"))
}

#[cfg(test)]
mod tests;

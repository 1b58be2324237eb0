//! Whether what shall hold is as strong as what holds, provably.
//!
//! The invariant: it errs on the side of asking. Modes are compared as the guard resolves them. Of what a control looks for, nothing is
//! compared but that it is the same: a list that is longer here is weaker there, and nobody who asks needlessly does harm. Where a control
//! only counts now, no change of it lets anything through that is stopped.

use std::collections::BTreeSet;

use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use serde_json::{Map, Value};

/// What holds for pods.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// By annotation, of the workload or else of the namespace.
    pub(crate) mode: Option<Mode>,
    pub(crate) floor: Option<Mode>,
    /// The pods' own.
    pub(crate) pod: Option<Mode>,
    pub(crate) policy: GuardPolicy,
}

/// The part of a policy that says who may reach the port. It holds in every mode.
const NETWORK: &str = "network";
/// The part whose members carry modes of their own, for some requests.
const RULES: &str = "rules";

/// The first thing that may be weaker than it was, in words that quote no policy: `tools: from hard to soft`.
pub(crate) fn weaker(old: &Held, new: &Held) -> Option<String> {
    let (before, after) = (parts(&old.policy), parts(&new.policy));
    let of = |parts: &Map<String, Value>, name: &str| parts.get(name).cloned().unwrap_or_default();
    let (was, is) = (of(&before, NETWORK), of(&after, NETWORK));
    if was != is && !was.is_null() {
        return Some("network: it says something else".into());
    }
    // What holds for a control that no section names comes first: it is the mode of the whole.
    let names: BTreeSet<&str> =
        before.keys().chain(after.keys()).map(String::as_str).filter(|name| ![NETWORK, "mode"].contains(name)).collect();
    for name in [""].into_iter().chain(names) {
        let (was, is) = (of(&before, name), of(&after, name));
        let (from, to) = (old.mode_of(name, &was), new.mode_of(name, &is));
        let label = if name.is_empty() { "mode" } else { name };
        // Rules may raise or lower any control; what they say of modes isn't compared.
        if name != RULES && from > to {
            return Some(format!("{label}: from {from} to {to}"));
        }
        // Under rules, a control that only counts by itself may stop something for some requests.
        let stops = if name == RULES || before.contains_key(RULES) { old.strongest(&before) } else { from };
        if stops > Mode::Monitor && without_mode(was) != without_mode(is) {
            return Some(format!("{label}: it says something else"));
        }
    }
    None
}

impl Held {
    /// In which mode a part of the policy holds.
    fn mode_of(&self, name: &str, part: &Value) -> Mode {
        let own = part["mode"].as_str().and_then(crate::plan::keys::mode).filter(|_| name != RULES);
        self.resolve(own)
    }

    /// Whether anything is more than counted.
    pub(crate) fn enforces(&self) -> bool {
        self.strongest(&parts(&self.policy)) > Mode::Monitor
    }

    fn resolve(&self, own: Option<Mode>) -> Mode {
        let standing = Standing { mode: self.mode, pod: self.pod, floor: self.floor, ..Standing::default() };
        standing.resolve(own, self.policy.spec.mode)
    }

    /// The strongest mode in which anything may hold.
    fn strongest(&self, parts: &Map<String, Value>) -> Mode {
        let most = parts.iter().map(|(name, part)| if name == RULES { self.resolve(Some(Mode::Hard)) } else { self.mode_of(name, part) });
        most.max().unwrap_or_default().max(self.resolve(None))
    }
}

/// The parts of a policy by name, the mode of the whole among them. What isn't there holds as its type has it by default.
fn parts(policy: &GuardPolicy) -> Map<String, Value> {
    match serde_json::to_value(&policy.spec) {
        Ok(Value::Object(parts)) => parts,
        _ => Map::new(),
    }
}

/// What a part says beside its mode; the same for one that isn't there and one that says nothing.
fn without_mode(mut part: Value) -> Value {
    if let Value::Object(members) = &mut part {
        members.remove("mode");
        if members.is_empty() {
            return Value::Null;
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> GuardPolicy {
        GuardPolicy::read(&format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {spec}")).unwrap()
    }

    fn held(mode: Option<Mode>, floor: Option<Mode>, pod: Option<Mode>, spec: &str) -> Held {
        Held { mode, floor, pod, policy: policy(spec) }
    }

    #[test]
    fn policies_against_each_other() {
        for (old, new, expected) in [
            // The same, however it is written.
            ("{}", "{}", None),
            ("{mode: soft}", "{mode: soft, tools: {}}", None),
            // Modes that go up, and down.
            ("{}", "{mode: soft}", None),
            ("{mode: soft}", "{mode: hard}", None),
            ("{mode: hard}", "{mode: soft}", Some("mode: from hard to soft")),
            ("{mode: soft}", "{}", Some("mode: from soft to monitor")),
            ("{mode: soft}", "{mode: soft, tools: {mode: hard}}", None),
            ("{mode: soft}", "{mode: soft, tools: {mode: monitor}}", Some("tools: from soft to monitor")),
            ("{tools: {mode: hard}}", "{tools: {mode: soft}}", Some("tools: from hard to soft")),
            ("{tools: {mode: hard}}", "{}", Some("tools: from hard to monitor")),
            ("{tools: {mode: soft}}", "{mode: hard}", None),
            // Down for one though up for all others.
            ("{mode: soft, tools: {mode: hard}}", "{mode: hard, tools: {mode: soft}}", Some("tools: from hard to soft")),
            // What it looks for: where it only counts anything may change, elsewhere nothing.
            ("{models: {allow: [a]}}", "{models: {allow: [a, b]}}", None),
            ("{mode: soft, models: {allow: [a]}}", "{mode: soft, models: {allow: [a, b]}}", Some("models: it says something else")),
            ("{mode: soft, models: {allow: [a, b]}}", "{mode: soft, models: {allow: [a]}}", Some("models: it says something else")),
            ("{mode: soft, redaction: {kinds: [email]}}", "{mode: soft}", Some("redaction: it says something else")),
            ("{mode: soft, models: {mode: monitor, allow: [a]}}", "{mode: soft, models: {mode: soft}}", None),
            ("{mode: hard, protocol: {context: refuse}}", "{mode: hard}", Some("protocol: it says something else")),
            // Who may reach the port holds in every mode.
            ("{network: {from: []}}", "{}", Some("network: it says something else")),
            ("{}", "{network: {from: []}}", None),
        ] {
            let found = weaker(&held(None, None, None, old), &held(None, None, None, new));
            assert_eq!(found.as_deref(), expected, "{old} to {new}");
        }
    }

    #[test]
    fn annotations_floors_and_pods_against_each_other() {
        use Mode::{Hard, Monitor, Soft};
        type Modes = (Option<Mode>, Option<Mode>, Option<Mode>);
        let table: &[(&str, Modes, Modes, Option<&str>)] = &[
            ("{}", (None, None, None), (Some(Soft), None, None), None),
            ("{mode: hard}", (None, None, None), (Some(Soft), None, None), Some("mode: from hard to soft")),
            ("{mode: hard}", (None, Some(Hard), None), (Some(Soft), Some(Hard), None), None),
            ("{tools: {mode: hard}}", (None, None, None), (Some(Soft), None, None), Some("tools: from hard to soft")),
            ("{}", (Some(Hard), None, None), (Some(Monitor), None, None), Some("mode: from hard to monitor")),
            ("{}", (Some(Hard), None, None), (None, None, None), Some("mode: from hard to monitor")),
            ("{mode: hard}", (Some(Soft), None, None), (None, None, None), None),
            ("{}", (None, Some(Hard), None), (None, Some(Soft), None), Some("mode: from hard to soft")),
            ("{}", (None, Some(Hard), None), (None, None, None), Some("mode: from hard to monitor")),
            ("{}", (None, None, Some(Hard)), (None, None, None), Some("mode: from hard to monitor")),
            ("{}", (Some(Soft), None, Some(Hard)), (Some(Monitor), None, Some(Hard)), None),
        ];
        for (spec, old, new, expected) in table {
            let found = weaker(&held(old.0, old.1, old.2, spec), &held(new.0, new.1, new.2, spec));
            assert_eq!(found.as_deref(), *expected, "{spec}: {old:?} to {new:?}");
        }
        let enforces = |mode, spec| held(mode, None, None, spec).enforces();
        assert!(enforces(None, "{mode: soft}") && enforces(None, "{tools: {mode: hard}}") && enforces(Some(Soft), "{}"));
        assert!(!enforces(None, "{}") && !enforces(Some(Monitor), "{mode: hard, tools: {mode: hard}}"));
        // Under a floor, or by a pod's own mode, what only counts otherwise stops something.
        for (floor, pod) in [(Some(Soft), None), (None, Some(Hard))] {
            let (old, new) = (held(None, floor, pod, "{models: {allow: [a]}}"), held(None, floor, pod, "{}"));
            assert_eq!(weaker(&old, &new).as_deref(), Some("models: it says something else"));
        }
    }

    #[test]
    fn what_is_found_as_strong_is_so_for_every_control() {
        let modes = || [None].into_iter().chain(Mode::ALL.map(Some));
        let name = |mode: Option<Mode>| mode.map_or("null".to_owned(), |mode| mode.to_string());
        let mut strong = 0;
        for (a, b) in modes().flat_map(|a| modes().map(move |b| (a, b))) {
            for (own_a, own_b) in modes().flat_map(|a| modes().map(move |b| (a, b))) {
                for (of_a, of_b) in modes().flat_map(|a| modes().map(move |b| (a, b))) {
                    let spec = |mode: Option<Mode>, own: Option<Mode>| {
                        let mut policy = GuardPolicy::built_in();
                        (policy.spec.mode, policy.spec.tools.mode) = (mode, own);
                        policy
                    };
                    let (old, new) = (
                        Held { mode: of_a, floor: None, pod: None, policy: spec(a, own_a) },
                        Held { mode: of_b, floor: None, pod: None, policy: spec(b, own_b) },
                    );
                    let is_stronger = old.resolve(None) <= new.resolve(None) && old.resolve(own_a) <= new.resolve(own_b);
                    assert_eq!(weaker(&old, &new).is_none(), is_stronger, "{} {} to {} {}", name(a), name(own_a), name(b), name(own_b));
                    strong += usize::from(is_stronger);
                }
            }
        }
        assert!(strong > 100, "{strong}");
    }
}

//! What the guards of one workload go by: made of the namespace's and the workload's annotations and a `GuardPolicy`. Pure.
//!
//! The invariant: what can't be used is left as it was and said; nothing is loosened because something couldn't be read.

use std::collections::BTreeMap;

use llm_guard_engine::controls::Policy;
use llm_guard_engine::policy::settings::{Exception, OpenError, PublicKey, Settings, Standing, open, seal};
use llm_guard_engine::policy::{GuardPolicy, Mode};
use serde::Serialize;

use crate::identity::{Identity, digest};
use crate::names::{MINIMUM_MODE, MODE, POLICY, SHADOW, STOP};
use crate::signing::Keys;

/// The policy of a namespace in which none is named.
pub(crate) const DEFAULT_POLICY: &str = "default";
/// The most bytes of a policy as it stands in the settings: a `ConfigMap` has a mebibyte for all that it holds.
const POLICY_BYTES: usize = 1_000_000;
/// Why something of the settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// An annotation says what nobody understands.
    #[error("the annotation {key} of the {holder} is '{value}': it must be {expected}")]
    Value {
        /// Which.
        key: &'static str,
        /// `namespace` or `workload`.
        holder: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// A policy that is named isn't there.
    #[error("there is no GuardPolicy '{0}' in this namespace: create it, or name another in the annotation llm-guard.io/policy")]
    NoPolicy(String),
    /// A policy isn't one.
    #[error("the GuardPolicy '{name}' can't be used: {reason}")]
    Policy {
        /// Which.
        name: String,
        /// The engine's sentence.
        reason: String,
    },
    /// A policy that is to be judged beside the one in force can't be. The rest takes hold.
    #[error("'{name}', which llm-guard.io/shadow names, can't be judged beside the policy in force: {reason}")]
    Shadow {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
}

/// What stands around a workload.
pub(crate) struct Around<'a> {
    /// The floor of the whole cluster.
    pub(crate) floor: Option<Mode>,
    pub(crate) namespace: &'a BTreeMap<String, String>,
    /// Nothing for bare pods.
    pub(crate) workload: Option<&'a BTreeMap<String, String>>,
}

/// Settings but for their serial.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) mode: Option<Mode>,
    pub(crate) floor: Option<Mode>,
    pub(crate) stop: bool,
    /// Those that run. They don't come of what stands around, so [`Around::resolve`] finds none.
    pub(crate) exceptions: Vec<Exception>,
    pub(crate) policy: GuardPolicy,
    /// Is judged beside it.
    pub(crate) shadow: Option<GuardPolicy>,
}

/// Content, and what of it is older than it should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) content: Content,
    pub(crate) troubles: Vec<Trouble>,
}

impl Around<'_> {
    /// The name of the policy that counts, and whether somebody named it.
    pub(crate) fn policy_name<'a>(&'a self, identity: &'a Identity) -> (&'a str, bool) {
        let named = identity.policy().or_else(|| self.annotation(POLICY).map(|(_, value)| value.as_str()));
        named.map_or((DEFAULT_POLICY, false), |name| (name, true))
    }

    /// The name of the policy that is judged beside it, and whether the workload itself names it.
    pub(crate) fn shadow_name(&self) -> Option<(&str, bool)> {
        self.annotation(SHADOW).map(|(holder, name)| (name.as_str(), holder == "workload"))
    }

    /// The workload's annotation, else the namespace's.
    fn annotation(&self, key: &str) -> Option<(&'static str, &String)> {
        let of_workload = self.workload.and_then(|annotations| annotations.get(key)).map(|value| ("workload", value));
        of_workload.or_else(|| self.namespace.get(key).map(|value| ("namespace", value)))
    }

    /// Makes the content. What can't be used stays as it is in `last`; without that there is no content, and the first trouble is why.
    /// `policies` gives the policy of a name. What is wrong with a shadow alone never keeps the rest from being made.
    pub(crate) fn resolve(
        &self,
        identity: &Identity,
        policies: impl Fn(&str) -> Option<Result<GuardPolicy, String>>,
        last: Option<&Settings>,
    ) -> Result<Resolved, Trouble> {
        let mut troubles = Vec::new();
        let mut or_last = |value: Result<Option<Mode>, Trouble>, last: Option<Option<Mode>>| match (value, last) {
            (Ok(value), _) => Ok(value),
            (Err(trouble), Some(last)) => {
                troubles.push(trouble);
                Ok(last)
            }
            (Err(trouble), None) => Err(trouble),
        };
        let mode = or_last(mode(MODE, self.annotation(MODE)), last.map(|last| last.mode))?;
        let floor = self.namespace.get(MINIMUM_MODE).map(|value| ("namespace", value));
        let floor = or_last(self::mode(MINIMUM_MODE, floor), last.map(|last| last.floor))?.max(self.floor);
        let stop = match (self.stop(), last) {
            (Ok(stop), _) => stop,
            (Err(trouble), Some(last)) => {
                troubles.push(trouble);
                last.stop
            }
            (Err(trouble), None) => return Err(trouble),
        };
        let (name, named) = self.policy_name(identity);
        let policy = match policies(name) {
            Some(Ok(policy)) => Ok(policy),
            Some(Err(reason)) => Err(Trouble::Policy { name: name.into(), reason }),
            None if named => Err(Trouble::NoPolicy(name.into())),
            None => Ok(GuardPolicy::built_in()),
        };
        let policy = match (policy, last) {
            (Ok(policy), _) => policy,
            (Err(trouble), Some(last)) => {
                troubles.push(trouble);
                last.policy.clone()
            }
            (Err(trouble), None) => return Err(trouble),
        };
        let (shadow, trouble) = self.shadow(&policies, &policy, last);
        troubles.extend(trouble);
        Ok(Resolved { content: Content { mode, floor, stop, exceptions: Vec::new(), policy, shadow }, troubles })
    }

    /// The policy that is judged beside `policy`. With a trouble: the last one, if it still fits beside the policy.
    fn shadow(
        &self,
        policies: impl Fn(&str) -> Option<Result<GuardPolicy, String>>,
        policy: &GuardPolicy,
        last: Option<&Settings>,
    ) -> (Option<GuardPolicy>, Option<Trouble>) {
        let Some((name, _)) = self.shadow_name() else { return (None, None) };
        let found = match policies(name) {
            Some(found) => found,
            None => Err("there is no GuardPolicy of that name in this namespace: create it, or take the annotation away".into()),
        };
        let beside = |shadow: GuardPolicy| {
            let bytes = written(policy, Some(&shadow));
            if bytes <= POLICY_BYTES {
                return Ok(shadow);
            }
            Err(format!("written out the two have {bytes} bytes; at most {POLICY_BYTES} fit into a ConfigMap"))
        };
        match found.and_then(beside) {
            Ok(shadow) => (Some(shadow), None),
            Err(reason) => {
                let last = last.and_then(|last| beside(last.shadow.clone()?).ok());
                (last, Some(Trouble::Shadow { name: name.into(), reason }))
            }
        }
    }

    /// Either of the two stops.
    fn stop(&self) -> Result<bool, Trouble> {
        let of = |holder: &'static str, annotations: Option<&BTreeMap<String, String>>| match annotations
            .and_then(|annotations| annotations.get(STOP))
            .map(String::as_str)
        {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(value) => Err(Trouble::Value { key: STOP, holder, value: value.into(), expected: "'true' or 'false'" }),
        };
        match (of("workload", self.workload), of("namespace", Some(self.namespace))) {
            (Ok(true), _) | (_, Ok(true)) => Ok(true),
            (Err(trouble), _) | (_, Err(trouble)) => Err(trouble),
            (Ok(false), Ok(false)) => Ok(false),
        }
    }
}

fn mode(key: &'static str, annotation: Option<(&'static str, &String)>) -> Result<Option<Mode>, Trouble> {
    let Some((holder, value)) = annotation else { return Ok(None) };
    let expected = "'monitor', 'soft' or 'hard'";
    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == value);
    mode.map(Some).ok_or_else(|| Trouble::Value { key, holder, value: value.clone(), expected })
}

/// A namespace's annotations with a floor that isn't below the cluster's. A value that nobody understands stays, to be refused.
pub(crate) fn above(floor: Option<Mode>, mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if let Some(floor) = floor {
        let own = annotations.get(MINIMUM_MODE);
        let is_below = own.is_none_or(|own| Mode::ALL.into_iter().any(|mode| mode.name() == own && mode < floor));
        if is_below {
            annotations.insert(MINIMUM_MODE.to_owned(), floor.name().to_owned());
        }
    }
    annotations
}

/// An object of the cluster as the engine reads its kind: as somebody would have written it.
pub(crate) fn document(object: &serde_json::Value) -> String {
    let mut document = serde_json::Map::new();
    for key in ["apiVersion", "kind", "spec"] {
        if let Some(value) = object.get(key) {
            document.insert(key.into(), value.clone());
        }
    }
    // Of the metadata the guard reads the name. A key at the top that nobody knows is named, but for what Kubernetes writes itself.
    document.insert("metadata".into(), serde_json::json!({"name": object.pointer("/metadata/name")}));
    for (key, value) in object.as_object().into_iter().flatten() {
        if key != "status" && !document.contains_key(key) {
            document.insert(key.clone(), value.clone());
        }
    }
    serde_json::Value::Object(document).to_string()
}

/// Reads a policy out of an object of the cluster, and sees that it compiles.
pub(crate) fn read_policy(object: &serde_json::Value) -> Result<GuardPolicy, String> {
    // The line and the column would be those of a text that nobody has seen.
    let policy = GuardPolicy::read(&document(object)).map_err(|error| error.without_place().to_string())?;
    Policy::compile(&policy, &Standing::default()).map_err(|error| error.to_string())?;
    let bytes = written(&policy, None);
    if bytes > POLICY_BYTES {
        return Err(format!("written out it has {bytes} bytes; at most {POLICY_BYTES} fit into a ConfigMap"));
    }
    Ok(policy)
}

/// How many bytes a policy and its shadow take in the settings, where each line of them is set in.
fn written(policy: &GuardPolicy, shadow: Option<&GuardPolicy>) -> usize {
    #[derive(Serialize)]
    struct Both<'p> {
        policy: &'p GuardPolicy,
        shadow: Option<&'p GuardPolicy>,
    }
    serde_json::to_vec_pretty(&Both { policy, shadow }).map_or(usize::MAX, |text| text.len())
}

/// What the annotations of a workload said when these settings were made, as far as it shows.
pub(crate) fn annotations_behind(settings: &Settings) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if let Some(mode) = settings.mode {
        annotations.insert(MODE.to_owned(), mode.name().to_owned());
    }
    if settings.stop {
        annotations.insert(STOP.to_owned(), "true".to_owned());
    }
    annotations
}

/// Settings as they are, or will be, in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sealed {
    pub(crate) settings: Settings,
    pub(crate) digest: String,
}

/// What is to be done about a `ConfigMap`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing: it is right.
    Keep(Sealed),
    /// Write this.
    Write {
        /// What it says.
        sealed: Sealed,
        /// How.
        text: String,
        /// What was wrong with what is there, if somebody else did it.
        wrong: Option<&'static str>,
    },
}

/// What is known of the settings that are there.
pub(crate) struct There<'a> {
    pub(crate) text: Option<&'a str>,
    pub(crate) audience: &'a str,
    /// No less has been given out: what is older was put back by somebody.
    pub(crate) least: u64,
}

impl There<'_> {
    /// What is there, if it is ours, this audience's, and not older than what was there before.
    pub(crate) fn read(&self, keys: &[PublicKey]) -> Result<Settings, &'static str> {
        let settings = match open(self.text.ok_or("it was deleted")?, keys) {
            Ok(settings) => settings,
            Err(OpenError::ForeignKey) => return Err("it was signed with another key"),
            Err(OpenError::Form { .. }) => return Err("it was written by another version"),
            Err(OpenError::Unsigned | OpenError::Signature | OpenError::TooLarge(_)) => return Err("it was edited"),
        };
        if settings.audience != self.audience {
            return Err("it was replaced by another workload's");
        }
        if settings.serial < self.least {
            return Err("it was replaced by an older one");
        }
        Ok(settings)
    }

    /// What is to be done so that `content` is in force. `now` in milliseconds since 1970.
    pub(crate) fn step(&self, content: &Content, keys: &Keys, now: u64) -> Step {
        let Content { mode, floor, stop, exceptions, policy, shadow } = content.clone();
        let there = self.read(&keys.ours());
        let before = there.as_ref().map_or(self.least, |there| there.serial.max(self.least));
        if let (Ok(there), Some(text)) = (&there, self.text) {
            let same = Settings {
                audience: there.audience.clone(),
                serial: there.serial,
                mode,
                floor,
                stop,
                exceptions: exceptions.clone(),
                policy: policy.clone(),
                shadow: shadow.clone(),
            };
            if *there == same && open(text, &[keys.signer()]).is_ok() {
                return Step::Keep(Sealed { settings: same, digest: digest(text) });
            }
        }
        let serial = now.max(before.saturating_add(1));
        let settings = Settings { audience: self.audience.into(), serial, mode, floor, stop, exceptions, policy, shadow };
        let text = seal(&settings, keys.current());
        Step::Write { sealed: Sealed { settings, digest: digest(&text) }, text, wrong: there.err() }
    }
}

#[cfg(test)]
mod tests {
    use llm_guard_engine::policy::settings::{MAX_BYTES, SigningKey};
    use proptest::prelude::*;

    use super::*;
    use crate::identity::{Kind, Whose};

    const CLUSTER: &str = "cluster";

    fn ollama(policy: Option<&str>) -> Identity {
        Identity::new("llm", "uid", Whose::Workload(Kind::Deployment, "ollama".into()), policy)
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn soft() -> GuardPolicy {
        let mut policy = GuardPolicy::built_in();
        policy.spec.mode = Some(Mode::Soft);
        policy
    }

    fn settings(serial: u64) -> Settings {
        Settings {
            audience: ollama(None).audience(CLUSTER),
            serial,
            mode: Some(Mode::Hard),
            floor: None,
            stop: true,
            exceptions: Vec::new(),
            policy: soft(),
            shadow: None,
        }
    }

    #[test]
    fn the_pods_policy_goes_before_the_workloads_and_that_before_the_namespaces() {
        let (of_workload, of_namespace) = (map(&[(POLICY, "w")]), map(&[(POLICY, "n")]));
        let none = map(&[]);
        for (pod, workload, namespace, expected) in [
            (Some("p"), &of_workload, &of_namespace, ("p", true)),
            (None, &of_workload, &of_namespace, ("w", true)),
            (None, &none, &of_namespace, ("n", true)),
            (None, &none, &none, ("default", false)),
        ] {
            let around = Around { floor: None, namespace, workload: Some(workload) };
            assert_eq!(around.policy_name(&ollama(pod)), expected);
        }
    }

    #[test]
    fn without_a_default_policy_the_built_in_one_holds_and_a_named_one_must_be_there() {
        let none = map(&[]);
        let around = Around { floor: None, namespace: &none, workload: None };
        assert_eq!(around.resolve(&ollama(None), |_| None, None).unwrap().content.policy, GuardPolicy::built_in());
        let missing = around.resolve(&ollama(Some("p")), |_| None, None);
        assert_eq!(missing, Err(Trouble::NoPolicy("p".into())));
    }

    #[test]
    fn the_workloads_shadow_goes_before_the_namespaces_and_is_read_by_its_name() {
        let (of_workload, of_namespace, none) = (map(&[(SHADOW, "w")]), map(&[(SHADOW, "n"), (POLICY, "p")]), map(&[]));
        let named = |name: &str| {
            let mut policy = soft();
            name.clone_into(&mut policy.metadata.name);
            Some(Ok(policy))
        };
        for (workload, expected) in [(Some(&of_workload), "w"), (Some(&none), "n"), (None, "n")] {
            let around = Around { floor: None, namespace: &of_namespace, workload };
            let Content { policy, shadow, .. } = around.resolve(&ollama(None), named, None).unwrap().content;
            assert_eq!((policy.metadata.name.as_str(), shadow.unwrap().metadata.name.as_str()), ("p", expected));
        }
        let around = Around { floor: None, namespace: &none, workload: None };
        let last = Settings { shadow: Some(soft()), ..settings(1) };
        assert_eq!(around.resolve(&ollama(None), named, Some(&last)).unwrap().content.shadow, None, "taken away");
    }

    #[test]
    fn a_shadow_that_cant_be_judged_leaves_the_last_one_and_holds_up_nothing() {
        let namespace = map(&[(SHADOW, "next"), (MODE, "soft")]);
        let around = Around { floor: None, namespace: &namespace, workload: None };
        let broken = |name: &str| (name == "next").then(|| Err("spec.tools: no".to_owned()));
        for (last, expected) in
            [(None, None), (Some(settings(1)), None), (Some(Settings { shadow: Some(soft()), ..settings(1) }), Some(soft()))]
        {
            for policies in [&broken as &dyn Fn(&str) -> _, &|_: &str| None] {
                let Resolved { content, troubles } = around.resolve(&ollama(None), policies, last.as_ref()).unwrap();
                assert_eq!((content.mode, content.policy, content.shadow), (Some(Mode::Soft), GuardPolicy::built_in(), expected.clone()));
                assert!(matches!(&troubles[..], [Trouble::Shadow { name, .. }] if name == "next"), "{troubles:?}");
            }
        }
    }

    #[test]
    fn a_policy_and_its_shadow_fit_into_a_config_map_together_or_the_shadow_is_left_out() {
        let namespace = map(&[(SHADOW, "next")]);
        let around = Around { floor: None, namespace: &namespace, workload: None };
        let of = |bytes: usize| {
            let mut policy = soft();
            policy.spec.tools.block = Some(["x".repeat(bytes)].into());
            policy
        };
        let resolve = |policy: usize, shadow: usize, last: &Settings| {
            let policies = |name: &str| Some(Ok(of(if name == "next" { shadow } else { policy })));
            around.resolve(&ollama(None), policies, Some(last)).unwrap()
        };
        let last = Settings { shadow: Some(of(100_000)), ..settings(1) };
        let fits = resolve(600_000, 390_000, &last);
        assert_eq!((fits.troubles.len(), fits.content.shadow), (0, Some(of(390_000))));
        let other = resolve(600_000, 400_000, &last);
        assert!(other.troubles[0].to_string().contains("at most 1000000 fit"), "{:?}", other.troubles);
        assert_eq!((other.content.policy, other.content.shadow), (of(600_000), Some(of(100_000))), "the last one fits");
        assert_eq!(resolve(950_000, 400_000, &last).content.shadow, None, "nor does the last one");
    }

    #[test]
    fn what_is_taken_fits_into_a_config_map_however_it_is_made_up() {
        let namespace = map(&[(SHADOW, "next")]);
        let around = Around { floor: None, namespace: &namespace, workload: None };
        for length in [1, 20, 200] {
            // As many names as one policy may have, and half of it twice.
            let of = |bytes: usize| {
                let mut policy = soft();
                policy.spec.tools.block = Some((0..bytes / (length + 11)).map(|number| format!("{number:0length$}")).collect());
                policy
            };
            let most = (300_000..1_000_000).step_by(5_000).rev().find(|bytes| written(&of(*bytes), None) <= POLICY_BYTES).unwrap();
            for (policy, shadow) in [(most, 0), (most / 2, most / 2), (most / 2, most / 2 - 4_000), (1_000, most - 4_000)] {
                let policies = |name: &str| Some(Ok(of(if name == "next" { shadow } else { policy })));
                let content = around.resolve(&ollama(None), policies, None).unwrap().content;
                let Content { mode, floor, stop, policy, shadow, .. } = content;
                let exception = |number: u64| Exception {
                    name: format!("{number:0>253}"),
                    mode: Mode::Monitor,
                    expires: llm_guard_engine::policy::Moment::from_unix(number),
                };
                let exceptions = (0..16).map(exception).collect();
                let settings = Settings { audience: "a".repeat(600), serial: u64::MAX, mode, floor, stop, exceptions, policy, shadow };
                let text = seal(&settings, &SigningKey::from_bytes(&[1; 32]));
                assert!(text.len() <= MAX_BYTES, "{length}: {} bytes", text.len());
            }
        }
    }

    #[test]
    fn what_cant_be_used_stays_as_it_was_and_the_rest_takes_hold() {
        let namespace = map(&[(MODE, "strict"), (MINIMUM_MODE, "soft")]);
        let around = Around { floor: None, namespace: &namespace, workload: None };
        let last = settings(1);
        let resolved = around.resolve(&ollama(None), |_| Some(Err("spec.tools: no".into())), Some(&last)).unwrap();
        assert_eq!(
            resolved.content,
            Content { mode: Some(Mode::Hard), floor: Some(Mode::Soft), stop: false, exceptions: Vec::new(), policy: soft(), shadow: None }
        );
        assert_eq!(resolved.troubles.len(), 2, "{:?}", resolved.troubles);
        assert!(around.resolve(&ollama(None), |_| None, None).is_err(), "nothing older is there");
    }

    #[test]
    fn the_clusters_floor_holds_whatever_a_namespace_says() {
        for (own, floor, expected) in [
            (None, Some(Mode::Soft), Some(Mode::Soft)),
            (Some("monitor"), Some(Mode::Soft), Some(Mode::Soft)),
            (Some("hard"), Some(Mode::Soft), Some(Mode::Hard)),
            (Some("hard"), None, Some(Mode::Hard)),
        ] {
            let namespace: BTreeMap<_, _> = own.map(|own| (MINIMUM_MODE.to_owned(), own.to_owned())).into_iter().collect();
            let around = Around { floor, namespace: &namespace, workload: None };
            assert_eq!(around.resolve(&ollama(None), |_| None, None).unwrap().content.floor, expected, "{own:?} {floor:?}");
            assert_eq!(above(floor, namespace).get(MINIMUM_MODE).map(String::as_str), expected.map(Mode::name));
        }
        // What nobody understands leaves what there was, and never less than the cluster's.
        let odd = map(&[(MINIMUM_MODE, "strict")]);
        let around = Around { floor: Some(Mode::Soft), namespace: &odd, workload: None };
        assert_eq!(around.resolve(&ollama(None), |_| None, Some(&settings(1))).unwrap().content.floor, Some(Mode::Soft));
        assert_eq!(above(Some(Mode::Soft), odd.clone()), odd);
    }

    #[test]
    fn a_stop_that_nobody_understands_never_lifts_one() {
        let (odd, stop) = (map(&[(STOP, "yes")]), map(&[(STOP, "true")]));
        for (namespace, workload) in [(&odd, &stop), (&stop, &odd)] {
            let around = Around { floor: None, namespace, workload: Some(workload) };
            assert!(around.resolve(&ollama(None), |_| None, None).unwrap().content.stop);
        }
        let around = Around { floor: None, namespace: &odd, workload: None };
        assert!(around.resolve(&ollama(None), |_| None, Some(&settings(1))).unwrap().content.stop);
    }

    #[test]
    fn a_policy_of_the_cluster_is_read_strictly_and_without_its_status() {
        let object = |spec: serde_json::Value| {
            serde_json::json!({
                "apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "spec": spec, "status": {"conditions": []},
                "metadata": {"name": "p", "namespace": "n", "managedFields": []},
            })
        };
        let read = read_policy(&object(serde_json::json!({"mode": "soft"}))).unwrap();
        assert_eq!((read.spec.mode, read.metadata.name.as_str()), (Some(Mode::Soft), "p"));
        for (spec, expected) in [
            (serde_json::json!({"redacton": {}}), "redacton"),
            (serde_json::json!({"tools": {"allow": ["a"], "block": ["a"]}}), "tools"),
            (serde_json::json!({"network": {"from": [{"podSelecter": {}}]}}), "network.from[0]"),
            (serde_json::json!({"models": {"allow": vec!["x".repeat(250); 4000]}}), "bytes"),
        ] {
            let said = read_policy(&object(spec)).unwrap_err();
            assert!(said.contains(expected) && !said.contains("column") && !said.contains('\n'), "{said}");
        }
    }

    fn step(text: Option<&str>, least: u64, content: &Content, keys: &Keys) -> Step {
        There { text, audience: &ollama(None).audience(CLUSTER), least }.step(content, keys, 1000)
    }

    fn content() -> Content {
        Content { mode: Some(Mode::Hard), floor: None, stop: true, exceptions: Vec::new(), policy: soft(), shadow: None }
    }

    #[test]
    fn settings_that_are_right_are_left_alone_and_all_others_are_written_with_a_higher_serial() {
        let keys = Keys::draw().unwrap();
        let good = seal(&settings(2000), keys.current());
        assert!(matches!(step(Some(&good), 2000, &content(), &keys), Step::Keep(_)));

        let other = Content { stop: false, ..content() };
        let foreign = seal(&settings(2000), Keys::draw().unwrap().current());
        let anothers = seal(&Settings { audience: ollama(Some("p")).audience(CLUSTER), ..settings(2000) }, keys.current());
        let edited = good.replace("true", "false");
        for (text, least, content, expected) in [
            (Some(&good), 0, &other, None),
            (None, 2000, &content(), Some("it was deleted")),
            (Some(&edited), 2000, &content(), Some("it was edited")),
            (Some(&foreign), 2000, &content(), Some("it was signed with another key")),
            (Some(&anothers), 2000, &content(), Some("it was replaced by another workload's")),
            (Some(&good), 2001, &content(), Some("it was replaced by an older one")),
        ] {
            let Step::Write { sealed, text, wrong } = step(text.map(String::as_str), least, content, &keys) else { panic!("{expected:?}") };
            assert_eq!(wrong, expected);
            assert!(sealed.settings.serial > 2000.max(least), "{expected:?}");
            assert_eq!(open(&text, &[keys.signer()]).as_ref(), Ok(&sealed.settings));
            assert_eq!(sealed.digest, digest(&text));
        }
    }

    #[test]
    fn an_exception_that_begins_or_ends_is_a_change_of_the_settings() {
        let keys = Keys::draw().unwrap();
        let exception = Exception { name: "e".into(), mode: Mode::Monitor, expires: llm_guard_engine::policy::Moment::from_unix(1) };
        let excepted = Content { exceptions: vec![exception.clone()], ..content() };
        let Step::Write { sealed, text, .. } = step(None, 0, &excepted, &keys) else { panic!("nothing is there") };
        assert_eq!(sealed.settings.exceptions, [exception]);
        assert!(matches!(step(Some(&text), 0, &excepted, &keys), Step::Keep(_)));
        let Step::Write { sealed, wrong: None, .. } = step(Some(&text), 0, &content(), &keys) else { panic!("it is kept") };
        assert!(sealed.settings.exceptions.is_empty());
    }

    #[test]
    fn after_a_rotation_the_same_is_signed_again_and_nothing_was_wrong() {
        let keys = Keys::draw().unwrap();
        let good = seal(&settings(2000), keys.current());
        let rotated = keys.rotated().unwrap();
        let Step::Write { sealed, wrong: None, .. } = step(Some(&good), 2000, &content(), &rotated) else { panic!("it is kept") };
        assert_eq!(sealed.settings, settings(2001));
    }

    fn mode() -> impl Strategy<Value = Option<Mode>> {
        proptest::option::of(prop_oneof![Just(Mode::Monitor), Just(Mode::Soft), Just(Mode::Hard)])
    }

    proptest! {
        #[test]
        fn the_workloads_mode_goes_before_the_namespaces_and_the_floor_and_a_stop_are_never_lost(
            of_workload in mode(), of_namespace in mode(), floor in mode(), stops in any::<(bool, bool)>(), policys in mode(),
            last in any::<bool>(),
        ) {
            let annotations = |mode: Option<Mode>, stop: bool| {
                let mut map = BTreeMap::new();
                map.extend(mode.map(|mode| (MODE.to_owned(), mode.name().to_owned())));
                map.extend(stop.then(|| (STOP.to_owned(), "true".to_owned())));
                map
            };
            let mut namespace = annotations(of_namespace, stops.0);
            namespace.extend(floor.map(|floor| (MINIMUM_MODE.to_owned(), floor.name().to_owned())));
            let workload = annotations(of_workload, stops.1);
            let around = Around { floor: None, namespace: &namespace, workload: Some(&workload) };
            let mut policy = GuardPolicy::built_in();
            policy.spec.mode = policys;
            let last = last.then(|| settings(1));
            let Resolved { content, troubles } = around.resolve(&ollama(None), |_| Some(Ok(policy.clone())), last.as_ref()).unwrap();
            prop_assert!(troubles.is_empty());
            prop_assert_eq!(content.mode, of_workload.or(of_namespace));
            prop_assert_eq!(content.floor, floor);
            prop_assert_eq!(content.stop, stops.0 || stops.1);
            prop_assert_eq!(&content.policy, &policy);
            // What a guard makes of it is never below the floor.
            let standing = Standing { mode: content.mode, floor: content.floor, ..Standing::default() };
            prop_assert!(standing.resolve(None, policys) >= floor.unwrap_or_default());
        }

        #[test]
        fn a_step_taken_is_a_step_that_is_kept(now in 0_u64..1 << 50, least in 0_u64..1 << 50, stop in any::<bool>()) {
            let keys = Keys::draw().unwrap();
            let audience = ollama(None).audience(CLUSTER);
            let content = Content { stop, ..content() };
            let Step::Write { sealed, text, .. } = (There { text: None, audience: &audience, least }).step(&content, &keys, now) else {
                panic!("nothing is there")
            };
            prop_assert!(sealed.settings.serial > least && sealed.settings.serial >= now);
            let again = There { text: Some(&text), audience: &audience, least: sealed.settings.serial }.step(&content, &keys, now);
            prop_assert_eq!(again, Step::Keep(sealed));
        }
    }
}

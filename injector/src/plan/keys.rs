//! The labels and annotations that llm-guard reads: `llm-guard` itself and everything under `llm-guard.io/`.
//!
//! The invariant: a key that nobody reads, one that stands where it isn't read, and a value out of range are refused by name, never
//! passed over. Somebody wrote them for a reason.

use std::collections::{BTreeMap, BTreeSet};

use llm_guard_engine::policy::Mode;

use crate::names::{
    ALLOW_SETUID, CPU_LIMIT, CPU_REQUEST, DATA_PORT, DEFAULT_PORT, GUARDED, INTERCEPTION, LABEL, MEMORY_LIMIT, MEMORY_REQUEST,
    METRICS_PORT, MINIMUM_MODE, MODE, OPEN_PORTS, POLICY, PORT, PREFIX, SETTINGS, SHADOW, STOP, WORKLOAD,
};

use super::obstacles::{Field, MOST_REFUSALS, Obstacle, Of, Refusal};
use super::quantity::Quantity;

/// What an annotation's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Mode,
    Name,
    Port,
    Interception,
    Quantity,
    Names,
    Ports,
    Truth,
}

/// A key and where it is read.
struct Known {
    key: &'static str,
    form: Form,
    pod: bool,
    workload: bool,
    namespace: bool,
}

const fn known(key: &'static str, form: Form, (pod, workload, namespace): (bool, bool, bool)) -> Known {
    Known { key, form, pod, workload, namespace }
}

/// Every annotation that a user may write.
const KNOWN: &[Known] = &[
    known(MODE, Form::Mode, (true, true, true)),
    known(POLICY, Form::Name, (true, true, true)),
    known(PORT, Form::Port, (true, false, false)),
    known(INTERCEPTION, Form::Interception, (true, false, false)),
    known(CPU_REQUEST, Form::Quantity, (true, false, false)),
    known(CPU_LIMIT, Form::Quantity, (true, false, false)),
    known(MEMORY_REQUEST, Form::Quantity, (true, false, false)),
    known(MEMORY_LIMIT, Form::Quantity, (true, false, false)),
    known(ALLOW_SETUID, Form::Names, (true, false, false)),
    known(OPEN_PORTS, Form::Ports, (true, false, false)),
    known(MINIMUM_MODE, Form::Mode, (false, false, true)),
    known(STOP, Form::Truth, (false, true, true)),
    known(SHADOW, Form::Name, (false, true, true)),
];

/// How the model's port is brought to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interception {
    /// By rules, which an init container writes.
    Iptables,
    /// The guard takes the port itself, and the model another.
    Port,
}

impl Interception {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Port => "port",
        }
    }
}

/// What a pod's annotations ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) mode: Option<Mode>,
    pub(crate) policy: Option<String>,
    port: Option<u16>,
    pub(crate) interception: Option<Interception>,
    /// By annotation key.
    pub(crate) resources: BTreeMap<&'static str, String>,
    pub(crate) allow_setuid: BTreeSet<String>,
    pub(crate) open_ports: BTreeSet<u16>,
}

impl Asked {
    /// What the annotations ask for. Values that are out of range count as absent: [`check`] has refused them.
    pub(crate) fn of(annotations: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| annotations.get(key).map(String::as_str);
        let resource = |key: &'static str| get(key).filter(|value| Form::Quantity.fits(value)).map(|value| (key, value.to_owned()));
        Self {
            mode: get(MODE).and_then(mode),
            policy: get(POLICY).filter(|value| Form::Name.fits(value)).map(str::to_owned),
            port: get(PORT).and_then(port),
            interception: get(INTERCEPTION).and_then(interception),
            resources: [CPU_REQUEST, CPU_LIMIT, MEMORY_REQUEST, MEMORY_LIMIT].into_iter().filter_map(resource).collect(),
            allow_setuid: get(ALLOW_SETUID).map(names).unwrap_or_default(),
            open_ports: get(OPEN_PORTS).and_then(ports).unwrap_or_default(),
        }
    }

    /// The port that is guarded.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// Whether the pod names its port.
    pub(crate) fn names_port(&self) -> bool {
        self.port.is_some()
    }
}

/// Whose keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Pod,
    Workload,
    Namespace,
}

impl Scope {
    const fn of(self) -> Of {
        match self {
            Self::Pod => Of::Pod,
            Self::Workload => Of::Workload,
            Self::Namespace => Of::Namespace,
        }
    }

    const fn reads(self, known: &Known) -> bool {
        match self {
            Self::Pod => known.pod,
            Self::Workload => known.workload,
            Self::Namespace => known.namespace,
        }
    }
}

/// One of the keys that users write, if it is there.
pub(crate) fn any_of(annotations: &BTreeMap<String, String>) -> Option<&'static str> {
    KNOWN.iter().map(|known| known.key).find(|key| annotations.contains_key(*key))
}

/// Whether a key is one of ours.
pub(crate) fn ours(key: &str) -> bool {
    key == LABEL || key.starts_with(PREFIX)
}

/// Whether a key is one that the injector writes, and nobody else.
pub(crate) fn is_injectors(key: &str) -> bool {
    [GUARDED, WORKLOAD, SETTINGS].contains(&key)
}

/// What is wrong with the keys of one object. `injected`: the injector has been here, so that its own keys may stand.
pub(crate) fn check(
    scope: Scope,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    injected: bool,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (key, value) in labels.iter().filter(|(key, _)| ours(key)) {
        if refusals.len() >= MOST_REFUSALS {
            return refusals;
        }
        let obstacle = match (scope, key.as_str()) {
            (Scope::Pod, LABEL) => (!["enabled", "disabled"].contains(&value.as_str())).then(|| Obstacle::PodLabel(value.clone())),
            (Scope::Namespace, LABEL) => (value != "enabled").then(|| Obstacle::NamespaceLabel(value.clone())),
            // On a workload itself the label does nothing; a warning says so.
            (Scope::Workload, LABEL) => None,
            (_, GUARDED | WORKLOAD) => (scope != Scope::Pod || !injected).then_some(Obstacle::Reserved),
            (_, key) if KNOWN.iter().any(|known| known.key == key) => Some(Obstacle::LabelForAnnotation),
            (_, key) => Some(Obstacle::UnknownKey { nearest: nearest(scope, key) }),
        };
        refusals.extend(obstacle.map(|obstacle| Refusal { field: Field::new(scope.of(), format!("metadata.labels[{key}]")), obstacle }));
    }
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
        if refusals.len() >= MOST_REFUSALS {
            return refusals;
        }
        let obstacle = match (KNOWN.iter().find(|known| known.key == key), key.as_str()) {
            (Some(known), _) if !scope.reads(known) => Some(Obstacle::Elsewhere { place: place(known) }),
            (Some(known), _) => {
                (!known.form.fits(value)).then(|| Obstacle::OutOfRange { value: value.clone(), expected: known.form.expected() })
            }
            (None, SETTINGS) => (scope != Scope::Pod || !injected).then_some(Obstacle::Reserved),
            (None, GUARDED | WORKLOAD) => Some(Obstacle::Reserved),
            (None, key) => Some(Obstacle::UnknownKey { nearest: nearest(scope, key) }),
        };
        refusals
            .extend(obstacle.map(|obstacle| Refusal { field: Field::new(scope.of(), format!("metadata.annotations[{key}]")), obstacle }));
    }
    refusals
}

/// A mode, exactly as it is written everywhere.
pub(crate) fn mode(value: &str) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.name() == value)
}

fn port(value: &str) -> Option<u16> {
    // Digits alone: `parse` would take a plus sign.
    let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()?;
    (number != 0 && number != DATA_PORT && number != METRICS_PORT).then_some(number)
}

fn interception(value: &str) -> Option<Interception> {
    [Interception::Iptables, Interception::Port].into_iter().find(|interception| interception.name() == value)
}

fn ports(value: &str) -> Option<BTreeSet<u16>> {
    value.split(',').map(|part| port(part.trim())).collect()
}

fn names(value: &str) -> BTreeSet<String> {
    value.split(',').map(|part| part.trim().to_owned()).collect()
}

/// Whether a text is a name that Kubernetes takes for an object.
pub(crate) fn is_name(text: &str) -> bool {
    let label = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl Form {
    fn fits(self, value: &str) -> bool {
        match self {
            Self::Mode => mode(value).is_some(),
            Self::Name => is_name(value),
            Self::Port => port(value).is_some(),
            Self::Interception => interception(value).is_some(),
            Self::Quantity => value.parse::<Quantity>().is_ok_and(|quantity| quantity > Quantity::ZERO),
            Self::Names => names(value).iter().all(|name| is_name(name)),
            Self::Ports => ports(value).is_some(),
            Self::Truth => ["true", "false"].contains(&value),
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Mode => "monitor, soft or hard",
            Self::Name => "the name of a GuardPolicy in this namespace",
            Self::Port => "a port from 1 to 65535 other than the guard's own, 15434 and 15435",
            Self::Interception => "iptables or port",
            Self::Quantity => "a quantity above zero, such as 100m or 64Mi",
            Self::Names => "names of containers, with commas between them",
            Self::Ports => "ports from 1 to 65535 other than the guard's own, 15434 and 15435, with commas between them",
            Self::Truth => "\"true\" or \"false\"",
        }
    }
}

/// Where a key is read.
fn place(known: &Known) -> &'static str {
    match (known.pod, known.workload, known.namespace) {
        (true, false, _) => "the pod, or the workload's template for it",
        (false, true, _) => "the workload, or the namespace",
        (false, false, _) => "the namespace",
        (true, true, _) => "the pod, the workload, or the namespace",
    }
}

/// The known key that takes the fewest changes of a letter; those that are read here come first.
fn nearest(scope: Scope, key: &str) -> &'static str {
    let far = |known: &&Known| (distance(known.key, key), !scope.reads(known));
    KNOWN.iter().min_by_key(far).map_or(MODE, |known| known.key)
}

/// How many letters must be put in, taken out or replaced to make one text of the other.
///
/// Only of the beginning: the API server asks us before it looks how long a key is.
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.char_indices().nth(128).map_or(text, |(end, _)| &text[..end]));
    strsim::levenshtein(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(scope: Scope, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Vec<String> {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check(scope, &map(labels), &map(annotations), false)
            .iter()
            .map(|refusal| format!("{}: {}", refusal.field.path, refusal.obstacle))
            .collect()
    }

    #[test]
    fn every_known_annotation_is_read_where_it_belongs_and_refused_elsewhere() {
        let values = ["soft", "default", "8000", "port", "100m", "200m", "32Mi", "64Mi", "a,b", "80,443", "hard", "true", "next"];
        for (known, value) in KNOWN.iter().zip(values) {
            for scope in [Scope::Pod, Scope::Workload, Scope::Namespace] {
                let said = said(scope, &[], &[(known.key, value)]);
                assert_eq!(said.is_empty(), scope.reads(known), "{scope:?} {}: {said:?}", known.key);
            }
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused_with_the_nearest() {
        for (key, expected) in [
            ("llm-guard.io/mod", MODE),
            ("llm-guard.io/Mode", MODE),
            ("llm-guard.io/prot", PORT),
            ("llm-guard.io/allow-suid", ALLOW_SETUID),
            ("llm-guard.io/resources-cpu-limits", CPU_LIMIT),
            ("llm-guard.io/", MODE),
            ("llm-guard.io/shaddow", SHADOW),
        ] {
            let said = said(Scope::Pod, &[], &[(key, "x")]);
            assert!(said.len() == 1 && said[0].contains(expected), "{key}: {said:?}");
        }
        assert!(said(Scope::Pod, &[("llm-guard-io/mode", "x"), ("llm-guardian", "x")], &[("llm-guard", "x")]).is_empty());
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (key, bad) in [
            (MODE, vec!["", "Hard", "strict", " hard"]),
            (POLICY, vec!["", "a_b", "-a", "a..b", "A"]),
            (PORT, vec!["", "0", "65536", "+80", "15434", "15435", "http", "8000,8001"]),
            (INTERCEPTION, vec!["none", "Port", ""]),
            (CPU_LIMIT, vec!["", "much", "-1", "0", "1 Gi", "1mi"]),
            (ALLOW_SETUID, vec!["", "a,,b", "a b"]),
            (OPEN_PORTS, vec!["", "80,", "80-90", "15435"]),
        ] {
            for value in bad {
                let said = said(Scope::Pod, &[], &[(key, value)]);
                assert!(said.len() == 1 && said[0].contains(key), "{key}={value}: {said:?}");
            }
        }
        assert_eq!(said(Scope::Namespace, &[], &[(STOP, "yes")]).len(), 1);
    }

    #[test]
    fn other_values_of_the_label_are_refused_by_name() {
        assert!(said(Scope::Pod, &[(LABEL, "enabled")], &[]).is_empty());
        assert!(said(Scope::Pod, &[(LABEL, "disabled")], &[]).is_empty());
        assert!(said(Scope::Pod, &[(LABEL, "true")], &[])[0].contains("'true'"));
        assert!(said(Scope::Namespace, &[(LABEL, "disabled")], &[])[0].contains("'disabled'"));
    }

    #[test]
    fn what_the_injector_writes_nobody_else_may() {
        for said in [
            said(Scope::Pod, &[(GUARDED, "true")], &[]),
            said(Scope::Pod, &[(WORKLOAD, "x")], &[]),
            said(Scope::Pod, &[], &[(SETTINGS, "x")]),
            said(Scope::Workload, &[], &[(SETTINGS, "x")]),
        ] {
            assert!(said.len() == 1 && said[0].contains("written by the injector"), "{said:?}");
        }
    }

    #[test]
    fn distance_counts_changes_of_a_letter() {
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("abc", "abc")), (3, 3, 0));
        assert_eq!((distance("port", "prot"), distance("mode", "modes"), distance("kitten", "sitting")), (2, 1, 3));
    }
}

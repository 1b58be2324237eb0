//! Which change takes which verb.

use serde_json::json;

use super::*;

fn map(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn policy(name: &str) -> Option<GuardPolicy> {
    let mode = match name {
        "default" => None,
        "soft" | "other-soft" => Some(Mode::Soft),
        "hard" => Some(Mode::Hard),
        _ => return None,
    };
    let mut policy = GuardPolicy::built_in();
    policy.spec.mode = mode;
    Some(policy)
}

fn verbs(asks: &[Ask]) -> Vec<&'static str> {
    asks.iter().map(|ask| ask.verb.name()).collect()
}

const POLICY_KEY: &str = POLICY;

/// What a workload's annotations ask, in a labelled namespace with these annotations.
fn workload(namespace: &[(&str, &str)], old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<&'static str> {
    let (namespace, old, new) = (map(namespace), map(old), map(new));
    let made = Made {
        prefix: "spec.template.",
        namespace: &namespace,
        namespace_labelled: true,
        workload: Some([&old, &new]),
        templates: [Template::default(), Template::default()],
        new: false,
    };
    verbs(&made.asks(&policy, None))
}

#[test]
fn a_workloads_annotations() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let table: &[(Pairs<'_>, Pairs<'_>, Pairs<'_>, &[&str])] = &[
        (&[], &[], &[(MODE, "hard")], &[]),
        (&[], &[(MODE, "soft")], &[(MODE, "hard")], &[]),
        (&[], &[(MODE, "hard")], &[(MODE, "soft")], &["lower"]),
        (&[], &[(MODE, "hard")], &[], &["lower"]),
        (&[], &[(MODE, "monitor")], &[], &[]),
        (&[(MODE, "hard")], &[], &[(MODE, "soft")], &["lower"]),
        (&[(MODE, "soft")], &[], &[(MODE, "hard")], &[]),
        // Under a floor nothing gets lower than that.
        (&[(MINIMUM_MODE, "hard")], &[(MODE, "hard")], &[(MODE, "monitor")], &[]),
        // Policies by name. One that isn't there may become anything.
        (&[], &[], &[(POLICY_KEY, "hard")], &[]),
        (&[], &[(POLICY_KEY, "hard")], &[(POLICY_KEY, "soft")], &["lower"]),
        (&[], &[(POLICY_KEY, "soft")], &[(POLICY_KEY, "other-soft")], &[]),
        (&[], &[(POLICY_KEY, "soft")], &[], &["lower"]),
        (&[(POLICY_KEY, "soft")], &[(POLICY_KEY, "soft")], &[], &[]),
        (&[], &[(POLICY_KEY, "hard")], &[(POLICY_KEY, "gone")], &["lower"]),
        (&[], &[], &[(POLICY_KEY, "gone")], &[]),
        // A mode in the place of the policy's.
        (&[], &[(POLICY_KEY, "hard")], &[(POLICY_KEY, "hard"), (MODE, "soft")], &["lower"]),
        (&[], &[], &[(STOP, "true")], &["stop"]),
        (&[], &[(STOP, "true")], &[(STOP, "false")], &["stop"]),
        (&[], &[(STOP, "true")], &[], &["stop"]),
        (&[], &[], &[(STOP, "false")], &[]),
        (&[], &[(STOP, "true"), (MODE, "hard")], &[(MODE, "soft")], &["stop", "lower"]),
    ];
    for (namespace, old, new, expected) in table {
        assert_eq!(workload(namespace, old, new), *expected, "{namespace:?}: {old:?} to {new:?}");
    }
}

/// What a template asks: its label and its annotations, before and after.
fn template(labelled: bool, new: bool, old: (&str, &[(&str, &str)]), now: (&str, &[(&str, &str)])) -> Vec<&'static str> {
    let of = |(label, annotations): (&str, &[(&str, &str)])| {
        let labels = if label.is_empty() { json!({}) } else { json!({"llm-guard": label}) };
        Template::of(Some(&json!({"metadata": {"labels": labels, "annotations": map(annotations)}})))
    };
    let (namespace, none) = (map(&[(MODE, "soft")]), map(&[]));
    let made = Made {
        prefix: "spec.template.",
        namespace: &namespace,
        namespace_labelled: labelled,
        workload: Some([&none, &none]),
        templates: [of(old), of(now)],
        new,
    };
    verbs(&made.asks(&policy, None))
}

#[test]
fn a_templates_label() {
    for (labelled, old, new, expected) in [
        (false, "enabled", "", &["exempt"][..]),
        (false, "enabled", "disabled", &["exempt"]),
        (false, "", "enabled", &[]),
        (false, "", "disabled", &[]),
        (true, "", "disabled", &["exempt"]),
        (true, "enabled", "", &[]),
        (true, "disabled", "", &[]),
        (true, "disabled", "disabled", &[]),
    ] {
        assert_eq!(template(labelled, false, (old, &[]), (new, &[])), expected, "{labelled} {old} {new}");
    }
}

#[test]
fn a_templates_annotations() {
    let (old, none): ((&str, &[_]), &[_]) = (("enabled", &[(OPEN_PORTS, "80"), (MODE, "hard")]), &[]);
    let kept = (OPEN_PORTS, "80");
    for (new, expected) in [
        (&[kept, (MODE, "hard")][..], none),
        (&[(OPEN_PORTS, "80,443"), (MODE, "hard")], &["exempt"]),
        (&[(OPEN_PORTS, "443"), (MODE, "hard")], &["exempt"]),
        (&[(MODE, "hard")], none),
        (&[kept, (MODE, "hard"), (PORT, "8000")], &["exempt"]),
        (&[kept, (MODE, "hard"), (PORT, "11434")], none),
        (&[kept, (MODE, "hard"), (ALLOW_SETUID, "a")], &["lower"]),
        (&[kept, (MODE, "hard"), (INTERCEPTION, "port")], &["lower"]),
        (&[kept, (MODE, "hard"), (INTERCEPTION, "iptables")], none),
        (&[kept, (MODE, "soft")], &["lower"]),
        (&[kept, (MODE, "hard"), ("llm-guard.io/resources-cpu-limit", "1")], none),
    ] {
        assert_eq!(template(false, false, old, ("enabled", new)), expected, "{new:?}");
    }
    // What is new is measured by what its namespace says; where the model listens its author says.
    for (new, expected) in
        [(&[(PORT, "8000")][..], none), (&[(OPEN_PORTS, "80")], &["exempt"]), (&[(POLICY_KEY, "hard")], none), (&[(MODE, "monitor")], none)]
    {
        assert_eq!(template(true, true, ("", &[]), ("", new)), expected, "{new:?}");
        assert_eq!(template(false, true, ("", &[]), ("enabled", new)), none, "{new:?}");
    }
}

#[test]
fn what_was_in_force_is_what_counts_where_its_policy_is_gone() {
    let (namespace, old, new) = (map(&[]), map(&[(POLICY_KEY, "gone")]), map(&[(POLICY_KEY, "soft")]));
    let situation = |workload| Situation { namespace: &namespace, workload: Some(workload), policy: None, pod: None };
    let weaker = |last: Option<&str>| situation(&old).weaker(&situation(&new), &policy, last.and_then(policy).as_ref());
    assert_eq!(weaker(Some("hard")).as_deref(), Some("mode: from hard to soft"));
    assert_eq!((weaker(Some("soft")), weaker(None)), (None, None));
}

#[test]
fn a_namespaces_keys() {
    let of = |labels: [&[(&str, &str)]; 2], annotations: [&[(&str, &str)]; 2]| {
        let ([a, b], [c, d]) = (labels.map(map), annotations.map(map));
        verbs(&namespace([&a, &b], [&c, &d]))
    };
    let none: [&[_]; 2] = [&[], &[]];
    assert_eq!(of([&[(LABEL, "enabled")], &[]], none), ["exempt"]);
    assert_eq!(of([&[], &[(LABEL, "enabled")]], none), [""; 0]);
    for (old, new, expected) in [
        (Some("soft"), Some("hard"), &[][..]),
        (None, Some("monitor"), &[]),
        (Some("hard"), Some("soft"), &["lower"]),
        (Some("soft"), None, &["lower"]),
        (Some("monitor"), None, &["lower"]),
        (Some("hard"), Some("odd"), &["lower"]),
    ] {
        let [old, new] = [old, new].map(|value| value.map(|value| (MINIMUM_MODE, value)));
        assert_eq!(of([&[], &[]], [old.as_slice(), new.as_slice()]), expected, "{old:?} {new:?}");
    }
    assert_eq!(of([&[], &[]], [&[], &[(STOP, "true")]]), ["stop"]);
}

#[test]
fn a_running_pods_own_mode() {
    let pod = |mode: Option<&str>| Template::of(Some(&json!({"metadata": {"annotations": {MODE: mode}}})));
    for (old, new, asks) in [(Some("hard"), Some("soft"), 1), (Some("soft"), None, 1), (None, Some("hard"), 0), (Some("monitor"), None, 0)]
    {
        assert_eq!(pod_changed(&pod(old), &pod(new)).len(), asks, "{old:?} {new:?}");
    }
}

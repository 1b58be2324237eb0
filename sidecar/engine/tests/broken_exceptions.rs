//! Broken exceptions, and the exact message that each gets.

use llm_guard_engine::policy::GuardException;

const HEAD: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardException\nmetadata: {name: e}\n";
/// What is said of a list that says nothing.
const ALL: &str = "leaving the key out means every guard in the namespace";

fn said(yaml: &str) -> String {
    GuardException::read(yaml).map_or_else(|error| error.to_string(), |_| "it is accepted".to_owned())
}

#[test]
fn each_broken_exception_gets_its_message() {
    let kinds = "There are: Deployment, StatefulSet, DaemonSet, Job, CronJob";
    let ends = "reason: x, expires: 2026-01-31T18:00:00Z";
    let named = |list: &str| format!("spec: {{workloads: {list}, mode: soft, {ends}}}");
    let timed = |expires: &str| format!("spec: {{expires: {expires}, mode: soft, reason: x}}");
    let long = "x".repeat(501);
    let cases: &[(String, String)] = &[
        (String::new(), "line 1, column 1: the key 'spec' is missing".into()),
        ("spec:".into(), "line 4, column 5: spec: the key 'mode' is missing".into()),
        ("spec: {mode: soft}".into(), "line 4, column 7: spec: the key 'reason' is missing".into()),
        ("spec: {mode: soft, reason: x}".into(), "line 4, column 7: spec: the key 'expires' is missing".into()),
        (format!("spec: {{{ends}}}"), "line 4, column 7: spec: the key 'mode' is missing".into()),
        (format!("spec: {{mode: none, {ends}}}"), "line 4, column 14: spec.mode: nobody knows 'none'. There are: monitor, soft, hard".into()),
        (
            format!("spec: {{mode: Soft, {ends}}}"),
            "line 4, column 14: spec.mode: nobody knows 'Soft': did you mean 'soft'? There are: monitor, soft, hard".into(),
        ),
        (
            format!("spec: {{mode: , {ends}}}"),
            "line 4, column 12: spec.mode: one of monitor, soft, hard is expected, and there is nothing".into(),
        ),
        (
            format!("spec: {{modes: soft, {ends}}}"),
            "line 4, column 8: spec.modes: nobody reads this key: did you mean 'mode'? There are: mode, reason, expires, workloads".into(),
        ),
        (
            format!("spec: {{mode: soft, {ends}, workload: [Job/a]}}"),
            "line 4, column 62: spec.workload: nobody reads this key: did you mean 'workloads'? There are: mode, reason, expires, workloads"
                .into(),
        ),
        (
            "spec: {reason: ' ', mode: soft, expires: x}".into(),
            "line 4, column 16: spec.reason: there is no reason: say why what holds here can't hold for a while".into(),
        ),
        (
            "spec: {reason: , mode: soft, expires: x}".into(),
            "line 4, column 14: spec.reason: a text is expected, and there is nothing".into(),
        ),
        (
            "spec: {reason: 4711, mode: soft, expires: x}".into(),
            "line 4, column 16: spec.reason: a text is expected, and there is a number; as a text it stands in quotes".into(),
        ),
        (
            format!("spec: {{reason: {long}, mode: soft, expires: x}}"),
            "line 4, column 16: spec.reason: the reason has 501 characters; at most 500 are read".into(),
        ),
        (
            timed("tomorrow"),
            "line 4, column 17: spec.expires: 'tomorrow' is no time as RFC 3339 writes it, such as 2026-01-31T18:00:00Z".into(),
        ),
        (
            timed("2026-01-31"),
            "line 4, column 17: spec.expires: '2026-01-31' is no time as RFC 3339 writes it, such as 2026-01-31T18:00:00Z".into(),
        ),
        (timed("3600"), "line 4, column 17: spec.expires: a text is expected, and there is a number; as a text it stands in quotes".into()),
        (named(""), format!("line 4, column 17: spec.workloads: there is no list behind the key: {ALL}")),
        (named("[]"), format!("line 4, column 19: spec.workloads: the list is empty, so that the exception is for nobody: {ALL}")),
        (named("Deployment/a"), "line 4, column 19: spec.workloads: a list is expected, and there is a text".into()),
        (
            named("[ollama]"),
            "line 4, column 20: spec.workloads[0]: 'ollama' names no workload: it is written as Deployment/ollama".into(),
        ),
        (
            named("[deployment/ollama]"),
            format!("line 4, column 20: spec.workloads[0]: nobody knows the kind 'deployment': did you mean 'Deployment'? {kinds}"),
        ),
        (named("[Job/a, Pod/b]"), format!("line 4, column 27: spec.workloads[1]: nobody knows the kind 'Pod'. {kinds}")),
        (named("[Job/A]"), "line 4, column 20: spec.workloads[0]: no Job can be called 'A'".into()),
        (named("[Job/]"), "line 4, column 20: spec.workloads[0]: no Job can be called ''".into()),
        (named("[Job/a/b]"), "line 4, column 20: spec.workloads[0]: no Job can be called 'a/b'".into()),
        (named("[Job/a, Job/b, Job/a]"), "line 4, column 19: spec.workloads: 'Job/a' stands here twice".into()),
        (
            format!("spec: {{mode: soft, {ends}}}\nstatus: {{}}"),
            "line 5, column 1: status: nobody reads this key. There are: apiVersion, kind, metadata, spec".into(),
        ),
    ];
    let wrong: Vec<_> = cases
        .iter()
        .map(|(text, expected)| (text, said(&format!("{HEAD}{text}")), expected))
        .filter(|(_, said, expected)| said != *expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(said(&format!("{HEAD}spec: {{mode: soft, {ends}}}")), "it is accepted");
    let many = (0..101).map(|number| format!("Job/a{number}")).collect::<Vec<_>>().join(", ");
    assert!(said(&format!("{HEAD}{}", named(&format!("[{many}]")))).contains("101 workloads are named, and at most 100 are read"));
}

#[test]
fn a_document_of_another_kind_or_version_is_none() {
    for (text, expected) in [
        (
            "apiVersion: llm-guard.io/v1\nkind: GuardException\n",
            "line 1, column 13: apiVersion: 'llm-guard.io/v1' is something else; this guard reads llm-guard.io/v1alpha1",
        ),
        (
            "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\n",
            "line 2, column 7: kind: 'GuardPolicy' is something else; this guard reads GuardException",
        ),
    ] {
        assert_eq!(said(text), expected);
    }
}

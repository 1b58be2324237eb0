//! Exceptions: made by whoever may and by nobody else, over at once when they are deleted and at their end by themselves.

use std::io;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use llm_guard_engine::policy::Moment;
use llm_guard_tests::cluster::wait_until;
use serde_json::{Value, json};

use crate::field::{Field, INJECTOR, PlayedGuard, SOON, free_address};

/// Somebody who may break the glass in one namespace.
const JANE: &str = "--as=jane";
/// Somebody who may not.
const JOE: &str = "--as=joe";
const DAY: u64 = 24 * 60 * 60;

/// The moment so many seconds from now.
fn in_seconds(seconds: u64) -> Moment {
    Moment::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + seconds)
}

fn document(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardException", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn spec(mode: &str, expires: Moment) -> Value {
    json!({"mode": mode, "reason": "incident 7: orders are refused", "expires": expires})
}

/// A namespace with a floor and a guarded Deployment in `hard`, and Jane, who may break the glass there.
fn guarded(field: &Field, name: &str) -> io::Result<String> {
    let namespace = field.namespace(name, &[])?;
    field.api.kubectl(&["annotate", "namespace", &namespace, "llm-guard.io/minimum-mode=hard"])?;
    field.deployment(&namespace, &json!({"llm-guard.io/mode": "hard"}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    field.wait_for_settings(&namespace, "the floor is there", |settings| settings["floor"] == "hard")?;
    field.api.kubectl(&["-n", &namespace, "create", "rolebinding", "glass", "--clusterrole=llm-guard-break-glass", "--user=jane"])?;
    wait_until("jane may break the glass", SOON, || {
        let ended = field.api.try_kubectl(&["auth", "can-i", "create", "guardexceptions.llm-guard.io", JANE, "-n", &namespace], "");
        match ended {
            Ok(ended) if ended.printed.trim() == "yes" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(namespace)
}

/// The reason of the condition, once it is there.
fn wait_for_state(field: &Field, namespace: &str, name: &str, reason: &str) -> io::Result<Value> {
    wait_until(&format!("{name} is {reason}"), SOON, || {
        let object = field.api.json(&["-n", namespace, "guardexception", name]).map_err(|error| error.to_string())?;
        let status = &object["status"];
        let is_so = status["conditions"][0]["type"] == "Active" && status["conditions"][0]["reason"] == reason;
        if is_so { Ok(status.clone()) } else { Err(status.to_string()) }
    })
}

/// Waits for an event about an object.
fn wait_for_event(field: &Field, namespace: &str, reason: &str, kind: &str, words: &str) -> io::Result<()> {
    wait_until(&format!("{reason} is told of the {kind}"), SOON, || {
        let events = field.api.json(&["-n", namespace, "events.events.k8s.io"]).map_err(|error| error.to_string())?;
        let mut items = events["items"].as_array().into_iter().flatten();
        let is_it = |event: &Value| {
            event["reason"] == reason
                && event["regarding"]["kind"] == kind
                && event["note"].as_str().is_some_and(|note| note.contains(words))
        };
        if items.any(is_it) { Ok(()) } else { Err(events.to_string()) }
    })
}

#[test]
fn whoever_has_the_role_breaks_the_glass_and_it_is_over_at_once_when_they_say_so() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let (namespace, other) = (guarded(&field, "a")?, field.namespace("b", &[])?);
    let expires = in_seconds(3600);
    // As people write it: a time without quotes.
    let yaml = |namespace: &str| {
        format!(
            "apiVersion: llm-guard.io/v1alpha1\nkind: GuardException\nmetadata: {{name: night, namespace: {namespace}}}\nspec:\n  mode: monitor\n  \
             reason: orders are refused\n  expires: {expires}\n  workloads: [Deployment/ollama]\n"
        )
    };
    let create = |who: &str, namespace: &str| field.api.try_kubectl(&["create", "-f", "-", who], &yaml(namespace));
    for (who, namespace) in [(JOE, &namespace), (JANE, &other)] {
        let ended = create(who, namespace)?;
        assert!(!ended.status.success() && ended.said.contains("cannot create resource \"guardexceptions\""), "{}", ended.said);
    }
    let ended = create(JANE, &namespace)?;
    assert!(ended.status.success(), "{}", ended.said);
    let during = field.wait_for_settings(&namespace, "the exception is there", |settings| !settings["exceptions"].is_null())?;
    assert_eq!(during["exceptions"], json!([{"name": "night", "mode": "monitor", "expires": expires}]));
    assert_eq!((&during["floor"], &during["mode"]), (&json!("hard"), &json!("hard")), "what holds without it stays");
    let status = wait_for_state(&field, &namespace, "night", "InForce")?;
    assert_eq!((&status["by"], &status["workloads"], &status["pods"]), (&json!("jane"), &json!(1), &json!(1)), "{status}");
    let shown = field.api.kubectl(&["-n", &namespace, "get", "gex"])?;
    let columns: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(columns[0], ["NAME", "MODE", "WORKLOADS", "EXPIRES", "ACTIVE", "REASON", "AGE"]);
    let expected = ["night", "monitor", "[\"Deployment/ollama\"]", &expires.to_string(), "True", "orders", "are", "refused"];
    assert_eq!(columns[1][..8], expected, "{shown}");
    wait_for_event(&field, &namespace, "ExceptionBegun", "GuardException", "no control of Deployment/ollama goes above monitor")?;
    wait_for_event(&field, &namespace, "ExceptionBegun", "Deployment", "By the GuardException night ")?;
    wait_for_event(&field, &namespace, "ProtectionChanged", "GuardException", "By 'jane': spec: from nothing to monitor until ")?;

    // Who may lower what holds is asked as if there were no exception.
    field.api.kubectl(&["create", "clusterrole", "deployer", "--verb=get,patch", "--resource=deployments.apps"])?;
    field.api.kubectl(&["-n", &namespace, "create", "rolebinding", "deployer", "--clusterrole=deployer", "--user=jane"])?;
    field.api.kubectl(&["annotate", "namespace", &namespace, "llm-guard.io/minimum-mode-"])?;
    wait_until("she lacks the verb alone", SOON, || {
        let ended =
            field.api.try_kubectl(&["-n", &namespace, "annotate", "--overwrite", "deployment/ollama", "llm-guard.io/mode=soft", JANE], "");
        let ended = ended.map_err(|error| error.to_string())?;
        let is_refused = !ended.status.success() && ended.said.contains("takes the verb lower on guardpolicies.llm-guard.io");
        if is_refused { Ok(()) } else { Err(format!("{}{}", ended.printed, ended.said)) }
    })?;
    // What became of it, nobody writes but the injector.
    let patch = json!({"status": {"by": "joe"}}).to_string();
    let ended = field
        .api
        .try_kubectl(&["-n", &namespace, "patch", "gex", "night", "--subresource=status", "--type=merge", "-p", &patch, JANE], "")?;
    assert!(!ended.status.success() && ended.said.contains("resource \"guardexceptions/status\""), "{}", ended.said);

    field.api.kubectl(&["-n", &namespace, "delete", "guardexception", "night", JANE])?;
    field.wait_for_settings(&namespace, "it is over", |settings| settings["exceptions"].is_null())?;
    wait_for_event(&field, &namespace, "ExceptionEnded", "Deployment", "The GuardException night has ended")?;

    // Whoever made it and ended it is on record.
    let said = injector.said()?;
    let records: Vec<Value> =
        said.lines().filter(|line| line.contains("\"audit\":\"change\"")).map(serde_json::from_str).collect::<Result<_, _>>()?;
    let object = format!("GuardException/{namespace}/night");
    let of: Vec<_> = records.iter().filter(|record| record["object"] == object).collect();
    let told: Vec<_> = of.iter().map(|record| json!([record["user"], record["operation"], record["result"], record["message"]])).collect();
    let what = format!("monitor until {expires} because 'orders are refused' for Deployment/ollama");
    let expected = [
        json!(["jane", "CREATE", "allowed", format!("spec: from nothing to {what}")]),
        json!(["jane", "DELETE", "allowed", format!("spec: from {what} to nothing")]),
    ];
    assert_eq!(told, expected, "{said}");
    assert!(!said.to_lowercase().contains("forbidden"), "{said}");
    Ok(())
}

#[test]
fn an_exception_ends_by_itself_and_of_several_each_at_its_own_time() -> io::Result<()> {
    let (field, first) = Field::with_injector(&[])?;
    let second = field.injector(free_address()?, &[])?;
    second.wait_until_ready()?;
    let namespace = guarded(&field, "a")?;
    let (soon, later) = (in_seconds(12), in_seconds(600));
    let mut all = spec("soft", later);
    all["workloads"] = json!(["StatefulSet/other", "Deployment/ollama"]);
    for (name, spec) in [("short", spec("monitor", soon)), ("long", all)] {
        field.api.apply(&document(&namespace, name, &spec).to_string())?;
    }
    let mut others = spec("monitor", later);
    others["workloads"] = json!(["Deployment/another"]);
    field.api.apply(&document(&namespace, "others", &others).to_string())?;
    let names = |settings: &Value| -> Vec<String> {
        let all = settings["exceptions"].as_array().into_iter().flatten();
        all.map(|exception| exception["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    field.wait_for_settings(&namespace, "both are there", |settings| names(settings) == ["short", "long"])?;
    assert_eq!(wait_for_state(&field, &namespace, "others", "InForce")?["pods"], 0);
    wait_until("the first has ended", Duration::from_secs(20), || {
        let (_, settings) = field.settings(&namespace)?;
        if names(&settings) == ["long"] { Ok(()) } else { Err(settings.to_string()) }
    })?;
    assert!(in_seconds(0) >= soon && in_seconds(0) <= Moment::from_unix(soon.unix() + 3), "it ended at {}", in_seconds(0));
    let status = wait_for_state(&field, &namespace, "short", "Expired")?;
    assert_eq!((&status["conditions"][0]["status"], &status["pods"]), (&json!("False"), &Value::Null), "{status}");
    wait_for_event(&field, &namespace, "ExceptionEnded", "GuardException", "It has ended")?;
    wait_for_event(&field, &namespace, "ExceptionEnded", "Deployment", "short")?;
    // Whichever injector did it, it was told of the workload once, and nothing is left to write.
    let events = field.api.json(&["-n", &namespace, "events.events.k8s.io"])?;
    let of_workload = events["items"].as_array().into_iter().flatten();
    let ended = of_workload.filter(|event| event["reason"] == "ExceptionEnded" && event["regarding"]["kind"] == "Deployment").count();
    assert_eq!(ended, 1, "{events}");
    let versions = || -> io::Result<Vec<Value>> {
        let all = field.api.json(&["-n", &namespace, "configmaps,guardexceptions"])?;
        Ok(all["items"].as_array().into_iter().flatten().map(|item| item["metadata"]["resourceVersion"].clone()).collect())
    };
    thread::sleep(Duration::from_secs(1));
    let before = versions()?;
    thread::sleep(Duration::from_secs(2));
    assert_eq!(versions()?, before);

    // An earlier end counts at once.
    let earlier = json!({"spec": {"expires": in_seconds(0)}}).to_string();
    field.api.kubectl(&["-n", &namespace, "patch", "gex", "long", "--type=merge", "-p", &earlier])?;
    field.wait_for_settings(&namespace, "it is over", |settings| settings["exceptions"].is_null())?;
    wait_for_state(&field, &namespace, "long", "Expired")?;
    drop(first);
    Ok(())
}

#[test]
fn what_guards_should_load_is_brought_to_them_when_an_exception_begins_and_ends() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = guarded(&field, "a")?;
    let told = || -> io::Result<String> {
        let pod = field.api.json(&["-n", &namespace, "pod", "ollama-1-a"])?;
        Ok(pod["metadata"]["annotations"]["llm-guard.io/settings"].as_str().unwrap_or_default().to_owned())
    };
    let guard = PlayedGuard::start()?;
    guard.load(&told()?);
    field.run_at(&namespace, "ollama-1-a", guard.address)?;
    injector.wait_for_metric("settings_pending", 0.0, SOON)?;
    let mut before = told()?;
    for step in ["make", "delete"] {
        if step == "make" {
            field.api.apply(&document(&namespace, "night", &spec("monitor", in_seconds(600))).to_string())?;
        } else {
            field.api.kubectl(&["-n", &namespace, "delete", "gex", "night"])?;
        }
        let digest = wait_until("the pod is touched", SOON, || match told() {
            Ok(now) if now != before => Ok(now),
            other => Err(format!("{other:?}")),
        })?;
        guard.load(&digest);
        injector.wait_for_metric("settings_pending", 0.0, SOON)?;
        before = digest;
    }
    // A pod that is made while one is in force has it from the start.
    field.api.apply(&document(&namespace, "day", &spec("soft", in_seconds(600))).to_string())?;
    field.wait_for_settings(&namespace, "the exception is there", |settings| settings["exceptions"][0]["name"] == "day")?;
    field.pod_of_deployment(&namespace, "ollama-1-b")?;
    let (_, settings) = field.settings(&namespace).map_err(io::Error::other)?;
    assert_eq!(settings["exceptions"][0]["name"], "day");
    wait_until("both pods are counted", SOON, || {
        let object = field.api.json(&["-n", &namespace, "guardexception", "day"]).map_err(|error| error.to_string())?;
        if object["status"]["pods"] == 2 { Ok(()) } else { Err(object.to_string()) }
    })
}

#[test]
fn what_is_no_exception_is_refused_with_the_place_and_the_reason() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let hour = in_seconds(3600);
    let with = |key: &str, value: Value| {
        let mut spec = spec("monitor", hour);
        spec[key] = value;
        spec
    };
    let kinds = "There are: Deployment, StatefulSet, DaemonSet, Job, CronJob";
    let all = "leaving the key out means every guard in the namespace";
    for (spec, expected) in [
        (json!({"reason": "x", "expires": hour}), "spec: the key 'mode' is missing".to_owned()),
        (json!({"mode": "soft", "expires": hour}), "spec: the key 'reason' is missing".to_owned()),
        (json!({"mode": "soft", "reason": "x"}), "spec: the key 'expires' is missing".to_owned()),
        (with("reason", json!(" ")), "spec.reason: there is no reason: say why what holds here can't hold for a while".to_owned()),
        (with("reason", Value::Null), "spec.reason: a text is expected, and there is nothing".to_owned()),
        (with("reason", json!("x".repeat(501))), "spec.reason: the reason has 501 characters; at most 500 are read".to_owned()),
        (
            with("expires", json!("tomorrow")),
            "spec.expires: 'tomorrow' is no time as RFC 3339 writes it, such as 2026-01-31T18:00:00Z".to_owned(),
        ),
        (
            with("expires", json!("2026-01-31T18:00:00Z")),
            "spec.expires: 2026-01-31T18:00:00Z has passed, or passes within five seconds: it is ".to_owned(),
        ),
        (with("expires", json!(in_seconds(DAY + 30))), " is too late: an exception that was made at ".to_owned()),
        (
            with("workload", json!([])),
            "spec.workload: nobody reads this key: did you mean 'workloads'? There are: mode, reason, expires, workloads".to_owned(),
        ),
        (with("workloads", Value::Null), format!("spec.workloads: there is no list behind the key: {all}")),
        (with("workloads", json!([])), format!("spec.workloads: the list is empty, so that the exception is for nobody: {all}")),
        (
            with("workloads", json!(["Deploymnet/ollama"])),
            format!("spec.workloads[0]: nobody knows the kind 'Deploymnet': did you mean 'Deployment'? {kinds}"),
        ),
        (
            with("workloads", json!(["Job/a", "ollama"])),
            "spec.workloads[1]: 'ollama' names no workload: it is written as Deployment/ollama".to_owned(),
        ),
    ] {
        let said = field.api.refused(&document(&namespace, "night", &spec).to_string())?;
        let names = said.contains("\"exceptions.llm-guard.io\"") && said.contains("GuardException night: ");
        assert!(names && said.contains(&expected), "{spec}: {said}");
    }
    // What the definition refuses, the API server refuses.
    let said = field.api.refused(&document(&namespace, "night", &with("mode", json!("off"))).to_string())?;
    assert!(said.contains("spec.mode") && said.contains("monitor"), "{said}");

    // A day is the most, and it is counted from the making on. What there is can only end earlier.
    field.api.apply(&document(&namespace, "night", &spec("soft", in_seconds(DAY - 30))).to_string())?;
    let patch =
        |change: Value| field.api.try_kubectl(&["-n", &namespace, "patch", "gex", "night", "--type=merge", "-p", &change.to_string()], "");
    for (change, path) in [
        (json!({"spec": {"expires": in_seconds(DAY - 20)}}), "spec.expires"),
        (json!({"spec": {"mode": "monitor"}}), "spec.mode"),
        (json!({"spec": {"reason": "another"}}), "spec.reason"),
        (json!({"spec": {"workloads": ["Job/a"], "expires": hour}}), "spec.workloads"),
    ] {
        let ended = patch(change.clone())?;
        let expected = format!("{path}: an exception can't be changed but for an earlier end (spec.expires): make a new one");
        assert!(!ended.status.success() && ended.said.contains(&expected), "{change}: {}{}", ended.printed, ended.said);
    }
    for change in [json!({"metadata": {"labels": {"team": "x"}}}), json!({"spec": {"expires": hour}})] {
        let ended = patch(change)?;
        assert!(ended.status.success(), "{}", ended.said);
    }
    // Of a dry run nobody hears, and without an injector one can be ended though none can be made.
    field.api.kubectl(&["-n", &namespace, "delete", "gex", "night", "--dry-run=server"])?;
    drop(injector);
    let made = field.api.try_kubectl(&["create", "-f", "-"], &document(&namespace, "day", &spec("soft", hour)).to_string())?;
    assert!(!made.status.success() && made.said.contains("failed calling webhook"), "{}", made.said);
    field.api.kubectl(&["-n", &namespace, "delete", "gex", "night"]).map(drop)
}

#[test]
fn what_came_past_the_webhook_and_is_none_is_in_force_nowhere_and_says_why() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = guarded(&field, "a")?;
    field.api.kubectl(&["delete", "validatingwebhookconfiguration", INJECTOR])?;
    wait_until("what is too long gets in", SOON, || {
        let long = document(&namespace, "long", &spec("monitor", in_seconds(DAY + 60)));
        field.api.apply(&long.to_string()).map_err(|error| error.to_string())
    })?;
    let mut odd = spec("monitor", in_seconds(600));
    odd["expire"] = json!("never");
    field.api.apply(&document(&namespace, "odd", &odd).to_string())?;
    field.api.apply(&document(&namespace, "over", &spec("monitor", in_seconds(0))).to_string())?;
    field.api.apply(&document(&namespace, "right", &spec("soft", in_seconds(600))).to_string())?;
    let settings = field.wait_for_settings(&namespace, "the right one is there", |settings| !settings["exceptions"].is_null())?;
    assert_eq!(settings["exceptions"][0]["name"], "right");
    for (name, reason, words) in [
        ("long", "Rejected", "is too late: an exception that was made at "),
        ("odd", "Rejected", "spec.expire: nobody reads this key: did you mean 'expires'?"),
        ("over", "Expired", "It has ended"),
    ] {
        let status = wait_for_state(&field, &namespace, name, reason)?;
        let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
        assert!(status["conditions"][0]["status"] == "False" && message.contains(words), "{status}");
    }
    wait_for_event(&field, &namespace, "ExceptionRejected", "GuardException", "It is in force nowhere: spec.expire")?;
    let (_, settings) = field.settings(&namespace).map_err(io::Error::other)?;
    assert_eq!(settings["exceptions"].as_array().map(Vec::len), Some(1), "{settings}");
    Ok(())
}

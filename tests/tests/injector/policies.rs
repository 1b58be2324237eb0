//! Policies: refused where no guard could load them, and without effect where they got in all the same.

use std::io;
use std::time::Duration;

use llm_guard_tests::cluster::wait_until;
use llm_guard_tests::plain;
use serde_json::{Value, json};

use crate::field::{Field, INJECTOR, PlayedGuard, SOON, free_address, pod};

fn document(namespace: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": "default", "namespace": namespace}, "spec": spec,
    })
    .to_string()
}

#[test]
fn a_policy_that_no_guard_could_load_is_refused_with_the_place_and_the_reason() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    for (spec, expected) in [
        (json!({"redacton": {}}), "redacton"),
        (json!({"models": {"alow": ["a"]}}), "alow"),
        (json!({"tools": {"allow": ["a"], "block": ["a"]}}), "tools"),
        (json!({"network": {"from": [{"podSelecter": {}}]}}), "network.from[0]"),
        (json!({"redaction": {"kinds": ["passwords"]}}), "redaction.kinds[0]: nobody knows 'passwords': did you mean 'password'?"),
    ] {
        let said = field.api.refused(&document(&namespace, &spec))?;
        assert!(said.contains("policies.llm-guard.io") && said.contains(expected), "{spec}: {said}");
    }
    // What the definition refuses, the API server refuses.
    for (spec, expected) in [(json!({"mode": "strict"}), "monitor"), (json!({"redaction": {"requests": "drop"}}), "refuse")] {
        let said = field.api.refused(&document(&namespace, &spec))?;
        assert!(said.contains(expected), "{spec}: {said}");
    }
    field.api.apply(&document(&namespace, &json!({"mode": "soft", "models": {"allow": ["a"]}})))?;
    wait_until("the policy says that it is accepted", SOON, || {
        let said = field.api.kubectl(&["-n", &namespace, "get", "guardpolicies"]).map_err(|error| error.to_string())?;
        if said.contains("soft") && said.contains("True") { Ok(()) } else { Err(said) }
    })
}

/// What it takes is printed, and no time fails the test: how busy the machine is, the test doesn't know.
///
/// New policies, and then changes of one that a pod goes by. Each time: the review as the injector sees it; the same as the API server
/// does, with the connection and TLS; the whole request; and the same for a kind that no webhook of ours looks at.
#[test]
fn the_admission_of_policies_is_measured() -> io::Result<()> {
    const POLICIES: u16 = 40;
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let policy = |name: &str, number: u16| -> io::Result<()> {
        let rule = json!({"when": {"models": [format!("m{number}:*")], "tools": true}, "tools": {"allow": ["search_docs"]}});
        let spec = json!({"mode": "soft", "models": {"allow": ["a:*", format!("m{number}:*")]}, "rules": [rule]});
        let mut policy: Value = serde_json::from_str(&document(&namespace, &spec))?;
        policy["metadata"]["name"] = name.into();
        field.api.apply(&policy.to_string()).map(drop)
    };
    let other = |name: &str, number: u16| -> io::Result<()> {
        let metadata = json!({"name": name, "namespace": namespace, "labels": {"number": number.to_string()}});
        let plain = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": []}});
        field.api.apply(&plain.to_string()).map(drop)
    };
    // Of a histogram on a page: how many there are, and how long they took together, in milliseconds.
    let of = |page: &str, name: &str, labels: &[&str]| {
        let sum = |part: &str| -> f64 {
            let lines = page.lines().filter_map(|line| line.strip_prefix(&format!("{name}_duration_seconds_{part}{{")));
            let ours = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
            ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        (sum("count"), sum("sum") * 1000.0)
    };
    let pages = || -> io::Result<String> {
        Ok(field.api.kubectl(&["get", "--raw", "/metrics"])? + &plain::get(injector.pages, "/metrics")?.text())
    };
    let measure = |what: &str, operation: &str, verb: &str, act: &dyn Fn(u16) -> io::Result<()>| -> io::Result<()> {
        let before = pages()?;
        for number in 1..=POLICIES {
            act(number)?;
        }
        let after = pages()?;
        let (operation, verb) = (format!("operation=\"{operation}\""), format!("verb=\"{verb}\""));
        let each = |name: &str, labels: &[&str]| {
            let (before, after) = (of(&before, name, labels), of(&after, name, labels));
            assert!(after.0 - before.0 >= f64::from(POLICIES), "{what}: {name} {labels:?}");
            (after.1 - before.1) / (after.0 - before.0)
        };
        let request = |resource: &str| each("apiserver_request", &[&format!("resource=\"{resource}\""), &verb, "subresource=\"\""]);
        println!(
            "{what}: the review {:.2} ms each, as the API server sees it {:.2} ms, the whole request {:.2} ms; without a webhook {:.2} ms",
            each("llm_guard_injector_review", &["webhook=\"policies\""]),
            each("apiserver_admission_webhook_admission", &["name=\"policies.llm-guard.io\"", &operation]),
            request("guardpolicies"),
            request("limitranges"),
        );
        Ok(())
    };
    // The first of a kind waits for what the API server makes ready for it.
    for name in ["p0", "default"] {
        policy(name, 0)?;
        other(name, 0)?;
    }
    measure("new policies", "CREATE", "POST", &|number| {
        let name = format!("p{number}");
        policy(&name, number)?;
        other(&name, number)
    })?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    measure("changes of a policy in use", "UPDATE", "PATCH", &|number| {
        policy("default", number)?;
        other("default", number)
    })
}

#[test]
fn a_policy_that_does_not_load_leaves_the_old_one_in_force_and_says_so() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.api.apply(&document(&namespace, &json!({"mode": "soft", "models": {"allow": ["good"]}})))?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    let is_old = |settings: &Value| settings["policy"]["spec"]["models"]["allow"] == json!(["good"]);
    field.wait_for_settings(&namespace, "the policy is there", is_old)?;

    // While the webhook is away, anything gets in.
    field.api.kubectl(&["delete", "validatingwebhookconfiguration", INJECTOR])?;
    wait_until("a broken policy gets in", SOON, || {
        field.api.apply(&document(&namespace, &json!({"mode": "hard", "modles": {}}))).map_err(|error| error.to_string())
    })?;
    injector.wait_for_metric("settings_unloadable", 1.0, SOON)?;
    assert!(field.wait_for_event(&namespace, "SettingsNotLoaded")?.contains("modles"));
    let shown = field.api.json(&["-n", &namespace, "guardpolicy", "default"])?;
    assert_eq!(shown["status"]["conditions"][0]["status"], "False", "{shown}");
    // The rest still takes hold.
    field.api.kubectl(&["annotate", "namespace", &namespace, "llm-guard.io/stop=true"])?;
    let now = field.wait_for_settings(&namespace, "the stop is there", |settings| settings["stop"] == true)?;
    assert!(is_old(&now) && now["policy"]["spec"]["mode"] == "soft", "{now}");

    field.api.apply(&document(&namespace, &json!({"mode": "hard"})))?;
    field.api.kubectl(&["-n", &namespace, "get", "guardpolicy", "default"])?;
    wait_until("what is right again takes hold", SOON, || {
        let (_, settings) = field.settings(&namespace)?;
        if settings["policy"]["spec"]["mode"] == "hard" { Ok(()) } else { Err(settings.to_string()) }
    })?;
    injector.wait_for_metric("settings_unloadable", 0.0, SOON)
}

#[test]
fn whoever_applies_a_workload_learns_that_its_policy_is_missing() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let pod = pod("ollama", &json!({}));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "ollama", "namespace": namespace, "annotations": {"llm-guard.io/policy": "later"}},
        "spec": {
            "selector": {"matchLabels": {"app": "ollama"}},
            "template": {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]},
        },
    });
    let ended = field.api.try_kubectl(&["create", "-f", "-"], &deployment.to_string())?;
    assert!(ended.status.success(), "{}", ended.said);
    assert!(ended.said.contains("pods are refused") && ended.said.contains("'later'"), "{}", ended.said);
    Ok(())
}

#[test]
fn whoever_names_a_missing_policy_where_settings_are_in_force_learns_that_they_stay() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({}))?;
    field.pod_of_deployment(&namespace, "first")?;
    let ended = field.api.try_kubectl(&["-n", &namespace, "annotate", "deployment/ollama", "llm-guard.io/policy=nowhere"], "")?;
    assert!(ended.status.success(), "{}", ended.said);
    assert!(ended.said.contains("settings stay as they were") && ended.said.contains("'nowhere'"), "{}", ended.said);
    // And so it is: the next pod is made.
    field.pod_of_deployment(&namespace, "second")
}

#[test]
fn a_policy_in_use_is_not_deleted_and_the_refusal_names_its_users() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let api = &field.api;
    let policy = |name: &str| {
        let mut policy: Value = serde_json::from_str(&document(&namespace, &json!({"mode": "soft"})))?;
        policy["metadata"]["name"] = json!(name);
        api.apply(&policy.to_string())
    };
    for name in ["default", "named", "free"] {
        policy(name)?;
    }
    field.deployment(&namespace, &json!({"llm-guard.io/policy": "named"}))?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    let delete = |what: &[&str]| {
        let mut arguments = vec!["-n", &namespace, "delete", "guardpolicy"];
        arguments.extend_from_slice(what);
        api.try_kubectl(&arguments, "")
    };
    // A workload that names it counts, though none of its pods runs yet.
    for (name, users) in [("named", "Deployment/ollama"), ("default", "Pod/bare")] {
        let ended = wait_until("the deletion is refused", SOON, || {
            // By a dry run, for what isn't seen yet would be gone.
            let ended = delete(&[name, "--dry-run=server"]).map_err(|error| error.to_string())?;
            if ended.status.success() { Err(ended.printed) } else { Ok(ended.said) }
        })?;
        assert!(
            ended.contains("deletions.policies.llm-guard.io") && ended.contains(&format!("in use and stays until it isn't: by {users}.")),
            "{ended}"
        );
        assert!(!delete(&[name])?.status.success(), "{name}");
    }
    // Of many, those go that nobody uses.
    let all = delete(&["--all"])?;
    assert!(!all.status.success() && all.said.contains("Deployment/ollama"), "{}", all.said);
    let left = api.kubectl(&["-n", &namespace, "get", "guardpolicies", "-o", "name"])?;
    assert!(left.contains("/default") && left.contains("/named") && !left.contains("/free"), "{left}");

    // What was annotated a moment ago counts, whatever the copies say.
    api.kubectl(&["-n", &namespace, "annotate", "deployment", "ollama", "llm-guard.io/policy-"])?;
    let ended = delete(&["named"])?;
    assert!(ended.status.success(), "{}", ended.said);
    policy("named")?;
    api.kubectl(&["annotate", "namespace", &namespace, "llm-guard.io/policy=named"])?;
    let ended = delete(&["named"])?;
    assert!(ended.said.contains(&format!("Namespace/{namespace}")), "{}", ended.said);
    // Nothing is held up in a namespace that ends. Nobody is here who would empty it.
    api.kubectl(&["delete", "namespace", &namespace, "--wait=false"])?;
    for name in ["named", "default"] {
        let ended = delete(&[name])?;
        assert!(ended.status.success(), "{name}: {}", ended.said);
    }
    Ok(())
}

#[test]
fn a_policys_status_says_on_how_many_pods_it_is_in_force_and_two_injectors_agree_on_it() -> io::Result<()> {
    let (field, _first) = Field::with_injector(&[])?;
    let second = field.injector(free_address()?, &[])?;
    second.wait_until_ready()?;
    let namespace = field.namespace("a", &[])?;
    let spec = |mode: &str| document(&namespace, &json!({"mode": mode, "tools": {"mode": mode}}));
    field.api.apply(&spec("monitor"))?;
    field.deployment(&namespace, &json!({}))?;
    let guards = [PlayedGuard::start()?, PlayedGuard::start()?];
    for (name, guard) in ["ollama-1-a", "ollama-1-b"].into_iter().zip(&guards) {
        field.pod_of_deployment(&namespace, name)?;
        field.run_at(&namespace, name, guard.address)?;
    }
    let policy = || field.api.json(&["-n", &namespace, "guardpolicy", "default"]);
    let reaches = |summary: &str, condition: &str| {
        wait_until(&format!("the status says {summary}"), SOON, || {
            let policy = policy().map_err(|error| error.to_string())?;
            let status = &policy["status"];
            let holds = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "InForce");
            let holds =
                holds.is_some_and(|one| one["status"] == condition && one["observedGeneration"] == policy["metadata"]["generation"]);
            if status["pods"]["summary"] == summary && holds { Ok(policy.clone()) } else { Err(status.to_string()) }
        })
    };
    let waiting = reaches("0/2", "False")?;
    // Once pods are older than a change, it is known how long that takes.
    std::thread::sleep(Duration::from_secs(4));
    field.api.apply(&spec("soft"))?;
    let changed = wait_until("the change is seen", SOON, || {
        let policy = policy().map_err(|error| error.to_string())?;
        let digest = policy["status"]["workloads"][0]["digest"].as_str().unwrap_or_default().to_owned();
        let is_new = waiting["status"]["workloads"][0]["digest"] != digest && waiting["status"]["digest"] != policy["status"]["digest"];
        if is_new { Ok(digest) } else { Err(policy["status"].to_string()) }
    })?;
    guards[0].load(&changed);
    reaches("1/2", "False")?;
    guards[1].load(&changed);
    reaches("2/2", "True")?;
    let shown = field.api.kubectl(&["-n", &namespace, "get", "guardpolicies", "-o", "wide"])?;
    let columns: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(columns[0], ["NAME", "MODE", "CONTROLS", "PODS", "ACCEPTED", "CHANGED", "LAG", "AGE"]);
    assert_eq!(columns[1][..5], ["default", "soft", "tools", "2/2", "True"], "{shown}");
    let lag = columns[1][6].strip_suffix('s').and_then(|lag| lag.parse::<f64>().ok());
    assert!(lag.is_some_and(|lag| (0.0..30.0).contains(&lag)), "{shown}");

    // Nothing is left to write, whoever looks; what somebody else writes there is put right.
    std::thread::sleep(Duration::from_secs(2));
    let before = policy()?["metadata"]["resourceVersion"].clone();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(policy()?["metadata"]["resourceVersion"], before);
    let other = json!({"status": {"pods": {"summary": "9/9", "inForce": 9}}}).to_string();
    field.api.kubectl(&["-n", &namespace, "patch", "guardpolicy", "default", "--subresource=status", "--type=merge", "-p", &other])?;
    reaches("2/2", "True")?;
    Ok(())
}

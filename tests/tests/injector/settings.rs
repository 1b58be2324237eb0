//! The settings: there before the pod, right whatever others write, and brought to the guards.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use llm_guard_tests::cluster::wait_until;
use llm_guard_tests::plain;
use serde_json::{Value, json};

use crate::field::{Field, Injector, PlayedGuard, SOON, free_address, pod};

/// Everything that the injector could have written in a namespace.
fn written(field: &Field, namespace: &str) -> io::Result<usize> {
    let found = field.api.json(&["-n", namespace, "configmaps,networkpolicies"])?;
    Ok(found["items"].as_array().map_or(0, Vec::len))
}

#[test]
fn a_dry_run_writes_nothing_and_answers_as_the_real_one_does() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let document = pod("bare", &json!({})).to_string();
    let args = ["-n", &namespace, "create", "--dry-run=server", "-o", "json", "-f", "-"];
    let dry: Value = serde_json::from_str(&field.api.kubectl_with(&args, &document)?)?;
    assert_eq!(written(&field, &namespace)?, 0);
    field.api.kubectl_with(&["-n", &namespace, "create", "-f", "-"], &document)?;
    let real = field.api.json(&["-n", &namespace, "pod", "bare"])?;
    assert_eq!(written(&field, &namespace)?, 3, "settings, and two network policies");
    let volumes = |pod: &Value| {
        let all = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|volume| volume["name"].as_str().is_some_and(|name| name.starts_with("llm-guard"))).collect::<Vec<_>>()
    };
    assert_eq!(volumes(&dry), volumes(&real));
    let flags = |pod: &Value| {
        let text = pod["spec"]["initContainers"].to_string();
        let words = text.split(['"', ',']).filter(|word| word.starts_with("--") || word.contains("/Namespace/"));
        words.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(flags(&dry), flags(&real));
    assert!(!flags(&real).is_empty());
    Ok(())
}

#[test]
fn a_refused_pod_leaves_no_trace() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let mut privileged = pod("bare", &json!({}));
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    privileged["metadata"]["namespace"] = json!(namespace);
    let said = field.api.refused(&privileged.to_string())?;
    assert!(said.contains("privileged"), "{said}");
    let mut nameless = pod("bare", &json!({"llm-guard.io/policy": "nobody"}));
    nameless["metadata"]["namespace"] = json!(namespace);
    let said = field.api.refused(&nameless.to_string())?;
    assert!(said.contains("there is no GuardPolicy 'nobody'") && said.contains("llm-guard.io/policy"), "{said}");
    assert_eq!(written(&field, &namespace)?, 0);
    let refused = injector.metric("reviews_total{webhook=\"pods\",result=\"refused\"}")?;
    assert!((refused - 2.0).abs() < 0.5, "{refused}");
    Ok(())
}

#[test]
fn settings_that_are_edited_replaced_or_deleted_are_put_right() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({"llm-guard.io/mode": "soft"}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let first = field.wait_for_settings(&namespace, "the workload's mode counts", |settings| settings["mode"] == "soft")?;
    let (name, _) = field.settings(&namespace).map_err(io::Error::other)?;
    field.api.kubectl(&["-n", &namespace, "annotate", "deployment", "ollama", "--overwrite", "llm-guard.io/mode=hard"])?;
    let second = field.wait_for_settings(&namespace, "the change is there", |settings| settings["mode"] == "hard")?;
    assert!(second["serial"].as_u64() > first["serial"].as_u64());

    let text = |settings: &Value| settings["text"].as_str().unwrap_or_default().to_owned();
    let is_right = |settings: &Value| settings["mode"] == "hard" && settings["serial"].as_u64() > second["serial"].as_u64();
    let mut last = second.clone();
    for (what, change) in [
        ("edited", Some(json!({"data": {"settings": text(&second).replace("hard", "monitor")}}))),
        ("replaced by an older one", Some(json!({"data": {"settings": text(&first)}}))),
        ("unsigned", Some(json!({"data": {"settings": text(&second).split_once('\n').map(|(_, json)| json)}}))),
        ("deleted", None),
    ] {
        match change {
            Some(change) => {
                field.api.kubectl(&["-n", &namespace, "patch", "configmap", &name, "--type=merge", "-p", &change.to_string()])?;
            }
            None => drop(field.api.kubectl(&["-n", &namespace, "delete", "configmap", &name])?),
        }
        let began = Instant::now();
        last = wait_until(&format!("put right after it was {what}"), SOON, || {
            let (_, settings) = field.settings(&namespace)?;
            let newer = settings["serial"].as_u64() > last["serial"].as_u64();
            if is_right(&settings) && newer { Ok(settings) } else { Err(settings.to_string()) }
        })?;
        assert!(began.elapsed() < Duration::from_secs(3), "{what}: {:?}", began.elapsed());
    }
    // Labels that hide it, keys of others, and a map that nobody may change.
    for change in [
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
        json!({"data": {"other": "x"}}),
        json!({"immutable": true}),
        json!({"immutable": true, "metadata": {"finalizers": ["example.com/held"]}}),
    ] {
        field.api.kubectl(&["-n", &namespace, "patch", "configmap", &name, "--type=merge", "-p", &change.to_string()])?;
        wait_until(&format!("put right after {change}"), SOON, || {
            let map = field.api.json(&["-n", &namespace, "configmap", &name]).map_err(|error| error.to_string())?;
            let labelled = map["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "llm-guard";
            let alone = map["data"].as_object().is_some_and(|data| data.len() == 1);
            if labelled && alone && map["immutable"].is_null() { Ok(()) } else { Err(map.to_string()) }
        })?;
    }
    assert!(injector.metric("settings_writes_total{result=\"put_right\"}")? > 3.5);
    assert!(field.wait_for_event(&namespace, "SettingsPutRight")?.contains("Deployment/ollama"));
    Ok(())
}

#[test]
fn who_writes_settings_again_and_again_is_told_of_and_counted() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({"llm-guard.io/mode": "soft"}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let right = field.wait_for_settings(&namespace, "the workload's mode counts", |settings| settings["mode"] == "soft")?;
    let (name, _) = field.settings(&namespace).map_err(io::Error::other)?;
    let contended = "settings_writes_total{result=\"contended\"}";
    assert!(injector.metric(contended)? < 0.5);
    wait_until("it is counted", Duration::from_mins(1), || {
        let change = json!({"data": {"settings": "edited"}}).to_string();
        let patch = ["-n", &namespace, "patch", "configmap", &name, "--type=merge", "-p", &change];
        field.api.kubectl(&patch).map_err(|error| error.to_string())?;
        let counted = injector.metric(contended).map_err(|error| error.to_string())?;
        if counted > 0.5 { Ok(()) } else { Err(counted.to_string()) }
    })?;
    assert!(field.wait_for_event(&namespace, "WrittenByOthers")?.contains("Deployment/ollama"));
    // Once nobody does any more, it is put right.
    let newer = |settings: &Value| settings["mode"] == "soft" && settings["serial"].as_u64() > right["serial"].as_u64();
    wait_until("it is put right", Duration::from_secs(30), || {
        let (_, settings) = field.settings(&namespace)?;
        if newer(&settings) { Ok(()) } else { Err(settings.to_string()) }
    })
}

#[test]
fn a_change_is_brought_to_the_guard_until_it_reports_it() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let told = || -> io::Result<String> {
        let pod = field.api.json(&["-n", &namespace, "pod", "ollama-1-a"])?;
        Ok(pod["metadata"]["annotations"]["llm-guard.io/settings"].as_str().unwrap_or_default().to_owned())
    };
    let guard = PlayedGuard::start()?;
    guard.load(&told()?);
    field.run_at(&namespace, "ollama-1-a", guard.address)?;
    injector.wait_for_metric("settings_pending", 0.0, SOON)?;

    let before = told()?;
    field.api.kubectl(&["-n", &namespace, "annotate", "deployment", "ollama", "llm-guard.io/stop=true"])?;
    let digest = wait_until("the pod is touched", SOON, || match told() {
        Ok(now) if now != before => Ok(now),
        other => Err(format!("{other:?}")),
    })?;
    injector.wait_for_metric("settings_pending", 1.0, SOON)?;
    // The kubelet doesn't take it at once.
    let again = wait_until("the pod is touched again", SOON, || match told() {
        Ok(now) if now == format!("{digest} retry=1") => Ok(now),
        other => Err(format!("{other:?}")),
    })?;
    assert!(again.starts_with(&digest));
    guard.load(&digest);
    injector.wait_for_metric("settings_pending", 0.0, SOON)?;
    Ok(())
}

#[test]
fn the_namespace_counts_where_the_workload_says_nothing_and_its_stop_and_floor_always() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let annotate = |of: &[&str], what: &str| field.api.kubectl(&[&["annotate", "--overwrite"], of, &[what]].concat()).map(drop);
    let of_namespace = ["namespace", namespace.as_str()];
    let of_workload = ["-n", namespace.as_str(), "deployment", "ollama"];
    annotate(&of_namespace, "llm-guard.io/mode=soft")?;
    field.wait_for_settings(&namespace, "the namespace's mode", |settings| settings["mode"] == "soft")?;
    annotate(&of_workload, "llm-guard.io/mode=hard")?;
    field.wait_for_settings(&namespace, "the workload's mode", |settings| settings["mode"] == "hard")?;
    annotate(&of_namespace, "llm-guard.io/minimum-mode=soft")?;
    annotate(&of_namespace, "llm-guard.io/stop=true")?;
    field.wait_for_settings(&namespace, "floor and stop", |settings| settings["floor"] == "soft" && settings["stop"] == true)?;
    // Nobody understands this one, which the webhook refuses while there is one: what was there stays.
    field.api.kubectl(&["delete", "validatingwebhookconfiguration", "llm-guard-injector"])?;
    wait_until("nobody looks at namespaces", SOON, || {
        annotate(&of_namespace, "llm-guard.io/minimum-mode=strict").map_err(|error| error.to_string())
    })?;
    assert!(field.wait_for_event(&namespace, "SettingsNotLoaded")?.contains("strict"));
    annotate(&of_namespace, "llm-guard.io/stop-")?;
    let after = field.wait_for_settings(&namespace, "the stop is lifted", |settings| settings["stop"].is_null())?;
    assert_eq!(after["floor"], "soft");
    Ok(())
}

#[test]
fn a_shadow_comes_changes_and_goes_with_its_policy_and_stays_while_somebody_has_it() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let policy = |name: &str, spec: &Value| {
        let metadata = json!({"name": name, "namespace": namespace});
        let policy = json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": metadata, "spec": spec});
        field.api.apply(&policy.to_string()).map(drop)
    };
    let annotate = |of: &[&str], what: &str| field.api.kubectl(&[&["annotate", "--overwrite"], of, &[what]].concat()).map(drop);
    let (of_namespace, of_workload) = (["namespace", namespace.as_str()], ["-n", namespace.as_str(), "deployment", "ollama"]);
    let named = |settings: &Value| settings["shadow"]["metadata"]["name"].as_str().map(str::to_owned);
    policy("default", &json!({"mode": "soft"}))?;
    policy("next", &json!({"mode": "hard"}))?;
    policy("other", &json!({"mode": "soft"}))?;
    // Whoever applies the workload learns that its shadow isn't there; its pods are made all the same.
    annotate(&of_namespace, "llm-guard.io/shadow=next")?;
    field.deployment(&namespace, &json!({"llm-guard.io/shadow": "nowhere"}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let (_, first) = field.settings(&namespace).map_err(io::Error::other)?;
    assert!(named(&first).is_none() && first["policy"]["spec"]["mode"] == "soft", "{first}");
    injector.wait_for_metric("settings_unloadable", 1.0, SOON)?;
    assert!(field.wait_for_event(&namespace, "SettingsNotLoaded")?.contains("llm-guard.io/shadow"));
    let said = field.api.try_kubectl(&[&["annotate", "--overwrite"][..], &of_workload, &["llm-guard.io/shadow=nobody"]].concat(), "")?.said;
    assert!(said.contains("stay as they were: 'nobody'"), "{said}");

    annotate(&of_workload, "llm-guard.io/shadow-")?;
    let of_next = |mode: &'static str| {
        move |settings: &Value| named(settings).as_deref() == Some("next") && settings["shadow"]["spec"]["mode"] == mode
    };
    let second = field.wait_for_settings(&namespace, "the namespace's shadow", of_next("hard"))?;
    injector.wait_for_metric("settings_unloadable", 0.0, SOON)?;
    policy("next", &json!({"mode": "soft", "models": {"allow": ["a"]}}))?;
    let third = field.wait_for_settings(&namespace, "the changed shadow", of_next("soft"))?;
    assert!(third["serial"].as_u64() > second["serial"].as_u64() && third["policy"] == first["policy"], "{third}");
    annotate(&of_workload, "llm-guard.io/shadow=other")?;
    field.wait_for_settings(&namespace, "the workload's shadow", |settings| named(settings).as_deref() == Some("other"))?;

    // In use, it stays.
    for (name, user) in
        [("next", format!("Namespace/{namespace} (as its shadow)")), ("other", "Deployment/ollama (as its shadow)".to_owned())]
    {
        let delete = ["-n", &namespace, "delete", "guardpolicy", name, "--dry-run=server"];
        wait_until("the deletion is refused", SOON, || {
            let ended = field.api.try_kubectl(&delete, "").map_err(|error| error.to_string())?;
            if !ended.status.success() && ended.said.contains(&user) { Ok(()) } else { Err(ended.printed + &ended.said) }
        })?;
    }
    annotate(&of_workload, "llm-guard.io/shadow-")?;
    annotate(&of_namespace, "llm-guard.io/shadow-")?;
    let last = field.wait_for_settings(&namespace, "no shadow", |settings| named(settings).is_none())?;
    assert_eq!(last["policy"], first["policy"]);
    field.api.kubectl(&["-n", &namespace, "delete", "guardpolicy", "next", "other"]).map(drop)
}

#[test]
fn settings_that_no_pod_mounts_are_deleted_after_a_while() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&["--retention", "3"])?;
    let namespace = field.namespace("a", &[])?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    assert_eq!(written(&field, &namespace)?, 3);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(written(&field, &namespace)?, 3, "the pod needs them");
    field.api.kubectl(&["-n", &namespace, "delete", "pod", "bare", "--grace-period=0", "--force"])?;
    assert_eq!(written(&field, &namespace)?, 3, "they stay for a while");
    wait_until("they are deleted", Duration::from_secs(15), || match written(&field, &namespace) {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn pods_that_were_made_without_the_injector_are_closed_counted_and_told_of() -> io::Result<()> {
    let field = Field::bare()?;
    let labelled = field.namespace("a", &[("llm-guard", "enabled")])?;
    let other = field.namespace("b", &[])?;
    field.create(
        &labelled,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "w", "image": "w"}]}}),
    )?;
    field.create(&other, &pod("stray", &json!({})))?;
    field.install_webhooks()?;
    let injector = field.injector(field.webhooks(), &[])?;
    injector.wait_until_ready()?;
    injector.wait_for_metric("unguarded_pods", 2.0, SOON)?;
    let list = plain::get(injector.pages, "/unguarded")?.json()?;
    let names: BTreeSet<&str> = list.as_array().into_iter().flatten().filter_map(|pod| pod["pod"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["stray", "web"]), "{list}");
    for namespace in [&labelled, &other] {
        let policy = wait_until("the namespace's policy is there", SOON, || {
            field.api.json(&["-n", namespace, "networkpolicy", "llm-guard-unguarded"]).map_err(|error| error.to_string())
        })?;
        assert!(policy["spec"]["ingress"].is_null() && policy["spec"]["podSelector"]["matchLabels"]["llm-guard"] == "enabled", "{policy}");
    }
    assert!(field.wait_for_event(&other, "Unguarded")?.contains("without one"));
    Ok(())
}

#[test]
fn two_injectors_come_to_the_same_and_then_write_no_more() -> io::Result<()> {
    let (field, first) = Field::with_injector(&[])?;
    let second = field.injector(free_address()?, &[])?;
    second.wait_until_ready()?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let (name, _) = field.settings(&namespace).map_err(io::Error::other)?;
    for mode in ["soft", "hard", "monitor", "hard"] {
        field.api.kubectl(&["-n", &namespace, "annotate", "deployment", "ollama", "--overwrite", &format!("llm-guard.io/mode={mode}")])?;
        field.wait_for_settings(&namespace, "the mode is there", |settings| settings["mode"] == mode)?;
        field.api.kubectl(&["-n", &namespace, "patch", "configmap", &name, "--type=merge", "-p", r#"{"data":{"settings":"x"}}"#])?;
        field.wait_for_settings(&namespace, "it is put right", |settings| settings["mode"] == mode)?;
    }
    let versions = || -> io::Result<Vec<Value>> {
        let all = field.api.json(&["-n", &namespace, "configmaps,networkpolicies"])?;
        let items = all["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().map(|item| item["metadata"]["resourceVersion"].clone()).collect())
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = versions()?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(versions()?, before, "nothing is left to write");
    // Each change is written once, whoever does it: the namespace's settings were made once, and changed eight times.
    let written = |injector: &Injector| -> io::Result<f64> {
        let of = |result: &str| injector.metric(&format!("settings_writes_total{{result=\"{result}\"}}"));
        Ok(of("created")? + of("updated")? + of("put_right")?)
    };
    let all = written(&first)? + written(&second)?;
    assert!((8.5..12.5).contains(&all), "{all} writes");
    Ok(())
}

#[test]
fn an_injector_that_is_told_to_end_says_so_and_answers_meanwhile() -> io::Result<()> {
    let (field, mut injector) = Field::with_injector(&["--farewell", "3"])?;
    let namespace = field.namespace("a", &[])?;
    injector.terminate()?;
    wait_until("it isn't ready any more", Duration::from_secs(2), || match plain::get(injector.pages, "/readyz") {
        Ok(reply) if reply.status == 503 && reply.text().contains("[-] not ending") => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    let status = injector.wait_to_end(Duration::from_secs(10))?;
    assert!(status.success(), "{status}");
    Ok(())
}

//! Whole pods through real API servers of two versions, with the real injector beside them.
//!
//! The invariant: what stands in `admission/stored` is what both API servers store, or say, but for what no two runs have in common
//! (ids, times, the drawn group, keys and serials). `LLM_GUARD_WRITE_EXPECTED=1` has the current version write it anew.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llm_guard_tests::cluster::{Admission, Namespace, Version, wait_until};
use llm_guard_tests::injector::Injector;
use serde_json::{Value, json};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A file of `admission/pods`, taken apart.
struct Case {
    name: String,
    object: Value,
    namespace: Value,
    services: Vec<Value>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("admission").join(name)
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder("pods"))? {
        let path = entry?.path();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(&path)?)?;
        let mut case = Case {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            object: Value::Null,
            namespace: json!({"metadata": {"labels": {"llm-guard": "enabled"}}}),
            services: Vec::new(),
        };
        for document in documents {
            match document["kind"].as_str() {
                Some("Namespace") => case.namespace = document,
                Some("Service") => case.services.push(document),
                _ => case.object = document,
            }
        }
        cases.push(case);
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

fn pairs(map: &Value) -> Vec<(&str, &str)> {
    map.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

/// What the API server makes of a case: the object that it stores, or its words.
fn outcome(api: &Admission, case: &Case) -> Result<Value> {
    let metadata = &case.namespace["metadata"];
    let labels = pairs(&metadata["labels"]);
    // A namespace with a wrong label is older than the injector, which would have refused it. By way of the status nobody is asked.
    let wrong = labels.iter().any(|(key, value)| *key == "llm-guard" && *value != "enabled");
    let right = labels.iter().map(|(key, value)| (*key, if *key == "llm-guard" { "enabled" } else { value })).collect::<Vec<_>>();
    let namespace = api.namespace("admission", &right, &pairs(&metadata["annotations"]))?;
    if wrong {
        let patch = json!({"metadata": {"labels": metadata["labels"]}}).to_string();
        api.kubectl(&["patch", "namespace", namespace.name(), "--subresource=status", "--type=merge", "-p", &patch])?;
    }
    for service in &case.services {
        namespace.apply(&service.to_string())?;
    }
    Ok(create(api, &namespace, &case.object)?.0)
}

/// Creates an object: what became of it, made comparable, and as it was stored.
fn create(api: &Admission, namespace: &Namespace<'_>, object: &Value) -> Result<(Value, Value)> {
    // The API server drops what it doesn't know; kubectl would refuse it.
    let arguments = ["-n", namespace.name(), "create", "--validate=ignore", "-o", "json", "-f", "-"];
    let ended = api.try_kubectl(&arguments, &object.to_string())?;
    let said = ended.said.replace(namespace.name(), "NAMESPACE");
    let warnings: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Warning: ")).collect();
    let mut outcome = json!({"warnings": warnings});
    let mut stored = Value::Null;
    if ended.status.success() {
        stored = serde_json::from_str(&ended.printed)?;
        outcome["stored"] = comparable(stored.clone());
    } else {
        let words: Vec<&str> = said.lines().filter(|line| !line.starts_with("Warning: ")).collect();
        outcome["refused"] = words.join("\n").into();
    }
    Ok((outcome, stored))
}

/// Takes away what no two runs have in common.
fn comparable(mut object: Value) -> Value {
    object["status"].take();
    let metadata = &mut object["metadata"];
    for key in ["uid", "creationTimestamp", "managedFields", "resourceVersion", "generation", "namespace"] {
        metadata[key].take();
    }
    if metadata["generateName"].is_string() {
        metadata["name"].take();
    }
    for (map, key) in [("labels", "llm-guard.io/workload"), ("annotations", "llm-guard.io/settings")] {
        if let Some(value) = metadata.get_mut(map).and_then(|map| map.get_mut(key)) {
            *value = "…".into();
        }
    }
    let spec = &mut object["spec"];
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let ours = container["name"].as_str().is_some_and(|name| name.starts_with("llm-guard"));
            if ours {
                for flag in ["--gid", "--settings-for", "--settings-key", "--settings-serial"] {
                    blank_after(&mut container["args"], flag);
                }
            }
            if container["name"] == "llm-guard" {
                container["securityContext"]["runAsGroup"] = "…".into();
            }
            for mount in container.get_mut("volumeMounts").and_then(Value::as_array_mut).into_iter().flatten() {
                token(&mut mount["name"]);
            }
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        token(&mut volume["name"]);
        if volume["name"] == "llm-guard-settings" {
            volume["projected"]["sources"][0]["configMap"]["name"] = "…".into();
        }
    }
    without_nulls(&mut object);
    object
}

/// The values of a flag.
fn blank_after(arguments: &mut Value, flag: &str) {
    let Some(arguments) = arguments.as_array_mut() else { return };
    for index in 1..arguments.len() {
        if arguments[index - 1] == flag {
            arguments[index] = "…".into();
        }
    }
}

/// The volume of a service account's token has a name of its own in every pod.
fn token(name: &mut Value) {
    if name.as_str().is_some_and(|name| name.starts_with("kube-api-access-")) {
        *name = "kube-api-access-…".into();
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Where two documents differ.
fn differences(expected: &Value, found: &Value, at: &str, lines: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                differences(&expected[key], &found[key], &format!("{at}/{key}"), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{at}/{index}"), lines);
            }
        }
        _ if expected == found => {}
        _ => lines.push(format!("  {at}: expected {expected}, and got {found}")),
    }
}

/// Every case, one after the other.
fn every_file_is_stored_as_expected(version: Version) -> Result {
    let api = Admission::start(version)?;
    let _injector = Injector::start(&format!("admission-{version:?}").to_lowercase(), &api)?;
    let write = version == Version::Current && std::env::var_os("LLM_GUARD_WRITE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    let cases = cases()?;
    assert!(cases.len() >= 28, "only {} files", cases.len());
    for case in &cases {
        let outcome = outcome(&api, case)?;
        let path = folder("stored").join(format!("{}.yaml", case.name));
        if write {
            fs::create_dir_all(folder("stored"))?;
            fs::write(&path, serde_saphyr::to_string(&outcome)?)?;
        }
        let expected: Value = serde_saphyr::from_str(&fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?)?;
        if outcome != expected {
            wrong.push(format!("{}:", case.name));
            differences(&expected, &outcome, "", &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(fs::read_dir(folder("stored"))?.count(), cases.len(), "there are expectations of files that are gone");
    Ok(())
}

#[test]
fn every_file_is_stored_as_expected_by_the_nodes_version() -> Result {
    every_file_is_stored_as_expected(Version::Current)
}

#[test]
fn every_file_is_stored_as_expected_by_the_newest_version() -> Result {
    every_file_is_stored_as_expected(Version::Next)
}

/// A pod that gets a guard.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "ollama", "image": "ollama/ollama:0.17.4", "ports": [{"containerPort": 11434}]}]},
    })
}

#[test]
fn a_guarded_pod_keeps_its_guard_whatever_is_done_to_it() -> Result {
    let api = Admission::start(Version::Current)?;
    let _injector = Injector::start("admission-changes", &api)?;
    let namespace = api.namespace("changes", &[("llm-guard", "enabled")], &[])?;

    // A dry run leaves no trace.
    namespace.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}}).to_string())?;
    api.kubectl_with(&["-n", namespace.name(), "create", "--dry-run=server", "-f", "-"], &pod("dry").to_string())?;
    let maps = namespace.json(&["configmaps"])?;
    let names: Vec<&str> = maps["items"].as_array().into_iter().flatten().filter_map(|map| map["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["own"]);
    let policies = namespace.json(&["networkpolicies"])?;
    let of_pods = |policy: &&Value| policy["metadata"]["name"] != "llm-guard-unguarded";
    assert_eq!(policies["items"].as_array().into_iter().flatten().filter(of_pods).count(), 0, "{policies}");

    // The settings are there with the pod, and the mount names them.
    let (first, stored) = create(&api, &namespace, &pod("first"))?;
    assert!(first["refused"].is_null(), "{first}");
    let volumes = stored["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let settings = volumes.iter().find(|volume| volume["name"] == "llm-guard-settings").ok_or("no volume of settings")?;
    let map = settings["projected"]["sources"][0]["configMap"]["name"].as_str().unwrap_or_default().to_owned();
    assert!(namespace.json(&["configmap", &map])?["data"]["settings"].is_string());

    // No container of ours has the token that the pod's own have.
    let mounts = |container: &Value| container["volumeMounts"].to_string();
    assert!(mounts(&stored["spec"]["containers"][0]).contains("kube-api-access-"));
    for container in stored["spec"]["initContainers"].as_array().into_iter().flatten() {
        assert!(!mounts(container).contains("kube-api-access-"), "{container}");
    }

    // A pod made of what was stored is the same pod again.
    let mut again = stored.clone();
    again["metadata"]["name"] = "again".into();
    for key in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
        again["metadata"][key].take();
    }
    again["status"].take();
    let (second, _) = create(&api, &namespace, &again)?;
    let (mut expected, mut found) = (first["stored"].clone(), second["stored"].clone());
    for object in [&mut expected, &mut found] {
        object["metadata"]["name"].take();
    }
    assert_eq!(found, expected, "{second}");

    // Of its keys only the mode may change.
    let change = |what: &str, pair: &str| api.try_kubectl(&["-n", namespace.name(), what, "--overwrite", "pod/first", pair], "");
    for (what, pair, allowed) in [
        ("annotate", "llm-guard.io/mode=hard", true),
        ("annotate", "other=x", true),
        ("label", "other=x", true),
        ("annotate", "llm-guard.io/mode=hardest", false),
        ("annotate", "llm-guard.io/policy=x", false),
        ("annotate", "llm-guard.io/port=8000", false),
        ("annotate", "llm-guard.io/settings=x", false),
        ("label", "llm-guard.io/guarded-", false),
        ("label", "llm-guard.io/workload=x", false),
        ("label", "llm-guard=disabled", false),
    ] {
        let ended = change(what, pair)?;
        assert_eq!(ended.status.success(), allowed, "{what} {pair}: {}", ended.said);
    }
    for (container, allowed) in [("ollama", true), ("llm-guard", false), ("llm-guard-verify", false)] {
        let pair = format!("{container}=registry.example/other");
        let ended = api.try_kubectl(&["-n", namespace.name(), "set", "image", "pod/first", &pair], "")?;
        assert_eq!(ended.status.success(), allowed, "{pair}: {}", ended.said);
    }
    Ok(())
}

#[test]
fn a_workload_that_was_wrong_before_can_be_scaled_and_deleted() -> Result {
    let api = Admission::start(Version::Current)?;
    let _injector = Injector::start("admission-workloads", &api)?;
    let namespace = api.namespace("workloads", &[], &[])?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "ollama"},
        "spec": {"selector": {"matchLabels": {"app": "ollama"}}, "template": {
            "metadata": {"labels": {"app": "ollama"}},
            "spec": {"hostNetwork": true, "containers": [{"name": "ollama", "image": "ollama/ollama", "ports": [{"containerPort": 11434}]}]},
        }},
    });
    namespace.apply(&deployment.to_string())?;
    api.kubectl(&["label", "namespace", namespace.name(), "llm-guard=enabled"])?;
    namespace.kubectl(&["scale", "deployment/ollama", "--replicas=3"])?;
    namespace.kubectl(&["annotate", "deployment/ollama", "other=x"])?;
    let image = api.try_kubectl(&["-n", namespace.name(), "set", "image", "deployment/ollama", "ollama=ollama/ollama:1"], "")?;
    assert!(!image.status.success() && image.said.contains("spec.template.spec.hostNetwork"), "{}", image.said);
    let mode = api.try_kubectl(&["-n", namespace.name(), "annotate", "deployment/ollama", "llm-guard.io/mode=hard"], "")?;
    assert!(!mode.status.success(), "{}", mode.said);
    namespace.kubectl(&["delete", "deployment/ollama"])?;
    Ok(())
}

#[test]
fn what_others_add_after_the_injector_is_guarded_as_well() -> Result {
    let api = Admission::start(Version::Next)?;
    let _injector = Injector::start("admission-reinvoked", &api)?;
    let namespace = api.namespace("reinvoked", &[("llm-guard", "enabled")], &[])?;
    // Another's change that comes after ours: only a pod with our mark gets the container.
    let late = "!has(object.metadata.labels) || !('llm-guard.io/guarded' in object.metadata.labels) \
        || object.spec.containers.exists(one, one.name == 'late') ? [] : [JSONPatch{op: 'add', path: '/spec/containers/-', \
        value: Object.spec.containers{name: 'late', image: 'registry.example/late'}}]";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": "late"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": late}}],
            "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "late"},
        "spec": {"policyName": "late"},
    });
    api.apply(&policy.to_string())?;
    api.apply(&binding.to_string())?;
    // What the cluster adds to every container that names none.
    namespace.apply(
        &json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits"},
            "spec": {"limits": [{"type": "Container", "default": {"cpu": "2"}}]},
        })
        .to_string(),
    )?;

    let has = |object: &Value| object["spec"]["containers"].as_array().into_iter().flatten().any(|one| one["name"] == "late");
    let mut stored = Value::Null;
    let mut number = 0;
    // A policy is in force a moment after it was stored.
    wait_until("the other's change", Duration::from_secs(30), || {
        number += 1;
        let (outcome, object) = create(&api, &namespace, &pod(&format!("pod-{number}"))).map_err(|error| error.to_string())?;
        stored = object;
        if has(&stored) { Ok(()) } else { Err(outcome.to_string()) }
    })?;
    let containers = |list: &str| stored["spec"][list].as_array().cloned().unwrap_or_default();
    let late = containers("containers").into_iter().find(|one| one["name"] == "late").unwrap_or_default();
    assert_eq!(late["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(late["securityContext"]["capabilities"]["drop"], json!(["SETUID", "SETGID", "NET_ADMIN", "NET_RAW"]));
    let init = containers("initContainers");
    let names: Vec<&str> = init.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["llm-guard-init", "llm-guard-verify", "llm-guard"]);
    assert_eq!(init.iter().map(|one| &one["resources"]["limits"]["cpu"]).collect::<Vec<_>>(), ["2", "2", "2"]);
    // All three speak of the same group.
    let group = init[2]["securityContext"]["runAsGroup"].to_string();
    for one in &init[..2] {
        assert!(one["args"].to_string().contains(&format!("\"--gid\",\"{group}\"")), "{one}");
    }
    Ok(())
}

//! Who may change what: an editor without the verbs is refused what takes away from what guards, and nothing else; and it is recorded.

use std::io;

use llm_guard_tests::cluster::wait_until;
use serde_json::{Value, json};

use crate::field::{Field, INJECTOR, Injector, SOON, pod};

/// Somebody who may edit everything that there is in a cluster, and has none of the verbs.
const JANE: &str = "--as=jane";

/// An injector, and Jane.
fn field() -> io::Result<(Field, Injector)> {
    let (field, injector) = Field::with_injector(&[])?;
    // A namespace's editor as RBAC has it. The roles that Kubernetes ships are put together by a controller, and there is none.
    let allow = |groups: &[&str], resources: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "editor"},
        "rules": [
            allow(&["", "apps", "batch"], &["namespaces", "pods", "deployments", "deployments/status", "deployments/scale", "replicasets", "cronjobs"]),
            allow(&["llm-guard.io"], &["guardpolicies"]),
        ],
    });
    field.api.apply(&role.to_string())?;
    field.api.kubectl(&["create", "clusterrolebinding", "editor", "--clusterrole=editor", "--user=jane"])?;
    let jane_may = || field.api.try_kubectl(&["auth", "can-i", "create", "pods", JANE, "-n", "default"], "");
    wait_until("jane may edit", SOON, || match jane_may() {
        Ok(ended) if ended.printed.trim() == "yes" => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok((field, injector))
}

/// What comes of an attempt of Jane's: nothing if it goes through, else the words of the refusal.
fn jane(field: &Field, arguments: &[&str], input: &Value) -> io::Result<Option<String>> {
    let arguments = [arguments, &[JANE]].concat();
    let ended = field.api.try_kubectl(&arguments, &input.to_string())?;
    Ok((!ended.status.success()).then_some(ended.said))
}

#[track_caller]
fn refused(outcome: Option<String>, verb: &str, what: &str) {
    let said = outcome.unwrap_or_else(|| panic!("{what} went through"));
    let wanted = format!("takes the verb {verb} on guardpolicies.llm-guard.io");
    assert!(said.contains(&wanted) && said.contains("'jane'") && said.contains(&format!("llm-guard-{verb}")), "{what}: {said}");
}

#[test]
fn an_editor_without_the_verbs_may_raise_what_guards_a_workload_and_not_lower_it() -> io::Result<()> {
    let (field, injector) = field()?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({}))?;
    let annotate = |pair: &str| jane(&field, &["-n", &namespace, "annotate", "--overwrite", "deployment/ollama", pair], &Value::Null);
    let patch = |change: &Value| {
        let change = change.to_string();
        jane(&field, &["-n", &namespace, "patch", "deployment", "ollama", "--type=merge", "-p", &change], &Value::Null)
    };
    for pair in ["llm-guard.io/mode=soft", "llm-guard.io/mode=hard", "other=x", "llm-guard.io/stop=false"] {
        assert_eq!(annotate(pair)?, None, "{pair}");
    }
    assert_eq!(jane(&field, &["-n", &namespace, "scale", "deployment/ollama", "--replicas=3"], &Value::Null)?, None);
    for (pair, verb) in [("llm-guard.io/mode=soft", "lower"), ("llm-guard.io/mode-", "lower"), ("llm-guard.io/stop=true", "stop")] {
        refused(annotate(pair)?, verb, pair);
    }
    // By way of the status, too.
    let change = json!({"metadata": {"annotations": {"llm-guard.io/mode": "monitor"}}}).to_string();
    let by_status = ["-n", &namespace, "patch", "deployment", "ollama", "--subresource=status", "--type=merge", "-p", &change];
    refused(jane(&field, &by_status, &Value::Null)?, "lower", "the status");

    let template =
        |labels: Value, annotations: Value| json!({"spec": {"template": {"metadata": {"labels": labels, "annotations": annotations}}}});
    refused(patch(&template(json!({"llm-guard": "disabled"}), json!({})))?, "exempt", "the label's other value");
    refused(patch(&template(json!({"llm-guard": null}), json!({})))?, "exempt", "the label's end");
    refused(patch(&template(json!({}), json!({"llm-guard.io/open-ports": "9000"})))?, "exempt", "an open port");
    refused(patch(&template(json!({}), json!({"llm-guard.io/interception": "port"})))?, "lower", "another interception");
    assert_eq!(patch(&template(json!({"team": "x"}), json!({"llm-guard.io/mode": "hard"})))?, None);

    // What Jane did and what she wanted is on record, and nothing of it happened.
    let said = injector.said()?;
    let records: Vec<Value> =
        said.lines().filter(|line| line.contains("\"audit\":\"change\"")).map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |result: &str, what: &str| {
        records.iter().any(|record| {
            let message = record["message"].as_str().unwrap_or_default();
            record["result"] == result
                && record["user"] == "jane"
                && record["object"] == format!("Deployment/{namespace}/ollama")
                && message.contains(what)
        })
    };
    assert!(of("allowed", "metadata.annotations[llm-guard.io/mode]: from 'soft' to 'hard'"), "{said}");
    assert!(of("refused", "metadata.annotations[llm-guard.io/mode]: from 'hard' to nothing"), "{said}");
    let note = "By 'jane': metadata.annotations[llm-guard.io/mode]: from 'soft' to 'hard'";
    wait_until("there is an event of it", SOON, || {
        let events = field.api.json(&["-n", &namespace, "events.events.k8s.io"]).map_err(|error| error.to_string())?;
        let mut items = events["items"].as_array().into_iter().flatten();
        let found =
            items.any(|event| event["reason"] == "ProtectionChanged" && event["note"] == note && event["regarding"]["name"] == "ollama");
        if found { Ok(()) } else { Err(events.to_string()) }
    })?;
    assert!(field.wait_for_event(&namespace, "ChangeRefused")?.contains("lacks the verb"));
    let deployment = field.api.json(&["-n", &namespace, "deployment", "ollama"])?;
    assert_eq!(deployment["metadata"]["annotations"]["llm-guard.io/mode"], "hard");

    // One verb, in one namespace.
    field.api.kubectl(&["-n", &namespace, "create", "rolebinding", "jane", "--clusterrole=llm-guard-lower", "--user=jane"])?;
    wait_until("she has the verb", SOON, || match annotate("llm-guard.io/mode=soft") {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    refused(annotate("llm-guard.io/stop=true")?, "stop", "a stop");
    let other = field.namespace("b", &[])?;
    field.deployment(&other, &json!({"llm-guard.io/mode": "hard"}))?;
    let elsewhere = jane(&field, &["-n", &other, "annotate", "deployment/ollama", "llm-guard.io/mode-"], &Value::Null)?;
    refused(elsewhere, "lower", "another namespace");
    Ok(())
}

#[test]
fn nobody_gets_round_it_by_what_makes_the_pods() -> io::Result<()> {
    let (field, _injector) = field()?;
    let namespace = field.namespace("a", &[("llm-guard", "enabled")])?;
    field.deployment(&namespace, &json!({}))?;
    let exempt = |name: &str| {
        let mut pod = pod(name, &json!({}));
        pod["metadata"]["labels"]["llm-guard"] = json!("disabled");
        pod
    };
    let create = |object: &Value| jane(&field, &["-n", &namespace, "create", "-f", "-"], object);
    refused(create(&exempt("bare"))?, "exempt", "a pod");
    // An owner that anybody can write.
    let uid = field.api.json(&["-n", &namespace, "replicaset", "ollama-1"])?["metadata"]["uid"].clone();
    let mut owned = exempt("owned");
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "ollama-1", "uid": uid, "controller": true}]);
    refused(create(&owned)?, "exempt", "a pod with an owner");
    assert_eq!(create(&pod("plain", &json!({})))?, None);
    // The controller itself makes what a template says.
    let controller = "--as=system:serviceaccount:kube-system:replicaset-controller";
    field.api.kubectl_with(&["-n", &namespace, "create", "-f", "-", controller], &owned.to_string())?;

    let workload = |kind: &str, name: &str| {
        let exempt = exempt(name);
        let template = json!({"metadata": {"labels": exempt["metadata"]["labels"]}, "spec": exempt["spec"]});
        let metadata = json!({"name": name});
        if kind == "CronJob" {
            let mut template = template;
            template["spec"]["restartPolicy"] = json!("Never");
            let spec = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}});
            return json!({"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": spec});
        }
        let spec = json!({"selector": {"matchLabels": {"app": "ollama"}}, "template": template});
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    for kind in ["Deployment", "ReplicaSet", "CronJob"] {
        refused(create(&workload(kind, "another"))?, "exempt", kind);
        field.create(&namespace, &workload(kind, "an-administrators"))?;
    }
    Ok(())
}

#[test]
fn a_namespaces_floor_label_and_stop_take_verbs_to_take_away() -> io::Result<()> {
    let (field, _injector) = field()?;
    let namespace = field.namespace("a", &[("llm-guard", "enabled")])?;
    field.deployment(&namespace, &json!({}))?;
    let change = |how: &str, pair: &str| jane(&field, &[how, "--overwrite", "namespace", &namespace, pair], &Value::Null);
    for (how, pair, verb) in [
        ("annotate", "llm-guard.io/minimum-mode=soft", None),
        ("annotate", "llm-guard.io/minimum-mode=hard", None),
        ("annotate", "llm-guard.io/minimum-mode=soft", Some("lower")),
        ("annotate", "llm-guard.io/minimum-mode-", Some("lower")),
        ("annotate", "llm-guard.io/mode=hard", None),
        // The floor holds it up.
        ("annotate", "llm-guard.io/mode=monitor", None),
        ("annotate", "llm-guard.io/stop=true", Some("stop")),
        ("label", "llm-guard-", Some("exempt")),
        ("label", "other=x", None),
    ] {
        let outcome = change(how, pair)?;
        match verb {
            Some(verb) => refused(outcome, verb, pair),
            None => assert_eq!(outcome, None, "{pair}"),
        }
    }
    // Lifting a stop is as much as setting one.
    field.api.kubectl(&["annotate", "namespace", &namespace, "llm-guard.io/stop=true"])?;
    refused(change("annotate", "llm-guard.io/stop-")?, "stop", "its end");
    Ok(())
}

#[test]
fn a_policy_is_made_weaker_only_by_whoever_may() -> io::Result<()> {
    let (field, injector) = field()?;
    let namespace = field.namespace("a", &[])?;
    let policy = |name: &str, spec: Value| json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let apply = |name: &str, spec: Value| jane(&field, &["apply", "-f", "-"], &policy(name, spec));
    // Nobody goes by it yet.
    assert_eq!(apply("named", json!({"mode": "hard"}))?, None);
    assert_eq!(apply("named", json!({"mode": "monitor"}))?, None);
    assert_eq!(apply("named", json!({"mode": "hard", "models": {"allow": ["a"]}}))?, None);
    field.deployment(&namespace, &json!({"llm-guard.io/policy": "named"}))?;
    let spec = |mode: &str, models: &[&str]| json!({"mode": mode, "models": {"allow": models}});
    wait_until("it is seen that somebody goes by it", SOON, || {
        let ended =
            field.api.try_kubectl(&["apply", "--dry-run=server", "-f", "-", JANE], &policy("named", spec("soft", &["a"])).to_string());
        let ended = ended.map_err(|error| error.to_string())?;
        if ended.status.success() { Err(ended.printed) } else { Ok(()) }
    })?;
    refused(apply("named", spec("soft", &["a"]))?, "lower", "a lower mode");
    refused(apply("named", spec("hard", &["a", "secret-model"]))?, "lower", "one more model");
    let other = spec("hard", &["a"]);
    assert_eq!(
        jane(&field, &["apply", "-f", "-"], &{
            let mut policy = policy("named", other);
            policy["metadata"]["labels"] = json!({"team": "x"});
            policy
        })?,
        None
    );
    // The one that holds without a name, in the place of the built-in one, which only counts.
    assert_eq!(apply("default", json!({"mode": "soft"}))?, None);
    refused(apply("default", json!({}))?, "lower", "the default");
    refused(jane(&field, &["-n", &namespace, "delete", "guardpolicy", "default"], &Value::Null)?, "lower", "the default's end");
    // Another policy by name.
    refused(
        jane(&field, &["-n", &namespace, "annotate", "deployment/ollama", "llm-guard.io/policy-"], &Value::Null)?,
        "lower",
        "another policy",
    );

    // The record has modes and digests, and no word of what a policy says.
    let said = injector.said()?;
    let record = said.lines().find(|line| line.contains("GuardPolicy/a/named") && line.contains("refused")).unwrap_or_default();
    assert!(record.contains("spec: from hard ") && record.contains(" to soft "), "{said}");
    assert!(!said.contains("secret-model"), "{said}");
    Ok(())
}

#[test]
fn what_cant_be_asked_is_refused_and_what_takes_no_verb_goes_on() -> io::Result<()> {
    let (field, _injector) = field()?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({"llm-guard.io/mode": "hard"}))?;
    // The injector may ask no more.
    let role = field.api.json(&["clusterrole", INJECTOR])?;
    let rules = role["rules"].as_array().cloned().unwrap_or_default();
    let rules: Vec<Value> = rules.into_iter().filter(|rule| rule["resources"] != json!(["subjectaccessreviews"])).collect();
    let patch = json!({"rules": rules}).to_string();
    field.api.kubectl(&["patch", "clusterrole", INJECTOR, "--type=merge", "-p", &patch])?;
    let annotate = |pair: &str| field.api.try_kubectl(&["-n", &namespace, "annotate", "--overwrite", "deployment/ollama", pair], "");
    let said = wait_until("it can't be asked", SOON, || {
        // Even an administrator, whom it would be granted.
        let ended = annotate("llm-guard.io/mode=soft").map_err(|error| error.to_string())?;
        if ended.status.success() {
            annotate("llm-guard.io/mode=hard").map_err(|error| error.to_string())?;
            Err(ended.printed)
        } else {
            Ok(ended.said)
        }
    })?;
    assert!(said.contains("has the verb lower on guardpolicies.llm-guard.io can't be asked"), "{said}");
    for pair in ["other=x", "llm-guard.io/policy=default"] {
        let ended = annotate(pair)?;
        assert!(ended.status.success(), "{pair}: {}", ended.said);
    }
    Ok(())
}

#[test]
fn the_clusters_floor_binds_annotations_policies_and_exemptions_alike() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&["--minimum-mode", "soft"])?;
    let namespace = field.namespace("a", &[("llm-guard", "enabled")])?;
    let policy = json!({
        "apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": "default", "namespace": namespace}, "spec": {"mode": "monitor"},
    });
    field.api.apply(&policy.to_string())?;
    field.deployment(&namespace, &json!({"llm-guard.io/mode": "monitor"}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let floor = |wanted: &str| {
        field.wait_for_settings(&namespace, &format!("the floor is {wanted}"), |settings| {
            settings["floor"] == wanted && settings["mode"] == "monitor"
        })
    };
    floor("soft")?;
    // A namespace may ask for more, and not for less.
    for (own, wanted) in [("hard", "hard"), ("monitor", "soft")] {
        field.api.kubectl(&["annotate", "--overwrite", "namespace", &namespace, &format!("llm-guard.io/minimum-mode={own}")])?;
        floor(wanted)?;
    }
    // Not even somebody with all verbs has a pod without a guard.
    let mut exempt = pod("exempt", &json!({}));
    exempt["metadata"]["labels"]["llm-guard"] = json!("disabled");
    exempt["metadata"]["namespace"] = json!(namespace);
    let said = field.api.refused(&exempt.to_string())?;
    assert!(said.contains("llm-guard.io/minimum-mode: soft, of the namespace or of the cluster"), "{said}");
    Ok(())
}

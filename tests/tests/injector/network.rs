//! Network policies: made with the pod, put right, and those of others that open more.

use std::io;

use llm_guard_tests::cluster::wait_until;
use serde_json::{Value, json};

use crate::field::{Field, SOON, default_policy, pod};

fn policy(field: &Field, namespace: &str, name: &str) -> Result<Value, String> {
    field.api.json(&["-n", namespace, "networkpolicy", name]).map_err(|error| error.to_string())
}

#[test]
fn what_is_edited_or_deleted_is_put_right() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&["--monitoring-from", r#"{"ipBlock":{"cidr":"10.9.0.0/16"}}"#])?;
    let namespace = field.namespace("a", &[])?;
    field.create(&namespace, &pod("bare", &json!({"llm-guard.io/open-ports": "9100"})))?;
    let (name, _) = field.settings(&namespace).map_err(io::Error::other)?;
    let right = policy(&field, &namespace, &name).map_err(io::Error::other)?["spec"].clone();
    let ports =
        |rule: usize| right["ingress"][rule]["ports"].as_array().into_iter().flatten().map(|port| port["port"].clone()).collect::<Vec<_>>();
    assert_eq!((ports(0), ports(1), ports(2)), (vec![json!(11434)], vec![json!(15435)], vec![json!(9000), json!(9100)]));
    assert!(right["ingress"][0]["from"].is_null());
    assert_eq!(right["ingress"][1]["from"][1]["ipBlock"]["cidr"], "10.9.0.0/16");

    for name in [name.as_str(), "llm-guard-unguarded"] {
        let right = policy(&field, &namespace, name).map_err(io::Error::other)?["spec"].clone();
        for change in [json!({"spec": {"ingress": [{}]}}), json!({"spec": {"podSelector": {"matchLabels": {"x": "y"}}}})] {
            field.api.kubectl(&["-n", &namespace, "patch", "networkpolicy", name, "--type=merge", "-p", &change.to_string()])?;
            wait_until("the policy is put right after an edit", SOON, || match policy(&field, &namespace, name) {
                Ok(policy) if policy["spec"] == right => Ok(()),
                other => Err(format!("{other:?}")),
            })?;
        }
        field.api.kubectl(&["-n", &namespace, "delete", "networkpolicy", name])?;
        wait_until("the policy is there again", SOON, || match policy(&field, &namespace, name) {
            Ok(policy) if policy["spec"] == right => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    assert!(field.wait_for_event(&namespace, "NetworkPolicyPutRight")?.contains("put right"));
    Ok(())
}

#[test]
fn a_policy_of_somebody_else_that_opens_more_is_told_of() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    let theirs = |ingress: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "theirs"},
            "spec": {"podSelector": {"matchLabels": {"app": "ollama"}}, "ingress": ingress},
        })
    };
    field.create(&namespace, &theirs(json!([{"ports": [{"port": 11434}]}])))?;
    injector.wait_for_metric("opening_network_policies", 0.0, SOON)?;
    field.api.kubectl_with(&["-n", &namespace, "apply", "-f", "-"], &theirs(json!([{"from": [{"podSelector": {}}]}])).to_string())?;
    injector.wait_for_metric("opening_network_policies", 1.0, SOON)?;
    assert!(field.wait_for_event(&namespace, "NetworkPolicyOpensMore")?.contains("Namespace/a"));
    field.api.kubectl(&["-n", &namespace, "delete", "networkpolicy", "theirs"])?;
    injector.wait_for_metric("opening_network_policies", 0.0, SOON)
}

#[test]
fn who_may_come_to_the_port_is_what_the_guard_policy_says() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let peer = json!({"namespaceSelector": {"matchLabels": {"team": "chat"}}});
    field.create(&namespace, &default_policy(&json!({"network": {"from": [peer]}})))?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    let (name, _) = field.settings(&namespace).map_err(io::Error::other)?;
    assert_eq!(policy(&field, &namespace, &name).map_err(io::Error::other)?["spec"]["ingress"][0]["from"], json!([peer]));
    field.api.kubectl_with(&["-n", &namespace, "replace", "-f", "-"], &default_policy(&json!({})).to_string())?;
    wait_until("everyone may come again", SOON, || match policy(&field, &namespace, &name) {
        Ok(policy) if policy["spec"]["ingress"][0]["from"].is_null() => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn where_settings_cant_be_written_who_may_come_stays_also_after_a_restart() -> io::Result<()> {
    let (field, mut injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let peer = json!({"namespaceSelector": {"matchLabels": {"team": "chat"}}});
    field.create(&namespace, &default_policy(&json!({"network": {"from": [peer]}})))?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    let (name, _) = field.settings(&namespace).map_err(io::Error::other)?;
    injector.terminate()?;
    injector.wait_to_end(SOON)?;

    // From now on nobody writes such maps.
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}]);
    let refusing = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "nobody-writes"},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": format!("object.metadata.namespace != '{namespace}'")}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "nobody-writes"},
        "spec": {"policyName": "nobody-writes", "validationActions": ["Deny"]},
    });
    field.api.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [refusing, binding]}).to_string())?;
    wait_until("the refusal is in force", SOON, || {
        match field.api.kubectl(&["-n", &namespace, "annotate", "--overwrite", "configmap", &name, "tried=it"]) {
            Err(error) if error.to_string().contains("denied") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;

    let injector = field.injector(field.webhooks(), &[])?;
    injector.wait_until_ready()?;
    field.api.kubectl(&["annotate", "namespace", &namespace, "llm-guard.io/mode=hard"])?;
    wait_until("the write is refused", SOON, || match injector.metric("settings_writes_total{result=\"failed\"}") {
        Ok(failed) if failed > 1.5 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    assert_eq!(policy(&field, &namespace, &name).map_err(io::Error::other)?["spec"]["ingress"][0]["from"], json!([peer]));
    Ok(())
}

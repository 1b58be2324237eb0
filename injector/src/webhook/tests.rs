//! What is answered.

use crate::plan::tests::surroundings;

use super::*;

fn review(kind: &str, operation: &str, object: &Value, old: &Value) -> Review {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "7", "kind": {"group": "", "version": "v1", "kind": kind}, "namespace": "llm", "operation": operation,
            "object": object, "oldObject": old, "dryRun": false, "somethingNew": {},
        },
    });
    read(body.to_string().as_bytes()).unwrap()
}

fn pod(annotations: &Value, labels: &Value) -> Value {
    json!({"metadata": {"annotations": annotations, "labels": labels}, "spec": {"containers": [{"name": "ollama", "image": "ollama/ollama"}]}})
}

fn deployment(annotations: &Value, spec: &Value) -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "ollama", "annotations": annotations}, "spec": {"replicas": 1, "template": {"spec": spec}}})
}

fn refusals(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Refused(refusals, _) => refusals.len(),
        _ => 0,
    }
}

#[test]
fn a_body_that_is_no_review_of_this_version_is_an_error() {
    for body in ["", "[]", "{}", r#"{"apiVersion":"admission.k8s.io/v1beta1","request":{}}"#, r#"{"apiVersion":"admission.k8s.io/v1"}"#] {
        assert!(read(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn an_injected_pod_is_answered_with_a_patch_and_warnings() {
    let object = pod(&json!(null), &json!(null));
    let verdict = pod_created(&review("Pod", "CREATE", &object, &Value::Null), &surroundings());
    assert_eq!(verdict.result(), "injected");
    let answer = verdict.answer("7");
    assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!("7"), &json!(true)));
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let patch = BASE64_STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = object;
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["metadata"]["labels"]["llm-guard.io/guarded"], "true");
    assert!(answer["response"]["warnings"][0].as_str().unwrap().starts_with("llm-guard: "));
}

#[test]
fn an_untouched_pod_is_answered_without_a_patch() {
    let object = pod(&json!(null), &json!({"llm-guard": "disabled"}));
    let verdict = pod_created(&review("Pod", "CREATE", &object, &Value::Null), &surroundings());
    let response = json!({"uid": "7", "allowed": true, "auditAnnotations": {"untouched": "the pod's label exempts it"}});
    assert_eq!((verdict.result(), verdict.answer("7")["response"].clone()), ("untouched", response));
}

#[test]
fn a_refusal_says_every_field_and_where_it_stands_in_the_object() {
    let spec = json!({"hostNetwork": true, "hostPID": true, "containers": [{"name": "ollama", "image": "ollama/ollama"}]});
    let verdict = workload(&review("Deployment", "CREATE", &deployment(&json!(null), &spec), &Value::Null), &surroundings());
    let status = &verdict.answer("7")["response"]["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("\n- spec.template.spec.hostNetwork: ") && message.contains("\n- spec.template.spec.hostPID: "), "{message}");
}

#[test]
fn of_a_pods_keys_only_its_mode_may_change() {
    let guarded = json!({"llm-guard.io/guarded": "true", "llm-guard.io/workload": "x", "app": "a"});
    let changed = |annotations: &Value, labels: &Value| {
        let old = pod(&json!({"llm-guard.io/policy": "p", "llm-guard.io/settings": "d", "other": "1"}), &guarded);
        pod_changed(&review("Pod", "UPDATE", &pod(annotations, labels), &old))
    };
    let with = |more: &Value| {
        let mut all = json!({"llm-guard.io/policy": "p", "llm-guard.io/settings": "d", "other": "2"});
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    };
    assert_eq!(changed(&with(&json!({})), &guarded).result(), "allowed");
    assert_eq!(changed(&with(&json!({"llm-guard.io/mode": "hard"})), &guarded).result(), "allowed");
    for annotations in [
        with(&json!({"llm-guard.io/mode": "hardest"})),
        with(&json!({"llm-guard.io/policy": "q"})),
        with(&json!({"llm-guard.io/port": "80"})),
        with(&json!({"llm-guard.io/settings": "e"})),
        with(&json!({"llm-guard.io/stop": "true"})),
        with(&json!({"llm-guard.io/unheard-of": ""})),
        json!({"llm-guard.io/policy": "p"}),
    ] {
        assert_eq!(refusals(&changed(&annotations, &guarded)), 1, "{annotations}");
    }
    for labels in [
        json!({"llm-guard.io/guarded": "true"}),
        json!({"llm-guard.io/guarded": "false", "llm-guard.io/workload": "x"}),
        json!({"llm-guard.io/guarded": "true", "llm-guard.io/workload": "x", "llm-guard": "disabled"}),
    ] {
        assert_eq!(refusals(&changed(&with(&json!({})), &labels)), 1, "{labels}");
    }
    assert_eq!(refusals(&changed(&json!(null), &json!(null))), 4);
}

#[test]
fn the_guards_image_in_a_running_pod_can_not_be_changed() {
    let with = |guard: &str, own: &str| json!({"metadata": {}, "spec": {"initContainers": [{"name": "own", "image": own}, {"name": "llm-guard", "image": guard}]}});
    let changed = |new: &Value| pod_changed(&review("Pod", "UPDATE", new, &with("a", "a")));
    assert_eq!(changed(&with("a", "b")).result(), "allowed");
    let answer = changed(&with("b", "a")).answer("7");
    assert!(answer["response"]["status"]["message"].as_str().unwrap().contains("spec.initContainers[1].image: "), "{answer}");
}

#[test]
fn what_is_wrong_on_a_workload_is_told_of_when_its_pod_is_made() {
    let mut s = surroundings();
    s.workload_annotations = BTreeMap::from([("llm-guard.io/port".to_owned(), "8000".to_owned())]);
    let object = pod(&json!(null), &json!(null));
    let answer = pod_created(&review("Pod", "CREATE", &object, &Value::Null), &s).answer("7");
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("llm-guard: Deployment/ollama: metadata.annotations[llm-guard.io/port]: "), "{message}");
}

#[test]
fn a_pod_that_allows_setuid_can_not_be_raised_above_monitor() {
    let pods = |mode: &str| pod(&json!({"llm-guard.io/allow-setuid": "ollama", "llm-guard.io/mode": mode}), &json!(null));
    let old = pod(&json!({"llm-guard.io/allow-setuid": "ollama"}), &json!(null));
    assert_eq!(pod_changed(&review("Pod", "UPDATE", &pods("monitor"), &old)).result(), "allowed");
    assert_eq!(refusals(&pod_changed(&review("Pod", "UPDATE", &pods("soft"), &old))), 1);
}

#[test]
fn no_other_image_takes_the_guards_place_in_a_pod_that_runs() {
    let pod = |guard: &str, own: &str| {
        json!({"metadata": {}, "spec": {"containers": [{"name": "ollama", "image": own}], "initContainers": [
            {"name": "istio-init", "image": own}, {"name": "llm-guard-init", "image": "g:1"}, {"name": "llm-guard", "image": guard},
        ]}})
    };
    let update = |new: &Value| pod_changed(&review("Pod", "UPDATE", new, &pod("g:1", "a")));
    let message = update(&pod("forward:1", "a")).answer("7")["response"]["status"]["message"].clone();
    assert!(message.as_str().unwrap().contains("spec.initContainers[2].image: "), "{message}");
    assert_eq!(update(&pod("g:1", "b")).result(), "allowed");
}

#[test]
fn a_key_where_nothing_is_guarded_is_warned_of() {
    let s = Surroundings { namespace: crate::plan::Namespace::default(), ..surroundings() };
    let warnings =
        |object: &Value| workload(&review("Deployment", "CREATE", object, &Value::Null), &s).answer("7")["response"]["warnings"].clone();
    let mut object = deployment(&json!(null), &json!({"containers": [{"name": "ollama", "image": "ollama/ollama"}]}));
    object["spec"]["template"]["metadata"] = json!({"annotations": {"llm-guard.io/port": "11434"}});
    assert!(warnings(&object)[0].as_str().unwrap().contains("llm-guard.io/port"), "{}", warnings(&object));
    object["spec"]["template"]["metadata"] = json!({"labels": {"llm-guard": "enabled"}});
    object["metadata"]["labels"] = json!({"llm-guard": "enabled"});
    assert!(!warnings(&object).to_string().contains("does nothing"), "{}", warnings(&object));
    object["spec"]["template"]["metadata"] = Value::Null;
    assert!(warnings(&object)[0].as_str().unwrap().contains("into the template"), "{}", warnings(&object));
}

#[test]
fn a_key_put_between_a_cron_job_and_its_pods_is_refused_also_later() {
    let cron = |labels: &Value| json!({"metadata": {"name": "c"}, "spec": {"jobTemplate": {"metadata": {"labels": labels}, "spec": {"template": {"spec": {}}}}}});
    let verdict = workload(&review("CronJob", "UPDATE", &cron(&json!({"llm-guard": "enabled"})), &cron(&Value::Null)), &surroundings());
    assert_eq!(refusals(&verdict), 1);
}

#[test]
fn a_deletion_and_what_leaves_the_template_as_it_was_is_never_denied() {
    let bad = deployment(
        &json!({"llm-guard.io/mode": "hardest"}),
        &json!({"hostNetwork": true, "containers": [{"name": "ollama", "image": "ollama/ollama"}]}),
    );
    let s = surroundings();
    assert_eq!(refusals(&workload(&review("Deployment", "UPDATE", &bad, &deployment(&json!(null), &json!({}))), &s)), 2);
    assert_eq!(workload(&review("Deployment", "DELETE", &Value::Null, &bad), &s).result(), "allowed");
    let mut scaled = bad.clone();
    scaled["spec"]["replicas"] = json!(3);
    scaled["metadata"]["annotations"]["other"] = json!("x");
    assert_eq!(workload(&review("Deployment", "UPDATE", &scaled, &bad), &s).result(), "allowed");
    let mut ending = bad;
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(workload(&review("Deployment", "UPDATE", &ending, &deployment(&json!(null), &json!({}))), &s).result(), "allowed");
}

#[test]
fn who_annotates_a_mode_learns_which_controls_stay_lower() {
    let policy = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {tools: {mode: monitor}}";
    let s = Surroundings { policy: Some(llm_guard_engine::policy::GuardPolicy::read(policy).unwrap()), ..surroundings() };
    let spec = json!({"containers": [{"name": "ollama", "image": "ollama/ollama"}]});
    let annotated = deployment(&json!({"llm-guard.io/mode": "hard"}), &spec);
    let answer = workload(&review("Deployment", "UPDATE", &annotated, &deployment(&json!(null), &spec)), &s).answer("7");
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().ends_with("tools (monitor)")), "{warnings:?}");
}

#[test]
fn what_follows_from_a_template_is_said_once() {
    let spec = json!({"containers": [{"name": "ollama", "image": "ollama/ollama"}]});
    let (plain, annotated) = (deployment(&json!(null), &spec), deployment(&json!({"llm-guard.io/mode": "hard"}), &spec));
    let warnings = |operation: &str, object: &Value, old: &Value| {
        let answer = workload(&review("Deployment", operation, object, old), &surroundings()).answer("7");
        answer["response"]["warnings"].as_array().map_or(0, Vec::len)
    };
    assert!(warnings("CREATE", &annotated, &Value::Null) > 0);
    assert_eq!(warnings("UPDATE", &annotated, &plain), 0);
    let other = deployment(&json!(null), &json!({"containers": [{"name": "ollama", "image": "ollama/ollama:1"}]}));
    assert!(warnings("UPDATE", &other, &plain) > 0);
}

#[test]
fn a_namespaces_new_keys_are_judged_and_what_was_there_is_not() {
    let of = |labels: Value, annotations: Value| json!({"metadata": {"name": "llm", "labels": labels, "annotations": annotations}});
    let judged =
        |object: &Value, old: &Value| namespace(&review("Namespace", if old.is_null() { "CREATE" } else { "UPDATE" }, object, old));
    let good = of(json!({"llm-guard": "enabled"}), json!({"llm-guard.io/mode": "hard", "llm-guard.io/minimum-mode": "soft"}));
    assert_eq!(judged(&good, &Value::Null).result(), "allowed");
    for bad in [
        of(json!({"llm-guard": "enable"}), json!({})),
        of(json!({"llm-guard": "disabled"}), json!({})),
        of(json!({"llm-guard.io/mode": "hard"}), json!({})),
        of(json!({}), json!({"llm-guard.io/mode": "Hard"})),
        of(json!({}), json!({"llm-guard.io/minimum-mode": "strict"})),
        of(json!({}), json!({"llm-guard.io/minimum": "hard"})),
        of(json!({}), json!({"llm-guard.io/port": "80"})),
    ] {
        assert_eq!(refusals(&judged(&bad, &Value::Null)), 1, "{bad}");
        assert_eq!(refusals(&judged(&bad, &good)), 1, "{bad}");
        assert_eq!(judged(&bad, &bad).result(), "allowed", "{bad}");
        let mut ending = bad.clone();
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(judged(&ending, &good).result(), "allowed", "{bad}");
    }
    assert_eq!(judged(&of(json!({}), json!({})), &good).result(), "allowed");
    let message = judged(&of(json!({"llm-guard": "on"}), json!({})), &good).answer("7")["response"]["status"]["message"].clone();
    assert!(message.as_str().unwrap().starts_with("llm-guard: namespace"), "{message}");
}

#[test]
fn every_kind_of_workload_has_its_template_where_kubernetes_has_it() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "Job"] {
        let object = json!({"spec": {"template": template}});
        assert_eq!(review(kind, "CREATE", &object, &Value::Null).template(), Some(template.clone()), "{kind}");
    }
    let object = json!({"spec": {"jobTemplate": {"spec": {"template": template}}}});
    assert_eq!(review("CronJob", "CREATE", &object, &Value::Null).template(), Some(template));
    assert_eq!(review("Pod", "CREATE", &pod(&json!(null), &json!(null)), &Value::Null).template(), None);
}

//! What is installed, before a real API server: that it takes every object, what the webhooks' conditions select, what the injector
//! may do, and what applying again changes.
//!
//! The invariant: no injector runs here, so a call of a webhook that fails closed is a refusal that names the entry. That is how
//! these tests see which entry was called.

use std::io;
use std::process::Command;
use std::time::Duration;

use llm_guard_tests::cluster::{Admission, Api, Version, wait_until};
use serde_json::{Value, json};

use crate::helm::{Objects, deploy, program, render};
use crate::injector::{Injector, policy};

const NAMESPACE: &str = "llm-guard-system";
const INJECTOR: &str = "system:serviceaccount:llm-guard-system:llm-guard-injector";
/// What only the Prometheus operator's definitions would let an API server take.
const OPERATOR: [&str; 2] = ["PodMonitor", "PrometheusRule"];

/// One document with all of these objects.
fn together<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects.into_iter().collect::<Vec<_>>()}).to_string()
}

fn manifest() -> String {
    deploy("manifest.yaml").display().to_string()
}

/// Whether something goes through, or what stands in its way.
fn tried(api: &Api, arguments: &[&str], input: &Value) -> io::Result<Result<(), String>> {
    let ended = api.try_kubectl(arguments, &input.to_string())?;
    Ok(if ended.status.success() { Ok(()) } else { Err(ended.said) })
}

/// The call of this webhook failed, and so did what it was called for.
fn calls(outcome: &Result<(), String>, entry: &str) -> bool {
    outcome.as_ref().is_err_and(|said| said.contains(&format!("failed calling webhook \"{entry}\"")))
}

fn pod(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "x"}]},
    })
}

#[test]
fn every_object_of_every_set_of_values_and_of_the_examples_is_taken() -> io::Result<()> {
    let digest = format!("image.sidecar.digest=\"sha256:{:064}\"", 7);
    let sets: [&[&str]; 4] = [
        &[],
        &["replicas=1", "interception.legacy=true", "imagePullSecrets=[\"one\"]", &digest],
        &[
            "nodeSelector={\"a\":\"b\"}",
            "tolerations=[{\"key\":\"a\",\"operator\":\"Exists\"}]",
            "affinity={\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]}]}}}",
            "topologySpreadConstraints=[{\"topologyKey\":\"topology.kubernetes.io/zone\",\"maxSkew\":1,\"whenUnsatisfiable\":\"DoNotSchedule\"}]",
            "priorityClassName=\"system-cluster-critical\"",
            "podLabels={\"a\":\"b\"}",
            "podAnnotations={\"a\":\"b\"}",
        ],
        &[
            "monitoring={\"from\":[{\"ipBlock\":{\"cidr\":\"10.0.0.0/8\"}}],\"dashboards\":{\"enabled\":true},\"podMonitor\":{\"enabled\":true}}",
        ],
    ];
    for version in [Version::Current, Version::Next] {
        let api = Admission::start(version)?;
        api.kubectl(&["create", "namespace", NAMESPACE])?;
        for set in sets {
            let objects = render(set)?;
            let known = objects.0.iter().filter(|object| !OPERATOR.iter().any(|kind| object["kind"] == *kind));
            // Both ways of applying, and no field that the API server doesn't know.
            api.kubectl_with(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &together(known.clone()))?;
            api.kubectl_with(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"], &together(known))?;
        }

        let definition = render(&[])?;
        api.apply(&together(definition.kind("CustomResourceDefinition")))?;
        api.kubectl(&["wait", "--for=condition=Established", "crd/guardpolicies.llm-guard.io", "crd/guardexceptions.llm-guard.io"])?;
        let example = Objects::of_file("examples/open-webui/open-webui.yaml")?;
        api.apply(&together(example.kind("Namespace")))?;
        api.kubectl_with(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &together(&example.0))?;
        for (spec, expected) in [
            (json!({"mode": "strict"}), "spec.mode"),
            (json!({"redaction": {"requests": "drop"}}), "spec.redaction.requests"),
            (json!({"models": {"allow": "llama"}}), "spec.models.allow"),
        ] {
            let policy = json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": "p"}, "spec": spec});
            let said = api.refused(&policy.to_string())?;
            assert!(said.contains(expected), "{said}");
        }
        // What the engine refuses by name must reach the injector. The API server would otherwise drop a key that it doesn't know,
        // and a key with nothing behind it; and where everything was to be forbidden, everything would be allowed.
        for (spec, kept) in [
            (json!({"redacton": {}}), "/spec/redacton"),
            (json!({"models": {"alow": []}}), "/spec/models/alow"),
            (json!({"models": {"allow": null}}), "/spec/models/allow"),
            (json!({"tools": {"allow": null}}), "/spec/tools/allow"),
        ] {
            let policy = json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": "p"}, "spec": spec});
            let shown = api.kubectl_with(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &policy.to_string())?;
            let shown: Value = serde_json::from_str(&shown)?;
            assert!(shown.pointer(kept).is_some(), "{kept} is dropped: {shown}");
        }
    }
    Ok(())
}

#[test]
fn the_manifest_installs_and_its_webhooks_select_what_they_should() -> io::Result<()> {
    let api = Admission::start(Version::Current)?;
    // While nobody looks, anybody can make a pod that looks guarded.
    let plain = api.namespace("plain", &[], &[])?;
    let mut guarded = pod("guarded", &json!({"llm-guard.io/guarded": "true", "other": "a"}));
    guarded["spec"]["initContainers"] =
        json!([{"name": "llm-guard", "image": "x", "restartPolicy": "Always"}, {"name": "own", "image": "x"}]);
    api.kubectl_with(&["-n", plain.name(), "create", "-f", "-"], &guarded.to_string())?;
    api.kubectl(&["apply", "--server-side", "--validate=strict", "-f", &manifest()])?;

    // The namespace takes the injector's pod, though it is restricted.
    let objects = Objects::of_file("manifest.yaml")?;
    let mut injector = objects.one("Deployment")?["spec"]["template"].clone();
    injector["apiVersion"] = json!("v1");
    injector["kind"] = json!("Pod");
    injector["metadata"]["name"] = json!("one-of-them");
    api.kubectl_with(&["-n", NAMESPACE, "create", "--dry-run=server", "-f", "-"], &injector.to_string())?;

    let labelled = api.namespace("labelled", &[("llm-guard", "enable")], &[])?;
    new_pods(&api, plain.name(), labelled.name())?;
    changed_pods(&api, plain.name())?;
    workloads(&api, plain.name(), labelled.name())?;
    let policy = json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": "p"}, "spec": {}});
    assert!(calls(&tried(&api, &["-n", plain.name(), "create", "-f", "-"], &policy)?, "policies.llm-guard.io"));

    permissions(&api)
}

fn new_pods(api: &Api, plain: &str, labelled: &str) -> io::Result<()> {
    let create = |namespace, labels: Value| tried(api, &["-n", namespace, "create", "--dry-run=server", "-f", "-"], &pod("p", &labels));
    assert_eq!(create(plain, json!({"llm-guardian": "enabled"}))?, Ok(()));
    // Whatever the label says, in the pod or the namespace: a wrong value is the injector's to refuse.
    for value in ["enabled", "disabled", "yes"] {
        let outcome = create(plain, json!({"llm-guard": value}))?;
        assert!(calls(&outcome, "pod.pods.llm-guard.io"), "{value}: {outcome:?}");
    }
    let outcome = create(labelled, json!({}))?;
    assert!(calls(&outcome, "namespace.pods.llm-guard.io"), "{outcome:?}");
    // Our mark is the injector's to write, also where nobody asks for a guard.
    for value in ["true", "false"] {
        let outcome = create(plain, json!({"llm-guard.io/guarded": value}))?;
        assert!(calls(&outcome, "marked.pods.llm-guard.io"), "{value}: {outcome:?}");
    }

    // Where the injector or the cluster itself would wait for it, it isn't asked.
    for namespace in [NAMESPACE, "kube-system"] {
        api.kubectl(&["label", "namespace", namespace, "llm-guard=enabled"])?;
        let mut harmless = pod("p", &json!({"llm-guard": "enabled"}));
        harmless["spec"]["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}});
        harmless["spec"]["containers"][0]["securityContext"] =
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        harmless["spec"]["serviceAccountName"] = json!("llm-guard-injector");
        if namespace == "kube-system" {
            api.kubectl(&["-n", namespace, "create", "serviceaccount", "llm-guard-injector"])?;
        }
        assert_eq!(tried(api, &["-n", namespace, "create", "--dry-run=server", "-f", "-"], &harmless)?, Ok(()), "{namespace}");
    }
    Ok(())
}

fn changed_pods(api: &Api, plain: &str) -> io::Result<()> {
    api.kubectl_with(&["-n", plain, "create", "-f", "-"], &pod("other", &Value::Null).to_string())?;
    let change = |name: &str, verb: &str, what: &str, extra: &[&str]| {
        let mut arguments = vec!["-n", plain, verb, "pod", name, what, "--overwrite"];
        arguments.extend_from_slice(extra);
        tried(api, &arguments, &Value::Null)
    };
    for (verb, what) in
        [("label", "other=b"), ("label", "llm-guardian=1"), ("annotate", "llm-guard.example/mode=hard"), ("label", "other-")]
    {
        assert_eq!(change("guarded", verb, what, &[])?, Ok(()), "{what}");
    }
    for (verb, what) in [
        ("label", "llm-guard.io/guarded-"),
        ("label", "llm-guard.io/guarded=false"),
        ("label", "llm-guard=disabled"),
        ("annotate", "llm-guard.io/mode=monitor"),
    ] {
        let outcome = change("guarded", verb, what, &[])?;
        assert!(calls(&outcome, "pods.guarded.llm-guard.io"), "{what}: {outcome:?}");
    }
    let image = |list: &str, name: &str| {
        let patch = json!({"spec": {list: [{"name": name, "image": "y"}]}}).to_string();
        tried(api, &["-n", plain, "patch", "pod", "guarded", "-p", &patch], &Value::Null)
    };
    assert_eq!((image("containers", "main")?, image("initContainers", "own")?), (Ok(()), Ok(())));
    let outcome = image("initContainers", "llm-guard")?;
    assert!(calls(&outcome, "pods.guarded.llm-guard.io"), "{outcome:?}");
    // The label comes by injection, not by hand.
    let outcome = change("other", "label", "llm-guard.io/guarded=true", &[])?;
    assert!(calls(&outcome, "pods.guarded.llm-guard.io"), "{outcome:?}");
    // The injector itself touches an annotation, and isn't asked about it. (kubectl reads the pod first, which the injector doesn't.)
    let account = "--serviceaccount=llm-guard-system:llm-guard-injector";
    api.kubectl(&["-n", plain, "create", "role", "reader", "--verb=get", "--resource=pods"])?;
    api.kubectl(&["-n", plain, "create", "rolebinding", "reader", "--role=reader", account])?;
    assert_eq!(change("guarded", "annotate", "llm-guard.io/settings=abc", &[&format!("--as={INJECTOR}")])?, Ok(()));
    let outcome = change("guarded", "annotate", "llm-guard.io/settings-", &[])?;
    assert!(calls(&outcome, "pods.guarded.llm-guard.io"), "{outcome:?}");
    Ok(())
}

fn workloads(api: &Api, plain: &str, labelled: &str) -> io::Result<()> {
    // They fail open. To see which is called, they fail closed here.
    let mut configuration = api.json(&["validatingwebhookconfiguration", "llm-guard-injector"])?;
    for entry in configuration["webhooks"].as_array_mut().into_iter().flatten() {
        entry["failurePolicy"] = json!("Fail");
    }
    // Of several that can't be reached, one is named. Those that ask who may have tests of their own.
    let entries = configuration["webhooks"].as_array_mut().into_iter();
    entries.for_each(|entries| entries.retain(|entry| !entry["name"].as_str().is_some_and(|name| name.starts_with("authority."))));
    api.kubectl_with(&["replace", "-f", "-"], &configuration.to_string())?;

    let containers = json!([{"name": "main", "image": "x"}]);
    let deployment = |metadata: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": metadata, "spec": {"containers": containers}}},
        })
    };
    let cron_job = |metadata: Value| {
        let template = json!({"metadata": metadata, "spec": {"restartPolicy": "Never", "containers": containers}});
        let spec = json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}});
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": spec})
    };
    let create = |namespace, object: &Value| tried(api, &["-n", namespace, "create", "--dry-run=server", "-f", "-"], object);

    // The API server takes a new configuration up within about a second; until then nothing is refused.
    let asking = deployment(json!({"labels": {"a": "b", "llm-guard": "enabled"}}));
    wait_until("the entry is called", Duration::from_secs(20), || {
        let outcome = create(plain, &asking).map_err(|error| error.to_string())?;
        if calls(&outcome, "labelled.workloads.llm-guard.io") { Ok(()) } else { Err(format!("{outcome:?}")) }
    })?;
    for object in [
        deployment(json!({"labels": {"a": "b"}, "annotations": {"llm-guard.io/port": "8000"}})),
        cron_job(json!({"labels": {"llm-guard": "disabled"}})),
        cron_job(json!({"annotations": {"llm-guard.io/mode": "hard"}})),
    ] {
        let outcome = create(plain, &object)?;
        assert!(calls(&outcome, "labelled.workloads.llm-guard.io"), "{object}: {outcome:?}");
    }
    for object in [deployment(json!({"labels": {"a": "b"}})), cron_job(json!({})), cron_job(Value::Null)] {
        assert_eq!(create(plain, &object)?, Ok(()), "{object}");
        let outcome = create(labelled, &object)?;
        assert!(calls(&outcome, "namespace.workloads.llm-guard.io"), "{object}: {outcome:?}");
    }
    Ok(())
}

fn permissions(api: &Api) -> io::Result<()> {
    for (question, allowed) in [
        (["get", "secrets/llm-guard-injector-signing", NAMESPACE], true),
        (["update", "secrets/llm-guard-injector-certificates", NAMESPACE], true),
        (["create", "secrets", NAMESPACE], true),
        (["get", "secrets/another", NAMESPACE], false),
        (["list", "secrets", NAMESPACE], false),
        (["delete", "secrets/llm-guard-injector-signing", NAMESPACE], false),
        (["get", "secrets/llm-guard-injector-signing", "default"], false),
        (["create", "secrets", "default"], false),
        (["patch", "mutatingwebhookconfigurations/llm-guard-injector", ""], true),
        (["watch", "validatingwebhookconfigurations/llm-guard-injector", ""], true),
        (["patch", "mutatingwebhookconfigurations/another", ""], false),
        (["create", "mutatingwebhookconfigurations", ""], false),
        (["patch", "pods", "default"], true),
        (["create", "pods", "default"], false),
        (["delete", "pods", "default"], false),
        (["get", "pods", "default"], false),
        (["create", "pods/exec", "default"], false),
        (["create", "configmaps", "default"], true),
        (["delete", "networkpolicies", "default"], true),
        (["patch", "guardpolicies/status", "default"], true),
        (["patch", "guardpolicies", "default"], false),
        (["patch", "guardexceptions/status", "default"], true),
        (["patch", "guardexceptions", "default"], false),
        (["create", "guardexceptions", "default"], false),
        (["delete", "guardexceptions", "default"], false),
        (["patch", "deployments", "default"], false),
        (["get", "nodes", ""], false),
        (["create", "events.events.k8s.io", "default"], true),
        (["create", "subjectaccessreviews.authorization.k8s.io", ""], true),
        (["lower", "guardpolicies", "default"], false),
        (["delete", "guardpolicies", "default"], false),
    ] {
        let [verb, object, namespace] = question;
        let identity = format!("--as={INJECTOR}");
        let mut arguments = vec!["auth", "can-i", verb];
        match object.split_once('/') {
            Some(("pods" | "guardpolicies" | "guardexceptions", part)) => {
                arguments.push(object.split('/').next().unwrap_or_default());
                arguments.extend(["--subresource", part]);
            }
            _ => arguments.push(object),
        }
        arguments.push(&identity);
        if !namespace.is_empty() {
            arguments.extend(["-n", namespace]);
        }
        let answer = api.try_kubectl(&arguments, "")?;
        assert_eq!(answer.printed.trim() == "yes", allowed, "{question:?}: {}{}", answer.printed, answer.said);
    }
    Ok(())
}

/// What the injector does to every entry.
fn write_authority(api: &Api) -> io::Result<()> {
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let shown = api.json(&[kind, "llm-guard-injector"])?;
        let entries = shown["webhooks"].as_array().into_iter().flatten();
        let entries: Vec<_> = entries.map(|entry| json!({"name": entry["name"], "clientConfig": {"caBundle": AUTHORITY}})).collect();
        let patch = json!({"webhooks": entries}).to_string();
        api.kubectl(&["patch", kind, "llm-guard-injector", "--field-manager=llm-guard-injector", "-p", &patch])?;
    }
    Ok(())
}

/// PEM in base64, of a certificate that isn't one: the API server looks no closer than that.
const AUTHORITY: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

fn authority_stands(api: &Api, after: &str) -> io::Result<()> {
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let shown = api.json(&[kind, "llm-guard-injector"])?;
        for entry in shown["webhooks"].as_array().into_iter().flatten() {
            assert_eq!(entry["clientConfig"]["caBundle"], AUTHORITY, "{after}: {}", entry["name"]);
        }
    }
    Ok(())
}

#[test]
fn applying_again_leaves_the_certificate_authority_where_the_injector_wrote_it() -> io::Result<()> {
    for way in [&["apply", "--server-side"][..], &["apply"]] {
        let api = Admission::start(Version::Current)?;
        let apply = || api.kubectl(&[way, &["-f", &manifest()]].concat());
        apply()?;
        write_authority(&api)?;
        authority_stands(&api, "writing")?;
        apply()?;
        authority_stands(&api, &way.join(" "))?;
    }
    Ok(())
}

#[test]
fn helm_upgrades_what_it_installed_and_leaves_the_policies_when_it_goes() -> io::Result<()> {
    let api = Admission::start(Version::Current)?;
    let helm = |arguments: &[&str]| -> io::Result<()> {
        let mut command = Command::new(program()?);
        command.args(arguments).args(["--namespace", NAMESPACE]).env("KUBECONFIG", api.kubeconfig());
        let output = command.output()?;
        if output.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr))))
        }
    };
    let chart = deploy("chart").display().to_string();
    helm(&["install", "llm-guard", &chart, "--create-namespace"])?;
    write_authority(&api)?;
    helm(&["upgrade", "llm-guard", &chart, "--set", "replicas=1,interception.legacy=true"])?;
    authority_stands(&api, "helm upgrade")?;
    assert_eq!(api.json(&["-n", NAMESPACE, "deployment", "llm-guard-injector"])?["spec"]["replicas"], 1);
    helm(&["rollback", "llm-guard", "1"])?;
    authority_stands(&api, "helm rollback")?;

    helm(&["uninstall", "llm-guard"])?;
    assert!(api.kubectl(&["get", "crd", "guardpolicies.llm-guard.io", "-o", "name"])?.contains("guardpolicies"));
    let policy = json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": "p", "namespace": "default"}});
    api.apply(&policy.to_string())?;
    // What was kept doesn't stand in the way of the next installation.
    helm(&["install", "llm-guard", &chart])?;
    assert_eq!(api.json(&["guardpolicy", "p"])?["metadata"]["name"], "p");
    Ok(())
}

#[test]
fn the_injector_gets_by_with_the_rights_that_it_has() -> io::Result<()> {
    let api = Admission::start(Version::Current)?;
    let injector = Injector::install(&api)?;

    assert_eq!(policy(&api, "good", &json!({"mode": "hard"}))?, Ok(()));
    wait_until("the policy's status says that it is accepted", Duration::from_secs(30), || {
        let shown = api.json(&["-n", "default", "guardpolicy", "good"]).map_err(|error| error.to_string())?;
        let conditions = shown["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let accepted = conditions.iter().any(|condition| condition["type"] == "Accepted" && condition["status"] == "True");
        if accepted { Ok(()) } else { Err(format!("{shown}\n{}", injector.said().unwrap_or_default())) }
    })?;
    for (spec, expected) in [
        (json!({"models": {"allow": null}}), "[] allows nothing"),
        (json!({"models": {"alow": []}}), "alow"),
        (json!({"redacton": {}}), "redacton"),
    ] {
        let refused = policy(&api, "bad", &spec)?.err().unwrap_or_default();
        assert!(refused.contains("policies.llm-guard.io") && refused.contains(expected), "{spec}: {refused}");
    }

    // A pod that asks for a guard gets one, and with it what the injector writes for it.
    let namespace = api.namespace("guarded", &[("llm-guard", "enabled")], &[])?;
    let model = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ollama"},
        "spec": {"containers": [{"name": "ollama", "image": "ollama/ollama", "ports": [{"containerPort": 11434}]}]},
    });
    namespace.apply(&model.to_string())?;
    let pod = namespace.json(&["pod", "ollama"])?;
    assert_eq!(pod["metadata"]["labels"]["llm-guard.io/guarded"], "true", "{pod}");
    wait_until("settings and network policies are there", Duration::from_secs(30), || {
        let there = |kind: &str| {
            let shown = namespace.json(&[kind, "-l", "app.kubernetes.io/managed-by=llm-guard"]).map_err(|error| error.to_string())?;
            Ok::<_, String>(shown["items"].as_array().map_or(0, Vec::len))
        };
        match (there("configmaps")?, there("networkpolicies")?) {
            (0, _) | (_, 0) => Err(injector.said().unwrap_or_default()),
            _ => Ok(()),
        }
    })?;
    let said = injector.said()?;
    assert!(!said.to_lowercase().contains("forbidden"), "{said}");
    Ok(())
}

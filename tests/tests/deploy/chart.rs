//! The chart: what its values come to, what it refuses, and that the manifest is what it says.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::Command;

use llm_guard_tests::cache;
use serde_json::{Value, json};

use crate::helm::{Objects, deploy, program, refusal, render, render_for};

const VERSION: &str = "1.29.0";
/// What is defined, in the order in which the injector prints it.
const RESOURCES: [&str; 2] = ["guardpolicies", "guardexceptions"];

fn set_of(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

fn pod(objects: &Objects) -> io::Result<&Value> {
    Ok(&objects.one("Deployment")?["spec"]["template"])
}

#[test]
fn the_manifest_is_the_chart_with_its_default_values() -> io::Result<()> {
    let rendered = Command::new(deploy("render")).env("HELM", program()?).output()?;
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    let manifest = fs::read_to_string(deploy("manifest.yaml"))?;
    assert!(String::from_utf8_lossy(&rendered.stdout) == manifest, "the chart has changed: deploy/render > deploy/manifest.yaml");
    let namespace = Objects::read(&manifest)?;
    let namespace = namespace.one("Namespace")?;
    assert_eq!(namespace["metadata"]["name"], "llm-guard-system");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    Ok(())
}

#[test]
fn an_older_cluster_is_refused_with_the_version_that_it_takes() -> io::Result<()> {
    for version in ["1.28.15", "v1.28.15-gke.1"] {
        let said = refusal(version, &[])?;
        assert!(said.contains(">=1.29.0") && said.contains("1.28.15"), "{said}");
    }
    for version in ["1.29.0", "v1.29.1-eks-a18cd3a", "v1.33.2-gke.1", "1.36.3"] {
        let output = render_for(version, &[])?;
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[test]
fn what_the_chart_doesn_t_know_is_refused_by_name() -> io::Result<()> {
    for (set, expected) in [
        ("replica=1", "replica"),
        ("image.sidecar.tga=\"1\"", "tga"),
        ("guard.resources.limit={}", "limit"),
        ("guard.resources.limits.cpus=1", "cpus"),
        ("monitoring.podmonitor={}", "podmonitor"),
        ("monitoring.from=[{\"podSelectors\":{}}]", "podSelectors"),
        ("monitoring.from=[{}]", "/monitoring/from/0"),
        ("monitoring.from=[{\"podSelector\":{},\"ipBlock\":{\"cidr\":\"10.0.0.0/8\"}}]", "/monitoring/from/0"),
        ("replicas=0", "/replicas"),
        ("replicas=\"2\"", "/replicas"),
        ("logLevel=\"trace\"", "/logLevel"),
        ("interception.legacy=\"false\"", "/interception/legacy"),
        ("podSecurity.default=\"none\"", "/podSecurity/default"),
        ("image.sidecar.digest=\"sha256:abc\"", "/image/sidecar/digest"),
        ("image.registry=\"registry.example/\"", "/image/registry"),
        ("image.injector.pullPolicy=\"always\"", "/image/injector/pullPolicy"),
        ("imagePullSecrets=[{\"name\":\"pull\"}]", "/imagePullSecrets/0"),
        ("guard.resources.limits.memory=\"lots\"", "/guard/resources/limits/memory"),
        ("modelServerImages=\"ollama/ollama\"", "/modelServerImages"),
        ("podAnnotations.number=1", "/podAnnotations/number"),
    ] {
        let said = refusal(VERSION, &[set])?;
        assert!(said.contains("don't meet the specifications of the schema") && said.contains(expected), "{set}: {said}");
    }
    Ok(())
}

#[test]
fn every_value_has_a_default_and_a_comment() -> io::Result<()> {
    let text = fs::read_to_string(deploy("chart/values.yaml"))?;
    let values: Value = serde_saphyr::from_str(&text).map_err(io::Error::other)?;
    let schema: Value = serde_json::from_str(&fs::read_to_string(deploy("chart/values.schema.json"))?)?;
    let in_schema: BTreeSet<_> = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let mut in_values: BTreeSet<_> = values.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    // Helm's own.
    in_values.insert("global");
    assert_eq!(in_values, in_schema);
    assert_eq!(schema["additionalProperties"], false);
    for paragraph in text.split("\n\n") {
        assert!(paragraph.contains('#'), "nothing is said of\n{paragraph}");
    }
    Ok(())
}

#[test]
fn the_defaults_are_those_of_the_injector_where_it_has_them() -> io::Result<()> {
    let objects = render(&[])?;
    let arguments = objects.arguments()?;
    assert_eq!(arguments[0], "serve");
    let rest: BTreeSet<_> = arguments[1..].iter().map(String::as_str).collect();
    let expected = [
        "--guard-image=llm-guard-sidecar:0.1.0",
        "--guard-pull-policy=IfNotPresent",
        "--guard-cpu-request=20m",
        "--guard-memory-request=32Mi",
        "--guard-memory-limit=512Mi",
        "--backend=nft",
        "--pod-security-default=privileged",
        "--monitoring-from={\"namespaceSelector\":{\"matchLabels\":{\"kubernetes.io/metadata.name\":\"monitoring\"}}}",
        "--log-level=info",
    ];
    assert_eq!(rest, expected.into_iter().collect());
    Ok(())
}

#[test]
fn values_reach_the_injector_as_arguments() -> io::Result<()> {
    for (set, expected) in [
        ("interception.legacy=true", "--backend=legacy"),
        ("podSecurity.default=\"restricted\"", "--pod-security-default=restricted"),
        ("minimumMode=\"soft\"", "--minimum-mode=soft"),
        ("guard.resources.limits.cpu=2", "--guard-cpu-limit=2"),
        ("guard.resources.requests.cpu=\"100m\"", "--guard-cpu-request=100m"),
        ("modelServerImages=[\"vllm/*\",\"a\"]", "--model-server-image=vllm/*"),
        ("modelServerImages=[\"it's\"]", "--model-server-image=it's"),
        ("monitoring.from=[{\"ipBlock\":{\"cidr\":\"10.9.0.0/16\"}}]", "--monitoring-from={\"ipBlock\":{\"cidr\":\"10.9.0.0/16\"}}"),
        (
            "monitoring.from=[{\"podSelector\":{\"matchLabels\":{\"a\":\"<b> & 'c'\"}}}]",
            "--monitoring-from={\"podSelector\":{\"matchLabels\":{\"a\":\"<b> & 'c'\"}}}",
        ),
        ("logLevel=\"debug\"", "--log-level=debug"),
        ("image.sidecar.pullPolicy=\"Always\"", "--guard-pull-policy=Always"),
    ] {
        let arguments = render(&[set])?.arguments()?;
        assert!(arguments.iter().any(|argument| argument == expected), "{set}: {arguments:?}");
    }
    Ok(())
}

#[test]
fn a_digest_and_a_private_registry_stand_in_both_images_and_the_pull_secrets_reach_both() -> io::Result<()> {
    let digest = format!("sha256:{:064}", 7);
    let sidecar = format!("image.sidecar.digest=\"{digest}\"");
    let objects = render(&[
        "image.registry=\"registry.example:5000/team\"",
        "image.injector.tag=\"9.9\"",
        "image.sidecar.tag=\"8.8\"",
        &sidecar,
        "imagePullSecrets=[\"one\",\"two\"]",
    ])?;
    let pod = &pod(&objects)?["spec"];
    assert_eq!(pod["containers"][0]["image"], "registry.example:5000/team/llm-guard-injector:9.9");
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "one"}, {"name": "two"}]));
    let arguments = objects.arguments()?;
    for expected in [
        format!("--guard-image=registry.example:5000/team/llm-guard-sidecar@{digest}"),
        "--guard-pull-secret=one".into(),
        "--guard-pull-secret=two".into(),
    ] {
        assert!(arguments.contains(&expected), "{expected}: {arguments:?}");
    }
    Ok(())
}

#[test]
fn more_than_one_replica_has_a_disruption_budget_and_one_has_none() -> io::Result<()> {
    let two = render(&["replicas=2"])?;
    assert_eq!(two.one("Deployment")?["spec"]["replicas"], 2);
    assert_eq!(two.one("PodDisruptionBudget")?["spec"]["maxUnavailable"], 1);
    let one = render(&["replicas=1"])?;
    assert!(one.kind("PodDisruptionBudget").is_empty());
    Ok(())
}

#[test]
fn what_the_prometheus_operator_and_grafana_need_comes_when_it_is_asked_for() -> io::Result<()> {
    let without = render(&[])?;
    assert!(without.kind("PodMonitor").is_empty() && without.kind("ConfigMap").is_empty() && without.kind("PrometheusRule").is_empty());

    let with = render(&[
        "monitoring.podMonitor={\"enabled\":true,\"labels\":{\"release\":\"stack\"},\"interval\":\"10s\"}",
        "monitoring.dashboards.enabled=true",
        "monitoring.alerts={\"enabled\":true,\"labels\":{\"release\":\"stack\"}}",
    ])?;
    let monitors = with.kind("PodMonitor");
    let [guards, injector] = monitors[..] else { panic!("{} PodMonitors", monitors.len()) };
    for monitor in [guards, injector] {
        assert_eq!(monitor["metadata"]["labels"]["release"], "stack");
        assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["interval"], "10s");
    }
    assert_eq!(guards["spec"]["namespaceSelector"], json!({"any": true}));
    assert_eq!(guards["spec"]["selector"], json!({"matchLabels": {"llm-guard.io/guarded": "true"}}));
    assert_eq!(guards["spec"]["podMetricsEndpoints"][0]["port"], "guard-metrics");
    let labels = &pod(&with)?["metadata"]["labels"];
    for (label, value) in injector["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
        assert_eq!(&labels[label], value);
    }

    let map = with.one("ConfigMap")?;
    let dashboard: Value = serde_json::from_str(map["data"]["llm-guard.json"].as_str().unwrap_or_default())?;
    let file: Value = serde_json::from_str(&fs::read_to_string(deploy("dashboards/llm-guard.json"))?)?;
    assert_eq!(dashboard, file);

    let rules: Value = serde_saphyr::from_str(&fs::read_to_string(deploy("alerts/llm-guard.yaml"))?).map_err(io::Error::other)?;
    assert_eq!(with.one("PrometheusRule")?["spec"], rules);
    Ok(())
}

#[test]
fn the_injector_s_pod_is_one_that_a_restricted_namespace_takes() -> io::Result<()> {
    let objects = render(&[])?;
    let pod = &pod(&objects)?["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let context = &pod["containers"][0]["securityContext"];
    let expected = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    assert_eq!(*context, expected);
    assert!(pod["containers"][0]["resources"]["limits"]["memory"].is_string());
    Ok(())
}

/// The entries of a webhook configuration: name, path, what happens when the injector doesn't answer.
fn entries(configuration: &Value) -> Value {
    let entries = configuration["webhooks"].as_array().into_iter().flatten();
    entries.map(|entry| json!([entry["name"], entry["clientConfig"]["service"]["path"], entry["failurePolicy"]])).collect()
}

#[test]
fn the_webhooks_are_those_that_the_injector_answers() -> io::Result<()> {
    let objects = render(&[])?;
    let mutating = objects.one("MutatingWebhookConfiguration")?;
    let validating = objects.one("ValidatingWebhookConfiguration")?;
    assert_eq!(
        entries(mutating),
        json!([
            ["namespace.pods.llm-guard.io", "/mutate/pods", "Fail"],
            ["pod.pods.llm-guard.io", "/mutate/pods", "Fail"],
            ["marked.pods.llm-guard.io", "/mutate/pods", "Fail"],
        ])
    );
    assert_eq!(
        entries(validating),
        json!([
            ["namespace.workloads.llm-guard.io", "/validate/workloads", "Ignore"],
            ["labelled.workloads.llm-guard.io", "/validate/workloads", "Ignore"],
            ["pods.guarded.llm-guard.io", "/validate/pods", "Fail"],
            ["policies.llm-guard.io", "/validate/policies", "Fail"],
            ["deletions.policies.llm-guard.io", "/validate/policies", "Fail"],
            ["exceptions.llm-guard.io", "/validate/exceptions", "Fail"],
            ["deletions.exceptions.llm-guard.io", "/validate/exceptions", "Ignore"],
            ["namespaces.llm-guard.io", "/validate/namespaces", "Ignore"],
            ["authority.workloads.llm-guard.io", "/validate/authority", "Fail"],
            ["authority.pods.llm-guard.io", "/validate/authority", "Fail"],
            ["authority.namespaces.llm-guard.io", "/validate/authority", "Fail"],
        ])
    );
    let service = objects.one("Service")?;
    for entry in [mutating, validating].into_iter().flat_map(|configuration| configuration["webhooks"].as_array().into_iter().flatten()) {
        let name = &entry["name"];
        assert!(entry["clientConfig"].get("caBundle").is_none(), "{name}: the injector writes the caBundle, and nobody else");
        assert_eq!(entry["clientConfig"]["service"]["name"], service["metadata"]["name"], "{name}");
        assert_eq!(entry["clientConfig"]["service"]["namespace"], service["metadata"]["namespace"], "{name}");
        assert_eq!(entry["clientConfig"]["service"]["port"], service["spec"]["ports"][0]["port"], "{name}");
        assert_eq!(entry["matchPolicy"], "Equivalent", "{name}");
        assert_eq!(entry["timeoutSeconds"], 10, "{name}");
        for rule in entry["rules"].as_array().into_iter().flatten() {
            let operations = set_of(&rule["operations"]);
            let deletes = operations.contains("DELETE");
            assert!(!operations.contains("*"), "{name}");
            if deletes {
                // The end of an exception is recorded.
                let is_kept = entry["failurePolicy"] == "Fail" || rule["resources"] != json!(["guardexceptions"]);
                assert_eq!(is_kept, name == "deletions.policies.llm-guard.io", "{name}: nothing else is ever kept from being deleted");
                assert!(!is_kept || rule["resources"] == json!(["guardpolicies"]), "{rule}");
            } else {
                assert!(!name.as_str().is_some_and(|name| name.starts_with("deletions.")), "{name}");
            }
        }
        // Policies, exceptions and namespaces' keys are judged everywhere; pods and workloads not where the injector or the cluster itself would wait for it.
        let everywhere = [
            "policies.llm-guard.io",
            "deletions.policies.llm-guard.io",
            "exceptions.llm-guard.io",
            "deletions.exceptions.llm-guard.io",
            "namespaces.llm-guard.io",
        ];
        if !everywhere.iter().any(|everywhere| name == everywhere) {
            let left_out = entry["namespaceSelector"]["matchExpressions"].as_array().into_iter().flatten();
            let left_out = left_out.filter(|expression| expression["operator"] == "NotIn").map(|expression| set_of(&expression["values"]));
            let expected: BTreeSet<String> = ["kube-system", "llm-guard-system"].map(Into::into).into();
            assert_eq!(left_out.collect::<Vec<_>>(), [expected], "{name}");
        }
    }
    for entry in mutating["webhooks"].as_array().into_iter().flatten() {
        assert_eq!((&entry["reinvocationPolicy"], &entry["sideEffects"]), (&json!("IfNeeded"), &json!("NoneOnDryRun")));
    }
    Ok(())
}

#[test]
fn the_injector_may_do_nothing_with_a_wildcard_and_reads_no_secret_but_its_own() -> io::Result<()> {
    let objects = render(&[])?;
    let rules = |kind: &str| -> io::Result<Vec<Value>> { Ok(objects.injectors(kind)?["rules"].as_array().cloned().unwrap_or_default()) };
    for rule in rules("ClusterRole")?.iter().chain(&rules("Role")?) {
        for part in ["apiGroups", "resources", "verbs"] {
            assert!(!set_of(&rule[part]).iter().any(|item| item.contains('*')), "{rule}");
        }
        assert!(
            set_of(&rule["verbs"]).is_disjoint(&["escalate", "bind", "impersonate", "deletecollection"].map(Into::into).into()),
            "{rule}"
        );
    }
    for rule in rules("ClusterRole")? {
        assert!(!set_of(&rule["resources"]).contains("secrets"), "{rule}");
        let configurations = set_of(&rule["apiGroups"]).contains("admissionregistration.k8s.io");
        assert_eq!(configurations, rule["resourceNames"] == json!(["llm-guard-injector"]), "{rule}");
    }
    for rule in rules("Role")? {
        assert_eq!(set_of(&rule["resources"]), ["secrets".to_owned()].into(), "{rule}");
        assert!(rule["resourceNames"].is_array() || rule["verbs"] == json!(["create"]), "{rule}");
    }
    Ok(())
}

#[test]
fn the_verbs_are_given_one_by_one_and_only_a_stop_comes_with_a_namespace() -> io::Result<()> {
    let objects = render(&[])?;
    let mut roles: Vec<Value> = Vec::new();
    for role in objects.kind("ClusterRole").into_iter().filter(|role| role["metadata"]["name"] != "llm-guard-injector") {
        let labels = role["metadata"]["labels"].as_object().into_iter().flatten();
        let to: Vec<_> = labels.filter_map(|(label, _)| label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-")).collect();
        assert_eq!((&role["rules"][0]["apiGroups"], &role["rules"][1]), (&json!(["llm-guard.io"]), &Value::Null), "{role}");
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        let of_exceptions = ["llm-guard-break-glass", "llm-guard-exception-viewer"].contains(&name);
        let resource = if of_exceptions { "guardexceptions" } else { "guardpolicies" };
        assert_eq!(role["rules"][0]["resources"], json!([resource]), "{role}");
        roles.push(json!([name, to, role["rules"][0]["verbs"]]));
    }
    assert_eq!(
        json!(roles),
        json!([
            ["llm-guard-break-glass", [], ["get", "list", "watch", "create", "update", "patch", "delete"]],
            ["llm-guard-exception-viewer", ["view"], ["get", "list", "watch"]],
            ["llm-guard-exempt", [], ["exempt"]],
            ["llm-guard-lower", [], ["lower"]],
            ["llm-guard-policy-editor", ["edit"], ["create", "update", "patch", "delete", "deletecollection"]],
            ["llm-guard-policy-viewer", ["view"], ["get", "list", "watch"]],
            ["llm-guard-stop", ["admin"], ["stop"]],
        ])
    );
    // To break the glass is given to nobody by the chart.
    for binding in objects.kind("ClusterRoleBinding").into_iter().chain(objects.kind("RoleBinding")) {
        assert_eq!(binding["roleRef"]["name"], "llm-guard-injector", "{binding}");
    }
    Ok(())
}

#[test]
fn uninstalling_keeps_the_definitions_and_so_the_policies_and_exceptions() -> io::Result<()> {
    let objects = render(&[])?;
    let rendered = objects.kind("CustomResourceDefinition");
    assert_eq!(rendered.len(), RESOURCES.len());
    for resource in RESOURCES {
        let name = format!("{resource}.llm-guard.io");
        let Some(rendered) = rendered.iter().find(|rendered| rendered["metadata"]["name"] == name) else { panic!("{name}") };
        assert_eq!(rendered["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        let file = Objects::of_file(&format!("chart/files/{resource}.yaml"))?;
        assert_eq!(rendered["spec"], file.one("CustomResourceDefinition")?["spec"]);
    }
    Ok(())
}

#[test]
fn the_definitions_are_those_that_the_injector_prints() -> io::Result<()> {
    let print = |arguments: &[&str]| -> io::Result<String> {
        let printed = Command::new(cache::injector()?).arg("crd").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&printed.stdout).into_owned())
    };
    let mut files = Vec::new();
    for resource in RESOURCES {
        let file = fs::read_to_string(deploy(&format!("chart/files/{resource}.yaml")))?;
        let differs =
            format!("llm-guard-injector crd {resource} > deploy/chart/files/{resource}.yaml && deploy/render > deploy/manifest.yaml");
        assert!(print(&[resource])? == file, "it has changed: {differs}");
        files.push(file);
    }
    assert_eq!(print(&[])?, files.join("---\n"));
    Ok(())
}

#[test]
fn nothing_that_is_installed_names_a_registry() -> io::Result<()> {
    for object in render(&[])?.0 {
        let text = object.to_string();
        for host in ["ghcr.io", "docker.io", "quay.io", "gcr.io", "registry.k8s.io"] {
            assert!(!text.contains(host), "{} {}: {host}", object["kind"], object["metadata"]["name"]);
        }
    }
    Ok(())
}

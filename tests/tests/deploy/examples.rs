//! The examples and the alert rules, read by those who will read them: the guard and Prometheus.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use llm_guard_tests::cluster::{Admission, Version, wait_until};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::prometheus::Prometheus;
use serde_json::{Value, json};

use crate::helm::{Objects, deploy, render};

#[test]
fn the_policies_of_the_examples_are_ones_that_the_guard_takes() -> io::Result<()> {
    let example = Objects::of_file("examples/open-webui/open-webui.yaml")?;
    let policies = example.kind("GuardPolicy");
    assert!(!policies.is_empty());
    for policy in policies {
        Guard::before("http://127.0.0.1:1", "examples").policy(policy.to_string()).start()?.stop()?;
    }
    Ok(())
}

#[test]
fn the_example_s_clients_and_services_find_each_other() -> io::Result<()> {
    let example = Objects::of_file("examples/open-webui/open-webui.yaml")?;
    for service in example.kind("Service") {
        let name = &service["metadata"]["name"];
        let served = example.kind("Deployment").into_iter().filter(|deployment| {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let mut selector = service["spec"]["selector"].as_object().into_iter().flatten();
            selector.all(|(label, value)| labels[label] == *value)
        });
        let served: Vec<_> = served.collect();
        assert_eq!(served.len(), 1, "{name}");
        let container = &served[0]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["ports"][0]["name"], service["spec"]["ports"][0]["targetPort"], "{name}");
    }
    let deployments = example.kind("Deployment");
    let of = |name: &str| deployments.iter().find(|deployment| deployment["metadata"]["name"] == name);
    let variables = of("open-webui").map(|deployment| deployment["spec"]["template"]["spec"]["containers"][0]["env"].clone());
    assert_eq!(variables.unwrap_or_default()[0], json!({"name": "OLLAMA_BASE_URL", "value": "http://ollama:11434"}));
    let port = of("ollama").map(|deployment| deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"].clone());
    assert_eq!(port, Some(json!(11434)));
    Ok(())
}

#[test]
fn whoever_the_example_lets_break_the_glass_may_make_and_end_exceptions_and_nothing_else() -> io::Result<()> {
    let api = Admission::start(Version::Current)?;
    let roles = render(&[])?;
    let role = roles.kind("ClusterRole").into_iter().find(|role| role["metadata"]["name"] == "llm-guard-break-glass");
    api.apply(&role.map(ToString::to_string).unwrap_or_default())?;
    let definitions = roles.kind("CustomResourceDefinition").into_iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n");
    api.apply(&definitions)?;
    api.kubectl(&["wait", "--for=condition=Established", "crd/guardexceptions.llm-guard.io", "crd/guardpolicies.llm-guard.io"])?;
    api.kubectl(&["create", "namespace", "llm"])?;
    api.kubectl(&["apply", "--validate=strict", "-f", &deploy("examples/break-glass.yaml").display().to_string()])?;
    let may = |verb: &str, what: &str, group: &str, namespace: &str| -> io::Result<bool> {
        let (user, group) = ("--as=jane", format!("--as-group={group}"));
        Ok(api.try_kubectl(&["auth", "can-i", verb, what, "-n", namespace, user, &group], "")?.printed.trim() == "yes")
    };
    let exceptions = "guardexceptions.llm-guard.io";
    wait_until("the binding counts", Duration::from_secs(10), || match may("create", exceptions, "on-call", "llm") {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    for (verb, what, group, namespace, allowed) in [
        ("delete", exceptions, "on-call", "llm", true),
        ("patch", exceptions, "on-call", "llm", true),
        ("list", exceptions, "on-call", "llm", true),
        ("create", exceptions, "on-call", "default", false),
        ("create", exceptions, "others", "llm", false),
        ("lower", "guardpolicies.llm-guard.io", "on-call", "llm", false),
        ("get", "guardpolicies.llm-guard.io", "on-call", "llm", false),
    ] {
        assert_eq!(may(verb, what, group, namespace)?, allowed, "{verb} {what} {group} {namespace}");
    }
    Ok(())
}

/// What Kubernetes' discovery would tell of one port of a pod. (Debian's Prometheus is built without it.)
fn discovered(port: &str, phase: &str, address: &str) -> Value {
    json!({"targets": [address], "labels": {
        "__meta_kubernetes_namespace": "llm",
        "__meta_kubernetes_pod_name": format!("pod-with-{port}"),
        "__meta_kubernetes_pod_container_port_name": port,
        "__meta_kubernetes_pod_container_init": "true",
        "__meta_kubernetes_pod_phase": phase,
    }})
}

#[test]
fn the_scrape_jobs_read_guards_and_injectors_and_nothing_else_and_say_of_which_pod() -> io::Result<()> {
    let text = fs::read_to_string(deploy("examples/prometheus.yaml"))?;
    let mut config: Value = serde_saphyr::from_str(&text).map_err(io::Error::other)?;
    for job in config["scrape_configs"].as_array_mut().into_iter().flatten() {
        let Some(job) = job.as_object_mut() else { continue };
        let discovery = job.remove("kubernetes_sd_configs").unwrap_or_default();
        assert_eq!(discovery[0]["role"], "pod");
        let seen = [
            discovered("guard-metrics", "Running", "127.0.0.1:1"),
            discovered("http", "Running", "127.0.0.1:2"),
            discovered("metrics", "Running", "127.0.0.1:3"),
            discovered("guard-metrics", "Succeeded", "127.0.0.1:4"),
        ];
        job.insert("static_configs".into(), json!(seen));
    }
    let prometheus = Prometheus::start_with(&config)?;
    let targets = prometheus.targets(2)?;
    let found: Vec<_> = targets.iter().map(|labels| [&labels["job"], &labels["instance"], &labels["namespace"], &labels["pod"]]).collect();
    assert_eq!(
        json!(found),
        json!([
            ["llm-guard", "127.0.0.1:1", "llm", "pod-with-guard-metrics"],
            ["llm-guard-injector", "127.0.0.1:3", "llm", "pod-with-metrics"]
        ])
    );
    Ok(())
}

#[test]
fn prometheus_takes_the_alert_rules() -> io::Result<()> {
    let checked = Command::new("promtool").args(["check", "rules", "--lint-fatal"]).arg(deploy("alerts/llm-guard.yaml")).output()?;
    assert!(checked.status.success(), "{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    Ok(())
}

#[test]
fn the_admission_policy_of_the_examples_stops_every_ollama_without_the_label_and_nothing_else() -> io::Result<()> {
    let api = Admission::start(Version::Current)?;
    let path = deploy("examples/require-the-label/validating-admission-policy.yaml").display().to_string();
    api.kubectl(&["apply", "--validate=strict", "-f", &path])?;
    let (plain, labelled) = (api.namespace("plain", &[], &[])?, api.namespace("labelled", &[("llm-guard", "enabled")], &[])?);
    let pod = |label: Option<&str>, container: &Value| {
        let mut container = container.clone();
        container["name"] = json!("one");
        json!({"metadata": {"labels": {"app": "a", "llm-guard": label}}, "spec": {"restartPolicy": "Never", "containers": [container]}})
    };
    let of = |kind: &str, mut pod: Value| {
        let metadata = json!({"generateName": "of-"});
        let selector = json!({"matchLabels": {"app": "a"}});
        match kind {
            "Pod" => {
                pod["apiVersion"] = json!("v1");
                pod["kind"] = json!(kind);
                pod["metadata"]["generateName"] = json!("of-");
                pod
            }
            "CronJob" => {
                let spec = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pod}}});
                json!({"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": spec})
            }
            "Job" => json!({"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": {"template": pod}}),
            _ => {
                pod["spec"]["restartPolicy"] = json!("Always");
                json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": {"selector": selector, "template": pod}})
            }
        }
    };
    let create = |namespace: &str, object: &Value| -> io::Result<Option<String>> {
        let ended = api.try_kubectl(&["-n", namespace, "create", "--dry-run=server", "-f", "-"], &object.to_string())?;
        Ok((!ended.status.success()).then_some(ended.said))
    };
    let ollama = json!({"image": "registry.example/ollama/ollama:0.17.4"});
    // A policy is taken up within a second or so.
    wait_until("the policy holds", Duration::from_secs(20), || {
        let refused = create(plain.name(), &of("Pod", pod(None, &ollama))).map_err(|error| error.to_string())?;
        if refused.is_some() { Ok(()) } else { Err("an Ollama got in".into()) }
    })?;
    let port = json!({"image": "some/server", "ports": [{"containerPort": 11434}]});
    let stopped = |namespace: &str, label: Option<&str>, container: &Value| -> io::Result<Vec<bool>> {
        ["Pod", "Deployment", "Job", "CronJob"]
            .into_iter()
            .map(|kind| {
                let said = create(namespace, &of(kind, pod(label, container)))?;
                assert!(said.as_ref().is_none_or(|said| said.contains("this runs Ollama without a guard")), "{kind}: {said:?}");
                Ok(said.is_some())
            })
            .collect()
    };
    for (namespace, label, container, expected) in [
        (&plain, None, &ollama, true),
        (&plain, None, &port, true),
        (&plain, Some("disabled"), &ollama, true),
        (&plain, Some("enabled"), &ollama, false),
        (&plain, None, &json!({"image": "nginx"}), false),
        (&plain, None, &json!({"image": "ollama-exporter:1"}), false),
        (&labelled, None, &ollama, false),
        (&labelled, Some("disabled"), &ollama, true),
    ] {
        assert_eq!(stopped(namespace.name(), label, container)?, [expected; 4], "{} {label:?} {container}", namespace.name());
    }
    Ok(())
}

#[test]
fn the_other_engines_examples_ask_for_the_same_label() -> io::Result<()> {
    let gatekeeper = Objects::of_file("examples/require-the-label/gatekeeper.yaml")?;
    let template = gatekeeper.one("ConstraintTemplate")?;
    // Gatekeeper wants the template to be called as the kind that it makes, in small letters.
    let kind = template["spec"]["crd"]["spec"]["names"]["kind"].as_str().unwrap_or_default();
    assert_eq!(template["metadata"]["name"], kind.to_lowercase());
    let excluded = &gatekeeper.one(kind)?["spec"]["match"]["excludedNamespaces"];
    assert_eq!(*excluded, json!(["kube-system", "llm-guard-system"]));
    let rego = template["spec"]["targets"][0]["rego"].as_str().unwrap_or_default();
    assert!(
        rego.contains("labels[\"llm-guard\"] == \"enabled\"") && rego.starts_with(&format!("package {}", kind.to_lowercase())),
        "{rego}"
    );

    let kyverno = Objects::of_file("examples/require-the-label/kyverno.yaml")?;
    let rule = &kyverno.one("ClusterPolicy")?["spec"]["rules"][0];
    assert_eq!(rule["validate"]["pattern"]["metadata"]["labels"], json!({"llm-guard": "enabled"}));
    assert_eq!(rule["exclude"]["any"][1]["resources"]["namespaceSelector"]["matchLabels"], json!({"llm-guard": "enabled"}));
    Ok(())
}

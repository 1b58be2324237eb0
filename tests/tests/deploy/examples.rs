//! The examples and the alert rules, read by those who will read them: the guard and Prometheus.

use std::fs;
use std::io;
use std::process::Command;

use llm_guard_tests::guard::Guard;
use llm_guard_tests::prometheus::Prometheus;
use serde_json::{Value, json};

use crate::helm::{Objects, deploy};

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
    let targets = prometheus.targets()?;
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

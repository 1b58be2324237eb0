//! The rules, one by one.

use serde_json::json;

use super::*;

/// A pod with one container that declares the port.
fn pod() -> Value {
    json!({
        "metadata": {"labels": {"app": "ollama"}},
        "spec": {"containers": [{"name": "ollama", "image": "ollama/ollama:0.17.4", "ports": [{"containerPort": 11434}]}]}
    })
}

/// The pod with a value somewhere in it.
fn with(pointer: &str, value: Value) -> Value {
    let mut pod = pod();
    put(&mut pod, pointer, value);
    pod
}

fn put(document: &mut Value, pointer: &str, value: Value) {
    let mut at = document;
    for key in pointer.split('/').skip(1) {
        let key = key.replace("~1", "/");
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key.as_str()],
        };
    }
    *at = value;
}

fn annotated(pairs: &[(&str, &str)]) -> Value {
    with("/metadata/annotations", json!(map(pairs)))
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    pod["spec"][list].as_array().into_iter().flatten().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn arguments(plan: &Plan) -> Vec<String> {
    let guard = plan.pod()["spec"]["initContainers"].as_array().unwrap().iter().find(|one| one["name"] == "llm-guard").unwrap();
    serde_json::from_value(guard["args"].clone()).unwrap()
}

fn values(plan: &Plan, flag: &str) -> Vec<String> {
    arguments(plan).windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].clone()).collect()
}

fn warned(plan: &Plan, part: &str) -> bool {
    plan.warnings.iter().any(|warning| warning.to_string().contains(part))
}

fn services(specs: &[Value]) -> Vec<Service> {
    let service = |spec: &Value| serde_json::from_value(json!({"metadata": {"name": "api"}, "spec": spec})).unwrap();
    specs.iter().map(service).collect()
}

// === who is guarded ===

#[test]
fn in_a_labelled_namespace_a_model_server_is_guarded_by_any_of_its_signs() {
    let bare = |container: Value| json!({"metadata": {"labels": {"app": "m"}}, "spec": {"containers": [container]}});
    let mut s = surroundings();
    for container in [
        json!({"name": "m", "ports": [{"containerPort": 11434}]}),
        json!({"name": "m", "livenessProbe": {"httpGet": {"port": 11434}}}),
        json!({"name": "m", "readinessProbe": {"tcpSocket": {"port": "api"}}, "ports": [{"name": "api", "containerPort": 11434}]}),
        json!({"name": "m", "env": [{"name": "OLLAMA_HOST", "value": "0.0.0.0"}]}),
        json!({"name": "m", "image": "registry.example/ollama/ollama@sha256:00"}),
        json!({"name": "m", "command": ["/bin/ollama", "serve"]}),
    ] {
        assert!(matches!(plan(&bare(container.clone()), &s), Outcome::Guard(_)), "{container}");
    }
    for container in [
        json!({"name": "m", "ports": [{"containerPort": 8080}]}),
        json!({"name": "m", "ports": [{"containerPort": 11434, "protocol": "UDP"}]}),
        json!({"name": "m", "livenessProbe": {"httpGet": {"port": 11434, "host": "10.0.0.1"}}}),
        json!({"name": "m", "env": [{"name": "OLLAMA_HOST", "value": "http://ollama:11434"}]}),
        json!({"name": "m", "image": "example/ollama-webui"}),
    ] {
        assert!(matches!(plan(&bare(container.clone()), &s), Outcome::Untouched(Untouched::NoModel)), "{container}");
    }
    s.services = services(&[json!({"selector": {"app": "m"}, "ports": [{"port": 80, "targetPort": 11434}]})]);
    assert!(matches!(plan(&bare(json!({"name": "m"})), &s), Outcome::Guard(_)));
}

#[test]
fn labels_decide_and_wrong_ones_are_refused() {
    let mut s = surroundings();
    let labelled = |value: &str| with("/metadata/labels/llm-guard", json!(value));
    assert!(matches!(plan(&labelled("disabled"), &s), Outcome::Untouched(Untouched::Disabled)));
    assert!(refused(&labelled("on"), &s)[0].starts_with("metadata.labels[llm-guard]: 'on'"));
    s.namespace.annotations = map(&[("llm-guard.io/minimum-mode", "soft")]);
    assert!(refused(&labelled("disabled"), &s)[0].contains("minimum-mode: soft"));
    s.namespace.annotations = BTreeMap::new();
    s.namespace.labels = BTreeMap::new();
    assert!(matches!(plan(&pod(), &s), Outcome::Untouched(Untouched::Unlabelled)));
    assert!(matches!(plan(&labelled("enabled"), &s), Outcome::Guard(_)));
    s.namespace.labels = map(&[("llm-guard", "yes")]);
    let refusals = refused(&json!({"metadata": {}, "spec": {"containers": [{"name": "web"}]}}), &s);
    assert!(refusals[0].contains("'yes'"), "{refusals:?}");
}

#[test]
fn an_exempt_pod_that_no_floor_would_guard_stays_exempt() {
    let mut s = surroundings();
    s.namespace.annotations = map(&[("llm-guard.io/minimum-mode", "hard")]);
    let agent = json!({"metadata": {"labels": {"llm-guard": "disabled"}}, "spec": {"containers": [{"name": "agent"}]}});
    assert!(matches!(plan(&agent, &s), Outcome::Untouched(Untouched::Disabled)));
}

#[test]
fn an_exempt_pod_that_bears_our_marks_is_refused_since_nothing_writes_them_anew() {
    let mut forged = planned(&pod(), &surroundings()).pod().clone();
    put(&mut forged, "/metadata/labels/llm-guard", json!("disabled"));
    let refusals = refused(&forged, &surroundings());
    let fields: Vec<&str> = refusals.iter().filter_map(|refusal| refusal.split(": ").next()).collect();
    let marks = ["labels[llm-guard.io/guarded]", "labels[llm-guard.io/workload]", "annotations[llm-guard.io/settings]"];
    assert_eq!(fields, marks.map(|mark| format!("metadata.{mark}")), "{refusals:?}");
}

#[test]
fn a_mistyped_key_is_refused_even_where_nothing_would_be_guarded() {
    let pod = json!({"metadata": {"annotations": {"llm-guard.io/prot": "8000"}}, "spec": {"containers": [{"name": "vllm", "image": "x"}]}});
    assert!(refused(&pod, &surroundings())[0].contains("llm-guard.io/port"));
}

#[test]
fn a_wrong_key_of_the_namespace_stops_what_it_would_guard() {
    let mut s = surroundings();
    s.namespace.annotations = map(&[("llm-guard.io/minimum_mode", "hard")]);
    assert!(refused(&pod(), &s)[0].contains("llm-guard.io/minimum-mode"));
    let web = json!({"metadata": {}, "spec": {"containers": [{"name": "web"}]}});
    assert!(matches!(plan(&web, &s), Outcome::Untouched(_)));
}

// === what stands in the way ===

#[test]
fn whoever_could_step_around_is_refused_with_the_field() {
    let container = "/spec/containers/0/securityContext";
    for (pointer, value, field) in [
        ("/spec/hostNetwork", json!(true), "spec.hostNetwork"),
        ("/spec/hostPID", json!(true), "spec.hostPID"),
        ("/spec/os", json!({"name": "windows"}), "spec.os.name"),
        ("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"}), "spec.nodeSelector[kubernetes.io/os]"),
        ("/spec/securityContext", json!({"runAsUser": 11434}), "spec.securityContext.runAsUser"),
        (container, json!({"privileged": true}), "spec.containers[0].securityContext.privileged"),
        (container, json!({"runAsUser": 11434}), "spec.containers[0].securityContext.runAsUser"),
        (container, json!({"procMount": "Unmasked"}), "spec.containers[0].securityContext.procMount"),
        (container, json!({"allowPrivilegeEscalation": true}), "spec.containers[0].securityContext.allowPrivilegeEscalation"),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 11434}, {"containerPort": 15434}]),
            "spec.containers[0].ports[1].containerPort",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 15435}, {"containerPort": 11434}]),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "llm-guard-run", "mountPath": "/x"}]),
            "spec.containers[0].volumeMounts[0].name",
        ),
        ("/spec/volumes", json!([{"name": "a"}, {"name": "llm-guard-run"}]), "spec.volumes[1].name"),
        ("/spec/initContainers", json!([{"name": "llm-guard", "args": ["run", "--in-pod"]}]), "spec.initContainers[0].name"),
        ("/spec/initContainers", json!([{"name": "llm-guard-x"}]), "spec.initContainers[0].name"),
        ("/spec/containers/0/livenessProbe", json!({"grpc": {"port": 11434}}), "spec.containers[0].livenessProbe.grpc"),
        (
            "/spec/containers/0/livenessProbe",
            json!({"httpGet": {"port": 11434, "scheme": "HTTPS"}}),
            "spec.containers[0].livenessProbe.httpGet.scheme",
        ),
        ("/metadata/labels/llm-guard.io~1guarded", json!("true"), "metadata.labels[llm-guard.io/guarded]"),
        ("/spec/containers/0/env", json!([{"name": "OLLAMA_HOST", "value": ":8000"}]), "spec.containers[0].env[0].value"),
    ] {
        let refusals = refused(&with(pointer, value.clone()), &surroundings());
        assert!(refusals.len() == 1 && refusals[0].starts_with(&format!("{field}: ")), "{pointer} {value}: {refusals:?}");
    }
}

#[test]
fn each_capability_that_leads_around_is_refused_by_name() {
    for capability in
        ["NET_ADMIN", "SETUID", "SETGID", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF", "DAC_READ_SEARCH", "SYS_RAWIO", "ALL"]
    {
        for spelling in [capability.to_owned(), format!("CAP_{capability}"), capability.to_lowercase()] {
            let pod = with("/spec/containers/0/securityContext", json!({"capabilities": {"add": ["CHOWN", spelling]}}));
            let refusals = refused(&pod, &surroundings());
            let field = "spec.containers[0].securityContext.capabilities.add[1]: ";
            assert!(refusals.len() == 1 && refusals[0].starts_with(field) && refusals[0].contains(capability), "{spelling}: {refusals:?}");
        }
    }
    let pod = with("/spec/containers/0/securityContext", json!({"capabilities": {"add": ["SYS_NICE", "IPC_LOCK"]}}));
    assert_eq!(refused(&pod, &surroundings()), [""; 0]);
}

#[test]
fn what_of_the_node_leads_around_is_refused_by_its_path() {
    let mounted = |path: &str| with("/spec/volumes", json!([{"name": "a"}, {"name": "b", "hostPath": {"path": path}}]));
    for path in [
        "/",
        "//",
        "/.",
        "/run",
        "/var/run/",
        "/var/run/docker.sock",
        "/run//containerd/containerd.sock",
        "/run/k3s/containerd",
        "/run/crio/crio.sock",
        "/var",
        "/var/lib/kubelet/pods",
        "/var/lib/../lib/kubelet",
        "/var/lib/containerd/io.containerd.runtime.v2.task",
        "/proc",
        "/proc/sys/kernel",
        "/etc",
        "/etc/kubernetes/manifests",
    ] {
        let refusals = refused(&mounted(path), &surroundings());
        assert!(refusals.len() == 1 && refusals[0].starts_with("spec.volumes[1].hostPath.path: "), "{path}: {refusals:?}");
    }
    for path in
        ["/models", "/dev/shm", "/dev/dri", "/run/nvidia/driver", "/usr/local/cuda", "/var/lib/models", "/etc/localtime", "/process"]
    {
        assert_eq!(refused(&mounted(path), &surroundings()), [""; 0], "{path}");
    }
}

#[test]
fn all_that_stands_in_the_way_is_said_at_once() {
    let mut pod = with("/spec/hostNetwork", json!(true));
    put(&mut pod, "/spec/containers/0/securityContext", json!({"privileged": true, "runAsUser": 11434}));
    put(&mut pod, "/metadata/annotations", json!({"llm-guard.io/moed": "hard"}));
    assert_eq!(refused(&pod, &surroundings()).len(), 4);
}

#[test]
fn what_can_not_be_read_is_refused() {
    for pod in
        [json!("text"), json!({"spec": {"containers": "x"}}), json!({"spec": {"containers": [{"securityContext": {"privileged": "yes"}}]}})]
    {
        assert_eq!(refused(&pod, &surroundings()).len(), 1, "{pod}");
    }
}

#[test]
fn both_ports_are_said_where_they_differ() {
    let refusals = refused(&with("/spec/containers/0/env", json!([{"name": "OLLAMA_HOST", "value": "0.0.0.0:8000"}])), &surroundings());
    assert!(refusals[0].contains("8000") && refusals[0].contains("11434"), "{refusals:?}");
    let mut client = with("/spec/containers/0/env", json!([{"name": "OLLAMA_HOST", "value": "http://elsewhere:8000"}]));
    put(&mut client, "/spec/containers/0/image", json!("example/agent"));
    assert_eq!(refused(&client, &surroundings()), [""; 0]);
}

#[test]
fn a_port_that_nothing_shows_is_asked_for() {
    let pod = json!({
        "metadata": {"labels": {"llm-guard": "enabled"}},
        "spec": {"containers": [{"name": "vllm", "image": "vllm/vllm-openai", "ports": [{"containerPort": 8000}]}]}
    });
    let refusals = refused(&pod, &surroundings());
    assert!(refusals.len() == 1 && refusals[0].contains("8000") && refusals[0].contains("llm-guard.io/port"), "{refusals:?}");
}

#[test]
fn a_request_above_its_limit_is_refused_by_its_annotation() {
    let refusals = refused(&annotated(&[("llm-guard.io/resources-memory-request", "1Gi")]), &surroundings());
    assert!(refusals[0].starts_with("metadata.annotations[llm-guard.io/resources-memory-request]: "), "{refusals:?}");
}

#[test]
fn a_port_is_guarded_only_if_the_model_listens_there() {
    let s = surroundings();
    let port = |value: &str| annotated(&[("llm-guard.io/port", value)]);
    // An Ollama on its default port, and another one annotated.
    let refusals = refused(
        &{
            let mut pod = port("8000");
            put(&mut pod, "/spec/containers/0/ports", json!([{"containerPort": 8000}, {"containerPort": 11434}]));
            pod
        },
        &s,
    );
    assert!(refusals.len() == 1 && refusals[0].starts_with("spec.containers[0].env: ") && refusals[0].contains("8000"), "{refusals:?}");
    // A mistyped port.
    let mut typo = port("8001");
    put(&mut typo, "/spec/containers", json!([{"name": "m", "image": "x/y", "ports": [{"containerPort": 8000}]}]));
    let refusals = refused(&typo, &s);
    assert!(refusals.len() == 1 && refusals[0].contains("8001") && refusals[0].contains("8000"), "{refusals:?}");
    // A second model server beside the one that is guarded.
    let vllm = json!({"name": "vllm", "image": "vllm/vllm-openai", "ports": [{"containerPort": 8000}]});
    let mut both = pod();
    both["spec"]["containers"].as_array_mut().unwrap().push(vllm);
    let refusals = refused(&both, &s);
    assert!(refusals.len() == 1 && refusals[0].starts_with("spec.containers[1].ports: ") && refusals[0].contains("8000"), "{refusals:?}");
    put(&mut both, "/metadata/annotations", json!({"llm-guard.io/open-ports": "8000"}));
    assert_eq!(refused(&both, &s), [""; 0]);
    // The pod's own name as host.
    let named = json!([{"name": "OLLAMA_HOST", "value": "ollama:9999"}]);
    let mut pod = with("/spec/containers/0/env", named);
    let refusals = refused(&pod, &s);
    assert!(refusals.len() == 1 && refusals[0].contains("9999"), "{refusals:?}");
    // It serves by its other name too, and behind flags.
    for words in [json!(["start"]), json!(["--verbose", "serve"]), json!(["$(COMMAND)"])] {
        put(&mut pod, "/spec/containers/0/args", words.clone());
        assert_eq!(refused(&pod, &s).len(), 1, "{words}");
    }
    for words in [json!(["pull", "x"]), json!(["--verbose", "run", "x"]), json!(["ls"])] {
        put(&mut pod, "/spec/containers/0/args", words.clone());
        assert_eq!(refused(&pod, &s), [""; 0], "{words}");
    }
}

#[test]
fn under_a_floor_no_model_servers_port_is_left_open_by_annotation() {
    let vllm = json!({"name": "vllm", "image": "vllm/vllm-openai", "ports": [{"containerPort": 8000}]});
    let mut beside = annotated(&[("llm-guard.io/open-ports", "8000")]);
    beside["spec"]["containers"].as_array_mut().unwrap().push(vllm);
    // An Ollama on its default port, and the guard before a port on which nothing listens.
    let mut elsewhere = annotated(&[("llm-guard.io/port", "8000"), ("llm-guard.io/open-ports", "11434")]);
    put(&mut elsewhere, "/spec/containers/0/ports", json!([{"containerPort": 8000}]));
    let mut s = surroundings();
    for pod in [&beside, &elsewhere] {
        assert_eq!(refused(pod, &s), [""; 0]);
    }
    s.namespace.annotations = map(&[("llm-guard.io/minimum-mode", "soft")]);
    for pod in [&beside, &elsewhere] {
        let refusals = refused(pod, &s);
        let field = "metadata.annotations[llm-guard.io/open-ports]: ";
        assert!(refusals.len() == 1 && refusals[0].starts_with(field) && refusals[0].contains("minimum-mode: soft"), "{refusals:?}");
    }
    let other = annotated(&[("llm-guard.io/open-ports", "9000")]);
    assert_eq!(refused(&other, &s), [""; 0]);
}

#[test]
fn what_a_server_is_told_where_nobody_can_read_it_is_written_out() {
    let s = surroundings();
    let elsewhere = json!({"configMapKeyRef": {"name": "c", "key": "k"}});
    let host = |container: &Value| {
        let env = container["env"].as_array().cloned().unwrap_or_default();
        env.iter().rfind(|variable| variable["name"] == "OLLAMA_HOST").cloned().unwrap_or_default()
    };
    let written = json!({"name": "OLLAMA_HOST", "value": "0.0.0.0:8000"});
    let at_8000 = |field: &str, value: Value| {
        let mut pod = annotated(&[("llm-guard.io/port", "8000")]);
        put(&mut pod, "/spec/containers/0/ports", json!([{"containerPort": 8000}]));
        put(&mut pod, &format!("/spec/containers/0/{field}"), value);
        pod
    };
    for pod in [
        at_8000("env", json!([{"name": "OLLAMA_HOST", "valueFrom": elsewhere}])),
        at_8000("env", json!([{"name": "OLLAMA_HOST", "value": "$(POD_IP):9999"}])),
        at_8000("envFrom", json!([{"prefix": "OTHER_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}])),
        at_8000("envFrom", json!([{"prefix": "OLLAMA_", "configMapRef": {"name": "c"}}])),
    ] {
        let plan = planned(&pod, &s);
        assert_eq!(host(&plan.pod()["spec"]["containers"][0]), written, "{pod}");
        assert!(warned(&plan, "it is set to 0.0.0.0:8000"), "{:?}", plan.warnings);
        assert!(planned(plan.pod(), &s).changes().is_empty());
    }
    // What can't be it is left alone; a client is told by others where its server is; and of a program that isn't Ollama itself nobody
    // knows what it is.
    let other = json!([{"prefix": "OTHER_", "secretRef": {"name": "s"}}]);
    assert_eq!(host(&planned(&with("/spec/containers/0/envFrom", other), &s).pod()["spec"]["containers"][0]), Value::Null);
    for (field, value) in [("args", json!(["run", "x"])), ("command", json!(["/start"]))] {
        let mut pod = with("/spec/containers/0/env", json!([{"name": "OLLAMA_HOST", "valueFrom": elsewhere}]));
        put(&mut pod, &format!("/spec/containers/0/{field}"), value);
        let plan = planned(&pod, &s);
        assert_eq!(host(&plan.pod()["spec"]["containers"][0])["valueFrom"], elsewhere);
        assert!(warned(&plan, "can't be read here; its port must be 11434"));
    }
}

#[test]
fn a_port_that_only_a_container_declares_which_ends_before_is_none_of_the_pods() {
    let mut s = surroundings();
    s.services = services(&[json!({"selector": {"app": "ollama"}, "ports": [{"port": 9000}]})]);
    let init = |policy: &str| json!([{"name": "own", "ports": [{"containerPort": 9000}], "restartPolicy": policy}]);
    assert!(warned(&planned(&with("/spec/initContainers", init("")), &s), "closes"));
    assert!(!warned(&planned(&with("/spec/initContainers", init("Always")), &s), "closes"));
}

#[test]
fn a_mesh_may_lead_traffic_and_nothing_that_outlasts_it() {
    let init = |capability: &str| json!([{"name": "istio-init", "securityContext": {"capabilities": {"add": [capability]}}}]);
    for capability in ["SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF", "ALL"] {
        assert_eq!(refused(&with("/spec/initContainers", init(capability)), &surroundings()).len(), 1, "{capability}");
    }
    for capability in ["NET_ADMIN", "NET_RAW"] {
        assert_eq!(refused(&with("/spec/initContainers", init(capability)), &surroundings()), [""; 0]);
    }
}

#[test]
fn a_drop_that_containerd_does_not_know_is_no_drop() {
    let drop = ["CAP_SETUID", "CAP_SETGID", "CAP_NET_ADMIN", "CAP_NET_RAW"];
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": drop}});
    let plan = planned(&with("/spec/containers/0/securityContext", security), &surroundings());
    let all = &plan.pod()["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"];
    for name in ["SETUID", "SETGID", "NET_ADMIN", "NET_RAW"] {
        assert!(all.as_array().unwrap().contains(&json!(name)), "{all}");
    }
}

#[test]
fn a_mirror_of_a_static_pod_is_refused() {
    let refusals = refused(&annotated(&[("kubernetes.io/config.mirror", "x")]), &surroundings());
    assert!(refusals.len() == 1 && refusals[0].contains("static"), "{refusals:?}");
}

#[test]
fn a_pod_of_too_many_containers_is_refused_at_once() {
    let many: Vec<Value> = (0..60_000).map(|_| json!({"name": "istio-init"})).collect();
    let refusals = refused(&with("/spec/initContainers", many.into()), &surroundings());
    assert!(refusals.len() == 1 && refusals[0].contains("60001"), "{refusals:?}");
}

#[test]
fn a_key_of_any_length_is_answered() {
    let key = format!("llm-guard.io/{}", "é".repeat(500_000));
    assert_eq!(refused(&annotated(&[(&key, "x")]), &surroundings()).len(), 1);
}

#[test]
fn a_pod_of_too_much_of_anything_is_refused_in_few_words_and_in_no_time() {
    let began = std::time::Instant::now();
    let many = |value: Value| Value::from(vec![value; 200_000]);
    let keys: BTreeMap<String, String> = (0..100_000).map(|n| (format!("llm-guard.io/{n}"), String::new())).collect();
    let names = (0..200_000).map(|n| format!("a{n}")).collect::<Vec<_>>().join(",");
    for (pointer, value) in [
        ("/spec/containers/0/securityContext", json!({"capabilities": {"add": many(json!("ALL"))}})),
        ("/spec/containers/0/ports", many(json!({"containerPort": 15434}))),
        ("/spec/containers/0/volumeMounts", many(json!({"name": "llm-guard-run"}))),
        ("/spec/volumes", many(json!({"name": "llm-guard-run"}))),
        ("/spec/volumes", many(json!({"name": "a", "hostPath": {"path": "/"}}))),
        ("/metadata/annotations", json!(keys)),
        ("/metadata/labels", json!(keys)),
        ("/metadata/annotations", json!({"llm-guard.io/allow-setuid": names})),
    ] {
        let pod = with(pointer, value);
        let mut s = surroundings();
        s.namespace.labels = map(&[("llm-guard", "enabled")]);
        let said = refused(&pod, &s);
        assert!((1..=MOST_REFUSALS).contains(&said.len()), "{pointer}: {}", said.len());
    }
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn many_services_that_name_their_port_do_not_make_each_other_slow() {
    let began = std::time::Instant::now();
    let ports: Vec<Value> = (0..50_000).map(|n| json!({"name": format!("p{n}"), "containerPort": 8080})).collect();
    let named: Vec<Value> = (0..50_000).map(|n| json!({"port": 1 + n, "targetPort": "none"})).collect();
    let mut s = surroundings();
    s.services = services(&[json!({"selector": {"app": "ollama"}, "ports": named})]);
    let mut pod = with("/spec/containers/0/ports", ports.into());
    put(&mut pod, "/spec/containers/0/image", json!("x/y"));
    assert!(matches!(plan(&pod, &s), Outcome::Untouched(Untouched::NoModel)));
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn a_time_to_end_that_is_no_time_is_left_to_the_api_server() {
    for grace in [i64::MIN, i64::MAX] {
        planned(&with("/spec/terminationGracePeriodSeconds", json!(grace)), &surroundings());
    }
}

// === setuid ===

#[test]
fn a_container_that_allows_setuid_keeps_it_and_the_pod_stays_in_monitor() {
    let plan = planned(&annotated(&[("llm-guard.io/allow-setuid", "ollama")]), &surroundings());
    assert_eq!(plan.pod()["spec"]["containers"][0]["securityContext"], json!({"capabilities": {"drop": ["NET_ADMIN", "NET_RAW"]}}));
    assert_eq!(values(&plan, "--at-most"), ["monitor"]);
    assert!(warned(&plan, "stays in monitor"));
    assert_eq!(values(&planned(&pod(), &surroundings()), "--at-most"), [""; 0]);
}

#[test]
fn more_than_monitor_is_denied_to_a_pod_that_allows_setuid() {
    let setuid = ("llm-guard.io/allow-setuid", "ollama");
    assert!(refused(&annotated(&[setuid, ("llm-guard.io/mode", "soft")]), &surroundings())[0].contains("the pod's"));
    let mut s = surroundings();
    s.workload_annotations = map(&[("llm-guard.io/mode", "hard")]);
    assert!(refused(&annotated(&[setuid]), &s)[0].contains("Deployment/ollama"));
    s.workload_annotations = BTreeMap::new();
    s.namespace.annotations = map(&[("llm-guard.io/minimum-mode", "soft")]);
    assert!(refused(&annotated(&[setuid]), &s)[0].contains("minimum-mode"));
    s.namespace.annotations = map(&[("llm-guard.io/mode", "hard")]);
    assert!(matches!(plan(&annotated(&[setuid]), &s), Outcome::Guard(_)));
}

#[test]
fn a_container_that_is_not_there_can_not_be_allowed_anything() {
    assert!(refused(&annotated(&[("llm-guard.io/allow-setuid", "ollama,gosu")]), &surroundings())[0].ends_with("gosu"));
}

#[test]
fn setid_capabilities_and_escalation_are_left_to_whom_they_are_allowed() {
    let mut pod = annotated(&[("llm-guard.io/allow-setuid", "ollama")]);
    put(
        &mut pod,
        "/spec/containers/0/securityContext",
        json!({"allowPrivilegeEscalation": true, "capabilities": {"add": ["SETUID"], "drop": ["ALL"]}}),
    );
    let plan = planned(&pod, &surroundings());
    assert_eq!(plan.pod()["spec"]["containers"][0]["securityContext"], pod["spec"]["containers"][0]["securityContext"]);
}

// === what is put in ===

#[test]
fn every_other_container_is_hardened_where_nothing_is_set_and_named() {
    let mut pod = pod();
    put(&mut pod, "/spec/initContainers", json!([{"name": "pull"}]));
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "tidy", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}));
    let plan = planned(&pod, &surroundings());
    let drop = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["SETUID", "SETGID", "NET_ADMIN", "NET_RAW"]}});
    assert_eq!(plan.pod()["spec"]["containers"][0]["securityContext"], drop);
    assert_eq!(plan.pod()["spec"]["initContainers"][3]["securityContext"], drop);
    assert_eq!(plan.pod()["spec"]["containers"][1], pod["spec"]["containers"][1]);
    assert!(plan.warnings.contains(&Warning::Hardened(["pull", "ollama"].into_iter().collect())), "{:?}", plan.warnings);
}

#[test]
fn a_meshs_init_containers_come_first_and_keep_what_they_ask_for() {
    let mut pod = pod();
    let istio = json!({"name": "istio-init", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}, "runAsUser": 0}});
    put(
        &mut pod,
        "/spec/initContainers",
        json!([{"name": "own"}, istio, {"name": "istio-proxy", "restartPolicy": "Always"}, {"name": "other"}]),
    );
    let plan = planned(&pod, &surroundings());
    assert_eq!(
        names(plan.pod(), "initContainers"),
        ["istio-init", "istio-proxy", "llm-guard-init", "llm-guard-verify", "llm-guard", "own", "other"]
    );
    assert_eq!(plan.pod()["spec"]["initContainers"][0], istio);
    assert!(warned(&plan, "moved to before the guard's init containers and the pod's own: istio-init, istio-proxy"));
    assert_eq!(patched(&pod, &plan), *plan.pod());
}

#[test]
fn a_meshs_name_hides_no_model_server() {
    let named =
        |list: &str| json!({"metadata": {}, "spec": {list: [{"name": "istio-init", "image": "ollama/ollama"}, {"name": "istio-proxy"}]}});
    let plan = planned(&named("containers"), &surroundings());
    assert!(plan.pod()["spec"]["containers"][0]["lifecycle"]["preStop"].is_object());
    let mut pod = named("initContainers");
    put(&mut pod, "/spec/containers", json!([{"name": "ollama", "image": "ollama/ollama"}]));
    let plan = planned(&pod, &surroundings());
    assert_eq!(names(plan.pod(), "initContainers"), ["istio-proxy", "llm-guard-init", "llm-guard-verify", "llm-guard", "istio-init"]);
    put(&mut pod, "/spec/initContainers/0/securityContext", json!({"capabilities": {"add": ["NET_ADMIN"]}}));
    assert_eq!(refused(&pod, &surroundings()).len(), 1);
}

#[test]
fn a_mesh_container_that_lasts_may_no_more_than_others() {
    let lasts = json!([{"name": "istio-proxy", "restartPolicy": "Always", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]);
    assert_eq!(refused(&with("/spec/initContainers", lasts), &surroundings()).len(), 1);
    let beside = json!([{"name": "istio-init", "image": "x", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}, {"name": "ollama", "image": "ollama/ollama"}]);
    assert_eq!(refused(&with("/spec/containers", beside), &surroundings()).len(), 1);
}

#[test]
fn probes_of_the_port_are_asked_by_the_guard_and_others_stay() {
    let mut pod = pod();
    put(&mut pod, "/spec/containers/0/ports", json!([{"name": "api", "containerPort": 11434}]));
    let headers = json!([{"name": "X", "value": "$(Y) $"}]);
    put(
        &mut pod,
        "/spec/containers/0/livenessProbe",
        json!({"httpGet": {"path": "/api/tags", "port": "api", "httpHeaders": headers}, "periodSeconds": 3}),
    );
    put(&mut pod, "/spec/containers/0/readinessProbe", json!({"tcpSocket": {"port": 11434}, "failureThreshold": 9}));
    put(&mut pod, "/spec/containers/0/startupProbe", json!({"exec": {"command": ["ollama", "list"]}}));
    let plan = planned(&pod, &surroundings());
    let container = &plan.pod()["spec"]["containers"][0];
    let asks = |kind: &str| json!({"path": format!("/probes/ollama/{kind}"), "port": 15435, "scheme": "HTTP"});
    assert_eq!(container["livenessProbe"], json!({"httpGet": asks("liveness"), "periodSeconds": 3}));
    assert_eq!(container["readinessProbe"], json!({"httpGet": asks("readiness"), "failureThreshold": 9}));
    assert_eq!(container["startupProbe"], pod["spec"]["containers"][0]["startupProbe"]);
    let probes: Vec<(String, Value)> = values(&plan, "--probe")
        .iter()
        .map(|text| text.replace("$$", "$"))
        .map(|text| text.split_once('=').map(|(name, json)| (name.to_owned(), serde_json::from_str(json).unwrap())).unwrap())
        .collect();
    let expected = [
        ("ollama/liveness".to_owned(), json!({"httpGet": {"path": "/api/tags", "port": 11434, "scheme": "HTTP", "httpHeaders": headers}})),
        ("ollama/readiness".to_owned(), json!({"tcpSocket": {"port": 11434}})),
    ];
    assert_eq!(probes, expected);
    assert!(values(&plan, "--probe")[0].contains("$$(Y) $$"), "a variable's name in an argument must stay text");
}

#[test]
fn the_model_waits_for_the_guard_unless_it_has_a_hook_of_its_own() {
    let plan = planned(&pod(), &surroundings());
    let ours = json!({"httpGet": {"path": "/idle", "port": 15435, "scheme": "HTTP"}});
    assert_eq!(plan.pod()["spec"]["containers"][0]["lifecycle"], json!({"preStop": ours}));
    let own = json!({"postStart": {"exec": {"command": ["ollama", "pull", "x"]}}, "preStop": {"sleep": {"seconds": 5}}});
    let plan = planned(&with("/spec/containers/0/lifecycle", own.clone()), &surroundings());
    assert_eq!(plan.pod()["spec"]["containers"][0]["lifecycle"], own);
    assert!(warned(&plan, "preStop of ollama"));
}

#[test]
fn the_model_is_the_container_that_shows_it_best() {
    let s = surroundings();
    let idle = |plan: &Plan| -> Vec<String> {
        let containers = plan.pod()["spec"]["containers"].as_array().unwrap().iter();
        containers.filter(|one| one["lifecycle"]["preStop"].is_object()).map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let agent = json!({"name": "agent", "env": [{"name": "OLLAMA_HOST", "value": "127.0.0.1:11434"}]});
    let pod = with("/spec/containers", json!([agent, {"name": "ollama", "image": "ollama/ollama"}]));
    let plan = planned(&pod, &s);
    assert_eq!(idle(&plan), ["ollama"]);
    assert!(warned(&plan, "loopback stay open to other containers of this pod: agent"));
    assert_eq!(idle(&planned(&with("/spec/containers", json!([agent, {"name": "x"}])), &s)), ["agent"]);
    let labelled = |containers: Value| json!({"metadata": {"labels": {"llm-guard": "enabled"}}, "spec": {"containers": containers}});
    assert_eq!(idle(&planned(&labelled(json!([{"name": "only"}])), &s)), ["only"]);
    let plan = planned(&labelled(json!([{"name": "a"}, {"name": "b"}])), &s);
    assert!(idle(&plan).is_empty() && warned(&plan, "no container shows"));
}

#[test]
fn the_guard_is_told_what_the_contract_names() {
    let mut pod = annotated(&[("llm-guard.io/port", "8000")]);
    put(&mut pod, "/spec/terminationGracePeriodSeconds", json!(60));
    put(&mut pod, "/spec/containers/0/ports", json!([{"containerPort": 8000}]));
    put(&mut pod, "/spec/containers/0/env", json!([{"name": "OLLAMA_HOST", "value": ":8000"}]));
    let plan = planned(&pod, &surroundings());
    let expected = [
        ["--listen", "[::]:15434"],
        ["--upstream", "http://127.0.0.1:8000"],
        ["--pod-ips", "$(POD_IPS)"],
        ["--metrics-listen", "[::]:15435"],
        ["--settings", "/etc/llm-guard/settings"],
        ["--settings-for", "cluster-uid/namespace-uid/Deployment/ollama"],
        ["--settings-serial", "1700000000000"],
        ["--drain-socket", "/run/llm-guard/drain"],
        ["--drain-timeout", "53"],
    ];
    for [flag, value] in expected {
        assert_eq!(values(&plan, flag), [value], "{flag}");
    }
    assert_eq!(values(&plan, "--settings-key"), ["c1".repeat(32), "e2".repeat(32)]);
    assert_eq!(arguments(&plan)[..2], ["run", "--in-pod"]);
    let init = &plan.pod()["spec"]["initContainers"][0];
    assert_eq!(init["args"], json!(["init", "--port", "8000", "--gid", "100007"]));
    assert_eq!(plan.pod()["spec"]["initContainers"][2]["securityContext"]["runAsGroup"], 100_007);
}

#[test]
fn every_container_of_ours_is_bounded_confined_and_without_a_token() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let mut s = surroundings();
        s.config.backend = backend;
        let plan = planned(&pod(), &s);
        for container in plan.pod()["spec"]["initContainers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            assert!(container["resources"]["requests"]["memory"].is_string() && container["resources"]["limits"]["memory"].is_string());
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert!(
                mounts
                    .iter()
                    .any(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount" && mount["readOnly"] == true)
            );
        }
        let init = &plan.pod()["spec"]["initContainers"][0];
        let legacy = backend == Backend::Legacy;
        assert_eq!(
            init["securityContext"]["capabilities"]["add"],
            if legacy { json!(["NET_ADMIN", "NET_RAW"]) } else { json!(["NET_ADMIN"]) }
        );
        assert_eq!(init["args"].as_array().unwrap().ends_with(&[json!("--backend"), json!("legacy")]), legacy);
        assert_eq!(names(plan.pod(), "volumes").contains(&"llm-guard-xtables".to_owned()), legacy);
    }
}

#[test]
fn annotations_set_the_guards_resources_and_a_pods_own_are_shared() {
    let plan = planned(
        &annotated(&[("llm-guard.io/resources-cpu-limit", "500m"), ("llm-guard.io/resources-memory-limit", "1Gi")]),
        &surroundings(),
    );
    let guard = |plan: &Plan| plan.pod()["spec"]["initContainers"][2]["resources"].clone();
    assert_eq!(guard(&plan), json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}));
    let plan = planned(&with("/spec/resources", json!({"limits": {"memory": "8Gi"}})), &surroundings());
    assert_eq!(guard(&plan), json!({}));
}

#[test]
fn a_pod_that_loses_its_guarantee_is_told_how_to_keep_it() {
    let own = json!({"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"memory": "8192Mi"}});
    let mut pod = with("/spec/containers/0/resources", own);
    assert!(warned(&planned(&pod, &surroundings()), "no longer Guaranteed"));
    let same = [("cpu-request", "100m"), ("cpu-limit", "0.1"), ("memory-request", "64Mi"), ("memory-limit", "64Mi")];
    let same: BTreeMap<String, &str> = same.into_iter().map(|(key, value)| (format!("llm-guard.io/resources-{key}"), value)).collect();
    put(&mut pod, "/metadata/annotations", json!(same));
    assert!(!warned(&planned(&pod, &surroundings()), "no longer Guaranteed"));
    put(&mut pod, "/metadata/annotations", json!({}));
    put(&mut pod, "/spec/containers/0/resources/requests", json!({"memory": "1Gi"}));
    assert!(!warned(&planned(&pod, &surroundings()), "no longer Guaranteed"));
}

#[test]
fn pull_secrets_are_added_once() {
    let mut s = surroundings();
    s.config.guard_pull_secrets = vec!["a".into(), "b".into()];
    let plan = planned(&with("/spec/imagePullSecrets", json!([{"name": "b"}])), &s);
    assert_eq!(plan.pod()["spec"]["imagePullSecrets"], json!([{"name": "b"}, {"name": "a"}]));
}

#[test]
fn a_port_that_a_service_leads_to_and_nobody_declares_is_warned_of() {
    let mut s = surroundings();
    s.services = services(&[json!({"selector": {"app": "ollama"}, "ports": [{"port": 9090}, {"port": 80, "targetPort": 11434}]})]);
    assert!(warned(&planned(&pod(), &s), "9090"));
    assert!(!warned(&planned(&annotated(&[("llm-guard.io/open-ports", "9090")]), &s), "9090"));
}

#[test]
fn a_pods_own_mode_below_the_held_one_is_said_not_to_count() {
    let mut s = surroundings();
    s.namespace.annotations = map(&[("llm-guard.io/mode", "hard")]);
    assert!(warned(&planned(&annotated(&[("llm-guard.io/mode", "soft")]), &s), "soft is below hard"));
    s.workload_annotations = map(&[("llm-guard.io/mode", "monitor")]);
    assert!(!warned(&planned(&annotated(&[("llm-guard.io/mode", "soft")]), &s), "is below"));
}

// === again ===

#[test]
fn another_webhooks_container_is_hardened_the_second_time_and_nothing_is_doubled() {
    let s = surroundings();
    let mut pod = planned(&pod(), &s).pod().clone();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "agent"}));
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "first"}));
    pod["spec"]["initContainers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "istio-init", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}));
    let plan = planned(&pod, &s);
    assert_eq!(names(plan.pod(), "initContainers"), ["istio-init", "llm-guard-init", "llm-guard-verify", "llm-guard", "first"]);
    assert_eq!(plan.pod()["spec"]["containers"][1]["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(names(plan.pod(), "volumes").len(), 3);
    assert_eq!(patched(&pod, &plan), *plan.pod());
    assert!(planned(plan.pod(), &s).changes().is_empty());
}

#[test]
fn what_bears_our_marks_is_written_anew_so_nothing_is_won_by_imitating_it() {
    let s = surroundings();
    let injected = planned(&pod(), &s).pod().clone();
    let mut imitation = injected.clone();
    let guard = &mut imitation["spec"]["initContainers"][2];
    guard["args"] = json!(["run", "--in-pod", "--upstream", "http://elsewhere"]);
    guard["securityContext"] = json!({"privileged": true, "runAsUser": 0, "runAsGroup": 12345});
    guard["env"] = json!([{"name": "LD_PRELOAD", "value": "/x"}]);
    imitation["spec"]["volumes"][0] = json!({"name": "llm-guard-settings", "emptyDir": {}});
    imitation["spec"]["initContainers"][0]["command"] = json!(["true"]);
    let plan = planned(&imitation, &s);
    assert_eq!(*plan.pod(), injected);
    assert!(warned(&plan, "llm-guard was changed") && warned(&plan, "llm-guard-init was changed"));
}

#[test]
fn another_image_under_our_name_is_refused() {
    let s = surroundings();
    let mut pod = planned(&pod(), &s).pod().clone();
    pod["spec"]["initContainers"][2]["image"] = json!("mirror.example/llm-guard-sidecar:0.1.0");
    let refusals = refused(&pod, &s);
    assert!(refusals[0].starts_with("spec.initContainers[2].image: ") && refusals[0].contains("--guard-image"), "{refusals:?}");
}

#[test]
fn limits_that_the_cluster_adds_to_our_containers_stay() {
    let s = surroundings();
    let mut pod = planned(&pod(), &s).pod().clone();
    pod["spec"]["initContainers"][2]["resources"]["limits"]["cpu"] = json!("2");
    pod["spec"]["initContainers"][2]["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
    assert!(planned(&pod, &s).changes().is_empty());
}

#[test]
fn the_group_is_never_taken_from_the_pod() {
    let s = surroundings();
    let first = planned(&pod(), &s);
    let second = planned(first.pod(), &Surroundings { random: 8, ..s });
    assert_eq!(second.pod()["spec"]["initContainers"][2]["securityContext"]["runAsGroup"], 100_008);
    assert_eq!(patched(first.pod(), &second), *second.pod());
}

#[test]
fn an_untouched_pod_has_no_changes_and_a_patch_that_fits_no_other_pod_fails() {
    let plan = planned(&pod(), &surroundings());
    let mut other = with("/spec/containers/0/name", json!("renamed"));
    assert!(json_patch::patch(&mut other, &crate::patch::patch(&plan)).is_err());
}

#[test]
fn a_rewritten_probe_still_shows_the_model_so_no_other_container_takes_its_place() {
    let containers = json!([
        {"name": "server", "image": "x/y", "livenessProbe": {"tcpSocket": {"port": 11434}}},
        {"name": "client", "image": "x/z", "env": [{"name": "OLLAMA_HOST", "value": "127.0.0.1:11434"}]},
    ]);
    let first = planned(&with("/spec/containers", containers), &surroundings());
    let again = planned(first.pod(), &surroundings());
    assert!(again.changes().is_empty(), "{:?}", again.changes());
}

// === by port ===

fn restricted() -> Surroundings {
    let mut s = surroundings();
    s.namespace.labels.insert("pod-security.kubernetes.io/enforce".into(), "restricted".into());
    s
}

#[test]
fn where_rules_are_forbidden_the_guard_takes_the_port_and_the_model_moves() {
    let env =
        json!([{"name": "OLLAMA_HOST", "value": "0.0.0.0:11434"}, {"name": "OLLAMA_ORIGINS", "value": "https://a.example,http://*.b"}]);
    let plan = planned(&with("/spec/containers/0/env", env), &restricted());
    assert_eq!(names(plan.pod(), "initContainers"), ["llm-guard"]);
    assert_eq!(plan.pod()["spec"]["containers"][0]["env"][0], json!({"name": "OLLAMA_HOST", "value": "127.0.0.1:11435"}));
    assert_eq!(values(&plan, "--listen"), ["[::]:11434"]);
    assert_eq!(values(&plan, "--upstream"), ["http://127.0.0.1:11435"]);
    assert_eq!(values(&plan, "--origin"), ["https://a.example", "http://*.b"]);
    assert!(arguments(&plan).contains(&"--host-rewrite".to_owned()));
    assert!(warned(&plan, "can't close"));
    assert!(planned(plan.pod(), &restricted()).changes().is_empty());
}

#[test]
fn clients_in_the_same_pod_stay_where_they_are() {
    let containers = json!([
        {"name": "agent", "env": [{"name": "OLLAMA_HOST", "value": "http://127.0.0.1:11434"}]},
        {"name": "cli", "image": "ollama/ollama", "args": ["run", "x"]},
        {"name": "ollama", "image": "ollama/ollama"},
    ]);
    let plan = planned(&with("/spec/containers", containers.clone()), &restricted());
    let env = |index: usize| plan.pod()["spec"]["containers"][index]["env"].clone();
    assert_eq!((env(0), env(1)), (containers[0]["env"].clone(), Value::Null));
    assert_eq!(env(2), json!([{"name": "OLLAMA_HOST", "value": "127.0.0.1:11435"}]));
}

#[test]
fn who_can_not_be_moved_is_refused_by_name() {
    let containers = json!([{"name": "vllm", "image": "vllm/vllm-openai", "ports": [{"containerPort": 11434}]}]);
    let refusals = refused(&with("/spec/containers", containers), &restricted());
    assert!(
        refusals.len() == 1 && refusals[0].starts_with("spec.containers[0].image: ") && refusals[0].contains("restricted"),
        "{refusals:?}"
    );
}

#[test]
fn the_annotation_and_the_cluster_decide_where_the_namespace_does_not() {
    let mut s = surroundings();
    let port = annotated(&[("llm-guard.io/interception", "port")]);
    assert_eq!(names(planned(&port, &s).pod(), "initContainers"), ["llm-guard"]);
    s.config.pod_security_default = PodSecurity::Baseline;
    assert_eq!(names(planned(&pod(), &s).pod(), "initContainers"), ["llm-guard"]);
    let iptables = annotated(&[("llm-guard.io/interception", "iptables")]);
    assert!(refused(&iptables, &s)[0].contains("baseline"));
    s.namespace.labels.insert("pod-security.kubernetes.io/enforce".into(), "privileged".into());
    assert_eq!(names(planned(&iptables, &s).pod(), "initContainers").len(), 3);
    s.namespace.labels.insert("pod-security.kubernetes.io/enforce".into(), "nonsense".into());
    assert!(refused(&iptables, &s)[0].contains("restricted"));
}

#[test]
fn a_model_on_the_loopback_that_the_guard_opens_to_the_outside_is_named() {
    let port = annotated(&[("llm-guard.io/interception", "port")]);
    for (host, opened) in [("127.0.0.1:11434", true), ("localhost", true), ("0.0.0.0:11434", false)] {
        let mut pod = port.clone();
        put(&mut pod, "/spec/containers/0/env", json!([{"name": "OLLAMA_HOST", "value": host}]));
        let first = planned(&pod, &surroundings());
        assert_eq!(first.warnings.iter().any(|warning| matches!(warning, Warning::Opened(_))), opened, "{host}");
        // The second time it is where the first injection has put it.
        let again = planned(first.pod(), &surroundings());
        assert!(!again.warnings.iter().any(|warning| matches!(warning, Warning::Opened(_))), "{host}");
    }
}

#[test]
fn a_port_that_the_guard_can_not_take_is_refused() {
    for port in ["80", "11435"] {
        let mut pod = annotated(&[("llm-guard.io/port", port)]);
        put(&mut pod, "/spec/containers/0/ports", json!([]));
        assert!(refused(&pod, &restricted())[0].contains(port));
    }
}

// === modes ===

#[test]
fn controls_that_stay_below_an_annotated_mode_are_named() {
    let policy = GuardPolicy::read(
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {mode: monitor, tools: {mode: soft}, models: {mode: hard}}",
    )
    .unwrap();
    assert_eq!(
        stay_lower(&policy, Mode::Hard, None).unwrap().to_string(),
        "llm-guard: with mode hard these stay lower, by the policy: tools (soft)"
    );
    assert_eq!(stay_lower(&policy, Mode::Hard, Some(Mode::Hard)), None);
    assert_eq!(stay_lower(&policy, Mode::Soft, None), None);
}

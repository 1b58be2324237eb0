//! What holds for every pod.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;

/// A field of which this injector has never heard.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        Just(json!({"nested": [1, {"~odd/key": "x"}], "": null})),
        "[a-z$()~/]{0,8}".prop_map(Value::from)
    ]
}

fn optional<S: Strategy<Value = Value> + 'static>(strategy: S) -> BoxedStrategy<Value> {
    prop_oneof![Just(Value::Null), strategy].boxed()
}

fn probe() -> BoxedStrategy<Value> {
    let port = select(vec![json!(11434), json!(8080), json!("api"), json!("none")]);
    let headers = select(vec![json!([]), json!([{"name": "A", "value": "$(B)$$"}])]);
    let http = (port.clone(), headers, odd()).prop_map(
        |(port, headers, odd)| json!({"httpGet": {"path": "/x", "port": port, "httpHeaders": headers}, "periodSeconds": 5, "odd": odd}),
    );
    let tcp = port.prop_map(|port| json!({"tcpSocket": {"port": port}, "failureThreshold": 2}));
    optional(prop_oneof![http, tcp, Just(json!({"exec": {"command": ["true"]}}))])
}

fn container() -> impl Strategy<Value = Value> {
    let security = optional(
        (select(vec![json!(null), json!(false), json!([])]), odd(), select(vec![json!(null), json!(["ALL"]), json!(["SETUID", "KILL"])]))
            .prop_map(|(escalation, odd, drop)| {
                json!({
                    "allowPrivilegeEscalation": if escalation.is_array() { Value::Null } else { escalation },
                    "oddProfile": odd,
                    "capabilities": {"drop": drop, "add": ["CHOWN"]},
                })
            }),
    );
    let env = select(vec![
        json!(null),
        json!([]),
        json!([{"name": "OLLAMA_HOST", "value": "0.0.0.0"}, {"name": "A", "valueFrom": {"odd": 1}}]),
        json!([{"name": "OLLAMA_HOST", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]),
    ]);
    let ports = select(vec![
        json!(null),
        json!([{"name": "api", "containerPort": 11434, "odd": 1}]),
        json!([{"containerPort": 8080}, {"containerPort": 11434}]),
    ]);
    let lifecycle = select(vec![json!(null), json!({}), json!({"stopSignal": "SIGTERM"}), json!({"preStop": {"sleep": {"seconds": 1}}})]);
    let image = select(vec!["ollama/ollama:1", "x/y", "mirror/ollama/ollama@sha256:0"]);
    (image, security, env, ports, (probe(), probe(), lifecycle, odd())).prop_map(
        |(image, security, env, ports, (liveness, readiness, lifecycle, odd))| {
            json!({
                "image": image, "securityContext": security, "env": env, "ports": ports, "livenessProbe": liveness,
                "readinessProbe": readiness, "lifecycle": lifecycle, "oddField": odd,
            })
        },
    )
}

fn named(names: &'static [&'static str], init: bool) -> impl Strategy<Value = Value> {
    let some = proptest::sample::subsequence(names, 0..=names.len()).prop_shuffle();
    (some, proptest::collection::vec(container(), names.len())).prop_map(move |(names, containers)| {
        let one = |(name, mut container): (&&str, Value)| {
            container["name"] = json!(name);
            if init {
                // As the API server has it, what ends has no probes and hooks.
                for field in ["livenessProbe", "readinessProbe", "lifecycle"] {
                    container[field] = Value::Null;
                }
            }
            container
        };
        names.iter().zip(containers).map(one).collect()
    })
}

prop_compose! {
    fn pod()(
        containers in named(&["a", "b", "istio-proxy"], false),
        main in container(),
        init in prop_oneof![Just(Value::Null), named(&["own", "istio-init", "linkerd-init", "last"], true)],
        volumes in select(vec![json!(null), json!([]), json!([{"name": "models", "emptyDir": {}}])]),
        labels in select(vec![json!(null), json!({}), json!({"app": "x", "llm-guard": "enabled"})]),
        annotations in select(vec![json!(null), json!({"other/key": "~1/~0"}), json!({"llm-guard.io/allow-setuid": "main"}),
            json!({"llm-guard.io/interception": "port"})]),
        (odd, host_users, grace) in (odd(), select(vec![json!(null), json!(false)]), select(vec![json!(null), json!(0), json!(600)])),
    ) -> Value {
        let mut containers = containers;
        let mut main = main;
        main["name"] = json!("main");
        containers.as_array_mut().unwrap().push(main);
        json!({
            "apiVersion": "v1", "kind": "Pod", "oddRoot": odd,
            "metadata": {"generateName": "x-", "labels": labels, "annotations": annotations, "creationTimestamp": null},
            "spec": {"containers": containers, "initContainers": init, "volumes": volumes, "oddSpec": odd, "hostUsers": host_users,
                "terminationGracePeriodSeconds": grace},
        })
    }
}

/// Everything of a pod that isn't of ours, nor among the few things that are set.
fn rest(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for map in ["labels", "annotations"] {
        if let Some(members) = pod["metadata"][map].as_object_mut() {
            members.retain(|key, _| !key.starts_with("llm-guard.io/"));
        }
        if pod["metadata"][map].as_object().is_some_and(serde_json::Map::is_empty) {
            pod["metadata"][map] = Value::Null;
        }
    }
    for list in ["containers", "initContainers", "volumes"] {
        let Some(elements) = pod["spec"][list].as_array_mut() else { continue };
        elements.retain(|element| !is_our_name(element["name"].as_str().unwrap()));
        elements.sort_by_key(|element| element["name"].as_str().unwrap().to_owned());
        for element in elements.iter_mut().filter_map(Value::as_object_mut) {
            for set in ["securityContext", "env", "livenessProbe", "readinessProbe", "lifecycle"] {
                element.remove(set);
            }
        }
        if elements.is_empty() {
            pod["spec"][list] = Value::Null;
        }
    }
    pod
}

#[test]
fn the_container_that_probes_the_port_is_the_models_also_once_its_probe_is_turned() {
    let pod = json!({
        "metadata": {"labels": {"llm-guard": "enabled"}},
        "spec": {"containers": [
            {"name": "b", "image": "x/y", "livenessProbe": {"httpGet": {"path": "/x", "port": 11434}}},
            {"name": "main", "image": "x/y", "env": [{"name": "OLLAMA_HOST", "value": "0.0.0.0"}]},
        ]},
    });
    let first = planned(&pod, &surroundings());
    assert_eq!(planned(first.pod(), &surroundings()).pod(), first.pod());
    assert!(first.pod()["spec"]["containers"][1]["lifecycle"].is_null());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn injecting_twice_is_injecting_once(pod in pod(), random: u32) {
        let s = Surroundings { random, ..surroundings() };
        if let Outcome::Guard(first) = plan(&pod, &s) {
            let again = planned(first.pod(), &s);
            prop_assert_eq!(again.pod(), first.pod());
            prop_assert!(again.changes().is_empty(), "{:?}", again.changes());
        }
    }

    #[test]
    fn the_patch_makes_the_planned_pod_of_the_pod_as_it_came(pod in pod(), random: u32) {
        let s = Surroundings { random, ..surroundings() };
        if let Outcome::Guard(plan) = plan(&pod, &s) {
            prop_assert_eq!(&patched(&pod, &plan), plan.pod());
            // And anew, with another group and another serial.
            let settings = SettingsRef { serial: 1_800_000_000_000, ..s.settings.clone() };
            let later = Surroundings { random: random.wrapping_add(1), settings, ..s };
            let second = planned(plan.pod(), &later);
            prop_assert_eq!(&patched(plan.pod(), &second), second.pod());
        }
    }

    #[test]
    fn what_nobody_knows_survives(pod in pod()) {
        if let Outcome::Guard(plan) = plan(&pod, &surroundings()) {
            prop_assert_eq!(rest(plan.pod()), rest(&pod));
            for list in ["containers", "initContainers"] {
                let (before, after) = (pod["spec"][list].as_array().cloned().unwrap_or_default(), plan.pod()["spec"][list].as_array().unwrap());
                for container in before {
                    let same = after.iter().find(|other| other["name"] == container["name"]).unwrap();
                    prop_assert_eq!(&same["securityContext"]["oddProfile"], &container["securityContext"]["oddProfile"]);
                    prop_assert_eq!(&same["livenessProbe"]["odd"], &container["livenessProbe"]["odd"]);
                    prop_assert_eq!(&same["livenessProbe"]["periodSeconds"], &container["livenessProbe"]["periodSeconds"]);
                }
            }
        }
    }

    #[test]
    fn a_guarded_pod_leaves_no_container_a_way_around(pod in pod()) {
        if let Outcome::Guard(plan) = plan(&pod, &surroundings()) {
            let view = Pod::read(plan.pod()).unwrap();
            let mesh = detect::mesh(&view, DEFAULT_PORT, &surroundings().config);
            let setuid = &Asked::of(&view.metadata.annotations).allow_setuid;
            for placed in view.containers().filter(|placed| !is_our_name(&placed.container.name) && !mesh.ends_before_us(placed)) {
                let security = &placed.container.security_context;
                let drop = &security.capabilities.drop;
                let dropped = |name: &str| drop.iter().any(|dropped| dropped == name || dropped == "ALL");
                prop_assert!(dropped("NET_ADMIN") && dropped("NET_RAW"));
                if !setuid.contains(&placed.container.name) {
                    prop_assert!(dropped("SETUID") && dropped("SETGID"));
                    prop_assert_eq!(security.allow_privilege_escalation, Some(false));
                }
            }
            let names: Vec<&str> = view.spec.init_containers.iter().map(|container| container.name.as_str()).collect();
            let first_of_ours = names.iter().position(|name| is_our_name(name)).unwrap();
            prop_assert!(names[..first_of_ours].iter().all(|name| mesh.has(name)));
        }
    }
}

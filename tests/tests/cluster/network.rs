//! Who reaches which port, before the label and after it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::kit::{MONITORING, Place, Scene, Stage, ensure, eventually};
use crate::manifests::{self, Ollama};

/// The ports that are asked for: the model's, the guard's two, and one that nobody declares.
const PORTS: [u16; 4] = [11434, 15434, 15435, 9999];

/// The table before and after.
pub(crate) fn table(stage: &Stage) -> Scene {
    let all: String = [
        manifests::namespace("net", ""),
        manifests::registry_for("net", stage),
        Ollama::non_root().deployment("net", 1, stage.registry_address()),
        // Something else that the same pod serves, undeclared.
        manifests::client("net", "near"),
        manifests::namespace("net-far", ""),
        manifests::client("net-far", "far"),
        manifests::client(MONITORING, "collector"),
    ]
    .concat()
    .replace("      volumes: [{name: registry,", &format!("{UNDECLARED}      volumes: [{{name: registry,"));
    stage.apply(&all)?;
    stage.rolled_out("net", "deployment/ollama")?;
    for (namespace, pod) in [("net", "near"), ("net-far", "far"), (MONITORING, "collector")] {
        stage.ready(namespace, pod)?;
    }
    let before = rows(stage)?;
    println!("    before:\n{}", print(&before));
    for (who, row) in &before {
        ensure(row == &[true, false, false, true], || format!("before the label, {who}: {row:?}"))?;
    }

    stage.kubectl("label namespace net llm-guard=enabled")?;
    stage.kubectl("-n net rollout restart deployment/ollama")?;
    stage.rolled_out("net", "deployment/ollama")?;
    let expected = [
        ("net/near", [true, false, false, false]),
        ("net-far/far", [true, false, false, false]),
        ("collector", [true, false, true, false]),
    ];
    let (after, _) = eventually("the table after", Duration::from_secs(20), || {
        let after = rows(stage)?;
        for ((who, row), (_, wanted)) in after.iter().zip(expected) {
            ensure(row == &wanted, || format!("{who}: {row:?}, not {wanted:?}\n{}", print(&after)))?;
        }
        Ok(after)
    })?;
    println!("    after:\n{}", print(&after));

    // A policy that somebody takes away comes back.
    stage.kubectl("-n net delete networkpolicy --all")?;
    eventually("the NetworkPolicies are back", Duration::from_secs(20), || {
        let after = rows(stage)?;
        ensure(after[1].1 == expected[1].1, || print(&after))
    })?;
    Ok(())
}

const UNDECLARED: &str = "      - name: other
        image: localhost/client:test
        imagePullPolicy: Never
        command: [/bin/busybox, nc, -ll, -p, '9999', -e, /bin/busybox, echo, here]
";

type Row = (String, [bool; 4]);

fn rows(stage: &Stage) -> Result<Vec<Row>, String> {
    let address = stage.address("net", &stage.pod_of("net", "ollama")?)?;
    let places =
        [Place::new("net", "near", "client"), Place::new("net-far", "far", "client"), Place::new(MONITORING, "collector", "client")];
    Ok(places
        .iter()
        .map(|place| (format!("{}/{}", place.namespace, place.pod), PORTS.map(|port| stage.reaches(place, &address, port))))
        .collect())
}

fn print(rows: &[Row]) -> String {
    let mut text = format!("      {:<32}{}\n", "from", PORTS.map(|port| format!("{port:<8}")).concat());
    for (who, row) in rows {
        let cells = row.map(|open| format!("{:<8}", if open { "open" } else { "-" })).concat();
        let _ = writeln!(text, "      {who:<32}{}", cells.trim_end());
    }
    text
}

/// A pod that bears the label and has no guard: made while nobody looked, it is reached by nobody.
pub(crate) fn labelled_without_a_guard(stage: &Stage) -> Scene {
    stage.apply(&format!("{}{}", manifests::namespace("unguarded", ""), manifests::client("unguarded", "near")))?;
    // Made without the label, it is let in as it is; the label comes later.
    let pod = "---
apiVersion: v1
kind: Pod
metadata: {name: sneaky, namespace: unguarded}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: ollama, image: 'localhost/ollama:test', imagePullPolicy: Never, env: [{name: OLLAMA_MODELS, value: /models}]}]
";
    stage.apply(pod)?;
    stage.ready("unguarded", "sneaky")?;
    stage.ready("unguarded", "near")?;
    let near = Place::new("unguarded", "near", "client");
    let address = stage.address("unguarded", "sneaky")?;
    eventually("before the label", Duration::from_secs(20), || ensure(stage.reaches(&near, &address, 11434), || "not reached".into()))?;
    stage.kubectl("-n unguarded label pod sneaky llm-guard=enabled")?;
    eventually("nobody reaches it", Duration::from_secs(20), || ensure(!stage.reaches(&near, &address, 11434), || "it is reached".into()))?;
    Ok(())
}

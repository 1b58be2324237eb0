//! Settings that somebody put in by hand: no effect, and put right.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests::{self, Ollama};

const PUT_RIGHT: Duration = Duration::from_secs(15);

/// An old, a foreign and an unsigned `ConfigMap`, and none at all.
pub(crate) fn by_hand(stage: &Stage) -> Scene {
    for namespace in ["tampered", "elsewhere"] {
        stage.apply(&format!(
            "{}{}{}{}",
            manifests::namespace(namespace, "llm-guard: enabled"),
            manifests::registry_for(namespace, stage),
            Ollama::non_root().deployment(namespace, 1, stage.registry_address()),
            manifests::client(namespace, "client"),
        ))?;
        stage.rolled_out(namespace, "deployment/ollama")?;
    }
    stage.ready("tampered", "client")?;
    let (map, monitor) = settings(stage, "tampered")?;
    stage.kubectl("-n tampered annotate deployment/ollama llm-guard.io/mode=hard")?;
    eventually("hard", PUT_RIGHT, || mode(stage, "tampered", "hard"))?;
    let (_, foreign) = settings(stage, "elsewhere")?;
    let (_, hard) = settings(stage, "tampered")?;
    ensure(monitor != hard, || "the settings should have changed".into())?;
    let (_, body) = hard.split_once('\n').ok_or("one line")?;
    let softer = body.replace("\"hard\"", "\"monitor\"");
    let unsigned = softer.clone();
    let edited = format!("{}\n{softer}", hard.lines().next().unwrap_or_default());
    let client = Place::new("tampered", "client", "client");
    let url = format!("http://{}:11434/api/chat", stage.service("tampered", "ollama")?);
    let refused = |what: &str| {
        let reply = stage.ask(&client, &url, Some(&chat("calm", &stage.planted.injection, false)), &[])?;
        ensure(reply.status == 400, || format!("{what}: {reply:?}"))
    };
    for (what, text) in [("old", &monitor), ("foreign", &foreign), ("unsigned", &unsigned), ("edited", &edited)] {
        let patch = json!({"data": {"settings": text}}).to_string();
        stage.words(&["-n", "tampered", "patch", "configmap", &map, "--type=merge", "-p", &patch])?;
        refused(what)?;
        eventually(&format!("{what}: put right"), PUT_RIGHT, || {
            refused(what)?;
            let (_, now) = settings(stage, "tampered")?;
            ensure(&now != text && now.contains("\"hard\""), || "it stands as it was put in".into())
        })?;
        eventually(&format!("{what}: loaded again"), PUT_RIGHT, || mode(stage, "tampered", "hard"))?;
    }
    stage.kubectl(&format!("-n tampered delete configmap {map}"))?;
    refused("deleted")?;
    eventually("deleted: put right", PUT_RIGHT, || settings(stage, "tampered").map(|_| ()))?;
    refused("deleted")?;

    // A key that changes under running guards.
    let before = settings(stage, "tampered")?.1;
    let injector = stage.pods("llm-guard-system", "app.kubernetes.io/name=llm-guard-injector")?;
    let name = injector.first().and_then(|pod| pod.pointer("/metadata/name")).and_then(Value::as_str).ok_or("no injector")?.to_owned();
    stage.kubectl(&format!("-n llm-guard-system exec {name} -- /llm-guard-injector rotate-key"))?;
    eventually("signed by the next key", PUT_RIGHT, || {
        let now = settings(stage, "tampered")?.1;
        let key = |text: &str| text.split(' ').nth(1).map(str::to_owned);
        ensure(key(&now) != key(&before), || "the same key".into())
    })?;
    stage.kubectl("-n tampered annotate deployment/ollama llm-guard.io/mode=soft --overwrite")?;
    eventually("soft under the new key", PUT_RIGHT, || mode(stage, "tampered", "soft"))?;
    Ok(())
}

/// The name of a deployment's settings, and their text.
fn settings(stage: &Stage, namespace: &str) -> Result<(String, String), String> {
    let pod = stage.pod_of(namespace, "ollama")?;
    let pod = stage.object(namespace, &format!("pod/{pod}"))?;
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let volume = volumes.iter().find(|volume| volume["name"] == "llm-guard-settings").ok_or("no settings volume")?;
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = sources.iter().find_map(|source| source.pointer("/configMap/name")?.as_str()).ok_or("no ConfigMap")?.to_owned();
    let map = stage.object(namespace, &format!("configmap/{name}"))?;
    let text = map.pointer("/data/settings").and_then(Value::as_str).ok_or("the ConfigMap has no settings")?;
    Ok((name, text.to_owned()))
}

fn mode(stage: &Stage, namespace: &str, mode: &str) -> Scene {
    let pod = stage.pod_of(namespace, "ollama")?;
    let said = stage.guards_settings(namespace, &pod)?;
    ensure(said["mode"] == mode && said["error"].is_null(), || said.to_string())
}

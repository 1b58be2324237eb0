//! Every known way to step around the guard, tried from the model's own container.

use serde_json::Value;

use crate::kit::{Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests;

/// A pod that has what an attacker might bring: tools, and the model's server beside them.
fn pod(namespace: &str, name: &str, image: &str, annotations: &str, security: &str, neighbour: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{llm-guard: enabled, app: {name}}}, annotations: {{llm-guard.io/mode: hard{annotations}}}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: ollama
    image: localhost/{image}:test
    imagePullPolicy: Never
    ports: [{{containerPort: 11434}}]
    env: [{{name: OLLAMA_MODELS, value: /models}}, {{name: HOME, value: /tmp}}]
    securityContext: {security}
    readinessProbe: {{httpGet: {{path: /, port: 11434}}, periodSeconds: 1}}
{neighbour}"
    )
}

/// How many ways `around` knows.
const AROUND: usize = 15;

/// Where nothing guards the model, each of these ways leads to it: so where one doesn't, that is the guard's doing.
pub(crate) fn open_without_a_guard(stage: &Stage) -> Scene {
    let unlabelled =
        |text: String| text.replace("llm-guard: enabled, ", "").replace("annotations: {llm-guard.io/mode: hard}", "annotations: {}");
    let server = unlabelled(pod("ways-open", "ollama", "ollama-attacker", "", "{}", ""));
    stage.apply(&format!("{}{server}{}", manifests::namespace("ways-open", ""), unlabelled(waiting("ways-open"))))?;
    stage.ready("ways-open", "ollama")?;
    let place = Place::new("ways-open", "ollama", "ollama");
    let said = stage.run_in(&place, &["/usr/bin/around", "ways", "11434", &stage.address("ways-open", "ollama")?])?;
    ensure(said.lines().count() == AROUND, || format!("{AROUND} ways: {said}"))?;
    ensure(said.lines().all(|line| line.ends_with("\tmodel") || line.ends_with("\topen")), || said)?;
    let said = revived(stage, "ways-open")?;
    ensure(said.ends_with("\tmodel"), || said)
}

/// A connection that is older than the model's server leads to the guard, or nowhere.
pub(crate) fn along_an_older_connection(stage: &Stage) -> Scene {
    stage.apply(&format!("{}{}", manifests::namespace("ways-older", ""), waiting("ways-older")))?;
    let said = revived(stage, "ways-older")?;
    ensure(said.starts_with("an older connection\t") && !said.ends_with("\tmodel"), || said.clone())?;
    // It isn't that the server didn't come up.
    ensure(!said.contains("listen") && !said.contains("in use"), || said)
}

/// A pod whose server is started by hand.
fn waiting(namespace: &str) -> String {
    pod(namespace, "waiting", "ollama-attacker", "", "{}", "")
        .replace("    ports:", "    command: [/bin/busybox, sleep, '100000']\n    ports:")
        .replace("    readinessProbe: {httpGet: {path: /, port: 11434}, periodSeconds: 1}\n", "")
}

fn revived(stage: &Stage, namespace: &str) -> Result<String, String> {
    stage.ready(namespace, "waiting")?;
    let place = Place::new(namespace, "waiting", "ollama");
    let said = stage.run_in(&place, &["/usr/bin/around", "revive", "11434", "/bin/ollama", "serve"])?;
    Ok(said.trim().to_owned())
}

/// Tries each way as the container's user; each must end at the guard or nowhere.
fn tries(stage: &Stage, place: &Place, as_user: &[&str]) -> Scene {
    let gid = guards_group(stage, place)?;
    let body = chat("leaky", "hello", false);
    let direct = format!("curl -sS -m 5 -d '{body}' http://127.0.0.1:11434/api/chat");
    let address = stage.address(&place.namespace, &place.pod)?;
    let ways: Vec<(&str, String)> = vec![
        ("loopback", direct.clone()),
        ("IPv6 loopback", direct.replace("127.0.0.1", "[::1]")),
        ("mapped address", direct.replace("127.0.0.1", "[::ffff:127.0.0.1]")),
        ("other loopback address", direct.replace("127.0.0.1", "127.0.0.2")),
        ("the pod's address", direct.replace("127.0.0.1", &address)),
        ("unspecified address", direct.replace("127.0.0.1", "0.0.0.0")),
        ("from the model's own port", direct.replace("curl ", "curl --local-port 11434 ")),
        ("from the guard's port", direct.replace("curl ", "curl --local-port 15434 ")),
        ("become the guard", format!("/usr/bin/setpriv --reuid 11434 --regid {gid} --clear-groups {direct}")),
        ("become its user", format!("/usr/bin/setpriv --reuid 11434 {direct}")),
        ("become its group", format!("/usr/bin/setpriv --regid {gid} {direct}")),
        (
            "a program that is the guard's",
            format!(
                "cp /usr/bin/curl /tmp/curl && chown 11434:{gid} /tmp/curl; chmod 6755 /tmp/curl; {}",
                direct.replace("curl ", "/tmp/curl ")
            ),
        ),
        ("no rules", format!("/usr/sbin/iptables -t nat -F && /usr/sbin/iptables -t filter -F && {direct}")),
        ("no rules for IPv6", format!("/usr/sbin/ip6tables -t nat -F && {}", direct.replace("127.0.0.1", "[::1]"))),
        ("an own user namespace", format!("busybox unshare -U -r /usr/sbin/iptables -t nat -F && {direct}")),
    ];
    for (way, command) in ways {
        let mut words: Vec<&str> = as_user.to_vec();
        words.extend(["/bin/sh", "-c", &command]);
        let said = stage.run_in(place, &words).unwrap_or_else(|error| error);
        for (kind, value) in &stage.planted.secrets {
            ensure(!said.contains(value), || format!("{way}, as {as_user:?}: the {kind} came through"))?;
        }
    }
    let mut words = as_user.to_vec();
    words.extend(["/usr/bin/around", "ways", "11434", &address]);
    let said = stage.run_in(place, &words)?;
    ensure(said.lines().count() == AROUND, || format!("{AROUND} ways: {said}"))?;
    ensure(!said.contains("\tmodel") && !said.contains("\topen"), || format!("as {as_user:?}: {said}"))?;
    // The tools are there and work (by their paths: the shell would take its own of the same name), so that what failed didn't fail for want of them.
    for tool in [
        "/usr/bin/setpriv --version",
        "/usr/sbin/iptables --version",
        "/usr/sbin/ip6tables --version",
        "busybox unshare --help 2>&1 | grep -q Usage",
    ] {
        let said = stage.run_in(place, &[as_user, &["/bin/sh", "-c", &format!("{tool} && echo works")]].concat())?;
        ensure(said.contains("works"), || format!("{tool}: {said}"))?;
    }
    // Nor is the guard to be ended from here: whoever tries finds no such process, and it is the one that was there before.
    let killed =
        stage.run_in(place, &[as_user, &["/bin/sh", "-c", "busybox kill -9 $(busybox pidof llm-guard-sidecar) && echo killed"]].concat());
    ensure(!killed.is_ok_and(|said| said.contains("killed")), || "the guard was killed from the model's container".into())?;
    let pod = stage.object(&place.namespace, &format!("pod/{}", place.pod))?;
    let statuses = pod.pointer("/status/initContainerStatuses").and_then(Value::as_array).cloned().unwrap_or_default();
    let guard = statuses.iter().find(|status| status["name"] == "llm-guard").ok_or("the guard has no status")?;
    ensure(guard["restartCount"] == 0, || format!("the guard was restarted: {guard}"))?;
    // The ways are closed, and the road is open: what was asked for is there, judged.
    let said = stage.run_in(place, &[as_user, &["/bin/sh", "-c", &direct]].concat())?;
    ensure(said.contains("[REDACTED_GITHUB_TOKEN]"), || format!("the guard's answer: {said}"))
}

/// The group that the injector drew.
fn guards_group(stage: &Stage, place: &Place) -> Result<u64, String> {
    let pod = stage.object(&place.namespace, &format!("pod/{}", place.pod))?;
    let containers = pod.pointer("/spec/initContainers").and_then(Value::as_array).cloned().unwrap_or_default();
    let guard = containers.iter().find(|container| container["name"] == "llm-guard").ok_or("the pod has no guard")?;
    guard.pointer("/securityContext/runAsGroup").and_then(Value::as_u64).ok_or_else(|| "the guard has no group".to_owned())
}

/// As root, with the runtime's own capabilities, as the official image runs.
pub(crate) fn as_root(stage: &Stage) -> Scene {
    stage.apply(&format!("{}{}", manifests::namespace("ways-root", ""), pod("ways-root", "ollama", "ollama-attacker", "", "{}", "")))?;
    stage.ready("ways-root", "ollama")?;
    let place = Place::new("ways-root", "ollama", "ollama");
    ensure(stage.run_in(&place, &["busybox", "id", "-u"])?.trim() == "0", || "it should run as root".into())?;
    tries(stage, &place, &[])
}

/// As a user without privileges.
pub(crate) fn as_its_user(stage: &Stage) -> Scene {
    let security = "{runAsUser: 1000, runAsGroup: 1000}";
    stage.apply(&format!(
        "{}{}",
        manifests::namespace("ways-user", ""),
        pod("ways-user", "ollama", "ollama-attacker", "", security, "")
    ))?;
    stage.ready("ways-user", "ollama")?;
    tries(stage, &Place::new("ways-user", "ollama", "ollama"), &[])
}

/// From an image whose user is the guard's, which the injector can't see.
pub(crate) fn as_the_guards_user(stage: &Stage) -> Scene {
    stage.apply(&format!("{}{}", manifests::namespace("ways-guard", ""), pod("ways-guard", "ollama", "ollama-user", "", "{}", "")))?;
    stage.ready("ways-guard", "ollama")?;
    let place = Place::new("ways-guard", "ollama", "ollama");
    ensure(stage.run_in(&place, &["busybox", "id", "-u"])?.trim() == "11434", || "it should run as 11434".into())?;
    tries(stage, &place, &[])
}

/// A neighbour that drops root by itself: not without `allow-setuid`, and with it in monitor alone.
pub(crate) fn neighbour_that_drops_root(stage: &Stage) -> Scene {
    let neighbour = "  - name: helper
    image: localhost/gosu:test
    imagePullPolicy: Never
    command: [/usr/sbin/gosu, '65534:65534', /bin/busybox, sleep, '100000']
";
    let plain = pod("ways-gosu", "plain", "ollama", "", "{}", neighbour);
    let allowed = pod("ways-gosu", "allowed", "ollama", ", llm-guard.io/allow-setuid: helper", "{}", neighbour)
        .replace("llm-guard.io/mode: hard", "llm-guard.io/mode: monitor");
    stage.apply(&format!("{}{plain}{allowed}", manifests::namespace("ways-gosu", "")))?;
    // Without it the neighbour can't become another, and says so by ending.
    eventually("the neighbour fails", std::time::Duration::from_mins(1), || {
        let pod = stage.object("ways-gosu", "pod/plain")?;
        let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).cloned().unwrap_or_default();
        let helper = statuses.iter().find(|status| status["name"] == "helper").cloned().unwrap_or_default();
        ensure(helper["restartCount"].as_u64() > Some(0), || helper.to_string())
    })?;
    stage.ready("ways-gosu", "allowed")?;
    let helper = Place::new("ways-gosu", "allowed", "helper");
    ensure(stage.run_in(&helper, &["busybox", "id", "-u"])?.trim() == "0", || "exec comes as root".into())?;
    // What is at stake: here a process may become the guard's user and group, and meets the model without the guard, whose answers bear
    // a request's id. So the same attempt, where it fails, fails by what the injector did.
    let gid = guards_group(stage, &helper)?;
    let become_the_guard = format!("/usr/sbin/gosu 11434:{gid} curl -sS -i -m 5 http://127.0.0.1:11434/api/version");
    let answer = stage.run_in(&helper, &["/bin/sh", "-c", &become_the_guard])?;
    ensure(answer.contains("200 OK") && !answer.to_lowercase().contains("x-request-id"), || format!("past the guard: {answer}"))?;
    let answer = stage.run_in(&helper, &["/bin/sh", "-c", "curl -sS -i -m 5 http://127.0.0.1:11434/api/version"])?;
    ensure(answer.to_lowercase().contains("x-request-id"), || format!("by the guard: {answer}"))?;
    let settings = stage.guards_settings("ways-gosu", "allowed")?;
    ensure(settings["mode"] == "monitor", || settings.to_string())?;
    // More is refused where it is asked for.
    let more = pod("ways-gosu", "more", "ollama", ", llm-guard.io/allow-setuid: helper", "{}", neighbour);
    match stage.apply(&more) {
        Err(said) if said.contains("allow-setuid") && said.contains("monitor") => Ok(()),
        other => Err(format!("hard beside allow-setuid: {other:?}")),
    }
}

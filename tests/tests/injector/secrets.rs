//! The certificate and the keys: made, shared, put right, renewed, rotated.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use llm_guard_tests::cluster::wait_until;
use serde_json::{Value, json};

use crate::field::{Field, INJECTOR, PlayedGuard, SOON, SYSTEM, entries, free_address, pod};

const CERTIFICATES: &str = "llm-guard-injector-certificates";
const SIGNING: &str = "llm-guard-injector-signing";

fn bundles(field: &Field) -> io::Result<Vec<Value>> {
    let both = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"].map(|kind| field.api.json(&[kind, INJECTOR]));
    let [mutating, validating] = both;
    let entries = [mutating?, validating?].map(|configuration| configuration["webhooks"].as_array().cloned().unwrap_or_default());
    Ok(entries.concat().iter().map(|entry| entry["clientConfig"]["caBundle"].clone()).collect())
}

fn secret(field: &Field, name: &str) -> io::Result<Value> {
    field.api.json(&["-n", SYSTEM, "secret", name])
}

/// Waits until every entry has the bundle of the Secret.
fn wait_for_bundles(field: &Field) -> io::Result<()> {
    let expected = entries()?;
    assert!(expected >= 9, "only {expected} entries are installed");
    wait_until("the caBundle is in all entries", SOON, || {
        let wanted = secret(field, CERTIFICATES).map_err(|error| error.to_string())?["data"]["ca.crt"].clone();
        let bundles = bundles(field).map_err(|error| error.to_string())?;
        let right = bundles.iter().filter(|bundle| **bundle == wanted).count();
        if right == bundles.len() && right == expected && wanted.is_string() {
            Ok(())
        } else {
            Err(format!("{right} of {}", bundles.len()))
        }
    })
}

/// The API server asks the injector, or refuses the pod.
fn is_asked(field: &Field, namespace: &str) -> io::Result<()> {
    let args = ["-n", namespace, "create", "--dry-run=server", "-o", "json", "-f", "-"];
    let made: Value = serde_json::from_str(&field.api.kubectl_with(&args, &pod("asked", &json!({})).to_string())?)?;
    if made["metadata"]["labels"]["llm-guard.io/guarded"] == "true" { Ok(()) } else { Err(io::Error::other(made.to_string())) }
}

#[test]
fn a_certificate_is_made_and_put_in_and_put_right_after_edits() -> io::Result<()> {
    let (field, _injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    wait_for_bundles(&field)?;
    is_asked(&field, &namespace)?;

    // Somebody empties one entry, and damages another.
    for (kind, value) in [("mutatingwebhookconfiguration", json!(null)), ("validatingwebhookconfiguration", bundles(&field)?[0].clone())] {
        let operation = match value {
            Value::Null => json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]),
            _ => json!([{"op": "replace", "path": "/webhooks/1/clientConfig/caBundle", "value": other_bundle()}]),
        };
        field.api.kubectl(&["patch", kind, INJECTOR, "--type=json", "-p", &operation.to_string()])?;
    }
    wait_for_bundles(&field)?;
    is_asked(&field, &namespace)?;

    // The installation is applied again.
    field.install_webhooks()?;
    wait_for_bundles(&field)?;
    is_asked(&field, &namespace)
}

/// Another authority's certificate: the API server takes no bundle that is none.
fn other_bundle() -> String {
    let made = std::process::Command::new("sh")
        .args(["-c", "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=other -days 1 2>/dev/null | base64 -w0"])
        .output();
    made.map(|made| String::from_utf8_lossy(&made.stdout).into_owned()).unwrap_or_default()
}

#[test]
fn a_secret_that_is_damaged_or_deleted_is_replaced_while_pods_are_admitted() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    let before = secret(&field, CERTIFICATES)?["data"].clone();
    let patch = json!({"data": {"tls.key": "bm8ga2V5"}}).to_string();
    field.api.kubectl(&["-n", SYSTEM, "patch", "secret", CERTIFICATES, "--type=merge", "-p", &patch])?;
    let replaced = wait_until("the Secret is replaced", SOON, || {
        let now = secret(&field, CERTIFICATES).map_err(|error| error.to_string())?["data"].clone();
        if now["tls.key"] != "bm8ga2V5" && now["tls.crt"] != before["tls.crt"] { Ok(now) } else { Err("it is as it was".into()) }
    })?;
    assert!(field.wait_for_event(SYSTEM, "SecretReplaced")?.contains("tls.key"));
    // Admitted at every moment: before the new certificate is shown, and after.
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        is_asked(&field, &namespace)?;
    }
    wait_until("the new certificate is shown", SOON, || {
        let shown = injector.said().map_err(|error| error.to_string())?.matches("a certificate is shown").count();
        if shown == 2 { Ok(()) } else { Err(format!("{shown} times")) }
    })?;
    field.api.kubectl(&["-n", SYSTEM, "delete", "secret", CERTIFICATES])?;
    wait_until("there is a Secret again", SOON, || match secret(&field, CERTIFICATES) {
        Ok(now) if now["data"]["tls.crt"] != replaced["tls.crt"] => Ok(()),
        other => Err(format!("{:?}", other.map(|_| "the old one"))),
    })?;
    wait_for_bundles(&field)?;
    is_asked(&field, &namespace)
}

#[test]
fn two_injectors_that_begin_together_agree_on_one_certificate_and_one_pair_of_keys() -> io::Result<()> {
    let field = Field::bare()?;
    field.install_webhooks()?;
    let second_address = free_address()?;
    let (first, second) = (field.injector(field.webhooks(), &[])?, field.injector(second_address, &[])?);
    first.wait_until_ready()?;
    second.wait_until_ready()?;
    let namespace = field.namespace("a", &[])?;
    is_asked(&field, &namespace)?;
    field.lead_webhooks_to(second_address)?;
    wait_for_bundles(&field)?;
    // The API server follows its configurations within a moment.
    thread::sleep(Duration::from_millis(500));
    is_asked(&field, &namespace)?;
    for name in [CERTIFICATES, SIGNING] {
        let line = format!("\"secret\":\"{name}\"");
        let written = first.said()?.matches(&line).count() + second.said()?.matches(&line).count();
        assert_eq!(written, 1, "{name} is written once");
    }
    Ok(())
}

#[test]
fn a_certificate_is_renewed_while_pods_are_admitted() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&["--certificate-life", "24"])?;
    let namespace = field.namespace("a", &[])?;
    let first = secret(&field, CERTIFICATES)?["data"]["tls.crt"].clone();
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        is_asked(&field, &namespace)?;
        thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(secret(&field, CERTIFICATES)?["data"]["tls.crt"], first);
    let shown = injector.said()?.matches("a certificate is shown").count();
    assert!(shown >= 2, "{shown} certificates were shown");
    Ok(())
}

fn signer(settings: &Value) -> &str {
    settings["text"].as_str().and_then(|text| text.split(' ').nth(1)).unwrap_or_default()
}

#[test]
fn after_a_rotation_settings_are_signed_with_the_key_that_guards_know_as_the_next() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({}))?;
    field.pod_of_deployment(&namespace, "ollama-1-a")?;
    let guard = PlayedGuard::start()?;
    field.run_at(&namespace, "ollama-1-a", guard.address)?;
    let before = field.wait_for_settings(&namespace, "settings are there", |_| true)?;
    let pod = field.api.json(&["-n", &namespace, "pod", "ollama-1-a"])?;
    let containers = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let guard_container = containers.iter().find(|container| container["name"] == "llm-guard").cloned().unwrap_or_default();
    let args: Vec<String> = serde_json::from_value(guard_container["args"].clone())?;
    let keys: Vec<&String> =
        args.iter().zip(args.iter().skip(1)).filter(|(flag, _)| *flag == "--settings-key").map(|(_, key)| key).collect();
    assert_eq!(keys.len(), 2, "{args:?}");
    assert_eq!(signer(&before), keys[0]);

    assert!(field.command("rotate-key")?.contains(keys[1].as_str()));
    let after = field.wait_for_settings(&namespace, "they are signed with the next key", |settings| signer(settings) == keys[1])?;
    assert!(after["serial"].as_u64() > before["serial"].as_u64(), "{after}");
    injector.wait_for_metric("pods_to_restart", 0.0, SOON)?;

    // Nobody knows the one after that.
    field.command("rotate-key")?;
    field.wait_for_settings(&namespace, "they are signed with another", |settings| signer(settings) != keys[1])?;
    injector.wait_for_metric("pods_to_restart", 1.0, SOON)?;
    assert!(field.wait_for_event(&namespace, "RestartNeeded")?.contains("ollama-1-a"));
    Ok(())
}

#[test]
fn lost_keys_are_drawn_anew_and_the_pods_to_restart_are_named() -> io::Result<()> {
    let (field, injector) = Field::with_injector(&[])?;
    let namespace = field.namespace("a", &[])?;
    field.create(&namespace, &pod("bare", &json!({})))?;
    let before = field.wait_for_settings(&namespace, "settings are there", |_| true)?;
    field.api.kubectl(&["-n", SYSTEM, "delete", "secret", SIGNING])?;
    field.wait_for_settings(&namespace, "they are signed with another key", |settings| signer(settings) != signer(&before))?;
    injector.wait_for_metric("pods_to_restart", 1.0, SOON)?;
    assert!(field.wait_for_event(&namespace, "RestartNeeded")?.contains("bare"));
    field.api.kubectl(&["-n", &namespace, "delete", "pod", "bare", "--grace-period=0", "--force"])?;
    injector.wait_for_metric("pods_to_restart", 0.0, SOON)
}

//! Whole pods, as files: `tests/admission/pods/NAME.yaml` and what becomes of each in `tests/admission/planned/NAME.yaml`.
//!
//! A file holds what `kubectl apply` would be given: the pod, or the workload, and if it matters its Namespace (without one: one that
//! asks for a guard) and its Services. `LLM_GUARD_WRITE_EXPECTED=1 cargo test` writes what is expected anew; then read the difference.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::webhook::{Review, Verdict, pod_created, workload};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/admission").join(name)
}

/// The object of a file, and what surrounds it.
fn read(path: &Path) -> (Value, Surroundings) {
    let text = std::fs::read_to_string(path).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut s = surroundings();
    let mut object = None;
    for document in documents {
        let texts = |map: &str| serde_json::from_value(document["metadata"][map].clone()).unwrap_or_default();
        match document["kind"].as_str() {
            Some("Namespace") => {
                s.namespace.labels = texts("labels");
                s.namespace.annotations = texts("annotations");
            }
            Some("Service") => s.services.push(serde_json::from_value(document).unwrap()),
            _ => assert!(object.replace(document).is_none(), "{}: more than one object", path.display()),
        }
    }
    let object = object.unwrap_or_else(|| panic!("{}: no object", path.display()));
    s.bare = object["kind"] == "Pod" && object["metadata"]["ownerReferences"].is_null();
    (object, s)
}

/// What becomes of it, as the API server is told.
fn decided(object: &Value, s: &Surroundings) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default();
    let review = serde_json::from_value::<Review>(json!({
        "uid": "u", "kind": {"kind": kind}, "namespace": s.namespace.name, "operation": "CREATE", "object": object,
    }))
    .unwrap();
    let verdict = if kind == "Pod" { pod_created(&review, s) } else { workload(&review, s) };
    let answer = verdict.answer("u");
    let mut decided = json!({"result": verdict.result()});
    if let Some(warnings) = answer["response"].get("warnings") {
        decided["warnings"] = warnings.clone();
    }
    if let Some(status) = answer["response"].get("status") {
        decided["message"] = status["message"].clone();
    }
    match verdict {
        Verdict::Untouched(why) => decided["why"] = json!(why.name()),
        Verdict::Injected { patch, .. } => {
            let mut pod = object.clone();
            json_patch::patch(&mut pod, &patch).unwrap();
            decided["pod"] = pod;
        }
        Verdict::Allowed(_) | Verdict::Refused(..) | Verdict::Failed(_) => {}
    }
    decided
}

#[test]
fn every_file_becomes_what_is_expected_of_it() {
    let write = std::env::var_os("LLM_GUARD_WRITE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(directory("pods")).unwrap() {
        let path = entry.unwrap().path();
        let (object, s) = read(&path);
        let decided = decided(&object, &s);
        let expected = directory("planned").join(path.file_name().unwrap());
        count += 1;
        if write {
            std::fs::create_dir_all(directory("planned")).unwrap();
            std::fs::write(&expected, serde_saphyr::to_string(&decided).unwrap()).unwrap();
        } else {
            let text = std::fs::read_to_string(&expected).unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
            let expected: Value = serde_saphyr::from_str(&text).unwrap();
            if decided != expected {
                wrong.push(format!("{}:\n{}", path.display(), json_patch::diff(&expected, &decided)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 28, "only {count} files");
    let expected = std::fs::read_dir(directory("planned")).unwrap().count();
    assert_eq!(expected, count, "there are expectations of files that are gone");
}

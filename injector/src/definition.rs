//! The definition of the resource `GuardPolicy`, made of the engine's own types: what they take, the API server takes.
//!
//! The invariant: a key that nobody knows reaches the webhook, which refuses it by name. An API server would otherwise cut it out
//! without a word, and the policy would say less than its author wrote. So every object of the spec keeps what it doesn't know, and
//! every key may be null.

use kube::core::schema::StructuralSchemaRewriter;
use llm_guard_engine::policy::Spec;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Why there is no definition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// A defect: the types don't make a schema.
    #[error("the schema can't be written: {0}")]
    Json(#[from] serde_json::Error),
    /// A defect: the schema doesn't make a document.
    #[error("the definition can't be written: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// The definition.
pub(crate) fn definition() -> Result<Value, DefinitionError> {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings.with_transform(StructuralSchemaRewriter).into_generator();
    let mut spec = serde_json::to_value(generator.into_root_schema_for::<Spec>())?;
    settle(&mut spec);
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {"type": "string"},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "reason": {"type": "string"},
            "message": {"type": "string"},
        },
    });
    let accepted = ".status.conditions[?(@.type==\"Accepted\")].status";
    Ok(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "guardpolicies.llm-guard.io"},
        "spec": {
            "group": "llm-guard.io",
            "scope": "Namespaced",
            "names": {"kind": "GuardPolicy", "plural": "guardpolicies", "singular": "guardpolicy", "shortNames": ["gp"]},
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Mode", "type": "string", "jsonPath": ".spec.mode"},
                    {"name": "Accepted", "type": "string", "jsonPath": accepted},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": {
                    "description": "A policy for one workload, several, or a guard that runs on its own.",
                    "type": "object",
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": {
                            "description": "What became of it.",
                            "type": "object",
                            "properties": {"conditions": {
                                "type": "array",
                                "items": condition,
                                "x-kubernetes-list-type": "map",
                                "x-kubernetes-list-map-keys": ["type"],
                            }},
                        },
                    },
                }},
            }],
        },
    }))
}

/// The definition as YAML.
pub(crate) fn yaml() -> Result<String, DefinitionError> {
    Ok(serde_saphyr::to_string(&definition()?)?)
}

/// Makes of a schema one that Kubernetes takes, and that keeps what it doesn't know.
fn settle(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    for key in ["$schema", "title", "additionalProperties", "default"] {
        members.remove(key);
    }
    // A value or null: the value.
    if let Some(Value::Array(options)) = members.remove("anyOf")
        && let Some(Value::Object(value)) = options.into_iter().find(|option| option.get("type").is_some())
    {
        for (key, value) in value {
            members.entry(key).or_insert(value);
        }
    }
    members.remove("nullable");
    if let Some(Value::Array(options)) = members.get_mut("enum") {
        options.retain(|option| !option.is_null());
    }
    if members.get("type").is_some_and(|of| of == "object") {
        members.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for property in properties.values_mut() {
            settle(property);
            // An API server drops a null that isn't allowed, before any webhook sees it: `allow:` with nothing behind it would then
            // allow everything. So it passes here, and the engine refuses it. (A mode without a value says nothing to the engine either,
            // and an enum would have to list null.)
            if property.get("enum").is_none()
                && let Value::Object(property) = property
            {
                property.insert("nullable".into(), true.into());
            }
        }
    }
    if let Some(items) = members.get_mut("items") {
        settle(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        definition().unwrap().pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap().clone()
    }

    #[test]
    fn modes_and_kinds_are_closed_sets_and_everything_is_described() {
        let spec = spec();
        assert_eq!(spec["properties"]["mode"]["enum"], json!(["monitor", "soft", "hard"]));
        let kinds = &spec["properties"]["redaction"]["properties"]["kinds"]["items"]["enum"];
        assert!(kinds.as_array().unwrap().contains(&json!("creditCard")), "{kinds}");
        for (name, section) in spec["properties"].as_object().unwrap() {
            assert!(section["description"].is_string(), "{name}: {section}");
        }
    }

    #[test]
    fn what_is_installed_is_this_definition() {
        let installed = include_str!("../../deploy/chart/files/guardpolicies.yaml");
        assert!(
            installed == yaml().unwrap(),
            "write what `llm-guard-injector crd` prints there, and then deploy/manifest.yaml by deploy/render"
        );
    }

    #[test]
    fn every_object_of_the_spec_keeps_what_it_doesnt_know_and_holds_nothing_that_kubernetes_refuses() {
        fn look(schema: &Value, at: &str) {
            for key in ["$ref", "additionalProperties", "anyOf", "oneOf", "allOf", "$schema", "definitions"] {
                assert!(schema.get(key).is_none(), "{key} at {at}: {schema}");
            }
            let kind = schema["type"].as_str().unwrap_or_else(|| panic!("no type at {at}: {schema}"));
            if kind == "object" {
                assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], true, "{at}");
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                look(property, &format!("{at}.{name}"));
            }
            if let Some(items) = schema.get("items") {
                look(items, &format!("{at}[]"));
            }
        }
        look(&spec(), "spec");
    }
}

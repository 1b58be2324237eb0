//! The definitions of the resources `GuardPolicy` and `GuardException`, made of the engine's own types: what they take, the API server
//! takes.
//!
//! The invariant: a key that nobody knows reaches the webhook, which refuses it by name. An API server would otherwise cut it out
//! without a word, and the policy would say less than its author wrote. So every object of the spec keeps what it doesn't know, and
//! every key may be null.

use kube::core::schema::StructuralSchemaRewriter;
use llm_guard_engine::policy::{ExceptionSpec, Spec};
use schemars::JsonSchema;
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

/// A resource that is defined here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lowercase")]
pub(crate) enum Resource {
    GuardPolicies,
    GuardExceptions,
}

impl Resource {
    pub(crate) const ALL: [Self; 2] = [Self::GuardPolicies, Self::GuardExceptions];

    fn definition(self) -> Result<Value, DefinitionError> {
        match self {
            Self::GuardPolicies => policies(),
            Self::GuardExceptions => exceptions(),
        }
    }

    /// Its definition as YAML.
    pub(crate) fn yaml(self) -> Result<String, DefinitionError> {
        Ok(serde_saphyr::to_string(&self.definition()?)?)
    }
}

/// What may stand below `spec`.
fn schema<T: JsonSchema>() -> Result<Value, DefinitionError> {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings.with_transform(StructuralSchemaRewriter).into_generator();
    let mut spec = serde_json::to_value(generator.into_root_schema_for::<T>())?;
    settle(&mut spec);
    Ok(spec)
}

fn policies() -> Result<Value, DefinitionError> {
    let spec = schema::<Spec>()?;
    let accepted = ".status.conditions[?(@.type==\"Accepted\")].status";
    let names = json!({"kind": "GuardPolicy", "plural": "guardpolicies", "singular": "guardpolicy", "shortNames": ["gp"]});
    let columns = json!([
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode"},
        {"name": "Controls", "type": "string", "jsonPath": ".status.controls"},
        {"name": "Pods", "type": "string", "jsonPath": ".status.pods.summary"},
        {"name": "Accepted", "type": "string", "jsonPath": accepted},
        {"name": "Changed", "type": "date", "jsonPath": ".status.changed", "priority": 1},
        {"name": "Lag", "type": "string", "jsonPath": ".status.lag", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    let status = status();
    Ok(resource(&names, &columns, "A policy for one workload, several, or a guard that runs on its own.", &spec, &status))
}

fn exceptions() -> Result<Value, DefinitionError> {
    let mut spec = schema::<ExceptionSpec>()?;
    // Whoever leaves one out learns of it from the webhook, with the others' names.
    if let Some(members) = spec.as_object_mut() {
        members.remove("required");
    }
    let active = ".status.conditions[?(@.type==\"Active\")].status";
    let names = json!({"kind": "GuardException", "plural": "guardexceptions", "singular": "guardexception", "shortNames": ["gex"]});
    let columns = json!([
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode"},
        {"name": "Workloads", "type": "string", "jsonPath": ".spec.workloads"},
        // Not as a date: `kubectl` shows how long ago one was, and can't say that of the future.
        {"name": "Expires", "type": "string", "jsonPath": ".spec.expires"},
        {"name": "Active", "type": "string", "jsonPath": active},
        {"name": "Reason", "type": "string", "jsonPath": ".spec.reason"},
        {"name": "By", "type": "string", "jsonPath": ".status.by", "priority": 1},
        {"name": "Pods", "type": "integer", "jsonPath": ".status.pods", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    let status = json!({
        "description": "What became of it.",
        "type": "object",
        "properties": {
            "conditions": conditions(),
            "workloads": count("While it is in force: how many workloads with guarded pods it concerns."),
            "pods": count("While it is in force: how many guarded pods it concerns."),
            "by": text("Who made it, as the API server knows them."),
        },
    });
    Ok(resource(&names, &columns, "A mode that nothing goes above for a while, whatever else is said, the floor too.", &spec, &status))
}

/// A resource of a namespace with a status, as the API server is told of it.
fn resource(names: &Value, columns: &Value, description: &str, spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.llm-guard.io", names["plural"].as_str().unwrap_or_default())},
        "spec": {
            "group": "llm-guard.io",
            "scope": "Namespaced",
            "names": names,
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {
                    "description": description,
                    "type": "object",
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": status,
                    },
                }},
            }],
        },
    })
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn count(description: &str) -> Value {
    json!({"type": "integer", "format": "int64", "description": description})
}

fn conditions() -> Value {
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
    json!({
        "type": "array",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// What the injector writes of a policy.
fn status() -> Value {
    let workload = json!({
        "type": "object",
        "required": ["workload", "digest", "pods", "inForce"],
        "properties": {
            "workload": text("Whose pods: `Deployment/ollama`; `Namespace/NAME` for those of no workload."),
            "digest": text("Of the settings that their guards should have loaded; a guard says on its port 15435 at /settings what it has."),
            "pods": count("How many guarded pods there are."),
            "inForce": count("On how many of them the guard has said that it loaded these settings."),
        },
    });
    json!({
        "description": "What became of it.",
        "type": "object",
        "properties": {
            "conditions": conditions(),
            "digest": text("Tells this policy from others, whatever they are called: the digest of what it says. Audit records name it."),
            "controls": text("The controls that it says something of."),
            "pods": {
                "type": "object",
                "description": "The guarded pods that go by it.",
                "properties": {
                    "selected": count("How many there are."),
                    "inForce": count("On how many of them it is in force as it is now."),
                    "summary": text("Both: `2/3`."),
                },
            },
            "workloads": {"type": "array", "description": "The same for each workload, the first twenty of them.", "items": workload},
            "observed": text("Changes with the pods that are counted and with what they should have loaded."),
            "changed": {"type": "string", "format": "date-time", "description": "When what its pods should have loaded was last changed."},
            "lag": text("How long it took from then until it was in force on every pod that had run before."),
        },
    })
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

    fn spec(of: Resource) -> Value {
        of.definition().unwrap().pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap().clone()
    }

    #[test]
    fn modes_are_a_closed_set_kinds_are_names_and_everything_is_described() {
        let spec = spec(Resource::GuardPolicies);
        assert_eq!(spec["properties"]["mode"]["enum"], json!(["monitor", "soft", "hard"]));
        // Hundreds, and more with each version: the webhook refuses by name what it doesn't know.
        let kinds = &spec["properties"]["redaction"]["properties"]["kinds"];
        assert_eq!(kinds["items"], json!({"type": "string"}));
        assert!(kinds["description"].as_str().unwrap().contains("check --kinds"), "{kinds}");
        for (name, section) in spec["properties"].as_object().unwrap() {
            assert!(section["description"].is_string(), "{name}: {section}");
        }
        let spec = self::spec(Resource::GuardExceptions);
        assert_eq!(spec["properties"]["mode"]["enum"], json!(["monitor", "soft", "hard"]));
        for name in ["mode", "reason", "expires", "workloads"] {
            assert!(spec["properties"][name]["description"].is_string(), "{name}: {spec}");
        }
    }

    #[test]
    fn what_is_installed_is_this_definition() {
        let installed = [
            (Resource::GuardPolicies, include_str!("../../deploy/chart/files/guardpolicies.yaml")),
            (Resource::GuardExceptions, include_str!("../../deploy/chart/files/guardexceptions.yaml")),
        ];
        assert_eq!(installed.map(|(of, _)| of), Resource::ALL);
        for (of, installed) in installed {
            assert!(
                installed == of.yaml().unwrap(),
                "write what `llm-guard-injector crd {of:?}` (in small letters) prints there, and then deploy/manifest.yaml by deploy/render"
            );
        }
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
        for of in Resource::ALL {
            look(&spec(of), "spec");
        }
    }
}

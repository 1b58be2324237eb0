//! The document as it is written: YAML, strictly read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Mode;
use super::sections::{ManagementSpec, ModelsSpec, NetworkSpec, PromptInjectionSpec, ProtocolSpec, RedactionSpec, ToolsSpec, is_default};

/// The API group and version of the document.
pub(super) const API_VERSION: &str = "llm-guard.io/v1alpha1";
/// Its kind.
pub(super) const KIND: &str = "GuardPolicy";
/// The most bytes that a document may have. Kubernetes keeps objects to 1.5 MiB.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// A policy for one workload, several, or a guard that runs on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardPolicy {
    /// `llm-guard.io/v1alpha1`
    pub api_version: String,
    /// `GuardPolicy`
    pub kind: String,
    /// As of any Kubernetes object.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it says.
    #[serde(default)]
    pub spec: Spec,
}

/// The metadata that the guard reads; the rest is Kubernetes' business.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The policy's name.
    #[serde(default)]
    pub name: String,
    /// Whatever else stands there.
    #[serde(flatten, skip_serializing)]
    _rest: BTreeMap<String, serde_json::Value>,
}

/// What a policy says: a mode, and one section for each control.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Spec {
    /// The mode of every control that has none of its own. Default: monitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// LLM01: prompt injection.
    #[serde(skip_serializing_if = "is_default")]
    pub prompt_injection: PromptInjectionSpec,
    /// LLM02: secrets and personal data in answers.
    #[serde(skip_serializing_if = "is_default")]
    pub redaction: RedactionSpec,
    /// LLM03: which models may be used.
    #[serde(skip_serializing_if = "is_default")]
    pub models: ModelsSpec,
    /// LLM06: which tools may be used.
    #[serde(skip_serializing_if = "is_default")]
    pub tools: ToolsSpec,
    /// Routes that change the server.
    #[serde(skip_serializing_if = "is_default")]
    pub management: ManagementSpec,
    /// What of a request is documented, and what of it can be read.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: ProtocolSpec,
    /// Who may reach the model's port in a cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub network: NetworkSpec,
}

/// Why a document is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It isn't YAML of the right form.
    #[error("{0}")]
    Form(String),
    /// It is something else than a policy of this version.
    #[error("{field} is '{found}'; this guard reads {expected}")]
    Other {
        /// Which of the two fields says so.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A value contradicts another, or fits nothing.
    #[error("spec.{path}: {reason}")]
    Value {
        /// Where.
        path: String,
        /// Why.
        reason: String,
    },
    /// It is too large.
    #[error("the policy has {0} bytes; at most {limit} are read", limit = MAX_BYTES)]
    TooLarge(usize),
}

impl GuardPolicy {
    /// Reads a document.
    pub fn read(yaml: &str) -> Result<Self, PolicyError> {
        if yaml.len() > MAX_BYTES {
            return Err(PolicyError::TooLarge(yaml.len()));
        }
        let document: Self = serde_saphyr::from_str(yaml).map_err(|error| PolicyError::Form(error.to_string().trim_end().to_owned()))?;
        for (field, found, expected) in [("apiVersion", &document.api_version, API_VERSION), ("kind", &document.kind, KIND)] {
            if found != expected {
                return Err(PolicyError::Other { field, found: found.clone(), expected });
            }
        }
        Ok(document)
    }

    /// The policy that holds where there is none: every control with its defaults.
    #[must_use]
    pub fn built_in() -> Self {
        Self { api_version: API_VERSION.into(), kind: KIND.into(), metadata: Metadata::default(), spec: Spec::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_an_error_that_names_it_and_its_place() {
        let head = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p, labels: {a: b}}\nspec:\n";
        for (yaml, expected) in [
            (format!("{head}  redacton: {{}}\n"), "redacton"),
            (format!("{head}  mode: strict\n"), "strict"),
            (format!("{head}  tools:\n    allow:\n    block: [a]\n"), "[] allows nothing"),
            (format!("{head}  models: {{allow: null}}\n"), "[] allows nothing"),
            (format!("{head}  models: {{allow: llama}}\n"), "sequence"),
            (format!("{head}  models: {{cloud: never}}\n"), "never"),
            (format!("{head}  management:\n    allow:\n"), "[] allows nothing"),
            (format!("{head}  management: {{allow: [sign-out]}}\n"), "sign-out"),
            (format!("{head}  protocol: {{images: yes}}\n"), "yes"),
            (format!("{head}  tools: {{allow: [], allow: []}}\n"), "duplicate"),
            ("apiVersion: v1\nkind: GuardPolicy\n".into(), "this guard reads llm-guard.io/v1alpha1"),
            ("apiVersion: llm-guard.io/v1alpha1\nkind: Pod\n".into(), "this guard reads GuardPolicy"),
            ("[".into(), "line 1"),
            (String::new(), ""),
        ] {
            let said = GuardPolicy::read(&yaml).unwrap_err().to_string();
            assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{yaml}: {said}");
        }
    }

    #[test]
    fn a_policy_that_is_written_out_reads_as_it_was() {
        let head = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p, labels: {a: b}}\n";
        for spec in [
            "{}",
            "{mode: hard}",
            "{models: {allow: []}, tools: {allow: []}}",
            "{models: {cloud: allow}}",
            "{models: {allow: [a, 'b:*'], default: a, mode: soft, cloud: deny}, tools: {block: [x], highRisk: [y], allow: [z]}}",
            "{redaction: {kinds: []}, promptInjection: {mode: monitor}, management: {mode: hard}}",
            "{redaction: {kinds: [secrets, creditCard]}}",
            "{management: {allow: [pull, create], from: anyone}, protocol: {unknownFields: drop, fields: [top_k], images: allow}}",
            "{management: {allow: []}}",
            "{network: {from: [{namespaceSelector: {matchLabels: {team: chat}}}]}}",
        ] {
            let read = GuardPolicy::read(&format!("{head}spec: {spec}\n")).unwrap();
            let written = serde_json::to_string(&read).unwrap();
            let again = GuardPolicy::read(&written).unwrap();
            assert_eq!(again.spec, read.spec, "{written}");
            assert_eq!(serde_json::from_str::<GuardPolicy>(&written).unwrap(), again);
        }
    }

    #[test]
    fn an_alias_bomb_is_an_error() {
        let mut yaml = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for n in 1..30 {
            let nine = vec![format!("*a{}", n - 1); 9].join(",");
            yaml = [yaml, format!("a{n}: &a{n} [{nine}]\n")].concat();
        }
        assert!(GuardPolicy::read(&yaml).is_err());
    }
}

//! The document as it is written: YAML, strictly read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Mode;
use super::error::{PolicyError, shown};
use super::network::NetworkSpec;
use super::rules::RuleSpec;
use super::sections::{ManagementSpec, ModelsSpec, PromptInjectionSpec, ProtocolSpec, RedactionSpec, RegoSpec, ToolsSpec, is_default};
use super::yaml::Tree;

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
    /// LLM02: secrets and personal data in answers, and in what is asked.
    #[serde(skip_serializing_if = "is_default")]
    pub redaction: RedactionSpec,
    /// LLM03: which models may be used.
    #[serde(skip_serializing_if = "is_default")]
    pub models: ModelsSpec,
    /// LLM06: which tools may be used.
    #[serde(skip_serializing_if = "is_default")]
    pub tools: ToolsSpec,
    /// The platform's own rules about requests, in Rego.
    #[serde(skip_serializing_if = "is_default")]
    pub rego: RegoSpec,
    /// Routes that change the server.
    #[serde(skip_serializing_if = "is_default")]
    pub management: ManagementSpec,
    /// What of a request is documented, and what of it can be read.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: ProtocolSpec,
    /// Who may reach the model's port in a cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub network: NetworkSpec,
    /// What holds for some requests, on top of all this: for some models, callers, routes or contexts. The first rule that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
}

/// What tells a policy from other objects.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
}

/// What any object says of itself.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    kind: Option<String>,
}

/// Whether there is more in a line than a mark, a directive, a comment and white space.
fn says_something(line: &str) -> bool {
    let line = line.trim();
    let line = line.strip_prefix("---").unwrap_or(line).trim_start();
    !(line.is_empty() || line == "..." || line.starts_with(['#', '%']))
}

/// One document of several.
#[derive(Clone, Debug)]
pub struct Document<'t> {
    /// What stands in it.
    pub text: &'t str,
    /// How many lines of the whole text stand before it.
    pub lines_before: u64,
    /// Of which kind it says that it is. What is no YAML may not say.
    pub kind: Option<String>,
}

impl<'t> Document<'t> {
    fn new(text: &'t str, lines_before: u64) -> Self {
        let kind = || match Tree::read(text) {
            Ok(tree) => tree.decode::<Kind>().ok()?.kind,
            // Others' objects may be nested more deeply than is read here.
            Err(_) => text.lines().find_map(|line| line.strip_prefix("kind:")).map(|kind| kind.trim().to_owned()),
        };
        Self { text, lines_before, kind: kind() }
    }
}

/// The tree of a document of this kind, and of the version that is read here.
pub(super) fn tree(yaml: &str, kind: &str) -> Result<Tree, PolicyError> {
    if yaml.len() > MAX_BYTES {
        return Err(PolicyError::new("", format!("the policy has {} bytes; at most {MAX_BYTES} are read", yaml.len())));
    }
    let tree = Tree::read(yaml)?;
    // What is written for another version is not to be judged by the keys of this one.
    let head: Head = tree.decode()?;
    for (field, found, expected) in [("apiVersion", &head.api_version, API_VERSION), ("kind", &head.kind, kind)] {
        if found != expected {
            let error = PolicyError::new(field, format!("'{}' is something else; this guard reads {expected}", shown(found)));
            return Err(error.at(tree.place_of(field)));
        }
    }
    Ok(tree)
}

impl GuardPolicy {
    /// Reads a document.
    pub fn read(yaml: &str) -> Result<Self, PolicyError> {
        tree(yaml, KIND)?.decode()
    }

    /// Reads a document, and has `judge` see whether what it says makes sense: what that finds is said with its place.
    pub fn read_and<T>(yaml: &str, judge: impl FnOnce(&Self) -> Result<T, PolicyError>) -> Result<(Self, T), PolicyError> {
        let tree = tree(yaml, KIND)?;
        let document = tree.decode()?;
        let judged = judge(&document).map_err(|error| {
            let place = tree.place_of(error.path());
            error.at(place)
        })?;
        Ok((document, judged))
    }

    /// The documents of a text that say something.
    #[must_use]
    pub fn documents(text: &str) -> Vec<Document<'_>> {
        let mut documents = Vec::new();
        // Where the document begins, in bytes and in lines, and whether it says something so far.
        let (mut begin, mut first, mut says) = (0, 0, false);
        let mut place = 0;
        for (line, content) in (0..).zip(text.split_inclusive('\n')) {
            // Three dashes at the start of a line stand nowhere but between documents (YAML 1.2.2, section 9.1.2).
            let is_mark = content.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
            if is_mark && says {
                documents.push(Document::new(&text[begin..place], first));
                says = false;
            }
            if !says && is_mark {
                (begin, first) = (place, line);
            }
            says |= says_something(content);
            place += content.len();
        }
        if says {
            documents.push(Document::new(&text[begin..], first));
        }
        documents
    }

    /// The document as YAML, without what says nothing.
    ///
    /// # Errors
    ///
    /// Never but by a defect: all of it is what YAML can say.
    pub fn to_yaml(&self) -> Result<String, PolicyError> {
        serde_saphyr::to_string(self).map_err(|error| PolicyError::new("", error.to_string()))
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
            (format!("{head}  models: {{allow: llama}}\n"), "a list is expected"),
            (format!("{head}  models: {{cloud: never}}\n"), "never"),
            (format!("{head}  management:\n    allow:\n"), "[] allows nothing"),
            (format!("{head}  management: {{allow: [sign-out]}}\n"), "sign-out"),
            (format!("{head}  protocol: {{images: yes}}\n"), "there is a boolean"),
            (format!("{head}  tools: {{allow: [], allow: []}}\n"), "stands here twice"),
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
            "{models: {allow: [a, 'b:*'], default: a, mode: soft, cloud: deny}, tools: {block: [x], highRisk: [w], allow: [z]}}",
            "{redaction: {kinds: []}, promptInjection: {mode: monitor}, management: {mode: hard}}",
            "{redaction: {kinds: [secrets, creditCard]}}",
            "{management: {allow: [pull, create], from: anyone}, protocol: {unknownFields: drop, fields: [top_k], images: allow}}",
            "{management: {allow: []}}",
            "{rego: {modules: {a: 'package llmguard'}, data: {limits: {a: 1, b: [x, null, 1.5]}}, timeoutMs: 5}}",
            "{rules: [{name: a, when: {models: [x], tools: true, documents: false}, tools: {block: []}, models: {cloud: deny}}]}",
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

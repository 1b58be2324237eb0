//! Rules: what holds for some requests, on top of the rest of the document.
//!
//! The invariant: a rule replaces the keys that it has and leaves all others as they are, so that nothing of the rest is lost by a rule
//! that doesn't mention it.

use serde::{Deserialize, Serialize};

use super::sections::{
    ManagementSpec, ModelsSpec, PromptInjectionSpec, ProtocolSpec, RedactionSpec, RegoSpec, ToolsSpec, is_default, said,
};
use super::{Mode, Spec};

/// What holds for the requests that fit, on top of the rest: the keys that a rule has stand in the place of the same keys outside of
/// it. Of all rules the first that fits counts, and no other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// What logs and `check` call it. Absent: its place, `rules[0]`.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For which requests it holds: those for which everything holds that is said here.
    pub when: WhenSpec,
    /// In the place of the policy's mode. (A control that has a mode of its own outside of the rules keeps it, unless the rule has one
    /// for it.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// LLM01: prompt injection.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prompt_injection: PromptInjectionSpec,
    /// LLM02: secrets and personal data in answers, and in what is asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redaction: RedactionSpec,
    /// LLM03: which models may be used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub models: ModelsSpec,
    /// LLM06: which tools may be used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tools: ToolsSpec,
    /// The platform's own rules about requests, in Rego.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rego: RegoSpec,
    /// Routes that change the server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub management: ManagementSpec,
    /// What of a request is documented, and what of it can be read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: ProtocolSpec,
}

/// For which requests a rule holds: those for which everything holds that is said here. What isn't said makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WhenSpec {
    /// Every model that the request names is one of these, in the words of `models.allow`: what answers in its place counts, where the
    /// policy has another model answer.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// The request comes over one of these routes: the paths of [the table](routes.md), of which a `*` at the end leaves the rest open.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<String>>,
    /// Who asks.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub caller: Option<CallerName>,
    /// Whether the request declares tools.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
    /// Whether the request brings data along: results of tools, or texts to embed.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub documents: Option<bool>,
    /// The digest of the request's system prompt is one of these, as `check --explain --request` shows it: `sha256:` and 64 digits.
    /// A request whose system prompt stands in several places, between what others say, has none.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub system_prompts: Option<Vec<String>>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CallerName {
    /// The processes of the model's own pod, over the loopback.
    Pod,
    /// Everybody else.
    Network,
}

impl RuleSpec {
    /// Whether it says nothing of any control.
    pub(crate) fn changes_nothing(&self) -> bool {
        *self == Self { name: self.name.clone(), when: self.when.clone(), ..Self::default() }
    }

    /// The keys that it has in the place of the document's: `mode`, `tools.allow`.
    #[must_use]
    pub fn says(&self) -> Vec<String> {
        let written = serde_json::to_value(self).unwrap_or_default();
        let mut keys = Vec::new();
        for (section, value) in written.as_object().into_iter().flatten().filter(|(key, _)| !["name", "when"].contains(&key.as_str())) {
            match value.as_object() {
                Some(members) => keys.extend(members.keys().map(|key| format!("{section}.{key}"))),
                None => keys.push(section.clone()),
            }
        }
        keys
    }

    /// What holds where it fits: this rule's keys, and below them the rest of the document.
    #[must_use]
    pub fn over(&self, below: &Spec) -> Spec {
        let Self { name: _, when: _, mode, prompt_injection, redaction, models, tools, rego, management, protocol } = self.clone();
        Spec {
            mode: mode.or(below.mode),
            prompt_injection: prompt_injection.over(&below.prompt_injection),
            redaction: redaction.over(&below.redaction),
            models: models.over(&below.models),
            tools: tools.over(&below.tools),
            rego: rego.over(&below.rego),
            management: management.over(&below.management),
            protocol: protocol.over(&below.protocol),
            // Who reaches the port is no matter of what is asked there.
            network: below.network.clone(),
            rules: Vec::new(),
        }
    }
}

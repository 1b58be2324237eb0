//! The sections of the document: one for each control.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::Mode;
use crate::wire::Operation;

/// LLM01: prompt injection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PromptInjectionSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// LLM02: secrets and personal data in answers, and in what is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RedactionSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What is looked for: `secrets`, `personalData`, a topic of secrets such as `cloud`, or single kinds such as `githubToken`, as
    /// `llm-guard-sidecar check --kinds` lists them. Absent: every kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Kinds of your own, at most 64. They are looked for whatever `kinds` says, which may name them too.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub patterns: Option<Vec<PatternSpec>>,
    /// Values that stay, of whatever kind, at most 256: exact ones, or with `*` for any characters, such as `*@example.com`. A value is
    /// judged as a whole, and letters as they are written.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// What stands in the place of values, at most 64 entries: the first that names a value's kind counts. Absent: the mark, such as
    /// `[REDACTED_EMAIL]`.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub replacements: Option<Vec<ReplacementSpec>>,
    /// What becomes of those in requests. Absent: `count`.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
    /// Whether a value that was redacted in a request comes back where its answer names the mark that stands for it, such as
    /// `[REDACTED_EMAIL_1]`. It takes `requests: redact`. Absent: it doesn't.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub restore: Option<bool>,
}

/// A kind of the policy's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatternSpec {
    /// What it is called: letters and digits, the first a small letter, at most 40. `employeeNumber` makes the mark
    /// `[REDACTED_EMPLOYEE_NUMBER]`, and so it is called in metrics and logs.
    pub name: String,
    /// What a value looks like: a regular expression, at most 256 bytes.
    pub pattern: String,
    /// Words, whatever their case, one of which ends at most 48 bytes before a value. Absent: none is needed.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub near: Option<Vec<String>>,
    /// Where a value ends. Absent: `run`.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub ends: Option<PatternEnd>,
    /// The least Shannon entropy of a value, in bits a byte, from 0 to 8: so that a placeholder is none. Absent: any.
    #[serde(default, deserialize_with = "entropy", skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
}

/// Where a value ends that a pattern finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum PatternEnd {
    /// It takes in what follows without a gap: letters, digits, `_` and `-`.
    Run,
    /// It is one only where none of these follows.
    Word,
    /// Where the pattern ends, whatever follows.
    Pattern,
}

/// What values of some kinds are replaced by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplacementSpec {
    /// Names as in `redaction.kinds`, those of `redaction.patterns` too.
    pub kinds: Vec<String>,
    /// What stands in the place of such a value.
    pub with: ReplaceWith,
}

/// What stands in the place of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ReplaceWith {
    /// The mark: `[REDACTED_CREDIT_CARD]`.
    Mark,
    /// At most four digits with which the value ends: `[####1111]`.
    LastDigits,
    /// A token, the same for equal values: `[REDACTED_CREDIT_CARD_bcdfghjlmnqr]`.
    Token,
}

/// What becomes of secrets and personal data in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Requests {
    /// They are counted, and go on.
    Count,
    /// They are redacted before a model sees them, in soft and in hard. What can't be redacted is refused.
    Redact,
    /// In hard the request is refused; in soft they are redacted.
    Refuse,
}

/// LLM03: which models may be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ModelsSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The models that may be used; `*` stands for any characters, and a name that ends in it leaves the tag open too. Absent: every
    /// model. Empty: none.
    #[serde(deserialize_with = "list_if_there", skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// The model for a request that names none and, in soft, for one that names another than the allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether models may be used that the server has run by another, in its maker's cloud. Absent: `deny`.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,
}

/// Whether what is asked may leave for a cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Cloud {
    /// It may not.
    Deny,
    /// It may.
    Allow,
}

/// LLM06: which tools may be used. Names are exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ToolsSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The tools that may be used. Absent: every tool that isn't blocked. Empty: none.
    #[serde(deserialize_with = "list_if_there", skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// Tools that may never be used.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub block: Option<Vec<String>>,
    /// Tools that need an approval: in hard they are refused with 403 `approval_required`.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub high_risk: Option<Vec<String>>,
}

/// The platform's own rules about requests, in Rego: `deny` and `warn` of the package `llmguard`. What they see and what they may
/// call stands in [rego.md](rego.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegoSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The modules: each name with its text. Rules are asked for in the package `llmguard`; others may help them.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub modules: Option<BTreeMap<String, String>>,
    /// What the modules find under `data`: lists, limits, names.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, serde_json::Value>>,
    /// How many milliseconds a decision may take, at most 100. What isn't decided by then is refused in soft and in hard. Absent: 10.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
}

/// Routes that change the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ManagementSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What may be done. Every model that such a request names has to be allowed, too. Absent: `pull`. Empty: nothing.
    #[serde(deserialize_with = "operations_if_there", skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Operation>>,
    /// By whom. Absent: `pod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
}

/// Who may change the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum From {
    /// The processes of the model's own pod, over the loopback.
    Pod,
    /// Whoever reaches the port.
    Anyone,
}

/// What has to hold before anything can be judged: what of a request is documented, and what of it can be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProtocolSpec {
    /// Fields of a request that its API doesn't document. Absent: `inspect` in soft, `drop` in hard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_fields: Option<UnknownFields>,
    /// Fields that the model server takes beyond what its API documents, by their exact names: they are inspected, and go on.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// Token ids of an earlier exchange (`context` of `/api/generate`), which nobody can read. Absent: `allow` in soft, `refuse` in hard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Opening>,
    /// A prompt's template (`template` of `/api/generate`). Absent: `allow` in soft, `refuse` in hard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Opening>,
    /// Pictures, sent along or asked for, which nobody can read. Absent: `allow` in soft, `refuse` in hard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Opening>,
    /// Sounds, which nobody can read. Absent: `allow` in soft, `refuse` in hard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<Opening>,
    /// What `/api/show` says of a model's own prompts: its system prompt, template, messages and Modelfile. Absent: `refuse` in soft and
    /// in hard, where they are left out of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_prompts: Option<Opening>,
}

/// What becomes of a field that an API doesn't document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum UnknownFields {
    /// It is left out.
    Drop,
    /// It is judged as a text of the user's, and goes on.
    Inspect,
    /// The request is refused.
    Refuse,
}

/// Whether something passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Opening {
    /// It passes, and its bytes count as not inspected.
    Allow,
    /// It doesn't.
    Refuse,
}

impl PromptInjectionSpec {
    /// These keys, and below them those of another that these don't have.
    pub(super) fn over(self, below: &Self) -> Self {
        let Self { mode } = self;
        Self { mode: mode.or(below.mode) }
    }
}

impl RedactionSpec {
    /// As [`PromptInjectionSpec::over`].
    pub(super) fn over(self, below: &Self) -> Self {
        let Self { mode, kinds, patterns, allow, replacements, requests, restore } = self;
        Self {
            mode: mode.or(below.mode),
            kinds: kinds.or_else(|| below.kinds.clone()),
            patterns: patterns.or_else(|| below.patterns.clone()),
            allow: allow.or_else(|| below.allow.clone()),
            replacements: replacements.or_else(|| below.replacements.clone()),
            requests: requests.or(below.requests),
            restore: restore.or(below.restore),
        }
    }

    /// Whether another section differs in nothing but its mode.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let Self { mode: _, kinds, patterns, allow, replacements, requests, restore } = self;
        (kinds, patterns, allow) == (&other.kinds, &other.patterns, &other.allow)
            && (replacements, requests, restore) == (&other.replacements, &other.requests, &other.restore)
    }
}

impl ModelsSpec {
    /// As [`PromptInjectionSpec::over`].
    pub(super) fn over(self, below: &Self) -> Self {
        let Self { mode, allow, default, cloud } = self;
        Self {
            mode: mode.or(below.mode),
            allow: allow.or_else(|| below.allow.clone()),
            default: default.or_else(|| below.default.clone()),
            cloud: cloud.or(below.cloud),
        }
    }
}

impl ToolsSpec {
    /// As [`PromptInjectionSpec::over`].
    pub(super) fn over(self, below: &Self) -> Self {
        let Self { mode, allow, block, high_risk } = self;
        Self {
            mode: mode.or(below.mode),
            allow: allow.or_else(|| below.allow.clone()),
            block: block.or_else(|| below.block.clone()),
            high_risk: high_risk.or_else(|| below.high_risk.clone()),
        }
    }
}

impl RegoSpec {
    /// As [`PromptInjectionSpec::over`].
    pub(super) fn over(self, below: &Self) -> Self {
        let Self { mode, modules, data, timeout_ms } = self;
        Self {
            mode: mode.or(below.mode),
            modules: modules.or_else(|| below.modules.clone()),
            data: data.or_else(|| below.data.clone()),
            timeout_ms: timeout_ms.or(below.timeout_ms),
        }
    }
}

impl ManagementSpec {
    /// As [`PromptInjectionSpec::over`].
    pub(super) fn over(self, below: &Self) -> Self {
        let Self { mode, allow, from } = self;
        Self { mode: mode.or(below.mode), allow: allow.or_else(|| below.allow.clone()), from: from.or(below.from) }
    }
}

impl ProtocolSpec {
    /// As [`PromptInjectionSpec::over`].
    pub(super) fn over(self, below: &Self) -> Self {
        let Self { unknown_fields, fields, context, template, images, audio, model_prompts } = self;
        Self {
            unknown_fields: unknown_fields.or(below.unknown_fields),
            fields: fields.or_else(|| below.fields.clone()),
            context: context.or(below.context),
            template: template.or(below.template),
            images: images.or(below.images),
            audio: audio.or(below.audio),
            model_prompts: model_prompts.or(below.model_prompts),
        }
    }
}

/// Reads what may be left out, but not left empty-handed.
pub(super) fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads bits a byte, of which there are eight.
fn entropy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let bits = f64::deserialize(deserializer)?;
    if (0.0..=8.0).contains(&bits) { Ok(Some(bits)) } else { Err(serde::de::Error::custom("a byte has from 0 to 8 bits of entropy")) }
}

/// Reads a list that may be left out but not left empty-handed: a key with nothing behind it could mean everything or nothing.
fn list_if_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let list = Option::<Vec<String>>::deserialize(deserializer)?;
    let empty = "there is no list behind the key: [] allows nothing, and leaving the key out allows everything";
    list.map(Some).ok_or_else(|| serde::de::Error::custom(empty))
}

/// As [`list_if_there`].
fn operations_if_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Operation>>, D::Error> {
    let list = Option::<Vec<Operation>>::deserialize(deserializer)?;
    let empty = "there is no list behind the key: [] allows nothing, and leaving the key out allows pull";
    list.map(Some).ok_or_else(|| serde::de::Error::custom(empty))
}

/// Whether a section says nothing, so that it needn't be written.
pub(super) fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

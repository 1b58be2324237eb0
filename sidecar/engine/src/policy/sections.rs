//! The sections of the document: one for each control.

use serde::{Deserialize, Deserializer, Serialize};

use super::Mode;

/// LLM01: prompt injection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PromptInjectionSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// LLM02: secrets and personal data in answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RedactionSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What is looked for. Absent: every kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<KindName>>,
}

/// A kind, or a group of kinds, as the policy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum KindName {
    /// Every token and key.
    Secrets,
    /// E-mail addresses, social security numbers and payment cards.
    PersonalData,
    /// [`crate::detect::secrets::Kind::HuggingfaceToken`]
    HuggingfaceToken,
    /// [`crate::detect::secrets::Kind::OpenaiKey`]
    OpenaiKey,
    /// [`crate::detect::secrets::Kind::AwsAccessKey`]
    AwsAccessKey,
    /// [`crate::detect::secrets::Kind::GithubToken`]
    GithubToken,
    /// [`crate::detect::secrets::Kind::GithubOauth`]
    GithubOauth,
    /// [`crate::detect::secrets::Kind::JwtToken`]
    JwtToken,
    /// [`crate::detect::secrets::Kind::Email`]
    Email,
    /// [`crate::detect::secrets::Kind::Ssn`]
    Ssn,
    /// [`crate::detect::secrets::Kind::CreditCard`]
    CreditCard,
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
    /// Whether models may be used that the server has run by another, in its maker's cloud: `deny`, unless it says `allow`.
    #[serde(skip_serializing_if = "is_default")]
    pub cloud: Cloud,
}

/// Whether what is asked may leave for a cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Cloud {
    /// It may not.
    #[default]
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<String>,
    /// Tools that need an approval: in hard they are refused with 403 `approval_required`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub high_risk: Vec<String>,
}

/// Routes that change the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ManagementSpec {
    /// The control's own mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// Who may reach the model's port. The injector makes a `NetworkPolicy` of it; the guard itself doesn't look at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// `NetworkPolicyPeers` of Kubernetes. Absent: everyone.
    #[serde(deserialize_with = "peers_if_there", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>"))]
    pub from: Option<Vec<serde_json::Value>>,
}

/// As [`list_if_there`].
fn peers_if_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<serde_json::Value>>, D::Error> {
    let list = Option::<Vec<serde_json::Value>>::deserialize(deserializer)?;
    list.map(Some).ok_or_else(|| serde::de::Error::custom("there is no list behind the key: name peers, or leave the key out"))
}

/// Reads a list that may be left out but not left empty-handed: a key with nothing behind it could mean everything or nothing.
fn list_if_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let list = Option::<Vec<String>>::deserialize(deserializer)?;
    let empty = "there is no list behind the key: [] allows nothing, and leaving the key out allows everything";
    list.map(Some).ok_or_else(|| serde::de::Error::custom(empty))
}

/// Whether a section says nothing, so that it needn't be written.
pub(super) fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

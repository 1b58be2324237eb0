//! What the engine says of an exchange: which control found what, and what was done about it.
//!
//! Every name here comes from a closed set, so metrics, logs, headers and error bodies can carry it: none of them is made of
//! anything that a request or an answer said.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a control acts on what it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Counts, and changes nothing.
    #[default]
    Monitor,
    /// Mends where it can, and refuses where it can't.
    Soft,
    /// Refuses.
    Hard,
}

impl Mode {
    /// Every mode, from the mildest on.
    pub const ALL: [Self; 3] = [Self::Monitor, Self::Soft, Self::Hard];

    /// The name in the policy, in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let mode = Self::ALL.into_iter().find(|mode| text.trim().eq_ignore_ascii_case(mode.name()));
        mode.ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// A word that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no mode; there are monitor, soft and hard")]
pub struct UnknownMode(String);

/// A control, by its name in metrics, logs and the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ControlId {
    /// Whether anybody may ask: whoever runs the model may stop it.
    Stop,
    /// LLM01: somebody tries to override the model's instructions.
    PromptInjection,
    /// LLM02: secrets and personal data in answers, and in what is asked.
    Redaction,
    /// LLM03: which models may be used.
    Models,
    /// LLM06: which tools may be declared and called.
    Tools,
    /// The platform's own rules, in Rego.
    Rego,
    /// Routes that change the server.
    Management,
    /// Who may ask at all.
    Identity,
    /// LLM10: sizes, counts and times.
    Limits,
    /// What has to hold before anything can be judged: routes, bodies and fields that the guard can read.
    Protocol,
}

impl ControlId {
    /// Every control, in the order in which a request meets them.
    pub const ALL: [Self; 10] = [
        Self::Stop,
        Self::Identity,
        Self::Protocol,
        Self::Limits,
        Self::Management,
        Self::Models,
        Self::PromptInjection,
        Self::Tools,
        Self::Rego,
        Self::Redaction,
    ];

    /// The name that metrics, logs and headers use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::PromptInjection => "prompt_injection",
            Self::Redaction => "redaction",
            Self::Models => "models",
            Self::Tools => "tools",
            Self::Rego => "rego",
            Self::Management => "management",
            Self::Identity => "identity",
            Self::Limits => "limits",
            Self::Protocol => "protocol",
        }
    }

    /// The entry of the OWASP Top 10 for LLM Applications (2025) that the control answers to, where there is one.
    #[must_use]
    pub const fn owasp(self) -> Option<&'static str> {
        match self {
            Self::PromptInjection => Some("LLM01"),
            Self::Redaction => Some("LLM02"),
            Self::Models => Some("LLM03"),
            Self::Tools => Some("LLM06"),
            Self::Limits => Some("LLM10"),
            Self::Stop | Self::Rego | Self::Management | Self::Identity | Self::Protocol => None,
        }
    }
}

impl fmt::Display for ControlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was done about a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Nothing but counting it: the control runs in monitor.
    Counted,
    /// It passed, and the client was told.
    Warned,
    /// A part was taken out: a tool, a tool call, a field, a passage.
    Removed,
    /// Another value was put in its place: the default model.
    Replaced,
    /// The value was replaced by `[REDACTED_KIND]`.
    Redacted,
    /// The request was refused, or the answer ended with an error.
    Blocked,
}

impl Action {
    /// The name that metrics, logs and headers use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Warned => "warned",
            Self::Removed => "removed",
            Self::Replaced => "replaced",
            Self::Redacted => "redacted",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One finding of one control, with what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Violation {
    /// Who found it.
    pub control: ControlId,
    /// What it is: one of the control's own closed set of kinds.
    pub kind: &'static str,
    /// The mode in which the control ran.
    pub mode: Mode,
    /// What was done.
    pub action: Action,
}

/// Why an exchange doesn't go on. Rendered in the caller's own API's error shape by [`crate::wire::Family::error_reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, where the answer has not begun.
    pub status: u16,
    /// A word for programs, from a closed set: the control's kind.
    pub code: &'static str,
    /// A sentence for people. It never holds anything of the prompt or the answer.
    pub message: Cow<'static, str>,
    /// The control that refused.
    pub control: ControlId,
}

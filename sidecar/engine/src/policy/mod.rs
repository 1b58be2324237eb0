//! The policy: a `GuardPolicy` document, and what it compiles to.
//!
//! The document is read strictly. A policy that loads means what it says: a key that nobody knows, a name that fits nothing or a
//! rule that contradicts another is an error with its place, not something to pass over.

mod document;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use document::{GuardPolicy, Metadata, PolicyError, Spec};

use crate::controls::{self, Control};

/// How a control acts on what it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

/// A policy, ready to judge with.
#[derive(Debug)]
pub struct Policy {
    /// The mode of everything that is no control's own business: routes, bodies, framing, identity, limits.
    ///
    /// It is the strictest mode that is in force anywhere, since a control can only hold where the exchange could be read.
    pub mode: Mode,
    /// The controls, in the order in which a request meets them.
    pub controls: Vec<Box<dyn Control>>,
}

impl Policy {
    /// Compiles a document. `mode` stands above the document's own and is the most that any control gets.
    pub fn compile(document: &GuardPolicy, mode: Option<Mode>) -> Result<Arc<Self>, PolicyError> {
        let spec = &document.spec;
        let resolve = |own: Option<Mode>| match mode {
            Some(ceiling) => own.unwrap_or(ceiling).min(ceiling),
            None => own.or(spec.mode).unwrap_or_default(),
        };
        let controls = controls::all(spec, &resolve)?;
        let strictest = controls.iter().map(|control| control.mode()).max().unwrap_or_default();
        Ok(Arc::new(Self { mode: strictest.max(resolve(None)), controls }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::ControlId;

    fn compiled(yaml: &str, mode: Option<Mode>) -> Arc<Policy> {
        Policy::compile(&GuardPolicy::read(yaml).unwrap(), mode).unwrap()
    }

    fn mode_of(policy: &Policy, id: ControlId) -> Mode {
        policy.controls.iter().find(|control| control.id() == id).unwrap().mode()
    }

    const HEAD: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p}\n";

    #[test]
    fn a_control_runs_in_its_own_mode_else_the_policys_else_monitor() {
        let policy = compiled(&format!("{HEAD}spec: {{mode: soft, promptInjection: {{mode: hard}}, tools: {{mode: monitor}}}}"), None);
        assert_eq!(mode_of(&policy, ControlId::PromptInjection), Mode::Hard);
        assert_eq!(mode_of(&policy, ControlId::Tools), Mode::Monitor);
        assert_eq!(mode_of(&policy, ControlId::Redaction), Mode::Soft);
        assert_eq!(policy.mode, Mode::Hard);
        assert_eq!(compiled(&format!("{HEAD}spec: {{}}"), None).mode, Mode::Monitor);
    }

    #[test]
    fn no_control_goes_above_the_mode_that_stands_above_the_policy() {
        let yaml = format!("{HEAD}spec: {{mode: soft, promptInjection: {{mode: hard}}, tools: {{mode: monitor}}}}");
        let calm = compiled(&yaml, Some(Mode::Monitor));
        assert!(calm.controls.iter().all(|control| control.mode() == Mode::Monitor) && calm.mode == Mode::Monitor);
        let hard = compiled(&yaml, Some(Mode::Hard));
        assert_eq!(mode_of(&hard, ControlId::Redaction), Mode::Hard);
        assert_eq!(mode_of(&hard, ControlId::Tools), Mode::Monitor);
    }
}

//! What a policy compiles to: its controls, each in its mode.

use std::sync::Arc;

use super::{Control, Protocol, management, models, prompt_injection, redaction, tools};
use crate::policy::settings::Standing;
use crate::policy::{GuardPolicy, PolicyError, Spec};
use crate::verdict::Mode;

/// A policy, ready to judge with.
#[derive(Debug)]
pub struct Policy {
    /// The mode of everything that is no control's own business: routes, bodies, framing, identity, limits.
    ///
    /// It is the strictest mode that is in force anywhere, since a control can only hold where the exchange could be read.
    pub mode: Mode,
    /// What goes on of what no control can judge.
    pub protocol: Protocol,
    /// The controls, in the order in which a request meets them.
    pub controls: Vec<Box<dyn Control>>,
}

impl Policy {
    /// Compiles a document, with the modes that stand around its own.
    pub fn compile(document: &GuardPolicy, standing: &Standing) -> Result<Arc<Self>, PolicyError> {
        let spec = &document.spec;
        let resolve = |own: Option<Mode>| standing.resolve(own, spec.mode);
        spec.network.check()?;
        let controls = all(spec, &resolve)?;
        let strictest = controls.iter().map(|control| control.mode()).max().unwrap_or_default();
        let mode = strictest.max(resolve(None));
        Ok(Arc::new(Self { mode, protocol: Protocol::new(&spec.protocol, mode)?, controls }))
    }
}

/// Every control that a policy asks for, in the order in which a request meets them.
fn all(spec: &Spec, resolve: &dyn Fn(Option<Mode>) -> Mode) -> Result<Vec<Box<dyn Control>>, PolicyError> {
    Ok(vec![
        Box::new(management::Management::new(spec, resolve)?),
        Box::new(models::Models::new(&spec.models, resolve(spec.models.mode))?),
        Box::new(prompt_injection::PromptInjection::new(resolve(spec.prompt_injection.mode))),
        Box::new(tools::Tools::new(&spec.tools, resolve(spec.tools.mode))?),
        Box::new(redaction::Redaction::new(&spec.redaction, resolve(spec.redaction.mode))?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::ControlId;

    fn compiled(yaml: &str, mode: Option<Mode>) -> Arc<Policy> {
        Policy::compile(&GuardPolicy::read(yaml).unwrap(), &Standing::of(mode)).unwrap()
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

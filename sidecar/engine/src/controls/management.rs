//! Routes that change the server: refused by default. What passes is a pull of an allowed model by a caller of the same pod, and
//! whatever else the policy allows.

use super::models::Allowed;
use super::{Asked, Caller, Control, Finding, by_mode, refuse};
use crate::policy::{From, Mode, PolicyError, Spec};
use crate::verdict::ControlId;
use crate::wire::{Class, Operation, Route};

#[derive(Debug)]
pub(super) struct Management {
    mode: Mode,
    models: Allowed,
    allowed: Vec<Operation>,
    from: From,
}

impl Management {
    pub(super) fn new(spec: &Spec, resolve: &dyn Fn(Option<Mode>) -> Mode) -> Result<Self, PolicyError> {
        Ok(Self {
            mode: resolve(spec.management.mode),
            models: Allowed::new(spec.models.allow.as_deref(), "models.allow")?,
            allowed: spec.management.allow.clone().unwrap_or_else(|| vec![Operation::Pull]),
            from: spec.management.from.unwrap_or(From::Pod),
        })
    }

    /// Whether the policy allows it to this caller at all.
    fn opens(&self, operation: Operation, caller: Caller) -> bool {
        self.allowed.contains(&operation) && (self.from == From::Anyone || caller.over_loopback)
    }

    /// The same of this very request.
    fn allows(&self, asked: &Asked<'_>, operation: Operation) -> bool {
        let names = asked.request.models();
        let of_a_file = asked.route.class != Class::Blob || asked.segment.is_some_and(is_digest);
        self.opens(operation, asked.caller) && of_a_file && names.iter().all(|name| self.models.contains_to_fetch(name))
    }
}

impl Management {
    fn denied(&self) -> Finding {
        let denied = || refuse(403, "routes that change the server are refused by the policy");
        Finding { kind: "route", remedy: by_mode(self.mode, denied, denied) }
    }
}

/// A digest as the server writes it, so that the path can't lead anywhere else.
fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256").and_then(|rest| rest.strip_prefix([':', '-']));
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

impl Control for Management {
    fn id(&self) -> ControlId {
        ControlId::Management
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn judge_request(&self, asked: &Asked<'_>) -> Vec<Finding> {
        let is_allowed = asked.route.operation.is_none_or(|operation| self.allows(asked, operation));
        if is_allowed { Vec::new() } else { vec![self.denied()] }
    }

    fn judge_head(&self, route: &Route, caller: Caller) -> Option<Finding> {
        let is_open = route.operation.is_none_or(|operation| self.opens(operation, caller));
        (!is_open).then(|| self.denied())
    }
}

#[cfg(test)]
mod tests {
    use super::is_digest;

    #[test]
    fn a_digest_leads_nowhere_else() {
        let digits = "0123456789abcdef".repeat(4);
        assert!(is_digest(&format!("sha256:{digits}")) && is_digest(&format!("sha256-{digits}")));
        for odd in ["", "sha256:", "sha256:../x", &digits, &format!("sha256:{}", digits.to_uppercase()), &format!("sha256:{digits}0")] {
            assert!(!is_digest(odd), "{odd}");
        }
    }
}

//! Routes that change the server: refused by default. What passes is a pull of an allowed model by a caller of the same pod.

use super::models::Allowed;
use super::{Asked, Control, Finding, by_mode, refuse};
use crate::policy::{Mode, PolicyError, Spec};
use crate::verdict::ControlId;
use crate::wire::{Body, Class};

#[derive(Debug)]
pub(super) struct Management {
    mode: Mode,
    models: Allowed,
}

impl Management {
    pub(super) fn new(spec: &Spec, resolve: &dyn Fn(Option<Mode>) -> Mode) -> Result<Self, PolicyError> {
        Ok(Self { mode: resolve(spec.management.mode), models: Allowed::new(spec.models.allow.as_deref())? })
    }
}

impl Control for Management {
    fn id(&self) -> ControlId {
        ControlId::Management
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn judge_request(&self, asked: &Asked<'_>) -> Vec<Finding> {
        if asked.route.class != Class::Management {
            return Vec::new();
        }
        let is_pull = asked.route.body == Some(Body::OllamaPull);
        let is_allowed = asked.request.model().is_some_and(|model| self.models.contains_to_fetch(model));
        if is_pull && is_allowed && asked.caller.over_loopback {
            return Vec::new();
        }
        let denied = || refuse(403, "routes that change the server are refused by the policy");
        vec![Finding { kind: "route", remedy: by_mode(self.mode, denied, denied) }]
    }
}

//! LLM06, excessive agency: which tools may be declared to the model, and which it may call.

use std::collections::HashSet;

use super::{Asked, Control, Finding, Remedy, by_mode, refuse};
use crate::policy::{Mode, PolicyError, ToolsSpec, shown};
use crate::verdict::ControlId;

#[derive(Debug)]
pub(super) struct Tools {
    mode: Mode,
    spec: ToolsSpec,
}

impl Tools {
    pub(super) fn new(spec: &ToolsSpec, mode: Mode) -> Result<Self, PolicyError> {
        let allow = spec.allow.as_deref().unwrap_or_default();
        let block = spec.block.as_deref().unwrap_or_default();
        let high_risk = spec.high_risk.as_deref().unwrap_or_default();
        // A policy of the size that is read has room for lists of which not every pair can be looked at.
        let blocked: HashSet<&String> = block.iter().collect();
        for (list, names) in [("allow", allow), ("block", block), ("highRisk", high_risk)] {
            for (place, name) in names.iter().enumerate() {
                let path = || format!("tools.{list}[{place}]");
                if name.trim().is_empty() {
                    return Err(PolicyError::in_spec(path(), "it is empty"));
                }
                if name.trim() != name {
                    return Err(PolicyError::in_spec(path(), format!("'{}' has white space around it, and names are exact", shown(name))));
                }
                if list != "block" && blocked.contains(name) {
                    return Err(PolicyError::in_spec(path(), format!("'{}' is also in tools.block, which wins", shown(name))));
                }
            }
        }
        Ok(Self { mode, spec: spec.clone() })
    }

    fn judge(&self, name: &str, place: usize) -> Option<Finding> {
        let is_in = |list: &[String]| list.iter().any(|entry| entry == name);
        let denied =
            |kind, message: String| Finding { kind, remedy: by_mode(self.mode, || Remedy::RemoveTool(place), || refuse(403, message)) };
        if self.spec.block.as_deref().is_some_and(is_in) {
            return Some(denied("blocked", format!("tool '{name}' is blocked by the policy")));
        }
        if self.spec.high_risk.as_deref().is_some_and(is_in) {
            return Some(denied("approval_required", format!("approval_required: tool '{name}' needs an approval")));
        }
        // The name of a tool that stands in no list is the client's or the model's text, and isn't repeated.
        let is_listed = self.spec.allow.as_deref().is_none_or(is_in);
        (!is_listed).then(|| denied("not_allowed", "a tool is not allowed by the policy".into()))
    }
}

impl Control for Tools {
    fn id(&self) -> ControlId {
        ControlId::Tools
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn judge_request(&self, asked: &Asked<'_>) -> Vec<Finding> {
        let names = asked.request.tools();
        names.iter().enumerate().filter_map(|(place, name)| self.judge(name, place)).collect()
    }

    fn judge_call(&self, tool: &str) -> Option<Finding> {
        self.judge(tool, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_are_asked_in_the_order_block_high_risk_allow() {
        let spec =
            ToolsSpec { allow: Some(names(&["a"])), block: Some(names(&["b"])), high_risk: Some(names(&["c"])), ..ToolsSpec::default() };
        let tools = Tools::new(&spec, Mode::Hard).unwrap();
        let kind = |name| tools.judge_call(name).map(|finding| finding.kind);
        assert_eq!(kind("a"), None);
        assert_eq!(kind("b"), Some("blocked"));
        assert_eq!(kind("c"), Some("approval_required"));
        assert_eq!(kind("d"), Some("not_allowed"));
        assert_eq!(Tools::new(&ToolsSpec::default(), Mode::Hard).unwrap().judge_call("d"), None);
        let none = ToolsSpec { allow: Some(Vec::new()), ..ToolsSpec::default() };
        assert!(Tools::new(&none, Mode::Hard).unwrap().judge_call("d").is_some());
    }

    #[test]
    fn a_refusal_repeats_only_names_that_the_policy_has() {
        let spec = ToolsSpec { allow: Some(names(&["a"])), ..ToolsSpec::default() };
        let said = format!("{:?}", Tools::new(&spec, Mode::Hard).unwrap().judge_call("something private"));
        assert!(!said.contains("private"));
    }

    #[test]
    fn long_lists_are_compared_in_little_time() {
        let many = |kind: &str| (0..60_000).map(|number| format!("{kind}{number}")).collect::<Vec<_>>();
        let spec = ToolsSpec { allow: Some(many("a")), block: Some(many("b")), ..ToolsSpec::default() };
        let began = std::time::Instant::now();
        assert!(Tools::new(&spec, Mode::Hard).is_ok());
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn a_tool_that_is_both_allowed_and_blocked_is_an_error() {
        let spec = ToolsSpec { allow: Some(names(&["a"])), block: Some(names(&["a"])), ..ToolsSpec::default() };
        assert_eq!(Tools::new(&spec, Mode::Hard).unwrap_err().to_string(), "spec.tools.allow[0]: 'a' is also in tools.block, which wins");
    }
}

//! What a policy compiles to: its controls, each in its mode, and the same once more for each of its rules.

use std::sync::Arc;

use super::scope::{AtHead, Context, List, Scope};
use super::{Asked, Caller, Control, Protocol, management, models, prompt_injection, redaction, rego, tools};
use crate::detect::secrets::TokenKey;
use crate::policy::settings::Standing;
use crate::policy::{GuardPolicy, PolicyError, RegoSpec, RuleSpec, Spec, shown};
use crate::verdict::{ControlId, Mode};
use crate::wire::Route;

/// The most rules that a policy may have: each is compiled by itself.
const MAX_RULES: usize = 64;
/// The most bytes of a rule's name.
const MAX_NAME: usize = 63;

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
    pub controls: Vec<Arc<dyn Control>>,
    /// The rule that makes it differ from the rest of the document.
    pub rule: Option<Arc<str>>,
    /// The document's rules, in their order.
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    scope: Scope,
    policy: Arc<Policy>,
}

/// What of a document was compiled, to be used again where a rule leaves it as it is.
struct Layer {
    spec: Spec,
    policy: Policy,
}

impl Layer {
    fn new(spec: Spec, standing: Standing, rule: Option<Arc<str>>, base: Option<&Self>) -> Result<Self, PolicyError> {
        let resolve = |own: Option<Mode>| standing.resolve(own, spec.mode);
        let controls = all(&spec, &resolve, standing.tokens, base)?;
        let strictest = controls.iter().map(|control| control.mode()).max().unwrap_or_default();
        let mode = strictest.max(resolve(None));
        let policy = Policy { mode, protocol: Protocol::new(&spec.protocol, mode)?, controls, rule, rules: Vec::new() };
        Ok(Self { spec, policy })
    }
}

impl Policy {
    /// Compiles a document, with the modes that stand around its own.
    pub fn compile(document: &GuardPolicy, standing: &Standing) -> Result<Arc<Self>, PolicyError> {
        let spec = &document.spec;
        spec.network.check()?;
        if spec.rules.len() > MAX_RULES {
            let reason = format!("there are {} rules; at most {MAX_RULES} are read", spec.rules.len());
            return Err(PolicyError::in_spec(format!("rules[{MAX_RULES}]"), reason));
        }
        let mut base = Layer::new(spec.clone(), *standing, None, None)?;
        let mut rules: Vec<Rule> = Vec::with_capacity(spec.rules.len());
        for (place, rule) in spec.rules.iter().enumerate() {
            let path = format!("rules[{place}]");
            let name = name(rule, &path, &rules)?;
            let scope = Scope::new(&rule.when, &format!("{path}.when"))?;
            is_reached(&scope, &rules, &path)?;
            if rule.changes_nothing() && place + 1 == spec.rules.len() {
                let reason = "it changes nothing, and there is no rule behind it that it would keep away";
                return Err(PolicyError::in_spec(path, reason));
            }
            let layer = Layer::new(rule.over(spec), *standing, Some(name), Some(&base)).map_err(|error| of_rule(error, rule, &path))?;
            passes(rule, &layer, &path)?;
            rules.push(Rule { scope, policy: Arc::new(layer.policy) });
        }
        base.policy.rules = rules;
        Ok(Arc::new(base.policy))
    }

    /// The policy for a request of which only the head is known, and whether no body can change that. Where one can, it is the
    /// strictest of all that may come to hold: what can't be read could be meant for any of them.
    pub(crate) fn at_head(self: &Arc<Self>, route: Option<&Route>, caller: Caller) -> (Arc<Self>, bool) {
        let mut strictest: Option<&Arc<Self>> = None;
        let mut last = self;
        for rule in &self.rules {
            match rule.scope.at_head(route, caller) {
                AtHead::No => {}
                AtHead::Perhaps if strictest.is_some_and(|strictest| strictest.mode >= rule.policy.mode) => {}
                AtHead::Perhaps => strictest = Some(&rule.policy),
                AtHead::Yes => {
                    last = &rule.policy;
                    break;
                }
            }
        }
        match strictest {
            None => (Arc::clone(last), true),
            Some(strictest) => (Arc::clone(if strictest.mode > last.mode { strictest } else { last }), false),
        }
    }

    /// The policy for a request: that of the first rule that fits, else the document's. Where it hangs on who reads the name of a model,
    /// the strictest of those that may be meant, as an error.
    pub(crate) fn of(self: &Arc<Self>, asked: &Asked<'_>) -> Result<Arc<Self>, Arc<Self>> {
        let context = Context::new(asked);
        if context.names_nothing() && self.rules.iter().any(|rule| rule.scope.asks_for_models()) {
            return Err(self.at_head(Some(asked.route), asked.caller).0);
        }
        let as_read = |reader| {
            let fitting = self.rules.iter().find(|rule| rule.scope.fits(&context, reader));
            fitting.map_or(self, |rule| &rule.policy)
        };
        let mut meant = context.readers().iter().map(|reader| as_read(*reader));
        let first = meant.next().unwrap_or(self);
        match meant.find(|other| !Arc::ptr_eq(first, other)) {
            None => Ok(Arc::clone(first)),
            Some(other) => Err(Arc::clone(if other.mode > first.mode { other } else { first })),
        }
    }

    /// Whether the document has rules.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The policies of the document's rules, in their order.
    pub fn of_rules(&self) -> impl Iterator<Item = &Arc<Self>> {
        self.rules.iter().map(|rule| &rule.policy)
    }
}

/// What a rule is called.
fn name(rule: &RuleSpec, path: &str, earlier: &[Rule]) -> Result<Arc<str>, PolicyError> {
    let Some(name) = &rule.name else { return Ok(path.into()) };
    let at = |reason: String| Err(PolicyError::in_spec(format!("{path}.name"), reason));
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        return at(format!("'{}' is no name for a rule: up to {MAX_NAME} of a to z, 0 to 9 and -", shown(name)));
    }
    if earlier.iter().any(|rule| rule.policy.rule.as_deref() == Some(name)) {
        return at(format!("there is another rule of the name '{name}'"));
    }
    Ok(name.as_str().into())
}

/// Whether no earlier rule takes away all that this one is meant for, or all that an entry of its lists is.
fn is_reached(scope: &Scope, earlier: &[Rule], path: &str) -> Result<(), PolicyError> {
    let called = |rule: &Rule| rule.policy.rule.clone().unwrap_or_default();
    if let Some(earlier) = earlier.iter().find(|rule| rule.scope.covers(scope)) {
        let reason = format!("nothing reaches this rule: {} fits all that it fits", called(earlier));
        return Err(PolicyError::in_spec(format!("{path}.when"), reason));
    }
    for list in List::ALL {
        let near: Vec<&Rule> = earlier.iter().filter(|rule| rule.scope.covers_but(Some(list), scope)).collect();
        for place in 0..scope.entries_by_themselves(list) {
            if let Some(earlier) = near.iter().find(|rule| rule.scope.covers_entry(list, scope, place)) {
                let reason = format!("nothing reaches this: {} fits all of it", called(earlier));
                return Err(PolicyError::in_spec(format!("{path}.when.{}[{place}]", list.key()), reason));
            }
        }
    }
    Ok(())
}

/// Whether the models that a rule is meant for get past it.
fn passes(rule: &RuleSpec, layer: &Layer, path: &str) -> Result<(), PolicyError> {
    // Where it is said to watch only, every model passes.
    if layer.spec.models.mode.or(layer.spec.mode).unwrap_or_default() == Mode::Monitor {
        return Ok(());
    }
    let named = rule.when.models.as_deref().unwrap_or_default();
    match models::denied(&layer.spec.models, named)? {
        None => Ok(()),
        Some((place, reason)) => {
            let name = shown(&named[place]);
            Err(PolicyError::in_spec(format!("{path}.when.models[{place}]"), format!("'{name}' {reason}")))
        }
    }
}

/// What is wrong with the document as a rule leaves it, at the rule.
fn of_rule(error: PolicyError, rule: &RuleSpec, path: &str) -> PolicyError {
    let written = serde_json::to_value(rule).unwrap_or_default();
    let inside = error.path().strip_prefix("spec.").unwrap_or_default().to_owned();
    // As far as the rule itself says it.
    let mut said = &written;
    let mut reached = format!("spec.{path}");
    let mut keys = inside.split('.').peekable();
    while let Some(key) = keys.next() {
        let name = key.split('[').next().unwrap_or_default();
        let Some(value) = said.get(name) else { break };
        let place = key.strip_prefix(name).and_then(|place| place.strip_prefix('[')?.strip_suffix(']')?.parse::<usize>().ok());
        let entry = place.and_then(|place| value.get(place));
        said = entry.unwrap_or(value);
        reached = format!("{reached}.{}", if keys.peek().is_none() || entry.is_some() { key } else { name });
    }
    error.moved(reached)
}

/// Every control that a policy asks for, in the order in which a request meets them. What is as in `base` is taken from there.
fn all(
    spec: &Spec,
    resolve: &dyn Fn(Option<Mode>) -> Mode,
    tokens: Option<&'static TokenKey>,
    base: Option<&Layer>,
) -> Result<Vec<Arc<dyn Control>>, PolicyError> {
    let kept = |id: ControlId, mode: Mode, is_same: fn(&Spec, &Spec) -> bool| {
        let base = base.filter(|base| is_same(&base.spec, spec))?;
        base.policy.controls.iter().find(|control| control.id() == id && control.mode() == mode).cloned()
    };
    let resolved = [spec.models.mode, spec.tools.mode, spec.redaction.mode].map(resolve);
    let models = match kept(ControlId::Models, resolved[0], |base, spec| base.models == spec.models) {
        Some(same) => same,
        None => Arc::new(models::Models::new(&spec.models, resolved[0])?),
    };
    let tools = match kept(ControlId::Tools, resolved[1], |base, spec| base.tools == spec.tools) {
        Some(same) => same,
        None => Arc::new(tools::Tools::new(&spec.tools, resolved[1])?),
    };
    let redaction = match kept(ControlId::Redaction, resolved[2], |base, spec| base.redaction.says_the_same(&spec.redaction)) {
        Some(same) => same,
        None => Arc::new(redaction::Redaction::new(&spec.redaction, resolved[2], tokens)?),
    };
    let is_same = |base: &Spec, spec: &Spec| base.management == spec.management && base.models.allow == spec.models.allow;
    let management = match kept(ControlId::Management, resolve(spec.management.mode), is_same) {
        Some(same) => same,
        None => Arc::new(management::Management::new(spec, resolve)?),
    };
    let injection: Arc<dyn Control> = Arc::new(prompt_injection::PromptInjection::new(resolve(spec.prompt_injection.mode)));
    let mut controls = vec![management, models, injection, tools];
    // Without rules nothing is asked.
    if spec.rego != RegoSpec::default() {
        let mode = resolve(spec.rego.mode);
        controls.push(match kept(ControlId::Rego, mode, |base, spec| base.rego == spec.rego) {
            Some(same) => same,
            None => Arc::new(rego::Rego::new(&spec.rego, mode)?),
        });
    }
    controls.push(redaction);
    Ok(controls)
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

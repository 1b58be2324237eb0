//! What OPA and the evaluator here take for different things, and which can be said in a way that both take for the same.
//!
//! The invariant: what is passed here, and said in other words by [`super::rewritten`], means the same to both. A test asks OPA about a
//! corpus of modules, and about modules made by chance.

use std::collections::HashSet;

use regorus::unstable::{Expr, Literal, Module, Rule, RuleHead};

use super::walk::{self, Wrong, declared};

/// What every request has: `input.model` and `input.window` are not among it.
const ALWAYS: [&str; 7] = ["caller", "counts", "messages", "route", "streams", "tokens", "tools"];

/// What every message has.
const OF_MESSAGES: [&str; 4] = ["channel", "text", "bytes", "tokens"];

/// Whether an operand is there in any case, or a matter of the rule's own variables. `maybe` are the rules that may have no value.
pub(super) fn is_there(operand: &Expr, maybe: &HashSet<String>) -> bool {
    match operand {
        Expr::Var { span, .. } => !maybe.contains(span.text()),
        Expr::RefDot { refr, field, .. } => match &**refr {
            Expr::Var { span, .. } if span.text() == "input" => ALWAYS.contains(&field.0.text()),
            Expr::Var { span, .. } => span.text() != "data" && !maybe.contains(span.text()) && OF_MESSAGES.contains(&field.0.text()),
            Expr::RefDot { field: above, .. } => {
                matches!(
                    (above.0.text(), field.0.text()),
                    ("route", "path" | "class" | "api") | ("counts", "messages" | "tools" | "bytes") | ("caller", "over_loopback")
                ) && is_there(refr, maybe)
            }
            _ => false,
        },
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().all(|item| is_there(item, maybe)),
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => true,
        _ => false,
    }
}

/// The rules of a module that may have no value: neither sets, nor with a default.
pub(super) fn maybe_nothing(module: &Module) -> HashSet<String> {
    let is_value = |rule: &Rule| matches!(rule, Rule::Spec { head: RuleHead::Compr { .. }, .. });
    let is_plain = |rule: &Rule| match rule {
        // What stands there as it is, for every request.
        Rule::Spec { head: RuleHead::Compr { assign: Some(assign), .. }, bodies, .. } => {
            bodies.is_empty()
                && is_there(&assign.value, &HashSet::new())
                && !matches!(*assign.value, Expr::Var { .. } | Expr::RefDot { .. })
        }
        _ => false,
    };
    let imported = walk::imports(module).filter(|(_, what)| !is_there(what, &HashSet::new()) || matches!(what, Expr::Var { .. }));
    let imported = imported.map(|(name, _)| name.to_owned());
    let defaults: HashSet<String> =
        module.policy.iter().filter(|rule| matches!(***rule, Rule::Default { .. })).map(|rule| declared(rule).0).collect();
    let rules = module.policy.iter().filter(|rule| is_value(rule) && !is_plain(rule)).map(|rule| declared(rule).0);
    rules.filter(|name| !defaults.contains(name)).chain(imported).collect()
}

/// Refuses what they take for different things.
pub(super) fn check(module: &Module, maybe: &HashSet<String>) -> Result<(), Wrong> {
    let mut error = None;
    let mut fault = |expr: &Expr, reason: &'static str| {
        error.get_or_insert((expr.span().line, expr.span().col, reason));
    };
    // Where something isn't there, OPA passes over the whole rule, and the evaluator takes it for something that doesn't hold.
    walk::negated(module, &mut |expr| {
        if let Some(operand) = walk::operands(expr).into_iter().find(|operand| !is_there(operand, maybe)) {
            fault(operand, "under `not` it isn't clear what holds where this is nothing: name it first, `name := …`, and use the name");
        } else if matches!(expr, Expr::ArithExpr { .. } | Expr::BinExpr { .. } | Expr::UnaryExpr { .. }) {
            fault(expr, "under `not` nothing can be worked out: name it first, `name := …`, and use the name");
        }
    });
    // A search that finds nothing ends the whole rule here, and what stands behind `else` isn't tried.
    for (arguments, body, value) in walk::before_else(module) {
        if let Some(value) = value.filter(|value| !is_there(value, maybe)) {
            fault(
                value,
                "before `else` it isn't clear what holds where this is nothing: name it in the body, `name := …`, and use the name",
            );
        }
        if let Some(place) = walk::searches(arguments, &body.query) {
            fault(place, "before `else` nothing can be looked for: a rule of its own can do it, `found if { some x in … }`");
        }
    }
    walk::everies(module, &mut |query| {
        for statement in &query.stmts {
            let Literal::Expr { expr, .. } = &statement.literal else { continue };
            match &**expr {
                Expr::AssignExpr { .. } => {
                    fault(expr, "in `every` nothing can be assigned: a function can do it, `every m in input.messages { short(m) }`");
                }
                Expr::Call { .. } | Expr::BoolExpr { .. } | Expr::Membership { .. }
                    if walk::operands(expr).into_iter().all(|operand| is_there(operand, maybe)) => {}
                _ => {
                    fault(
                        expr,
                        "in `every` it isn't clear what holds where this is nothing: a function can say it, `every m in input.messages { short(m) }`",
                    );
                }
            }
        }
    });
    walk::expressions(module, &mut |expr| match expr {
        Expr::ObjectCompr { key, value, .. } => {
            if let Some(part) = [key, value].into_iter().find(|part| {
                !matches!(***part, Expr::Var { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. })
                    && walk::literal(part).is_none()
            }) {
                fault(part, "in an object that is made of a rule this may be nothing: name it there, `name := …`, and use the name");
            }
        }
        Expr::Membership { key: Some(key), .. } if !matches!(**key, Expr::Var { .. }) => {
            fault(key, "whether a pair is in something is read in two ways: `collection[key] == value` says it");
        }
        Expr::Call { fcn, params, .. } if fcn.span().text() == "replace" => {
            if let Some(what) = params.get(1).filter(|what| walk::literal(what) == Some("")) {
                fault(what, "nothing can't be replaced");
            }
        }
        _ => {}
    });
    error.map_or(Ok(()), Err)
}

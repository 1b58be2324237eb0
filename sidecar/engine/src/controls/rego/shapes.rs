//! The shapes of rules that the evaluator here takes for something else than OPA does, or takes without end. A rule that has one is
//! refused, and the sentence says how it is written.
//!
//! What may be nothing where it mustn't be, [`super::differences`] looks for.

use std::collections::HashSet;

use regorus::unstable::{AssignOp, Expr, Literal, Module, Query, Rule, RuleHead};

use super::differences::is_there;
use super::walk::{self, Wrong};

/// The most arguments of a function of a module.
const MOST_ARGUMENTS: usize = 8;

/// Finds the first shape that is refused.
pub(super) fn check(text: &str, module: &Module, maybe: &HashSet<String>) -> Result<(), Wrong> {
    let mut error = None;
    let mut fault = |expr: &Expr, reason: &'static str| {
        error.get_or_insert((expr.span().line, expr.span().col, reason));
    };
    module.policy.iter().for_each(|rule| of_rule(rule, &mut fault));
    let mut statements: HashSet<u32> = HashSet::new();
    walk::queries(module, &mut |query| {
        statements.extend(query.stmts.iter().filter_map(|statement| match &statement.literal {
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => Some(expr.eidx()),
            _ => None,
        }));
        of_query(query, &mut fault);
    });
    walk::expressions(module, &mut |expr| {
        if let Expr::Membership { key: None, value, collection, .. } = expr
            && !statements.contains(&expr.eidx())
            && !(is_there(value, maybe) && is_there(collection, maybe))
        {
            fault(expr, "as a value it isn't clear what this is where a part of it is nothing: it can be a statement by itself");
        }
        of_expression(text, expr, maybe, &mut fault);
    });
    error.map_or(Ok(()), Err)
}

/// Whether an expression is the same whatever is asked.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().all(|item| is_constant(item)),
        Expr::Object { fields, .. } => fields.iter().all(|(_, key, value)| is_constant(key) && is_constant(value)),
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => true,
        _ => false,
    }
}

fn of_rule(rule: &Rule, fault: &mut dyn FnMut(&Expr, &'static str)) {
    let (head, bodies) = match rule {
        Rule::Default { args, value, refr, .. } => {
            if !is_constant(value) {
                fault(value, "a default is a value that stands there as it is");
            } else if !args.is_empty() || !matches!(**refr, Expr::Var { .. }) {
                fault(refr, "a default is read for a rule with a plain name and no arguments");
            }
            return;
        }
        Rule::Spec { head, bodies, .. } => (head, bodies),
    };
    let (refr, arguments, value) = match head {
        RuleHead::Compr { refr, assign, .. } => (refr, &[][..], assign.as_ref()),
        RuleHead::Set { refr, .. } => (refr, &[][..], None),
        RuleHead::Func { refr, args, assign, .. } => (refr, args.as_slice(), assign.as_ref()),
    };
    if !matches!(**refr, Expr::Var { .. }) {
        fault(refr, "a rule has a plain name here: what stands below others can be an object, `name := {\"a\": …}`");
    }
    if arguments.len() > MOST_ARGUMENTS {
        fault(refr, "a function takes at most 8 arguments");
    }
    if let Some(argument) = arguments.iter().find(|argument| !matches!(***argument, Expr::Var { .. }) && !is_constant(argument)) {
        fault(argument, "an argument is a name or a value here: what it holds can be looked at in the body");
    }
    // OPA refuses to say which of several values counts.
    let values = [value].into_iter().chain(bodies.iter().skip(1).map(|body| body.assign.as_ref()));
    let mut queries = bodies.iter().map(|body| &*body.query);
    for value in values {
        let (value, query) = (value.map(|assign| &*assign.value), queries.next());
        let Some(value) = value.filter(|value| !is_constant(value)) else { continue };
        let place = query.and_then(|query| walk::searches(arguments, query)).or_else(|| walk::search_in(arguments, query, value));
        if let Some(place) = place {
            fault(place, "this may find several values, and a rule has one: a set can hold them, `name contains value if …`");
        }
    }
}

fn of_query(query: &Query, fault: &mut dyn FnMut(&Expr, &'static str)) {
    for statement in &query.stmts {
        match &statement.literal {
            Literal::SomeIn { key, value, .. } => {
                for pattern in key.iter().chain([value]).filter(|pattern| !matches!(***pattern, Expr::Var { .. })) {
                    fault(pattern, "what is looked for has a name here, and what it holds can be looked at then");
                }
            }
            Literal::NotExpr { expr, .. } => {
                if let Expr::AssignExpr { .. } = &**expr {
                    fault(expr, "under `not` nothing is assigned: == compares");
                }
            }
            _ => {}
        }
    }
}

fn of_expression(text: &str, expr: &Expr, maybe: &HashSet<String>, fault: &mut dyn FnMut(&Expr, &'static str)) {
    let is_var = |expr: &Expr, name: &str| matches!(expr, Expr::Var { span, .. } if span.text() == name);
    match expr {
        Expr::AssignExpr { op, lhs, .. } => {
            if matches!(**lhs, Expr::Object { .. }) {
                fault(lhs, "an object isn't taken apart here: `name := object.key` takes one of it");
            } else if matches!(op, AssignOp::ColEq) && is_var(lhs, "_") {
                fault(lhs, "this needs a name: whether it is nothing counts");
            }
        }
        Expr::Membership { key: Some(key), .. } => {
            fault(key, "whether a pair is in something is read in two ways: `collection[key] == value` says it");
        }
        Expr::UnaryExpr { .. } => fault(expr, "a number below zero has its sign directly before it, and anything else is `0 - value`"),
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            if let Some(item) = items.iter().find(|item| matches!(***item, Expr::BinExpr { .. })) {
                fault(item, "this is read in two ways: name it first, `name := a | b`, and use the name");
            }
        }
        Expr::Object { fields, .. } => {
            let is_plain = |key: &Expr| matches!(key, Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. });
            if let Some((_, key, _)) = fields.iter().find(|(_, key, _)| !is_plain(key)) {
                fault(key, "a key that is worked out may be there twice, which OPA refuses: keys stand there as they are");
            }
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            if !is_constant(value) && !walk::is_by_key(query, key) {
                fault(key, "a key may come twice here, which OPA refuses: `{key: value | some key, item in …}` has each once");
            }
            for part in [key, value] {
                if let Expr::Var { span, .. } = &**part
                    && maybe.contains(span.text())
                {
                    fault(part, "in an object that is made of a rule this may be nothing: name it there, `name := …`, and use the name");
                }
            }
        }
        Expr::Call { fcn, params, .. } => {
            if !text.get(fcn.span().end as usize..).is_some_and(|rest| rest.starts_with('(')) {
                fault(fcn, "the bracket of a call stands directly behind the name; a statement begins with something else");
            }
            if params.len() > MOST_ARGUMENTS {
                fault(fcn, "a function takes at most 8 arguments");
            }
        }
        _ => {}
    }
}

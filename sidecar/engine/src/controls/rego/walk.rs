//! Modules are read here, and what stands in them is looked at piece by piece.

use std::num::NonZeroU32;

use regorus::Engine;
use regorus::Value;
use regorus::unstable::{Expr, Literal, Module, Query, Ref, Rule, RuleBody, RuleHead};
use regorus::utils::limits::PolicyLengthConfig;

/// What is wrong in a module, and where: the line, the column, and the sentence.
pub(super) type Wrong = (u32, u32, &'static str);

/// More columns than any module has: the library's own bound would be told as something else.
const COLUMNS: NonZeroU32 = NonZeroU32::new(1 << 20).unwrap();

/// A reader of modules. Of lines it takes any length that a module may have, also in other words.
pub(super) fn reader() -> Engine {
    let mut engine = Engine::new();
    engine.set_policy_length_config(PolicyLengthConfig { max_col: COLUMNS, ..PolicyLengthConfig::default() });
    engine
}

/// The text that an expression is, if it is one as it stands.
pub(super) fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::String { value: Value::String(text), .. } | Expr::RawString { value: Value::String(text), .. } => Some(text),
        _ => None,
    }
}

/// The name that a rule declares, and where.
pub(super) fn declared(rule: &Rule) -> (String, u32, u32) {
    let mut head: &Expr = match rule {
        Rule::Default { refr, .. }
        | Rule::Spec { head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. }, .. } => refr,
    };
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = head {
        head = refr;
    }
    (head.span().text().to_owned(), head.span().line, head.span().col)
}

/// Calls `each` with every expression of a module that stands under a `not`.
pub(super) fn negated<'m>(module: &'m Module, each: &mut dyn FnMut(&'m Expr)) {
    queries(module, &mut |query| {
        for statement in &query.stmts {
            if let Literal::NotExpr { expr, .. } = &statement.literal {
                each(expr);
            }
        }
    });
}

/// Calls `each` with every query of a module.
pub(super) fn queries<'m>(module: &'m Module, each: &mut dyn FnMut(&'m Query)) {
    let bodies = module.policy.iter().filter_map(|rule| if let Rule::Spec { bodies, .. } = &**rule { Some(bodies) } else { None });
    bodies.flatten().for_each(|body| of_queries(&body.query, each));
    expressions(module, &mut |expr| match expr {
        Expr::ArrayCompr { query, .. } | Expr::SetCompr { query, .. } | Expr::ObjectCompr { query, .. } => of_queries(query, each),
        _ => {}
    });
}

/// A query, and those that stand in it behind `every`.
fn of_queries<'m>(query: &'m Query, each: &mut dyn FnMut(&'m Query)) {
    each(query);
    for statement in &query.stmts {
        if let Literal::Every { query, .. } = &statement.literal {
            of_queries(query, each);
        }
    }
}

/// Calls `each` with every query that stands behind an `every`.
pub(super) fn everies<'m>(module: &'m Module, each: &mut dyn FnMut(&'m Query)) {
    queries(module, &mut |query| {
        for statement in &query.stmts {
            if let Literal::Every { query, .. } = &statement.literal {
                each(query);
            }
        }
    });
}

/// The bodies of rules behind which an `else` stands, with the arguments of the rule, and the value that it has there.
pub(super) fn before_else(module: &Module) -> impl Iterator<Item = (&[Ref<Expr>], &RuleBody, Option<&Expr>)> {
    module.policy.iter().flat_map(|rule| {
        let Rule::Spec { head, bodies, .. } = &**rule else { return Vec::new() };
        let (arguments, value) = match head {
            RuleHead::Func { args, assign, .. } => (args.as_slice(), assign.as_ref()),
            RuleHead::Compr { assign, .. } => (&[][..], assign.as_ref()),
            RuleHead::Set { .. } => (&[][..], None),
        };
        let before = bodies.split_last().map_or(&[][..], |(_, before)| before);
        let values = [value].into_iter().chain(before.iter().skip(1).map(|body| body.assign.as_ref()));
        before.iter().zip(values).map(|(body, value)| (arguments, body, value.map(|assign| &*assign.value))).collect()
    })
}

/// The place where a query goes through a collection: by `some … in`, or by an index that nothing has said.
pub(super) fn searches<'m>(arguments: &[Ref<Expr>], query: &'m Query) -> Option<&'m Expr> {
    let mut named: Vec<&str> = arguments.iter().map(|argument| argument.span().text()).collect();
    for statement in &query.stmts {
        let expr = match &statement.literal {
            Literal::SomeIn { collection, .. } => return Some(collection),
            Literal::Every { domain, .. } => return Some(domain),
            Literal::SomeVars { .. } => continue,
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => expr,
        };
        if let Expr::AssignExpr { lhs, .. } = &**expr
            && let Expr::Var { span, .. } = &**lhs
        {
            named.push(span.text());
        }
        let mut found = None;
        look(expr, &mut |part| {
            if let Expr::RefBrack { index, .. } = part
                && let Expr::Var { span, .. } = &**index
                && !named.contains(&span.text())
            {
                found.get_or_insert(part);
            }
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The place where a value goes through a collection, behind what its query has named.
pub(super) fn search_in<'m>(arguments: &[Ref<Expr>], query: Option<&'m Query>, value: &'m Expr) -> Option<&'m Expr> {
    let named: Vec<&str> = arguments.iter().map(|argument| argument.span().text()).chain(query.into_iter().flat_map(names)).collect();
    let mut found = None;
    look(value, &mut |part| {
        if let Expr::RefBrack { index, .. } = part
            && let Expr::Var { span, .. } = &**index
            && !named.contains(&span.text())
        {
            found.get_or_insert(part);
        }
    });
    found
}

/// The names to which a query assigns something.
fn names(query: &Query) -> impl Iterator<Item = &str> {
    query.stmts.iter().filter_map(|statement| match &statement.literal {
        Literal::Expr { expr, .. } => match &**expr {
            Expr::AssignExpr { lhs, .. } => match &**lhs {
                Expr::Var { span, .. } => Some(span.text()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// Whether a query goes through one collection by this key, and through nothing else.
pub(super) fn is_by_key(query: &Query, key: &Expr) -> bool {
    let Expr::Var { span: key, .. } = key else { return false };
    let mut searches_of = query.stmts.iter().filter_map(|statement| match &statement.literal {
        Literal::SomeIn { key, value, .. } => Some(Some((key.as_ref(), value))),
        Literal::SomeVars { .. } | Literal::Every { .. } => Some(None),
        _ => None,
    });
    let (Some(Some((Some(of), value))), None) = (searches_of.next(), searches_of.next()) else { return false };
    let named: Vec<&str> = names(query).chain([of.span().text(), value.span().text()]).collect();
    let mut is_plain = of.span().text() == key.text();
    for statement in &query.stmts {
        if let Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } = &statement.literal {
            look(expr, &mut |part| {
                if let Expr::RefBrack { index, .. } = part
                    && let Expr::Var { span, .. } = &**index
                {
                    is_plain &= named.contains(&span.text());
                }
            });
        }
    }
    is_plain
}

/// The names by which a module's imports are called, each with what it is.
pub(super) fn imports(module: &Module) -> impl Iterator<Item = (&str, &Expr)> {
    module.imports.iter().map(|import| {
        let last = match &*import.refr {
            Expr::RefDot { field, .. } => field.0.text(),
            Expr::RefBrack { index, .. } => literal(index).unwrap_or_default(),
            other => other.span().text(),
        };
        (import.r#as.as_ref().map_or(last, |name| name.text()), &*import.refr)
    })
}

/// What stands directly in an operator, a call or a test of membership.
pub(super) fn operands(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Call { params, .. } => params.iter().map(|param| &**param).collect(),
        Expr::BoolExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership { key, value, collection, .. } => key.iter().chain([value, collection]).map(|expr| &**expr).collect(),
        // What is looked up in a rule's set; whether it is there is the question.
        Expr::RefBrack { refr, index, .. } => operands(refr).into_iter().chain([&**index]).collect(),
        Expr::RefDot { refr, .. } => operands(refr),
        _ => Vec::new(),
    }
}

/// Calls `each` with every expression of a module.
pub(super) fn expressions<'m>(module: &'m Module, each: &mut dyn FnMut(&'m Expr)) {
    for rule in &module.policy {
        match &**rule {
            Rule::Default { refr, args, value, .. } => [refr, value].into_iter().chain(args).for_each(|expr| look(expr, each)),
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { refr, assign, .. } => {
                        [Some(refr), assign.as_ref().map(|assign| &assign.value)].into_iter().flatten().for_each(|expr| look(expr, each));
                    }
                    RuleHead::Set { refr, key, .. } => [Some(refr), key.as_ref()].into_iter().flatten().for_each(|expr| look(expr, each)),
                    RuleHead::Func { refr, args, assign, .. } => {
                        let value = assign.as_ref().map(|assign| &assign.value);
                        [refr].into_iter().chain(args).chain(value).for_each(|expr| look(expr, each));
                    }
                }
                for body in bodies {
                    body.assign.iter().for_each(|assign| look(&assign.value, each));
                    query(&body.query, each);
                }
            }
        }
    }
}

fn query<'m>(of: &'m Ref<Query>, each: &mut dyn FnMut(&'m Expr)) {
    for statement in &of.stmts {
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => key.iter().chain([value, collection]).for_each(|expr| look(expr, each)),
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => look(expr, each),
            Literal::Every { domain, query: within, .. } => {
                look(domain, each);
                query(within, each);
            }
        }
        statement.with_mods.iter().flat_map(|with| [&with.refr, &with.r#as]).for_each(|expr| look(expr, each));
    }
}

fn look<'m>(expr: &'m Expr, each: &mut dyn FnMut(&'m Expr)) {
    each(expr);
    match expr {
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| look(item, each)),
        Expr::Object { fields, .. } => fields.iter().flat_map(|(_, key, value)| [key, value]).for_each(|expr| look(expr, each)),
        Expr::ArrayCompr { term, query: of, .. } | Expr::SetCompr { term, query: of, .. } => {
            look(term, each);
            query(of, each);
        }
        Expr::ObjectCompr { key, value, query: of, .. } => {
            look(key, each);
            look(value, each);
            query(of, each);
        }
        Expr::Call { fcn, params, .. } => [fcn].into_iter().chain(params).for_each(|expr| look(expr, each)),
        Expr::UnaryExpr { expr, .. } => look(expr, each),
        Expr::RefDot { refr, .. } => look(refr, each),
        Expr::RefBrack { refr, index, .. } => [refr, index].into_iter().for_each(|expr| look(expr, each)),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            look(lhs, each);
            look(rhs, each);
        }
        Expr::Membership { key, value, collection, .. } => key.iter().chain([value, collection]).for_each(|expr| look(expr, each)),
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } | Expr::Var { .. } => {}
    }
}

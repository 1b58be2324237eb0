//! What stands in a module, looked at piece by piece.

use regorus::unstable::{Expr, Literal, Module, Query, Ref, Rule, RuleHead};

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

/// What stands directly in an operator, a call or a test of membership.
pub(super) fn operands(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Call { params, .. } => params.iter().map(|param| &**param).collect(),
        Expr::BoolExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership { key, value, collection, .. } => key.iter().chain([value, collection]).map(|expr| &**expr).collect(),
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

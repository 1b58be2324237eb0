//! A module as the evaluator is given it: the same, said so that it comes to what it comes to in OPA.
//!
//! Where an expression has no value, OPA ends the query that it stands in; the evaluator goes on in two places. A variable that was
//! assigned nothing is therefore looked at once more, and the term of a list that is made of a query is assigned to a variable first:
//! `[T | Q]` becomes `[v | Q; v := (T); type_name(v)]`. (A call with nothing comes to nothing, and what comes out of this one is never false.)
//!
//! Where nothing of a list, a set or an object that is made of a query is gone through, the evaluator takes a condition that doesn't hold for
//! one of what stands around, or begins again and again. So each of these queries goes through a list of one.
//!
//! And the evaluator fetches `input` and `data` once for a body, where they stand first: where that is within a list that is made of
//! nothing, they are nothing behind it. So each body begins with both.
//!
//! The invariant: lines stay what they are, and so does every text.

use regorus::unstable::{AssignOp, Expr, Literal, Module, Query, Rule, RuleHead, Span};

use super::walk::{self, Wrong};

/// What the guard's own names begin with.
const OWN: &str = "llmguard_own";
/// The key of the data that is always there.
pub(super) const KEY: &str = OWN;

/// Something that is put in.
#[derive(Debug)]
enum Edit {
    /// A text.
    Insert(String),
    /// A variable in the place of all until there, which is assigned to it where the query ends.
    Term { end: usize, query_end: usize },
}

/// The module in other words.
pub(super) fn of(text: &str, module: &Module) -> Result<String, Wrong> {
    if let Some(place) = text.find(OWN) {
        let before = &text[..place];
        let line = before.matches('\n').count() + 1;
        return Err((u32::try_from(line).unwrap_or(0), 1, "names that begin with llmguard_own are the guard's"));
    }
    let mut edits: Vec<(usize, Edit)> = Vec::new();
    walk::queries(module, &mut |query| {
        for statement in &query.stmts {
            if let Literal::Expr { expr, .. } = &statement.literal
                && let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = &**expr
                && let Expr::Var { span: name, .. } = &**lhs
                && name.text() != "_"
            {
                edits.push((whole(text, &statement.span).1, Edit::Insert(format!("; type_name({})", name.text()))));
            }
        }
    });
    begin(text, module, &mut edits)?;
    walk::expressions(module, &mut |expr| {
        if let Expr::ArrayCompr { query, .. } | Expr::SetCompr { query, .. } | Expr::ObjectCompr { query, .. } = expr {
            edits.push((first(text, query), Edit::Insert("some _ in [0]; ".to_owned())));
        }
    });
    let mut wrong = None;
    walk::expressions(module, &mut |expr| {
        if let Expr::ArrayCompr { span, term, .. } = expr
            && !matches!(**term, Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. })
        {
            match list(text, span) {
                Some((start, end, query_end)) => edits.push((start, Edit::Term { end, query_end })),
                None => drop(wrong.get_or_insert((span.line, span.col, "this can't be read as a list that is made of a query"))),
            }
        }
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    edits.sort_by_key(|(place, _)| *place);
    // A query may be walked more than once.
    edits.dedup_by(|a, b| a.0 == b.0 && format!("{:?}", a.1) == format!("{:?}", b.1));
    let mut number = 0;
    let written = write(text, 0, text.len(), &edits, &mut number);
    if texts(&written) != texts(text) {
        return Err((1, 1, "this module can't be said in other words: a text in it would change"));
    }
    Ok(written)
}

/// Has each body begin with the input and the data.
fn begin(text: &str, module: &Module, edits: &mut Vec<(usize, Edit)>) -> Result<(), Wrong> {
    let fetch = [text.contains("input").then_some("type_name(input); "), text.contains("data").then_some("data.llmguard_own; ")];
    let fetch: String = fetch.into_iter().flatten().collect();
    let mut rules = module.policy.iter().peekable();
    while let Some(rule) = rules.next() {
        let Rule::Spec { head, bodies, span } = &**rule else { continue };
        let next = rules.peek().map_or(text.len(), |next| next.span().start as usize);
        let refused = Err((span.line, span.col, "this can't be read as a rule with its bodies"));
        let mut last = match head {
            RuleHead::Compr { refr, assign, .. } => assign.as_ref().map_or(refr, |assign| &assign.value),
            RuleHead::Set { refr, key, .. } => key.as_ref().unwrap_or(refr),
            RuleHead::Func { refr, args, assign, .. } => assign.as_ref().map(|assign| &assign.value).or(args.last()).unwrap_or(refr),
        };
        let without_body = match bodies.split_last() {
            None => true,
            Some((body, before)) => {
                for body in before.iter().chain([body]).filter(|body| !body.query.stmts.is_empty()) {
                    let start = first(text, &body.query);
                    let Some(before) = end_of_code(text, span.start as usize, start).and_then(|end| text.get(..end)) else {
                        return refused;
                    };
                    // A body that is one statement may stand without brackets.
                    if before.ends_with("if") {
                        edits.push((start, Edit::Insert(format!("{{ {fetch}"))));
                        edits.push((whole(text, &body.span).1, Edit::Insert(" }".to_owned())));
                    } else if before.ends_with('{') {
                        edits.push((start, Edit::Insert(fetch.clone())));
                    } else {
                        return refused;
                    }
                }
                if before.iter().any(|body| body.query.stmts.is_empty()) {
                    return refused;
                }
                if let Some(assign) = &body.assign {
                    last = &assign.value;
                }
                body.query.stmts.is_empty()
            }
        };
        if without_body && !fetch.is_empty() {
            let Some(end) = end_of_code(text, whole(text, last.span()).1, next) else { return refused };
            edits.push((end, Edit::Insert(format!(" if {{ {} }}", fetch.trim_end_matches("; ")))));
        }
    }
    Ok(())
}

/// Where a query's first statement begins.
fn first(text: &str, query: &Query) -> usize {
    query.stmts.first().map_or(query.span.start as usize, |statement| whole(text, &statement.span).0)
}

/// Where something begins and ends. (The library gives of a text the place of what stands between its quotes.)
fn whole(text: &str, span: &Span) -> (usize, usize) {
    let (start, end) = (span.start as usize, span.end as usize);
    let is_quote = |place: usize| matches!(text.as_bytes().get(place), Some(b'"' | b'`'));
    let before = start.checked_sub(1).filter(|before| is_quote(*before));
    (before.unwrap_or(start), if is_quote(end) { end + 1 } else { end })
}

/// Where a list that is made of a query has its term, and where the query ends. (Of a term in braces the library gives another place.)
fn list(text: &str, span: &Span) -> Option<(usize, usize, usize)> {
    let (open, close) = (span.start as usize, (span.end as usize).checked_sub(1)?);
    (text.get(open..)?.starts_with('[') && text.get(close..)?.starts_with(']')).then_some(())?;
    let (mut depth, mut start, mut end) = (0_usize, None, open + 1);
    for (place, c) in code(text, open + 1, close) {
        match c {
            '|' if depth == 0 => return Some((start?, end, end_of_code(text, place + 1, close)?)),
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        start = start.or(Some(place));
        end = place + c.len_utf8();
    }
    None
}

/// Where the last of what counts ends between two places: what stands behind it is blank or a comment.
fn end_of_code(text: &str, from: usize, to: usize) -> Option<usize> {
    text.get(from..to)?;
    Some(code(text, from, to).last().map_or(from, |(place, c)| place + c.len_utf8()))
}

/// What counts between two places, without blanks and comments; of what stands within quotes nothing but the quotes and as many letters.
fn code(text: &str, from: usize, to: usize) -> impl Iterator<Item = (usize, char)> {
    let mut within: Option<char> = None;
    let mut escaped = false;
    text.get(from..to).unwrap_or_default().char_indices().filter_map(move |(place, c)| {
        let place = from + place;
        match (within, c) {
            (Some('\n'), '\n') => within = None,
            (Some('\n'), _) => return None,
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                return Some((place, 'x'));
            }
            (Some(quote), c) => {
                if c == quote && !escaped {
                    within = None;
                }
                escaped = false;
                return Some((place, if c.len_utf8() == 1 { 'x' } else { c }));
            }
            (None, '"' | '`') => within = Some(c),
            (None, '#') => {
                within = Some('\n');
                return None;
            }
            (None, _) => {}
        }
        (!c.is_whitespace()).then_some((place, c))
    })
}

/// What stands between two places, edited.
fn write(text: &str, from: usize, to: usize, edits: &[(usize, Edit)], number: &mut usize) -> String {
    let mut out = String::with_capacity(to - from + 64);
    let mut done = from;
    // What is assigned where a query ends.
    let mut terms: Vec<(usize, String)> = Vec::new();
    let copy = |out: &mut String, done: &mut usize, until: usize, terms: &mut Vec<(usize, String)>, also_there: bool| {
        // The inner query ends first.
        while let Some(next) = terms.iter().map(|(end, _)| *end).min().filter(|end| *end < until || also_there && *end == until) {
            out.push_str(text.get(*done..next).unwrap_or_default());
            *done = next;
            if let Some(which) = terms.iter().rposition(|(end, _)| *end == next) {
                out.push_str(&terms.remove(which).1);
            }
        }
        out.push_str(text.get(*done..until).unwrap_or_default());
        *done = until;
    };
    for (place, edit) in edits.iter().filter(|(place, _)| (from..to).contains(place) || *place == text.len() && to == text.len()) {
        if *place < done {
            continue;
        }
        copy(&mut out, &mut done, *place, &mut terms, false);
        match edit {
            Edit::Insert(insert) => out.push_str(insert),
            Edit::Term { end, query_end } => {
                *number += 1;
                let name = format!("{OWN}{number}");
                let term = write(text, *place + 1, *end, edits, number);
                let first = text.get(*place..=*place).unwrap_or_default();
                out.push_str(&name);
                terms.push((*query_end, format!("; {name} := ({first}{term}); type_name({name})")));
                done = *end;
            }
        }
    }
    copy(&mut out, &mut done, to, &mut terms, true);
    out
}

/// Every text of a module, in order.
fn texts(text: &str) -> Option<Vec<String>> {
    let mut engine = walk::reader();
    engine.add_policy("m".to_owned(), text.to_owned()).ok()?;
    let mut texts = Vec::new();
    for module in engine.get_modules() {
        walk::expressions(module, &mut |expr| texts.extend(walk::literal(expr).map(str::to_owned)));
    }
    texts.sort();
    Some(texts)
}

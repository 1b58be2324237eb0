//! Puts other words in the place of what a request says.
//!
//! The invariant: whatever [`Request::texts`](super::Request::texts) says can be edited, but for names, ids and roles, by which a server or
//! a client finds things again, and for media; and what isn't changed isn't copied.

use super::answer::{Arguments, Call};
use super::json::{Json, make_keys_unique};

/// Gives what is to stand in the place of a text, where that is to be another. Before it comes the key that the text is the value of, or
/// one of the values; empty where it has none.
pub type Edit<'e> = dyn FnMut(&str, &str) -> Option<String> + 'e;

/// A text.
pub(super) fn text(text: &mut String, edit: &mut Edit<'_>) {
    named(text, "", edit);
}

fn named(text: &mut String, name: &str, edit: &mut Edit<'_>) {
    if let Some(other) = edit(name, text) {
        *text = other;
    }
}

/// Whatever texts there are.
pub(super) fn texts<'t>(texts: impl IntoIterator<Item = &'t mut String>, edit: &mut Edit<'_>) {
    texts.into_iter().for_each(|one| text(one, edit));
}

/// Every string of a value, keys among them.
pub(super) fn tree(json: &mut Json, edit: &mut Edit<'_>) {
    walk(json, "", false, edit);
}

/// Every string of a value that stands under a name.
pub(super) fn named_tree(json: &mut Json, name: &str, edit: &mut Edit<'_>) {
    walk(json, name, false, edit);
}

/// Every string of what a model is shown: numbers, too, each of which becomes a string where it is changed.
pub(super) fn shown_tree(json: &mut Json, edit: &mut Edit<'_>) {
    walk(json, "", true, edit);
}

fn walk(json: &mut Json, name: &str, with_numbers: bool, edit: &mut Edit<'_>) {
    match json {
        Json::Null | Json::Bool(_) => {}
        Json::Number(number) => {
            if let Some(other) = with_numbers.then(|| number.to_string()).and_then(|digits| edit(name, &digits)) {
                *json = Json::String(other);
            }
        }
        Json::String(one) => named(one, name, edit),
        Json::Array(items) => items.iter_mut().for_each(|item| walk(item, name, with_numbers, edit)),
        Json::Object(entries) => {
            let mut changed = false;
            for (key, value) in entries.iter_mut() {
                if let Some(other) = edit("", key) {
                    *key = other.into();
                    changed = true;
                }
                walk(value, key, with_numbers, edit);
            }
            if changed {
                make_keys_unique(entries);
            }
        }
    }
}

/// Fields that were taken by [`Fields::known`](super::Fields::known).
pub(super) fn known(fields: &mut [(&'static str, Json)], edit: &mut Edit<'_>) {
    for (_, value) in fields {
        tree(value, edit);
    }
}

/// What a call of the past was called with.
pub(super) fn call(call: &mut Call, edit: &mut Edit<'_>) {
    match &mut call.arguments {
        Arguments::Text(text) => arguments(text, edit),
        Arguments::Value(value) => shown_tree(value, edit),
    }
}

/// Arguments that are JSON in a string. They stay JSON.
pub(super) fn arguments(arguments: &mut String, edit: &mut Edit<'_>) {
    let Ok(mut value) = Json::read(arguments.as_bytes()) else { return text(arguments, edit) };
    let mut changed = false;
    shown_tree(&mut value, &mut |name, said| {
        let other = edit(name, said);
        changed |= other.is_some();
        other
    });
    if changed {
        *arguments = value.to_string();
    }
}

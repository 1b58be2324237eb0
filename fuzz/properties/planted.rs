//! Made-up secrets, planted in an answer wherever a fuzzer likes, whole or in halves, and the search for them in what a client gets.

use serde_json::Value;

/// Of each kind that is found wherever it stands, one, built from parts.
pub(super) fn secret(number: u8) -> String {
    let letters = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY";
    let secrets = [
        ["gh", "p_", letters, "abcd1234"],
        ["gh", "o_", letters, "abcd1234"],
        ["hf", "_", letters, "z1"],
        ["sk", "-", letters, "abcdefghijklmnop"],
        ["AK", "IA", "QWERTY12", "34567890"],
        ["ey", "JhbGciOiJIUzI1NiJ9.ey", "JzdWIiOiJub2JvZHkifQ", ".c2lnbmF0dXJl"],
    ];
    super::pick(&secrets, number).concat()
}

/// The bytes, with a secret in the place of each byte that no JSON holds: whole, its halves, and whole behind an escape of JSON's, or
/// behind one in a string within a string.
pub(super) fn plant(data: &[u8], secret: &str) -> Vec<u8> {
    let (first, second) = secret.split_at(secret.len() / 2);
    let escaped = format!("u{:04x}{}", u32::from(secret.as_bytes()[0]), &secret[1..]);
    let mut out = Vec::with_capacity(data.len());
    for byte in data {
        match byte {
            1 => out.extend_from_slice(secret.as_bytes()),
            2 => out.extend_from_slice(first.as_bytes()),
            3 => out.extend_from_slice(second.as_bytes()),
            4 => out.extend_from_slice(format!("\\{escaped}").as_bytes()),
            5 => out.extend_from_slice(format!("\\\\{escaped}").as_bytes()),
            other => out.push(*other),
        }
    }
    out
}

/// Whether it stands in a string of the value, or in a key.
pub(super) fn is_in(value: &Value, secret: &str) -> bool {
    match value {
        Value::String(text) => text.contains(secret),
        Value::Array(items) => items.iter().any(|item| is_in(item, secret)),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains(secret) || is_in(value, secret)),
        _ => false,
    }
}

/// Whether it stands in a string of the JSON that this string holds.
pub(super) fn is_in_json(text: &str, secret: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| is_in(&value, secret))
}

/// The arguments that are JSON in a string: those of the calls in a frame, or in a whole answer, of any family.
pub(super) fn arguments(frame: &Value) -> Vec<&str> {
    let mut calls: Vec<&Value> = Vec::new();
    for holder in [&frame["message"], frame] {
        calls.extend(holder["tool_calls"].as_array().into_iter().flatten());
    }
    for choice in frame["choices"].as_array().into_iter().flatten() {
        for name in ["delta", "message"] {
            calls.extend(choice[name]["tool_calls"].as_array().into_iter().flatten());
        }
    }
    let mut found: Vec<&str> = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    for items in [&frame["output"], &frame["response"]["output"]] {
        let items = items.as_array().into_iter().flatten().filter(|item| item["type"] == "function_call");
        found.extend(items.filter_map(|item| item["arguments"].as_str()));
    }
    if frame["item"]["type"] == "function_call" {
        found.extend(frame["item"]["arguments"].as_str());
    }
    if frame["type"] == "response.function_call_arguments.done" {
        found.extend(frame["arguments"].as_str());
    }
    found
}

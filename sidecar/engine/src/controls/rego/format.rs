//! `sprintf` as OPA has it: the verbs of Go's `fmt` that its documentation uses.
//!
//! Source: `fmt` of Go (`print.go`, "bad verb" and what follows it) and `builtinSprintf` in open-policy-agent/opa
//! `v1/topdown/strings.go`: whole numbers are `int64`, others `float64`, and what is neither a text nor a number is its own text.

use std::fmt::Write as _;

use regorus::Value;

/// A verb of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'f> {
    Text(&'f str),
    /// The verb, and the digits behind the point.
    Verb(char, Option<usize>),
}

/// What a format holds; nothing where it holds what isn't read here.
fn pieces(format: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        pieces.push(Piece::Text(before));
        let (digits, after) = match after.strip_prefix('.') {
            Some(after) => {
                let end = after.find(|c: char| !c.is_ascii_digit())?;
                (Some(after[..end].parse().ok().filter(|digits| *digits <= 12)?), &after[end..])
            }
            None => (None, after),
        };
        let verb = after.chars().next()?;
        rest = &after[verb.len_utf8()..];
        match (verb, digits) {
            ('%', None) => pieces.push(Piece::Text("%")),
            ('d' | 's' | 'v' | 'q' | 'x' | 'f', None) | ('f', Some(_)) => pieces.push(Piece::Verb(verb, digits)),
            _ => return None,
        }
    }
    pieces.push(Piece::Text(rest));
    Some(pieces)
}

/// Whether a format is one that is read here.
pub(super) fn is_read(format: &str) -> bool {
    pieces(format).is_some()
}

/// What stands between the whole numbers of a format that shows nothing else: whoever reads a sentence made by it reads nothing that
/// anybody said.
pub(super) fn between_numbers(format: &str) -> Option<Vec<String>> {
    let mut texts = vec![String::new()];
    for piece in pieces(format)? {
        match piece {
            Piece::Text(text) => texts.last_mut()?.push_str(text),
            Piece::Verb('d', None) => texts.push(String::new()),
            Piece::Verb(..) => return None,
        }
    }
    (texts.len() > 1).then_some(texts)
}

/// At least how many bytes a value has as a text; counting ends behind `most`.
pub(super) fn size(value: &Value, most: u64) -> u64 {
    let mut size = 0;
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        size += match value {
            // A character has ten where it is escaped.
            Value::String(text) => 32 + text.len() as u64 * 4,
            _ => 32,
        };
        if size > most {
            return u64::MAX;
        }
        match value {
            Value::Array(list) => left.extend(list.iter()),
            Value::Set(set) => left.extend(set.iter()),
            Value::Object(object) => left.extend(object.iter().flat_map(|(key, value)| [key, value])),
            _ => {}
        }
    }
    size
}

/// The sentence that a format and its values come to.
pub(super) fn sprintf<'v>(format: &str, values: impl Iterator<Item = &'v Value>) -> Option<Value> {
    let mut values = values.peekable();
    let mut out = String::new();
    for piece in pieces(format)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Verb(verb, digits) => match values.next() {
                Some(value) => show(value, verb, digits, &mut out)?,
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
            },
        }
    }
    if values.peek().is_some() {
        out.push_str("%!(EXTRA ");
        for (number, value) in values.enumerate() {
            if number > 0 {
                out.push_str(", ");
            }
            let _ = write!(out, "{}=", kind(value));
            show(value, 'v', None, &mut out)?;
        }
        out.push(')');
    }
    Some(Value::from(out))
}

fn whole(value: &Value) -> Option<i64> {
    value.as_number().ok().filter(|number| number.is_integer()).and_then(|_| value.as_i64().ok())
}

/// What Go calls it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Number(_) if whole(value).is_some() => "int64",
        Value::Number(_) => "float64",
        _ => "string",
    }
}

fn show(value: &Value, verb: char, digits: Option<usize>, out: &mut String) -> Option<()> {
    let bad = |out: &mut String, said: &str| {
        let _ = write!(out, "%!{verb}({}={said})", kind(value));
    };
    if let Value::Number(_) = value {
        match (verb, whole(value)) {
            ('d' | 'v', Some(whole)) => {
                let _ = write!(out, "{whole}");
            }
            ('x', Some(whole)) => {
                let _ = write!(out, "{}{:x}", if whole < 0 { "-" } else { "" }, whole.unsigned_abs());
            }
            // Of a whole number it makes a character.
            ('q', _) | ('x', None) => return None,
            // The precision holds for the number in the complaint, too.
            (_, Some(whole)) => {
                let sign = if whole < 0 { "-" } else { "" };
                bad(out, &format!("{sign}{:0digits$}", whole.unsigned_abs(), digits = digits.unwrap_or(0)));
            }
            ('f', None) => {
                let _ = write!(out, "{:.*}", digits.unwrap_or(6), value.as_f64().ok()?);
            }
            ('v', None) => out.push_str(&float(value.as_f64().ok()?)),
            (_, None) => bad(out, &float(value.as_f64().ok()?)),
        }
        return Some(());
    }
    let text = match value {
        Value::String(text) => text.to_string(),
        other => {
            let mut text = String::new();
            term(other, &mut text)?;
            text
        }
    };
    match verb {
        's' | 'v' => out.push_str(&text),
        'q' => quote(&text, out)?,
        'x' => text.bytes().for_each(|byte| {
            let _ = write!(out, "{byte:02x}");
        }),
        _ => bad(out, &text),
    }
    Some(())
}

/// `%v` of a `float64`: the shortest that reads as the same, with an exponent under -4 and from 21 on.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok()).unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return format!("{number}");
    }
    let digits = scientific.split_once('e').map_or(scientific.as_str(), |(digits, _)| digits);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A text in quotes, where Go and JSON put it alike.
fn quote(text: &str, out: &mut String) -> Option<()> {
    let is_sign =
        |c: char| matches!(c, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{20a0}'..='\u{20bf}' | '\u{3001}'..='\u{33ff}');
    let is_plain = |c: char| (' '..='~').contains(&c) || "\n\t".contains(c) || c.is_alphanumeric() || is_sign(c);
    if !text.chars().all(is_plain) {
        return None;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ => out.push(c),
        }
    }
    out.push('"');
    Some(())
}

/// A value as it is written in Rego.
fn term(value: &Value, out: &mut String) -> Option<()> {
    let list = |values: &mut dyn Iterator<Item = &Value>, out: &mut String| {
        for (number, value) in values.enumerate() {
            if number > 0 {
                out.push_str(", ");
            }
            term(value, out)?;
        }
        Some(())
    };
    match value {
        Value::Undefined => return None,
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(_) => match whole(value) {
            Some(whole) => {
                let _ = write!(out, "{whole}");
            }
            None => out.push_str(&float(value.as_f64().ok()?)),
        },
        Value::String(text) => quote(text, out)?,
        Value::Array(items) => {
            out.push('[');
            list(&mut items.iter(), out)?;
            out.push(']');
        }
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => {
            out.push('{');
            list(&mut items.iter_sorted(), out)?;
            out.push('}');
        }
        Value::Object(members) => {
            out.push('{');
            for (number, (key, value)) in members.iter_sorted().enumerate() {
                if number > 0 {
                    out.push_str(", ");
                }
                term(key, out)?;
                out.push_str(": ");
                term(value, out)?;
            }
            out.push('}');
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(format: &str, values: &str) -> Option<String> {
        let values = Value::from_json_str(values).unwrap();
        sprintf(format, values.as_array().unwrap().iter()).map(|said| said.as_string().unwrap().to_string())
    }

    #[test]
    fn values_stand_in_a_sentence_as_go_puts_them() {
        for (format, values, expected) in [
            ("%d of %d", "[3, -4]", "3 of -4"),
            ("%s and %v", r#"["a", "b"]"#, "a and b"),
            ("100%%", "[]", "100%"),
            ("%v %v %v", r#"[1.5, [1, "a"], {"b": null, "a": true}]"#, r#"1.5 [1, "a"] {"a": true, "b": null}"#),
            ("%.2f %f", "[1.005, 0.5]", "1.00 0.500000"),
            ("%d", "[1.5]", "%!d(float64=1.5)"),
            ("%s", "[5]", "%!s(int64=5)"),
            ("%d", r#"["x"]"#, "%!d(string=x)"),
            ("%d %d", "[1]", "1 %!d(MISSING)"),
            ("%d", r#"[1, "a", 2]"#, "1%!(EXTRA string=a, int64=2)"),
            ("%q %x", r#"["a\"b", 255]"#, r#""a\"b" ff"#),
            ("%v", "[1e21]", "1e+21"),
            ("%.2f", "[0]", "%!f(int64=00)"),
            ("%v", r#"[["é"]]"#, r#"["é"]"#),
        ] {
            assert_eq!(said(format, values).as_deref(), Some(expected), "{format}");
        }
        for unread in ["%", "%5d", "%+v", "%.99f", "%.2d", "%\u{663}d", "%.", "%T"] {
            assert!(!is_read(unread) && said(unread, "[1]").is_none(), "{unread}");
        }
    }

    #[test]
    fn of_a_format_that_shows_only_whole_numbers_the_rest_is_known() {
        assert_eq!(between_numbers("%d of %d%%").unwrap(), ["", " of ", "%"]);
        assert_eq!(between_numbers("%d %s"), None);
        assert_eq!(between_numbers("nothing"), None);
    }
}

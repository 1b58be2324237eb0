//! Patterns as OPA reads them, said so that the library here reads them alike.
//!
//! Both are automata without back references. They differ in what `\w`, `\d`, `\s` and `\b` mean beyond ASCII, in sets within sets, and
//! in a few marks that only one of them knows: the first are translated, the others are refused.
//!
//! Source: Go's `regexp/syntax` (the package's documentation), and that of the `regex` crate.

use regex::RegexBuilder;

/// The most memory that a pattern may take once it is compiled: with it grows how long it takes over a text.
const MOST_COMPILED: usize = 16 * 1024;

/// The pattern for the library here, or what is wrong with it.
pub(super) fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.chars().peekable();
    let mut in_set = false;
    // Whether a class was the last thing in a set, and whether the last thing outside says how often.
    let (mut after_class, mut repeated) = (false, false);
    while let Some(c) = rest.next() {
        if in_set && c == '-' && (after_class && rest.peek() != Some(&']') || is_class(&rest) && !out.ends_with('[') && !out.ends_with('^'))
        {
            return Err("a dash beside a class stands at the front of a set or behind a backslash");
        }
        after_class = false;
        if !in_set && matches!(c, '*' | '+') && repeated {
            return Err("how often stands there twice");
        }
        repeated = !in_set && matches!(c, '*' | '+' | '?' | '}');
        if !in_set && c == '{' {
            let counts: String = rest.clone().take_while(|c| *c != '}').collect();
            if counts.split(',').any(|count| count.parse::<u32>().is_ok_and(|count| count > 1000)) {
                return Err("something is repeated more than 1000 times");
            }
        }
        match c {
            '\\' => {
                let escaped = rest.next().ok_or("it ends with a backslash")?;
                after_class = in_set && matches!(escaped, 'w' | 'd' | 's');
                if matches!(escaped, 'p' | 'P') && rest.peek() == Some(&'{') {
                    let name: String = rest.clone().skip(1).take_while(|c| *c != '}').collect();
                    if name.len() > 2 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                        return Err("of the classes of Unicode those of one or two letters are read");
                    }
                }
                match (escaped, in_set) {
                    ('w', false) => out.push_str("[0-9A-Za-z_]"),
                    ('w', true) => out.push_str("0-9A-Za-z_"),
                    ('W', false) => out.push_str("[^0-9A-Za-z_]"),
                    ('d', false) => out.push_str("[0-9]"),
                    ('d', true) => out.push_str("0-9"),
                    ('D', false) => out.push_str("[^0-9]"),
                    ('s', false) => out.push_str(r"[\t\n\f\r ]"),
                    ('s', true) => out.push_str(r"\t\n\f\r "),
                    ('S', false) => out.push_str(r"[^\t\n\f\r ]"),
                    ('b', false) => out.push_str(r"(?-u:\b)"),
                    ('W' | 'D' | 'S', true) => return Err(r"\W, \D and \S don't stand in a set here"),
                    ('B', _) => return Err(r"\B isn't read here"),
                    ('Q' | 'E' | 'C' | 'u' | 'U' | '<' | '>' | '0'..='9', _) => return Err("it has an escape that isn't read here"),
                    _ => out.extend(['\\', escaped]),
                }
            }
            '[' if in_set && rest.peek() == Some(&':') => {
                out.push('[');
                loop {
                    let c = rest.next().ok_or("a set isn't closed")?;
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' if in_set => out.push_str(r"\["),
            '[' => {
                in_set = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // At the front it stands for itself.
                if rest.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ']' if in_set => {
                in_set = false;
                out.push(']');
            }
            // Twice they mean something else to the library here.
            '&' | '~' if in_set => out.extend(['\\', c]),
            '-' if in_set && rest.peek() == Some(&'-') => return Err("two dashes in a row stand in a set"),
            '(' if !in_set && rest.peek() == Some(&'?') => {
                out.push('(');
                out.extend(rest.next());
                let flags: String = std::iter::from_fn(|| rest.next_if(|c| c.is_ascii_lowercase() || *c == '-' || *c == 'U')).collect();
                let is_group = rest.peek().is_some_and(|c| "<P:)".contains(*c));
                if !is_group || flags.contains(['x', 'u', 'R']) {
                    return Err("it has a flag that OPA doesn't know");
                }
                out.push_str(&flags);
            }
            _ => out.push(c),
        }
    }
    if in_set {
        return Err("a set isn't closed");
    }
    Ok(out)
}

/// Whether a class stands next.
fn is_class(rest: &std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let next: Vec<char> = rest.clone().take(2).collect();
    matches!(next[..], ['\\', 'w' | 'd' | 's' | 'W' | 'D' | 'S'])
}

/// Whether the translated pattern can be run in its bounds; else what is wrong.
pub(super) fn check(translated: &str) -> Result<(), String> {
    RegexBuilder::new(translated).size_limit(MOST_COMPILED).build().map(|_| ()).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("compiled it takes more than {MOST_COMPILED} bytes"),
        // (The library draws where it stands, over several lines.)
        error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_digits_and_blanks_are_those_of_ascii() {
        for (pattern, text, expected) in [
            (r"^\w+$", "a_1", true),
            (r"^\w+$", "é", false),
            (r"^[\w.]+$", "a.b", true),
            (r"^\d$", "٣", false),
            (r"^\s$", "\u{a0}", false),
            (r"\bkey\b", "a key.", true),
            (r"\bkey\b", "ékey", true),
            (r"^[[:alpha:]&&]+$", "a&", true),
            (r"^[]a]+$", "]a", true),
            (r"^[[]$", "[", true),
            ("(?i)^KEY$", "key", true),
            ("(?P<a>b)(?:c)", "bc", true),
        ] {
            let translated = translate(pattern).unwrap();
            assert_eq!(regex::Regex::new(&translated).unwrap().is_match(text), expected, "{pattern} {text} {translated}");
        }
    }

    #[test]
    fn what_opa_reads_in_another_way_is_refused() {
        for pattern in ["(?x) a", "(?u)a", r"\<a", r"\Ba", r"[\W]", "[a--b]", r"\", "[a", r"\Qa\E", "(?=a)"] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
        assert!(check(&translate(r"(\w{200}){200}").unwrap()).unwrap_err().contains("takes more than"));
        assert!(check("a(").is_err());
    }
}

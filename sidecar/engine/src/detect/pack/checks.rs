//! What patterns can't say: which part of a match is the value, and whether it looks like one.

use std::ops::Range;

/// Where the last of these bytes stands, the rest is the value.
fn behind(bytes: &[u8], mark: impl Fn(u8) -> bool) -> Option<Range<usize>> {
    let begin = bytes.iter().rposition(|&byte| mark(byte))? + 1;
    (begin < bytes.len()).then_some(begin..bytes.len())
}

/// `name=VALUE`: what stands behind the first `=`.
pub(super) fn behind_equals(bytes: &[u8]) -> Option<Range<usize>> {
    let begin = bytes.iter().position(|&byte| byte == b'=')? + 1;
    (begin < bytes.len()).then_some(begin..bytes.len())
}

/// `Scheme VALUE`: what stands behind the last white space.
pub(super) fn behind_space(bytes: &[u8]) -> Option<Range<usize>> {
    behind(bytes, |byte| byte.is_ascii_whitespace())
}

/// `…"VALUE`: what stands behind the last quote.
pub(super) fn behind_quote(bytes: &[u8]) -> Option<Range<usize>> {
    behind(bytes, |byte| byte == b'"')
}

/// How much of a text goes from a small letter to another, in hundredths: words do nearly always, what is random seldom.
pub(super) fn words(bytes: &[u8]) -> usize {
    let small = bytes.windows(2).filter(|pair| pair.iter().all(u8::is_ascii_lowercase)).count();
    small * 100 / bytes.len().saturating_sub(1).max(1)
}

/// Letters alone are random only if large ones stand among small ones as they don't in words. A digit settles it.
pub(super) fn is_random(bytes: &[u8]) -> bool {
    if bytes.iter().any(u8::is_ascii_digit) {
        return true;
    }
    let large = bytes.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    large * 5 >= bytes.len() && words(bytes) < 50
}

/// See [`is_random`].
pub(super) fn random(bytes: &[u8]) -> Option<Range<usize>> {
    is_random(bytes).then_some(0..bytes.len())
}

/// Both letters and digits: no word, and no number.
pub(super) fn mixed(bytes: &[u8]) -> Option<Range<usize>> {
    let mixed = bytes.iter().any(u8::is_ascii_digit) && bytes.iter().any(u8::is_ascii_alphabetic);
    mixed.then_some(0..bytes.len())
}

/// Several digits among the letters, and no words around them: for forms that names of source code have, too.
pub(super) fn scattered(bytes: &[u8]) -> Option<Range<usize>> {
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    (digits >= 2 && words(bytes) < 50).then_some(0..bytes.len())
}

/// At least one letter that no number in hex has.
pub(super) fn beyond_hex(bytes: &[u8]) -> Option<Range<usize>> {
    let behind_prefix = behind(bytes, |byte| byte == b'-')?;
    bytes[behind_prefix].iter().any(|byte| !byte.is_ascii_hexdigit()).then_some(0..bytes.len())
}

/// A token of Hugging Face is random letters and digits, where a name of source code is words, and where a placeholder is one letter.
pub(super) fn hugging_face(bytes: &[u8]) -> Option<Range<usize>> {
    let value = &bytes[3..];
    let is_name = value.iter().any(u8::is_ascii_uppercase) && words(value) >= 60;
    let is_word = value.iter().all(|byte| byte.is_ascii_lowercase() || byte == &b'_');
    (!is_name && !is_word).then_some(0..bytes.len())
}

/// Behind a letter, as in `risk-…`, it takes more than hyphenated words: a run that is longer than any.
pub(super) fn long_run(bytes: &[u8]) -> Option<Range<usize>> {
    let long = bytes.split(|byte| !byte.is_ascii_alphanumeric()).any(|run| run.len() >= 24);
    long.then_some(0..bytes.len())
}

/// The password of an address: `scheme://user:PASSWORD@`. None where it is a placeholder.
pub(super) fn password_of_url(bytes: &[u8]) -> Option<Range<usize>> {
    let begin = bytes.windows(3).position(|window| window == b"://")? + 3;
    let begin = begin + bytes[begin..].iter().position(|&byte| byte == b':')? + 1;
    let end = begin + bytes[begin..].iter().position(|&byte| byte == b'@')?;
    let value = &bytes[begin..end];
    // `$NAME`, `%s` and `quote(name)`; in the middle such signs are a password's.
    let is_template = matches!(value, [b'$' | b'%', ..] | [.., b')']);
    (!is_template && !is_stock(value)).then_some(begin..end)
}

/// The user and the password of an address: `scheme://USER:PASSWORD@`.
pub(super) fn user_of_url(bytes: &[u8]) -> Option<Range<usize>> {
    let begin = bytes.windows(3).position(|window| window == b"://")? + 3;
    let end = begin + bytes[begin..].iter().position(|&byte| byte == b'@')?;
    (!is_placeholder(&bytes[begin..end])).then_some(begin..end)
}

/// What people write where they don't write a password: words, signs, variables and templates. What stands behind a blank makes none of what
/// stands before it: where a value's end isn't known, that may be anything.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    is_stock(value) || is_template(value) || !value.contains(&b' ') && holds_template(value)
}

/// `${NAME}`, `{{ name }}`, `<name>`, `$NAME`, `%s`.
pub(super) fn is_template(value: &[u8]) -> bool {
    let is_variable = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_between = |open: u8, close: u8| {
        let inner = value.strip_prefix(&[open]).and_then(|rest| rest.strip_suffix(&[close]));
        inner.is_some_and(|inner| !inner.trim_ascii().is_empty() && !inner.iter().any(|byte| [b'[', b']', b'(', b')'].contains(byte)))
    };
    let brackets = [(b'{', b'}'), (b'<', b'>'), (b'[', b']'), (b'(', b')'), (b'%', b'%')];
    match value {
        [b'$', b'{' | b'(', .., b'}' | b')'] => true,
        [b'$', name @ ..] => {
            is_variable(name) && (name.iter().all(|byte| !byte.is_ascii_lowercase()) || !name.iter().any(u8::is_ascii_digit))
        }
        [b'%', rest @ ..] if rest.len() <= 2 => true,
        _ => brackets.into_iter().any(|(open, close)| is_between(open, close)),
    }
}

/// A variable or an expression of a template is a part of it.
pub(super) fn holds_template(value: &[u8]) -> bool {
    const OPEN: &[&[u8]] = &[b"${", b"$(", b"{{", b"#{", b"<%", b"%{", b"%("];
    OPEN.iter().any(|open| value.windows(open.len()).any(|part| part == *open))
}

/// The words and the signs of those.
pub(super) fn is_stock(value: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"password",
        b"passwd",
        b"pass",
        b"pwd",
        b"pw",
        b"secret",
        b"token",
        b"key",
        b"apikey",
        b"api_key",
        b"test",
        b"changeme",
        b"changeit",
        b"none",
        b"null",
        b"nil",
        b"true",
        b"false",
        b"undefined",
        b"string",
        b"user",
        b"username",
        b"admin",
        b"root",
        b"guest",
        b"port",
        b"mypassword",
        b"yourpassword",
        b"your_password",
        b"your-password",
        b"dbpassword",
        b"db_password",
        b"postgres",
        b"foo",
        b"bar",
        b"hunter2",
        b"hello",
        b"example",
        b"secretpassword",
        b"passw0rd",
        b"p",
        b"redacted",
    ];
    let first = value.first().copied();
    WORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
        || value.iter().all(|&byte| Some(byte) == first)
        || value.iter().all(|byte| matches!(byte, b'x' | b'X' | b'*' | b'.' | b'-' | b'_' | b'#' | b'?'))
}

/// Credentials of basic authentication in base64: they hold a colon, and nothing that isn't text.
pub(super) fn basic(bytes: &[u8]) -> Option<Range<usize>> {
    let value = behind_space(bytes)?;
    let text = decoded(&bytes[value.clone()])?;
    let is_text = text.iter().all(|&byte| byte >= 0x20 && byte != 0x7F);
    // (The first part of a JSON Web Token is text with a colon as well.)
    (is_text && text.contains(&b':') && text.first() != Some(&b'{')).then_some(value)
}

/// The parts of a JWT in compact form (RFC 7515, 3.1; RFC 7516, 3.1): three, or up to five. That of a signature may be empty where the
/// second begins as JSON does. A full stop behind the last is none of it.
pub(super) fn jwt(text: &[u8]) -> Option<Range<usize>> {
    let mut end = 0;
    let mut count = 0;
    let mut is_json = false;
    for (place, part) in text.split(|byte| *byte == b'.').enumerate().take(5) {
        let begin = if place == 0 { 0 } else { end + 1 };
        if part.is_empty() {
            if place == 2 && is_json {
                (end, count) = (begin, 3);
            }
            break;
        }
        is_json |= place == 1 && part.starts_with(b"eyJ");
        (end, count) = (begin + part.len(), place + 1);
    }
    (count >= 3).then_some(0..end)
}

/// A JSON Web Token in base64 has a point in it.
pub(super) fn wrapped_jwt(bytes: &[u8]) -> Option<Range<usize>> {
    let text = decoded(bytes)?;
    let is_token = text.starts_with(b"eyJ") && text.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._-+/=\r\n".contains(&byte));
    is_token.then_some(0..bytes.len())
}

/// Base64 of either alphabet; what is left over at its end is left out.
fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for &byte in bytes {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xFFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xFF).ok()?);
        }
    }
    Some(out)
}

/// A value that a program or a person chose as a secret: letters and digits among each other, and not the words of a name.
pub(super) fn chosen(bytes: &[u8]) -> Option<Range<usize>> {
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    (digits >= 2 && letters >= 2 && words(bytes) < 50 && !is_placeholder(bytes)).then_some(0..bytes.len())
}

/// A password as it is written behind its name: nothing that stands for one, and no word of a program.
pub(super) fn password(bytes: &[u8]) -> Option<Range<usize>> {
    let digits = bytes.iter().any(u8::is_ascii_digit);
    let letters = bytes.iter().any(u8::is_ascii_alphabetic);
    let signs = bytes.iter().any(|byte| b"!@#%^&*+?~".contains(byte));
    let strong = letters && (digits || signs) && !is_placeholder(bytes);
    strong.then_some(0..bytes.len())
}

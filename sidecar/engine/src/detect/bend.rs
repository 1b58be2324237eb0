//! What may stand in the middle of a value and isn't part of it, or stands for a character of it: invisible characters, escapes, marks of
//! Markdown, ends of lines.

use super::compiled::is_word_byte;

/// What a text says at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bend {
    /// Itself.
    Plain,
    /// More has to come before that can be told.
    Open,
    /// Nothing: so many bytes that nobody sees.
    Nothing(usize),
    /// Another look, by so many bytes: what stands before it and behind it is one word.
    Mark(usize),
    /// Another line, by so many bytes: what stands before it and behind it may be one.
    Line(usize),
    /// A byte of ASCII, by so many bytes.
    Byte(u8, usize),
    /// The same of what stands between words, where its spelling looks like a letter or a digit of the next one: `\n`, `%20`.
    Gap(u8, usize),
}

/// Whether a text may say something else at this byte than the byte itself.
pub(super) const fn may_bend(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&' | b'*' | b'`' | b'~' | b'\n' | b'\r' | 0xC2 | 0xCD | 0xD8 | 0xE1 | 0xE2 | 0xEF | 0xF3)
}

/// Whether a byte that may bend stands for a character there, or for none. The others are marks of Markdown and ends of lines.
pub(super) const fn is_of_characters(byte: u8) -> bool {
    !matches!(byte, b'*' | b'`' | b'~' | b'\n' | b'\r')
}

/// How many letters of a word that begins values have to stand before the end of a line, or a mark of Markdown, that it may go on behind.
pub(super) const LETTERS_BEFORE_BREAK: usize = 3;
/// The most bytes of a bend: `&#x0000041;`, backslashes and a line's indentation aside.
pub(super) const LONGEST: usize = 12;
/// The most backslashes before a character that they escape, the first aside.
const MOST_BACKSLASHES: usize = 7;
/// The most blanks at the beginning of a line that are passed over.
const INDENTATION: usize = 16;

/// What stands at the beginning of these bytes. `whole`: no more will come.
pub(super) fn at(bytes: &[u8], whole: bool) -> Bend {
    match read(bytes, whole) {
        Bend::Byte(byte, length) if !is_word_byte(byte) && bytes[length - 1].is_ascii_alphanumeric() => Bend::Gap(byte, length),
        bend => bend,
    }
}

fn read(bytes: &[u8], whole: bool) -> Bend {
    let open = if whole { Bend::Plain } else { Bend::Open };
    match bytes {
        [] => open,
        [b'%', rest @ ..] => match rest {
            [high, low, ..] => hex(&[*high, *low]).map_or(Bend::Plain, |byte| ascii(byte, 3)),
            [high] if !high.is_ascii_hexdigit() => Bend::Plain,
            _ => open,
        },
        [b'\\', rest @ ..] => escape(rest, open),
        [b'&', rest @ ..] => entity(rest, open),
        [b'*' | b'`' | b'~', rest @ ..] => {
            let more = rest.iter().take_while(|byte| **byte == bytes[0]).count();
            if more == rest.len() && !whole && more < LONGEST { Bend::Open } else { Bend::Mark(1 + more.min(LONGEST)) }
        }
        [b'\r', rest @ ..] => match rest {
            [b'\n', rest @ ..] => line(rest, 2, whole),
            [] if !whole => Bend::Open,
            rest => line(rest, 1, whole),
        },
        [b'\n', rest @ ..] => line(rest, 1, whole),
        _ => invisible(bytes, open),
    }
}

/// The beginning of another line: blanks, and what Markdown and e-mails quote with.
fn line(rest: &[u8], before: usize, whole: bool) -> Bend {
    let blanks = rest.iter().take(INDENTATION).take_while(|byte| matches!(byte, b' ' | b'\t' | b'>')).count();
    match rest.get(blanks) {
        None if blanks < INDENTATION && !whole => Bend::Open,
        // An empty line ends all.
        Some(b'\n' | b'\r') => Bend::Plain,
        _ => Bend::Line(before + blanks),
    }
}

fn ascii(code: u32, length: usize) -> Bend {
    u8::try_from(code).ok().filter(u8::is_ascii).map_or(Bend::Plain, |byte| Bend::Byte(byte, length))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| Some(value.checked_mul(16)? + char::from(*digit).to_digit(16)?))
}

/// Escapes of JSON (RFC 8259, 7), of programming languages, and of Markdown, where a backslash before punctuation is no more than that.
fn escape(rest: &[u8], open: Bend) -> Bend {
    match rest {
        [] | [b'\r'] => open,
        // The end of a line that goes on with the next, as shells and many languages have it.
        [b'\r', b'\n', rest @ ..] => line(rest, 3, open == Bend::Plain),
        [b'\n', rest @ ..] => line(rest, 2, open == Bend::Plain),
        // Within a string within a string the backslash has one of its own.
        [b'\\', ..] => match rest.iter().take(MOST_BACKSLASHES).position(|byte| *byte != b'\\') {
            None if rest.len() < MOST_BACKSLASHES => open,
            Some(more) if matches!(rest[more], b'u' | b'x' | b'n' | b'r' | b't') => match escape(&rest[more..], open) {
                Bend::Byte(byte, length) => Bend::Byte(byte, length + more),
                Bend::Nothing(length) => Bend::Nothing(length + more),
                other => other,
            },
            _ => Bend::Plain,
        },
        [b'u', b'{', rest @ ..] => match rest.iter().take(LONGEST - 4).position(|byte| *byte == b'}') {
            Some(end) => hex(&rest[..end]).filter(|_| end > 0).map_or(Bend::Plain, |code| ascii(code, end + 4)),
            None if rest.len() < LONGEST - 4 && rest.iter().all(u8::is_ascii_hexdigit) => open,
            None => Bend::Plain,
        },
        [b'u', rest @ ..] => match rest.get(..4) {
            Some(digits) => hex(digits).map_or(Bend::Plain, |code| code_point(code, 6)),
            None if rest.iter().all(u8::is_ascii_hexdigit) => open,
            None => Bend::Plain,
        },
        [b'x', rest @ ..] => match rest.get(..2) {
            Some(digits) => hex(digits).map_or(Bend::Plain, |code| ascii(code, 4)),
            None if rest.iter().all(u8::is_ascii_hexdigit) => open,
            None => Bend::Plain,
        },
        [b'n' | b'r' | b't', ..] => Bend::Byte(b' ', 2),
        [byte, ..] if byte.is_ascii_punctuation() && *byte != b'\\' => ascii((*byte).into(), 2),
        _ => Bend::Plain,
    }
}

/// Character references of HTML (WHATWG HTML, 13.2.5.72) by number, and the names of what stands in values.
fn entity(rest: &[u8], open: Bend) -> Bend {
    let Some(end) = rest.iter().take(LONGEST - 2).position(|byte| *byte == b';') else {
        let goes_on = rest.len() < LONGEST - 2 && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#');
        return if goes_on { open } else { Bend::Plain };
    };
    let length = end + 2;
    match &rest[..end] {
        [b'#', b'x' | b'X', digits @ ..] if !digits.is_empty() => hex(digits).map_or(Bend::Plain, |code| code_point(code, length)),
        [b'#', digits @ ..] if !digits.is_empty() => {
            let code = digits.iter().try_fold(0u32, |value, digit| Some(value.checked_mul(10)? + char::from(*digit).to_digit(10)?));
            code.map_or(Bend::Plain, |code| code_point(code, length))
        }
        b"amp" => Bend::Byte(b'&', length),
        b"lt" => Bend::Byte(b'<', length),
        b"gt" => Bend::Byte(b'>', length),
        b"quot" => Bend::Byte(b'"', length),
        b"commat" => Bend::Byte(b'@', length),
        b"period" => Bend::Byte(b'.', length),
        b"lowbar" => Bend::Byte(b'_', length),
        b"hyphen" | b"dash" => Bend::Byte(b'-', length),
        b"shy" | b"ZeroWidthSpace" => Bend::Nothing(length),
        _ => Bend::Plain,
    }
}

fn code_point(code: u32, length: usize) -> Bend {
    match char::from_u32(code) {
        Some(c) if is_invisible(c) => Bend::Nothing(length),
        _ => ascii(code, length),
    }
}

/// Characters that nobody sees: of the category Cf and those that ignore themselves (Unicode 16, `Default_Ignorable_Code_Point`).
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

fn invisible(bytes: &[u8], open: Bend) -> Bend {
    let length = match bytes[0] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Bend::Plain,
    };
    let Some(encoded) = bytes.get(..length) else { return open };
    match std::str::from_utf8(encoded).ok().and_then(|text| text.chars().next()) {
        Some(c) if is_invisible(c) => Bend::Nothing(length),
        // The wide forms of ASCII (U+FF01 to U+FF5E) stand in its order.
        Some(c @ '\u{ff01}'..='\u{ff5e}') => ascii(u32::from(c) - 0xFEE0, length),
        _ => Bend::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_something_else_is_known() {
        for (text, bend) in [
            ("%41b", Bend::Byte(b'A', 3)),
            ("%4", Bend::Plain),
            ("%zz", Bend::Plain),
            ("%C3%A4", Bend::Plain),
            ("\\u0041", Bend::Byte(b'A', 6)),
            ("\\u{41}", Bend::Byte(b'A', 6)),
            ("\\x5fz", Bend::Byte(b'_', 4)),
            ("\\_", Bend::Byte(b'_', 2)),
            ("\\n", Bend::Gap(b' ', 2)),
            ("%20", Bend::Gap(b' ', 3)),
            ("\\u0022", Bend::Gap(b'"', 6)),
            ("&quot;", Bend::Byte(b'"', 6)),
            ("\\\\", Bend::Plain),
            ("\\\\n", Bend::Gap(b' ', 3)),
            ("\\\\u0041", Bend::Byte(b'A', 7)),
            ("\\\\\\\\x41", Bend::Byte(b'A', 7)),
            ("\\\n  x", Bend::Line(4)),
            ("\u{ff21}x", Bend::Byte(b'A', 3)),
            ("\\u200bx", Bend::Nothing(6)),
            ("&#65;", Bend::Byte(b'A', 5)),
            ("&#x41;", Bend::Byte(b'A', 6)),
            ("&amp;x", Bend::Byte(b'&', 5)),
            ("&nope;", Bend::Plain),
            ("&", Bend::Plain),
            ("**x", Bend::Mark(2)),
            ("`x", Bend::Mark(1)),
            ("\r\n  x", Bend::Line(4)),
            ("\n> x", Bend::Line(3)),
            ("\n \nx", Bend::Plain),
            ("\r\n\r\nx", Bend::Plain),
            ("\u{200b}x", Bend::Nothing(3)),
            ("\u{ad}x", Bend::Nothing(2)),
            ("\u{e0041}x", Bend::Nothing(4)),
            ("“x", Bend::Plain),
        ] {
            assert_eq!(at(text.as_bytes(), true), bend, "{text:?}");
            // With less of it nobody says something else.
            for end in 1..text.len() {
                let early = at(&text.as_bytes()[..end], false);
                assert!(early == Bend::Open || early == bend, "{text:?} {end} {early:?}");
            }
        }
    }
}

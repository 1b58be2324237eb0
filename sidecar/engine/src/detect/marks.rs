//! What stands in the place of a value, and how it is known again when it passes a second time.
//!
//! The invariant: nothing of a value is in what stands in its place but the last digits that were asked for, fewer than half of its letters
//! and digits; and nothing that stands in a value's place is found as one.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::compiled::LONG;
use super::kind::Kind;
use super::matcher::{LOOK_BACK, Window};

/// How marks begin, and tokens.
const OPENING: &[u8] = b"[REDACTED_";
/// What stands before the last digits. (No sign of Markdown's, and none that digits are written with.)
const HIDDEN: &[u8] = b"[####";
/// The most digits that are left.
const LAST_DIGITS: usize = 4;
/// The fewest letters and digits of a value of which any are left: twice as many as are left, and one.
const LEAST: usize = 2 * LAST_DIGITS + 1;
/// How tokens are spelled: hexadecimal, in letters of which neither words nor numbers come.
const LETTERS: &[u8; 16] = b"bcdfghjlmnqrtvxz";
/// How many of them a token has: 48 bits.
const TOKEN_LETTERS: usize = 12;
/// The most digits of a mark's number.
const NUMBER_DIGITS: usize = 4;
/// The most bytes of a mark. What stands so far before the end of a match is there still.
const MARK_BYTES: usize = 128;
const _: () = assert!(MARK_BYTES + LONG <= LOOK_BACK);

/// What a value is replaced by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replacement {
    /// `[REDACTED_KIND]`.
    #[default]
    Mark,
    /// `[####1234]`, where the value ends in digits.
    LastDigits,
    /// `[REDACTED_KIND_bcdfghjlmnqr]`, the same for equal values of a kind; the mark where there is no key.
    Token,
}

/// What tokens are made with. Who has it can tell which value a token stands for, by trying.
#[derive(PartialEq, Eq)]
pub struct TokenKey(Zeroizing<Vec<u8>>);

impl TokenKey {
    /// The fewest bytes of a key.
    pub const LEAST_BYTES: usize = 32;

    /// None of fewer bytes than a key has.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::LEAST_BYTES).then(|| Self(Zeroizing::new(bytes.to_vec())))
    }

    fn token(&self, kind: Kind, value: &str) -> Option<String> {
        // (A key of any length is one.)
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        // (No name has a zero in it.)
        for part in [kind.name().as_bytes(), &[0], value.as_bytes()] {
            mac.update(part);
        }
        let hash = mac.finalize().into_bytes();
        let letters = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(TOKEN_LETTERS);
        let letters: String = letters.map(|nibble| char::from(LETTERS[usize::from(nibble)])).collect();
        Some(format!("[REDACTED_{}_{letters}]", kind.name()))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

impl Replacement {
    /// What stands in the place of a value that was found as it is, where that isn't the mark.
    pub(super) fn of(self, kind: Kind, value: &str, key: Option<&TokenKey>) -> Option<String> {
        match self {
            Self::Mark => None,
            Self::LastDigits => last_digits(value),
            Self::Token => key?.token(kind, value),
        }
    }
}

/// The last digits of a value that ends in such and is long enough.
fn last_digits(value: &str) -> Option<String> {
    let alphanumeric = || value.chars().rev().filter(|c| c.is_alphanumeric());
    let mut digits: Vec<char> = alphanumeric().take_while(char::is_ascii_digit).take(LAST_DIGITS).collect();
    digits.reverse();
    let is_long = alphanumeric().nth(LEAST - 1).is_some();
    (is_long && !digits.is_empty()).then(|| format!("[####{}]", digits.into_iter().collect::<String>()))
}

/// Whether a text is a mark or a token, with its brackets or without.
pub(super) fn is_mark(text: &[u8]) -> bool {
    let inner = text.strip_prefix(b"[").unwrap_or(text);
    let inner = inner.strip_suffix(b"]").unwrap_or(inner);
    let name = inner.strip_prefix(&OPENING[1..]).and_then(|name| std::str::from_utf8(name).ok());
    is_hidden(inner)
        || name.is_some_and(|name| {
            let unnumbered = name.rsplit_once('_').filter(|(_, rest)| is_rest(rest.as_bytes(), true)).map(|(name, _)| name);
            Kind::of_name(name).is_some() || unnumbered.is_some_and(|name| Kind::of_name(name).is_some())
        })
}

/// Whether a value at a place, of a match that ends at another, lies within what stands in a value's place: with the bracket before it the
/// text is one, as far as it goes.
pub(super) fn is_inside(window: Window<'_>, start: usize, end: usize, matched: usize) -> bool {
    let most = MARK_BYTES.saturating_sub(matched.saturating_sub(start));
    let before = window.run_before(start, most, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'#' | b'['));
    let text = window.slice(start - before..end);
    let Some(open) = text[..before].iter().rposition(|byte| *byte == b'[') else { return false };
    begins_mark(&text[open..])
}

/// Whether a text is what a mark begins with.
fn begins_mark(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"]").unwrap_or(text);
    if OPENING.starts_with(text) || HIDDEN.starts_with(text) || is_hidden(&text[1..]) {
        return true;
    }
    let Some(name) = text.strip_prefix(OPENING).and_then(|name| std::str::from_utf8(name).ok()) else { return false };
    let is_name = |kind: Kind| {
        let behind = || name.strip_prefix(kind.name())?.strip_prefix('_');
        kind.name().starts_with(name) || behind().is_some_and(|rest| is_rest(rest.as_bytes(), false))
    };
    Kind::each().any(is_name)
}

/// Whether it is what stands behind the bracket of last digits.
fn is_hidden(text: &[u8]) -> bool {
    text.strip_prefix(&HIDDEN[1..]).is_some_and(|digits| digits.len() <= LAST_DIGITS && digits.iter().all(u8::is_ascii_digit))
}

/// Whether it is what stands behind the name in a numbered mark or in a token, `whole` or as far as it goes.
fn is_rest(text: &[u8], whole: bool) -> bool {
    let is_number = text.len() <= NUMBER_DIGITS && text.iter().all(u8::is_ascii_digit);
    let is_token = text.len() <= TOKEN_LETTERS && text.iter().all(|byte| LETTERS.contains(byte));
    if whole { is_number && !text.is_empty() || is_token && text.len() == TOKEN_LETTERS } else { is_number || is_token }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn email() -> Kind {
        Kind::of_name("EMAIL").unwrap()
    }

    fn inside(text: &str, value: &str) -> bool {
        let start = text.rfind(value).unwrap();
        is_inside(Window { bytes: text.as_bytes(), base: 0 }, start, start + value.len(), start + value.len())
    }

    #[test]
    fn the_last_digits_are_few_and_the_length_is_hidden() {
        let of = |value| last_digits(value).unwrap_or_default();
        assert_eq!(of("4111 1111 1111 1234"), "[####1234]");
        assert_eq!(of("078-05-1120"), "[####1120]");
        assert_eq!(of("AB12345678X9"), "[####9]");
        // Too short, and with nothing to show.
        assert_eq!((of("12345678"), of("GB29NWBK60161331926X"), of("someone@example.org"), of("")), Default::default());
    }

    #[test]
    fn what_stands_in_a_values_place_is_known_again() {
        let key = TokenKey::new(&[7; 32]).unwrap();
        let token = key.token(email(), "a").unwrap();
        for mark in ["[REDACTED_EMAIL]", "[REDACTED_EMAIL_12]", "[####1234]", &token] {
            assert!(is_mark(mark.as_bytes()) && is_mark(&mark.as_bytes()[1..mark.len() - 1]), "{mark}");
            for end in 2..=mark.len() {
                assert!(begins_mark(&mark.as_bytes()[..end]), "{mark} {end}");
            }
        }
        for text in ["[REDACTED_XYZZY]", "[REDACTED_EMAIL_12345]", "[####12345]", "[REDACTED_EMAIL_bcd]", "EMAIL", "[EMAIL]", ""] {
            assert!(!is_mark(text.as_bytes()), "{text}");
        }
        assert!(inside("see [REDACTED_EMAIL]", "EMAIL") && inside("see [REDACTED_EMAIL]", "EDACTE") && inside("[####1234]", "234"));
        for (text, value) in
            [("[REDACTED_EMP1234", "EMP1234"), ("REDACTED_EMAIL", "EMAIL"), ("[####4111 1111", "4111 1111"), ("[x 1234", "1234")]
        {
            assert!(!inside(text, value), "{text}");
        }
    }

    #[test]
    fn a_key_is_long_enough_and_is_not_printed() {
        assert!(TokenKey::new(&[1; 31]).is_none());
        assert_eq!(format!("{:?}", TokenKey::new(&[0x41; 32]).unwrap()), "TokenKey");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn equal_values_have_equal_tokens_and_others_or_other_keys_others(one in ".{0,20}", other in ".{0,20}", key in any::<[u8; 32]>()) {
            let (first, second) = (TokenKey::new(&key).unwrap(), TokenKey::new(&key.map(|byte| byte ^ 1)).unwrap());
            let token = first.token(email(), &one).unwrap();
            prop_assert_eq!(first.token(email(), &other).unwrap() == token, one == other);
            prop_assert_ne!(&second.token(email(), &one).unwrap(), &token);
            let of_another_kind = first.token(Kind::of_name("SSN").unwrap(), &one).unwrap();
            prop_assert_ne!(of_another_kind.rsplit('_').next(), token.rsplit('_').next());
            prop_assert!(!token.bytes().any(|byte| byte.is_ascii_digit()));
        }

        #[test]
        fn fewer_than_half_of_a_value_are_left(value in "[0-9A-Za-z -]{0,30}") {
            let all = value.chars().filter(char::is_ascii_alphanumeric).count();
            let left = last_digits(&value).unwrap_or_default();
            prop_assert!(left.is_empty() || 2 * (left.len() - 6) < all && left.len() <= 10);
        }
    }
}

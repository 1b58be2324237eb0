//! What was put in the place of values in a request, so that they can come back in its answer.
//!
//! The invariant: a mark stands for one value, and in the request it stands nowhere but in that value's place. The values live as long as
//! the exchange, show in nothing that can be printed, and are wiped when they go.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use zeroize::Zeroizing;

/// How every mark begins.
const OPENING: &str = "[REDACTED_";
/// The most bytes of a mark.
const MARK_BYTES: usize = 128;
/// The most values that are kept, and the most bytes of them. Each beyond that is redacted, and doesn't come back.
const VALUES: usize = 4096;
const VALUE_BYTES: usize = 1024 * 1024;

/// The values of one exchange, by their marks.
#[derive(Default)]
pub struct Masks {
    marks: BTreeMap<String, Value>,
    by_value: HashMap<Value, String>,
    bytes: usize,
    /// Numbers that stand in a mark of the client's own.
    taken: HashSet<u32>,
    /// The number that was given last.
    last: u32,
}

#[derive(Clone, PartialEq, Eq)]
struct Value(Arc<Zeroizing<String>>);

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl Borrow<str> for Value {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { marks, by_value: _, bytes: _, taken: _, last: _ } = self;
        f.debug_struct("Masks").field("values", &marks.len()).finish_non_exhaustive()
    }
}

/// What stands at the beginning of a text.
#[derive(PartialEq, Eq)]
pub(crate) enum Found<'m> {
    /// A mark of so many bytes, and the value for which it stands.
    Mark(usize, &'m str),
    /// The beginning of one, as far as the text goes.
    Beginning,
    /// Neither.
    Nothing,
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mark(..) => "Mark",
            Self::Beginning => "Beginning",
            Self::Nothing => "Nothing",
        })
    }
}

impl Masks {
    /// Whether there is nothing that could come back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Has no mark made that stands in this text already.
    pub(super) fn avoid(&mut self, text: &str) {
        for (place, _) in text.match_indices(OPENING) {
            let rest = &text.as_bytes()[place + OPENING.len()..];
            let Some(end) = rest.iter().take(MARK_BYTES).position(|byte| *byte == b']') else { continue };
            let number = rest[..end].rsplit(|byte| *byte == b'_').next().and_then(|digits| std::str::from_utf8(digits).ok());
            self.taken.extend(number.and_then(|digits| digits.parse::<u32>().ok()));
        }
    }

    /// What stands in the place of a value of a kind: the same mark for the same value. Where no more are kept, what is no mark.
    pub(super) fn mark(&mut self, kind: &str, value: &str) -> String {
        // A value that was found around marks is what the client had written there.
        let value = Zeroizing::new(self.restored(value));
        if let Some(mark) = self.by_value.get(value.as_str()) {
            return mark.clone();
        }
        self.keep(kind, value).unwrap_or_else(|| format!("{OPENING}{kind}]"))
    }

    fn keep(&mut self, kind: &str, value: Zeroizing<String>) -> Option<String> {
        let bytes = self.bytes.checked_add(value.len()).filter(|bytes| *bytes <= VALUE_BYTES && self.marks.len() < VALUES)?;
        let number = (self.last.saturating_add(1)..u32::MAX).find(|number| !self.taken.contains(number))?;
        let mark = Some(format!("{OPENING}{kind}_{number}]")).filter(|mark| mark.len() <= MARK_BYTES)?;
        (self.bytes, self.last) = (bytes, number);
        let value = Value(Arc::new(value));
        self.marks.insert(mark.clone(), value.clone());
        self.by_value.insert(value, mark.clone());
        Some(mark)
    }

    /// What stands at the beginning of a text.
    pub(crate) fn read(&self, text: &str) -> Found<'_> {
        if !(text.starts_with(OPENING) || OPENING.starts_with(text)) {
            return Found::Nothing;
        }
        if let Some(end) = text.bytes().take(MARK_BYTES).position(|byte| byte == b']') {
            let mark = text.get(..=end).unwrap_or_default();
            return self.marks.get(mark).map_or(Found::Nothing, |value| Found::Mark(mark.len(), value.0.as_str()));
        }
        match self.marks.range::<str, _>((Bound::Included(text), Bound::Unbounded)).next() {
            Some((mark, _)) if mark.starts_with(text) => Found::Beginning,
            _ => Found::Nothing,
        }
    }

    /// A text that is there as a whole, with the values in the places of their marks.
    pub(crate) fn restored(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let rest = self.restore(text, &mut out);
        out.push_str(rest);
        out
    }

    /// The same as far as it is sure. Gives what may still become a mark.
    pub(crate) fn restore<'t>(&self, text: &'t str, out: &mut String) -> &'t str {
        if self.is_empty() {
            out.push_str(text);
            return "";
        }
        let mut rest = text;
        while let Some(start) = rest.find('[') {
            out.push_str(&rest[..start]);
            rest = &rest[start..];
            match self.read(rest) {
                Found::Mark(length, value) => {
                    out.push_str(value);
                    rest = &rest[length..];
                }
                Found::Beginning => return rest,
                Found::Nothing => {
                    out.push('[');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(values: &[(&str, &str)]) -> Masks {
        let mut masks = Masks::default();
        for (kind, value) in values {
            masks.mark(kind, value);
        }
        masks
    }

    #[test]
    fn equal_values_have_one_mark_and_no_mark_is_one_of_the_clients() {
        let mut masks = Masks::default();
        masks.avoid("see [REDACTED_EMAIL_1] and [REDACTED_A_B_3], [REDACTED_], [REDACTED_EMAIL_99999999999] and [REDACTED_");
        assert_eq!(masks.mark("EMAIL", "a"), "[REDACTED_EMAIL_2]");
        assert_eq!(masks.mark("SSN", "b"), "[REDACTED_SSN_4]");
        assert_eq!(masks.mark("EMAIL", "a"), "[REDACTED_EMAIL_2]");
        let answer = "[REDACTED_EMAIL_1][[REDACTED_EMAIL_2] [REDACTED_SSN_2] [REDACTED_SSN_4";
        assert_eq!(masks.restored(answer), "[REDACTED_EMAIL_1][a [REDACTED_SSN_2] [REDACTED_SSN_4");
    }

    #[test]
    fn a_value_around_a_mark_comes_back_as_the_client_wrote_it() {
        let mut masks = masks(&[("EMAIL", "a")]);
        assert_eq!(masks.mark("KEY", "key=[REDACTED_EMAIL_1]"), "[REDACTED_KEY_2]");
        assert_eq!(masks.restored("[REDACTED_KEY_2]"), "key=a");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut masks = Masks::default();
        assert!((1..=VALUES).all(|number| masks.mark("K", &number.to_string()) == format!("[REDACTED_K_{number}]")));
        assert_eq!(masks.mark("K", "more"), "[REDACTED_K]");
        assert_eq!(masks.mark("K", "7"), "[REDACTED_K_7]");
        let mut masks = Masks::default();
        assert_eq!(masks.mark("K", &"a".repeat(VALUE_BYTES + 1)), "[REDACTED_K]");
        assert_eq!(masks.mark(&"K".repeat(MARK_BYTES), "a").len(), MARK_BYTES + 11);
        assert_eq!((masks.mark("K", "a").as_str(), masks.is_empty()), ("[REDACTED_K_1]", false));
    }

    #[test]
    fn nothing_of_a_value_is_printed() {
        let masks = masks(&[("EMAIL", "xyzzy"), ("SSN", "plugh")]);
        let printed = format!("{masks:?} {:#?} {:?}", masks, masks.read("[REDACTED_EMAIL_1]"));
        assert!(!printed.contains("xyzzy") && !printed.contains("plugh") && printed.contains("values: 2"), "{printed}");
    }
}

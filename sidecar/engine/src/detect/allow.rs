//! Values that stay, whatever kind they are: exact ones, and those that fit a text with `*` in it.
//!
//! The invariant: a value is judged as a whole, as it was found. So it makes no difference in which pieces it came, nor in which disguise.

use memchr::memmem::Finder;

/// Texts in which `*` stands for any characters, also for none.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Box<[Entry]>);

/// The parts between the stars, of which there is at least one.
#[derive(Clone, Debug)]
enum Entry {
    Exact(Box<[u8]>),
    Parts { first: Box<[u8]>, between: Box<[Finder<'static>]>, last: Box<[u8]> },
}

impl Entry {
    fn new(text: &str) -> Self {
        let mut parts = text.split('*').map(str::as_bytes);
        let first = parts.next().unwrap_or_default().into();
        let Some(last) = parts.next_back() else { return Self::Exact(first) };
        let between = parts.filter(|part| !part.is_empty()).map(|part| Finder::new(part).into_owned()).collect();
        Self::Parts { first, between, last: last.into() }
    }

    /// Each part is looked for behind the one before it, where it stands first: so a byte is looked at once.
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *value,
            Self::Parts { first, between, last } => {
                let Some(mut rest) = value.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else { return false };
                between.iter().all(|part| match part.find(rest) {
                    Some(place) => {
                        rest = &rest[place + part.needle().len()..];
                        true
                    }
                    None => false,
                })
            }
        }
    }
}

impl Allowed {
    /// Entries that allow nothing are the policy's business.
    pub fn new<'e>(entries: impl IntoIterator<Item = &'e str>) -> Self {
        Self(entries.into_iter().map(Entry::new).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, value: &[u8]) -> bool {
        self.0.iter().any(|entry| entry.fits(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_characters_and_all_else_for_itself() {
        let fits = |entry: &str, value: &str| Allowed::new([entry]).has(value.as_bytes());
        assert!(
            fits("a@example.com", "a@example.com") && !fits("a@example.com", "a@example.com.") && !fits("a@example.com", "A@example.com")
        );
        assert!(fits("*@example.com", "x@example.com") && fits("*@example.com", "@example.com") && !fits("*@example.com", "x@example.org"));
        assert!(fits("10.*", "10.1.2.3") && !fits("10.*", "110.1.2.3"));
        assert!(fits("a*b*c", "abc") && fits("a*b*c", "axbxbxc") && !fits("a*b*c", "acb"));
        // What the beginning took the end can't take again.
        assert!(!fits("ab*bc", "abc") && fits("ab*bc", "abbc") && fits("a**b", "ab"));
        assert!(!Allowed::default().has(b"") && Allowed::default().is_empty());
    }

    #[test]
    fn many_stars_cost_no_more_than_the_value_is_long() {
        let entry = format!("{}b", "a*".repeat(127));
        assert!(!Allowed::new([entry.as_str()]).has("a".repeat(16 * 1024).as_bytes()));
    }

    proptest! {
        #[test]
        fn entries_are_read_as_regular_expressions_would_be(entry in "[ab*]{0,8}", value in "[ab]{0,10}") {
            let expression = regex::Regex::new(&format!("^{}$", entry.replace('*', ".*"))).unwrap();
            prop_assert_eq!(Allowed::new([entry.as_str()]).has(value.as_bytes()), expression.is_match(&value));
        }
    }
}

//! The kinds of values that are known: their names and marks, by a number.

use std::fmt;
use std::sync::LazyLock;

use super::pack;
use super::rule::Rule;

/// A kind of secret or of personal data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(u16);

/// What kinds are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Keys, tokens, passwords: of a topic.
    Secrets(&'static str),
    /// What tells of a person.
    PersonalData,
}

struct Known {
    name: &'static str,
    about: &'static str,
    key: String,
    mark: String,
    group: Group,
    rules: &'static [Rule],
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let known = |name: &'static str, about, group, rules| Known {
        name,
        about,
        key: camel_case(name),
        mark: format!("[REDACTED_{name}]"),
        group,
        rules,
    };
    let mut all: Vec<Known> = Vec::new();
    for (topic, table) in pack::SECRETS {
        all.extend(table.iter().map(|spec| known(spec.name, spec.about, Group::Secrets(topic), spec.rules)));
    }
    all.extend(pack::PERSONAL.iter().map(|spec| known(spec.name, spec.about, Group::PersonalData, spec.rules)));
    for (name, about) in pack::BESIDE.iter().chain(super::personal::NUMBER_KINDS) {
        // Some numbers are found by rules as well.
        if !all.iter().any(|kind| kind.name == *name) {
            all.push(known(name, about, Group::PersonalData, &[]));
        }
    }
    all
});

fn camel_case(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else {
            key.push(if upper { c } else { c.to_ascii_lowercase() });
            upper = false;
        }
    }
    key
}

impl Kind {
    /// A value of a pattern that the policy brought.
    pub const CUSTOM: Self = Self(u16::MAX);

    /// Every kind of the pack.
    pub fn all() -> impl Iterator<Item = Self> {
        // (The pack is a constant; a test counts it.)
        (0..u16::try_from(KNOWN.len()).unwrap_or(u16::MAX)).map(Self)
    }

    /// The kind of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// The kind of a policy's key.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        Self::all().find(|kind| kind.key() == key)
    }

    fn known(self) -> Option<&'static Known> {
        KNOWN.get(usize::from(self.0))
    }

    /// The name in metrics, logs and marks.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.known().map_or("CUSTOM", |known| known.name)
    }

    /// The name in a policy.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.known().map_or("custom", |known| &known.key)
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.known().map_or("a value of a pattern of the policy's own", |known| known.about)
    }

    /// The group to which it belongs.
    #[must_use]
    pub fn group(self) -> Group {
        self.known().map_or(Group::Secrets("custom"), |known| known.group)
    }

    /// What stands in the place of a value.
    #[must_use]
    pub fn mark(self) -> &'static str {
        self.known().map_or("[REDACTED]", |known| &known.mark)
    }

    pub(super) fn rules(self) -> &'static [Rule] {
        self.known().map_or(&[], |known| known.rules)
    }

    /// Its place among all kinds.
    pub(super) fn number(self) -> usize {
        self.0.into()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_name_and_a_key_of_its_own() {
        let kinds: Vec<Kind> = Kind::all().collect();
        for names in [kinds.iter().map(|kind| kind.name()).collect::<BTreeSet<_>>(), kinds.iter().map(|kind| kind.key()).collect()] {
            assert_eq!(names.len(), kinds.len());
        }
        for kind in kinds {
            assert!(kind.name().bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'), "{kind:?}");
            assert!(!kind.about().is_empty(), "{kind:?}");
            assert_eq!((Kind::of_name(kind.name()), Kind::of_key(kind.key())), (Some(kind), Some(kind)));
        }
    }
}

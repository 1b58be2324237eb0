//! The kinds of values that are known: their names and marks, by a number.
//!
//! The invariant: a name's number never changes while the process lives. Names that policies bring are kept, up to [`MAX_OWN`] of them, so
//! that memory is bounded however often policies change; whatever comes beyond is called [`Kind::CUSTOM`].

use std::borrow::Cow;
use std::fmt;
use std::sync::{LazyLock, OnceLock};

use super::rule::{Ends, Rule};
use super::{pack, pattern, personal};

/// The most names of the policies' own.
const MAX_OWN: usize = 1024;

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

impl Group {
    /// Every group, in the order of the kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        pack::SECRETS.iter().map(|(topic, _)| Self::Secrets(topic)).chain([Self::PersonalData])
    }

    /// The name in a policy.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Secrets(topic) => topic,
            Self::PersonalData => "personalData",
        }
    }

    /// What stands in it, in a few words.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Secrets(topic) => pack::TOPICS.iter().find(|(name, _)| *name == topic).map_or("", |(_, about)| about),
            Self::PersonalData => "What tells of a person, or of their accounts and devices",
        }
    }

    /// The kinds that belong to it.
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::all().filter(move |kind| kind.group() == self)
    }
}

struct Known {
    name: Cow<'static, str>,
    about: String,
    key: String,
    mark: String,
    group: Group,
    rules: &'static [Rule<'static>],
}

impl Known {
    fn new(name: Cow<'static, str>, about: &str, group: Group, rules: &'static [Rule<'static>]) -> Self {
        let (about, key, mark) = (capital(about), camel_case(&name), format!("[REDACTED_{name}]"));
        Self { name, about, key, mark, group, rules }
    }
}

/// What a value is of a pattern that a policy brought.
const ABOUT_OWN: &str = "a value of a pattern of the policy's own";
const GROUP_OF_OWN: Group = Group::Secrets("custom");

/// The kinds of the policies' own, in the order in which they came.
static OWN: [OnceLock<Known>; MAX_OWN] = [const { OnceLock::new() }; MAX_OWN];

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let known = |name, about, group, rules| Known::new(Cow::Borrowed(name), about, group, rules);
    let mut all: Vec<Known> = Vec::new();
    for (topic, table) in pack::SECRETS {
        all.extend(table.iter().map(|spec| known(spec.name, spec.about, Group::Secrets(topic), spec.rules)));
    }
    all.extend(pack::PERSONAL.iter().map(|spec| known(spec.name, spec.about, Group::PersonalData, spec.rules)));
    for (name, about) in pack::BESIDE.iter().chain(personal::NUMBER_KINDS) {
        // Some numbers are found by rules as well.
        if !all.iter().any(|kind| kind.name == *name) {
            all.push(known(name, about, Group::PersonalData, &[]));
        }
    }
    all
});

/// As a sentence begins: some tables of the pack begin so, some don't.
fn capital(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// The name that belongs to a key: `EMPLOYEE_NUMBER` of `employeeNumber`.
fn name_of(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 8);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

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
    /// A value of a pattern that a policy brought, where there are too many names of such.
    pub const CUSTOM: Self = Self(u16::MAX);

    /// Every kind of the pack.
    pub fn all() -> impl Iterator<Item = Self> {
        // (The pack is a constant; a test counts it.)
        (0..u16::try_from(KNOWN.len()).unwrap_or(u16::MAX)).map(Self)
    }

    /// The kind of a name, of the pack's or of a policy's own.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::each().find(|kind| kind.name() == name)
    }

    /// The kind of a policy's own, by its key there, which is none of the pack's: letters, the first a small one, and digits.
    #[must_use]
    pub fn of_own(key: &str) -> Self {
        let name = name_of(key);
        let new = || Known::new(Cow::Owned(name.clone()), ABOUT_OWN, GROUP_OF_OWN, &[]);
        let place = OWN.iter().position(|own| own.get_or_init(new).name == name);
        place.and_then(|place| u16::try_from(KNOWN.len() + place).ok()).map_or(Self::CUSTOM, Self)
    }

    /// Every kind of the pack, and of the policies' own.
    pub(super) fn each() -> impl Iterator<Item = Self> {
        let count = KNOWN.len() + OWN.iter().take_while(|own| own.get().is_some()).count();
        (0..u16::try_from(count).unwrap_or(u16::MAX)).map(Self).chain([Self::CUSTOM])
    }

    /// The kind of a policy's key.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        Self::all().find(|kind| kind.key() == key)
    }

    fn known(self) -> Option<&'static Known> {
        let number = usize::from(self.0);
        KNOWN.get(number).or_else(|| OWN.get(number.checked_sub(KNOWN.len())?)?.get())
    }

    /// The name in metrics, logs and marks.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.known().map_or("CUSTOM", |known| &known.name)
    }

    /// The name in a policy.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.known().map_or("custom", |known| &known.key)
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.known().map_or(ABOUT_OWN, |known| &known.about)
    }

    /// The group to which it belongs.
    #[must_use]
    pub fn group(self) -> Group {
        self.known().map_or(GROUP_OF_OWN, |known| known.group)
    }

    /// What stands in the place of a value.
    #[must_use]
    pub fn mark(self) -> &'static str {
        self.known().map_or("[REDACTED_CUSTOM]", |known| &known.mark)
    }

    /// How many bytes a text may have at most that is open yet: that has begun as a value of this kind, and may still turn out to be none. A
    /// stream holds back no more than that for its sake. None: it is open as long as it goes on.
    ///
    /// What has become a value by then may go on, where it takes in what follows without a gap ([`super::rule::Ends::Run`]).
    #[must_use]
    pub fn longest(self) -> Option<usize> {
        let is_in = |table: &[(&str, &str)]| table.iter().any(|(name, _)| *name == self.name());
        let beside = match (is_in(pack::BESIDE), is_in(personal::NUMBER_KINDS)) {
            (true, _) => None,
            (false, true) => Some(personal::LONGEST_RUN),
            (false, false) => Some(0),
        };
        let longest = self.rules().iter().map(longest_of).chain([beside]).try_fold(0, |longest, rule| Some(longest.max(rule?)));
        longest.filter(|longest| *longest > 0)
    }

    pub(super) fn rules(self) -> &'static [Rule<'static>] {
        self.known().map_or(&[], |known| known.rules)
    }

    /// Its place among all kinds.
    pub(super) fn number(self) -> usize {
        self.0.into()
    }
}

/// The same of a rule.
fn longest_of(rule: &Rule<'_>) -> Option<usize> {
    let is_judged_whole = rule.check.is_some() || rule.entropy > 0.0;
    let of_row = |row: &Vec<pattern::Run>| {
        let (last, before) = row.split_last()?;
        let end = match (rule.ends, is_judged_whole) {
            // As much as there must be is a value, whatever follows.
            (Ends::Run | Ends::Pattern, false) => Some(last.min),
            // What it takes in is judged, too.
            (Ends::Run, true) => None,
            (Ends::Word, _) | (Ends::Pattern, true) => last.max,
        };
        before.iter().map(|run| run.max).chain([end]).try_fold(0, |sum, length| Some(sum + length? as usize))
    };
    pattern::rows(rule.pattern).ok()?.iter().map(of_row).try_fold(0, |longest, row| Some(longest.max(row?)))
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

    #[test]
    fn a_kind_of_a_policys_own_has_a_name_a_mark_and_a_number_for_good() {
        let kind = Kind::of_own("employeeNumber");
        assert_eq!((kind.name(), kind.key(), kind.mark()), ("EMPLOYEE_NUMBER", "employeeNumber", "[REDACTED_EMPLOYEE_NUMBER]"));
        assert_eq!((Kind::of_own("employeeNumber"), Kind::of_name("EMPLOYEE_NUMBER")), (kind, Some(kind)));
        // No other policy can name it.
        assert_eq!((Kind::of_key("employeeNumber"), Kind::all().find(|other| *other == kind)), (None, None));
        assert_eq!(Kind::of_own("a1B2c").name(), "A1_B2C");
    }
}

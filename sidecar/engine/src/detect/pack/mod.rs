//! The pack: every kind of secret that is known here, as data, a file a topic.
//!
//! The facts (prefixes, lengths, alphabets) are those of the providers' documentation, and of what gitleaks and detect-secrets look for;
//! `tests/gitleaks` holds the pack against gitleaks's own cases. The invariant: a rule finds what the provider gives out, and no word
//! of prose or source code. So what has a form of its own is found anywhere, and what is only letters and digits where a name says
//! what it is.

mod ai;
mod checks;
mod cloud;
mod code;
mod databases;
mod generic;
mod keys;
mod messaging;
mod monitoring;
mod payment;
mod personal;
mod saas;

use std::ops::Range;

use super::rule::{ASSIGNED, Ends, KindSpec, Rule, Starts, TOKEN};
pub(crate) use personal::PERSONAL;

/// Every kind of secret, by topic. The more special ones come first: of two that find the same text, the first gives its name.
pub const SECRETS: &[(&str, &[KindSpec])] = &[
    ("keys", keys::KINDS),
    ("ai", ai::KINDS),
    ("cloud", cloud::KINDS),
    ("code", code::KINDS),
    ("databases", databases::KINDS),
    ("messaging", messaging::KINDS),
    ("monitoring", monitoring::KINDS),
    ("payment", payment::KINDS),
    ("saas", saas::KINDS),
    ("generic", generic::KINDS),
];

/// What stands in each topic, in a few words.
pub(crate) const TOPICS: &[(&str, &str)] = &[
    ("keys", "Private keys, and the tokens of open standards"),
    ("ai", "Services that run models, and those around them"),
    ("cloud", "Clouds, hosts, networks, and what keeps their secrets"),
    ("code", "Forges, package registries, build services, developers' tools"),
    ("databases", "Databases and queues: connection strings and keys"),
    ("messaging", "Chats, mail, telephony, notifications"),
    ("monitoring", "Metrics, traces, logs, errors, alerts, analytics"),
    ("payment", "Payments, banks, shops, shipping, exchanges"),
    ("saas", "Everything else that gives out keys"),
    ("generic", "Secrets of nobody in particular, known by where they stand"),
];

/// Kinds of personal data that are found beside the rules, each with what it is.
pub(crate) const BESIDE: &[(&str, &str)] = &[
    ("EMAIL", "An e-mail address (RFC 5321, ASCII)"),
    ("IP_ADDRESS", "An address of the Internet Protocol, version 4 or 6"),
    ("MAC_ADDRESS", "A hardware address (EUI-48)"),
];

/// What stands in the place of a value in examples.
const PLACEHOLDERS: &[&str] = &["xxxxxxxx", "example", "placeholder", "redacted", "your_", "your-", "changeme"];

const fn kind(name: &'static str, about: &'static str, rules: &'static [Rule]) -> KindSpec {
    KindSpec { name, about, rules }
}

/// A form that nothing else has, found behind and before anything.
const fn token(pattern: &'static str) -> Rule<'static> {
    Rule { pattern, not: PLACEHOLDERS, ..TOKEN }
}

/// A form that other text may have by chance in the middle of a word.
const fn word(pattern: &'static str) -> Rule<'static> {
    Rule { starts: Starts::Word, ..token(pattern) }
}

/// A form that is one by its length, too.
const fn exact(pattern: &'static str) -> Rule<'static> {
    Rule { ends: Ends::Word, ..word(pattern) }
}

/// A value of no form of its own, told by the name that it is assigned to.
const fn assigned(assigned_to: &'static [&'static str], pattern: &'static str) -> Rule<'static> {
    Rule { pattern, assigned_to, not: PLACEHOLDERS, ..ASSIGNED }
}

impl Rule<'_> {
    const fn entropy(self, entropy: f32) -> Self {
        Self { entropy, ..self }
    }

    const fn check(self, check: fn(&[u8]) -> Option<Range<usize>>) -> Self {
        Self { check: Some(check), ..self }
    }

    const fn without(self, not: &'static [&'static str]) -> Self {
        Self { not, ..self }
    }

    const fn near(self, near: &'static [&'static str]) -> Self {
        Self { near, ..self }
    }

    /// It ends where its pattern does, whatever follows.
    const fn whole(self) -> Self {
        Self { ends: Ends::Pattern, ..self }
    }
}

/// The names under which a service's credentials are kept: for values that are too short to be told by the service's name alone.
macro_rules! names {
    ($($service:literal),+) => {
        &[$(
            concat!($service, "token"), concat!($service, "_token"), concat!($service, "-token"),
            concat!($service, "key"), concat!($service, "_key"), concat!($service, "-key"),
            concat!($service, "api"), concat!($service, "_api"), concat!($service, "-api"),
            concat!($service, "secret"), concat!($service, "_secret"), concat!($service, "-secret"),
            concat!($service, "client"), concat!($service, "_client"), concat!($service, "-client"),
            concat!($service, "access"), concat!($service, "_access"), concat!($service, "-access")
        ),+]
    };
}
use names;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> impl Iterator<Item = &'static KindSpec> {
        SECRETS.iter().flat_map(|(_, kinds)| kinds.iter())
    }

    #[test]
    fn kinds_have_names_of_their_own_and_something_to_say() {
        let mut names = BTreeSet::new();
        for KindSpec { name, about, rules } in all() {
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'), "{name}");
            assert!(!about.is_empty() && !about.ends_with('.') && !rules.is_empty(), "{name}");
        }
        assert!(names.len() >= 400, "{} kinds", names.len());
    }

    #[test]
    fn every_topic_says_what_stands_in_it() {
        assert!(SECRETS.iter().map(|(topic, _)| topic).eq(TOPICS.iter().map(|(topic, _)| topic)));
    }

    #[test]
    fn patterns_are_regular_expressions_over_bytes() {
        for KindSpec { name, rules, .. } in all() {
            for rule in *rules {
                let built = regex::bytes::RegexBuilder::new(rule.pattern).unicode(false).build();
                assert!(built.is_ok(), "{name}: {:?}", built.err());
                for text in rule.assigned_to.iter().chain(rule.near).chain(rule.not) {
                    assert!(!text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}: {text}");
                }
            }
        }
    }
}

//! The matcher's promises: what it finds is the same whatever the pieces, and is what a second, plain reading of the rules finds.

use proptest::prelude::*;

use super::attempt::entropy;
use super::words::NEAR;
use super::*;
use crate::detect::compiled::{Beside, is_word_byte};
use crate::detect::rule::{ASSIGNED, Ends, Rule, TOKEN};

/// Rules of every form there is.
const RULES: &[Rule] = &[
    Rule { pattern: "tok_[a-z0-9]{4,}", ..TOKEN },
    Rule { pattern: "tok_x[0-9]{3}", ends: Ends::Word, ..TOKEN },
    Rule { pattern: "key-[a-z]{2,4}-[0-9]{2}", ends: Ends::Pattern, ..TOKEN },
    Rule { pattern: "[A-Z]{2}[0-9]{3}", starts: Starts::Word, ends: Ends::Word, ..TOKEN },
    Rule { pattern: "(?i)sig:[a-f]{3,}", starts: Starts::Word, ends: Ends::Pattern, ..TOKEN },
    Rule { pattern: "a=[a-z]+;b=[a-z]+", ends: Ends::Pattern, ..TOKEN },
    Rule { pattern: "no-[a-z-]{3,}", entropy: 1.5, not: &["abc"], ..TOKEN },
    Rule { pattern: "[0-9]{2}z{1,3}", near: &["pin"], starts: Starts::Word, ..TOKEN },
];

fn kind(number: usize) -> Kind {
    Kind::all().nth(number).unwrap_or(Kind::CUSTOM)
}

fn rules() -> &'static Rules {
    static ALL: std::sync::LazyLock<Rules> =
        std::sync::LazyLock::new(|| Rules::new(RULES.iter().map(|rule| (kind(0), rule)), Beside::default()).unwrap());
    &ALL
}

fn found(rules: &Rules, pieces: &[&[u8]]) -> Vec<Range<usize>> {
    let wanted = Wanted::new(&Kind::all().collect::<Vec<_>>());
    let allowed = Allowed::default();
    let asked = Asked { rules, wanted: &wanted, numbers: false, emails: false, addresses: false, allowed: &allowed };
    let mut matcher = Matcher::default();
    let mut text = Vec::new();
    for piece in pieces {
        text.extend_from_slice(piece);
        matcher.read(asked, Window { bytes: &text, base: 0 });
    }
    matcher.end(asked, Window { bytes: &text, base: 0 });
    matcher.places().as_slice().iter().map(|place| place.start..place.end).collect()
}

/// The same, by a regular expression library asked at every place of the whole text.
fn oracle(text: &[u8]) -> Vec<Range<usize>> {
    static PATTERNS: std::sync::LazyLock<Vec<regex::bytes::Regex>> = std::sync::LazyLock::new(|| {
        RULES.iter().map(|rule| regex::bytes::Regex::new(&format!("^(?s-u:{})", rule.pattern)).unwrap()).collect()
    });
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for start in 0..text.len() {
        for (rule, pattern) in RULES.iter().zip(PATTERNS.iter()) {
            if rule.starts == Starts::Word && start > 0 && is_name(text[start - 1]) {
                continue;
            }
            // A word of its own, that is: not in the middle of another.
            let near = |word: &&str| {
                let ends = (start.saturating_sub(NEAR)..=start).filter(|end| *end >= word.len());
                let mut ends = ends.filter(|end| text[end - word.len()..*end].eq_ignore_ascii_case(word.as_bytes()));
                ends.any(|end| {
                    let before = (end - word.len()).checked_sub(1).map(|place| text[place]);
                    !before.is_some_and(|byte| byte.is_ascii_alphanumeric()) && !text.get(end).is_some_and(u8::is_ascii_lowercase)
                })
            };
            if !rule.near.is_empty() && !rule.near.iter().any(near) {
                continue;
            }
            let Some(matched) = pattern.find(&text[start..]) else { continue };
            let mut end = start + matched.end();
            match rule.ends {
                Ends::Run => end += text[end..].iter().take_while(|byte| is_word_byte(**byte)).count(),
                Ends::Word if text.get(end).is_some_and(|byte| is_word_byte(*byte)) => continue,
                Ends::Pattern | Ends::Word => {}
            }
            let value = &text[start..end];
            // The one rule that asks for these has a least length of six.
            let first = &value[..value.len().min(6)];
            let holds = |word: &&str| first.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
            if entropy(value).max(entropy(first)) >= rule.entropy && !rule.not.iter().any(holds) {
                ranges.push(start..end);
            }
        }
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "tok_", "tok_x", "123", "12", "abcd", "key-", "abc-12", "AB", "AB123", "sig:", "SIG:", "abc", "fade", "a=", ";b=", "xy", "no-",
        "-", "_", " ", "pin", "PIN ", "42zz", "42z", "é", "\n", "z", "9", ".",
    ]);
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]

    #[test]
    fn what_is_found_is_what_a_plain_reading_finds(text in text()) {
        prop_assert_eq!(found(rules(), &[text.as_bytes()]), oracle(text.as_bytes()), "{}", text);
    }

    #[test]
    fn pieces_make_no_difference(text in text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
        ends.sort_unstable();
        let pieces: Vec<&[u8]> = ends.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(found(rules(), &pieces), found(rules(), &[text.as_bytes()]));
    }
}

#[test]
fn only_what_is_assigned_to_the_name_is_found() {
    const ASSIGNED_RULES: &[Rule] = &[Rule { pattern: "[a-z0-9]{8}", assigned_to: &["acme"], ..ASSIGNED }];
    let rules = Rules::new(ASSIGNED_RULES.iter().map(|rule| (kind(0), rule)), Beside::default()).unwrap();
    for (before, after) in [
        ("acme = ", ""),
        ("ACME_TOKEN=", "\n"),
        ("\"acme_key\": \"", "\","),
        ("acme.api-key := '", "'"),
        ("acme secret => ", " "),
        ("setAcmeKey(\"", "\")"),
        ("{\\\"acme\\\":\\\"", "\\\"}"),
        ("acme==", ";"),
    ] {
        let text = format!("x {before}k3y4acme{after}");
        let value = 2 + before.len()..10 + before.len();
        assert_eq!(found(&rules, &[text.as_bytes()]), vec![value.clone()], "{text}");
        for cut in 0..text.len() {
            assert_eq!(found(&rules, &[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]), vec![value.clone()], "{text} {cut}");
        }
    }
    for text in
        ["acme k3y4acme", "acm = k3y4acme", "acme = k3y4acme9", "acme is what we all like best of them = k3y4acme", "acme; x = k3y4acme"]
    {
        assert!(found(&rules, &[text.as_bytes()]).is_empty(), "{text}");
    }
}

//! Finds secrets and personal data in text that arrives in pieces, and puts `[REDACTED_KIND]` in their place.
//!
//! The invariant: whatever the pieces, what comes out is the same, joined. Text is held back only while it may still be part of a
//! match, and never more than [`HOLD_LIMIT`] of it.
//!
//! # How
//!
//! A scan looks for the first byte at which a rule could begin. From there each such rule's automaton runs, byte by byte. When all
//! have died, the longest match among them counts: it is replaced, and the scan goes on behind it; without one, the scan goes on
//! one character further. So the result is the leftmost-longest one, and what must be held is exactly what stands between
//! the place where the automata began and the end of what has arrived. Each rule's automaton is small, since what comes before and
//! after a match is checked by a table rather than by the automaton.
//!
//! A rule whose automaton has run for `HOLD_LIMIT` bytes without an end counts as matched, and so does all that follows without a
//! break: text of that kind in such an amount is no prose, and what can't be judged doesn't pass.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::util::syntax;
use regex_automata::{Anchored, MatchKind};

/// The most bytes that are held back while it is open whether they are part of a match.
pub const HOLD_LIMIT: usize = 16 * 1024;

/// A kind of secret or personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An access token of Hugging Face.
    HuggingfaceToken,
    /// An API key of OpenAI, or of a service that took over its form.
    OpenaiKey,
    /// The id of an AWS access key.
    AwsAccessKey,
    /// A personal access token of GitHub.
    GithubToken,
    /// An OAuth access token of GitHub.
    GithubOauth,
    /// A JSON Web Token (RFC 7519), signed or encrypted.
    JwtToken,
    /// An e-mail address (RFC 5321, ASCII).
    Email,
    /// A United States social security number.
    Ssn,
    /// A payment card's number of sixteen digits (ISO/IEC 7812) whose check digit is right.
    CreditCard,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::HuggingfaceToken,
        Self::OpenaiKey,
        Self::AwsAccessKey,
        Self::GithubToken,
        Self::GithubOauth,
        Self::JwtToken,
        Self::Email,
        Self::Ssn,
        Self::CreditCard,
    ];

    /// The name in metrics, logs and marks.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HuggingfaceToken => "HUGGINGFACE_TOKEN",
            Self::OpenaiKey => "OPENAI_KEY",
            Self::AwsAccessKey => "AWS_ACCESS_KEY",
            Self::GithubToken => "GITHUB_TOKEN",
            Self::GithubOauth => "GITHUB_OAUTH",
            Self::JwtToken => "JWT_TOKEN",
            Self::Email => "EMAIL",
            Self::Ssn => "SSN",
            Self::CreditCard => "CREDIT_CARD",
        }
    }

    /// What stands in the place of a value.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::HuggingfaceToken => "[REDACTED_HUGGINGFACE_TOKEN]",
            Self::OpenaiKey => "[REDACTED_OPENAI_KEY]",
            Self::AwsAccessKey => "[REDACTED_AWS_ACCESS_KEY]",
            Self::GithubToken => "[REDACTED_GITHUB_TOKEN]",
            Self::GithubOauth => "[REDACTED_GITHUB_OAUTH]",
            Self::JwtToken => "[REDACTED_JWT_TOKEN]",
            Self::Email => "[REDACTED_EMAIL]",
            Self::Ssn => "[REDACTED_SSN]",
            Self::CreditCard => "[REDACTED_CREDIT_CARD]",
        }
    }

    /// How the kind is found: by any of these.
    ///
    /// A token of a form that nothing else has is found wherever it stands. Behind a letter, too: `\n`, `%20` and the like end in one
    /// where a model quotes source code or an address. It reaches to the end of the word, so that what follows without a gap is gone too.
    fn rules(self) -> Vec<Rule> {
        const NEVER: ByteTest = |_| false;
        let plain = Rule { pattern: "", not_after: |byte| byte.is_ascii_alphanumeric(), not_before: NEVER, check: None, one_chance: None };
        let token = |pattern| Rule { pattern, not_after: NEVER, ..plain };
        match self {
            Self::HuggingfaceToken => vec![token("hf_[A-Za-z0-9]{30,}[A-Za-z0-9_-]*")],
            Self::OpenaiKey => vec![
                Rule { pattern: "sk-[A-Za-z0-9_-]{20,}", ..plain },
                // Behind a letter, as in `risk-…`, it takes more than hyphenated words: a run that is longer than any.
                Rule { one_chance: Some(b"sk-"), ..token("sk-[A-Za-z0-9_-]*[A-Za-z0-9]{24}[A-Za-z0-9_-]*") },
            ],
            Self::AwsAccessKey => vec![token("AKIA[0-9A-Z]{16,}[A-Za-z0-9_-]*")],
            Self::GithubToken => vec![token("ghp_[A-Za-z0-9]{36,}[A-Za-z0-9_-]*")],
            Self::GithubOauth => vec![token("gho_[A-Za-z0-9]{36,}[A-Za-z0-9_-]*")],
            // Three parts (JWS), up to five (JWE); the last of an unsigned one is empty. Behind a letter (`keyJoin.a.b`) both of the first
            // two have to begin as JSON does.
            Self::JwtToken => vec![
                Rule {
                    pattern: r"eyJ[A-Za-z0-9_-]+\.(?:eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)(?:\.[A-Za-z0-9_-]+){0,2}",
                    one_chance: Some(b"eyJ"),
                    ..plain
                },
                Rule {
                    one_chance: Some(b"eyJ"),
                    ..token(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2}")
                },
            ],
            Self::Email => vec![Rule { pattern: r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,127}@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}", ..plain }],
            // The dashes are U+2010 to U+2015 and U+2212 as well, which models like to write.
            Self::Ssn => vec![Rule {
                pattern: r"[0-9]{3}(?:-|\xE2\x80[\x90-\x95]|\xE2\x88\x92)[0-9]{2}(?:-|\xE2\x80[\x90-\x95]|\xE2\x88\x92)[0-9]{4}",
                not_after: |byte| byte.is_ascii_digit(),
                not_before: |byte| byte.is_ascii_digit(),
                ..plain
            }],
            // The same, and the spaces U+00A0, U+2000 to U+200B and U+202F. Part of a longer number, or of a digest in hex, is no card.
            Self::CreditCard => vec![Rule {
                pattern: r"(?:[0-9]{4}(?:[-\t\n\r ]|\xC2\xA0|\xE2\x80[\x80-\x8B\x90-\x95\xAF]|\xE2\x88\x92)?){3}[0-9]{4}",
                not_after: |byte| byte.is_ascii_hexdigit(),
                not_before: |byte| byte.is_ascii_hexdigit(),
                check: Some(has_right_check_digit),
                ..plain
            }],
        }
    }
}

type ByteTest = fn(u8) -> bool;

/// One way in which a kind is found.
#[derive(Clone, Copy)]
struct Rule {
    /// What it looks like: a regular expression over bytes.
    pattern: &'static str,
    /// Bytes right before which it can't stand.
    not_after: ByteTest,
    /// Bytes that can't follow it.
    not_before: ByteTest,
    /// What must hold of the bytes besides.
    check: Option<fn(&[u8]) -> bool>,
    /// How it begins; where it began so and failed, it fails at each later byte of the same run of base64url.
    one_chance: Option<&'static [u8]>,
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// What goes on without a break where a match has run over the limit.
const fn is_unbroken(byte: u8) -> bool {
    is_base64url(byte) || matches!(byte, b'.' | b'%' | b'+' | b'@')
}

/// ISO/IEC 7812-1, annex B (Luhn).
fn has_right_check_digit(bytes: &[u8]) -> bool {
    let digits = bytes.iter().rev().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

struct CompiledRule {
    kind: Kind,
    rule: Rule,
    automaton: dense::DFA<Vec<u32>>,
    start: StateID,
}

/// Every rule. They are the same for every policy, and compiled once.
static COMPILED: LazyLock<Vec<Arc<CompiledRule>>> = LazyLock::new(|| {
    let compiled = |kind: Kind| kind.rules().into_iter().map(move |rule| Arc::new(CompiledRule::new(kind, rule)));
    Kind::ALL.into_iter().flat_map(compiled).collect()
});

/// The rules of some kinds, ready to scan with.
pub struct SecretRules {
    rules: Vec<Arc<CompiledRule>>,
    /// For each byte, the rules that can begin with it, as bits.
    beginning: [u16; 256],
}

impl std::fmt::Debug for SecretRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|rule| rule.kind)).finish()
    }
}

impl SecretRules {
    /// The rules of `kinds`.
    #[must_use]
    pub fn new(kinds: &[Kind]) -> Self {
        let mut beginning = [0; 256];
        let rules: Vec<Arc<CompiledRule>> = COMPILED.iter().filter(|rule| kinds.contains(&rule.kind)).map(Arc::clone).collect();
        for (number, rule) in rules.iter().enumerate() {
            for byte in 0..=255u8 {
                let state = rule.automaton.next_state(rule.start, byte);
                if !rule.automaton.is_dead_state(state) {
                    beginning[usize::from(byte)] |= 1 << number;
                }
            }
        }
        Self { rules, beginning }
    }

    /// Where values stand in a text that is there as a whole: their kinds and their bytes, in order.
    #[must_use]
    pub fn find(self: &Arc<Self>, text: &str) -> Vec<(Kind, Range<usize>)> {
        let mut scanner = Scanner::new(Arc::clone(self));
        scanner.places = Some(Vec::new());
        let mut scrap = String::with_capacity(text.len());
        scanner.push(text, &mut scrap, &mut |_| {});
        scanner.finish(&mut scrap, &mut |_| {});
        scanner.places.unwrap_or_default()
    }

    /// Redacts a text that is there as a whole. Calls `found` for each value.
    #[must_use]
    pub fn redact(self: &Arc<Self>, text: &str, found: &mut dyn FnMut(Kind)) -> String {
        let mut out = String::with_capacity(text.len());
        let mut scanner = Scanner::new(Arc::clone(self));
        scanner.push(text, &mut out, found);
        scanner.finish(&mut out, found);
        out
    }

    /// Whether a text holds nothing to redact. Costs no allocation for the usual one.
    #[must_use]
    pub fn is_clean(self: &Arc<Self>, text: &str) -> bool {
        let mut clean = true;
        if text.bytes().any(|byte| self.beginning[usize::from(byte)] != 0) {
            let _ = self.redact(text, &mut |_| clean = false);
        }
        clean
    }
}

impl CompiledRule {
    fn new(kind: Kind, rule: Rule) -> Self {
        let automaton = dense::Builder::new()
            .configure(dense::Config::new().match_kind(MatchKind::All).start_kind(StartKind::Anchored).minimize(false))
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(regex_automata::nfa::thompson::Config::new().utf8(false))
            .build(rule.pattern)
            .expect("the patterns are constants, and a test compiles each");
        let start =
            automaton.start_state(&start::Config::new().anchored(Anchored::Yes)).expect("an anchored automaton has an anchored start");
        Self { kind, rule, automaton, start }
    }
}

/// Text that is on its way through the rules.
#[derive(Clone, Debug)]
pub struct Scanner {
    rules: Arc<SecretRules>,
    /// What has arrived and not been given out.
    held: String,
    /// The byte before `held`.
    before: Option<u8>,
    attempt: Option<Attempt>,
    /// A match over the limit goes on here: its kind.
    swallowing: Option<Kind>,
    /// Up to which place of `held` a rule can't begin any more, by rule.
    no_chance_before: Vec<usize>,
    /// How much of `held` was given out all the same, since the text paused.
    released: usize,
    torn: bool,
    /// How much of the text stood before `held`.
    passed: usize,
    /// Where the values stood, for those who want to know.
    places: Option<Vec<(Kind, Range<usize>)>>,
}

/// The automata that began at one place.
#[derive(Clone, Debug)]
struct Attempt {
    /// The place in `held`.
    start: usize,
    /// The next byte that they get.
    next: usize,
    /// Those that go on: the rule and its automaton's state.
    alive: Vec<(u8, StateID)>,
    /// The rules that began, as bits.
    begun: u16,
    /// The longest match so far: the rule and where it ends.
    longest: Option<(u8, usize)>,
}

impl Scanner {
    /// A scanner at the beginning of a text.
    #[must_use]
    pub fn new(rules: Arc<SecretRules>) -> Self {
        let no_chance_before = vec![0; rules.rules.len()];
        Self {
            rules,
            held: String::new(),
            before: None,
            attempt: None,
            swallowing: None,
            no_chance_before,
            released: 0,
            torn: false,
            passed: 0,
            places: None,
        }
    }

    /// Takes the next piece, gives out what is sure, and calls `found` for each value that was replaced.
    pub fn push(&mut self, piece: &str, out: &mut String, found: &mut dyn FnMut(Kind)) {
        self.held.push_str(piece);
        self.scan(false, out, found);
    }

    /// Ends the text and gives out the rest. The scanner stands at the beginning of another text then.
    pub fn finish(&mut self, out: &mut String, found: &mut dyn FnMut(Kind)) {
        self.scan(true, out, found);
        self.before = None;
    }

    /// The text pauses, and another goes on: gives out what is held back, if it holds nothing as it stands: what would be given out if
    /// the text ended here. Should it go on and turn that into part of a value, the scanner is torn, so that the value's rest stays.
    pub fn pause(&mut self, out: &mut String) {
        if !self.holds_a_value() {
            self.release(out);
        }
    }

    /// A part of the text ends, which was given out as it reads by itself. Should the next part turn its end into part of a value, the
    /// scanner is torn.
    pub fn end_part(&mut self) {
        if self.holds_a_value() {
            self.finish(&mut String::new(), &mut |_| {});
        } else {
            self.release(&mut String::new());
        }
    }

    /// How many bytes at the end of the text were not given out.
    #[must_use]
    pub fn unsure(&self) -> usize {
        self.held.len() - self.released
    }

    /// Whether there would be a value in what is held back, if the text ended here.
    fn holds_a_value(&self) -> bool {
        let mut holds_a_value = false;
        if self.released < self.held.len() {
            self.clone().finish(&mut String::new(), &mut |_| holds_a_value = true);
        }
        holds_a_value
    }

    fn release(&mut self, out: &mut String) {
        out.push_str(&self.held[self.released..]);
        self.released = self.held.len();
    }

    /// Part of a value was given out before it could be known for one. What follows must not be.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn scan(&mut self, at_end: bool, out: &mut String, found: &mut dyn FnMut(Kind)) {
        let rules = Arc::clone(&self.rules);
        // Everything before `given` has been given out or replaced.
        let mut given = self.released;
        let mut place = self.attempt.as_ref().map_or(0, |attempt| attempt.start);
        loop {
            if let Some(kind) = self.swallowing {
                let rest = &self.held.as_bytes()[given..];
                let end = rest.iter().position(|byte| !is_unbroken(*byte));
                let Some(end) = end.or(at_end.then_some(rest.len())) else {
                    given = self.held.len();
                    place = given;
                    break;
                };
                given += end;
                place = given;
                if let Some((_, place)) = self.places.iter_mut().flatten().last() {
                    place.end = self.passed + given;
                }
                self.swallowing = None;
                out.push_str(kind.mark());
                found(kind);
                continue;
            }
            let Some(mut attempt) = self.attempt.take().or_else(|| self.begin(&rules, place)) else {
                place = self.held.len();
                break;
            };
            attempt.run(&rules, self.held.as_bytes(), at_end);
            if attempt.next - attempt.start >= HOLD_LIMIT && !attempt.alive.is_empty() {
                let rule = attempt.longest.map_or(attempt.alive[0].0, |(rule, _)| rule);
                self.give(given, attempt.start, out);
                given = attempt.next;
                let kind = rules.rules[usize::from(rule)].kind;
                self.note(kind, attempt.start..given);
                self.swallowing = Some(kind);
                continue;
            }
            if !attempt.alive.is_empty() {
                // Open: hold from here.
                place = attempt.start;
                self.attempt = Some(attempt);
                break;
            }
            if let Some((rule, end)) = attempt.longest {
                let kind = rules.rules[usize::from(rule)].kind;
                self.give(given, attempt.start, out);
                self.note(kind, attempt.start..end);
                out.push_str(kind.mark());
                found(kind);
                given = end;
                place = end;
            } else {
                self.remember_failure(&rules, &attempt);
                place = attempt.start + 1;
            }
        }
        let keep_from = if at_end { self.held.len() } else { place };
        if keep_from > given {
            out.push_str(&self.held[given..keep_from]);
        }
        // What was released and is held still, since a value may begin in it, is not given out again.
        let keep_from = if given > self.released { keep_from.max(given) } else { keep_from };
        if keep_from > 0 {
            self.released = self.released.saturating_sub(keep_from);
            self.before = self.held.as_bytes().get(keep_from - 1).copied();
            self.held.drain(..keep_from);
            self.passed += keep_from;
            if let Some(attempt) = &mut self.attempt {
                attempt.move_back(keep_from);
            }
            for place in &mut self.no_chance_before {
                *place = place.saturating_sub(keep_from);
            }
        }
    }

    fn note(&mut self, kind: Kind, place: Range<usize>) {
        if let Some(places) = &mut self.places {
            places.push((kind, self.passed + place.start..self.passed + place.end));
        }
    }

    /// Gives out what stands before a value.
    fn give(&mut self, given: usize, start: usize, out: &mut String) {
        self.torn |= start < self.released;
        out.push_str(self.held.get(given..start).unwrap_or_default());
    }

    /// The first place from `place` on where a rule can begin.
    fn begin(&self, rules: &SecretRules, place: usize) -> Option<Attempt> {
        let bytes = self.held.as_bytes();
        for (offset, byte) in bytes[place..].iter().enumerate() {
            let mut candidates = rules.beginning[usize::from(*byte)];
            if candidates == 0 {
                continue;
            }
            let start = place + offset;
            let before = if start == 0 { self.before } else { Some(bytes[start - 1]) };
            let mut attempt: Option<Attempt> = None;
            while candidates != 0 {
                let number = candidates.trailing_zeros() as usize;
                candidates &= candidates - 1;
                let rule = &rules.rules[number];
                if before.is_some_and(rule.rule.not_after) || start < self.no_chance_before[number] {
                    continue;
                }
                let attempt = attempt.get_or_insert_with(|| Attempt { start, next: start, alive: Vec::new(), begun: 0, longest: None });
                attempt.begun |= 1 << number;
                attempt.alive.push((u8::try_from(number).unwrap_or(u8::MAX), rule.start));
            }
            if attempt.is_some() {
                return attempt;
            }
        }
        None
    }

    fn remember_failure(&mut self, rules: &SecretRules, attempt: &Attempt) {
        let bytes = &self.held.as_bytes()[attempt.start..];
        for (number, rule) in rules.rules.iter().enumerate() {
            if attempt.begun & (1 << number) != 0 && rule.rule.one_chance.is_some_and(|beginning| bytes.starts_with(beginning)) {
                // Only as far as the attempt looked: what lies beyond may not have arrived.
                let looked = (attempt.next - attempt.start).min(bytes.len());
                let run = bytes[..looked].iter().position(|byte| !is_base64url(*byte)).unwrap_or(looked);
                self.no_chance_before[number] = attempt.start + run;
            }
        }
    }
}

impl Attempt {
    /// Feeds the automata what has arrived, until all have died or the limit is reached.
    fn run(&mut self, rules: &SecretRules, bytes: &[u8], at_end: bool) {
        let stop = bytes.len().min(self.start + HOLD_LIMIT);
        while self.next < stop && !self.alive.is_empty() {
            let byte = bytes[self.next];
            let (start, next) = (self.start, self.next);
            let longest = &mut self.longest;
            self.alive.retain_mut(|(number, state)| {
                let rule = &rules.rules[usize::from(*number)];
                *state = rule.automaton.next_state(*state, byte);
                // Automata tell of a match one byte late, which is when it can be seen what follows.
                if rule.automaton.is_match_state(*state) {
                    note_match(longest, rule, *number, &bytes[start..next], next, Some(byte));
                }
                !rule.automaton.is_dead_state(*state)
            });
            self.next += 1;
        }
        if at_end && self.next == bytes.len() {
            let (start, next) = (self.start, self.next);
            for (number, state) in std::mem::take(&mut self.alive) {
                let rule = &rules.rules[usize::from(number)];
                if rule.automaton.is_match_state(rule.automaton.next_eoi_state(state)) {
                    note_match(&mut self.longest, rule, number, &bytes[start..next], next, None);
                }
            }
        }
    }

    fn move_back(&mut self, by: usize) {
        self.start -= by;
        self.next -= by;
        if let Some((_, end)) = &mut self.longest {
            *end -= by;
        }
    }
}

fn note_match(longest: &mut Option<(u8, usize)>, rule: &CompiledRule, number: u8, matched: &[u8], end: usize, follows: Option<u8>) {
    let longer = longest.is_none_or(|(_, earlier)| end > earlier);
    if longer && !follows.is_some_and(rule.rule.not_before) && rule.rule.check.is_none_or(|check| check(matched)) {
        *longest = Some((number, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Arc<SecretRules> {
        static ALL: std::sync::LazyLock<Arc<SecretRules>> = std::sync::LazyLock::new(|| Arc::new(SecretRules::new(&Kind::ALL)));
        Arc::clone(&ALL)
    }

    fn in_pieces(rules: &Arc<SecretRules>, pieces: &[&str]) -> (String, Vec<Kind>) {
        let (mut out, mut kinds) = (String::new(), Vec::new());
        let mut scanner = Scanner::new(Arc::clone(rules));
        for piece in pieces {
            scanner.push(piece, &mut out, &mut |kind| kinds.push(kind));
        }
        scanner.finish(&mut out, &mut |kind| kinds.push(kind));
        (out, kinds)
    }

    fn redacted(text: &str) -> String {
        in_pieces(&all(), &[text]).0
    }

    proptest! {
        #[test]
        fn where_values_stand_is_what_is_redacted(before in "[ a-zé]{0,20}", after in "[ a-zé]{0,20}", kinds in prop::collection::vec(0..Kind::ALL.len(), 0..4), long in 0..3000usize) {
            let values: Vec<String> = kinds.iter().map(|kind| sample(Kind::ALL[*kind])).collect();
            let jwt = sample(Kind::JwtToken) + &"a".repeat(long);
            let text = format!("{before} {} {jwt} {after}", values.join(" and "));
            let mut rebuilt = text.clone();
            for (kind, place) in all().find(&text).into_iter().rev() {
                rebuilt.replace_range(place, kind.mark());
            }
            prop_assert_eq!(rebuilt, redacted(&text));
        }
    }

    /// Made-up values of each kind, built from parts.
    pub(crate) fn sample(kind: Kind) -> String {
        let letters = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY";
        match kind {
            Kind::HuggingfaceToken => format!("hf{}{}{}", "_", letters, "z1"),
            Kind::OpenaiKey => format!("sk{}{}{}", "-", letters, "abcdefghijklmnop"),
            Kind::AwsAccessKey => format!("AK{}{}", "IA", "QWERTY1234567890"),
            Kind::GithubToken => format!("gh{}{}{}", "p_", letters, "abcd1234"),
            Kind::GithubOauth => format!("gh{}{}{}", "o_", letters, "abcd1234"),
            Kind::JwtToken => format!("ey{}.ey{}.{}", "JhbGciOiJIUzI1NiJ9", "JzdWIiOiJub2JvZHkifQ", "c2lnbmF0dXJl-x_y"),
            Kind::Email => format!("nobody.at.all{}{}", "@", "mail.example.org"),
            Kind::Ssn => ["078", "05", "1120"].join("-"),
            Kind::CreditCard => ["4111", "1111", "1111", "1111"].join(" "),
        }
    }

    #[test]
    fn each_kind_is_found_alone_in_prose_and_in_quotes() {
        for kind in Kind::ALL {
            let value = sample(kind);
            for (before, after) in
                [("", ""), ("the value is ", ", take care"), ("\"", "\""), ("key=", "\n"), ("é", "é"), ("(", ")."), (":", ";")]
            {
                let text = format!("{before}{value}{after}");
                assert_eq!(redacted(&text), format!("{before}{}{after}", kind.mark()), "{kind:?} {before:?} {after:?}");
            }
        }
    }

    #[test]
    fn what_only_looks_alike_stays() {
        for text in [
            "risk-management-and-compliance-team-lead",
            "task-force-of-the-northern-region-2024",
            "hf_short sk-short AKIA123 ghp_x gho_y eyJust a word eyJ.eyJ. a.b.c",
            "me@home, @everyone, a@b, user@host:/path",
            "4111 1111 1111 1112 and 1234567890123456",
            "1078-05-1120 and 078-05-11201 and 2024-05-11",
            "94111111111111111",
            "version 1.2.3-4, 10:30:45, 192.168.0.1",
            "keyJoin.left.right and task-internationalization",
            "sha256:a4111111111111111f0 4111111111111111a",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    #[test]
    fn a_value_longer_than_its_kind_asks_for_leaves_no_rest() {
        for kind in [Kind::HuggingfaceToken, Kind::OpenaiKey, Kind::AwsAccessKey, Kind::GithubToken, Kind::GithubOauth, Kind::JwtToken] {
            let long = format!("{}{}", sample(kind), "A7".repeat(40));
            assert_eq!(redacted(&format!("x {long} y")), format!("x {} y", kind.mark()));
        }
    }

    #[test]
    fn a_word_that_begins_alike_hides_no_jwt() {
        let jwt = sample(Kind::JwtToken);
        for before in ["e-", "env_", "everyone-e_", "x-e"] {
            assert_eq!(redacted(&format!(" {before}{jwt} ")), format!(" {before}[REDACTED_JWT_TOKEN] "));
        }
    }

    #[test]
    fn values_stand_side_by_side() {
        let (card, ssn, email) = (sample(Kind::CreditCard), sample(Kind::Ssn), sample(Kind::Email));
        assert_eq!(redacted(&format!("{card},{ssn};{email}")), "[REDACTED_CREDIT_CARD],[REDACTED_SSN];[REDACTED_EMAIL]");
        let (out, kinds) = in_pieces(&all(), &[&format!("{email} {email}")]);
        assert_eq!((out.as_str(), kinds.len()), ("[REDACTED_EMAIL] [REDACTED_EMAIL]", 2));
    }

    #[test]
    fn the_longer_reading_wins() {
        let key = sample(Kind::OpenaiKey);
        assert_eq!(redacted(&format!("{key}@mail.example.org.")), "[REDACTED_EMAIL].");
    }

    #[test]
    fn a_card_is_found_with_any_separator() {
        for separator in ["", " ", "-", "\n"] {
            assert_eq!(redacted(&["5555", "5555", "5555", "4444"].join(separator)), "[REDACTED_CREDIT_CARD]");
        }
    }

    #[test]
    fn a_jwt_is_found_whatever_its_size_and_form() {
        let header = concat!("ey", "JhbGciOiJub25lIn0");
        assert_eq!(redacted(&format!("a {header}.{}{}. b", "ey", "JzdWIiOiJ4In0")), "a [REDACTED_JWT_TOKEN] b");
        assert_eq!(redacted(&format!("a {header}.a.b.c.d b")), "a [REDACTED_JWT_TOKEN] b");
        for size in [1_000, HOLD_LIMIT - 10, HOLD_LIMIT, HOLD_LIMIT + 10, 10 * HOLD_LIMIT] {
            let text = format!("a {header}.{}.{} b", "x7-_".repeat(size / 4), "s".repeat(40));
            assert_eq!(redacted(&text), "a [REDACTED_JWT_TOKEN] b", "{size}");
            let bytes: Vec<&str> = text.as_bytes().chunks(7).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
            assert_eq!(in_pieces(&all(), &bytes).0, "a [REDACTED_JWT_TOKEN] b", "{size} in pieces");
        }
    }

    #[test]
    fn a_pause_gives_out_what_is_no_value_and_notices_when_it_becomes_one() {
        let rules = all();
        let (value, mut out) = (sample(Kind::OpenaiKey), String::new());
        let mut scanner = Scanner::new(Arc::clone(&rules));
        scanner.push("I think so.", &mut out, &mut |_| {});
        assert_eq!(out, "I think ");
        scanner.pause(&mut out);
        assert_eq!(out, "I think so.");
        scanner.push(" And ", &mut out, &mut |_| {});
        scanner.push(&value[..9], &mut out, &mut |_| {});
        scanner.pause(&mut out);
        assert_eq!((out.as_str(), scanner.is_torn()), (format!("I think so. And {}", &value[..9]).as_str(), false));
        scanner.push(&value[9..], &mut out, &mut |_| {});
        scanner.finish(&mut out, &mut |_| {});
        assert!(scanner.is_torn());
        // A value that is whole stays.
        let (mut scanner, mut out) = (Scanner::new(rules), String::new());
        scanner.push(&value, &mut out, &mut |_| {});
        scanner.pause(&mut out);
        assert_eq!(out, "");
    }

    #[test]
    fn what_is_held_back_is_bounded_and_prose_is_not_held_back() {
        let rules = all();
        let mut scanner = Scanner::new(Arc::clone(&rules));
        let mut out = String::new();
        for _ in 0..200_000 {
            scanner.push("eyJa", &mut out, &mut |_| {});
            assert!(scanner.held() <= HOLD_LIMIT);
        }
        let mut scanner = Scanner::new(rules);
        let mut out = String::new();
        scanner.push("Hello, world. ", &mut out, &mut |_| {});
        assert_eq!(out, "Hello, world. ");
        scanner.push("Grüße", &mut out, &mut |_| {});
        assert_eq!(out, "Hello, world. Grüß");
    }

    #[test]
    fn text_made_to_hurt_costs_a_bounded_amount() {
        let rules = all();
        for unit in ["eyJ-", "a.", "a@a.", "1.", "sk-", "1111 ", "eyJa.", "hf_a", "xsk-", "xeyJ-.", "aeyJ-"] {
            let text = unit.repeat(200_000 / unit.len());
            // Quadratic work would be 10^10 steps.
            assert!(in_pieces(&rules, &[&text]).0.len() <= text.len());
        }
    }

    /// The same language, said a second time by a general regular expression library on the whole text.
    fn oracle(text: &str) -> String {
        static RULES: std::sync::LazyLock<Vec<(Kind, Rule, regex::bytes::Regex)>> = std::sync::LazyLock::new(|| {
            let compile = |(kind, rule): (Kind, Rule)| {
                let regex = regex::bytes::Regex::new(&format!("^(?s-u:{})", rule.pattern)).unwrap();
                (kind, rule, regex)
            };
            Kind::ALL.into_iter().flat_map(|kind| kind.rules().into_iter().map(move |rule| (kind, rule))).map(compile).collect()
        });
        let bytes = text.as_bytes();
        let (mut out, mut place) = (String::new(), 0);
        while place < bytes.len() {
            let mut best: Option<(usize, Kind)> = None;
            for (kind, rule, regex) in RULES.iter() {
                if place > 0 && (rule.not_after)(bytes[place - 1]) {
                    continue;
                }
                let Some(found) = regex.find(&bytes[place..]) else { continue };
                let end = place + found.end();
                let follows = bytes.get(end).is_some_and(|byte| (rule.not_before)(*byte));
                if !follows && rule.check.is_none_or(|check| check(&bytes[place..end])) && best.is_none_or(|(longest, _)| end > longest) {
                    best = Some((end, *kind));
                }
            }
            if let Some((end, kind)) = best {
                out.push_str(kind.mark());
                place = end;
            } else {
                let c = text[place..].chars().next().unwrap();
                out.push(c);
                place += c.len_utf8();
            }
        }
        out
    }

    fn mostly_secret_text() -> impl Strategy<Value = String> {
        let value = (0..Kind::ALL.len()).prop_map(|number| sample(Kind::ALL[number]));
        let cut = (value.clone(), any::<prop::sample::Index>()).prop_map(|(value, index)| {
            let end = index.index(value.len() + 1);
            value[..end].to_owned()
        });
        let noise = prop::sample::select(vec![
            " ", ".", "-", "_", "@", "eyJ", "sk-", "hf_", "AKIA", "a", "7", "é", "\u{200b}", "\n", "the word", "1111", "a.b", "😀", "\"",
            "ghp_", "x@y.",
        ])
        .prop_map(str::to_owned);
        prop::collection::vec(prop_oneof![2 => value, 2 => cut, 4 => noise], 0..12).prop_map(|parts| parts.concat())
    }

    fn split<'t>(text: &'t str, cuts: &[prop::sample::Index]) -> Vec<&'t str> {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|end| text.is_char_boundary(*end)).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_text_that_pauses_says_the_same_or_is_torn(text in mostly_secret_text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let (rules, mut out) = (all(), String::new());
            let mut scanner = Scanner::new(Arc::clone(&rules));
            for piece in split(&text, &cuts) {
                scanner.push(piece, &mut out, &mut |_| {});
                scanner.pause(&mut out);
            }
            scanner.finish(&mut out, &mut |_| {});
            prop_assert!(scanner.is_torn() || out == in_pieces(&rules, &[&text]).0, "{out}");
        }

        #[test]
        fn streamed_equals_unstreamed(text in mostly_secret_text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
            let rules = all();
            prop_assert_eq!(in_pieces(&rules, &split(&text, &cuts)), in_pieces(&rules, &[&text]));
        }

        #[test]
        fn the_scan_says_what_a_regular_expression_library_says(text in mostly_secret_text()) {
            prop_assert_eq!(redacted(&text), oracle(&text));
        }
    }

    #[test]
    fn every_kind_streamed_in_every_pair_of_splits_equals_unstreamed() {
        let rules = all();
        for kind in Kind::ALL {
            let text = format!("so: {} (é)", sample(kind));
            let whole = in_pieces(&rules, &[&text]);
            let places: Vec<usize> = (0..=text.len()).filter(|place| text.is_char_boundary(*place)).collect();
            for (number, first) in places.iter().enumerate() {
                for second in &places[number..] {
                    let pieces = [&text[..*first], &text[*first..*second], &text[*second..]];
                    assert_eq!(in_pieces(&rules, &pieces), whole, "{kind:?} {first} {second}");
                }
            }
            let singly: Vec<String> = text.chars().map(String::from).collect();
            let singly: Vec<&str> = singly.iter().map(String::as_str).collect();
            assert_eq!(in_pieces(&rules, &singly), whole, "{kind:?} one by one");
        }
    }
}

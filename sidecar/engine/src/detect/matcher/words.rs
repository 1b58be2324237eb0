//! What a word in a text means: a value begins with it, may be assigned to it, or may stand near it; an address has it in its middle.

use super::super::compiled::{Row, Use, is_local_byte};
use super::super::rule::Starts;
use super::attempt::{Fate, What, begun, settle};
use super::{Asked, LOOK_BACK, MAX_BEFORE, Matcher, Window, kind_of};

/// How far before a value a word may end that a rule wants near.
pub(super) const NEAR: usize = 48;
/// The most bytes of a name behind its part that a rule knows.
const NAME_REST: usize = 24;
/// The most quotes and blanks between a name and what assigns.
const BEFORE_SIGN: usize = 4;
/// The most quotes, commas and blanks between a name and the word that stands for it.
const BEFORE_VALUE_NAME: usize = 40;
/// The most quotes, blanks and signs between what assigns and the value.
const BEFORE_VALUE: u8 = 8;
/// The bytes of U+00A0, U+200B, and of quotation marks such as U+201C and U+201E.
const TYPOGRAPHIC: [u8; 9] = [0xC2, 0xA0, 0xE2, 0x80, 0x8B, 0x9C, 0x9E, 0x98, 0x99];
/// What stands before an argument's name and behind what it says: the record separator, which no text has.
pub(in super::super) const AROUND_ARGUMENT: u8 = 0x1E;
/// What stands between an argument's name and what it says.
pub(in super::super) const BEFORE_ARGUMENT: &str = "\": \"";
/// How names of arguments begin that say what is to be done about a password, and not which it is.
const WHETHER: &[&[u8]] = &[b"show", b"hide", b"forgot", b"reset", b"require", b"has_", b"is_", b"no_", b"without", b"enable", b"disable"];
/// The most bytes of an e-mail address before the `@`: twice what RFC 5321 (4.5.3.1.1) allows.
pub(super) const MAX_LOCAL: usize = 128;
/// The fewest bytes of a password in a URL.
const LEAST_PASSWORD: usize = 3;
/// The most digits of a group of an IPv6 address (RFC 4291, 2.2).
pub(super) const MAX_GROUP: usize = 4;
/// How many words are remembered: more than fit in what is looked back on.
const REMEMBERED: u8 = 16;

/// A word that was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) word: u16,
    pub(super) end: usize,
}

/// The last words that were seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    seen: [Seen; REMEMBERED as usize],
    next: u8,
    count: u8,
}

impl Memory {
    pub(super) fn note(&mut self, word: u16, end: usize) {
        self.seen[usize::from(self.next)] = Seen { word, end };
        self.next = (self.next + 1) % REMEMBERED;
        self.count = (self.count + 1).min(REMEMBERED);
    }

    /// The same, where only the last time counts that a word was seen.
    pub(super) fn note_last(&mut self, word: u16, end: usize) {
        match self.seen.iter_mut().take(self.count.into()).find(|seen| seen.word == word) {
            Some(seen) => seen.end = end,
            None => self.note(word, end),
        }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Seen> {
        self.seen.iter_mut().take(self.count.into())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().take(self.count.into())
    }
}

impl Matcher {
    /// Whether a row's kind is looked for, and the words stand before a place that it asks for.
    pub(super) fn is_wanted(&self, asked: Asked<'_>, row: &Row, window: Window<'_>, start: usize) -> bool {
        let rule = &asked.rules.compiled[usize::from(row.rule)];
        if !asked.wanted.has(rule.kind) {
            return false;
        }
        let is_word = |seen: &Seen| {
            !asked.rules.words[usize::from(seen.word)].is_alphanumeric || window.at(seen.end).is_none_or(|byte| !byte.is_ascii_lowercase())
        };
        let is_near = |seen: &Seen| seen.end <= start && start - seen.end <= NEAR && rule.near.contains(&seen.word) && is_word(seen);
        rule.near.is_empty() || start <= self.nears_until && self.nears.iter().any(is_near)
    }

    /// A sign that assigns: whether a name stands before it, and nothing else between.
    pub(super) fn expect(&mut self, window: Window<'_>, place: usize) {
        let quotes = window.run_before(place, BEFORE_SIGN, |byte| {
            byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'\\' | b'`' | b']' | b'?' | b'|' | b'*')
        });
        let rest = window.run_before(place - quotes, NAME_REST, is_name_byte);
        let since = place - quotes - rest;
        if self.names.iter().any(|seen| seen.end >= since) {
            self.expecting = BEFORE_VALUE;
            self.expected_since = since;
        }
    }

    /// A word stands for the name before it: `{"name": "DB_PASSWORD", "value": …}`, and the same in YAML, HCL and XML.
    fn stand_for_name(&mut self, window: Window<'_>, start: usize, end: usize) {
        let is_in_word = window.is_in_word(start);
        for seen in
            self.names.iter_mut().filter(|seen| !is_in_word && seen.end <= start && start - seen.end <= NAME_REST + BEFORE_VALUE_NAME)
        {
            let between = window.slice(seen.end..start);
            let rest = between.iter().take_while(|byte| is_name_byte(**byte) && !byte.is_ascii_whitespace()).count();
            let (rest, gap) = between.split_at(rest);
            let parts = |byte: &u8| matches!(byte, b'"' | b'\'' | b',' | b';' | b'\n');
            let fits = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'\\') || parts(byte);
            if rest.len() <= NAME_REST && gap.iter().any(parts) && gap.iter().all(fits) {
                seen.end = end;
                self.name_until = end + NAME_REST + BEFORE_SIGN;
            }
        }
    }

    /// The first byte of what is assigned to names; `only_quoted`: for rules that know a value by the quote before it.
    pub(super) fn begin_assigned(&mut self, asked: Asked<'_>, window: Window<'_>, place: usize, byte: u8, only_quoted: bool) {
        // No value begins within a character.
        if byte & 0xC0 == 0x80 {
            return;
        }
        // What is called with something else than a text is code.
        if place > 0 && window.at(place - 1) == Some(b'(') {
            return;
        }
        let rules = asked.rules;
        let since = self.expected_since;
        let names = self.names.clone();
        let words = || {
            let names = names.iter().filter(|seen| seen.end >= since && seen.end <= place);
            names.map(|seen| (&rules.words[usize::from(seen.word)], seen.end))
        };
        for (nth, (word, end)) in words().enumerate() {
            for number in &word.assigned {
                let row = &rules.rows[usize::from(*number)];
                // (Several names of one rule are parts of one name.)
                let starts = |name_end| match rules.compiled[usize::from(row.rule)].starts {
                    Starts::Anywhere | Starts::Word => !only_quoted,
                    // (In a string within a string another reading has the quote without its backslash.)
                    Starts::Behind(byte) => {
                        place > 0 && window.at(place - 1) == Some(byte) && (place == 1 || window.at(place - 2) != Some(b'\\'))
                    }
                    Starts::Argument => is_argument(window, name_end, place),
                };
                let is_begun = || words().take(nth).any(|(earlier, end)| earlier.assigned.contains(number) && starts(end));
                if !row.may_begin_with(byte, rules) || !starts(end) || !self.is_wanted(asked, row, window, place) || is_begun() {
                    continue;
                }
                let mut attempt = begun(What::Row(*number), 0, place, place);
                match settle(rules, &mut attempt, place, Some(byte)) {
                    Fate::GoesOn => self.keep(asked, attempt),
                    Fate::Ends => {}
                    Fate::Matches(end) => self.matched(asked, window, &attempt, end, Some(byte)),
                }
            }
        }
    }

    /// A word ends with the byte at a place.
    pub(super) fn word(&mut self, asked: Asked<'_>, window: Window<'_>, place: usize, number: u16) {
        let rules = asked.rules;
        let word = &rules.words[usize::from(number)];
        let start = place + 1 - usize::from(word.length);
        for (usage, letters) in &word.uses {
            if letters.as_ref().is_some_and(|letters| window.slice(start..place + 1) != &**letters) {
                continue;
            }
            match usage {
                Use::Name => {
                    self.names.note_last(number, place + 1);
                    self.name_until = place + 1 + NAME_REST + BEFORE_SIGN;
                }
                // In the middle of another word it is another word.
                Use::Near if start > 0 && word.is_alphanumeric && window.at(start - 1).is_some_and(|byte| byte.is_ascii_alphanumeric()) => {
                }
                Use::Near => {
                    self.nears.note(number, place + 1);
                    self.nears_until = place + 1 + NEAR;
                    if word.near_pairs != 0 {
                        self.near_until = place + 1 + NEAR + MAX_BEFORE;
                        self.near_pairs |= word.near_pairs;
                    }
                }
                Use::Begins(row_number) => {
                    let row = &rules.rows[usize::from(*row_number)];
                    if window.is_in_word(start) && rules.compiled[usize::from(row.rule)].starts == Starts::Word
                        || !self.is_wanted(asked, row, window, start)
                    {
                        continue;
                    }
                    let mut attempt = begun(What::Row(*row_number), 0, start, place + 1);
                    match settle(rules, &mut attempt, place + 1, None) {
                        Fate::GoesOn => self.keep(asked, attempt),
                        Fate::Ends => {}
                        Fate::Matches(end) => self.matched(asked, window, &attempt, end, None),
                    }
                }
                Use::At if asked.emails => {
                    let local = window.run_before(place, (MAX_LOCAL + 1).min(place - self.line), is_local_byte);
                    if (1..=MAX_LOCAL).contains(&local) && !is_password(asked, window, place) {
                        self.keep(asked, begun(What::Email, rules.domain_bit, place - local, place));
                    }
                }
                Use::At => {}
                Use::Value => self.stand_for_name(window, start, place + 1),
            }
        }
    }

    /// A colon: an address may have begun before it.
    pub(super) fn begin_address(&mut self, asked: Asked<'_>, window: Window<'_>, place: usize) {
        if self.running.iter().any(|attempt| attempt.what == What::Address) {
            return;
        }
        let mut start = place - window.run_before(place, MAX_GROUP + 1, |byte| byte.is_ascii_hexdigit());
        if start == place {
            // `::` at the beginning.
            let Some(before) = place.checked_sub(1).filter(|before| window.at(*before) == Some(b':')) else { return };
            start = before;
        }
        let is_in_word = start > 0 && window.at(start - 1).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
        if !is_in_word && place - start <= MAX_GROUP {
            self.keep(asked, begun(What::Address, asked.rules.hex_bit, start, place));
        }
    }
}

/// Whether an `@` ends the password of a URL (RFC 3986, 3.2.1), which is found by itself: so the host behind it makes no e-mail address.
fn is_password(asked: Asked<'_>, window: Window<'_>, place: usize) -> bool {
    let is_user = |byte: &u8| is_local_byte(*byte) || b"~!$&*;=|".contains(byte);
    let before = window.run_before(place, LOOK_BACK - 4, |byte| is_user(&byte) || b"^#?,:()".contains(&byte));
    let start = place - before;
    if start < 3 || window.slice(start - 2..start) != b"//" || window.at(start - 3) != Some(b':') {
        return false;
    }
    let read = window.slice(start..place);
    let user = read.iter().position(|byte| *byte == b':').unwrap_or(read.len());
    read.len() > user + LEAST_PASSWORD && read[..user].iter().all(is_user) && asked.wanted.has(kind_of("URL_PASSWORD"))
}

/// Whether what a call's argument says begins at a place, and its name ends at another: nothing else stands before that.
fn is_argument(window: Window<'_>, name_end: usize, place: usize) -> bool {
    if window.slice(name_end..place) != BEFORE_ARGUMENT.as_bytes() {
        return false;
    }
    let before = window.slice(window.base.max(name_end.saturating_sub(LOOK_BACK - BEFORE_ARGUMENT.len()))..name_end);
    let Some(begin) = before.iter().rposition(|byte| *byte == AROUND_ARGUMENT) else { return false };
    let name = &before[begin + 1..];
    let says_whether = |word: &&[u8]| name.len() > word.len() && name[..word.len()].eq_ignore_ascii_case(word);
    !name.windows(BEFORE_ARGUMENT.len()).any(|part| part == BEFORE_ARGUMENT.as_bytes()) && !WHETHER.iter().any(says_whether)
}

pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ' | b'\t' | b'.' | b'-')
}

pub(super) fn is_before_value(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'"' | b'\'' | b'`' | b'=' | b'\\' | b'(' | b'>' | b':' | b',' | b'*')
        || TYPOGRAPHIC.contains(&byte)
}

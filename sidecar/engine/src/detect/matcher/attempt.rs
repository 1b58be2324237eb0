//! One row of a rule, followed from one place on: whether the next byte goes on with it, ends it or makes it a match, and what of a match
//! is a value.

use std::ops::Range;

use super::super::compiled::{Compiled, Rules, Step, is_word_byte};
use super::super::kind::Kind;
use super::super::marks;
use super::super::rule::Ends;

/// What follows which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Row(u16),
    Numbers,
    Email,
    Address,
    /// A value of this kind, if no word goes on behind it.
    Value(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The next byte has to be the next step's.
    Step,
    /// In the run of a bit.
    Run,
    /// The pattern has ended, and no word byte may follow.
    Edge,
    /// The pattern has ended, and what follows without a gap belongs to it.
    Tail,
}

/// One row, from one place on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) what: What,
    pub(super) at: At,
    pub(super) step: u8,
    pub(super) bit: u8,
    /// No check is asked any more.
    pub(super) unchecked: bool,
    pub(super) start: usize,
    /// Where the run began. Of an e-mail address: where the `@` stands.
    pub(super) since: usize,
    /// Where the run is as long as it may be.
    pub(super) due: usize,
    /// Where the end of a line broke it: the first, or the one behind which it was whole; nought if none did.
    pub(super) broken_at: usize,
    /// It was whole there.
    pub(super) was_whole: bool,
}

pub(super) enum Fate {
    GoesOn,
    Ends,
    Matches(usize),
}

/// The fewest bytes of a value's rest on another line.
pub(super) const LEAST_REST: usize = 12;

/// Whether what stands on another line is a value's rest: it is long, of letters and digits, and is no name, time or number of its own.
pub(super) fn is_rest(first: &[u8], rest: &[u8], after: Option<u8>) -> bool {
    let is_name = || {
        rest.split(|byte| !byte.is_ascii_alphanumeric()).all(|word| {
            let letters = word.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let is_one_case = |fits: fn(&u8) -> bool| word[usize::from(letters > 0)..letters].iter().all(fits);
            word[letters..].iter().all(u8::is_ascii_digit) && (is_one_case(u8::is_ascii_lowercase) || is_one_case(u8::is_ascii_uppercase))
        })
    };
    rest.len() >= LEAST_REST
        && rest.iter().any(u8::is_ascii_digit)
        && rest.iter().any(u8::is_ascii_alphabetic)
        && !rest.contains(&b'(')
        && !matches!(after, Some(b'(' | b'=' | b':'))
        && !rest.split(|byte| *byte == b'=').nth(1).is_some_and(|value| value.first().is_some_and(u8::is_ascii_alphanumeric))
        && !is_name()
        && !is_hash_alone(first, rest)
}

/// Whether a hash, or a UUID, stands on another line behind what is neither.
pub(super) fn is_hash_alone(first: &[u8], rest: &[u8]) -> bool {
    let is_hex = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    is_hex(rest) && !is_hex(&first[first.len().saturating_sub(LEAST_REST)..])
}

pub(super) fn begun(what: What, bit: u8, start: usize, since: usize) -> Attempt {
    Attempt { what, at: At::Run, step: 0, bit, unchecked: false, start, since, due: usize::MAX, broken_at: 0, was_whole: false }
}

/// Which part of what a pattern matched is a value. `least` is how long a match is at least: of a longer one that may be anything, so
/// that nobody hides a value by adding an example's word to it, or the same byte again and again.
pub(in super::super) fn value(rule: &Compiled, text: &[u8], least: usize) -> Option<Range<usize>> {
    let range = rule.check.map_or(Some(0..text.len()), |check| check(text))?;
    let value = text.get(range.clone()).filter(|value| !marks::is_mark(value))?;
    let first = &value[..least.saturating_sub(range.start).min(value.len())];
    let holds = |word: &[u8]| first.windows(word.len().max(1)).any(|part| part.eq_ignore_ascii_case(word));
    let is_value = !rule.not.iter().any(|word| holds(word))
        && (rule.entropy <= 0.0 || entropy(value) >= rule.entropy || entropy(first) >= rule.entropy);
    is_value.then_some(range)
}

/// Shannon's entropy of a text's bytes, in bits a byte.
#[expect(clippy::cast_precision_loss, reason = "a value has less than 2^24 bytes")]
pub(super) fn entropy(text: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    for byte in text {
        counts[usize::from(*byte)] += 1;
    }
    let length = text.len() as f32;
    counts.iter().filter(|count| **count > 0).map(|count| *count as f32 / length).map(|share| -share * share.log2()).sum()
}

/// An attempt goes on with the byte at a place.
pub(super) fn feed(rules: &Rules, attempt: &mut Attempt, byte: u8, place: usize) -> Fate {
    let goes_on = rules.meanings[usize::from(byte)].goes_on >> attempt.bit & 1 != 0;
    match attempt.at {
        At::Step => settle(rules, attempt, place, Some(byte)),
        At::Edge if is_word_byte(byte) => Fate::Ends,
        At::Tail if goes_on => Fate::GoesOn,
        At::Edge | At::Tail => Fate::Matches(place),
        At::Run => {
            let What::Row(row) = attempt.what else {
                return if goes_on && place + 1 < attempt.due { Fate::GoesOn } else { Fate::Matches(place + usize::from(goes_on)) };
            };
            let Some(Step::Run { min, max, .. }) = rules.rows[usize::from(row)].steps.get(usize::from(attempt.step)) else {
                return Fate::Ends;
            };
            let count = place - attempt.since;
            if goes_on {
                if count + 1 < *max as usize {
                    return Fate::GoesOn;
                }
                attempt.step += 1;
                settle(rules, attempt, place + 1, None)
            } else if count < *min as usize {
                Fate::Ends
            } else {
                attempt.step += 1;
                settle(rules, attempt, place, Some(byte))
            }
        }
    }
}

/// An attempt takes up its next step at a place, with the byte there if it is known.
pub(super) fn settle(rules: &Rules, attempt: &mut Attempt, place: usize, byte: Option<u8>) -> Fate {
    let What::Row(row) = attempt.what else { return Fate::Ends };
    let row = &rules.rows[usize::from(row)];
    attempt.due = usize::MAX;
    match (row.steps.get(usize::from(attempt.step)), byte) {
        (Some(Step::Byte(_)), None) => attempt.at = At::Step,
        (Some(Step::Byte(set)), Some(byte)) if set.contains(byte) => {
            attempt.step += 1;
            return settle(rules, attempt, place + 1, None);
        }
        (Some(Step::Run { bit, max, .. }), byte) => {
            if byte.is_some_and(|byte| rules.meanings[usize::from(byte)].goes_on >> bit & 1 == 0) {
                return Fate::Ends;
            }
            (attempt.at, attempt.bit, attempt.since) = (At::Run, *bit, place);
            if *max != u32::MAX {
                attempt.due = place + *max as usize;
            }
            if byte.is_some() && *max == 1 {
                attempt.step += 1;
                return settle(rules, attempt, place + 1, None);
            }
        }
        (Some(Step::Byte(_)), Some(_)) => return Fate::Ends,
        (None, byte) => match (rules.compiled[usize::from(row.rule)].ends, byte) {
            (Ends::Pattern, _) => return Fate::Matches(place),
            (Ends::Word, None) => attempt.at = At::Edge,
            (Ends::Word, Some(byte)) => return if is_word_byte(byte) { Fate::Ends } else { Fate::Matches(place) },
            (Ends::Run, Some(byte)) if !is_word_byte(byte) => return Fate::Matches(place),
            (Ends::Run, _) => (attempt.at, attempt.bit, attempt.since) = (At::Tail, rules.tail_bit, place),
        },
    }
    Fate::GoesOn
}

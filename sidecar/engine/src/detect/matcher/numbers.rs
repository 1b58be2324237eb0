//! Stretches of digits and what separates them, in which [`personal::numbers`] finds values.

use super::super::compiled::{BENDS, BREAKS, Rules};
use super::super::personal;
use super::attempt::{At, Attempt, What, begun};
use super::{Asked, Matcher, Window, kind_of};

/// How often a stretch of digits and separators is looked at whether it has ended in separators.
pub(super) const NUMBERS_STEP: usize = 16;

/// Whether digits that begin at a place are known to be too few for any number, so that they needn't be followed. Where their end isn't
/// there yet, or may stand for something else, it isn't known.
pub(super) fn is_short(rules: &Rules, window: Window<'_>, start: usize) -> bool {
    let ahead = window.slice(start..(start + personal::SHORTEST_RUN).min(window.base + window.bytes.len()));
    let end = ahead.iter().map(|byte| &rules.meanings[usize::from(*byte)]).find(|meaning| {
        // (What may bend may stand for a digit, or for nothing.)
        meaning.goes_on >> rules.number_bit & 1 == 0 || meaning.second & (BENDS | BREAKS) != 0
    });
    end.is_some_and(|meaning| meaning.second & (BENDS | BREAKS) == 0)
}

impl Matcher {
    /// Judges digits and what separates them, from a place to another.
    pub(super) fn numbers(&mut self, asked: Asked<'_>, window: Window<'_>, start: usize, end: usize, after: Option<u8>) {
        let text = window.slice(start..end);
        let before = window.slice(window.base.max(start.saturating_sub(personal::CONTEXT))..start);
        // Underscores are Markdown's emphasis as well.
        let after = after.filter(|byte| *byte != b'_');
        let marks = before.iter().rev().take_while(|byte| **byte == b'_').count();
        let before = &before[..before.len() - marks];
        personal::numbers(text, before, after, &mut |name, range| {
            let kind = kind_of(name);
            // Behind a letter a number is part of a name, but where the letter ends an escape: then what is sure by itself counts.
            let is_in_word = range.start == 0 && before.last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            let may_follow = |byte: &u8| name == "SSN" && !byte.is_ascii_digit() || name == "CREDIT_CARD" && !byte.is_ascii_hexdigit();
            if !asked.wanted.has(kind) || is_in_word && !before.last().is_some_and(may_follow) {
                return;
            }
            let (from, to) = (start + range.start, start + range.end);
            if range.end > text.len() {
                // With the letter behind it, which no other follows.
                self.stepping.push(Attempt { at: At::Edge, ..begun(What::Value(kind), 0, from, from) });
            } else {
                self.note(asked, window, from, to, kind);
            }
        });
    }

    /// A stretch of digits and separators goes on: it ends where no digit has come for long, and where it is too long for one look another
    /// begins in it.
    pub(super) fn numbers_go_on(&mut self, asked: Asked<'_>, window: Window<'_>, mut attempt: Attempt, place: usize) {
        let read = window.slice(attempt.start..place + 1);
        let gap = read.iter().rev().take_while(|byte| !byte.is_ascii_digit()).count();
        if gap > personal::LONGEST_GAP {
            let end = place + 1 - gap;
            self.numbers(asked, window, attempt.start, end, window.at(end));
            return;
        }
        if read.len() > personal::LONGEST_RUN {
            // What begins in the second half belongs to the next look.
            let from = (personal::WINDOW_STEP..read.len()).find(|at| read[*at].is_ascii_digit() && !read[at - 1].is_ascii_digit());
            let next = attempt.start + from.unwrap_or(read.len());
            self.numbers(asked, window, attempt.start, place, window.at(place));
            if from.is_none() {
                return;
            }
            attempt.start = next;
        }
        attempt.due = place + 1 + NUMBERS_STEP;
        if read.len() <= personal::LONGEST_RUN {
            attempt.due = attempt.due.min(attempt.start + personal::LONGEST_RUN + 1);
        }
        self.keep(asked, attempt);
    }
}

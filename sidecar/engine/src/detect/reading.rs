//! Another reading of a text: what it says without the disguises in it. What is found there is told by its place in the text itself.
//!
//! The invariant: the reading depends on the text alone. It begins where the text first bends while something may have begun, with all that
//! had begun there; it ends far behind the last bend, once it says the same as the text itself.

use super::bend::{self, Bend};
use super::kind::Kind;
use super::matcher::{Asked, HOLD_LIMIT, LOOK_BACK, Matcher, Window};
use super::place::Place;
use super::search::counts;

/// How far behind the last bend both readings are the same, whatever stands there: nothing looks back further.
const FAR: usize = LOOK_BACK + 64;

/// From a place of the reading on it says what stands in the text from another place on.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: usize,
    /// Where the byte at `at` stands in the text.
    text: usize,
    /// Where the byte before it ends there.
    before: usize,
}

/// A reading of a text, as far as it has come.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    matcher: Matcher,
    said: Vec<u8>,
    /// The place of its first byte. (Places of the reading are those of the text, up to the first bend.)
    base: usize,
    turns: Vec<Turn>,
    /// What of the text comes next.
    cursor: usize,
    /// Where the text bent last.
    last: usize,
    /// From where on all is a value, since too much would have to be held back.
    swallowed: Option<(usize, Kind)>,
}

impl Reading {
    /// A reading that begins where the text may bend, with what has begun there.
    pub(super) fn fork(matcher: &Matcher, window: Window<'_>) -> Self {
        let at = matcher.next();
        Self {
            matcher: matcher.without_places(),
            said: window.bytes[..at - window.base].to_vec(),
            base: window.base,
            turns: Vec::new(),
            cursor: at,
            last: at,
            swallowed: None,
        }
    }

    /// Reads on as far as can be told.
    pub(super) fn read(&mut self, asked: Asked<'_>, window: Window<'_>, whole: bool) {
        while let Some(rest) = window.bytes.get(self.cursor - window.base..).filter(|rest| !rest.is_empty()) {
            let plain = rest.iter().position(|byte| bend::may_bend(*byte)).unwrap_or(rest.len());
            self.said.extend_from_slice(&rest[..plain]);
            self.cursor += plain;
            let rest = &rest[plain..];
            if rest.is_empty() {
                break;
            }
            self.follow(asked);
            match bend::at(rest, whole) {
                Bend::Open => break,
                bend if !counts(bend, &self.matcher, asked, Window { bytes: &self.said, base: self.base }) => {
                    self.said.push(rest[0]);
                    self.cursor += 1;
                }
                Bend::Plain => {}
                Bend::Nothing(length) | Bend::Mark(length) => self.turn(0, length),
                Bend::Byte(byte, length) | Bend::Gap(byte, length) => {
                    self.turn(0, 0);
                    self.said.push(byte);
                    self.turn(1, length);
                }
                Bend::Line(length) => {
                    self.matcher.end_line(asked, Window { bytes: &self.said, base: self.base });
                    self.turn(0, length);
                }
            }
        }
        self.follow(asked);
    }

    fn follow(&mut self, asked: Asked<'_>) {
        self.matcher.read(asked, Window { bytes: &self.said, base: self.base });
    }

    /// The next byte of the reading stands so many bytes further on in the text; the last took `of` bytes of them away.
    fn turn(&mut self, said: usize, length: usize) {
        let at = self.base + self.said.len();
        let before = if said > 0 { self.cursor + length } else { self.cursor };
        self.cursor += length;
        self.last = self.cursor;
        match self.turns.last_mut().filter(|turn| turn.at == at) {
            // What was passed over before goes with it.
            Some(turn) => turn.text = self.cursor,
            None => self.turns.push(Turn { at, text: self.cursor, before }),
        }
    }

    /// Where a byte of the reading begins in the text.
    fn start(&self, place: usize) -> usize {
        let turn = self.turns.iter().rev().find(|turn| turn.at <= place);
        turn.map_or(place, |turn| turn.text + (place - turn.at))
    }

    /// Where in the text ends what ends before a place of the reading.
    fn end(&self, place: usize) -> usize {
        match self.turns.iter().rev().find(|turn| turn.at <= place) {
            Some(turn) if turn.at == place => turn.before,
            Some(turn) => turn.text + (place - turn.at),
            None => place,
        }
    }

    /// Up to where it is sure what the reading says.
    pub(super) fn frontier(&self, asked: Asked<'_>) -> usize {
        if self.swallowed.is_some() {
            return self.last;
        }
        let place = self.matcher.frontier(asked, Window { bytes: &self.said, base: self.base });
        if place == self.matcher.next() { self.cursor } else { self.start(place) }
    }

    /// Sees to it that no more is held back than may be, at a place of the text. What has begun is a value then, and so is all up to the
    /// last bend, and as long as anything is under way. Says whether the reading is over.
    pub(super) fn bound(&mut self, asked: Asked<'_>, matcher: &Matcher) -> bool {
        if self.swallowed.is_some() {
            if !self.matcher.is_idle() {
                self.last = self.cursor;
            }
            return self.is_plain(matcher);
        }
        let sure = self.frontier(asked);
        if self.cursor - sure.min(self.cursor) <= HOLD_LIMIT {
            return false;
        }
        self.swallowed = self.matcher.oldest(asked.rules).map(|kind| (sure, kind));
        // (So far apart a few letters are no beginning.)
        self.swallowed.is_none()
    }

    /// Where what is swallowed began.
    pub(super) fn swallowing(&self) -> Option<usize> {
        self.swallowed.map(|(start, _)| start)
    }

    /// What was swallowed, up to a place, or to the last bend.
    pub(super) fn take_swallowed(&mut self, end: Option<usize>) -> Option<Place> {
        self.swallowed.take().map(|(start, kind)| Place::unchecked(start, end.unwrap_or(self.last), kind))
    }

    /// The text ends.
    pub(super) fn finish(&mut self, asked: Asked<'_>, window: Window<'_>) {
        self.read(asked, window, true);
        self.matcher.end(asked, Window { bytes: &self.said, base: self.base });
    }

    /// What was found, by its place in the text.
    pub(super) fn take_places(&mut self) -> Vec<Place> {
        let places = self.matcher.places().take();
        // (Where it is swallowed, what was passed over before is forgotten.)
        let first = self.swallowing().unwrap_or_default();
        places.into_iter().map(|place| place.moved(self.start(place.start).max(first), self.end(place.end).max(first))).collect()
    }

    /// Whether it says nothing that the text itself doesn't say, from here on, and nothing is swallowed.
    pub(super) fn is_over(&self, matcher: &Matcher) -> bool {
        self.swallowed.is_none() && self.is_plain(matcher)
    }

    fn is_plain(&self, matcher: &Matcher) -> bool {
        self.matcher.swallowing().is_none()
            && self.cursor == matcher.next()
            && self.cursor >= self.last + FAR
            && self.matcher.is_like(matcher)
    }

    /// Forgets what nobody needs any more.
    pub(super) fn forget(&mut self, asked: Asked<'_>) {
        let frontier = self.matcher.frontier(asked, Window { bytes: &self.said, base: self.base });
        let needed = frontier.min(self.matcher.next().saturating_sub(LOOK_BACK));
        let unneeded = needed.saturating_sub(self.base);
        if unneeded > 2 * LOOK_BACK {
            self.said.drain(..unneeded);
            self.base += unneeded;
            // The last turn before what is left tells where that stands.
            let first = self.turns.iter().rposition(|turn| turn.at <= self.base).unwrap_or(0);
            self.turns.drain(..first);
        }
    }

    /// How many bytes it has allocated.
    pub(super) fn allocated(&self) -> usize {
        self.matcher.allocated() + self.said.capacity() + self.turns.capacity() * size_of::<Turn>()
    }
}

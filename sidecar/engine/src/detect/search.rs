//! Looks for values in a text that arrives in pieces: in the text itself, in what it says without its disguises, and in what it encodes.
//!
//! The invariant: as a [`Matcher`], it is a function of the text's bytes. What is found before the frontier is final.

use super::bend::{self, Bend, LETTERS_BEFORE_BREAK};
use super::compiled::{is_local_byte, is_word_byte};
use super::encoded::Encoded;
use super::matcher::{Asked, Matcher, Window};
use super::place::Places;
use super::reading::Reading;

/// Where the search is.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    matcher: Matcher,
    reading: Option<Box<Reading>>,
    encoded: Encoded,
    places: Places,
}

impl Search {
    /// Reads what is there. `whole`: no more will come.
    #[inline]
    pub(super) fn read(&mut self, asked: Asked<'_>, window: Window<'_>, whole: bool) {
        let from = self.matcher.next();
        if self.reading.is_some() || self.matcher.read_to_bend(asked, window, from) {
            self.read_bent(asked, window, whole);
        }
        if self.encoded.has_more_to_read(window) {
            self.encoded.read(asked, window, &mut self.places);
        }
        if !self.matcher.places().as_slice().is_empty() {
            self.places.take_from(self.matcher.places());
        }
    }

    /// Reads on from a bend, or along with another reading.
    #[inline(never)]
    fn read_bent(&mut self, asked: Asked<'_>, window: Window<'_>, whole: bool) {
        while self.reading.is_none() {
            let place = self.matcher.next();
            let rest = &window.bytes[place - window.base..];
            match bend::at(&rest[..rest.len().min(MOST)], whole || rest.len() >= MOST) {
                // What it is has to be known first.
                Bend::Open => return,
                bend if counts(bend, &self.matcher, asked, window) => self.reading = Some(Box::new(Reading::fork(&self.matcher, window))),
                _ if self.matcher.read_to_bend(asked, window, place + 1) => {}
                _ => return,
            }
        }
        if let Some(reading) = &mut self.reading {
            self.matcher.read(asked, window);
            reading.read(asked, window, whole);
            for place in reading.take_places() {
                self.places.add(place);
            }
            if reading.is_over(&self.matcher) {
                self.reading = None;
            } else {
                reading.forget(asked);
            }
        }
    }

    /// The text ends.
    pub(super) fn end(&mut self, asked: Asked<'_>, window: Window<'_>) {
        self.read(asked, window, true);
        if let Some(mut reading) = self.reading.take() {
            reading.finish(asked, window);
            for place in reading.take_places() {
                self.places.add(place);
            }
        }
        self.encoded.end(asked, &mut self.places);
        self.matcher.end(asked, window);
        self.places.take_from(self.matcher.places());
    }

    /// Up to where it is sure where values stand.
    pub(super) fn frontier(&self, asked: Asked<'_>, window: Window<'_>) -> usize {
        let reading = self.reading.as_ref().map_or(usize::MAX, |reading| reading.frontier(asked));
        let sure = self.matcher.frontier(asked, window).min(reading);
        sure.min(self.encoded.frontier(asked, window, sure))
    }

    /// Where what is swallowed began.
    pub(super) fn swallowing(&self) -> Option<usize> {
        self.matcher.swallowing()
    }

    /// The places of values that were not dropped, in order.
    pub(super) fn places(&mut self) -> &mut Places {
        &mut self.places
    }

    /// Up to where the text was read.
    pub(super) fn next(&self) -> usize {
        self.matcher.next()
    }

    /// How many bytes it has allocated.
    pub(super) fn allocated(&self) -> usize {
        let reading = self.reading.as_deref().map_or(0, |reading| size_of::<Reading>() + reading.allocated());
        self.matcher.allocated() + self.places.allocated() + self.encoded.allocated() + reading
    }
}

/// Whether a bend may make another text of what has begun before it, or of what begins with it. It hangs on nothing but what may go on: so
/// a reading that says the same as the text takes the same for bends.
pub(super) fn counts(bend: Bend, matcher: &Matcher, asked: Asked<'_>, window: Window<'_>) -> bool {
    match bend {
        Bend::Open | Bend::Plain => false,
        Bend::Byte(byte, _) => {
            is_word_byte(byte) || matches!(byte, b'.' | b'@' | b':' | b'/' | b'+' | b'=') || matcher.is_under_way(asked, 1, true, true)
        }
        Bend::Nothing(_) => matcher.is_under_way(asked, 1, true, true) || window.run_before(matcher.next(), 1, is_local_byte) > 0,
        Bend::Mark(_) => matcher.is_under_way(asked, LETTERS_BEFORE_BREAK, true, false),
        Bend::Line(_) => matcher.is_under_way(asked, LETTERS_BEFORE_BREAK, false, false),
    }
}

/// The most bytes of a bend, and the one behind it.
const MOST: usize = bend::LONGEST + 24;

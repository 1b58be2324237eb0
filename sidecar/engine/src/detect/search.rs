//! Looks for values in a text that arrives in pieces: in the text itself, in what it says without its disguises, and in what it encodes.
//!
//! The invariant: as a [`Matcher`], it is a function of the text's bytes. What is found before the frontier is final.

use super::bend::{self, Bend, LETTERS_BEFORE_BREAK};
use super::compiled::{is_local_byte, is_word_byte};
use super::encoded::Encoded;
use super::matcher::{Asked, Matcher, Window};
use super::place::Places;
use super::reading::Reading;

/// How often it is looked whether too much is held back, and whether another reading is over.
const LOOK_EVERY: usize = 512;

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
        let place = (self.matcher.next() + 1).next_multiple_of(LOOK_EVERY);
        if place <= window.base + window.bytes.len() {
            self.read_looking(asked, window, place);
        }
        self.read_part(asked, window, whole);
    }

    /// Reads up to the last place at which it looks, from the next one on.
    #[inline(never)]
    fn read_looking(&mut self, asked: Asked<'_>, window: Window<'_>, mut place: usize) {
        while place <= window.base + window.bytes.len() {
            let part = Window { bytes: &window.bytes[..place - window.base], ..window };
            self.read_part(asked, part, false);
            self.look(asked);
            place += LOOK_EVERY;
        }
    }

    /// Ends another reading that says the same as the text, and sees to it that no more is held back than may be. It is done at places that
    /// the text alone determines: at others it would depend on the pieces what is held back.
    fn look(&mut self, asked: Asked<'_>) {
        if let Some(reading) = &mut self.reading
            && (reading.is_over(&self.matcher) || reading.bound(asked, &self.matcher))
        {
            if let Some(place) = reading.take_swallowed(None) {
                self.places.add(place);
            }
            self.reading = None;
        }
        self.encoded.bound(asked);
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: small pieces cost a fiftieth less")]
    fn read_part(&mut self, asked: Asked<'_>, window: Window<'_>, whole: bool) {
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
            reading.forget(asked);
        }
    }

    /// The text ends.
    pub(super) fn end(&mut self, asked: Asked<'_>, window: Window<'_>) {
        self.read(asked, window, true);
        if let Some(mut reading) = self.reading.take() {
            reading.finish(asked, window);
            let found = reading.take_places();
            let swallowed = reading.take_swallowed(Some(window.base + window.bytes.len()));
            for place in found.into_iter().chain(swallowed) {
                self.places.add(place);
            }
        }
        self.encoded.end(asked, &mut self.places);
        self.matcher.end(asked, window);
        self.places.take_from(self.matcher.places());
    }

    /// Up to where it is sure where values stand.
    #[inline]
    pub(super) fn frontier(&self, asked: Asked<'_>, window: Window<'_>) -> usize {
        let reading = self.reading.as_ref().map_or(usize::MAX, |reading| reading.frontier(asked));
        let sure = self.matcher.frontier(asked, window).min(reading);
        sure.min(self.encoded.frontier(asked, window, sure))
    }

    /// Whether no value is known that wasn't dropped, and none is swallowed nor disguised.
    pub(super) fn is_clear(&self) -> bool {
        self.places.as_slice().is_empty()
            && self.matcher.swallowing().is_none()
            && self.reading.is_none()
            && self.encoded.swallowing().is_none()
    }

    /// Whether what comes next needn't be read yet, since nothing of it could be given out: so many bytes up to a place that may all stand
    /// before an address's `@`, behind text that was given out up to `given`.
    #[inline]
    pub(super) fn may_wait(&self, asked: Asked<'_>, more: &[u8], upto: usize, given: usize) -> bool {
        more.iter().all(|byte| is_local_byte(*byte))
            && self.matcher.local_part(asked, upto).is_some_and(|from| from <= given)
            && self.is_clear()
    }

    /// Where what is swallowed began.
    pub(super) fn swallowing(&self) -> Option<usize> {
        let others = [self.reading.as_ref().and_then(|reading| reading.swallowing()), self.encoded.swallowing()];
        self.matcher.swallowing().into_iter().chain(others.into_iter().flatten()).min()
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
        Bend::Gap(..) => true,
        Bend::Byte(byte, _) => {
            let begins = is_word_byte(byte) || matches!(byte, b'.' | b'@' | b':' | b'/' | b'+' | b'=' | b'$');
            begins || matcher.is_expecting() || matcher.is_under_way(asked, 1, true, true)
        }
        Bend::Nothing(_) => {
            let goes_on = window.run_before(matcher.next(), 1, is_local_byte) > 0;
            goes_on || matcher.is_expecting() || matcher.is_under_way(asked, 1, true, true)
        }
        Bend::Mark(_) => matcher.is_under_way(asked, LETTERS_BEFORE_BREAK, true, false),
        Bend::Line(_) => matcher.is_under_way(asked, LETTERS_BEFORE_BREAK, false, false),
    }
}

/// The most bytes of a bend, and the one behind it.
const MOST: usize = bend::LONGEST + 24;

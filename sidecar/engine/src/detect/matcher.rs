//! Follows rules through a text, one byte at a time, and says where values stand.
//!
//! The invariant: what a [`Matcher`] is after a text depends on the text's bytes alone, not on the pieces in which they came. So whatever
//! is made of the places that it tells is the same for a stream as for the whole.
//!
//! # How
//!
//! One automaton finds the words at which values begin (`ghp_`, `-----BEGIN `), the names to which they are assigned and the words
//! that stand near them; a table finds pairs of first bytes. From there on each row of a rule is an *attempt*, which goes on by itself:
//! whatever others find, it finds. An attempt in a run costs nothing until a byte comes that ends the run, or the run is as long as it may
//! be: all sets that runs are made of are bits of one word, and a byte tells by one `and` which runs it ends. So text in which nothing
//! begins costs a few loads a byte, and text made to hurt costs what beginning and ending attempts costs.
//!
//! Matches that overlap are one place: no byte of any value stays, and none can hide another by beginning before it.
//!
//! # Bounds
//!
//! An attempt that lasts for [`HOLD_LIMIT`] bytes counts as a match, and so does what goes on without a break: text of that kind in such
//! an amount is no prose, and what can't be judged doesn't pass. Of attempts of one row that are in the same endless run, the first stands for
//! all, since it matches what they match; where a check may say no to it, up to [`MAX_CROWD`] are kept, and then none is asked any more.

mod attempt;
mod numbers;
mod words;

use std::ops::Range;

use super::allow::Allowed;
use super::bend::LETTERS_BEFORE_BREAK;
use super::compiled::{ASSIGNS, BENDS, BREAKS, Bits, LONG, MAX_BEFORE, Meaning, Rules, SIGNS, Step, is_local_byte, is_of_word};
use super::keywords::{START, State};
use super::kind::Kind;
use super::marks;
use super::personal;
use super::place::{Place, Places};
use super::rule::Starts;
use attempt::{At, Attempt, Fate, What, begun, feed, is_hash_alone, is_rest, settle};
use numbers::NUMBERS_STEP;
use words::{MAX_GROUP, MAX_LOCAL, Memory, is_before_value, is_quote};

pub(super) use attempt::value;
pub(super) use words::{AROUND_ARGUMENT, BEFORE_ARGUMENT};

/// The most bytes that are held back while it is open whether they are part of a match.
pub const HOLD_LIMIT: usize = 16 * 1024;
/// How long an attempt lasts at most in another reading of a text, of which there is more in the text itself.
const OTHER_LIMIT: usize = 2 * HOLD_LIMIT;
/// The fewest digits of a hash, in hexadecimal.
const HASH: usize = 32;
/// How often it is looked for attempts that last too long.
const LOOK_EVERY: usize = 1024;
/// The most attempts of one row in one endless run.
const MAX_CROWD: usize = 8;
/// How many bytes before the next one have to be there still: what words and names before a value are told by.
pub(super) const LOOK_BACK: usize = 144;

/// The part of a text that is there.
#[derive(Clone, Copy)]
pub(super) struct Window<'t> {
    /// Its bytes.
    pub(super) bytes: &'t [u8],
    /// The place of the first in the whole text.
    pub(super) base: usize,
}

impl<'t> Window<'t> {
    pub(super) fn at(&self, place: usize) -> Option<u8> {
        self.bytes.get(place.checked_sub(self.base)?).copied()
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &'t [u8] {
        let from = range.start.saturating_sub(self.base);
        self.bytes.get(from..range.end.saturating_sub(self.base)).unwrap_or_default()
    }

    /// Whether a letter, a digit or `_` stands before a place.
    fn is_in_word(&self, place: usize) -> bool {
        place > 0 && self.at(place - 1).is_some_and(is_of_word)
    }

    /// How many bytes that fit stand before a place, up to a number.
    pub(super) fn run_before(&self, place: usize, most: usize, fits: impl Fn(u8) -> bool) -> usize {
        let before = self.slice(self.base.max(place.saturating_sub(most))..place);
        before.iter().rev().take_while(|byte| fits(**byte)).count()
    }
}

/// Values that have no end yet, and of which nothing is held any more.
#[derive(Clone, Copy, Debug)]
struct Swallowed {
    start: usize,
    kind: Kind,
    bits: Bits,
}

/// The kinds that are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted(Vec<u64>);

impl Wanted {
    pub(super) fn new(kinds: &[Kind]) -> Self {
        let mut wanted = Self(vec![0; kinds.iter().map(|kind| kind.number() / 64 + 1).max().unwrap_or_default()]);
        for kind in kinds {
            wanted.0[kind.number() / 64] |= 1 << (kind.number() % 64);
        }
        wanted
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.0.get(kind.number() / 64).is_some_and(|word| word >> (kind.number() % 64) & 1 != 0)
    }
}

/// What is asked of the text: the rules, and which of their kinds count.
#[derive(Clone, Copy)]
pub(super) struct Asked<'r> {
    pub(super) rules: &'r Rules,
    pub(super) wanted: &'r Wanted,
    /// Whether any kind of number is wanted, e-mail addresses are, and IP or MAC addresses.
    pub(super) numbers: bool,
    pub(super) emails: bool,
    pub(super) addresses: bool,
    /// Values that stay.
    pub(super) allowed: &'r Allowed,
}

/// What is known of the bytes right before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    state: State,
    /// The pairs of which the last byte was the first.
    armed: u64,
    /// The pairs that can begin at the next byte.
    allowed: u64,
    /// How many letters and digits stand there.
    length: u32,
}

impl Ahead {
    fn take(&mut self, rules: &Rules, meaning: &Meaning) {
        self.state = rules.keywords.step(self.state, meaning.column);
        // (Where the count begins anew after 2^32 of them, rows are tried once more.)
        self.length = self.length.wrapping_add(1) & meaning.alphanumeric;
        self.armed = meaning.first & self.allowed;
        self.allowed = meaning.allows;
    }

    /// Passes over bytes with which nothing begins and nothing ends, and says over how many. This is most of the work, so that it takes a
    /// few loads a byte, and one branch. `RUNS`: some attempt is in a run.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a call costs as much as a few bytes, and most pieces are of few")]
    fn pass<const RUNS: bool>(&mut self, rules: &Rules, bytes: &[u8], open: u64, alive: Bits) -> usize {
        let Self { mut state, mut armed, mut allowed, mut length } = *self;
        let mut rest = bytes.iter();
        while let Some(byte) = rest.as_slice().first() {
            let meaning = &rules.meanings[usize::from(*byte)];
            let mut stops = armed & meaning.second & open;
            if RUNS {
                let ended = alive & !meaning.goes_on;
                // The halves of the bits that run out, one laid over the other.
                #[expect(clippy::cast_possible_truncation, reason = "the upper half is shifted down beside it")]
                let ended = ended as u64 | (ended >> 64) as u64;
                stops |= ended;
            }
            if stops != 0 && (RUNS || !is_passed_over(rules, state, stops)) {
                break;
            }
            let next = rules.keywords.step(state, meaning.column);
            let count = length.wrapping_add(1) & meaning.alphanumeric;
            if count as usize == LONG || rules.keywords.ends_word(next) {
                break;
            }
            (state, length, armed, allowed) = (next, count, meaning.first & allowed, meaning.allows);
            rest.next();
        }
        let passed = bytes.len() - rest.len();
        *self = Self { state, armed, allowed, length };
        passed
    }
}

/// Whether nothing stops but the end of a line, or a mark, with no word under way that may go on behind it.
#[cold]
fn is_passed_over(rules: &Rules, state: State, stops: u64) -> bool {
    stops == BREAKS && rules.keywords.pending(state) < LETTERS_BEFORE_BREAK
}

/// Where the rules are in a text.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    /// The place of the next byte.
    next: usize,
    ahead: Ahead,
    /// The pairs of rows that want a word near that is, up to a place.
    near_pairs: u64,
    near_until: usize,
    /// The runs that some attempt is in, or that go on with what is swallowed.
    alive: Bits,
    /// The next place where a run is as long as it may be.
    due: usize,
    /// An attempt is in a stretch of numbers, in which no other begins.
    is_in_numbers: bool,
    /// Where the bytes begin that may be an address's before its `@`, up to the next one.
    local_from: usize,
    /// Attempts that ask for the next byte.
    stepping: Vec<Attempt>,
    /// Attempts that are in a run.
    running: Vec<Attempt>,
    swallowed: Option<Swallowed>,
    /// How long an attempt lasts at most.
    limit: usize,
    names: Memory,
    nears: Memory,
    /// Up to which place one of them is near.
    nears_until: usize,
    /// Up to which place a sign may assign something to the last name.
    name_until: usize,
    /// A value may begin after so many more quotes, blanks and signs.
    expecting: u8,
    /// From which name on it is assigned.
    expected_since: usize,
    /// Where a line began that was joined to the one before.
    line: usize,
    places: Places,
    /// For what changes hands, so that nothing is allocated for it anew.
    moved: Vec<Attempt>,
}

impl Default for Matcher {
    fn default() -> Self {
        Self {
            next: 0,
            ahead: Ahead { state: START, armed: SIGNS, allowed: u64::MAX, length: 0 },
            near_pairs: 0,
            near_until: 0,
            alive: 0,
            due: usize::MAX,
            is_in_numbers: false,
            local_from: 0,
            stepping: Vec::new(),
            running: Vec::new(),
            swallowed: None,
            limit: HOLD_LIMIT,
            names: Memory::default(),
            nears: Memory::default(),
            nears_until: 0,
            name_until: 0,
            expecting: 0,
            expected_since: 0,
            line: 0,
            places: Places::default(),
            moved: Vec::new(),
        }
    }
}

impl Matcher {
    /// The place of the next byte.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// Where the bytes begin that may stand before an address's `@`, if they do so up to the next byte, and are few enough.
    pub(super) fn local_part(&self, asked: Asked<'_>, upto: usize) -> Option<usize> {
        (asked.emails && upto - self.local_from <= MAX_LOCAL).then_some(self.local_from)
    }

    /// Reads what of a text has not been read, to the end of what is there. Of what was read the last [`LOOK_BACK`] bytes have to be there,
    /// and all from [`Self::frontier`] on.
    pub(super) fn read(&mut self, asked: Asked<'_>, window: Window<'_>) {
        self.read_to_bend(asked, window, usize::MAX);
    }

    /// The same, but stops before the first byte from a place on that may stand for something else; says whether it did.
    pub(super) fn read_to_bend(&mut self, asked: Asked<'_>, window: Window<'_>, stop_from: usize) -> bool {
        let bends = if stop_from == usize::MAX { 0 } else { BENDS | BREAKS };
        if self.alive == 0 && self.stepping.is_empty() && self.expecting == 0 {
            let rest = window.bytes.get(self.next.saturating_sub(window.base)..).unwrap_or_default();
            let assigns = if self.next <= self.name_until { ASSIGNS } else { 0 };
            let mut ahead = self.ahead;
            let passed = ahead.pass::<false>(asked.rules, rest, self.open_pairs(asked.rules) | assigns | bends, 0);
            self.ahead = ahead;
            self.arrive(window, self.next + passed);
            if passed == rest.len() {
                return false;
            }
        }
        self.read_heeding(asked, window, stop_from, bends)
    }

    /// The same where something begins, ends or is under way.
    #[inline(never)]
    fn read_heeding(&mut self, asked: Asked<'_>, window: Window<'_>, stop_from: usize, bends: u64) -> bool {
        let (rules, bytes) = (asked.rules, window.bytes);
        let mut at = self.next.saturating_sub(window.base);
        let mut ahead = self.ahead;
        while at < bytes.len() {
            let assigns = if window.base + at <= self.name_until { ASSIGNS } else { 0 };
            let counted = self.open_pairs(rules);
            let open = if self.is_in_numbers { counted & !rules.number_pair } else { counted } | assigns | bends;
            if self.stepping.is_empty() && self.expecting == 0 {
                let until = bytes.len().min(self.due.saturating_sub(window.base + 1));
                let rest = bytes.get(at..until).unwrap_or_default();
                at += if self.alive == 0 {
                    ahead.pass::<false>(rules, rest, open, 0)
                } else {
                    ahead.pass::<true>(rules, rest, open, self.alive)
                };
            }
            let Some(byte) = bytes.get(at) else { break };
            let place = window.base + at;
            let meaning = &rules.meanings[usize::from(*byte)];
            if meaning.second & bends != 0 && place >= stop_from {
                self.ahead = ahead;
                if meaning.second & BENDS != 0 || self.is_under_way(asked, LETTERS_BEFORE_BREAK, true, false) {
                    self.arrive(window, place);
                    return true;
                }
            }
            let mut fired = ahead.armed & meaning.second & counted;
            if fired & rules.number_pair != 0 && !self.begins_numbers(asked, window, place) {
                fired &= !rules.number_pair;
            }
            ahead.take(rules, meaning);
            self.ahead = ahead;
            if self.is_heeded(rules, meaning, place, fired) {
                self.heed(asked, window, place, *byte, fired);
            }
            if ahead.length as usize == LONG {
                self.begin_long(asked, window, place);
            }
            at += 1;
        }
        self.ahead = ahead;
        self.arrive(window, window.base + bytes.len());
        false
    }

    /// All before a place has been read.
    fn arrive(&mut self, window: Window<'_>, place: usize) {
        let read = window.slice(self.next..place);
        if let Some(last) = read.iter().rposition(|byte| !is_local_byte(*byte)) {
            self.local_from = self.next + last + 1;
        }
        self.next = place;
    }

    /// Whether a byte that was taken changes anything.
    fn is_heeded(&self, rules: &Rules, meaning: &Meaning, place: usize, fired: u64) -> bool {
        fired != 0
            || self.alive & !meaning.goes_on != 0
            || place + 1 >= self.due
            || !self.stepping.is_empty()
            || self.expecting > 0
            || meaning.second & ASSIGNS != 0 && place <= self.name_until
            || rules.keywords.ends_word(self.ahead.state)
    }

    /// Whether the two bytes up to a place begin numbers that have to be followed.
    fn begins_numbers(&self, asked: Asked<'_>, window: Window<'_>, place: usize) -> bool {
        asked.numbers && !self.is_in_numbers && !numbers::is_short(asked.rules, window, place - 1)
    }

    /// The pairs that count now: some do only near a word.
    fn open_pairs(&self, rules: &Rules) -> u64 {
        (!rules.near_pairs | self.near_pairs) & !SIGNS
    }

    /// Whether what is assigned to a name may begin at the next byte.
    pub(super) fn is_expecting(&self) -> bool {
        self.expecting > 0
    }

    /// Whether something has begun that may go on behind a bend: a value, or so many bytes of a word with which values begin. Not every bend is
    /// one for addresses and for numbers.
    pub(super) fn is_under_way(&self, asked: Asked<'_>, letters: usize, addresses: bool, numbers: bool) -> bool {
        let counts = |attempt: &Attempt| match attempt.what {
            What::Row(_) | What::Value(_) => true,
            What::Email | What::Address => addresses,
            What::Numbers => numbers,
        };
        asked.rules.keywords.pending(self.ahead.state) >= letters || self.stepping.iter().chain(&self.running).any(counts)
    }

    /// One for what a text encodes. Who holds the text back ends what lasts too long there.
    pub(super) fn of_another() -> Self {
        Self { limit: OTHER_LIMIT, ..Self::default() }
    }

    /// The kind of what was begun first.
    pub(super) fn oldest(&self, rules: &Rules) -> Option<Kind> {
        let begun = self.stepping.iter().chain(&self.running).min_by_key(|attempt| attempt.start);
        self.swallowed.map(|swallowed| swallowed.kind).or_else(|| begun.map(|attempt| kind_begun(rules, attempt)))
    }

    /// The same without what was found, for another reading.
    pub(super) fn without_places(&self) -> Self {
        let mut other = Self { places: Places::default(), swallowed: None, limit: OTHER_LIMIT, ..self.clone() };
        other.sum_up(self.next.saturating_sub(1));
        other
    }

    /// Whether this and another go on alike, whatever comes: nothing is under way in either.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let is_idle = |matcher: &Self| matcher.stepping.is_empty() && matcher.running.is_empty() && matcher.expecting == 0;
        self.ahead == other.ahead && is_idle(self) && is_idle(other)
    }

    /// Whether nothing has begun that may be a value.
    pub(super) fn is_idle(&self) -> bool {
        self.stepping.is_empty() && self.running.is_empty() && self.swallowed.is_none()
    }

    /// A line ends here, which may break a value in two, and may end it: what is whole so far is a value for sure, and goes on if what
    /// follows looks it.
    pub(super) fn end_line(&mut self, asked: Asked<'_>, window: Window<'_>) {
        let place = self.next;
        let mut moved = std::mem::take(&mut self.stepping);
        moved.append(&mut self.running);
        for mut attempt in moved {
            let is_whole = match (attempt.what, attempt.at) {
                (_, At::Edge) => {
                    self.matched(asked, window, &attempt, place, None);
                    continue;
                }
                (What::Email, _) => {
                    if personal::email(attempt.since - attempt.start, window.slice(attempt.start..place)).is_some() {
                        self.matched(asked, window, &attempt, place, None);
                        continue;
                    }
                    false
                }
                (What::Row(_), At::Tail) => true,
                (What::Row(row), At::Run) => {
                    let row = &asked.rules.rows[usize::from(row)];
                    let is_last = usize::from(attempt.step) + 1 == row.steps.len();
                    matches!(row.steps.get(usize::from(attempt.step)), Some(Step::Run { min, .. }) if is_last && place - attempt.since >= *min as usize)
                }
                _ => false,
            };
            // A word that is assigned and short is all there is: `password = None`.
            if let What::Row(row) = attempt.what {
                let row = &asked.rules.rows[usize::from(row)];
                if !is_whole && row.is_assigned && row.least <= attempt::LEAST_REST {
                    continue;
                }
            }
            if attempt.broken_at == 0 {
                (attempt.broken_at, attempt.was_whole) = (place, is_whole);
            } else if is_whole && !attempt.was_whole {
                (attempt.broken_at, attempt.was_whole) = (place, true);
            }
            self.keep(asked, attempt);
        }
        // An address doesn't begin on the line before.
        (self.line, self.local_from) = (place, place);
        self.sum_up(place.saturating_sub(1));
    }

    /// Up to where it is sure what the text says: no value begins before that but those in [`Self::places`].
    pub(super) fn frontier(&self, asked: Asked<'_>, window: Window<'_>) -> usize {
        let word = self.next - asked.rules.keywords.pending(self.ahead.state).min(self.next);
        let local = self.local_part(asked, self.next).unwrap_or(self.next);
        // (A long word may have begun on the line before.)
        let sure = word.min(local).min(self.long_from());
        if local < self.next && self.stepping.is_empty() && self.running.is_empty() {
            // Nothing else begins before what may be an address's.
            return sure;
        }
        let begun = self.stepping.iter().chain(&self.running).map(|attempt| attempt.start).min().unwrap_or(self.next);
        let pair = self.next - usize::from(self.ahead.armed & !SIGNS != 0).min(self.next);
        let before = |most: usize, fits: fn(u8) -> bool| match window.run_before(self.next, most + 1, fits) {
            length if length > most => self.next,
            length => self.next - length,
        };
        let address = if asked.addresses {
            let group = if asked.emails { self.next } else { before(MAX_GROUP, |byte| byte.is_ascii_hexdigit()) };
            if self.next > 0 && window.at(self.next - 1) == Some(b':') { group.min(before(1, |byte| byte == b':')) } else { group }
        } else {
            self.next
        };
        begun.min(sure).min(pair).min(address)
    }

    /// Where the rows begin that begin with a long word, if they may begin with the one that stands before the next byte.
    fn long_from(&self) -> usize {
        let length = self.ahead.length as usize;
        if length <= LONG { self.next - length.min(self.next) } else { self.next }
    }

    /// Where what is swallowed began.
    pub(super) fn swallowing(&self) -> Option<usize> {
        self.swallowed.map(|swallowed| swallowed.start)
    }

    /// The places of values, in order. Those that end before the frontier are sure.
    pub(super) fn places(&mut self) -> &mut Places {
        &mut self.places
    }

    /// How many bytes it has allocated.
    pub(super) fn allocated(&self) -> usize {
        (self.stepping.capacity() + self.running.capacity() + self.moved.capacity()) * size_of::<Attempt>() + self.places.allocated()
    }

    /// The text ends: what may end here does.
    pub(super) fn end(&mut self, asked: Asked<'_>, window: Window<'_>) {
        let place = self.next;
        let mut left = std::mem::take(&mut self.stepping);
        left.append(&mut self.running);
        for mut attempt in left {
            match (attempt.at, attempt.what) {
                (At::Step, _) => {}
                (At::Run, What::Row(row)) => {
                    let row = &asked.rules.rows[usize::from(row)];
                    let is_last = usize::from(attempt.step) + 1 == row.steps.len();
                    if is_last
                        && let Step::Run { min, .. } = row.steps[usize::from(attempt.step)]
                        && place - attempt.since >= min as usize
                    {
                        attempt.step += 1;
                        self.matched(asked, window, &attempt, place, None);
                    }
                }
                (At::Run | At::Edge | At::Tail, _) => self.matched(asked, window, &attempt, place, None),
            }
        }
        if let Some(swallowed) = self.swallowed.take() {
            self.note_unchecked(swallowed.start, place, swallowed.kind);
        }
        let places = std::mem::take(&mut self.places);
        *self = Self { next: place, local_from: place, places, limit: self.limit, ..Self::default() };
    }

    /// What a byte changes.
    #[cold]
    #[inline(never)]
    fn heed(&mut self, asked: Asked<'_>, window: Window<'_>, place: usize, byte: u8, fired: u64) {
        let rules = asked.rules;
        let meaning = &rules.meanings[usize::from(byte)];
        let ends_runs = self.alive & !meaning.goes_on != 0 || place + 1 >= self.due;
        if ends_runs || !self.stepping.is_empty() {
            self.go_on(asked, window, place, byte, ends_runs);
        }
        if fired != 0 {
            self.begin_pairs(asked, window, place, fired);
        }
        if self.expecting > 0 {
            if is_before_value(byte) {
                // Between quotes it may be a value's first byte, too.
                if place > 0 && window.at(place - 1).is_some_and(is_quote) {
                    self.begin_assigned(asked, window, place, byte, true);
                }
                self.expecting -= 1;
            } else {
                self.expecting = 0;
                self.begin_assigned(asked, window, place, byte, false);
            }
        } else if meaning.second & ASSIGNS != 0 && place <= self.name_until {
            self.expect(window, place);
        }
        for word in rules.keywords.ending(self.ahead.state) {
            self.word(asked, window, place, *word);
        }
    }

    /// Attempts go on with a byte: those that ask for it, and those whose run it ends.
    fn go_on(&mut self, asked: Asked<'_>, window: Window<'_>, place: usize, byte: u8, ends_runs: bool) {
        let goes_on = asked.rules.meanings[usize::from(byte)].goes_on;
        // Most of what ends are a few digits in prose.
        if let [Attempt { what: What::Numbers, start, bit, .. }] = self.running[..]
            && self.stepping.is_empty()
            && self.swallowed.is_none()
            && goes_on >> bit & 1 == 0
        {
            self.running.clear();
            (self.alive, self.due, self.is_in_numbers) = (0, usize::MAX, false);
            if place - start >= personal::SHORTEST_RUN {
                self.numbers(asked, window, start, place, Some(byte));
            }
            return;
        }
        let mut moved = std::mem::take(&mut self.moved);
        moved.append(&mut self.stepping);
        if ends_runs {
            self.running.retain(|attempt| {
                let stays = goes_on >> attempt.bit & 1 != 0 && attempt.due > place + 1;
                if !stays {
                    moved.push(*attempt);
                }
                stays
            });
            if let Some(swallowed) = &mut self.swallowed {
                swallowed.bits &= goes_on;
                if swallowed.bits == 0 {
                    let Swallowed { start, kind, .. } = *swallowed;
                    self.swallowed = None;
                    self.note_unchecked(start, place, kind);
                }
            }
        }
        for mut attempt in moved.drain(..) {
            if attempt.what == What::Numbers && goes_on >> attempt.bit & 1 != 0 {
                self.numbers_go_on(asked, window, attempt, place);
                continue;
            }
            match feed(asked.rules, &mut attempt, byte, place) {
                Fate::GoesOn => self.keep(asked, attempt),
                Fate::Ends => {}
                Fate::Matches(end) => self.matched(asked, window, &attempt, end, Some(byte)),
            }
        }
        self.moved = moved;
        if ends_runs {
            self.look_for_the_endless(asked.rules, place);
            self.sum_up(place);
        }
    }

    /// What the running attempts have in common.
    fn sum_up(&mut self, place: usize) {
        self.alive = self.running.iter().fold(0, |bits, attempt| bits | 1 << attempt.bit);
        self.alive |= self.swallowed.map_or(0, |swallowed| swallowed.bits);
        let due = self.running.iter().map(|attempt| attempt.due).min().unwrap_or(usize::MAX);
        let look = if self.running.is_empty() { usize::MAX } else { (place + 1).next_multiple_of(LOOK_EVERY) + 1 };
        self.due = due.min(look);
        self.is_in_numbers = self.running.iter().any(|attempt| attempt.what == What::Numbers);
    }

    /// Attempts that last too long are values, and so is all that follows without a break.
    fn look_for_the_endless(&mut self, rules: &Rules, place: usize) {
        let mut endless: Option<Swallowed> = self.swallowed;
        self.running.retain(|attempt| {
            if place + 1 - attempt.start < self.limit {
                return true;
            }
            let kind = kind_begun(rules, attempt);
            let bits = 1 << attempt.bit | 1 << rules.unbroken_bit;
            match &mut endless {
                Some(swallowed) => {
                    swallowed.bits |= bits;
                    if attempt.start < swallowed.start {
                        (swallowed.start, swallowed.kind) = (attempt.start, kind);
                    }
                }
                None => endless = Some(Swallowed { start: attempt.start, kind, bits }),
            }
            false
        });
        self.swallowed = endless;
    }

    fn keep(&mut self, asked: Asked<'_>, attempt: Attempt) {
        let rules = asked.rules;
        if matches!(attempt.at, At::Step | At::Edge) {
            self.stepping.push(attempt);
            return;
        }
        if attempt.due == usize::MAX
            && let What::Row(row) = attempt.what
        {
            let alike = |other: &&mut Attempt| (other.what, other.at, other.step) == (attempt.what, attempt.at, attempt.step);
            let compiled = &rules.compiled[usize::from(rules.rows[usize::from(row)].rule)];
            let mut crowd = self.running.iter_mut().filter(alike);
            if let Some(first) = crowd.next() {
                if !compiled.is_checked() && asked.allowed.is_empty() || first.unchecked {
                    first.start = first.start.min(attempt.start);
                    return;
                }
                if crowd.count() + 1 >= MAX_CROWD {
                    let mut crowd = self.running.iter_mut().filter(alike);
                    if let Some(first) = crowd.next() {
                        first.unchecked = true;
                    }
                    return;
                }
            }
        }
        self.is_in_numbers |= attempt.what == What::Numbers;
        self.alive |= 1 << attempt.bit;
        self.due = self.due.min(attempt.due).min((attempt.since + 1).next_multiple_of(LOOK_EVERY) + 1);
        self.running.push(attempt);
    }

    /// Rows that begin with two bytes, of which this is the second.
    fn begin_pairs(&mut self, asked: Asked<'_>, window: Window<'_>, place: usize, mut fired: u64) {
        let rules = asked.rules;
        if self.near_pairs != 0 && place > self.near_until {
            self.near_pairs = 0;
            fired &= !rules.near_pairs;
        }
        while fired != 0 {
            let pair = fired.trailing_zeros();
            fired &= fired - 1;
            if rules.number_pair == 1 << pair {
                let start = place - 1;
                self.keep(asked, Attempt { due: start + NUMBERS_STEP, ..begun(What::Numbers, rules.number_bit, start, start) });
                continue;
            }
            if rules.colon_pair == 1 << pair {
                if asked.addresses {
                    self.begin_address(asked, window, place);
                }
                continue;
            }
            let (rows, before) = &rules.pairs[pair as usize];
            if let Some(start) = place.checked_sub((*before).into()) {
                self.begin_before(asked, window, start, place, rows);
            }
        }
    }

    /// Rows that begin with a long word.
    fn begin_long(&mut self, asked: Asked<'_>, window: Window<'_>, place: usize) {
        let rules = asked.rules;
        self.begin_before(asked, window, place + 1 - LONG, place, &rules.long);
    }

    /// Rows that begin at a place behind which some bytes have been read already.
    fn begin_before(&mut self, asked: Asked<'_>, window: Window<'_>, start: usize, place: usize, rows: &[u16]) {
        let rules = asked.rules;
        let read = window.slice(start..place + 1);
        let Some(first) = read.first() else { return };
        let is_in_word = window.is_in_word(start);
        let mut common = None;
        for number in rows {
            let row = &rules.rows[usize::from(*number)];
            if is_in_word && rules.compiled[usize::from(row.rule)].starts == Starts::Word || !row.may_begin_with(*first, rules) {
                continue;
            }
            let run = match row.steps.first() {
                Some(Step::Run { bit, min, max }) if *min as usize >= read.len() => Some((*bit, *max)),
                _ => None,
            };
            // The runs that all of it goes on with: most rows begin with a run that isn't one of them.
            let all = |byte: &u8| rules.meanings[usize::from(*byte)].goes_on;
            let mut common = || *common.get_or_insert_with(|| read.iter().map(all).fold(Bits::MAX, |bits, more| bits & more));
            if run.is_some_and(|(bit, _)| common() >> bit & 1 == 0) || !self.is_wanted(asked, row, window, start) {
                continue;
            }
            let mut attempt = begun(What::Row(*number), 0, start, start);
            if let Some((bit, max)) = run.filter(|(_, max)| *max as usize > read.len()) {
                // All of it stands there.
                let due = if max == u32::MAX { usize::MAX } else { start + max as usize };
                self.keep(asked, Attempt { bit, due, ..attempt });
                continue;
            }
            let mut fate = Fate::GoesOn;
            for (at, byte) in (start..).zip(read) {
                fate = if at == start { settle(rules, &mut attempt, at, Some(*byte)) } else { feed(rules, &mut attempt, *byte, at) };
                if !matches!(fate, Fate::GoesOn) {
                    break;
                }
            }
            match fate {
                Fate::GoesOn => self.keep(asked, attempt),
                Fate::Ends => {}
                Fate::Matches(end) => self.matched(asked, window, &attempt, end, read.last().copied()),
            }
        }
    }

    /// An attempt has matched up to a place.
    fn matched(&mut self, asked: Asked<'_>, window: Window<'_>, attempt: &Attempt, end: usize, after: Option<u8>) {
        let is_broken =
            attempt.was_whole && !is_rest(window.slice(attempt.start..attempt.broken_at), window.slice(attempt.broken_at..end), after);
        // What isn't whole without the next line isn't with a hash that stands there.
        if attempt.broken_at != 0
            && !attempt.was_whole
            && end - attempt.broken_at >= HASH
            && is_hash_alone(window.slice(attempt.start..attempt.broken_at), window.slice(attempt.broken_at..end))
        {
            return;
        }
        let end = if is_broken { attempt.broken_at } else { end };
        let text = window.slice(attempt.start..end);
        match attempt.what {
            What::Row(row) => {
                let rule = &asked.rules.compiled[usize::from(asked.rules.rows[usize::from(row)].rule)];
                let least = asked.rules.rows[usize::from(row)].least;
                if attempt.unchecked {
                    self.note_unchecked(attempt.start, end, rule.kind);
                } else if let Some(range) = value(rule, text, least) {
                    let (from, to) = (attempt.start + range.start, attempt.start + range.end);
                    // (Where a line broke it, what stands before it may be forgotten.)
                    if is_broken || !marks::is_inside(window, from, to, end) {
                        self.note(asked, window, from, to, rule.kind);
                    }
                }
            }
            What::Numbers => self.numbers(asked, window, attempt.start, end, after),
            What::Value(kind) => self.note(asked, window, attempt.start, end, kind),
            What::Email => {
                if let Some(range) = personal::email(attempt.since - attempt.start, text) {
                    self.note(asked, window, attempt.start + range.start, attempt.start + range.end, kind_of("EMAIL"));
                }
            }
            What::Address => {
                let found = personal::ipv6(text).map(|range| ("IP_ADDRESS", range));
                let found = found.or_else(|| personal::mac(text).map(|range| ("MAC_ADDRESS", range)));
                if let Some((name, range)) = found
                    && asked.wanted.has(kind_of(name))
                {
                    self.note(asked, window, attempt.start + range.start, attempt.start + range.end, kind_of(name));
                }
            }
        }
    }

    /// Notes a value, unless it is allowed.
    fn note(&mut self, asked: Asked<'_>, window: Window<'_>, start: usize, end: usize, kind: Kind) {
        if !asked.allowed.has(window.slice(start..end)) {
            self.places.add(Place { start, end, kind, longest: end.saturating_sub(start), is_plain: true });
        }
    }

    /// Notes what counts as a value whatever it is.
    fn note_unchecked(&mut self, start: usize, end: usize, kind: Kind) {
        self.places.add(Place::unchecked(start, end, kind));
    }
}

/// The kind of a value of which no more is known than that it has begun.
fn kind_begun(rules: &Rules, attempt: &Attempt) -> Kind {
    match attempt.what {
        What::Row(row) => rules.compiled[usize::from(rules.rows[usize::from(row)].rule)].kind,
        What::Email => kind_of("EMAIL"),
        What::Numbers | What::Address => kind_of("IP_ADDRESS"),
        What::Value(kind) => kind,
    }
}

fn kind_of(name: &str) -> Kind {
    Kind::of_name(name).unwrap_or(Kind::CUSTOM)
}

#[cfg(test)]
mod tests;

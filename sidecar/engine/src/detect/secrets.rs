//! Finds secrets and personal data in text that arrives in pieces, and puts a mark in their place.
//!
//! The invariant: whatever the pieces, what comes out is the same, joined. Text is held back only while it may still be part of a
//! value, and never more than [`HOLD_LIMIT`] of it, and a piece.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

pub use super::allow::Allowed;
use super::compiled::{Beside, RuleError, Rules};
pub use super::kind::{Group, Kind};
pub use super::marks::{Replacement, TokenKey};
pub use super::matcher::HOLD_LIMIT;
use super::matcher::{AROUND_ARGUMENT, Asked, BEFORE_ARGUMENT, LOOK_BACK, Wanted, Window};
pub use super::own::{Pattern, Patterns, PatternsError};
use super::personal;
use super::place::{Place, Places};
use super::rule::Rule;
use super::search::Search;

/// How much of a text is read at once.
const CHUNK: usize = 4 * 1024;
/// How much that nobody needs any more is kept at most, so that what is kept needn't be moved for each piece.
const SLACK: usize = 256;

/// The rules of all kinds. They are the same for every policy, and compiled once.
static PACK: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let rules = Kind::all().flat_map(|kind| kind.rules().iter().map(move |rule| (kind, rule)));
    let beside = Beside { numbers: true, emails: true, addresses: true };
    Arc::new(Rules::new(rules, beside).expect("the pack is a constant, and a test compiles it"))
});

/// A text with the name that it is assigned to, as JSON writes them: so rules know a value by its name.
///
/// Signs that text doesn't have stand around both, by which rules can tell what is all of it.
#[derive(Debug)]
pub struct Named {
    said: String,
    /// Where the text begins in that.
    begin: usize,
}

impl Named {
    /// None where there is no name.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Option<Self> {
        // (Most texts have none.)
        if name.is_empty() {
            return None;
        }
        let around = char::from(AROUND_ARGUMENT);
        let said = format!("{around}{name}{BEFORE_ARGUMENT}{text}{around}");
        Some(Self { begin: said.len() - text.len() - around.len_utf8(), said })
    }

    /// All that is to be judged.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }

    /// What of a place in that is in the text.
    #[must_use]
    pub fn place(&self, place: &Range<usize>) -> Option<Range<usize>> {
        let end = (self.said.len() - 1).min(place.end);
        Some(place.start.checked_sub(self.begin)?..end.checked_sub(self.begin)?)
    }

    /// The text in what came of it; none where the name isn't there any more, since it holds a value itself.
    #[must_use]
    pub fn text_in<'t>(&self, redacted: &'t str) -> Option<&'t str> {
        let text = redacted.strip_prefix(&self.said[..self.begin])?;
        Some(text.strip_suffix(char::from(AROUND_ARGUMENT)).unwrap_or(text))
    }
}

/// The rules of some kinds, ready to scan with.
pub struct SecretRules {
    rules: Arc<Rules>,
    wanted: Wanted,
    beside: Beside,
    /// The policy's own.
    own: Option<Patterns>,
    allowed: Allowed,
    replacements: Vec<(Wanted, Replacement)>,
    key: Option<&'static TokenKey>,
}

impl std::fmt::Debug for SecretRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(Kind::each().filter(|kind| self.wanted.has(*kind))).finish()
    }
}

impl SecretRules {
    /// The rules of `kinds`.
    #[must_use]
    pub fn new(kinds: &[Kind]) -> Self {
        let named = |name: &str| kinds.iter().any(|kind| kind.name() == name);
        let beside = Beside {
            numbers: personal::NUMBER_KINDS.iter().any(|(name, _)| named(name)),
            emails: named("EMAIL"),
            addresses: named("IP_ADDRESS") || named("MAC_ADDRESS"),
        };
        Self::of(Arc::clone(&PACK), kinds, beside)
    }

    fn of(rules: Arc<Rules>, kinds: &[Kind], beside: Beside) -> Self {
        let (wanted, allowed) = (Wanted::new(kinds), Allowed::default());
        Self { rules, wanted, beside, own: None, allowed, replacements: Vec::new(), key: None }
    }

    /// Values of these patterns are looked for as well.
    #[must_use]
    pub fn and(self, own: Patterns) -> Self {
        Self { own: Some(own), ..self }
    }

    /// These values stay.
    #[must_use]
    pub fn but(self, allowed: Allowed) -> Self {
        Self { allowed, ..self }
    }

    /// What values are replaced by: as the first entry says that has their kind, else by the mark.
    ///
    /// The mark it is as well where a value was found in a disguise, or with others that it overlaps; where it ends in no digits, or is
    /// short; and where there is no key for tokens.
    #[must_use]
    pub fn replacing<'k>(self, entries: impl IntoIterator<Item = (&'k [Kind], Replacement)>, key: Option<&'static TokenKey>) -> Self {
        let replacements = entries.into_iter().map(|(kinds, with)| (Wanted::new(kinds), with)).collect();
        Self { replacements, key, ..self }
    }

    /// Nothing but these rules, each with its kind: for measuring.
    pub fn of_rules<'r>(rules: impl IntoIterator<Item = (Kind, &'r Rule<'r>)>) -> Result<Self, RuleError> {
        let rules: Vec<(Kind, &Rule<'_>)> = rules.into_iter().collect();
        let kinds: Vec<Kind> = rules.iter().map(|(kind, _)| *kind).collect();
        let beside = Beside::default();
        Ok(Self::of(Arc::new(Rules::new(rules, beside)?), &kinds, beside))
    }

    /// How many bytes the tables take, about. Policies share those of the pack.
    #[must_use]
    pub fn size(&self) -> usize {
        self.rules.size() + self.own.as_ref().map_or(0, Patterns::size)
    }

    fn asked(&self) -> Asked<'_> {
        let Beside { numbers, emails, addresses } = self.beside;
        Asked { rules: &self.rules, wanted: &self.wanted, numbers, emails, addresses, allowed: &self.allowed }
    }

    fn asked_of_own(&self) -> Option<Asked<'_>> {
        self.own.as_ref().map(|own| own.asked(&self.allowed))
    }

    /// What stands in the place of a value, given the text there.
    fn instead(&self, place: &Place, text: &str) -> Cow<'static, str> {
        let with = self.replacements.iter().find(|(kinds, _)| kinds.has(place.kind)).map(|(_, with)| *with).unwrap_or_default();
        let is_known = place.is_plain && text.len() == place.end - place.start;
        let other = if is_known { with.of(place.kind, text, self.key) } else { None };
        other.map_or(Cow::Borrowed(place.kind.mark()), Cow::Owned)
    }

    /// Where values stand in a text that is there as a whole: their kinds and their bytes, in order.
    #[must_use]
    pub fn find(self: &Arc<Self>, text: &str) -> Vec<(Kind, Range<usize>)> {
        let mut places = Vec::new();
        let mut scanner = Scanner::new(Arc::clone(self));
        let mut scrap = String::new();
        scanner.push_noting(text, &mut scrap, &mut |kind, range| places.push((kind, range)));
        scanner.finish_noting(&mut scrap, &mut |kind, range| places.push((kind, range)));
        places
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

    /// Whether a text holds nothing to redact.
    #[must_use]
    pub fn is_clean(self: &Arc<Self>, text: &str) -> bool {
        let mut search = Searches::new(self);
        search.end(self, Window { bytes: text.as_bytes(), base: 0 });
        search.places().as_slice().is_empty()
    }
}

/// The search for what the pack knows, and the one for what the policy's own patterns find. What both find is one, as what one finds twice.
#[derive(Clone, Debug)]
struct Searches {
    pack: Search,
    own: Option<Box<Search>>,
}

impl Searches {
    fn new(rules: &SecretRules) -> Self {
        Self { pack: Search::default(), own: rules.own.as_ref().map(|_| Box::default()) }
    }

    fn both<'r>(&mut self, rules: &'r SecretRules) -> Option<(&mut Search, Asked<'r>)> {
        self.own.as_deref_mut().zip(rules.asked_of_own())
    }

    fn read(&mut self, rules: &SecretRules, asked: Asked<'_>, window: Window<'_>) {
        self.pack.read(asked, window, false);
        if let Some((own, asked)) = self.both(rules) {
            own.read(asked, window, false);
        }
        self.join();
    }

    fn end(&mut self, rules: &SecretRules, window: Window<'_>) {
        self.pack.end(rules.asked(), window);
        if let Some((own, asked)) = self.both(rules) {
            own.end(asked, window);
        }
        self.join();
    }

    fn join(&mut self) {
        if let Some(own) = &mut self.own {
            self.pack.places().take_from(own.places());
        }
    }

    /// Whether no value is known that wasn't dropped, and none is swallowed.
    fn is_clear(&self) -> bool {
        self.pack.is_clear() && self.own.as_ref().is_none_or(|own| own.is_clear())
    }

    fn frontier(&self, rules: &SecretRules, asked: Asked<'_>, window: Window<'_>) -> usize {
        let own = self.own.as_ref().zip(rules.asked_of_own()).map(|(own, asked)| own.frontier(asked, window));
        self.pack.frontier(asked, window).min(own.unwrap_or(usize::MAX))
    }

    /// Where what is swallowed began.
    fn swallowing(&self) -> Option<usize> {
        self.pack.swallowing().into_iter().chain(self.own.as_ref().and_then(|own| own.swallowing())).min()
    }

    fn places(&mut self) -> &mut Places {
        self.pack.places()
    }

    fn next(&self) -> usize {
        self.pack.next()
    }

    fn allocated(&self) -> usize {
        self.pack.allocated() + self.own.as_ref().map_or(0, |own| size_of::<Search>() + own.allocated())
    }
}

/// Text that is on its way through the rules.
#[derive(Clone, Debug)]
pub struct Scanner {
    rules: Arc<SecretRules>,
    search: Searches,
    /// What has arrived and is needed still: what wasn't given out, and some of what was.
    text: String,
    /// The place of its first byte in the whole text.
    base: usize,
    /// Up to which place all was given out or replaced.
    given: usize,
    torn: bool,
}

impl Scanner {
    /// A scanner at the beginning of a text.
    #[must_use]
    pub fn new(rules: Arc<SecretRules>) -> Self {
        Self { search: Searches::new(&rules), rules, text: String::new(), base: 0, given: 0, torn: false }
    }

    /// Takes the next piece, gives out what is sure, and calls `found` for each value that was replaced.
    pub fn push(&mut self, piece: &str, out: &mut String, found: &mut dyn FnMut(Kind)) {
        self.push_noting(piece, out, &mut |kind, _| found(kind));
    }

    /// Ends the text and gives out the rest. The scanner stands at the beginning of another text then.
    pub fn finish(&mut self, out: &mut String, found: &mut dyn FnMut(Kind)) {
        self.finish_noting(out, &mut |kind, _| found(kind));
    }

    fn push_noting(&mut self, piece: &str, out: &mut String, found: &mut dyn FnMut(Kind, Range<usize>)) {
        let mut rest = piece;
        while rest.len() > CHUNK {
            let (chunk, more) = rest.split_at(rest.floor_char_boundary(CHUNK));
            rest = more;
            self.push_chunk(chunk, out, found);
        }
        if !rest.is_empty() {
            self.push_chunk(rest, out, found);
        }
    }

    fn push_chunk(&mut self, chunk: &str, out: &mut String, found: &mut dyn FnMut(Kind, Range<usize>)) {
        self.text.push_str(chunk);
        let asked = self.rules.asked();
        if self.search.pack.may_wait(asked, chunk.as_bytes(), self.read(), self.given) {
            return;
        }
        let window = Window { bytes: self.text.as_bytes(), base: self.base };
        self.search.read(&self.rules, asked, window);
        let frontier = self.search.frontier(&self.rules, asked, window);
        if self.search.is_clear() {
            self.give_up_to(frontier, out);
            self.forget_before(self.given.min(frontier));
        } else {
            self.give(frontier, out, found);
            self.forget(frontier);
        }
    }

    fn finish_noting(&mut self, out: &mut String, found: &mut dyn FnMut(Kind, Range<usize>)) {
        self.search.end(&self.rules, Window { bytes: self.text.as_bytes(), base: self.base });
        self.give(self.read(), out, found);
        self.search = Searches::new(&self.rules);
        self.text.clear();
        (self.base, self.given) = (0, 0);
    }

    /// Gives out what stands before the frontier, with marks in the place of values.
    fn give(&mut self, frontier: usize, out: &mut String, found: &mut dyn FnMut(Kind, Range<usize>)) {
        let swallowing = self.search.swallowing();
        let places = self.search.places();
        let mut sure = 0;
        for place in places.as_slice().iter().take_while(|place| place.end <= frontier && swallowing.is_none_or(|from| place.end <= from)) {
            sure += 1;
            self.torn |= place.start < self.given;
            out.push_str(between(&self.text, self.base, self.given, place.start));
            // (Of what was given out already nothing is told.)
            let from = place.start.max(self.given);
            // What is as long as a rule allows may end within a character.
            let end = self.base + self.text.ceil_char_boundary(place.end.saturating_sub(self.base));
            out.push_str(&self.rules.instead(place, between(&self.text, self.base, from, end)));
            found(place.kind, place.start..end);
            self.given = self.given.max(end);
        }
        places.drop_first(sure);
        let open = places.as_slice().first().map(|place| place.start).into_iter().chain(swallowing).min();
        self.give_up_to(open.map_or(frontier, |open| open.min(frontier)), out);
    }

    fn give_up_to(&mut self, place: usize, out: &mut String) {
        if place > self.given.max(self.base) {
            // (Nothing is lost where it should stand within a character.)
            let from = self.given.saturating_sub(self.base);
            let whole = |end: usize| self.text.get(from..end);
            if let Some(part) = whole(place - self.base).or_else(|| whole(self.text.floor_char_boundary(place - self.base))) {
                out.push_str(part);
                self.given = self.base + from + part.len();
            }
        }
    }

    /// Forgets text that nobody needs any more.
    fn forget(&mut self, frontier: usize) {
        // What is swallowed is not given out, whatever it is, nor is anything of values that overlap; a single one is looked at once more.
        let swallowing = self.search.swallowing();
        let needed = match (swallowing, self.search.places().as_slice().first()) {
            (Some(from), Some(place)) if place.end <= from => place.start.min(frontier),
            (Some(_), _) => frontier,
            (None, Some(place)) if !place.is_plain && place.start <= self.given => place.end.min(frontier),
            (None, _) => self.given.min(frontier),
        };
        self.forget_before(needed);
    }

    fn forget_before(&mut self, needed: usize) {
        let needed = needed.min(self.search.next().saturating_sub(LOOK_BACK));
        let unneeded = needed.saturating_sub(self.base);
        if unneeded > SLACK {
            let unneeded = self.text.floor_char_boundary(unneeded);
            self.text.drain(..unneeded);
            self.base += unneeded;
        }
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

    /// How much of the text has arrived.
    fn read(&self) -> usize {
        self.base + self.text.len()
    }

    /// How many bytes at the end of the text were not given out.
    #[must_use]
    pub fn unsure(&self) -> usize {
        self.read() - self.given
    }

    /// Whether there would be a value in what is held back, if the text ended here.
    fn holds_a_value(&self) -> bool {
        let mut holds_a_value = false;
        if self.unsure() > 0 {
            let mut search = self.search.clone();
            search.end(&self.rules, Window { bytes: self.text.as_bytes(), base: self.base });
            holds_a_value = search.places().as_slice().iter().any(|place| place.end > self.given);
        }
        holds_a_value
    }

    fn release(&mut self, out: &mut String) {
        out.push_str(between(&self.text, self.base, self.given, self.read()));
        self.given = self.read();
    }

    /// Part of a value was given out before it could be known for one. What follows must not be.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.unsure().min(self.text.len())
    }

    /// How many bytes the scanner takes beside the text that it holds back.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.search.allocated() + self.text.capacity().saturating_sub(self.held())
    }
}

/// A part of a text of which the first byte stands at `base`.
fn between(text: &str, base: usize, from: usize, to: usize) -> &str {
    text.get(from.saturating_sub(base)..to.saturating_sub(base)).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Rules, compiled to what the matcher follows: the words and bytes at which values begin, and the rows of runs from there on.

use std::collections::BTreeMap;

use super::keywords::Keywords;
use super::kind::Kind;
use super::pattern::{ByteSet, PatternError, Run, rows};
use super::rule::{Check, Ends, Rule, Starts};

/// The most rows of all rules together.
const MAX_ROWS: usize = 8192;
/// The most sets of bytes of which runs are made: the bits of a [`Bits`].
const MAX_SETS: usize = 128;
/// The most pairs of first bytes at which rows begin.
const MAX_PAIRS: usize = 61;
/// The most bytes of a row before the pair by which it is found.
pub(super) const MAX_BEFORE: usize = 8;
/// How many letters and digits are a long word, at which rows are tried that begin with as many.
pub(super) const LONG: usize = 12;
/// So few bytes begin too many words of prose, if a long word tells the same.
const SHORT: usize = 2;
/// The most bytes of a row's beginning that are looked for as a word.
const MAX_WORD: usize = 24;

/// Sets of bytes of which runs are made.
pub(super) type Bits = u128;

/// Among the pairs, a byte that may stand between a name and what is assigned to it, whatever the one before.
pub(super) const ASSIGNS: u64 = 1 << 62;
/// The same for a byte that may stand for another, or for none.
pub(super) const BENDS: u64 = 1 << 63;
/// The same for a mark of Markdown, and for the end of a line.
pub(super) const BREAKS: u64 = 1 << 61;
/// All that are no pairs.
pub(super) const SIGNS: u64 = ASSIGNS | BENDS | BREAKS;

/// What one byte means, wherever it stands.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Meaning {
    /// The runs that it goes on with.
    pub(super) goes_on: Bits,
    /// The pairs that it is the first byte of.
    pub(super) first: u64,
    /// The pairs that it is the second byte of.
    pub(super) second: u64,
    /// The pairs that can begin behind it.
    pub(super) allows: u64,
    /// All bits if it is a letter or a digit, else none.
    pub(super) alphanumeric: u32,
    /// Where its column in the table of words begins.
    pub(super) column: u32,
}

/// What a row asks of the next byte.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// One of a set.
    Byte(ByteSet),
    /// A run of a set.
    Run {
        /// The set's bit.
        bit: u8,
        min: u32,
        /// `u32::MAX`: without an end.
        max: u32,
    },
}

/// One row of one rule.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) rule: u16,
    /// How many bytes a match has at least.
    pub(super) least: usize,
    /// It has no beginning of its own: what is assigned to a name is judged by it.
    pub(super) is_assigned: bool,
    pub(super) steps: Box<[Step]>,
}

impl Row {
    /// Whether its next step, from the beginning on, is one that a byte may be the first of.
    pub(super) fn may_begin_with(&self, byte: u8, rules: &Rules) -> bool {
        match self.steps.first() {
            Some(Step::Byte(set)) => set.contains(byte),
            Some(Step::Run { bit, .. }) => rules.meanings[usize::from(byte)].goes_on >> bit & 1 != 0,
            None => true,
        }
    }
}

/// What holds for all rows of a rule.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) kind: Kind,
    pub(super) starts: Starts,
    pub(super) ends: Ends,
    /// The words one of which must stand before it, by their numbers in `Rules::near`.
    pub(super) near: Box<[u16]>,
    pub(super) entropy: f32,
    pub(super) check: Option<Check>,
    pub(super) not: Box<[Box<[u8]>]>,
}

impl Compiled {
    /// Whether a match may turn out to be no value.
    pub(super) fn is_checked(&self) -> bool {
        self.entropy > 0.0 || self.check.is_some() || !self.not.is_empty()
    }
}

/// What a word means where it ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// It is a part of a name that a value may be assigned to.
    Name,
    /// It is a word that a rule wants near.
    Near,
    /// A row begins with it.
    Begins(u16),
    /// An address has it in the middle: `@`.
    At,
    /// It stands for the name before it: `value`.
    Value,
}

/// A use of a word, with its very letters where case makes a difference.
pub(super) type Usage = (Use, Option<Box<[u8]>>);

/// A word that is looked for.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) length: u8,
    /// It begins and ends with a letter or a digit.
    pub(super) is_alphanumeric: bool,
    pub(super) uses: Box<[Usage]>,
    /// The rows of what is assigned to it.
    pub(super) assigned: Box<[u16]>,
    /// The pairs of rows that want it near.
    pub(super) near_pairs: u64,
}

/// Rules, ready to be followed.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) meanings: Box<[Meaning; 256]>,
    sets: Box<[ByteSet]>,
    pub(super) keywords: Keywords,
    pub(super) words: Box<[Word]>,
    pub(super) rows: Box<[Row]>,
    /// What holds for all rows of each rule.
    pub(super) compiled: Box<[Compiled]>,
    /// The rows of each pair, and how many of their bytes stand before its second.
    pub(super) pairs: Box<[(Box<[u16]>, u8)]>,
    /// The rows that are tried at long words.
    pub(super) long: Box<[u16]>,
    /// The pairs of which all rows want a word near.
    pub(super) near_pairs: u64,
    /// The pair that numbers begin with, if they are looked for.
    pub(super) number_pair: u64,
    /// The pair of a colon in an address and what stands before it, if they are looked for.
    pub(super) colon_pair: u64,
    pub(super) number_bit: u8,
    pub(super) domain_bit: u8,
    pub(super) hex_bit: u8,
    pub(super) tail_bit: u8,
    /// What goes on without a break where a value has no end.
    pub(super) unbroken_bit: u8,
}

/// Why a rule can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Its pattern can't be followed.
    #[error("{0}")]
    Pattern(#[from] PatternError),
    /// Together with the others it takes more than there can be.
    #[error("together with those before it, it takes too many different classes, beginnings or alternatives, or too long repetitions")]
    TooMany,
    /// It matches a single byte.
    #[error("it matches a single character: a value has at least two")]
    TooShort,
}

/// What of numbers and addresses is looked for beside the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) numbers: bool,
    pub(super) emails: bool,
    pub(super) addresses: bool,
}

/// Letters, digits and `_`: what a word is made of.
pub(super) const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The same and `-`: what a token goes on with.
pub(super) const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// What the part of an e-mail address before the `@` is made of here: letters, digits and the marks that mail services take.
pub(super) fn is_local_byte(byte: u8) -> bool {
    LOCAL[usize::from(byte)]
}

static LOCAL: [bool; 256] = table(b"._%+-");

/// Letters, digits and some more, to be looked up.
pub(super) const fn table(more: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte.is_ascii() {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < more.len() {
        table[more[at] as usize] = true;
        at += 1;
    }
    table
}

#[derive(Default)]
struct Builder {
    sets: Vec<ByteSet>,
    rows: Vec<Row>,
    rules: Vec<Compiled>,
    /// By the word in small letters: whether it is held, its uses, and the rows assigned to it.
    words: BTreeMap<Vec<u8>, Entry>,
    /// By the rule: the words that it wants near.
    near: Vec<Vec<Vec<u8>>>,
    pairs: Vec<(Pair, Vec<u16>)>,
    /// Rows that begin with so many letters and digits that few words do.
    long: Vec<u16>,
}

#[derive(Default)]
struct Entry {
    is_held: bool,
    uses: Vec<Usage>,
    assigned: Vec<u16>,
    near_pairs: u64,
}

/// The same row twice, where it begins with one byte of a class or with more: once for each, since rows are found by two bytes.
fn told_apart(row: Vec<Run>, rule: &Rule<'_>) -> Vec<Vec<Run>> {
    match row.as_slice() {
        [first @ Run { min: 1, .. }, rest @ ..] if rule.assigned_to.is_empty() && !rest.is_empty() && first.max != Some(1) => {
            let (one, more) = (Run { max: Some(1), ..*first }, Run { min: 2, ..*first });
            vec![[&[one], rest].concat(), [&[more], rest].concat()]
        }
        _ => vec![row],
    }
}

/// Whether a row begins with letters and digits enough.
fn is_long(runs: &[Run]) -> bool {
    let is_alphanumeric = |run: &&Run| run.set.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut length = 0;
    for run in runs.iter().take_while(is_alphanumeric) {
        length += run.min as usize;
        if length >= LONG || run.max != Some(run.min) {
            break;
        }
    }
    length >= LONG
}

/// Two bytes, one behind the other, by which it is seen that rows may have begun.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pair {
    first: ByteSet,
    second: ByteSet,
    /// How many bytes of the rows stand before the second.
    before: u8,
    /// Where one byte of the rows stands before the second: what doesn't stand before that.
    not_behind: ByteSet,
    /// The rows want a word near.
    is_near: bool,
}

impl Pair {
    /// Of the first bytes of a row those two that stand most seldom in prose.
    fn of(runs: &[Run], rule: &Rule<'_>) -> Result<Self, RuleError> {
        let mut sets = Vec::new();
        for run in runs {
            let fixed = if run.max == Some(run.min) { run.min as usize } else { 1 };
            sets.extend(std::iter::repeat_n(run.set, fixed.min(MAX_BEFORE + 1)));
            // Behind a run of which it isn't known where it ends nothing has a place.
            if run.max != Some(run.min) {
                sets.extend((run.min > 1).then_some(run.set));
                break;
            }
            if sets.len() > MAX_BEFORE {
                break;
            }
        }
        let is_alphanumeric = |set: &ByteSet| set.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let may_be = |before: &usize| *before == 1 || sets[..*before].iter().all(is_alphanumeric);
        let chance = |before: &usize| often(&sets[before - 1]) * often_behind(&sets[before - 1], &sets[*before]);
        let last = sets.len().saturating_sub(1).min(MAX_BEFORE);
        let before = (1..=last).filter(may_be).min_by(|one, other| chance(one).total_cmp(&chance(other))).ok_or(RuleError::TooShort)?;
        Ok(Self {
            first: sets[before - 1],
            second: sets[before],
            before: u8::try_from(before).map_err(|_| RuleError::TooShort)?,
            not_behind: if rule.starts == Starts::Word { ByteSet::of(is_of_word) } else { ByteSet::EMPTY },
            is_near: !rule.near.is_empty(),
        })
    }
}

/// How often a byte of prose or source code is one of a set, about.
fn often(set: &ByteSet) -> f32 {
    let share = |byte: u8| match byte {
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 0.06,
        b'a'..=b'z' => 0.02,
        b'A'..=b'Z' => 0.003,
        b'0'..=b'9' => 0.004,
        b' ' => 0.15,
        b'.' | b',' | b'\n' => 0.01,
        _ => 0.002,
    };
    set.bytes().map(share).sum()
}

/// The same of a byte behind one of another set: a digit mostly stands behind another, and seldom behind a letter.
fn often_behind(first: &ByteSet, second: &ByteSet) -> f32 {
    let is_of = |set: &ByteSet, fits: fn(&u8) -> bool| set.bytes().all(|byte| fits(&byte));
    if !is_of(second, u8::is_ascii_digit) {
        return often(second);
    }
    if is_of(first, u8::is_ascii_digit) {
        0.5
    } else if is_of(first, u8::is_ascii_alphabetic) {
        0.01
    } else {
        often(second)
    }
}

/// What stands for the name that was told before: `name: PASSWORD`, `value: …`.
const VALUE: &[u8] = b"value";

impl Rules {
    /// Compiles rules, each with its kind.
    pub(super) fn new<'r>(rules: impl IntoIterator<Item = (Kind, &'r Rule<'r>)>, beside: Beside) -> Result<Self, RuleError> {
        let mut builder = Builder::default();
        let number_bit = builder.set(ByteSet::of(super::personal::is_number_byte))?;
        let domain_bit = builder.set(ByteSet::of(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')))?;
        let hex_bit = builder.set(ByteSet::of(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')))?;
        let tail_bit = builder.set(ByteSet::of(is_word_byte))?;
        let unbroken_bit = builder.set(ByteSet::of(|byte| is_local_byte(byte) || byte == b'@'))?;
        for (kind, rule) in rules {
            builder.add(kind, rule)?;
        }
        let mut number_pair = 0;
        if beside.numbers {
            // Behind a letter, too: `x1111 2222`. What begins behind a digit began with that.
            let first = ByteSet::of(super::personal::begins_numbers);
            number_pair = 1
                << builder.pair(Pair {
                    first,
                    second: ByteSet::of(super::personal::is_number_byte),
                    before: 1,
                    not_behind: ByteSet::of(|byte| byte.is_ascii_digit()),
                    is_near: false,
                })?;
        }
        if builder.rows.iter().any(|row| row.is_assigned) {
            builder.words.entry(VALUE.to_vec()).or_default().uses.push((Use::Value, None));
        }
        if beside.emails {
            builder.words.entry(b"@".to_vec()).or_default().uses.push((Use::At, None));
        }
        let mut colon_pair = 0;
        if beside.addresses {
            let colon = |byte| byte == b':';
            let first = ByteSet::of(|byte| byte.is_ascii_hexdigit() || colon(byte));
            colon_pair =
                1 << builder.pair(Pair { first, second: ByteSet::of(colon), before: 1, not_behind: ByteSet::EMPTY, is_near: false })?;
        }
        let mut meanings = builder.meanings();
        let Builder { sets, rows, mut rules, words, near, pairs, long } = builder;
        let numbered: BTreeMap<&[u8], u16> = (0..).zip(&words).map(|(number, (word, _))| (word.as_slice(), number)).collect();
        for (rule, near) in rules.iter_mut().zip(&near) {
            rule.near = near.iter().filter_map(|word| numbered.get(word.as_slice()).copied()).collect();
        }
        let spelled: Vec<(Vec<u8>, bool)> = words.iter().map(|(word, entry)| (word.clone(), entry.is_held)).collect();
        let keywords = Keywords::new(&spelled).ok_or(RuleError::TooMany)?;
        for (byte, meaning) in (0..=u8::MAX).zip(meanings.iter_mut()) {
            meaning.column = keywords.column(byte);
        }
        let word = |(word, entry): (Vec<u8>, Entry)| Word {
            length: u8::try_from(word.len()).unwrap_or(u8::MAX),
            is_alphanumeric: [word.first(), word.last()].into_iter().flatten().all(u8::is_ascii_alphanumeric),
            uses: entry.uses.into(),
            assigned: entry.assigned.into(),
            near_pairs: entry.near_pairs,
        };
        Ok(Self {
            meanings,
            sets: sets.into(),
            keywords,
            words: words.into_iter().map(word).collect(),
            rows: rows.into(),
            compiled: rules.into(),
            long: long.into(),
            near_pairs: (0..).zip(&pairs).map(|(bit, (pair, _))| u64::from(pair.is_near) << bit).sum(),
            pairs: pairs.into_iter().map(|(pair, rows)| (rows.into(), pair.before)).collect(),
            number_pair,
            colon_pair,
            number_bit,
            domain_bit,
            hex_bit,
            tail_bit,
            unbroken_bit,
        })
    }
}

impl Rules {
    /// The set of a bit.
    pub(super) fn set(&self, bit: u8) -> ByteSet {
        self.sets.get(usize::from(bit)).copied().unwrap_or(ByteSet::EMPTY)
    }

    /// How many bytes the tables take, about.
    pub(super) fn size(&self) -> usize {
        let rows: usize = self.rows.iter().map(|row| size_of::<Row>() + size_of_val(&*row.steps)).sum();
        self.keywords.size() + size_of::<[Meaning; 256]>() + rows + self.compiled.len() * size_of::<Compiled>()
    }
}

impl Builder {
    fn set(&mut self, set: ByteSet) -> Result<u8, RuleError> {
        let place = self.sets.iter().position(|known| *known == set).unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        u8::try_from(place).ok().filter(|place| usize::from(*place) < MAX_SETS).ok_or(RuleError::TooMany)
    }

    fn pair(&mut self, pair: Pair) -> Result<u8, RuleError> {
        let place = self.pairs.iter().position(|(known, _)| *known == pair).unwrap_or_else(|| {
            self.pairs.push((pair, Vec::new()));
            self.pairs.len() - 1
        });
        u8::try_from(place).ok().filter(|place| usize::from(*place) < MAX_PAIRS).ok_or(RuleError::TooMany)
    }

    fn add(&mut self, kind: Kind, rule: &Rule<'_>) -> Result<(), RuleError> {
        let number = u16::try_from(self.rules.len()).map_err(|_| RuleError::TooMany)?;
        let lower = |text: &&str| text.to_ascii_lowercase().into_bytes();
        let near: Vec<Vec<u8>> = rule.near.iter().map(lower).collect();
        let mut pairs = 0;
        for runs in rows(rule.pattern)?.into_iter().flat_map(|row| told_apart(row, rule)) {
            pairs |= self.add_row(number, rule, &runs)?;
        }
        for word in &near {
            let entry = self.words.entry(word.clone()).or_default();
            entry.near_pairs |= pairs;
            if !entry.uses.iter().any(|(other, _)| matches!(other, Use::Near)) {
                entry.uses.push((Use::Near, None));
            }
        }
        self.near.push(near);
        self.rules.push(Compiled {
            kind,
            starts: rule.starts,
            ends: rule.ends,
            // Words have numbers once all are known.
            near: Box::new([]),
            entropy: rule.entropy,
            check: rule.check,
            not: rule.not.iter().map(|text| lower(text).into()).collect(),
        });
        Ok(())
    }

    /// Adds a row of a rule. Gives its pair, if it is found by one.
    fn add_row(&mut self, rule: u16, of: &Rule<'_>, runs: &[Run]) -> Result<u64, RuleError> {
        let mut pair = 0;
        let number = u16::try_from(self.rows.len()).ok().filter(|number| usize::from(*number) < MAX_ROWS).ok_or(RuleError::TooMany)?;
        let least = runs.iter().map(|run| run.min as usize).sum();
        let mut runs = runs.to_vec();
        if of.assigned_to.is_empty() {
            let (word, any_case) = beginning(&runs);
            // A single byte stands too often.
            if word.len() > SHORT || word.len() == SHORT && !(of.starts == Starts::Word && is_long(&runs)) {
                runs.drain(..word.len());
                let lower = word.to_ascii_lowercase();
                let entry = self.words.entry(lower).or_default();
                entry.is_held = true;
                entry.uses.push((Use::Begins(number), (!any_case).then(|| word.into())));
            } else if of.starts == Starts::Word && is_long(&runs) {
                self.long.push(number);
            } else {
                let place = self.pair(Pair::of(&runs, of)?)?;
                self.pairs[usize::from(place)].1.push(number);
                pair = 1 << place;
            }
        } else {
            for name in of.assigned_to {
                let entry = self.words.entry(name.to_ascii_lowercase().into_bytes()).or_default();
                if !entry.uses.iter().any(|(other, _)| matches!(other, Use::Name)) {
                    entry.uses.push((Use::Name, None));
                }
                entry.assigned.push(number);
            }
        }
        let mut steps = Vec::with_capacity(runs.len());
        for Run { set, min, max } in runs {
            steps.push(match (min, max) {
                (1, Some(1)) => Step::Byte(set),
                _ => Step::Run { bit: self.set(set)?, min, max: max.unwrap_or(u32::MAX) },
            });
        }
        self.rows.push(Row { rule, least, is_assigned: !of.assigned_to.is_empty(), steps: steps.into() });
        Ok(pair)
    }

    fn meanings(&self) -> Box<[Meaning; 256]> {
        let mut meanings = Box::new([Meaning { goes_on: 0, first: SIGNS, second: 0, allows: u64::MAX, alphanumeric: 0, column: 0 }; 256]);
        for (byte, meaning) in (0..=u8::MAX).zip(meanings.iter_mut()) {
            for (bit, set) in self.sets.iter().enumerate() {
                meaning.goes_on |= Bits::from(set.contains(byte)) << bit;
            }
            for (bit, (pair, _)) in self.pairs.iter().enumerate() {
                meaning.first |= u64::from(pair.first.contains(byte)) << bit;
                meaning.second |= u64::from(pair.second.contains(byte)) << bit;
                let blocks = pair.before == 1 && pair.not_behind.contains(byte);
                meaning.allows &= !(u64::from(blocks) << bit);
            }
            meaning.alphanumeric = if byte.is_ascii_alphanumeric() { u32::MAX } else { 0 };
            if super::bend::may_bend(byte) {
                meaning.second |= if super::bend::is_of_characters(byte) { BENDS } else { BREAKS };
            }
            if matches!(byte, b'=' | b':' | b'>' | b',' | b'(') {
                meaning.second |= ASSIGNS;
            }
        }
        meanings
    }
}

/// The text that every match of a row begins with, and whether its case makes no difference: in all of it or in none.
pub(super) fn beginning(runs: &[Run]) -> (Vec<u8>, bool) {
    let mut word = Vec::new();
    let mut any_case = None;
    for run in runs.iter().take(MAX_WORD) {
        let (1, Some(1), Some((byte, of_both_cases))) = (run.min, run.max, run.set.letter()) else { break };
        if byte.is_ascii_alphabetic() && *any_case.get_or_insert(of_both_cases) != of_both_cases {
            break;
        }
        word.push(byte);
    }
    (word, any_case.unwrap_or(true))
}

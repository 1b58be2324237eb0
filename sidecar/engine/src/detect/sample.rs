//! Made-up values: for each rule of the pack one that it finds, for tests and for those who try a policy out.
//!
//! Values are drawn from the rules' own patterns, so that none has to be written down anywhere.

use super::compiled::{Beside, Row, Rules, Step};
use super::kind::Kind;
use super::matcher;
use super::rule::{Rule, Starts};

/// How often a value is drawn until one has the entropy and the check digits that its rule asks for.
const TRIES: u64 = 4_000;

/// How long a run without an end is drawn at least.
const READABLE: u32 = 8;

/// A made-up value, and what has to stand around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What it is.
    pub kind: Kind,
    /// What stands before it: a name to which it is assigned, a word that has to be near.
    pub before: String,
    /// The value.
    pub value: String,
    /// What stands behind it.
    pub after: String,
}

impl Sample {
    /// All of it as one text.
    #[must_use]
    pub fn text(&self) -> String {
        [self.before.as_str(), &self.value, &self.after].concat()
    }
}

/// Samples of a kind: for each of its rules one of each row, as far as chance finds any. Those of kinds that are numbers or addresses have no
/// rules to draw from.
#[must_use]
pub fn samples(kind: Kind, seed: u64) -> Vec<Sample> {
    kind.rules().iter().flat_map(|rule| of_rule(kind, rule, seed)).collect()
}

fn of_rule(kind: Kind, rule: &Rule, seed: u64) -> Vec<Sample> {
    // Drawn as if it stood alone, so that its rows begin with their first byte.
    let alone = Rule { assigned_to: &["x"], near: &[], starts: Starts::Word, ..*rule };
    let Ok(rules) = Rules::new([(kind, &alone)], Beside::default()) else { return Vec::new() };
    let near = rule.near.first().map(|word| format!("{word} ")).unwrap_or_default();
    let (before, after) = match (rule.assigned_to.first(), rule.starts) {
        (Some(name), Starts::Argument) => {
            let around = char::from(matcher::AROUND_ARGUMENT);
            (format!("{near}{around}{name}{}", matcher::BEFORE_ARGUMENT), String::new())
        }
        (Some(name), Starts::Behind(byte)) => (format!("{near}{name} = {}", char::from(byte)), String::new()),
        (Some(name), Starts::Anywhere | Starts::Word) => (format!("{near}{name} = \""), "\"".to_owned()),
        (None, _) => (near, " ".to_owned()),
    };
    let draw = |row: &Row| {
        (0..TRIES).find_map(|attempt| {
            let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9).wrapping_add(attempt));
            let longer = u32::try_from(attempt % 3).unwrap_or_default();
            let mut value = Vec::new();
            for step in &row.steps {
                let (set, count) = match step {
                    Step::Byte(set) => (*set, 1),
                    Step::Run { bit, min, max } => (rules.set(*bit), (*min).max(READABLE).saturating_add(longer).min(*max).max(*min)),
                };
                // What reads well stands for what doesn't.
                let readable: Vec<u8> = set.bytes().filter(u8::is_ascii_alphanumeric).collect();
                let bytes: Vec<u8> = if readable.is_empty() { set.bytes().filter(u8::is_ascii).collect() } else { readable };
                value.extend((0..count).filter_map(|_| bytes.get(chance.below(bytes.len())).copied()));
            }
            let range = matcher::value(&rules.compiled[0], &value, row.least)?;
            let text = String::from_utf8(value).ok()?;
            // Where only a part of the match is the value, the rest stands around it.
            Some((text.get(..range.start)?.to_owned(), text.get(range.clone())?.to_owned(), text.get(range.end..)?.to_owned()))
        })
    };
    let drawn = rules.rows.iter().filter_map(draw);
    let sample = |(first, value, rest): (String, String, String)| Sample {
        kind,
        before: [before.as_str(), &first].concat(),
        value,
        after: [rest.as_str(), &after].concat(),
    };
    drawn.map(sample).collect()
}

/// Numbers that look like chance and are the same each time (Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    #[expect(clippy::cast_possible_truncation, reason = "a bound is at most 256")]
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let mixed = mixed ^ (mixed >> 31);
        (mixed % bound.max(1) as u64) as usize
    }
}

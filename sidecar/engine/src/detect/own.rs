//! Patterns that a policy brings: kinds of its own, found as the pack's are.
//!
//! The invariant: they have tables of their own. So what the pack grows by takes no room from them, and a policy costs what its own
//! patterns cost.

use super::allow::Allowed;
use super::compiled::{Beside, RuleError, Rules, beginning};
use super::kind::Kind;
use super::matcher::{Asked, Wanted};
use super::pattern::{ByteSet, PatternError, Run, rows};
use super::rule::{Ends, Rule, Starts, TOKEN};

/// The most bytes that the tables of a policy's patterns take.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// The most bytes that all ways to read them come to, as long as each may become that has an end: a text made to hurt keeps as many begun.
const MAX_LENGTH: usize = 4 * 1024;

/// A pattern of a policy's own.
#[derive(Clone, Copy, Debug)]
pub struct Pattern<'p> {
    /// What its values are.
    pub kind: Kind,
    /// What a value looks like, as [`Rule`] has it. One that begins with a text of at least two characters is found anywhere, any other
    /// only where no letter, digit or underscore stands before it.
    pub pattern: &'p str,
    /// Words one of which has to stand before a value.
    pub near: &'p [&'p str],
    /// Where a value ends.
    pub ends: Ends,
    /// The least entropy of a value, in bits a byte; nought: any.
    pub entropy: f32,
}

impl<'p> Pattern<'p> {
    /// The rule, and how long all ways to read it are.
    fn rule(&self) -> Result<(Rule<'p>, usize), RuleError> {
        let Self { kind: _, pattern, near, ends, entropy } = *self;
        let rows = rows(pattern)?;
        for row in &rows {
            check_characters(row)?;
        }
        let is_text = rows.iter().all(|row| beginning(row).0.len() >= 2);
        let starts = if is_text { Starts::Anywhere } else { Starts::Word };
        let length = rows.iter().flatten().map(|run| run.max.unwrap_or(run.min) as usize).sum();
        Ok((Rule { pattern, near, starts, ends, entropy, ..TOKEN }, length))
    }
}

/// Whether a row begins and ends between characters, whatever it matches.
fn check_characters(row: &[Run]) -> Result<(), PatternError> {
    let is_wide = |byte: u8| !byte.is_ascii();
    let all_wide = ByteSet::of(is_wide);
    let mut character = Vec::new();
    for (place, run) in row.iter().enumerate() {
        match (run.set.letter(), run.min, run.max) {
            (Some((byte, false)), 1, Some(1)) if is_wide(byte) => {
                character.push(byte);
                continue;
            }
            _ => {}
        }
        let is_whole = std::str::from_utf8(&std::mem::take(&mut character)).is_ok();
        let has_wide = run.set.bytes().any(is_wide);
        // What goes on as long as there are any of them ends behind a whole one.
        let may_have = place > 0 && run.max.is_none() && all_wide.bytes().all(|byte| run.set.contains(byte));
        if !is_whole || has_wide && !may_have {
            return Err(PatternError::Unsupported(
                "a class with characters beyond ASCII in it, as . and [^…] have, and a fixed number of them: name those that are meant, as in [A-Za-z0-9], or let it repeat without an end, not in the first place",
            ));
        }
    }
    match std::str::from_utf8(&character) {
        Ok(_) => Ok(()),
        Err(_) => Err(PatternError::Unsupported("a part of a character: write the whole one")),
    }
}

/// Patterns, ready to be looked for.
#[derive(Debug)]
pub struct Patterns {
    rules: Rules,
    wanted: Wanted,
}

/// A pattern that can't be looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct PatternsError {
    /// Which of them.
    pub place: usize,
    /// Why.
    #[source]
    pub error: RuleError,
}

impl Patterns {
    /// Compiles patterns. They share what there is room for.
    pub fn new(patterns: &[Pattern<'_>]) -> Result<Self, PatternsError> {
        let mut rules = Vec::with_capacity(patterns.len());
        for (place, pattern) in patterns.iter().enumerate() {
            let (rule, length) = pattern.rule().map_err(|error| PatternsError { place, error })?;
            rules.push((pattern.kind, rule, length));
        }
        let compile = |count: usize| {
            let first = || rules.iter().take(count);
            let compiled = Rules::new(first().map(|(kind, rule, _)| (*kind, rule)), Beside::default())?;
            let length: usize = first().map(|(_, _, length)| length).sum();
            if compiled.size() > MAX_BYTES || length > MAX_LENGTH { Err(RuleError::TooMany) } else { Ok(compiled) }
        };
        let rules = compile(patterns.len()).map_err(|whole| {
            // Which is the first with which it fails: so it does with all behind it.
            let counts: Vec<usize> = (1..=patterns.len()).collect();
            let place = counts.partition_point(|count| compile(*count).is_ok());
            PatternsError { place, error: compile(place + 1).err().unwrap_or(whole) }
        })?;
        let kinds: Vec<Kind> = patterns.iter().map(|pattern| pattern.kind).collect();
        Ok(Self { rules, wanted: Wanted::new(&kinds) })
    }

    pub(super) fn asked<'r>(&'r self, allowed: &'r Allowed) -> Asked<'r> {
        Asked { rules: &self.rules, wanted: &self.wanted, numbers: false, emails: false, addresses: false, allowed }
    }

    pub(super) fn size(&self) -> usize {
        self.rules.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(patterns: &[&str]) -> Result<Patterns, (usize, String)> {
        let own = |pattern| Pattern { kind: Kind::CUSTOM, pattern, near: &[], ends: Ends::Run, entropy: 0.0 };
        Patterns::new(&patterns.iter().copied().map(own).collect::<Vec<_>>()).map_err(|error| (error.place, error.to_string()))
    }

    fn said(pattern: &str) -> String {
        compile(&["EMP-[0-9]{6}", pattern]).map_or_else(|(place, said)| format!("{place}: {said}"), |_| "it is taken".to_owned())
    }

    #[test]
    fn what_can_be_followed_is_taken_wherever_it_begins() {
        for pattern in [
            "EMP-[0-9]{6}",
            "[0-9]{3}-[0-9]{2}",
            "[a-z]+-[0-9]{4}",
            "(?i)emp[0-9]{4,}",
            "(?:A|BC)[0-9]{5}",
            "#[0-9]{5}",
            "Straße-[0-9]+",
            "no=[^\\s]+",
        ] {
            assert_eq!(said(pattern), "it is taken", "{pattern}");
        }
    }

    #[test]
    fn what_would_cut_a_character_in_two_is_refused() {
        for pattern in ["EMP-.{6}", "[^,]+,", "EMP[^a]b", "EMP[^a]{2,4}", "EMP(?-u:\\xC3)", "EMP[\\xC0-\\xFF]+"] {
            assert!(said(pattern).starts_with("1: it has "), "{pattern}: {}", said(pattern));
        }
    }

    #[test]
    fn what_is_too_much_is_told_of_where_it_is_too_much() {
        let class =
            |number: u32| (0..7).filter(|bit| (number + 65) >> bit & 1 != 0).map(|bit| char::from(b"ABCDEFG"[bit])).collect::<String>();
        let many: Vec<String> = (0..63).map(|number| format!("[{}Z][0-9]{{5}}", class(number))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let told = compile(&many).map(|_| ()).unwrap_err();
        assert!(told.1.contains("together with those before it"), "{told:?}");
        assert!(compile(&many[..told.0]).is_ok());
        // One that is long alone, and several that are together.
        assert_eq!(compile(&["A-[ -~]{4000}"]).map(|_| ()), Ok(()));
        let (place, said) = compile(&["A-[ -~]{2000}", "B-[ -~]{2000}", "C-[0-9]{4}", "D-[a-z]{3000}"]).map(|_| ()).unwrap_err();
        assert!(place == 3 && said.contains("repetitions"), "{place}: {said}");
        // A few dozen of the usual ones have room.
        let usual: Vec<String> = (0..64).map(|number| format!("PRJ{number}-[0-9]{{4,8}}")).collect();
        assert!(compile(&usual.iter().map(String::as_str).collect::<Vec<_>>()).is_ok());
    }
}

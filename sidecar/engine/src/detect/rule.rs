//! What a kind of secret or of personal data is, as data: its name, and the rules by which it is found.
//!
//! A rule is a pattern, and what must hold around and of the text that it matches. Each stands for itself: it finds its values whatever
//! others find, and what several find, overlapping, is replaced as one.

use std::ops::Range;

/// A kind of value, as the pack defines it.
#[derive(Clone, Copy, Debug)]
pub struct KindSpec {
    /// The name in metrics, logs and marks: capitals, digits and underscores. A policy writes it in camel case.
    pub name: &'static str,
    /// What it is, in a few words, for the reference.
    pub about: &'static str,
    /// How it is found: by any of these.
    pub rules: &'static [Rule<'static>],
}

/// One way in which a kind is found.
///
/// # The pattern
///
/// A regular expression over bytes (syntax of the crate `regex`, without Unicode and without look-around), anchored where it begins,
/// which has to be readable from left to right without a second thought: wherever it repeats a class, either the number is fixed
/// (`[a-z]{8}`), or what follows begins with a byte that isn't in the class. Groups, alternatives and optional parts are written out to
/// single rows, of which there may be 64. What repeats in the last place takes as much as there is.
///
/// A pattern begins with a text of at least two bytes that every match has (an alternative may have its own), unless the rule has
/// `assigned_to`.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'r> {
    /// What a value looks like.
    pub pattern: &'r str,
    /// Parts of a name, whatever their case, to which the value is assigned (`NAME_token = "VALUE"`, `"name": "VALUE"`, `name => VALUE`).
    /// Only the value is replaced. Empty: the value speaks for itself.
    pub assigned_to: &'r [&'r str],
    /// Words, whatever their case, one of which ends at most 48 bytes before the value. Empty: none is needed.
    pub near: &'r [&'r str],
    /// Where it may begin.
    pub starts: Starts,
    /// Where it may end.
    pub ends: Ends,
    /// The least Shannon entropy of the value, in bits a byte. Zero: any.
    pub entropy: f32,
    /// Which part of what the pattern matched is the value, if any is: checksums, allow-lists, and trimming.
    pub check: Option<Check>,
    /// Texts, whatever their case, that a value doesn't hold: those of examples and placeholders.
    pub not: &'r [&'r str],
}

/// Which part of what a pattern matched is the value, if any is.
pub type Check = fn(&[u8]) -> Option<Range<usize>>;

/// Where a value may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// Anywhere, also behind a letter: `\n` and the like end in one where source code is quoted.
    Anywhere,
    /// Not behind a letter, a digit or an underscore.
    Word,
    /// Behind this byte. (For what is assigned to a name.)
    Behind(u8),
    /// Where what a call's argument says begins, if the argument's name ends with one that the rule knows. (The same.)
    Argument,
}

/// Where a value may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It takes what follows without a gap (letters, digits, `_`, `-`), so that nothing of a longer value stays.
    Run,
    /// What follows is no letter, digit, `_` or `-`; else it is no value.
    Word,
    /// Where the pattern ends.
    Pattern,
}

/// A value that speaks for itself, wherever it stands.
pub const TOKEN: Rule<'static> =
    Rule { pattern: "", assigned_to: &[], near: &[], starts: Starts::Anywhere, ends: Ends::Run, entropy: 0.0, check: None, not: &[] };

/// A value that is one since it is assigned to a name.
pub const ASSIGNED: Rule<'static> = Rule { starts: Starts::Word, ends: Ends::Word, ..TOKEN };

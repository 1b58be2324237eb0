//! Patterns, read as rows of runs: what the matcher can follow byte by byte without a second thought.
//!
//! The invariant: in a row, wherever a run may end at several places, no byte that goes on with it begins what follows it. So a row is in
//! one state at a time, whatever the text.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};
use regex_syntax::utf8::Utf8Sequences;

/// The most rows that one pattern may stand for.
const MAX_ROWS: usize = 64;
/// The most runs of a row.
const MAX_RUNS: usize = 192;
/// The most bytes of a run that has an end, and of what must be there of one that has none.
const MAX_COUNT: u32 = 4096;

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) const EMPTY: Self = Self([0; 4]);

    pub(super) fn of(test: impl Fn(u8) -> bool) -> Self {
        let mut set = Self::EMPTY;
        (0..=u8::MAX).filter(|byte| test(*byte)).for_each(|byte| set.insert(byte));
        set
    }

    pub(super) const fn insert(&mut self, byte: u8) {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
    }

    pub(super) const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] >> (byte & 63) & 1 != 0
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(mine, theirs)| mine & theirs != 0)
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|byte| self.contains(*byte))
    }

    /// The one byte that is in it, or the small letter of the two that differ in case alone; and whether it is those two.
    pub(super) fn letter(&self) -> Option<(u8, bool)> {
        let mut bytes = self.bytes();
        match (bytes.next(), bytes.next(), bytes.next()) {
            (Some(byte), None, _) => Some((byte, false)),
            (Some(upper), Some(lower), None) if upper.is_ascii_uppercase() && lower == upper.to_ascii_lowercase() => Some((lower, true)),
            _ => None,
        }
    }
}

/// Bytes of one set, so many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) set: ByteSet,
    /// At least one.
    pub(super) min: u32,
    /// None: without an end.
    pub(super) max: Option<u32>,
}

/// Why a pattern can't be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no regular expression.
    #[error("it is no regular expression: {0}")]
    Syntax(String),
    /// It asks for something that a stream can't tell.
    #[error("it has {0}")]
    Unsupported(&'static str),
    /// A run could end at more than one place.
    #[error(
        "what follows '{0}' may begin as that goes on, so that it isn't known where the one ends: repeat a class a fixed number of times, or let a character follow that it doesn't have"
    )]
    Ambiguous(String),
    /// It stands for too many rows, or for too long ones.
    #[error(
        "its alternatives and repetitions come to too much: at most 64 ways to read it, each of at most 192 parts, repeated at most 4096 times"
    )]
    TooLarge,
    /// It matches an empty text.
    #[error("it matches an empty text: a value has at least two characters")]
    Empty,
}

/// The rows that a pattern stands for.
pub(super) fn rows(pattern: &str) -> Result<Vec<Vec<Run>>, PatternError> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).nest_limit(32).build();
    let hir = parser.parse(pattern).map_err(|error| {
        // The last line says what is wrong; those before it draw where.
        let text = error.to_string();
        PatternError::Syntax(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    let mut rows = lower(&hir)?;
    for row in &mut rows {
        join_equals(row);
        check(row)?;
    }
    Ok(rows)
}

fn lower(hir: &Hir) -> Result<Vec<Vec<Run>>, PatternError> {
    Ok(match hir.kind() {
        HirKind::Empty => vec![Vec::new()],
        HirKind::Literal(literal) => {
            let one = |byte: &u8| Run { set: ByteSet::of(|other| other == *byte), min: 1, max: Some(1) };
            vec![literal.0.iter().map(one).collect()]
        }
        HirKind::Class(class) => {
            let one = |set| Run { set, min: 1, max: Some(1) };
            match class {
                Class::Bytes(bytes) => {
                    vec![vec![one(ByteSet::of(|byte| bytes.iter().any(|range| (range.start()..=range.end()).contains(&byte))))]]
                }
                // What alternatives of one character each are taken for.
                Class::Unicode(chars) => {
                    let of_ascii = |byte: u8| chars.iter().any(|range| (range.start()..=range.end()).contains(&char::from(byte)));
                    let ascii = ByteSet::of(|byte| byte.is_ascii() && of_ascii(byte));
                    let mut rows = if ascii == ByteSet::EMPTY { Vec::new() } else { vec![vec![one(ascii)]] };
                    let beyond = chars.iter().filter(|range| !range.end().is_ascii());
                    for sequence in beyond.flat_map(|range| Utf8Sequences::new(range.start().max('\u{80}'), range.end())) {
                        rows.push(sequence.as_slice().iter().map(|range| one(ByteSet::of(|byte| range.matches(byte)))).collect());
                    }
                    if rows.len() > MAX_ROWS {
                        return Err(PatternError::TooLarge);
                    }
                    rows
                }
            }
        }
        HirKind::Look(_) => {
            return Err(PatternError::Unsupported(
                "an anchor or a word boundary, which can't be looked for in a stream: leave it out, since `ends` says where a value ends",
            ));
        }
        HirKind::Capture(capture) => lower(&capture.sub)?,
        HirKind::Concat(parts) => {
            let mut rows = vec![Vec::new()];
            for part in parts {
                rows = product(&rows, &lower(part)?)?;
            }
            rows
        }
        HirKind::Alternation(parts) => {
            let mut rows = Vec::new();
            for part in parts {
                rows.extend(lower(part)?);
            }
            if rows.len() > MAX_ROWS {
                return Err(PatternError::TooLarge);
            }
            rows
        }
        HirKind::Repetition(repetition) => repeat(&lower(&repetition.sub)?, repetition.min, repetition.max)?,
    })
}

fn repeat(rows: &[Vec<Run>], min: u32, max: Option<u32>) -> Result<Vec<Vec<Run>>, PatternError> {
    if let [row] = rows
        && let [run] = row.as_slice()
        && (run.min, run.max) == (1, Some(1))
    {
        if max == Some(0) {
            return Ok(vec![Vec::new()]);
        }
        let some = vec![Run { set: run.set, min: min.max(1), max }];
        return Ok(if min == 0 { vec![Vec::new(), some] } else { vec![some] });
    }
    let Some(max) = max.filter(|max| *max <= 16) else {
        return Err(PatternError::Unsupported(
            "a group that repeats without an end, or more than 16 times: say how often at most, as in (?:ab){1,8}",
        ));
    };
    let mut all = Vec::new();
    let mut so_far = vec![Vec::new()];
    for count in 0..=max {
        if count > 0 {
            so_far = product(&so_far, rows)?;
        }
        if count >= min {
            all.extend(so_far.iter().cloned());
        }
        if all.len() > MAX_ROWS {
            return Err(PatternError::TooLarge);
        }
    }
    Ok(all)
}

fn product(first: &[Vec<Run>], second: &[Vec<Run>]) -> Result<Vec<Vec<Run>>, PatternError> {
    if first.len() * second.len() > MAX_ROWS {
        return Err(PatternError::TooLarge);
    }
    let join = |row: &Vec<Run>| second.iter().map(|more| [row.as_slice(), more].concat()).collect::<Vec<_>>();
    Ok(first.iter().flat_map(join).collect())
}

/// Joins neighbours of one set, where one of them is more than a single byte.
fn join_equals(row: &mut Vec<Run>) {
    row.dedup_by(|next, run| {
        let is_joined = next.set == run.set && (next.min > 1 || run.min > 1 || next.max != Some(1) || run.max != Some(1));
        if is_joined {
            run.min += next.min;
            run.max = run.max.zip(next.max).map(|(max, more)| max + more);
        }
        is_joined
    });
}

fn check(row: &[Run]) -> Result<(), PatternError> {
    if row.is_empty() {
        return Err(PatternError::Empty);
    }
    if row.len() > MAX_RUNS || row.iter().any(|run| run.min.max(run.max.unwrap_or_default()) > MAX_COUNT) {
        return Err(PatternError::TooLarge);
    }
    if row.iter().any(|run| run.set == ByteSet::EMPTY) {
        return Err(PatternError::Unsupported("a class that no character is in"));
    }
    match row.windows(2).find(|pair| pair[0].max != Some(pair[0].min) && pair[0].set.meets(&pair[1].set)) {
        None => Ok(()),
        Some(pair) => {
            let shown: String = pair[0].set.bytes().filter(u8::is_ascii_graphic).take(12).map(char::from).collect();
            Err(PatternError::Ambiguous(format!("[{shown}…]")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(pattern: &str) -> Vec<Vec<(u32, Option<u32>)>> {
        rows(pattern).unwrap().iter().map(|row| row.iter().map(|run| (run.min, run.max)).collect()).collect()
    }

    #[test]
    fn optional_parts_and_alternatives_are_written_out() {
        assert_eq!(shape("ab"), [[(1, Some(1)), (1, Some(1))]]);
        assert_eq!(shape("a[0-9]{3,}"), [[(1, Some(1)), (3, None)]]);
        assert_eq!(shape("(?:a|b[0-9])").len(), 2);
        assert_eq!(shape("a-?b").len(), 2);
        assert_eq!(shape("(?:x[0-9]){2}"), [[(1, Some(1)); 4]]);
        assert_eq!(shape("[0-9]{2}[0-9]{3,}"), [[(5, None)]]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        assert!(matches!(rows("[a-z]+a"), Err(PatternError::Ambiguous(_))));
        assert!(matches!(rows("[a-z0-9]{2,5}[0-9]"), Err(PatternError::Ambiguous(_))));
        assert!(rows("[a-z0-9]{5}[0-9]").is_ok());
        assert!(matches!(rows("(?:ab)+"), Err(PatternError::Unsupported(_))));
        assert!(matches!(rows("^a"), Err(PatternError::Unsupported(_))));
        assert!(matches!(rows("a*?("), Err(PatternError::Syntax(_))));
        assert!(matches!(rows("a?"), Err(PatternError::Empty)));
        assert!(matches!(rows("(?:a?b?c?d?e?f?g?){2}"), Err(PatternError::TooLarge)));
    }

    #[test]
    fn alternatives_of_one_character_each_are_all_there() {
        let spelled = |row: &Vec<Run>| row.iter().flat_map(|run| run.set.bytes().take(1)).collect::<Vec<u8>>();
        let all = |pattern: &str| rows(pattern).unwrap().iter().map(spelled).collect::<Vec<_>>();
        assert_eq!(all("K(?:Ö|O)L"), [b"KOL".to_vec(), "KÖL".into()]);
        assert_eq!(all("(?:№|#|é)x"), [b"#x".to_vec(), "éx".into(), "№x".into()]);
    }

    #[test]
    fn letters_of_either_case_are_known() {
        let rows = rows("(?i)k1").unwrap();
        assert_eq!((rows[0][0].set.letter(), rows[0][1].set.letter()), (Some((b'k', true)), Some((b'1', false))));
    }
}

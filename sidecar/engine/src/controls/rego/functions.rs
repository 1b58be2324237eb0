//! The functions that rules may call, and what they may cost.
//!
//! The evaluator looks at the clock between two instructions, and a call is one of them. So whatever could make much of little, or
//! read much at once, says beforehand what it will take; where that isn't left, the decision ends. The list is closed: what isn't
//! in it would read a clock, throw dice, talk to somebody, or is read differently by OPA.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use regorus::rvm::Program;
use regorus::unstable::{BUILTINS, Expr, Ref, Span};
use regorus::{LimitError, Value};

use super::format;

/// What a decision may still use, and what it has to know of its policy.
struct Running {
    /// Bytes that may still be made.
    bytes: u64,
    /// Bytes that may still be read.
    reads: u64,
    /// The patterns that stand in the policy, and how the library for them has to be told.
    patterns: Arc<HashMap<String, Value>>,
    /// What was asked that no rule may ask.
    fault: Option<Fault>,
}

/// Why a decision is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It took too long, or would have.
    Time,
    /// It took too much memory, or would have.
    Memory,
    /// Anything else.
    Error,
}

impl Fault {
    /// The word for it in metrics.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Time => "timeout",
            Self::Memory => "memory",
            Self::Error => "error",
        }
    }
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// Runs a decision that may make and read so many bytes. Gives what comes out, and what stood in its way.
pub(super) fn within<T>(bytes: u64, reads: u64, patterns: &Arc<HashMap<String, Value>>, decide: impl FnOnce() -> T) -> (T, Option<Fault>) {
    RUNNING.set(Some(Running { bytes, reads, patterns: Arc::clone(patterns), fault: None }));
    let decided = decide();
    (decided, RUNNING.take().and_then(|running| running.fault))
}

/// What a call takes: bytes that it makes, and bytes that it reads.
struct Cost {
    bytes: u64,
    reads: u64,
}

const FREE: Cost = Cost { bytes: 0, reads: 0 };
/// About what a value takes beside its text.
const VALUE: u64 = 48;

fn makes(bytes: u64) -> Cost {
    Cost { bytes, reads: bytes }
}

fn reads(reads: u64) -> Cost {
    Cost { bytes: 0, reads }
}

/// The length of a text. What is no text is refused by the function itself, and costs nothing.
fn text(args: &[Value], place: usize) -> u64 {
    match args.get(place) {
        Some(Value::String(text)) => text.len() as u64,
        _ => 0,
    }
}

/// How many values a collection has.
fn many(args: &[Value], place: usize) -> u64 {
    match args.get(place) {
        Some(Value::Array(list)) => list.len() as u64,
        Some(Value::Set(set)) => set.len() as u64,
        Some(Value::Object(object)) => object.len() as u64,
        Some(Value::String(text)) => text.len() as u64,
        _ => 0,
    }
}

/// The texts of a collection, together.
fn texts(args: &[Value], place: usize) -> u64 {
    let of = |value: &Value| if let Value::String(text) = value { text.len() as u64 } else { 0 };
    match args.get(place) {
        Some(Value::Array(list)) => list.iter().map(of).sum(),
        Some(Value::Set(set)) => set.iter().map(of).sum(),
        Some(text) => of(text),
        None => 0,
    }
}

/// How often a text holds another; an empty one stands between all characters.
fn times(args: &[Value], within: usize, what: usize) -> u64 {
    match (args.get(within), args.get(what)) {
        (Some(Value::String(text)), Some(Value::String(what))) if !what.is_empty() => match what.as_bytes() {
            [byte] => memchr::memchr_iter(*byte, text.as_bytes()).count() as u64,
            what => memchr::memmem::find_iter(text.as_bytes(), what).count() as u64,
        },
        (Some(Value::String(text)), Some(Value::String(_))) => text.len() as u64 + 1,
        _ => 0,
    }
}

fn whole(args: &[Value], place: usize) -> Option<i64> {
    args.get(place)?.as_i64().ok()
}

/// A function: its name, and what a call takes.
type Function = (&'static str, fn(&[Value]) -> Cost);

const FUNCTIONS: &[Function] = &[
    ("abs", |_| FREE),
    ("array.concat", |args| makes((many(args, 0) + many(args, 1)) * VALUE)),
    ("array.reverse", |args| makes(many(args, 0) * VALUE)),
    ("array.slice", |args| makes(many(args, 0) * VALUE)),
    ("ceil", |_| FREE),
    ("concat", |args| makes(texts(args, 1) + many(args, 1) * text(args, 0))),
    ("contains", |args| reads(text(args, 0) + text(args, 1))),
    ("count", |args| reads(text(args, 0))),
    ("endswith", |args| reads(text(args, 1))),
    ("floor", |_| FREE),
    // It looks at each place, and compares there.
    ("indexof", |args| reads(text(args, 0) * (1 + text(args, 1).min(text(args, 0)) / 64))),
    ("intersection", |args| makes(many(args, 0) * VALUE)),
    ("is_array", |_| FREE),
    ("is_boolean", |_| FREE),
    ("is_null", |_| FREE),
    ("is_number", |_| FREE),
    ("is_object", |_| FREE),
    ("is_set", |_| FREE),
    ("is_string", |_| FREE),
    // A letter has three at most.
    ("lower", |args| makes(text(args, 0) * 3)),
    ("max", |args| reads(many(args, 0))),
    ("min", |args| reads(many(args, 0))),
    ("numbers.range", |args| match (whole(args, 0), whole(args, 1)) {
        (Some(from), Some(to)) => makes(from.abs_diff(to).saturating_mul(VALUE)),
        // It has no range, and says so itself.
        _ => FREE,
    }),
    ("object.filter", |args| makes((many(args, 0) + many(args, 1)) * VALUE)),
    ("object.get", |args| reads(many(args, 1))),
    ("object.keys", |args| makes(many(args, 0) * VALUE)),
    ("object.remove", |args| makes((many(args, 0) + many(args, 1)) * VALUE)),
    ("object.union", |args| makes((many(args, 0) + many(args, 1)) * VALUE)),
    ("product", |args| reads(many(args, 0) * VALUE)),
    ("regex.find_n", |args| Cost { bytes: text(args, 1) * 2 + VALUE, reads: text(args, 1) * 8 }),
    ("regex.match", |args| reads(text(args, 1) * 8)),
    ("regex.split", |args| Cost { bytes: text(args, 1) * VALUE, reads: text(args, 1) * 8 }),
    ("replace", |args| makes(text(args, 0) + times(args, 0, 1) * text(args, 2))),
    ("round", |_| FREE),
    ("sort", |args| makes(many(args, 0) * VALUE)),
    ("split", |args| makes(text(args, 0) + (times(args, 0, 1) + 1) * VALUE)),
    ("sprintf", |args| makes(text(args, 0) + args.get(1).map_or(0, |list| format::size(list, MOST_SHOWN)))),
    ("startswith", |args| reads(text(args, 1))),
    ("strings.any_prefix_match", |args| reads(any(args))),
    ("strings.any_suffix_match", |args| reads(any(args))),
    ("substring", |args| makes(text(args, 0))),
    ("sum", |args| reads(many(args, 0) * VALUE)),
    ("to_number", |args| reads(text(args, 0) * (1 + text(args, 0) / 64))),
    ("trim", |args| Cost { bytes: text(args, 0), reads: text(args, 0) * (1 + text(args, 1)) }),
    ("trim_left", |args| Cost { bytes: text(args, 0), reads: text(args, 0) * (1 + text(args, 1)) }),
    ("trim_prefix", |args| makes(text(args, 0))),
    ("trim_right", |args| Cost { bytes: text(args, 0), reads: text(args, 0) * (1 + text(args, 1)) }),
    ("trim_space", |args| makes(text(args, 0))),
    ("trim_suffix", |args| makes(text(args, 0))),
    ("type_name", |_| FREE),
    ("union", |args| makes(many(args, 0) * VALUE)),
    ("upper", |args| makes(text(args, 0) * 3)),
];

/// What the evaluator calls for `|` and `&` between sets.
const OPERATORS: &[Function] = &[
    ("__builtin_sets.intersection", |args| makes((many(args, 0) + many(args, 1)) * VALUE)),
    ("__builtin_sets.union", |args| makes((many(args, 0) + many(args, 1)) * VALUE)),
];

/// The most bytes of a value that stand in a sentence.
const MOST_SHOWN: u64 = 1 << 24;

/// Each of the first against each of the second.
fn any(args: &[Value]) -> u64 {
    let count = |place| if matches!(args.get(place), Some(Value::String(_))) { 1 } else { many(args, place) };
    (count(0) * count(1)).saturating_mul(16) + texts(args, 0) + texts(args, 1)
}

/// The names of the functions that rules may call.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name)
}

/// How many arguments a function takes that may be called.
pub(super) fn takes(name: &str) -> Option<u8> {
    let known = FUNCTIONS.iter().chain(OPERATORS).any(|(known, _)| *known == name);
    BUILTINS.get(name).filter(|_| known).map(|(_, takes)| *takes)
}

/// Whether there is enough left for a call, which is taken then.
fn take(cost: &Cost) -> Result<(), LimitError> {
    RUNNING.with_borrow_mut(|running| {
        let Some(running) = running else { return Ok(()) };
        let (bytes, reads) = (running.bytes.checked_sub(cost.bytes), running.reads.checked_sub(cost.reads));
        running.fault = match (bytes, reads) {
            (None, _) => Some(Fault::Memory),
            (_, None) => Some(Fault::Time),
            _ => running.fault,
        };
        let (Some(bytes), Some(reads)) = (bytes, reads) else {
            return Err(LimitError::MemoryLimitExceeded { usage: cost.bytes, limit: running.bytes });
        };
        (running.bytes, running.reads) = (bytes, reads);
        Ok(())
    })
}

/// Ends the decision: what was asked has no answer that OPA would give too.
fn fail() -> LimitError {
    RUNNING.with_borrow_mut(|running| {
        if let Some(running) = running {
            running.fault.get_or_insert(Fault::Error);
        }
    });
    LimitError::MemoryLimitExceeded { usage: 0, limit: 0 }
}

/// The arguments with the pattern as the library for patterns reads it. A pattern that no policy has is none.
fn with_pattern(args: &[Value]) -> Result<Vec<Value>, LimitError> {
    let mut args = args.to_vec();
    let Some(Value::String(pattern)) = args.first() else { return Ok(args) };
    let known = RUNNING.with_borrow(|running| running.as_ref().and_then(|running| running.patterns.get(&**pattern).cloned()));
    args[0] = known.ok_or_else(fail)?;
    Ok(args)
}

/// Whether a text is a number as JSON has them (RFC 8259).
fn is_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok() && text.trim() == text
}

/// Whether a text is written as some languages write a number that JSON doesn't: with a plus, blanks, underscores, a dot at an end, zeros before
/// it, or to the base of 16.
fn is_nearly_number(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    if text.starts_with("0x") || text.starts_with("0X") {
        return text.contains(['p', 'P']);
    }
    let mut before = ' ';
    let fits = text.chars().all(|c| {
        let fits = c.is_ascii_digit() || matches!(c, '.' | '_' | 'e' | 'E') || matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
        before = c;
        fits
    });
    fits && text.contains(|c: char| c.is_ascii_digit()) && !text.starts_with(['e', 'E'])
}

/// The small letter of one, as Go has it: a letter for a letter.
fn lower(c: char) -> char {
    let mut small = c.to_lowercase();
    small.next().unwrap_or(c)
}

/// The same for capitals. Those with a small iota have one in one letter, which isn't what is written in capitals.
fn upper(c: char) -> char {
    let mut large = c.to_uppercase();
    match (large.next(), large.next()) {
        (Some(large), None) => large,
        _ => match c {
            '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => char::from_u32(u32::from(c) + 8).unwrap_or(c),
            '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => char::from_u32(u32::from(c) + 9).unwrap_or(c),
            _ => c,
        },
    }
}

/// Puts the bounded functions in the place of the evaluator's.
pub(super) fn bound(program: &mut Program) {
    // A function of this kind is no closure, so each has its number.
    macro_rules! bounded {
        ($($number:literal)*) => {
            [$(|span, exprs, args, strict| {
                const NUMBER: usize = $number;
                let (name, cost) = if NUMBER < FUNCTIONS.len() { FUNCTIONS[NUMBER] } else { OPERATORS[NUMBER - FUNCTIONS.len()] };
                take(&cost(args))?;
                if name == "sprintf" {
                    return match args {
                        [Value::String(text), Value::Array(list)] => format::sprintf(text, list.iter()).ok_or_else(|| fail().into()),
                        _ => Ok(Value::Undefined),
                    };
                }
                match (name, args) {
                    ("lower", [Value::String(text)]) => return Ok(Value::from(text.chars().map(lower).collect::<String>())),
                    ("upper", [Value::String(text)]) => return Ok(Value::from(text.chars().map(upper).collect::<String>())),
                    // Characters, not halves of some.
                    ("count", [Value::String(text)]) => return Ok(Value::from(text.chars().count() as u64)),
                    // OPA reads some that are no JSON.
                    ("to_number", [Value::String(text)]) if !is_number(text) && is_nearly_number(text) => {
                        return Err(fail().into());
                    }
                    // Nothing is nowhere.
                    ("indexof", [_, Value::String(what)]) if what.is_empty() => return Ok(Value::Undefined),
                    // OPA puts it between the bytes.
                    ("replace", [_, Value::String(what), _]) if what.is_empty() => return Err(fail().into()),
                    _ => {}
                }
                let Some((call, _)) = BUILTINS.get(name) else { return Err(fail().into()) };
                if name.starts_with("regex.") {
                    return call(span, exprs, &with_pattern(args)?, strict);
                }
                call(span, exprs, args, strict)
            }),*]
        };
    }
    #[allow(clippy::type_complexity, reason = "what it gives has no name outside of the library")]
    let bounded: [fn(&Span, &[Ref<Expr>], &[Value], bool) -> _; FUNCTIONS.len() + OPERATORS.len()] = bounded!(
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45
        46 47 48 49 50 51 52 53
    );
    for (function, info) in program.resolved_builtins.iter_mut().zip(&program.builtin_info_table) {
        if let Some(number) = FUNCTIONS.iter().chain(OPERATORS).position(|(name, _)| *name == info.name) {
            function.0 = bounded[number];
        }
    }
}

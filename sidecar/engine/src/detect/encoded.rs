//! What a text says in base64 (RFC 4648, either alphabet) and in hexadecimal: decoded, and read by the same rules.
//!
//! The invariant: what is decoded is decided by the text alone. A run of at least [`LEAST`] characters of the alphabets is looked at from its
//! first one; where that decodes to text, the run is followed to its end.

use super::compiled::table;
use super::kind::Kind;
use super::matcher::{Asked, HOLD_LIMIT, LOOK_BACK, Matcher, Window};
use super::place::{Place, Places};

/// The fewest characters that are looked at.
const LEAST: usize = 12;
/// From so many characters on a line's end may stand in a run, if the run goes on behind it: the shortest lines that encoders make are of 64.
const LINE: usize = 60;

/// The bytes that encode, in either alphabet.
static ENCODING: [bool; 256] = table(b"+/-_");

fn is_encoding(byte: u8) -> bool {
    ENCODING[usize::from(byte)]
}

fn sextet(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}

/// How a run encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Base64,
    Hex,
}

impl Code {
    const fn bits(self) -> usize {
        match self {
            Self::Base64 => 6,
            Self::Hex => 4,
        }
    }

    fn value(self, byte: u8) -> Option<u32> {
        match self {
            Self::Base64 => sextet(byte),
            Self::Hex => char::from(byte).to_digit(16),
        }
    }

    /// Whether the first characters of a run, at most [`LEAST`], say a text.
    fn is_text(self, run: &[u8]) -> bool {
        let (mut bits, mut said, mut length) = (Bits::default(), [0; LEAST], 0);
        for byte in run.iter().filter_map(|byte| bits.push(self.value(*byte)?, self.bits())) {
            if let Some(place) = said.get_mut(length) {
                *place = byte;
                length += 1;
            }
        }
        is_text(&said[..length])
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    bits: u32,
    count: usize,
}

impl Bits {
    #[expect(clippy::cast_possible_truncation, reason = "it is the byte on top of what is left")]
    fn push(&mut self, value: u32, bits: usize) -> Option<u8> {
        self.bits = self.bits << bits | value;
        self.count += bits;
        self.count.checked_sub(8).map(|left| {
            self.count = left;
            (self.bits >> left) as u8
        })
    }
}

/// Whether these bytes begin a text, as far as they go.
fn is_text(bytes: &[u8]) -> bool {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !valid.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// How the beginning of a run encodes text, if it does.
fn code_of(run: &[u8]) -> Option<Code> {
    if run.iter().all(u8::is_ascii_hexdigit) && Code::Hex.is_text(run) {
        return Some(Code::Hex);
    }
    Code::Base64.is_text(run).then_some(Code::Base64)
}

/// A run that is being decoded.
#[derive(Clone, Debug)]
struct Decoding {
    code: Code,
    matcher: Matcher,
    said: Vec<u8>,
    /// The place of the first byte of `said` in all that was said.
    base: usize,
    bits: Bits,
    /// How many characters were decoded.
    characters: usize,
    /// From which character on it stands where in the text.
    lines: Vec<(usize, usize)>,
    /// A line's end stands before the next character.
    is_broken: bool,
    /// From where on all is a value, since too much would have to be held back.
    swallowed: Option<(usize, Kind)>,
}

impl Decoding {
    /// Up to where it is sure what the run says.
    fn frontier(&self, asked: Asked<'_>) -> usize {
        let place = self.matcher.frontier(asked, Window { bytes: &self.said, base: self.base });
        // (A byte that isn't whole yet may begin something.)
        self.place_of(place * 8 / self.code.bits())
    }

    fn place_of(&self, character: usize) -> usize {
        let line = self.lines.iter().rev().find(|(from, _)| *from <= character).copied().unwrap_or_default();
        line.1 + (character - line.0)
    }

    /// Forgets what nobody needs any more.
    fn forget(&mut self, asked: Asked<'_>) {
        let frontier = self.matcher.frontier(asked, Window { bytes: &self.said, base: self.base });
        let unneeded = frontier.min(self.matcher.next().saturating_sub(LOOK_BACK)).saturating_sub(self.base);
        if unneeded > 2 * LOOK_BACK {
            self.said.drain(..unneeded);
            self.base += unneeded;
            let character = self.base * 8 / self.code.bits();
            let first = self.lines.iter().rposition(|(from, _)| *from <= character).unwrap_or(0);
            self.lines.drain(..first);
        }
    }

    /// Where something decoded stands: all characters that hold a bit of it.
    fn moved(&self, place: Place) -> Place {
        let bits = self.code.bits();
        let (first, behind) = (place.start * 8 / bits, (place.end * 8).div_ceil(bits));
        // (Where it is swallowed, where the lines before began is forgotten.)
        let least = self.swallowed.map_or(0, |(start, _)| start);
        place.moved(self.place_of(first).max(least), (self.place_of(behind.saturating_sub(1)) + 1).max(least))
    }
}

/// What of a text is encoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Encoded {
    /// Where the run begins that isn't looked at yet.
    run: usize,
    /// The run up to there was looked at, and says nothing.
    cursor: usize,
    decoding: Option<Box<Decoding>>,
    /// What was looked at in the run is no text: its rest isn't either.
    is_noise: bool,
}

impl Encoded {
    /// Whether what is there has to be read: a run that isn't long enough yet can wait.
    pub(super) fn has_more_to_read(&self, window: Window<'_>) -> bool {
        self.is_noise || self.decoding.is_some() || self.run + LEAST <= window.base + window.bytes.len()
    }

    /// Reads up to the end of what is there; what is found is added to `found`.
    #[inline(never)]
    pub(super) fn read(&mut self, asked: Asked<'_>, window: Window<'_>, found: &mut Places) {
        let end = window.base + window.bytes.len();
        while self.cursor < end {
            if let Some(decoding) = &mut self.decoding {
                let over = decode(decoding, asked, window, &mut self.cursor);
                let places = decoding.matcher.places().take();
                for place in places {
                    found.add(decoding.moved(place));
                }
                decoding.forget(asked);
                if over {
                    self.close(asked, found);
                    (self.run, self.is_noise) = (self.cursor, true);
                }
                continue;
            }
            if self.is_noise {
                let rest = &window.bytes[self.cursor - window.base..];
                let length = rest.iter().position(|byte| !is_encoding(*byte)).unwrap_or(rest.len());
                self.cursor += length;
                self.is_noise = self.cursor == end;
                self.run = self.cursor;
                continue;
            }
            // From the place where the run would be long enough backwards, so that most bytes needn't be looked at.
            let rest = window.slice(self.run..end);
            let mut at = 0;
            while let Some(gap) = rest.get(at..at + LEAST).and_then(|run| run.iter().rposition(|byte| !is_encoding(*byte))) {
                at += gap + 1;
            }
            self.run += at;
            self.cursor = self.run;
            match rest.get(at..at + LEAST) {
                Some(run) => self.look_at(run),
                None => break,
            }
        }
    }

    /// Looks at the beginning of a run that is long enough.
    fn look_at(&mut self, run: &[u8]) {
        if let [b'0', b'x' | b'X', ..] = run {
            // How hexadecimal is announced.
            self.run += 2;
            self.cursor = self.run;
            return;
        }
        let Some(code) = code_of(run) else {
            self.is_noise = true;
            self.cursor = self.run + run.len();
            return;
        };
        self.cursor = self.run;
        self.decoding = Some(Box::new(Decoding {
            code,
            matcher: Matcher::of_another(),
            said: Vec::new(),
            base: 0,
            bits: Bits::default(),
            characters: 0,
            lines: vec![(0, self.run)],
            is_broken: false,
            swallowed: None,
        }));
    }

    fn close(&mut self, asked: Asked<'_>, found: &mut Places) {
        if let Some(mut decoding) = self.decoding.take() {
            decoding.matcher.end(asked, Window { bytes: &decoding.said, base: decoding.base });
            if let Some((start, kind)) = decoding.swallowed {
                found.add(Place::unchecked(start, self.cursor, kind));
            }
            let places = decoding.matcher.places().take();
            for place in places {
                found.add(decoding.moved(place));
            }
        }
    }

    /// Sees to it that no more is held back than may be, at a place of the text. What has begun is a value then, and so is the run's rest.
    pub(super) fn bound(&mut self, asked: Asked<'_>) {
        let Some(decoding) = self.decoding.as_deref_mut().filter(|decoding| decoding.swallowed.is_none()) else { return };
        let sure = decoding.frontier(asked);
        if self.cursor - sure.min(self.cursor) > HOLD_LIMIT {
            decoding.swallowed = decoding.matcher.oldest(asked.rules).map(|kind| (sure, kind));
        }
    }

    /// Where what is swallowed began.
    pub(super) fn swallowing(&self) -> Option<usize> {
        self.decoding.as_deref().and_then(|decoding| decoding.swallowed).map(|(start, _)| start)
    }

    /// The text ends.
    pub(super) fn end(&mut self, asked: Asked<'_>, found: &mut Places) {
        self.close(asked, found);
    }

    /// Up to where nothing may turn out to be encoded; at least `sure`, if it isn't sure behind that anyway.
    pub(super) fn frontier(&self, asked: Asked<'_>, window: Window<'_>, sure: usize) -> usize {
        let end = window.base + window.bytes.len();
        if let Some(decoding) = &self.decoding {
            return if decoding.swallowed.is_some() { end } else { decoding.frontier(asked).min(end) };
        }
        if self.is_noise || !window.bytes.last().is_some_and(|byte| is_encoding(*byte)) {
            return end;
        }
        // Where the run can't begin before what isn't sure.
        if sure < end && (sure <= self.run || window.at(sure - 1).is_some_and(|byte| !is_encoding(byte))) {
            return end;
        }
        let run = window.run_before(end, LEAST, is_encoding).min(end - self.run);
        if end - run >= sure {
            return end;
        }
        if run < LEAST && code_of(window.slice(end - run..end)).is_some() { end - run } else { end }
    }

    /// How many bytes it has allocated.
    pub(super) fn allocated(&self) -> usize {
        let of = |decoding: &Decoding| {
            size_of::<Decoding>() + decoding.matcher.allocated() + decoding.said.capacity() + decoding.lines.capacity() * 16
        };
        self.decoding.as_deref().map_or(0, of)
    }
}

/// Decodes on; says whether the run is over.
fn decode(decoding: &mut Decoding, asked: Asked<'_>, window: Window<'_>, cursor: &mut usize) -> bool {
    let mut over = false;
    for byte in &window.bytes[*cursor - window.base..] {
        match decoding.code.value(*byte) {
            Some(value) => {
                if std::mem::take(&mut decoding.is_broken) {
                    decoding.lines.push((decoding.characters, *cursor));
                }
                decoding.characters += 1;
                if let Some(byte) = decoding.bits.push(value, decoding.code.bits()) {
                    over = byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t');
                    decoding.said.push(byte);
                }
            }
            None if matches!(byte, b'\n' | b'\r') && decoding.characters >= LINE => decoding.is_broken = true,
            // Within a file of configuration the lines are indented.
            None if matches!(byte, b' ' | b'\t') && decoding.is_broken => {}
            None => over = true,
        }
        if over {
            break;
        }
        *cursor += 1;
    }
    decoding.matcher.read(asked, Window { bytes: &decoding.said, base: decoding.base });
    over
}

//! Log-probabilities of an answer, which say its text once more, token by token. Each is held back with the stretch of text that it says.
//!
//! The invariant: the tokens that a client gets of a text are those of its beginning. Joined, they say what the client has got of that text, byte
//! by byte, up to some place; so they tell nothing that the text doesn't tell, and never before it does. (A byte of a character that is spread
//! over tokens may stand as U+FFFD in them, as Ollama says it.)
//!
//! So they end where the text was changed, or where tokens don't say what the text says, and don't begin again: behind a gap they would be
//! joined to what the text keeps apart.

use std::collections::VecDeque;

use crate::detect::secrets::HOLD_LIMIT;
use crate::wire::Token;

/// The most tokens that are kept while the text isn't there that they say.
const MAX_AHEAD: usize = 4096;
/// The most tokens, and the most bytes of text, that are kept while the text is held back. What is held back longer is being redacted.
const MAX_WAITING: usize = 4 * HOLD_LIMIT;

/// The tokens of one text.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// Those of which the text hasn't arrived.
    ahead: Vec<Token>,
    /// Those of which it has, but isn't given out: each with the number of bytes that it says.
    waiting: VecDeque<(Token, usize)>,
    /// The text that these say, as it arrived, as far as it wasn't given out.
    awaited: String,
    /// How many bytes of the first of them were given out.
    given: usize,
    /// Those that may be said.
    ready: Vec<Token>,
    /// No others are taken.
    closed: bool,
    dropped: u64,
}

impl Tokens {
    /// A piece of the text arrives, with the tokens that came beside it. Where they came beside a thought, too, they may be those of that.
    pub(super) fn hear(&mut self, tokens: Vec<Token>, text: &str, beside_a_thought: bool) {
        if self.closed || text.is_empty() && beside_a_thought {
            self.dropped += tokens.len() as u64;
            return;
        }
        self.ahead.extend(tokens);
        if !text.is_empty() {
            match saying(&self.ahead, text) {
                Some((before, lengths)) => {
                    // What a server doesn't say as text: marks of its own, and thoughts.
                    self.dropped += before as u64;
                    let said = self.ahead.drain(..before + lengths.len()).skip(before);
                    self.waiting.extend(said.zip(lengths));
                    self.awaited.push_str(text);
                }
                None => self.close(),
            }
        }
        if self.ahead.len() > MAX_AHEAD {
            self.close();
        }
    }

    /// The next piece of the text as it is given out.
    pub(super) fn give(&mut self, text: &str) {
        let same = self.awaited.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
        self.given += same;
        while let Some((_, length)) = self.waiting.front()
            && *length <= self.given
        {
            self.given -= length;
            self.ready.extend(self.waiting.pop_front().map(|(token, _)| token));
        }
        let goes_on_without = self.closed && same == self.awaited.len();
        if same < text.len() && !goes_on_without {
            self.break_off();
            return;
        }
        self.awaited.drain(..same);
        if self.awaited.len() > MAX_WAITING || self.waiting.len() > MAX_WAITING {
            self.break_off();
        }
    }

    /// The text has ended, and all of it was given out.
    pub(super) fn end(&mut self) {
        self.break_off();
    }

    /// Takes those that may be said.
    pub(super) fn take(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.ready)
    }

    /// Takes the number of those that won't be.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn close(&mut self) {
        self.closed = true;
        self.dropped += self.ahead.len() as u64;
        self.ahead.clear();
    }

    fn break_off(&mut self) {
        self.dropped += self.waiting.len() as u64;
        self.waiting.clear();
        self.awaited.clear();
        self.close();
    }
}

/// Which of the tokens say a text, and nothing but it: how many stand before the first of them, and how many bytes each says. They are the
/// first ones, where a server's own mark for an end stands behind them; or the last, where its marks or a thought stand before them.
fn saying(tokens: &[Token], text: &str) -> Option<(usize, Vec<usize>)> {
    let (mut rest, mut lengths) = (text.as_bytes(), Vec::new());
    for token in tokens {
        let Some(length) = length_at(rest, &token.text) else { break };
        rest = &rest[length..];
        lengths.push(length);
        if rest.is_empty() {
            return Some((0, lengths));
        }
    }
    rest = text.as_bytes();
    lengths.clear();
    for (place, token) in tokens.iter().enumerate().rev() {
        let length = length_before(rest, &token.text)?;
        rest = &rest[..rest.len() - length];
        lengths.push(length);
        if rest.is_empty() {
            lengths.reverse();
            return Some((place, lengths));
        }
    }
    None
}

/// How many bytes a token says at the beginning of what is left of a text, if it stands there.
fn length_at(rest: &[u8], token: &str) -> Option<usize> {
    if rest.starts_with(token.as_bytes()) {
        return Some(token.len());
    }
    token.chars().try_fold(0, |length, char| Some(length + length_of(char, |bytes| rest[length..].starts_with(bytes), rest.get(length))?))
}

/// The same at the end.
fn length_before(rest: &[u8], token: &str) -> Option<usize> {
    if rest.ends_with(token.as_bytes()) {
        return Some(token.len());
    }
    token.chars().rev().try_fold(0, |length, char| {
        let rest = &rest[..rest.len() - length];
        Some(length + length_of(char, |bytes| rest.ends_with(bytes), rest.last())?)
    })
}

/// How many bytes of a text a character of a token stands for: its own, or where it is U+FFFD one of those of which no characters are made
/// by themselves.
fn length_of(char: char, stands: impl Fn(&[u8]) -> bool, next: Option<&u8>) -> Option<usize> {
    let mut buffer = [0; 4];
    let bytes = char.encode_utf8(&mut buffer).as_bytes();
    if stands(bytes) {
        return Some(bytes.len());
    }
    (char == char::REPLACEMENT_CHARACTER && next.is_some_and(|byte| !byte.is_ascii())).then_some(1)
}

//! Finds the words at which rules begin, all at once: the automaton of Aho and Corasick (1975), as one table.
//!
//! Case makes no difference here; who needs it compares the text. The invariant: a state is the longest end of the text, in small letters,
//! that some word begins with.

/// A state of the automaton.
///
/// (It is one of 65,536. A wider number takes a step less to look up.)
pub(super) type State = u32;

/// The state at the beginning of a text.
pub(super) const START: State = 0;

/// All words, ready to be looked for.
#[derive(Debug)]
pub(super) struct Keywords {
    /// The column of each byte: at most [`STRIDE`].
    columns: [u8; 256],
    /// The next state, by column and state: so that what hangs on the state is one addition and one load, and since the states come by
    /// their depth, those that prose is mostly in stand side by side.
    next: Vec<u16>,
    states: u32,
    /// States from here on end a word.
    first_ending: State,
    /// The words that end in the states from `first_ending` on: a range of `words` each.
    endings: Vec<(u32, u32)>,
    words: Vec<u16>,
    /// How long the text is, at most, that the state stands for and that a word of those begins with which are held back.
    pending: Vec<u8>,
}

impl Keywords {
    /// The automaton of some words, at most 65,535, each with whether what it begins is held back from its first byte on. None where
    /// they take more states than there can be.
    pub(super) fn new(words: &[(Vec<u8>, bool)]) -> Option<Self> {
        let columns = columns(words)?;
        let mut trie = Trie::new();
        for (number, (word, is_held)) in words.iter().enumerate() {
            trie.insert(word, *is_held, u16::try_from(number).ok()?, &columns)?;
        }
        trie.link();
        Some(trie.renumber(columns))
    }

    /// The next state, by where the byte's column begins.
    #[inline]
    pub(super) fn step(&self, state: State, column: u32) -> State {
        // (The column is found while the state isn't known yet.)
        self.next[column as usize..][state as usize].into()
    }

    /// Where the column of a byte begins.
    pub(super) fn column(&self, byte: u8) -> u32 {
        u32::from(self.columns[usize::from(byte)]) * self.states
    }

    /// Whether a word ends here.
    #[inline]
    pub(super) const fn ends_word(&self, state: State) -> bool {
        state >= self.first_ending
    }

    /// The words that end here.
    pub(super) fn ending(&self, state: State) -> &[u16] {
        let place = state.checked_sub(self.first_ending).and_then(|place| self.endings.get(place as usize));
        place.map_or(&[], |(from, to)| &self.words[*from as usize..*to as usize])
    }

    /// How many bytes at the end of the text may be the beginning of a word that is held back.
    pub(super) fn pending(&self, state: State) -> usize {
        self.pending[state as usize].into()
    }

    /// How many bytes the tables take.
    pub(super) fn size(&self) -> usize {
        self.next.len() * 2 + self.endings.len() * 8 + self.words.len() * 2 + self.pending.len()
    }
}

/// The bytes of prose and of source code, the most frequent first, about.
const OFTEN: &[u8] = b"etaoinsrhldcumfpgwybvk_-.xjqz:/0123456789";

/// How many columns the table has: as many different bytes may words be made of, but one.
const STRIDE: usize = 128;

fn columns(words: &[(Vec<u8>, bool)]) -> Option<[u8; 256]> {
    let mut columns = [0; 256];
    let mut used = 0u8;
    // What is frequent in prose comes first.
    for byte in OFTEN.iter().chain(words.iter().flat_map(|(word, _)| word)) {
        let byte = byte.to_ascii_lowercase();
        if columns[usize::from(byte)] == 0 {
            used = used.checked_add(1)?;
            columns[usize::from(byte)] = used;
            columns[usize::from(byte.to_ascii_uppercase())] = used;
        }
    }
    (usize::from(used) < STRIDE).then_some(columns)
}

/// The state at which the tree begins.
const ROOT: u16 = 0;

struct Trie {
    next: Vec<u16>,
    fail: Vec<u16>,
    depth: Vec<u8>,
    is_held: Vec<bool>,
    /// The words that end in each state.
    ends: Vec<Vec<u16>>,
    /// The states, from the shallowest on.
    order: Vec<u16>,
    pending: Vec<u8>,
}

impl Trie {
    fn new() -> Self {
        let mut trie = Self {
            next: Vec::new(),
            fail: Vec::new(),
            depth: Vec::new(),
            is_held: Vec::new(),
            ends: Vec::new(),
            order: Vec::new(),
            pending: Vec::new(),
        };
        trie.add(0);
        trie
    }

    fn add(&mut self, depth: u8) -> Option<u16> {
        let state = u16::try_from(self.fail.len()).ok()?;
        self.next.resize(self.next.len() + STRIDE, 0);
        self.fail.push(0);
        self.depth.push(depth);
        self.is_held.push(false);
        self.ends.push(Vec::new());
        Some(state)
    }

    fn insert(&mut self, word: &[u8], is_held: bool, number: u16, columns: &[u8; 256]) -> Option<()> {
        let mut state = ROOT;
        for (place, byte) in word.iter().enumerate() {
            let cell = usize::from(state) * STRIDE + usize::from(columns[usize::from(*byte)]);
            if self.next[cell] == ROOT {
                let added = self.add(u8::try_from(place + 1).ok()?)?;
                self.next[cell] = added;
            }
            state = self.next[cell];
            // A word that is whole is held by what begins with it.
            self.is_held[usize::from(state)] |= is_held && place + 1 < word.len();
        }
        self.ends[usize::from(state)].push(number);
        Some(())
    }

    /// Makes of the tree an automaton: what doesn't go on with a word goes on with the longest end of it that another begins with.
    fn link(&mut self) {
        self.pending = vec![0; self.fail.len()];
        let mut queue: std::collections::VecDeque<u16> = [ROOT].into();
        while let Some(state) = queue.pop_front() {
            self.order.push(state);
            let fail = usize::from(self.fail[usize::from(state)]);
            if state != ROOT {
                let inherited = self.ends[fail].clone();
                self.ends[usize::from(state)].extend(inherited);
                let at = usize::from(state);
                self.pending[at] = if self.is_held[at] { self.depth[at] } else { self.pending[fail] };
            }
            for column in 0..STRIDE {
                let cell = usize::from(state) * STRIDE + column;
                let over_fail = if state == ROOT { ROOT } else { self.next[fail * STRIDE + column] };
                let next = self.next[cell];
                if next == ROOT {
                    self.next[cell] = over_fail;
                } else {
                    self.fail[usize::from(next)] = over_fail;
                    queue.push_back(next);
                }
            }
        }
    }

    /// Puts the states in which words end behind all others.
    #[expect(clippy::cast_possible_truncation, reason = "there are at most 65,535 states, each of a depth below 256")]
    fn renumber(self, columns: [u8; 256]) -> Keywords {
        let Self { next, ends, order, pending, .. } = self;
        let (ending, plain): (Vec<u16>, Vec<u16>) = order.into_iter().partition(|state| !ends[usize::from(*state)].is_empty());
        let mut renamed = vec![ROOT; ends.len()];
        let ordered: Vec<usize> = plain.iter().chain(&ending).map(|state| usize::from(*state)).collect();
        for (number, state) in (0..).zip(&ordered) {
            renamed[*state] = number;
        }
        let mut words = Vec::new();
        let mut endings = Vec::with_capacity(ending.len());
        for state in &ending {
            let from = words.len();
            words.extend_from_slice(&ends[usize::from(*state)]);
            endings.push((from as u32, words.len() as u32));
        }
        let last = usize::from(columns.iter().copied().max().unwrap_or_default());
        let column = |column: usize| ordered.iter().map(move |state| state * STRIDE + column);
        let cells = (0..=last).flat_map(column).map(|cell| renamed[usize::from(next[cell])]);
        Keywords {
            columns,
            next: cells.collect(),
            states: ordered.len() as u32,
            first_ending: plain.len() as State,
            endings,
            words,
            pending: ordered.iter().map(|state| pending[*state]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_word_is_found_where_it_ends(words in prop::collection::btree_set("[a-c]{1,4}", 1..8), text in "[a-cA-C ]{0,40}") {
            let words: Vec<(Vec<u8>, bool)> = words.into_iter().map(|word| (word.into_bytes(), true)).collect();
            let keywords = Keywords::new(&words).unwrap();
            let lower = text.to_lowercase();
            let mut state = START;
            for (place, byte) in text.bytes().enumerate() {
                state = keywords.step(state, keywords.column(byte));
                let read = &lower.as_bytes()[..=place];
                let mut found: Vec<u16> = keywords.ending(state).to_vec();
                found.sort_unstable();
                let expected: Vec<u16> = (0..).zip(&words).filter(|(_, (word, _))| read.ends_with(word)).map(|(number, _)| number).collect();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(keywords.ends_word(state), !expected.is_empty());
                let begins = |length: &usize| words.iter().any(|(word, _)| word.len() > *length && word.starts_with(&read[read.len() - length..]));
                let pending = (1..=read.len()).rev().find(begins).unwrap_or_default();
                prop_assert_eq!(keywords.pending(state), pending);
            }
        }
    }
}

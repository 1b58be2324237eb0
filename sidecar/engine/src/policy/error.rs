//! What is wrong with a policy: said with its path, its place, and what to do about it.

use std::fmt;

/// Why a document is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    path: String,
    reason: String,
    place: Option<Place>,
}

/// Where something stands in a text, both counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The character in it.
    pub column: u64,
}

impl PolicyError {
    /// Something is wrong at a path, such as `spec.tools.allow[2]`; an empty one means the document as a whole.
    #[must_use]
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), place: None }
    }

    /// Something is wrong at a path below `spec`.
    #[must_use]
    pub(crate) fn in_spec(path: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self::new(format!("spec.{path}"), reason)
    }

    /// The same at another path.
    #[must_use]
    pub(crate) fn moved(self, path: String) -> Self {
        Self { path, ..self }
    }

    /// The same, where it stands.
    #[must_use]
    pub(super) fn at(self, place: Option<Place>) -> Self {
        Self { place: self.place.or(place), ..self }
    }

    /// The key or the value that is wrong: `spec.tools.allow[2]`. Empty where it is the document as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong with it, without its path.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Where it stands, if it stands anywhere in the text.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// The same in a text of which so many lines stand before the document.
    #[must_use]
    pub fn below(self, lines: u64) -> Self {
        Self { place: self.place.map(|place| Place { line: place.line + lines, ..place }), ..self }
    }

    /// What is wrong and at which path, without the place: for documents whose text nobody has seen.
    #[must_use]
    pub fn without_place(self) -> Self {
        Self { place: None, ..self }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{place}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for PolicyError {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A text of the document's as it can stand in a sentence: what can't be seen is escaped, and what is long is cut.
pub(crate) fn shown(text: &str) -> String {
    const LONG: usize = 64;
    let cut = text.char_indices().nth(LONG).map(|(place, _)| &text[..place]);
    cut.unwrap_or(text).escape_debug().to_string() + if cut.is_some() { "…" } else { "" }
}

/// The name that was probably meant, if one is near enough: at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // What is far longer than any name is none of them, and comparing it would take long.
    let same = Some(name).filter(|name| name.len() <= 256)?.to_lowercase();
    let far = known.into_iter().map(|known| (strsim::damerau_levenshtein(&same, &known.to_lowercase()), known));
    let (distance, nearest) = far.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= nearest.chars().count().max(3)).then_some(nearest)
}

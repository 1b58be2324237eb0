//! Takes an object apart into the fields that a route knows, so that what is left over is known to be unknown.
//!
//! Servers in Go match keys without regard to case. Here a key names a field as it would there, and two keys that name
//! the same field are refused: the invariant is that each field was said at most once.

use std::borrow::Cow;

use serde::ser::{Serialize, Serializer};

use super::json::{self, Json, folded, names_field};
use super::{Channel, Text};

/// Why a body can't be decoded. Names the field by its path, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not JSON, or more than one reading fits them.
    #[error(transparent)]
    Json(#[from] super::json::JsonError),
    /// A field has another type than the API documents.
    #[error("{path} must be {expected}")]
    Type {
        /// Where: `messages[2].content`.
        path: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Two keys of an object mean the same field to a server that doesn't regard case.
    #[error("{path} has two keys that differ only in case")]
    SameField {
        /// The object.
        path: String,
    },
    /// A field that a request of this kind can't be without.
    #[error("{path} is missing")]
    Missing {
        /// Where it would stand.
        path: String,
    },
}

impl DecodeError {
    /// The same error, seen from one object further out.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        match &mut self {
            Self::Json(_) => {}
            Self::Type { path, .. } | Self::SameField { path } | Self::Missing { path } => {
                *path = match path.as_str() {
                    "" => outer.to_owned(),
                    inner if inner.starts_with('[') => format!("{outer}{inner}"),
                    inner => format!("{outer}.{inner}"),
                };
            }
        }
        self
    }

    /// The same error, seen from the array in which the value stands.
    #[must_use]
    pub fn at(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }
}

fn wrong_type(name: &str, expected: &'static str) -> DecodeError {
    DecodeError::Type { path: name.to_owned(), expected }
}

/// The fields of one object that have not been taken yet.
#[derive(Debug)]
pub struct Fields {
    entries: Vec<(String, Json)>,
    /// Whether only a key that is spelt exactly so names a field.
    exact: bool,
}

impl Fields {
    /// Opens an object.
    pub fn open(json: Json) -> Result<Self, DecodeError> {
        let Json::Object(entries) = json else {
            return Err(wrong_type("", "an object"));
        };
        // Keys that no folding changes are different, as all keys of an object that was read.
        let is_folded = |key: &str| key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        if !entries.iter().all(|(key, _)| is_folded(key)) {
            let mut names: Vec<String> = entries.iter().map(|(key, _)| folded(key)).collect();
            names.sort_unstable();
            if names.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(DecodeError::SameField { path: String::new() });
            }
        }
        Ok(Self { entries, exact: false })
    }

    /// Opens an object that is a map to the server, which matches its keys exactly. A key in another case is a field that nobody knows, and
    /// two that differ in it are refused all the same, since other servers fold them.
    pub fn open_exact(json: Json) -> Result<Self, DecodeError> {
        Ok(Self { exact: true, ..Self::open(json)? })
    }

    fn means(&self, key: &str, name: &str) -> bool {
        if self.exact { key == name } else { names_field(key, name) }
    }

    /// Takes a field. `null` counts as absent, as it does to the server.
    pub fn any(&mut self, name: &str) -> Option<Json> {
        let position = self.entries.iter().position(|(key, _)| self.means(key, name))?;
        // In their order, so that what is left is written in the order in which it was read.
        match self.entries.remove(position).1 {
            Json::Null => None,
            value => Some(value),
        }
    }

    /// Whether a field is there, and not `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, value)| self.means(key, name) && *value != Json::Null)
    }

    /// Takes a string.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, DecodeError> {
        match self.any(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    /// Takes a boolean.
    pub fn bool(&mut self, name: &str) -> Result<Option<bool>, DecodeError> {
        match self.any(name) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(wrong_type(name, "true or false")),
        }
    }

    /// Takes an array; an absent one is empty.
    pub fn array(&mut self, name: &str) -> Result<Vec<Json>, DecodeError> {
        match self.any(name) {
            None => Ok(Vec::new()),
            Some(Json::Array(items)) => Ok(items),
            Some(_) => Err(wrong_type(name, "an array")),
        }
    }

    /// Takes an array and decodes each of its items.
    pub fn each<T>(&mut self, name: &str, decode: impl Fn(Json) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
        let items = self.array(name)?;
        items.into_iter().enumerate().map(|(index, item)| decode(item).map_err(|error| error.at(index).within(name))).collect()
    }

    /// Takes an object, to be opened in its turn.
    pub fn object(&mut self, name: &str) -> Result<Option<Fields>, DecodeError> {
        match self.any(name) {
            None => Ok(None),
            Some(value) => Fields::open(value).map(Some).map_err(|error| error.within(name)),
        }
    }

    /// Takes those of `names` that are there, under exactly these names, in this order.
    pub fn known(&mut self, names: &[&'static str]) -> Vec<(&'static str, Json)> {
        names.iter().filter_map(|name| self.any(name).map(|value| (*name, value))).collect()
    }

    /// How many fields nobody took.
    #[must_use]
    pub fn left(&self) -> usize {
        self.entries.len()
    }

    /// What nobody took.
    #[must_use]
    pub fn rest(self) -> Rest {
        // A field without a value says nothing.
        Rest(self.entries.into_iter().filter(|(_, value)| *value != Json::Null).collect())
    }
}

/// Fields of an object of a request that its API doesn't document. Whether they go on is the policy's to say.
#[derive(Debug, Default)]
pub struct Rest(Vec<(String, Json)>);

impl Rest {
    /// Keeps the fields for which `keep` says yes to their name.
    pub fn retain(&mut self, keep: &mut dyn FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Fields that were read by another way than [`Fields`].
    #[must_use]
    pub fn of(fields: Vec<(String, Json)>) -> Self {
        Self(fields)
    }

    /// The names and the texts of those that are texts.
    pub fn strings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// Says them as the user's text, each with its name.
    pub fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        for (name, value) in &self.0 {
            let mut text = name.clone();
            value.each_text(&mut |said| {
                text.push('\n');
                text.push_str(said);
            });
            each(Text { channel: Channel::User, message: None, text: Cow::Owned(text) });
        }
    }
}

/// A value to be written, borrowed from what it is made of wherever it can be.
#[derive(Debug)]
pub enum Out<'a> {
    /// A tree as it was read.
    Tree(&'a Json),
    /// A tree that was made for this.
    Made(Json),
    /// A string.
    Text(&'a str),
    /// An array.
    List(Vec<Out<'a>>),
    /// An object, in the order in which it is written.
    Object(Vec<(&'a str, Out<'a>)>),
}

impl From<Json> for Out<'_> {
    fn from(json: Json) -> Self {
        Self::Made(json)
    }
}

impl<'a> From<&'a Json> for Out<'a> {
    fn from(json: &'a Json) -> Self {
        Self::Tree(json)
    }
}

impl From<Out<'_>> for Json {
    fn from(out: Out<'_>) -> Self {
        match out {
            Out::Tree(json) => json.clone(),
            Out::Made(json) => json,
            Out::Text(text) => Self::String(text.to_owned()),
            Out::List(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Out::Object(entries) => Self::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()),
        }
    }
}

impl Serialize for Out<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tree(json) => json.serialize(serializer),
            Self::Made(json) => json.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(entries) => serializer.collect_map(entries.iter().map(|(name, value)| (name, value))),
        }
    }
}

impl Out<'_> {
    /// Writes the value compactly, as [`Json::write`] does.
    pub fn write(&self, out: &mut Vec<u8>) {
        json::write(self, out);
    }
}

/// Writes an object's fields in order, leaving out what is absent.
#[derive(Debug, Default)]
pub struct ObjectWriter<'a> {
    entries: Vec<(&'a str, Out<'a>)>,
}

impl<'a> ObjectWriter<'a> {
    /// Adds a field.
    pub fn put(&mut self, name: &'a str, value: impl Into<Out<'a>>) {
        self.entries.push((name, value.into()));
    }

    /// Adds a string, where there is one.
    pub fn string(&mut self, name: &'a str, value: Option<&'a str>) {
        if let Some(value) = value {
            self.put(name, Out::Text(value));
        }
    }

    /// Adds a boolean, where there is one.
    pub fn bool(&mut self, name: &'a str, value: Option<bool>) {
        if let Some(value) = value {
            self.put(name, Json::Bool(value));
        }
    }

    /// Adds an array, unless it is empty.
    pub fn array(&mut self, name: &'a str, items: Vec<Out<'a>>) {
        if !items.is_empty() {
            self.put(name, Out::List(items));
        }
    }

    /// Adds an array of trees, unless it is empty.
    pub fn trees(&mut self, name: &'a str, items: &'a [Json]) {
        self.array(name, items.iter().map(Out::from).collect());
    }

    /// Adds fields that were taken by [`Fields::known`].
    pub fn known(&mut self, fields: &'a [(&'static str, Json)]) {
        self.entries.extend(fields.iter().map(|(name, value)| (*name, Out::Tree(value))));
    }

    /// Adds what is left of the fields that nobody took.
    pub fn rest(&mut self, rest: &'a Rest) {
        self.entries.extend(rest.0.iter().map(|(name, value)| (name.as_str(), Out::Tree(value))));
    }

    /// The object, written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        self.finish().write(&mut bytes);
        bytes
    }

    /// The object.
    #[must_use]
    pub fn finish(self) -> Out<'a> {
        Out::Object(self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(body: &str) -> Result<Fields, DecodeError> {
        Fields::open(Json::read(body.as_bytes()).unwrap())
    }

    #[test]
    fn keys_that_differ_only_in_case_are_refused() {
        assert_eq!(open(r#"{"model":"a","MODEL":"b"}"#).unwrap_err(), DecodeError::SameField { path: String::new() });
        assert!(open("{\"system\":\"a\",\"\u{17f}ystem\":\"b\"}").is_err());
    }

    #[test]
    fn a_key_in_another_case_is_the_field_that_the_server_takes_it_for() {
        let mut fields = open(r#"{"Model":"a","other":1}"#).unwrap();
        assert_eq!(fields.string("model").unwrap().as_deref(), Some("a"));
        assert_eq!(fields.left(), 1);
    }

    #[test]
    fn in_a_map_a_key_in_another_case_is_a_field_that_nobody_knows() {
        let mut fields = Fields::open_exact(Json::read(br#"{"Type":"a","text":"b"}"#).unwrap()).unwrap();
        assert_eq!((fields.string("type").unwrap(), fields.string("text").unwrap().as_deref(), fields.left()), (None, Some("b"), 1));
        assert!(Fields::open_exact(Json::read(br#"{"Type":"a","type":"b"}"#).unwrap()).is_err());
    }

    #[test]
    fn an_error_names_the_path() {
        let mut fields = open(r#"{"messages":[{"content":"a"},{"content":7}]}"#).unwrap();
        let error = fields.each("messages", |item| Fields::open(item)?.string("content")).unwrap_err();
        assert_eq!(error.to_string(), "messages[1].content must be a string");
    }

    #[test]
    fn null_counts_as_absent() {
        let mut fields = open(r#"{"model":null}"#).unwrap();
        assert_eq!(fields.string("model").unwrap(), None);
        assert_eq!(fields.left(), 0);
    }
}

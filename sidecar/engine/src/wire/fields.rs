//! Takes an object apart into the fields that a route knows, so that what is left over is known to be unknown.
//!
//! Servers in Go match keys without regard to case. Here a key names a field as it would there, and two keys that name
//! the same field are refused: the invariant is that each field was said at most once.

use std::borrow::Cow;

use super::edit::{self, Edit};
use super::json::{Json, Key, folded, make_keys_unique, names_field, write_array, write_string};
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

/// Whether no folding changes it.
fn is_folded(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// The fields of one object that have not been taken yet.
#[derive(Debug)]
pub struct Fields {
    entries: Vec<(Key, Json)>,
    keys: Keys,
}

/// How keys are matched with names.
#[derive(Clone, Copy, Debug)]
enum Keys {
    /// Without regard to case. They are spelt in ASCII and without capitals, as names are.
    Small,
    /// Without regard to case.
    Folded,
}

impl Keys {
    /// Whether a key is meant by a name.
    fn mean(self, key: &str, name: &str) -> bool {
        match self {
            Self::Small => {
                debug_assert!(is_folded(name), "{name}");
                key == name
            }
            Self::Folded => names_field(key, name),
        }
    }
}

impl Fields {
    /// Opens an object.
    pub fn open(json: Json) -> Result<Self, DecodeError> {
        let Json::Object(entries) = json else {
            return Err(wrong_type("", "an object"));
        };
        // Keys that no folding changes are different, as all keys of an object that was read.
        if entries.iter().all(|(key, _)| is_folded(key)) {
            return Ok(Self { entries, keys: Keys::Small });
        }
        let mut names: Vec<String> = entries.iter().map(|(key, _)| folded(key)).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DecodeError::SameField { path: String::new() });
        }
        Ok(Self { entries, keys: Keys::Folded })
    }

    /// Opens an object whose keys some servers match exactly and others without regard to case: one of `names` in another spelling, which they
    /// would read in two ways, is refused.
    pub fn open_spelt(json: Json, names: &[&'static str]) -> Result<Self, DecodeError> {
        let fields = Self::open(json)?;
        if let Keys::Folded = fields.keys {
            let misspelt = |name: &&&str| fields.entries.iter().any(|(key, _)| key != **name && names_field(key, name));
            if let Some(name) = names.iter().find(misspelt) {
                return Err(wrong_type(name, "spelt in small letters"));
            }
        }
        Ok(fields)
    }

    /// Takes a field. `null` counts as absent, as it does to the server.
    pub fn any(&mut self, name: &str) -> Option<Json> {
        let keys = self.keys;
        let (_, value) = self.entries.iter_mut().find(|(key, _)| keys.mean(key, name))?;
        // What was taken leaves a field behind that says nothing.
        Some(std::mem::replace(value, Json::Null)).filter(|value| !matches!(value, Json::Null))
    }

    /// Whether a field is there, and not `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, value)| self.keys.mean(key, name) && *value != Json::Null)
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
        self.entries.iter().filter(|(_, value)| *value != Json::Null).count()
    }

    /// What nobody took.
    #[must_use]
    pub fn rest(self) -> Rest {
        // Most objects are known as a whole.
        if self.left() == 0 { Rest::default() } else { Rest(self.entries.into_iter().filter(|(_, value)| *value != Json::Null).collect()) }
    }
}

/// Fields of an object of a request that its API doesn't document. Whether they go on is the policy's to say.
#[derive(Debug, Default)]
pub struct Rest(Vec<(Key, Json)>);

impl Rest {
    /// Keeps the fields for which `keep` says yes to their name.
    pub fn retain(&mut self, keep: &mut dyn FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Fields that were read by another way than [`Fields`].
    #[must_use]
    pub fn of(fields: Vec<(Key, Json)>) -> Self {
        Self(fields)
    }

    /// The names and the texts of those that are texts.
    pub fn strings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// Edits them, names and all.
    pub(super) fn edit(&mut self, edit: &mut Edit<'_>) {
        let mut changed = false;
        for (name, value) in &mut self.0 {
            if let Some(other) = edit("", name) {
                *name = other.into();
                changed = true;
            }
            edit::named_tree(value, name, edit);
        }
        if changed {
            make_keys_unique(&mut self.0);
        }
    }

    /// Says them as the user's text, each with its name.
    pub fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        for (name, value) in &self.0 {
            let mut text = name.to_string();
            value.each_text(&mut |said| {
                text.push('\n');
                text.push_str(said);
            });
            each(Text { channel: Channel::User, message: None, also: &[], text: Cow::Owned(text) });
        }
    }
}

/// The body of a request: one object.
pub(super) fn body(fields: impl FnOnce(&mut ObjectWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    object(&mut out, fields);
    out
}

/// Writes an object.
pub(crate) fn object(out: &mut Vec<u8>, fields: impl FnOnce(&mut ObjectWriter<'_>)) {
    out.push(b'{');
    fields(&mut ObjectWriter { out, is_empty: true });
    out.push(b'}');
}

/// Writes an object's fields in order, leaving out what is absent.
#[derive(Debug)]
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl ObjectWriter<'_> {
    /// Adds a field, by a name that needs no escaping. What is given is where its value, exactly one, is to be written.
    pub(super) fn field(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.begin_field();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn begin_field(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
    }

    /// Adds a value as it was read, where there is one.
    pub(super) fn any(&mut self, name: &'static str, value: Option<&Json>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Adds a value as it was read.
    pub(crate) fn put(&mut self, name: &'static str, value: &Json) {
        value.write(self.field(name));
    }

    /// Adds a string, where there is one.
    pub(super) fn string(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            write_string(value, self.field(name));
        }
    }

    /// Adds a boolean, where there is one.
    pub(super) fn bool(&mut self, name: &'static str, value: Option<bool>) {
        if let Some(value) = value {
            self.put(name, &Json::Bool(value));
        }
    }

    /// Adds a whole number.
    pub(crate) fn number(&mut self, name: &'static str, value: u64) {
        self.put(name, &Json::Number(value.into()));
    }

    /// Adds an object.
    pub(crate) fn object(&mut self, name: &'static str, fields: impl FnOnce(&mut ObjectWriter<'_>)) {
        object(self.field(name), fields);
    }

    /// Adds an array of objects.
    pub(super) fn objects<T>(&mut self, name: &'static str, items: impl IntoIterator<Item = T>, encode: impl Fn(T, &mut ObjectWriter<'_>)) {
        write_objects(items, self.field(name), encode);
    }

    /// Adds an array of objects, unless it is empty.
    pub(super) fn any_objects<'i, T>(&mut self, name: &'static str, items: &'i [T], encode: impl Fn(&'i T, &mut ObjectWriter<'_>)) {
        if !items.is_empty() {
            self.objects(name, items, encode);
        }
    }

    /// Adds an array of values as they were read, unless it is empty.
    pub(super) fn any_trees(&mut self, name: &'static str, items: &[Json]) {
        if !items.is_empty() {
            self.trees(name, items);
        }
    }

    /// Adds an array of values as they were read.
    pub(super) fn trees(&mut self, name: &'static str, items: &[Json]) {
        write_array(items, self.field(name), Json::write);
    }

    /// Adds fields that were taken by [`Fields::known`].
    pub(crate) fn known(&mut self, fields: &[(&'static str, Json)]) {
        for (name, value) in fields {
            self.put(name, value);
        }
    }

    /// Adds what is left of the fields that nobody took.
    pub(super) fn rest(&mut self, rest: &Rest) {
        for (name, value) in &rest.0 {
            self.begin_field();
            write_string(name, self.out);
            self.out.push(b':');
            value.write(self.out);
        }
    }
}

/// Writes an array of objects.
pub(super) fn write_objects<T>(items: impl IntoIterator<Item = T>, out: &mut Vec<u8>, encode: impl Fn(T, &mut ObjectWriter<'_>)) {
    write_array(items, out, |item, out| object(out, |fields| encode(item, fields)));
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
    fn a_key_that_one_server_reads_and_another_does_not_is_refused() {
        let open = |body: &str| Fields::open_spelt(Json::read(body.as_bytes()).unwrap(), &["type", "text"]);
        assert_eq!(open(r#"{"Type":"a","text":"b"}"#).unwrap_err().to_string(), "type must be spelt in small letters");
        assert!(open("{\"te\u{17f}t\":\"b\"}").is_ok(), "it is another word");
        let mut fields = open(r#"{"type":"a","text":"b","Other":1}"#).unwrap();
        assert_eq!((fields.string("type").unwrap().as_deref(), fields.left()), (Some("a"), 2));
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

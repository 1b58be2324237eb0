//! JSON, read so that no two parsers can read it in two ways.
//!
//! The reader refuses what Go's `encoding/json` and others tolerate differently: duplicate keys, trailing bytes, invalid UTF-8, lone
//! surrogates, nesting over 128. What it has read it can only write in one way: the invariant is that bytes which were
//! written by [`Json::write`] mean to every parser what the tree says.

use std::fmt;
use std::io::Write as _;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use smol_str::SmolStr;

/// A JSON value. Keys keep their order and are unique within an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as the integer or the double that it is.
    Number(serde_json::Number),
    /// A string, escapes resolved.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, in the order in which it was written.
    Object(Vec<(Key, Json)>),
}

/// A key of an object. Nearly all are short enough to need no memory of their own.
pub type Key = SmolStr;

/// Why bytes are not JSON that only one reading fits. Says where, never what stood there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not strict JSON: {reason} at line {line} column {column}")]
pub struct JsonError {
    reason: &'static str,
    line: usize,
    column: usize,
}

impl JsonError {
    /// Behind these bytes.
    fn at(reason: &'static str, read: &[u8]) -> Self {
        let line_start = memchr::memrchr(b'\n', read).map_or(0, |position| position + 1);
        Self { reason, line: memchr::memchr_iter(b'\n', read).count() + 1, column: read.len() - line_start + 1 }
    }
}

const DUPLICATE_KEY: &str = "duplicate key";
const NO_CHARACTER: &str = "a character that can't stand there";

/// The most values that a body may hold. Each takes some 50 bytes in memory however short it was written, so that a bound on the
/// bytes alone would let a body of `0,0,0,…` take twenty times its size. The largest real answers, a tokenizer's lists, have 1.3 million.
const MAX_VALUES: usize = 2 * 1024 * 1024;

/// At least as many values as the bytes hold, once they turn out to be JSON.
fn values_at_most(bytes: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

impl Json {
    /// Reads exactly one value.
    pub fn read(bytes: &[u8]) -> Result<Self, JsonError> {
        // Fewer bytes can't hold too many.
        if bytes.len() > MAX_VALUES && values_at_most(bytes) > MAX_VALUES {
            return Err(JsonError { reason: "more values than are read", line: 1, column: 1 });
        }
        // Once for all its strings.
        let text = std::str::from_utf8(bytes).map_err(|error| JsonError::at(NO_CHARACTER, &bytes[..error.valid_up_to()]))?;
        serde_json::from_str(text).map_err(|error| JsonError {
            reason: match error.classify() {
                serde_json::error::Category::Eof => "it ends too early",
                serde_json::error::Category::Data => DUPLICATE_KEY,
                serde_json::error::Category::Syntax | serde_json::error::Category::Io => NO_CHARACTER,
            },
            line: error.line(),
            column: error.column(),
        })
    }

    /// Writes the value compactly, keys in their order.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => write_number(number, out),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => write_array(items, out, Self::write),
            Self::Object(entries) => {
                out.push(b'{');
                for (place, (key, value)) in entries.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The value as a string, where it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key, exactly as spelt, where this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        match self {
            Self::Object(entries) => entries.iter_mut().find(|(k, _)| k == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Takes out these fields of an object; gives how many there were.
    pub fn remove(&mut self, names: &[&str]) -> usize {
        let Self::Object(entries) = self else { return 0 };
        let before = entries.len();
        entries.retain(|(name, _)| !names.iter().any(|removed| names_field(name, removed)));
        before - entries.len()
    }

    /// Calls `each` for every string below, keys among them, in document order.
    pub fn each_text<'a>(&'a self, each: &mut dyn FnMut(&'a str)) {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
            Self::String(text) => each(text),
            Self::Array(items) => items.iter().for_each(|item| item.each_text(each)),
            Self::Object(entries) => {
                for (key, value) in entries {
                    each(key);
                    value.each_text(each);
                }
            }
        }
    }

    /// As [`Self::each_text`], and every number's digits: what a model reads where it is shown the value.
    pub fn each_shown(&self, each: &mut dyn FnMut(&str)) {
        match self {
            Self::Null | Self::Bool(_) => {}
            Self::Number(number) => each(&number.to_string()),
            Self::String(text) => each(text),
            Self::Array(items) => items.iter().for_each(|item| item.each_shown(each)),
            Self::Object(entries) => {
                for (key, value) in entries {
                    each(key);
                    value.each_shown(each);
                }
            }
        }
    }

    /// Calls `each` for every string below, keys among them, and for every number's digits; it may change them. A number that it
    /// changes becomes a string. Keys that become equal get a number behind them, so that the object's keys stay unique.
    pub fn each_text_mut(&mut self, each: &mut dyn FnMut(&mut String)) {
        self.each_named_text_mut("", &mut |_, text| each(text));
    }

    /// The same, each with the key that it is the value of, or one of the values; what has none with `name`, keys with none.
    pub fn each_named_text_mut(&mut self, name: &str, each: &mut dyn FnMut(&str, &mut String)) {
        match self {
            Self::Null | Self::Bool(_) => {}
            Self::Number(number) => {
                let digits = number.to_string();
                let mut text = digits.clone();
                each(name, &mut text);
                if text != digits {
                    *self = Self::String(text);
                }
            }
            Self::String(text) => each(name, text),
            Self::Array(items) => items.iter_mut().for_each(|item| item.each_named_text_mut(name, each)),
            Self::Object(entries) => {
                let mut changed = false;
                // `{"name": "DB_PASSWORD", "value": …}`
                let has_value = entries.iter().any(|(key, _)| &**key == "value");
                let told = entries.iter().find_map(|(key, value)| match value {
                    Self::String(name) if has_value && matches!(&**key, "name" | "key") => Some(name.clone()),
                    _ => None,
                });
                for (key, value) in entries.iter_mut() {
                    let mut text = key.to_string();
                    each("", &mut text);
                    if text != *key {
                        *key = text.into();
                        changed = true;
                    }
                    let name = told.as_deref().filter(|_| &**key == "value").unwrap_or(key);
                    value.each_named_text_mut(name, each);
                }
                if changed {
                    make_keys_unique(entries);
                }
            }
        }
    }
}

/// Writes an array, each of its items by `write`.
pub(super) fn write_array<T>(items: impl IntoIterator<Item = T>, out: &mut Vec<u8>, write: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Writes a string: what RFC 8259, section 7, asks to be escaped, in the short way where there is one, and all else as it is, but for
/// U+2028 and U+2029, which are escaped as servers in Go do: clients in Python take them for the end of a line, and cut the value there.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut left = text.as_bytes();
    loop {
        let plain = plain_bytes(left);
        out.extend_from_slice(&left[..plain]);
        let Some(&byte) = left.get(plain) else { break };
        left = &left[plain + 1..];
        if byte == SEPARATOR[0] {
            match left {
                [second, third @ (0xa8 | 0xa9), rest @ ..] if *second == SEPARATOR[1] => {
                    out.extend_from_slice(if *third == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                    left = rest;
                }
                _ => out.push(byte),
            }
            continue;
        }
        let short = match byte {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => {
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), b"0123456789abcdef"[usize::from(byte & 15)]]);
                continue;
            }
            _ => byte,
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
}

/// How the characters U+2028 and U+2029 begin, and others.
const SEPARATOR: [u8; 2] = [0xe2, 0x80];

/// How many bytes come before the first one that is to be escaped, or begins what may have to be.
fn plain_bytes(text: &[u8]) -> usize {
    for (place, word) in text.as_chunks::<8>().0.iter().enumerate() {
        let plain = plain_bytes_of(*word);
        if plain < 8 {
            return place * 8 + plain;
        }
    }
    match text.last_chunk::<8>() {
        // What it shares with the word before is plain.
        Some(word) => text.len() - 8 + plain_bytes_of(*word),
        None => text.iter().position(|byte| *byte < 0x20 || matches!(*byte, b'"' | b'\\' | 0xe2)).unwrap_or(text.len()),
    }
}

/// The same of eight bytes, at once.
fn plain_bytes_of(word: [u8; 8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Marks each byte that is less than `bound`, which is at most 128, by its high bit. A byte behind such a one may be marked for nothing,
    // so that only the first mark tells.
    let less = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let word = u64::from_le_bytes(word);
    let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let marks = less(word, 0x20) | is(b'"') | is(b'\\') | is(SEPARATOR[0]);
    marks.trailing_zeros() as usize / 8
}

/// Writes a number. `-0` is a whole number to servers, but is read as a fraction here: written as one, `-0.0`, they would refuse it in
/// its place.
fn write_number(number: &serde_json::Number, out: &mut Vec<u8>) {
    match number.as_f64() {
        Some(zero) if zero == 0.0 && zero.is_sign_negative() => out.extend_from_slice(b"-0"),
        // Writing to memory can't fail.
        _ => write!(out, "{number}").unwrap_or_default(),
    }
}

impl fmt::Display for Json {
    /// As [`Json::write`] writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        f.write_str(std::str::from_utf8(&bytes).expect("JSON is written as UTF-8"))
    }
}

pub(super) fn make_keys_unique(entries: &mut [(Key, Json)]) {
    let mut seen = std::collections::HashSet::new();
    // Where the numbers of a key have come to: to count from the start for each copy would be quadratic.
    let mut copies = std::collections::HashMap::<Key, usize>::new();
    for (key, _) in entries {
        if seen.insert(key.clone()) {
            continue;
        }
        let copy = copies.entry(key.clone()).or_insert(1);
        let plain = key.clone();
        while !seen.insert(key.clone()) {
            *copy += 1;
            *key = smol_str::format_smolstr!("{plain}#{copy}");
        }
    }
}

/// The ASCII letter or character that Go's `encoding/json` takes `c` for when it matches a key with a field's name: case is folded
/// with Unicode's simple folding, by which `ſ` (U+017F) is an `s` and `K` (U+212A) is a `k`.
fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c if c.is_ascii() => c.to_ascii_lowercase(),
        c => c.to_lowercase().next().unwrap_or(c),
    }
}

/// Whether a key means the field `name` to a server that folds case.
#[must_use]
pub fn names_field(key: &str, name: &str) -> bool {
    key.eq_ignore_ascii_case(name) || !(key.is_ascii() && name.is_ascii()) && key.chars().map(fold).eq(name.chars().map(fold))
}

/// A key in the one spelling that all keys of the same meaning share.
#[must_use]
pub fn folded(key: &str) -> String {
    key.chars().map(fold).collect()
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        serde_json::Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut object = Object::default();
        while map.next_key_seed(&mut object)?.is_some() {
            let value = map.next_value()?;
            if let Some((_, place)) = object.entries.last_mut() {
                *place = value;
            }
        }
        Ok(Json::Object(object.entries))
    }
}

/// An object that is being read. Its keys are put in their places at once, each before its value is known.
#[derive(Default)]
struct Object {
    entries: Vec<(Key, Json)>,
    /// The keys, once they are too many to look at each.
    table: Option<std::collections::HashSet<Key>>,
}

impl<'de> DeserializeSeed<'de> for &mut Object {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for &mut Object {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        /// Up to here a look at each earlier key is cheaper than a table of them.
        const FEW: usize = 16;
        let is_new = match &mut self.table {
            Some(table) => table.insert(key.into()),
            None => self.entries.iter().all(|(earlier, _)| earlier != key),
        };
        if !is_new {
            return Err(E::custom(DUPLICATE_KEY));
        }
        self.entries.push((key.into(), Json::Null));
        if self.table.is_none() && self.entries.len() == FEW {
            self.table = Some(self.entries.iter().map(|(key, _)| key.clone()).collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        for body in [
            &br#"{"a":1,"a":2}"#[..],
            br#"{"a":{"b":1,"\u0062":2}}"#,
            br#"{"a":1} {"a":2}"#,
            br#"{"a":1}x"#,
            b"{\"a\":\"\xff\"}",
            br#"{"a":"\ud800"}"#,
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\x01\"}",
            br#"{"a":1,}"#,
            br#"{"a":1e400}"#,
            b"",
            b" ",
        ] {
            assert!(Json::read(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_duplicate_is_found_among_many_keys() {
        let keys: Vec<String> = (0..100).map(|i| format!("\"k{i}\":0")).collect();
        assert!(Json::read(format!("{{{}}}", keys.join(",")).as_bytes()).is_ok());
        assert!(Json::read(format!("{{{},\"k3\":0}}", keys.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(Json::read(deep(100).as_bytes()).is_ok());
        assert!(Json::read(deep(129).as_bytes()).is_err());
        assert!(Json::read(deep(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn what_was_read_is_written_as_it_was() {
        let body = r#"{"b":[1,-2,1.5,18446744073709551615,true,null],"a":{"x":"\"\\\n é"}}"#;
        let mut out = Vec::new();
        Json::read(body.as_bytes()).unwrap().write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), body);
    }

    #[test]
    fn strings_are_written_as_a_library_writes_them() {
        let bytes: Vec<u8> = (0..=0x7f).chain(*b"plain text \"quoted\" and \\ more\n").collect();
        let text = String::from_utf8(bytes).unwrap() + "\u{80}\u{ff}\u{7ff}\u{ffff}\u{10ffff}é“\u{2027}\u{2028}\u{2029}\u{202a}…end";
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        for (i, &from) in places.iter().enumerate() {
            for &to in places.iter().skip(i).take(40) {
                let mut out = Vec::new();
                write_string(&text[from..to], &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), as_a_library_writes_it(&text[from..to]));
            }
        }
    }

    fn as_a_library_writes_it(value: &(impl serde::Serialize + ?Sized)) -> String {
        serde_json::to_string(value).unwrap().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
    }

    #[test]
    fn what_clients_take_for_the_end_of_a_line_is_escaped() {
        for byte in 0..=u8::MAX {
            for (place, third) in [0x80, 0xa7, 0xa8, 0xa9, 0xaa].into_iter().enumerate() {
                let Ok(text) = String::from_utf8(vec![0xe2, byte, third]) else { continue };
                let (mut out, text) = (Vec::new(), ["1234567890", &text].concat()[place..].to_owned());
                write_string(&text, &mut out);
                let ends_lines = byte == 0x80 && [0xa8, 0xa9].contains(&third);
                assert_eq!(out.is_ascii(), ends_lines, "{text:?}");
                assert_eq!(Json::read(&out).unwrap(), Json::String(text));
            }
        }
    }

    mod properties {
        use proptest::prelude::*;
        use serde_json::Value;

        use super::*;

        fn text() -> impl Strategy<Value = String> {
            let odd = prop::sample::select(vec![
                '"', '\\', '\n', '\u{1f}', '\u{20}', '\u{7f}', '\u{80}', '\u{85}', '!', '#', '[', ']', '“', '—', '\u{2028}', '\u{2029}',
                'ⅽ', '\u{e0a8}',
            ]);
            let piece = prop_oneof![4 => "[a-z ]{0,9}", 2 => odd.prop_map(String::from), 1 => any::<String>()];
            prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
        }

        fn tree() -> impl Strategy<Value = Value> {
            let leaf = prop_oneof![
                Just(Value::Null),
                any::<bool>().prop_map(Value::from),
                any::<i64>().prop_map(Value::from),
                any::<u64>().prop_map(Value::from),
                any::<f64>().prop_filter("written as a whole number", |number| *number != 0.0).prop_map(Value::from),
                text().prop_map(Value::from),
            ];
            leaf.prop_recursive(4, 32, 6, |inner| {
                prop_oneof![
                    prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                    prop::collection::vec((text(), inner), 0..6).prop_map(|entries| Value::Object(entries.into_iter().collect())),
                ]
            })
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(2_000))]

            #[test]
            fn a_tree_is_written_as_a_library_writes_it_and_read_as_it_was(tree in tree()) {
                let library = as_a_library_writes_it(&tree);
                let read = Json::read(serde_json::to_string(&tree).unwrap().as_bytes()).unwrap();
                let mut out = Vec::new();
                read.write(&mut out);
                prop_assert_eq!(std::str::from_utf8(&out).unwrap(), &library);
                prop_assert_eq!(Json::read(&out).unwrap(), read);
            }

            #[test]
            fn an_object_that_is_written_field_by_field_is_the_tree_of_its_fields(texts in prop::collection::vec(text(), 3), number in any::<u64>(), tree in tree(), is in any::<Option<bool>>()) {
                let read = Json::read(tree.to_string().as_bytes()).unwrap();
                let written = crate::wire::fields::body(|out| {
                    out.string("a", Some(&texts[0]));
                    out.string("none", None);
                    out.number("b", number);
                    out.bool("c", is);
                    out.object("d", |out| out.put("e", &read));
                    out.any_trees("empty", &[]);
                    out.objects("f", &texts, |text, out| out.string("g", Some(text)));
                    out.object("h", |_| {});
                });
                let mut expected = serde_json::json!({"a": texts[0], "b": number, "d": {"e": tree}, "f": texts.iter().map(|text| serde_json::json!({"g": text})).collect::<Vec<_>>(), "h": {}});
                if let Some(is) = is {
                    expected["c"] = is.into();
                }
                prop_assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_negative_zero_is_a_whole_number() {
        let mut out = Vec::new();
        Json::read(b"[-0,-0.0,-1,0.0,1e2]").unwrap().write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "[-0,-0,-1,0.0,100.0]");
    }

    #[test]
    fn an_error_says_where_and_not_what() {
        let secret = "hunter2hunter2";
        for body in [format!("{{\"a\":\"{secret}\",\"a\":1}}"), format!("{{\"a\":{secret}}}"), format!("{{\"{secret}\":1,\"{secret}\":1}}")]
        {
            let said = Json::read(body.as_bytes()).unwrap_err().to_string();
            assert!(!said.contains("hunter"), "{said}");
            assert!(said.contains("line 1"), "{said}");
        }
    }

    #[test]
    fn keys_are_matched_as_go_folds_them() {
        assert!(names_field("Model", "model"));
        assert!(names_field("\u{17f}y\u{17f}tem", "system"));
        assert!(names_field("\u{212a}eep_alive", "keep_alive"));
        assert!(!names_field("models", "model"));
    }

    #[test]
    fn keys_that_become_equal_stay_apart() {
        let mut tree = Json::read(br#"{"secret-a":1,"secret-b":2}"#).unwrap();
        tree.each_text_mut(&mut |text| {
            if text.starts_with("secret") {
                *text = "X".into();
            }
        });
        let mut out = Vec::new();
        tree.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"X":1,"X#2":2}"#);
    }
}

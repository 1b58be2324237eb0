//! A second reader of JSON: it keeps what others merge, keys that stand twice among it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// A number, true, false or null.
    Other,
    Text(String),
    List(Vec<Tree>),
    Members(Vec<(String, Tree)>),
}

impl Tree {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Members(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn list(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    pub(super) fn children(&self) -> Vec<&Self> {
        match self {
            Self::List(items) => items.iter().collect(),
            Self::Members(members) => members.iter().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        }
    }

    /// How deep it is: a value that holds no other is one deep.
    pub(super) fn depth(&self) -> usize {
        1 + self.children().into_iter().map(Self::depth).max().unwrap_or_default()
    }

    /// Whether an object of it has a key twice.
    pub(super) fn has_twins(&self) -> bool {
        let twins = if let Self::Members(members) = self {
            let mut seen = HashSet::new();
            !members.iter().all(|(key, _)| seen.insert(key))
        } else {
            false
        };
        twins || self.children().into_iter().any(Self::has_twins)
    }

    /// Whether two keys of this object, not of those in it, mean the same field to Go.
    pub(super) fn has_folded_twins(&self) -> bool {
        let Self::Members(members) = self else { return false };
        let mut seen = HashSet::new();
        !members.iter().all(|(key, _)| seen.insert(fold(key)))
    }
}

/// A key as `encoding/json` folds it: of the letters that Unicode takes for one, but for these two, none is ASCII's.
fn fold(key: &str) -> String {
    key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase()
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsWritten)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }
    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Members(members))
    }
}

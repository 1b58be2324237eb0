//! Reads YAML into types so that whatever doesn't fit is said with its path and its place.
//!
//! The text is read twice over: by a library into a tree whose every value knows where it stands, and from there, by serde, into the
//! types. Values are never turned into others: where a text is expected, a bare `1.0`, `true` or `yes` is an error, as it is to the API
//! server of Kubernetes, which gets a number or a boolean then.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_saphyr::Spanned;

use super::error::{Place, PolicyError, nearest, shown};

/// How deeply values may be nested. What stands in a policy has eight levels; each takes stack while it is read.
const MAX_DEPTH: usize = 32;

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Tree {
    is: Node,
    place: Option<Place>,
}

#[derive(Debug)]
enum Node {
    Nothing,
    Bool(bool),
    Whole(i64),
    Large(u64),
    Fraction(f64),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Option<Place>, Tree)>),
}

impl Tree {
    /// Reads a text.
    pub(super) fn read(yaml: &str) -> Result<Self, PolicyError> {
        let options = serde_saphyr::options! { budget: serde_saphyr::budget! { max_depth: MAX_DEPTH } };
        serde_saphyr::from_str_with_options::<Spanned<Node>>(yaml, options).map(Self::from).map_err(|error| {
            let place = error.location().map(|place| Place { line: place.line(), column: place.column() });
            // It says the place once more.
            let said = error.without_snippet().to_string();
            let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said).to_owned();
            let reason = match said.strip_prefix("duplicate mapping key: ") {
                Some(rest) => format!("'{}' stands here twice", shown(rest.split_once(',').map_or(rest, |(key, _)| key))),
                None if said.contains("depth") || said.contains("recursion") => format!("this is nested more than {MAX_DEPTH} levels deep"),
                None if said.starts_with("multiple YAML documents") => "there is more than one document".to_owned(),
                None => format!("this is no YAML: {said}"),
            };
            PolicyError::new("", reason).at(place)
        })
    }

    /// Reads a type out of it.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, PolicyError> {
        T::deserialize(self).map_err(|fault| PolicyError::new(fault.path, fault.reason).at(fault.place.or(self.place)))
    }

    /// Where the value of a path stands, or as much of the path as there is.
    pub(super) fn place_of(&self, path: &str) -> Option<Place> {
        let mut tree = self;
        let mut place = self.place;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let next = match &tree.is {
                Node::Map(entries) => entries.iter().find(|(key, ..)| key == step).map(|(_, key, value)| (value.place.or(*key), value)),
                Node::List(items) => {
                    step.strip_suffix(']').and_then(|index| items.get(index.parse::<usize>().ok()?)).map(|item| (item.place, item))
                }
                _ => None,
            };
            let Some((at, below)) = next else { break };
            (place, tree) = (at.or(place), below);
        }
        place
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match &self.is {
            Node::Nothing => Unexpected::Unit,
            Node::Bool(value) => Unexpected::Bool(*value),
            Node::Whole(value) => Unexpected::Signed(*value),
            Node::Large(value) => Unexpected::Unsigned(*value),
            Node::Fraction(value) => Unexpected::Float(*value),
            Node::Text(text) => Unexpected::Str(text),
            Node::List(_) => Unexpected::Seq,
            Node::Map(_) => Unexpected::Map,
        }
    }

    fn misfit(&self, expected: &dyn de::Expected) -> Fault {
        de::Error::invalid_type(self.unexpected(), expected)
    }
}

fn place(spot: serde_saphyr::Location) -> Option<Place> {
    (spot.line() > 0).then(|| Place { line: spot.line(), column: spot.column() })
}

impl From<Spanned<Node>> for Tree {
    fn from(spanned: Spanned<Node>) -> Self {
        Self { place: place(spanned.referenced), is: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Large(value), Node::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Fraction(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Node>>()? {
            list.push(item.into());
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Node>>()? {
            map.push((key.value, place(key.referenced), value.into()));
        }
        Ok(Node::Map(map))
    }
}

/// What doesn't fit: the innermost path first, made longer on the way out.
#[derive(Debug)]
pub(super) struct Fault {
    path: String,
    reason: String,
    place: Option<Place>,
}

impl Fault {
    fn new(reason: String) -> Self {
        Self { path: String::new(), reason, place: None }
    }

    fn below(mut self, step: &str, place: Option<Place>) -> Self {
        self.path = match self.path.as_str() {
            "" => step.to_owned(),
            inner if inner.starts_with('[') => format!("{step}{inner}"),
            inner => format!("{step}.{inner}"),
        };
        self.place = self.place.or(place);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

/// The name that was probably meant, if any, and all that there are.
fn choices(name: &str, known: &[&str]) -> String {
    let meant = nearest(name, known.iter().copied()).map_or_else(|| ".".to_owned(), |meant| format!(": did you mean '{meant}'?"));
    format!("{meant} There are: {}", known.join(", "))
}

/// What YAML calls what serde found.
fn found(unexpected: Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_) => "a number",
        Unexpected::Str(_) | Unexpected::Char(_) => "a text",
        Unexpected::Seq => "a list",
        _ => "a mapping",
    }
}

/// What YAML calls what serde expects.
fn wanted(expected: &dyn de::Expected) -> String {
    let said = expected.to_string();
    match said.as_str() {
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a map" => "a mapping".to_owned(),
        "u32" => "a whole number".to_owned(),
        said if said.starts_with("struct ") => "a mapping".to_owned(),
        said => said.to_owned(),
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let quoted = match unexpected {
            Unexpected::Bool(_) | Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_)
                if wanted(expected) == "a text" =>
            {
                "; as a text it stands in quotes"
            }
            _ => "",
        };
        Self::new(format!("{} is expected, and there is {}{quoted}", wanted(expected), found(unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("nobody knows '{}'{}", shown(variant), choices(variant, expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("nobody reads this key{}", choices(field, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key '{field}' is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("'{field}' stands here twice"))
    }
}

impl<'de> Deserializer<'de> for &Tree {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.is {
            Node::Nothing => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Whole(value) => visitor.visit_i64(*value),
            Node::Large(value) => visitor.visit_u64(*value),
            Node::Fraction(value) => visitor.visit_f64(*value),
            Node::Text(text) => visitor.visit_str(text),
            Node::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Node::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
        .map_err(|fault: Fault| Fault { place: fault.place.or(self.place), ..fault })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if matches!(self.is, Node::Nothing) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A section without anything in it has its defaults.
    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        match self.is {
            Node::Nothing => visitor.visit_map(Entries { entries: [].iter(), value: None }),
            Node::Map(_) => self.deserialize_any(visitor),
            _ => Err(self.misfit(&"a mapping")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if matches!(self.is, Node::List(_)) { self.deserialize_any(visitor) } else { Err(self.misfit(&"a list")) }
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, variants: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        match &self.is {
            Node::Text(name) => visitor
                .visit_enum(IntoDeserializer::<Fault>::into_deserializer(name.as_str()) as StrDeserializer<'_, Fault>)
                .map_err(|fault| Fault { place: fault.place.or(self.place), ..fault }),
            _ => Err(self.misfit(&format!("one of {}", variants.join(", ")).as_str())),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map identifier
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Tree>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, item)) = self.items.next() else { return Ok(None) };
        seed.deserialize(item).map(Some).map_err(|fault| fault.below(&format!("[{index}]"), item.place))
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (String, Option<Place>, Tree)>,
    value: Option<&'a (String, Option<Place>, Tree)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.entries.next();
        let Some((key, place, _)) = self.value else { return Ok(None) };
        let name: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|fault| fault.below(&shown(key), *place))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((key, _, value)) = self.value else { return Err(Fault::new("a value without its key".to_owned())) };
        seed.deserialize(value).map_err(|fault| fault.below(&shown(key), value.place))
    }
}

//! A grammar: the templates of one language, and what may stand in their slots.
//!
//! The invariant: what was read is sound. Every slot is declared, braces stand for slots alone, and no template says two things.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The slot of frames that an order takes.
pub(crate) const ORDER: &str = "order";

/// The templates of a language.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grammar {
    /// The language's code in ISO 639-1.
    pub(crate) language: String,
    /// What may stand in each slot.
    pub(crate) slots: BTreeMap<String, Vec<String>>,
    /// What a person says.
    pub(crate) user: User,
    /// What data says.
    pub(crate) data: Data,
}

/// What a person says, by kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// To override the model: `override`, `extraction`, `persona`, `bypass`.
    pub(crate) attack: BTreeMap<String, Vec<String>>,
    /// Anything else, with the same words in it: `role_play`, `trigger`, `security`, `chat`, `system`.
    pub(crate) benign: BTreeMap<String, Vec<String>>,
}

/// What data says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    /// What it orders, without a full stop.
    pub(crate) orders: Vec<String>,
    /// What stands around an order in it.
    pub(crate) frames: Vec<String>,
    /// What has no order in it: `email`, `tool` (JSON, with `[[` and `]]` for braces), `document`, `notes`.
    pub(crate) benign: BTreeMap<String, Vec<String>>,
}

/// Why a grammar can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrammarError {
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{0}: {1}")]
    Yaml(PathBuf, String),
    #[error("{0}: {1}")]
    Unsound(PathBuf, String),
}

impl Grammar {
    /// All grammars of a folder, by their names.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>, GrammarError> {
        let unreadable = |error| GrammarError::Read(folder.to_owned(), error);
        let entries = std::fs::read_dir(folder).map_err(unreadable)?;
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Result<Self, GrammarError> {
        let text = std::fs::read_to_string(path).map_err(|error| GrammarError::Read(path.to_owned(), error))?;
        let grammar: Self = serde_saphyr::from_str(&text).map_err(|error| GrammarError::Yaml(path.to_owned(), error.to_string()))?;
        grammar.check().map_err(|fault| GrammarError::Unsound(path.to_owned(), fault))?;
        if path.file_stem().is_none_or(|stem| stem != grammar.language.as_str()) {
            return Err(GrammarError::Unsound(path.to_owned(), format!("it is of the language '{}'", grammar.language)));
        }
        Ok(grammar)
    }

    /// Every template, with the list that it is of.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (&str, &str)> {
        let lists = [&self.user.attack, &self.user.benign, &self.data.benign].into_iter().flatten();
        let lists = lists.map(|(name, list)| (name.as_str(), list));
        let lists = lists.chain([("orders", &self.data.orders), ("frames", &self.data.frames)]);
        lists.flat_map(|(name, list)| list.iter().map(move |text| (name, text.as_str())))
    }

    fn check(&self) -> Result<(), String> {
        if let Some((slot, _)) = self.slots.iter().find(|(slot, list)| list.is_empty() || *slot == ORDER) {
            return Err(format!("the slot {slot} has nothing that may stand in it, or isn't the grammar's"));
        }
        let mut seen = BTreeSet::new();
        for (list, template) in self.templates() {
            let slots = slots(template).map_err(|fault| format!("{list}: {fault} in: {template}"))?;
            let orders = slots.iter().filter(|slot| **slot == ORDER).count();
            if orders != usize::from(list == "frames") {
                return Err(format!("{list}: {orders} orders in: {template}"));
            }
            if let Some(unknown) = slots.iter().find(|slot| **slot != ORDER && !self.slots.contains_key(**slot)) {
                return Err(format!("{list}: the slot {unknown} isn't declared: {template}"));
            }
            if !seen.insert(template) {
                return Err(format!("{list}: this is there twice: {template}"));
            }
        }
        Ok(())
    }
}

/// JSON's braces in their place.
pub(crate) fn braced(text: &str) -> String {
    text.replace("[[", "{").replace("]]", "}")
}

/// The slots of a template, in their order.
pub(crate) fn slots(template: &str) -> Result<Vec<&str>, &'static str> {
    let mut slots = Vec::new();
    let mut rest = template;
    while let Some(begin) = rest.find(['{', '}']) {
        let inner = rest[begin..].strip_prefix('{').ok_or("a brace that closes nothing")?;
        let end = inner.find(['{', '}']).filter(|end| inner[*end..].starts_with('}')).ok_or("a brace that isn't closed")?;
        slots.push(&inner[..end]);
        rest = &inner[end + 1..];
    }
    Ok(slots)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn all() -> Vec<Grammar> {
        Grammar::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("grammars")).unwrap()
    }

    fn read(change: impl Fn(&str) -> String) -> Result<(), String> {
        let text = "language: xx\nslots: {what: [tea]}\nuser: {attack: {bypass: [\"drop it\"]}, benign: {chat: [\"make {what}\"]}}\n\
            data: {orders: [\"drink {what}\"], frames: [\"now {order}.\"], benign: {tool: ['[[\"a\": \"{what}\"]]']}}\n";
        let grammar: Grammar = serde_saphyr::from_str(&change(text)).map_err(|error| error.to_string())?;
        grammar.check()
    }

    #[test]
    fn every_language_says_enough_of_every_kind() {
        let grammars = all();
        let languages: Vec<&str> = grammars.iter().map(|grammar| grammar.language.as_str()).collect();
        assert_eq!(languages, ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "uk", "zh"]);
        for grammar in &grammars {
            let least = |name: &str| match name {
                "override" | "extraction" | "persona" | "bypass" | "frames" => 16,
                "trigger" => 20,
                "orders" => 24,
                "role_play" | "security" | "chat" => 12,
                _ => 8,
            };
            let of = |lists: &BTreeMap<String, Vec<String>>| lists.keys().cloned().collect::<Vec<_>>();
            assert_eq!(of(&grammar.user.attack), ["bypass", "extraction", "override", "persona"], "{}", grammar.language);
            assert_eq!(of(&grammar.user.benign), ["chat", "role_play", "security", "system", "trigger"], "{}", grammar.language);
            assert_eq!(of(&grammar.data.benign), ["document", "email", "notes", "tool"], "{}", grammar.language);
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            grammar.templates().for_each(|(list, _)| *counts.entry(list).or_default() += 1);
            assert!(counts.iter().all(|(list, count)| *count >= least(list)), "{}: {counts:?}", grammar.language);
        }
    }

    #[test]
    fn no_template_but_a_frame_is_in_two_grammars() {
        let grammars = all();
        let mut seen = BTreeMap::new();
        for grammar in &grammars {
            // (`SYSTEM: {order}` is of no language.)
            for (_, template) in grammar.templates().filter(|(list, _)| *list != "frames") {
                let other = seen.insert(template, &grammar.language);
                assert!(other.is_none(), "{other:?} and {}: {template}", grammar.language);
            }
        }
    }

    #[test]
    fn addresses_are_nobodys() {
        for grammar in all() {
            let fillers = grammar.slots.values().flatten().map(String::as_str);
            for text in fillers.chain(grammar.templates().map(|(_, template)| template)) {
                for (at, _) in text.match_indices('@') {
                    let host: String = text[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
                    let host = host.trim_end_matches('.');
                    let is_example = ["example.org", "example.com", "example.net"]
                        .iter()
                        .any(|name| host == *name || host.ends_with(&format!(".{name}")));
                    assert!(!host.contains('.') || is_example, "{}: {text}", grammar.language);
                }
            }
        }
    }

    #[test]
    fn what_is_unsound_is_refused_with_its_place() {
        assert_eq!(read(str::to_owned), Ok(()));
        for (from, to, says) in [
            ("make {what}", "make {it}", "the slot it isn't declared"),
            ("make {what}", "make {what", "a brace that isn't closed"),
            ("make {what}", "make what}", "a brace that closes nothing"),
            ("make {what}", "drop it", "this is there twice"),
            ("make {what}", "make {order}", "1 orders"),
            ("now {order}.", "now.", "0 orders"),
            ("[tea]", "[]", "the slot what has nothing"),
        ] {
            let told = read(|text| text.replace(from, to)).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        assert!(read(|text| text.replace("orders:", "order:")).is_err());
    }
}

//! Texts made of a grammar: what people say, and data with and without an order in it.
//!
//! The invariant: the same grammar, number and seed make the same texts, in the same order.

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::chance::Chance;
use crate::grammar::{Grammar, ORDER, braced, slots};

/// Who says a text: two questions are asked, of people and of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Head {
    /// A person.
    User,
    /// Data that a model is given.
    Data,
}

/// A made-up text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Text {
    /// What it says.
    #[serde(rename = "text")]
    pub(crate) said: String,
    /// A person tries to override the model, or data gives it an order.
    #[serde(rename = "label", serialize_with = "as_number")]
    pub(crate) is_attack: bool,
    /// Who says it.
    pub(crate) channel: Head,
    /// The list of the template, and where an order stands in it: `email-middle`.
    pub(crate) kind: String,
    /// The language's code.
    pub(crate) language: String,
    /// Texts of the same template, or with the same order in them, have the same number.
    pub(crate) source: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn as_number<S: Serializer>(is_attack: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*is_attack))
}

/// Where an order may stand.
const PLACES: [&str; 3] = ["start", "middle", "end"];

/// The texts of a grammar: so many of each template, but none twice. An order stands by itself, in a frame, and within other data.
pub(crate) fn of(grammar: &Grammar, each: usize, seed: u64) -> Vec<Text> {
    let mut made =
        Made { grammar, each, chance: Chance::new(seed, &grammar.language), seen: BTreeSet::new(), texts: Vec::new(), source: 0 };
    for (kind, list) in &grammar.user.attack {
        made.add_all(kind, list, Head::User, true);
    }
    for (kind, list) in &grammar.user.benign {
        made.add_all(kind, list, Head::User, false);
    }
    for (kind, list) in &grammar.data.benign {
        made.add_all(kind, list, Head::Data, false);
    }
    made.add_orders();
    made.texts
}

struct Made<'g> {
    grammar: &'g Grammar,
    each: usize,
    chance: Chance,
    seen: BTreeSet<String>,
    texts: Vec<Text>,
    source: usize,
}

impl Made<'_> {
    fn add_all(&mut self, kind: &str, list: &[String], channel: Head, is_attack: bool) {
        for template in list {
            self.source += 1;
            for _ in 0..self.each {
                let text = self.said(kind, template);
                self.add(text, channel, kind.to_owned(), is_attack);
            }
        }
    }

    fn add_orders(&mut self) {
        let (grammar, lists): (_, Vec<(&String, &Vec<String>)>) = (self.grammar, self.grammar.data.benign.iter().collect());
        for template in &grammar.data.orders {
            self.source += 1;
            for _ in 0..self.each {
                let order = self.filled(template, "");
                self.add(order.clone(), Head::Data, "order-bare".to_owned(), true);
                // Half of the orders in data are bare.
                let framed = if self.chance.below(2) == 0 {
                    let frame = self.chance.one(&grammar.data.frames);
                    self.filled(frame, &order)
                } else {
                    order
                };
                let (kind, list) = *self.chance.one(&lists);
                let carrier = self.chance.one(list);
                let carrier = self.said(kind, carrier);
                let place = self.chance.below(PLACES.len());
                let text = if kind == "tool" { self.in_json(&carrier, &framed, place) } else { in_text(&carrier, &framed, place) };
                self.add(text, Head::Data, format!("{kind}-{}", PLACES[place]), true);
            }
        }
    }

    fn add(&mut self, text: String, channel: Head, kind: String, is_attack: bool) {
        if self.seen.insert(text.clone()) {
            let language = self.grammar.language.clone();
            self.texts.push(Text { said: text, is_attack, channel, kind, language, source: self.source });
        }
    }

    /// What a template of a kind says.
    fn said(&mut self, kind: &str, template: &str) -> String {
        let text = self.filled(template, "");
        if kind == "tool" { braced(&text) } else { text }
    }

    /// A template with something in each slot.
    fn filled(&mut self, template: &str, order: &str) -> String {
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        // (Grammars are sound.)
        for slot in slots(template).unwrap_or_default() {
            let (before, behind) = rest.split_once(&format!("{{{slot}}}")).unwrap_or((rest, ""));
            text.push_str(before);
            match self.grammar.slots.get(slot) {
                Some(fillers) => text.push_str(self.chance.one::<String>(fillers)),
                None if slot == ORDER => text.push_str(order),
                None => {}
            }
            rest = behind;
        }
        text.push_str(rest);
        text
    }

    /// An order in one of the texts of a tool's result.
    fn in_json(&mut self, json: &str, order: &str, place: usize) -> String {
        let Ok(mut value) = serde_json::from_str::<Value>(json) else { return in_text(json, order, place) };
        let count = texts_in(&mut value, &mut |_, _| {});
        if count == 0 {
            return in_text(json, order, place);
        }
        let chosen = match place {
            0 => 0,
            1 => self.chance.below(count),
            _ => count - 1,
        };
        texts_in(&mut value, &mut |number, text| {
            if number == chosen {
                *text = in_text(text, order, place);
            }
        });
        value.to_string()
    }
}

/// Calls `each` for the texts in a value, by their numbers, and says how many there are.
fn texts_in(value: &mut Value, each: &mut dyn FnMut(usize, &mut String)) -> usize {
    fn walk(value: &mut Value, count: &mut usize, each: &mut dyn FnMut(usize, &mut String)) {
        match value {
            Value::String(text) => {
                each(*count, text);
                *count += 1;
            }
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, count, each)),
            Value::Object(entries) => entries.values_mut().for_each(|item| walk(item, count, each)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut count = 0;
    walk(value, &mut count, each);
    count
}

/// An order at the start of a text, between two of its lines or sentences, or at its end.
fn in_text(text: &str, order: &str, place: usize) -> String {
    let by_line = text.contains('\n');
    let gap = if by_line { "\n" } else { " " };
    let ends: Vec<usize> = if by_line {
        text.match_indices('\n').map(|(at, _)| at).collect()
    } else {
        text.match_indices(['.', '!', '?', '。', '！', '？', '।']).map(|(at, sign)| at + sign.len()).filter(|at| *at < text.len()).collect()
    };
    match (place, ends.get(ends.len() / 2)) {
        (0, _) => [order, gap, text].concat(),
        (1, Some(at)) => [text[..*at].trim_end(), gap, order, gap, text[*at..].trim_start()].concat(),
        _ => [text.trim_end(), gap, order].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::tests::all;

    #[test]
    fn the_same_seed_makes_the_same_texts_and_another_others() {
        for grammar in all() {
            let texts = of(&grammar, 2, 7);
            assert_eq!(texts, of(&grammar, 2, 7));
            assert_ne!(texts, of(&grammar, 2, 8));
        }
    }

    #[test]
    fn every_template_makes_texts_of_both_labels_and_heads() {
        for grammar in all() {
            let texts = of(&grammar, 3, 1);
            let sources: BTreeSet<usize> = texts.iter().map(|text| text.source).collect();
            // (A frame is no source of its own.)
            assert_eq!(sources.len(), grammar.templates().count() - grammar.data.frames.len(), "{}", grammar.language);
            for (channel, is_attack) in [(Head::User, true), (Head::User, false), (Head::Data, true), (Head::Data, false)] {
                let count = texts.iter().filter(|text| (text.channel, text.is_attack) == (channel, is_attack)).count();
                assert!(count >= 60, "{}: {count} of {channel:?} {is_attack}", grammar.language);
            }
        }
    }

    #[test]
    fn no_text_is_there_twice_and_none_has_a_slot_left() {
        for grammar in all() {
            let texts = of(&grammar, 4, 1);
            let different: BTreeSet<&str> = texts.iter().map(|text| text.said.as_str()).collect();
            assert_eq!(different.len(), texts.len(), "{}", grammar.language);
            for text in texts {
                let left = grammar.slots.keys().map(String::as_str).chain([ORDER]).find(|slot| text.said.contains(&format!("{{{slot}}}")));
                assert!(left.is_none() && !text.said.trim().is_empty(), "{left:?}: {}", text.said);
            }
        }
    }

    #[test]
    fn what_a_tool_says_is_json_with_an_order_in_it_and_without() {
        for grammar in all() {
            for text in of(&grammar, 4, 1).iter().filter(|text| text.kind.starts_with("tool")) {
                assert!(serde_json::from_str::<Value>(&text.said).is_ok(), "{}: {}", grammar.language, text.said);
            }
        }
    }

    #[test]
    fn an_order_stands_where_its_kind_says() {
        let say = |place| in_text("One. Two! Three", "GO", place);
        assert_eq!((say(0), say(1), say(2)), ("GO One. Two! Three".into(), "One. Two! GO Three".into(), "One. Two! Three GO".into()));
        assert_eq!(in_text("a\nb\nc", "GO", 1), "a\nb\nGO\nc");
        assert_eq!(in_text("一。二。", "GO", 1), "一。 GO 二。");
        assert_eq!(in_text("one", "GO", 1), "one GO");
    }
}

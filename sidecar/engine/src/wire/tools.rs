//! What the APIs share in their requests: declared tools, calls of the past, and counting what can't be read.

use std::borrow::Cow;

use super::answer::{Arguments, Call};
use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, ObjectWriter, Rest};
use super::json::{Json, names_field};
use super::{Channel, Text, lines};

/// A declared tool, in the shape that Ollama and OpenAI share.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    description: Option<String>,
    rest: Vec<(&'static str, Json)>,
    parameters: Option<Json>,
    strict: Option<bool>,
    unknown: [Rest; 2],
}

impl Tool {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        let rest = fields.known(&["type", "items"]);
        let mut function = fields.object("function")?.ok_or(DecodeError::Missing { path: "function".into() })?;
        Ok(Self {
            name: function.string("name").map_err(|e| e.within("function"))?.unwrap_or_default(),
            description: function.string("description").map_err(|e| e.within("function"))?,
            parameters: function.any("parameters"),
            strict: function.bool("strict").map_err(|e| e.within("function"))?,
            rest,
            unknown: [fields.rest(), function.rest()],
        })
    }

    pub(super) fn encode(&self, tool: &mut ObjectWriter<'_>) {
        tool.known(&self.rest);
        tool.object("function", |function| {
            function.string("name", Some(&self.name));
            function.string("description", self.description.as_deref());
            function.any("parameters", self.parameters.as_ref());
            function.bool("strict", self.strict);
            function.rest(&self.unknown[1]);
        });
        tool.rest(&self.unknown[0]);
    }

    pub(super) fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        // One text, since templates print a definition as a whole.
        let text = lines(|mut say| {
            say(&self.name);
            if let Some(description) = &self.description {
                say(description);
            }
            for value in self.rest.iter().map(|(_, value)| value).chain(&self.parameters) {
                value.each_text(&mut say);
            }
        });
        each(Text { channel: Channel::ToolDefinition, message: None, also: &[], text: Cow::Owned(text) });
        self.unknown.iter().for_each(|rest| rest.texts(each));
    }

    /// Edits it, but for its name, by which it is called.
    pub(super) fn edit(&mut self, edit: &mut Edit<'_>) {
        edit::texts(&mut self.description, edit);
        edit::known(&mut self.rest, edit);
        self.parameters.iter_mut().for_each(|parameters| edit::tree(parameters, edit));
        self.unknown.iter_mut().for_each(|rest| rest.edit(edit));
    }

    pub(super) fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        self.unknown.iter_mut().for_each(each);
    }
}

/// Takes a call apart: Ollama gives arguments as a value and the index with the function, OpenAI a string and the index with the call.
pub(super) fn decode_call(json: Json) -> Result<Call, DecodeError> {
    let mut fields = Fields::open(json)?;
    let id = fields.string("id")?;
    let outer_index = index(&mut fields)?;
    let Some(mut function) = fields.object("function")? else {
        return Ok(Call { id, index: outer_index, ..Call::default() });
    };
    let inner_index = index(&mut function).map_err(|e| e.within("function"))?;
    Ok(Call {
        id,
        index: outer_index.or(inner_index),
        name: function.string("name").map_err(|e| e.within("function"))?.unwrap_or_default(),
        arguments: match function.any("arguments") {
            None => Arguments::default(),
            Some(Json::String(text)) => Arguments::Text(text),
            Some(value @ Json::Object(_)) => Arguments::Value(value),
            Some(_) => return Err(DecodeError::Type { path: "function.arguments".into(), expected: "an object or a string" }),
        },
    })
}

/// Where a server looks for a call's index.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    OfCall,
    OfFunction,
}

/// Takes a call of the history apart. A string of arguments has to be JSON that fits one reading, since the server reads it in its turn.
pub(super) fn decode_past_call(mut json: Json, index: Index) -> Result<Call, DecodeError> {
    // The other one is a field that the server doesn't know.
    let without = |json: &mut Json| {
        if let Json::Object(entries) = json {
            entries.retain(|(key, _)| !names_field(key, "index"));
        }
    };
    match (index, &mut json) {
        (Index::OfFunction, json) => without(json),
        (Index::OfCall, Json::Object(entries)) => {
            entries.iter_mut().filter(|(key, _)| names_field(key, "function")).for_each(|(_, function)| without(function));
        }
        (Index::OfCall, _) => {}
    }
    let call = decode_call(json)?;
    match &call.arguments {
        Arguments::Text(text) if !text.trim().is_empty() && Json::read(text.as_bytes()).is_err() => {
            Err(DecodeError::Type { path: "function.arguments".into(), expected: "strict JSON" })
        }
        _ => Ok(call),
    }
}

pub(super) fn index(fields: &mut Fields) -> Result<Option<u64>, DecodeError> {
    match fields.any("index") {
        None => Ok(None),
        Some(Json::Number(number)) => {
            number.as_u64().map(Some).ok_or(DecodeError::Type { path: "index".into(), expected: "a whole number" })
        }
        Some(_) => Err(DecodeError::Type { path: "index".into(), expected: "a whole number" }),
    }
}

/// Says what a call of the history says.
pub(super) fn call_texts(call: &Call, say: &mut dyn FnMut(&str)) {
    if let Some(id) = &call.id {
        say(id);
    }
    say(&call.name);
    match &call.arguments {
        Arguments::Text(text) => match Json::read(text.as_bytes()) {
            Ok(value) => value.each_shown(say),
            Err(_) => say(text),
        },
        Arguments::Value(value) => value.each_shown(say),
    }
}

/// Says what stands in fields that only steer the model: it counts as the user's.
pub(super) fn setting_texts(settings: &[(&'static str, Json)], each: &mut dyn FnMut(Text<'_>)) {
    for (_, value) in settings {
        value.each_text(&mut |text| each(Text { channel: Channel::User, message: None, also: &[], text: Cow::Borrowed(text) }));
    }
}

/// How many bytes stand in values that can't be read.
pub(super) fn bytes_in(values: &[Json]) -> usize {
    let mut bytes = 0;
    for value in values {
        value.each_text(&mut |text| bytes += text.len());
    }
    bytes
}

/// Keeps the items for which `keep` says yes to their place.
pub(super) fn retain_places<T>(items: &mut Vec<T>, keep: &mut dyn FnMut(usize) -> bool) {
    let mut place = 0;
    items.retain(|_| {
        place += 1;
        keep(place - 1)
    });
}

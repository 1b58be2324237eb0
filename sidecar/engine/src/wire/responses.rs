//! OpenAI's responses (`/v1/responses`), as Ollama speaks them: what is asked.
//!
//! The invariant: a message's parts are read as the server joins them, one behind the other without a gap, and whatever a model is shown
//! of earlier turns (calls, their results, reasoning, also where it is called encrypted) is read as what it is.
//!
//! Source: OpenAI's API reference, and ollama/ollama `openai/responses.go`, versions 0.17.4 and 0.33.0.

use std::borrow::Cow;

use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, ObjectWriter, Rest, body, write_objects};
use super::json::{Json, write_string};
use super::{Channel, MessageIndex, Request, Text, Unreadable, Utterance, is_plain_id, lines, media, say_messages};

/// Documented fields whose values only steer the model or name the caller; text in them counts as the user's.
const SETTINGS: &[&str] = &[
    "background",
    "conversation",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "temperature",
    "text",
    "top_p",
    "truncation",
    "user",
];
/// Of these the ones that name what was said before.
const EARLIER: [&str; 2] = ["conversation", "previous_response_id"];
/// Fields that ask for a channel of the answer that can't be judged yet.
const DROPPED: &[&str] = &["top_logprobs"];

/// `POST /v1/responses`
#[derive(Debug)]
pub(super) struct ResponsesRequest {
    model: Option<String>,
    instructions: Option<String>,
    input: Option<Input>,
    tools: Vec<Tool>,
    tool_choice: Option<Json>,
    stream: Option<bool>,
    settings: Vec<(&'static str, Json)>,
    dropped: usize,
    unknown: Rest,
}

#[derive(Debug)]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

/// A turn, or a part of one. The fields in `marks` are documented and say nothing to a model.
#[derive(Debug)]
struct Item {
    is: Is,
    marks: Vec<(&'static str, Json)>,
    unknown: Rest,
}

#[derive(Debug)]
enum Is {
    Message { typed: bool, role: String, content: Option<Content> },
    Call { call_id: Option<String>, name: String, arguments: String },
    Output { call_id: Option<String>, output: Option<Output> },
    Reasoning { summary: Vec<Json>, content: Vec<Json>, encrypted: Option<String> },
}

const MARKS: &[&str] = &["id", "status", "phase"];

#[derive(Debug)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// What a tool gave: a text, or parts of it.
type Output = Content;

#[derive(Debug)]
struct Part {
    is: Piece,
    unknown: Rest,
}

#[derive(Debug)]
enum Piece {
    /// A text, under its kind.
    Text(&'static str, String),
    Image(Vec<(&'static str, Json)>),
}

const TEXTS: [&str; 3] = ["input_text", "output_text", "refusal"];
const IMAGE: &[&str] = &["detail", "file_id", "image_url"];

impl Part {
    fn decode(json: Json) -> Result<(Self, usize), DecodeError> {
        let mut fields = Fields::open(json)?;
        let kind = fields.string("type")?.unwrap_or_default();
        let is = match TEXTS.into_iter().find(|known| *known == kind) {
            Some(kind) => {
                let name = if kind == "refusal" { "refusal" } else { "text" };
                Piece::Text(kind, fields.string(name)?.ok_or(DecodeError::Missing { path: name.into() })?)
            }
            None if kind == "input_image" => Piece::Image(fields.known(IMAGE)),
            None => return Err(DecodeError::Type { path: "type".into(), expected: "input_text, output_text, refusal or input_image" }),
        };
        // What an earlier answer said beside its text.
        let marks = fields.known(&["annotations", "logprobs"]).len();
        Ok((Self { is, unknown: fields.rest() }, marks))
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        match &self.is {
            Piece::Text(kind, text) => {
                out.string("type", Some(kind));
                out.string(if *kind == "refusal" { "refusal" } else { "text" }, Some(text));
            }
            Piece::Image(fields) => {
                out.string("type", Some("input_image"));
                out.known(fields);
            }
        }
        out.rest(&self.unknown);
    }
}

impl Content {
    fn decode(json: Json) -> Result<(Self, usize), DecodeError> {
        match json {
            Json::String(text) => Ok((Self::Text(text), 0)),
            Json::Array(items) => {
                let parts = items.into_iter().enumerate().map(|(index, item)| Part::decode(item).map_err(|error| error.at(index)));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                let dropped = parts.iter().map(|(_, dropped)| dropped).sum();
                Ok((Self::Parts(parts.into_iter().map(|(part, _)| part).collect()), dropped))
            }
            _ => Err(DecodeError::Type { path: String::new(), expected: "a string or an array of parts" }),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_string(text, out),
            Self::Parts(parts) => write_objects(parts, out, Part::encode),
        }
    }

    /// Its texts joined, as the server reads them, and for other servers' sake apart.
    fn text(&self) -> (String, Option<String>) {
        let parts = match self {
            Self::Text(text) => return (text.clone(), None),
            Self::Parts(parts) => parts,
        };
        let texts: Vec<&str> =
            parts.iter().filter_map(|part| if let Piece::Text(_, text) = &part.is { Some(text.as_str()) } else { None }).collect();
        (texts.concat(), (texts.len() > 1).then(|| texts.join("\n")))
    }

    fn edit(&mut self, edit: &mut Edit<'_>) {
        match self {
            Self::Text(text) => edit::text(text, edit),
            Self::Parts(parts) => {
                for part in parts {
                    if let Piece::Text(_, text) = &mut part.is {
                        edit::text(text, edit);
                    }
                    part.unknown.edit(edit);
                }
            }
        }
    }

    fn parts(&self) -> &[Part] {
        match self {
            Self::Text(_) => &[],
            Self::Parts(parts) => parts,
        }
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        if let Self::Parts(parts) = self {
            for part in parts {
                each(&mut part.unknown);
            }
        }
    }

    /// Its pictures, if there are any.
    fn images(&self) -> Option<Vec<Json>> {
        let Self::Parts(parts) = self else { return None };
        let images = parts.iter().filter_map(|part| if let Piece::Image(fields) = &part.is { Some(fields) } else { None });
        let images: Vec<Json> = images.map(|fields| Json::Array(fields.iter().map(|(_, value)| value.clone()).collect())).collect();
        (!images.is_empty()).then_some(images)
    }
}

impl Item {
    /// An item, unless it is of a kind that servers pass over, and how many of its fields they pass over.
    fn decode(json: Json) -> Result<(Option<Self>, usize), DecodeError> {
        let mut fields = Fields::open(json)?;
        let kind = fields.string("type")?;
        let role = fields.string("role")?;
        let mut dropped = 0;
        let mut content = |fields: &mut Fields, name: &str| -> Result<Option<Content>, DecodeError> {
            let content = fields.any(name).map(Content::decode).transpose().map_err(|error| error.within(name))?;
            Ok(content.map(|(content, left)| {
                dropped += left;
                content
            }))
        };
        let is = match (kind.as_deref().filter(|kind| !kind.is_empty()), role) {
            (Some("message"), role) => {
                Is::Message { typed: true, role: role.unwrap_or_default(), content: content(&mut fields, "content")? }
            }
            (None, Some(role)) if !role.is_empty() => Is::Message { typed: false, role, content: content(&mut fields, "content")? },
            (Some("function_call"), _) => {
                let arguments = fields.string("arguments")?.unwrap_or_default();
                // The server reads it in its turn.
                if !arguments.trim().is_empty() && Json::read(arguments.as_bytes()).is_err() {
                    return Err(DecodeError::Type { path: "arguments".into(), expected: "strict JSON" });
                }
                Is::Call { call_id: fields.string("call_id")?, name: fields.string("name")?.unwrap_or_default(), arguments }
            }
            (Some("function_call_output"), _) => Is::Output { call_id: fields.string("call_id")?, output: content(&mut fields, "output")? },
            (Some("reasoning"), _) => Is::Reasoning {
                summary: fields.array("summary")?,
                content: fields.array("content")?,
                encrypted: fields.string("encrypted_content")?,
            },
            (Some("web_search_call"), _) => return Ok((None, 0)),
            _ => {
                let expected = "message, function_call, function_call_output, reasoning or web_search_call";
                return Err(DecodeError::Type { path: "type".into(), expected });
            }
        };
        let marks = fields.known(MARKS);
        Ok((Some(Self { is, marks, unknown: fields.rest() }), dropped))
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        match &self.is {
            Is::Message { typed, role, content } => {
                out.string("type", typed.then_some("message"));
                out.string("role", Some(role));
                if let Some(content) = content {
                    content.encode(out.field("content"));
                }
            }
            Is::Call { call_id, name, arguments } => {
                out.string("type", Some("function_call"));
                out.string("call_id", call_id.as_deref());
                out.string("name", Some(name));
                out.string("arguments", Some(arguments));
            }
            Is::Output { call_id, output } => {
                out.string("type", Some("function_call_output"));
                out.string("call_id", call_id.as_deref());
                if let Some(output) = output {
                    output.encode(out.field("output"));
                }
            }
            Is::Reasoning { summary, content, encrypted } => {
                out.string("type", Some("reasoning"));
                out.trees("summary", summary);
                out.any_trees("content", content);
                out.string("encrypted_content", encrypted.as_deref());
            }
        }
        out.known(&self.marks);
        out.rest(&self.unknown);
    }

    fn said(&self) -> Utterance {
        let (role, content, said) = match &self.is {
            Is::Message { role, content, .. } => {
                let (text, apart) = content.as_ref().map(Content::text).unwrap_or_default();
                (role.as_str(), text, apart.unwrap_or_default())
            }
            Is::Call { call_id, name, arguments } => {
                let text = lines(|mut say| {
                    if let Some(id) = call_id {
                        say(id);
                    }
                    say(name);
                    match Json::read(arguments.as_bytes()) {
                        Ok(value) => value.each_shown(&mut say),
                        Err(_) => say(arguments),
                    }
                });
                ("assistant", String::new(), text)
            }
            Is::Output { call_id, output } => {
                let (text, apart) = output.as_ref().map(Content::text).unwrap_or_default();
                ("tool", text, lines(|say| [call_id, &apart].into_iter().flatten().for_each(|text| say(text))))
            }
            Is::Reasoning { summary, content, encrypted } => {
                let text = lines(|mut say| {
                    if let Some(text) = encrypted {
                        say(text);
                    }
                    summary.iter().chain(content).for_each(|value| value.each_text(&mut say));
                });
                ("assistant", String::new(), text)
            }
        };
        let marks = lines(|mut say| self.marks.iter().for_each(|(_, value)| value.each_text(&mut say)));
        let beside = lines(|say| [&said, &marks].into_iter().filter(|text| !text.is_empty()).for_each(|text| say(text)));
        Utterance { role: role.to_owned(), content, beside, left_out: matches!(self.is, Is::Reasoning { .. }) }
    }

    /// Edits it, but for its marks, which name it.
    fn edit(&mut self, edit: &mut Edit<'_>) {
        match &mut self.is {
            Is::Message { content, .. } | Is::Output { output: content, .. } => {
                if let Some(content) = content {
                    content.edit(edit);
                }
            }
            Is::Call { arguments, .. } => edit::arguments(arguments, edit),
            Is::Reasoning { summary, content, encrypted } => {
                summary.iter_mut().chain(content).for_each(|value| edit::tree(value, edit));
                edit::texts(encrypted, edit);
            }
        }
        self.unknown.edit(edit);
    }

    fn content(&self) -> Option<&Content> {
        match &self.is {
            Is::Message { content, .. } => content.as_ref(),
            Is::Output { output, .. } => output.as_ref(),
            Is::Call { .. } | Is::Reasoning { .. } => None,
        }
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        if let Is::Message { content: Some(content), .. } | Is::Output { output: Some(content), .. } = &mut self.is {
            content.rests(each);
        }
        each(&mut self.unknown);
    }

    fn replace(&mut self, by: &str) {
        self.marks.clear();
        self.unknown = Rest::default();
        match &mut self.is {
            Is::Message { content, .. } => *content = Some(Content::Text(by.to_owned())),
            Is::Output { call_id, output } => {
                *call_id = call_id.take().filter(|id| is_plain_id(id));
                *output = Some(Content::Text(by.to_owned()));
            }
            Is::Call { call_id, name, arguments } => {
                *call_id = call_id.take().filter(|id| is_plain_id(id));
                *name = String::new();
                *arguments = "{}".into();
            }
            Is::Reasoning { summary, content, encrypted } => {
                summary.clear();
                content.clear();
                *encrypted = Some(by.to_owned());
            }
        }
    }

    fn images(&self) -> Option<Vec<Json>> {
        self.content()?.images()
    }
}

/// A declared tool: its name, and the documented rest of it.
#[derive(Debug)]
struct Tool {
    name: Option<String>,
    rest: Vec<(&'static str, Json)>,
    /// Of a namespace.
    tools: Vec<Tool>,
    kind: String,
    unknown: Rest,
}

const TOOL: &[&str] = &["description", "strict", "parameters", "search_context_size", "user_location", "filters"];

impl Tool {
    fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            kind: fields.string("type")?.unwrap_or_default(),
            tools: fields.each("tools", Self::decode)?,
            name: fields.string("name")?,
            rest: fields.known(TOOL),
            unknown: fields.rest(),
        })
    }

    fn edit(&mut self, edit: &mut Edit<'_>) {
        edit::known(&mut self.rest, edit);
        self.unknown.edit(edit);
        self.tools.iter_mut().for_each(|tool| tool.edit(edit));
    }

    fn unknown_texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        self.unknown.texts(each);
        self.tools.iter().for_each(|tool| tool.unknown_texts(each));
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        each(&mut self.unknown);
        self.tools.iter_mut().for_each(|tool| tool.rests(each));
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        out.string("type", Some(&self.kind));
        out.string("name", self.name.as_deref());
        out.known(&self.rest);
        out.any_objects("tools", &self.tools, Self::encode);
        out.rest(&self.unknown);
    }

    /// The name by which the model calls it: a tool that the server brings is called by its kind.
    fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }

    fn say(&self, say: &mut dyn FnMut(&str)) {
        say(&self.kind);
        if let Some(name) = &self.name {
            say(name);
        }
        self.rest.iter().for_each(|(_, value)| value.each_text(&mut |text| say(text)));
        self.tools.iter().for_each(|tool| tool.say(say));
    }
}

impl ResponsesRequest {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        let asked = fields.known(DROPPED).len();
        let mut dropped = 0;
        let input = match fields.any("input") {
            None => None,
            Some(Json::String(text)) => Some(Input::Text(text)),
            Some(Json::Array(items)) => {
                let mut kept = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let (item, left) = Item::decode(item).map_err(|error| error.at(index).within("input"))?;
                    dropped += left + usize::from(item.is_none());
                    kept.extend(item);
                }
                Some(Input::Items(kept))
            }
            Some(_) => return Err(DecodeError::Type { path: "input".into(), expected: "a string or an array of items" }),
        };
        let tools: Vec<Tool> = fields.each("tools", Tool::decode)?;
        if tools.iter().any(|tool| tool.tools.iter().any(|inner| !inner.tools.is_empty())) {
            return Err(DecodeError::Type { path: "tools".into(), expected: "without namespaces in namespaces" });
        }
        Ok(Self {
            model: fields.string("model")?,
            instructions: fields.string("instructions")?,
            input,
            tools,
            tool_choice: fields.any("tool_choice"),
            stream: fields.bool("stream")?,
            settings: fields.known(SETTINGS),
            dropped: dropped + asked,
            unknown: fields.rest(),
        })
    }

    fn items(&self) -> &[Item] {
        match &self.input {
            Some(Input::Items(items)) => items,
            _ => &[],
        }
    }
}

impl Request for ResponsesRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        // The instructions have a place even where there are none, so that an item's place is its own and one.
        let said =
            |role: &str, content: &str| Utterance { role: role.into(), content: content.into(), beside: String::new(), left_out: true };
        let instructions = said("system", self.instructions.as_deref().unwrap_or_default());
        let text = if let Some(Input::Text(text)) = &self.input { Some(said("user", text)) } else { None };
        say_messages(std::iter::once(instructions).chain(text).chain(self.items().iter().map(Item::said)), each);
        for tool in &self.tools {
            each(Text { channel: Channel::ToolDefinition, message: None, also: &[], text: Cow::Owned(lines(|say| tool.say(say))) });
        }
        for value in self.settings.iter().map(|(_, value)| value).chain(&self.tool_choice) {
            value.each_text(&mut |text| each(Text { channel: Channel::User, message: None, also: &[], text: Cow::Borrowed(text) }));
        }
        for item in self.items() {
            item.content().into_iter().flat_map(Content::parts).for_each(|part| part.unknown.texts(each));
            item.unknown.texts(each);
        }
        self.tools.iter().for_each(|tool| tool.unknown_texts(each));
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        edit::texts(&mut self.instructions, edit);
        match &mut self.input {
            Some(Input::Text(text)) => edit::text(text, edit),
            Some(Input::Items(items)) => items.iter_mut().for_each(|item| item.edit(edit)),
            None => {}
        }
        self.tools.iter_mut().for_each(|tool| tool.edit(edit));
        let settings = self.settings.iter_mut().filter(|(name, _)| !EARLIER.contains(name));
        settings.for_each(|(_, value)| edit::tree(value, edit));
        self.unknown.edit(edit);
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        if let Some(Input::Items(items)) = &mut self.input {
            for item in items {
                item.rests(each);
            }
        }
        self.tools.iter_mut().for_each(|tool| tool.rests(each));
        each(&mut self.unknown);
    }

    fn system_says_more(&self) -> bool {
        let goes_on = |(name, value): &(&str, Json)| EARLIER.contains(name) && !matches!(value, Json::Null) && value.as_str() != Some("");
        let is_system = |item: &&Item| match &item.is {
            Is::Message { role, .. } => Channel::of_role(role) == Channel::System,
            Is::Call { .. } | Is::Output { .. } | Is::Reasoning { .. } => false,
        };
        self.settings.iter().any(goes_on) || self.items().iter().filter(is_system).any(|item| item.images().is_some())
    }

    fn replace_messages(&mut self, is_meant: &mut dyn FnMut(MessageIndex) -> bool, by: &str) {
        if is_meant(MessageIndex(0)) {
            self.instructions = Some(by.to_owned());
        }
        match &mut self.input {
            Some(Input::Text(text)) if is_meant(MessageIndex(1)) => by.clone_into(text),
            Some(Input::Items(items)) => {
                let meant = items.iter_mut().enumerate().filter(|(place, _)| is_meant(MessageIndex(place + 1)));
                meant.for_each(|(_, item)| item.replace(by));
            }
            _ => {}
        }
    }

    fn tools(&self) -> Vec<&str> {
        let mut names = Vec::with_capacity(self.tools.len());
        for tool in &self.tools {
            // Versions that know no namespaces offer one to the model as a tool.
            names.push(tool.called());
            names.extend(tool.tools.iter().map(Tool::called));
        }
        names
    }

    fn retain_tools(&mut self, keep: &mut dyn FnMut(usize) -> bool) {
        let (mut place, mut all) = (0, true);
        let mut stays = || {
            place += 1;
            let stays = keep(place - 1);
            all &= stays;
            stays
        };
        self.tools.retain_mut(|tool| {
            let itself = stays();
            let namespace = !tool.tools.is_empty();
            tool.tools.retain(|_| stays());
            itself && (!namespace || !tool.tools.is_empty())
        });
        if !all {
            // It may name a tool that is gone, and servers refuse it where no tools are left.
            self.tool_choice = None;
        }
    }

    fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        let images = self.items().iter().enumerate().filter_map(|(index, item)| Some((index, item.images()?)));
        images.flat_map(|(index, images)| media(&format!("input[{index}]"), &images)).collect()
    }

    fn dropped(&self) -> usize {
        self.dropped
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            out.string("instructions", self.instructions.as_deref());
            match &self.input {
                None => {}
                Some(Input::Text(text)) => out.string("input", Some(text)),
                Some(Input::Items(items)) => out.objects("input", items, Item::encode),
            }
            out.any_objects("tools", &self.tools, Tool::encode);
            out.any("tool_choice", self.tool_choice.as_ref());
            out.bool("stream", self.stream);
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, Opaque, decode_request};

    fn decoded(text: &str) -> Box<dyn Request> {
        decode_request(Body::OpenAiResponses, text.as_bytes()).unwrap()
    }

    fn encoded(request: &dyn Request) -> String {
        String::from_utf8(request.encode()).unwrap()
    }

    const TALK: &str = r#"{"model":"m","instructions":"be kind","input":[{"role":"user","content":"hi"},{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":"hm","id":"r"},{"type":"function_call","call_id":"c1","name":"look","arguments":"{\"q\":\"cats\"}"},{"type":"function_call_output","call_id":"c1","output":"found"},{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]}],"tools":[{"type":"function","name":"look","description":"d","strict":true,"parameters":{"type":"object"}},{"type":"namespace","name":"n","tools":[{"type":"function","name":"one"},{"type":"function","name":"two"}]},{"type":"web_search"}],"tool_choice":"auto","stream":true,"temperature":1.0,"text":{"format":{"type":"text"}}}"#;

    #[test]
    fn a_request_survives() {
        assert_eq!(encoded(&*decoded(TALK)), TALK);
        assert_eq!(decoded(TALK).dropped(), 0);
        assert_eq!(encoded(&*decoded(r#"{"model":"m","input":"hi"}"#)), r#"{"model":"m","input":"hi"}"#);
    }

    #[test]
    fn whatever_a_model_is_shown_is_read() {
        let mut seen = Vec::new();
        decoded(TALK).texts(&mut |text| seen.push((text.channel, text.message.map(|message| message.0), text.text.into_owned())));
        for expected in [
            (Channel::User, Some(1), "hi"),
            (Channel::Assistant, Some(2), "hm\ntype\nsummary_text\ntext\ns\nr"),
            (Channel::Assistant, Some(3), "c1\nlook\nq\ncats"),
            (Channel::ToolResult, Some(4), "found\nc1"),
            (Channel::User, Some(5), "ab\na\nb"),
        ] {
            assert!(seen.contains(&(expected.0, expected.1, expected.2.to_owned())), "{expected:?}: {seen:?}");
        }
        assert!(seen.iter().any(|(channel, _, text)| *channel == Channel::System && text.ends_with("be kind")));
    }

    #[test]
    fn a_result_can_be_cut_out() {
        let mut request = decoded(TALK);
        request.replace_messages(&mut |message| message == MessageIndex(4), "cut");
        assert_eq!(encoded(&*request), TALK.replace("\"found\"", "\"cut\""));
        let mut request = decoded(r#"{"input":"hi"}"#);
        request.replace_messages(&mut |message| message == MessageIndex(1), "cut");
        assert_eq!(encoded(&*request), r#"{"input":"cut"}"#);
    }

    #[test]
    fn tools_are_named_and_taken_out_one_by_one_also_of_a_namespace() {
        let mut request = decoded(TALK);
        assert_eq!(request.tools(), ["look", "n", "one", "two", "web_search"]);
        request.retain_tools(&mut |place| place == 1 || place == 3);
        assert_eq!(request.tools(), ["n", "two"]);
        assert!(
            encoded(&*request).contains(r#""tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"two"}]}],"stream""#)
        );
    }

    #[test]
    fn what_can_not_be_read_is_named_and_what_nobody_knows_is_refused_or_dropped() {
        let request = decoded(
            r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:,x"}]},{"type":"web_search_call","id":"w"}],"odd":1}"#,
        );
        assert_eq!(request.unreadable(), [Unreadable { is: Opaque::Image, path: "input[0]".into(), bytes: 7 }]);
        assert_eq!(request.dropped(), 1);
        for (text, said) in [
            (
                r#"{"input":[{"type":"item_reference","id":"x"}]}"#,
                "input[0].type must be message, function_call, function_call_output, reasoning or web_search_call",
            ),
            (
                r#"{"input":[{"role":"user","content":[{"type":"input_file"}]}]}"#,
                "input[0].content[0].type must be input_text, output_text, refusal or input_image",
            ),
            (
                r#"{"input":[{"type":"function_call","name":"f","arguments":"{\"a\":1,\"a\":2}"}]}"#,
                "input[0].arguments must be strict JSON",
            ),
            (r#"{"input":7}"#, "input must be a string or an array of items"),
        ] {
            assert_eq!(decode_request(Body::OpenAiResponses, text.as_bytes()).unwrap_err().to_string(), said, "{text}");
        }
    }
}

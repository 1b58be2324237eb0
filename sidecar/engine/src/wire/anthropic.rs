//! Anthropic's messages (`/v1/messages`), as Ollama speaks them.
//!
//! The invariant: the texts of a message are read as the server joins them, its blocks one behind the other without a gap; what a tool
//! brought in is a text of its own, wherever among the blocks it stands, and before or behind the message's own words, as versions differ.
//!
//! Source: Anthropic's API reference, and ollama/ollama `anthropic/anthropic.go`, versions 0.17.4 and 0.33.0.

use std::borrow::Cow;

use super::answer::{Arguments, Call, Event, Speech};
use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, ObjectWriter, Rest, body, object, write_objects};
use super::json::{Json, write_string};
use super::tools::retain_places;
use super::{Channel, MessageIndex, Request, Text, Unreadable, Utterance, is_plain_id, lines, media, say_messages};

/// Documented fields whose values only steer the model or name the caller; text in them counts as the user's.
const SETTINGS: &[&str] = &[
    "max_tokens",
    "metadata",
    "service_tier",
    "stop_sequences",
    "temperature",
    "thinking",
    "top_k",
    "top_p",
    "container",
    "context_management",
    "output_config",
];

/// `POST /v1/messages`
#[derive(Debug)]
pub(super) struct MessagesRequest {
    model: Option<String>,
    messages: Vec<Message>,
    system: Option<Content>,
    tools: Vec<Tool>,
    tool_choice: Option<Json>,
    stream: Option<bool>,
    settings: Vec<(&'static str, Json)>,
    dropped: usize,
    unknown: Rest,
}

#[derive(Debug)]
struct Message {
    role: String,
    content: Option<Content>,
    unknown: Rest,
}

#[derive(Debug)]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// A block of a request, and the documented marks on it, which servers pass over.
#[derive(Debug)]
struct Block {
    is: Is,
    marks: Vec<(&'static str, Json)>,
    unknown: Rest,
}

#[derive(Debug)]
enum Is {
    Text(String),
    Image(Json),
    Thinking {
        thinking: String,
        signature: Option<String>,
    },
    /// A call of the past: the model's own tools, or those that the server runs.
    Call {
        kind: &'static str,
        id: String,
        name: String,
        input: Option<Json>,
    },
    Result {
        kind: &'static str,
        id: Option<String>,
        content: Option<Json>,
        is_error: Option<bool>,
    },
}

/// What the blocks of these kinds may bear.
const MARKS: &[&str] = &["cache_control", "citations"];
/// All keys of blocks.
const BLOCK_KEYS: &[&str] = &[
    "type",
    "text",
    "source",
    "thinking",
    "signature",
    "id",
    "name",
    "input",
    "tool_use_id",
    "content",
    "is_error",
    "cache_control",
    "citations",
];
const CALLS: [&str; 2] = ["tool_use", "server_tool_use"];
const RESULTS: [&str; 2] = ["tool_result", "web_search_tool_result"];

impl Content {
    /// The content, and how many of its blocks nobody knows. The server passes over them, too.
    fn decode(json: Json) -> Result<(Self, usize), DecodeError> {
        match json {
            Json::String(text) => Ok((Self::Text(text), 0)),
            Json::Array(items) => {
                let count = items.len();
                let mut blocks = Vec::with_capacity(count);
                for (index, item) in items.into_iter().enumerate() {
                    blocks.extend(Block::decode(item).map_err(|error| error.at(index))?);
                }
                let dropped = count - blocks.len();
                Ok((Self::Blocks(blocks), dropped))
            }
            _ => Err(DecodeError::Type { path: String::new(), expected: "a string or an array of blocks" }),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_string(text, out),
            Self::Blocks(blocks) => write_objects(blocks, out, Block::encode),
        }
    }

    fn blocks(&self) -> &[Block] {
        match self {
            Self::Text(_) => &[],
            Self::Blocks(blocks) => blocks,
        }
    }

    fn unknown_texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        self.blocks().iter().for_each(|block| block.unknown.texts(each));
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        if let Self::Blocks(blocks) = self {
            for block in blocks {
                each(&mut block.unknown);
            }
        }
    }

    fn edit(&mut self, edit: &mut Edit<'_>) {
        match self {
            Self::Text(text) => edit::text(text, edit),
            Self::Blocks(blocks) => blocks.iter_mut().for_each(|block| block.edit(edit)),
        }
    }

    /// What it says itself: its texts joined, and whatever else there is, but for tools' results where they are said apart.
    fn own(&self, with_results: bool) -> (String, String) {
        let blocks = match self {
            Self::Text(text) => return (text.clone(), String::new()),
            Self::Blocks(blocks) => blocks,
        };
        let texts: Vec<&str> =
            blocks.iter().filter_map(|block| if let Is::Text(text) = &block.is { Some(text.as_str()) } else { None }).collect();
        let beside = lines(|say| {
            // For other servers' sake.
            if texts.len() > 1 {
                say(&texts.join("\n"));
            }
            for block in blocks {
                match &block.is {
                    Is::Thinking { thinking, signature } => {
                        say(thinking);
                        if let Some(signature) = signature {
                            say(signature);
                        }
                    }
                    Is::Call { id, name, input, .. } => {
                        say(id);
                        say(name);
                        if let Some(input) = input {
                            input.each_shown(&mut |text| say(text));
                        }
                    }
                    Is::Result { id, content, .. } if with_results => {
                        if let Some(id) = id {
                            say(id);
                        }
                        if let Some(content) = content {
                            content.each_shown(&mut |text| say(text));
                        }
                    }
                    Is::Text(_) | Is::Image(_) | Is::Result { .. } => {}
                }
                block.marks.iter().for_each(|(_, value)| value.each_text(&mut |text| say(text)));
            }
        });
        (texts.concat(), beside)
    }
}

impl Block {
    /// A block, if it is of a kind that is known.
    fn decode(json: Json) -> Result<Option<Self>, DecodeError> {
        // 0.17.4 matches the keys of a block exactly; later versions don't.
        let mut fields = Fields::open_spelt(json, BLOCK_KEYS)?;
        let kind = fields.string("type")?.unwrap_or_default();
        let required = |fields: &mut Fields, name: &str| fields.string(name)?.ok_or(DecodeError::Missing { path: name.into() });
        let is = match kind.as_str() {
            "text" => Is::Text(required(&mut fields, "text")?),
            "image" => Is::Image(fields.any("source").ok_or(DecodeError::Missing { path: "source".into() })?),
            "thinking" => Is::Thinking { thinking: required(&mut fields, "thinking")?, signature: fields.string("signature")? },
            kind => {
                if let Some(kind) = CALLS.into_iter().find(|known| *known == kind) {
                    let (id, name) = (required(&mut fields, "id")?, required(&mut fields, "name")?);
                    Is::Call { kind, id, name, input: fields.any("input") }
                } else if let Some(kind) = RESULTS.into_iter().find(|known| *known == kind) {
                    let (id, content) = (fields.string("tool_use_id")?, fields.any("content"));
                    Is::Result { kind, id, content, is_error: fields.bool("is_error")? }
                } else {
                    return Ok(None);
                }
            }
        };
        let marks = fields.known(MARKS);
        Ok(Some(Self { is, marks, unknown: fields.rest() }))
    }

    fn edit(&mut self, edit: &mut Edit<'_>) {
        match &mut self.is {
            Is::Text(text) => edit::text(text, edit),
            Is::Image(_) => {}
            Is::Thinking { thinking, signature } => edit::texts(std::iter::once(thinking).chain(signature), edit),
            Is::Call { input, .. } => input.iter_mut().for_each(|input| edit::shown_tree(input, edit)),
            Is::Result { content, .. } => content.iter_mut().for_each(|content| edit_result(content, edit)),
        }
        edit::known(&mut self.marks, edit);
        self.unknown.edit(edit);
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        match &self.is {
            Is::Text(text) => {
                out.string("type", Some("text"));
                out.string("text", Some(text));
            }
            Is::Image(source) => {
                out.string("type", Some("image"));
                out.put("source", source);
            }
            Is::Thinking { thinking, signature } => {
                out.string("type", Some("thinking"));
                out.string("thinking", Some(thinking));
                out.string("signature", signature.as_deref());
            }
            Is::Call { kind, id, name, input } => {
                out.string("type", Some(kind));
                out.string("id", Some(id));
                out.string("name", Some(name));
                out.any("input", input.as_ref());
            }
            Is::Result { kind, id, content, is_error } => {
                out.string("type", Some(kind));
                out.string("tool_use_id", id.as_deref());
                out.any("content", content.as_ref());
                out.bool("is_error", *is_error);
            }
        }
        out.known(&self.marks);
        out.rest(&self.unknown);
    }
}

/// Edits what a tool brought in, but for pictures.
fn edit_result(content: &mut Json, edit: &mut Edit<'_>) {
    match content {
        Json::Array(items) => items.iter_mut().for_each(|item| edit_result(item, edit)),
        json if is_kind(json, "image") => {}
        json => edit::shown_tree(json, edit),
    }
}

/// What a tool brought in, as the server reads it: of a list the texts, joined.
fn result_text(content: &Json) -> String {
    match content {
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            let texts = items.iter().filter(|item| is_kind(item, "text"));
            texts.filter_map(|item| item.get("text")?.as_str()).collect()
        }
        _ => String::new(),
    }
}

/// What a search brought in, as the server puts it in words. What it writes as JSON is read as what it is.
fn search_text(content: &Json) -> String {
    let text = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let failed = |json: &Json| format!("web_search_tool_result_error: {}", text(json, "error_code"));
    match content {
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            let mut found = String::new();
            for item in items {
                if is_kind(item, "web_search_result") {
                    found.push_str(&["- ", &text(item, "title"), ": ", &text(item, "url"), "\n"].concat());
                } else if is_kind(item, "web_search_tool_result_error") {
                    // The server passes over the rest then, which others may not.
                    return [found, failed(item)].join("\n");
                }
            }
            found
        }
        json if is_kind(json, "web_search_tool_result_error") => failed(json),
        _ => String::new(),
    }
}

fn is_kind(json: &Json, kind: &str) -> bool {
    json.get("type").and_then(Json::as_str) == Some(kind)
}

/// The pictures in it, which nobody can judge.
fn images(json: &Json) -> Vec<&Json> {
    match json {
        Json::Array(items) => items.iter().flat_map(images).collect(),
        Json::Object(_) if is_kind(json, "image") => vec![json],
        _ => Vec::new(),
    }
}

impl Message {
    fn decode(json: Json) -> Result<(Self, usize), DecodeError> {
        let mut fields = Fields::open(json)?;
        let role = fields.string("role")?.unwrap_or_default();
        let content = fields.any("content").map(Content::decode).transpose().map_err(|error| error.within("content"))?;
        let (content, dropped) = content.map_or((None, 0), |(content, dropped)| (Some(content), dropped));
        Ok((Self { role, content, unknown: fields.rest() }, dropped))
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        out.string("role", Some(&self.role));
        if let Some(content) = &self.content {
            content.encode(out.field("content"));
        }
        out.rest(&self.unknown);
    }

    /// What it says: its own words by its role, and each result of a tool.
    fn said(&self) -> impl Iterator<Item = Utterance> + '_ {
        let says_nothing = self.says_nothing();
        let own = std::iter::once_with(move || {
            let (content, beside) = self.content.as_ref().map(|content| content.own(false)).unwrap_or_default();
            Utterance { role: self.role.clone(), content, beside, left_out: says_nothing }
        });
        let results = self.content.iter().flat_map(Content::blocks).filter_map(move |block| match &block.is {
            Is::Result { kind, id, content, .. } => {
                let read = if *kind == "tool_result" { result_text } else { search_text };
                let beside = lines(|say| {
                    if let Some(id) = id {
                        say(id);
                    }
                    // A text alone is all there is.
                    if let Some(content) = content.as_ref().filter(|content| content.as_str().is_none()) {
                        content.each_shown(&mut |text| say(text));
                    }
                });
                Some(Utterance {
                    role: "tool".to_owned(),
                    content: content.as_ref().map(read).unwrap_or_default(),
                    beside,
                    // Some versions put it before the message's own words, some behind them.
                    left_out: !says_nothing,
                })
            }
            _ => None,
        });
        own.chain(results)
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        self.content.iter_mut().for_each(|content| content.rests(each));
        each(&mut self.unknown);
    }

    /// Whether the server makes no message of its own words.
    fn says_nothing(&self) -> bool {
        if let Some(Content::Text(text)) = &self.content {
            return text.is_empty();
        }
        let blocks = self.content.iter().flat_map(Content::blocks);
        // Of several thoughts it takes the last.
        let mut thought = "";
        let says = blocks.into_iter().any(|block| match &block.is {
            Is::Text(text) => !text.is_empty(),
            Is::Thinking { thinking, .. } => {
                thought = thinking;
                false
            }
            Is::Image(_) | Is::Call { .. } => true,
            Is::Result { .. } => false,
        });
        !says && thought.is_empty()
    }

    /// Replaces what is meant of its own words and of the results that it brings, in the order in which [`Self::said`] says them.
    fn replace(&mut self, next_is_meant: &mut dyn FnMut() -> bool, by: &str) {
        let own_is_meant = next_is_meant();
        let mut is_touched = own_is_meant;
        if let Some(Content::Blocks(blocks)) = &mut self.content {
            for block in blocks {
                if let Is::Result { id, content, .. } = &mut block.is
                    && next_is_meant()
                {
                    is_touched = true;
                    *id = id.take().filter(|id| is_plain_id(id));
                    *content = Some(Json::String(by.to_owned()));
                }
            }
        }
        if is_touched {
            self.rests(&mut |rest| *rest = Rest::default());
        }
        match &mut self.content {
            Some(Content::Blocks(blocks)) if own_is_meant => {
                blocks.retain(|block| matches!(block.is, Is::Result { .. } | Is::Image(_)));
                blocks.insert(0, Block { is: Is::Text(by.to_owned()), marks: Vec::new(), unknown: Rest::default() });
            }
            Some(content) if own_is_meant => *content = Content::Text(by.to_owned()),
            _ => {}
        }
    }
}

/// A declared tool, or one that the server brings (`web_search_…`).
#[derive(Debug)]
struct Tool {
    name: String,
    description: Option<String>,
    rest: Vec<(&'static str, Json)>,
    unknown: Rest,
}

const TOOL: &[&str] =
    &["type", "input_schema", "cache_control", "max_uses", "allowed_domains", "blocked_domains", "user_location", "strict"];

impl Tool {
    fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            name: fields.string("name")?.unwrap_or_default(),
            description: fields.string("description")?,
            rest: fields.known(TOOL),
            unknown: fields.rest(),
        })
    }

    /// The name by which the model calls it: the server has its own for the tool that it brings.
    fn called(&self) -> &str {
        let kind = self.rest.iter().find(|(name, _)| *name == "type").and_then(|(_, kind)| kind.as_str());
        if kind.is_some_and(|kind| kind.starts_with("web_search")) { "web_search" } else { &self.name }
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        out.string("name", Some(&self.name));
        out.string("description", self.description.as_deref());
        out.known(&self.rest);
        out.rest(&self.unknown);
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        let text = lines(|mut say| {
            say(&self.name);
            if let Some(description) = &self.description {
                say(description);
            }
            self.rest.iter().for_each(|(_, value)| value.each_text(&mut say));
        });
        each(Text { channel: Channel::ToolDefinition, message: None, also: &[], text: Cow::Owned(text) });
        self.unknown.texts(each);
    }
}

impl MessagesRequest {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        let messages = fields.each("messages", Message::decode)?;
        let tools = fields.each("tools", Tool::decode)?;
        let system = fields.any("system").map(Content::decode).transpose().map_err(|error| error.within("system"))?;
        let dropped = messages.iter().map(|(_, dropped)| dropped).sum::<usize>() + system.as_ref().map_or(0, |(_, dropped)| *dropped);
        Ok(Self {
            model: fields.string("model")?,
            messages: messages.into_iter().map(|(message, _)| message).collect(),
            system: system.map(|(system, _)| system),
            tools,
            tool_choice: fields.any("tool_choice"),
            stream: fields.bool("stream")?,
            settings: fields.known(SETTINGS),
            dropped,
            unknown: fields.rest(),
        })
    }

    /// What is said, in order; a place in it is a [`MessageIndex`]. The system comes first, as the server puts it.
    fn said(&self) -> impl Iterator<Item = Utterance> + '_ {
        let system = self.system.iter().map(|system| {
            let (content, beside) = system.own(true);
            Utterance { role: "system".to_owned(), content, beside, left_out: true }
        });
        system.chain(self.messages.iter().flat_map(Message::said))
    }
}

impl Request for MessagesRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        say_messages(self.said(), each);
        self.tools.iter().for_each(|tool| tool.texts(each));
        for value in self.settings.iter().map(|(_, value)| value).chain(&self.tool_choice) {
            value.each_text(&mut |text| each(Text { channel: Channel::User, message: None, also: &[], text: Cow::Borrowed(text) }));
        }
        self.system.iter().for_each(|system| system.unknown_texts(each));
        for message in &self.messages {
            message.unknown.texts(each);
            message.content.iter().for_each(|content| content.unknown_texts(each));
        }
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        self.system.iter_mut().for_each(|system| system.edit(edit));
        for message in &mut self.messages {
            message.content.iter_mut().for_each(|content| content.edit(edit));
            message.unknown.edit(edit);
        }
        for tool in &mut self.tools {
            edit::texts(&mut tool.description, edit);
            edit::known(&mut tool.rest, edit);
            tool.unknown.edit(edit);
        }
        edit::known(&mut self.settings, edit);
        self.unknown.edit(edit);
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        self.system.iter_mut().for_each(|system| system.rests(each));
        self.messages.iter_mut().for_each(|message| message.rests(each));
        self.tools.iter_mut().for_each(|tool| each(&mut tool.unknown));
        each(&mut self.unknown);
    }

    fn system_says_more(&self) -> bool {
        let of_messages = self.messages.iter().filter(|message| Channel::of_role(&message.role) == Channel::System);
        let contents = self.system.iter().chain(of_messages.filter_map(|message| message.content.as_ref()));
        contents.flat_map(Content::blocks).any(|block| matches!(block.is, Is::Image(_)))
    }

    fn replace_messages(&mut self, is_meant: &mut dyn FnMut(MessageIndex) -> bool, by: &str) {
        let mut place = 0;
        let mut next_is_meant = || {
            place += 1;
            is_meant(MessageIndex(place - 1))
        };
        if let Some(system) = self.system.as_mut().filter(|_| next_is_meant()) {
            *system = Content::Text(by.to_owned());
        }
        self.messages.iter_mut().for_each(|message| message.replace(&mut next_is_meant, by));
    }

    fn tools(&self) -> Vec<&str> {
        self.tools.iter().map(Tool::called).collect()
    }

    fn retain_tools(&mut self, keep: &mut dyn FnMut(usize) -> bool) {
        let before = self.tools.len();
        retain_places(&mut self.tools, keep);
        if self.tools.len() < before {
            // It may name a tool that is gone, and servers refuse it where no tools are left.
            self.tool_choice = None;
        }
    }

    fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        let system = self.system.iter().map(|system| ("system".to_owned(), system));
        let messages = self.messages.iter().enumerate();
        let messages = messages.filter_map(|(index, message)| Some((format!("messages[{index}].content"), message.content.as_ref()?)));
        let mut out = Vec::new();
        for (path, content) in system.chain(messages) {
            for (place, block) in content.blocks().iter().enumerate() {
                let pictures = match &block.is {
                    Is::Image(source) => vec![source],
                    Is::Result { content: Some(content), .. } => images(content),
                    _ => continue,
                };
                out.extend(media(&format!("{path}[{place}]"), pictures));
            }
        }
        out
    }

    fn dropped(&self) -> usize {
        self.dropped
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            if let Some(system) = &self.system {
                system.encode(out.field("system"));
            }
            out.objects("messages", &self.messages, Message::encode);
            out.any_objects("tools", &self.tools, Tool::encode);
            out.any("tool_choice", self.tool_choice.as_ref());
            out.bool("stream", self.stream);
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

// === answers ===

const HEAD: &[&str] = &["id", "type", "role", "model"];
const TAIL: &[&str] = &["stop_reason", "stop_sequence", "usage"];

/// What a block of an answer says.
#[derive(Debug)]
pub(crate) enum Said {
    /// A text, under its field's name: `text` or `thinking`.
    Text(&'static str, String),
    /// A call of a tool.
    Call(Call),
}

/// A block of an answer, or the empty one with which a streamed block begins. Nothing: a kind that can't be judged, such as what a
/// search of the server's own brought in.
fn decode_block(json: Json) -> Result<Option<Said>, DecodeError> {
    let mut fields = Fields::open(json)?;
    let kind = fields.string("type")?.unwrap_or_default();
    Ok(match kind.as_str() {
        "text" => Some(Said::Text("text", fields.string("text")?.unwrap_or_default())),
        "thinking" => Some(Said::Text("thinking", fields.string("thinking")?.unwrap_or_default())),
        "tool_use" => {
            let input = fields.any("input").unwrap_or(Json::Object(Vec::new()));
            let (id, name) = (fields.string("id")?, fields.string("name")?.unwrap_or_default());
            Some(Said::Call(Call { id, index: None, name, arguments: Arguments::Value(input) }))
        }
        _ => None,
    })
}

/// A text block.
pub(crate) fn encode_text(kind: &'static str, text: &str, block: &mut ObjectWriter<'_>) {
    block.string("type", Some(kind));
    block.string(kind, Some(text));
}

/// A call's block, with its input or, where a stream brings that later, without.
pub(crate) fn encode_call(call: &Call, with_input: bool, block: &mut ObjectWriter<'_>) {
    block.string("type", Some("tool_use"));
    block.string("id", call.id.as_deref());
    block.string("name", Some(&call.name));
    match &call.arguments {
        Arguments::Value(input) if with_input => block.put("input", input),
        _ => block.object("input", |_| {}),
    }
}

pub(super) fn decode_event(mut fields: Fields) -> Result<Event, DecodeError> {
    let head = fields.known(HEAD);
    let tail = fields.known(TAIL);
    let mut event = Event { head, tail, done: true, ..Event::default() };
    for (index, block) in fields.array("content")?.into_iter().enumerate() {
        let block = decode_block(block).map_err(|error| error.at(index).within("content"))?;
        let mut speech = Speech { choice: index as u64, ..Speech::default() };
        match block {
            Some(Said::Text(name, text)) => speech.texts.push((name, text)),
            Some(Said::Call(call)) => speech.calls.push(call),
            None => event.dropped += 1,
        }
        event.speeches.push(speech);
    }
    event.dropped += fields.left();
    Ok(event)
}

pub(super) fn encode_event(event: &Event, out: &mut ObjectWriter<'_>) {
    enum Says<'a> {
        Text(&'static str, &'a str),
        Call(&'a Call),
    }
    out.known(&event.head);
    let blocks = event.speeches.iter().flat_map(|speech| {
        let texts = speech.texts.iter().map(|(kind, text)| Says::Text(kind, text));
        texts.chain(speech.calls.iter().map(Says::Call))
    });
    out.objects("content", blocks, |block, out| match block {
        Says::Text(kind, text) => encode_text(kind, text, out),
        Says::Call(call) => encode_call(call, true, out),
    });
    let calls = event.speeches.iter().any(|speech| !speech.calls.is_empty());
    for (name, value) in &event.tail {
        // Calls that were taken out aren't what it stopped for.
        if *name == "stop_reason" && !calls && value.as_str() == Some("tool_use") {
            out.string(name, Some("end_turn"));
        } else {
            out.put(name, value);
        }
    }
}

/// One event of a stream.
#[derive(Debug)]
pub(crate) enum Part {
    /// `message_start`: the message, which says nothing yet.
    Start(Vec<(&'static str, Json)>),
    /// `content_block_start`
    Open(u64, Option<Said>),
    /// `content_block_delta`: a piece of the open block's text, under its field's name, or of its call's arguments. Nothing: of another
    /// kind.
    Piece(u64, Option<(&'static str, String)>),
    /// `content_block_stop`
    Close(u64),
    /// `message_delta`
    Delta(Vec<(&'static str, Json)>, Option<Json>),
    /// `message_stop`
    Stop,
    /// `ping`
    Ping,
    /// `error`, and the server's words
    Error(Json),
    /// An event that nobody knows.
    Unknown,
}

/// The name of the pieces of a call's arguments.
pub(crate) const ARGUMENTS: &str = "partial_json";

/// Reads an event of a stream.
pub(crate) fn decode_part(bytes: &[u8]) -> Result<Part, DecodeError> {
    let json = Json::read(bytes)?;
    // A server that fails behind the layer that speaks this API says so in its own words.
    if let Some(error) = json.get("error").filter(|error| **error != Json::Null) {
        return Ok(Part::Error(error.clone()));
    }
    let mut fields = Fields::open(json)?;
    let kind = fields.string("type")?.unwrap_or_default();
    let index = |fields: &mut Fields| super::tools::index(fields).map(Option::unwrap_or_default);
    Ok(match kind.as_str() {
        "message_start" => {
            let mut message = fields.object("message")?.ok_or(DecodeError::Missing { path: "message".into() })?;
            if !message.array("content").map_err(|error| error.within("message"))?.is_empty() {
                return Err(DecodeError::Type { path: "message.content".into(), expected: "empty" });
            }
            let mut head = message.known(HEAD);
            head.extend(message.known(TAIL));
            Part::Start(head)
        }
        "content_block_start" => {
            let block = fields.any("content_block").ok_or(DecodeError::Missing { path: "content_block".into() })?;
            Part::Open(index(&mut fields)?, decode_block(block).map_err(|error| error.within("content_block"))?)
        }
        "content_block_delta" => {
            let index = index(&mut fields)?;
            let mut delta = fields.object("delta")?.ok_or(DecodeError::Missing { path: "delta".into() })?;
            let kind = delta.string("type").map_err(|error| error.within("delta"))?.unwrap_or_default();
            let name = match kind.as_str() {
                "text_delta" => Some("text"),
                "thinking_delta" => Some("thinking"),
                "input_json_delta" => Some(ARGUMENTS),
                _ => None,
            };
            let piece = name.map(|name| delta.string(name).map(|piece| (name, piece.unwrap_or_default()))).transpose();
            Part::Piece(index, piece.map_err(|error| error.within("delta"))?)
        }
        "content_block_stop" => Part::Close(index(&mut fields)?),
        "message_delta" => {
            let mut delta = fields.object("delta")?.ok_or(DecodeError::Missing { path: "delta".into() })?;
            Part::Delta(delta.known(&["stop_reason", "stop_sequence"]), fields.any("usage"))
        }
        "message_stop" => Part::Stop,
        "ping" => Part::Ping,
        _ => Part::Unknown,
    })
}

/// Writes an event of a stream.
pub(crate) fn encode_part(name: &str, members: impl FnOnce(&mut ObjectWriter<'_>), out: &mut Vec<u8>) {
    object(out, |out| {
        out.string("type", Some(name));
        members(out);
    });
}

/// The piece of a text, or of a call's arguments, as a delta.
pub(crate) fn encode_piece(name: &'static str, piece: &str, delta: &mut ObjectWriter<'_>) {
    let kind = match name {
        "text" => "text_delta",
        "thinking" => "thinking_delta",
        _ => "input_json_delta",
    };
    delta.string("type", Some(kind));
    delta.string(name, Some(piece));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, decode_request};

    fn decoded(text: &str) -> Box<dyn Request> {
        decode_request(Body::AnthropicMessages, text.as_bytes()).unwrap()
    }

    fn encoded(request: &dyn Request) -> String {
        String::from_utf8(request.encode()).unwrap()
    }

    const TALK: &str = r#"{"model":"m","system":[{"type":"text","text":"be kind","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"t1","name":"look","input":{"q":"cats"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"ig"},{"type":"text","text":"nore"}]},{"type":"text","text":"and"},{"type":"text","text":"so"}]}],"tools":[{"name":"look","description":"d","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto"},"stream":true,"max_tokens":9}"#;

    #[test]
    fn a_request_survives() {
        assert_eq!(encoded(&*decoded(TALK)), TALK);
        assert_eq!(decoded(TALK).dropped(), 0);
    }

    #[test]
    fn texts_are_read_as_the_server_joins_them_and_each_result_by_itself() {
        let mut seen = Vec::new();
        decoded(TALK).texts(&mut |text| seen.push((text.channel, text.message.map(|message| message.0), text.text.into_owned())));
        let expected = [
            (Channel::System, Some(0), "be kind\nephemeral\ntype\nephemeral"),
            (Channel::User, Some(1), "hi"),
            (Channel::Assistant, Some(2), "hm\ns\nt1\nlook\nq\ncats"),
            (Channel::User, Some(3), "andso\nand\nso"),
            (Channel::ToolResult, Some(4), "ignore\nt1\ntype\ntext\ntext\nig\ntype\ntext\ntext\nnore"),
        ];
        for (channel, place, text) in &expected[1..] {
            assert!(seen.contains(&(*channel, *place, (*text).to_owned())), "{text}: {seen:?}");
        }
        assert!(seen[0].2.starts_with("be kind") && seen[0].0 == Channel::System, "{seen:?}");
    }

    #[test]
    fn a_result_can_be_cut_out_and_the_rest_of_its_message_stays() {
        let mut request = decoded(TALK);
        request.replace_messages(&mut |message| message == MessageIndex(4), "cut");
        let cut = TALK.replace(r#"[{"type":"text","text":"ig"},{"type":"text","text":"nore"}]"#, r#""cut""#);
        assert_eq!(encoded(&*request), cut);
        request.replace_messages(&mut |message| message == MessageIndex(2), "cut");
        assert!(encoded(&*request).contains(r#"{"role":"assistant","content":[{"type":"text","text":"cut"}]}"#));
    }

    #[test]
    fn pictures_are_named_and_blocks_that_nobody_knows_are_dropped() {
        let request = decoded(
            r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":"QUJD"}},{"type":"new","text":"x"},{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"data":"QUJD"}}]}]}],"odd":1}"#,
        );
        let paths: Vec<_> = request.unreadable().into_iter().map(|part| part.path).collect();
        assert_eq!(paths, ["messages[0].content[0]", "messages[0].content[1]"]);
        assert_eq!(request.dropped(), 1);
    }

    #[test]
    fn wrong_types_are_named_by_their_place() {
        for (text, said) in [
            (r#"{"messages":[{"content":7}]}"#, "messages[0].content must be a string or an array of blocks"),
            (r#"{"messages":[{"content":[{"type":"text","text":7}]}]}"#, "messages[0].content[0].text must be a string"),
            (r#"{"messages":[{"content":[{"type":"tool_use","name":"f"}]}]}"#, "messages[0].content[0].id is missing"),
            (r#"{"system":[7]}"#, "system[0] must be an object"),
            (r#"{"max_tokens":1,"MAX_TOKENS":2}"#, " has two keys that differ only in case"),
        ] {
            assert_eq!(decode_request(Body::AnthropicMessages, text.as_bytes()).unwrap_err().to_string(), said, "{text}");
        }
    }

    #[test]
    fn a_search_of_the_servers_own_is_the_tool_that_the_model_calls() {
        let request = decoded(r#"{"tools":[{"type":"web_search_20250305","name":"other"},{"name":"a"}]}"#);
        assert_eq!(request.tools(), ["web_search", "a"]);
    }

    #[test]
    fn an_answer_survives() {
        let text = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"hi"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2}}"#;
        let event = decode_event(Fields::open(Json::read(text.as_bytes()).unwrap()).unwrap()).unwrap();
        let mut out = Vec::new();
        object(&mut out, |out| encode_event(&event, out));
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

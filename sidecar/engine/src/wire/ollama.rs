//! Ollama's native API: `/api/chat` and `/api/generate`.
//!
//! Source: ollama/ollama `api/types.go`, versions 0.17.4 and 0.33.0.

use std::borrow::Cow;

use super::answer::{Arguments, Call, Event, Shape, Speech};
use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, ObjectWriter, Rest, body};
use super::json::Json;
use super::logprobs;
use super::tools::{Index, Tool, call_texts, decode_call, decode_past_call, retain_places, setting_texts};
use super::{Channel, MessageIndex, Opaque, Request, Text, Unreadable, Utterance, is_plain_id, lines, media, say_messages};

/// Fields of chat and generate whose values only steer the model; text in them counts as the user's.
const SETTINGS: &[&str] = &["format", "keep_alive", "options", "think", "truncate", "shift", "logprobs", "top_logprobs"];
/// The same of generate, which draws pictures, too.
const GENERATE_SETTINGS: &[&str] =
    &["format", "keep_alive", "options", "think", "truncate", "shift", "logprobs", "top_logprobs", "width", "height", "steps"];
/// `POST /api/chat`
#[derive(Debug)]
pub struct ChatRequest {
    model: Option<String>,
    messages: Vec<Message>,
    tools: Vec<Tool>,
    stream: Option<bool>,
    settings: Vec<(&'static str, Json)>,
    render_only: bool,
    unknown: Rest,
}

/// Whether messages that another request brings along can be read in one way only, as a chat's.
pub(super) fn check_messages(messages: &Json) -> Result<(), DecodeError> {
    let Json::Array(messages) = messages else {
        return Err(DecodeError::Type { path: String::new(), expected: "an array" });
    };
    let mut messages = messages.iter().enumerate();
    messages.try_for_each(|(place, message)| Message::decode(message.clone()).map(|_| ()).map_err(|error| error.at(place)))
}

#[derive(Debug)]
struct Message {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    images: Vec<Json>,
    calls: Vec<Call>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
    unknown: Rest,
}

fn encode_call(call: &Call, out: &mut ObjectWriter<'_>) {
    out.string("id", call.id.as_deref());
    out.object("function", |function| {
        if let Some(index) = call.index {
            function.number("index", index);
        }
        function.string("name", Some(&call.name));
        match &call.arguments {
            Arguments::Value(value) => function.put("arguments", value),
            Arguments::Text(text) if text.is_empty() => function.object("arguments", |_| {}),
            Arguments::Text(text) => function.string("arguments", Some(text)),
        }
    });
}

impl Message {
    fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            role: fields.string("role")?.unwrap_or_default(),
            content: fields.string("content")?,
            thinking: fields.string("thinking")?,
            images: fields.array("images")?,
            calls: fields.each("tool_calls", |call| decode_past_call(call, Index::OfFunction))?,
            tool_name: fields.string("tool_name")?,
            tool_call_id: fields.string("tool_call_id")?,
            unknown: fields.rest(),
        })
    }

    fn said(&self) -> Utterance {
        let beside = lines(|say| {
            for text in [&self.thinking, &self.tool_name, &self.tool_call_id].into_iter().flatten() {
                say(text);
            }
            self.calls.iter().for_each(|call| call_texts(call, say));
        });
        Utterance { role: self.role.clone(), content: self.content.clone().unwrap_or_default(), beside, left_out: false }
    }

    fn edit(&mut self, edit: &mut Edit<'_>) {
        edit::texts(self.content.iter_mut().chain(&mut self.thinking), edit);
        self.calls.iter_mut().for_each(|call| edit::call(call, edit));
        self.unknown.edit(edit);
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        out.string("role", Some(&self.role));
        out.string("content", Some(self.content.as_deref().unwrap_or_default()));
        out.string("thinking", self.thinking.as_deref());
        out.any_trees("images", &self.images);
        out.any_objects("tool_calls", &self.calls, encode_call);
        out.string("tool_name", self.tool_name.as_deref());
        out.string("tool_call_id", self.tool_call_id.as_deref());
        out.rest(&self.unknown);
    }
}

impl ChatRequest {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            model: fields.string("model")?,
            messages: fields.each("messages", Message::decode)?,
            tools: fields.each("tools", Tool::decode)?,
            stream: fields.bool("stream")?,
            settings: fields.known(SETTINGS),
            render_only: fields.bool("_debug_render_only")?.unwrap_or(false),
            unknown: fields.rest(),
        })
    }
}

/// The answer to it is the rendered prompt, the model's own parts among it.
pub(super) fn render_only(asked: bool) -> Option<Unreadable> {
    asked.then(|| Unreadable { is: Opaque::Never, path: "_debug_render_only".into(), bytes: 0 })
}

/// The context window that a request asks for (`options.num_ctx`).
fn window(settings: &[(&'static str, Json)]) -> Option<u64> {
    let (_, options) = settings.iter().find(|(name, _)| *name == "options")?;
    match options.get("num_ctx")? {
        Json::Number(window) => window.as_u64(),
        _ => None,
    }
}

impl Request for ChatRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        say_messages(self.messages.iter().map(Message::said), each);
        self.tools.iter().for_each(|tool| tool.texts(each));
        setting_texts(&self.settings, each);
        self.messages.iter().map(|message| &message.unknown).chain([&self.unknown]).for_each(|rest| rest.texts(each));
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        self.messages.iter_mut().for_each(|message| message.edit(edit));
        self.tools.iter_mut().for_each(|tool| tool.edit(edit));
        edit::known(&mut self.settings, edit);
        self.unknown.edit(edit);
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        self.messages.iter_mut().for_each(|message| each(&mut message.unknown));
        self.tools.iter_mut().for_each(|tool| tool.rests(each));
        each(&mut self.unknown);
    }

    fn system_says_more(&self) -> bool {
        self.messages.iter().any(|message| Channel::of_role(&message.role) == Channel::System && !message.images.is_empty())
    }

    fn replace_messages(&mut self, is_meant: &mut dyn FnMut(MessageIndex) -> bool, by: &str) {
        let meant = self.messages.iter_mut().enumerate().filter(|(index, _)| is_meant(MessageIndex(*index)));
        for (_, message) in meant {
            message.content = Some(by.to_owned());
            message.thinking = None;
            message.tool_name = None;
            message.tool_call_id = message.tool_call_id.take().filter(|id| is_plain_id(id));
            message.calls.clear();
            message.unknown = Rest::default();
        }
    }

    fn tools(&self) -> Vec<&str> {
        self.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    fn retain_tools(&mut self, keep: &mut dyn FnMut(usize) -> bool) {
        retain_places(&mut self.tools, keep);
    }

    fn window(&self) -> Option<u64> {
        window(&self.settings)
    }

    fn streams(&self) -> bool {
        self.stream.unwrap_or(true)
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        let images = self.messages.iter().enumerate().filter(|(_, message)| !message.images.is_empty());
        let images = images.flat_map(|(index, message)| media(&format!("messages[{index}].images"), &message.images));
        images.chain(render_only(self.render_only)).collect()
    }

    fn dropped(&self) -> usize {
        0
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            out.objects("messages", &self.messages, Message::encode);
            out.any_objects("tools", &self.tools, Tool::encode);
            out.bool("stream", self.stream);
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

/// `POST /api/generate`
#[derive(Debug)]
pub struct GenerateRequest {
    model: Option<String>,
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    template: Option<String>,
    context: Vec<Json>,
    images: Vec<Json>,
    raw: Option<bool>,
    stream: Option<bool>,
    settings: Vec<(&'static str, Json)>,
    render_only: bool,
    unknown: Rest,
}

impl GenerateRequest {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            model: fields.string("model")?,
            prompt: fields.string("prompt")?,
            suffix: fields.string("suffix")?,
            system: fields.string("system")?,
            template: fields.string("template")?,
            context: fields.array("context")?,
            images: fields.array("images")?,
            raw: fields.bool("raw")?,
            stream: fields.bool("stream")?,
            settings: fields.known(GENERATE_SETTINGS),
            render_only: fields.bool("_debug_render_only")?.unwrap_or(false),
            unknown: fields.rest(),
        })
    }
}

impl Request for GenerateRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        // Templates put these side by side, with or without a gap.
        let parts: Vec<&str> = [&self.system, &self.prompt, &self.suffix].into_iter().filter_map(Option::as_deref).collect();
        let text = match parts[..] {
            [] => None,
            [one] => Some(Cow::Borrowed(one)),
            _ => Some(Cow::Owned([parts.join("\n"), parts.concat()].join("\n"))),
        };
        for text in text.into_iter().chain(self.template.as_deref().map(Cow::Borrowed)) {
            each(Text { channel: Channel::User, message: None, also: &[], text });
        }
        setting_texts(&self.settings, each);
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        let Self { prompt, suffix, system, template, .. } = self;
        edit::texts([system, prompt, suffix, template].into_iter().flatten(), edit);
        edit::known(&mut self.settings, edit);
        self.unknown.edit(edit);
    }

    fn system_texts(&self, each: &mut dyn FnMut(Cow<'_, str>)) {
        // A template of the client's own has a say in what becomes of it, and a raw prompt leaves it out. So does a suffix: what stands
        // between two texts is filled in without a word of the system's.
        let is_empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        let is_plain = is_empty(&self.template) && is_empty(&self.suffix) && self.raw != Some(true) && self.context.is_empty();
        if let Some(system) = self.system.as_deref().filter(|_| is_plain) {
            each(Cow::Borrowed(system));
        }
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        each(&mut self.unknown);
    }

    fn window(&self) -> Option<u64> {
        window(&self.settings)
    }

    fn streams(&self) -> bool {
        self.stream.unwrap_or(true)
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        let mut out = Vec::new();
        if let Some(template) = self.template.as_deref().filter(|template| !template.is_empty()) {
            out.push(Unreadable { is: Opaque::Template, path: "template".into(), bytes: template.len() });
        }
        if !self.context.is_empty() {
            // A token stands for about four bytes; what matters is that it isn't nothing.
            out.push(Unreadable { is: Opaque::Context, path: "context".into(), bytes: self.context.len() * 4 });
        }
        out.extend(media("images", &self.images));
        out.extend(render_only(self.render_only));
        out
    }

    fn dropped(&self) -> usize {
        0
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            out.string("prompt", self.prompt.as_deref());
            out.string("suffix", self.suffix.as_deref());
            out.string("system", self.system.as_deref());
            out.string("template", self.template.as_deref());
            out.any_trees("context", &self.context);
            out.any_trees("images", &self.images);
            out.bool("raw", self.raw);
            out.bool("stream", self.stream);
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

// === answers ===

const HEAD: &[&str] = &["model", "remote_model", "remote_host", "created_at"];
const TAIL: &[&str] = &[
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
    "completed",
    "total",
];

/// Channels of an answer that can't be judged: token ids, the rendered prompt.
const UNJUDGED: &[&str] = &["context", "_debug_info"];

fn texts(fields: &mut Fields, names: &[&'static str]) -> Result<Vec<(&'static str, String)>, DecodeError> {
    let mut out = Vec::new();
    for name in names {
        if let Some(text) = fields.string(name)? {
            out.push((*name, text));
        }
    }
    Ok(out)
}

/// The channel of which log-probabilities are said. Those of thoughts come beside them.
const fn answered(shape: Shape) -> &'static str {
    if matches!(shape, Shape::OllamaGenerate) { "response" } else { "content" }
}

pub(super) fn decode_event(mut fields: Fields, shape: Shape) -> Result<Event, DecodeError> {
    let head = fields.known(HEAD);
    let done = fields.bool("done")?.unwrap_or(false);
    let tail = fields.known(TAIL);
    let mut dropped = fields.known(UNJUDGED).len();
    let (tokens, left_out) = logprobs::decode(fields.any("logprobs"));
    dropped += left_out;
    let picture = if shape == Shape::OllamaGenerate { fields.string("image")? } else { None };
    let mut speech = if shape == Shape::OllamaGenerate {
        Speech {
            texts: texts(&mut fields, &["response", "thinking"])?,
            calls: fields.each("tool_calls", decode_call)?,
            ..Speech::default()
        }
    } else {
        let Some(mut message) = fields.object("message")? else {
            return Err(DecodeError::Missing { path: "message".into() });
        };
        let within = |error: DecodeError| error.within("message");
        let speech = Speech {
            role: message.string("role").map_err(within)?,
            texts: texts(&mut message, &["content", "thinking"]).map_err(within)?,
            calls: message.each("tool_calls", decode_call).map_err(within)?,
            ..Speech::default()
        };
        dropped += message.left();
        speech
    };
    if !tokens.is_empty() {
        speech.tokens.push((answered(shape), tokens));
    }
    dropped += fields.left();
    Ok(Event { head, speeches: vec![speech], tail, done, picture, dropped })
}

fn encode_speech(speech: &Speech, out: &mut ObjectWriter<'_>) {
    out.string("role", speech.role.as_deref());
    for (name, text) in &speech.texts {
        out.string(name, Some(text));
    }
    out.any_objects("tool_calls", &speech.calls, encode_call);
}

pub(super) fn encode_event(event: &Event, shape: Shape, out: &mut ObjectWriter<'_>) {
    out.known(&event.head);
    for speech in &event.speeches {
        if shape == Shape::OllamaGenerate {
            encode_speech(speech, out);
        } else {
            out.object("message", |message| encode_speech(speech, message));
        }
    }
    out.string("image", event.picture.as_deref());
    out.bool("done", Some(event.done));
    for (_, tokens) in event.speeches.iter().flat_map(|speech| &speech.tokens) {
        logprobs::encode("logprobs", tokens, out);
    }
    out.known(&event.tail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, decode_request};

    fn encoded(body: Body, text: &str) -> String {
        String::from_utf8(decode_request(body, text.as_bytes()).unwrap().encode()).unwrap()
    }

    #[test]
    fn a_chat_request_survives() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"","tool_calls":[{"id":"1","function":{"name":"f","arguments":{"a":1}}}]},{"role":"tool","content":"x","tool_name":"f"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}],"stream":false,"format":"json","keep_alive":"5m","options":{"temperature":0.1}}"#;
        assert_eq!(encoded(Body::OllamaChat, body), body);
    }

    #[test]
    fn a_negative_zero_goes_on_as_the_server_reads_it() {
        let body = r#"{"model":"m","prompt":"p","context":[-0],"options":{"seed":-0}}"#;
        assert_eq!(encoded(Body::OllamaGenerate, body), body);
    }

    #[test]
    fn a_field_that_nobody_documents_can_be_taken_out() {
        let mut request = decode_request(Body::OllamaChat, br#"{"model":"m","messages":[],"new_field":{"x":1}}"#).unwrap();
        request.rests(&mut |rest| rest.retain(&mut |name| name != "new_field"));
        assert_eq!(String::from_utf8(request.encode()).unwrap(), r#"{"model":"m","messages":[]}"#);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let request = decode_request(
            Body::OllamaGenerate,
            br#"{"model":"m","prompt":"p","template":"t","context":[1,2],"images":["QUJD"],"_debug_render_only":true}"#,
        )
        .unwrap();
        let paths: Vec<_> = request.unreadable().into_iter().map(|part| part.path).collect();
        assert_eq!(paths, ["template", "context", "images", "_debug_render_only"]);
    }

    #[test]
    fn an_answer_survives_but_for_what_cannot_be_judged() {
        let line = r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"hi"},"done":true,"done_reason":"stop","eval_count":2,"context":[1,2]}"#;
        let event = decode_event(Fields::open(Json::read(line.as_bytes()).unwrap()).unwrap(), Shape::OllamaChat).unwrap();
        let mut out = Vec::new();
        crate::wire::encode_event(&event, Shape::OllamaChat, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), line.replace(r#","context":[1,2]"#, ""));
        assert_eq!(event.dropped, 1);
    }
}

//! OpenAI's chat completions, as Ollama and other model servers speak them.
//!
//! Source: OpenAI's API reference, and ollama/ollama `openai/openai.go`, versions 0.17.4 and 0.33.0.

use std::borrow::Cow;

use super::answer::{Arguments, Call, Event, Shape, Speech};
use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, ObjectWriter, Rest, body};
use super::json::Json;
use super::logprobs;
use super::ollama::render_only;
use super::tools::{Index, Tool, bytes_in, call_texts, decode_call, decode_past_call, index, retain_places, setting_texts};
use super::{Channel, GAP, MessageIndex, Opaque, Request, Text, Unreadable, Utterance, is_plain_id, lines, media, say_messages};

/// Documented fields whose values only steer the model or name the caller; text in them counts as the user's.
const SETTINGS: &[&str] = &[
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream_options",
    "temperature",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];
/// The same for text completions.
const COMPLETION_SETTINGS: &[&str] = &[
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream_options",
    "temperature",
    "top_p",
    "user",
];

/// The `type` of an error.
pub(super) fn error_type(status: u16) -> &'static str {
    match status {
        400 | 403 | 413 | 415 => "invalid_request_error",
        401 => "authentication_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        _ => "api_error",
    }
}

/// The `type` of an error in Anthropic's API, which lists its own.
pub(super) fn anthropic_error_type(status: u16) -> &'static str {
    match status {
        403 => "permission_error",
        413 => "request_too_large",
        other => error_type(other),
    }
}

/// `POST /v1/chat/completions`
#[derive(Debug)]
pub struct ChatRequest {
    model: Option<String>,
    messages: Vec<Message>,
    tools: Vec<Tool>,
    tool_choice: Option<Json>,
    stream: Option<bool>,
    settings: Vec<(&'static str, Json)>,
    render_only: bool,
    unknown: Rest,
}

#[derive(Debug)]
struct Message {
    role: String,
    content: Option<Content>,
    reasoning: Option<String>,
    name: Option<String>,
    calls: Vec<Call>,
    /// Without content, an empty list of calls is another thing to the server than none: it takes the message.
    calls_said: bool,
    tool_call_id: Option<String>,
    unknown: Rest,
}

#[derive(Debug)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug)]
enum Part {
    Text(String),
    /// An image or a sound, under its type's name.
    Media(&'static str, Json),
}

impl Part {
    fn decode(json: &Json) -> Result<Self, DecodeError> {
        // Content parts are maps to the server, whose keys it matches exactly.
        let kind = json.get("type").and_then(Json::as_str).unwrap_or_default().to_owned();
        let value = |name: &'static str| json.get(name).cloned().ok_or(DecodeError::Missing { path: name.into() });
        Ok(match kind.as_str() {
            "text" => match value("text")? {
                Json::String(text) => Self::Text(text),
                _ => return Err(DecodeError::Type { path: "text".into(), expected: "a string" }),
            },
            "image_url" => Self::Media("image_url", value("image_url")?),
            "input_audio" => Self::Media("input_audio", value("input_audio")?),
            _ => return Err(DecodeError::Type { path: "type".into(), expected: "text, image_url or input_audio" }),
        })
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        match self {
            Self::Text(text) => {
                out.string("type", Some("text"));
                out.string("text", Some(text));
            }
            Self::Media(kind, value) => {
                out.string("type", Some(kind));
                out.put(kind, value);
            }
        }
    }
}

impl Message {
    fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        let content = match fields.any("content") {
            None => None,
            Some(Json::String(text)) => Some(Content::Text(text)),
            Some(Json::Array(parts)) => Some(Content::Parts(
                parts
                    .into_iter()
                    .enumerate()
                    .map(|(index, part)| Part::decode(&part).map_err(|error| error.at(index).within("content")))
                    .collect::<Result<_, _>>()?,
            )),
            Some(_) => return Err(DecodeError::Type { path: "content".into(), expected: "a string or an array of parts" }),
        };
        Ok(Self {
            role: fields.string("role")?.unwrap_or_default(),
            content,
            reasoning: fields.string("reasoning")?,
            name: fields.string("name")?,
            calls_said: fields.has("tool_calls"),
            calls: fields.each("tool_calls", |call| decode_past_call(call, Index::OfCall))?,
            tool_call_id: fields.string("tool_call_id")?,
            unknown: fields.rest(),
        })
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        out.string("role", Some(&self.role));
        match &self.content {
            None => {}
            Some(Content::Text(text)) => out.string("content", Some(text)),
            Some(Content::Parts(parts)) => out.objects("content", parts, Part::encode),
        }
        out.string("reasoning", self.reasoning.as_deref());
        out.string("name", self.name.as_deref());
        if self.calls_said && self.content.is_none() {
            out.objects("tool_calls", &self.calls, encode_call);
        } else {
            out.any_objects("tool_calls", &self.calls, encode_call);
        }
        out.string("tool_call_id", self.tool_call_id.as_deref());
        out.rest(&self.unknown);
    }

    fn edit(&mut self, edit: &mut Edit<'_>) {
        match &mut self.content {
            Some(Content::Text(text)) => edit::text(text, edit),
            Some(Content::Parts(parts)) => {
                edit::texts(parts.iter_mut().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None }), edit);
            }
            None => {}
        }
        edit::texts(&mut self.reasoning, edit);
        // Beside what a tool gave it is the tool's.
        if !Channel::of_role(&self.role).is_data() {
            edit::texts(&mut self.name, edit);
        }
        self.calls.iter_mut().for_each(|call| edit::call(call, edit));
        self.unknown.edit(edit);
    }

    fn said(&self) -> Utterance {
        let (content, joined) = self.content_text();
        let beside = lines(|say| {
            if let Some(joined) = joined {
                say(&joined);
            }
            for text in [&self.reasoning, &self.name, &self.tool_call_id].into_iter().flatten() {
                say(text);
            }
            self.calls.iter().for_each(|call| call_texts(call, say));
        });
        let left_out = matches!(&self.content, Some(Content::Parts(parts)) if parts.is_empty());
        Utterance { role: self.role.clone(), content, beside, left_out }
    }

    /// What the content says: its parts as Ollama joins them, which makes messages of them, and without a gap, as others do.
    fn content_text(&self) -> (String, Option<String>) {
        let parts = match &self.content {
            None => return (String::new(), None),
            Some(Content::Text(text)) => return (text.clone(), None),
            Some(Content::Parts(parts)) => parts,
        };
        let texts = parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None });
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        (texts.join(GAP), (texts.len() > 1).then(|| texts.concat()))
    }
}

fn encode_call(call: &Call, out: &mut ObjectWriter<'_>) {
    if let Some(index) = call.index {
        out.number("index", index);
    }
    out.string("id", call.id.as_deref());
    out.string("type", Some("function"));
    out.object("function", |function| {
        function.string("name", Some(&call.name));
        match &call.arguments {
            Arguments::Text(text) => function.string("arguments", Some(text)),
            Arguments::Value(value) => function.string("arguments", Some(&value.to_string())),
        }
    });
}

impl ChatRequest {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            model: fields.string("model")?,
            messages: fields.each("messages", Message::decode)?,
            tools: fields.each("tools", Tool::decode)?,
            tool_choice: fields.any("tool_choice"),
            stream: fields.bool("stream")?,
            settings: fields.known(SETTINGS),
            render_only: fields.bool("_debug_render_only")?.unwrap_or(false),
            unknown: fields.rest(),
        })
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
        for value in self.settings.iter().map(|(_, value)| value).chain(&self.tool_choice) {
            value.each_text(&mut |text| each(Text { channel: Channel::User, message: None, also: &[], text: Cow::Borrowed(text) }));
        }
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
        let has_media = |message: &Message| match &message.content {
            Some(Content::Parts(parts)) => parts.iter().any(|part| matches!(part, Part::Media(..))),
            Some(Content::Text(_)) | None => false,
        };
        self.messages.iter().any(|message| Channel::of_role(&message.role) == Channel::System && has_media(message))
    }

    fn replace_messages(&mut self, is_meant: &mut dyn FnMut(MessageIndex) -> bool, by: &str) {
        let meant = self.messages.iter_mut().enumerate().filter(|(index, _)| is_meant(MessageIndex(*index)));
        for (_, message) in meant {
            message.content = Some(Content::Text(by.to_owned()));
            message.reasoning = None;
            message.name = None;
            message.tool_call_id = message.tool_call_id.take().filter(|id| is_plain_id(id));
            message.calls.clear();
            message.unknown = Rest::default();
        }
    }

    fn tools(&self) -> Vec<&str> {
        self.tools.iter().map(|tool| tool.name.as_str()).collect()
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
        let mut out = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            let Some(Content::Parts(parts)) = &message.content else { continue };
            for (place, part) in parts.iter().enumerate() {
                let Part::Media(kind, value) = part else { continue };
                let path = format!("messages[{index}].content[{place}]");
                if *kind == "input_audio" {
                    out.push(Unreadable { is: Opaque::Audio, path, bytes: bytes_in(std::slice::from_ref(value)) });
                } else {
                    // A server takes a sound in the place of a picture, too.
                    out.extend(media(&path, [value]));
                }
            }
        }
        out.extend(render_only(self.render_only));
        out
    }

    fn dropped(&self) -> usize {
        0
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            out.objects("messages", &self.messages, Message::encode);
            out.any_objects("tools", &self.tools, Tool::encode);
            out.any("tool_choice", self.tool_choice.as_ref());
            out.bool("stream", self.stream);
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

/// `POST /v1/completions`
#[derive(Debug)]
pub(super) struct CompletionRequest {
    model: Option<String>,
    prompt: Option<String>,
    suffix: Option<String>,
    stream: Option<bool>,
    settings: Vec<(&'static str, Json)>,
    render_only: bool,
    unknown: Rest,
}

impl CompletionRequest {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            model: fields.string("model")?,
            prompt: fields.string("prompt")?,
            suffix: fields.string("suffix")?,
            stream: fields.bool("stream")?,
            settings: fields.known(COMPLETION_SETTINGS),
            render_only: fields.bool("_debug_render_only")?.unwrap_or(false),
            unknown: fields.rest(),
        })
    }
}

impl Request for CompletionRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        let text = match (self.prompt.as_deref(), self.suffix.as_deref()) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(Cow::Borrowed(one)),
            // Templates put these side by side, with or without a gap.
            (Some(prompt), Some(suffix)) => Some(Cow::Owned(format!("{prompt}\n{suffix}\n{prompt}{suffix}"))),
        };
        if let Some(text) = text {
            each(Text { channel: Channel::User, message: None, also: &[], text });
        }
        setting_texts(&self.settings, each);
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        edit::texts(self.prompt.iter_mut().chain(&mut self.suffix), edit);
        edit::known(&mut self.settings, edit);
        self.unknown.edit(edit);
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        each(&mut self.unknown);
    }

    fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        render_only(self.render_only).into_iter().collect()
    }

    fn dropped(&self) -> usize {
        0
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            out.string("prompt", self.prompt.as_deref());
            out.string("suffix", self.suffix.as_deref());
            out.bool("stream", self.stream);
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

// === answers ===

const HEAD: &[&str] = &["id", "object", "created", "model", "system_fingerprint", "service_tier"];
const CHANNELS: &[&str] = &["content", "reasoning", "reasoning_content", "refusal"];

/// The lists of log-probabilities beside a choice, and the channels of which they are.
const fn lists(shape: Shape) -> &'static [(&'static str, &'static str)] {
    // Some servers use the form of chats in text completions, too.
    if matches!(shape, Shape::OpenAiText) { &[("content", "text")] } else { &[("content", "content"), ("refusal", "refusal")] }
}

const fn speech_field(shape: Shape) -> &'static str {
    match shape {
        Shape::OpenAiCompletion => "message",
        _ => "delta",
    }
}

pub(super) fn decode_event(mut fields: Fields, shape: Shape) -> Result<Event, DecodeError> {
    let head = fields.known(HEAD);
    let tail = fields.known(&["usage"]);
    let speeches = fields.each("choices", |choice| decode_choice(choice, shape))?;
    let dropped = fields.left() + speeches.iter().map(|(_, dropped)| dropped).sum::<usize>();
    Ok(Event { head, speeches: speeches.into_iter().map(|(speech, _)| speech).collect(), tail, dropped, ..Event::default() })
}

fn decode_choice(json: Json, shape: Shape) -> Result<(Speech, usize), DecodeError> {
    let mut fields = Fields::open(json)?;
    let name = speech_field(shape);
    let choice = index(&mut fields)?.unwrap_or_default();
    // Some servers say an empty reason where they mean none.
    let finish = fields.any("finish_reason").filter(|reason| reason.as_str() != Some(""));
    let column = (shape == Shape::OpenAiText).then_some("text");
    let (tokens, mut dropped) = logprobs::decode_choice(fields.any("logprobs"), lists(shape), column);
    let mut speech = Speech { choice, tokens, finish, ..Speech::default() };
    if shape == Shape::OpenAiText {
        speech.texts.extend(fields.string("text")?.map(|text| ("text", text)));
    } else if let Some(mut delta) = fields.object(name)? {
        let within = |error: DecodeError| error.within(name);
        speech.role = delta.string("role").map_err(within)?;
        for channel in CHANNELS {
            if let Some(text) = delta.string(channel).map_err(within)? {
                speech.texts.push((channel, text));
            }
        }
        speech.calls = delta.each("tool_calls", decode_call).map_err(within)?;
        dropped += delta.left();
    }
    dropped += fields.left();
    Ok((speech, dropped))
}

fn encode_choice(speech: &Speech, shape: Shape, choice: &mut ObjectWriter<'_>) {
    let say = |out: &mut ObjectWriter<'_>| speech.texts.iter().for_each(|(name, text)| out.string(name, Some(text)));
    if shape == Shape::OpenAiText {
        say(choice);
        choice.number("index", speech.choice);
    } else {
        choice.number("index", speech.choice);
        choice.object(speech_field(shape), |delta| {
            delta.string("role", speech.role.as_deref());
            if shape == Shape::OpenAiCompletion && !speech.texts.iter().any(|(name, _)| *name == "content") {
                delta.put("content", &Json::Null);
            }
            say(delta);
            delta.any_objects("tool_calls", &speech.calls, encode_call);
        });
    }
    logprobs::encode_choice(&speech.tokens, lists(shape), choice);
    choice.put("finish_reason", speech.finish.as_ref().unwrap_or(&Json::Null));
}

pub(super) fn encode_event(event: &Event, shape: Shape, out: &mut ObjectWriter<'_>) {
    out.known(&event.head);
    out.objects("choices", &event.speeches, |speech, choice| encode_choice(speech, shape, choice));
    out.known(&event.tail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, decode_request};

    #[test]
    fn a_request_survives() {
        let body = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto","stream":true,"seed":1,"stream_options":{"include_usage":true},"temperature":0.5}"#;
        let request = decode_request(Body::OpenAiChat, body.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(request.encode()).unwrap(), body);
    }

    #[test]
    fn parts_are_read_joined() {
        let request = decode_request(
            Body::OpenAiChat,
            br#"{"messages":[{"role":"user","content":[{"type":"text","text":"ig"},{"type":"text","text":"nore"}]}]}"#,
        )
        .unwrap();
        let mut seen = Vec::new();
        request.texts(&mut |text| seen.push(text.text.into_owned()));
        assert_eq!(seen, ["ig\n\nnore\nignore"]);
    }

    #[test]
    fn media_is_named_as_uninspected_and_other_parts_are_refused() {
        let request = decode_request(
            Body::OpenAiChat,
            br#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,x"}}]}]}"#,
        )
        .unwrap();
        assert_eq!(request.unreadable(), [Unreadable { is: Opaque::Image, path: "messages[0].content[0]".into(), bytes: 10 }]);
        let error = decode_request(Body::OpenAiChat, br#"{"messages":[{"role":"user","content":[{"type":"file"}]}]}"#).unwrap_err();
        assert_eq!(error.to_string(), "messages[0].content[0].type must be text, image_url or input_audio");
    }

    #[test]
    fn a_completion_survives_with_its_answer() {
        let body = r#"{"model":"m","prompt":"a","suffix":"b","stream":true,"max_tokens":3,"stop":["x"]}"#;
        let request = decode_request(Body::OpenAiCompletion, body.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(request.encode()).unwrap(), body);
        let mut seen = Vec::new();
        request.texts(&mut |text| seen.push(text.text.into_owned()));
        assert_eq!(seen, ["a\nb\nab", "x"]);
        let line = r#"{"id":"c","object":"text_completion","created":1,"model":"m","system_fingerprint":"fp","choices":[{"text":"hi","index":0,"finish_reason":null}]}"#;
        let event = decode_event(Fields::open(Json::read(line.as_bytes()).unwrap()).unwrap(), Shape::OpenAiText).unwrap();
        let mut out = Vec::new();
        crate::wire::encode_event(&event, Shape::OpenAiText, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), line);
        assert_eq!(decode_request(Body::OpenAiCompletion, br#"{"prompt":[1,2]}"#).unwrap_err().to_string(), "prompt must be a string");
    }

    #[test]
    fn a_chunk_survives() {
        let line = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}]}"#;
        let event = decode_event(Fields::open(Json::read(line.as_bytes()).unwrap()).unwrap(), Shape::OpenAiChunk).unwrap();
        let mut out = Vec::new();
        crate::wire::encode_event(&event, Shape::OpenAiChunk, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), line);
    }
}

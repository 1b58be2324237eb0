//! The APIs that a model server speaks: their routes, their requests and answers as typed values, and their errors.
//!
//! Nothing outside of this folder knows a field's name. A request becomes a [`Request`], an answer a row of [`Event`]s; both say in the
//! same words where text stands and who said it, so that a control needs to know no API.

pub mod answer;
pub(crate) mod anthropic;
mod edit;
pub(crate) mod embeddings;
pub mod fields;
pub mod framing;
mod images;
pub mod json;
pub mod logprobs;
mod management;
pub mod names;
pub mod ollama;
pub mod openai;
mod responses;
pub mod routes;
mod tools;
pub(crate) mod transcription;
pub mod whereabouts;
pub mod zstd;

use std::borrow::Cow;
use std::fmt;

pub use answer::{Arguments, Call, Event, Frame, Shape, Speech};
pub use edit::Edit;
pub use fields::DecodeError;
use fields::Fields;
pub(crate) use fields::ObjectWriter;
pub use fields::Rest;
pub use json::Json;
pub use logprobs::Token;
pub use routes::{Body, Class, Lookup, Operation, Route};

use crate::verdict::Refusal;

/// The code of a refusal where no route stands behind the path.
pub const UNKNOWN_ROUTE: &str = "unknown_route";
/// The code of a refusal where the path has no such method.
pub const WRONG_METHOD: &str = "wrong_method";

/// A family of routes that share their error shape and their streams' framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `/api/…`: NDJSON, `{"error":"…"}`.
    Ollama,
    /// `/v1/…`: server-sent events, `{"error":{…}}`.
    OpenAi,
    /// `/v1/messages`: named server-sent events, `{"type":"error","error":{…}}`.
    Anthropic,
}

impl Family {
    /// The family that an unknown path would belong to.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        if path.starts_with("/v1/") { Self::OpenAi } else { Self::Ollama }
    }

    /// A refusal as an error reply: its content type and its body.
    ///
    /// The shapes are those of `api/types.go` (`StatusError`), `openai/openai.go` and `anthropic/anthropic.go` (`ErrorResponse`) in
    /// ollama/ollama. What no route stands behind is answered as the server's router answers it: in plain text.
    #[must_use]
    pub fn error_reply(self, refusal: &Refusal) -> (&'static str, Vec<u8>) {
        match refusal.code {
            UNKNOWN_ROUTE => ("text/plain", b"404 page not found".to_vec()),
            WRONG_METHOD => ("text/plain", b"405 method not allowed".to_vec()),
            _ => ("application/json", self.error_body(refusal)),
        }
    }

    fn error_body(self, refusal: &Refusal) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.error_json(refusal).write(&mut out);
        out
    }

    fn error_json(self, refusal: &Refusal) -> Json {
        let text = |text: &str| Json::String(text.to_owned());
        match self {
            Self::Ollama => Json::Object(vec![("error".into(), text(&refusal.message))]),
            Self::OpenAi => Json::Object(vec![(
                "error".into(),
                Json::Object(vec![
                    ("message".into(), text(&refusal.message)),
                    ("type".into(), text(openai::error_type(refusal.status))),
                    ("param".into(), Json::Null),
                    ("code".into(), text(refusal.code)),
                ]),
            )]),
            Self::Anthropic => Json::Object(vec![
                ("type".into(), text("error")),
                (
                    "error".into(),
                    Json::Object(vec![
                        ("type".into(), text(openai::anthropic_error_type(refusal.status))),
                        ("message".into(), text(&refusal.message)),
                    ]),
                ),
            ]),
        }
    }

    /// A refusal as the last thing that a stream says: a line, or an event that no `[DONE]` follows.
    #[must_use]
    pub fn error_frame(self, refusal: &Refusal) -> Vec<u8> {
        let body = self.error_body(refusal);
        match self {
            Self::Ollama => [&body[..], b"\n"].concat(),
            Self::OpenAi => [b"data: ", &body[..], b"\n\n"].concat(),
            Self::Anthropic => [b"event: error\ndata: ", &body[..], b"\n\n"].concat(),
        }
    }
}

/// Who said a text of a request, which decides what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Instructions of the application.
    System,
    /// What a person typed, and whatever can't be told apart from it.
    User,
    /// What an earlier answer is said to have been.
    Assistant,
    /// Data that a tool brought in.
    ToolResult,
    /// The descriptions and schemas of tools.
    ToolDefinition,
    /// What is stored or looked up by its meaning: a text that a vector is made of.
    Document,
}

impl Channel {
    /// The channel of a message's role. Servers lower the case of roles and take any; a role that nobody knows counts as the user's.
    #[must_use]
    pub fn of_role(role: &str) -> Self {
        match role.to_lowercase().as_str() {
            "system" | "developer" => Self::System,
            "assistant" => Self::Assistant,
            "tool" | "function" => Self::ToolResult,
            _ => Self::User,
        }
    }

    /// Whether the text is data, which has no business giving orders.
    #[must_use]
    pub const fn is_data(self) -> bool {
        matches!(self, Self::ToolResult | Self::Document)
    }
}

/// A message of the request, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageIndex(pub usize);

impl MessageIndex {
    /// No message of its own: what several say that stand apart, which some servers join.
    pub(crate) const JOINED: Self = Self(usize::MAX);
}

/// One text of a request.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    /// Who said it.
    pub channel: Channel,
    /// The message in which it stands, where it stands in one.
    pub message: Option<MessageIndex>,
    /// The further messages in which it stands, where the server would join several.
    pub also: &'a [MessageIndex],
    /// What was said, as one string where the server would join its parts.
    pub text: Cow<'a, str>,
}

/// Roles that servers know. Any other is text of the client's that a template may print.
fn is_known_role(role: &str) -> bool {
    ["system", "developer", "user", "assistant", "tool", "function"].iter().any(|known| role.eq_ignore_ascii_case(known))
}

/// An id that can't hold a sentence.
pub(crate) fn is_plain_id(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// What a message says, or a part of one that the server makes a message of its own.
pub(crate) struct Utterance {
    /// Who says it, as it was written.
    pub(crate) role: String,
    /// What the server puts beside the content of its neighbours.
    pub(crate) content: String,
    /// All else that it says.
    pub(crate) beside: String,
    /// Whether it keeps nobody apart: where it has no content, because the server makes no message of it; where it is data, because
    /// versions differ in what they put it between.
    pub(crate) left_out: bool,
}

/// What neighbours say.
struct Turn {
    channel: Channel,
    role: String,
    message: MessageIndex,
    also: Vec<MessageIndex>,
    contents: Vec<String>,
    beside: String,
}

impl Turn {
    fn say(self, each: &mut dyn FnMut(Text<'_>)) {
        // Data was said piece by piece before, so that each can be cut out.
        if self.channel.is_data() && self.contents.len() < 2 {
            return;
        }
        let text = self.contents.join(GAP) + &self.beside;
        each(Text { channel: self.channel, message: Some(self.message), also: &self.also, text: Cow::Owned(text) });
    }
}

/// What servers put between the messages that they join.
const GAP: &str = "\n\n";

/// Says the messages of a conversation.
///
/// Servers join neighbours of one role, and all that the system says (`collate` in ollama/ollama `template/template.go`), so these are one
/// text here. What tools brought in stays apart, as it does there, and each piece of it can be cut out by itself. What servers
/// make no message of keeps nobody apart.
pub(crate) fn say_messages(messages: impl Iterator<Item = Utterance>, each: &mut dyn FnMut(Text<'_>)) {
    // What "system" says, and what other names of the system say, too, since servers differ in what they join.
    let (mut system, mut instructions) = (Vec::new(), Vec::new());
    let mut turn: Option<Turn> = None;
    for (index, Utterance { role, content, mut beside, left_out }) in messages.enumerate() {
        let message = MessageIndex(index);
        let channel = Channel::of_role(&role);
        if !is_known_role(&role) {
            // A template prints it in front of the content.
            beside = lines(|say| [&role, &content, &beside].into_iter().filter(|text| !text.is_empty()).for_each(|text| say(text)));
        }
        if content.is_empty() {
            if !left_out && let Some(before) = turn.take_if(|turn| turn.channel != channel) {
                before.say(each);
            }
            if !beside.is_empty() {
                each(Text { channel, message: Some(message), also: &[], text: Cow::Owned(beside) });
            }
            continue;
        }
        let role = role.to_lowercase();
        if channel == Channel::System {
            instructions.push(content.clone());
            if role == "system" {
                system.push(content.clone());
            }
        }
        if !beside.is_empty() {
            beside.insert(0, '\n');
        }
        if channel.is_data() {
            each(Text { channel, message: Some(message), also: &[], text: Cow::Owned([content.as_str(), beside.as_str()].concat()) });
            if left_out {
                continue;
            }
            beside.clear();
        }
        match &mut turn {
            Some(turn) if turn.channel == channel && if channel.is_data() { turn.role == role && role != "tool" } else { true } => {
                turn.also.push(message);
                turn.contents.push(content);
                turn.beside.push_str(&beside);
            }
            _ => {
                if let Some(before) = turn.replace(Turn { channel, role, message, also: Vec::new(), contents: vec![content], beside }) {
                    before.say(each);
                }
            }
        }
    }
    if let Some(last) = turn {
        last.say(each);
    }
    let apart = if system.len() < instructions.len() { Some(system) } else { None };
    for joined in [Some(instructions), apart].into_iter().flatten().filter(|joined| joined.len() > 1) {
        each(Text { channel: Channel::System, message: Some(MessageIndex::JOINED), also: &[], text: Cow::Owned(joined.join(GAP)) });
    }
}

/// Collects texts into one, a line each.
pub(crate) fn lines(collect: impl FnOnce(&mut dyn FnMut(&str))) -> String {
    let mut lines = String::new();
    collect(&mut |text| {
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines.push_str(text);
    });
    lines
}

/// A part of a request that can't be judged. The policy says whether it may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What it is.
    pub is: Opaque,
    /// Where it stands: `messages[0].images`.
    pub path: String,
    /// How many bytes there are of it.
    pub bytes: usize,
}

/// What can't be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opaque {
    /// Token ids of an earlier exchange.
    Context,
    /// A prompt's template, which the server fills in: its words can be read, and what becomes of them can't.
    Template,
    /// Pictures.
    Image,
    /// Sounds.
    Audio,
    /// A field that asks for what no policy allows.
    Never,
}

impl Opaque {
    /// What a value in base64, or a data URL of it, is by its first bytes: servers take sounds in the place of pictures. Of an object's
    /// texts the longest is what it brings; but a server may read another, so that a sound is one wherever it stands.
    pub(crate) fn of_media(value: &Json) -> impl Iterator<Item = Self> {
        let (mut longest, mut sounds) = ("", false);
        value.each_text(&mut |text| {
            sounds |= Self::is_audio(text);
            if text.len() > longest.len() {
                longest = text;
            }
        });
        let is_more = !Self::is_audio(longest);
        [is_more.then_some(Self::Image), sounds.then_some(Self::Audio)].into_iter().flatten()
    }

    fn is_audio(text: &str) -> bool {
        let text = text.trim_start();
        if text.get(..11).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:audio/")) {
            return true;
        }
        let data = text.split_once(";base64,").map_or(text, |(_, data)| data);
        // Readers of base64 pass over the ends of lines, and some over other blanks.
        let data: String = data.chars().filter(|c| !c.is_ascii_whitespace()).take(16).collect();
        // Ogg, FLAC, and MPEG with a tag and without.
        let is_audio = ["T2dnU", "ZkxhQ", "SUQz", "//", "/+"].iter().any(|magic| data.starts_with(magic));
        // `RIFF`, four bytes of length, `WAVE`. (A WebP picture begins alike.)
        let is_wave = data.starts_with("UklGR") && data.get(12..16) == Some("QVZF");
        is_audio || is_wave
    }
}

/// Media among values, by what they are: where they stand, and how many bytes there are of each.
pub(crate) fn media<'v>(path: &str, values: impl IntoIterator<Item = &'v Json>) -> Vec<Unreadable> {
    let mut found: Vec<Unreadable> = Vec::new();
    for value in values {
        // What may be either is counted once.
        let mut bytes = tools::bytes_in(std::slice::from_ref(value));
        for is in Opaque::of_media(value) {
            let bytes = std::mem::take(&mut bytes);
            match found.iter_mut().find(|earlier| earlier.is == is) {
                Some(earlier) => earlier.bytes += bytes,
                None => found.push(Unreadable { is, path: path.to_owned(), bytes }),
            }
        }
    }
    found
}

/// A decoded request: what the controls read, and the only thing that is encoded again.
pub trait Request: fmt::Debug + Send + Sync {
    /// The model's name as the client wrote it, if it did.
    fn model(&self) -> Option<&str>;
    /// Every model that it names.
    fn models(&self) -> Vec<&str> {
        self.model().into_iter().collect()
    }
    /// Puts another model's name in its place.
    fn set_model(&mut self, model: &str);
    /// Calls `each` for every text.
    fn texts(&self, each: &mut dyn FnMut(Text<'_>));
    /// Has every string edited that is among the texts and goes on, each by itself and once, but for names, ids and roles.
    fn edit_texts(&mut self, edit: &mut Edit<'_>);
    /// Calls `each` for every text of the system's. The same text may come twice.
    fn system_texts(&self, each: &mut dyn FnMut(Cow<'_, str>)) {
        self.texts(&mut |text| {
            if text.channel == Channel::System {
                each(text.text);
            }
        });
    }
    /// Whether the system says something beside these texts, which is shown to the model among them or before them: a picture, or what was
    /// said before and stands on the server.
    fn system_says_more(&self) -> bool {
        false
    }
    /// Replaces all that those messages say for which `is_meant` says yes; it is asked of each, or of none where there are none.
    fn replace_messages(&mut self, _is_meant: &mut dyn FnMut(MessageIndex) -> bool, _by: &str) {}
    /// The names of the tools that are declared, in order; a request that can't declare any has none.
    fn tools(&self) -> Vec<&str> {
        Vec::new()
    }
    /// Takes out the tools for which `keep` says no; it is asked by their place.
    fn retain_tools(&mut self, _keep: &mut dyn FnMut(usize) -> bool) {}
    /// How many tokens the client wants the model to look back on, where it says so.
    fn window(&self) -> Option<u64> {
        None
    }
    /// Whether the client wants the answer as a stream.
    fn streams(&self) -> bool;
    /// Parts that can't be judged.
    fn unreadable(&self) -> Vec<Unreadable>;
    /// Calls `each` with the undocumented fields of each object, so that those which don't go on can be taken out. What stays is among
    /// the texts.
    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest));
    /// How many fields and parts were left out, because the server passes over them or because their answer can't be judged.
    fn dropped(&self) -> usize;
    /// The bytes to forward, made of nothing but what was read above.
    fn encode(&self) -> Vec<u8>;
}

/// Decodes the body of a route.
pub fn decode_request(body: Body, bytes: &[u8]) -> Result<Box<dyn Request>, DecodeError> {
    Ok(match body {
        Body::None | Body::Raw => Box::new(Named(None)),
        Body::OllamaChat => Box::new(ollama::ChatRequest::decode(Json::read(bytes)?)?),
        Body::OllamaGenerate => Box::new(ollama::GenerateRequest::decode(Json::read(bytes)?)?),
        Body::OllamaShow => managed(bytes, &management::SHOW)?,
        Body::OllamaPull => managed(bytes, &management::PULL)?,
        Body::OllamaPush => managed(bytes, &management::PUSH)?,
        Body::OllamaCreate => managed(bytes, &management::CREATE)?,
        Body::OllamaCopy => managed(bytes, &management::COPY)?,
        Body::OllamaDelete => managed(bytes, &management::DELETE)?,
        Body::OllamaAlias => managed(bytes, &management::ALIAS)?,
        Body::OllamaNoAlias => managed(bytes, &management::NO_ALIAS)?,
        Body::OllamaWebSearch => managed(bytes, &management::WEB_SEARCH)?,
        Body::OllamaWebFetch => managed(bytes, &management::WEB_FETCH)?,
        Body::OpenAiTranscription => Box::new(transcription::TranscriptionRequest::decode(bytes)?),
        Body::OpenAiImages => Box::new(images::ImageRequest::decode(Json::read(bytes)?)?),
        Body::OpenAiChat => Box::new(openai::ChatRequest::decode(Json::read(bytes)?)?),
        Body::OpenAiCompletion => Box::new(openai::CompletionRequest::decode(Json::read(bytes)?)?),
        Body::OpenAiResponses => Box::new(responses::ResponsesRequest::decode(Json::read(bytes)?)?),
        Body::AnthropicMessages => Box::new(anthropic::MessagesRequest::decode(Json::read(bytes)?)?),
        Body::OllamaEmbed => Box::new(embeddings::EmbedRequest::decode(Json::read(bytes)?, &embeddings::OLLAMA)?),
        Body::OllamaEmbeddings => Box::new(embeddings::EmbedRequest::decode(Json::read(bytes)?, &embeddings::OLLAMA_ONE)?),
        Body::OpenAiEmbeddings => Box::new(embeddings::EmbedRequest::decode(Json::read(bytes)?, &embeddings::OPENAI)?),
    })
}

fn managed(bytes: &[u8], names: &'static management::Names) -> Result<Box<dyn Request>, DecodeError> {
    Ok(Box::new(management::ManagementRequest::decode(Json::read(bytes)?, names)?))
}

/// Decodes a frame of an answer.
pub fn decode_frame(shape: Shape, bytes: &[u8]) -> Result<Frame, DecodeError> {
    if shape.is_openai() && bytes.trim_ascii() == b"[DONE]" {
        return Ok(Frame::End);
    }
    let json = Json::read(bytes)?;
    if let Some(error) = json.get("error").filter(|error| **error != Json::Null) {
        return Ok(Frame::Error(error.clone()));
    }
    let fields = Fields::open(json)?;
    Ok(Frame::Event(match shape {
        Shape::OllamaChat | Shape::OllamaGenerate => ollama::decode_event(fields, shape)?,
        Shape::OpenAiChunk | Shape::OpenAiCompletion | Shape::OpenAiText => openai::decode_event(fields, shape)?,
        Shape::AnthropicMessage | Shape::AnthropicEvent => anthropic::decode_event(fields)?,
        // It comes as a tree of items, and is judged as one.
        Shape::Response => Event { dropped: fields.left(), ..Event::default() },
    }))
}

/// Writes an event's JSON.
pub fn encode_event(event: &Event, shape: Shape, out: &mut Vec<u8>) {
    fields::object(out, |out| match shape {
        Shape::OllamaChat | Shape::OllamaGenerate => ollama::encode_event(event, shape, out),
        Shape::OpenAiChunk | Shape::OpenAiCompletion | Shape::OpenAiText => openai::encode_event(event, shape, out),
        Shape::AnthropicMessage | Shape::AnthropicEvent | Shape::Response => anthropic::encode_event(event, out),
    });
}

/// A request of which nothing is known but the model that it names: that of a route that takes no body, or one that has been judged.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) Option<String>);

impl Request for Named {
    fn model(&self) -> Option<&str> {
        self.0.as_deref()
    }
    fn set_model(&mut self, model: &str) {
        self.0 = Some(model.to_owned());
    }
    fn texts(&self, _each: &mut dyn FnMut(Text<'_>)) {}
    fn edit_texts(&mut self, _edit: &mut Edit<'_>) {}
    fn streams(&self) -> bool {
        false
    }
    fn unreadable(&self) -> Vec<Unreadable> {
        Vec::new()
    }
    fn rests(&mut self, _each: &mut dyn FnMut(&mut Rest)) {}
    fn dropped(&self) -> usize {
        0
    }
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
}

//! What a model server answers, in one form for every API: who speaks, in which channel, what is called, and whether that was all.
//!
//! An [`Event`] is one frame of a stream, or a whole unstreamed answer. It keeps the fields that its API documents and nothing
//! else: what it encodes to has been seen by the controls, text by text.

use super::json::Json;
use super::logprobs::Token;

/// The form in which an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `api.ChatResponse`
    OllamaChat,
    /// `api.GenerateResponse`
    OllamaGenerate,
    /// `openai.ChatCompletionChunk`
    OpenAiChunk,
    /// `openai.ChatCompletion`
    OpenAiCompletion,
    /// `openai.CompletionChunk` and `openai.Completion`, which are alike
    OpenAiText,
    /// `openai.ResponsesResponse`, and the events of one
    Response,
    /// `anthropic.MessagesResponse`
    AnthropicMessage,
    /// The events of one: blocks that open and close, and the pieces of the open one.
    AnthropicEvent,
}

impl Shape {
    /// Whether it is one of OpenAI's, whose streams end with `[DONE]`.
    #[must_use]
    pub fn is_openai(self) -> bool {
        matches!(self, Self::OpenAiChunk | Self::OpenAiCompletion | Self::OpenAiText)
    }
}

/// One frame of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Fields before what is said, under their documented names.
    pub head: Vec<(&'static str, Json)>,
    /// What is said. Ollama's frames have exactly one speech, OpenAI's one for each choice.
    pub speeches: Vec<Speech>,
    /// Fields behind it.
    pub tail: Vec<(&'static str, Json)>,
    /// Nothing follows in Ollama's API (`done`).
    pub done: bool,
    /// A picture that was drawn, in base64. Nobody can judge it.
    pub picture: Option<String>,
    /// How many parts were left out, since they can't be judged or nobody knows them.
    pub dropped: usize,
}

impl Event {
    /// Whether the server says that another one made this.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        let names_one =
            |(name, value): &(&str, Json)| ["remote_model", "remote_host"].contains(name) && !matches!(value.as_str(), Some(""));
        self.head.iter().any(|field| names_one(field) && field.1 != Json::Null)
    }
}

/// What one choice says in one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Speech {
    /// The choice's index.
    pub choice: u64,
    /// The role, where the frame names it.
    pub role: Option<String>,
    /// Text by channel, under the channel's name in the API: `content`, `thinking`, `reasoning`, …
    pub texts: Vec<(&'static str, String)>,
    /// The tokens that say these texts, with their log-probabilities, by the same names.
    pub tokens: Vec<(&'static str, Vec<Token>)>,
    /// Tool calls: whole ones, or in a stream of OpenAI's shape fragments of them.
    pub calls: Vec<Call>,
    /// Why the choice ended, where it did.
    pub finish: Option<Json>,
}

/// A tool call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// Its id.
    pub id: Option<String>,
    /// Its place among the calls of the choice.
    pub index: Option<u64>,
    /// The tool's name; empty in a later fragment.
    pub name: String,
    /// What the tool is called with.
    pub arguments: Arguments,
}

/// The arguments of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum Arguments {
    /// As a JSON value (Ollama).
    Value(Json),
    /// As JSON in a string (OpenAI).
    Text(String),
}

impl Default for Arguments {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// One frame, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The answer goes on.
    Event(Event),
    /// The server gave up; its words.
    Error(Json),
    /// `[DONE]`
    End,
}

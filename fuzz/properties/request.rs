//! What is forwarded of a request was read, judged and can be read in one way: it decodes to itself, it has no key twice, each of its
//! strings was said to the controls (or is a name that they ask for, or a word of the API), and what they take out is gone.

use llm_guard_engine::wire::{Body, MessageIndex, Request, decode_request};

use super::tree::Tree;

/// Every kind of body. A new one goes to the end, since the first byte of what is kept is a place in this table.
pub(crate) const BODIES: [Body; 23] = [
    Body::None,
    Body::OllamaChat,
    Body::OllamaGenerate,
    Body::OllamaShow,
    Body::OllamaPull,
    Body::OpenAiChat,
    Body::OpenAiCompletion,
    Body::OpenAiResponses,
    Body::AnthropicMessages,
    Body::OllamaEmbed,
    Body::OllamaEmbeddings,
    Body::OpenAiEmbeddings,
    Body::Raw,
    Body::OllamaPush,
    Body::OllamaCreate,
    Body::OllamaCopy,
    Body::OllamaDelete,
    Body::OllamaAlias,
    Body::OllamaNoAlias,
    Body::OllamaWebSearch,
    Body::OllamaWebFetch,
    Body::OpenAiImages,
    Body::OpenAiTranscription,
];
/// Bodies in which no field is called `model`.
const NAMELESS: [Body; 5] = [Body::OllamaCopy, Body::OllamaAlias, Body::OllamaNoAlias, Body::OllamaWebSearch, Body::OllamaWebFetch];

const CUT: &str = "cut-out";

pub(crate) fn holds(data: &[u8]) {
    let Some(([body], bytes)) = super::header::<1>(data) else { return };
    let body = super::pick(&BODIES, body);
    let request = match decode_request(body, bytes) {
        Ok(request) => request,
        Err(error) => {
            assert!(error.to_string().len() < 4096, "an error is a sentence");
            return;
        }
    };
    let encoded = request.encode();
    if matches!(body, Body::None | Body::Raw) {
        assert!(encoded.is_empty());
        return;
    }
    if body == Body::OpenAiTranscription {
        return form_is_said(&*request, &encoded);
    }
    let again = decode(body, &encoded);
    assert_eq!(text(&again.encode()), text(&encoded), "what is forwarded would be forwarded as something else");
    assert_eq!(again.dropped(), 0, "something is forwarded that would be dropped: {}", text(&encoded));
    assert_eq!((again.model(), again.tools(), again.streams()), (request.model(), request.tools(), request.streams()));
    let [after, before] = [&again, &request].map(|request| without_blanks(texts(&**request)));
    assert_eq!(after, before, "what is forwarded says something else than what was judged");
    all_is_said(&*again, objects(body));

    set_model(body, &encoded);
    retain_tools(body, &encoded);
    take_out_what_nobody_documents(body, &encoded);
    replace_messages(body, &encoded);
    edit_texts(body, &encoded);
}

fn decode(body: Body, bytes: &[u8]) -> Box<dyn Request> {
    decode_request(body, bytes).unwrap_or_else(|error| panic!("what was forwarded is refused: {error}: {}", text(bytes)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A text that the controls get: whether it is data, of which message it is, and what it says.
type Said = (bool, Option<usize>, String);

fn texts(request: &dyn Request) -> Vec<Said> {
    let mut texts = Vec::new();
    request.texts(&mut |text| texts.push((text.channel.is_data(), text.message.map(|message| message.0), text.text.into_owned())));
    texts
}

/// What is absent and what is empty are one to the server, and differ in blank lines here.
fn without_blanks(mut texts: Vec<Said>) -> Vec<Said> {
    for (_, _, text) in &mut texts {
        *text = text.split('\n').filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    }
    texts.retain(|(_, _, text)| !text.is_empty());
    texts
}

fn read(request: &dyn Request) -> Tree {
    let encoded = request.encode();
    let tree = Tree::read(&encoded).unwrap_or_else(|| panic!("it is no JSON: {}", text(&encoded)));
    assert!(!tree.has_twins(), "a key stands twice: {}", text(&encoded));
    tree
}

/// Whatever can be edited was said, it stays as it is where nobody wants it otherwise, and what is put there stays.
fn edit_texts(body: Body, encoded: &[u8]) {
    let mut request = decode(body, encoded);
    let said = texts(&*request).into_iter().map(|(_, _, text)| text).collect::<Vec<_>>().join("\n");
    request.edit_texts(&mut |_, text| {
        assert!(said.contains(text), "nobody was told of {text}");
        None
    });
    assert_eq!(text(&request.encode()), text(encoded), "an edit changed what nobody wanted changed");
    let mut edit = |_: &str, text: &str| text.contains('e').then(|| text.replace('e', "3"));
    request.edit_texts(&mut edit);
    let once = request.encode();
    let mut again = decode(body, &once);
    again.edit_texts(&mut |_, text| {
        assert!(!text.contains('e'), "what was edited says {text}");
        None
    });
    assert_eq!(text(&again.encode()), text(&once));
}

// === whatever is forwarded was said ===

/// Words of the APIs that say nothing.
const KINDS: [&str; 18] = [
    "text",
    "image",
    "image_url",
    "input_audio",
    "function",
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "input_text",
    "output_text",
    "refusal",
    "input_image",
    "tool_use",
    "server_tool_use",
    "tool_result",
    "web_search_tool_result",
    "thinking",
];
/// Fields that name a model.
const MODELS: [&str; 6] = ["model", "from", "source", "destination", "alias", "target"];
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

struct Judged {
    texts: Vec<String>,
    names: Vec<String>,
    /// Where what can't be judged stands.
    passed_over: Vec<String>,
}

/// The fields of a body that hold objects which the API documents. (What stands in a field that it doesn't is anybody's.)
fn objects(body: Body) -> &'static [&'static str] {
    match body {
        Body::OllamaChat | Body::OpenAiChat | Body::AnthropicMessages => &["messages", "tools"],
        Body::OllamaCreate => &["messages"],
        Body::OpenAiResponses => &["input", "tools"],
        _ => &[],
    }
}

fn all_is_said(request: &dyn Request, objects: &[&str]) {
    let tree = read(request);
    let judged = Judged {
        texts: texts(request).into_iter().map(|(_, _, text)| text).collect(),
        names: request.tools().into_iter().chain(request.models()).map(str::to_owned).collect(),
        passed_over: request.unreadable().into_iter().map(|part| part.path).collect(),
    };
    judged.all_of(&tree, "", "");
    for object in objects.iter().filter_map(|name| tree.get(name)).flat_map(Tree::list).chain([&tree]) {
        assert!(!object.has_folded_twins(), "two keys mean the same field: {object:?}");
    }
}

impl Judged {
    fn says(&self, text: &str) -> bool {
        text.is_empty() || self.texts.iter().any(|said| said.contains(text))
    }

    fn all_of(&self, tree: &Tree, path: &str, key: &str) {
        if self.passed_over.iter().any(|part| part == path) {
            return;
        }
        match tree {
            Tree::Other => {}
            Tree::Text(said) => {
                let is_word = key == "type" && KINDS.contains(&said.as_str())
                    || key == "role" && ROLES.iter().any(|role| role.eq_ignore_ascii_case(said))
                    || (key == "name" || MODELS.contains(&path) || key == "type") && self.names.contains(said);
                // JSON in a string says what it says as JSON, unless it was judged as the string that it is to a server that doesn't know it.
                let inner = if key == "arguments" && !self.says(said) { Tree::read(said.as_bytes()) } else { None };
                match inner {
                    Some(inner) => self.all_of(&inner, path, ""),
                    None => assert!(is_word || self.says(said), "{path} is forwarded and nobody judged it: {said:?}"),
                }
            }
            Tree::List(items) => items.iter().enumerate().for_each(|(place, item)| self.all_of(item, &format!("{path}[{place}]"), key)),
            Tree::Members(members) => {
                for (key, value) in members {
                    assert!(NAMES.contains(&key.as_str()) || self.says(key), "{path} has a key that nobody judged: {key:?}");
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.all_of(value, &path, key);
                }
            }
        }
    }
}

/// The names of the APIs' fields, as far as the guard forwards them; what stands within a field that may hold anything isn't among them.
const NAMES: &[&str] = &[
    "_debug_render_only",
    "adapters",
    "alias",
    "allowed_domains",
    "annotations",
    "arguments",
    "background",
    "best_of",
    "blocked_domains",
    "cache_control",
    "call_id",
    "citations",
    "container",
    "content",
    "context",
    "context_management",
    "conversation",
    "description",
    "destination",
    "detail",
    "dimensions",
    "echo",
    "encoding_format",
    "encrypted_content",
    "file_id",
    "files",
    "filters",
    "format",
    "frequency_penalty",
    "from",
    "function",
    "height",
    "id",
    "image",
    "image_url",
    "images",
    "include",
    "index",
    "info",
    "input",
    "input_audio",
    "input_fidelity",
    "input_schema",
    "instructions",
    "is_error",
    "items",
    "keep_alive",
    "license",
    "logit_bias",
    "logprobs",
    "mask",
    "max_completion_tokens",
    "max_output_tokens",
    "max_results",
    "max_tokens",
    "max_tool_calls",
    "max_uses",
    "messages",
    "metadata",
    "model",
    "moderation",
    "n",
    "name",
    "options",
    "output",
    "output_compression",
    "output_format",
    "parallel_tool_calls",
    "parameters",
    "parser",
    "phase",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "quality",
    "quantization",
    "quantize",
    "query",
    "raw",
    "reasoning",
    "reasoning_effort",
    "refusal",
    "renderer",
    "requires",
    "response_format",
    "role",
    "safety_identifier",
    "search_context_size",
    "seed",
    "service_tier",
    "shift",
    "signature",
    "size",
    "source",
    "status",
    "steps",
    "stop",
    "stop_sequences",
    "store",
    "stream",
    "stream_options",
    "strict",
    "style",
    "suffix",
    "summary",
    "system",
    "target",
    "temperature",
    "template",
    "text",
    "think",
    "thinking",
    "tool_call_id",
    "tool_calls",
    "tool_choice",
    "tool_name",
    "tool_use_id",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "truncate",
    "truncation",
    "type",
    "url",
    "user",
    "user_location",
    "verbose",
    "verbosity",
    "width",
];

// === forms ===

/// The same of a form, read here by its boundary alone.
fn form_is_said(request: &dyn Request, encoded: &[u8]) {
    let again = decode(Body::OpenAiTranscription, encoded);
    assert_eq!(text(&again.encode()), text(encoded), "what is forwarded would be forwarded as something else");
    assert_eq!((again.model(), again.streams()), (request.model(), false));
    let said: Vec<String> = texts(&*again).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(said, texts(request).into_iter().map(|(_, _, text)| text).collect::<Vec<_>>());

    let end = encoded.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let delimiter = [b"\r\n", &encoded[..end]].concat();
    let (mut rest, mut names, mut sounds) = (&encoded[end..], Vec::new(), 0);
    while let Some(part) = rest.strip_prefix(b"\r\n").filter(|part| !part.is_empty()) {
        let head = part.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let after = part.windows(delimiter.len()).position(|piece| piece == delimiter).unwrap();
        let (said_by_head, data) = (text(&part[..head]), &part[head + 4..after]);
        let name = said_by_head.split('"').nth(1).unwrap().to_lowercase();
        assert!(name.ends_with("[]") || !names.contains(&name), "{name} stands twice");
        if said_by_head.contains("filename=") {
            sounds += data.len();
        } else {
            let words = text(data);
            let is_model = name == "model" && request.model().unwrap_or_default() == words;
            assert!(words.is_empty() || is_model || said.iter().any(|said| said.contains(&words)), "nobody judged {name}: {words:?}");
        }
        names.push(name);
        rest = &part[after + delimiter.len()..];
    }
    assert_eq!(text(rest), "--\r\n");
    assert_eq!(again.unreadable().iter().map(|part| part.bytes).sum::<usize>(), sounds);
}

// === what the controls change ===

fn set_model(body: Body, encoded: &[u8]) {
    if NAMELESS.contains(&body) {
        return;
    }
    let mut request = decode(body, encoded);
    request.set_model("another");
    assert_eq!(request.model(), Some("another"));
    assert_eq!(read(&*request).get("model").and_then(Tree::text), Some("another"));
    all_is_said(&*request, objects(body));
}

fn retain_tools(body: Body, encoded: &[u8]) {
    let mut request = decode(body, encoded);
    let count = request.tools().len();
    let mut asked = Vec::new();
    // A field that this API doesn't document declares and chooses nothing, whatever it is called.
    request.rests(&mut |rest| rest.retain(&mut |_| false));
    request.retain_tools(&mut |place| {
        asked.push(place);
        false
    });
    assert_eq!(asked, (0..count).collect::<Vec<_>>(), "each tool is asked for, in order");
    assert!(request.tools().is_empty());
    let tree = read(&*request);
    assert!(tree.get("tools").is_none_or(|tools| tools.list().is_empty()), "{tree:?}");
    assert!(count == 0 || tree.get("tool_choice").is_none(), "{tree:?}");

    // Every other one.
    let mut request = decode(body, encoded);
    let named = |request: &dyn Request| request.tools().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let expected: Vec<_> = named(&*request).into_iter().step_by(2).collect();
    request.retain_tools(&mut |place| place % 2 == 0);
    let kept = named(&*request);
    // With a namespace its tools go.
    let mut left = expected.iter();
    assert!(kept.iter().all(|name| left.any(|other| other == name)), "{kept:?} is left, and {expected:?} was to be");
    assert!(kept == expected || body == Body::OpenAiResponses, "{kept:?} {expected:?}");
    assert_eq!(decode(body, &request.encode()).encode(), request.encode());
    all_is_said(&*request, objects(body));
}

fn take_out_what_nobody_documents(body: Body, encoded: &[u8]) {
    let mut request = decode(body, encoded);
    request.rests(&mut |rest| rest.retain(&mut |_| false));
    let mut again = decode(body, &request.encode());
    again.rests(&mut |rest| rest.retain(&mut |name| panic!("{name:?} was taken out and goes on")));
    assert_eq!(text(&again.encode()), text(&request.encode()));
    all_is_said(&*request, objects(body));
}

/// An id that can't hold a sentence may stay.
fn is_plain(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

fn replace_messages(body: Body, encoded: &[u8]) {
    let before = texts(&*decode(body, encoded));
    // Data is said message by message first; where neighbours are joined, that is said besides.
    let alone = |texts: &[Said], place: usize| texts.iter().find(|(is_data, of, _)| *is_data && *of == Some(place)).cloned();
    let mut places: Vec<usize> = before.iter().filter_map(|(_, message, _)| *message).collect();
    places.dedup();
    for place in places.iter().copied().take(8).chain([usize::MAX]) {
        let mut request = decode(body, encoded);
        request.replace_messages(&mut |message| message == MessageIndex(place), CUT);
        let after = texts(&*request);
        for other in places.iter().copied().filter(|other| *other != place) {
            assert_eq!(alone(&after, other), alone(&before, other), "the message at {other} was changed with the one at {place}");
        }
        // What only this message said.
        let said = before.iter().filter(|(is_data, of, _)| *is_data && *of == Some(place)).flat_map(|(_, _, text)| text.split('\n'));
        let elsewhere = |line: &str| before.iter().any(|(_, of, text)| *of != Some(place) && text.contains(line));
        for line in said.filter(|line| !is_plain(line.trim()) && !elsewhere(line)) {
            assert!(!after.iter().any(|(_, _, text)| text.contains(line)), "of the message at {place} this is left: {line:?}");
        }
        assert_eq!(text(&decode(body, &request.encode()).encode()), text(&request.encode()));
        all_is_said(&*request, objects(body));
    }
}

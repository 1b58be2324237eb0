//! How the bodies of each family look: every field that the API documents, and a few that it doesn't.
//!
//! Source: ollama/ollama `api/types.go`, `openai/openai.go`, `openai/responses.go` and `anthropic/anthropic.go`; OpenAI's and Anthropic's
//! API references.

use super::random::Random;

/// A value as it is spelt, which needn't be JSON that anyone takes.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Raw(Vec<u8>),
    Array(Vec<Node>),
    /// Keys are spelt with their quotes.
    Object(Vec<(Vec<u8>, Node)>),
}

impl Node {
    pub(super) fn raw(text: impl Into<Vec<u8>>) -> Self {
        Self::Raw(text.into())
    }

    /// A string, spelt plainly.
    pub(super) fn text(text: &str) -> Self {
        Self::Raw(serde_json::Value::from(text).to_string().into_bytes())
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// How a value looks.
#[derive(Debug)]
pub(super) enum Shape {
    /// Words that stand nowhere else in the body.
    Text,
    /// One of these words, or now and then any.
    Word(&'static [&'static str]),
    Bool,
    Whole,
    /// A whole number above nothing.
    Positive,
    Number,
    /// Anything.
    Any,
    /// Fields, and in how many of a hundred cases each is there.
    Object(&'static [(&'static str, usize, Shape)]),
    /// Any keys.
    Map(&'static Shape),
    Array(&'static Shape),
    Either(&'static [Shape]),
    /// A string that holds JSON.
    Inside(&'static Shape),
    /// Bytes in base64.
    Base64,
    /// A picture as a URL.
    Picture,
    /// Another shape, told elsewhere.
    See(&'static Shape),
}

use Shape::{Any, Array, Base64, Bool, Either, Inside, Map, Number, Object, Picture, Positive, See, Text, Whole, Word};

const MODEL: Shape = Either(&[Word(&["llama3.2", "llama3.2:1b", "qwen3:8b", "x:cloud"]), Text]);
const ROLE: Shape = Word(&["system", "user", "assistant", "tool", "user", "Assistant", "developer", "function", "SYSTEM"]);
const TYPE: Shape = Either(&[Word(&["string", "object", "array", "number", "integer", "null"]), Array(&Text)]);
const KEEP_ALIVE: Shape = Either(&[Word(&["5m", "1h30m", "-1s"]), Whole, Number]);
const STOP: Shape = Either(&[Text, Array(&Text)]);

static OPTIONS: Shape = Object(&[
    ("temperature", 40, Number),
    ("num_ctx", 30, Whole),
    ("seed", 20, Whole),
    ("stop", 40, Array(&Text)),
    ("top_p", 20, Number),
    ("unheard_of", 10, Any),
]);

static PROPERTY: Shape = Object(&[
    ("type", 80, TYPE),
    ("description", 60, Text),
    ("enum", 25, Array(&Either(&[Text, Whole, Bool]))),
    ("items", 20, Any),
    ("anyOf", 10, Array(&See(&PROPERTY))),
    ("properties", 15, Map(&See(&PROPERTY))),
    ("default", 10, Any),
]);

static SCHEMA: Shape = Object(&[
    ("type", 90, Word(&["object"])),
    ("properties", 80, Map(&See(&PROPERTY))),
    ("required", 50, Array(&Text)),
    ("$defs", 15, Any),
    ("items", 10, Any),
    ("additionalProperties", 15, Bool),
]);

static TOOL: Shape = Object(&[
    ("type", 90, Word(&["function"])),
    ("function", 98, Object(&[("name", 95, Text), ("description", 70, Text), ("parameters", 80, See(&SCHEMA)), ("strict", 15, Bool)])),
    ("items", 8, Any),
]);

static ARGUMENTS: Shape = Map(&Either(&[Text, Whole, Number, Bool, Any]));
static FORMAT: Shape = Either(&[Word(&["json", ""]), See(&SCHEMA)]);
static THINK: Shape = Either(&[Bool, Word(&["high", "medium", "low"])]);

/// `POST /api/chat`
pub(super) static CHAT: Shape = Object(&[
    ("model", 95, MODEL),
    (
        "messages",
        95,
        Array(&Object(&[
            ("role", 95, ROLE),
            ("content", 90, Text),
            ("thinking", 20, Text),
            ("images", 10, Array(&Base64)),
            (
                "tool_calls",
                25,
                Array(&Object(&[
                    ("id", 40, Text),
                    ("type", 20, Word(&["function"])),
                    ("function", 95, Object(&[("index", 30, Whole), ("name", 95, Text), ("arguments", 90, See(&ARGUMENTS))])),
                ])),
            ),
            ("tool_name", 20, Text),
            ("tool_call_id", 20, Text),
        ])),
    ),
    ("tools", 40, Array(&See(&TOOL))),
    ("stream", 40, Bool),
    ("format", 25, See(&FORMAT)),
    ("options", 30, See(&OPTIONS)),
    ("keep_alive", 20, KEEP_ALIVE),
    ("think", 20, See(&THINK)),
    ("truncate", 10, Bool),
    ("shift", 10, Bool),
    ("_debug_render_only", 5, Bool),
    ("logprobs", 10, Bool),
    ("top_logprobs", 10, Whole),
]);

/// `POST /api/generate`
pub(super) static GENERATE: Shape = Object(&[
    ("model", 95, MODEL),
    ("prompt", 90, Text),
    ("suffix", 30, Text),
    ("system", 40, Text),
    ("template", 20, Text),
    ("context", 20, Array(&Whole)),
    ("stream", 40, Bool),
    ("raw", 20, Bool),
    ("format", 25, See(&FORMAT)),
    ("keep_alive", 20, KEEP_ALIVE),
    ("images", 15, Array(&Base64)),
    ("options", 30, See(&OPTIONS)),
    ("think", 20, See(&THINK)),
    ("truncate", 10, Bool),
    ("shift", 10, Bool),
    ("_debug_render_only", 5, Bool),
    ("logprobs", 10, Bool),
    ("top_logprobs", 10, Whole),
    ("width", 5, Whole),
    ("height", 5, Whole),
    ("steps", 5, Whole),
]);

/// `POST /api/show`
pub(super) static SHOW: Shape = Object(&[
    ("model", 70, MODEL),
    ("name", 50, MODEL),
    ("verbose", 40, Bool),
    ("system", 15, Text),
    ("template", 15, Text),
    ("options", 15, See(&OPTIONS)),
]);

/// `POST /api/pull`
pub(super) static PULL: Shape = Object(&[
    ("model", 70, MODEL),
    ("name", 50, MODEL),
    ("stream", 50, Bool),
    ("insecure", 20, Bool),
    ("username", 10, Text),
    ("password", 10, Text),
]);

/// `POST /api/create`
pub(super) static CREATE: Shape = Object(&[
    ("model", 80, MODEL),
    ("name", 15, MODEL),
    ("from", 60, MODEL),
    ("stream", 30, Bool),
    ("quantize", 20, Text),
    ("quantization", 10, Text),
    ("remote_host", 8, Text),
    ("files", 25, Map(&Text)),
    ("adapters", 15, Map(&Text)),
    ("template", 30, Text),
    ("license", 30, STOP),
    ("system", 40, Text),
    ("parameters", 40, See(&OPTIONS)),
    ("messages", 30, Array(&Object(&[("role", 90, ROLE), ("content", 90, Text)]))),
    ("renderer", 10, Text),
    ("parser", 10, Text),
    ("requires", 10, Text),
    ("info", 15, Map(&Any)),
]);

/// `POST /api/copy`
pub(super) static COPY: Shape = Object(&[("source", 95, MODEL), ("destination", 95, MODEL)]);

/// `DELETE /api/delete`
pub(super) static DELETE: Shape = Object(&[("model", 80, MODEL), ("name", 40, MODEL)]);

/// `POST /v1/images/generations` and `POST /v1/images/edits`
pub(super) static OPENAI_IMAGES: Shape = Object(&[
    ("model", 97, MODEL),
    ("prompt", 97, Text),
    ("image", 70, Picture),
    ("n", 20, Whole),
    ("size", 50, Word(&["64x64", "1024x768"])),
    ("response_format", 20, Word(&["b64_json"])),
    ("seed", 30, Whole),
    ("mask", 10, Picture),
    ("user", 10, Text),
]);

/// `POST /api/embed`
pub(super) static EMBED: Shape = Object(&[
    ("model", 95, MODEL),
    ("input", 95, STOP),
    ("truncate", 25, Bool),
    ("dimensions", 25, Whole),
    ("keep_alive", 25, KEEP_ALIVE),
    ("options", 40, See(&OPTIONS)),
]);

/// `POST /api/embeddings`
pub(super) static EMBEDDINGS: Shape =
    Object(&[("model", 95, MODEL), ("prompt", 95, Text), ("keep_alive", 30, KEEP_ALIVE), ("options", 50, See(&OPTIONS))]);

/// `POST /v1/chat/completions`
pub(super) static OPENAI_CHAT: Shape = Object(&[
    ("model", 95, MODEL),
    (
        "messages",
        98,
        Array(&Object(&[
            ("role", 95, ROLE),
            (
                "content",
                97,
                Either(&[
                    Text,
                    Array(&Either(&[
                        Object(&[("type", 99, Word(&["text"])), ("text", 98, Text)]),
                        Object(&[("type", 99, Word(&["text"])), ("text", 98, Text), ("cache_control", 10, Any)]),
                        Object(&[
                            ("type", 99, Word(&["image_url"])),
                            ("image_url", 98, Either(&[Picture, Object(&[("url", 98, Picture), ("detail", 30, Word(&["auto", "low"]))])])),
                        ]),
                        Object(&[
                            ("type", 99, Word(&["input_audio"])),
                            ("input_audio", 98, Object(&[("data", 90, Base64), ("format", 90, Text)])),
                        ]),
                    ])),
                ]),
            ),
            ("reasoning", 15, Text),
            ("name", 20, Text),
            (
                "tool_calls",
                25,
                Array(&Object(&[
                    ("id", 80, Text),
                    ("index", 30, Whole),
                    ("type", 80, Word(&["function"])),
                    ("function", 95, Object(&[("name", 95, Text), ("arguments", 98, Inside(&See(&ARGUMENTS)))])),
                ])),
            ),
            ("tool_call_id", 20, Text),
            ("refusal", 5, Text),
        ])),
    ),
    ("stream", 40, Bool),
    ("stream_options", 20, Object(&[("include_usage", 90, Bool), ("include_obfuscation", 10, Bool)])),
    ("max_tokens", 20, Whole),
    ("max_completion_tokens", 10, Whole),
    ("seed", 15, Whole),
    ("stop", 25, STOP),
    ("temperature", 25, Number),
    ("frequency_penalty", 15, Number),
    ("presence_penalty", 15, Number),
    ("top_p", 20, Number),
    (
        "response_format",
        25,
        Object(&[
            ("type", 95, Word(&["json_schema", "json_object", "text", " JSON_schema"])),
            ("json_schema", 70, Object(&[("name", 60, Text), ("strict", 30, Bool), ("schema", 90, See(&SCHEMA))])),
        ]),
    ),
    ("tools", 35, Array(&See(&TOOL))),
    (
        "tool_choice",
        15,
        Either(&[Word(&["auto", "none"]), Object(&[("type", 90, Word(&["function"])), ("function", 90, Object(&[("name", 90, Text)]))])]),
    ),
    ("reasoning", 15, Object(&[("effort", 90, Word(&["high", "medium", "low", "none"])), ("summary", 20, Text)])),
    ("reasoning_effort", 15, Word(&["high", "medium", "low", "none"])),
    ("logprobs", 10, Bool),
    ("top_logprobs", 10, Whole),
    ("logit_bias", 5, Map(&Number)),
    ("metadata", 10, Map(&Text)),
    ("user", 10, Text),
    ("n", 5, Whole),
    ("store", 5, Bool),
    ("_debug_render_only", 5, Bool),
]);

/// `POST /v1/completions`
pub(super) static OPENAI_COMPLETION: Shape = Object(&[
    ("model", 95, MODEL),
    ("prompt", 95, Text),
    ("suffix", 40, Text),
    ("stream", 40, Bool),
    ("stream_options", 20, Object(&[("include_usage", 90, Bool)])),
    ("max_tokens", 20, Whole),
    ("seed", 15, Whole),
    ("stop", 35, STOP),
    ("temperature", 25, Number),
    ("frequency_penalty", 15, Number),
    ("presence_penalty", 15, Number),
    ("top_p", 20, Number),
    ("logprobs", 10, Whole),
    ("echo", 10, Bool),
    ("best_of", 5, Whole),
    ("user", 10, Text),
    ("_debug_render_only", 5, Bool),
]);

static RESPONSE_CONTENT: Shape = Either(&[
    Text,
    Array(&Either(&[
        Object(&[("type", 99, Word(&["input_text"])), ("text", 98, Text)]),
        Object(&[
            ("type", 99, Word(&["output_text"])),
            ("text", 98, Text),
            ("annotations", 30, Array(&Any)),
            ("logprobs", 10, Array(&Any)),
        ]),
        Object(&[
            ("type", 99, Word(&["input_image"])),
            ("image_url", 90, Picture),
            ("detail", 60, Word(&["auto", "high"])),
            ("file_id", 10, Text),
        ]),
        Object(&[("type", 99, Word(&["refusal"])), ("refusal", 98, Text)]),
    ])),
]);

static RESPONSE_FUNCTION: Shape = Object(&[
    ("type", 95, Word(&["function"])),
    ("name", 95, Text),
    ("description", 80, Text),
    ("strict", 40, Bool),
    ("parameters", 80, See(&SCHEMA)),
]);

/// `POST /v1/responses`
pub(super) static OPENAI_RESPONSES: Shape = Object(&[
    ("model", 95, MODEL),
    ("instructions", 40, Text),
    (
        "input",
        95,
        Either(&[
            Text,
            Array(&Either(&[
                Object(&[("role", 98, ROLE), ("content", 95, See(&RESPONSE_CONTENT))]),
                Object(&[
                    ("type", 99, Word(&["message"])),
                    ("role", 95, ROLE),
                    ("content", 95, See(&RESPONSE_CONTENT)),
                    ("id", 30, Text),
                    ("status", 30, Word(&["completed"])),
                    ("phase", 5, Text),
                ]),
                Object(&[
                    ("type", 99, Word(&["function_call"])),
                    ("id", 30, Text),
                    ("call_id", 90, Text),
                    ("name", 90, Text),
                    ("arguments", 98, Inside(&See(&ARGUMENTS))),
                ]),
                Object(&[("type", 99, Word(&["function_call_output"])), ("call_id", 90, Text), ("output", 95, Text), ("id", 20, Text)]),
                Object(&[("type", 99, Word(&["function_call_output"])), ("call_id", 90, Text), ("output", 95, See(&RESPONSE_CONTENT))]),
                Object(&[
                    ("type", 99, Word(&["reasoning"])),
                    ("id", 60, Text),
                    ("summary", 70, Array(&Object(&[("type", 95, Word(&["summary_text"])), ("text", 95, Text)]))),
                    ("content", 10, Array(&Object(&[("type", 95, Word(&["reasoning_text"])), ("text", 95, Text)]))),
                    ("encrypted_content", 70, Text),
                ]),
                Object(&[("type", 99, Word(&["message"])), ("role", 95, ROLE), ("content", 95, Text)]),
                Object(&[("type", 99, Word(&["web_search_call"])), ("id", 50, Text)]),
            ])),
        ]),
    ),
    (
        "tools",
        35,
        Array(&Either(&[
            See(&RESPONSE_FUNCTION),
            See(&RESPONSE_FUNCTION),
            See(&RESPONSE_FUNCTION),
            Object(&[("type", 99, Word(&["web_search", "web_search_preview"])), ("search_context_size", 30, Text), ("filters", 20, Any)]),
            Object(&[
                ("type", 99, Word(&["namespace"])),
                ("name", 95, Text),
                ("description", 60, Text),
                ("tools", 95, Array(&See(&RESPONSE_FUNCTION))),
            ]),
        ])),
    ),
    ("tool_choice", 15, Either(&[Word(&["auto"]), Object(&[("type", 90, Word(&["function"])), ("name", 90, Text)])])),
    ("stream", 40, Bool),
    ("reasoning", 20, Object(&[("effort", 90, Word(&["high", "low"])), ("summary", 40, Text), ("generate_summary", 20, Text)])),
    (
        "text",
        25,
        Object(&[
            (
                "format",
                95,
                Object(&[
                    ("type", 95, Word(&["json_schema", "text"])),
                    ("name", 70, Text),
                    ("schema", 80, See(&SCHEMA)),
                    ("strict", 40, Bool),
                ]),
            ),
            ("verbosity", 20, Text),
        ]),
    ),
    ("max_output_tokens", 20, Whole),
    ("temperature", 25, Number),
    ("top_p", 20, Number),
    ("truncation", 15, Word(&["disabled", "auto"])),
    ("background", 10, Bool),
    ("conversation", 10, Either(&[Text, Object(&[("id", 95, Text)])])),
    ("include", 15, Array(&Text)),
    ("metadata", 10, Map(&Text)),
    ("previous_response_id", 10, Text),
    ("prompt_cache_key", 5, Text),
    ("store", 10, Bool),
    ("top_logprobs", 5, Whole),
    ("user", 10, Text),
]);

/// `POST /v1/embeddings`
pub(super) static OPENAI_EMBEDDINGS: Shape = Object(&[
    ("model", 95, MODEL),
    ("input", 95, STOP),
    ("dimensions", 30, Whole),
    ("encoding_format", 40, Word(&["float", "base64", "FLOAT"])),
    ("user", 20, Text),
]);

static BLOCK: Shape = Either(&[
    Object(&[
        ("type", 99, Word(&["text"])),
        ("text", 98, Text),
        ("cache_control", 15, Object(&[("type", 95, Word(&["ephemeral"]))])),
        ("citations", 5, Any),
    ]),
    Object(&[("type", 99, Word(&["text"])), ("text", 98, Text)]),
    Object(&[
        ("type", 99, Word(&["image"])),
        ("source", 98, Object(&[("type", 95, Word(&["base64"])), ("media_type", 80, Word(&["image/png"])), ("data", 95, Base64)])),
    ]),
    Object(&[("type", 99, Word(&["thinking"])), ("thinking", 98, Text), ("signature", 60, Text)]),
    Object(&[("type", 99, Word(&["tool_use", "server_tool_use"])), ("id", 98, Text), ("name", 98, Text), ("input", 90, See(&ARGUMENTS))]),
    Object(&[
        ("type", 99, Word(&["tool_result"])),
        ("tool_use_id", 90, Text),
        (
            "content",
            90,
            Either(&[
                Text,
                Array(&Either(&[
                    Object(&[("type", 95, Word(&["text"])), ("text", 95, Text)]),
                    Object(&[("type", 95, Word(&["text"])), ("text", 95, Text)]),
                    Object(&[
                        ("type", 95, Word(&["image"])),
                        ("source", 95, Object(&[("type", 95, Word(&["base64"])), ("data", 95, Base64)])),
                    ]),
                    Object(&[("type", 95, Word(&["search_result"])), ("text", 50, Text), ("title", 50, Text)]),
                    Any,
                ])),
                Any,
            ]),
        ),
        ("is_error", 20, Bool),
    ]),
    Object(&[
        ("type", 99, Word(&["web_search_tool_result"])),
        ("tool_use_id", 90, Text),
        (
            "content",
            90,
            Either(&[
                Array(&Either(&[
                    Object(&[
                        ("type", 95, Word(&["web_search_result"])),
                        ("title", 90, Text),
                        ("url", 90, Text),
                        ("encrypted_content", 20, Text),
                        ("page_age", 20, Text),
                    ]),
                    Object(&[("type", 95, Word(&["web_search_tool_result_error"])), ("error_code", 90, Text)]),
                ])),
                Object(&[("type", 95, Word(&["web_search_tool_result_error"])), ("error_code", 90, Text)]),
                Text,
                Any,
            ]),
        ),
    ]),
    Object(&[("type", 99, Word(&["redacted_thinking"])), ("data", 90, Text)]),
]);

/// `POST /v1/messages`
pub(super) static ANTHROPIC_MESSAGES: Shape = Object(&[
    ("model", 98, MODEL),
    ("max_tokens", 98, Positive),
    ("messages", 98, Array(&Object(&[("role", 95, ROLE), ("content", 98, Either(&[Text, Array(&See(&BLOCK))]))]))),
    ("system", 40, Either(&[Text, Array(&Object(&[("type", 98, Word(&["text"])), ("text", 98, Text), ("cache_control", 10, Any)]))])),
    ("stream", 40, Bool),
    ("temperature", 25, Number),
    ("top_p", 15, Number),
    ("top_k", 15, Whole),
    ("stop_sequences", 20, Array(&Text)),
    (
        "tools",
        35,
        Array(&Object(&[
            ("type", 30, Word(&["custom", "web_search_20250305"])),
            ("name", 95, Either(&[Text, Text, Word(&["web_search"])])),
            ("description", 80, Text),
            ("input_schema", 85, See(&SCHEMA)),
            ("max_uses", 10, Whole),
            ("cache_control", 10, Any),
        ])),
    ),
    (
        "tool_choice",
        15,
        Object(&[("type", 95, Word(&["auto", "any", "tool"])), ("name", 40, Text), ("disable_parallel_tool_use", 20, Bool)]),
    ),
    ("thinking", 15, Object(&[("type", 95, Word(&["enabled", "disabled"])), ("budget_tokens", 80, Whole)])),
    ("metadata", 15, Object(&[("user_id", 90, Text)])),
    ("service_tier", 5, Word(&["auto"])),
]);

/// Deeper than this nothing grows.
const DEEP: usize = 12;

/// A value of a shape.
pub(super) fn grow(shape: &Shape, random: &mut Random) -> Node {
    grow_at(shape, random, 0)
}

fn grow_at(shape: &Shape, random: &mut Random, depth: usize) -> Node {
    if depth > DEEP {
        return Node::text("deep");
    }
    match shape {
        Text => text(random),
        Word(words) => {
            let word = if random.percent(97) { (random.pick(words)).to_owned() } else { said(random) };
            spell(&word, random)
        }
        Bool => Node::raw(random.pick(&["true", "false"])),
        Whole => Node::raw(random.pick(&["0", "1", "7", "42", "-1", "4096", "2147483647"]).to_owned()),
        Positive => Node::raw(random.pick(&["1", "100", "4096"])),
        Number => Node::raw(random.pick(&["0", "1", "0.5", "-0.25", "1e-2", "0.7", "2", "1.0"]).to_owned()),
        Any => anything(random, depth),
        Object(fields) => {
            let mut members: Vec<(Vec<u8>, Node)> = Vec::new();
            for (name, chance, shape) in *fields {
                if random.percent(*chance) {
                    members.push((format!("\"{name}\"").into_bytes(), grow_at(shape, random, depth + 1)));
                }
            }
            if members.len() > 1 && random.percent(50) {
                let (one, other) = (random.below(members.len()), random.below(members.len()));
                members.swap(one, other);
            }
            Node::Object(members)
        }
        Map(shape) => {
            let count = random.below(4);
            Node::Object((0..count).map(|_| (key(random), grow_at(shape, random, depth + 1))).collect())
        }
        Array(shape) => {
            let count = if depth > 3 { random.below(3) } else { random.below(4) };
            Node::Array((0..count).map(|_| grow_at(shape, random, depth + 1)).collect())
        }
        Either(shapes) => grow_at(&shapes[random.below(shapes.len())], random, depth),
        Inside(shape) => {
            let mut inner = grow_at(shape, random, depth + 1);
            if random.percent(15) {
                inner = super::mutate::mutate(inner, random);
            }
            spell(&String::from_utf8_lossy(&inner.bytes()), random)
        }
        Base64 => Node::text(random.pick(&["", "AAAA", "aGVsbG8=", "QUJD", "QUJD\n"])),
        Picture => {
            let data = random.pick(&["AAAA", "aGVsbG8=", "QUJD"]);
            let front = random.pick(&["data:image/png;base64,", "data:image/jpeg;base64,", "data:;base64,", "data:image/webp;base64,"]);
            Node::text(&format!("{front}{data}"))
        }
        See(shape) => grow_at(shape, random, depth),
    }
}

fn anything(random: &mut Random, depth: usize) -> Node {
    match random.below(if depth > 6 { 6 } else { 9 }) {
        0 => Node::raw("null"),
        1 => Node::raw("true"),
        2 => Node::raw("-12"),
        3 => Node::raw("1.5e3"),
        4 | 5 => text(random),
        6 => Node::Array((0..random.below(3)).map(|_| anything(random, depth + 1)).collect()),
        _ => Node::Object((0..random.below(3)).map(|_| (key(random), anything(random, depth + 1))).collect()),
    }
}

/// A key that no one knows, or one that stands somewhere in the API.
pub(super) fn key(random: &mut Random) -> Vec<u8> {
    const KNOWN: &[&str] = &[
        "type",
        "text",
        "content",
        "role",
        "name",
        "model",
        "input",
        "prompt",
        "system",
        "messages",
        "tools",
        "stream",
        "description",
        "properties",
        "items",
        "function",
        "arguments",
        "id",
        "title",
        "url",
        "enum",
        "$defs",
        "required",
        "",
    ];
    let word = if random.percent(30) { (random.pick(KNOWN)).to_owned() } else { word(random) };
    match spell(&word, random) {
        Node::Raw(bytes) => bytes,
        _ => Vec::new(),
    }
}

fn word(random: &mut Random) -> String {
    let length = 4 + random.below(5);
    (0..length).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap_or(0))).collect()
}

/// Words that stand nowhere else.
pub(super) fn said(random: &mut Random) -> String {
    const ODD: &[&str] = &[
        "é",
        "\u{1f600}",
        "\n",
        "\t",
        "\"",
        "\\",
        "/",
        "<b>",
        "&",
        "\u{2028}",
        "\u{7f}",
        "\u{fffd}",
        "ſ",
        "\u{212a}",
        "{{",
        " ",
        "\r\n",
        "\u{0}",
        "\u{feff}",
    ];
    let count = if random.percent(6) { 0 } else { 1 + random.below(3) };
    let mut out = String::new();
    for index in 0..count {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(&word(random));
        if random.percent(15) {
            out.push_str(random.pick(ODD));
        }
    }
    out
}

pub(super) fn text(random: &mut Random) -> Node {
    let said = said(random);
    spell(&said, random)
}

/// A string, now and then with escapes that it needn't have.
fn spell(text: &str, random: &mut Random) -> Node {
    if random.percent(92) {
        return Node::text(text);
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '/' if random.percent(50) => out.push_str("\\/"),
            '"' | '\\' | '\0'..='\u{1f}' => escape(c, random, &mut out),
            c if random.percent(20) => escape(c, random, &mut out),
            c => out.push(c),
        }
    }
    out.push('"');
    Node::Raw(out.into_bytes())
}

fn escape(c: char, random: &mut Random, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let digits = format!("{unit:04x}");
        out.push_str("\\u");
        out.push_str(&if random.percent(50) { digits } else { digits.to_uppercase() });
    }
}

//! The routes that the guard knows. What isn't in the table is refused as the server itself would: 404.
//!
//! Source: ollama/ollama `server/routes.go`, versions 0.17.4 and 0.33.0.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::Family;

/// What a route does to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The model answers.
    Inference,
    /// A model turns text into vectors.
    Embedding,
    /// Nothing changes and no model runs.
    ReadOnly,
    /// Models come, go or change.
    Management,
    /// Files of models come in.
    Blob,
    /// The server calls its maker's, on the account that it is signed in to.
    Account,
}

impl Class {
    /// The name, as the documentation has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Embedding => "embedding",
            Self::ReadOnly => "read-only",
            Self::Management => "management",
            Self::Blob => "blob",
            Self::Account => "account",
        }
    }
}

/// What a route that is refused by default does, as a policy that allows it names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// A model is fetched.
    Pull,
    /// A model is sent to a registry.
    Push,
    /// A model is made of another, or of files that are brought.
    Create,
    /// A model gets another name.
    Copy,
    /// A model is deleted.
    Delete,
    /// Names are made to stand for models.
    Aliases,
    /// The account at the server's maker: who it is, and signing out.
    Account,
    /// The server's maker searches the web, or fetches a page of it.
    Web,
}

impl Operation {
    /// The name in the policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Create => "create",
            Self::Copy => "copy",
            Self::Delete => "delete",
            Self::Aliases => "aliases",
            Self::Account => "account",
            Self::Web => "web",
        }
    }
}

/// What stands in the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Nothing.
    None,
    /// Bytes of a file, as they come.
    Raw,
    /// `api.ChatRequest`
    OllamaChat,
    /// `api.GenerateRequest`
    OllamaGenerate,
    /// `api.ShowRequest`
    OllamaShow,
    /// `api.PullRequest`
    OllamaPull,
    /// `api.PushRequest`
    OllamaPush,
    /// `api.CreateRequest`
    OllamaCreate,
    /// `api.CopyRequest`
    OllamaCopy,
    /// `api.DeleteRequest`
    OllamaDelete,
    /// `server.aliasEntry`
    OllamaAlias,
    /// `server.aliasDeleteRequest`
    OllamaNoAlias,
    /// `api.WebSearchRequest`
    OllamaWebSearch,
    /// `api.WebFetchRequest`
    OllamaWebFetch,
    /// `openai.ChatCompletionRequest`
    OpenAiChat,
    /// `openai.CompletionRequest`
    OpenAiCompletion,
    /// `openai.ResponsesRequest`
    OpenAiResponses,
    /// `openai.ImageGenerationRequest` and `openai.ImageEditRequest`
    OpenAiImages,
    /// `openai.TranscriptionRequest`, as a form
    OpenAiTranscription,
    /// `anthropic.MessagesRequest`
    AnthropicMessages,
    /// `api.EmbedRequest`
    OllamaEmbed,
    /// `api.EmbeddingRequest`
    OllamaEmbeddings,
    /// `openai.EmbedRequest`
    OpenAiEmbeddings,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path as the metrics name it; `:x` stands for one segment.
    pub pattern: &'static str,
    /// The methods that it answers.
    pub methods: &'static [&'static str],
    /// The API to which it belongs.
    pub family: Family,
    /// What it does.
    pub class: Class,
    /// Its body.
    pub body: Body,
    /// What a policy has to allow before the route answers; nothing where it answers by default.
    pub operation: Option<Operation>,
}

const fn route(pattern: &'static str, methods: &'static [&'static str], family: Family, class: Class, body: Body) -> Route {
    Route { pattern, methods, family, class, body, operation: None }
}

impl Route {
    /// Whether a model is named in the body.
    #[must_use]
    pub fn names_a_model(&self) -> bool {
        !matches!(self.body, Body::None | Body::Raw | Body::OllamaWebSearch | Body::OllamaWebFetch)
    }

    const fn only_with(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }
}

const READ: &[&str] = &["GET", "HEAD"];
const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
const DELETE: &[&str] = &["DELETE"];

/// Every route.
pub const ROUTES: &[Route] = {
    use Class::{Account, Blob, Embedding, Inference, Management, ReadOnly};
    use Family::{Anthropic, Ollama, OpenAi};
    &[
        route("/api/chat", POST, Ollama, Inference, Body::OllamaChat),
        route("/api/generate", POST, Ollama, Inference, Body::OllamaGenerate),
        route("/api/embed", POST, Ollama, Embedding, Body::OllamaEmbed),
        route("/api/embeddings", POST, Ollama, Embedding, Body::OllamaEmbeddings),
        route("/", READ, Ollama, ReadOnly, Body::None),
        route("/api/version", READ, Ollama, ReadOnly, Body::None),
        route("/api/tags", READ, Ollama, ReadOnly, Body::None),
        route("/api/ps", GET, Ollama, ReadOnly, Body::None),
        route("/api/status", GET, Ollama, ReadOnly, Body::None),
        route("/api/show", POST, Ollama, ReadOnly, Body::OllamaShow),
        route("/api/experimental/model-recommendations", GET, Ollama, ReadOnly, Body::None),
        route("/api/pull", POST, Ollama, Management, Body::OllamaPull).only_with(Operation::Pull),
        route("/api/push", POST, Ollama, Management, Body::OllamaPush).only_with(Operation::Push),
        route("/api/create", POST, Ollama, Management, Body::OllamaCreate).only_with(Operation::Create),
        route("/api/copy", POST, Ollama, Management, Body::OllamaCopy).only_with(Operation::Copy),
        route("/api/delete", DELETE, Ollama, Management, Body::OllamaDelete).only_with(Operation::Delete),
        route("/api/experimental/aliases", GET, Ollama, Management, Body::None).only_with(Operation::Aliases),
        route("/api/experimental/aliases", POST, Ollama, Management, Body::OllamaAlias).only_with(Operation::Aliases),
        route("/api/experimental/aliases", DELETE, Ollama, Management, Body::OllamaNoAlias).only_with(Operation::Aliases),
        route("/api/blobs/:digest", &["POST"], Ollama, Blob, Body::Raw).only_with(Operation::Create),
        route("/api/blobs/:digest", &["HEAD"], Ollama, Blob, Body::None).only_with(Operation::Create),
        route("/api/me", POST, Ollama, Account, Body::None).only_with(Operation::Account),
        route("/api/signout", POST, Ollama, Account, Body::None).only_with(Operation::Account),
        route("/api/user/keys/:key", DELETE, Ollama, Account, Body::None).only_with(Operation::Account),
        route("/api/experimental/web_search", POST, Ollama, Account, Body::OllamaWebSearch).only_with(Operation::Web),
        route("/api/experimental/web_fetch", POST, Ollama, Account, Body::OllamaWebFetch).only_with(Operation::Web),
        route("/v1/chat/completions", POST, OpenAi, Inference, Body::OpenAiChat),
        route("/v1/completions", POST, OpenAi, Inference, Body::OpenAiCompletion),
        route("/v1/responses", POST, OpenAi, Inference, Body::OpenAiResponses),
        route("/v1/embeddings", POST, OpenAi, Embedding, Body::OpenAiEmbeddings),
        route("/v1/images/generations", POST, OpenAi, Inference, Body::OpenAiImages),
        route("/v1/images/edits", POST, OpenAi, Inference, Body::OpenAiImages),
        route("/v1/audio/transcriptions", POST, OpenAi, Inference, Body::OpenAiTranscription),
        route("/v1/models", GET, OpenAi, ReadOnly, Body::None),
        route("/v1/models/:model", GET, OpenAi, ReadOnly, Body::None),
        route("/v1/messages", POST, Anthropic, Inference, Body::AnthropicMessages),
    ]
};

/// What stands behind a method and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A route, and what stood in its open segment, decoded.
    Found(&'static Route, Option<String>),
    /// A path that exists, with another method.
    WrongMethod,
    /// Nothing.
    Unknown,
}

/// Finds the route of a request. `path` is the target's path as it came, without the query.
///
/// The server matches paths decoded, redirects `//` and dot segments, and knows no escaped slash; here each of these is unknown.
#[must_use]
pub fn find(method: &str, path: &str) -> Lookup {
    let Some(path) = plain_path(path) else {
        return Lookup::Unknown;
    };
    let mut wrong_method = false;
    for route in ROUTES {
        if let Some(open) = fits(route.pattern, &path) {
            if route.methods.contains(&method) {
                return Lookup::Found(route, open.map(str::to_owned));
            }
            wrong_method = true;
        }
    }
    if wrong_method { Lookup::WrongMethod } else { Lookup::Unknown }
}

/// The methods of a path, in the order in which the server names them (`Allow`). None: there is no such path.
#[must_use]
pub fn methods(path: &str) -> Vec<&'static str> {
    let path = plain_path(path);
    let fitting = ROUTES.iter().filter(|route| path.as_ref().is_some_and(|path| fits(route.pattern, path).is_some()));
    let methods: Vec<&str> = fitting.flat_map(|route| route.methods).copied().collect();
    ["HEAD", "GET", "POST", "DELETE"].into_iter().filter(|method| methods.contains(method)).collect()
}

/// The path with its escapes resolved, or nothing where two readers could take it for two paths.
fn plain_path(path: &str) -> Option<Cow<'_, str>> {
    if path == "/" {
        return Some(Cow::Borrowed(path));
    }
    let lower = path.to_ascii_lowercase();
    if lower.contains("%2f") || lower.contains("%5c") || lower.contains("%25") {
        return None;
    }
    if !path.split('%').skip(1).all(|escape| escape.len() >= 2 && escape.bytes().take(2).all(|digit| digit.is_ascii_hexdigit())) {
        return None;
    }
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let segments_are_plain = decoded.strip_prefix('/')?.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    let characters_are_plain = decoded.chars().all(|c| !c.is_control() && c != '\\');
    (segments_are_plain && characters_are_plain).then_some(decoded)
}

/// Whether the path fits the pattern; then what stands in the open segment. Only the pattern's last segment may be open.
#[expect(clippy::option_option, reason = "whether it fits, and whether the pattern is open, are two questions")]
fn fits<'p>(pattern: &str, path: &'p str) -> Option<Option<&'p str>> {
    match pattern.split_once(':') {
        None => (pattern == path).then_some(None),
        Some((before, _)) => {
            let open = path.strip_prefix(before)?;
            (!open.is_empty() && !open.contains('/')).then_some(Some(open))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(method: &str, path: &str) -> Option<&'static str> {
        match find(method, path) {
            Lookup::Found(route, _) => Some(route.pattern),
            _ => None,
        }
    }

    #[test]
    fn a_path_is_matched_as_the_server_matches_it() {
        assert_eq!(pattern("POST", "/api/chat"), Some("/api/chat"));
        assert_eq!(pattern("POST", "/api/%63hat"), Some("/api/chat"));
        let Lookup::Found(route, segment) = find("GET", "/v1/models/a%20b") else { panic!() };
        assert_eq!((route.pattern, segment.as_deref()), ("/v1/models/:model", Some("a b")));
    }

    #[test]
    fn a_path_that_two_readers_could_take_for_two_is_unknown() {
        for path in [
            "//api/chat",
            "/api//chat",
            "/api/./chat",
            "/x/../api/chat",
            "/api%2fchat",
            "/api/chat/",
            "/API/chat",
            "/api/chat%00",
            "/api\\chat",
            "api/chat",
            "",
            "/api/%2e%2e/api/chat",
            "/api/%2563hat",
            "/v1/models/a/b",
            "/v1/models/%zz",
            "/v1/models/a%2",
        ] {
            assert_eq!(find("POST", path), Lookup::Unknown, "{path}");
        }
    }

    #[test]
    fn the_methods_of_a_path_are_those_of_all_its_routes() {
        assert_eq!(methods("/api/tags"), ["HEAD", "GET"]);
        assert_eq!(methods("/api/%63hat"), ["POST"]);
        assert_eq!(methods("/api/blobs/x"), ["HEAD", "POST"]);
        assert_eq!(methods("/api/experimental/aliases"), ["GET", "POST", "DELETE"]);
        assert!(methods("/nowhere").is_empty() && methods("//api/chat").is_empty());
        let known: std::collections::BTreeSet<_> = ROUTES.iter().flat_map(|route| route.methods).collect();
        assert_eq!(known.len(), 4, "a method that has no place in the order");
    }

    #[test]
    fn a_known_path_with_another_method_says_so() {
        assert_eq!(find("GET", "/api/chat"), Lookup::WrongMethod);
        assert_eq!(find("get", "/api/tags"), Lookup::WrongMethod);
    }
}

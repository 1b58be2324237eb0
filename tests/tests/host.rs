//! A guard that stands in for a model server on the loopback, held against a real Ollama on all addresses: whatever `Host` and
//! `Origin` a client sends, it is told the same. Both servers live in a network namespace, so that nobody else can reach them.
//!
//! The invariant: in monitor every answer is the same to the last byte, but for what no two answers share.

use std::error::Error;
use std::io;
use std::time::Duration;

use llm_guard_tests::netns::Namespace;
use llm_guard_tests::process::{self, Process};
use llm_guard_tests::raw::Head;
use llm_guard_tests::{cache, records};
use serde_json::{Value, json};
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn Error>>;

const LIMIT: Duration = Duration::from_secs(30);
/// Where clients ask: the server that is its own, and the guard before one on the loopback.
const DIRECT: (&str, u16) = ("127.0.0.1", 11434);
const GUARDED: (&str, u16) = ("127.0.0.1", 15434);

const HOSTS: [Option<&str>; 9] = [
    None,
    Some(""),
    Some("localhost:11434"),
    Some("ollama"),
    Some("ollama.llm.svc.cluster.local:11434"),
    Some("evil.test"),
    Some("10.1.2.3:11434"),
    Some("[::1]:11434"),
    Some("a/b"),
];
const ORIGINS: [Option<&str>; 20] = [
    None,
    Some(""),
    Some("null"),
    Some("http://localhost"),
    Some("HTTP://LOCALHOST"),
    Some("http://localhost:3000"),
    Some("http://localhost.evil.test"),
    Some("https://127.0.0.1:8443"),
    Some("http://0.0.0.0"),
    Some("http://evil.test"),
    Some("https://ollama"),
    Some("http://[::1]:11434"),
    Some("http://10.1.2.3:11434"),
    Some("app://-"),
    Some("file://"),
    Some("tauri://localhost"),
    Some("vscode-webview://1"),
    Some("chrome-extension://abc"),
    Some("https://chat.example.com"),
    Some("http://exact.test"),
];
const REQUESTS: [&str; 16] = [
    "GET /",
    "HEAD /",
    "GET /api/tags",
    "GET /api/version",
    "OPTIONS /api/chat",
    "OPTIONS /nowhere",
    "OPTIONS /api/tags",
    "DELETE /api/blobs/x",
    "GET /nowhere",
    "GET /api/chat",
    "POST /api/chat",
    "POST /v1/chat/completions",
    "GET //api/tags",
    "GET /api/../api/tags",
    "GET /api/tags/",
    "POST /api/chat/",
];

/// The two ways to a model server.
struct Ways {
    // The order counts: what runs in the namespace ends before it goes.
    _running: Vec<Process>,
    asker: std::path::PathBuf,
    namespace: Namespace,
    _home: TempDir,
}

impl Ways {
    /// `origins`: as `OLLAMA_ORIGINS` names them.
    fn open(mode: &str, origins: &str) -> io::Result<Self> {
        let namespace = Namespace::new()?;
        let home = tempfile::tempdir()?;
        let ollama = cache::part("ollama/ollama")?.display().to_string();
        let mut running = Vec::new();
        for (host, variable) in [("0.0.0.0:11434", Some(origins)), ("127.0.0.1:11435", None)] {
            let mut command = namespace.command(&ollama);
            command.arg("serve").env("HOME", home.path()).env("OLLAMA_HOST", host).env("OLLAMA_NO_CLOUD", "1");
            command.env("OLLAMA_MODELS", home.path().join("models")).env("HTTPS_PROXY", "http://127.0.0.1:9");
            command.envs(variable.filter(|origins| !origins.is_empty()).map(|origins| ("OLLAMA_ORIGINS", origins)));
            let mut server = Process::start(&mut command, &home.path().join(format!("{host}.log")))?;
            server.wait_to_say("Ollama listens", LIMIT, |said| said.contains("Listening on ").then_some(()))?;
            running.push(server);
        }
        let mut command = namespace.command(&cache::sidecar()?.display().to_string());
        command.args(["run", "--upstream", "http://127.0.0.1:11435", "--host-rewrite", "--mode", mode]);
        for origin in origins.split(',').filter(|origin| !origin.is_empty()) {
            command.args(["--origin", origin]);
        }
        let mut guard = Process::start(&mut command, &records::path("host", "log")?)?;
        guard.wait_to_say("the guard listens", LIMIT, |said| said.contains("\"listening\"").then_some(()))?;
        running.push(guard);
        Ok(Self { _running: running, asker: cache::tests().join("tests/host/asker.py"), namespace, _home: home })
    }

    /// What each of these says to each request.
    fn ask(&self, requests: &[String]) -> io::Result<Vec<[String; 2]>> {
        let lines: String = requests
            .iter()
            .flat_map(|request| [DIRECT, GUARDED].map(|(address, port)| json!([[address, port], request]).to_string() + "\n"))
            .collect();
        let mut command = self.namespace.command("python3");
        command.arg(&self.asker);
        let said = process::run(&mut command, &lines, LIMIT * 4)?;
        let answers = said.lines().map(serde_json::from_str::<String>).collect::<Result<Vec<_>, _>>()?;
        if answers.len() != 2 * requests.len() {
            return Err(io::Error::other(format!("{} answers to {} requests", answers.len(), requests.len())));
        }
        Ok(answers.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect())
    }
}

fn requests() -> Vec<String> {
    let body = r#"{"model":"nobody","messages":[]}"#;
    let mut all = Vec::new();
    for request in REQUESTS {
        for host in HOSTS {
            for origin in ORIGINS {
                let host = host.map(|host| format!("Host: {host}\r\n")).unwrap_or_default();
                let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
                let preflight = if request.starts_with("OPTIONS") { "Access-Control-Request-Method: POST\r\n" } else { "" };
                let body = if request.starts_with("POST") { body } else { "" };
                let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
                all.push(format!("{request} HTTP/1.1\r\n{host}{origin}{preflight}{length}Connection: close\r\n\r\n{body}"));
            }
        }
    }
    all
}

/// An answer without what no two answers share, and without what is told of the connection.
fn comparable(request: &str, answer: &str, only_cors: bool) -> Value {
    let Some((head, start)) = Head::read(answer.as_bytes()) else { return json!(answer) };
    let mut fields: Vec<String> = head
        .fields
        .iter()
        .filter(|(name, _)| !["date", "x-request-id", "connection", "content-length"].contains(&name.as_str()))
        .filter(|(name, _)| !only_cors || name.starts_with("access-control-") || name == "vary")
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect();
    fields.sort();
    // (Go's server sends one also where HTTP has none.)
    let body = if only_cors || request.starts_with("HEAD") { "" } else { &answer[start..] };
    let status = if only_cors { None } else { head.status() };
    json!([status, fields, body])
}

fn compare(mode: &str, origins: &str, only_cors: bool) -> Outcome {
    let ways = Ways::open(mode, origins)?;
    let requests = requests();
    let answers = ways.ask(&requests)?;
    let mut wrong = Vec::new();
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    for (request, [direct, guarded]) in requests.iter().zip(&answers) {
        let [expected, found] = [direct, guarded].map(|answer| comparable(request, answer, only_cors));
        *seen.entry(Head::read(direct.as_bytes()).and_then(|(head, _)| head.status()).unwrap_or_default()).or_default() += 1;
        if expected != found {
            wrong.push(format!("{request}\n  Ollama: {expected}\n  guard:  {found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), requests.len(), wrong[..wrong.len().min(12)].join("\n"));
    // The table has a case of everything that Ollama can say to these two fields.
    for status in [200, 204, 301, 307, 400, 403, 404, 405] {
        assert!(origins == "*" && status == 403 || seen.contains_key(&status), "{status} isn't among {seen:?}");
    }
    Ok(())
}

#[test]
fn in_monitor_a_guard_before_a_loopback_ollama_says_what_ollama_says_on_all_addresses() -> Outcome {
    for origins in ["", "https://*.example.com,http://exact.test", "*"] {
        compare("monitor", origins, false)?;
    }
    Ok(())
}

#[test]
fn in_hard_a_browser_may_read_what_the_guard_says_where_it_might_read_what_ollama_says() -> Outcome {
    compare("hard", "http://exact.test", true)
}

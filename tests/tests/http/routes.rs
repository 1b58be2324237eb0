//! Every route by every method: through a guard in hard whose policy opens them all, a real Ollama answers as it does without one.

use llm_guard_engine::wire::routes::ROUTES;
use llm_guard_tests::guard::Guard;
use llm_guard_tests::ollama::Ollama;
use llm_guard_tests::raw::{self, Answer};

use crate::Outcome;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const POLICY: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: open}\nspec:\n  mode: hard\n  \
    models: {cloud: allow}\n  management: {allow: [pull, push, create, copy, delete, aliases, account, web], from: anyone}\n  \
    protocol: {context: allow, template: allow, images: allow, audio: allow, modelPrompts: allow}\n";
/// Paths that no version has, and some that only look like one that there is.
const NOWHERE: [&str; 8] = ["/nowhere", "/api", "/v1", "/api/chats", "/API/CHAT", "/v1/chat", "/v1/models/a/b", "/api/blobs"];
/// Routes of later versions than the one that is asked here, which says 404 of them.
const LATER: [&str; 4] =
    ["/api/experimental/model-recommendations", "/api/experimental/web_search", "/api/experimental/web_fetch", "/v1/audio/transcriptions"];

/// A request without a body, or with one that says nothing. (By the name `localhost` Ollama answers OPTIONS whatever the path.)
fn request(method: &str, path: &str) -> Vec<u8> {
    let body = if matches!(method, "GET" | "HEAD" | "OPTIONS") { "" } else { "{}" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (head + body).into_bytes()
}

/// What an answer is: its status, what type it has, and of an error its words.
fn said(answer: &Answer) -> String {
    let kind = answer.head.text("content-type").unwrap_or_default();
    // The guard leaves out what this type doesn't need.
    let kind = kind.strip_suffix("; charset=utf-8").unwrap_or(&kind);
    let text = if answer.status() >= 400 { answer.text() } else { String::new() };
    // An id is drawn for each.
    let text = text.split_once(",\"request_id\":").map_or(&*text, |(before, _)| before);
    format!("{} {kind} {}", answer.status(), text.trim_end())
}

#[test]
fn every_route_answers_every_method_as_without_the_guard() -> Outcome {
    let ollama = Ollama::start()?;
    let guard = Guard::before(ollama.url(), "http-routes").policy(POLICY).start()?;
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let mut paths: Vec<String> =
        ROUTES.iter().map(|route| route.pattern.replace(":digest", &digest).replace(":model", "calm").replace(":key", "a2V5")).collect();
    paths.dedup();
    paths.extend(NOWHERE.map(str::to_owned));
    let (mut asked, mut wrong) = (0, Vec::new());
    for path in &paths {
        for method in METHODS {
            let request = request(method, path);
            let [direct, guarded] = [ollama.address(), guard.address()].map(|address| raw::ask(address, &request));
            let (direct, guarded) = (said(&direct?), said(&guarded?));
            asked += 1;
            // Of a path that it knows the guard says 405 where a server without it says 404.
            let is_later = LATER.contains(&path.as_str()) && guarded.starts_with("40");
            if direct != guarded && !is_later {
                wrong.push(format!("{method} {path}: {direct:?} without, {guarded:?} with"));
            }
        }
    }
    assert!(asked >= 7 * 40, "{asked} were asked");
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

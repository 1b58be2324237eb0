//! What goes wrong around the guard, made to go wrong: servers that are dead, slow, cut off or lying, clients that go away or
//! crawl, many at once, a policy that breaks, an end under load. The guard is the real one, the server is scripted by the byte.
//!
//! The invariant: after each fault the same guard serves the next request, nothing stays open, every line that it logged is JSON,
//! and every wait of these tests has an end.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use llm_guard_tests::apis::{Api, pieces, shows};
use llm_guard_tests::cache;
use llm_guard_tests::faulty::{Act, FaultyServer, Gate, Received, answer, chunked, chunked_head, wait_until, well};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::planted::Planted;
use llm_guard_tests::process;
use llm_guard_tests::raw::{self, Answer, Connection, chunk};
use llm_guard_tests::records;
use serde_json::Value;

type Outcome = Result<(), Box<dyn Error>>;

/// What a server that is well says.
const WELL: &str = "All is well here.";
/// No fault may keep a client waiting for longer, where no other limit is set.
const PROMPT: Duration = Duration::from_secs(10);
/// The modes in which nothing unjudged may pass.
const ENFORCED: [&str; 2] = ["soft", "hard"];

fn is_well(request: &Received) -> Vec<Act> {
    well(request, WELL)
}

fn guard_before(server: &FaultyServer, mode: &str, arguments: &[&str]) -> io::Result<Guard> {
    let plan = Guard::before(server.url(), "faults").mode(mode);
    arguments.iter().fold(plan, |plan, argument| plan.argument(*argument)).start()
}

/// Asks and keeps what the guard said in an error.
fn ask(guard: &Guard, request: &[u8]) -> io::Result<Answer> {
    let answer = raw::ask(guard.address(), request)?;
    if answer.status() >= 400 {
        records::error_reply("faults", &format!("{:?}\n{}", answer.head, answer.text()))?;
    }
    Ok(answer)
}

fn ask_api(guard: &Guard, api: Api, stream: bool) -> io::Result<Answer> {
    ask(guard, &raw::post(api.path(), &api.request("Say something.", stream)))
}

fn every_way() -> impl Iterator<Item = (Api, bool)> + Clone {
    Api::ALL.into_iter().flat_map(|api| [(api, true), (api, false)])
}

/// The guard serves on, nothing of what was is left open, and its log can be read.
fn lives_on(guard: &mut Guard, server: &FaultyServer) -> Outcome {
    server.behave(is_well);
    for (api, stream) in every_way() {
        let answer = ask_api(guard, api, stream)?;
        assert_eq!((answer.status(), answer.complete, api.said(&answer.body)), (200, true, WELL.into()), "{api:?} {stream}: {answer:?}");
        assert!(api.ends(&answer.body, stream), "{api:?} {stream}: {}", answer.text());
    }
    nothing_is_open(guard)?;
    for line in guard.process().said()?.lines() {
        let line: Value = serde_json::from_str(line).map_err(|error| format!("a log line that isn't JSON: {error}: {line}"))?;
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    Ok(())
}

fn nothing_is_open(guard: &Guard) -> io::Result<()> {
    for gauge in ["llm_guard_streams_open", "llm_guard_connections_open"] {
        wait_until(&format!("{gauge} is 0"), PROMPT, || Ok(guard.metric(gauge, &[])? < 0.5))?;
    }
    Ok(())
}

/// How often something was counted.
fn count(guard: &Guard, name: &str, labels: &[(&str, &str)]) -> io::Result<String> {
    // (The sum of no samples is -0.)
    Ok((guard.metric(name, labels)? + 0.0).to_string())
}

fn exchanges(guard: &Guard, result: &str) -> io::Result<String> {
    count(guard, "llm_guard_exchanges_total", &[("result", result)])
}

/// The client was told of a failure as its API tells it, and took nothing for a normal end.
fn is_told(api: Api, stream: bool, answer: &Answer) {
    assert!(answer.complete, "{api:?} {stream}: the answer is broken off: {answer:?}");
    assert!(api.error(&answer.body).is_some(), "{api:?} {stream}: no error in the API's shape: {}", answer.text());
    assert!(!api.ends(&answer.body, stream), "{api:?} {stream}: a normal end: {}", answer.text());
}

fn secret() -> io::Result<String> {
    Planted::read()?.secrets.remove("OPENAI_KEY").ok_or_else(|| io::Error::other("planted.json has no OPENAI_KEY"))
}

/// An address at which nobody listens. No test listens on all addresses, so that it stays so.
fn dead_address(number: u8) -> io::Result<SocketAddr> {
    std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, 77, 0, number), 0))?.local_addr()
}

// === a server that is dead ===

#[test]
fn a_dead_model_server_is_a_502_in_each_api_s_words_after_the_configured_tries() -> Outcome {
    for (number, mode, retries) in [(1, "monitor", 0), (2, "soft", 1), (3, "hard", 3)] {
        let mut guard = Guard::before(format!("http://{}", dead_address(number)?), "faults")
            .mode(mode)
            .argument("--retries")
            .argument(retries.to_string())
            .argument("--log-level")
            .argument("debug")
            .start()?;
        for (api, stream) in every_way() {
            let answer = ask_api(&guard, api, stream)?;
            assert_eq!(answer.status(), 502, "{mode}: {answer:?}");
            is_told(api, stream, &answer);
            assert_eq!(answer.head.get("content-type"), Some(&b"application/json"[..]));
        }
        let tries = guard.log()?.iter().filter(|line| line["reason"] == "unreachable").count();
        assert_eq!(tries, 6 * (retries + 1), "{mode}: tries of six requests");
        assert_eq!(count(&guard, "llm_guard_upstream_errors_total", &[("reason", "unreachable")])?, "6");
        assert_eq!(exchanges(&guard, "upstream_failed")?, "6");
        let said = guard.process().said()?;
        assert!(said.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{said}");
    }
    Ok(())
}

#[test]
fn a_model_server_that_comes_up_between_two_tries_answers_the_request() -> Outcome {
    let address = dead_address(4)?;
    let guard = Guard::before(format!("http://{address}"), "faults")
        .mode("hard")
        .argument("--retries")
        .argument("8")
        .argument("--log-level")
        .argument("debug")
        .start()?;
    let mut client = Connection::open(guard.address())?;
    client.send(&raw::post("/api/chat", &Api::Chat.request("Say something.", false)))?;
    wait_until("a first try has failed", PROMPT, || Ok(guard.log()?.iter().any(|line| line["reason"] == "unreachable")))?;
    let _server = FaultyServer::start_at(address, is_well)?;
    let answer = client.finish()?;
    assert_eq!((answer.status(), Api::Chat.said(&answer.body)), (200, WELL.into()));
    Ok(())
}

#[test]
fn a_model_server_that_dies_and_comes_back_is_used_again() -> Outcome {
    let address = dead_address(5)?;
    let server = FaultyServer::start_at(address, is_well)?;
    let mut guard = guard_before(&server, "hard", &["--retries", "0"])?;
    for _ in 0..3 {
        assert_eq!(ask_api(&guard, Api::Chat, true)?.status(), 200);
        let ready = guard_get(&guard, "/readyz")?;
        assert!(ready.text().contains("model: reachable"), "{ready:?}");
    }
    drop(server);
    for (api, stream) in every_way() {
        let answer = ask_api(&guard, api, stream)?;
        assert_eq!(answer.status(), 502);
        is_told(api, stream, &answer);
    }
    let ready = guard_get(&guard, "/readyz")?;
    assert!(ready.status() == 200 && ready.text().contains("model: unreachable"), "{ready:?}");
    let server = FaultyServer::start_at(address, is_well)?;
    lives_on(&mut guard, &server)
}

fn guard_get(guard: &Guard, path: &str) -> io::Result<Answer> {
    raw::ask(guard.metrics_address(), &raw::get(path))
}

// === a server that is slow ===

#[test]
fn a_server_that_is_slow_to_its_head_is_a_504_at_the_time_limit() -> Outcome {
    for (mode, limit) in
        [("monitor", "--request-timeout"), ("hard", "--request-timeout"), ("monitor", "--silence-timeout"), ("hard", "--silence-timeout")]
    {
        let server = FaultyServer::start(|_| vec![Act::Hang])?;
        let mut guard = guard_before(&server, mode, &[limit, "1"])?;
        for (api, stream) in every_way() {
            let answer = ask_api(&guard, api, stream)?;
            assert_eq!(answer.status(), 504, "{mode} {limit}: {answer:?}");
            is_told(api, stream, &answer);
            assert!(answer.took >= Duration::from_secs(1) && answer.took < Duration::from_secs(4), "{mode} {limit}: {:?}", answer.took);
        }
        assert_eq!(count(&guard, "llm_guard_upstream_errors_total", &[("reason", "timed_out")])?, "6");
        // Nobody waits for those answers any more.
        wait_until("the connections to the server are closed", PROMPT, || Ok(server.open() == 0))?;
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn a_stream_that_falls_silent_ends_with_an_error_and_no_normal_end() -> Outcome {
    for mode in ENFORCED {
        let server = FaultyServer::start(|request| {
            let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
            let start = [chunked_head(api.content_type(request.streams())), chunk(&api.frame("Once upon a time, "))].concat();
            vec![Act::Send(start), Act::Hang]
        })?;
        let mut guard = guard_before(&server, mode, &["--silence-timeout", "1"])?;
        for (api, stream) in every_way() {
            let answer = ask_api(&guard, api, stream)?;
            assert_eq!(answer.status(), if stream { 200 } else { 504 });
            is_told(api, stream, &answer);
            assert!(answer.took < Duration::from_secs(4), "{:?}", answer.took);
        }
        wait_until("the connections to the server are closed", PROMPT, || Ok(server.open() == 0))?;
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn a_stream_that_never_ends_is_ended_at_the_time_limit_of_the_request() -> Outcome {
    for (mode, pause) in [("monitor", 0), ("monitor", 20), ("soft", 20), ("hard", 0), ("hard", 20)] {
        let server = FaultyServer::start(move |request| {
            let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
            let frame = chunk(&api.frame("and so on "));
            vec![Act::Send(chunked_head(api.content_type(true))), Act::Repeat(frame, Duration::from_millis(pause))]
        })?;
        let mut guard = guard_before(&server, mode, &["--request-timeout", "1"])?;
        for api in Api::ALL {
            let answer = ask_api(&guard, api, true)?;
            assert!(answer.took >= Duration::from_secs(1) && answer.took < Duration::from_secs(4), "{:?}", answer.took);
            if mode == "monitor" {
                assert!(!answer.complete, "in monitor the answer breaks off");
            } else {
                is_told(api, true, &answer);
            }
        }
        wait_until("the connections to the server are closed", PROMPT, || Ok(server.open() == 0))?;
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

// === a server that is cut off ===

/// Answers that end too early, and whether HTTP alone tells so.
fn cut_off(api: Api, stream: bool) -> Vec<(&'static str, Vec<u8>, bool)> {
    let content_type = api.content_type(stream);
    let head = chunked_head(content_type);
    let whole = if stream { [api.frame("Once upon"), api.frame(" a time")].concat() } else { api.whole("Once upon a time") };
    let first = if stream { api.frame("Once upon") } else { whole[..whole.len() / 2].to_vec() };
    let length = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", whole.len() + 10);
    let until_close = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n");
    vec![
        ("before anything", Vec::new(), true),
        ("in the head", head[..head.len() / 2].to_vec(), true),
        ("behind the head", head.clone(), true),
        ("in a frame", [&head, &chunk(&first)[..], b"ff\r\n", &first[..first.len() / 2]].concat(), true),
        ("between frames", [&head, &chunk(&first)[..]].concat(), true),
        ("in a chunk's size", [&head, &chunk(&first)[..], b"4"].concat(), true),
        ("behind a chunk's size", [&head, &chunk(&first)[..], b"4f\r\n"].concat(), true),
        ("in a chunk's end", [&head, &chunk(&first)[..chunk(&first).len() - 1]].concat(), true),
        ("in the last chunk", [&head, &chunk(&first)[..], b"0\r\n"].concat(), true),
        ("before its length", [length.as_bytes(), &first].concat(), true),
        ("without an end, up to the connection's", [until_close.as_bytes(), &first].concat(), false),
    ]
}

#[test]
fn an_answer_that_is_cut_off_is_told_in_the_api_s_way_in_soft_and_hard() -> Outcome {
    for mode in ENFORCED {
        let server = FaultyServer::start(is_well)?;
        let mut guard = guard_before(&server, mode, &[])?;
        for (api, stream) in every_way() {
            for (place, bytes, _) in cut_off(api, stream) {
                for end in [Act::Close, Act::Reset] {
                    server.play(vec![Act::Send(bytes.clone()), end.clone()]);
                    let answer =
                        ask_api(&guard, api, stream).map_err(|error| format!("{mode} {api:?} {stream} {place} {end:?}: {error}"))?;
                    assert!(matches!(answer.status(), 200 | 502), "{mode} {api:?} {stream} {place} {end:?}: {answer:?}");
                    assert!(stream || answer.status() == 502, "{mode} {api:?} {place} {end:?}: {answer:?}");
                    is_told(api, stream, &answer);
                    assert!(answer.took < PROMPT);
                }
            }
        }
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn in_monitor_an_answer_that_is_cut_off_breaks_off_as_it_does_without_the_guard() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    let mut guard = guard_before(&server, "monitor", &[])?;
    for (api, stream) in every_way() {
        for (place, bytes, told) in cut_off(api, stream) {
            server.play(vec![Act::Send(bytes), Act::Close]);
            let request = raw::post(api.path(), &api.request("Say something.", stream));
            let direct = raw::ask(server.address(), &request);
            let guarded = ask(&guard, &request);
            match (direct, guarded) {
                // There was no answer of which a head could have been passed on.
                (Err(_), Ok(guarded)) => {
                    assert_eq!(guarded.status(), 502, "{api:?} {stream} {place}");
                    is_told(api, stream, &guarded);
                }
                (Ok(direct), Ok(guarded)) => {
                    assert_eq!(direct.complete, !told, "{api:?} {stream} {place}: the server isn't as scripted");
                    assert_eq!(guarded.complete, direct.complete, "{api:?} {stream} {place}: {guarded:?}");
                    assert_eq!(guarded.text(), direct.text(), "{api:?} {stream} {place}");
                }
                (direct, guarded) => panic!("{api:?} {stream} {place}: {direct:?} without the guard, {guarded:?} with it"),
            }
        }
    }
    lives_on(&mut guard, &server)
}

#[test]
fn in_every_mode_what_an_answer_says_is_counted_whether_its_length_is_known_or_not() -> Outcome {
    let secret = secret()?;
    let text = format!("The key is {secret} today.");
    let server = FaultyServer::start(move |request| well(request, &text))?;
    for mode in ["monitor", "soft", "hard"] {
        let guard = guard_before(&server, mode, &[])?;
        let ways = every_way();
        let all = ways.clone().count().to_string();
        for (api, stream) in ways {
            let answer = ask_api(&guard, api, stream)?;
            assert_eq!(shows(&answer.body, &secret), mode == "monitor", "{mode} {api:?} {stream}");
        }
        nothing_is_open(&guard)?;
        let action = if mode == "monitor" { "counted" } else { "redacted" };
        let labels = [("control", "redaction"), ("kind", "OPENAI_KEY"), ("mode", mode), ("action", action)];
        assert_eq!(count(&guard, "llm_guard_violations_total", &labels)?, all, "{mode}");
        assert_eq!((exchanges(&guard, "answered")?, exchanges(&guard, "client_gone")?), (all, "0".into()), "{mode}");
        raw::ask(guard.address(), b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        assert_eq!(exchanges(&guard, "client_gone")?, "0", "{mode}: an answer without a body ends as well");
    }
    Ok(())
}

// === a server that sends garbage ===

fn in_escapes(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("\\u{byte:04x}"))
}

struct Garbage<'a> {
    api: Api,
    stream: bool,
    secret: &'a str,
}

impl Garbage<'_> {
    /// The secret, said piece by piece, and the end.
    fn frames(&self) -> Vec<u8> {
        let frames: Vec<u8> = pieces(self.secret).iter().flat_map(|piece| self.api.frame(piece)).collect();
        [frames, self.api.end()].concat()
    }

    fn of_type(&self, content_type: &str) -> Vec<u8> {
        answer("200 OK", content_type, &self.frames())
    }

    /// An answer of the right type.
    fn saying(&self, body: &[u8]) -> Vec<u8> {
        answer("200 OK", self.api.content_type(self.stream), body)
    }

    /// An answer that is one JSON text, or has it as a frame that is followed by the end.
    fn json(&self, json: &str) -> Vec<u8> {
        if self.stream { self.saying(&[self.api.framed(json), self.api.end()].concat()) } else { self.saying(json.as_bytes()) }
    }

    /// What the API says in one value, with `text` in its raw place and `more` as further fields.
    fn value(&self, text: &str, more: &str) -> String {
        match (self.api, self.stream) {
            (Api::Chat, _) => {
                format!("{{\"model\":\"m\",\"message\":{{\"role\":\"assistant\",\"content\":{text}}},\"done\":{}{more}}}", !self.stream)
            }
            (Api::Generate, _) => format!("{{\"model\":\"m\",\"response\":{text},\"done\":{}{more}}}", !self.stream),
            (Api::OpenAi, true) => format!("{{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]{more}}}"),
            (Api::OpenAi, false) => {
                format!(
                    "{{\"id\":\"c\",\"choices\":[{{\"index\":0,\"message\":{{\"content\":{text}}},\"finish_reason\":\"stop\"}}]{more}}}"
                )
            }
            (Api::Completion, _) => format!("{{\"id\":\"c\",\"choices\":[{{\"index\":0,\"text\":{text}}}]{more}}}"),
            (Api::Responses, true) => format!("{{\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":{text}{more}}}"),
            (Api::Responses, false) => {
                format!(
                    "{{\"id\":\"r\",\"output\":[{{\"type\":\"message\",\"content\":[{{\"type\":\"output_text\",\"text\":{text}}}]}}]{more}}}"
                )
            }
            (Api::Messages, true) => {
                format!("{{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":{text}}}{more}}}")
            }
            (Api::Messages, false) => format!("{{\"type\":\"message\",\"content\":[{{\"type\":\"text\",\"text\":{text}}}]{more}}}"),
        }
    }

    /// What isn't HTTP, or is it in a way that is no answer.
    fn no_http(&self) -> Vec<(&'static str, Vec<Act>)> {
        let secret = self.secret;
        let send = |text: String| vec![Act::Send(text.into_bytes()), Act::Close];
        let content_type = self.api.content_type(self.stream);
        let head = String::from_utf8_lossy(&chunked_head(content_type)).into_owned();
        let filler = vec![b'a'; 16 * 1024];
        vec![
            ("another protocol", send(format!("SSH-2.0-{secret}\r\n"))),
            ("bytes of no protocol", vec![Act::Send([&[0, 255, 0][..], secret.as_bytes(), &[0; 1024]].concat()), Act::Hang]),
            ("no status line", send(format!("{secret}\r\n\r\n"))),
            ("a body alone", vec![Act::Send(self.frames()), Act::Close]),
            ("HTTP/2", send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into())),
            ("a status that is none", send(format!("HTTP/1.1 999999 {secret}\r\n\r\n"))),
            (
                "endless headers",
                vec![Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Act::Repeat(format!("X-A: {secret}\r\n").into(), Duration::ZERO)],
            ),
            ("an endless header", vec![Act::Send(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec()), Act::Repeat(filler.clone(), Duration::ZERO)]),
            ("an endless status line", vec![Act::Send(b"HTTP/1.1 200 ".to_vec()), Act::Repeat(filler.clone(), Duration::ZERO)]),
            (
                "a switch of protocols",
                vec![
                    Act::Send(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n{secret}").into()),
                    Act::Hang,
                ],
            ),
            (
                "a length that is none",
                send(format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: -1\r\n\r\n{secret}")),
            ),
            (
                "two lengths",
                send(format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{secret}")),
            ),
            ("a chunk's size that is none", send(format!("{head}{secret}\r\n"))),
            ("a chunk's size beyond all", send(format!("{head}ffffffffffffffff0\r\n{secret}"))),
            ("a chunk's size of all that there is", send(format!("{head}fffffffffffffff\r\n{secret}"))),
            ("an endless chunk extension", vec![Act::Send(format!("{head}1;").into()), Act::Repeat(filler.clone(), Duration::ZERO)]),
            (
                "endless trailers",
                vec![Act::Send(format!("{head}0\r\n").into()), Act::Repeat(format!("X-A: {secret}\r\n").into(), Duration::ZERO)],
            ),
            ("trailers", send(format!("{head}{}0\r\nX-A: {secret}\r\n\r\n", String::from_utf8_lossy(&chunk(&self.api.whole("a")))))),
            (
                "nothing where there may be nothing",
                vec![Act::Send(format!("HTTP/1.1 204 No Content\r\nContent-Type: {content_type}\r\n\r\n{secret}").into()), Act::Close],
            ),
        ]
    }

    /// HTTP of a type, or with a coding, that isn't the API's.
    fn no_answer(&self) -> Vec<(&'static str, Vec<Act>)> {
        let send = |bytes: Vec<u8>| vec![Act::Send(bytes), Act::Close];
        let coded = |coding: &str| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Encoding: {coding}\r\nConnection: close\r\n\r\n",
                self.api.content_type(self.stream)
            );
            send([head.as_bytes(), &self.frames()].concat())
        };
        let status = |status: &str| send(answer(status, self.api.content_type(self.stream), &self.frames()));
        vec![
            ("gzip", coded("gzip")),
            ("a coding that is none", coded("none-that-is-known")),
            ("two codings", coded("identity\r\nContent-Encoding: zstd")),
            ("text/html", send(self.of_type("text/html"))),
            ("text/plain", send(self.of_type("text/plain; charset=utf-8"))),
            ("application/octet-stream", send(self.of_type("application/octet-stream"))),
            ("application/json", send(self.of_type("application/json"))),
            ("application/x-ndjson", send(self.of_type("application/x-ndjson"))),
            ("text/event-stream", send(self.of_type("text/event-stream"))),
            ("no type", send([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), self.frames()].concat())),
            ("an empty type", send(self.of_type(""))),
            ("two types", send(self.of_type("text/html\r\nContent-Type: application/x-ndjson"))),
            ("two types, turned round", send(self.of_type("application/json\r\nContent-Type: text/event-stream"))),
            ("an answer of status 203", status("203 Non-Authoritative Information")),
            ("an answer of status 302", status("302 Found")),
            ("an answer of status 404", status("404 Not Found")),
            ("an answer of status 500", status("500 Internal Server Error")),
        ]
    }

    /// The right type, and what it says is not of the API's form, or says it in a place or a way that is not looked for.
    fn no_api(&self) -> Vec<(&'static str, Vec<Act>)> {
        let (secret, api) = (self.secret, self.api);
        let send = |bytes: Vec<u8>| vec![Act::Send(bytes), Act::Close];
        let spoken = |text: String| send(self.json(&self.value(&text, "")));
        let split = |at: usize| (&secret[..at], &secret[at..]);
        let (first, rest) = split(9);
        let escaped = in_escapes(secret);
        let in_pieces = |each: &dyn Fn(&str) -> String| {
            let frames: Vec<u8> = pieces(secret).iter().flat_map(|piece| api.framed(&each(piece))).collect();
            send(self.saying(&[frames, api.end()].concat()))
        };
        vec![
            ("nothing", send(self.saying(b""))),
            ("empty lines", send(self.saying(b"\n\n\r\n\n"))),
            ("no JSON", send(self.json(&format!("<html>{secret}</html>")))),
            ("half of a JSON text", send(self.saying(&self.frames()[..self.frames().len() / 2]))),
            ("half of one value", send(self.saying(&self.value(&format!("\"{secret}\""), "").as_bytes()[..40.min(secret.len())]))),
            ("null", send(self.json("null"))),
            ("a string", send(self.json(&format!("\"{secret}\"")))),
            ("a list", send(self.json(&format!("[\"{first}\",\"{rest}\"]")))),
            ("an object of nothing", send(self.json("{}"))),
            ("an unknown field", send(self.json(&self.value("\"a\"", &format!(",\"x_secret\":\"{secret}\""))))),
            ("an unknown field in pieces", in_pieces(&|piece| self.value("\"a\"", &format!(",\"x_secret\":\"{piece}\"")))),
            ("a duplicate key", send(self.json(&self.value("\"a\"", &format!(",\"model\":\"{secret}\""))))),
            ("a duplicate text", spoken(format!("\"a\",\"content\":\"{secret}\",\"response\":\"{secret}\""))),
            ("keys in other letters", spoken(format!("\"a\",\"Content\":\"{secret}\",\"CONTENT\":\"{secret}\""))),
            ("a text that is a list", spoken(format!("[\"{first}\",\"{rest}\"]"))),
            ("a text that is an object", spoken(format!("{{\"text\":\"{secret}\"}}"))),
            ("escapes", spoken(format!("\"{escaped}\""))),
            ("escapes in pieces", in_pieces(&|piece| self.value(&format!("\"{}\"", in_escapes(piece)), ""))),
            ("a lone surrogate", spoken(format!("\"\\ud800{secret}\""))),
            ("a control character", spoken(format!("\"\u{1}{secret}\""))),
            ("bytes that are no UTF-8", send(self.saying(&[&b"\"\xff\xfe"[..], secret.as_bytes(), b"\""].concat()))),
            ("a byte order mark", send(self.saying(format!("\u{feff}{}", self.value(&format!("\"{secret}\""), "")).as_bytes()))),
            ("a nesting of 5,000", spoken(format!("{}\"{secret}\"{}", "[".repeat(5_000), "]".repeat(5_000)))),
            ("a number beyond all", send(self.json(&self.value("\"a\"", &format!(",\"eval_count\":1e9999,\"x\":\"{secret}\""))))),
            ("two values", send(self.json(&format!("{} {}", self.value("\"a\"", ""), self.value(&format!("\"{secret}\""), ""))))),
            (
                "the secret as the model",
                send(
                    self.json(
                        &self.value("\"a\"", "").replace("\"m\"", &format!("\"{secret}\"")).replace("\"c\"", &format!("\"{secret}\"")),
                    ),
                ),
            ),
            ("an error that says it", send(self.json(&format!("{{\"error\":\"{secret}\"}}")))),
            (
                "an error of objects that says it",
                send(self.json(&format!("{{\"error\":{{\"message\":\"{secret}\",\"type\":{{\"x\":[\"{secret}\"]}}}}}}"))),
            ),
            ("frames behind the end", send(self.saying(&[self.api.frame("a"), self.api.end(), self.frames()].concat()))),
            ("text behind the end", send(self.saying(&[self.api.frame("a"), self.api.end(), secret.as_bytes().to_vec()].concat()))),
            (
                "comments",
                send(
                    self.saying(
                        &[format!(": {secret}\n\n").into_bytes(), format!("event: {secret}\nid: {secret}\n").into_bytes(), self.frames()]
                            .concat(),
                    ),
                ),
            ),
            ("returns for line feeds", send(self.saying(&String::from_utf8_lossy(&self.frames()).replace('\n', "\r").into_bytes()))),
        ]
    }
}

#[test]
fn nothing_of_a_secret_gets_out_of_garbage_and_the_client_is_told_and_nothing_hangs() -> Outcome {
    let secret = secret()?;
    let mut wrong = Vec::new();
    for mode in ENFORCED {
        let server = FaultyServer::start(is_well)?;
        let mut guard = guard_before(&server, mode, &[])?;
        for (api, stream) in every_way() {
            let garbage = Garbage { api, stream, secret: &secret };
            for (kind, acts) in [garbage.no_http(), garbage.no_answer(), garbage.no_api()].concat() {
                server.play(acts);
                let begun = Instant::now();
                let answer = ask_api(&guard, api, stream);
                let name = format!("{mode} {api:?} {} {kind}", if stream { "streamed" } else { "whole" });
                match &answer {
                    Err(error) => wrong.push(format!("{name}: {error}")),
                    Ok(answer) => {
                        // What is behind the garbage doesn't count, so nobody may hold on to it.
                        if wait_until("the connection to the server is closed", PROMPT, || Ok(server.open() == 0)).is_err() {
                            wrong.push(format!("{name}: the connection to the server stays open"));
                        }
                        if shows(&answer.body, &secret) {
                            wrong.push(format!(
                                "{name}: the secret is out, status {}, {}",
                                answer.status(),
                                answer.head.text("content-type").unwrap_or_default()
                            ));
                        }
                        if !answer.complete {
                            wrong.push(format!("{name}: the answer is broken off: {answer:?}"));
                        }
                        // A failure that the model server itself tells of keeps its shape.
                        let own_error = Api::values(&answer.body).last().is_some_and(|last| last.get("error").is_some());
                        let ends = api.ends(&answer.body, true) || !stream && Api::values(&answer.body).len() == 1;
                        let is_told = own_error || ends || answer.status() != 200;
                        if !is_told {
                            wrong.push(format!("{name}: neither an end nor an error: {:.200}", answer.text()));
                        }
                    }
                }
                if begun.elapsed() > PROMPT {
                    wrong.push(format!("{name}: took {:?}", begun.elapsed()));
                }
            }
        }
        lives_on(&mut guard, &server)?;
    }
    assert!(wrong.is_empty(), "{} kinds of garbage are not as promised:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn text_behind_a_choice_s_end_is_an_error_and_text_behind_the_stream_s_end_is_not_sent() -> Outcome {
    let secret = secret()?;
    let server = FaultyServer::start(is_well)?;
    for mode in ENFORCED {
        let mut guard = guard_before(&server, mode, &[])?;
        let api = Api::OpenAi;
        let (first, rest) = secret.split_at(9);
        let finish = api.framed(&format!(
            "{{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{first}\"}},\"finish_reason\":\"stop\"}}]}}"
        ));
        let behind_finish = [api.frame("a "), finish, api.frame(rest), api.end()].concat();
        server.play(vec![Act::Send(answer("200 OK", "text/event-stream", &behind_finish))]);
        let told = ask_api(&guard, api, true)?;
        is_told(api, true, &told);
        assert!(!shows(&told.body, rest), "{}", told.text());

        let behind_done = [api.frame("a"), api.framed("[DONE]"), api.frame(&secret), api.framed("[DONE]")].concat();
        server.play(vec![Act::Send(answer("200 OK", "text/event-stream", &behind_done))]);
        let ended = ask_api(&guard, api, true)?;
        assert!(ended.complete && ended.text().ends_with("data: [DONE]\n\n"), "{}", ended.text());
        assert_eq!(ended.text().matches("[DONE]").count(), 1);
        assert!(!shows(&ended.body, &secret), "{}", ended.text());
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn a_frame_of_a_hundred_megabytes_is_an_error_in_hard_and_passes_in_monitor() -> Outcome {
    const SIZE: usize = 100 * 1000 * 1000;
    for mode in ["monitor", "hard"] {
        let server = FaultyServer::start(|request| {
            let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
            let text = "x".repeat(SIZE);
            let body = if request.streams() { [api.frame(&text), api.end()].concat() } else { api.whole(&text) };
            vec![Act::Send(answer("200 OK", api.content_type(request.streams()), &body))]
        })?;
        let mut guard = guard_before(&server, mode, &[])?;
        for (api, stream) in every_way() {
            let answer = ask_api(&guard, api, stream)?;
            if mode == "hard" {
                is_told(api, stream, &answer);
                assert!(answer.body.len() < 1_000, "{} bytes", answer.body.len());
            } else {
                assert!(answer.complete && answer.body.len() > SIZE && api.ends(&answer.body[answer.body.len() - 300..], true) || !stream);
            }
        }
        // What was held of it is given back: less than a frame of it is left for the next time.
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

// === clients that go away, crawl, or send too much ===

/// A stream that has begun and goes on, or stays silent, for ever.
fn begun(request: &Received, silent: bool) -> Vec<Act> {
    let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
    let start = [chunked_head(api.content_type(true)), chunk(&api.frame("Once upon a time, "))].concat();
    let rest = if silent { Act::Hang } else { Act::Repeat(chunk(&api.frame(" and so on")), Duration::from_millis(20)) };
    vec![Act::Send(start), rest]
}

#[test]
fn when_the_client_goes_away_in_mid_stream_the_server_is_let_go_within_two_seconds() -> Outcome {
    for mode in ["monitor", "soft", "hard"] {
        let server = FaultyServer::start(is_well)?;
        let mut guard = guard_before(&server, mode, &[])?;
        for silent in [false, true] {
            server.behave(move |request| begun(request, silent));
            for api in Api::ALL {
                let mut client = Connection::open(guard.address())?;
                client.send(&raw::post(api.path(), &api.request("Say something.", true)))?;
                client.wait_for(b"Once upon a")?;
                drop(client);
                wait_until("the connection to the server is closed", Duration::from_secs(2), || Ok(server.open() == 0))
                    .map_err(|error| format!("{mode} {api:?} silent {silent}: {error}"))?;
            }
        }
        nothing_is_open(&guard)?;
        assert_eq!(exchanges(&guard, "client_gone")?, "6");
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn when_the_client_goes_away_before_the_answer_the_server_is_let_go() -> Outcome {
    for mode in ["monitor", "hard"] {
        let server = FaultyServer::start(|_| vec![Act::Hang])?;
        let mut guard = guard_before(&server, mode, &[])?;
        for (number, (api, stream)) in every_way().enumerate() {
            let mut client = Connection::open(guard.address())?;
            client.send(&raw::post(api.path(), &api.request("Say something.", stream)))?;
            server.wait_for_requests(number + 1)?;
            drop(client);
            wait_until("the connection to the server is closed", Duration::from_secs(2), || Ok(server.open() == 0))?;
        }
        nothing_is_open(&guard)?;
        assert_eq!(exchanges(&guard, "client_gone")?, "6");
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn a_client_that_reads_nothing_more_is_let_go_at_the_time_limit() -> Outcome {
    for mode in ["monitor", "hard"] {
        let server = FaultyServer::start(|request| {
            let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
            vec![Act::Send(chunked_head(api.content_type(true))), Act::Repeat(chunk(&api.frame(&"x".repeat(60_000))), Duration::ZERO)]
        })?;
        let mut guard = guard_before(&server, mode, &["--request-timeout", "2", "--silence-timeout", "2"])?;
        let mut client = Connection::open(guard.address())?;
        client.send(&raw::post("/api/chat", &Api::Chat.request("Say something.", true)))?;
        client.wait_for(b"xxx")?;
        wait_until("the connection to the server is closed", PROMPT, || Ok(server.open() == 0))
            .map_err(|error| format!("{mode}: {error}"))?;
        nothing_is_open(&guard)?;
        drop(client);
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn a_request_whose_body_breaks_off_reaches_no_server() -> Outcome {
    for mode in ["monitor", "soft", "hard"] {
        let server = FaultyServer::start(is_well)?;
        let mut guard = guard_before(&server, mode, &[])?;
        for (api, stream) in every_way() {
            let request = raw::post(api.path(), &api.request("Say something.", stream));
            for goes in [true, false] {
                let mut client = Connection::open(guard.address())?;
                client.send(&request[..request.len() - 10])?;
                if goes {
                    drop(client);
                } else {
                    client.say_no_more()?;
                    // It may be told, and it may find its connection closed.
                    if let Ok(answer) = client.finish() {
                        assert_eq!(answer.status(), 400, "{answer:?}");
                    }
                }
            }
        }
        wait_until("twelve clients have gone", PROMPT, || Ok(exchanges(&guard, "client_gone")? == "12"))?;
        assert!(server.received().is_empty() && server.accepted() == 0, "{:?}", server.received());
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn a_client_that_is_slow_with_its_body_is_told_so_at_the_time_limit() -> Outcome {
    for mode in ["monitor", "hard"] {
        let server = FaultyServer::start(is_well)?;
        let mut guard = guard_before(&server, mode, &["--body-timeout", "1"])?;
        for (api, stream) in every_way() {
            let request = raw::post(api.path(), &api.request("Say something.", stream));
            let mut client = Connection::open(guard.address())?;
            client.send(&request[..request.len() - 10])?;
            let answer = client.finish()?;
            assert_eq!(answer.status(), 408, "{answer:?}");
            is_told(api, stream, &answer);
            assert!(answer.took >= Duration::from_secs(1) && answer.took < Duration::from_secs(4), "{:?}", answer.took);
        }
        assert_eq!(server.accepted(), 0);
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

/// A request of more than 32 MiB, as the API would take it.
fn too_large(api: Api) -> Vec<u8> {
    api.request(&"all work and no play ".repeat(33 * 1024 * 1024 / 21), false)
}

fn post_chunked(path: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: model.test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    for piece in body.chunks(size) {
        request.extend_from_slice(&chunk(piece));
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

#[test]
fn a_body_over_32_mib_is_a_413_in_soft_and_hard_for_a_client_that_writes_before_it_reads() -> Outcome {
    for mode in ENFORCED {
        let server = FaultyServer::start(is_well)?;
        let mut guard = guard_before(&server, mode, &[])?;
        for api in Api::ALL {
            let body = too_large(api);
            for request in [raw::post(api.path(), &body), post_chunked(api.path(), &body, 1_000_000)] {
                let answer = ask(&guard, &request).map_err(|error| format!("{mode} {api:?}: {error}"))?;
                assert_eq!(answer.status(), 413, "{answer:?}");
                is_told(api, false, &answer);
            }
        }
        assert_eq!(server.accepted(), 0);
        assert_eq!(exchanges(&guard, "refused")?, "6");
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn bodies_that_are_more_than_the_guard_may_hold_together_are_turned_away_and_leave_their_room() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    let mut guard = guard_before(&server, "hard", &["--buffer", "64"])?;
    let body = Api::Chat.request(&"word ".repeat(6 << 20), true);
    let request = raw::post("/api/chat", &body);
    // Two hold nearly 32 MiB each, in the middle of their bodies, so that a third has no room.
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut holder = Connection::open(guard.address())?;
        // One that is turned away stops taking what is sent.
        let _ = holder.send(&request[..request.len() - 9]);
        holders.push(holder);
    }
    wait_until("a body has no room", PROMPT, || {
        Ok(guard.metric("llm_guard_violations_total", &[("control", "limits"), ("kind", "memory"), ("action", "blocked")])? > 0.5
            || ask_api(&guard, Api::Chat, false)?.status() == 503)
    })?;
    drop(holders);
    lives_on(&mut guard, &server)
}

#[test]
fn while_large_bodies_are_judged_others_are_served() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    let mut guard = guard_before(&server, "hard", &[])?;
    // Full of what has to be looked at: dates that look like the numbers of people.
    let body = Api::Chat.request(&"078-05-1120 is one, 1999-12-31 4111 1111 1111 1112 none; ".repeat(100_000), false);
    let request = raw::post("/api/chat", &body);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let large = || -> io::Result<u16> {
            let status = ask(&guard, &request)?.status();
            done.fetch_add(1, Ordering::SeqCst);
            Ok(status)
        };
        let large: Vec<_> = (0..6).map(|_| scope.spawn(large)).collect();
        // They arrive, and are at work.
        wait_until("all large bodies have arrived", PROMPT, || Ok(guard.metric("llm_guard_connections_open", &[])? > 5.5))?;
        let small = (0..20).map(|_| Ok(ask_api(&guard, Api::Chat, false)?.status())).collect::<io::Result<Vec<u16>>>()?;
        let so_far = done.load(Ordering::SeqCst);
        assert!(small.iter().all(|status| *status == 200) && so_far < 3, "{so_far} large ones were done first");
        for large in large {
            assert_eq!(large.join().map_err(|_| "it panicked")??, 200);
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    lives_on(&mut guard, &server)
}

#[test]
fn a_body_over_32_mib_passes_in_monitor_as_it_is_and_is_counted() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    let mut guard = guard_before(&server, "monitor", &[])?;
    for api in Api::ALL {
        let body = too_large(api);
        for request in [raw::post(api.path(), &body), post_chunked(api.path(), &body, 1_000_000)] {
            let answer = ask(&guard, &request)?;
            assert_eq!((answer.status(), api.said(&answer.body)), (200, WELL.into()), "{api:?}");
            let received = server.received().pop().ok_or("nothing was received")?;
            assert!(received.body == body, "{api:?}: {} bytes became {}", body.len(), received.body.len());
            let is_chunked = raw::Head::read(&request).is_some_and(|(head, _)| head.is_chunked());
            assert_eq!(received.head.is_chunked(), is_chunked, "{api:?}: {:?}", received.head);
        }
    }
    let large =
        count(&guard, "llm_guard_violations_total", &[("control", "limits"), ("kind", "request_too_large"), ("action", "counted")])?;
    assert_eq!(large, "6");
    lives_on(&mut guard, &server)
}

#[test]
fn a_body_in_chunks_of_any_size_is_the_same_body() -> Outcome {
    for mode in ["monitor", "hard"] {
        let server = FaultyServer::start(is_well)?;
        let mut guard = guard_before(&server, mode, &[])?;
        for (api, stream) in every_way() {
            let body = api.request("Say something.", stream);
            let answer = ask(&guard, &raw::post(api.path(), &body))?;
            assert_eq!((answer.status(), api.said(&answer.body)), (200, WELL.into()));
            let whole = server.received().pop().ok_or("nothing was received")?.body;
            for size in [1, 2, 7, body.len()] {
                let answer = ask(&guard, &post_chunked(api.path(), &body, size))?;
                assert_eq!((answer.status(), api.said(&answer.body)), (200, WELL.into()), "{mode} {api:?} chunks of {size}");
                assert_eq!(server.received().pop().ok_or("nothing was received")?.body, whole);
            }
        }
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    for mode in ["monitor", "hard"] {
        let mut guard = guard_before(&server, mode, &[])?;
        let body = Api::Chat.request("Say something.", false);
        let mut client = Connection::open(guard.address())?;
        client.send(
            format!(
                "POST /api/chat HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        )?;
        client.wait_for(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        client.send(&body)?;
        client.wait_for(WELL.as_bytes())?;
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

// === many at once ===

/// Lets this process, and those that it starts, open enough files.
fn allow_open_files(count: u32) -> io::Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let allowed = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<u32>().ok());
    if allowed.is_none_or(|allowed| allowed >= count) {
        return Ok(());
    }
    let told = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--nofile={count}:")])
        .stdin(Stdio::null())
        .status()?;
    if told.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{count} open files are not allowed here: raise the hard limit (ulimit -Hn)")))
    }
}

/// How much memory of its own a process has, in KiB.
fn memory(process: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).ok_or_else(|| io::Error::other("no RssAnon in the status"))
}

#[test]
fn a_thousand_streams_at_once_are_each_redacted_and_complete() -> Outcome {
    const STREAMS: usize = 1_000;
    allow_open_files(8_192)?;
    let base = secret()?;
    let own_secret = move |number: usize| format!("{}{number:04}", &base[..base.len() - 4]);
    let gate = Gate::default();
    let server = {
        let (gate, own_secret) = (gate.clone(), own_secret.clone());
        FaultyServer::start(move |request| {
            let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
            let number = request.head.text("x-number").and_then(|number| number.parse().ok()).unwrap_or_default();
            let pieces = pieces(&format!("The key is {} .", own_secret(number)));
            let mut acts = vec![Act::Send(chunked_head(api.content_type(true)))];
            for (place, piece) in pieces.iter().enumerate() {
                // All are open, and in the middle of the secret, before any goes on.
                if place == pieces.len() / 2 {
                    acts.push(Act::Pass(gate.clone()));
                }
                acts.push(Act::Send(chunk(&api.frame(piece))));
                acts.push(Act::Wait(Duration::from_millis(10)));
            }
            acts.push(Act::Send([chunk(&api.end()), b"0\r\n\r\n".to_vec()].concat()));
            acts
        })?
    };
    let mut guard = guard_before(&server, "hard", &[])?;
    let idle = memory(guard.process().id())?;
    let address = guard.address();
    let clients: Vec<_> = (0..STREAMS)
        .map(|number| {
            thread::Builder::new().stack_size(512 * 1024).spawn(move || {
                let api = Api::ALL[number % 3];
                let request = raw::post(api.path(), &api.request("Say something.", true));
                let marked = [
                    format!("POST {} HTTP/1.1\r\nX-Number: {number}\r\n", api.path()).as_bytes(),
                    &request[raw::find(&request, b"Host").unwrap_or(0)..],
                ]
                .concat();
                raw::ask(address, &marked)
            })
        })
        .collect::<io::Result<_>>()?;
    wait_until("a thousand streams are open", PROMPT * 3, || Ok(count(&guard, "llm_guard_streams_open", &[])? == STREAMS.to_string()))?;
    let busy = memory(guard.process().id())?;
    gate.open();
    for (number, client) in clients.into_iter().enumerate() {
        let api = Api::ALL[number % 3];
        let answer = client.join().map_err(|_| format!("client {number} panicked"))??;
        assert!(answer.complete && answer.status() == 200 && api.ends(&answer.body, true), "{number}: {answer:?}");
        assert_eq!(api.said(&answer.body), "The key is [REDACTED_OPENAI_KEY] .", "{number}");
        assert!(!shows(&answer.body, &own_secret(number)), "{number}: {}", answer.text());
    }
    println!("memory of the guard: {idle} KiB idle, {busy} KiB with {STREAMS} streams open");
    assert!(busy < 256 * 1024, "{busy} KiB with {STREAMS} streams open");
    assert_eq!(exchanges(&guard, "answered")?, STREAMS.to_string());
    assert_eq!(count(&guard, "llm_guard_redactions_total", &[("kind", "OPENAI_KEY")])?, STREAMS.to_string());
    lives_on(&mut guard, &server)
}

#[test]
fn a_guard_that_is_out_of_files_makes_clients_wait_and_serves_them_then() -> Outcome {
    let gate = Gate::default();
    let server = {
        let gate = gate.clone();
        FaultyServer::start(move |request| [vec![Act::Pass(gate.clone())], well(request, WELL)].concat())?
    };
    let mut guard = guard_before(&server, "hard", &[])?;
    let pid = guard.process().id().to_string();
    let told = Command::new("prlimit").args(["--pid", &pid, "--nofile=40:"]).stdin(Stdio::null()).status()?;
    assert!(told.success());
    let address = guard.address();
    let clients: Vec<_> = (0..60)
        .map(|_| thread::spawn(move || raw::ask(address, &raw::post("/api/chat", &Api::Chat.request("Say something.", true)))))
        .collect();
    let problem = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains("can't be taken"));
    wait_until("the guard is out of files", PROMPT, || Ok(guard.log()?.iter().any(problem)))?;
    gate.open();
    for client in clients {
        let answer = client.join().map_err(|_| "a client panicked")??;
        // Where the connection to the server couldn't be had, that is said too.
        assert!(answer.complete && matches!(answer.status(), 200 | 502), "{answer:?}");
        if answer.status() == 502 {
            is_told(Api::Chat, true, &answer);
        }
    }
    lives_on(&mut guard, &server)
}

// === a policy that breaks ===

fn policy_of(kind: &str) -> String {
    format!(
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {{name: tried}}\nspec:\n  mode: hard\n  redaction:\n    kinds: [{kind}]\n"
    )
}

/// Writes a file as no one should: in place, in two steps.
fn write_carelessly(path: &std::path::Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    let (first, rest) = text.split_at(text.len() / 2);
    file.write_all(first.as_bytes())?;
    file.flush()?;
    thread::sleep(Duration::from_millis(3));
    file.write_all(rest.as_bytes())
}

#[test]
fn a_policy_file_that_breaks_under_load_leaves_one_whole_policy_in_force() -> Outcome {
    let planted = Planted::read()?;
    let (email, key) = (planted.secrets["EMAIL"].clone(), planted.secrets["AWS_ACCESS_KEY"].clone());
    let said = format!("Write to {email} , say {key} .");
    let by_mail = format!("Write to [REDACTED_EMAIL] , say {key} .");
    let by_key = format!("Write to {email} , say [REDACTED_AWS_ACCESS_KEY] .");
    let server = FaultyServer::start(move |request| well(request, &said))?;
    let mut guard = Guard::before(server.url(), "faults").policy(policy_of("email")).start()?;
    let address = guard.address();

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (stop, asked, allowed) = (Arc::clone(&stop), Arc::clone(&asked), [by_mail.clone(), by_key.clone()]);
            thread::spawn(move || -> Result<(), String> {
                for (api, stream) in every_way().cycle().skip(number) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = raw::ask(address, &raw::post(api.path(), &api.request("Say something.", stream)))
                        .map_err(|error| error.to_string())?;
                    let text = api.said(&answer.body);
                    if answer.status() != 200 || !answer.complete || !allowed.contains(&text) {
                        return Err(format!("{api:?} {stream}: {}: {text}", answer.status()));
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();

    let (mail, keys) = (policy_of("email"), policy_of("awsAccessKey"));
    let broken = [
        "spec: [".to_owned(),
        mail[..mail.len() - 4].to_owned(),
        mail.replace("email", "e-mail"),
        mail.replace("hard", "harder"),
        mail.replace("v1alpha1", "v2"),
        format!("{mail}  redaction: {{}}\n"),
        "\u{0}\u{1}".to_owned(),
        "a: &a [*a, *a]".to_owned(),
        "x".repeat(3 * 1024 * 1024),
    ];
    let path = guard.policy_path().to_owned();
    for round in 0..30 {
        for text in [&mail, &broken[round % broken.len()], &keys, &broken[(round + 1) % broken.len()]] {
            write_carelessly(&path, text)?;
        }
    }
    let ask_now = |guard: &Guard| -> io::Result<String> { Ok(Api::Chat.said(&ask_api(guard, Api::Chat, true)?.body)) };
    for text in &broken {
        let refused = guard.metric("llm_guard_policy_reloads_total", &[("result", "refused")])?;
        let before = ask_now(&guard)?;
        write_carelessly(&path, text)?;
        wait_until("the broken policy is refused", PROMPT, || {
            Ok(guard.metric("llm_guard_policy_reloads_total", &[("result", "refused")])? > refused)
        })?;
        assert_eq!(ask_now(&guard)?, before, "the policy in force stays");
    }
    std::fs::remove_file(&path)?;
    let refused = guard.metric("llm_guard_policy_reloads_total", &[("result", "refused")])?;
    wait_until("the absent policy is told of", PROMPT, || {
        Ok(guard.metric("llm_guard_policy_reloads_total", &[("result", "refused")])? > refused)
    })?;
    for (text, expected) in [(&keys, &by_key), (&mail, &by_mail), (&keys, &by_key)] {
        write_carelessly(&path, text)?;
        wait_until("a good policy takes hold", Duration::from_secs(2), || Ok(ask_now(&guard)? == *expected))?;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    assert!(asked.load(Ordering::Relaxed) > 100, "only {} requests ran meanwhile", asked.load(Ordering::Relaxed));
    lives_on(&mut guard, &server)
}

// === the end ===

/// A stream of which the first part is said, and the rest behind a gate.
fn gated(gate: &Gate) -> impl Fn(&Received) -> Vec<Act> + use<> {
    let gate = gate.clone();
    move |request| {
        let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
        vec![
            Act::Send([chunked_head(api.content_type(true)), chunk(&api.frame("Once upon a time, "))].concat()),
            Act::Pass(gate.clone()),
            Act::Send([chunk(&api.frame("it ended.")), chunk(&api.end()), b"0\r\n\r\n".to_vec()].concat()),
        ]
    }
}

fn is_refused(address: SocketAddr) -> bool {
    std::net::TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn told_to_end_the_guard_takes_nothing_new_lets_streams_run_out_and_exits_with_0() -> Outcome {
    for mode in ["monitor", "hard"] {
        let gate = Gate::default();
        let server = FaultyServer::start(gated(&gate))?;
        let mut guard = guard_before(&server, mode, &[])?;
        let mut clients = Vec::new();
        for api in Api::ALL {
            let mut client = Connection::open(guard.address())?;
            client.send(&raw::post(api.path(), &api.request("Say something.", true)))?;
            client.wait_for(b"Once upon a")?;
            clients.push((api, client));
        }
        // A connection that is only kept open holds nothing up.
        let idle = Connection::open(guard.address())?;
        guard.process().terminate()?;
        wait_until("new connections are refused", PROMPT, || Ok(is_refused(guard.address())))?;
        let ready = guard_get(&guard, "/readyz")?;
        assert!(ready.status() == 503 && ready.text().contains("draining"), "{ready:?}");
        gate.open();
        for (api, client) in clients {
            let answer = client.finish()?;
            assert!(answer.complete && api.ends(&answer.body, true), "{answer:?}");
            assert_eq!(api.said(&answer.body), "Once upon a time, it ended.");
        }
        let status = guard.process().wait_to_end(PROMPT)?;
        assert!(status.success(), "{mode}: {status}");
        drop(idle);
    }
    Ok(())
}

#[test]
fn what_still_runs_at_the_end_of_the_drain_time_is_told_so_and_the_exit_is_0() -> Outcome {
    for mode in ["monitor", "soft", "hard"] {
        let server = FaultyServer::start(|request| {
            let api = Api::of_path(request.target()).expect("these tests ask for nothing else");
            match (request.streams(), request.head.get("x-before-the-head")) {
                (_, Some(_)) => vec![Act::Hang],
                (true, _) => begun(request, api == Api::Generate),
                (false, _) => vec![Act::Send(chunked_head(api.content_type(false))), Act::Hang],
            }
        })?;
        let mut guard = guard_before(&server, mode, &["--drain-timeout", "1"])?;
        let mut clients = Vec::new();
        for (api, stream) in every_way() {
            for before_the_head in [false, true] {
                let request = raw::post(api.path(), &api.request("Say something.", stream));
                let mark = if before_the_head { "X-Before-The-Head: 1\r\n" } else { "" };
                let host = raw::find(&request, b"Host").ok_or("a request without a host")?;
                let mut client = Connection::open(guard.address())?;
                client.send(&[&request[..host], mark.as_bytes(), &request[host..]].concat())?;
                if stream && !before_the_head {
                    client.wait_for(b"Once upon a")?;
                }
                clients.push((api, stream, before_the_head, client));
            }
        }
        server.wait_for_requests(clients.len())?;
        guard.process().terminate()?;
        let begun = Instant::now();
        let mut wrong = Vec::new();
        for (api, stream, before_the_head, client) in clients {
            let name = format!("{mode} {api:?} streamed {stream}, before the head {before_the_head}");
            match client.finish() {
                // What has begun as it came can only break off.
                Ok(answer) if mode == "monitor" && !before_the_head => {
                    if answer.complete {
                        wrong.push(format!("{name}: {answer:?}"));
                    }
                }
                Ok(answer) if answer.complete && api.error(&answer.body).is_some() && !api.ends(&answer.body, stream) => {}
                other => wrong.push(format!("{name}: {other:?}")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let status = guard.process().wait_to_end(PROMPT)?;
        assert!(status.success(), "{mode}: {status}");
        assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
    Ok(())
}

fn drain_command(socket: &std::path::Path, timeout: u32) -> io::Result<Command> {
    let mut command = Command::new(cache::sidecar()?);
    command.env_clear().arg("drain").arg("--drain-socket").arg(socket).args(["--timeout", &timeout.to_string()]);
    Ok(command)
}

#[test]
fn the_drain_command_lets_the_guard_serve_five_seconds_more_and_returns_when_it_has_ended() -> Outcome {
    let gate = Gate::default();
    let server = FaultyServer::start(gated(&gate))?;
    let mut guard = guard_before(&server, "hard", &[])?;
    let mut client = Connection::open(guard.address())?;
    client.send(&raw::post("/api/chat", &Api::Chat.request("Say something.", true)))?;
    client.wait_for(b"Once upon a")?;

    // One that doesn't wait as long as it takes tells so, and what it asked for goes on.
    let begun = Instant::now();
    let said = process::run(&mut drain_command(&guard.drain_socket(), 1)?, "", PROMPT);
    let impatient = said.expect_err("the guard can't have ended").to_string();
    assert!(impatient.contains("it had not ended after 1 seconds"), "{impatient}");

    let socket = guard.drain_socket();
    let patient = thread::spawn(move || process::run(&mut drain_command(&socket, 60)?, "", PROMPT * 3));
    server.behave(is_well);
    let mut requests = 0;
    wait_until("new connections are refused", PROMPT, || {
        if is_refused(guard.address()) {
            return Ok(true);
        }
        // At the very moment of the end a connection may be there that nobody takes.
        match ask_api(&guard, Api::Chat, true) {
            Ok(answer) => {
                assert_eq!((answer.status(), Api::Chat.said(&answer.body)), (200, WELL.into()));
                requests += 1;
                Ok(false)
            }
            Err(_) => Ok(begun.elapsed() >= Duration::from_secs(5) && is_refused(guard.address())),
        }
    })?;
    assert!(begun.elapsed() >= Duration::from_secs(5), "refused after {:?}", begun.elapsed());
    assert!(requests > 10, "{requests} requests served meanwhile");
    assert!(!patient.is_finished(), "the command returned while a stream was running");
    gate.open();
    let answer = client.finish()?;
    assert!(answer.complete && Api::Chat.ends(&answer.body, true), "{answer:?}");
    patient.join().map_err(|_| "the command panicked")??;
    assert!(guard.process().wait_to_end(PROMPT)?.success());

    let said = process::run(&mut drain_command(&guard.drain_socket(), 5)?, "", PROMPT).expect_err("nobody is there").to_string();
    assert!(said.contains("cannot drain the guard"), "{said}");
    Ok(())
}

#[test]
fn every_drain_command_is_told_of_the_end() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    let guards = (0..10).map(|_| guard_before(&server, "hard", &[])).collect::<io::Result<Vec<_>>>()?;
    let mut commands = Vec::new();
    for guard in &guards {
        for _ in 0..3 {
            let socket = guard.drain_socket();
            commands.push(thread::spawn(move || process::run(&mut drain_command(&socket, 30)?, "", PROMPT * 3)));
        }
    }
    let failed: Vec<String> =
        commands.into_iter().filter_map(|command| command.join().ok()?.err()).map(|error| error.to_string()).collect();
    assert!(failed.is_empty(), "{} of 30 were not: {}", failed.len(), failed.join("\n"));
    Ok(())
}

#[test]
fn the_drain_socket_of_a_guard_that_crashed_is_taken_over_and_that_of_a_living_one_is_not() -> Outcome {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("drain.sock");
    // What a process that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    let server = FaultyServer::start(is_well)?;
    let path = socket.display().to_string();
    let mut guard = guard_before(&server, "hard", &["--drain-socket", &path])?;
    let second = guard_before(&server, "hard", &["--drain-socket", &path]).err().ok_or("two guards have one socket")?.to_string();
    assert!(second.contains("another guard listens there"), "{second}");
    lives_on(&mut guard, &server)?;
    process::run(&mut drain_command(&socket, 30)?, "", PROMPT * 2)?;
    assert!(guard.process().wait_to_end(PROMPT)?.success());
    Ok(())
}

// === identifiers ===

#[test]
fn a_request_id_is_kept_or_made_and_stands_in_the_answer_and_in_the_log() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    for mode in ["monitor", "hard"] {
        let mut guard = guard_before(&server, mode, &[])?;
        let with = |id: &[u8], path: &str| {
            let request = raw::post(path, &Api::Chat.request("Say something.", true));
            let host = raw::find(&request, b"Host").unwrap_or_default();
            [&request[..host], b"X-Request-ID: ", id, b"\r\n", &request[host..]].concat()
        };
        let mut ids = Vec::new();
        for (id, path, kept) in [
            (&b"abc-1_2.3:4"[..], "/api/chat", true),
            (b"of-an-error", "/api/generate/none", true),
            (b"", "/api/chat", false),
            (b"with space", "/api/chat", false),
            (b"with\"quote", "/api/chat", false),
            (b"\xc3\xa4", "/api/chat", false),
            (&[b'x'; 129], "/api/chat", false),
        ] {
            let answer = ask(&guard, &with(id, path))?;
            let given = answer.head.text("x-request-id").ok_or("an answer without an id")?;
            assert_eq!(given.as_bytes() == id, kept, "{given}");
            assert!(kept || given.len() == 36, "{given}");
            ids.push(given);
        }
        let made = ask_api(&guard, Api::Chat, false)?.head.text("x-request-id").ok_or("an answer without an id")?;
        ids.push(made);
        for id in &ids {
            assert_eq!(guard.log()?.iter().filter(|line| line["request_id"] == **id).count(), 1, "{id}");
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{id} was given twice");
        }
        lives_on(&mut guard, &server)?;
    }
    Ok(())
}

// === monitor changes nothing ===

/// Fields that belong to one connection, and the one that the guard adds.
const OF_A_CONNECTION: [&str; 8] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id"];

/// The fields that have to be the same end to end: by name, and for each name in their order.
fn end_to_end(head: &raw::Head) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = head.fields.iter().filter(|(name, _)| !OF_A_CONNECTION.contains(&&name[..])).cloned().collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

fn odd_answers() -> Vec<(&'static str, Vec<u8>)> {
    let head = |text: &str| format!("HTTP/1.1 {text}\r\n\r\n").into_bytes();
    let odd =
        b"  {\"message\" : {\"content\":\"a\",\"content\":\"b\"}, \"\\u0064one\":true, \"x_new\":[1e2, -0.0 , null],\"done\":true}\r\n\n";
    let frame = Api::Chat.frame("three");
    let single: Vec<Vec<u8>> = [&frame[..], odd].concat().iter().map(|byte| vec![*byte]).collect();
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0];
    vec![
        ("odd JSON", answer("200 OK", "application/json", odd)),
        ("odd lines", answer("200 OK", "application/x-ndjson", &[&frame[..], b"\n \n", odd, b"no JSON\n", &frame].concat())),
        ("a chunk for each byte", chunked("application/x-ndjson", &single)),
        ("chunks with extensions", [chunked_head("application/x-ndjson"), b"3;a=b\r\n{}\n\r\n000;c\r\n\r\n".to_vec()].concat()),
        (
            "events with comments and returns",
            answer("200 OK", "text/event-stream", b": a\r\n\r\nevent: b\r\nid: 1\r\ndata: {}\r\n\r\ndata: [DONE]\r\rx"),
        ),
        ("an empty body", head("200 OK\r\nContent-Type: application/json\r\nContent-Length: 0")),
        ("an empty chunked body", chunked("application/json", &[])),
        ("204", head("204 No Content\r\nX-A: b")),
        ("304", head("304 Not Modified\r\nETag: \"a\"")),
        ("418", answer("418 I'm a teapot", "text/plain", b"short and stout")),
        ("302", head("302 Found\r\nLocation: /elsewhere?a=%20\r\nContent-Length: 0")),
        ("401", answer("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"", "application/json", b"{\"error\":\"no\"}")),
        ("404", answer("404 Not Found", "text/plain", b"404 page not found")),
        ("500", answer("500 Internal Server Error", "application/json", b"{\"error\" : \"x\"}")),
        ("599", answer("599 Odd", "application/json", b"{}")),
        ("a coding", answer("200 OK\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding", "application/json", &gzip)),
        ("another type", answer("200 OK", "text/html; charset=latin1", b"<p>\xe4</p>")),
        ("no type", head("200 OK\r\nContent-Length: 0\r\nX-Empty:")),
        (
            "fields again and again",
            head("200 OK\r\nSet-Cookie: a=1\r\nX-A: 1\r\nSet-Cookie: b=2\r\nX-A: 2\r\nX-B: \u{e4}\u{20ac}\r\nContent-Length: 0"),
        ),
        ("a date and a server", answer("200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: odd/1", "application/json", b"{}")),
        (
            "a body up to the connection's end",
            [&head("200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close")[..], &frame].concat(),
        ),
    ]
}

#[test]
fn in_monitor_odd_answers_pass_as_they_are() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    let mut guard = guard_before(&server, "monitor", &[])?;
    let requests = [
        raw::post("/api/chat", &Api::Chat.request("Say something.", true)),
        raw::post("/v1/chat/completions", &Api::OpenAi.request("Say something.", false)),
        raw::post("/v1/responses", b"{}"),
        raw::get("/api/tags"),
        raw::get("/no/such/route"),
        b"HEAD /api/tags HTTP/1.1\r\nHost: model.test\r\nConnection: close\r\n\r\n".to_vec(),
    ];
    let mut wrong = Vec::new();
    for (kind, bytes) in odd_answers() {
        for request in &requests {
            let is_head = request.starts_with(b"HEAD");
            let bytes = if is_head { bytes[..raw::find(&bytes, b"\r\n\r\n").map_or(0, |end| end + 4)].to_vec() } else { bytes.clone() };
            server.play(vec![Act::Send(bytes), Act::Close]);
            let line = String::from_utf8_lossy(request).lines().next().unwrap_or_default().to_owned();
            let direct = raw::ask(server.address(), request)?;
            let guarded = match raw::ask(guard.address(), request) {
                Ok(guarded) => guarded,
                Err(error) => {
                    wrong.push(format!("{kind}, {line}: {error}"));
                    continue;
                }
            };
            wait_until("the connection to the server is closed", PROMPT, || Ok(server.open() == 0))?;
            let mut fields = end_to_end(&guarded.head);
            if direct.head.get("date").is_none() {
                // RFC 9110, section 6.6.1: who forwards an answer without a date adds one.
                fields.retain(|(name, _)| name != "date");
            }
            for (what, is_same) in [
                ("status", direct.status() == guarded.status()),
                ("body", direct.body == guarded.body),
                ("end", direct.complete == guarded.complete),
                ("fields", end_to_end(&direct.head) == fields),
            ] {
                if !is_same {
                    wrong.push(format!(
                        "{kind}, {line}: another {what}: {:?} {:?} became {:?} {:?}",
                        direct.head,
                        direct.text(),
                        guarded.head,
                        guarded.text()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers are changed:\n{}", wrong.len(), wrong.join("\n"));
    lives_on(&mut guard, &server)
}

#[test]
fn in_monitor_odd_requests_pass_as_they_are() -> Outcome {
    let server = FaultyServer::start(is_well)?;
    let mut guard = guard_before(&server, "monitor", &[])?;
    let odd =
        b" {\"model\":\"m\",\"model\":\"n\", \"Messages\" : [],\"messages\":[{\"role\":\"user\",\"content\":\"\xff\\ud800\"}]} trailing \n";
    let mut requests = vec![];
    for body in [&odd[..], b"", b"null", b"[", b"\x00\xff", b"{}{}"] {
        for path in ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/embeddings", "/api/create", "/api/show"] {
            requests.push(raw::post(path, body));
        }
    }
    for target in [
        "/no/such/route?x=1&&y=%20&z",
        "/api/%63hat",
        "/api/chat?",
        "/api/chat?q=a?b",
        "/api//chat",
        "/api/./chat/../chat",
        "/api%2Fchat",
        "/v1/models/a%2fb%C3%A4",
        "/a;b=c/~d/!$&'()*+,=:@",
        "/%",
        "/%zz",
        "/",
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "BREW"] {
            requests.push(format!("{method} {target} HTTP/1.1\r\nHost: model.test\r\nConnection: close\r\n\r\n").into_bytes());
        }
    }
    let with = |fields: &str, body: &[u8]| {
        let head = format!(
            "POST /api/chat HTTP/1.1\r\nHost: model.test\r\nContent-Length: {}\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n{fields}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    requests.extend([
        with("Content-Encoding: zstd\r\nContent-Type: application/json", b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00"),
        with("Content-Encoding: gzip, br", odd),
        with("Accept-Encoding: gzip, deflate, br;q=0.5\r\nAccept: */*", odd),
        with("Authorization: Bearer made-up\r\nCookie: a=1; b=2\r\nOrigin: http://model.test", odd),
        with("X-A: 1\r\nX-B: \u{e4}\r\nX-A: 2\r\nX-Empty:\r\nUser-Agent: odd (1; 2)", odd),
        with("Content-Type: text/plain\r\nRange: bytes=0-1\r\nIf-None-Match: \"a\"", odd),
        b"GET /api/tags HTTP/1.1\r\nHost: model.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}".to_vec(),
    ]);
    let mut wrong = Vec::new();
    for request in &requests {
        let shown = String::from_utf8_lossy(request).replace("\r\n", "|");
        let seen = |address: SocketAddr| -> Result<(Received, u16), String> {
            let before = server.received().len();
            let answer = raw::ask(address, request).map_err(|error| error.to_string())?;
            let mut received = server.received().split_off(before);
            match (received.pop(), received.is_empty()) {
                (Some(received), true) => Ok((received, answer.status())),
                other => Err(format!("{other:?} was received, the answer is {answer:?}")),
            }
        };
        let (direct, status) = seen(server.address())?;
        match seen(guard.address()) {
            Err(error) => wrong.push(format!("{shown}: {error}")),
            Ok((guarded, guarded_status)) => {
                let (mut expected, mut fields) = (end_to_end(&direct.head), end_to_end(&guarded.head));
                expected.retain(|(name, _)| name != "x-hop");
                // A body of no bytes is none, whether its length is told or not.
                for fields in [&mut expected, &mut fields] {
                    fields.retain(|(name, value)| !(name == "content-length" && value == b"0"));
                }
                for (what, is_same) in [
                    ("first line", direct.head.start == guarded.head.start),
                    ("body", direct.body == guarded.body),
                    ("fields", expected == fields),
                    ("status", status == guarded_status),
                ] {
                    if !is_same {
                        wrong.push(format!("{shown}: another {what}: {:?} became {:?}", direct.head, guarded.head));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} requests are changed:\n{}", wrong.len(), wrong.join("\n"));
    lives_on(&mut guard, &server)
}

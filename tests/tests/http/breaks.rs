//! Servers that break off, in every API that streams: the client is told so in its API's own way, and takes nothing for a normal end.

use std::time::Duration;

use llm_guard_tests::apis::Api;
use llm_guard_tests::faulty::{Act, FaultyServer, Received, chunked_head};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::ollama::Ollama;
use llm_guard_tests::raw::{self, Answer, Connection, chunk};

use crate::Outcome;

/// What was said before the break.
const BEGUN: &str = "Once upon";
/// What must not be read behind it.
const HIDDEN: &str = "unreadable words";

/// A way to break off: what is sent, and then what happens to the connection.
struct Break {
    name: &'static str,
    bytes: Vec<u8>,
    then: Vec<Act>,
}

/// In all of these the answer isn't whole. `last`: what a client waits for, alone.
fn breaks(api: Api) -> Vec<Break> {
    let content_type = api.content_type(true);
    let head = chunked_head(content_type);
    let first = [api.begin(), api.frame(BEGUN)].concat();
    let hidden = api.frame(HIDDEN);
    let end = api.end_of(BEGUN);
    let begun = [&head[..], &chunk(&first)].concat();
    let started = |rest: &[&[u8]]| [&[&begun[..]], rest].concat().concat();
    let whole = [&first[..], &end].concat();
    let plain = |fields: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{fields}\r\n\r\n").into_bytes();
    let done = b"0\r\n\r\n";
    // All of the end but the last frame of it.
    let last = last_frame(&end);
    let almost = chunk(&end[..end.len() - last]);
    let almost = if end.len() == last { Vec::new() } else { almost };
    let error = match api {
        Api::Messages => api.framed(r#"{"type":"error","error":{"type":"api_error","message":"the model broke"}}"#),
        Api::Chat | Api::Generate => api.framed(r#"{"error":"the model broke"}"#),
        Api::OpenAi | Api::Completion | Api::Responses => {
            api.framed(r#"{"error":{"message":"the model broke","type":"api_error","param":null,"code":null}}"#)
        }
    };
    let bad_text: Vec<u8> = hidden.iter().flat_map(|byte| if *byte == b'w' { vec![0xFF, 0xFE] } else { vec![*byte] }).collect();
    let text = String::from_utf8_lossy(&hidden).into_owned();
    let twice = text.replacen('{', "{\"model\":\"m\",\"model\":\"m\",\"type\":\"x\",\"type\":\"x\",", 1).into_bytes();
    let close = || vec![Act::Close];
    let both = |name: &'static str, bytes: Vec<u8>| {
        [Break { name, bytes: bytes.clone(), then: vec![Act::Close] }, Break { name, bytes, then: vec![Act::Reset] }]
    };
    let mut all: Vec<Break> = [
        both("before anything", Vec::new()),
        both("in the status line", head[..10].to_vec()),
        both("in the head", head[..head.len() - 3].to_vec()),
        both("behind the head", head.clone()),
        both("in the first frame", [&head[..], b"ff\r\n", &first[..first.len() / 2]].concat()),
        both("in a later frame", started(&[b"fff\r\n", &hidden[..hidden.len() / 2]])),
        both("between frames", begun.clone()),
        both("in a chunk's size", started(&[b"4"])),
        both("behind a chunk's size", started(&[b"4f\r\n"])),
        both("before a chunk's end", started(&[&chunk(&hidden[..4])[..7]])),
        both("in the last chunk", started(&[b"0\r\n"])),
        both("before its length", [&plain(&format!("Content-Length: {}", whole.len() + 1))[..], &first].concat()),
        both("up to the connection's end", [&plain("Connection: close")[..], &first].concat()),
        both("behind an error", started(&[&chunk(&error)])),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (name, bytes) in [
        ("a head that is none", b"220 mail.test ESMTP\r\n\r\n".to_vec()),
        ("a head with two lengths", [&plain("Content-Length: 5\r\nContent-Length: 6")[..], &whole].concat()),
        ("a head with a length of no number", [&plain("Content-Length: many")[..], &whole].concat()),
        ("a head that never ends", [b"HTTP/1.1 200 OK\r\nX-A: ".to_vec(), vec![b'a'; 2 * 1024 * 1024]].concat()),
        ("a word before the head, and no head", b"HTTP/1.1 102 Processing\r\n\r\n".to_vec()),
        ("another protocol", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec()),
        (
            "another type",
            [&format!("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n", whole.len()).into_bytes()[..], &whole]
                .concat(),
        ),
        ("no type", [&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", whole.len()).into_bytes()[..], &whole].concat()),
        ("a packed answer", [&plain(&format!("Content-Encoding: gzip\r\nContent-Length: {}", whole.len()))[..], &whole].concat()),
        ("a bad chunk's size", started(&[b"zz\r\n", &hidden, b"\r\n", done])),
        ("a chunk that is longer than it says", started(&[b"5\r\n", &hidden, b"\r\n", done])),
        ("an end of the bytes and none of the words", started(&[done])),
        ("all but the last frame", started(&[&almost, done])),
        ("a length that ends within a frame", [&plain(&format!("Content-Length: {}", first.len() - 5))[..], &whole].concat()),
        ("an error and then more", started(&[&chunk(&[&error[..], &hidden, &end].concat()), done])),
        ("a frame of five megabytes", started(&[&chunk(&api.frame(&"a".repeat(5 * 1024 * 1024))), &chunk(&end), done])),
        ("a frame that isn't UTF-8", started(&[&chunk(&bad_text), &chunk(&end), done])),
        ("a frame with a name twice", started(&[&chunk(&twice), &chunk(&end), done])),
        ("a frame that isn't JSON", started(&[&chunk(&api.framed("{unreadable words")), &chunk(&end), done])),
        ("a frame that is a list", started(&[&chunk(&api.framed(r#"["unreadable words"]"#)), &chunk(&end), done])),
        ("a frame of brackets", started(&[&chunk(&api.framed(&"[".repeat(5000))), &chunk(&end), done])),
        ("a frame with bytes behind it", started(&[&chunk(&api.framed("{} unreadable words")), &chunk(&end), done])),
    ] {
        all.push(Break { name, bytes, then: close() });
    }
    all.push(Break { name: "silence before the head", bytes: Vec::new(), then: vec![Act::Hang] });
    all.push(Break { name: "silence between frames", bytes: begun.clone(), then: vec![Act::Hang] });
    all.push(Break { name: "silence in a frame", bytes: started(&[b"fff\r\n", &hidden[..hidden.len() / 2]]), then: vec![Act::Hang] });
    all
}

/// How many bytes the last frame of some has.
fn last_frame(frames: &[u8]) -> usize {
    let end = frames.trim_ascii_end();
    let ending: &[u8] = if end.len() + 2 == frames.len() { b"\n\n" } else { b"\n" };
    let before = end.windows(ending.len()).rposition(|bytes| bytes == ending).map_or(0, |at| at + ending.len());
    frames.len() - before
}

/// What is wrong with how the client was told.
fn wrong(api: Api, said: &Answer) -> Option<&'static str> {
    if !said.complete {
        return Some("the answer is broken off");
    }
    if !matches!(said.status(), 200 | 502 | 504) {
        return Some("an odd status");
    }
    if api.ends(&said.body, true) || said.status() != 200 && api.ends(&said.body, false) {
        return Some("a normal end");
    }
    if api.error(&said.body).is_none() {
        return Some("no error in the API's shape");
    }
    if raw::find(&said.body, HIDDEN.as_bytes()).is_some() {
        return Some("what can't be read");
    }
    None
}

fn ask(guard: &Guard, api: Api) -> std::io::Result<Answer> {
    raw::ask(guard.address(), &raw::post(api.path(), &api.request("Say something.", true)))
}

/// The whole of an answer, as a server that is well says it.
fn whole(request: &Received) -> Vec<Act> {
    llm_guard_tests::faulty::well(request, "Once upon a time there was a server.")
}

#[test]
fn whoever_breaks_off_the_client_is_told_in_its_apis_way_and_sees_no_normal_end() -> Outcome {
    for mode in ["soft", "hard"] {
        let server = FaultyServer::start(whole)?;
        let guard = Guard::before(server.url(), "http").mode(mode).argument("--silence-timeout").argument("1").start()?;
        let mut bad = Vec::new();
        for api in Api::EVERY {
            let all = breaks(api);
            let mut names: Vec<&str> = all.iter().map(|case| case.name).collect();
            names.dedup();
            assert!(names.len() >= 20, "{} ways", names.len());
            for Break { name, bytes, then } in all {
                let told = then.clone();
                server.play([vec![Act::Send(bytes)], then].concat());
                match ask(&guard, api) {
                    Ok(said) => bad
                        .extend(wrong(api, &said).map(|why| format!("{api:?}, {name}, {told:?}: {why}: {} {}", said.status(), cut(&said)))),
                    Err(error) => bad.push(format!("{api:?}, {name}, {told:?}: {error}")),
                }
            }
            // The same guard, and a server that is well: what these tests look for is there when it should be.
            server.behave(whole);
            let said = ask(&guard, api)?;
            assert!(said.status() == 200 && said.complete && api.ends(&said.body, true), "{mode} {api:?}: {}", said.text());
            assert_eq!(api.said(&said.body), "Once upon a time there was a server.", "{mode} {api:?}");
        }
        assert!(bad.is_empty(), "{mode}: {}:\n{}", bad.len(), bad.join("\n"));
    }
    Ok(())
}

/// The end of what was said.
fn cut(said: &Answer) -> String {
    let text = said.text();
    text.chars().skip(text.chars().count().saturating_sub(700)).collect()
}

#[test]
fn what_comes_behind_the_end_of_an_answer_reaches_nobody() -> Outcome {
    let server = FaultyServer::start(whole)?;
    let guard = Guard::before(server.url(), "http").mode("hard").start()?;
    for api in Api::EVERY {
        let stream = api.stream(BEGUN).concat();
        for more in [api.frame(HIDDEN), api.framed(HIDDEN), HIDDEN.into(), [api.frame(HIDDEN), api.end()].concat()] {
            let answer = [&chunked_head(api.content_type(true))[..], &chunk(&stream), &chunk(&more), b"0\r\n\r\n"].concat();
            server.play(vec![Act::Send([&answer[..], HIDDEN.as_bytes()].concat()), Act::Close]);
            let said = ask(&guard, api)?;
            assert!(said.complete && said.status() == 200, "{api:?}: {said:?}");
            assert!(raw::find(&said.body, HIDDEN.as_bytes()).is_none(), "{api:?}: {}", said.text());
            assert!(api.ends(&said.body, true) != api.error(&said.body).is_some(), "{api:?}: an end or an error: {}", said.text());
        }
        // A word before the answer is the server's to the guard.
        server.play(vec![Act::Send([b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(), raw_stream(api)].concat()), Act::Close]);
        let said = ask(&guard, api)?;
        assert!(said.status() == 200 && api.ends(&said.body, true), "{api:?}: {said:?}");
    }
    Ok(())
}

fn raw_stream(api: Api) -> Vec<u8> {
    llm_guard_tests::faulty::chunked(api.content_type(true), &api.stream(BEGUN))
}

#[test]
fn a_real_ollama_that_is_killed_in_mid_stream_is_told_in_each_apis_way() -> Outcome {
    for api in Api::EVERY {
        let mut ollama = Ollama::start()?;
        let guard = Guard::before(ollama.url(), "http").mode("hard").start()?;
        let mut client = Connection::open(guard.address())?;
        // (It is asked by a name that it takes for its own.)
        let request = raw::post(api.path(), &api.request_of("endless", "Say something.", true));
        client.send(String::from_utf8_lossy(&request).replace("model.test", "localhost").as_bytes())?;
        client.wait_for(b"\r\n\r\n")?;
        let begun = std::time::Instant::now();
        // Some frames have come, not only the first.
        while client.received().split(|byte| *byte == b'\n').count() < 60 {
            client.wait_for_more()?;
            assert!(begun.elapsed() < raw::LIMIT, "{api:?}: the stream doesn't get on");
        }
        ollama.kill()?;
        let said = client.finish()?;
        assert_eq!((said.status(), wrong(api, &said)), (200, None), "{api:?}: {}", said.text());
        assert!(!api.said(&said.body).is_empty(), "{api:?}: {}", said.text());
        assert!(said.took < Duration::from_mins(1));
    }
    Ok(())
}

//! A real Ollama whose model gives away values of every topic, plain and in disguise, two letters at a time: in what it says, in what it
//! thinks, and in the arguments of its calls, in every API, streamed and not, to the last byte of the bodies and to real clients.
//! Then the same with `restore`, where the values are the client's own: the server gets marks, and the client its values back.
//!
//! The model `echo` says what a request tells it to say, so the table of what is said is [`leaks`].
//!
//! The invariant: what a client may see is known to the last character, and nothing else is compared with.

use std::collections::HashSet;
use std::thread;

use llm_guard_tests::apis::{self, Api};
use llm_guard_tests::leaks::{Form, Leak, leaks};
use llm_guard_tests::plain;
use llm_guard_tests::relay::Relay;

use super::{Ask, Client, Error, Guard, Map, Ollama, Outcome, Said, Value, io, json, normalised};

/// How many tokens the model says, as `tests/ollama/models/echo/answer.txt` has it.
const ECHO: usize = 520;

/// Where a value is said.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Channel {
    Content,
    Thinking,
    Call,
}

const ALL: &[Channel] = &[Channel::Content, Channel::Thinking, Channel::Call];

/// The channels that an API has. `/v1/completions` leaves out what a model thinks.
fn channels(api: Api) -> &'static [Channel] {
    match api {
        Api::Completion => &[Channel::Content],
        Api::Generate => &[Channel::Content, Channel::Thinking],
        _ => ALL,
    }
}

/// Those that can be in one answer. Where it is whole and holds a call, the server's `/v1/responses` leaves out what else was said.
fn at_once(api: Api, stream: bool) -> &'static [&'static [Channel]] {
    match api {
        Api::Completion => &[&[Channel::Content]],
        Api::Generate => &[&[Channel::Content, Channel::Thinking]],
        Api::Responses if !stream => &[&[Channel::Content, Channel::Thinking], &[Channel::Call, Channel::Thinking]],
        _ => &[ALL],
    }
}

/// Who asks by an API, and by which of its ways.
fn speaker(api: Api) -> (Client, &'static str) {
    match api {
        Api::Chat => (Client::PythonOllama, "chat"),
        Api::Generate => (Client::PythonOllama, "generate"),
        Api::OpenAi => (Client::PythonOpenAi, "chat"),
        Api::Completion => (Client::PythonOpenAi, "generate"),
        Api::Responses => (Client::PythonResponses, "chat"),
        Api::Messages => (Client::PythonAnthropic, "chat"),
    }
}

/// One answer of the model.
#[derive(Clone, Debug, Default)]
struct Script {
    content: Vec<Leak>,
    thinking: Vec<Leak>,
    call: Vec<Leak>,
}

impl Script {
    /// As many answers as it takes to say all of `leaks`, each in the channel that its number and `turn` make out.
    fn all(leaks: &[Leak], channels: &[Channel], turn: usize) -> Vec<Self> {
        let mut scripts: Vec<Self> = Vec::new();
        for (number, leak) in leaks.iter().enumerate() {
            let channel = channels[(number + turn) % channels.len()];
            let longer = scripts.iter().map(|script| script.with(channel, leak)).enumerate().find(|(_, script)| script.fits());
            match longer {
                Some((place, script)) => scripts[place] = script,
                None => scripts.push(Self::default().with(channel, leak)),
            }
        }
        assert!(scripts.iter().all(Self::fits), "a sentence is longer than the model's memory");
        scripts
    }

    fn with(&self, channel: Channel, leak: &Leak) -> Self {
        let mut script = self.clone();
        match channel {
            Channel::Content => script.content.push(leak.clone()),
            Channel::Thinking => script.thinking.push(leak.clone()),
            Channel::Call => script.call.push(leak.clone()),
        }
        script
    }

    fn leaks(&self) -> impl Iterator<Item = &Leak> {
        // In the order in which the model says them.
        self.thinking.iter().chain(&self.content).chain(&self.call)
    }

    /// All that the model writes, where each sentence is as `of` makes it.
    fn text(&self, mut of: impl FnMut(&Leak) -> String) -> String {
        let mut said = |leaks: &[Leak]| leaks.iter().map(&mut of).collect::<Vec<_>>();
        let (thinking, content, call) = (said(&self.thinking), said(&self.content), said(&self.call));
        let mut text = String::new();
        if !thinking.is_empty() {
            text = format!("<think>{}</think>", thinking.concat());
        }
        text.push_str(&content.concat());
        if !call.is_empty() {
            let call = json!({"name": "search_docs", "arguments": {"query": {"notes": call}}});
            text = format!("{text}<tool_call>{call}</tool_call>");
        }
        text
    }

    /// What a request tells the model: dots for it to pass over, and what to say.
    fn told(&self, of: impl FnMut(&Leak) -> String) -> String {
        let (values, marks) = self.lengths();
        "·".repeat(ECHO - values.min(marks)) + &self.text(of)
    }

    /// What a client sees of it.
    fn seen(&self, api: Api, stream: bool, of: impl Fn(&Leak) -> String) -> Said {
        let joined = |leaks: &[Leak]| leaks.iter().map(&of).collect::<String>();
        let notes: Vec<String> = self.call.iter().map(&of).collect();
        let calls = if notes.is_empty() { Vec::new() } else { vec![json!({"query": {"notes": notes}}).to_string()] };
        Said {
            content: if api == Api::Responses && !stream && !self.call.is_empty() { String::new() } else { joined(&self.content) },
            thinking: joined(&self.thinking),
            tools: calls.iter().map(|_| "search_docs".into()).collect(),
            arguments: calls,
        }
    }

    /// How many tokens it is, with the values and with marks in their places.
    fn lengths(&self) -> (usize, usize) {
        (tokens(&self.text(|leak| leak.said.clone())), tokens(&self.text(|leak| leak.left_with(&format!("[REDACTED_{}_1]", leak.kind)))))
    }

    /// Whether the model can say it.
    fn fits(&self) -> bool {
        let (values, marks) = self.lengths();
        values <= ECHO && marks + self.leaks().count() <= ECHO
    }
}

/// How many tokens a text is for the model: pairs of letters, digits and spaces, and each other byte by itself.
fn tokens(text: &str) -> usize {
    let (mut count, mut run) = (0, 0_usize);
    for sign in text.chars() {
        if sign == ' ' || sign.is_ascii_alphanumeric() {
            run += 1;
        } else {
            count += run.div_ceil(2) + sign.len_utf8();
            run = 0;
        }
    }
    count + run.div_ceil(2)
}

/// The content, the thinking, the names of the tools that are called, and what they are called with: as values, for what is JSON in a
/// string in one API is an object in another.
type Parsed = (String, String, Vec<Value>, Vec<Value>);

fn parsed(said: Said) -> Result<Parsed, Box<dyn Error>> {
    let Said { content, thinking, tools, arguments } = said;
    let arguments = arguments.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    Ok((content, thinking, tools, arguments))
}

/// The frames of a body, in exactly the form in which this API has them.
fn frames(api: Api, stream: bool, body: &[u8]) -> Result<Vec<Value>, Box<dyn Error>> {
    let body = std::str::from_utf8(body)?;
    if !stream {
        return Ok(vec![serde_json::from_str(body)?]);
    }
    if matches!(api, Api::Chat | Api::Generate) {
        let lines = body.strip_suffix('\n').ok_or("a last line without its end")?;
        return Ok(lines.split('\n').map(serde_json::from_str).collect::<Result<_, _>>()?);
    }
    let mut events = Vec::new();
    for event in body.strip_suffix("\n\n").ok_or("a last event without its end")?.split("\n\n") {
        let (name, data) = match event.split_once('\n') {
            Some((first, data)) => (Some(first.strip_prefix("event: ").ok_or("a first line that is no event's name")?), data),
            None => (None, event),
        };
        let data = data.strip_prefix("data: ").ok_or("an event without data")?;
        let value: Value = if data == "[DONE]" { data.into() } else { serde_json::from_str(data)? };
        assert_eq!(name.is_some(), matches!(api, Api::Responses | Api::Messages), "{event}");
        assert!(name.is_none_or(|name| value["type"] == name), "{event}");
        events.push(value);
    }
    Ok(events)
}

/// What a body says.
fn said(api: Api, frames: &[Value], stream: bool) -> Said {
    let seen = if stream { json!({"frames": frames}) } else { json!({"answer": frames[0]}) };
    speaker(api).0.said(&seen)
}

/// The frames without what differs: those that only say a piece (which are compared joined, and are others where something was held back),
/// numbers of events, drawn ids and times. Where a frame says a whole text, its sentences become what is to be left of them.
fn framing(frames: &[Value], script: &Script) -> Vec<Value> {
    let mut seen = Map::new();
    seen.insert("scene".into(), json!({"frames": frames}));
    let mut frames = match normalised(&seen)["scene"]["frames"].take() {
        Value::Array(frames) => frames,
        _ => Vec::new(),
    };
    for frame in &mut frames {
        if let Some(fields) = frame.as_object_mut() {
            fields.remove("context");
            fields.remove("sequence_number");
        }
        let pieces = [
            "/message/content",
            "/message/thinking",
            "/response",
            "/thinking",
            "/choices/0/delta/content",
            "/choices/0/delta/reasoning",
            "/choices/0/text",
            "/delta/text",
            "/delta/thinking",
            "/delta/partial_json",
            "/delta",
        ];
        for piece in pieces {
            if let Some(text @ Value::String(_)) = frame.pointer_mut(piece) {
                *text = "".into();
            }
        }
        whole(frame, script);
    }
    let only_a_piece = |frame: &Value| {
        let choice = &frame["choices"][0];
        let goes_on = frame["done"] == false || (choice.is_object() && choice["finish_reason"].is_null());
        goes_on && frame["message"]["tool_calls"].is_null() && choice["delta"]["tool_calls"].is_null()
    };
    frames.retain(|frame| !only_a_piece(frame));
    frames.dedup();
    frames
}

fn whole(value: &mut Value, script: &Script) {
    match value {
        Value::String(text) => {
            for leak in script.leaks() {
                *text = text.replace(&leak.said, &leak.left);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| whole(item, script)),
        Value::Object(fields) => {
            for (name, field) in fields {
                // Arguments in JSON are written in one of several ways.
                if name == "arguments"
                    && let Some(arguments) = field.as_str().and_then(|text| serde_json::from_str(text).ok())
                {
                    *field = arguments;
                }
                whole(field, script);
            }
        }
        _ => {}
    }
}

/// Eight bytes in a row of a value as it is written, or of what it means. What benign text has as well doesn't count.
fn pieces(scripts: &[&Script]) -> HashSet<[u8; 8]> {
    let windows = |text: &str| text.as_bytes().windows(8).filter_map(|window| window.try_into().ok()).collect::<Vec<[u8; 8]>>();
    let leaks = || scripts.iter().flat_map(|script| script.leaks());
    let mut pieces = HashSet::new();
    for leak in leaks() {
        let written = leak.written();
        let escaped = Value::from(written.as_str()).to_string();
        for text in [&leak.value, &written, escaped.trim_matches('"')] {
            pieces.extend(windows(text));
        }
    }
    for piece in leaks().flat_map(|leak| windows(&leak.left)) {
        pieces.remove(&piece);
    }
    pieces
}

/// That an answer shows nothing of the values, neither in its bytes, nor in what its frames say when they are joined, as text or as the
/// numbers of bytes.
fn assert_nothing_shows(body: &[u8], scripts: &[&Script], place: &str) {
    let pieces = pieces(scripts);
    let has =
        |bytes: &[u8]| bytes.windows(8).find(|window| pieces.contains(*window)).map(|window| String::from_utf8_lossy(window).into_owned());
    assert_eq!(has(body), None, "{place}: its bytes show a part of a value");
    for text in apis::texts(body) {
        assert_eq!(has(text.as_bytes()), None, "{place}: its frames, joined, show a part of a value");
    }
    let mut numbers = Vec::new();
    for value in Api::values(body) {
        bytes(&value, &mut numbers);
    }
    assert_eq!(has(&numbers), None, "{place}: its numbers show a part of a value");
}

/// The numbers in a document that may be bytes.
fn bytes(value: &Value, found: &mut Vec<u8>) {
    match value {
        Value::Number(number) => found.extend(number.as_u64().and_then(|number| u8::try_from(number).ok())),
        Value::Array(items) => items.iter().for_each(|item| bytes(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| bytes(field, found)),
        _ => {}
    }
}

fn policy(redaction: &str) -> String {
    format!(
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {{name: leaks}}\nspec:\n  mode: hard\n  \
         promptInjection: {{mode: monitor}}\n  tools: {{allow: [search_docs]}}\n  redaction: {{{redaction}}}\n"
    )
}

fn guard(upstream: String, name: &str, redaction: &str) -> io::Result<Guard> {
    // At a level that says more than an operator's, for the scan of the records.
    Guard::before(upstream, name).policy(policy(redaction)).argument("--log-level").argument("debug").start()
}

/// The request of an API that tells the model to say this.
fn request(api: Api, told: &str, stream: bool) -> Value {
    let (client, route) = speaker(api);
    let tools: &[&str] = if channels(api).contains(&Channel::Call) { &["search_docs"] } else { &[] };
    client.ask(route, "", Ask { model: "echo", prompt: told, stream, tools })["arguments"].take()
}

fn nothing_gets_out(api: Api, name: &str) -> Outcome {
    let ollama = Ollama::start()?;
    let guard = guard(ollama.url(), name, "requests: count")?;
    let leaks = leaks();
    let channels = channels(api);
    let (mut counted, mut compared) = (0, 0);
    // Every value in every channel: where there are three, streamed in two of them and whole in the third, which is another in each API.
    let of_three = [Api::Chat, Api::OpenAi, Api::Messages, Api::Responses].iter().position(|of| *of == api).map(|place| place % 3);
    let rounds = (0..channels.len()).filter(|turn| of_three != Some(*turn)).map(|turn| (true, channels, turn));
    let rounds = rounds.chain(at_once(api, false).iter().map(|channels| (false, *channels, of_three.unwrap_or(1))));
    for (stream, channels, turn) in rounds {
        for (number, script) in Script::all(&leaks, channels, turn).iter().enumerate() {
            let place = format!("{}, streamed: {stream}, turn {turn}, script {number}", api.path());
            let asked = request(api, &script.told(|leak| leak.said.clone()), stream);
            let reply = guard.post(api.path(), &asked)?;
            assert_eq!(reply.status, 200, "{place}: {}", reply.text());
            assert_nothing_shows(&reply.body, &[script], &place);
            let guarded = frames(api, stream, &reply.body)?;
            assert_eq!(parsed(said(api, &guarded, stream))?, parsed(script.seen(api, stream, |leak| leak.left.clone()))?, "{place}");
            counted += script.leaks().filter(|leak| !leak.kind.is_empty()).count();
            // Some are compared with what the server says without the guard.
            if number % 5 == turn {
                let direct = plain::post(ollama.address(), api.path(), &asked)?;
                assert_eq!(direct.headers.get("content-type"), reply.headers.get("content-type"), "{place}");
                let direct = frames(api, stream, &direct.body)?;
                let leaked = parsed(said(api, &direct, stream))?;
                assert_eq!(leaked, parsed(script.seen(api, stream, |leak| leak.said.clone()))?, "{place}: the server leaks");
                assert_eq!(framing(&direct, script), framing(&guarded, script), "{place}");
                compared += 1;
            }
        }
    }
    // With what the server tells of each token, where it tells that.
    if matches!(api, Api::Chat | Api::Generate | Api::OpenAi) {
        for (stream, script) in [true, false].into_iter().zip(Script::all(&leaks, channels, 0)) {
            let mut asked = request(api, &script.told(|leak| leak.said.clone()), stream);
            asked["logprobs"] = true.into();
            asked["top_logprobs"] = 2.into();
            let reply = guard.post(api.path(), &asked)?;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_nothing_shows(&reply.body, &[&script], "with log-probabilities");
            let answer = parsed(said(api, &frames(api, stream, &reply.body)?, stream))?;
            assert_eq!(answer, parsed(script.seen(api, stream, |leak| leak.left.clone()))?, "with log-probabilities, streamed: {stream}");
            let direct = plain::post(ollama.address(), api.path(), &asked)?;
            assert!(direct.text().contains("\"logprob\""), "the server tells of tokens");
        }
    }
    for leak in leaks.iter().filter(|leak| !leak.kind.is_empty()) {
        assert!(guard.metric("llm_guard_redactions_total", &[("kind", leak.kind)])? >= 2.0, "{} is counted", leak.kind);
    }
    println!("{}: {counted} values, {compared} answers framed as the server frames them", api.path());
    assert!(guard.stop()?.success());
    Ok(())
}

/// The strings of a JSON document.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(fields) => fields.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// Whether a value comes back in JSON as it stands there: what JSON escapes comes back as it was written.
fn stands_in_json(leak: &Leak) -> bool {
    let written = leak.written();
    Value::from(written.as_str()).to_string().trim_matches('"') == written
}

fn only_the_client_gets_its_values(api: Api, name: &str) -> Outcome {
    let ollama = Ollama::start()?;
    let relay = Relay::before(ollama.address())?;
    let guard = guard(relay.url(), name, "requests: redact, restore: true")?;
    let (in_json, escaped): (Vec<Leak>, Vec<Leak>) = leaks().into_iter().partition(stands_in_json);
    let in_texts = if api == Api::Completion { &[Channel::Content][..] } else { &[Channel::Content, Channel::Thinking] };
    let (mut back, mut played) = (0, Vec::new());
    // Every value in a stream, and some of them whole.
    for (stream, step) in [(true, 1), (false, 3)] {
        let rounds = at_once(api, stream).iter().flat_map(|channels| Script::all(&in_json, channels, usize::from(stream)));
        for (number, script) in rounds.chain(Script::all(&escaped, in_texts, usize::from(stream))).step_by(step).enumerate() {
            let place = format!("{}, streamed: {stream}, script {number}", api.path());
            let reply = guard.post(api.path(), &request(api, &script.told(|leak| leak.said.clone()), stream))?;
            assert_eq!(reply.status, 200, "{place}: {}", reply.text());
            let answer = parsed(said(api, &frames(api, stream, &reply.body)?, stream))?;
            assert_eq!(answer, parsed(script.seen(api, stream, |leak| leak.said.clone()))?, "{place}");
            // The server was told marks, numbered in the order of the text, and said them.
            let mut marks = 0;
            let marked = script.text(|leak| {
                marks += usize::from(!leak.kind.is_empty());
                leak.left_with(&format!("[REDACTED_{}_{marks}]", leak.kind))
            });
            let bodies = relay.bodies(api.path()).iter().map(|body| serde_json::from_slice(body)).collect::<Result<Vec<Value>, _>>()?;
            let told: Vec<&str> = bodies.iter().flat_map(strings).map(|text| text.trim_start_matches('·')).collect();
            assert!(told.contains(&marked.as_str()), "{place}: {told:#?} don't have {marked:?}");
            back += marks;
            played.push(script);
        }
    }
    let played: Vec<&Script> = played.iter().collect();
    let answered = relay.answered();
    assert!(answered.iter().any(|bytes| !bytes.is_empty()), "the server answers through the relay");
    for bytes in relay.asked().iter().chain(&answered) {
        assert_nothing_shows(bytes, &played, api.path());
    }
    println!("{}: {back} values came back", api.path());
    assert!(guard.stop()?.success());
    Ok(())
}

/// What only its key tells of, in the arguments of a call.
fn a_key_tells_of_its_value(api: Api, name: &str) -> Outcome {
    let ollama = Ollama::start()?;
    let guard = guard(ollama.url(), name, "requests: count")?;
    let keys = [("PASSWORD", "password"), ("AWS_SECRET_KEY", "aws_secret_access_key"), ("MISTRAL_KEY", "mistral_api_key"), ("SSN", "ssn")];
    let named = |kind: &str| keys.iter().find(|(of, _)| *of == kind).map(|(_, key)| *key);
    let call: Vec<Leak> = leaks().into_iter().filter(|leak| leak.form == Form::Plain && named(leak.kind).is_some()).collect();
    assert_eq!(call.len(), keys.len());
    let arguments = |of: &dyn Fn(&Leak) -> String| {
        let members = call.iter().filter_map(|leak| Some((named(leak.kind)?.to_owned(), of(leak).into())));
        json!({"query": members.chain([("note".to_owned(), json!("fine"))]).collect::<Map<_, _>>()})
    };
    let (said_so, left) = (arguments(&|leak| leak.value.replace('-', "")), arguments(&|leak| format!("[REDACTED_{}]", leak.kind)));
    let text = format!("<tool_call>{}</tool_call>", json!({"name": "search_docs", "arguments": said_so}));
    let told = "·".repeat(ECHO - tokens(&text)) + &text;
    let script = Script { call, ..Script::default() };
    for stream in [true, false] {
        let asked = request(api, &told, stream);
        let direct = plain::post(ollama.address(), api.path(), &asked)?;
        assert_eq!(parsed(said(api, &frames(api, stream, &direct.body)?, stream))?.3, std::slice::from_ref(&said_so), "the server leaks");
        let reply = guard.post(api.path(), &asked)?;
        assert_eq!(parsed(said(api, &frames(api, stream, &reply.body)?, stream))?.3, std::slice::from_ref(&left), "streamed: {stream}");
        assert_nothing_shows(&reply.body, &[&script], api.path());
    }
    assert!(guard.stop()?.success());
    Ok(())
}

/// A call whose JSON is none before its value is replaced by a mark, and is again when the value comes back.
fn a_value_that_json_escapes_comes_back_as_json(api: Api, name: &str) -> Outcome {
    let ollama = Ollama::start()?;
    let relay = Relay::before(ollama.address())?;
    let guard = guard(relay.url(), name, "requests: redact, restore: true")?;
    let card = ["4556", "7375", "8689", "9855"].join("\n");
    let text =
        format!("Let me see.<tool_call>{{\"name\": \"search_docs\", \"arguments\": {{\"query\": {{\"about\": \"{card}\"}}}}}}</tool_call>");
    let told = "·".repeat(ECHO - 30) + &text;
    for stream in [true, false] {
        let reply = guard.post(api.path(), &request(api, &told, stream))?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let (_, _, tools, arguments) = parsed(said(api, &frames(api, stream, &reply.body)?, stream))?;
        assert_eq!(tools, ["search_docs"], "{}", reply.text());
        assert_eq!(arguments, [json!({"query": {"about": card}})], "streamed: {stream}");
    }
    assert!(!relay.asked().concat().windows(6).any(|window| window == b"\\n7375"));
    assert!(guard.stop()?.success());
    Ok(())
}

/// Two who ask at the same time, each with addresses of its own that get the same marks.
fn what_comes_back_is_ones_own(api: Api, name: &str) -> Outcome {
    let ollama = Ollama::with_slots(2)?;
    let relay = Relay::before(ollama.address())?;
    let guard = guard(relay.url(), name, "requests: redact, restore: true")?;
    let script = |who: &str| {
        let leak = |number: usize| {
            let value = [&format!("{who}.{}", ["one", "two", "three"][number % 3]), "@", "ledger", &format!("-{number}.org")].concat();
            Leak { kind: "EMAIL", form: Form::Plain, said: format!("Ask {value}, do; "), left: "Ask [REDACTED_EMAIL], do; ".into(), value }
        };
        Script::all(&(0..9).map(leak).collect::<Vec<_>>(), at_once(api, true)[0], 0).swap_remove(0)
    };
    let scripts = [script("tamsin.orrell"), script("wendeline.okafor")];
    for stream in [true, false] {
        let ask = |script: &Script| {
            let reply = guard.post(api.path(), &request(api, &script.told(|leak| leak.said.clone()), stream));
            reply.map_err(|error| error.to_string())
        };
        let replies = thread::scope(|scope| {
            let asking = scripts.each_ref().map(|script| scope.spawn(move || ask(script)));
            asking.map(|asking| asking.join().map_err(|_| "a thread panicked".to_owned()).flatten())
        });
        for (who, reply) in replies.into_iter().enumerate() {
            let reply = reply?;
            let (own, others) = (&scripts[who], &scripts[1 - who]);
            let answer = parsed(said(api, &frames(api, stream, &reply.body)?, stream))?;
            assert_eq!(answer, parsed(own.seen(api, stream, |leak| leak.said.clone()))?, "{}, streamed: {stream}", api.path());
            let body = reply.text();
            assert!(others.leaks().all(|leak| !body.contains(&leak.value)));
        }
    }
    let bodies = relay.bodies(api.path());
    assert_eq!(bodies.len(), 4);
    for body in &bodies {
        assert_nothing_shows(body, &scripts.each_ref(), "what the server was told");
    }
    assert!(guard.stop()?.success());
    Ok(())
}

/// What a real client reads of it: marks, and with `restore` its own values.
fn a_client_reads_every_answer(client: Client, api: Api, name: &str) -> Outcome {
    let ollama = Ollama::start()?;
    let (in_json, _): (Vec<Leak>, Vec<Leak>) = leaks().into_iter().partition(stands_in_json);
    let all = leaks();
    for (restore, leaks) in [(false, &all), (true, &in_json)] {
        let name = format!("{name}-{}", if restore { "restored" } else { "redacted" });
        let redaction = if restore { "requests: redact, restore: true" } else { "requests: count" };
        let guard = guard(ollama.url(), &name, redaction)?;
        let mut scripts = Vec::new();
        for stream in [true, false] {
            for channels in at_once(api, stream) {
                // Some of them: all of them are asked for without a client.
                let some = Script::all(leaks, channels, usize::from(stream)).into_iter().step_by(4);
                scripts.extend(some.map(|script| (stream, script)));
            }
        }
        let calls: Vec<Value> = scripts
            .iter()
            .enumerate()
            .map(|(number, (stream, script))| {
                let told = script.told(|leak| leak.said.clone());
                client.chat(&number.to_string(), Ask { model: "echo", prompt: &told, stream: *stream, tools: &["search_docs"] })
            })
            .collect();
        let seen = client.play_guarded(&guard, &name, &calls)?;
        for (number, (stream, script)) in scripts.iter().enumerate() {
            let place = format!("{client:?}, restore: {restore}, streamed: {stream}, script {number}");
            let seen = &seen[&number.to_string()];
            assert_eq!(seen["error"], Value::Null, "{place}");
            assert_eq!(seen["frames"].is_array(), *stream, "{place}");
            let expected = script.seen(api, *stream, |leak| if restore { leak.said.clone() } else { leak.left.clone() });
            assert_eq!(parsed(client.said(seen))?, parsed(expected)?, "{place}");
            if !restore {
                assert_nothing_shows(seen.to_string().as_bytes(), &[script], &place);
            }
        }
        assert!(guard.stop()?.success());
    }
    Ok(())
}

/// One module an API.
macro_rules! for_each_api {
    ($($module:ident: $api:expr),*) => {$(
        mod $module {
            use super::*;

            fn name(test: &str) -> String {
                format!("clients-leaks-{}-{test}", stringify!($module))
            }

            #[test]
            fn of_what_the_model_gives_away_nothing_gets_out() -> Outcome {
                nothing_gets_out($api, &name("redacted"))
            }

            #[test]
            fn what_was_masked_comes_back_to_the_client_and_never_reached_the_server() -> Outcome {
                only_the_client_gets_its_values($api, &name("restored"))
            }

            #[test]
            fn of_two_at_once_each_gets_its_own_back() -> Outcome {
                what_comes_back_is_ones_own($api, &name("two"))
            }
        }
    )*};
}

for_each_api!(
    chat: Api::Chat,
    generate: Api::Generate,
    openai: Api::OpenAi,
    completion: Api::Completion,
    responses: Api::Responses,
    messages: Api::Messages
);

/// One test a client, and one an API that has calls.
macro_rules! for_each_caller {
    ($($client:ident, $json:ident, $key:ident: $caller:expr, $api:expr);*) => {$(
        #[test]
        fn $client() -> Outcome {
            a_client_reads_every_answer($caller, $api, concat!("clients-leaks-", stringify!($client)))
        }

        #[test]
        fn $json() -> Outcome {
            a_value_that_json_escapes_comes_back_as_json($api, concat!("clients-leaks-", stringify!($json)))
        }

        #[test]
        fn $key() -> Outcome {
            a_key_tells_of_its_value($api, concat!("clients-leaks-", stringify!($key)))
        }
    )*};
}

for_each_caller!(
    python_ollama, in_chat_what_json_escapes_comes_back_as_json, in_chat_a_key_tells_of_its_value: Client::PythonOllama, Api::Chat;
    python_openai, in_openai_what_json_escapes_comes_back_as_json, in_openai_a_key_tells_of_its_value: Client::PythonOpenAi, Api::OpenAi;
    python_responses, in_responses_what_json_escapes_comes_back_as_json, in_responses_a_key_tells_of_its_value: Client::PythonResponses, Api::Responses;
    python_anthropic, in_messages_what_json_escapes_comes_back_as_json, in_messages_a_key_tells_of_its_value: Client::PythonAnthropic, Api::Messages
);

#[test]
fn node_ollama() -> Outcome {
    a_client_reads_every_answer(Client::NodeOllama, Api::Chat, "clients-leaks-node_ollama")
}

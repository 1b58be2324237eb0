//! Log-probabilities, as properties of whole exchanges: whatever the text, its tokens and their frames, the tokens that a client gets say the
//! beginning of what it got as text, never before that, and the same streamed and unstreamed.

use std::sync::{Arc, LazyLock};

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{AnswerHead, AnswerPlan, Exchange, Forward, RequestHead};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Made-up values of some forms, built from parts.
static VALUES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let letters = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY";
    vec![
        format!("hf{}{letters}z1", "_"),
        format!("sk{}{letters}abcdefghijklmnop", "-"),
        ["AK", "IA", "QWERTY1234567890"].concat(),
        ["ey", "JhbGciOiJIUzI1NiJ9.ey", "JzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl-x_y"].concat(),
        ["nobody.at.all", "@", "mail.example.org"].concat(),
        ["078", "05", "1121"].join("-"),
    ]
});

/// Where an API says log-probabilities, and the text of which they are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Chat,
    Generate,
    OpenAi,
    OpenAiSecondChoice,
    OpenAiRefusal,
    /// Text completions, in the form of their own.
    Columns,
    /// Text completions, in that of chats.
    Text,
}

const PLACES: [Place; 7] =
    [Place::Chat, Place::Generate, Place::OpenAi, Place::OpenAiSecondChoice, Place::OpenAiRefusal, Place::Columns, Place::Text];

impl Place {
    fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::OpenAi | Self::OpenAiSecondChoice | Self::OpenAiRefusal => "/v1/chat/completions",
            Self::Columns | Self::Text => "/v1/completions",
        }
    }

    fn is_openai(self) -> bool {
        self.path().starts_with("/v1")
    }

    fn choice(self) -> usize {
        usize::from(self == Self::OpenAiSecondChoice)
    }

    fn channel(self) -> &'static str {
        match self {
            Self::Generate => "response",
            Self::OpenAiRefusal => "refusal",
            Self::Columns | Self::Text => "text",
            _ => "content",
        }
    }

    /// A frame that says a text, and tokens beside it; with the reason for which the answer ended, the last.
    fn frame(self, text: &str, tokens: &[Said], end: Option<&str>) -> Value {
        let list: Vec<Value> = tokens.iter().map(Said::listed).collect();
        let channel = self.channel();
        let choice = match self {
            Self::Chat => {
                return json!({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": text}, "done": end.is_some(), "logprobs": list});
            }
            Self::Generate => return json!({"model": "m", "created_at": "t", "response": text, "done": end.is_some(), "logprobs": list}),
            Self::Columns => json!({"index": 0, "text": text, "logprobs": {
                "tokens": tokens.iter().map(|token| token.text.clone()).collect::<Vec<_>>(),
                "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
                "top_logprobs": tokens.iter().map(|_| json!({"other": -1.5})).collect::<Vec<_>>(),
                "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
            }, "finish_reason": end}),
            Self::Text => json!({"index": 0, "text": text, "logprobs": {"content": list}, "finish_reason": end}),
            _ => {
                json!({"index": self.choice(), "delta": {"role": "assistant", channel: text}, "logprobs": {channel: list}, "finish_reason": end})
            }
        };
        json!({"id": "c", "object": "o", "created": 1, "model": "m", "choices": [choice]})
    }

    fn unstreamed(self, text: &str, tokens: &[Said]) -> Value {
        let mut frame = self.frame(text, tokens, Some("stop"));
        if let Some(delta) = frame.pointer_mut("/choices/0/delta").map(Value::take) {
            frame["choices"][0].as_object_mut().unwrap().remove("delta");
            frame["choices"][0]["message"] = delta;
        }
        frame
    }

    fn write(self, frames: &[Value]) -> Vec<u8> {
        let mut out: String =
            frames.iter().map(|frame| if self.is_openai() { format!("data: {frame}\n\n") } else { format!("{frame}\n") }).collect();
        if self.is_openai() {
            out.push_str("data: [DONE]\n\n");
        }
        out.into_bytes()
    }

    /// What a frame or a whole answer says as text, and by tokens.
    fn said(self, frame: &Value) -> (String, Vec<Said>) {
        let (holder, text) = match self {
            Self::Chat => (frame, &frame["message"]["content"]),
            Self::Generate => (frame, &frame["response"]),
            _ => {
                let choices = frame["choices"].as_array().into_iter().flatten();
                let Some(choice) = choices.into_iter().find(|choice| choice["index"] == self.choice()) else { return Default::default() };
                let message = if choice["delta"].is_null() { &choice["message"] } else { &choice["delta"] };
                (choice, if matches!(self, Self::Columns | Self::Text) { &choice["text"] } else { &message[self.channel()] })
            }
        };
        let logprobs = &holder["logprobs"];
        let tokens = match self {
            Self::Columns => {
                let column = |name: &str| logprobs[name].as_array().cloned().unwrap_or_default();
                let rows = column("tokens").into_iter().zip(column("token_logprobs")).zip(column("text_offset"));
                assert!(logprobs["top_logprobs"].is_null());
                rows.map(|((text, logprob), offset)| Said {
                    text: text.as_str().unwrap().to_owned(),
                    logprob: logprob.as_f64().unwrap(),
                    offset: usize::try_from(offset.as_u64().unwrap()).unwrap(),
                })
                .collect()
            }
            Self::Chat | Self::Generate => read_list(logprobs),
            Self::Text => read_list(&logprobs["content"]),
            _ => read_list(&logprobs[self.channel()]),
        };
        (text.as_str().unwrap_or_default().to_owned(), tokens)
    }
}

/// A token, as a client sees it.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    text: String,
    logprob: f64,
    offset: usize,
}

impl Said {
    fn listed(&self) -> Value {
        let alternative = |text: &str| json!({"token": text, "logprob": -2.5, "bytes": text.as_bytes()});
        let alternatives = [alternative(&self.text), alternative("other")];
        json!({"token": self.text, "logprob": self.logprob, "bytes": self.text.as_bytes(), "top_logprobs": alternatives})
    }
}

/// The tokens of a list. Their bytes are theirs, and they have no alternatives.
fn read_list(list: &Value) -> Vec<Said> {
    let read = |token: &Value| {
        let text = token["token"].as_str().unwrap().to_owned();
        assert_eq!(token["bytes"], json!(text.as_bytes()));
        assert_eq!(token["top_logprobs"], json!([]));
        Said { text, logprob: token["logprob"].as_f64().unwrap(), offset: 0 }
    };
    list.as_array().into_iter().flatten().map(read).collect()
}

/// Tokens that say these texts. No two have the same logarithm.
fn tokens<T: AsRef<str>>(place: Place, texts: &[T]) -> Vec<Said> {
    let mut offset = 0;
    let said = texts.iter().enumerate().map(|(number, text)| {
        let text = text.as_ref().to_owned();
        let at = if place == Place::Columns { offset } else { 0 };
        offset += text.chars().count();
        Said { text, logprob: -0.25 * f64::from(u32::try_from(number).unwrap()), offset: at }
    });
    said.collect()
}

fn joined(tokens: &[Said]) -> String {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

fn policy(mode: Mode) -> Arc<Policy> {
    static POLICIES: LazyLock<[Arc<Policy>; 3]> =
        LazyLock::new(|| Mode::ALL.map(|mode| Policy::compile(&GuardPolicy::built_in(), &Standing::of(Some(mode))).unwrap()));
    Arc::clone(&POLICIES[mode as usize])
}

fn begin(policy: &Arc<Policy>, path: &str) -> Exchange {
    let head = RequestHead { method: "POST", path, content_type: None, content_encoding: None, caller: Caller { over_loopback: false } };
    Exchange::begin(Arc::clone(policy), &head).0
}

fn answer_head(content_type: &'static str) -> AnswerHead<'static> {
    AnswerHead { status: 200, content_type: Some(content_type), content_encoding: None, is_empty: false }
}

/// The frames that a client gets of a stream that arrives in chunks.
fn through_stream(mut exchange: Exchange, place: Place, bytes: &[u8], chunk: usize) -> Vec<Value> {
    let content_type = if place.is_openai() { "text/event-stream" } else { "application/x-ndjson" };
    let AnswerPlan::Stream(mut judge) = exchange.open_answer(&answer_head(content_type)).unwrap() else { panic!("a stream is judged") };
    let mut out = Vec::new();
    for chunk in bytes.chunks(chunk) {
        judge.push(chunk, &mut out);
    }
    judge.finish(&mut out);
    let lines = std::str::from_utf8(&out).unwrap().lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    lines.filter(|line| !line.is_empty() && *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn whole(mut exchange: Exchange, body: &Value) -> Value {
    let AnswerPlan::Whole(mut judge) = exchange.open_answer(&answer_head("application/json")).unwrap() else {
        panic!("an answer is judged")
    };
    serde_json::from_slice(&judge.judge(body.to_string().as_bytes()).unwrap()).unwrap()
}

/// What a stream said, text and tokens, each of these never before its text.
fn streamed(place: Place, frames: &[Value]) -> (String, Vec<Said>) {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    for frame in frames {
        let (piece, more) = place.said(frame);
        text.push_str(&piece);
        tokens.extend(more);
        assert!(text.starts_with(&joined(&tokens)), "{place:?}: {tokens:?} before {text}");
    }
    (text, tokens)
}

/// Those of a text's tokens that say the beginning of what was given out of it.
fn expected(tokens: &[Said], text: &str, given: &str) -> Vec<Said> {
    let same = text.bytes().zip(given.bytes()).take_while(|(one, other)| one == other).count();
    let mut end = 0;
    let fits = |token: &&Said| {
        end += token.text.len();
        end <= same
    };
    tokens.iter().take_while(fits).cloned().collect()
}

/// A text in parts, each of which is a token.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let value = (0..VALUES.len()).prop_map(|number| VALUES[number].clone());
    let noise = prop::sample::select(vec![" ", ".", "-", "sk-", "AKIA", "a", "é", "\n", "\"", "[", "😀", "\u{200b}", "[REDACTED_", "1111"]);
    let part = prop_oneof![1 => value, 4 => noise.prop_map(str::to_owned)];
    (prop::collection::vec(part, 0..10), prop::collection::vec(any::<prop::sample::Index>(), 0..40)).prop_map(|(parts, cuts)| {
        let text = parts.concat();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|end| text.is_char_boundary(*end)).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        ends.dedup();
        ends.windows(2).map(|pair| text[pair[0]..pair[1]].to_owned()).collect()
    })
}

/// The frames of a stream, of so many tokens each, over and over.
fn frames_of(place: Place, tokens: &[Said], sizes: &[usize]) -> Vec<Value> {
    let (mut frames, mut rest, mut sizes) = (Vec::new(), tokens, sizes.iter().cycle());
    while !rest.is_empty() {
        let (these, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        frames.push(place.frame(&joined(these), these, None));
        rest = after;
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn tokens_say_the_beginning_of_the_text_the_same_streamed_and_unstreamed(
        texts in texts(),
        place in prop::sample::select(PLACES.to_vec()),
        sizes in prop::collection::vec(1usize..5, 1..4),
        ends_with_a_piece in any::<bool>(),
        chunk in 1usize..300,
        cut in any::<prop::sample::Index>(),
    ) {
        let policy = policy(Mode::Hard);
        let all = tokens(place, &texts);
        let text = texts.concat();
        let (given, of_whole) = place.said(&whole(begin(&policy, place.path()), &place.unstreamed(&text, &all)));
        prop_assert!(of_whole == expected(&all, &text, &given), "{of_whole:?} of {given}");

        let mut frames = frames_of(place, &all, &sizes);
        let last = frames.pop_if(|_| ends_with_a_piece).map_or((String::new(), Vec::new()), |last| {
            let said = place.said_raw(&last, &all);
            (joined(&said), said)
        });
        frames.push(place.frame(&last.0, &last.1, Some("stop")));
        let bytes = place.write(&frames);
        let of_stream = streamed(place, &through_stream(begin(&policy, place.path()), place, &bytes, chunk));
        prop_assert_eq!(&of_stream, &(given, of_whole));

        // A stream that breaks off gives out no more.
        let (text, tokens) = streamed(place, &through_stream(begin(&policy, place.path()), place, &bytes[..cut.index(bytes.len())], chunk));
        prop_assert!(of_stream.0.starts_with(&text) && of_stream.1.starts_with(&tokens));
    }
}

impl Place {
    /// The tokens of a frame that wasn't judged.
    fn said_raw(self, frame: &Value, all: &[Said]) -> Vec<Said> {
        let mut bare = frame.clone();
        let list = match self {
            Self::Chat | Self::Generate => bare["logprobs"].take(),
            Self::Columns => bare["choices"][0]["logprobs"]["token_logprobs"].take(),
            Self::Text => bare["choices"][0]["logprobs"]["content"].take(),
            _ => bare["choices"][0]["logprobs"][self.channel()].take(),
        };
        let logprobs = list.as_array().unwrap().iter().map(|one| one.as_f64().or(one["logprob"].as_f64()).unwrap());
        logprobs.map(|logprob| all.iter().find(|token| (token.logprob - logprob).abs() < 0.1).unwrap().clone()).collect()
    }
}

/// What of a stream's frames reaches the client, text and tokens joined.
fn stream_of(place: Place, frames: &[Value]) -> (String, String) {
    let (text, tokens) = streamed(place, &through_stream(begin(&policy(Mode::Hard), place.path()), place, &place.write(frames), 7));
    (text, joined(&tokens))
}

fn one(place: Place, texts: &[&str]) -> Value {
    place.frame(&texts.concat(), &tokens(place, texts), None)
}

#[test]
fn every_token_of_a_text_without_a_value_is_given_out_with_its_own_number() {
    for place in PLACES {
        let all = tokens(place, &["The ", "sky", " is", " bl", "ue", "."]);
        let given = place.said(&whole(begin(&policy(Mode::Soft), place.path()), &place.unstreamed("The sky is blue.", &all))).1;
        assert_eq!(given, all, "{place:?}");
        let frames = [frames_of(place, &all, &[1, 2]), vec![place.frame("", &[], Some("stop"))]].concat();
        let given = streamed(place, &through_stream(begin(&policy(Mode::Soft), place.path()), place, &place.write(&frames), 11));
        assert_eq!(given, ("The sky is blue.".to_owned(), all), "{place:?}");
    }
}

#[test]
fn tokens_end_where_a_value_was_redacted() {
    let value = &VALUES[0];
    for place in PLACES {
        let frames = [one(place, &["It", " is "]), one(place, &[&value[..9], &value[9..]]), one(place, &[" and", " so", " on"])];
        let end = place.frame("", &[], Some("stop"));
        let said = stream_of(place, &[&frames[..], &[end]].concat());
        assert_eq!(said, ("It is [REDACTED_HUGGINGFACE_TOKEN] and so on".to_owned(), "It is ".to_owned()), "{place:?}");
    }
}

#[test]
fn what_the_text_keeps_apart_is_not_joined_by_the_tokens() {
    let (value, other) = (&VALUES[0], &VALUES[5]);
    let (first, second) = value.split_at(10);
    for place in PLACES {
        // A value between two halves of one; and a piece whose tokens don't come, or say something else.
        let between =
            [vec![one(place, &[other, " "])], vec![place.frame("~ ~", &[], None)], vec![place.frame("~ ~", &tokens(place, &["#"]), None)]];
        for between in between {
            let frames = [vec![one(place, &["x ", first])], between, vec![one(place, &[second, " y"]), place.frame("", &[], Some("stop"))]];
            let (text, tokens) = stream_of(place, &frames.concat());
            assert!(text.ends_with(" y") && tokens == format!("x {first}"), "{place:?}: {text}: {tokens}");
        }
    }
}

#[test]
fn alternatives_spell_nothing() {
    let value = &VALUES[1];
    for place in PLACES {
        let said = tokens(place, &["a ", "b ", "c"]);
        let mut frame = place.unstreamed("a b c", &said);
        let text = frame.to_string();
        assert!(text.contains("other"), "{text}");
        frame = serde_json::from_str(&text.replace("other", value)).unwrap();
        let out = whole(begin(&policy(Mode::Soft), place.path()), &frame);
        assert!(!out.to_string().contains("sk-") && place.said(&out).1 == said, "{place:?}: {out}");
    }
}

#[test]
fn a_copy_in_bytes_that_says_something_else_takes_its_list_with_it() {
    let value = &VALUES[2];
    for place in PLACES.into_iter().filter(|place| *place != Place::Columns) {
        let text = place.unstreamed("hi", &tokens(place, &["hi"])).to_string();
        let other = format!(r#""bytes":{}"#, json!(value.as_bytes()));
        let frame: Value = serde_json::from_str(&text.replacen(r#""bytes":[104,105]"#, &other, 1)).unwrap();
        assert!(frame.to_string().contains(&other));
        let out = whole(begin(&policy(Mode::Hard), place.path()), &frame);
        assert_eq!(place.said(&out), ("hi".to_owned(), Vec::new()), "{place:?}");
        assert!(!out.to_string().contains("logprobs"), "{out}");
    }
}

#[test]
fn the_tokens_of_thoughts_and_of_a_servers_own_marks_are_left_out_and_those_of_the_answer_stay() {
    let place = Place::Chat;
    let thought = |piece: &str| {
        let mut frame = place.frame("", &tokens(place, &[piece]), None);
        frame["message"]["thinking"] = piece.into();
        frame
    };
    let mark = place.frame("", &tokens(place, &["</think>"]), None);
    let frames =
        [thought("be"), thought(" brief"), mark, one(place, &["So", ","]), one(place, &[" yes"]), place.frame("", &[], Some("stop"))];
    assert_eq!(stream_of(place, &frames), ("So, yes".to_owned(), "So, yes".to_owned()));
    // Unstreamed they come in one list.
    let all = tokens(place, &["be", " brief", "</think>", "So", ",", " yes"]);
    let mut answer = place.unstreamed("So, yes", &all);
    answer["message"]["thinking"] = "be brief".into();
    assert_eq!(place.said(&whole(begin(&policy(Mode::Hard), place.path()), &answer)).1, all[3..]);
    // An end that is no text stands behind.
    let all = tokens(place, &["So", ",", " yes", "<|end|>"]);
    assert_eq!(place.said(&whole(begin(&policy(Mode::Hard), place.path()), &place.unstreamed("So, yes", &all))).1, all[..3]);
}

#[test]
fn a_pause_gives_out_the_tokens_with_their_text() {
    let place = Place::Chat;
    let mut thought = place.frame("", &[], None);
    thought["message"]["thinking"] = "hm".into();
    // What may be the beginning of a value is held back until something else goes on.
    let frames = [one(place, &["a", " sk", "-"]), thought, one(place, &[" b"]), place.frame("", &[], Some("stop"))];
    let out = through_stream(begin(&policy(Mode::Hard), place.path()), place, &place.write(&frames), usize::MAX);
    assert_eq!(streamed(place, &out).0, "a sk- b");
    assert_eq!(joined(&streamed(place, &out).1), "a sk- b");
    let paused = out.iter().position(|frame| frame["message"]["thinking"] == "hm").unwrap();
    assert_eq!(joined(&streamed(place, &out[..paused]).1), "a sk-");
}

#[test]
fn a_character_that_is_spread_over_tokens_is_no_gap() {
    for place in PLACES {
        // As Ollama says the single bytes of one.
        let parts = ["A ", "\u{fffd}\u{fffd}", "\u{fffd}", "\u{fffd}", " é", "!"];
        let frames = [
            place.frame("A ", &tokens(place, &parts[..1]), None),
            place.frame("😀", &tokens(place, &parts[1..4]), None),
            place.frame(" é!", &tokens(place, &parts[4..]), Some("stop")),
        ];
        let out = through_stream(begin(&policy(Mode::Hard), place.path()), place, &place.write(&frames), 9);
        let said: Vec<String> = out.iter().flat_map(|frame| place.said(frame).1).map(|token| token.text).collect();
        assert_eq!(said, parts, "{place:?}");
        let all = tokens(place, &parts);
        assert_eq!(place.said(&whole(begin(&policy(Mode::Hard), place.path()), &place.unstreamed("A 😀 é!", &all))).1, all, "{place:?}");
        // One that says too much of them doesn't.
        let other = tokens(place, &["A ", "\u{fffd}", "\u{fffd}", " é!"]);
        assert!(place.said(&whole(begin(&policy(Mode::Hard), place.path()), &place.unstreamed("A 😀 é!", &other))).1.is_empty());
    }
}

#[test]
fn the_choices_of_an_answer_have_their_own_tokens() {
    let (first, second) = (Place::OpenAi, Place::OpenAiSecondChoice);
    let value = &VALUES[0];
    let mut frames = Vec::new();
    for (one, other) in [("a ", "x "), (&value[..], "y "), (" b", "z")] {
        let mut frame = first.frame(one, &tokens(first, &[one]), None);
        frame["choices"].as_array_mut().unwrap().push(second.frame(other, &tokens(second, &[other]), None)["choices"][0].clone());
        frames.push(frame);
    }
    frames.extend([first, second].map(|place| place.frame("", &[], Some("stop"))));
    let out = through_stream(begin(&policy(Mode::Hard), first.path()), first, &first.write(&frames), 13);
    assert_eq!(joined(&streamed(first, &out).1), "a ");
    assert_eq!(joined(&streamed(second, &out).1), "x y z");
}

#[test]
fn tokens_end_where_a_mask_comes_back() {
    let yaml = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {mode: hard, redaction: {requests: redact, restore: true}}";
    let policy = Policy::compile(&GuardPolicy::read(yaml).unwrap(), &Standing::default()).unwrap();
    let place = Place::Chat;
    let asked = || {
        let mut exchange = begin(&policy, place.path());
        let body = json!({"model": "m", "messages": [{"role": "user", "content": VALUES[4]}]}).to_string();
        let Forward::Encoded { body, .. } = exchange.judge_request(body.as_bytes()).unwrap() else { panic!("it is masked") };
        assert!(String::from_utf8(body).unwrap().contains("[REDACTED_EMAIL_1]"));
        exchange
    };
    let parts = ["I ", "know ", "[REDACTED", "_EMAIL_1", "]", " and", " [", "x", "]"];
    let given = (format!("I know {} and [x]", VALUES[4]), "I know ".to_owned());
    let (text, said) = place.said(&whole(asked(), &place.unstreamed(&parts.concat(), &tokens(place, &parts))));
    assert_eq!((text, joined(&said)), given);
    let frames = [frames_of(place, &tokens(place, &parts), &[1]), vec![place.frame("", &[], Some("stop"))]].concat();
    let (text, said) = streamed(place, &through_stream(asked(), place, &place.write(&frames), 5));
    assert_eq!((text, joined(&said)), given);
}

#[test]
fn a_request_for_log_probabilities_goes_on() {
    for (path, body) in [
        ("/api/chat", json!({"model": "m", "messages": [], "logprobs": true, "top_logprobs": 2})),
        ("/api/generate", json!({"model": "m", "prompt": "p", "logprobs": true, "top_logprobs": 2})),
        ("/v1/chat/completions", json!({"model": "m", "messages": [], "logprobs": true, "top_logprobs": 2})),
        ("/v1/completions", json!({"model": "m", "prompt": "p", "logprobs": 2})),
    ] {
        for mode in [Mode::Soft, Mode::Hard] {
            let mut exchange = begin(&policy(mode), path);
            let Forward::Encoded { body: told, .. } = exchange.judge_request(body.to_string().as_bytes()).unwrap() else {
                panic!("{path}")
            };
            assert_eq!(serde_json::from_slice::<Value>(&told).unwrap(), body, "{path} {mode}");
        }
    }
}

#[test]
fn what_is_left_out_is_counted() {
    let place = Place::Chat;
    let said = tokens(place, &["a ", &VALUES[0], " b"]);
    let mut exchange = begin(&policy(Mode::Hard), place.path());
    let AnswerPlan::Whole(mut judge) = exchange.open_answer(&answer_head("application/json")).unwrap() else { panic!() };
    judge.judge(place.unstreamed(&joined(&said), &said).to_string().as_bytes()).unwrap();
    // The alternatives of each, and two tokens.
    assert_eq!(judge.tally().dropped, 5);
}

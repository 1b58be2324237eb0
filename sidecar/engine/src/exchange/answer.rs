//! The answer's half of an exchange: what a model server says, judged as a whole or as it arrives.
//!
//! A [`Speaker`] holds the texts of one answer and what the controls say of them; a [`WholeJudge`] or a [`StreamJudge`] takes the
//! bytes apart and puts together what may go to the client.

mod blocks;
mod items;
mod logprobs;

use std::sync::Arc;

use super::Tally;
use super::restore::Restorer;
use super::shadow::ShadowJudge;
use crate::controls::{AnswerText, Control, Masks, Policy, Remedy};
use crate::detect::secrets::Named;
use crate::verdict::{Action, ControlId, Mode, Refusal};
use crate::wire::embeddings::around_vectors;
use crate::wire::framing::{FrameReader, Framing};
use crate::wire::{self, Arguments, Call, Event, Family, Frame, Json, Opaque, Shape, Speech, Token};
use blocks::Blocks;
use items::Items;
use logprobs::Tokens;

/// The most bytes of an unstreamed answer.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// The most bytes of one frame of a streamed answer.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// The most channels (choices times kinds of text) of one answer.
const MAX_CHANNELS: usize = 64;
/// The most bytes of tool calls that are collected from fragments.
const MAX_CALL_BYTES: usize = 1024 * 1024;
/// The most tool calls that are collected, since each is said in an event of its own.
const MAX_CALLS: usize = 128;

/// The channels in which a model thinks. What it answers comes behind them.
const THOUGHTS: [&str; 3] = ["thinking", "reasoning", "reasoning_content"];

/// Where `/api/show` says a model's own prompts. The Modelfile repeats the others.
const MODEL_PROMPTS: [&str; 4] = ["system", "template", "messages", "modelfile"];

/// The most bytes of a head that is said again with what the judge says of its own accord. One event may bring that about for each of its
/// pieces, so that a long head would make of a frame thousands of its size.
const MAX_HEAD_BYTES: usize = 1024;

/// The texts of one answer, and what the controls say of them.
#[derive(Debug)]
pub(super) struct Speaker {
    policy: Arc<Policy>,
    shape: Option<Shape>,
    tally: Tally,
    channels: Vec<Channel>,
    /// Texts of one kind that come in parts, and that clients join. Each part is judged by itself, once what it says behind the others is
    /// known for no value.
    joined: Vec<Joined>,
    /// For values that are there as a whole.
    value: Vec<Open>,
    /// The server said that another one makes this answer.
    is_remote: bool,
    /// What was masked in the request, to come back in what is said.
    masks: Masks,
}

/// One control's reading of one text.
#[derive(Debug)]
pub(super) struct Open {
    control: ControlId,
    mode: Mode,
    text: Box<dyn AnswerText>,
}

/// A text that arrives in pieces.
#[derive(Debug)]
struct Channel {
    choice: u64,
    name: &'static str,
    open: Vec<Open>,
    restorer: Restorer,
    /// What its tokens say of it once more.
    tokens: Tokens,
    ended: bool,
}

/// What all parts of one kind say.
#[derive(Debug)]
struct Joined {
    name: &'static str,
    open: Vec<Open>,
    /// What of the part can't be judged by itself yet.
    kept: String,
}

impl Joined {
    /// What of the part can.
    fn give(&mut self) -> Result<String, Refusal> {
        is_whole(&self.open)?;
        let unsure = self.open.iter().map(|open| open.text.unsure()).max().unwrap_or_default();
        let sure = self.kept.len().saturating_sub(unsure);
        Ok(self.kept.drain(..sure).collect())
    }
}

/// Nothing of what has to be redacted was given out at a pause, or with an earlier part.
fn is_whole(open: &[Open]) -> Result<(), Refusal> {
    if open.iter().any(|open| open.text.is_torn()) {
        return Err(unreadable_answer("a text goes on, behind another, in the middle of what has to be redacted"));
    }
    Ok(())
}

impl Speaker {
    pub(super) fn new(policy: Arc<Policy>, shape: Option<Shape>, tally: Tally, masks: Masks) -> Self {
        let value = open_all(&policy);
        Self { policy, shape, tally, channels: Vec::new(), joined: Vec::new(), value, is_remote: false, masks }
    }

    /// A text that is there as a whole.
    fn judge_value(&mut self, text: &mut String) {
        judge_once(&mut self.value, text, &mut self.tally);
    }

    fn judge_tree(&mut self, json: &mut Json) {
        json.each_text_mut(&mut |text| self.judge_value(text));
    }

    /// A text of the model's that is there as a whole: what was masked in the request comes back.
    fn judge_said(&mut self, text: &mut String) {
        self.judge_value(text);
        self.restore(text);
    }

    fn restore(&self, text: &mut String) {
        if !self.masks.is_empty() && text.contains('[') {
            *text = self.masks.restored(text);
        }
    }

    /// The same with the tokens that say it; gives those that may be said.
    fn judge_said_with(&mut self, list: Vec<Token>, text: &mut String, beside_a_thought: bool) -> Vec<Token> {
        let mut tokens = Tokens::default();
        tokens.hear(list, text, beside_a_thought);
        self.judge_said(text);
        tokens.give(text);
        tokens.end();
        self.tally.dropped += tokens.take_dropped();
        tokens.take()
    }

    fn judge_said_tree(&mut self, json: &mut Json) {
        json.each_text_mut(&mut |text| self.judge_said(text));
    }

    /// What a call is called with: a value is known by the name that it has there, too.
    fn judge_arguments_tree(&mut self, json: &mut Json) {
        json.each_named_text_mut("", &mut |name, text| {
            judge_named(&mut self.value, name, text, &mut self.tally);
            self.restore(text);
        });
    }

    /// The channel of a choice, by its place.
    fn channel(&mut self, choice: u64, name: &'static str) -> Result<usize, Refusal> {
        Ok(match self.channels.iter().position(|channel| channel.choice == choice && channel.name == name) {
            Some(place) => place,
            None if self.channels.len() == MAX_CHANNELS => return Err(unreadable_answer("it has too many choices")),
            None => {
                let (open, restorer, tokens) = (open_all(&self.policy), Restorer::default(), Tokens::default());
                self.channels.push(Channel { choice, name, open, restorer, tokens, ended: false });
                self.channels.len() - 1
            }
        })
    }

    /// The tokens that came beside the next piece of a channel, before that is said.
    fn hear(&mut self, choice: u64, name: &'static str, tokens: Vec<Token>, piece: &str, beside_a_thought: bool) -> Result<(), Refusal> {
        let place = self.channel(choice, name)?;
        self.channels[place].tokens.hear(tokens, piece, beside_a_thought);
        Ok(())
    }

    /// Takes the tokens of what was given out of a channel.
    fn take_tokens(&mut self, choice: u64, name: &'static str) -> Vec<Token> {
        let mut channels = self.channels.iter_mut();
        let Some(channel) = channels.find(|channel| channel.choice == choice && channel.name == name) else { return Vec::new() };
        self.tally.dropped += channel.tokens.take_dropped();
        channel.tokens.take()
    }

    /// The next piece of a channel; gives what of it may go out.
    fn say(&mut self, choice: u64, name: &'static str, piece: &str) -> Result<String, Refusal> {
        let place = self.channel(choice, name)?;
        let channel = &mut self.channels[place];
        if channel.ended {
            // What was said before the end has been given out: this piece can't be judged together with it.
            return if piece.is_empty() { Ok(String::new()) } else { Err(unreadable_answer("it goes on behind its end")) };
        }
        let out = push_through(&mut channel.open, piece, &mut self.tally);
        is_whole(&channel.open)?;
        let out = channel.restorer.push(&self.masks, out);
        channel.tokens.give(&out);
        Ok(out)
    }

    /// The next piece of a part, read behind the other parts of its kind; gives what of the part may be judged by itself now.
    fn say_joined(&mut self, name: &'static str, piece: &str) -> Result<String, Refusal> {
        let place = self.joined.iter().position(|joined| joined.name == name).unwrap_or_else(|| {
            self.joined.push(Joined { name, open: open_all(&self.policy), kept: String::new() });
            self.joined.len() - 1
        });
        let joined = &mut self.joined[place];
        joined.kept.push_str(piece);
        for Open { text, .. } in &mut joined.open {
            text.push(piece, &mut String::new(), &mut |_| {});
        }
        joined.give()
    }

    /// A part pauses while something else goes on; gives what may be judged all the same.
    fn pause_joined(&mut self, name: &'static str) -> Result<String, Refusal> {
        let Some(joined) = self.joined.iter_mut().find(|joined| joined.name == name) else { return Ok(String::new()) };
        joined.open.iter_mut().for_each(|open| open.text.pause(&mut String::new()));
        joined.give()
    }

    /// A part ends; gives the rest of it.
    fn end_joined(&mut self, name: &'static str) -> Result<String, Refusal> {
        let Some(joined) = self.joined.iter_mut().find(|joined| joined.name == name) else { return Ok(String::new()) };
        joined.open.iter_mut().for_each(|open| open.text.end_part());
        is_whole(&joined.open)?;
        Ok(std::mem::take(&mut joined.kept))
    }

    /// A part that is there as a whole, read behind the others of its kind.
    fn judge_joined(&mut self, name: &'static str, text: &str) -> Result<(), Refusal> {
        self.say_joined(name, text)?;
        self.end_joined(name).map(drop)
    }

    /// A fragment of a call belongs to a choice.
    fn begin_call(&mut self, choice: u64) -> Result<(), Refusal> {
        // So that the end of a choice that says nothing else is known, too.
        self.say(choice, "tool_calls", "")?;
        if self.channels.iter().any(|channel| channel.choice == choice && channel.ended) {
            // Clients would join it with a call that was judged and said.
            return Err(unreadable_answer("it goes on behind its end"));
        }
        Ok(())
    }

    /// Other channels of a choice pause while these go on; gives what they still have to say, so that it is said before.
    fn pause_others(&mut self, choice: u64, going_on: &[(&'static str, String)]) -> Vec<(u64, &'static str, String)> {
        let mut rest = Vec::new();
        for channel in self.channels.iter_mut().filter(|channel| channel.choice == choice && !channel.ended) {
            if going_on.iter().all(|(name, text)| *name != channel.name || text.is_empty()) {
                let text = pause_through(&mut channel.open, &mut self.tally);
                let text = channel.restorer.push(&self.masks, text) + &channel.restorer.finish();
                channel.tokens.give(&text);
                if !text.is_empty() {
                    rest.push((choice, channel.name, text));
                }
            }
        }
        rest
    }

    /// Ends a choice, or all, and gives the rest of each channel.
    fn end(&mut self, choice: Option<u64>) -> Result<Vec<(u64, &'static str, String)>, Refusal> {
        let mut rest = Vec::new();
        for channel in self.channels.iter_mut().filter(|channel| choice.is_none_or(|choice| choice == channel.choice)) {
            channel.ended = true;
            let text = finish_through(&mut channel.open, &mut self.tally);
            is_whole(&channel.open)?;
            let text = channel.restorer.push(&self.masks, text) + &channel.restorer.finish();
            channel.tokens.give(&text);
            channel.tokens.end();
            self.tally.dropped += channel.tokens.take_dropped();
            if !text.is_empty() {
                rest.push((channel.choice, channel.name, text));
            }
        }
        Ok(rest)
    }

    /// Judges tool calls that are there as a whole; gives those that may go out.
    fn judge_calls(&mut self, calls: Vec<Call>) -> Result<Vec<Call>, Refusal> {
        let policy = Arc::clone(&self.policy);
        let mut kept = Vec::with_capacity(calls.len());
        'calls: for mut call in calls {
            for control in &policy.controls {
                let Some(finding) = control.judge_call(&call.name) else { continue };
                if let Some(action) = finding.remedy.action() {
                    self.tally.violation(control.id(), finding.kind, control.mode(), action);
                }
                if let Some(refusal) = finding.remedy.refusal(control.id(), finding.kind) {
                    return Err(refusal);
                }
                if matches!(finding.remedy, Remedy::RemoveTool(_)) {
                    continue 'calls;
                }
            }
            self.judge_value(&mut call.name);
            if let Some(id) = &mut call.id {
                self.judge_value(id);
            }
            match &mut call.arguments {
                Arguments::Value(value) => self.judge_arguments_tree(value),
                Arguments::Text(text) => self.judge_arguments(text)?,
            }
            kept.push(call);
        }
        Ok(kept)
    }

    /// Takes out calls that break off in their arguments, where the answer says that it ends for its length: nobody can judge them, or
    /// call by them. Clients know from the reason that something is missing.
    fn drop_cut_calls<C>(&mut self, finish: Option<&Json>, calls: &mut Vec<C>, call: impl Fn(&C) -> &Call) {
        if finish.and_then(Json::as_str) == Some("length") {
            let before = calls.len();
            calls.retain(|of| match &call(of).arguments {
                Arguments::Text(text) => text.trim().is_empty() || Json::read(text.as_bytes()).is_ok(),
                Arguments::Value(_) => true,
            });
            self.tally.dropped += (before - calls.len()) as u64;
        }
    }

    /// Judges the arguments of a call that are JSON in a string.
    fn judge_arguments(&mut self, text: &mut String) -> Result<(), Refusal> {
        if text.trim().is_empty() {
            return Ok(());
        }
        // Escapes inside the string could hide what it says, so it is read as what it is.
        let mut value = Json::read(text.as_bytes()).map_err(|_| unreadable_answer("a tool call's arguments are not JSON"))?;
        self.judge_arguments_tree(&mut value);
        *text = value.to_string();
        Ok(())
    }

    /// Judges that another server made the answer, where an event says so; the first that does is the one that counts.
    fn judge_origin(&mut self, event: &Event) -> Result<(), Refusal> {
        if self.is_remote || !event.is_remote() {
            return Ok(());
        }
        self.is_remote = true;
        let policy = Arc::clone(&self.policy);
        for control in &policy.controls {
            let Some(finding) = control.judge_remote_answer() else { continue };
            if let Some(action) = finding.remedy.action() {
                self.tally.violation(control.id(), finding.kind, control.mode(), action);
            }
            if let Some(refusal) = finding.remedy.refusal(control.id(), finding.kind) {
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Puts pictures back where the policy lets them pass.
    fn put_pictures(&mut self, json: &mut Json, pictures: Vec<Option<String>>) -> Result<(), Refusal> {
        let Some(Json::Array(rows)) = json.get_mut("data") else { return Ok(()) };
        for (row, picture) in rows.iter_mut().zip(pictures) {
            if let (Some(Json::String(place)), Some(picture)) = (row.get_mut("b64_json"), picture) {
                if !self.policy.protocol.passes(Opaque::Image) {
                    return Err(unreadable_answer("it is a picture, which the policy doesn't let pass"));
                }
                self.tally.uninspected("answer_part", picture.len());
                *place = picture;
            }
        }
        Ok(())
    }

    /// Judges what an event says beside its texts and calls.
    fn judge_rest(&mut self, event: &mut Event) -> Result<(), Refusal> {
        self.judge_origin(event)?;
        self.tally.dropped += std::mem::take(&mut event.dropped) as u64;
        if let Some(picture) = event.picture.take() {
            let is_picture = is_base64(&picture) && self.policy.protocol.passes(Opaque::Image);
            if is_picture {
                self.tally.uninspected("answer_part", picture.len());
                event.picture = Some(picture);
            } else {
                self.tally.dropped += 1;
            }
        }
        for (_, value) in event.head.iter_mut().chain(&mut event.tail) {
            match value {
                Json::String(text) => self.judge_value(text),
                // Counts and times.
                Json::Number(_) | Json::Bool(_) | Json::Null => {}
                other => self.judge_tree(other),
            }
        }
        for speech in &mut event.speeches {
            if let Some(role) = &mut speech.role {
                self.judge_value(role);
            }
            if let Some(finish) = &mut speech.finish {
                self.judge_tree(finish);
            }
        }
        Ok(())
    }
}

/// Takes the pictures out of an answer of OpenAI's images: one a row.
fn take_pictures(json: &mut Json) -> Vec<Option<String>> {
    let Some(Json::Array(rows)) = json.get_mut("data") else { return Vec::new() };
    rows.iter_mut()
        .map(|row| match row.get_mut("b64_json") {
            Some(Json::String(data)) if is_base64(data) => Some(std::mem::take(data)),
            _ => None,
        })
        .collect()
}

/// Whether one of its texts is a thought.
fn thinks(speech: &Speech) -> bool {
    speech.texts.iter().any(|(name, text)| THOUGHTS.contains(name) && !text.is_empty())
}

/// Takes the tokens of a channel, where there are any.
fn take_list(lists: &mut Vec<(&'static str, Vec<Token>)>, name: &str) -> Vec<Token> {
    lists.iter().position(|(of, _)| *of == name).map(|place| lists.swap_remove(place).1).unwrap_or_default()
}

fn is_base64(text: &str) -> bool {
    text.trim_end_matches('=').bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Judges a text that is there as a whole.
pub(super) fn judge_once(open: &mut [Open], text: &mut String, tally: &mut Tally) {
    judge_named(open, "", text, tally);
}

/// Judges a text that is there as a whole, by itself, and once more behind the name that it is assigned to, as JSON writes it.
fn judge_named(open: &mut [Open], name: &str, text: &mut String, tally: &mut Tally) {
    for Open { control, mode, text: reader } in open {
        let mut times = 0;
        let mut read = |text: &str, times: &mut u32| {
            let mut out = String::with_capacity(text.len());
            let mut found = |kind| {
                *times += 1;
                tally.violation(*control, kind, *mode, redacted(*mode));
            };
            reader.push(text, &mut out, &mut found);
            reader.finish(&mut out, &mut found);
            out
        };
        *text = read(text, &mut times);
        // Where nothing is replaced, what was found would be found again.
        if (times == 0 || *mode != Mode::Monitor)
            && let Some(named) = Named::new(name, text)
        {
            let said = read(named.said(), &mut times);
            // (Where the name itself holds a value, what it is assigned was judged by itself.)
            if let Some(said) = named.text_in(&said) {
                said.clone_into(text);
            }
        }
    }
}

pub(super) fn open_all(policy: &Policy) -> Vec<Open> {
    let open = |control: &dyn Control| Some(Open { control: control.id(), mode: control.mode(), text: control.open_answer()? });
    policy.controls.iter().filter_map(|control| open(&**control)).collect()
}

fn push_through(open: &mut [Open], piece: &str, tally: &mut Tally) -> String {
    let mut current = piece.to_owned();
    for Open { control, mode, text } in open {
        let mut out = String::with_capacity(current.len());
        text.push(&current, &mut out, &mut |kind| tally.violation(*control, kind, *mode, redacted(*mode)));
        current = out;
    }
    current
}

fn pause_through(open: &mut [Open], tally: &mut Tally) -> String {
    let mut current = String::new();
    for Open { control, mode, text } in open {
        let mut out = String::new();
        if !current.is_empty() {
            text.push(&current, &mut out, &mut |kind| tally.violation(*control, kind, *mode, redacted(*mode)));
        }
        text.pause(&mut out);
        current = out;
    }
    current
}

fn finish_through(open: &mut [Open], tally: &mut Tally) -> String {
    let mut current = String::new();
    for Open { control, mode, text } in open {
        let mut out = String::new();
        let mut found = |kind| tally.violation(*control, kind, *mode, redacted(*mode));
        if !current.is_empty() {
            text.push(&current, &mut out, &mut found);
        }
        text.finish(&mut out, &mut found);
        current = out;
    }
    current
}

const fn redacted(mode: Mode) -> Action {
    match mode {
        Mode::Monitor => Action::Counted,
        Mode::Soft | Mode::Hard => Action::Redacted,
    }
}

fn unreadable_answer(reason: &'static str) -> Refusal {
    Refusal {
        status: 502,
        code: "unreadable_answer",
        message: format!("the model server's answer can't be inspected: {reason}").into(),
        control: ControlId::Protocol,
    }
}

/// The answer ended before it was complete.
#[must_use]
pub fn broken_answer() -> Refusal {
    Refusal {
        status: 502,
        code: "incomplete_answer",
        message: "the model server broke off its answer".into(),
        control: ControlId::Protocol,
    }
}

/// The answer is larger than [`MAX_ANSWER_BYTES`].
#[must_use]
pub fn answer_too_large() -> Refusal {
    unreadable_answer("it is too large")
}

/// Judges an answer that is there as a whole.
#[derive(Debug)]
pub struct WholeJudge {
    speaker: Speaker,
    content: Content,
    /// The same answer under another policy, which changes nothing.
    pub(super) shadow: Option<Box<ShadowJudge<Box<Self>>>>,
}

/// What a whole answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Json,
    /// JSON in which vectors stand, which say nothing.
    Vectors,
    /// JSON in which pictures stand, in base64.
    Pictures,
    /// What `/api/show` says of a model.
    Shown,
    Plain,
}

impl WholeJudge {
    pub(super) fn new(speaker: Speaker, content: Content) -> Self {
        Self { speaker, content, shadow: None }
    }

    /// Notes an answer that is too large to be judged, for the policy that is judged beside the one in force.
    pub fn is_too_large(&mut self) {
        if let Some(shadow) = &mut self.shadow {
            shadow.too_large();
        }
    }

    /// Gives the bytes that may go to the client. In monitor an answer that can't be read is counted, and comes back as it was.
    pub fn judge(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        if let Some(shadow) = &mut self.shadow {
            shadow.judge(bytes);
        }
        let judged = self.judge_strictly(bytes);
        if self.speaker.policy.mode == Mode::Monitor {
            if let Err(refusal) = judged
                && refusal.control == ControlId::Protocol
            {
                self.speaker.tally.violation(ControlId::Protocol, refusal.code, Mode::Monitor, Action::Counted);
                self.speaker.tally.uninspected("undecodable_answer", bytes.len());
            }
            return Ok(bytes.to_vec());
        }
        if let Err(refusal) = &judged
            && refusal.control == ControlId::Protocol
        {
            self.speaker.tally.violation(ControlId::Protocol, refusal.code, self.speaker.policy.mode, Action::Blocked);
        }
        judged
    }

    fn judge_strictly(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        if self.content == Content::Plain {
            let mut text = std::str::from_utf8(bytes).map_err(|_| unreadable_answer("it is not UTF-8"))?.to_owned();
            self.speaker.judge_said(&mut text);
            return Ok(text.into_bytes());
        }
        let mut out = Vec::with_capacity(bytes.len());
        let Some(shape) = self.speaker.shape else {
            let mut json = Json::read(bytes).map_err(|_| unreadable_answer("it is not JSON"))?;
            match self.content {
                Content::Vectors => around_vectors(&mut json, |json| self.speaker.judge_tree(json)),
                Content::Pictures => {
                    let pictures = take_pictures(&mut json);
                    self.speaker.judge_said_tree(&mut json);
                    self.speaker.put_pictures(&mut json, pictures)?;
                }
                Content::Shown => {
                    if !self.speaker.policy.protocol.shows_prompts() {
                        self.speaker.tally.dropped += json.remove(&MODEL_PROMPTS) as u64;
                    }
                    self.speaker.judge_tree(&mut json);
                }
                Content::Json | Content::Plain => self.speaker.judge_said_tree(&mut json),
            }
            json.write(&mut out);
            return Ok(out);
        };
        if shape == Shape::Response {
            let mut json = Json::read(bytes).map_err(|_| unreadable_answer("it is not JSON"))?;
            self.speaker.judge_response(&mut json)?;
            json.write(&mut out);
            return Ok(out);
        }
        match wire::decode_frame(shape, bytes).map_err(|_| unreadable_answer("it has not the form of its API"))? {
            Frame::End => return Err(unreadable_answer("it is empty")),
            Frame::Error(mut error) => {
                self.speaker.judge_tree(&mut error);
                Json::Object(vec![("error".into(), error)]).write(&mut out);
            }
            Frame::Event(mut event) => {
                self.speaker.judge_rest(&mut event)?;
                for speech in &mut event.speeches {
                    let (mut lists, beside_a_thought) = (std::mem::take(&mut speech.tokens), thinks(speech));
                    for (name, text) in &mut speech.texts {
                        if shape == Shape::AnthropicMessage {
                            self.speaker.judge_joined(name, text)?;
                        }
                        let list = take_list(&mut lists, name);
                        speech.tokens.push((name, self.speaker.judge_said_with(list, text, beside_a_thought)));
                    }
                    self.speaker.tally.dropped += lists.iter().map(|(_, list)| list.len() as u64).sum::<u64>();
                    self.speaker.drop_cut_calls(speech.finish.as_ref(), &mut speech.calls, |call| call);
                    speech.calls = self.speaker.judge_calls(std::mem::take(&mut speech.calls))?;
                }
                wire::encode_event(&event, shape, &mut out);
            }
        }
        Ok(out)
    }

    /// What was counted, request and answer together.
    #[must_use]
    pub fn tally(&mut self) -> &mut Tally {
        if let Some(shadow) = &mut self.shadow {
            self.speaker.tally.shadow = Some(Box::new(shadow.seen()));
        }
        &mut self.speaker.tally
    }
}

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    On,
    /// All has been said; what the server still sends doesn't count.
    Ended,
}

/// How a stream ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server said that this was all, or that it gave up.
    Said,
    /// The guard ended it with an error.
    Refused,
    /// The server broke off, and the guard ended it with an error.
    Broken,
}

/// A tool call whose fragments are being collected.
#[derive(Debug)]
struct Collected {
    /// What the event of its first fragment said of itself: the choice, the role, the channels. It says no text any more.
    speech: Speech,
    /// Its number by the server. The call itself bears the one that goes to the client.
    index: Option<u64>,
    call: Call,
}

impl Collected {
    /// Whether a fragment begins another call, though it bears the number of this one: most of the parsers of Ollama 0.17.4 give every call
    /// the number nought. Some versions of vLLM give each fragment an id of its own, but no name.
    fn is_another(&self, fragment: &Call) -> bool {
        let ids = [&self.call.id, &fragment.id].map(|id| id.as_deref().unwrap_or_default());
        ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1] && !self.call.name.is_empty() && !fragment.name.is_empty()
    }
}

/// Judges an answer as it arrives.
#[derive(Debug)]
pub struct StreamJudge {
    speaker: Speaker,
    reader: FrameReader,
    framing: Framing,
    family: Family,
    ended: Option<Ending>,
    /// Monitor can't read this stream any more.
    blind: bool,
    /// The head of what is said of the judge's own accord: that of the event which brings it about.
    head: Vec<(&'static str, Json)>,
    /// Tool calls whose fragments are being collected.
    calls: Vec<Collected>,
    call_bytes: usize,
    /// Of an answer that comes in blocks.
    blocks: Blocks,
    /// Of an answer that comes in items.
    items: Items,
    /// The same answer under another policy, which changes nothing.
    pub(super) shadow: Option<Box<ShadowJudge<Box<Self>>>>,
}

impl StreamJudge {
    pub(super) fn new(speaker: Speaker, framing: Framing, family: Family) -> Self {
        let reader = FrameReader::new(framing, MAX_FRAME_BYTES);
        Self {
            speaker,
            reader,
            framing,
            family,
            ended: None,
            blind: false,
            head: Vec::new(),
            calls: Vec::new(),
            call_bytes: 0,
            blocks: Blocks::default(),
            items: Items::default(),
            shadow: None,
        }
    }

    /// Takes bytes of the answer and appends those that may go to the client.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Flow {
        if let Some(shadow) = &mut self.shadow {
            shadow.push(bytes);
        }
        if self.blind {
            self.speaker.tally.uninspected("undecodable_answer", bytes.len());
            return Flow::On;
        }
        if self.ended.is_some() {
            return Flow::Ended;
        }
        let mut reader = std::mem::replace(&mut self.reader, FrameReader::new(self.framing, 0));
        let mut trouble = None;
        let read = reader.push(bytes, &mut |frame| match self.frame(frame, out) {
            Ok(()) => self.ended.is_none(),
            Err(refusal) => {
                trouble = Some(refusal);
                false
            }
        });
        self.reader = reader;
        if read.is_err() {
            trouble = Some(unreadable_answer("a frame is too large"));
        }
        if let Some(refusal) = trouble {
            self.give_up(&refusal, bytes.len(), out);
        }
        if self.ended.is_some() { Flow::Ended } else { Flow::On }
    }

    /// The server has ended its answer.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(shadow) = &mut self.shadow {
            shadow.finish();
        }
        if self.ended.is_some() || self.blind {
            return;
        }
        let mut reader = std::mem::replace(&mut self.reader, FrameReader::new(self.framing, 0));
        let mut trouble = None;
        let whole = reader.finish(&mut |frame| {
            trouble = self.frame(frame, out).err();
            false
        });
        match (trouble, whole) {
            (Some(refusal), _) => self.give_up(&refusal, 0, out),
            // Progress reports and the like have no last word.
            (None, Ok(true)) if self.speaker.shape.is_none() => self.ended = Some(Ending::Said),
            (None, _) if self.ended.is_none() => self.abort(&broken_answer(), Ending::Broken, out),
            _ => {}
        }
    }

    /// The answer can't go on. What is held back stays back: the rest of it may be half of a secret.
    pub fn abort(&mut self, refusal: &Refusal, ending: Ending, out: &mut Vec<u8>) {
        if self.ended.is_none() {
            self.ended = Some(ending);
            out.extend_from_slice(&self.family.error_frame(refusal));
        }
    }

    /// How the answer ended, once it has.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ended
    }

    /// How many bytes of calls have come, which are judged once a call is whole: at most 1 MiB.
    #[must_use]
    pub fn call_bytes(&self) -> usize {
        self.call_bytes
    }

    /// What was counted, request and answer together.
    #[must_use]
    pub fn tally(&mut self) -> &mut Tally {
        if let Some(shadow) = &mut self.shadow {
            self.speaker.tally.shadow = Some(Box::new(shadow.seen()));
        }
        &mut self.speaker.tally
    }

    fn give_up(&mut self, refusal: &Refusal, bytes: usize, out: &mut Vec<u8>) {
        let mode = self.speaker.policy.mode;
        if mode == Mode::Monitor {
            self.blind = true;
            self.speaker.tally.violation(refusal.control, refusal.code, mode, Action::Counted);
            self.speaker.tally.uninspected("undecodable_answer", bytes);
            return;
        }
        if refusal.control == ControlId::Protocol {
            self.speaker.tally.violation(refusal.control, refusal.code, mode, Action::Blocked);
        }
        self.abort(refusal, Ending::Refused, out);
    }

    fn frame(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(shape) = self.speaker.shape else {
            let mut json = Json::read(bytes).map_err(|_| unreadable_answer("a line is not JSON"))?;
            self.speaker.judge_tree(&mut json);
            self.write(out, |out| json.write(out));
            return Ok(());
        };
        if shape == Shape::AnthropicEvent {
            return self.part(bytes, out);
        }
        if shape == Shape::Response {
            return self.item_event(bytes, out);
        }
        match wire::decode_frame(shape, bytes).map_err(|_| unreadable_answer("a frame has not the form of its API"))? {
            Frame::Event(event) => self.event(event, shape, out),
            Frame::Error(mut error) => {
                self.speaker.judge_tree(&mut error);
                let json = Json::Object(vec![("error".into(), error)]);
                self.write(out, |out| json.write(out));
                self.ended = Some(Ending::Said);
                Ok(())
            }
            Frame::End => {
                self.end(None, shape, out)?;
                self.write(out, |out| out.extend_from_slice(b"[DONE]"));
                self.ended = Some(Ending::Said);
                Ok(())
            }
        }
    }

    fn event(&mut self, mut event: Event, shape: Shape, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.speaker.judge_rest(&mut event)?;
        let turns = event.done || event.speeches.iter().any(|speech| speech.finish.is_some() || !speech.calls.is_empty());
        if turns || self.head.is_empty() {
            self.keep_head(&event.head);
        }
        let mut collected = false;
        for place in 0..event.speeches.len() {
            let speech = &event.speeches[place];
            if !speech.calls.is_empty() || speech.texts.iter().any(|(_, text)| !text.is_empty()) {
                for (choice, name, text) in self.speaker.pause_others(speech.choice, &speech.texts) {
                    self.keep_head(&event.head);
                    self.say_rest(choice, name, text, shape, out);
                }
            }
            let speech = &mut event.speeches[place];
            let (mut lists, beside_a_thought) = (std::mem::take(&mut speech.tokens), thinks(speech));
            for (name, text) in &mut speech.texts {
                self.speaker.hear(speech.choice, name, take_list(&mut lists, name), text, beside_a_thought)?;
                *text = self.speaker.say(speech.choice, name, text)?;
                let tokens = self.speaker.take_tokens(speech.choice, name);
                if !tokens.is_empty() {
                    speech.tokens.push((name, tokens));
                }
            }
            for (name, list) in lists {
                self.speaker.hear(speech.choice, name, list, "", beside_a_thought)?;
            }
            let calls = std::mem::take(&mut speech.calls);
            if shape == Shape::OpenAiChunk {
                collected |= !calls.is_empty();
                self.collect(&event.speeches[place], calls)?;
            } else {
                speech.calls = self.speaker.judge_calls(calls)?;
            }
        }
        // An event that said nothing but fragments of calls would say nothing now; the call is said when it is whole.
        let says_nothing =
            |speech: &Speech| speech.finish.is_none() && speech.tokens.is_empty() && speech.texts.iter().all(|(_, text)| text.is_empty());
        if collected && event.speeches.iter().all(says_nothing) && event.tail.is_empty() && !event.done {
            return Ok(());
        }
        // What ends here must be said to the end before the end is said; a last piece in the same event comes first.
        let ends: Vec<Option<u64>> = if event.done {
            vec![None]
        } else {
            event.speeches.iter().filter(|speech| speech.finish.is_some()).map(|speech| Some(speech.choice)).collect()
        };
        if !ends.is_empty() {
            let mut last_words = Event { head: event.head.clone(), speeches: Vec::new(), ..Event::default() };
            for speech in event.speeches.iter_mut().filter(|speech| speech.texts.iter().any(|(_, text)| !text.is_empty())) {
                let texts = speech.texts.iter_mut().map(|(name, text)| (*name, std::mem::take(text))).collect();
                let tokens = std::mem::take(&mut speech.tokens);
                last_words.speeches.push(Speech { choice: speech.choice, role: speech.role.clone(), texts, tokens, ..Speech::default() });
            }
            if !last_words.speeches.is_empty() {
                self.write(out, |out| wire::encode_event(&last_words, shape, out));
            }
            for speech in event.speeches.iter().filter(|speech| speech.finish.is_some()) {
                let of_choice = |of: &Collected| of.speech.choice == speech.choice;
                let (mut calls, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.calls).into_iter().partition(of_choice);
                self.speaker.drop_cut_calls(speech.finish.as_ref(), &mut calls, |of| &of.call);
                self.calls = calls.into_iter().chain(others).collect();
            }
            for choice in ends {
                self.end(choice, shape, out)?;
            }
        }
        self.ended = event.done.then_some(Ending::Said);
        self.write(out, |out| wire::encode_event(&event, shape, out));
        Ok(())
    }

    /// Keeps what fits of a head. Nothing that servers say in one is as long.
    fn keep_head(&mut self, head: &[(&'static str, Json)]) {
        let mut room = MAX_HEAD_BYTES;
        self.head.clear();
        for (name, value) in head {
            let size = match value {
                Json::String(text) => text.len(),
                Json::Number(_) | Json::Bool(_) | Json::Null => 0,
                Json::Array(_) | Json::Object(_) => continue,
            };
            if let Some(left) = room.checked_sub(size) {
                room = left;
                self.head.push((name, value.clone()));
            }
        }
    }

    /// Says the rest of a choice, or of all: held-back text, and collected calls.
    fn end(&mut self, choice: Option<u64>, shape: Shape, out: &mut Vec<u8>) -> Result<(), Refusal> {
        for (choice, name, text) in self.speaker.end(choice)? {
            self.say_rest(choice, name, text, shape, out);
        }
        let (ending, staying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.calls).into_iter().partition(|of| choice.is_none_or(|choice| choice == of.speech.choice));
        self.calls = staying;
        for Collected { speech, call, .. } in ending {
            let calls = self.speaker.judge_calls(vec![call])?;
            if !calls.is_empty() {
                self.say(Speech { calls, ..speech }, shape, out);
            }
        }
        Ok(())
    }

    /// Says the rest of a channel in an event of its own, with the tokens that say it.
    fn say_rest(&mut self, choice: u64, name: &'static str, text: String, shape: Shape, out: &mut Vec<u8>) {
        let tokens = self.speaker.take_tokens(choice, name);
        let tokens = if tokens.is_empty() { Vec::new() } else { vec![(name, tokens)] };
        self.say(Speech { choice, texts: vec![(name, text)], tokens, ..Speech::default() }, shape, out);
    }

    /// Says something in an event of its own, of the form that the answer's other events have.
    fn say(&self, mut speech: Speech, shape: Shape, out: &mut Vec<u8>) {
        // Fields that Ollama's events always have.
        let always = match shape {
            Shape::OllamaChat => Some("content"),
            Shape::OllamaGenerate => Some("response"),
            Shape::OpenAiText => Some("text"),
            Shape::OpenAiChunk | Shape::OpenAiCompletion | Shape::Response | Shape::AnthropicMessage | Shape::AnthropicEvent => None,
        };
        if let Some(always) = always.filter(|always| speech.texts.iter().all(|(name, _)| name != always)) {
            speech.texts.insert(0, (always, String::new()));
        }
        if shape == Shape::OllamaChat {
            speech.role = Some("assistant".into());
        }
        let event = Event { head: self.head.clone(), speeches: vec![speech], ..Event::default() };
        self.write(out, |out| wire::encode_event(&event, shape, out));
    }

    /// Collects fragments of tool calls, which can't be judged one by one.
    fn collect(&mut self, speech: &Speech, fragments: Vec<Call>) -> Result<(), Refusal> {
        let choice = speech.choice;
        for mut fragment in fragments {
            self.speaker.begin_call(choice)?;
            let size = |call: &Call| {
                call.name.len()
                    + call.id.as_ref().map_or(0, String::len)
                    + if let Arguments::Text(text) = &call.arguments { text.len() } else { 0 }
                    + 64
            };
            self.call_bytes += size(&fragment);
            if self.call_bytes > MAX_CALL_BYTES || self.calls.len() >= MAX_CALLS {
                return Err(unreadable_answer("its tool calls are too large"));
            }
            let of_choice = self.calls.iter_mut().rev().filter(|of| of.speech.choice == choice);
            let known = of_choice
                .into_iter()
                .find(|of| fragment.index.is_some() && of.index == fragment.index || fragment.index.is_none() && fragment.id.is_none());
            if let Some(Collected { call, .. }) = known.filter(|of| !of.is_another(&fragment)) {
                call.name.push_str(&fragment.name);
                call.id = call.id.take().or(fragment.id);
                match (&mut call.arguments, fragment.arguments) {
                    (Arguments::Text(text), Arguments::Text(more)) => text.push_str(&more),
                    _ => return Err(unreadable_answer("a tool call's arguments are said in two ways")),
                }
                continue;
            }
            let texts = speech.texts.iter().map(|(name, _)| (*name, String::new())).collect();
            // One event may begin many calls, so that a long role would be said once for each.
            let role = speech.role.clone().filter(|role| role.len() <= MAX_HEAD_BYTES);
            let index = fragment.index;
            let taken = |index| self.calls.iter().any(|of| of.speech.choice == choice && of.call.index == index);
            if index.is_some() && taken(index) {
                // Clients join by the number what bears the same: two calls would become one, which was not judged.
                let most = self.calls.iter().filter(|of| of.speech.choice == choice).filter_map(|of| of.call.index).max();
                let next = most.and_then(|most| most.checked_add(1));
                fragment.index = Some(next.ok_or_else(|| unreadable_answer("its tool calls are too many"))?);
            }
            self.calls.push(Collected { speech: Speech { choice, role, texts, ..Speech::default() }, index, call: fragment });
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>, json: impl FnOnce(&mut Vec<u8>)) {
        match self.framing {
            Framing::Lines => {
                json(out);
                out.push(b'\n');
            }
            Framing::Events => {
                out.extend_from_slice(b"data: ");
                json(out);
                out.extend_from_slice(b"\n\n");
            }
        }
    }
}

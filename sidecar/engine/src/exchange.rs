//! One request and its answer, walked through the controls in order.
//!
//! [`Exchange::begin`] looks at the head, [`Exchange::judge_request`] at the body, [`Exchange::open_answer`] at the answer's head; a
//! [`StreamJudge`] or a [`WholeJudge`] then takes its bytes. In monitor the same is done and what comes out is thrown away: the
//! caller forwards the bytes that it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::controls::{AnswerText, Asked, Caller, Control, Policy, Remedy};

use crate::verdict::{Action, ControlId, Mode, Refusal, Violation};
use crate::wire::answer::Frame;
use crate::wire::framing::{FrameReader, Framing};
use crate::wire::routes::{self, Lookup};
use crate::wire::{self, Arguments, Body, Call, Class, Event, Family, Json, MessageIndex, Request, Route, Shape, Speech};

/// The most bytes of a request's body that are judged.
pub const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;
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

/// What stands in the place of a passage that was cut out.
const CUT: &str = "[removed by llm-guard: prompt injection]";

/// What is counted of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Violations, and how often.
    pub violations: BTreeMap<Violation, u64>,
    /// Bytes that passed without being judged, by the reason.
    pub uninspected: BTreeMap<&'static str, u64>,
    /// Fields that were left out of requests and answers.
    pub dropped: u64,
}

impl Tally {
    fn violation(&mut self, control: ControlId, kind: &'static str, mode: Mode, action: Action) {
        *self.violations.entry(Violation { control, kind, mode, action }).or_default() += 1;
    }

    /// Adds bytes that nobody looked at.
    pub fn uninspected(&mut self, reason: &'static str, bytes: usize) {
        if bytes > 0 {
            *self.uninspected.entry(reason).or_default() += bytes as u64;
        }
    }

    /// What was done and why, as the response headers say it: each in a closed set's words, joined by commas. Nothing where
    /// nothing was done.
    #[must_use]
    pub fn headers(&self) -> Option<(String, String)> {
        let (mut actions, mut reasons): (Vec<Action>, Vec<ControlId>) = (Vec::new(), Vec::new());
        for violation in self.violations.keys().filter(|violation| violation.action != Action::Counted) {
            actions.push(violation.action);
            reasons.push(violation.control);
        }
        actions.sort_unstable();
        actions.dedup();
        reasons.sort_unstable();
        reasons.dedup();
        let join = |names: Vec<&str>| names.join(", ");
        (!actions.is_empty()).then(|| (join(actions.iter().map(|a| a.name()).collect()), join(reasons.iter().map(|r| r.name()).collect())))
    }
}

/// A request's head, as far as it is judged.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h> {
    /// The method.
    pub method: &'h str,
    /// The target's path, as it came.
    pub path: &'h str,
    /// Every `Content-Encoding` there is.
    pub content_encoding: Option<&'h str>,
    /// Who asks.
    pub caller: Caller,
}

/// What has to be done with a request.
#[derive(Debug)]
pub enum Next {
    /// Read the body, up to [`MAX_REQUEST_BYTES`], and have it judged.
    ReadBody,
    /// Forward everything as it comes.
    Pass,
    /// Answer with an error.
    Refuse(Refusal),
}

/// What has to be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// What came.
    Original,
    /// These bytes, to this path.
    Encoded {
        /// The path, in the one spelling that every reader takes for the same.
        path: String,
        /// The body.
        body: Vec<u8>,
    },
}

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    policy: Arc<Policy>,
    route: Option<&'static Route>,
    segment: Option<String>,
    family: Family,
    head_only: bool,
    caller: Caller,
    /// What was counted so far.
    pub tally: Tally,
}

impl Exchange {
    /// Looks at the head of a request.
    #[must_use]
    pub fn begin(policy: Arc<Policy>, head: &RequestHead<'_>) -> (Self, Next) {
        let found = routes::find(head.method, head.path);
        let (route, segment) = match found {
            Lookup::Found(route, ref segment) => (Some(route), segment.clone()),
            _ => (None, None),
        };
        let family = route.map_or_else(|| Family::of_path(head.path), |route| route.family);
        let head_only = head.method == "HEAD";
        let mut exchange = Self { policy, route, segment, family, head_only, caller: head.caller, tally: Tally::default() };
        let next = exchange.look_at(&found, head);
        (exchange, next)
    }

    fn look_at(&mut self, found: &Lookup, head: &RequestHead<'_>) -> Next {
        let route = match found {
            Lookup::Found(route, _) => *route,
            Lookup::WrongMethod => return self.pass_or_refuse("wrong_method", 405, wire::WRONG_METHOD, "the route has no such method"),
            Lookup::Unknown => return self.pass_or_refuse("unknown_route", 404, wire::UNKNOWN_ROUTE, "there is no such route"),
        };
        match (route.class, route.body) {
            (Class::NotYet, _) | (Class::Inference | Class::ReadOnly, None) => {
                let message = "this route can't be inspected by this version, so it is refused in soft and hard mode";
                return self.pass_or_refuse("route_not_inspected", 403, "route_not_inspected", message);
            }
            (Class::Management, None) => {
                let nothing = wire::decode_request(Body::None, b"").expect("nothing decodes as nothing");
                return match self.ask_controls(&*nothing) {
                    Err(refusal) => Next::Refuse(refusal),
                    Ok(_) => Next::Pass,
                };
            }
            _ => {}
        }
        match head.content_encoding {
            None | Some("identity") => Next::ReadBody,
            Some(_) => {
                self.pass_or_refuse("content_encoding", 415, "content_encoding", "a request with a content encoding can't be inspected")
            }
        }
    }

    /// A violation of what has to hold before anything can be judged.
    fn pass_or_refuse(&mut self, kind: &'static str, status: u16, code: &'static str, message: &'static str) -> Next {
        match self.protocol_violation(kind, status, code, message) {
            Ok(()) => Next::Pass,
            Err(refusal) => Next::Refuse(refusal),
        }
    }

    fn protocol_violation(
        &mut self,
        kind: &'static str,
        status: u16,
        code: &'static str,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Result<(), Refusal> {
        self.violation(ControlId::Protocol, kind, status, code, message)
    }

    /// Notes a violation that the shell found, of identity or limits: counted in monitor, else a refusal.
    pub fn violation(
        &mut self,
        control: ControlId,
        kind: &'static str,
        status: u16,
        code: &'static str,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Result<(), Refusal> {
        let mode = self.policy.mode;
        if mode == Mode::Monitor {
            self.tally.violation(control, kind, mode, Action::Counted);
            return Ok(());
        }
        self.tally.violation(control, kind, mode, Action::Blocked);
        Err(Refusal { status, code, message: message.into(), control })
    }

    /// The mode of the exchange as a whole.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.policy.mode
    }

    /// The route's pattern, or `other`: a closed set.
    #[must_use]
    pub fn route_name(&self) -> &'static str {
        self.route.map_or("other", |route| route.pattern)
    }

    /// The API in whose words errors are said.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Judges the body of a request.
    pub fn judge_request(&mut self, body: &[u8]) -> Result<Forward, Refusal> {
        let Some(Route { body: Some(kind), pattern, .. }) = self.route else {
            return Ok(Forward::Original);
        };
        let mut request = match wire::decode_request(*kind, body) {
            Ok(request) => request,
            Err(error) => {
                self.protocol_violation("undecodable", 400, "invalid_body", error.to_string())?;
                self.tally.uninspected("undecodable_request", body.len());
                return Ok(Forward::Original);
            }
        };
        for part in request.uninspected() {
            let message = format!("{} can't be inspected by this version, so it is refused in soft and hard mode", part.path);
            self.protocol_violation("not_inspected", 400, "not_inspected", message)?;
            self.tally.uninspected("request_part", part.bytes);
        }
        let remedies = self.ask_controls(&*request)?;
        if self.policy.mode == Mode::Monitor {
            return Ok(Forward::Original);
        }
        remedies.apply(&mut *request);
        self.tally.dropped += request.dropped() as u64;
        Ok(Forward::Encoded { path: self.path(pattern), body: request.encode() })
    }

    fn path(&self, pattern: &'static str) -> String {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
        match (&self.segment, pattern.split_once(':')) {
            (Some(segment), Some((before, _))) => format!("{before}{}", utf8_percent_encode(segment, NON_ALPHANUMERIC)),
            _ => pattern.to_owned(),
        }
    }

    fn ask_controls(&mut self, request: &dyn Request) -> Result<Remedies, Refusal> {
        let Some(route) = self.route else {
            return Ok(Remedies::default());
        };
        let asked = Asked { route, segment: self.segment.as_deref(), request, caller: self.caller };
        let mut remedies = Remedies::default();
        let mut refusal = None;
        for control in &self.policy.controls {
            for finding in control.judge_request(&asked) {
                if let Some(action) = finding.remedy.action() {
                    self.tally.violation(control.id(), finding.kind, control.mode(), action);
                }
                if let Some(reason) = finding.remedy.refusal(control.id(), finding.kind) {
                    refusal.get_or_insert(reason);
                }
                remedies.add(finding.remedy);
            }
        }
        refusal.map_or(Ok(remedies), Err)
    }

    /// Judges the value of a field of an answer's head; gives another where it can't stay.
    pub fn judge_header(&mut self, value: &str) -> Option<String> {
        let mut open = open_all(&self.policy);
        let mut judged = push_through(&mut open, value, &mut self.tally);
        judged.push_str(&finish_through(&mut open, &mut self.tally));
        (judged != value).then_some(judged)
    }

    /// Looks at the head of an answer.
    pub fn open_answer(&mut self, head: &AnswerHead<'_>) -> Result<AnswerPlan, Refusal> {
        if self.head_only || matches!(head.status, 204 | 304) {
            return Ok(AnswerPlan::Pass(None));
        }
        if head.status < 200 {
            // Nobody asked to switch protocols; what would follow can't be read.
            self.protocol_violation("answer_type", 502, "answer_type", "the model server wants to switch protocols")?;
            return Ok(AnswerPlan::Pass(None));
        }
        let unreadable = |exchange: &mut Self, kind: &'static str, message: &'static str| {
            exchange.protocol_violation(kind, 502, kind, message)?;
            Ok(AnswerPlan::Pass(Some(kind)))
        };
        let Some(route) = self.route.filter(|route| route.class != Class::NotYet) else {
            return Ok(AnswerPlan::Pass(Some("route")));
        };
        if !matches!(head.content_encoding, None | Some("identity")) {
            return unreadable(self, "answer_encoding", "the model server sent an answer in a content encoding, which can't be inspected");
        }
        let media_type = head.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_answer = (200..300).contains(&head.status) && route.class == Class::Inference;
        let form = match media_type.as_str() {
            // Where a model should have answered and didn't, there is one error: pieces of one text are known only in an answer.
            "application/x-ndjson" | "text/event-stream" if route.class == Class::Inference && !is_answer => Form::Whole,
            "application/x-ndjson" => Form::Stream(Framing::Lines),
            "text/event-stream" => Form::Stream(Framing::Events),
            "application/json" => Form::Whole,
            // Clients of these APIs read what a model answers as JSON whatever its type, and JSON is not judged as plain text.
            "text/plain" if !is_answer => Form::Plain,
            _ if head.is_empty => return Ok(AnswerPlan::Pass(None)),
            _ => return unreadable(self, "answer_type", "the model server sent an answer of a type that can't be inspected"),
        };
        let shape = match (is_answer, route.body, &form) {
            (true, Some(Body::OllamaChat), _) => Some(Shape::OllamaChat),
            (true, Some(Body::OllamaGenerate), _) => Some(Shape::OllamaGenerate),
            (true, Some(Body::OpenAiChat), Form::Stream(_)) => Some(Shape::OpenAiChunk),
            (true, Some(Body::OpenAiChat), _) => Some(Shape::OpenAiCompletion),
            _ => None,
        };
        let speaker = Speaker::new(Arc::clone(&self.policy), shape, std::mem::take(&mut self.tally));
        Ok(match form {
            Form::Stream(framing) => AnswerPlan::Stream(Box::new(StreamJudge::new(speaker, framing, self.family))),
            Form::Whole => AnswerPlan::Whole(Box::new(WholeJudge { speaker, is_json: true })),
            Form::Plain => AnswerPlan::Whole(Box::new(WholeJudge { speaker, is_json: false })),
        })
    }
}

enum Form {
    Stream(Framing),
    Whole,
    Plain,
}

/// What the controls ask for, gathered, to be done in one go.
#[derive(Debug, Default)]
struct Remedies {
    disarm: bool,
    remove_tools: Vec<usize>,
    cut: Vec<MessageIndex>,
    model: Option<String>,
}

impl Remedies {
    fn add(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Count | Remedy::Refuse { .. } => {}
            Remedy::WarnAndDisarm => self.disarm = true,
            Remedy::Cut(message) => self.cut.push(message),
            Remedy::RemoveTool(place) => self.remove_tools.push(place),
            Remedy::UseModel(model) | Remedy::NameModel(model) => self.model = Some(model),
        }
    }

    fn apply(self, request: &mut dyn Request) {
        if self.disarm || !self.remove_tools.is_empty() {
            request.retain_tools(&mut |place| !self.disarm && !self.remove_tools.contains(&place));
        }
        for message in self.cut {
            request.replace_message(message, CUT);
        }
        if let Some(model) = self.model {
            request.set_model(&model);
        }
    }
}

/// An answer's head, as far as it is judged.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'h> {
    /// The status.
    pub status: u16,
    /// `Content-Type`
    pub content_type: Option<&'h str>,
    /// `Content-Encoding`
    pub content_encoding: Option<&'h str>,
    /// There is no body.
    pub is_empty: bool,
}

/// What has to be done with an answer.
#[derive(Debug)]
pub enum AnswerPlan {
    /// Forward it as it comes; where bytes of it should have been judged, why they aren't.
    Pass(Option<&'static str>),
    /// Judge it as it arrives.
    Stream(Box<StreamJudge>),
    /// Read it, up to [`MAX_ANSWER_BYTES`], and judge it as a whole.
    Whole(Box<WholeJudge>),
}

/// The texts of one answer, and what the controls say of them.
#[derive(Debug)]
struct Speaker {
    policy: Arc<Policy>,
    shape: Option<Shape>,
    tally: Tally,
    channels: Vec<Channel>,
    /// For values that are there as a whole.
    value: Vec<Open>,
}

/// One control's reading of one text.
#[derive(Debug)]
struct Open {
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
    ended: bool,
}

impl Speaker {
    fn new(policy: Arc<Policy>, shape: Option<Shape>, tally: Tally) -> Self {
        let value = open_all(&policy);
        Self { policy, shape, tally, channels: Vec::new(), value }
    }

    /// A text that is there as a whole.
    fn judge_value(&mut self, text: &mut String) {
        let mut judged = push_through(&mut self.value, text, &mut self.tally);
        judged.push_str(&finish_through(&mut self.value, &mut self.tally));
        if *text != judged {
            *text = judged;
        }
    }

    fn judge_tree(&mut self, json: &mut Json) {
        json.each_text_mut(&mut |text| self.judge_value(text));
    }

    /// The next piece of a channel; gives what of it may go out.
    fn say(&mut self, choice: u64, name: &'static str, piece: &str) -> Result<String, Refusal> {
        let place = match self.channels.iter().position(|channel| channel.choice == choice && channel.name == name) {
            Some(place) => place,
            None if self.channels.len() == MAX_CHANNELS => return Err(unreadable_answer("it has too many choices")),
            None => {
                self.channels.push(Channel { choice, name, open: open_all(&self.policy), ended: false });
                self.channels.len() - 1
            }
        };
        let channel = &mut self.channels[place];
        if channel.ended {
            // What was said before the end has been given out: this piece can't be judged together with it.
            return if piece.is_empty() { Ok(String::new()) } else { Err(unreadable_answer("it goes on behind its end")) };
        }
        let out = push_through(&mut channel.open, piece, &mut self.tally);
        if channel.open.iter().any(|open| open.text.is_torn()) {
            return Err(unreadable_answer("a text goes on, behind another, in the middle of what has to be redacted"));
        }
        Ok(out)
    }

    /// Other channels of a choice pause while these go on; gives what they still have to say, so that it is said before.
    fn pause_others(&mut self, choice: u64, going_on: &[(&'static str, String)]) -> Vec<(u64, &'static str, String)> {
        let mut rest = Vec::new();
        for channel in self.channels.iter_mut().filter(|channel| channel.choice == choice && !channel.ended) {
            if going_on.iter().all(|(name, text)| *name != channel.name || text.is_empty()) {
                let text = pause_through(&mut channel.open, &mut self.tally);
                if !text.is_empty() {
                    rest.push((choice, channel.name, text));
                }
            }
        }
        rest
    }

    /// Ends a choice, or all, and gives the rest of each channel.
    fn end(&mut self, choice: Option<u64>) -> Vec<(u64, &'static str, String)> {
        let mut rest = Vec::new();
        for channel in self.channels.iter_mut().filter(|channel| choice.is_none_or(|choice| choice == channel.choice)) {
            channel.ended = true;
            let text = finish_through(&mut channel.open, &mut self.tally);
            if !text.is_empty() {
                rest.push((channel.choice, channel.name, text));
            }
        }
        rest
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
                Arguments::Value(value) => self.judge_tree(value),
                Arguments::Text(text) if text.trim().is_empty() => {}
                Arguments::Text(text) => {
                    // Escapes inside the string could hide what it says, so it is read as what it is.
                    let mut value = Json::read(text.as_bytes()).map_err(|_| unreadable_answer("a tool call's arguments are not JSON"))?;
                    let before = value.clone();
                    self.judge_tree(&mut value);
                    if value != before || self.policy.mode > Mode::Monitor {
                        let mut bytes = Vec::with_capacity(text.len());
                        value.write(&mut bytes);
                        *text = String::from_utf8(bytes).expect("JSON is written as UTF-8");
                    }
                }
            }
            kept.push(call);
        }
        Ok(kept)
    }

    /// Judges what an event says beside its texts and calls.
    fn judge_rest(&mut self, event: &mut Event) {
        self.tally.dropped += std::mem::take(&mut event.dropped) as u64;
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
    }
}

fn open_all(policy: &Policy) -> Vec<Open> {
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
    is_json: bool,
}

impl WholeJudge {
    /// Gives the bytes that may go to the client. In monitor an answer that can't be read is counted, and comes back as it was.
    pub fn judge(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
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
        if !self.is_json {
            let mut text = std::str::from_utf8(bytes).map_err(|_| unreadable_answer("it is not UTF-8"))?.to_owned();
            self.speaker.judge_value(&mut text);
            return Ok(text.into_bytes());
        }
        let mut out = Vec::with_capacity(bytes.len());
        let Some(shape) = self.speaker.shape else {
            let mut json = Json::read(bytes).map_err(|_| unreadable_answer("it is not JSON"))?;
            self.speaker.judge_tree(&mut json);
            json.write(&mut out);
            return Ok(out);
        };
        match Frame::decode(shape, bytes).map_err(|_| unreadable_answer("it has not the form of its API"))? {
            Frame::End => return Err(unreadable_answer("it is empty")),
            Frame::Error(mut error) => {
                self.speaker.judge_tree(&mut error);
                Json::Object(vec![("error".into(), error)]).write(&mut out);
            }
            Frame::Event(mut event) => {
                self.speaker.judge_rest(&mut event);
                for speech in &mut event.speeches {
                    for (_, text) in &mut speech.texts {
                        self.speaker.judge_value(text);
                    }
                    speech.calls = self.speaker.judge_calls(std::mem::take(&mut speech.calls))?;
                }
                event.encode(shape, &mut out);
            }
        }
        Ok(out)
    }

    /// What was counted, request and answer together.
    #[must_use]
    pub fn tally(&mut self) -> &mut Tally {
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
    calls: Vec<(u64, Call)>,
    call_bytes: usize,
}

impl StreamJudge {
    fn new(speaker: Speaker, framing: Framing, family: Family) -> Self {
        let reader = FrameReader::new(framing, MAX_FRAME_BYTES);
        Self { speaker, reader, framing, family, ended: None, blind: false, head: Vec::new(), calls: Vec::new(), call_bytes: 0 }
    }

    /// Takes bytes of the answer and appends those that may go to the client.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Flow {
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

    /// What was counted, request and answer together.
    #[must_use]
    pub fn tally(&mut self) -> &mut Tally {
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
        match Frame::decode(shape, bytes).map_err(|_| unreadable_answer("a frame has not the form of its API"))? {
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
        self.speaker.judge_rest(&mut event);
        let turns = event.done || event.speeches.iter().any(|speech| speech.finish.is_some() || !speech.calls.is_empty());
        if turns || self.head.is_empty() {
            self.head.clone_from(&event.head);
        }
        for place in 0..event.speeches.len() {
            let speech = &event.speeches[place];
            if !speech.calls.is_empty() || speech.texts.iter().any(|(_, text)| !text.is_empty()) {
                for (choice, name, text) in self.speaker.pause_others(speech.choice, &speech.texts) {
                    self.head.clone_from(&event.head);
                    self.say(Speech { choice, texts: vec![(name, text)], ..Speech::default() }, shape, out);
                }
            }
            let speech = &mut event.speeches[place];
            for (name, text) in &mut speech.texts {
                *text = self.speaker.say(speech.choice, name, text)?;
            }
            let calls = std::mem::take(&mut speech.calls);
            speech.calls =
                if shape == Shape::OpenAiChunk { self.collect(speech.choice, calls)? } else { self.speaker.judge_calls(calls)? };
        }
        // What ends here must be said to the end before the end is said; a last piece in the same event comes first.
        let ends: Vec<Option<u64>> = if event.done {
            vec![None]
        } else {
            event.speeches.iter().filter(|speech| speech.finish.is_some()).map(|speech| Some(speech.choice)).collect()
        };
        if !ends.is_empty() {
            let mut last_words = Event { head: event.head.clone(), speeches: Vec::new(), tail: Vec::new(), done: false, dropped: 0 };
            for speech in event.speeches.iter_mut().filter(|speech| speech.texts.iter().any(|(_, text)| !text.is_empty())) {
                let texts = speech.texts.iter_mut().map(|(name, text)| (*name, std::mem::take(text))).collect();
                last_words.speeches.push(Speech { choice: speech.choice, role: speech.role.clone(), texts, ..Speech::default() });
            }
            if !last_words.speeches.is_empty() {
                self.write(out, |out| last_words.encode(shape, out));
            }
            for choice in ends {
                self.end(choice, shape, out)?;
            }
        }
        self.ended = event.done.then_some(Ending::Said);
        self.write(out, |out| event.encode(shape, out));
        Ok(())
    }

    /// Says the rest of a choice, or of all: held-back text, and collected calls.
    fn end(&mut self, choice: Option<u64>, shape: Shape, out: &mut Vec<u8>) -> Result<(), Refusal> {
        for (choice, name, text) in self.speaker.end(choice) {
            self.say(Speech { choice, texts: vec![(name, text)], ..Speech::default() }, shape, out);
        }
        let (ending, staying) = std::mem::take(&mut self.calls).into_iter().partition(|(of, _)| choice.is_none_or(|choice| choice == *of));
        self.calls = staying;
        let ending: Vec<(u64, Call)> = ending;
        for (choice, call) in ending {
            let calls = self.speaker.judge_calls(vec![call])?;
            if !calls.is_empty() {
                self.say(Speech { choice, calls, ..Speech::default() }, shape, out);
            }
        }
        Ok(())
    }

    /// Says something in an event of its own, of the form that the answer's other events have.
    fn say(&self, mut speech: Speech, shape: Shape, out: &mut Vec<u8>) {
        // Fields that Ollama's events always have.
        let always = match shape {
            Shape::OllamaChat => Some("content"),
            Shape::OllamaGenerate => Some("response"),
            Shape::OpenAiChunk | Shape::OpenAiCompletion => None,
        };
        if let Some(always) = always.filter(|always| speech.texts.iter().all(|(name, _)| name != always)) {
            speech.texts.insert(0, (always, String::new()));
        }
        if shape == Shape::OllamaChat {
            speech.role = Some("assistant".into());
        }
        let event = Event { head: self.head.clone(), speeches: vec![speech], tail: Vec::new(), done: false, dropped: 0 };
        self.write(out, |out| event.encode(shape, out));
    }

    /// Collects fragments of tool calls, which can't be judged one by one.
    fn collect(&mut self, choice: u64, fragments: Vec<Call>) -> Result<Vec<Call>, Refusal> {
        for fragment in fragments {
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
            let known = self.calls.iter_mut().rev().find(|(of, call)| {
                *of == choice
                    && (fragment.index.is_some() && call.index == fragment.index || fragment.index.is_none() && fragment.id.is_none())
            });
            match known {
                Some((_, call)) => {
                    call.name.push_str(&fragment.name);
                    call.id = call.id.take().or(fragment.id);
                    match (&mut call.arguments, fragment.arguments) {
                        (Arguments::Text(text), Arguments::Text(more)) => text.push_str(&more),
                        _ => return Err(unreadable_answer("a tool call's arguments are said in two ways")),
                    }
                }
                None => self.calls.push((choice, fragment)),
            }
        }
        Ok(Vec::new())
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

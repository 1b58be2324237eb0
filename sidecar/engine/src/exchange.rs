//! One request and its answer, walked through the controls in order.
//!
//! [`Exchange::begin`] looks at the head, [`Exchange::judge_request`] at the body, [`Exchange::open_answer`] at the answer's head; a
//! [`StreamJudge`] or a [`WholeJudge`] then takes its bytes. In monitor the same is done and what comes out is thrown away: the
//! caller forwards the bytes that it has.

mod answer;
mod restore;
mod shadow;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

pub use answer::{Ending, Flow, MAX_ANSWER_BYTES, MAX_FRAME_BYTES, StreamJudge, WholeJudge, answer_too_large, broken_answer};
pub use shadow::{Shadowed, Verdict};

use crate::controls::{Asked, Caller, Finding, Masks, Placed, Policy, Remedy, opening, system_prompt};
use crate::policy::UnknownFields;
use crate::verdict::{Action, ControlId, Mode, Refusal, Violation};
use crate::wire::framing::Framing;
use crate::wire::routes::{self, Lookup};
use crate::wire::whereabouts::{Places, Whereabouts};
use crate::wire::zstd::{self, UnpackError};
use crate::wire::{self, Body, Class, DecodeError, Family, MessageIndex, Request, Route, Shape, transcription};
use answer::{Content, Speaker, judge_once};
use shadow::Shadow;

/// The most bytes of a request's body that are judged.
pub const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;

/// How often another model may stand in for the one before it, each under its own rule.
const MAX_STAND_INS: usize = 4;

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
    /// What a policy would have done that is judged beside the one in force.
    pub shadow: Option<Box<Shadowed>>,
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
    /// `Content-Type`, where there is one.
    pub content_type: Option<&'h str>,
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

/// What has to be judged of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpacked {
    /// What came.
    AsItCame,
    /// These bytes, which were packed.
    Bytes(Vec<u8>),
    /// Nothing: it can't be unpacked, and passes.
    Unread,
}

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    /// The document's policy, with its rules.
    document: Arc<Policy>,
    /// What holds for this request: until it is known which rule fits, the strictest of those that may.
    policy: Arc<Policy>,
    route: Option<&'static Route>,
    segment: Option<String>,
    family: Family,
    head_only: bool,
    /// The body comes packed by zstd.
    packed: bool,
    /// What stands between the parts of a form.
    boundary: Option<String>,
    caller: Caller,
    /// What has to be known of the request that is forwarded, until it is known where its model runs. (The request itself takes many
    /// times the memory of its bytes, and it may take long to find that out.)
    unplaced: Option<wire::Named>,
    /// What was masked in the request and comes back in the answer.
    masks: Masks,
    /// The same exchange under another policy, which changes nothing.
    shadow: Option<Box<Shadow>>,
    /// What was counted so far.
    pub tally: Tally,
}

impl Exchange {
    /// As [`Self::begin`], with another policy that is judged beside the one in force. What that would have done stands in the tally.
    #[must_use]
    pub fn begin_beside(policy: Arc<Policy>, shadow: Option<Arc<Policy>>, head: &RequestHead<'_>) -> (Self, Next) {
        let (mut exchange, next) = Self::begin(policy, head);
        exchange.shadow = shadow.map(|shadow| Box::new(Shadow::begin(shadow, head)));
        exchange.look_beside();
        (exchange, next)
    }

    /// Notes what the other policy says so far.
    fn look_beside(&mut self) {
        if let Some(shadow) = &self.shadow {
            self.tally.shadow = Some(Box::new(shadow.seen()));
        }
    }

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
        let (strictest, is_settled) = policy.at_head(route, head.caller);
        let mut exchange = Self {
            policy: strictest,
            document: policy,
            route,
            segment,
            family,
            head_only,
            packed: false,
            boundary: None,
            caller: head.caller,
            unplaced: None,
            masks: Masks::default(),
            shadow: None,
            tally: Tally::default(),
        };
        let next = exchange.look_at(&found, head, is_settled);
        (exchange, next)
    }

    fn look_at(&mut self, found: &Lookup, head: &RequestHead<'_>, is_settled: bool) -> Next {
        let route = match found {
            Lookup::Found(route, _) => *route,
            Lookup::WrongMethod => return self.pass_or_refuse("wrong_method", 405, wire::WRONG_METHOD, "the route has no such method"),
            Lookup::Unknown => return self.pass_or_refuse("unknown_route", 404, wire::UNKNOWN_ROUTE, "there is no such route"),
        };
        // What no body can change needn't be waited for.
        let policy = Arc::clone(&self.policy);
        for control in policy.controls.iter().filter(|_| is_settled) {
            let Some(finding) = control.judge_head(route, self.caller) else { continue };
            if let Some(refusal) = finding.remedy.refusal(control.id(), finding.kind) {
                self.tally.violation(control.id(), finding.kind, control.mode(), Action::Blocked);
                return Next::Refuse(refusal);
            }
        }
        if route.body == Body::Raw {
            let mut request = wire::Named(None);
            return match self.settle(&mut request).and_then(|()| self.ask_controls(&request)) {
                Err(refusal) => Next::Refuse(refusal),
                Ok(_) => Next::Pass,
            };
        }
        if route.body == Body::OpenAiTranscription {
            self.boundary = head.content_type.and_then(transcription::boundary).map(str::to_owned);
        }
        match head.content_encoding {
            None | Some("identity") => Next::ReadBody,
            Some("zstd") if zstd::is_taken(route) => {
                self.packed = true;
                Next::ReadBody
            }
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
        self.note(ControlId::Protocol, kind, status, code, message)
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
        if let Some(shadow) = &mut self.shadow {
            shadow.violation(control, kind, status);
            self.look_beside();
        }
        self.note(control, kind, status, code, message)
    }

    /// The same of the policy in force alone.
    fn note(
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

    /// Everything is refused, whatever the mode and whatever else was found: nobody may ask.
    pub fn stop(&mut self) -> Refusal {
        self.tally = Tally::default();
        self.tally.violation(ControlId::Stop, "stop", self.policy.mode, Action::Blocked);
        stopped()
    }

    /// The mode of the exchange as a whole. Until its request was judged, the strictest that may come to hold for it.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.policy.mode
    }

    /// The policy that holds for it: the document's, or that of the rule that fits. Known for certain once its request was judged.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The digest of the system prompt in a body of this exchange's route, as a rule's `when.systemPrompts` has it. None where there is no
    /// system prompt, or where it stands in several places.
    #[must_use]
    pub fn system_prompt(&self, body: &[u8]) -> Option<String> {
        let route = self.route?;
        let request = wire::decode_request(route.body, body).ok()?;
        system_prompt(&self.asked(route, &*request))
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

    /// Unpacks the body of a request, if it came packed. `room` is asked for the memory of so many bytes beside the body's own.
    pub fn unpack(&mut self, body: &[u8], room: &mut dyn FnMut(usize) -> bool) -> Result<Unpacked, Refusal> {
        if !self.packed {
            return Ok(Unpacked::AsItCame);
        }
        let error = match zstd::unpack(body, MAX_REQUEST_BYTES, room) {
            Ok(bytes) => return Ok(Unpacked::Bytes(bytes)),
            Err(error) => error,
        };
        let (control, kind, status, code, unread) = match error {
            UnpackError::Broken => (ControlId::Protocol, "undecodable", 400, "invalid_body", "undecodable_request"),
            UnpackError::TooLarge => (ControlId::Limits, "request_too_large", 413, "request_too_large", "request_too_large"),
            UnpackError::NoRoom => (ControlId::Limits, "memory", 503, "memory", "memory"),
        };
        self.violation(control, kind, status, code, error.to_string())?;
        self.tally.uninspected(unread, body.len());
        Ok(Unpacked::Unread)
    }

    /// Judges the body of a request, unpacked.
    pub fn judge_request(&mut self, body: &[u8]) -> Result<Forward, Refusal> {
        if let Some(shadow) = &mut self.shadow {
            shadow.judge_request(body);
            self.look_beside();
        }
        let Some(Route { body: kind, pattern, .. }) = self.route else {
            return Ok(Forward::Original);
        };
        // Where the parts of a form end the head says, and what goes on goes on under the same head.
        let is_bounded = self.boundary.as_deref().is_some_and(|boundary| transcription::is_bounded_by(body, boundary));
        let decoded = if *kind == Body::OpenAiTranscription && !is_bounded {
            Err(DecodeError::Type { path: "Content-Type".into(), expected: "multipart/form-data with the form's boundary" })
        } else {
            wire::decode_request(*kind, body)
        };
        let mut request = match decoded {
            Ok(request) => request,
            Err(error) => {
                self.protocol_violation("undecodable", 400, "invalid_body", error.to_string())?;
                self.tally.uninspected("undecodable_request", body.len());
                return Ok(Forward::Original);
            }
        };
        self.settle(&mut *request)?;
        let remedies = self.judge_decoded(&mut *request)?;
        if self.policy.mode == Mode::Monitor {
            self.mend(&mut *request)?;
            return Ok(Forward::Original);
        }
        remedies.apply(&mut *request);
        self.mend(&mut *request)?;
        self.tally.dropped += request.dropped() as u64;
        let forward = Forward::Encoded { path: self.path(pattern), body: request.encode() };
        self.unplaced = Some(wire::Named(request.model().map(str::to_owned)));
        Ok(forward)
    }

    /// Judges a request under the policy that holds for it.
    fn judge_decoded(&mut self, request: &mut dyn Request) -> Result<Remedies, Refusal> {
        self.look_at_parts(request)?;
        self.look_at_unknown_fields(request)?;
        self.ask_controls(request)
    }

    /// Has the controls change what a request says that goes on.
    fn mend(&mut self, request: &mut dyn Request) -> Result<(), Refusal> {
        let Self { policy, masks, tally, .. } = self;
        let mut refusal = None;
        for control in &policy.controls {
            control.mend_request(request, masks, &mut |finding| {
                if let Some(action) = finding.remedy.action() {
                    tally.violation(control.id(), finding.kind, control.mode(), action);
                }
                if refusal.is_none() {
                    refusal = finding.remedy.refusal(control.id(), finding.kind);
                }
            });
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Finds out which rule holds for a request, by the model that will answer it: where a policy has another model answer, the rule
    /// that fits is that model's.
    fn settle(&mut self, request: &mut dyn Request) -> Result<(), Refusal> {
        let Some(route) = self.route.filter(|_| self.document.has_rules()) else { return Ok(()) };
        for _ in 0..MAX_STAND_INS {
            self.policy = match self.document.of(&self.asked(route, request)) {
                Ok(policy) => policy,
                Err(strictest) => return self.is_in_doubt(strictest),
            };
            let Some((finding, mode)) = self.stand_in(route, request) else { return Ok(()) };
            if let Some(action) = finding.remedy.action() {
                self.tally.violation(ControlId::Models, finding.kind, mode, action);
            }
            if let Remedy::UseModel(model) | Remedy::NameModel(model) = finding.remedy {
                request.set_model(&model);
            }
        }
        self.note(
            ControlId::Models,
            "not_allowed",
            403,
            "not_allowed",
            "no model that the policy's rules put in the place of another is allowed",
        )
    }

    /// What a request names, or what a rule does, is one model to some versions of a server and another to others.
    fn is_in_doubt(&mut self, strictest: Arc<Policy>) -> Result<(), Refusal> {
        self.policy = strictest;
        let message = "model: versions of the server differ in which model this is, and another rule holds for each";
        self.note(ControlId::Models, "invalid_name", 400, "invalid_name", message)
    }

    /// Holds a request whose model's name stands for another model to that one's rule: it has to be the same.
    fn look_behind_alias(&mut self, request: &mut dyn Request, places: &Places) -> Result<(), Refusal> {
        let Some(route) = self.route.filter(|_| self.document.has_rules()) else { return Ok(()) };
        let Some(name) = request.model().map(str::to_owned) else { return Ok(()) };
        let Some(Whereabouts::Alias(target)) = places.get(&name) else { return Ok(()) };
        request.set_model(target);
        let (Ok(behind) | Err(behind)) = self.document.of(&self.asked(route, request));
        request.set_model(&name);
        if Arc::ptr_eq(&behind, &self.policy) {
            return Ok(());
        }
        if behind.mode > self.policy.mode {
            self.policy = behind;
        }
        let message = "this name stands for another model, for which another rule of the policy holds: ask for that one by its own name";
        self.note(ControlId::Models, "not_allowed", 403, "not_allowed", message)
    }

    /// What the policy says where it has another model answer than the one that the request names, if any.
    fn stand_in(&self, route: &'static Route, request: &dyn Request) -> Option<(Finding, Mode)> {
        let control = self.policy.controls.iter().find(|control| control.id() == ControlId::Models)?;
        let mut findings = control.judge_request(&self.asked(route, request)).into_iter();
        let stands_in = findings.find(|finding| matches!(finding.remedy, Remedy::UseModel(_) | Remedy::NameModel(_)))?;
        Some((stands_in, control.mode()))
    }

    /// The model of which a control has to know where it runs, as far as that isn't in `places` yet. Each is asked for once.
    #[must_use]
    pub fn must_locate(&self, places: &Places) -> Option<String> {
        self.place_findings(places)
            .find_map(|(_, _, placed)| match placed {
                Placed::Locate(model) => Some(model),
                Placed::Fine | Placed::Found(_) => None,
            })
            .or_else(|| self.shadow.as_ref()?.must_locate(places))
    }

    /// Judges where the model of the request runs that [`Self::judge_request`] let pass, and of which it gave this body; gives what has to
    /// be forwarded instead, where another model stands in.
    pub fn judge_place(&mut self, places: &Places, body: &[u8]) -> Result<Option<Forward>, Refusal> {
        if let Some(shadow) = &mut self.shadow {
            shadow.judge_place(places);
            self.look_beside();
        }
        let found: Vec<_> = self.place_findings(places).collect();
        let sent = self.unplaced.take();
        let (mut remedies, mut refusal) = (Remedies::default(), None);
        for (id, mode, placed) in found {
            let Placed::Found(finding) = placed else { continue };
            if let Some(action) = finding.remedy.action() {
                self.tally.violation(id, finding.kind, mode, action);
            }
            if let Some(reason) = finding.remedy.refusal(id, finding.kind) {
                refusal.get_or_insert(reason);
            }
            remedies.add(finding.remedy);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let place = sent.as_ref().and_then(|named| places.get(named.0.as_deref()?));
        let is_alias = self.document.has_rules() && matches!(place, Some(Whereabouts::Alias(_)));
        let stands_in = remedies.model.is_some();
        let Some(route) = self.route.filter(|_| stands_in || is_alias) else { return Ok(None) };
        let mut request = match wire::decode_request(route.body, body) {
            Ok(request) => request,
            // (What the guard has written it reads.)
            Err(error) => return self.protocol_violation("undecodable", 400, "invalid_body", error.to_string()).map(|()| None),
        };
        if !stands_in {
            return self.look_behind_alias(&mut *request, places).map(|()| None);
        }
        remedies.apply(&mut *request);
        if self.document.has_rules() {
            let before = Arc::clone(&self.policy);
            self.settle(&mut *request)?;
            if !Arc::ptr_eq(&before, &self.policy) {
                self.judge_stand_in(&mut *request, places)?;
            }
            self.look_behind_alias(&mut *request, places)?;
        }
        Ok(Some(Forward::Encoded { path: self.path(route.pattern), body: request.encode() }))
    }

    /// Judges a request once more, since another rule holds for the model that stands in.
    fn judge_stand_in(&mut self, request: &mut dyn Request, places: &Places) -> Result<(), Refusal> {
        let remedies = self.judge_decoded(request)?;
        remedies.apply(request);
        self.mend(request)?;
        self.tally.dropped += request.dropped() as u64;
        self.unplaced = Some(wire::Named(request.model().map(str::to_owned)));
        let found: Vec<_> = self.place_findings(places).collect();
        self.unplaced = None;
        for (id, mode, placed) in found {
            if placed != Placed::Fine {
                self.tally.violation(id, "place_unknown", mode, Action::Blocked);
                let message = "the model that would stand in isn't known to be allowed by the rule that holds for it";
                return Err(Refusal { status: 403, code: "not_allowed", message: message.into(), control: id });
            }
        }
        Ok(())
    }

    fn place_findings<'e>(&'e self, places: &'e Places) -> impl Iterator<Item = (ControlId, Mode, Placed)> + 'e {
        let asked = self.route.zip(self.unplaced.as_ref()).map(|(route, request)| self.asked(route, request));
        let controls = self.policy.controls.iter();
        asked
            .into_iter()
            .flat_map(move |asked| controls.clone().map(move |control| (control.id(), control.mode(), control.judge_place(&asked, places))))
    }

    fn asked<'e>(&'e self, route: &'static Route, request: &'e dyn Request) -> Asked<'e> {
        Asked { route, segment: self.segment.as_deref(), request, caller: self.caller }
    }

    /// Whether the request changes which models there are, or what they are.
    #[must_use]
    pub fn changes_models(&self) -> bool {
        self.route.is_some_and(|route| route.class == Class::Management)
    }

    /// What nobody can judge passes where the policy says so, and is counted.
    fn look_at_parts(&mut self, request: &dyn Request) -> Result<(), Refusal> {
        for part in request.unreadable() {
            if !self.policy.protocol.passes(part.is) || self.policy.mode == Mode::Monitor {
                let message = match opening(part.is) {
                    Some(name) => format!("{} can't be inspected; a policy lets it pass with protocol.{name}: allow", part.path),
                    None => format!("{} is refused: no policy lets it pass", part.path),
                };
                self.protocol_violation("not_inspected", 400, "not_inspected", message)?;
            }
            self.tally.uninspected("request_part", part.bytes);
        }
        Ok(())
    }

    /// Fields that the API doesn't document stay, to be judged as text, or are left out, or refused, as the policy says.
    fn look_at_unknown_fields(&mut self, request: &mut dyn Request) -> Result<(), Refusal> {
        let policy = Arc::clone(&self.policy);
        let (mut dropped, mut refused) = (0, None);
        request.rests(&mut |rest| {
            rest.retain(&mut |name| match policy.protocol.unknown_field(name) {
                UnknownFields::Inspect => true,
                UnknownFields::Drop => {
                    dropped += 1;
                    false
                }
                UnknownFields::Refuse => {
                    refused.get_or_insert_with(|| name.to_owned());
                    false
                }
            });
        });
        self.tally.dropped += dropped;
        let Some(name) = refused else { return Ok(()) };
        // A name is told where it can't be a value that somebody put there.
        let is_told = name.len() <= 64 && wire::is_plain_id(&name) && judge_is_clean(&policy, &name);
        let field = if is_told { format!("the field {name}") } else { "a field".into() };
        let message = format!("{field} isn't documented by this API; a policy takes it with protocol.fields");
        self.protocol_violation("unknown_field", 400, "unknown_field", message)
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
        let mut remedies = Remedies::default();
        let mut refusal = None;
        let policy = Arc::clone(&self.policy);
        for control in &policy.controls {
            for finding in control.judge_request(&self.asked(route, request)) {
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
        if let Some(shadow) = &mut self.shadow {
            shadow.judge_header(value);
        }
        let mut text = value.to_owned();
        judge_once(&mut answer::open_all(&self.policy), &mut text, &mut self.tally);
        (text != value).then_some(text)
    }

    /// The same for a value that goes on as it is: only a policy that is judged beside the one in force looks at it.
    pub fn look_at_header(&mut self, value: &str) {
        if let Some(shadow) = &mut self.shadow {
            shadow.judge_header(value);
        }
    }

    /// Looks at the head of an answer.
    pub fn open_answer(&mut self, head: &AnswerHead<'_>) -> Result<AnswerPlan, Refusal> {
        let beside = self.shadow.as_mut().and_then(|shadow| shadow.open_answer(head));
        self.look_beside();
        let plan = self.plan_answer(head)?;
        Ok(match (plan, beside, &self.shadow) {
            (AnswerPlan::Stream(mut judge), Some(AnswerPlan::Stream(beside)), Some(shadow)) => {
                judge.shadow = Some(Box::new(shadow.stream(beside)));
                AnswerPlan::Stream(judge)
            }
            (AnswerPlan::Whole(mut judge), Some(AnswerPlan::Whole(beside)), Some(shadow)) => {
                judge.shadow = Some(Box::new(shadow.whole(beside)));
                AnswerPlan::Whole(judge)
            }
            (plan, ..) => plan,
        })
    }

    fn plan_answer(&mut self, head: &AnswerHead<'_>) -> Result<AnswerPlan, Refusal> {
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
        let Some(route) = self.route else {
            return Ok(AnswerPlan::Pass(Some("route")));
        };
        if !matches!(head.content_encoding, None | Some("identity")) {
            return unreadable(self, "answer_encoding", "the model server sent an answer in a content encoding, which can't be inspected");
        }
        let media_type = head.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let answers = matches!(route.class, Class::Inference | Class::Embedding);
        let is_answer = (200..300).contains(&head.status) && answers;
        let form = match media_type.as_str() {
            // Where a model should have answered and didn't, there is one error: pieces of one text are known only in an answer.
            "application/x-ndjson" | "text/event-stream" if answers && !is_answer || route.class == Class::Embedding => Form::Whole,
            // Pieces of one text are known only where an answer's form is.
            "text/event-stream" if route.body == Body::OpenAiTranscription => Form::Whole,
            // A client of the other API would read neither the stream nor an error in it.
            "application/x-ndjson" if self.family == Family::Ollama => Form::Stream(Framing::Lines),
            "text/event-stream" if self.family != Family::Ollama => Form::Stream(Framing::Events),
            "application/json" => Form::Whole,
            // Clients of these APIs read what a model answers as JSON whatever its type, and JSON is not judged as plain text.
            "text/plain" if !is_answer || route.body == Body::OpenAiTranscription => Form::Plain,
            _ if head.is_empty => return Ok(AnswerPlan::Pass(None)),
            _ => return unreadable(self, "answer_type", "the model server sent an answer of a type that can't be inspected"),
        };
        let shape = match (is_answer, route.body, &form) {
            (true, Body::OllamaChat, _) => Some(Shape::OllamaChat),
            (true, Body::OllamaGenerate, _) => Some(Shape::OllamaGenerate),
            (true, Body::OpenAiChat, Form::Stream(_)) => Some(Shape::OpenAiChunk),
            (true, Body::OpenAiChat, _) => Some(Shape::OpenAiCompletion),
            (true, Body::OpenAiCompletion, _) => Some(Shape::OpenAiText),
            (true, Body::OpenAiResponses, _) => Some(Shape::Response),
            (true, Body::AnthropicMessages, Form::Stream(_)) => Some(Shape::AnthropicEvent),
            (true, Body::AnthropicMessages, _) => Some(Shape::AnthropicMessage),
            _ => None,
        };
        // They come back where a model answers, and nowhere else.
        let masks = if is_answer && route.class == Class::Inference { std::mem::take(&mut self.masks) } else { Masks::default() };
        let speaker = Speaker::new(Arc::clone(&self.policy), shape, std::mem::take(&mut self.tally), masks);
        Ok(match form {
            Form::Stream(framing) => AnswerPlan::Stream(Box::new(StreamJudge::new(speaker, framing, self.family))),
            Form::Whole if is_answer && route.class == Class::Embedding => {
                AnswerPlan::Whole(Box::new(WholeJudge::new(speaker, Content::Vectors)))
            }
            Form::Whole if is_answer && route.body == Body::OpenAiImages => {
                AnswerPlan::Whole(Box::new(WholeJudge::new(speaker, Content::Pictures)))
            }
            Form::Whole if route.body == Body::OllamaShow => AnswerPlan::Whole(Box::new(WholeJudge::new(speaker, Content::Shown))),
            Form::Whole => AnswerPlan::Whole(Box::new(WholeJudge::new(speaker, Content::Json))),
            Form::Plain => AnswerPlan::Whole(Box::new(WholeJudge::new(speaker, Content::Plain))),
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
    remove_tools: HashSet<usize>,
    cut: HashSet<MessageIndex>,
    model: Option<String>,
}

impl Remedies {
    fn add(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Count | Remedy::Warn | Remedy::Redact | Remedy::Refuse { .. } => {}
            Remedy::WarnAndDisarm => self.disarm = true,
            Remedy::Cut(message) => {
                self.cut.insert(message);
            }
            Remedy::RemoveTool(place) => {
                self.remove_tools.insert(place);
            }
            Remedy::UseModel(model) | Remedy::NameModel(model) => self.model = Some(model),
        }
    }

    fn apply(self, request: &mut dyn Request) {
        if self.disarm || !self.remove_tools.is_empty() {
            request.retain_tools(&mut |place| !self.disarm && !self.remove_tools.contains(&place));
        }
        if !self.cut.is_empty() {
            request.replace_messages(&mut |message| self.cut.contains(&message), CUT);
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

/// Whether no control that reads answers has anything to say of a text.
fn judge_is_clean(policy: &Policy, text: &str) -> bool {
    let mut judged = text.to_owned();
    judge_once(&mut answer::open_all(policy), &mut judged, &mut Tally::default());
    judged == text
}

/// What a client is told under a stop.
#[must_use]
pub fn stopped() -> Refusal {
    let message = "the model is stopped: whoever runs it has the guard refuse everything until further notice";
    Refusal { status: 503, code: "stopped", message: message.into(), control: ControlId::Stop }
}

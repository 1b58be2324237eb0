//! One record for each exchange: what was asked of which route, what was found and done, how it ended. Written when the exchange
//! ends, whatever its end, so also when the client goes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use llm_guard_engine::controls::Policy;
use llm_guard_engine::exchange::{AnswerHead, RequestHead, Shadowed, Tally};
use llm_guard_engine::policy::Mode;
use llm_guard_engine::verdict::Violation;
use serde::Serialize;
use sha2::Sha256;

use super::logs;
use super::metrics::{Metrics, Outcome, Phase};
use super::recording::{Recording, Texts};
use crate::recorded::Recorded;

/// Writes records, and knows the key of the content hashes.
pub(crate) struct Recorder {
    metrics: Arc<Metrics>,
    key: [u8; 32],
    log_raw_prompts: bool,
    quiet: bool,
    recording: Option<Recording>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder whose hashes can be compared with each other and with nothing else. `quiet` counts without writing lines.
    pub(crate) fn new(metrics: Arc<Metrics>, key: [u8; 32], log_raw_prompts: bool, quiet: bool) -> Self {
        Self { metrics, key, log_raw_prompts, quiet, recording: None }
    }

    /// Records exchanges with their texts, too.
    pub(crate) fn recording(self, recording: Option<Recording>) -> Self {
        Self { recording, ..self }
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The content's hash: HMAC-SHA-256 (RFC 2104), cut to 128 bits, in hex.
    fn hash(&self, content: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length is a key");
        mac.update(content);
        let code = mac.finalize().into_bytes();
        let (half, _) = code.split_first_chunk::<16>().expect("SHA-256 has 32 bytes");
        format!("{:032x}", u128::from_be_bytes(*half))
    }
}

/// The record of an exchange that is under way.
#[derive(Debug)]
pub(crate) struct Record {
    recorder: Arc<Recorder>,
    request_id: String,
    method: &'static str,
    route: &'static str,
    mode: Mode,
    /// The policy's rule that holds, by its name.
    rule: Option<Arc<str>>,
    started: Instant,
    status: StatusCode,
    content_hash: Option<String>,
    raw_prompt: Option<String>,
    /// With its texts, where that is asked for.
    texts: Option<Box<Texts>>,
    request_bytes: u64,
    answer_bytes: u64,
    own_request: Duration,
    own_answer: Duration,
    streaming: bool,
    /// What was counted, as far as it is known; a body that is being judged brings its own.
    pub(crate) tally: Tally,
    outcome: Option<Outcome>,
}

impl Record {
    pub(crate) fn open(recorder: &Arc<Recorder>, request_id: String, method: &http::Method, route: &'static str, mode: Mode) -> Self {
        Self {
            recorder: Arc::clone(recorder),
            request_id,
            method: known_method(method),
            route,
            mode,
            rule: None,
            started: Instant::now(),
            // What the client sees if it goes away before there is a status: nothing. The number is nginx's for that.
            status: StatusCode::from_u16(499).expect("499 is a status"),
            content_hash: None,
            raw_prompt: None,
            texts: None,
            request_bytes: 0,
            answer_bytes: 0,
            own_request: Duration::ZERO,
            own_answer: Duration::ZERO,
            streaming: false,
            tally: Tally::default(),
            outcome: None,
        }
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.recorder.metrics
    }

    /// Notes the request's head, where exchanges are recorded.
    pub(crate) fn begins(&mut self, head: &RequestHead<'_>) {
        if self.recorder.recording.is_some() {
            self.texts = Some(Box::new(Texts::new(Recorded {
                id: Some(self.request_id.clone()),
                method: head.method.to_owned(),
                path: head.path.to_owned(),
                content_type: head.content_type.map(str::to_owned),
                from_pod: head.caller.over_loopback,
                ..Recorded::default()
            })));
        }
    }

    /// The request's body isn't known as a whole.
    pub(crate) fn is_unread(&mut self) {
        self.texts = None;
    }

    /// Notes the head of the model server's answer.
    pub(crate) fn answered(&mut self, head: &AnswerHead<'_>) {
        if let Some(texts) = &mut self.texts {
            texts.answered(head.status, head.content_type);
        }
    }

    /// Notes what the model server said, as it came.
    pub(crate) fn heard(&mut self, bytes: &[u8]) {
        if let Some(texts) = &mut self.texts {
            texts.heard(bytes);
        }
    }

    /// Notes what the request was held to.
    pub(crate) fn held_to(&mut self, policy: &Policy) {
        self.mode = policy.mode;
        self.rule.clone_from(&policy.rule);
    }

    /// Notes what was asked.
    pub(crate) fn asked(&mut self, body: &[u8]) {
        self.request_bytes = body.len() as u64;
        if let Some(texts) = &mut self.texts {
            texts.asked(body);
        }
        if !body.is_empty() && !self.recorder.quiet {
            self.content_hash = Some(self.recorder.hash(body));
            if self.recorder.log_raw_prompts {
                self.raw_prompt = Some(String::from_utf8_lossy(body).into_owned());
            }
        }
    }

    /// Adds to the guard's own share.
    pub(crate) fn worked(&mut self, phase: Phase, since: Instant) {
        match phase {
            Phase::Request => self.own_request += since.elapsed(),
            Phase::Answer => self.own_answer += since.elapsed(),
        }
    }

    /// Notes the answer's head.
    pub(crate) fn answers(&mut self, status: StatusCode) {
        self.status = status;
        self.recorder.metrics.first_byte(self.started.elapsed());
    }

    /// The answer is on its way; until the record closes it counts as open.
    pub(crate) fn streams(&mut self) {
        self.streaming = true;
        self.recorder.metrics.streams_open.inc();
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.answer_bytes += bytes as u64;
    }

    /// Ends the record.
    pub(crate) fn close(mut self, outcome: Outcome, tally: Tally) {
        self.tally = tally;
        self.outcome = Some(outcome);
    }
}

/// The methods that a route may have; others are no one's business.
fn known_method(method: &http::Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"].into_iter().find(|known| method == *known).unwrap_or("other")
}

impl Drop for Record {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(Outcome::ClientGone);
        let metrics = &self.recorder.metrics;
        if self.streaming {
            metrics.streams_open.dec();
        }
        metrics.count(&self.tally);
        if let Some((texts, recording)) = self.texts.take().zip(self.recorder.recording.as_ref()) {
            texts.end(recording);
        }
        metrics.request(self.route, self.status, outcome, self.started.elapsed());
        metrics.own_share(Phase::Request, self.own_request);
        metrics.own_share(Phase::Answer, self.own_answer);
        if self.recorder.quiet || !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        logs::write_line(&Line {
            timestamp: logs::now(),
            level: "INFO",
            message: "exchange",
            request_id: &self.request_id,
            method: self.method,
            route: self.route,
            status: self.status.as_u16(),
            mode: self.mode.name(),
            rule: self.rule.as_deref(),
            outcome: outcome.name(),
            violations: ViolationLine::of(&self.tally.violations),
            shadow: self.tally.shadow.as_deref().map(ShadowLine::of),
            content_hash: self.content_hash.as_deref(),
            raw_prompt: self.raw_prompt.as_deref(),
            request_bytes: self.request_bytes,
            answer_bytes: self.answer_bytes,
            uninspected_bytes: self.tally.uninspected.values().sum(),
            dropped_fields: self.tally.dropped,
            streamed: self.streaming,
            own_us: micros(self.own_request + self.own_answer),
            duration_us: micros(self.started.elapsed()),
        });
    }
}

/// The line of an exchange. Times are microseconds.
#[derive(Serialize)]
struct Line<'r> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    request_id: &'r str,
    method: &'static str,
    route: &'static str,
    status: u16,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'r str>,
    outcome: &'static str,
    violations: Vec<ViolationLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<ShadowLine<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_hash: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_prompt: Option<&'r str>,
    request_bytes: u64,
    answer_bytes: u64,
    uninspected_bytes: u64,
    dropped_fields: u64,
    streamed: bool,
    own_us: u64,
    duration_us: u64,
}

/// What the policy would have done that is judged beside the one in force.
#[derive(Serialize)]
struct ShadowLine<'r> {
    verdict: &'static str,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    violations: Vec<ViolationLine>,
}

impl<'r> ShadowLine<'r> {
    fn of(shadow: &'r Shadowed) -> Self {
        Self {
            verdict: shadow.verdict().name(),
            mode: shadow.mode.name(),
            rule: shadow.rule.as_deref(),
            status: shadow.refused,
            violations: ViolationLine::of(&shadow.violations),
        }
    }
}

#[derive(Serialize)]
struct ViolationLine {
    control: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owasp: Option<&'static str>,
    kind: &'static str,
    mode: &'static str,
    action: &'static str,
    count: u64,
}

impl ViolationLine {
    fn of(violations: &BTreeMap<Violation, u64>) -> Vec<Self> {
        violations.iter().map(|(violation, times)| Self::new(violation, *times)).collect()
    }

    fn new(violation: &Violation, count: u64) -> Self {
        let Violation { control, kind, mode, action } = *violation;
        Self { control: control.name(), owasp: control.owasp(), kind, mode: mode.name(), action: action.name(), count }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

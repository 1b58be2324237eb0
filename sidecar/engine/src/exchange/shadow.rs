//! A second policy that is judged beside the one in force, and does nothing.
//!
//! The invariant: nothing of what a shadow finds changes the exchange. It sees the bytes that came, as the policy in force does, so that it
//! finds what it would find if it were in force. It can't know what would have come of what didn't happen: an answer to a request that it
//! would have changed is the answer to the other one, and what the policy in force refuses has no answer. Nor does it ask the server about
//! the pages of browsers: in monitor one that asks in a foreign name counts as refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AnswerHead, AnswerPlan, Ending, Exchange, Forward, Next, RequestHead, StreamJudge, WholeJudge, answer_too_large};
use crate::controls::Policy;
use crate::verdict::{Action, ControlId, Mode, Violation};
use crate::wire::whereabouts::Places;

/// What a policy that isn't in force would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shadowed {
    /// The mode in which it would have judged the exchange.
    pub mode: Mode,
    /// The rule of it that fits.
    pub rule: Option<Arc<str>>,
    /// What it would have found, and done about it, and how often.
    pub violations: BTreeMap<Violation, u64>,
    /// The status of its refusal, of the request or of the answer.
    pub refused: Option<u16>,
    /// It would have ended the answer while it was on its way.
    pub ended: bool,
}

/// What a policy would have made of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Passed,
    /// Something is warned of, taken out, replaced or redacted, and it goes on.
    Mended,
    /// The request or the answer is refused, or the answer ends on its way.
    Refused,
}

impl Verdict {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Mended => "mended",
            Self::Refused => "refused",
        }
    }
}

impl Shadowed {
    /// What it would have made of the exchange.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.refused.is_some() || self.ended {
            Verdict::Refused
        } else if self.violations.keys().any(|violation| violation.action != Action::Counted) {
            Verdict::Mended
        } else {
            Verdict::Passed
        }
    }
}

/// The exchange, as the other policy sees it.
#[derive(Debug)]
pub(super) struct Shadow {
    exchange: Exchange,
    refused: Option<u16>,
    /// What it would have sent on, while it isn't known where the model runs: what is sent on may be something else.
    sent: Vec<u8>,
}

/// An answer, as the other policy sees it.
#[derive(Debug)]
pub(super) struct ShadowJudge<J> {
    judge: J,
    seen: Shadowed,
    scrap: Vec<u8>,
}

impl Shadow {
    pub(super) fn begin(policy: Arc<Policy>, head: &RequestHead<'_>) -> Self {
        let (exchange, next) = Exchange::begin(policy, head);
        let refused = match next {
            Next::Refuse(refusal) => Some(refusal.status),
            Next::ReadBody | Next::Pass => None,
        };
        Self { exchange, refused, sent: Vec::new() }
    }

    /// Unless it has refused already.
    fn open(&mut self) -> Option<&mut Exchange> {
        self.refused.is_none().then_some(&mut self.exchange)
    }

    pub(super) fn violation(&mut self, control: ControlId, kind: &'static str, status: u16) {
        let judged = self.open().map(|exchange| exchange.violation(control, kind, status, kind, ""));
        if let Some(Err(refusal)) = judged {
            self.refused = Some(refusal.status);
        }
    }

    pub(super) fn judge_request(&mut self, body: &[u8]) {
        match self.open().map(|exchange| exchange.judge_request(body)) {
            Some(Err(refusal)) => self.refused = Some(refusal.status),
            Some(Ok(Forward::Encoded { body, .. })) if self.must_locate(&Places::default()).is_some() => self.sent = body,
            Some(Ok(Forward::Encoded { .. } | Forward::Original)) | None => {}
        }
    }

    pub(super) fn must_locate(&self, places: &Places) -> Option<String> {
        self.refused.is_none().then(|| self.exchange.must_locate(places)).flatten()
    }

    pub(super) fn judge_place(&mut self, places: &Places) {
        let sent = std::mem::take(&mut self.sent);
        match self.open().map(|exchange| exchange.judge_place(places, &sent)) {
            Some(Err(refusal)) => self.refused = Some(refusal.status),
            Some(Ok(None | Some(Forward::Original | Forward::Encoded { .. }))) | None => {}
        }
    }

    pub(super) fn judge_header(&mut self, value: &str) {
        if let Some(exchange) = self.open().filter(|exchange| exchange.mode() > Mode::Monitor) {
            exchange.judge_header(value);
        }
    }

    /// What it says so far.
    pub(super) fn seen(&self) -> Shadowed {
        let policy = self.exchange.policy();
        Shadowed {
            mode: policy.mode,
            rule: policy.rule.clone(),
            violations: self.exchange.tally.violations.clone(),
            refused: self.refused,
            ended: false,
        }
    }

    /// Looks at the head of the answer, and gives what judges the rest.
    pub(super) fn open_answer(&mut self, head: &AnswerHead<'_>) -> Option<AnswerPlan> {
        match self.open()?.open_answer(head) {
            Ok(plan) => Some(plan),
            Err(refusal) => {
                self.refused = Some(refusal.status);
                None
            }
        }
    }

    pub(super) fn stream(&self, judge: Box<StreamJudge>) -> ShadowJudge<Box<StreamJudge>> {
        ShadowJudge { judge, seen: self.seen(), scrap: Vec::new() }
    }

    pub(super) fn whole(&self, judge: Box<WholeJudge>) -> ShadowJudge<Box<WholeJudge>> {
        ShadowJudge { judge, seen: self.seen(), scrap: Vec::new() }
    }
}

impl ShadowJudge<Box<StreamJudge>> {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.scrap.clear();
        self.judge.push(bytes, &mut self.scrap);
    }

    pub(super) fn finish(&mut self) {
        self.scrap.clear();
        self.judge.finish(&mut self.scrap);
    }

    pub(super) fn seen(&mut self) -> Shadowed {
        self.seen.ended |= matches!(self.judge.ending(), Some(Ending::Refused));
        self.seen.violations.clone_from(&self.judge.tally().violations);
        self.seen.clone()
    }
}

impl ShadowJudge<Box<WholeJudge>> {
    pub(super) fn judge(&mut self, bytes: &[u8]) {
        if let Err(refusal) = self.judge.judge(bytes) {
            self.seen.refused = Some(refusal.status);
        }
    }

    /// The answer is too large to be judged.
    pub(super) fn too_large(&mut self) {
        if self.seen.mode > Mode::Monitor {
            self.seen.refused = Some(answer_too_large().status);
        }
    }

    pub(super) fn seen(&mut self) -> Shadowed {
        self.seen.violations.clone_from(&self.judge.tally().violations);
        self.seen.clone()
    }
}

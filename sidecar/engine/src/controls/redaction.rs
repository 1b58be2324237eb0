//! LLM02, sensitive information disclosure: secrets and personal data in answers are replaced by `[REDACTED_KIND]`, and those in requests
//! are dealt with as the policy says ([`requests`]).

mod requests;

use std::sync::Arc;

use super::{AnswerText, Control, Finding, Masks};
use crate::detect::secrets::{Kind, Scanner, SecretRules};
use crate::policy::{KindName, Mode, PolicyError, RedactionSpec, Requests};
use crate::verdict::ControlId;
use crate::wire::Request;

impl KindName {
    fn kinds(self) -> &'static [Kind] {
        use Kind::{AwsAccessKey, CreditCard, Email, GithubOauth, GithubToken, HuggingfaceToken, JwtToken, OpenaiKey, Ssn};
        match self {
            Self::Secrets => &[HuggingfaceToken, OpenaiKey, AwsAccessKey, GithubToken, GithubOauth, JwtToken],
            Self::PersonalData => &[Email, Ssn, CreditCard],
            Self::HuggingfaceToken => &[HuggingfaceToken],
            Self::OpenaiKey => &[OpenaiKey],
            Self::AwsAccessKey => &[AwsAccessKey],
            Self::GithubToken => &[GithubToken],
            Self::GithubOauth => &[GithubOauth],
            Self::JwtToken => &[JwtToken],
            Self::Email => &[Email],
            Self::Ssn => &[Ssn],
            Self::CreditCard => &[CreditCard],
        }
    }
}

#[derive(Debug)]
pub(super) struct Redaction {
    mode: Mode,
    rules: Arc<SecretRules>,
    requests: Requests,
    /// What was redacted in a request comes back in its answer.
    restores: bool,
}

impl Redaction {
    pub(super) fn new(spec: &RedactionSpec, mode: Mode) -> Result<Self, PolicyError> {
        let kinds: Vec<Kind> = match &spec.kinds {
            None => Kind::ALL.to_vec(),
            Some(names) if names.is_empty() => {
                // A reader could take it for every kind, as other empty lists are, or for none.
                let reason = "it is empty: leave it out for every kind, or name those that are meant";
                return Err(PolicyError::in_spec("redaction.kinds", reason));
            }
            Some(names) => names.iter().flat_map(|name| name.kinds()).copied().collect(),
        };
        let (requests, restores) = (spec.requests.unwrap_or(Requests::Count), spec.restore.unwrap_or(false));
        if restores && requests != Requests::Redact {
            let reason = "only what was redacted in a request comes back in its answer: that takes requests: redact";
            return Err(PolicyError::in_spec("redaction.restore", reason));
        }
        Ok(Self { mode, rules: Arc::new(SecretRules::new(&kinds)), requests, restores })
    }
}

impl Control for Redaction {
    fn id(&self) -> ControlId {
        ControlId::Redaction
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn mend_request(&self, request: &mut dyn Request, masks: &mut Masks, found: &mut dyn FnMut(Finding)) {
        self.mend(request, masks, found);
    }

    fn open_answer(&self) -> Option<Box<dyn AnswerText>> {
        let scanner = Scanner::new(Arc::clone(&self.rules));
        Some(match self.mode {
            Mode::Monitor => Box::new(Counting { scanner, scrap: String::new() }),
            Mode::Soft | Mode::Hard => Box::new(Redacting { scanner }),
        })
    }
}

#[derive(Debug)]
struct Redacting {
    scanner: Scanner,
}

impl AnswerText for Redacting {
    fn push(&mut self, piece: &str, out: &mut String, found: &mut dyn FnMut(&'static str)) {
        self.scanner.push(piece, out, &mut |kind| found(kind.name()));
    }

    fn pause(&mut self, out: &mut String) {
        self.scanner.pause(out);
    }

    fn end_part(&mut self) {
        self.scanner.end_part();
    }

    fn unsure(&self) -> usize {
        self.scanner.unsure()
    }

    fn is_torn(&self) -> bool {
        self.scanner.is_torn()
    }

    fn finish(&mut self, out: &mut String, found: &mut dyn FnMut(&'static str)) {
        self.scanner.finish(out, &mut |kind| found(kind.name()));
    }
}

/// Finds the same and changes nothing.
#[derive(Debug)]
struct Counting {
    scanner: Scanner,
    scrap: String,
}

impl AnswerText for Counting {
    fn push(&mut self, piece: &str, out: &mut String, found: &mut dyn FnMut(&'static str)) {
        out.push_str(piece);
        self.scrap.clear();
        self.scanner.push(piece, &mut self.scrap, &mut |kind| found(kind.name()));
    }

    fn finish(&mut self, _out: &mut String, found: &mut dyn FnMut(&'static str)) {
        self.scrap.clear();
        self.scanner.finish(&mut self.scrap, &mut |kind| found(kind.name()));
    }
}

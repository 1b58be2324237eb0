//! LLM02, sensitive information disclosure: secrets and personal data in answers are replaced by `[REDACTED_KIND]`, and those in requests
//! are dealt with as the policy says ([`requests`]).

mod own;
mod requests;

use std::sync::Arc;

use super::{AnswerText, Control, Finding, Masks};
use crate::detect::pack;
use crate::detect::secrets::{Group, Kind, Scanner, SecretRules, TokenKey};
use crate::policy::{Mode, PolicyError, RedactionSpec, Requests, nearest, shown};
use crate::verdict::ControlId;
use crate::wire::Request;

/// The names of groups of kinds in a policy.
fn groups() -> impl Iterator<Item = &'static str> {
    ["secrets", "personalData"].into_iter().chain(pack::SECRETS.iter().map(|(topic, _)| *topic))
}

/// The kinds of a name in a policy's list, at a path. `own` are the policy's own, by their names.
fn kinds_of(name: &str, own: &[(&str, Kind)], path: &dyn Fn() -> String) -> Result<Vec<Kind>, PolicyError> {
    let is_meant = |group: Group| match group {
        Group::Secrets(topic) => name == "secrets" || name == topic,
        Group::PersonalData => name == "personalData",
    };
    let grouped: Vec<Kind> = Kind::all().filter(|kind| is_meant(kind.group())).collect();
    if !grouped.is_empty() {
        return Ok(grouped);
    }
    let of_own = own.iter().find(|(own, _)| *own == name).map(|(_, kind)| *kind);
    if let Some(kind) = Kind::of_key(name).or(of_own) {
        return Ok(vec![kind]);
    }
    let mut known: Vec<&str> = groups().chain(Kind::all().map(Kind::key)).collect();
    known.extend(own.iter().map(|(name, _)| *name));
    let meant = nearest(name, known).map_or_else(|| ".".to_owned(), |meant| format!(": did you mean '{meant}'?"));
    let reason = format!(
        "nobody knows '{}'{meant} There are secrets, personalData, and the kinds that `llm-guard-sidecar check --kinds` lists",
        shown(name)
    );
    Err(PolicyError::in_spec(path(), reason))
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
    pub(super) fn new(spec: &RedactionSpec, mode: Mode, tokens: Option<&'static TokenKey>) -> Result<Self, PolicyError> {
        let own = own::Own::new(spec)?;
        let kinds: Vec<Kind> = match &spec.kinds {
            None => Kind::all().collect(),
            Some(names) if names.is_empty() => {
                // A reader could take it for every kind, as other empty lists are, or for none.
                let reason = "it is empty: leave it out for every kind, or name those that are meant";
                return Err(PolicyError::in_spec("redaction.kinds", reason));
            }
            Some(names) => {
                let kinds: Result<Vec<_>, _> = own::named(names, &own.names, "redaction.kinds").collect();
                kinds?.concat()
            }
        };
        let (requests, restores) = (spec.requests.unwrap_or(Requests::Count), spec.restore.unwrap_or(false));
        if restores && requests != Requests::Redact {
            let reason = "only what was redacted in a request comes back in its answer: that takes requests: redact";
            return Err(PolicyError::in_spec("redaction.restore", reason));
        }
        Ok(Self { mode, rules: Arc::new(own.add_to(SecretRules::new(&kinds), spec, tokens)?), requests, restores })
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

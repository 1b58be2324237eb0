//! The controls: one file each, named for what it does.
//!
//! A control reads texts, names and facts in the engine's own words and doesn't know which API they came from. It says what it found
//! and what its mode asks for; [`crate::exchange`] does it. Adding one is a file, a line in the list, a section of the policy, and its tests.

mod compiled;
mod management;
mod masks;
mod models;
mod prompt_injection;
mod protocol;
mod redaction;
pub mod rego;
mod scope;
mod tools;

use std::borrow::Cow;
use std::fmt;

pub use compiled::Policy;
pub use masks::Masks;
pub(crate) use prompt_injection::found_in;
pub use protocol::{Protocol, opening};
pub(crate) use scope::system_prompt;

use crate::verdict::{Action, ControlId, Mode, Refusal};
use crate::wire::whereabouts::Places;
use crate::wire::{MessageIndex, Request, Route};

/// What a control may know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// The route.
    pub route: &'static Route,
    /// What stands in the path's open segment: a model's name.
    pub segment: Option<&'r str>,
    /// The request itself.
    pub request: &'r dyn Request,
    /// Who asks.
    pub caller: Caller,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The connection came from `127.0.0.1` or `::1`: from the same pod or machine. (A mesh uses other addresses of that block for
    /// what comes from outside.)
    pub over_loopback: bool,
}

/// What a control says of a request or of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is: one of the control's own closed set.
    pub kind: &'static str,
    /// What has to be done about it.
    pub remedy: Remedy,
}

/// What a control says of the place where a request's model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The model may run there, or it is no business of this control's.
    Fine,
    /// That can't be said before it is known where this model runs.
    Locate(String),
    /// It may not.
    Found(Finding),
}

/// What has to be done about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: the control counts.
    Count,
    /// The client is told, and every declared tool is taken out.
    WarnAndDisarm,
    /// The client is told.
    Warn,
    /// A message's content is cut out, and a mark says so.
    Cut(MessageIndex),
    /// A declared tool is taken out, by its place; or the call that was asked about.
    RemoveTool(usize),
    /// The value was replaced where it stood.
    Redact,
    /// Another model answers.
    UseModel(String),
    /// The request named no model and gets one. That is no violation.
    NameModel(String),
    /// The exchange ends.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The sentence for people.
        message: Cow<'static, str>,
    },
}

impl Remedy {
    /// The same, as metrics call it, where it answers to a violation.
    #[must_use]
    pub fn action(&self) -> Option<Action> {
        match self {
            Self::Count => Some(Action::Counted),
            Self::WarnAndDisarm | Self::Warn => Some(Action::Warned),
            Self::Cut(_) | Self::RemoveTool(_) => Some(Action::Removed),
            Self::Redact => Some(Action::Redacted),
            Self::UseModel(_) => Some(Action::Replaced),
            Self::NameModel(_) => None,
            Self::Refuse { .. } => Some(Action::Blocked),
        }
    }

    /// The refusal, where it is one.
    #[must_use]
    pub fn refusal(&self, control: ControlId, code: &'static str) -> Option<Refusal> {
        match self {
            Self::Refuse { status, message } => Some(Refusal { status: *status, code, message: message.clone(), control }),
            _ => None,
        }
    }
}

/// Text of an answer on its way through a control: what comes out may go on to the client.
pub trait AnswerText: fmt::Debug + Send {
    /// Takes the next piece, and calls `found` with the kind of each finding.
    fn push(&mut self, piece: &str, out: &mut String, found: &mut dyn FnMut(&'static str));
    /// The text pauses while another goes on: gives out what is held back, where that is no finding as it stands.
    fn pause(&mut self, _out: &mut String) {}
    /// A part of the text ends, and all of it is given out as it was judged by itself.
    fn end_part(&mut self) {}
    /// How many bytes at the end of what was said are held back.
    fn unsure(&self) -> usize {
        0
    }
    /// Part of a finding was given out at a pause or with an earlier part, so that the answer can't go on.
    fn is_torn(&self) -> bool {
        false
    }
    /// Ends the text and gives out the rest.
    fn finish(&mut self, out: &mut String, found: &mut dyn FnMut(&'static str));
}

/// A control.
pub trait Control: fmt::Debug + Send + Sync {
    /// Its name.
    fn id(&self) -> ControlId;

    /// The mode in which it runs.
    fn mode(&self) -> Mode;

    /// What it says of a request before its body is there: only what no body could change.
    fn judge_head(&self, _route: &Route, _caller: Caller) -> Option<Finding> {
        None
    }

    /// What it says of a request.
    fn judge_request(&self, _asked: &Asked<'_>) -> Vec<Finding> {
        Vec::new()
    }

    /// Changes what a request says that goes on, as the other controls leave it, and tells of what it found there. Values that are to come
    /// back in the answer it puts behind `masks`. In its monitor it changes nothing.
    fn mend_request(&self, _request: &mut dyn Request, _masks: &mut Masks, _found: &mut dyn FnMut(Finding)) {}

    /// What it says of the place where the request's model runs, as far as it is known. Asked after all controls have let the
    /// request pass, of the request as they left it; again when what is to be located is in `places`.
    fn judge_place(&self, _asked: &Asked<'_>, _places: &Places) -> Placed {
        Placed::Fine
    }

    /// What it says of an answer that tells by itself that another server made it.
    fn judge_remote_answer(&self) -> Option<Finding> {
        None
    }

    /// What it says of a tool that the model calls.
    fn judge_call(&self, _tool: &str) -> Option<Finding> {
        None
    }

    /// Opens a text of an answer, where the control reads answers. A text is one channel of one choice, or one value that is there as a whole.
    fn open_answer(&self) -> Option<Box<dyn AnswerText>> {
        None
    }
}

/// The remedy of a mode: what monitor, soft and hard do.
fn by_mode(mode: Mode, soft: impl FnOnce() -> Remedy, hard: impl FnOnce() -> Remedy) -> Remedy {
    match mode {
        Mode::Monitor => Remedy::Count,
        Mode::Soft => soft(),
        Mode::Hard => hard(),
    }
}

fn refuse(status: u16, message: impl Into<Cow<'static, str>>) -> Remedy {
    Remedy::Refuse { status, message: message.into() }
}

//! How far a command is, for whoever waits at a terminal; nothing where nobody does.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How far it is, on a terminal.
pub(super) struct Progress {
    what: &'static str,
    told: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, told: std::io::stderr().is_terminal().then(Instant::now), is_shown: false }
    }

    pub(super) fn tell(&mut self, done: u64) {
        if let Some(told) = self.told.as_mut().filter(|told| told.elapsed() > Duration::from_millis(200)) {
            *told = Instant::now();
            self.is_shown = true;
            eprint!("\r{done} {}", self.what);
        }
    }

    pub(super) fn end(&self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}

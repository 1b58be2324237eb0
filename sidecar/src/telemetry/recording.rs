//! Writes exchanges with their texts into a file, for `replay`: only where whoever runs the guard asks for it.
//!
//! The invariant: no exchange waits for the disk, and the file never grows above its bound; what there is no room for is counted and left out.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::recorded::{MAX_BODY, Recorded, RecordedAnswer};

/// The exchanges that may wait for the disk.
const WAITING: usize = 64;

/// Where exchanges are recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    lines: SyncSender<Recorded>,
    left_out: AtomicU64,
}

/// An exchange that is being recorded.
#[derive(Debug)]
pub(crate) struct Texts {
    recorded: Recorded,
    answer: Option<(u16, Option<String>, Vec<u8>)>,
    /// A body is too large, or is no text.
    is_unfit: bool,
}

impl Recording {
    /// Opens the file, which only its owner may read, and writes behind what it holds, until it has `limit` bytes.
    pub(crate) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let written = file.metadata()?.len();
        let (lines, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("recording".into()).spawn(move || write(file, &waiting, written, limit))?;
        Ok(Self { lines, left_out: AtomicU64::new(0) })
    }

    fn take(&self, recorded: Recorded) {
        if self.lines.try_send(recorded).is_err() && self.left_out.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
            tracing::warn!("exchanges are left out of the recording: the disk is slower than they come, or the file is full");
        }
    }
}

fn write(mut file: File, waiting: &Receiver<Recorded>, mut written: u64, limit: u64) {
    for recorded in waiting {
        let Ok(mut line) = serde_json::to_vec(&recorded) else { continue };
        line.push(b'\n');
        written += line.len() as u64;
        if written > limit {
            tracing::warn!(limit, "the recording has reached its bound, and goes on no further");
            return;
        }
        if let Err(error) = file.write_all(&line) {
            tracing::error!(%error, "the recording can't be written, and goes on no further");
            return;
        }
    }
}

impl Texts {
    pub(crate) fn new(recorded: Recorded) -> Self {
        Self { recorded, answer: None, is_unfit: false }
    }

    pub(crate) fn asked(&mut self, body: &[u8]) {
        match std::str::from_utf8(body) {
            Ok(text) if text.len() <= MAX_BODY => text.clone_into(&mut self.recorded.request),
            _ => self.is_unfit = true,
        }
    }

    pub(crate) fn answered(&mut self, status: u16, content_type: Option<&str>) {
        self.answer = Some((status, content_type.map(str::to_owned), Vec::new()));
    }

    pub(crate) fn heard(&mut self, bytes: &[u8]) {
        if let Some((_, _, body)) = &mut self.answer {
            if body.len() + bytes.len() <= MAX_BODY {
                body.extend_from_slice(bytes);
            } else {
                self.is_unfit = true;
                body.clear();
            }
        }
    }

    pub(crate) fn end(mut self, recording: &Recording) {
        if let Some((status, content_type, body)) = self.answer.take() {
            let Ok(body) = String::from_utf8(body) else { return };
            self.recorded.answer = Some(RecordedAnswer { status, content_type, body });
        }
        if !self.is_unfit {
            recording.take(self.recorded);
        }
    }
}

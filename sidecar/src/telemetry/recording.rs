//! Writes exchanges with their texts into a file, for `replay`: only where whoever runs the guard asks for it.
//!
//! The invariant: no exchange waits for the disk, and the file never grows above its bound; what there is no room for is counted and left out.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::recorded::{MAX_BODY, Recorded, RecordedAnswer};

/// The exchanges that may wait for the disk.
const WAITING: usize = 64;
/// The most bytes of them that may.
const WAITING_BYTES: usize = 4 * MAX_BODY;
/// Who may read the file.
const OWNER: u32 = 0o600;

/// Where exchanges are recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    lines: SyncSender<Recorded>,
    /// The bytes of the exchanges that wait for the disk.
    waiting: Arc<AtomicUsize>,
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
    /// Opens the file, which from then on only its owner may read, and writes behind what it holds, until it has `limit` bytes.
    pub(crate) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        // (What is no file may keep whoever opens it waiting, and a link leads to where somebody else wants the texts.)
        match path.symlink_metadata() {
            Ok(found) if !found.is_file() => return Err(io::Error::other("it is no plain file: name one, or a place where there is none")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new().create(true).append(true).mode(OWNER).open(path)?;
        // It may have been there before, for others to read.
        if file.metadata()?.permissions().mode() & 0o777 != OWNER {
            file.set_permissions(Permissions::from_mode(OWNER))?;
        }
        let written = file.metadata()?.len();
        let (lines, recorded) = sync_channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&waiting);
        std::thread::Builder::new().name("recording".into()).spawn(move || write(file, &recorded, &done, written, limit))?;
        Ok(Self { lines, waiting, left_out: AtomicU64::new(0) })
    }

    fn take(&self, recorded: Recorded) {
        let bytes = size(&recorded);
        let has_room = self.waiting.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= WAITING_BYTES;
        if has_room && self.lines.try_send(recorded).is_ok() {
            return;
        }
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if self.left_out.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
            tracing::warn!("exchanges are left out of the recording: the disk is slower than they come, or the file is full");
        }
    }
}

/// The bytes of an exchange's texts.
fn size(recorded: &Recorded) -> usize {
    recorded.request.len() + recorded.answer.as_ref().map_or(0, |answer| answer.body.len())
}

fn write(mut file: File, waiting: &Receiver<Recorded>, done: &AtomicUsize, mut written: u64, limit: u64) {
    for recorded in waiting {
        // (What is being written is no more than one.)
        done.fetch_sub(size(&recorded), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("llm-guard-recording-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_its_owner_reads_a_recording_also_one_that_others_could_read() {
        let folder = folder("mode");
        let (new, old) = (folder.join("new"), folder.join("old"));
        std::fs::write(&old, "{}\n").unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        for path in [&new, &old] {
            Recording::open(path, 1 << 20).unwrap();
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "{}\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_recording_goes_into_a_plain_file_and_nowhere_else() {
        let folder = folder("plain");
        let (link, target) = (folder.join("link"), folder.join("target"));
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [&link, &folder, &std::path::PathBuf::from("/dev/null")] {
            let error = Recording::open(path, 1 << 20).unwrap_err().to_string();
            assert!(error.starts_with("it is no plain file"), "{}: {error}", path.display());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_more_waits_for_the_disk_than_there_is_room_for() {
        let (lines, _waiting) = sync_channel(WAITING);
        let recording = Recording { lines, waiting: Arc::default(), left_out: AtomicU64::new(0) };
        for _ in 0..WAITING {
            recording.take(Recorded { request: "x".repeat(MAX_BODY), ..Recorded::default() });
        }
        assert_eq!(recording.waiting.load(Ordering::Relaxed), WAITING_BYTES);
        assert_eq!(recording.left_out.load(Ordering::Relaxed), 60);
    }
}

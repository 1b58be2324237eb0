//! The program that reads bodies as Ollama does (`tests/differential`), which `tests/setup` builds.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::cache;

/// A body that the guard took: what it was, what became of it, and what was judged of it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) family: &'static str,
    pub(super) streams: bool,
    pub(super) original: Vec<u8>,
    pub(super) forwarded: Vec<u8>,
    pub(super) models: Vec<String>,
    pub(super) tools: Vec<String>,
    pub(super) texts: Vec<String>,
    pub(super) unreadable: Vec<String>,
}

/// What the oracle says of a record.
#[derive(Debug)]
pub(super) struct Said {
    taken: u8,
    pub(super) failure: Option<String>,
}

impl Said {
    pub(super) const fn forwarded_taken(&self) -> bool {
        self.taken & 2 != 0
    }
}

/// The running program. It ends with its input, and at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct Oracle {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

/// The way to it.
#[derive(Debug)]
pub struct Questions {
    to: BufWriter<ChildStdin>,
}

/// The way back.
#[derive(Debug)]
pub struct Answers {
    child: Child,
    from: BufReader<ChildStdout>,
}

impl Oracle {
    pub(super) fn start() -> io::Result<Self> {
        let program = cache::part("differential/oracle")?;
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the oracle has no pipes"));
        };
        Ok(Self { child, to, from })
    }

    pub(super) fn split(self) -> (Questions, Answers) {
        (
            Questions { to: BufWriter::with_capacity(1 << 16, self.to) },
            Answers { child: self.child, from: BufReader::with_capacity(1 << 16, self.from) },
        )
    }
}

impl Questions {
    pub(super) fn ask(&mut self, record: &Record) -> io::Result<()> {
        self.bytes(record.family.as_bytes())?;
        self.to.write_all(&[u8::from(record.streams)])?;
        self.bytes(&record.original)?;
        self.bytes(&record.forwarded)?;
        for list in [&record.models, &record.tools, &record.texts, &record.unreadable] {
            self.length(list.len())?;
            for item in list {
                self.bytes(item.as_bytes())?;
            }
        }
        Ok(())
    }

    fn length(&mut self, length: usize) -> io::Result<()> {
        let length = u32::try_from(length).map_err(io::Error::other)?;
        self.to.write_all(&length.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length(bytes.len())?;
        self.to.write_all(bytes)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Answers {
    pub(super) fn answer(&mut self) -> io::Result<Said> {
        let mut head = [0; 5];
        self.from.read_exact(&mut head)?;
        let [taken, length @ ..] = head;
        let mut failure = vec![0; u32::from_le_bytes(length) as usize];
        self.from.read_exact(&mut failure)?;
        let failure = String::from_utf8_lossy(&failure).into_owned();
        Ok(Said { taken, failure: (!failure.is_empty()).then_some(failure) })
    }

    /// Waits for the program's end, whose input has ended.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("the oracle has ended with {status}"))) }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        // It has ended already, or has nothing left to say to anyone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

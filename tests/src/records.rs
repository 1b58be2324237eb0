//! What a test run keeps of what the guard said: its logs, its metrics, its error replies. After all tests, the target
//! `records` looks through them for planted values.
//!
//! The invariant: every record of every test of the run lies in one folder, under a name of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cache;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The folder of the records: `LLM_GUARD_TEST_RECORDS`, or `test-records` in the target folder.
pub fn folder() -> io::Result<PathBuf> {
    let folder = std::env::var_os("LLM_GUARD_TEST_RECORDS").map_or_else(|| cache::target().join("test-records"), PathBuf::from);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The path of a new record. `name` says whose it is, `kind` (`log`, `metrics`, `error`) what it holds.
pub fn path(name: &str, kind: &str) -> io::Result<PathBuf> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(folder()?.join(format!("{name}-{}-{number}.{kind}", process::id())))
}

/// Keeps an error reply that the guard gave: everything of it that a client could see.
pub fn error_reply(name: &str, reply: &str) -> io::Result<()> {
    fs::write(path(name, "error")?, reply)
}

/// Every record there is.
pub fn all() -> io::Result<Vec<PathBuf>> {
    files(&folder()?)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

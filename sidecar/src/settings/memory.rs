//! The highest serial that was in force, kept over a restart of the guard.
//!
//! The invariant: the file holds one number, which only goes up. Without it a guard that was made to restart would take settings
//! again that had been in force between its pod's admission and now.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// The most digits of a serial.
const DIGITS: usize = 20;

/// A file that belongs to the guard alone and outlives it: a volume of its pod.
#[derive(Clone, Debug)]
pub(crate) struct Memory(PathBuf);

impl Memory {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The serial that was kept; zero where none was. What is no number is an error: whoever wrote it, it wasn't a guard.
    pub(crate) fn recall(&self) -> std::io::Result<u64> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) if text.len() <= DIGITS => text.parse().map_err(|_| Error::new(ErrorKind::InvalidData, "it holds no serial")),
            Ok(_) => Err(Error::new(ErrorKind::InvalidData, "it holds no serial")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Keeps a serial. A reader sees the one before or this one, whole.
    pub(super) async fn keep(&self, serial: u64) -> std::io::Result<()> {
        let next = self.0.with_extension("next");
        tokio::fs::write(&next, serial.to_string()).await?;
        tokio::fs::rename(&next, &self.0).await
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_last_is_recalled_and_what_is_no_serial_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().join("serial"));
        assert_eq!(memory.recall().unwrap(), 0);
        for serial in [7, u64::MAX] {
            memory.keep(serial).await.unwrap();
            assert_eq!(Memory::at(memory.path().to_owned()).recall().unwrap(), serial);
        }
        for odd in ["", "x", "-1", "18446744073709551616", &"0".repeat(21)] {
            std::fs::write(memory.path(), odd).unwrap();
            assert_eq!(memory.recall().unwrap_err().kind(), ErrorKind::InvalidData, "{odd}");
        }
    }
}

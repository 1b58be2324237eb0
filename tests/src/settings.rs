//! Settings as the injector writes them, in a folder as the kubelet mounts it.
//!
//! The invariant: what a guard sees in the folder changes as a whole, by one link that is swapped.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use llm_guard_engine::policy::settings::{Settings, SigningKey, seal};
use llm_guard_engine::policy::{GuardPolicy, Mode};
use tempfile::TempDir;

/// Whose settings the guards of the tests take.
pub const AUDIENCE: &str = "cluster-uid/namespace-uid/Deployment/ollama";

/// A key that is made up from a number.
#[must_use]
pub fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// Settings for the guards of the tests: the built-in policy in a mode.
#[must_use]
pub fn settings(serial: u64, mode: Mode) -> Settings {
    Settings {
        audience: AUDIENCE.to_owned(),
        serial,
        mode: Some(mode),
        floor: None,
        stop: false,
        exceptions: Vec::new(),
        policy: GuardPolicy::built_in(),
        shadow: None,
    }
}

/// The same as text, signed by the key of number 1.
#[must_use]
pub fn sealed(settings: &Settings) -> String {
    seal(settings, &key(1))
}

/// A projected volume.
#[derive(Debug)]
pub struct SettingsFolder {
    folder: TempDir,
    count: AtomicU32,
}

impl SettingsFolder {
    /// One in which there is nothing yet.
    pub fn empty() -> io::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, count: AtomicU32::new(0) })
    }

    /// One with settings, and with the pod's own mode if it has one.
    pub fn with(settings: &str, pod_mode: Option<&str>) -> io::Result<Self> {
        let folder = Self::empty()?;
        folder.swap(settings, pod_mode)?;
        Ok(folder)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts other files in the place of those that are there.
    pub fn swap(&self, settings: &str, pod_mode: Option<&str>) -> io::Result<()> {
        let name = format!("..{}", self.count.fetch_add(1, Ordering::Relaxed));
        let snapshot = self.path().join(&name);
        fs::create_dir(&snapshot)?;
        fs::write(snapshot.join("settings"), settings)?;
        if let Some(mode) = pod_mode {
            fs::write(snapshot.join("pod-mode"), mode)?;
        }
        let new = self.path().join("..data_tmp");
        symlink(&name, &new)?;
        fs::rename(new, self.path().join("..data"))?;
        for file in ["settings", "pod-mode"] {
            let link = self.path().join(file);
            if link.symlink_metadata().is_err() {
                symlink(format!("..data/{file}"), link)?;
            }
        }
        Ok(())
    }
}

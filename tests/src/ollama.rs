//! A real Ollama with the scripted models, for one test.
//!
//! The invariant: it lives in a folder of its own, so that a test may change its models, and it reaches nothing outside: its cloud is
//! switched off, or is a server of the test's on the loopback, and the proxy that it is told to use for the rest is a closed port.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::cache;
use crate::process::Process;

/// The scripted models, as `tests/ollama/models` has them.
pub const MODELS: [&str; 7] = ["caller", "calm", "echo", "endless", "leaky", "mapper", "thinker"];

/// A running server.
#[derive(Debug)]
pub struct Ollama {
    address: SocketAddr,
    // The order counts: the process ends before its folder goes.
    process: Process,
    _home: TempDir,
}

impl Ollama {
    /// Starts one on a free port of the loopback.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[("OLLAMA_NO_CLOUD", "1")])
    }

    /// The same, for so many exchanges with a model at once.
    pub fn with_slots(count: u32) -> io::Result<Self> {
        Self::start_with(&[("OLLAMA_NO_CLOUD", "1"), ("OLLAMA_NUM_PARALLEL", &count.to_string())])
    }

    /// The same, with servers on the loopback allowed as the cloud of its models.
    pub fn with_remotes() -> io::Result<Self> {
        Self::start_with(&[("OLLAMA_REMOTES", "127.0.0.1")])
    }

    fn start_with(variables: &[(&str, &str)]) -> io::Result<Self> {
        let binary = cache::part("ollama/ollama")?;
        let store = cache::part("models/store")?;
        let home = tempfile::tempdir()?;
        let models = home.path().join("models");
        copy(&store, &models)?;
        order(&models)?;
        let mut process = Process::start(
            Command::new(binary)
                .arg("serve")
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .env("HOME", home.path())
                .env("TMPDIR", home.path())
                .env("OLLAMA_HOST", "127.0.0.1:0")
                .env("OLLAMA_MODELS", models)
                .env("OLLAMA_NOPRUNE", "1")
                .env("OLLAMA_CONTEXT_LENGTH", "4096")
                .env("OLLAMA_KEEP_ALIVE", "1h")
                .env("OLLAMA_MAX_LOADED_MODELS", "8")
                .env("OLLAMA_NUM_PARALLEL", "1")
                .env("HTTP_PROXY", "http://127.0.0.1:9")
                .env("HTTPS_PROXY", "http://127.0.0.1:9")
                .env("NO_PROXY", "127.0.0.1,localhost")
                .envs(variables.iter().copied()),
            &home.path().join("ollama.log"),
        )?;
        let address = process.wait_to_say("Ollama listens", Duration::from_secs(30), |said| {
            let (_, rest) = said.split_once("Listening on ")?;
            rest.split_once(" (version")?.0.parse().ok()
        })?;
        Ok(Self { address, process, _home: home })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kills it, with all that it started, as the kernel does when memory runs out.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// What it has logged, for a test that failed.
    pub fn log(&self) -> io::Result<String> {
        self.process.said()
    }
}

/// Gives each model an age of its own. A list is in the order of age, and among equals it changes from call to call.
fn order(models: &Path) -> io::Result<()> {
    let library = models.join("manifests/registry.ollama.ai/library");
    let mut time = SystemTime::UNIX_EPOCH + Duration::from_hours(480_000);
    for model in MODELS {
        time += Duration::from_hours(1);
        File::options().write(true).open(library.join(model).join("latest"))?.set_modified(time)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

//! Where the parts lie that `tests/setup` made, and where the workspace and its build output are.
//!
//! The invariant: a part that is missing is an error that names it and says how to make it, never a reason to skip.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

/// The `tests` folder of the workspace.
#[must_use]
pub fn tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo's target folder. A running test lies in it, at `PROFILE/deps/NAME`, and any other program at `PROFILE/NAME`.
#[must_use]
pub fn target() -> PathBuf {
    let program = env::current_exe().ok();
    let profile = program
        .as_deref()
        .and_then(Path::parent)
        .map(|folder| if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder });
    profile.and_then(Path::parent).map_or_else(|| tests().with_file_name("target"), Path::to_path_buf)
}

/// A file or folder of the cache that `tests/setup` fills.
pub fn part(path: &str) -> io::Result<PathBuf> {
    let cache = env::var_os("LLM_GUARD_TEST_CACHE")
        .map(PathBuf::from)
        .or_else(|| env::var_os("XDG_CACHE_HOME").map(|caches| PathBuf::from(caches).join("llm-guard-tests")))
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/llm-guard-tests")))
        .ok_or_else(|| io::Error::other("neither LLM_GUARD_TEST_CACHE nor HOME is set, so the tests' cache can't be found"))?;
    existing(cache.join(path), "run tests/setup, which makes it")
}

/// The guard's binary: `LLM_GUARD_SIDECAR`, or the release build, or the debug build beside this test.
pub fn sidecar() -> io::Result<PathBuf> {
    program("llm-guard-sidecar", "LLM_GUARD_SIDECAR")
}

/// The injector's binary: `LLM_GUARD_INJECTOR`, or the release build, or the debug build beside this test.
pub fn injector() -> io::Result<PathBuf> {
    program("llm-guard-injector", "LLM_GUARD_INJECTOR")
}

fn program(name: &str, variable: &str) -> io::Result<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        return existing(PathBuf::from(named), &format!("{variable} must name the binary"));
    }
    let target = target();
    let release = target.join("release").join(name);
    if release.exists() {
        return Ok(release);
    }
    existing(target.join("debug").join(name), &format!("run `cargo build --release -p {name}` first, or name the binary in {variable}"))
}

fn existing(path: PathBuf, otherwise: &str) -> io::Result<PathBuf> {
    if path.exists() { Ok(path) } else { Err(io::Error::other(format!("there is no {}: {otherwise}", path.display()))) }
}

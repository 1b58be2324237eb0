//! Writes out where a server listens, if that can't be read.
//!
//! The invariant: an Ollama that serves listens where the guard stands, wherever its `OLLAMA_HOST` comes from.

use serde_json::json;

use super::Config;
use super::detect::{self, Told};
use super::draft::{Draft, Misshapen, Path};
use super::view::Pod;

/// Tells each Ollama that serves where to listen, if what it is told can't be read: where the guard stands. As its own image does, for all
/// addresses. Says in which containers.
pub(super) fn ollama_host(draft: &mut Draft, pod: &Pod, port: u16, config: &Config) -> Result<Vec<String>, Misshapen> {
    let mut written = Vec::new();
    let servers = detect::candidates(pod).filter(|placed| detect::serves_as_told(placed.container, config));
    for placed in servers.filter(|placed| detect::is_told_from_elsewhere(placed.container)) {
        let env = Path::of(&["spec", placed.list.name()]).index(placed.index).key("env");
        let entry = json!({"name": "OLLAMA_HOST", "value": format!("0.0.0.0:{port}")});
        match detect::ollama_host(placed.container) {
            Some(Told::Literal { index, .. } | Told::Unread { index }) => draft.replace(&env.index(index), entry)?,
            None => draft.append(&env, entry)?,
        }
        written.push(placed.container.name.clone());
    }
    Ok(written)
}

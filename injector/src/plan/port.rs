//! Interception by port, where rules may not be written: the guard takes the model's port, and the model moves to loopback.
//!
//! The invariant: a container is moved only if it reads `OLLAMA_HOST`, and is then told explicitly where to listen; a model that can't
//! be moved is refused by name. Clients keep what they were told.

use serde_json::{Value, json};

use crate::names::{INTERCEPTION, MOVED_PORT, PORT};

use super::detect::{self, Told};
use super::draft::{Draft, Misshapen, Path};
use super::keys::{Asked, Interception};
use super::mesh::Mesh;
use super::obstacles::{Obstacle, Refusal};
use super::view::{Placed, Pod};
use super::{Config, Namespace};

/// A namespace's Pod Security level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodSecurity {
    Privileged,
    Baseline,
    Restricted,
}

impl PodSecurity {
    /// The namespace's, else the cluster's. What is no level counts as the strictest, as it does to the API server.
    fn of(namespace: &Namespace, default: Self) -> Self {
        match namespace.labels.get("pod-security.kubernetes.io/enforce").map(String::as_str) {
            None => default,
            Some("privileged") => Self::Privileged,
            Some("baseline") => Self::Baseline,
            Some(_) => Self::Restricted,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl std::str::FromStr for PodSecurity {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        [Self::Privileged, Self::Baseline, Self::Restricted].into_iter().find(|level| level.name() == text).ok_or(UnknownLevel)
    }
}

/// A word that is no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Pod Security level is privileged, baseline or restricted")]
pub(crate) struct UnknownLevel;

/// How this pod's port is brought to the guard.
pub(super) fn interception(asked: &Asked, namespace: &Namespace, config: &Config) -> Result<Interception, Refusal> {
    let level = PodSecurity::of(namespace, config.pod_security_default);
    match (asked.interception, level) {
        (Some(Interception::Iptables), PodSecurity::Baseline | PodSecurity::Restricted) => {
            Err(Refusal::pod(format!("metadata.annotations[{INTERCEPTION}]"), Obstacle::IptablesForbidden { level: level.name() }))
        }
        (Some(interception), _) => Ok(interception),
        (None, PodSecurity::Privileged) => Ok(Interception::Iptables),
        (None, PodSecurity::Baseline | PodSecurity::Restricted) => Ok(Interception::Port),
    }
}

/// The containers that are moved: every Ollama that serves, also one that an init container starts.
fn moved<'a>(pod: &'a Pod, config: &Config) -> Vec<Placed<'a>> {
    let server = |placed: &Placed<'_>| match detect::ollama_host(placed.container) {
        Some(Told::Literal { host, .. }) => host.server,
        Some(Told::Unread { .. }) | None => true,
    };
    detect::candidates(pod)
        .filter(|placed| detect::is_ollama(placed.container, config) && detect::serves(placed.container) && server(placed))
        .collect()
}

/// What can't be moved.
pub(super) fn obstacles(pod: &Pod, asked: &Asked, mesh: &Mesh, namespace: &Namespace, config: &Config) -> Vec<Refusal> {
    let port = asked.port();
    let mut refusals = Vec::new();
    if port < 1024 || port == MOVED_PORT {
        refusals.push(Refusal::pod(format!("metadata.annotations[{PORT}]"), Obstacle::PortToTake(port)));
    }
    let moved = moved(pod, config);
    let stays = |placed: &Placed<'_>| !moved.iter().any(|other| (other.list, other.index) == (placed.list, placed.index));
    let declares = |placed: &Placed<'_>| placed.container.tcp_ports().any(|declared| declared == i64::from(port));
    let models = detect::models(pod, port, mesh, config);
    // Beside an Ollama, a container that only talks to the port is its client.
    let refused = models.iter().filter(|placed| stays(placed) && !detect::is_ollama(placed.container, config));
    let why = match asked.interception {
        Some(_) => "the annotation asks for interception by port".to_owned(),
        None => format!(
            "the namespace's Pod Security level ({}) means interception by port",
            PodSecurity::of(namespace, config.pod_security_default).name()
        ),
    };
    for placed in refused.filter(|placed| moved.is_empty() || declares(placed)) {
        refusals.push(Refusal::pod(placed.field("image"), Obstacle::NotOllama { why: why.clone() }));
    }
    if moved.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::pod("spec.containers", Obstacle::NotOllama { why }));
    }
    refusals
}

/// Tells each Ollama where to listen, and gathers the origins that it would have let in; also names those whose origins can't be read.
pub(super) fn relocate(draft: &mut Draft, pod: &Pod, config: &Config) -> Result<(Vec<String>, Vec<String>), Misshapen> {
    let (mut origins, mut unread) = (Vec::new(), Vec::new());
    for placed in moved(pod, config) {
        let env = Path::of(&["spec", placed.list.name()]).index(placed.index).key("env");
        let entry: Value = json!({"name": "OLLAMA_HOST", "value": format!("127.0.0.1:{MOVED_PORT}")});
        match detect::ollama_host(placed.container) {
            Some(Told::Literal { index, .. } | Told::Unread { index }) => draft.replace(&env.index(index), entry)?,
            None => draft.append(&env, entry)?,
        }
        let Some(index) = placed.container.env.iter().rposition(|variable| variable.name == "OLLAMA_ORIGINS").filter(|_| placed.lasts())
        else {
            continue;
        };
        let Some(value) = detect::literal(placed.container, index) else {
            unread.push(placed.container.name.clone());
            continue;
        };
        // As Ollama takes the value apart.
        let value = value.trim().trim_matches(['"', '\'']);
        origins.extend(value.split(',').filter(|origin| !origin.is_empty()).map(str::to_owned));
    }
    origins.dedup();
    Ok((origins, unread))
}

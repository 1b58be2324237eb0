//! Probes of the model's port, which the guard asks in the kubelet's place, and the hook by which the model waits for the guard.
//!
//! The invariant: what the kubelet asked of the model before, the guard asks of it now, with the same path, headers, periods and
//! thresholds; the original stands in the guard's arguments.

use serde_json::{Value, json};

use crate::names::{METRICS_PORT, is_our_name};

use super::detect;
use super::draft::{Draft, Misshapen, Path};
use super::earlier::Originals;
use super::obstacles::{Obstacle, Refusal};
use super::view::{Container, HttpGet, Placed, Pod, Port, Probe};

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Liveness, Self::Readiness, Self::Startup];

    /// In the path, and in the guard's arguments.
    const fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
            Self::Startup => "startupProbe",
        }
    }

    const fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Startup => container.startup_probe.as_ref(),
        }
    }
}

fn name(container: &Container, kind: Kind) -> String {
    format!("{}/{}", container.name, kind.name())
}

/// A container's own probes; ours ask the guard itself.
fn probes(pod: &Pod) -> impl Iterator<Item = (Placed<'_>, Kind, &Probe)> {
    let own = pod.containers().filter(|placed| !is_our_name(&placed.container.name));
    own.flat_map(|placed| Kind::ALL.into_iter().filter_map(move |kind| kind.of(placed.container).map(|probe| (placed, kind, probe))))
}

/// Probes of the port that can't be asked through the guard.
pub(super) fn obstacles(pod: &Pod, port: u16) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (placed, kind, probe) in probes(pod).filter(|(placed, _, probe)| detect::probed(placed.container, probe) == Some(port)) {
        if probe.http_get.as_ref().is_some_and(|http| http.scheme == "HTTPS") {
            refusals.push(Refusal::pod(placed.field(&format!("{}.httpGet.scheme", kind.field())), Obstacle::HttpsProbe));
        } else if probe.http_get.is_none() && probe.tcp_socket.is_none() {
            refusals.push(Refusal::pod(placed.field(&format!("{}.grpc", kind.field())), Obstacle::GrpcProbe));
        }
    }
    refusals
}

/// Lets the kubelet ask the guard. `before`: the originals of probes that ask it already.
pub(super) fn rewrite(draft: &mut Draft, pod: &Pod, port: u16, before: &Originals) -> Result<Originals, Misshapen> {
    let mut originals = Originals::new();
    for (placed, kind, probe) in probes(pod) {
        let name = name(placed.container, kind);
        if let Some(original) = before.get(&name).filter(|_| asks_the_guard(probe, &name)) {
            originals.insert(name, original.clone());
            continue;
        }
        if detect::probed(placed.container, probe) != Some(port) {
            continue;
        }
        let field = Path::of(&["spec", placed.list.name()]).index(placed.index).key(kind.field());
        let original = match &probe.http_get {
            Some(HttpGet { path, http_headers, .. }) => {
                let mut http =
                    json!({"path": path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/"), "port": port, "scheme": "HTTP"});
                if !http_headers.is_empty() {
                    http["httpHeaders"] = http_headers.clone().into();
                }
                json!({"httpGet": http})
            }
            None => json!({"tcpSocket": {"port": port}}),
        };
        draft.remove(&field.clone().key("tcpSocket"))?;
        draft.set(&field.key("httpGet"), http_get(&format!("/probes/{name}")))?;
        originals.insert(name, original.to_string());
    }
    Ok(originals)
}

/// Whether a probe is one that was rewritten.
fn asks_the_guard(probe: &Probe, name: &str) -> bool {
    probe.http_get.as_ref().is_some_and(|http| {
        http.port == Port::Number(METRICS_PORT.into()) && http.path.as_deref().and_then(|path| path.strip_prefix("/probes/")) == Some(name)
    })
}

fn http_get(path: &str) -> Value {
    json!({"path": path, "port": METRICS_PORT, "scheme": "HTTP"})
}

/// Lets the model wait for the guard when the pod ends; says which containers have a hook of their own.
pub(super) fn wait(draft: &mut Draft, models: &[Placed<'_>]) -> Result<Vec<String>, Misshapen> {
    let ours = json!({"httpGet": http_get("/idle")});
    let mut kept = Vec::new();
    for placed in models {
        let field = Path::of(&["spec", placed.list.name()]).index(placed.index).key("lifecycle").key("preStop");
        match &placed.container.lifecycle.pre_stop {
            None => draft.set(&field, ours.clone())?,
            Some(own) if *own == ours => {}
            Some(_) => kept.push(placed.container.name.clone()),
        }
    }
    Ok(kept)
}

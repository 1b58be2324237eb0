//! What a pod needs to run behind the guard, or why it is refused: a pure function.
//!
//! The invariant: a pod that asks for a guard leaves here with one or with a refusal, whatever else its manifest says; and planning for
//! a pod that was planned for before gives the same pod (`inject(inject(p)) == inject(p)`).
//!
//! | module | holds |
//! | --- | --- |
//! | [`view`] | what is read of a pod |
//! | [`mod@draft`] | the pod that is being changed, and the list of changes |
//! | [`keys`] | the label and the annotations |
//! | [`detect`] | who is guarded, and which container is the model's |
//! | [`harden`] | what no container may have, and what is set where nothing is |
//! | [`probes`] | probes and hooks of the model's port |
//! | [`port`] | interception by port |
//! | [`mesh`] | whose init containers come first |
//! | [`guard`] | our own containers and volumes |
//! | [`place`] | where they go, and what becomes of those of an earlier injection |
//! | [`mod@obstacles`] | refusals and warnings, each with its sentence |

mod detect;
mod draft;
mod earlier;
mod guard;
mod harden;
pub(crate) mod keys;
mod mesh;
mod obstacles;
mod ollama_host;
mod place;
mod port;
mod probes;
mod quantity;
mod view;
mod write_out;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use serde_json::{Value, json};

use crate::names::{
    ALLOW_SETUID, DEFAULT_PORT, GUARD, GUARDED, INIT, MINIMUM_MODE, MODE, MOVED_PORT, OPEN_PORTS, SETTINGS, VERIFY, WORKLOAD, is_our_name,
};

pub(crate) use detect::{Asks, Untouched, asks_for_guard};
pub(crate) use draft::{Change, Edit, Path, Step};
pub(crate) use keys::Asked;
pub(crate) use obstacles::{Field, MOST_REFUSALS, Obstacle, Of, Refusal, Users, Warning};
pub(crate) use port::PodSecurity;

use detect::Told;
use draft::{Draft, Misshapen};
use guard::Parts;
use keys::Interception;
use mesh::Mesh;
use obstacles::List as Names;
use view::{Placed, Pod};

/// The guard's user, which no other container may have.
const GUARD_UID: i64 = 11434;

/// How many containers of a pod are looked through. The API server asks us before it counts, and the work grows faster than they do.
const MOST_CONTAINERS: usize = 500;
/// What the kubelet writes on the pod that stands for a static one.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What runs in a namespace, and what is asked of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What the injector was told for all pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) guard_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub(crate) guard_pull_policy: String,
    pub(crate) guard_pull_secrets: Vec<String>,
    pub(crate) cpu_request: Option<String>,
    pub(crate) cpu_limit: Option<String>,
    pub(crate) memory_request: Option<String>,
    pub(crate) memory_limit: Option<String>,
    pub(crate) backend: Backend,
    /// The level of namespaces that name none.
    pub(crate) pod_security_default: PodSecurity,
    /// Images that are taken for model servers: the last parts of their paths.
    pub(crate) model_server_images: Vec<String>,
}

/// The kernel interface through which the rules are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Backend {
    #[default]
    Nft,
    Legacy,
}

/// Where a pod's guard finds its settings, and how it knows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SettingsRef {
    pub(crate) config_map: String,
    /// `CLUSTER/NSUID/KIND/NAME[/POLICY]`
    pub(crate) audience: String,
    pub(crate) workload_hash: String,
    /// As people say it: `Deployment/ollama`.
    pub(crate) workload: String,
    pub(crate) serial: u64,
    pub(crate) digest: String,
    /// The current public key and the next, in hexadecimal digits.
    pub(crate) keys: [String; 2],
}

/// All that a plan depends on beside the pod.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) namespace: Namespace,
    pub(crate) services: Vec<Service>,
    pub(crate) config: Config,
    /// A random number, of which the guard's group is made. Never one that stood in the pod: whoever can foretell the group can
    /// build an image that has it.
    pub(crate) random: u32,
    pub(crate) settings: SettingsRef,
    /// The annotations of the pod's workload.
    pub(crate) workload_annotations: BTreeMap<String, String>,
    /// Whether the pod has no workload of its own that the injector can read.
    pub(crate) bare: bool,
    /// The policy that will hold, if it is known: a warning names the controls that stay below an annotated mode.
    pub(crate) policy: Option<GuardPolicy>,
}

/// What becomes of a pod.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It stays as it is.
    Untouched(Untouched),
    /// It can't run behind a guard.
    Refused(Vec<Refusal>),
    /// It runs behind one.
    Guard(Box<Plan>),
}

/// The pod as it shall be, how it gets there, and what is worth saying about it.
#[derive(Debug)]
pub(crate) struct Plan {
    draft: Draft,
    pub(crate) warnings: Vec<Warning>,
}

impl Plan {
    /// The pod as it shall be.
    #[cfg(test)]
    pub(crate) fn pod(&self) -> &Value {
        self.draft.pod()
    }

    /// The changes that lead there, in their order.
    pub(crate) fn changes(&self) -> &[Change] {
        self.draft.changes()
    }
}

/// Plans for one pod.
pub(crate) fn plan(pod: &Value, s: &Surroundings) -> Outcome {
    let view = match Pod::read(pod) {
        Ok(view) => view,
        Err(error) => return Outcome::Refused(vec![detect::unreadable(&error)]),
    };
    let mut refusals = match detect::asks(&view, &s.namespace, &s.services, &s.config) {
        Asks::Untouched(why) => return Outcome::Untouched(why),
        // Who would be guarded learns at once all that stands in the way.
        Asks::Refused(refusals) if detect::would_be_guarded(&view, &s.namespace, &s.services, &s.config) => refusals,
        Asks::Refused(refusals) => return Outcome::Refused(refusals),
        Asks::Guard => Vec::new(),
    };
    let count = view.containers().count();
    if count > MOST_CONTAINERS {
        return Outcome::Refused(vec![Refusal::pod("spec", Obstacle::TooMany(count, MOST_CONTAINERS))]);
    }
    let asked = Asked::of(&view.metadata.annotations);
    let injected = earlier::recognised(&view);
    let mesh = detect::mesh(&view, asked.port(), &s.config);
    let interception = port::interception(&asked, &s.namespace, &s.config);
    refusals.extend(obstacles(&view, &asked, &mesh, injected, s));
    let interception = match interception {
        Ok(interception) => {
            if interception == Interception::Port {
                refusals.extend(port::obstacles(&view, &asked, &mesh, &s.namespace, &s.config));
            }
            refusals.extend(other_ports(&view, &asked, interception, injected, s));
            interception
        }
        Err(refusal) => {
            refusals.push(refusal);
            return Outcome::Refused(refusals);
        }
    };
    if !refusals.is_empty() {
        refusals.truncate(MOST_REFUSALS);
        return Outcome::Refused(refusals);
    }
    match draft(pod, &view, &asked, &mesh, interception, s) {
        Ok(plan) => Outcome::Guard(Box::new(plan)),
        Err(misshapen) => Outcome::Refused(vec![Refusal::pod("spec", Obstacle::Unreadable(misshapen.to_string()))]),
    }
}

/// Everything that stands in the way, whichever interception it is.
fn obstacles(view: &Pod, asked: &Asked, mesh: &Mesh, injected: bool, s: &Surroundings) -> Vec<Refusal> {
    let mut refusals = harden::obstacles(view, asked, mesh);
    if view.metadata.annotations.contains_key(MIRROR) {
        refusals.push(Refusal::pod(format!("metadata.annotations[{MIRROR}]"), Obstacle::Mirror));
    }
    // What somebody wrote on the workload counts for its pods, or is refused, also where the workload was never reviewed.
    refusals.extend(keys::check(keys::Scope::Workload, &BTreeMap::new(), &s.workload_annotations, false));
    refusals.extend(imitations(view, injected, &s.config));
    refusals.extend(probes::obstacles(view, asked.port()));
    refusals.extend(
        guard::above_limit(asked, &s.config)
            .into_iter()
            .map(|(key, what)| Refusal::pod(format!("metadata.annotations[{key}]"), Obstacle::RequestAboveLimit { what })),
    );
    refusals.extend(more_than_monitor(asked, s));
    let declared = detect::declared(view, mesh);
    let floor = floor(&s.namespace);
    if !declared.is_empty() && !detect::shows_port(view, &s.services, asked, &s.config) {
        let declared = declared.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        refusals.push(Refusal::pod("spec.containers", Obstacle::NoSuchPort { port: asked.port(), declared }));
    } else {
        refusals.extend(other_servers(view, asked, floor, &s.config));
    }
    refusals
}

/// Containers and volumes that merely bear our names; and those of ours whose image isn't.
fn imitations(view: &Pod, injected: bool, config: &Config) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for placed in view.containers().filter(|placed| is_our_name(&placed.container.name)) {
        let one_of_ours = [INIT, VERIFY, GUARD].contains(&placed.container.name.as_str()) && placed.list == view::List::Init;
        if !injected || !one_of_ours {
            refusals.push(Refusal::pod(placed.field("name"), Obstacle::OurName));
        } else if placed.container.image != config.guard_image {
            refusals.push(Refusal::pod(placed.field("image"), Obstacle::OtherImage { expected: config.guard_image.clone() }));
        }
    }
    let imitated = view.spec.volumes.iter().enumerate().filter(|(_, volume)| is_our_name(&volume.name) && !injected);
    for (index, _) in imitated.take(MOST_REFUSALS) {
        refusals.push(Refusal::pod(format!("spec.volumes[{index}].name"), Obstacle::OurName));
    }
    refusals
}

/// Model servers that declare ports, and not the one that is guarded: nothing would stand before them, and their ports stay open.
fn other_servers(view: &Pod, asked: &Asked, floor: Option<Mode>, config: &Config) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for placed in detect::candidates(view).filter(|placed| placed.lasts() && detect::is_other_server(placed.container, config)) {
        let declared: Vec<i64> = placed.container.tcp_ports().collect();
        let open = |port: &i64| u16::try_from(*port).is_ok_and(|port| asked.open_ports.contains(&port));
        if !declared.is_empty() && !declared.contains(&asked.port().into()) && !declared.iter().all(open) {
            let declared = declared.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            refusals.push(Refusal::pod(placed.field("ports"), Obstacle::OtherServer { declared, guarded: asked.port() }));
        } else if !declared.contains(&asked.port().into())
            && let (Some(floor), Some(port)) = (floor, declared.first().and_then(|port| u16::try_from(*port).ok()))
        {
            refusals.push(open_under_floor(port, floor));
        }
    }
    refusals
}

/// The mode below which nothing of a namespace goes.
fn floor(namespace: &Namespace) -> Option<Mode> {
    namespace.annotations.get(MINIMUM_MODE).and_then(|value| keys::mode(value))
}

/// Under a floor no pod is exempt; nor is one by the name of another port than its model's.
fn open_under_floor(port: u16, floor: Mode) -> Refusal {
    Refusal::pod(format!("metadata.annotations[{OPEN_PORTS}]"), Obstacle::OpenUnderFloor { port, floor })
}

/// Servers that listen on another port than the one that is guarded. An earlier injection may have told them theirs.
fn other_ports(view: &Pod, asked: &Asked, interception: Interception, injected: bool, s: &Surroundings) -> Vec<Refusal> {
    let config = &s.config;
    let mut refusals = Vec::new();
    for placed in detect::candidates(view) {
        // To an Ollama that serves, any host is where it listens: the pod's own name is one.
        let listens = detect::serves_as_told(placed.container, config);
        let (index, host) = match detect::ollama_host(placed.container) {
            Some(Told::Literal { index, host }) => (index, host),
            None if listens
                && placed.lasts()
                && !detect::is_told_from_elsewhere(placed.container)
                && interception == Interception::Iptables
                && asked.port() != DEFAULT_PORT =>
            {
                if !asked.open_ports.contains(&DEFAULT_PORT) {
                    refusals.push(Refusal::pod(placed.field("env"), Obstacle::DefaultPort { guarded: asked.port() }));
                } else if let Some(floor) = floor(&s.namespace) {
                    refusals.push(open_under_floor(DEFAULT_PORT, floor));
                }
                continue;
            }
            Some(Told::Unread { .. }) | None => continue,
        };
        let by_us = injected && interception == Interception::Port && host.port == MOVED_PORT;
        if (host.server || listens) && host.port != asked.port() && !by_us {
            let obstacle = Obstacle::OtherPort { found: host.port, guarded: asked.port() };
            refusals.push(Refusal::pod(placed.field(&format!("env[{index}].value")), obstacle));
        }
    }
    refusals
}

/// Who allows setuid stays in monitor; who asks for more as well is told so.
fn more_than_monitor(asked: &Asked, s: &Surroundings) -> Vec<Refusal> {
    if asked.allow_setuid.is_empty() {
        return Vec::new();
    }
    let read = |value: Option<&String>| value.and_then(|value| keys::mode(value));
    let asks = [
        (format!("the pod's {MODE}"), asked.mode),
        (format!("{MODE} of {}", s.settings.workload), read(s.workload_annotations.get(MODE))),
        (format!("the floor ({MINIMUM_MODE})"), read(s.namespace.annotations.get(MINIMUM_MODE))),
    ];
    let above = asks.into_iter().filter_map(|(asks, mode)| mode.filter(|mode| *mode > Mode::Monitor).map(|mode| (asks, mode)));
    above
        .map(|(asks, mode)| Refusal::pod(format!("metadata.annotations[{ALLOW_SETUID}]"), Obstacle::MoreThanMonitor { asks, mode }))
        .collect()
}

/// Changes the pod. Containers are changed where they stand before ours come between them.
fn draft(pod: &Value, view: &Pod, asked: &Asked, mesh: &Mesh, interception: Interception, s: &Surroundings) -> Result<Plan, Misshapen> {
    let mut draft = Draft::of(pod);
    let mut warnings = Vec::new();
    let models = detect::models(view, asked.port(), mesh, &s.config);

    let hardened = harden::harden(&mut draft, view, asked, mesh)?;
    if !hardened.is_empty() {
        warnings.push(Warning::Hardened(hardened.into_iter().collect()));
    }
    let before = if earlier::recognised(view) { earlier::originals(view) } else { earlier::Originals::new() };
    let originals = probes::rewrite(&mut draft, view, asked.port(), &before)?;
    let kept = probes::wait(&mut draft, &models)?;
    if !kept.is_empty() {
        warnings.push(Warning::PreStopKept(kept.into_iter().collect()));
    }
    let origins = if interception == Interception::Port {
        let (origins, unread) = port::relocate(&mut draft, view, &s.config)?;
        warnings.extend(unread.into_iter().map(Warning::OriginsUnread));
        origins
    } else {
        let written = write_out::ollama_host(&mut draft, view, asked.port(), &s.config)?;
        if !written.is_empty() {
            warnings.push(Warning::HostWritten(written.into_iter().collect(), asked.port()));
        }
        Vec::new()
    };

    let parts = Parts {
        config: &s.config,
        settings: &s.settings,
        asked,
        interception,
        gid: guard::gid(s.random, &view.spec),
        spec: &view.spec,
        originals: &originals,
        origins: &origins,
    };
    if parts.loses_its_guarantee() {
        warnings.push(Warning::NoLongerGuaranteed);
    }
    warnings.extend(place::containers(&mut draft, view, mesh, &parts)?);
    place::volumes(&mut draft, &parts)?;
    for secret in &s.config.guard_pull_secrets {
        if !view.spec.image_pull_secrets.iter().any(|named| named.name == *secret) {
            draft.append(&Path::of(&["spec", "imagePullSecrets"]), json!({"name": secret}))?;
        }
    }
    let metadata = |map: &str, key: &str| Path::of(&["metadata", map, key]);
    draft.set(&metadata("labels", GUARDED), json!("true"))?;
    draft.set(&metadata("labels", WORKLOAD), json!(s.settings.workload_hash))?;
    draft.set(&metadata("annotations", SETTINGS), json!(s.settings.digest))?;

    warnings.extend(said(view, asked, mesh, interception, &models, s));
    Ok(Plan { draft, warnings })
}

/// What is worth saying about a pod that gets a guard.
fn said(view: &Pod, asked: &Asked, mesh: &Mesh, interception: Interception, models: &[Placed<'_>], s: &Surroundings) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let port = asked.port();
    if !asked.allow_setuid.is_empty() {
        warnings.push(Warning::StaysMonitor(asked.allow_setuid.iter().cloned().collect()));
    }
    if models.is_empty() {
        warnings.push(Warning::ModelUnknown(port));
    }
    // Where an Ollama serves by itself, it was written out.
    let unread = |placed: &&Placed<'_>| {
        detect::is_ollama(placed.container, &s.config)
            && !detect::serves_as_told(placed.container, &s.config)
            && detect::is_told_from_elsewhere(placed.container)
    };
    if interception == Interception::Iptables {
        for placed in models.iter().filter(unread) {
            warnings.push(Warning::HostUnread { container: placed.container.name.clone(), port });
        }
    }
    if interception == Interception::Port {
        warnings.push(Warning::PortInterception);
        // Once it is moved, where it listened before can't be seen any more.
        let alone =
            |placed: &&Placed<'_>| matches!(detect::ollama_host(placed.container), Some(Told::Literal { host, .. }) if host.loopback);
        let opened = models.iter().filter(alone).map(|placed| Warning::Opened(placed.container.name.clone()));
        warnings.extend(opened.filter(|_| !earlier::recognised(view)));
    }
    let is_model = |placed: &Placed<'_>| models.iter().any(|model| (model.list, model.index) == (placed.list, placed.index));
    let others = detect::candidates(view).filter(|placed| placed.lasts() && !is_model(placed) && !mesh.has(&placed.container.name));
    let others: Names = others.map(|placed| placed.container.name.clone()).collect();
    if !others.0.is_empty() && models.iter().any(|placed| detect::is_ollama(placed.container, &s.config)) {
        warnings.push(Warning::Loopback(others));
    }
    let read = |value: Option<&String>| value.and_then(|value| keys::mode(value));
    let floor = read(s.namespace.annotations.get(MINIMUM_MODE));
    let annotated = read(s.workload_annotations.get(MODE)).or_else(|| read(s.namespace.annotations.get(MODE)));
    if let (Some(own), Some(held)) = (asked.mode, annotated.max(floor))
        && own < held
    {
        warnings.push(Warning::ModeBelow { own, held });
    }
    let declared = detect::declared(view, mesh);
    for service in &s.services {
        for (name, target) in detect::targets(service, view) {
            if target != port && !declared.contains(&target) && !asked.open_ports.contains(&target) {
                warnings.push(Warning::Closes { service: name.to_owned(), port: target });
            }
        }
    }
    if s.bare {
        warnings.push(Warning::Shared);
    }
    warnings
}

/// Which controls stay below a mode that somebody annotates.
pub(crate) fn stay_lower(policy: &GuardPolicy, mode: Mode, floor: Option<Mode>) -> Option<Warning> {
    let spec = &policy.spec;
    let standing = Standing { floor, ..Standing::of(Some(mode)) };
    let controls = [
        ("promptInjection", spec.prompt_injection.mode),
        ("redaction", spec.redaction.mode),
        ("models", spec.models.mode),
        ("tools", spec.tools.mode),
        ("rego", spec.rego.mode),
        ("management", spec.management.mode),
    ];
    let is_there = |name| name != "rego" || spec.rego.modules.is_some();
    let controls = controls.into_iter().filter(|(name, _)| is_there(*name));
    let lower = controls.map(|(name, own)| (name, standing.resolve(own, spec.mode))).filter(|(_, resolved)| *resolved < mode);
    let controls: Names = lower.map(|(name, resolved)| format!("{name} ({resolved})")).collect();
    (!controls.0.is_empty()).then_some(Warning::StayLower { mode, controls })
}

#[cfg(test)]
pub(crate) mod tests;

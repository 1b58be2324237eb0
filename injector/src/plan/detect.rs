//! Whether a pod is guarded, and which of its containers is the model's.
//!
//! The invariant: a pod that asks for a guard, by its label or by looking like a model server in a labelled namespace, is never passed
//! over: what can't be understood about its asking is refused.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::names::{DEFAULT_PORT, LABEL, METRICS_PORT, MINIMUM_MODE, is_our_name};

use super::earlier;
use super::keys::{self, Asked, Scope};
use super::mesh::Mesh;
use super::obstacles::{Obstacle, Refusal};
use super::ollama_host::OllamaHost;
use super::view::{Container, Placed, Pod, Port, Probe, Variable};
use super::{Config, Namespace};

/// Whether a pod is to be guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// It is.
    Guard,
    /// It isn't, and nothing is wrong with that.
    Untouched(Untouched),
    /// It can't be said: something in its labels or annotations is wrong.
    Refused(Vec<Refusal>),
}

/// Why a pod stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untouched {
    /// Neither it nor its namespace is labelled.
    Unlabelled,
    /// Its label exempts it.
    Disabled,
    /// The namespace is labelled, but nothing in the pod looks like a model server.
    NoModel,
}

impl Untouched {
    /// As audit logs have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unlabelled => "neither the pod nor its namespace is labelled",
            Self::Disabled => "the pod's label exempts it",
            Self::NoModel => "nothing in the pod looks like a model server",
        }
    }
}

/// What shows that a container serves the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It declares the port.
    Declares,
    /// Its image is in the list, or its command is `ollama`.
    Runs,
    /// It probes the port.
    Probes,
    /// `OLLAMA_HOST` says that it is a server.
    Serves,
}

/// Whether this pod is to be guarded. The first question of all: settings are written only for pods of which this says so.
pub(crate) fn asks_for_guard(pod: &Value, namespace: &Namespace, services: &[Service], config: &Config) -> Asks {
    match Pod::read(pod) {
        Ok(pod) => asks(&pod, namespace, services, config),
        Err(error) => Asks::Refused(vec![unreadable(&error)]),
    }
}

pub(super) fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::pod("spec", Obstacle::Unreadable(format!("this injector can't read the pod: {error}")))
}

/// Whether this pod is to be guarded, but for what is wrong with its keys and its namespace's.
pub(super) fn would_be_guarded(pod: &Pod, namespace: &Namespace, services: &[Service], config: &Config) -> bool {
    pod.metadata.labels.get(LABEL).is_some_and(|value| value == "enabled")
        || earlier::recognised(pod)
        || (namespace.labels.contains_key(LABEL) && looks_like_a_model(pod, services, config))
}

pub(super) fn asks(pod: &Pod, namespace: &Namespace, services: &[Service], config: &Config) -> Asks {
    let label = pod.metadata.labels.get(LABEL).map(String::as_str);
    // An exempt pod isn't written anew, so what it bears of our marks would stay: others would count it as guarded.
    let injected = earlier::recognised(pod) && label != Some("disabled");
    let mut refusals = keys::check(Scope::Pod, &pod.metadata.labels, &pod.metadata.annotations, injected);
    let namespace_keys = keys::check(Scope::Namespace, &namespace.labels, &namespace.annotations, false);
    let by_namespace = namespace.labels.contains_key(LABEL);
    let would_be = would_be_guarded(pod, namespace, services, config);
    if would_be {
        refusals.extend(namespace_keys);
    } else {
        // A wrong value of the label itself concerns every pod here; the other keys only those that are guarded.
        let label = |refusal: &Refusal| matches!(refusal.obstacle, Obstacle::NamespaceLabel(_));
        refusals.extend(namespace_keys.into_iter().filter(label));
    }
    if !refusals.is_empty() {
        return Asks::Refused(refusals);
    }
    match label {
        Some("disabled") if would_be => match namespace.annotations.get(MINIMUM_MODE).and_then(|floor| keys::mode(floor)) {
            Some(floor) => Asks::Refused(vec![Refusal::pod(format!("metadata.labels[{LABEL}]"), Obstacle::DisabledUnderFloor(floor))]),
            None => Asks::Untouched(Untouched::Disabled),
        },
        Some("disabled") => Asks::Untouched(Untouched::Disabled),
        _ if would_be => Asks::Guard,
        _ if by_namespace => Asks::Untouched(Untouched::NoModel),
        _ => Asks::Untouched(Untouched::Unlabelled),
    }
}

/// Whether something in the pod looks like a model server: what the namespace's label asks for.
fn looks_like_a_model(pod: &Pod, services: &[Service], config: &Config) -> bool {
    let asked = Asked::of(&pod.metadata.annotations);
    // Who names a port means a model behind it.
    asked.names_port()
        // A mesh's name hides nobody.
        || pod.containers().any(|placed| {
            !is_our_name(&placed.container.name) && shows_model(placed.container, asked.port(), config)
        })
        || services.iter().any(|service| targets(service, pod).any(|(_, port)| port == asked.port()))
}

/// The containers that could be the model's: all but ours.
pub(super) fn candidates(pod: &Pod) -> impl Iterator<Item = Placed<'_>> {
    pod.containers().filter(|placed| !is_our_name(&placed.container.name))
}

/// The containers that are a mesh's.
pub(super) fn mesh(pod: &Pod, port: u16, config: &Config) -> Mesh {
    Mesh::of(candidates(pod), |placed| Sign::ALL.into_iter().any(|sign| sign.stands(placed.container, port, config)))
}

impl Sign {
    const ALL: [Self; 4] = [Self::Declares, Self::Runs, Self::Probes, Self::Serves];

    fn stands(self, container: &Container, port: u16, config: &Config) -> bool {
        match self {
            Self::Declares => container.tcp_ports().any(|declared| declared == i64::from(port)),
            Self::Runs => is_listed(&container.image, &config.model_server_images) || runs_ollama(container),
            Self::Probes => {
                let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
                probes.into_iter().flatten().any(|probe| probed(container, probe) == Some(port) || asks_the_guard(container, probe))
            }
            Self::Serves => ollama_host(container).is_some_and(|told| matches!(told, Told::Literal { host, .. } if host.server)),
        }
    }
}

/// The port of the pod that a probe asks, by HTTP, TCP or gRPC. One that names a host asks that host.
pub(super) fn probed(container: &Container, probe: &Probe) -> Option<u16> {
    let http = probe.http_get.as_ref().filter(|http| http.host.is_empty()).map(|http| &http.port);
    let tcp = probe.tcp_socket.as_ref().filter(|tcp| tcp.host.is_empty()).map(|tcp| &tcp.port);
    let grpc = probe.grpc.as_ref().map(|grpc| &grpc.port);
    http.or(tcp).or(grpc).and_then(|port| container.resolve(port))
}

/// Whether a probe of the port was rewritten before: it still shows the model.
fn asks_the_guard(container: &Container, probe: &Probe) -> bool {
    probe.http_get.as_ref().is_some_and(|http| {
        let path = http.path.as_deref().and_then(|path| path.strip_prefix("/probes/"));
        http.port == Port::Number(METRICS_PORT.into())
            && path.and_then(|path| path.strip_prefix(container.name.as_str())).is_some_and(|kind| kind.starts_with('/'))
    })
}

/// Whether something in a container shows that it serves the model.
pub(super) fn shows_model(container: &Container, port: u16, config: &Config) -> bool {
    Sign::ALL.into_iter().any(|sign| sign.stands(container, port, config))
}

/// Whether a container runs a model server of the list other than Ollama, which has a port of its own.
pub(super) fn is_other_server(container: &Container, config: &Config) -> bool {
    is_listed(&container.image, &config.model_server_images) && !is_ollama(container, config)
}

/// Whether a container is an Ollama that serves, and takes its port from `OLLAMA_HOST` as it stands in the pod: a command of another
/// name may set another.
pub(super) fn serves_as_told(container: &Container, config: &Config) -> bool {
    is_ollama(container, config) && (runs_ollama(container) || container.command.is_empty()) && serves(container)
}

/// The containers that serve the model. What shows it best decides: declaring the port or running a model server, then probing the
/// port, then `OLLAMA_HOST`; without any of these the only container there is.
pub(super) fn models<'a>(pod: &'a Pod, port: u16, mesh: &Mesh, config: &Config) -> Vec<Placed<'a>> {
    let lasting: Vec<_> = candidates(pod).filter(Placed::lasts).collect();
    let tiers: [&[Sign]; 3] = [&[Sign::Declares, Sign::Runs], &[Sign::Probes], &[Sign::Serves]];
    for tier in tiers {
        let stands = |placed: &&Placed<'_>| tier.iter().any(|sign| sign.stands(placed.container, port, config));
        let found: Vec<_> = lasting.iter().filter(stands).copied().collect();
        if !found.is_empty() {
            return found;
        }
    }
    let own: Vec<_> = lasting.iter().filter(|placed| !mesh.has(&placed.container.name)).collect();
    match own.as_slice() {
        [only] => vec![**only],
        _ => Vec::new(),
    }
}

/// Whether anything shows that the model listens on the port; an Ollama does by itself on its default one.
pub(super) fn shows_port(pod: &Pod, services: &[Service], asked: &Asked, config: &Config) -> bool {
    let port = asked.port();
    let shows = |placed: Placed<'_>| {
        let signs = [Sign::Declares, Sign::Probes, Sign::Serves];
        signs.into_iter().any(|sign| sign.stands(placed.container, port, config))
            || (is_ollama(placed.container, config) && port == DEFAULT_PORT)
    };
    candidates(pod).any(shows) || services.iter().any(|service| targets(service, pod).any(|(_, target)| target == port))
}

/// What `OLLAMA_HOST` of a container says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its value stands in the pod.
    Literal { index: usize, host: OllamaHost },
    /// It comes from elsewhere.
    Unread { index: usize },
}

/// The last entry counts, as it does to the kubelet.
pub(super) fn ollama_host(container: &Container) -> Option<Told> {
    let index = container.env.iter().rposition(|variable| variable.name == "OLLAMA_HOST")?;
    Some(match literal(container, index) {
        Some(value) => Told::Literal { index, host: OllamaHost::read(&value) },
        None => Told::Unread { index },
    })
}

/// The value of a variable, with what it takes from those before it; nothing if any of that comes from elsewhere.
pub(super) fn literal(container: &Container, index: usize) -> Option<String> {
    let variable = container.env.get(index)?;
    if variable.value_from.is_some() {
        return None;
    }
    expand(&variable.value, &container.env[..index], &mut 4096)
}

/// Puts values in the place of `$(NAME)`. The kubelet leaves a name that it doesn't know as it stands; but here it may come from
/// `envFrom`, or be one that Kubernetes sets, so the value counts as unknown. So does one that takes more than `left` bytes and names:
/// a few variables that each name the one before twice would otherwise keep us for years.
fn expand(text: &str, before: &[Variable], left: &mut usize) -> Option<String> {
    *left = left.checked_sub(text.len() + 1)?;
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            let index = before.iter().rposition(|variable| variable.name == name)?;
            let variable = &before[index];
            // Each is expanded by those before itself alone, so this ends.
            expanded.push_str(&(variable.value_from.is_none().then(|| expand(&variable.value, &before[..index], left)).flatten()?));
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    Some(expanded)
}

/// Whether an image is in a list. Patterns are the last parts of a path, with `*` for any characters in a part.
fn is_listed(image: &str, patterns: &[String]) -> bool {
    let parts = path_of(image);
    patterns.iter().any(|pattern| {
        let pattern: Vec<&str> = pattern.split('/').collect();
        parts.len() >= pattern.len() && pattern.iter().zip(&parts[parts.len() - pattern.len()..]).all(|(pattern, part)| fits(pattern, part))
    })
}

/// The parts of an image's path, without tag and digest.
fn path_of(image: &str) -> Vec<&str> {
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    let image = image[last..].find(':').map_or(image, |colon| &image[..last + colon]);
    image.split('/').collect()
}

fn fits(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((start, rest)) => part
            .strip_prefix(start)
            .is_some_and(|after| (0..=after.len()).any(|from| after.is_char_boundary(from) && fits(rest, &after[from..]))),
    }
}

fn runs_ollama(container: &Container) -> bool {
    container.command.first().is_some_and(|command| command.rsplit('/').next() == Some("ollama"))
}

/// Whether a container runs Ollama, which alone reads `OLLAMA_HOST`: by its command, or by an image of the list in whose path Ollama
/// is named.
pub(super) fn is_ollama(container: &Container, config: &Config) -> bool {
    runs_ollama(container)
        || (is_listed(&container.image, &config.model_server_images)
            && path_of(&container.image).iter().any(|part| part.contains("ollama")))
}

/// The words by which Ollama is a client. Every other may be one that serves, as `start` does.
const CLIENT: [&str; 17] = [
    "cp", "create", "help", "launch", "list", "login", "logout", "ls", "ps", "pull", "push", "rm", "run", "show", "signin", "signout",
    "stop",
];

/// Whether a container of Ollama's serves, as far as its arguments say: the first word that is no flag decides.
pub(super) fn serves(container: &Container) -> bool {
    let words =
        if runs_ollama(container) { container.command[1..].iter().chain(&container.args) } else { [].iter().chain(&container.args) };
    let entrypoint = runs_ollama(container) || container.command.is_empty();
    !entrypoint || words.into_iter().find(|word| !word.starts_with('-')).is_none_or(|word| !CLIENT.contains(&word.as_str()))
}

/// Whether what `OLLAMA_HOST` says to a container can't be read here. Of `envFrom` a source with a prefix gives only names that begin
/// with it; and what `env` says goes before.
pub(super) fn is_told_from_elsewhere(container: &Container) -> bool {
    let may_be = |source: &Value| "OLLAMA_HOST".starts_with(source["prefix"].as_str().unwrap_or_default());
    match ollama_host(container) {
        Some(Told::Literal { .. }) => false,
        Some(Told::Unread { .. }) => true,
        None => container.env_from.iter().any(may_be),
    }
}

/// The ports of this pod to which a Service leads, each with the Service's name.
pub(super) fn targets<'a>(service: &'a Service, pod: &'a Pod) -> impl Iterator<Item = (&'a str, u16)> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let spec = service.spec.as_ref().filter(|spec| {
        let selector = spec.selector.iter().flatten();
        spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
            && selector.into_iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
    });
    let ports =
        spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()).filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
    ports.filter_map(move |port| {
        let number = match &port.target_port {
            None | Some(IntOrString::Int(0)) => u16::try_from(port.port).ok(),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(name)) => pod.port_named(name),
        };
        number.map(|number| (name, number))
    })
}

/// Every TCP port that a container of the pod's own declares and that stays open while the pod runs.
pub(super) fn declared(pod: &Pod, mesh: &Mesh) -> BTreeSet<u16> {
    candidates(pod)
        .filter(|placed| placed.lasts() && !mesh.has(&placed.container.name))
        .flat_map(|placed| placed.container.tcp_ports())
        .filter_map(|port| u16::try_from(port).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(value: Value) -> Container {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_image_fits_by_the_last_parts_of_its_path() {
        let list = ["ollama/ollama".to_owned(), "vllm-*".to_owned()];
        for image in [
            "ollama/ollama",
            "ollama/ollama:0.17.4",
            "registry.example/ollama/ollama@sha256:00",
            "registry.example:5000/mirror/ollama/ollama:rocm",
            "vllm-openai",
            "a/vllm-openai:v1",
        ] {
            assert!(is_listed(image, &list), "{image}");
        }
        for image in ["ollama", "example/ollama", "ollama/ollama-webui", "xollama/ollama", "registry.example:5000/vllm", "vllm"] {
            assert!(!is_listed(image, &list), "{image}");
        }
    }

    #[test]
    fn a_variable_takes_what_stands_before_it() {
        let env = json!({"env": [
            {"name": "PORT", "value": "8000"},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {}}},
            {"name": "A", "value": "0.0.0.0:$(PORT)"},
            {"name": "B", "value": "$$(PORT) $ $x"},
            {"name": "C", "value": "$(SECRET)"},
            {"name": "D", "value": "$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "SELF", "value": "$(SELF)"},
        ]});
        let container = container(env);
        let value = |name| literal(&container, container.env.iter().position(|variable| variable.name == name).unwrap());
        assert_eq!(value("A").as_deref(), Some("0.0.0.0:8000"));
        assert_eq!(value("B").as_deref(), Some("$(PORT) $ $x"));
        for unknown in ["SECRET", "C", "D", "SELF"] {
            assert_eq!(value(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn variables_that_double_each_other_end_as_unknown() {
        for first in ["", "0"] {
            let mut env = vec![json!({"name": "A0", "value": first})];
            env.extend((1..200).map(|n| json!({"name": format!("A{n}"), "value": format!("$(A{0})$(A{0})", n - 1)})));
            env.push(json!({"name": "OLLAMA_HOST", "value": "$(A199)"}));
            let container = container(json!({"env": env}));
            assert_eq!(ollama_host(&container), Some(Told::Unread { index: 200 }));
        }
    }

    #[test]
    fn the_last_of_two_variables_counts() {
        let container = container(json!({"env": [{"name": "OLLAMA_HOST", "value": "ollama"}, {"name": "OLLAMA_HOST", "value": ":8000"}]}));
        assert_eq!(
            ollama_host(&container),
            Some(Told::Literal { index: 1, host: OllamaHost { server: true, loopback: false, port: 8000 } })
        );
    }

    #[test]
    fn a_service_leads_to_a_pod_by_selector_number_and_name() {
        const NONE: [u16; 0] = [];
        let pod = Pod::read(&json!({
            "metadata": {"labels": {"app": "m", "x": "y"}},
            "spec": {"containers": [{"name": "m", "ports": [{"name": "http", "containerPort": 11434}]}]}
        }))
        .unwrap();
        let to = |spec: Value| {
            let service: Service = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
            targets(&service, &pod).map(|(_, port)| port).collect::<Vec<_>>()
        };
        let selector = json!({"app": "m"});
        assert_eq!(to(json!({"selector": selector, "ports": [{"port": 80, "targetPort": "http"}]})), [11434]);
        assert_eq!(to(json!({"selector": selector, "ports": [{"port": 80, "targetPort": 8000}]})), [8000]);
        assert_eq!(to(json!({"selector": selector, "ports": [{"port": 80}]})), [80]);
        assert_eq!(to(json!({"selector": selector, "ports": [{"port": 80, "protocol": "UDP"}, {"port": 9, "targetPort": "no"}]})), NONE);
        assert_eq!(to(json!({"selector": {"app": "n"}, "ports": [{"port": 80}]})), NONE);
        assert_eq!(to(json!({"selector": {}, "ports": [{"port": 80}]})), NONE);
        assert_eq!(to(json!({"ports": [{"port": 80}]})), NONE);
    }
}

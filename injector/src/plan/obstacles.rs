//! What stands in the way of a guard, and what is only worth saying: each with its sentence.
//!
//! The invariant: a refusal names the field, and what to do about it. Warnings stay below the 256 characters that the API server
//! passes on; lists in them are cut.

use std::fmt;

use llm_guard_engine::policy::Mode;

/// Why a pod, or a workload, is refused: one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) field: Field,
    pub(crate) obstacle: Obstacle,
}

/// A field, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) of: Of,
    /// As `kubectl` users write it.
    pub(crate) path: String,
}

/// How many refusals are gathered of each sort, and said: more help nobody, and whoever writes a pod could make millions.
pub(crate) const MOST_REFUSALS: usize = 50;

/// Whose field it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The pod's, or the template's that makes it.
    Pod,
    /// The workload's own.
    Workload,
    /// The namespace's.
    Namespace,
}

impl Field {
    pub(crate) fn new(of: Of, path: impl Into<String>) -> Self {
        Self { of, path: path.into() }
    }
}

impl Refusal {
    pub(crate) fn pod(path: impl Into<String>, obstacle: Obstacle) -> Self {
        Self { field: Field::new(Of::Pod, path), obstacle }
    }
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    // Keys.
    #[error("'{0}' is no value of this label; a pod's are enabled and disabled")]
    PodLabel(String),
    #[error("'{0}' is no value of this label; a namespace's is enabled: write that, or take the label away")]
    NamespaceLabel(String),
    #[error("this is an annotation, not a label; move it")]
    LabelForAnnotation,
    #[error("nobody reads this key; the nearest that is read is {nearest}: correct it, or take it away")]
    UnknownKey { nearest: &'static str },
    #[error("nobody reads it here; it belongs on {place}")]
    Elsewhere { place: &'static str },
    #[error("this is written by the injector alone; take it away")]
    Reserved,
    #[error("'{value}' is out of range; it must be {expected}")]
    OutOfRange { value: String, expected: &'static str },
    #[error("it is changed only by rolling out the workload's template: it counted when the pod was made")]
    Settled,
    #[error(
        "there is a floor (llm-guard.io/minimum-mode: {0}, of the namespace or of the cluster), under which no pod is exempt; take the label away, or have the floor lifted"
    )]
    DisabledUnderFloor(Mode),

    // The pod.
    #[error("{0}")]
    Unreadable(String),
    #[error(
        "the pod would share the node's network, whose ports the guard can't close; take it away, or set the label llm-guard to disabled"
    )]
    HostNetwork,
    #[error("the pod would see the node's processes, and could reach the model through one of them; take it away")]
    HostPid,
    #[error(
        "this leads to {0} of the node, by which a process could have the node itself step around the guard; mount a folder beside it, or set the label llm-guard to disabled"
    )]
    HostPath(&'static str),
    #[error(
        "this pod only mirrors a static one, which the kubelet starts from a file, so no guard can come in between; run it as a Deployment or a DaemonSet, or set the label llm-guard to disabled"
    )]
    Mirror,
    #[error("the pod has {0} containers, more than the {1} that are looked through; make it smaller")]
    TooMany(usize, usize),
    #[error("the guard and its rules need Linux; put the pod on Linux nodes, or set the label llm-guard to disabled")]
    Windows,
    #[error("11434 is the guard's own user, which alone reaches the model directly; choose another")]
    GuardUser,
    #[error("names that begin with llm-guard are the injector's; choose another, and leave what it writes to it")]
    OurName,
    #[error("this volume is the guard's own; take the mount away")]
    OurVolume,
    #[error(
        "the guard's image is {expected}, and this is another; if a webhook rewrites images, give the injector the rewritten name (--guard-image)"
    )]
    OtherImage { expected: String },
    #[error(
        "nothing shows that the model listens on port {port}: no container declares or probes it; set llm-guard.io/port to one of {declared}, or declare {port}"
    )]
    NoSuchPort { port: u16, declared: String },

    // Containers.
    #[error("a privileged container can change the rules that lead to the guard; take it away, or set the label llm-guard to disabled")]
    Privileged,
    #[error("with {0} a process could step around the guard; take it away, or set the label llm-guard to disabled")]
    Capability(String),
    #[error(
        "with {0} a process could become the guard's user; take it away, or name the container in llm-guard.io/allow-setuid, with which the pod stays in monitor"
    )]
    SetidCapability(String),
    #[error(
        "a setuid program could become the guard's user; take it away, or name the container in llm-guard.io/allow-setuid, with which the pod stays in monitor"
    )]
    Escalation,
    #[error("without the masks a process could change what the kernel keeps from it; take it away")]
    ProcMount,
    #[error("{0} is the guard's own port; let the container use another")]
    GuardPort(u16),
    #[error(
        "OLLAMA_HOST says port {found}, and the guard stands before port {guarded}; let llm-guard.io/port and OLLAMA_HOST say the same"
    )]
    OtherPort { found: u16, guarded: u16 },
    #[error(
        "without OLLAMA_HOST this Ollama listens on 11434, and the guard stands before port {guarded}; let llm-guard.io/port and OLLAMA_HOST say the same"
    )]
    DefaultPort { guarded: u16 },
    #[error(
        "this model server declares {declared}, and the guard stands before port {guarded} alone; set llm-guard.io/port to the model's, or name what may stay unguarded in llm-guard.io/open-ports"
    )]
    OtherServer { declared: String, guarded: u16 },
    #[error(
        "{port} is a model server's, and there is a floor (llm-guard.io/minimum-mode: {floor}, of the namespace or of the cluster), under which none stays unguarded; set llm-guard.io/port to it, or have the floor lifted"
    )]
    OpenUnderFloor { port: u16, floor: Mode },
    #[error("a gRPC probe of the model's port can't be asked through the guard; use httpGet, tcpSocket or exec")]
    GrpcProbe,
    #[error("the guard speaks plain HTTP to the model; let the probe's scheme be HTTP")]
    HttpsProbe,
    #[error("the pod has no container of this name: {0}")]
    NoSuchContainer(String),
    #[error("the request for {what} is above the limit; make it smaller, or the limit larger")]
    RequestAboveLimit { what: &'static str },

    // Modes.
    #[error(
        "containers that may change their user can step around the guard, so such a pod stays in monitor, but {asks} asks for {mode}; take one of the two away"
    )]
    MoreThanMonitor { asks: String, mode: Mode },

    // Settings.
    #[error("{0}")]
    Settings(String),
    #[error(
        "{what}. That takes the verb {verb} on guardpolicies.llm-guard.io in the namespace {namespace}, which '{user}' doesn't have: ask for a RoleBinding to the ClusterRole llm-guard-{verb}, or leave it as it is"
    )]
    Verb { what: String, verb: &'static str, user: String, namespace: String },
    #[error(
        "it is in use and stays until it isn't: by {users}. Let them go by another policy (the annotation llm-guard.io/policy), or delete them first"
    )]
    InUse { users: Users },

    // Interception by port.
    #[error(
        "the namespace's Pod Security level is {level}, which forbids the rules that iptables needs; write port, or leave the annotation out"
    )]
    IptablesForbidden { level: &'static str },
    #[error(
        "{why}, and there only Ollama can be guarded: it alone reads OLLAMA_HOST, by which it is moved to 127.0.0.1:11435; name an image with ollama in it or the command ollama, or use a namespace whose Pod Security level is privileged"
    )]
    NotOllama { why: String },
    #[error("in port interception the guard takes the port itself, and can't take {0}; choose one from 1024 on, other than 11435")]
    PortToTake(u16),
}

/// What is worth saying to whoever applies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Warning {
    #[error(
        "llm-guard: no privilege escalation, SETUID, SETGID, NET_ADMIN or NET_RAW for {0}; who needs setuid (gosu, s6) is named in llm-guard.io/allow-setuid"
    )]
    Hardened(List),
    #[error("llm-guard: {0} may change their user, so this pod stays in monitor, whatever the policy says")]
    StaysMonitor(List),
    #[error("llm-guard: the preStop of {0} is kept; let it wait for GET :15435/idle, or running answers may break off when the pod ends")]
    PreStopKept(List),
    #[error("llm-guard: OLLAMA_HOST of {container} can't be read here; its port must be {port}, or the model isn't behind the guard")]
    HostUnread { container: String, port: u16 },
    #[error("llm-guard: OLLAMA_HOST of {0} can't be read here, so it is set to 0.0.0.0:{1}, where the guard stands")]
    HostWritten(List, u16),
    #[error("llm-guard: OLLAMA_ORIGINS of {0} can't be read here; the guard answers other origins as if it weren't set")]
    OriginsUnread(String),
    #[error(
        "llm-guard: interception by port can't close 127.0.0.1:11435: processes of this pod, also exec probes and hooks, can reach the model there"
    )]
    PortInterception,
    #[error(
        "llm-guard: {0} listened on the loopback alone; the guard that takes its port is reached from outside, too: close it by spec.network.from of a GuardPolicy"
    )]
    Opened(String),
    #[error("llm-guard: the pod's own mode {own} is below {held} and doesn't count")]
    ModeBelow { own: Mode, held: Mode },
    #[error(
        "llm-guard: no container declares port {port}, to which the Service {service} leads, so it closes; declare it, or name it in llm-guard.io/open-ports"
    )]
    Closes { service: String, port: u16 },
    #[error("llm-guard: ports that the model server opens on loopback stay open to other containers of this pod: {0}")]
    Loopback(List),
    #[error(
        "llm-guard: the pod's QoS class is no longer Guaranteed; set each llm-guard.io/resources-*-request and -limit to the same to keep it"
    )]
    NoLongerGuaranteed,
    #[error("llm-guard: this pod has no workload that the injector can read, so it shares settings; annotations on its owner don't count")]
    Shared,
    #[error("llm-guard: {container} was changed after it was written, and is put back: {fields}")]
    PutBack { container: String, fields: List },
    #[error("llm-guard: moved to before the guard's init containers and the pod's own: {0}")]
    MeshMoved(List),
    #[error(
        "llm-guard: no container shows that it is the model's; declare port {0} there, so that it waits for the guard when the pod ends"
    )]
    ModelUnknown(u16),
    #[error("llm-guard: with mode {mode} these stay lower, by the policy: {controls}")]
    StayLower { mode: Mode, controls: List },
    #[error("llm-guard: no pod of this template is guarded, so {0} does nothing here")]
    NothingGuarded(&'static str),
    #[error("llm-guard: the label llm-guard on the {0} itself does nothing; it belongs into the template's labels")]
    LabelOnWorkload(String),
    #[error("llm-guard: settings stay as they were: {0:.200}")]
    Settings(String),
    #[error("llm-guard: until this is put right, pods are refused: {0:.200}")]
    PodsRefused(String),
}

/// Names in a sentence: as many as fit, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List(pub(crate) Vec<String>);

/// Those who use something, in a refusal, which has more room than a warning: as many as are named, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Users(pub(crate) Vec<String>);

/// How many of them are named.
const NAMED: usize = 20;

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(names) = self;
        f.write_str(&names[..names.len().min(NAMED)].join(", "))?;
        if names.len() > NAMED { write!(f, " and {} more", names.len() - NAMED) } else { Ok(()) }
    }
}

/// How many characters of a list are written out.
const LIST: usize = 80;

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = LIST;
        for (place, name) in self.0.iter().enumerate() {
            let length = name.chars().count() + 2;
            if place > 0 && length > room {
                return write!(f, " and {} more", self.0.len() - place);
            }
            room = room.saturating_sub(length);
            if place > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl<S: Into<String>> FromIterator<S> for List {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_says_how_many_more_there_are() {
        let names: List = (0..100).map(|n| format!("container-{n}")).collect();
        let said = Warning::Hardened(names).to_string();
        assert!(said.contains("container-0, container-1") && said.contains(" and 94 more") && said.len() <= 256, "{said}");
    }

    #[test]
    fn who_uses_something_is_named_up_to_a_bound() {
        let users = |count: usize| Users((1..=count).map(|n| format!("Job/{n}")).collect()).to_string();
        assert_eq!(users(2), "Job/1, Job/2");
        assert!(users(20).ends_with(", Job/20") && users(21).ends_with(", Job/20 and 1 more"), "{}", users(21));
    }

    #[test]
    fn warnings_fit_into_what_the_api_server_passes_on() {
        let long = || List::from_iter(["x".repeat(63), "y".repeat(63)]);
        for warning in [
            Warning::Hardened(long()),
            Warning::StaysMonitor(long()),
            Warning::PreStopKept(long()),
            Warning::HostUnread { container: "x".repeat(63), port: 65535 },
            Warning::HostWritten(long(), 65535),
            Warning::OriginsUnread("x".repeat(63)),
            Warning::PortInterception,
            Warning::Opened("x".repeat(63)),
            Warning::Closes { service: "x".repeat(63), port: 65535 },
            Warning::Loopback(long()),
            Warning::NoLongerGuaranteed,
            Warning::Shared,
            Warning::PutBack { container: "x".repeat(63), fields: long() },
            Warning::MeshMoved(long()),
            Warning::ModelUnknown(65535),
            Warning::StayLower { mode: Mode::Hard, controls: long() },
            Warning::NothingGuarded("llm-guard.io/resources-memory-request"),
            Warning::LabelOnWorkload("StatefulSet".into()),
            Warning::Settings("x".repeat(500)),
            Warning::PodsRefused("x".repeat(500)),
        ] {
            assert!(warning.to_string().len() <= 256, "{warning}");
        }
    }
}

//! No process of the pod's own may become the guard: what stands in the way of that, and what is set where nothing is.
//!
//! The guard is let through by its user and its group together. A process gets there by `SETUID` and `SETGID`, or by a setuid program;
//! it gets around by changing the rules (`NET_ADMIN`, privileged), by packets of its own making (`NET_RAW`), or through another process.
//! A process namespace that the containers of a pod share is let through: the kernel opens another's process only to its own user, or
//! with `SYS_PTRACE`. The node's is not: there are processes in it that share neither the pod's network nor its bounds.
//!
//! The invariant: of a container that was let through, every process runs without these, unless `allow-setuid` names it, and then
//! the pod stays in monitor.

use serde_json::{Value, json};

use crate::names::{ALLOW_SETUID, DATA_PORT, METRICS_PORT, is_our_name};

use super::draft::{Draft, Misshapen, Path};
use super::mesh::Mesh;
use super::obstacles::{MOST_REFUSALS, Obstacle, Refusal};
use super::view::{Capabilities, Placed, Pod};
use super::{Asked, GUARD_UID};

/// What is dropped where it isn't yet.
const DROPPED: [&str; 4] = ["SETUID", "SETGID", "NET_ADMIN", "NET_RAW"];
/// The two of them that `allow-setuid` leaves.
const SETID: [&str; 2] = ["SETUID", "SETGID"];
/// What nobody may ask for.
const FORBIDDEN: [&str; 11] = [
    "SETUID",
    "SETGID",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "SYS_MODULE",
    "BPF",
    // These two open files and memory of the node's.
    "DAC_READ_SEARCH",
    "SYS_RAWIO",
    "ALL",
];

/// What a mesh's containers that end before us may ask for. What the others do doesn't end with them: a module, a program in the kernel.
const OF_A_MESH: [&str; 4] = ["NET_ADMIN", "NET_RAW", "SETUID", "SETGID"];

/// What of the node nobody may mount, nor what it stands in: who reaches one of these has the node start a process of his own, as whomever
/// he likes and wherever. A socket is one also where it is mounted to be read only.
const OF_THE_NODE: [&str; 20] = [
    "/run/containerd",
    "/run/docker.sock",
    "/run/docker",
    "/run/dockershim.sock",
    "/run/cri-dockerd.sock",
    "/run/crio",
    "/run/podman",
    "/run/k3s",
    "/run/k0s",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/k0s",
    "/var/lib/rancher",
    "/var/snap/microk8s",
    "/etc/kubernetes",
    "/etc/cni",
    "/opt/cni",
    "/proc",
];

/// What of the pod itself stands in the way.
pub(super) fn obstacles(pod: &Pod, asked: &Asked, mesh: &Mesh) -> Vec<Refusal> {
    let spec = &pod.spec;
    let mut refusals = Vec::new();
    let mut refuse = |stands: bool, field: &str, obstacle: Obstacle| {
        if stands {
            refusals.push(Refusal::pod(field, obstacle));
        }
    };
    refuse(spec.host_network, "spec.hostNetwork", Obstacle::HostNetwork);
    refuse(spec.host_pid, "spec.hostPID", Obstacle::HostPid);
    refuse(spec.os.name == "windows", "spec.os.name", Obstacle::Windows);
    let windows = spec.node_selector.get("kubernetes.io/os").is_some_and(|os| os == "windows");
    refuse(windows, "spec.nodeSelector[kubernetes.io/os]", Obstacle::Windows);
    refuse(spec.security_context.run_as_user == Some(GUARD_UID), "spec.securityContext.runAsUser", Obstacle::GuardUser);
    let mounted = spec.volumes.iter().enumerate().filter_map(|(index, volume)| {
        let of_the_node = of_the_node(&volume.host_path.as_ref()?.path)?;
        Some(Refusal::pod(format!("spec.volumes[{index}].hostPath.path"), Obstacle::HostPath(of_the_node)))
    });
    refusals.extend(mounted.take(MOST_REFUSALS));
    for placed in pod.containers().filter(|placed| !is_our_name(&placed.container.name)) {
        refusals.extend(container(&placed, asked, mesh));
    }
    let unknown = asked.allow_setuid.iter().filter(|name| !pod.containers().any(|placed| placed.container.name == **name));
    refusals.extend(
        unknown
            .take(MOST_REFUSALS)
            .map(|name| Refusal::pod(format!("metadata.annotations[{ALLOW_SETUID}]"), Obstacle::NoSuchContainer(name.clone()))),
    );
    refusals
}

/// What a path of the node leads to that nobody may mount: itself, something in it, or where it stands in.
fn of_the_node(path: &str) -> Option<&'static str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    // What every node has as a link.
    let parts = parts.strip_prefix(&["var", "run"]).map(|rest| [&["run"], rest].concat()).unwrap_or(parts);
    OF_THE_NODE.into_iter().find(|forbidden| {
        let mut forbidden = forbidden.split('/').skip(1);
        parts.iter().all(|part| forbidden.next().is_none_or(|other| other == *part))
    })
}

fn container(placed: &Placed<'_>, asked: &Asked, mesh: &Mesh) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |field: String, obstacle: Obstacle| {
        if refusals.len() < MOST_REFUSALS {
            refusals.push(Refusal::pod(field, obstacle));
        }
    };
    let container = placed.container;
    let security = &container.security_context;
    let may_setid = asked.allow_setuid.contains(&container.name);
    let ends_before_us = mesh.ends_before_us(placed);
    if security.privileged {
        refuse(placed.field("securityContext.privileged"), Obstacle::Privileged);
    }
    if security.run_as_user == Some(GUARD_UID) {
        refuse(placed.field("securityContext.runAsUser"), Obstacle::GuardUser);
    }
    if security.proc_mount == "Unmasked" {
        refuse(placed.field("securityContext.procMount"), Obstacle::ProcMount);
    }
    if security.allow_privilege_escalation == Some(true) && !may_setid && !ends_before_us {
        refuse(placed.field("securityContext.allowPrivilegeEscalation"), Obstacle::Escalation);
    }
    for (index, capability) in security.capabilities.add.iter().enumerate() {
        let name = plain(capability);
        let field = placed.field(&format!("securityContext.capabilities.add[{index}]"));
        if !FORBIDDEN.contains(&name.as_str()) || ends_before_us && OF_A_MESH.contains(&name.as_str()) {
            continue;
        }
        if !SETID.contains(&name.as_str()) {
            refuse(field, Obstacle::Capability(name));
        } else if !may_setid {
            refuse(field, Obstacle::SetidCapability(name));
        }
    }
    for (index, port) in container.ports.iter().enumerate() {
        if let Some(own) = [DATA_PORT, METRICS_PORT].into_iter().find(|own| i64::from(*own) == port.number) {
            refuse(placed.field(&format!("ports[{index}].containerPort")), Obstacle::GuardPort(own));
        }
    }
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        if is_our_name(&mount.name) {
            refuse(placed.field(&format!("volumeMounts[{index}].name")), Obstacle::OurVolume);
        }
    }
    refusals
}

/// A capability's name as the runtime takes it: in capital letters, with or without the prefix.
fn plain(capability: &str) -> String {
    let upper = capability.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
}

/// Sets what is unset, in every container but ours and those of a mesh that end before; says in which.
pub(super) fn harden(draft: &mut Draft, pod: &Pod, asked: &Asked, mesh: &Mesh) -> Result<Vec<String>, Misshapen> {
    let mut hardened = Vec::new();
    for placed in pod.containers().filter(|placed| !is_our_name(&placed.container.name) && !mesh.ends_before_us(placed)) {
        let container = placed.container;
        let may_setid = asked.allow_setuid.contains(&container.name);
        let context = Path::of(&["spec", placed.list.name()]).index(placed.index).key("securityContext");
        let before = draft.changes().len();
        if container.security_context.allow_privilege_escalation.is_none() && !may_setid {
            draft.set(&context.clone().key("allowPrivilegeEscalation"), json!(false))?;
        }
        let missing = missing(&container.security_context.capabilities, may_setid);
        if !missing.is_empty() {
            let all: Vec<Value> =
                container.security_context.capabilities.drop.iter().map(String::as_str).chain(missing).map(Value::from).collect();
            draft.set(&context.key("capabilities").key("drop"), all.into())?;
        }
        if draft.changes().len() > before && !may_setid {
            hardened.push(container.name.clone());
        }
    }
    Ok(hardened)
}

/// What isn't dropped yet and must be. Only Kubernetes' own spelling counts: to containerd `CAP_SETUID` is `CAP_CAP_SETUID`, and dropping
/// that drops nothing. To drop one twice does no harm.
fn missing(capabilities: &Capabilities, may_setid: bool) -> Vec<&'static str> {
    let dropped = &capabilities.drop;
    if dropped.iter().any(|capability| capability == "ALL") {
        return Vec::new();
    }
    let needed = |capability: &&str| !(dropped.iter().any(|dropped| dropped == capability) || may_setid && SETID.contains(capability));
    DROPPED.into_iter().filter(needed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_any_spelling() {
        for spelling in ["SYS_ADMIN", "sys_admin", "CAP_SYS_ADMIN", "cap_Sys_Admin"] {
            assert_eq!(plain(spelling), "SYS_ADMIN");
        }
    }

    #[test]
    fn what_is_dropped_already_is_not_dropped_again() {
        let drop = |drop: &[&str]| Capabilities { add: vec![], drop: drop.iter().map(|name| (*name).to_owned()).collect() };
        assert_eq!(missing(&drop(&[]), false), DROPPED);
        assert_eq!(missing(&drop(&["ALL"]), false), [""; 0]);
        assert_eq!(missing(&drop(&["SETUID", "NET_RAW", "CHOWN"]), false), ["SETGID", "NET_ADMIN"]);
        assert_eq!(missing(&drop(&["CAP_SETUID", "CAP_ALL", "cap_setgid"]), false), DROPPED);
        assert_eq!(missing(&drop(&[]), true), ["NET_ADMIN", "NET_RAW"]);
    }
}

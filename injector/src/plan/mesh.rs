//! Service meshes, whose containers come before the guard's.
//!
//! The invariant: a name in this list gives a container nothing but its place before `llm-guard-init` and, if it ends there, the
//! capabilities that it asks for: what it does to the network is over when `llm-guard-verify` looks.

use super::view::{List, Placed};

/// Containers of meshes: Istio, Linkerd, Consul, Kuma and App Mesh.
const NAMES: [&str; 13] = [
    "istio-init",
    "istio-validation",
    "istio-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
    "consul-connect-inject-init",
    "consul-dataplane",
    "envoy-sidecar",
    "kuma-init",
    "kuma-validation",
    "kuma-sidecar",
    "proxyinit",
];

pub(super) fn is_of_a_mesh(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether a container is a mesh's that ends before the guard's check.
pub(super) fn ends_before_us(placed: &Placed<'_>) -> bool {
    placed.list == List::Init && !placed.lasts() && is_of_a_mesh(&placed.container.name)
}

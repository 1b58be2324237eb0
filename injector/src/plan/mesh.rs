//! Service meshes, whose containers come before the guard's.
//!
//! The invariant: a name in this list gives a container nothing but its place before `llm-guard-init` and, if it ends there, the
//! capabilities that it asks for: what it does to the network is over when `llm-guard-verify` looks. And it gives a container that
//! looks like a model server nothing at all.

use std::collections::BTreeSet;

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

/// A pod's containers that are a mesh's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mesh(BTreeSet<String>);

impl Mesh {
    /// `serves`: whether a container looks like a model server.
    pub(super) fn of<'a>(containers: impl Iterator<Item = Placed<'a>>, serves: impl Fn(&Placed<'a>) -> bool) -> Self {
        let named = containers.filter(|placed| NAMES.contains(&placed.container.name.as_str()));
        Self(named.filter(|placed| !serves(placed)).map(|placed| placed.container.name.clone()).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Whether a container is a mesh's that ends before the guard's check.
    pub(super) fn ends_before_us(&self, placed: &Placed<'_>) -> bool {
        placed.list == List::Init && !placed.lasts() && self.has(&placed.container.name)
    }
}

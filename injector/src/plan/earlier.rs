//! What an earlier injection left in a pod.
//!
//! The invariant: it is recognised by all of its marks together, and nothing of it is believed but the original probes, which are kept
//! nowhere else.

use std::collections::BTreeMap;

use crate::names::{GUARD, GUARDED, SETTINGS};

use super::view::{Container, Pod};

/// The original probes, by `CONTAINER/KIND`: what the guard's arguments hold.
pub(super) type Originals = BTreeMap<String, String>;

/// Whether the injector has been here before, as far as one can tell: its marks and its guard. What it finds then it writes anew, so
/// nothing is won by imitating it.
pub(super) fn recognised(pod: &Pod) -> bool {
    pod.metadata.labels.get(GUARDED).is_some_and(|value| value == "true")
        && pod.metadata.annotations.contains_key(SETTINGS)
        && found_guard(pod).is_some_and(|guard| guard.args.starts_with(&["run".to_owned(), "--in-pod".to_owned()]))
}

fn found_guard(pod: &Pod) -> Option<&Container> {
    pod.spec.init_containers.iter().find(|container| container.name == GUARD)
}

/// The original probes that an earlier injection wrote down.
pub(super) fn originals(pod: &Pod) -> Originals {
    let args = found_guard(pod).map(|guard| guard.args.as_slice()).unwrap_or_default();
    let values = args.windows(2).filter(|pair| pair[0] == "--probe").map(|pair| pair[1].replace("$$", "$"));
    values.filter_map(|value| value.split_once('=').map(|(name, original)| (name.to_owned(), original.to_owned()))).collect()
}

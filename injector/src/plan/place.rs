//! Where our containers and volumes go in a pod, and what becomes of those that an earlier injection put there.
//!
//! The invariant: afterwards each of ours is there once and as it is written now, but for what others may add; those of a mesh stand
//! before them, all others behind, and among themselves both keep their order.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::names::is_our_name;

use super::draft::{Draft, Misshapen, Path};
use super::guard::Parts;
use super::mesh::Mesh;
use super::obstacles::{List, Warning};
use super::view::Pod;

/// Puts our containers after a mesh's and before the pod's own.
pub(super) fn containers(draft: &mut Draft, view: &Pod, mesh: &Mesh, parts: &Parts<'_>) -> Result<Vec<Warning>, Misshapen> {
    let list = Path::of(&["spec", "initContainers"]);
    let mut warnings = Vec::new();
    let mut ours = parts.containers();
    let found: Vec<Value> = draft.get(&list).and_then(Value::as_array).cloned().unwrap_or_default();
    for container in &mut ours {
        if let Some(found) = found.iter().find(|found| found["name"] == container["name"]) {
            warnings.extend(put_back(container, found));
        }
    }

    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let current: Vec<String> = found.iter().map(name).collect();
    let meshes: Vec<&String> = current.iter().filter(|name| mesh.has(name)).collect();
    let own: Vec<&String> = current.iter().filter(|name| !mesh.has(name) && !is_our_name(name)).collect();
    let names: Vec<String> = ours.iter().map(name).collect();
    let wanted: Vec<&String> = meshes.iter().copied().chain(&names).chain(own.iter().copied()).collect();
    if wanted.iter().copied().eq(&current) {
        for (index, container) in ours.into_iter().enumerate() {
            draft.replace(&list.clone().index(meshes.len() + index), container)?;
        }
        return Ok(warnings);
    }

    for index in (0..current.len()).rev().filter(|index| is_our_name(&current[*index])) {
        draft.remove(&list.clone().index(index))?;
    }
    // The mesh's move to the front, in their order, past the pod's own.
    let rest: Vec<&String> = view.spec.init_containers.iter().map(|container| &container.name).filter(|name| !is_our_name(name)).collect();
    let mut moved = Vec::new();
    for (target, name) in meshes.iter().enumerate() {
        let mut now: Vec<&String> = meshes[..target].to_vec();
        now.extend(rest.iter().copied().filter(|name| !meshes[..target].contains(name)));
        let Some(index) = now.iter().position(|other| other == name).filter(|index| *index != target) else { continue };
        if let Some(container) = draft.remove(&list.clone().index(index))? {
            draft.insert(&list, target, container)?;
            moved.push((*name).clone());
        }
    }
    if !moved.is_empty() {
        warnings.push(Warning::MeshMoved(moved.into_iter().collect()));
    }
    for (index, container) in ours.into_iter().enumerate() {
        draft.insert(&list, meshes.len() + index, container)?;
    }
    Ok(warnings)
}

/// Takes over what others may add to a container of ours: amounts of resources that it doesn't name, and how it is resized. What else
/// differs is put back, and said unless it is what changes between two injections.
fn put_back(ours: &mut Value, found: &Value) -> Option<Warning> {
    if let Some(policy) = found.get("resizePolicy") {
        ours["resizePolicy"] = policy.clone();
    }
    for kind in ["requests", "limits"] {
        for (name, amount) in found["resources"][kind].as_object().into_iter().flatten() {
            if ours["resources"][kind].get(name).is_none() {
                ours["resources"][kind][name] = amount.clone();
            }
        }
    }
    let names: BTreeSet<&String> = [&*ours, found].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    // The group, the serial and the keys may have changed in between.
    let expected = ["args", "securityContext"];
    let differ = names.into_iter().filter(|name| !expected.contains(&name.as_str()) && ours.get(*name) != found.get(*name));
    let fields: List = differ.cloned().collect();
    let container = ours["name"].as_str().unwrap_or_default().to_owned();
    (!fields.0.is_empty()).then_some(Warning::PutBack { container, fields })
}

/// Puts our volumes at the end, or anew where they stand.
pub(super) fn volumes(draft: &mut Draft, parts: &Parts<'_>) -> Result<(), Misshapen> {
    let list = Path::of(&["spec", "volumes"]);
    let ours = parts.volumes();
    let found: Vec<Value> = draft.get(&list).and_then(Value::as_array).cloned().unwrap_or_default();
    let is_ours = |volume: &Value| volume["name"].as_str().is_some_and(is_our_name);
    let wanted = |volume: &Value| ours.iter().any(|own| own["name"] == volume["name"]);
    let mut index = found.len();
    for volume in found.iter().rev() {
        index -= 1;
        if is_ours(volume) && !wanted(volume) {
            draft.remove(&list.clone().index(index))?;
        }
    }
    for volume in ours {
        let standing =
            draft.get(&list).and_then(Value::as_array).and_then(|all| all.iter().position(|found| found["name"] == volume["name"]));
        match standing {
            Some(index) => draft.replace(&list.clone().index(index), volume)?,
            None => draft.append(&list, volume)?,
        }
    }
    Ok(())
}

//! A pod that is being changed, and the list of what was changed.
//!
//! The invariant: the edits, applied in their order to the pod as it came, give the pod as it stands here; and nothing else of it
//! changes. What an edit relies on is kept beside it: the name of the container that it goes into, the value that it replaces.

use std::fmt;

use serde_json::{Map, Value};

/// A step on the way into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// A place in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

/// One change, at a place that is meant as the document is at that moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    /// A member that wasn't there, or an element before which the others move on.
    Add { at: Path, value: Value },
    /// A value in the place of another.
    Replace { at: Path, old: Value, new: Value },
    /// Nothing in the place of a value.
    Remove { at: Path, old: Value },
}

/// An edit and what it relies on: places, and the values that must stand there before it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) relies_on: Vec<(Path, Value)>,
    pub(crate) edit: Edit,
}

/// The pod and its changes.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pod: Value,
    changes: Vec<Change>,
}

/// A place where an object or a list should stand, and something else does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} isn't of the form that Kubernetes gives it")]
pub(crate) struct Misshapen(String);

// === impl Path ===

impl Path {
    /// A place, by its keys.
    pub(crate) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    pub(crate) fn key(mut self, key: &str) -> Self {
        self.0.push(Step::Key(key.to_owned()));
        self
    }

    pub(crate) fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    fn parent(&self) -> Option<(Self, &Step)> {
        self.0.split_last().map(|(last, before)| (Self(before.to_vec()), last))
    }

    fn find<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(document, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    fn find_mut<'v>(&self, document: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(document, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        })
    }
}

/// As `kubectl` users write it.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if key.contains(['.', '/']) => write!(f, "[{key}]")?,
                Step::Key(key) if place == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

// === impl Draft ===

impl Draft {
    pub(crate) fn of(pod: &Value) -> Self {
        Self { pod: pod.clone(), changes: Vec::new() }
    }

    /// The pod as it stands now.
    #[cfg(test)]
    pub(crate) fn pod(&self) -> &Value {
        &self.pod
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What stands at a place; a null is nothing.
    pub(crate) fn get(&self, at: &Path) -> Option<&Value> {
        at.find(&self.pod).filter(|value| !value.is_null())
    }

    /// Puts a value where a member should be, and whatever objects lead to it.
    pub(crate) fn set(&mut self, at: &Path, value: Value) -> Result<(), Misshapen> {
        if at.find(&self.pod) == Some(&value) {
            return Ok(());
        }
        let (mut at, mut value) = (at.clone(), value);
        loop {
            let Some((parent, last)) = at.parent() else { return Err(Misshapen(at.to_string())) };
            let Step::Key(key) = last else { return Err(Misshapen(at.to_string())) };
            match parent.find(&self.pod) {
                Some(Value::Object(_)) => break,
                None | Some(Value::Null) => {
                    value = Value::Object(Map::from_iter([(key.clone(), value)]));
                    at = parent;
                }
                Some(_) => return Err(Misshapen(parent.to_string())),
            }
        }
        let edit = match at.find(&self.pod) {
            Some(old) => Edit::Replace { at, old: old.clone(), new: value },
            None => Edit::Add { at, value },
        };
        self.make(edit)
    }

    /// Puts an element into a list, before the one that has this index.
    pub(crate) fn insert(&mut self, list: &Path, index: usize, value: Value) -> Result<(), Misshapen> {
        match list.find(&self.pod) {
            None | Some(Value::Null) => self.set(list, Value::Array(vec![value])),
            Some(Value::Array(elements)) if index <= elements.len() => self.make(Edit::Add { at: list.clone().index(index), value }),
            Some(_) => Err(Misshapen(list.to_string())),
        }
    }

    /// Puts an element at the end of a list.
    pub(crate) fn append(&mut self, list: &Path, value: Value) -> Result<(), Misshapen> {
        let length = self.get(list).and_then(Value::as_array).map_or(0, Vec::len);
        self.insert(list, length, value)
    }

    /// Puts a value in the place of an element.
    pub(crate) fn replace(&mut self, at: &Path, new: Value) -> Result<(), Misshapen> {
        match at.find(&self.pod) {
            Some(old) if *old == new => Ok(()),
            Some(old) => {
                let old = old.clone();
                self.make(Edit::Replace { at: at.clone(), old, new })
            }
            None => Err(Misshapen(at.to_string())),
        }
    }

    /// Takes away a member or an element, if it is there.
    pub(crate) fn remove(&mut self, at: &Path) -> Result<Option<Value>, Misshapen> {
        let Some(old) = at.find(&self.pod).cloned() else { return Ok(None) };
        self.make(Edit::Remove { at: at.clone(), old: old.clone() })?;
        Ok(Some(old))
    }

    fn make(&mut self, edit: Edit) -> Result<(), Misshapen> {
        let relies_on = self.relied_on(&edit);
        apply(&mut self.pod, &edit)?;
        self.changes.push(Change { relies_on, edit });
        Ok(())
    }

    /// The names of the elements that the edit goes through or moves on, and the value that it takes the place of.
    fn relied_on(&self, edit: &Edit) -> Vec<(Path, Value)> {
        let (Edit::Add { at, .. } | Edit::Replace { at, .. } | Edit::Remove { at, .. }) = edit;
        let mut relied_on = Vec::new();
        for (place, step) in at.0.iter().enumerate() {
            if matches!(step, Step::Index(_)) {
                let name = Self::name_of(Path(at.0[..=place].to_vec()));
                relied_on.extend(name.find(&self.pod).cloned().map(|value| (name, value)));
            }
        }
        if let Edit::Replace { at, old, .. } | Edit::Remove { at, old } = edit {
            relied_on.push((at.clone(), old.clone()));
        }
        relied_on
    }

    fn name_of(element: Path) -> Path {
        element.key("name")
    }
}

/// Makes one edit.
fn apply(document: &mut Value, edit: &Edit) -> Result<(), Misshapen> {
    let (Edit::Add { at, .. } | Edit::Replace { at, .. } | Edit::Remove { at, .. }) = edit;
    let misshapen = || Misshapen(at.to_string());
    let (parent, last) = at.parent().ok_or_else(misshapen)?;
    let parent = parent.find_mut(document).ok_or_else(misshapen)?;
    match (parent, last, edit) {
        (Value::Object(members), Step::Key(key), Edit::Add { value, .. } | Edit::Replace { new: value, .. }) => {
            members.insert(key.clone(), value.clone());
        }
        (Value::Object(members), Step::Key(key), Edit::Remove { .. }) => {
            members.remove(key);
        }
        (Value::Array(elements), Step::Index(index), Edit::Add { value, .. }) if *index <= elements.len() => {
            elements.insert(*index, value.clone());
        }
        (Value::Array(elements), Step::Index(index), Edit::Replace { new, .. }) if *index < elements.len() => {
            elements[*index] = new.clone();
        }
        (Value::Array(elements), Step::Index(index), Edit::Remove { .. }) if *index < elements.len() => {
            elements.remove(*index);
        }
        _ => return Err(misshapen()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_leads_to_a_member_is_made_with_it() {
        for pod in [json!({"spec": {}}), json!({"spec": {"securityContext": null}})] {
            let mut draft = Draft::of(&pod);
            draft.set(&Path::of(&["spec", "securityContext", "capabilities", "drop"]), json!(["ALL"])).unwrap();
            assert_eq!(draft.pod(), &json!({"spec": {"securityContext": {"capabilities": {"drop": ["ALL"]}}}}));
            assert_eq!(draft.changes().len(), 1);
        }
    }

    #[test]
    fn what_is_there_already_is_no_change() {
        let mut draft = Draft::of(&json!({"a": {"b": 1}}));
        draft.set(&Path::of(&["a", "b"]), json!(1)).unwrap();
        draft.replace(&Path::of(&["a", "b"]), json!(1)).unwrap();
        assert_eq!(draft.remove(&Path::of(&["a", "c"])).unwrap(), None);
        assert!(draft.changes().is_empty());
    }

    #[test]
    fn a_place_of_another_form_is_an_error_and_changes_nothing() {
        let pod = json!({"a": "text", "list": [1]});
        let mut draft = Draft::of(&pod);
        assert!(draft.set(&Path::of(&["a", "b"]), json!(1)).is_err());
        assert!(draft.insert(&Path::of(&["a"]), 0, json!(1)).is_err());
        assert!(draft.insert(&Path::of(&["list"]), 2, json!(1)).is_err());
        assert!(draft.replace(&Path::of(&["list"]).index(1), json!(1)).is_err());
        assert_eq!((draft.pod(), draft.changes().len()), (&pod, 0));
    }

    #[test]
    fn a_place_reads_as_kubectl_users_write_it() {
        let place = Path::of(&["spec", "containers"]).index(0).key("name");
        assert_eq!(place.to_string(), "spec.containers[0].name");
        assert_eq!(Path::of(&["metadata", "annotations", "llm-guard.io/port"]).to_string(), "metadata.annotations[llm-guard.io/port]");
    }
}

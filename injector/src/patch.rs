//! The plan as JSON Patch (RFC 6902).
//!
//! The invariant: applied to the pod that was planned for, it gives the pod of the plan; applied to another, of which something that
//! the plan relies on isn't true, it gives an error rather than a pod that is half guarded.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};

use crate::plan::{Edit, Path, Plan, Step};

/// The patch that makes the pod of a plan.
pub(crate) fn patch(plan: &Plan) -> Patch {
    let mut operations: Vec<PatchOperation> = Vec::new();
    // What was tested stays true until the list in which it stands is changed.
    let mut tested: Vec<TestOperation> = Vec::new();
    for change in plan.changes() {
        for (path, value) in &change.relies_on {
            let test = TestOperation { path: pointer(path), value: value.clone() };
            if !tested.contains(&test) {
                operations.push(PatchOperation::Test(test.clone()));
                tested.push(test);
            }
        }
        operations.push(match &change.edit {
            Edit::Add { at, value } => PatchOperation::Add(AddOperation { path: pointer(at), value: value.clone() }),
            Edit::Replace { at, new, .. } => PatchOperation::Replace(ReplaceOperation { path: pointer(at), value: new.clone() }),
            Edit::Remove { at, .. } => PatchOperation::Remove(RemoveOperation { path: pointer(at) }),
        });
        let (Edit::Add { at, .. } | Edit::Replace { at, .. } | Edit::Remove { at, .. }) = &change.edit;
        if matches!(at.steps().last(), Some(Step::Index(_))) {
            tested.clear();
        }
    }
    Patch(operations)
}

fn pointer(path: &Path) -> PointerBuf {
    PointerBuf::from_tokens(path.steps().iter().map(|step| match step {
        Step::Key(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    }))
}

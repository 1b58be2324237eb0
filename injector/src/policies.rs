//! Policies that were read before. To read one and see that it compiles takes a millisecond or more, and the same ones are read at each
//! look at their namespace, at each review of a change of theirs, and at each admission of a pod.
//!
//! The invariant: what is remembered follows from the text alone, so it is never out of date.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use kube::api::DynamicObject;
use llm_guard_engine::policy::GuardPolicy;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::settings::{document, read_policy};

/// The most policies that are remembered.
const MOST: usize = 256;
/// The most bytes of one that is: eight mebibytes in all.
const LARGEST: usize = 32 * 1024;

/// What a text came to: a policy, or why it is none.
pub(crate) type Read = Result<GuardPolicy, String>;

/// A memory of policies, by the SHA-256 of what they say.
#[derive(Debug, Default)]
pub(crate) struct Policies(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    read: HashMap<[u8; 32], Read>,
    /// The oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Policies {
    /// The same of an object as it is watched or asked for.
    pub(crate) fn read_object(&self, object: &DynamicObject) -> Read {
        serde_json::to_value(object).map_err(|error| error.to_string()).and_then(|value| self.read(&value))
    }

    /// Reads a policy out of an object of the cluster, as [`read_policy`] does.
    pub(crate) fn read(&self, object: &Value) -> Read {
        let text = document(object);
        let key: [u8; 32] = Sha256::digest(&text).into();
        if let Some(read) = self.0.lock().unwrap_or_else(PoisonError::into_inner).read.get(&key) {
            return read.clone();
        }
        let read = read_policy(object);
        if text.len() <= LARGEST {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.read.insert(key, read.clone()).is_none() {
                known.order.push_back(key);
            }
            if known.order.len() > MOST
                && let Some(oldest) = known.order.pop_front()
            {
                known.read.remove(&oldest);
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, spec: &Value) -> Value {
        json!({"apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardPolicy", "metadata": {"name": name}, "spec": spec})
    }

    #[test]
    fn a_policy_reads_the_same_whether_it_was_read_before_or_not() {
        let policies = Policies::default();
        for spec in
            [json!({"mode": "soft"}), json!({"mode": "hard"}), json!({"mode": "soft", "tools": {"allow": ["a"]}}), json!({"mod": 1})]
        {
            for name in ["a", "b"] {
                let object = object(name, &spec);
                let expected = read_policy(&object);
                assert_eq!(policies.read(&object), expected);
                assert_eq!(policies.read(&object), expected, "again");
            }
        }
        assert_eq!(policies.0.lock().unwrap().read.len(), 8);
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let policies = Policies::default();
        for number in 0..MOST + 10 {
            assert!(policies.read(&object(&format!("p{number}"), &json!({}))).is_ok());
        }
        let tools: Vec<String> = (0..3000).map(|number| format!("a-rather-long-name-{number}")).collect();
        assert!(policies.read(&object("large", &json!({"tools": {"block": tools}}))).is_ok());
        let known = policies.0.lock().unwrap();
        assert_eq!((known.read.len(), known.order.len()), (MOST, MOST));
        assert!(known.order.iter().all(|key| known.read.contains_key(key)));
    }
}

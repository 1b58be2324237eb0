//! Asks the API server whether a user has the verbs that a change takes: one `SubjectAccessReview` for each.
//!
//! The invariant: what isn't answered isn't allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;

use crate::authority::Verb;

/// How long one answer may take: all three together, and what is read before, stay below what the API server waits for us.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who asks the API server for a change.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    pub(crate) username: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// Why it isn't known who may.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    #[error(
        "whether '{user}' has the verb {verb} on guardpolicies.llm-guard.io can't be asked, so the change isn't made; try again: {source}"
    )]
    Api {
        user: String,
        verb: &'static str,
        #[source]
        source: kube::Error,
    },
    #[error(
        "whether '{user}' has the verb {verb} on guardpolicies.llm-guard.io isn't answered in time, so the change isn't made; try again"
    )]
    TooSlow { user: String, verb: &'static str },
}

impl User {
    /// Of these verbs on policies in a namespace, those that the user doesn't have. `policy`: the one that is changed, if it is one.
    pub(crate) async fn lacks(
        &self,
        client: &Client,
        namespace: &str,
        policy: Option<&str>,
        verbs: &BTreeSet<Verb>,
    ) -> Result<BTreeSet<Verb>, AccessError> {
        let mut lacking = BTreeSet::new();
        for verb in verbs {
            let api = Api::<SubjectAccessReview>::all(client.clone());
            let review = self.review(*verb, namespace, policy);
            let (params, name) = (PostParams::default(), verb.name());
            let answer = tokio::time::timeout(PATIENCE, api.create(&params, &review)).await;
            let user = || self.username.clone();
            let answer = answer.map_err(|_| AccessError::TooSlow { user: user(), verb: name })?;
            let answer = answer.map_err(|source| AccessError::Api { user: user(), verb: name, source })?;
            if !answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)) {
                lacking.insert(*verb);
            }
        }
        Ok(lacking)
    }

    fn review(&self, verb: Verb, namespace: &str, policy: Option<&str>) -> SubjectAccessReview {
        let attributes = ResourceAttributes {
            group: Some("llm-guard.io".into()),
            version: Some("v1alpha1".into()),
            resource: Some("guardpolicies".into()),
            namespace: Some(namespace.into()),
            name: policy.map(str::to_owned),
            verb: Some(verb.name().into()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(self.username.clone()),
            uid: Some(self.uid.clone()),
            groups: Some(self.groups.clone()),
            extra: Some(self.extra.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        SubjectAccessReview { spec, ..SubjectAccessReview::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_known_of_a_user_is_told_to_whoever_decides() {
        let user: User = serde_json::from_value(serde_json::json!({
            "username": "jane", "uid": "7", "groups": ["a", "b"], "extra": {"scopes": ["x"]}, "somethingNew": 1,
        }))
        .unwrap();
        let review = serde_json::to_value(user.review(Verb::Exempt, "llm", Some("p"))).unwrap();
        let expected = serde_json::json!({
            "user": "jane", "uid": "7", "groups": ["a", "b"], "extra": {"scopes": ["x"]},
            "resourceAttributes": {
                "group": "llm-guard.io", "version": "v1alpha1", "resource": "guardpolicies", "namespace": "llm", "name": "p", "verb": "exempt",
            },
        });
        assert_eq!(review["spec"], expected);
    }
}

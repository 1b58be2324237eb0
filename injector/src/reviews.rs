//! The webhooks' paths: gathers what a review needs of the cluster, has it decided, and answers.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::apply::Applier;
use crate::metrics::{Metrics, Verdict, Webhook};
use crate::server::{Reply, reply, text};
use crate::settings::read_policy;

/// Answers reviews.
pub(crate) struct Reviews {
    applier: Arc<Applier>,
    metrics: Arc<Metrics>,
}

impl Reviews {
    pub(crate) fn new(applier: Arc<Applier>, metrics: Arc<Metrics>) -> Self {
        Self { applier, metrics }
    }

    /// One review.
    pub(crate) async fn answer(&self, head: &http::request::Parts, body: &[u8]) -> Reply {
        let webhook = match head.uri.path() {
            "/validate/policies" => Webhook::Policies,
            _ => return text(StatusCode::NOT_FOUND, "there is no such webhook"),
        };
        if head.method != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only POST");
        }
        let began = Instant::now();
        let Ok(review) = serde_json::from_slice::<Value>(body) else { return text(StatusCode::BAD_REQUEST, "no JSON") };
        let uid = review.pointer("/request/uid").cloned().unwrap_or_default();
        let (verdict, response) = match read_policy(review.pointer("/request/object").unwrap_or(&Value::Null)) {
            Ok(_) => (Verdict::Allowed, json!({"uid": uid, "allowed": true})),
            Err(reason) => {
                (Verdict::Refused, json!({"uid": uid, "allowed": false, "status": {"code": 422, "reason": "Invalid", "message": reason}}))
            }
        };
        self.metrics.review(webhook, verdict, began.elapsed());
        let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        reply(StatusCode::OK, "application/json", answer.to_string().into())
    }
}

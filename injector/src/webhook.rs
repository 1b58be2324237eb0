//! The reviews that the API server asks for: what comes in, what is decided, what goes out. Pure: the world is in [`Surroundings`].
//!
//! The invariant: a review is answered for the object that it holds, and an object that can't be understood is refused.
//!
//! | path | review |
//! | --- | --- |
//! | `/mutate/pods` | [`pod_created`]: the guard is put in, or the pod is denied |
//! | `/validate/pods` | [`pod_changed`]: what counted when the pod was made can't be changed afterwards |
//! | `/validate/workloads` | [`workload`]: the same refusals and warnings for whoever applies a template |
//! | `/validate/policies` | a policy is stored only if guards can load it, and deleted only if nobody goes by it |
//! | `/validate/exceptions` | an exception lasts a day at most, and can only be changed to end earlier |
//! | `/validate/authority` | whoever changes our keys has the verb that it takes |
//! | `/validate/namespaces` | [`namespace`]: keys of a namespace that nobody reads, and values out of range |

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use llm_guard_engine::policy::Mode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::User;
use crate::names::{ALLOW_SETUID, LABEL, MINIMUM_MODE, MODE, is_our_name};
use crate::patch::patch;
use crate::plan::keys::{self, Scope};
use crate::plan::{
    Asks, Field, MOST_REFUSALS, Obstacle, Of, Outcome, Refusal, Surroundings, Untouched, Warning, asks_for_guard, plan, stay_lower,
};

/// The API server's review, as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionReview {
    api_version: String,
    request: Option<Review>,
}

/// What is asked about one object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Review {
    pub(crate) uid: String,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub(crate) operation: String,
    pub(crate) dry_run: Option<bool>,
    pub(crate) object: Value,
    pub(crate) old_object: Value,
    /// Who wants it.
    pub(crate) user_info: User,
}

/// What kind of object it is, in the version in which it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Kind {
    pub(crate) kind: String,
}

/// A body that is no review.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    /// It isn't JSON of a review's form.
    #[error("the body is no AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// It is a review of another version, or asks nothing.
    #[error("this webhook answers AdmissionReviews of admission.k8s.io/v1 with a request, and got one of '{0}'")]
    Version(String),
}

/// What is decided.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The object stays as it is, and isn't ours to judge.
    Untouched(Untouched),
    /// It may be as it is.
    Allowed(Vec<Warning>),
    /// It may be, once it is changed.
    Injected { patch: json_patch::Patch, warnings: Vec<Warning> },
    /// It may not be.
    Refused(Vec<Refusal>, Says),
    /// It isn't known whether it may be; so it may not.
    Failed(String),
}

/// How refusals are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Says {
    /// What stands before the pod's fields: where in the object the pod is.
    prefix: &'static str,
    namespace: String,
    /// Whose annotations are told of, where it isn't the reviewed object's own.
    workload: Option<String>,
}

/// Reads a review.
pub(crate) fn read(body: &[u8]) -> Result<Review, ReviewError> {
    let AdmissionReview { api_version, request } = serde_json::from_slice(body)?;
    request.filter(|_| api_version == "admission.k8s.io/v1").ok_or(ReviewError::Version(api_version))
}

// === impl Review ===

impl Review {
    /// Whether nothing may be written.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }

    /// The pod that the reviewed workload makes: its template, as a pod.
    pub(crate) fn template(&self) -> Option<Value> {
        template(&self.kind.kind, &self.object)
    }

    /// The same before the change.
    pub(crate) fn old_template(&self) -> Option<Value> {
        template(&self.kind.kind, &self.old_object)
    }

    /// The policy's name, or the exception's, if it is one. Of many that are deleted together, each is named by itself alone.
    pub(crate) fn policy_name(&self) -> &str {
        let object = if self.object.is_null() { &self.old_object } else { &self.object };
        object["metadata"]["name"].as_str().unwrap_or(&self.name)
    }

    /// The namespace that it is about: itself, if it is one.
    pub(crate) fn in_namespace(&self) -> &str {
        if self.kind.kind == "Namespace" { &self.name } else { &self.namespace }
    }

    /// The object's own annotations: those of the workload, if it is one.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        texts(&self.object, "annotations")
    }
}

/// The pod of a workload's template.
fn template(kind: &str, object: &Value) -> Option<Value> {
    let at = Says::of(kind, "").prefix;
    let template = at.trim_end_matches('.').split('.').try_fold(object, |value, key| value.get(key))?;
    let mut pod = serde_json::Map::new();
    for part in ["metadata", "spec"] {
        pod.insert(part.into(), template.get(part).cloned().unwrap_or_default());
    }
    Some(pod.into())
}

fn texts(object: &Value, map: &str) -> BTreeMap<String, String> {
    let members = object["metadata"][map].as_object().into_iter().flatten();
    members.filter_map(|(key, value)| value.as_str().map(|value| (key.clone(), value.to_owned()))).collect()
}

/// The keys of an object that are ours.
pub(crate) fn ours(object: &Value, map: &str) -> BTreeMap<String, String> {
    texts(object, map).into_iter().filter(|(key, _)| keys::ours(key)).collect()
}

// === decisions ===

/// A pod is made.
pub(crate) fn pod_created(review: &Review, s: &Surroundings) -> Verdict {
    match plan(&review.object, s) {
        Outcome::Untouched(why) => Verdict::Untouched(why),
        Outcome::Refused(refusals) => Verdict::Refused(refusals, Says::of("Pod", &s.namespace.name).made_by(&s.settings.workload)),
        Outcome::Guard(plan) => {
            let patch = patch(&plan);
            Verdict::Injected { patch, warnings: plan.warnings }
        }
    }
}

/// A pod is changed. Its mode may be, since the guard reads it while it runs. Its other labels and annotations counted when it was made;
/// and of the few fields of a running pod that Kubernetes lets anybody change, one is the guard's image.
pub(crate) fn pod_changed(review: &Review) -> Verdict {
    let mut refusals = Vec::new();
    for map in ["labels", "annotations"] {
        let (new, old) = (ours(&review.object, map), ours(&review.old_object, map));
        let changed = new.keys().chain(old.keys().filter(|key| !new.contains_key(*key))).filter(|key| new.get(*key) != old.get(*key));
        for key in changed {
            if refusals.len() >= MOST_REFUSALS {
                break;
            }
            let field = Field::new(Of::Pod, format!("metadata.{map}[{key}]"));
            let only = |source: &BTreeMap<String, String>| {
                source.get_key_value(key).map(|(key, value)| (key.clone(), value.clone())).into_iter().collect()
            };
            let wrong = match map {
                "labels" => keys::check(Scope::Pod, &only(&new), &BTreeMap::new(), false),
                _ => keys::check(Scope::Pod, &BTreeMap::new(), &only(&new), false),
            };
            if !wrong.is_empty() {
                refusals.extend(wrong);
            } else if map == "annotations" && key == MODE {
                let setuid = ours(&review.object, map).contains_key(ALLOW_SETUID);
                let mode = new.get(key).and_then(|value| keys::mode(value)).filter(|mode| setuid && *mode > Mode::Monitor);
                refusals.extend(
                    mode.map(|mode| Refusal { field, obstacle: Obstacle::MoreThanMonitor { asks: format!("the pod's {MODE}"), mode } }),
                );
            } else {
                refusals.push(Refusal { field, obstacle: Obstacle::Settled });
            }
        }
    }
    refusals.extend(other_images(&review.object, &review.old_object));
    if refusals.is_empty() { Verdict::Allowed(Vec::new()) } else { Verdict::Refused(refusals, Says::of("Pod", &review.namespace)) }
}

/// Containers of ours that shall run another image: of a pod that runs, images alone can be changed, and one in the guard's place would
/// have the guard's ids, which lead to the model.
fn other_images(new: &Value, old: &Value) -> Vec<Refusal> {
    let containers = |pod: &Value| pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let ours = |container: &Value| container["name"].as_str().is_some_and(is_our_name);
    let changed =
        containers(new).into_iter().zip(containers(old)).enumerate().filter(|(_, (new, old))| ours(old) && new["image"] != old["image"]);
    changed
        .map(|(index, _)| Refusal {
            field: Field::new(Of::Pod, format!("spec.initContainers[{index}].image")),
            obstacle: Obstacle::Settled,
        })
        .collect()
}

/// A workload is applied. Nothing is changed in it; who applies it learns now what its pods would meet.
pub(crate) fn workload(review: &Review, s: &Surroundings) -> Verdict {
    let kind = review.kind.kind.as_str();
    if !["CREATE", "UPDATE"].contains(&review.operation.as_str()) || !review.object["metadata"]["deletionTimestamp"].is_null() {
        return Verdict::Allowed(Vec::new());
    }
    let Some(pod) = review.template() else { return Verdict::Allowed(Vec::new()) };
    let annotations = ours(&review.object, "annotations");
    if review.operation == "UPDATE"
        && template(kind, &review.old_object).as_ref() == Some(&pod)
        && between(kind, &review.old_object) == between(kind, &review.object)
        && ["labels", "annotations"].into_iter().all(|map| ours(&review.object, map) == ours(&review.old_object, map))
    {
        return Verdict::Allowed(Vec::new());
    }

    let labels = ours(&review.object, "labels");
    let mut refusals = keys::check(Scope::Workload, &labels, &annotations, false);
    refusals.extend(between(kind, &review.object));
    let mut warnings = Vec::new();
    let mut s = Surroundings { workload_annotations: annotations.clone(), bare: false, ..s.clone() };
    s.settings.workload = format!("{kind}/{}", review.object["metadata"]["name"].as_str().unwrap_or_default());
    match plan(&pod, &s) {
        Outcome::Refused(more) => {
            let new: Vec<Refusal> = more.into_iter().filter(|refusal| !refusals.contains(refusal)).collect();
            refusals.extend(new);
        }
        Outcome::Untouched(_) => {
            let idle = keys::any_of(&annotations).or_else(|| keys::any_of(&ours(&pod, "annotations")));
            warnings.extend(idle.map(Warning::NothingGuarded));
        }
        Outcome::Guard(plan) => {
            // What follows from the template was said when that was applied.
            let said = review.operation == "UPDATE" && template(kind, &review.old_object).as_ref() == Some(&pod);
            warnings.extend(plan.warnings.into_iter().filter(|warning| !said || matches!(warning, Warning::ModeBelow { .. })));
            let read = |map: &BTreeMap<String, String>, key| map.get(key).and_then(|value| keys::mode(value));
            let floor = read(&s.namespace.annotations, MINIMUM_MODE);
            if let (Some(policy), Some(mode)) = (&s.policy, read(&annotations, MODE)) {
                warnings.extend(stay_lower(policy, mode, floor));
            }
        }
    }
    // Charts put the same labels on both; then nothing is amiss.
    if labels.contains_key(LABEL) && !ours(&pod, "labels").contains_key(LABEL) {
        warnings.push(Warning::LabelOnWorkload(kind.to_owned()));
    }
    if refusals.is_empty() { Verdict::Allowed(warnings) } else { Verdict::Refused(refusals, Says::of(kind, &s.namespace.name)) }
}

/// A namespace's labels or annotations are changed. What was wrong with it before is no reason to deny another change.
pub(crate) fn namespace(review: &Review) -> Verdict {
    if !review.object["metadata"]["deletionTimestamp"].is_null() {
        return Verdict::Allowed(Vec::new());
    }
    let changed = |map: &str| {
        let old = ours(&review.old_object, map);
        ours(&review.object, map).into_iter().filter(|(key, value)| old.get(key) != Some(value)).collect()
    };
    let refusals = keys::check(Scope::Namespace, &changed("labels"), &changed("annotations"), false);
    if refusals.is_empty() { Verdict::Allowed(Vec::new()) } else { Verdict::Refused(refusals, Says::of("Namespace", &review.name)) }
}

/// Keys between a workload and its pods, where nobody reads them: a `CronJob`'s template of Jobs has metadata of its own.
fn between(kind: &str, object: &Value) -> Vec<Refusal> {
    if kind != "CronJob" {
        return Vec::new();
    }
    let job = &object["spec"]["jobTemplate"];
    let place = "the CronJob itself, or its template for the pod";
    let refuse = |map: &'static str| {
        ours(job, map).into_keys().map(move |key| Refusal {
            field: Field::new(Of::Workload, format!("spec.jobTemplate.metadata.{map}[{key}]")),
            obstacle: Obstacle::Elsewhere { place },
        })
    };
    refuse("labels").chain(refuse("annotations")).take(MOST_REFUSALS).collect()
}

/// Whether a workload's template, or a pod, asks for a guard at all: what is to be known of the cluster before a review.
pub(crate) fn asks(review: &Review, s: &Surroundings) -> Asks {
    let pod = review.template().unwrap_or_else(|| review.object.clone());
    asks_for_guard(&pod, &s.namespace, &s.services, &s.config)
}

// === answers ===

impl Says {
    pub(crate) fn of(kind: &str, namespace: &str) -> Self {
        Self { prefix: Self::prefix(kind), namespace: namespace.to_owned(), workload: None }
    }

    /// Where in an object of this kind the pod stands.
    pub(crate) fn prefix(kind: &str) -> &'static str {
        match kind {
            "Pod" | "Namespace" => "",
            "CronJob" => "spec.jobTemplate.spec.template.",
            _ => "spec.template.",
        }
    }

    /// Of a pod that somebody's workload makes.
    fn made_by(self, workload: &str) -> Self {
        Self { workload: Some(workload.to_owned()), ..self }
    }

    /// Everything that stands in the way, one line each.
    fn sentence(&self, refusals: &[Refusal]) -> String {
        let mut said = match refusals.len() {
            1 => String::from("llm-guard:"),
            MOST_REFUSALS.. => String::from("llm-guard: these things stand in the way, and perhaps more:"),
            count => format!("llm-guard: {count} things stand in the way:"),
        };
        for Refusal { field, obstacle } in refusals {
            said.push_str(if refusals.len() == 1 { " " } else { "\n- " });
            // Writing to a string can't fail.
            let _ = match (field.of, &self.workload) {
                (Of::Pod, _) => write!(said, "{}{}: {obstacle}", self.prefix, field.path),
                (Of::Workload, None) => write!(said, "{}: {obstacle}", field.path),
                (Of::Workload, Some(workload)) => write!(said, "{workload}: {}: {obstacle}", field.path),
                (Of::Namespace, _) => write!(said, "namespace {}: {}: {obstacle}", self.namespace, field.path),
            };
        }
        said
    }
}

impl Verdict {
    /// The label of the metric.
    pub(crate) const fn result(&self) -> &'static str {
        match self {
            Self::Untouched(_) => "untouched",
            Self::Allowed(_) => "allowed",
            Self::Injected { .. } => "injected",
            Self::Refused(..) => "refused",
            Self::Failed(_) => "error",
        }
    }

    /// The review with its answer, as the API server reads it.
    pub(crate) fn answer(&self, uid: &str) -> Value {
        let mut response = json!({"uid": uid, "allowed": true});
        let warn = |response: &mut Value, warnings: &[Warning]| {
            if !warnings.is_empty() {
                response["warnings"] = warnings.iter().map(ToString::to_string).collect();
            }
        };
        let deny = |response: &mut Value, code: u16, reason: &str, message: String| {
            response["allowed"] = false.into();
            response["status"] = json!({"code": code, "message": message, "reason": reason});
        };
        match self {
            Self::Untouched(why) => response["auditAnnotations"] = json!({"untouched": why.name()}),
            Self::Allowed(warnings) => warn(&mut response, warnings),
            Self::Injected { patch, warnings } => {
                if !patch.is_empty() {
                    response["patchType"] = "JSONPatch".into();
                    response["patch"] = BASE64_STANDARD.encode(patch.to_string()).into();
                }
                warn(&mut response, warnings);
            }
            Self::Refused(refusals, says) => deny(&mut response, 403, "Forbidden", says.sentence(refusals)),
            Self::Failed(message) => deny(&mut response, 500, "InternalError", format!("llm-guard: {message}")),
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

#[cfg(test)]
mod tests;

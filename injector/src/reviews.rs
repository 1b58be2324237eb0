//! The webhooks' paths: gathers what a review needs of the cluster, has it decided, sees to it that what an admitted pod needs is there.
//!
//! The invariant: a pod is admitted with a guard only when its settings and its `NetworkPolicy` are in place; a dry run and a refused pod
//! leave no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use llm_guard_engine::policy::GuardPolicy;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::access::AccessError;
use crate::apply::{Applier, ApplyError, moment};
use crate::cluster::{ReadError, Workload};
use crate::exceptions;
use crate::guarded::Guarded;
use crate::identity::{Identity, Kind, Whose};
use crate::metrics::{Metrics, Webhook};
use crate::names::{POLICY, SHADOW};
use crate::network_policy::{self, UNGUARDED, Ways};
use crate::plan::{Config, Field, Namespace, Obstacle, Of, Refusal, SettingsRef, Surroundings, Users, Warning};
use crate::server::{Reply, reply, text};
use crate::settings::{Around, Trouble, above};
use crate::uses;
use crate::webhook::{self, Review, Says, Verdict};

/// How long a review waits for an injector that has just begun.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most workloads that are read for the deletion of a policy; of more, the copies' word is taken.
const MOST_READ: usize = 16;

/// Answers reviews.
pub(crate) struct Reviews {
    pub(crate) applier: Arc<Applier>,
    metrics: Arc<Metrics>,
    config: Config,
    /// Whether the copies are complete. On half of them, a Service that marks a pod may be missing.
    copies: watch::Receiver<bool>,
}

/// Why a review can't be decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecided {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the injector has begun a moment ago and doesn't know the cluster yet; try again")]
    TooEarly,
    #[error("the system gives no randomness for the guard's group: {0}")]
    Random(getrandom::Error),
    #[error("the patched pod can't be read: {0}")]
    Patch(String),
}

/// What is known of the cluster before a pod is planned for.
struct Gathered {
    namespace: Namespace,
    services: Vec<Service>,
    workload: Option<Workload>,
    identity: Identity,
}

impl Reviews {
    pub(crate) fn new(applier: Arc<Applier>, metrics: Arc<Metrics>, config: Config, copies: watch::Receiver<bool>) -> Self {
        Self { applier, metrics, config, copies }
    }

    /// One review.
    pub(crate) async fn answer(&self, head: &http::request::Parts, body: &[u8]) -> Reply {
        let webhook = match head.uri.path() {
            "/mutate/pods" => Webhook::Pods,
            "/validate/workloads" => Webhook::Workloads,
            "/validate/pods" => Webhook::PodUpdates,
            "/validate/policies" => Webhook::Policies,
            "/validate/exceptions" => Webhook::Exceptions,
            "/validate/namespaces" => Webhook::Namespaces,
            "/validate/authority" => Webhook::Authority,
            _ => return text(StatusCode::NOT_FOUND, "there is no such webhook"),
        };
        if head.method != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only POST");
        }
        let began = Instant::now();
        let review = match webhook::read(body) {
            Ok(review) => review,
            Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let decided = match webhook {
            Webhook::Pods | Webhook::Workloads if !self.knows_the_cluster().await => Err(Undecided::TooEarly),
            Webhook::Policies if review.operation == "DELETE" => self.policy_deleted(&review).await,
            Webhook::Pods => self.pod(&review).await,
            Webhook::Workloads => self.workload(&review).await,
            Webhook::PodUpdates => match webhook::pod_changed(&review) {
                Verdict::Allowed(_) => self.pod_authority(&review).await,
                verdict => Ok(verdict),
            },
            Webhook::Policies => self.policy(&review).await,
            Webhook::Exceptions => Ok(self.exception(&review)),
            Webhook::Authority => self.authority(&review).await,
            Webhook::Namespaces => Ok(webhook::namespace(&review)),
        };
        let verdict = decided.unwrap_or_else(|error| {
            tracing::error!(namespace = review.namespace, "a review can't be decided: {error}");
            Verdict::Failed(error.to_string())
        });
        self.metrics.review(webhook, verdict.result(), began.elapsed());
        reply(StatusCode::OK, "application/json", verdict.answer(&review.uid).to_string().into())
    }

    /// Waits for the copies, as long as an API server may wait for an answer.
    pub(crate) async fn knows_the_cluster(&self) -> bool {
        let mut copies = self.copies.clone();
        let complete = tokio::time::timeout(PATIENCE, copies.wait_for(|complete| *complete)).await;
        matches!(complete, Ok(Ok(_)))
    }

    /// A pod is made.
    async fn pod(&self, review: &Review) -> Result<Verdict, Undecided> {
        let owners = review.object.pointer("/metadata/ownerReferences").cloned().unwrap_or_default();
        let owners: Vec<OwnerReference> = serde_json::from_value(owners).unwrap_or_default();
        let (namespace, workload) = tokio::join!(
            self.applier.cluster.read_namespace(&review.namespace),
            self.applier.cluster.read_workload(&review.namespace, &owners)
        );
        let gathered = self.gather(namespace?, workload?, None, &review.annotations());
        // What is refused, or stays as it is, needs no settings.
        let mut surroundings =
            self.surroundings(&gathered, SettingsRef { workload: gathered.identity.workload(), ..SettingsRef::default() })?;
        let first = webhook::pod_created(review, &surroundings);
        if !matches!(first, Verdict::Injected { .. }) {
            return Ok(first);
        }

        let (around, policies) = self.policies_for(&gathered).await?;
        let there = self.settings_of(&gathered).await?;
        let lookup = |name: &str| policies.get(name).cloned();
        let settled = match self.applier.settle(&gathered.identity, &around, lookup, there, 0, review.is_dry_run()).await {
            Ok(settled) => settled,
            Err(ApplyError::Trouble(trouble)) => return Ok(refused(&gathered, &trouble, "Pod")),
            Err(error) => return Err(error.into()),
        };
        surroundings.settings = SettingsRef {
            config_map: gathered.identity.object_name(),
            audience: gathered.identity.audience(&self.applier.cluster.uid),
            workload_hash: gathered.identity.hash(),
            workload: gathered.identity.workload(),
            serial: settled.sealed.settings.serial,
            digest: settled.sealed.digest.clone(),
            keys: self.applier.keys.load().for_guards(),
        };
        surroundings.policy = Some(settled.sealed.settings.policy.clone());
        let mut verdict = webhook::pod_created(review, &surroundings);
        if let Verdict::Injected { patch, warnings } = &mut verdict {
            warnings.extend(settled.troubles.iter().map(|trouble| Warning::Settings(trouble.to_string())));
            if !review.is_dry_run() {
                let pod = patched(&review.object, patch, &review.namespace)?;
                self.close(&gathered, &pod, &settled.sealed.settings.policy).await?;
            }
        }
        Ok(verdict)
    }

    /// The workload's settings as they are now.
    async fn settings_of(&self, gathered: &Gathered) -> Result<Option<ConfigMap>, ReadError> {
        self.applier.cluster.read_config_map(&gathered.namespace.name, &gathered.identity.object_name()).await
    }

    /// Puts the network policies in place that the pod needs from its first moment on.
    async fn close(&self, gathered: &Gathered, pod: &Pod, policy: &GuardPolicy) -> Result<(), Undecided> {
        let cluster = &self.applier.cluster;
        let Namespace { name: namespace, uid, .. } = &gathered.namespace;
        let read = |pod: &Pod| Guarded::of(pod, &cluster.uid, namespace, uid).filter(|guarded| guarded.identity == gathered.identity);
        let mut pods: Vec<Guarded> =
            cluster.pods.state_filter(|pod| pod.namespace().as_ref() == Some(namespace)).iter().filter_map(|pod| read(pod)).collect();
        pods.extend(read(pod));
        // Peers that can't be read were refused with the policy; where they come from older settings, nothing more is opened now.
        if let Ok(from) = network_policy::from(policy) {
            let ways = Ways::of(&gathered.identity, &pods, from);
            let name = gathered.identity.object_name();
            self.applier.place_workload_policy(&ways, cluster.network_policy(namespace, &name).as_deref()).await?;
        }
        self.applier.place_unguarded_policy(namespace, cluster.network_policy(namespace, UNGUARDED).as_deref()).await?;
        Ok(())
    }

    /// A workload is applied.
    async fn workload(&self, review: &Review) -> Result<Verdict, Undecided> {
        let namespace = self.applier.cluster.read_namespace(&review.namespace).await?;
        let workload = Kind::from_name(&review.kind.kind).map(|kind| Workload {
            kind,
            name: review.name.clone(),
            uid: String::new(),
            annotations: review.annotations(),
        });
        let template = review.template().map(|pod| annotations(&pod)).unwrap_or_default();
        let gathered = self.gather(namespace, workload, None, &template);
        let mut surroundings =
            self.surroundings(&gathered, SettingsRef { workload: gathered.identity.workload(), ..SettingsRef::default() })?;
        let (around, policies) = self.policies_for(&gathered).await?;
        let lookup = |name: &str| policies.get(name).cloned();
        let resolved = around.resolve(&gathered.identity, lookup, None);
        surroundings.policy = resolved.as_ref().ok().map(|resolved| resolved.content.policy.clone());
        let mut verdict = webhook::workload(review, &surroundings);
        // Not a refusal: whoever applies a folder may apply the policy after the workload. Until it is there, pods get what was in force
        // before; where nothing was, they are refused.
        if let Verdict::Allowed(warnings) = &mut verdict
            && webhook::asks(review, &surroundings) == crate::plan::Asks::Guard
        {
            match resolved {
                // Without older settings, a shadow alone can be amiss.
                Ok(resolved) => warnings.extend(resolved.troubles.iter().map(|trouble| Warning::Settings(trouble.to_string()))),
                Err(trouble) => {
                    let there = self.settings_of(&gathered).await?;
                    let held = self.applier.settle(&gathered.identity, &around, lookup, there, 0, true).await.is_ok();
                    let warning = if held { Warning::Settings } else { Warning::PodsRefused };
                    warnings.push(warning(trouble.to_string()));
                }
            }
        }
        Ok(verdict)
    }

    /// A policy is made or changed. It is stored only if every guard can load it, and if whoever stores it may.
    async fn policy(&self, review: &Review) -> Result<Verdict, Undecided> {
        // One that goes away may be as it is; so may one of which only the status is written.
        if !review.object["metadata"]["deletionTimestamp"].is_null()
            || review.object["spec"] == review.old_object["spec"] && !review.old_object.is_null()
        {
            return Ok(Verdict::Allowed(Vec::new()));
        }
        let policies = &self.applier.policies;
        let read = || policies.read(&review.object).map(|policy| (policies.read(&review.old_object).ok(), policy));
        match self.policy_changed(review, read).await? {
            Ok(verdict) => Ok(verdict),
            Err(reason) => {
                let field = Field::new(Of::Workload, format!("GuardPolicy {}", review.name));
                let refusal = Refusal { field, obstacle: Obstacle::Settings(reason) };
                Ok(Verdict::Refused(vec![refusal], Says::of("GuardPolicy", &review.namespace)))
            }
        }
    }

    /// An exception is made, changed or deleted. Who may, RBAC has said.
    fn exception(&self, review: &Review) -> Verdict {
        let (old, new) = (&review.old_object, &review.object);
        let record = |change: String| self.record(review, &BTreeSet::new(), &BTreeSet::new(), &[change]);
        if new.is_null() {
            record(exceptions::deleted(old));
            return Verdict::Allowed(Vec::new());
        }
        // One that goes away may be as it is; so may one of which nothing is changed that it says.
        if !new["metadata"]["deletionTimestamp"].is_null() || !old.is_null() && new["spec"] == old["spec"] {
            return Verdict::Allowed(Vec::new());
        }
        match exceptions::reviewed(old, new, moment()) {
            Ok(change) => {
                record(change);
                if let (true, Some(uid)) = (old.is_null() && !review.is_dry_run(), new["metadata"]["uid"].as_str()) {
                    self.applier.makers.remember(uid, &review.user_info.username);
                }
                Verdict::Allowed(Vec::new())
            }
            Err(reason) => {
                let field = Field::new(Of::Workload, format!("GuardException {}", review.policy_name()));
                Verdict::Refused(
                    vec![Refusal { field, obstacle: Obstacle::Settings(reason) }],
                    Says::of("GuardException", &review.namespace),
                )
            }
        }
    }

    /// A policy is deleted. What somebody goes by stays, but where all of its namespace goes.
    ///
    /// Who goes by it, the copies say, and then the workloads themselves: what was annotated or deleted a moment ago is so. A pod that is
    /// made in the same moment may come too late to be seen; then its settings stay in force without their policy, and an event says so.
    async fn policy_deleted(&self, review: &Review) -> Result<Verdict, Undecided> {
        let cluster = &self.applier.cluster;
        let namespace = match cluster.read_namespace(&review.namespace).await {
            Ok(namespace) if namespace.metadata.deletion_timestamp.is_none() => namespace.metadata,
            Ok(_) | Err(ReadError::Missing(_)) => return Ok(Verdict::Allowed(Vec::new())),
            Err(error) => return Err(error.into()),
        };
        if !self.knows_the_cluster().await {
            return Err(Undecided::TooEarly);
        }
        let policy = review.policy_name();
        let annotations = namespace.annotations.unwrap_or_default();
        let uid = namespace.uid.unwrap_or_default();
        let pods = self.guarded(&review.namespace, &uid);
        let mut workloads = cluster.workloads(&review.namespace);
        let seen = uses::users(&review.namespace, &uid, &annotations, &pods, &workloads);
        let using: Vec<Whose> =
            seen.iter().filter(|user| user.uses(policy) || user.shadows(policy)).map(|user| user.identity.whose().clone()).collect();
        for whose in using.into_iter().take(MOST_READ) {
            if let Whose::Workload(kind, name) = &whose {
                match cluster.read_named(&review.namespace, *kind, name).await?.filter(|found| found.deletion_timestamp.is_none()) {
                    Some(found) => drop(workloads.insert(whose, found.annotations.unwrap_or_default())),
                    None => drop(workloads.remove(&whose)),
                }
            }
        }
        let users = uses::users(&review.namespace, &uid, &annotations, &pods, &workloads);
        let names = uses::names_of_users(policy, &annotations, &review.namespace, &users);
        if names.is_empty() {
            // Nobody goes by it now; whoever comes may.
            return self.policy_deleted_by(review).await;
        }
        let field = Field::new(Of::Workload, format!("GuardPolicy {policy}"));
        let refusal = Refusal { field, obstacle: Obstacle::InUse { users: Users(names) } };
        Ok(Verdict::Refused(vec![refusal], Says::of("GuardPolicy", &review.namespace)))
    }

    /// The guarded pods of a namespace that aren't ending, from the copies.
    pub(crate) fn guarded(&self, namespace: &str, uid: &str) -> Vec<Guarded> {
        let cluster = &self.applier.cluster;
        let within = |pod: &Pod| pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.deletion_timestamp.is_none();
        let pods = cluster.pods.state_filter(|pod| within(pod));
        pods.iter().filter_map(|pod| Guarded::of(pod, &cluster.uid, namespace, uid)).collect()
    }

    fn gather(
        &self,
        namespace: k8s_openapi::api::core::v1::Namespace,
        workload: Option<Workload>,
        services: Option<Vec<Service>>,
        pod: &BTreeMap<String, String>,
    ) -> Gathered {
        let metadata = namespace.metadata;
        let namespace = Namespace {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: above(self.applier.floor, metadata.annotations.unwrap_or_default()),
        };
        let services = services.unwrap_or_else(|| {
            let all = self.applier.cluster.services.state_filter(|service| service.namespace().as_ref() == Some(&namespace.name));
            all.iter().map(|service| Service::clone(service)).collect()
        });
        let whose = workload.as_ref().map_or(Whose::Bare, |workload| Whose::Workload(workload.kind, workload.name.clone()));
        let identity = Identity::new(&namespace.name, &namespace.uid, whose, pod.get(POLICY).map(String::as_str));
        Gathered { namespace, services, workload, identity }
    }

    fn surroundings(&self, gathered: &Gathered, settings: SettingsRef) -> Result<Surroundings, Undecided> {
        let random = getrandom::u32().map_err(Undecided::Random)?;
        Ok(Surroundings {
            namespace: gathered.namespace.clone(),
            services: gathered.services.clone(),
            config: self.config.clone(),
            random,
            settings,
            workload_annotations: gathered.workload.as_ref().map(|workload| workload.annotations.clone()).unwrap_or_default(),
            bare: gathered.workload.is_none(),
            policy: None,
        })
    }

    /// The policies that count, by name, read now.
    async fn policies_for<'g>(
        &self,
        gathered: &'g Gathered,
    ) -> Result<(Around<'g>, BTreeMap<String, Result<GuardPolicy, String>>), Undecided> {
        let around = Around {
            floor: self.applier.floor,
            namespace: &gathered.namespace.annotations,
            workload: gathered.workload.as_ref().map(|workload| &workload.annotations),
        };
        let names: BTreeSet<&str> =
            [around.policy_name(&gathered.identity).0].into_iter().chain(around.shadow_name().map(|(name, _)| name)).collect();
        let mut policies = BTreeMap::new();
        for name in names {
            if let Some(object) = self.applier.cluster.read_policy(&gathered.namespace.name, name).await? {
                policies.insert(name.to_owned(), self.applier.policies.read_object(&object));
            }
        }
        Ok((around, policies))
    }
}

/// Who wrote what can't be used, and what it is.
fn refused(gathered: &Gathered, trouble: &Trouble, kind: &str) -> Verdict {
    let key = match trouble {
        Trouble::Value { key, .. } => key,
        Trouble::NoPolicy(_) | Trouble::Policy { .. } => POLICY,
        Trouble::Shadow { .. } => SHADOW,
    };
    let of = match trouble {
        Trouble::Value { holder: "workload", .. } => Of::Workload,
        Trouble::Value { .. } => Of::Namespace,
        _ if gathered.identity.policy().is_some() => Of::Pod,
        _ if gathered.workload.as_ref().is_some_and(|workload| workload.annotations.contains_key(POLICY)) => Of::Workload,
        _ => Of::Namespace,
    };
    let field = Field::new(of, format!("metadata.annotations[{key}]"));
    Verdict::Refused(vec![Refusal { field, obstacle: Obstacle::Settings(trouble.to_string()) }], Says::of(kind, &gathered.namespace.name))
}

fn annotations(object: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(object["metadata"]["annotations"].clone()).unwrap_or_default()
}

/// The pod as the API server will have it.
fn patched(pod: &Value, patch: &json_patch::Patch, namespace: &str) -> Result<Pod, Undecided> {
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, patch).map_err(|error| Undecided::Patch(error.to_string()))?;
    pod["metadata"]["namespace"] = json!(namespace);
    serde_json::from_value(pod).map_err(|error| Undecided::Patch(error.to_string()))
}

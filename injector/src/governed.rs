//! The reviews of who may change what: gathers what stands around a change, asks for the verbs that it takes, and records who made it.
//!
//! The invariant: a change of our keys, or of a policy, that takes a verb is made by somebody who has it; and every one that is made, or
//! refused for want of a verb, is recorded with its user. A record has names, modes and digests, and nothing of what a policy says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use kube::api::DynamicObject;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use serde_json::{Value, json};

use crate::access::AccessError;
use crate::authority::strength::weaker;
use crate::authority::{self, Ask, Made, Situation, Template, Verb};
use crate::events::Reason;
use crate::identity::{Identity, Kind, Whose};
use crate::names::LABEL;
use crate::plan::keys;
use crate::plan::{Field, MOST_REFUSALS, Obstacle, Of, Refusal};
use crate::policies::Policies;
use crate::reviews::{Reviews, Undecided};
use crate::settings::{DEFAULT_POLICY, above};
use crate::status::policy_digest;
use crate::uses::{self, User};
use crate::webhook::{Review, Says, Verdict, ours};

/// What is known of a namespace when one of its objects is changed.
struct Around {
    name: String,
    uid: String,
    labelled: bool,
    annotations: BTreeMap<String, String>,
    policies: BTreeMap<String, Known>,
}

/// A policy of the namespace, which is read where somebody goes by it: there may be many.
struct Known {
    object: Arc<DynamicObject>,
    policies: Arc<Policies>,
    read: OnceLock<Option<GuardPolicy>>,
}

impl Known {
    /// The policy, if it can be used.
    fn policy(&self) -> Option<GuardPolicy> {
        let read = || self.policies.read_object(&self.object).ok();
        self.read.get_or_init(read).clone()
    }
}

impl Around {
    /// The policy of a name, where there is one that can be used.
    fn policy(&self, name: &str) -> Option<GuardPolicy> {
        match self.policies.get(name) {
            Some(known) => known.policy(),
            None => (name == DEFAULT_POLICY).then(GuardPolicy::built_in),
        }
    }
}

impl Reviews {
    /// A change of our keys on a namespace, a workload, or a pod that somebody makes.
    pub(crate) async fn authority(&self, review: &Review) -> Result<Verdict, Undecided> {
        let kind = review.kind.kind.as_str();
        let changes = changes(review);
        if changes.is_empty() {
            return Ok(Verdict::Allowed(Vec::new()));
        }
        let asks = match kind {
            "Namespace" if !review.object["metadata"]["deletionTimestamp"].is_null() => Vec::new(),
            "Namespace" => self.namespace_asks(review).await?,
            _ => self.made_asks(review).await?,
        };
        self.decide(review, asks, &changes, None).await
    }

    /// A guarded pod is changed, and what it is changed to is in order.
    pub(crate) async fn pod_authority(&self, review: &Review) -> Result<Verdict, Undecided> {
        let asks = authority::pod_changed(&Template::of(Some(&review.old_object)), &Template::of(Some(&review.object)));
        self.decide(review, asks, &changes(review), None).await
    }

    /// A policy is made or changed. `read` reads what it says, before and after, and takes a while: the API server is asked meanwhile for
    /// the namespace, and whether the user has the verb that most changes of a policy in force take.
    ///
    /// The namespace is read now, and not taken from the copies: somebody without the verbs could take a mode away that the policy makes
    /// needless, and lower the policy while the copy still has that mode. Only where nobody has anything to lose, nothing is read. (Who
    /// goes by the policy, and what their own annotations say, is of the copies, which a watch keeps within moments; and of two changes at
    /// one moment each is compared with what held before both.)
    pub(crate) async fn policy_changed<E>(
        &self,
        review: &Review,
        read: impl FnOnce() -> Result<(Option<GuardPolicy>, GuardPolicy), E>,
    ) -> Result<Result<Verdict, E>, Undecided> {
        if !self.knows_the_cluster().await {
            return Err(Undecided::TooEarly);
        }
        if review.old_object.is_null() && review.policy_name() != DEFAULT_POLICY && self.is_unused(&review.namespace) {
            return match read() {
                Ok((_, new)) => self.decide(review, Vec::new(), &policy_changes(None, Some(&new)), None).await.map(Ok),
                Err(refused) => Ok(Err(refused)),
            };
        }
        // They are begun in this order, and the last waits for nothing.
        let verbs = BTreeSet::from([Verb::Lower]);
        let (around, lacks, read) = tokio::join!(self.around(&review.namespace), self.lacks(review, &verbs), async { read() });
        match read {
            Ok((old, new)) => self.policy_authority(review, &around?, old, Some(new), Some(lacks)).await.map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Whether nobody in a namespace goes by any policy, or says anything of one: by the copies, as users are found everywhere.
    fn is_unused(&self, namespace: &str) -> bool {
        let cluster = &self.applier.cluster;
        let here = cluster.pods.state_filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
        here.is_empty() && cluster.workloads(namespace).values().all(BTreeMap::is_empty)
    }

    /// A policy is deleted that nobody goes by now.
    pub(crate) async fn policy_deleted_by(&self, review: &Review) -> Result<Verdict, Undecided> {
        let around = self.around(&review.namespace).await?;
        self.policy_authority(review, &around, self.applier.policies.read(&review.old_object).ok(), None, None).await
    }

    /// `old` and `new`: what the policy says, where it says something that guards can load. `lacks`: whether the user lacks `lower`.
    async fn policy_authority(
        &self,
        review: &Review,
        around: &Around,
        old: Option<GuardPolicy>,
        new: Option<GuardPolicy>,
        lacks: Option<Result<BTreeSet<Verb>, AccessError>>,
    ) -> Result<Verdict, Undecided> {
        let name = review.policy_name();
        let changes = policy_changes(old.as_ref(), new.as_ref());
        let built_in = || (name == DEFAULT_POLICY).then(GuardPolicy::built_in);
        let after = new.or_else(built_in);
        // What was there and couldn't be loaded, or wasn't there and is named, left in force what was before.
        let before = old.or_else(|| review.old_object.is_null().then(built_in).flatten());
        let mut asks = Vec::new();
        for (user, situation) in situations(around, &self.users(around)) {
            if situation.policy_name() != name {
                continue;
            }
            let before = before.clone().or_else(|| self.last(user?));
            let found = before.zip(after.clone()).and_then(|(before, after)| weaker(&situation.held(before), &situation.held(after)));
            if let Some(found) = found {
                asks.push(authority::of_policy(&whose(user, around), &found));
                break;
            }
        }
        self.decide(review, asks, &changes, lacks).await
    }

    async fn namespace_asks(&self, review: &Review) -> Result<Vec<Ask>, Undecided> {
        let (old, new) = (&review.old_object, &review.object);
        let labels = [old, new].map(|object| ours(object, "labels"));
        let [before, after] = [old, new].map(|object| above(self.applier.floor, ours(object, "annotations")));
        let mut asks = authority::namespace([&labels[0], &labels[1]], [&before, &after]);
        if asks.iter().any(|ask| ask.verb == Verb::Lower) {
            return Ok(asks);
        }
        let mut around = self.around(&review.name).await?;
        around.annotations.clone_from(&before);
        let users = self.users(&around);
        let names = situations(&around, &users).into_iter().flat_map(|(_, situation)| {
            [situation, Situation { namespace: &after, ..situation }].map(|situation| situation.policy_name().to_owned())
        });
        let names = names.collect();
        self.read_now(&mut around, names).await?;
        for (user, situation) in situations(&around, &users) {
            let last = user.and_then(|user| self.last(user));
            let now = Situation { namespace: &after, ..situation };
            if let Some(found) = situation.weaker(&now, &|name| around.policy(name), last.as_ref()) {
                asks.push(authority::of_namespace(&before, &after, &whose(user, &around), &found));
                break;
            }
        }
        Ok(asks)
    }

    async fn made_asks(&self, review: &Review) -> Result<Vec<Ask>, Undecided> {
        let mut around = self.around(&review.namespace).await?;
        let kind = review.kind.kind.as_str();
        let [old, new] = [&review.old_object, &review.object];
        let annotations = [old, new].map(|object| ours(object, "annotations"));
        let of_workload = Kind::from_name(kind);
        let templates = if kind == "Pod" {
            [Template::of(None), Template::of(Some(new))]
        } else {
            [review.old_template(), review.template()].map(|pod| Template::of(pod.as_ref()))
        };
        let last = of_workload.and_then(|kind| {
            let whose = Whose::Workload(kind, review.name.clone());
            self.last_of(&Identity::new(&around.name, &around.uid, whose, templates[0].policy()))
        });
        let of_namespace = around.annotations.clone();
        let made = Made {
            prefix: Says::prefix(kind),
            namespace: &of_namespace,
            namespace_labelled: around.labelled,
            workload: of_workload.map(|_| [&annotations[0], &annotations[1]]),
            templates,
            new: old.is_null(),
        };
        let names = made.situations().map(|situation| situation.policy_name().to_owned());
        self.read_now(&mut around, names.into()).await?;
        Ok(made.asks(&|name| around.policy(name), last.as_ref()))
    }

    /// What is known of a namespace: itself as it is now, and its policies, from the copies.
    async fn around(&self, namespace: &str) -> Result<Around, Undecided> {
        if !self.knows_the_cluster().await {
            return Err(Undecided::TooEarly);
        }
        let cluster = &self.applier.cluster;
        let metadata = cluster.read_namespace(namespace).await?.metadata;
        let here = cluster.policies.state_filter(|policy| policy.metadata.namespace.as_deref() == Some(namespace));
        let policies = here
            .into_iter()
            .map(|object| (object.name_any(), Known { object, policies: Arc::clone(&self.applier.policies), read: OnceLock::new() }));
        Ok(Around {
            name: namespace.to_owned(),
            uid: metadata.uid.unwrap_or_default(),
            labelled: metadata.labels.unwrap_or_default().contains_key(LABEL),
            annotations: above(self.applier.floor, metadata.annotations.unwrap_or_default()),
            policies: policies.collect(),
        })
    }

    /// Reads these policies as they are now: the copies may be a moment behind, in which somebody lowered one that nobody went by then.
    async fn read_now(&self, around: &mut Around, names: BTreeSet<String>) -> Result<(), Undecided> {
        let read = names.iter().map(|name| self.applier.cluster.read_policy(&around.name, name));
        let read = try_join_all(read).await?;
        for (name, object) in names.into_iter().zip(read) {
            match object {
                Some(object) => {
                    let policies = Arc::clone(&self.applier.policies);
                    around.policies.insert(name, Known { object: Arc::new(object), policies, read: OnceLock::new() });
                }
                None => drop(around.policies.remove(&name)),
            }
        }
        Ok(())
    }

    fn users(&self, around: &Around) -> Vec<User> {
        let pods = self.guarded(&around.name, &around.uid);
        uses::users(&around.name, &around.uid, &around.annotations, &pods, &self.applier.cluster.workloads(&around.name))
    }

    /// The policy that is in force for a user, as far as its settings tell.
    fn last(&self, user: &User) -> Option<GuardPolicy> {
        self.last_of(&user.identity)
    }

    fn last_of(&self, identity: &Identity) -> Option<GuardPolicy> {
        let (namespace, name) = (identity.namespace(), identity.object_name());
        let maps = self
            .applier
            .cluster
            .config_maps
            .state_filter(|map| map.metadata.namespace.as_deref() == Some(namespace) && map.metadata.name.as_deref() == Some(&name));
        self.applier.last(identity, maps.first().map(AsRef::as_ref), 0).map(|settings| settings.policy)
    }

    /// Of these verbs, those that the user doesn't have.
    async fn lacks(&self, review: &Review, verbs: &BTreeSet<Verb>) -> Result<BTreeSet<Verb>, AccessError> {
        let policy = (review.kind.kind == "GuardPolicy").then(|| review.policy_name());
        review.user_info.lacks(&self.applier.cluster.client, review.in_namespace(), policy, verbs).await
    }

    /// Asks for the verbs, and records what comes of it. `lacks`: what was answered already, for whatever verbs this may take.
    async fn decide(
        &self,
        review: &Review,
        asks: Vec<Ask>,
        changes: &[String],
        lacks: Option<Result<BTreeSet<Verb>, AccessError>>,
    ) -> Result<Verdict, Undecided> {
        let (user, namespace) = (&review.user_info, review.in_namespace());
        let verbs: BTreeSet<Verb> = asks.iter().map(|ask| ask.verb).collect();
        let lacks = match lacks {
            _ if verbs.is_empty() => BTreeSet::new(),
            Some(lacks) => lacks?,
            None => self.lacks(review, &verbs).await?,
        };
        self.record(review, &verbs, &lacks, changes);
        let refusals: Vec<Refusal> = asks
            .into_iter()
            .filter(|ask| lacks.contains(&ask.verb))
            .take(MOST_REFUSALS)
            .map(|Ask { verb, field, what }| Refusal {
                field: Field::new(Of::Workload, field),
                obstacle: Obstacle::Verb { what, verb: verb.name(), user: user.username.clone(), namespace: namespace.to_owned() },
            })
            .collect();
        if refusals.is_empty() {
            return Ok(Verdict::Allowed(Vec::new()));
        }
        Ok(Verdict::Refused(refusals, Says::of("GuardPolicy", namespace)))
    }

    /// The record of a change: a line in the log, and an event on the object. A dry run changes nothing.
    pub(crate) fn record(&self, review: &Review, verbs: &BTreeSet<Verb>, lacks: &BTreeSet<Verb>, changes: &[String]) {
        if review.is_dry_run() || changes.is_empty() {
            return;
        }
        let about = reference(review);
        let names = |verbs: &BTreeSet<Verb>| verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(",");
        let user = review.user_info.username.clone();
        let changes = changes.join("; ");
        let object = format!("{}/{}/{}", review.kind.kind, review.namespace, about.name.as_deref().unwrap_or_default());
        let result = if lacks.is_empty() { "allowed" } else { "refused" };
        tracing::info!(
            audit = "change",
            user,
            user_uid = review.user_info.uid,
            object,
            operation = review.operation,
            verbs = names(verbs),
            result,
            "{changes}"
        );
        let events = std::sync::Arc::clone(&self.applier.events);
        let (taken, lacking) = (names(verbs), names(lacks));
        tokio::spawn(async move {
            if lacking.is_empty() {
                let by = if taken.is_empty() { String::new() } else { format!(" (by the verb {taken})") };
                events.note(&about, Reason::ProtectionChanged, format!("By '{user}'{by}: {changes}")).await;
            } else {
                let note = format!("Refused to '{user}', who lacks the verb {lacking} on guardpolicies.llm-guard.io: {changes}");
                events.warn(&about, Reason::ChangeRefused, note).await;
            }
        });
    }
}

/// What holds for each of these users, and for whoever comes and says nothing.
fn situations<'a>(around: &'a Around, users: &'a [User]) -> Vec<(Option<&'a User>, Situation<'a>)> {
    let mut all = vec![(None, Situation { namespace: &around.annotations, workload: None, policy: None, pod: None })];
    for user in users {
        let modes: BTreeSet<Option<Mode>> = user.pods.iter().map(|(_, mode)| *mode).chain([None]).collect();
        all.extend(modes.into_iter().map(|pod| {
            let policy = user.identity.policy();
            (Some(user), Situation { namespace: &around.annotations, workload: user.annotations.as_ref(), policy, pod })
        }));
    }
    all
}

/// What a record says of a changed policy.
fn policy_changes(old: Option<&GuardPolicy>, new: Option<&GuardPolicy>) -> Vec<String> {
    let told = |policy: Option<&GuardPolicy>| {
        policy.map_or("nothing".to_owned(), |policy| {
            let mode = policy.spec.mode.unwrap_or_default();
            format!("{mode} {}", policy_digest(policy))
        })
    };
    vec![format!("spec: from {} to {}", told(old), told(new))]
}

/// Of whom it is told that something is weaker.
fn whose(user: Option<&User>, around: &Around) -> String {
    user.and_then(|user| user.names().into_iter().next()).unwrap_or_else(|| format!("Namespace/{}", around.name))
}

/// Every key of ours that says something else than before, with both values; a value is cut, since it may be anything.
fn changes(review: &Review) -> Vec<String> {
    let kind = review.kind.kind.as_str();
    let [old, new] = [(&review.old_object, review.old_template()), (&review.object, review.template())];
    let mut found = Vec::new();
    let mut compare = |prefix: &str, old: &Value, new: &Value| {
        for map in ["labels", "annotations"] {
            let (old, new) = (ours(old, map), ours(new, map));
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
            for key in keys.into_iter().filter(|key| !keys::is_injectors(key)) {
                if found.len() < MOST_REFUSALS {
                    found.push(format!("{prefix}metadata.{map}[{key}]: {}", authority::change(old.get(key), new.get(key))));
                }
            }
        }
    };
    compare("", old.0, new.0);
    if kind != "Pod" && kind != "Namespace" {
        compare(Says::prefix(kind), &old.1.unwrap_or_default(), &new.1.unwrap_or_default());
    }
    found
}

fn reference(review: &Review) -> ObjectReference {
    let object = if review.object.is_null() { &review.old_object } else { &review.object };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    ObjectReference {
        api_version: text(&object["apiVersion"]),
        kind: Some(review.kind.kind.clone()),
        namespace: Some(review.namespace.clone()).filter(|namespace| !namespace.is_empty() && review.kind.kind != "Namespace"),
        // What gets its name later has the beginning of one.
        name: [&json!(review.name), &object["metadata"]["name"], &object["metadata"]["generateName"]]
            .into_iter()
            .find_map(|name| text(name).filter(|name| !name.is_empty())),
        uid: text(&object["metadata"]["uid"]),
        ..ObjectReference::default()
    }
}

//! Keeps what guards need in step with what the cluster says: looks at a namespace again after each change in it.
//!
//! The invariant: a look writes what should be there and nothing else, so that any number of looks, in any order and by any number of
//! replicas, end in the same state. The copies say whether something is to be written, and what is read then says what: a copy that is
//! behind loosens nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use llm_guard_engine::policy::{GuardPolicy, Mode, Moment};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::apply::{Applier, ApplyError, Settled, moment, network_policy_reference, now};
use crate::cluster::{Dirty, exception_resource, policy_resource};
use crate::delivery::Deliveries;
use crate::events::Reason;
use crate::exceptions::{self, Concerns, Known, News, State};
use crate::guarded::Guarded;
use crate::identity::{Identity, Whose, is_object_name};
use crate::names::{GUARDED, LABEL, MANAGED, MANAGED_BY, MANAGER, SHADOW};
use crate::network_policy::{self, UNGUARDED, Ways, opens_more};
use crate::settings::{Around, Sealed, annotations_behind};
use crate::status::{self, Loaded, Share, Times};

/// How long changes are gathered before they are looked at: one command often makes several.
const GATHER: Duration = Duration::from_millis(50);
/// How often everything is looked at, whatever the watches say.
const LOOK: Duration = Duration::from_mins(1);
/// How long after a failure a namespace is looked at again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// The most namespaces that are looked at together.
const TOGETHER: usize = 4;
/// The most pods that the list of unguarded ones names; they are all counted.
const NAMED: usize = 1000;
/// The namespaces that the webhooks leave out, beside the own.
const SYSTEM: &str = "kube-system";

/// What a look at a namespace found, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    unloadable: i64,
    to_restart: i64,
    opening: i64,
}

/// Looks.
pub(crate) struct Controller {
    applier: Arc<Applier>,
    dirty: Arc<Dirty>,
    deliveries: Arc<Deliveries>,
    retention: Duration,
    found: Mutex<HashMap<String, Found>>,
    /// Since when no pod has needed an object, by namespace and name.
    unneeded: Mutex<HashMap<(String, String), Instant>>,
    /// When the next exception of a namespace ends.
    ends: Mutex<BTreeMap<String, Moment>>,
    /// The list of unguarded pods, as it is shown.
    unguarded: Mutex<Value>,
    /// Since when this replica looks, in milliseconds since 1970.
    began: u64,
}

/// The namespaces that are to be looked at, in their turn. One that takes long holds up nobody else, and is never looked at twice at once.
#[derive(Debug, Default)]
struct Queue {
    /// From when on they may be looked at.
    waiting: VecDeque<(Instant, String)>,
    queued: BTreeSet<String>,
    running: BTreeSet<String>,
}

impl Queue {
    fn add(&mut self, namespaces: impl IntoIterator<Item = String>, from: Instant) {
        for namespace in namespaces {
            if self.queued.insert(namespace.clone()) {
                self.waiting.push_back((from, namespace));
            }
        }
    }

    /// The place of the next one, if there is room for it.
    fn next(&self) -> Option<usize> {
        let next = self.waiting.iter().position(|(_, namespace)| !self.running.contains(namespace));
        next.filter(|_| self.running.len() < TOGETHER)
    }

    /// When the next one may be looked at.
    fn begins(&self) -> Option<Instant> {
        self.waiting.get(self.next()?).map(|(from, _)| *from)
    }

    /// The next one, which is looked at from now on.
    fn begin(&mut self) -> Option<String> {
        let (_, namespace) = self.waiting.remove(self.next()?)?;
        self.queued.remove(&namespace);
        self.running.insert(namespace.clone());
        Some(namespace)
    }

    fn ended(&mut self, namespace: &str) {
        self.running.remove(namespace);
    }
}

/// What the guarded pods of one identity have in common.
struct Group {
    pods: Vec<(Guarded, BTreeMap<String, String>)>,
}

/// The policies of a namespace, or why they are none, by name.
type Policies = BTreeMap<String, Result<GuardPolicy, String>>;

/// What the settings of one workload come of.
struct Sources<'a> {
    namespace: Cow<'a, BTreeMap<String, String>>,
    /// The workload's annotations. Nothing for bare pods.
    workload: Option<BTreeMap<String, String>>,
    policies: Cow<'a, Policies>,
    /// The policy of pods whose workload is gone.
    outlived: Option<GuardPolicy>,
    map: Option<ConfigMap>,
}

impl Sources<'_> {
    fn around(&self, floor: Option<Mode>) -> Around<'_> {
        Around { floor, namespace: &self.namespace, workload: self.workload.as_ref() }
    }

    /// The policy of a name.
    fn policy(&self, name: &str) -> Option<Result<GuardPolicy, String>> {
        match &self.outlived {
            Some(before) => Some(policy_behind(before, &self.policies)),
            None => self.policies.get(name).cloned(),
        }
    }

    /// The names of the policies that count.
    fn names(&self, identity: &Identity, floor: Option<Mode>) -> BTreeSet<String> {
        let around = self.around(floor);
        let policy = self.outlived.as_ref().map_or_else(|| around.policy_name(identity).0, |before| &before.metadata.name);
        [Some(policy), around.shadow_name().map(|(name, _)| name)].into_iter().flatten().map(str::to_owned).collect()
    }
}

impl Controller {
    pub(crate) fn new(applier: Arc<Applier>, dirty: Arc<Dirty>, retention: Duration) -> Self {
        let deliveries = Arc::new(Deliveries::new(
            applier.cluster.client.clone(),
            Arc::clone(&applier.events),
            Arc::clone(&applier.metrics),
            Arc::clone(&dirty),
        ));
        Self {
            applier,
            dirty,
            deliveries,
            retention,
            found: Mutex::default(),
            unneeded: Mutex::default(),
            ends: Mutex::default(),
            unguarded: Mutex::new(json!([])),
            began: now(),
        }
    }

    /// The pods of labelled namespaces, and labelled pods, that have no guard.
    pub(crate) fn unguarded(&self) -> Value {
        self.unguarded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at every namespace that concerns us.
    pub(crate) fn mark_all(&self) {
        let cluster = &self.applier.cluster;
        let mut namespaces = BTreeSet::new();
        namespaces.extend(cluster.pods.state().iter().filter_map(|pod| pod.namespace()));
        namespaces.extend(cluster.strays.state().iter().filter_map(|pod| pod.namespace()));
        namespaces.extend(cluster.config_maps.state().iter().filter_map(|map| map.namespace()));
        namespaces.extend(cluster.policies.state().iter().filter_map(|policy| policy.namespace()));
        namespaces.extend(cluster.exceptions.state().iter().filter_map(|exception| exception.namespace()));
        namespaces.extend(
            cluster.network_policies.state().iter().filter(|policy| is_managed(&policy.metadata)).filter_map(|policy| policy.namespace()),
        );
        namespaces.extend(
            cluster
                .namespaces
                .state()
                .iter()
                .filter(|namespace| namespace.labels().contains_key(LABEL))
                .map(|namespace| namespace.name_any()),
        );
        for namespace in namespaces {
            self.dirty.mark(namespace);
        }
    }

    /// Runs for good, once the copies are complete: on half of them, much would seem to be gone.
    pub(crate) async fn run(self: Arc<Self>, mut copies: watch::Receiver<bool>) {
        if copies.wait_for(|complete| *complete).await.is_err() {
            return;
        }
        tokio::spawn({
            let this = Arc::clone(&self);
            async move {
                loop {
                    this.mark_all();
                    this.count_unguarded().await;
                    tokio::time::sleep(LOOK.min(this.retention.max(Duration::from_secs(1)))).await;
                }
            }
        });
        let mut queue = Queue::default();
        let mut looks = FuturesUnordered::new();
        loop {
            let (begins, ends) = (queue.begins(), self.next_end());
            tokio::select! {
                namespaces = self.dirty.take() => queue.add(namespaces, Instant::now() + GATHER),
                () = tokio::time::sleep_until(begins.unwrap_or_else(Instant::now)), if begins.is_some() => {
                    looks.extend(queue.begin().map(|namespace| self.look_and_tell(namespace)));
                }
                () = tokio::time::sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => self.mark_ended(),
                Some(namespace) = looks.next() => {
                    queue.ended(&namespace);
                    self.sum_up();
                }
            }
        }
    }

    /// One look at one namespace, and another a little later where it failed. Gives the namespace back.
    async fn look_and_tell(&self, namespace: String) -> String {
        let failed = match tokio::time::timeout(PATIENCE, self.look(&namespace)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the API server takes too long".to_owned()),
        };
        if let Some(error) = failed {
            tracing::warn!(namespace, "{error}");
            self.look_again(&namespace);
        }
        namespace
    }

    fn sum_up(&self) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&Found) -> i64| found.values().map(of).sum();
        let metrics = &self.applier.metrics;
        metrics.settings_unloadable.set(sum(|found| found.unloadable));
        metrics.pods_to_restart.set(sum(|found| found.to_restart));
        metrics.opening_network_policies.set(sum(|found| found.opening));
    }

    /// One look at one namespace.
    async fn look(&self, namespace: &str) -> Result<(), ApplyError> {
        let cluster = &self.applier.cluster;
        let metadata = cluster.namespace(namespace).filter(|metadata| metadata.deletion_timestamp.is_none());
        let Some(metadata) = metadata.filter(|_| namespace != self.applier.own_namespace() && namespace != SYSTEM) else {
            self.found.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
            self.unneeded.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| of != namespace);
            self.applier.forget(namespace);
            return Ok(());
        };
        let within = |of: Option<String>| of.as_deref() == Some(namespace);
        let uid = metadata.uid.clone().unwrap_or_default();
        let annotations = metadata.annotations.unwrap_or_default();
        let mut groups = BTreeMap::<Identity, Group>::new();
        for pod in cluster.pods.state_filter(|pod| within(pod.namespace())) {
            if let Some(guarded) = Guarded::of(&pod, &cluster.uid, namespace, &uid) {
                let group = groups.entry(guarded.identity.clone()).or_insert_with(|| Group { pods: Vec::new() });
                group.pods.push((guarded, pod.labels().clone()));
            }
        }
        let network_policies = cluster.network_policies.state_filter(|policy| within(policy.namespace()));
        let maps = cluster.config_maps.state_filter(|map| within(map.namespace()));
        let policies = self.read_policies(namespace);

        let mut found = Found::default();
        let mut failure = None;
        let mut opening = BTreeSet::new();
        let mut shares = BTreeMap::<String, Vec<Share>>::new();
        for (identity, group) in &groups {
            let looked = self.look_at(identity, group, &annotations, &policies, &maps, &network_policies, &mut found, &mut opening).await;
            match looked {
                Ok(Some((policy, share))) => shares.entry(policy).or_default().push(share),
                Ok(None) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.write_statuses(namespace, &policies, shares).await;
        self.look_at_exceptions(namespace, &groups).await;
        found.opening = i64::try_from(opening.len()).unwrap_or(i64::MAX);

        // Where a labelled pod can be.
        let strays = cluster.strays.state_filter(|pod| within(pod.namespace()));
        let labelled = metadata.labels.unwrap_or_default().contains_key(LABEL);
        let unguarded = network_policies.iter().find(|policy| policy.name_any() == UNGUARDED);
        if labelled || !groups.is_empty() || !strays.is_empty() {
            failure = failure.or(self.applier.place_unguarded_policy(namespace, unguarded.map(AsRef::as_ref)).await.err());
        }
        let keep_unguarded = labelled || !groups.is_empty() || !strays.is_empty();
        for pod in &strays {
            let note = "The pod asks for a guard and runs without one: it was made while the injector wasn't there. No traffic reaches it. Delete it, so that it is made anew";
            self.applier.events.warn(&reference("v1", "Pod", &pod.metadata), Reason::Unguarded, note.into()).await;
        }

        let needed: BTreeSet<String> = groups.keys().map(Identity::object_name).collect();
        failure = failure.or(self.delete_unneeded(namespace, &needed, keep_unguarded, &maps, &network_policies).await.err());

        self.deliveries.keep_only(namespace, &groups.values().flat_map(|group| &group.pods).map(|(pod, _)| pod.uid.clone()).collect());
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned(), found);
        failure.map_or(Ok(()), Err)
    }

    /// One look at the pods of one workload. Gives what there is to say of them in the status of the policy that they go by.
    #[allow(clippy::too_many_arguments, reason = "they are what a look at a namespace has gathered once for all its workloads")]
    async fn look_at(
        &self,
        identity: &Identity,
        group: &Group,
        namespace: &BTreeMap<String, String>,
        policies: &Policies,
        maps: &[Arc<ConfigMap>],
        network_policies: &[Arc<NetworkPolicy>],
        found: &mut Found,
        opening: &mut BTreeSet<String>,
    ) -> Result<Option<(String, Share)>, ApplyError> {
        let cluster = &self.applier.cluster;
        let name = identity.object_name();
        let map = maps.iter().find(|map| map.name_any() == name).map(|map| ConfigMap::clone(map));
        let least = group.pods.iter().map(|(pod, _)| pod.serial).max().unwrap_or_default();
        let about = self.applier.reference(identity, &name);
        let annotations = match identity.whose() {
            Whose::Bare => None,
            Whose::Workload(kind, name) => cluster.workload(identity.namespace(), *kind, name).map(|workload| workload.annotations),
        };
        let copies = self.sources(identity, Cow::Borrowed(namespace), annotations, Cow::Borrowed(policies), map, least);
        let settled = self.settle(identity, &copies, least).await.map(|settled| (settled.sealed, settled.troubles));
        match &settled {
            Ok((_, troubles)) if troubles.is_empty() => {}
            Ok((_, troubles)) => {
                found.unloadable += 1;
                for trouble in troubles {
                    let note = format!("What was set before stays in force for {}: {trouble}", identity.workload());
                    self.applier.events.warn(&about, Reason::SettingsNotLoaded, note).await;
                }
            }
            Err(ApplyError::Trouble(trouble)) => {
                found.unloadable += 1;
                let note = format!("There are no settings for {}: {trouble}", identity.workload());
                self.applier.events.warn(&about, Reason::SettingsNotLoaded, note).await;
            }
            Err(_) => {}
        }

        let signer = self.applier.keys.load().signer().to_string();
        let (know, lost): (Vec<_>, Vec<_>) = group.pods.iter().map(|(pod, _)| pod).partition(|pod| pod.keys.contains(&signer));
        if !lost.is_empty() {
            found.to_restart += i64::try_from(lost.len()).unwrap_or(i64::MAX);
            let names: Vec<&str> = lost.iter().map(|pod| pod.name.as_str()).take(10).collect();
            let note = format!(
                "{} of the guarded pods of {} don't know the key that settings are signed with now, and keep what they have loaded. Restart them: {}{}",
                lost.len(),
                identity.workload(),
                names.join(", "),
                if lost.len() > names.len() { ", …" } else { "" }
            );
            self.applier.events.warn(&about, Reason::RestartNeeded, note).await;
        }
        let mut share = None;
        let placed_before = network_policies.iter().find(|policy| policy.name_any() == name);
        let from = if let Ok((sealed, _)) = &settled {
            self.deliveries.deliver(identity.namespace(), &know, &sealed.digest);
            share = Some(self.share(identity, group, namespace, policies, sealed));
            network_policy::from(&sealed.settings.policy)
        } else {
            let there = maps.iter().find(|map| map.name_any() == name);
            match self.applier.last(identity, there.map(AsRef::as_ref), least) {
                Some(before) => network_policy::from(&before.policy),
                // Nobody knows who may: whoever was let in is, and nobody else.
                None if placed_before.is_some() => return settled.map(|_| share),
                None => Ok(None),
            }
        };
        // Settings hold only peers that were read before. Were they none, what is open stays as it is.
        let Ok(from) = from else { return settled.map(|_| share) };

        let ways = Ways::of(identity, group.pods.iter().map(|(pod, _)| pod), from);
        for theirs in network_policies {
            if group.pods.iter().any(|(_, labels)| opens_more(theirs, labels, &ways)) {
                opening.insert(theirs.name_any());
                let note = format!(
                    "This NetworkPolicy lets in more than the guard's own: traffic that it allows reaches pods of {} by other ways than the guard",
                    identity.workload()
                );
                let about = network_policy_reference(identity.namespace(), &theirs.name_any());
                self.applier.events.warn(&about, Reason::NetworkPolicyOpensMore, note).await;
            }
        }
        let placed = self.applier.place_workload_policy(&ways, placed_before.map(AsRef::as_ref)).await;
        match settled {
            Err(error) if !matches!(error, ApplyError::Trouble(_)) => Err(error),
            _ => placed.map(|()| share),
        }
    }

    /// The pods of one workload, for the status of their policy, and which that is.
    fn share(
        &self,
        identity: &Identity,
        group: &Group,
        namespace: &BTreeMap<String, String>,
        policies: &Policies,
        sealed: &Sealed,
    ) -> (String, Share) {
        let held = &sealed.settings.policy;
        let workload = match identity.whose() {
            Whose::Bare => None,
            Whose::Workload(kind, name) => self.applier.cluster.workload(identity.namespace(), *kind, name),
        };
        // Pods that outlive their workload keep its policy.
        let outlived = workload.is_none() && *identity.whose() != Whose::Bare;
        let around = Around { floor: self.applier.floor, namespace, workload: workload.as_ref().map(|workload| &workload.annotations) };
        let policy = if outlived { &held.metadata.name } else { around.policy_name(identity).0 }.to_owned();
        let pods = group.pods.iter().map(|(pod, _)| Loaded {
            uid: pod.uid.clone(),
            created: pod.created,
            in_force: self.deliveries.has_arrived(&pod.uid, &sealed.digest),
        });
        let share = Share {
            workload: identity.workload(),
            digest: sealed.digest.clone(),
            changed: sealed.settings.serial,
            current: policies.get(&policy).is_some_and(|now| now.as_ref() == Ok(held)),
            pods: pods.collect(),
        };
        (policy, share)
    }

    /// Sees to it that the settings of a workload are in place. Before anything is written, all that they come of is read anew: the
    /// copies may be older than what an admission of a moment ago went by, and nothing is to be loosened because they are.
    async fn settle(&self, identity: &Identity, copies: &Sources<'_>, least: u64) -> Result<Settled, ApplyError> {
        let floor = self.applier.floor;
        let in_place = self.applier.in_place(identity, &copies.around(floor), |name| copies.policy(name), copies.map.as_ref(), least);
        if let Some(settled) = in_place {
            return Ok(settled);
        }
        let mut now = self.read_sources(identity, least).await?;
        let map = now.map.take();
        self.applier.settle(identity, &now.around(floor), |name| now.policy(name), map, least, false).await
    }

    fn sources<'a>(
        &self,
        identity: &Identity,
        mut namespace: Cow<'a, BTreeMap<String, String>>,
        mut workload: Option<BTreeMap<String, String>>,
        policies: Cow<'a, Policies>,
        map: Option<ConfigMap>,
        least: u64,
    ) -> Sources<'a> {
        let mut outlived = None;
        // Pods outlive their workload for a while, or for good: what its annotations said still holds for them. A shadow ends: nobody is
        // left who could put it in force.
        if workload.is_none()
            && *identity.whose() != Whose::Bare
            && let Some(before) = self.applier.last(identity, map.as_ref(), least)
        {
            workload = Some(annotations_behind(&before));
            namespace.to_mut().remove(SHADOW);
            outlived = Some(before.policy);
        }
        Sources { namespace, workload, policies, outlived, map }
    }

    /// What settings come of, read now: of the policies, those that count.
    async fn read_sources(&self, identity: &Identity, least: u64) -> Result<Sources<'static>, ApplyError> {
        let cluster = &self.applier.cluster;
        let within = identity.namespace();
        let workload = async {
            match identity.whose() {
                Whose::Bare => Ok(None),
                Whose::Workload(kind, name) => cluster.read_named(within, *kind, name).await,
            }
        };
        let name = identity.object_name();
        let (namespace, workload, map) =
            tokio::try_join!(cluster.read_namespace(within), workload, cluster.read_config_map(within, &name))?;
        let workload = workload.map(|found| found.annotations.unwrap_or_default());
        let namespace = Cow::Owned(namespace.metadata.annotations.unwrap_or_default());
        let mut sources = self.sources(identity, namespace, workload, Cow::Owned(Policies::new()), map, least);
        for name in sources.names(identity, self.applier.floor) {
            if let Some(object) = cluster.read_policy(within, &name).await? {
                sources.policies.to_mut().insert(name, self.applier.policies.read_object(&object));
            }
        }
        Ok(sources)
    }

    /// Reads the policies of a namespace.
    fn read_policies(&self, namespace: &str) -> Policies {
        let policies = self.applier.cluster.policies.state_filter(|policy| policy.metadata.namespace.as_deref() == Some(namespace));
        policies.iter().map(|object| (object.name_any(), self.applier.policies.read_object(object))).collect()
    }

    /// Writes the status of the policies of a namespace, where it says something else.
    async fn write_statuses(
        &self,
        namespace: &str,
        policies: &BTreeMap<String, Result<GuardPolicy, String>>,
        mut shares: BTreeMap<String, Vec<Share>>,
    ) {
        let times = Times { now: now(), began: self.began };
        for object in self.applier.cluster.policies.state_filter(|policy| policy.metadata.namespace.as_deref() == Some(namespace)) {
            let name = object.name_any();
            // One that came since the others were read has its turn in a moment.
            let Some(policy) = policies.get(&name) else { continue };
            let there = object.data.get("status").unwrap_or(&Value::Null);
            let shares = shares.remove(&name).unwrap_or_default();
            let policy = policy.as_ref().map_err(String::as_str);
            let Some(status) = status::status(there, object.metadata.generation, policy, shares, times) else { continue };
            // Two versions of the injector may disagree about a policy while one takes the other's place. What is left out now is written
            // a little later, for nothing else would have anybody look again.
            if self.applier.restrain(namespace, &format!("GuardPolicy/{name}")).is_err() {
                self.look_again(namespace);
                continue;
            }
            let api = Api::<DynamicObject>::namespaced_with(self.applier.cluster.client.clone(), namespace, &policy_resource());
            let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
            if let Err(error) = api.patch_status(&name, &params, &Patch::Merge(json!({"status": status}))).await {
                // It tells people; nothing depends on it.
                tracing::debug!(namespace, policy = name, %error, "the status couldn't be written");
            }
        }
    }

    /// When the next exception ends, of any namespace.
    fn next_end(&self) -> Option<Instant> {
        let next = self.ends.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied()?;
        Some(Instant::now() + Duration::from_millis((next.unix() * 1000).saturating_sub(now())))
    }

    /// Has the namespaces looked at in which an exception has ended.
    fn mark_ended(&self) {
        let now = moment();
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).retain(|namespace, end| {
            let is_over = *end <= now;
            if is_over {
                self.dirty.mark(namespace.clone());
            }
            !is_over
        });
    }

    /// Notes when the next exception of a namespace ends, and writes what became of each, where that is news.
    async fn look_at_exceptions(&self, namespace: &str, groups: &BTreeMap<Identity, Group>) {
        let all = self.applier.cluster.exceptions(namespace);
        {
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            match exceptions::next_end(&all, moment()) {
                Some(end) => drop(ends.insert(namespace.to_owned(), end)),
                None => drop(ends.remove(namespace)),
            }
        }
        for known in &all {
            self.write_exception_status(namespace, known, groups).await;
        }
    }

    async fn write_exception_status(&self, namespace: &str, known: &Known, groups: &BTreeMap<Identity, Group>) {
        let cluster = &self.applier.cluster;
        let Some(object) = cluster.exceptions.get(&ObjectRef::new_with(&known.name, exception_resource()).within(namespace)) else {
            return;
        };
        let there = object.data.get("status").unwrap_or(&Value::Null);
        let now = now();
        let mut concerns = Concerns::default();
        if let State::InForce(spec) = known.state(Moment::from_unix(now / 1000)) {
            let concerned = || groups.iter().filter(|(identity, _)| exceptions::is_for(spec, identity.whose()));
            concerns.workloads = concerned().map(|(identity, _)| identity.whose()).collect::<BTreeSet<_>>().len();
            concerns.pods = concerned().map(|(_, group)| group.pods.len()).sum();
        }
        let Some(changed) = exceptions::status(there, known, concerns, self.applier.makers.of(&known.uid), now) else { return };
        if self.applier.restrain(namespace, &format!("GuardException/{}", known.name)).is_err() {
            self.look_again(namespace);
            return;
        }
        let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), namespace, &exception_resource());
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        if let Err(error) = api.patch_status(&known.name, &params, &Patch::Merge(json!({"status": changed.status}))).await {
            // It tells people; nothing depends on it.
            tracing::debug!(namespace, exception = known.name, %error, "the status couldn't be written");
            return;
        }
        let about = known.reference(namespace);
        match changed.news {
            Some((News::Begun, note)) => self.applier.events.warn(&about, Reason::ExceptionBegun, note).await,
            Some((News::Rejected, note)) => self.applier.events.warn(&about, Reason::ExceptionRejected, note).await,
            Some((News::Ended, note)) => self.applier.events.note(&about, Reason::ExceptionEnded, note).await,
            None => {}
        }
    }

    /// Has a namespace looked at again in a while.
    fn look_again(&self, namespace: &str) {
        let (dirty, namespace) = (Arc::clone(&self.dirty), namespace.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            dirty.mark(namespace);
        });
    }

    /// Deletes settings and network policies that no pod has needed for as long as they are kept.
    async fn delete_unneeded(
        &self,
        namespace: &str,
        needed: &BTreeSet<String>,
        keep_unguarded: bool,
        maps: &[Arc<ConfigMap>],
        network_policies: &[Arc<NetworkPolicy>],
    ) -> Result<(), ApplyError> {
        let is_needed = |name: &str| needed.contains(name) || keep_unguarded && name == UNGUARDED;
        let ours = |name: &str| is_object_name(name) || name == UNGUARDED;
        let managed = network_policies.iter().filter(|policy| is_managed(&policy.metadata));
        let there: BTreeSet<String> =
            maps.iter().map(|map| map.name_any()).chain(managed.map(|policy| policy.name_any())).filter(|name| ours(name)).collect();
        let due: BTreeSet<String> = {
            let mut unneeded = self.unneeded.lock().unwrap_or_else(PoisonError::into_inner);
            unneeded.retain(|(of, name), _| of != namespace || there.contains(name) && !is_needed(name));
            let mut due = BTreeSet::new();
            for name in there.iter().filter(|name| !is_needed(name)) {
                let since = unneeded.entry((namespace.to_owned(), name.clone())).or_insert_with(Instant::now);
                if since.elapsed() >= self.retention {
                    due.insert(name.clone());
                }
            }
            due
        };
        for map in maps.iter().filter(|map| due.contains(&map.name_any())) {
            self.applier.delete_settings(map).await?;
        }
        for policy in network_policies.iter().filter(|policy| is_managed(&policy.metadata) && due.contains(&policy.name_any())) {
            self.applier.delete_network_policy(policy).await?;
        }
        Ok(())
    }

    /// Counts and lists the pods that are meant and have no guard.
    async fn count_unguarded(&self) {
        let cluster = &self.applier.cluster;
        let mut count = 0;
        let mut named = Vec::new();
        let mut tell = |namespace: String, pod: String, labelled: bool| {
            count += 1;
            if named.len() < NAMED {
                named.push(json!({"namespace": namespace, "pod": pod, "asksForGuard": labelled}));
            }
        };
        let left_out = |namespace: &str| namespace == SYSTEM || namespace == self.applier.own_namespace();
        for pod in cluster.strays.state_filter(|pod| !left_out(&pod.namespace().unwrap_or_default())) {
            tell(pod.namespace().unwrap_or_default(), pod.name_any(), true);
        }
        let labelled =
            cluster.namespaces.state_filter(|namespace| namespace.labels().contains_key(LABEL) && !left_out(&namespace.name_any()));
        for namespace in labelled {
            let api = Api::<Pod>::namespaced(cluster.client.clone(), &namespace.name_any());
            let mut page = ListParams::default()
                .labels(&format!("!{GUARDED},{LABEL}!=enabled"))
                .fields("status.phase!=Succeeded,status.phase!=Failed")
                .limit(500);
            loop {
                match api.list_metadata(&page).await {
                    Ok(pods) => {
                        for pod in &pods {
                            tell(namespace.name_any(), pod.name_any(), false);
                        }
                        match pods.metadata.continue_.filter(|token| !token.is_empty()) {
                            Some(token) => page.continue_token = Some(token),
                            None => break,
                        }
                    }
                    Err(error) => {
                        tracing::warn!(namespace = namespace.name_any(), %error, "pods can't be listed, so unguarded ones aren't counted");
                        break;
                    }
                }
            }
        }
        self.applier.metrics.unguarded_pods.set(count);
        *self.unguarded.lock().unwrap_or_else(PoisonError::into_inner) = Value::Array(named);
    }
}

/// The policy of pods whose workload is gone: the one of that name as it is now, else as it was. Whoever deletes a workload and lets its
/// pods live must not keep them under what has been tightened since.
fn policy_behind(before: &GuardPolicy, policies: &Policies) -> Result<GuardPolicy, String> {
    policies.get(&before.metadata.name).cloned().unwrap_or_else(|| Ok(before.clone()))
}

fn is_managed(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGED)
}

fn reference(api_version: &str, kind: &str, metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.into()),
        kind: Some(kind.into()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_outlive_their_workload_follow_their_policy_and_keep_what_is_gone() {
        let policy = |name: &str, mode| {
            let mut policy = GuardPolicy::built_in();
            policy.metadata.name = name.to_owned();
            policy.spec.mode = mode;
            policy
        };
        let hard = Some(llm_guard_engine::policy::Mode::Hard);
        let now = BTreeMap::from([("p".to_owned(), Ok(policy("p", hard))), ("broken".to_owned(), Err("no".to_owned()))]);
        assert_eq!(policy_behind(&policy("p", None), &now), Ok(policy("p", hard)));
        assert_eq!(policy_behind(&policy("broken", None), &now), Err("no".to_owned()));
        for gone in [policy("gone", None), policy("", None)] {
            assert_eq!(policy_behind(&gone, &now), Ok(gone));
        }
    }

    #[test]
    fn a_namespace_that_takes_long_holds_up_nobody_else_and_is_looked_at_again_once_it_has_ended() {
        let now = Instant::now();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut queue = Queue::default();
        assert_eq!((queue.begins(), queue.begin()), (None, None));
        queue.add(names(&["a", "a"]), now);
        assert_eq!((queue.begins(), queue.begin().as_deref()), (Some(now), Some("a")));
        queue.add(names(&["a", "b"]), now + GATHER);
        queue.add(names(&["a"]), now + 2 * GATHER);
        assert_eq!((queue.begin().as_deref(), queue.begins(), queue.begin()), (Some("b"), None, None));
        queue.ended("a");
        assert_eq!((queue.begins(), queue.begin().as_deref()), (Some(now + GATHER), Some("a")));

        let mut queue = Queue::default();
        queue.add((0..=TOGETHER).map(|number| number.to_string()), now);
        let begun: Vec<_> = std::iter::from_fn(|| queue.begin()).collect();
        assert_eq!((begun.len(), queue.begins()), (TOGETHER, None));
        queue.ended(&begun[0]);
        assert_eq!(queue.begin(), Some(TOGETHER.to_string()));
    }
}

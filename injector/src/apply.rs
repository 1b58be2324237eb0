//! Writes what a workload's guards need: the `ConfigMap` with the settings, the `NetworkPolicy`. For the webhook, before a pod is admitted,
//! and for the controller, after each change.
//!
//! Every replica writes. An object is written with the version that was read, so that of two writers one is told, reads again, and
//! mostly finds that nothing is left to do.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use llm_guard_engine::policy::settings::{Exception, Settings, open};
use llm_guard_engine::policy::{GuardPolicy, Mode, Moment};

use crate::cluster::{Cluster, ReadError};
use crate::events::{Events, Reason};
use crate::exceptions::{self, Makers};
use crate::identity::{Identity, Whose};
use crate::metrics::{Metrics, Write};
use crate::names::{KEY, MANAGED, MANAGED_BY, MANAGER};
use crate::network_policy::{self, Peers, Standing, Ways};
use crate::policies::Policies;
use crate::settings::{Around, Sealed, Step, There, Trouble};
use crate::signing::Keys;

/// How often it is tried to write before another replica.
const RACES: usize = 5;

/// The most writes of one object within [`WINDOW`] that the controller makes. Two injectors of different versions, or of different flags,
/// may want different things while one takes the other's place; they must not keep the API server busy meanwhile.
const WRITES: usize = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Why something isn't in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The settings can't be made.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The API server refused, or is away.
    #[error("{object} can't be written: {source}")]
    Api {
        /// What was to be written.
        object: String,
        /// What came back.
        #[source]
        source: kube::Error,
    },
    /// What it comes of can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Somebody writes all the time.
    #[error("{0} is written by somebody else again and again")]
    Contended(String),
}

/// What is in force now, and what of it is older than it should be.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) sealed: Sealed,
    pub(crate) troubles: Vec<Trouble>,
}

/// Writes.
pub(crate) struct Applier {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) keys: Arc<ArcSwap<Keys>>,
    pub(crate) events: Arc<Events>,
    pub(crate) metrics: Arc<Metrics>,
    /// The floor of the whole cluster.
    pub(crate) floor: Option<Mode>,
    /// The policies that were read before.
    pub(crate) policies: Arc<Policies>,
    /// Who made the exceptions that this replica reviewed.
    pub(crate) makers: Makers,
    peers: Peers,
    /// By namespace and audience, the last settings that were seen in force or written. What is older isn't taken back.
    ledger: Mutex<HashMap<(String, String), Settings>>,
    /// The network policies that were seen in place, as namespace and name.
    placed: Mutex<HashSet<(String, String)>>,
    /// When an object was written lately, by namespace and name.
    writes: Mutex<HashMap<(String, String), VecDeque<Instant>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Applier {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        keys: Arc<ArcSwap<Keys>>,
        events: Arc<Events>,
        metrics: Arc<Metrics>,
        floor: Option<Mode>,
        peers: Peers,
    ) -> Self {
        let (ledger, placed, writes) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { cluster, keys, events, metrics, floor, policies: Arc::default(), makers: Makers::default(), peers, ledger, placed, writes }
    }

    /// The namespace of the injector.
    pub(crate) fn own_namespace(&self) -> &str {
        &self.peers.own_namespace
    }

    /// The last settings of an audience that are known to be ours. `least`: the greatest serial that a guard asks for: what is older was
    /// put back by somebody.
    pub(crate) fn last(&self, identity: &Identity, there: Option<&ConfigMap>, least: u64) -> Option<Settings> {
        let audience = identity.audience(&self.cluster.uid);
        let known = lock(&self.ledger).get(&(identity.namespace().to_owned(), audience.clone())).cloned();
        let least = known.as_ref().map_or(least, |known| known.serial.max(least));
        let there = There { text: text(there), audience: &audience, least };
        there.read(&self.keys.load().ours()).ok().or(known)
    }

    /// The settings, if they are in the `ConfigMap` already, so that nothing is to be written.
    pub(crate) fn in_place(
        &self,
        identity: &Identity,
        around: &Around<'_>,
        policy: impl Fn(&str) -> Option<Result<GuardPolicy, String>>,
        there: Option<&ConfigMap>,
        least: u64,
    ) -> Option<Settled> {
        let (step, troubles, _) = self.step(identity, around, policy, there, least).ok()?;
        match step {
            Step::Keep(sealed) if there.is_some_and(is_in_form) => Some(Settled { sealed, troubles }),
            Step::Keep(_) | Step::Write { .. } => None,
        }
    }

    /// What is to be done so that the settings are right, what of them stays as it was, and which exceptions ran before.
    fn step(
        &self,
        identity: &Identity,
        around: &Around<'_>,
        policy: impl Fn(&str) -> Option<Result<GuardPolicy, String>>,
        there: Option<&ConfigMap>,
        least: u64,
    ) -> Result<(Step, Vec<Trouble>, Vec<Exception>), Trouble> {
        let audience = identity.audience(&self.cluster.uid);
        let place = (identity.namespace().to_owned(), audience);
        let before = self.last(identity, there, least);
        let mut resolved = around.resolve(identity, policy, before.as_ref())?;
        let told = before.map(|before| before.exceptions).unwrap_or_default();
        let known = self.cluster.exceptions(identity.namespace());
        resolved.content.exceptions = exceptions::for_guards(&known, identity.whose(), moment(), &told);
        let known = lock(&self.ledger).get(&place).map_or(0, |known| known.serial);
        let view = There { text: text(there), audience: &place.1, least: least.max(known) };
        let step = view.step(&resolved.content, &self.keys.load(), now());
        if let (Step::Keep(sealed), true) = (&step, there.is_some_and(is_in_form)) {
            self.remember(&place, sealed);
        }
        Ok((step, resolved.troubles, told))
    }

    /// Sees to it that the settings are in the `ConfigMap`. `there`: the map as far as it is known. `least`: the greatest serial that a
    /// guard asks for. A dry run writes nothing and says what would be.
    pub(crate) async fn settle(
        &self,
        identity: &Identity,
        around: &Around<'_>,
        policy: impl Fn(&str) -> Option<Result<GuardPolicy, String>>,
        mut there: Option<ConfigMap>,
        least: u64,
        dry_run: bool,
    ) -> Result<Settled, ApplyError> {
        let place = (identity.namespace().to_owned(), identity.audience(&self.cluster.uid));
        let name = identity.object_name();
        let object = || format!("the ConfigMap {}/{name}", identity.namespace());
        let api = Api::<ConfigMap>::namespaced(self.cluster.client.clone(), identity.namespace());
        for _ in 0..RACES {
            let (step, troubles, told) = self.step(identity, around, &policy, there.as_ref(), least)?;
            let (sealed, text, wrong) = match step {
                Step::Keep(sealed) if there.as_ref().is_some_and(is_in_form) => return Ok(Settled { sealed, troubles }),
                Step::Keep(sealed) => (sealed, text(there.as_ref()).unwrap_or_default().to_owned(), Some("it was edited")),
                Step::Write { sealed, text, wrong } => (sealed, text, wrong),
            };
            if dry_run {
                return Ok(Settled { sealed, troubles });
            }
            if self.restrain(identity.namespace(), &name).is_err() {
                break;
            }
            let new = there.is_none() && least == 0 && !lock(&self.ledger).contains_key(&place);
            let written = match &there {
                None => api.create(&post(), &config_map(identity, &name, text, None)).await,
                // The only way to change what somebody has made immutable.
                Some(there) if there.immutable == Some(true) => {
                    // With finalizers it would stay, and stand in the way.
                    if there.metadata.finalizers.is_some() {
                        let _ = api.replace(&name, &post(), &without_finalizers(there)).await;
                    }
                    let _ = api.delete(&name, &exactly(&there.metadata)).await;
                    api.create(&post(), &config_map(identity, &name, text, None)).await
                }
                Some(there) => api.replace(&name, &post(), &config_map(identity, &name, text, Some(&there.metadata))).await,
            };
            match written {
                Ok(_) => {
                    self.remember(&place, &sealed);
                    let write = if new { Write::Created } else { wrong.map_or(Write::Updated, |_| Write::PutRight) };
                    self.metrics.settings_write(write);
                    let Settings { serial, .. } = sealed.settings;
                    tracing::info!(namespace = identity.namespace(), config_map = name, serial, result = write.name(), "settings written");
                    if let Some(wrong) = wrong.filter(|_| !new) {
                        let note = format!("The ConfigMap {name} with the settings of {} was put right: {wrong}", identity.workload());
                        self.events.warn(&self.reference(identity, &name), Reason::SettingsPutRight, note).await;
                    }
                    self.tell_exceptions(identity, &name, &told, &sealed.settings.exceptions).await;
                    return Ok(Settled { sealed, troubles });
                }
                // Another replica was first, or it went meanwhile.
                Err(kube::Error::Api(status)) if is_stale(&status) => {
                    self.metrics.settings_write(Write::Conflict);
                    there = api.get_opt(&name).await.map_err(|source| ApplyError::Api { object: object(), source })?;
                }
                Err(source) => {
                    self.metrics.settings_write(Write::Failed);
                    return Err(ApplyError::Api { object: object(), source });
                }
            }
        }
        self.metrics.settings_write(Write::Contended);
        let contended = ApplyError::Contended(object());
        let note = format!("{contended}, so guards of {} keep the settings that they have loaded", identity.workload());
        self.events.warn(&self.reference(identity, &name), Reason::WrittenByOthers, note).await;
        Err(contended)
    }

    /// Tells of the exceptions that begin and end for a workload. Whoever writes them tells, so that it is told once.
    async fn tell_exceptions(&self, identity: &Identity, config_map: &str, before: &[Exception], after: &[Exception]) {
        let about = self.reference(identity, config_map);
        for Exception { name, mode, expires } in exceptions::only(after, before) {
            let note = format!("By the GuardException {name} no control of {} goes above {mode} until {expires}", identity.workload());
            self.events.warn(&about, Reason::ExceptionBegun, note).await;
        }
        for Exception { name, .. } in exceptions::only(before, after) {
            let note = format!("The GuardException {name} has ended for {}", identity.workload());
            tracing::info!(namespace = identity.namespace(), exception = name, workload = identity.workload(), "an exception has ended");
            self.events.note(&about, Reason::ExceptionEnded, note).await;
        }
    }

    /// Counts a write, unless there were too many of this object.
    pub(crate) fn restrain(&self, namespace: &str, name: &str) -> Result<(), ()> {
        let now = Instant::now();
        let mut writes = lock(&self.writes);
        writes.retain(|_, times| times.back().is_some_and(|last| now.duration_since(*last) < WINDOW));
        let times = writes.entry((namespace.to_owned(), name.to_owned())).or_default();
        while times.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            times.pop_front();
        }
        if times.len() >= WRITES {
            return Err(());
        }
        times.push_back(now);
        Ok(())
    }

    fn remember(&self, place: &(String, String), sealed: &Sealed) {
        let mut ledger = lock(&self.ledger);
        match ledger.get_mut(place) {
            Some(known) if known.serial > sealed.settings.serial => {}
            Some(known) => *known = sealed.settings.clone(),
            None => drop(ledger.insert(place.clone(), sealed.settings.clone())),
        }
    }

    /// Where events about a workload go: to it, or for bare pods to the `ConfigMap`.
    pub(crate) fn reference(&self, identity: &Identity, config_map: &str) -> ObjectReference {
        let of = |api_version: &str, kind: &str, name: &str, uid: Option<String>| ObjectReference {
            api_version: Some(api_version.into()),
            kind: Some(kind.into()),
            namespace: Some(identity.namespace().into()),
            name: Some(name.into()),
            uid,
            ..ObjectReference::default()
        };
        match identity.whose() {
            Whose::Workload(kind, name) => {
                let uid = self.cluster.workload(identity.namespace(), *kind, name).map(|workload| workload.uid);
                of(kind.api_version(), kind.name(), name, uid)
            }
            Whose::Bare => of("v1", "ConfigMap", config_map, None),
        }
    }

    /// Sees to it that a workload's `NetworkPolicy` is in place.
    pub(crate) async fn place_workload_policy(&self, ways: &Ways<'_>, there: Option<&NetworkPolicy>) -> Result<(), ApplyError> {
        self.place(ways.policy(&self.peers), there).await
    }

    /// Sees to it that pods which ask for a guard and have none are closed.
    pub(crate) async fn place_unguarded_policy(&self, namespace: &str, there: Option<&NetworkPolicy>) -> Result<(), ApplyError> {
        self.place(network_policy::unguarded(namespace), there).await
    }

    async fn place(&self, wanted: NetworkPolicy, there: Option<&NetworkPolicy>) -> Result<(), ApplyError> {
        let (namespace, name) = (wanted.metadata.namespace.clone().unwrap_or_default(), wanted.metadata.name.clone().unwrap_or_default());
        let key = (namespace.clone(), name.clone());
        let object = || format!("the NetworkPolicy {namespace}/{name}");
        let api = Api::<NetworkPolicy>::namespaced(self.cluster.client.clone(), &namespace);
        let mut there = there.cloned();
        for _ in 0..RACES {
            let standing = there.as_ref().map(|there| network_policy::standing(there, &wanted));
            if standing == Some(Standing::Right) {
                lock(&self.placed).insert(key);
                return Ok(());
            }
            if self.restrain(&namespace, &name).is_err() {
                break;
            }
            let (written, wrong) = if let Some(there) = &there {
                let mut policy = wanted.clone();
                policy.metadata.resource_version.clone_from(&there.metadata.resource_version);
                let wrong = (standing == Some(Standing::Edited)).then_some("it was edited");
                (api.replace(&name, &post(), &policy).await, wrong)
            } else {
                let wrong = lock(&self.placed).contains(&key).then_some("it was deleted");
                (api.create(&post(), &wanted).await, wrong)
            };
            match written {
                Ok(_) => {
                    lock(&self.placed).insert(key);
                    let write = match wrong {
                        Some(_) => Write::PutRight,
                        None if there.is_none() => Write::Created,
                        None => Write::Updated,
                    };
                    self.metrics.network_policy_write(write);
                    tracing::info!(namespace, network_policy = name, result = write.name(), "network policy written");
                    if let Some(wrong) = wrong {
                        let about = network_policy_reference(&namespace, &name);
                        let note = format!("The NetworkPolicy was put right: {wrong}");
                        self.events.warn(&about, Reason::NetworkPolicyPutRight, note).await;
                    }
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if is_stale(&status) => {
                    self.metrics.network_policy_write(Write::Conflict);
                    there = api.get_opt(&name).await.map_err(|source| ApplyError::Api { object: object(), source })?;
                }
                Err(source) => {
                    self.metrics.network_policy_write(Write::Failed);
                    return Err(ApplyError::Api { object: object(), source });
                }
            }
        }
        self.metrics.network_policy_write(Write::Contended);
        let contended = ApplyError::Contended(object());
        let note = format!("{contended}, so it may open more than it should");
        self.events.warn(&network_policy_reference(&namespace, &name), Reason::WrittenByOthers, note).await;
        Err(contended)
    }

    /// Deletes a `ConfigMap` that nobody needs.
    pub(crate) async fn delete_settings(&self, map: &ConfigMap) -> Result<(), ApplyError> {
        let (namespace, name) = names(&map.metadata);
        let api = Api::<ConfigMap>::namespaced(self.cluster.client.clone(), namespace);
        let deleted = gone(api.delete(name, &exactly(&map.metadata)).await.map(drop));
        deleted.map_err(|source| ApplyError::Api { object: format!("the ConfigMap {namespace}/{name}"), source })?;
        if let Ok(settings) = open(text(Some(map)).unwrap_or_default(), &self.keys.load().ours()) {
            lock(&self.ledger).remove(&(namespace.to_owned(), settings.audience));
        }
        self.metrics.settings_write(Write::Deleted);
        tracing::info!(namespace, config_map = name, "settings deleted: no pod mounts them");
        Ok(())
    }

    /// Deletes a `NetworkPolicy` that nobody needs.
    pub(crate) async fn delete_network_policy(&self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        let (namespace, name) = names(&policy.metadata);
        lock(&self.placed).remove(&(namespace.to_owned(), name.to_owned()));
        let api = Api::<NetworkPolicy>::namespaced(self.cluster.client.clone(), namespace);
        let deleted = gone(api.delete(name, &exactly(&policy.metadata)).await.map(drop));
        deleted.map_err(|source| ApplyError::Api { object: format!("the NetworkPolicy {namespace}/{name}"), source })?;
        self.metrics.network_policy_write(Write::Deleted);
        tracing::info!(namespace, network_policy = name, "network policy deleted: it selects no pod");
        Ok(())
    }

    /// Forgets a namespace that is gone.
    pub(crate) fn forget(&self, namespace: &str) {
        lock(&self.placed).retain(|(of, _)| of != namespace);
        lock(&self.ledger).retain(|(of, _), _| of != namespace);
    }
}

/// For events about a `NetworkPolicy`.
pub(crate) fn network_policy_reference(namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("networking.k8s.io/v1".into()),
        kind: Some("NetworkPolicy".into()),
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        ..ObjectReference::default()
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// The same, as exceptions count it.
pub(crate) fn moment() -> Moment {
    Moment::from_unix(now() / 1000)
}

fn text(map: Option<&ConfigMap>) -> Option<&str> {
    map?.data.as_ref()?.get(KEY).map(String::as_str)
}

/// Whether a map is as we make it, but for what the settings say.
fn is_in_form(map: &ConfigMap) -> bool {
    let labelled = map.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGED);
    let alone = map.data.as_ref().is_some_and(|data| data.len() == 1) && map.binary_data.as_ref().is_none_or(BTreeMap::is_empty);
    labelled && alone && map.immutable != Some(true)
}

fn config_map(identity: &Identity, name: &str, text: String, there: Option<&ObjectMeta>) -> ConfigMap {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some(identity.namespace().into()),
        labels: Some(
            [(MANAGED_BY, MANAGED), ("llm-guard.io/workload", identity.hash().as_str())]
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
        ),
        resource_version: there.and_then(|there| there.resource_version.clone()),
        ..ObjectMeta::default()
    };
    ConfigMap { metadata, data: Some([(KEY.to_owned(), text)].into()), ..ConfigMap::default() }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}

/// The map as it is, for once it is deleted.
fn without_finalizers(map: &ConfigMap) -> ConfigMap {
    let mut map = map.clone();
    map.metadata.finalizers = None;
    map
}

/// Deletes what was read, and nothing that came after it.
fn exactly(metadata: &ObjectMeta) -> DeleteParams {
    let preconditions = Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
    DeleteParams::default().preconditions(preconditions)
}

/// It was changed or went since it was read.
fn is_stale(status: &kube::core::Status) -> bool {
    status.code == 409 || status.code == 404 && !status.message.contains("namespaces")
}

fn gone(deleted: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match deleted {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        deleted => deleted,
    }
}

fn names(metadata: &ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

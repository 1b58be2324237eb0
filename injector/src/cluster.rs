//! What is read from the API server: copies that are kept by watches, and direct reads where the moment counts.
//!
//! The invariant: whatever decides on a pod's admission is read directly, so a namespace that was labelled a moment ago is labelled.
//! The copies serve the controller, which looks again after each change.
//!
//! The copies hold what is used and no more: of workloads and namespaces their metadata, of pods what concerns the guard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use crate::exceptions::Known;
use crate::identity::{Kind, Whose, is_object_name};
use crate::names::{GUARD, GUARDED, KEY, LABEL, MANAGED, MANAGED_BY, PREFIX};
use crate::plan::keys::is_name;

/// What the API server calls a policy.
pub(crate) fn policy_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("llm-guard.io", "v1alpha1", "GuardPolicy"), "guardpolicies")
}

/// What the API server calls an exception.
pub(crate) fn exception_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("llm-guard.io", "v1alpha1", "GuardException"), "guardexceptions")
}

/// A stream that says that something happened to the objects with these fields, and not what.
pub(crate) fn touches<K>(api: Api<PartialObjectMeta<K>>, fields: &str) -> BoxStream<'static, ()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(api, watcher::Config::default().fields(fields)).default_backoff();
    events.filter_map(|event| ready(event.ok().map(drop))).boxed()
}

/// The namespaces that are to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    namespaces: Mutex<BTreeSet<String>>,
    more: Notify,
}

impl Dirty {
    /// Something changed there.
    pub(crate) fn mark(&self, namespace: impl Into<String>) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if namespaces.insert(namespace.into()) {
            self.more.notify_one();
        }
    }

    /// All that were marked since the last time, be there any or not.
    pub(crate) fn try_take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that were marked since the last time; waits for one.
    pub(crate) async fn take(&self) -> BTreeSet<String> {
        loop {
            let marked = self.more.notified();
            let taken = self.try_take();
            if !taken.is_empty() {
                return taken;
            }
            marked.await;
        }
    }
}

/// A workload: what a pod belongs to, and whose annotations count.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The API server refused or is away.
    #[error("{what} can't be read from the API server: {source}")]
    Api {
        /// What was asked for.
        what: String,
        /// What came back.
        #[source]
        source: kube::Error,
    },
    /// It isn't there.
    #[error("{0} doesn't exist")]
    Missing(String),
}

/// The copies.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The uid of kube-system, which names the cluster.
    pub(crate) uid: String,
    pub(crate) namespaces: Store<PartialObjectMeta<Namespace>>,
    pub(crate) services: Store<Service>,
    /// Guarded pods, cut down to what concerns the guard.
    pub(crate) pods: Store<Pod>,
    /// Labelled pods that have no guard.
    pub(crate) strays: Store<PartialObjectMeta<Pod>>,
    pub(crate) policies: Store<DynamicObject>,
    pub(crate) exceptions: Store<DynamicObject>,
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) network_policies: Store<NetworkPolicy>,
    deployments: Store<PartialObjectMeta<Deployment>>,
    stateful_sets: Store<PartialObjectMeta<StatefulSet>>,
    daemon_sets: Store<PartialObjectMeta<DaemonSet>>,
    jobs: Store<PartialObjectMeta<Job>>,
    cron_jobs: Store<PartialObjectMeta<CronJob>>,
}

impl Cluster {
    /// What names the cluster: the uid of kube-system.
    pub(crate) async fn uid(client: &Client) -> Result<String, ReadError> {
        Ok(read_namespace(client, "kube-system").await?.metadata.uid.unwrap_or_default())
    }

    /// Begins to watch. `complete` turns true when every copy is complete.
    pub(crate) fn watch(client: Client, uid: String, dirty: &Arc<Dirty>, complete: watch::Sender<bool>) -> Arc<Self> {
        let managed = format!("{MANAGED_BY}={MANAGED}");
        let policies = Api::<DynamicObject>::all_with(client.clone(), &policy_resource());
        let exceptions = Api::<DynamicObject>::all_with(client.clone(), &exception_resource());
        let all = watcher::Config::default;
        let mut copies = Copies { dirty: Arc::clone(dirty), complete: Vec::new() };
        let this = Self {
            namespaces: copies.keep((), watcher(Api::all(client.clone()), all()), |namespace: &mut PartialObjectMeta<Namespace>| {
                cut_metadata(&mut namespace.metadata, true);
            }),
            services: copies.keep((), watcher(Api::all(client.clone()), all()), |service: &mut Service| {
                cut_metadata(&mut service.metadata, false);
                service.status = None;
            }),
            pods: copies.keep((), watcher(Api::all(client.clone()), all().labels(GUARDED)), cut_pod),
            strays: copies.keep(
                (),
                watcher(Api::all(client.clone()), all().labels(&format!("{LABEL}=enabled,!{GUARDED}"))),
                |pod: &mut PartialObjectMeta<Pod>| cut_metadata(&mut pod.metadata, true),
            ),
            policies: copies.keep(policy_resource(), watcher(policies, all()), |policy: &mut DynamicObject| {
                cut_metadata(&mut policy.metadata, false);
            }),
            exceptions: copies.keep(exception_resource(), watcher(exceptions, all()), |exception: &mut DynamicObject| {
                cut_metadata(&mut exception.metadata, false);
            }),
            config_maps: copies.keep((), watcher(Api::all(client.clone()), all().labels(&managed)), |map: &mut ConfigMap| {
                cut_config_map(map);
            }),
            network_policies: copies.keep((), watcher(Api::all(client.clone()), all()), |policy: &mut NetworkPolicy| {
                cut_metadata(&mut policy.metadata, true);
            }),
            deployments: copies.keep_workloads(&client),
            stateful_sets: copies.keep_workloads(&client),
            daemon_sets: copies.keep_workloads(&client),
            jobs: copies.keep_workloads(&client),
            cron_jobs: copies.keep_workloads(&client),
            client,
            uid,
        };
        tokio::spawn(async move {
            for mut copy in copies.complete {
                // A watch never ends by itself.
                let _ = copy.wait_for(|complete| *complete).await;
            }
            complete.send_replace(true);
        });
        Arc::new(this)
    }

    /// A workload, from the copies.
    pub(crate) fn workload(&self, namespace: &str, kind: Kind, name: &str) -> Option<Workload> {
        fn from<K>(store: &Store<PartialObjectMeta<K>>, namespace: &str, name: &str) -> Option<ObjectMeta>
        where
            PartialObjectMeta<K>: Lookup<DynamicType = ()> + Clone + 'static,
            K: Clone,
        {
            store.get(&ObjectRef::new(name).within(namespace)).map(|object| object.metadata.clone())
        }
        let metadata = match kind {
            Kind::Deployment => from(&self.deployments, namespace, name),
            Kind::StatefulSet => from(&self.stateful_sets, namespace, name),
            Kind::DaemonSet => from(&self.daemon_sets, namespace, name),
            Kind::Job => from(&self.jobs, namespace, name),
            Kind::CronJob => from(&self.cron_jobs, namespace, name),
        };
        metadata.map(|metadata| workload(kind, metadata))
    }

    /// Every workload of a namespace that isn't ending, with its annotations, from the copies.
    pub(crate) fn workloads(&self, namespace: &str) -> BTreeMap<Whose, BTreeMap<String, String>> {
        fn within<'a, K>(
            kind: Kind,
            store: &Store<PartialObjectMeta<K>>,
            namespace: &'a str,
        ) -> impl Iterator<Item = (Whose, BTreeMap<String, String>)> + use<'a, K>
        where
            PartialObjectMeta<K>: Lookup<DynamicType = ()> + Clone + 'static,
            K: Clone,
        {
            let here =
                move |metadata: &ObjectMeta| metadata.namespace.as_deref() == Some(namespace) && metadata.deletion_timestamp.is_none();
            let found = store.state_filter(|object| here(&object.metadata));
            found.into_iter().map(move |object| {
                let ObjectMeta { name, annotations, .. } = object.metadata.clone();
                (Whose::Workload(kind, name.unwrap_or_default()), annotations.unwrap_or_default())
            })
        }
        let mut workloads = BTreeMap::new();
        workloads.extend(within(Kind::Deployment, &self.deployments, namespace));
        workloads.extend(within(Kind::StatefulSet, &self.stateful_sets, namespace));
        workloads.extend(within(Kind::DaemonSet, &self.daemon_sets, namespace));
        workloads.extend(within(Kind::Job, &self.jobs, namespace));
        workloads.extend(within(Kind::CronJob, &self.cron_jobs, namespace));
        workloads
    }

    /// The exceptions of a namespace, from the copies.
    pub(crate) fn exceptions(&self, namespace: &str) -> Vec<Known> {
        let here = self.exceptions.state_filter(|exception| exception.metadata.namespace.as_deref() == Some(namespace));
        here.iter().map(|exception| Known::read(exception)).collect()
    }

    /// A namespace's metadata, from the copies.
    pub(crate) fn namespace(&self, name: &str) -> Option<ObjectMeta> {
        self.namespaces.get(&ObjectRef::new(name)).map(|namespace| namespace.metadata.clone())
    }

    /// A network policy, from the copies.
    pub(crate) fn network_policy(&self, namespace: &str, name: &str) -> Option<Arc<NetworkPolicy>> {
        self.network_policies.get(&ObjectRef::new(name).within(namespace))
    }

    /// A namespace, read now.
    pub(crate) async fn read_namespace(&self, name: &str) -> Result<Namespace, ReadError> {
        read_namespace(&self.client, name).await
    }

    /// A policy, read now.
    pub(crate) async fn read_policy(&self, namespace: &str, name: &str) -> Result<Option<DynamicObject>, ReadError> {
        // A name goes into a path as it is; nothing has another.
        if !is_name(name) {
            return Ok(None);
        }
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &policy_resource());
        api.get_opt(name).await.map_err(|source| ReadError::Api { what: format!("the GuardPolicy {namespace}/{name}"), source })
    }

    /// A workload's settings, read now.
    pub(crate) async fn read_config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ReadError> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|source| ReadError::Api { what: format!("the ConfigMap {namespace}/{name}"), source })
    }

    /// The metadata of a workload, as far as it is used, read now.
    pub(crate) async fn read_named(&self, namespace: &str, kind: Kind, name: &str) -> Result<Option<ObjectMeta>, ReadError> {
        async fn read<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<ObjectMeta>, kube::Error>
        where
            K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
        {
            let found = Api::<K>::namespaced(client.clone(), namespace).get_metadata_opt(name).await?;
            Ok(found.map(|found| found.metadata))
        }
        let found = match kind {
            Kind::Deployment => read::<Deployment>(&self.client, namespace, name).await,
            Kind::StatefulSet => read::<StatefulSet>(&self.client, namespace, name).await,
            Kind::DaemonSet => read::<DaemonSet>(&self.client, namespace, name).await,
            Kind::Job => read::<Job>(&self.client, namespace, name).await,
            Kind::CronJob => read::<CronJob>(&self.client, namespace, name).await,
        };
        let found = found.map_err(|source| ReadError::Api { what: format!("{} {namespace}/{name}", kind.name()), source })?;
        Ok(found.map(|mut metadata| {
            cut_metadata(&mut metadata, false);
            metadata
        }))
    }

    /// The workload that a pod with these owners belongs to, read now. Nothing if it belongs to none whose annotations count.
    pub(crate) async fn read_workload(&self, namespace: &str, owners: &[OwnerReference]) -> Result<Option<Workload>, ReadError> {
        let Some(owner) = controller(owners) else { return Ok(None) };
        let group = owner.api_version.split('/').next().unwrap_or_default();
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = self.read_metadata::<ReplicaSet>(namespace, owner).await? else { return Ok(None) };
                match controller(set.owner_references.as_deref().unwrap_or_default()) {
                    Some(owner) if owner.kind == "Deployment" && owner.api_version.starts_with("apps/") => {
                        self.read::<Deployment>(Kind::Deployment, namespace, owner).await
                    }
                    _ => Ok(None),
                }
            }
            ("batch", "Job") => {
                let Some(job) = self.read_metadata::<Job>(namespace, owner).await? else { return Ok(None) };
                match controller(job.owner_references.as_deref().unwrap_or_default()) {
                    Some(owner) if owner.kind == "CronJob" && owner.api_version.starts_with("batch/") => {
                        self.read::<CronJob>(Kind::CronJob, namespace, owner).await
                    }
                    // Whose it otherwise is, is somebody else's business.
                    _ => Ok(Some(workload(Kind::Job, job))),
                }
            }
            ("apps", "StatefulSet") => self.read::<StatefulSet>(Kind::StatefulSet, namespace, owner).await,
            ("apps", "DaemonSet") => self.read::<DaemonSet>(Kind::DaemonSet, namespace, owner).await,
            _ => Ok(None),
        }
    }

    async fn read<K>(&self, kind: Kind, namespace: &str, owner: &OwnerReference) -> Result<Option<Workload>, ReadError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        Ok(self.read_metadata::<K>(namespace, owner).await?.map(|metadata| workload(kind, metadata)))
    }

    /// The owner's metadata; nothing if there is none of that name and uid, or if the injector may not read it.
    async fn read_metadata<K>(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<ObjectMeta>, ReadError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let what = || format!("{} {namespace}/{}", owner.kind, owner.name);
        match Api::<K>::namespaced(self.client.clone(), namespace).get_metadata_opt(&owner.name).await {
            Ok(found) => Ok(found.map(|found| found.metadata).filter(|metadata| metadata.uid.as_deref() == Some(owner.uid.as_str()))),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
            Err(source) => Err(ReadError::Api { what: what(), source }),
        }
    }
}

async fn read_namespace(client: &Client, name: &str) -> Result<Namespace, ReadError> {
    let what = || format!("the namespace {name}");
    let found = Api::<Namespace>::all(client.clone()).get_opt(name).await;
    found.map_err(|source| ReadError::Api { what: what(), source })?.ok_or_else(|| ReadError::Missing(what()))
}

/// The owner that manages an object.
fn controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

fn workload(kind: Kind, metadata: ObjectMeta) -> Workload {
    Workload {
        kind,
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
    }
}

/// The watches that are being set up.
struct Copies {
    dirty: Arc<Dirty>,
    complete: Vec<watch::Receiver<bool>>,
}

impl Copies {
    fn keep_workloads<K>(&mut self, client: &Client) -> Store<PartialObjectMeta<K>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let changes = watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), watcher::Config::default());
        self.keep((), changes, |object: &mut PartialObjectMeta<K>| cut_metadata(&mut object.metadata, false))
    }

    /// Keeps a copy of what is watched, cut down, and marks the namespace of whatever changes.
    fn keep<K>(
        &mut self,
        kind: <K as Resource>::DynamicType,
        changes: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
        cut: impl Fn(&mut K) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource + Lookup<DynamicType = <K as Resource>::DynamicType> + Clone + Send + Sync + Debug + 'static,
        <K as Resource>::DynamicType: std::hash::Hash + Eq + Clone + Unpin + Send + Sync,
    {
        let mut writer = kube::runtime::reflector::store::Writer::new(kind);
        let reader = writer.as_reader();
        let (complete, is_complete) = watch::channel(false);
        self.complete.push(is_complete);
        let dirty = Arc::clone(&self.dirty);
        tokio::spawn(async move {
            let mut changes = std::pin::pin!(changes.default_backoff());
            while let Some(change) = changes.next().await {
                let change = match change {
                    Ok(change) => change.modify(&cut),
                    Err(error) => {
                        tracing::warn!(what = std::any::type_name::<K>(), %error, "a watch broke and is begun again");
                        continue;
                    }
                };
                writer.apply_watcher_event(&change);
                match &change {
                    Event::Apply(object) | Event::Delete(object) | Event::InitApply(object) => {
                        // A namespace concerns itself.
                        let meta = object.meta();
                        if let Some(name) = meta.namespace.as_ref().or(meta.name.as_ref()) {
                            dirty.mark(name);
                        }
                    }
                    Event::InitDone => drop(complete.send(true)),
                    Event::Init => {}
                }
            }
        });
        reader
    }
}

/// Leaves of metadata what is used: names, our labels and annotations, owners. All labels where selectors look at them.
fn cut_metadata(metadata: &mut ObjectMeta, all_labels: bool) {
    metadata.managed_fields = None;
    metadata.finalizers = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key.starts_with(PREFIX) || key == LABEL);
    }
    if let Some(labels) = metadata.labels.as_mut().filter(|_| !all_labels) {
        labels.retain(|key, _| key.starts_with(PREFIX) || key == LABEL);
    }
}

/// Leaves of a `ConfigMap` what may be settings, and of the rest that it is there: anybody can write our label on what is large.
fn cut_config_map(map: &mut ConfigMap) {
    cut_metadata(&mut map.metadata, true);
    let ours = map.metadata.name.as_deref().is_some_and(is_object_name);
    for (_, text) in map.data.iter_mut().flatten().filter(|(key, _)| !ours || *key != KEY) {
        *text = String::new();
    }
    for bytes in map.binary_data.iter_mut().flat_map(BTreeMap::values_mut) {
        bytes.0 = Vec::new();
    }
}

/// Leaves of a pod what concerns the guard: its arguments, the ports, the mounted settings, where it is.
fn cut_pod(pod: &mut Pod) {
    cut_metadata(&mut pod.metadata, true);
    if let Some(spec) = &mut pod.spec {
        let containers = std::mem::take(&mut spec.containers);
        let init_containers = spec.init_containers.take();
        let cut = |container: k8s_openapi::api::core::v1::Container| k8s_openapi::api::core::v1::Container {
            args: container.args.filter(|_| container.name == GUARD),
            name: container.name,
            ports: container.ports,
            restart_policy: container.restart_policy,
            ..Default::default()
        };
        *spec = k8s_openapi::api::core::v1::PodSpec {
            containers: containers.into_iter().map(cut).collect(),
            init_containers: init_containers.map(|containers| containers.into_iter().map(cut).collect()),
            ..Default::default()
        };
    }
    if let Some(status) = &mut pod.status {
        *status = k8s_openapi::api::core::v1::PodStatus { phase: status.phase.take(), pod_ip: status.pod_ip.take(), ..Default::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_marked_is_taken_once_and_nothing_marked_is_lost() {
        let dirty = Arc::new(Dirty::default());
        dirty.mark("a");
        dirty.mark("b");
        dirty.mark("a");
        assert_eq!(dirty.take().await, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        let taker = tokio::spawn({
            let dirty = Arc::clone(&dirty);
            async move { dirty.take().await }
        });
        tokio::task::yield_now().await;
        dirty.mark("c");
        assert_eq!(taker.await.unwrap(), BTreeSet::from(["c".to_owned()]));
    }

    #[test]
    fn of_a_map_only_what_may_be_settings_is_kept() {
        let cut = |name: &str| {
            let mut map: ConfigMap = serde_json::from_value(serde_json::json!({
                "metadata": {"name": name}, "data": {"settings": "s", "more": "m"}, "binaryData": {"b": "AAAA"},
            }))
            .unwrap();
            cut_config_map(&mut map);
            serde_json::to_value((map.data, map.binary_data)).unwrap()
        };
        let ours = serde_json::json!([{"settings": "s", "more": ""}, {"b": ""}]);
        assert_eq!(cut("llm-guard-deployment-ollama-0123456789abcdef"), ours);
        assert_eq!(cut("other"), serde_json::json!([{"settings": "", "more": ""}, {"b": ""}]));
    }

    #[test]
    fn of_a_pod_only_the_guards_arguments_are_kept() {
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "annotations": {"other": "x", "llm-guard.io/port": "11434"}, "labels": {"app": "a"}},
            "spec": {
                "initContainers": [{"name": "llm-guard", "args": ["run"], "image": "i", "restartPolicy": "Always"}],
                "containers": [{"name": "ollama", "args": ["serve"], "env": [{"name": "TOKEN", "value": "x"}], "ports": [{"containerPort": 9}]}],
            },
            "status": {"podIP": "10.0.0.1", "phase": "Running", "message": "m"},
        }))
        .unwrap();
        cut_pod(&mut pod);
        let text = serde_json::to_string(&pod).unwrap();
        assert!(!text.contains("serve") && !text.contains("TOKEN") && !text.contains("other"), "{text}");
        assert!(text.contains("run") && text.contains("10.0.0.1") && text.contains("\"app\"") && text.contains('9'), "{text}");
    }
}

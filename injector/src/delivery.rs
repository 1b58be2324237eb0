//! Brings changed settings to the guards: touches an annotation of the pod, which makes its kubelet refresh the volume, and asks the
//! guard what it has loaded.
//!
//! The invariant: a pod is pending until its guard has said that it loaded what it should.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::cluster::Dirty;
use crate::events::{Events, Reason};
use crate::guarded::Guarded;
use crate::metrics::Metrics;
use crate::names::{MANAGER, METRICS_PORT, SETTINGS};

/// How long a guard is given before its kubelet is asked again; grows up to [`SLOWEST`].
const FIRST: Duration = Duration::from_millis(1500);
const SLOWEST: Duration = Duration::from_secs(30);
/// How often a guard is asked meanwhile.
const ASK: Duration = Duration::from_millis(150);
const ASK_SLOWEST: Duration = Duration::from_secs(5);
/// How long one question may take, together with the wait for its turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most questions at a time.
const TOGETHER: usize = 16;
/// The most bytes of an answer.
const ANSWER: usize = 16 * 1024;
/// After how long it is said that a guard doesn't take its settings.
const OVERDUE: Duration = Duration::from_secs(30);

/// What a guard reports.
#[derive(Debug, Default, Deserialize)]
struct Report {
    digest: Option<String>,
    error: Option<String>,
}

struct Delivery {
    namespace: String,
    digest: String,
    task: AbortHandle,
    done: bool,
}

/// The deliveries that run, and those that arrived, by the pod's uid.
pub(crate) struct Deliveries {
    client: Client,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
    dirty: Arc<Dirty>,
    room: Semaphore,
    by_pod: Mutex<HashMap<String, Delivery>>,
}

impl Deliveries {
    /// `dirty` learns of what has arrived: policies' status counts it.
    pub(crate) fn new(client: Client, events: Arc<Events>, metrics: Arc<Metrics>, dirty: Arc<Dirty>) -> Self {
        Self { client, events, metrics, dirty, room: Semaphore::new(TOGETHER), by_pod: Mutex::default() }
    }

    /// Whether the pod's guard has said that it loaded what has this digest.
    pub(crate) fn has_arrived(&self, uid: &str, digest: &str) -> bool {
        let by_pod = self.by_pod.lock().unwrap_or_else(PoisonError::into_inner);
        by_pod.get(uid).is_some_and(|delivery| delivery.done && delivery.digest == digest)
    }

    /// Sees to it that these pods' guards load what has this digest.
    pub(crate) fn deliver(self: &Arc<Self>, namespace: &str, pods: &[&Guarded], digest: &str) {
        let mut by_pod = self.by_pod.lock().unwrap_or_else(PoisonError::into_inner);
        for pod in pods {
            // Where there is no address yet, nothing is mounted yet either, and what will be is the newest.
            let Some(address) = pod.address else { continue };
            if by_pod.get(&pod.uid).is_some_and(|delivery| delivery.digest == digest) {
                continue;
            }
            let (this, pod, wanted) = (Arc::clone(self), Guarded::clone(pod), digest.to_owned());
            let uid = pod.uid.clone();
            let task = tokio::spawn(async move {
                this.bring(&pod, address, &wanted).await;
                let mut by_pod = this.by_pod.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(delivery) = by_pod.get_mut(&pod.uid).filter(|delivery| delivery.digest == wanted) {
                    delivery.done = true;
                }
                this.count(&by_pod);
                this.dirty.mark(pod.identity.namespace());
            })
            .abort_handle();
            let delivery = Delivery { namespace: namespace.to_owned(), digest: digest.to_owned(), task, done: false };
            if let Some(before) = by_pod.insert(uid, delivery) {
                before.task.abort();
            }
        }
        self.count(&by_pod);
    }

    /// Forgets the pods of a namespace that aren't among these.
    pub(crate) fn keep_only(&self, namespace: &str, uids: &BTreeSet<String>) {
        let mut by_pod = self.by_pod.lock().unwrap_or_else(PoisonError::into_inner);
        by_pod.retain(|uid, delivery| {
            let stays = delivery.namespace != namespace || uids.contains(uid);
            if !stays {
                delivery.task.abort();
            }
            stays
        });
        self.count(&by_pod);
    }

    fn count(&self, by_pod: &HashMap<String, Delivery>) {
        let pending = by_pod.values().filter(|delivery| !delivery.done).count();
        self.metrics.settings_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }

    /// Touches and asks until the guard has it.
    async fn bring(&self, pod: &Guarded, address: IpAddr, digest: &str) {
        let began = Instant::now();
        let mut wait = FIRST;
        for attempt in 0_u32.. {
            let note = if attempt == 0 { digest.to_owned() } else { format!("{digest} retry={attempt}") };
            let mut report = self.ask(address).await;
            if report.as_ref().is_some_and(|report| report.digest.as_deref() == Some(digest)) {
                return;
            }
            if attempt > 0 || pod.told.as_deref() != Some(digest) {
                self.touch(pod, &note).await;
            }
            let until = Instant::now() + wait;
            while Instant::now() < until {
                tokio::time::sleep((wait / 10).clamp(ASK, ASK_SLOWEST)).await;
                report = self.ask(address).await.or(report);
                if report.as_ref().is_some_and(|report| report.digest.as_deref() == Some(digest)) {
                    tracing::debug!(pod = pod.name, took = ?began.elapsed(), "the guard has loaded its settings");
                    return;
                }
            }
            if began.elapsed() >= OVERDUE {
                let why = report.and_then(|report| report.error).map_or_else(
                    || "it doesn't answer, or the volume isn't refreshed".to_owned(),
                    |error| error.chars().filter(|c| !c.is_control()).take(300).collect(),
                );
                let note = format!("The guard hasn't loaded the settings that it should have: {why}");
                self.events.warn(&pod.reference(), Reason::SettingsPending, note).await;
            }
            wait = (wait * 2).min(SLOWEST);
        }
    }

    async fn touch(&self, pod: &Guarded, note: &str) {
        let api = Api::<Pod>::namespaced(self.client.clone(), pod.identity.namespace());
        // With the uid: another pod of that name is none of this delivery's.
        let patch = json!({"metadata": {"uid": pod.uid, "annotations": {SETTINGS: note}}});
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        if let Err(error) = api.patch_metadata(&pod.name, &params, &Patch::Merge(patch)).await {
            tracing::debug!(pod = pod.name, %error, "the pod couldn't be touched");
        }
    }

    /// What the guard at this address has loaded; nothing if it doesn't say.
    async fn ask(&self, address: IpAddr) -> Option<Report> {
        // The wait for a place counts, too: pods that swallow packets must not keep others from being touched.
        let asked = async {
            let _place = self.room.acquire().await.ok()?;
            ask(SocketAddr::new(address, METRICS_PORT)).await
        };
        tokio::time::timeout(PATIENCE, asked).await.ok()?
    }
}

async fn ask(address: SocketAddr) -> Option<Report> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/settings").header(http::header::HOST, address.to_string()).body(Empty::<Bytes>::new()).ok()?;
    let body = async {
        let answer = sender.send_request(request).await.ok()?;
        Limited::new(answer.into_body(), ANSWER).collect().await.ok()
    };
    let body = body.await;
    connection.abort();
    serde_json::from_slice(&body?.to_bytes()).ok()
}

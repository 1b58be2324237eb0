//! The port for operators, the kubelet and the injector: `/healthz`, `/readyz`, `/startupz`, `/metrics`, `/settings`, and in a pod
//! `/idle` and `/probes/CONTAINER/KIND`.
//!
//! The invariant: it answers from the process's first moment to its last, and who waits here, or says nothing, takes no place from
//! who asks.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use llm_guard_engine::policy::settings::Exception;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::drain::{Asking, Drain, Stage};
use super::exchange::Proxy;
use super::probes::{PROBE_TIME, Probes};

const MAX_CONNECTIONS: usize = 64;
/// The most that wait for the end of a drain at once: each container of a pod asks once.
const MAX_WAITING: usize = 64;
/// For a connection from its first byte to its last, but for the time in which it waits for the guard.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// For a drain to end: longer than any, for it is bounded by a time of its own.
const IDLE_TIME: Duration = Duration::from_hours(24);
/// How long a drain may take to begin. The kubelet runs the hooks of all containers at once.
const DRAIN_BEGINS_WITHIN: Duration = Duration::from_secs(2);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const ROUTES: [&str; 6] = ["/healthz", "/readyz", "/startupz", "/metrics", "/settings", "/idle"];

/// What the port tells of.
pub(super) struct Observed {
    pub(super) proxy: Arc<Proxy>,
    pub(super) drain: Drain,
    pub(super) probes: Probes,
    /// Who waits for the end of a drain.
    pub(super) waiting: Arc<Semaphore>,
}

impl Observed {
    pub(super) fn new(proxy: Arc<Proxy>, drain: Drain, probes: Probes) -> Self {
        Self { proxy, drain, probes, waiting: Arc::new(Semaphore::new(MAX_WAITING)) }
    }
}

/// A connection, as the one request on it sees it.
struct Connection {
    /// Its place among those that ask.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    /// Its request has arrived.
    has_asked: AtomicBool,
    /// Another needs its place.
    gives_way: Notify,
    /// When it must have ended.
    until: watch::Sender<Instant>,
    /// What it holds of others until it has ended.
    holds: Mutex<Option<(OwnedSemaphorePermit, Asking)>>,
}

impl Connection {
    fn new(place: OwnedSemaphorePermit) -> Self {
        let until = watch::Sender::new(Instant::now() + CONNECTION_TIME);
        let (has_asked, gives_way) = (AtomicBool::new(false), Notify::new());
        Self { place: Mutex::new(Some(place)), has_asked, gives_way, until, holds: Mutex::default() }
    }

    /// Serves until it has ended, or must have.
    async fn bound(&self, serving: impl Future) {
        let mut serving = std::pin::pin!(serving);
        let mut until = self.until.subscribe();
        loop {
            let end = *until.borrow_and_update();
            tokio::select! {
                _ = serving.as_mut() => return,
                () = sleep_until(end) => return,
                () = self.gives_way.notified() => return,
                _ = until.changed() => {}
            }
        }
    }

    /// Does something that may take longer than a connection may.
    async fn wait<T>(&self, time: Duration, work: impl Future<Output = T>) -> T {
        let may = |time| self.until.send_replace(Instant::now() + time + CONNECTION_TIME);
        may(time);
        let done = work.await;
        may(Duration::ZERO);
        done
    }

    fn has_place(&self) -> bool {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits from now on, in no place of those that ask. `Err`: too many do.
    fn steps_aside(&self, observed: &Observed) -> Result<(), ()> {
        let waiting = Arc::clone(&observed.waiting).try_acquire_owned().map_err(|_| ())?;
        *self.holds.lock().unwrap_or_else(PoisonError::into_inner) = Some((waiting, observed.drain.ask()));
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

/// The connections that have a place, in the order in which they came.
#[derive(Default)]
struct Seated(Vec<Weak<Connection>>);

impl Seated {
    fn forget_the_gone(&mut self) {
        self.0.retain(|connection| connection.upgrade().is_some_and(|connection| connection.has_place()));
    }

    fn add(&mut self, connection: &Arc<Connection>) {
        self.forget_the_gone();
        self.0.push(Arc::downgrade(connection));
    }

    /// Lets one give way: the first that hasn't asked for anything, else the first. The kubelet asks at once, and waits for seconds
    /// at most; whoever is here for longer isn't the one that must be answered.
    fn make_room(&mut self) {
        let has_asked = |connection: &Weak<Connection>| connection.upgrade().is_some_and(|it| it.has_asked.load(Ordering::Relaxed));
        self.forget_the_gone();
        let place = self.0.iter().position(|connection| !has_asked(connection)).unwrap_or_default();
        if place < self.0.len()
            && let Some(connection) = self.0.remove(place).upgrade()
        {
            connection.gives_way.notify_one();
        }
    }
}

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, observed: Arc<Observed>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut seated = Seated::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if places.available_permits() == 0 {
                    seated.make_room();
                }
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let connection = Arc::new(Connection::new(place));
                seated.add(&connection);
                tokio::spawn(serve_connection(stream, connection, Arc::clone(&observed)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics can't be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, own: Arc<Connection>, observed: Arc<Observed>) {
    let service = service_fn(|request| answer(request, &own, &observed));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME)
        // One answer each, and in time: whoever reads slowly would keep a place that probes need.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    own.bound(connection).await;
}

/// What is in force, as the injector reads it.
#[derive(Serialize)]
struct InForce<'f> {
    digest: Option<&'f str>,
    serial: u64,
    mode: &'static str,
    /// The mode of the policy that is judged beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<&'static str>,
    stop: bool,
    exceptions: &'f [Exception],
    error: Option<&'f str>,
}

async fn answer(request: Request<Incoming>, own: &Connection, observed: &Observed) -> Result<Response<Full<Bytes>>, Infallible> {
    own.has_asked.store(true, Ordering::Relaxed);
    let path = request.uri().path();
    let (status, kind, body) = match *request.method() {
        Method::GET | Method::HEAD => match path.strip_prefix("/probes/") {
            Some(name) => probe(name, &request, own, observed).await,
            None => tell(path, own, observed).await,
        },
        _ if ROUTES.contains(&path) || path.starts_with("/probes/") => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned()),
        _ => unknown(),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

type Told = (StatusCode, &'static str, String);

async fn tell(path: &str, own: &Connection, observed: &Observed) -> Told {
    let proxy = &observed.proxy;
    let stage = *proxy.drain.borrow();
    match path {
        // One that has drained lives on until it is ended. If nobody ends it, it has to begin anew.
        "/healthz" if stage >= Stage::Finished => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "drained\n".to_owned()),
        "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => {
            let (status, guard) = match (stage >= Stage::Draining, proxy.is_listening()) {
                (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
                (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "waiting for settings"),
                (false, true) => (StatusCode::OK, "ready"),
            };
            // The model's state is told and doesn't count: the guard is there before it.
            let model = if proxy.upstream.is_reachable().await { "reachable" } else { "unreachable" };
            (status, TEXT, format!("guard: {guard}\nmodel: {model}\n"))
        }
        "/startupz" if proxy.is_listening() => (StatusCode::OK, TEXT, "started\n".to_owned()),
        "/startupz" => {
            let why = proxy.policy.error().map_or_else(|| "the settings are being read".to_owned(), |error| error.to_string());
            (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not started: {why}\n"))
        }
        "/metrics" => (StatusCode::OK, OPEN_METRICS, proxy.metrics().page()),
        "/settings" => {
            let (current, error) = (proxy.policy.now(), proxy.policy.error());
            let told = InForce {
                digest: current.digest.as_deref(),
                serial: current.serial,
                mode: current.policy.mode.name(),
                shadow: current.shadow.as_ref().map(|shadow| shadow.mode.name()),
                stop: current.stop,
                exceptions: &current.exceptions,
                error: error.as_deref().map(String::as_str),
            };
            (StatusCode::OK, JSON, serde_json::to_string(&told).unwrap_or_default() + "\n")
        }
        "/idle" => match own.steps_aside(observed) {
            Ok(()) => {
                own.wait(IDLE_TIME, observed.drain.idle(DRAIN_BEGINS_WITHIN)).await;
                (StatusCode::OK, TEXT, "idle\n".to_owned())
            }
            Err(()) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many wait already\n".to_owned()),
        },
        _ => unknown(),
    }
}

async fn probe(name: &str, request: &Request<Incoming>, own: &Connection, observed: &Observed) -> Told {
    let Observed { proxy, probes, .. } = observed;
    let agent = request.headers().get(header::USER_AGENT);
    match own.wait(PROBE_TIME, probes.ask(name, &proxy.upstream, proxy.stand_in.as_ref(), agent)).await {
        None => (StatusCode::NOT_FOUND, TEXT, "there is no such probe\n".to_owned()),
        Some(health) => {
            let is_well = health.is_well();
            proxy.metrics().probe(is_well);
            (if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, format!("{health}\n"))
        }
    }
}

fn unknown() -> Told {
    (StatusCode::NOT_FOUND, TEXT, format!("there are {} and /probes/CONTAINER/KIND\n", ROUTES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a connection lives that waits for `waits` and is then as it is.
    async fn lives(waits: Duration, then: impl Future) -> Duration {
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (own, begun) = (Connection::new(place), Instant::now());
        let serving = async {
            own.wait(IDLE_TIME, tokio::time::sleep(waits)).await;
            then.await;
        };
        own.bound(serving).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_guard_has_all_the_time_and_who_is_slow_has_half_a_minute() {
        let hour = Duration::from_hours(1);
        assert_eq!(lives(hour, std::future::ready(())).await, hour);
        assert_eq!(lives(Duration::ZERO, std::future::pending::<()>()).await, CONNECTION_TIME);
        assert_eq!(lives(hour, std::future::pending::<()>()).await, hour + CONNECTION_TIME);
    }
}

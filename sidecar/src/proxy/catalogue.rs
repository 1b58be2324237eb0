//! What the model server says of its models: where each of them runs.
//!
//! The invariant: an answer is kept for [`FRESH`] at most, and for no time while a request that came through the guard changes models;
//! what isn't certain is never kept. So what the guard goes by is older than that only where models are changed behind its back.
//! (Between an answer and the request that it is for, a model can still be changed by others.)
//!
//! What it costs: some 3 ms before the first request to a model in two minutes, and nothing before the others; some 2 ms before each
//! request to a model that isn't there, since it may be there the next time.
//!
//! The server is the one to which the request goes, asked as the same client; nothing of an answer leaves this module but a
//! [`Whereabouts`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Version};
use http_body_util::{BodyExt, Full};
use llm_guard_engine::wire::whereabouts::{ALIASES_PATH, SHOW_PATH, Whereabouts, read_aliases, read_shown, show_request};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::upstream::{RequestBody, Upstream};
use crate::telemetry::metrics::UpstreamError;

/// How the guard calls itself where it asks of its own accord.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("llm-guard/", env!("CARGO_PKG_VERSION")));
/// How long an answer counts.
const FRESH: Duration = Duration::from_mins(2);
/// The most models of which an answer is kept.
const MOST: usize = 256;
/// For an answer to arrive.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// The most bytes of an answer that are read.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How many questions are asked at once. Of those that wait, most find the answer there.
const AT_ONCE: usize = 4;

/// What is known of the server's models.
#[derive(Debug)]
pub(super) struct Catalogue {
    known: Mutex<Known>,
    asking: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<Key, (Instant, Whereabouts)>,
    /// How often the models may have changed.
    changes: u64,
    /// How many requests are changing them right now.
    changing: usize,
}

/// A model by the name that was asked for, of the server as it is seen from inside of the pod or from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    outside: bool,
    name: String,
}

/// Who is asked, and in whose name.
pub(super) struct Question<'q> {
    pub(super) upstream: &'q Upstream,
    pub(super) outside: bool,
    pub(super) headers: HeaderMap,
    pub(super) deadline: Instant,
}

impl Catalogue {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), asking: Semaphore::new(AT_ONCE) })
    }

    /// Where a model runs. Only a server that gives no answer at all is an error.
    pub(super) async fn locate(&self, name: &str, question: &Question<'_>) -> Result<Whereabouts, UpstreamError> {
        let key = Key { outside: question.outside, name: name.to_owned() };
        if let Some(place) = self.kept(&key) {
            return Ok(place);
        }
        let until = question.deadline.min(Instant::now() + ANSWER_TIME);
        let asked = async {
            // The semaphore is never closed.
            let _turn = self.asking.acquire().await;
            if let Some(place) = self.kept(&key) {
                return Ok(place);
            }
            let changes = self.known().changes;
            let place = question.ask(name).await?;
            self.keep(key, &place, changes);
            Ok(place)
        };
        timeout_at(until, asked).await.unwrap_or(Err(UpstreamError::TimedOut))
    }

    /// A request goes on that may change models; until what this gives is dropped nothing is kept.
    pub(super) fn changing(self: &Arc<Self>) -> Changing {
        let mut known = self.known();
        known.changing += 1;
        known.forget();
        Changing(Arc::clone(self))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, key: &Key) -> Option<Whereabouts> {
        let known = self.known();
        let (since, place) = known.places.get(key)?;
        (since.elapsed() < FRESH).then(|| place.clone())
    }

    fn keep(&self, key: Key, place: &Whereabouts, changes: u64) {
        if !matches!(place, Whereabouts::Here | Whereabouts::Cloud | Whereabouts::Alias(_)) {
            return;
        }
        let mut known = self.known();
        if known.changing > 0 || known.changes != changes {
            return;
        }
        if known.places.len() >= MOST && !known.places.contains_key(&key) {
            let oldest = known.places.iter().min_by_key(|(_, (since, _))| *since).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                known.places.remove(&oldest);
            }
        }
        known.places.insert(key, (Instant::now(), place.clone()));
    }
}

impl Known {
    fn forget(&mut self) {
        self.changes += 1;
        self.places.clear();
    }
}

/// While it lives, models may be changing.
#[derive(Debug)]
pub(super) struct Changing(Arc<Catalogue>);

impl Drop for Changing {
    fn drop(&mut self) {
        let mut known = self.0.known();
        known.changing = known.changing.saturating_sub(1);
        known.forget();
    }
}

impl Question<'_> {
    async fn ask(&self, name: &str) -> Result<Whereabouts, UpstreamError> {
        let body = Bytes::from(show_request(name));
        let Some((status, shown)) = self.send(&Method::POST, SHOW_PATH, &body).await? else { return Ok(Whereabouts::Unknown) };
        let place = read_shown(status, &shown);
        if place != Whereabouts::Missing {
            return Ok(place);
        }
        // What isn't there may be an alias.
        let listed = self.send(&Method::GET, ALIASES_PATH, &Bytes::new()).await?;
        Ok(listed.map_or(Whereabouts::Unknown, |(status, aliases)| read_aliases(status, &aliases, name)))
    }

    /// Status and body of an answer; nothing where there is too much of it.
    async fn send(&self, method: &Method, path: &'static str, body: &Bytes) -> Result<Option<(u16, Bytes)>, UpstreamError> {
        let target = self.upstream.target(PathAndQuery::from_static(path)).map_err(|_| UpstreamError::Broken)?;
        let make = || -> Request<RequestBody> {
            let mut request = Request::new(Full::new(body.clone()).map_err(|never| match never {}).boxed());
            *request.method_mut() = method.clone();
            *request.uri_mut() = target.clone();
            *request.version_mut() = Version::HTTP_11;
            *request.headers_mut() = self.headers.clone();
            // Of a request without a host the server wants to know nothing.
            if let (false, Some(host)) = (self.headers.contains_key(header::HOST), target.authority().and_then(as_host)) {
                request.headers_mut().insert(header::HOST, host);
            }
            request.headers_mut().insert(header::USER_AGENT, AGENT);
            if !body.is_empty() {
                request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            request
        };
        let answer = self.upstream.send(make(), || Some(make())).await?;
        let status = answer.status().as_u16();
        let (mut body, mut whole) = (answer.into_body(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| UpstreamError::Broken)?.into_data() else { continue };
            if whole.len() + data.len() > ANSWER_BYTES {
                return Ok(None);
            }
            whole.extend_from_slice(&data);
        }
        Ok(Some((status, whole.freeze())))
    }
}

fn as_host(authority: &Authority) -> Option<HeaderValue> {
    HeaderValue::from_str(authority.as_str()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that says the same of every model, and counts how often it is asked.
    async fn server(status: &'static str, body: String) -> (Upstream, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (body, counter) = (body.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    let mut bytes = [0; 1024];
                    let read = stream.read(&mut bytes).await.unwrap_or_default();
                    counter.fetch_add(1, Ordering::Relaxed);
                    // As Go's server does it.
                    let has_host = String::from_utf8_lossy(&bytes[..read]).to_ascii_lowercase().contains("\r\nhost: 127.0.0.1:");
                    let status = if has_host { status } else { "400 Bad Request" };
                    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        (Upstream::new(url.parse().unwrap(), 0), asked)
    }

    fn question(upstream: &Upstream) -> Question<'_> {
        Question { upstream, outside: false, headers: HeaderMap::new(), deadline: Instant::now() + Duration::from_secs(20) }
    }

    #[tokio::test]
    async fn a_model_is_asked_for_once_by_however_many_and_again_when_models_may_have_changed() {
        let (upstream, asked) = server("200 OK", "{}".into()).await;
        let catalogue = Catalogue::new();
        let mut many = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (catalogue, upstream) = (Arc::clone(&catalogue), upstream.clone());
            many.spawn(async move { catalogue.locate("calm", &question(&upstream)).await });
        }
        assert!(many.join_all().await.iter().all(|place| matches!(place, Ok(Whereabouts::Here))));
        let question = question(&upstream);
        let first = asked.load(Ordering::Relaxed);
        assert!((1..=AT_ONCE).contains(&first), "{first}");

        let changing = catalogue.changing();
        for _ in 0..2 {
            catalogue.locate("calm", &question).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), first + 2, "nothing is kept while models change");
        drop(changing);
        for _ in 0..2 {
            catalogue.locate("calm", &question).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), first + 3);
    }

    #[tokio::test]
    async fn what_was_asked_before_a_change_is_not_kept_behind_it() {
        let catalogue = Catalogue::new();
        let key = |name: &str| Key { outside: false, name: name.into() };
        let changes = catalogue.known().changes;
        drop(catalogue.changing());
        catalogue.keep(key("calm"), &Whereabouts::Here, changes);
        assert_eq!(catalogue.kept(&key("calm")), None);
        catalogue.keep(key("calm"), &Whereabouts::Here, changes + 2);
        assert_eq!(catalogue.kept(&key("calm")), Some(Whereabouts::Here));
        assert_eq!(catalogue.kept(&Key { outside: true, name: "calm".into() }), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_number_and_age_and_nothing_is_kept_that_is_not_certain() {
        let catalogue = Catalogue::new();
        let key = |number: usize| Key { outside: false, name: number.to_string() };
        let changes = catalogue.known().changes;
        for number in 0..=MOST {
            catalogue.keep(key(number), &Whereabouts::Here, changes);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(catalogue.known().places.len(), MOST);
        assert_eq!((catalogue.kept(&key(0)), catalogue.kept(&key(1))), (None, Some(Whereabouts::Here)));
        for place in [Whereabouts::Missing, Whereabouts::Unknown] {
            catalogue.keep(key(MOST + 1), &place, changes);
            assert_eq!(catalogue.kept(&key(MOST + 1)), None);
        }
        tokio::time::advance(FRESH).await;
        assert_eq!(catalogue.kept(&key(MOST)), None);
    }

    #[tokio::test]
    async fn too_long_an_answer_says_nothing_and_a_missing_server_is_an_error() {
        let (upstream, _) = server("200 OK", format!("{{\"x\":\"{}\"}}", "x".repeat(ANSWER_BYTES))).await;
        assert_eq!(Catalogue::new().locate("calm", &question(&upstream)).await.ok(), Some(Whereabouts::Unknown));
        let (upstream, asked) = server("404 Not Found", r#"{"error":"model 'x' not found"}"#.into()).await;
        // The list of aliases is missing here as well.
        assert_eq!(Catalogue::new().locate("calm", &question(&upstream)).await.ok(), Some(Whereabouts::Missing));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let closed = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
        let nobody = Upstream::new(format!("http://{closed}").parse().unwrap(), 0);
        assert!(matches!(Catalogue::new().locate("calm", &question(&nobody)).await, Err(UpstreamError::Unreachable)));
    }
}

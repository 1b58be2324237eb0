//! The model server.
//!
//! The invariant: whatever a client asks, the guard connects to the one server that its arguments name, and to nothing else; and who
//! calls from outside a pod reaches its server only where that listens for the outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use llm_guard_engine::exchange::broken_answer;
use llm_guard_engine::verdict::{ControlId, Refusal};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::telemetry::metrics::UpstreamError;

/// The first pause before another try to connect; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// For a connection to come about.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// A body on its way to the model server.
pub(crate) type RequestBody = BoxBody<Bytes, hyper::Error>;

/// Where the model server is: `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamUrl(Authority);

/// Why a text names no model server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamUrlError {
    /// It is no URL.
    #[error("'{0}' is no URL of the form http://HOST:PORT")]
    Form(String),
    /// It asks for another protocol.
    #[error("the model server is spoken to in plain HTTP; '{0}' is not supported")]
    Scheme(String),
    /// It has a path.
    #[error("'{0}' has a path or a query; the guard keeps those of the client")]
    Path(String),
}

impl std::str::FromStr for UpstreamUrl {
    type Err = UpstreamUrlError;

    fn from_str(text: &str) -> Result<Self, UpstreamUrlError> {
        let text = text.trim();
        let form = || UpstreamUrlError::Form(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| form())?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) => return Err(UpstreamUrlError::Scheme(scheme.to_string())),
            None => return Err(form()),
        }
        if uri.path_and_query().is_some_and(|path| path != "/") {
            return Err(UpstreamUrlError::Path(text.to_owned()));
        }
        let is_plain = |authority: &&Authority| {
            let port = authority.as_str().strip_prefix(authority.host());
            !authority.host().is_empty() && (port == Some("") || port.is_some() && authority.port_u16().is_some_and(|port| port > 0))
        };
        let authority = uri.authority().filter(is_plain);
        Ok(Self(authority.ok_or_else(form)?.clone()))
    }
}

impl std::fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl UpstreamUrl {
    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(80)
    }

    /// Whether it names this machine's loopback.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    fn host(&self) -> &str {
        self.0.host().trim_start_matches('[').trim_end_matches(']')
    }
}

/// The addresses at which a pod's model server may listen: one server, whichever of them it took.
#[derive(Clone, Debug)]
struct OfPod {
    addresses: Arc<[SocketAddr]>,
    /// The place of the one that worked last.
    last: Arc<AtomicUsize>,
}

impl OfPod {
    fn new(port: u16, ips: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for ip in ips {
            let address = SocketAddr::new(ip, port);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Self { addresses: addresses.into(), last: Arc::default() }
    }

    /// Connects to the first that takes the connection, beginning with the one that did so last.
    async fn connect(&self) -> std::io::Result<TcpStream> {
        let last = self.last.load(Ordering::Relaxed);
        let others = (0..self.addresses.len()).filter(|place| *place != last);
        let mut failure = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for place in std::iter::once(last).chain(others) {
            let Some(address) = self.addresses.get(place) else { continue };
            // What refuses does so at once; what swallows packets must not use up the time of the others.
            let tried = tokio::time::timeout(CONNECT_TIME / 4, TcpStream::connect(address)).await;
            match tried.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    self.last.store(place, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// How a connection to the model server comes about.
#[derive(Clone, Debug)]
enum Connector {
    /// By its URL.
    Url(HttpConnector),
    /// By the addresses of the pod.
    Pod(OfPod),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Url(connector) => connector.poll_ready(cx).map_err(Into::into),
            Self::Pod(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        match self {
            Self::Url(connector) => {
                let connecting = connector.call(target);
                Box::pin(async move { Ok(connecting.await?) })
            }
            Self::Pod(pod) => {
                let pod = pod.clone();
                Box::pin(async move {
                    let stream = tokio::time::timeout(CONNECT_TIME, pod.connect()).await??;
                    stream.set_nodelay(true)?;
                    Ok(TokioIo::new(stream))
                })
            }
        }
    }
}

/// Speaks to the model server.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    url: UpstreamUrl,
    pod: Option<OfPod>,
    client: Client<Connector, RequestBody>,
    retries: u32,
    /// The same server as it is seen from outside the pod: at the pod's own addresses. A server that listens on the loopback alone, as
    /// one does behind a proxy that asks for a password, was put there to be out of reach.
    outside: Option<Box<Self>>,
}

impl Upstream {
    /// The server at a URL. `retries`: how often a connection that fails is tried again.
    pub(crate) fn new(url: UpstreamUrl, retries: u32) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIME));
        connector.set_nodelay(true);
        Self { client: client(Connector::Url(connector)), url, pod: None, retries, outside: None }
    }

    /// The server of this pod at the URL's port: at `127.0.0.1`, else `::1`, else one of the pod's own addresses.
    pub(crate) fn in_pod(url: &UpstreamUrl, pod_ips: &[IpAddr], retries: u32) -> Self {
        let at = |pod: OfPod, outside| {
            let client = client(Connector::Pod(pod.clone()));
            Self { client, url: url.clone(), pod: Some(pod), retries, outside }
        };
        let own = pod_ips.iter().copied();
        let outside = (!pod_ips.is_empty()).then(|| Box::new(at(OfPod::new(url.port(), own.clone()), None)));
        at(OfPod::new(url.port(), [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into_iter().chain(own)), outside)
    }

    /// The server as a caller sees it. The pod's own processes come from the loopback or from the pod's addresses.
    pub(crate) fn seen_from(&self, caller: IpAddr) -> &Self {
        let caller = caller.to_canonical();
        let is_inside = |pod: &OfPod| pod.addresses.iter().any(|address| address.ip() == caller);
        match (&self.outside, &self.pod) {
            (Some(outside), Some(pod)) if !is_inside(pod) => outside,
            _ => self,
        }
    }

    pub(crate) fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    /// The address by which a probe of the kubelet would have called the server: the pod's own, where it is known.
    pub(crate) fn probed_host(&self) -> String {
        match self.pod.as_ref().and_then(|pod| pod.addresses.get(2)) {
            Some(address) => address.ip().to_string(),
            None => self.url.host().to_owned(),
        }
    }

    /// A connection of its own. Who calls bounds the time.
    pub(crate) async fn connect(&self) -> std::io::Result<TcpStream> {
        match &self.pod {
            Some(pod) => pod.connect().await,
            None => TcpStream::connect((self.url.host(), self.url.port())).await,
        }
    }

    /// The target of a request for a path.
    pub(crate) fn target(&self, path: PathAndQuery) -> Result<Uri, http::Error> {
        Uri::builder().scheme(Scheme::HTTP).authority(self.url.0.clone()).path_and_query(path).build()
    }

    /// Sends a request. Where no connection comes about it is tried again, if `again` can make the request a second time.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
        again: impl Fn() -> Option<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut pause = FIRST_PAUSE;
        let mut next = Some(request);
        let mut tries = 0;
        while let Some(request) = next.take() {
            match self.client.request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    let failure = classify(&error);
                    tracing::debug!(%error, reason = failure.name(), "the model server failed");
                    if failure != UpstreamError::Unreachable || tries == self.retries {
                        return Err(failure);
                    }
                }
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
            next = again();
        }
        Err(UpstreamError::Unreachable)
    }

    /// Whether it can be reached right now.
    pub(crate) async fn is_reachable(&self) -> bool {
        matches!(tokio::time::timeout(Duration::from_secs(1), self.connect()).await, Ok(Ok(_)))
    }
}

fn client(connector: Connector) -> Client<Connector, RequestBody> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(64)
        // The server is told the host that the client named, or none.
        .set_host(false)
        .build(connector)
}

/// What the client is told of a failure of the model server.
pub(super) fn upstream_refusal(error: UpstreamError) -> Refusal {
    let (status, message) = match error {
        UpstreamError::Unreachable => (502, "the model server can't be reached"),
        UpstreamError::TimedOut => (504, "the model server didn't answer in time"),
        UpstreamError::Broken => return broken_answer(),
    };
    Refusal { status, code: error.name(), message: message.into(), control: ControlId::Limits }
}

fn classify(error: &Error) -> UpstreamError {
    if error.is_connect() { UpstreamError::Unreachable } else { UpstreamError::Broken }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::{Ipv4Addr, OfPod, UpstreamUrl};

    /// The address that a connection reached, for listeners of a test that ends with them.
    async fn reached(pod: &OfPod) -> Option<SocketAddr> {
        pod.connect().await.ok().and_then(|stream| stream.peer_addr().ok())
    }

    #[tokio::test]
    async fn the_first_address_of_a_pod_that_takes_a_connection_is_kept_until_it_refuses() {
        let own: IpAddr = [127, 66, 0, 1].into();
        let listen = async |address: SocketAddr| tokio::net::TcpListener::bind(address).await;
        // The port is free on the loopback, for it was drawn there.
        let on_loopback = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let port = on_loopback.local_addr().unwrap().port();
        let pod = OfPod::new(port, [Ipv4Addr::LOCALHOST.into(), own, own]);
        assert_eq!(pod.addresses.len(), 2);
        assert_eq!(reached(&pod).await, Some(([127, 0, 0, 1], port).into()));
        let on_own = listen((own, port).into()).await.unwrap();
        assert_eq!(reached(&pod).await, Some(([127, 0, 0, 1], port).into()));
        drop(on_loopback);
        assert_eq!(reached(&pod).await, Some((own, port).into()));
        let on_loopback = listen(([127, 0, 0, 1], port).into()).await.unwrap();
        assert_eq!(reached(&pod).await, Some((own, port).into()), "the one that worked last comes first");
        drop((on_own, on_loopback));
        assert_eq!(reached(&pod).await, None);
    }

    #[test]
    fn only_a_plain_origin_is_a_model_server() {
        let said = |text: &str| text.parse::<UpstreamUrl>().map(|url| url.to_string()).map_err(|error| error.to_string());
        assert_eq!(said("http://127.0.0.1:11434"), Ok("http://127.0.0.1:11434".into()));
        assert_eq!(said("http://ollama.svc:11434/"), Ok("http://ollama.svc:11434".into()));
        assert_eq!(said("http://[::1]:11434"), Ok("http://[::1]:11434".into()));
        for wrong in ["https://a:1", "a:1", "", "http://", "http://a:1/v1", "http://a:1/?x", "http://user@a:1", "http://a:port", "ftp://a"]
        {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }
}

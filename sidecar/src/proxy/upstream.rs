//! The model server.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use llm_guard_engine::exchange::broken_answer;
use llm_guard_engine::verdict::{ControlId, Refusal};

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

/// Speaks to the model server.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    url: UpstreamUrl,
    client: Client<HttpConnector, RequestBody>,
    retries: u32,
}

impl Upstream {
    /// `retries`: how often a connection that fails is tried again.
    pub(crate) fn new(url: UpstreamUrl, retries: u32) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIME));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(64)
            .build(connector);
        Self { url, client, retries }
    }

    pub(crate) fn url(&self) -> &UpstreamUrl {
        &self.url
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
        let port = self.url.0.port_u16().unwrap_or(80);
        let host = self.url.0.host().trim_start_matches('[').trim_end_matches(']');
        let connect = tokio::net::TcpStream::connect((host, port));
        matches!(tokio::time::timeout(Duration::from_secs(1), connect).await, Ok(Ok(_)))
    }
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
    use super::UpstreamUrl;

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

//! One HTTP exchange, without any client's conveniences: what was sent is what the test wrote, what is returned is what
//! came. For tests that ask a status or a counter; streams and faults use hyper directly.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// No exchange of a test takes longer than this, or it fails.
const LIMIT: Duration = Duration::from_mins(1);

/// A whole reply.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, to the end.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> io::Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// Asks for `path`.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Reply> {
    call(address, &Method::GET, path, None)
}

/// Sends `document` to `path`.
pub fn post(address: SocketAddr, path: &str, document: &Value) -> io::Result<Reply> {
    call(address, &Method::POST, path, Some(document))
}

/// Sends one request on a connection of its own and reads the whole reply.
pub fn call(address: SocketAddr, method: &Method, path: &str, document: Option<&Value>) -> io::Result<Reply> {
    let body = document.map(|document| Bytes::from(document.to_string())).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    wait_for(async move {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (head, body) = client.request(request).await.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    })
}

fn wait_for<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::time::timeout(LIMIT, exchange).await.map_err(|_| io::Error::other(format!("no whole reply within {LIMIT:?}")))?
    })
}

//! Two small HTTP servers: the webhooks behind TLS, and metrics and health without.
//!
//! The invariant: everything has a bound, in number, size and time, whoever connects.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// An answer, whole.
pub(crate) type Reply = Response<Full<Bytes>>;

/// The most bytes of a body: an `AdmissionReview` with an object and what it was before, each of which Kubernetes keeps to 1.5 MiB.
const BODY: usize = 3 * 1024 * 1024 + 64 * 1024;
/// The most connections at a time. Each can hold one body.
const CONNECTIONS: usize = 128;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may be idle, or take for a head. API servers close theirs after 90 s, and should be the ones to do so: a
/// review that is sent at the moment in which its connection closes is lost.
const HEAD: Duration = Duration::from_mins(2);
/// How long a body may take, and then the answer. API servers wait for 10 s at most.
const EXCHANGE: Duration = Duration::from_secs(10);
/// How long connections may take to end after the server was told to.
pub(crate) const END: Duration = Duration::from_secs(10);

/// A reply with a text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Reply {
    reply(status, "text/plain; charset=utf-8", text.into().into())
}

/// A reply with a document.
pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    reply
}

/// Serves until `stop` turns true, then ends what runs. `answer` gets heads together with their bodies.
pub(crate) async fn serve<F, A>(listener: TcpListener, tls: Option<TlsAcceptor>, answer: F, mut stop: watch::Receiver<bool>)
where
    F: Fn(http::request::Parts, Bytes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            // Who finds no room waits in the kernel's queue.
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = told(&mut stop) => break,
        };
        let (Ok(place), Ok((stream, _))) = (place, accepted) else {
            // Out of descriptors, most likely: they come back as connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (tls, answer, stop) = (tls.clone(), answer.clone(), stop.clone());
        tokio::spawn(async move {
            connection(stream, tls, answer, stop).await;
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(END, room.acquire_many(u32::try_from(CONNECTIONS).unwrap_or(u32::MAX))).await;
}

/// Waits for the end.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Who could tell being gone is as good as being told.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection<F, A>(stream: TcpStream, tls: Option<TlsAcceptor>, answer: F, stop: watch::Receiver<bool>)
where
    F: Fn(http::request::Parts, Bytes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    match tls {
        None => exchanges(stream, answer, stop).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => exchanges(stream, answer, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn exchanges<S, F, A>(stream: S, answer: F, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(http::request::Parts, Bytes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(exchange(request, answer).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 * 1024);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

async fn exchange<F, A>(request: http::Request<Incoming>, answer: F) -> Reply
where
    F: Fn(http::request::Parts, Bytes) -> A,
    A: Future<Output = Reply>,
{
    let (head, body) = request.into_parts();
    let too_large = || text(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {BODY} bytes"));
    // One that says so isn't waited for.
    if body.size_hint().lower() > BODY as u64 {
        return too_large();
    }
    let body = match tokio::time::timeout(EXCHANGE, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return too_large(),
        Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    match tokio::time::timeout(EXCHANGE, answer(head, body)).await {
        Ok(reply) => reply,
        Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "the answer took too long: the API server is slow, or out of reach"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn started() -> (std::net::SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let answer = |_: http::request::Parts, body: Bytes| async move { text(StatusCode::OK, format!("{} bytes", body.len())) };
        (address, stop, tokio::spawn(serve(listener, None, answer, stopped)))
    }

    async fn said(address: std::net::SocketAddr, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that has refused may have closed already.
        let _ = stream.write_all(body).await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8(said).unwrap()
    }

    #[tokio::test]
    async fn a_body_at_the_bound_is_read_and_one_above_is_refused() {
        let (address, _stop, _task) = started().await;
        let head = |length: usize| format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let fits = said(address, &head(BODY), &vec![b'x'; BODY]).await;
        assert!(fits.starts_with("HTTP/1.1 200") && fits.ends_with(&format!("{BODY} bytes")), "{fits}");
        let refused = said(address, &head(BODY + 1), &[]).await;
        assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    }

    #[tokio::test]
    async fn after_the_end_nobody_is_accepted_and_idle_connections_close() {
        let (address, stop, task) = started().await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        idle.read_exact(&mut first).await.unwrap();
        stop.send(true).unwrap();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        task.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}

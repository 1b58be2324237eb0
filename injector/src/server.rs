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
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;

/// An answer, whole.
pub(crate) type Reply = Response<Full<Bytes>>;

/// The most bytes of a body: an `AdmissionReview` with an object and what it was before, each of which Kubernetes keeps to 1.5 MiB.
const BODY: usize = 3 * 1024 * 1024 + 64 * 1024;
/// The most connections at a time. Each can hold one body.
const CONNECTIONS: usize = 128;
/// A body of up to this size waits for no other.
const SMALL: usize = 16 * 1024;
/// How many bytes of larger bodies there are at a time. Anybody in the cluster can send some.
const HELD: usize = 8 * BODY;
/// How many bytes of larger bodies are judged at a time. What is read of a body can be forty times its size, so that one of the largest
/// takes most of the memory that the injector has.
const JUDGED: usize = BODY;
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

/// The room that larger bodies share.
struct Room {
    held: Semaphore,
    judged: Semaphore,
}

impl Room {
    /// Waits for as much as a body takes; nothing for a small one.
    async fn take(of: &Semaphore, bytes: usize) -> Option<SemaphorePermit<'_>> {
        if bytes <= SMALL {
            return None;
        }
        of.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX)).await.ok()
    }
}

/// Serves until `stop` turns true, then ends what runs. `answer` gets heads together with their bodies.
pub(crate) async fn serve<F, A>(listener: TcpListener, tls: Option<TlsAcceptor>, answer: F, mut stop: watch::Receiver<bool>)
where
    F: Fn(http::request::Parts, Bytes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let bodies = Arc::new(Room { held: Semaphore::new(HELD), judged: Semaphore::new(JUDGED) });
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
        let (tls, answer, stop, bodies) = (tls.clone(), answer.clone(), stop.clone(), Arc::clone(&bodies));
        tokio::spawn(async move {
            connection(stream, tls, answer, stop, bodies).await;
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

async fn connection<F, A>(stream: TcpStream, tls: Option<TlsAcceptor>, answer: F, stop: watch::Receiver<bool>, bodies: Arc<Room>)
where
    F: Fn(http::request::Parts, Bytes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    match tls {
        None => exchanges(stream, answer, stop, bodies).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => exchanges(stream, answer, stop, bodies).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn exchanges<S, F, A>(stream: S, answer: F, mut stop: watch::Receiver<bool>, bodies: Arc<Room>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(http::request::Parts, Bytes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (answer, bodies) = (answer.clone(), Arc::clone(&bodies));
        async move { Ok::<_, Infallible>(exchange(request, answer, &bodies).await) }
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

async fn exchange<F, A>(request: http::Request<Incoming>, answer: F, bodies: &Room) -> Reply
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
    // One that doesn't say how long it is may be as long as any.
    let most = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(BODY);
    let Ok(_held) = tokio::time::timeout(EXCHANGE, Room::take(&bodies.held, most)).await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many large bodies at a time");
    };
    let body = match tokio::time::timeout(EXCHANGE, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return too_large(),
        Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    let answered = async {
        let _judged = Room::take(&bodies.judged, body.len()).await;
        answer(head, body).await
    };
    match tokio::time::timeout(EXCHANGE, answered).await {
        Ok(reply) => reply,
        Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "the answer took too long: the API server is slow, or out of reach"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    async fn large_bodies_are_judged_one_by_one_and_small_ones_meanwhile() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        // How many are judged now, and how many at once at most; a large one is held until a small one was answered.
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), Semaphore::new(0)));
        let answer = {
            let counts = Arc::clone(&counts);
            move |_: http::request::Parts, body: Bytes| {
                let counts = Arc::clone(&counts);
                async move {
                    let (now, most, small) = &*counts;
                    if body.len() > SMALL {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let _ = small.acquire().await;
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                    text(StatusCode::OK, "judged")
                }
            }
        };
        let task = tokio::spawn(serve(listener, None, answer, stopped));
        let head = |length: usize| format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let large: Vec<_> = (0..4).map(|_| tokio::spawn(async move { said(address, &head(BODY), &vec![b'x'; BODY]).await })).collect();
        while counts.0.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(said(address, &head(SMALL), &vec![b'x'; SMALL]).await.ends_with("judged"));
        counts.2.add_permits(1);
        for one in large {
            assert!(one.await.unwrap().ends_with("judged"));
        }
        assert_eq!(counts.1.load(Ordering::SeqCst), 1);
        task.abort();
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

//! Takes connections and serves HTTP/1 on them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Listen;
use super::drain::{Stage, reached};
use super::exchange::Proxy;
use super::framing::ReadAlong;
use super::patience::Patient;
use crate::room;

/// The most connections at once, where there is room for them. Further ones wait in the kernel's queue.
const MAX_CONNECTIONS: u32 = 16_384;
const BACKLOG: i32 = 1_024;
/// For a request's head to arrive, also on a connection that is kept open.
const HEAD_TIME: Duration = Duration::from_mins(1);
/// The most bytes of a request's head. Ollama, like any server of Go's, takes a mebibyte; real heads have some hundred bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// The most fields of a request's head.
const HEAD_FIELDS: usize = 128;

/// An address that is taken, and at which connections are still refused.
pub(super) struct Reserved(Socket);

/// Takes an address. An unspecified IPv6 address takes IPv4 as well.
pub(super) fn reserve(listen: Listen) -> std::io::Result<Reserved> {
    match bind_exactly(listen.address) {
        Err(_) if listen.is_default && listen.address.is_ipv6() => {
            bind_exactly(SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.address.port())))
        }
        bound => bound,
    }
}

impl Reserved {
    pub(super) fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
    }

    /// Takes connections from now on.
    pub(super) fn listen(self) -> std::io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        TcpListener::from_std(self.0.into())
    }
}

fn bind_exactly(address: SocketAddr) -> std::io::Result<Reserved> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(Reserved(socket))
}

/// The connections that are open.
pub(super) struct Connections {
    places: Arc<Semaphore>,
    most: u32,
}

impl Connections {
    fn new() -> Self {
        let most = u32::try_from(room::connections()).unwrap_or(u32::MAX).min(MAX_CONNECTIONS);
        Self { places: Arc::new(Semaphore::new(most as usize)), most }
    }

    pub(super) fn open(&self) -> usize {
        self.most as usize - self.places.available_permits()
    }

    /// Waits until all have closed.
    pub(super) async fn closed_within(&self, time: Duration) -> Result<(), tokio::time::error::Elapsed> {
        tokio::time::timeout(time, self.places.acquire_many(self.most)).await.map(|_| ())
    }
}

/// Takes connections until the guard drains.
pub(super) async fn serve(listener: TcpListener, proxy: Arc<Proxy>) -> Connections {
    let connections = Connections::new();
    let mut stages = proxy.drain.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = reached(&mut stages, Stage::Draining) => return connections,
            accepted = accept(&listener, &connections) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                tokio::spawn(serve_connection(stream, peer, permit, Arc::clone(&proxy)));
            }
            Err(error) => {
                // The process is out of files or memory: others have to end first.
                tracing::warn!(%error, "a connection can't be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn accept(listener: &TcpListener, connections: &Connections) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&connections.places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit, proxy: Arc<Proxy>) {
    let open = Arc::clone(&proxy);
    open.metrics().connections_open.inc();
    // Frames of a stream are small and each counts.
    let _ = stream.set_nodelay(true);
    let mut stages = proxy.drain.clone();
    let patience = proxy.times.silence;
    let (stream, ambiguous) = ReadAlong::new(stream, HEAD_BYTES);
    let heads = AtomicU64::new(0);
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        // The library calls for each head, in their order.
        let is_ambiguous = ambiguous.begins_by(heads.fetch_add(1, Ordering::Relaxed));
        // In a box of its own: the connection keeps the place of an exchange for as long as it lives, and streams live long.
        Box::pin(async move { Ok::<_, std::convert::Infallible>(proxy.exchange(peer, request, is_ambiguous).await) })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(Patient::new(stream, patience)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = reached(&mut stages, Stage::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
    open.metrics().connections_open.dec();
    drop(permit);
}

//! Stands between clients and the model server: listener → exchange → upstream, and back.

mod body;
mod budget;
pub(crate) mod drain;
mod exchange;
mod listener;
mod observability;
mod patience;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::identity::ApiKey;
use crate::settings::InForce;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::Recorder;
use budget::Budget;
use drain::{Drain, Stage};
use upstream::Upstream;

/// Everything that the guard needs to run, decided before a port is bound.
pub(crate) struct Settings {
    pub(crate) data: Listen,
    pub(crate) metrics: Listen,
    pub(crate) upstream: Upstream,
    pub(crate) policy: Arc<InForce>,
    pub(crate) recorder: Recorder,
    pub(crate) api_key: Option<ApiKey>,
    pub(crate) times: Times,
    pub(crate) drain_socket: Option<PathBuf>,
    /// The most bytes of bodies that are held at once.
    pub(crate) buffer: usize,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    /// Nobody asked for this address, so that IPv4 alone will do where there is no IPv6.
    pub(crate) is_default: bool,
}

/// How long the guard waits for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For a whole exchange.
    pub(crate) request: Duration,
    /// For the model server to say anything more.
    pub(crate) silence: Duration,
    /// For a client's request to arrive.
    pub(crate) body: Duration,
    /// For running exchanges, once the guard ends.
    pub(crate) drain: Duration,
}

/// Why the guard can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A port can't be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The drain socket can't be had.
    #[error("cannot make the drain socket {}: {source}", path.display())]
    DrainSocket {
        /// Where it would be.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A guard whose ports are bound.
pub(crate) struct Guard {
    data: TcpListener,
    metrics_listener: TcpListener,
    proxy: Arc<exchange::Proxy>,
    drain: Drain,
    drain_time: Duration,
}

impl Guard {
    /// Binds the ports.
    pub(crate) fn bind(settings: Settings) -> Result<Self, StartError> {
        let Settings { data, metrics, upstream, policy, recorder, api_key, times, drain_socket, buffer } = settings;
        let bind = |listen: Listen| listener::bind(listen).map_err(|source| StartError::Listen { address: listen.address, source });
        let (data, metrics_listener) = (bind(data)?, bind(metrics)?);
        let drain = Drain::new();
        if let Some(path) = drain_socket {
            drain.listen(&path).map_err(|source| StartError::DrainSocket { path, source })?;
        }
        let proxy = exchange::Proxy {
            budget: Budget::new(buffer),
            upstream,
            policy,
            recorder: Arc::new(recorder),
            api_key,
            times,
            drain: drain.watch(),
        };
        Ok(Self { data, metrics_listener, proxy: Arc::new(proxy), drain, drain_time: times.drain })
    }

    /// Where clients connect.
    pub(crate) fn data_address(&self) -> std::io::Result<SocketAddr> {
        self.data.local_addr()
    }

    /// Where metrics and health are.
    pub(crate) fn metrics_address(&self) -> std::io::Result<SocketAddr> {
        self.metrics_listener.local_addr()
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        self.proxy.recorder.metrics()
    }

    /// What ends the guard.
    pub(crate) fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Serves until the drain is over.
    pub(crate) async fn serve(self) {
        let Self { data, metrics_listener, proxy, drain, drain_time } = self;
        let observability = tokio::spawn(observability::serve(metrics_listener, Arc::clone(&proxy)));
        let connections = listener::serve(data, Arc::clone(&proxy)).await;
        // No new connection comes in any more; those that are there end after their exchange.
        if connections.closed_within(drain_time).await.is_err() {
            tracing::warn!(open = connections.open(), "exchanges are still running at the end of the drain time and are ended");
            drain.advance(Stage::Forced);
            // Long enough for each to say so to its client.
            let _ = connections.closed_within(Duration::from_secs(2)).await;
        }
        drain.finished().await;
        observability.abort();
    }
}

//! Stands between clients and the model server: listener → exchange → upstream, and back.

mod body;
mod browsers;
mod budget;
mod catalogue;
pub(crate) mod drain;
mod ends;
mod exchange;
mod framing;
pub(crate) mod host;
mod listener;
mod observability;
mod patience;
pub(crate) mod probes;
mod turns;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::identity::ApiKey;
use crate::settings::{Current, InForce};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::Recorder;
use budget::Budget;
use catalogue::Catalogue;
use drain::{Drain, Stage, reached};
use host::StandIn;
use observability::Observed;
use probes::Probes;
use turns::Turns;
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
    /// For a server that was moved to the loopback.
    pub(crate) stand_in: Option<StandIn>,
    pub(crate) probes: Probes,
    /// A drain that no signal asked for ends the traffic, not the process: in a pod the kubelet ends it, after the model.
    pub(crate) outlives_drain: bool,
    /// The most bytes of bodies that are held at once.
    pub(crate) buffer: usize,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    /// Nobody asked for this very address, so that IPv4 alone will do where there is no IPv6.
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

/// A guard whose ports are taken.
pub(crate) struct Guard {
    data: Data,
    metrics_listener: TcpListener,
    observed: Arc<Observed>,
    drain_time: Duration,
    outlives_drain: bool,
    aside: Handle,
}

/// The port for clients.
enum Data {
    Open(TcpListener),
    /// Until there is a policy: connections are refused.
    Closed(listener::Reserved),
}

impl Guard {
    /// Takes the ports. Where there is a policy already, clients may connect from then on. `aside` serves what must not wait for the
    /// exchanges: metrics, health, probes, and orders to drain.
    pub(crate) fn bind(settings: Settings, aside: &Handle) -> Result<Self, StartError> {
        let Settings { data, metrics, upstream, policy, recorder, api_key, times, drain_socket, stand_in, probes, outlives_drain, buffer } =
            settings;
        let reserve = |listen: Listen| listener::reserve(listen).map_err(|source| StartError::Listen { address: listen.address, source });
        let open = |reserved: listener::Reserved, listen: Listen| {
            reserved.listen().map_err(|source| StartError::Listen { address: listen.address, source })
        };
        let (reserved, metrics_reserved) = (reserve(data)?, reserve(metrics)?);
        let data = if policy.is_loaded() { Data::Open(open(reserved, data)?) } else { Data::Closed(reserved) };
        let drain = Drain::new();
        // What is opened here is awake as long as that runtime's thread is, not as those of the exchanges are.
        let entered = aside.enter();
        let metrics_listener = open(metrics_reserved, metrics)?;
        if let Some(path) = drain_socket {
            drain.listen(&path).map_err(|source| StartError::DrainSocket { path, source })?;
        }
        drop(entered);
        let proxy = Arc::new(exchange::Proxy {
            budget: Budget::new(buffer),
            turns: Turns::new(),
            catalogue: Catalogue::new(),
            upstream,
            policy,
            recorder: Arc::new(recorder),
            api_key,
            stand_in,
            times,
            drain: drain.watch(),
            listening: AtomicBool::new(matches!(data, Data::Open(_))),
        });
        let observed = Arc::new(Observed::new(proxy, drain, probes));
        Ok(Self { data, metrics_listener, observed, drain_time: times.drain, outlives_drain, aside: aside.clone() })
    }

    /// Where clients connect.
    pub(crate) fn data_address(&self) -> std::io::Result<SocketAddr> {
        match &self.data {
            Data::Open(listener) => listener.local_addr(),
            Data::Closed(reserved) => reserved.address(),
        }
    }

    /// Where metrics and health are.
    pub(crate) fn metrics_address(&self) -> std::io::Result<SocketAddr> {
        self.metrics_listener.local_addr()
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        self.observed.proxy.metrics()
    }

    /// What ends the guard.
    pub(crate) fn drain(&self) -> &Drain {
        &self.observed.drain
    }

    /// Serves until the drain is over, and in a pod until it is told to end. `listening` is called when clients may connect.
    pub(crate) async fn serve(self, listening: impl FnOnce(&Current)) -> Result<(), StartError> {
        let Self { data, metrics_listener, observed, drain_time, outlives_drain, aside } = self;
        let Observed { proxy, drain, .. } = &*observed;
        let observability = aside.spawn(observability::serve(metrics_listener, Arc::clone(&observed)));
        let mut stages = drain.watch();
        tokio::select! {
            biased;
            () = reached(&mut stages, Stage::Draining) => {}
            () = proxy.policy.loaded() => {
                let data = match data {
                    Data::Open(listener) => listener,
                    Data::Closed(reserved) => {
                        let address = reserved.address();
                        let failed = |source| StartError::Listen { address: address.unwrap_or_else(|_| ([0; 4], 0).into()), source };
                        reserved.listen().map_err(failed)?
                    }
                };
                proxy.listening.store(true, Ordering::Relaxed);
                listening(&proxy.policy.now());
                let connections = listener::serve(data, Arc::clone(proxy)).await;
                proxy.listening.store(false, Ordering::Relaxed);
                // No new connection comes in any more; those that are there end after their exchange.
                if connections.closed_within(drain_time).await.is_err() {
                    tracing::warn!(open = connections.open(), "exchanges are still running at the end of the drain time and are ended");
                    drain.advance(Stage::Forced);
                    // Long enough for each to say so to its client.
                    let _ = connections.closed_within(Duration::from_secs(2)).await;
                }
            }
        }
        drain.finished().await;
        if outlives_drain {
            tracing::info!("drained; waiting to be ended");
            drain.signalled().await;
        }
        observability.abort();
        Ok(())
    }
}

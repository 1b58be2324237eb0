//! `serve`: answers the reviews, and runs the controller beside them. Every replica does all of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, StatusCode};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{AnyError, Place};
use crate::apply::Applier;
use crate::certificates::{Names, Shown};
use crate::cluster::{Cluster, Dirty};
use crate::controller::Controller;
use crate::events::Events;
use crate::logs::{self, Level};
use crate::metrics::Metrics;
use crate::network_policy::Peers;
use crate::plan::keys;
use crate::plan::{Backend, Config, PodSecurity};
use crate::reviews::Reviews;
use crate::secrets::Keeper;
use crate::server::{self, Reply, text};

/// Images that are taken for model servers, whatever registry they come from.
const MODEL_SERVERS: [&str; 4] = ["ollama", "vllm/vllm-openai", "ggml-org/llama.cpp", "lmsysorg/sglang"];

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The Service in front of the injector, which is also the name of the webhook configurations
    #[arg(long, value_name = "NAME", default_value = "llm-guard-injector")]
    service: String,
    /// Where API servers ask
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:8443")]
    listen: SocketAddr,
    /// Where /metrics, /healthz, /readyz and /unguarded are
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:8080")]
    metrics_listen: SocketAddr,
    /// The guard's image, which is put into pods
    #[arg(long, value_name = "IMAGE")]
    guard_image: String,
    /// When nodes pull it
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    guard_pull_policy: String,
    /// A Secret in the pods' namespaces to pull it with; repeatable
    #[arg(long, value_name = "NAME")]
    guard_pull_secret: Vec<String>,
    /// What the guard's containers ask of a node
    #[arg(long, value_name = "QUANTITY", default_value = "20m")]
    guard_cpu_request: String,
    /// What they get at most [default: as much as there is]
    #[arg(long, value_name = "QUANTITY")]
    guard_cpu_limit: Option<String>,
    /// What they ask of a node
    #[arg(long, value_name = "QUANTITY", default_value = "32Mi")]
    guard_memory_request: String,
    /// What they get at most
    #[arg(long, value_name = "QUANTITY", default_value = "512Mi")]
    guard_memory_limit: String,
    /// Through which interface of the kernel the interception rules are written
    #[arg(long, value_name = "BACKEND", default_value = "nft", value_parser = ["nft", "legacy"])]
    backend: String,
    /// The Pod Security level of namespaces that don't name one
    #[arg(long, value_name = "LEVEL", default_value = "privileged", value_parser = ["privileged", "baseline", "restricted"])]
    pod_security_default: String,
    /// The floor of the whole cluster: no guard goes below this mode, and no namespace's floor is lower [default: none]
    #[arg(long, value_name = "MODE", value_parser = ["monitor", "soft", "hard"])]
    minimum_mode: Option<String>,
    /// An image that is taken for a model server, by the last parts of its path; repeatable, in place of the list that there is
    #[arg(long, value_name = "IMAGE", default_values = MODEL_SERVERS)]
    model_server_image: Vec<String>,
    /// Who else may reach the guards' metrics: a `NetworkPolicyPeer` as JSON; repeatable
    #[arg(long, value_name = "JSON", value_parser = peer)]
    monitoring_from: Vec<NetworkPolicyPeer>,
    /// How much is logged
    #[arg(long, value_enum, default_value = "info")]
    log_level: Level,
    /// How long a certificate is valid, in seconds; it is renewed when two thirds are over
    #[arg(long, hide = true, default_value = "7776000", value_parser = clap::value_parser!(u64).range(10..=31_536_000))]
    certificate_life: u64,
    /// For how many seconds settings are kept that no pod mounts
    #[arg(long, hide = true, default_value = "3600")]
    retention: u64,
    /// For how many seconds the server goes on after SIGTERM, so that API servers stop asking it before it stops answering
    #[arg(long, hide = true, default_value = "5")]
    farewell: u64,
}

impl Args {
    fn config(&self) -> Config {
        Config {
            guard_image: self.guard_image.clone(),
            guard_pull_policy: self.guard_pull_policy.clone(),
            guard_pull_secrets: self.guard_pull_secret.clone(),
            cpu_request: Some(self.guard_cpu_request.clone()),
            cpu_limit: self.guard_cpu_limit.clone(),
            memory_request: Some(self.guard_memory_request.clone()),
            memory_limit: Some(self.guard_memory_limit.clone()),
            backend: if self.backend == "legacy" { Backend::Legacy } else { Backend::Nft },
            pod_security_default: match self.pod_security_default.as_str() {
                "privileged" => PodSecurity::Privileged,
                "baseline" => PodSecurity::Baseline,
                _ => PodSecurity::Restricted,
            },
            model_server_images: self.model_server_image.clone(),
        }
    }
}

fn peer(text: &str) -> Result<NetworkPolicyPeer, String> {
    let peer: NetworkPolicyPeer = serde_json::from_str(text).map_err(|error| format!("no NetworkPolicyPeer: {error}"))?;
    if peer == NetworkPolicyPeer::default() {
        return Err("a NetworkPolicyPeer has a podSelector, a namespaceSelector or an ipBlock".into());
    }
    Ok(peer)
}

/// What the health page asks.
struct Health {
    certificate: watch::Receiver<bool>,
    copies: watch::Receiver<bool>,
    ending: AtomicBool,
}

impl Health {
    /// One line for each thing that must be there.
    fn report(&self) -> (bool, String) {
        let lines = [
            ("certificate and caBundle", *self.certificate.borrow()),
            ("copies of the cluster's objects", *self.copies.borrow()),
            ("not ending", !self.ending.load(Ordering::Relaxed)),
        ];
        let said = lines.map(|(what, there)| format!("[{}] {what}\n", if there { "+" } else { "-" }));
        (lines.iter().all(|(_, there)| *there), said.concat())
    }
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: Args) -> Result<(), AnyError> {
    logs::to_stdout(args.log_level);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Everything that can be wrong with the arguments is said before anything is written.
    let webhooks = listener(args.listen).map_err(|error| format!("--listen {}: {error}", args.listen))?;
    let pages = listener(args.metrics_listen).map_err(|error| format!("--metrics-listen {}: {error}", args.metrics_listen))?;
    let (client, namespace) = args.place.connect().await?;

    let metrics = Arc::new(Metrics::new());
    let events = Arc::new(Events::new(client.clone(), host_name()));
    let keeper =
        Keeper { client: client.clone(), namespace: namespace.clone(), events: Arc::clone(&events), metrics: Arc::clone(&metrics) };
    let (certificate, has_certificate) = watch::channel(false);
    let (complete, copies) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let health = Arc::new(Health { certificate: has_certificate, copies: copies.clone(), ending: AtomicBool::new(false) });
    let controller = Arc::new(OnceLock::<Arc<Controller>>::new());
    let page = {
        let (health, metrics, controller) = (Arc::clone(&health), Arc::clone(&metrics), Arc::clone(&controller));
        move |head: http::request::Parts, _: Bytes| std::future::ready(answer_page(&head, &health, &metrics, controller.get()))
    };
    let pages = tokio::spawn(server::serve(pages, None, page, stopped.clone()));

    let config = args.config();
    let shown = Arc::new(Shown::default());
    let tls = TlsAcceptor::from(Arc::new(shown.server_config()?));
    let serving = async {
        let names = Names::new(&args.service, &namespace);
        let life = Duration::from_secs(args.certificate_life);
        tokio::spawn(keeper.clone().keep_certificates(names, args.service.clone(), life, shown, certificate));
        let keys = Arc::new(ArcSwap::from_pointee(patiently(|| keeper.keys()).await));
        let dirty = Arc::new(Dirty::default());
        let cluster = Cluster::watch(client.clone(), patiently(|| Cluster::uid(&client)).await, &dirty, complete);
        let peers = Peers { own_namespace: namespace.clone(), monitoring: args.monitoring_from };
        let floor = args.minimum_mode.as_deref().and_then(keys::mode);
        let applier = Arc::new(Applier::new(cluster, Arc::clone(&keys), events, Arc::clone(&metrics), floor, peers));
        let looks = Arc::new(Controller::new(Arc::clone(&applier), dirty, Duration::from_secs(args.retention)));
        let _ = controller.set(Arc::clone(&looks));
        tokio::spawn(keeper.follow_keys(keys, {
            let looks = Arc::clone(&looks);
            move || looks.mark_all()
        }));
        tokio::spawn(looks.run(copies.clone()));
        let reviews = Arc::new(Reviews::new(applier, Arc::clone(&metrics), config, copies));
        let review = move |head: http::request::Parts, body: Bytes| {
            let reviews = Arc::clone(&reviews);
            async move { reviews.answer(&head, &body).await }
        };
        tracing::info!(webhooks = %args.listen, pages = %args.metrics_listen, "serving");
        server::serve(webhooks, Some(tls), review, stopped).await;
    };

    let told_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
        health.ending.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(args.farewell)).await;
        stop.send_replace(true);
        // Where the webhooks aren't served yet, nothing has to end.
        tokio::time::sleep(server::END).await;
    };
    tokio::select! {
        () = serving => {}
        () = told_to_end => {}
    }
    let _ = pages.await;
    Ok(())
}

/// Tries until it works: an API server may come later than this, and a restart would help nobody.
async fn patiently<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(attempt: impl Fn() -> F) -> T {
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => tracing::error!("{error}; trying again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn answer_page(head: &http::request::Parts, health: &Health, metrics: &Metrics, controller: Option<&Arc<Controller>>) -> Reply {
    if head.method != Method::GET && head.method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    match head.uri.path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let (ready, report) = health.report();
            text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
        }
        "/metrics" => server::reply(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.page().into()),
        "/unguarded" => server::reply(
            StatusCode::OK,
            "application/json",
            controller.map_or_else(|| "[]".into(), |controller| controller.unguarded().to_string()).into(),
        ),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and /unguarded"),
    }
}

/// A listener that takes IPv4 too where it listens on all of IPv6.
fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let bind = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    match bind(address) {
        // A machine without IPv6.
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => bind(([0, 0, 0, 0], address.port()).into()),
        bound => bound,
    }
}

/// The pod's name, which is its host name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "llm-guard-injector".into() } else { name.chars().take(128).collect() }
}

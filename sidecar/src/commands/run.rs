//! `run`: guard a port until told to stop.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use llm_guard_engine::policy::settings::{PublicKey, Standing};
use llm_guard_engine::policy::{GuardPolicy, Mode};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reference::Reference;
use crate::identity::ApiKey;
use crate::proxy::drain::{Drain, Stage};
use crate::proxy::host::{OriginPattern, StandIn};
use crate::proxy::probes::{Probe, Probes};
use crate::proxy::upstream::{Upstream, UpstreamUrl};
use crate::proxy::{Guard, Listen, Settings, Times};
use crate::room;
use crate::settings::{InForce, Memory, Signed, Source, token_key};
use crate::telemetry::logs::{self, Level};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::Recorder;
use crate::telemetry::recording::Recording;

/// Where the guard listens unless told otherwise.
pub(crate) const DATA_PORT: u16 = 15434;
/// Where metrics and health are.
pub(crate) const METRICS_PORT: u16 = 15435;

/// The flag that closes the environment, as it stands in the arguments.
pub(crate) const IN_POD: &str = "--in-pod";

const UPSTREAM: &str = "http://127.0.0.1:11434";
const RETRIES: u32 = 2;
const REQUEST_SECONDS: u64 = 3_600;
const SILENCE_SECONDS: u64 = 600;
const BODY_SECONDS: u64 = 60;
const DRAIN_SECONDS: u64 = 25;
const BUFFER_MIB: u32 = 256;
const RECORD_MIB: u64 = 256;

/// The variables of the reference gateway count too, where neither a flag nor a variable of our own says something.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model server [default: port 11434 of this machine]
    #[arg(long, value_name = "URL", env = "LLM_GUARD_UPSTREAM")]
    upstream: Option<UpstreamUrl>,
    /// Where clients connect [default: port 15434, IPv4 and IPv6]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LLM_GUARD_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where metrics and health are [default: port 15435, IPv4 and IPv6]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LLM_GUARD_METRICS_LISTEN")]
    metrics_listen: Option<SocketAddr>,
    /// A GuardPolicy; a change is in force within about a second
    #[arg(long, value_name = "FILE", env = "LLM_GUARD_POLICY")]
    policy: Option<PathBuf>,
    /// Another GuardPolicy, judged beside the one in force: what it would do is counted and logged, and nothing of it is done
    #[arg(long, value_name = "FILE", env = "LLM_GUARD_SHADOW")]
    shadow: Option<PathBuf>,
    /// monitor, soft or hard: stands in the place of the policy's mode, and no control goes above it
    #[arg(long, value_name = "MODE", env = "LLM_GUARD_MODE")]
    mode: Option<Mode>,
    /// Tries to connect to the model server, after the first [default: 2]
    #[arg(long, value_name = "COUNT", env = "LLM_GUARD_RETRIES")]
    retries: Option<u32>,
    /// The longest time of a whole exchange, in seconds [default: 3600]
    #[arg(long, value_name = "SECONDS", env = "LLM_GUARD_REQUEST_TIMEOUT", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    request_timeout: Option<u64>,
    /// The longest time that the model server may say nothing, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", env = "LLM_GUARD_SILENCE_TIMEOUT", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    silence_timeout: Option<u64>,
    /// The longest time for a request's body to arrive, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS", env = "LLM_GUARD_BODY_TIMEOUT", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    body_timeout: Option<u64>,
    /// The longest time for running exchanges once the guard ends, in seconds [default: 25]
    #[arg(long, value_name = "SECONDS", env = "LLM_GUARD_DRAIN_TIMEOUT", value_parser = clap::value_parser!(u64).range(0..=3_600))]
    drain_timeout: Option<u64>,
    /// A unix socket by which `drain` ends the guard [default: none]
    #[arg(long, value_name = "PATH", env = "LLM_GUARD_DRAIN_SOCKET")]
    drain_socket: Option<PathBuf>,
    /// The most memory for requests and unstreamed answers that are being read, over all connections, in MiB [default: 256, and at most
    /// a quarter of its container's memory]
    #[arg(long, value_name = "MIB", env = "LLM_GUARD_BUFFER", value_parser = clap::value_parser!(u32).range(64..=65_536))]
    buffer: Option<u32>,
    /// How much is logged [default: info]
    #[arg(long, value_enum, ignore_case = true, env = "LLM_GUARD_LOG_LEVEL")]
    log_level: Option<Level>,
    /// Write the requests' bodies into the log, as they are
    #[arg(long, env = "LLM_GUARD_LOG_RAW_PROMPTS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    log_raw_prompts: Option<bool>,
    /// Write exchanges with their texts into a file, for `replay`: whoever reads it reads what people ask, and what they are answered
    #[arg(long, value_name = "FILE", env = "LLM_GUARD_RECORD")]
    record: Option<PathBuf>,
    /// The most that such a file may have, in MiB [default: 256]
    #[arg(long, value_name = "MIB", env = "LLM_GUARD_RECORD_LIMIT", requires = "record", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    record_limit: Option<u64>,
    /// The key of the tokens that stand in the place of values, a file of at least 32 bytes, read once [default: another for each run]
    #[arg(long, value_name = "FILE", env = "LLM_GUARD_TOKEN_KEY")]
    token_key: Option<PathBuf>,
    #[command(flatten)]
    pod: PodArgs,
}

/// What the injector says, and nobody else has to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "In a pod (written by the injector; no environment variable counts there)")]
struct PodArgs {
    /// Guard the model server of this pod: at the upstream's port of the loopback, IPv4 or IPv6, else of the pod's own addresses
    #[arg(long, requires_all = ["settings", "upstream"], conflicts_with_all = ["policy", "mode", "shadow", "record"])]
    in_pod: bool,
    /// The pod's own addresses; only there does a caller from outside the pod reach the model
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',', requires = "in_pod")]
    pod_ips: Vec<IpAddr>,
    /// A folder with signed settings, which stand in the place of a policy and a mode; a change is in force within a second
    #[arg(long, value_name = "FOLDER", requires_all = ["settings_for", "settings_key"], conflicts_with_all = ["policy", "mode", "shadow"])]
    settings: Option<PathBuf>,
    /// Whose settings count
    #[arg(long, value_name = "CLUSTER/NAMESPACE/KIND/NAME", requires = "settings")]
    settings_for: Option<String>,
    /// A public key whose signature counts (repeatable)
    #[arg(long, value_name = "HEX", requires = "settings")]
    settings_key: Vec<PublicKey>,
    /// The least serial that counts [default: 0]
    #[arg(long, value_name = "NUMBER", requires = "settings")]
    settings_serial: Option<u64>,
    /// A file of the guard's own that outlives it: after a restart nothing older counts than what was in force [default: none]
    #[arg(long, value_name = "FILE", requires = "settings")]
    settings_memory: Option<PathBuf>,
    /// The most that any control gets in this pod, whatever the settings say
    #[arg(long, value_name = "MODE", requires = "settings")]
    at_most: Option<Mode>,
    /// A probe of the model server that the kubelet asks at `/probes/CONTAINER/KIND`, as it stood in the pod (repeatable)
    #[arg(long, value_name = "CONTAINER/KIND=JSON")]
    probe: Vec<Probe>,
    /// The model server was moved to the loopback: answer for it what it would say to a Host and an Origin on all addresses
    #[arg(long)]
    host_rewrite: bool,
    /// An origin that may call, besides Ollama's own, as `OLLAMA_ORIGINS` has it (repeatable)
    #[arg(long, value_name = "PATTERN", requires = "host_rewrite")]
    origin: Vec<OriginPattern>,
}

/// Runs the guard until SIGTERM, SIGINT or `drain`.
pub(crate) fn run(args: Args) -> ExitCode {
    room::allow_all_files();
    let runtimes = runtime().and_then(|runtime| Ok((runtime, aside()?)));
    let ended = runtimes.map_err(Into::into).and_then(|(runtime, aside)| runtime.block_on(guard(args, aside.handle())));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-guard-sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Two threads at most: the guard's work is short, and the cores are the model's. What is long takes turns beside them (`proxy/turns.rs`),
/// on those that may block.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).max_blocking_threads(4).enable_all().build()
}

/// One thread for what must not wait for that: the kubelet would take a guard for dead that doesn't answer, and a change of settings
/// is to be in force within seconds.
fn aside() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).max_blocking_threads(2).enable_all().build()
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn guard(args: Args, aside: &Handle) -> Result<(), AnyError> {
    let in_pod = args.pod.in_pod;
    let variable = |name: &str| std::env::var(name).ok().filter(|_| !in_pod);
    let mut reference = Reference::read(variable)?;
    let level = match (args.log_level, &reference.log_level) {
        (Some(level), _) => level,
        (None, Some(name)) => clap::ValueEnum::from_str(name, true).map_err(|_| "LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR")?,
        (None, None) => Level::Info,
    };
    logs::to_stdout(level);
    for remark in &reference.remarks {
        tracing::warn!("{remark}");
    }

    let url = match (args.upstream, &reference.upstream) {
        (Some(url), _) => url,
        (None, Some(text)) => text.parse().map_err(|error| format!("OLLAMA_BASE_URL: {error}"))?,
        (None, None) => UPSTREAM.parse()?,
    };
    if in_pod && !url.is_loopback() {
        return Err(format!("with --in-pod the host of --upstream must be 127.0.0.1, not {url}: the model server is in this pod").into());
    }
    let PodArgs {
        in_pod: _,
        pod_ips,
        settings,
        settings_for,
        settings_key,
        settings_serial,
        settings_memory,
        at_most,
        probe,
        host_rewrite,
        origin,
    } = args.pod;
    let memory = settings_memory.map(Memory::at);
    let kept = memory.as_ref().map_or(Ok(0), Memory::recall).map_err(|error| format!("--settings-memory: {error}"))?;
    let tokens = Some(token_key(args.token_key.as_deref())?);
    let signed = settings.zip(settings_for).map(|(folder, audience)| {
        let serial = settings_serial.unwrap_or_default().max(kept);
        Signed { folder, audience, keys: settings_key, serial, most: at_most, memory, tokens }
    });
    let source = source(signed, args.policy, &mut reference);
    let seconds = |flag: Option<u64>, variable: Option<u64>, default| Duration::from_secs(flag.or(variable).unwrap_or(default));
    let metrics = Arc::new(Metrics::new());
    let (policy, seen) = InForce::load(source, Standing { tokens, ..Standing::of(args.mode.or(reference.mode)) }, args.shadow).await?;
    if policy.is_loaded() {
        metrics.mode(policy.now().policy.mode);
    }
    let api_key = variable("LLM_GUARD_API_KEY").filter(|key| !key.is_empty()).or(reference.api_key);
    if api_key.is_some() && policy.is_loaded() && policy.now().policy.mode == Mode::Monitor {
        tracing::warn!("an API key is set, but in monitor a request without it is counted and passes");
    }
    let log_raw_prompts = args.log_raw_prompts.or(reference.log_raw_prompts).unwrap_or(false);
    if log_raw_prompts {
        tracing::warn!("raw prompts are logged: whoever reads the log reads what people ask");
    }
    let recording = args.record.as_deref().map(|path| recording(path, args.record_limit)).transpose()?;
    let key = random_key("the content hashes")?;
    let retries = args.retries.or(reference.retries).unwrap_or(RETRIES);
    let settings = Settings {
        data: listen(args.listen, in_pod, reference.host, reference.port, DATA_PORT),
        metrics: listen(args.metrics_listen, in_pod, None, None, METRICS_PORT),
        upstream: if in_pod { Upstream::in_pod(&url, &pod_ips, retries) } else { Upstream::new(url.clone(), retries) },
        policy: Arc::clone(&policy),
        recorder: Recorder::new(Arc::clone(&metrics), key, log_raw_prompts, false).recording(recording),
        api_key: api_key.as_deref().map(ApiKey::new),
        times: Times {
            request: seconds(args.request_timeout, reference.request_seconds, REQUEST_SECONDS),
            silence: seconds(args.silence_timeout, None, SILENCE_SECONDS),
            body: seconds(args.body_timeout, None, BODY_SECONDS),
            drain: seconds(args.drain_timeout, None, DRAIN_SECONDS),
        },
        drain_socket: args.drain_socket,
        stand_in: host_rewrite.then(|| StandIn::new(url.port(), origin)),
        probes: Probes::new(probe),
        outlives_drain: in_pod,
        buffer: match args.buffer {
            Some(mebibytes) => usize::try_from(mebibytes)? << 20,
            None => usize::try_from(room::bodies().min(u64::from(BUFFER_MIB) << 20))?,
        },
    };
    let guard = Guard::bind(settings, aside)?;
    let (data, metrics_address) = (guard.data_address()?, guard.metrics_address()?);
    if !policy.is_loaded() {
        tracing::info!(%data, metrics = %metrics_address, "waiting for settings");
    }
    let following = aside.spawn(Arc::clone(&policy).follow(seen, metrics));
    let signals = tokio::spawn(follow_signals(guard.drain().clone(), signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
    let served = guard
        .serve(|current| {
            let mode = current.policy.mode.name();
            tracing::info!(%data, metrics = %metrics_address, upstream = %url, mode, log_raw_prompts, "listening");
        })
        .await;
    following.abort();
    signals.abort();
    served?;
    tracing::info!("ended");
    Ok(())
}

/// A key that nobody knows, and that ends with the process.
fn random_key(of: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| format!("no randomness for the key of {of}: {error}"))?;
    Ok(key)
}

/// Where exchanges are recorded.
fn recording(path: &Path, limit: Option<u64>) -> Result<Recording, String> {
    tracing::warn!(path = %path.display(), "exchanges are recorded with their texts: whoever reads the file reads what people ask");
    Recording::open(path, limit.unwrap_or(RECORD_MIB) << 20).map_err(|error| format!("--record {}: {error}", path.display()))
}

/// What holds, and whether its variables count for the mode.
fn source(signed: Option<Signed>, policy: Option<PathBuf>, reference: &mut Reference) -> Source {
    match (signed, policy, reference.policy.take()) {
        (Some(signed), _, _) => {
            reference.mode = None;
            Source::Signed(signed)
        }
        (None, Some(path), Some(_)) => {
            tracing::warn!("a policy file is given, so that ENFORCEMENT_MODE and the variables for models and tools are not used");
            reference.mode = None;
            Source::File(path)
        }
        (None, Some(path), None) => Source::File(path),
        (None, None, Some(policy)) => Source::Fixed(Box::new(policy)),
        (None, None, None) => Source::Fixed(Box::new(GuardPolicy::built_in())),
    }
}

async fn follow_signals(drain: Drain, mut terminate: Signal, mut interrupt: Signal) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(at_once = drain.signal() >= Stage::Forced, "a signal asks the guard to end");
    }
}

fn listen(flag: Option<SocketAddr>, in_pod: bool, host: Option<IpAddr>, port: Option<u16>, default_port: u16) -> Listen {
    // In a pod "every address" means those that there are: the injector can't know whether the node has IPv6.
    let is_default = host.is_none() && flag.is_none_or(|address| in_pod && address.ip().is_unspecified());
    let address = flag.unwrap_or_else(|| SocketAddr::new(host.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port.unwrap_or(default_port)));
    Listen { address, is_default }
}

//! Counters for Prometheus. Every label's values come from a closed set; none is taken from a request.

use std::fmt::Write;

use llm_guard_engine::exchange::Tally;
use llm_guard_engine::policy::{Mode, Moment};
use llm_guard_engine::verdict::{Action, ControlId, Violation};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ViolationLabels {
    control: &'static str,
    kind: &'static str,
    mode: &'static str,
    action: &'static str,
}

impl ViolationLabels {
    fn of(violation: &Violation) -> Self {
        Self { control: violation.control.name(), kind: violation.kind, mode: violation.mode.name(), action: violation.action.name() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabel {
    mode: &'static str,
}

/// A status of three digits; one that no registry knows counts as its class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Status(http::StatusCode);

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        match self.0.canonical_reason() {
            Some(_) => write!(encoder, "{}", self.0.as_u16()),
            None => write!(encoder, "{}xx", self.0.as_u16() / 100),
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client got an answer to its end.
    Answered,
    /// The guard refused it, or ended it with an error.
    Refused,
    /// The model server couldn't be reached, was too slow, or broke off.
    UpstreamFailed,
    /// The client went away.
    ClientGone,
    /// The guard was told to stop.
    Stopped,
}

impl Outcome {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::UpstreamFailed => "upstream_failed",
            Self::ClientGone => "client_gone",
            Self::Stopped => "stopped",
        }
    }
}

/// Which half of an exchange the guard worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Request,
    Answer,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The guard's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    violations: Family<ViolationLabels, Counter>,
    shadow_violations: Family<ViolationLabels, Counter>,
    shadow_exchanges: Family<ResultLabel, Counter>,
    redactions: Family<KindLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<RouteLabel>,
    own: Histograms<PhaseLabel>,
    first_bytes: Histogram,
    outcomes: Family<ResultLabel, Counter>,
    uninspected: Family<ReasonLabel, Counter>,
    dropped: Counter,
    upstream_errors: Family<ReasonLabel, Counter>,
    reloads: Family<ResultLabel, Counter>,
    modes: Family<ModeLabel, Gauge>,
    stopped: Gauge,
    excepted_until: Gauge,
    exceptions_refused: Counter,
    probes: Family<ResultLabel, Counter>,
    pub(crate) connections_open: Gauge,
    pub(crate) streams_open: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0])
}

fn microseconds_and_up() -> Histogram {
    Histogram::new([0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0])
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("llm_guard"),
            violations: Family::default(),
            shadow_violations: Family::default(),
            shadow_exchanges: Family::default(),
            redactions: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            own: Family::new_with_constructor(microseconds_and_up),
            first_bytes: seconds(),
            outcomes: Family::default(),
            uninspected: Family::default(),
            dropped: Counter::default(),
            upstream_errors: Family::default(),
            reloads: Family::default(),
            modes: Family::default(),
            stopped: Gauge::default(),
            excepted_until: Gauge::default(),
            exceptions_refused: Counter::default(),
            probes: Family::default(),
            connections_open: Gauge::default(),
            streams_open: Gauge::default(),
        };
        metrics.register();
        // A counter that is there from the start can be alerted on from the start.
        for reason in UpstreamError::ALL {
            let _ = metrics.upstream_errors.get_or_create(&ReasonLabel { reason: reason.name() });
        }
        for result in ["loaded", "refused"] {
            let _ = metrics.reloads.get_or_create(&ResultLabel { result });
        }
        for result in ["passed", "failed"] {
            let _ = metrics.probes.get_or_create(&ResultLabel { result });
        }
        metrics
    }

    fn register(&mut self) {
        let Self {
            registry,
            violations,
            shadow_violations,
            shadow_exchanges,
            redactions,
            requests,
            durations,
            own,
            first_bytes,
            outcomes,
            uninspected,
            dropped,
            upstream_errors,
            reloads,
            modes,
            stopped,
            excepted_until,
            exceptions_refused,
            probes,
            connections_open,
            streams_open,
        } = self;
        registry.register("violations", "What controls found, by what was done about it", violations.clone());
        registry.register(
            "shadow_violations",
            "What the policy would have found and done that is judged beside the one in force",
            shadow_violations.clone(),
        );
        registry.register("shadow_exchanges", "Exchanges, by what that policy would have made of them", shadow_exchanges.clone());
        registry.register("redactions", "Values that were replaced in requests and answers", redactions.clone());
        registry.register("requests", "Requests, by the status that the client saw", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From the request's head to the answer's last byte",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register_with_unit(
            "own_duration",
            "The guard's own share of an exchange: judging, not waiting",
            Unit::Seconds,
            own.clone(),
        );
        registry.register_with_unit(
            "first_byte_duration",
            "From the request's head to the answer's head",
            Unit::Seconds,
            first_bytes.clone(),
        );
        registry.register("exchanges", "Exchanges, by how they ended", outcomes.clone());
        registry.register_with_unit("uninspected", "What passed without being judged", Unit::Bytes, uninspected.clone());
        registry.register("dropped_fields", "Fields that were left out of requests and answers", dropped.clone());
        registry.register("upstream_errors", "Failures of the model server", upstream_errors.clone());
        registry.register("policy_reloads", "Policies that were read after a change", reloads.clone());
        registry.register("mode", "1 for the strictest mode in force", modes.clone());
        registry.register("stopped", "1 while everything is refused by llm-guard.io/stop", stopped.clone());
        registry.register_with_unit(
            "exception_expires_timestamp",
            "When the last exception ends that is in force, since 1970; 0 while there is none",
            Unit::Seconds,
            excepted_until.clone(),
        );
        registry.register(
            "exceptions_refused",
            "Exceptions that weren't believed, since they would have lasted too long",
            exceptions_refused.clone(),
        );
        registry.register("probes", "Probes of the kubelet that the model server was asked", probes.clone());
        registry.register("connections_open", "Connections from clients", connections_open.clone());
        registry.register("streams_open", "Answers that are on their way", streams_open.clone());
        registry.register("build", "The guard's version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    }

    /// The page that Prometheus reads (`OpenMetrics` text).
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("writing to a string can't fail");
        page
    }

    pub(crate) fn count(&self, tally: &Tally) {
        if let Some(shadow) = &tally.shadow {
            for (violation, times) in &shadow.violations {
                self.shadow_violations.get_or_create(&ViolationLabels::of(violation)).inc_by(*times);
            }
            self.shadow_exchanges.get_or_create(&ResultLabel { result: shadow.verdict().name() }).inc();
        }
        for (violation, times) in &tally.violations {
            self.violations.get_or_create(&ViolationLabels::of(violation)).inc_by(*times);
            if violation.control == ControlId::Redaction && violation.action == Action::Redacted {
                self.redactions.get_or_create(&KindLabel { kind: violation.kind }).inc_by(*times);
            }
        }
        for (reason, bytes) in &tally.uninspected {
            self.uninspected(reason, usize::try_from(*bytes).unwrap_or(usize::MAX));
        }
        self.dropped.inc_by(tally.dropped);
    }

    /// Bytes that passed without being judged.
    pub(crate) fn uninspected(&self, reason: &'static str, bytes: usize) {
        self.uninspected.get_or_create(&ReasonLabel { reason }).inc_by(bytes as u64);
    }

    pub(crate) fn request(&self, route: &'static str, status: http::StatusCode, outcome: Outcome, duration: std::time::Duration) {
        self.requests.get_or_create(&RequestLabels { route, status: Status(status) }).inc();
        self.durations.get_or_create(&RouteLabel { route }).observe(duration.as_secs_f64());
        self.outcomes.get_or_create(&ResultLabel { result: outcome.name() }).inc();
    }

    pub(crate) fn own_share(&self, phase: Phase, duration: std::time::Duration) {
        let phase = match phase {
            Phase::Request => "request",
            Phase::Answer => "answer",
        };
        self.own.get_or_create(&PhaseLabel { phase }).observe(duration.as_secs_f64());
    }

    pub(crate) fn first_byte(&self, duration: std::time::Duration) {
        self.first_bytes.observe(duration.as_secs_f64());
    }

    pub(crate) fn upstream_error(&self, error: UpstreamError) {
        self.upstream_errors.get_or_create(&ReasonLabel { reason: error.name() }).inc();
    }

    pub(crate) fn reload(&self, loaded: bool) {
        self.reloads.get_or_create(&ResultLabel { result: if loaded { "loaded" } else { "refused" } }).inc();
    }

    pub(crate) fn mode(&self, current: Mode) {
        for mode in Mode::ALL {
            self.modes.get_or_create(&ModeLabel { mode: mode.name() }).set(i64::from(mode == current));
        }
    }

    pub(crate) fn stop(&self, stop: bool) {
        self.stopped.set(i64::from(stop));
    }

    /// Until when an exception is in force, if one is.
    pub(crate) fn excepted_until(&self, moment: Option<Moment>) {
        self.excepted_until.set(moment.map_or(0, |moment| i64::try_from(moment.unix()).unwrap_or(i64::MAX)));
    }

    /// An exception wasn't believed.
    pub(crate) fn exception_refused(&self) {
        self.exceptions_refused.inc();
    }

    /// A probe of the model server.
    pub(crate) fn probe(&self, passed: bool) {
        self.probes.get_or_create(&ResultLabel { result: if passed { "passed" } else { "failed" } }).inc();
    }

    /// The counters that say what happened, for people: name with labels, and value.
    pub(crate) fn happenings(&self) -> Vec<(String, u64)> {
        let page = self.page();
        let lines =
            page.lines().filter(|line| line.starts_with("llm_guard_violations_total") || line.starts_with("llm_guard_redactions_total"));
        let parsed = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        let mut happenings: Vec<(String, u64)> = parsed.filter(|(_, value)| *value > 0).collect();
        happenings.sort();
        happenings
    }
}

/// How the model server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// No connection.
    Unreachable,
    /// It didn't answer in time.
    TimedOut,
    /// It broke off, or spoke no HTTP.
    Broken,
}

impl UpstreamError {
    const ALL: [Self; 3] = [Self::Unreachable, Self::TimedOut, Self::Broken];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
        }
    }
}

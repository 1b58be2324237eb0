//! Counters for Prometheus. Every label's values come from a closed set; none is taken from a review or an object.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Which review was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Webhook {
    /// Pods that are made.
    Pods,
    /// The templates of workloads.
    Workloads,
    /// Pods that are changed.
    PodUpdates,
    /// Policies.
    Policies,
    /// Exceptions.
    Exceptions,
    /// Namespaces, whose keys are changed.
    Namespaces,
    /// Who may change keys.
    Authority,
}

impl Webhook {
    pub(crate) const ALL: [Self; 7] =
        [Self::Pods, Self::Workloads, Self::PodUpdates, Self::Policies, Self::Exceptions, Self::Namespaces, Self::Authority];

    const fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Workloads => "workloads",
            Self::PodUpdates => "pod_updates",
            Self::Policies => "policies",
            Self::Exceptions => "exceptions",
            Self::Namespaces => "namespaces",
            Self::Authority => "authority",
        }
    }
}

/// What reviews come to: the names that [`crate::webhook::Verdict::result`] gives.
const RESULTS: [&str; 5] = ["allowed", "injected", "refused", "untouched", "error"];

/// How a write to the cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It was new.
    Created,
    /// It had changed for a reason.
    Updated,
    /// Somebody else had changed it.
    PutRight,
    /// Nobody needs it any more.
    Deleted,
    /// Another writer was first; it is looked at again.
    Conflict,
    /// Somebody else writes it again and again, so it was left as it is for now.
    Contended,
    /// The API server refused or didn't answer.
    Failed,
}

impl Write {
    pub(crate) const ALL: [Self; 7] =
        [Self::Created, Self::Updated, Self::PutRight, Self::Deleted, Self::Conflict, Self::Contended, Self::Failed];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::PutRight => "put_right",
            Self::Deleted => "deleted",
            Self::Conflict => "conflict",
            Self::Contended => "contended",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    webhook: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabel {
    webhook: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The injector's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    reviews: Family<ReviewLabels, Counter>,
    review_durations: Family<WebhookLabel, Histogram, fn() -> Histogram>,
    settings_writes: Family<ResultLabel, Counter>,
    network_policy_writes: Family<ResultLabel, Counter>,
    pub(crate) settings_pending: Gauge,
    pub(crate) settings_unloadable: Gauge,
    pub(crate) pods_to_restart: Gauge,
    pub(crate) unguarded_pods: Gauge,
    pub(crate) opening_network_policies: Gauge,
    pub(crate) certificate_expiry: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("llm_guard_injector"),
            reviews: Family::default(),
            review_durations: Family::new_with_constructor(seconds),
            settings_writes: Family::default(),
            network_policy_writes: Family::default(),
            settings_pending: Gauge::default(),
            settings_unloadable: Gauge::default(),
            pods_to_restart: Gauge::default(),
            unguarded_pods: Gauge::default(),
            opening_network_policies: Gauge::default(),
            certificate_expiry: Gauge::default(),
        };
        metrics.register();
        // A counter that is there from the start can be alerted on from the start.
        for webhook in Webhook::ALL {
            for result in RESULTS {
                let _ = metrics.reviews.get_or_create(&ReviewLabels { webhook: webhook.name(), result });
            }
        }
        for write in Write::ALL {
            let _ = metrics.settings_writes.get_or_create(&ResultLabel { result: write.name() });
            let _ = metrics.network_policy_writes.get_or_create(&ResultLabel { result: write.name() });
        }
        metrics
    }

    fn register(&mut self) {
        let Self {
            registry,
            reviews,
            review_durations,
            settings_writes,
            network_policy_writes,
            settings_pending,
            settings_unloadable,
            pods_to_restart,
            unguarded_pods,
            opening_network_policies,
            certificate_expiry,
        } = self;
        registry.register("reviews", "Reviews by the admission webhooks, by what they came to", reviews.clone());
        registry.register_with_unit(
            "review_duration",
            "From the review's first byte to its answer",
            Unit::Seconds,
            review_durations.clone(),
        );
        registry.register("settings_writes", "Writes of ConfigMaps with settings", settings_writes.clone());
        registry.register("network_policy_writes", "Writes of NetworkPolicies", network_policy_writes.clone());
        registry.register(
            "settings_pending",
            "Pods whose guard hasn't reported the settings that it should have",
            settings_pending.clone(),
        );
        registry.register(
            "settings_unloadable",
            "Workloads whose policy or annotations can't be used, so that older settings stay in force",
            settings_unloadable.clone(),
        );
        registry.register(
            "pods_to_restart",
            "Guarded pods that know none of the keys which settings are signed with now",
            pods_to_restart.clone(),
        );
        registry.register("unguarded_pods", "Pods of labelled namespaces, or labelled pods, without a guard", unguarded_pods.clone());
        registry.register(
            "opening_network_policies",
            "NetworkPolicies of others that open more on guarded pods than the guard's own",
            opening_network_policies.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry",
            "When the certificate of the webhooks ends, since 1970",
            Unit::Seconds,
            certificate_expiry.clone(),
        );
        registry.register("build", "The injector's version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    }

    /// The page that Prometheus reads (`OpenMetrics` text).
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("writing to a string can't fail");
        page
    }

    pub(crate) fn review(&self, webhook: Webhook, result: &'static str, duration: Duration) {
        self.reviews.get_or_create(&ReviewLabels { webhook: webhook.name(), result }).inc();
        self.review_durations.get_or_create(&WebhookLabel { webhook: webhook.name() }).observe(duration.as_secs_f64());
    }

    pub(crate) fn settings_write(&self, write: Write) {
        self.settings_writes.get_or_create(&ResultLabel { result: write.name() }).inc();
    }

    pub(crate) fn network_policy_write(&self, write: Write) {
        self.network_policy_writes.get_or_create(&ResultLabel { result: write.name() }).inc();
    }
}

//! Events for people: what was put right, what can't be loaded, what to restart. Each is told once, and again only after a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

/// For how long the same sentence about the same object isn't said again.
const QUIET: Duration = Duration::from_mins(10);
/// The most sentences that are remembered; beyond that, the oldest may be said again.
const REMEMBERED: usize = 4096;
/// The most bytes of a note: Kubernetes takes a kilobyte.
const NOTE: usize = 1000;

/// What an event is about. One place for the words that `kubectl describe` shows as the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// Settings were edited, replaced or deleted by somebody else.
    SettingsPutRight,
    /// A policy or an annotation can't be used, and the old settings stay.
    SettingsNotLoaded,
    /// A guard doesn't report what it should have loaded.
    SettingsPending,
    /// A pod's guard knows none of the keys.
    RestartNeeded,
    /// A labelled pod runs without a guard.
    Unguarded,
    /// A `NetworkPolicy` was edited or deleted by somebody else.
    NetworkPolicyPutRight,
    /// A `NetworkPolicy` of somebody else's opens more.
    NetworkPolicyOpensMore,
    /// Somebody else writes an object of ours again and again, so that it isn't as it should be.
    WrittenByOthers,
    /// A Secret was damaged, and is replaced.
    SecretReplaced,
    /// Somebody changed what guards a workload.
    ProtectionChanged,
    /// Somebody wanted to, and may not.
    ChangeRefused,
    /// An exception is in force.
    ExceptionBegun,
    /// It isn't any more.
    ExceptionEnded,
    /// It is in force nowhere, since it is none.
    ExceptionRejected,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::SettingsPutRight => "SettingsPutRight",
            Self::SettingsNotLoaded => "SettingsNotLoaded",
            Self::SettingsPending => "SettingsPending",
            Self::RestartNeeded => "RestartNeeded",
            Self::Unguarded => "Unguarded",
            Self::NetworkPolicyPutRight => "NetworkPolicyPutRight",
            Self::NetworkPolicyOpensMore => "NetworkPolicyOpensMore",
            Self::WrittenByOthers => "WrittenByOthers",
            Self::SecretReplaced => "SecretReplaced",
            Self::ProtectionChanged => "ProtectionChanged",
            Self::ChangeRefused => "ChangeRefused",
            Self::ExceptionBegun => "ExceptionBegun",
            Self::ExceptionEnded => "ExceptionEnded",
            Self::ExceptionRejected => "ExceptionRejected",
        }
    }
}

/// Tells events.
pub(crate) struct Events {
    client: Client,
    /// This replica: two replicas may tell the same.
    instance: String,
    told: Mutex<Told>,
}

/// What was told, of what, and when.
#[derive(Default)]
struct Told(HashMap<(String, Reason, String), Instant>);

impl Events {
    pub(crate) fn new(client: Client, instance: String) -> Self {
        Self { client, instance, told: Mutex::default() }
    }

    /// Tells a warning about an object, in the log and as an event, unless it was told lately.
    pub(crate) async fn warn(&self, about: &ObjectReference, reason: Reason, note: String) {
        let note = shortened(note);
        let object = format!(
            "{}/{}/{}",
            about.kind.as_deref().unwrap_or_default(),
            about.namespace.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default()
        );
        if !self.told.lock().unwrap_or_else(PoisonError::into_inner).is_news(&object, reason, &note, Instant::now()) {
            return;
        }
        tracing::warn!(object, reason = reason.name(), "{note}");
        self.write(about, reason, &note, "Warning").await;
    }

    /// Tells what somebody did, as an event, however often it is done. The log has its own record.
    pub(crate) async fn note(&self, about: &ObjectReference, reason: Reason, note: String) {
        self.write(about, reason, &shortened(note), "Normal").await;
    }

    async fn write(&self, about: &ObjectReference, reason: Reason, note: &str, kind: &str) {
        // Events about objects without a namespace live in `default`.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
        let event = self.event(about, reason, note, namespace, kind);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(object = about.name, reason = reason.name(), %error, "the event couldn't be written");
        }
    }

    fn event(&self, about: &ObjectReference, reason: Reason, note: &str, namespace: String, kind: &str) -> Event {
        let now = Timestamp::now();
        let name = about.name.as_deref().unwrap_or("llm-guard").chars().take(200).collect::<String>();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(kind.into()),
            reason: Some(reason.name().into()),
            action: Some(reason.name().into()),
            note: Some(note.into()),
            regarding: Some(about.clone()),
            reporting_controller: Some("llm-guard.io/injector".into()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// What is told, logged and remembered of a note: it may quote an annotation, of which Kubernetes takes a quarter of a mebibyte.
fn shortened(note: String) -> String {
    if note.len() <= NOTE {
        return note;
    }
    let mut end = NOTE - '…'.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &note[..end])
}

impl Told {
    /// Whether it wasn't told lately; if so, it is from now on.
    fn is_news(&mut self, object: &str, reason: Reason, note: &str, now: Instant) -> bool {
        let Self(told) = self;
        told.retain(|_, when| now.duration_since(*when) < QUIET);
        let key = (object.to_owned(), reason, note.to_owned());
        if told.contains_key(&key) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_a_bound_in_bytes_also_where_characters_have_several() {
        assert_eq!(shortened("x".repeat(NOTE)), "x".repeat(NOTE));
        for long in ["x".repeat(NOTE + 1), "ü".repeat(NOTE), "x".to_owned() + &"🦙".repeat(100_000)] {
            let short = shortened(long);
            assert!(short.len() <= NOTE && short.len() > NOTE - 8 && short.ends_with('…'), "{}", short.len());
        }
    }

    #[test]
    fn the_same_is_told_once_and_again_after_a_while_and_memory_is_bounded() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_news("Pod/a/b", Reason::Unguarded, "x", now));
        assert!(!told.is_news("Pod/a/b", Reason::Unguarded, "x", now + QUIET / 2));
        assert!(told.is_news("Pod/a/b", Reason::Unguarded, "y", now));
        assert!(told.is_news("Pod/a/c", Reason::Unguarded, "x", now));
        assert!(told.is_news("Pod/a/b", Reason::Unguarded, "x", now + QUIET));
        for n in 0..3 * REMEMBERED {
            told.is_news("Pod/a/b", Reason::Unguarded, &n.to_string(), now + QUIET);
        }
        assert!(told.0.len() <= REMEMBERED);
    }
}

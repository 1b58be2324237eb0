//! The exception to whatever holds: a `GuardException` document, for the hour in which a guard stands in the way of something worse.
//!
//! The invariant: an exception that reads has a mode, a reason, an end and somebody whom it is for. Whether that end is near enough,
//! [`ExceptionSpec::lasts`] says: only whoever reads it knows what time it is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Mode;
use super::document::{Metadata, tree};
use super::error::{PolicyError, nearest, shown};
use super::moment::Moment;

/// The longest that an exception lasts, from its making on.
pub const LONGEST: Duration = Duration::from_hours(24);
/// The shortest: what would end sooner would have ended before every guard knows of it.
pub const SHORTEST: Duration = Duration::from_secs(5);
/// The most characters of a reason.
const REASON: usize = 500;
/// The most workloads that are named. More than that are a namespace.
const NAMED: usize = 100;
/// The most characters of a workload's name, as Kubernetes takes it.
const NAME: usize = 253;

/// A mode that nothing goes above for a while, whatever else is said, the floor too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardException {
    /// `llm-guard.io/v1alpha1`
    pub api_version: String,
    /// `GuardException`
    pub kind: String,
    /// As of any Kubernetes object.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it says.
    pub spec: ExceptionSpec,
}

/// What an exception says. It can't be changed afterwards but for an earlier end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptionSpec {
    /// The most that any control gets while the exception lasts, whatever floor, annotation, pod, policy or rule say. What is milder stays
    /// as it is, and a stop stays a stop.
    pub mode: Mode,
    /// Why: 1 to 500 characters, for whoever asks afterwards.
    #[serde(deserialize_with = "reason")]
    pub reason: String,
    /// When it ends, as RFC 3339 writes it: `2026-01-31T18:00:00Z`. At most 24 hours after it was made.
    pub expires: Moment,
    /// For which workloads: `Deployment/ollama`, `StatefulSet/NAME`, `DaemonSet/NAME`, `Job/NAME`, `CronJob/NAME`. Absent: for every guard
    /// in the namespace.
    #[serde(default, deserialize_with = "workloads", skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Vec<WorkloadName>>,
}

/// A kind of workload whose annotations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// apps/v1
    Deployment,
    /// apps/v1
    StatefulSet,
    /// apps/v1
    DaemonSet,
    /// batch/v1
    Job,
    /// batch/v1
    CronJob,
}

impl WorkloadKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::Job, Self::CronJob];

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }
}

/// A workload of the same namespace: `Deployment/ollama`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// Text that names no workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// It has another form.
    #[error("'{0}' names no workload: it is written as Deployment/ollama")]
    Form(String),
    /// The kind is none of ours.
    #[error("nobody knows the kind '{kind}'{meant} There are: Deployment, StatefulSet, DaemonSet, Job, CronJob")]
    Kind {
        /// What stands there.
        kind: String,
        /// What was probably meant.
        meant: String,
    },
    /// No object can have this name.
    #[error("no {kind} can be called '{name}'")]
    Name {
        /// Of which kind it would be.
        kind: &'static str,
        /// What stands there.
        name: String,
    },
}

impl GuardException {
    /// Reads a document.
    pub fn read(yaml: &str) -> Result<Self, PolicyError> {
        tree(yaml, "GuardException")?.decode()
    }
}

impl ExceptionSpec {
    /// Whether it ends within the time that an exception may last which was made then.
    pub fn lasts(&self, made: Moment) -> Result<(), PolicyError> {
        let latest = made.after(LONGEST);
        if self.expires <= latest {
            return Ok(());
        }
        let reason =
            format!("{} is too late: an exception that was made at {made} ends at {latest} at the latest, 24 hours after", self.expires);
        Err(PolicyError::in_spec("expires", reason))
    }

    /// Whether there is anything of it still to come.
    pub fn begins(&self, now: Moment) -> Result<(), PolicyError> {
        if self.expires >= now.after(SHORTEST) {
            return Ok(());
        }
        let reason = format!("{} has passed, or passes within five seconds: it is {now}", self.expires);
        Err(PolicyError::in_spec("expires", reason))
    }

    /// Whether this may take the place of another: the same with an end that isn't later.
    pub fn replaces(&self, before: &Self) -> Result<(), PolicyError> {
        let path = match self {
            Self { mode, .. } if *mode != before.mode => "mode",
            Self { reason, .. } if *reason != before.reason => "reason",
            Self { workloads, .. } if *workloads != before.workloads => "workloads",
            Self { expires, .. } if *expires > before.expires => "expires",
            _ => return Ok(()),
        };
        Err(PolicyError::in_spec(path, "an exception can't be changed but for an earlier end (spec.expires): make a new one"))
    }

    /// Whether it is for a workload; for pods that belong to none, where nothing is named.
    #[must_use]
    pub fn is_for(&self, workload: Option<(&str, &str)>) -> bool {
        let Some(named) = &self.workloads else { return true };
        workload.is_some_and(|(kind, name)| named.iter().any(|named| named.kind.name() == kind && named.name == name))
    }
}

impl FromStr for WorkloadName {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        let (kind, name) = text.split_once('/').ok_or_else(|| WorkloadError::Form(shown(text)))?;
        let names = WorkloadKind::ALL.map(WorkloadKind::name);
        let Some(known) = WorkloadKind::ALL.into_iter().find(|known| known.name() == kind) else {
            let meant = nearest(kind, names).map_or_else(|| ".".to_owned(), |meant| format!(": did you mean '{meant}'?"));
            return Err(WorkloadError::Kind { kind: shown(kind), meant });
        };
        let is_label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        };
        if name.len() > NAME || !name.split('.').all(is_label) {
            return Err(WorkloadError::Name { kind: known.name(), name: shown(name) });
        }
        Ok(Self { kind: known, name: name.to_owned() })
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.name)
    }
}

impl Serialize for WorkloadName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for WorkloadName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkloadName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let reason = String::deserialize(deserializer)?;
    let length = reason.chars().count();
    let wrong = match length {
        _ if reason.trim().is_empty() => "there is no reason: say why what holds here can't hold for a while".to_owned(),
        ..=REASON => return Ok(reason),
        _ => format!("the reason has {length} characters; at most {REASON} are read"),
    };
    Err(serde::de::Error::custom(wrong))
}

fn workloads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<WorkloadName>>, D::Error> {
    let wrong = match Option::<Vec<WorkloadName>>::deserialize(deserializer)? {
        None => "there is no list behind the key: leaving the key out means every guard in the namespace".to_owned(),
        Some(list) if list.is_empty() => {
            "the list is empty, so that the exception is for nobody: leaving the key out means every guard in the namespace".to_owned()
        }
        Some(list) if list.len() > NAMED => {
            format!(
                "{} workloads are named, and at most {NAMED} are read: leaving the key out means every guard in the namespace",
                list.len()
            )
        }
        Some(list) => match list.iter().enumerate().find(|(place, name)| list[..*place].contains(name)) {
            Some((_, twice)) => format!("'{twice}' stands here twice"),
            None => return Ok(Some(list)),
        },
    };
    Err(serde::de::Error::custom(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ExceptionSpec {
        let yaml = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardException\nmetadata: {{name: e}}\nspec: {text}\n");
        GuardException::read(&yaml).unwrap_or_else(|error| panic!("{text}: {error}")).spec
    }

    fn at(text: &str) -> Moment {
        text.parse().unwrap()
    }

    #[test]
    fn an_exception_that_is_written_out_reads_as_it_was() {
        for text in [
            "{mode: monitor, reason: x, expires: 2026-01-31T18:00:00Z}",
            "{mode: soft, reason: 'the ü of it', expires: '2026-01-31T18:00:00.25+01:00', workloads: [Deployment/a, CronJob/b.c-1]}",
        ] {
            let spec = spec(text);
            assert_eq!(serde_json::from_str::<ExceptionSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
        }
    }

    #[test]
    fn it_ends_within_a_day_of_its_making_and_not_at_once() {
        let spec = spec("{mode: soft, reason: x, expires: 2026-01-31T18:00:00Z}");
        assert_eq!(spec.lasts(at("2026-01-30T18:00:00Z")), Ok(()));
        assert_eq!(
            spec.lasts(at("2026-01-30T17:59:59Z")).unwrap_err().to_string(),
            "spec.expires: 2026-01-31T18:00:00Z is too late: an exception that was made at 2026-01-30T17:59:59Z ends at 2026-01-31T17:59:59Z at the latest, 24 hours after"
        );
        assert_eq!(spec.begins(at("2026-01-31T17:59:55Z")), Ok(()));
        assert_eq!(
            spec.begins(at("2026-01-31T17:59:56Z")).unwrap_err().to_string(),
            "spec.expires: 2026-01-31T18:00:00Z has passed, or passes within five seconds: it is 2026-01-31T17:59:56Z"
        );
        assert!(spec.begins(at("2027-01-31T17:59:56Z")).is_err());
    }

    #[test]
    fn nothing_of_it_can_be_changed_but_for_an_earlier_end() {
        let before = spec("{mode: soft, reason: x, expires: 2026-01-31T18:00:00Z, workloads: [Job/a]}");
        for (after, wrong) in [
            ("{mode: soft, reason: x, expires: 2026-01-31T18:00:00Z, workloads: [Job/a]}", None),
            ("{mode: soft, reason: x, expires: '2026-01-31T19:00:00+01:00', workloads: [Job/a]}", None),
            ("{mode: soft, reason: x, expires: 2026-01-31T17:00:00Z, workloads: [Job/a]}", None),
            ("{mode: soft, reason: x, expires: 2026-01-31T18:00:01Z, workloads: [Job/a]}", Some("spec.expires")),
            ("{mode: hard, reason: x, expires: 2026-01-31T17:00:00Z, workloads: [Job/a]}", Some("spec.mode")),
            ("{mode: soft, reason: another, expires: 2026-01-31T17:00:00Z, workloads: [Job/a]}", Some("spec.reason")),
            ("{mode: soft, reason: x, expires: 2026-01-31T17:00:00Z, workloads: [Job/b]}", Some("spec.workloads")),
            ("{mode: soft, reason: x, expires: 2026-01-31T17:00:00Z}", Some("spec.workloads")),
        ] {
            let said = spec(after).replaces(&before);
            assert_eq!(said.as_ref().err().map(PolicyError::path), wrong, "{after}");
            assert!(said.is_ok() || said.unwrap_err().to_string().contains("make a new one"));
        }
    }

    #[test]
    fn it_is_for_those_that_are_named_or_for_all() {
        let all = spec("{mode: soft, reason: x, expires: 2026-01-31T18:00:00Z}");
        assert!(all.is_for(None) && all.is_for(Some(("Job", "a"))));
        let some = spec("{mode: soft, reason: x, expires: 2026-01-31T18:00:00Z, workloads: [Job/a, Deployment/b]}");
        assert!(some.is_for(Some(("Job", "a"))) && some.is_for(Some(("Deployment", "b"))));
        assert!(!some.is_for(None) && !some.is_for(Some(("Job", "b"))) && !some.is_for(Some(("Deployment", "a"))));
    }
}

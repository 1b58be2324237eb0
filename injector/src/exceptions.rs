//! The exceptions of a namespace: whether one is taken, whom it concerns, and what its status says. Pure.
//!
//! The invariant: what can't be read, or would last longer than a day from its making on, is in force nowhere, however it got in. And of
//! replicas whose clocks differ by a few seconds none begins again what another has ended.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use kube::api::DynamicObject;
use llm_guard_engine::policy::settings::Exception;
use llm_guard_engine::policy::{ExceptionSpec, GuardException, Moment};
use serde_json::{Value, json};

use crate::identity::Whose;
use crate::settings::document;
use crate::status::{Said, conditions};

/// The condition that is written here.
const ACTIVE: &str = "Active";
/// Why it says that one isn't in force any more.
const EXPIRED: &str = "Expired";
/// The most exceptions that one workload's guards are told of: the weakest, and of those the longest.
const TOLD: usize = 16;
/// The most makers that are remembered until the status names them.
const REMEMBERED: usize = 1024;
/// The most characters of a user's name that are shown, and of a reason that is recorded.
const SHOWN: usize = 200;

/// An exception of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) uid: String,
    generation: Option<i64>,
    /// Whether it is over whatever the clock says: somebody has deleted it, and it is only still there; or its status says that it has
    /// ended, so that a clock which is set back brings it back for nobody.
    is_over: bool,
    says: Result<ExceptionSpec, String>,
}

/// What becomes of an exception.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State<'k> {
    /// It holds.
    InForce(&'k ExceptionSpec),
    /// It held, or never had the time to.
    Expired(&'k ExceptionSpec),
    /// It is none.
    Rejected(&'k str),
}

impl Known {
    /// Reads an object of the cluster.
    pub(crate) fn read(object: &DynamicObject) -> Self {
        let made = object.metadata.creation_timestamp.as_ref().and_then(|time| u64::try_from(time.0.as_second()).ok());
        let says = serde_json::to_value(object).map_err(|error| error.to_string()).and_then(|value| {
            let spec = read(&value)?;
            let made = made.map(Moment::from_unix).ok_or("nobody knows when it was made")?;
            spec.lasts(made).map_err(|error| error.to_string())?;
            Ok(spec)
        });
        let status = &object.data["status"]["conditions"];
        let active = status.as_array().into_iter().flatten().find(|condition| condition["type"] == ACTIVE);
        let has_ended =
            active.is_some_and(|said| said["reason"] == EXPIRED && said["observedGeneration"] == json!(object.metadata.generation));
        Self {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation,
            is_over: has_ended || object.metadata.deletion_timestamp.is_some(),
            says,
        }
    }

    pub(crate) fn state(&self, now: Moment) -> State<'_> {
        match &self.says {
            Ok(spec) if now < spec.expires && !self.is_over => State::InForce(spec),
            Ok(spec) => State::Expired(spec),
            Err(reason) => State::Rejected(reason),
        }
    }

    /// For events.
    pub(crate) fn reference(&self, namespace: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("llm-guard.io/v1alpha1".into()),
            kind: Some("GuardException".into()),
            namespace: Some(namespace.to_owned()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// Whether an exception is for the guards of these pods.
pub(crate) fn is_for(spec: &ExceptionSpec, whose: &Whose) -> bool {
    match whose {
        Whose::Workload(kind, name) => spec.is_for(Some((kind.name(), name))),
        Whose::Bare => spec.is_for(None),
    }
}

/// What the settings of these pods' guards say of exceptions. `before`: what they said last.
///
/// The guards end each by themselves, so nothing is lost where a replica's clock is behind. What has only a few seconds left isn't begun:
/// it may be one that another replica has ended.
pub(crate) fn for_guards(known: &[Known], whose: &Whose, now: Moment, before: &[Exception]) -> Vec<Exception> {
    let in_force = known.iter().filter_map(|known| match known.state(now) {
        State::InForce(spec) if is_for(spec, whose) => Some((&known.name, spec)),
        _ => None,
    });
    let exceptions = in_force.map(|(name, spec)| (Exception { name: name.clone(), mode: spec.mode, expires: spec.expires }, spec));
    let mut all: Vec<Exception> = exceptions
        .filter(|(exception, spec)| before.contains(exception) || spec.begins(now).is_ok())
        .map(|(exception, _)| exception)
        .collect();
    all.sort_by(|a, b| (a.mode, Reverse(a.expires), &a.name).cmp(&(b.mode, Reverse(b.expires), &b.name)));
    all.truncate(TOLD);
    all
}

/// Those of some exceptions that aren't among others.
pub(crate) fn only<'e>(these: &'e [Exception], others: &'e [Exception]) -> impl Iterator<Item = &'e Exception> {
    these.iter().filter(|one| !others.contains(one))
}

/// When the next one ends.
pub(crate) fn next_end(known: &[Known], now: Moment) -> Option<Moment> {
    let ends = known.iter().filter_map(|known| match known.state(now) {
        State::InForce(spec) => Some(spec.expires),
        State::Expired(_) | State::Rejected(_) => None,
    });
    ends.min()
}

// === reviews ===

/// Whether an exception may be made, or take the place of another. What of it is to be recorded, or why it may not.
pub(crate) fn reviewed(old: &Value, new: &Value, now: Moment) -> Result<String, String> {
    let spec = read(new)?;
    if old.is_null() {
        // The API server has written down when it is made: from then on it lasts.
        let made = new.pointer("/metadata/creationTimestamp").and_then(Value::as_str).and_then(|text| text.parse().ok());
        spec.lasts(made.unwrap_or(now)).and_then(|()| spec.begins(now)).map_err(|error| error.to_string())?;
        return Ok(format!("spec: from nothing to {}", in_words(&spec)));
    }
    let before = read(old).map_err(|_| "what it says can't be read, and isn't in force: delete it, and make a new one")?;
    spec.replaces(&before).map_err(|error| error.to_string())?;
    Ok(format!("spec.expires: from {} to {}", before.expires, spec.expires))
}

/// What is to be recorded of a deletion.
pub(crate) fn deleted(old: &Value) -> String {
    format!("spec: from {} to nothing", read(old).map_or_else(|_| "what can't be read".to_owned(), |spec| in_words(&spec)))
}

fn read(object: &Value) -> Result<ExceptionSpec, String> {
    // The line and the column would be those of a text that nobody has seen.
    GuardException::read(&document(object)).map(|exception| exception.spec).map_err(|error| error.without_place().to_string())
}

fn in_words(spec: &ExceptionSpec) -> String {
    let reason: String = spec.reason.chars().take(SHOWN).collect();
    format!("{} until {} because '{}' for {}", spec.mode, spec.expires, reason.escape_debug(), whom(spec))
}

fn whom(spec: &ExceptionSpec) -> String {
    let names = |names: &Vec<_>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    spec.workloads.as_ref().map_or_else(|| "every guard in the namespace".to_owned(), names)
}

/// Who made what, from its review until its status says so.
#[derive(Debug, Default)]
pub(crate) struct Makers(Mutex<HashMap<String, String>>);

impl Makers {
    /// Somebody makes an object.
    pub(crate) fn remember(&self, uid: &str, user: &str) {
        let mut makers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if makers.len() >= REMEMBERED {
            makers.clear();
        }
        makers.insert(uid.to_owned(), user.chars().take(SHOWN).collect());
    }

    /// Who made an object, if this replica was asked.
    pub(crate) fn of(&self, uid: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }
}

// === status ===

/// Whom it concerns while it is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Concerns {
    pub(crate) workloads: usize,
    pub(crate) pods: usize,
}

/// What has changed in a status.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    /// What is to be written. What isn't there any more is null, as a merge wants it.
    pub(crate) status: Value,
    /// What became of the exception, if that is news.
    pub(crate) news: Option<(News, String)>,
}

/// What became of an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Begun,
    Ended,
    Rejected,
}

/// The status that should be there, where another is.
pub(crate) fn status(there: &Value, known: &Known, concerns: Concerns, maker: Option<String>, now: u64) -> Option<Changed> {
    let state = known.state(Moment::from_unix(now / 1000));
    let before = there["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == ACTIVE);
    // It may only end: where it has, another replica's clock is ahead.
    let of_now = before.filter(|before| before["observedGeneration"] == json!(known.generation));
    if matches!(state, State::InForce(_)) && of_now.is_some_and(|before| before["reason"] == EXPIRED) {
        return None;
    }
    let (status, reason, message, news) = match &state {
        State::InForce(spec) => {
            let message = format!("Until {} no control of {} goes above {}.", spec.expires, whom(spec), spec.mode);
            ("True", "InForce", message, News::Begun)
        }
        State::Expired(spec) => ("False", EXPIRED, format!("It has ended, at {} at the latest.", spec.expires), News::Ended),
        State::Rejected(reason) => ("False", "Rejected", format!("It is in force nowhere: {reason}"), News::Rejected),
    };
    let is_news = before.is_none_or(|before| before["reason"] != reason || before["message"] != message);
    let counted = |count: usize| matches!(state, State::InForce(_)).then_some(count);
    let maker = there["by"].as_str().map(str::to_owned).or(maker);
    let wanted = json!({
        "conditions": conditions(there, vec![Said { kind: ACTIVE, status, reason, message: message.clone() }], known.generation, now),
        "workloads": counted(concerns.workloads),
        "pods": counted(concerns.pods),
        "by": maker,
    });
    let is_right = wanted.as_object().into_iter().flatten().all(|(key, value)| there.get(key).unwrap_or(&Value::Null) == value);
    // What was over before anybody saw it has no end to tell of.
    let news = is_news.then_some((news, message)).filter(|(news, _)| *news != News::Ended || before.is_some());
    (!is_right).then_some(Changed { status: wanted, news })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use llm_guard_engine::policy::WorkloadKind;

    use super::*;
    use crate::identity::Kind;

    const NOON: u64 = 1_795_348_800;
    const DAY: u64 = 24 * 60 * 60;

    fn at(seconds: u64) -> Moment {
        Moment::from_unix(NOON + seconds)
    }

    fn object(name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardException",
            "metadata": {"name": name, "namespace": "n", "uid": name, "generation": 1, "creationTimestamp": at(0).to_string()},
            "spec": spec,
        })
    }

    fn spec(mode: &str, seconds: u64, workloads: &Value) -> Value {
        let mut spec = json!({"mode": mode, "reason": "it's an emergency", "expires": at(seconds).to_string()});
        if !workloads.is_null() {
            spec["workloads"] = workloads.clone();
        }
        spec
    }

    fn known(name: &str, spec: &Value) -> Known {
        Known::read(&serde_json::from_value(object(name, spec)).unwrap())
    }

    fn ollama() -> Whose {
        Whose::Workload(Kind::Deployment, "ollama".into())
    }

    fn names(exceptions: &[Exception]) -> Vec<&str> {
        exceptions.iter().map(|exception| exception.name.as_str()).collect()
    }

    #[test]
    fn the_kinds_that_can_be_named_are_those_whose_annotations_count() {
        assert_eq!(Kind::ALL.map(Kind::name), WorkloadKind::ALL.map(WorkloadKind::name));
    }

    #[test]
    fn a_moment_is_the_one_that_others_read_of_the_same_text() {
        for text in ["1970-01-01T00:00:00Z", "2026-11-22T10:25:00.75+02:00", "2024-02-29T23:59:59-11:30", "2099-12-31T00:00:00Z"] {
            let (ours, theirs) = (text.parse::<Moment>().unwrap(), text.parse::<Timestamp>().unwrap());
            assert_eq!(i64::try_from(ours.unix()).unwrap(), theirs.as_second(), "{text}");
        }
    }

    #[test]
    fn guards_are_told_of_what_is_for_them_until_it_ends_and_of_the_weakest_first() {
        let all = [
            known("for-all", &spec("soft", 600, &Value::Null)),
            known("for-one", &spec("monitor", 300, &json!(["Deployment/ollama"]))),
            known("for-another", &spec("monitor", 300, &json!(["StatefulSet/ollama", "Deployment/other"]))),
            known("too-long", &spec("monitor", DAY + 1, &Value::Null)),
            known("broken", &json!({"mode": "monitor", "expires": at(60).to_string()})),
        ];
        let told =
            |whose: &Whose, seconds| for_guards(&all, whose, at(seconds), &[]).iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(told(&ollama(), 0), ["for-one", "for-all"]);
        assert_eq!(told(&Whose::Bare, 0), ["for-all"]);
        assert_eq!(told(&ollama(), 300), ["for-all"]);
        assert_eq!(told(&ollama(), 600), [""; 0]);
        assert_eq!(
            [0, 299, 300, 599, 600].map(|now| next_end(&all, at(now))),
            [Some(at(300)), Some(at(300)), Some(at(600)), Some(at(600)), None]
        );
        let many: Vec<Known> = (0..100).map(|number| known(&format!("e{number}"), &spec("hard", 60 + number, &Value::Null))).collect();
        let told = for_guards(&many, &ollama(), at(0), &[]);
        assert_eq!((told.len(), told[0].name.as_str()), (TOLD, "e99"));
    }

    #[test]
    fn what_another_replica_has_ended_isnt_begun_again_by_one_whose_clock_is_behind() {
        let all = [known("e", &spec("monitor", 60, &Value::Null))];
        let before = for_guards(&all, &ollama(), at(0), &[]);
        assert_eq!(names(&before), ["e"]);
        assert_eq!(names(&for_guards(&all, &ollama(), at(57), &before)), ["e"]);
        assert_eq!(names(&for_guards(&all, &ollama(), at(57), &[])), [""; 0]);
        assert_eq!(names(&for_guards(&all, &ollama(), at(60), &before)), [""; 0]);
        // Nor does the status say so.
        let ended = status(&json!({}), &all[0], Concerns::default(), None, (NOON + 60) * 1000).unwrap();
        assert_eq!(status(&ended.status, &all[0], Concerns::default(), None, (NOON + 57) * 1000), None);
    }

    #[test]
    fn what_its_status_says_has_ended_is_over_by_a_clock_that_was_set_back() {
        let with = |generation: i64, reason: &str| {
            let mut object = object("e", &spec("monitor", 3600, &Value::Null));
            object["metadata"]["generation"] = json!(2);
            object["status"] = json!({"conditions": [{"type": "Active", "reason": reason, "observedGeneration": generation}]});
            Known::read(&serde_json::from_value(object).unwrap())
        };
        assert!(for_guards(&[with(2, "Expired")], &ollama(), at(60), &[]).is_empty());
        assert_eq!(for_guards(&[with(2, "InForce")], &ollama(), at(60), &[]).len(), 1);
        assert_eq!(for_guards(&[with(1, "Expired")], &ollama(), at(60), &[]).len(), 1, "another is meant");
    }

    #[test]
    fn one_that_somebody_has_deleted_is_over_though_it_is_still_there() {
        let mut object = object("e", &spec("monitor", 60, &Value::Null));
        object["metadata"]["deletionTimestamp"] = json!(at(1).to_string());
        let known = Known::read(&serde_json::from_value(object).unwrap());
        assert!(matches!(known.state(at(2)), State::Expired(_)));
    }

    #[test]
    fn what_is_made_ends_within_a_day_and_what_is_changed_only_ends_earlier() {
        let good = object("e", &spec("monitor", 3600, &json!(["Deployment/ollama"])));
        assert_eq!(
            reviewed(&Value::Null, &good, at(0)),
            Ok("spec: from nothing to monitor until 2026-11-22T13:00:00Z because 'it\\'s an emergency' for Deployment/ollama".into())
        );
        let refused = |spec: &Value| reviewed(&Value::Null, &object("e", spec), at(0)).unwrap_err();
        assert!(refused(&spec("monitor", DAY + 1, &Value::Null)).starts_with("spec.expires: 2026-11-23T12:00:01Z is too late: "));
        assert!(refused(&spec("monitor", 4, &Value::Null)).starts_with("spec.expires: 2026-11-22T12:00:04Z has passed, or passes "));
        assert!(refused(&json!({"mode": "soft", "reason": "", "expires": at(60).to_string()})).starts_with("spec.reason: "));
        assert_eq!(reviewed(&Value::Null, &object("e", &spec("soft", DAY, &Value::Null)), at(1)).err(), None);

        let change = |spec: &Value, now| reviewed(&good, &object("e", spec), at(now));
        let workloads = json!(["Deployment/ollama"]);
        assert_eq!(
            change(&spec("monitor", 60, &workloads), 100),
            Ok("spec.expires: from 2026-11-22T13:00:00Z to 2026-11-22T12:01:00Z".into())
        );
        for wrong in [spec("monitor", 3601, &workloads), spec("soft", 60, &workloads), spec("monitor", 60, &Value::Null)] {
            assert!(change(&wrong, 0).unwrap_err().ends_with("make a new one"), "{wrong}");
        }
        let broken = object("e", &json!({}));
        assert!(reviewed(&broken, &good, at(0)).unwrap_err().ends_with("make a new one"));
        assert!(deleted(&good).starts_with("spec: from monitor until ") && deleted(&broken).ends_with("can't be read to nothing"));
    }

    #[test]
    fn the_status_says_what_became_of_it_to_whom_and_who_made_it() {
        let known = known("e", &spec("monitor", 60, &Value::Null));
        let concerns = Concerns { workloads: 1, pods: 3 };
        let first = status(&json!({}), &known, concerns, None, NOON * 1000).unwrap();
        let condition = &first.status["conditions"][0];
        assert_eq!([&condition["type"], &condition["status"], &condition["reason"]], ["Active", "True", "InForce"]);
        assert_eq!(condition["message"], "Until 2026-11-22T12:01:00Z no control of every guard in the namespace goes above monitor.");
        assert_eq!((&first.status["pods"], &first.status["workloads"], &first.status["by"]), (&json!(3), &json!(1), &Value::Null));
        assert_eq!(first.news.as_ref().map(|(news, _)| *news), Some(News::Begun));
        let mut there = first.status.clone();
        there.as_object_mut().unwrap().remove("by");
        assert_eq!(status(&there, &known, concerns, None, (NOON + 1) * 1000), None);
        // The replica that was asked knows who.
        let named = status(&there, &known, concerns, Some("jane".into()), (NOON + 1) * 1000).unwrap();
        assert_eq!((&named.status["by"], &named.news), (&json!("jane"), &None));
        let ended = status(&named.status, &known, concerns, None, (NOON + 60) * 1000).unwrap();
        let condition = &ended.status["conditions"][0];
        assert_eq!([&condition["status"], &condition["reason"], &ended.status["by"]], ["False", "Expired", "jane"]);
        assert_eq!((&ended.status["pods"], ended.news.map(|(news, _)| news)), (&Value::Null, Some(News::Ended)));
        let long = self::known("e", &spec("monitor", DAY + 1, &Value::Null));
        let rejected = status(&json!({}), &long, concerns, None, NOON * 1000).unwrap();
        assert_eq!(rejected.status["conditions"][0]["reason"], "Rejected");
        assert!(rejected.status["conditions"][0]["message"].as_str().unwrap().contains("is too late"), "{rejected:?}");
        assert_eq!(rejected.news.map(|(news, _)| news), Some(News::Rejected));
    }

    #[test]
    fn of_those_who_made_something_so_many_are_remembered_and_no_more() {
        let makers = Makers::default();
        for number in 0..=REMEMBERED {
            makers.remember(&number.to_string(), "jane");
        }
        assert_eq!((makers.of("0"), makers.of(&REMEMBERED.to_string())), (None, Some("jane".into())));
    }
}

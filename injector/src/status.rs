//! What a policy's status says: whether guards can load it, and on how many pods which settings are in force. Pure.
//!
//! The invariant: of the same cluster, any number of replicas end with the same status. A replica only knows of a guard what that told it,
//! so a count never goes down while what is counted stays the same; and times are those of the change, or stay as somebody wrote them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use llm_guard_engine::policy::GuardPolicy;
use serde_json::{Map, Value, json};

use crate::identity::digest;

/// The most workloads that are listed; all are counted.
const LISTED: usize = 20;
/// By how many seconds a pod must be older than a change for the change to have been brought to it. The API server notes whole seconds,
/// and the first pod's settings are written while the pod is made.
const OLDER: i64 = 2;
/// The conditions that are written here.
const OURS: [&str; 2] = ["Accepted", "InForce"];
/// Parts of the specification that are no control's.
const NO_CONTROLS: [&str; 4] = ["mode", "network", "protocol", "rules"];

/// The pods of one workload that go by the policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) workload: String,
    /// What their guards should have loaded.
    pub(crate) digest: String,
    /// When that was written, in milliseconds since 1970: its serial.
    pub(crate) changed: u64,
    /// Whether it holds the policy as it is now, and not an older one in the place of one that doesn't load.
    pub(crate) current: bool,
    pub(crate) pods: Vec<Loaded>,
}

/// One of the pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) uid: String,
    /// In seconds since 1970.
    pub(crate) created: Option<i64>,
    /// Whether its guard has said so.
    pub(crate) in_force: bool,
}

/// When this is, and since when this replica has looked; both in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) now: u64,
    pub(crate) began: u64,
}

/// What tells one policy from another, whatever it is called.
pub(crate) fn policy_digest(policy: &GuardPolicy) -> String {
    // The types make JSON of every policy.
    digest(&serde_json::to_string(&policy.spec).unwrap_or_default())
}

/// The status that should be there, where another is; nothing where it is right. What isn't there any more is null, as a merge wants it.
pub(crate) fn status(
    there: &Value,
    generation: Option<i64>,
    policy: Result<&GuardPolicy, &str>,
    mut shares: Vec<Share>,
    times: Times,
) -> Option<Value> {
    shares.sort_by(|a, b| (&a.workload, &a.digest).cmp(&(&b.workload, &b.digest)));
    for share in &mut shares {
        share.pods.sort_by(|a, b| a.uid.cmp(&b.uid));
    }
    let observed = observed(&shares);
    let before = if there["observed"] == observed { there } else { &Value::Null };
    let known = |workload: &str, digest: &str| {
        let rows = before["workloads"].as_array().into_iter().flatten();
        let row = rows.into_iter().find(|row| row["workload"] == workload && row["digest"] == digest);
        row.and_then(|row| row["inForce"].as_u64()).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX))
    };
    let (mut selected, mut in_force, mut rows) = (0, 0, Vec::new());
    for share in &shares {
        let loaded = share.pods.iter().filter(|pod| pod.in_force).count();
        let loaded = if share.current { loaded.max(known(&share.workload, &share.digest)).min(share.pods.len()) } else { 0 };
        selected += share.pods.len();
        in_force += loaded;
        if rows.len() < LISTED {
            rows.push(json!({"workload": share.workload, "digest": share.digest, "pods": share.pods.len(), "inForce": loaded}));
        }
    }
    let changed = shares.iter().map(|share| share.changed).max();
    // To the millisecond: two changes of one second are two.
    let changed_text = changed.and_then(|ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()).map(|time| time.to_string());
    let complete = in_force == selected;
    let lag = changed.filter(|_| policy.is_ok()).and_then(|changed| lag(there, &shares, changed, &json!(changed_text), complete, times));

    let accepted = policy
        .map_or_else(|error| ("False", "NotLoaded", error.to_owned()), |_| ("True", "Loaded", "Guards can load this policy.".to_owned()));
    let counted = format!("{in_force} of {selected} pods have it in force.");
    let holds = match policy {
        _ if selected == 0 => ("Unknown", "NoPods", "No guarded pod goes by it.".to_owned()),
        Err(_) => ("False", "NotLoaded", "What was in force before stays.".to_owned()),
        Ok(_) if complete => ("True", "Loaded", counted),
        Ok(_) => ("False", "Pending", counted),
    };
    let ours = [accepted, holds].into_iter().zip(OURS).map(|((status, reason, message), kind)| Said { kind, status, reason, message });
    let all = conditions(there, ours.collect(), generation, times.now);

    let wanted = json!({
        "conditions": all,
        "digest": policy.ok().map(policy_digest),
        "controls": policy.ok().map(controls),
        "pods": {"selected": selected, "inForce": in_force, "summary": format!("{in_force}/{selected}")},
        "workloads": rows,
        "observed": observed,
        "changed": changed_text,
        "lag": lag,
    });
    let right = wanted.as_object().into_iter().flatten().all(|(key, value)| there.get(key).unwrap_or(&Value::Null) == value);
    (!right).then_some(wanted)
}

/// A condition, as it should be.
pub(crate) struct Said {
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The conditions that should be there: others' as they are, and ours, each with the time of its last change.
pub(crate) fn conditions(there: &Value, ours: Vec<Said>, generation: Option<i64>, now: u64) -> Vec<Value> {
    let conditions = there["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all: Vec<Value> =
        conditions.iter().filter(|condition| !ours.iter().any(|ours| condition["type"] == ours.kind)).cloned().collect();
    all.extend(ours.into_iter().map(|Said { kind, status, reason, message }| {
        let before = conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == status);
        let since = before.map(|condition| condition["lastTransitionTime"].clone()).filter(|since| !since.is_null());
        json!({
            "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or_else(|| json!(Timestamp::from_millisecond(i64::try_from(now).unwrap_or_default()).ok().map(Time))),
        })
    }));
    all
}

/// What is counted: two replicas that see the same pods with the same settings to load count the same.
fn observed(shares: &[Share]) -> String {
    let mut text = String::new();
    for share in shares {
        for part in [&share.workload, &share.digest].into_iter().chain(share.pods.iter().map(|pod| &pod.uid)) {
            text.push_str(part);
            text.push('\n');
        }
    }
    digest(&text).chars().take(16).collect()
}

/// How long the last change took until it was in force on every pod that ran before it. Measured once, by whoever sees it first; a pod
/// that came later brought the change with it, and a change of long before this replica began was not seen.
fn lag(there: &Value, shares: &[Share], changed: u64, changed_text: &Value, complete: bool, times: Times) -> Option<String> {
    let same = there["changed"] == *changed_text;
    if let Some(lag) = there["lag"].as_str().filter(|_| same) {
        return Some(lag.to_owned());
    }
    let second = i64::try_from(changed / 1000).unwrap_or(i64::MAX);
    let is_older = |pod: &&Loaded| pod.created.is_some_and(|created| created.saturating_add(OLDER) < second);
    let mut older =
        shares.iter().flat_map(|share| share.pods.iter().filter(is_older).map(move |pod| pod.in_force && share.current)).peekable();
    let seen = changed >= times.began || same && there["pods"]["inForce"].as_u64() < there["pods"]["selected"].as_u64();
    if !seen || older.peek().is_none() || !(complete || older.all(|in_force| in_force)) {
        return None;
    }
    let took = times.now.saturating_sub(changed);
    Some(format!("{}.{}s", took / 1000, took % 1000 / 100))
}

/// The controls that the policy says something of.
fn controls(policy: &GuardPolicy) -> String {
    let spec = serde_json::to_value(&policy.spec).unwrap_or_default();
    let members = spec.as_object().map(Map::keys).into_iter().flatten();
    let named: Vec<&str> = members.map(String::as_str).filter(|name| !NO_CONTROLS.contains(name)).collect();
    if named.is_empty() { "defaults".into() } else { named.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { now: 1_000_010_500, began: 1_000_000_000 };

    fn policy() -> GuardPolicy {
        GuardPolicy::read("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {tools: {mode: hard}, redaction: {kinds: [email]}}")
            .unwrap()
    }

    fn share(workload: &str, pods: &[(&str, bool)]) -> Share {
        let pods = pods.iter().map(|(uid, in_force)| Loaded { uid: (*uid).into(), created: Some(999_000), in_force: *in_force });
        Share { workload: workload.into(), digest: format!("d-{workload}"), changed: 1_000_009_200, current: true, pods: pods.collect() }
    }

    fn merged(mut there: Value, patch: &Value) -> Value {
        for (key, value) in patch.as_object().unwrap() {
            if value.is_null() {
                there.as_object_mut().unwrap().remove(key);
            } else {
                there[key] = value.clone();
            }
        }
        there
    }

    fn step(there: &Value, shares: Vec<Share>) -> Value {
        let policy = policy();
        status(there, Some(1), Ok(&policy), shares, TIMES).map_or_else(|| there.clone(), |patch| merged(there.clone(), &patch))
    }

    #[test]
    fn it_says_on_how_many_pods_which_settings_are_in_force_and_how_long_it_took() {
        let first = step(&json!({}), vec![share("b", &[("1", true), ("2", false)]), share("a", &[("3", true)])]);
        assert_eq!(first["pods"], json!({"selected": 3, "inForce": 2, "summary": "2/3"}));
        assert_eq!(first["workloads"][0], json!({"workload": "a", "digest": "d-a", "pods": 1, "inForce": 1}));
        assert_eq!((&first["controls"], &first["lag"]), (&json!("redaction,tools"), &Value::Null));
        assert_eq!(first["changed"], "1970-01-12T13:46:49.2Z");
        assert_eq!(first["conditions"][1]["reason"], "Pending");
        let second = step(&first, vec![share("b", &[("1", true), ("2", true)]), share("a", &[("3", true)])]);
        assert_eq!((&second["pods"]["summary"], &second["lag"]), (&json!("3/3"), &json!("1.3s")));
        assert_eq!((&second["conditions"][1]["status"], &second["conditions"][0]["status"]), (&json!("True"), &json!("True")));
        assert_eq!(second["conditions"][0]["lastTransitionTime"], first["conditions"][0]["lastTransitionTime"]);
    }

    #[test]
    fn what_one_replica_knows_another_that_knows_less_leaves() {
        let (more, less) = (share("a", &[("1", true), ("2", true)]), share("a", &[("2", true), ("1", false)]));
        let full = step(&json!({}), vec![more.clone()]);
        let policy = policy();
        let later = Times { now: TIMES.now + 60_000, ..TIMES };
        for shares in [vec![less.clone()], vec![more.clone()]] {
            assert_eq!(status(&full, Some(1), Ok(&policy), shares, later), None);
        }
        // And the other way round they end the same.
        let first = step(&json!({}), vec![less.clone()]);
        assert_eq!(first["pods"]["summary"], "1/2");
        let both = step(&step(&first, vec![more.clone()]), vec![less.clone()]);
        assert_eq!(both["pods"]["summary"], "2/2");
        // Of other pods, or other settings, nothing is known yet.
        assert_eq!(step(&full, vec![share("a", &[("1", true), ("3", false)])])["pods"]["summary"], "1/2");
        assert_eq!(step(&full, vec![Share { digest: "new".into(), ..less }])["pods"]["summary"], "1/2");
    }

    #[test]
    fn what_doesnt_load_is_in_force_nowhere_and_without_pods_nobody_knows() {
        let old = Share { current: false, ..share("a", &[("1", true)]) };
        let said = status(&json!({}), Some(2), Err("spec.tols: no"), vec![old], TIMES).unwrap();
        assert_eq!((&said["pods"]["summary"], &said["digest"]), (&json!("0/1"), &Value::Null));
        assert_eq!((&said["conditions"][0]["message"], &said["conditions"][1]["status"]), (&json!("spec.tols: no"), &json!("False")));
        let none = step(&json!({"conditions": [{"type": "Others"}]}), Vec::new());
        assert_eq!((&none["conditions"][0]["type"], &none["conditions"][2]["status"]), (&json!("Others"), &json!("Unknown")));
        assert_eq!((&none["pods"]["summary"], none.get("changed")), (&json!("0/0"), None));
    }

    #[test]
    fn a_lag_is_that_of_a_change_that_was_seen_and_of_pods_that_were_there() {
        let with = |created: i64, changed: u64| {
            let mut share = share("a", &[("1", true)]);
            (share.pods[0].created, share.changed) = (Some(created), changed);
            step(&json!({}), vec![share])["lag"].clone()
        };
        assert_eq!(with(999_000, 1_000_009_200), "1.3s");
        assert_eq!(with(1_000_008, 1_000_009_200), Value::Null);
        assert_eq!(with(900_000, 999_999_999), Value::Null);
    }
}

//! What `check --kinds` prints: every kind of secret and of personal data that a policy can name, for people and for programs.
//!
//! The invariant: each name in it is one that a policy may have in `redaction.kinds`.

use std::fmt::Write as _;

use llm_guard_engine::detect::secrets::{Group, Kind};
use serde_json::{Value, json};

/// By group, under a heading each: a kind's key, its name in marks and metrics, and what it is.
pub(super) fn as_text() -> String {
    let width = |of: fn(Kind) -> &'static str| Kind::all().map(|kind| of(kind).len()).max().unwrap_or_default();
    let (keys, names) = (width(Kind::key), width(Kind::name));
    let mut out = String::new();
    for group in Group::all() {
        let _ = writeln!(out, "{}: {}", group.key(), group.about());
        for kind in group.kinds() {
            let _ = writeln!(out, "    {:<keys$}  {:<names$}  {}", kind.key(), kind.name(), kind.about());
        }
        out.push('\n');
    }
    let count = Kind::all().count();
    let _ = writeln!(
        out,
        "{count} kinds, each with its key, its name in marks ([REDACTED_NAME]) and in metrics, and what it is.\n\
         A policy's redaction.kinds takes the keys of kinds and of groups, and `secrets` for every group but personalData."
    );
    out
}

/// The same, a kind an object.
pub(super) fn as_json() -> Value {
    let entry = |kind: Kind| {
        let group = kind.group();
        let groups = if is_secret(group) { vec!["secrets", group.key()] } else { vec![group.key()] };
        json!({"key": kind.key(), "name": kind.name(), "mark": kind.mark(), "about": kind.about(), "groups": groups, "atMost": kind.longest()})
    };
    Kind::all().map(entry).collect()
}

fn is_secret(group: Group) -> bool {
    matches!(group, Group::Secrets(_))
}

#[cfg(test)]
mod tests {
    use llm_guard_engine::controls::Policy;
    use llm_guard_engine::policy::GuardPolicy;
    use llm_guard_engine::policy::settings::Standing;

    use super::*;

    fn is_known(name: &str) -> bool {
        let text = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {{redaction: {{kinds: [{name}]}}}}\n");
        GuardPolicy::read_and(&text, |document| Policy::compile(document, &Standing::default())).is_ok()
    }

    #[test]
    fn every_kind_stands_in_a_line_of_its_own_below_its_group() {
        let text = as_text();
        let mut heading = "";
        let mut found = 0;
        for line in text.lines() {
            match line.strip_prefix("    ") {
                Some(row) => {
                    let words: Vec<&str> = row.split_whitespace().take(2).collect();
                    let kind = Kind::of_key(words[0]).unwrap_or_else(|| panic!("{row}"));
                    assert_eq!((kind.name(), kind.group().key()), (words[1], heading));
                    assert!(row.ends_with(kind.about()), "{row}");
                    found += 1;
                }
                None => heading = line.split(':').next().unwrap_or_default(),
            }
        }
        assert_eq!(found, Kind::all().count());
    }

    #[test]
    fn a_policy_may_name_every_group_and_a_kind_of_each() {
        for group in Group::all() {
            let first = group.kinds().next().unwrap_or_else(|| panic!("{group:?} is empty"));
            assert!(is_known(group.key()) && is_known(first.key()), "{group:?}");
        }
        assert!(is_known("secrets") && !is_known("anything"));
    }

    #[test]
    fn programs_get_the_kinds_that_people_get() {
        let json = as_json();
        let entries = json.as_array().unwrap();
        assert_eq!(entries.len(), Kind::all().count());
        let of = |key: &str| entries.iter().find(|entry| entry["key"] == key).unwrap();
        assert_eq!(of("githubToken")["mark"], "[REDACTED_GITHUB_TOKEN]");
        assert_eq!(of("githubToken")["groups"], json!(["secrets", "code"]));
        assert_eq!((&of("ssn")["groups"], &of("ssn")["atMost"]), (&json!(["personalData"]), &json!(128)));
        assert_eq!(of("jwtToken")["atMost"], Value::Null);
    }
}

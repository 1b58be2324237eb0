//! `docs/kinds.md` is what the pack looks for: its tables are made here, of the pack itself, and a page that has grown old fails.
//!
//! With `LLM_GUARD_WRITE_DOCS=1` it is written anew.

use std::fmt::Write as _;
use std::sync::Arc;

use llm_guard_engine::detect::sample::samples;
use llm_guard_engine::detect::secrets::{Group, HOLD_LIMIT, Kind, Scanner, SecretRules};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kinds.md");

/// What a text waits for beside what has begun as a value: the beginnings of words, escapes and encoded runs.
const BESIDE: usize = 48;

const INTRODUCTION: &str = "\
<!-- Made by `LLM_GUARD_WRITE_DOCS=1 cargo test -p llm-guard-engine --test kinds`. -->
# Kinds of secrets and personal data

What `redaction` looks for. A policy names kinds by their keys, or by the groups in the headings; `secrets` stands for every group but
`personalData`. Without `redaction.kinds` every kind is looked for. `llm-guard-sidecar check --kinds` prints the list of the guard at hand,
with `--format json` for programs. [policy.md](policy.md#redaction) says the rest.

*At most* is how many bytes of a stream wait because they have begun as such a value and may still turn out to be none. What has become
one by then, and goes on without a gap (letters, digits, `_`, `-`), waits for that gap as well. No text waits for longer than 16 KiB: what
goes on that long counts as a value. A word of ordinary text waits for the character behind it, since an `@` might follow: a word of up to
128 characters, which is the most that an e-mail address has before it. In disguise a value takes more bytes, and so many more wait.
";

fn page() -> String {
    assert_eq!(HOLD_LIMIT, 16 * 1024, "the page says so");
    let mut page = INTRODUCTION.to_owned();
    for group in Group::all() {
        let (key, about, count) = (group.key(), group.about(), group.kinds().count());
        let _ = write!(page, "\n## {key}\n\n{about}. {count} kinds.\n\n| Key | Mark | What it is | At most |\n|---|---|---|---:|\n");
        for kind in group.kinds() {
            let longest = kind.longest().map_or_else(|| "as long as it goes on".into(), |longest| longest.to_string());
            let _ = writeln!(page, "| `{}` | `{}` | {} | {longest} |", kind.key(), kind.mark(), kind.about().replace('|', "\\|"));
        }
    }
    page
}

#[test]
fn the_page_about_the_kinds_says_what_is_looked_for() {
    let page = page();
    if std::env::var_os("LLM_GUARD_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    assert!(std::fs::read_to_string(PAGE).unwrap_or_default() == page, "docs/kinds.md is old: LLM_GUARD_WRITE_DOCS=1 writes it anew");
}

#[test]
fn every_kind_stands_in_one_group() {
    let grouped: Vec<Kind> = Group::all().flat_map(Group::kinds).collect();
    assert_eq!(grouped, Kind::all().collect::<Vec<_>>());
}

#[test]
fn the_longest_text_that_is_open_is_told_of_each_form_of_a_kind() {
    let longest = |name: &str| Kind::of_name(name).unwrap().longest();
    assert_eq!(longest("GITHUB_TOKEN"), Some(40));
    assert_eq!(longest("RAILS_MASTER_KEY"), Some(32));
    assert_eq!((longest("SSN"), longest("CREDIT_CARD")), (Some(128), Some(128)));
    for name in ["JWT_TOKEN", "EMAIL", "IP_ADDRESS", "MAC_ADDRESS"] {
        assert_eq!(longest(name), None, "{name}");
    }
    assert_eq!(Kind::CUSTOM.longest(), None);
}

#[test]
fn no_more_is_held_back_than_is_told_but_of_what_is_a_value() {
    for kind in Kind::all() {
        let Some(longest) = kind.longest() else { continue };
        let rules = Arc::new(SecretRules::new(&[kind]));
        for sample in samples(kind, 7) {
            for tail in [sample.after.clone(), "A7".repeat(40), "-é".to_owned()] {
                let (mut scanner, mut out, mut count) = (Scanner::new(Arc::clone(&rules)), String::new(), 0);
                scanner.push(&sample.before, &mut out, &mut |_| {});
                let mut held = 0;
                for piece in [sample.value.as_str(), &tail].concat().split_inclusive(|_: char| true) {
                    scanner.push(piece, &mut out, &mut |_| count += 1);
                    held = held.max(scanner.held());
                }
                scanner.finish(&mut out, &mut |_| count += 1);
                assert!(held <= longest.max(BESIDE) || count > 0, "{kind:?}: {held} of {longest} before {tail}");
            }
        }
    }
}

//! `replay`: judges recorded exchanges by a policy that isn't in force yet, and shows what would change, control by control.
//!
//! The invariant: no text of an exchange is printed; an exchange is named by its id, or by its line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use llm_guard_engine::controls::Policy;
use llm_guard_engine::exchange::{Shadowed, Verdict};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use serde_json::{Value, json};

use super::lines;
use super::progress::Progress;
use super::say;
use crate::recorded::{self, Line, Logged, MAX_LINE};

const AFTER_HELP: &str = "\
A line of a recording is an exchange, as `run --record FILE` writes it: path, request and answer.
A line of the guard's own log counts as well. It holds no texts, so that of it only modes can be
decided again: what was found then, and whether the new policy would act on it.

Where a model runs isn't asked: every model counts as running here. An answer is the one to the
request that was sent then, also where the new policy would have changed that.

It ends with 0 once all was judged, and with 2 if a file can't be read.";

/// How many of the exchanges that would end otherwise are named.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The policy that may come into force
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The policy that it is compared with [default: the built-in one, in monitor]
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Judge as where the workload or its namespace says llm-guard.io/mode: MODE
    #[arg(long, value_name = "MODE", value_parser = clap::value_parser!(Mode))]
    mode: Option<Mode>,
    /// The recordings; `-` is standard input
    #[arg(value_name = "RECORDING", required = true)]
    files: Vec<String>,
    /// How to say it: `text` for people, `json` for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What is counted of a finding: by the control, the kind and the action.
type Findings = BTreeMap<(&'static str, &'static str, &'static str), u64>;

/// What came of the exchanges under one policy.
#[derive(Debug, Default)]
struct Sum {
    verdicts: BTreeMap<&'static str, u64>,
    findings: Findings,
}

impl Sum {
    fn add(&mut self, seen: &Shadowed) {
        *self.verdicts.entry(seen.verdict().name()).or_default() += 1;
        for (violation, times) in &seen.violations {
            *self.findings.entry((violation.control.name(), violation.kind, violation.action.name())).or_default() += times;
        }
    }
}

/// An exchange that would end otherwise.
#[derive(Debug)]
struct Changed {
    name: String,
    before: Verdict,
    after: Verdict,
    rule: Option<Arc<str>>,
    /// What the new policy finds that the other one didn't, or acts on in another way.
    why: Vec<String>,
}

#[derive(Debug, Default)]
struct Report {
    exchanges: u64,
    before: Sum,
    after: Sum,
    changed: Vec<Changed>,
    changes: u64,
    /// Of lines without texts: by control and kind, in how many exchanges it was found, and in what mode it would be judged now.
    logged: BTreeMap<(String, String), (u64, Mode)>,
    logged_exchanges: u64,
    unread: Vec<String>,
    unread_lines: u64,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match replay(args) {
        Ok(report) => {
            let text = match args.format {
                Format::Text => as_text(&report),
                Format::Json => format!("{:#}\n", as_json(&report)),
            };
            say(&text, ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}

fn replay(args: &Args) -> Result<Report, String> {
    let standing = Standing::of(args.mode);
    let after = load(&args.policy, standing)?;
    let before = match &args.against {
        Some(path) => load(path, standing)?,
        None => Policy::compile(&GuardPolicy::built_in(), &Standing::default()).map_err(|error| error.to_string())?,
    };
    let mut report = Report::default();
    let mut progress = Progress::new("exchanges");
    for file in &args.files {
        lines::each(lines::open(file)?, file, MAX_LINE, |line, place| {
            report.take(place, String::from_utf8_lossy(line).trim(), &before, &after);
            progress.tell(report.exchanges + report.logged_exchanges);
            Ok::<_, String>(())
        })?;
    }
    progress.end();
    Ok(report)
}

fn load(path: &std::path::Path, standing: Standing) -> Result<Arc<Policy>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let judged = GuardPolicy::read_and(&text, |document| Policy::compile(document, &standing));
    judged.map(|(_, policy)| policy).map_err(|error| format!("{}: {error}", path.display()))
}

impl Report {
    fn take(&mut self, place: &str, text: &str, before: &Arc<Policy>, after: &Arc<Policy>) {
        match Line::read(text) {
            Err(error) => {
                self.unread_lines += 1;
                if self.unread.len() < NAMED {
                    self.unread.push(format!("{place}: {error}"));
                }
            }
            Ok(Line::Other) => {}
            Ok(Line::Logged(logged)) => self.take_logged(&logged, after),
            Ok(Line::Exchange(recorded)) => {
                self.exchanges += 1;
                let (before, after) = (recorded::judge(before, &recorded).seen, recorded::judge(after, &recorded).seen);
                self.before.add(&before);
                self.after.add(&after);
                if before.verdict() != after.verdict() || before.refused != after.refused {
                    self.changes += 1;
                    if self.changed.len() < NAMED {
                        let id = recorded.id.filter(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()));
                        let name = id.map_or_else(|| place.to_owned(), |id| format!("{place} ({id})"));
                        let new = after.violations.keys().filter(|violation| !before.violations.contains_key(violation));
                        let why = new.map(|found| format!("{}/{} {}", found.control.name(), found.kind, found.action.name())).collect();
                        self.changed.push(Changed { name, before: before.verdict(), after: after.verdict(), rule: after.rule, why });
                    }
                }
            }
        }
    }

    fn take_logged(&mut self, logged: &Logged, after: &Policy) {
        self.logged_exchanges += 1;
        for violation in &logged.violations {
            let control = after.controls.iter().find(|control| control.id().name() == violation.control);
            // What is no control's own business is held to the strictest mode.
            let mode = control.map_or(after.mode, |control| control.mode());
            self.logged.entry((plain(&violation.control), plain(&violation.kind))).or_insert((0, mode)).0 += 1;
        }
    }
}

/// A name out of a log, which anybody may have written.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(64).collect()
}

const VERDICTS: [Verdict; 3] = [Verdict::Passed, Verdict::Mended, Verdict::Refused];

fn as_text(report: &Report) -> String {
    let mut out = String::new();
    if report.exchanges > 0 {
        let _ = writeln!(out, "{} exchanges with their texts           before     after", report.exchanges);
        let count = |of: &BTreeMap<&'static str, u64>, name: &str| of.get(name).copied().unwrap_or_default();
        for verdict in VERDICTS.map(Verdict::name) {
            let (before, after) = (count(&report.before.verdicts, verdict), count(&report.after.verdicts, verdict));
            let _ = writeln!(out, "  {verdict:<38}{before:>8}  {after:>8}");
        }
        let keys: std::collections::BTreeSet<_> = report.before.findings.keys().chain(report.after.findings.keys()).collect();
        if !keys.is_empty() {
            let _ = writeln!(out, "\n  {:<19}{:<24}{:<10}{:>6}  {:>8}", "control", "kind", "action", "before", "after");
        }
        for key in keys {
            let of = |sum: &Sum| sum.findings.get(key).copied().unwrap_or_default();
            let (before, after) = (of(&report.before), of(&report.after));
            let (control, kind, action) = key;
            let _ = writeln!(out, "  {control:<19}{kind:<24}{action:<10}{before:>6}  {after:>8}");
        }
        let _ = writeln!(out, "\n{} would end otherwise", report.changes);
        for Changed { name, before, after, rule, why } in &report.changed {
            let rule = rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
            let _ = writeln!(out, "  {name}: {} -> {}{rule}{why}", before.name(), after.name());
        }
        if report.changes > report.changed.len() as u64 {
            let _ = writeln!(out, "  and {} more", report.changes - report.changed.len() as u64);
        }
    }
    if report.logged_exchanges > 0 {
        let _ = writeln!(
            out,
            "\n{} exchanges without texts: of these only modes can be decided again (and no rule of the policy counts)",
            report.logged_exchanges
        );
        for ((control, kind), (exchanges, mode)) in &report.logged {
            let does = if *mode == Mode::Monitor { "counts" } else { "acts" };
            let _ = writeln!(out, "  {control:<19}{kind:<24}{exchanges:>6}  now {mode}: {does}");
        }
    }
    for line in &report.unread {
        let _ = writeln!(out, "not judged: {line}");
    }
    if report.unread_lines > report.unread.len() as u64 {
        let _ = writeln!(out, "not judged: {} more lines", report.unread_lines - report.unread.len() as u64);
    }
    if out.is_empty() {
        out.push_str("there is no exchange in it\n");
    }
    out
}

fn as_json(report: &Report) -> Value {
    let sum = |sum: &Sum| {
        let findings = sum
            .findings
            .iter()
            .map(|((control, kind, action), count)| json!({"control": control, "kind": kind, "action": action, "count": count}));
        json!({"verdicts": sum.verdicts, "findings": findings.collect::<Vec<_>>()})
    };
    let changed = report.changed.iter().map(|Changed { name, before, after, rule, why }| {
        json!({"exchange": name, "before": before.name(), "after": after.name(), "rule": rule.as_deref(), "why": why})
    });
    let logged = report
        .logged
        .iter()
        .map(|((control, kind), (exchanges, mode))| json!({"control": control, "kind": kind, "exchanges": exchanges, "mode": mode.name()}));
    json!({
        "exchanges": report.exchanges,
        "before": sum(&report.before),
        "after": sum(&report.after),
        "changes": report.changes,
        "changed": changed.collect::<Vec<_>>(),
        "withoutTexts": {"exchanges": report.logged_exchanges, "found": logged.collect::<Vec<_>>()},
        "notJudged": report.unread_lines,
    })
}

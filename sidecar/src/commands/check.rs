//! `check`: judges policy files before they meet traffic.
//!
//! The invariant: what it accepts, a guard loads, since both read and compile it by the same code. It connects to nothing and changes
//! nothing.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::process::ExitCode;

use llm_guard_engine::controls::rego::trial::{self, Outcome};
use llm_guard_engine::controls::{Control, Policy};
use llm_guard_engine::exchange::Verdict;
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{Document, GuardPolicy, Mode, PolicyError, REGO_INPUT_SCHEMA, RegoSpec, SCHEMA, Spec};
use llm_guard_engine::verdict::ControlId;
use serde_json::{Value, json};

use super::reference::Reference;
use super::{kinds, say};
use crate::recorded::{self, Judged, Recorded};

const AFTER_HELP: &str = "\
A file may hold several documents, and other objects of Kubernetes among them: these are named and
not judged. A file without any GuardPolicy is an error.

With --test, files that end in .rego are modules: what tests they have is run with the rules and
the data of each policy among the files, or by itself where there is none.

It ends with 0 if every policy is sound and every test passes, with 1 if one doesn't, and with 2
if a file can't be read.";

/// What a policy file may have. Kubernetes keeps one object to 1.5 MiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// The files; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["schema", "from_env", "kinds"])]
    files: Vec<String>,
    /// How to say it: `text` for people, `json` for programs, `sarif` (2.1.0) for code review
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Show in which mode each control would run, and why
    #[arg(long)]
    explain: bool,
    /// Show what becomes of a request: a file with its body in JSON; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "explain")]
    request: Option<String>,
    /// The route over which that request comes
    #[arg(long, value_name = "[METHOD ]PATH", default_value = "/api/chat", requires = "request")]
    route: String,
    /// That request comes from the model's own pod, over the loopback
    #[arg(long, requires = "request")]
    from_pod: bool,
    /// Judge as where the workload or its namespace says llm-guard.io/mode: MODE
    #[arg(long, value_name = "MODE", value_parser = clap::value_parser!(Mode))]
    mode: Option<Mode>,
    /// Judge as where the namespace says llm-guard.io/minimum-mode: MODE
    #[arg(long, value_name = "MODE", value_parser = clap::value_parser!(Mode))]
    floor: Option<Mode>,
    /// Print the policy that the reference gateway's settings come to: its variables, as its `.env` file has them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "explain", "mode", "floor", "format"])]
    from_env: Option<String>,
    /// Run the unit tests of rules in Rego: the rules whose names begin with `test_`, as `opa test` does
    #[arg(long, conflicts_with_all = ["explain", "format", "from_env"])]
    test: bool,
    /// Print a JSON Schema: of the document, or of what rules in Rego see of a request
    #[arg(
        long, value_name = "OF", num_args = 0..=1, default_missing_value = "policy",
        conflicts_with_all = ["files", "explain", "mode", "floor", "format", "from_env", "test"]
    )]
    schema: Option<Schema>,
    /// Print the kinds of secrets and personal data that a policy can name in `redaction.kinds`, as `text` or `json`
    #[arg(long, conflicts_with_all = ["files", "explain", "mode", "floor", "from_env", "test", "schema"])]
    kinds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Schema {
    Policy,
    RegoInput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
}

/// What is said of one document, or of a file as a whole.
#[derive(Debug)]
struct Told {
    file: String,
    is: Is,
}

#[derive(Debug)]
enum Is {
    /// A sound policy: its name, in which mode each control runs and why, the same for each rule, and what becomes of the request.
    Sound {
        name: String,
        rows: Vec<Row>,
        rules: Vec<RuleRows>,
        request: Option<Judged>,
    },
    /// Another object, of this kind.
    Other(String),
    Broken(PolicyError),
    Unread(String),
}

/// The same where a rule fits: its name, the keys that it has, and the modes.
#[derive(Debug)]
struct RuleRows {
    rule: String,
    said: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    control: ControlId,
    mode: Mode,
    why: &'static str,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    if let Some(schema) = args.schema {
        let text = match schema {
            Schema::Policy => SCHEMA,
            Schema::RegoInput => REGO_INPUT_SCHEMA,
        };
        return say(text, ExitCode::SUCCESS);
    }
    if args.kinds {
        return match args.format {
            Format::Text => say(&kinds::as_text(), ExitCode::SUCCESS),
            Format::Json => say(&format!("{:#}\n", kinds::as_json()), ExitCode::SUCCESS),
            Format::Sarif => {
                eprintln!("check: --kinds has nothing to say in SARIF, which tells of what is wrong: take text or json");
                ExitCode::from(2)
            }
        };
    }
    if let Some(file) = &args.from_env {
        return match of_reference(file) {
            Ok(text) => say(&text, ExitCode::SUCCESS),
            Err(error) => {
                eprintln!("check: {file}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let standing = Standing { mode: args.mode, floor: args.floor, ..Standing::default() };
    if args.test {
        let (text, status) = test(&args.files, standing);
        return say(&text, ExitCode::from(status));
    }
    let request = match args.request.as_deref().map(|file| request(file, args)).transpose() {
        Ok(request) => request,
        Err(error) => {
            eprintln!("check: {error}");
            return ExitCode::from(2);
        }
    };
    let mut told = Vec::new();
    let mut texts = Vec::new();
    for file in &args.files {
        match read(file) {
            Ok(text) => {
                judge(file, &text, standing, request.as_ref(), &mut told);
                texts.push((file.clone(), text));
            }
            Err(error) => told.push(Told { file: file.clone(), is: Is::Unread(error) }),
        }
    }
    let text = match args.format {
        Format::Text => as_text(&told, &texts, args.explain),
        Format::Json => format!("{:#}\n", as_json(&told)),
        Format::Sarif => format!("{:#}\n", as_sarif(&told)),
    };
    let status = if told.iter().any(|told| matches!(told.is, Is::Unread(_))) {
        ExitCode::from(2)
    } else if told.iter().any(|told| matches!(told.is, Is::Broken(_))) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    say(&text, status)
}

/// The policy that the variables in a file come to, with what has to be known of it as comments.
fn of_reference(file: &str) -> Result<String, String> {
    let text = read(file)?;
    let variables: Result<HashMap<String, String>, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
    // (What it says of a line has the line in it, and there may be a key.)
    let variables = variables.map_err(|_| "it has a line that is no NAME=VALUE")?;
    let reference = Reference::read(|name| variables.get(name).cloned()).map_err(|error| error.to_string())?;
    let mut policy = reference.policy.ok_or("none of the reference gateway's variables is in it")?;
    "default".clone_into(&mut policy.metadata.name);
    policy.spec.mode = Some(reference.mode.unwrap_or_default());
    Policy::compile(&policy, &Standing::default()).map_err(|error| error.to_string())?;
    let mut out = String::new();
    for remark in &reference.remarks {
        let _ = writeln!(out, "# {remark}.");
    }
    let flags = [
        ("OLLAMA_BASE_URL", "--upstream"),
        ("REQUEST_TIMEOUT_SECONDS", "--request-timeout"),
        ("MAX_RETRIES", "--retries"),
        ("REQUIRE_API_KEY", "LLM_GUARD_API_KEY"),
        ("LOG_LEVEL", "--log-level"),
        ("HOST", "--listen"),
        ("PORT", "--listen"),
    ];
    for (variable, flag) in flags.into_iter().filter(|(variable, _)| variables.contains_key(*variable)) {
        let _ = writeln!(out, "# {variable} is no matter of a policy: the guard reads it where it runs, or takes {flag}.");
    }
    Ok(out + &policy.to_yaml().map_err(|error| error.to_string())?)
}

fn read(file: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let input: Box<dyn std::io::Read> =
        if file == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(file).map_err(|error| error.to_string())?) };
    input.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it has more than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

fn judge(file: &str, text: &str, standing: Standing, request: Option<&Recorded>, told: &mut Vec<Told>) {
    let documents = GuardPolicy::documents(text);
    let mut tell = |is| told.push(Told { file: file.to_owned(), is });
    let mut policies = 0;
    for Document { text, lines_before, kind } in documents {
        match kind {
            Some(kind) if kind != "GuardPolicy" => tell(Is::Other(kind)),
            _ => {
                policies += 1;
                tell(match GuardPolicy::read_and(text, |document| Policy::compile(document, &standing)) {
                    Ok((document, policy)) => Is::Sound {
                        name: document.metadata.name.clone(),
                        rows: rows(&document.spec, &policy, standing),
                        rules: document
                            .spec
                            .rules
                            .iter()
                            .zip(policy.of_rules())
                            .map(|(rule, of)| {
                                let name = of.rule.as_deref().unwrap_or_default().to_owned();
                                RuleRows { rule: name, said: rule.says(), rows: rows(&rule.over(&document.spec), of, standing) }
                            })
                            .collect(),
                        request: request.map(|request| recorded::judge(&policy, request)),
                    },
                    Err(error) => Is::Broken(error.below(lines_before)),
                });
            }
        }
    }
    if policies == 0 {
        tell(Is::Broken(PolicyError::new("", "there is no GuardPolicy in it")));
    }
}

/// The request of a file, as it would come.
fn request(file: &str, args: &Args) -> Result<Recorded, String> {
    let (method, path) = args.route.trim().rsplit_once(' ').unwrap_or(("POST", args.route.trim()));
    let body = read(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(Recorded { method: method.trim().to_owned(), path: path.to_owned(), from_pod: args.from_pod, request: body, ..Recorded::default() })
}

fn rows(spec: &Spec, policy: &Policy, standing: Standing) -> Vec<Row> {
    let own = |control| match control {
        ControlId::PromptInjection => spec.prompt_injection.mode,
        ControlId::Redaction => spec.redaction.mode,
        ControlId::Models => spec.models.mode,
        ControlId::Tools => spec.tools.mode,
        ControlId::Rego => spec.rego.mode,
        ControlId::Management => spec.management.mode,
        ControlId::Stop | ControlId::Identity | ControlId::Limits | ControlId::Protocol => None,
    };
    let row = |control: &dyn Control| {
        let (control, mode) = (control.id(), control.mode());
        let asked = Standing { floor: None, ..standing }.resolve(own(control), spec.mode);
        let why = match (own(control), standing.mode) {
            _ if asked < mode => "the floor",
            (Some(own), Some(_)) if own > mode => "llm-guard.io/mode, which is lower than its own",
            (Some(_), _) => "its own mode",
            (None, Some(_)) => "llm-guard.io/mode",
            (None, None) if spec.mode.is_some() => "the policy's mode",
            (None, None) => "nothing says another",
        };
        Row { control, mode, why }
    };
    let mut rows: Vec<Row> = policy.controls.iter().map(|control| row(control.as_ref())).collect();
    rows.insert(0, Row { control: ControlId::Protocol, mode: policy.mode, why: "the strictest of all" });
    rows
}

/// Runs the tests of the files: what is said of them, and the status with which to end.
fn test(files: &[String], standing: Standing) -> (String, u8) {
    let mut modules = Vec::new();
    let mut policies: Vec<(String, RegoSpec)> = Vec::new();
    for file in files {
        let text = match read(file) {
            Ok(text) => text,
            Err(error) => return (format!("{file}: error: {error}\n"), 2),
        };
        if std::path::Path::new(file).extension().is_some_and(|extension| extension == "rego") {
            modules.push((file.clone(), text));
            continue;
        }
        for Document { text, lines_before, .. } in GuardPolicy::documents(&text).into_iter().filter(|document| is_policy(document)) {
            match GuardPolicy::read_and(text, |document| Policy::compile(document, &standing)) {
                Ok((document, _)) => policies.push((format!("{file}: {}", document.metadata.name), document.spec.rego)),
                Err(error) => return (format!("{file}: error: {}\n", error.below(lines_before)), 1),
            }
        }
    }
    if policies.is_empty() {
        policies.push((String::new(), RegoSpec::default()));
    }
    let mut out = String::new();
    let (mut passed, mut all) = (0, 0);
    for (policy, spec) in &policies {
        if !policy.is_empty() {
            let _ = writeln!(out, "{policy}");
        }
        let tested = match trial::test(spec, &modules) {
            Ok(tested) => tested,
            Err(error) => return (format!("{out}error: {error}\n"), 1),
        };
        for (name, outcome) in &tested {
            all += 1;
            passed += usize::from(*outcome == Outcome::Passed);
            let _ = match outcome {
                Outcome::Passed => writeln!(out, "{name}: PASS"),
                Outcome::Failed => writeln!(out, "{name}: FAIL"),
                Outcome::Broken(reason) => writeln!(out, "{name}: ERROR: {reason}"),
            };
        }
    }
    if all == 0 {
        let _ = writeln!(out, "there is no test: a rule whose name begins with test_ is one");
        return (out, 1);
    }
    let _ = writeln!(out, "{}, {} passed", plural(all, "test", "tests"), passed);
    (out, u8::from(passed < all))
}

fn is_policy(document: &Document<'_>) -> bool {
    document.kind.as_deref().is_none_or(|kind| kind == "GuardPolicy")
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn as_text(told: &[Told], texts: &[(String, String)], explain: bool) -> String {
    let mut out = String::new();
    let (mut sound, mut broken) = (0, 0);
    for Told { file, is } in told {
        let line = match is {
            Is::Sound { name, rows, rules, request } => {
                sound += 1;
                let name = if name.is_empty() { "a policy without a name" } else { name };
                let mut line = format!("{file}: {name}: sound\n");
                if explain {
                    modes(rows, &mut line);
                    for RuleRows { rule, said, rows } in rules {
                        let _ = writeln!(line, "  where {rule} fits, which says {}:", said.join(", "));
                        modes(rows, &mut line);
                    }
                }
                if let Some(judged) = request {
                    fate(judged, &mut line);
                }
                line
            }
            Is::Other(kind) => format!("{file}: a {}: not judged\n", kind.escape_debug()),
            Is::Broken(error) => {
                broken += 1;
                told_error(file, error, texts)
            }
            Is::Unread(error) => {
                broken += 1;
                format!("{file}: error: {error}\n")
            }
        };
        out.push_str(&line);
    }
    let _ = writeln!(out, "{}, {}", plural(sound, "sound policy", "sound policies"), plural(broken, "error", "errors"));
    out
}

/// In which mode each control runs.
fn modes(rows: &[Row], out: &mut String) {
    let _ = writeln!(out, "    {:<18}{:<8}{:<9}by", "control", "OWASP", "mode");
    for Row { control, mode, why } in rows {
        let _ = writeln!(out, "    {:<18}{:<8}{:<9}{why}", control.name(), control.owasp().unwrap_or("-"), mode.name());
    }
}

/// What becomes of a request.
fn fate(judged: &Judged, out: &mut String) {
    let Judged { seen, system_prompt } = judged;
    let rule = seen.rule.as_deref().map_or_else(|| "no rule fits".to_owned(), |rule| format!("{rule} fits"));
    let verdict = match (seen.verdict(), seen.refused) {
        (Verdict::Passed, _) => "it passes".to_owned(),
        (Verdict::Mended, _) => "it passes, mended".to_owned(),
        (Verdict::Refused, Some(status)) => format!("it is refused with {status}"),
        (Verdict::Refused, None) => "its answer ends early".to_owned(),
    };
    let _ = writeln!(out, "  the request: {rule}, {verdict}");
    for (found, times) in &seen.violations {
        let times = if *times > 1 { format!(", {times} times") } else { String::new() };
        let _ = writeln!(
            out,
            "    {:<18}{:<8}{:<9}{}: {}{times}",
            found.control.name(),
            found.control.owasp().unwrap_or("-"),
            found.mode.name(),
            found.kind,
            found.action.name()
        );
    }
    if let Some(digest) = system_prompt {
        let _ = writeln!(out, "    its system prompt is {digest}");
    }
}

/// An error, and the line in which it stands.
fn told_error(file: &str, error: &PolicyError, texts: &[(String, String)]) -> String {
    let Some(place) = error.place() else {
        return format!("{file}: error: {error}\n");
    };
    let mut out = format!("{file}:{}:{}: error: {}\n", place.line, place.column, error.clone().without_place());
    let text = texts.iter().find(|(name, _)| name == file).map_or("", |(_, text)| text);
    let index = usize::try_from(place.line - 1).unwrap_or(usize::MAX);
    if let Some(line) =
        text.lines().nth(index).filter(|line| line.chars().count() <= 160 && !line.chars().any(|c| c.is_control() && c != '\t'))
    {
        let before: String =
            line.chars().take(usize::try_from(place.column - 1).unwrap_or(usize::MAX)).map(|c| if c == '\t' { c } else { ' ' }).collect();
        let _ = write!(out, "  {:>5} | {line}\n        | {before}^\n", place.line);
    }
    out
}

fn as_json(told: &[Told]) -> Value {
    let entry = |Told { file, is }: &Told| match is {
        Is::Sound { name, rows, rules, request } => {
            let controls = |rows: &[Row]| {
                let row = |row: &Row| json!({"control": row.control.name(), "owasp": row.control.owasp(), "mode": row.mode.name(), "by": row.why});
                rows.iter().map(row).collect::<Value>()
            };
            let rules = rules
                .iter()
                .map(|RuleRows { rule, said, rows }| json!({"rule": rule, "says": said, "controls": controls(rows)}))
                .collect::<Value>();
            let mut entry = json!({"file": file, "verdict": "sound", "name": name, "controls": controls(rows), "rules": rules});
            if let Some(Judged { seen, system_prompt }) = request {
                let found = seen.violations.iter().map(|(found, times)| {
                    json!({"control": found.control.name(), "kind": found.kind, "mode": found.mode.name(), "action": found.action.name(), "count": times})
                });
                entry["request"] = json!({
                    "verdict": seen.verdict().name(), "mode": seen.mode.name(), "rule": seen.rule.as_deref(), "status": seen.refused,
                    "violations": found.collect::<Value>(), "systemPrompt": system_prompt,
                });
            }
            entry
        }
        Is::Other(kind) => json!({"file": file, "verdict": "notJudged", "kind": kind}),
        Is::Broken(error) => {
            let (line, column) = error.place().map(|place| (place.line, place.column)).unzip();
            json!({"file": file, "verdict": "error", "line": line, "column": column, "path": error.path(), "reason": error.reason()})
        }
        Is::Unread(reason) => json!({"file": file, "verdict": "unread", "reason": reason}),
    };
    Value::Array(told.iter().map(entry).collect())
}

/// Source: SARIF 2.1.0 (OASIS), sections 3.13, 3.27 and 3.30.
fn as_sarif(told: &[Told]) -> Value {
    let result = |Told { file, is }: &Told| {
        let (message, place) = match is {
            Is::Broken(error) => (error.clone().without_place().to_string(), error.place()),
            Is::Unread(reason) => (reason.clone(), None),
            Is::Sound { .. } | Is::Other(_) => return None,
        };
        let mut location = json!({"artifactLocation": {"uri": if file == "-" { "stdin" } else { file }}});
        if let Some(place) = place {
            location["region"] = json!({"startLine": place.line, "startColumn": place.column});
        }
        Some(json!({
            "ruleId": "policy", "ruleIndex": 0, "level": "error", "message": {"text": message},
            "locations": [{"physicalLocation": location}],
        }))
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "columnKind": "unicodeCodePoints",
            "tool": {"driver": {
                "name": "llm-guard-sidecar check",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": [{"id": "policy", "shortDescription": {"text": "A GuardPolicy that no guard loads"}}],
            }},
            "results": told.iter().filter_map(result).collect::<Vec<_>>(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: good}\nspec: {mode: soft, tools: {mode: hard}}\n";
    const BAD: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: bad}\nspec:\n  tools:\n    alow: [a]\n";

    fn judged(text: &str, standing: Standing) -> Vec<Told> {
        let mut told = Vec::new();
        judge("p.yaml", text, standing, None, &mut told);
        told
    }

    #[test]
    fn a_request_is_explained_by_the_rule_that_fits_it_and_without_its_texts() {
        let text = GOOD.replace("{mode: hard}}", "{mode: hard}, rules: [{name: r, when: {tools: true}, tools: {allow: []}}]}");
        let body =
            r#"{"model":"m","messages":[{"role":"user","content":"private"}],"tools":[{"type":"function","function":{"name":"look"}}]}"#;
        let request = Recorded { method: "POST".into(), path: "/api/chat".into(), request: body.into(), ..Recorded::default() };
        let mut told = Vec::new();
        judge("p.yaml", &text, Standing::default(), Some(&request), &mut told);
        let said = as_text(&told, &[], true);
        assert!(said.contains("  where r fits, which says tools.allow:\n"), "{said}");
        assert!(
            said.contains("  the request: r fits, it is refused with 403\n    tools             LLM06   hard     not_allowed: blocked\n"),
            "{said}"
        );
        assert!(!said.contains("private") && !said.contains("look"), "{said}");
    }

    #[test]
    fn an_error_stands_where_it_stands_in_the_file() {
        let text = format!("# first\n---\n{GOOD}---\nkind: Deployment\napiVersion: apps/v1\n--- # last\n{BAD}");
        let told = judged(&text, Standing::default());
        let said = as_text(&told, &[("p.yaml".to_owned(), text)], false);
        assert_eq!(
            said,
            "p.yaml: good: sound\np.yaml: a Deployment: not judged\n\
             p.yaml:16:5: error: spec.tools.alow: nobody reads this key: did you mean 'allow'? There are: mode, allow, block, highRisk\n     \
             16 |     alow: [a]\n        |     ^\n1 sound policy, 1 error\n"
        );
    }

    #[test]
    fn a_file_of_nothing_but_marks_or_of_many_documents_takes_no_more_than_its_size() {
        for (part, policies) in [("---\n", 0), ("# a\n", 0), ("a\n---\n", 200_000)] {
            let text = part.repeat(200_000);
            let documents = GuardPolicy::documents(&text);
            assert_eq!(documents.len(), policies);
            assert!(documents.iter().map(|document| document.text.len()).sum::<usize>() <= text.len());
        }
    }

    #[test]
    fn an_object_that_is_nested_more_deeply_than_a_policy_may_be_is_another_object() {
        let deep = format!("kind: CustomResourceDefinition\nspec:\n  {}a\n---\n{GOOD}", "- ".repeat(40));
        let told = judged(&deep, Standing::default());
        assert!(
            matches!(&told[0].is, Is::Other(kind) if kind == "CustomResourceDefinition") && matches!(told[1].is, Is::Sound { .. }),
            "{told:?}"
        );
    }

    #[test]
    fn a_file_without_a_policy_is_an_error() {
        for text in ["", "# nothing\n---\n", "kind: Pod\n"] {
            let told = judged(text, Standing::default());
            assert!(matches!(&told.last().unwrap().is, Is::Broken(error) if error.reason() == "there is no GuardPolicy in it"), "{text}");
        }
    }

    #[test]
    fn each_control_says_by_what_it_runs_in_its_mode() {
        let rows = |standing| match &judged(GOOD, standing)[0].is {
            Is::Sound { rows, .. } => rows.iter().map(|row| (row.control, row.mode, row.why)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let of = |standing, control| rows(standing).into_iter().find(|row| row.0 == control).map(|row| (row.1, row.2)).unwrap();
        let plain = Standing::default();
        assert_eq!(of(plain, ControlId::Redaction), (Mode::Soft, "the policy's mode"));
        assert_eq!(of(plain, ControlId::Tools), (Mode::Hard, "its own mode"));
        let calm = Standing::of(Some(Mode::Monitor));
        assert_eq!(of(calm, ControlId::Tools), (Mode::Monitor, "llm-guard.io/mode, which is lower than its own"));
        assert_eq!(of(Standing { floor: Some(Mode::Soft), ..calm }, ControlId::Models), (Mode::Soft, "the floor"));
        assert_eq!(of(Standing::of(Some(Mode::Hard)), ControlId::Models), (Mode::Hard, "llm-guard.io/mode"));
    }

    fn of_env(text: &str) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        of_reference(file.path().to_str().unwrap())
    }

    #[test]
    fn the_reference_gateways_settings_come_to_a_policy_that_a_guard_loads() {
        let said = of_env(
            "# gateway\nexport ALLOWED_MODELS='llama2, yes,1.0'\nDEFAULT_MODEL=llama2\nENFORCEMENT_MODE=hard\n\
             HIGH_RISK_TOOLS=send_email\nBLOCKED_TOOLS=\"shell\"\nALLOWED_TOOLS=shell,search\nPORT=8000\n",
        )
        .unwrap();
        let policy = GuardPolicy::read(&said).unwrap();
        assert_eq!(policy.metadata.name, "default");
        assert_eq!(policy.spec.mode, Some(Mode::Hard));
        assert_eq!(policy.spec.models.allow, Some(["llama2", "yes", "1.0"].map(str::to_owned).to_vec()));
        assert_eq!((policy.spec.tools.allow, policy.spec.tools.block), (Some(vec!["search".to_owned()]), Some(vec!["shell".to_owned()])));
        assert!(said.starts_with("# ALLOWED_TOOLS has 1 that BLOCKED_TOOLS has too; blocked wins.\n# PORT is"), "{said}");
    }

    #[test]
    fn what_is_no_gateways_settings_is_an_error_without_what_stands_there() {
        let key = ["sk", "made", "up"].join("-");
        for (text, expected) in [
            (format!("API_KEY {key}\n"), "a line that is no NAME=VALUE"),
            ("PORT=8000\n".to_owned(), "none of the reference gateway's variables"),
            ("ENFORCEMENT_MODE=strict\n".to_owned(), "ENFORCEMENT_MODE must be monitor, soft or hard"),
            ("ALLOWED_MODELS=gpt-oss:120b-cloud\n".to_owned(), "runs in a cloud"),
        ] {
            let said = of_env(&text).unwrap_err();
            assert!(said.contains(expected) && !said.contains(&key), "{said}");
        }
        let said = of_env(&format!("ENFORCEMENT_MODE=soft\nREQUIRE_API_KEY=true\nAPI_KEY={key}\n")).unwrap();
        assert!(!said.contains(&key) && said.contains("mode: soft"), "{said}");
    }

    #[test]
    fn tests_of_rules_pass_and_fail_with_their_names_and_the_status() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let rules = "package llmguard\n      deny contains \"long\" if input.tokens > data.most";
        let policy = file(
            "p.yaml",
            &format!("{GOOD}  \n").replace(
                "spec: {mode: soft, tools: {mode: hard}}",
                &format!("spec:\n  rego:\n    data: {{most: 3}}\n    modules:\n     m: |\n      {rules}"),
            ),
        );
        let tests = "package llmguard_test\nimport data.llmguard\ntest_long if \"long\" in llmguard.deny with input as {\"tokens\": 4}\n";
        let good = file("good.rego", tests);
        let said = test(&[policy.clone(), good.clone()], Standing::default());
        assert_eq!(said, (format!("{policy}: good\ndata.llmguard_test.test_long: PASS\n1 test, 1 passed\n"), 0));
        let bad = file("bad.rego", "package other\ntest_nothing if 1 == 2\n");
        let (said, status) = test(&[policy.clone(), good.clone(), bad.clone()], Standing::default());
        assert!(said.ends_with("data.other.test_nothing: FAIL\n2 tests, 1 passed\n") && status == 1, "{said}");
        assert!(test(&[bad], Standing::default()).0.ends_with("1 test, 0 passed\n"));
        assert_eq!(test(std::slice::from_ref(&policy), Standing::default()).1, 1);
        let broken = file("broken.rego", "package a\nb := [\n");
        let (said, status) = test(&[policy, broken], Standing::default());
        assert!(said.contains("broken.rego: line ") && status == 1, "{said}");
        assert_eq!(test(&[folder.path().join("none.rego").to_str().unwrap().to_owned()], Standing::default()).1, 2);
    }

    #[test]
    fn programs_get_the_same_as_people() {
        let told = judged(&format!("{GOOD}---\n{BAD}"), Standing::default());
        let json = as_json(&told);
        assert_eq!(json[0]["verdict"], "sound");
        assert_eq!((&json[1]["line"], &json[1]["column"], &json[1]["path"]), (&json!(11), &json!(5), &json!("spec.tools.alow")));
        let sarif = as_sarif(&told);
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        assert_eq!(results.len(), 1);
        assert_eq!(results[0]["locations"][0]["physicalLocation"]["region"], json!({"startLine": 11, "startColumn": 5}));
    }
}

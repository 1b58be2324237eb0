//! `eval`: looks at each text of a corpus, one JSON object a line, and says what is in it.
//!
//! The invariant: for each line that comes in one goes out, in the same order; what a line says is not repeated, but for its id.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use llm_guard_engine::detect::secrets::{Group, Kind};
use llm_guard_engine::evaluate::{Detectors, Found};
use serde::{Deserialize, Serialize};

use super::lines;
use super::progress::Progress;

const AFTER_HELP: &str = "\
In: {\"id\": …, \"text\": …, \"channel\": \"user\" or \"data\"}; a person says what stands in \"user\" (the default),
documents and results of tools what stands in \"data\".
Out: {\"id\": …, \"flagged\": …, \"score\": …, \"findings\": [{\"control\", \"kind\", \"start\", \"end\"}]}; start and
end count bytes of the text in UTF-8. Injection is judged of the text as a whole. Rules know no
degrees: the score is 1 where something was found, else 0.

It ends with 0 once all was looked at, and with 2 if a file can't be read or a line is no such
object. Other keys are passed over.";

/// The most bytes that a line may have.
const MAX_LINE: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The corpora; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<String>,
    /// What is looked for
    #[arg(long, value_name = "WHAT,…", value_delimiter = ',', default_value = "injection,secrets,pii")]
    check: Vec<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    /// Somebody tries to override the model's instructions
    Injection,
    /// Tokens and keys
    Secrets,
    /// Personal data
    Pii,
}

/// What is read of a line. Corpora say more: labels, sources.
#[derive(Deserialize)]
struct Line {
    id: Id,
    text: String,
    #[serde(default)]
    channel: Channel,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channel {
    #[default]
    User,
    Data,
}

#[derive(Serialize)]
struct Said {
    id: Id,
    flagged: bool,
    score: f64,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    control: &'static str,
    kind: &'static str,
    start: usize,
    end: usize,
}

impl From<Found> for Finding {
    fn from(found: Found) -> Self {
        Self { control: found.control.name(), kind: found.kind, start: found.place.start, end: found.place.end }
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut progress = Progress::new("texts");
    let detectors = detectors(&args.check);
    let mut done = 0;
    let ended = args.files.iter().try_for_each(|file| {
        lines::each(lines::open(file)?, file, MAX_LINE, |line, place| {
            let line = std::str::from_utf8(line).map_err(|_| format!("{place}: it is not UTF-8"))?;
            let line: Line = serde_json::from_str(line).map_err(|error| bad_line(place, &error))?;
            let findings: Vec<Finding> = detectors.look(&line.text, line.channel == Channel::Data).into_iter().map(Finding::from).collect();
            let flagged = !findings.is_empty();
            let said = Said { id: line.id, flagged, score: f64::from(u8::from(flagged)), findings };
            done += 1;
            progress.tell(done);
            write(&mut out, &said)
        })
    });
    progress.end();
    match ended.and_then(|()| out.flush().map_err(Failure::Output)) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader who has seen enough is no error.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = out.flush();
            eprintln!("eval: {error}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Input(String),
    #[error("{0}")]
    Output(io::Error),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Input(message)
    }
}

fn write(out: &mut impl Write, said: &Said) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, said).map_err(|error| Failure::Output(error.into()))?;
    out.write_all(b"\n").map_err(Failure::Output)
}

/// What is wrong with a line, without what stands in it.
fn bad_line(place: &str, error: &serde_json::Error) -> Failure {
    let reason = match error.classify() {
        serde_json::error::Category::Data => r#"it must have "id" and "text", and "channel" is "user" or "data""#,
        _ => "it is no JSON object",
    };
    Failure::Input(format!("{place}, column {}: {reason}", error.column()))
}

fn detectors(checks: &[Check]) -> Detectors {
    let check = |kind: &Kind| match kind.group() {
        Group::Secrets(_) => &Check::Secrets,
        Group::PersonalData => &Check::Pii,
    };
    let kinds: Vec<Kind> = Kind::all().filter(|kind| checks.contains(check(kind))).collect();
    Detectors::new(checks.contains(&Check::Injection), &kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_answered_and_a_bad_one_isnt_repeated() {
        let mut said = Vec::new();
        let texts = "{\"id\":1,\"text\":\"a\"}\n\n{\"id\":\"b\",\"text\":\"b\",\"channel\":\"data\"}\n";
        lines::each(texts.as_bytes(), "f", MAX_LINE, |line, place| {
            said.push((serde_json::from_slice::<Line>(line).is_ok(), place.to_owned()));
            Ok::<_, Failure>(())
        })
        .unwrap();
        assert_eq!(said, [(true, "f, line 1".to_owned()), (true, "f, line 3".to_owned())]);
        for bad in ["{\"id\":1,\"private\":1}", "private", "{\"id\":1,\"text\":7}", "{\"id\":1,\"text\":\"a\",\"channel\":\"private\"}"] {
            let Err(error) = serde_json::from_str::<Line>(bad) else { panic!("{bad}") };
            assert!(!bad_line("f, line 1", &error).to_string().contains("private"), "{bad}");
        }
    }

    #[test]
    fn secrets_and_personal_data_are_looked_for_by_themselves() {
        let text = ["someone@", "example.com ghp", "_", &"a1B2".repeat(9)].concat();
        let kinds = |checks: &[Check]| detectors(checks).look(&text, false).into_iter().map(|found| found.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&[Check::Pii]), ["EMAIL"]);
        assert_eq!(kinds(&[Check::Secrets]), ["GITHUB_TOKEN"]);
        assert_eq!(kinds(&[Check::Injection]), <[&str; 0]>::default());
    }
}

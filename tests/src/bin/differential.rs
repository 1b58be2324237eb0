//! Compares what the guard judged of a request with what Ollama's own types read from what the guard forwards:
//!
//!     cargo run --release -p llm-guard-tests --bin differential [-- [--bodies N] [--seed N] [--family NAME] [--keep]]
//!
//! Without options it is the short run of CI: the known cases, and some thousand bodies of each family. The long one is
//! `--bodies 1000000`. What fails is made smaller and printed; with `--keep` it is also put behind the known cases.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use llm_guard_tests::differential::{Examiner, FAMILIES, Failure, Family, cases, cases_file, run};

struct Arguments {
    bodies: u64,
    seed: u64,
    family: Option<String>,
    keep: bool,
}

const SHORT: u64 = 40_000;

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut out = Arguments { bodies: SHORT, seed: 1, family: None, keep: false };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--bodies" => out.bodies = value()?.parse()?,
            "--seed" => out.seed = value()?.parse()?,
            "--family" => out.family = Some(value()?),
            "--keep" => out.keep = true,
            other => return Err(format!("there are --bodies N, --seed N, --family NAME and --keep, not {other}").into()),
        }
    }
    if let Some(name) = &out.family
        && !FAMILIES.iter().any(|family| family.name == name)
    {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        return Err(format!("there is no family {name}; there are: {}", names.join(", ")).into());
    }
    Ok(out)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = arguments()?;
    let wanted = |family: &Family| arguments.family.as_deref().is_none_or(|name| name == family.name);
    let mut examiner = Examiner::start()?;
    let mut failed = 0;

    let known = cases()?;
    for (family, body) in known.iter().filter(|(family, _)| wanted(family)) {
        if let Some(said) = examiner.examine(family, body)? {
            failed += 1;
            println!("a known case of {} fails: {said}\n  {}", family.name, String::from_utf8_lossy(body));
        }
    }
    println!("{} known cases, {failed} of them fail", known.iter().filter(|(family, _)| wanted(family)).count());

    println!("{:<20}{:>12}{:>12}{:>12}{:>12}{:>10}{:>12}", "family", "bodies", "refused", "accepted", "read", "failures", "bodies/s");
    for family in FAMILIES.iter().filter(|family| wanted(family)) {
        let began = Instant::now();
        let report = run(family, arguments.seed, arguments.bodies)?;
        let seconds = began.elapsed().as_millis().max(1);
        println!(
            "{:<20}{:>12}{:>12}{:>12}{:>12}{:>10}{:>12}",
            family.name,
            report.bodies,
            report.bodies - report.accepted,
            report.accepted,
            report.read,
            report.failures,
            u128::from(report.bodies) * 1000 / seconds,
        );
        failed += usize::from(report.failures > 0);
        for failure in report.kinds.values() {
            let Failure { body, said } = examiner.shrink(family, failure)?;
            println!("  {said}\n    {}", String::from_utf8_lossy(&body));
            if arguments.keep {
                keep(family, &body)?;
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts a body behind the known cases. Between its values a line's end is a space.
fn keep(family: &Family, body: &[u8]) -> io::Result<()> {
    let body: Vec<u8> = body.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }).collect();
    let mut file = OpenOptions::new().append(true).open(cases_file())?;
    file.write_all(&[family.name.as_bytes(), b"\t", &body, b"\n"].concat())
}

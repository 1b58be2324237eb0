//! What the detectors of prompt injection are trained from.
//!
//! So far: made-up texts in 16 languages, from the grammars in `grammars/`, in numbers and by a seed. No text of anybody else's is in here,
//! and none is needed to make these.

mod chance;
mod grammar;
mod texts;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use grammar::Grammar;
use texts::Head;

/// Makes texts to train the detectors of prompt injection with.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints made-up texts as JSON Lines: text, label (1: an attack), channel, kind, language, source (the template's number)
    Texts {
        /// Only of these languages, by their code in ISO 639-1 (repeatable; all)
        #[arg(long)]
        language: Vec<String>,
        /// Only what a person types, or only data
        #[arg(long)]
        head: Option<Head>,
        /// How many texts each template makes, with other words in it
        #[arg(long, default_value_t = 4)]
        each: usize,
        /// Another seed makes other texts
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the grammars are
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/grammars"))]
        grammars: PathBuf,
    },
}

fn main() -> ExitCode {
    let Command::Texts { language, head, each, seed, grammars } = Arguments::parse().command;
    match print(&language, head, each, seed, &grammars) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-guard-train: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(
    languages: &[String],
    head: Option<Head>,
    each: usize,
    seed: u64,
    folder: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let grammars = Grammar::all(folder)?;
    if let Some(unknown) = languages.iter().find(|code| !grammars.iter().any(|grammar| grammar.language == **code)) {
        let known: Vec<&str> = grammars.iter().map(|grammar| grammar.language.as_str()).collect();
        return Err(format!("there is no grammar of '{unknown}'; there are: {}", known.join(", ")).into());
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let chosen = grammars.iter().filter(|grammar| languages.is_empty() || languages.contains(&grammar.language));
    for text in chosen.flat_map(|grammar| texts::of(grammar, each, seed)).filter(|text| head.is_none_or(|head| text.channel == head)) {
        serde_json::to_writer(&mut out, &text)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

//! The differential test: what the guard forwards, read by Ollama's own types, says what the guard has judged.
//!
//! Bodies grow from a grammar of each family and are then changed in ways that parsers disagree on. Those that the guard takes go to the
//! oracle (`tests/differential`), a program made of Ollama's packages. The invariant: a run is decided by its seed, so that each body
//! can be made again from its number.

pub mod grammar;
mod mutate;
pub mod oracle;
mod random;
mod shrink;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use llm_guard_engine::wire::{Body, decode_request};

use grammar::Node;
use oracle::{Oracle, Record};
use random::Random;

/// A kind of body, and how it looks.
#[derive(Debug)]
pub struct Family {
    /// As the oracle knows it.
    pub name: &'static str,
    /// As the engine knows it.
    pub body: Body,
    shape: &'static grammar::Shape,
}

/// All bodies that the guard decodes and that Ollama has an exported type for.
pub const FAMILIES: &[Family] = &[
    Family { name: "chat", body: Body::OllamaChat, shape: &grammar::CHAT },
    Family { name: "generate", body: Body::OllamaGenerate, shape: &grammar::GENERATE },
    Family { name: "show", body: Body::OllamaShow, shape: &grammar::SHOW },
    Family { name: "pull", body: Body::OllamaPull, shape: &grammar::PULL },
    Family { name: "embed", body: Body::OllamaEmbed, shape: &grammar::EMBED },
    Family { name: "embeddings", body: Body::OllamaEmbeddings, shape: &grammar::EMBEDDINGS },
    Family { name: "push", body: Body::OllamaPush, shape: &grammar::PULL },
    Family { name: "create", body: Body::OllamaCreate, shape: &grammar::CREATE },
    Family { name: "copy", body: Body::OllamaCopy, shape: &grammar::COPY },
    Family { name: "delete", body: Body::OllamaDelete, shape: &grammar::DELETE },
    Family { name: "openai-images", body: Body::OpenAiImages, shape: &grammar::OPENAI_IMAGES },
    Family { name: "openai-image-edits", body: Body::OpenAiImages, shape: &grammar::OPENAI_IMAGES },
    Family { name: "openai-chat", body: Body::OpenAiChat, shape: &grammar::OPENAI_CHAT },
    Family { name: "openai-completion", body: Body::OpenAiCompletion, shape: &grammar::OPENAI_COMPLETION },
    Family { name: "openai-responses", body: Body::OpenAiResponses, shape: &grammar::OPENAI_RESPONSES },
    Family { name: "openai-embeddings", body: Body::OpenAiEmbeddings, shape: &grammar::OPENAI_EMBEDDINGS },
    Family { name: "anthropic-messages", body: Body::AnthropicMessages, shape: &grammar::ANTHROPIC_MESSAGES },
];

/// What came of the bodies of a family.
#[derive(Debug, Default)]
pub struct Report {
    /// How many there were.
    pub bodies: u64,
    /// How many of them the guard took.
    pub accepted: u64,
    /// How many of those Ollama takes, as they were forwarded.
    pub read: u64,
    /// How many went wrong.
    pub failures: u64,
    /// The first of each kind of failure.
    pub kinds: BTreeMap<String, Failure>,
}

/// A body that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// What was sent.
    pub body: Vec<u8>,
    /// What is wrong.
    pub said: String,
}

/// So many kinds of failures are told.
const KINDS: usize = 12;

impl Report {
    fn fail(&mut self, body: Vec<u8>, said: String) {
        self.failures += 1;
        if self.kinds.len() < KINDS {
            self.kinds.entry(kind(&said)).or_insert(Failure { body, said });
        }
    }
}

/// What failures of one cause have in common: the first words and the place, without its numbers.
fn kind(said: &str) -> String {
    let mut parts = said.split(": ");
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let place = if second.starts_with(['"', '\'']) { "" } else { second };
    format!("{first}: {place}").chars().filter(|c| !c.is_ascii_digit()).take(120).collect()
}

/// The guard's side of a body: what the oracle is asked about, unless the guard refuses it. A policy lets undocumented fields go on, or
/// doesn't.
fn judged(family: &Family, body: &[u8], undocumented: bool) -> Result<Option<Record>, String> {
    let Ok(mut request) = decode_request(family.body, body) else { return Ok(None) };
    if !undocumented {
        request.rests(&mut |rest| rest.retain(&mut |_| false));
    }
    let forwarded = request.encode();
    let again = decode_request(family.body, &forwarded).map_err(|error| format!("again: what was forwarded is refused: {error}"))?;
    if again.encode() != forwarded {
        return Err("again: what was forwarded is forwarded otherwise".into());
    }
    let mut texts = Vec::new();
    request.texts(&mut |text| texts.push(text.text.into_owned()));
    Ok(Some(Record {
        family: family.name,
        streams: request.streams(),
        original: body.to_vec(),
        models: request.models().into_iter().map(str::to_owned).collect(),
        tools: request.tools().into_iter().map(str::to_owned).collect(),
        texts,
        unreadable: request.unreadable().into_iter().map(|part| part.path).collect(),
        forwarded,
    }))
}

/// The body of a number.
fn grown(family: &Family, seed: u64, number: u64) -> Node {
    let mut random = Random::new(seed, number);
    let root = grammar::grow(family.shape, &mut random);
    mutate::mutate(root, &mut random)
}

/// Whether undocumented fields of the body go on.
const fn is_lenient(number: u64) -> bool {
    number % 2 == 1
}

/// Tries so many bodies of a family.
pub fn run(family: &'static Family, seed: u64, bodies: u64) -> io::Result<Report> {
    let mut report = Report { bodies, ..Report::default() };
    let (mut to, mut from) = Oracle::start()?.split();
    // What is on its way is bounded, so that neither side runs away from the other.
    let (sender, waiting) = mpsc::sync_channel::<u64>(4096);
    let (accepted, wrong) = thread::scope(|scope| -> io::Result<(u64, Vec<(u64, String)>)> {
        let asking = scope.spawn(move || -> io::Result<(u64, Vec<(u64, String)>)> {
            let (mut accepted, mut wrong) = (0, Vec::new());
            for number in 0..bodies {
                match judged(family, &grown(family, seed, number).bytes(), is_lenient(number)) {
                    Ok(None) => {}
                    Ok(Some(record)) => {
                        accepted += 1;
                        to.ask(&record)?;
                        // With no one left to hear it, the other side has said why.
                        if sender.send(number).is_err() {
                            break;
                        }
                    }
                    Err(said) => {
                        accepted += 1;
                        wrong.push((number, said));
                    }
                }
            }
            to.end()?;
            Ok((accepted, wrong))
        });
        for number in waiting {
            let said = from.answer()?;
            report.read += u64::from(said.forwarded_taken());
            if let Some(failure) = said.failure {
                report.fail(grown(family, seed, number).bytes(), failure);
            }
        }
        asking.join().map_err(|_| io::Error::other("the generator has panicked"))?
    })?;
    report.accepted = accepted;
    for (number, said) in wrong {
        report.fail(grown(family, seed, number).bytes(), said);
    }
    from.end()?;
    Ok(report)
}

/// Asks about single bodies.
#[derive(Debug)]
pub struct Examiner {
    to: oracle::Questions,
    from: oracle::Answers,
}

impl Examiner {
    /// Starts an oracle.
    pub fn start() -> io::Result<Self> {
        let (to, from) = Oracle::start()?.split();
        Ok(Self { to, from })
    }

    /// What is wrong with a body, if anything is.
    pub fn examine(&mut self, family: &Family, body: &[u8]) -> io::Result<Option<String>> {
        for undocumented in [false, true] {
            let failure = match judged(family, body, undocumented) {
                Ok(None) => None,
                Err(said) => Some(said),
                Ok(Some(record)) => {
                    self.to.ask(&record)?;
                    self.to.flush()?;
                    self.from.answer()?.failure
                }
            };
            if failure.is_some() {
                return Ok(failure);
            }
        }
        Ok(None)
    }

    /// The smallest body that fails in the same way as this one does.
    pub fn shrink(&mut self, family: &Family, failure: &Failure) -> io::Result<Failure> {
        let wanted = kind(&failure.said);
        shrink::shrink(&failure.body, &mut |body| {
            let said = self.examine(family, body)?;
            Ok(said.filter(|said| kind(said) == wanted))
        })
        .map(|found| {
            found.map_or_else(|| Failure { body: failure.body.clone(), said: failure.said.clone() }, |(body, said)| Failure { body, said })
        })
    }
}

/// Where the known cases stand.
#[must_use]
pub fn cases_file() -> PathBuf {
    crate::cache::tests().join("differential/cases.txt")
}

/// The cases that once went wrong: a line each, the family's name, a tab, and the body. Lines that begin with `#` say what they are.
pub fn cases() -> io::Result<Vec<(&'static Family, Vec<u8>)>> {
    let text = std::fs::read_to_string(cases_file())?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, body) = line.split_once('\t').ok_or_else(|| io::Error::other(format!("{line:?} has no tab")))?;
            let family = FAMILIES.iter().find(|family| family.name == name);
            Ok((family.ok_or_else(|| io::Error::other(format!("there is no family {name}")))?, body.as_bytes().to_vec()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_number_decide_a_body() {
        for family in FAMILIES {
            for number in 0..50 {
                assert_eq!(grown(family, 7, number).bytes(), grown(family, 7, number).bytes());
            }
            assert_ne!(grown(family, 7, 1).bytes(), grown(family, 8, 1).bytes());
        }
    }

    #[test]
    fn the_guard_takes_and_refuses_a_good_part_of_each_family() {
        for family in FAMILIES {
            let taken = (0..1000).filter(|number| !matches!(judged(family, &grown(family, 1, *number).bytes(), false), Ok(None))).count();
            assert!((200..=900).contains(&taken), "{}: {taken} of 1000", family.name);
        }
    }

    #[test]
    fn every_case_names_a_family() {
        cases().unwrap();
    }
}

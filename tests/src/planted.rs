//! What the tests plant in prompts and answers, read from `tests/planted.json`, where each value stands in parts.
//!
//! The invariant: this is the only place from which a planted value comes. The scripted models are made from the same
//! file, and the scan of the records looks for exactly what it holds.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde_json::Value;

use crate::cache;

/// The planted values.
#[derive(Clone, Debug)]
pub struct Planted {
    /// One secret of each kind that the guard redacts, by the kind's name.
    pub secrets: BTreeMap<String, String>,
    /// A prompt that tries to override the system's instructions.
    pub injection: String,
    /// A word that stands in every prompt of the tests.
    pub prompt_marker: String,
    /// A word that stands in every answer of the scripted models.
    pub answer_marker: String,
}

impl Planted {
    /// Reads `tests/planted.json`.
    pub fn read() -> io::Result<Self> {
        let path = cache::tests().join("planted.json");
        let document: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let secrets = document["secrets"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(kind, parts)| Ok((kind.clone(), joined(parts)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            secrets,
            injection: joined(&document["injection"])?,
            prompt_marker: joined(&document["promptMarker"])?,
            answer_marker: joined(&document["answerMarker"])?,
        })
    }

    /// What a scripted model says: its whole answer, secrets in place.
    pub fn answer(&self, model: &str) -> io::Result<String> {
        self.filled(model, |_, secret| secret.to_owned())
    }

    /// What is to be left of a scripted model's answer when every secret in it is redacted.
    pub fn redacted_answer(&self, model: &str) -> io::Result<String> {
        self.filled(model, |kind, _| format!("[REDACTED_{kind}]"))
    }

    fn filled(&self, model: &str, value: impl Fn(&str, &str) -> String) -> io::Result<String> {
        let path = cache::tests().join("ollama/models").join(model).join("answer.txt");
        let mut answer = fs::read_to_string(path)?.trim_end_matches('\n').to_owned();
        for (kind, secret) in &self.secrets {
            answer = answer.replace(&format!("{{{{{kind}}}}}"), &value(kind, secret));
        }
        Ok(answer)
    }
}

fn joined(parts: &Value) -> io::Result<String> {
    let text: String = parts.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if text.is_empty() {
        return Err(io::Error::other("tests/planted.json: a value is missing, or isn't an array of its parts"));
    }
    Ok(text)
}

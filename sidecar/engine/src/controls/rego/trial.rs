//! Rules tried out: unit tests as `opa test` runs them, and single inputs.
//!
//! Tests replace parts of the input by `with`, which the evaluator of decisions doesn't know; the same library has another that does.
//! A test that passes says something about a decision as far as the two agree: a decision is compared with OPA's, a test isn't.

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::Value;
use regorus::utils::limits::ExecutionTimerConfig;

use super::{Fault, Rego, modules, walk};
use crate::policy::{Mode, PolicyError, RegoSpec};

/// How long one test may take.
const TEST: Duration = Duration::from_secs(1);

/// What a unit test came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It doesn't.
    Failed,
    /// It can't be said, and why.
    Broken(String),
}

/// A unit test, by its whole name, and what it came to.
pub type Tested = (String, Outcome);

/// Runs the tests of modules: the rules whose names begin with `test_`. `files` are further modules, each with its name.
pub fn test(spec: &RegoSpec, files: &[(String, String)]) -> Result<Vec<Tested>, PolicyError> {
    let mut engine = walk::reader();
    engine.set_strict_builtin_errors(false);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: TEST, check_interval: NonZeroU32::MIN });
    let mut tests = Vec::new();
    for (name, text) in spec.modules.iter().flatten().chain(files.iter().map(|(name, text)| (name, text))) {
        let package = modules::add(&mut engine, name, text).map_err(|error| PolicyError::new(name, error.reason()))?;
        let module = engine.get_modules().last();
        for rule in module.iter().flat_map(|module| &module.policy) {
            let (rule, ..) = walk::declared(rule);
            let test = format!("{package}.{rule}");
            if rule.starts_with("test_") && !tests.contains(&test) {
                tests.push(test);
            }
        }
    }
    let data = serde_json::Value::Object(spec.data.clone().unwrap_or_default().into_iter().collect());
    engine.add_data(Value::from(data)).map_err(|error| PolicyError::in_spec("rego.data", last_line(&error.to_string())))?;
    let run = |test: String| {
        let outcome = match engine.clone().eval_rule(test.clone()) {
            Ok(Value::Bool(true)) => Outcome::Passed,
            Ok(_) => Outcome::Failed,
            Err(error) => Outcome::Broken(last_line(&error.to_string()).to_owned()),
        };
        (test, outcome)
    };
    Ok(tests.into_iter().map(run).collect())
}

fn last_line(said: &str) -> &str {
    said.lines().last().unwrap_or_default().trim_start_matches("error: ")
}

/// What rules say of an input, each message as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Why it is denied.
    pub deny: Vec<String>,
    /// What is warned about.
    pub warn: Vec<String>,
}

/// Rules to which inputs can be given by hand.
#[derive(Debug)]
pub struct Trial(Rego);

impl Trial {
    /// Compiles the rules of a policy.
    pub fn new(spec: &RegoSpec) -> Result<Self, PolicyError> {
        Rego::new(spec, Mode::Hard).map(Self)
    }

    /// Asks them about an input, a text of JSON. Nothing comes out where they come to no decision, but the word for why.
    pub fn ask(&self, input: &str) -> Result<Said, &'static str> {
        let document = Value::from_json_str(input).map_err(|_| "the input is no JSON")?;
        let decision = self.0.decide(document, input.len() as u64).map_err(Fault::kind)?;
        let shown = |messages: Vec<Value>| messages.iter().map(|message| message.to_json_str().unwrap_or_default()).collect();
        Ok(Said { deny: shown(decision.deny), warn: shown(decision.warn) })
    }
}

//! Rules in Rego, the language of the Open Policy Agent: what a platform says about requests in its own words.
//!
//! They are compiled with the policy and evaluated in this process, in bounds: of time, of instructions, and of the memory that they
//! make. What isn't decided within them is refused, in soft and in hard. A decision depends on the request and the policy, and on
//! nothing else but, where it is cut short, on the clock.

mod differences;
mod format;
mod functions;
mod input;
mod modules;
mod patterns;
mod rewritten;
mod shapes;
pub mod trial;
mod walk;

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use regorus::Value;
use regorus::rvm::RegoVM;
use regorus::rvm::vm::VmError;
use regorus::utils::limits::ExecutionTimerConfig;

use super::{Asked, Control, Finding, Remedy, by_mode, refuse};
use crate::policy::{Mode, PolicyError, RegoSpec};
use crate::verdict::ControlId;
use functions::Fault;
use modules::Compiled;

/// How long a decision may take, in milliseconds, where the policy doesn't say.
const TIMEOUT: u32 = 10;
/// The longest that a policy may say. Others wait meanwhile: a decision keeps one of the guard's threads.
const MOST_TIMEOUT: u32 = 100;
/// The most instructions of a decision.
const MOST_INSTRUCTIONS: usize = 1_000_000;
/// Instructions between two looks at the clock.
const CHECK_EVERY: NonZeroU32 = NonZeroU32::new(16).unwrap();
/// What a decision may make in memory: so much, and this many times the request's own texts.
const MEMORY: u64 = 16 * 1024 * 1024;
const MEMORY_PER_BYTE: u64 = 4;
/// What its functions may read in a millisecond's worth of time.
const READS: u64 = 2 * 1024 * 1024;
/// The most that a client is told.
const MOST_TOLD: usize = 400;

/// What a client is told where the rule's own words may have been made of what somebody said.
const DENIED: &str = "the request is refused by the policy's rules";

/// The control.
#[derive(Debug)]
pub(super) struct Rego {
    mode: Mode,
    rules: Compiled,
    timeout: Duration,
}

/// What the rules say of a request.
#[derive(Debug, Default, PartialEq)]
struct Decision {
    deny: Vec<Value>,
    warn: Vec<Value>,
}

impl Rego {
    pub(super) fn new(spec: &RegoSpec, mode: Mode) -> Result<Self, PolicyError> {
        let timeout = spec.timeout_ms.unwrap_or(TIMEOUT);
        if !(1..=MOST_TIMEOUT).contains(&timeout) {
            let reason = format!("a decision may take from 1 to {MOST_TIMEOUT} milliseconds, not {timeout}");
            return Err(PolicyError::in_spec("rego.timeoutMs", reason));
        }
        Ok(Self { mode, rules: modules::compile(spec)?, timeout: Duration::from_millis(timeout.into()) })
    }

    /// Asks the rules.
    fn decide(&self, input: Value, bytes: u64) -> Result<Decision, Fault> {
        let memory = MEMORY + MEMORY_PER_BYTE * bytes;
        let reads = READS * u64::try_from(self.timeout.as_millis()).unwrap_or(1);
        let (decided, fault) = functions::within(memory, reads, &self.rules.patterns, || {
            // The evaluator is another's: should it panic, the request is refused, and the guard goes on.
            catch_unwind(AssertUnwindSafe(|| self.run(input))).unwrap_or(Err(Fault::Error))
        });
        match fault {
            Some(fault) => Err(fault),
            None => decided.and_then(|result| decision(&result)),
        }
    }

    fn run(&self, input: Value) -> Result<Value, Fault> {
        let mut vm = RegoVM::new();
        vm.load_program(Arc::clone(&self.rules.program));
        vm.set_max_instructions(MOST_INSTRUCTIONS);
        vm.set_execution_timer_config(Some(ExecutionTimerConfig { limit: self.timeout, check_interval: CHECK_EVERY }));
        vm.set_data(self.rules.data.clone()).map_err(|_| Fault::Error)?;
        vm.set_input(input);
        vm.execute_entry_point_by_index(0).map_err(|error| match error {
            VmError::TimeLimitExceeded { .. } | VmError::InstructionLimitExceeded { .. } => Fault::Time,
            _ => Fault::Error,
        })
    }

    /// The words for a client: those that stand in a module as they are, or with nothing but small numbers put in. Others may hold
    /// what somebody said, and stay here.
    fn told(&self, messages: &[Value]) -> String {
        let mut told = String::new();
        let own = messages.iter().filter_map(|message| message.as_string().ok()).filter(|message| self.is_own(message));
        for message in own {
            let gap = if told.is_empty() { "" } else { "; " };
            if told.len() + gap.len() + message.len() > MOST_TOLD {
                break;
            }
            told.push_str(gap);
            told.push_str(message);
        }
        if told.is_empty() { DENIED.to_owned() } else { told }
    }

    fn is_own(&self, message: &str) -> bool {
        self.rules.texts.contains(message) || self.rules.templates.iter().any(|template| fits(message, template))
    }
}

/// Whether a message is the template with numbers in its gaps that are too short to be anybody's.
fn fits(message: &str, template: &[String]) -> bool {
    let Some((first, others)) = template.split_first() else { return false };
    let Some(mut rest) = message.strip_prefix(first.as_str()) else { return false };
    for (number, text) in others.iter().enumerate() {
        let number_of = rest.strip_prefix('-').unwrap_or(rest);
        let digits = number_of.bytes().take_while(u8::is_ascii_digit).count();
        let after = &number_of[digits..];
        let behind = if number + 1 == others.len() { (after == text).then_some("") } else { after.strip_prefix(text.as_str()) };
        match behind {
            Some(behind) if (1..=8).contains(&digits) => rest = behind,
            _ => return false,
        }
    }
    true
}

/// What came out, taken apart.
fn decision(result: &Value) -> Result<Decision, Fault> {
    let rules = result.as_object().map_err(|_| Fault::Error)?;
    let of = |rule: &str| match rules.get(&Value::from(rule)) {
        None => Ok(Vec::new()),
        Some(Value::Set(messages)) => Ok(messages.iter_sorted().cloned().collect()),
        Some(_) => Err(Fault::Error),
    };
    Ok(Decision { deny: of("deny")?, warn: of("warn")? })
}

impl Control for Rego {
    fn id(&self) -> ControlId {
        ControlId::Rego
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn judge_request(&self, asked: &Asked<'_>) -> Vec<Finding> {
        let (document, bytes) = input::of(asked);
        let refused = |kind, status, message: String| {
            let refusal = || refuse(status, message.clone());
            Finding { kind, remedy: by_mode(self.mode, refusal, refusal) }
        };
        match self.decide(document, bytes) {
            Ok(Decision { deny, warn }) => {
                let denied = (!deny.is_empty()).then(|| refused("deny", 403, self.told(&deny)));
                let warned =
                    (!warn.is_empty()).then(|| Finding { kind: "warn", remedy: by_mode(self.mode, || Remedy::Warn, || Remedy::Warn) });
                denied.into_iter().chain(warned).collect()
            }
            Err(fault) => {
                let message = match fault {
                    Fault::Time => format!("the policy's rules were not done within {} ms", self.timeout.as_millis()),
                    Fault::Memory => "the policy's rules would take too much memory".to_owned(),
                    Fault::Error => "the policy's rules came to no decision".to_owned(),
                };
                vec![refused(fault.kind(), 503, message)]
            }
        }
    }
}

#[cfg(test)]
mod tests;

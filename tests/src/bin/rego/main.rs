//! Compares what the guard's rules in Rego say of inputs with what the real OPA says of them:
//!
//!     cargo run --release -p llm-guard-tests --bin rego
//!
//! The corpus is `tests/rego/corpus`: modules, each with what it has to come to, and inputs, to which mutated ones are added. The two
//! have to agree on every message of every module for every input, or the module has to be refused by the guard, which the corpus
//! says then: what is accepted means the same to both. Beside it stand modules that are made by chance (`--made N`, `--seed N`; `--corpus FILE` for another corpus): of those that
//! the guard accepts the same holds, for inputs as the guard makes them.

mod made;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use llm_guard_engine::controls::rego::trial::{Said, Trial};
use llm_guard_engine::policy::RegoSpec;
use llm_guard_tests::cache;
use made::Dice;
use serde_json::{Value, json};

/// How many mutated inputs there are beside each.
const MUTANTS: usize = 8;

/// A module of the corpus, and whether the guard has to refuse it.
struct Case {
    name: String,
    text: String,
    refused: bool,
    /// It is only asked about inputs that are as their schema says.
    typed: bool,
}

/// The modules: each behind a line `### NAME`, with ` refused` where the guard takes none of it, and with ` typed` where the two agree
/// on inputs as the guard makes them only.
fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let text = std::fs::read_to_string(option("--corpus").map_or_else(|| cache::tests().join("rego/corpus/modules.rego"), PathBuf::from))?;
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("### ") {
            let (name, refused) = head.strip_suffix(" refused").map_or((head, false), |name| (name, true));
            let (name, typed) = name.strip_suffix(" typed").map_or((name, false), |name| (name, true));
            cases.push(Case { name: name.to_owned(), text: "package llmguard\n".to_owned(), refused, typed });
        } else if let Some(case) = cases.last_mut() {
            case.text.push_str(line);
            case.text.push('\n');
        }
    }
    Ok(cases)
}

/// Numbers that are the same are one; the order of messages says nothing.
fn settled(messages: Option<&Vec<Value>>) -> Vec<String> {
    fn settle(value: &mut Value) {
        match value {
            // OPA works with more digits than 64 bits have: the last ones differ.
            Value::Number(number) => *value = json!(number.as_f64().map(|number| format!("{number:.12e}"))),
            Value::Array(items) => items.iter_mut().for_each(settle),
            Value::Object(members) => members.values_mut().for_each(settle),
            _ => {}
        }
    }
    let mut messages: Vec<Value> = messages.cloned().unwrap_or_default();
    messages.iter_mut().for_each(settle);
    let mut messages: Vec<String> = messages.iter().map(Value::to_string).collect();
    messages.sort();
    messages
}

fn of_guard(messages: &[String]) -> Vec<String> {
    settled(Some(&messages.iter().filter_map(|message| serde_json::from_str(message).ok()).collect()))
}

/// Changes one value somewhere in an input.
fn mutate(value: &mut Value, dice: &mut Dice) {
    let odd = || -> [Value; 12] {
        [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(1.5),
            json!(1e21),
            json!(""),
            json!("é ㍿ \u{10348}"),
            json!("a@corp.example"),
            json!([]),
            json!({}),
            json!(["shell", 7, null]),
        ]
    };
    match value {
        Value::Array(items) if !items.is_empty() && dice.throw(4) > 0 => {
            let place = dice.throw(items.len());
            match dice.throw(4) {
                0 => drop(items.remove(place)),
                1 => items.push(items[place].clone()),
                _ => mutate(&mut items[place], dice),
            }
        }
        Value::Object(members) if !members.is_empty() && dice.throw(8) > 0 => {
            let place = dice.throw(members.len());
            let Some(name) = members.keys().nth(place).cloned() else { return };
            if dice.throw(6) == 0 {
                members.remove(&name);
            } else if let Some(member) = members.get_mut(&name) {
                mutate(member, dice);
            }
        }
        Value::Number(number) if dice.throw(2) == 0 => *value = json!(number.as_i64().unwrap_or(3) * 3 + 1),
        _ => {
            let odd = odd();
            *value = odd[dice.throw(odd.len())].clone();
        }
    }
}

/// Changes one value to another of its kind, or takes one out that may be left out.
fn vary(input: &mut Value, dice: &mut Dice) {
    let texts = ["", "a", "llama3.2:3b", "shell", "Ünïcode ẞ", "a@corp.example", "12-34 SECRET", "system"];
    match dice.throw(6) {
        0 => drop(input.as_object_mut().and_then(|members| members.remove(["model", "window"][dice.throw(2)]))),
        1 => input["model"] = json!(texts[dice.throw(texts.len())]),
        2 => input["tokens"] = json!(dice.throw(10_000)),
        3 => input["tools"] = json!(texts[..dice.throw(texts.len())]),
        4 => input["streams"] = json!(dice.throw(2) == 0),
        _ => {
            let channels = ["system", "user", "assistant", "tool_result", "tool_definition", "document"];
            let message = json!({"channel": channels[dice.throw(6)], "text": texts[dice.throw(texts.len())], "bytes": dice.throw(99), "tokens": dice.throw(99)});
            if let Some(messages) = input["messages"].as_array_mut() {
                let place = dice.throw(messages.len() + 1);
                messages.insert(place, message);
            }
        }
    }
}

/// Inputs as the guard makes them, and others.
fn inputs() -> Result<(Vec<Value>, Vec<Value>), Box<dyn Error>> {
    let text = std::fs::read_to_string(cache::tests().join("rego/corpus/inputs.jsonl"))?;
    let plain: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut dice = Dice::new(0);
    let (mut typed, mut wild) = (plain.clone(), vec![json!({})]);
    for input in &plain {
        for _ in 0..MUTANTS {
            let mut variant = input.clone();
            for _ in 0..=dice.throw(4) {
                vary(&mut variant, &mut dice);
            }
            typed.push(variant);
        }
        for _ in 0..MUTANTS {
            let mut mutant = input.clone();
            for _ in 0..=dice.throw(3) {
                mutate(&mut mutant, &mut dice);
            }
            wild.push(mutant);
        }
    }
    Ok((typed, wild))
}

/// The real OPA.
struct Opa {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// What deny and warn have of an input; nothing where OPA errs.
type Messages = Option<(Vec<String>, Vec<String>)>;

/// What a module says of each input, with OPA's error, or why it is no module.
type Asked = Result<Vec<(Messages, Value)>, String>;

impl Opa {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(cache::part("rego/oracle")?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().ok_or("OPA has no way in")?;
        let from = BufReader::new(child.stdout.take().ok_or("OPA has no way out")?);
        Ok(Self { child, to, from })
    }

    /// What a module says of each input, or why it is none.
    fn ask(&mut self, module: &str, data: &Value, inputs: &[Value]) -> Result<Asked, Box<dyn Error>> {
        writeln!(self.to, "{}", json!({"modules": {"m": module}, "data": data, "inputs": inputs}))?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let mut answer: Value = serde_json::from_str(&line)?;
        let Some(said) = answer["said"].as_array_mut() else { return Ok(Err(answer["refused"].to_string())) };
        let said = said.drain(..).map(|said| {
            let messages = said["error"].is_null().then(|| (settled(said["deny"].as_array()), settled(said["warn"].as_array())));
            (messages, said["error"].clone())
        });
        Ok(Ok(said.collect()))
    }

    fn end(self) -> Result<(), Box<dyn Error>> {
        let Self { mut child, to, .. } = self;
        drop(to);
        child.wait()?;
        Ok(())
    }
}

/// What was compared.
#[derive(Default)]
struct Count {
    decisions: usize,
    messages: usize,
    refused: usize,
    differ: usize,
}

impl Count {
    /// Compares what the two say of inputs, and says where they differ.
    fn compare(&mut self, name: &str, trial: &Trial, inputs: &[Value], said: &[(Messages, Value)]) -> bool {
        let mut differs = 0;
        for (input, (expected, error)) in inputs.iter().zip(said) {
            let found = trial.ask(&input.to_string()).map(|Said { deny, warn }| (of_guard(&deny), of_guard(&warn)));
            self.decisions += 1;
            self.messages += expected.as_ref().map_or(0, |(deny, warn)| deny.len() + warn.len());
            // Where OPA errs, so has the guard to, which refuses then.
            if found.as_ref().ok() != expected.as_ref() {
                differs += 1;
                if differs <= 2 {
                    println!("{name}: OPA says {expected:?} {error}, the guard {found:?} of\n    {input}");
                }
            }
        }
        if differs > 0 {
            println!("{name}: {differs} of {} inputs differ", inputs.len());
            self.differ += 1;
        }
        differs > 0
    }
}

fn spec(module: &str, data: &Value) -> RegoSpec {
    let data: Option<BTreeMap<String, Value>> = data.as_object().map(|data| data.clone().into_iter().collect());
    RegoSpec { modules: Some([("m".to_owned(), module.to_owned())].into()), data, timeout_ms: Some(100), ..RegoSpec::default() }
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|option| option != name).nth(1)
}

fn number(name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    Ok(option(name).map_or(Ok(default), |number| number.parse())?)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (made, seed) = (number("--made", 400)?, number("--seed", 1)?);
    let (cases, (typed, wild)) = (cases()?, inputs()?);
    let all = [typed.clone(), wild].concat();
    let data = json!({
        "windows": {"llama3.2:3b": 8192, "qwen3:8b": 32768}, "internal": ["phi4", "qwen3:8b"], "patterns": ["(?i)secret", r"\b\d{3}-\d{2}\b"],
        "limit": 100, "nested": {"a": {"b": [1, 2, {"c": "d"}]}},
    });
    let mut opa = Opa::start()?;
    let mut count = Count::default();
    for Case { name, text, refused, typed: is_typed } in &cases {
        let inputs = if *is_typed { &typed } else { &all };
        let trial = match (Trial::new(&spec(text, &data)), refused) {
            (Err(error), true) => {
                println!("{name}: refused as it should be: {error}");
                count.refused += 1;
                continue;
            }
            (Ok(trial), false) => trial,
            (is, _) => {
                println!("{name}: {}", is.map_or_else(|error| format!("refused: {error}"), |_| "it is accepted".to_owned()));
                count.differ += 1;
                continue;
            }
        };
        match opa.ask(text, &data, inputs)? {
            Ok(said) => drop(count.compare(name, &trial, inputs, &said)),
            Err(refused) => {
                println!("{name}: OPA refuses it: {refused}");
                count.differ += 1;
            }
        }
    }
    println!(
        "{} modules, {} of them refused, {} inputs: {} decisions compared, {} messages, {} modules differ",
        cases.len(),
        count.refused,
        all.len(),
        count.decisions,
        count.messages,
        count.differ
    );
    let by_chance = compare_made(made, seed, &mut opa, &typed, &data)?;
    opa.end()?;
    Ok(if count.differ + by_chance.differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares modules that are made by chance.
fn compare_made(made: u64, seed: u64, opa: &mut Opa, typed: &[Value], data: &Value) -> Result<Count, Box<dyn Error>> {
    let (mut count, mut untyped) = (Count::default(), 0);
    for number in 0..made {
        let mut dice = Dice::new((seed << 32) + number + 1);
        let text = made::module(&mut dice);
        let Ok(trial) = Trial::new(&spec(&text, data)) else {
            count.refused += 1;
            continue;
        };
        let begin = dice.throw(typed.len());
        let inputs: Vec<Value> = typed.iter().cycle().skip(begin).step_by(7).take(24).cloned().collect();
        let name = format!("made {number}");
        let differs = match opa.ask(&text, data, &inputs)? {
            Ok(said) => count.compare(&name, &trial, &inputs, &said),
            // OPA knows kinds before it evaluates, and finds some comparisons senseless, as it does variables that nobody uses.
            Err(refused) if refused.contains("rego_type_error") || refused.contains(" unused") => {
                untyped += 1;
                false
            }
            Err(refused) => {
                println!("{name}: OPA refuses it: {refused}");
                count.differ += 1;
                true
            }
        };
        if differs {
            println!("{text}");
        }
    }
    println!(
        "{made} modules made by chance, {} refused by the guard and {untyped} more by what OPA finds senseless: {} decisions compared, {} messages, {} modules differ",
        count.refused, count.decisions, count.messages, count.differ
    );
    if count.decisions < 24 * usize::try_from(made / 8)? {
        println!("too few of them are accepted for this to say much");
        count.differ += 1;
    }
    Ok(count)
}

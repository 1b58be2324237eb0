//! Compares what the guard's rules in Rego say of inputs with what the real OPA says of them:
//!
//!     cargo run --release -p llm-guard-tests --bin rego
//!
//! The corpus is `tests/rego/corpus`: modules, each with what it has to come to, and inputs, to which mutated ones are added. The two
//! have to agree on every message of every module for every input, or the module has to be refused by the guard, which the corpus
//! says then: what is accepted means the same to both.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use llm_guard_engine::controls::rego::trial::{Said, Trial};
use llm_guard_engine::policy::RegoSpec;
use llm_guard_tests::cache;
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
    let text = std::fs::read_to_string(cache::tests().join("rego/corpus/modules.rego"))?;
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
            Value::Number(number) => *value = json!(number.as_f64()),
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

/// A row of numbers that is the same every time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap_or(0)
    }
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
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
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

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (cases, (typed, wild)) = (cases()?, inputs()?);
    let all = [typed.clone(), wild].concat();
    let data = json!({
        "windows": {"llama3.2:3b": 8192, "qwen3:8b": 32768}, "internal": ["phi4", "qwen3:8b"], "patterns": ["(?i)secret", r"\b\d{3}-\d{2}\b"],
        "limit": 100, "nested": {"a": {"b": [1, 2, {"c": "d"}]}},
    });
    let mut opa = Command::new(cache::part("rego/oracle")?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut to = opa.stdin.take().ok_or("OPA has no way in")?;
    let mut from = BufReader::new(opa.stdout.take().ok_or("OPA has no way out")?);
    let (mut compared, mut messages, mut failures, mut refused) = (0_usize, 0_usize, 0_usize, 0_usize);
    for Case { name, text, refused: is_refused, typed: is_typed } in &cases {
        let inputs = if *is_typed { &typed } else { &all };
        let data: BTreeMap<String, Value> = data.as_object().ok_or("no object")?.clone().into_iter().collect();
        let spec = RegoSpec {
            modules: Some([("m".to_owned(), text.clone())].into()),
            data: Some(data.clone()),
            timeout_ms: Some(100),
            ..RegoSpec::default()
        };
        let trial = match Trial::new(&spec) {
            Err(error) if *is_refused => {
                println!("{name}: refused as it should be: {error}");
                refused += 1;
                continue;
            }
            Err(error) => {
                println!("{name}: refused: {error}");
                failures += 1;
                continue;
            }
            Ok(_) if *is_refused => {
                println!("{name}: it is accepted");
                failures += 1;
                continue;
            }
            Ok(trial) => trial,
        };
        writeln!(to, "{}", json!({"modules": {"m": text}, "data": data, "inputs": inputs}))?;
        let mut line = String::new();
        from.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        let Some(said) = answer["said"].as_array() else {
            println!("{name}: OPA refuses it: {}", answer["refused"]);
            failures += 1;
            continue;
        };
        let mut differs = 0;
        for (input, said) in inputs.iter().zip(said) {
            let expected = match said["error"].as_str() {
                Some(_) => None,
                None => Some((settled(said["deny"].as_array()), settled(said["warn"].as_array()))),
            };
            let found = trial.ask(&input.to_string()).map(|Said { deny, warn }| (of_guard(&deny), of_guard(&warn)));
            compared += 1;
            messages += expected.as_ref().map_or(0, |(deny, warn)| deny.len() + warn.len());
            // Where OPA errs, so has the guard to, which refuses then.
            if found.as_ref().ok() != expected.as_ref() {
                differs += 1;
                if differs <= 2 {
                    println!("{name}: OPA says {expected:?} {}, the guard {found:?} of\n    {input}", said["error"]);
                }
            }
        }
        if differs > 0 {
            println!("{name}: {differs} of {} inputs differ", inputs.len());
            failures += 1;
        }
    }
    drop(to);
    opa.wait()?;
    println!(
        "{} modules, {refused} of them refused, {} inputs: {compared} decisions compared, {messages} messages, {failures} modules differ",
        cases.len(),
        all.len()
    );
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! Holds the pack of secrets against gitleaks's own cases:
//!
//!     cargo run --release -p llm-guard-tests --bin gitleaks
//!
//! Each of gitleaks's rules comes with texts in which it has to find something and with texts in which it mustn't (`tests/gitleaks`
//! has them printed by gitleaks itself). `tests/gitleaks/kinds.txt` says which of our kinds stand for a rule: one of them has to be found in each
//! of the first, and none in any of the second. Cases that are made by chance differ by the seed, of which there are several
//! (`--seeds N`).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use llm_guard_engine::detect::secrets::{Kind, SecretRules};
use llm_guard_tests::cache;
use serde_json::Value;

/// How many of gitleaks's rules have to be held against.
const AT_LEAST: usize = 200;

/// A case of one of gitleaks's rules.
struct Case {
    rule: String,
    text: String,
    positive: bool,
    /// Gitleaks itself judges it as it says, and it could be. Of those that are made by chance, some aren't so.
    agreed: bool,
}

/// The cases of one seed.
fn cases(seed: u64) -> Result<Vec<Case>, Box<dyn Error>> {
    let program = cache::part("gitleaks/cases")?;
    let folder = program.parent().ok_or("the part gitleaks lies in no folder")?;
    let output = Command::new(&program).arg("/dev/null").current_dir(folder).env("GITLEAKS_SEED", seed.to_string()).output()?;
    if !output.status.success() {
        return Err(format!("gitleaks's cases can't be had: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let case = |line: &str| -> Result<Case, Box<dyn Error>> {
        let line: Value = serde_json::from_str(line)?;
        let text = |member: &str| line[member].as_str().map(str::to_owned).ok_or(format!("a case has no {member}: {line}"));
        let positive = line["positive"].as_bool().unwrap_or_default();
        let values = line["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        // What is assigned doesn't begin as an assignment does: chance makes such values, providers don't.
        let odd = values.iter().any(|value| value.as_str().is_some_and(|value| value.starts_with('=')));
        Ok(Case { rule: text("rule")?, text: text("text")?, positive, agreed: positive != values.is_empty() && !odd })
    };
    String::from_utf8(output.stdout)?.lines().map(case).collect()
}

/// For each of gitleaks's rules the kinds that stand for it.
fn kinds() -> Result<BTreeMap<String, Arc<SecretRules>>, Box<dyn Error>> {
    let text = std::fs::read_to_string(cache::tests().join("gitleaks/kinds.txt"))?;
    let mut kinds = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let Some(rule) = words.next() else { continue };
        let named = words.map(|name| Kind::of_name(name).ok_or(format!("there is no kind {name}"))).collect::<Result<Vec<_>, _>>()?;
        if named.is_empty() || kinds.insert(rule.to_owned(), Arc::new(SecretRules::new(&named))).is_some() {
            return Err(format!("kinds.txt names no kind for {rule}, or names the rule twice").into());
        }
    }
    Ok(kinds)
}

/// What came out.
#[derive(Default)]
struct Count {
    rules: BTreeSet<String>,
    positives: usize,
    negatives: usize,
    disputed: usize,
    missed: usize,
    wrong: usize,
}

impl Count {
    fn judge(&mut self, case: &Case, kinds: &Arc<SecretRules>) {
        let Case { rule, text, positive, agreed } = case;
        self.rules.insert(rule.clone());
        if !agreed {
            self.disputed += 1;
            return;
        }
        let found = kinds.find(text);
        match (positive, found.as_slice()) {
            (true, []) => {
                self.missed += 1;
                println!("{rule}: nothing is found in {text:?}");
            }
            (false, [(kind, range), ..]) => {
                self.wrong += 1;
                println!("{rule}: a {} is found in {text:?}: {:?}", kind.name(), text.get(range.clone()));
            }
            _ => {}
        }
        self.positives += usize::from(*positive);
        self.negatives += usize::from(!positive);
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let seeds: u64 = std::env::args().skip_while(|option| option != "--seeds").nth(1).map_or(Ok(4), |number| number.parse())?;
    let kinds = kinds()?;
    let mut count = Count::default();
    let mut left_out = BTreeSet::new();
    for seed in 1..=seeds {
        for case in cases(seed)? {
            match kinds.get(&case.rule) {
                Some(kinds) => count.judge(&case, kinds),
                None => drop(left_out.insert(case.rule)),
            }
        }
    }
    let Count { rules, positives, negatives, disputed, missed, wrong } = count;
    let unknown: Vec<&String> = kinds.keys().filter(|rule| !rules.contains(*rule)).collect();
    println!(
        "{} of gitleaks's {} rules: {positives} positive cases, {missed} of them missed; {negatives} negative cases, {wrong} of them found; \
         {disputed} left out that chance made wrong",
        rules.len(),
        rules.len() + left_out.len(),
    );
    println!("rules that no kind stands for: {}", left_out.into_iter().collect::<Vec<_>>().join(", "));
    if !unknown.is_empty() {
        println!("gitleaks has no such rules any more: {unknown:?}");
    }
    if rules.len() < AT_LEAST {
        println!("that are fewer rules than the {AT_LEAST} that there have to be");
    }
    let right = missed + wrong == 0 && unknown.is_empty() && rules.len() >= AT_LEAST;
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

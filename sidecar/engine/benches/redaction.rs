//! What it takes to look for secrets and personal data: `cargo bench -p llm-guard-engine --bench redaction`.
//!
//! Times are medians over many rounds; the ratios to clean text are of the same run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use llm_guard_engine::detect::pack;
use llm_guard_engine::detect::rule::Ends;
use llm_guard_engine::detect::secrets::{Kind, Pattern, Patterns, Scanner, SecretRules};

const ROUNDS: usize = 301;
const SIZE: usize = 8 * 1024;

/// Prose, a list, a table, code and a log, as models write them.
const CLEAN: &str = include_str!("clean.txt");

fn micros(mut run: impl FnMut()) -> f64 {
    for _ in 0..20 {
        run();
    }
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            run();
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn whole(rules: &Arc<SecretRules>, text: &str) -> f64 {
    let mut out = String::with_capacity(2 * text.len());
    micros(|| {
        out.clear();
        let mut scanner = Scanner::new(Arc::clone(rules));
        scanner.push(black_box(text), &mut out, &mut |_| {});
        scanner.finish(&mut out, &mut |_| {});
        black_box(&out);
    })
}

fn in_pieces(rules: &Arc<SecretRules>, text: &str, size: usize) -> (f64, usize) {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
        pieces.push(piece);
        rest = more;
    }
    let mut out = String::with_capacity(2 * text.len());
    let mut state = 0;
    let time = micros(|| {
        out.clear();
        let mut scanner = Scanner::new(Arc::clone(rules));
        for piece in &pieces {
            scanner.push(black_box(piece), &mut out, &mut |_| {});
        }
        state = scanner.size();
        scanner.finish(&mut out, &mut |_| {});
        black_box(&out);
    });
    (time, state)
}

fn filled(unit: &str) -> String {
    let mut text = unit.repeat(SIZE / unit.len() + 1);
    text.truncate(text.floor_char_boundary(SIZE));
    text
}

/// All kinds and patterns such as policies have, and how long these take to compile, in µs.
fn with_own(all: &[Kind]) -> (Arc<SecretRules>, f64) {
    let texts: Vec<String> = (0..16)
        .map(|number| if number % 2 == 0 { format!("PRJ{number}-[0-9]{{4,8}}") } else { format!("[A-Z]{{2}}[0-9]{{{}}}", 4 + number) })
        .collect();
    let own = |pattern| Pattern { kind: Kind::of_own("projectNumber"), pattern, near: &[], ends: Ends::Run, entropy: 0.0 };
    let patterns: Vec<Pattern<'_>> = texts.iter().map(String::as_str).map(own).collect();
    let start = Instant::now();
    let compiled = Patterns::new(&patterns).unwrap();
    let time = start.elapsed().as_secs_f64() * 1e6;
    (Arc::new(SecretRules::new(all).and(compiled)), time)
}

fn main() {
    let all: Vec<Kind> = Kind::all().collect();
    let rules = Arc::new(SecretRules::new(&all));
    let clean = filled(CLEAN);
    let found = rules.find(&clean);
    assert!(found.is_empty(), "the clean text isn't clean: {found:?}");
    println!("{} kinds, {} bytes of clean text", all.len(), clean.len());
    let base = whole(&rules, &clean);
    println!("{:<44}{base:>10.1} µs", "in one piece");
    let (fours, state) = in_pieces(&rules, &clean, 4);
    println!("{:<44}{fours:>10.1} µs", "in pieces of 4 bytes");
    println!("{:<44}{state:>10} bytes", "a stream's state, what is held back aside");

    let few = |count: usize| {
        let specs = pack::SECRETS.iter().flat_map(|(_, table)| table.iter());
        let step = specs.clone().count() / count;
        let chosen = specs.step_by(step.max(1)).take(count);
        let rules = chosen.filter_map(|spec| Some((Kind::of_name(spec.name)?, spec.rules)));
        let rules = rules.flat_map(|(kind, rules)| rules.iter().map(move |rule| (kind, rule)));
        Arc::new(SecretRules::of_rules(rules).unwrap())
    };
    for count in [22, 220] {
        println!("{:<44}{:>10.1} µs", format!("{count} kinds of secrets alone, in one piece"), whole(&few(count), &clean));
    }

    let (own, time) = with_own(&all);
    println!("{:<44}{:>10.1} µs", "with 16 patterns of a policy's own", whole(&own, &clean));
    println!("{:<44}{time:>10.1} µs", "to compile those");

    println!("\nText made to hurt, {SIZE} bytes{:>22}{:>10}", "one piece", "fours");
    let mut hurting: Vec<(String, String)> = [
        "eyJ-",
        "eyJa.",
        "a.",
        "a@a.",
        "a@",
        "1.",
        "1111 ",
        "1 ",
        "12-",
        "sk-",
        "xsk-",
        "hf_a",
        "AKIA",
        "ghp_",
        "gho_ghp_",
        "key=",
        "token: ",
        "api_key=a",
        "password='",
        "aa:",
        "::1",
        "f:",
        "+1(",
        "A1",
        "AB12",
        "https://a:",
        "-----BEGIN ",
        "SSN ",
    ]
    .iter()
    .map(|unit| (format!("{unit:?}"), filled(unit)))
    .collect();
    // Every beginning that there is, one behind the other.
    let beginnings: String = pack::SECRETS
        .iter()
        .flat_map(|(_, table)| table.iter())
        .flat_map(|spec| spec.rules)
        .filter(|rule| rule.assigned_to.is_empty())
        .map(|rule| rule.pattern.split(['[', '(', '\\', '{', '?']).next().unwrap_or_default())
        .collect();
    hurting.push(("all beginnings".into(), filled(&beginnings)));
    let names: String = pack::SECRETS
        .iter()
        .flat_map(|(_, table)| table.iter())
        .flat_map(|spec| spec.rules)
        .flat_map(|rule| rule.assigned_to)
        .flat_map(|name| [*name, "="])
        .collect();
    hurting.push(("all names, assigned to".into(), filled(&names)));
    let mut worst = 0.0f64;
    for (name, text) in hurting {
        let (one, fours_of) = (whole(&rules, &text), in_pieces(&rules, &text, 4).0);
        worst = worst.max(one / base).max(fours_of / fours);
        println!("{name:<44}{:>9.1}×{:>9.1}×", one / base, fours_of / fours);
    }
    println!("{:<44}{worst:>9.1}×", "the worst");
}

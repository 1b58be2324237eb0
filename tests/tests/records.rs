//! Looks through everything that the guard said in the whole test run for what the tests planted. `tests/run` calls it
//! after all the others; by itself it looks at the records of the last runs.
//!
//! The invariant: it can't pass without having looked. A run without records fails, and the scanner first has to find
//! every planted value, in every form, in a record made for that.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use llm_guard_tests::leaks::leaks;
use llm_guard_tests::planted::Planted;
use llm_guard_tests::records;

/// So many characters of a secret in a row are the secret.
const WINDOW: usize = 12;
/// What the index goes by. No needle is shorter.
const PREFIX: usize = 8;

/// One text to look for, and what to say when it is there: the kind and the form, never the text.
struct Needle {
    text: Vec<u8>,
    what: String,
}

/// The needles, found by their first bytes in one pass over a record. Case doesn't count: a log may hold normalised text.
struct Scanner {
    needles: Vec<Needle>,
    index: HashMap<[u8; PREFIX], Vec<usize>>,
}

impl Scanner {
    fn new(planted: &Planted) -> Self {
        let mut needles = Vec::new();
        for (kind, secret) in &planted.secrets {
            for piece in windows(secret) {
                needles.extend(forms(kind, &piece));
            }
            let digits: String = secret.chars().filter(char::is_ascii_digit).collect();
            if digits.len() == 16 && digits != *secret {
                needles.extend(windows(&digits).iter().flat_map(|piece| forms(kind, piece)));
            }
        }
        for leak in leaks().iter().filter(|leak| leak.value.len() >= PREFIX) {
            let what = format!("what leaks of the kind {}", leak.kind);
            needles.extend(windows(&leak.value).iter().flat_map(|piece| forms(&what, piece)));
        }
        for (what, text) in [
            ("the injection", &planted.injection),
            ("the word of every prompt", &planted.prompt_marker),
            ("the word of every answer", &planted.answer_marker),
        ] {
            needles.extend(forms(what, text));
        }
        let mut index: HashMap<_, Vec<_>> = HashMap::new();
        for (number, needle) in needles.iter_mut().enumerate() {
            needle.text.make_ascii_lowercase();
            index.entry(prefix(&needle.text).expect("needles are longer than that")).or_default().push(number);
        }
        Self { needles, index }
    }

    /// What of the planted values a record holds: each once, with the place where it was seen first.
    fn findings(&self, record: &[u8]) -> Vec<String> {
        let record = record.to_ascii_lowercase();
        let mut found: HashMap<&str, usize> = HashMap::new();
        for at in 0..record.len() {
            let Some(numbers) = prefix(&record[at..]).and_then(|prefix| self.index.get(&prefix)) else {
                continue;
            };
            for needle in numbers.iter().map(|number| &self.needles[*number]) {
                if record[at..].starts_with(&needle.text) {
                    found.entry(&needle.what).or_insert(at);
                }
            }
        }
        let mut lines: Vec<_> = found.into_iter().map(|(what, at)| format!("{what}, at byte {at}")).collect();
        lines.sort();
        lines
    }
}

fn prefix(text: &[u8]) -> Option<[u8; PREFIX]> {
    text.first_chunk::<PREFIX>().copied()
}

/// Every part of the text that is as long as a window, or the text itself if it is shorter. All planted text is ASCII.
fn windows(text: &str) -> Vec<String> {
    if text.len() <= WINDOW {
        return vec![text.to_owned()];
    }
    (0..=text.len() - WINDOW).map(|start| text[start..start + WINDOW].to_owned()).collect()
}

/// The text as it may stand in a record.
fn forms(what: &str, text: &str) -> Vec<Needle> {
    let each = |form: &dyn Fn(u8) -> String| text.bytes().map(form).collect::<String>();
    let escaped = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut forms = vec![
        ("as it is", text.to_owned()),
        ("in hexadecimal", each(&|byte| format!("{byte:02x}"))),
        ("in percent escapes", each(&|byte| format!("%{byte:02x}"))),
        (
            "in percent escapes where needed",
            each(&|byte| {
                if escaped(byte) { char::from(byte).into() } else { format!("%{byte:02x}") }
            }),
        ),
        ("in JSON escapes", each(&|byte| format!("\\u{byte:04x}"))),
        ("as a list of numbers", each(&|byte| format!("{byte},")).trim_end_matches(',').to_owned()),
        ("as a list of numbers, with spaces", each(&|byte| format!("{byte}, ")).trim_end_matches(", ").to_owned()),
    ];
    forms.extend((0..3).map(|offset| ("in base64", inner_base64(text.as_bytes(), offset, *b"+/"))));
    forms.extend((0..3).map(|offset| ("in base64 for URLs", inner_base64(text.as_bytes(), offset, *b"-_"))));
    forms.sort_by(|one, other| one.1.cmp(&other.1));
    forms.dedup_by(|one, other| one.1 == other.1);
    forms.into_iter().map(|(form, text)| Needle { text: text.into_bytes(), what: format!("{what} {form}") }).collect()
}

/// The characters of a base64 text that depend on nothing but `bytes`, when these begin `offset` bytes after a multiple of
/// three.
fn inner_base64(bytes: &[u8], offset: usize, last: [u8; 2]) -> String {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(bytes);
    let encoded = base64(&padded, last);
    let (from, to) = ((offset * 8).div_ceil(6), padded.len() * 8 / 6);
    encoded[from..to].to_owned()
}

fn base64(bytes: &[u8], last: [u8; 2]) -> String {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(last).collect();
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let group = three.iter().chain([0, 0].iter()).take(3).fold(0_usize, |group, byte| group << 8 | usize::from(*byte));
        for place in 0..=three.len() {
            text.push(char::from(alphabet[group >> (18 - 6 * place) & 0x3f]));
        }
    }
    text
}

#[test]
fn the_scanner_finds_every_planted_value_in_every_form() -> Result<(), Box<dyn Error>> {
    let planted = Planted::read()?;
    let scanner = Scanner::new(&planted);
    let mut values: Vec<&str> = planted.secrets.values().map(String::as_str).collect();
    values.extend([planted.injection.as_str(), &planted.prompt_marker, &planted.answer_marker]);
    for value in values {
        let middle = &value[value.len().saturating_sub(WINDOW) / 2..];
        let inside = if planted.secrets.values().any(|secret| secret == value) { &middle[..middle.len().min(WINDOW)] } else { value };
        let mut hexadecimal = String::new();
        let mut json = String::new();
        for byte in value.bytes() {
            write!(hexadecimal, "{byte:02X}")?;
            write!(json, "\\u{byte:04x}")?;
        }
        let percent = value.replace('%', "%25").replace('@', "%40").replace(' ', "%20");
        let written = [
            value.to_owned(),
            value.to_uppercase(),
            format!("a{inside}b"),
            hexadecimal,
            json,
            percent,
            base64(value.as_bytes(), *b"+/"),
            base64(format!("x{value}y").as_bytes(), *b"+/"),
            base64(format!("xy{value}z").as_bytes(), *b"-_"),
            format!("{:?}", value.as_bytes()),
        ];
        for (form, text) in written.iter().enumerate() {
            let record = format!("{{\"level\":\"INFO\",\"message\":\"{text}\"}}\n");
            assert!(!scanner.findings(record.as_bytes()).is_empty(), "form {form} of a value of {} characters wasn't found", value.len());
        }
    }
    Ok(())
}

#[test]
fn the_scanner_lets_an_ordinary_record_pass() -> Result<(), Box<dyn Error>> {
    let planted = Planted::read()?;
    let record = "{\"message\":\"request\",\"status\":200,\"content\":\"hmac:9f2c\",\"redactions\":{\"EMAIL\":1,\"JWT_TOKEN\":2}}\n\
                  Request blocked: potentially unsafe input detected [REDACTED_CREDIT_CARD] eyJ hf_ AKIA";
    assert_eq!(Scanner::new(&planted).findings(record.as_bytes()), Vec::<String>::new());
    Ok(())
}

#[test]
fn no_record_of_the_run_holds_a_planted_value() -> Result<(), Box<dyn Error>> {
    let scanner = Scanner::new(&Planted::read()?);
    let records = records::all()?;
    for kind in ["log", "metrics", "error"] {
        let of_this_kind = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == kind);
        let bytes: u64 = records.iter().filter(of_this_kind).map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum();
        assert!(bytes > 0, "there is nothing to scan of kind {kind} in {}: run the other tests first", records::folder()?.display());
    }
    let mut leaks = Vec::new();
    for path in &records {
        for finding in scanner.findings(&fs::read(path)?) {
            leaks.push(format!("{}: {finding}", path.display()));
        }
    }
    assert!(leaks.is_empty(), "planted values in the guard's records:\n{}", leaks.join("\n"));
    println!("{} records hold no planted value", records.len());
    Ok(())
}

//! What a model gives away in the tests that have it leak: values of many kinds, plain and in disguise, each in a sentence of its own.
//!
//! The invariant: no value stands in the repository. Each is drawn from the pattern of its kind, the same each time, or made of parts.
//! What is to be left of a sentence is told beside it, so that a test needn't ask the guard's own code.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use llm_guard_engine::detect::sample::samples;
use llm_guard_engine::detect::secrets::Kind;
use serde_json::json;

/// One value that a model gives away.
#[derive(Clone, Debug)]
pub struct Leak {
    /// Its kind, by the name in its mark.
    pub kind: &'static str,
    /// How it is written.
    pub form: Form,
    /// The sentence.
    pub said: String,
    /// What is to be left of the sentence.
    pub left: String,
    /// What it means: the value itself.
    pub value: String,
}

/// Kinds whose values are drawn from their own patterns: some of each topic.
const DRAWN: &[&str] = &[
    "AGE_SECRET_KEY",
    "ANTHROPIC_KEY",
    "REPLICATE_TOKEN",
    "MISTRAL_KEY",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "GCP_API_KEY",
    "GITLAB_TOKEN",
    "NPM_TOKEN",
    "DATABRICKS_TOKEN",
    "PLANETSCALE_PASSWORD",
    "SLACK_BOT_TOKEN",
    "TELEGRAM_BOT_TOKEN",
    "GRAFANA_SERVICE_TOKEN",
    "NEWRELIC_USER_KEY",
    "STRIPE_SECRET_KEY",
    "SHOPIFY_TOKEN",
    "SQUARE_TOKEN",
    "HUBSPOT_TOKEN",
    "BEARER_TOKEN",
    "PASSWORD",
    "OTP_SECRET",
    "PASSPORT",
];

impl Leak {
    /// The value as it stands in the sentence.
    #[must_use]
    pub fn written(&self) -> String {
        self.form.write(&self.value)
    }

    /// What is left of the sentence when another mark stands in the place of the value.
    #[must_use]
    pub fn left_with(&self, mark: &str) -> String {
        self.left.replacen(&format!("[REDACTED_{}]", self.kind), mark, 1)
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// In base64.
    Base64,
    /// In base64 for URLs.
    Base64Url,
    /// In hexadecimal.
    Hexadecimal,
    /// Every character as `%41`.
    Percent,
    /// Every character as `\u0041`.
    Unicode,
    /// Every character as `&#65;`.
    References,
    /// Every character in its wide form.
    Wide,
    /// With a zero-width space behind every third character.
    Invisible,
    /// With Markdown's stars and backticks in it.
    Markdown,
    /// Over two lines.
    Lines,
}

impl Form {
    fn write(self, value: &str) -> String {
        let each = |form: &dyn Fn(char) -> String| value.chars().map(form).collect();
        let (first, second) = value.split_at(value.len() / 2);
        match self {
            Self::Plain => value.to_owned(),
            Self::Base64 => STANDARD.encode(value),
            Self::Base64Url => URL_SAFE_NO_PAD.encode(value),
            Self::Hexadecimal => each(&|sign| format!("{:02x}", u32::from(sign))),
            Self::Percent => each(&|sign| format!("%{:02X}", u32::from(sign))),
            Self::Unicode => each(&|sign| format!("\\u{:04x}", u32::from(sign))),
            Self::References => each(&|sign| format!("&#{};", u32::from(sign))),
            Self::Wide => each(&|sign| char::from_u32(u32::from(sign) + 0xFEE0).unwrap_or(sign).to_string()),
            Self::Invisible => value
                .char_indices()
                .flat_map(|(place, sign)| (place > 0 && place % 3 == 0).then_some('\u{200b}').into_iter().chain([sign]))
                .collect(),
            Self::Markdown => format!("{}**{}`{second}", &first[..first.len() / 2], &first[first.len() / 2..]),
            Self::Lines => format!("{first}\n{second}"),
        }
    }
}

/// Kinds of which one is drawn in disguise.
const DISGUISED: &[(Form, &str)] = &[
    (Form::Base64, "GITHUB_TOKEN"),
    (Form::Base64Url, "OPENAI_KEY"),
    (Form::Hexadecimal, "SLACK_USER_TOKEN"),
    (Form::Percent, "STRIPE_WEBHOOK_SECRET"),
    (Form::Unicode, "SQUARE_TOKEN"),
    (Form::References, "AWS_ACCESS_KEY"),
    (Form::Wide, "STRIPE_SECRET_KEY"),
    (Form::Invisible, "LINEAR_KEY"),
    (Form::Markdown, "HUGGINGFACE_TOKEN"),
    (Form::Lines, "GITHUB_OAUTH"),
];

/// What stands around the values: nothing of it may change.
const SENTENCES: &[(&str, &str)] = &[
    ("So the first is ", ", I think – naïve, no? "),
    ("Ключ: ", " — да.\n"),
    ("- `", "` (two of three)\n"),
    ("Then '", "' is old; 日本語 too.\n"),
    ("Use ", " and never more. "),
    ("It was (", ") 🦀 at 9:30. "),
    ("<b>", "</b> & so on\n"),
    ("Or {", "}, [1, 2.5e3] in C:\\tmp.\n"),
];

/// What only looks like a value.
const HARMLESS: &str = "Not secret: sk-short, hf_x, AKIA, ghp_1, eyJ.no, me at home dot org, 12-345-678, [REDACTED], [REDACTED_EMAIL_.\n";

/// Every value, in its sentence.
///
/// # Panics
///
/// If no value of a kind can be drawn.
#[must_use]
pub fn leaks() -> Vec<Leak> {
    let drawn = |form, name: &'static str, seed: usize| {
        let sample = Kind::of_name(name).and_then(|kind| samples(kind, seed as u64 * 1_009 + 5).into_iter().next());
        let sample = sample.unwrap_or_else(|| panic!("no value of the kind {name} can be drawn"));
        (name, form, sample.before, sample.value, sample.after.trim_end().to_owned())
    };
    let made = made().into_iter().map(|(name, form, value)| {
        let (before, after) = if name == "POSTGRES_URL" { ("postgres://svc_ledger:", "@pg-main:5432/ledger") } else { ("", "") };
        (name, form, before.to_owned(), value, after.to_owned())
    });
    let plain = DRAWN.iter().enumerate().map(|(place, name)| drawn(Form::Plain, name, place));
    let disguised = DISGUISED.iter().enumerate().map(|(place, (form, name))| drawn(*form, name, DRAWN.len() + place));
    let values = plain.chain(disguised).chain(made);
    values
        .enumerate()
        .map(|(place, (kind, form, before, value, after))| {
            let (head, tail) = SENTENCES[place % SENTENCES.len()];
            let with = |middle: &str| format!("{head}{before}{middle}{after}{tail}");
            let written = form.write(&value);
            // The signs that fill up a base64 text say nothing.
            let filling = &written[written.trim_end_matches('=').len()..];
            Leak { kind, form, said: with(&written), left: with(&format!("[REDACTED_{kind}]{filling}")), value }
        })
        .chain([Leak { kind: "", form: Form::Plain, said: HARMLESS.into(), left: HARMLESS.into(), value: String::new() }])
        .collect()
}

/// Values with check digits, or of more than one part, and disguises of such.
fn made() -> Vec<(&'static str, Form, String)> {
    let mut chance = Chance(0x5EED);
    let token = |header: &str, claims: &str, signature: &[u8]| {
        [URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(signature)].join(".")
    };
    let claims = json!({
        "iss": "https://login.ledger.internal/realms/cassowary", "aud": ["ledger", "balustrade", "parquetry"], "sub": chance.letters(24),
        "exp": 1_893_456_000_u32, "iat": 1_893_452_400_u32, "jti": chance.letters(22), "scope": "read:notes write:notes admin:everything",
    });
    let long =
        token(&json!({"alg": "RS256", "typ": "JWT", "kid": chance.letters(12)}).to_string(), &claims.to_string(), &chance.bytes(256));
    let label = ["EC", "PRIVATE", "KEY"].join(" ");
    let key = STANDARD.encode(chance.bytes(121));
    let lines: Vec<&str> = key.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let armoured = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", lines.join("\n"));
    let bank = |country: &str, account: &str| {
        let digits: String =
            format!("{account}{country}00").chars().filter_map(|sign| sign.to_digit(36)).map(|digit| digit.to_string()).collect();
        let rest = digits.bytes().fold(0, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % 97);
        format!("{country}{:02}{account}", 98 - rest)
    };
    vec![
        ("JWT_TOKEN", Form::Plain, long),
        ("PRIVATE_KEY", Form::Plain, armoured),
        ("POSTGRES_URL", Form::Plain, chance.letters(18)),
        ("EMAIL", Form::Plain, ["tamsin.orrell", "@", "ledger", "-post.org"].concat()),
        ("CREDIT_CARD", Form::Plain, ["4556", "7375", "8689", "9855"].join(" ")),
        ("IBAN", Form::Plain, bank("DE", "370400440532013117")),
        ("SSN", Form::Plain, ["536", "22", "8726"].join("-")),
        ("PHONE", Form::Plain, ["+44", "20", "7946", "0317"].join(" ")),
        ("IP_ADDRESS", Form::Plain, ["185", "47", "203", "118"].join(".")),
        ("IP_ADDRESS", Form::Plain, ["2a02", "8071", "51c3", "e0aa", "1f7b", "4dff", "fe19", "77d2"].join(":")),
        ("MAC_ADDRESS", Form::Plain, ["5e", "3a", "91", "c4", "07", "be"].join(":")),
        ("EMAIL", Form::Percent, ["ilse.kettler", "@", "ledger", "-post.org"].concat()),
        ("EMAIL", Form::Invisible, ["odo.varga", "@", "ledger", "-post.org"].concat()),
        ("JWT_TOKEN", Form::Lines, token(&json!({"alg": "HS256"}).to_string(), &json!({"sub": "7731"}).to_string(), &chance.bytes(32))),
    ]
}

/// Numbers that look like chance and are the same each time (Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()[0]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next()).collect()
    }

    fn letters(&mut self, count: usize) -> String {
        let signs = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        (0..count).filter_map(|_| signs.chars().nth(usize::from(self.next()) % signs.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use llm_guard_engine::detect::secrets::{Group, Scanner, SecretRules};

    use super::*;

    fn redacted(text: &str) -> String {
        let (mut out, mut scanner) = (String::new(), Scanner::new(Arc::new(SecretRules::new(&Kind::all().collect::<Vec<_>>()))));
        scanner.push(text, &mut out, &mut |_| {});
        scanner.finish(&mut out, &mut |_| {});
        out
    }

    #[test]
    fn every_topic_leaks_and_a_sentence_alone_is_left_as_told() {
        let leaks = leaks();
        for group in Group::all() {
            assert!(leaks.iter().any(|leak| Kind::of_name(leak.kind).is_some_and(|kind| kind.group() == group)), "{}", group.key());
        }
        for leak in &leaks {
            assert_eq!(redacted(&leak.said), leak.left, "{:?} {}", leak.form, leak.kind);
        }
    }
}

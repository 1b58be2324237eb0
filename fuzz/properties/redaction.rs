//! What comes out of the redaction doesn't depend on the pieces in which a text arrives, nor on where it pauses, unless it says so; what is
//! held back is bounded; of a made-up value of any rule of the pack, planted in any text, nothing stays, and what is found in the text that
//! comes out is nothing of it. The pieces make no difference either where a policy has patterns of its own, values that stay, and other
//! things than marks in the place of values.

use std::sync::{Arc, LazyLock};

use llm_guard_engine::detect::rule::Ends;
use llm_guard_engine::detect::sample::{Sample, samples};
use llm_guard_engine::detect::secrets::{Allowed, HOLD_LIMIT, Kind, Pattern, Patterns, Replacement, Scanner, SecretRules, TokenKey};

/// How many bytes of a value in a row tell that something of it stays: fewer stand in a text by chance.
const TELLING: usize = 6;
/// How often a text pauses at most.
const PAUSES: usize = 2048;
/// How much is read at once, and may be held back beside what is open.
const CHUNK: usize = 4 * 1024;

static RULES: LazyLock<Arc<SecretRules>> = LazyLock::new(|| Arc::new(SecretRules::new(&Kind::all().collect::<Vec<_>>())));

static KEY: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::new(&[7; 32]).expect("it is long enough"));

/// What a policy may say beside its kinds. The patterns find much, so that they are met by chance.
static OWN: LazyLock<Arc<SecretRules>> = LazyLock::new(|| {
    let own = |name, pattern, near, ends| Pattern { kind: Kind::of_own(name), pattern, near, ends, entropy: 0.0 };
    let patterns = [
        own("fuzzedText", "a[0-9]{2,}", &[][..], Ends::Run),
        own("fuzzedClass", "[0-9]{3}-[0-9]{2}", &[], Ends::Word),
        own("fuzzedLine", "user=[^\\n]+", &[], Ends::Pattern),
        own("fuzzedNear", "[a-z]+-[0-9]", &["id", "no"], Ends::Pattern),
    ];
    let every_other = |first| Kind::all().skip(first).step_by(2).collect::<Vec<_>>();
    let (even, odd) = (every_other(0), every_other(1));
    let rules = SecretRules::new(&Kind::all().collect::<Vec<_>>()).and(Patterns::new(&patterns).expect("they are sound"));
    let rules = rules.but(Allowed::new(["a1*", "*@a*.b*", "10.*"]));
    let with =
        [(even.as_slice(), Replacement::LastDigits), (odd.as_slice(), Replacement::Token), (&[patterns[0].kind][..], Replacement::Token)];
    Arc::new(rules.replacing(with, Some(&KEY)))
});

/// A value of each rule, as far as it is found by itself.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let all = Kind::all().flat_map(|kind| samples(kind, 7));
    all.filter(|sample| !whole(&format!(" {} ", sample.text())).contains(&sample.value)).collect()
});

pub(crate) fn holds(data: &[u8]) {
    let Some(([high, low, sizes @ ..], bytes)) = super::header::<6>(data) else { return };
    let sample = &SAMPLES[usize::from(u16::from_be_bytes([high, low])) % SAMPLES.len()];
    let said = String::from_utf8_lossy(bytes);
    let text = plant(&said, sample, &format!(" {} ", sample.text()));

    for rules in [&RULES, &OWN] {
        let out = rules.redact(&text, &mut |_| {});
        for sizes in [&sizes[..], &[1]] {
            assert_eq!(in_pieces(rules, &text, sizes, false).0, out, "{:?}: the pieces make a difference", sample.kind);
        }
        let (paused, is_torn) = in_pieces(rules, &text, &sizes, true);
        assert!(is_torn || paused == out, "{:?}: a pause makes a difference", sample.kind);
    }
    let out = whole(&text);

    let mut rebuilt = text.clone();
    for (kind, place) in RULES.find(&text).into_iter().rev() {
        rebuilt.replace_range(place, kind.mark());
    }
    assert_eq!(rebuilt, out, "{:?}: what is replaced isn't what is found", sample.kind);
    assert_eq!(RULES.is_clean(&text), text == out, "{:?}: it is clean, and isn't", sample.kind);

    // What the text says anyway isn't the value's.
    let around = plant(&said, sample, " \0 ");
    let is_its_own = |part: &str| sample.value.contains(part) && !around.contains(part);
    let left = unmarked(&out);
    let parts = (0..sample.value.len()).filter_map(|from| sample.value.get(from..from + TELLING));
    for part in parts {
        assert!(!is_its_own(part) || !left.contains(part), "{:?}: {part} stays in {out}", sample.kind);
    }
    for (kind, place) in RULES.find(&out) {
        let found = &out[place];
        assert!(found.len() < TELLING || !is_its_own(found), "{:?}: {found} is found again, as {kind:?}", sample.kind);
    }
}

/// The text, with a value in the place of some characters: all of it in words that it needs, its halves, and its disguises.
fn plant(said: &str, sample: &Sample, whole: &str) -> String {
    let value = &sample.value;
    let (first, second) = value.split_at(value.floor_char_boundary(value.len() / 2));
    let each = |say: &dyn Fn(char) -> String| value.chars().map(say).collect::<String>();
    let mut text = String::with_capacity(said.len());
    for c in said.chars() {
        match c {
            '\u{1}' => text.push_str(whole),
            '\u{2}' => text.push_str(first),
            '\u{3}' => text.push_str(second),
            '\u{4}' => text.push_str(&each(&|c| format!("\\u{:04x}", u32::from(c)))),
            '\u{5}' => text.push_str(&each(&|c| format!("%{:02x}", u32::from(c)))),
            '\u{6}' => text.push_str(&each(&|c| format!("{c}\u{200b}"))),
            '\u{7}' => text.push_str(&each(&|c| format!("{:02x}", u32::from(c)))),
            other => text.push(other),
        }
    }
    text
}

fn whole(text: &str) -> String {
    RULES.redact(text, &mut |_| {})
}

/// What comes out of pieces of these sizes, over and over; with pauses between them, if it has any; and whether the text is torn.
fn in_pieces(rules: &Arc<SecretRules>, text: &str, sizes: &[u8], pauses: bool) -> (String, bool) {
    let (mut scanner, mut out) = (Scanner::new(Arc::clone(rules)), String::new());
    let (mut rest, mut sizes) = (text, sizes.iter().cycle());
    // (A pause takes as long as what is held back is.)
    let every = text.len().div_ceil(PAUSES);
    for number in 0.. {
        if rest.is_empty() {
            break;
        }
        let size = sizes.next().map_or(rest.len(), |size| usize::from(*size).max(1));
        let (piece, more) = rest.split_at(rest.ceil_char_boundary(size));
        rest = more;
        scanner.push(piece, &mut out, &mut |_| {});
        assert!(scanner.held() <= HOLD_LIMIT + CHUNK, "{} bytes are held back", scanner.held());
        if pauses && number % every == 0 {
            scanner.pause(&mut out);
        }
    }
    scanner.finish(&mut out, &mut |_| {});
    let is_torn = scanner.is_torn();
    (out, is_torn)
}

/// A text without the marks in it.
fn unmarked(text: &str) -> String {
    let parts = text.split("[REDACTED_").enumerate().map(|(number, part)| match part.split_once(']') {
        Some((name, rest)) if number > 0 && Kind::of_name(name).is_some() => rest,
        _ => part,
    });
    parts.collect::<Vec<_>>().join("\0")
}

//! The settings of one workload's guards: a policy, what stands above and below it, and the seal that says who wrote it.
//!
//! The invariant: what [`open`] returns was sealed by one of the given keys, for the audience and with the serial that stand in it,
//! and every byte of it was under the seal.
//!
//! The text is one line, `llm-guard/v1 KEY SIGNATURE` in hexadecimal digits, and then the settings as JSON, so that whoever looks at
//! the `ConfigMap` can read what is in force. The signature (Ed25519, RFC 8032) is over [`CONTEXT`] and all bytes after the first line.

use std::fmt::{self, Write};
use std::str::FromStr;

pub use ed25519_dalek::SigningKey;
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{GuardPolicy, Mode, Moment};
use crate::detect::secrets::TokenKey;

/// What the signature is over, before the text: a signature made for anything else means nothing here.
pub const CONTEXT: &[u8] = b"llm-guard settings v1\n";
/// How the first line begins.
const FORM: &str = "llm-guard/v1";
/// The most bytes that settings may have. Kubernetes keeps a `ConfigMap` to one mebibyte.
pub const MAX_BYTES: usize = 1024 * 1024;

/// What the guards of one workload go by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Whose they are: `CLUSTER/NAMESPACE/KIND/NAME`, the first two by uid. A guard takes its own and no others.
    pub audience: String,
    /// Goes up with each change and never back.
    pub serial: u64,
    /// The mode by annotation, of the workload or else of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The namespace's `llm-guard.io/minimum-mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Mode>,
    /// Whether everything is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
    /// What runs, or ran, of the exceptions. Each ends by the guard's own clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// What it is that holds in these modes.
    pub policy: GuardPolicy,
    /// Is judged beside it in its own modes, and does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<GuardPolicy>,
}

/// A `GuardException`, as far as a guard has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exception {
    /// Its name, for the log.
    pub name: String,
    /// The most that any control gets while it lasts.
    pub mode: Mode,
    /// When it ends.
    pub expires: Moment,
}

impl Exception {
    /// Whether it hasn't ended yet.
    #[must_use]
    pub fn runs(&self, now: Moment) -> bool {
        now < self.expires
    }

    /// The mode of the weakest of several: the one that counts.
    #[must_use]
    pub fn weakest<'e>(running: impl IntoIterator<Item = &'e Self>) -> Option<Mode> {
        running.into_iter().map(|exception| exception.mode).min()
    }
}

/// What stands around a policy: the modes around its own, and what it may not say itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Stands in the place of the policy's mode, and no control goes above it.
    pub mode: Option<Mode>,
    /// The pod's own: counts where it is stricter, and only there.
    pub pod: Option<Mode>,
    /// The most that any control gets, whatever the others say, but for the floor: where the guard can be stepped around, more would
    /// be a promise that isn't kept.
    pub most: Option<Mode>,
    /// Nothing goes below it.
    pub floor: Option<Mode>,
    /// Nothing goes above it while an exception lasts, whatever all the others say, the floor too.
    pub exception: Option<Mode>,
    /// What tokens are made with that stand in the place of values. None: marks stand there.
    pub tokens: Option<&'static TokenKey>,
}

impl Standing {
    /// Only a mode by annotation, or by flag.
    #[must_use]
    pub fn of(mode: Option<Mode>) -> Self {
        Self { mode, ..Self::default() }
    }

    /// The mode of a control that has `own`, if any, in a policy whose mode is `policys`, if any.
    #[must_use]
    pub fn resolve(&self, own: Option<Mode>, policys: Option<Mode>) -> Mode {
        let under = |ceiling: Option<Mode>| match ceiling {
            Some(ceiling) => own.unwrap_or(ceiling).min(ceiling),
            None => own.or(policys).unwrap_or_default(),
        };
        let pods = self.pod.map(|pod| under(Some(pod)));
        let asked = under(self.mode).max(pods.unwrap_or_default());
        let held = asked.min(self.most.unwrap_or(Mode::Hard)).max(self.floor.unwrap_or_default());
        held.min(self.exception.unwrap_or(Mode::Hard))
    }
}

/// The half of a key pair that everybody may know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Text that is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 64 hexadecimal digits, an Ed25519 public key")]
pub struct KeyError;

impl PublicKey {
    /// The public half of a key.
    #[must_use]
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = from_hex(text).ok_or(KeyError)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError)?;
        // Under a weak key many signatures fit many texts.
        if key.is_weak() { Err(KeyError) } else { Ok(Self(key)) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Why a text is no settings. None of these says anything of the text but what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The first line is missing, or of another form.
    #[error("the settings bear no signature")]
    Unsigned,
    /// Another key made the signature.
    #[error("the settings are signed by a key that this guard doesn't know; a pod that was made before the key was lost must be restarted")]
    ForeignKey,
    /// The signature is another text's.
    #[error("the signature of the settings doesn't fit them: they were changed by hand")]
    Signature,
    /// What was signed is no settings: they were written for another version of the guard.
    #[error("the settings can't be read (line {line}, column {column}): they were written for another version of the guard")]
    Form {
        /// Counted in the JSON, from one.
        line: usize,
        /// Counted from one.
        column: usize,
    },
    /// There is too much of it.
    #[error("the settings have {0} bytes; at most {MAX_BYTES} are read")]
    TooLarge(usize),
}

/// Signs settings: the text of the `ConfigMap`.
#[must_use]
pub fn seal(settings: &Settings, key: &SigningKey) -> String {
    // Every part of settings is a string, a number, a list or a map with string keys, so this can't fail; an empty text would be refused.
    let text = serde_json::to_string_pretty(settings).unwrap_or_default();
    let signature = key.sign(&signed(&text));
    format!("{FORM} {} {}\n{text}\n", PublicKey::of(key), to_hex(&signature.to_bytes()))
}

/// Reads what [`seal`] wrote, if one of these keys signed it.
pub fn open(text: &str, keys: &[PublicKey]) -> Result<Settings, OpenError> {
    if text.len() > MAX_BYTES {
        return Err(OpenError::TooLarge(text.len()));
    }
    let (head, rest) = text.split_once('\n').ok_or(OpenError::Unsigned)?;
    let mut words = head.split(' ');
    let (Some(FORM), Some(key), Some(signature), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(OpenError::Unsigned);
    };
    let key = key.parse::<PublicKey>().map_err(|_| OpenError::Unsigned)?;
    let signature = Signature::from_bytes(&from_hex(signature).ok_or(OpenError::Unsigned)?);
    if !keys.contains(&key) {
        return Err(OpenError::ForeignKey);
    }
    let rest = rest.strip_suffix('\n').unwrap_or(rest);
    key.0.verify_strict(&signed(rest), &signature).map_err(|_| OpenError::Signature)?;
    serde_json::from_str(rest).map_err(|error| OpenError::Form { line: error.line(), column: error.column() })
}

fn signed(text: &str) -> Vec<u8> {
    [CONTEXT, text.as_bytes()].concat()
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn some() -> Settings {
        let policy = GuardPolicy::read("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p}\nspec: {mode: soft}\n");
        Settings {
            audience: "c/n/Deployment/ollama".into(),
            serial: 7,
            mode: Some(Mode::Hard),
            floor: None,
            stop: false,
            exceptions: vec![Exception { name: "e".into(), mode: Mode::Monitor, expires: Moment::from_unix(1_795_335_900) }],
            policy: policy.unwrap(),
            shadow: Some(GuardPolicy::built_in()),
        }
    }

    #[test]
    fn what_one_of_the_keys_sealed_opens_as_it_was() {
        let text = seal(&some(), &key(1));
        let keys = [PublicKey::of(&key(2)), PublicKey::of(&key(1))];
        assert_eq!(open(&text, &keys), Ok(some()));
        let again: Vec<PublicKey> = keys.iter().map(|key| key.to_string().parse().unwrap()).collect();
        assert_eq!(open(&text, &again), Ok(some()));
    }

    #[test]
    fn settings_without_a_shadow_are_written_as_they_were_before_there_were_any() {
        let text = seal(&Settings { shadow: None, ..some() }, &key(1));
        assert!(!text.contains("shadow"), "{text}");
        assert_eq!(open(&text, &[PublicKey::of(&key(1))]).unwrap().shadow, None);
    }

    #[test]
    fn a_change_of_any_byte_is_refused() {
        let text = seal(&some(), &key(1));
        let keys = [PublicKey::of(&key(1))];
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(open(&changed, &keys).is_err(), "byte {place} of {}", text.len());
        }
        for shorter in 0..text.len() - 1 {
            assert!(open(&text[..shorter], &keys).is_err(), "{shorter} bytes");
        }
        assert_eq!(open(&format!("{text} "), &keys), Err(OpenError::Signature));
    }

    #[test]
    fn a_foreign_key_and_no_key_are_told_apart() {
        let text = seal(&some(), &key(1));
        assert_eq!(open(&text, &[PublicKey::of(&key(2))]), Err(OpenError::ForeignKey));
        assert_eq!(open(&text, &[]), Err(OpenError::ForeignKey));
        let (_, json) = text.split_once('\n').unwrap();
        assert_eq!(open(json, &[PublicKey::of(&key(1))]), Err(OpenError::Unsigned));
        assert_eq!(open("", &[PublicKey::of(&key(1))]), Err(OpenError::Unsigned));
    }

    #[test]
    fn a_signature_of_the_bare_text_without_its_context_is_refused() {
        let text = seal(&some(), &key(1));
        let (_, json) = text.split_once('\n').unwrap();
        let bare = key(1).sign(json.trim_end().as_bytes());
        let forged = format!("{FORM} {} {}\n{json}", PublicKey::of(&key(1)), to_hex(&bare.to_bytes()));
        assert_eq!(open(&forged, &[PublicKey::of(&key(1))]), Err(OpenError::Signature));
    }

    #[test]
    fn a_weak_key_and_odd_digits_are_no_key() {
        let identity = ["01", &"00".repeat(31)].concat();
        for text in ["", "00", &identity, &"g".repeat(64), &PublicKey::of(&key(1)).to_string().to_uppercase()] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError), "{text}");
        }
    }

    #[test]
    fn a_pods_own_mode_counts_only_where_it_is_stricter_and_nothing_goes_below_the_floor() {
        use Mode::{Hard, Monitor, Soft};
        let any = [None, Some(Monitor), Some(Soft), Some(Hard)];
        for own in any {
            for policys in any {
                for mode in any {
                    let without = Standing { mode, ..Standing::default() }.resolve(own, policys);
                    for pod in any {
                        for floor in any {
                            let said = Standing { mode, pod, floor, ..Standing::default() }.resolve(own, policys);
                            assert!(said >= without && said >= floor.unwrap_or_default());
                            let most = without.max(pod.unwrap_or_default()).max(floor.unwrap_or_default());
                            assert!(said <= most, "{own:?} {policys:?} {mode:?} {pod:?} {floor:?}: {said}");
                        }
                    }
                    if let Some(mode) = mode {
                        assert!(without <= mode, "no control goes above the annotation");
                    }
                }
            }
        }
        assert_eq!(Standing { pod: Some(Hard), ..Standing::of(Some(Soft)) }.resolve(None, None), Hard);
        assert_eq!(Standing { pod: Some(Soft), ..Standing::of(None) }.resolve(Some(Hard), None), Hard);
        let calm = Standing { most: Some(Monitor), pod: Some(Hard), ..Standing::of(Some(Hard)) };
        assert_eq!(calm.resolve(Some(Hard), Some(Hard)), Monitor);
        assert_eq!(Standing { floor: Some(Soft), ..calm }.resolve(None, None), Soft);
    }
    #[test]
    fn an_exception_makes_nothing_stricter_and_nothing_goes_above_it_whatever_stands_around() {
        use Mode::{Hard, Monitor, Soft};
        let any = [None, Some(Monitor), Some(Soft), Some(Hard)];
        let all = || any.into_iter().flat_map(move |a| any.into_iter().map(move |b| (a, b)));
        let mut cases = 0;
        for ((own, policys), (mode, pod), (most, floor)) in all().flat_map(|a| all().flat_map(move |b| all().map(move |c| (a, b, c)))) {
            let without = Standing { mode, pod, most, floor, ..Standing::default() };
            let held = without.resolve(own, policys);
            for exception in [Monitor, Soft, Hard] {
                let excepted = Standing { exception: Some(exception), ..without }.resolve(own, policys);
                assert_eq!(excepted, held.min(exception), "{without:?} {own:?} {policys:?}");
                cases += 1;
            }
        }
        assert_eq!(cases, 3 * 4_usize.pow(6));
    }

    #[test]
    fn settings_without_exceptions_read_and_are_written_as_ever() {
        let plain = Settings { exceptions: Vec::new(), ..some() };
        let text = seal(&plain, &key(1));
        assert!(!text.contains("exceptions"), "{text}");
        assert_eq!(open(&text, &[PublicKey::of(&key(1))]), Ok(plain));
        let text = seal(&some(), &key(1));
        assert!(text.contains("\"expires\": \"2026-11-22T08:25:00Z\""), "{text}");
    }
}

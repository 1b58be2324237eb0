//! What a policy says of values beside the kinds that the pack knows: patterns of its own, values that stay, and what stands in the place
//! of others.
//!
//! The invariant: a policy that loads means what it says. Whatever would never be found, would allow everything or would never come to
//! hold is refused, with its place and with what to write instead.

use super::{groups, kinds_of};
use crate::detect::rule::Ends;
use crate::detect::secrets::{Allowed, Kind, Pattern, Patterns, Replacement, SecretRules, TokenKey};
use crate::policy::{PatternEnd, PatternSpec, PolicyError, RedactionSpec, ReplaceWith, ReplacementSpec, shown};

/// The most patterns, the most bytes of one, and of its name.
const MAX_PATTERNS: usize = 64;
const MAX_PATTERN: usize = 256;
const MAX_NAME: usize = 40;
/// The most words that one wants near, and the most bytes of such a word.
const MAX_NEAR: usize = 16;
const MAX_WORD: usize = 40;
/// The most values that stay, and the most bytes of one.
const MAX_ALLOWED: usize = 256;
const MAX_VALUE: usize = 256;
/// The most entries of replacements.
const MAX_REPLACEMENTS: usize = 64;

type Refused<T> = Result<T, PolicyError>;

fn refuse<T>(path: String, reason: impl Into<String>) -> Refused<T> {
    Err(PolicyError::in_spec(path, reason))
}

fn at_most<T>(list: &[T], most: usize, path: &str) -> Refused<()> {
    if list.len() > most {
        return refuse(format!("{path}[{most}]"), format!("there are {} entries; at most {most} are read", list.len()));
    }
    Ok(())
}

/// The kinds of each name in a list at a path.
pub(super) fn named<'n>(
    names: &'n [String],
    own: &'n [(&'n str, Kind)],
    path: &'n str,
) -> impl Iterator<Item = Refused<Vec<Kind>>> + use<'n> {
    names.iter().enumerate().map(move |(place, name)| kinds_of(name, own, &|| format!("{path}[{place}]")))
}

/// The patterns of a policy, sound by their names.
pub(super) struct Own<'s> {
    /// Their names, with the kinds that they make.
    pub(super) names: Vec<(&'s str, Kind)>,
    patterns: &'s [PatternSpec],
}

impl<'s> Own<'s> {
    pub(super) fn new(spec: &'s RedactionSpec) -> Refused<Self> {
        let patterns = spec.patterns.as_deref().unwrap_or_default();
        at_most(patterns, MAX_PATTERNS, "redaction.patterns")?;
        for (place, pattern) in patterns.iter().enumerate() {
            check_name(place, &pattern.name, &patterns[..place])?;
        }
        let names = patterns.iter().map(|pattern| (pattern.name.as_str(), Kind::of_own(&pattern.name))).collect();
        Ok(Self { names, patterns })
    }

    /// The rules, with all that the policy says beside its kinds.
    pub(super) fn add_to(&self, mut rules: SecretRules, spec: &RedactionSpec, tokens: Option<&'static TokenKey>) -> Refused<SecretRules> {
        if !self.patterns.is_empty() {
            rules = rules.and(self.compile()?);
        }
        let allowed = spec.allow.as_deref().unwrap_or_default();
        at_most(allowed, MAX_ALLOWED, "redaction.allow")?;
        for (place, entry) in allowed.iter().enumerate() {
            check_allowed(entry).or_else(|reason| refuse(format!("redaction.allow[{place}]"), reason))?;
        }
        let replacements = self.replacements(spec.replacements.as_deref().unwrap_or_default())?;
        let replacements = replacements.iter().map(|(kinds, with)| (kinds.as_slice(), *with));
        Ok(rules.but(Allowed::new(allowed.iter().map(String::as_str))).replacing(replacements, tokens))
    }

    fn compile(&self) -> Refused<Patterns> {
        let mut words: Vec<Vec<&str>> = Vec::with_capacity(self.patterns.len());
        for (place, pattern) in self.patterns.iter().enumerate() {
            check_pattern(place, pattern)?;
            words.push(pattern.near.iter().flatten().map(String::as_str).collect());
        }
        let own = self.names.iter().zip(self.patterns).zip(&words);
        let patterns: Vec<Pattern<'_>> = own.map(|(((_, kind), spec), near)| as_pattern(*kind, spec, near)).collect();
        Patterns::new(&patterns)
            .map_err(|error| PolicyError::in_spec(format!("redaction.patterns[{}].pattern", error.place), error.to_string()))
    }

    fn replacements(&self, specs: &[ReplacementSpec]) -> Refused<Vec<(Vec<Kind>, Replacement)>> {
        at_most(specs, MAX_REPLACEMENTS, "redaction.replacements")?;
        let mut entries: Vec<(Vec<Kind>, Replacement)> = Vec::with_capacity(specs.len());
        for (place, ReplacementSpec { kinds, with }) in specs.iter().enumerate() {
            let path = format!("redaction.replacements[{place}].kinds");
            if kinds.is_empty() {
                return refuse(path, "it is empty: name the kinds that are meant");
            }
            let mut meant = Vec::new();
            for (nth, of_name) in named(kinds, &self.names, &path).enumerate() {
                let of_name = of_name?;
                if of_name.iter().all(|kind| entries.iter().any(|(earlier, _)| earlier.contains(kind))) {
                    let reason =
                        format!("an entry before it names all of '{}', and the first counts: put what is special first", kinds[nth]);
                    return refuse(format!("{path}[{nth}]"), reason);
                }
                meant.extend(of_name);
            }
            // (What has no name of its own any more could be any pattern's.)
            meant.retain(|kind| *kind != Kind::CUSTOM);
            entries.push((meant, replacement(*with)));
        }
        Ok(entries)
    }
}

fn replacement(with: ReplaceWith) -> Replacement {
    match with {
        ReplaceWith::Mark => Replacement::Mark,
        ReplaceWith::LastDigits => Replacement::LastDigits,
        ReplaceWith::Token => Replacement::Token,
    }
}

fn as_pattern<'p>(kind: Kind, spec: &'p PatternSpec, near: &'p [&'p str]) -> Pattern<'p> {
    let ends = match spec.ends.unwrap_or(PatternEnd::Run) {
        PatternEnd::Run => Ends::Run,
        PatternEnd::Word => Ends::Word,
        PatternEnd::Pattern => Ends::Pattern,
    };
    #[expect(clippy::cast_possible_truncation, reason = "it is from 0 to 8, and a bound, not an amount")]
    let entropy = spec.entropy.unwrap_or_default() as f32;
    Pattern { kind, pattern: &spec.pattern, near, ends, entropy }
}

fn check_name(place: usize, name: &str, earlier: &[PatternSpec]) -> Refused<()> {
    let path = format!("redaction.patterns[{place}].name");
    let is_plain = name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_plain || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        let reason =
            format!("'{}' is no name for a kind: a small letter, and letters and digits behind it, at most {MAX_NAME}", shown(name));
        return refuse(path, reason);
    }
    if Kind::of_key(name).is_some() || groups().any(|group| group == name) || name == Kind::CUSTOM.key() {
        return refuse(path, format!("'{name}' is known already: call it otherwise"));
    }
    if earlier.iter().any(|pattern| pattern.name == name) {
        return refuse(path, format!("there is another pattern of the name '{name}': write both into one, as in (?:ONE|OTHER)"));
    }
    Ok(())
}

fn check_pattern(place: usize, spec: &PatternSpec) -> Refused<()> {
    let path = format!("redaction.patterns[{place}]");
    if spec.pattern.len() > MAX_PATTERN {
        return refuse(format!("{path}.pattern"), format!("it has {} bytes; at most {MAX_PATTERN} are read", spec.pattern.len()));
    }
    let path = format!("{path}.near");
    let Some(words) = &spec.near else { return Ok(()) };
    if words.is_empty() {
        return refuse(path, "it is empty: leave it out where no word is needed");
    }
    at_most(words, MAX_NEAR, &path)?;
    for (nth, word) in words.iter().enumerate() {
        if word.trim() != word || !(2..=MAX_WORD).contains(&word.len()) {
            let reason = format!("'{}' is no word to look for: from 2 to {MAX_WORD} bytes, without white space around them", shown(word));
            return refuse(format!("{path}[{nth}]"), reason);
        }
    }
    Ok(())
}

fn check_allowed(entry: &str) -> Result<(), String> {
    if entry.is_empty() {
        return Err("it is empty".to_owned());
    }
    if entry.len() > MAX_VALUE {
        return Err(format!("it has {} bytes; at most {MAX_VALUE} are read", entry.len()));
    }
    if entry.trim() != entry {
        return Err("it has white space around it, and no value has".to_owned());
    }
    if entry.bytes().all(|byte| byte == b'*') {
        return Err("it allows every value: say which stay, or leave kinds out of redaction.kinds".to_owned());
    }
    Ok(())
}

//! LLM03, supply chain: which models may be used, where they may run, and which one answers where none is named.
//!
//! A name is allowed only if every model is that a server could take it for (see [`crate::wire::names`]). Where the model runs is
//! judged twice: by what the name says, and by what the server says of it (see [`crate::wire::whereabouts`]), which whoever calls the
//! engine has to ask. In monitor nobody asks, so that there a model of the cloud is counted by its name and by its answers.

use super::{Asked, Control, Finding, Placed, Remedy, by_mode, refuse};
use crate::policy::{Cloud, Mode, ModelsSpec, PolicyError, shown};
use crate::verdict::ControlId;
use crate::wire::names::{ModelName, OWN_REGISTRY, Reader, canonical_pattern, may_be_foreign};
use crate::wire::whereabouts::{Places, Whereabouts};
use crate::wire::{Class, Family};

const NOT_ALLOWED: &str = "this model is not allowed by the policy";
const IN_CLOUD: &str = "this model runs in a cloud, and the policy keeps what is asked here (models.cloud)";
const NOWHERE: &str =
    "the model server doesn't say what runs under this name, so it can't be held against the policy (models.allow, models.cloud)";
const NO_NAME: &str = "model: this is no name that a model can have";

#[derive(Debug)]
pub(super) struct Models {
    mode: Mode,
    allowed: Allowed,
    default: Option<String>,
    cloud: Cloud,
}

/// What is wrong with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its name is none.
    Name,
    NotAllowed,
    Cloud,
    /// Nobody can say where it runs.
    Unknown,
}

impl Fault {
    fn kind(self) -> &'static str {
        match self {
            Self::Name => "invalid_name",
            Self::NotAllowed => "not_allowed",
            Self::Cloud => "cloud",
            Self::Unknown => "place_unknown",
        }
    }

    fn denied(self) -> Remedy {
        match self {
            Self::Name => refuse(400, NO_NAME),
            Self::NotAllowed => refuse(403, NOT_ALLOWED),
            Self::Cloud => refuse(403, IN_CLOUD),
            Self::Unknown => refuse(502, NOWHERE),
        }
    }
}

/// What is known of the place where a model runs.
enum Place {
    Fine,
    Locate(String),
    Fault(Fault),
}

impl Models {
    pub(super) fn new(spec: &ModelsSpec, mode: Mode) -> Result<Self, PolicyError> {
        let models = Self {
            mode,
            allowed: Allowed::new(spec.allow.as_deref(), "models.allow")?,
            default: spec.default.clone(),
            cloud: spec.cloud.unwrap_or(Cloud::Deny),
        };
        for (place, name) in spec.allow.iter().flatten().enumerate() {
            // What a pattern stands for may be anywhere. (That the name is on the list needn't be looked up.)
            if models.cloud == Cloud::Deny && !name.contains('*') && ModelName::read(name).is_cloud() {
                let reason = format!("'{}' runs in a cloud, which models.cloud denies: it would never be allowed", shown(name));
                return Err(PolicyError::in_spec(format!("models.allow[{place}]"), reason));
            }
        }
        if spec.default.as_ref().is_some_and(|default| default.trim().is_empty()) {
            return Err(PolicyError::in_spec("models.default", "it is empty: leave it out where there is none"));
        }
        let reason = models.default.as_deref().and_then(|default| match models.fault(default, Family::OpenAi)? {
            Fault::Cloud => Some(format!("'{}' runs in a cloud, which models.cloud denies", shown(default))),
            Fault::Name => Some(format!("'{}' is no name that a model can have", shown(default))),
            Fault::NotAllowed | Fault::Unknown => Some(format!("'{}' is not among models.allow", shown(default))),
        });
        match reason {
            Some(reason) => Err(PolicyError::in_spec("models.default", reason)),
            None => Ok(models),
        }
    }

    /// What is wrong with a name, asked for in the words of a family.
    fn fault(&self, name: &str, family: Family) -> Option<Fault> {
        let read = ModelName::read(name);
        // Over the other APIs servers are reached that give other names; Ollama itself takes its own only, also there.
        let is_name = read.is_taken() || family != Family::Ollama && may_be_foreign(name);
        if !is_name {
            Some(Fault::Name)
        } else if !self.allowed.contains(name) {
            Some(Fault::NotAllowed)
        } else {
            (self.cloud == Cloud::Deny && read.is_cloud()).then_some(Fault::Cloud)
        }
    }

    /// What the server says of the place of a model whose name is in order.
    fn place(&self, name: &str, family: Family, places: &Places) -> Place {
        let unless_allowed = |fault| if self.cloud == Cloud::Deny { Place::Fault(fault) } else { Place::Fine };
        match places.get(name) {
            None => Place::Locate(name.to_owned()),
            Some(Whereabouts::Here | Whereabouts::Missing) => Place::Fine,
            Some(Whereabouts::Cloud) => unless_allowed(Fault::Cloud),
            // It may be an alias of any other.
            Some(Whereabouts::Unknown) => Place::Fault(Fault::Unknown),
            Some(Whereabouts::Alias(target)) => match (self.fault(target, family), self.cloud) {
                (Some(fault), _) => Place::Fault(fault),
                (None, Cloud::Allow) => Place::Fine,
                (None, Cloud::Deny) => match places.get(target) {
                    None => Place::Locate(target.clone()),
                    Some(Whereabouts::Here | Whereabouts::Missing) => Place::Fine,
                    Some(Whereabouts::Cloud) => Place::Fault(Fault::Cloud),
                    // What an alias stands for is no alias.
                    Some(Whereabouts::Unknown | Whereabouts::Alias(_)) => Place::Fault(Fault::Unknown),
                },
            },
        }
    }

    fn finding(&self, fault: Fault, fallback: Option<String>) -> Finding {
        let remedy = match fault {
            // What is no name is no wish for a model that another could stand in for.
            Fault::Name => by_mode(self.mode, || fault.denied(), || fault.denied()),
            _ => by_mode(self.mode, || fallback.map_or_else(|| fault.denied(), Remedy::UseModel), || fault.denied()),
        };
        Finding { kind: fault.kind(), remedy }
    }
}

/// The first of some models for which no request would get past a policy: its place, and why.
pub(super) fn denied(spec: &ModelsSpec, names: &[String]) -> Result<Option<(usize, &'static str)>, PolicyError> {
    let models = Models::new(spec, Mode::Hard)?;
    // What a pattern stands for may be anything.
    let mut names = names.iter().enumerate().filter(|(_, name)| !name.contains('*'));
    let denied = names.find_map(|(place, name)| Some((place, models.fault(name, Family::OpenAi)?)));
    Ok(denied.map(|(place, fault)| {
        let reason = match fault {
            Fault::Cloud => "runs in a cloud, which models.cloud denies: no such request passes",
            Fault::Name => "is no name that a model can have",
            Fault::NotAllowed | Fault::Unknown => "is not among models.allow, so that no such request passes: the rule can allow it",
        };
        (place, reason)
    }))
}

impl Control for Models {
    fn id(&self) -> ControlId {
        ControlId::Models
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn judge_request(&self, asked: &Asked<'_>) -> Vec<Finding> {
        let segment = asked.segment.filter(|_| asked.route.pattern.ends_with(":model"));
        let named = asked.request.model().or(segment).filter(|name| !name.trim().is_empty());
        let names_one = segment.is_some() || asked.route.names_a_model();
        let Some(name) = named else {
            // A default fills the gap, which is no violation. Without one the server says what is missing.
            let fill = names_one && asked.route.class == Class::Inference && self.mode > Mode::Monitor;
            let default = self.default.clone().filter(|_| fill);
            return default.into_iter().map(|model| Finding { kind: "not_named", remedy: Remedy::NameModel(model) }).collect();
        };
        let fallback = self.default.clone().filter(|_| asked.route.class == Class::Inference);
        self.fault(name, asked.route.family).map(|fault| self.finding(fault, fallback)).into_iter().collect()
    }

    fn judge_place(&self, asked: &Asked<'_>, places: &Places) -> Placed {
        // Without a list, and with the cloud allowed, no place is a wrong one.
        let matters = self.mode > Mode::Monitor && (self.cloud == Cloud::Deny || self.allowed.is_list());
        let runs = matches!(asked.route.class, Class::Inference | Class::Embedding);
        let Some(name) = asked.request.model().filter(|name| matters && runs && !name.trim().is_empty()) else {
            return Placed::Fine;
        };
        let family = asked.route.family;
        let fault = match self.place(name, family, places) {
            Place::Fine => return Placed::Fine,
            Place::Locate(model) => return Placed::Locate(model),
            Place::Fault(fault) => fault,
        };
        let stands_in = self.mode == Mode::Soft && asked.route.class == Class::Inference;
        let fallback = self.default.as_deref().filter(|default| stands_in && *default != name);
        let fallback = match fallback.map(|default| (default, self.place(default, family, places))) {
            Some((_, Place::Locate(model))) => return Placed::Locate(model),
            Some((default, Place::Fine)) => Some(default.to_owned()),
            Some((_, Place::Fault(_))) | None => None,
        };
        Placed::Found(self.finding(fault, fallback))
    }

    fn judge_remote_answer(&self) -> Option<Finding> {
        (self.cloud == Cloud::Deny).then(|| self.finding(Fault::Cloud, None))
    }
}

/// A list of model names; without one, every name.
#[derive(Clone, Debug)]
pub(super) struct Allowed(Option<Vec<Pattern>>);

/// One entry of the list, as each version reads it, and as it is written.
#[derive(Clone, Debug)]
struct Pattern {
    readings: [(Reader, String); 2],
    text: String,
}

impl Allowed {
    /// Reads a list that stands at `path`, below `spec`.
    pub(super) fn new(patterns: Option<&[String]>, path: &str) -> Result<Self, PolicyError> {
        let Some(patterns) = patterns else { return Ok(Self(None)) };
        if let Some(place) = patterns.iter().position(|pattern| pattern.trim().is_empty()) {
            return Err(PolicyError::in_spec(format!("{path}[{place}]"), "it is empty"));
        }
        let matches_nothing = |pattern: &String| {
            let name = pattern.trim().replace('*', "x");
            !ModelName::read(&name).is_taken() && !may_be_foreign(&name)
        };
        if let Some(place) = patterns.iter().position(matches_nothing) {
            let reason = format!("'{}' fits no name that a model can have: it would allow nothing", shown(&patterns[place]));
            return Err(PolicyError::in_spec(format!("{path}[{place}]"), reason));
        }
        let pattern = |pattern: &String| Pattern {
            readings: Reader::ALL.map(|reader| (reader, canonical_pattern(pattern, reader))),
            text: pattern.trim().to_owned(),
        };
        Ok(Self(Some(patterns.iter().map(pattern).collect())))
    }

    /// How many entries there are.
    pub(super) fn entries(&self) -> usize {
        self.0.as_ref().map_or(0, Vec::len)
    }

    /// Whether every name that one entry of the other list stands for is on this one, as far as the patterns show it.
    pub(super) fn covers_entry(&self, other: &Self, place: usize) -> bool {
        let Some(ours) = &self.0 else { return true };
        // A star in a pattern is a character that nothing but a star stands for.
        let does = |our: &str, their: &str| matches(our.as_bytes(), their.as_bytes());
        let is_covered = |their: &Pattern| {
            let both = |our: &&Pattern| our.readings.iter().zip(&their.readings).all(|((_, our), (_, their))| does(our, their));
            // A name that is Ollama's own is never compared as it is written.
            let is_own = !their.text.contains('*') && ModelName::read(&their.text).is_taken();
            ours.iter().filter(both).any(|our| is_own || does(&our.text, &their.text))
        };
        other.0.as_ref().and_then(|theirs| theirs.get(place)).is_some_and(is_covered)
    }

    fn is_list(&self) -> bool {
        self.0.is_some()
    }

    /// Whether every model is on the list that a version would run by this name. A name that none takes is another server's: it means
    /// itself, and is compared as it is written.
    pub(super) fn contains(&self, name: &str) -> bool {
        let read = ModelName::read(name);
        let mut readers = Reader::ALL.into_iter().filter(|reader| !read.is_taken() || read.reading(*reader).is_some());
        readers.all(|reader| self.contains_as(reader, name, &read))
    }

    /// The same as one version reads the name. `read` is the name, read.
    pub(super) fn contains_as(&self, reader: Reader, name: &str, read: &ModelName) -> bool {
        let Some(patterns) = &self.0 else { return true };
        if !read.is_taken() {
            return patterns.iter().any(|pattern| matches(pattern.text.as_bytes(), name.as_bytes()));
        }
        let fits = |(of, pattern): &(Reader, String), model: &str| *of == reader && matches(pattern.as_bytes(), model.as_bytes());
        let is_on_it = |model| patterns.iter().any(|pattern| pattern.readings.iter().any(|reading| fits(reading, model)));
        read.reading(reader).is_some_and(is_on_it)
    }

    /// The same for a model that is to be fetched: without a list, only from the server's own registry.
    pub(super) fn contains_to_fetch(&self, name: &str) -> bool {
        let read = ModelName::read(name);
        read.is_taken() && self.contains(name) && (self.is_list() || read.readings().all(|model| model.starts_with(OWN_REGISTRY)))
    }
}

/// Whether the name fits a pattern in which `*` stands for any characters. Linear but for the stars.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when the characters after the last star don't fit: one further in the name.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut retry {
                Some((star, from)) => {
                    *from += 1;
                    (p, n) = (*star + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(patterns: &[&str], name: &str) -> bool {
        Allowed::new(Some(&patterns.iter().map(ToString::to_string).collect::<Vec<_>>()), "models.allow").unwrap().contains(name)
    }

    #[test]
    fn names_that_mean_the_same_model_are_the_same() {
        for name in [
            "llama3.2",
            "llama3.2:latest",
            "library/llama3.2",
            "registry.ollama.ai/library/llama3.2:latest",
            "https://registry.ollama.ai/library/llama3.2",
            " LLAMA3.2 ",
        ] {
            assert!(allowed(&["llama3.2"], name), "{name}");
        }
        for name in ["llama3.2:3b", "other/llama3.2", "evil.example/library/llama3.2", "llama3", "llama3.2x", "a/b/c/llama3.2", ""] {
            assert!(!allowed(&["llama3.2"], name), "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(allowed(&["llama3.2:*"], "llama3.2:3b"));
        assert!(allowed(&["llama*:*"], "llama3.2"));
        assert!(!allowed(&["llama3.2:*"], "llama3.3:3b"));
        assert!(allowed(&["llama3*"], "llama3.2:3b"));
        assert!(!allowed(&["llama3*"], "other/llama3.2"));
        assert!(allowed(&["*"], "a/b/c/d"));
        assert!(allowed(&["/models/*"], "/models/llama.gguf") && !allowed(&["/models/*"], "/Models/llama.gguf"));
        assert!(!allowed(&["llama*"], "/models/llama.gguf"));
        assert!(allowed(&["*/*/*"], "hf.co/a/b:q4"));
    }

    #[test]
    fn without_a_list_everything_may_be_used_and_only_the_servers_own_registry_may_be_fetched_from() {
        let open = Allowed::new(None, "models.allow").unwrap();
        assert!(open.contains("evil.example/a/b") && !open.contains_to_fetch("evil.example/a/b"));
        assert!(open.contains_to_fetch("llama3.2:3b") && !open.contains_to_fetch("http://registry.ollama.ai.evil.example/a/b"));
        assert!(!Allowed::new(Some(&[]), "models.allow").unwrap().contains("llama3.2"));
    }

    #[test]
    fn a_default_outside_of_the_list_is_an_error() {
        let spec = ModelsSpec { allow: Some(vec!["a".into()]), default: Some("b".into()), ..ModelsSpec::default() };
        assert_eq!(Models::new(&spec, Mode::Hard).unwrap_err().to_string(), "spec.models.default: 'b' is not among models.allow");
    }
}

//! LLM03, supply chain: which models may be used, and which one answers where none is named.

use super::{Asked, Control, Finding, Remedy, by_mode, refuse};
use crate::policy::{Mode, ModelsSpec, PolicyError};
use crate::verdict::ControlId;
use crate::wire::Class;

#[derive(Debug)]
pub(super) struct Models {
    mode: Mode,
    allowed: Allowed,
    default: Option<String>,
}

impl Models {
    pub(super) fn new(spec: &ModelsSpec, mode: Mode) -> Result<Self, PolicyError> {
        let allowed = Allowed::new(spec.allow.as_deref())?;
        if let Some(default) = &spec.default
            && !allowed.contains(default)
        {
            let reason = format!("'{default}' is not among models.allow");
            return Err(PolicyError::Value { path: "models.default".into(), reason });
        }
        Ok(Self { mode, allowed, default: spec.default.clone() })
    }
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
        if self.allowed.contains(name) {
            return Vec::new();
        }
        let denied = || refuse(403, "this model is not allowed by the policy");
        let fallback = self.default.clone().filter(|_| asked.route.class == Class::Inference);
        let remedy = by_mode(self.mode, || fallback.map_or_else(denied, Remedy::UseModel), denied);
        vec![Finding { kind: "not_allowed", remedy }]
    }
}

/// A list of model names, compared in their canonical form; without one, every name.
#[derive(Debug)]
pub(super) struct Allowed(Option<Vec<String>>);

impl Allowed {
    pub(super) fn new(patterns: Option<&[String]>) -> Result<Self, PolicyError> {
        let Some(patterns) = patterns else { return Ok(Self(None)) };
        if let Some(place) = patterns.iter().position(|pattern| pattern.trim().is_empty()) {
            return Err(PolicyError::Value { path: format!("models.allow[{place}]"), reason: "it is empty".into() });
        }
        Ok(Self(Some(patterns.iter().map(|pattern| canonical_pattern(pattern)).collect())))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        let name = canonical(name);
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes())))
    }

    /// The same for a model that is to be fetched: without a list, only from the server's own registry.
    pub(super) fn contains_to_fetch(&self, name: &str) -> bool {
        self.contains(name) && (self.0.is_some() || canonical(name).starts_with(OWN_REGISTRY))
    }
}

/// Where a name without a host is fetched from.
const OWN_REGISTRY: &str = "registry.ollama.ai/";

/// A model's name as `host/namespace/model:tag`, in lower case, with the server's defaults filled in.
///
/// Source: ollama/ollama `types/model/name.go` (`DefaultName`, `ParseName`); case is folded when a manifest is looked up.
fn canonical(name: &str) -> String {
    let name = name.trim();
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    let parts: Vec<&str> = name.split('/').collect();
    let (host, namespace, model) = match parts[..] {
        [model] => ("registry.ollama.ai", "library", model),
        [namespace, model] => ("registry.ollama.ai", namespace, model),
        [host, namespace, model] => (host, namespace, model),
        // No name that the server takes; it fits only a pattern that is written alike.
        _ => return name.to_lowercase(),
    };
    let (model, tag) = model.rsplit_once(':').unwrap_or((model, "latest"));
    format!("{host}/{namespace}/{model}:{tag}").to_lowercase()
}

/// A pattern in the same form. One that ends in a star leaves the tag open as well, and a star alone fits every name.
fn canonical_pattern(pattern: &str) -> String {
    let pattern = pattern.trim();
    let is_open = pattern.ends_with('*') && !pattern.rsplit('/').next().unwrap_or(pattern).contains(':');
    match (pattern, is_open) {
        ("*", _) => pattern.to_owned(),
        (_, true) => canonical(&format!("{pattern}:*")),
        (_, false) => canonical(pattern),
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
        Allowed::new(Some(&patterns.iter().map(ToString::to_string).collect::<Vec<_>>())).unwrap().contains(name)
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
        assert!(allowed(&["*/*/*"], "hf.co/a/b:q4"));
    }

    #[test]
    fn without_a_list_everything_may_be_used_and_only_the_servers_own_registry_may_be_fetched_from() {
        let open = Allowed::new(None).unwrap();
        assert!(open.contains("evil.example/a/b") && !open.contains_to_fetch("evil.example/a/b"));
        assert!(open.contains_to_fetch("llama3.2:3b") && !open.contains_to_fetch("http://registry.ollama.ai.evil.example/a/b"));
        assert!(!Allowed::new(Some(&[])).unwrap().contains("llama3.2"));
    }

    #[test]
    fn a_default_outside_of_the_list_is_an_error() {
        let spec = ModelsSpec { allow: Some(vec!["a".into()]), default: Some("b".into()), ..ModelsSpec::default() };
        assert_eq!(Models::new(&spec, Mode::Hard).unwrap_err().to_string(), "spec.models.default: 'b' is not among models.allow");
    }
}

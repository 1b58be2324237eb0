//! For which requests a rule of the policy holds.
//!
//! The invariant: whether a rule fits is decided by what the guard has read and forwards, never by what it couldn't read; and a scope that
//! no request can reach is an error when the policy is read, not a rule that silently guards nothing.

use std::cell::OnceCell;

use sha2::{Digest, Sha256};

use super::models::Allowed;
use super::{Asked, Caller};
use crate::policy::settings::to_hex;
use crate::policy::{CallerName, PolicyError, WhenSpec, nearest, shown};
use crate::wire::names::{ModelName, Reader, may_be_foreign};
use crate::wire::routes::{Body, ROUTES};
use crate::wire::{Class, Route};

/// The most entries that a list of a scope may have: each is held against those of every earlier rule.
const MAX_ENTRIES: usize = 1_000;
/// How a system prompt's digest is written.
const DIGEST: &str = "sha256:";

/// The requests for which a rule holds.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    models: Option<Allowed>,
    routes: Option<Vec<String>>,
    caller: Option<CallerName>,
    tools: Option<bool>,
    documents: Option<bool>,
    system_prompts: Option<Vec<String>>,
}

/// Whether a rule holds for a request of which only the head is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtHead {
    No,
    /// The body decides.
    Perhaps,
    Yes,
}

/// What of a request decides which rule fits. What takes work is found out when it is asked for.
#[derive(Debug)]
pub(super) struct Context<'a> {
    asked: &'a Asked<'a>,
    /// Every model that the request names, as it is written and as it is read.
    models: Vec<(&'a str, ModelName)>,
    documents: OnceCell<bool>,
    system_prompt: OnceCell<Option<String>>,
}

/// The digest of the request's system prompt, if it has one that stands in one place: `sha256:…`.
#[must_use]
pub(crate) fn system_prompt(asked: &Asked<'_>) -> Option<String> {
    // The system's texts, while they are one.
    let mut one: Result<Option<String>, ()> = if asked.request.system_says_more() { Err(()) } else { Ok(None) };
    asked.request.system_texts(&mut |text| {
        one = match std::mem::replace(&mut one, Err(())) {
            Ok(None) => Ok(Some(text.into_owned())),
            Ok(Some(same)) if same == text => Ok(Some(same)),
            _ => Err(()),
        };
    });
    one.ok().flatten().filter(|text| !text.is_empty()).map(|text| digest(&text))
}

impl<'a> Context<'a> {
    pub(super) fn new(asked: &'a Asked<'a>) -> Self {
        let segment = asked.segment.filter(|_| asked.route.pattern.ends_with(":model"));
        let named = asked.request.models().into_iter().chain(segment).filter(|name| !name.trim().is_empty());
        let models = named.map(|name| (name, ModelName::read(name))).collect();
        Self { asked, models, documents: OnceCell::new(), system_prompt: OnceCell::new() }
    }

    /// The versions of a server that could run what the request names. (They may differ in what they take it for, and in what they take a
    /// rule's own words for.)
    pub(super) fn readers(&self) -> &'static [Reader] {
        let runs = |reader| self.models.iter().all(|(_, read)| !read.is_taken() || read.reading(reader).is_some());
        match (runs(Reader::Plain), runs(Reader::Sourced)) {
            (true, true) if !self.models.is_empty() => &[Reader::Plain, Reader::Sourced],
            (false, true) => &[Reader::Sourced],
            _ => &[Reader::Plain],
        }
    }

    /// Whether it names what no server should take for a name, and one may.
    pub(super) fn names_nothing(&self) -> bool {
        self.models.iter().any(|(name, read)| !read.is_taken() && !may_be_foreign(name))
    }

    fn documents(&self) -> bool {
        *self.documents.get_or_init(|| {
            let mut found = false;
            self.asked.request.texts(&mut |text| found |= text.channel.is_data());
            found
        })
    }

    fn system_prompt(&self) -> Option<&String> {
        self.system_prompt.get_or_init(|| system_prompt(self.asked)).as_ref()
    }
}

fn digest(text: &str) -> String {
    DIGEST.to_owned() + &to_hex(&Sha256::digest(text.as_bytes()))
}

fn names_a_model(route: &Route) -> bool {
    route.names_a_model() || route.pattern.ends_with(":model")
}

fn names_two_models(route: &Route) -> bool {
    matches!(route.body, Body::OllamaCreate | Body::OllamaCopy | Body::OllamaAlias)
}

/// Whether a request of this route can declare tools, and bring their results along.
fn takes_tools(route: &Route) -> bool {
    matches!(route.body, Body::OllamaChat | Body::OpenAiChat | Body::OpenAiResponses | Body::AnthropicMessages)
}

fn takes_documents(route: &Route) -> bool {
    takes_tools(route) || route.class == Class::Embedding || route.body == Body::OllamaCreate
}

fn takes_a_system_prompt(route: &Route) -> bool {
    takes_tools(route) || matches!(route.body, Body::OllamaGenerate | Body::OllamaCreate)
}

/// Whether a route can carry something.
type Can = fn(&Route) -> bool;

/// Whether a route's pattern is one of those that are meant.
fn is_meant(meant: &str, pattern: &str) -> bool {
    meant.strip_suffix('*').map_or(meant == pattern, |begin| pattern.starts_with(begin))
}

/// What a scope needs of a route: the key, whether it does, which routes have it, and how that is said, and its lack.
type Want = (&'static str, bool, Can, &'static str, &'static str);

/// Whether the one covers all that the other does.
fn covers<T>(one: Option<&T>, other: Option<&T>, does: impl Fn(&T, &T) -> bool) -> bool {
    match (one, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => does(one, other),
    }
}

impl Scope {
    /// Reads a rule's scope. `path` is where it stands, below `spec`.
    pub(super) fn new(when: &WhenSpec, path: &str) -> Result<Self, PolicyError> {
        if *when == WhenSpec::default() {
            let reason = "it says nothing, so that every request would fit: what holds for all stands outside of the rules";
            return Err(PolicyError::in_spec(path, reason));
        }
        let lists = [("models", &when.models), ("routes", &when.routes), ("systemPrompts", &when.system_prompts)];
        if let Some((key, _)) = lists.into_iter().find(|(_, list)| list.as_ref().is_some_and(Vec::is_empty)) {
            return Err(PolicyError::in_spec(format!("{path}.{key}"), "it is empty: nothing would fit"));
        }
        let too_long =
            lists.into_iter().find_map(|(key, list)| Some((key, list.as_ref()?.len())).filter(|(_, length)| *length > MAX_ENTRIES));
        if let Some((key, length)) = too_long {
            let reason = format!("it has {length} entries; at most {MAX_ENTRIES} are read");
            return Err(PolicyError::in_spec(format!("{path}.{key}"), reason));
        }
        for (place, route) in when.routes.iter().flatten().enumerate() {
            if !ROUTES.iter().any(|known| is_meant(route, known.pattern)) {
                let meant = nearest(route, ROUTES.iter().map(|route| route.pattern));
                let hint = meant.map(|meant| format!(": did you mean '{meant}'?")).unwrap_or_default();
                let reason = format!("the guard knows no such route as '{}'{hint}", shown(route));
                return Err(PolicyError::in_spec(format!("{path}.routes[{place}]"), reason));
            }
        }
        for (place, prompt) in when.system_prompts.iter().flatten().enumerate() {
            let digits = prompt.strip_prefix(DIGEST).unwrap_or_default();
            if digits.len() != 64 || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                let reason =
                    format!("'{}' is no digest: sha256: and 64 digits from 0 to f, as check --explain --request shows it", shown(prompt));
                return Err(PolicyError::in_spec(format!("{path}.systemPrompts[{place}]"), reason));
            }
        }
        let scope = Self {
            models: when.models.as_deref().map(|models| Allowed::new(Some(models), &format!("{path}.models"))).transpose()?,
            routes: when.routes.clone(),
            caller: when.caller,
            tools: when.tools,
            documents: when.documents,
            system_prompts: when.system_prompts.clone(),
        };
        scope.can_be_reached(path)?;
        Ok(scope)
    }

    /// Whether some route can carry such a request.
    fn can_be_reached(&self, path: &str) -> Result<(), PolicyError> {
        let wants: [Want; 4] = [
            ("models", self.models.is_some(), names_a_model, "names a model", "names no model"),
            ("tools", self.tools == Some(true), takes_tools, "takes tools", "takes no tools"),
            ("documents", self.documents == Some(true), takes_documents, "takes documents", "takes no documents"),
            ("systemPrompts", self.system_prompts.is_some(), takes_a_system_prompt, "takes a system prompt", "takes no system prompt"),
        ];
        for (key, is_wanted, can, does, _) in wants {
            if is_wanted && !ROUTES.iter().any(|route| self.is_on(route) && can(route)) {
                return Err(PolicyError::in_spec(format!("{path}.{key}"), format!("no request can fit: none of the rule's routes {does}")));
            }
        }
        if ROUTES.iter().all(|route| self.at_route(route) == AtHead::No) {
            return Err(PolicyError::in_spec(path, "no request can fit: no route takes all of it"));
        }
        for (place, meant) in self.routes.iter().flatten().enumerate() {
            let mut routes = ROUTES.iter().filter(|route| is_meant(meant, route.pattern));
            if routes.any(|route| self.at_route(route) != AtHead::No) {
                continue;
            }
            let routes = || ROUTES.iter().filter(|route| is_meant(meant, route.pattern));
            let lacks = wants.into_iter().find(|(_, is_wanted, can, ..)| *is_wanted && !routes().any(can));
            let reason = lacks.map_or("doesn't take all of it", |(.., doesnt)| doesnt);
            return Err(PolicyError::in_spec(format!("{path}.routes[{place}]"), format!("no request can fit: it {reason}")));
        }
        Ok(())
    }

    fn is_on(&self, route: &Route) -> bool {
        self.routes.as_ref().is_none_or(|meant| meant.iter().any(|meant| is_meant(meant, route.pattern)))
    }

    fn at_route(&self, route: &Route) -> AtHead {
        let asks = |is_wanted: bool, can: Can| if is_wanted && !can(route) { AtHead::No } else { AtHead::Yes };
        let cant = [
            asks(self.models.is_some(), names_a_model),
            asks(self.tools == Some(true), takes_tools),
            asks(self.documents == Some(true), takes_documents),
            asks(self.system_prompts.is_some(), takes_a_system_prompt),
        ];
        if !self.is_on(route) || cant.contains(&AtHead::No) {
            return AtHead::No;
        }
        let decided = self.models.is_none()
            && self.system_prompts.is_none()
            && (self.tools.is_none() || !takes_tools(route))
            && (self.documents.is_none() || !takes_documents(route));
        if decided { AtHead::Yes } else { AtHead::Perhaps }
    }

    fn is_by(&self, caller: Caller) -> bool {
        self.caller.is_none_or(|who| (who == CallerName::Pod) == caller.over_loopback)
    }

    /// What the head alone says. What has no route may be meant for any, by a server that knows more of them.
    pub(super) fn at_head(&self, route: Option<&Route>, caller: Caller) -> AtHead {
        match route {
            _ if !self.is_by(caller) => AtHead::No,
            Some(route) => self.at_route(route),
            None if self.is_by_caller_alone() => AtHead::Yes,
            None => AtHead::Perhaps,
        }
    }

    fn is_by_caller_alone(&self) -> bool {
        let Self { models, routes, caller: _, tools, documents, system_prompts } = self;
        models.is_none() && routes.is_none() && tools.is_none() && documents.is_none() && system_prompts.is_none()
    }

    /// Whether it asks for models.
    pub(super) fn asks_for_models(&self) -> bool {
        self.models.is_some()
    }

    /// Whether the rule holds for this request, where a version of the server reads the names of models.
    pub(super) fn fits(&self, context: &Context<'_>, reader: Reader) -> bool {
        let asked = context.asked;
        let models = || match &self.models {
            None => true,
            Some(meant) => {
                let named = &context.models;
                !named.is_empty() && named.iter().all(|(name, read)| meant.contains_as(reader, name, read))
            }
        };
        self.is_on(asked.route)
            && self.is_by(asked.caller)
            && models()
            && self.tools.is_none_or(|meant| meant != asked.request.tools().is_empty())
            && self.documents.is_none_or(|meant| meant == context.documents())
            && self.system_prompts.as_ref().is_none_or(|meant| context.system_prompt().is_some_and(|found| meant.contains(found)))
    }

    /// Whether every request that fits the other fits this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.covers_but(None, other) && List::ALL.into_iter().all(|list| self.covers_list(list, other))
    }

    /// The same, but for one of the lists.
    pub(super) fn covers_but(&self, list: Option<List>, other: &Self) -> bool {
        covers(self.caller.as_ref(), other.caller.as_ref(), PartialEq::eq)
            && covers(self.tools.as_ref(), other.tools.as_ref(), PartialEq::eq)
            && covers(self.documents.as_ref(), other.documents.as_ref(), PartialEq::eq)
            && list.is_none_or(|list| List::ALL.into_iter().filter(|each| *each != list).all(|list| self.covers_list(list, other)))
    }

    fn covers_list(&self, list: List, other: &Self) -> bool {
        let each = |(): &(), (): &()| (0..other.entries(list)).all(|place| self.covers_entry(list, other, place));
        covers(self.has(list).then_some(&()), other.has(list).then_some(&()), each)
    }

    /// Whether it covers one entry of a list of the other's.
    pub(super) fn covers_entry(&self, list: List, other: &Self, place: usize) -> bool {
        match list {
            List::Models => covers(self.models.as_ref(), other.models.as_ref(), |ours, theirs| ours.covers_entry(theirs, place)),
            List::Routes => covers(self.routes.as_ref(), other.routes.as_ref(), |ours, theirs| {
                theirs.get(place).is_some_and(|their| ours.iter().any(|our| is_meant(our, their)))
            }),
            List::SystemPrompts => covers(self.system_prompts.as_ref(), other.system_prompts.as_ref(), |ours, theirs| {
                theirs.get(place).is_some_and(|their| ours.contains(their))
            }),
        }
    }

    fn has(&self, list: List) -> bool {
        match list {
            List::Models => self.models.is_some(),
            List::Routes => self.routes.is_some(),
            List::SystemPrompts => self.system_prompts.is_some(),
        }
    }

    fn entries(&self, list: List) -> usize {
        match list {
            List::Models => self.models.as_ref().map_or(0, Allowed::entries),
            List::Routes => self.routes.as_ref().map_or(0, Vec::len),
            List::SystemPrompts => self.system_prompts.as_ref().map_or(0, Vec::len),
        }
    }

    /// How many entries of a list there are that are each there for themselves.
    pub(super) fn entries_by_themselves(&self, list: List) -> usize {
        // What names two models may be reached by neither of them alone.
        let names_two = || self.routes.is_some() && ROUTES.iter().any(|route| self.is_on(route) && names_two_models(route));
        if list == List::Models && names_two() { 0 } else { self.entries(list) }
    }
}

/// A list of a scope's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Models,
    Routes,
    SystemPrompts,
}

impl List {
    pub(super) const ALL: [Self; 3] = [Self::Models, Self::Routes, Self::SystemPrompts];

    /// Its key in a rule's `when`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Routes => "routes",
            Self::SystemPrompts => "systemPrompts",
        }
    }
}

//! Secrets and personal data in what a client sends: counted, redacted before a model sees them, or refused.
//!
//! The invariant: of what goes on where they are redacted or refused, no text that [`Request::texts`] says holds a value, nor does one in
//! JSON behind its key. What can't be redacted, since it stands in a name or only where texts are joined, is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::Redaction;
use crate::controls::{Finding, Masks, Remedy, refuse};
use crate::detect::secrets::{Kind, Named, SecretRules};
use crate::policy::{Mode, Requests};
use crate::wire::Request;

/// How often a text is read anew, since a value may begin where another one ended.
const ROUNDS: usize = 8;

/// The kinds of what a request says, whatever the server joins.
fn kinds(rules: &Arc<SecretRules>, request: &mut dyn Request) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    request.texts(&mut |text| kinds.extend(rules.find(&text.text).into_iter().map(|(kind, _)| kind.name())));
    request.edit_texts(&mut |name, text| {
        let places = Named::new(name, text).map(|named| find_named(rules, &named)).unwrap_or_default();
        kinds.extend(places.into_iter().map(|(kind, _)| kind.name()));
        None
    });
    kinds
}

/// Values in a text that are known by the name that it is assigned to, as JSON writes it.
fn find_named(rules: &Arc<SecretRules>, named: &Named) -> Vec<(Kind, Range<usize>)> {
    rules.find(named.said()).into_iter().filter_map(|(kind, place)| Some((kind, named.place(&place)?))).collect()
}

fn named<'k>(kinds: impl IntoIterator<Item = &'k &'static str>) -> String {
    kinds.into_iter().copied().collect::<Vec<_>>().join(", ")
}

impl Redaction {
    pub(super) fn mend(&self, request: &mut dyn Request, masks: &mut Masks, found: &mut dyn FnMut(Finding)) {
        // Nearly every request is read once, and holds nothing.
        let said = kinds(&self.rules, request);
        if said.is_empty() {
            return;
        }
        match (self.requests, self.mode) {
            (_, Mode::Monitor) | (Requests::Count, _) => self.count(request, &said, &|| Remedy::Count, found),
            (Requests::Redact, _) | (Requests::Refuse, Mode::Soft) => self.redact(request, masks, found),
            (Requests::Refuse, Mode::Hard) => {
                let message = format!("Request blocked: it holds secrets or personal data ({})", named(&said));
                self.count(request, &said, &|| refuse(400, message.clone()), found);
            }
        }
    }

    /// Tells of each value, and changes nothing. What is found only where texts are joined, or in a name, is told once of each kind.
    fn count(&self, request: &mut dyn Request, said: &BTreeSet<&'static str>, remedy: &dyn Fn() -> Remedy, found: &mut dyn FnMut(Finding)) {
        let mut times: BTreeMap<&'static str, u64> = BTreeMap::new();
        request.edit_texts(&mut |name, text| {
            // As they would be redacted, so that as many are told of.
            let _ = self.without_values(name, text, None, &mut |kind| *times.entry(kind).or_default() += 1);
            None
        });
        for kind in said {
            times.entry(kind).or_insert(1);
        }
        for (kind, times) in times {
            (0..times).for_each(|_| found(Finding { kind, remedy: remedy() }));
        }
    }

    fn redact(&self, request: &mut dyn Request, masks: &mut Masks, found: &mut dyn FnMut(Finding)) {
        if self.restores {
            request.texts(&mut |text| masks.avoid(&text.text));
        }
        let mut masks = self.restores.then_some(masks);
        request.edit_texts(&mut |name, text| {
            self.without_values(name, text, masks.as_deref_mut(), &mut |kind| found(Finding { kind, remedy: Remedy::Redact }))
        });
        let left = kinds(&self.rules, request);
        let message = || {
            let kinds = named(&left);
            format!(
                "Request blocked: it holds secrets or personal data ({kinds}) where they can't be redacted: in a name, an id or a role, or spread over texts that belong together"
            )
        };
        for kind in &left {
            found(Finding { kind, remedy: refuse(400, message()) });
        }
    }

    /// A text without its values, where it has any.
    fn without_values(&self, name: &str, text: &str, mut masks: Option<&mut Masks>, found: &mut dyn FnMut(&'static str)) -> Option<String> {
        let mut mended: Option<String> = None;
        for _ in 0..ROUNDS {
            let text = mended.as_deref().unwrap_or(text);
            let (mut places, mut named) = (self.rules.find(text), None);
            if places.is_empty() {
                named = Named::new(name, text);
                places = named.as_ref().map(|named| find_named(&self.rules, named)).unwrap_or_default();
            }
            if places.is_empty() {
                break;
            }
            for (kind, _) in &places {
                found(kind.name());
            }
            if masks.is_none() {
                let redact = |text: &str| self.rules.redact(text, &mut |_| {});
                let whole = match named {
                    None => Some(redact(text)),
                    Some(named) => named.text_in(&redact(named.said())).map(str::to_owned),
                };
                // (Where the name itself holds a value, it is another in what comes out.)
                if whole.is_some() {
                    mended = whole;
                    continue;
                }
            }
            let (mut out, mut given) = (String::with_capacity(text.len()), 0);
            for (kind, place) in places {
                out.push_str(text.get(given..place.start).unwrap_or_default());
                match masks.as_deref_mut() {
                    Some(masks) => out.push_str(&masks.mark(kind.name(), text.get(place.clone()).unwrap_or_default())),
                    None => out.push_str(kind.mark()),
                }
                given = place.end;
            }
            out.push_str(text.get(given..).unwrap_or_default());
            mended = Some(out);
        }
        mended
    }
}

//! What has to hold before anything can be judged: which fields of a request go on, and which parts of it pass unread.

use crate::policy::{Mode, Opening, PolicyError, ProtocolSpec, UnknownFields};
use crate::wire::Opaque;

/// What a policy says of fields and parts that a control can't judge.
#[derive(Debug)]
pub struct Protocol {
    spec: ProtocolSpec,
    mode: Mode,
}

impl Protocol {
    pub(super) fn new(spec: &ProtocolSpec, mode: Mode) -> Result<Self, PolicyError> {
        // A name that no field can have would guard nothing.
        if let Some(place) = spec.fields.iter().flatten().position(String::is_empty) {
            return Err(PolicyError::in_spec(format!("protocol.fields[{place}]"), "it is empty"));
        }
        Ok(Self { spec: spec.clone(), mode })
    }

    /// What becomes of a field that the API doesn't document. (In monitor it goes on as everything does, and is judged.)
    #[must_use]
    pub fn unknown_field(&self, name: &str) -> UnknownFields {
        if self.spec.fields.iter().flatten().any(|known| known == name) {
            return UnknownFields::Inspect;
        }
        self.spec.unknown_fields.unwrap_or(match self.mode {
            Mode::Monitor | Mode::Soft => UnknownFields::Inspect,
            Mode::Hard => UnknownFields::Drop,
        })
    }

    /// Whether a part that nobody can judge may pass.
    #[must_use]
    pub fn passes(&self, part: Opaque) -> bool {
        let said = match part {
            Opaque::Context => self.spec.context,
            Opaque::Template => self.spec.template,
            Opaque::Image => self.spec.images,
            Opaque::Audio => self.spec.audio,
            Opaque::Never => Some(Opening::Refuse),
        };
        said.map_or(self.mode < Mode::Hard, |said| said == Opening::Allow)
    }

    /// Whether a model's own prompts may be shown.
    #[must_use]
    pub fn shows_prompts(&self) -> bool {
        self.mode == Mode::Monitor || self.spec.model_prompts == Some(Opening::Allow)
    }
}

/// The name of the policy's field that lets such a part pass; none where no policy does.
#[must_use]
pub const fn opening(part: Opaque) -> Option<&'static str> {
    match part {
        Opaque::Context => Some("context"),
        Opaque::Template => Some("template"),
        Opaque::Image => Some("images"),
        Opaque::Audio => Some("audio"),
        Opaque::Never => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_read_passes_in_soft_and_in_hard_only_where_the_policy_says_so() {
        let of = |spec: ProtocolSpec, mode| Protocol::new(&spec, mode).unwrap();
        for part in [Opaque::Context, Opaque::Template, Opaque::Image, Opaque::Audio] {
            assert!(of(ProtocolSpec::default(), Mode::Soft).passes(part));
            assert!(!of(ProtocolSpec::default(), Mode::Hard).passes(part));
            assert!(!of(ProtocolSpec::default(), Mode::Soft).passes(Opaque::Never));
        }
        let images = || ProtocolSpec { images: Some(Opening::Allow), audio: Some(Opening::Refuse), ..ProtocolSpec::default() };
        assert!(of(images(), Mode::Hard).passes(Opaque::Image) && !of(images(), Mode::Hard).passes(Opaque::Context));
        assert!(!of(images(), Mode::Soft).passes(Opaque::Audio));
    }

    #[test]
    fn a_field_that_nobody_documents_goes_on_inspected_in_soft_and_not_at_all_in_hard() {
        let of = |spec: ProtocolSpec, mode, name: &str| Protocol::new(&spec, mode).unwrap().unknown_field(name);
        let named = || ProtocolSpec { fields: Some(vec!["top_k".into()]), ..ProtocolSpec::default() };
        assert_eq!(of(named(), Mode::Soft, "other"), UnknownFields::Inspect);
        assert_eq!(of(named(), Mode::Hard, "other"), UnknownFields::Drop);
        assert_eq!(of(named(), Mode::Hard, "top_k"), UnknownFields::Inspect);
        let refused = || ProtocolSpec { unknown_fields: Some(UnknownFields::Refuse), ..named() };
        assert_eq!(of(refused(), Mode::Soft, "other"), UnknownFields::Refuse);
        assert_eq!(of(refused(), Mode::Hard, "top_k"), UnknownFields::Inspect);
        assert!(Protocol::new(&ProtocolSpec { fields: Some(vec![String::new()]), ..ProtocolSpec::default() }, Mode::Hard).is_err());
    }
}

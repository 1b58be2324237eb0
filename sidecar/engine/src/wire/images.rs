//! Pictures that a model draws: `/v1/images/generations` and `/v1/images/edits`.
//!
//! The invariant: the words are judged, and a picture, asked for or sent along, is among what can't be: the policy has to allow it.
//!
//! Source: OpenAI's API reference, and ollama/ollama `openai/openai.go` (`ImageGenerationRequest`, `ImageEditRequest`), version 0.17.4,
//! which takes both as JSON.

use std::borrow::Cow;

use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, Rest, body};
use super::json::Json;
use super::tools::setting_texts;
use super::{Channel, Opaque, Request, Text, Unreadable, media};

/// Documented fields whose values only steer the model or name the caller; text in them counts as the user's.
const SETTINGS: &[&str] = &[
    "background",
    "input_fidelity",
    "moderation",
    "n",
    "output_compression",
    "output_format",
    "quality",
    "response_format",
    "seed",
    "size",
    "style",
    "user",
];
/// Pictures that come along.
const PICTURES: &[&str] = &["image", "mask"];

/// `POST /v1/images/generations` and `POST /v1/images/edits`
#[derive(Debug)]
pub(super) struct ImageRequest {
    model: Option<String>,
    prompt: Option<String>,
    pictures: Vec<(&'static str, Json)>,
    settings: Vec<(&'static str, Json)>,
    unknown: Rest,
}

impl ImageRequest {
    pub(super) fn decode(json: Json) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            model: fields.string("model")?,
            prompt: fields.string("prompt")?,
            pictures: fields.known(PICTURES),
            settings: fields.known(SETTINGS),
            unknown: fields.rest(),
        })
    }
}

impl Request for ImageRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        if let Some(prompt) = &self.prompt {
            each(Text { channel: Channel::User, message: None, also: &[], text: Cow::Borrowed(prompt) });
        }
        setting_texts(&self.settings, each);
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        edit::texts(&mut self.prompt, edit);
        edit::known(&mut self.settings, edit);
        self.unknown.edit(edit);
    }

    fn streams(&self) -> bool {
        false
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        // What the answer will be.
        let asked = Unreadable { is: Opaque::Image, path: "the picture that is asked for".into(), bytes: 0 };
        let sent = self.pictures.iter().flat_map(|(name, value)| media(name, [value]));
        std::iter::once(asked).chain(sent).collect()
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        each(&mut self.unknown);
    }

    fn dropped(&self) -> usize {
        0
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            out.string("prompt", self.prompt.as_deref());
            out.known(&self.pictures);
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::{Body, Opaque, decode_request};

    #[test]
    fn the_words_are_read_and_the_pictures_named() {
        let text = r#"{"model":"m","prompt":"a cat","image":"iVBORw0KGgo=","n":1,"size":"64x64"}"#;
        let request = decode_request(Body::OpenAiImages, text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(request.encode()).unwrap(), text);
        let mut seen = Vec::new();
        request.texts(&mut |text| seen.push(text.text.into_owned()));
        assert_eq!(seen, ["a cat", "64x64"]);
        let named: Vec<_> = request.unreadable().into_iter().map(|part| (part.is, part.path)).collect();
        assert_eq!(named, [(Opaque::Image, "the picture that is asked for".into()), (Opaque::Image, "image".to_owned())]);
    }
}

//! Sounds that a model writes down: `/v1/audio/transcriptions`, whose request is a form (`multipart/form-data`).
//!
//! The invariant: a form is read strictly, so that every reader finds the same parts in it, each field once; what is forwarded is written
//! anew of these parts, and of a part's own fields only those that say what it is. The words are judged; the sound is among what can't be.
//!
//! Source: RFC 7578 and RFC 2046 (section 5.1); OpenAI's API reference; ollama/ollama `middleware/openai.go` (`TranscriptionMiddleware`),
//! version 0.33.0, by which each field may stand in the query as well: here no query goes on.

use std::borrow::Cow;

use memchr::memmem;

use super::edit::{self, Edit};
use super::fields::{DecodeError, Rest};
use super::json::{Json, Key};
use super::{Channel, Opaque, Request, Text, Unreadable, is_plain_id};

/// Documented fields that only steer the model; text in them counts as the user's.
const SETTINGS: &[&str] = &["chunking_strategy", "include[]", "language", "response_format", "temperature", "timestamp_granularities[]"];
/// The field that asks for the answer in pieces, which no one could judge together.
const STREAM: &str = "stream";
const FILE: &str = "file";
/// The most parts of a form.
const MOST: usize = 64;
/// The most bytes of a part's head.
const HEAD_BYTES: usize = 1024;

/// `POST /v1/audio/transcriptions`
#[derive(Debug)]
pub(super) struct TranscriptionRequest {
    boundary: String,
    model: Option<String>,
    prompt: Option<String>,
    settings: Vec<(String, String)>,
    files: Vec<File>,
    unknown: Rest,
    dropped: usize,
}

#[derive(Debug)]
struct File {
    filename: String,
    kind: Option<String>,
    data: Vec<u8>,
}

/// One part of a form.
#[derive(Debug)]
struct Part<'b> {
    name: String,
    filename: Option<String>,
    kind: Option<String>,
    data: &'b [u8],
}

fn malformed(expected: &'static str) -> DecodeError {
    DecodeError::Type { path: "the form".into(), expected }
}

/// The boundary of a form, by the request's `Content-Type`, where that has one that every reader takes for the same.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameter) = content_type.split_once(';')?;
    let (name, value) = parameter.trim_matches(' ').split_once('=')?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let fits = kind.trim_matches(' ').eq_ignore_ascii_case("multipart/form-data") && name.eq_ignore_ascii_case("boundary");
    (fits && is_boundary(value)).then_some(value)
}

/// Nothing that has to be quoted, or that a reader would trim.
fn is_boundary(text: &str) -> bool {
    (1..=70).contains(&text.len())
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.'+".contains(&byte))
}

/// Whether a form begins by this boundary.
pub(crate) fn is_bounded_by(body: &[u8], boundary: &str) -> bool {
    first_boundary(body) == Some(boundary)
}

fn first_boundary(body: &[u8]) -> Option<&str> {
    let end = memmem::find(body.get(..128.min(body.len()))?, b"\r\n")?;
    std::str::from_utf8(body[..end].strip_prefix(b"--")?).ok().filter(|text| is_boundary(text))
}

/// Takes a form apart. Whatever looks like the boundary has to be one.
fn parts<'b>(body: &'b [u8], boundary: &str) -> Result<Vec<Part<'b>>, DecodeError> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let mut parts = Vec::new();
    // The first boundary has no line before it.
    let mut rest = &body[delimiter.len() - 2..];
    loop {
        rest = match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            b"--" | b"--\r\n" => return Ok(parts),
            _ => return Err(malformed("made of parts between lines of its boundary alone")),
        };
        if parts.len() == MOST {
            return Err(malformed("of at most 64 parts"));
        }
        let end = finder.find(rest).ok_or_else(|| malformed("closed by its boundary"))?;
        parts.push(Part::read(&rest[..end])?);
        rest = &rest[end + delimiter.len()..];
    }
}

impl<'b> Part<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self, DecodeError> {
        let end = memmem::find(&bytes[..bytes.len().min(HEAD_BYTES)], b"\r\n\r\n").ok_or_else(|| malformed("of parts with a head"))?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| malformed("of parts whose heads are UTF-8"))?;
        let mut part = Part { name: String::new(), filename: None, kind: None, data: &bytes[end + 4..] };
        let (mut disposed, mut typed) = (false, false);
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("of parts whose heads are fields"))?;
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                || value.contains(['\r', '\n', '\0'])
            {
                return Err(malformed("of parts whose heads are fields"));
            }
            if name.eq_ignore_ascii_case("content-disposition") {
                (part.name, part.filename) = disposition(value.trim_matches(' '))?;
                if std::mem::replace(&mut disposed, true) {
                    return Err(malformed("of parts that say once what they are"));
                }
            } else if name.eq_ignore_ascii_case("content-type") {
                part.kind = Some(value.trim_matches(' ').to_owned()).filter(|kind| is_media_type(kind));
                if std::mem::replace(&mut typed, true) {
                    return Err(malformed("of parts that say once what they are"));
                }
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") && !is_identity(value) {
                // It is deprecated, and not every reader undoes it.
                return Err(malformed("of parts without a transfer encoding"));
            }
        }
        if disposed { Ok(part) } else { Err(malformed("of parts with names")) }
    }
}

fn is_identity(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|known| encoding.trim_matches(' ').eq_ignore_ascii_case(known))
}

fn is_media_type(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-.+".contains(&byte))
}

/// `form-data; name="…"` and a file's name. Readers differ in escapes, and in what comes twice.
fn disposition(value: &str) -> Result<(String, Option<String>), DecodeError> {
    let wrong = || malformed("of parts named by form-data; name=\"…\"");
    let mut rest = value.strip_prefix("form-data").ok_or_else(wrong)?;
    let (mut name, mut filename) = (None, None);
    while !rest.is_empty() {
        rest = rest.strip_prefix(';').ok_or_else(wrong)?.trim_start_matches(' ');
        let (key, after) = rest.split_once('=').ok_or_else(wrong)?;
        let text = if let Some(quoted) = after.strip_prefix('"') {
            let (text, after) = quoted.split_once('"').ok_or_else(wrong)?;
            rest = after;
            text
        } else {
            let end = after.find(';').unwrap_or(after.len());
            rest = &after[end..];
            &after[..end]
        };
        if text.contains(['\\', '"']) || text.contains(char::is_control) {
            return Err(wrong());
        }
        let place = match key.to_ascii_lowercase().as_str() {
            // A reader that passes over quotation marks would find a parameter in a name that holds one. (A file's name goes on as another.)
            "name" if text.contains([';', '=']) => return Err(wrong()),
            "name" => &mut name,
            "filename" => &mut filename,
            // The same once more, for those who read it.
            "filename*" => continue,
            _ => return Err(wrong()),
        };
        if place.replace(text.to_owned()).is_some() {
            return Err(wrong());
        }
    }
    Ok((name.filter(|name| !name.is_empty()).ok_or_else(wrong)?, filename))
}

impl TranscriptionRequest {
    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let boundary = first_boundary(body).ok_or_else(|| malformed("begun by its boundary"))?.to_owned();
        let mut request = Self {
            model: None,
            prompt: None,
            settings: Vec::new(),
            files: Vec::new(),
            unknown: Rest::default(),
            dropped: 0,
            boundary: boundary.clone(),
        };
        let mut unknown: Vec<(Key, Json)> = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for part in parts(body, &boundary)? {
            let name = part.name.to_lowercase();
            if seen.contains(&name) && !name.ends_with("[]") {
                return Err(DecodeError::SameField { path: "the form".into() });
            }
            // Forms are matched exactly. What is forwarded always says `model`, and another spelling beside it could be read in its place.
            if name == "model" && part.name != "model" {
                return Err(DecodeError::SameField { path: "the form".into() });
            }
            seen.push(name);
            if part.filename.is_some() || part.name == FILE {
                if part.name != FILE {
                    return Err(malformed("without files but the one that is called file"));
                }
                let filename = part.filename.filter(|name| is_plain_id(name) && !name.starts_with('.')).unwrap_or_else(|| "audio".into());
                request.files.push(File { filename, kind: part.kind, data: part.data.to_vec() });
                continue;
            }
            let text = std::str::from_utf8(part.data).map_err(|_| malformed("of texts in UTF-8"))?.to_owned();
            match part.name.as_str() {
                "model" => request.model = Some(text).filter(|model| !model.is_empty()),
                "prompt" => request.prompt = Some(text),
                STREAM => request.dropped += 1,
                name if SETTINGS.contains(&name) => request.settings.push((part.name, text)),
                _ => unknown.push((part.name.into(), Json::String(text))),
            }
        }
        request.unknown = Rest::of(unknown);
        Ok(request)
    }

    fn texts_of_form(&self) -> Vec<(&str, &str)> {
        // A form has a part at least; without a model's name the server says that it wants one.
        let named = [Some(("model", self.model.as_deref().unwrap_or_default())), self.prompt.as_deref().map(|text| ("prompt", text))];
        let named = named.into_iter().flatten();
        let settings = self.settings.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        named.chain(settings).chain(self.unknown.strings()).collect()
    }
}

impl Request for TranscriptionRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        for text in self.prompt.iter().chain(self.settings.iter().map(|(_, text)| text)) {
            each(Text { channel: Channel::User, message: None, also: &[], text: Cow::Borrowed(text) });
        }
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        // (What is put there holds no end of a line, so that no boundary comes about.)
        edit::texts(self.prompt.iter_mut().chain(self.settings.iter_mut().map(|(_, text)| text)), edit);
        self.unknown.edit(edit);
    }

    fn streams(&self) -> bool {
        false
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        self.files.iter().map(|file| Unreadable { is: Opaque::Audio, path: FILE.into(), bytes: file.data.len() }).collect()
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        each(&mut self.unknown);
    }

    fn dropped(&self) -> usize {
        self.dropped
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.files.iter().map(|file| file.data.len()).sum::<usize>() + 1024);
        let mut part = |head: String, data: &[u8]| {
            out.extend_from_slice(format!("--{}\r\n{head}\r\n\r\n", self.boundary).as_bytes());
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        };
        for (name, text) in self.texts_of_form() {
            part(format!("Content-Disposition: form-data; name=\"{name}\""), text.as_bytes());
        }
        for file in &self.files {
            let kind = file.kind.as_deref().map(|kind| format!("\r\nContent-Type: {kind}")).unwrap_or_default();
            part(format!("Content-Disposition: form-data; name=\"{FILE}\"; filename=\"{}\"{kind}", file.filename), &file.data);
        }
        out.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Body, decode_request};

    /// A form of these parts: each part's name, with whatever else its head is to have, and what it says.
    fn form(parts: &[(&str, &str)]) -> Vec<u8> {
        let parts = parts.iter().map(|(name, text)| format!("--b1\r\nContent-Disposition: form-data; name={name}\r\n\r\n{text}\r\n"));
        (parts.collect::<Vec<_>>().concat() + "--b1--\r\n").into_bytes()
    }

    fn decoded(body: &[u8]) -> Box<dyn Request> {
        decode_request(Body::OpenAiTranscription, body).unwrap()
    }

    #[test]
    fn the_words_are_read_and_the_sound_is_named() {
        let sound = ("\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav", "RIFF\r\n--b");
        let body = form(&[
            sound,
            ("\"model\"", "whisper"),
            ("\"prompt\"", "names: Anna"),
            ("\"language\"", "de"),
            ("\"vad_filter\"", "yes"),
            ("stream", "true"),
        ]);
        let mut request = decoded(&body);
        let mut said = Vec::new();
        request.texts(&mut |text| said.push(text.text.into_owned()));
        assert_eq!(said, ["names: Anna", "de", "vad_filter\nyes"]);
        assert_eq!((request.model(), request.dropped(), request.streams()), (Some("whisper"), 1, false));
        assert_eq!(request.unreadable(), [Unreadable { is: Opaque::Audio, path: "file".into(), bytes: 9 }]);
        request.rests(&mut |rest| rest.retain(&mut |_| false));
        request.set_model("other");
        let expected = form(&[("\"model\"", "other"), ("\"prompt\"", "names: Anna"), ("\"language\"", "de"), sound]);
        assert_eq!(String::from_utf8(request.encode()).unwrap(), String::from_utf8(expected).unwrap());
    }

    #[test]
    fn a_form_that_two_readers_could_take_apart_in_two_ways_is_refused() {
        let good = String::from_utf8(form(&[("\"model\"", "x")])).unwrap();
        assert!(decode_request(Body::OpenAiTranscription, good.as_bytes()).is_ok());
        for odd in [
            Vec::new(),
            form(&[("\"Model\"", "x")]),
            b"--b1--\r\n".to_vec(),
            format!("preamble\r\n{good}").into_bytes(),
            format!("\r\n{good}").into_bytes(),
            form(&[("\"model\"", "a"), ("\"MODEL\"", "b")]),
            form(&[("\"model\"", "a\r\n--b1x")]),
            form(&[("\"model\"", "a\r\n--b1 ")]),
            form(&[("\"file\"; filename=\"a\"", "1"), ("\"file\"; filename=\"b\"", "2")]),
            form(&[("\"other\"; filename=\"a\"", "1")]),
            form(&[("\"model\"; name=\"prompt\"", "a")]),
            form(&[("\"mo\\\"del\"", "a")]),
            form(&[("\"mo; filename=del\"", "a")]),
            form(&[("\"mo=del\"", "a")]),
            form(&[("\"model\"\r\nContent-Disposition: form-data; name=\"prompt\"", "a")]),
            form(&[("\"model\"\r\nContent-Transfer-Encoding: base64", "YQ==")]),
            form(&[("\"\"", "a")]),
            good.replace("form-data", "attachment").into_bytes(),
            good.replace("--b1--", "--b1").into_bytes(),
            good.replace("\r\n", "\n").into_bytes(),
            format!("{good}epilogue").into_bytes(),
            good.replace("\r\nx\r\n", "\r\nMARK\r\n").into_bytes().iter().map(|byte| if *byte == b'K' { 0xff } else { *byte }).collect(),
        ] {
            assert!(decode_request(Body::OpenAiTranscription, &odd).is_err(), "{}", String::from_utf8_lossy(&odd));
        }
    }

    #[test]
    fn a_boundary_is_one_that_every_reader_takes_for_the_same() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=b1", Some("b1")),
            ("Multipart/Form-Data;boundary=\"b1\"", Some("b1")),
            ("multipart/form-data; boundary=b1; charset=utf-8", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/form-data; boundary=\"a b\"", None),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=b1", None),
            ("application/json", None),
        ] {
            assert_eq!(boundary(content_type), expected, "{content_type}");
        }
        assert!(is_bounded_by(b"--b1\r\n", "b1") && !is_bounded_by(b"--b1\r\n", "b") && !is_bounded_by(b"--b1\r\n", "b12"));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_written_as_it_was_read(
            texts in prop::collection::vec(("[a-z]{1,8}", "[ -~\r\n]{0,20}"), 1..6),
            sound in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut body = form(&texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>());
            body.truncate(body.len() - "--b1--\r\n".len());
            body.extend_from_slice(b"--b1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n");
            body.extend_from_slice(&sound);
            body.extend_from_slice(b"\r\n--b1--\r\n");
            if let Ok(request) = decode_request(Body::OpenAiTranscription, &body) {
                let written = request.encode();
                let again = decoded(&written);
                prop_assert_eq!(again.encode(), &written[..]);
                prop_assert!(memmem::find(&written, &sound).is_some());
                let texts = |request: &dyn Request| {
                    let mut said = Vec::new();
                    request.texts(&mut |text| said.push(text.text.into_owned()));
                    said
                };
                prop_assert_eq!(texts(&*again), texts(&*request));
            }
        }
    }
}

//! Log-probabilities of tokens, as Ollama and OpenAI say them: a list of objects, or the columns of OpenAI's text completions.
//!
//! The invariant: a token says its text and nothing else. What else is said in its place (the alternatives that the model didn't choose, other
//! bytes than its own, fields that nobody documents) has no place here, so that it can't be written again.
//!
//! Sources: OpenAI's API reference; ollama/ollama `api/types.go` and `openai/openai.go`, version 0.17.4.

use super::fields::{Fields, ObjectWriter};
use super::json::{Json, write_array, write_string};

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it says.
    pub text: String,
    /// A number, or in columns `null`.
    logprob: Json,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// An object of a list, and which fields it had beside.
    Listed { bytes: bool, alternatives: bool },
    /// A row of columns, and where it says that its text begins.
    Row { offset: Option<Json> },
}

/// The tokens of each channel, and how many things were left out.
pub(super) type Tokens = (Vec<(&'static str, Vec<Token>)>, usize);

impl Token {
    /// One of a list. None where nobody can say what it says.
    fn decode(json: Json) -> Option<(Self, usize)> {
        let mut fields = Fields::open(json).ok()?;
        let text = fields.string("token").ok()??;
        let logprob = fields.any("logprob").filter(|logprob| matches!(logprob, Json::Number(_)))?;
        let bytes = fields.any("bytes");
        // A second copy, which clients may read instead.
        if bytes.as_ref().is_some_and(|bytes| !spells(bytes, &text)) {
            return None;
        }
        let alternatives = fields.array("top_logprobs").ok()?;
        let dropped = fields.left() + usize::from(!alternatives.is_empty());
        let form = Form::Listed { bytes: bytes.is_some(), alternatives: !alternatives.is_empty() };
        Some((Self { text, logprob, form }, dropped))
    }

    fn encode(&self, out: &mut ObjectWriter<'_>) {
        out.string("token", Some(&self.text));
        out.put("logprob", &self.logprob);
        let (bytes, alternatives) = match self.form {
            Form::Listed { bytes, alternatives } => (bytes, alternatives),
            Form::Row { .. } => (false, false),
        };
        if bytes {
            write_array(self.text.as_bytes(), out.field("bytes"), |byte, out| Json::Number((*byte).into()).write(out));
        }
        if alternatives {
            out.trees("top_logprobs", &[]);
        }
    }
}

/// Whether a list of bytes is that of a text.
fn spells(bytes: &Json, text: &str) -> bool {
    let Json::Array(items) = bytes else { return false };
    let is = |(item, byte): (&Json, u8)| matches!(item, Json::Number(number) if number.as_u64() == Some(byte.into()));
    items.len() == text.len() && items.iter().zip(text.bytes()).all(is)
}

/// A list of tokens, and how many things were left out. One that holds anything else than tokens is left out as a whole.
pub(super) fn decode(json: Option<Json>) -> (Vec<Token>, usize) {
    match json {
        None => (Vec::new(), 0),
        Some(Json::Array(items)) => {
            let count = items.len();
            let tokens: Option<Vec<_>> = items.into_iter().map(Token::decode).collect();
            tokens.map_or((Vec::new(), count), |tokens| {
                let dropped = tokens.iter().map(|(_, dropped)| dropped).sum();
                (tokens.into_iter().map(|(token, _)| token).collect(), dropped)
            })
        }
        Some(_) => (Vec::new(), 1),
    }
}

/// What stands beside a choice of OpenAI's: lists by the names of channels, each of which is another channel here, or columns for `column`.
pub(super) fn decode_choice(json: Option<Json>, lists: &[(&'static str, &'static str)], column: Option<&'static str>) -> Tokens {
    let Some(json) = json else { return Tokens::default() };
    let Ok(mut fields) = Fields::open(json) else { return (Vec::new(), 1) };
    if let Some(channel) = column.filter(|_| fields.has("tokens")) {
        let (tokens, dropped) = decode_rows(&mut fields);
        return (vec![(channel, tokens)], dropped + fields.left());
    }
    let (mut found, mut dropped) = (Vec::new(), 0);
    for (name, channel) in lists {
        let (tokens, left_out) = decode(fields.any(name));
        dropped += left_out;
        if !tokens.is_empty() {
            found.push((*channel, tokens));
        }
    }
    (found, dropped + fields.left())
}

fn decode_rows(fields: &mut Fields) -> (Vec<Token>, usize) {
    // Each of their rows has the alternatives as keys.
    let alternatives = usize::from(fields.any("top_logprobs").is_some());
    let [texts, logprobs, offsets] = ["tokens", "token_logprobs", "text_offset"].map(|name| match fields.any(name) {
        Some(Json::Array(items)) => Some(items),
        _ => None,
    });
    let (Some(texts), Some(logprobs)) = (texts, logprobs) else { return (Vec::new(), 1) };
    let count = texts.len();
    if logprobs.len() != count || offsets.as_ref().is_some_and(|offsets| offsets.len() != count) {
        return (Vec::new(), count);
    }
    let mut offsets = offsets.map(Vec::into_iter);
    let rows = texts.into_iter().zip(logprobs).map(|(text, logprob)| {
        let offset = offsets.as_mut().and_then(Iterator::next);
        match (text, logprob) {
            // The first of all has none before it, by which it could be more or less likely.
            (Json::String(text), logprob @ (Json::Number(_) | Json::Null)) if !matches!(offset, Some(ref at) if !is_place(at)) => {
                Some(Token { text, logprob, form: Form::Row { offset } })
            }
            _ => None,
        }
    });
    rows.collect::<Option<Vec<_>>>().map_or((Vec::new(), count), |tokens| (tokens, alternatives))
}

fn is_place(json: &Json) -> bool {
    matches!(json, Json::Number(number) if number.is_u64())
}

/// Writes a list of tokens, where there are any.
pub(super) fn encode<'t>(name: &'static str, tokens: &'t [Token], out: &mut ObjectWriter<'_>) {
    if !tokens.is_empty() {
        out.objects(name, tokens, |token: &'t Token, out| token.encode(out));
    }
}

/// Writes what stands beside a choice of OpenAI's, in the form in which it came.
pub(super) fn encode_choice(tokens: &[(&'static str, Vec<Token>)], lists: &[(&'static str, &'static str)], choice: &mut ObjectWriter<'_>) {
    let of = |channel: &str| tokens.iter().find(|(name, _)| *name == channel).map_or(&[][..], |(_, tokens)| tokens);
    if lists.iter().all(|(_, channel)| of(channel).is_empty()) {
        return;
    }
    choice.object("logprobs", |out| {
        for (name, channel) in lists {
            // The two forms don't come in one answer.
            let (listed, rows): (Vec<&Token>, Vec<&Token>) =
                of(channel).iter().partition(|token| matches!(token.form, Form::Listed { .. }));
            if !listed.is_empty() {
                out.objects(name, listed, Token::encode);
            }
            if !rows.is_empty() {
                encode_rows(&rows, out);
            }
        }
    });
}

fn encode_rows(rows: &[&Token], out: &mut ObjectWriter<'_>) {
    write_array(rows, out.field("tokens"), |token, out| write_string(&token.text, out));
    write_array(rows, out.field("token_logprobs"), |token, out| token.logprob.write(out));
    let offsets: Vec<&Json> =
        rows.iter().filter_map(|token| if let Form::Row { offset } = &token.form { offset.as_ref() } else { None }).collect();
    if offsets.len() == rows.len() {
        write_array(offsets, out.field("text_offset"), Json::write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields;

    const LISTS: &[(&str, &str)] = &[("content", "content"), ("refusal", "refusal")];

    fn through(body: &str, lists: &[(&'static str, &'static str)], column: Option<&'static str>) -> (String, usize) {
        let (tokens, dropped) = decode_choice(Some(Json::read(body.as_bytes()).unwrap()), lists, column);
        let mut out = Vec::new();
        fields::object(&mut out, |out| encode_choice(&tokens, lists, out));
        (String::from_utf8(out).unwrap(), dropped)
    }

    #[test]
    fn tokens_survive_without_their_alternatives_and_what_nobody_documents() {
        let body = r#"{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"x","logprob":-1,"bytes":[120]}],"id":7},{"token":"b","logprob":-1}],"refusal":null}"#;
        let expected =
            r#"{"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[]},{"token":"b","logprob":-1}]}}"#;
        assert_eq!(through(body, LISTS, None), (expected.to_owned(), 2));
    }

    #[test]
    fn columns_survive_without_their_alternatives() {
        let body = r#"{"tokens":["a","b"],"token_logprobs":[null,-1],"top_logprobs":[{"x":-1},{"y":-1}],"text_offset":[0,1]}"#;
        let expected = r#"{"logprobs":{"tokens":["a","b"],"token_logprobs":[null,-1],"text_offset":[0,1]}}"#;
        assert_eq!(through(body, &[("content", "text")], Some("text")), (expected.to_owned(), 1));
    }

    #[test]
    fn a_list_with_anything_in_it_that_says_something_else_is_left_out_as_a_whole() {
        let token = r#"{"token":"a","logprob":-1,"bytes":[97]}"#;
        for other in [
            r#"{"token":"a","logprob":-1,"bytes":[98]}"#,
            r#"{"token":"a","logprob":-1,"bytes":[97,98]}"#,
            r#"{"token":"a","logprob":-1,"bytes":"a"}"#,
            r#"{"token":"a","logprob":-1,"bytes":[97.0]}"#,
            r#"{"token":"a","logprob":"a secret"}"#,
            r#"{"token":"a"}"#,
            r#"{"logprob":-1}"#,
            r#"{"token":"a","Token":"b","logprob":-1}"#,
            r#""a""#,
        ] {
            assert_eq!(through(&format!(r#"{{"content":[{token},{other}]}}"#), LISTS, None), ("{}".to_owned(), 2), "{other}");
        }
        for rows in [
            r#"{"tokens":["a","b"],"token_logprobs":[-1]}"#,
            r#"{"tokens":["a",7],"token_logprobs":[-1,-1]}"#,
            r#"{"tokens":["a","b"],"token_logprobs":[-1,"b"]}"#,
            r#"{"tokens":["a","b"],"token_logprobs":[-1,-1],"text_offset":[0,"b"]}"#,
        ] {
            assert_eq!(through(rows, &[("content", "text")], Some("text")), ("{}".to_owned(), 2), "{rows}");
        }
    }
}

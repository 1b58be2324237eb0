//! Anthropic's streams: an answer that comes in blocks, one behind the other, each of them opened, filled in pieces, and closed.
//!
//! The invariant: blocks that go to the client are counted without a gap, whatever was taken out between them, since clients keep them by
//! their number; and a call is said only once it was judged as a whole.
//!
//! Servers open a block before they have closed the one before it, and close that late: Ollama 0.17.4 does so where a call comes right
//! behind a thought, and llama.cpp's server with all blocks. The client gets each closed before the next.

use super::{MAX_CALL_BYTES, StreamJudge, unreadable_answer};
use crate::exchange::Ending;
use crate::verdict::Refusal;
use crate::wire::anthropic::{ARGUMENTS, Part, Said, decode_part, encode_call, encode_part, encode_piece, encode_text};
use crate::wire::{Arguments, Call, Json, ObjectWriter};

/// Where an answer in blocks has come to.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    open: Option<Open>,
    /// How many blocks were closed here when the next one opened, which the server has still to close.
    unclosed: u64,
    /// What the last of them said, where it was a text and the server may still go on with it.
    cut: Option<&'static str>,
    /// How many blocks the client has got.
    said: u64,
    /// Whether a call went to the client.
    called: bool,
}

#[derive(Debug)]
struct Open {
    /// As the server counts.
    index: u64,
    is: Is,
}

#[derive(Debug)]
enum Is {
    Text(&'static str),
    /// A call, and its arguments as far as they came.
    Call(Call, String),
    /// What can't be judged, and isn't said.
    Dropped,
}

impl StreamJudge {
    /// Takes one event.
    pub(super) fn part(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let misplaced = || unreadable_answer("its blocks are out of order");
        match decode_part(bytes).map_err(|_| unreadable_answer("an event has not the form of its API"))? {
            Part::Start(mut message) => {
                self.judge_members(&mut message);
                message.push(("content", Json::Array(Vec::new())));
                self.event_of("message_start", |event| event.object("message", |out| out.known(&message)), out);
            }
            Part::Open(index, said) => {
                if let Some(open) = self.blocks.open.take() {
                    self.blocks.unclosed += 1;
                    self.blocks.cut = if let Is::Text(name) = open.is { Some(name) } else { None };
                    self.close(open, out)?;
                }
                let is = match said {
                    Some(Said::Text(name, text)) => {
                        self.start_block(|block| encode_text(name, "", block), out);
                        self.blocks.open = Some(Open { index, is: Is::Text(name) });
                        return self.piece(index, name, &text, out);
                    }
                    Some(Said::Call(call)) => Is::Call(call, String::new()),
                    None => {
                        self.speaker.tally.dropped += 1;
                        Is::Dropped
                    }
                };
                self.blocks.open = Some(Open { index, is });
            }
            Part::Piece(index, piece) => match piece {
                Some((name, piece)) => self.piece(index, name, &piece, out)?,
                None => self.speaker.tally.dropped += 1,
            },
            Part::Close(index) => {
                if let Some(open) = self.blocks.open.take_if(|open| open.index == index) {
                    self.close(open, out)?;
                } else if self.blocks.unclosed > 0 {
                    self.blocks.unclosed -= 1;
                    if self.blocks.unclosed == 0 {
                        self.blocks.cut = None;
                    }
                } else {
                    return Err(misplaced());
                }
            }
            Part::Delta(mut delta, usage) => {
                if self.blocks.open.is_some() {
                    return Err(misplaced());
                }
                for (name, value) in &mut delta {
                    // Calls that were taken out aren't what it stopped for.
                    if *name == "stop_reason" && !self.blocks.called && value.as_str() == Some("tool_use") {
                        *value = Json::String("end_turn".into());
                    }
                }
                self.judge_members(&mut delta);
                let mut usage: Vec<_> = usage.map(|usage| ("usage", usage)).into_iter().collect();
                self.judge_members(&mut usage);
                let members = |event: &mut ObjectWriter<'_>| {
                    event.object("delta", |out| out.known(&delta));
                    event.known(&usage);
                };
                self.event_of("message_delta", members, out);
            }
            Part::Stop => {
                if self.blocks.open.is_some() {
                    return Err(misplaced());
                }
                self.event_of("message_stop", |_| {}, out);
                self.ended = Some(Ending::Said);
            }
            Part::Ping => self.event_of("ping", |_| {}, out),
            Part::Error(mut error) => {
                self.speaker.judge_tree(&mut error);
                // Behind the layer that speaks this API, the server's own errors are sentences.
                if let Json::String(message) = error {
                    let member = |name: &str, text: String| (name.into(), Json::String(text));
                    error = Json::Object(vec![member("type", "api_error".into()), member("message", message)]);
                }
                self.event_of("error", |event| event.put("error", &error), out);
                self.ended = Some(Ending::Said);
            }
            Part::Unknown => self.speaker.tally.dropped += 1,
        }
        Ok(())
    }

    /// A piece of the open block.
    fn piece(&mut self, index: u64, name: &'static str, piece: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.blocks.open.is_none() && self.blocks.cut.take_if(|cut| *cut == name).is_some() {
            // To the server it was open all the time.
            self.blocks.unclosed -= 1;
            self.start_block(|block| encode_text(name, "", block), out);
            self.blocks.open = Some(Open { index, is: Is::Text(name) });
        }
        let open = self.blocks.open.as_mut().filter(|open| open.index == index);
        match open.map(|open| &mut open.is) {
            Some(Is::Text(of)) if *of == name => {
                let piece = self.speaker.say_joined(name, piece)?;
                let text = self.speaker.say(index, name, &piece)?;
                self.say_piece(name, &text, out);
                Ok(())
            }
            Some(Is::Call(_, arguments)) if name == ARGUMENTS => {
                self.call_bytes += piece.len();
                if self.call_bytes > MAX_CALL_BYTES {
                    return Err(unreadable_answer("its tool calls are too large"));
                }
                arguments.push_str(piece);
                Ok(())
            }
            Some(Is::Dropped) => Ok(()),
            _ => Err(unreadable_answer("a piece of it belongs to no block")),
        }
    }

    fn close(&mut self, open: Open, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match open.is {
            Is::Text(name) => {
                let last = self.speaker.end_joined(name)?;
                let mut rest = self.speaker.say(open.index, name, &last)?;
                rest.extend(self.speaker.end(Some(open.index))?.into_iter().map(|(_, _, text)| text));
                self.say_piece(name, &rest, out);
            }
            Is::Call(mut call, arguments) => {
                if !arguments.trim().is_empty() {
                    let value = Json::read(arguments.as_bytes());
                    call.arguments = Arguments::Value(value.map_err(|_| unreadable_answer("a tool call's arguments are not JSON"))?);
                }
                let Some(call) = self.speaker.judge_calls(vec![call])?.pop() else { return Ok(()) };
                self.blocks.called = true;
                self.start_block(|block| encode_call(&call, false, block), out);
                if let Arguments::Value(value) = &call.arguments {
                    self.say_piece(ARGUMENTS, &value.to_string(), out);
                }
            }
            Is::Dropped => return Ok(()),
        }
        self.event_of("content_block_stop", |event| event.number("index", self.blocks.said), out);
        self.blocks.said += 1;
        Ok(())
    }

    fn start_block(&self, block: impl FnOnce(&mut ObjectWriter<'_>), out: &mut Vec<u8>) {
        let members = |event: &mut ObjectWriter<'_>| {
            event.number("index", self.blocks.said);
            event.object("content_block", block);
        };
        self.event_of("content_block_start", members, out);
    }

    fn say_piece(&mut self, name: &'static str, piece: &str, out: &mut Vec<u8>) {
        if !piece.is_empty() {
            let members = |event: &mut ObjectWriter<'_>| {
                event.number("index", self.blocks.said);
                event.object("delta", |delta| encode_piece(name, piece, delta));
            };
            self.event_of("content_block_delta", members, out);
        }
    }

    fn judge_members(&mut self, members: &mut [(&'static str, Json)]) {
        for (_, value) in members {
            self.speaker.judge_tree(value);
        }
    }

    #[expect(clippy::unused_self, reason = "what is written is written by the judge alone")]
    fn event_of(&self, name: &str, members: impl FnOnce(&mut ObjectWriter<'_>), out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        encode_part(name, members, out);
        out.extend_from_slice(b"\n\n");
    }
}

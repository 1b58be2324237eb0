//! Answers to `/v1/responses`: items (messages, calls, reasoning), and in a stream the events by which they grow, with all that was said
//! repeated when a part, an item and the answer end.
//!
//! The invariant: a repetition says what its pieces said. Both are judged by the same rules, whole and in pieces, which come to the same;
//! so a repetition isn't counted again.
//!
//! Items count from nought. Ollama 0.17.4 gives a message and the calls behind it the same number, counts the calls of each of its own
//! pieces anew, and a message's pieces under another number once a thought came between. So an item is known by its id, too.

use super::{MAX_CALL_BYTES, MAX_HEAD_BYTES, Speaker, StreamJudge, unreadable_answer};
use crate::exchange::Ending;
use crate::verdict::Refusal;
use crate::wire::{Arguments, Call, Json};

/// Where an answer in items has come to.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// How many events the client has got.
    sequence: u64,
    /// In the order in which they came.
    all: Vec<Item>,
    /// The last event of each text that grows, by which the rest of it is said.
    growing: Vec<(u64, &'static str, Json)>,
}

/// What is known of an item.
#[derive(Debug)]
struct Item {
    /// As the server counts.
    index: u64,
    id: String,
    /// How many parts of it have begun or ended.
    parts: u64,
    /// Whether the client got it.
    stays: bool,
}

impl Items {
    /// The item to which an event belongs, by its place among all.
    fn of(&self, event: &Json) -> Option<usize> {
        let number = index(event, "output_index");
        let id = event.get("item_id").or_else(|| event.get("item")?.get("id")).and_then(Json::as_str);
        let same = |item: &Item| item.index == number;
        let by = |is: &dyn Fn(&Item) -> bool| self.all.iter().rposition(is);
        let by_id = |is: &dyn Fn(&Item) -> bool| id.and_then(|id| by(&|item| is(item) && item.id == id));
        by_id(&same).or_else(|| by(&same)).or_else(|| by_id(&|_| true))
    }

    /// One number for each text of an answer: its item, its part of that, and its kind, by the event of its pieces.
    ///
    /// The parts are counted here, by the events that begin and end them: vLLM gives each piece of one text a part of its own.
    fn text_of(&self, item: usize, delta: &str) -> Result<u64, Refusal> {
        let part = self.all.get(item).map_or(0, |item| item.parts);
        if part >= MOST_PARTS {
            return Err(unreadable_answer("an item of it has too many parts"));
        }
        let kind = TEXTS.iter().position(|(of, _)| *of == delta).unwrap_or_default() as u64;
        Ok(first_text_of(item) + part * 4 + kind)
    }

    /// Another part of an item begins.
    fn begin_part(&mut self, item: usize) {
        if let Some(item) = self.all.get_mut(item) {
            item.parts += 1;
        }
    }

    /// The text of a kind that grew last.
    fn last_of(&self, delta: &str) -> Option<u64> {
        self.growing.iter().rev().find(|(_, name, _)| *name == delta).map(|(text, ..)| *text)
    }

    /// An item's number without those that were taken out before it.
    fn client_index(&self, index: u64) -> u64 {
        index - self.all.iter().filter(|item| !item.stays && item.index < index).count() as u64
    }
}

/// The texts that grow: the event of a piece, and of the whole.
const TEXTS: [(&str, &str); 4] = [
    ("response.output_text.delta", "response.output_text.done"),
    ("response.refusal.delta", "response.refusal.done"),
    ("response.reasoning_text.delta", "response.reasoning_text.done"),
    ("response.reasoning_summary_text.delta", "response.reasoning_summary_text.done"),
];
const ARGUMENTS: (&str, &str) = ("response.function_call_arguments.delta", "response.function_call_arguments.done");
/// Events that hold the answer as it is at that moment.
const STATES: [&str; 6] =
    ["response.created", "response.queued", "response.in_progress", "response.completed", "response.incomplete", "response.failed"];
/// Of these, the last.
const ENDS: [&str; 3] = ["response.completed", "response.incomplete", "response.failed"];
/// Events of which each value is whole.
const WHOLE: [&str; 8] = [
    "response.content_part.added",
    "response.content_part.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.output_text.annotation.added",
    "response.web_search_call.in_progress",
    "response.web_search_call.searching",
    "response.web_search_call.completed",
];
/// The parts of items that hold a text.
const PARTS: [&str; 3] = ["output_text", "reasoning_text", "summary_text"];
/// The most items of an answer.
const MOST: usize = 1024;

impl Speaker {
    /// An answer that is there as a whole.
    pub(super) fn judge_response(&mut self, response: &mut Json) -> Result<(), Refusal> {
        self.drop_log_probabilities(response);
        let mut output = take(response, "output");
        if let Some(Json::Array(items)) = &mut output {
            self.judge_parts(items)?;
            let mut kept = Vec::with_capacity(items.len());
            for mut item in std::mem::take(items) {
                if self.judge_item(&mut item)? {
                    kept.push(item);
                }
            }
            *items = kept;
        } else if let Some(other) = &mut output {
            self.judge_said_tree(other);
        }
        self.judge_said_tree(response);
        if let Some(output) = output {
            set(response, "output", output);
        }
        Ok(())
    }

    /// Texts that clients join, each as it stands behind those before it. What each says by itself is judged with its item.
    fn judge_parts(&mut self, items: &[Json]) -> Result<(), Refusal> {
        // Not behind what was said in pieces: here all of that is said again.
        let before = std::mem::take(&mut self.joined);
        for item in items {
            for list in ["content", "summary"] {
                let Some(Json::Array(parts)) = item.get(list) else { continue };
                for part in parts {
                    let kind = PARTS.into_iter().find(|kind| part.get("type").and_then(Json::as_str) == Some(kind));
                    if let (Some(kind), Some(Json::String(text))) = (kind, part.get("text")) {
                        self.judge_joined(kind, text)?;
                    }
                }
            }
        }
        self.joined = before;
        Ok(())
    }

    /// An item that is there as a whole; whether it stays.
    fn judge_item(&mut self, item: &mut Json) -> Result<bool, Refusal> {
        let kind = item.get("type").and_then(Json::as_str).unwrap_or_default();
        // `function_call`, and what other tools are called by: `custom_tool_call`, `mcp_call`.
        if !kind.ends_with("_call") || item.get("name").and_then(Json::as_str).is_none() {
            self.judge_said_tree(item);
            return Ok(true);
        }
        let text = |json: Option<Json>| if let Some(Json::String(text)) = json { text } else { String::new() };
        let (name, arguments) = (text(take(item, "name")), text(take(item, "arguments")));
        let call = Call { id: None, index: None, name, arguments: Arguments::Text(arguments) };
        let Some(call) = self.judge_calls(vec![call])?.pop() else { return Ok(false) };
        // What was judged as a name and as JSON isn't judged again as a text.
        self.judge_said_tree(item);
        set(item, "name", Json::String(call.name));
        if let Arguments::Text(text) = call.arguments {
            set(item, "arguments", Json::String(text));
        }
        Ok(true)
    }

    /// Tokens one by one, with their neighbours, can't be judged.
    fn drop_log_probabilities(&mut self, json: &mut Json) {
        match json {
            Json::Object(entries) => {
                for (key, value) in entries {
                    match value {
                        Json::Array(items) if key == "logprobs" => self.tally.dropped += std::mem::take(items).len() as u64,
                        other => self.drop_log_probabilities(other),
                    }
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.drop_log_probabilities(item)),
            _ => {}
        }
    }

    /// Judges what was said before, without counting it again.
    fn again<T>(&mut self, judge: impl FnOnce(&mut Self) -> T) -> T {
        let counted = self.tally.clone();
        let done = judge(self);
        self.tally = counted;
        done
    }
}

fn index(json: &Json, name: &str) -> u64 {
    match json.get(name) {
        Some(Json::Number(number)) => number.as_u64().unwrap_or(u64::MAX),
        _ => 0,
    }
}

/// Puts a value in the place of another.
fn set(json: &mut Json, name: &str, value: Json) {
    if let Some(place) = json.get_mut(name) {
        *place = value;
    }
}

/// Takes a value out and leaves its place.
fn take(json: &mut Json, name: &str) -> Option<Json> {
    json.get_mut(name).map(|place| std::mem::replace(place, Json::Null))
}

/// What an event of a piece says of itself, as far as that is short: it is kept for each text.
fn brief(event: &Json) -> Json {
    let Json::Object(members) = event else { return Json::Null };
    let is_short = |value: &Json| match value {
        Json::String(text) => text.len() <= MAX_HEAD_BYTES,
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Number(_) | Json::Bool(_) | Json::Null => true,
    };
    // Nothing documented has as many.
    Json::Object(members.iter().filter(|(name, value)| name.len() <= 64 && is_short(value)).take(32).cloned().collect())
}

/// The most parts of an item.
const MOST_PARTS: u64 = 4096;

/// Where an event says to which part of its item a piece belongs. Clients count the parts of a summary by themselves.
fn part_of(event: &Json, delta: &str) -> u64 {
    index(event, if delta.contains("summary") { "summary_index" } else { "content_index" })
}

/// The least of an item's numbers.
fn first_text_of(item: usize) -> u64 {
    item as u64 * MOST_PARTS * 4
}

impl StreamJudge {
    /// Takes one event.
    pub(super) fn item_event(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if bytes.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let mut event = Json::read(bytes).map_err(|_| unreadable_answer("an event is not JSON"))?;
        self.speaker.drop_log_probabilities(&mut event);
        let kind = match event.get("type") {
            Some(Json::String(kind)) => kind.clone(),
            // A server that fails behind the layer that speaks this API says so in its own words.
            None | Some(Json::Null) if event.get("error").is_some() => "error".to_owned(),
            _ => return Err(unreadable_answer("an event of it has no type")),
        };
        if kind == "error" {
            self.speaker.judge_tree(&mut event);
            self.send("error", event, out);
            self.ended = Some(Ending::Said);
            return Ok(());
        }
        if STATES.contains(&kind.as_str()) {
            return self.state(&kind, event, out);
        }
        if kind == "response.output_item.added" {
            return self.added(event, out);
        }
        let Some(item) = self.items.of(&event) else { return Err(unreadable_answer("an event of it belongs to no item")) };
        if !self.items.all[item].stays {
            // What belongs to an item that was taken out goes with it.
            return Ok(());
        }
        let said = self.items.client_index(self.items.all[item].index);
        set(&mut event, "output_index", Json::Number(said.into()));
        if let Some((delta, _)) = TEXTS.into_iter().find(|(delta, _)| *delta == kind) {
            return self.grows(self.items.text_of(item, delta)?, delta, event, out);
        }
        if let Some((delta, _)) = TEXTS.into_iter().find(|(_, done)| *done == kind) {
            self.ends(self.items.text_of(item, delta)?, delta, out)?;
            self.items.begin_part(item);
            self.speaker.again(|speaker| speaker.judge_said_tree(&mut event));
            self.send(&kind, event, out);
        } else if kind == ARGUMENTS.0 {
            // It is said once it is whole.
            self.call_bytes += event.get("delta").and_then(Json::as_str).map_or(0, str::len);
            if self.call_bytes > MAX_CALL_BYTES {
                return Err(unreadable_answer("its tool calls are too large"));
            }
        } else if kind == ARGUMENTS.1 {
            return self.arguments(event, out);
        } else if kind == "response.output_item.done" {
            self.around(&mut event, "item", |speaker, item| {
                speaker.judge_parts(std::slice::from_ref(item))?;
                speaker.judge_item(item)
            })?;
            self.send(&kind, event, out);
        } else if WHOLE.contains(&kind.as_str()) {
            if kind.ends_with("part.added") {
                self.items.begin_part(item);
            }
            self.speaker.again(|speaker| speaker.judge_said_tree(&mut event));
            self.send(&kind, event, out);
        } else {
            self.speaker.tally.dropped += 1;
        }
        Ok(())
    }

    /// The answer as it is now: what it was asked, and what it says so far.
    fn state(&mut self, kind: &str, mut event: Json, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let ends = ENDS.contains(&kind);
        if ends {
            while let Some((text, delta)) = self.items.growing.first().map(|(text, delta, _)| (*text, *delta)) {
                self.ends(text, delta, out)?;
            }
        }
        self.around(&mut event, "response", Speaker::judge_response)?;
        self.send(kind, event, out);
        self.ended = ends.then_some(Ending::Said);
        Ok(())
    }

    /// Judges again what an event holds under a name, by `judge`, and whatever else it says.
    fn around<T>(
        &mut self,
        event: &mut Json,
        name: &str,
        judge: impl FnOnce(&mut Speaker, &mut Json) -> Result<T, Refusal>,
    ) -> Result<(), Refusal> {
        let mut held = take(event, name);
        if let Some(held) = &mut held {
            self.speaker.again(|speaker| judge(speaker, held))?;
        }
        self.speaker.again(|speaker| speaker.judge_said_tree(event));
        if let Some(held) = held {
            set(event, name, held);
        }
        Ok(())
    }

    fn added(&mut self, mut event: Json, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let number = index(&event, "output_index");
        let id = event.get("item").and_then(|item| item.get("id")?.as_str()).unwrap_or_default().to_owned();
        let mut of_number = self.items.all.iter().filter(|item| item.index == number).peekable();
        let is_late = of_number.peek().is_none() && self.items.all.iter().any(|item| number < item.index);
        if of_number.any(|item| item.id == id) || is_late || self.items.all.len() == MOST || number > MOST as u64 {
            return Err(unreadable_answer("its items are out of order"));
        }
        // What another item of the same number has said comes before what this one says.
        for place in (0..self.items.all.len()).rev().filter(|place| self.items.all[*place].index == number).collect::<Vec<_>>() {
            let texts = first_text_of(place)..first_text_of(place + 1);
            let growing: Vec<_> = self.items.growing.iter().filter(|(text, ..)| texts.contains(text)).cloned().collect();
            for (text, delta, event) in growing {
                let last = self.items.last_of(delta);
                let joined = if last == Some(text) { self.speaker.pause_joined(delta)? } else { String::new() };
                let mut held = self.speaker.say(text, delta, &joined)?;
                held.extend(self.speaker.pause_others(text, &[]).into_iter().map(|(_, _, text)| text));
                self.send_piece(delta, event, held, out);
            }
        }
        let mut stays = false;
        if let Some(mut item) = take(&mut event, "item") {
            let begun = item.get("arguments").and_then(Json::as_str).unwrap_or_default();
            if Json::read(begun.as_bytes()).is_err() {
                // vLLM says the first piece of them here. They are said once they are whole.
                set(&mut item, "arguments", Json::String(String::new()));
            }
            stays = self.speaker.judge_item(&mut item)?;
            self.speaker.judge_said_tree(&mut event);
            set(&mut event, "item", item);
        }
        self.items.all.push(Item { index: number, id, parts: 0, stays });
        if stays {
            set(&mut event, "output_index", Json::Number(self.items.client_index(number).into()));
            self.send("response.output_item.added", event, out);
        }
        Ok(())
    }

    /// A piece of a text.
    fn grows(&mut self, text: u64, delta: &'static str, mut event: Json, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(Json::String(piece)) = take(&mut event, "delta") else { return Err(unreadable_answer("a piece of it is no text")) };
        let known = self.items.growing.iter().find(|(of, name, _)| (*of, *name) == (text, delta));
        if known.is_some_and(|(_, _, before)| part_of(before, delta) > part_of(&event, delta)) {
            return Err(unreadable_answer("its parts are out of order"));
        }
        // Where another text of the kind goes on, a part of what clients join has ended.
        let before = self.items.last_of(delta).filter(|of| *of != text);
        if let Some((of, _, event)) = before.and_then(|before| self.items.growing.iter().find(|(of, ..)| *of == before).cloned()) {
            let rest = self.speaker.end_joined(delta)?;
            let mut rest = self.speaker.say(of, delta, &rest)?;
            // All of it is said now, since clients join what they get in its order.
            rest.extend(self.speaker.pause_others(of, &[]).into_iter().map(|(_, _, text)| text));
            self.send_piece(delta, event, rest, out);
        }
        let piece = self.speaker.say_joined(delta, &piece)?;
        let piece = self.speaker.say(text, delta, &piece)?;
        self.speaker.again(|speaker| speaker.judge_said_tree(&mut event));
        self.items.growing.retain(|(of, name, _)| (*of, *name) != (text, delta));
        self.items.growing.push((text, delta, brief(&event)));
        self.send_piece(delta, event, piece, out);
        Ok(())
    }

    /// Says the rest of a text.
    fn ends(&mut self, text: u64, delta: &'static str, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(place) = self.items.growing.iter().position(|(of, name, _)| (*of, *name) == (text, delta)) else { return Ok(()) };
        let is_last = self.items.last_of(delta) == Some(text);
        let (_, _, event) = self.items.growing.remove(place);
        let last = if is_last { self.speaker.end_joined(delta)? } else { String::new() };
        let mut rest = self.speaker.say(text, delta, &last)?;
        rest.extend(self.speaker.end(Some(text))?.into_iter().map(|(_, _, text)| text));
        self.send_piece(delta, event, rest, out);
        Ok(())
    }

    /// Says a piece of a text by an event of that.
    fn send_piece(&mut self, delta: &'static str, mut event: Json, piece: String, out: &mut Vec<u8>) {
        if !piece.is_empty() {
            set(&mut event, "delta", Json::String(piece));
            self.send(delta, event, out);
        }
    }

    /// A call's arguments, whole: said as one piece, and then as the whole. Its name was judged when the item was added.
    fn arguments(&mut self, mut event: Json, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(Json::String(mut arguments)) = take(&mut event, "arguments") else {
            return Err(unreadable_answer("a tool call's arguments are no text"));
        };
        self.speaker.judge_arguments(&mut arguments)?;
        self.speaker.again(|speaker| speaker.judge_said_tree(&mut event));
        if let Json::Object(members) = &event
            && !arguments.is_empty()
        {
            let mut piece: Vec<_> =
                members.iter().filter(|(name, _)| !["arguments", "delta", "name"].contains(&name.as_str())).cloned().collect();
            piece.push(("delta".into(), Json::String(arguments.clone())));
            let mut piece = Json::Object(piece);
            set(&mut piece, "type", Json::String(ARGUMENTS.0.into()));
            self.send(ARGUMENTS.0, piece, out);
        }
        set(&mut event, "arguments", Json::String(arguments));
        self.send(ARGUMENTS.1, event, out);
        Ok(())
    }

    fn send(&mut self, kind: &str, mut event: Json, out: &mut Vec<u8>) {
        set(&mut event, "sequence_number", Json::Number(self.items.sequence.into()));
        self.items.sequence += 1;
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        event.write(out);
        out.extend_from_slice(b"\n\n");
    }
}

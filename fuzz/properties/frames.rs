//! The frames of an answer are those that a plain reader of lines, or of the HTML standard's event streams, finds; they don't depend on
//! how the bytes arrive; and neither a frame nor what is kept of an unfinished one is larger than the bound.

use llm_guard_engine::wire::framing::{FrameReader, Framing};

/// The frames, and how the bytes ended: between frames, within one, or with one that is too large.
#[derive(Debug, PartialEq)]
struct Cut {
    frames: Vec<Vec<u8>>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Between,
    Within,
    TooLarge,
}

pub(crate) fn holds(data: &[u8]) {
    let Some(([form, limit, sizes @ ..], bytes)) = super::header::<5>(data) else { return };
    let framing = if form % 2 == 0 { Framing::Lines } else { Framing::Events };
    let limit = if limit == 0 { 4 * 1024 * 1024 } else { usize::from(limit) };

    let expected = plain(framing, bytes, limit);
    for pieces in [super::pieces(bytes, &[]), super::pieces(bytes, &sizes), super::pieces(bytes, &[1])] {
        assert_eq!(cut(framing, &pieces, limit), expected);
    }

    // Who has seen enough gets nothing more of these bytes.
    let mut seen = 0;
    let mut reader = FrameReader::new(framing, limit);
    let _ = reader.push(bytes, &mut |_| {
        seen += 1;
        false
    });
    assert!(seen <= 1, "{seen} frames after the first");
}

fn cut(framing: Framing, pieces: &[&[u8]], limit: usize) -> Cut {
    let mut reader = FrameReader::new(framing, limit);
    let mut frames = Vec::new();
    let mut take = |frame: &[u8]| {
        assert!(frame.len() <= limit, "a frame of {} bytes over {limit}", frame.len());
        frames.push(frame.to_vec());
        true
    };
    for piece in pieces {
        if reader.push(piece, &mut take).is_err() {
            return Cut { frames, end: End::TooLarge };
        }
        assert!(reader.held() <= limit, "{} bytes are kept, over {limit}", reader.held());
    }
    let end = match reader.finish(&mut take) {
        Ok(true) => End::Between,
        Ok(false) => End::Within,
        Err(_) => End::TooLarge,
    };
    Cut { frames, end }
}

/// Cuts bytes that are all there.
fn plain(framing: Framing, bytes: &[u8], limit: usize) -> Cut {
    let (lines, rest) = match framing {
        Framing::Lines => lines(bytes, false),
        Framing::Events => lines(bytes, true),
    };
    let mut frames = Vec::new();
    let mut data: Option<Vec<u8>> = None;
    let too_large = |line: &[u8], data: &Option<Vec<u8>>| line.len() + data.as_ref().map_or(0, Vec::len) > limit;
    for (number, line) in lines.iter().enumerate() {
        if too_large(line, &data) {
            return Cut { frames, end: End::TooLarge };
        }
        if framing == Framing::Lines {
            if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                frames.push(line.to_vec());
            }
        } else if line.is_empty() {
            frames.extend(data.take());
        } else if let Some(value) = data_of(line, number == 0) {
            data = Some(data.take().map_or_else(|| value.to_vec(), |data| [&data[..], b"\n", value].concat()));
        }
    }
    let end = match framing {
        _ if too_large(rest, &data) => End::TooLarge,
        Framing::Lines => {
            if rest.iter().any(|byte| !byte.is_ascii_whitespace()) {
                frames.push(rest.to_vec());
            }
            End::Between
        }
        Framing::Events if rest.is_empty() && data.is_none() => End::Between,
        Framing::Events => End::Within,
    };
    Cut { frames, end }
}

/// The lines that have ended, and the one that hasn't.
pub(super) fn lines(bytes: &[u8], returns_end_lines: bool) -> (Vec<&[u8]>, &[u8]) {
    let (mut lines, mut start, mut place) = (Vec::new(), 0, 0);
    while place < bytes.len() {
        let length = match &bytes[place..] {
            [b'\r', b'\n', ..] if returns_end_lines => 2,
            [b'\r', ..] if returns_end_lines => 1,
            [b'\n', ..] => 1,
            _ => 0,
        };
        if length > 0 {
            lines.push(&bytes[start..place]);
            start = place + length;
        }
        place += length.max(1);
    }
    (lines, &bytes[start..])
}

/// What a line of an event stream adds to the event's data.
fn data_of(line: &[u8], is_first: bool) -> Option<&[u8]> {
    let line = if is_first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = colon.map_or((line, &line[line.len()..]), |colon| (&line[..colon], &line[colon + 1..]));
    (name == b"data").then(|| value.strip_prefix(b" ").unwrap_or(value))
}

//! Cuts an answer's bytes into the frames that its API sends: lines of JSON, or server-sent events.
//!
//! A frame is given out whole or not at all, however the bytes arrive, and an unfinished one never grows over its bound.

/// A frame is larger than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of the answer is larger than {limit} bytes")]
pub struct FrameTooLarge {
    limit: usize,
}

/// What an event stream may begin with; it belongs to no line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How an answer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON value a line (`application/x-ndjson`).
    Lines,
    /// Server-sent events (WHATWG HTML, section 9.2): what the `data` fields of an event say, joined by line feeds.
    Events,
}

/// Collects bytes into frames.
#[derive(Debug)]
pub struct FrameReader {
    framing: Framing,
    limit: usize,
    /// Bytes of the line that has not ended.
    line: Vec<u8>,
    /// Data of the event that has not ended, if it has any.
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return, so that a line feed right after it belongs to the same line end.
    after_return: bool,
    /// No line has ended yet.
    at_start: bool,
}

impl FrameReader {
    /// A reader whose frames have at most `limit` bytes.
    #[must_use]
    pub fn new(framing: Framing, limit: usize) -> Self {
        Self { framing, limit, line: Vec::new(), data: None, after_return: false, at_start: true }
    }

    /// Takes bytes and calls `frame` for each frame that they complete, until it says to stop.
    pub fn push(&mut self, mut bytes: &[u8], frame: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), FrameTooLarge> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = match self.framing {
                Framing::Lines => memchr::memchr(b'\n', bytes),
                Framing::Events => memchr::memchr2(b'\n', b'\r', bytes),
            };
            let Some(end) = end else {
                self.keep(bytes)?;
                break;
            };
            self.after_return = bytes[end] == b'\r';
            let more = if self.line.is_empty() {
                self.end_line(&bytes[..end], frame)?
            } else {
                self.keep(&bytes[..end])?;
                let line = std::mem::take(&mut self.line);
                let more = self.end_line(&line, frame)?;
                // The buffer stays for the next line that arrives in pieces.
                self.line = line;
                self.line.clear();
                more
            };
            if !more {
                break;
            }
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// Whether the bytes ended between frames. A line of JSON may go without its line feed at the very end: `frame` gets it.
    /// An event that no empty line ends was never sent.
    pub fn finish(&mut self, frame: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, FrameTooLarge> {
        let line = std::mem::take(&mut self.line);
        match self.framing {
            Framing::Lines => {
                self.end_line(&line, frame)?;
                Ok(true)
            }
            Framing::Events => Ok(line.is_empty() && self.data.is_none()),
        }
    }

    /// How many bytes are kept of what has not ended.
    #[must_use]
    pub fn held(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, Vec::len)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), FrameTooLarge> {
        self.fits(self.line.len() + bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether there is room for a line of so many bytes, however it arrives: a line that will say nothing takes room until it ends.
    fn fits(&self, line: usize) -> Result<(), FrameTooLarge> {
        let data = self.data.as_ref().map_or(0, Vec::len);
        if line + data > self.limit { Err(FrameTooLarge { limit: self.limit }) } else { Ok(()) }
    }

    fn end_line(&mut self, line: &[u8], frame: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, FrameTooLarge> {
        self.fits(line.len())?;
        let is_first = std::mem::take(&mut self.at_start);
        match self.framing {
            Framing::Lines => {
                let blank = line.iter().all(u8::is_ascii_whitespace);
                Ok(blank || frame(line))
            }
            Framing::Events if line.is_empty() => match self.data.take() {
                Some(data) => Ok(frame(&data)),
                None => Ok(true),
            },
            Framing::Events => {
                // Comments and the fields `event`, `id` and `retry` carry nothing that these APIs use.
                let line = if is_first { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
                if let Some(value) = line.strip_prefix(b"data") {
                    let value = match value {
                        [] => value,
                        [b':', b' ', rest @ ..] | [b':', rest @ ..] => rest,
                        // Another field whose name begins alike.
                        _ => return Ok(true),
                    };
                    let data = match &mut self.data {
                        Some(data) => {
                            data.push(b'\n');
                            data
                        }
                        None => self.data.insert(Vec::new()),
                    };
                    data.extend_from_slice(value);
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(framing: Framing, pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut reader = FrameReader::new(framing, 64);
        let mut out = Vec::new();
        let mut take = |frame: &[u8]| {
            out.push(String::from_utf8(frame.to_vec()).unwrap());
            true
        };
        for piece in pieces {
            reader.push(piece, &mut take).unwrap();
        }
        let whole = reader.finish(&mut take).unwrap();
        (out, whole)
    }

    #[test]
    fn frames_are_the_same_at_every_split() {
        for (framing, bytes, expected) in [
            (Framing::Lines, &b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}"[..], vec!["{\"a\":1}", "{\"b\":2}\r", "{\"c\":3}"]),
            (
                Framing::Events,
                b": ping\n\ndata: {\"a\":1}\n\nevent: x\ndata:{\"b\":\ndata: 2}\r\n\r\ndata: [DONE]\r\rdatax: no\n\n",
                vec!["{\"a\":1}", "{\"b\":\n2}", "[DONE]"],
            ),
        ] {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(frames(framing, &pieces), (expected.iter().map(ToString::to_string).collect(), true), "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn an_event_that_did_not_end_is_not_a_frame() {
        assert_eq!(frames(Framing::Events, &[b"data: {\"a\":1}\n"]), (vec![], false));
        assert_eq!(frames(Framing::Events, &[b"data: {\"a\""]), (vec![], false));
    }

    #[test]
    fn a_mark_of_the_byte_order_hides_no_event() {
        assert_eq!(frames(Framing::Events, &[b"\xef\xbb", b"\xbfdata: {}\n\n\xef\xbb\xbfdata: no\n\n"]), (vec!["{}".into()], true));
    }

    #[test]
    fn what_fits_does_not_depend_on_the_pieces() {
        // Data of 40 bytes and a comment of 30 are more than is kept, though neither is by itself.
        let bytes = [b"data: ", &[b'x'; 40][..], b"\n:", &[b'x'; 29][..], b"\n\n"].concat();
        for chunk in 1..=bytes.len() {
            let mut reader = FrameReader::new(Framing::Events, 64);
            assert!(bytes.chunks(chunk).any(|piece| reader.push(piece, &mut |_| true).is_err()), "in pieces of {chunk}");
        }
    }

    #[test]
    fn a_frame_over_the_bound_is_an_error_in_one_piece_and_in_many() {
        for framing in [Framing::Lines, Framing::Events] {
            let mut reader = FrameReader::new(framing, 64);
            assert!(reader.push(&[b"data: ", &[b'x'; 100][..], b"\n\n"].concat(), &mut |_| true).is_err());
            let mut reader = FrameReader::new(framing, 64);
            assert!((0..100).any(|_| reader.push(b"x", &mut |_| true).is_err()));
        }
        let mut reader = FrameReader::new(Framing::Events, 64);
        assert!((0..100).any(|_| reader.push(b"data: x\n", &mut |_| true).is_err()));
    }
}

//! Bodies that come packed by zstd (RFC 8878), which Ollama unpacks on some of its routes.
//!
//! The invariant: what is unpacked is what every reader would unpack, and never more than the caller has room for. A body that
//! two readers could end at two places, or that carries a wrong length or checksum, is refused.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::Route;

/// The largest window that a body may ask for: the one that RFC 8878 (section 3.1.1.1.2) wants every reader to have, and Ollama's limit.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;
/// The most bytes of one block (RFC 8878, section 3.1.1.2.4).
const MAX_BLOCK: usize = 128 * 1024;
/// The most frames of one body. Packers write one, or one for each thread's share.
const MAX_FRAMES: usize = 1024;
/// The bytes that begin a frame.
const FRAME: u32 = 0xFD2F_B528;
/// The bytes that begin a frame to be skipped, but for the lowest four bits.
const SKIPPED: u32 = 0x184D_2A50;

/// Why a body can't be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// It isn't what it is said to be.
    #[error("the request's body is no zstd that every server would read in the same way")]
    Broken,
    /// It unpacks to more than may be judged.
    #[error("the request's body unpacks to more than 32 MiB")]
    TooLarge,
    /// There is no memory for it.
    #[error("there is no room to unpack the request's body")]
    NoRoom,
}

/// Whether the server unpacks a route's bodies: on the routes that Ollama may pass on to its cloud (`cloudPassthroughMiddleware` in
/// ollama/ollama `server/routes.go`). Version 0.17.4 does it on `/v1/responses` alone.
#[must_use]
pub fn is_taken(route: &Route) -> bool {
    let routes = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"];
    routes.contains(&route.pattern)
}

/// Unpacks a body to at most `most` bytes. `room` is asked for the memory of so many bytes in all before they are there.
pub fn unpack(packed: &[u8], most: usize, room: &mut dyn FnMut(usize) -> bool) -> Result<Vec<u8>, UnpackError> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW);
    let (mut left, mut out, mut frames) = (packed, Vec::new(), 0);
    while !left.is_empty() {
        frames += 1;
        let magic = left.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(UnpackError::Broken)?;
        if frames > MAX_FRAMES {
            return Err(UnpackError::Broken);
        }
        if magic & !0xF == SKIPPED {
            left = skip(left).ok_or(UnpackError::Broken)?;
        } else if magic == FRAME {
            unpack_frame(&mut decoder, &mut left, &mut out, most, room)?;
        } else {
            return Err(UnpackError::Broken);
        }
    }
    Ok(out)
}

/// What stands behind a frame to be skipped.
fn skip(frame: &[u8]) -> Option<&[u8]> {
    let (length, rest) = frame.get(4..)?.split_first_chunk()?;
    rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
}

fn unpack_frame(
    decoder: &mut FrameDecoder,
    left: &mut &[u8],
    out: &mut Vec<u8>,
    most: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<(), UnpackError> {
    let says_size = says_size(left).ok_or(UnpackError::Broken)?;
    decoder.init(&mut *left).map_err(|_| UnpackError::Broken)?;
    let begun = out.len();
    let window = usize::try_from(MAX_WINDOW).unwrap_or(usize::MAX);
    let size = usize::try_from(decoder.content_size()).map_err(|_| UnpackError::TooLarge)?;
    if says_size && size > most.saturating_sub(begun) {
        return Err(UnpackError::TooLarge);
    }
    while !decoder.is_finished() {
        // The decoder keeps back at most a window's worth of what it has unpacked, and adds a block to it.
        let unpacked = decoder.blocks_decoded().saturating_mul(MAX_BLOCK);
        let kept = window.min(unpacked.saturating_sub(out.len() - begun)) + MAX_BLOCK;
        if !room(out.len() + kept) {
            return Err(UnpackError::NoRoom);
        }
        decoder.decode_blocks(&mut *left, BlockDecodingStrategy::UptoBlocks(1)).map_err(|_| UnpackError::Broken)?;
        decoder.collect_to_writer(&mut *out).map_err(|_| UnpackError::Broken)?;
        if out.len() > most {
            return Err(UnpackError::TooLarge);
        }
    }
    if !room(out.len()) {
        return Err(UnpackError::NoRoom);
    }
    let checks_out = decoder.get_checksum_from_data().is_none_or(|said| decoder.get_calculated_checksum() == Some(said));
    let has_its_size = !says_size || out.len() - begun == size;
    if checks_out && has_its_size { Ok(()) } else { Err(UnpackError::Broken) }
}

/// Whether a frame's head says how large its content is (RFC 8878, section 3.1.1.1.1).
fn says_size(frame: &[u8]) -> Option<bool> {
    let descriptor = frame.get(4)?;
    Some(descriptor >> 6 != 0 || descriptor & 0x20 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    const MIB: usize = 1024 * 1024;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>, UnpackError> {
        unpack(packed, 32 * MIB, &mut |_| true)
    }

    /// A frame without a size whose blocks each repeat a byte: a few bytes for 128 KiB.
    fn bomb(blocks: usize) -> Vec<u8> {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38];
        for block in 1..=blocks {
            let header = u32::try_from(MAX_BLOCK << 3 | 1 << 1 | usize::from(block == blocks)).unwrap();
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.push(b' ');
        }
        frame
    }

    #[test]
    fn what_was_packed_comes_out_whether_in_one_frame_or_in_several() {
        for text in ["", "{}", &"Once upon a time. ".repeat(20_000)] {
            assert_eq!(unpacked(&pack(text.as_bytes())).as_deref(), Ok(text.as_bytes()));
        }
        let skipped = [0x53, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let several = [&pack(b"{\"a\""), &skipped[..], &pack(b":1}"), &skipped].concat();
        assert_eq!(unpacked(&several).as_deref(), Ok(&b"{\"a\":1}"[..]));
        assert_eq!(unpacked(&bomb(2)).map(|bytes| bytes.len()), Ok(2 * MAX_BLOCK));
    }

    #[test]
    fn what_readers_could_read_in_two_ways_is_broken() {
        let whole = pack(b"Once upon a time there was a body.");
        for cut in 1..whole.len() {
            assert_eq!(unpacked(&whole[..cut]), Err(UnpackError::Broken), "{cut} of {} bytes", whole.len());
        }
        let other_sum = [&whole[..whole.len() - 1], &[whole[whole.len() - 1] ^ 1]].concat();
        let behind = [&whole[..], b"\n"].concat();
        let zeros = [&whole[..], &[0; 8]].concat();
        let skips_too_far = vec![0x50, 0x2A, 0x4D, 0x18, 9, 0, 0, 0, 1];
        // One segment of five bytes, of which there are four; and of which there are six.
        let sized = |said: u8, bytes: &[u8]| {
            let header = u32::try_from(bytes.len() << 3 | 1).unwrap().to_le_bytes();
            [&[0x28, 0xB5, 0x2F, 0xFD, 0x20, said], &header[..3], bytes].concat()
        };
        let wide = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x71, 0x01, 0, 0];
        let dictionary = vec![0x28, 0xB5, 0x2F, 0xFD, 0x21, 7, 5, 0x29, 0, 0, b'a', b'b', b'c', b'd', b'e'];
        assert_eq!(unpacked(&sized(5, b"abcde")).as_deref(), Ok(&b"abcde"[..]));
        for odd in [other_sum, behind, zeros, skips_too_far, sized(5, b"abcd"), sized(5, b"abcdef"), wide, dictionary, b"{}  {}".to_vec()] {
            assert_eq!(unpacked(&odd), Err(UnpackError::Broken), "{odd:02x?}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_bound_and_asks_for_room_before_it_takes_it() {
        let small = bomb(257);
        assert!(small.len() < 2048);
        assert_eq!(unpacked(&small), Err(UnpackError::TooLarge));
        assert_eq!(unpacked(&bomb(256)).map(|bytes| bytes.len()), Ok(32 * MIB));
        let mut most = 0;
        let few = unpack(&bomb(256), 32 * MIB, &mut |bytes| {
            most = bytes;
            bytes <= MIB
        });
        assert_eq!((few, most), (Err(UnpackError::NoRoom), MIB + MAX_BLOCK));
        assert_eq!(unpacked(&[&pack(b"a")[..]].repeat(MAX_FRAMES + 1).concat()), Err(UnpackError::Broken));
    }

    proptest! {
        #[test]
        fn garbage_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = unpacked(&bytes);
            let _ = unpacked(&[&FRAME.to_le_bytes()[..], &bytes].concat());
        }

        #[test]
        fn a_body_with_other_bytes_is_read_or_refused(
            text in prop::collection::vec("[a-e ]{1,12}", 0..400),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let text = text.concat();
            let mut packed = pack(text.as_bytes());
            prop_assert_eq!(unpacked(&packed), Ok(text.into_bytes()));
            for (place, byte) in changes {
                let place = place.index(packed.len());
                packed[place] = byte;
            }
            let _ = unpacked(&packed);
        }
    }
}

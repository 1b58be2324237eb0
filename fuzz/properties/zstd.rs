//! A packed body unpacks to no more than is allowed, in no more memory than was asked for, and to the same every time.

use llm_guard_engine::wire::zstd::{UnpackError, unpack};

/// Two bounds, one of which most inputs meet.
const MOST: [usize; 2] = [64, 64 * 1024];

pub(crate) fn holds(data: &[u8]) {
    let Some(([bound], packed)) = super::header::<1>(data) else { return };
    let most = super::pick(&MOST, bound);
    let mut asked = 0;
    let mut room = |bytes: usize| {
        asked = asked.max(bytes);
        true
    };
    let unpacked = unpack(packed, most, &mut room);
    if let Ok(bytes) = &unpacked {
        assert!(bytes.len() <= most, "{} bytes where {most} may be", bytes.len());
        assert!(bytes.len() <= asked, "{} bytes in room for {asked}", bytes.len());
    }
    let again = unpack(packed, most, &mut |_| true);
    assert_eq!(again.as_ref().ok(), unpacked.as_ref().ok());
    if unpacked.as_ref().is_ok_and(|bytes| !bytes.is_empty()) {
        assert!(matches!(unpack(packed, most, &mut |_| false), Err(UnpackError::NoRoom)), "it takes memory that it didn't get");
    }
}

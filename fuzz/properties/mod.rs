//! What must hold of the engine whatever the bytes: one file for each fuzz target, each with one function that takes a fuzzer's bytes
//! and panics where its property is broken.
//!
//! The fuzz targets run them on what a fuzzer makes up, and the engine's test `corpus` on what is kept. The invariant: nothing here asks
//! the engine what is right. Where a property needs a reader, it is a second one, written here to be plain rather than fast.

pub(crate) mod frames;
pub(crate) mod json;
pub(crate) mod path;
pub(crate) mod policy;
pub(crate) mod redaction;
pub(crate) mod request;
pub(crate) mod stream;
pub(crate) mod whole;
pub(crate) mod zstd;

mod planted;
mod tokens;
mod tree;

/// Takes the first bytes off, which say how the rest is to be used. None where there are too few.
fn header<const N: usize>(data: &[u8]) -> Option<([u8; N], &[u8])> {
    let (head, rest) = data.split_first_chunk::<N>()?;
    Some((*head, rest))
}

/// The item of a table that a byte stands for.
fn pick<T: Copy>(table: &[T], byte: u8) -> T {
    table[usize::from(byte) % table.len()]
}

/// The bytes in pieces of these sizes, over and over; a size of zero counts as one.
fn pieces<'d>(data: &'d [u8], sizes: &[u8]) -> Vec<&'d [u8]> {
    let (mut rest, mut pieces, mut sizes) = (data, Vec::new(), sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| usize::from(*size).max(1));
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

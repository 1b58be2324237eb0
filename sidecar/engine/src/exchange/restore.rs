//! Puts the values that were masked in a request back into its answer, as that arrives.
//!
//! The invariant: what comes out, joined, is the text with each mark replaced, whatever the pieces. A text is held back only while its end
//! may still become a mark. It comes behind whatever judges the answer: what is put here was the client's own, and nobody reads it again.

use crate::controls::Masks;

/// The end of a text that may become a mark. It holds nothing of a value.
#[derive(Debug, Default)]
pub(super) struct Restorer {
    held: String,
}

impl Restorer {
    /// Takes the next piece, and gives what of the text is sure.
    pub(super) fn push(&mut self, masks: &Masks, piece: String) -> String {
        if masks.is_empty() || piece.is_empty() {
            return piece;
        }
        let text = if self.held.is_empty() { piece } else { std::mem::take(&mut self.held) + &piece };
        let mut out = String::with_capacity(text.len());
        masks.restore(&text, &mut out).clone_into(&mut self.held);
        out
    }

    /// The text ends here, or pauses while another one goes on: gives what was held back.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

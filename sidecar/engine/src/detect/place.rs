//! Where values stand in a text.
//!
//! The invariant: places are in order, and what overlaps is one.

use super::kind::Kind;

/// A place where a value stands, or several that overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The kind of the longest value.
    pub(super) kind: Kind,
    /// How long that is.
    pub(super) longest: usize,
    /// It is a single value, which stands there as it is.
    pub(super) is_plain: bool,
}

impl Place {
    /// What counts as a value whatever it is.
    pub(super) fn unchecked(start: usize, end: usize, kind: Kind) -> Self {
        Self { start, end, kind, longest: end.saturating_sub(start), is_plain: false }
    }

    /// The same values elsewhere.
    pub(super) fn moved(self, start: usize, end: usize) -> Self {
        // (Where something is disguised, or encoded, it is longer.)
        Self { start, end, is_plain: self.is_plain && end - start == self.end - self.start, ..self }
    }
}

/// Places in order. What overlaps is one.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Vec<Place>);

impl Places {
    pub(super) fn add(&mut self, mut place: Place) {
        if place.start >= place.end {
            return;
        }
        let first = self.0.partition_point(|other| other.end <= place.start);
        let last = first + self.0[first..].iter().take_while(|other| other.start < place.end).count();
        for other in &self.0[first..last] {
            place.is_plain &= other.is_plain && (other.start, other.end) == (place.start, place.end);
            place.start = place.start.min(other.start);
            place.end = place.end.max(other.end);
            // (Of equally long ones the kind that the pack has first.)
            if other.longest > place.longest || other.longest == place.longest && other.kind < place.kind {
                (place.longest, place.kind) = (other.longest, other.kind);
            }
        }
        self.0.splice(first..last, [place]);
    }

    pub(super) fn as_slice(&self) -> &[Place] {
        &self.0
    }

    /// Takes the first ones out.
    pub(super) fn drop_first(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }

    pub(super) fn take(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.0)
    }

    /// Takes all of another's.
    pub(super) fn take_from(&mut self, other: &mut Self) {
        other.0.drain(..).for_each(|place| self.add(place));
    }

    pub(super) fn allocated(&self) -> usize {
        self.0.capacity() * size_of::<Place>()
    }
}

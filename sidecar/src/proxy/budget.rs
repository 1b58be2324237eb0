//! How much of requests and unstreamed answers may stand in memory at once, over all connections.
//!
//! The invariant: who can't have its share is turned away, and a share that was given comes back when its owner is dropped.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which shares are counted.
const UNIT: usize = 4 * 1024;

/// What all exchanges may hold together.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

/// What one body may hold.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Semaphore>,
    permits: Vec<OwnedSemaphorePermit>,
    units: usize,
}

/// All that may be held is held by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    pub(super) fn share(&self) -> Share {
        Share { budget: Arc::clone(&self.0), permits: Vec::new(), units: 0 }
    }
}

impl Share {
    /// Makes room for a body of so many bytes in all.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let more = bytes.div_ceil(UNIT).saturating_sub(self.units);
        if more > 0 {
            let permit = u32::try_from(more).ok().and_then(|more| Arc::clone(&self.budget).try_acquire_many_owned(more).ok());
            self.permits.push(permit.ok_or(Exhausted)?);
            self.units += more;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Exhausted, UNIT};

    #[test]
    fn what_one_holds_the_other_cannot_have_until_it_is_dropped() {
        let budget = Budget::new(10 * UNIT);
        let (mut first, mut second) = (budget.share(), budget.share());
        assert_eq!((first.hold(1), first.hold(UNIT), first.hold(8 * UNIT)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(second.hold(3 * UNIT), Err(Exhausted));
        assert_eq!(second.hold(2 * UNIT), Ok(()));
        drop(first);
        assert_eq!(second.hold(10 * UNIT), Ok(()));
    }
}

//! Whose turn it is to judge much at once.
//!
//! The guard serves on two threads, and judging is work that doesn't wait for anything. So large bodies are judged beside those threads, a
//! few at a time, and the others wait until it is their turn, while what is small is served.
//!
//! The invariant: threads that serve are never kept for longer than a body of [`LARGE`] bytes takes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// From so many bytes on a body is large: judging what is made to hurt takes some 40 ms then, and prose one.
pub(super) const LARGE: usize = 32 * 1024;
/// How many are judged at once: as many as there are threads that serve, so that each of them finds another to serve in its place.
const AT_ONCE: usize = 2;

/// The turns of all exchanges.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// One of them, or none where none is needed.
#[derive(Debug)]
pub(super) struct Turn(Option<OwnedSemaphorePermit>);

impl Turns {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Waits for a turn to judge so many bytes.
    pub(super) async fn of(&self, bytes: usize) -> Turn {
        // (Nobody closes it.)
        Turn(if bytes < LARGE { None } else { Arc::clone(&self.0).acquire_owned().await.ok() })
    }
}

impl Turn {
    /// For what needs none.
    pub(super) const NONE: Self = Self(None);

    /// Does the work. Where it is much, another thread serves meanwhile.
    pub(super) fn take<T>(self, work: impl FnOnce() -> T) -> T {
        match self.0 {
            Some(_turn) => tokio::task::block_in_place(work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn few_are_judged_at_once_and_the_threads_serve_meanwhile() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(4).build().unwrap();
        runtime.block_on(async {
            let (turns, busy, most) = (Turns::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (served, is_served) = std::sync::mpsc::channel::<()>();
            let is_served = Arc::new(std::sync::Mutex::new(is_served));
            let large = (0..6).map(|_| {
                let (turns, busy, most, is_served) = (turns.clone(), Arc::clone(&busy), Arc::clone(&most), Arc::clone(&is_served));
                tokio::spawn(async move {
                    turns.of(LARGE).await.take(|| {
                        most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        // It lasts until something small has been served.
                        is_served.lock().unwrap().recv().unwrap();
                        busy.fetch_sub(1, Ordering::SeqCst);
                    });
                })
            });
            let large: Vec<_> = large.collect();
            for _ in 0..6 {
                let (turns, served) = (turns.clone(), served.clone());
                tokio::spawn(async move { turns.of(LARGE - 1).await.take(|| served.send(()).unwrap()) }).await.unwrap();
            }
            for task in large {
                task.await.unwrap();
            }
            assert!(most.load(Ordering::SeqCst) <= AT_ONCE);
        });
    }
}

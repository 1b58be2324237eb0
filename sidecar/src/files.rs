//! How many files the guard may have open at once: every connection is one.
//!
//! The invariant: whatever clients open, there are files left for probes, metrics and settings. Many container runtimes allow a
//! process 1024 unless it asks for more, and a few hundred clients that say nothing would use those up.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What others than clients need: the port for probes with those that wait there, a connection to the model for each of its probes,
/// connections to the model that are kept for the next request, and what the process itself has open.
const KEPT: u64 = 64 + 64 + 64 + 64 + 32;
/// A client's connection, and the one to the model for its request.
const EACH: u64 = 2;

/// Allows this process as many as it may have.
pub(crate) fn allow_all() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is forbidden the limit stays, and so many connections fewer are taken.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// How many connections of clients there is room for.
pub(crate) fn connections() -> u64 {
    of(getrlimit(Resource::Nofile).current)
}

/// The same under a limit. Where it is so low that nothing would be left, clients get a part of it.
fn of(limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(KEPT).max(limit / 4) / EACH).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_may_open_leaves_enough_for_all_else() {
        assert_eq!(of(None), u64::MAX);
        for limit in [512, 1024, 65_536] {
            assert_eq!(of(Some(limit)) * EACH + KEPT, limit, "{limit}");
        }
        for low in [0, 1, 64, 256] {
            assert!((1..=low.max(8) / 8).contains(&of(Some(low))), "{low}");
        }
    }
}

//! How much room the guard has, in files and in memory, and so how many connections it takes and how much of bodies it holds.
//!
//! The invariant: whatever clients open and send, there are files left for probes, metrics and settings, and the guard stays below
//! the memory at which its container is ended. Many container runtimes allow a process 1024 files unless it asks for more, and a few
//! hundred clients that say nothing would use those up.

use std::path::Path;

use rustix::process::{Resource, getrlimit, setrlimit};

/// What others than clients need: the port for probes with those that wait there, a connection to the model for each of its probes,
/// connections to the model that are kept for the next request, and what the process itself has open.
const KEPT_FILES: u64 = 64 + 64 + 64 + 64 + 32;
/// A client's connection, and the one to the model for its request.
const FILES_EACH: u64 = 2;
/// What a connection may hold beside a body that is counted: the head of a request, or what was read of a body's next piece.
const BYTES_EACH: u64 = 64 * 1024;
/// A quarter of the memory is for connections and a quarter for bodies. The rest is for what judging takes: that of the largest
/// request took about 130 MiB, and there are two threads that do it.
const SHARE: u64 = 4;
/// Where a container sees its own limit: as the second version of cgroups has it, and as the first.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Allows this process as many files as it may have.
pub(crate) fn allow_all_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is forbidden the limit stays, and so many connections fewer are taken.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The most connections of clients that there is room for.
pub(crate) fn connections() -> u64 {
    connections_in_files(getrlimit(Resource::Nofile).current).min(connections_in_memory(memory()))
}

/// The most bytes of bodies that there is room for.
pub(crate) fn bodies() -> u64 {
    memory().map_or(u64::MAX, |limit| limit / SHARE)
}

/// Where the limit is so low that nothing would be left, clients get a part of it.
fn connections_in_files(limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(KEPT_FILES).max(limit / 4) / FILES_EACH).max(1)
}

fn connections_in_memory(limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| limit / SHARE / BYTES_EACH).max(1)
}

/// The memory at which this process's container is ended, if there is such a limit.
fn memory() -> Option<u64> {
    LIMITS.iter().find_map(|path| limit_in(Path::new(path)))
}

fn limit_in(file: &Path) -> Option<u64> {
    // What is no number is the word `max`; the first version has a number instead that no machine reaches.
    std::fs::read_to_string(file).ok()?.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_may_open_leaves_enough_files_for_all_else() {
        assert_eq!(connections_in_files(None), u64::MAX);
        for limit in [512, 1024, 65_536] {
            assert_eq!(connections_in_files(Some(limit)) * FILES_EACH + KEPT_FILES, limit, "{limit}");
        }
        for low in [0, 1, 64, 256] {
            assert!((1..=low.max(8) / 8).contains(&connections_in_files(Some(low))), "{low}");
        }
    }

    #[test]
    fn a_crowd_fits_into_the_memory_that_the_injector_gives_by_default() {
        let limit = 512 << 20;
        let connections = connections_in_memory(Some(limit));
        assert_eq!(connections, 2048);
        assert!(connections * BYTES_EACH + limit / SHARE <= limit / 2);
        assert_eq!((connections_in_memory(None), connections_in_memory(Some(0))), (u64::MAX, 1));
    }

    #[test]
    fn a_containers_limit_is_read_as_either_version_of_cgroups_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("limit");
        assert_eq!(limit_in(&file), None);
        for (text, limit) in [("536870912\n", Some(512 << 20)), ("max\n", None), ("9223372036854771712\n", None), ("", None)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(limit_in(&file), limit, "{text}");
        }
    }
}

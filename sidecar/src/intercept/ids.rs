//! Whether the guard's user and group exist in this user namespace.
//!
//! The invariant: no rule is written that names an id which no process here can have. The kernel
//! would refuse it with "invalid argument", whose cause nobody would guess.

use std::fs;
use std::io;

use super::{GuardGid, GuardUid, Interception};

/// An id can't be used here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The namespace has no such id.
    #[error(
        "{kind} {id} doesn't exist in this pod's user namespace (hostUsers: false), which has the ids that {map} lists; choose one among them: Kubernetes gives a pod 0 to 65535"
    )]
    Unmapped { kind: &'static str, id: u32, map: &'static str },
    /// The kernel's listing can't be read.
    #[error("{map} can't be read, so it isn't known which ids exist here: {source}")]
    Unreadable { map: &'static str, source: io::Error },
}

/// Fails unless both exist.
pub(crate) fn exist(interception: &Interception) -> Result<(), Error> {
    let GuardUid(uid) = interception.uid;
    let GuardGid(gid) = interception.gid;
    for (kind, id, map) in [("user", uid, "/proc/self/uid_map"), ("group", gid, "/proc/self/gid_map")] {
        let text = fs::read_to_string(map).map_err(|source| Error::Unreadable { map, source })?;
        if !contains(&text, id) {
            return Err(Error::Unmapped { kind, id, map });
        }
    }
    Ok(())
}

/// Whether one of the lines `FIRST OUTSIDE COUNT` holds the id.
fn contains(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next()) else {
            return false;
        };
        let id = u64::from(id);
        first <= id && id - first < count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_first_and_its_last_id_and_no_other() {
        let map = "         0     100000      65536\n     70000     300000          2\n";
        for id in [0, 65535, 70000, 70001] {
            assert!(contains(map, id), "{id}");
        }
        for id in [65536, 69999, 70002, u32::MAX] {
            assert!(!contains(map, id), "{id}");
        }
    }

    #[test]
    fn without_a_user_namespace_every_id_exists() {
        assert!(contains("         0          0 4294967295", 4_294_967_294));
        assert!(!contains("", 1));
        assert!(!contains("0 0", 0));
    }
}

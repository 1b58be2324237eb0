//! The rules that bring all traffic for the model to the guard, and the check that they hold.
//!
//! The invariant: while the rules stand, a TCP connection to the model's port inside this network
//! namespace ends at the guard's port or nowhere, whoever opens it, unless the opener runs under
//! the guard's user *and* the guard's primary group.
//!
//! | module | holds |
//! | --- | --- |
//! | [`rules`] | what the rules are: a pure function from numbers to text |
//! | [`ids`] | whether the guard's user and group exist here |
//! | [`iptables`] | the one place that starts processes: `iptables-restore` and its kin |
//! | [`ways`] | every way by which a process of this pod can address the model |
//! | [`verify`] | tries each of them |

pub(crate) mod ids;
pub(crate) mod iptables;
pub(crate) mod rules;
pub(crate) mod verify;
mod ways;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The port on which the model serves, and to which everybody connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModelPort(u16);

/// The port on which the guard takes what was meant for the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardPort(u16);

/// The user that the guard runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardUid(u32);

/// The primary group that the guard runs under, drawn anew for each pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardGid(u32);

/// The numbers that an interception is made of; they fit together once they are in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interception {
    model: ModelPort,
    guard: GuardPort,
    uid: GuardUid,
    gid: GuardGid,
}

/// The kernel interface through which the rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Backend {
    /// nftables, which every current node has
    Nft,
    /// The older iptables, for nodes that have nothing else
    Legacy,
}

/// An address family; each has its own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// Numbers that can't make an interception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NumberError {
    #[error("a port is a number from 1 to 65535")]
    Port,
    #[error("the guard's user is a number from 1 to 4294967294; root can't be told from others")]
    Uid,
    #[error("the guard's group is a number from 1 to 4294967294; root's group can't be told from others")]
    Gid,
    #[error(
        "the model's port and the guard's port are both {0}; give --port and --guard-port different numbers, or the guard would be asked to redirect to itself"
    )]
    SamePort(u16),
}

// === impl numbers ===

fn port(text: &str) -> Result<u16, NumberError> {
    match text.parse() {
        Ok(0) | Err(_) => Err(NumberError::Port),
        Ok(number) => Ok(number),
    }
}

/// The last number is what the kernel reads as "none", and 0 is root.
fn id(text: &str, error: NumberError) -> Result<u32, NumberError> {
    match text.parse() {
        Ok(0 | u32::MAX) | Err(_) => Err(error),
        Ok(number) => Ok(number),
    }
}

impl FromStr for ModelPort {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        port(text).map(Self)
    }
}

impl FromStr for GuardPort {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        port(text).map(Self)
    }
}

impl FromStr for GuardUid {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        id(text, NumberError::Uid).map(Self)
    }
}

impl FromStr for GuardGid {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        id(text, NumberError::Gid).map(Self)
    }
}

impl fmt::Display for ModelPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GuardPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GuardUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GuardGid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Interception ===

impl Interception {
    pub(crate) fn new(model: ModelPort, guard: GuardPort, uid: GuardUid, gid: GuardGid) -> Result<Self, NumberError> {
        if model.0 == guard.0 {
            return Err(NumberError::SamePort(model.0));
        }
        Ok(Self { model, guard, uid, gid })
    }
}

// === impl Family ===

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// Whether this kernel has the family at all. One that it lacks is closed: no process can
    /// make a socket of it.
    ///
    /// Refused sockets alone don't show that, since a seccomp profile may refuse them to this
    /// container and allow them to the next; the kernel's own listing must be missing as well.
    pub(crate) fn exists(self) -> bool {
        match self {
            Self::Ipv4 => true,
            Self::Ipv6 => {
                let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None);
                !is_absent(socket.err().as_ref(), Path::new("/proc/net/if_inet6").exists())
            }
        }
    }
}

/// What Linux answers to a request for a socket of a family that it doesn't have.
const EAFNOSUPPORT: i32 = 97;

fn is_absent(refusal: Option<&std::io::Error>, listed: bool) -> bool {
    !listed && refusal.and_then(std::io::Error::raw_os_error) == Some(EAFNOSUPPORT)
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn a_port_lies_between_1_and_65535() {
        assert_eq!("1".parse(), Ok(ModelPort(1)));
        assert_eq!("65535".parse(), Ok(GuardPort(65535)));
        for text in ["0", "65536", "-1", "", "11434x", "http"] {
            assert_eq!(text.parse::<ModelPort>(), Err(NumberError::Port), "{text}");
            assert_eq!(text.parse::<GuardPort>(), Err(NumberError::Port), "{text}");
        }
    }

    #[test]
    fn neither_root_nor_the_number_for_none_is_a_guard() {
        assert_eq!("11434".parse(), Ok(GuardUid(11434)));
        assert_eq!("4294967294".parse(), Ok(GuardGid(4_294_967_294)));
        for text in ["0", "4294967295", "4294967296", "-1", "root"] {
            assert_eq!(text.parse::<GuardUid>(), Err(NumberError::Uid), "{text}");
            assert_eq!(text.parse::<GuardGid>(), Err(NumberError::Gid), "{text}");
        }
    }

    #[test]
    fn the_guard_does_not_listen_where_the_model_does() {
        assert_eq!(Interception::new(ModelPort(80), GuardPort(80), GuardUid(1), GuardGid(1)), Err(NumberError::SamePort(80)));
    }

    #[test]
    fn a_family_is_absent_only_when_the_kernel_lists_none_and_makes_no_socket() {
        let unsupported = Error::from_raw_os_error(EAFNOSUPPORT);
        let forbidden = Error::from_raw_os_error(1);
        assert!(is_absent(Some(&unsupported), false));
        assert!(!is_absent(Some(&unsupported), true), "a seccomp profile can say this");
        assert!(!is_absent(Some(&forbidden), false));
        assert!(!is_absent(None, false));
        assert!(!is_absent(None, true));
    }
}

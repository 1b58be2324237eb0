//! Every way by which a process of this pod can address the model, read from the kernel's own
//! listings.
//!
//! The invariant: each address that the kernel delivers locally is among the ways, whether it
//! stands on an interface or comes from a route of type `local`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::{Family, ModelPort};

const IPV4_ROUTES: &str = "/proc/net/fib_trie";
const IPV6_ROUTES: &str = "/proc/net/ipv6_route";
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";

/// More addresses than this are not tried.
const MOST: usize = 128;

/// Of a route in the kernel's IPv6 listing: delivered locally.
const RTF_LOCAL: u32 = 0x8000_0000;

/// The addresses couldn't be learnt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel's listing can't be read.
    #[error("{listing} can't be read, so this pod's own addresses aren't known: {source}")]
    Unreadable { listing: &'static str, source: io::Error },
    /// There are too many.
    #[error("this pod has more than {MOST} addresses of its own: {0}, too many to try each")]
    TooMany(usize),
}

/// All ways of one family, in a fixed order.
pub(crate) fn of(family: Family, port: ModelPort) -> Result<Vec<SocketAddr>, Error> {
    let ModelPort(port) = port;
    let ways: BTreeSet<SocketAddr> = match family {
        Family::Ipv4 => [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::UNSPECIFIED]
            .into_iter()
            .chain(local_ipv4(&listing(IPV4_ROUTES)?))
            .map(|address| SocketAddr::from((address, port)))
            .collect(),
        Family::Ipv6 => {
            let addresses = listing(IPV6_ADDRESSES)?;
            [
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::UNSPECIFIED,
                // Travels as IPv4, from a socket of IPv6.
                Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
            ]
            .into_iter()
            .map(|address| (address, 0))
            .chain(own_ipv6(&addresses))
            .chain(local_ipv6(&listing(IPV6_ROUTES)?, &addresses))
            .map(|(address, scope)| SocketAddrV6::new(address, port, 0, scope).into())
            .collect()
        }
    };
    if ways.len() > MOST {
        return Err(Error::TooMany(ways.len()));
    }
    Ok(ways.into_iter().collect())
}

/// Whether a connection to it can only leave by the interface that it names, which a redirection
/// to loopback can't serve: it leads nowhere.
pub(crate) fn is_bound_to_an_interface(way: &SocketAddr) -> bool {
    matches!(way.ip(), IpAddr::V6(address) if address.is_unicast_link_local())
}

fn listing(listing: &'static str) -> Result<String, Error> {
    fs::read_to_string(listing).map_err(|source| Error::Unreadable { listing, source })
}

/// The kernel's tree: a line `|-- ADDRESS` is followed by lines `/LENGTH SCOPE TYPE`.
fn local_ipv4(trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if let (Some(address), Some(route)) = (leaf, line.strip_prefix('/')) {
            let mut words = route.split_whitespace();
            let length = words.next().and_then(|length| length.parse::<u32>().ok());
            if let (Some(length), Some("LOCAL")) = (length, words.nth(1)) {
                // Of a whole range, one that stands on no interface.
                let offset = if length < 31 { 2 } else { 0 };
                found.insert(Ipv4Addr::from(u32::from(address).saturating_add(offset)));
            }
        }
    }
    found
}

/// The addresses on interfaces, with the interface's number where an address means nothing
/// without it: `ADDRESS INDEX LENGTH SCOPE FLAGS NAME`, all in hexadecimal.
fn own_ipv6(addresses: &str) -> Vec<(Ipv6Addr, u32)> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = hexadecimal(words.next()?)?;
        let index = u32::from_str_radix(words.next()?, 16).ok()?;
        Some((address, scope(address, index)))
    };
    addresses.lines().filter_map(of_line).collect()
}

/// The destinations of local routes: `DESTINATION LENGTH .. .. .. .. .. .. FLAGS NAME`.
fn local_ipv6(routes: &str, addresses: &str) -> Vec<(Ipv6Addr, u32)> {
    let index_of = |name: &str| {
        addresses.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.last() == Some(&name)).then(|| u32::from_str_radix(words.get(1)?, 16).ok()).flatten()
        })
    };
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, _, _, _, _, flags, name] = words.as_slice() else {
            return None;
        };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let length = u32::from_str_radix(length, 16).ok()?;
        if flags & RTF_LOCAL == 0 {
            return None;
        }
        let destination = u128::from(hexadecimal(destination)?);
        let offset = if length < 127 { 2 } else { 0 };
        let address = Ipv6Addr::from(destination.saturating_add(offset));
        Some((address, scope(address, index_of(name).unwrap_or(0))))
    };
    routes.lines().filter_map(of_line).collect()
}

fn hexadecimal(address: &str) -> Option<Ipv6Addr> {
    if address.len() != 32 {
        return None;
    }
    u128::from_str_radix(address, 16).ok().map(Ipv6Addr::from)
}

fn scope(address: Ipv6Addr, index: u32) -> u32 {
    if address.is_unicast_link_local() { index } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "\
Main:
  +-- 0.0.0.0/1 2 0 2
        |-- 0.0.0.0
           /0 universe UNICAST
           +-- 10.9.0.0/24 2 0 2
                 |-- 10.9.0.0
                    /24 link UNICAST
                 |-- 10.9.0.2
                    /32 host LOCAL
              |-- 10.9.0.255
                 /32 link BROADCAST
           |-- 10.55.0.0
              /16 host LOCAL
           |-- 127.0.0.0
              /31 link UNICAST
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
";

    #[test]
    fn own_addresses_and_local_ranges_are_found_and_nothing_else() {
        let found: Vec<String> = local_ipv4(TRIE).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.9.0.2", "10.55.0.2", "127.0.0.1", "127.0.0.2"]);
    }

    const ADDRESSES: &str = "\
fd090000000000000000000000000002 02 40 00 82     eth0
fe80000000000000f0617efffe8d4cef 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
";

    const ROUTES: &str = "\
fd090000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth0
fd090000000000000000000000000002 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001     eth0
fd550000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 80000001       lo
fe80000000000000f0617efffe8d4cef 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001     eth0
";

    #[test]
    fn a_link_local_address_carries_its_interface_and_no_other_does() {
        let own: Vec<String> = own_ipv6(ADDRESSES).iter().map(|(address, scope)| format!("{address}%{scope}")).collect();
        assert_eq!(own, ["fd09::2%0", "fe80::f061:7eff:fe8d:4cef%2", "::1%0"]);
    }

    #[test]
    fn local_routes_of_ipv6_are_found_and_nothing_else() {
        let local: Vec<String> = local_ipv6(ROUTES, ADDRESSES).iter().map(|(address, scope)| format!("{address}%{scope}")).collect();
        assert_eq!(local, ["fd09::2%0", "fd55::2%0", "fe80::f061:7eff:fe8d:4cef%2"]);
    }

    #[test]
    fn a_listing_in_another_form_yields_nothing_rather_than_nonsense() {
        for odd in ["", "|--", "|-- x\n/32 host LOCAL", "/32 host LOCAL", "|-- 1.2.3.4\n/x host LOCAL"] {
            assert!(local_ipv4(odd).is_empty(), "{odd}");
        }
        for odd in ["", "fd09 02", "zz 1 2", "fd090000000000000000000000000002"] {
            assert!(own_ipv6(odd).is_empty(), "{odd}");
            assert!(local_ipv6(odd, ADDRESSES).is_empty(), "{odd}");
        }
    }
}

//! Proves that the rules hold, by traffic rather than by reading them.
//!
//! The invariant: a way counts as closed only if a connection was seen to arrive at the guard's
//! port, or couldn't be made at all. What stays unclear is a failure.
//!
//! This runs before the guard and the model start. It listens on both their ports for a moment:
//! on the guard's as the place to arrive at, on the model's as a decoy. It then takes every way
//! there is, and looks which of the two got the connection; a number drawn at random tells the
//! connection from a stranger's.
//!
//! Two further ways are tried in each family, for which the fence in the `filter` table stands
//! (see [`super::rules`]): sending to the model's port on a connection that stands already, and
//! opening one that conntrack takes for a part of an older one.
//!
//! What can't be seen from inside the pod, by a process without privileges:
//!
//! - connections from outside. The rule for them is written in one transaction with the rule for
//!   processes of the pod, so that one stands only if the other was written too;
//! - whether the guard itself is let through. If it isn't, it never becomes ready.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Family, GuardGid, GuardPort, GuardUid, Interception, ModelPort, ways};

/// How long one way may take: it all happens inside one kernel.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait on a way that isn't expected to lead anywhere. Within it, as within
/// [`PATIENCE`], the kernel sends one packet, and one that is let through arrives at once.
const SHORT_PATIENCE: Duration = Duration::from_millis(300);

/// The check couldn't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody listens there already.
    #[error(
        "port {port} is taken, so nothing can be proved: this check listens there itself, and must run before the guard and the model start"
    )]
    Taken { port: u16 },
    /// No listening there for another reason.
    #[error("can't listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    /// The check would be exempt from the rules.
    #[error("this check runs as user {uid} and group {gid}, which the rules let through: run it as another user")]
    Exempt { uid: u32, gid: u32 },
    /// This process doesn't know who it is.
    #[error("/proc/self/status doesn't say as whom this check runs: {0}")]
    Identity(io::Error),
    /// The addresses couldn't be learnt.
    #[error(transparent)]
    Ways(#[from] ways::Error),
    /// No random number.
    #[error("the kernel gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// Not enough time.
    #[error("the time was over after {tried} ways; give a longer --timeout")]
    OutOfTime { tried: usize },
}

/// One way to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The whole family.
    Any(Family),
    /// A new connection to this address.
    New(SocketAddr),
    /// A packet to this address on a connection that stands already.
    Standing(SocketAddr),
    /// A new connection to this address that conntrack takes for part of an older one.
    Revived(SocketAddr),
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended at the guard's port.
    Guard(GuardPort),
    /// It ended at the model's port.
    Model(ModelPort),
    /// It was refused.
    Refused,
    /// Nothing came of it in time.
    Nowhere,
    /// It can't be taken by anybody.
    NoSuchWay(io::Error),
    /// The kernel lacks the whole family.
    NoFamily,
    /// It was taken by somebody else, or broke.
    Unclear(io::Error),
}

/// What was tried, and what became of it.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) way: Way,
    pub(crate) outcome: Outcome,
}

/// Tries every way. `within` bounds the whole.
pub(crate) fn verify(interception: &Interception, within: Duration) -> Result<Vec<Finding>, Error> {
    let Interception { model, guard, uid, gid } = *interception;
    not_exempt(uid, gid)?;
    let deadline = Instant::now() + within;
    let (present, absent): (Vec<_>, Vec<_>) = Family::ALL.into_iter().partition(|f| f.exists());
    let arrivals: Vec<_> = present.iter().map(|family| listen(*family, guard.0)).collect::<Result<_, _>>()?;

    let mut findings: Vec<Finding> =
        absent.into_iter().map(|family| Finding { way: Way::Any(family), outcome: Outcome::NoFamily }).collect();

    // First what needs the model's port to be free of listeners, in each family, ...
    let mut revived = Vec::new();
    for family in &present {
        let address = SocketAddr::new(loopback(*family), model.0);
        let (outcome, from) = standing(address, deadline);
        findings.push(Finding { way: Way::Standing(address), outcome });
        revived.extend(from.map(|from| (address, from)));
    }

    // ... then what needs a listener there.
    let decoys: Vec<_> = present
        .iter()
        .filter_map(|family| match listen(*family, model.0) {
            // A port below 1024 may be out of reach for this user. The guard's port still tells.
            Err(Error::Listen { source, .. }) if source.kind() == ErrorKind::PermissionDenied => None,
            other => Some(other),
        })
        .collect::<Result<_, _>>()?;
    let scene = Scene { arrivals, decoys, model, guard, deadline };
    for (address, from) in revived {
        findings.push(Finding { way: Way::Revived(address), outcome: scene.take(address, Some(from))? });
    }
    for family in present {
        for address in ways::of(family, model)? {
            if Instant::now() >= deadline {
                return Err(Error::OutOfTime { tried: findings.len() });
            }
            findings.push(Finding { way: Way::New(address), outcome: scene.take(address, None)? });
        }
    }
    Ok(findings)
}

/// Both places at which a connection may arrive.
struct Scene {
    arrivals: Vec<TcpListener>,
    decoys: Vec<TcpListener>,
    model: ModelPort,
    guard: GuardPort,
    deadline: Instant,
}

// === impl Scene ===

impl Scene {
    /// Opens a connection, from a given address if one is, and sees where it arrives.
    fn take(&self, to: SocketAddr, from: Option<SocketAddr>) -> Result<Outcome, Error> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(Error::Random)?;
        let patience = if ways::is_bound_to_an_interface(&to) { SHORT_PATIENCE.min(self.patience()) } else { self.patience() };
        let arrived = connect(to, from, patience).and_then(|mut stream| {
            stream.write_all(&nonce)?;
            self.arrival(nonce)
        });
        Ok(arrived.unwrap_or_else(|error| match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Outcome::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Nowhere,
            ErrorKind::AddrNotAvailable | ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Outcome::NoSuchWay(error),
            _ => Outcome::Unclear(error),
        }))
    }

    /// Which listener got the connection that says the number.
    fn arrival(&self, nonce: [u8; 16]) -> io::Result<Outcome> {
        let until = Instant::now() + self.patience();
        while Instant::now() < until {
            if any(&self.decoys, nonce)? {
                return Ok(Outcome::Model(self.model));
            }
            if any(&self.arrivals, nonce)? {
                return Ok(Outcome::Guard(self.guard));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other("somebody else took the connection"))
    }

    fn patience(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), PATIENCE)
    }
}

/// Takes one connection from each listener that has one: whether it is the one that says the number.
fn any(listeners: &[TcpListener], nonce: [u8; 16]) -> io::Result<bool> {
    for listener in listeners {
        match listener.accept() {
            Ok((mut stream, _)) => {
                // Ours has spoken before it is looked for; a stranger is not waited for long.
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(Duration::from_millis(200)))?;
                let mut said = [0; 16];
                if stream.read_exact(&mut said).is_ok() && said == nonce {
                    return Ok(true);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::ConnectionAborted => {}
                _ => return Err(error),
            },
        }
    }
    Ok(false)
}

/// Lets a connection from the model's port stand, and sends to that port on it.
///
/// Returns also from where to call back along it: it is reset by then, so conntrack holds it for
/// ended, and takes a call from its other end for a stray answer.
fn standing(address: SocketAddr, deadline: Instant) -> (Outcome, Option<SocketAddr>) {
    let tried = || -> io::Result<(Outcome, SocketAddr)> {
        let other = socket(address)?;
        other.bind(&SocketAddr::new(address.ip(), 0).into())?;
        other.listen(1)?;
        let other: TcpListener = other.into();
        let from = other.local_addr()?;
        let patience = deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), PATIENCE);

        let end = connect(from, Some(address), patience)?;
        let (mut caller, _) = other.accept()?;
        let sent = caller.write_all(b"?");
        end.set_nonblocking(true)?;
        caller.set_nonblocking(true)?;
        let until = Instant::now() + patience;
        let outcome = loop {
            if let Ok(1..) = end.peek(&mut [0]) {
                break Outcome::Model(ModelPort(address.port()));
            }
            match caller.peek(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && sent.is_ok() => {}
                _ => break Outcome::Refused,
            }
            if Instant::now() >= until {
                break Outcome::Nowhere;
            }
            thread::sleep(Duration::from_millis(1));
        };
        // Reset both ends rather than let them linger on the ports.
        for stream in [end, caller] {
            Socket::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok((outcome, from))
    };
    match tried() {
        Ok((outcome, from)) => (outcome, Some(from)),
        Err(error) => match error.kind() {
            ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied => (Outcome::NoSuchWay(error), None),
            _ => (Outcome::Unclear(error), None),
        },
    }
}

fn connect(to: SocketAddr, from: Option<SocketAddr>, within: Duration) -> io::Result<TcpStream> {
    let socket = socket(to)?;
    if let Some(from) = from {
        socket.bind(&from.into())?;
    }
    socket.connect_timeout(&to.into(), within)?;
    let stream: TcpStream = socket.into();
    stream.set_write_timeout(Some(within))?;
    Ok(stream)
}

fn listen(family: Family, port: u16) -> Result<TcpListener, Error> {
    let address = match family {
        Family::Ipv4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        Family::Ipv6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    };
    let listener = || -> io::Result<TcpListener> {
        let socket = socket(address)?;
        if family == Family::Ipv6 {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(64)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listener().map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => Error::Taken { port },
        _ => Error::Listen { address, source },
    })
}

/// Address reuse lets this check run again at once; a port where somebody listens stays taken.
fn socket(for_address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(for_address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::LOCALHOST.into(),
        Family::Ipv6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The rules look at both numbers of the process that opens a connection.
fn not_exempt(uid: GuardUid, gid: GuardGid) -> Result<(), Error> {
    let status = fs::read_to_string("/proc/self/status").map_err(Error::Identity)?;
    let own = identity(&status).ok_or_else(|| Error::Identity(ErrorKind::InvalidData.into()))?;
    if own == (uid.0, gid.0) {
        return Err(Error::Exempt { uid: uid.0, gid: gid.0 });
    }
    Ok(())
}

/// User and group as the packet filter sees them: the last of the four, those for files.
fn identity(status: &str) -> Option<(u32, u32)> {
    let last = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|numbers| numbers.split_whitespace().nth(3))
            .and_then(|number| number.parse().ok())
    };
    Some((last("Uid:")?, last("Gid:")?))
}

/// What an outcome says about the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The way leads to the guard, or to nobody for a good reason.
    Closed,
    /// The way leads to the model.
    Open,
    /// The way leads to neither, although the rules would bring it to the guard.
    Astray,
}

// === impl Finding ===

impl Finding {
    pub(crate) fn verdict(&self) -> Verdict {
        let Self { way, outcome } = self;
        match (outcome, way) {
            (Outcome::Model(_), _) => Verdict::Open,
            (Outcome::Guard(_) | Outcome::NoSuchWay(_) | Outcome::NoFamily, _)
            | (Outcome::Refused | Outcome::Nowhere, Way::Standing(_) | Way::Revived(_)) => Verdict::Closed,
            // A redirection to loopback can't serve what is bound to another interface.
            (Outcome::Refused | Outcome::Nowhere, Way::New(address)) if ways::is_bound_to_an_interface(address) => Verdict::Closed,
            (Outcome::Refused | Outcome::Nowhere | Outcome::Unclear(_), _) => Verdict::Astray,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict() {
            Verdict::Closed => "closed",
            Verdict::Open => "OPEN",
            Verdict::Astray => "ASTRAY",
        };
        let Self { way, outcome } = self;
        write!(f, "{verdict:<6}  {way}: {outcome}")
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(family) => write!(f, "{family}"),
            Self::New(address) => write!(f, "{address}"),
            Self::Standing(address) => write!(f, "{address} on a connection that stands already"),
            Self::Revived(address) => write!(f, "{address} along a connection that has ended"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard(port) => write!(f, "arrives at the guard's port {port}"),
            Self::Model(port) => write!(f, "arrives at the model's port {port}"),
            Self::Refused => f.write_str("refused"),
            Self::Nowhere => f.write_str("leads nowhere"),
            Self::NoSuchWay(error) => write!(f, "can't be taken from here ({error})"),
            Self::NoFamily => f.write_str("this kernel doesn't have it"),
            Self::Unclear(error) => write!(f, "unclear ({error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(way: Way, outcome: Outcome) -> Verdict {
        Finding { way, outcome }.verdict()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_an_arrival_at_the_guard_closes_an_ordinary_way() {
        let way = Way::New(address("127.0.0.1:1"));
        let unclear = Outcome::Unclear(io::Error::other("?"));
        assert_eq!(verdict(way, Outcome::Guard(GuardPort(2))), Verdict::Closed);
        assert_eq!(verdict(way, Outcome::Model(ModelPort(1))), Verdict::Open);
        assert_eq!(verdict(way, Outcome::Refused), Verdict::Astray);
        assert_eq!(verdict(way, Outcome::Nowhere), Verdict::Astray);
        assert_eq!(verdict(way, unclear), Verdict::Astray);
    }

    #[test]
    fn a_link_local_way_may_lead_nowhere_but_not_to_the_model() {
        let way = Way::New(address("[fe80::1%2]:1"));
        assert_eq!(verdict(way, Outcome::Nowhere), Verdict::Closed);
        assert_eq!(verdict(way, Outcome::Model(ModelPort(1))), Verdict::Open);
    }

    #[test]
    fn what_the_fence_is_for_may_end_at_the_fence() {
        for way in [Way::Standing(address("127.0.0.1:1")), Way::Revived(address("[::1]:1"))] {
            let unclear = Outcome::Unclear(io::Error::other("?"));
            assert_eq!(verdict(way, Outcome::Refused), Verdict::Closed);
            assert_eq!(verdict(way, Outcome::Model(ModelPort(1))), Verdict::Open);
            assert_eq!(verdict(way, unclear), Verdict::Astray);
        }
    }

    #[test]
    fn the_packet_filter_looks_at_the_last_of_four_numbers() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(identity(status), Some((4, 8)));
        assert_eq!(identity("Uid:\t1\t2\t3\nGid:\t5\t6\t7\t8\n"), None);
        assert_eq!(identity(""), None);
    }

    #[test]
    fn a_port_where_somebody_listens_is_taken() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        let error = listen(Family::Ipv4, port).expect_err("it is taken");
        assert!(error.to_string().starts_with(&format!("port {port} is taken")), "{error}");
    }
}

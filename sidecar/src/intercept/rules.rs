//! What the rules are: a pure function from numbers, and from what stands already, to the text
//! that `iptables-restore --noflush` takes.
//!
//! The invariant: applying the text gives the same rules whatever stood before, and leaves every
//! rule that isn't ours as it was. Ours are the four chains below, and the one jump to each.
//!
//! Two tables do two jobs.
//!
//! - **`nat` leads.** It redirects connections to the model's port to the guard's. But `nat` looks
//!   only at the packet that opens a connection as conntrack sees it. Whoever first connects *from*
//!   the model's port (before the model listens), resets that connection and calls back along it,
//!   sends a packet that conntrack takes for a stray answer, and `nat` never sees it. That needs no
//!   privilege. Rules that others put ahead of ours can likewise decide first.
//! - **`filter` fences.** It looks at every packet, after `nat`. What still goes to the model's port
//!   then, and doesn't come from the guard, is refused. So order among `nat` rules can cost
//!   service, but never opens a way.
//!
//! Where the jumps stand:
//!
//! - `filter` first, so that no other rule accepts before the fence.
//! - `nat OUTPUT` first: a mesh that accepts what goes over `lo` (an ambient one does) hands
//!   connections that it took from outside to the model by this very way.
//! - `nat PREROUTING` last: what a mesh takes from outside is encrypted for it, so it must come
//!   first there; what it then sends on over `lo` meets our `OUTPUT`.
//!
//! `filter` is written before `nat`, each as one transaction: in between, connections are refused.
//!
//! What this can't hold against: a process with `NET_ADMIN`, which can rewrite the rules; one that
//! can become the guard's user and group; and one with `NET_RAW`, which can put packets of its own
//! making onto a device, where neither `OUTPUT` sees them nor conntrack knows whose they are. None
//! of the pod's other containers may have one of these.

use super::{GuardGid, GuardPort, GuardUid, Interception, ModelPort};

/// A table of the kernel's packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Filter,
    Nat,
}

/// The rules of one table as `iptables-save -t` printed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved(String);

/// What stands in the tables that the rules use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) filter: Saved,
    pub(crate) nat: Saved,
}

/// Where a jump stands in the built-in chain.
#[derive(Clone, Copy)]
enum Place {
    First,
    Last,
}

/// One of our chains.
struct Chain {
    /// The kernel's chain from which it is entered.
    hook: &'static str,
    place: Place,
    name: &'static str,
    rules: Vec<String>,
}

// === impl Table ===

impl Table {
    /// In the order in which they are written.
    pub(crate) const ALL: [Self; 2] = [Self::Filter, Self::Nat];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }

    fn chains(self, interception: &Interception) -> [Chain; 2] {
        let Interception { model: ModelPort(model), guard: GuardPort(guard), uid: GuardUid(uid), gid: GuardGid(gid) } = *interception;
        let exempt = format!("-m owner --uid-owner {uid} --gid-owner {gid} -j RETURN");
        let redirect = format!("-j REDIRECT --to-ports {guard}");
        let to_model = format!("-p tcp -m tcp --dport {model}");
        let refuse = "-j REJECT --reject-with tcp-reset";
        match self {
            Self::Filter => [
                Chain { hook: "INPUT", place: Place::First, name: "LLM_GUARD_INPUT", rules: vec![format!("! -i lo {to_model} {refuse}")] },
                Chain {
                    hook: "OUTPUT",
                    place: Place::First,
                    name: "LLM_GUARD_OUTPUT",
                    rules: vec![
                        exempt,
                        // All but two kinds of packets. What the kernel sends for a socket that its
                        // process has closed carries no owner, so the guard's last packets must
                        // pass; they can neither open a connection nor revive one. And SYN with
                        // ACK answers a connection *from* the model's port, where its next packet
                        // meets this rule.
                        format!("-o lo {to_model} ! --tcp-flags SYN,ACK SYN,ACK -m owner --socket-exists {refuse}"),
                    ],
                },
            ],
            Self::Nat => [
                Chain {
                    hook: "PREROUTING",
                    place: Place::Last,
                    name: "LLM_GUARD_PREROUTING",
                    rules: vec![format!("{to_model} {redirect}")],
                },
                Chain {
                    hook: "OUTPUT",
                    place: Place::First,
                    name: "LLM_GUARD_OUTPUT",
                    rules: vec![exempt, format!("-o lo {to_model} {redirect}")],
                },
            ],
        }
    }
}

// === impl Saved ===

impl Saved {
    /// Takes what `iptables-save` printed, without its dates.
    pub(crate) fn new(printed: &str) -> Self {
        let mut text = String::with_capacity(printed.len());
        for line in printed.lines().filter(|line| !line.starts_with('#')) {
            text.push_str(line);
            text.push('\n');
        }
        Self(text)
    }

    /// How often the built-in chain already jumps to ours.
    fn jumps(&self, chain: &Chain) -> usize {
        let jump = jump(chain);
        let jump = format!("-A {jump}");
        self.0.lines().filter(|line| *line == jump).count()
    }
}

// === impl Standing ===

impl Standing {
    /// Whether every chain of ours is entered once, as it is after the text was applied.
    pub(crate) fn has_each_jump_once(&self, interception: &Interception) -> bool {
        Table::ALL.into_iter().all(|table| {
            let chains = table.chains(interception);
            chains.iter().all(|chain| self.of(table).jumps(chain) == 1)
        })
    }

    fn of(&self, table: Table) -> &Saved {
        match table {
            Table::Filter => &self.filter,
            Table::Nat => &self.nat,
        }
    }
}

/// The text that makes the rules stand, given what stands already.
///
/// Naming a chain of our own empties it (`--noflush` keeps only what isn't named), and each jump
/// that stands is taken out before the one that should is put in.
pub(crate) fn restore_text(interception: &Interception, standing: &Standing) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let chains = table.chains(interception);
        push(&mut text, &["*", table.name()]);
        for chain in &chains {
            push(&mut text, &[":", chain.name, " - [0:0]"]);
        }
        for chain in &chains {
            let jump = jump(chain);
            for _ in 0..standing.of(table).jumps(chain) {
                push(&mut text, &["-D ", &jump]);
            }
            match chain.place {
                Place::First => push(&mut text, &["-I ", &jump]),
                Place::Last => push(&mut text, &["-A ", &jump]),
            }
            for rule in &chain.rules {
                push(&mut text, &["-A ", chain.name, " ", rule]);
            }
        }
        push(&mut text, &["COMMIT"]);
    }
    text
}

fn jump(chain: &Chain) -> String {
    format!("{} -j {}", chain.hook, chain.name)
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Interception {
        Interception::new(ModelPort(11434), GuardPort(15434), GuardUid(11434), GuardGid(70001)).expect("the ports differ")
    }

    fn standing(filter: &str, nat: &str) -> Standing {
        Standing { filter: Saved::new(filter), nat: Saved::new(nat) }
    }

    #[test]
    fn into_empty_tables_goes_the_fence_and_then_the_redirection() {
        assert_eq!(
            restore_text(&numbers(), &standing("", "")),
            "\
*filter
:LLM_GUARD_INPUT - [0:0]
:LLM_GUARD_OUTPUT - [0:0]
-I INPUT -j LLM_GUARD_INPUT
-A LLM_GUARD_INPUT ! -i lo -p tcp -m tcp --dport 11434 -j REJECT --reject-with tcp-reset
-I OUTPUT -j LLM_GUARD_OUTPUT
-A LLM_GUARD_OUTPUT -m owner --uid-owner 11434 --gid-owner 70001 -j RETURN
-A LLM_GUARD_OUTPUT -o lo -p tcp -m tcp --dport 11434 ! --tcp-flags SYN,ACK SYN,ACK -m owner --socket-exists -j REJECT --reject-with tcp-reset
COMMIT
*nat
:LLM_GUARD_PREROUTING - [0:0]
:LLM_GUARD_OUTPUT - [0:0]
-A PREROUTING -j LLM_GUARD_PREROUTING
-A LLM_GUARD_PREROUTING -p tcp -m tcp --dport 11434 -j REDIRECT --to-ports 15434
-I OUTPUT -j LLM_GUARD_OUTPUT
-A LLM_GUARD_OUTPUT -m owner --uid-owner 11434 --gid-owner 70001 -j RETURN
-A LLM_GUARD_OUTPUT -o lo -p tcp -m tcp --dport 11434 -j REDIRECT --to-ports 15434
COMMIT
"
        );
    }

    #[test]
    fn each_number_stands_where_it_belongs() {
        let swapped = Interception::new(ModelPort(1), GuardPort(2), GuardUid(3), GuardGid(4)).expect("the ports differ");
        let text = restore_text(&swapped, &standing("", ""));
        assert!(text.contains("--uid-owner 3 --gid-owner 4 -j RETURN"), "{text}");
        assert!(text.contains("--dport 1 -j REDIRECT --to-ports 2"), "{text}");
    }

    #[test]
    fn a_jump_that_stands_is_taken_out_before_it_is_put_in() {
        let before = standing(
            "# a date\n*filter\n-A OUTPUT -j LLM_GUARD_OUTPUT\n-A OUTPUT -j LLM_GUARD_OUTPUT\n",
            "*nat\n-A PREROUTING -j LLM_GUARD_PREROUTING\n",
        );
        let text = restore_text(&numbers(), &before);
        let twice = "-D OUTPUT -j LLM_GUARD_OUTPUT\n-D OUTPUT -j LLM_GUARD_OUTPUT\n-I OUTPUT -j LLM_GUARD_OUTPUT\n";
        assert!(text.contains(twice), "{text}");
        assert!(text.contains("-D PREROUTING -j LLM_GUARD_PREROUTING\n-A PREROUTING -j LLM_GUARD_PREROUTING\n"), "{text}");
        assert_eq!(text.matches("-D ").count(), 3, "{text}");
    }

    #[test]
    fn a_jump_too_few_or_too_many_is_noticed() {
        let filter = "-A INPUT -j LLM_GUARD_INPUT\n-A OUTPUT -j LLM_GUARD_OUTPUT\n";
        let nat = "-A PREROUTING -j LLM_GUARD_PREROUTING\n-A OUTPUT -j LLM_GUARD_OUTPUT\n";
        let more = format!("{nat}-A OUTPUT -j LLM_GUARD_OUTPUT\n");
        assert!(standing(filter, nat).has_each_jump_once(&numbers()));
        assert!(!standing(filter, &more).has_each_jump_once(&numbers()));
        assert!(!standing("", nat).has_each_jump_once(&numbers()));
    }

    #[test]
    fn rules_of_others_are_never_named() {
        let mesh = "*nat\n:MESH_OUTPUT - [0:0]\n-A OUTPUT -p tcp -j MESH_OUTPUT\n-A MESH_OUTPUT -j LLM_GUARD_OUTPUT\n-A OUTPUT -j LLM_GUARD_OUTPUT_OF_ANOTHER\n";
        let text = restore_text(&numbers(), &standing(mesh, mesh));
        assert_eq!(text, restore_text(&numbers(), &standing("", "")));
    }
}

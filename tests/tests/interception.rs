//! The interception rules, in network namespaces that stand for a pod and for the world outside it.
//!
//! The invariant: each test first sees, where it can, that what it forbids is possible without the
//! rules; so a closed way is closed by them, and not by a test that looks in the wrong place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use llm_guard_tests::cache;
use llm_guard_tests::netns::{self, Ended, Namespace, Running, User};
use tempfile::TempDir;

const MODEL_PORT: &str = "11434";
const GUARD_PORT: &str = "15434";
const GUARD_GID: u32 = 70_001;
const NUMBERS: [&str; 8] = ["--port", MODEL_PORT, "--guard-port", GUARD_PORT, "--uid", "11434", "--gid", "70001"];
const OTHER_NUMBERS: [&str; 8] = ["--port", "8000", "--guard-port", "9000", "--uid", "500", "--gid", "600"];

const GUARD: User = User { uid: 11434, gid: GUARD_GID, also: None };
const INMATE: User = User { uid: 1000, gid: 1000, also: None };
/// The official image of the model server runs as root; capabilities it has none here.
const MODEL: User = User { uid: 0, gid: 0, also: None };

/// Every way to the model from inside the pod that leads there as long as nothing stands between.
const WAYS: [&str; 19] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.1 from=127.0.0.6",
    "127.0.0.1 from=10.90.0.2",
    "127.0.0.1 dev=lo",
    "127.0.0.1 kind=mptcp",
    "0.0.0.0",
    "10.90.0.2",
    "10.90.0.2 from=127.0.0.1",
    "10.55.7.7",
    "::1",
    "::1 from=fd90::2",
    "::1 dev=lo",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.90.0.2",
    "fd90::2",
    "fd90::2 from=::1",
    "fd55::7",
];
/// Its link-local address, which a redirection to loopback can't serve.
const LINK_LOCAL: &str = "fe80::2%eth0";
/// Ways that leave by the device and so don't come back, rules or not.
const WAYS_OUT: [&str; 4] = ["127.0.0.1 dev=eth0", "10.90.0.2 dev=eth0", "::1 dev=eth0", "fd90::2 dev=eth0"];
/// Every way to the model from outside.
const WAYS_IN: [&str; 6] = ["10.90.0.2", "10.55.7.7", "fd90::2", "fd55::7", LINK_LOCAL, "10.90.0.2 kind=mptcp"];

#[derive(Clone, Copy, Debug)]
enum Backend {
    Nft,
    Legacy,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

/// Two namespaces joined by a device, and the programs that run in them.
struct Pod {
    // The order counts: processes end before their namespace goes.
    model: Option<Running>,
    guard: Option<Running>,
    inside: Namespace,
    outside: Namespace,
    files: TempDir,
    backend: Backend,
}

// === impl Backend ===

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// The name of a program of iptables, such as `iptables-nft-save`.
    fn program(self, family: Family, suffix: &str) -> String {
        let family = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{family}-{}{suffix}", self.name())
    }
}

// === impl Pod ===

impl Pod {
    fn new(backend: Backend) -> io::Result<Self> {
        let files = tempfile::tempdir()?;
        // Users without privileges must be able to run what lies here.
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755))?;
        let sidecar = files.path().join("llm-guard-sidecar");
        fs::copy(cache::sidecar()?, &sidecar)?;
        fs::set_permissions(&sidecar, fs::Permissions::from_mode(0o755))?;
        let inmate = files.path().join("inmate.py");
        fs::write(&inmate, include_str!("interception/inmate.py"))?;
        fs::set_permissions(&inmate, fs::Permissions::from_mode(0o644))?;

        let (inside, outside) = (Namespace::new()?, Namespace::new()?);
        inside.join(&outside)?;
        for (namespace, host, other) in [(&inside, 2, 1), (&outside, 1, 2)] {
            namespace.ip(&format!("addr add 10.90.0.{host}/24 dev eth0"))?;
            namespace.ip(&format!("-6 addr add fd90::{host}/64 dev eth0 nodad"))?;
            namespace.ip(&format!("-6 addr add fe80::{host}/64 dev eth0 nodad"))?;
            namespace.ip(&format!("route add default via 10.90.0.{other}"))?;
            namespace.ip(&format!("-6 route add default via fd90::{other}"))?;
        }
        // Whole ranges that are delivered locally, though they stand on no device.
        inside.ip("route add local 10.55.0.0/16 dev lo")?;
        inside.ip("-6 route add local fd55::/64 dev lo")?;
        Ok(Self { model: None, guard: None, inside, outside, files, backend })
    }

    /// One in which the model serves, and the guard as well.
    fn serving(backend: Backend) -> io::Result<Self> {
        let mut pod = Self::new(backend)?;
        pod.start_guard()?;
        pod.start_model()?;
        Ok(pod)
    }

    fn sidecar(&self) -> String {
        self.files.path().join("llm-guard-sidecar").display().to_string()
    }

    fn inmate(&self, namespace: &Namespace, user: User, arguments: &[&str]) -> Command {
        let mut command = namespace.command_as(user, "/usr/bin/python3");
        command.arg(self.files.path().join("inmate.py")).args(arguments);
        command
    }

    fn start_model(&mut self) -> io::Result<()> {
        self.model = Some(self.start_model_in(&self.inside)?);
        Ok(())
    }

    fn start_model_in(&self, namespace: &Namespace) -> io::Result<Running> {
        let mut command = namespace.command_as(MODEL, &cache::part("ollama/ollama")?.display().to_string());
        let home = self.files.path().join("model");
        command
            .arg("serve")
            .env("HOME", &home)
            .env("OLLAMA_MODELS", home.join("models"))
            .env("OLLAMA_HOST", format!("[::]:{MODEL_PORT}"))
            .env("OLLAMA_NO_CLOUD", "1");
        Running::start(command, "Listening on")
    }

    fn start_guard(&mut self) -> io::Result<()> {
        self.guard = None;
        let mut command = self.inside.command_as(GUARD, &self.sidecar());
        command.args(["run", "--mode", "hard"]);
        self.guard = Some(Running::start(command, "\"listening\"")?);
        Ok(())
    }

    fn init(&self) -> io::Result<()> {
        let ended = self.init_with(&NUMBERS)?;
        succeeded("init", &ended)
    }

    fn init_with(&self, numbers: &[&str]) -> io::Result<Ended> {
        netns::end(self.init_command(numbers))
    }

    fn init_command(&self, numbers: &[&str]) -> Command {
        let mut command = self.inside.command(&self.sidecar());
        command.arg("init").args(numbers).args(["--backend", self.backend.name()]);
        command
    }

    fn verify(&self) -> io::Result<Ended> {
        self.verify_as(INMATE)
    }

    fn verify_as(&self, user: User) -> io::Result<Ended> {
        let mut command = self.inside.command_as(user, &self.sidecar());
        command.arg("verify").args(NUMBERS);
        netns::end(command)
    }

    /// Who answers on each way from inside.
    fn ask(&self, user: User, port: &str, ways: &[&str]) -> io::Result<BTreeMap<String, String>> {
        self.ask_from(&self.inside, user, port, ways)
    }

    fn ask_from(&self, namespace: &Namespace, user: User, port: &str, ways: &[&str]) -> io::Result<BTreeMap<String, String>> {
        let mut arguments = vec!["ask", port];
        arguments.extend(ways);
        let printed = netns::end_well(self.inmate(namespace, user, &arguments))?;
        Ok(printed.lines().filter_map(|line| line.split_once('\t')).map(|(way, answer)| (way.to_owned(), answer.to_owned())).collect())
    }

    /// All rules of both families, without dates and counters.
    fn rules(&self) -> io::Result<Vec<String>> {
        let mut rules = Vec::new();
        for family in [Family::V4, Family::V6] {
            for table in ["raw", "mangle", "nat", "filter"] {
                let save = self.backend.program(family, "-save");
                let mut command = self.inside.command(&save);
                command.args(["-t", table]);
                let printed = netns::end_well(command)?;
                rules.extend(
                    printed
                        .lines()
                        .filter(|line| !line.starts_with('#'))
                        .map(|line| line.split(" [").next().unwrap_or(line))
                        .map(|line| format!("{family:?} {table} {line}")),
                );
            }
        }
        Ok(rules)
    }

    /// Runs iptables itself, as a mesh or an operator would.
    fn iptables(&self, family: Family, rule: &str) -> io::Result<()> {
        let mut command = self.inside.command(&self.backend.program(family, ""));
        command.args(rule.split_whitespace());
        netns::end_well(command).map(drop)
    }

    fn iptables_both(&self, rule: &str) -> io::Result<()> {
        self.iptables(Family::V4, rule)?;
        self.iptables(Family::V6, rule)
    }
}

fn succeeded(what: &str, ended: &Ended) -> io::Result<()> {
    if ended.status.success() { Ok(()) } else { Err(io::Error::other(format!("{what}: {ended:?}"))) }
}

/// What one is told on every way, if it is the same on all.
fn all(ways: &[&str], answer: &str) -> BTreeMap<String, String> {
    ways.iter().map(|way| ((*way).to_owned(), answer.to_owned())).collect()
}

fn every_way_from_inside_leads_to_the_guard(backend: Backend) -> io::Result<()> {
    let pod = Pod::serving(backend)?;
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &WAYS)?, all(&WAYS, "model"));
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &[LINK_LOCAL])?, all(&[LINK_LOCAL], "model"));
    pod.init()?;
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &WAYS)?, all(&WAYS, "guard"));
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &[LINK_LOCAL])?, all(&[LINK_LOCAL], "nowhere"));
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &WAYS_OUT)?, all(&WAYS_OUT, "nowhere"));
    Ok(())
}

fn root_of_the_models_container_is_led_to_the_guard_as_well(backend: Backend) -> io::Result<()> {
    let pod = Pod::serving(backend)?;
    pod.init()?;
    assert_eq!(pod.ask(MODEL, MODEL_PORT, &WAYS)?, all(&WAYS, "guard"));
    Ok(())
}

fn every_way_from_outside_leads_to_the_guard(backend: Backend) -> io::Result<()> {
    let pod = Pod::serving(backend)?;
    let ask = || pod.ask_from(&pod.outside, INMATE, MODEL_PORT, &WAYS_IN);
    assert_eq!(ask()?, all(&WAYS_IN, "model"));
    pod.init()?;
    assert_eq!(ask()?, all(&WAYS_IN, "guard"));
    Ok(())
}

fn connections_to_other_pods_are_left_alone(backend: Backend) -> io::Result<()> {
    let mut pod = Pod::new(backend)?;
    pod.start_guard()?;
    pod.init()?;
    let elsewhere = pod.start_model_in(&pod.outside)?;
    let ways = ["10.90.0.1", "fd90::1"];
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &ways)?, all(&ways, "model"));
    drop(elsewhere);
    Ok(())
}

fn only_user_and_primary_group_together_are_let_through(backend: Backend) -> io::Result<()> {
    let pod = Pod::serving(backend)?;
    pod.init()?;
    let ways = ["127.0.0.1", "::1", "10.90.0.2", "fd90::2"];
    assert_eq!(pod.ask(GUARD, MODEL_PORT, &ways)?, all(&ways, "model"));
    let (uid, gid) = (GUARD.uid, GUARD.gid);
    for (uid, gid, also) in
        [(uid, 1000, None), (uid, 1000, Some(gid)), (uid, uid, None), (1000, gid, None), (0, gid, None), (1000, 1000, Some(gid))]
    {
        let user = User { uid, gid, also };
        assert_eq!(pod.ask(user, MODEL_PORT, &ways)?, all(&ways, "guard"), "{user:?}");
    }
    Ok(())
}

fn a_user_namespace_lends_nobody_the_guards_numbers(backend: Backend) -> io::Result<()> {
    let pod = Pod::serving(backend)?;
    pod.init()?;
    let inmate = pod.files.path().join("inmate.py");
    let mut command = pod.inside.command("unshare");
    command.args(["--user", "--map-user=11434", "--map-group=70001", "--"]);
    command.args(["sh", "-c", "id -u; id -g; exec \"$@\"", "sh", "/usr/bin/python3"]);
    command.arg(inmate).args(["ask", MODEL_PORT, "127.0.0.1", "::1"]);
    let printed = netns::end_well(command)?;
    assert_eq!(printed, "11434\n70001\n127.0.0.1\tguard\n::1\tguard\n");
    Ok(())
}

fn a_request_passes_the_guard_once_whichever_port_it_came_to(backend: Backend) -> io::Result<()> {
    let mut pod = Pod::serving(backend)?;
    pod.init()?;
    // Counts what arrives, redirected or not.
    for port in [GUARD_PORT, MODEL_PORT] {
        pod.iptables_both(&format!("-t filter -N COUNT_{port}"))?;
        pod.iptables_both(&format!("-t filter -A INPUT -p tcp --dport {port} --syn -j COUNT_{port}"))?;
        pod.iptables_both(&format!("-t filter -A COUNT_{port} -j RETURN"))?;
    }
    for (port, way) in [
        (MODEL_PORT, "127.0.0.1"),
        (GUARD_PORT, "127.0.0.1"),
        (MODEL_PORT, "::1"),
        (GUARD_PORT, "::1"),
        (GUARD_PORT, "10.90.0.2"),
        (GUARD_PORT, "fd90::2"),
    ] {
        // One that has no connection to the model yet.
        pod.start_guard()?;
        for chain in [GUARD_PORT, MODEL_PORT] {
            pod.iptables_both(&format!("-t filter -Z COUNT_{chain}"))?;
        }
        assert_eq!(pod.ask(INMATE, port, &[way])?, all(&[way], "guard"));
        for chain in [GUARD_PORT, MODEL_PORT] {
            assert_eq!(counted(&pod, chain)?, 1, "{way} at {port}: arrivals at {chain}");
        }
    }
    Ok(())
}

/// How many connections were opened to the port, in both families.
fn counted(pod: &Pod, port: &str) -> io::Result<u64> {
    let mut sum = 0;
    for family in [Family::V4, Family::V6] {
        let mut command = pod.inside.command(&pod.backend.program(family, "-save"));
        command.args(["-c", "-t", "filter"]);
        let printed = netns::end_well(command)?;
        let rule = format!("] -A COUNT_{port} -j RETURN");
        let packets = printed
            .lines()
            .find_map(|line| line.strip_suffix(&rule)?.strip_prefix('[')?.split(':').next())
            .and_then(|packets| packets.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other(format!("no counter in\n{printed}")))?;
        sum += packets;
    }
    Ok(sum)
}

fn while_the_guard_is_down_connections_are_refused(backend: Backend) -> io::Result<()> {
    let mut pod = Pod::serving(backend)?;
    pod.init()?;
    drop(pod.guard.take());
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &WAYS)?, all(&WAYS, "refused"));
    let outside = pod.ask_from(&pod.outside, INMATE, MODEL_PORT, &WAYS_IN)?;
    assert_eq!(outside, all(&WAYS_IN, "refused"));
    pod.start_guard()?;
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &WAYS)?, all(&WAYS, "guard"));
    Ok(())
}

/// Connects from the model's port, and calls back along that once the model serves.
fn revived(pod: &mut Pod, address: &str) -> io::Result<String> {
    pod.model = None;
    let command = pod.inmate(&pod.inside, INMATE, &["revive", MODEL_PORT, address]);
    let mut inmate = Running::start(command, "prepared")?;
    pod.start_model()?;
    inmate.go_on();
    let line = inmate.line("got\t")?;
    Ok(line.replace("got\t", ""))
}

fn a_call_along_an_older_connection_does_not_reach_the_model(backend: Backend) -> io::Result<()> {
    let mut pod = Pod::new(backend)?;
    pod.start_guard()?;
    pod.init()?;
    for address in ["127.0.0.1", "::1", "10.90.0.2", "fd90::2"] {
        assert_eq!(revived(&mut pod, address)?, "refused", "{address}");
    }
    // The redirection alone doesn't see such a call.
    pod.iptables_both("-t filter -D OUTPUT -j LLM_GUARD_OUTPUT")?;
    for address in ["127.0.0.1", "::1", "10.90.0.2", "fd90::2"] {
        assert_eq!(revived(&mut pod, address)?, "model", "{address}");
    }
    Ok(())
}

fn a_connection_older_than_the_rules_ends(backend: Backend) -> io::Result<()> {
    let pod = Pod::serving(backend)?;
    // Somebody's rules had conntrack look already: it then knows the connection, and no redirection
    // is asked any more. (One that it doesn't know, it takes for new.)
    mesh(&pod)?;
    pod.iptables_both("-t filter -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT")?;
    let mut standing = Vec::new();
    for (namespace, address) in [
        (&pod.inside, "127.0.0.1"),
        (&pod.inside, "::1"),
        (&pod.inside, "10.90.0.2"),
        (&pod.inside, LINK_LOCAL),
        (&pod.outside, "10.90.0.2"),
        (&pod.outside, "fd90::2"),
    ] {
        let command = pod.inmate(namespace, INMATE, &["stand", MODEL_PORT, address]);
        standing.push((address, Running::start(command, "first\tmodel")?));
    }
    pod.init()?;
    for (address, mut inmate) in standing {
        inmate.go_on();
        assert_eq!(inmate.line("then")?, "then\trefused", "{address}");
    }
    Ok(())
}

fn a_second_init_changes_nothing(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    let before = pod.rules()?;
    pod.init()?;
    let first = pod.rules()?;
    assert_ne!(before, first);
    pod.init()?;
    assert_eq!(pod.rules()?, first);
    Ok(())
}

fn inits_at_the_same_time_leave_the_rules_of_one(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    let inits: Vec<_> = (0..4).map(|_| pod.init_command(&NUMBERS)).map(|command| thread::spawn(|| netns::end(command))).collect();
    for init in inits {
        let ended = init.join().map_err(|_| io::Error::other("a thread stopped"))??;
        succeeded("init", &ended)?;
    }
    let alone = Pod::new(backend)?;
    alone.init()?;
    assert_eq!(pod.rules()?, alone.rules()?);
    Ok(())
}

fn other_numbers_replace_ours_and_only_ours(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    mesh(&pod)?;
    pod.init()?;
    succeeded("init", &pod.init_with(&OTHER_NUMBERS)?)?;
    let fresh = Pod::new(backend)?;
    mesh(&fresh)?;
    succeeded("init", &fresh.init_with(&OTHER_NUMBERS)?)?;
    let rules = pod.rules()?;
    assert_eq!(rules, fresh.rules()?);
    assert!(!rules.iter().any(|rule| rule.contains(MODEL_PORT)), "{rules:#?}");
    Ok(())
}

/// Rules as meshes write them: own chains, verdicts that would come before ours, and an exemption
/// for what goes over loopback.
fn mesh(pod: &Pod) -> io::Result<()> {
    for rule in [
        "-t nat -N MESH_INBOUND",
        "-t nat -N MESH_OUTPUT",
        "-t nat -A PREROUTING -p tcp -j MESH_INBOUND",
        "-t nat -A MESH_INBOUND -p tcp --dport 15008 -j RETURN",
        "-t nat -A OUTPUT -p tcp -j MESH_OUTPUT",
        "-t nat -A MESH_OUTPUT -o lo -j ACCEPT",
        "-t nat -A MESH_OUTPUT -m owner --uid-owner 1337 -j RETURN",
        "-t filter -A INPUT -p tcp -j ACCEPT",
        "-t filter -A OUTPUT -o lo -j ACCEPT",
        "-t mangle -A PREROUTING -p tcp --dport 15008 -j MARK --set-mark 1",
    ] {
        pod.iptables_both(rule)?;
    }
    Ok(())
}

fn rules_of_others_stay_and_ours_hold(backend: Backend) -> io::Result<()> {
    let pod = Pod::serving(backend)?;
    mesh(&pod)?;
    let before = pod.rules()?;
    pod.init()?;
    let others: Vec<String> = pod.rules()?.into_iter().filter(|rule| !rule.contains("LLM_GUARD")).collect();
    assert_eq!(others, before);
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &WAYS)?, all(&WAYS, "guard"));
    let outside = pod.ask_from(&pod.outside, INMATE, MODEL_PORT, &WAYS_IN)?;
    assert_eq!(outside, all(&WAYS_IN, "guard"));
    Ok(())
}

fn a_rule_of_others_that_leads_around_the_guard_ends_at_the_fence(backend: Backend) -> io::Result<()> {
    let inside = ["127.0.0.1", "::1", "10.90.0.2", "fd90::2"];
    let outside = ["10.90.0.2", "fd90::2"];
    for (port, rules) in [
        // Decides before ours does.
        (MODEL_PORT, ["-t nat -I PREROUTING -p tcp --dport 11434 -j ACCEPT", "-t nat -I OUTPUT -p tcp --dport 11434 -j ACCEPT"]),
        // Leads another port to the model.
        (
            "8080",
            [
                "-t nat -I PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 11434",
                "-t nat -I OUTPUT -o lo -p tcp --dport 8080 -j REDIRECT --to-ports 11434",
            ],
        ),
        // Keeps conntrack, and so every redirection, from seeing the connection.
        (
            MODEL_PORT,
            ["-t raw -I PREROUTING -p tcp --dport 11434 -j CT --notrack", "-t raw -I OUTPUT -p tcp --dport 11434 -j CT --notrack"],
        ),
    ] {
        let pod = Pod::serving(backend)?;
        // Accepts, in the fence's own table, before the fence is built.
        mesh(&pod)?;
        for rule in rules {
            pod.iptables_both(rule)?;
        }
        let ask = || Ok::<_, io::Error>((pod.ask(INMATE, port, &inside)?, pod.ask_from(&pod.outside, INMATE, port, &outside)?));
        assert_eq!(ask()?, (all(&inside, "model"), all(&outside, "model")), "{rules:?}");
        pod.init()?;
        for rule in rules {
            pod.iptables_both(rule)?;
        }
        let refused = (all(&inside, "refused"), all(&outside, "refused"));
        assert_eq!(ask()?, refused, "{rules:?}");
    }
    Ok(())
}

fn without_ipv6_addresses_the_rules_hold_and_go_on_to_when_it_gets_some(backend: Backend) -> io::Result<()> {
    let mut pod = Pod::new(backend)?;
    pod.inside.sysctl("net.ipv6.conf.all.disable_ipv6=1")?;
    pod.init()?;
    let verified = pod.verify()?;
    succeeded("verify", &verified)?;
    assert!(verified.printed.contains("closed  127.0.0.1:11434"), "{}", verified.printed);
    assert!(verified.printed.contains("closed  [::1]:11434: can't be taken"), "{}", verified.printed);
    pod.start_guard()?;
    pod.start_model()?;
    let ways = ["127.0.0.1", "10.90.0.2", "::1"];
    let answers = pod.ask(INMATE, MODEL_PORT, &ways)?;
    let mut expected = all(&ways, "guard");
    expected.insert("::1".to_owned(), "nowhere".to_owned());
    assert_eq!(answers, expected);

    pod.inside.sysctl("net.ipv6.conf.all.disable_ipv6=0")?;
    assert_eq!(pod.ask(INMATE, MODEL_PORT, &["::1"])?, all(&["::1"], "guard"));
    Ok(())
}

fn verify_names_every_way(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    pod.init()?;
    let verified = pod.verify()?;
    succeeded("verify", &verified)?;
    let lines: Vec<&str> = verified.printed.lines().collect();
    for address in
        ["127.0.0.1", "127.0.0.2", "0.0.0.0", "10.90.0.2", "10.55.0.2", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[fd90::2]", "[fd55::2]"]
    {
        let line = format!("closed  {address}:11434: arrives at the guard's port 15434");
        assert!(lines.contains(&&*line), "{line}\n{}", verified.printed);
    }
    assert!(verified.printed.contains("closed  [fe80::2%"), "{}", verified.printed);
    Ok(())
}

fn verify_fails_without_rules(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    let verified = pod.verify()?;
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(!verified.printed.contains("closed"), "{}", verified.printed);
    assert!(verified.said.contains("arrives at the model's port 11434"), "{}", verified.said);
    Ok(())
}

fn verify_fails_when_the_rules_have_other_numbers(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    succeeded("init", &pod.init_with(&["--guard-port", "15999", "--gid", "70001"])?)?;
    let verified = pod.verify()?;
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(verified.said.contains("refused"), "{}", verified.said);
    Ok(())
}

fn verify_notices_each_rule_that_is_missing_but_those_it_cannot_see(backend: Backend) -> io::Result<()> {
    /// Rules for connections from outside, and the guard's own exemption: no process without
    /// privileges can try them from inside.
    fn is_visible(rule: &str) -> bool {
        !["PREROUTING", "INPUT", "-j RETURN"].iter().any(|part| rule.contains(part))
    }

    let pod = Pod::new(backend)?;
    pod.init()?;
    succeeded("verify", &pod.verify()?)?;
    let ours: Vec<String> = pod.rules()?.into_iter().filter(|rule| rule.contains(" -A ") && rule.contains("LLM_GUARD")).collect();
    assert_eq!(ours.len(), 2 * 10, "{ours:#?}");
    let mut seen = 0;
    for rule in &ours {
        let mut words = rule.splitn(3, ' ');
        let family = match words.next() {
            Some("V4") => Family::V4,
            _ => Family::V6,
        };
        let (table, rule) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        pod.iptables(family, &format!("-t {table} {}", rule.replacen("-A", "-D", 1)))?;
        let verified = pod.verify()?;
        assert_eq!(!verified.status.success(), is_visible(rule), "{table} {rule}: {verified:?}");
        seen += u32::from(is_visible(rule));
        pod.init()?;
    }
    assert_eq!(seen, 2 * 4);
    Ok(())
}

fn verify_does_not_guess_when_a_port_is_taken(backend: Backend) -> io::Result<()> {
    for model_first in [true, false] {
        let mut pod = Pod::new(backend)?;
        pod.init()?;
        let port = if model_first {
            pod.start_model()?;
            MODEL_PORT
        } else {
            pod.start_guard()?;
            GUARD_PORT
        };
        let verified = pod.verify()?;
        assert_eq!(verified.status.code(), Some(1), "{verified:?}");
        assert!(verified.said.contains(&format!("port {port} is taken")), "{verified:?}");
        assert_eq!(verified.printed, "");
    }
    Ok(())
}

fn verify_refuses_to_run_as_the_guard(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    pod.init()?;
    let verified = pod.verify_as(GUARD)?;
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(verified.said.contains("run it as another user"), "{}", verified.said);
    Ok(())
}

fn verify_holds_for_a_port_on_which_it_may_not_listen(backend: Backend) -> io::Result<()> {
    let numbers = ["--port", "80", "--gid", "70001"];
    let pod = Pod::new(backend)?;
    let verify = || {
        let mut command = pod.inside.command_as(INMATE, &pod.sidecar());
        command.arg("verify").args(numbers);
        netns::end(command)
    };
    assert_eq!(verify()?.status.code(), Some(1));
    succeeded("init", &pod.init_with(&numbers)?)?;
    succeeded("verify", &verify()?)
}

fn verify_holds_beside_a_mesh(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    mesh(&pod)?;
    pod.init()?;
    succeeded("verify", &pod.verify()?)
}

fn init_without_the_capability_says_which(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    let before = pod.rules()?;
    let mut command = pod.inside.command("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-all", &pod.sidecar(), "init"]);
    command.args(NUMBERS).args(["--backend", backend.name()]);
    let ended = netns::end(command)?;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.said.contains("NET_ADMIN"), "{}", ended.said);
    assert_eq!(pod.rules()?, before);
    Ok(())
}

fn init_without_iptables_names_the_program_and_its_package(backend: Backend) -> io::Result<()> {
    let pod = Pod::new(backend)?;
    let mut command = pod.inside.command("env");
    command.args(["PATH=/nonexistent", &pod.sidecar(), "init"]);
    command.args(NUMBERS).args(["--backend", backend.name()]);
    let ended = netns::end(command)?;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let program = backend.program(Family::V4, "-save");
    assert!(ended.said.contains(&program), "{}", ended.said);
    assert!(ended.said.contains("package iptables"), "{}", ended.said);
    Ok(())
}

#[test]
fn legacy_without_a_writable_run_names_the_charts_setting() -> io::Result<()> {
    let pod = Pod::new(Backend::Legacy)?;
    let mut command = pod.inside.command("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount -t tmpfs -o ro none /run && exec \"$@\"");
    command.args(["sh", &pod.sidecar(), "init", "--backend", "legacy"]).args(NUMBERS);
    let ended = netns::end(command)?;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.said.contains("interception.legacy"), "{}", ended.said);
    assert!(ended.said.contains("writable /run"), "{}", ended.said);
    Ok(())
}

#[test]
fn legacy_without_net_raw_says_so() -> io::Result<()> {
    let pod = Pod::new(Backend::Legacy)?;
    let mut command = pod.inside.command("setpriv");
    command.args(["--bounding-set=-all,+net_admin", "--inh-caps=-all", &pod.sidecar()]);
    command.args(["init", "--backend", "legacy"]).args(NUMBERS);
    let ended = netns::end(command)?;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.said.contains("NET_RAW"), "{}", ended.said);
    Ok(())
}

#[test]
fn nft_needs_no_capability_but_net_admin_and_no_writable_place() -> io::Result<()> {
    let pod = Pod::new(Backend::Nft)?;
    let mut command = pod.inside.command("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount -o remount,bind,ro / && mount -t tmpfs -o ro none /run && exec \"$@\"");
    command.args(["sh", "setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all"]);
    command.args(["--no-new-privs", &pod.sidecar(), "init"]).args(NUMBERS);
    succeeded("init", &netns::end(command)?)?;
    succeeded("verify", &pod.verify()?)
}

#[test]
fn numbers_that_make_no_interception_are_refused_before_anything_is_written() -> io::Result<()> {
    let pod = Pod::new(Backend::Nft)?;
    let before = pod.rules()?;
    for (numbers, words) in [
        (vec!["--gid", "0"], "group"),
        (vec!["--gid", "70001", "--uid", "0"], "user"),
        (vec!["--gid", "70001", "--port", "0"], "port"),
        (vec!["--gid", "70001", "--port", "65536"], "port"),
        (vec!["--gid", "70001", "--guard-port", "11434"], "both 11434"),
        (vec![], "--gid"),
    ] {
        let ended = pod.init_with(&numbers)?;
        assert!(!ended.status.success(), "{numbers:?}");
        assert!(ended.said.contains(words), "{numbers:?}: {}", ended.said);
        assert_eq!(pod.rules()?, before);
    }
    Ok(())
}

#[test]
fn in_a_pod_with_a_user_namespace_the_rules_hold_for_ids_that_it_has() -> io::Result<()> {
    let pod = Pod::new(Backend::Nft)?;
    let script = pod.files.path().join("user_namespace.py");
    fs::write(&script, include_str!("interception/user_namespace.py"))?;
    let run = |gid: &str| {
        let mut command = pod.inside.command("/usr/bin/python3");
        command.arg(&script).args(["sh", "-ec"]);
        command.arg(
            "ip link set lo up
            $0 init --gid $1
            exec setpriv --reuid 1000 --regid 1000 --clear-groups $0 verify --gid $1",
        );
        command.args([&pod.sidecar(), gid]);
        netns::end(command)
    };
    let known = run("65535")?;
    succeeded("init and verify", &known)?;
    assert!(known.printed.contains("closed  [::1]:11434: arrives at the guard's port"), "{known:?}");
    let unknown = run("65536")?;
    assert!(!unknown.status.success(), "{unknown:?}");
    assert!(unknown.said.contains("group 65536 doesn't exist"), "{unknown:?}");
    Ok(())
}

#[test]
fn a_table_that_iptables_cannot_read_is_left_alone() -> io::Result<()> {
    let pod = Pod::new(Backend::Nft)?;
    for words in [
        "add table ip nat",
        "add set ip nat ports { type inet_service; }",
        "add chain ip nat OUTPUT { type nat hook output priority -100; }",
        "add rule ip nat OUTPUT tcp dport @ports redirect to :9999",
    ] {
        let mut command = pod.inside.command("nft");
        command.arg(words);
        netns::end_well(command)?;
    }
    let list = || {
        let mut command = pod.inside.command("nft");
        command.args(["list", "ruleset"]);
        netns::end_well(command)
    };
    let before = list()?;
    let ended = pod.init_with(&NUMBERS)?;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.said.contains("the table nat"), "{}", ended.said);
    assert_eq!(list()?, before);
    Ok(())
}

/// The tests that must hold alike for both ways to write the rules.
macro_rules! with_each_backend {
    ($($name:ident),* $(,)?) => {
        mod nft {
            $(#[test] fn $name() -> std::io::Result<()> { super::$name(super::Backend::Nft) })*
        }
        mod legacy {
            $(#[test] fn $name() -> std::io::Result<()> { super::$name(super::Backend::Legacy) })*
        }
    };
}

with_each_backend!(
    every_way_from_inside_leads_to_the_guard,
    root_of_the_models_container_is_led_to_the_guard_as_well,
    every_way_from_outside_leads_to_the_guard,
    connections_to_other_pods_are_left_alone,
    only_user_and_primary_group_together_are_let_through,
    a_user_namespace_lends_nobody_the_guards_numbers,
    a_request_passes_the_guard_once_whichever_port_it_came_to,
    while_the_guard_is_down_connections_are_refused,
    a_call_along_an_older_connection_does_not_reach_the_model,
    a_connection_older_than_the_rules_ends,
    a_second_init_changes_nothing,
    inits_at_the_same_time_leave_the_rules_of_one,
    other_numbers_replace_ours_and_only_ours,
    rules_of_others_stay_and_ours_hold,
    a_rule_of_others_that_leads_around_the_guard_ends_at_the_fence,
    without_ipv6_addresses_the_rules_hold_and_go_on_to_when_it_gets_some,
    verify_names_every_way,
    verify_fails_without_rules,
    verify_fails_when_the_rules_have_other_numbers,
    verify_notices_each_rule_that_is_missing_but_those_it_cannot_see,
    verify_does_not_guess_when_a_port_is_taken,
    verify_refuses_to_run_as_the_guard,
    verify_holds_for_a_port_on_which_it_may_not_listen,
    verify_holds_beside_a_mesh,
    init_without_the_capability_says_which,
    init_without_iptables_names_the_program_and_its_package,
);

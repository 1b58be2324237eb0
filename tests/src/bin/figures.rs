//! Measures what the guard costs, and prints a Markdown table for the README:
//!
//!     cargo run --release -p llm-guard-tests --bin figures [-- --short]
//!
//! The guard is the release build; the server is a quick one in this process, so that it isn't what is measured. Direct and
//! guarded calls alternate within one run. The counts are fixed: only times and memory differ between runs. Nothing here fails
//! because of a time; a wrong answer does.

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use llm_guard_tests::apis::Api;
use llm_guard_tests::faulty::{answer, chunked, chunked_head};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::{cache, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

type AnyError = Box<dyn Error + Send + Sync>;

const FRAMES: usize = 64;
const API: Api = Api::Chat;
const MODES: [&str; 2] = ["monitor", "hard"];
const LIMIT: Duration = Duration::from_secs(30);

/// How often each thing is done. The short run only shows that everything works.
struct Plan {
    rounds: usize,
    requests: usize,
    streams: usize,
    paced: usize,
    first_bytes: usize,
    open: usize,
}

const LONG: Plan = Plan { rounds: 3, requests: 3_000, streams: 1_000, paced: 400, first_bytes: 3_000, open: 1_000 };
const SHORT: Plan = Plan { rounds: 1, requests: 50, streams: 20, paced: 16, first_bytes: 50, open: 100 };

fn main() -> Result<(), AnyError> {
    let plan = match std::env::args().nth(1).as_deref() {
        None => LONG,
        Some("--short") => SHORT,
        Some(other) => return Err(format!("there is only --short, not {other}").into()),
    };
    let binary = release_guard()?;
    let server = Server::start()?;
    let direct = Costs::measure(&plan, &server, server.address, None)?;
    let mut guarded = Vec::new();
    for mode in MODES {
        guarded.push(Guarded::measure(&plan, &server, mode)?);
    }
    print!("{}", table(&plan, &binary, &direct, &guarded)?);
    Ok(())
}

/// The release build of the guard, built first where cargo runs this.
fn release_guard() -> Result<PathBuf, AnyError> {
    if let (None, Some(cargo)) = (std::env::var_os("LLM_GUARD_SIDECAR"), std::env::var_os("CARGO")) {
        let built = Command::new(cargo).args(["build", "--release", "--locked", "--quiet", "-p", "llm-guard-sidecar"]).status()?;
        if !built.success() {
            return Err("the release build of the guard failed".into());
        }
    }
    let binary = cache::sidecar()?;
    if !binary.to_string_lossy().contains("release") && std::env::var_os("LLM_GUARD_SIDECAR").is_none() {
        return Err("there is no release build: cargo build --release".into());
    }
    Ok(binary)
}

// === what is asked, and by whom it is answered ===

/// What a call asks the server for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// An answer of one piece.
    Whole,
    /// A stream of 64 frames, as they come out of a model: one at a time.
    Paced,
    /// The same, all written at once.
    AtOnce,
    /// A stream that stays open.
    Open,
}

impl Ask {
    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Paced => "paced",
            Self::AtOnce => "at-once",
            Self::Open => "open",
        }
    }

    /// A request with a prompt of some two thousand characters.
    fn request(self) -> Vec<u8> {
        let prompt = "Tell me, please, what the difference is between a kettle and a samovar. ".repeat(28);
        let body = API.request(&prompt, !matches!(self, Self::Whole));
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-Figures: {}\r\n\r\n",
            API.path(),
            body.len(),
            self.name()
        );
        [head.as_bytes(), &body].concat()
    }
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = (1..FRAMES).map(|number| API.frame(if number % 8 == 0 { " samovar." } else { " kettle," })).collect();
    frames.push(API.end());
    frames
}

/// The server, on a thread of its own.
struct Server {
    address: SocketAddr,
    /// The thread's folder in `/proc`.
    task: PathBuf,
}

impl Server {
    fn start() -> Result<Self, AnyError> {
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name("server".into()).spawn(move || -> io::Result<()> {
            let task = Path::new("/proc").join(fs::read_link("/proc/thread-self")?);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
                let listener = socket.listen(1_024)?;
                let address = listener.local_addr()?;
                tell.send(Self { address, task }).map_err(io::Error::other)?;
                serve(listener).await
            })
        })?;
        Ok(told.recv_timeout(LIMIT)?)
    }

    fn cpu(&self) -> io::Result<Duration> {
        on_cpu(&self.task)
    }
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let whole = answer("200 OK", API.content_type(false), &API.whole(&"A samovar has a tap. ".repeat(50)));
    let at_once = chunked(API.content_type(true), &frames());
    let paced: Vec<Vec<u8>> = frames().iter().map(|frame| raw::chunk(frame)).collect();
    let (whole, at_once, paced) = (&*whole.leak(), &*at_once.leak(), &*paced.leak());
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut received = Vec::with_capacity(8 * 1024);
            while stream.read_buf(&mut received).await? > 0 {
                let Some((head, start)) = raw::Head::read(&received) else { continue };
                if received.len() < start + head.length().unwrap_or_default() {
                    continue;
                }
                received.clear();
                match head.get("x-figures") {
                    Some(b"at-once") => stream.write_all(at_once).await?,
                    Some(b"paced") => {
                        stream.write_all(&chunked_head(API.content_type(true))).await?;
                        for frame in paced {
                            stream.write_all(frame).await?;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        stream.write_all(b"0\r\n\r\n").await?;
                    }
                    Some(b"open") => {
                        stream.write_all(&chunked_head(API.content_type(true))).await?;
                        for frame in &paced[..8] {
                            stream.write_all(frame).await?;
                        }
                    }
                    _ => stream.write_all(whole).await?,
                }
            }
            Ok::<_, io::Error>(())
        });
    }
}

/// A client on a connection that stays open.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { stream, received: Vec::with_capacity(64 * 1024) })
    }

    /// Calls, and gives the time to the first byte of the answer's body.
    fn call(&mut self, ask: Ask, request: &[u8]) -> Result<Duration, AnyError> {
        self.received.clear();
        let begun = Instant::now();
        self.stream.write_all(request)?;
        let mut first = None;
        loop {
            self.read()?;
            if first.is_none() {
                let Some(end) = raw::find(&self.received, b"\r\n\r\n") else { continue };
                if self.received.len() > end + 4 {
                    first = Some(begun.elapsed());
                }
            }
            let is_whole = match ask {
                Ask::Whole => self.received.ends_with(b"}"),
                Ask::Paced | Ask::AtOnce => self.received.ends_with(b"0\r\n\r\n"),
                Ask::Open => raw::find(&self.received, b" samovar.").is_some() || raw::find(&self.received, b" kettle").is_some(),
            };
            if is_whole && let Some(first) = first {
                self.check(ask)?;
                return Ok(first);
            }
        }
    }

    fn read(&mut self) -> Result<(), AnyError> {
        let mut some = [0; 16 * 1024];
        match self.stream.read(&mut some)? {
            0 => Err("the connection ended within an answer".into()),
            length => {
                self.received.extend_from_slice(&some[..length]);
                Ok(())
            }
        }
    }

    /// What was measured has to be the right answer.
    fn check(&self, ask: Ask) -> Result<(), AnyError> {
        let is_right = self.received.starts_with(b"HTTP/1.1 200 ")
            && match ask {
                Ask::Whole | Ask::Open => true,
                Ask::Paced | Ask::AtOnce => raw::find(&self.received, b"\"done\":true").is_some(),
            };
        if is_right { Ok(()) } else { Err(format!("a wrong answer: {}", String::from_utf8_lossy(&self.received)).into()) }
    }
}

// === measuring ===

/// How long a task has been on a CPU.
fn on_cpu(task: &Path) -> io::Result<Duration> {
    let schedstat = fs::read_to_string(task.join("schedstat"))?;
    let nanoseconds = schedstat.split_whitespace().next().and_then(|word| word.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| io::Error::other("the kernel keeps no schedstat"))
}

/// The same for a process: its threads together. The guard's are all there from its start.
fn process_on_cpu(process: u32) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        sum += on_cpu(&task?.path())?;
    }
    Ok(sum)
}

/// Memory in KiB: what is the process's own, and all of it.
#[derive(Clone, Copy)]
struct Memory {
    own: u64,
    all: u64,
}

fn memory(process: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok());
        value.ok_or_else(|| io::Error::other(format!("no {name} in a process's status")))
    };
    Ok(Memory { own: line("RssAnon:")?, all: line("VmRSS:")? })
}

/// CPU in microseconds a call.
#[derive(Clone, Copy, Default)]
struct Cpu {
    server: f64,
    guard: f64,
}

struct Costs {
    whole: Cpu,
    at_once: Cpu,
    paced: Cpu,
}

impl Costs {
    fn of(&self, ask: Ask) -> Cpu {
        match ask {
            Ask::Whole => self.whole,
            Ask::Paced => self.paced,
            Ask::AtOnce | Ask::Open => self.at_once,
        }
    }

    /// The median of the rounds, of each.
    fn measure(plan: &Plan, server: &Server, address: SocketAddr, guard: Option<u32>) -> Result<Self, AnyError> {
        let run = |ask, count, clients| -> Result<Cpu, AnyError> {
            let rounds = (0..plan.rounds).map(|_| cpu_of(ask, count, clients, server, address, guard)).collect::<Result<Vec<_>, _>>()?;
            Ok(Cpu {
                server: median(rounds.iter().map(|cpu| cpu.server).collect()),
                guard: median(rounds.iter().map(|cpu| cpu.guard).collect()),
            })
        };
        Ok(Self {
            whole: run(Ask::Whole, plan.requests, 1)?,
            at_once: run(Ask::AtOnce, plan.streams, 1)?,
            paced: run(Ask::Paced, plan.paced, 8)?,
        })
    }
}

fn cpu_of(ask: Ask, count: usize, clients: usize, server: &Server, address: SocketAddr, guard: Option<u32>) -> Result<Cpu, AnyError> {
    let request = ask.request();
    // Connections are made before the clock runs.
    let mut ready = Vec::new();
    for _ in 0..clients {
        let mut client = Client::connect(address)?;
        client.call(ask, &request)?;
        ready.push(client);
    }
    let now = || -> io::Result<(Duration, Duration)> { Ok((server.cpu()?, guard.map_or(Ok(Duration::ZERO), process_on_cpu)?)) };
    let before = now()?;
    thread::scope(|scope| -> Result<(), AnyError> {
        let running: Vec<_> = ready
            .iter_mut()
            .map(|client| {
                let request = &request;
                scope.spawn(move || -> Result<(), AnyError> {
                    for _ in 0..count / clients {
                        client.call(ask, request)?;
                    }
                    Ok(())
                })
            })
            .collect();
        running.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked")?)
    })?;
    let after = now()?;
    let each = |before: Duration, after: Duration| micros(after.saturating_sub(before)) / number(count / clients * clients);
    Ok(Cpu { server: each(before.0, after.0), guard: each(before.1, after.1) })
}

/// Median and 99th percentile, in microseconds.
struct FirstByte {
    direct: (f64, f64),
    guarded: (f64, f64),
}

fn first_bytes(plan: &Plan, direct: SocketAddr, guarded: SocketAddr) -> Result<FirstByte, AnyError> {
    let request = Ask::AtOnce.request();
    let mut clients = [Client::connect(direct)?, Client::connect(guarded)?];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..plan.first_bytes {
        for (client, times) in clients.iter_mut().zip(&mut times) {
            times.push(micros(client.call(Ask::AtOnce, &request)?));
        }
    }
    let [direct, guarded] = times.map(|times| (median(times.clone()), percentile(times, 99)));
    Ok(FirstByte { direct, guarded })
}

struct Guarded {
    mode: &'static str,
    costs: Costs,
    first: FirstByte,
    idle: Memory,
    open: Memory,
}

impl Guarded {
    fn measure(plan: &Plan, server: &Server, mode: &'static str) -> Result<Self, AnyError> {
        let (idle, open) = with_streams_open(plan, server, mode)?;
        let mut guard = Guard::before(format!("http://{}", server.address), "figures").mode(mode).start()?;
        let process = guard.process().id();
        let costs = Costs::measure(plan, server, guard.address(), Some(process))?;
        let first = first_bytes(plan, server.address, guard.address())?;
        if !guard.stop()?.success() {
            return Err("the guard ended badly".into());
        }
        Ok(Self { mode, costs, first, idle, open })
    }
}

/// Memory after one request, and with streams open that have all said something.
fn with_streams_open(plan: &Plan, server: &Server, mode: &str) -> Result<(Memory, Memory), AnyError> {
    let mut guard =
        Guard::before(format!("http://{}", server.address), "figures").mode(mode).argument("--drain-timeout").argument("0").start()?;
    let process = guard.process().id();
    Client::connect(guard.address())?.call(Ask::Whole, &Ask::Whole.request())?;
    let idle = memory(process)?;
    let request = Ask::Open.request();
    let mut clients = Vec::new();
    for _ in 0..plan.open {
        let mut client = Client::connect(guard.address())?;
        client.call(Ask::Open, &request)?;
        clients.push(client);
    }
    let open = guard.metric("llm_guard_streams_open", &[])?;
    if open.to_string() != plan.open.to_string() {
        return Err(format!("{open} streams are open, not {}", plan.open).into());
    }
    let full = memory(process)?;
    drop(clients);
    Ok((idle, full))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

fn median(values: Vec<f64>) -> f64 {
    percentile(values, 50)
}

fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(place).copied().unwrap_or_default()
}

// === telling ===

fn table(plan: &Plan, binary: &Path, direct: &Costs, guarded: &[Guarded]) -> Result<String, AnyError> {
    use std::fmt::Write;
    let mut out = String::new();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = thread::available_parallelism()?;
    let modes: Vec<&str> = guarded.iter().map(|guarded| guarded.mode).collect();
    writeln!(out, "| | direct | {} |\n| --- | ---: | {} |", modes.join(" | "), vec!["---:"; modes.len()].join(" | "))?;
    let mut row = |name: &str, direct: String, cell: &dyn Fn(&Guarded) -> String| {
        let cells: Vec<String> = guarded.iter().map(cell).collect();
        writeln!(out, "| {name} | {direct} | {} |", cells.join(" | "))
    };
    let asked = [
        ("CPU a request, unstreamed", Ask::Whole),
        ("CPU a stream of 64 frames, one at a time", Ask::Paced),
        ("CPU a stream of 64 frames, written at once", Ask::AtOnce),
    ];
    for (name, ask) in asked {
        let of = |costs: &Costs| costs.of(ask);
        row(&format!("{name}: the guard"), "–".into(), &|guarded| format!("{:.0} µs", of(&guarded.costs).guard))?;
        row("… the bare test server", format!("{:.0} µs", of(direct).server), &|guarded| {
            format!("{:.0} µs", of(&guarded.costs).server)
        })?;
        row("… the one by the other", "–".into(), &|guarded| format!("{:.1}", of(&guarded.costs).guard / of(&guarded.costs).server))?;
    }
    let first = |at: (f64, f64)| format!("{:.0} / {:.0} µs", at.0, at.1);
    for (place, guarded) in guarded.iter().enumerate() {
        let name = format!("First byte, median / 99th percentile, {}", guarded.mode);
        row(&name, first(guarded.first.direct), &|other| {
            if other.mode == modes[place] { first(other.first.guarded) } else { String::new() }
        })?;
    }
    let mebibytes = |memory: Memory| format!("{} / {} KiB", memory.own, memory.all);
    row("Memory idle, own / all", "–".into(), &|guarded| mebibytes(guarded.idle))?;
    row(&format!("Memory with {} streams open, own / all", plan.open), "–".into(), &|guarded| mebibytes(guarded.open))?;
    row("… for each stream, own", "–".into(), &|guarded| {
        format!(
            "{:.1} KiB",
            number(usize::try_from(guarded.open.own.saturating_sub(guarded.idle.own)).unwrap_or_default()) / number(plan.open)
        )
    })?;
    let size = fs::metadata(binary)?.len();
    writeln!(out, "| Size of the binary, stripped | – | {} KiB | |", size / 1024)?;
    writeln!(
        out,
        "\n{cores} cores, Linux {}. {} requests, {} streams at once, {} one at a time, the median of {} rounds; {} first bytes, direct and guarded in turn. The guard writes its log.",
        kernel.trim(),
        plan.requests,
        plan.streams,
        plan.paced,
        plan.rounds,
        plan.first_bytes
    )?;
    Ok(out)
}

//! A model server that misbehaves as a script says, byte by byte. For faults that a real server can't be made to show; whatever
//! doesn't need one is tested with the real Ollama.
//!
//! The invariant: it sends what the script says and nothing else, and keeps what it was sent as it came.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::apis::Api;
use crate::raw::{self, Head, dechunk};

/// One thing that the server does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Does nothing for some time.
    Wait(Duration),
    /// Goes on when the gate is opened.
    Pass(Gate),
    /// Sends the bytes again and again, with a pause in between, until the other side goes away.
    Repeat(Vec<u8>, Duration),
    /// Says nothing more and stays, until the other side goes away.
    Hang,
    /// Ends the connection.
    Close,
    /// Breaks the connection off, so that the other side sees a reset.
    Reset,
}

/// What the test opens for a server that waits at it.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Gate {
    /// Lets everyone through, for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        // The sender is right here, so there is no error.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A request as the server got it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its head.
    pub head: Head,
    /// Its body, out of its chunks.
    pub body: Vec<u8>,
}

impl Received {
    /// The target, with its query.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether it asks for a stream.
    #[must_use]
    pub fn streams(&self) -> bool {
        serde_json::from_slice::<serde_json::Value>(&self.body).is_ok_and(|body| body["stream"] == true)
    }
}

/// An answer with a length.
#[must_use]
pub fn answer(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The head of an answer whose body comes in chunks.
#[must_use]
pub fn chunked_head(content_type: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
}

/// A chunked answer of these chunks.
#[must_use]
pub fn chunked(content_type: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = chunked_head(content_type);
    for chunk in chunks {
        bytes.extend_from_slice(&raw::chunk(chunk));
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// The answer of a server that is well: `text`, in pieces of three characters if a stream is asked for.
#[must_use]
pub fn well(request: &Received, text: &str) -> Vec<Act> {
    let Some(api) = Api::of_path(request.target()) else {
        let mut other = answer("200 OK", "application/json; charset=utf-8", b"{\"version\":\"0.0.0\"}");
        if request.head.start.starts_with("HEAD ") {
            other.truncate(raw::find(&other, b"{").unwrap_or_default());
        }
        return vec![Act::Send(other)];
    };
    let content_type = api.content_type(request.streams());
    if !request.streams() {
        return vec![Act::Send(answer("200 OK", content_type, &api.whole(text)))];
    }
    vec![Act::Send(chunked(content_type, &api.stream(text)))]
}

type Behaviour = Arc<dyn Fn(&Received) -> Vec<Act> + Send + Sync>;

struct State {
    behaviour: Mutex<Behaviour>,
    received: Mutex<Vec<Received>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

/// The server. It ends with the value.
pub struct FaultyServer {
    address: SocketAddr,
    state: Arc<State>,
    // Dropping it ends everything that runs on it.
    _runtime: Runtime,
}

impl std::fmt::Debug for FaultyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FaultyServer {
    /// A server on a free port that answers each request by the script that `behaviour` gives.
    pub fn start(behaviour: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), behaviour)
    }

    /// The same at an address.
    pub fn start_at(address: SocketAddr, behaviour: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(async {
            let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(1024)
        })?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            behaviour: Mutex::new(Arc::new(behaviour)),
            received: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, _runtime: runtime })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers by another script from now on.
    pub fn behave(&self, behaviour: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static) {
        *self.state.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(behaviour);
    }

    /// The same, for a script that is the same for every request.
    pub fn play(&self, acts: Vec<Act>) {
        self.behave(move |_| acts.clone());
    }

    /// The requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections there have been.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have come.
    pub fn wait_for_requests(&self, count: usize) -> io::Result<()> {
        wait_until("the server gets the request", raw::LIMIT, || Ok(self.received().len() >= count))
    }
}

/// Looks again and again, until something is so.
pub fn wait_until(what: &str, limit: Duration, mut is_so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let end = Instant::now() + limit;
    while !is_so()? {
        if Instant::now() >= end {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not within {limit:?}: {what}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        state.accepted.fetch_add(1, Ordering::Relaxed);
        state.open.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // Whatever ends the connection ends it.
            let _ = serve(stream, &state).await;
            state.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::new();
    while let Some(request) = next_request(&mut reader, &mut buffer).await? {
        let behaviour = Arc::clone(&state.behaviour.lock().unwrap_or_else(PoisonError::into_inner));
        let acts = behaviour(&request);
        let is_last = request.head.text("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"));
        state.received.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let last = tokio::select! {
            last = perform(acts, &mut writer) => last?,
            // A client that only reads on may have ended its side: the guard never does.
            () = gone(&mut reader, &mut buffer) => return Ok(()),
        };
        match last {
            Act::Reset => {
                let stream = reader.reunite(writer).map_err(io::Error::other)?;
                return stream.set_zero_linger();
            }
            Act::Close => return Ok(()),
            _ if is_last => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Plays a script, and gives the act by which it ended.
async fn perform(acts: Vec<Act>, writer: &mut OwnedWriteHalf) -> io::Result<Act> {
    for act in acts {
        match act {
            Act::Send(bytes) => writer.write_all(&bytes).await?,
            Act::Wait(time) => tokio::time::sleep(time).await,
            Act::Pass(gate) => gate.opened().await,
            Act::Repeat(bytes, pause) => loop {
                writer.write_all(&bytes).await?;
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            },
            Act::Hang => std::future::pending().await,
            end @ (Act::Close | Act::Reset) => return Ok(end),
        }
    }
    Ok(Act::Wait(Duration::ZERO))
}

/// Ends when the other side has gone away.
async fn gone(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) {
    while reader.read_buf(buffer).await.is_ok_and(|length| length > 0) {}
}

async fn next_request(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> io::Result<Option<Received>> {
    loop {
        if let Some((head, start)) = Head::read(buffer) {
            let rest = &buffer[start..];
            let body = if head.is_chunked() {
                // Bodies may be large, so that they are read once, at what looks like their end.
                let (body, length, complete) = if rest.ends_with(b"\r\n\r\n") { dechunk(rest) } else { Default::default() };
                complete.then_some((body, length))
            } else {
                let length = head.length().unwrap_or_default();
                rest.get(..length).map(|body| (body.to_vec(), length))
            };
            if let Some((body, length)) = body {
                buffer.drain(..start + length);
                return Ok(Some(Received { head, body }));
            }
        }
        buffer.reserve(64 * 1024);
        if reader.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

//! What stands between the guard and its server, and keeps what passes: to see what a server was really told, and what it said.
//!
//! The invariant: every byte that one side sent is kept before the other side gets it, and none is changed.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::raw::{Head, dechunk};

type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

/// A running relay. It ends with the value that stands for it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
    asked: Kept,
    answered: Kept,
}

impl Relay {
    /// One before a server, on a free port of the loopback.
    pub fn before(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (ended, asked, answered) = (Arc::new(AtomicBool::new(false)), Kept::default(), Kept::default());
        let acceptor = thread::spawn({
            let (ended, asked, answered) = (Arc::clone(&ended), Arc::clone(&asked), Arc::clone(&answered));
            move || {
                for client in listener.incoming() {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    // A connection that breaks is for its two ends to see.
                    let _ = client.and_then(|client| join(&client, &TcpStream::connect(server)?, &asked, &answered));
                }
            }
        });
        Ok(Self { address, ended, acceptor: Some(acceptor), asked, answered })
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was sent to the server, connection by connection.
    #[must_use]
    pub fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that the server sent.
    #[must_use]
    pub fn answered(&self) -> Vec<Vec<u8>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bodies of the requests to a path, in the order of their connections.
    #[must_use]
    pub fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        self.asked().iter().flat_map(|bytes| requests(bytes)).filter(|(target, _)| target == path).map(|(_, body)| body).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It waits for a connection, and gets one.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Lets both sides talk to each other. The threads end when the sides do.
fn join(client: &TcpStream, server: &TcpStream, asked: &Kept, answered: &Kept) -> io::Result<()> {
    for (from, to, kept) in [(client, server, asked), (server, client, answered)] {
        let (mut from, mut to, kept) = (from.try_clone()?, to.try_clone()?, Arc::clone(kept));
        let place = {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(Vec::new());
            kept.len() - 1
        };
        thread::spawn(move || {
            let mut bytes = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                kept.lock().unwrap_or_else(PoisonError::into_inner)[place].extend_from_slice(&bytes[..count]);
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
        });
    }
    Ok(())
}

/// The targets and bodies of the requests on a connection.
fn requests(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut requests = Vec::new();
    while let Some((head, length)) = Head::read(bytes) {
        let rest = bytes.get(length..).unwrap_or_default();
        let (body, used) = if head.is_chunked() {
            let (body, used, _) = dechunk(rest);
            (body, used)
        } else {
            let length = head.length().unwrap_or(0).min(rest.len());
            (rest[..length].to_vec(), length)
        };
        requests.push((head.start.split(' ').nth(1).unwrap_or_default().to_owned(), body));
        bytes = &rest[used..];
    }
    requests
}

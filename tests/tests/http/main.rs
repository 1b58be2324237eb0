//! HTTP as it shouldn't be: requests that two readers could take for two, pages that ask for what isn't theirs, bodies that are packed,
//! servers that break off. Each case once before a server that records by the byte, and once before a real Ollama.
//!
//! The invariant: what reaches the server is one whole request whose body was judged, or nothing; and no case waits without an end.

mod breaks;
mod framings;
mod origins;
mod packed;
mod routes;

use std::error::Error;

type Outcome = Result<(), Box<dyn Error>>;

//! Judges exchanges with a model server: bytes and policy in, verdicts and bytes out.
//!
//! The engine is pure. It has no sockets, no files, no clock and no global state, so that whatever it says of an exchange can be
//! said again: in a test, in a fuzzer, from a recording. The shell that does the talking is the `llm-guard-sidecar` crate.
//!
//! A request's way through it: [`exchange::Exchange`] decodes the body ([`wire`]), asks each control ([`controls`]) and encodes
//! what may be forwarded; [`exchange::StreamJudge`] and [`exchange::WholeJudge`] do the same for the answer.

pub mod controls;
pub mod detect;
pub mod evaluate;
pub mod exchange;
pub mod policy;
pub mod verdict;
pub mod wire;

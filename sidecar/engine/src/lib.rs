//! Judges exchanges with a model server: bytes and policy in, verdicts and bytes out.
//!
//! The engine is pure. It has no sockets, no files, no clock and no global state, so that whatever it says of an exchange can be
//! said again: in a test, in a fuzzer, from a recording. The shell that does the talking is the `llm-guard-sidecar` crate.
//!
//! A request's way through it: [`exchange::judge_request`] decodes the body ([`wire`]), asks each control ([`controls`]) and encodes
//! what may be forwarded; [`exchange::AnswerJudge`] does the same for the answer, piece by piece.

pub mod controls;
pub mod detect;
pub mod exchange;
pub mod policy;
pub mod verdict;
pub mod wire;

//! Judges exchanges with a model server: bytes and policy in, verdicts and bytes out.

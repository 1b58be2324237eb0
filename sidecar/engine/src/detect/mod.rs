//! What controls share: finding secrets in text that arrives in pieces, and text as it reads once its disguises are off.

#[allow(dead_code, reason = "the matcher that calls it is not here yet")]
mod checks;
pub mod normalise;
#[allow(dead_code, reason = "the matcher that reads it is not here yet")]
mod pack;
#[allow(dead_code, reason = "the matcher that calls it is not here yet")]
mod personal;
pub mod rule;
pub mod secrets;

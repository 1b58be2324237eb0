//! What controls share: finding secrets in text that arrives in pieces, and text as it reads once its disguises are off.

pub mod normalise;
pub mod pack;
pub mod rule;
pub mod secrets;

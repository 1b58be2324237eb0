//! What controls share: finding secrets and personal data in text that arrives in pieces, and text as it reads once its disguises are off.

mod checks;
mod compiled;
mod keywords;
mod kind;
mod matcher;
pub mod normalise;
pub mod pack;
mod pattern;
mod personal;
pub mod rule;
pub mod sample;
pub mod secrets;

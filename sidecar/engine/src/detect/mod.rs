//! What controls share: finding secrets and personal data in text that arrives in pieces, and text as it reads once its disguises are off.

mod allow;
mod bend;
mod checks;
mod compiled;
mod encoded;
mod keywords;
mod kind;
mod marks;
mod matcher;
pub mod normalise;
mod own;
pub mod pack;
mod pattern;
mod personal;
mod place;
mod reading;
pub mod rule;
pub mod sample;
mod search;
pub mod secrets;

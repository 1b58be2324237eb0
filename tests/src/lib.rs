//! What the end-to-end tests share: the real parts they start, and what they keep of what those said.

pub mod apis;
pub mod cache;
pub mod cluster;
pub mod differential;
pub mod faulty;
pub mod guard;
pub mod injector;
pub mod leaks;
pub mod netns;
pub mod ollama;
pub mod plain;
pub mod planted;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod records;
pub mod relay;
pub mod settings;

//! The pack: every kind that ships, as data.

pub mod personal;

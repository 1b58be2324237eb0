//! The pack: every kind that ships, as data.

pub(super) mod personal;

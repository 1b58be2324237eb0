//! What the guard tells about itself: counters, log lines, and one record for each exchange.

pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod record;
pub(crate) mod recording;

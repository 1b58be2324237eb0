//! The injector: admission webhooks that put the guard into pods, and the controller of the settings that those guards load.

fn main() {}

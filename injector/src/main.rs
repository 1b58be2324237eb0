//! The injector: admission webhooks that put the guard into pods, and the controller of the settings that those guards load.

mod access;
mod apply;
mod authority;
mod certificates;
mod cluster;
mod commands;
mod controller;
mod definition;
mod delivery;
mod events;
mod exceptions;
mod governed;
mod guarded;
mod identity;
mod logs;
mod metrics;
mod names;
mod network_policy;
mod patch;
mod plan;
mod policies;
mod reviews;
mod secrets;
mod server;
mod settings;
mod signing;
mod status;
mod uses;
mod webhook;

use clap::Parser;

fn main() -> std::process::ExitCode {
    commands::Command::parse().run()
}

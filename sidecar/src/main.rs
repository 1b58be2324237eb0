//! Arguments to a command, nothing else.

mod commands;
mod identity;
mod intercept;
mod proxy;
mod settings;
mod telemetry;

use clap::Parser;

fn main() -> std::process::ExitCode {
    commands::Command::parse().run()
}

//! Arguments to a command, nothing else.

mod commands;
mod intercept;

use clap::Parser;

fn main() -> std::process::ExitCode {
    commands::Command::parse().run()
}

//! Arguments to a command, nothing else.

mod commands;
mod files;
mod identity;
mod intercept;
mod proxy;
mod settings;
mod telemetry;

fn main() -> std::process::ExitCode {
    commands::Command::of_process().run()
}

//! Arguments to a command, nothing else.

mod commands;
mod identity;
mod intercept;
mod proxy;
mod recorded;
mod room;
mod settings;
mod telemetry;

fn main() -> std::process::ExitCode {
    commands::Command::of_process().run()
}

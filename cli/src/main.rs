//! `presocks COMMAND`: runs a program so that all its connections go through a SOCKS or HTTP proxy.
//!
//! Reading order: `args` (what was typed), `config` (what else was said), `settings` (what it means), `launch` (three processes), `broker` (all policy
//! and protocol).
//!
//! `main` is C's, not std's: std would open descriptors that the command was started without, and would have SIGPIPE ignored,
//! which the command would inherit.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "the entry point is not built for tests"))]

mod args;
mod broker;
mod config;
mod demo;
mod descriptors;
mod exit;
mod gssapi;
mod kernel_route;
mod launch;
mod library;
mod message;
mod options;
mod policy;
mod preflight;
mod process;
mod procfs;
mod proxy;
mod readiness;
#[cfg(test)]
mod scripted;
mod seccomp;
mod serve;
mod settings;
mod socket;
mod streams;
mod upstream;

use args::Mode;
use exit::Exit;

/// The C entry point.
#[cfg(not(test))]
#[allow(unsafe_code, reason = "the only way to be started without std's runtime")]
// SAFETY: the binary has no other `main`.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    run().code()
}

fn run() -> Exit {
    let streams = match streams::Standard::secure() {
        Ok(streams) => streams,
        Err(error) => return Exit::ours(format_args!("cannot open /dev/null: {error}")),
    };
    let mode = match Mode::from_command_line() {
        Ok(mode) => mode,
        Err(exit) => return exit,
    };
    let done = match mode {
        Mode::Serve(address) => serve::run(&address),
        Mode::Demo => demo::run(),
        Mode::DemoClient(url) => demo::client::run(&url),
        Mode::Run(typed) => return launch::run(*typed, streams),
        Mode::PrintConfig(typed) => return show(settings::print(*typed)),
        Mode::Explain(typed, question) => return show(settings::explain(*typed, &question)),
    };
    match done {
        Ok(()) => Exit::SUCCESS,
        Err(why) => Exit::failed(format_args!("{why}")),
    }
}

/// Prints what was asked for, or why it cannot be had.
fn show(text: Result<String, String>) -> Exit {
    use std::io::Write as _;
    match text {
        Ok(text) => {
            let mut stdout = std::io::stdout();
            // What is left in the buffer nobody writes when there is no runtime of std's.
            match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
                Ok(()) => Exit::SUCCESS,
                Err(error) => Exit::ours(format_args!("cannot write: {error}")),
            }
        }
        Err(why) => Exit::ours(format_args!("{why}")),
    }
}

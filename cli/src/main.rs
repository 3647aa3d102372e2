//! `presocks COMMAND`: runs a program so that all its connections go through a SOCKS or HTTP proxy.
//!
//! Reading order: `args` (what was typed), `settings` (what it means), `launch` (three processes), `broker` (all policy
//! and protocol).
//!
//! `main` is C's, not std's: std would open descriptors that the command was started without, and would have SIGPIPE ignored,
//! which the command would inherit.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "the entry point is not built for tests"))]

mod args;
mod backstop;
mod broker;
mod demo;
mod exit;
mod launch;
mod library;
mod proxy;
mod route;
mod serve;
mod settings;
mod streams;

use args::{Args, Mode};
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
    let args = match Args::from_command_line() {
        Ok(args) => args,
        Err(exit) => return exit,
    };
    let done = match args.mode {
        Mode::Serve(address) => serve::run(&address),
        Mode::Demo => demo::run(),
        Mode::DemoClient(url) => demo::client::run(&url),
        Mode::Run(typed) => return launch::run(*typed, streams),
    };
    match done {
        Ok(()) => Exit::SUCCESS,
        Err(why) => Exit::failed(format_args!("{why}")),
    }
}

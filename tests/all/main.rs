//! All integration tests, one module per subject; the laboratory is the crate `presocks_tests`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

// `#[test]` is not the compiler's in this crate: see `presocks_tests::harness`.
#[macro_use]
extern crate presocks_tests_macros;

mod artifact;
mod backstop;
mod banner;
mod behaviour;
mod bind;
mod c_client;
mod chains;
mod closing;
mod configuration;
mod curl;
mod datagram;
mod dns;
mod documents;
mod exit_status;
mod failover;
mod ftp;
mod git;
mod gssapi;
mod hostile;
mod isolation;
mod job_control;
mod kinds;
mod laboratory;
mod library;
mod limits;
mod lookup;
mod names;
mod negotiation;
mod netcat;
mod nmap;
mod no_reply;
mod node;
mod parallel;
mod pipes;
mod preflight;
mod proxy_variables;
mod python;
mod recipes;
mod relay;
mod rules;
mod sanitizers;
mod sequences;
mod serve;
mod sources;
mod ssh;
mod streams;
mod tls;
mod udp;
mod unix_socket;
mod wget;

fn main() -> std::process::ExitCode {
    presocks_tests::harness::main()
}

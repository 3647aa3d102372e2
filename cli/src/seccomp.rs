//! The backstop: what LD_PRELOAD does not reach still makes system calls, and those are caught here.
//!
//! Before exec the command's process installs a seccomp filter ([`filter`], [`install`]), which everything that it starts inherits. A call
//! that could reach the network, and does not carry the session's pass, waits in the kernel while the broker is notified
//! ([`listener`]); the broker reads what the call is about ([`call`], [`target`]) and answers it (`broker/notified.rs`). When the broker is gone,
//! the kernel answers for it: `ENOSYS`.
//!
//! This module holds the mechanism, and no policy beyond the filter's table.

pub(crate) mod call;
pub(crate) mod filter;
pub(crate) mod install;
pub(crate) mod listener;
pub(crate) mod target;

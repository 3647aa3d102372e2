//! What the kernel's socket calls mean: the judgements that do not depend on who looks.
//!
//! The shim looks from inside the program, the broker through a seccomp notification; both must come to the same result. So
//! everything here is a pure function of bytes and numbers: no system call, no pointer, no allocation, no panic.
//!
//! * [`sockaddr`]: the kernel's layout of socket addresses.
//! * [`socket`]: which sockets there may be, and what they are to us.
//! * [`decision`]: what becomes of connect().
//! * [`option`]: the socket options that send packets, or lead them past loopback.
//! * [`control`]: the control messages of sendmsg() that do so.
//! * [`probe`]: what the kernel says to the next connect() wherever it goes.
//! * [`pass`]: how a call of the shim's shows the seccomp filter that it has been judged already.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod control;
pub mod decision;
pub mod option;
pub mod pass;
pub mod probe;
pub mod sockaddr;
pub mod socket;

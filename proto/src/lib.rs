//! Every byte format that presocks speaks, as data in and data out.
//!
//! Nothing here does I/O, allocates, or knows the time: the shim uses it inside other people's processes, the
//! broker drives it with tokio, the tests drive it byte by byte.
//!
//! * [`session`]: what the broker hands to the wrapped command in the environment.
//! * [`frame`]: the requests and replies between shim and broker, one of each per ticket.
//! * [`name`]: a host name as it may stand in a frame and in a SOCKS request.
//! * [`standin`]: the reserved addresses that stand for names.
//! * [`target`]: what a proxy is asked to connect to.
//! * [`handshake`]: the client's side of what proxies of every kind speak, with an exact-read contract.
//! * [`socks5`]: that of RFC 1928 and RFC 1929.
//! * [`socks4`]: that of SOCKS4 and SOCKS4a.
//! * [`http`]: that of HTTP CONNECT.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod buffer;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod name;
pub mod session;
pub mod socks4;
pub mod socks5;
pub mod standin;
mod step;
pub mod target;

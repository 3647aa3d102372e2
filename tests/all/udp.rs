//! UDP through SOCKS5 UDP ASSOCIATE: datagrams arrive, answers come from where they came from, nothing leaks.
//!
//! * [`scene`]: the lab made ready. [`laboratory`]: the lab itself, without presocks.
//! * [`behaviour`]: programs of `tests/programs`, the same bare and wrapped. [`backstop`]: those that the shim cannot see.

mod backstop;
mod behaviour;
mod laboratory;
mod scene;

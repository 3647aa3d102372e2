//! UDP through SOCKS5 UDP ASSOCIATE: datagrams arrive, answers come from where they came from, nothing leaks.
//!
//! * [`scene`]: the lab made ready. [`laboratory`]: the lab itself, without presocks.
//! * [`behaviour`]: programs of `tests/programs`, the same bare and wrapped. [`backstop`]: those that the shim cannot see.
//! * [`associations`]: what a proxy is asked for and when. [`hostile`]: proxies that lie, and those that do not serve UDP.
//! * [`trials`]: what leads a datagram off its way, or another onto it.
//! * [`programs`], [`quic`]: real programs.

mod associations;
mod backstop;
mod behaviour;
mod hostile;
mod laboratory;
mod programs;
mod quic;
mod scene;
mod trials;

//! UDP through SOCKS5 UDP ASSOCIATE: datagrams arrive, answers come from where they came from, nothing leaks.
//!
//! * [`laboratory`]: the lab itself, without presocks.

mod laboratory;

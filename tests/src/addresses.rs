//! The hosts' addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The client's IPv6 address.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The proxy host's address on the client's side: where proxies listen.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The proxy host's IPv6 address on the client's side.
pub const PROXY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The origin's address.
pub const ORIGIN: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
/// The origin's IPv6 address.
pub const ORIGIN6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 2);
/// An address to which the proxy host has no route (its kernel answers EHOSTUNREACH).
pub const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

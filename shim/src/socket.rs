//! socket(): the kinds that could carry IP packets past the proxy are refused when they are made; and whether a socket was told to
//! send what is for loopback somewhere else.
#![allow(unsafe_code)]

use core::net::IpAddr;

use libc::c_int;

use crate::errno::{Errno, fail};
use crate::sockaddr::{self, Given};
use crate::sys;

redhook::hook! {
    // socket(2). Changes: see `refused`. Passes: TCP, MPTCP, UDP, and every family that carries no IP. Safe in a signal handler. No
    // cancellation point.
    unsafe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int => hooked_socket {
        if let Some(error) = refused(domain, kind, protocol) {
            return fail(error);
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(socket)(domain, kind, protocol) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(socket);
}

/// The errno for a socket that cannot be proxied: `EPERM` for raw, packet and ICMP sockets, as for a user without the
/// privilege; `EPROTONOSUPPORT` and `EAFNOSUPPORT` for what a kernel without that protocol or family answers.
fn refused(domain: c_int, kind: c_int, protocol: c_int) -> Option<Errno> {
    const AF_SMC: c_int = 43;
    const AF_XDP: c_int = 44;
    /// The obsolete way to a packet socket (packet(7)); libc deprecates the name.
    const SOCK_PACKET: c_int = 10;
    let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    match domain {
        libc::AF_PACKET | AF_XDP => Some(libc::EPERM),
        libc::AF_RDS | libc::AF_RXRPC | libc::AF_TIPC | AF_SMC => Some(libc::EAFNOSUPPORT),
        libc::AF_INET | libc::AF_INET6 => match (kind, protocol) {
            (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => None,
            (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => None,
            (libc::SOCK_DGRAM, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => Some(libc::EPERM),
            (libc::SOCK_RAW | SOCK_PACKET, _) => Some(libc::EPERM),
            // SCTP, DCCP, UDP-Lite, and what does not exist.
            _ => Some(libc::EPROTONOSUPPORT),
        },
        _ if kind == SOCK_PACKET => Some(libc::EPERM),
        _ => None,
    }
}

/// ipv6(7) has them not: `linux/in.h`, `linux/in6.h`.
pub(crate) const IP_UNICAST_IF: c_int = 50;
pub(crate) const IPV6_UNICAST_IF: c_int = 76;
pub(crate) const IPV6_2292RTHDR: c_int = 5;

/// Is this the index of a device other than lo? That has 1 in every network namespace; 0 is none.
pub(crate) fn is_not_loopback(device: c_int) -> bool {
    const LO: c_int = 1;
    device != 0 && device != LO
}

/// Is this loopback, or "this host", by which the kernel means it?
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Is the socket connected to a loopback address, whatever the program was told? The proxy and the sinks may be there.
pub(crate) fn speaks_to_loopback(fd: c_int) -> bool {
    let mut bytes = [0_u8; sockaddr::MAX_LEN];
    let peer = sys::peer_address(fd, &mut bytes).ok().and_then(|len| bytes.get(..len)).map(sockaddr::parse);
    matches!(peer, Some(Given::Ip(peer)) if is_loopback(peer.ip()))
}

/// Would a packet of this socket for a loopback address leave the machine? So it does when the socket is bound to another device, sends by
/// another (ip(7), `IP_UNICAST_IF`), or carries a source route, whose first stop is where the packet goes. What is no socket
/// is the kernel's to refuse.
pub(crate) fn leaves_loopback(fd: c_int) -> bool {
    let bound = match sys::option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX) {
        // Linux before 5.0 tells the name, or nothing.
        Err(libc::ENOPROTOOPT) => sys::option_len(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE) != Ok(0),
        device => device.is_ok_and(is_not_loopback),
    };
    let sends_by = |level, name| sys::option(fd, level, name).map(c_int::from_be);
    bound
        || sends_by(libc::IPPROTO_IP, IP_UNICAST_IF).is_ok_and(is_not_loopback)
        || sys::option_len(fd, libc::IPPROTO_IP, libc::IP_OPTIONS).is_ok_and(|len| len > 0)
        // An IPv4 socket has no IPv6 options.
        || sends_by(libc::IPPROTO_IPV6, IPV6_UNICAST_IF).is_ok_and(|device| {
            is_not_loopback(device)
                || sys::option_len(fd, libc::IPPROTO_IPV6, libc::IPV6_RTHDR).is_ok_and(|len| len > 0)
        })
}

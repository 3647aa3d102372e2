//! Sockets: the kinds that could carry anything past the proxy, and what a socket is to us.

use core::net::IpAddr;

use libc::c_int;

/// Families that carry nothing off the machine.
pub const LOCAL_FAMILIES: [c_int; 4] = [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_ALG, libc::AF_KEY];

/// XDP (`linux/socket.h`).
pub const AF_XDP: c_int = 44;

/// The obsolete way to a packet socket (packet(7)); libc deprecates the name.
pub const SOCK_PACKET: c_int = 10;

/// What a connect() says that waits while another thread dissolves its socket (`AF_UNSPEC`): `EPIPE` since Linux 6.7, `ECONNRESET` before.
pub const DISSOLVED: c_int = libc::EPIPE;

/// The errno for a socket that cannot be proxied, by the arguments of socket(2): `EPERM` for raw, packet and ICMP sockets, as for a
/// user without the privilege; `EPROTONOSUPPORT` and `EAFNOSUPPORT` for what a kernel without that protocol or family
/// answers. `None`: it may be made. Of the families only those may that are known to stay on the machine, and IP.
#[must_use]
pub fn refused(domain: c_int, kind: c_int, protocol: c_int) -> Option<c_int> {
    let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    match domain {
        libc::AF_INET | libc::AF_INET6 => match (kind, protocol) {
            (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => None,
            (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => None,
            (libc::SOCK_DGRAM, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => Some(libc::EPERM),
            (libc::SOCK_RAW | SOCK_PACKET, _) => Some(libc::EPERM),
            // SCTP, DCCP, UDP-Lite, and what does not exist.
            _ => Some(libc::EPROTONOSUPPORT),
        },
        libc::AF_PACKET | AF_XDP => Some(libc::EPERM),
        _ if LOCAL_FAMILIES.contains(&domain) => None,
        // Bluetooth, CAN, PPP, VSOCK, SMC, RDS, and what is still to come.
        _ => Some(libc::EAFNOSUPPORT),
    }
}

/// What a socket is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP or MPTCP.
    Stream,
    /// UDP.
    Datagram,
    /// A Unix or netlink socket, which knows no IP address.
    NotIp,
    /// Another protocol over IP, or a family that carries IP addresses by other means (SMC, RDS).
    Refused,
}

impl Kind {
    /// By `SO_DOMAIN` and `SO_PROTOCOL` (socket(7)).
    #[must_use]
    pub fn new(domain: c_int, protocol: c_int) -> Self {
        match (domain, protocol) {
            (libc::AF_UNIX | libc::AF_NETLINK, _) => Self::NotIp,
            (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => Self::Stream,
            (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_UDP) => Self::Datagram,
            _ => Self::Refused,
        }
    }
}

/// The device that an IPv4 socket sends by; ip(7) has it not: `linux/in.h`.
pub const IP_UNICAST_IF: c_int = 50;
/// The device that an IPv6 socket sends by; ipv6(7) has it not: `linux/in6.h`.
pub const IPV6_UNICAST_IF: c_int = 76;
/// A source route as RFC 2292 had it: `linux/in6.h`.
pub const IPV6_2292RTHDR: c_int = 5;

/// Is this the index of a device other than lo? That has 1 in every network namespace; 0 is none.
#[must_use]
pub fn is_not_loopback(device: c_int) -> bool {
    const LO: c_int = 1;
    device != 0 && device != LO
}

/// Is this loopback, or "this host", by which the kernel means it?
#[must_use]
pub fn is_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// May the address leave its machine, or have never been there, while a socket that is bound to it speaks to loopback? So may an IPv6 one; what
/// loopback answers goes where the routes lead then. An IPv4 socket has no route without its address. One that is bound to a group's address has
/// another source.
#[must_use]
pub fn may_leave(address: IpAddr) -> bool {
    address.to_canonical().is_ipv6() && !is_loopback(address) && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_mptcp_udp_and_what_carries_no_ip_may_be_made() {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        for domain in [libc::AF_INET, libc::AF_INET6] {
            for (kind, protocol) in [
                (libc::SOCK_STREAM, 0),
                (libc::SOCK_STREAM, libc::IPPROTO_TCP),
                (libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
                (libc::SOCK_DGRAM, 0),
                (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
            ] {
                assert_eq!(refused(domain, kind, protocol), None);
                assert_eq!(refused(domain, kind | flags, protocol), None);
            }
        }
        assert_eq!(refused(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0), None);
        // ip(8), sudo and glibc need it.
        assert_eq!(refused(libc::AF_NETLINK, libc::SOCK_RAW, 0), None);
    }

    #[test]
    fn raw_packet_icmp_and_other_transports_are_refused() {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        for (domain, kind, protocol, error) in [
            (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP, libc::EPERM),
            (libc::AF_INET6, libc::SOCK_RAW | flags, libc::IPPROTO_ICMPV6, libc::EPERM),
            (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP, libc::EPERM),
            (libc::AF_INET, 10, 0, libc::EPERM),
            (libc::AF_PACKET, libc::SOCK_DGRAM, 0, libc::EPERM),
            (44, libc::SOCK_RAW, 0, libc::EPERM),
            (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP, libc::EPROTONOSUPPORT),
            (libc::AF_INET, libc::SOCK_SEQPACKET, 0, libc::EPROTONOSUPPORT),
            (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, libc::EPROTONOSUPPORT),
            (43, libc::SOCK_STREAM, 0, libc::EAFNOSUPPORT),
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0, libc::EAFNOSUPPORT),
            (libc::AF_BLUETOOTH, libc::SOCK_RAW, 0, libc::EAFNOSUPPORT),
            (libc::AF_TIPC, libc::SOCK_DGRAM, 0, libc::EAFNOSUPPORT),
        ] {
            assert_eq!(refused(domain, kind, protocol), Some(error), "{domain} {kind} {protocol}");
        }
    }

    #[test]
    fn a_socket_is_what_its_domain_and_protocol_say() {
        for (domain, protocol, kind) in [
            (libc::AF_INET, libc::IPPROTO_TCP, Kind::Stream),
            (libc::AF_INET6, libc::IPPROTO_MPTCP, Kind::Stream),
            (libc::AF_INET6, libc::IPPROTO_UDP, Kind::Datagram),
            (libc::AF_UNIX, 0, Kind::NotIp),
            (libc::AF_NETLINK, libc::NETLINK_ROUTE, Kind::NotIp),
            (libc::AF_INET, libc::IPPROTO_SCTP, Kind::Refused),
            (libc::AF_VSOCK, 0, Kind::Refused),
            (43, libc::IPPROTO_TCP, Kind::Refused),
        ] {
            assert_eq!(Kind::new(domain, protocol), kind, "{domain} {protocol}");
        }
    }

    #[test]
    fn an_ipv6_address_may_leave_but_not_loopback() {
        for (text, may) in [
            ("2001:db8::1", true),
            ("fe80::1", true),
            ("::1", false),
            ("::", false),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.1", false),
            ("ff02::fb", false),
        ] {
            assert_eq!(may_leave(text.parse().unwrap()), may, "{text}");
        }
    }

    #[test]
    fn loopback_is_lo_and_its_addresses_and_this_host() {
        assert!(!is_not_loopback(0) && !is_not_loopback(1) && is_not_loopback(2) && is_not_loopback(-1));
        for (text, is) in [
            ("127.0.0.2", true),
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(text.parse().unwrap()), is, "{text}");
        }
    }
}

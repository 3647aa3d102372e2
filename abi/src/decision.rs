//! What becomes of connect() to an IP address: the one decision, for the calls that the shim sees and for those that the seccomp filter catches.

use core::net::SocketAddr;

use libc::c_int;

use crate::sockaddr::is_local;
use crate::socket::Kind;

/// What the decision needs to know of a socket. Most of it takes a system call: it is asked only where it counts, and once.
pub trait Facts {
    /// Why the kernel does not tell.
    type Error;

    /// See [`Kind`].
    fn kind(&self) -> Kind;

    /// `SO_DOMAIN` (socket(7)).
    fn domain(&self) -> c_int;

    /// Does the broker connect it for somebody already?
    ///
    /// # Errors
    /// The kernel does not tell which socket it is.
    fn is_under_way(&self) -> Result<bool, Self::Error>;

    /// Would a packet of its for a loopback address leave the machine, by another device or a source route? What cannot be told is taken for the worse.
    fn leaves_loopback(&self) -> bool;

    /// Is it bound to an address that is none of loopback's? What loopback answers to that may leave the machine, once the address has. What cannot be told
    /// is taken for the worse.
    fn is_bound_off_loopback(&self) -> bool;

    /// `IPV6_V6ONLY` (ipv6(7)).
    ///
    /// # Errors
    /// The kernel does not tell.
    fn is_v6_only(&self) -> Result<bool, Self::Error>;
}

/// What becomes of connect().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// No address of IP's matters to the socket, or none of this family: the kernel refuses it, and is asked with an address that leads nowhere.
    Refused,
    /// `ENETUNREACH`: there is no way from this socket that stays within the proxy.
    Unreachable,
    /// The same, unless the kernel has something else to say of the socket: that it is connected, say.
    OutOfReach,
    /// `EALREADY`, or the end of the attempt that is under way.
    UnderWay,
    /// The kernel makes it, to loopback. A rule may speak against it.
    Loopback,
    /// The broker connects the socket: by way of proxies, or directly where rules say so.
    Broker,
    /// A datagram socket, which sends nothing yet.
    Datagram,
}

/// Decides. What the kernel says of a socket's state comes before all of this, and is not looked at here.
///
/// # Errors
/// The first fact that is needed and cannot be had.
pub fn connect<F: Facts>(destination: SocketAddr, facts: &F) -> Result<Connect, F::Error> {
    match facts.kind() {
        Kind::NotIp => return Ok(Connect::Refused),
        Kind::Refused => return Ok(Connect::Unreachable),
        Kind::Datagram => return Ok(Connect::Datagram),
        Kind::Stream => {}
    }
    // The kernel would be done when the proxy is reached.
    if facts.is_under_way()? {
        return Ok(Connect::UnderWay);
    }
    let family = if destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    if facts.domain() != family {
        return Ok(Connect::Refused);
    }
    if is_local(destination) {
        if facts.leaves_loopback() {
            return Ok(Connect::Unreachable);
        }
        // Else the broker sees to it that the answers stay here.
        if !facts.is_bound_off_loopback() {
            return Ok(Connect::Loopback);
        }
    }
    let is_mapped = destination.is_ipv6() && destination.ip().to_canonical().is_ipv4();
    if is_mapped && facts.is_v6_only()? {
        return Ok(Connect::OutOfReach);
    }
    Ok(Connect::Broker)
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::vec::Vec;

    use super::*;

    const KINDS: [Kind; 4] = [Kind::Stream, Kind::Datagram, Kind::NotIp, Kind::Refused];

    /// Of each class one: its address, and whether it is loopback's.
    const DESTINATIONS: [(&str, bool); 16] = [
        ("127.0.0.1:9", true),
        ("127.8.9.1:9", true),
        ("0.0.0.0:9", true),
        ("127.0.0.53:53", false),
        ("192.0.2.7:9", false),
        ("192.0.2.53:53", false),
        ("224.0.0.1:9", false),
        ("255.255.255.255:9", false),
        ("[::1]:9", true),
        ("[::]:9", true),
        ("[::1]:53", false),
        ("[2001:db8::7]:9", false),
        ("[fe80::1]:9", false),
        ("[ff02::1]:9", false),
        ("[::ffff:127.0.0.1]:9", true),
        ("[::ffff:192.0.2.7]:9", false),
    ];

    /// A socket of which all is known; it counts how often each fact is asked for.
    #[derive(Clone)]
    struct Socket {
        kind: Kind,
        domain: c_int,
        facts: [Option<bool>; 4],
        asked: [Cell<u32>; 4],
    }

    impl Socket {
        fn fact(&self, place: usize) -> Option<bool> {
            self.asked[place].set(self.asked[place].get() + 1);
            self.facts[place]
        }
    }

    impl Facts for Socket {
        type Error = usize;

        fn kind(&self) -> Kind {
            self.kind
        }

        fn domain(&self) -> c_int {
            self.domain
        }

        fn is_under_way(&self) -> Result<bool, usize> {
            self.fact(0).ok_or(0)
        }

        fn leaves_loopback(&self) -> bool {
            self.fact(1).unwrap_or(true)
        }

        fn is_bound_off_loopback(&self) -> bool {
            self.fact(2).unwrap_or(true)
        }

        fn is_v6_only(&self) -> Result<bool, usize> {
            self.fact(3).ok_or(3)
        }
    }

    fn sockets() -> impl Iterator<Item = Socket> {
        let domains = [libc::AF_INET, libc::AF_INET6];
        let kinds = KINDS.into_iter().flat_map(move |kind| domains.map(|domain| (kind, domain)));
        let values = [Some(false), Some(true), None];
        let facts: Vec<[Option<bool>; 4]> = values
            .iter()
            .flat_map(|a| values.iter().map(move |b| (*a, *b)))
            .flat_map(|(a, b)| values.iter().map(move |c| (a, b, *c)))
            .flat_map(|(a, b, c)| values.iter().map(move |d| [a, b, c, *d]))
            .collect();
        kinds.flat_map(move |(kind, domain)| {
            let facts = facts.clone();
            facts.into_iter().map(move |facts| Socket { kind, domain, facts, asked: Default::default() })
        })
    }

    /// The whole product, each time with the one answer, said by other words than the decision's own.
    #[test]
    fn each_socket_and_destination_has_one_answer() {
        let mut seen = 0;
        for (text, is_local) in DESTINATIONS {
            let destination: SocketAddr = text.parse().unwrap();
            let family = if destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
            let is_mapped = text.contains("::ffff:");
            for socket in sockets() {
                let [under_way, leaves, off_loopback, v6_only] = socket.facts;
                let stays = is_local && leaves == Some(false);
                let expected = match (socket.kind, under_way) {
                    (Kind::NotIp, _) => Ok(Connect::Refused),
                    (Kind::Refused, _) => Ok(Connect::Unreachable),
                    (Kind::Datagram, _) => Ok(Connect::Datagram),
                    (Kind::Stream, None) => Err(0),
                    (Kind::Stream, Some(true)) => Ok(Connect::UnderWay),
                    (Kind::Stream, Some(false)) if socket.domain != family => Ok(Connect::Refused),
                    (Kind::Stream, Some(false)) if is_local && !stays => Ok(Connect::Unreachable),
                    (Kind::Stream, Some(false)) if stays && off_loopback == Some(false) => {
                        Ok(Connect::Loopback)
                    }
                    (Kind::Stream, Some(false)) if is_mapped => match v6_only {
                        Some(true) => Ok(Connect::OutOfReach),
                        Some(false) => Ok(Connect::Broker),
                        None => Err(3),
                    },
                    (Kind::Stream, Some(false)) => Ok(Connect::Broker),
                };
                assert_eq!(connect(destination, &socket), expected, "{text} {:?}", socket.facts);
                assert!(socket.asked.iter().all(|count| count.get() <= 1), "{text} {:?}", socket.facts);
                seen += 1;
            }
        }
        assert_eq!(seen, 16 * 4 * 2 * 81);
    }

    /// What makes the table safe: the kernel connects a stream to loopback only, from a socket whose packets stay there.
    #[test]
    fn nothing_that_leads_off_the_machine_is_the_kernels() {
        for (text, _) in DESTINATIONS {
            let destination: SocketAddr = text.parse().unwrap();
            for socket in sockets() {
                if connect(destination, &socket) == Ok(Connect::Loopback) {
                    let ip = destination.ip().to_canonical();
                    assert!((ip.is_loopback() || ip.is_unspecified()) && destination.port() != 53, "{text}");
                    assert_eq!(socket.facts[..3], [Some(false); 3], "{text}");
                }
            }
        }
    }

    #[test]
    fn a_fact_is_asked_for_only_where_it_counts() {
        let plain = Socket {
            kind: Kind::Stream,
            domain: libc::AF_INET,
            facts: [Some(false); 4],
            asked: Default::default(),
        };
        let asked = |text: &str, socket: &Socket| {
            let socket = socket.clone();
            connect(text.parse().unwrap(), &socket).unwrap();
            socket.asked.map(|count| count.get())
        };
        assert_eq!(asked("192.0.2.7:9", &plain), [1, 0, 0, 0]);
        assert_eq!(asked("127.0.0.1:9", &plain), [1, 1, 1, 0]);
        assert_eq!(asked("[::1]:9", &plain), [1, 0, 0, 0]);
        let v6 = Socket { domain: libc::AF_INET6, ..plain };
        assert_eq!(asked("[2001:db8::7]:9", &v6), [1, 0, 0, 0]);
        assert_eq!(asked("[::ffff:192.0.2.7]:9", &v6), [1, 0, 0, 1]);
        assert_eq!(asked("192.0.2.7:9", &Socket { kind: Kind::Datagram, ..v6 }), [0; 4]);
    }
}

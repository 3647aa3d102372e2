//! Socket addresses between the kernel's layout and [`SocketAddr`].
//!
//! What is judged is a copy, and what is passed on must be that copy, made anew by [`Encoded`]: so that the address that was
//! judged is the address that is used.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{c_int, sockaddr, socklen_t};

/// Length of `struct sockaddr_in6`, the longest that is made and the most that is looked at.
pub const MAX_LEN: usize = size_of::<libc::sockaddr_in6>();
const V4_LEN: usize = size_of::<libc::sockaddr_in>();
/// The kernel accepts a `sockaddr_in6` without scope (RFC 2133).
const V6_SHORT_LEN: usize = 24;

/// An address as a program passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// None, or one so short or so placed that only the kernel can say what is wrong with it.
    Unreadable,
    /// `AF_UNSPEC`; with room for an IPv4 address, that address: udp(7) sends there all the same.
    Unspecified(Option<SocketAddr>),
    /// An IP destination.
    Ip(SocketAddr),
    /// Another family.
    Other,
}

/// Reads the kernel's layout; of a longer address its first [`MAX_LEN`] bytes are enough.
#[must_use]
pub fn parse(bytes: &[u8]) -> Given {
    let Some((family, _)) = bytes.split_first_chunk::<2>() else {
        return Given::Unreadable;
    };
    match c_int::from(u16::from_ne_bytes(*family)) {
        libc::AF_UNSPEC => Given::Unspecified(parse_v4(bytes)),
        libc::AF_INET => parse_v4(bytes).map_or(Given::Unreadable, Given::Ip),
        libc::AF_INET6 => parse_v6(bytes).map_or(Given::Unreadable, Given::Ip),
        _ => Given::Other,
    }
}

fn parse_v4(bytes: &[u8]) -> Option<SocketAddr> {
    if bytes.len() < V4_LEN {
        return None;
    }
    let port = u16::from_be_bytes(field(bytes, 2)?);
    Some(SocketAddr::from((Ipv4Addr::from(field::<4>(bytes, 4)?), port)))
}

fn parse_v6(bytes: &[u8]) -> Option<SocketAddr> {
    if bytes.len() < V6_SHORT_LEN {
        return None;
    }
    let port = u16::from_be_bytes(field(bytes, 2)?);
    let flow = u32::from_be_bytes(field(bytes, 4)?);
    let address = Ipv6Addr::from(field::<16>(bytes, 8)?);
    let scope = field(bytes, V6_SHORT_LEN).map_or(0, u32::from_ne_bytes);
    Some(SocketAddrV6::new(address, port, flow, scope).into())
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// An address in the kernel's layout.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Encoded {
    /// `sockaddr_in` or `sockaddr_in6`, as the address has it.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let mut bytes = [0; MAX_LEN];
        let len = match address {
            SocketAddr::V4(v4) => {
                put(&mut bytes, 0, &(libc::AF_INET as u16).to_ne_bytes());
                put(&mut bytes, 4, &v4.ip().octets());
                V4_LEN
            }
            SocketAddr::V6(v6) => {
                put(&mut bytes, 0, &(libc::AF_INET6 as u16).to_ne_bytes());
                put(&mut bytes, 4, &v6.flowinfo().to_be_bytes());
                put(&mut bytes, 8, &v6.ip().octets());
                put(&mut bytes, V6_SHORT_LEN, &v6.scope_id().to_ne_bytes());
                MAX_LEN
            }
        };
        put(&mut bytes, 2, &address.port().to_be_bytes());
        Self { bytes, len }
    }

    /// The bytes for a system call.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Pointer and length for a libc call, good for as long as this value lives.
    #[must_use]
    pub fn as_arguments(&self) -> (*const sockaddr, socklen_t) {
        (self.bytes.as_ptr().cast(), self.len as socklen_t)
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// `address` as a socket of this family shows it: an IPv6 socket shows IPv4 peers mapped (ipv6(7)).
#[must_use]
pub fn in_family(address: SocketAddr, family: c_int) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if family == libc::AF_INET6 => {
            SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
        }
        _ => address,
    }
}

/// Loopback, or "this host" (connecting to 0.0.0.0 or :: reaches the loopback): what never leaves the machine. Except port 53: a resolver
/// there would ask the network in the program's stead, so the broker judges it.
#[must_use]
pub fn is_local(destination: SocketAddr) -> bool {
    const DOMAIN: u16 = 53;
    let address = destination.ip().to_canonical();
    (address.is_loopback() || address.is_unspecified()) && destination.port() != DOMAIN
}

/// An address by which connect() fails at once on an IPv6 TCP socket, and sends nothing. Linux leaves such a socket with IPv4's functions after
/// it was connected to an IPv4-mapped address and dissolved: a later connect() to an IPv6 address then sends its SYN to the *former*
/// IPv4 address. A connect() to a mapped address that fails in the routing table, as a broadcast does, gives it IPv6's functions back.
pub const MAPPED_BROADCAST: SocketAddr =
    SocketAddr::V6(SocketAddrV6::new(Ipv4Addr::BROADCAST.to_ipv6_mapped(), 9, 0, 0));

/// Is this the Unix socket (unix(7)) of a resolver of this machine, which would ask the network in the program's stead? `bytes` is the whole
/// address. /var/run is /run.
#[must_use]
pub fn is_resolver(bytes: &[u8]) -> bool {
    const RESOLVERS: [&[u8]; 3] =
        [b"/run/nscd/socket", b"/run/systemd/resolve/io.systemd.Resolve", b"/run/avahi-daemon/socket"];
    let Some((family, path)) = bytes.split_first_chunk::<2>() else {
        return false;
    };
    let path = path.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let path = path.strip_prefix(b"/var").filter(|rest| rest.starts_with(b"/run/")).unwrap_or(path);
    c_int::from(u16::from_ne_bytes(*family)) == libc::AF_UNIX && RESOLVERS.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_encoded_address_is_read_as_itself() {
        for text in ["192.0.2.7:443", "[2001:db8::1]:53", "[fe80::1%3]:9", "0.0.0.0:0"] {
            assert_eq!(parse(Encoded::new(address(text)).as_bytes()), Given::Ip(address(text)), "{text}");
        }
        let flow = SocketAddr::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0x0001_2345, 7));
        assert_eq!(parse(Encoded::new(flow).as_bytes()), Given::Ip(flow));
    }

    #[test]
    fn a_short_address_is_the_kernels_to_refuse_but_for_an_ipv6_one_without_scope() {
        let (v4, v6) = (Encoded::new(address("192.0.2.7:443")), Encoded::new(address("[fe80::1%3]:9")));
        for len in 0..V4_LEN {
            assert_eq!(parse(&v4.as_bytes()[..len]), Given::Unreadable, "{len}");
        }
        for len in 0..V6_SHORT_LEN {
            assert_eq!(parse(&v6.as_bytes()[..len]), Given::Unreadable, "{len}");
        }
        assert_eq!(parse(&v6.as_bytes()[..V6_SHORT_LEN]), Given::Ip(address("[fe80::1]:9")));
    }

    #[test]
    fn no_family_has_an_ipv4_address_where_there_is_room_for_one() {
        assert_eq!(parse(&[0, 0]), Given::Unspecified(None));
        let mut bytes = [0_u8; MAX_LEN];
        bytes[2..8].copy_from_slice(&[0, 80, 192, 0, 2, 7]);
        assert_eq!(parse(&bytes), Given::Unspecified(Some(address("192.0.2.7:80"))));
    }

    #[test]
    fn another_family_is_another_family() {
        let mut bytes = [0_u8; 110];
        bytes[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
        assert_eq!(parse(&bytes), Given::Other);
    }

    #[test]
    fn a_resolver_is_known_by_the_path_of_its_socket() {
        let named = |family: c_int, path: &[u8]| [&(family as u16).to_ne_bytes()[..], path].concat();
        for path in [&b"/run/nscd/socket"[..], b"/var/run/nscd/socket\0junk", b"/run/avahi-daemon/socket\0"] {
            assert!(is_resolver(&named(libc::AF_UNIX, path)), "{path:?}");
            assert!(!is_resolver(&named(libc::AF_INET, path)), "{path:?}");
        }
        for path in [&b""[..], b"\0/run/nscd/socket", b"/run/nscd/socket2", b"/var/tmp", b"/tmp/.X11-unix/X0"]
        {
            assert!(!is_resolver(&named(libc::AF_UNIX, path)), "{path:?}");
        }
    }

    #[test]
    fn an_ipv6_socket_shows_ipv4_peers_mapped() {
        assert_eq!(in_family(address("192.0.2.7:80"), libc::AF_INET6), address("[::ffff:192.0.2.7]:80"));
        assert_eq!(in_family(address("192.0.2.7:80"), libc::AF_INET), address("192.0.2.7:80"));
        assert_eq!(in_family(address("[::1]:80"), libc::AF_INET6), address("[::1]:80"));
    }

    #[test]
    fn loopback_is_local_but_for_a_resolver() {
        for local in
            ["127.0.0.1:80", "127.9.9.9:1", "[::1]:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80"]
        {
            assert!(is_local(address(local)), "{local}");
        }
        for not in ["127.0.0.1:53", "[::1]:53", "192.0.2.7:80", "[::ffff:192.0.2.7]:80", "169.254.0.1:80"] {
            assert!(!is_local(address(not)), "{not}");
        }
    }
}

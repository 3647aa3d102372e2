//! Socket addresses between the program's memory, the kernel's layout and [`SocketAddr`].
//!
//! A program's pointer is read once, into an aligned local; what is passed on is the local copy, so that the address that
//! was judged is the address that is used.
#![allow(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{c_int, sockaddr, socklen_t};

/// Length of `struct sockaddr_in6`, the longest that we make.
pub(crate) const MAX_LEN: usize = size_of::<libc::sockaddr_in6>();
const V4_LEN: usize = size_of::<libc::sockaddr_in>();
/// The kernel accepts a `sockaddr_in6` without scope (RFC 2133).
const V6_SHORT_LEN: usize = 24;

/// An address as a program passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// None, or one so short or so placed that only the kernel can say what is wrong with it.
    Unreadable,
    /// `AF_UNSPEC`; with room for an IPv4 address, that address: udp(7) sends there all the same.
    Unspecified(Option<SocketAddr>),
    /// An IP destination.
    Ip(SocketAddr),
    /// Another family.
    Other,
}

/// Reads the address at `pointer`, as far as an IP address goes. (The kernel refuses lengths beyond `sockaddr_storage` in connect() and
/// sendto(), and cuts them in sendmsg().)
///
/// # Safety
/// `pointer` is null or has `len` readable bytes, as the call that is hooked demands of its caller.
pub(crate) unsafe fn read(pointer: *const sockaddr, len: socklen_t) -> Given {
    let len = (len as usize).min(MAX_LEN);
    if pointer.is_null() || len < size_of::<libc::sa_family_t>() {
        return Given::Unreadable;
    }
    let mut bytes = [0_u8; MAX_LEN];
    // SAFETY: `len` bytes are readable (caller) and fit the array (min above); the two do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(pointer.cast::<u8>(), bytes.as_mut_ptr(), len) };
    parse(bytes.get(..len).unwrap_or(&[]))
}

/// Reads the kernel's layout.
pub(crate) fn parse(bytes: &[u8]) -> Given {
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
#[derive(Clone, Copy)]
pub(crate) struct Encoded {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Encoded {
    /// `sockaddr_in` or `sockaddr_in6`, as the address has it.
    pub(crate) fn new(address: SocketAddr) -> Self {
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
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Pointer and length for a libc call.
    pub(crate) fn as_arguments(&self) -> (*const sockaddr, socklen_t) {
        (self.bytes.as_ptr().cast(), self.len as socklen_t)
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// `address` as a socket of this family shows it: an IPv6 socket shows IPv4 peers mapped (ipv6(7)).
pub(crate) fn in_family(address: SocketAddr, family: c_int) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if family == libc::AF_INET6 => {
            SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
        }
        _ => address,
    }
}

/// Loopback, or "this host" (connecting to 0.0.0.0 or :: reaches the loopback): what never leaves the machine. Except port 53: a resolver
/// there would ask the network in the program's stead, so the broker judges it.
pub(crate) fn is_local(destination: SocketAddr) -> bool {
    const DOMAIN: u16 = 53;
    let address = destination.ip().to_canonical();
    (address.is_loopback() || address.is_unspecified()) && destination.port() != DOMAIN
}

//! Control messages of sendmsg() that send a packet elsewhere than its address says (ip(7), ipv6(7), RFC 3542).
//!
//! A source route goes nowhere: its first stop is not the address that is judged. A device other than lo takes a packet for loopback off the
//! machine. Both are `ENETUNREACH`; all other control messages are the kernel's.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::c_int;

use crate::socket::{self, is_not_loopback};

/// RFC 2292's form of `IPV6_PKTINFO`.
const IPV6_2292PKTINFO: c_int = 2;

/// How the program that sends lays out `struct cmsghdr` (cmsg(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A 32-bit program: a header of 12 bytes, the next one at a multiple of 4.
    W32,
    /// A 64-bit program: a header of 16 bytes, the next one at a multiple of 8.
    W64,
}

impl Width {
    /// The layout that this very code is compiled for.
    pub const OWN: Self = if size_of::<usize>() == 4 { Self::W32 } else { Self::W64 };

    /// Length of `cmsg_len`, and the boundary that each header begins at.
    const fn word(self) -> usize {
        match self {
            Self::W32 => 4,
            Self::W64 => 8,
        }
    }

    /// Length of `struct cmsghdr`.
    const fn header(self) -> usize {
        self.word() + 2 * size_of::<c_int>()
    }
}

/// Judges the control messages of a send: `bytes` is all of `msg_control`. `is_local`, asked only if it matters: does the
/// packet go to loopback, by its address or by the socket's peer?
///
/// # Errors
/// `ENETUNREACH` for a packet that would not go where its address says.
pub fn judge(bytes: &[u8], width: Width, mut is_local: impl FnMut() -> bool) -> Result<(), c_int> {
    let mut rest = bytes;
    // What is malformed ends the search: it is for the kernel to refuse.
    while let Some((header, value)) = next(rest, width) {
        match way(&header, value) {
            Way::Routed => return Err(libc::ENETUNREACH),
            Way::Device(device) if is_not_loopback(device) && is_local() => return Err(libc::ENETUNREACH),
            Way::Device(_) | Way::AsAddressed => {}
        }
        let taken = header.len.next_multiple_of(width.word());
        rest = rest.get(taken..).unwrap_or(&[]);
    }
    Ok(())
}

/// The source that control messages name, if any: the last one's, as the kernel has it.
#[must_use]
pub fn source(bytes: &[u8], width: Width) -> Option<IpAddr> {
    let (mut rest, mut source) = (bytes, None);
    while let Some((header, value)) = next(rest, width) {
        source = source_of(&header, value).or(source);
        rest = rest.get(header.len.next_multiple_of(width.word())..).unwrap_or(&[]);
    }
    source
}

/// The source that this one names: `ipi_spec_dst` of a `struct in_pktinfo`, `ipi6_addr` of a `struct in6_pktinfo`.
fn source_of(header: &Header, value: &[u8]) -> Option<IpAddr> {
    let source: IpAddr = match (header.level, header.kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => (*value.get(4..)?.first_chunk::<4>()?).into(),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO | IPV6_2292PKTINFO) => (*value.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(source.to_canonical()).filter(|source| !source.is_unspecified())
}

/// The descriptors that control messages carry to another process (unix(7), `SCM_RIGHTS`).
pub fn descriptors(bytes: &[u8], width: Width) -> impl Iterator<Item = c_int> + '_ {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let (header, value) = next(rest, width)?;
        rest = rest.get(header.len.next_multiple_of(width.word())..).unwrap_or(&[]);
        let is_rights = (header.level, header.kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        Some(if is_rights { value } else { &[] })
    })
    .flat_map(|value| value.chunks_exact(size_of::<c_int>()).filter_map(|number| number.first_chunk()))
    .map(|number| c_int::from_ne_bytes(*number))
}

/// lo is the first device of every network namespace.
const LOOPBACK: c_int = 1;

/// Which control message names the device that a packet leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// To an IPv4 address, mapped or not: `IP_PKTINFO` (ip(7)); an IPv6 socket also reads `IPV6_PKTINFO` with a mapped address.
    V4,
    /// To an IPv6 address: `IPV6_PKTINFO` (RFC 3542).
    V6,
}

/// Room that [`pin`] needs beyond the control messages that there are.
pub const PIN_ROOM: usize = 48;

/// Makes a packet leave by lo, whatever the socket is bound to, and whoever binds it meanwhile: the first `len` bytes of `bytes` are the program's
/// control messages, in our own layout. One that names a device names lo from now on; if none is sure to be read, one is added. For IPv4 that one names
/// the source, too: the program's, from a message that only an IPv6 socket reads, else `source`, the socket's own address, without which the kernel
/// would choose one. Gives the new length.
///
/// # Errors
/// `EINVAL` for what is malformed, as the kernel has it; `ENOBUFS` when there is no room.
pub fn pin(bytes: &mut [u8], len: usize, family: Family, mut source: Ipv4Addr) -> Result<usize, c_int> {
    let width = Width::OWN;
    let (mut at, mut is_pinned) = (0, false);
    while at + width.header() <= len {
        let given = bytes.get(at..len).ok_or(libc::EINVAL)?;
        let (header, value) = next(given, width).ok_or(libc::EINVAL)?;
        let device = device_at(&header).filter(|device| device + size_of::<c_int>() <= value.len());
        if family == Family::V4 && header.level == libc::IPPROTO_IPV6 && device.is_some() {
            source = mapped_source(value).unwrap_or(source);
        }
        let value_at = at + width.header();
        if let Some(device) = device {
            put(bytes, value_at + device, &LOOPBACK.to_ne_bytes());
            is_pinned |= is_read(&header, family);
        }
        at += header.len.next_multiple_of(width.word());
    }
    if is_pinned {
        return Ok(len);
    }
    let at = at.min(len.next_multiple_of(width.word()));
    let (level, kind, size, device) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_PKTINFO, 12, 0),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20, 16),
    };
    let header_len = width.header() + size;
    let end = at + header_len.next_multiple_of(width.word());
    bytes.get_mut(at..end).ok_or(libc::ENOBUFS)?.fill(0);
    put_header(bytes, at, size, level, kind);
    if family == Family::V4 {
        put(bytes, at + width.header() + size_of::<c_int>(), &source.octets());
    }
    put(bytes, at + width.header() + device, &LOOPBACK.to_ne_bytes());
    Ok(end)
}

/// Does every socket that sends to this family read the device from this message? To an IPv4 address an IPv4 socket skips those of IPv6, and an IPv6
/// socket reads RFC 3542's form alone (`ip_cmsg_send` in the kernel); which of them it is may change until the packet is sent.
fn is_read(header: &Header, family: Family) -> bool {
    match family {
        Family::V4 => header.level == libc::IPPROTO_IP,
        Family::V6 => header.level == libc::IPPROTO_IPV6,
    }
}

/// The IPv4 source that a `struct in6_pktinfo` names.
fn mapped_source(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk::<16>().and_then(|address| Ipv6Addr::from(*address).to_ipv4_mapped())
}

/// Lays out control messages anew, from the program's layout to our own, as the kernel does for a 32-bit program: the headers differ, the values
/// do not. Gives the new length; twice the length of `bytes` is room enough.
///
/// # Errors
/// `EINVAL` for what is malformed, `ENOBUFS` when there is no room.
pub fn translate(bytes: &[u8], width: Width, to: &mut [u8]) -> Result<usize, c_int> {
    if width == Width::OWN {
        to.get_mut(..bytes.len()).ok_or(libc::ENOBUFS)?.copy_from_slice(bytes);
        return Ok(bytes.len());
    }
    let (mut rest, mut at) = (bytes, 0);
    while rest.len() >= width.header() {
        let (header, value) = next(rest, width).ok_or(libc::EINVAL)?;
        let end = at + (Width::OWN.header() + value.len()).next_multiple_of(Width::OWN.word());
        to.get_mut(at..end).ok_or(libc::ENOBUFS)?.fill(0);
        put_header(to, at, value.len(), header.level, header.kind);
        put(to, at + Width::OWN.header(), value);
        at = end;
        rest = rest.get(header.len.next_multiple_of(width.word())..).unwrap_or(&[]);
    }
    if at == 0 { Err(libc::EINVAL) } else { Ok(at) }
}

/// May the kernel want a privilege of the sender for one of these control messages, in our own layout? So it does for `SO_MARK`, for high priorities
/// and for IPv6 extension headers; what is not known counts as one of these.
#[must_use]
pub fn may_need_privilege(bytes: &[u8]) -> bool {
    const UDP_SEGMENT: c_int = 103;
    const IPV6_2292HOPLIMIT: c_int = 8;
    let mut rest = bytes;
    while let Some((header, _)) = next(rest, Width::OWN) {
        let is_known = matches!(
            (header.level, header.kind),
            (libc::IPPROTO_IP, libc::IP_PKTINFO | libc::IP_TTL | libc::IP_TOS)
                | (
                    libc::IPPROTO_IPV6,
                    libc::IPV6_PKTINFO
                        | IPV6_2292PKTINFO
                        | libc::IPV6_HOPLIMIT
                        | IPV6_2292HOPLIMIT
                        | libc::IPV6_TCLASS
                        | libc::IPV6_DONTFRAG
                )
                | (libc::IPPROTO_UDP, UDP_SEGMENT)
        );
        if !is_known {
            return true;
        }
        rest = rest.get(header.len.next_multiple_of(Width::OWN.word())..).unwrap_or(&[]);
    }
    false
}

/// Where in its value a control message has the device.
fn device_at(header: &Header) -> Option<usize> {
    match (header.level, header.kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => Some(0),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO | IPV6_2292PKTINFO) => Some(16),
        _ => None,
    }
}

/// `struct cmsghdr` of our own layout, before a value of `value_len` bytes.
fn put_header(bytes: &mut [u8], at: usize, value_len: usize, level: c_int, kind: c_int) {
    let width = Width::OWN;
    let len = width.header() + value_len;
    match width {
        Width::W32 => put(bytes, at, &(len as u32).to_ne_bytes()),
        Width::W64 => put(bytes, at, &(len as u64).to_ne_bytes()),
    }
    put(bytes, at + width.word(), &level.to_ne_bytes());
    put(bytes, at + width.word() + size_of::<c_int>(), &kind.to_ne_bytes());
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// `struct cmsghdr`.
struct Header {
    len: usize,
    level: c_int,
    kind: c_int,
}

/// The header at the start of `bytes`, and its value.
fn next(bytes: &[u8], width: Width) -> Option<(Header, &[u8])> {
    let len = match width {
        Width::W32 => usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)),
        Width::W64 => usize::try_from(u64::from_ne_bytes(*bytes.first_chunk()?)),
    };
    let header = Header {
        len: len.ok()?,
        level: number(bytes, width.word())?,
        kind: number(bytes, width.word() + size_of::<c_int>())?,
    };
    let value = bytes.get(width.header()..header.len)?;
    Some((header, value))
}

/// Where a control message sends its packet.
enum Way {
    AsAddressed,
    Device(c_int),
    Routed,
}

fn way(header: &Header, value: &[u8]) -> Way {
    const IP_RETOPTS: c_int = 7;
    let device = |at: usize| number(value, at).map_or(Way::AsAddressed, Way::Device);
    match (header.level, header.kind) {
        // struct in_pktinfo begins with the index, struct in6_pktinfo ends with it.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => device(0),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO | IPV6_2292PKTINFO) => device(16),
        (libc::IPPROTO_IP, IP_RETOPTS) | (libc::IPPROTO_IPV6, libc::IPV6_RTHDR | socket::IPV6_2292RTHDR) => {
            Way::Routed
        }
        _ => Way::AsAddressed,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<c_int> {
    bytes.get(at..)?.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests;

//! Control messages of sendmsg() that send a packet elsewhere than its address says (ip(7), ipv6(7), RFC 3542).
//!
//! A source route goes nowhere: its first stop is not the address that is judged. A device other than lo takes a packet for loopback off the
//! machine. Both are `ENETUNREACH`; all other control messages are the kernel's.

use core::net::{Ipv4Addr, Ipv6Addr};

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
mod tests {
    use super::*;
    use std::vec::Vec;

    const WIDTHS: [Width; 2] = [Width::W32, Width::W64];

    /// A message as CMSG_DATA and CMSG_SPACE lay it out.
    fn message(width: Width, level: c_int, kind: c_int, value: &[u8]) -> Vec<u8> {
        let len = width.header() + value.len();
        let mut bytes = match width {
            Width::W32 => (len as u32).to_ne_bytes().to_vec(),
            Width::W64 => (len as u64).to_ne_bytes().to_vec(),
        };
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(len.next_multiple_of(width.word()), 0);
        bytes
    }

    fn v4_device(width: Width, device: c_int) -> Vec<u8> {
        message(width, libc::IPPROTO_IP, libc::IP_PKTINFO, &[&device.to_ne_bytes()[..], &[0; 8]].concat())
    }

    fn v6_device(width: Width, device: c_int) -> Vec<u8> {
        let value = [&[0; 16][..], &device.to_ne_bytes()].concat();
        message(width, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &value)
    }

    #[test]
    fn the_layouts_are_those_of_the_kernel() {
        assert_eq!((Width::W32.header(), Width::W32.word()), (12, 4));
        assert_eq!((Width::W64.header(), Width::W64.word()), (16, 8));
        assert_eq!(Width::OWN.header(), size_of::<libc::cmsghdr>());
    }

    #[test]
    fn a_device_other_than_lo_takes_nothing_off_loopback() {
        for width in WIDTHS {
            for device in [v4_device(width, 2), v6_device(width, 2)] {
                assert_eq!(judge(&device, width, || true), Err(libc::ENETUNREACH));
                assert_eq!(judge(&device, width, || false), Ok(()));
            }
            for device in [v4_device(width, 1), v6_device(width, 0)] {
                assert_eq!(judge(&device, width, || panic!("asked")), Ok(()));
            }
        }
    }

    #[test]
    fn a_source_route_goes_nowhere() {
        for width in WIDTHS {
            for (level, kind) in
                [(libc::IPPROTO_IP, 7), (libc::IPPROTO_IPV6, libc::IPV6_RTHDR), (libc::IPPROTO_IPV6, 5)]
            {
                let route = message(width, level, kind, &[0; 8]);
                assert_eq!(judge(&route, width, || false), Err(libc::ENETUNREACH));
            }
        }
    }

    #[test]
    fn the_second_message_is_judged_as_the_first() {
        for width in WIDTHS {
            for value in [&[][..], &[1], &[1; 4], &[1; 5], &[1; 8]] {
                let mut bytes = message(width, libc::SOL_SOCKET, libc::SCM_RIGHTS, value);
                bytes.extend(v4_device(width, 2));
                assert_eq!(judge(&bytes, width, || true), Err(libc::ENETUNREACH), "{width:?} {value:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_the_kernels_to_refuse() {
        for width in WIDTHS {
            let whole = v4_device(width, 2);
            let used = width.header() + 12;
            for len in 0..used {
                assert_eq!(judge(&whole[..len], width, || true), Ok(()), "{width:?} {len}");
            }
            for lie in [0_u32, 1, 11, u32::MAX] {
                let mut bytes = whole.clone();
                bytes[..4].copy_from_slice(&lie.to_ne_bytes());
                assert_eq!(judge(&bytes, width, || true), Ok(()), "{width:?} {lie}");
            }
        }
        let mut bytes = v4_device(Width::W64, 2);
        bytes[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!(judge(&bytes, Width::W64, || true), Ok(()));
    }

    #[test]
    fn descriptors_are_those_of_every_message_that_carries_them() {
        let three: Vec<u8> = [3, 4, 5].iter().flat_map(|number: &c_int| number.to_ne_bytes()).collect();
        for width in WIDTHS {
            let rights = message(width, libc::SOL_SOCKET, libc::SCM_RIGHTS, &three);
            let bytes = [rights.clone(), v4_device(width, 9), rights[..rights.len() - 8].to_vec()].concat();
            assert_eq!(
                descriptors(&bytes, width).collect::<Vec<_>>(),
                [3, 4, 5],
                "{width:?}, the last one cut"
            );
            let bytes = [v4_device(width, 9), rights.clone(), rights].concat();
            assert_eq!(descriptors(&bytes, width).collect::<Vec<_>>(), [3, 4, 5, 3, 4, 5], "{width:?}");
            assert_eq!(descriptors(&[], width).next(), None);
        }
    }

    fn pinned(given: &[u8], family: Family) -> Result<Vec<u8>, c_int> {
        let mut bytes = given.to_vec();
        bytes.resize(given.len() + PIN_ROOM, 0xee);
        let len = pin(&mut bytes, given.len(), family, Ipv4Addr::UNSPECIFIED)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    #[test]
    fn a_packet_without_a_device_gets_one() {
        let lo = LOOPBACK;
        assert_eq!(pinned(&[], Family::V4), Ok(v4_device(Width::OWN, lo)));
        assert_eq!(pinned(&[], Family::V6), Ok(v6_device(Width::OWN, lo)));
        let other = message(Width::OWN, libc::IPPROTO_IP, libc::IP_TOS, &[0; 4]);
        assert_eq!(pinned(&other, Family::V4), Ok([other.clone(), v4_device(Width::OWN, lo)].concat()));
        // To an IPv6 address IPv4's device says nothing.
        let (wrong, corrected) = (v4_device(Width::OWN, 7), v4_device(Width::OWN, lo));
        assert_eq!(pinned(&wrong, Family::V6), Ok([corrected, v6_device(Width::OWN, lo)].concat()));
    }

    #[test]
    fn a_device_that_is_named_becomes_loopback_and_a_source_stays() {
        assert_eq!(pinned(&v4_device(Width::OWN, 7), Family::V4), Ok(v4_device(Width::OWN, LOOPBACK)));
        assert_eq!(pinned(&v6_device(Width::OWN, 7), Family::V6), Ok(v6_device(Width::OWN, LOOPBACK)));
        let value = [&[9; 16][..], &7_i32.to_ne_bytes()].concat();
        let given = message(Width::OWN, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &value);
        let value = [&[9; 16][..], &LOOPBACK.to_ne_bytes()].concat();
        let expected = message(Width::OWN, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &value);
        assert_eq!(pinned(&given, Family::V6), Ok(expected));
    }

    #[test]
    fn to_an_ipv4_address_a_device_that_only_an_ipv6_socket_reads_is_not_enough() {
        let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 2]].concat();
        for kind in [libc::IPV6_PKTINFO, IPV6_2292PKTINFO] {
            let named = |device: c_int| {
                message(Width::OWN, libc::IPPROTO_IPV6, kind, &[&mapped[..], &device.to_ne_bytes()].concat())
            };
            let value = [&LOOPBACK.to_ne_bytes()[..], &[10, 0, 0, 2], &[0; 4]].concat();
            let added = message(Width::OWN, libc::IPPROTO_IP, libc::IP_PKTINFO, &value);
            assert_eq!(pinned(&named(7), Family::V4), Ok([named(LOOPBACK), added].concat()));
        }
    }

    #[test]
    fn a_source_is_kept() {
        let mut bytes = [0; PIN_ROOM];
        let len = pin(&mut bytes, 0, Family::V4, [10, 0, 0, 2].into()).unwrap();
        let value = [&LOOPBACK.to_ne_bytes()[..], &[10, 0, 0, 2], &[0; 4]].concat();
        let expected = message(Width::OWN, libc::IPPROTO_IP, libc::IP_PKTINFO, &value);
        assert_eq!(bytes[..len], expected);
    }

    fn translated(given: &[u8], width: Width) -> Result<Vec<u8>, c_int> {
        let mut to = std::vec![0xee; 2 * given.len()];
        let len = translate(given, width, &mut to)?;
        to.truncate(len);
        Ok(to)
    }

    #[test]
    fn messages_of_a_32_bit_program_are_the_same_in_our_layout() {
        for width in WIDTHS {
            for value in [&[][..], &[1], &[1; 4], &[1; 5], &[1; 8]] {
                let both = |width| {
                    let first = message(width, libc::IPPROTO_IP, libc::IP_TOS, value);
                    [first, v4_device(width, 7)].concat()
                };
                assert_eq!(translated(&both(width), width), Ok(both(Width::OWN)), "{width:?} {value:?}");
            }
        }
    }

    #[test]
    fn what_is_malformed_is_not_translated() {
        let whole = v4_device(Width::W32, 7);
        for lie in [0_u32, 11, 25, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[..4].copy_from_slice(&lie.to_ne_bytes());
            assert_eq!(translated(&bytes, Width::W32), Err(libc::EINVAL), "{lie}");
        }
        assert_eq!(translated(&whole[..11], Width::W32), Err(libc::EINVAL));
        assert_eq!(translate(&whole, Width::W32, &mut [0; 16]), Err(libc::ENOBUFS));
    }

    #[test]
    fn a_mark_and_what_is_not_known_may_need_a_privilege() {
        let free = [v4_device(Width::OWN, 7), v6_device(Width::OWN, 7)].concat();
        assert!(!may_need_privilege(&[]) && !may_need_privilege(&free));
        for (level, kind) in
            [(libc::SOL_SOCKET, libc::SO_MARK), (libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS), (255, 1)]
        {
            let bytes = [free.clone(), message(Width::OWN, level, kind, &[0; 4])].concat();
            assert!(may_need_privilege(&bytes), "{level} {kind}");
        }
    }

    #[test]
    fn what_is_malformed_or_has_no_room_is_refused() {
        let mut cut = v4_device(Width::OWN, 7);
        cut.pop();
        let long = message(Width::OWN, libc::IPPROTO_IP, libc::IP_TOS, &[0; 4]);
        let mut wrong = long.clone();
        wrong[0] = 0xff;
        assert_eq!(pinned(&wrong, Family::V4), Err(libc::EINVAL));
        let unspecified = Ipv4Addr::UNSPECIFIED;
        assert_eq!(pin(&mut long.clone(), long.len(), Family::V4, unspecified), Err(libc::ENOBUFS));
        assert!(pinned(&cut, Family::V4).is_ok_and(|bytes| bytes.len() >= cut.len()));
    }
}

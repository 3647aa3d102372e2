//! Control messages of sendmsg() that send a packet elsewhere than its address says (ip(7), ipv6(7), RFC 3542).
//!
//! A source route goes nowhere: its first stop is not the address that is judged. A device other than lo takes a packet for loopback off the
//! machine. Both are `ENETUNREACH`; all other control messages are the kernel's.

use libc::c_int;

use crate::socket::{self, is_not_loopback};

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
    const IPV6_2292PKTINFO: c_int = 2;
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
}

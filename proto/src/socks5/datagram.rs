//! The header that each datagram has between client and proxy (RFC 1928 section 7).
//!
//! A fragment is refused, as the RFC allows: datagrams come as a whole or not at all.

use core::net::IpAddr;

use super::{Buffer, Target, read_target};
use crate::standin::{Kind, kind};

/// Longest header: reserved bytes, fragment number, address type, a name of 255 bytes with its length, port.
pub const MAX_HEADER: usize = 2 + 1 + 1 + 1 + 255 + 2;

/// The largest payload of a UDP datagram over IPv4: 65,535 bytes without the headers of IP and UDP (RFC 768, RFC 791).
pub const MAX_DATAGRAM: usize = 65_535 - 20 - 8;

/// The longest payload, in bytes, that fits into one datagram behind the header for `destination`. A stand-in's name may have any length.
#[must_use]
pub fn max_payload(destination: IpAddr) -> usize {
    let header = match (kind(destination), destination.to_canonical()) {
        (Kind::StandIn(_) | Kind::Reserved, _) => MAX_HEADER,
        (Kind::Ordinary, IpAddr::V4(_)) => 2 + 1 + 1 + 4 + 2,
        (Kind::Ordinary, IpAddr::V6(_)) => 2 + 1 + 1 + 16 + 2,
    };
    MAX_DATAGRAM - header
}

/// An encoded header, which is sent ahead of the payload in the same datagram.
#[derive(Clone, Debug)]
pub struct Header(Buffer<MAX_HEADER>);

impl Header {
    /// The header for a datagram to `target`.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let mut buffer = Buffer::new();
        buffer.push(&[0, 0, 0]);
        buffer.push_target(target);
        Self(buffer)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// Why a datagram from the proxy was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A fragment, with its number.
    Fragment(u8),
    /// Too short for its header, or of an unknown address type.
    NoHeader,
}

/// Reads a datagram from the proxy: where it comes from, and its payload.
///
/// # Errors
/// [`Malformed`]; the datagram is to be dropped. The reserved bytes are not looked at.
pub fn decode(datagram: &[u8]) -> Result<(Target, &[u8]), Malformed> {
    let ([_, _, fragment], rest) = datagram.split_first_chunk::<3>().ok_or(Malformed::NoHeader)?;
    if *fragment != 0 {
        return Err(Malformed::Fragment(*fragment));
    }
    read_target(rest).ok_or(Malformed::NoHeader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::socks5::Host;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn targets() -> Vec<Target> {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        let name = |text: &[u8]| Host::Name(Name::new(text).unwrap());
        let hosts = [address("192.0.2.1"), address("2001:db8::1"), name(b"a"), name(&[b'x'; 255])];
        hosts.into_iter().map(|host| Target { host, port: 0x1234 }).collect()
    }

    #[test]
    fn a_header_is_what_the_rfc_draws() {
        let header = |at: usize| Header::new(&targets()[at]).as_bytes().to_vec();
        assert_eq!(header(0), [0, 0, 0, 1, 192, 0, 2, 1, 0x12, 0x34]);
        assert_eq!(header(2), [0, 0, 0, 3, 1, b'a', 0x12, 0x34]);
        assert_eq!(header(1).len(), 22);
        assert_eq!(header(3).len(), MAX_HEADER);
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same_and_a_part_of_it_to_nothing() {
        for target in targets() {
            let mut datagram = Header::new(&target).as_bytes().to_vec();
            for len in 0..datagram.len() {
                assert_eq!(decode(&datagram[..len]), Err(Malformed::NoHeader), "{target} {len}");
            }
            assert_eq!(decode(&datagram), Ok((target, &b""[..])));
            datagram.extend(b"payload");
            assert_eq!(decode(&datagram), Ok((target, &b"payload"[..])));
        }
    }

    #[test]
    fn a_header_and_the_longest_payload_fill_a_datagram() {
        for target in targets() {
            if let Host::Address(address) = target.host {
                assert_eq!(max_payload(address) + Header::new(&target).as_bytes().len(), MAX_DATAGRAM);
            }
        }
        assert_eq!(max_payload("198.18.0.1".parse().unwrap()), MAX_DATAGRAM - MAX_HEADER);
    }

    #[test]
    fn a_mapped_address_travels_as_ipv4() {
        let host = Host::Address("::ffff:192.0.2.1".parse().unwrap());
        let header = Header::new(&Target { host, port: 0x1234 });
        assert_eq!(header.as_bytes(), Header::new(&targets()[0]).as_bytes());
    }

    #[test]
    fn fragments_unknown_types_and_names_that_are_none_are_refused() {
        assert_eq!(decode(&[0, 0, 1, 1, 192, 0, 2, 1, 0, 53]), Err(Malformed::Fragment(1)));
        assert_eq!(decode(&[0, 0, 0, 2, 192, 0, 2, 1, 0, 53]), Err(Malformed::NoHeader));
        assert_eq!(decode(&[0, 0, 0, 3, 0, 0, 53]), Err(Malformed::NoHeader));
        assert_eq!(decode(&[0, 0, 0, 3, 1, b'\n', 0, 53]), Err(Malformed::NoHeader));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
            if let Ok((target, payload)) = decode(&bytes) {
                let header = Header::new(&target);
                prop_assert!(payload.len() + header.as_bytes().len() <= bytes.len() + 16);
            }
        }
    }
}

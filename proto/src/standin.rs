//! The reserved addresses that stand for names inside the wrapped program.
//!
//! 198.18.0.0/15 (RFC 2544: benchmarking, never routed) for IPv4 and one unique local /96 (RFC 4193; its bytes spell
//! "presocks") for IPv6. A stand-in is an [`Index`]; both families show the same index, so that a name has one identity.
//! Which name an index stands for is the broker's knowledge, not this module's.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many names can have a stand-in in one session: the size of 198.18.0.0/15.
pub const COUNT: u32 = 1 << 17;

const V4_BASE: u32 = 0xc612_0000;
const V6_PREFIX: u128 = 0xfd70_7265_736f_636b_7300_0000_0000_0000;

/// A stand-in's number, below [`COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index(u32);

impl Index {
    /// The index with this number; numbers from [`COUNT`] up wrap around.
    #[must_use]
    pub fn wrapping(number: u32) -> Self {
        Self(number % COUNT)
    }

    /// The next index, the first after the last.
    #[must_use]
    pub fn following(self) -> Self {
        Self::wrapping(self.0 + 1)
    }

    /// The IPv4 address that shows this index.
    #[must_use]
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(V4_BASE | self.0)
    }

    /// The IPv6 address that shows this index.
    #[must_use]
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(V6_PREFIX | u128::from(V4_BASE | self.0))
    }
}

/// What an address is to the stand-in ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address outside the reserved ranges.
    Ordinary,
    /// A stand-in; the session may or may not have given it out.
    StandIn(Index),
    /// Inside the reserved IPv6 range, but no index has this address.
    Reserved,
}

/// Tells whether `address` is a stand-in. An IPv4-mapped IPv6 address counts as the IPv4 address.
#[must_use]
pub fn kind(address: IpAddr) -> Kind {
    match address.to_canonical() {
        IpAddr::V4(v4) => match from_v4_bits(v4.to_bits()) {
            Some(index) => Kind::StandIn(index),
            None => Kind::Ordinary,
        },
        IpAddr::V6(v6) if v6.to_bits() >> 32 != V6_PREFIX >> 32 => Kind::Ordinary,
        IpAddr::V6(v6) => {
            let low = u32::try_from(v6.to_bits() & u128::from(u32::MAX)).unwrap_or_default();
            from_v4_bits(low).map_or(Kind::Reserved, Kind::StandIn)
        }
    }
}

fn from_v4_bits(bits: u32) -> Option<Index> {
    (bits & !(COUNT - 1) == V4_BASE).then_some(Index(bits & (COUNT - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_index_comes_back_from_both_its_addresses() {
        for number in [0, 1, 255, 256, 65_536, COUNT - 1] {
            let index = Index::wrapping(number);
            assert_eq!(kind(index.v4().into()), Kind::StandIn(index));
            assert_eq!(kind(index.v6().into()), Kind::StandIn(index));
            assert_eq!(kind(index.v4().to_ipv6_mapped().into()), Kind::StandIn(index));
        }
    }

    #[test]
    fn the_ranges_end_where_they_should() {
        assert_eq!(Index::wrapping(0).v4(), Ipv4Addr::new(198, 18, 0, 0));
        assert_eq!(Index::wrapping(COUNT - 1).v4(), Ipv4Addr::new(198, 19, 255, 255));
        assert_eq!(Index::wrapping(COUNT - 1).following(), Index::wrapping(0));
        for outside in ["198.17.255.255", "198.20.0.0", "::", "fd70:7265:736f:636b:7301::c612:1"] {
            assert_eq!(kind(address(outside)), Kind::Ordinary, "{outside}");
        }
        assert_eq!(kind(address("fd70:7265:736f:636b:7300::1")), Kind::Reserved);
    }
}

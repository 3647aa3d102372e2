//! setsockopt(): options that send packets by themselves, or lead those for loopback, or the answers to them, off the machine.
//!
//! | option | then |
//! | --- | --- |
//! | joining a group | `ENODEV`, but on lo: the kernel would report it to the routers (IGMP, MLD) |
//! | a source route, or headers for a flow label, which may be one | `EPERM`: the packet goes to its first stop, whatever its address |
//! | a device other than lo | the broker's to set ([`is_another_device`]): `ENODEV` on a socket that is connected to loopback, or is being connected |
//! | a device for the packets of an IPv6 socket by `IPV6_PKTINFO`, which nobody can ask for afterwards | `ENODEV` |
//! | any source address, of this machine or not (`IP_TRANSPARENT`), to which others answer; a connection that none has agreed to (`TCP_REPAIR`) | `EPERM`, as for a user without the privilege |
//! | all else | pass |
//!
//! These options have the same layout for 32-bit programs on a 64-bit kernel, but for the groups of RFC 3678 on i386; there, too, the
//! device's index comes first.

use core::net::Ipv4Addr;

use libc::c_int;

use crate::socket::{IP_UNICAST_IF, IPV6_2292RTHDR, IPV6_UNICAST_IF, is_not_loopback};

const MCAST_JOIN_GROUP: c_int = 42;
const MCAST_JOIN_SOURCE_GROUP: c_int = 46;
const IPV6_2292PKTOPTIONS: c_int = 6;
const IPV6_JOIN_ANYCAST: c_int = 27;
const IPV6_FLOWLABEL_MGR: c_int = 32;
const IPV6_TRANSPARENT: c_int = 75;
/// `struct in6_flowlabel_req` (linux/in6.h).
const FLOW_LABEL_LEN: usize = 32;

/// The longest value that is looked at: `struct group_source_req`.
pub const MAX_LEN: usize = 264;

/// Level and name of every option that has a [`kind`]: those that the seccomp filter must notice.
pub const LOOKED_AT: [(c_int, c_int); 21] = [
    (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
    (libc::IPPROTO_IP, libc::IP_ADD_SOURCE_MEMBERSHIP),
    (libc::IPPROTO_IP, MCAST_JOIN_GROUP),
    (libc::IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP),
    (libc::IPPROTO_IP, libc::IP_OPTIONS),
    (libc::IPPROTO_IP, IP_UNICAST_IF),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_TCP, libc::TCP_REPAIR),
    (libc::IPPROTO_IPV6, MCAST_JOIN_GROUP),
    (libc::IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP),
    (libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP),
    (libc::IPPROTO_IPV6, IPV6_JOIN_ANYCAST),
    (libc::IPPROTO_IPV6, libc::IPV6_RTHDR),
    (libc::IPPROTO_IPV6, IPV6_2292RTHDR),
    (libc::IPPROTO_IPV6, IPV6_2292PKTOPTIONS),
    (libc::IPPROTO_IPV6, IPV6_UNICAST_IF),
    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO),
    (libc::IPPROTO_IPV6, IPV6_FLOWLABEL_MGR),
    (libc::IPPROTO_IPV6, IPV6_TRANSPARENT),
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX),
];

/// What the value of an option means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `struct ip_mreq`, `ip_mreqn` or `ip_mreq_source`; the last has an address in the place of the second's index.
    JoinV4 {
        /// An index may follow the two addresses.
        has_index: bool,
    },
    /// A group joined on the device whose index is at this place.
    Join {
        /// In bytes from the value's start.
        at: usize,
    },
    /// A source route; any value but none is one.
    Route,
    /// A device's index, as `int`.
    Device,
    /// The same, in network order.
    DeviceInNetworkOrder,
    /// A device's name.
    DeviceName,
    /// `struct in6_pktinfo`.
    PacketInfo,
    /// `struct in6_flowlabel_req`, which headers may follow, a source route among them.
    FlowLabel,
    /// Any source address, or none any more, as `int` or one byte.
    AnySource,
    /// `TCP_REPAIR`.
    Repair,
}

/// What an option means; `None` for one that is not looked at.
#[must_use]
pub fn kind(level: c_int, name: c_int) -> Option<Kind> {
    Some(match (level, name) {
        (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP) => Kind::JoinV4 { has_index: true },
        (libc::IPPROTO_IP, libc::IP_ADD_SOURCE_MEMBERSHIP) => Kind::JoinV4 { has_index: false },
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_JOIN_GROUP | MCAST_JOIN_SOURCE_GROUP) => {
            Kind::Join { at: 0 }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP | IPV6_JOIN_ANYCAST) => Kind::Join { at: 16 },
        (libc::IPPROTO_IP, libc::IP_OPTIONS)
        | (libc::IPPROTO_IPV6, libc::IPV6_RTHDR | IPV6_2292RTHDR | IPV6_2292PKTOPTIONS) => Kind::Route,
        (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => Kind::DeviceName,
        (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX) => Kind::Device,
        (libc::IPPROTO_IP, IP_UNICAST_IF) | (libc::IPPROTO_IPV6, IPV6_UNICAST_IF) => {
            Kind::DeviceInNetworkOrder
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => Kind::PacketInfo,
        (libc::IPPROTO_IPV6, IPV6_FLOWLABEL_MGR) => Kind::FlowLabel,
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT) | (libc::IPPROTO_IPV6, IPV6_TRANSPARENT) => Kind::AnySource,
        (libc::IPPROTO_TCP, libc::TCP_REPAIR) => Kind::Repair,
        _ => return None,
    })
}

/// The errno for a value that must never be set; `None`: it may be. `value` is what the program set, or its first [`MAX_LEN`] bytes.
#[must_use]
pub fn refused(kind: Kind, value: &[u8]) -> Option<c_int> {
    let is_refused = match kind {
        Kind::JoinV4 { has_index } => !joins_on_loopback(value, has_index),
        Kind::Join { at } => number(value, at).is_none_or(|device| device == 0 || is_not_loopback(device)),
        Kind::FlowLabel => return (value.len() > FLOW_LABEL_LEN).then_some(libc::EPERM),
        Kind::Route => return (!value.is_empty()).then_some(libc::EPERM),
        Kind::PacketInfo => number(value, 16).is_some_and(is_not_loopback),
        Kind::AnySource => {
            return value.iter().take(size_of::<c_int>()).any(|byte| *byte != 0).then_some(libc::EPERM);
        }
        Kind::Repair => return Some(libc::EPERM),
        Kind::Device | Kind::DeviceInNetworkOrder | Kind::DeviceName => false,
    };
    is_refused.then_some(libc::ENODEV)
}

/// Would all packets of the socket leave by a device other than lo? Such a value must be set by nobody but the broker: it is the one that connects
/// sockets to this machine, and whoever set it meanwhile would lead their packets away.
#[must_use]
pub fn is_another_device(kind: Kind, value: &[u8]) -> bool {
    match kind {
        Kind::Device => number(value, 0).is_some_and(is_not_loopback),
        Kind::DeviceInNetworkOrder => {
            number(value, 0).is_some_and(|device| is_not_loopback(c_int::from_be(device)))
        }
        Kind::DeviceName => {
            let name = value.split(|byte| *byte == 0).next().unwrap_or(&[]);
            !name.is_empty() && name != b"lo"
        }
        Kind::JoinV4 { .. } | Kind::Join { .. } | Kind::Route | Kind::PacketInfo | Kind::FlowLabel => false,
        Kind::AnySource | Kind::Repair => false,
    }
}

/// The group comes first, then the address of a device, then its index, which goes before the address; or a source.
fn joins_on_loopback(value: &[u8], has_index: bool) -> bool {
    match number(value, 8).filter(|device| has_index && *device != 0) {
        Some(device) => !is_not_loopback(device),
        None => value
            .get(4..)
            .and_then(<[u8]>::first_chunk::<4>)
            .is_some_and(|address| Ipv4Addr::from(*address).is_loopback()),
    }
}

fn number(value: &[u8], at: usize) -> Option<c_int> {
    value.get(at..)?.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// The value as bytes: addresses as they are, numbers in the machine's order.
    fn value(addresses: &[[u8; 4]], number: Option<c_int>) -> Vec<u8> {
        let mut bytes = addresses.concat();
        bytes.extend(number.map(c_int::to_ne_bytes).iter().flatten());
        bytes
    }

    #[test]
    fn the_table_has_exactly_the_options_that_have_a_kind() {
        for level in 0..=300 {
            for name in 0..=300 {
                let is_listed = LOOKED_AT.contains(&(level, name));
                assert_eq!(kind(level, name).is_some(), is_listed, "{level} {name}");
            }
        }
        for (place, pair) in LOOKED_AT.iter().enumerate() {
            assert!(kind(pair.0, pair.1).is_some(), "{pair:?}");
            assert!(!LOOKED_AT[..place].contains(pair), "{pair:?} twice");
        }
    }

    #[test]
    fn a_group_is_joined_on_lo_only() {
        const GROUP: [u8; 4] = [239, 1, 2, 3];
        const LO: [u8; 4] = [127, 0, 0, 1];
        const OTHER: [u8; 4] = [10, 0, 0, 1];
        let (mreq, source) = (Kind::JoinV4 { has_index: true }, Kind::JoinV4 { has_index: false });
        assert_eq!(refused(mreq, &value(&[GROUP, LO], None)), None);
        assert_eq!(refused(mreq, &value(&[GROUP, OTHER], Some(1))), None);
        assert_eq!(refused(mreq, &value(&[GROUP, LO], Some(0))), None);
        assert_eq!(refused(source, &value(&[GROUP, LO, [192, 0, 2, 1]], None)), None);
        for other in [value(&[GROUP, OTHER], None), value(&[GROUP, LO], Some(2)), value(&[GROUP], None)] {
            assert_eq!(refused(mreq, &other), Some(libc::ENODEV), "{other:?}");
        }
        assert_eq!(refused(source, &value(&[GROUP, OTHER, LO], None)), Some(libc::ENODEV));
        assert_eq!(refused(Kind::Join { at: 16 }, &value(&[[0; 4]; 4], Some(1))), None);
        for device in [Some(0), Some(2), None] {
            assert_eq!(refused(Kind::Join { at: 16 }, &value(&[[0; 4]; 4], device)), Some(libc::ENODEV));
        }
    }

    #[test]
    fn a_source_route_is_never_set_but_may_be_cleared() {
        assert_eq!(refused(Kind::Route, &[]), None);
        assert_eq!(refused(Kind::Route, &[0]), Some(libc::EPERM));
    }

    #[test]
    fn a_device_other_than_lo_is_not_refused_but_the_brokers_to_set() {
        let named = |name: &'static [u8]| (Kind::DeviceName, name.to_vec());
        let number = |kind, device: c_int| (kind, device.to_ne_bytes().to_vec());
        for (kind, value) in [
            named(b"eth0"),
            named(b"eth0\0junk"),
            number(Kind::Device, 2),
            number(Kind::DeviceInNetworkOrder, 2_i32.to_be()),
        ] {
            assert!(is_another_device(kind, &value), "{kind:?}");
            assert_eq!(refused(kind, &value), None, "{kind:?}");
        }
        for (kind, value) in [
            named(b"lo"),
            named(b"lo\0junk"),
            named(b""),
            named(b"\0"),
            number(Kind::Device, 1),
            number(Kind::Device, 0),
            number(Kind::DeviceInNetworkOrder, 1_i32.to_be()),
            (Kind::Device, Vec::from([2, 0])),
        ] {
            assert!(!is_another_device(kind, &value), "{kind:?} {value:?}");
        }
    }

    #[test]
    fn any_source_may_be_given_up_but_not_taken() {
        for (bytes, error) in [
            (&[][..], None),
            (&[0], None),
            (&[1], Some(libc::EPERM)),
            (&[0, 0, 0, 0], None),
            (&[0, 1, 0, 0], Some(libc::EPERM)),
            (&[0, 0, 0, 0, 1], None),
        ] {
            assert_eq!(refused(Kind::AnySource, bytes), error, "{bytes:?}");
        }
        assert_eq!(refused(Kind::Repair, &[0; 4]), Some(libc::EPERM));
    }

    #[test]
    fn packet_information_names_no_device_but_lo() {
        for (device, error) in [(Some(0), None), (Some(1), None), (Some(2), Some(libc::ENODEV)), (None, None)]
        {
            assert_eq!(refused(Kind::PacketInfo, &value(&[[0; 4]; 4], device)), error, "{device:?}");
        }
    }
}

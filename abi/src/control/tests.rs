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
fn the_source_is_the_last_one_that_is_named() {
    let of = |width, kind, address: [u8; 16]| {
        message(width, libc::IPPROTO_IPV6, kind, &[&address[..], &[0; 4]].concat())
    };
    let global: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let mapped = Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped();
    for width in WIDTHS {
        let v4 = message(width, libc::IPPROTO_IP, libc::IP_PKTINFO, &[0, 0, 0, 0, 10, 0, 0, 1, 9, 9, 9, 9]);
        let none = [v6_device(width, 1), v4_device(width, 1)].concat();
        assert_eq!(source(&none, width), None);
        assert_eq!(source(&[v4.clone(), none.clone()].concat(), width), Some([10, 0, 0, 1].into()));
        for kind in [libc::IPV6_PKTINFO, IPV6_2292PKTINFO] {
            let both = [v4.clone(), of(width, kind, global.octets()), none.clone()].concat();
            assert_eq!(source(&both, width), Some(global.into()));
            assert_eq!(source(&of(width, kind, mapped.octets()), width), Some([10, 0, 0, 2].into()));
        }
        assert_eq!(source(&v4[..width.header() + 7], width), None, "cut");
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
        assert_eq!(descriptors(&bytes, width).collect::<Vec<_>>(), [3, 4, 5], "{width:?}, the last one cut");
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

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const TOKEN: Secret = Secret([0x5a; 16]);

fn name(text: &[u8]) -> Name {
    Name::new(text).unwrap()
}

fn requests() -> Vec<Request> {
    let destinations = ["192.0.2.1:80", "[2001:db8::1]:65535", "[fe80::1%7]:1"];
    let mut all: Vec<_> = destinations
        .iter()
        .map(|text| text.parse().unwrap())
        .flat_map(|destination| {
            [
                Request::Connect { destination, cookie: 0, number: -1 },
                Request::Connect { destination, cookie: u64::MAX - 1, number: -1 },
                Request::DatagramConnect { destination },
                Request::DatagramSend { destination, is_impatient: false },
                Request::DatagramSend { destination, is_impatient: true },
                Request::DatagramHere { source: destination.ip() },
            ]
        })
        .collect();
    for family in [Family::Any, Family::V4, Family::V6] {
        all.push(Request::Resolve { name: name(b"a.example"), family });
        all.push(Request::Resolve { name: name(&[b'x'; 255]), family });
    }
    all.push(Request::Reverse { address: "192.0.2.1".parse().unwrap() });
    let actual = "192.0.2.2:1080".parse().unwrap();
    all.push(Request::Peer { cookie: u64::MAX - 1, actual });
    all.push(Request::DatagramOpen { is_impatient: false });
    all.push(Request::DatagramOpen { is_impatient: true });
    all.push(Request::DatagramDissolve);
    all.extend(["0.0.0.0:0", "[fe80::1%7]:21"].map(|text| Request::Bind { address: text.parse().unwrap() }));
    all.extend([i32::MIN, -1, 0, 128].map(|backlog| Request::Listen { backlog }));
    all.push(Request::OwnAddress);
    all.extend([true, false].map(|is_impatient| Request::Await { cookie: u64::MAX - 1, is_impatient }));
    all.push(Request::HandOn { cookie: u64::MAX - 2 });
    all.extend([true, false].map(|is_on| Request::Signal { cookie: u64::MAX - 3, number: 7, is_on }));
    for value in [&b""[..], &[7, 0, 0, 0], b"exactly-fifteen", &[0xff; 16]] {
        let value = DeviceValue::new(value);
        all.push(Request::Device { level: u32::MAX, name: u16::MAX, value });
    }
    all
}

fn replies() -> Vec<Reply> {
    let addresses = |count: u8| (0..count).map(|n| IpAddr::from([n, 0, 0, 1])).collect();
    [
        Reply::Done { errno: 0 },
        Reply::Done { errno: -1 },
        Reply::Done { errno: 111 },
        Reply::Direct,
        Reply::Address("[::1]:9".parse().unwrap()),
        Reply::Gate { address: "127.0.0.1:9".parse().unwrap(), is_open: false },
        Reply::Gate { address: "[::1]:9".parse().unwrap(), is_open: true },
        Reply::Addresses(addresses(1)),
        Reply::Addresses(addresses(15)),
        Reply::Addresses(["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()].into_iter().collect()),
        Reply::Name(name(b"b.example")),
    ]
    .into()
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode(&TOKEN), &TOKEN), Ok(request));
    }
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode(&TOKEN), &TOKEN), Ok(reply));
    }
}

#[test]
fn a_frame_of_another_length_secret_or_direction_is_refused() {
    let frame = Request::Reverse { address: "::1".parse().unwrap() }.encode(&TOKEN);
    for len in 0..LEN {
        assert_eq!(Request::decode(&frame[..len], &TOKEN), Err(Malformed::NotAFrame));
    }
    assert_eq!(Request::decode(&frame, &Secret([0; 16])), Err(Malformed::WrongSecret));
    assert_eq!(Reply::decode(&frame, &TOKEN), Err(Malformed::NotAFrame));
}

#[test]
fn a_field_that_means_nothing_must_be_zero() {
    for place in [5, 6, 7, 28, 39, 40, 42, 43, 44, 48, 56, LEN - 1] {
        let mut frame = Request::Reverse { address: "192.0.2.1".parse().unwrap() }.encode(&TOKEN);
        frame[place] = 9;
        assert_eq!(Request::decode(&frame, &TOKEN), Err(Malformed::BadField), "byte {place}");
    }
}

#[test]
fn a_list_is_cut_at_fifteen_and_never_empty_on_arrival() {
    let many: Addresses = (0..40).map(|n| IpAddr::from([10, 0, 0, n])).collect();
    assert_eq!(many.iter().count(), MAX_ADDRESSES);
    let none = Reply::Addresses(Addresses::default()).encode(&TOKEN);
    assert_eq!(Reply::decode(&none, &TOKEN), Err(Malformed::BadField));
}

proptest! {
    #[test]
    fn any_bytes_decode_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), LEN), operation: u8) {
        bytes[..4].copy_from_slice(b"psk1");
        bytes[4] = operation;
        bytes[8..24].copy_from_slice(&TOKEN.0);
        let _ = Request::decode(&bytes, &TOKEN);
        let _ = Reply::decode(&bytes, &TOKEN);
    }
}

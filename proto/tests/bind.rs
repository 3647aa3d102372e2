//! BIND, in both versions of SOCKS: what is asked for, and two replies, after which every byte is the peer's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use presocks_proto::handshake::{Error, Handshake, Step};
use presocks_proto::name::Name;
use presocks_proto::target::{Host, Target};
use presocks_proto::{http, socks4, socks5};
use proptest::collection::vec;
use proptest::prelude::*;

fn addressed(address: &str, port: u16) -> Target {
    Target { host: Host::Address(address.parse().unwrap()), port }
}

fn peer() -> Target {
    addressed("192.0.2.7", 21)
}

fn of_socks5() -> Handshake<'static> {
    Handshake::Socks5(socks5::Handshake::new(peer(), None).binding())
}

fn of_socks4() -> Handshake<'static> {
    Handshake::Socks4(
        socks4::Handshake::binding(socks4::Version::V4, &peer(), socks4::User::default()).unwrap(),
    )
}

/// What came of one reply: what was sent before it, how much of the input was taken, and the end; `None` when more was wanted.
struct Ended {
    sent: Vec<u8>,
    taken: usize,
    end: Option<Result<(), Error>>,
}

/// Plays `input` in pieces of the given sizes, repeated as needed.
fn converse(handshake: &mut Handshake<'_>, input: &[u8], pieces: &[usize]) -> Ended {
    let (mut sent, mut taken) = (Vec::new(), 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        match handshake.next_step() {
            Step::Send(bytes) => sent.extend_from_slice(bytes),
            Step::Connected => return Ended { sent, taken, end: Some(Ok(())) },
            Step::Receive(wanted) => {
                let piece = wanted.min(input.len() - taken).min(*pieces.next().unwrap());
                if piece == 0 {
                    return Ended { sent, taken, end: None };
                }
                let (from, to) = (taken, taken + piece);
                taken = to;
                if let Err(error) = handshake.handle_input(&input[from..to]) {
                    return Ended { sent, taken, end: Some(Err(error)) };
                }
            }
        }
    }
}

/// A SOCKS5 reply of success, and the address in it.
fn replies5() -> impl Strategy<Value = (Vec<u8>, Target)> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(address, port)| {
        let bytes = [&[5, 0, 0, 1][..], &address, &port.to_be_bytes()].concat();
        (bytes, Target { host: Host::Address(address.into()), port })
    });
    let v6 = (any::<[u8; 16]>(), any::<u16>()).prop_map(|(address, port)| {
        let bytes = [&[5, 0, 0, 4][..], &address, &port.to_be_bytes()].concat();
        (bytes, Target { host: Host::Address(address.into()), port })
    });
    let name = ("[a-z]{1,63}", any::<u16>()).prop_map(|(name, port)| {
        let bytes =
            [&[5, 0, 0, 3, u8::try_from(name.len()).unwrap()], name.as_bytes(), &port.to_be_bytes()].concat();
        (bytes, Target { host: Host::Name(Name::new(name.as_bytes()).unwrap()), port })
    });
    prop_oneof![v4, v6, name]
}

/// The same of SOCKS4.
fn replies4() -> impl Strategy<Value = (Vec<u8>, Target)> {
    (any::<[u8; 4]>(), any::<u16>(), prop_oneof![Just(0), Just(4)]).prop_map(|(address, port, version)| {
        let bytes = [&[version, 90], &port.to_be_bytes()[..], &address].concat();
        (bytes, Target { host: Host::Address(address.into()), port })
    })
}

/// Two replies, in pieces, and what the peer says right behind them.
fn play(
    mut first: Handshake<'_>,
    greeting: &[u8],
    replies: [(Vec<u8>, Target); 2],
    peers: &[u8],
    pieces: &[usize],
) {
    let input = [greeting, &replies[0].0, &replies[1].0, peers].concat();
    let Ended { taken, end, .. } = converse(&mut first, &input, pieces);
    assert_eq!((taken, end), (greeting.len() + replies[0].0.len(), Some(Ok(()))));
    assert_eq!(first.bound(), Some(replies[0].1));
    let mut second = first.second_reply().unwrap();
    assert!(second.has_asked() && second.bound().is_none());
    let Ended { sent, taken: more, end } = converse(&mut second, &input[taken..], pieces);
    assert_eq!((sent, more, end), (Vec::new(), replies[1].0.len(), Some(Ok(()))));
    assert_eq!(second.bound(), Some(replies[1].1));
    assert_eq!(&input[taken + more..], peers);
}

proptest! {
    #[test]
    fn two_replies_are_taken_exactly_and_the_rest_is_the_peers(
        (one, two) in (replies5(), replies5()),
        peers in vec(any::<u8>(), 0..40),
        pieces in vec(1_usize..300, 1..8),
    ) {
        play(of_socks5(), &[5, 0], [one, two], &peers, &pieces);
    }

    #[test]
    fn so_are_those_of_socks4(
        (one, two) in (replies4(), replies4()),
        peers in vec(any::<u8>(), 0..40),
        pieces in vec(1_usize..12, 1..8),
    ) {
        play(of_socks4(), &[], [one, two], &peers, &pieces);
    }

    #[test]
    fn whatever_stands_in_place_of_the_second_reply_is_read_in_bounds(input in vec(any::<u8>(), 0..300)) {
        for handshake in [of_socks5(), of_socks4()] {
            let mut second = handshake.second_reply().unwrap();
            let Ended { taken, .. } = converse(&mut second, &input, &[1, 7]);
            assert!(taken <= input.len().min(262));
        }
    }
}

#[test]
fn the_request_is_that_of_connect_with_the_command_2() {
    let socks5 = converse(&mut of_socks5(), &[5, 0], &[2]);
    assert_eq!(socks5.sent, [5, 1, 0, 5, 2, 0, 1, 192, 0, 2, 7, 0, 21]);
    assert_eq!(converse(&mut of_socks4(), &[], &[1]).sent, [4, 2, 0, 21, 192, 0, 2, 7, 0]);
    let name = Target { host: Host::Name(Name::new(b"a.example").unwrap()), port: 21 };
    let by_name =
        socks4::Handshake::binding(socks4::Version::V4a, &name, socks4::User::new(b"me").unwrap()).unwrap();
    let sent = converse(&mut Handshake::Socks4(by_name), &[], &[1]).sent;
    assert_eq!(sent, b"\x04\x02\x00\x15\x00\x00\x00\x01me\x00a.example\x00");
}

#[test]
fn credentials_go_before_a_bind_as_before_a_connect() {
    let credentials = socks5::Credentials::new(b"u", b"p").unwrap();
    let bind = socks5::Handshake::new(peer(), Some(credentials)).insisting().binding();
    let sent = converse(&mut Handshake::Socks5(bind), &[5, 2, 1, 0], &[2]).sent;
    assert_eq!(sent, b"\x05\x01\x02\x01\x01u\x01p\x05\x02\x00\x01\xc0\x00\x02\x07\x00\x15");
}

#[test]
fn a_second_reply_is_refused_at_its_earliest_byte() {
    let refusal = |code| Error::Socks5(socks5::Error::Refused(socks5::ReplyCode(code)));
    for (handshake, input, taken, error) in [
        (of_socks5(), &[4][..], 1, Error::Socks5(socks5::Error::NotSocks5(4))),
        (of_socks5(), &[5, 1, 0, 1], 2, refusal(1)),
        (of_socks5(), &[5, 0, 0, 2], 4, Error::Socks5(socks5::Error::BadAddressType(2))),
        (of_socks4(), &[5], 1, Error::Socks4(socks4::Error::NotSocks4(5))),
        (of_socks4(), &[0, 91], 2, Error::Socks4(socks4::Error::Refused(socks4::ReplyCode(91)))),
    ] {
        let ended = converse(&mut handshake.second_reply().unwrap(), input, &[1]);
        assert_eq!((ended.taken, ended.end), (taken, Some(Err(error))), "{input:?}");
    }
}

#[test]
fn one_that_is_cut_short_is_no_reply() {
    for (handshake, reply) in
        [(of_socks5(), &[5, 0, 0, 1, 192, 0, 2, 7, 0, 20][..]), (of_socks4(), &[0, 90, 0, 20, 192, 0, 2, 7])]
    {
        for len in 0..reply.len() {
            let mut second = handshake.second_reply().unwrap();
            let ended = converse(&mut second, &reply[..len], &[3]);
            assert_eq!((ended.taken, ended.end, second.bound()), (len, None, None));
        }
    }
}

#[test]
fn what_a_socks4_server_says_of_a_connect_means_nothing_and_http_has_no_bind() {
    let connect = socks4::Handshake::new(socks4::Version::V4, &peer(), socks4::User::default()).unwrap();
    let mut connect = Handshake::Socks4(connect);
    assert_eq!(converse(&mut connect, &[0, 90, 1, 2, 3, 4, 5, 6], &[8]).end, Some(Ok(())));
    assert_eq!(connect.bound(), None);
    let http = Handshake::Http(http::Handshake::new(&peer(), None).unwrap());
    assert!(http.second_reply().is_none() && http.bound().is_none());
}

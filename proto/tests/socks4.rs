//! SOCKS4 and SOCKS4a, byte for byte and by property: the split of the reply changes nothing, and no byte past it is asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use presocks_proto::handshake::Step;
use presocks_proto::name::Name;
use presocks_proto::socks4::{Error, Handshake, ReplyCode, User, Version};
use presocks_proto::target::{Host, Target};
use proptest::collection::vec;
use proptest::prelude::*;

fn named(name: &str, port: u16) -> Target {
    Target { host: Host::Name(Name::new(name.as_bytes()).unwrap()), port }
}

fn addressed(address: &str, port: u16) -> Target {
    Target { host: Host::Address(address.parse().unwrap()), port }
}

/// `None` when the transcript was over and the handshake wanted more.
type End = Option<Result<(), Error>>;

/// Plays `transcript` in pieces of the given sizes, repeated as needed: what was sent, how many bytes were taken, and the end.
fn converse(mut handshake: Handshake, transcript: &[u8], pieces: &[usize]) -> (Vec<u8>, usize, End) {
    let (mut sent, mut taken) = (Vec::new(), 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        match handshake.next_step() {
            Step::Send(bytes) => sent.extend_from_slice(bytes),
            Step::Connected => return (sent, taken, Some(Ok(()))),
            Step::Receive(wanted) => {
                assert!((1..=8).contains(&wanted));
                let rest = &transcript[taken..];
                let piece = wanted.min(rest.len()).min(*pieces.next().unwrap());
                if piece == 0 {
                    return (sent, taken, None);
                }
                taken += piece;
                if let Err(error) = handshake.handle_input(&rest[..piece]) {
                    return (sent, taken, Some(Err(error)));
                }
            }
        }
    }
}

fn any_handshake() -> Handshake {
    Handshake::new(Version::V4, &addressed("192.0.2.7", 80), User::default()).unwrap()
}

fn sent(version: Version, target: Target, user: &[u8]) -> Vec<u8> {
    converse(Handshake::new(version, &target, User::new(user).unwrap()).unwrap(), &[], &[1]).0
}

#[test]
fn an_address_is_sent_in_four_bytes_by_both_versions() {
    for version in [Version::V4, Version::V4a] {
        assert_eq!(
            sent(version, addressed("192.0.2.7", 8080), b""),
            [4, 1, 0x1f, 0x90, 192, 0, 2, 7, 0],
            "{version:?}"
        );
        assert_eq!(
            sent(version, addressed("::ffff:192.0.2.7", 22), b"me"),
            [4, 1, 0, 22, 192, 0, 2, 7, b'm', b'e', 0]
        );
    }
}

#[test]
fn a_name_is_sent_by_4a_after_the_user_and_refused_by_4() {
    assert_eq!(
        sent(Version::V4a, named("A.example", 443), b"me"),
        b"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00a.example\x00"
    );
    let refused = Handshake::new(Version::V4, &named("a.example", 443), User::default());
    assert_eq!(refused.unwrap_err(), Error::NameNotCarried);
}

#[test]
fn the_longest_user_and_name_are_sent_whole() {
    let (user, name) = ([b'u'; 255], "n".repeat(255));
    let whole = [&[4, 1, 0, 80, 0, 0, 0, 1][..], &user, &[0], name.as_bytes(), &[0]].concat();
    assert_eq!(sent(Version::V4a, named(&name, 80), &user), whole);
    assert!(User::new(&[b'u'; 256]).is_none() && User::new(b"a\0b").is_none());
}

#[test]
fn what_cannot_be_carried_is_refused_by_both_versions() {
    for version in [Version::V4, Version::V4a] {
        let refused =
            |address| Handshake::new(version, &addressed(address, 80), User::default()).unwrap_err();
        assert_eq!(refused("2001:db8::7"), Error::Ipv6NotCarried);
        assert_eq!(refused("0.0.0.1"), Error::AddressNotCarried);
        assert_eq!(refused("::ffff:0.0.0.255"), Error::AddressNotCarried);
        assert!(Handshake::new(version, &addressed("0.0.1.0", 80), User::default()).is_ok());
    }
}

#[test]
fn every_error_is_seen_at_its_earliest_byte() {
    for version in 0..=255_u8 {
        let (_, taken, end) = converse(any_handshake(), &[version], &[1]);
        let error = Some(Err(Error::NotSocks4(version)));
        assert_eq!((taken, end), (1, if [0, 4].contains(&version) { None } else { error }));
        for code in (0..=255_u8).filter(|_| end.is_none()) {
            let (_, taken, end) = converse(any_handshake(), &[version, code], &[2]);
            let error = Some(Err(Error::Refused(ReplyCode(code))));
            assert_eq!((taken, end), (2, if code == 90 { None } else { error }));
        }
    }
}

#[test]
fn a_user_is_never_part_of_what_a_handshake_shows() {
    let user = User::new(b"someone").unwrap();
    let handshake = Handshake::new(Version::V4, &addressed("192.0.2.7", 80), user).unwrap();
    let shown = format!("{handshake:?} {user:?}");
    let digits = format!("{:?}", b"someone");
    assert!(!shown.contains("someone") && !shown.contains(digits.trim_matches(['[', ']'])), "{shown}");
}

#[test]
fn reply_codes_are_shown_with_their_meaning() {
    assert_eq!(ReplyCode(91).to_string(), "request rejected or failed (reply 91)");
    assert_eq!(ReplyCode(94).to_string(), "unassigned (reply 94)");
}

proptest! {
    #[test]
    fn a_granted_request_takes_eight_bytes_and_the_program_gets_the_rest(
        version in prop_oneof![Just(0_u8), Just(4)], ignored in any::<[u8; 6]>(),
        program in vec(any::<u8>(), 0..40), split in vec(1..20_usize, 1..20),
    ) {
        let transcript = [&[version, 90][..], &ignored, &program].concat();
        for split in [&split[..], &[1], &[usize::MAX]] {
            let (_, taken, end) = converse(any_handshake(), &transcript, split);
            prop_assert_eq!((taken, end), (8, Some(Ok(()))));
        }
    }

    #[test]
    fn any_bytes_end_alike_however_they_are_split(
        transcript in vec(prop_oneof![Just(0_u8), Just(4), Just(90), any::<u8>()], 0..20),
        split in vec(1..20_usize, 1..20),
    ) {
        let (_, by_one, end) = converse(any_handshake(), &transcript, &[1]);
        for split in [&split[..], &[usize::MAX]] {
            let (_, taken, other) = converse(any_handshake(), &transcript, split);
            prop_assert_eq!(end, other);
            prop_assert!(by_one <= taken && taken <= 8);
        }
    }

    #[test]
    fn input_beyond_what_was_asked_for_never_panics_and_a_failure_lasts(
        chunks in vec(vec(any::<u8>(), 0..40), 0..8),
    ) {
        let mut handshake = any_handshake();
        let _ = handshake.next_step();
        let mut failed = None;
        for chunk in &chunks {
            let result = handshake.handle_input(chunk);
            if failed.is_some() {
                prop_assert_eq!(result.err(), failed);
            }
            failed = result.err();
        }
    }
}

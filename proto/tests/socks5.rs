//! The SOCKS5 handshake against every kind of proxy: by example, byte for byte (RFC 1928, RFC 1929), and by property,
//! against a second description of the protocol that sees the whole transcript at once.
//!
//! What holds for every target, every credential and every transcript, valid or hostile: the split of the input changes
//! nothing, no byte past the reply is asked for, and the end is a connection, an error, or a wish for more bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use presocks_proto::name::Name;
use presocks_proto::socks5::{Credentials, Error, Handshake, Host, ReplyCode, Step, Target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Method selection, authentication status, and a reply with a bound name of 255 bytes.
const LONGEST_TRANSCRIPT: usize = 2 + 2 + (4 + 1 + 255 + 2);

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Connected,
    Failed(Error),
    /// The transcript was over and the handshake wanted more.
    Hungry,
}

/// What the proxy saw and what became of it.
#[derive(Debug, PartialEq, Eq)]
struct Conversation {
    sent: Vec<Vec<u8>>,
    end: End,
}

/// Plays `transcript` in pieces of the given sizes, repeated as needed; also says how many bytes were taken.
fn converse(who: &Client, transcript: &[u8], pieces: &[usize]) -> (Conversation, usize) {
    let mut handshake = who.handshake();
    let mut sent = Vec::new();
    let mut taken = 0;
    let mut pieces = pieces.iter().cycle();
    let end = loop {
        match handshake.next_step() {
            Step::Send(bytes) => sent.push(bytes.to_vec()),
            Step::Connected => break End::Connected,
            Step::Receive(wanted) => {
                assert!(wanted > 0, "a wish for no bytes would never end");
                let rest = &transcript[taken..];
                let piece = wanted.min(rest.len()).min(*pieces.next().unwrap());
                if piece == 0 {
                    break End::Hungry;
                }
                taken += piece;
                if let Err(error) = handshake.handle_input(&rest[..piece]) {
                    break End::Failed(error);
                }
            }
        }
    };
    assert!(taken <= LONGEST_TRANSCRIPT, "{taken} bytes taken");
    (Conversation { sent, end }, taken)
}

/// Who speaks: owned, so that strategies can make it.
#[derive(Clone, Debug)]
struct Client {
    target: Target,
    credentials: Option<(Vec<u8>, Vec<u8>)>,
}

impl Client {
    fn handshake(&self) -> Handshake<'_> {
        let credentials =
            self.credentials.as_ref().map(|(user, password)| Credentials::new(user, password).unwrap());
        Handshake::new(self.target, credentials)
    }
}

/// The protocol once more, in the plainest way: the whole transcript at hand, one message after another.
///
/// Gives the conversation and the number of bytes that belong to it.
fn expected(who: &Client, transcript: &[u8]) -> (Conversation, usize) {
    let mut sent = vec![match who.credentials {
        None => vec![5, 1, 0],
        Some(_) => vec![5, 2, 0, 2],
    }];
    let mut proxy = transcript.iter().copied();
    let end = (|| {
        let end_of = |error| Some(End::Failed(error));
        let version = proxy.next()?;
        if version != 5 {
            return end_of(Error::NotSocks5(version));
        }
        match (proxy.next()?, &who.credentials) {
            (0, _) => {}
            (2, Some((user, password))) => {
                sent.push(authentication(user, password));
                let version = proxy.next()?;
                if version != 1 && version != 5 {
                    return end_of(Error::NotSocks5(version));
                }
                let status = proxy.next()?;
                if status != 0 {
                    return end_of(Error::AuthenticationRejected(status));
                }
            }
            (0xff, _) => return end_of(Error::NoAcceptableMethod),
            (other, _) => return end_of(Error::UnofferedMethod(other)),
        }
        sent.push(request(&who.target));
        let version = proxy.next()?;
        if version != 5 {
            return end_of(Error::NotSocks5(version));
        }
        let code = proxy.next()?;
        if code != 0 {
            return end_of(Error::Refused(ReplyCode(code)));
        }
        let _reserved = proxy.next()?;
        let address = match proxy.next()? {
            1 => 4,
            3 => usize::from(proxy.next()?),
            4 => 16,
            other => return end_of(Error::BadAddressType(other)),
        };
        for _ in 0..address + 2 {
            proxy.next()?;
        }
        Some(End::Connected)
    })()
    .unwrap_or(End::Hungry);
    (Conversation { sent, end }, transcript.len() - proxy.len())
}

/// RFC 1929 section 2.
fn authentication(user: &[u8], password: &[u8]) -> Vec<u8> {
    let len = |field: &[u8]| u8::try_from(field.len()).unwrap();
    [&[1, len(user)], user, &[len(password)], password].concat()
}

/// RFC 1928 section 4.
fn request(target: &Target) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0];
    match target.host {
        Host::Name(name) => {
            bytes.extend([3, u8::try_from(name.as_bytes().len()).unwrap()]);
            bytes.extend(name.as_bytes());
        }
        Host::Address(IpAddr::V4(v4)) => {
            bytes.push(1);
            bytes.extend(v4.octets());
        }
        Host::Address(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => {
                bytes.push(1);
                bytes.extend(v4.octets());
            }
            None => {
                bytes.push(4);
                bytes.extend(v6.octets());
            }
        },
    }
    bytes.extend(target.port.to_be_bytes());
    bytes
}

// Strategies.

fn clients() -> impl Strategy<Value = Client> {
    let host = prop_oneof![
        vec(0x21..=0x7e_u8, 1..=255).prop_map(|text| Host::Name(Name::new(&text).unwrap())),
        any::<[u8; 4]>().prop_map(|octets| Host::Address(octets.into())),
        any::<[u8; 16]>().prop_map(|octets| Host::Address(octets.into())),
        any::<[u8; 4]>().prop_map(|octets| Host::Address(Ipv4Addr::from(octets).to_ipv6_mapped().into())),
    ];
    let field = |least| vec(any::<u8>(), least..=255);
    let credentials = proptest::option::of((field(1), field(0)));
    (host, any::<u16>(), credentials)
        .prop_map(|(host, port, credentials)| Client { target: Target { host, port }, credentials })
}

/// A bound address as a reply carries it: type, address, port.
fn bound_addresses() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<[u8; 6]>().prop_map(|rest| [&[1][..], &rest].concat()),
        any::<[u8; 18]>().prop_map(|rest| [&[4][..], &rest].concat()),
        (vec(any::<u8>(), 0..=255), any::<[u8; 2]>()).prop_map(|(name, port)| {
            [&[3, u8::try_from(name.len()).unwrap()], &name[..], &port].concat()
        }),
    ]
}

/// What an honest proxy says to anyone: it may ask for a password, and it connects.
fn agreeable_proxies() -> impl Strategy<Value = Vec<u8>> {
    let opening = prop_oneof![Just(&[5, 0][..]), Just(&[5, 2, 1, 0][..]), Just(&[5, 2, 5, 0][..])];
    (opening, any::<u8>(), bound_addresses())
        .prop_map(|(opening, reserved, bound)| [opening, &[5, 0, reserved], &bound].concat())
}

/// Honest proxies with a byte changed or the end cut off, proxies that speak any bytes, and what programs would say.
fn proxies() -> impl Strategy<Value = Vec<u8>> {
    let changed = (agreeable_proxies(), any::<Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len().min(10));
        bytes[at] = byte;
        bytes
    });
    let cut = (agreeable_proxies(), any::<Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    prop_oneof![
        agreeable_proxies(),
        changed,
        cut,
        vec(any::<u8>(), 0..600),
        vec(0..6_u8, 0..600),
        Just(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        Just(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
    ]
}

fn splits() -> impl Strategy<Value = Vec<usize>> {
    vec(1..20_usize, 1..20)
}

proptest! {
    #[test]
    fn the_split_of_the_input_changes_nothing(
        who in clients(), proxy in proxies(), program in vec(any::<u8>(), 0..40), split in splits(),
    ) {
        let transcript = [proxy, program].concat();
        let (model, belongs) = expected(&who, &transcript);
        for split in [&split[..], &[1], &[usize::MAX]] {
            let (real, taken) = converse(&who, &transcript, split);
            prop_assert_eq!(&real, &model);
            // An error may be seen before the last byte of its message or with it, never after.
            match real.end {
                End::Failed(_) => prop_assert!(taken >= belongs),
                End::Connected | End::Hungry => prop_assert_eq!(taken, belongs),
            }
        }
        // Byte by byte, an error is seen at its earliest byte.
        prop_assert_eq!(converse(&who, &transcript, &[1]).1, belongs);
    }

    #[test]
    fn an_agreeable_proxy_connects_and_the_program_gets_every_byte_after_the_reply(
        mut who in clients(), proxy in agreeable_proxies(), program in vec(any::<u8>(), 1..40), split in splits(),
    ) {
        who.credentials.get_or_insert_with(|| (b"user".to_vec(), b"secret".to_vec()));
        let transcript = [&proxy[..], &program].concat();
        let (conversation, taken) = converse(&who, &transcript, &split);
        prop_assert_eq!(conversation.end, End::Connected);
        prop_assert_eq!(&transcript[taken..], &program[..]);
    }

    #[test]
    fn input_beyond_what_was_asked_for_never_panics(
        who in clients(), chunks in vec(vec(any::<u8>(), 0..700), 0..8), asked in any::<bool>(),
    ) {
        let mut handshake = who.handshake();
        for chunk in &chunks {
            if asked {
                let _ = handshake.next_step();
            }
            let _ = handshake.handle_input(chunk);
        }
    }

    #[test]
    fn a_failed_handshake_stays_failed(who in clients(), proxy in proxies(), more in vec(any::<u8>(), 0..40)) {
        let mut handshake = who.handshake();
        let mut rest = &proxy[..];
        let error = loop {
            match handshake.next_step() {
                Step::Send(_) => {}
                Step::Connected => return Ok(()),
                Step::Receive(wanted) => {
                    let Some((piece, later)) = rest.split_at_checked(wanted) else { return Ok(()) };
                    rest = later;
                    if let Err(error) = handshake.handle_input(piece) {
                        break error;
                    }
                }
            }
        };
        for byte in more {
            prop_assert_eq!(handshake.handle_input(&[byte]), Err(error));
            prop_assert!(matches!(handshake.next_step(), Step::Receive(_)));
        }
    }
}

// Examples.

fn named(name: &str, port: u16) -> Target {
    Target { host: Host::Name(Name::new(name.as_bytes()).unwrap()), port }
}

fn addressed(address: &str, port: u16) -> Target {
    Target { host: Host::Address(address.parse().unwrap()), port }
}

fn client(target: Target) -> Client {
    Client { target, credentials: None }
}

fn client_with_password(user: &[u8], password: &[u8]) -> Client {
    Client { target: named("a.example", 80), credentials: Some((user.to_vec(), password.to_vec())) }
}

/// What is sent to a proxy that agrees without asking for a password.
fn request_for(target: Target) -> Vec<u8> {
    let (conversation, _) = converse(&client(target), &[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[usize::MAX]);
    assert_eq!(conversation.end, End::Connected);
    assert_eq!(conversation.sent[0], [5, 1, 0]);
    assert_eq!(conversation.sent.len(), 2);
    conversation.sent[1].clone()
}

#[test]
fn a_name_is_sent_as_a_name() {
    assert_eq!(request_for(named("Example.COM", 443)), b"\x05\x01\x00\x03\x0bexample.com\x01\xbb");
}

#[test]
fn a_name_of_255_bytes_is_sent_whole() {
    let name = "n".repeat(255);
    let sent = request_for(named(&name, 65535));
    assert_eq!(sent, [b"\x05\x01\x00\x03\xff", name.as_bytes(), b"\xff\xff"].concat());
}

#[test]
fn an_ipv4_address_is_sent_in_four_bytes() {
    assert_eq!(request_for(addressed("192.0.2.7", 8080)), [5, 1, 0, 1, 192, 0, 2, 7, 0x1f, 0x90]);
}

#[test]
fn an_ipv6_address_is_sent_in_sixteen_bytes() {
    assert_eq!(
        request_for(addressed("2001:db8::7", 22)),
        [5, 1, 0, 4, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 22]
    );
}

#[test]
fn an_ipv4_mapped_address_is_sent_as_ipv4_and_no_other_ipv6_address_is() {
    assert_eq!(request_for(addressed("::ffff:192.0.2.7", 22)), [5, 1, 0, 1, 192, 0, 2, 7, 0, 22]);
    for other in ["::192.0.2.7", "::1", "64:ff9b::192.0.2.7"] {
        assert_eq!(request_for(addressed(other, 22))[3], 4, "{other}");
    }
}

#[test]
fn port_zero_is_sent_as_it_is() {
    assert_eq!(request_for(addressed("192.0.2.7", 0))[8..], [0, 0]);
}

#[test]
fn a_password_is_offered_beside_no_authentication_and_sent_only_when_asked_for() {
    let who = client_with_password(b"user", b"pass");
    let asked = converse(&who, &[5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[usize::MAX]).0;
    assert_eq!(asked.end, End::Connected);
    assert_eq!(
        asked.sent,
        [&[5, 2, 0, 2][..], b"\x01\x04user\x04pass", b"\x05\x01\x00\x03\x09a.example\x00\x50",]
    );
    let not_asked = converse(&who, &[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[usize::MAX]).0;
    assert_eq!(not_asked.end, End::Connected);
    assert_eq!(not_asked.sent, [&[5, 2, 0, 2][..], b"\x05\x01\x00\x03\x09a.example\x00\x50"]);
}

#[test]
fn user_and_password_may_have_255_bytes_and_no_more() {
    let (user, password) = ([b'u'; 255], [b'p'; 255]);
    let sent = converse(&client_with_password(&user, &password), &[5, 2], &[2]).0.sent;
    assert_eq!(sent[1], [&[1, 255][..], &user, &[255], &password].concat());
    assert_eq!(sent[1].len(), 513);

    assert!(Credentials::new(&[b'u'; 256], b"p").is_none());
    assert!(Credentials::new(b"u", &[b'p'; 256]).is_none());
}

#[test]
fn a_user_is_required_and_an_empty_password_is_sent_as_such() {
    assert!(Credentials::new(b"", b"p").is_none());
    let sent = converse(&client_with_password(b"u", b""), &[5, 2], &[2]).0.sent;
    assert_eq!(sent[1], [1, 1, b'u', 0]);
}

#[test]
fn exactly_the_reply_is_taken_for_every_form_of_bound_address() {
    let names = (0..=255_u8).map(|len| [&[3, len][..], &vec![b'x'; usize::from(len)], &[0, 80]].concat());
    let v4 = [1, 127, 0, 0, 1, 0, 80].to_vec();
    let v6 = [&[4][..], &Ipv6Addr::LOCALHOST.octets(), &[0, 80]].concat();
    for bound in names.chain([v4, v6]) {
        let reply = [&[5, 0, 5, 0, 0][..], &bound].concat();
        // The banner begins with bytes that would pass for more of a reply.
        let transcript = [&reply[..], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0], b"220 ready\r\n"].concat();
        for split in [1, 2, 3, 7, usize::MAX] {
            let (conversation, taken) = converse(&client(named("a.example", 25)), &transcript, &[split]);
            assert_eq!(conversation.end, End::Connected);
            assert_eq!(taken, reply.len(), "bound address {bound:?}");
        }
    }
}

#[test]
fn every_error_is_seen_at_its_earliest_byte() {
    let plain = client(named("a.example", 80));
    let with_password = client_with_password(b"user", b"pass");
    let refused = |code| Error::Refused(ReplyCode(code));
    let mut cases: Vec<(&Client, Vec<u8>, Error)> = vec![
        (&plain, b"H".to_vec(), Error::NotSocks5(b'H')),
        (&plain, vec![0], Error::NotSocks5(0)),
        (&plain, vec![4], Error::NotSocks5(4)),
        // RFC 1929's version is none of RFC 1928's.
        (&plain, vec![1], Error::NotSocks5(1)),
        (&plain, vec![5, 0, 1], Error::NotSocks5(1)),
        (&plain, vec![5, 0, b'H'], Error::NotSocks5(b'H')),
        (&with_password, vec![5, 2, 0], Error::NotSocks5(0)),
        (&with_password, vec![5, 2, 1, 0, 4], Error::NotSocks5(4)),
        (&plain, vec![5, 0xff], Error::NoAcceptableMethod),
        (&with_password, vec![5, 0xff], Error::NoAcceptableMethod),
        (&plain, vec![5, 1], Error::UnofferedMethod(1)),
        (&plain, vec![5, 2], Error::UnofferedMethod(2)),
        (&with_password, vec![5, 0x80], Error::UnofferedMethod(0x80)),
        (&with_password, vec![5, 2, 1, 1], Error::AuthenticationRejected(1)),
        (&with_password, vec![5, 2, 5, 0xff], Error::AuthenticationRejected(0xff)),
        (&plain, vec![5, 0, 5, 0, 0, 0], Error::BadAddressType(0)),
        (&plain, vec![5, 0, 5, 0, 0, 2], Error::BadAddressType(2)),
        (&plain, vec![5, 0, 5, 0, 0, 0xff], Error::BadAddressType(0xff)),
        // Some servers close after the code; a longer refusal means the same.
        (&plain, vec![5, 0, 5, 5], refused(5)),
        (&with_password, vec![5, 2, 1, 0, 5, 2], refused(2)),
    ];
    cases.extend((1..=255).map(|code| (&plain, vec![5, 0, 5, code], refused(code))));
    for (who, transcript, error) in cases {
        for split in [1, usize::MAX] {
            let (conversation, taken) = converse(who, &transcript, &[split]);
            assert_eq!(conversation.end, End::Failed(error), "{transcript:?}");
            assert_eq!(taken, transcript.len(), "{transcript:?}");
        }
        let earlier = &transcript[..transcript.len() - 1];
        assert_eq!(converse(who, earlier, &[1]).0.end, End::Hungry, "{earlier:?}");

        let more = [&transcript[..], &[0; 300]].concat();
        for split in [1, usize::MAX] {
            assert_eq!(converse(who, &more, &[split]).0.end, End::Failed(error), "{more:?}");
        }
    }
}

#[test]
fn a_password_is_never_part_of_what_a_handshake_shows() {
    let who = client_with_password(b"someone", b"hunter2");
    let mut handshake = who.handshake();
    for _ in 0..3 {
        let shown = format!("{handshake:?}");
        assert!(!shown.contains("someone") && !shown.contains("hunter2"), "{shown}");
        let digits = format!("{:?}", b"hunter2");
        assert!(!shown.contains(digits.trim_matches(['[', ']'])), "{shown}");
        let _ = handshake.next_step();
        let _ = handshake.handle_input(&[5, 2]);
    }
}

#[test]
fn targets_and_reply_codes_are_shown_as_people_write_them() {
    assert_eq!(named("a.example", 80).to_string(), "a.example:80");
    assert_eq!(addressed("192.0.2.7", 80).to_string(), "192.0.2.7:80");
    assert_eq!(addressed("2001:db8::7", 80).to_string(), "[2001:db8::7]:80");
    assert_eq!(ReplyCode(5).to_string(), "connection refused (reply 5)");
    assert_eq!(ReplyCode(91).to_string(), "unassigned (reply 91)");
}

#[test]
fn an_association_is_asked_for_without_an_address_and_its_reply_says_where_the_relay_is() {
    let relays: [(&[u8], Host); 3] = [
        (&[1, 192, 0, 2, 1], Host::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))),
        (&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], Host::Address(Ipv6Addr::LOCALHOST.into())),
        (&[3, 1, b'r'], Host::Name(Name::new(b"r").unwrap())),
    ];
    for (address, host) in relays {
        let mut handshake = Handshake::associate(None);
        assert_eq!(handshake.next_step(), Step::Send(&[5, 1, 0]));
        assert_eq!(handshake.next_step(), Step::Receive(2));
        handshake.handle_input(&[5, 0]).unwrap();
        assert_eq!(handshake.next_step(), Step::Send(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(handshake.bound(), None);
        for byte in [&[5, 0, 0], address, &[0x12, 0x34]].concat() {
            assert!(matches!(handshake.next_step(), Step::Receive(1..)));
            handshake.handle_input(&[byte]).unwrap();
        }
        assert_eq!(handshake.next_step(), Step::Connected);
        assert_eq!(handshake.bound(), Some(Target { host, port: 0x1234 }));
    }
}

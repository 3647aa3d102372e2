//! Greeting and request in one flight: the same bytes as one after the other, and the same care with what comes back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use presocks_proto::name::Name;
use presocks_proto::socks5::{Error, Handshake, Host, ReplyCode, Step, Target};
use proptest::prelude::*;

const FLIGHT: &[u8] = b"\x05\x01\x00\x05\x01\x00\x03\x09a.example\x01\xbb";

fn handshake() -> Handshake<'static> {
    Handshake::pipelined(Target { host: Host::Name(Name::new(b"a.example").unwrap()), port: 443 })
}

/// Feeds `proxy` in pieces of at most `piece` bytes; how many bytes were taken, and the end.
fn converse(proxy: &[u8], piece: usize) -> (Vec<u8>, usize, Result<bool, Error>) {
    let (mut handshake, mut sent, mut taken) = (handshake(), Vec::new(), 0);
    loop {
        match handshake.next_step() {
            Step::Send(bytes) => sent.extend_from_slice(bytes),
            Step::Connected => return (sent, taken, Ok(true)),
            Step::Receive(wanted) => {
                let end = proxy.len().min(taken + wanted.min(piece));
                if end == taken {
                    return (sent, taken, Ok(false));
                }
                if let Err(error) = handshake.handle_input(&proxy[taken..end]) {
                    return (sent, end, Err(error));
                }
                taken = end;
            }
        }
    }
}

#[test]
fn everything_is_sent_at_once_and_nothing_afterwards() {
    let (sent, _, end) = converse(b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", 64);
    assert_eq!((sent.as_slice(), end), (FLIGHT, Ok(true)));
}

#[test]
fn a_refused_method_or_request_is_told_as_ever() {
    assert_eq!(converse(b"\x05\xff", 64).2, Err(Error::NoAcceptableMethod));
    assert_eq!(converse(b"\x05\x02", 64).2, Err(Error::UnofferedMethod(2)));
    assert_eq!(converse(b"\x05\x00\x05\x05", 64).2, Err(Error::Refused(ReplyCode(5))));
    assert_eq!(converse(b"HTTP/1.1 400", 64).2, Err(Error::NotSocks5(b'H')));
}

proptest! {
    #[test]
    fn any_split_ends_alike_and_no_byte_of_the_programs_is_taken(
        name_len in 0_u8.., piece in 1_usize..300, banner in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut proxy = vec![5, 0, 5, 0, 0, 3, name_len];
        proxy.resize(proxy.len() + usize::from(name_len) + 2, 7);
        let reply = proxy.len();
        proxy.extend(banner);
        prop_assert_eq!(converse(&proxy, piece), (FLIGHT.to_vec(), reply, Ok(true)));
    }
}

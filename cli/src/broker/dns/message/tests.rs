//! What comes from an upstream server: only an answer to the query is let through, whatever else it sends.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use simple_dns::{Packet, PacketFlag};

use super::*;

/// A record of type 16 with the question's name, class Internet, and one byte of data.
const RECORD: &[u8] = b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x01x";

fn message(id: u16, flags: u16, counts: [u16; 4], rest: &[&[u8]]) -> Vec<u8> {
    let header = [id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes);
    header.chain(rest.concat()).collect()
}

const QUESTION: &[u8] = b"\x01A\x07exAMPle\0\0\x10\0\x01";
const LOWER: &[u8] = b"\x01a\x07example\0\0\x10\0\x01";

/// Size 1400, the wish for DNSSEC, a cookie.
const OPT_OF_QUERY: &[u8] = b"\0\0\x29\x05\x78\0\0\x80\0\0\x0c\0\x0a\0\x08cookie!!";

fn query() -> Vec<u8> {
    message(0x1234, 0x0120, [1, 0, 0, 1], &[QUESTION, OPT_OF_QUERY])
}

fn answer() -> Vec<u8> {
    message(0xabcd, 0x8180, [1, 1, 1, 1], &[LOWER, RECORD, RECORD, OPT_OF_QUERY])
}

#[test]
fn an_answer_gets_the_querys_id_and_letters_and_is_else_untouched() {
    let expected = message(0x1234, 0x8180, [1, 1, 1, 1], &[QUESTION, RECORD, RECORD, OPT_OF_QUERY]);
    assert_eq!(accept(&query(), &answer()), Some(expected));
}

#[test]
fn failures_without_a_question_are_answers_and_successes_without_one_are_not() {
    for rcode in 1..16 {
        let refusal = message(7, 0x8180 | rcode, [0; 4], &[]);
        assert_eq!(accept(&query(), &refusal), Some(message(0x1234, 0x8180 | rcode, [0; 4], &[])));
    }
    assert_eq!(accept(&query(), &message(7, 0x8180, [0; 4], &[])), None);
    assert_eq!(accept(&query(), &message(7, 0x8183, [0, 1, 0, 0], &[b"\0\0\x01\0\x01"])), None);
}

#[test]
fn what_is_no_answer_to_the_query_is_none() {
    let other_name = b"\x01b\x07example\0\0\x10\0\x01";
    let other_type = b"\x01a\x07example\0\0\x0f\0\x01";
    let other_class = b"\x01a\x07example\0\0\x10\0\x03";
    for question in [&other_name[..], other_type, other_class, b"\xc0\x0c\0\x10\0\x01"] {
        assert_eq!(accept(&query(), &message(7, 0x8180, [1, 0, 0, 0], &[question])), None, "{question:?}");
    }
    for wrong in [
        message(7, 0x0180, [1, 0, 0, 0], &[LOWER]),
        message(7, 0xa180, [1, 0, 0, 0], &[LOWER]),
        message(7, 0x8180, [2, 0, 0, 0], &[LOWER, LOWER]),
        message(7, 0x8180, [1, 2, 0, 0], &[LOWER, RECORD]),
        message(7, 0x8180, [1, 0, 0, 0], &[LOWER, RECORD]),
        message(7, 0x8180, [1, 0, 0, 0], &[LOWER, b"\0"]),
        message(7, 0x8180, [1, 0xffff, 0xffff, 0xffff], &[LOWER]),
    ] {
        assert_eq!(accept(&query(), &wrong), None, "{wrong:02x?}");
    }
    for length in 0..answer().len() {
        assert_eq!(accept(&query(), &answer()[..length]), None, "{length}");
    }
}

#[test]
fn an_answer_that_is_too_long_becomes_the_question_with_the_sign_for_it() {
    assert_eq!(room(&query()), 1400);
    for (size, room_for_it) in [(0, 512), (511, 512), (513, 513), (4096, 4096), (65_535, 4096)] {
        let opt = [&b"\0\0\x29"[..], &u16::to_be_bytes(size), &[0; 6]].concat();
        assert_eq!(room(&message(7, 0, [1, 0, 0, 1], &[QUESTION, &opt])), room_for_it);
    }
    let plain = message(0x1234, 0x0100, [1, 0, 0, 0], &[QUESTION]);
    assert_eq!(room(&plain), 512);
    // Authoritative, data authenticated: as the server said.
    let long = message(0x1234, 0x85a0, [1, 1, 0, 0], &[QUESTION, RECORD]);
    assert_eq!(cut_short(&plain, &long), message(0x1234, 0x87a0, [1, 0, 0, 0], &[QUESTION]));
    let short = cut_short(&query(), &long);
    let packet = Packet::parse(&short).unwrap();
    assert!(packet.has_flags(PacketFlag::TRUNCATION) && packet.answers.is_empty());
    assert!(short.ends_with(b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"));
}

#[test]
fn a_refusal_has_the_question() {
    let refused = refuse(&query(), Rcode::ServFail);
    let opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";
    assert_eq!(refused, message(0x1234, 0x8182, [1, 0, 0, 1], &[QUESTION, opt]));
}

proptest! {
    #[test]
    fn no_answer_of_a_server_panics_or_grows(
        changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 0..6),
    ) {
        let mut changed = answer();
        for (place, byte, change) in changes {
            let at = place.index(changed.len() + 1);
            match change {
                0 => changed.insert(at, byte),
                1 => changed.truncate(at),
                _ => changed.iter_mut().skip(at).take(1).for_each(|changed| *changed = byte),
            }
        }
        if let Some(accepted) = accept(&query(), &changed) {
            prop_assert_eq!(accepted.len(), changed.len());
            prop_assert_eq!(&accepted[..2], &query()[..2]);
            prop_assert!(cut_short(&query(), &accepted).len() < 60);
        }
    }

    #[test]
    fn any_bytes_of_a_server_are_an_answer_or_none(bytes in vec(any::<u8>(), 0..600)) {
        if let Some(accepted) = accept(&query(), &bytes) {
            prop_assert_eq!(accepted.len(), bytes.len());
        }
    }
}

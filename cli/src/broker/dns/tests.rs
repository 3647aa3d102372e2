//! simple-dns reads the answers: somebody else's idea of the format. It does not know all types and classes, and looks
//! for the version of EDNS in the wrong byte, so those are compared byte by byte.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE, SimpleDnsError};

use super::message::{RECURSION_DESIRED, TTL, UDP_SIZE, cut, room};
use super::*;

const ID: u16 = 0x1234;
const MX: u16 = 15;
const TXT: u16 = 16;
/// RFC 6891: size 1232, version 0, no option.
const PLAIN_OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

/// What programs ask for a host's address: as they sent it. Only dig's is made by hand.
const CLIENTS: [(&str, &str); 11] = [
    ("glibc, A", "d23c0100000100000000000003777777074578616d706c6503636f6d0000010001"),
    ("glibc, AAAA", "69210100000100000000000003777777074578616d706c6503636f6d00001c0001"),
    (
        "glibc with edns0 and trust-ad",
        "5f880120000100000000000103777777074578616d706c6503636f6d000001000100002904b0000000000000",
    ),
    ("musl 1.2.3, A", "fc660100000100000000000003777777074578616d706c6503636f6d0000010001"),
    ("musl's res_query, AAAA", "07a80120000100000000000003777777074578616d706c6503636f6d00001c0001"),
    ("Go, AAAA", "3cfe0100000100000000000103777777074578616d706c6503636f6d00001c000100002904d0000000000000"),
    ("Go, A", "a8f70100000100000000000103777777074578616d706c6503636f6d000001000100002904d0000000000000"),
    ("busybox", "dcb00100000100000000000003777777076578616d706c6503636f6d0000010001"),
    ("c-ares in Node", "e6ec01000001000000000000046e6f6465076578616d706c6503636f6d0000010001"),
    (
        "dig, with a cookie",
        "8b1f0120000100000000000103777777074578616d706c6503636f6d0000010001\
         00002904d000000000000c000a0008c5a1f3e27b905d14",
    ),
    (
        "dig +dnssec, with a cookie",
        "8b200120000100000000000103777777074578616d706c6503636f6d00001c0001\
         00002904d000008000000c000a0008c5a1f3e27b905d14",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [ID, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
}

fn question(labels: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
    let mut question = Vec::new();
    for label in labels {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(*label);
    }
    question.push(0);
    question.extend(kind.to_be_bytes());
    question.extend(class.to_be_bytes());
    question
}

fn query_of(labels: &[&[u8]], kind: u16) -> Vec<u8> {
    [header(RECURSION_DESIRED, [1, 0, 0, 0]), question(labels, kind, INTERNET)].concat()
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    query_of(&name.split('.').map(str::as_bytes).collect::<Vec<_>>(), kind)
}

/// With these records after the question.
fn query_with(records: &[&[u8]]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap();
    [header(0, [1, 0, 0, count]), question(&[b"a", b"example"], A, INTERNET), records.concat()].concat()
}

fn opt(ttl: u32) -> Vec<u8> {
    [&PLAIN_OPT[..5], &ttl.to_be_bytes(), &[0, 0]].concat()
}

/// What is known here.
fn answer(names: &mut Names, query: &[u8]) -> Option<Vec<u8>> {
    match judge(names, query) {
        Verdict::Answer(answer) => Some(answer),
        Verdict::Silence => None,
        other => panic!("{other:?} for {query:02x?}"),
    }
}

fn ask(query: &[u8]) -> Vec<u8> {
    answer(&mut Names::default(), query).unwrap()
}

fn rcode(answer: &[u8]) -> RCODE {
    Packet::parse(answer).unwrap().rcode()
}

fn addresses_in(answer: &[u8]) -> Vec<IpAddr> {
    let packet = Packet::parse(answer).unwrap();
    assert_eq!(packet.rcode(), RCODE::NoError);
    let address = |record: &simple_dns::ResourceRecord<'_>| {
        assert_eq!(record.name, packet.questions[0].qname);
        assert_eq!(record.ttl, TTL);
        match &record.rdata {
            RData::A(a) => IpAddr::from(Ipv4Addr::from(a.address)),
            RData::AAAA(aaaa) => IpAddr::from(Ipv6Addr::from(aaaa.address)),
            other => panic!("{other:?}"),
        }
    };
    packet.answers.iter().map(address).collect()
}

fn pointer_in(answer: &[u8]) -> Option<String> {
    let packet = Packet::parse(answer).unwrap();
    assert_eq!(packet.rcode() == RCODE::NoError, packet.answers.len() == 1);
    let record = packet.answers.first()?;
    let RData::PTR(target) = &record.rdata else { panic!("{record:?}") };
    Some(target.to_string())
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

#[test]
fn a_name_has_a_stand_in_of_each_family() {
    let mut names = Names::default();
    let mut ask = |kind| addresses_in(&answer(&mut names, &query("a.example", kind)).unwrap());
    let (v4, v6) = (ask(A), ask(AAAA));
    assert!(matches!(v4[..], [IpAddr::V4(_)]));
    assert!(matches!(v6[..], [IpAddr::V6(_)]));
    for address in [v4[0], v6[0]] {
        assert_eq!(names.reverse(address), Some(name("a.example")));
    }
}

#[test]
fn a_local_name_has_its_own_addresses() {
    assert_eq!(addresses_in(&ask(&query("app.localhost", A))), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    assert_eq!(addresses_in(&ask(&query("app.localhost", AAAA))), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    for kind in [PTR, HTTPS, MX, TXT] {
        assert!(addresses_in(&ask(&query("app.LOCALHOST", kind))).is_empty(), "{kind}");
    }
}

#[test]
fn a_missing_family_is_an_empty_answer_and_a_missing_stand_in_a_failure() {
    assert!(matches!(addresses(Err(libc::ENOENT)), Ok(none) if none.is_empty()));
    assert!(matches!(addresses(Err(libc::ENOSPC)), Err(Rcode::ServFail)));
}

#[test]
fn the_case_of_the_letters_comes_back_and_means_nothing() {
    let mixed = query("A.exAMPle", A);
    let answer = ask(&mixed);
    assert_eq!(answer[12..mixed.len()], mixed[12..]);
    assert_eq!(addresses_in(&answer), addresses_in(&ask(&query("a.example", A))));
}

#[test]
fn a_name_that_no_request_can_carry_does_not_exist() {
    for label in [&b"a.b"[..], b".", b"a b", b"\0", b"a\nb", b"\x1b[31m", b"\x7f"] {
        for kind in [A, AAAA, HTTPS] {
            assert_eq!(rcode(&ask(&query_of(&[label, b"example"], kind))), RCODE::NameError, "{label:?}");
        }
    }
    for label in [&br"a\046b"[..], br"\", "bücher".as_bytes(), b"\xff", b"_x", b"*"] {
        assert_eq!(addresses_in(&ask(&query_of(&[label, b"example"], A))).len(), 1, "{label:?}");
    }
}

#[test]
fn the_longest_name_is_answered_and_one_byte_more_is_a_format_error() {
    let whole = [b'a'; 63];
    let longest = query_of(&[&whole, &whole, &whole, &whole[..61]], A);
    assert_eq!(longest.len(), 12 + 255 + 4);
    assert_eq!(addresses_in(&ask(&longest)).len(), 1);
    assert_eq!(ask(&query_of(&[&whole, &whole, &whole, &whole[..62]], A)), header(0x8181, [0; 4]));
}

#[test]
fn the_root_exists_and_has_no_address() {
    for kind in [A, AAAA, HTTPS] {
        assert!(addresses_in(&ask(&query_of(&[], kind))).is_empty());
    }
}

#[test]
fn a_service_has_no_record_of_its_own() {
    for kind in [SVCB, HTTPS] {
        assert!(addresses_in(&ask(&query("_8443._https.a.example", kind))).is_empty());
    }
}

#[test]
fn an_address_leads_back_to_its_name() {
    let mut names = Names::default();
    let given: Vec<_> = names.resolve(&name("a.example"), Family::Any).unwrap().iter().collect();
    for address in given {
        let reversed = match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                format!("{d}.{c}.{b}.{a}.IN-addr.arpa")
            }
            IpAddr::V6(v6) => {
                let digits = format!("{:032x}", v6.to_bits());
                digits.chars().rev().flat_map(|digit| [digit, '.']).collect::<String>() + "ip6.arpa"
            }
        };
        let answer = answer(&mut names, &query(&reversed, PTR)).unwrap();
        assert_eq!(pointer_in(&answer).as_deref(), Some("a.example"));
    }
    assert!(pointer_in(&ask(&query("1.0.0.127.in-addr.arpa", PTR))).is_some());
}

#[test]
fn a_stand_in_that_was_not_given_out_does_not_exist() {
    let reserved = "0.0.0.0.".repeat(3) + "0.0.3.7.b.6.3.6.f.6.3.7.5.6.2.7.0.7.d.f.ip6.arpa";
    for unknown in ["1.1.18.198.in-addr.arpa", "0.255.19.198.IN-ADDR.ARPA", reserved.as_str()] {
        let answer = ask(&query(unknown, PTR));
        assert_eq!(rcode(&answer), RCODE::NameError, "{unknown}");
    }
}

fn verdict(query: &[u8]) -> Verdict {
    judge(&mut Names::default(), query)
}

#[test]
fn the_dns_is_asked_for_the_name_of_any_other_address() {
    let nibbles = "1.".repeat(32);
    for unknown in [
        "1.2.0.192.in-addr.arpa",
        "2.0.88.10.in-addr.arpa",
        "0.0.127.in-addr.arpa",
        "1.1.0.0.127.in-addr.arpa",
        "256.0.0.127.in-addr.arpa",
        "01.0.0.127.in-addr.arpa",
        "in-addr.arpa",
        "ip6.arpa",
        "a.example",
        "b._dns-sd._udp.example",
        &format!("{nibbles}ip6.arpa"),
        &format!("1.{nibbles}ip6.arpa"),
        &format!("{}ip6.arpa", &nibbles[2..]),
        &format!("{}g.ip6.arpa", &nibbles[2..]),
        &format!("11.11.{}ip6.arpa", &nibbles[6..]),
    ] {
        assert_eq!(verdict(&query(unknown, PTR)), Verdict::Forward, "{unknown}");
    }
    assert_eq!(verdict(&query_of(&[], PTR)), Verdict::Forward);
    assert_eq!(verdict(&query_of(&[b"a.b", b"example"], PTR)), Verdict::Forward);
}

#[test]
fn a_pointer_has_no_dot_at_its_end_and_is_left_out_when_the_dns_has_no_such_name() {
    let long = "a".repeat(64);
    for (given, seen) in [("b.example.", Some("b.example")), (&long, None)] {
        let mut names = Names::default();
        let all = names.resolve(&name(given), Family::V4).unwrap();
        let IpAddr::V4(address) = all.iter().next().unwrap() else { panic!() };
        let [a, b, c, d] = address.octets();
        let query = query(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), PTR);
        assert_eq!(pointer_in(&answer(&mut names, &query).unwrap()).as_deref(), seen, "{given}");
    }
}

#[test]
fn the_dns_is_asked_for_all_other_types() {
    // NS, CNAME, SOA, MX, TXT, SRV, SSHFP, TLSA, URI
    for kind in [0, 2, 5, 6, MX, TXT, 33, 44, 52, 256, 0xffff] {
        for labels in [&[&b"a"[..], b"example"][..], &[], &[b"a b", b"\xff.\0"]] {
            assert_eq!(verdict(&query_of(labels, kind)), Verdict::Forward, "{kind}");
        }
    }
}

#[test]
fn a_zone_is_a_matter_of_its_own_and_over_udp_to_be_asked_for_again() {
    for kind in [IXFR, AXFR] {
        let query = query("a.example", kind);
        assert_eq!(verdict(&query), Verdict::Transfer);
        assert_eq!(cut(&query), [&header(0x8380, [1, 0, 0, 0]), &query[12..]].concat());
    }
}

#[test]
fn any_is_refused() {
    for name in ["a.example", "localhost", "1.0.0.127.in-addr.arpa"] {
        let query = query(name, ANY);
        assert_eq!(ask(&query), [&header(0x8185, [1, 0, 0, 0]), &query[12..]].concat(), "{name}");
    }
}

#[test]
fn an_onion_is_never_asked_of_the_dns() {
    for kind in [MX, TXT, HTTPS] {
        assert!(addresses_in(&ask(&query("mail.abc.Onion", kind))).is_empty());
    }
    assert_eq!(addresses_in(&ask(&query("abc.onion", A))).len(), 1);
    assert_eq!(verdict(&query("onion.example", MX)), Verdict::Forward);
}

#[test]
fn other_classes_are_refused() {
    // Chaos, Hesiod, any, and what multicast DNS makes of the Internet's
    for class in [0, 3, 4, 255, 0x8001] {
        let question = question(&[b"a", b"example"], A, class);
        let query = [header(0, [1, 0, 0, 0]), question.clone()].concat();
        assert_eq!(ask(&query), [header(0x8085, [1, 0, 0, 0]), question].concat(), "{class}");
    }
}

#[test]
fn other_operations_are_not_implemented() {
    for opcode in 1..16 {
        let flags = opcode << 11;
        assert_eq!(ask(&header(flags | 0x0100, [1, 2, 3, 4])), header(flags | 0x8184, [0; 4]));
    }
}

#[test]
fn more_or_less_than_one_question_is_a_format_error() {
    let asked = question(&[b"a", b"example"], A, INTERNET);
    for count in [0, 2, 0xffff] {
        let query = [header(0, [count, 0, 0, 0]), asked.repeat(count.min(2).into())].concat();
        assert_eq!(ask(&query), header(0x8081, [0; 4]));
    }
}

#[test]
fn an_answer_and_a_message_without_a_whole_header_get_no_answer() {
    let query = query("a.example", A);
    for length in 0..12 {
        assert_eq!(answer(&mut Names::default(), &query[..length]), None);
    }
    assert_eq!(answer(&mut Names::default(), &ask(&query)), None);
    assert_eq!(answer(&mut Names::default(), &ask(&header(0x0800, [0; 4]))), None);
    assert_eq!(answer(&mut Names::default(), &ask(&header(0, [0; 4]))), None);
}

#[test]
fn what_is_cut_too_long_or_garbled_is_a_format_error_with_its_id() {
    let good = query_with(&[PLAIN_OPT]);
    let format_error = header(0x8081, [0; 4]);
    for length in 12..good.len() {
        assert_eq!(ask(&good[..length]), format_error, "{length}");
    }
    assert_eq!(ask(&[&good[..], b"\0"].concat()), format_error);
    for name in [&b"\xc0\x0c"[..], b"\x01a\xc0\x0c", b"\x40\0", b"\x80\0", b"\x3fa\0"] {
        assert_eq!(ask(&[&header(0, [1, 0, 0, 0])[..], name, b"\0\x01\0\x01"].concat()), format_error);
    }
    assert_eq!(ask(&header(0, [1, 0xffff, 0xffff, 0xffff])), format_error);
}

#[test]
fn recursion_is_available_and_only_the_wish_for_it_is_copied() {
    for (asked, said) in [(0, 0x8080), (0x0100, 0x8180), (0x07ff, 0x8180)] {
        let query = [header(asked, [1, 0, 0, 0]), question(&[b"a"], A, INTERNET)].concat();
        assert_eq!(ask(&query)[2..4], u16::to_be_bytes(said));
    }
}

#[test]
fn edns_is_answered_with_edns_alone() {
    for (ttl, said) in [(0, 0), (0x8000, 0x8000), (0xff00_7fff, 0)] {
        let answer = ask(&query_with(&[&opt(ttl)]));
        assert!(answer.ends_with(&opt(said)), "{ttl:x}");
        assert_eq!(addresses_in(&answer).len(), 1);
        assert_eq!(Packet::parse(&answer).unwrap().opt().unwrap().udp_packet_size, UDP_SIZE);
    }
    assert!(Packet::parse(&ask(&query_with(&[]))).unwrap().opt().is_none());
    let failure = ask(&[header(0, [1, 0, 0, 1]), question(&[b"a"], ANY, INTERNET), opt(0)].concat());
    assert_eq!(failure[3] & 0xf, 5);
    assert!(failure.ends_with(PLAIN_OPT));
}

#[test]
fn a_later_version_of_edns_is_a_bad_version() {
    for version in [1, 2, 255] {
        let query = query_with(&[&opt(version << 16)]);
        // 16 = 1 << 4 | 0: the upper eight bits are in the OPT record.
        let expected = [&header(0x8080, [1, 0, 0, 1]), &query[12..query.len() - 11], &opt(1 << 24)].concat();
        assert_eq!(ask(&query), expected);
    }
}

#[test]
fn edns_twice_or_of_another_name_than_the_root_is_a_format_error() {
    let of_a_name = [b"\x01a", PLAIN_OPT].concat();
    let of_a_pointer = [b"\xc0\x0c", &PLAIN_OPT[1..]].concat();
    for records in [&[PLAIN_OPT, PLAIN_OPT][..], &[&of_a_name], &[&of_a_pointer]] {
        assert_eq!(ask(&query_with(records)), header(0x8081, [0; 4]));
    }
}

#[test]
fn other_records_in_a_query_mean_nothing() {
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01";
    let answer = ask(&query_with(&[record, PLAIN_OPT, b"\x01t\0\0\xfa\0\xff\0\0\0\0\0\x01x"]));
    assert_eq!(addresses_in(&answer).len(), 1);
    assert!(answer.ends_with(PLAIN_OPT));
    let asked = question(&[b"a"], A, INTERNET);
    let before = [header(0, [1, 1, 1, 0]), asked, record.to_vec(), record.to_vec()].concat();
    assert_eq!(addresses_in(&ask(&before)).len(), 1);
}

#[test]
fn real_clients_are_answered() {
    for (client, hex) in CLIENTS {
        let query = bytes(hex);
        let answer = ask(&query);
        assert_eq!(addresses_in(&answer).len(), 1, "{client}");
        assert_eq!(answer[..2], query[..2]);
        let packet = Packet::parse(&answer).unwrap();
        let flags = PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE;
        assert!(packet.has_flags(flags | PacketFlag::RECURSION_DESIRED));
        assert_eq!(packet.opt().is_some(), query[11] == 1, "{client}");
        let length = packet.questions[0].qname.to_string().len() + 6;
        assert_eq!(answer[12..12 + length], query[12..12 + length], "{client}");
    }
}

/// Whatever is asked: an answer is one that somebody else can read, to this query, and gets no answer itself.
fn check(query: &[u8]) -> Result<(), TestCaseError> {
    let answered = match verdict(query) {
        Verdict::Answer(answered) => answered,
        Verdict::Silence => {
            prop_assert!(query.len() < 12 || query[2] & 0x80 != 0);
            return Ok(());
        }
        Verdict::Forward | Verdict::Transfer => {
            prop_assert!(room(query) >= 512 && room(query) <= 4096);
            prop_assert_eq!(judge(&mut Names::default(), &failure(query)), Verdict::Silence);
            cut(query)
        }
    };
    prop_assert_eq!(&answered[..2], &query[..2]);
    prop_assert_eq!(answered[2] & 0xfc, 0x80 | (query[2] & 0x78));
    match Packet::parse(&answered) {
        Ok(_) => (),
        // The question is echoed, whatever its type and class.
        Err(SimpleDnsError::InvalidQType(_) | SimpleDnsError::InvalidClass(_)) => {
            prop_assert_eq!(&answered[4..8], &[0, 1, 0, 0]);
        }
        Err(error) => return Err(TestCaseError::fail(format!("{error:?}: {answered:02x?}"))),
    }
    prop_assert_eq!(answer(&mut Names::default(), &answered), None);
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_answered_properly_or_not_at_all(query in vec(any::<u8>(), 0..600)) {
        check(&query)?;
    }

    #[test]
    fn any_bytes_after_the_header_of_a_query_are_answered_properly(
        counts in (0..3_u16, 0..2_u16, 0..2_u16, 0..3_u16),
        rest in vec(any::<u8>(), 0..100),
    ) {
        let counts = [counts.0, counts.1, counts.2, counts.3];
        check(&[header(RECURSION_DESIRED, counts), rest].concat())?;
    }

    #[test]
    fn a_mutated_query_of_a_real_client_is_answered_properly_or_not_at_all(
        (_, hex) in select(&CLIENTS[..]),
        changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 0..5),
    ) {
        let mut query = bytes(hex);
        for (place, byte, change) in changes {
            let at = place.index(query.len() + 1);
            match change {
                0 => query.insert(at, byte),
                1 => query.truncate(at.max(12)),
                _ => query.iter_mut().skip(at).take(1).for_each(|changed| *changed = byte),
            }
        }
        check(&query)?;
    }
}

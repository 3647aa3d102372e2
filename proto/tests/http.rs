//! HTTP CONNECT, byte for byte and by property, against a second description that sees the whole transcript at once: the split of the
//! response changes nothing, no byte past the blank line is asked for, and the end is a connection, an error, or a wish for more bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use presocks_proto::handshake::Step;
use presocks_proto::http::{Credentials, Error, Handshake, MAX_HEADER};
use presocks_proto::name::Name;
use presocks_proto::target::{Host, Target};
use proptest::collection::vec;
use proptest::prelude::*;

fn named(name: &str, port: u16) -> Target {
    Target { host: Host::Name(Name::new(name.as_bytes()).unwrap()), port }
}

fn addressed(address: &str, port: u16) -> Target {
    Target { host: Host::Address(address.parse().unwrap()), port }
}

/// How a conversation ended; errors as one reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Connected,
    NotHttp,
    Refused(u16),
    TooLong,
    /// The transcript was over and the handshake wanted more.
    Hungry,
}

fn end_of(error: Error) -> End {
    match error {
        Error::NotHttp(_) => End::NotHttp,
        Error::Refused(line) => End::Refused(line.status()),
        Error::TooLong => End::TooLong,
        Error::NameNotCarried => panic!("nothing was sent"),
    }
}

/// Plays `transcript` in pieces of the given sizes, repeated as needed: how many bytes were taken, and the end.
fn converse(transcript: &[u8], pieces: &[usize]) -> (usize, End) {
    let mut handshake = Handshake::new(&named("a.example", 443), None).unwrap();
    let mut taken = 0;
    let mut pieces = pieces.iter().cycle();
    loop {
        match handshake.next_step() {
            Step::Send(_) => {}
            Step::Connected => return (taken, End::Connected),
            Step::Receive(wanted) => {
                assert!((1..=14).contains(&wanted));
                let rest = &transcript[taken..];
                let piece = wanted.min(rest.len()).min(*pieces.next().unwrap());
                if piece == 0 {
                    return (taken, End::Hungry);
                }
                taken += piece;
                if let Err(error) = handshake.handle_input(&rest[..piece]) {
                    return (taken, end_of(error));
                }
            }
        }
    }
}

/// The protocol once more, line by line. Gives the number of bytes up to the end, too, but for what is no HTTP.
fn expected(transcript: &[u8]) -> (Option<usize>, End) {
    let cut = &transcript[..transcript.len().min(MAX_HEADER)];
    let at_end = if transcript.len() > MAX_HEADER { End::TooLong } else { End::Hungry };
    let (mut at, mut rest) = (0, cut);
    loop {
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            let end = if may_become_status_line(rest) { at_end } else { End::NotHttp };
            return (None, end);
        };
        let line = &rest[..len];
        if !may_become_status_line(line) || line.len() < 12 {
            return (None, End::NotHttp);
        }
        (at, rest) = (at + len + 1, &rest[len + 1..]);
        let status: u16 = std::str::from_utf8(&line[9..12]).unwrap().parse().unwrap();
        // Its fields name the methods; so much of them as comes is read.
        if [401, 407].contains(&status) {
            return expected_of_refusal(status, at, rest, transcript.len() > MAX_HEADER);
        }
        if status == 101 || status >= 300 {
            return (Some(at), End::Refused(status));
        }
        loop {
            let Some(len) = rest.iter().position(|byte| *byte == b'\n') else { return (None, at_end) };
            let is_blank = [&b""[..], b"\r"].contains(&&rest[..len]);
            (at, rest) = (at + len + 1, &rest[len + 1..]);
            match status {
                _ if !is_blank => {}
                200.. => return (Some(at), End::Connected),
                _ => break,
            }
        }
    }
}

/// A refusal is over at its blank line, or with the last byte that a header may have.
fn expected_of_refusal(status: u16, mut at: usize, mut rest: &[u8], is_long: bool) -> (Option<usize>, End) {
    loop {
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            return (None, if is_long { End::Refused(status) } else { End::Hungry });
        };
        let is_blank = [&b""[..], b"\r"].contains(&&rest[..len]);
        (at, rest) = (at + len + 1, &rest[len + 1..]);
        if is_blank {
            return (Some(at), End::Refused(status));
        }
    }
}

fn may_become_status_line(bytes: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_digit();
    bytes.iter().enumerate().all(|(at, byte)| match at {
        0..7 => b"HTTP/1."[at] == *byte,
        8 => *byte == b' ',
        9 => digit(byte) && *byte != b'0',
        7 | 10 | 11 => digit(byte),
        12 => [b' ', b'\r'].contains(byte),
        _ => true,
    })
}

fn sent(target: Target, credentials: Option<(&[u8], &[u8])>) -> String {
    let credentials = credentials.map(|(user, password)| Credentials::new(user, password).unwrap());
    let mut handshake = Handshake::new(&target, credentials).unwrap();
    let Step::Send(bytes) = handshake.next_step() else { panic!("nothing is sent") };
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_request_names_the_destination_twice() {
    for (target, authority) in [
        (named("A.example", 443), "a.example:443"),
        (addressed("192.0.2.7", 80), "192.0.2.7:80"),
        (addressed("::ffff:192.0.2.7", 80), "192.0.2.7:80"),
        (addressed("2001:db8::7", 65535), "[2001:db8::7]:65535"),
    ] {
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        assert_eq!(sent(target, None), request);
    }
}

#[test]
fn user_and_password_are_sent_in_base64() {
    // RFC 7617 section 2, and RFC 4648 section 10 for the three lengths.
    for (user, password, token) in [
        (&b"Aladdin"[..], &b"open sesame"[..], "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (b"", b"", "Og=="),
        (b"f", b"", "Zjo="),
        (b"f", b"o", "Zjpv"),
        (b"\xfb\xff", b"\xff", "+/86/w=="),
    ] {
        let request = sent(named("a.example", 80), Some((user, password)));
        let field = format!("\r\nProxy-Authorization: Basic {token}\r\n\r\n");
        assert!(request.ends_with(&field), "{request}");
    }
    assert!(Credentials::new(b"a:b", b"").is_none());
    assert!(Credentials::new(&[b'u'; 256], b"").is_none() && Credentials::new(b"", &[b'p'; 256]).is_none());
}

#[test]
fn the_longest_request_is_sent_whole() {
    let (name, field) = ("n".repeat(255), [b'x'; 255]);
    let request = sent(named(&name, 65535), Some((&field, &field)));
    assert!(request.ends_with("eHh4eA==\r\n\r\n") && request.matches(&name).count() == 2, "{request}");
    assert_eq!(request.len(), 8 + 261 + 11 + 6 + 261 + 2 + 27 + 684 + 4);
}

#[test]
fn a_name_that_would_garble_the_authority_is_refused() {
    for name in ["a:1", "a@b", "a/b", "a?b", "[::1]", "a%20b", "bücher.example", "a\\b"] {
        assert_eq!(Handshake::new(&named(name, 80), None).unwrap_err(), Error::NameNotCarried, "{name}");
    }
    assert!(sent(named("_a.b-1.example.", 80), None).starts_with("CONNECT _a.b-1.example.:80 "));
}

#[test]
fn every_2xx_connects_at_its_blank_line_however_lines_end() {
    for header in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 200\n\n",
        "HTTP/1.1 204 \nA: b\n\r\n",
        "HTTP/1.1 299 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 a\rb\r\r\n\rc\r\n\r\n",
    ] {
        for split in [1, 2, 3, usize::MAX] {
            let transcript = format!("{header}\r\n\n220 ready\r\n");
            assert_eq!(converse(transcript.as_bytes(), &[split]), (header.len(), End::Connected), "{header}");
        }
    }
}

#[test]
fn a_refusal_is_known_by_its_status_line() {
    for status in [101, 301, 400, 403, 500, 502, 503, 504, 999] {
        let line = format!("HTTP/1.1 {status} No\r\n");
        assert_eq!(converse(line.as_bytes(), &[1]), (line.len(), End::Refused(status)));
        assert_eq!(converse(&line.as_bytes()[..line.len() - 1], &[1]).1, End::Hungry);
    }
}

#[test]
fn a_refusal_that_wants_authentication_names_the_methods() {
    let told = |fields: &str, status: u16| {
        let mut handshake = Handshake::new(&named("a.example", 443), None).unwrap();
        let _ = handshake.next_step();
        let header = format!("HTTP/1.1 {status} No\r\n{fields}");
        let results: Vec<_> = header.bytes().map(|byte| handshake.handle_input(&[byte])).collect();
        let known = handshake.refusal();
        let last = results.into_iter().find_map(Result::err);
        match last.or(known) {
            Some(Error::Refused(line)) => (last.is_some(), line.methods().collect::<Vec<_>>().join(", ")),
            other => panic!("{other:?}"),
        }
    };
    for (fields, methods) in [
        ("Proxy-Authenticate: Negotiate\r\nproxy-authenticate:NTLM\r\n\r\n", "Negotiate, NTLM"),
        (
            "PROXY-AUTHENTICATE: Basic realm=\"a, b\", charset=\"UTF-8\", Digest realm=x, qop=\"auth\"\n\n",
            "Digest, Basic",
        ),
        ("Via: Basic\r\nProxy-Authenticate: Basic a=b\r\nProxy-Authenticate: basic\r\n\r\n", "Basic"),
        ("WWW-Authenticate: Basic\r\nProxy-Authenticate: \x1b[2J, ,,\r\n\r\n", ""),
        ("\r\n", ""),
    ] {
        assert_eq!(told(fields, 407), (true, methods.to_owned()), "{fields:?}");
    }
    assert_eq!(told("WWW-Authenticate: Bearer\r\n\r\n", 401).1, "Bearer");
    // What has come counts when no more comes.
    assert_eq!(told("Proxy-Authenticate: NTLM\r\nProxy-", 407), (false, "NTLM".to_owned()));
    let many = format!("Proxy-Authenticate: {}\r\n\r\n", "abcdefghij, klmnopqrst, ".repeat(20));
    assert_eq!(told(&many, 407).1, "another method");
}

#[test]
fn what_is_no_status_line_is_seen_at_its_earliest_byte() {
    for line in [
        "\x05",
        "S",
        "HTTQ",
        "HTTP/2",
        "HTTP/1.x",
        "HTTP/1.1\t",
        "HTTP/1.1 0",
        "HTTP/1.1 20\n",
        "HTTP/1.1 2000",
    ] {
        for split in [1, usize::MAX] {
            assert_eq!(converse(line.as_bytes(), &[split]), (line.len(), End::NotHttp), "{line:?}");
        }
        assert_eq!(converse(&line.as_bytes()[..line.len() - 1], &[1]).1, End::Hungry, "{line:?}");
    }
}

#[test]
fn a_status_line_is_shown_in_part_and_steers_no_terminal() {
    let shown = |text: &str| {
        let mut handshake = Handshake::new(&named("a.example", 443), None).unwrap();
        let _ = handshake.next_step();
        match handshake.handle_input(text.as_bytes()) {
            Err(Error::Refused(line) | Error::NotHttp(line)) => line.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(shown("HTTP/1.1 403 Can't \"do\"\r\n"), "HTTP/1.1 403 Can't \"do\"");
    assert_eq!(shown("HTTP/1.1 403 \x1b[2J\u{e9}\r\n"), "HTTP/1.1 403 \\x1b[2J\\xc3\\xa9");
    assert_eq!(
        shown(&format!("HTTP/1.1 403 {}\r\n", "x".repeat(99))),
        format!("HTTP/1.1 403 {}", "x".repeat(51))
    );
    assert_eq!(shown("SSH-2.0"), "S");
}

#[test]
fn a_header_has_its_limit() {
    let start = "HTTP/1.1 200 OK\r\n";
    let filled = |len: usize| {
        let field = format!("A: {}\r\n", "x".repeat(len - start.len() - 5 - 2));
        format!("{start}{field}\r\n")
    };
    assert_eq!(converse(filled(MAX_HEADER).as_bytes(), &[usize::MAX]), (MAX_HEADER, End::Connected));
    for endless in [
        filled(MAX_HEADER + 1),
        format!("{start}{}", "A: b\r\n".repeat(1 << 17)),
        format!("HTTP/1.1 200 {}", "x".repeat(1 << 20)),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(1 << 15),
    ] {
        let (taken, end) = converse(endless.as_bytes(), &[usize::MAX]);
        assert!(end == End::TooLong && (MAX_HEADER + 1..MAX_HEADER + 14).contains(&taken), "{taken} {end:?}");
    }
}

#[test]
fn a_password_is_never_part_of_what_a_handshake_shows() {
    let credentials = Credentials::new(b"someone", b"hunter2").unwrap();
    let mut handshake = Handshake::new(&named("a.example", 443), Some(credentials)).unwrap();
    let _ = handshake.next_step();
    let _ = handshake.handle_input(b"HTTP/1.1 200 OK\r\n");
    let shown = format!("{handshake:?} {credentials:?}");
    let digits = format!("{:?}", b"c29tZW9uZTpodW50ZXIy");
    for secret in ["someone", "hunter2", "c29tZW9uZTpodW50ZXIy", digits.trim_matches(['[', ']'])] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// What proxies say, in lines that end in every way, whole and broken.
fn responses() -> impl Strategy<Value = Vec<u8>> {
    let end = || prop_oneof![Just("\r\n"), Just("\n"), Just("\r\r\n")];
    let status = prop_oneof![Just(200_u16), Just(100), Just(403), 100..600_u16];
    let field = ("[ -~\r]{0,20}", end()).prop_map(|(text, end)| format!("{text}{end}"));
    let response =
        (status, "( [ -~]{0,90})?", end(), vec(field, 0..5), prop_oneof![Just("\r\n"), Just("\n")]).prop_map(
            |(status, reason, end, fields, blank)| {
                format!("HTTP/1.1 {status}{reason}{end}{}{blank}", fields.concat())
            },
        );
    let responses = vec(response, 1..4).prop_map(|all| all.concat().into_bytes());
    let changed = (vec(any::<u8>(), 0..40), any::<proptest::sample::Index>()).prop_map(|(noise, at)| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n".to_vec();
        let at = at.index(bytes.len());
        bytes.splice(at..at, noise);
        bytes
    });
    prop_oneof![responses, changed, vec(any::<u8>(), 0..60)]
}

proptest! {
    #[test]
    fn the_split_of_the_input_changes_nothing(
        proxy in responses(), program in vec(any::<u8>(), 0..40), split in vec(1..20_usize, 1..20),
    ) {
        let transcript = [proxy, program].concat();
        let (belongs, model) = expected(&transcript);
        for split in [&split[..], &[1], &[usize::MAX]] {
            let (taken, end) = converse(&transcript, split);
            prop_assert_eq!(&end, &model);
            match (end, belongs) {
                (End::Connected, Some(belongs)) => prop_assert_eq!(taken, belongs),
                (End::Hungry, _) => prop_assert_eq!(taken, transcript.len()),
                (_, belongs) => prop_assert!(taken >= belongs.unwrap_or(0)),
            }
        }
    }

    #[test]
    fn what_is_taken_at_once_ends_where_byte_by_byte_it_does(
        response in responses(), mut seen in vec(1..600_usize, 1..4),
    ) {
        seen.push(1);
        let mut handshake = Handshake::new(&named("a.example", 443), None).unwrap();
        let (mut taken, mut sizes) = (0, seen.iter().cycle());
        let end = loop {
            match handshake.next_step() {
                Step::Send(_) => {}
                Step::Connected => break End::Connected,
                Step::Receive(_) => {
                    let rest = &response[taken..];
                    let seen = &rest[..rest.len().min(*sizes.next().unwrap())];
                    let part = handshake.part(seen);
                    prop_assert!(part > 0 || seen.is_empty());
                    if part == 0 {
                        break End::Hungry;
                    }
                    taken += part;
                    if let Err(error) = handshake.handle_input(&seen[..part]) {
                        break end_of(error);
                    }
                }
            }
        };
        prop_assert_eq!((taken, end), converse(&response, &[1]));
    }

    #[test]
    fn input_beyond_what_was_asked_for_never_panics_and_a_failure_lasts(
        chunks in vec(responses(), 0..8), asked in any::<bool>(),
    ) {
        let mut handshake = Handshake::new(&named("a.example", 443), None).unwrap();
        if asked {
            let _ = handshake.next_step();
        }
        let mut failed = None;
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            let result = handshake.handle_input(chunk);
            if failed.is_some() {
                prop_assert_eq!(result.err(), failed);
            }
            failed = result.err();
        }
    }
}

//! What hostile proxies say, of each kind, up to the answer to a request for an IPv4 address, and what becomes of the connect. `proxy.rs` and
//! `kinds.rs` look closer; here is all of it once, to be said at any place of a chain and through anything.

use presocks_tests::command::Outcome;
use presocks_tests::proxy::scripted::{SUCCESS, Script, reply};

/// A proxy's script, as which kind it is to be spoken to, and the errno where it is the only one, or the last of several.
pub(crate) struct Hostile {
    pub(crate) what: String,
    pub(crate) scheme: &'static str,
    pub(crate) script: Script,
    pub(crate) errno: &'static str,
}

impl Hostile {
    /// The program has its errno and an unusable socket, and the user one line, in which all of these stand.
    #[track_caller]
    pub(crate) fn assert_is_told(&self, outcome: &Outcome, words: &[String]) {
        let expected = format!("connect: {}\nunusable\n", self.errno);
        let said = outcome.stderr();
        assert!(
            outcome.stdout() == expected
                && said.lines().count() == 1
                && words.iter().all(|word| said.contains(word)),
            "{}: expected {}\n{}",
            self.what,
            self.errno,
            outcome.report()
        );
    }
}

/// All of them. None waits for ever.
pub(crate) fn all() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut add = |scheme, what: String, script: Script, errno| {
        all.push(Hostile { what: format!("{scheme}: {what}"), scheme, script, errno });
    };
    for (code, errno) in
        [(1, "ENETUNREACH"), (2, "EACCES"), (4, "EHOSTUNREACH"), (5, "ECONNREFUSED"), (255, "ENETUNREACH")]
    {
        add("socks5", format!("reply {code}"), Script::until_request().send(reply(code)).read_all(), errno);
    }
    for (code, errno) in [(91, "ECONNREFUSED"), (93, "EACCES"), (0, "ENETUNREACH")] {
        add("socks4", format!("reply {code}"), socks4().send([0, code, 0, 0, 0, 0, 0, 0]).read_all(), errno);
    }
    for (status, errno) in
        [(302, "ENETUNREACH"), (403, "EACCES"), (407, "EACCES"), (502, "EHOSTUNREACH"), (504, "ETIMEDOUT")]
    {
        let line = format!("HTTP/1.1 {status} It is so\r\nContent-Length: 6\r\n\r\nsorry\n");
        add("http", format!("status {status}"), http().send(line).read_all(), errno);
    }
    let greeted = |answer: &[u8]| Script::new().greeting().send(answer).read_all();
    let domain = |length: u8| [&[5, 1, 0, 3, length][..], &vec![b'x'; length.into()], &[0, 0]].concat();
    let header = |text: &str, times: usize| ["HTTP/1.1 200 OK\r\n", &text.repeat(times)].concat();
    let nonsense = [
        ("socks5", "HTTP", greeted(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("socks5", "zeros", greeted(&[0; 64])),
        ("socks5", "an unoffered method", greeted(&[5, 9])),
        (
            "socks5",
            "version 4 in the reply",
            Script::until_request().send([4, 90, 0, 0, 0, 0, 0, 0]).read_all(),
        ),
        (
            "socks5",
            "an unknown address type",
            Script::until_request().send([5, 0, 0, 2, 0, 0, 0, 0, 0, 0]).read_all(),
        ),
        ("socks5", "a banner", Script::new().send(b"220 mail ready\r\n").read_all()),
        (
            "socks5",
            "a failure bound to a name of 255 bytes",
            Script::until_request().send(domain(255)).read_all(),
        ),
        ("socks5", "a failure bound to no name, and a megabyte more", {
            Script::until_request().send([domain(0), vec![0; 1 << 20]].concat()).read_all()
        }),
        ("socks5", "closed at once", Script::new().close()),
        ("socks5", "closed after the greeting", Script::new().greeting().close()),
        ("socks5", "closed amid the reply", Script::until_request().send(&SUCCESS[..7]).close()),
        ("socks4", "SOCKS5", socks4().send([5, 0xff]).read_all()),
        ("socks4", "closed amid the reply", socks4().send([0, 90, 0]).close()),
        ("http", "SOCKS5", http().send([5, 0]).read_all()),
        ("http", "zeros", http().send([0; 64]).read_all()),
        ("http", "no status", http().send("HTTP/1.1 OK\r\n\r\n").read_all()),
        ("http", "fields without end", http().send(header("A: b\r\n", 1 << 18)).read_all()),
        ("http", "a field without end", http().send(header("x", 1 << 20)).read_all()),
        (
            "http",
            "a status line without end",
            http().send("HTTP/1.1 200 ".to_owned() + &"x".repeat(1 << 20)).read_all(),
        ),
        ("http", "interim responses without end", {
            http().send("HTTP/1.1 102 Processing\r\n\r\n".repeat(1 << 16)).read_all()
        }),
        ("http", "closed amid the header", http().send("HTTP/1.1 200 OK\r\nVia: ").close()),
        ("http", "closed at once", Script::new().close()),
    ];
    for (scheme, what, script) in nonsense {
        add(scheme, what.to_owned(), script, "ENETUNREACH");
    }
    add("socks5", "no method".to_owned(), greeted(&[5, 255]), "EACCES");
    all
}

/// A SOCKS4 server that has got a request for an address, by no user.
fn socks4() -> Script {
    Script::new().expect(9)
}

/// An HTTP server that has got a request.
fn http() -> Script {
    Script::new().until(b"\r\n\r\n")
}

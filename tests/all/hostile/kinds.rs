//! Hostile SOCKS4 and HTTP proxies, scripted, and what these protocols cannot carry: as for SOCKS5 in `proxy.rs`.

use presocks_tests::lab::{ORIGIN, PROXY6};
use presocks_tests::missing;
use presocks_tests::proxy::scripted::{Gate, Script};

use super::proxy::{MODES, PORT, Scene};

const BANNER: &[u8] = b"220 hello\r\n";
const GRANTED: [u8; 8] = [0, 90, 0, 0, 0, 0, 0, 0];
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// A SOCKS4 server that has got a request for an address, by no user. The answer is yours.
fn socks4() -> Script {
    Script::new().expect(9)
}

/// An HTTP server that has got a request. The answer is yours.
fn http() -> Script {
    Script::new().until(b"\r\n\r\n")
}

#[test]
fn each_socks4_code_becomes_its_errno() {
    let Some(scene) = Scene::set() else { return };
    let table =
        [(91, "ECONNREFUSED"), (92, "EACCES"), (93, "EACCES"), (94, "ENETUNREACH"), (0, "ENETUNREACH")];
    for (code, errno) in table {
        let script = socks4().send([0, code, 0, 0, 0, 0, 0, 0]);
        scene.fails_as("socks4", &format!("reply {code}"), script, errno, &[], None);
    }
}

#[test]
fn each_http_status_becomes_its_errno_and_is_shown() {
    let Some(scene) = Scene::set() else { return };
    let table = [
        (101, "ENETUNREACH"),
        (302, "ENETUNREACH"),
        (400, "ENETUNREACH"),
        (401, "EACCES"),
        (403, "EACCES"),
        (404, "EHOSTUNREACH"),
        (405, "ECONNREFUSED"),
        (407, "EACCES"),
        (500, "ENETUNREACH"),
        (502, "EHOSTUNREACH"),
        (503, "ENETUNREACH"),
        (504, "ETIMEDOUT"),
    ];
    for (status, errno) in table {
        let line = format!("HTTP/1.1 {status} It is so\r\n");
        let script = http().send(format!("{line}Content-Length: 6\r\n\r\nsorry\n"));
        scene.fails_as("http", &line, script.clone(), errno, &[], Some(("user", "s3cret")));
        let proxy = script.start(&scene.lab);
        scene.probe(&proxy.url_as("http"), &["-v"], &[]).stderr_has(line.trim_end());
    }
}

#[test]
fn a_server_that_speaks_something_else_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    let scripts = [
        ("socks4", "SOCKS5", socks4().send([5, 0xff])),
        ("socks4", "HTTP", socks4().send("HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("socks4a", "banner before the request", Script::new().send("220 mail ready\r\n").expect(9)),
        ("http", "SOCKS5", http().send([5, 0])),
        ("http", "SSH", Script::new().send("SSH-2.0-OpenSSH_9.2p1\r\n").until("\n\r\n")),
        ("http", "HTTP/2", http().send("HTTP/2 200 OK\r\n\r\n")),
        ("http", "no status", http().send("HTTP/1.1 OK\r\n\r\n")),
        ("http", "zeros", http().send([0; 64])),
    ];
    for (scheme, what, script) in scripts {
        scene.fails_as(scheme, &format!("{scheme}: {what}"), script, "ENETUNREACH", &[], None);
    }
}

#[test]
fn a_header_without_end_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    let endless = [
        ("fields", ["HTTP/1.1 200 OK\r\n", &"A: b\r\n".repeat(1 << 18)].concat()),
        ("one field", ["HTTP/1.1 200 OK\r\n", &"x".repeat(1 << 20)].concat()),
        ("the status line", ["HTTP/1.1 200 ", &"x".repeat(1 << 20)].concat()),
        ("interim responses", "HTTP/1.1 102 Processing\r\n\r\n".repeat(1 << 16)),
    ];
    for (what, header) in endless {
        scene.fails_as("http", &format!("endless {what}"), http().send(header), "ENETUNREACH", &[], None);
    }
}

#[test]
fn a_connection_that_ends_at_any_stage_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    let stages = [
        ("socks4", "at once", Script::new()),
        ("socks4", "after the request", socks4()),
        ("socks4", "amid the reply", socks4().send(&GRANTED[..7])),
        ("http", "at once", Script::new()),
        ("http", "after the request", http()),
        ("http", "amid the status line", http().send("HTTP/1.1 200 O")),
        ("http", "before the blank line", http().send(&ESTABLISHED[..ESTABLISHED.len() - 1])),
        ("http", "after an interim response", http().send("HTTP/1.1 100 Continue\r\n\r\n")),
    ];
    for (scheme, when, script) in stages {
        let what = format!("{scheme}: closed {when}");
        scene.fails_as(scheme, &what, script.close(), "ENETUNREACH", &[], None);
    }
}

#[test]
fn silence_at_any_stage_gives_etimedout() {
    let Some(scene) = Scene::set() else { return };
    let never = Gate::closed();
    let stages = [
        ("socks4", "to the request", socks4()),
        ("socks4a", "amid the reply", socks4().send(&GRANTED[..7])),
        ("http", "to the request", http()),
        ("http", "before the blank line", http().send(&ESTABLISHED[..ESTABLISHED.len() - 1])),
    ];
    for (scheme, when, script) in stages {
        let proxy = script.pass(&never).start(&scene.lab);
        let outcome = scene.probe(&proxy.url_as(scheme), &["--timeout", "1"], &["mode=epoll"]);
        outcome.stdout_is("connect: ETIMEDOUT\nunusable\n").stderr_has("did not answer within 1s");
        scene.assert_untouched(when);
    }
    never.open();
}

#[test]
fn not_a_byte_after_the_reply_is_lost_or_made_up() {
    let Some(scene) = Scene::set() else { return };
    let replies: [(&str, &[u8]); 8] = [
        ("socks4", &GRANTED),
        ("socks4a", &[4, 90, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("http", ESTABLISHED),
        ("http", b"HTTP/1.0 200\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\n\n"),
        ("http", b"HTTP/1.1 204 \nVia: x\r\n\n"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\nVia: x\r\n\r\n"),
        ("http", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ];
    for (scheme, reply) in replies {
        let what = format!("{scheme} {}", reply.escape_ascii());
        let request = || if scheme == "http" { http() } else { socks4() };
        let together = [reply, BANNER].concat();
        let scripts =
            [request().send(&together), request().send(reply).send(BANNER), request().dribble(&together)];
        for (how, script) in scripts.into_iter().enumerate() {
            let proxy = script.expect(5).read_all().start(&scene.lab);
            for mode in MODES {
                let arguments = [&format!("mode={mode}"), "expect=11", "say=quit\n"];
                let outcome = scene.probe(&proxy.url_as(scheme), &[], &arguments);
                let expected = "connect: ok\npeer: the one asked for\nreceived: 220 hello\r\n\n";
                assert!(outcome.stdout() == expected, "{what}, script {how}, {mode}\n{}", outcome.report());
            }
            for connection in proxy.finished(MODES.len()) {
                assert!(connection.received.ends_with(b"quit\n"), "{what}, script {how}: {connection:?}");
            }
        }
    }
    scene.assert_untouched("extra bytes");
}

/// An IPv4 socket goes there by the relay, which must not read ahead either.
#[test]
fn a_banner_arrives_whole_through_an_ipv6_proxy() {
    let Some(scene) = Scene::set() else { return };
    for (scheme, request, reply) in [("socks4a", socks4(), &GRANTED[..]), ("http", http(), ESTABLISHED)] {
        let proxy = request.send([reply, BANNER].concat()).expect(5).start(&scene.lab);
        let upstream = format!("{scheme}://[{PROXY6}]:{}", proxy.port());
        let outcome = scene.probe(&upstream, &[], &["expect=11", "say=quit\n"]);
        outcome.stdout_is("connect: ok\npeer: the one asked for\nreceived: 220 hello\r\n\n");
    }
    scene.assert_untouched("extra bytes");
}

#[test]
fn the_request_names_the_destination_as_the_program_did() {
    let Some(scene) = Scene::set() else { return };
    let (origin, by_name, by_six) =
        (format!("{ORIGIN}:{PORT}"), format!("origin.test:{PORT}"), "[fd88::2]:7000");
    let name = [&[4, 1, 0x1b, 0x58, 0, 0, 0, 1][..], b"me\0origin.test\0"].concat();
    let address = [&[4, 1, 0x1b, 0x58, 10, 88, 0, 2][..], b"me\0"].concat();
    let connect = |authority: &str, more: &str| {
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{more}\r\n").into_bytes()
    };
    let basic = "Proxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\n";
    let table = [
        ("socks4", "me@", origin.as_str(), address.clone()),
        ("socks4a", "me@", &origin, address),
        ("socks4a", "me@", &by_name, name),
        ("http", "", &origin, connect(&origin, "")),
        ("http", "user:s3cret@", &by_name, connect(&by_name, basic)),
        ("http", "", by_six, connect(by_six, "")),
    ];
    for (scheme, user, destination, request) in table {
        let reply = if scheme == "http" { ESTABLISHED } else { &GRANTED };
        let proxy = Script::new().expect(request.len()).send(reply).start(&scene.lab);
        let upstream = proxy.url_as(scheme).replacen("//", &format!("//{user}"), 1);
        let to = if destination == by_six { "fd88::2:7000" } else { destination };
        scene.probe_at(to, &upstream, &[], &[]).stdout_is("connect: ok\npeer: the one asked for\n");
        assert_eq!(proxy.finished(1)[0].received, request, "{upstream} {destination}");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn what_a_protocol_cannot_carry_is_refused_without_a_connection() {
    let Some(scene) = Scene::set() else { return };
    let table = [
        ("socks4", "origin.test:7000", "EHOSTUNREACH", "write socks4a://"),
        ("socks4", "fd88::2:7000", "ENETUNREACH", "no IPv6 addresses"),
        ("socks4a", "fd88::2:7000", "ENETUNREACH", "no IPv6 addresses"),
        ("http", "a@b.test:7000", "EHOSTUNREACH", "cannot carry this name"),
    ];
    for (scheme, destination, errno, why) in table {
        let proxy = Script::new().read_all().start(&scene.lab);
        for mode in MODES {
            let mode = format!("mode={mode}");
            let outcome = scene.probe_at(destination, &proxy.url_as(scheme), &[], &[&mode, "times=3"]);
            outcome.stdout_is(format!("connect: {errno}\nunusable\n").repeat(3)).stderr_has(why);
            assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
        }
        assert_eq!(proxy.connections().len(), 0, "{scheme} {destination}");
    }
    scene.assert_untouched("not carried");
}

#[test]
fn datagrams_are_refused_at_once_and_one_line_says_so() {
    if missing(&["python3"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let program = "
import errno, socket
for connected in True, False, False:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if connected: s.connect(('10.88.0.2', 7)); s.send(b'x')
        else: s.sendto(b'x', ('10.88.0.2', 7))
        print('sent')
    except OSError as error: print(errno.errorcode[error.errno])
";
    for scheme in ["socks4", "socks4a", "http"] {
        let proxy = Script::new().read_all().start(&scene.lab);
        let run = scene.lab.presocks(["python3", "-c", program]).proxy(&proxy.url_as(scheme)).run();
        run.success().stdout_is("ENETUNREACH\n".repeat(3)).stderr_has("carries no datagrams");
        assert_eq!(run.stderr().lines().count(), 1, "{}", run.report());
        assert_eq!(proxy.connections().len(), 0, "{scheme}");
    }
    scene.lab.assert_no_leak();
}

/// Only SOCKS5 has a greeting that could go along with the request.
#[test]
fn no_other_connection_is_made_than_the_programs() {
    let Some(scene) = Scene::set() else { return };
    for (scheme, script) in [("socks4", socks4().send(GRANTED)), ("http", http().send(ESTABLISHED))] {
        let proxy = script.start(&scene.lab);
        scene.probe(&proxy.url_as(scheme), &[], &["times=8"]);
        assert_eq!(proxy.finished(8).len(), 8, "{scheme}");
    }
    scene.lab.assert_no_leak();
}

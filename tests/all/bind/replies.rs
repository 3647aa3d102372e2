//! Both replies to a BIND, as servers and hostile ones send them: what a listener says of itself, who has come, and not a byte lost or made up.

use presocks_tests::lab::{ORIGIN, PROXY};
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script, reply};
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Upstream};
use presocks_tests::{Invocation, Lab, missing};

/// Does what its arguments say with a listener, beside a control connection.
const PROBE: &str = "
import errno, select, socket, sys
say = lambda *words: print(*words, flush=True)
host, *steps = sys.argv[1:]
control = socket.create_connection((host, 2100))
listener = socket.socket(); listener.bind(('0.0.0.0', 0))
for step in steps:
    try:
        if step == 'control': say('control', *control.getsockname())
        elif step == 'name': say('listener', *listener.getsockname())
        elif step == 'listen': listener.listen(5); say('listens')
        elif step == 'accept':
            data, peer = listener.accept()
            say('peer', *peer, data.getpeername() == peer, 'own', *data.getsockname())
        elif step == 'write': data.sendall(b'w' * 100000); data.shutdown(socket.SHUT_WR)
        elif step == 'read':
            data.settimeout(50); whole = b''
            while piece := data.recv(65536): whole += piece
            say('read', whole.decode())
        elif step == 'wait':
            sys.stdin.readline()
            # Two questions to the broker: what has come before has been looked at by then.
            for name in ('one.test', 'two.test'): socket.gethostbyname(name)
        elif step == 'look': say('somebody' if select.select([listener], [], [], 0)[0] else 'nobody')
        elif step == 'close': listener.close(); listener = socket.socket(); listener.bind(('0.0.0.0', 0))
    except OSError as error: say(step, errno.errorcode[error.errno])
";

/// A success with this address.
pub(super) fn at(address: [u8; 4], port: u16) -> Vec<u8> {
    [&[5, 0, 0, 1][..], &address, &port.to_be_bytes()].concat()
}

fn named(name: &[u8], port: u16) -> Vec<u8> {
    [&[5, 0, 0, 3, u8::try_from(name.len()).unwrap()], name, &port.to_be_bytes()].concat()
}

fn at_v6(port: u16) -> Vec<u8> {
    [&[5, 0, 0, 4, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &port.to_be_bytes()].concat()
}

/// Where the scripted proxy connects from, listens, and who comes.
const FROM: [u8; 4] = [203, 0, 113, 5];
const LISTENS: [u8; 4] = [203, 0, 113, 9];
const PEER: [u8; 4] = [10, 88, 0, 2];

/// A proxy whose connections after the first, the control connection, do this.
pub(super) fn proxy(lab: &Lab, binds: Script) -> ScriptedProxy {
    proxy_from(lab, &at(FROM, 7777), binds)
}

fn proxy_from(lab: &Lab, connected: &[u8], binds: Script) -> ScriptedProxy {
    Script::until_request().send(connected).read_all().and_later(binds).start(lab)
}

pub(super) fn probe<'lab>(lab: &'lab Lab, proxy: &impl Upstream, steps: &[&str]) -> Invocation<'lab> {
    let words = ["python3", "-c", PROBE, "10.88.0.2"].into_iter().chain(steps.iter().copied());
    lab.presocks(words).proxy(proxy).options(["--bind"])
}

#[test]
fn for_anybody_the_request_has_zeros_and_the_peer_is_who_has_come() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let binds = Script::until_request().send(at(LISTENS, 4000)).send(at([192, 0, 2, 66], 3456)).read_all();
    let proxy = proxy(&lab, binds);
    let words = ["python3", "-c", PROBE, "origin.test", "listen", "name", "accept"];
    for (options, request, peer) in [
        (&["--bind=any"][..], &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0][..], "192.0.2.66 3456 True"),
        (&["--bind"], b"\x05\x02\0\x03\x0borigin.test\x08\x34", "3456 True"),
        (&["--bind=peer"], b"\x05\x02\0\x03\x0borigin.test\x08\x34", "3456 True"),
    ] {
        let before = proxy.connections().len();
        let run = lab.presocks(words).proxy(&proxy).options(options).run();
        run.success().stderr_is("").stdout_has("listener 203.0.113.9 4000").stdout_has(peer);
        let asked = &proxy.finished(before + 2)[before + 1].received;
        assert!(asked.ends_with(request), "{asked:?}");
    }
    lab.assert_no_leak();
}

#[test]
fn the_listener_is_where_the_first_reply_says_and_the_peer_is_whom_the_second_names() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let binds =
        Script::until_request().send(at(LISTENS, 4000)).send(at(PEER, 20)).send("early").expect(100_000);
    let proxy = proxy(&lab, binds.send("late"));
    let steps = ["control", "name", "listen", "name", "control", "accept", "write", "read"];
    probe(&lab, &proxy, &steps).run().success().stderr_is("").stdout_is(
        "control 203.0.113.5 7777\nlistener 203.0.113.9 4000\nlistens\nlistener 203.0.113.9 4000\n\
         control 203.0.113.9 7777\npeer 10.88.0.2 20 True own 203.0.113.9 4000\nread earlylate\n",
    );
    let connections = proxy.finished(2);
    assert_eq!(connections.len(), 2, "one BIND");
    let request = &connections[1].received[..13];
    assert_eq!(request, [5, 1, 0, 5, 2, 0, 1, 10, 88, 0, 2, 8, 52], "the peer that was connected to");
    lab.assert_no_leak();
}

#[test]
fn not_a_byte_of_the_peers_is_lost_however_the_replies_come() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let first = [at(LISTENS, 4000), named(b"proxy.test", 4000)];
    let seconds = [at(PEER, 20), at_v6(20), named(b"x", 20), named(&[b'x'; 255], 20), SUCCESS.to_vec()];
    for second in &seconds {
        let whole = [&first[0], &second[..], b"early"].concat();
        for binds in [
            Script::until_request().send(&whole),
            Script::until_request().dribble(&whole),
            Script::new()
                .greeting()
                .dribble([5, 0])
                .request()
                .send(&first[0])
                .dribble(&whole[first[0].len()..]),
        ] {
            let proxy = proxy(&lab, binds);
            let run = probe(&lab, &proxy, &["listen", "accept", "read"]).run();
            run.success().stderr_is("").stdout_has("listens\npeer ").stdout_has("read early\n");
        }
    }
    lab.assert_no_leak();
}

/// One that no program can know is shown as the host of the control connection.
#[test]
fn a_peer_that_the_second_reply_does_not_tell_is_the_one_that_was_connected_to() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    for (second, peer) in [
        (named(b"origin.test", 20), "10.88.0.2 20"),
        (at([0; 4], 20), "10.88.0.2 20"),
        (at([192, 0, 2, 9], 20), "192.0.2.9 20"),
        // An IPv4 socket has no IPv6 peers.
        (at_v6(20), "10.88.0.2 20"),
    ] {
        let proxy = proxy(&lab, Script::until_request().send(at(LISTENS, 4000)).send(second));
        let run = probe(&lab, &proxy, &["listen", "accept"]).run();
        run.success().stdout_is(format!("listens\npeer {peer} True own 203.0.113.9 4000\n"));
    }
    lab.assert_no_leak();
}

#[test]
fn whence_the_proxy_connects_is_the_control_connections_address_if_it_is_one() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    for (connected, own) in [
        (at(FROM, 7777), Some("203.0.113.5 7777\n")),
        (at([0; 4], 7777), None),
        (at([127, 0, 0, 1], 7777), None),
        (at([224, 0, 0, 1], 7777), None),
        (at_v6(7777), None),
        (named(b"proxy.test", 7777), None),
    ] {
        let proxy = proxy_from(&lab, &connected, Script::until_request());
        let outcome = probe(&lab, &proxy, &["control"]).run();
        let said = outcome.success().stdout();
        assert!(said.ends_with(own.unwrap_or("\n")) && said.starts_with("control "), "{said}");
        assert_eq!(own.is_none(), said.starts_with("control 10.77.0.2 "), "{said}");
    }
    lab.assert_no_leak();
}

/// What RFC 1928 leaves open: a server that does not know its own address is where we have reached it.
#[test]
fn zeros_in_the_first_reply_are_the_proxys_own_address() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let binds = || Script::until_request().send(at([0; 4], 4000)).read_all();
    let proxy = proxy_from(&lab, &SUCCESS, binds());
    let run = probe(&lab, &proxy, &["listen", "name", "control"]).run();
    let run = run.success().stdout_has(&format!("listens\nlistener {PROXY} 4000\n"));
    run.stdout_has(&format!("control {PROXY} "));
    lab.assert_no_leak();
}

/// listen() fails, one line says why, and there is no listener.
#[track_caller]
fn fails(lab: &Lab, binds: Script, options: &[&str], errno: &str, why: &str) {
    let proxy = proxy(lab, binds);
    let run = probe(lab, &proxy, &["name", "listen", "listen", "look"]).options(options).run();
    let expected = format!("listen {errno}\n").repeat(2);
    let said = run.success().stdout();
    // A listener that is none is readable, for poll(2) to say so.
    assert!(said.starts_with("listener 0.0.0.0 ") && said.contains(&expected), "{}", run.report());
    let line =
        format!("presocks: listening for {ORIGIN}:2100 via socks5://{PROXY}:{}: {why}\n", proxy.port());
    run.stderr_is(&line);
    lab.assert_no_leak();
}

#[test]
fn a_first_reply_that_is_none_or_a_refusal_fails_listen_and_nothing_listens() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let asked = Script::until_request;
    for (binds, errno, why) in [
        (asked().send(reply(2)), "EACCES", "the proxy answered: connection not allowed by ruleset (reply 2)"),
        (asked().send(reply(7)), "EADDRNOTAVAIL", "the proxy answered: command not supported (reply 7)"),
        (
            asked().send(reply(1)),
            "EADDRNOTAVAIL",
            "the proxy answered: general SOCKS server failure (reply 1)",
        ),
        (asked().close(), "EADDRNOTAVAIL", "the proxy closed the connection during the handshake"),
        (
            asked().send([5, 0, 0]).close(),
            "EADDRNOTAVAIL",
            "the proxy closed the connection during the handshake",
        ),
        (
            asked().send([4, 0]),
            "EADDRNOTAVAIL",
            "the proxy does not speak SOCKS5: its answer begins with byte 0x04; so does a SOCKS4 proxy (socks4a://)",
        ),
        (asked().send([5, 0, 0, 2]), "EADDRNOTAVAIL", "the proxy's reply has an unknown address type 0x02"),
        (
            asked().send(named(b"proxy.test", 4000)).read_all(),
            "EADDRNOTAVAIL",
            "the proxy gives proxy.test:4000 as where it listens, which is no address and port",
        ),
        (
            asked().send(at(LISTENS, 0)).read_all(),
            "EADDRNOTAVAIL",
            "the proxy gives 203.0.113.9:0 as where it listens, which is no address and port",
        ),
        (
            asked().send(at([198, 18, 0, 1], 4000)).read_all(),
            "EADDRNOTAVAIL",
            "the proxy gives 198.18.0.1:4000 as where it listens, which is no address and port",
        ),
        (
            asked().send(at([224, 0, 0, 1], 4000)).read_all(),
            "EADDRNOTAVAIL",
            "the proxy gives 224.0.0.1:4000 as where it listens, which is no address and port",
        ),
        (
            asked().send(at_v6(4000)).read_all(),
            "EADDRNOTAVAIL",
            "the proxy listens at [2001:db8::7]:4000, which is not of the family of the program's socket",
        ),
    ] {
        fails(&lab, binds, &[], errno, why);
    }
    let silence = Script::until_request().read_all();
    fails(&lab, silence, &["--timeout", "0.3"], "EADDRNOTAVAIL", "the proxy did not answer within 300ms");
}

#[test]
fn a_proxy_without_bind_refuses_and_the_rest_goes_on() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = presocks_tests::origin::Service::echo(&lab, 2100);
    let proxy = Microsocks::open(&lab);
    let run = probe(&lab, &proxy, &["listen", "control"]).run();
    run.success().stdout_has("listen EADDRNOTAVAIL\ncontrol ").stderr_has("(reply 7)");
    lab.assert_no_leak();
}

/// The program waits in vain, and one line says why.
#[track_caller]
fn nobody_comes(lab: &Lab, second: impl FnOnce(Script) -> Script, why: &str) {
    let gate = Gate::closed();
    let proxy = proxy(lab, second(Script::until_request().send(at(LISTENS, 4000)).pass(&gate)));
    let mut running = probe(lab, &proxy, &["listen", "wait", "look"]).start();
    assert_eq!(running.line(), "listens");
    gate.open();
    patience_for(&proxy);
    running.write("\n");
    let line = format!(
        "presocks: listening for {ORIGIN}:2100 via socks5://{PROXY}:{}: nobody has come: {why}\n",
        proxy.port()
    );
    running.finish().success().stdout_is("listens\nnobody\n").stderr_is(&line);
    lab.assert_no_leak();
}

/// The BIND's script is over.
fn patience_for(proxy: &ScriptedProxy) {
    presocks_tests::patience::wait_until("the BIND to end", || {
        proxy.connections().get(1).is_some_and(|connection| connection.over)
    });
}

#[test]
fn a_second_reply_that_is_none_brings_nobody_and_one_line_says_why() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let closed = "the proxy has stopped listening: it closed the connection";
    nobody_comes(&lab, |script| script.send(reply(6)), "the proxy answered: TTL expired (reply 6)");
    nobody_comes(&lab, Script::close, closed);
    nobody_comes(&lab, |script| script.send(&at(PEER, 20)[..9]).close(), closed);
    nobody_comes(&lab, |script| script.send([5, 0, 0, 3, 9, b'x']).close(), closed);
    nobody_comes(
        &lab,
        |script| script.send("HTTP/1.1 200 OK\r\n"),
        "the proxy does not speak SOCKS5: its answer begins with byte 0x48; so does an HTTP proxy (http://)",
    );
    nobody_comes(
        &lab,
        |script| script.send([5, 0, 0, 9, 1, 2, 3, 4, 0, 20]),
        "the proxy's reply has an unknown address type 0x09",
    );
    nobody_comes(
        &lab,
        Script::reset,
        "the proxy has stopped listening: the connection broke: connection reset by peer",
    );
}

//! Proxies that lie about datagrams, and those that serve none: what is false is dropped, what cannot go is refused.

use presocks_tests::origin::Datagrams;
use presocks_tests::proxy::relay::{Bound, From, Relay};
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{Dante, Microsocks, SshDynamic, Upstream};
use presocks_tests::{Lab, Outcome, missing};

use super::scene::ECHO;
use crate::behaviour::program::compile;

/// Sends to 10.88.0.2 without a peer and with one, and prints the one answer that comes to each and what comes after it.
const ASKS: &str = "
import socket
for connected in False, True:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(15)
    place = ('10.88.0.2', 7)
    if connected: s.connect(place); s.send(b'good')
    else: s.sendto(b'good', place)
    print(s.recvfrom(65535) == (b'good', place)); s.settimeout(0.3)
    try: print('then', s.recvfrom(65535))
    except TimeoutError: print('nothing else')
";

/// What [`ASKS`] prints when all that is wrong is dropped.
const SOUND: &str = "True\nnothing else\nTrue\nnothing else\n";

/// Runs [`ASKS`] with a proxy that sends these before and after each answer.
#[track_caller]
fn only_the_answer_comes(wrong: impl Fn(&[u8]) -> Vec<(From, Vec<u8>)> + Send + Sync + 'static) {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let answering = move |answer: &[u8]| {
        let wrong = wrong(answer);
        wrong.iter().cloned().chain([(From::Relay, answer.to_vec())]).chain(wrong.clone()).collect()
    };
    let proxy = Relay::new().answering(answering).start(&lab);
    let run = lab.presocks(["/usr/bin/python3", "-c", ASKS]).proxy(&proxy).run();
    run.success().stdout_is(SOUND);
    assert_eq!(proxy.finished(2).len(), 2);
    lab.assert_no_leak();
}

fn with(answer: &[u8], at: usize, value: u8) -> (From, Vec<u8>) {
    let mut changed = answer.to_vec();
    changed[at] = value;
    (From::Relay, changed)
}

#[test]
fn fragments_are_dropped() {
    only_the_answer_comes(|answer| [1, 2, 0x7f, 0x80, 0xff].map(|number| with(answer, 2, number)).into());
}

#[test]
fn headers_that_are_garbage_or_cut_short_are_dropped() {
    only_the_answer_comes(|answer| {
        let mut wrong: Vec<_> = (0..10).map(|len| (From::Relay, answer[..len].to_vec())).collect();
        wrong.extend([0, 2, 5, 0xff].map(|kind| with(answer, 3, kind)));
        wrong.extend(
            [vec![0xff; 300], b"\0\0\0\x03\xffshort".to_vec(), b"\0\0\0\x04short".to_vec()]
                .map(|bytes| (From::Relay, bytes)),
        );
        wrong
    });
}

#[test]
fn datagrams_that_are_not_the_relays_are_dropped() {
    only_the_answer_comes(|answer| {
        let forged = [&answer[..10], b"forged"].concat();
        vec![(From::AnotherPort, forged.clone()), (From::AnotherAddress, forged)]
    });
}

/// An IPv4 socket has no way to say so.
#[test]
fn senders_of_another_family_are_dropped() {
    only_the_answer_comes(|_| {
        let sender: std::net::Ipv6Addr = "fd88::2".parse().unwrap();
        vec![(From::Relay, [&[0, 0, 0, 4], &sender.octets()[..], &[0, 7], b"wrong"].concat())]
    });
}

#[test]
fn the_largest_answers_come_whole() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new()
        .answering(|answer| {
            let mut large = answer[..10].to_vec();
            large.resize(65_507, b'x');
            vec![(From::Relay, large)]
        })
        .start(&lab);
    let script = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(15)
for _ in range(3):
    s.sendto(b'?', ('10.88.0.2', 7)); data, source = s.recvfrom(65535); print(len(data), set(data) == {120}, source)
";
    let run = lab.presocks(["/usr/bin/python3", "-c", script]).proxy(&proxy).run();
    run.success().stdout_is("65497 True ('10.88.0.2', 7)\n".repeat(3));
    lab.assert_no_leak();
}

/// Sends once on each of three sockets, and prints the error; the first has a peer.
const FAILS: &str = "
import errno, socket
for connected in True, False, False:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
    try:
        if connected: s.connect(('10.88.0.2', 7)); s.send(b'x')
        else: s.sendto(b'x', ('10.88.0.2', 7))
        print('sent')
    except OSError as error: print(errno.errorcode[error.errno])
";

#[track_caller]
fn fails(lab: &Lab, proxy: &(impl Upstream + ?Sized), options: &[&str]) -> Outcome {
    let run =
        lab.presocks(["/usr/bin/python3", "-c", FAILS]).proxy(proxy).options(options.iter().copied()).run();
    run.success().stdout_is("ENETUNREACH\n".repeat(3));
    run
}

#[test]
fn a_proxy_without_udp_refuses_at_once_and_one_line_says_so() {
    if missing(&["python3", "microsocks", "ssh", "sshd", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let service = Datagrams::echo(&lab, 7);
    let (microsocks, ssh) = (Microsocks::open(&lab), SshDynamic::open(&lab));
    for proxy in [&microsocks as &dyn Upstream, &ssh] {
        let said = fails(&lab, proxy, &[]).stderr();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("UDP"), "{said}");
        assert_eq!(fails(&lab, proxy, &["-q"]).stderr(), "");
    }
    assert_eq!(service.received(), []);
    lab.assert_no_leak();
}

#[test]
fn a_proxy_that_refuses_an_association_is_a_failure_of_the_send() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    for code in [1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff] {
        let proxy = Relay::new().reply(code).start(&lab);
        let run = lab.presocks(["/usr/bin/python3", "-c", FAILS]).proxy(&proxy).run();
        let said = run.success().stdout();
        assert!(said.lines().count() == 3 && !said.contains("sent"), "reply {code}: {}", run.report());
        assert!(run.stderr().contains(&format!("reply {code}")), "reply {code}: {}", run.report());
    }
    lab.assert_no_leak();
}

#[test]
fn a_proxy_that_opens_no_more_associations_goes_on_with_those_that_it_has() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().opens_at_most(1).start(&lab);
    let script = "
import socket, time
s, t = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
s.settimeout(15)
def ask(place): s.sendto(b'hello', place); print(s.recvfrom(100))
ask(('10.88.0.2', 7)); t.sendto(b'no room', ('10.88.0.2', 7))
while True:
    # Not so fast that the queue which all sockets share is full, and the next question is lost.
    time.sleep(0.01)
    try: t.sendto(b'no room', ('10.88.0.2', 7))
    except OSError as error: print(error.strerror); break
ask(('10.88.0.2', 7)); ask(('10.88.0.2', 8))
";
    let run = lab.presocks(["/usr/bin/python3", "-c", script]).proxy(&proxy).run();
    run.success().stdout_is(
        "(b'hello', ('10.88.0.2', 7))
Network is unreachable
(b'hello', ('10.88.0.2', 7))
(b'hello', ('10.88.0.2', 8))
",
    );
    assert!(run.stderr().contains("general SOCKS server failure (reply 1)"), "{}", run.report());
    lab.assert_no_leak();
}

#[test]
fn a_proxy_that_breaks_off_or_says_nonsense_is_a_failure_of_the_send() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let scripts = [
        Script::new(),
        Script::new().reset(),
        Script::new().greeting().send([5, 0xff]),
        Script::new().greeting().send([4, 0]),
        Script::until_request(),
        Script::until_request().send([5, 0, 0]),
        Script::until_request().send([5, 0, 0, 9, 0, 0, 0, 0, 0, 0]),
        Script::until_request().send([5, 0, 0, 1, 10, 77, 0, 1]),
        Script::until_request().send(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        let proxy = script.start(&lab);
        let run = lab.presocks(["/usr/bin/python3", "-c", FAILS]).proxy(&proxy).run();
        let said = run.success().stdout();
        assert!(said.lines().count() == 3 && !said.contains("sent"), "script {number}: {}", run.report());
    }
    let nobody = format!("socks5://{}:1", presocks_tests::lab::PROXY);
    lab.permit_proxy_port(1);
    let run = lab.presocks(["/usr/bin/python3", "-c", FAILS]).proxy(&nobody).run();
    assert!(!run.success().stdout().contains("sent"), "{}", run.report());
    lab.assert_no_leak();
}

#[test]
fn a_relay_at_an_address_that_nobody_can_use_is_a_failure_or_a_loss_and_no_leak() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    // Where a proxy says its relay is, datagrams may go; nowhere else.
    lab.permit_direct("192.0.2.1");
    for bound in [Bound::Nowhere, Bound::NoPort, Bound::Name] {
        let proxy = Relay::new().bound(bound).start(&lab);
        let run = lab.presocks(["/usr/bin/python3", "-c", FAILS]).proxy(&proxy).run();
        let said = run.success().stdout();
        assert_eq!(said.lines().count(), 3, "{bound:?}: {}", run.report());
    }
    lab.assert_no_leak();
}

#[test]
fn the_option_that_denies_udp_denies_it_and_asks_no_proxy() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    fails(&lab, &proxy, &["--udp=deny"]);
    assert!(proxy.associations().is_empty());
    lab.assert_no_leak();
}

#[test]
fn no_form_of_send_gets_past_a_proxy_without_udp_nor_past_the_option() {
    if missing(&["cc", "danted", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let (microsocks, dante) = (Microsocks::open(&lab), Dante::open(&lab));
    let program = compile(&lab, "udp_refused");
    let places = ["10.88.0.2:7000", "[fd88::2]:7000", "[::ffff:10.88.0.2]:7000", "198.18.0.77:443"];
    let words = || {
        let places = places.iter().map(|place| format!("refused={place}"));
        [program.to_string_lossy().into_owned()].into_iter().chain(places)
    };
    lab.presocks(words()).proxy(&microsocks).run().success();
    lab.presocks(words()).proxy(&dante).options(["--udp=deny"]).run().success();
    lab.assert_no_leak();
}

#[test]
fn groups_and_broadcasts_are_refused_where_a_proxy_serves_udp() {
    if missing(&["cc", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let dante = Dante::open(&lab);
    let relay = Relay::new().start(&lab);
    let program = compile(&lab, "udp_refused");
    let places =
        ["224.0.0.251:5353", "239.255.255.250:1900", "255.255.255.255:67", "[ff05::fb]:5353", "[ff0e::1]:9"];
    for proxy in [&dante as &dyn Upstream, &relay] {
        let places = places.iter().map(|place| format!("refused={place}"));
        let words = [program.to_string_lossy().into_owned()].into_iter().chain(places);
        lab.presocks(words).proxy(proxy).run().success();
    }
    assert!(relay.associations().is_empty());
    lab.assert_no_leak();
}

#[test]
fn direct_networks_are_reached_directly_and_the_rest_is_not() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let service = Datagrams::echo(&lab, ECHO);
    let proxy = Relay::new().start(&lab);
    lab.permit_direct("10.88.0.0/24");
    let script = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(15)
for place in ('10.88.0.2', 7000), ('192.0.2.1', 7), ('10.88.0.2', 7000):
    s.sendto(b'hello', place); print(s.recvfrom(100) == (b'hello', place))
s.connect(('10.88.0.2', 7000)); s.send(b'peer'); print(s.recv(100) == b'peer')
s.connect(('192.0.2.1', 7)); s.send(b'peer'); print(s.recv(100) == b'peer')
";
    let run = lab
        .presocks(["/usr/bin/python3", "-c", script])
        .proxy(&proxy)
        .options(["--direct", "10.88.0.0/24"])
        .run();
    run.success().stdout_is("True\n".repeat(5));
    let received = service.received();
    assert_eq!(received.len(), 3);
    // By the client itself.
    assert!(
        received.iter().all(|(source, _)| source.ip().to_canonical() == presocks_tests::lab::CLIENT),
        "{received:?}"
    );
    assert_eq!(proxy.finished(1)[0].datagrams.len(), 2);
    lab.assert_no_leak();
}

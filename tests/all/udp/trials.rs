//! What leads a datagram off its way, or somebody else's onto it: sockets bound to groups, to devices, to addresses that go; senders that the
//! proxy invents; strangers who know a token; a proxy that keeps silent.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use presocks_tests::host::Host;
use presocks_tests::lab::{CLIENT, PROXY, PROXY6};
use presocks_tests::proxy::relay::{Bound, From, Relay};
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{ScriptedRelay, Upstream};
use presocks_tests::{Build, Lab, Outcome, Running, missing};

/// Where `tests/programs/udp_trials.c` sends.
const FAR: [&str; 2] = ["far=10.88.0.2:7000", "far6=[fd88::2]:7000"];

/// Sockets of each family, and places for them.
const PLACES: &str = "
import os, socket, sys, time
FAMILIES = (socket.AF_INET, ('10.88.0.2', 7000)), (socket.AF_INET6, ('fd88::2', 7000))
def udp(family, own=None):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(15)
    if own: s.bind(own)
    return s
def ask(s, place, text=b'hello'): s.sendto(text, place); answer, source = s.recvfrom(100); return answer == text and source[:2] == place
def step(): print('ready', flush=True); sys.stdin.readline()
";

fn python(script: &str) -> [String; 3] {
    ["/usr/bin/python3".into(), "-c".into(), format!("{PLACES}{script}")]
}

/// Runs `tests/programs/udp_trials.c` in this build.
#[track_caller]
fn trial(lab: &Lab, build: Build, words: &[&str], proxy: &dyn Upstream, options: &[&str]) -> Outcome {
    let program = build.of(lab, "udp_trials", &[]);
    let words = [program.to_str().unwrap()].into_iter().chain(FAR).chain(words.iter().copied());
    lab.presocks(words).proxy(proxy).options(options.iter().copied()).run()
}

/// Runs `ip` for each of these lines.
fn ip(host: &Host, lines: &str) {
    host.setup(&["ip", "-batch", "-"], lines);
}

/// More addresses of the client's.
const MORE: &str = "address add 10.77.0.9/32 dev cable\naddress add fd77::9/128 dev cable nodad\n";

/// Takes the client's addresses, and gives it another; the way out stays.
fn move_away(client: &Host) {
    let lines = format!(
        "address del fd77::2 peer {PROXY6} dev cable
         address del fd77::9/128 dev cable
         address del 10.77.0.9/32 dev cable
         address add fd77::5 peer {PROXY6} dev cable nodad
         route replace default via {PROXY6} dev cable onlink
        "
    );
    ip(client, &lines);
}

#[track_caller]
fn ready(program: &mut Running) {
    assert_eq!(program.line(), "ready");
}

/// The payloads that the proxy has had, in no order.
fn payloads(proxy: &ScriptedRelay) -> BTreeSet<String> {
    let associations = proxy.associations();
    let datagrams = associations.iter().flat_map(|association| &association.datagrams);
    datagrams.map(|datagram| String::from_utf8_lossy(&datagram.payload).into_owned()).collect()
}

/// A proxy that opens every association, and has one relay for them all, which takes datagrams and answers none.
fn deaf(lab: &Lab) -> (impl Upstream + use<>, UdpSocket) {
    let relay = lab.proxy.inside(|| UdpSocket::bind((PROXY, 0)).unwrap());
    let port = relay.local_addr().unwrap().port();
    lab.permit_relay_ports(port..=port);
    let reply = [&[5, 0, 0, 1][..], &PROXY.octets(), &port.to_be_bytes()].concat();
    (Script::until_request().send(reply).read_all().start(lab), relay)
}

#[test]
fn sockets_that_are_bound_to_groups_and_broadcasts_leak_nothing() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    ip(&lab.client, "address add 10.66.0.2/24 broadcast 10.66.0.255 dev cable\n");
    let proxy = Relay::new().start(&lab);
    let places = [
        "bound=224.0.0.251:5353",
        "bound=239.255.255.250:0",
        "bound=255.255.255.255:67",
        "bound=10.66.0.255:5000",
        "bound=[ff05::fb]:5353",
        "bound=[ff02::fb]:5353",
        "bound=[ff0e::1]:0",
    ];
    for build in [Build::Shared, Build::Static] {
        for options in [&[][..], &["--udp=deny"]] {
            trial(&lab, build, &places, &proxy, options).success();
        }
    }
    lab.assert_no_leak();
}

/// As one does that is changed every day. Whoever has the address then is somebody else.
#[test]
fn an_address_that_leaves_the_machine_takes_no_datagram_with_it() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    ip(&lab.client, MORE);
    let proxy = Relay::new().start(&lab);
    let script = "
(four, far), (six, far6) = FAMILIES
connected, written, unconnected = udp(six), udp(six), udp(six, ('fd77::2', 0))
connected.connect(far6); written.connect(far6)
fixed, old, old4 = udp(six, ('fd77::9', 5000)), udp(six, ('fd77::9', 0)), udp(four, ('10.77.0.9', 0))
fixed.connect(far6)
sockets = (connected, far6), (unconnected, far6), (old, far6), (old4, far)
for s, place in sockets: s.sendto(b'before', place); print(s.recv(100))
step()
def quietly(send):
    try: send()
    except OSError: pass
for _ in range(20):
    for s, place in sockets: quietly(lambda: s.sendto(b'after', place))
    for s in connected, written, fixed: quietly(lambda: s.send(b'after')); quietly(lambda: os.write(s.fileno(), b'after'))
# Another source than before: a connect takes it, and answers come.
print(ask(udp(six), far6), ask(udp(four), far))
";
    let mut program = lab.presocks(python(script)).proxy(&proxy).start();
    for _ in 0..4 {
        assert_eq!(program.line(), "b'before'");
    }
    ready(&mut program);
    move_away(&lab.client);
    program.write("\n");
    program.finish().success().stdout_has("True True");
    lab.assert_no_leak();
}

/// What comes to a sink is refused by the kernel, which tells whom it is from.
#[test]
fn an_address_that_leaves_the_machine_takes_no_refusal_with_it() {
    if missing(&["python3"]) {
        return;
    }
    for (proxy, options) in [(Relay::new(), &["--udp=deny"][..]), (Relay::new().reply(7), &[])] {
        let lab = Lab::new();
        ip(&lab.client, MORE);
        let proxy = proxy.start(&lab);
        let script = "
six, far6 = FAMILIES[1]
def refused(send):
    try: send(); print('sent')
    except OSError as error: print(error.strerror)
refused(lambda: udp(six).sendto(b'before', far6))
chosen, fixed = udp(six), udp(six, ('fd77::9', 5000))
for s in chosen, fixed: s.connect(far6)
step()
for _ in range(20):
    for s in chosen, fixed:
        try: os.write(s.fileno(), b'after')
        except OSError: pass
";
        let mut program = lab.presocks(python(script)).proxy(&proxy).options(options.iter().copied()).start();
        assert_eq!(program.line(), "Network is unreachable");
        ready(&mut program);
        move_away(&lab.client);
        program.write("\n");
        program.finish().success();
        lab.assert_no_leak();
    }
}

#[test]
fn a_thread_that_binds_a_socket_to_a_device_while_another_sends_leads_nothing_away() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let (proxy, _relay) = deaf(&lab);
    for build in [Build::Shared, Build::Static] {
        trial(&lab, build, &["trial=races"], &proxy, &[]).success();
    }
    lab.assert_no_leak();
}

#[test]
fn a_child_that_binds_its_parents_socket_to_a_device_leads_nothing_away() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    for build in [Build::Shared, Build::Static] {
        trial(&lab, build, &["trial=children"], &proxy, &[]).success();
    }
    lab.assert_no_leak();
}

#[test]
fn a_message_that_names_a_device_goes_through_the_proxy_or_nowhere() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    for build in [Build::Shared, Build::Static] {
        trial(&lab, build, &["trial=messages"], &proxy, &[]).success();
    }
    lab.assert_no_leak();
}

/// A header and what it is to be taken for.
fn claim(sender: &str, port: u16) -> (From, Vec<u8>) {
    let host = match sender.parse() {
        Ok(std::net::IpAddr::V4(address)) => [&[1][..], &address.octets()].concat(),
        Ok(std::net::IpAddr::V6(address)) => [&[4][..], &address.octets()].concat(),
        Err(_) => [&[3, u8::try_from(sender.len()).unwrap()], sender.as_bytes()].concat(),
    };
    (From::Relay, [&[0; 3][..], &host, &port.to_be_bytes(), b"forged"].concat())
}

/// The proxy sends these, too, as if from these senders, before and after each answer: the program hears the answers alone.
#[track_caller]
fn only_answers_come(claims: &[(&str, u16)]) {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let claims: Vec<_> = claims.iter().map(|(sender, port)| claim(sender, *port)).collect();
    let answering =
        move |answer: &[u8]| [claims.clone(), vec![(From::Relay, answer.to_vec())], claims.clone()].concat();
    let proxy = Relay::new().answering(answering).start(&lab);
    let script = "
for family, place in FAMILIES:
    for connected in False, True:
        s = udp(family)
        if connected: s.connect(place)
        for _ in range(3): s.send(b'good') if connected else s.sendto(b'good', place)
        for _ in range(3):
            answer, source = s.recvfrom(100); print(answer, source[:2])
        s.settimeout(0.3)
        try: print('then', s.recvfrom(100))
        except TimeoutError: print('nothing else')
";
    let expected: String = ["b'good' ('10.88.0.2', 7000)\n", "b'good' ('fd88::2', 7000)\n"]
        .map(|line| format!("{}nothing else\n", line.repeat(3)).repeat(2))
        .concat();
    lab.presocks(python(script)).proxy(&proxy).run().success().stdout_is(expected);
    lab.assert_no_leak();
}

#[test]
fn nobody_whom_the_proxy_could_not_hear_is_shown_as_a_sender() {
    only_answers_come(&[
        ("127.0.0.1", 9000),
        ("127.0.0.1", 7000),
        ("127.0.0.53", 53),
        ("127.192.0.0", 7000),
        ("127.192.0.1", 7000),
        ("224.0.0.251", 5353),
        ("255.255.255.255", 67),
        ("0.0.0.0", 7000),
        ("0.0.0.0", 0),
        ("10.88.0.2", 0),
        ("10.88.0.2", 53),
        ("192.0.2.53", 53),
        ("::1", 7000),
        ("::", 7000),
        ("fe80::1", 7000),
        ("ff05::fb", 5353),
        ("fd88::2", 0),
        ("fd88::2", 53),
        ("::ffff:127.0.0.1", 7000),
        ("::ffff:224.0.0.251", 7000),
        ("localhost", 7000),
        ("localhost", 22),
        ("origin.test", 53),
        ("origin.test", 0),
    ]);
}

/// They are names, of which the program may trust one more than another.
#[test]
fn no_stand_in_is_shown_as_a_sender_because_the_proxy_says_so() {
    only_answers_come(&[
        ("198.18.0.1", 7000),
        ("198.18.0.77", 7000),
        ("198.19.255.254", 9),
        ("::ffff:198.18.0.1", 7000),
        ("fd70:7265:736f:636b:7300::1", 7000),
    ]);
}

#[test]
fn a_silent_proxy_keeps_no_sender_waiting_for_long() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let silent = [
        Script::new().read_all(),
        Script::new().greeting().send([5, 0]).read_all(),
        Script::until_request().send([5, 0, 0]).read_all(),
    ];
    let script = "
import errno
def timed(label, send):
    begun = time.monotonic()
    try: send(); outcome = 'right'
    except OSError as error: outcome = 'right' if error.errno == errno.ENETUNREACH else error
    took = time.monotonic() - begun
    print(label, outcome, took if took > 5 else 'soon')
for family, place in FAMILIES:
    for label in 'nonblocking', 'impatient', 'limited', 'blocking':
        for connected in False, True:
            s = socket.socket(family, socket.SOCK_DGRAM)
            s.setblocking(label != 'nonblocking')
            if label == 'limited': s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, (0).to_bytes(8, 'little') + (200000).to_bytes(8, 'little'))
            flags = socket.MSG_DONTWAIT if label == 'impatient' else 0
            if connected: s.connect(place); timed(label, lambda: s.send(b'x', flags))
            else: timed(label, lambda: s.sendto(b'x', flags, place))
";
    let expected: String = ["nonblocking", "impatient", "limited", "blocking"]
        .map(|label| format!("{label} right soon\n").repeat(2))
        .concat();
    // All at once: each takes its time.
    let start = |proxy: &_| lab.presocks(python(script)).proxy(proxy).start();
    let proxies = silent.map(|script| script.start(&lab));
    for program in proxies.each_ref().map(start) {
        program.finish().success().stdout_is(expected.repeat(2));
    }
    lab.assert_no_leak();
}

/// The victim's port.
const VICTIM: u16 = 5000;

/// The ports of all UDP sockets of the client but the victim's; the gates are among them.
fn gates(client: &Host) -> BTreeSet<u16> {
    let listed = client.setup(&["ss", "-Huan"], "");
    let own = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
    own.filter_map(|own| own.rsplit_once(':')?.1.parse().ok()).filter(|port| *port != VICTIM).collect()
}

#[test]
fn a_stranger_at_another_address_of_the_same_port_has_no_use_of_a_token() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
sockets = [(udp(family, (own, 5000)), place) for (family, place), own in zip(FAMILIES, ('10.77.0.2', 'fd77::2'))]
for s, place in sockets: print(ask(s, place, b'first'))
step()
for s, place in sockets:
    print(ask(s, place, b'second')); s.settimeout(0.3)
    try: print('then', s.recvfrom(100))
    except TimeoutError: print('nothing else')
";
    let mut program = lab.presocks(python(script)).proxy(&proxy).start();
    assert_eq!([program.line(), program.line()], ["True", "True"]);
    ready(&mut program);
    let gates = gates(&lab.client);
    assert!(gates.len() > 1, "{gates:?}");
    let strangers = lab.client.inside(|| {
        ["127.0.0.1", "::1"].map(|own| {
            let socket = UdpSocket::bind((own, VICTIM)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
    });
    for port in gates {
        let tokens = (0..8).map(|last| Ipv4Addr::new(127, 192, 0, last)).chain([CLIENT]);
        for token in tokens {
            let _ = strangers[0].send_to(b"forged", (token, port));
        }
        let _ = strangers[1].send_to(b"forged", SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)));
    }
    program.write("\n");
    program.finish().success().stdout_is("True\nTrue\nready\nTrue\nnothing else\nTrue\nnothing else\n");
    assert_eq!(payloads(&proxy), ["first", "second"].map(String::from).into());
    for stranger in strangers {
        assert!(stranger.recv(&mut [0; 100]).is_err());
    }
    lab.assert_no_leak();
}

/// The kernel gives the one what the other asked for.
#[test]
fn sockets_that_share_a_port_are_shown_true_senders() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
for (family, place), unspecified in zip(FAMILIES, ('0.0.0.0', '::')):
    def shared():
        s = socket.socket(family, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind((unspecified, 6100)); s.setblocking(False); return s
    sockets, seen, left = [shared() for _ in range(4)], set(), 0
    end = time.monotonic() + 15
    for time_ in range(10):
        for s in sockets:
            for port in 7000, 7001: s.sendto(b'%d' % port, (place[0], port)); left += 1
        while left and time.monotonic() < end:
            for s in sockets:
                try: answer, source = s.recvfrom(100)
                except BlockingIOError: continue
                left -= 1; seen.add((int(answer) == source[1], source[0]))
    print(left, seen)
";
    lab.presocks(python(script))
        .proxy(&proxy)
        .run()
        .success()
        .stdout_is("0 {(True, '10.88.0.2')}\n0 {(True, 'fd88::2')}\n");
    lab.assert_no_leak();
}

#[test]
fn a_socket_that_was_inherited_by_another_program_shows_the_true_sender() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
if len(sys.argv) == 1:
    sockets = [udp(family) for family in (socket.AF_INET, socket.AF_INET6, socket.AF_INET6)]
    places = ('10.88.0.2', 7000), ('fd88::2', 7000), ('::ffff:10.88.0.2', 7000)
    for s, place in zip(sockets, places): s.sendto(b'x', place); os.set_inheritable(s.fileno(), True)
    script = open('/proc/self/cmdline').read().split('\\0')[2]
    os.execv(sys.executable, [sys.executable, '-c', script] + [str(s.fileno()) for s in sockets])
for word in sys.argv[1:]:
    s = socket.socket(fileno=int(word)); s.settimeout(15); print(s.recvfrom(100)[1][:2])
";
    let expected = "('10.88.0.2', 7000)\n('fd88::2', 7000)\n('::ffff:10.88.0.2', 7000)\n";
    lab.presocks(python(script)).proxy(&proxy).run().success().stdout_is(expected);
    lab.assert_no_leak();
}

#[test]
fn a_socket_that_was_inherited_with_its_peer_shows_the_true_sender() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
if len(sys.argv) == 1:
    words = []
    for family, place in FAMILIES:
        s = udp(family); s.connect(place); s.send(b'x'); os.set_inheritable(s.fileno(), True); words.append(str(s.detach()))
    script = open('/proc/self/cmdline').read().split('\\0')[2]
    os.execv(sys.executable, [sys.executable, '-c', script] + words)
for word in sys.argv[1:]:
    s = socket.socket(fileno=int(word)); s.settimeout(15); print(s.recvfrom(100)[1][:2], s.getpeername()[:2])
";
    let expected = ["('10.88.0.2', 7000)", "('fd88::2', 7000)"].map(|place| format!("{place} {place}\n"));
    lab.presocks(python(script)).proxy(&proxy).run().success().stdout_is(expected.concat());
    lab.assert_no_leak();
}

#[test]
fn a_relay_at_another_public_host_is_refused_and_one_line_says_so() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().bound(Bound::Nowhere).start(&lab);
    let script = "
for family, place in FAMILIES:
    for _ in range(3):
        try: udp(family).sendto(b'x', place); print('sent')
        except OSError as error: print(error.strerror)
";
    let run = lab.presocks(python(script)).proxy(&proxy).run();
    run.success().stdout_is("Network is unreachable\n".repeat(6));
    run.stderr_has("gives 192.0.2.1:").stderr_has(" as its UDP relay, which cannot be sent to");
    assert_eq!(run.stderr().lines().count(), 1, "{}", run.report());
    lab.assert_no_leak();
}

//! What a proxy is asked for: when an association begins and ends, and how its destinations travel.

use presocks_tests::origin::Datagrams;
use presocks_tests::proxy::relay::{Bound, Relay};
use presocks_tests::proxy::{Dante, Embedded, ScriptedRelay, Upstream};
use presocks_tests::{Lab, Running, missing, patience};

/// A prelude, for programs that are told what to do by their standard input.
const PYTHON: &str = "
import os, socket, sys
def udp(family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(15)
    return s
def wait(): sys.stdout.flush(); sys.stdin.readline()
def ask(s, place, text=b'hello'):
    s.sendto(text, place)
    answer, source = s.recvfrom(65535)
    print(answer == text, source[:2] == socket.getaddrinfo(*place, s.family, s.type)[0][4][:2])
";

const GOOD: &str = "True True\n";

fn python(script: &str) -> [String; 3] {
    ["/usr/bin/python3".into(), "-c".into(), format!("{PYTHON}{script}")]
}

/// How many associations there are, and how many of them are over.
fn counts(proxy: &ScriptedRelay) -> (usize, usize) {
    let associations = proxy.associations();
    (associations.len(), associations.iter().filter(|association| association.over).count())
}

fn reads_line(running: &mut Running, expected: &str) {
    assert_eq!(running.line(), expected);
}

#[test]
fn a_connect_opens_no_association_and_the_first_datagram_does() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
s = udp(); t = udp(socket.AF_INET6)
s.connect(('10.88.0.2', 7)); t.connect(('fd88::2', 7)); u = udp(); u.bind(('', 0))
print('connected'); wait()
s.send(b'x'); print(s.recv(10)); wait()
";
    let mut program = lab.presocks(python(script)).proxy(&proxy).start();
    reads_line(&mut program, "connected");
    assert_eq!(counts(&proxy), (0, 0));
    program.write("\n");
    reads_line(&mut program, "b'x'");
    assert_eq!(counts(&proxy), (1, 0));
    program.finish().success();
    assert_eq!(proxy.finished(1).len(), 1);
    lab.assert_no_leak();
}

#[test]
fn each_socket_has_one_association_for_all_its_destinations() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
sockets = [udp() for _ in range(3)]
for port in range(1, 6):
    for s in sockets: ask(s, ('10.88.0.2', port))
t = sockets[0].dup(); ask(t, ('192.0.2.9', 9)); wait()
";
    let mut program = lab.presocks(python(script)).proxy(&proxy).start();
    for _ in 0..16 {
        reads_line(&mut program, GOOD.trim_end());
    }
    assert_eq!(counts(&proxy), (3, 0));
    let mut numbers: Vec<_> = proxy.associations().iter().map(|each| each.datagrams.len()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [5, 5, 6]);
    // And one socket towards the proxy.
    for association in proxy.associations() {
        assert!(
            association.clients.iter().all(|client| *client == association.clients[0]),
            "{association:?}"
        );
    }
    program.finish().success();
    lab.assert_no_leak();
}

#[test]
fn an_association_ends_soon_after_its_socket_does() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
s = udp(); ask(s, ('10.88.0.2', 7)); t = udp(); ask(t, ('10.88.0.2', 7)); copy = s.dup()
wait(); s.close(); print('a copy is left'); wait(); ask(copy, ('10.88.0.2', 7)); copy.close(); print('closed'); wait()
ask(t, ('10.88.0.2', 7)); wait()
";
    let mut program = lab.presocks(python(script)).proxy(&proxy).start();
    for _ in 0..2 {
        reads_line(&mut program, GOOD.trim_end());
    }
    program.write("\n");
    reads_line(&mut program, "a copy is left");
    program.write("\n");
    reads_line(&mut program, GOOD.trim_end());
    reads_line(&mut program, "closed");
    patience::wait_until("one association to end", || counts(&proxy) == (2, 1));
    program.write("\n");
    reads_line(&mut program, GOOD.trim_end());
    assert_eq!(counts(&proxy), (2, 1));
    program.finish().success();
    assert_eq!(proxy.finished(2).len(), 2);
    lab.assert_no_leak();
}

#[test]
fn the_associations_of_a_killed_program_end() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
if os.fork() == 0:
    ask(udp(), ('10.88.0.2', 7)); sys.stdout.flush(); os.kill(os.getpid(), 9)
os.wait(); ask(udp(), ('10.88.0.2', 7)); wait()
";
    let mut program = lab.presocks(python(script)).proxy(&proxy).start();
    for _ in 0..2 {
        reads_line(&mut program, GOOD.trim_end());
    }
    patience::wait_until("the killed program's association to end", || counts(&proxy).1 > 0);
    program.finish().success();
    lab.assert_no_leak();
}

#[test]
fn a_hundred_sockets_one_after_the_other_leave_no_association() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
for _ in range(100):
    s = udp(); ask(s, ('10.88.0.2', 7)); s.close()
wait()
";
    let mut program = lab.presocks(python(script)).proxy(&proxy).start();
    for _ in 0..100 {
        reads_line(&mut program, GOOD.trim_end());
    }
    assert_eq!(proxy.finished(100).len(), 100);
    program.finish().success();
    lab.assert_no_leak();
}

/// A datagram may be lost as an association ends, or too soon after it: so the program asks again.
#[test]
fn an_association_that_the_proxy_ends_is_opened_again() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().hangs_up_after(2).start(&lab);
    let script = "
s, t = udp(), udp()
s.settimeout(0.5); t.settimeout(0.5)
t.connect(('10.88.0.2', 8))
def patiently(send, receive):
    for _ in range(30):
        send()
        try: return receive()
        except (TimeoutError, ConnectionRefusedError): pass
for _ in range(5):
    print(patiently(lambda: s.sendto(b'any', ('10.88.0.2', 7)), lambda: s.recvfrom(10)))
    print(patiently(lambda: t.send(b'peer'), lambda: t.recv(10)), t.getpeername())
";
    let run = lab.presocks(python(script)).proxy(&proxy).run();
    run.success().stdout_is("(b'any', ('10.88.0.2', 7))\nb'peer' ('10.88.0.2', 8)\n".repeat(5));
    let associations = proxy.finished(6);
    assert!(associations.iter().all(|association| association.datagrams.len() <= 2), "{associations:?}");
    lab.assert_no_leak();
}

#[test]
fn names_travel_as_names_and_addresses_as_addresses() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().start(&lab);
    let script = "
for family in socket.AF_INET, socket.AF_INET6:
    place = socket.getaddrinfo('origin.test', 7, family, socket.SOCK_DGRAM)[0][4]
    s = udp(family); s.sendto(b'by name', place); print(s.recvfrom(100) == (b'by name', place))
    s = udp(family); s.connect(place); s.send(b'peer'); print(s.recv(100), s.getpeername() == place)
ask(udp(), ('192.0.2.8', 8)); ask(udp(socket.AF_INET6), ('2001:db8::9', 9)); ask(udp(socket.AF_INET6), ('::ffff:192.0.2.10', 10))
";
    let run = lab.presocks(python(script)).proxy(&proxy).run();
    run.success().stdout_is(format!("{}{}", "True\nb'peer' True\n".repeat(2), GOOD.repeat(3)));
    let mut places: Vec<_> = proxy
        .finished(7)
        .iter()
        .flat_map(|association| association.datagrams.clone())
        .map(|datagram| (datagram.to, datagram.is_named))
        .collect();
    places.sort();
    let named = ("origin.test:7".to_owned(), true);
    let mut expected = vec![named; 4];
    expected
        .extend(["192.0.2.10:10", "192.0.2.8:8", "[2001:db8::9]:9"].map(|place| (place.to_owned(), false)));
    expected.sort();
    assert_eq!(places, expected);
    lab.assert_no_leak();
}

#[test]
fn names_are_answered_by_real_proxies() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let service = Datagrams::echo(&lab, 7);
    let (dante, password, embedded) = (Dante::open(&lab), Dante::with_password(&lab), Embedded::open(&lab));
    // On one socket: names of the same address, that address itself, and another.
    let script = "
s = udp()
for name in 'origin.test', 'www.origin.test', 'a.test', '10.88.0.2', 'origin6.test', 'origin.test': ask(s, (name, 7), name.encode())
s.connect(('b.test', 7)); s.send(b'peer'); print(s.recv(10) == b'peer', s.getpeername() == (socket.gethostbyname('b.test'), 7))
s = udp(socket.AF_INET6); s.connect(('origin6.test', 7)); s.send(b'six'); print(s.recv(10) == b'six', True)
";
    for proxy in [&dante as &dyn Upstream, &password, &embedded] {
        lab.presocks(python(script)).proxy(proxy).run().success().stdout_is(GOOD.repeat(8)).stderr_is("");
    }
    assert_eq!(service.received().len(), 24);
    lab.assert_no_leak();
}

#[test]
fn the_address_in_the_reply_may_be_the_proxys_own_in_any_form() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    for bound in [Bound::Own, Bound::Own6, Bound::Unspecified, Bound::Unspecified6, Bound::Mapped] {
        let proxy = Relay::new().bound(bound).start(&lab);
        let script = "ask(udp(), ('192.0.2.8', 8)); ask(udp(socket.AF_INET6), ('2001:db8::9', 9))";
        let run = lab.presocks(python(script)).proxy(&proxy).run();
        assert!(run.status.success() && run.stdout() == GOOD.repeat(2), "{bound:?}: {}", run.report());
        assert_eq!(proxy.finished(2).len(), 2, "{bound:?}");
    }
    lab.assert_no_leak();
}

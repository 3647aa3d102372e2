//! The laboratory's part in this: proxies relay, services answer, the witness sees. A SOCKS client in Python asks, bare.

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::datagrams::Many;
use presocks_tests::origin::tftp;
use presocks_tests::origin::{Datagrams, TftpServer};
use presocks_tests::proxy::relay::{Bound, From, Relay};
use presocks_tests::proxy::{Dante, Embedded, Upstream};
use presocks_tests::{Lab, missing, patience};

/// `client.py PROXY-URL HOST:PORT...`: sends the destination itself there and prints the answers.
const CLIENT: &str = r#"
import socket, struct, sys
from urllib.parse import urlsplit

def packed(host, port):
    for kind, family in (1, socket.AF_INET), (4, socket.AF_INET6):
        try: return bytes([kind]) + socket.inet_pton(family, host) + struct.pack('>H', port)
        except OSError: pass
    return bytes([3, len(host)]) + host.encode() + struct.pack('>H', port)

def read(stream, kind):
    length = {1: 4, 4: 16}.get(kind) or stream.read(1)[0]
    host, port = stream.read(length), struct.unpack('>H', stream.read(2))[0]
    family = {1: socket.AF_INET, 4: socket.AF_INET6}.get(kind)
    return (socket.inet_ntop(family, host) if family else host.decode()), port

proxy = urlsplit(sys.argv[1])
control = socket.create_connection((proxy.hostname, proxy.port))
stream = control.makefile('rb')
control.sendall(b'\5\1\0'); assert stream.read(2) == b'\5\0'
control.sendall(b'\5\3\0\1' + bytes(6))
code, _, kind = stream.read(4)[1:]
if code: sys.exit(f'reply {code}')
relay = read(stream, kind)
own = socket.socket(socket.AF_INET6 if ':' in relay[0] else socket.AF_INET, socket.SOCK_DGRAM)
own.settimeout(5)
for place in sys.argv[2:]:
    host, port = place.rsplit(':', 1)
    own.sendto(bytes(3) + packed(host.strip('[]'), int(port)) + place.encode(), relay)
    datagram, sender = own.recvfrom(65535)
    import io
    rest = io.BytesIO(datagram[4:])
    answering = read(rest, datagram[3])
    print(f'{rest.read().decode()} from {answering[0]} {answering[1]}', 'relayed' if sender[:2] == relay else 'by another')
"#;

fn asks(lab: &Lab, proxy: &impl Upstream, places: &[&str]) -> String {
    let url = proxy.url();
    let words = ["/usr/bin/python3", "-c", CLIENT, &url].into_iter().chain(places.iter().copied());
    lab.bare(words).run().success().stdout()
}

#[test]
fn dante_and_our_own_server_relay_and_the_witness_permits_it() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let service = Datagrams::echo(&lab, 7);
    let (dante, embedded) = (Dante::open(&lab), Embedded::open(&lab));
    for proxy in [&dante as &dyn Upstream, &embedded] {
        let places = ["10.88.0.2:7", "origin.test:7"];
        let expected = "10.88.0.2:7 from 10.88.0.2 7 relayed\norigin.test:7 from 10.88.0.2 7 relayed\n";
        assert_eq!(asks(&lab, &proxy.url(), &places), expected);
    }
    for proxy in [&dante as &dyn Upstream, &embedded] {
        let answer = asks(&lab, &proxy.url(), &["[fd88::2]:7"]);
        assert_eq!(answer, "[fd88::2]:7 from fd88::2 7 relayed\n", "{}", proxy.url());
    }
    assert_eq!(service.received().len(), 6);
    lab.assert_no_leak();
}

#[test]
fn answers_from_another_port_are_relayed_as_such() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let _service = Datagrams::echo_from_another_port(&lab, 7);
    // Dante drops them: it hears only whom the client has sent something to.
    let embedded = Embedded::open(&lab);
    let answer = asks(&lab, &embedded, &["10.88.0.2:7"]);
    assert!(answer.starts_with("10.88.0.2:7 from 10.88.0.2 "), "{answer}");
    assert!(!answer.contains(" 7 relayed"), "{answer}");
    lab.assert_no_leak();
}

#[test]
fn datagrams_past_a_relay_and_questions_to_port_53_are_counted() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _dante = Dante::open(&lab);
    lab.permit_relay_ports(1..=60_000);
    let script = "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for place in ('10.77.0.1', 53), ('10.77.0.1', 60001), ('10.88.0.1', 20001), ('10.77.0.1', 20001): s.sendto(b'x', place)";
    lab.bare(["/usr/bin/python3", "-c", script]).run().success();
    let mut leaked = lab.leaked();
    leaked.sort();
    assert_eq!(leaked.len(), 3, "{leaked:?}");
    for (packet, place) in
        leaked.iter().zip(["10.77.0.1 . udp . 53 ", "10.77.0.1 . udp . 60001 ", "10.88.0.1 . udp . 20001 "])
    {
        assert!(packet.starts_with(place), "{packet}");
    }
}

#[test]
fn a_scripted_relay_keeps_to_its_script_and_records_what_it_received() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Relay::new().bound(Bound::Own6).start(&lab);
    let places = ["origin.test:7", "192.0.2.1:9", "[2001:db8::1]:9"];
    let expected = "origin.test:7 from 10.88.0.2 7 relayed\n192.0.2.1:9 from 192.0.2.1 9 relayed\n\
                    [2001:db8::1]:9 from 2001:db8::1 9 relayed\n";
    assert_eq!(asks(&lab, &proxy, &places), expected);
    let associations = proxy.finished(1);
    let came: Vec<_> = associations[0].datagrams.iter().map(|datagram| datagram.to.as_str()).collect();
    assert_eq!(came, places);
    assert_eq!(associations[0].datagrams[0].payload, b"origin.test:7");
    assert!(associations[0].datagrams[0].is_named && !associations[0].datagrams[1].is_named);
    for from in [From::AnotherPort, From::AnotherAddress] {
        let proxy = Relay::new().answering(move |answer| vec![(from, answer.to_vec())]).start(&lab);
        assert_eq!(asks(&lab, &proxy, &["10.88.0.2:7"]), "10.88.0.2:7 from 10.88.0.2 7 by another\n");
    }
    lab.assert_no_leak();
}

#[test]
fn many_addresses_answer_each_for_itself() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let _many = Many::start(&lab, 7);
    let proxy = Embedded::open(&lab);
    let places = ["10.88.16.1:7", "10.88.31.254:7"];
    let expected = "10.88.16.1:7 from 10.88.16.1 7 relayed\n10.88.31.254:7 from 10.88.31.254 7 relayed\n";
    assert_eq!(asks(&lab, &proxy, &places), expected);
    lab.assert_no_leak();
}

#[test]
fn a_tftp_server_gives_and_takes() {
    if missing(&["busybox"]) {
        return;
    }
    let lab = Lab::new();
    let server = TftpServer::start(&lab);
    lab.permit_direct(&ORIGIN.to_string());
    lab.bare(["busybox", "tftp", "-g", "-r", "hello.txt", "-l", "-", "10.88.0.2"])
        .run()
        .success()
        .stdout_is(tftp::HELLO);
    lab.bare(["busybox", "tftp", "-g", "-r", "large", "-l", "-", "10.88.0.2"])
        .run()
        .success()
        .stdout_is(tftp::large());
    lab.file("upload", tftp::large());
    lab.bare(["busybox", "tftp", "-p", "-l", "upload", "10.88.0.2"]).run().success();
    // The client has its last answer before the server has noted what it got.
    patience::wait_until("the upload", || server.uploads().len() == 1);
    assert_eq!(server.uploads(), [tftp::large()]);
    lab.assert_no_leak();
}

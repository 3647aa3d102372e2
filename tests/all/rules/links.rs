//! Addresses of a link, and of groups: no proxy is asked for them, as they mean others there; where they are direct the program speaks to them by
//! the device that it has named.

use presocks_tests::host::Host;
use presocks_tests::missing;
use presocks_tests::origin::{Datagrams, Service};

use presocks_tests::proxy::Upstream;

use super::Scene;

/// A scene whose client and proxy host have addresses on the cable between them, and services on the proxy host.
struct Link {
    scene: Scene,
    stream: Service,
    datagrams: Datagrams,
}

impl Link {
    fn set() -> Option<Self> {
        let scene = Scene::set()?;
        let address = |host: &Host, own: u8, other: u8, cable: &str| {
            let batch = format!(
                "address add fe80::{own}/64 dev {cable} nodad
                 neighbour add fe80::{other} lladdr 02:00:00:00:77:0{other} dev {cable} nud permanent\n"
            );
            host.setup(&["ip", "-batch", "-"], &batch);
        };
        address(&scene.lab.proxy, 1, 2, "to-client");
        address(&scene.lab.client, 2, 1, "cable");
        let greet = |mut stream: &std::net::TcpStream| std::io::Write::write_all(&mut stream, b"near");
        let stream = Service::start_on(&scene.lab.proxy, 0, greet);
        let datagrams = Datagrams::echo_on(&scene.lab.proxy, 0);
        Some(Self { scene, stream, datagrams })
    }

    /// The words of a program that speaks to the link, hooked and caught.
    fn programs<'a>(&self, script: &'a str, ports: &'a [String; 2]) -> [Vec<&'a str>; 2] {
        let program = ["/usr/bin/python3", "-c", script, &ports[0], &ports[1]];
        [program.to_vec(), [&["env", "-i"], &program[..]].concat()]
    }

    fn ports(&self) -> [String; 2] {
        [self.stream.port().to_string(), self.datagrams.port().to_string()]
    }
}

/// What every script has.
const SPEAK: &str = "
import errno, socket, sys
from socket import AF_INET, AF_INET6, SOCK_STREAM, SOCK_DGRAM
stream_port, datagram_port = map(int, sys.argv[1:3])
cable = socket.if_nametoindex('cable')
def said(what, *arguments):
    try: return what(*arguments)
    except OSError as error: return errno.errorcode[error.errno]
def made(address, kind):
    s = socket.socket(AF_INET6 if ':' in address else AF_INET, kind)
    s.settimeout(10)
    if kind == SOCK_DGRAM and '.' in address: s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return s
def place(address, port, scope):
    return (address, port, 0, scope) if ':' in address else (address, port)
def streamed(address, scope=0):
    s = made(address, SOCK_STREAM)
    s.connect(place(address, stream_port, scope))
    peer = s.getpeername()
    return peer[0].split('%')[0], peer[3] == scope, s.recv(9).decode()
def begun(address, scope=0):
    s = made(address, SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex(place(address, stream_port, scope))
    import select
    select.select([], [s], [], 10)
    return errno.errorcode[s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
def sent(address, scope=0, port=datagram_port):
    s = made(address, SOCK_DGRAM)
    s.sendto(b'sent', place(address, port, scope))
    answer, peer = s.recvfrom(9)
    return answer.decode(), peer[0].split('%')[0], peer[3] == scope
def written(address, scope=0):
    s = made(address, SOCK_DGRAM)
    s.connect(place(address, datagram_port, scope))
    s.send(b'written')
    return s.recv(9).decode()
";

#[test]
fn no_proxy_is_asked_for_an_address_of_a_link_or_for_a_group() {
    let Some(link) = Link::set() else { return };
    let script = format!(
        "{SPEAK}
print(said(streamed, 'fe80::1', cable), said(streamed, 'fe80::1'), said(sent, 'fe80::1', cable), said(written, 'fe80::1', cable))
print(said(streamed, 'ff02::1', cable), said(streamed, 'ff0e::1'), said(sent, 'ff02::1', cable), said(sent, 'ff0e::1'))
print(said(streamed, '224.0.0.1'), said(streamed, '255.255.255.255'), said(sent, '255.255.255.255'), said(sent, '224.0.0.1'))
"
    );
    let ports = link.ports();
    for words in link.programs(&script, &ports) {
        let run = link.scene.command(&[], &[], &words).run();
        run.success().stdout_is("ENETUNREACH ENETUNREACH ENETUNREACH ENETUNREACH\n".repeat(3));
        let datagram = |address: &str, port: &str| format!("datagram to {address}:{port} refused: ");
        let [stream_port, datagram_port] = &ports;
        let why = "an address of a link (fe80::/10) means nothing to a proxy; --direct fe80::/10 reaches it from here\n";
        run.stderr_has(&format!("presocks: [fe80::1]:{stream_port}: {why}"));
        run.stderr_has(&format!("{}{why}", datagram("[fe80::1]", datagram_port)));
        let why = "multicast and broadcast cannot be proxied\n";
        run.stderr_has(&format!("presocks: [ff02::1]:{stream_port}: {why}"));
        run.stderr_has(&format!("{}{why}", datagram("[ff02::1]", datagram_port)));
        assert_eq!(run.stderr().lines().count(), 4, "{}", run.report());
    }
    let script = format!("{SPEAK}\nprint(begun('fe80::1', cable))\n");
    let [hooked, _] = link.programs(&script, &ports);
    link.scene.command(&[], &[], &hooked).run().success().stdout_is("ENETUNREACH\n");
    assert!(link.scene.first.connections().is_empty());
    assert_eq!((link.stream.connections(), link.datagrams.received().len()), (0, 0));
    link.scene.lab.assert_no_leak();
}

#[test]
fn a_direct_address_of_a_link_is_spoken_to_by_the_device_that_the_program_has_named() {
    let Some(link) = Link::set() else { return };
    let script = format!(
        "{SPEAK}
print(said(streamed, 'fe80::1', cable), said(sent, 'fe80::1', cable), said(written, 'fe80::1', cable))
print(said(streamed, 'fe80::1'))
"
    );
    let ports = link.ports();
    link.scene.lab.permit_direct("fe80::/10");
    for words in link.programs(&script, &ports) {
        for options in [&["--direct", "fe80::/10"][..], &["--only", "x.example"]] {
            let run = link.scene.command(&[], options, &words).run();
            let expected = "('fe80::1', True, 'near') ('sent', 'fe80::1', True) written\nEINVAL\n";
            run.success().stdout_is(expected).stderr_is("");
        }
    }
    assert_eq!((link.stream.connections(), link.datagrams.received().len()), (4, 8));
    assert!(link.scene.first.connections().is_empty());
    link.scene.lab.assert_no_leak();
}

#[test]
fn a_name_server_at_an_address_of_a_link_is_answered_for_like_any() {
    let Some(link) = Link::set() else { return };
    if missing(&["dig"]) {
        return;
    }
    for transport in ["+tcp", "+notcp"] {
        let question = ["dig", transport, "+short", "+tries=1", "@fe80::1%cable", "origin.test", "A"];
        for before in [&[][..], &["env", "-i"]] {
            let run = link.scene.command(&[], &[], &[before, &question].concat()).run();
            run.success().stdout_has("198.1").stderr_is("");
        }
    }
    link.scene.lab.assert_no_leak();
}

#[test]
fn what_leads_to_an_address_of_a_link_by_the_configuration_asks_no_proxy_either() {
    let Some(link) = Link::set() else { return };
    if missing(&["curl", "dig"]) {
        return;
    }
    let rewrite = ["--rewrite", "near.example=fe80::1"];
    let curl = ["curl", "-sS", "http://near.example/"];
    let run = link.scene.command(&[], &rewrite, &curl).run();
    run.code(7)
        .stderr_has("presocks: near.example:80: an address of a link (fe80::/10) means nothing to a proxy");
    let dig = ["dig", "+tcp", "+tries=1", "@192.0.2.53", "mail.test", "MX"];
    let run = link.scene.command(&[], &["--dns", "fe80::1"], &dig).run();
    run.stdout_has("SERVFAIL")
        .stderr_has("[fe80::1]:53 via ")
        .stderr_has(": an address of a link (fe80::/10)");
    let second = "socks5://[fe80::1]:1080";
    let run = link
        .scene
        .command(&[], &["-p", &link.scene.first.url(), "-p", second], &["curl", "-sS", "http://origin.test/"])
        .run();
    run.code(7)
        .stderr_has("asked to connect to it: an address of a link (fe80::/10) means nothing to a proxy");
    let explained = link.scene.command(&[], &[], &["--explain", "[fe80::1]:80"]).run();
    explained.success().stdout_has("but refused: an address of a link (fe80::/10)");
    assert!(link.scene.first.connections().is_empty());
    link.scene.lab.assert_no_leak();
}

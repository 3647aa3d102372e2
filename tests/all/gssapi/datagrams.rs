//! Datagrams under GSSAPI: each is a message of its own.

use presocks_tests::origin::Datagrams;
use presocks_tests::proxy::{GssapiProxy, Upstream};

use super::Realm;

/// To the service and back, one after the other: by name and by address, connected and not, of every length up to what a datagram holds under protection.
const TALK: &str = "
import socket
for host in 'origin.test', '10.88.0.2', 'fd88::2':
    family, _, _, _, address = socket.getaddrinfo(host, 7, type=socket.SOCK_DGRAM)[0]
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(20)
    for length in 0, 1, 1200, 20000, 65000:
        s.sendto(bytes(length), address)
        payload, source = s.recvfrom(65536)
        assert (len(payload), source) == (length, address), (host, length, len(payload), source)
    s.connect(address)
    s.send(b'connected')
    assert s.recv(100) == b'connected'
print('all came back')";

#[test]
fn datagrams_go_under_the_protection_that_was_asked_for() {
    let Some(realm) = Realm::start() else { return };
    realm.proxy.permit_relays(&realm.lab);
    let _echo = Datagrams::echo(&realm.lab, 7);
    for url in realm.urls() {
        let run = realm.lab.presocks(["/usr/bin/python3", "-c", TALK]).proxy(&url).run();
        run.success().stdout_is("all came back\n").stderr_is("");
    }
    let log = realm.proxy.daemon.log();
    assert!(["level 0", "level 1", "level 2"].iter().all(|level| log.contains(level)), "{log}");
    realm.lab.assert_no_leak();
}

/// Those of others, those that were changed on the way, and those that come twice: the program sees none of them.
#[test]
fn datagrams_that_nobody_vouches_for_are_dropped() {
    const PROGRAM: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
for number in range(50):
    s.sendto(b'%d' % number, ('10.88.0.2', 7))
    assert s.recv(100) == b'%d' % number
print('each once')";
    let Some(realm) = Realm::start() else { return };
    let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, 1, "forged datagrams");
    proxy.permit_relays(&realm.lab);
    let _echo = Datagrams::echo(&realm.lab, 7);
    for url in [proxy.url(), proxy.url_with("protection=integrity")] {
        let run = realm.lab.presocks(["/usr/bin/python3", "-c", PROGRAM]).proxy(&url).run();
        run.success().stdout_is("each once\n").stderr_is("");
    }
    realm.lab.assert_no_leak();
}

//! Listeners: a program's, to which the broker brings who comes by the proxy; and our own server's.

use std::net::{Ipv6Addr, TcpStream};

use presocks_tests::proxy::scripted::Gate;
use presocks_tests::{binary, patience};

use super::*;

/// A program that listens beside a connection, at the address and port that it is told.
const LISTEN: &str = "
import errno, socket, sys
control = socket.create_connection(('10.88.0.2', 2100))
is_v6 = ':' in sys.argv[1]
listener = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
if is_v6: listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
try:
    listener.listen()
    data, _ = listener.accept()
    print(data.recv(5).decode(), flush=True)
    input()
    data.settimeout(2)
    print(data.recv(5).decode())
except OSError as error:
    print(errno.errorcode.get(error.errno, 'nothing'))
";

/// A proxy that listens, and by which somebody comes at once who says something, and once more when the gate is open.
fn proxy(lab: &Lab, gate: &Gate, is_v6: bool) -> ScriptedProxy {
    let at = |address: [u8; 4], port: u8| [&[5, 0, 0, 1][..], &address, &[16, port]].concat();
    let at6 = |host: u8| [&[5, 0, 0, 4, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[host, 16, host]].concat();
    let come = Script::until_request();
    let come = if is_v6 {
        come.send(at6(1)).send(at6(2))
    } else {
        come.send(at([203, 0, 113, 9], 1)).send(at([10, 88, 0, 2], 2))
    };
    let binds = come.send("hello").pass(gate).send("again").read_all();
    Script::until_request().send(at([203, 0, 113, 5], 3)).read_all().and_later(binds).start(lab)
}

/// The lines are carried out while somebody is connected to the program's listener at this address.
#[track_caller]
fn goes_on(scene: &Scene, own: &str, port: &str, lines: &str, expected: &str) {
    let gate = Gate::closed();
    let proxy = proxy(&scene.lab, &gate, own.contains(':'));
    scene.ip(&[WAY_OUT, COME, GO, COME].concat());
    let run = scene.lab.presocks(["python3", "-c", LISTEN, own, port]).proxy(&proxy);
    let mut program = run.options(["--bind"]).start();
    assert_eq!(program.line(), "hello");
    scene.ip(lines);
    gate.open();
    program.write("\n");
    program.finish().success().stdout_has(expected);
    scene.lab.assert_no_leak();
}

#[test]
fn what_is_brought_to_a_listener_does_not_follow_its_address() {
    let Some(scene) = Scene::set() else { return };
    for lines in [GO, "route del local fd77::9 dev cable table local\n"] {
        goes_on(&scene, "fd77::9", "0", lines, "again\n");
    }
    goes_on(&scene, "::", "0", GO, "again\n");
    scene.lab.client.setup(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/cable/route_localnet"], "");
    // The kernel may know the socket before it asks whose the address is.
    goes_on(&scene, "10.77.0.9", "5555", GO, "hello\n");
}

#[test]
fn nobody_is_brought_to_an_ipv6_listener_that_is_bound_to_a_port_as_well() {
    let Some(scene) = Scene::set() else { return };
    let proxy = proxy(&scene.lab, &Gate::closed(), true);
    let run = scene.lab.presocks(["python3", "-c", LISTEN, "fd77::9", "5555"]).proxy(&proxy);
    run.options(["--bind"])
        .run()
        .success()
        .stdout_is("EADDRNOTAVAIL\n")
        .stderr_has(" does not listen: it has bound its socket to fd77::9 and a port: ");
    scene.lab.assert_no_leak();
}

#[test]
fn our_server_at_loopback_answers_no_source_that_is_elsewhere() {
    let Some(scene) = Scene::set() else { return };
    scene.ip(WAY_OUT);
    let server = [binary::presocks().as_os_str(), "--serve".as_ref(), "[::1]:1099".as_ref()];
    let server = scene.lab.bare(server).start();
    patience::wait_until("our server", || {
        scene.lab.client.inside(|| TcpStream::connect((Ipv6Addr::LOCALHOST, 1099)).is_ok())
    });
    let client = "
import socket
IPV6_FREEBIND = 78
client = socket.socket(socket.AF_INET6)
client.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
client.bind(('2001:db8:113::77', 0))
client.settimeout(0.5)
print(client.connect_ex(('::1', 1099)) == 0)
";
    scene.lab.bare(["python3", "-c", client]).run().success().stdout_is("False\n");
    drop(server);
    scene.lab.assert_no_leak();
}

//! Urgent bytes (`MSG_OOB`), by which splice(2) does not get: a relay carries each in its place in the stream, and all that follows.

use std::io::Write as _;

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::{PROXY, PROXY6};
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::proxy::{Microsocks, Stunnel, UnixDoor, Upstream as _};
use presocks_tests::{Lab, missing};
use rustix::net::{SendFlags, send};

use super::ends::at_a_unix_socket;
use super::run;

/// Sends pieces with urgent bytes between them, and hears all of it come back.
const SEND: &str = "
import socket
s = socket.create_connection(('10.88.0.2', 7))
s.settimeout(20)
wanted = got = b''
for number in range(5):
    piece = b'%d' % number * 3000
    s.sendall(piece)
    s.send(b'!', socket.MSG_OOB)
    wanted += piece + b'!'
    if number % 2: s.sendall(b'.')
    if number % 2: wanted += b'.'
    # Whatever is sent while the urgent byte stands still goes on after it.
    while len(got) < len(wanted) and number > 2 and (piece := s.recv(65536)): got += piece
print(got == wanted)";

/// Hears everything to the end.
const HEAR: &str = "
import socket
s = socket.create_connection(('10.88.0.2', 7))
s.settimeout(20)
got = b''
while piece := s.recv(65536): got += piece
print(got)";

#[test]
fn a_programs_urgent_bytes_keep_their_places() {
    if missing(&["python3", "microsocks", "stunnel4"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Microsocks::open(&lab);
    let door = UnixDoor::before(&lab, proxy.port());
    let certificates = Certificates::make(&lab);
    let stunnel = Stunnel::before(&lab, 0, proxy.port(), &certificates.good);
    let over_tls = format!("{}?ca-file={}", stunnel.url("socks5+tls", ""), certificates.authority.display());
    for url in [door.url("socks5+unix", ""), over_tls] {
        let heard = run(&lab, &url, SEND, &[]);
        assert_eq!(heard.success().stdout(), "True\n", "{url}\n{}", heard.report());
    }
    lab.assert_no_leak();
}

#[test]
fn a_proxys_urgent_bytes_keep_their_places() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let script =
        Script::until_request().send(SUCCESS).send("before").urgent("!").send("after").urgent("and!");
    let proxy = script.send("end").start(&lab);
    let url = proxy.url().replace(&PROXY.to_string(), &format!("[{PROXY6}]"));
    run(&lab, &url, HEAR, &[]).success().stdout_is("b'before!afterand!end'\n").stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn urgent_bytes_from_a_unix_socket_keep_their_places() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let url = at_a_unix_socket(&lab, |mut client| {
        client.write_all(b"before").unwrap();
        send(&client, b"!", SendFlags::OOB).unwrap();
        client.write_all(b"after").unwrap();
    });
    run(&lab, &url, HEAR, &[]).success().stdout_is("b'before!after'\n").stderr_is("");
    lab.assert_no_leak();
}

//! The server against clients of every kind, over real sockets on loopback.

use super::*;
use std::io::Read;
use std::net::{self, Ipv4Addr, Shutdown};
use std::sync::mpsc;
use std::thread;

/// A label too long for the DNS: no test asks a name server.
pub(super) const NEVER_RESOLVED: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// A server on a thread of its own, and what it reports.
pub(super) fn server() -> (SocketAddr, mpsc::Receiver<Request>) {
    server_knowing(None)
}

pub(super) fn server_knowing(
    known: Option<(&'static str, u16, SocketAddr)>,
) -> (SocketAddr, mpsc::Receiver<Request>) {
    let mut server = Server::bind("127.0.0.1:0").unwrap();
    if let Some((name, port, address)) = known {
        server = server.knowing(name, port, address);
    }
    let address = server.address();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || server.run(move |request| drop(sender.send(request))));
    (address, receiver)
}

/// Sends bytes, ends its own half, and gives all that comes back.
fn exchange(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = net::TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(bytes).unwrap();
    // The server may have hung up already.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Greeting and request without authentication.
pub(super) fn request(command: u8, address: &[u8]) -> Vec<u8> {
    [&[5, 1, 0, 5, command, 0], address].concat()
}

pub(super) fn v4(address: SocketAddr) -> Vec<u8> {
    [&[1, 127, 0, 0, 1][..], &address.port().to_be_bytes()].concat()
}

pub(super) fn named(name: &str, port: u16) -> Vec<u8> {
    let len = u8::try_from(name.len()).unwrap();
    [&[3, len], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// An origin that sends back in capitals what it has received once the client has ended its half.
fn shouting_origin() -> SocketAddr {
    let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            stream.write_all(&text.to_ascii_uppercase()).unwrap();
        }
    });
    address
}

/// A port on which nobody listens.
fn closed_port() -> SocketAddr {
    net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn connects_to_an_address_and_carries_both_directions_and_half_closes() {
    let (server, requests) = server();
    let origin = shouting_origin();
    let answer = exchange(server, &[&request(1, &v4(origin))[..], b"hello"].concat());
    let bound = requests.recv().unwrap().outcome.unwrap();
    let reply = [&[5, 0, 5, 0, 0][..], &v4(bound), b"HELLO"].concat();
    assert_eq!(answer, reply);
}

#[test]
fn connects_to_a_name_that_only_it_knows_in_any_case_of_letters() {
    let origin = shouting_origin();
    let (server, requests) = server_knowing(Some(("only.here.test", 80, origin)));
    let answer = exchange(server, &[&request(1, &named("Only.Here.test", 80))[..], b"hello"].concat());
    assert!(answer.ends_with(b"HELLO"), "{answer:?}");
    let request = requests.recv().unwrap();
    assert_eq!(request.target.as_deref(), Some("Only.Here.test:80"));
}

#[test]
fn resolves_names_itself() {
    let (server, _requests) = server();
    let origin = shouting_origin();
    let answer = exchange(server, &[&request(1, &named("localhost", origin.port()))[..], b"hello"].concat());
    assert!(answer.ends_with(b"HELLO"), "{answer:?}");
}

#[test]
fn a_closed_port_is_reply_5_and_reported() {
    let (server, requests) = server();
    let closed = closed_port();
    assert_eq!(exchange(server, &request(1, &v4(closed)))[..4], [5, 0, 5, 5]);
    let request = requests.recv().unwrap();
    assert_eq!(request.target, Some(closed.to_string()));
    assert!(request.outcome.unwrap_err().contains("refused"));
}

#[test]
fn a_name_that_cannot_be_resolved_is_reply_4() {
    let (server, requests) = server();
    // Too long a label, nothing at all, and what cannot be a C string.
    for name in [NEVER_RESOLVED, "", "a\0b"] {
        let answer = exchange(server, &request(1, &named(name, 80)));
        assert_eq!(answer[..4], [5, 0, 5, 4], "{name:?}");
        assert!(requests.recv().unwrap().outcome.is_err());
    }
}

#[test]
fn bind_and_unknown_commands_are_reply_7() {
    let (server, requests) = server();
    assert_eq!(exchange(server, &request(2, &[1, 127, 0, 0, 1, 0, 80]))[..4], [5, 0, 5, 7]);
    assert!(requests.recv().unwrap().outcome.unwrap_err().contains("only CONNECT"));
    assert_eq!(exchange(server, &request(9, &[1, 127, 0, 0, 1, 0, 80]))[..4], [5, 0, 5, 7]);
}

#[test]
fn an_unknown_address_type_is_reply_8() {
    let (server, _requests) = server();
    assert_eq!(exchange(server, &request(1, &[9]))[..4], [5, 0, 5, 8]);
}

#[test]
fn a_client_that_insists_on_a_password_is_told_that_none_is_taken() {
    let (server, requests) = server();
    assert_eq!(exchange(server, &[5, 1, 2]), [5, 0xff]);
    assert!(requests.recv().unwrap().outcome.is_err());
}

#[test]
fn hostile_bytes_do_not_end_the_server() {
    let (server, _requests) = server();
    let valid = request(1, &named(&NEVER_RESOLVED.replace('x', "\u{1b}"), 80));
    let mut hostile: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte; 300]).collect();
    hostile.extend((0..valid.len()).map(|len| valid[..len].to_vec()));
    hostile.extend((0..valid.len()).map(|at| {
        let mut changed = valid.clone();
        changed[at] ^= 0xff;
        changed
    }));
    hostile.push(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    for bytes in hostile {
        let mut stream = net::TcpStream::connect(server).unwrap();
        let _ = stream.write_all(&bytes);
    }
    let origin = shouting_origin();
    assert!(
        exchange(server, &[&request(1, &v4(origin))[..], b"still here"].concat()).ends_with(b"STILL HERE")
    );
}

#[test]
fn a_name_cannot_steer_the_terminal_of_the_log() {
    let (server, requests) = server();
    let name = format!("\u{1b}[2J\n{NEVER_RESOLVED}");
    exchange(server, &request(1, &named(&name, 80)));
    let shown = requests.recv().unwrap().to_string();
    assert!(shown.contains(r"\u{1b}[2J\nx"), "{shown}");
    assert!(!shown.chars().any(char::is_control), "{shown}");
}

#[test]
fn an_address_in_use_or_none_is_a_clear_error() {
    let taken = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Server::bind(&address).err().unwrap();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    for bad in ["", "1080", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536"] {
        let error = Server::bind(bad).err().unwrap();
        assert!(error.contains("ADDRESS:PORT"), "{error}");
    }
}

//! Associations over real sockets on loopback.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use super::*;
use crate::serve::Request;
use crate::serve::tests::{NEVER_RESOLVED, named, request, server, server_knowing, v4};

/// Longer than anything takes that does happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for what must not happen to have happened.
const A_WHILE: Duration = Duration::from_millis(100);

/// A client with an association.
struct Client {
    control: TcpStream,
    socket: UdpSocket,
}

impl Client {
    fn new(server: SocketAddr) -> Self {
        let mut control = TcpStream::connect(server).unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        control.write_all(&request(3, &[1, 0, 0, 0, 0, 0, 0])).unwrap();
        let mut answer = [0; 12];
        control.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..10], [5, 0, 5, 0, 0, 1, 127, 0, 0, 1]);
        let relay = (Ipv4Addr::LOCALHOST, u16::from_be_bytes([answer[10], answer[11]]));
        let socket = socket();
        socket.connect(relay).unwrap();
        Self { control, socket }
    }

    /// Sends a datagram to `place`, an address type and an address as a request has them.
    fn send(&self, place: &[u8], payload: &[u8]) {
        self.socket.send(&[&[0, 0, 0], place, payload].concat()).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        receive(&self.socket)
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; LONGEST];
    let len = socket.recv(&mut datagram).unwrap();
    datagram.truncate(len);
    datagram
}

fn nothing_comes(socket: &UdpSocket) {
    socket.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(socket.recv(&mut [0; 64]).is_err());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Sends everything back.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = vec![0; LONGEST];
        while let Ok((len, from)) = socket.recv_from(&mut datagram) {
            socket.send_to(&datagram[..len], from).unwrap();
        }
    });
    address
}

/// A datagram from `address` as a client receives it.
fn from(address: SocketAddr, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 0], &v4(address)[..], payload].concat()
}

#[test]
fn datagrams_of_any_length_go_there_and_back() {
    let (server, _requests) = server();
    let client = Client::new(server);
    let echo = echo();
    for len in [0, 1, 1472, 8183, 8200, 65_507 - 10] {
        let payload = vec![7; len];
        client.send(&v4(echo), &payload);
        assert!(client.receive() == from(echo, &payload), "{len} bytes");
    }
}

#[test]
fn one_association_has_many_destinations_and_each_is_told_from_the_others() {
    let (server, _requests) = server();
    let client = Client::new(server);
    for far in [echo(), echo(), echo()] {
        client.send(&v4(far), b"hello");
        assert_eq!(client.receive(), from(far, b"hello"));
    }
}

#[test]
fn names_are_resolved_here_and_hold_up_nobody() {
    let far = echo();
    let (server, requests) = server_knowing(Some(("only.here.test", 80, far)));
    let client = Client::new(server);
    assert!(requests.recv().unwrap().outcome.is_ok());
    client.send(&named("Only.Here.test", 80), b"one");
    assert_eq!(client.receive(), from(far, b"one"));
    for payload in [b"two", b"six"] {
        client.send(&named("localhost", far.port()), payload);
    }
    let mut answers = [client.receive(), client.receive()];
    answers.sort();
    assert_eq!(answers, [from(far, b"six"), from(far, b"two")]);
}

#[test]
fn a_name_without_an_address_is_reported_once_and_harms_nothing() {
    let (server, requests) = server();
    let client = Client::new(server);
    assert!(requests.recv().unwrap().outcome.is_ok());
    for _ in 0..3 {
        client.send(&named(NEVER_RESOLVED, 80), b"lost");
    }
    let request: Request = requests.recv().unwrap();
    assert_eq!(request.target, Some(format!("{NEVER_RESOLVED}:80 (UDP)")));
    assert!(request.outcome.unwrap_err().starts_with("the name cannot be resolved: "));
    client.send(&named(NEVER_RESOLVED, 80), b"lost");
    let far = echo();
    client.send(&v4(far), b"after");
    assert_eq!(client.receive(), from(far, b"after"));
    assert!(requests.try_recv().is_err());
}

#[test]
fn fragments_and_garbage_are_dropped() {
    let (server, _requests) = server();
    let client = Client::new(server);
    let far = socket();
    let to = v4(far.local_addr().unwrap());
    let whole = [&[0, 0, 0], &to[..], b"x"].concat();
    for len in 0..10 {
        client.socket.send(&whole[..len]).unwrap();
    }
    for (at, value) in [(2, 1), (2, 0x80), (3, 0), (3, 2), (3, 9), (3, 3), (3, 4)] {
        let mut changed = whole.clone();
        changed[at] = value;
        client.socket.send(&changed).unwrap();
    }
    client.send(&[3, 255], b"short");
    client.send(&[3, 2, 0xff, 0xfe, 0, 80], b"not text");
    client.send(&to, b"sound");
    assert_eq!(receive(&far), b"sound");
    nothing_comes(&far);
}

#[test]
fn only_the_first_socket_of_the_client_is_heard_and_answered() {
    let (server, _requests) = server();
    let client = Client::new(server);
    let far = echo();
    client.send(&v4(far), b"mine");
    assert_eq!(client.receive(), from(far, b"mine"));
    let relay = client.socket.peer_addr().unwrap();
    let elsewhere = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    for stranger in [socket(), elsewhere] {
        stranger.send_to(&from(far, b"theirs"), relay).unwrap();
        nothing_comes(&stranger);
    }
    client.socket.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(client.socket.recv(&mut [0; 64]).is_err());
}

#[test]
fn another_host_is_not_heard_even_first() {
    let (server, _requests) = server();
    let client = Client::new(server);
    let far = echo();
    let elsewhere = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    elsewhere.send_to(&from(far, b"theirs"), client.socket.peer_addr().unwrap()).unwrap();
    nothing_comes(&elsewhere);
    client.send(&v4(far), b"mine");
    assert_eq!(client.receive(), from(far, b"mine"));
}

#[test]
fn what_the_kernel_does_not_take_is_lost_and_ends_nothing() {
    let (server, _requests) = server();
    let client = Client::new(server);
    client.send(&[1, 255, 255, 255, 255, 0, 9], b"broadcast");
    client.send(&[1, 127, 0, 0, 1, 0, 0], b"port 0");
    client.send(&[[4].as_slice(), &[0; 15], &[1, 0, 4]].concat(), b"nobody listens");
    let far = echo();
    client.send(&v4(far), b"after");
    assert_eq!(client.receive(), from(far, b"after"));
}

#[test]
fn an_association_ends_with_its_connection() {
    let (server, _requests) = server();
    let Client { mut control, socket } = Client::new(server);
    let far = echo();
    // What is said on the connection means nothing.
    control.write_all(b"noise").unwrap();
    let hello = from(far, b"hello");
    socket.send(&hello).unwrap();
    assert_eq!(receive(&socket), hello);
    drop(control);
    // The relay's socket is gone once the kernel says so.
    let gone = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(5));
        socket.send(&hello).is_err()
    });
    assert!(gone);
}

#[test]
fn an_association_over_ipv6_reaches_both_families() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mapped = "::ffff:127.0.0.1".parse().unwrap();
    let open = |server, client| runtime.block_on(Association::open(server, client)).unwrap();
    assert!(open(mapped, mapped).address().unwrap().is_ipv4());
    let association = open(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    assert!(association.address().unwrap().is_ipv6());
    assert!(association.far4.is_some());
}

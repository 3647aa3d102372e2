use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use presocks_proto::http;
use presocks_proto::name::Name;
use presocks_proto::target::{Host, Target};
use tokio::io::Interest;

use super::*;
use crate::scripted::run;
use crate::socket::set_option;

/// A talkative proxy's.
const ANSWER: &str = concat!(
    "HTTP/1.1 200 Connection established\r\nDate: Tue, 01 Dec 2026 00:00:00 GMT\r\n",
    "Server: Apache/2.4.62 (Debian)\r\nVia: 1.1 proxy.corp.example (squid/6.12)\r\n",
    "X-Request-Id: 0123456789abcdef\r\nConnection: close\r\n\r\n"
);

/// A wire, and how often anything was taken or looked at.
struct Counted<'a>(Watched<'a>, usize);

impl Wire for Counted<'_> {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.send(bytes).await
    }

    async fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        self.0.receive(room).await
    }

    async fn peek(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        self.1 += 1;
        self.0.peek(room).await
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_nonblocking(true).unwrap();
    (near, listener.accept().unwrap().0)
}

fn request() -> Handshake<'static> {
    let target = Target { host: Host::Name(Name::new(b"www.example").unwrap()), port: 443 };
    Handshake::Http(http::Handshake::new(&target, None).unwrap())
}

/// Negotiates; is it connected, and in how many calls?
fn converse_on(near: &TcpStream) -> (bool, usize) {
    run(async {
        let mut wire = Counted(Watched::new(near.as_fd(), Interest::READABLE).unwrap(), 0);
        let is_connected = hear(&mut wire, &mut request()).await.is_ok();
        (is_connected, wire.1)
    })
}

/// What the program still finds.
fn rest(near: &mut TcpStream, far: &TcpStream) -> String {
    far.shutdown(Shutdown::Write).unwrap();
    near.set_nonblocking(false).unwrap();
    let mut rest = String::new();
    near.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn https_answer_is_read_in_a_handful_of_calls_and_not_a_byte_too_far() {
    let (mut near, mut far) = pair();
    far.write_all(format!("{ANSWER}\n220 the server speaks first").as_bytes()).unwrap();
    let (is_connected, calls) = converse_on(&near);
    assert!(is_connected && calls <= 2, "{calls}");
    assert_eq!(rest(&mut near, &far), "\n220 the server speaks first");
}

#[test]
fn a_program_that_peeks_further_on_keeps_its_bytes_too() {
    let (mut near, mut far) = pair();
    if set_option(near.as_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, 5).is_err() {
        // TCP has it since Linux 6.9.
        return;
    }
    far.write_all(format!("{ANSWER}the program's").as_bytes()).unwrap();
    let (is_connected, calls) = converse_on(&near);
    assert!(is_connected && calls > 2, "{calls}");
    assert_eq!(rest(&mut near, &far), "the program's");
}

#[test]
fn an_answer_that_ends_early_or_is_none_fails() {
    for answer in ["HTTP/1.1 200 OK\r\nVia: ", "SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 503 No\r\n\r\n"] {
        let (near, mut far) = pair();
        far.write_all(answer.as_bytes()).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let (is_connected, calls) = converse_on(&near);
        assert!(!is_connected && calls <= 4, "{answer}: {calls}");
    }
}

//! A TFTP server (RFC 1350): it offers `hello.txt` and `large`, and takes what is written to it.
//!
//! Each transfer has a port of its own, so a client must see where an answer really comes from.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::host::Door;
use crate::lab::Lab;

/// The file `hello.txt`.
pub const HELLO: &str = "hello from the tftp server\n";

const PORT: u16 = 69;
const BLOCK: usize = 512;
const TRIES: usize = 5;

/// A running server.
#[derive(Clone, Debug)]
pub struct TftpServer {
    uploads: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl TftpServer {
    /// Starts it on port 69.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let socket = lab.origin.inside(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).expect("port 69"));
        let server = Self { uploads: Arc::default() };
        let (uploads, door) = (Arc::clone(&server.uploads), lab.origin.door());
        thread::spawn(move || {
            let mut request = [0; BLOCK];
            while let Ok((len, client)) = socket.recv_from(&mut request) {
                let (request, uploads, door) = (request[..len].to_vec(), Arc::clone(&uploads), door.clone());
                // A client that goes away early is the client's business: the test looks at the client.
                thread::spawn(move || drop(serve(&request, client, &uploads, &door)));
            }
        });
        server
    }

    /// The files that have been written, whole.
    #[must_use]
    pub fn uploads(&self) -> Vec<Vec<u8>> {
        self.uploads.lock().expect("no panic").clone()
    }
}

/// The file `large`: many blocks, the last of them short.
#[must_use]
pub fn large() -> Vec<u8> {
    (0..100 * BLOCK + 7).map(|at| (at % 251) as u8).collect()
}

fn serve(request: &[u8], client: SocketAddr, uploads: &Mutex<Vec<Vec<u8>>>, door: &Door) -> io::Result<()> {
    let socket = door.inside(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))?;
    socket.connect(client)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let name = request.get(2..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    match (request.get(1), name) {
        (Some(1), b"hello.txt") => send(&socket, HELLO.as_bytes()),
        (Some(1), b"large") => send(&socket, &large()),
        (Some(2), _) => {
            let content = receive(&socket)?;
            uploads.lock().expect("no panic").push(content);
            Ok(())
        }
        _ => socket.send(b"\0\x05\0\x01no such file\0").map(drop),
    }
}

fn send(socket: &UdpSocket, content: &[u8]) -> io::Result<()> {
    for number in 0..=content.len() / BLOCK {
        let data = &content[number * BLOCK..content.len().min((number + 1) * BLOCK)];
        let label = u16::try_from(number + 1).map_err(io::Error::other)?.to_be_bytes();
        let packet = [&[0, 3], &label[..], data].concat();
        exchange(socket, &packet, |answer| answer == [&[0, 4], &label[..]].concat())?;
    }
    Ok(())
}

fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    for number in 0.. {
        let next = u16::to_be_bytes(number + 1);
        let acknowledgement = [&[0, 4], &u16::to_be_bytes(number)[..]].concat();
        let packet =
            exchange(socket, &acknowledgement, |answer| answer.starts_with(&[&[0, 3], &next[..]].concat()))?;
        content.extend(&packet[4..]);
        if packet.len() < 4 + BLOCK {
            socket.send(&[&[0, 4], &next[..]].concat())?;
            break;
        }
    }
    Ok(content)
}

/// Sends a packet, again if need be, until an answer to it comes.
fn exchange(socket: &UdpSocket, packet: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 4 + BLOCK];
    for _ in 0..TRIES {
        socket.send(packet)?;
        while let Ok(len) = socket.recv(&mut buffer) {
            if is_answer(&buffer[..len]) {
                return Ok(buffer[..len].to_vec());
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

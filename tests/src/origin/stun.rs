//! A STUN server (RFC 8489): tells whoever asks from which address they came, as WebRTC wants to know.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::lab::Lab;

/// The port of STUN.
const PORT: u16 = 3478;

/// A running server on UDP port 3478, IPv4.
#[derive(Clone, Debug)]
pub struct StunServer {
    requests: Arc<AtomicUsize>,
}

impl StunServer {
    /// Starts it.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let socket = lab.origin.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("bind"));
        let server = Self { requests: Arc::default() };
        let requests = Arc::clone(&server.requests);
        thread::spawn(move || serve(&socket, &requests));
        server
    }

    /// How many requests have come so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers Binding requests with XOR-MAPPED-ADDRESS (sections 5, 6 and 14.2), until the socket fails.
fn serve(socket: &UdpSocket, requests: &AtomicUsize) -> io::Result<()> {
    let mut request = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut request)?;
        let (SocketAddr::V4(from), 20.., [0, 1]) = (from, length, &request[..2]) else { continue };
        requests.fetch_add(1, Ordering::SeqCst);
        let (cookie, id) = (&request[4..8], &request[4..20]);
        let masked =
            |bytes: &[u8]| bytes.iter().zip(cookie).map(|(byte, mask)| byte ^ mask).collect::<Vec<_>>();
        let (port, address) = (masked(&from.port().to_be_bytes()), masked(&from.ip().octets()));
        let answer = [&[1, 1, 0, 12], id, &[0, 0x20, 0, 8, 0, 1], &port, &address].concat();
        socket.send_to(&answer, from)?;
    }
}

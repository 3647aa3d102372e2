//! The far end of an association: the proxy's relay, and what each datagram to it and from it is packed into.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use presocks_proto::socks5::Target;
use presocks_proto::socks5::datagram::Header;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recvfrom, sendmsg_addr};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::socket::canonical;
use crate::upstream::gssapi::Seal;

/// Where the proxy takes datagrams, and our socket for it. The socket is not connected, or the kernel would answer strangers; who is not the
/// relay is not heard.
pub(super) struct Relay {
    pub(super) socket: UdpSocket,
    address: SocketAddr,
    /// What protects them, if anything does: then nothing that does not hold is heard.
    seal: Option<RefCell<Seal>>,
}

impl Relay {
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub(super) fn new(own: SocketAddr, address: SocketAddr, seal: Option<Seal>) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(own)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, address, seal: seal.map(RefCell::new) })
    }

    /// Sends a datagram to `target`.
    pub(super) fn send(&self, target: &Target, payload: &[u8]) {
        let header = Header::new(target);
        let Some(seal) = &self.seal else {
            return self.send_parts(&[IoSlice::new(header.as_bytes()), IoSlice::new(payload)]);
        };
        // What cannot be protected is lost.
        if let Ok(message) = seal.borrow_mut().close(&[header.as_bytes(), payload].concat()) {
            self.send_parts(&[IoSlice::new(&message)]);
        }
    }

    fn send_parts(&self, parts: &[IoSlice<'_>]) {
        // As in any network, a datagram may be lost. Not by the runtime, which takes a new socket for unready until it has asked the
        // kernel.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = sendmsg_addr(&self.socket, &self.address, parts, &mut SendAncillaryBuffer::default(), flags);
    }

    /// Receives a datagram, with its header; `None` for one that is to be dropped. `room` holds the longest.
    ///
    /// # Errors
    /// Those of recv(2); `WouldBlock` when there is none.
    pub(super) fn receive<'room>(&self, room: &'room mut [u8]) -> io::Result<Option<Cow<'room, [u8]>>> {
        let (len, _, sender) = recvfrom(&self.socket, &mut *room, RecvFlags::DONTWAIT)?;
        let sender = sender.and_then(|sender| SocketAddr::try_from(sender).ok()).map(canonical);
        if sender != Some(canonical(self.address)) {
            return Ok(None);
        }
        let datagram = room.get(..len).unwrap_or(&[]);
        let Some(seal) = &self.seal else { return Ok(Some(Cow::Borrowed(datagram))) };
        let opened = seal.borrow_mut().open(datagram);
        Ok(opened.map(|buffer| Cow::Owned(buffer.as_slice().to_vec())))
    }

    /// As `UdpSocket::try_io`, to read.
    pub(super) fn try_receive(&self, take: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.socket.try_io(Interest::READABLE, take)
    }
}

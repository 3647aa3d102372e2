//! What getpeername(2) is to say of a socket that the broker has connected, or has brought a connection to.

use std::net::SocketAddr;
use std::rc::Rc;

use super::bind::Bindings;
use super::datagram::Datagrams;
use super::peers::Peers;

/// Whom the addresses stand for that sockets are connected to.
pub(super) struct PeerNames {
    peers: Rc<Peers>,
    bindings: Rc<Bindings>,
    datagrams: Rc<Datagrams>,
}

impl PeerNames {
    pub(super) fn new(peers: Rc<Peers>, bindings: Rc<Bindings>, datagrams: Rc<Datagrams>) -> Self {
        Self { peers, bindings, datagrams }
    }

    /// Whom `actual` stands for to the socket with this cookie.
    pub(super) fn of(&self, cookie: u64, actual: SocketAddr) -> Option<SocketAddr> {
        let asked = self.peers.destination(cookie, actual);
        let has_come = || self.bindings.peer(cookie, actual);
        asked.or_else(has_come).or_else(|| self.datagrams.origin(cookie, actual))
    }

    /// Has the broker connected nothing yet, and has nobody come?
    pub(super) fn are_none(&self) -> bool {
        self.peers.is_empty() && self.bindings.has_none()
    }
}

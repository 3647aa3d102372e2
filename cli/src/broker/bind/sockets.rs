//! Which sockets are still open: nobody tells the broker that one was closed, and a copy of a socket would keep its port.
//!
//! The kernel is asked about one at a time (sock_diag(7)): its tables in `/proc/net/tcp` take it tens of milliseconds to write down.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};
use tokio::task::spawn_local;

use super::Bindings;
use crate::broker::holders::inode;
use crate::procfs::sockets;
use crate::socket::{Socket, option, protocol};

/// How often to look which listeners programs have closed. One that is missed twice is closed.
const SWEEP: Duration = Duration::from_secs(1);

/// Which socket it is.
pub(super) struct Identity {
    cookie: u64,
    inode: u64,
    /// The device that it is bound to; 0 for none.
    device: u32,
    /// Who has it, as far as is known.
    process: Option<i32>,
    /// A socket of MPTCP has others within it, of which the kernel tells.
    is_hidden: bool,
}

impl Identity {
    pub(super) fn new(socket: &Socket, process: Option<i32>) -> Self {
        let mut device = [0; 4];
        // Linux before 5.0 has no such option; there a socket that is bound to a device counts as closed.
        let _ = option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &mut device);
        Self {
            cookie: socket.cookie(),
            inode: inode(socket.as_fd()),
            device: u32::from_ne_bytes(device),
            process,
            is_hidden: protocol(socket.as_fd()).is_ok_and(|protocol| protocol == libc::IPPROTO_MPTCP),
        }
    }

    /// Is it connected so, and somebody's? Where that cannot be told: yes.
    pub(super) fn is_connected(&self, own: SocketAddr, peer: SocketAddr) -> bool {
        self.is_there(own, Some(peer), self.device).unwrap_or(true)
    }

    /// Does it listen there? Where that cannot be told: as long as its process has it.
    pub(super) fn listens(&self, own: SocketAddr) -> bool {
        const LOOPBACK: u32 = 1;
        self.is_there(own, None, LOOPBACK).unwrap_or_else(|| self.is_held())
    }

    /// `None` where there is no telling: not every kernel tells of TCP, and those that do not say of every socket that it is not there.
    fn is_there(&self, own: SocketAddr, peer: Option<SocketAddr>, device: u32) -> Option<bool> {
        static TELLS: OnceLock<bool> = OnceLock::new();
        if self.is_hidden {
            return Some(self.is_held());
        }
        let tells = || *TELLS.get_or_init(|| finds_a_listener().unwrap_or(false));
        look_up(self.cookie, own, peer, device).ok().filter(|is_there| *is_there || tells())
    }

    /// Has its process a descriptor for it? Where that cannot be told: yes.
    fn is_held(&self) -> bool {
        let Some(process) = self.process else { return true };
        held_by(process).map_or(true, |held| self.is_among(&held))
    }

    /// Is it one of those that [`held_by`] has found?
    pub(super) fn is_among(&self, held: &HashSet<u64>) -> bool {
        held.contains(&self.inode)
    }
}

/// All sockets that a process has a descriptor for.
///
/// # Errors
/// The process may not be looked at.
pub(super) fn held_by(process: i32) -> io::Result<HashSet<u64>> {
    match sockets(process) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        found => Ok(found?.into_iter().collect()),
    }
}

/// Looks from now on which listeners are closed, until none is left.
pub(super) fn keep_swept(bindings: &Rc<Bindings>) {
    if bindings.is_swept.replace(true) {
        return;
    }
    let bindings = Rc::clone(bindings);
    spawn_local(async move {
        while !bindings.listeners.borrow().is_empty() {
            tokio::time::sleep(SWEEP).await;
            // Each process is looked at once.
            let mut held = HashMap::new();
            let mut is_held = |identity: &Identity| {
                let Some(process) = identity.process else { return true };
                let its = held.entry(process).or_insert_with(|| held_by(process).ok());
                its.as_ref().is_none_or(|its| identity.is_among(its))
            };
            bindings.listeners.borrow_mut().retain(|_, binding| {
                let is_there = match binding.listener() {
                    Some(listener) => binding.identity.listens(listener),
                    None => is_held(&binding.identity),
                };
                let was_missing = binding.is_missing.replace(!is_there);
                if !is_there && was_missing {
                    binding.abandon();
                }
                is_there || !was_missing
            });
        }
        bindings.is_swept.set(false);
    });
}

/// Asks the kernel for the TCP socket with this cookie, which is connected to `peer`, or listens. Is it there, and has a process it?
///
/// # Errors
/// Those of netlink(7): there is no telling.
fn look_up(cookie: u64, own: SocketAddr, peer: Option<SocketAddr>, device: u32) -> io::Result<bool> {
    // struct nlmsghdr, struct inet_diag_req_v2 (linux/inet_diag.h).
    const BY_FAMILY: u16 = 20;
    const REQUEST: u16 = 1;
    const LEN: u32 = 72;
    let (family, own, peer) = in_one_family(own, peer);
    let mut request = Vec::new();
    request.extend(LEN.to_ne_bytes());
    request.extend([BY_FAMILY, REQUEST].map(u16::to_ne_bytes).as_flattened());
    request.extend([0; 8]);
    request.extend([family.as_raw().to_ne_bytes()[0], libc::IPPROTO_TCP.to_ne_bytes()[0], 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend([own.port(), peer.port()].map(u16::to_be_bytes).as_flattened());
    request.extend([own.ip(), peer.ip()].map(octets).as_flattened());
    request.extend(device.to_ne_bytes());
    request.extend(cookie.to_ne_bytes());
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered when send() returns.
    recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    read_answer(&answer)
}

/// Is a listener found that is certainly there?
fn finds_a_listener() -> io::Result<bool> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    look_up(sockopt::socket_cookie(&listener)?, listener.local_addr()?, None, 0)
}

/// An error, or struct inet_diag_msg: of a socket that nobody has any more, the inode is 0.
fn read_answer(answer: &[u8]) -> io::Result<bool> {
    const TYPE: usize = 4;
    const ERROR: u16 = 2;
    const BODY: usize = 16;
    const INODE: usize = BODY + 68;
    let word = |at: usize| {
        answer.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_ne_bytes(*word))
    };
    let kind = answer.get(TYPE..).and_then(|rest| rest.first_chunk()).map(|kind| u16::from_ne_bytes(*kind));
    match (kind, word(BODY), word(INODE)) {
        (Some(ERROR), Some(error), _) => match Errno::from_raw_os_error(-error.cast_signed()) {
            Errno::NOENT | Errno::STALE => Ok(false),
            other => Err(other.into()),
        },
        (Some(_), _, Some(inode)) => Ok(inode != 0),
        _ => Err(Errno::BADMSG.into()),
    }
}

/// The kernel knows IPv4-mapped connections by their IPv4 addresses.
fn in_one_family(own: SocketAddr, peer: Option<SocketAddr>) -> (AddressFamily, SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let own = canonical(own);
    let nobody = SocketAddr::new(
        match own.ip() {
            IpAddr::V4(_) => [0; 4].into(),
            IpAddr::V6(_) => [0_u8; 16].into(),
        },
        0,
    );
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    (family, own, peer.map_or(nobody, canonical))
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    fn identity(fd: OwnedFd, process: i32) -> Identity {
        Identity::new(&Socket::new(fd).unwrap(), Some(process))
    }

    #[test]
    fn listeners_and_connections_are_open_until_they_are_closed() {
        let own = i32::try_from(std::process::id()).unwrap();
        for (listens, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let listener = TcpListener::bind(listens).unwrap();
            let at = listener.local_addr().unwrap();
            let its = identity(listener.try_clone().unwrap().into(), own);
            let near = TcpStream::connect((to, at.port())).unwrap();
            let (far, _) = listener.accept().unwrap();
            let (here, there) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
            let nears = identity(near.try_clone().unwrap().into(), own);
            let fars = identity(far.try_clone().unwrap().into(), own);
            assert!(its.listens(at) && nears.is_connected(here, there), "{listens} {to}");
            assert!(fars.is_connected(far.local_addr().unwrap(), far.peer_addr().unwrap()));
            assert!(!nears.listens(at) && !its.is_connected(here, there));
            // Closed, and yet on its way: nobody has it any more.
            drop(near);
            assert!(!nears.is_connected(here, there));
            drop((listener, far));
            assert!(!its.listens(at));
        }
    }

    #[test]
    fn a_descriptor_is_its_process_own() {
        let own = i32::try_from(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let its = identity(listener.try_clone().unwrap().into(), own);
        assert!(its.is_held() && its.is_among(&held_by(own).unwrap()));
        assert!(!its.is_among(&held_by(i32::MAX).unwrap()));
        drop(listener);
        assert!(!its.is_held());
    }

    #[test]
    fn a_listener_is_found_that_is_certainly_there() {
        assert!(finds_a_listener().unwrap());
    }

    #[test]
    fn an_answer_that_is_none_tells_nothing() {
        for answer in [&[][..], &[0; 20], &[0xff; 60]] {
            assert!(read_answer(answer).is_err());
        }
    }
}

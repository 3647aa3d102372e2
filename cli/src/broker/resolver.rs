//! The broker's name server, for programs that ask one themselves: whatever server they mean, this one answers.
//!
//! For each server that a program asks there is a UDP socket on loopback that answers in its stead, so that an answer's sender tells which
//! server it speaks for. Over TCP a program's socket is connected to a listener made for it alone. What is answered is in `dns`.
//!
//! Everybody on this machine can send to a loopback address, and answers tell which names the session has asked for: so only those are
//! answered who send from a port that a socket of the session has had.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use super::recent::Recent;
use super::socket::{can_reach_v4, leaves_loopback, own_address};
use super::{Broker, dns};

/// Where name servers listen.
pub(super) const PORT: u16 = 53;

/// Most servers that are stood in for, the newest; a system has three.
const MOST_SERVERS: usize = 256;

/// Most sockets that are known as redirected: those that were used last.
const MOST_SOCKETS: usize = 4096;

/// The longest query over UDP that is read (RFC 6891 section 6.2.5 advises no more than 4096).
const LONGEST_QUERY: usize = 4096;

/// A program that keeps a connection and asks nothing is let go (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(120);

/// Which servers are stood in for, and for whom.
pub(super) struct Resolver {
    /// The oldest first.
    servers: RefCell<VecDeque<Server>>,
    /// `SO_COOKIE` of the sockets that were redirected.
    redirected: RefCell<Recent<u64>>,
    /// The ports from which they send.
    askers: RefCell<Ports>,
}

/// A name server that is stood in for.
struct Server {
    address: SocketAddr,
    /// Ours, that answers in its stead.
    own: SocketAddr,
    task: AbortHandle,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            servers: RefCell::default(),
            redirected: RefCell::new(Recent::new(MOST_SOCKETS)),
            askers: RefCell::new(Ports(vec![0; 1 << 10])),
        }
    }
}

/// A bit for each port.
struct Ports(Vec<u64>);

impl Ports {
    fn insert(&mut self, port: u16) {
        if let Some(word) = self.0.get_mut(usize::from(port >> 6)) {
            *word |= 1 << (port & 63);
        }
    }

    fn has(&self, port: u16) -> bool {
        self.0.get(usize::from(port >> 6)).is_some_and(|word| word & 1 << (port & 63) != 0)
    }
}

impl Resolver {
    /// Has anybody been redirected?
    pub(super) fn is_used(&self) -> bool {
        !self.servers.borrow().is_empty()
    }

    /// Does this address of ours stand in for a server?
    pub(super) fn is_own(&self, address: SocketAddr) -> bool {
        let own = canonical(address);
        self.servers.borrow().iter().any(|server| server.own == own)
    }

    /// Was the socket with this cookie redirected?
    pub(super) fn has_redirected(&self, cookie: u64) -> bool {
        self.redirected.borrow_mut().touch(cookie)
    }
}

/// The address to which the program's UDP socket is to speak instead of `server`, as the socket can reach it.
///
/// # Errors
/// `ENETUNREACH` when the socket cannot speak to loopback; those of bind(2).
pub(super) fn redirect(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    server: SocketAddr,
) -> io::Result<SocketAddr> {
    if leaves_loopback(socket) {
        return Err(Errno::NETUNREACH.into());
    }
    let own = stand_in(broker, canonical(server))?;
    broker.resolver.redirected.borrow_mut().insert(sockopt::socket_cookie(socket)?);
    match (server, own) {
        (SocketAddr::V4(_), _) | (SocketAddr::V6(_), SocketAddr::V6(_)) => Ok(own),
        // An IPv4 server as an IPv6 socket writes it, or a machine without IPv6.
        (SocketAddr::V6(_), SocketAddr::V4(own)) if can_reach_v4(socket) => {
            Ok((own.ip().to_ipv6_mapped(), own.port()).into())
        }
        _ => Err(Errno::NETUNREACH.into()),
    }
}

/// From now on queries of this socket are answered; it is bound by now, by connect() or by its first datagram.
pub(super) fn expect(broker: &Broker, socket: BorrowedFd<'_>) {
    if let Some(own) = own_address(socket) {
        broker.resolver.askers.borrow_mut().insert(own.port());
    }
}

/// A sender as the program is to see it: the server that it asked, or whoever it is.
pub(super) fn shown(broker: &Broker, sender: SocketAddr) -> SocketAddr {
    let own = canonical(sender);
    let servers = broker.resolver.servers.borrow();
    servers.iter().find(|server| server.own == own).map_or(sender, |server| server.address)
}

/// IPv4-mapped addresses as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// Ours, that answers in the stead of `server`.
fn stand_in(broker: &Rc<Broker>, server: SocketAddr) -> io::Result<SocketAddr> {
    let mut servers = broker.resolver.servers.borrow_mut();
    if let Some(known) = servers.iter().find(|known| known.address == server) {
        return Ok(known.own);
    }
    if servers.len() >= MOST_SERVERS
        && let Some(oldest) = servers.pop_front()
    {
        oldest.task.abort();
    }
    let v4 = || std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let socket = match server {
        SocketAddr::V4(_) => v4()?,
        SocketAddr::V6(_) => std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).or_else(|_| v4())?,
    };
    socket.set_nonblocking(true)?;
    let own = socket.local_addr()?;
    let task = spawn_local(serve(Rc::clone(broker), UdpSocket::from_std(socket)?)).abort_handle();
    servers.push_back(Server { address: server, own, task });
    Ok(own)
}

async fn serve(broker: Rc<Broker>, socket: UdpSocket) {
    let mut query = [0; LONGEST_QUERY];
    loop {
        // An asker that is gone already makes itself felt as an error of the next call.
        let Ok((len, asker)) = socket.recv_from(&mut query).await else { continue };
        if !broker.resolver.askers.borrow().has(asker.port()) {
            continue;
        }
        let answer = dns::answer(&mut broker.names.borrow_mut(), query.get(..len).unwrap_or(&[]));
        if let Some(answer) = answer {
            // As in any network, an answer may be lost.
            let _ = socket.send_to(&answer, asker).await;
        }
    }
}

/// Answers over TCP (RFC 1035 section 4.2.2), until the program closes or says nothing for long.
pub(super) async fn converse(broker: Rc<Broker>, mut program: TcpStream) {
    while let Ok(Ok(query)) = timeout(IDLE, read_query(&mut program)).await {
        let answer = dns::answer(&mut broker.names.borrow_mut(), &query);
        let Some(answer) = answer else { return };
        let Ok(len) = u16::try_from(answer.len()) else { return };
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend(answer);
        if program.write_all(&framed).await.is_err() {
            return;
        }
    }
}

async fn read_query(program: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut query = vec![0; usize::from(program.read_u16().await?)];
    program.read_exact(&mut query).await?;
    Ok(query)
}

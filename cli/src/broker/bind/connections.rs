//! Beside which connection a program listens: of its own the one that it has last asked for its address, else the newest; else one of its
//! parent's, and so on; else one that it has inherited or was given. One that is closed does not count.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use presocks_proto::target::Target;

use super::sockets::{Identity, held_by};
use super::usable;
use crate::procfs::Stat;
use crate::socket::Socket;
use crate::upstream::hop::Hop;
use crate::upstream::isolation::IsolationKey;

/// Most connections that are remembered; the oldest make room.
const MOST: usize = 4096;

/// So many ancestors are asked at most.
const GENERATIONS: usize = 64;

/// A program's connection.
pub(in crate::broker) struct Connection {
    cookie: u64,
    identity: Identity,
    /// Its own address and its peer's, as the kernel has them.
    ends: Option<(SocketAddr, SocketAddr)>,
    process: i32,
    /// Who has asked for its address last.
    asker: Cell<Option<i32>>,
    /// What the program has asked for.
    pub(super) destination: SocketAddr,
    /// How it goes by proxies; `None`: directly.
    pub(super) way: Option<Way>,
    /// Where a proxy has listened last beside it.
    listener: Cell<Option<IpAddr>>,
    /// When its address was asked for, as a number that grows; 0: never.
    asked: Cell<u64>,
}

/// By which proxies a connection goes.
pub(in crate::broker) struct Way {
    pub(in crate::broker) hops: Vec<Rc<Hop>>,
    pub(in crate::broker) target: Target,
    pub(in crate::broker) isolation_key: Option<IsolationKey>,
    /// Whence the last one has connected, as it says.
    pub(in crate::broker) bound: Option<Target>,
}

impl Connection {
    pub(super) fn new(socket: &Socket, process: i32, destination: SocketAddr, way: Option<Way>) -> Self {
        Self {
            cookie: socket.cookie(),
            identity: Identity::new(socket, Some(process)),
            ends: socket.local_address().ok().zip(socket.peer_address()),
            process,
            asker: Cell::default(),
            destination,
            way,
            listener: Cell::default(),
            asked: Cell::default(),
        }
    }

    /// A proxy listens at this address.
    pub(super) fn listens_at(&self, address: IpAddr) {
        self.listener.set(Some(address));
    }

    fn is_of(&self, process: i32) -> bool {
        self.process == process || self.asker.get() == Some(process)
    }

    fn is_open(&self) -> bool {
        self.ends.is_some_and(|(own, peer)| self.identity.is_connected(own, peer))
    }

    fn bound(&self) -> Option<SocketAddr> {
        usable(self.way.as_ref()?.bound?)
    }
}

/// From the oldest to the newest.
#[derive(Default)]
pub(super) struct Connections {
    all: VecDeque<Rc<Connection>>,
    asked: u64,
}

impl Connections {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn insert(&mut self, connection: Connection) {
        self.all.retain(|other| other.cookie != connection.cookie);
        self.all.push_back(Rc::new(connection));
        if self.all.len() > MOST {
            self.all.pop_front();
        }
    }

    /// What a socket that goes by a proxy is to give as its own address: programs tell it their peers, to be connected to. Where a proxy
    /// listens at another address than the one whence it has connected, at that one.
    pub(super) fn own_address(&mut self, socket: &Socket, process: Option<i32>) -> Option<SocketAddr> {
        let found = self.all.iter().find(|connection| connection.cookie == socket.cookie())?;
        self.asked += 1;
        found.asked.set(self.asked);
        found.asker.set(process);
        let port = || socket.local_address().map_or(0, |own| own.port());
        match (found.listener.get(), found.bound()) {
            (Some(listener), bound) => {
                Some(SocketAddr::new(listener, bound.map_or_else(port, |bound| bound.port())))
            }
            (None, bound) => bound,
        }
    }

    /// Have programs been shown this address as their own?
    pub(super) fn have_shown(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.all.iter().any(|connection| {
            connection.listener.get() == Some(address)
                || connection.bound().is_some_and(|bound| bound.ip() == address)
        })
    }

    /// The connection beside which this process listens.
    pub(super) fn beside(&self, process: i32) -> Option<Rc<Connection>> {
        if self.all.is_empty() {
            return None;
        }
        let own = i32::try_from(std::process::id()).ok();
        std::iter::successors(Some(process), |process| parent(*process))
            .take_while(|process| Some(*process) != own)
            .take(GENERATIONS)
            .find_map(|process| self.newest(|connection| connection.is_of(process)))
            .or_else(|| {
                let held = held_by(process).ok()?;
                self.newest(|connection| connection.identity.is_among(&held))
            })
    }

    /// The open one of these that was asked for its address last, else the newest.
    fn newest(&self, is_its: impl Fn(&Connection) -> bool) -> Option<Rc<Connection>> {
        let mut its: Vec<_> = self.all.iter().filter(|connection| is_its(connection)).collect();
        // From the newest on; of those that were never asked it stays so.
        its.reverse();
        its.sort_by_key(|connection| Reverse(connection.asked.get()));
        its.into_iter().find(|connection| connection.is_open()).map(Rc::clone)
    }
}

/// A process's parent, unless that is the first process.
fn parent(process: i32) -> Option<i32> {
    Stat::of(process)?.parent().filter(|parent| *parent > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// A connection on loopback, and its other end.
    fn connection(process: i32) -> (TcpStream, TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let taken = Socket::new(near.try_clone().unwrap().into()).unwrap();
        let destination = "192.0.2.7:21".parse().unwrap();
        (near, far, Connection::new(&taken, process, destination, None))
    }

    #[test]
    fn the_one_that_was_asked_last_comes_before_the_newest_and_none_that_is_closed() {
        let mut all = Connections::default();
        let (mut sockets, mut cookies) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (near, far, connection) = connection(7);
            cookies.push(connection.cookie);
            all.insert(connection);
            sockets.push((near, far));
        }
        let chosen = |all: &Connections, process| {
            all.newest(|connection| connection.is_of(process)).map(|connection| connection.cookie)
        };
        assert_eq!(chosen(&all, 7), Some(cookies[2]));
        for (place, asker) in [(0, 7), (1, 8)] {
            let socket = Socket::new(sockets[place].0.try_clone().unwrap().into()).unwrap();
            assert_eq!(all.own_address(&socket, Some(asker)), None);
            assert_eq!(chosen(&all, 7), Some(cookies[place]));
        }
        assert_eq!((chosen(&all, 8), chosen(&all, 9)), (Some(cookies[1]), None));
        sockets.remove(1);
        assert_eq!((chosen(&all, 7), chosen(&all, 8)), (Some(cookies[0]), None));
    }

    #[test]
    fn who_has_a_copy_of_a_connection_listens_beside_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut all = Connections::default();
        let (near, _far, connection) = connection(i32::MAX);
        let cookie = connection.cookie;
        all.insert(connection);
        assert_eq!(all.beside(own).map(|connection| connection.cookie), Some(cookie));
        drop(near);
        assert!(all.beside(own).is_none());
    }

    #[test]
    fn a_process_knows_its_parent_and_the_first_has_none() {
        let own = i32::try_from(std::process::id()).unwrap();
        let expected = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
        assert_eq!(parent(own), expected.filter(|parent| *parent > 1));
        assert_eq!(parent(i32::MAX), None);
    }
}

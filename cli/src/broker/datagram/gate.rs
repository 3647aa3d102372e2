//! The gates: the broker's own UDP sockets, to which programs' datagrams go instead of to their destination.
//!
//! One for IPv4 and one for IPv6, at every address of this machine: tokens on loopback for sockets that are not connected, and for one that is
//! the program's own IPv4 source address, so that getsockname(2) tells the truth. There is but one IPv6 loopback address, so
//! each IPv6 token is a gate of its own.
//!
//! A gate is deaf to the network: its filter takes only what came by way of the loopback device.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;

use presocks_abi::socket::IP_UNICAST_IF;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use rustix::process::{Resource, getrlimit};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::{spawn_local, yield_now};

use super::Datagrams;
use crate::descriptors::PAUSE;
use crate::kernel_route::leads_here;
use crate::socket::{canonical, hear_loopback_alone, set_option};

/// Datagrams (or, by `UDP_GRO`, trains of them) that are taken at once.
const BATCH: usize = 8;

/// The longest that a train can be.
const LONGEST: usize = 65_536;

/// As much as may wait for the broker; the kernel has its own limit (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;

/// A session's gates, opened when the first datagram socket needs one.
#[derive(Default)]
pub(super) struct Gates {
    v4: RefCell<Option<Rc<Gate>>>,
    v6: RefCell<Option<Rc<Gate>>>,
    /// The IPv6 tokens.
    solitary: RefCell<HashMap<SocketAddr, Rc<Gate>>>,
    /// Where all of them put what they take. Nothing stays in it.
    room: RefCell<Vec<u8>>,
}

/// A socket of the broker's.
pub(super) struct Gate {
    socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
}

impl Gates {
    /// The port of the gate for this family.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2), as on a machine without IPv6.
    pub(super) fn port(&self, datagrams: &Rc<Datagrams>, is_v6: bool) -> io::Result<u16> {
        let (place, any): (_, IpAddr) = if is_v6 {
            (&self.v6, Ipv6Addr::UNSPECIFIED.into())
        } else {
            (&self.v4, Ipv4Addr::UNSPECIFIED.into())
        };
        if let Some(gate) = &*place.borrow() {
            return Ok(gate.address.port());
        }
        let gate = Rc::new(Gate::open(any)?);
        spawn_local(receive(Rc::clone(datagrams), Rc::clone(&gate)));
        let port = gate.address.port();
        *place.borrow_mut() = Some(gate);
        Ok(port)
    }

    /// A new IPv6 token, unless there are `most` already.
    ///
    /// # Errors
    /// `ENOBUFS` when there are too many; those of socket(2) and bind(2).
    pub(super) fn open_solitary(&self, datagrams: &Rc<Datagrams>, most: usize) -> io::Result<SocketAddr> {
        // Descriptors are needed for other things, too.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        let most = most.min(usize::try_from(limit).unwrap_or(usize::MAX));
        if self.solitary.borrow().len() >= most {
            return Err(Errno::NOBUFS.into());
        }
        let gate = Rc::new(Gate::open(Ipv6Addr::LOCALHOST.into())?);
        spawn_local(receive(Rc::clone(datagrams), Rc::clone(&gate)));
        let address = gate.address;
        self.solitary.borrow_mut().insert(address, gate);
        Ok(address)
    }

    /// Is this one of the gates' addresses?
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        // A program may have connected a socket of its own to a group's address, and to this port.
        if address.ip().is_multicast() {
            return false;
        }
        let gate = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        gate.borrow().as_ref().is_some_and(|gate| gate.address.port() == address.port())
            || self.solitary.borrow().contains_key(&address)
    }

    /// Sends a program what came for it, from `own`, an address of a gate.
    pub(super) fn send(&self, own: SocketAddr, to: SocketAddr, payload: &[u8]) {
        // An IPv6 address may have left this machine, and no option of a socket keeps the answer here then. (An IPv4 gate sends by lo.)
        if to.is_ipv6() && !to.ip().is_loopback() && !leads_here(to.ip(), own.ip()) {
            return;
        }
        let solitary = self.solitary.borrow();
        let place = if own.is_ipv4() { self.v4.borrow() } else { self.v6.borrow() };
        let gate = solitary.get(&own).or(place.as_ref());
        if let Some(gate) = gate {
            gate.send(own.ip(), to, payload);
        }
    }
}

impl Gate {
    fn open(address: IpAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        } else {
            // Linux keeps in what comes from loopback's addresses, but for `route_localnet`. (Bound to lo it would hear nothing that is sent to it at
            // another address.)
            const LO: i32 = 1;
            set_option(socket.as_fd(), libc::IPPROTO_IP, IP_UNICAST_IF, LO.to_be())?;
        }
        hear_loopback_alone(socket.as_fd())?;
        // The kernel gives what it permits; root may have more.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
        bind(&socket, &SocketAddr::new(address, 0))?;
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let address = socket.local_addr()?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, address })
    }

    fn send(&self, own: IpAddr, to: SocketAddr, payload: &[u8]) {
        let transmit =
            Transmit { destination: to, ecn: None, contents: payload, segment_size: None, src_ip: Some(own) };
        // As in any network, a datagram may be lost; the program may be gone, too. Not by the runtime, which takes a new socket for
        // unready until it has asked the kernel.
        let _ = self.state.try_send(UdpSockRef::from(&self.socket), &transmit);
    }

    /// Takes a batch, and sends each datagram on its way. Is there more?
    fn forward(&self, datagrams: &Rc<Datagrams>) -> io::Result<bool> {
        let mut room = datagrams.gates.room.borrow_mut();
        if room.is_empty() {
            // Zeroed by the kernel: what no datagram ever fills takes no memory.
            *room = vec![0; BATCH * LONGEST];
        }
        let mut metas = [RecvMeta::default(); BATCH];
        let mut buffers: Vec<_> = room.chunks_mut(LONGEST).map(IoSliceMut::new).collect();
        let mut taken = 0;
        let result = self.socket.try_io(Interest::READABLE, || {
            taken = self.state.recv(UdpSockRef::from(&self.socket), &mut buffers, &mut metas)?;
            // A batch that is not full was the last: no need to ask the kernel for the next.
            if taken < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        drop(buffers);
        for (train, meta) in room.chunks(LONGEST).zip(&metas).take(taken) {
            let own = SocketAddr::new(meta.dst_ip.unwrap_or(self.address.ip()), self.address.port());
            let from = canonical(meta.addr);
            let train = train.get(..meta.len).unwrap_or(&[]);
            if train.is_empty() {
                datagrams.forward(own, from, train);
            }
            for datagram in train.chunks(meta.stride.max(1)) {
                datagrams.forward(own, from, datagram);
            }
        }
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Takes what comes, for as long as the session lasts.
async fn receive(datagrams: Rc<Datagrams>, gate: Rc<Gate>) {
    while gate.socket.readable().await.is_ok() {
        match gate.forward(&datagrams) {
            Ok(false) => {}
            // Programs can send faster than we forward, and others want their turn.
            Ok(true) => yield_now().await,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

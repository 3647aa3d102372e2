//! The broker's addresses to which datagram sockets are connected instead of to their destination: gates, from which the broker takes
//! the datagrams on, and sinks, where the kernel refuses them.
//!
//! A gate's socket may send when it is known that the proxy takes datagrams, which costs no question any more; before, each send asks the broker.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::c_int;
use presocks_proto::frame::{Reply, Request};
use presocks_proto::session::Queue;

use crate::errno::Errno;
use crate::ticket::Ticket;
use crate::{pass, socket, sys};

/// Four ports, 16 bits each: of the sinks for IPv4 and IPv6, of the gates for IPv4 and IPv6. 0 where no socket of this process (or the
/// one it was forked from) was ever connected to one.
static PORTS: AtomicU64 = AtomicU64::new(0);

/// Is it known that the proxy takes datagrams?
static IS_OPEN: AtomicBool = AtomicBool::new(false);

const SINKS: u64 = 0x0000_0000_ffff_ffff;
const GATES: u64 = 0xffff_ffff_0000_0000;

/// A socket of this process was connected to a sink.
pub(crate) fn remember_sink(sink: SocketAddr) {
    remember(sink, 0);
}

/// A socket of this process was connected to a gate.
pub(crate) fn remember_gate(gate: SocketAddr, is_open: bool) {
    remember(gate, 32);
    if is_open {
        IS_OPEN.store(true, Ordering::Relaxed);
    }
}

fn remember(address: SocketAddr, half: u32) {
    let shift = half + if is_v4(address) { 0 } else { 16 };
    let port = u64::from(address.port()) << shift;
    let with_port = |ports| Some(ports & !(0xffff << shift) | port);
    // Never refuses: the closure always has a value.
    let _ = PORTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_port);
}

fn is_v4(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_ipv4()
}

/// May the address be one of the broker's?
pub(crate) fn has_port_of_a_gate(address: SocketAddr) -> bool {
    let ports = PORTS.load(Ordering::Relaxed) & GATES;
    ports != 0 && is_among(address, ports)
}

fn is_among(address: SocketAddr, ports: u64) -> bool {
    let shift = if is_v4(address) { 0 } else { 16 };
    let port = u64::from(address.port());
    [ports >> shift, ports >> (shift + 32)].iter().any(|lane| lane & 0xffff == port && port != 0)
}

/// Is this a datagram socket that the broker has connected?
pub(crate) fn holds(fd: c_int) -> bool {
    is_connected_to(fd, PORTS.load(Ordering::Relaxed))
}

/// A send on a connected socket: may it leave?
///
/// # Errors
/// The broker's errno; `ENETUNREACH` without a broker.
pub(crate) fn check(fd: c_int, flags: c_int) -> Result<(), Errno> {
    let asked = if IS_OPEN.load(Ordering::Relaxed) { SINKS } else { SINKS | GATES };
    if !is_connected_to(fd, PORTS.load(Ordering::Relaxed) & asked) {
        return Ok(());
    }
    match Ticket::open(Queue::AtOnce) {
        Ok(ticket) => match ticket
            .ask(&Request::DatagramOpen { is_impatient: flags & libc::MSG_DONTWAIT != 0 }, Some(fd))?
        {
            Reply::Done { .. } => IS_OPEN.store(true, Ordering::Relaxed),
            Reply::Direct => {}
            _ => return Err(libc::ENETUNREACH),
        },
        // A call without an address is not brought before the broker. But neither can it leave the machine.
        Err(_) if pass::filter_stands() => {}
        Err(why) => return Err(why.report()),
    }
    Ok(())
}

fn is_connected_to(fd: c_int, ports: u64) -> bool {
    if ports == 0 || sys::option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) != Ok(libc::IPPROTO_UDP) {
        return false;
    }
    let Some(peer) = socket::peer(fd) else { return false };
    let address: IpAddr = peer.ip().to_canonical();
    is_among(peer, ports)
        && (address.is_loopback() || socket::own(fd).is_some_and(|own| own.ip().to_canonical() == address))
}

//! connect() on UDP sockets: the broker's, for meanwhile nobody may bind the socket to a device.
#![allow(unsafe_code)]

use core::net::SocketAddr;

use libc::c_int;
use presocks_proto::frame::{Reply, Request};
use presocks_proto::session::Queue;

use crate::connect::call;
use crate::errno::fail;
use crate::pass::{self, at, int, returned};
use crate::sockaddr::{self, Encoded};
use crate::ticket::{NoTicket, Ticket};
use crate::{flows, gate, socket, sys};

/// connect() on a UDP socket. The broker does it, wherever it goes: meanwhile nobody binds the socket to a device.
pub(crate) fn connect(fd: c_int, destination: SocketAddr) -> c_int {
    let ticket = match Ticket::open(Queue::AtOnce) {
        Ok(ticket) => ticket,
        Err(why) if sockaddr::is_local(destination) => return connect_locally(fd, destination, why),
        Err(why) => return call::unjudged(fd, destination, why).map_or_else(fail, |()| 0),
    };
    let was_ours = gate::holds(fd);
    match ticket.ask(&Request::DatagramConnect { destination }, Some(fd)) {
        Err(error) => fail(error),
        Ok(Reply::Address(sink)) => {
            gate::remember_sink(sink);
            0
        }
        Ok(Reply::Gate { address, is_open }) => {
            gate::remember_gate(address, is_open);
            flows::remember_peer(fd, address, destination);
            0
        }
        // There, or to a token.
        Ok(Reply::Done { .. }) => {
            if was_ours {
                flows::forget();
            }
            0
        }
        Ok(_) => fail(libc::ENETUNREACH),
    }
}

/// connect() on a UDP socket to nothing. The broker does this as well: the socket loses its port, and could be bound to the address of a link while it is
/// being connected.
///
/// # Errors
/// There is no broker.
pub(crate) fn dissolve(fd: c_int) -> Result<c_int, NoTicket> {
    let ticket = Ticket::open(Queue::AtOnce)?;
    Ok(ticket.ask(&Request::DatagramDissolve, Some(fd)).map_or_else(fail, |_| 0))
}

/// connect() to loopback, which needs no broker: without one nobody binds the socket to a device at all. Where the filter can still bring it before
/// the broker it does.
fn connect_locally(fd: c_int, destination: SocketAddr, why: NoTicket) -> c_int {
    if pass::filter_stands() {
        let encoded = Encoded::new(destination);
        let (address, len) = encoded.as_arguments();
        let arguments = [int(fd), at(address), len as usize, 0, 0, 0];
        // SAFETY: pointer and length are those of `encoded`.
        match unsafe { pass::call_unjudged(libc::SYS_connect, arguments) } {
            Err(libc::ENOSYS) => {}
            result => return returned(result) as c_int,
        }
    } else if matches!(why, NoTicket::Descriptor | NoTicket::Forbidden(_)) {
        return fail(why.report());
    }
    if socket::leaves_loopback(fd) {
        return fail(libc::ENETUNREACH);
    }
    // In two steps: a thread that writes meanwhile must not take a half of an IPv6 address for a half of another.
    if gate::holds(fd) {
        // Fails only on what connect() fails on, too.
        let _ = sys::dissolve(fd);
        flows::forget();
    }
    if socket::is_bound_off_loopback(fd) {
        return fail(libc::ENETUNREACH);
    }
    call::pass(fd, with_a_port(destination))
}

/// Nobody is at port 0, nor at another that is closed. But getpeername(2) hides a peer there, by which it is known what is connected to this machine.
fn with_a_port(mut local: SocketAddr) -> SocketAddr {
    const DISCARD: u16 = 9;
    if local.port() == 0 {
        local.set_port(DISCARD);
    }
    local
}

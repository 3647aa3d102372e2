//! One message of a caught send on UDP; and connect() there. As for the shim (`broker::datagram`); but what goes anywhere is sent from here, on the
//! program's own socket, to the address that was read.
//!
//! | destination | then |
//! | --- | --- |
//! | none, or `AF_UNSPEC` on an IPv6 socket | to the socket's peer |
//! | no address of IP's | the kernel refuses it |
//! | loopback | there, by lo whatever the socket is bound to |
//! | declared direct | there |
//! | any other | to a token, by lo, or refused |

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

use presocks_abi::control::Family;
use presocks_abi::sockaddr::{Encoded, Given};
use presocks_abi::socket::is_loopback;
use presocks_proto::socks5::datagram::max_payload;
use rustix::io::Errno;

use super::message::{Message, pinned, transmit};
use super::payload::{payload, total};
use super::wait::{Stop, Wait};
use super::{Address, Caller, Taken};
use crate::broker::datagram::{Place, Sent};
use crate::socket::{leaves_loopback, option, own_address, peer_of};

/// connect() on a UDP socket. It sends nothing, and does not wait: done here, on the address that was read.
///
/// # Errors
/// Those of connect(2).
pub(super) fn connect(caller: &Caller, taken: &Taken, destination: SocketAddr) -> io::Result<()> {
    caller.supervisor.datagrams.connect(taken.fd.as_fd(), destination, &caller.program()).map(drop)
}

/// Sends it; how much was sent.
///
/// # Errors
/// What has ended the call.
pub(super) async fn send(
    caller: &Caller,
    taken: &Taken,
    message: &Message,
    flags: i32,
) -> Result<usize, Stop> {
    let socket = taken.fd.as_fd();
    message.is_not_routed()?;
    let destination = destination(taken, message.address.as_ref());
    // The peer counts in any case: to an IPv6 socket AF_UNSPEC is no address. Without an address and a peer it goes nowhere, but another thread may connect
    // the socket before the kernel looks.
    let is_local = || {
        let is_here = match destination {
            Destination::Ip(to) => is_loopback(to.ip()),
            Destination::Peer | Destination::Unknown(_) => peer_of(socket).is_none(),
        };
        is_here || caller.supervisor.datagrams.stays_here(socket)
    };
    if message.names_a_device() && is_local() {
        return Err(Stop::errno(libc::ENETUNREACH));
    }
    if let Some(source) = message.source() {
        let is_peer_here = || {
            peer_of(socket).is_some_and(|peer| {
                is_loopback(peer.ip())
                    && !caller.supervisor.datagrams.is_sink(peer)
                    && !caller.supervisor.datagrams.is_gate(peer)
            })
        };
        if matches!(destination, Destination::Peer) && is_peer_here() {
            caller.supervisor.datagrams.send_here(source, &caller.program())?;
        }
    }
    match destination {
        Destination::Peer => transmit_to(caller, taken, message, flags, None).await,
        Destination::Unknown(address) => transmit_to(caller, taken, message, flags, Some(address)).await,
        Destination::Ip(to) => match caller.supervisor.datagrams.place(to, &caller.program()) {
            Place::Local if leaves_loopback(socket) => Err(Stop::errno(libc::ENETUNREACH)),
            Place::Local => {
                let own = own_address(socket).map(|own| own.ip());
                if let Some(source) = message.source().or(own).filter(|source| !is_loopback(*source)) {
                    caller.supervisor.datagrams.send_here(source, &caller.program())?;
                }
                transmit_here(caller, taken, message, flags, to).await
            }
            Place::Direct => {
                transmit_to(caller, taken, message, flags, Some(Encoded::new(to).as_bytes())).await
            }
            Place::Resolver | Place::Behind(_) | Place::Unknown | Place::Refused(_) => {
                redirect(caller, taken, message, flags, to).await
            }
        },
    }
}

/// Where a message goes, before rules are asked.
enum Destination<'a> {
    Peer,
    /// For the kernel to refuse.
    Unknown(&'a [u8]),
    Ip(SocketAddr),
}

fn destination<'a>(taken: &Taken, address: Option<&'a Address>) -> Destination<'a> {
    let Some(address) = address else { return Destination::Peer };
    match address.given() {
        // The kernel would take a mapped peer for an IPv6 address.
        Given::Unspecified(_) if taken.domain == libc::AF_INET6 => Destination::Peer,
        Given::Ip(to) | Given::Unspecified(Some(to)) => Destination::Ip(to),
        Given::Unreadable | Given::Other | Given::Unspecified(None) => Destination::Unknown(address.bytes()),
    }
}

/// By way of the broker, to where it takes it from.
async fn redirect(
    caller: &Caller,
    taken: &Taken,
    message: &Message,
    flags: i32,
    destination: SocketAddr,
) -> Result<usize, Stop> {
    let socket = taken.fd.as_fd();
    let len = total(&message.parts(caller).map_err(Stop::Unseen)?);
    let is_whole = message.control.is_empty() && !is_cut(socket);
    if len > max_payload(destination.ip()) as u64 && is_whole {
        return Err(Stop::errno(libc::EMSGSIZE));
    }
    let is_impatient = flags & libc::MSG_DONTWAIT != 0;
    match caller.supervisor.datagrams.send(socket, destination, is_impatient, &caller.program()).await {
        Ok(Sent::Token(token)) => transmit_here(caller, taken, message, flags, token).await,
        // Another rule than a moment ago there is not.
        Ok(Sent::Direct) => Err(Stop::errno(libc::ENETUNREACH)),
        Err(error) => Err(Stop::errno(error.raw_os_error().unwrap_or(libc::ENETUNREACH))),
    }
}

/// To an address of this machine, by lo: whatever the socket is bound to, nothing leaves.
async fn transmit_here(
    caller: &Caller,
    taken: &Taken,
    message: &Message,
    flags: i32,
    to: SocketAddr,
) -> Result<usize, Stop> {
    let family = if to.ip().to_canonical().is_ipv4() { Family::V4 } else { Family::V6 };
    let own = own_address(taken.fd.as_fd()).map(|own| own.ip().to_canonical());
    let source = if let Some(IpAddr::V4(own)) = own { own } else { Ipv4Addr::UNSPECIFIED };
    let control = pinned(&message.control, family, source)?;
    transmit_with(caller, taken, message, flags, (Some(Encoded::new(to).as_bytes()), &control)).await
}

async fn transmit_to(
    caller: &Caller,
    taken: &Taken,
    message: &Message,
    flags: i32,
    to: Option<&[u8]>,
) -> Result<usize, Stop> {
    transmit_with(caller, taken, message, flags, (to, &message.control)).await
}

async fn transmit_with(
    caller: &Caller,
    taken: &Taken,
    message: &Message,
    flags: i32,
    (to, control): (Option<&[u8]>, &[u8]),
) -> Result<usize, Stop> {
    let parts = message.parts(caller).map_err(Stop::Unseen)?;
    let data = payload(caller, &taken.fd, &parts, 0, flags).map_err(Stop::Unseen)?;
    let sent = transmit(caller, taken.fd.as_fd(), &data, control, to, flags);
    if sent != Err(Errno::AGAIN) {
        return Ok(sent?);
    }
    let mut wait = Wait::new(&taken.fd, flags);
    if !wait.is_allowed() {
        return Err(Errno::AGAIN.into());
    }
    loop {
        wait.until_writable(caller, &taken.fd, libc::EAGAIN).await?;
        match transmit(caller, taken.fd.as_fd(), &data, control, to, flags) {
            Err(Errno::AGAIN) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Does the kernel cut what the socket sends into datagrams (`UDP_SEGMENT`)?
fn is_cut(fd: BorrowedFd<'_>) -> bool {
    const UDP_SEGMENT: i32 = 103;
    let mut size = [0; 4];
    option(fd, libc::IPPROTO_UDP, UDP_SEGMENT, &mut size).is_ok() && size != [0; 4]
}

//! Datagrams to this machine: to loopback, where a service is, and to the broker's tokens. They leave by lo.
#![allow(unsafe_code)]

use core::net::{IpAddr, SocketAddr};

use libc::{c_int, msghdr, ssize_t};
use presocks_abi::socket::is_loopback;
use presocks_proto::frame::Request;

use crate::control;
use crate::errno::{Errno, fail};
use crate::pass::{self, at, int, returned};
use crate::sockaddr::Encoded;
use crate::socket::{self, Kind};
use crate::ticket::{self, Ticket};

/// Sends to a service at loopback. What that answers must stay here as well: so the broker is asked about any source that is not loopback's.
///
/// # Safety
/// As sendmsg(2) demands of `message`, but for its address.
pub(super) unsafe fn send_to_loopback(
    fd: c_int,
    message: &mut msghdr,
    to: SocketAddr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's promise.
    let named = unsafe { control::source(message) };
    let own = || socket::own(fd).map(|own| own.ip());
    // To a stream the address means nothing.
    if let Some(source) = named.or_else(own).filter(|source| !is_loopback(*source))
        && socket::kind(fd) == Ok(Kind::Datagram)
        && let Err(error) = check_source(source)
    {
        if !ticket::is_left_to_the_filter() {
            return fail(error) as ssize_t;
        }
        let encoded = Encoded::new(to);
        let (address, len) = encoded.as_arguments();
        message.msg_name = address.cast_mut().cast();
        message.msg_namelen = len;
        let arguments = [int(fd), at(&raw const *message), int(flags), 0, 0, 0];
        // SAFETY: the caller's own message but for the address, which is our copy.
        return returned(unsafe { pass::wait_unjudged(libc::SYS_sendmsg, arguments) });
    }
    // SAFETY: the caller's promise.
    unsafe { send_here(fd, message, to, flags) }
}

/// May a datagram go from this address to loopback?
///
/// # Errors
/// `ENETUNREACH` when what loopback answers may leave, and without a broker.
pub(super) fn check_source(source: IpAddr) -> Result<(), Errno> {
    if is_loopback(source) {
        return Ok(());
    }
    let request = Request::DatagramHere { source };
    match Ticket::open(request.queue()) {
        Ok(ticket) => ticket.ask(&request, None).map(drop),
        Err(_) if ticket::is_left_to_the_filter() => Err(libc::ENETUNREACH),
        Err(why) => Err(why.report()),
    }
}

/// Sends to loopback, by lo: nothing leaves the machine, whatever the socket is bound to, and whatever socket the number means by now. Those that
/// send no datagrams over IP ignore the control message that says so.
///
/// # Safety
/// As sendmsg(2) demands of `message`, but for its address.
pub(super) unsafe fn send_here(fd: c_int, message: &mut msghdr, to: SocketAddr, flags: c_int) -> ssize_t {
    // SAFETY: the caller's promise.
    let mut control = match unsafe { control::Pinned::new(fd, message, to.ip()) } {
        Ok(control) => control,
        Err(error) => return fail(error) as ssize_t,
    };
    control.attach(message);
    let encoded = Encoded::new(to);
    let (address, len) = encoded.as_arguments();
    message.msg_name = address.cast_mut().cast();
    message.msg_namelen = len;
    let arguments = [int(fd), at(&raw const *message), int(flags & !libc::MSG_FASTOPEN), 0, 0, 0];
    // SAFETY: the caller's own message but for address and control messages, which are ours.
    returned(unsafe { pass::wait(libc::SYS_sendmsg, arguments) })
}

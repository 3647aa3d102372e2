//! Datagrams: connect() on UDP, and the send family.
//!
//! A datagram goes to loopback, to a destination that the broker declares direct, or to a *token*, a loopback address of the broker's that stands for
//! its destination (`flows`). What may not leave fails with `ENETUNREACH`. connect() succeeds all the same, because programs
//! learn their source address by it: the broker connects the socket to an address of its own on this machine (`gate`). So even a write() that no hook sees
//! cannot leave the machine by itself, and what is sent on a connected socket needs no hook.
//!
//! On stream sockets the send family only matters for `MSG_FASTOPEN` (a connect, tcp(7)) and while a connect is under
//! way (`EAGAIN`, as the kernel says before the connection exists).
#![allow(unsafe_code)]

mod connection;
mod here;
mod local;

use core::net::{IpAddr, SocketAddr};

use libc::{c_int, c_uint, c_void, mmsghdr, msghdr, size_t, socklen_t, ssize_t};
use presocks_abi::socket::is_loopback;
use presocks_proto::frame::{Reply, Request};
use presocks_proto::session::Queue;
use presocks_proto::socks5::datagram::{MAX_DATAGRAM, MAX_HEADER, max_payload};

use crate::connect::call::nowhere;
use crate::connect::connect_to;
use crate::errno::{Errno, fail};
use crate::kernel_limits::{self, MOST_PARTS};
use crate::pass::{self, at, int, returned};
use crate::sockaddr::{self, Encoded, Given};
use crate::socket::{self, Kind};
use crate::ticket::{self, Ticket};
use crate::{control, errno, flows, gate, sys, transfer};
pub(crate) use connection::{connect, dissolve};
use here::{check_source, send_here, send_to_loopback};
use local::Local;

redhook::hook! {
    // send(2). Changes: `ENETUNREACH` on a datagram socket that was connected off the machine; `EAGAIN`, or waiting, on a
    // pending stream. Passes: all else. A cancellation point, in the real call.
    unsafe fn send(fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t => hooked_send {
        if let Err(error) = check_connected(fd, flags) {
            return fail(error) as ssize_t;
        }
        if is_too_long_for_peer(fd, len) {
            return fail(libc::EMSGSIZE) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(send)(fd, data, len, flags) }
    }
}

redhook::hook! {
    // glibc's other name for send().
    unsafe fn __send(fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t => hooked_send_alias {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_send(fd, data, len, flags) }
    }
}

redhook::hook! {
    // sendto(2). Changes: as send; a destination off the machine is the broker's to judge. A cancellation point.
    unsafe fn sendto(
        fd: c_int, data: *const c_void, len: size_t, flags: c_int, address: *const libc::sockaddr, address_len: socklen_t
    ) -> ssize_t => hooked_sendto {
        if !address.is_null() && address_len as usize > size_of::<libc::sockaddr_storage>() {
            // SAFETY: the caller's own arguments. The kernel refuses an address of that length: `EINVAL`.
            return unsafe { redhook::real!(sendto)(fd, data, len, flags, address, address_len) };
        }
        // SAFETY: sendto(2) demands `address_len` readable bytes at `address`.
        match check(fd, unsafe { sockaddr::read(address, address_len) }, flags) {
            Err(error) => fail(error) as ssize_t,
            Ok(Verdict::Pass) if is_too_long_for_peer(fd, len) => fail(libc::EMSGSIZE) as ssize_t,
            // SAFETY: sendto(2) demands `address_len` readable bytes at `address`.
            Ok(Verdict::Pass) => match unsafe { Local::read(address, address_len, flags) } {
                Err(error) => fail(error) as ssize_t,
                Ok(Some(local)) => {
                    let (address, address_len) = local.as_arguments();
                    let arguments = [int(fd), at(data), len, int(flags), at(address), address_len as usize];
                    // SAFETY: the caller's own arguments but for the address, which is our copy.
                    returned(unsafe { pass::wait(libc::SYS_sendto, arguments) })
                }
                Ok(None) => {
                    // SAFETY: the caller's own arguments.
                    unsafe { redhook::real!(sendto)(fd, data, len, flags, address, address_len) }
                }
            },
            Ok(Verdict::Token(token, destination)) => {
                let mut part = libc::iovec { iov_base: data.cast_mut(), iov_len: len };
                // SAFETY: one part, the caller's.
                unsafe { send_to_token(fd, &mut message_of(&mut part), token, destination, flags) }
            }
            Ok(Verdict::Here(destination)) => {
                let mut part = libc::iovec { iov_base: data.cast_mut(), iov_len: len };
                // SAFETY: one part, the caller's.
                unsafe { send_to_loopback(fd, &mut message_of(&mut part), destination, flags) }
            }
            Ok(Verdict::To(encoded)) => {
                let (address, address_len) = encoded.as_arguments();
                let flags = int(flags & !libc::MSG_FASTOPEN);
                let arguments = [int(fd), at(data), len, flags, at(address), address_len as usize];
                // SAFETY: the caller's own arguments but for the address, which is our copy.
                returned(unsafe { pass::wait(libc::SYS_sendto, arguments) })
            }
            Ok(Verdict::Unjudged(encoded)) => {
                let (address, address_len) = encoded.as_arguments();
                let arguments = [int(fd), at(data), len, int(flags), at(address), address_len as usize];
                // SAFETY: as above.
                returned(unsafe { pass::wait_unjudged(libc::SYS_sendto, arguments) })
            }
            Ok(Verdict::ToPeer) => {
                // SAFETY: the caller's own arguments, on a socket that is connected now.
                unsafe { redhook::real!(send)(fd, data, len, flags & !libc::MSG_FASTOPEN) }
            }
        }
    }
}

redhook::hook! {
    // sendmsg(2). As sendto. A cancellation point.
    unsafe fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t => hooked_sendmsg {
        // SAFETY: sendmsg(2) demands a readable message header, or null, which the kernel refuses.
        let Some(given) = (unsafe { message.as_ref() }) else {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(sendmsg)(fd, message, flags) };
        };
        let mut copy = *given;
        if c_int::try_from(copy.msg_namelen).is_err() {
            // SAFETY: the caller's own message, in our copy: the kernel refuses a negative length (`EINVAL`), and only cuts a long one.
            return unsafe { redhook::real!(sendmsg)(fd, &raw const copy, flags) };
        }
        // SAFETY: sendmsg(2) demands `msg_namelen` readable bytes at `msg_name`.
        let address = unsafe { sockaddr::read(copy.msg_name.cast(), copy.msg_namelen) };
        // SAFETY: sendmsg(2) demands `msg_controllen` readable bytes at `msg_control`.
        if let Err(error) = unsafe { control::check(&copy, || control::is_local(fd, address)) } {
            return fail(error) as ssize_t;
        }
        let verdict = match check(fd, address, flags) {
            Err(error) => return fail(error) as ssize_t,
            Ok(verdict) => verdict,
        };
        match &verdict {
            Verdict::To(encoded) | Verdict::Unjudged(encoded) => {
                let (address, len) = encoded.as_arguments();
                copy.msg_name = address.cast_mut().cast();
                copy.msg_namelen = len;
            }
            Verdict::ToPeer => {
                copy.msg_name = core::ptr::null_mut();
                copy.msg_namelen = 0;
            }
            Verdict::Pass | Verdict::Token(..) | Verdict::Here(_) => {}
        }
        let opens_nothing = matches!(verdict, Verdict::To(_) | Verdict::ToPeer);
        let flags = if opens_nothing { flags & !libc::MSG_FASTOPEN } else { flags };
        let arguments = [int(fd), at(&raw const copy), int(flags), 0, 0, 0];
        // SAFETY: sendmsg(2) demands `msg_controllen` readable bytes at `msg_control`.
        let names_a_device = unsafe { control::names_a_device(&copy) };
        // SAFETY: as above.
        let source = unsafe { control::source(&copy) };
        if let Some(source) = source.filter(|_| matches!(verdict, Verdict::Pass | Verdict::ToPeer))
            && !gate::holds(fd)
            && socket::peer(fd).is_some_and(|peer| is_loopback(peer.ip()))
            && let Err(error) = check_source(source)
        {
            return fail(error) as ssize_t;
        }
        match verdict {
            // The kernel takes an address of no length for none.
            Verdict::Pass if !copy.msg_name.is_null() && copy.msg_namelen > 0 => {
                // SAFETY: sendmsg(2) demands `msg_namelen` readable bytes at `msg_name`.
                match unsafe { Local::read(copy.msg_name.cast(), copy.msg_namelen, flags) } {
                    Err(error) => fail(error) as ssize_t,
                    Ok(Some(local)) if !names_a_device => {
                        let (address, len) = local.as_arguments();
                        copy.msg_name = address.cast_mut().cast();
                        copy.msg_namelen = len;
                        let arguments = [int(fd), at(&raw const copy), int(flags), 0, 0, 0];
                        // SAFETY: the caller's own message but for the address, which is our copy.
                        returned(unsafe { pass::wait(libc::SYS_sendmsg, arguments) })
                    }
                    Ok(_) => {
                        // SAFETY: the caller's own message, in our copy.
                        unsafe { redhook::real!(sendmsg)(fd, &raw const copy, flags) }
                    }
                }
            }
            Verdict::Token(token, destination) => {
                // SAFETY: the caller's own message, in our copy.
                unsafe { send_to_token(fd, &mut copy, token, destination, flags) }
            }
            Verdict::Here(destination) => {
                // SAFETY: the caller's own message, in our copy.
                unsafe { send_to_loopback(fd, &mut copy, destination, flags) }
            }
            // From a socket of ours a device would lead away; so the broker looks at the very socket that sends.
            Verdict::Pass | Verdict::To(_) | Verdict::ToPeer if names_a_device && pass::filter_stands() => {
                // SAFETY: the caller's own message but for the address, of which there is none, or our copy.
                returned(unsafe { pass::wait_unjudged(libc::SYS_sendmsg, arguments) })
            }
            Verdict::Pass | Verdict::To(_) | Verdict::ToPeer => {
                // SAFETY: as above.
                returned(unsafe { pass::wait(libc::SYS_sendmsg, arguments) })
            }
            Verdict::Unjudged(_) => {
                // SAFETY: as above.
                returned(unsafe { pass::wait_unjudged(libc::SYS_sendmsg, arguments) })
            }
        }
    }
}

redhook::hook! {
    // sendmmsg(2). As sendto, message by message: those before the first that may not leave are sent, as the
    // kernel does with the first that fails. A cancellation point.
    unsafe fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int => hooked_sendmmsg {
        // Many messages do not open one connection: without the flag the kernel says that there is none.
        let flags = flags & !libc::MSG_FASTOPEN;
        let count = count.min(MOST_PARTS as c_uint);
        let says_where = |place: c_uint| {
            // SAFETY: sendmmsg(2) demands `count` message headers.
            let message = unsafe { messages.add(place as usize) };
            // SAFETY: as above.
            let header = unsafe { &(*message).msg_hdr };
            !header.msg_name.is_null() || header.msg_controllen > 0
        };
        let looked_at = kernel_limits::readable(messages.cast_const(), count as usize) as c_uint;
        if messages.is_null() || !(0..looked_at).any(says_where) {
            if let Err(error) = check_connected(fd, flags) {
                return fail(error);
            }
            let arguments = [int(fd), at(messages), count as usize, int(flags), 0, 0];
            // SAFETY: the caller's own arguments.
            return returned(unsafe { pass::wait(libc::SYS_sendmmsg, arguments) }) as c_int;
        }
        let mut sent = 0;
        while sent < looked_at {
            // SAFETY: sendmmsg(2) demands `count` message headers.
            let given = unsafe { messages.add(sent as usize) };
            // SAFETY: as above.
            let header = unsafe { &raw const (*given).msg_hdr };
            // SAFETY: each is judged, and its address copied, by the hook for one message.
            let len = unsafe { hooked_sendmsg(fd, header, flags) };
            let Ok(len) = c_uint::try_from(len) else { break };
            // SAFETY: as above.
            unsafe { (*given).msg_len = len };
            sent += 1;
        }
        // An error after the first message is for the next call to find.
        if sent > 0 { sent as c_int } else { -1 }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(send);
    let _ = redhook::real!(sendto);
    let _ = redhook::real!(sendmsg);
}

/// What a send may do. The kernel looks at the number anew, which may be another socket's by then: so what passes has no address, or one that may
/// be sent to from any socket.
enum Verdict {
    /// Go on as the program asked: to no address, or to one that is none of IP's. The latter has not been judged ([`Local`]).
    Pass,
    /// Go on to this address, the copy of the one that was judged: a direct one, or one that goes nowhere. It opens no connection
    /// (`MSG_FASTOPEN`): what is direct for datagrams need not be for a stream.
    To(Encoded),
    /// Go on to this loopback address, by lo.
    Here(SocketAddr),
    /// Go on to this token of the broker's, which stands for this address.
    Token(SocketAddr, IpAddr),
    /// Nobody can be asked about this address: the seccomp filter brings the call before the broker.
    Unjudged(Encoded),
    /// Go on without an address: the socket is connected, by now if `MSG_FASTOPEN` asked for it.
    ToPeer,
}

/// A message of one part.
fn message_of(part: &mut libc::iovec) -> msghdr {
    // SAFETY: a message header is integers and pointers, for which zero is a value.
    let mut message: msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}

/// Sends to a token, by lo.
///
/// # Safety
/// As sendmsg(2) demands of `message`, but for its address.
unsafe fn send_to_token(
    fd: c_int,
    message: &mut msghdr,
    token: SocketAddr,
    destination: IpAddr,
    flags: c_int,
) -> ssize_t {
    if message.msg_iovlen > MOST_PARTS {
        return fail(libc::EMSGSIZE) as ssize_t;
    }
    // SAFETY: the caller's promise.
    if message.msg_controllen == 0 && is_too_long(fd, unsafe { length(message) }, destination) {
        return fail(libc::EMSGSIZE) as ssize_t;
    }
    // SAFETY: the caller's promise.
    unsafe { send_here(fd, message, token, flags) }
}

/// Is a datagram too long for the header that it is to have on its way to the proxy? Not one that the kernel cuts in segments (`UDP_SEGMENT`).
fn is_too_long(fd: c_int, len: usize, destination: IpAddr) -> bool {
    const UDP_SEGMENT: c_int = 103;
    len > max_payload(destination) && sys::option(fd, libc::IPPROTO_UDP, UDP_SEGMENT).unwrap_or(0) == 0
}

/// The same on a connected socket.
fn is_too_long_for_peer(fd: c_int, len: usize) -> bool {
    len > MAX_DATAGRAM - MAX_HEADER
        && gate::holds(fd)
        && socket::peer(fd)
            .and_then(|gate| flows::origin(fd, gate))
            .is_some_and(|destination| is_too_long(fd, len, destination.ip()))
}

/// The length of all parts.
///
/// # Safety
/// There are `msg_iovlen` readable parts at `msg_iov`.
unsafe fn length(message: &msghdr) -> usize {
    let mut total = 0_usize;
    for place in 0..message.msg_iovlen {
        if message.msg_iov.is_null() {
            break;
        }
        // SAFETY: the caller's promise.
        let part = unsafe { message.msg_iov.add(place) };
        // SAFETY: as above.
        total = total.saturating_add(unsafe { (*part).iov_len });
    }
    total
}

/// Judges a send to `address`.
fn check(fd: c_int, address: Given, flags: c_int) -> Result<Verdict, Errno> {
    let opens = flags & libc::MSG_FASTOPEN != 0;
    let destination = match address {
        // To an IPv6 socket that is no address at all; and the kernel then takes a mapped peer for an IPv6 address.
        Given::Unspecified(_) if is_v6_datagram(fd) => {
            return check_connected(fd, flags).map(|()| Verdict::ToPeer);
        }
        Given::Unreadable | Given::Other | Given::Unspecified(None) => {
            return check_connected(fd, flags).map(|()| Verdict::Pass);
        }
        // The kernel opens no stream so (since Linux 4.11).
        Given::Unspecified(_) if opens && socket::kind(fd) == Ok(Kind::Stream) => {
            return Err(libc::EOPNOTSUPP);
        }
        Given::Unspecified(Some(destination)) | Given::Ip(destination) => destination,
    };
    let unjudged = || Ok(Verdict::Unjudged(Encoded::new(destination)));
    if ticket::is_left_to_the_filter() {
        return unjudged();
    }
    if sockaddr::is_local(destination) && !(opens && socket::kind(fd) == Ok(Kind::Stream)) {
        transfer::check(fd, flags, transfer::SENDING)?;
        return match socket::leaves_loopback(fd) {
            // The kernel may not be asked.
            true if ticket::is_left_to_the_filter() => unjudged(),
            true => Err(libc::ENETUNREACH),
            false => Ok(Verdict::Here(destination)),
        };
    }
    if let Some(token) = flows::token(fd, destination) {
        return Ok(Verdict::Token(as_given(token, destination), destination.ip()));
    }
    match socket::kind(fd) {
        Err(error) => match ticket::forbidden(error) {
            Some(_) if pass::filter_stands() => unjudged(),
            Some(why) => Err(why.report()),
            None => Err(error),
        },
        Ok(kind) => check_kind(fd, kind, destination, flags),
    }
}

fn check_kind(fd: c_int, kind: Kind, destination: SocketAddr, flags: c_int) -> Result<Verdict, Errno> {
    match kind {
        Kind::Refused => Err(libc::ENETUNREACH),
        Kind::Datagram => match Ticket::open(Queue::AtOnce) {
            Ok(ticket) => match ticket.ask(
                &Request::DatagramSend { destination, is_impatient: flags & libc::MSG_DONTWAIT != 0 },
                Some(fd),
            )? {
                Reply::Direct => Ok(Verdict::To(Encoded::new(destination))),
                Reply::Address(token) => {
                    flows::remember(fd, destination, token);
                    Ok(Verdict::Token(as_given(token, destination), destination.ip()))
                }
                _ => Err(libc::ENETUNREACH),
            },
            Err(_) if pass::filter_stands() => Ok(Verdict::Unjudged(Encoded::new(destination))),
            Err(why) => Err(why.report()),
        },
        Kind::Stream if flags & libc::MSG_FASTOPEN != 0 => {
            if connect_to(fd, destination) == 0 {
                return Ok(Verdict::ToPeer);
            }
            Err(errno::current())
        }
        // An address means nothing to a stream, and the wrong thing to another family.
        Kind::Stream | Kind::NotIp => {
            check_connected(fd, flags).map(|()| Verdict::To(Encoded::new(nowhere(destination))))
        }
    }
}

/// The token in the family in which the program gave the destination, which is the socket's.
fn as_given(token: SocketAddr, destination: SocketAddr) -> SocketAddr {
    let family = if destination.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    sockaddr::in_family(token, family)
}

fn is_v6_datagram(fd: c_int) -> bool {
    sys::option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN) == Ok(libc::AF_INET6)
        && socket::kind(fd) == Ok(Kind::Datagram)
}

/// Judges a send without an address.
fn check_connected(fd: c_int, flags: c_int) -> Result<(), Errno> {
    transfer::check(fd, flags, transfer::SENDING)?;
    gate::check(fd, flags)
}

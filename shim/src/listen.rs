//! bind(), listen(), getsockname(), accept(), accept4(): in a session with `--bind` a program that listens beside a connection through a proxy
//! has the proxy listen (BIND). The broker asks the proxy, and brings who comes there to the program's own listener, over loopback; waiting is the
//! kernel's. Without `--bind` each of these hooks costs one load.
#![allow(unsafe_code)]

use core::net::SocketAddr;

use libc::{c_int, sockaddr, socklen_t};
use presocks_proto::frame::{Reply, Request};

use crate::errno::{Errno, fail};
use crate::pass::{self, at, int, returned};
use crate::session;
use crate::sockaddr::{Encoded, Given, in_family, read};
use crate::socket::{self, Kind, kind};
use crate::status::{asked_for, put};
use crate::ticket::{Ticket, report_gone};

redhook::hook! {
    // bind(2). Changes: an address that is the proxy's, which getsockname() has given, becomes any. Passes: all else. Errno: `ENETUNREACH` when there is
    // no broker. Safe in a signal handler. No cancellation point.
    unsafe fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int => hooked_bind {
        if !session::binds() {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(bind)(fd, address, len) };
        }
        let arguments = [int(fd), at(address), len as usize, 0, 0, 0];
        // SAFETY: bind(2) demands `len` readable bytes at `address`.
        let asked = match unsafe { read(address, len) } {
            Given::Ip(wanted)
                if is_off_the_machine(wanted) && matches!(kind(fd), Ok(Kind::Stream | Kind::Datagram)) =>
            {
                ask(&Request::Bind { address: wanted }, fd, libc::SYS_bind, arguments)
            }
            _ => Ok(Asked::Reply(Reply::Direct)),
        };
        let result = match asked {
            Ok(Asked::Caught) => Ok(0),
            Ok(Asked::Reply(Reply::Address(instead))) => {
                let encoded = Encoded::new(instead);
                let (pointer, len) = encoded.as_arguments();
                // SAFETY: pointer and length are those of `encoded`.
                unsafe { pass::call(libc::SYS_bind, [int(fd), at(pointer), len as usize, 0, 0, 0]) }
            }
            // SAFETY: the caller's own arguments.
            Ok(Asked::Reply(_)) => unsafe { pass::call(libc::SYS_bind, arguments) },
            Err(error) => Err(error),
        };
        returned(result) as c_int
    }
}

redhook::hook! {
    // listen(2). Changes: beside a connection through a proxy, the proxy listens first, and the socket hears loopback alone. Passes: sockets on loopback, and
    // what is no TCP socket. Errno: `EACCES` when the proxy's rules forbid it, `EADDRNOTAVAIL` when it cannot, `ENETUNREACH` when there is no broker. Safe in a
    // signal handler. No cancellation point, and not interrupted by signals, as ever; it takes as long as the proxy does.
    unsafe fn listen(fd: c_int, backlog: c_int) -> c_int => hooked_listen {
        if !session::binds() {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(listen)(fd, backlog) };
        }
        let arguments = [int(fd), int(backlog), 0, 0, 0, 0];
        if is_for_the_broker(fd) {
            match ask(&Request::Listen { backlog }, fd, libc::SYS_listen, arguments) {
                Ok(Asked::Reply(Reply::Done { .. }) | Asked::Caught) => return 0,
                Ok(Asked::Reply(Reply::Direct)) => {}
                Ok(Asked::Reply(_)) => return fail(libc::ENETUNREACH),
                Err(error) => return fail(error),
            }
        }
        // SAFETY: there is no pointer among the arguments.
        returned(unsafe { pass::call(libc::SYS_listen, arguments) }) as c_int
    }
}

redhook::hook! {
    // getsockname(2). Changes: of a listener for which a proxy listens, and of one that is bound and does not listen yet, where the proxy does; of a
    // connection through a proxy, whence that has connected. Passes: sockets on loopback but for accepted ones, and what is no TCP socket. Safe in a signal handler. No cancellation point.
    unsafe fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int => hooked_getsockname {
        if !session::binds() {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(getsockname)(fd, address, len) };
        }
        // SAFETY: `len` is null or points to a length, as getsockname(2) demands.
        let room = unsafe { len.as_ref() }.copied();
        let arguments = [int(fd), at(address), at(len), 0, 0, 0];
        // SAFETY: the caller's own arguments.
        let result = unsafe { pass::call(libc::SYS_getsockname, arguments) };
        // Without a length the call has failed.
        let (Ok(_), Some(room), true) = (result, room, has_an_address(fd)) else {
            return returned(result) as c_int;
        };
        // SAFETY: as for the call above, which has written the length.
        let whole = unsafe { len.replace(room) };
        match ask(&Request::OwnAddress, fd, libc::SYS_getsockname, arguments) {
            Ok(Asked::Caught) => 0,
            Ok(Asked::Reply(Reply::Address(shown))) => {
                let family = if socket::own(fd).is_some_and(|own| own.is_ipv6()) { libc::AF_INET6 } else { libc::AF_INET };
                // SAFETY: getsockname(2) demands `room` writable bytes at `address`, and `*len` is `room` again.
                unsafe { put(Encoded::new(in_family(shown, family)).as_bytes(), address.cast(), len) }
            }
            // The kernel has said it: as the broker has it, or because the broker is gone, who has nothing to say of any other.
            Ok(Asked::Reply(_)) | Err(libc::ENETUNREACH) => {
                // SAFETY: as above.
                unsafe { len.write(whole) };
                0
            }
            Err(error) => fail(error),
        }
    }
}

redhook::hook! {
    // accept(2). Changes: the address of who has come by a proxy. Passes: all else, and the waiting. Safe in a signal handler. A cancellation point.
    unsafe fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int => hooked_accept {
        // Without an address there is no length either, whatever stands there.
        if !session::binds() || address.is_null() {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(accept)(fd, address, len) };
        }
        // SAFETY: `len` is null or points to a length, as accept(2) demands.
        let room = unsafe { len.as_ref() }.copied();
        // SAFETY: the caller's own arguments.
        let accepted = unsafe { redhook::real!(accept)(fd, address, len) };
        // SAFETY: as for the call above.
        unsafe { show_peer(accepted, address, len, room) };
        accepted
    }
}

redhook::hook! {
    // accept4(2). As accept().
    unsafe fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int => hooked_accept4 {
        // Without an address there is no length either, whatever stands there.
        if !session::binds() || address.is_null() {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(accept4)(fd, address, len, flags) };
        }
        // SAFETY: `len` is null or points to a length, as accept4(2) demands.
        let room = unsafe { len.as_ref() }.copied();
        // SAFETY: the caller's own arguments.
        let accepted = unsafe { redhook::real!(accept4)(fd, address, len, flags) };
        // SAFETY: as for the call above.
        unsafe { show_peer(accepted, address, len, room) };
        accepted
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(bind);
    let _ = redhook::real!(listen);
    let _ = redhook::real!(getsockname);
    let _ = redhook::real!(accept);
    let _ = redhook::real!(accept4);
}

/// What has answered.
#[expect(clippy::large_enum_variant, reason = "a name is its largest part, and nothing here can allocate")]
enum Asked {
    Reply(Reply),
    /// The call itself, which the filter has brought before the broker.
    Caught,
}

/// Asks the broker, by a ticket, or by the call itself where there is none and the filter stands.
fn ask(request: &Request, fd: c_int, call: libc::c_long, arguments: [usize; 6]) -> Result<Asked, Errno> {
    match Ticket::open(request.queue()) {
        Ok(ticket) => ticket.ask(request, Some(fd)).map(Asked::Reply),
        Err(_) if pass::filter_stands() => {
            // SAFETY: the arguments are the program's own, of the call that it has made.
            match unsafe { pass::call_unjudged(call, arguments) } {
                Ok(_) => Ok(Asked::Caught),
                Err(libc::ENOSYS) => Err(report_gone()),
                Err(error) => Err(error),
            }
        }
        Err(why) => Err(why.report()),
    }
}

fn is_off_the_machine(address: SocketAddr) -> bool {
    let address = address.ip().to_canonical();
    !address.is_unspecified() && !address.is_loopback()
}

/// A TCP socket that is not on loopback?
fn is_for_the_broker(fd: c_int) -> bool {
    let is_here = |own: SocketAddr| own.ip().to_canonical().is_loopback();
    kind(fd) == Ok(Kind::Stream) && socket::own(fd).is_some_and(|own| !is_here(own))
}

/// A TCP socket that is bound or connected?
fn has_an_address(fd: c_int) -> bool {
    kind(fd) == Ok(Kind::Stream) && socket::own(fd).is_some_and(|own| own.port() > 0)
}

/// Writes who has come by a proxy where the kernel has written the broker.
///
/// # Safety
/// `address` and `len` are those of an accept() that has returned `accepted`, and `room` is what `*len` was before.
unsafe fn show_peer(accepted: c_int, address: *mut sockaddr, len: *mut socklen_t, room: Option<socklen_t>) {
    if accepted < 0 || address.is_null() {
        return;
    }
    let Some(room) = room else { return };
    let Some(actual) = socket::peer(accepted).filter(|actual| actual.ip().to_canonical().is_loopback())
    else {
        return;
    };
    let Some(peer) = asked_for(accepted, actual) else { return };
    // SAFETY: accept(2) has written the length (caller).
    unsafe { len.write(room) };
    // SAFETY: accept(2) demands `room` writable bytes at `address`, and `*len` is `room` again.
    unsafe { put(peer.as_bytes(), address.cast(), len) };
}

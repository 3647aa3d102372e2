//! connect(): the program's own socket goes to the broker and comes back connected.
//!
//! Criteria, in order:
//!
//! | what | then |
//! | --- | --- |
//! | the Unix socket of a resolver, which would ask the network in the program's stead | `ECONNREFUSED` |
//! | not an IP address, unreadable, not an IP socket | pass: the kernel judges |
//! | `AF_UNSPEC` | a pending connect is forgotten, then pass; `datagram` for a datagram socket |
//! | the socket's connect is under way or has failed unasked | answer as the kernel would |
//! | one of which the kernel may not be asked, in a sandbox | leave it to the filter, as every connect that no ticket can be had for (`unjudged`) |
//! | any other | as `presocks_abi::decision` has it, for the seccomp filter's calls alike |
//!
//! What passes has been judged, goes on as our copy of the address, and carries the session's pass (`pass`).
#![allow(unsafe_code)]

pub(crate) mod call;
mod facts;

use core::net::SocketAddr;

use libc::{c_int, socklen_t, timeval};
use presocks_abi::decision::{self, Connect};
use presocks_abi::probe;
use presocks_abi::socket::DISSOLVED;
use presocks_proto::frame::Request;
use presocks_proto::session::Queue;

use crate::errno::{Errno, fail};
use crate::pass::{self, at, int, returned};
use crate::pending::{self, Pending, State};
use crate::sockaddr::{self, Encoded, Given};
use crate::socket::{Kind, kind};
use crate::ticket::{NoTicket, Ticket};
use crate::{datagram, epoll, flows, session, socket, sys, ticket};
use call::{arguments, dissolves, nowhere, unjudged};
use facts::Socket;

redhook::hook! {
    // connect(2). Changes and passes: the table above. Errno: those of connect(2); `ENETUNREACH` when there is no broker or no
    // room for one more pending connect. Safe in a signal handler. A cancellation point.
    unsafe fn connect(fd: c_int, address: *const libc::sockaddr, len: socklen_t) -> c_int => hooked_connect {
        // SAFETY: connect(2) demands `len` readable bytes at `address`.
        match unsafe { sockaddr::read(address, len) } {
            // The kernel refuses it, whatever the socket and the address.
            _ if address.is_null() || len as usize > size_of::<libc::sockaddr_storage>() => {
                let arguments = [int(fd), 0, len as usize, 0, 0, 0];
                // SAFETY: no address: the kernel refuses the call.
                returned(unsafe { pass::wait(libc::SYS_connect, arguments) }) as c_int
            }
            // SAFETY: connect(2) demands `len` readable bytes at `address`.
            Given::Unreadable | Given::Other => unsafe { connect_locally(fd, address, len) },
            Given::Unspecified(_) => {
                forget(fd);
                let is_datagram = match kind(fd) {
                    Ok(kind) => kind == Kind::Datagram,
                    Err(error) => {
                        // `dissolve` leaves it to the filter then.
                        let _ = ticket::forbidden(error);
                        false
                    }
                };
                let by_the_broker = if is_datagram { datagram::dissolve(fd).ok() } else { None };
                let dissolved = by_the_broker.unwrap_or_else(|| dissolve(fd, len));
                flows::forget();
                dissolved
            }
            Given::Ip(destination) => connect_to(fd, destination),
        }
    }
}

/// connect() to an address that is none of IP's: what is on this machine is no business of ours, but for the resolvers, which ask the
/// network.
///
/// # Safety
/// As for [`sockaddr::read`].
unsafe fn connect_locally(fd: c_int, address: *const libc::sockaddr, len: socklen_t) -> c_int {
    let mut room = [0_u8; size_of::<libc::sockaddr_storage>()];
    // SAFETY: the caller's promise.
    let address = unsafe { sockaddr::copy(address, len, &mut room) };
    match sockaddr::parse(address) {
        // Another thread has written an IP address there since it was looked at.
        Given::Ip(_) | Given::Unspecified(_) => return fail(libc::ENETUNREACH),
        _ if sockaddr::is_resolver(address) => return fail(libc::ECONNREFUSED),
        Given::Unreadable | Given::Other => {}
    }
    let arguments = [int(fd), at(address.as_ptr()), address.len(), 0, 0, 0];
    // SAFETY: pointer and length are those of the copy.
    returned(unsafe { pass::wait(libc::SYS_connect, arguments) }) as c_int
}

redhook::hook! {
    // glibc's other name for connect().
    unsafe fn __connect(fd: c_int, address: *const libc::sockaddr, len: socklen_t) -> c_int => hooked_connect_alias {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_connect(fd, address, len) }
    }
}

/// connect() to an IP destination; also what `MSG_FASTOPEN` asks for.
pub(crate) fn connect_to(fd: c_int, destination: SocketAddr) -> c_int {
    match pending::state(fd) {
        State::Waiting(pending) => return again(pending, fd),
        State::Failed(failed) => return fail(error_of(failed, fd)),
        State::Ordinary => {}
    }
    let socket = match Socket::of(fd) {
        Ok(socket) => socket,
        Err(error) => {
            return match ticket::forbidden(error) {
                Some(why) => unjudged(fd, destination, why).map_or_else(fail, |()| 0),
                None => fail(error),
            };
        }
    };
    match decision::connect(destination, &socket) {
        Ok(Connect::Datagram) => datagram::connect(fd, destination),
        Ok(Connect::UnderWay) => fail(libc::EALREADY),
        Ok(Connect::Unreachable) => fail(libc::ENETUNREACH),
        Ok(Connect::Refused) => by_the_kernel(fd, nowhere(destination)),
        Ok(Connect::OutOfReach) => probe(fd).unwrap_or(Err(libc::ENETUNREACH)).map_or_else(fail, |()| 0),
        Ok(Connect::Loopback) => to_loopback(fd, destination),
        Ok(Connect::Broker) => hand_over(fd, destination),
        Err(error) => fail(error),
    }
}

/// The kernel's to connect, unless a rule may speak against it; without the filter the broker is asked for that.
fn to_loopback(fd: c_int, destination: SocketAddr) -> c_int {
    if session::judges_loopback() && !pass::filter_stands() {
        return hand_over(fd, destination);
    }
    by_the_kernel(fd, destination)
}

/// The kernel's answer to an address of loopback. Another thread may make the number that of a socket which is bound to a device, of either kind: then the
/// broker looks at the very socket that it connects.
fn by_the_kernel(fd: c_int, destination: SocketAddr) -> c_int {
    if !(session::judges_loopback() || socket::may_leave()) || !pass::filter_stands() {
        return call::pass(fd, destination);
    }
    let encoded = Encoded::new(destination);
    // SAFETY: pointer and length are those of `encoded`.
    returned(unsafe { pass::wait_unjudged(libc::SYS_connect, arguments(fd, &encoded)) }) as c_int
}

/// The broker's to connect, unless the kernel has an answer already.
fn hand_over(fd: c_int, destination: SocketAddr) -> c_int {
    match probe(fd).unwrap_or_else(|| begin(fd, destination)) {
        Ok(()) => 0,
        Err(error) => fail(error),
    }
}

/// What the kernel says to the next connect() on a stream socket wherever it goes ([`presocks_abi::probe`]). `None`: nothing, another attempt may begin.
fn probe(fd: c_int) -> Option<Result<(), Errno>> {
    let address = probe::address();
    let arguments = [int(fd), at(address.as_ptr()), address.len(), 0, 0, 0];
    // SAFETY: pointer and length are those of `address`.
    match unsafe { pass::wait(libc::SYS_connect, arguments) } {
        Err(error) if probe::says_nothing(error) => None,
        result => {
            if result.is_err_and(dissolves) {
                sys::restore(fd);
            }
            Some(result.map(drop))
        }
    }
}

/// The real connect() with `AF_UNSPEC`, in memory that nobody else can change meanwhile.
fn dissolve(fd: c_int, len: socklen_t) -> c_int {
    let nothing = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let len = len.min(size_of_val(&nothing) as socklen_t);
    let arguments = [int(fd), at(&raw const nothing), len as usize, 0, 0, 0];
    if ticket::is_left_to_the_filter() {
        // SAFETY: `len` bytes of `nothing` are readable.
        return returned(unsafe { pass::wait_unjudged(libc::SYS_connect, arguments) }) as c_int;
    }
    // SAFETY: as above.
    let result = unsafe { pass::wait(libc::SYS_connect, arguments) };
    if result.is_ok() {
        sys::restore(fd);
    }
    returned(result) as c_int
}

/// Hands the socket over, or leaves the call to the filter. `EINPROGRESS` for a non-blocking one.
fn begin(fd: c_int, destination: SocketAddr) -> Result<(), Errno> {
    match hand_in(fd, destination) {
        Ok((_, true)) => Err(libc::EINPROGRESS),
        Ok((pending, false)) => finish(pending, fd),
        Err(Unbegun::Ticket(why)) => unjudged(fd, destination, why),
        Err(Unbegun::Errno(error)) => Err(error),
    }
}

/// Why a connect was not begun.
enum Unbegun {
    Ticket(NoTicket),
    Errno(Errno),
}

impl From<NoTicket> for Unbegun {
    fn from(why: NoTicket) -> Self {
        Self::Ticket(why)
    }
}

impl From<Errno> for Unbegun {
    fn from(error: Errno) -> Self {
        ticket::forbidden(error).map_or(Self::Errno(error), Self::Ticket)
    }
}

/// Enters the connect, and asks the broker for it. Is the socket non-blocking?
fn hand_in(fd: c_int, destination: SocketAddr) -> Result<(Pending, bool), Unbegun> {
    let is_nonblocking = sys::is_nonblocking(fd)?;
    let timeout = if is_nonblocking { None } else { Some(sys::time_limit(fd, libc::SO_SNDTIMEO)?) };
    let mut ticket = open_ticket(timeout);
    if pending::any() && ticket.as_ref().is_err_and(|why| *why == NoTicket::Descriptor) {
        // Connects whose sockets are closed may still have some.
        pending::sweep();
        ticket = open_ticket(timeout);
    }
    let pending = pending::insert(fd, ticket?)?;
    let request = Request::Connect { destination, cookie: pending.cookie(), number: fd };
    let sent = epoll::mask(pending, fd).and_then(|()| pending.send(&request, fd));
    if let Err(error) = sent {
        pending.abandon();
        return Err(error.into());
    }
    Ok((pending, is_nonblocking))
}

/// A ticket that waits as long as the socket would; none for one that does not wait.
fn open_ticket(timeout: Option<timeval>) -> Result<Ticket, NoTicket> {
    let mut ticket = Ticket::new()?;
    match timeout {
        None => ticket.move_up(),
        Some(timeval { tv_sec: 0, tv_usec: 0 }) => {}
        Some(timeout) => {
            sys::set_receive_timeout(ticket.number(), &timeout)
                .map_err(|error| ticket::forbidden(error).unwrap_or(NoTicket::Descriptor))?;
        }
    }
    // Connected before anybody can find it: an unconnected ticket would count as broken.
    ticket.connect(Queue::InTurn)?;
    Ok(ticket)
}

/// A connect() while another is under way: `EALREADY`, or, on a blocking socket, its end.
fn again(pending: Pending, fd: c_int) -> c_int {
    let result = match sys::is_nonblocking(fd) {
        Ok(true) => Err(libc::EALREADY),
        Ok(false) => sys::time_limit(fd, libc::SO_SNDTIMEO)
            .and_then(|limit| {
                pending.limit(&limit);
                finish(pending, fd)
            })
            .map_err(|error| if error == libc::EINPROGRESS { libc::EALREADY } else { error }),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => 0,
        Err(error) => fail(error),
    }
}

/// Waits for the answer. After a signal or a timeout the connect goes on, as connect(2) and socket(7) have it.
fn finish(pending: Pending, fd: c_int) -> Result<(), Errno> {
    let answer = pending.wait(fd).map_err(|error| {
        await_start(fd);
        if error == libc::EAGAIN { libc::EINPROGRESS } else { error }
    })?;
    // Another thread may have taken the answer in, and done what it likes with the socket since.
    match (answer, pending.refresh()) {
        (0, _) => Ok(()),
        (_, State::Failed(failed)) => Err(error_of(failed, fd)),
        (DISSOLVED, _) => Err(DISSOLVED),
        // The kernel has it.
        (libc::ECONNREFUSED, State::Ordinary) => probe(fd).unwrap_or(Err(libc::ECONNABORTED)),
        (_, State::Ordinary | State::Waiting(_)) => Err(libc::ECONNABORTED),
    }
}

/// While the broker calls connect() on a blocking socket, it has `O_NONBLOCK` set; the flag is shared, and a program that is let go at that
/// moment would see it. So it is let go when the attempt has begun, which is a matter of microseconds.
fn await_start(fd: c_int) {
    const PATIENCE: usize = 2_000;
    for _ in 0..PATIENCE {
        let has_begun = sys::has_begun_to_connect(fd) && sys::is_nonblocking(fd) != Ok(true);
        if has_begun || !matches!(pending::state(fd), State::Waiting(_)) {
            return;
        }
        sys::pause();
    }
}

/// The error of a failed connect; as the kernel says it when another thread was faster to ask. The kernel takes it for told then. One that was shut since
/// (shutdown(2)) is good for nothing until it is dissolved.
fn error_of(failed: Pending, fd: c_int) -> Errno {
    match probe(fd) {
        Some(Err(libc::EINVAL)) => libc::EINVAL,
        _ => failed.take_error().unwrap_or(libc::ECONNABORTED),
    }
}

/// shutdown() while a connect is under way: Linux dissolves the socket.
pub(crate) fn shut(pending: Pending, fd: c_int) -> c_int {
    pending.dissolve();
    // By now the number may mean another socket.
    if sys::cookie(fd) != Ok(pending.cookie()) {
        return 0;
    }
    dissolve(fd, size_of::<libc::sockaddr>() as socklen_t)
}

/// The program dissolves the socket's association: a connect under way is no longer its business. When the kernel dissolves it, the broker has let go of
/// it: else that would go on with, or reset, what the program makes of the socket next.
fn forget(fd: c_int) {
    match pending::state(fd) {
        State::Waiting(pending) => pending.dissolve(),
        State::Failed(pending) => pending.abandon(),
        State::Ordinary => {}
    }
}

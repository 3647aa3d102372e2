//! Caught datagrams: connect() on UDP, and the send family; `MSG_FASTOPEN` too, which is a connect().
//!
//! As for the shim (`broker::datagram`); but what is redirected is sent here, from the program's own socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use presocks_abi::control;
use presocks_abi::sockaddr::{Given, is_local};
use presocks_abi::socket::{Kind, is_loopback};
use presocks_proto::socks5::datagram::max_payload;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::task::spawn_local;

use super::{Caller, Judged, Taken, errno, now};
use crate::backstop::call::{Call, Header, Layout, MOST_DATA, Span, gather};
use crate::backstop::listener::Answer;
use crate::broker::datagram::{self, Place, Sent, place};
use crate::broker::device::stays_here;
use crate::broker::socket::{leaves_loopback, option, restore, send_here};

/// connect() on a UDP socket. It sends nothing, and does not wait: done here, on the address that was read.
///
/// # Errors
/// Those of connect(2).
pub(super) fn connect(caller: &Caller, taken: &Taken, destination: SocketAddr) -> io::Result<()> {
    datagram::connect(&caller.broker, taken.fd.as_fd(), destination, &caller.program()).map(drop)
}

/// What is to become of one message.
enum Way {
    /// The kernel sends it.
    Continue,
    Fail(i32),
    /// Without an address.
    ToPeer(Taken),
    /// By way of the broker.
    Redirect(Taken, SocketAddr),
    /// The socket is to be connected first.
    Open(Taken, SocketAddr),
}

/// A call of the send family.
pub(super) fn judge(caller: &Rc<Caller>, call: Call, layout: Layout) -> Judged {
    match call {
        Call::SendTo { fd, data, flags, address } => {
            let way = way(caller, fd, address, Span::default(), flags, layout)?;
            let message = Message { parts: vec![data], flags, length: None };
            go(caller, way, || Ok(message))
        }
        Call::SendMessage { fd, header, flags } => {
            let header = Header::read(caller.thread(), header, layout)?;
            let way = way(caller, fd, cut(header.name), header.control, flags, layout)?;
            go(caller, way, || {
                Ok(Message { parts: header.parts(caller.thread(), layout)?, flags, length: None })
            })
        }
        Call::SendMessages { fd, headers, count, flags } => {
            judge_many(caller, fd, (headers, count), flags, layout)
        }
        _ => now(Answer::Continue),
    }
}

/// The first message is ours, or all are the kernel's: fewer than were asked for may be sent (sendmmsg(2)). One that may not be sent, or is
/// ours, behind others that are the kernel's fails the call: nobody sends to servers of both kinds at once.
fn judge_many(
    caller: &Rc<Caller>,
    fd: RawFd,
    (headers, count): (u64, u64),
    flags: i32,
    layout: Layout,
) -> Judged {
    for index in 0..count {
        let at = headers + index * layout.next_header();
        let header = Header::read(caller.thread(), at, layout);
        let judged = header.and_then(|header| {
            Ok((header, way(caller, fd, cut(header.name), header.control, flags, layout)?))
        });
        match judged {
            // The kernel, too, ends before what is not there.
            Err(error) if index > 0 && error.raw_os_error() == Some(libc::EFAULT) => break,
            Err(error) => return Err(error),
            Ok((_, Way::Continue)) => {}
            Ok((_, Way::Fail(error))) => return errno(error),
            Ok(_) if index > 0 => return errno(libc::ENETUNREACH),
            Ok((header, way)) => {
                let length = Some(headers + layout.sent());
                return go(caller, way, || {
                    Ok(Message { parts: header.parts(caller.thread(), layout)?, flags, length })
                });
            }
        }
    }
    now(Answer::Continue)
}

/// sendmsg(2) only cuts what is too long.
fn cut(name: Span) -> Span {
    Span { len: name.len.min(super::LONGEST_ADDRESS as u64), ..name }
}

fn way(
    caller: &Caller,
    fd: RawFd,
    address: Span,
    control: Span,
    flags: i32,
    layout: Layout,
) -> io::Result<Way> {
    let given = if address.at == 0 { Given::Unreadable } else { caller.address(address)?.given() };
    let destination = match given {
        Given::Ip(destination) | Given::Unspecified(Some(destination)) => Some(destination),
        Given::Unreadable | Given::Other | Given::Unspecified(None) => None,
    };
    if let Err(errno) = judge_control(caller, fd, destination, control, layout) {
        return Ok(Way::Fail(errno.raw_os_error().unwrap_or(libc::ENETUNREACH)));
    }
    // To an IPv6 socket that is no address at all; and the kernel then takes a mapped peer for an IPv6 address.
    if matches!(given, Given::Unspecified(_)) {
        let taken = caller.take(fd)?;
        if taken.domain == libc::AF_INET6 && taken.kind == Kind::Datagram {
            return Ok(Way::ToPeer(taken));
        }
    }
    let Some(destination) = destination else { return Ok(Way::Continue) };
    let taken = caller.take(fd)?;
    let is_fast_open = flags & libc::MSG_FASTOPEN != 0;
    Ok(match (taken.kind, where_is(caller, &taken, destination)) {
        (Kind::NotIp, _) => Way::Continue,
        (Kind::Refused, _) => Way::Fail(libc::ENETUNREACH),
        // An address means nothing to a stream.
        (Kind::Stream, Place::Local) if !is_fast_open => Way::Continue,
        (Kind::Stream, Place::Local) if leaves_loopback(taken.fd.as_fd()) => Way::Fail(libc::ENETUNREACH),
        // As for connect().
        (Kind::Stream, Place::Local) if destination.is_ipv6() => match restore(taken.fd.as_fd()) {
            Some(Err(error)) => Way::Fail(error.raw_os_error()),
            Some(Ok(())) | None => Way::Continue,
        },
        (Kind::Stream, Place::Local) => Way::Continue,
        (Kind::Stream, _) if is_fast_open => Way::Open(taken, destination),
        (Kind::Stream, _) => Way::Continue,
        (Kind::Datagram, Place::Local) if leaves_loopback(taken.fd.as_fd()) => Way::Fail(libc::ENETUNREACH),
        (Kind::Datagram, Place::Local | Place::Direct) => Way::Continue,
        (Kind::Datagram, Place::Resolver | Place::Behind(_) | Place::Unknown | Place::Refused(_)) => {
            Way::Redirect(taken, destination)
        }
    })
}

/// The rules for datagrams have nothing to say of a stream.
fn where_is(caller: &Caller, taken: &Taken, destination: SocketAddr) -> Place {
    match taken.kind {
        _ if is_local(destination) => Place::Local,
        Kind::Datagram => place(&caller.broker, destination, &caller.program()),
        Kind::Stream | Kind::NotIp | Kind::Refused => Place::Unknown,
    }
}

fn judge_control(
    caller: &Caller,
    fd: RawFd,
    destination: Option<SocketAddr>,
    control: Span,
    layout: Layout,
) -> io::Result<()> {
    if control.len == 0 {
        return Ok(());
    }
    let len = usize::try_from(control.len).unwrap_or(usize::MAX);
    if len > MOST_DATA {
        // As the kernel says of more than it takes (`optmem_max`).
        return Err(Errno::NOBUFS.into());
    }
    let mut bytes = vec![0; len];
    let bytes = control.read_into(caller.thread(), &mut bytes)?;
    // What cannot be told is taken for the worse. The peer counts in any case: to an IPv6 socket AF_UNSPEC is no address.
    let peer_is_here = || caller.take(fd).map_or(true, |taken| stays_here(&caller.broker, taken.fd.as_fd()));
    let is_local = || destination.is_some_and(|destination| is_loopback(destination.ip())) || peer_is_here();
    control::judge(bytes, layout.width(), is_local).map_err(io::Error::from_raw_os_error)
}

/// A message that is sent here.
struct Message {
    parts: Vec<Span>,
    flags: i32,
    /// Where its length goes, if it is one of many.
    length: Option<u64>,
}

fn go(caller: &Rc<Caller>, way: Way, message: impl FnOnce() -> io::Result<Message>) -> Judged {
    match way {
        Way::Continue => now(Answer::Continue),
        Way::Fail(error) => errno(error),
        Way::ToPeer(taken) => {
            let message = message()?;
            let sent = message.send(caller, &taken.fd, None);
            now(message.answer(caller, sent)?)
        }
        Way::Redirect(taken, destination) => {
            let message = message()?;
            spawn_local(redirect(Rc::clone(caller), taken, destination, message));
            Ok(None)
        }
        Way::Open(taken, destination) => {
            let message = message()?;
            spawn_local(open(Rc::clone(caller), taken, destination, message));
            Ok(None)
        }
    }
}

/// Sends to where the broker takes it from.
async fn redirect(caller: Rc<Caller>, taken: Taken, destination: SocketAddr, message: Message) {
    let fd = taken.fd.as_fd();
    if message.len() > max_payload(destination.ip()) && !is_cut(fd) {
        return caller.answer(Answer::Errno(libc::EMSGSIZE));
    }
    let is_impatient = message.flags & libc::MSG_DONTWAIT != 0;
    let to = match datagram::send(&caller.broker, fd, destination, is_impatient, &caller.program()).await {
        Ok(Sent::Token(token)) => token,
        // Another rule than a moment ago there is not.
        Ok(Sent::Direct) => return caller.answer(Answer::Errno(libc::ENETUNREACH)),
        Err(error) => return caller.answer(Answer::Errno(error.raw_os_error().unwrap_or(libc::ENETUNREACH))),
    };
    let sent = message.send(&caller, &taken.fd, Some(to));
    match message.answer(&caller, sent) {
        Ok(answer) => caller.answer(answer),
        Err(error) => caller.fail(&error),
    }
}

/// `MSG_FASTOPEN`: connects, then sends.
async fn open(caller: Rc<Caller>, taken: Taken, destination: SocketAddr, message: Message) {
    let socket = taken.fd.try_clone();
    let Some(outcome) = super::connect::wait(&caller, taken, destination).await else { return };
    if outcome != 0 {
        caller.answer(Answer::Errno(outcome));
        return;
    }
    let answer = socket.and_then(|socket| {
        let sent = message.send(&caller, &socket, None);
        message.answer(&caller, sent)
    });
    match answer {
        Ok(answer) => caller.answer(answer),
        Err(error) => caller.fail(&error),
    };
}

/// Does the kernel cut what the socket sends into datagrams (`UDP_SEGMENT`)?
fn is_cut(fd: BorrowedFd<'_>) -> bool {
    const UDP_SEGMENT: i32 = 103;
    let mut size = [0; 4];
    option(fd, libc::IPPROTO_UDP, UDP_SEGMENT, &mut size).is_ok() && size != [0; 4]
}

impl Message {
    fn len(&self) -> usize {
        let total = self.parts.iter().fold(0_u64, |total, part| total.saturating_add(part.len));
        usize::try_from(total).unwrap_or(usize::MAX)
    }

    /// Sends it from the program's own socket; how much was sent.
    fn send(&self, caller: &Caller, socket: &OwnedFd, to: Option<SocketAddr>) -> io::Result<usize> {
        let data = gather(caller.thread(), &self.parts)?;
        if !caller.waits() {
            return Err(Errno::SRCH.into());
        }
        let kept = SendFlags::from_bits_retain(
            self.flags.cast_unsigned() & !(libc::MSG_FASTOPEN | libc::MSG_ZEROCOPY).cast_unsigned(),
        );
        let flags = kept | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(match to {
            Some(to) => send_here(socket.as_fd(), &data, flags.bits().cast_signed(), to)?,
            None => rustix::net::send(socket, &data, flags)?,
        })
    }

    fn answer(&self, caller: &Caller, sent: io::Result<usize>) -> io::Result<Answer> {
        let sent = sent?;
        let Some(at) = self.length else {
            return Ok(Answer::Value(i64::try_from(sent).unwrap_or(i64::MAX)));
        };
        caller.memory()?.write(at, &u32::try_from(sent).unwrap_or(u32::MAX).to_ne_bytes())?;
        Ok(Answer::Value(1))
    }
}

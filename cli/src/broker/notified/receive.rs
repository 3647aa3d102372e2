//! Caught receives: programs that check who answered them (musl's resolver does) must see the name server that they asked, not ours.
//!
//! Only sockets that were redirected to our name server are of interest; all others go on in the kernel.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::rc::Rc;

use presocks_abi::sockaddr::{self, Encoded};
use presocks_abi::socket::Kind;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, recvfrom};
use tokio::io::Interest;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::{Caller, Judged, TICK, Taken, errno, interrupted, is_not_allowed, now};
use crate::readiness::Watched;
use crate::seccomp::call::{Call, Header, Layout, MOST_DATA, Span, return_address, scatter};
use crate::seccomp::listener::Answer;
use crate::seccomp::target::Pending;

/// Where a receive's results go.
enum Destination {
    From {
        data: Span,
        address: u64,
        len: u64,
    },
    Message(Header),
    /// The header of the first of many, and where its length goes.
    First(Header, u64),
}

struct Receive {
    taken: Taken,
    layout: Layout,
    flags: i32,
    to: Destination,
}

pub(super) fn judge(caller: &Rc<Caller>, call: Call, layout: Layout) -> Judged {
    let (fd, flags) = match call {
        Call::ReceiveFrom { fd, flags, .. }
        | Call::ReceiveMessage { fd, flags, .. }
        | Call::ReceiveMessages { fd, flags, .. } => (fd, flags),
        // Not called for any other.
        _ => return errno(libc::ENOSYS),
    };
    // Continue: it sends nothing.
    let Some(taken) = redirected(caller, fd, flags)? else { return now(Answer::Continue) };
    let to = match call {
        Call::ReceiveFrom { data, address, len, .. } => Destination::From { data, address, len },
        Call::ReceiveMessage { header, .. } => {
            Destination::Message(Header::read(caller.thread(), header, layout)?)
        }
        Call::ReceiveMessages { headers, .. } => {
            Destination::First(Header::read(caller.thread(), headers, layout)?, headers + layout.sent())
        }
        _ => return errno(libc::ENOSYS),
    };
    let receive = Receive { taken, layout, flags, to };
    let may_wait = flags & libc::MSG_DONTWAIT == 0
        && fcntl_getfl(&receive.taken.fd).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK));
    match receive.now(caller) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && may_wait => {
            spawn_local(receive.later(Rc::clone(caller)));
            Ok(None)
        }
        Err(error) => errno(error.raw_os_error().unwrap_or(libc::EIO)),
        Ok(answer) => now(answer),
    }
}

/// The socket, if it is one that was redirected.
fn redirected(caller: &Caller, fd: RawFd, flags: i32) -> io::Result<Option<Taken>> {
    let datagrams = &caller.supervisor.datagrams;
    if !datagrams.is_used() || flags & libc::MSG_ERRQUEUE != 0 {
        return Ok(None);
    }
    let taken = match caller.take(fd) {
        // Nobody may look into the program, so the filter has nothing that it sends redirected.
        Err(error) if is_not_allowed(&error) => return Ok(None),
        taken => taken?,
    };
    let is_redirected = taken.kind == Kind::Datagram && datagrams.has(sockopt::socket_cookie(&taken.fd)?);
    Ok(is_redirected.then_some(taken))
}

impl Receive {
    /// # Errors
    /// Those of recvfrom(2), `EAGAIN` among them, and `EFAULT`.
    fn now(&self, caller: &Caller) -> io::Result<Answer> {
        let mut buffer = vec![0; MOST_DATA];
        let flags = RecvFlags::from_bits_retain((self.flags & libc::MSG_PEEK).cast_unsigned());
        let (len, _, sender) = recvfrom(&self.taken.fd, &mut buffer[..], flags | RecvFlags::DONTWAIT)?;
        let sender = sender
            .and_then(|sender| SocketAddr::try_from(sender).ok())
            .map(|sender| self.shown(caller, sender))
            .map(|sender| Encoded::new(sockaddr::in_family(sender, self.taken.domain)));
        let sender = sender.as_ref().map_or(&[][..], Encoded::as_bytes);
        let data = buffer.get(..len).unwrap_or(&[]);
        let parts = match self.to {
            Destination::From { data, .. } => vec![data],
            Destination::Message(header) | Destination::First(header, _) => {
                header.parts(caller.thread(), self.layout)?
            }
        };
        let memory = caller.memory()?;
        let taken = scatter(&memory, &parts, data)?;
        let cut = if taken < len { libc::MSG_TRUNC } else { 0 };
        let reported = if self.flags & libc::MSG_TRUNC != 0 { len } else { taken };
        match self.to {
            // By socketcall(2) such a call is caught, too.
            Destination::From { address: 0, .. } => {}
            Destination::From { address, len, .. } => {
                return_address(caller.thread(), &memory, address, len, sender)?
            }
            Destination::Message(header) => header.answer(&memory, self.layout, sender, cut)?,
            Destination::First(header, length) => {
                header.answer(&memory, self.layout, sender, cut)?;
                let reported = u32::try_from(reported).unwrap_or(u32::MAX);
                memory.write(length, &reported.to_ne_bytes())?;
                return Ok(Answer::Value(1));
            }
        }
        Ok(Answer::Value(i64::try_from(reported).unwrap_or(i64::MAX)))
    }

    /// A sender as the program is to see it.
    fn shown(&self, caller: &Caller, sender: SocketAddr) -> SocketAddr {
        let cookie = sockopt::socket_cookie(&self.taken.fd).ok();
        cookie.and_then(|cookie| caller.supervisor.peer_names.of(cookie, sender)).unwrap_or(sender)
    }

    /// Waits for a datagram, with the socket's own limit.
    async fn later(self, caller: Rc<Caller>) {
        let limit = sockopt::socket_timeout(&self.taken.fd, Timeout::Recv).ok().flatten();
        let started = Instant::now();
        let answer = loop {
            let rest = limit.map_or(TICK, |limit| limit.saturating_sub(started.elapsed()).min(TICK));
            if let Ok(Err(error)) = timeout(rest, self.is_readable()).await {
                break Err(error);
            }
            // Also when nothing was said: an error alone makes no socket readable.
            match self.now(&caller) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break result,
            }
            if is_shut(&self.taken.fd) {
                break Ok(Answer::Value(0));
            }
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                break Ok(Answer::Errno(libc::EAGAIN));
            }
            if !caller.waits() {
                return;
            }
            let signals = Pending::of(caller.thread());
            if signals.handled || signals.unhandled {
                break Ok(interrupted(limit));
            }
        };
        match answer {
            Ok(answer) => caller.answer(answer),
            Err(error) => caller.fail(&error),
        }
    }

    async fn is_readable(&self) -> io::Result<()> {
        let fd = &self.taken.fd;
        let mut watched = Watched::new(fd.as_fd(), Interest::READABLE)?;
        // A socket that is shut for reading is always ready, and has nothing.
        watched.until(Interest::READABLE, |_| if is_shut(fd) { Ok(()) } else { peek(fd) }).await
    }
}

/// Has the program shut the socket for reading (shutdown(2))? A receive that waits then returns 0.
fn is_shut(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    // What cannot be told now is told at the next tick.
    let is_told = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0);
    is_told && polled.iter().any(|polled| polled.revents().contains(PollFlags::RDHUP))
}

/// Is there something to receive? `WouldBlock`: not yet.
fn peek(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(drop)?)
}

//! Caught calls about listening, in a session with `--bind`: bind(), listen() and getsockname(), to the same ends as the shim's
//! (`crate::broker::bind`). accept() is not caught: it waits, and what it says of a peer that a proxy has brought is loopback; getpeername() tells.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, RawFd};
use std::rc::Rc;

use presocks_abi::sockaddr::{Encoded, Given};
use presocks_abi::socket::Kind;
use tokio::io::Interest;
use tokio::task::spawn_local;

use super::{Caller, Judged, Taken, errno, now};
use crate::readiness::watch;
use crate::seccomp::call::{self, Span};
use crate::seccomp::listener::Answer;
use crate::seccomp::target::Thread;
use crate::socket::own_address;

pub(super) fn judge_bind(caller: &Caller, fd: RawFd, address: Span) -> Judged {
    let address = caller.address(address)?;
    // Continue, here and below: bind() sends nothing.
    let Given::Ip(wanted) = address.given() else { return now(Answer::Continue) };
    // It is the broker that would bind it, with what privileges that has.
    let is_privileged = (1..1024).contains(&wanted.port());
    if is_privileged || caller.supervisor.bindings.is_idle() {
        return now(Answer::Continue);
    }
    let taken = caller.take(fd)?;
    let bindings = &caller.supervisor.bindings;
    let is_ip = matches!(taken.kind, Kind::Stream | Kind::Datagram);
    let instead = if is_ip { bindings.instead_of(taken.fd.as_fd(), wanted) } else { None };
    let Some(instead) = instead else { return now(Answer::Continue) };
    match rustix::net::bind(&taken.fd, &instead) {
        Ok(()) => now(Answer::Value(0)),
        Err(error) => errno(error.raw_os_error()),
    }
}

pub(super) fn judge(caller: &Rc<Caller>, fd: RawFd, backlog: i32) -> Judged {
    // Continue, here and below: listen() sends nothing.
    let Some(Taken { thread, fd, .. }) = stream(caller, fd)? else { return now(Answer::Continue) };
    let caller = Rc::clone(caller);
    spawn_local(async move {
        let program = caller.program();
        let listens = caller.supervisor.bindings.listen(fd, backlog, &program);
        match while_alive(&thread, listens).await {
            Some(Ok(true)) => caller.answer(Answer::Value(0)),
            Some(Ok(false)) => caller.answer(Answer::Continue),
            Some(Err(errno)) => caller.answer(Answer::Errno(errno)),
            None => {}
        }
    });
    Ok(None)
}

pub(super) fn own_name(caller: &Rc<Caller>, fd: RawFd, address: u64, len: u64) -> Judged {
    // Continue, here and below: getsockname() sends nothing.
    let Some(Taken { thread, fd, domain, .. }) = stream(caller, fd)? else { return now(Answer::Continue) };
    let caller = Rc::clone(caller);
    spawn_local(async move {
        let program = caller.program();
        let shown = while_alive(&thread, caller.supervisor.bindings.own_address(fd, &program)).await;
        match shown {
            Some(Some(own)) => {
                let encoded = Encoded::new(presocks_abi::sockaddr::in_family(own, domain));
                let written = caller.memory().and_then(|memory| {
                    call::return_address(caller.thread(), &memory, address, len, encoded.as_bytes())
                });
                match written {
                    Ok(()) => caller.answer(Answer::Value(0)),
                    Err(error) => caller.fail(&error),
                }
            }
            Some(None) => caller.answer(Answer::Continue),
            None => {}
        }
    });
    Ok(None)
}

/// A TCP socket that has an address, when there is a connection beside which it could listen.
fn stream(caller: &Caller, fd: RawFd) -> io::Result<Option<Taken>> {
    if caller.supervisor.bindings.is_idle() {
        return Ok(None);
    }
    let taken = caller.take(fd)?;
    let has_address = own_address(taken.fd.as_fd()).is_some();
    Ok(Some(taken).filter(|taken| taken.kind == Kind::Stream && has_address))
}

/// What comes of it, unless the thread that has called is gone before.
async fn while_alive<T>(thread: &Thread, outcome: impl Future<Output = T>) -> Option<T> {
    let gone = async {
        match watch(thread.as_fd(), Interest::READABLE) {
            Ok(watched) => drop(watched.readable().await),
            Err(_) => pending().await,
        }
    };
    tokio::select! {
        outcome = outcome => Some(outcome),
        () = gone => None,
    }
}

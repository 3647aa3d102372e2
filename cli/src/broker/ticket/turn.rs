//! Tickets for what takes as long as a proxy does: while descriptors are short they wait for their turn, their requests read and not received.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use presocks_abi::socket::DISSOLVED;
use presocks_proto::frame::{Reply, Request};
use tokio_seqpacket::UnixSeqpacket;

use super::Tickets;
use super::request::{self, is_given_up, is_given_up_early};
use crate::broker::admission::Admission;
use crate::broker::connect::Call;
use crate::broker::connecting::{GivenUp, Turn};
use crate::broker::holders::Holder;
use crate::broker::program::Program;
use crate::descriptors::{Permit, Place};
use crate::socket::Socket;
use crate::socket::signals::Teller;
use crate::upstream::failure::Failure;

/// What is asked for; as small as it can be, since thousands wait.
enum Wanted {
    Connect { destination: SocketAddr, cookie: u64, number: i32 },
    Listen { backlog: i32 },
    OwnAddress,
    Await { cookie: u64 },
}

/// Serves a ticket. It holds its permit until it has a place.
pub(super) async fn serve(tickets: Rc<Tickets>, ticket: UnixSeqpacket, admission: Admission, permit: Permit) {
    let Some(wanted) = wanted(&tickets, &ticket).await else { return };
    // It has shown the token.
    drop(admission);
    let mut teller = None;
    let reply = match wanted {
        Wanted::Connect { destination, cookie, number } => {
            let connected = connect(&tickets, &ticket, permit, destination, (cookie, number));
            let (reply, who) = connected.await.unzip();
            teller = who.flatten();
            reply
        }
        Wanted::Listen { backlog } => Box::pin(listen(&tickets, &ticket, permit, Some(backlog))).await,
        Wanted::OwnAddress => Box::pin(listen(&tickets, &ticket, permit, None)).await,
        Wanted::Await { cookie } => {
            request::discard(&ticket);
            // It waits for one that may have no place yet, so it takes none from it.
            let end = tickets.connecting.end(cookie, is_given_up(&ticket, None)).await;
            end.map(|errno| Reply::Done { errno })
        }
    };
    // A program that is gone needs no answer.
    if let Some(reply) = reply {
        let _ = ticket.send(&reply.encode(&tickets.session.proof)).await;
    }
    // It may say that it is given up.
    request::discard(&ticket);
    if let Some(teller) = teller {
        Box::pin(teller.tell()).await;
    }
}

async fn wanted(tickets: &Tickets, ticket: &UnixSeqpacket) -> Option<Wanted> {
    Some(match request::read(tickets, ticket).await? {
        Request::Connect { destination, cookie, number } => Wanted::Connect { destination, cookie, number },
        Request::Listen { backlog } => Wanted::Listen { backlog },
        Request::OwnAddress => Wanted::OwnAddress,
        Request::Await { cookie, is_impatient: false } => Wanted::Await { cookie },
        _ => {
            tickets.report.refused_ticket("it is for the other queue");
            return None;
        }
    })
}

async fn connect(
    tickets: &Tickets,
    ticket: &UnixSeqpacket,
    permit: Permit,
    destination: SocketAddr,
    (cookie, number): (u64, i32),
) -> Option<(Reply, Option<Teller>)> {
    let done = |errno| Some((Reply::Done { errno }, None));
    // The shim has looked already, but two threads may have looked at once.
    let Some(turn) = tickets.connecting.begin(cookie, number) else {
        request::discard(ticket);
        return done(libc::EALREADY);
    };
    let place = match place(tickets, ticket, &turn).await {
        Ok(place) => place?,
        Err(GivenUp::Left) => return None,
        Err(GivenUp::Dissolved) => {
            turn.end(DISSOLVED);
            request::discard(ticket);
            return done(DISSOLVED);
        }
    };
    drop(permit);
    let socket = request::take(tickets, ticket, true).await??;
    let early = request::was_given_up(ticket);
    // The shim does not wait for us when it dissolves a socket that is not received yet.
    if early == Some(GivenUp::Dissolved) {
        turn.end(DISSOLVED);
        return done(DISSOLVED);
    }
    let ended = match Socket::new(socket) {
        Ok(socket) if socket.cookie() != cookie => return done(libc::EBADF),
        Ok(socket) => {
            let program = Program::Behind(ticket);
            // If it is given up by now, nothing is begun before it is known whether anybody has the socket.
            let given_up = pin!(is_given_up(ticket, early));
            // The shim asks the kernel for the end of a connect() that it waits in.
            let call = &Call { destination, is_nonblocking: false };
            tickets.connector.serve(socket, call, &program, turn, given_up, || false).await
        }
        Err(error) => return done(Failure::Socket(error).errno()),
    };
    drop(place);
    // Nobody is left to be told; or the program waits until its socket is its own.
    Some((Reply::Done { errno: ended.errno.unwrap_or(libc::ECONNABORTED) }, ended.teller))
}

/// A place for the connect, unless it is given up.
async fn place(tickets: &Tickets, ticket: &UnixSeqpacket, turn: &Turn<'_>) -> Result<Option<Place>, GivenUp> {
    let given_up = pin!(is_given_up_early(ticket));
    tokio::select! {
        biased;
        // If there is room: another program may have the socket, and that is not known until it is received.
        place = tickets.descriptors.connect(Program::Behind(ticket).process()) => Ok(place),
        why = turn.given_up(given_up, async || Holder::Nobody) => Err(why),
    }
}

/// listen(), if there is a backlog, or getsockname().
async fn listen(
    tickets: &Tickets,
    ticket: &UnixSeqpacket,
    permit: Permit,
    backlog: Option<i32>,
) -> Option<Reply> {
    let program = Program::Behind(ticket);
    let _place = tokio::select! {
        biased;
        _ = is_given_up_early(ticket) => return None,
        place = tickets.descriptors.connect(program.process()) => place?,
    };
    drop(permit);
    let socket = request::take(tickets, ticket, true).await??;
    let answer = async {
        match backlog {
            Some(backlog) => match tickets.bindings.listen(socket, backlog, &program).await {
                Ok(true) => Reply::Done { errno: 0 },
                Ok(false) => Reply::Direct,
                Err(errno) => Reply::Done { errno },
            },
            None => {
                let address = tickets.bindings.own_address(socket, &program).await;
                address.map_or(Reply::Direct, Reply::Address)
            }
        }
    };
    tokio::select! {
        reply = answer => Some(reply),
        _ = is_given_up(ticket, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a task of this function occupies.
    fn size<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of connects may be pending: what is rare in one is boxed, and futures are handed on by reference.
    #[test]
    fn a_pending_connect_is_small() {
        let size = size(serve);
        assert!(size <= 7_000, "{size}");
    }
}

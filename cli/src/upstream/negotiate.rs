//! A handshake's conversation with a proxy: on a program's own socket, or on a connection of the broker's; limited in time.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::time::Instant;

use presocks_proto::handshake::{Handshake, Step};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};

use super::failure::Failure;
use super::limits::Limits;
use super::stream::Stream;
use crate::proxy::Kind;
use crate::readiness::{self, Watched, send_all};
use crate::socket::option;

/// What a conversation is held on. Nothing reads ahead: the byte after the proxy's reply is the program's.
pub(crate) trait Wire {
    /// Sends all bytes.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Receives at most as many bytes as there is room for; 0 at the end.
    async fn receive(&mut self, room: &mut [u8]) -> io::Result<usize>;
    /// Waits for bytes as [`Self::receive`] does, and leaves them where they are. `None` where that is not possible.
    async fn peek(&mut self, _room: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(None)
    }
}

impl Wire for Watched<'_> {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send_all(self, bytes).await
    }

    async fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        readiness::receive(self, room).await
    }

    async fn peek(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        self.until(Interest::READABLE, |socket| peek(socket, room)).await
    }
}

/// `None` where the socket cannot be asked so: its program has it peek further on (`SO_PEEK_OFF`), or the kernel does not have it (MPTCP before
/// Linux 5.14).
fn peek(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<Option<usize>> {
    let mut offset = (-1_i32).to_ne_bytes();
    // Where the kernel does not have the option, there is no offset.
    let _ = option(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &mut offset);
    if i32::from_ne_bytes(offset) >= 0 {
        return Ok(None);
    }
    match recv(socket, room, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
        Ok((len, _)) => Ok(Some(len)),
        Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Wire for Stream {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await?;
        self.flush().await
    }

    async fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.read(room).await
    }
}

/// A handshake that came to nothing.
pub(crate) struct Broken {
    pub(crate) failure: Failure,
    /// Was the request itself sent already?
    pub(crate) has_asked: bool,
    /// Has the proxy said anything at all?
    pub(crate) has_heard: bool,
}

/// Does what the handshake says until it ends. `may_take_all`: whether the proxy's answer, once it has been asked, may take as long as the whole does.
///
/// # Errors
/// [`Broken`] as the proxy or the clock has it.
pub(crate) async fn negotiate(
    wire: &mut impl Wire,
    handshake: &mut Handshake<'_>,
    limits: &Limits,
    may_take_all: bool,
) -> Result<(), Broken> {
    let handshake_end = Instant::now() + limits.handshake;
    let mut has_heard = false;
    loop {
        let has_asked = handshake.has_asked();
        let outcome = {
            // By reference: a future that is handed on by value has room in each that it goes through.
            let step = pin!(converse(wire, handshake, has_asked, &mut has_heard));
            if may_take_all && has_asked {
                limits.all_in_all(step).await
            } else {
                let left = handshake_end.saturating_duration_since(Instant::now());
                // What is said is the limit, not what was left of it.
                let said = |time| if time == left { limits.handshake } else { time };
                limits.within(left, step).await.map_err(said)
            }
        };
        let broken = |failure| {
            let failure = handshake.refusal().map_or(failure, Failure::Handshake);
            Broken { failure, has_asked: handshake.has_asked(), has_heard }
        };
        match outcome {
            Ok(Ok(Progress::Connected)) => return Ok(()),
            Ok(Ok(Progress::HasAsked)) => {}
            Ok(Err(failure)) => return Err(broken(failure)),
            Err(limit) if !has_asked => return Err(broken(Failure::GreetingTimeout(limit, has_heard))),
            Err(limit) => return Err(broken(Failure::AnswerTimeout(limit))),
        }
    }
}

/// Waits for what a proxy says later, when it has been asked: for as long as it takes.
///
/// # Errors
/// [`Failure`] as the proxy has it.
pub(crate) async fn hear(wire: &mut impl Wire, handshake: &mut Handshake<'_>) -> Result<(), Failure> {
    converse(wire, handshake, true, &mut true).await.map(drop)
}

enum Progress {
    /// From here on another limit may count.
    HasAsked,
    Connected,
}

/// Until the far end is connected, or the request has been sent.
async fn converse(
    wire: &mut impl Wire,
    handshake: &mut Handshake<'_>,
    had_asked: bool,
    has_heard: &mut bool,
) -> Result<Progress, Failure> {
    let broken = |error| Failure::ProxyClosed(Some(error));
    let mut buffer = [0; 512];
    loop {
        let wanted = match handshake.next_step() {
            Step::Connected => return Ok(Progress::Connected),
            Step::Send(bytes) => {
                wire.send(bytes).await.map_err(broken)?;
                if handshake.has_asked() && !had_asked {
                    return Ok(Progress::HasAsked);
                }
                continue;
            }
            Step::Receive(wanted) => wanted,
        };
        // HTTP's answer does not say how long it is.
        let wanted = match handshake {
            Handshake::Http(http) => match wire.peek(&mut buffer).await.map_err(broken)? {
                // At the end receive() says that it is the end.
                Some(seen) => http.part(buffer.get(..seen).unwrap_or(&[])).max(1),
                None => wanted,
            },
            Handshake::Socks5(_) | Handshake::Socks4(_) => wanted,
        };
        // Not one byte more: the next one belongs to the program.
        let room = buffer.get_mut(..wanted).ok_or(Failure::ProxyClosed(None))?;
        let len = wire.receive(room).await.map_err(broken)?;
        if len == 0 {
            return Err(match handshake {
                _ if handshake.awaits_reply() => Failure::NoReply,
                _ if *has_heard => Failure::ProxyClosed(None),
                Handshake::Socks5(_) => Failure::ClosedUnheard(Kind::Socks5),
                Handshake::Socks4(_) => Failure::ClosedUnheard(Kind::Socks4),
                Handshake::Http(_) => Failure::ClosedUnheard(Kind::Http),
            });
        }
        *has_heard = true;
        handshake.handle_input(buffer.get(..len).unwrap_or(&[])).map_err(Failure::Handshake)?;
    }
}

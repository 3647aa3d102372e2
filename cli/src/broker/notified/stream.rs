//! One message of a caught send with an address on TCP or MPTCP. The kernel ignores the address, and sends to the socket's peer; with `MSG_FASTOPEN`
//! (tcp(7)) it connects the socket first.
//!
//! The data is sent from here as the kernel would send it: on a blocking socket all of it, unless a signal or the time limit comes before; what there is room
//! for, if the call is not to wait.

use std::os::fd::AsFd as _;
use std::rc::Rc;

use presocks_abi::decision::Connect;
use presocks_abi::sockaddr::{Encoded, Given};
use rustix::io::Errno;

use super::message::{Message, transmit};
use super::payload::{Payload, is_zero_copy, payload, total};
use super::wait::{Stop, Wait};
use super::{Address, Caller, Taken, connect, decide, is_being_connected, loopback, nowhere};
use crate::seccomp::call::Span;

/// Sends it; how much was sent, and whether that is all.
///
/// # Errors
/// What has ended the call before a byte was sent.
pub(super) async fn send(
    caller: &Rc<Caller>,
    taken: &Taken,
    message: &Message,
    flags: i32,
) -> Result<(usize, bool), Stop> {
    message.is_not_routed()?;
    let parts = message.parts(caller).map_err(Stop::Unseen)?;
    let mut stream = Stream { caller, taken, parts, wait: Wait::new(&taken.fd, flags), flags, sent: 0 };
    if let Some(address) = message.address.as_ref().filter(|_| flags & libc::MSG_FASTOPEN != 0) {
        stream.open(address).await?;
    }
    match stream.finish(&message.control).await {
        Err(Stop::Gone) => Err(Stop::Gone),
        Err(stop) if stream.sent == 0 => Err(stop),
        // What has stopped it is for the next call to find.
        Ok(()) | Err(_) => Ok((stream.sent, stream.sent as u64 == total(&stream.parts))),
    }
}

/// The message's data on its way.
struct Stream<'a> {
    caller: &'a Rc<Caller>,
    taken: &'a Taken,
    parts: Vec<Span>,
    wait: Wait,
    flags: i32,
    sent: usize,
}

impl Stream<'_> {
    /// `MSG_FASTOPEN`: connects. The first bytes may go with it.
    async fn open(&mut self, address: &Address) -> Result<(), Stop> {
        let Given::Ip(destination) = address.given() else {
            // `AF_UNSPEC` too: unlike connect(), this disconnects nothing.
            return Ok(self.open_in_kernel(address.bytes())??);
        };
        match decide(self.caller, self.taken, destination)? {
            Connect::Refused => Ok(self.open_in_kernel(Encoded::new(nowhere(destination)).as_bytes())??),
            Connect::Loopback => {
                let program = self.caller.program();
                self.caller
                    .supervisor
                    .connector
                    .permit_on_loopback(destination, &program)
                    .map_err(Stop::errno)?;
                if let Some(outcome) = loopback::prepare(self.taken, destination) {
                    return outcome.map_err(Stop::from);
                }
                match self.open_in_kernel(Encoded::new(destination).as_bytes())? {
                    Err(begun @ (Errno::INPROGRESS | Errno::ALREADY)) if self.wait.is_allowed() => {
                        loopback::wait(self.caller, self.taken, destination, &mut self.wait, begun).await
                    }
                    decided => Ok(decided?),
                }
            }
            Connect::OutOfReach | Connect::Unreachable | Connect::Datagram => {
                Err(Stop::errno(libc::ENETUNREACH))
            }
            Connect::UnderWay | Connect::Broker => {
                let taken = self.taken.try_clone().map_err(Stop::Unseen)?;
                match connect::wait(self.caller, taken, destination).await {
                    Some(0) => Ok(()),
                    Some(errno) => Err(Stop::errno(errno)),
                    None => Err(Stop::Gone),
                }
            }
        }
    }

    /// To an address that leads nowhere off the machine: the kernel's to refuse, or to connect to.
    fn open_in_kernel(&mut self, address: &[u8]) -> Result<rustix::io::Result<()>, Stop> {
        let data = self.next()?;
        let sent = transmit(self.caller, self.taken.fd.as_fd(), &data, &[], Some(address), self.flags);
        Ok(sent.map(|sent| self.sent = sent))
    }

    /// Sends to the peer what is left.
    async fn finish(&mut self, control: &[u8]) -> Result<(), Stop> {
        let all = total(&self.parts);
        // Without an address nothing is opened.
        let flags = self.flags & !libc::MSG_FASTOPEN;
        // One call is told of once.
        let is_zero_copy = is_zero_copy(&self.taken.fd, flags);
        loop {
            let data = self.next()?;
            let is_last = self.sent as u64 + data.len() as u64 >= all;
            let flags = if is_last { flags } else { flags & !(libc::MSG_OOB | libc::MSG_EOR) };
            match self.transmit(&data, control, flags) {
                Ok(sent) => {
                    self.sent += sent;
                    self.wait.has_helped();
                    if self.sent as u64 >= all || is_zero_copy {
                        return Ok(());
                    }
                    // While one program sends very much, others have their turn.
                    tokio::task::yield_now().await;
                }
                Err(Errno::AGAIN) if self.may_wait() => {
                    self.wait.until_writable(self.caller, &self.taken.fd, libc::EAGAIN).await?;
                }
                Err(Errno::PIPE) => return Err(Stop::BrokenPipe),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where signals interrupt a call that waits for us, it would be made again after the handler: what was sent would be sent twice.
    fn may_wait(&self) -> bool {
        self.wait.is_allowed() && (self.sent == 0 || self.caller.listener.holds_signals())
    }

    fn next(&self) -> Result<Payload, Stop> {
        payload(self.caller, &self.taken.fd, &self.parts, self.sent as u64, self.flags).map_err(Stop::Unseen)
    }

    fn transmit(&self, data: &Payload, control: &[u8], flags: i32) -> rustix::io::Result<usize> {
        // Nothing of the program's goes into a handshake.
        if is_being_connected(self.caller, &self.taken.fd).unwrap_or(false) {
            return Err(Errno::AGAIN);
        }
        transmit(self.caller, self.taken.fd.as_fd(), data, control, None, flags)
    }
}

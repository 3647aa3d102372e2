//! What the broker and the front tell each other, over a socket pair that only they have.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::process::{Pid, number};

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The process of this number is about to become the command; it says so itself, so that it is known however early the broker
    /// is killed.
    Forked(Pid),
    /// The command runs under this process number.
    Started(Pid),
    /// This process will not become the command, as the broker does not go on with it; it says so itself, too.
    Abandoned,
    /// The command could not be executed, for this errno; its process says so itself.
    NotExecuted(i32),
    /// The command could not be started, for this errno: our fault.
    NotStarted(i32),
    /// The command was not run, and the broker has said why.
    Refused,
    /// The command was stopped by this signal.
    Stopped(i32),
    /// The command exited with this status.
    Exited(i32),
    /// The command was ended by this signal.
    Killed(i32),
    /// The front wants to know whether the broker answers.
    Ask,
    /// It does.
    Alive,
}

/// One end of the pair.
pub(crate) struct Messenger(OwnedFd);

/// The front as the broker knows it.
pub(crate) struct Front {
    pub(crate) messenger: Messenger,
    /// Its process number, good for as long as it holds its end of the pair.
    pub(crate) number: Pid,
}

impl Messenger {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends, and never waits: who is stopped reads nothing, and who is gone needs no message. What may come often is
    /// left out when many messages wait; the few others then still have room, for a socket counts as writable only while most
    /// of its room is free (unix(7), `unix_writable` in the kernel).
    pub(crate) fn send(&self, message: &Message) {
        let may_come_often = matches!(message, Message::Stopped(_) | Message::Ask | Message::Alive);
        if may_come_often && !self.is_writable() {
            return;
        }
        let (kind, value) = match *message {
            Message::Started(pid) => (1, pid),
            Message::NotExecuted(errno) => (2, errno),
            Message::NotStarted(errno) => (3, errno),
            Message::Stopped(signal) => (4, signal),
            Message::Exited(status) => (5, status),
            Message::Killed(signal) => (6, signal),
            Message::Forked(pid) => (7, pid),
            Message::Refused => (8, 0),
            Message::Abandoned => (9, 0),
            Message::Ask => (10, 0),
            Message::Alive => (11, 0),
        };
        let mut packet = [0; 8];
        let (first, second) = packet.split_at_mut(4);
        first.copy_from_slice(&i32::to_ne_bytes(kind));
        second.copy_from_slice(&value.to_ne_bytes());
        let _ = send(&self.0, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    fn is_writable(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], Some(&now)) == Ok(1)
    }

    /// The next message, of one that is there; `None` when the other side is gone.
    ///
    /// # Errors
    /// Those of recv(2), `WouldBlock` when there is none, and `InvalidData` for a packet that no sender writes.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        let mut packet = [0_u8; 8];
        let receive = |packet: &mut [u8]| recv(&self.0, packet, RecvFlags::DONTWAIT);
        // Who ends with packets of ours unread resets the pair, and this is told once, before what was sent to us.
        let received = match receive(&mut packet) {
            Err(rustix::io::Errno::CONNRESET) => receive(&mut packet),
            received => received,
        };
        let len = match received {
            Ok((0, _)) => return Ok(None),
            Ok((len, _)) => len,
            Err(error) => return Err(error.into()),
        };
        let (kind, value) = packet.split_at(4);
        let read = |bytes: &[u8]| bytes.try_into().map_or(0, i32::from_ne_bytes);
        let value = read(value);
        match (read(kind), len) {
            (1, 8) => Ok(Some(Message::Started(value))),
            (2, 8) => Ok(Some(Message::NotExecuted(value))),
            (3, 8) => Ok(Some(Message::NotStarted(value))),
            (4, 8) => Ok(Some(Message::Stopped(value))),
            (5, 8) => Ok(Some(Message::Exited(value))),
            (6, 8) => Ok(Some(Message::Killed(value))),
            (7, 8) => Ok(Some(Message::Forked(value))),
            (8, 8) => Ok(Some(Message::Refused)),
            (9, 8) => Ok(Some(Message::Abandoned)),
            (10, 8) => Ok(Some(Message::Ask)),
            (11, 8) => Ok(Some(Message::Alive)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The descriptor's number.
    pub(crate) fn number(&self) -> RawFd {
        number(&self.0)
    }
}

impl AsFd for Messenger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (Messenger, Messenger) {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (Messenger::new(one), Messenger::new(other))
    }

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let (broker, front) = pair();
        for message in [
            Message::Forked(7),
            Message::Started(i32::MAX),
            Message::Abandoned,
            Message::NotExecuted(libc::ENOENT),
            Message::NotStarted(libc::EAGAIN),
            Message::Refused,
            Message::Stopped(libc::SIGTSTP),
            Message::Exited(255),
            Message::Killed(libc::SIGKILL),
            Message::Ask,
            Message::Alive,
        ] {
            broker.send(&message);
            assert_eq!(front.receive().unwrap(), Some(message));
        }
        assert_eq!(front.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_was_sent_arrives_though_the_sender_has_ended_and_read_nothing() {
        let (broker, front) = pair();
        front.send(&Message::Ask);
        broker.send(&Message::Killed(libc::SIGTERM));
        drop(broker);
        assert_eq!(front.receive().unwrap(), Some(Message::Killed(libc::SIGTERM)));
        assert_eq!(front.receive().unwrap(), None);
        // Nobody is there to whom it could be sent, and nothing comes of it.
        front.send(&Message::Ask);
    }

    #[test]
    fn what_may_come_often_leaves_room_for_what_may_not() {
        let (broker, front) = pair();
        for _ in 0..100_000 {
            broker.send(&Message::Stopped(libc::SIGTSTP));
        }
        broker.send(&Message::Exited(0));
        let mut last = None;
        while let Ok(Some(message)) = front.receive() {
            last = Some(message);
        }
        assert_eq!(last, Some(Message::Exited(0)));
    }
}

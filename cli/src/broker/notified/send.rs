//! Caught sends: sendto(), sendmsg(), sendmmsg().
//!
//! | what | then |
//! | --- | --- |
//! | no message has an address, or names a device or a source | continues: it goes to the peer of the socket, whichever socket that is |
//! | a Unix or netlink socket, and addresses of other families than IP | continues: only the kernel can send there with the program's own credentials |
//! | such a socket, and another address | refused here, as the kernel refuses it |
//! | TCP, MPTCP | sent from here (`stream`) |
//! | UDP | sent from here (`datagram`) |
//! | any other socket | `ENETUNREACH` |
//!
//! What is sent from here is sent on the descriptor that was looked at and to the address that was read, whatever the program's threads do meanwhile.

use std::os::fd::{AsFd as _, RawFd};
use std::rc::Rc;

use presocks_abi::sockaddr::Given;
use presocks_abi::socket::Kind;
use rustix::io::Errno;
use rustix::net::{SocketType, getpeername, sockopt};
use tokio::task::spawn_local;

use super::message::{Message, transmit};
use super::payload::{Payload, total};
use super::wait::Stop;
use super::{Caller, Judged, Taken, datagram, errno, now, stream};
use crate::seccomp::call::{Call, Layout};
use crate::seccomp::listener::Answer;
use crate::seccomp::target::signal;

/// A call of the send family.
struct Sending {
    flags: i32,
    messages: Vec<Message>,
    /// sendmmsg(2): where the first message's length goes, and the layout that says where the next one's does.
    lengths: Option<(u64, Layout)>,
}

pub(super) fn judge(caller: &Rc<Caller>, call: Call, layout: Layout) -> Judged {
    let (fd, send) = match call {
        Call::SendTo { fd, data, flags, address } => {
            let messages = vec![Message::flat(caller, data, address)?];
            (fd, Sending { flags, messages, lengths: None })
        }
        Call::SendMessage { fd, header, flags } => {
            let messages = vec![Message::with_header(caller, header, layout)?];
            (fd, Sending { flags, messages, lengths: None })
        }
        Call::SendMessages { fd, headers, count, flags } => {
            let mut messages = Vec::new();
            for index in 0..count {
                match Message::with_header(caller, headers + index * layout.next_header(), layout) {
                    Ok(message) => messages.push(message),
                    // The kernel, too, sends what comes before.
                    Err(_) if index > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            (fd, Sending { flags, messages, lengths: Some((headers + layout.sent(), layout)) })
        }
        // Not called for any other.
        _ => return errno(libc::ENOSYS),
    };
    if let [first, ..] = &send.messages[..] {
        first.is_not_routed()?;
    }
    judge_read(caller, fd, send)
}

fn judge_read(caller: &Rc<Caller>, fd: RawFd, send: Sending) -> Judged {
    let messages = &send.messages;
    let is_plain = !messages.iter().any(|message| message.names_a_device() || message.source().is_some());
    if is_plain && messages.iter().all(|message| message.address.is_none()) {
        // Continue: there is no address. It goes to the peer of whatever socket that is.
        return now(Answer::Continue);
    }
    let taken = caller.take(fd)?;
    match taken.kind {
        Kind::NotIp if is_plain && messages.iter().all(is_for_another_family) => {
            // Continue: from an IP socket such an address leads nowhere.
            now(Answer::Continue)
        }
        Kind::NotIp => errno(refusal(caller, &taken, &send)),
        Kind::Refused => errno(libc::ENETUNREACH),
        Kind::Stream | Kind::Datagram => {
            spawn_local(serve(Rc::clone(caller), taken, send));
            Ok(None)
        }
    }
}

fn is_for_another_family(message: &Message) -> bool {
    message.address.as_ref().is_none_or(|address| address.given() == Given::Other)
}

/// What the kernel says to an address of IP's on a Unix or netlink socket. It says so before it looks at the data.
fn refusal(caller: &Caller, taken: &Taken, send: &Sending) -> i32 {
    let socket = taken.fd.as_fd();
    let Some(address) = send.messages.first().and_then(|message| message.address.as_ref()) else {
        // Behind messages that only the kernel could send.
        return libc::EINVAL;
    };
    // The kernel ignores the address here. But the receiver would be told the broker's credentials: this is not ours to send.
    if sockopt::socket_type(socket) == Ok(SocketType::SEQPACKET) {
        let is_connected = getpeername(socket).is_ok();
        return if is_connected { libc::EINVAL } else { libc::ENOTCONN };
    }
    if address.given() == Given::Other {
        return libc::EINVAL;
    }
    let parts = send.messages.first().map(|message| message.parts(caller));
    let is_empty = parts.is_some_and(|parts| parts.is_ok_and(|parts| total(&parts) == 0));
    let data = Payload::Bytes(if is_empty { vec![] } else { vec![0] });
    let refused = transmit(caller, socket, &data, &[], Some(address.bytes()), send.flags);
    refused.err().map_or(libc::EINVAL, Errno::raw_os_error)
}

/// Sends the messages one after the other, and answers the call.
async fn serve(caller: Rc<Caller>, taken: Taken, send: Sending) {
    let mut done = 0;
    let mut sent_last = 0;
    let mut stopped = None;
    for message in &send.messages {
        let sent = match taken.kind {
            Kind::Stream => stream::send(&caller, &taken, message, send.flags).await,
            _ => datagram::send(&caller, &taken, message, send.flags).await.map(|len| (len, true)),
        };
        match sent.and_then(|(len, is_whole)| send.note(&caller, done, len).map(|()| (len, is_whole))) {
            Ok((len, is_whole)) => {
                (sent_last, done) = (len, done + 1);
                if !is_whole {
                    break;
                }
                // While one program sends very many, others have their turn.
                tokio::task::yield_now().await;
            }
            Err(stop) => {
                stopped = Some(stop);
                break;
            }
        }
    }
    let value = if send.lengths.is_some() { done as usize } else { sent_last };
    let sent = (done > 0).then(|| Answer::Value(i64::try_from(value).unwrap_or(i64::MAX)));
    match (stopped, sent) {
        (Some(Stop::Gone), _) => {}
        (Some(Stop::BrokenPipe), sent) => caller.break_pipe(sent, send.flags),
        // What has stopped the next message is for the next call to find.
        (_, Some(sent)) => caller.answer(sent),
        (Some(Stop::Answer(answer)), None) => caller.answer(answer),
        (Some(Stop::Unseen(error)), None) => caller.fail(&error),
        (None, None) => caller.answer(Answer::Value(0)),
    }
}

impl Sending {
    /// Tells the program how much of one message of many was sent.
    fn note(&self, caller: &Caller, index: u64, sent: usize) -> Result<(), Stop> {
        let Some((first, layout)) = self.lengths else { return Ok(()) };
        let len = u32::try_from(sent).unwrap_or(u32::MAX).to_ne_bytes();
        let memory = caller.memory().map_err(Stop::Unseen)?;
        memory.write(first + index * layout.next_header(), &len).map_err(Stop::Unseen)
    }
}

impl Caller {
    /// Answers with `EPIPE`, or with what was `sent` before; its thread gets SIGPIPE, unless the flags say otherwise.
    fn break_pipe(&self, sent: Option<Answer>, flags: i32) {
        let raises = flags & libc::MSG_NOSIGNAL == 0 && self.waits();
        // Before the answer, as from the kernel. Where that would interrupt the call, it would be made again after a handler, for ever.
        let is_first = self.listener.holds_signals();
        if raises && is_first {
            signal(self.thread(), libc::SIGPIPE);
        }
        self.answer(sent.unwrap_or(Answer::Errno(libc::EPIPE)));
        if raises && !is_first {
            signal(self.thread(), libc::SIGPIPE);
        }
    }
}

//! What a call asks for: registers, and structures in the caller's memory, as values.
//!
//! Everything is read once, here; what is judged is what was read. 32-bit programs have narrower structures, and i386 also one call
//! for all of them (socketcall(2)).

use std::io;
use std::os::fd::RawFd;

use libc::c_int;
use presocks_abi::control::Width;
use rustix::io::Errno;

use super::filter::{Abi, NARROW, NATIVE, within_socketcall};
use super::listener::Notification;
use super::target::{Memory, read};

/// Bytes in the caller's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) at: u64,
    pub(crate) len: u64,
}

/// A call that the filter brings before the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// socket(2), by socketcall(2): elsewhere the filter sees the arguments.
    Socket { domain: c_int, kind: c_int, protocol: c_int },
    /// connect(2).
    Connect { fd: RawFd, address: Span },
    /// sendto(2); without an address it is of no interest.
    SendTo { fd: RawFd, data: Span, flags: c_int, address: Span },
    /// sendmsg(2): where the header is.
    SendMessage { fd: RawFd, header: u64, flags: c_int },
    /// sendmmsg(2): where the first header is, and how many follow each other.
    SendMessages { fd: RawFd, headers: u64, count: u64, flags: c_int },
    /// recvfrom(2): where the sender's address goes, and where its length is.
    ReceiveFrom { fd: RawFd, data: Span, flags: c_int, address: u64, len: u64 },
    /// recvmsg(2).
    ReceiveMessage { fd: RawFd, header: u64, flags: c_int },
    /// recvmmsg(2).
    ReceiveMessages { fd: RawFd, headers: u64, flags: c_int },
    /// getpeername(2).
    PeerName { fd: RawFd, address: u64, len: u64 },
    /// setsockopt(2).
    SetOption { fd: RawFd, level: c_int, name: c_int, value: Span },
    /// bind(2).
    Bind { fd: RawFd, address: Span },
    /// listen(2).
    Listen { fd: RawFd, backlog: c_int },
    /// getsockname(2).
    OwnName { fd: RawFd, address: u64, len: u64 },
    /// seccomp(2) for a filter with a listener.
    Supervise { filter: u64 },
}

/// `struct msghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Where it is.
    at: u64,
    pub(crate) name: Span,
    parts: Span,
    pub(crate) control: Span,
}

/// The kernel takes no more parts (`UIO_MAXIOV`).
const MOST_PARTS: u64 = 1024;

/// The most that one datagram, or one send of ours, carries.
pub(crate) const MOST_DATA: usize = 65_536;

/// How the caller's structures are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout(Width);

impl Layout {
    pub(crate) fn width(self) -> Width {
        self.0
    }

    fn word(self) -> usize {
        match self.0 {
            Width::W32 => 4,
            Width::W64 => 8,
        }
    }

    /// `struct msghdr`: name, its length, parts, their number, control messages, their length, flags; each in a word.
    const HEADER_WORDS: usize = 7;

    /// Where `msg_flags` is in a `struct msghdr`.
    fn flags(self) -> u64 {
        6 * self.word() as u64
    }

    /// `struct mmsghdr` is a header and an `int`, with the header's alignment.
    pub(crate) fn next_header(self) -> u64 {
        (Self::HEADER_WORDS * self.word() + self.word()) as u64
    }

    /// Where a `struct mmsghdr` has the length of what was sent or received.
    pub(crate) fn sent(self) -> u64 {
        (Self::HEADER_WORDS * self.word()) as u64
    }

    fn words<const COUNT: usize>(self, bytes: &[u8]) -> [u64; COUNT] {
        let mut words = [0; COUNT];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(self.word())) {
            *word = match self.0 {
                Width::W32 => bytes.try_into().map_or(0, u32::from_ne_bytes).into(),
                Width::W64 => bytes.try_into().map_or(0, u64::from_ne_bytes),
            };
        }
        words
    }
}

/// What a notification is about. `None`: nothing that the filter asks for.
///
/// # Errors
/// `EFAULT` when the arguments are not where they should be; those of process_vm_readv(2).
pub(crate) fn decode(notification: &Notification) -> io::Result<Option<(Call, Layout)>> {
    let abi = [&NATIVE, &NARROW].into_iter().find(|abi| abi.arch == notification.arch);
    let Some(abi) = abi else { return Ok(None) };
    let layout = Layout(if abi.is_narrow { Width::W32 } else { Width::W64 });
    if abi.socketcall == Some(notification.number) {
        return Ok(within(notification)?.map(|call| (call, layout)));
    }
    // Of a 32-bit call the kernel takes the lower halves.
    let arguments =
        notification.arguments.map(|argument| if abi.is_narrow { argument & 0xffff_ffff } else { argument });
    Ok(direct(abi, notification.number, arguments).map(|call| (call, layout)))
}

fn direct(abi: &Abi, number: u32, arguments: [u64; 6]) -> Option<Call> {
    let [_, _, third, ..] = arguments;
    let call = match number {
        n if n == abi.socket => within_socketcall::SOCKET,
        n if n == abi.connect => within_socketcall::CONNECT,
        n if n == abi.sendto => within_socketcall::SENDTO,
        n if n == abi.sendmsg => within_socketcall::SENDMSG,
        n if n == abi.sendmmsg => within_socketcall::SENDMMSG,
        n if n == abi.recvfrom => within_socketcall::RECVFROM,
        n if n == abi.recvmsg => within_socketcall::RECVMSG,
        n if abi.recvmmsg.contains(&n) => within_socketcall::RECVMMSG,
        n if n == abi.getpeername => within_socketcall::GETPEERNAME,
        n if n == abi.setsockopt => within_socketcall::SETSOCKOPT,
        n if n == abi.bind => within_socketcall::BIND,
        n if n == abi.listen => within_socketcall::LISTEN,
        n if n == abi.getsockname => within_socketcall::GETSOCKNAME,
        n if n == abi.seccomp => return Some(Call::Supervise { filter: third }),
        _ => return None,
    };
    of_kind(call, arguments)
}

/// socketcall(2): the first argument says which call, the second where its arguments are.
fn within(notification: &Notification) -> io::Result<Option<Call>> {
    let [call, at, ..] = notification.arguments.map(|argument| argument & 0xffff_ffff);
    // As many as each takes (net/socket.c): more may not be there.
    let count = match u32::try_from(call).unwrap_or(0) {
        within_socketcall::SENDTO | within_socketcall::RECVFROM => 6,
        within_socketcall::SETSOCKOPT | within_socketcall::RECVMMSG => 5,
        within_socketcall::SENDMMSG => 4,
        within_socketcall::LISTEN => 2,
        _ => 3,
    };
    let mut bytes = [0; 6 * 4];
    let given = bytes.get_mut(..count * 4).unwrap_or(&mut []);
    read(notification.thread, at, given)?;
    let arguments = Layout(Width::W32).words(given);
    Ok(of_kind(u32::try_from(call).unwrap_or(0), arguments))
}

fn of_kind(call: u32, arguments: [u64; 6]) -> Option<Call> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // What the kernel makes of a register that holds an int.
    let int = |register: u64| (register & 0xffff_ffff) as u32 as c_int;
    let len = |register: u64| register & 0xffff_ffff;
    let fd = int(first);
    Some(match call {
        within_socketcall::SOCKET => Call::Socket { domain: fd, kind: int(second), protocol: int(third) },
        within_socketcall::CONNECT => Call::Connect { fd, address: Span { at: second, len: len(third) } },
        within_socketcall::SENDTO => Call::SendTo {
            fd,
            data: Span { at: second, len: third },
            flags: int(fourth),
            address: Span { at: fifth, len: len(sixth) },
        },
        within_socketcall::SENDMSG => Call::SendMessage { fd, header: second, flags: int(third) },
        within_socketcall::SENDMMSG => {
            Call::SendMessages { fd, headers: second, count: len(third).min(MOST_PARTS), flags: int(fourth) }
        }
        within_socketcall::RECVFROM => Call::ReceiveFrom {
            fd,
            data: Span { at: second, len: third },
            flags: int(fourth),
            address: fifth,
            len: sixth,
        },
        within_socketcall::RECVMSG => Call::ReceiveMessage { fd, header: second, flags: int(third) },
        within_socketcall::RECVMMSG => Call::ReceiveMessages { fd, headers: second, flags: int(fourth) },
        within_socketcall::GETPEERNAME => Call::PeerName { fd, address: second, len: third },
        within_socketcall::GETSOCKNAME => Call::OwnName { fd, address: second, len: third },
        within_socketcall::BIND => Call::Bind { fd, address: Span { at: second, len: len(third) } },
        within_socketcall::LISTEN => Call::Listen { fd, backlog: int(second) },
        within_socketcall::SETSOCKOPT => Call::SetOption {
            fd,
            level: int(second),
            name: int(third),
            value: Span { at: fourth, len: len(fifth) },
        },
        _ => return None,
    })
}

impl Span {
    /// Its first bytes, no more than `buffer` takes.
    ///
    /// # Errors
    /// `EFAULT` when they are not all there.
    pub(crate) fn read_into<'a>(&self, thread: i32, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..len).unwrap_or(&mut []);
        read(thread, self.at, part)?;
        Ok(part)
    }
}

impl Header {
    /// # Errors
    /// `EFAULT` when there is none, `EINVAL` for a name of negative length.
    pub(crate) fn read(thread: i32, at: u64, layout: Layout) -> io::Result<Self> {
        let mut bytes = [0; Layout::HEADER_WORDS * 8];
        let part = bytes.get_mut(..Layout::HEADER_WORDS * layout.word()).unwrap_or(&mut []);
        read(thread, at, part)?;
        let [name, name_len, parts, count, control, control_len, _] = layout.words(part);
        // An int, in a word.
        let name_len = u64::try_from((name_len & 0xffff_ffff) as u32 as c_int).map_err(|_| Errno::INVAL)?;
        Ok(Self {
            at,
            name: Span { at: name, len: if name == 0 { 0 } else { name_len } },
            parts: Span { at: parts, len: count },
            control: Span { at: control, len: if control == 0 { 0 } else { control_len } },
        })
    }

    /// The places of the data (`struct iovec`).
    ///
    /// # Errors
    /// `EMSGSIZE` for too many, `EFAULT`.
    pub(crate) fn parts(&self, thread: i32, layout: Layout) -> io::Result<Vec<Span>> {
        if self.parts.len > MOST_PARTS {
            return Err(Errno::MSGSIZE.into());
        }
        let each = 2 * layout.word();
        let mut bytes = vec![0; usize::try_from(self.parts.len).unwrap_or(0) * each];
        read(thread, self.parts.at, &mut bytes)?;
        Ok(bytes
            .chunks_exact(each)
            .map(|part| {
                let [at, len] = layout.words(part);
                Span { at, len }
            })
            .collect())
    }

    /// After a receive: the sender's address, as far as there is room, no control messages, and the flags.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) fn answer(
        &self,
        memory: &Memory,
        layout: Layout,
        sender: &[u8],
        flags: c_int,
    ) -> io::Result<()> {
        if self.name.at != 0 {
            write_address(memory, self.name.at, self.name.len, sender)?;
            memory.write(self.at + layout.word() as u64, &(sender.len() as u32).to_ne_bytes())?;
        }
        let word = layout.word() as u64;
        let none = match layout.0 {
            Width::W32 => &[0; 4][..],
            Width::W64 => &[0; 8],
        };
        memory.write(self.at + 5 * word, none)?;
        memory.write(self.at + layout.flags(), &flags.to_ne_bytes())
    }
}

/// Writes an address as far as there is room.
///
/// # Errors
/// `EFAULT`.
fn write_address(memory: &Memory, at: u64, room: u64, address: &[u8]) -> io::Result<()> {
    let len = usize::try_from(room).unwrap_or(usize::MAX).min(address.len());
    memory.write(at, address.get(..len).unwrap_or(address))
}

/// An address and its length as accept(2), getpeername(2) and recvfrom(2) return them: where the length is there was the room.
///
/// # Errors
/// `EFAULT`, and `EINVAL` for a negative length.
pub(crate) fn return_address(
    thread: i32,
    memory: &Memory,
    at: u64,
    len: u64,
    address: &[u8],
) -> io::Result<()> {
    let mut room = [0; 4];
    read(thread, len, &mut room)?;
    let room = u64::try_from(c_int::from_ne_bytes(room)).map_err(|_| Errno::INVAL)?;
    write_address(memory, at, room, address)?;
    memory.write(len, &(address.len() as u32).to_ne_bytes())
}

/// The bytes of all parts, one after the other, without the first `skipped` ones; at most [`MOST_DATA`].
///
/// # Errors
/// `EFAULT`.
pub(crate) fn gather(thread: i32, parts: &[Span], mut skipped: u64) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    for part in parts {
        let passed = skipped.min(part.len);
        skipped -= passed;
        let room = (MOST_DATA - data.len()).min(usize::try_from(part.len - passed).unwrap_or(usize::MAX));
        let start = data.len();
        data.resize(start + room, 0);
        read(thread, part.at.wrapping_add(passed), data.get_mut(start..).unwrap_or(&mut []))?;
    }
    Ok(data)
}

/// The other way: `data` into the parts; how much they took.
///
/// # Errors
/// `EFAULT`.
pub(crate) fn scatter(memory: &Memory, parts: &[Span], mut data: &[u8]) -> io::Result<usize> {
    let all = data.len();
    for part in parts {
        let (now, later) = data.split_at(data.len().min(usize::try_from(part.len).unwrap_or(usize::MAX)));
        memory.write(part.at, now)?;
        data = later;
    }
    Ok(all - data.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_gathered_from_its_parts_from_any_place_on() {
        let all = *b"presocks";
        let at = std::hint::black_box(&all).as_ptr().expose_provenance() as u64;
        let parts = [Span { at, len: 3 }, Span { at: 8, len: 0 }, Span { at: at + 3, len: 5 }];
        let thread = rustix::thread::gettid().as_raw_pid();
        for skipped in 0..=all.len() {
            assert_eq!(gather(thread, &parts, skipped as u64).unwrap(), all[skipped..], "{skipped}");
        }
        assert_eq!(gather(thread, &parts, 100).unwrap(), []);
        let much = [Span { at, len: 8 }; MOST_DATA / 8 + 1];
        assert_eq!(gather(thread, &much, 8).unwrap().len(), MOST_DATA);
    }
}

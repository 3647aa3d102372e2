//! What the kernel is asked about this machine's links and addresses (rtnetlink(7)).
//!
//! libc asks in calls that no hook sees and the seccomp filter brings before the broker, which takes many times as long, and cannot be done for a
//! program that nobody may look into (`PR_SET_DUMPABLE`). These carry the pass.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ptr::{null_mut, slice_from_raw_parts_mut};

use libc::c_int;

use crate::errno::Errno;
use crate::sys;

/// `struct nlmsghdr` (netlink(7)).
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`.
const INTERRUPTED: u16 = 0x10;

/// `struct ifaddrmsg` (rtnetlink(7)), and what may follow.
pub(crate) const ADDRESS: usize = 8;
pub(crate) const IFA_ADDRESS: u16 = 1;
pub(crate) const IFA_LOCAL: u16 = 2;
pub(crate) const IFA_LABEL: u16 = 3;
pub(crate) const IFA_BROADCAST: u16 = 4;
/// `struct ifinfomsg`, and what may follow.
pub(crate) const LINK: usize = 16;
pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_BROADCAST: u16 = 2;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_STATS: u16 = 7;

/// A dump's parts have at most 32 KiB (af_netlink.c).
const PART: usize = 32 * 1024;

/// A message of the kernel's.
pub(crate) struct Message<'dump> {
    pub(crate) kind: u16,
    pub(crate) body: &'dump [u8],
    flags: u16,
    sequence: u32,
}

/// All that there is of these kinds (`RTM_GETLINK`, `RTM_GETADDR`), one after the other.
///
/// # Errors
/// Those of netlink(7); `ENOMEM`.
pub(crate) fn ask(kinds: &[u16]) -> Result<Dump, Errno> {
    loop {
        let mut dump = Dump::new()?;
        let mut netlink = Netlink::open()?;
        match kinds.iter().try_for_each(|kind| netlink.ask(*kind, &mut dump)) {
            Err(libc::EAGAIN) => {}
            result => return result.map(|()| dump),
        }
    }
}

/// A socket to ask with; closed when dropped.
struct Netlink {
    fd: c_int,
    sequence: u32,
}

impl Netlink {
    fn open() -> Result<Self, Errno> {
        // Without a protocol it is NETLINK_ROUTE, whose number is 0.
        let fd = sys::own_socket(libc::AF_NETLINK, libc::SOCK_RAW)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Asks for one kind, which is added to `dump`.
    ///
    /// # Errors
    /// Those of netlink(7); `EAGAIN` when links or addresses have changed meanwhile.
    fn ask(&mut self, kind: u16, dump: &mut Dump) -> Result<(), Errno> {
        const REQUEST_DUMP: u16 = 0x301;
        const LEN: usize = 20;
        self.sequence += 1;
        let mut request = [0; LEN];
        put(&mut request, 0, &(LEN as u32).to_ne_bytes());
        put(&mut request, 4, &kind.to_ne_bytes());
        put(&mut request, 6, &REQUEST_DUMP.to_ne_bytes());
        put(&mut request, 8, &self.sequence.to_ne_bytes());
        sys::send_to_kernel(self.fd, &request)?;
        loop {
            let begins = dump.len;
            dump.receive(self.fd)?;
            let part = dump.bytes().get(begins..).unwrap_or_default();
            for message in Messages(part).filter(|message| message.sequence == self.sequence) {
                match message.kind {
                    _ if message.flags & INTERRUPTED != 0 => return Err(libc::EAGAIN),
                    DONE => return Ok(()),
                    ERROR => return Err(word(message.body, 0).cast_signed().wrapping_neg()),
                    _ => {}
                }
            }
        }
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        sys::close(self.fd);
    }
}

/// What the kernel has answered: memory of libc's, as libc itself takes it for this. (New pages take longer than the question.)
pub(crate) struct Dump {
    memory: *mut u8,
    size: usize,
    len: usize,
}

impl Dump {
    fn new() -> Result<Self, Errno> {
        let mut dump = Self { memory: null_mut(), size: 0, len: 0 };
        dump.resize(PART)?;
        Ok(dump)
    }

    fn resize(&mut self, size: usize) -> Result<(), Errno> {
        // SAFETY: null, or memory of libc's, to which nothing refers at the moment.
        let memory = unsafe { libc::realloc(self.memory.cast(), size) };
        if memory.is_null() {
            return Err(libc::ENOMEM);
        }
        (self.memory, self.size) = (memory.cast(), size);
        Ok(())
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        Messages(self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the kernel has written the first `len` bytes.
        unsafe { core::slice::from_raw_parts(self.memory, self.len) }
    }

    fn receive(&mut self, fd: c_int) -> Result<(), Errno> {
        if self.size - self.len < PART {
            self.resize(2 * self.size)?;
        }
        // SAFETY: `len` is at most `size`.
        let free = unsafe { self.memory.add(self.len) };
        // SAFETY: so many bytes are behind it, to which nothing else refers.
        let free =
            unsafe { &mut *slice_from_raw_parts_mut(free.cast::<MaybeUninit<u8>>(), self.size - self.len) };
        self.len += sys::receive_from_kernel(fd, free)?;
        Ok(())
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        // SAFETY: null, or memory of libc's that nobody else has.
        unsafe { libc::free(self.memory.cast()) };
    }
}

struct Messages<'dump>(&'dump [u8]);

impl<'dump> Iterator for Messages<'dump> {
    type Item = Message<'dump>;

    fn next(&mut self) -> Option<Self::Item> {
        let (message, rest) = cut(self.0, word(self.0, 0) as usize, HEADER)?;
        self.0 = rest;
        let body = message.get(HEADER..)?;
        Some(Message { kind: half(message, 4), flags: half(message, 6), sequence: word(message, 8), body })
    }
}

/// The attributes (`struct rtattr`) behind so many bytes of a message: what kind, what.
pub(crate) fn attributes(body: &[u8], behind: usize) -> impl Iterator<Item = (u16, &[u8])> {
    const HEADER: usize = 4;
    let mut rest = body.get(behind..).unwrap_or_default();
    core::iter::from_fn(move || {
        let (attribute, behind) = cut(rest, usize::from(half(rest, 0)), HEADER)?;
        rest = behind;
        Some((half(attribute, 2), attribute.get(HEADER..)?))
    })
}

/// What has this length, and what follows where four bytes are a unit. `None`: nothing of the kind.
fn cut(bytes: &[u8], len: usize, least: usize) -> Option<(&[u8], &[u8])> {
    let one = bytes.get(..len).filter(|one| one.len() >= least)?;
    Some((one, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// 16 bits; 0 where there are none.
pub(crate) fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// 32 bits; 0 where there are none.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Puts `what` at a place, if there is room.
pub(crate) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..what.len())) {
        place.copy_from_slice(what);
    }
}

/// Of which families this machine has addresses beyond `127.0.0.1` and `::1`: what `AI_ADDRCONFIG` goes by.
#[derive(Clone, Copy)]
pub(crate) struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    /// Where the kernel does not tell: of both, as glibc has it.
    pub(crate) fn of_this_machine() -> Self {
        ask(&[libc::RTM_GETADDR]).map_or(Self { v4: true, v6: true }, |dump| Self::among(dump.messages()))
    }

    fn among<'dump>(messages: impl Iterator<Item = Message<'dump>>) -> Self {
        let mut families = Self { v4: false, v6: false };
        for message in messages.filter(|message| message.kind == libc::RTM_NEWADDR) {
            let of_kind = |wanted| attributes(message.body, ADDRESS).find(|(kind, _)| *kind == wanted);
            let Some((_, bytes)) = of_kind(IFA_ADDRESS).or_else(|| of_kind(IFA_LOCAL)) else { continue };
            match address(bytes) {
                Some(IpAddr::V4(v4)) => families.v4 |= v4 != Ipv4Addr::LOCALHOST,
                Some(IpAddr::V6(v6)) => families.v6 |= v6 != Ipv6Addr::LOCALHOST,
                None => {}
            }
        }
        families
    }

    /// The family, or the one of any (`AF_UNSPEC`), of which addresses are to be given. `None`: there are none of the kind.
    pub(crate) fn narrow(self, family: c_int) -> Option<c_int> {
        match family {
            libc::AF_INET => self.v4.then_some(family),
            libc::AF_INET6 => self.v6.then_some(family),
            libc::AF_UNSPEC if self.v4 != self.v6 => {
                Some(if self.v4 { libc::AF_INET } else { libc::AF_INET6 })
            }
            other => Some(other),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        16 => bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = std::vec![0; HEADER];
        put(&mut message, 0, &((HEADER + body.len()) as u32).to_ne_bytes());
        put(&mut message, 4, &kind.to_ne_bytes());
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = [4 + value.len() as u16, kind].map(u16::to_ne_bytes).concat();
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn families(addresses: &[&[(u16, &[u8])]]) -> Families {
        let dump: Vec<u8> = addresses
            .iter()
            .flat_map(|attributes| {
                let mut body = std::vec![0; ADDRESS];
                body.extend(attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)));
                message(libc::RTM_NEWADDR, &body)
            })
            .collect();
        Families::among(Messages(&dump))
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        let whole = [message(1, b"one"), message(2, b"")].concat();
        let kinds = |bytes: &[u8]| Messages(bytes).map(|message| message.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&whole), [1, 2]);
        for len in [0_u32, 1, HEADER as u32 - 1, whole.len() as u32 + 1, u32::MAX] {
            let mut lie = whole.clone();
            put(&mut lie, 0, &len.to_ne_bytes());
            assert!(kinds(&lie).is_empty(), "{len}");
        }
        for cut in 0..whole.len() {
            assert!(kinds(&whole[..cut]).len() < 2);
        }
        for len in [0_u16, 3, 9, u16::MAX] {
            let mut lie = attribute(7, b"1234");
            put(&mut lie, 0, &len.to_ne_bytes());
            assert_eq!(attributes(&lie, 0).count(), 0, "{len}");
        }
    }

    #[test]
    fn loopback_alone_is_no_family() {
        let (lo, lo6) = ([127, 0, 0, 1], Ipv6Addr::LOCALHOST.octets());
        let none = families(&[&[(IFA_ADDRESS, &lo), (IFA_LOCAL, &lo)], &[(IFA_ADDRESS, &lo6)]]);
        assert_eq!(none.narrow(libc::AF_UNSPEC), Some(libc::AF_UNSPEC));
        assert_eq!((none.narrow(libc::AF_INET), none.narrow(libc::AF_INET6)), (None, None));
        let v4 = families(&[&[(IFA_LOCAL, &lo), (IFA_ADDRESS, &[10, 0, 0, 1])], &[(IFA_ADDRESS, &lo6)]]);
        assert_eq!(v4.narrow(libc::AF_UNSPEC), Some(libc::AF_INET));
        assert_eq!(v4.narrow(libc::AF_INET6), None);
        let both = families(&[&[(IFA_LOCAL, &[10, 0, 0, 1])], &[(IFA_ADDRESS, &[0xfd; 16])]]);
        assert_eq!(both.narrow(libc::AF_UNSPEC), Some(libc::AF_UNSPEC));
        assert_eq!(both.narrow(libc::AF_INET6), Some(libc::AF_INET6));
    }
}

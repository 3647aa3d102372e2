//! What a caught send is to send: read once from the program's memory, and sent from here on the descriptor that was taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use presocks_abi::control::{self, Family, PIN_ROOM, Width, may_need_privilege, pin};
use rustix::io::Errno;

use super::payload::Payload;
use super::{Address, Caller, LONGEST_ADDRESS};
use crate::seccomp::call::{Header, Layout, MOST_DATA, Span};
use crate::seccomp::target::is_as_privileged;

/// One message of a call.
pub(super) struct Message {
    /// As it was read; without one the message goes to the socket's peer.
    pub(super) address: Option<Address>,
    /// In our own layout.
    pub(super) control: Vec<u8>,
    data: Data,
}

/// Where a message's data is.
enum Data {
    /// In one part: sendto(2).
    Flat(Span),
    Parts(Header, Layout),
}

impl Message {
    /// sendto(2).
    ///
    /// # Errors
    /// As [`Caller::address`].
    pub(super) fn flat(caller: &Caller, data: Span, address: Span) -> io::Result<Self> {
        let address = if address.at == 0 { Span::default() } else { address };
        Ok(Self { address: read_address(caller, address)?, control: Vec::new(), data: Data::Flat(data) })
    }

    /// sendmsg(2), whose header is at `at`.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` for an address of negative length and for malformed control messages of a 32-bit program, `ENOBUFS` for very many; `ESRCH`
    /// when the call waits no more.
    pub(super) fn with_header(caller: &Caller, at: u64, layout: Layout) -> io::Result<Self> {
        let header = Header::read(caller.thread(), at, layout)?;
        // sendmsg(2) only cuts an address that is too long.
        let name = Span { len: header.name.len.min(LONGEST_ADDRESS as u64), ..header.name };
        let control = read_control(caller, header.control, layout)?;
        Ok(Self { address: read_address(caller, name)?, control, data: Data::Parts(header, layout) })
    }

    /// Would the packet not go where its address says: by a source route?
    ///
    /// # Errors
    /// `ENETUNREACH`.
    pub(super) fn is_not_routed(&self) -> Result<(), Errno> {
        control::judge(&self.control, Width::OWN, || false).map_err(Errno::from_raw_os_error)
    }

    /// Does a control message name a device other than lo?
    pub(super) fn names_a_device(&self) -> bool {
        control::judge(&self.control, Width::OWN, || true).is_err()
    }

    /// The source that a control message names.
    pub(super) fn source(&self) -> Option<IpAddr> {
        control::source(&self.control, Width::OWN)
    }

    /// The places of the data.
    ///
    /// # Errors
    /// `EMSGSIZE` for too many, `EFAULT`.
    pub(super) fn parts(&self, caller: &Caller) -> io::Result<Vec<Span>> {
        match self.data {
            Data::Flat(data) => Ok(vec![data]),
            Data::Parts(header, layout) => header.parts(caller.thread(), layout),
        }
    }
}

/// The kernel takes an address of no length for none, or refuses the call; either way it leads nowhere.
fn read_address(caller: &Caller, address: Span) -> io::Result<Option<Address>> {
    if address.len == 0 { Ok(None) } else { caller.address(address).map(Some) }
}

fn read_control(caller: &Caller, control: Span, layout: Layout) -> io::Result<Vec<u8>> {
    if control.len == 0 {
        return Ok(Vec::new());
    }
    let len = usize::try_from(control.len).unwrap_or(usize::MAX);
    if len > MOST_DATA {
        // As the kernel says of more than it takes (`optmem_max`).
        return Err(Errno::NOBUFS.into());
    }
    let mut bytes = vec![0; len];
    let given = control.read_into(caller.thread(), &mut bytes)?;
    let mut translated = vec![0; 2 * len];
    let len =
        control::translate(given, layout.width(), &mut translated).map_err(io::Error::from_raw_os_error)?;
    translated.truncate(len);
    Ok(translated)
}

/// sendmsg(2) on a descriptor of ours. It never waits, and raises no signal here.
///
/// # Errors
/// Those of sendmsg(2); `EPERM` for control messages that take a privilege of ours which the caller has not.
pub(super) fn transmit(
    caller: &Caller,
    socket: BorrowedFd<'_>,
    data: &Payload,
    control: &[u8],
    to: Option<&[u8]>,
    flags: i32,
) -> rustix::io::Result<usize> {
    if may_need_privilege(control) && !is_as_privileged(caller.thread()) {
        return Err(Errno::PERM);
    }
    // The kernel wants headers aligned.
    let mut words = vec![0_u64; control.len().div_ceil(size_of::<u64>())];
    for (word, bytes) in words.iter_mut().zip(control.chunks(size_of::<u64>())) {
        let mut whole = [0; size_of::<u64>()];
        for (to, from) in whole.iter_mut().zip(bytes) {
            *to = *from;
        }
        *word = u64::from_ne_bytes(whole);
    }
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    #[allow(unsafe_code, reason = "rustix knows none of these control messages")]
    // SAFETY: a message header is integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = libc::socklen_t::try_from(to.len()).unwrap_or_default();
    }
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !control.is_empty() {
        message.msg_control = words.as_mut_ptr().cast();
        message.msg_controllen = control.len();
    }
    let flags = data.flags(flags) | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    #[allow(unsafe_code, reason = "as above")]
    // SAFETY: all that the header points to lives until the call is over, and is of the length that it says; the kernel only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The control messages of a packet to an address of this machine, made such that it leaves by lo: whatever the socket is bound to, and whoever binds it
/// meanwhile. `source`: the socket's own IPv4 address, or none.
///
/// # Errors
/// `EINVAL` for what is malformed.
pub(super) fn pinned(control: &[u8], family: Family, source: Ipv4Addr) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = control.to_vec();
    bytes.resize(control.len() + PIN_ROOM, 0);
    let len = pin(&mut bytes, control.len(), family, source).map_err(Errno::from_raw_os_error)?;
    bytes.truncate(len);
    Ok(bytes)
}

//! A thread whose call waits: its memory, its descriptors, its end.
//!
//! A thread's number may be another's by the time it is used: whoever has read memory, or opened anything, must see afterwards that the call
//! still waits ([`super::listener::Listener::waits`]).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::procfs::{self, Status};

/// linux/pidfd.h: since Linux 6.9.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// process_vm_readv(2): fills the buffer from a thread's memory.
///
/// # Errors
/// Those of process_vm_readv(2), and `EFAULT` when a part is not there.
pub(crate) fn read(thread: i32, at: u64, buffer: &mut [u8]) -> io::Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    let at = usize::try_from(at).map_err(|_| Errno::FAULT)?;
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(at), iov_len: buffer.len() };
    #[allow(unsafe_code, reason = "rustix has no such call")]
    // SAFETY: the local part is the buffer; the kernel checks the other.
    let len = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(len) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(len) if len == buffer.len() => Ok(()),
        Ok(_) => Err(Errno::FAULT.into()),
    }
}

/// A thread's memory for writing, by a descriptor: it stays that thread's, whatever becomes of its number (proc(5), `/proc/PID/mem`).
pub(crate) struct Memory(File);

impl Memory {
    /// # Errors
    /// Those of open(2).
    pub(crate) fn open(thread: i32) -> io::Result<Self> {
        File::options().write(true).open(procfs::memory(thread)).map(Self)
    }

    /// # Errors
    /// `EFAULT` when a part is not there.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at).map_err(|_| Errno::FAULT.into())
    }
}

/// A thread by a descriptor, which stays the same thread whatever becomes of its number.
pub(crate) struct Thread(OwnedFd);

impl Thread {
    /// # Errors
    /// Those of pidfd_open(2).
    pub(crate) fn open(thread: i32) -> io::Result<Self> {
        let number = |number: i32| Pid::from_raw(number).ok_or(Errno::SRCH);
        match pidfd_open(number(thread)?, PIDFD_THREAD) {
            // By its process, then.
            Err(Errno::INVAL) => Ok(Self(pidfd_open(number(process_of(thread)?)?, PidfdFlags::empty())?)),
            result => Ok(Self(result?)),
        }
    }

    /// # Errors
    /// Those of fcntl(2).
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// pidfd_getfd(2): the program's descriptor, as one of ours for the same open file.
    ///
    /// # Errors
    /// Those of pidfd_getfd(2): `EBADF` when the program has none of that number, `EPERM` when we may not look.
    pub(crate) fn descriptor(&self, number: RawFd) -> io::Result<OwnedFd> {
        // Not for rustix to see, which takes these for a mistake of ours.
        if number < 0 {
            return Err(Errno::BADF.into());
        }
        Ok(pidfd_getfd(&self.0, number, PidfdGetfdFlags::empty())?)
    }
}

/// Readable when the thread has ended.
impl AsFd for Thread {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The process of a thread (proc(5), `Tgid`).
///
/// # Errors
/// `ESRCH` when there is no such thread.
pub(crate) fn process_of(thread: i32) -> io::Result<i32> {
    Ok(Status::of(thread).and_then(|status| status.process()).ok_or(Errno::SRCH)?)
}

/// May we do for a thread what takes a privilege in the network? We may if it has all those that we have (`CAP_NET_ADMIN`, `CAP_NET_RAW`;
/// capabilities(7)), in the same user namespace.
pub(crate) fn is_as_privileged(thread: i32) -> bool {
    const NETWORK: u64 = 1 << 12 | 1 << 13;
    let privileges = |status: Option<Status>| status?.set("CapEff").map(|set| set & NETWORK);
    match (privileges(Status::own()), privileges(Status::of(thread))) {
        (Some(0), _) => true,
        (Some(ours), Some(theirs)) => ours & !theirs == 0 && procfs::is_in_own_user_namespace(thread),
        _ => false,
    }
}

/// tgkill(2): a signal for this very thread, as the kernel sends it for a call that has failed.
pub(crate) fn signal(thread: i32, signal: i32) {
    let Ok(process) = process_of(thread) else { return };
    #[allow(unsafe_code, reason = "rustix has no such call")]
    // SAFETY: numbers. One of a thread that is gone, or that may not be signalled, is refused.
    unsafe {
        libc::syscall(libc::SYS_tgkill, process, thread, signal);
    }
}

/// The signals that a thread would act on, were it not held in a call that only a fatal one ends (proc(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// There is a handler for one of them.
    pub(crate) handled: bool,
    /// One of them does what it does by default: it stops the process, say.
    pub(crate) unhandled: bool,
}

impl Pending {
    /// Those of the thread itself; of its process only when it is the main thread: the kernel gives those to the main thread if that
    /// does not block them, and any other thread may not be the one that was chosen. Where the main thread has been stopped, all
    /// others have been told to stop.
    pub(crate) fn of(thread: i32) -> Self {
        let Some(own) = Status::of(thread) else { return Self::default() };
        let set = |name| own.set(name).unwrap_or(0);
        let main = own.process().unwrap_or(thread);
        if main != thread && Status::of(main).is_some_and(|main| main.is_stopped()) {
            return Self { handled: false, unhandled: true };
        }
        let pending = set("SigPnd") | if main == thread { set("ShdPnd") } else { 0 };
        let effective = pending & !set("SigBlk") & !set("SigIgn");
        let caught = set("SigCgt");
        Self { handled: effective & caught != 0, unhandled: effective & !caught != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    fn own_thread() -> i32 {
        rustix::thread::gettid().as_raw_pid()
    }

    #[test]
    fn memory_is_read_and_written_as_far_as_it_is_there() {
        let mut there = *b"presocks";
        let at = there.as_mut_ptr().expose_provenance() as u64;
        let mut here = [0; 8];
        read(own_thread(), at, &mut here).unwrap();
        assert_eq!(&here, b"presocks");
        let memory = Memory::open(own_thread()).unwrap();
        memory.write(at, b"PRE").unwrap();
        assert_eq!(memory.write(8, b"x").unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(&std::hint::black_box(there), b"PREsocks");
        assert_eq!(read(own_thread(), 8, &mut here).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn a_thread_gives_its_descriptors_and_knows_its_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (thread, process) =
            std::thread::spawn(|| (own_thread(), process_of(own_thread()).unwrap())).join().unwrap();
        assert_ne!(thread, process);
        assert_eq!(process.unsigned_abs(), std::process::id());
        let copy = Thread::open(own_thread()).unwrap().descriptor(socket.as_raw_fd()).unwrap();
        assert_eq!(std::net::UdpSocket::from(copy).local_addr().unwrap(), socket.local_addr().unwrap());
        assert_eq!(
            Thread::open(own_thread()).unwrap().descriptor(99_999).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        let none = Thread::open(own_thread()).unwrap().descriptor(-1);
        assert_eq!(none.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_thread_of_ours_is_as_privileged_as_we_are() {
        assert!(is_as_privileged(own_thread()));
    }

    #[test]
    fn no_signal_waits_for_this_thread() {
        assert_eq!(Pending::of(own_thread()), Pending::default());
    }
}

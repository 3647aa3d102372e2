//! The broker's end of the filter: calls that wait, and the answers to them (seccomp_unotify(2)).
#![allow(unsafe_code, reason = "no library speaks to a listener")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// The listener of a session's filter.
pub(crate) struct Listener {
    fd: OwnedFd,
    holds_signals: bool,
}

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Good for as long as the call waits.
    pub(crate) id: u64,
    /// The thread that made the call; 0 if it is in a process namespace that is not below ours.
    pub(crate) thread: i32,
    /// `AUDIT_ARCH_…`.
    pub(crate) arch: u32,
    /// The call's number.
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel does it. It reads the program's memory anew: another thread may have changed what was judged.
    Continue,
    /// Done: this is its result.
    Value(i64),
    /// It fails.
    Errno(i32),
    /// As a call that a signal has interrupted: `EINTR`, or anew, as the handler's `SA_RESTART` has it.
    Interrupted,
}

/// What the kernel shows nobody: the call is to be made again after the handler, or to fail with `EINTR` (linux/errno.h).
const ERESTARTSYS: i32 = 512;

impl Listener {
    /// Takes the descriptor that installing the filter gave.
    /// `holds_signals`: the filter was installed such that the kernel holds back signals while a call waits.
    pub(crate) fn new(fd: OwnedFd, holds_signals: bool) -> Self {
        const SYNC_WAKE_UP: libc::c_ulong = 1;
        let listener = Self { fd, holds_signals };
        // Caller and broker take turns, and the scheduler may know it. Linux before 6.6 has no such flag.
        // SAFETY: the flags are the argument itself.
        unsafe {
            libc::ioctl(listener.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
        }
        listener
    }

    /// Does the kernel hold back signals that are not fatal while a call waits? Else they interrupt it, and it may be made again.
    pub(crate) fn holds_signals(&self) -> bool {
        self.holds_signals
    }

    /// The next call that waits. Only to be called when the listener is readable; `None` if the caller has just gone away.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub(crate) fn receive(&self) -> io::Result<Option<Notification>> {
        // The kernel insists on zeros.
        let mut notification = MaybeUninit::<libc::seccomp_notif>::zeroed();
        // SAFETY: room for a notification.
        let result = unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, notification.as_mut_ptr())
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: plain numbers, zeroed and then written by the kernel.
        let notification = unsafe { notification.assume_init() };
        Ok(Some(Notification {
            id: notification.id,
            thread: notification.pid.cast_signed(),
            arch: notification.data.arch,
            number: notification.data.nr.cast_unsigned(),
            arguments: notification.data.args,
        }))
    }

    /// Does the call still wait? If so, its thread has been the one of that number all along.
    pub(crate) fn waits(&self, id: u64) -> bool {
        // SAFETY: the id is read.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
    }

    /// Answers a call; is it told? One that waits no more needs no answer.
    pub(crate) fn answer(&self, id: u64, answer: Answer) -> bool {
        let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
        match answer {
            Answer::Continue => response.flags = 1,
            Answer::Value(value) => response.val = value,
            Answer::Errno(errno) => response.error = -errno,
            Answer::Interrupted => response.error = -ERESTARTSYS,
        }
        // SAFETY: a response.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) == 0 }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

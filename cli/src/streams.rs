//! Descriptors 0 to 2: whichever are closed are kept occupied while presocks works, and closed again for the command.
//!
//! Without this a socket of ours could become the command's standard output.

use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd as _, RawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_getfd;

/// Which standard streams were closed when presocks started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standard {
    closed: [bool; 3],
}

impl Standard {
    /// Opens /dev/null on every closed one.
    ///
    /// # Errors
    /// When /dev/null cannot be opened.
    pub(crate) fn secure() -> io::Result<Self> {
        let mut closed = [false; 3];
        for (number, closed) in (0..).zip(&mut closed) {
            if is_closed(number) {
                // The lowest free number is this one: those below are open.
                let _ = open("/dev/null", OFlags::RDWR, Mode::empty())?.into_raw_fd();
                *closed = true;
            }
        }
        Ok(Self { closed })
    }

    /// The numbers that the command must find closed.
    pub(crate) fn closed(self) -> impl Iterator<Item = RawFd> {
        (0..).zip(self.closed).filter(|(_, closed)| *closed).map(|(number, _)| number)
    }
}

fn is_closed(number: RawFd) -> bool {
    #[allow(unsafe_code, reason = "asks about a descriptor that may not be open")]
    // SAFETY: only fcntl(F_GETFD) is called on it, which answers EBADF for a closed one.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(descriptor).is_err()
}

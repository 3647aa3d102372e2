//! Putting the filter in place: in the command's process, between fork and exec.

use std::fmt;
use std::io;
use std::os::fd::RawFd;

use libc::{c_ulong, sock_filter, sock_fprog};
use presocks_abi::pass::{KNOCK_ERRNO, Pass};

/// A filter that stands.
pub(crate) struct Installed {
    /// The listener's number in this process; closed by exec.
    pub(crate) listener: RawFd,
    /// Programs no longer gain privileges (`no_new_privs`, prctl(2)).
    pub(crate) forbids_privileges: bool,
    /// The kernel holds back signals that are not fatal while a call waits for the broker.
    pub(crate) holds_signals: bool,
}

/// Why there is no backstop: which call the kernel, or a filter around us, refused.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) call: &'static str,
    pub(crate) errno: i32,
}

impl Denied {
    /// It is not forbidden: another time it might be had.
    pub(crate) fn is_for_want_of_descriptors(&self) -> bool {
        matches!(self.errno, libc::EMFILE | libc::ENFILE)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.call, self.errno) {
            ("seccomp", libc::EBUSY) => {
                f.write_str("another supervisor listens to this process already (presocks or a container: seccomp, EBUSY)")
            }
            ("/proc", _) => f.write_str("/proc does not show this process namespace; mount it anew"),
            (call, errno) => write!(f, "{call}: {}", io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Installs the filter for this process and all that it will start.
///
/// Without `CAP_SYS_ADMIN` this needs `no_new_privs`: setuid programs then run with their caller's privileges (seccomp(2)).
///
/// # Errors
/// That of seccomp(2): `EBUSY` when there is a listener already, `EINVAL` before Linux 5.0, `EPERM` or `ENOSYS` where it is denied.
pub(crate) fn install(filter: &[sock_filter]) -> io::Result<Installed> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let killable = flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let holding = |holds_signals| {
        move |(listener, forbids_privileges)| Installed { listener, forbids_privileges, holds_signals }
    };
    with_privilege(killable, filter).map(holding(true)).or_else(|error| match error.raw_os_error() {
        // Linux before 5.19 cannot wait so; signals then interrupt a call that waits for us.
        Some(libc::EINVAL) => with_privilege(flags, filter).map(holding(false)),
        _ => Err(error),
    })
}

/// The listener, and whether programs no longer gain privileges.
fn with_privilege(flags: c_ulong, filter: &[sock_filter]) -> io::Result<(RawFd, bool)> {
    let installed = |forbids_privileges| move |listener| (listener, forbids_privileges);
    seccomp(flags, filter).map(installed(false)).or_else(|error| match error.raw_os_error() {
        Some(libc::EACCES) => {
            rustix::thread::set_no_new_privs(true)?;
            seccomp(flags, filter).map(installed(true))
        }
        _ => Err(error),
    })
}

#[allow(unsafe_code, reason = "no library offers a listener")]
fn seccomp(flags: c_ulong, filter: &[sock_filter]) -> io::Result<RawFd> {
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its length; the kernel only reads it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// Does the filter of the session with this pass stand before this process?
pub(crate) fn stands(pass: Pass) -> bool {
    let [fd, address, len, fourth, fifth, sixth] = pass.knock();
    #[allow(unsafe_code, reason = "the pass is where no library puts anything")]
    // SAFETY: descriptor -1 and no address: the kernel refuses the call, whoever answers it.
    let result = unsafe { libc::syscall(libc::SYS_connect, fd, address, len, fourth, fifth, sixth) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(KNOCK_ERRNO)
}

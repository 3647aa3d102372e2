//! Filters of sockets (socket(7), `SO_ATTACH_FILTER`): what a socket is not to hear.

use std::io;
use std::os::fd::BorrowedFd;

use super::{set_option, set_option_bytes};

/// Attaches a filter (socket(7), `SO_ATTACH_FILTER`) that drops whatever another device than lo has brought.
pub(crate) fn hear_loopback_alone(socket: BorrowedFd<'_>) -> io::Result<()> {
    /// lo is the first device of every network namespace.
    const LOOPBACK: u32 = 1;
    const WHOLE: u32 = u32::MAX;
    const DEVICE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned();
    let instruction = |code: u32, yes, no, k| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: yes,
        jf: no,
        k,
    };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, DEVICE),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, LOOPBACK),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, WHOLE),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    attach_filter(socket, &mut filter)
}

/// Takes such a filter away.
pub(crate) fn hear_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

/// Binds to the device lo (socket(7), `SO_BINDTODEVICE`): to whatever another has brought nobody listens.
pub(crate) fn stay_on_loopback(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option_bytes(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo\0")
}

/// Attaches a filter that drops whatever comes: a socket with it answers nobody.
pub(crate) fn take_nothing(socket: BorrowedFd<'_>) -> io::Result<()> {
    let code = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or_default();
    attach_filter(socket, &mut [libc::sock_filter { code, jt: 0, jf: 0, k: 0 }])
}

/// Attaches a filter (socket(7), `SO_ATTACH_FILTER`) to a socket of ours.
fn attach_filter(socket: BorrowedFd<'_>, filter: &mut [libc::sock_filter]) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let len = libc::c_ushort::try_from(filter.len()).unwrap_or_default();
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    let len = size_of_val(&program) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    #[allow(unsafe_code, reason = "rustix has no way to attach a filter")]
    // SAFETY: the kernel copies the program and its instructions during the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const program).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

//! The system calls that the shim makes for itself.
//!
//! They go through syscall(2), or through `pass` where the seccomp filter looks; never through a libc name: those names are our own hooks. None is a cancellation point and
//! none touches errno; failures come back as a value. [`receive_cancellable`] is the one exception on the first count.
#![allow(unsafe_code)]

use core::mem::{MaybeUninit, size_of};
use core::ptr::{from_mut, from_ref, null, null_mut};

use libc::{c_int, c_long, c_void, socklen_t, timespec};

use presocks_abi::sockaddr::{Encoded, MAPPED_BROADCAST};
use presocks_abi::socket::Kind;

use crate::errno::{self, Errno};
use crate::pass::{self, at, int};

/// Arguments of a system call as the registers hold them.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        let kept = errno::current();
        // SAFETY: every caller in this file passes pointers made from references that live across the call, or
        // null, with their true lengths; the kernel checks all else.
        let result = unsafe { libc::syscall($number $(, $argument as c_long)*) };
        if result == -1 {
            let error = errno::current();
            errno::set(kept);
            Err(error)
        } else {
            Ok(result)
        }
    }};
}

fn as_int(result: c_long) -> c_int {
    // Descriptors and counts below 2^31 are all that the calls here return.
    result as c_int
}

/// socket(2).
fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<c_int, Errno> {
    syscall!(libc::SYS_socket, domain, kind, protocol).map(as_int)
}

/// Descriptors 0 to 2 belong to the program even when it has closed them; nothing of ours stays there.
pub(crate) const FIRST_FREE: c_int = 3;

/// A socket for ourselves: close-on-exec, and not among the standard streams.
pub(crate) fn own_socket(domain: c_int, kind: c_int) -> Result<c_int, Errno> {
    let fd = socket(domain, kind | libc::SOCK_CLOEXEC, 0)?;
    if fd >= FIRST_FREE {
        return Ok(fd);
    }
    let higher = duplicate_from(fd, FIRST_FREE);
    close(fd);
    higher
}

/// connect(2) with an encoded socket address.
pub(crate) fn connect(fd: c_int, address: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of a live slice.
    unsafe { pass::call(libc::SYS_connect, [int(fd), at(address.as_ptr()), address.len(), 0, 0, 0]) }
        .map(drop)
}

/// connect(2) with `AF_UNSPEC`: dissolves a socket's association, the socket can be used again.
pub(crate) fn dissolve(fd: c_int) -> Result<(), Errno> {
    let dissolved = connect(fd, &[0; size_of::<libc::sockaddr>()]);
    restore(fd);
    dissolved
}

/// What dissolving an IPv6 TCP socket leaves undone ([`MAPPED_BROADCAST`]).
pub(crate) fn restore(fd: c_int) {
    let domain = option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN);
    let protocol = option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL);
    if domain == Ok(libc::AF_INET6) && protocol.is_ok_and(|of| Kind::new(libc::AF_INET6, of) == Kind::Stream)
    {
        // Fails always: that is what it is for.
        let _ = connect(fd, Encoded::new(MAPPED_BROADCAST).as_bytes());
    }
}

/// close(2).
pub(crate) fn close(fd: c_int) {
    // Linux releases the number whatever it answers.
    let _ = syscall!(libc::SYS_close, fd);
}

/// fcntl(2) with `F_DUPFD_CLOEXEC`: a copy at the lowest free number from `floor` up.
pub(crate) fn duplicate_from(fd: c_int, floor: c_int) -> Result<c_int, Errno> {
    syscall!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, floor).map(as_int)
}

/// fcntl(2) with `F_GETFL`: is the descriptor in non-blocking mode?
pub(crate) fn is_nonblocking(fd: c_int) -> Result<bool, Errno> {
    syscall!(libc::SYS_fcntl, fd, libc::F_GETFL, 0).map(|flags| as_int(flags) & libc::O_NONBLOCK != 0)
}

/// fcntl(2) with `F_GETFL`: is there a signal when something can be done with it?
pub(crate) fn is_async(fd: c_int) -> bool {
    let flags = syscall!(libc::SYS_fcntl, fd, libc::F_GETFL, 0);
    flags.is_ok_and(|flags| as_int(flags) & libc::O_ASYNC != 0)
}

/// ioctl(2) with `FIOASYNC`.
pub(crate) fn set_async(fd: c_int, is_on: bool) -> Result<(), Errno> {
    let value = c_int::from(is_on);
    syscall!(libc::SYS_ioctl, fd, libc::FIOASYNC, from_ref(&value)).map(drop)
}

/// fcntl(2) with `F_GETFD`: is there such a descriptor?
pub(crate) fn is_open(fd: c_int) -> bool {
    syscall!(libc::SYS_fcntl, fd, libc::F_GETFD, 0).is_ok()
}

/// process_vm_readv(2) on ourselves: is there memory that can be read? Where the kernel does not tell: yes.
pub(crate) fn is_readable(place: *const u8) -> bool {
    let mut byte = 0_u8;
    let here = libc::iovec { iov_base: from_mut(&mut byte).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: place.cast_mut().cast(), iov_len: 1 };
    let read = syscall!(libc::SYS_process_vm_readv, process(), from_ref(&here), 1, from_ref(&there), 1, 0);
    read != Err(libc::EFAULT)
}

/// getsockopt(2) for an option of type `int`.
pub(crate) fn option(fd: c_int, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value: c_int = 0;
    get_option(fd, level, name, &mut value).map(|()| value)
}

/// getsockopt(2) for an option that has none of its value when it is not set: the length of what it has.
pub(crate) fn option_len(fd: c_int, level: c_int, name: c_int) -> Result<usize, Errno> {
    let mut value = [0_u8; 256];
    let mut len = value.len() as socklen_t;
    syscall!(libc::SYS_getsockopt, fd, level, name, value.as_mut_ptr(), from_mut(&mut len))?;
    Ok(len as usize)
}

/// getsockopt(2) with `SO_COOKIE`: the socket's identity, the same in every process and under every number.
pub(crate) fn cookie(fd: c_int) -> Result<u64, Errno> {
    let mut value: u64 = 0;
    get_option(fd, libc::SOL_SOCKET, libc::SO_COOKIE, &mut value).map(|()| value)
}

/// getsockopt(2) with `TCP_INFO`, of which the first byte is the state (tcp(7)): is the socket past the state in which it was made? Where the
/// kernel does not tell: yes.
pub(crate) fn has_begun_to_connect(fd: c_int) -> bool {
    const TCP_CLOSE: u8 = 7;
    let mut state = 0_u8;
    get_option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).is_err() || state != TCP_CLOSE
}

/// getsockopt(2) with `SO_PEERCRED`: the user who listens on the other side of a Unix socket, as our user namespace has it.
pub(crate) fn peer_user(fd: c_int) -> Result<u32, Errno> {
    let mut value = libc::ucred { pid: 0, uid: 0, gid: 0 };
    get_option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut value).map(|()| value.uid)
}

/// getsockopt(2) with `SO_RCVTIMEO` or `SO_SNDTIMEO`.
pub(crate) fn time_limit(fd: c_int, name: c_int) -> Result<libc::timeval, Errno> {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    get_option(fd, libc::SOL_SOCKET, name, &mut value).map(|()| value)
}

/// poll(2): has the socket an error that nobody has been told?
pub(crate) fn has_error(fd: c_int) -> bool {
    let mut polled = libc::pollfd { fd, events: 0, revents: 0 };
    let none = timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = syscall!(libc::SYS_ppoll, from_mut(&mut polled), 1, from_ref(&none), 0, 0);
    ready == Ok(1) && polled.revents & libc::POLLERR != 0
}

fn get_option<T>(fd: c_int, level: c_int, name: c_int, value: &mut T) -> Result<(), Errno> {
    let mut len = size_of::<T>() as socklen_t;
    syscall!(libc::SYS_getsockopt, fd, level, name, from_mut(value), from_mut(&mut len)).map(drop)
}

/// setsockopt(2) with `SO_RCVTIMEO`.
pub(crate) fn set_receive_timeout(fd: c_int, value: &libc::timeval) -> Result<(), Errno> {
    let len = size_of::<libc::timeval>();
    syscall!(libc::SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, from_ref(value), len).map(drop)
}

/// shutdown(2) with `SHUT_WR`.
pub(crate) fn shut_for_writing(fd: c_int) -> Result<(), Errno> {
    syscall!(libc::SYS_shutdown, fd, libc::SHUT_WR).map(drop)
}

/// ioctl(2) with `SIOCOUTQ` on a Unix socket: how much memory the packets occupy that its peer has not received. Where the kernel does not tell: none.
pub(crate) fn unreceived(fd: c_int) -> c_int {
    let mut bytes: c_int = 0;
    let told = syscall!(libc::SYS_ioctl, fd, libc::TIOCOUTQ, from_mut(&mut bytes));
    if told.is_ok() { bytes } else { 0 }
}

/// setsockopt(2) for an option of type `int`.
pub(crate) fn set_option(fd: c_int, level: c_int, name: c_int, value: c_int) -> Result<(), Errno> {
    let arguments = [int(fd), int(level), int(name), at(&raw const value), size_of_val(&value), 0];
    // SAFETY: pointer and length are those of a live value.
    unsafe { pass::call(libc::SYS_setsockopt, arguments) }.map(drop)
}

/// setsockopt(2) with `SO_SNDTIMEO`.
pub(crate) fn set_send_timeout(fd: c_int, value: &libc::timeval) -> Result<(), Errno> {
    let len = size_of::<libc::timeval>();
    syscall!(libc::SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, from_ref(value), len).map(drop)
}

/// getsockname(2) into `address`; the length that the kernel reports.
pub(crate) fn own_address(fd: c_int, address: &mut [u8]) -> Result<usize, Errno> {
    let mut len = address.len() as socklen_t;
    let arguments = [int(fd), at(address.as_mut_ptr()), at(&raw mut len), 0, 0, 0];
    // SAFETY: pointer and length are those of a live slice.
    unsafe { pass::call(libc::SYS_getsockname, arguments) }.map(|_| len as usize)
}

/// getpeername(2) into `address`; the length that the kernel reports.
pub(crate) fn peer_address(fd: c_int, address: &mut [u8]) -> Result<usize, Errno> {
    let mut len = address.len() as socklen_t;
    let arguments = [int(fd), at(address.as_mut_ptr()), at(&raw mut len), 0, 0, 0];
    // SAFETY: pointer and length are those of a live slice.
    unsafe { pass::call(libc::SYS_getpeername, arguments) }.map(|_| len as usize)
}

/// getpeername(2): is there a peer?
pub(crate) fn is_connected(fd: c_int) -> bool {
    peer_address(fd, &mut [0; presocks_abi::sockaddr::MAX_LEN]).is_ok()
}

/// sendmsg(2): one packet, with a descriptor attached by `SCM_RIGHTS` where there is one.
pub(crate) fn send_packet(fd: c_int, packet: &[u8], attached: Option<c_int>) -> Result<(), Errno> {
    // struct cmsghdr, the descriptor, and the padding that CMSG_SPACE asks for (cmsg(3)).
    #[repr(C, align(8))]
    struct Control {
        len: usize,
        level: c_int,
        kind: c_int,
        fd: c_int,
        padding: c_int,
    }
    let mut control = Control {
        len: size_of::<Control>() - size_of::<c_int>(),
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        fd: attached.unwrap_or(-1),
        padding: 0,
    };
    let mut data = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    // SAFETY: all-zero is a valid msghdr (null pointers with zero lengths).
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    if attached.is_some() {
        message.msg_control = (&raw mut control).cast::<c_void>();
        message.msg_controllen = size_of::<Control>();
    }
    loop {
        let arguments = [int(fd), at(&raw const message), int(libc::MSG_NOSIGNAL), 0, 0, 0];
        // SAFETY: the message, and all that it points to, live across the call.
        match unsafe { pass::call(libc::SYS_sendmsg, arguments) } {
            Err(libc::EINTR) => {}
            result => return result.map(drop),
        }
    }
}

/// recv(2) with `MSG_PEEK` and without waiting. 0: the other side is gone.
pub(crate) fn peek(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    syscall!(libc::SYS_recvfrom, fd, buffer.as_mut_ptr(), buffer.len(), flags, 0, 0).map(|len| len as usize)
}

/// recv(2) with `MSG_PEEK`, waiting, without being a cancellation point.
pub(crate) fn receive(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    syscall!(libc::SYS_recvfrom, fd, buffer.as_mut_ptr(), buffer.len(), libc::MSG_PEEK, 0, 0)
        .map(|len| len as usize)
}

/// As [`receive`], and a cancellation point, as the connect() that waits in it is one. The ticket of a thread that ends here stays
/// with its pending connect, where a sweep finds it.
pub(crate) fn receive_cancellable(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    let arguments = [int(fd), at(buffer.as_mut_ptr()), buffer.len(), int(libc::MSG_PEEK), 0, 0];
    // SAFETY: pointer and length are those of a live buffer.
    unsafe { pass::wait(libc::SYS_recvfrom, arguments) }
}

/// send(2) on a netlink socket without a peer: to the kernel.
pub(crate) fn send_to_kernel(fd: c_int, request: &[u8]) -> Result<(), Errno> {
    syscall!(libc::SYS_sendto, fd, request.as_ptr(), request.len(), 0, 0, 0).map(drop)
}

/// recvfrom(2) on a netlink socket: what the kernel has sent; 0 for what somebody else has.
///
/// # Errors
/// `EMSGSIZE` when there is more than room.
pub(crate) fn receive_from_kernel(fd: c_int, buffer: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    // SAFETY: all-zero is a valid address of a netlink socket.
    let mut from: libc::sockaddr_nl = unsafe { core::mem::zeroed() };
    let mut from_len = size_of_val(&from) as socklen_t;
    let arguments = [
        int(fd),
        at(buffer.as_mut_ptr()),
        buffer.len(),
        int(libc::MSG_TRUNC),
        at(&raw mut from),
        at(&raw mut from_len),
    ];
    let len = loop {
        // SAFETY: pointers and lengths are those of live values.
        match unsafe { pass::call(libc::SYS_recvfrom, arguments) } {
            Err(libc::EINTR) => {}
            result => break result?,
        }
    };
    match len {
        _ if from.nl_pid != 0 => Ok(0),
        len if len > buffer.len() => Err(libc::EMSGSIZE),
        len => Ok(len),
    }
}

/// epoll_ctl(2).
pub(crate) fn epoll_ctl(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: Option<libc::epoll_event>,
) -> Result<(), Errno> {
    let event = event.as_ref().map_or(null(), from_ref);
    syscall!(libc::SYS_epoll_ctl, epoll, operation, fd, event).map(drop)
}

/// kcmp(2) with `KCMP_EPOLL_TFD`: is `fd` registered in `epoll`? `None` where the kernel does not tell.
pub(crate) fn is_registered(epoll: c_int, fd: c_int) -> Option<bool> {
    const KCMP_EPOLL_TFD: c_int = 7;
    let slot: [u32; 3] = [epoll.cast_unsigned(), fd.cast_unsigned(), 0];
    let pid = process();
    match syscall!(libc::SYS_kcmp, pid, pid, KCMP_EPOLL_TFD, fd, slot.as_ptr()) {
        Ok(_) => Some(true),
        Err(libc::ENOENT | libc::EBADF | libc::EINVAL) => Some(false),
        Err(_) => None,
    }
}

/// openat(2), read-only and close-on-exec. `path` ends with a NUL.
pub(crate) fn open(path: &core::ffi::CStr) -> Result<c_int, Errno> {
    syscall!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0).map(as_int)
}

/// getdents64(2).
pub(crate) fn read_directory(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    syscall!(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()).map(|len| len as usize)
}

/// read(2).
pub(crate) fn read(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    syscall!(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()).map(|len| len as usize)
}

/// write(2).
pub(crate) fn write(fd: c_int, bytes: &[u8]) -> Result<usize, Errno> {
    syscall!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()).map(|len| len as usize)
}

/// Is the descriptor a socket? Only sockets have a cookie.
pub(crate) fn is_socket(fd: c_int) -> bool {
    cookie(fd).is_ok()
}

/// getpid(2), asked of the kernel: a vfork child differs.
pub(crate) fn process() -> c_int {
    syscall!(libc::SYS_getpid).map_or(0, as_int)
}

/// gettid(2).
pub(crate) fn thread() -> c_int {
    syscall!(libc::SYS_gettid).map_or(0, as_int)
}

/// fcntl(2), `F_GETFL`.
pub(crate) fn status_flags(fd: c_int) -> Result<c_int, Errno> {
    syscall!(libc::SYS_fcntl, fd, libc::F_GETFL).map(|flags| flags as c_int)
}

/// fcntl(2), `F_SETFL`.
pub(crate) fn set_status_flags(fd: c_int, flags: c_int) -> Result<(), Errno> {
    syscall!(libc::SYS_fcntl, fd, libc::F_SETFL, flags).map(drop)
}

/// A short sleep, by clock_nanosleep(2), for a thread that waits for another's few system calls: yielding would not let a thread of
/// lower priority run.
pub(crate) fn pause() {
    sleep(timespec { tv_sec: 0, tv_nsec: 50_000 });
}

/// clock_nanosleep(2); a signal ends it early.
pub(crate) fn sleep(time: timespec) {
    let rest = null_mut::<timespec>();
    let _ = syscall!(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, from_ref(&time), rest);
}

/// tgkill(2) with signal 0: does the thread exist?
pub(crate) fn is_alive(process: c_int, thread: c_int) -> bool {
    syscall!(libc::SYS_tgkill, process, thread, 0) != Err(libc::ESRCH)
}

/// kcmp(2) with `KCMP_VM`: does that process run in our memory? Where the kernel does not tell: no.
pub(crate) fn shares_memory_with(other: c_int) -> bool {
    const KCMP_VM: c_int = 1;
    syscall!(libc::SYS_kcmp, process(), other, KCMP_VM, 0, 0) == Ok(0)
}

/// kcmp(2) with `KCMP_FILES`: does that thread have our table of descriptors?
///
/// # Errors
/// `ESRCH` when there is no such thread; others where the kernel does not tell.
pub(crate) fn shares_descriptors_with(other: c_int) -> Result<bool, Errno> {
    const KCMP_FILES: c_int = 2;
    syscall!(libc::SYS_kcmp, thread(), other, KCMP_FILES, 0, 0).map(|order| order == 0)
}

/// prlimit(2): the soft limit on descriptors.
pub(crate) fn descriptor_limit() -> Result<u64, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    syscall!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, null::<libc::rlimit>(), from_mut(&mut limit))
        .map(|_| limit.rlim_cur)
}

/// The monotonic clock.
pub(crate) fn now() -> timespec {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the vDSO writes one timespec; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time
}

/// Seconds of the coarse monotonic clock.
pub(crate) fn coarse_seconds() -> libc::time_t {
    coarse_now().tv_sec
}

/// Milliseconds of the coarse monotonic clock.
pub(crate) fn coarse_milliseconds() -> u64 {
    let now = coarse_now();
    now.tv_sec.cast_unsigned().wrapping_mul(1000).wrapping_add(now.tv_nsec.cast_unsigned() / 1_000_000)
}

fn coarse_now() -> timespec {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the vDSO writes one timespec; CLOCK_MONOTONIC_COARSE always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time
}

/// Zeroed memory from mmap(2), for arrays that do not fit the stack budget; unmapped when dropped.
pub(crate) struct Mapping {
    start: *mut c_void,
    len: usize,
}

impl Mapping {
    /// Room for `count` values of `T`, all zero.
    pub(crate) fn new<T>(count: usize) -> Result<Self, Errno> {
        let len = count.max(1).checked_mul(size_of::<T>()).ok_or(libc::ENOMEM)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = syscall!(libc::SYS_mmap, null_mut::<c_void>(), len, protection, flags, -1, 0)?;
        Ok(Self { start: start as *mut c_void, len })
    }

    /// Where the memory begins; page-aligned.
    pub(crate) fn start(&self) -> *mut c_void {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = syscall!(libc::SYS_munmap, self.start, self.len);
    }
}

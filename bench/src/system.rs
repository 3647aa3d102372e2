//! The system calls that std does not have; the one file with `unsafe` code.
//!
//! poll and epoll_wait are libc's on purpose: they are what presocks hooks.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::time::Duration;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Moves this thread, and all that it starts, into namespaces of their own (unshare(2)).
///
/// # Errors
/// `EPERM` where that is not allowed; `EINVAL` for a user namespace when there are other threads.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { libc::unshare(flags) }).map(drop)
}

/// This user and group.
pub(crate) fn identity() -> (u32, u32) {
    // SAFETY: no pointers, cannot fail.
    let user = unsafe { libc::geteuid() };
    // SAFETY: the same.
    let group = unsafe { libc::getegid() };
    (user, group)
}

/// Starts the loopback device and gives it one more address (netdevice(7)).
///
/// # Errors
/// `EPERM` in a network namespace that is not ours.
pub(crate) fn start_loopback(address: Ipv4Addr) -> io::Result<()> {
    // SAFETY: no pointers.
    let fd = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: it was just made and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut request = interface_request("lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    let mut request = interface_request("lo:0");
    let bytes = address.octets();
    let mut data = [0; 14];
    for (place, byte) in data.iter_mut().skip(2).zip(bytes) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_addr =
        libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data };
    // SAFETY: SIOCSIFADDR reads one ifreq.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) })?;
    Ok(())
}

fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: all zeroes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request
}

/// Orphans of our children become our children (prctl(2)), so that their processor time is counted.
///
/// # Errors
/// `EINVAL` before Linux 3.4.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// The command is killed when this thread ends, however that happens.
pub(crate) fn die_with_us(command: &mut Command) {
    let promise = || {
        // SAFETY: no pointers.
        checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }).map(drop)
    };
    // SAFETY: prctl(2) is a plain system call.
    unsafe { command.pre_exec(promise) };
}

/// Waits for a child that std does not know.
///
/// # Errors
/// `ECHILD` when it is none of ours.
pub(crate) fn wait_for(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: a null status is allowed.
    checked(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }).map(drop)
}

/// Kills a process.
///
/// # Errors
/// `ESRCH` when there is none.
pub(crate) fn kill(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: no pointers.
    checked(unsafe { libc::kill(pid, libc::SIGKILL) }).map(drop)
}

/// Processor time of all descendants that have been waited for (getrusage(2)).
///
/// # Errors
/// None that are known.
pub(crate) fn processor_time_of_children() -> io::Result<Duration> {
    // SAFETY: all zeroes are a valid rusage.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: room for one rusage.
    checked(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) })?;
    Ok(duration(usage.ru_utime) + duration(usage.ru_stime))
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
}

/// Clock ticks per second, the unit of /proc/PID/stat.
pub(crate) fn ticks_per_second() -> f64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// Lets so many connections wait to be accepted; std's listeners have room for 128.
///
/// # Errors
/// Those of listen(2).
pub(crate) fn widen_backlog(listener: &impl std::os::fd::AsRawFd, room: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers; on a listening socket this only sets the length of the queue.
    checked(unsafe { libc::listen(listener.as_raw_fd(), room) }).map(drop)
}

/// Has every datagram that is received come with the address to which it was sent (ip(7), IP_PKTINFO).
///
/// # Errors
/// Those of setsockopt(2).
pub(crate) fn tell_destinations(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: one int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    checked(result).map(drop)
}

/// Receives a datagram and sends it back, from the address to which it was sent: what tells it on arrival asks for it on sending.
///
/// # Errors
/// Those of recvmsg(2) and sendmsg(2).
pub(crate) fn send_back(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<()> {
    // SAFETY: all zeroes are valid for any of these.
    let mut sender: libc::sockaddr_in = unsafe { zeroed() };
    // Aligned as a cmsghdr must be, and with room for one and an in_pktinfo.
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut sender).cast();
    message.msg_namelen = size_of_val(&sender) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: everything that the message names lives, and is as long as it says.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(len) = usize::try_from(len) else {
        return Err(io::Error::last_os_error());
    };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len };
    message.msg_iov = &raw mut part;
    // SAFETY: the same message, its part as long as what has come.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// While it lives, this thread, and every thread and process that it starts, runs on one processor.
pub(crate) struct Pinned(libc::cpu_set_t);

impl Pinned {
    /// # Errors
    /// Those of sched_setaffinity(2).
    pub(crate) fn to_one_processor() -> io::Result<Self> {
        // SAFETY: a set is plain bits; none is set.
        let mut before: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: room for a set.
        checked(unsafe { libc::sched_getaffinity(0, size_of_val(&before), &raw mut before) })?;
        let mut one = before;
        let mut found = false;
        for processor in 0..libc::CPU_SETSIZE as usize {
            // SAFETY: the number is below the set's size.
            if unsafe { libc::CPU_ISSET(processor, &one) } {
                if found {
                    // SAFETY: as above.
                    unsafe { libc::CPU_CLR(processor, &mut one) };
                }
                found = true;
            }
        }
        // SAFETY: a set.
        checked(unsafe { libc::sched_setaffinity(0, size_of_val(&one), &raw const one) })?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the set that the kernel gave.
        unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &raw const self.0) };
    }
}

/// getppid(2), asked of the kernel.
pub(crate) fn parent() -> io::Result<()> {
    // SAFETY: no arguments.
    let result = unsafe { libc::syscall(libc::SYS_getppid) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// connect(2) as a bare system call, with a Unix address, on descriptor 0, which is no socket: the kernel refuses it at once, whoever was asked
/// before.
pub(crate) fn connect_nowhere() -> io::Result<()> {
    let address = libc::AF_UNIX as u16;
    let len = size_of_val(&address);
    // SAFETY: an address and its length.
    let result = unsafe { libc::syscall(libc::SYS_connect, 0, &raw const address, len) };
    if result == -1 { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// syslog(3).
pub(crate) fn log() {
    // SAFETY: both strings end with a NUL, and the format takes one.
    unsafe { libc::syslog(libc::LOG_INFO, c"%s".as_ptr(), c"a line".as_ptr()) };
}

/// An empty `/dev`, which nobody else sees.
pub(crate) fn own_devices() -> io::Result<()> {
    unshare(libc::CLONE_NEWNS)?;
    let mount = |place: &CStr, kind: &CStr, flags| {
        // SAFETY: strings that end with a NUL, and no data.
        checked(unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, null()) })
    };
    mount(c"/", c"none", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(c"/dev", c"tmpfs", 0).map(drop)
}

/// A netlink socket.
pub(crate) fn netlink() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    checked(fd)?;
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `RTM_GETLINK` for the first link (rtnetlink(7)).
pub(crate) fn ask_about_loopback(socket: &OwnedFd) -> io::Result<()> {
    let request: [u32; 8] =
        [32, u32::from(libc::RTM_GETLINK) | (libc::NLM_F_REQUEST as u32) << 16, 1, 0, 0, 1, 0, 0];
    // SAFETY: all-zero is a valid address.
    let mut kernel: libc::sockaddr_nl = unsafe { zeroed() };
    kernel.nl_family = libc::AF_NETLINK as u16;
    let to = (&raw const kernel).cast();
    let len = size_of_val(&kernel) as u32;
    // SAFETY: pointers and lengths of live values.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), request.as_ptr().cast(), size_of_val(&request), 0, to, len)
    };
    right(sent > 0)?;
    let mut room = [0_u8; 4096];
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: all-zero is a valid header.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut kernel).cast();
    message.msg_namelen = len;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // SAFETY: the header, and what it points to, live.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    right(received > 200)
}

/// getifaddrs(3).
pub(crate) fn addresses() -> io::Result<()> {
    let mut list = null_mut();
    // SAFETY: room for a pointer.
    checked(unsafe { libc::getifaddrs(&raw mut list) })?;
    right(!list.is_null())?;
    // SAFETY: libc's list.
    unsafe { libc::freeifaddrs(list) };
    Ok(())
}

/// if_nameindex(3).
pub(crate) fn names() -> io::Result<()> {
    // SAFETY: no arguments.
    let index = unsafe { libc::if_nameindex() };
    right(!index.is_null())?;
    // SAFETY: libc's index.
    unsafe { libc::if_freenameindex(index) };
    Ok(())
}

/// getaddrinfo(3) without hints.
pub(crate) fn look_up(node: Option<&CStr>) -> io::Result<()> {
    let mut list = null_mut();
    let node = node.map_or(null(), CStr::as_ptr);
    // SAFETY: strings that end with a NUL, or null; no hints; room for a pointer.
    let error = unsafe { libc::getaddrinfo(node, c"80".as_ptr(), null(), &raw mut list) };
    right(error == 0)?;
    // SAFETY: libc's list.
    unsafe { libc::freeaddrinfo(list) };
    Ok(())
}

fn right(is: bool) -> io::Result<()> {
    if is { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Waits until a descriptor is readable, by libc's poll.
///
/// # Errors
/// Those of poll(2).
pub(crate) fn poll_readable(fd: RawFd) -> io::Result<()> {
    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    checked(unsafe { libc::poll(&raw mut polled, 1, -1) }).map(drop)
}

/// An epoll set.
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    /// A set that watches whether `fd` is readable.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and epoll_ctl(2).
    pub(crate) fn watching(fd: RawFd) -> io::Result<Self> {
        // SAFETY: no pointers.
        let set = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: it was just made and is nobody else's.
        let set = unsafe { OwnedFd::from_raw_fd(set) };
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: one event.
        checked(unsafe { libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(Self(set))
    }

    /// Waits for an event, by libc's epoll_wait.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    pub(crate) fn wait(&self) -> io::Result<()> {
        const ROOM: usize = 8;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; ROOM];
        debug_assert_eq!(size_of_val(&events), ROOM * size_of::<libc::epoll_event>());
        // SAFETY: room for as many events as said.
        checked(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), ROOM as libc::c_int, -1) })
            .map(drop)
    }
}

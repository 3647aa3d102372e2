//! Sockets that tell their program by a signal when something can be done with them (fcntl(2), `O_ASYNC`). While a connect is under way the flag is off, or
//! the kernel would tell of our handshake; then the program is told of the end.
//!
//! Only the kernel can send this signal as it does: with the socket's number, and to those whom the socket's owner may signal. So the broker has a
//! socket of its own, with the owner and the signal of the program's, and has happen to that what would have happened to the program's: it is connected,
//! or refused, and hears data. The number that the signal gives is the one under which the flag was set. That is done in a process of the
//! broker's that has a table of descriptors of its own, and so may have the program's number in it.

use std::io;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fcntl_getfl;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, socket_with};
use tokio::io::Interest;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::readiness::watch;

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;

/// On loopback all comes at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Turns the flag off; whether it was on.
pub(crate) fn turn_off(socket: BorrowedFd<'_>) -> bool {
    let is_on = fcntl_getfl(socket).is_ok_and(|flags| flags.bits() & libc::O_ASYNC.cast_unsigned() != 0);
    is_on && set_async(socket.as_raw_fd(), 0)
}

/// Turns the flag on again: the kernel signals how the connect ends.
pub(crate) fn turn_on(socket: BorrowedFd<'_>) {
    // It was on before.
    set_async(socket.as_raw_fd(), 1);
}

/// Turns the flag on again, as if the program did it under this number; who will tell it how the connect has ended.
pub(crate) fn restore(socket: BorrowedFd<'_>, number: RawFd, is_connected: bool) -> Option<Teller> {
    let surrogate = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    );
    let surrogate = surrogate.ok().filter(|surrogate| take_over(socket, surrogate.as_fd()).is_ok());
    let Some(surrogate) = surrogate else {
        set_async(socket.as_raw_fd(), 1);
        return None;
    };
    let mut task = Task {
        socket: socket.as_raw_fd(),
        surrogate: surrogate.as_raw_fd(),
        number,
        owner: owner(socket),
        users: users(socket),
        is_told: false,
    };
    if !with_a_table_of_its_own(&mut task) {
        set_async(socket.as_raw_fd(), 1);
    }
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    let has_data = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0);
    task.is_told.then_some(Teller { surrogate, is_connected, has_data })
}

/// The owner's signal.
fn take_over(socket: BorrowedFd<'_>, surrogate: BorrowedFd<'_>) -> io::Result<()> {
    let signal = control(socket.as_raw_fd(), F_GETSIG, 0)?;
    control(surrogate.as_raw_fd(), F_SETSIG, signal.unsigned_abs() as usize).map(drop)
}

/// `struct f_owner_ex`: what it is, and its number.
fn owner(socket: BorrowedFd<'_>) -> [i32; 2] {
    let mut owner = [0; 2];
    // Without an owner nobody is told.
    let _ = control(socket.as_raw_fd(), F_GETOWN_EX, owner.as_mut_ptr().addr());
    owner
}

/// The users, real and effective, in whose name signals are sent; where the kernel does not tell, ours.
fn users(socket: BorrowedFd<'_>) -> Option<[u32; 2]> {
    let mut users = [0_u32; 2];
    control(socket.as_raw_fd(), F_GETOWNER_UIDS, users.as_mut_ptr().addr()).ok()?;
    let own = [rustix::process::getuid().as_raw(), rustix::process::geteuid().as_raw()];
    (users != own).then_some(users)
}

#[allow(unsafe_code, reason = "rustix does not know of owners and signals")]
fn control(fd: RawFd, command: i32, argument: usize) -> io::Result<i32> {
    // SAFETY: the argument is a number, or the address of a live pair of ints, as the command wants.
    let result = unsafe { libc::fcntl(fd, command, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `FIOASYNC`: this flag alone, whatever the program does to the others at the same time.
#[allow(unsafe_code, reason = "rustix has no such call")]
fn set_async(fd: RawFd, on: i32) -> bool {
    // SAFETY: the kernel reads an int.
    unsafe { libc::ioctl(fd, libc::FIOASYNC, &raw const on) == 0 }
}

/// What is done in a table of descriptors of its own.
struct Task {
    socket: RawFd,
    surrogate: RawFd,
    number: RawFd,
    owner: [i32; 2],
    users: Option<[u32; 2]>,
    is_told: bool,
}

impl Task {
    /// System calls alone: it runs in the broker's memory, while the broker waits.
    #[allow(unsafe_code, reason = "the calls of libc would change all threads")]
    fn run(&mut self) -> bool {
        let owner = self.owner.as_ptr().addr();
        // SAFETY: numbers, and the address of a live pair of ints.
        let call = |number, a: i32, b: i32, c: usize| unsafe { libc::syscall(number, a, b, c) };
        // Out of the way of the number that is meant.
        let above = usize::try_from(self.number).unwrap_or_default() + 1;
        let [socket, surrogate] = [self.socket, self.surrogate]
            .map(|fd| RawFd::try_from(call(libc::SYS_fcntl, fd, libc::F_DUPFD, above)).unwrap_or(-1));
        let is_moved =
            |fd| fd >= 0 && call(libc::SYS_dup3, fd, self.number, 0) >= 0 && set_async(self.number, 1);
        let is_restored = is_moved(socket);
        if let Some([real, effective]) = self.users {
            let (real, effective) = (real.cast_signed(), effective.cast_signed());
            if call(libc::SYS_setresuid, real, effective, effective.cast_unsigned() as usize) < 0 {
                return is_restored;
            }
        }
        let has_owner =
            self.owner != [0; 2] && call(libc::SYS_fcntl, self.surrogate, F_SETOWN_EX, owner) >= 0;
        self.is_told = has_owner && (is_moved(surrogate) || set_async(self.surrogate, 1));
        is_restored
    }
}

/// Runs the task in a process that shares our memory alone (clone(2), `CLONE_VFORK`). Was the flag restored?
#[allow(unsafe_code, reason = "no safe call makes such a process")]
fn with_a_table_of_its_own(task: &mut Task) -> bool {
    extern "C" fn run(task: *mut libc::c_void) -> i32 {
        // SAFETY: the caller's task, which it does not touch meanwhile.
        let task = unsafe { &mut *task.cast::<Task>() };
        i32::from(!task.run())
    }
    const STACK: usize = 64 * 1024;
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    let mut status = -1;
    // SAFETY: the stack grows down from its end, which is aligned; it and the task outlive the process, for whose end the kernel has us wait.
    let process =
        unsafe { libc::clone(run, stack.as_mut_ptr_range().end.cast(), flags, (&raw mut *task).cast()) };
    if process < 0 {
        return false;
    }
    // SAFETY: writes a status. It is no child for others that wait: it sends no SIGCHLD.
    while unsafe { libc::waitpid(process, &raw mut status, libc::__WCLONE) } < 0 {
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return false;
        }
    }
    status == 0
}

/// Tells a program, by a signal, how its connect has ended.
pub(crate) struct Teller {
    surrogate: OwnedFd,
    is_connected: bool,
    /// Is there something to read already?
    has_data: bool,
}

impl Teller {
    /// Tells. To be called when the program can know how it has ended.
    pub(crate) async fn tell(self) {
        // Others who wait for the same end are answered first.
        yield_now().await;
        yield_now().await;
        // What fails here fails for want of memory or descriptors: the program is not told.
        let _ = timeout(PATIENCE, async {
            if self.is_connected { self.connect().await } else { self.fail().await }
        })
        .await;
    }

    async fn connect(&self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        self.begin(listener.local_addr()?);
        drop(watch(self.surrogate.as_fd(), Interest::WRITABLE)?.writable().await?);
        if self.has_data {
            let (mut other, _) = listener.accept()?;
            other.write_all(&[0])?;
            drop(watch(self.surrogate.as_fd(), Interest::READABLE)?.readable().await?);
            self.turn_off();
        }
        self.turn_off();
        Ok(())
    }

    /// Nobody listens where it goes.
    async fn fail(&self) -> io::Result<()> {
        let silent = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&silent, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        self.begin(SocketAddr::try_from(getsockname(&silent)?)?);
        drop(watch(self.surrogate.as_fd(), Interest::WRITABLE)?.writable().await?);
        Ok(())
    }

    /// What comes of it when the other side is closed is no longer the program's.
    fn turn_off(&self) {
        set_async(self.surrogate.as_raw_fd(), 0);
    }

    fn begin(&self, to: SocketAddr) {
        // It is under way, or over: either is told by the socket.
        let _ = connect(&self.surrogate, &to);
    }
}

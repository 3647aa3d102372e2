//! fork, exec, signals and descriptors: the system calls of starting, each safe to call where its comment says.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::null;

use rustix::process::{PidfdFlags, pidfd_open};

use crate::procfs::{self, Stat};

/// A process number.
pub(crate) type Pid = i32;

/// Which side of a fork this is.
pub(crate) enum Forked {
    Parent(Pid),
    Child,
}

/// fork(2). Only while the process has a single thread: everything may be done in the child, then.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: no other thread exists that could hold a lock.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent(child)),
    }
}

/// _exit(2): nothing of the parent's is flushed or run.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: always safe; it does not return.
    unsafe { libc::_exit(status) }
}

/// prctl(2) `PR_SET_CHILD_SUBREAPER`.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: takes one flag.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
}

/// In the broker: its own session, so that no terminal stops or interrupts it; deaf to a terminal that goes away and to a request
/// to end that everybody gets (systemd's to a whole unit), for it ends with its last descendant; a directory that keeps no file
/// system busy; a name of its own in ps.
pub(crate) fn leave_terminal() {
    // SAFETY: no arguments. Fails only for a group leader, which a forked process is not.
    unsafe { libc::setsid() };
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM, libc::SIGTSTP, libc::SIGPIPE] {
        // SAFETY: a disposition that runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: a string. Fails only where nobody could be.
    unsafe { libc::chdir(c"/".as_ptr()) };
    // SAFETY: a string of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"presocks-broker".as_ptr()) };
}

/// kill(2). A process that is gone needs no signal.
pub(crate) fn send_signal(to: Pid, signal: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::kill(to, signal) };
}

/// The set of blocked signals, and whether SIGCHLD was ignored, as they were before `block_all`.
pub(crate) struct SignalMask {
    blocked: libc::sigset_t,
    ignores_children: bool,
}

impl SignalMask {
    /// Blocks every signal; the mask as it was. Children are waited for from now on: whoever ignores SIGCHLD never learns how they
    /// ended (wait(2)), and it is inherited.
    pub(crate) fn block_all() -> Self {
        let mut before = MaybeUninit::uninit();
        let all = full_set();
        // SAFETY: both sets are valid for the call.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, before.as_mut_ptr()) };
        // SAFETY: a disposition that runs no code.
        let children = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        // SAFETY: sigprocmask fails only on a wrong first argument, so it has written the set.
        Self { blocked: unsafe { before.assume_init() }, ignores_children: children == libc::SIG_IGN }
    }

    /// In the command's process, before exec: as the user had it.
    pub(crate) fn restore(&self) {
        if self.ignores_children {
            // SAFETY: a disposition that runs no code.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        }
        // SAFETY: a valid set.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.blocked, std::ptr::null_mut()) };
    }

    /// In the broker: nothing is blocked, whatever the user had.
    pub(crate) fn restore_default(&self) {
        let none = empty_set();
        // SAFETY: a valid set.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: writes the set.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: written above.
    unsafe { set.assume_init() }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: writes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: written above.
    unsafe { set.assume_init() }
}

/// signalfd(2) for every signal that can be blocked.
pub(crate) fn signal_descriptor() -> io::Result<OwnedFd> {
    signal_descriptor_of(&full_set())
}

/// A signal that the front received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) signal: i32,
    /// The process that sent it; `None` when the kernel did (a terminal's signals).
    pub(crate) sender: Option<Pid>,
}

/// The same for the signal by which the kernel tells of children, which is blocked from now on. Only while the process has a single thread:
/// later ones block it, too.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    let mut set = empty_set();
    // SAFETY: a valid set and a signal.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: a valid set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    signal_descriptor_of(&set)
}

fn signal_descriptor_of(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    // SAFETY: a valid set; -1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal of a signal descriptor.
pub(crate) fn next_signal(descriptor: &OwnedFd) -> Option<Received> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let len = size_of::<libc::signalfd_siginfo>();
    // SAFETY: room for one record.
    let read = unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast(), len) };
    if usize::try_from(read) != Ok(len) {
        return None;
    }
    // SAFETY: the kernel wrote a whole record.
    let info = unsafe { info.assume_init() };
    let by_a_process = matches!(info.ssi_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL);
    Some(Received {
        signal: info.ssi_signo.cast_signed(),
        sender: by_a_process.then_some(info.ssi_pid.cast_signed()),
    })
}

/// Does to this process what `signal` does by default: ends it, or stops it until it is continued.
pub(crate) fn take_signal(signal: i32) {
    // SAFETY: a disposition that runs no code.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: plain numbers.
    unsafe { libc::raise(signal) };
    let mut set = empty_set();
    // SAFETY: a valid set.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    let mut before = MaybeUninit::uninit();
    // SAFETY: valid sets. The signal is delivered here.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, before.as_mut_ptr()) };
    // SAFETY: written by the call above. Only reached if the signal stops, not ends.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
}

/// Is the process stopped at this moment?
pub(crate) fn is_stopped(process: Pid) -> bool {
    Stat::of(process).and_then(|stat| stat.state()) == Some('T')
}

/// setrlimit(2): the front must not leave a second core file.
pub(crate) fn forbid_core_file() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit; lowering is always allowed.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
}

/// How a child changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Stopped(i32),
    Continued,
    Exited(i32),
    Killed(i32),
}

/// waitpid(2) without waiting: the next change of a child, any (-1) or one. `Ok(None)`: none now.
///
/// # Errors
/// `ECHILD` when there is no child.
pub(crate) fn next_change(child: Pid) -> io::Result<Option<(Pid, Change)>> {
    let mut status = 0;
    let options = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
    // SAFETY: room for a status.
    let pid = check(unsafe { libc::waitpid(child, &raw mut status, options) })?;
    Ok((pid != 0).then(|| {
        let change = if libc::WIFSTOPPED(status) {
            Change::Stopped(libc::WSTOPSIG(status))
        } else if libc::WIFCONTINUED(status) {
            Change::Continued
        } else if libc::WIFSIGNALED(status) {
            Change::Killed(libc::WTERMSIG(status))
        } else {
            Change::Exited(libc::WEXITSTATUS(status))
        };
        (pid, change)
    }))
}

/// waitid(2) without waiting: a child that has ended. It still is to be waited for, and until then has its name in /proc.
pub(crate) fn ended_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: room for a record.
    check(unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) }).ok()?;
    // SAFETY: all zero, or written by the call above.
    let info = unsafe { info.assume_init() };
    // SAFETY: a record about a child, or all zero.
    Some(unsafe { info.si_pid() }).filter(|pid| *pid != 0)
}

/// waitpid(2): waits for the end of a child, whatever it is. Its own children have a new parent by then.
pub(crate) fn await_end(child: Pid) {
    // SAFETY: no status is asked for. It fails for a signal, of which none can interrupt us: all are blocked.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

/// pidfd_open(2): readable when the process has ended. `None` where the kernel has none (before Linux 5.3), or refuses it.
pub(crate) fn handle(of: Pid) -> Option<OwnedFd> {
    pidfd_open(rustix::process::Pid::from_raw(of)?, PidfdFlags::empty()).ok()
}

/// This process's number.
pub(crate) fn own_number() -> Pid {
    std::process::id().cast_signed()
}

/// A vector of strings as exec(3) wants it.
pub(crate) struct Strings {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    pub(crate) fn new(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|string| string.as_ptr()).chain([null()]).collect();
        Self { _owned: owned, pointers }
    }

    pub(crate) fn first(&self) -> Option<&CStr> {
        self._owned.first().map(CString::as_c_str)
    }
}

/// execvpe(3): only returns when it fails.
pub(crate) fn execute(arguments: &Strings, environment: &Strings) -> io::Error {
    let Some(program) = arguments.first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    // SAFETY: both vectors end with a null pointer, and their strings live.
    unsafe { libc::execvpe(program.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// close(2) of a number that is nobody's in this process but a placeholder's.
pub(crate) fn close(number: RawFd) {
    // SAFETY: nothing here owns it; the process is about to be replaced.
    unsafe { libc::close(number) };
}

/// In the broker and the front: closes every descriptor but those in `kept`, and puts /dev/null on 0 and 1.
pub(crate) fn keep_only(kept: &[RawFd]) -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    for stream in [0, 1] {
        // SAFETY: both numbers are open; nothing here owns the standard streams.
        check(unsafe { libc::dup2(null.as_raw_fd(), stream) })?;
    }
    drop(null);
    let mut ends: Vec<RawFd> = kept.to_vec();
    ends.sort_unstable();
    ends.retain(|number| *number >= 2);
    let mut from = 2_u32;
    for number in ends {
        close_between(from, number.unsigned_abs())?;
        from = number.unsigned_abs() + 1;
    }
    close_between(from, u32::MAX)
}

/// close_range(2), or, before Linux 5.9, one by one.
fn close_between(from: u32, below: u32) -> io::Result<()> {
    let Some(last) = below.checked_sub(1).filter(|last| *last >= from) else {
        return Ok(());
    };
    // SAFETY: plain numbers; what is closed belongs to no value of this process.
    if unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) } == 0 {
        return Ok(());
    }
    let numbers = procfs::own_descriptors()?.into_iter();
    for number in numbers.filter(|number| (from..=last).contains(number)) {
        close(number.cast_signed());
    }
    Ok(())
}

/// After `keep_only`: lets go of stderr too; nothing of the command's is held any more. /dev/null is at hand as stdin: this needs no new
/// descriptor, of which none may be left.
pub(crate) fn release_stderr() -> io::Result<()> {
    // SAFETY: both numbers are open.
    check(unsafe { libc::dup2(0, 2) }).map(drop)
}

/// getrlimit(2): how many descriptors this process may have.
#[derive(Clone, Copy)]
pub(crate) struct DescriptorLimit(libc::rlimit);

impl DescriptorLimit {
    /// As it is now.
    pub(crate) fn current() -> io::Result<Self> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: room for a limit.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
        Ok(Self(limit))
    }

    /// As many as there may be now.
    pub(crate) fn number(self) -> u64 {
        self.0.rlim_cur
    }

    /// As far up as it goes, for all that we do; as it is if the kernel refuses that.
    pub(crate) fn raised(self) -> io::Result<Self> {
        // A hard limit above fs.nr_open (proc(5)) cannot be set, not even to what it is.
        let _ = Self(libc::rlimit { rlim_cur: self.0.rlim_max, ..self.0 }).set();
        Self::current()
    }

    /// In the command's process, before exec: as the user had it.
    pub(crate) fn set(self) -> io::Result<()> {
        // SAFETY: a valid limit.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) }).map(drop)
    }
}

/// The descriptor's number.
pub(crate) fn number(descriptor: &OwnedFd) -> RawFd {
    descriptor.as_raw_fd()
}

fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

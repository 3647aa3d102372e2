//! Says so when the event loop is stuck: when it uses processor time and gets round to no task.
//!
//! A timer on the processor time of the loop's thread has a task asked for a sign of life; if there is none when the timer expires
//! again, one line says that the broker hangs. A loop that waits uses no processor time, and so is never woken.
//!
//! It ends nothing: the front does that when it waits in vain (`launch/front.rs`).
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{from_ref, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libc::{c_int, c_void, siginfo_t};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::io::Interest;

use crate::readiness::watch;

/// Processor time between two questions: far more than the loop ever needs to come round, with however many connections.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// The timer's signal; nothing else of ours uses it.
const SIGNAL: c_int = libc::SIGPROF;

/// What the signal handler sees.
struct Watchdog {
    /// Readable when there is a question.
    questions: OwnedFd,
    is_asked: AtomicBool,
    has_barked: AtomicBool,
    line: String,
    /// Where the line goes: stderr, whatever that is by then.
    output: RawFd,
}

/// Gives signs of life for the thread that it runs on; never returns.
///
/// # Errors
/// When there is no descriptor or no timer to be had.
pub(super) async fn attend(interval: Duration, output: RawFd) -> io::Result<()> {
    let line = format!(
        "presocks: the broker (process {}) is in an endless loop and serves no connection: this is a fault of presocks, please \
         report it; presocks can be ended as ever (TERM)\n",
        std::process::id()
    );
    // The handler may run for as long as the thread does.
    let watchdog: &'static Watchdog = Box::leak(Box::new(Watchdog {
        questions: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        is_asked: AtomicBool::new(false),
        has_barked: AtomicBool::new(false),
        line,
        output,
    }));
    let questions = watch(watchdog.questions.as_fd(), Interest::READABLE)?;
    install_handler()?;
    start_timer(watchdog, interval)?;
    loop {
        let read = |fd: &BorrowedFd<'_>| Ok(rustix::io::read(fd, &mut [0; 8])?);
        questions.async_io(Interest::READABLE, read).await?;
        watchdog.is_asked.store(false, Ordering::Relaxed);
    }
}

impl Watchdog {
    /// In the signal handler: system calls without libc, so that errno stays what it is, and atomics.
    fn tick(&self) {
        if !self.is_asked.swap(true, Ordering::Relaxed) {
            // There is always room for a question that follows an answer.
            let _ = rustix::io::write(&self.questions, &u64::to_ne_bytes(1));
        } else if !self.has_barked.swap(true, Ordering::Relaxed) {
            // SAFETY: if nobody has it open any more, the calls below fail.
            let output = unsafe { BorrowedFd::borrow_raw(self.output) };
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            // A terminal or pipe that takes nothing must not be waited for.
            if poll(&mut [PollFd::new(&output, PollFlags::OUT)], Some(&now)) == Ok(1) {
                // There is nowhere to say that stderr fails.
                let _ = rustix::io::write(output, self.line.as_bytes());
            }
        }
    }
}

extern "C" fn handle(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a record (sigaction(2)).
    let info = unsafe { &*info };
    if info.si_code != libc::SI_TIMER {
        return;
    }
    // SAFETY: a timer's signal has a value.
    let value = unsafe { info.si_value() };
    // SAFETY: the only timers of this process are `start_timer`'s, whose value is a watchdog that lives for ever.
    let watchdog = unsafe { &*value.sival_ptr.cast::<Watchdog>() };
    watchdog.tick();
}

fn install_handler() -> io::Result<()> {
    // SAFETY: all zero is an action without flags, and an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: a valid action, whose handler makes system calls and uses atomics only.
    check(unsafe { libc::sigaction(SIGNAL, &raw const action, null_mut()) })
}

/// timer_create(2) on this thread's processor time; this thread gets the signals.
fn start_timer(watchdog: &'static Watchdog, interval: Duration) -> io::Result<()> {
    // SAFETY: all zero is a valid event.
    let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = SIGNAL;
    event.sigev_value = libc::sigval { sival_ptr: from_ref(watchdog).cast_mut().cast() };
    event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
    let mut timer = MaybeUninit::uninit();
    // SAFETY: a valid event, and room for a timer.
    check(unsafe { libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut event, timer.as_mut_ptr()) })?;
    // SAFETY: written by the call above.
    let timer = unsafe { timer.assume_init() };
    let each = libc::timespec {
        tv_sec: interval.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: interval.subsec_nanos().into(),
    };
    let times = libc::itimerspec { it_interval: each, it_value: each };
    // SAFETY: a timer of ours, and valid times.
    check(unsafe { libc::timer_settime(timer, 0, &raw const times, null_mut()) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read as _, pipe};
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    use std::thread;

    use rustix::io::ioctl_fionbio;
    use tokio::runtime;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    /// Runs `work` on an event loop with a watchdog over it; what the watchdog says.
    fn watched<F: Future>(work: impl FnOnce(PipeReader) -> F + Send) -> F::Output
    where
        F::Output: Send,
    {
        let (said, output) = pipe().unwrap();
        ioctl_fionbio(&said, true).unwrap();
        // It stays open: the watchdog lives on.
        let output = output.into_raw_fd();
        thread::scope(|scope| {
            let loops = scope.spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_io().build().unwrap();
                LocalSet::new().block_on(&runtime, async {
                    spawn_local(attend(SHORT, output));
                    yield_now().await;
                    work(said).await
                })
            });
            loops.join().unwrap()
        })
    }

    /// This thread's processor time.
    fn used() -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: room for a time.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
        Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
    }

    fn read(said: &mut PipeReader) -> String {
        let mut line = [0; 4096];
        let len = said.read(&mut line).unwrap_or(0);
        String::from_utf8_lossy(&line[..len]).into_owned()
    }

    #[test]
    fn a_loop_that_is_stuck_is_told_of_once() {
        let (first, second) = watched(|mut said| async move {
            let first = loop {
                let line = read(&mut said);
                if !line.is_empty() {
                    break line;
                }
            };
            let enough = used() + 10 * SHORT;
            while used() < enough {}
            (first, read(&mut said))
        });
        let number = std::process::id();
        let expected = format!("presocks: the broker (process {number}) is in an endless loop");
        assert!(first.starts_with(&expected) && first.ends_with("(TERM)\n"), "{first}");
        assert_eq!(second, "");
    }

    #[test]
    fn a_loop_that_is_busy_and_comes_round_is_not() {
        let said = watched(|mut said| async move {
            let enough = used() + 20 * SHORT;
            while used() < enough {
                yield_now().await;
            }
            read(&mut said)
        });
        assert_eq!(said, "");
    }

    #[test]
    fn the_signal_of_another_means_nothing() {
        let said = watched(|mut said| async move {
            for _ in 0..3 {
                // SAFETY: a signal that has a handler.
                assert_eq!(unsafe { libc::raise(SIGNAL) }, 0);
            }
            read(&mut said)
        });
        assert_eq!(said, "");
    }

    #[test]
    fn a_stderr_that_takes_nothing_is_not_waited_for() {
        let (_reader, full) = pipe().unwrap();
        ioctl_fionbio(&full, true).unwrap();
        while rustix::io::write(&full, &[b'#'; 4096]).is_ok() {}
        ioctl_fionbio(&full, false).unwrap();
        let watchdog = Watchdog {
            questions: eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
            is_asked: AtomicBool::new(true),
            has_barked: AtomicBool::new(false),
            line: "a line\n".into(),
            output: full.as_raw_fd(),
        };
        watchdog.tick();
        assert!(watchdog.has_barked.load(Ordering::Relaxed));
    }
}

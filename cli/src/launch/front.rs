//! The front: what the user's shell sees of the command.
//!
//! It waits, relays signals, stops when the command stops, and ends as the command ends. It has no network, no policy and, if the broker is
//! gone, still the command: as its nearest living ancestor it inherits the process and its status.
//!
//! It never depends on the broker to go on: a broker that owes an answer for `STEPS` seconds is killed. One is owed when the command has
//! ended, when the user asks the command to end, and, if the user does so before there is a command, until there is one.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::command::Command;
use crate::exit::{Exit, say, say_at_once};
use crate::message::{Message, Messenger};
use crate::process::{self, Change, Pid, Received};

/// Signals that a terminal (or its end) sends to the whole group: the command has got them too.
const GROUP_SIGNALS: [i32; 7] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGWINCH];

/// Signals by which users ask programs to end.
const REQUESTS_TO_END: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// How long the broker may owe an answer: several short times, since all of us may be frozen during one (cgroups(7)).
const STEPS: u32 = 5;
const STEP: Duration = Duration::from_secs(1);

/// Waits for the command; every signal is blocked.
pub(super) fn run(messenger: &Messenger, broker: Pid, command: &Command) -> Exit {
    // What the command was given is the command's to close: a pipe's reader must not wait for us. stderr the broker holds as long as we do.
    if let Err(error) = process::keep_only(&[2, messenger.number()]) {
        say(format_args!("cannot let go of the command's descriptors: {error}"));
    }
    match Front::new(messenger, broker, command).and_then(Front::attend) {
        Ok(exit) => exit,
        Err(error) => Exit::ours(format_args!("cannot wait for the command: {error}")),
    }
}

struct Front<'a> {
    messenger: &'a Messenger,
    broker: Pid,
    command: &'a Command,
    signals: OwnedFd,
    child: Option<Child>,
    /// What came before there was a command: for it.
    held: Vec<Received>,
    /// We have asked the broker whether it still answers.
    is_asked: bool,
    is_killed: bool,
    patience: Option<Patience>,
}

/// The command's process.
struct Child {
    number: Pid,
    /// The command runs in it, for all that we know.
    has_started: bool,
    /// Readable when it has ended; `None` before Linux 5.3.
    handle: Option<OwnedFd>,
    has_ended: bool,
}

/// How long we still wait.
struct Patience {
    steps: u32,
    until: Instant,
}

impl<'a> Front<'a> {
    fn new(messenger: &'a Messenger, broker: Pid, command: &'a Command) -> io::Result<Self> {
        Ok(Self {
            messenger,
            broker,
            command,
            signals: process::signal_descriptor()?,
            child: None,
            held: Vec::new(),
            is_asked: false,
            is_killed: false,
            patience: None,
        })
    }

    fn attend(mut self) -> io::Result<Exit> {
        loop {
            self.patience =
                if self.is_owed() { self.patience.take().or(Some(Patience::new())) } else { None };
            let has_message = self.wait()?;
            if has_message {
                (self.is_asked, self.patience) = (false, None);
                if let Some(exit) = self.take_message()? {
                    return Ok(exit);
                }
            } else if self.patience.as_mut().is_some_and(Patience::is_over) {
                if self.is_killed {
                    return Ok(Exit::ours(format_args!(
                        "the broker (process {}) cannot be ended",
                        self.broker
                    )));
                }
                self.kill_broker();
            }
        }
    }

    fn is_owed(&self) -> bool {
        let has_ended = self.child.as_ref().is_some_and(|child| child.has_ended);
        has_ended || self.is_asked || self.is_killed || self.request_to_end().is_some()
    }

    /// What the user has asked for before there was a command.
    fn request_to_end(&self) -> Option<i32> {
        self.held.iter().map(|held| held.signal).find(|signal| REQUESTS_TO_END.contains(signal))
    }

    /// Waits for what comes first, and sees to all but messages: is there one?
    fn wait(&mut self) -> io::Result<bool> {
        let handle =
            self.child.as_ref().filter(|child| !child.has_ended).and_then(|child| child.handle.as_ref());
        let both = [self.messenger.as_fd(), self.signals.as_fd()];
        let all: Vec<_> = both.into_iter().chain(handle.map(OwnedFd::as_fd)).collect();
        let ready = wait(&all, self.patience.as_ref().map(Patience::left))?;
        let [has_message, has_signal, has_ended] = ready;
        if let Some(child) = &mut self.child {
            child.has_ended |= has_ended;
        }
        if has_signal {
            while let Some(received) = process::next_signal(&self.signals) {
                self.take_signal(received);
            }
        }
        Ok(has_message)
    }

    fn take_signal(&mut self, received: Received) {
        let is_ours = |child: &&Child| child.has_started || self.is_killed;
        let Some(child) = self.child.as_ref().filter(is_ours).map(|child| child.number) else {
            // As the kernel does: one of each kind waits.
            if !self.held.iter().any(|held| held.signal == received.signal) {
                self.held.push(received);
            }
            return;
        };
        self.relay(received, child);
        if REQUESTS_TO_END.contains(&received.signal) && !self.is_killed {
            // The broker may hold the command in a call that no signal interrupts (seccomp_unotify(2)).
            self.messenger.send(&Message::Ask);
            self.is_asked = true;
        }
    }

    fn take_message(&mut self) -> io::Result<Option<Exit>> {
        let child = self.child.as_ref().map(|child| child.number);
        let exit = match self.messenger.receive()? {
            Some(Message::Forked(pid)) => {
                self.child = Some(Child::new(pid));
                return Ok(None);
            }
            Some(Message::Abandoned) => {
                self.child = None;
                return Ok(None);
            }
            Some(Message::Started(pid)) => {
                self.child.get_or_insert_with(|| Child::new(pid)).has_started = true;
                for received in std::mem::take(&mut self.held) {
                    self.take_signal(received);
                }
                return Ok(None);
            }
            // By the time we hear of it the user may have continued the command.
            Some(Message::Stopped(signal)) if child.is_some_and(process::is_stopped) => {
                process::take_signal(signal);
                return Ok(None);
            }
            Some(Message::Stopped(_) | Message::Ask | Message::Alive) => return Ok(None),
            Some(Message::Exited(status)) => Exit::command(status),
            Some(Message::Killed(signal)) => die_of(signal),
            Some(Message::NotExecuted(errno)) => not_executed(self.command, errno),
            Some(Message::NotStarted(errno)) => {
                let error = io::Error::from_raw_os_error(errno);
                Exit::ours(format_args!("cannot start a process: {error}"))
            }
            Some(Message::Refused) => Exit::ours_already_said(),
            None => match (child, self.request_to_end()) {
                (Some(child), _) => self.wait_alone(child)?,
                (None, Some(signal)) => die_of(signal),
                (None, None) => Exit::ours(format_args!("the broker ended before the command was started")),
            },
        };
        Ok(Some(exit))
    }

    /// Without the broker the command is ours, wherever it is caught, and so is its status.
    fn kill_broker(&mut self) {
        say_at_once(format_args!(
            "the broker does not answer (process {}) and is killed: what still runs of its session has no network any more",
            self.broker
        ));
        process::send_signal(self.broker, libc::SIGKILL);
        self.is_killed = true;
        self.patience = None;
        self.relay_held();
    }

    /// The broker is gone: the command, an orphan now, is ours.
    fn wait_alone(&self, child: Pid) -> io::Result<Exit> {
        // A process that ends closes its descriptors first and gives its children away later.
        process::await_end(self.broker);
        // Who killed the broker has relayed them already.
        if !self.is_killed {
            self.relay_held();
        }
        loop {
            match process::next_change(child) {
                Ok(Some((_, Change::Exited(status)))) => return Ok(Exit::command(status)),
                Ok(Some((_, Change::Killed(signal)))) => return Ok(die_of(signal)),
                Ok(Some((_, Change::Stopped(signal)))) => process::take_signal(signal),
                Ok(Some((_, Change::Continued)) | None) => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    return Ok(Exit::ours(format_args!(
                        "the broker ended before it had told how the command did"
                    )));
                }
                Err(error) => return Err(error),
            }
            wait::<1>(&[self.signals.as_fd()], None)?;
            while let Some(received) = process::next_signal(&self.signals) {
                self.relay(received, child);
            }
        }
    }

    fn relay_held(&self) {
        for (received, child) in self.held.iter().zip(self.child.iter().cycle()) {
            self.relay(*received, child.number);
        }
    }

    fn relay(&self, received: Received, child: Pid) {
        let sent_to_group = received.sender.is_none() && GROUP_SIGNALS.contains(&received.signal);
        // What the command sends to its own group it has received itself.
        let sent_by_command = received.sender == Some(child);
        // It wakes us when the command has been continued.
        let sent_by_broker = received.sender == Some(self.broker);
        if received.signal != libc::SIGCHLD
            && received.signal != libc::SIGPIPE
            && !sent_to_group
            && !sent_by_command
            && !sent_by_broker
        {
            process::send_signal(child, received.signal);
        }
    }
}

impl Child {
    fn new(number: Pid) -> Self {
        Self { number, has_started: false, handle: process::handle(number), has_ended: false }
    }
}

impl Patience {
    fn new() -> Self {
        Self { steps: STEPS, until: Instant::now() + STEP }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.until {
            self.steps = self.steps.saturating_sub(1);
            self.until = now + STEP;
        }
        self.steps == 0
    }
}

/// Ends this process by the signal that ended the command, so that the parent sees the true cause.
fn die_of(signal: i32) -> Exit {
    process::forbid_core_file();
    process::take_signal(signal);
    // Not reached for a signal that ends processes; as shells have it for any other.
    Exit::command(128 + signal)
}

fn not_executed(command: &Command, errno: i32) -> Exit {
    let error = io::Error::from_raw_os_error(errno);
    let was_found = error.kind() != io::ErrorKind::NotFound;
    Exit::not_executed(format_args!("cannot run {}: {error}", command.name()), was_found)
}

/// Waits until one of these is readable or the time is over: which are?
fn wait<const N: usize>(descriptors: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<[bool; N]> {
    let mut polled: Vec<_> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(&mut polled, limit.as_ref()) {
        Err(rustix::io::Errno::INTR) => return Ok([false; N]),
        result => result.map_err(io::Error::from)?,
    };
    let mut ready = [false; N];
    for (ready, polled) in ready.iter_mut().zip(&polled) {
        *ready = !polled.revents().is_empty();
    }
    Ok(ready)
}

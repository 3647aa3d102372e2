//! The front: what the user's shell sees of the command.
//!
//! It waits, relays signals, stops when the command stops, and ends as the command ends. It has no network, no policy and, if the broker is
//! killed, still the command: as its nearest living ancestor it inherits the process and its status.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::command::Command;
use super::message::{Message, Messenger};
use super::process::{self, Change, Pid};
use crate::exit::Exit;

/// Signals that a terminal (or its end) sends to the whole group: the command has got them too.
const GROUP_SIGNALS: [i32; 7] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGWINCH];

/// Waits for the command; every signal is blocked.
pub(super) fn run(broker: &Messenger, command: &Command) -> Exit {
    // Refused only by kernels before 3.4.
    let _ = process::adopt_orphans();
    match attend(broker, command) {
        Ok(exit) => exit,
        Err(error) => Exit::ours(format_args!("cannot wait for the command: {error}")),
    }
}

fn attend(broker: &Messenger, command: &Command) -> io::Result<Exit> {
    let signals = process::signal_descriptor()?;
    let mut child = None;
    loop {
        wait(&[signals.as_fd(), broker.as_fd()])?;
        while let Some(received) = process::next_signal(&signals) {
            relay(received, child);
        }
        if !is_readable(broker)? {
            continue;
        }
        match (broker.receive()?, child) {
            (Some(Message::Started(pid)), _) => child = Some(pid),
            // By the time we hear of it the user may have continued the command.
            (Some(Message::Stopped(signal)), Some(child)) if process::is_stopped(child) => {
                process::take_signal(signal);
            }
            (Some(Message::Stopped(_)), _) => {}
            (Some(Message::Exited(status)), _) => return Ok(Exit::command(status)),
            (Some(Message::Killed(signal)), _) => return Ok(die_of(signal)),
            (Some(Message::NotExecuted(errno)), _) => return Ok(not_executed(command, errno)),
            (Some(Message::NotStarted(errno)), _) => {
                let error = io::Error::from_raw_os_error(errno);
                return Ok(Exit::ours(format_args!("cannot start a process: {error}")));
            }
            (None, Some(child)) => return wait_alone(&signals, child),
            (None, None) => {
                return Ok(Exit::ours(format_args!("the broker ended before the command was started")));
            }
        }
    }
}

/// The broker is gone: the command, an orphan now, is ours.
fn wait_alone(signals: &OwnedFd, child: Pid) -> io::Result<Exit> {
    loop {
        match process::next_change(child)? {
            Some((_, Change::Exited(status))) => return Ok(Exit::command(status)),
            Some((_, Change::Killed(signal))) => return Ok(die_of(signal)),
            Some((_, Change::Stopped(signal))) => process::take_signal(signal),
            None => {}
        }
        wait(&[signals.as_fd()])?;
        while let Some(received) = process::next_signal(signals) {
            relay(received, Some(child));
        }
    }
}

fn relay(received: process::Received, child: Option<Pid>) {
    let Some(child) = child else { return };
    let sent_to_group = received.sender.is_none() && GROUP_SIGNALS.contains(&received.signal);
    // What the command sends to its own group it has received itself.
    let sent_by_command = received.sender == Some(child);
    if received.signal != libc::SIGCHLD
        && received.signal != libc::SIGPIPE
        && !sent_to_group
        && !sent_by_command
    {
        process::send_signal(child, received.signal);
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

fn wait(descriptors: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    let mut polled: Vec<_> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    match poll(&mut polled, None) {
        Err(rustix::io::Errno::INTR) => Ok(()),
        result => result.map(drop).map_err(io::Error::from),
    }
}

fn is_readable(broker: &Messenger) -> io::Result<bool> {
    let mut polled = [PollFd::new(broker, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut polled, Some(&now))? > 0)
}

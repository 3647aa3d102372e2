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
use crate::exit::{Exit, say};

/// Signals that a terminal (or its end) sends to the whole group: the command has got them too.
const GROUP_SIGNALS: [i32; 7] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGWINCH];

/// The broker as the front knows it.
struct Broker<'a> {
    messenger: &'a Messenger,
    number: Pid,
}

/// Waits for the command; every signal is blocked.
pub(super) fn run(messenger: &Messenger, number: Pid, command: &Command) -> Exit {
    // What the command was given is the command's to close: a pipe's reader must not wait for us.
    if let Err(error) = process::keep_only(&[2, messenger.number()]) {
        say(format_args!("cannot let go of the command's descriptors: {error}"));
    }
    match attend(&Broker { messenger, number }, command) {
        Ok(exit) => exit,
        Err(error) => Exit::ours(format_args!("cannot wait for the command: {error}")),
    }
}

fn attend(broker: &Broker<'_>, command: &Command) -> io::Result<Exit> {
    let signals = process::signal_descriptor()?;
    let (mut forked, mut child) = (None, None);
    loop {
        let messages = broker.messenger.as_fd();
        match child {
            // What comes before there is a command stays pending for it.
            None => wait(&[messages])?,
            Some(child) => {
                wait(&[signals.as_fd(), messages])?;
                while let Some(received) = process::next_signal(&signals) {
                    relay(received, child, broker);
                }
            }
        }
        if !is_readable(broker.messenger)? {
            continue;
        }
        match (broker.messenger.receive()?, child) {
            (Some(Message::Forked(pid)), _) => forked = Some(pid),
            (Some(Message::Started(pid)), _) => {
                child = Some(pid);
                // All that would need it has been said or cannot happen any more.
                let _ = process::release_stderr();
            }
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
            (Some(Message::Refused), _) => return Ok(Exit::ours_already_said()),
            (None, _) => {
                return match child.or(forked) {
                    Some(child) => wait_alone(&signals, child, broker),
                    None => Ok(Exit::ours(format_args!("the broker ended before the command was started"))),
                };
            }
        }
    }
}

/// The broker is gone: the command, an orphan now, is ours.
fn wait_alone(signals: &OwnedFd, child: Pid, broker: &Broker<'_>) -> io::Result<Exit> {
    // A process that ends closes its descriptors first and gives its children away later.
    process::await_end(broker.number);
    loop {
        match process::next_change(child)? {
            Some((_, Change::Exited(status))) => return Ok(Exit::command(status)),
            Some((_, Change::Killed(signal))) => return Ok(die_of(signal)),
            Some((_, Change::Stopped(signal))) => process::take_signal(signal),
            Some((_, Change::Continued)) | None => {}
        }
        wait(&[signals.as_fd()])?;
        while let Some(received) = process::next_signal(signals) {
            relay(received, child, broker);
        }
    }
}

fn relay(received: process::Received, child: Pid, broker: &Broker<'_>) {
    let sent_to_group = received.sender.is_none() && GROUP_SIGNALS.contains(&received.signal);
    // What the command sends to its own group it has received itself.
    let sent_by_command = received.sender == Some(child);
    // It wakes us when the command has been continued.
    let sent_by_broker = received.sender == Some(broker.number);
    if received.signal != libc::SIGCHLD
        && received.signal != libc::SIGPIPE
        && !sent_to_group
        && !sent_by_command
        && !sent_by_broker
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

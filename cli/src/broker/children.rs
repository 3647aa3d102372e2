//! The command and its descendants: what becomes of them, told to the front, until none is left.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use tokio::io::Interest;

use super::report::Report;
use crate::message::{Front, Message};
use crate::process::{
    Change, Pid, child_signals, ended_child, is_stopped, next_change, next_signal, release_stderr,
    send_signal,
};
use crate::procfs;
use crate::readiness::watch;

/// Returns when the last child is gone; orphaned descendants become children (`PR_SET_CHILD_SUBREAPER`).
pub(super) async fn attend(
    report: &Report,
    front: &Front,
    command: Pid,
    has_backstop: bool,
) -> io::Result<()> {
    let Front { messenger: front, number } = front;
    let signals = child_signals()?;
    let changes = watch(signals.as_fd(), Interest::READABLE)?;
    // What they say is in the children's states.
    let take = |_: &BorrowedFd<'_>| next_signal(&signals).map(drop).ok_or(io::ErrorKind::WouldBlock.into());
    let watched = watch(front.as_fd(), Interest::READABLE)?;
    let mut is_running = true;
    let mut has_front = true;
    loop {
        loop {
            let ended = ended_child();
            let name = ended.and_then(procfs::name);
            let change = next_change(ended.unwrap_or(-1));
            if let Ok(Some((pid, Change::Killed(libc::SIGSYS)))) = change {
                report.killed_by_filter(pid, name.as_deref().unwrap_or_default(), has_backstop);
            }
            match change {
                Ok(None) => break,
                Ok(Some((pid, change))) if pid == command => match told(change) {
                    // A front that stopped with the command hears no message: it goes on with it, too.
                    None if has_front && !is_stopped(command) => send_signal(*number, libc::SIGCONT),
                    None => {}
                    Some(message @ Message::Stopped(_)) => front.send(&message),
                    Some(message) => {
                        report.finish();
                        front.send(&message);
                        is_running = false;
                        // Left open it would hold a pipe's reader, which is no reason to end.
                        let _ = release_stderr();
                    }
                },
                Ok(Some(_)) => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        tokio::select! {
            taken = changes.async_io(Interest::READABLE, take) => taken?,
            received = watched.async_io(Interest::READABLE, |_| front.receive()), if has_front => match received {
                Ok(Some(_)) => front.send(&Message::Alive),
                // Before the command has ended this means that the front was killed in the command's stead.
                Ok(None) | Err(_) => {
                    has_front = false;
                    if is_running {
                        send_signal(command, libc::SIGKILL);
                    }
                }
            }
        }
    }
}

fn told(change: Change) -> Option<Message> {
    match change {
        Change::Continued => None,
        Change::Stopped(signal) => Some(Message::Stopped(signal)),
        Change::Exited(status) => Some(Message::Exited(status)),
        Change::Killed(signal) => Some(Message::Killed(signal)),
    }
}

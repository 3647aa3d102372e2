//! Entering a host's namespaces: the one place of the harness with `unsafe` code.
//!
//! A thread can move into a network namespace by itself. A mount namespace only a process of its own can enter, so
//! that happens between fork and exec; and a pid namespace takes effect for the children of the thread that joined
//! it, so each spawn happens on a thread made for it.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// The namespaces of one host, held by way of its first process.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    first_process: Arc<OwnedFd>,
}

impl Namespaces {
    /// Those of the process `pid`.
    pub(crate) fn of(pid: Pid) -> Self {
        let first_process = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd of a host's first process");
        Self { first_process: Arc::new(first_process) }
    }

    /// Runs `work` on a thread inside the network namespace and returns its result; panics pass through.
    ///
    /// Sockets made by `work` stay in the namespace wherever they are used later.
    pub(crate) fn run_inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                move_into_thread_name_spaces(self.first_process.as_fd(), ThreadNameSpaceType::NETWORK)
                    .expect("enter the host's network");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `command` inside all of them. With `own_terminal` its standard input becomes its controlling terminal.
    pub(crate) fn spawn(&self, command: &mut Command, own_terminal: bool) -> Child {
        let first_process = Arc::clone(&self.first_process);
        // Entering a mount namespace moves to its root directory, after the library has changed directory.
        let directory = command.get_current_dir().unwrap_or(Path::new("/"));
        let directory = CString::new(directory.as_os_str().as_bytes()).expect("a path");
        let enter = move || {
            let all = ThreadNameSpaceType::NETWORK
                | ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
            move_into_thread_name_spaces(first_process.as_fd(), all)?;
            rustix::process::chdir(directory.as_c_str())?;
            if own_terminal {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(std::io::stdin())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec `enter` makes bare system calls only; it allocates and locks nothing.
        unsafe { command.pre_exec(enter) };
        let spawn = || {
            move_into_thread_name_spaces(self.first_process.as_fd(), ThreadNameSpaceType::PROCESS_ID)
                .expect("enter the host's process numbers");
            command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
        };
        let spawner = thread::scope(|scope| scope.spawn(spawn).join());
        spawner.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

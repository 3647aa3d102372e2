//! The command: its words, its environment, its start.
//!
//! It gets LD_PRELOAD (with what stood there already), the session, and the backstop's filter; it gets no proxy's address and no
//! password.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;

use libc::sock_filter;
use presocks_proto::session::{self, Session};

use super::sanitizers;
use crate::message::{Message, Messenger};
use crate::process::{self, DescriptorLimit, Forked, Pid, SignalMask, Strings, fork};
use crate::procfs;
use crate::seccomp::install::{Denied, install};
use crate::seccomp::listener::Listener;
use crate::seccomp::target::{Thread, read};
use crate::streams::Standard;

/// ld.so(8): the libraries that come before all others.
pub(super) const PRELOAD: &str = "LD_PRELOAD";

/// A command that is ready to start.
pub(super) struct Command {
    name: OsString,
    arguments: Strings,
    environment: Strings,
    closed: Vec<RawFd>,
    limit: DescriptorLimit,
}

/// Why there is no command.
#[derive(Debug)]
pub(super) enum Failure {
    /// execve(2) refused it; its process has told the front.
    Exec,
    /// We could not get so far.
    Start(io::Error),
    /// The filter cannot be had.
    Backstop(Denied),
}

/// A command that runs.
pub(super) struct Running {
    pub(super) process: Pid,
    /// Where the calls that its filter catches arrive.
    pub(super) listener: Option<Listener>,
}

/// The filter that the command is to have.
pub(super) struct Backstop<'a> {
    pub(super) filter: &'a [sock_filter],
    /// Called when it stands, before the command runs: will programs gain no privileges any more?
    pub(super) stands: &'a dyn Fn(bool),
}

/// What the command's process tells the broker before it is the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The filter stands; the listener's number. It waits for a byte before it goes on.
    Caught { listener: RawFd, forbids_privileges: bool, holds_signals: bool },
    /// seccomp(2) refused it.
    NotCaught(i32),
    /// execve(2) refused it.
    NotExecuted,
}

impl Progress {
    fn to_bytes(self) -> [u8; 12] {
        let words = match self {
            Self::Caught { listener, forbids_privileges, holds_signals } => {
                [1, listener, i32::from(forbids_privileges) | i32::from(holds_signals) << 1]
            }
            Self::NotCaught(errno) => [2, errno, 0],
            Self::NotExecuted => [3, 0, 0],
        };
        let mut bytes = [0; 12];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&i32::to_ne_bytes(word));
        }
        bytes
    }

    fn from_bytes(bytes: [u8; 12]) -> Self {
        let mut words = bytes.chunks_exact(4).map(|word| word.try_into().map_or(0, i32::from_ne_bytes));
        let mut next = || words.next().unwrap_or(0);
        match (next(), next(), next()) {
            (1, listener, flags) => {
                Self::Caught { listener, forbids_privileges: flags & 1 != 0, holds_signals: flags & 2 != 0 }
            }
            (2, errno, _) => Self::NotCaught(errno),
            _ => Self::NotExecuted,
        }
    }
}

impl Command {
    /// `words` is the command and its arguments; the environment is this process's, less `without`; `streams` and `limit` are as the user
    /// had them.
    ///
    /// # Errors
    /// When a word holds a NUL, which no argument can.
    pub(super) fn new(
        words: &[OsString],
        shim: &OsStr,
        session: &Session,
        without: &[&str],
        streams: Standard,
        limit: DescriptorLimit,
    ) -> Result<Self, String> {
        let name = words.first().cloned().unwrap_or_default();
        let string =
            |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| "a word of the command holds a NUL");
        let arguments = words.iter().map(|word| string(word)).collect::<Result<_, _>>()?;
        let mut environment = Vec::new();
        let replaced = [PRELOAD, sanitizers::OPTIONS, session::VARIABLE];
        for (key, value) in env::vars_os() {
            if !without.iter().chain(&replaced).any(|name| key == *name) {
                environment.push(string(&join(&key, &value))?);
            }
        }
        let existing = |name| env::var_os(name).unwrap_or_default();
        for (key, value) in [
            (PRELOAD, sanitizers::preload(shim, &existing(PRELOAD))),
            (sanitizers::OPTIONS, sanitizers::options(&existing(sanitizers::OPTIONS))),
            (session::VARIABLE, OsString::from_vec(session.to_text().to_vec())),
        ] {
            environment.push(string(&join(OsStr::new(key), &value))?);
        }
        Ok(Self {
            name,
            arguments: Strings::new(arguments),
            environment: Strings::new(environment),
            closed: streams.closed().collect(),
            limit,
        })
    }

    /// The command's first word, made safe to show.
    pub(super) fn name(&self) -> String {
        self.name.to_string_lossy().escape_debug().to_string()
    }

    /// Forks and executes, with the signal mask that the user had, behind the backstop if there is to be one.
    ///
    /// # Errors
    /// [`Failure`]; then there is no process.
    pub(super) fn spawn(
        &self,
        mask: &SignalMask,
        front: &Messenger,
        backstop: Option<&Backstop<'_>>,
    ) -> Result<Running, Failure> {
        // Closed by a successful exec.
        let (broker, command) = UnixStream::pair().map_err(Failure::Start)?;
        match fork().map_err(Failure::Start)? {
            Forked::Child => {
                drop(broker);
                front.send(&Message::Forked(process::own_number()));
                self.execute(mask, command, front, backstop)
            }
            Forked::Parent(process) => {
                drop(command);
                match attend(process, broker, backstop) {
                    Ok(listener) => Ok(Running { process, listener }),
                    Err(failure) => {
                        // Our end of the pair is closed: it goes no further.
                        process::await_end(process);
                        Err(failure)
                    }
                }
            }
        }
    }

    /// The front hears from this process itself what became of it, for the broker may be killed at any time.
    fn execute(
        &self,
        mask: &SignalMask,
        mut broker: UnixStream,
        front: &Messenger,
        backstop: Option<&Backstop<'_>>,
    ) -> ! {
        for number in &self.closed {
            process::close(*number);
        }
        if let Some(backstop) = backstop {
            let progress = match install(backstop.filter) {
                Ok(installed) => Progress::Caught {
                    listener: installed.listener,
                    forbids_privileges: installed.forbids_privileges,
                    holds_signals: installed.holds_signals,
                },
                Err(error) => Progress::NotCaught(error.raw_os_error().unwrap_or(libc::EINVAL)),
            };
            let told = broker.write_all(&progress.to_bytes());
            // No byte: the broker cannot serve us, or is gone.
            if told.and_then(|()| broker.read_exact(&mut [0])).is_err() {
                front.send(&Message::Abandoned);
                process::exit(127);
            }
        }
        // It was so already, so nothing refuses it.
        let _ = self.limit.set();
        mask.restore();
        let error = process::execute(&self.arguments, &self.environment);
        front.send(&Message::NotExecuted(error.raw_os_error().unwrap_or(libc::ENOEXEC)));
        // A parent that is gone does not wait for it.
        let _ = broker.write_all(&Progress::NotExecuted.to_bytes());
        process::exit(127)
    }
}

/// In the broker: follows the command's process until it is the command.
fn attend(
    process: Pid,
    mut command: UnixStream,
    backstop: Option<&Backstop<'_>>,
) -> Result<Option<Listener>, Failure> {
    let mut listener = None;
    let mut progress = [0; 12];
    while command.read_exact(&mut progress).is_ok() {
        match (Progress::from_bytes(progress), backstop) {
            (Progress::Caught { listener: number, forbids_privileges, holds_signals }, Some(backstop)) => {
                let taken = take(process, number, backstop.filter).map_err(Failure::Backstop)?;
                listener = Some(Listener::new(taken, holds_signals));
                (backstop.stands)(forbids_privileges);
                command.write_all(&[1]).map_err(Failure::Start)?;
            }
            (Progress::NotCaught(errno), _) => {
                return Err(Failure::Backstop(Denied { call: "seccomp", errno }));
            }
            (Progress::NotExecuted | Progress::Caught { .. }, _) => return Err(Failure::Exec),
        }
    }
    Ok(listener)
}

/// Takes the listener over, and makes sure that we may look into the process: without that no call could be judged.
fn take(process: Pid, number: RawFd, filter: &[sock_filter]) -> Result<OwnedFd, Denied> {
    let denied =
        |call| move |error: io::Error| Denied { call, errno: error.raw_os_error().unwrap_or(libc::EPERM) };
    if !procfs::is_of_own_namespace() {
        return Err(Denied { call: "/proc", errno: libc::ESRCH });
    }
    let thread = Thread::open(process).map_err(denied("pidfd_open"))?;
    let listener = thread.descriptor(number).map_err(denied("pidfd_getfd"))?;
    // What we have it has at the same place, as our copy.
    let somewhere = filter.as_ptr().expose_provenance() as u64;
    read(process, somewhere, &mut [0; 1]).map_err(denied("process_vm_readv"))?;
    Ok(listener)
}

/// Becomes the command, within another session, with this process's environment, less `without`; returns only if it cannot.
pub(super) fn replace(words: &[OsString], without: &[&str], streams: Standard) -> io::Error {
    let string = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
    let arguments: io::Result<Vec<_>> = words.iter().map(|word| string(word)).collect();
    let kept = env::vars_os().filter(|(key, _)| !without.iter().any(|name| key == *name));
    let environment: io::Result<Vec<_>> = kept.map(|(key, value)| string(&join(&key, &value))).collect();
    let (arguments, environment) = match arguments.and_then(|arguments| Ok((arguments, environment?))) {
        Ok(vectors) => vectors,
        Err(error) => return error,
    };
    for number in streams.closed() {
        process::close(number);
    }
    process::execute(&Strings::new(arguments), &Strings::new(environment))
}

fn join(key: &OsStr, value: &OsStr) -> OsString {
    let mut entry = key.to_owned();
    entry.push("=");
    entry.push(value);
    entry
}

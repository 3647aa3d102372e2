//! The command: its words, its environment, its start.
//!
//! It gets LD_PRELOAD (with what stood there already behind it) and the session; it gets no proxy's address and no password.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use presocks_proto::session::{self, Session};

use super::message::{Message, Messenger};
use super::process::{self, Forked, Pid, SignalMask, Strings, fork};
use crate::streams::Standard;

/// ld.so(8): the libraries that come before all others.
pub(super) const PRELOAD: &str = "LD_PRELOAD";

/// A command that is ready to start.
pub(super) struct Command {
    name: OsString,
    arguments: Strings,
    environment: Strings,
    closed: Vec<RawFd>,
}

/// Why there is no command.
#[derive(Debug)]
pub(super) enum Failure {
    /// execve(2) refused it.
    Exec(io::Error),
    /// We could not get so far.
    Start(io::Error),
}

impl From<Failure> for Message {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Exec(error) => Self::NotExecuted(error.raw_os_error().unwrap_or(libc::ENOEXEC)),
            Failure::Start(error) => Self::NotStarted(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

impl Command {
    /// `words` is the command and its arguments; the environment is this process's, less `without`.
    ///
    /// # Errors
    /// When a word holds a NUL, which no argument can.
    pub(super) fn new(
        words: &[OsString],
        preload: OsString,
        session: &Session,
        without: &[&str],
        streams: Standard,
    ) -> Result<Self, String> {
        let name = words.first().cloned().unwrap_or_default();
        let string =
            |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| "a word of the command holds a NUL");
        let arguments = words.iter().map(|word| string(word)).collect::<Result<_, _>>()?;
        let mut environment = Vec::new();
        let replaced = [PRELOAD, session::VARIABLE];
        for (key, value) in env::vars_os() {
            if !without.iter().chain(&replaced).any(|name| key == *name) {
                environment.push(string(&join(&key, &value))?);
            }
        }
        let mut all = preload;
        if let Some(existing) = env::var_os(PRELOAD).filter(|existing| !existing.is_empty()) {
            all.push(":");
            all.push(existing);
        }
        environment.push(string(&join(OsStr::new(PRELOAD), &all))?);
        let session = OsString::from_vec(session.to_text().to_vec());
        environment.push(string(&join(OsStr::new(session::VARIABLE), &session))?);
        Ok(Self {
            name,
            arguments: Strings::new(arguments),
            environment: Strings::new(environment),
            closed: streams.closed().collect(),
        })
    }

    /// The command's first word, made safe to show.
    pub(super) fn name(&self) -> String {
        self.name.to_string_lossy().escape_debug().to_string()
    }

    /// Forks and executes, with the signal mask that the user had.
    ///
    /// # Errors
    /// [`Failure`]; then there is no process.
    pub(super) fn spawn(&self, mask: &SignalMask, front: &Messenger) -> Result<Pid, Failure> {
        // Closed by a successful exec; else it brings the errno.
        let (mut reader, writer) = io::pipe().map_err(Failure::Start)?;
        match fork().map_err(Failure::Start)? {
            Forked::Child => {
                drop(reader);
                front.send(&Message::Forked(process::own_number()));
                self.execute(mask, writer)
            }
            Forked::Parent(child) => {
                drop(writer);
                let mut errno = [0; 4];
                match reader.read_exact(&mut errno) {
                    Err(_) => Ok(child),
                    Ok(()) => {
                        reap(child);
                        Err(Failure::Exec(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
                    }
                }
            }
        }
    }

    fn execute(&self, mask: &SignalMask, mut failed: io::PipeWriter) -> ! {
        for number in &self.closed {
            process::close(*number);
        }
        mask.restore();
        let error = process::execute(&self.arguments, &self.environment);
        let errno = error.raw_os_error().unwrap_or(libc::ENOEXEC);
        // A parent that is gone does not wait for it.
        let _ = failed.write_all(&errno.to_ne_bytes());
        process::exit(127)
    }
}

fn join(key: &OsStr, value: &OsStr) -> OsString {
    let mut entry = key.to_owned();
    entry.push("=");
    entry.push(value);
    entry
}

/// Waits for a child that is about to exit.
fn reap(child: Pid) {
    while let Ok(None) = process::next_change(child) {
        std::thread::yield_now();
    }
}

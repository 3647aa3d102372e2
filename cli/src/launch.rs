//! Three processes: the front, which the user waits for; the broker, its child; the command, the broker's child.
//!
//! Everything that can fail is done before the first fork. Both forks happen while the process has one thread and no runtime.

mod command;
mod front;
pub(crate) mod message;
mod preflight;
pub(crate) mod process;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use presocks_proto::session::{self, SECRET_LEN, Secret, Session};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair,
};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::args::Typed;
use crate::broker;
use crate::exit::{Exit, say};
use crate::settings::{Settings, Talk};
use crate::streams::Standard;
use crate::{library, settings};
use command::{Command, PRELOAD};
use message::{Front, Message, Messenger};
use process::{Forked, SignalMask, fork};

/// Connections that may wait for the broker to accept them; the kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// What the names of the shim's files begin with.
const SHIM_PREFIX: &[u8] = b"libpresocks";

/// Runs the command; how presocks is to exit.
pub(crate) fn run(typed: Typed, streams: Standard) -> Exit {
    match prepare(typed, streams) {
        Ok(prepared) => prepared.start(),
        Err(why) => Exit::ours(format_args!("{why}")),
    }
}

/// All that is needed to start.
struct Prepared {
    settings: Settings,
    session: Session,
    listener: OwnedFd,
    command: Command,
}

fn prepare(typed: Typed, streams: Standard) -> Result<Prepared, String> {
    refuse_to_nest()?;
    let (settings, words) = Settings::new(typed)?;
    preflight::check(words.first().map_or(OsStr::new(""), OsString::as_os_str))?;
    let preload = library::materialise()?;
    let session = new_session(settings.talk).map_err(|error| format!("no random numbers: {error}"))?;
    let listener =
        rendezvous(&session).map_err(|error| format!("cannot listen on a Unix socket: {error}"))?;
    let command = Command::new(&words, preload, &session, &settings::PROXY_VARIABLES, streams)?;
    Ok(Prepared { settings, session, listener, command })
}

impl Prepared {
    /// In the front until the first fork; the broker's branch never returns.
    fn start(self) -> Exit {
        let kept = SignalMask::block_all();
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let number = process::own_number();
        let (front, broker) = match pair {
            Ok((front, broker)) => (Messenger::new(front), Messenger::new(broker)),
            Err(error) => return Exit::ours(format_args!("no socket pair: {error}")),
        };
        // Of the broker's, should it be killed; from the first moment on. Refused only by kernels before 3.4.
        let _ = process::adopt_orphans();
        match fork() {
            Err(error) => Exit::ours(format_args!("cannot fork: {error}")),
            Ok(Forked::Parent(number)) => {
                drop(broker);
                let Self { settings, listener, session: _, command } = self;
                // The front needs no network and no password.
                drop((settings, listener));
                front::run(&front, number, &command)
            }
            Ok(Forked::Child) => {
                drop(front);
                process::exit(self.become_broker(&Front { messenger: broker, number }, &kept))
            }
        }
    }

    /// In the broker's process: starts the command and serves it and its descendants to the last.
    fn become_broker(self, front: &Front, kept: &SignalMask) -> i32 {
        let Self { settings, session, listener, command } = self;
        // Orphans of the command come to us, so that we know when the last is gone. Refused only by kernels before 3.4.
        let _ = process::adopt_orphans();
        let child = match command.spawn(kept, &front.messenger) {
            Ok(child) => child,
            Err(failure) => {
                front.messenger.send(&failure.into());
                return 0;
            }
        };
        front.messenger.send(&Message::Started(child));
        process::leave_terminal();
        if let Err(error) = process::keep_only(&[2, front.messenger.number(), process::number(&listener)]) {
            say(format_args!("cannot let go of the command's descriptors: {error}"));
        }
        kept.restore_default();
        match broker::run(settings, session, listener, front, child) {
            Ok(()) => 0,
            Err(error) => {
                say(format_args!("the broker cannot work: {error}"));
                Exit::ours_already_said().code()
            }
        }
    }
}

/// An inner broker's system calls are its own: it would speak to its proxy past the outer one.
fn refuse_to_nest() -> Result<(), String> {
    let preload = env::var_os(PRELOAD).unwrap_or_default();
    let has_shim = preload.as_bytes().windows(SHIM_PREFIX.len()).any(|word| word == SHIM_PREFIX);
    if env::var_os(session::VARIABLE).is_none() || !has_shim {
        return Ok(());
    }
    Err("this runs under presocks already, and the inner one would not go through the outer one's proxy; run the \
         command without the inner presocks, or leave the outer session with `env -u PRESOCKS_SESSION -u LD_PRELOAD \
         presocks …`"
        .into())
}

fn new_session(talk: Talk) -> io::Result<Session> {
    let secret = || -> io::Result<[u8; SECRET_LEN]> {
        let mut bytes = [0; SECRET_LEN];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(bytes)
    };
    Ok(Session {
        id: secret()?,
        token: Secret(secret()?),
        proof: Secret(secret()?),
        uid: geteuid().as_raw(),
        quiet: talk == Talk::Quiet,
    })
}

fn rendezvous(session: &Session) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let name = session.rendezvous();
    let (_, name) = name.split_first().unwrap_or((&0, &[]));
    bind(&listener, &SocketAddrUnix::new_abstract_name(name)?)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

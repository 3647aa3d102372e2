//! Three processes: the front, which the user waits for; the broker, its child; the command, the broker's child.
//!
//! Everything that can fail is done before the first fork. Both forks happen while the process has one thread and no runtime.

mod command;
mod front;
pub(crate) mod message;
mod preflight;
pub(crate) mod process;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;

use presocks_proto::session::{SECRET_LEN, Secret, Session};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair,
};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::args::Typed;
use crate::broker;
use crate::exit::Exit;
use crate::settings::{Settings, Talk};
use crate::streams::Standard;
use crate::{library, settings};
use command::Command;
use message::Messenger;
use process::{Forked, SignalMask, fork};

/// Connections that may wait for the broker to accept them; the kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;

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
        let (front, broker) = match pair {
            Ok((front, broker)) => (Messenger::new(front), Messenger::new(broker)),
            Err(error) => return Exit::ours(format_args!("no socket pair: {error}")),
        };
        match fork() {
            Err(error) => Exit::ours(format_args!("cannot fork: {error}")),
            Ok(Forked::Parent(_)) => {
                drop(broker);
                let Self { settings, listener, session: _, command } = self;
                // The front needs no network and no password.
                drop((settings, listener));
                front::run(&front, &command)
            }
            Ok(Forked::Child) => {
                drop(front);
                process::exit(self.become_broker(&broker, &kept))
            }
        }
    }

    /// In the broker's process: starts the command and serves it and its descendants to the last.
    fn become_broker(self, front: &Messenger, kept: &SignalMask) -> i32 {
        let Self { settings, session, listener, command } = self;
        // Orphans of the command come to us, so that we know when the last is gone. Refused only by kernels before 3.4.
        let _ = process::adopt_orphans();
        let child = match command.spawn(kept) {
            Ok(child) => child,
            Err(failure) => {
                front.send(&failure.into());
                return 0;
            }
        };
        front.send(&message::Message::Started(child));
        process::leave_terminal();
        if let Err(error) = process::keep_only(&[2, front.number(), process::number(&listener)]) {
            eprintln!("presocks: cannot let go of the command's descriptors: {error}");
        }
        kept.restore_default();
        match broker::run(settings, session, listener, front, child) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("presocks: the broker cannot work: {error}");
                Exit::ours_already_said().code()
            }
        }
    }
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

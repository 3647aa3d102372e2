//! Three processes: the front, which the user waits for; the broker, its child; the command, the broker's child.
//!
//! Everything that can fail is done before the first fork. Both forks happen while the process has one thread and no runtime.

mod command;
mod front;
mod sanitizers;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use presocks_abi::pass::Pass;
use presocks_proto::session::{self, Queue, SECRET_LEN, Secret, Session};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair,
};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::args::Typed;
use crate::broker;
use crate::config::Taken;
use crate::exit::{Exit, say};
use crate::library::SHIM_PREFIX;
use crate::message::{Front, Message, Messenger};
use crate::options::{Backstop, Bind};
use crate::policy::hosts::Hosts;
use crate::preflight::{self, Obstacle};
use crate::process::{self, DescriptorLimit, Forked, SignalMask, fork};
use crate::seccomp::filter;
use crate::seccomp::install::{Denied, stands};
use crate::settings::{self, Settings, Talk};
use crate::streams::Standard;
use crate::{config, gssapi, library};
use command::{Command, Failure, PRELOAD, Running};

/// Descriptors without which the broker could not serve a connection of every kind.
const FEWEST_DESCRIPTORS: u64 = 32;

/// Runs the command; how presocks is to exit.
pub(crate) fn run(typed: Typed, streams: Standard) -> Exit {
    if let Some(outer) = outer_session() {
        return run_within(&outer, &typed, streams);
    }
    match prepare(typed, streams) {
        Ok(prepared) => prepared.start(),
        Err(why) => Exit::ours(format_args!("{why}")),
    }
}

/// All that is needed to start.
struct Prepared {
    settings: Settings,
    session: Session,
    rendezvous: [(Queue, OwnedFd); 2],
    /// What keeps the shim out of the command.
    obstacle: Option<Obstacle>,
    command: Command,
}

fn prepare(typed: Typed, streams: Standard) -> Result<Prepared, String> {
    let limit = raise_descriptor_limit()?;
    let (settings, words) = Settings::new(typed)?;
    let obstacle = preflight::look(first(&words));
    if let (Backstop::Off, Some(obstacle)) = (settings.backstop, &obstacle) {
        return Err(format!("{obstacle}, so without the backstop it would connect directly; it was not run"));
    }
    let shim = library::materialise()?;
    let session = new_session(&settings).map_err(|error| format!("no random numbers: {error}"))?;
    let listener = |queue| {
        let listener = rendezvous(&session, queue);
        listener
            .map(|listener| (queue, listener))
            .map_err(|error| format!("cannot listen on a Unix socket: {error}"))
    };
    let rendezvous = [listener(Queue::AtOnce)?, listener(Queue::InTurn)?];
    let command = Command::new(&words, &shim, &session, &settings.withheld, streams, limit)?;
    Ok(Prepared { settings, session, rendezvous, obstacle, command })
}

/// The limit as the user has it, for the command; from now on it is as high as it can be.
fn raise_descriptor_limit() -> Result<DescriptorLimit, String> {
    let known = |error| format!("the limit on open files is not known: {error}");
    let limit = DescriptorLimit::current().map_err(known)?;
    let number = limit.raised().map_err(known)?.number();
    if number < FEWEST_DESCRIPTORS {
        return Err(format!(
            "too few files may be open ({number}): presocks needs {FEWEST_DESCRIPTORS}; raise the hard limit (ulimit -H -n)"
        ));
    }
    Ok(limit)
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
                let Self { settings, rendezvous, session: _, obstacle: _, command } = self;
                // The front needs no network and no password.
                drop((settings, rendezvous));
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
        // Orphans of the command come to us, so that we know when the last is gone. Refused only by kernels before 3.4.
        let _ = process::adopt_orphans();
        let Running { process: child, listener } = match self.start_command(kept, &front.messenger) {
            Ok(running) => running,
            Err(message) => {
                if let Some(message) = message {
                    front.messenger.send(&message);
                }
                return 0;
            }
        };
        front.messenger.send(&Message::Started(child));
        // There is one thread, and the command has its environment already.
        gssapi::environment::make_absolute();
        process::leave_terminal();
        let Self { settings, session, rendezvous, .. } = self;
        let mut kept_open = vec![2, front.messenger.number()];
        kept_open.extend(rendezvous.iter().map(|(_, listener)| listener.as_raw_fd()));
        kept_open.extend(listener.as_ref().map(|listener| listener.as_fd().as_raw_fd()));
        if let Err(error) = process::keep_only(&kept_open) {
            say(format_args!("cannot let go of the command's descriptors: {error}"));
        }
        kept.restore_default();
        match broker::run(settings, session, rendezvous, listener, front, child) {
            Ok(()) => 0,
            Err(error) => {
                say(format_args!("the broker cannot work: {error}"));
                Exit::ours_already_said().code()
            }
        }
    }
}

impl Prepared {
    /// Starts the command, behind the backstop if it can be had. An error is for the front, unless that knows.
    fn start_command(&self, kept: &SignalMask, front: &Messenger) -> Result<Running, Option<Message>> {
        let spawn = |backstop: Option<&command::Backstop<'_>>| self.command.spawn(kept, front, backstop);
        let caught = match self.settings.backstop {
            Backstop::Off => {
                self.warn(format_args!(
                    "the backstop is off: programs that LD_PRELOAD does not reach (static, Go, musl, setuid, with a cleared \
                     environment) and direct system calls are not caught, and connect directly"
                ));
                spawn(None)
            }
            Backstop::Auto | Backstop::Require => {
                let filter = filter::program(Pass::new(self.session.pass()), self.session.bind);
                let caught = spawn(Some(&command::Backstop {
                    filter: &filter,
                    stands: &|forbids_privileges| self.say_way(true, forbids_privileges),
                }));
                match caught {
                    Err(Failure::Backstop(denied)) if !denied.is_for_want_of_descriptors() => {
                        self.go_without(&denied)?;
                        spawn(None)
                    }
                    caught => caught,
                }
            }
        };
        if caught.as_ref().is_ok_and(|running| running.listener.is_none()) {
            self.say_way(false, false);
        }
        caught.map_err(|failure| match failure {
            Failure::Exec => None,
            Failure::Start(error) => Some(Message::NotStarted(error.raw_os_error().unwrap_or(libc::EIO))),
            Failure::Backstop(Denied { errno, .. }) => Some(Message::NotStarted(errno)),
        })
    }

    /// The backstop cannot be had.
    fn go_without(&self, denied: &Denied) -> Result<(), Message> {
        if self.settings.backstop == Backstop::Require {
            say(format_args!(
                "the backstop cannot be had ({denied}), and --backstop=require asks for it; the command was not run"
            ));
            return Err(Message::Refused);
        }
        if let Some(obstacle) = &self.obstacle {
            say(format_args!(
                "{obstacle}, and the backstop, which would catch its calls, cannot be had ({denied}); it was not run"
            ));
            return Err(Message::Refused);
        }
        // Also for those who want silence: less is caught than was asked for.
        say(format_args!(
            "the backstop cannot be had ({denied}): programs that LD_PRELOAD does not reach (static, Go, musl, setuid, with a \
             cleared environment) are not caught, and connect directly"
        ));
        Ok(())
    }

    /// Which way the command's connections are caught, before it runs.
    fn say_way(&self, has_backstop: bool, forbids_privileges: bool) {
        match &self.obstacle {
            Some(obstacle) if obstacle.is_for_packets() => self.warn(format_args!(
                "{obstacle}, as what it sends is ICMP or packets; no proxy carries those, and presocks refuses them, to root as well"
            )),
            Some(obstacle) if forbids_privileges && obstacle.is_privileged() => self.warn(format_args!(
                "{obstacle}; behind the backstop it runs without them (to keep them run presocks itself with privileges: \
                 sudo presocks …)"
            )),
            _ if self.settings.talk != Talk::Verbose => {}
            Some(obstacle) => say(format_args!("{obstacle}: the backstop alone catches its connections")),
            None if has_backstop => say(format_args!(
                "{}: the shim and the backstop catch its connections",
                self.command.name()
            )),
            None => say(format_args!("{}: the shim alone catches its connections", self.command.name())),
        }
    }

    fn warn(&self, line: std::fmt::Arguments<'_>) {
        if self.settings.talk != Talk::Quiet {
            say(line);
        }
    }
}

/// The session that this process is in already, if its shim is at work here.
fn outer_session() -> Option<Session> {
    let preload = env::var_os(PRELOAD).unwrap_or_default();
    let has_shim = preload.as_bytes().windows(SHIM_PREFIX.len()).any(|word| word == SHIM_PREFIX);
    let session = env::var_os(session::VARIABLE)?;
    Session::from_text(session.as_bytes()).filter(|_| has_shim)
}

/// An inner broker's system calls would be caught by the outer session, or go out past it: so the outer one serves the command.
fn run_within(outer: &Session, typed: &Typed, streams: Standard) -> Exit {
    let words = typed.command.as_slice();
    if !stands(Pass::new(outer.pass()))
        && let Some(obstacle) = preflight::look(first(words))
    {
        return Exit::ours(format_args!(
            "{obstacle}, and the session that this runs in has no backstop, so it would connect directly; it was not run"
        ));
    }
    // Also for those who want silence: this is not what was asked for.
    say(format_args!(
        "this runs under presocks already: the outer one's proxy and options serve the command, not these"
    ));
    let (withheld, taken) = match config::set_aside_within(&typed.flags, &|name| env::var_os(name)) {
        Ok(set_aside) => set_aside,
        Err(why) => return Exit::ours(format_args!("{why}")),
    };
    if !outer.quiet && typed.flags.quiet.is_none() {
        settings::say_taken(&taken);
    }
    let error = command::replace(words, &withheld, streams);
    let was_found = error.kind() != io::ErrorKind::NotFound;
    let name = first(words).to_string_lossy();
    Exit::not_executed(format_args!("cannot run {}: {error}", name.escape_debug()), was_found)
}

fn first(words: &[OsString]) -> &OsStr {
    words.first().map_or(OsStr::new(""), OsString::as_os_str)
}

fn new_session(settings: &Settings) -> io::Result<Session> {
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
        quiet: settings.talk == Talk::Quiet,
        bind: settings.bind != Bind::Off,
        loopback: settings.routes.judge_loopback() || settings.taken.iter().any(Taken::is_at_loopback),
        localhost: Hosts::default().localhost(),
    })
}

fn rendezvous(session: &Session, queue: Queue) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let name = session.rendezvous(queue);
    let (_, name) = name.split_first().unwrap_or((&0, &[]));
    bind(&listener, &SocketAddrUnix::new_abstract_name(name)?)?;
    listen(&listener, broker::BACKLOG)?;
    Ok(listener)
}

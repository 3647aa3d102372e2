//! A program's connect(): decide, connect its own socket, negotiate on it, hand it back.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use presocks_abi::socket::DISSOLVED;
use presocks_proto::target::{Host, Target};
use rustix::io::Errno;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::bind::{self, Bindings};
use super::connecting::{GivenUp, Turn};
use super::dns::NameServer;
use super::holders::Holders;
use super::other_proxy::OtherProxies;
use super::peers::Peers;
use super::program::Program;
use super::report::{Report, Via};
use super::resolver;
use crate::policy::{Addressed, Policy, Route, address_target};
use crate::socket::Socket;
use crate::socket::signals::{self, Teller};
use crate::socket::source::NotConnected;
use crate::upstream::dialer::{Carried, Dialer};
use crate::upstream::failure::Failure;
use crate::upstream::relay::Relays;

/// How a connect has ended.
pub(super) struct Ended {
    /// For the program: 0 for success. `None` when nobody is left to be told.
    pub(super) errno: Option<i32>,
    /// Who tells by a signal, once the program is told.
    pub(super) teller: Option<Teller>,
}

/// A program's connect().
pub(super) struct Call {
    pub(super) destination: SocketAddr,
    /// Is the program to be told `EINPROGRESS` while the kernel makes a direct connection? The shim tells it so in any case.
    pub(super) is_nonblocking: bool,
}

/// What an attempt has come to.
enum Made {
    /// A connection; and, by way of proxies, how the program may listen beside it.
    Connection(Option<Box<bind::Way>>),
    /// The kernel makes a direct one, to this address.
    UnderWay(SocketAddr),
}

/// Connects programs' sockets.
pub(super) struct Connector {
    /// How long a look-up by this machine's resolver may take.
    pub(super) limit: Duration,
    pub(super) policy: Rc<Policy>,
    pub(super) dialer: Rc<Dialer>,
    pub(super) relays: Rc<Relays>,
    pub(super) name_server: Rc<NameServer>,
    pub(super) bindings: Rc<Bindings>,
    pub(super) peers: Rc<Peers>,
    pub(super) other_proxies: OtherProxies,
    pub(super) holders: Holders,
    pub(super) report: Rc<Report>,
}

impl Connector {
    /// Connects. `is_waited_for`: does a connect() wait for it in the kernel?
    pub(super) async fn serve(
        &self,
        socket: Socket,
        call: &Call,
        program: &Program<'_>,
        turn: Turn<'_>,
        given_up: impl Future<Output = GivenUp> + Unpin,
        is_waited_for: impl Fn() -> bool,
    ) -> Ended {
        turn.signal().set(turn.signal().get().filter(|_| signals::turn_off(socket.as_fd())));
        let errno = {
            let held = async || self.holders.look(socket.as_fd()).await;
            let given_up = pin!(turn.given_up(given_up, held));
            self.connect(&socket, call, program, &turn, given_up, is_waited_for).await
        };
        let restore = |number| {
            if errno == Some(libc::EINPROGRESS) {
                signals::turn_on(socket.as_fd());
                return None;
            }
            signals::restore(socket.as_fd(), number, errno == Some(0))
        };
        let teller = turn.signal().get().and_then(restore);
        if let Some(errno) = errno {
            turn.end(errno);
        }
        socket.close().await;
        Ended { errno, teller }
    }

    async fn connect(
        &self,
        socket: &Socket,
        call: &Call,
        program: &Program<'_>,
        turn: &Turn<'_>,
        given_up: impl Future<Output = GivenUp> + Unpin,
        is_waited_for: impl Fn() -> bool,
    ) -> Option<i32> {
        if socket.is_connected() {
            return Some(libc::EISCONN);
        }
        self.bindings.connects(socket);
        let destination = call.destination;
        let started = Instant::now();
        let route = self.policy.route(destination, &|| program.names()).map_err(Failure::from);
        if let Ok(Route::Chain(_, target) | Route::Direct(target, _)) = &route {
            self.other_proxies.notice(program, target);
        }
        let (route, path, result) = match route {
            Err(failure) => (None, None, Err(failure)),
            Ok(route) => {
                let ended = {
                    let attempt = pin!(self.attempt(socket, &route, program, call.is_nonblocking));
                    tokio::select! {
                        // First: nothing more is done with a socket that is its program's again.
                        biased;
                        why = given_up => Err(why),
                        ended = turn.unless_in_doubt(attempt) => Ok(ended),
                    }
                };
                match ended {
                    Ok((path, result)) => (Some(route), path, result),
                    Err(GivenUp::Left) => {
                        socket.reset();
                        return None;
                    }
                    // Threads and processes that still wait for it are told so.
                    Err(GivenUp::Dissolved) => return Some(DISSOLVED),
                }
            }
        };
        let refused = self.policy.target(destination).filter(|_| route.is_none());
        let shown: &dyn fmt::Display = match (&route, &refused) {
            (Some(Route::Chain(_, target) | Route::Direct(target, _)), _) | (None, Some(target)) => target,
            (Some(Route::Resolver(_)) | None, _) => &destination,
        };
        let via = match route {
            Some(Route::Direct(..)) => Via::Direct,
            Some(Route::Resolver(_)) => Via::Resolver,
            Some(Route::Chain(..)) => Via::Chain(path.as_deref().unwrap_or_default()),
            None => Via::Nowhere,
        };
        let outcome = result.as_ref().map(|_| ());
        self.report.connected(program, shown, via, started.elapsed(), outcome);
        Some(match result {
            Ok(Made::UnderWay(address)) => {
                self.peers.insert(socket.cookie(), destination, address);
                libc::EINPROGRESS
            }
            Ok(Made::Connection(way)) => {
                // A peer that has reset the connection already has no address any more.
                if let Some(actual) = socket.peer_address() {
                    self.peers.insert(socket.cookie(), destination, actual);
                    self.bindings.note(socket, || program.process(), destination, way.map(|way| *way));
                }
                0
            }
            Err(failure) => {
                let errno = failure.errno();
                if failure.is_for_the_socket_to_stay() {
                    // Nothing is done to it.
                } else if is_waited_for() {
                    // As the kernel ends a connect() that waits.
                    socket.reset();
                } else {
                    socket.hang_up(errno).await;
                }
                errno
            }
        })
    }

    /// Does no rule deny this connection to loopback, which the kernel makes?
    ///
    /// # Errors
    /// The errno for the program; the user has been told.
    pub(super) fn permit_on_loopback(
        &self,
        destination: SocketAddr,
        program: &Program<'_>,
    ) -> Result<(), i32> {
        self.other_proxies.notice(program, &address_target(destination));
        let permitted = self.policy.to_loopback(destination, &|| program.names());
        permitted.map_err(Failure::from).map_err(|failure| {
            let errno = failure.errno();
            self.report.connected(program, &destination, Via::Nowhere, Duration::ZERO, Err(&failure));
            errno
        })
    }

    /// What became of an attempt, and by which proxies it was made.
    async fn attempt(
        &self,
        socket: &Socket,
        route: &Route,
        program: &Program<'_>,
        is_nonblocking: bool,
    ) -> (Option<String>, Result<Made, Failure>) {
        match route {
            Route::Chain(chain, target) => {
                let isolation_key = self.dialer.isolation_key(|| program.process(), target);
                let outcome = self.dialer.connect(socket, *chain, target, isolation_key.as_ref()).await;
                let way = |Carried { hops, bound }| bind::Way { hops, target: *target, isolation_key, bound };
                (
                    Some(outcome.path),
                    outcome.result.map(|carried| Made::Connection(Some(Box::new(way(carried))))),
                )
            }
            Route::Direct(target, address) => {
                (None, Box::pin(self.directly(socket, target, *address, program, is_nonblocking)).await)
            }
            Route::Resolver(server) => {
                (None, self.to_resolver(socket, server).await.map(|()| Made::Connection(None)))
            }
        }
    }

    /// A name that the user declared direct is looked up by this machine's resolver.
    async fn directly(
        &self,
        socket: &Socket,
        target: &Target,
        address: Option<SocketAddr>,
        program: &Program<'_>,
        is_nonblocking: bool,
    ) -> Result<Made, Failure> {
        let addresses: Vec<_> = match (address, target.host) {
            (Some(address), _) => vec![address],
            (None, Host::Address(address)) => vec![SocketAddr::new(address, target.port)],
            (None, Host::Name(name)) => {
                let look_up = tokio::net::lookup_host((name.to_string(), target.port));
                let found = timeout(self.limit, look_up).await;
                found.unwrap_or_else(|_| Err(Errno::TIMEDOUT.into())).map_err(Failure::DirectName)?.collect()
            }
        };
        let mut last = Failure::Direct(Errno::NETUNREACH.into());
        let count = addresses.len();
        for (index, address) in addresses.into_iter().enumerate() {
            self.policy.permit(address, &|| program.names())?;
            let Some(address) = socket.reach(address) else { continue };
            let connected = if is_nonblocking && index + 1 == count {
                socket.begin(address)
            } else {
                socket.connect(address).await.map(|()| true)
            };
            match connected {
                Ok(true) => {
                    socket.settle(address);
                    return Ok(Made::Connection(None));
                }
                Ok(false) => return Ok(Made::UnderWay(address)),
                Err(NotConnected::Bound(own)) => last = Failure::Bound(own),
                Err(NotConnected::Kernel(error)) => last = Failure::Direct(error),
            }
            if last.is_for_the_socket_to_stay() {
                break;
            }
            socket.reset();
        }
        Err(last)
    }

    async fn to_resolver(&self, socket: &Socket, server: &Addressed) -> Result<(), Failure> {
        let place = self.relays.place().await?;
        let program = self.relays.meet(socket).await?;
        let conversation = resolver::converse(Rc::clone(&self.name_server), program, server.clone());
        spawn_local(async move {
            conversation.await;
            drop(place);
        });
        Ok(())
    }
}

//! Where the rules, the rewrites and the names of a session send what a program asks for. No connection is made here.
//!
//! A program knows a name by an address that stands for it (`names`); what that means, and whether it goes by a chain, directly or nowhere, is decided
//! here, for streams, datagrams and name servers alike.

mod denial;
pub(crate) mod hosts;
mod names;
pub(crate) mod route;

use std::cell::{RefCell, RefMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use presocks_abi::socket::is_loopback;
use presocks_proto::frame::Family;
use presocks_proto::name::Name;
use presocks_proto::standin::{Kind, kind};
use presocks_proto::target::{Host, Target};

use crate::policy::route::explain::Local;
use crate::policy::route::{Asked, Chain, Protocol, Routes, Unproxied, Verdict};
pub(crate) use denial::Denial;
pub(crate) use names::Names;

/// What a session's rules and names say.
pub(crate) struct Policy {
    pub(crate) routes: Routes,
    names: RefCell<Names>,
}

/// Why something goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// An address that stands for a name of another session.
    UnknownStandIn,
    /// A rule, or the default, forbids it.
    Denied(Denial),
    /// It is at an address for which no proxy is asked.
    Unproxied(Unproxied),
}

/// Where name servers listen.
pub(crate) const NAME_SERVER_PORT: u16 = 53;

/// Where a connection goes.
pub(crate) enum Route {
    /// Without a proxy; where the program has said, unless it is another place.
    Direct(Target, Option<SocketAddr>),
    /// By the chain with this index.
    Chain(usize, Target),
    /// The broker's own name server, in the stead of this one.
    Resolver(Addressed),
}

/// A name server as a program has addressed it. Ours may have to ask one in its turn.
#[derive(Clone, Debug)]
pub(crate) struct Addressed {
    pub(crate) server: SocketAddr,
    /// The names of the program, where rules ask for them.
    pub(crate) program: Rc<[String]>,
}

impl Route {
    /// An address has more to it than a target: the scope of one that is a link's.
    fn direct(target: Target, destination: SocketAddr) -> Self {
        Self::Direct(target, is_at(&target, destination).then_some(destination))
    }
}

/// Who answers a program that asks a name server.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(crate) enum Server {
    /// We do, in the stead of any other.
    Ours,
    /// The one that is asked, as a rule has it. It is not on loopback, where it would ask the network itself.
    Itself(Target),
    /// Nobody.
    Denied(Denial),
}

/// How a question of ours goes to a name server.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Upstream {
    /// As it was chosen.
    pub(crate) server: Target,
    /// What a rewrite has made of it.
    pub(crate) target: Target,
    /// The index of the chain; `None`: directly.
    pub(crate) chain: Option<usize>,
}

/// Where a datagram goes.
pub(crate) enum Way {
    /// Where it was addressed to, by the program itself.
    Direct,
    /// By the chain with this index.
    Chain(usize),
    Denied(Denial),
    /// Nowhere: no proxy is asked for such an address.
    Unproxied(Unproxied),
    /// It would have to go directly, and not to where it was addressed to: to a name, or rewritten.
    Impossible {
        is_named: bool,
    },
    /// Nowhere: a stand-in that this session has not given out.
    Unknown,
}

impl Policy {
    /// That of these routes.
    pub(crate) fn new(routes: Routes) -> Self {
        let names = RefCell::new(Names::new(routes.names()));
        Self { routes, names }
    }

    /// The names of the session, to be looked up.
    pub(crate) fn names(&self) -> RefMut<'_, Names> {
        self.names.borrow_mut()
    }

    /// Where a TCP connection goes. `program`: the names that it goes by.
    ///
    /// # Errors
    /// A stand-in that this session has not given out; a rule that denies it; an address for which no proxy is asked.
    pub(crate) fn route(
        &self,
        destination: SocketAddr,
        program: &dyn Fn() -> Vec<String>,
    ) -> Result<Route, NoRoute> {
        if destination.port() != NAME_SERVER_PORT && is_loopback(destination.ip()) {
            self.to_loopback(destination, program)?;
            return Ok(Route::direct(address_target(destination), destination));
        }
        // Port 53 is the only other one on loopback that we are asked about: a resolver there would ask the network itself.
        if destination.port() == NAME_SERVER_PORT {
            return match self.server(destination, Protocol::Tcp, program) {
                Server::Ours => {
                    let names = if self.routes.know_programs() { program() } else { Vec::new() };
                    Ok(Route::Resolver(Addressed { server: destination, program: names.into() }))
                }
                Server::Itself(target) => Ok(Route::direct(target, destination)),
                Server::Denied(denial) => Err(NoRoute::Denied(denial)),
            };
        }
        let target = self.meant(destination).ok_or(NoRoute::UnknownStandIn)?;
        let asked = Asked { target: &target, protocol: Protocol::Tcp, program };
        match self.routes.verdict(&asked) {
            (Verdict::Direct, _) => Ok(Route::direct(target, destination)),
            (Verdict::Chain(chain), _) => match Unproxied::of(&target) {
                Some(why) => Err(NoRoute::Unproxied(why)),
                None => Ok(Route::Chain(chain, target)),
            },
            (Verdict::Deny, rule) => Err(NoRoute::Denied(Denial::new(&self.routes, rule))),
        }
    }

    /// May a name that is direct be connected to at this address? A rule that denies a network means those who are there by name as well, once it is
    /// known that they are.
    ///
    /// # Errors
    /// A rule denies it.
    pub(crate) fn permit(
        &self,
        address: SocketAddr,
        program: &dyn Fn() -> Vec<String>,
    ) -> Result<(), NoRoute> {
        if is_loopback(address.ip()) {
            return self.to_loopback(address, program);
        }
        let target = Target { host: Host::Address(address.ip().to_canonical()), port: address.port() };
        let asked = Asked { target: &target, protocol: Protocol::Tcp, program };
        match self.routes.about_network(&asked) {
            Some(rule) if rule.via == Verdict::Deny => {
                Err(NoRoute::Denied(Denial::new(&self.routes, Some(rule))))
            }
            _ => Ok(()),
        }
    }

    /// May a program connect to loopback, at another port than a name server's?
    ///
    /// # Errors
    /// A rule denies it.
    pub(crate) fn to_loopback(
        &self,
        destination: SocketAddr,
        program: &dyn Fn() -> Vec<String>,
    ) -> Result<(), NoRoute> {
        // "This host" is the loopback address of its family to the kernel.
        let address = match destination.ip().to_canonical() {
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        let target = Target { host: Host::Address(address), port: destination.port() };
        let asked = Asked { target: &target, protocol: Protocol::Tcp, program };
        match self.routes.denies_loopback(&asked) {
            Some(rule) => Err(NoRoute::Denied(Denial::new(&self.routes, Some(rule)))),
            None => Ok(()),
        }
    }

    /// Who answers a program that asks the name server at this address.
    pub(crate) fn server(
        &self,
        destination: SocketAddr,
        protocol: Protocol,
        program: &dyn Fn() -> Vec<String>,
    ) -> Server {
        // One that stands for nothing is nobody; we answer as for any.
        let Some(target) = self.meant(destination) else { return Server::Ours };
        let is_here = matches!(target.host, Host::Address(address) if is_loopback(address));
        match self.routes.name_server(&Asked { target: &target, protocol, program }) {
            Some((Verdict::Deny, rule)) => Server::Denied(Denial::new(&self.routes, Some(rule))),
            Some((Verdict::Direct, _)) if !is_here => Server::Itself(target),
            _ => Server::Ours,
        }
    }

    /// Where a datagram goes, to another port than a name server's.
    pub(crate) fn way(&self, destination: SocketAddr, program: &dyn Fn() -> Vec<String>) -> Way {
        let Some(target) = self.meant(destination) else { return Way::Unknown };
        let asked = Asked { target: &target, protocol: Protocol::Udp, program };
        let is_named = matches!(target.host, Host::Name(_));
        match self.routes.verdict(&asked) {
            (Verdict::Deny, rule) => Way::Denied(Denial::new(&self.routes, rule)),
            (Verdict::Direct, _) if is_at(&target, destination) => Way::Direct,
            (Verdict::Direct, _) => Way::Impossible { is_named },
            (Verdict::Chain(chain), _) => Unproxied::of(&target).map_or(Way::Chain(chain), Way::Unproxied),
        }
    }

    /// Whom the address means: what it stands for, or what a rewrite has made of that; `None` for a stand-in that this session has not given out.
    pub(crate) fn meant(&self, destination: SocketAddr) -> Option<Target> {
        Some(self.routes.rewritten(self.target(destination)?))
    }

    /// What the address stands for; `None` for a stand-in that this session has not given out.
    pub(crate) fn target(&self, destination: SocketAddr) -> Option<Target> {
        let host = match kind(destination.ip()) {
            Kind::StandIn(index) => Host::Name(self.names.borrow().name(index)?),
            Kind::Reserved => return None,
            Kind::Ordinary => Host::Address(destination.ip().to_canonical()),
        };
        Some(Target { host, port: destination.port() })
    }

    /// The way to this name server, for a program that goes by these names. Who must not learn a name by a connection to it must not by a question
    /// about it: so the rules about `subject` come first.
    ///
    /// # Errors
    /// A rule denies it.
    pub(crate) fn upstream(
        &self,
        server: Target,
        subject: Option<&Name>,
        program: &[String],
    ) -> Result<Upstream, NoRoute> {
        let target = self.routes.rewritten(server);
        let names = || program.to_vec();
        let denied = |rule| Err(NoRoute::Denied(Denial::new(&self.routes, rule)));
        match subject.and_then(|name| self.routes.about(name, &names)) {
            Some((Verdict::Chain(chain), _)) => return Ok(Upstream { server, target, chain: Some(chain) }),
            Some((Verdict::Deny, rule)) => return denied(Some(rule)),
            Some((Verdict::Direct, _)) | None => {}
        }
        match self.routes.upstream(&Asked { target: &target, protocol: Protocol::Tcp, program: &names }) {
            (Verdict::Direct, _) => Ok(Upstream { server, target, chain: None }),
            (Verdict::Chain(chain), _) => Ok(Upstream { server, target, chain: Some(chain) }),
            (Verdict::Deny, rule) => denied(rule),
        }
    }

    /// How the way to a name server is called.
    pub(crate) fn shown(&self, upstream: &Upstream) -> String {
        match upstream.chain {
            Some(chain) => self.routes.chain(chain).map(Chain::shown).unwrap_or_default(),
            None => "direct".into(),
        }
    }
}

/// The address as a target, whatever it stands for.
pub(crate) fn address_target(address: SocketAddr) -> Target {
    Target { host: Host::Address(address.ip().to_canonical()), port: address.port() }
}

/// Is it this very address?
pub(crate) fn is_at(target: &Target, destination: SocketAddr) -> bool {
    target.host == Host::Address(destination.ip().to_canonical()) && target.port == destination.port()
}

/// What a name is on this machine, whatever a proxy may say.
pub(crate) fn local(routes: &Routes, name: &Name) -> Local {
    match Names::new(routes.names()).resolve(name, Family::Any).map(|found| found.iter().next()) {
        Ok(Some(address)) if kind(address) == Kind::Ordinary => Local::Address(address),
        Ok(Some(_)) => Local::Elsewhere,
        Ok(None) | Err(_) => Local::Nobody,
    }
}

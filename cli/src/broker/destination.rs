//! What an address that a program means stands for, and where the rules send it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use presocks_abi::socket::is_loopback;
use presocks_proto::name::Name;
use presocks_proto::standin::{Kind, kind};
use presocks_proto::target::{Host, Target};

use super::Broker;
use super::denial::Denial;
use super::failure::Failure;
use crate::route::{Asked, Chain, Protocol, Unproxied, Verdict};

/// Where name servers listen.
pub(super) const NAME_SERVER_PORT: u16 = 53;

/// Where a connection goes.
pub(super) enum Route {
    /// Without a proxy; where the program has said, unless it is another place.
    Direct(Target, Option<SocketAddr>),
    /// By the chain with this index.
    Chain(usize, Target),
    /// The broker's own name server, in the stead of this one.
    Resolver(Addressed),
}

/// A name server as a program has addressed it. Ours may have to ask one in its turn.
#[derive(Clone, Debug)]
pub(super) struct Addressed {
    pub(super) server: SocketAddr,
    /// The names of the program, where rules ask for them.
    pub(super) program: Rc<[String]>,
}

impl Route {
    /// An address has more to it than a target: the scope of one that is a link's.
    fn direct(target: Target, destination: SocketAddr) -> Self {
        Self::Direct(target, is_at(&target, destination).then_some(destination))
    }
}

/// May a name that is direct be connected to at this address? A rule that denies a network means those who are there by name as well, once it is
/// known that they are.
///
/// # Errors
/// A rule denies it.
pub(super) fn permit(
    broker: &Broker,
    address: SocketAddr,
    program: &dyn Fn() -> Vec<String>,
) -> Result<(), Failure> {
    if is_loopback(address.ip()) {
        return to_loopback(broker, address, program);
    }
    let target = Target { host: Host::Address(address.ip().to_canonical()), port: address.port() };
    let asked = Asked { target: &target, protocol: Protocol::Tcp, program };
    match broker.settings.routes.about_network(&asked) {
        Some(rule) if rule.via == Verdict::Deny => {
            Err(Failure::Denied(Denial::new(&broker.settings.routes, Some(rule))))
        }
        _ => Ok(()),
    }
}

/// The address as a target, whatever it stands for.
pub(super) fn address_target(address: SocketAddr) -> Target {
    Target { host: Host::Address(address.ip().to_canonical()), port: address.port() }
}

/// May a program connect to loopback, at another port than a name server's?
///
/// # Errors
/// A rule denies it.
pub(super) fn to_loopback(
    broker: &Broker,
    destination: SocketAddr,
    program: &dyn Fn() -> Vec<String>,
) -> Result<(), Failure> {
    // "This host" is the loopback address of its family to the kernel.
    let address = match destination.ip().to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    let target = Target { host: Host::Address(address), port: destination.port() };
    let asked = Asked { target: &target, protocol: Protocol::Tcp, program };
    match broker.settings.routes.denies_loopback(&asked) {
        Some(rule) => Err(Failure::Denied(Denial::new(&broker.settings.routes, Some(rule)))),
        None => Ok(()),
    }
}

/// Where a TCP connection goes. `program`: the names that it goes by.
///
/// # Errors
/// A stand-in that this session has not given out; a rule that denies it; an address for which no proxy is asked.
pub(super) fn route(
    broker: &Broker,
    destination: SocketAddr,
    program: &dyn Fn() -> Vec<String>,
) -> Result<Route, Failure> {
    if destination.port() != NAME_SERVER_PORT && is_loopback(destination.ip()) {
        to_loopback(broker, destination, program)?;
        return Ok(Route::direct(address_target(destination), destination));
    }
    // Port 53 is the only other one on loopback that we are asked about: a resolver there would ask the network itself.
    if destination.port() == NAME_SERVER_PORT {
        return match server(broker, destination, Protocol::Tcp, program) {
            Server::Ours => {
                let names = if broker.settings.routes.know_programs() { program() } else { Vec::new() };
                Ok(Route::Resolver(Addressed { server: destination, program: names.into() }))
            }
            Server::Itself(target) => Ok(Route::direct(target, destination)),
            Server::Denied(denial) => Err(Failure::Denied(denial)),
        };
    }
    let target = meant(broker, destination).ok_or(Failure::UnknownStandIn)?;
    let asked = Asked { target: &target, protocol: Protocol::Tcp, program };
    match broker.settings.routes.verdict(&asked) {
        (Verdict::Direct, _) => Ok(Route::direct(target, destination)),
        (Verdict::Chain(chain), _) => match Unproxied::of(&target) {
            Some(why) => Err(Failure::Unproxied(why)),
            None => Ok(Route::Chain(chain, target)),
        },
        (Verdict::Deny, rule) => Err(Failure::Denied(Denial::new(&broker.settings.routes, rule))),
    }
}

/// Who answers a program that asks a name server.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Server {
    /// We do, in the stead of any other.
    Ours,
    /// The one that is asked, as a rule has it. It is not on loopback, where it would ask the network itself.
    Itself(Target),
    /// Nobody.
    Denied(Denial),
}

/// Who answers a program that asks the name server at this address.
pub(super) fn server(
    broker: &Broker,
    destination: SocketAddr,
    protocol: Protocol,
    program: &dyn Fn() -> Vec<String>,
) -> Server {
    // One that stands for nothing is nobody; we answer as for any.
    let Some(target) = meant(broker, destination) else { return Server::Ours };
    let is_here = matches!(target.host, Host::Address(address) if is_loopback(address));
    match broker.settings.routes.name_server(&Asked { target: &target, protocol, program }) {
        Some((Verdict::Deny, rule)) => Server::Denied(Denial::new(&broker.settings.routes, Some(rule))),
        Some((Verdict::Direct, _)) if !is_here => Server::Itself(target),
        _ => Server::Ours,
    }
}

/// Whom the address means: what it stands for, or what a rewrite has made of that; `None` for a stand-in that this session has not given out.
pub(super) fn meant(broker: &Broker, destination: SocketAddr) -> Option<Target> {
    Some(broker.settings.routes.rewritten(target(broker, destination)?))
}

/// How a question of ours goes to a name server.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Upstream {
    /// As it was chosen.
    pub(super) server: Target,
    /// What a rewrite has made of it.
    pub(super) target: Target,
    /// The index of the chain; `None`: directly.
    pub(super) chain: Option<usize>,
}

impl Upstream {
    /// The way to this server, for a program that goes by these names. Who must not learn a name by a connection to it must not by a question about
    /// it: so the rules about `subject` come first.
    ///
    /// # Errors
    /// A rule denies it.
    pub(super) fn new(
        broker: &Broker,
        server: Target,
        subject: Option<&Name>,
        program: &[String],
    ) -> Result<Self, Failure> {
        let routes = &broker.settings.routes;
        let target = routes.rewritten(server);
        let names = || program.to_vec();
        match subject.and_then(|name| routes.about(name, &names)) {
            Some((Verdict::Chain(chain), _)) => return Ok(Self { server, target, chain: Some(chain) }),
            Some((Verdict::Deny, rule)) => {
                return Err(Failure::Denied(Denial::new(&broker.settings.routes, Some(rule))));
            }
            Some((Verdict::Direct, _)) | None => {}
        }
        match routes.upstream(&Asked { target: &target, protocol: Protocol::Tcp, program: &names }) {
            (Verdict::Direct, _) => Ok(Self { server, target, chain: None }),
            (Verdict::Chain(chain), _) => Ok(Self { server, target, chain: Some(chain) }),
            (Verdict::Deny, rule) => Err(Failure::Denied(Denial::new(&broker.settings.routes, rule))),
        }
    }

    /// How the way is called.
    pub(super) fn shown(&self, broker: &Broker) -> String {
        match self.chain {
            Some(chain) => broker.settings.routes.chain(chain).map(Chain::shown).unwrap_or_default(),
            None => "direct".into(),
        }
    }
}

/// What the address stands for; `None` for a stand-in that this session has not given out.
pub(super) fn target(broker: &Broker, destination: SocketAddr) -> Option<Target> {
    let host = match kind(destination.ip()) {
        Kind::StandIn(index) => Host::Name(broker.names.borrow().name(index)?),
        Kind::Reserved => return None,
        Kind::Ordinary => Host::Address(destination.ip().to_canonical()),
    };
    Some(Target { host, port: destination.port() })
}

/// Where a datagram goes.
pub(super) enum Way {
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

/// Where a datagram goes, to another port than a name server's.
pub(super) fn way(broker: &Broker, destination: SocketAddr, program: &dyn Fn() -> Vec<String>) -> Way {
    let Some(target) = meant(broker, destination) else { return Way::Unknown };
    let asked = Asked { target: &target, protocol: Protocol::Udp, program };
    let is_named = matches!(target.host, Host::Name(_));
    match broker.settings.routes.verdict(&asked) {
        (Verdict::Deny, rule) => Way::Denied(Denial::new(&broker.settings.routes, rule)),
        (Verdict::Direct, _) if is_at(&target, destination) => Way::Direct,
        (Verdict::Direct, _) => Way::Impossible { is_named },
        (Verdict::Chain(chain), _) => Unproxied::of(&target).map_or(Way::Chain(chain), Way::Unproxied),
    }
}

/// Is it this very address?
pub(super) fn is_at(target: &Target, destination: SocketAddr) -> bool {
    target.host == Host::Address(destination.ip().to_canonical()) && target.port == destination.port()
}

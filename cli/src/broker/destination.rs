//! What an address that a program connects to stands for, and where the rules send it.

use std::net::{IpAddr, SocketAddr};

use presocks_abi::socket::is_loopback;
use presocks_proto::standin::{Kind, kind};
use presocks_proto::target::{Host, Target};

use super::failure::Failure;
use super::{Broker, resolver};
use crate::route::{Asked, Protocol, Verdict};

/// Where a connection goes.
#[expect(clippy::large_enum_variant, reason = "most are of the large kind, and it lives as long as its task")]
pub(super) enum Route {
    /// Without a proxy.
    Direct(Target),
    /// By the chain with this index.
    Chain(usize, Target),
    /// The broker's own name server, in the stead of this one.
    Resolver(SocketAddr),
}

/// Where a TCP connection goes. `program`: the names that it goes by.
///
/// # Errors
/// A stand-in that this session has not given out; a rule that denies it.
pub(super) fn route(
    broker: &Broker,
    destination: SocketAddr,
    program: &dyn Fn() -> Vec<String>,
) -> Result<Route, Failure> {
    let address = destination.ip().to_canonical();
    // Port 53 is the only one on loopback that we are asked about: a resolver there would ask the network itself.
    let is_name_server = destination.port() == resolver::PORT && !is_direct(broker, address);
    if is_loopback(address) || is_name_server {
        return Ok(Route::Resolver(destination));
    }
    let target = target(broker, destination)?;
    let asked = Asked { target: &target, protocol: Protocol::Tcp, program };
    match broker.settings.routes.verdict(&asked).0 {
        Verdict::Direct => Ok(Route::Direct(target)),
        Verdict::Chain(chain) => Ok(Route::Chain(chain, target)),
        Verdict::Deny => Err(Failure::Denied),
    }
}

/// What the address stands for.
///
/// # Errors
/// A stand-in that this session has not given out.
fn target(broker: &Broker, destination: SocketAddr) -> Result<Target, Failure> {
    let host = match kind(destination.ip()) {
        Kind::StandIn(index) => Host::Name(broker.names.borrow().name(index).ok_or(Failure::UnknownStandIn)?),
        Kind::Reserved => return Err(Failure::UnknownStandIn),
        Kind::Ordinary => Host::Address(destination.ip()),
    };
    Ok(Target { host, port: destination.port() })
}

/// Has the user declared this address direct? A stand-in never is, whatever networks that are.
pub(super) fn is_direct(broker: &Broker, address: IpAddr) -> bool {
    let target = Target { host: Host::Address(address), port: 0 };
    let asked = Asked { target: &target, protocol: Protocol::Tcp, program: &Vec::new };
    kind(address) == Kind::Ordinary && broker.settings.routes.verdict(&asked).0 == Verdict::Direct
}

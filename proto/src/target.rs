//! A destination as a program means it: a name or an address, and a port.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::name::Name;

/// Where the proxy is asked to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name or address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// A host as a request to a proxy carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "a name is its largest part, and nothing here can allocate")]
pub enum Host {
    /// An address; IPv4-mapped ones are sent as IPv4.
    Address(IpAddr),
    /// A name, resolved by the proxy.
    Name(Name),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Address(address) => SocketAddr::new(address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

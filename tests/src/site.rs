//! Where a proxy runs: a host, and the address by which it is reached.

use std::net::{Ipv4Addr, SocketAddr};

use crate::host::Host;
use crate::lab::{Lab, PROXY};

/// A place for proxies.
#[derive(Clone, Copy, Debug)]
pub struct Site<'lab> {
    /// The host.
    pub host: &'lab Host,
    /// Its address.
    pub address: Ipv4Addr,
    /// The device that has the address.
    pub near: &'static str,
    /// The device by which destinations are reached; perhaps the same.
    pub far: &'static str,
    /// May the client speak to what listens here?
    pub is_for_the_client: bool,
}

impl<'lab> Site<'lab> {
    /// The proxy host.
    #[must_use]
    pub fn proxy_host(lab: &'lab Lab) -> Self {
        Self {
            host: &lab.proxy,
            address: PROXY,
            near: "to-client",
            far: "to-origin",
            is_for_the_client: true,
        }
    }

    /// A port here.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }

    /// A name for what listens on this port, unlike all others of the lab.
    #[must_use]
    pub fn name(&self, program: &str, port: u16) -> String {
        format!("{program}-{}-{port}", self.host.name())
    }

    /// A proxy listens here now: if the client may speak to it, that is no leak.
    pub(crate) fn permit(&self, lab: &Lab, port: u16) {
        if self.address == PROXY {
            lab.permit_proxy_port(port);
        } else if self.is_for_the_client {
            lab.permit_proxy(self.address, port);
        }
    }
}

//! `presocks --serve`: the product's own server, on the proxy host. It relays UDP.

use std::net::Ipv4Addr;
use std::process::Command;

use super::{Upstream, url_at};
use crate::binary;
use crate::daemon::Daemon;
use crate::lab::{EPHEMERAL, Lab, PROXY};
use crate::site::Site;

const PORT: u16 = 1085;

/// A running `presocks --serve`.
#[derive(Debug)]
pub struct Embedded {
    /// The server, for its log.
    pub daemon: Daemon,
    address: Ipv4Addr,
}

impl Embedded {
    /// Starts it.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        Self::open_at(lab, Site::proxy_host(lab))
    }

    /// Starts it elsewhere.
    #[must_use]
    pub fn open_at(lab: &Lab, site: Site<'_>) -> Self {
        let mut command = Command::new(binary::presocks());
        command.env_clear().args(["--serve", &site.at(PORT).to_string()]);
        let name = site.name("presocks-serve", PORT);
        let daemon = Daemon::start(lab, site.host, &name, &mut command, site.at(PORT));
        site.permit(lab, PORT);
        if site.address == PROXY {
            lab.permit_relay_ports(EPHEMERAL);
        }
        Self { daemon, address: site.address }
    }
}

impl Upstream for Embedded {
    fn url(&self) -> String {
        url_at(self.address, None, PORT)
    }
}

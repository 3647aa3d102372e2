//! Programs that are told of a proxy in a way that nobody can take from them (git's configuration, .npmrc, pip.conf, apt.conf, .wgetrc, properties of
//! Java, GNOME's settings). What shows it is a connection to presocks' own proxy, or to one that a variable named which was taken. The connection is made
//! as any; the user gets a hint.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use presocks_proto::name::Name;
use presocks_proto::target::{Host, Target};

use super::program::Program;
use super::report::Report;
use crate::config::Taken;
use crate::policy::route::Routes;
use crate::policy::route::explain::Local;

/// Where proxies are that no program should connect to.
pub(super) struct OtherProxies {
    known: Vec<(Target, Whose)>,
    report: Rc<Report>,
}

/// Whose proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// One of presocks' own.
    Ours,
    /// The one that this variable named.
    Variable(&'static str),
}

impl OtherProxies {
    /// Those of the routes, whose first one is at these addresses, and those that these variables named. `local`: what a name is on this machine.
    pub(super) fn new(
        routes: &Routes,
        addresses: &[SocketAddr],
        taken: &[Taken],
        local: impl Fn(&Name) -> Local,
        report: Rc<Report>,
    ) -> Self {
        let proxies = routes.chains.iter().flat_map(|chain| &chain.proxies);
        let own = proxies.filter_map(|proxy| Some((proxy.as_target()?, Whose::Ours)));
        let addresses = addresses.iter().map(|at| (target(*at), Whose::Ours));
        let taken = taken.iter().filter_map(|taken| Some((taken.proxy?, Whose::Variable(taken.name))));
        let mut known: Vec<_> = own.chain(addresses).chain(taken).collect();
        // A program finds a name of /etc/hosts there.
        let here = |name: &Name| -> Vec<IpAddr> {
            match local(name) {
                _ if name.is_localhost() => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                Local::Address(address) => vec![address],
                Local::Nobody | Local::Elsewhere => Vec::new(),
            }
        };
        let mut local = Vec::new();
        for (target, whose) in &known {
            if let Host::Name(name) = &target.host {
                let at = |address| (Target { host: Host::Address(address), ..*target }, *whose);
                local.extend(here(name).into_iter().map(at));
            }
        }
        known.extend(local);
        Self { known, report }
    }

    /// A hint, if the program connects to a proxy as if it had been told to use that.
    pub(super) fn notice(&self, program: &Program<'_>, target: &Target) {
        if let Some(whose) = self.at(target) {
            self.report.connects_to_a_proxy(program, target, &whose);
        }
    }

    /// Whose proxy is at this target?
    fn at(&self, target: &Target) -> Option<Whose> {
        self.known.iter().find(|(other, _)| other == target).map(|(_, whose)| *whose)
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("presocks' own proxy"),
            Self::Variable(name) => write!(f, "the proxy that {name} named"),
        }
    }
}

fn target(address: SocketAddr) -> Target {
    Target { host: Host::Address(address.ip().to_canonical()), port: address.port() }
}

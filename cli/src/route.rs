//! Where a connection goes: by which chain of proxies, directly, or nowhere.
//!
//! Policy alone, without I/O: what the user has declared, and what it says of one destination. The broker asks, and acts.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use presocks_proto::target::{Host, Target};

use crate::proxy::Proxy;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// By the chain with this index in [`Routes::chains`].
    Chain(usize),
    /// Without a proxy.
    Direct,
    /// Nowhere.
    Deny,
}

/// Proxies, and in which order they are used.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// As the configuration calls it; "proxy" for the default chain.
    pub(crate) name: String,
    /// Never empty.
    pub(crate) proxies: Vec<Proxy>,
    /// Which of them a connection goes through.
    pub(crate) order: Order,
    /// Is a proxy that answers a request with a failure passed over, and not only a dead one?
    pub(crate) passes_over_refusals: bool,
}

/// Which proxies of a chain a connection goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// All, in their order.
    Strict,
    /// All that are alive, in their order.
    Dynamic,
    /// So many, at random; the first `fixed` proxies are always at the head.
    Random { length: usize, fixed: usize },
    /// So many, from the one after the last that was used.
    RoundRobin { length: usize },
    /// The first that is alive.
    Failover,
}

/// By which protocol a destination is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// What a rule is about. Within a field, any; of the fields that are not empty, all; names and addresses count as one field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Criteria {
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    pub(crate) protocol: Option<Protocol>,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) criteria: Criteria,
    pub(crate) via: Verdict,
    /// Where the user has written it.
    pub(crate) source: String,
}

/// All that the user has declared about where connections go.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    /// The first is the default chain.
    pub(crate) chains: Vec<Chain>,
    /// The first that matches decides.
    pub(crate) rules: Vec<Rule>,
    /// What no rule decides.
    pub(crate) fallback: Verdict,
}

/// A question: a destination, and who wants to go there.
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a Target,
    pub(crate) protocol: Protocol,
    /// The names that the program goes by: of its file, of its process. Asked for when a rule wants to know.
    pub(crate) program: &'a dyn Fn() -> Vec<String>,
}

impl Routes {
    /// The verdict, and the rule that gives it.
    pub(crate) fn verdict(&self, asked: &Asked<'_>) -> (Verdict, Option<&Rule>) {
        let rule = self.rules.iter().find(|rule| rule.criteria.matches(asked));
        (rule.map_or(self.fallback, |rule| rule.via), rule)
    }

    /// The chain with this index.
    pub(crate) fn chain(&self, index: usize) -> Option<&Chain> {
        self.chains.get(index)
    }
}

impl Criteria {
    fn matches(&self, asked: &Asked<'_>) -> bool {
        let contains = |address: IpAddr| {
            let address = address.to_canonical();
            self.addresses.iter().any(|network| network.contains(&address))
        };
        let is_there = match asked.target.host {
            Host::Address(address) => self.addresses.is_empty() || contains(address),
            Host::Name(_) => self.addresses.is_empty(),
        };
        let is_port =
            self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&asked.target.port));
        is_there && is_port && self.protocol.is_none_or(|protocol| protocol == asked.protocol)
    }
}

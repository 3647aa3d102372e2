//! The schema: what can be configured, whoever says it.
//!
//! config.toml is a [`Profile`], so is each of its `[profiles.NAME]`, and so is what stands on the command line, in the environment, and
//! in the files of other programs. They are laid over one another ([`Profile::over`]); what comes out is read by
//! [`super::routes`] and by `settings`. Here nothing is checked but types: what a URL or a network means is for those.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::place::{Place, Said};
use super::value::{List, Seconds};
use crate::options::{Backstop, Bind, Udp};
use crate::policy::route::{self, Criteria};

/// Words of `via` and `default` that no chain or proxy can have for a name.
pub(super) const RESERVED: [&str; 3] = [PROXY, "direct", "deny"];
const PROXY: &str = "proxy";

/// What a source says; what it leaves open is `None`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Profile {
    /// URLs, or names of `proxies`.
    pub(crate) proxy: Option<List>,
    pub(crate) proxy_file: Option<Said<PathBuf>>,
    pub(crate) order: Option<Said<Order>>,
    pub(crate) length: Option<Said<usize>>,
    pub(crate) fixed: Option<Said<usize>>,
    pub(crate) failover_on_refusal: Option<Said<bool>>,
    pub(crate) default: Option<Said<String>>,
    pub(crate) only: Option<List>,
    pub(crate) direct: Option<List>,
    pub(crate) isolate: Option<Said<Isolate>>,
    pub(crate) ca_file: Option<Said<PathBuf>>,
    pub(crate) connect_timeout: Option<Said<Seconds>>,
    pub(crate) handshake_timeout: Option<Said<Seconds>>,
    pub(crate) timeout: Option<Said<Seconds>>,
    pub(crate) dns: Option<Said<String>>,
    pub(crate) udp: Option<Said<Udp>>,
    pub(crate) bind: Option<Said<Bind>>,
    pub(crate) backstop: Option<Said<Backstop>>,
    pub(crate) quiet: Option<Said<bool>>,
    pub(crate) verbose: Option<Said<bool>>,
    pub(crate) keep_proxy_env: Option<Said<bool>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rewrite: BTreeMap<String, Said<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) proxies: BTreeMap<String, Said<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) chains: BTreeMap<String, Said<Chain>>,
    /// None is something else than an empty list: with that a profile takes back those of the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rules: Option<Vec<Said<Rule>>>,
    /// How many of the rules were said by stronger sources than `direct`.
    #[serde(skip)]
    pub(crate) rules_before_direct: usize,
    /// At the top of a file only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) profiles: BTreeMap<String, Said<Profile>>,
}

/// A chain with a name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Chain {
    pub(crate) proxies: Option<List>,
    pub(crate) order: Option<Said<Order>>,
    pub(crate) length: Option<Said<usize>>,
    pub(crate) fixed: Option<Said<usize>>,
    pub(crate) failover_on_refusal: Option<Said<bool>>,
}

/// A rule, each criterion as it was written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Rule {
    pub(crate) name: Option<List>,
    pub(crate) address: Option<List>,
    pub(crate) port: Option<List>,
    pub(crate) protocol: Option<Said<Protocol>>,
    pub(crate) program: Option<List>,
    pub(crate) via: Option<Said<String>>,
}

/// Which proxies of a chain a connection goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// All, in their order
    Strict,
    /// All that are alive, in their order
    Dynamic,
    /// So many (--length), at random
    Random,
    /// So many (--length), each connection from where the last one ended
    RoundRobin,
    /// The first that is alive
    Failover,
}

/// What gets SOCKS5 credentials of its own, by which Tor keeps streams apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Isolate {
    /// Each process
    Process,
    /// Each destination
    Destination,
    /// The session as a whole
    Session,
}

/// By which protocol a destination is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// Connections
    Tcp,
    /// Datagrams
    Udp,
}

impl Profile {
    /// All URLs of proxies, and names of proxies where these may stand; those of its profiles left out.
    pub(super) fn urls_mut(&mut self) -> impl Iterator<Item = &mut Said<String>> {
        let chains = self.chains.values_mut().filter_map(|chain| chain.value.proxies.as_mut());
        let listed = self.proxy.iter_mut().chain(chains).flat_map(|list| &mut list.items);
        listed.chain(self.proxies.values_mut())
    }

    /// Names a proxy by itself?
    fn has_proxy(&self) -> bool {
        self.proxy.is_some() || self.proxy_file.is_some()
    }

    /// Is it for `ALL_PROXY` to say what `proxy` is? Not where that is named here, nor where chains are that have names, and none goes by it.
    pub(super) fn leaves_proxy_open(&self) -> bool {
        let is_proxy = |via: &Said<String>| via.value == PROXY;
        let is_chain = |via: &Said<String>| !RESERVED.contains(&via.value.as_str());
        let mut vias = self.rules.iter().flatten().filter_map(|rule| rule.value.via.as_ref());
        let is_meant = match &self.default {
            None => true,
            Some(via) if is_chain(via) => false,
            Some(via) => is_proxy(via) || vias.clone().any(is_proxy) || !vias.any(is_chain),
        };
        is_meant && !self.has_proxy()
    }

    /// Is it for `NO_PROXY` to except something from what goes by `proxy`? Not from what is said here of all connections.
    pub(super) fn leaves_exceptions_open(&self) -> bool {
        self.default.is_none() && self.only.is_none()
    }

    /// This source, and a weaker one for what it leaves open. Rules of both hold, these first. Proxies come with their order: where this
    /// source names proxies or an order, a weaker source's order and lengths do not apply to them.
    pub(crate) fn over(self, weaker: Self) -> Self {
        let weaker = match (self.has_proxy(), self.order.is_some()) {
            (false, false) => weaker,
            (names_proxies, _) => Self {
                order: weaker.order.filter(|_| !names_proxies),
                length: None,
                fixed: None,
                failover_on_refusal: None,
                ..weaker
            },
        };
        self.beside(weaker)
    }

    /// This source, and one for what it leaves open, key by key.
    pub(crate) fn beside(self, weaker: Self) -> Self {
        let (has_proxy, has_default) = (self.has_proxy(), self.default.is_some() || self.only.is_some());
        let has_talk = self.quiet.is_some() || self.verbose.is_some();
        let rules_before_direct = match (&self.direct, &weaker.direct) {
            (Some(_), _) => self.rules_before_direct,
            (None, Some(_)) => self.rules.as_ref().map_or(0, Vec::len) + weaker.rules_before_direct,
            (None, None) => 0,
        };
        let rules = match (self.rules, weaker.rules) {
            (Some(own), Some(others)) => Some(own.into_iter().chain(others).collect()),
            (own, others) => own.or(others),
        };
        Self {
            proxy: self.proxy.or(weaker.proxy.filter(|_| !has_proxy)),
            proxy_file: self.proxy_file.or(weaker.proxy_file.filter(|_| !has_proxy)),
            order: self.order.or(weaker.order),
            length: self.length.or(weaker.length),
            fixed: self.fixed.or(weaker.fixed),
            failover_on_refusal: self.failover_on_refusal.or(weaker.failover_on_refusal),
            default: self.default.or(weaker.default.filter(|_| !has_default)),
            only: self.only.or(weaker.only.filter(|_| !has_default)),
            direct: self.direct.or(weaker.direct),
            isolate: self.isolate.or(weaker.isolate),
            ca_file: self.ca_file.or(weaker.ca_file),
            connect_timeout: self.connect_timeout.or(weaker.connect_timeout),
            handshake_timeout: self.handshake_timeout.or(weaker.handshake_timeout),
            timeout: self.timeout.or(weaker.timeout),
            dns: self.dns.or(weaker.dns),
            udp: self.udp.or(weaker.udp),
            bind: self.bind.or(weaker.bind),
            backstop: self.backstop.or(weaker.backstop),
            quiet: self.quiet.or(weaker.quiet.filter(|_| !has_talk)),
            verbose: self.verbose.or(weaker.verbose.filter(|_| !has_talk)),
            keep_proxy_env: self.keep_proxy_env.or(weaker.keep_proxy_env),
            rewrite: merged(self.rewrite, weaker.rewrite),
            proxies: merged(self.proxies, weaker.proxies),
            chains: merged(self.chains, weaker.chains),
            rules,
            rules_before_direct,
            profiles: merged(self.profiles, weaker.profiles),
        }
    }

    /// `direct` stands before the rules of its own source and of weaker ones, and not before a stronger one's denial: where there are any, it becomes a
    /// rule behind them. For when all sources have been laid over one another.
    pub(super) fn settle(&mut self) {
        if self.rules_before_direct == 0 {
            return;
        }
        let Some(direct) = self.direct.take_if(|direct| !direct.items.is_empty()) else { return };
        let place = direct.place.clone();
        let via = Some(Said::new("direct".to_owned(), &place));
        let (names, addresses) =
            direct.items.into_iter().partition(|item: &Said<String>| route::rule::is_name(&item.value));
        let list = |items: Vec<_>| {
            if items.is_empty() { None } else { Some(List { items, place: place.clone() }) }
        };
        let rule = Rule { name: list(names), address: list(addresses), via, ..Rule::default() };
        let rule = Said::new(rule, &place);
        let rules = self.rules.get_or_insert_default();
        rules.insert(self.rules_before_direct.min(rules.len()), rule);
        self.rules_before_direct = 0;
    }
}

impl Rule {
    /// A rule that has been read already, as texts again.
    pub(crate) fn new(criteria: &Criteria, via: &str, place: &Place) -> Self {
        let Criteria { names, addresses, ports, protocol, programs } = criteria;
        let ports = ports.iter().map(|ports| match (ports.start(), ports.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
        let protocol = protocol.map(|protocol| match protocol {
            route::Protocol::Tcp => Protocol::Tcp,
            route::Protocol::Udp => Protocol::Udp,
        });
        Self {
            name: list(names.iter().map(ToString::to_string), place),
            address: list(addresses.iter().map(ToString::to_string), place),
            port: list(ports, place),
            protocol: protocol.map(|protocol| Said::new(protocol, place)),
            program: list(programs.iter().map(ToString::to_string), place),
            via: Some(Said::new(via.to_owned(), place)),
        }
    }
}

fn list(items: impl Iterator<Item = String>, place: &Place) -> Option<List> {
    let list = List::new(items, place);
    if list.items.is_empty() { None } else { Some(list) }
}

fn merged<T>(stronger: BTreeMap<String, T>, mut weaker: BTreeMap<String, T>) -> BTreeMap<String, T> {
    weaker.extend(stronger);
    weaker
}

//! Where a connection goes: by which chain of proxies, directly, or nowhere.
//!
//! Policy alone, without I/O: what the user has declared, and what it says of one destination. The broker asks, and acts.
//! Names are never resolved for it: a rule about addresses does not match a name.

pub(crate) mod explain;
pub(crate) mod pattern;
pub(crate) mod rewrite;
pub(crate) mod rule;
mod unproxied;

use std::cell::OnceCell;
use std::fmt;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use presocks_abi::socket::is_loopback;
use presocks_proto::name::Name;
use presocks_proto::target::{Host, Target};

use crate::proxy::{Kind, Proxy};
pub(crate) use pattern::Pattern;
pub(crate) use rewrite::Rewrite;
pub(crate) use unproxied::Unproxied;

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
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Criteria {
    pub(crate) names: Vec<Pattern>,
    /// They contain no name: names are resolved by the proxy.
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) programs: Vec<Pattern>,
}

const LOCALHOST: &[u8] = b"localhost";

/// Of a longer list a message shows so many.
const MOST_SHOWN: usize = 8;

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) criteria: Criteria,
    pub(crate) via: Verdict,
    /// Where the user has written it.
    pub(crate) source: String,
}

/// What a proxy is told apart by: Tor, for one, keeps connections with different credentials apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Each process has its own.
    Process,
    /// Each destination has its own.
    Destination,
    /// This session has its own.
    Session,
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
    /// Applied before the rules.
    pub(crate) rewrites: Vec<Rewrite>,
}

/// A question: a destination, and who wants to go there.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a Target,
    pub(crate) protocol: Protocol,
    /// The names that the program goes by: of its file, of its process. Asked for when a rule wants to know.
    pub(crate) program: &'a dyn Fn() -> Vec<String>,
}

impl Routes {
    /// What the target is to be instead. To be asked before anything else, and once.
    pub(crate) fn rewritten(&self, target: Target) -> Target {
        rewrite::rewritten(&self.rewrites, &target).map_or(target, |(target, _)| target)
    }

    /// The verdict, and the rule that gives it.
    pub(crate) fn verdict(&self, asked: &Asked<'_>) -> (Verdict, Option<&Rule>) {
        // Only a rewrite leads there from here; and what a proxy would take for loopback is another machine.
        if matches!(asked.target.host, Host::Address(address) if is_loopback(address)) {
            return (Verdict::Direct, None);
        }
        let rule = self.rule(asked);
        (rule.map_or(self.fallback, |rule| rule.via), rule)
    }

    /// The verdict on asking this name server itself; `None` when ours is to answer in its stead.
    ///
    /// That one gives stand-ins, by which names come to the rules. So a server is not asked directly because all is direct, or all that no rule
    /// speaks of: it would be told the names that the rules send elsewhere. A rule must mean it: by its port
    /// or the program that asks; by its address as long as no rule and no rewrite speaks of a name. Nor does a rule deny it that denies a network to which nothing goes when ours answers.
    pub(crate) fn name_server(&self, asked: &Asked<'_>) -> Option<(Verdict, &Rule)> {
        let rule = self.rule(asked)?;
        let Criteria { addresses, ports, programs, .. } = &rule.criteria;
        let is_specific = !ports.is_empty() || !programs.is_empty();
        match rule.via {
            Verdict::Direct if is_specific => Some((Verdict::Direct, rule)),
            Verdict::Direct if !addresses.is_empty() && self.names().next().is_none() => {
                Some((Verdict::Direct, rule))
            }
            Verdict::Deny if is_specific => Some((Verdict::Deny, rule)),
            _ => None,
        }
    }

    /// The verdict on a question of the broker's own to a name server, for the program that has asked. It is not asked directly because all is direct, or all
    /// that no rule speaks of, as above; unless there is no proxy at all.
    pub(crate) fn upstream(&self, asked: &Asked<'_>) -> (Verdict, Option<&Rule>) {
        let (verdict, rule) = self.verdict(asked);
        let is_meant = rule.is_some_and(|Rule { criteria, .. }| {
            let Criteria { names, addresses, ports, programs, protocol: _ } = criteria;
            !(names.is_empty() && addresses.is_empty() && ports.is_empty() && programs.is_empty())
        });
        match verdict {
            Verdict::Direct if !is_meant && !self.chains.is_empty() => (Verdict::Chain(0), None),
            verdict => (verdict, rule),
        }
    }

    /// Whom rules and rewrites speak of by name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Pattern> {
        let ruled = self.rules.iter().flat_map(|rule| &rule.criteria.names);
        ruled.chain(self.rewrites.iter().filter_map(Rewrite::name))
    }

    /// What the first rule says that speaks of this name, whatever the port: on a question about it.
    pub(crate) fn about(&self, name: &Name, program: &dyn Fn() -> Vec<String>) -> Option<(Verdict, &Rule)> {
        let names = program();
        let is_about = |rule: &&Rule| {
            let criteria = &rule.criteria;
            criteria.ports.is_empty() && criteria.speaks_of(name) && criteria.is_for(&|| names.as_slice())
        };
        self.rules.iter().find(is_about).map(|rule| (rule.via, rule))
    }

    /// The first rule that matches of those that speak of networks.
    pub(crate) fn about_network(&self, asked: &Asked<'_>) -> Option<&Rule> {
        self.first(asked, |rule| !rule.criteria.addresses.is_empty())
    }

    /// The rule that denies a connection to loopback, which is the program's own otherwise. Those alone count that speak of loopback: by an address or
    /// a network within it, or by the name `localhost`.
    pub(crate) fn denies_loopback(&self, asked: &Asked<'_>) -> Option<&Rule> {
        let named = Target { host: Host::Name(Name::new(LOCALHOST)?), ..*asked.target };
        let names = OnceCell::new();
        let program = || names.get_or_init(|| (asked.program)()).as_slice();
        let is_it = |rule: &&Rule| {
            let criteria = &rule.criteria;
            criteria.speak_of_loopback()
                && (criteria.matches(asked, &program)
                    || criteria.matches(&Asked { target: &named, ..*asked }, &program))
        };
        self.rules.iter().find(is_it).filter(|rule| rule.via == Verdict::Deny)
    }

    /// Does a rule deny connections to loopback?
    pub(crate) fn judge_loopback(&self) -> bool {
        self.rules.iter().any(|rule| rule.via == Verdict::Deny && rule.criteria.speak_of_loopback())
    }

    /// The first rule that matches.
    fn rule(&self, asked: &Asked<'_>) -> Option<&Rule> {
        self.first(asked, |_| true)
    }

    fn first(&self, asked: &Asked<'_>, may: impl Fn(&Rule) -> bool) -> Option<&Rule> {
        let names = OnceCell::new();
        let program = || names.get_or_init(|| (asked.program)()).as_slice();
        self.rules.iter().find(|rule| may(rule) && rule.criteria.matches(asked, &program))
    }

    /// The chain with this index.
    pub(crate) fn chain(&self, index: usize) -> Option<&Chain> {
        self.chains.get(index)
    }

    /// Do the rules tell programs apart?
    pub(crate) fn know_programs(&self) -> bool {
        self.rules.iter().any(|rule| !rule.criteria.programs.is_empty())
    }
}

impl Criteria {
    fn matches<'p>(&self, asked: &Asked<'_>, program: &impl Fn() -> &'p [String]) -> bool {
        let is_anywhere = self.names.is_empty() && self.addresses.is_empty();
        let is_there = || match &asked.target.host {
            Host::Address(address) => {
                let address = address.to_canonical();
                self.addresses.iter().any(|network| network.contains(&address))
            }
            Host::Name(name) => self.speaks_of(name),
        };
        let port = asked.target.port;
        let is_port = self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&port));
        is_port
            && self.protocol.is_none_or(|protocol| protocol == asked.protocol)
            && (is_anywhere || is_there())
            && self.is_for(program)
    }

    fn speak_of_loopback(&self) -> bool {
        let is_within = |network: &IpNet| is_loopback(network.addr()) && is_loopback(network.broadcast());
        // Everything is not meant for loopback.
        let is_narrow = |network: &IpNet| network.prefix_len() > 0;
        self.addresses.iter().any(|network| is_narrow(network) && is_within(network))
            || self.names.iter().any(|pattern| pattern.to_string().as_bytes() == LOCALHOST)
    }

    fn speaks_of(&self, name: &Name) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name.as_bytes()))
    }

    /// By the names that the program goes by.
    fn is_for<'p>(&self, program: &impl Fn() -> &'p [String]) -> bool {
        let is_ones = |pattern: &Pattern| program().iter().any(|name| pattern.matches_program(name));
        self.programs.is_empty() || self.programs.iter().any(is_ones)
    }
}

/// Why a datagram that is to go directly is refused.
pub(crate) const NOT_BY_NAME: &str = "a datagram to a name goes through a proxy or not at all";
pub(crate) const NOT_REWRITTEN: &str = "a rewritten datagram goes through a proxy or not at all";

/// Why a chain carries no datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDatagrams {
    /// They would have to go through several proxies.
    Several,
    /// None of its proxies speaks a protocol that does.
    Protocol,
    /// Those that do are spoken to over TLS, or at a Unix socket.
    Transport,
    /// Those of all programs to all destinations would go together.
    Isolation,
}

impl fmt::Display for NoDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Several => "datagrams go through one proxy only, and this chain has several",
            Self::Protocol => "this kind of proxy carries no datagrams; SOCKS5 does",
            Self::Isolation => "datagrams cannot be kept apart (--isolate)",
            Self::Transport => "datagrams do not go over TLS or Unix sockets; plain SOCKS5 carries them",
        })
    }
}

impl Chain {
    /// Its proxy, or its name when it has several.
    pub(crate) fn shown(&self) -> String {
        match self.proxies.as_slice() {
            [proxy] => proxy.to_string(),
            _ => format!("the chain \"{}\"", self.name.escape_debug()),
        }
    }

    /// The places of the proxies that may carry its datagrams: any one of them does, the first that is alive.
    ///
    /// # Errors
    /// There is none, and why.
    pub(crate) fn for_datagrams(&self) -> Result<Vec<usize>, NoDatagrams> {
        let is_of_one = match self.order {
            Order::Strict | Order::Dynamic => self.proxies.len() == 1,
            Order::Random { length, .. } | Order::RoundRobin { length } => {
                self.proxies.len().min(length) == 1
            }
            Order::Failover => true,
        };
        if !is_of_one {
            return Err(NoDatagrams::Several);
        }
        let speaks_it = |proxy: &Proxy| proxy.kind() == Kind::Socks5;
        let serving = self.proxies.iter().enumerate().filter(|(_, proxy)| proxy.association().is_some());
        let serving: Vec<_> = serving.map(|(place, _)| place).collect();
        match (serving.is_empty(), self.proxies.iter().any(speaks_it)) {
            (false, _) => Ok(serving),
            (true, true) => Err(NoDatagrams::Transport),
            (true, false) => Err(NoDatagrams::Protocol),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Where it was written, and what it is about.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let criteria = self.criteria.to_string();
        let criteria = if criteria.is_empty() { "everything" } else { &criteria };
        write!(f, "{}: {criteria}", self.source.escape_debug())
    }
}

/// As a rule is written, without its `via`.
impl fmt::Display for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, addresses, ports, protocol, programs } = self;
        let port = |ports: &RangeInclusive<u16>| match (ports.start(), ports.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let fields = [
            ("name", names.iter().map(ToString::to_string).collect::<Vec<_>>()),
            ("address", addresses.iter().map(ToString::to_string).collect()),
            ("port", ports.iter().map(port).collect()),
            ("protocol", protocol.iter().map(ToString::to_string).collect()),
            ("program", programs.iter().map(ToString::to_string).collect()),
        ];
        let words = fields.iter().filter(|(_, values)| !values.is_empty());
        let shown = |values: &[String]| match values.split_at_checked(MOST_SHOWN) {
            Some((first, rest)) if !rest.is_empty() => {
                format!("{}, and {} more", first.join(","), rest.len())
            }
            _ => values.join(","),
        };
        let words: Vec<_> = words.map(|(key, values)| format!("{key}={}", shown(values))).collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests;

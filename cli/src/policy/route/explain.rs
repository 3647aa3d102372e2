//! What would become of a connection, in words: `--explain`. Nothing is asked or connected for it.

use std::net::IpAddr;

use presocks_proto::name::Name;
use presocks_proto::target::{Host, Target};

use super::{Asked, Chain, Order, Protocol, Routes, Unproxied, Verdict, rewrite, rule};
use crate::proxy::Proxy;

/// Where name servers listen.
const DOMAIN: u16 = 53;

/// What datagrams meet with, whatever the rules say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// `--udp=deny`
    pub(crate) has_no_datagrams: bool,
    /// `--isolate`
    pub(crate) is_isolated: bool,
}

/// What a name is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// One that has this address first.
    Address(IpAddr),
    /// None: a look-up says so.
    Nobody,
    /// One that rules and proxies hear of.
    Elsewhere,
}

/// What is to be explained.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    target: Target,
    protocol: Protocol,
}

impl Question {
    /// Reads `HOST:PORT[/udp]`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (place, protocol) = match text.rsplit_once('/') {
            Some((place, protocol)) => (place, rule::protocol(protocol)?),
            None => (text, Protocol::Tcp),
        };
        let form = || {
            format!(
                "\"{}\" is not HOST:PORT, as example.org:443, [2001:db8::1]:80 or a.example:123/udp",
                text.escape_debug()
            )
        };
        let (host, port) = rule::host_and_port(place).ok_or_else(form)?;
        let port = rule::port(port).ok_or_else(form)?;
        let host = match host.parse::<IpAddr>() {
            Ok(address) => Host::Address(address),
            Err(_) if place.starts_with('[') => return Err(form()),
            Err(_) => Host::Name(Name::new(host.as_bytes()).ok_or_else(form)?),
        };
        Ok(Self { target: Target { host, port }, protocol })
    }

    /// What the user would be told of it. `program`: the names that the program goes by, if there is one; `local`: what a name is on this machine.
    pub(crate) fn answer(
        &self,
        routes: &Routes,
        program: &[String],
        limits: Limits,
        local: impl FnOnce(&Name) -> Local,
    ) -> String {
        let names = || program.to_vec();
        let explain = |target: &Target| {
            routes.explain(&Asked { target, protocol: self.protocol, program: &names }, limits)
        };
        match self.target.host {
            Host::Name(name) => match local(&name) {
                Local::Address(address) => {
                    let host = Host::Address(address);
                    let explained = explain(&Target { host, ..self.target });
                    format!("{name} is {address} on this machine\n{explained}")
                }
                Local::Nobody => format!("{name}: there is no such name\n"),
                Local::Elsewhere => explain(&self.target),
            },
            Host::Address(_) => explain(&self.target),
        }
    }
}

impl Routes {
    /// What would become of it, and why, in lines; without credentials.
    pub(crate) fn explain(&self, asked: &Asked<'_>, limits: Limits) -> String {
        let program = (asked.program)();
        let by = program.first().map(|name| format!(", by {}", name.escape_debug())).unwrap_or_default();
        let mut lines = vec![format!("{} ({}{by})", asked.target, asked.protocol)];
        if let (true, Protocol::Tcp) = (is_of_this_machine(asked.target), asked.protocol)
            && let Some(rule) = self.denies_loopback(asked)
        {
            lines.extend([format!("  rule: {rule}"), "  denied".into()]);
            return text(&lines);
        }
        if is_of_this_machine(asked.target) {
            lines.push("  on this machine: the program connects itself".into());
            return text(&lines);
        }
        let rewritten = rewrite::rewritten(&self.rewrites, asked.target);
        if let Some((target, rewrite)) = &rewritten {
            lines.push(format!("  becomes {target} (rewrite {rewrite})"));
        }
        let target = rewritten.map_or(*asked.target, |(target, _)| target);
        let asked_for = Asked { target: &target, ..*asked };
        let (verdict, rule) = if asked.target.port == DOMAIN {
            match self.name_server(&asked_for) {
                Some((verdict, rule)) if !is_of_this_machine(&target) => (verdict, Some(rule)),
                _ => {
                    lines.push("  presocks' own name server answers in its stead".into());
                    return text(&lines);
                }
            }
        } else if is_of_this_machine(&target) {
            lines.push("  on this machine, without a proxy".into());
            if asked.protocol == Protocol::Udp {
                lines.push(format!("  (but refused: {})", super::NOT_REWRITTEN));
            }
            return text(&lines);
        } else {
            self.verdict(&asked_for)
        };
        if let Some(rule) = rule {
            lines.push(format!("  rule: {rule}"));
        } else if !self.rules.is_empty() {
            lines.push("  rule: none; the default".into());
        }
        match verdict {
            Verdict::Deny => lines.push("  denied".into()),
            Verdict::Direct | Verdict::Chain(_)
                if asked.protocol == Protocol::Udp && limits.has_no_datagrams =>
            {
                lines.push("  refused: UDP is off (--udp=deny)".into());
            }
            Verdict::Direct => lines.extend(direct(asked, &target)),
            Verdict::Chain(index) => match self.chain(index) {
                Some(chain) => {
                    lines.extend(chain.explain(asked.protocol));
                    lines.extend(
                        chain
                            .refuses(asked.protocol, &target, limits)
                            .map(|why| format!("  but refused: {why}")),
                    );
                }
                None => lines.push("  nowhere: there is no proxy".into()),
            },
        }
        text(&lines)
    }
}

/// Each ends its line, the last one too.
fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Such a destination comes to the broker only where a rule speaks of loopback.
fn is_of_this_machine(target: &Target) -> bool {
    match target.host {
        Host::Address(address) => {
            let address = address.to_canonical();
            (address.is_loopback() || address.is_unspecified()) && target.port != DOMAIN
        }
        Host::Name(name) => name.is_localhost(),
    }
}

fn direct(asked: &Asked<'_>, target: &Target) -> Vec<String> {
    let mut lines = vec!["  directly, without a proxy".to_owned()];
    let is_named = matches!(target.host, Host::Name(_));
    match asked.protocol {
        Protocol::Tcp if is_named => lines.push("  (its name is resolved on this machine)".into()),
        Protocol::Udp if is_named => lines.push(format!("  (but refused: {})", super::NOT_BY_NAME)),
        Protocol::Udp if target != asked.target => {
            lines.push(format!("  (but refused: {})", super::NOT_REWRITTEN));
        }
        Protocol::Tcp | Protocol::Udp => {}
    }
    lines
}

impl Chain {
    /// What it cannot carry, and why.
    fn refuses(&self, protocol: Protocol, target: &Target, limits: Limits) -> Option<&'static str> {
        if let Some(why) = Unproxied::of(target) {
            return Some(why.as_str());
        }
        match protocol {
            Protocol::Udp if limits.is_isolated => Some("datagrams cannot be kept apart (--isolate)"),
            Protocol::Udp => None,
            Protocol::Tcp => {
                let is_last = |(place, _): &(usize, &Proxy)| {
                    self.order != Order::Strict || place + 1 == self.proxies.len()
                };
                let mut last = self.proxies.iter().enumerate().filter(is_last);
                let is_carried = last.any(|(_, proxy)| proxy.handshake(*target, None).is_ok());
                (!is_carried).then_some("the proxy's protocol cannot carry this destination")
            }
        }
    }

    fn explain(&self, protocol: Protocol) -> Vec<String> {
        let many = |length: usize| match length {
            1 => "one of these".to_owned(),
            length => format!("{length} of these"),
        };
        let order = match self.order {
            Order::Strict | Order::Dynamic | Order::Failover if self.proxies.len() == 1 => String::new(),
            Order::Strict => ", strict: all of these, in this order".into(),
            Order::Dynamic => ", dynamic: those of these that are alive, in this order".into(),
            Order::Random { length, fixed: 0 } => format!(", random: {}", many(length)),
            Order::Random { length, fixed } => {
                format!(", random: {}, the first {fixed} always at the head", many(length))
            }
            Order::RoundRobin { length } => format!(", round robin: {}, in turn", many(length)),
            Order::Failover => ", failover: the first of these that is alive".into(),
        };
        let mut lines = vec![format!("  by the chain \"{}\"{order}", self.name.escape_debug())];
        lines.extend(self.proxies.iter().map(|proxy| format!("    {proxy}")));
        if protocol == Protocol::Udp {
            lines.push(match self.for_datagrams() {
                Ok(_) if self.proxies.len() == 1 => "  if the proxy serves datagrams".into(),
                Ok(_) => "  datagrams by the first of these that is alive, if it serves them".into(),
                Err(why) => format!("  but refused: {why}"),
            });
        }
        lines
    }
}

//! From what was said to where connections go: chains, rules, what no rule decides.
//!
//! Here names are looked up and texts are read, and whatever is wrong with one of them is reported where it was said.

use std::collections::BTreeMap;

use super::Loaded;
use super::place::{Place, Said};
use super::profile::{self, Order, Profile, Protocol, RESERVED, Rule};
use super::value::List;
use crate::policy::route::{self, Chain, Criteria, Pattern, Rewrite, Routes, Verdict, rule};
use crate::proxy::Proxy;

const NO_PROXY: &str = "no proxy is configured. Name one in one of these ways:\n  \
     presocks -p socks5://HOST:PORT COMMAND\n  \
     presocks --proxy-file FILE COMMAND     (a URL on each line)\n  \
     PRESOCKS_PROXY=socks5://HOST:PORT presocks COMMAND     (or ALL_PROXY)\n  \
     proxy = \"socks5://HOST:PORT\" in ~/.config/presocks/config.toml";

/// What the configuration says about where connections go.
///
/// # Errors
/// What is wrong, and where it was said.
pub(crate) fn routes(loaded: &Loaded) -> Result<Routes, String> {
    let profile = &loaded.profile;
    let mut builder = Builder { profile, chains: Vec::new(), has_default: false, indices: BTreeMap::new() };
    builder.declare(loaded.listed.as_ref().or(profile.proxy.as_ref()))?;
    let mut rules = Vec::new();
    // An empty list takes back what a weaker source says.
    if let Some(direct) = profile.direct.as_ref().filter(|direct| !direct.items.is_empty()) {
        let criteria = destinations(direct)?;
        rules.push(route::Rule { criteria, via: Verdict::Direct, source: direct.place.to_string() });
    }
    for rule in profile.rules.iter().flatten() {
        rules.push(builder.rule(rule)?);
    }
    if let Some(only) = &profile.only {
        if let Some(default) = &profile.default {
            return Err(default.fault("default and only exclude each other: what is not in only is direct"));
        }
        let criteria = destinations(only)?;
        let via = builder.verdict("proxy", &only.place)?;
        rules.push(route::Rule { criteria, via, source: only.place.to_string() });
    }
    let rewrite =
        |(from, to): (&String, &Said<String>)| Rewrite::parse(from, &to.value).map_err(|why| to.fault(why));
    let rewrites = profile.rewrite.iter().map(rewrite).collect::<Result<_, _>>()?;
    let fallback = match (&profile.default, &profile.only) {
        (Some(default), _) => builder.verdict(&default.value, &default.place)?,
        (None, Some(_)) => Verdict::Direct,
        (None, None) if builder.has_default => Verdict::Chain(0),
        (None, None) => return Err(no_proxy(loaded)),
    };
    let mut routes = Routes { chains: builder.chains, rules, fallback, rewrites };
    if let Some(file) = &profile.ca_file {
        let proxies = routes.chains.iter_mut().flat_map(|chain| &mut chain.proxies);
        proxies.for_each(|proxy| proxy.default_ca_file(&file.value));
    }
    if !builder.has_default {
        promote(&mut routes).ok_or_else(|| no_proxy(loaded))?;
    }
    Ok(routes)
}

/// That there is none, and how to name one.
fn no_proxy(loaded: &Loaded) -> String {
    let offer = loaded
        .offered
        .map(|name| format!("\n  presocks -p env COMMAND     (takes the proxy that {name} names)"));
    format!("{NO_PROXY}{}", offer.unwrap_or_default())
}

/// What a list of names and networks is about.
fn destinations(list: &List) -> Result<Criteria, String> {
    let mut criteria = Criteria::default();
    list.parse(|item| rule::add_destination(&mut criteria, item))?;
    Ok(criteria)
}

/// Without `proxy`, the chain of `default`, or else of the first rule that has one, is the default chain.
fn promote(routes: &mut Routes) -> Option<()> {
    let verdicts = std::iter::once(routes.fallback).chain(routes.rules.iter().map(|rule| rule.via));
    let first = verdicts.into_iter().find_map(|verdict| match verdict {
        Verdict::Chain(index) => Some(index),
        Verdict::Direct | Verdict::Deny => None,
    });
    let first = first.filter(|first| *first < routes.chains.len())?;
    routes.chains.swap(0, first);
    let swapped = |verdict: &mut Verdict| {
        if let Verdict::Chain(index) = verdict {
            *index = if *index == first {
                0
            } else if *index == 0 {
                first
            } else {
                *index
            };
        }
    };
    swapped(&mut routes.fallback);
    routes.rules.iter_mut().for_each(|rule| swapped(&mut rule.via));
    Some(())
}

struct Builder<'a> {
    profile: &'a Profile,
    chains: Vec<Chain>,
    /// The first chain is that of `proxy`.
    has_default: bool,
    /// Of chains, and of proxies that are a rule's chain by themselves.
    indices: BTreeMap<String, usize>,
}

/// What beside its proxies makes a chain.
struct Shape<'a> {
    order: Option<&'a Said<Order>>,
    length: Option<&'a Said<usize>>,
    fixed: Option<&'a Said<usize>>,
    failover_on_refusal: Option<&'a Said<bool>>,
}

impl Builder<'_> {
    /// Makes all chains that have been declared.
    fn declare(&mut self, default: Option<&List>) -> Result<(), String> {
        let Profile { proxies, chains, .. } = self.profile;
        let all = proxies.iter().map(|(name, url)| (name, &url.place));
        for (name, place) in all.chain(chains.iter().map(|(name, chain)| (name, &chain.place))) {
            if RESERVED.contains(&name.as_str()) {
                return Err(place.fault(format!("\"{name}\" has a meaning of its own; choose another name")));
            }
        }
        for url in proxies.values() {
            parse(url)?;
        }
        if let Some(list) = default {
            let Profile { order, length, fixed, failover_on_refusal, .. } = self.profile;
            let shape = Shape {
                order: order.as_ref(),
                length: length.as_ref(),
                fixed: fixed.as_ref(),
                failover_on_refusal: failover_on_refusal.as_ref(),
            };
            let chain = self.chain("proxy", list, &shape)?;
            self.chains.push(chain);
            self.has_default = true;
        }
        for (name, chain) in chains {
            if let Some(url) = proxies.get(name) {
                let name = name.escape_debug();
                return Err(chain.fault(format!("\"{name}\" is a proxy's name already ({})", url.place)));
            }
            let profile::Chain { proxies, order, length, fixed, failover_on_refusal } = &chain.value;
            let list = proxies.as_ref().ok_or_else(|| chain.fault("this chain has no proxies"))?;
            let shape = Shape {
                order: order.as_ref(),
                length: length.as_ref(),
                fixed: fixed.as_ref(),
                failover_on_refusal: failover_on_refusal.as_ref(),
            };
            let built = self.chain(name, list, &shape)?;
            self.indices.insert(name.clone(), self.chains.len());
            self.chains.push(built);
        }
        Ok(())
    }

    fn chain(&self, name: &str, list: &List, shape: &Shape<'_>) -> Result<Chain, String> {
        let proxies = list.items.iter().map(|item| self.proxy(item)).collect::<Result<Vec<_>, _>>()?;
        if proxies.is_empty() {
            return Err(list.place.fault("this chain has no proxies"));
        }
        let passes_over_refusals = shape.failover_on_refusal.is_some_and(|said| said.value);
        let order = shape.order(proxies.len())?;
        let is_unreachable = |(index, proxy): &(usize, &Proxy)| *index > 0 && proxy.as_target().is_none();
        let misplaced =
            proxies.iter().enumerate().find(is_unreachable).filter(|_| order == route::Order::Strict);
        if let Some((index, proxy)) = misplaced {
            let why = format!(
                "{proxy} can only be the first of a chain: no other proxy reaches this machine's Unix sockets"
            );
            return Err(list
                .items
                .get(index)
                .map_or_else(|| list.place.fault(&why), |item| item.fault(&why)));
        }
        Ok(Chain { name: name.to_owned(), proxies, order, passes_over_refusals })
    }

    /// A URL, or the name of one.
    fn proxy(&self, item: &Said<String>) -> Result<Proxy, String> {
        let is_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_');
        if item.place.is_list_of_proxies() {
            return parse(item);
        }
        match self.profile.proxies.get(&item.value) {
            Some(url) => parse(url),
            None if !item.value.is_empty() && item.value.chars().all(is_name) => {
                let known = known(self.profile.proxies.keys());
                let name = &item.value;
                Err(item.fault(format!(
                    "no proxy has the name \"{name}\" ({known}); a URL begins with SCHEME://"
                )))
            }
            None => parse(item),
        }
    }

    fn rule(&mut self, said: &Said<Rule>) -> Result<route::Rule, String> {
        let Rule { name, address, port, protocol, program, via } = &said.value;
        let via = via.as_ref().ok_or_else(|| {
            said.fault("this rule does not say where to: add via = \"proxy\", \"direct\", \"deny\" or a chain's name")
        })?;
        let criteria = Criteria {
            names: parsed(name.as_ref(), Pattern::parse)?,
            addresses: parsed(address.as_ref(), rule::address)?,
            ports: parsed(port.as_ref(), rule::ports)?,
            protocol: protocol.as_ref().map(|protocol| match protocol.value {
                Protocol::Tcp => route::Protocol::Tcp,
                Protocol::Udp => route::Protocol::Udp,
            }),
            programs: parsed(program.as_ref(), Pattern::program)?,
        };
        let via = self.verdict(&via.value, &via.place)?;
        Ok(route::Rule { criteria, via, source: said.place.to_string() })
    }

    /// What `via` and `default` say.
    fn verdict(&mut self, via: &str, place: &Place) -> Result<Verdict, String> {
        match via {
            "direct" => return Ok(Verdict::Direct),
            "deny" => return Ok(Verdict::Deny),
            "proxy" if self.has_default => return Ok(Verdict::Chain(0)),
            "proxy" => {
                return Err(place.fault("\"proxy\" is the chain of the key proxy, and no source has that"));
            }
            _ => {}
        }
        if let Some(index) = self.indices.get(via) {
            return Ok(Verdict::Chain(*index));
        }
        let Some(url) = self.profile.proxies.get(via) else {
            let known = known(self.profile.chains.keys().chain(self.profile.proxies.keys()));
            let via = via.escape_debug();
            return Err(place.fault(format!(
                "no chain and no proxy has the name \"{via}\" ({known}); proxy, direct and deny are possible, too"
            )));
        };
        let chain = Chain {
            name: via.to_owned(),
            proxies: vec![parse(url)?],
            order: route::Order::Strict,
            passes_over_refusals: false,
        };
        let index = self.chains.len();
        self.indices.insert(via.to_owned(), index);
        self.chains.push(chain);
        Ok(Verdict::Chain(index))
    }
}

impl Shape<'_> {
    fn order(&self, proxies: usize) -> Result<route::Order, String> {
        let order = self.order.map_or(Order::Strict, |order| order.value);
        let has_length = matches!(order, Order::Random | Order::RoundRobin);
        let length = match self.length {
            Some(said) if !has_length => return Err(said.fault("only random and round-robin have a length")),
            Some(Said { value: 0, place }) => return Err(place.fault("a length of 0 would leave no proxy")),
            Some(said) if said.value > proxies => {
                let are = if proxies == 1 { "is" } else { "are" };
                return Err(
                    said.fault(format!("a length of {} is too much: there {are} {proxies}", said.value))
                );
            }
            said => said.map_or(1, |said| said.value),
        };
        let fixed = match self.fixed {
            Some(said) if order != Order::Random => return Err(said.fault("only random has fixed proxies")),
            Some(said) if said.value > length => {
                return Err(
                    said.fault(format!("{} fixed proxies are more than the length, {length}", said.value))
                );
            }
            said => said.map_or(0, |said| said.value),
        };
        if let (Order::Strict, Some(said @ Said { value: true, .. })) = (order, self.failover_on_refusal) {
            return Err(said.fault("a strict chain passes no proxy over; choose another order"));
        }
        Ok(match order {
            Order::Strict => route::Order::Strict,
            Order::Dynamic => route::Order::Dynamic,
            Order::Random => route::Order::Random { length, fixed },
            Order::RoundRobin => route::Order::RoundRobin { length },
            Order::Failover => route::Order::Failover,
        })
    }
}

fn parse(url: &Said<String>) -> Result<Proxy, String> {
    let credentials = url.value.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    if credentials.is_some_and(|(credentials, _)| credentials.ends_with(":***")) {
        return Err(url.fault("the password was masked by --print-config; write the true one instead of ***"));
    }
    Proxy::parse(&url.value).map_err(|why| url.fault(why))
}

fn parsed<T>(list: Option<&List>, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    list.map_or(Ok(Vec::new()), |list| list.parse(read))
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(|name| name.escape_debug().to_string()).collect();
    if names.is_empty() { "none is declared".into() } else { format!("there are {}", names.join(", ")) }
}

//! One `route { … }`.

mod gssapi;

use super::super::super::place::{Place, Said};
use super::super::super::profile::{Protocol, Rule};
use super::super::url;
use super::token::Statement;
use crate::policy::route::{Criteria, rule};
use gssapi::Gssapi;

/// A route that is carried over.
pub(super) struct Route {
    pub(super) place: Place,
    pub(super) via: Via,
    to: Criteria,
    /// To everywhere: all IPv4 addresses, all IPv6 addresses, or all names.
    is_everywhere: bool,
    protocol: Option<Protocol>,
    kind: &'static str,
    methods: Vec<Said<String>>,
    gssapi: Gssapi,
}

pub(super) enum Via {
    Direct,
    /// Host and port.
    Proxy(String, u16),
}

impl Route {
    /// Reads its statements; `None` for one that is not carried over.
    pub(super) fn read(
        place: &Place,
        statements: Vec<Statement>,
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>, String> {
        let mut note = |place: &Place, what: &str| notes.push(format!("{place}: {what}"));
        let (mut to, mut is_everywhere, mut via, mut from, mut commands, mut protocols) =
            (Criteria::default(), false, None, None, None, None);
        let (mut kinds, mut methods, mut gssapi) = (Vec::new(), Vec::new(), Gssapi::default());
        for Statement { key, values } in statements {
            let Some(first) = values.first() else {
                return Err(key.fault("a value is missing"));
            };
            match key.value.as_str() {
                "from" => from = Some(first.clone()),
                "to" => {
                    is_everywhere = matches!(first.value.as_str(), "0.0.0.0/0" | "0/0" | "::/0" | ".");
                    if !is_everywhere {
                        rule::add_destination(&mut to, &first.value).map_err(|why| key.fault(why))?;
                    }
                    to.ports = ports(&values)?;
                }
                "via" => via = Some(read_via(&key, &values)?),
                "command" => commands = Some(values),
                "protocol" => protocols = Some(values),
                "proxyprotocol" => kinds = values,
                "method" | "socksmethod" => methods = values,
                "gssapi.servicename" => gssapi.service = Some(first.clone()),
                "gssapi.enctype" => gssapi.levels = values,
                other => note(&key.place, &format!("{other} is not carried over")),
            }
        }
        let via = via.ok_or_else(|| place.fault("this route has no via"))?;
        let is_limited =
            from.as_ref().is_some_and(|from| !matches!(from.value.as_str(), "0.0.0.0/0" | "0/0" | "::/0"));
        match (&via, is_limited) {
            (Via::Direct, true) => {
                note(
                    place,
                    "this direct route is left out: routes by where a connection comes from are not possible here",
                );
                return Ok(None);
            }
            (Via::Direct, false) if is_everywhere => {
                note(
                    place,
                    "this direct route is left out: it would send everything past the proxies (say --default direct)",
                );
                return Ok(None);
            }
            (Via::Proxy(..), true) => {
                note(place, "from is not carried over: this route holds wherever a connection comes from")
            }
            _ => {}
        }
        let has = |values: &Option<Vec<Said<String>>>, word: &str| {
            values.as_ref().is_none_or(|values| values.iter().any(|value| value.value == word))
        };
        let tcp = has(&protocols, "tcp") && has(&commands, "connect");
        let udp = has(&protocols, "udp") && has(&commands, "udpassociate");
        let protocol = match (tcp, udp) {
            (true, true) => None,
            (true, false) => Some(Protocol::Tcp),
            (false, true) => Some(Protocol::Udp),
            (false, false) => {
                note(place, "this route is left out: it serves neither connect nor udpassociate");
                return Ok(None);
            }
        };
        let kind = kind(&kinds, place, &mut note)?;
        Ok(Some(Self { place: place.clone(), via, to, is_everywhere, protocol, kind, methods, gssapi }))
    }

    /// Does it take all that no other route takes?
    pub(super) fn is_default(&self) -> bool {
        self.is_everywhere && self.to.ports.is_empty() && self.protocol != Some(Protocol::Udp)
    }

    pub(super) fn rule(&self, via: &str) -> Rule {
        let protocol = self.protocol.map(|protocol| Said::new(protocol, &self.place));
        Rule { protocol, ..Rule::new(&self.to, via, &self.place) }
    }

    /// Its proxy's name and URL.
    pub(super) fn proxy(
        &self,
        login: Option<&(String, String)>,
        notes: &mut Vec<String>,
    ) -> Result<(String, String), String> {
        let Via::Proxy(host, port) = &self.via else {
            return Err(self.place.fault("this route has no proxy"));
        };
        let has = |name: &str| self.methods.iter().any(|method| method.value == name);
        let is_any = self.methods.is_empty();
        if let Some(method) = self.methods.iter().find(|method| method.value == "gssapi") {
            let is_first = self.methods.first().is_some_and(|first| first.value == "gssapi");
            if is_first && self.kind != "socks5" {
                return Err(method.fault("GSSAPI is for SOCKS5 alone"));
            }
            if is_first {
                if self.methods.len() > 1 {
                    notes.push(format!("{}: of the methods gssapi is used, always", method.place));
                }
                return self.gssapi.proxy(host, &port.to_string());
            }
            notes.push(format!("{}: GSSAPI is not offered, as it does not stand first", method.place));
        }
        let login = login.filter(|_| is_any || has("username"));
        if login.is_none() && has("username") {
            notes.push(format!(
                "{}: SOCKS_USERNAME is not set, so no user and password are offered",
                self.place
            ));
        }
        let login = login.map(|(user, password)| match self.kind {
            "socks4a" => (user.as_str(), ""),
            _ => (user.as_str(), password.as_str()),
        });
        let port = port.to_string();
        Ok((format!("{} {host}:{port}", self.kind), url(self.kind, host, &port, login)))
    }
}

/// What is spoken to the proxy; without a word of it, SOCKS5.
fn kind(
    kinds: &[Said<String>],
    place: &Place,
    note: &mut impl FnMut(&Place, &str),
) -> Result<&'static str, String> {
    let mut known = Vec::new();
    for kind in kinds {
        match kind.value.as_str() {
            "socks_v5" | "socks_v5:" => known.push("socks5"),
            // A name that nobody resolves on this side needs SOCKS4a; an address goes as by SOCKS4.
            "socks_v4" => known.push("socks4a"),
            "http" | "http_v1.0" | "http_v1.1" => known.push("http"),
            other => note(&kind.place, &format!("the proxy protocol {other:?} is not possible here")),
        }
    }
    match known[..] {
        [only] => Ok(only),
        [] if kinds.is_empty() => Ok("socks5"),
        [] => Err(place.fault("this route has no proxy protocol that is possible here")),
        [first, ..] => {
            let chosen = if known.contains(&"socks5") { "socks5" } else { first };
            note(place, &format!("of the proxy protocols {chosen} is used, always"));
            Ok(chosen)
        }
    }
}

/// `ADDRESS port = PORT`, or `direct`.
fn read_via(key: &Said<String>, values: &[Said<String>]) -> Result<Via, String> {
    let host = values.first().ok_or_else(|| key.fault("a value is missing"))?;
    if host.value == "direct" {
        return Ok(Via::Direct);
    }
    match ports(values)?.first() {
        Some(ports) if ports.start() == ports.end() => Ok(Via::Proxy(host.value.clone(), *ports.start())),
        Some(_) => Err(host.fault("a proxy has one port")),
        None => Err(host.fault("a proxy needs a port, as 10.0.0.1 port = 1080")),
    }
}

/// What stands behind the word `port`.
fn ports(values: &[Said<String>]) -> Result<Vec<std::ops::RangeInclusive<u16>>, String> {
    let Some(at) = values.iter().position(|value| value.value == "port" || value.value.starts_with("port="))
    else {
        return Ok(Vec::new());
    };
    let text: String = values.iter().skip(at).map(|value| value.value.as_str()).collect();
    let text = text.strip_prefix("port").unwrap_or_default();
    let digits = text.find(|letter: char| letter.is_ascii_digit()).unwrap_or(text.len());
    let (operator, number) = text.split_at(digits);
    let fault = |why: String| values.get(at).map_or(why.clone(), |value| value.fault(why));
    let last = u16::MAX;
    let single = || rule::ports(number).map(|ports| *ports.start()).map_err(fault);
    let range = match operator {
        "" | "=" | "eq" => rule::ports(number).map_err(fault)?,
        ">=" | "ge" => single()?..=last,
        ">" | "gt" => single()?.saturating_add(1)..=last,
        "<=" | "le" => 1..=single()?,
        "<" | "lt" => 1..=single()?.saturating_sub(1),
        _ => {
            return Err(fault(
                "ports are one (=), a range, or all from one on (>=) or up to one (<=)".into(),
            ));
        }
    };
    Ok(vec![range])
}

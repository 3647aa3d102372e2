//! Rules as they are written: on the command line as words `CRITERION=VALUE,...`, and in parts for the configuration file.
//!
//! An error says what is wrong, and what to write instead. `via` stays as it was written: who knows the chains, resolves it.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};

use super::{Criteria, Pattern, Protocol};

/// A rule whose chain has not been looked up.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) criteria: Criteria,
    /// `proxy`, `direct`, `deny`, or the name of a chain or proxy. Never empty.
    pub(crate) via: String,
}

impl Written {
    /// Reads `name=.example.org,*.corp address=10.0.0.0/8 port=22,6660-6669 protocol=tcp program=ssh via=direct`: words in any order, of
    /// which `via` must be there.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut criteria = Criteria::default();
        let mut via = None;
        let mut seen = Vec::new();
        for word in text.split_ascii_whitespace() {
            let (key, values) = word.split_once('=').ok_or_else(|| {
                format!("\"{}\" is not CRITERION=VALUE, as in port=22", word.escape_debug())
            })?;
            if seen.contains(&key) {
                return Err(format!("{key} stands twice; write its values with commas: {key}=A,B"));
            }
            match key {
                "name" => criteria.names = list(key, values, Pattern::parse)?,
                "address" => criteria.addresses = list(key, values, address)?,
                "port" => criteria.ports = list(key, values, ports)?,
                "program" => criteria.programs = list(key, values, Pattern::program)?,
                "protocol" => criteria.protocol = Some(protocol(values)?),
                "via" if values.is_empty() => return Err(VIA.into()),
                "via" => via = Some(values.to_owned()),
                _ => {
                    let key = key.escape_debug();
                    return Err(format!(
                        "there is no \"{key}\"; a rule has name, address, port, protocol, program and via"
                    ));
                }
            }
            seen.push(key);
        }
        Ok(Self { criteria, via: via.ok_or(VIA)? })
    }
}

const VIA: &str =
    "it does not say where to; add via=proxy, via=direct, via=deny, or via= the name of a chain";

/// Values with commas between them.
fn list<T>(key: &str, values: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let parse = |value: &str| match value {
        "" => Err(format!("{key}= has an empty value; write {key}=A,B")),
        value => parse(value).map_err(|why| format!("{key}: {why}")),
    };
    values.split(',').map(parse).collect()
}

/// A network, or one address.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn address(text: &str) -> Result<IpNet, String> {
    let found = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    found.map(|network| canonical(network.trunc())).ok_or_else(|| {
        format!("\"{}\" is neither an address nor a network, as 10.0.0.0/8 or fd00::/8", text.escape_debug())
    })
}

/// IPv4 networks, as IPv6 writes them, are IPv4's.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = network else { return network };
    let v4: Option<Ipv4Addr> = v6.network().to_ipv4_mapped();
    let len = v6.prefix_len().checked_sub(MAPPED);
    v4.zip(len).and_then(|(v4, len)| Ipv4Net::new(v4, len).ok()).map_or(network, IpNet::V4)
}

/// A port, or ports from the first to the last: `22`, `6660-6669`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(first), Some(last)) => Err(format!("{first}-{last} is empty; write {last}-{first}")),
        _ => {
            let text = text.escape_debug();
            Err(format!("\"{text}\" is neither a port from 1 to 65535 nor a range, as 6660-6669"))
        }
    }
}

pub(super) fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok().filter(|port| *port > 0) } else { None }
}

/// `tcp` or `udp`.
///
/// # Errors
/// It is something else.
pub(crate) fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(format!("protocol: \"{}\" is neither tcp nor udp", text.escape_debug())),
    }
}

/// Is this a name, or a pattern of names, rather than a network? What is neither counts as a network, whose error says more.
pub(crate) fn is_name(destination: &str) -> bool {
    address(destination).is_err() && !destination.contains([':', '/'])
}

/// Adds a destination, be it a network or a name, to the criteria.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn add_destination(criteria: &mut Criteria, text: &str) -> Result<(), String> {
    match address(text) {
        Ok(network) => criteria.addresses.push(network),
        Err(_) if text.contains([':', '/']) => {
            let text = text.escape_debug();
            return Err(format!("\"{text}\" is neither a name nor a network, as .example.org or 10.0.0.0/8"));
        }
        Err(_) => criteria.names.push(Pattern::parse(text)?),
    }
    Ok(())
}

/// An entry of `NO_PROXY`, as curl and others have it: a name that means all below it too, with or without a dot in front; an address; a
/// network; each with `:PORT` if there is one, an IPv6 address then in brackets. `None` for one that is empty. No entry is a
/// pattern: what looks like one is the name of no host.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn no_proxy(entry: &str) -> Result<Option<Criteria>, String> {
    let entry = entry.trim();
    let mut criteria = Criteria::default();
    if entry.is_empty() {
        return Ok(None);
    }
    if entry.contains(['*', '?']) {
        let entry = entry.escape_debug();
        return Err(format!(
            "\"{entry}\" is no pattern here, nor for curl: a name stands for all below it, and * for everything if it is alone"
        ));
    }
    let (host, port) = match host_and_port(entry) {
        Some((host, given)) => (host, Some(ports(given)?)),
        None => (entry.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(entry), None),
    };
    criteria.ports.extend(port);
    let name = host.strip_prefix('.').unwrap_or(host);
    match address(host) {
        Ok(network) => criteria.addresses.push(network),
        Err(why) if host.contains([':', '/']) => return Err(why),
        Err(_) => criteria.names.push(Pattern::parse(&format!(".{name}"))?),
    }
    Ok(Some(criteria))
}

/// `HOST:PORT`, IPv6 in brackets; `None` when there is no port.
pub(super) fn host_and_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once("]:");
    }
    text.split_once(':').filter(|(_, port)| !port.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rule_is_read_in_any_order() {
        let text = " via=direct  name=.example.org,*.corp address=10.1.2.3/8,::1,::ffff:192.0.2.0/120 \
                    port=22,6660-6669 protocol=TCP program=ssh,git* ";
        let rule = Written::parse(text).unwrap();
        let Criteria { names, addresses, ports, protocol, programs } = rule.criteria;
        assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), [".example.org", "*.corp"]);
        let networks = ["10.0.0.0/8", "::1/128", "192.0.2.0/24"].map(|text| text.parse::<IpNet>().unwrap());
        assert_eq!(addresses, networks);
        assert_eq!((ports, protocol), (vec![22..=22, 6660..=6669], Some(Protocol::Tcp)));
        assert_eq!((programs.len(), rule.via.as_str()), (2, "direct"));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        for (rule, word) in [
            ("", "via="),
            ("port=22", "via="),
            ("port=22 via=", "via="),
            ("22 via=direct", "CRITERION=VALUE"),
            ("ports=22 via=direct", "\"ports\""),
            ("port=22 port=23 via=direct", "twice"),
            ("port= via=direct", "empty"),
            ("port=22, via=direct", "empty"),
            ("port=0 via=direct", "65535"),
            ("port=65536 via=direct", "65535"),
            ("port=+1 via=direct", "65535"),
            ("port=9-1 via=direct", "1-9"),
            ("port=1-2-3 via=direct", "range"),
            ("address=10.0.0.0/33 via=direct", "10.0.0.0/8"),
            ("address=example.org via=direct", "neither"),
            ("name=10.0.0.1 via=direct", "network"),
            ("protocol=icmp via=direct", "neither tcp nor udp"),
            ("program=/bin/sh via=direct", "directory"),
            ("\u{1b}=1 via=direct", "\\u{1b}"),
        ] {
            let error = Written::parse(rule).expect_err(rule);
            assert!(error.contains(word) && !error.contains('\u{1b}'), "{rule}: {error}");
        }
    }

    #[test]
    fn destinations_are_told_apart() {
        let mut criteria = Criteria::default();
        for text in [".example.org", "10.0.0.0/8", "::1", "*.corp"] {
            add_destination(&mut criteria, text).unwrap();
        }
        assert_eq!((criteria.names.len(), criteria.addresses.len()), (2, 2));
        for text in ["10.0.0.0/33", "a:80", "10.0.0.256", "", "a/b"] {
            assert!(add_destination(&mut criteria, text).is_err(), "{text}");
        }
    }

    #[test]
    fn entries_of_no_proxy_are_read_as_curl_does() {
        let shown = |entry: &str| {
            let criteria = no_proxy(entry).unwrap().unwrap();
            let names = criteria.names.iter().map(ToString::to_string);
            let all: Vec<_> = names.chain(criteria.addresses.iter().map(ToString::to_string)).collect();
            (all.concat(), criteria.ports.first().map(|ports| *ports.start()))
        };
        for (entry, host, port) in [
            ("example.org", ".example.org", None),
            (" .example.org. ", ".example.org", None),
            (".example.org:8080", ".example.org", Some(8080)),
            ("10.0.0.1", "10.0.0.1/32", None),
            ("10.0.0.0/8", "10.0.0.0/8", None),
            ("10.0.0.1:80", "10.0.0.1/32", Some(80)),
            ("::1", "::1/128", None),
            ("[::1]", "::1/128", None),
            ("[::1]:80", "::1/128", Some(80)),
            ("fd00::/8", "fd00::/8", None),
        ] {
            assert_eq!(shown(entry), (host.to_owned(), port), "{entry}");
        }
        assert!(no_proxy("  ").unwrap().is_none());
        for entry in ["a:b:c", "a:", "10.0.0.0/99", "[::1", "bücher.example", "a..b", "*", "*.a", "h?st"] {
            assert!(no_proxy(entry).is_err(), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, rule in "((name|address|port|via)=[a-z0-9.,:/*-]{0,9} ?){0,4}") {
            for text in [text, rule] {
                let _ = (Written::parse(&text), no_proxy(&text));
                let _ = add_destination(&mut Criteria::default(), &text);
            }
        }
    }
}

//! Rewrites: a destination that is to be another, whatever the rules then say of that one.
//!
//! Applied once, before the rules; what comes out is not rewritten again. A rewrite for one port goes before one for all; of equals, one for
//! a single host before one for a domain, and a longer domain before a shorter.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use presocks_proto::name::Name;
use presocks_proto::target::{Host, Target};

use super::pattern::Pattern;
use super::rule;

/// One rewrite.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rewrite {
    from: From,
    /// For this port, or for all.
    from_port: Option<u16>,
    to: Host,
    /// To this port; else to the same.
    to_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum From {
    Name(Pattern),
    Address(IpAddr),
}

impl Rewrite {
    /// Reads `FROM[:PORT]` (a name, `.domain`, or an address) and `TO[:PORT]` (a name or an address); IPv6 stands in brackets where there
    /// is a port.
    ///
    /// # Errors
    /// What is wrong with which of them, and what to write instead.
    pub(crate) fn parse(from: &str, to: &str) -> Result<Self, String> {
        let (from, from_port) = split(from)?;
        let (to, to_port) = split(to)?;
        let from = match from.parse::<IpAddr>() {
            Ok(address) => From::Address(address.to_canonical()),
            Err(_) => From::Name(host_name(from)?),
        };
        if from.is_of_this_machine() {
            return Err(format!("what is on this machine is not rewritten, and {from} is"));
        }
        let to = match (to.parse::<IpAddr>(), to) {
            (Ok(address), _) if address.is_unspecified() || address.is_multicast() => {
                return Err(format!("nobody can be connected to at {address}"));
            }
            (Ok(address), _) => Host::Address(address.to_canonical()),
            (Err(_), to) => match host_name(to)? {
                // What the proxy would take for it is another machine.
                Pattern::Exact(name) if is_localhost(&name) => Host::Address(Ipv4Addr::LOCALHOST.into()),
                Pattern::Exact(name) => {
                    Name::new(name.as_bytes()).map(Host::Name).ok_or("it is not a name")?
                }
                other => return Err(format!("{other} is many names; write the one to go to")),
            },
        };
        Ok(Self { from, from_port, to, to_port })
    }

    /// Whom it speaks of by name.
    pub(super) fn name(&self) -> Option<&Pattern> {
        match &self.from {
            From::Name(pattern) => Some(pattern),
            From::Address(_) => None,
        }
    }

    /// What the target becomes; `None` when this is not about it.
    fn apply(&self, target: &Target) -> Option<Target> {
        let is_meant = match (&self.from, target.host) {
            (From::Name(pattern), Host::Name(name)) => pattern.matches(name.as_bytes()),
            (From::Address(from), Host::Address(address)) => *from == address.to_canonical(),
            _ => false,
        };
        let is_meant = is_meant && self.from_port.is_none_or(|port| port == target.port);
        is_meant.then(|| Target { host: self.to, port: self.to_port.unwrap_or(target.port) })
    }
}

/// What the target becomes, and by which rewrite; `None` when none is about it.
pub(super) fn rewritten<'a>(rewrites: &'a [Rewrite], target: &Target) -> Option<(Target, &'a Rewrite)> {
    let meant = rewrites.iter().filter_map(|rewrite| Some((rewrite.apply(target)?, rewrite)));
    meant.max_by_key(|(_, rewrite)| (rewrite.from_port.is_some(), rewrite.from.closeness()))
}

fn split(text: &str) -> Result<(&str, Option<u16>), String> {
    let shown = || text.escape_debug();
    if let Some((host, port)) = rule::host_and_port(text) {
        let port = rule::port(port).ok_or_else(|| {
            format!("what follows the colon in \"{}\" is not a port from 1 to 65535", shown())
        })?;
        return Ok((host, Some(port)));
    }
    let bare = text.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(text);
    if bare.contains(':') && bare.parse::<IpAddr>().is_err() {
        return Err(format!(
            "\"{}\" is not HOST:PORT; an IPv6 address with a port is [ADDRESS]:PORT",
            shown()
        ));
    }
    Ok((bare, None))
}

fn host_name(text: &str) -> Result<Pattern, String> {
    if text.contains('/') {
        let text = text.escape_debug();
        return Err(format!("\"{text}\" is a network; a rewrite has a name or an address on each side"));
    }
    match Pattern::parse(text)? {
        Pattern::Glob(_) => {
            Err(format!("\"{text}\" has * or ?; write a name, or .NAME for that and all below it"))
        }
        pattern => Ok(pattern),
    }
}

fn is_localhost(name: &str) -> bool {
    Name::new(name.as_bytes()).is_some_and(|name| name.is_localhost())
}

impl From {
    /// How closely it says who is meant.
    fn closeness(&self) -> usize {
        match self {
            Self::Name(Pattern::Below(domain)) => domain.len(),
            Self::Name(Pattern::Exact(_) | Pattern::Glob(_)) | Self::Address(_) => usize::MAX,
        }
    }

    /// Such destinations never come to be rewritten.
    fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Name(Pattern::Exact(name) | Pattern::Below(name)) => is_localhost(name),
            Self::Name(Pattern::Glob(_)) => false,
            Self::Address(address) => address.is_loopback() || address.is_unspecified(),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => pattern.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// As it is written.
impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |f: &mut fmt::Formatter<'_>, host: &dyn fmt::Display, is_v6: bool, port: Option<u16>| {
            match port {
                Some(port) if is_v6 => write!(f, "[{host}]:{port}"),
                Some(port) => write!(f, "{host}:{port}"),
                None => write!(f, "{host}"),
            }
        };
        side(f, &self.from, matches!(self.from, From::Address(IpAddr::V6(_))), self.from_port)?;
        f.write_str("=")?;
        match &self.to {
            Host::Name(name) => side(f, name, false, self.to_port),
            Host::Address(address) => side(f, address, address.is_ipv6(), self.to_port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> Target {
        let (host, port) = rule::host_and_port(text).unwrap();
        let host = host
            .parse()
            .map(Host::Address)
            .unwrap_or_else(|_| Host::Name(Name::new(host.as_bytes()).unwrap()));
        Target { host, port: port.parse().unwrap() }
    }

    fn becomes(rewrites: &[(&str, &str)], from: &str) -> String {
        let rewrites: Vec<_> = rewrites.iter().map(|(from, to)| Rewrite::parse(from, to).unwrap()).collect();
        rewritten(&rewrites, &target(from)).map_or_else(String::new, |(target, _)| target.to_string())
    }

    #[test]
    fn names_and_addresses_are_rewritten_with_their_port_or_without() {
        for (from, to, asked, result) in [
            ("old.example", "new.example", "OLD.example:80", "new.example:80"),
            ("old.example", "new.example:81", "old.example.:80", "new.example:81"),
            ("old.example:80", "10.0.0.1", "old.example:80", "10.0.0.1:80"),
            ("old.example:80", "10.0.0.1", "old.example:81", ""),
            (".example", "10.0.0.1", "a.b.example:7", "10.0.0.1:7"),
            (".example", "10.0.0.1", "example:7", "10.0.0.1:7"),
            ("192.0.2.1", "new.example", "192.0.2.1:7", "new.example:7"),
            ("192.0.2.1", "new.example", "192.0.2.2:7", ""),
            ("::ffff:192.0.2.1", "new.example", "192.0.2.1:7", "new.example:7"),
            ("[2001:db8::1]:7", "[2001:db8::2]:8", "[2001:db8::1]:7", "[2001:db8::2]:8"),
            ("2001:db8::1", "[2001:db8::2]", "[2001:db8::1]:7", "[2001:db8::2]:7"),
            ("old.example", "127.0.0.1:5432", "old.example:7", "127.0.0.1:5432"),
        ] {
            assert_eq!(becomes(&[(from, to)], asked), result, "{from}={to} {asked}");
        }
    }

    #[test]
    fn the_closest_counts_whatever_the_order_and_nothing_is_rewritten_twice() {
        let rewrites = [
            (".b:80", "all-http.b"),
            ("a.b", "one.b"),
            ("a.b:80", "one-http.b"),
            (".b", "all.b"),
            ("one-http.b", "again.b"),
            (".d.b", "some.b"),
        ];
        for rewrites in [rewrites.to_vec(), rewrites.iter().rev().copied().collect()] {
            assert_eq!(becomes(&rewrites, "a.b:80"), "one-http.b:80");
            assert_eq!(becomes(&rewrites, "a.b:81"), "one.b:81");
            assert_eq!(becomes(&rewrites, "c.b:80"), "all-http.b:80");
            assert_eq!(becomes(&rewrites, "c.d.b:81"), "some.b:81");
            assert_eq!(becomes(&rewrites, "c.e.b:81"), "all.b:81");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, word) in [
            ("", "a", "missing"),
            ("a", "", "missing"),
            ("a:0", "b", "port"),
            ("a:", "b", "port"),
            ("a", "b:99999", "port"),
            ("10.0.0.0/8", "b", "network"),
            ("*.a", "b", ".NAME"),
            ("a", ".b", "many"),
            ("2001:db8::1:", "b", "[ADDRESS]:PORT"),
            ("127.0.0.1", "b", "this machine"),
            ("::1", "b", "this machine"),
            ("0.0.0.0", "b", "this machine"),
            ("localhost:80", "b", "this machine"),
            ("a.localhost", "b", "this machine"),
            ("a", "0.0.0.0", "nobody"),
            ("a", "224.0.0.1", "nobody"),
            ("a b", "c", "' '"),
        ] {
            let error = Rewrite::parse(from, to).expect_err(from);
            assert!(error.contains(word), "{from}={to}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_shown_reads_as_the_same(
            from in "\\[?[a-c0-9.:]{0,9}\\]?(:[0-9]{1,5})?",
            to in "\\[?[a-c0-9.:]{0,9}\\]?(:[0-9]{1,5})?",
            any: String,
        ) {
            let _ = Rewrite::parse(&any, &any);
            if let Ok(rewrite) = Rewrite::parse(&from, &to) {
                let shown = rewrite.to_string();
                let (from, to) = shown.split_once('=').unwrap();
                prop_assert_eq!(Rewrite::parse(from, to), Ok(rewrite));
            }
        }
    }
}

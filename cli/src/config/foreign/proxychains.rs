//! proxychains.conf, as proxychains-ng 4.17 reads it.
//!
//! Lines, not words: a directive that has no value must stand alone on its line, one that has a value need only begin it, and a comment is
//! a line of its own. What is no directive is passed over. Behind `[ProxyList]` every line is a proxy. Without an order the chain is
//! dynamic. Names are resolved by the proxy in any case, as with `proxy_dns`.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::super::place::{Place, Said};
use super::super::profile::{Order, Profile, Rule};
use super::super::text::Text;
use super::super::value::{List, Seconds};
use super::{Line, url};

/// Reads it.
///
/// # Errors
/// What proxychains would not start with, at its place.
pub(crate) fn profile(text: &Rc<Text>, notes: &mut Vec<String>) -> Result<Profile, String> {
    let mut reader =
        Reader { profile: Profile::default(), proxies: Vec::new(), resolves: None, notes, length: None };
    let mut is_list = false;
    for line in Line::all(text).filter(|line| !line.content.starts_with('#')) {
        match line.content {
            _ if is_list => reader.proxy(&line)?,
            "[ProxyList]" => is_list = true,
            _ => reader.directive(&line)?,
        }
    }
    let Reader { mut profile, proxies, resolves, length, .. } = reader;
    let place = Place::Part(Rc::clone(text), 0..0);
    if proxies.is_empty() {
        return Err(format!(
            "{}: there is no proxy in it; they stand behind the line [ProxyList]",
            text.name
        ));
    }
    profile.proxy = Some(List { items: proxies, place: place.clone() });
    let order = profile.order.get_or_insert_with(|| Said::new(Order::Dynamic, &place)).value;
    profile.length = length.filter(|_| matches!(order, Order::Random | Order::RoundRobin));
    if resolves.is_none() {
        notes.push(format!(
            "{}: without proxy_dns, proxychains would have names resolved on this side; here the proxy resolves them",
            text.name
        ));
    }
    Ok(profile)
}

struct Reader<'a> {
    profile: Profile,
    proxies: Vec<Said<String>>,
    /// Something is said about names.
    resolves: Option<()>,
    length: Option<Said<usize>>,
    notes: &'a mut Vec<String>,
}

/// They stand alone on their line.
const ALONE: [&str; 8] = [
    "dynamic_chain",
    "strict_chain",
    "random_chain",
    "round_robin_chain",
    "quiet_mode",
    "proxy_dns",
    "proxy_dns_old",
    "[ProxyList]",
];

impl Reader<'_> {
    fn directive(&mut self, line: &Line<'_>) -> Result<(), String> {
        let order = |order| Some(Said::new(order, &line.place()));
        let starts = |word| line.content.starts_with(word);
        match line.content {
            "dynamic_chain" => self.profile.order = order(Order::Dynamic),
            "strict_chain" => self.profile.order = order(Order::Strict),
            "random_chain" => self.profile.order = order(Order::Random),
            "round_robin_chain" => self.profile.order = order(Order::RoundRobin),
            "quiet_mode" => self.profile.quiet = Some(Said::new(true, &line.place())),
            "proxy_dns" | "proxy_dns_old" => self.resolves = Some(()),
            _ if starts("tcp_read_time_out") => self.profile.handshake_timeout = self.milliseconds(line),
            _ if starts("tcp_connect_time_out") => self.profile.connect_timeout = self.milliseconds(line),
            // The shipped file has it.
            _ if line.content.split_whitespace().eq(["remote_dns_subnet", "224"]) => {}
            _ if starts("remote_dns_subnet") => {
                self.notes.push(
                    line.note("remote_dns_subnet has no meaning here: names have addresses of 198.18.0.0/15"),
                );
            }
            _ if starts("localnet") => self.local_network(line)?,
            _ if starts("chain_len") => self.chain_length(line)?,
            _ if starts("proxy_dns_daemon") => {
                self.resolves = Some(());
                self.notes.push(line.note("proxy_dns_daemon is not asked: the proxy resolves names"));
            }
            _ if starts("dnat") => self.rewrite(line)?,
            _ => self.pass_over(line),
        }
        Ok(())
    }

    /// What proxychains does not know, it ignores.
    fn pass_over(&mut self, line: &Line<'_>) {
        let word = line.content.split_whitespace().next().unwrap_or_default();
        let note = match word {
            word if ALONE.contains(&word) => format!(
                "{word} is ignored, as proxychains does: it must stand alone on its line, without a comment"
            ),
            "socks4" | "socks5" | "http" | "raw" => {
                format!("this {word} proxy is ignored, as proxychains does: it stands before [ProxyList]")
            }
            word if word.contains(['@', ':']) => "this line is ignored, as proxychains does".to_owned(),
            word => format!("\"{}\" is ignored: proxychains has no such directive", shown(word)),
        };
        self.notes.push(line.note(note));
    }

    /// A time that cannot be read leaves the usual one.
    fn milliseconds(&mut self, line: &Line<'_>) -> Option<Said<Seconds>> {
        let words = line.words();
        let time = words.get(1).and_then(|word| word.value.parse().ok()).map(Duration::from_millis);
        let time = time.and_then(|time| Seconds::new(time).ok());
        if time.is_none() {
            self.notes.push(
                line.note("this time is ignored: it is no number of milliseconds above 0, ten years at most"),
            );
        }
        time.map(|time| Said::new(time, &line.place()))
    }

    fn chain_length(&mut self, line: &Line<'_>) -> Result<(), String> {
        let (_, length) =
            line.content.split_once('=').ok_or_else(|| line.fault("chain_len needs an equals sign"))?;
        // 0, and what is no number, is 1.
        let length = length.trim().parse().unwrap_or(0).max(1);
        self.length = Some(Said::new(length, &line.place()));
        Ok(())
    }

    /// `localnet ADDRESS[:PORT]/MASK`.
    fn local_network(&mut self, line: &Line<'_>) -> Result<(), String> {
        const FORM: &str = "localnet needs a network, as 10.0.0.0/255.0.0.0, 10.0.0.0:22/8 or [fd00::]:22/8";
        let words = line.words();
        let Some(word) = words.get(1) else {
            return Err(line.fault(FORM));
        };
        let (network, port) = local_network(word.value).ok_or_else(|| word.fault(FORM))?;
        if let Some(extra) = words.get(2) {
            return Err(extra.fault("localnet has one network, and no comment behind it"));
        }
        let rule = Rule {
            address: Some(List::new([network.to_string()], &word.place)),
            port: port.map(|port| List::new([port.to_string()], &word.place)),
            via: Some(Said::new("direct".to_owned(), &word.place)),
            ..Rule::default()
        };
        self.profile.rules.get_or_insert_default().push(Said::new(rule, &line.place()));
        Ok(())
    }

    /// `dnat ADDRESS[:PORT] ADDRESS[:PORT]`; the first of several for the same counts.
    fn rewrite(&mut self, line: &Line<'_>) -> Result<(), String> {
        let words = line.words();
        let [_, from, to, rest @ ..] = &words[..] else {
            return Err(line.fault("dnat needs two addresses, as 10.0.0.1:80 10.0.0.2:8080"));
        };
        if let Some(extra) = rest.first() {
            self.notes
                .push(line.note(format!("\"{}\" behind the second address is ignored", shown(extra.value))));
        }
        for side in [from, to] {
            let host = side.value.split(':').next().unwrap_or_default();
            host.parse::<Ipv4Addr>().map_err(|_| side.fault("not an IPv4 address, with :PORT or without"))?;
        }
        let target = Said::new(to.value.to_owned(), &to.place);
        if self.profile.rewrite.contains_key(from.value) {
            self.notes
                .push(line.note(format!("{} is rewritten already; this is ignored", shown(from.value))));
        } else {
            self.profile.rewrite.insert(from.value.to_owned(), target);
        }
        Ok(())
    }

    /// `TYPE HOST PORT [USER [PASSWORD]]`, or a URL.
    fn proxy(&mut self, line: &Line<'_>) -> Result<(), String> {
        let words = line.words();
        let place = line.place();
        let texts: Vec<_> = words.iter().map(|word| word.value).collect();
        let (kind, host, port, mut credentials) = match texts[..] {
            [kind, host, port, ref rest @ ..] if starts_with_digit(port) => {
                let password = rest.get(1).copied().unwrap_or_default();
                (kind, host, port, rest.first().map(|user| (*user, password)))
            }
            [url, ..] => from_url(url).ok_or_else(|| {
                line.fault("not a proxy: write TYPE HOST PORT [USER PASSWORD], as socks5 10.0.0.1 1080")
            })?,
            [] => return Ok(()),
        };
        if !matches!(kind, "http" | "socks4" | "socks5" | "raw") {
            return Err(line.fault("not a proxy: its type is none of http, socks4 and socks5"));
        }
        if kind == "raw" {
            return Err(line.fault("a proxy of the type raw, which is told nothing, is not possible here"));
        }
        let digits = port.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(port.len());
        let port = port.get(..digits).unwrap_or_default();
        if port.trim_start_matches('0').is_empty() {
            self.notes.push(line.note("this proxy is left out, as proxychains does: its port is 0"));
            return Ok(());
        }
        if let Some((user, _)) = credentials
            && user.starts_with('#')
        {
            self.notes.push(line.note(
                "proxychains would take the comment behind this proxy for a user and a password; here it is a comment",
            ));
            credentials = None;
        }
        if kind == "socks4" && credentials.is_some_and(|(_, password)| !password.is_empty()) {
            self.notes.push(line.note("SOCKS4 has no passwords; this one is not sent"));
            credentials = credentials.map(|(user, _)| (user, ""));
        }
        // proxychains' socks4 is SOCKS4a where there is a name to send; for an address they are the same.
        let scheme = if kind == "socks4" { "socks4a" } else { kind };
        self.proxies.push(Said::new(url(scheme, host, port, credentials), &place));
        Ok(())
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_digit())
}

/// Nothing is decoded in it: the user ends at the first colon, the host begins behind the last `@`, and there must be a port.
#[expect(clippy::type_complexity, reason = "the parts of a proxy's line")]
fn from_url(text: &str) -> Option<(&str, &str, &str, Option<(&str, &str)>)> {
    let (kind, rest) = text.split_once("://")?;
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials.split_once(':')?), place),
        None => (None, rest),
    };
    let (host, port) = place.split_once(':')?;
    let fits = matches!(kind, "http" | "socks5") || kind == "socks4" && credentials.is_none();
    (fits && port.starts_with(|letter: char| letter.is_ascii_digit())).then_some((
        kind,
        host,
        port,
        credentials,
    ))
}

fn local_network(text: &str) -> Option<(IpNet, Option<u16>)> {
    let (place, mask) = text.split_once('/')?;
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (host, "") => (host, None),
            (host, port) => (host, Some(port.strip_prefix(':')?)),
        },
        None if place.matches(':').count() > 1 => (place, None),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map(str::parse::<u16>).transpose().ok()?.filter(|port| *port > 0);
    let network = match mask.parse::<Ipv4Addr>() {
        Ok(mask) => IpNet::V4(Ipv4Net::with_netmask(host.parse().ok()?, mask).ok()?),
        Err(_) => IpNet::new(host.parse().ok()?, mask.parse().ok()?).ok()?,
    };
    Some((network.trunc(), port))
}

fn shown(text: &str) -> impl std::fmt::Display + '_ {
    text.escape_debug()
}

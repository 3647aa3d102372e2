//! Hosts for the proxies of a chain, and a ledger of who has asked whom.
//!
//! ```text
//!                 ┌── 10.80.1.2  hop 1
//!  client ── proxy host (a router here) ── 10.80.2.2  hop 2      … ── origin
//!                 └── 10.80.3.2  hop 3
//! ```
//!
//! In a line ([`Hops::line`]) each host takes TCP only from the one before it: hop 1 from the client, the origin from the
//! last. What arrives has gone through all of them in their order. In a crowd ([`Hops::crowd`]) everybody may speak to
//! everybody, and the ledgers tell which way a connection took. A ledger is the kernel's: it counts every TCP connection that is
//! asked for, by whom, also those that are refused.
//!
//! The names of the origin are known to all of them, and hop N's own name, `hopN.test`, to hop N-1 only.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::host::Host;
use crate::lab::{CLIENT, Lab, ORIGIN, ORIGIN6, etc_with};
use crate::leak::elements;
use crate::patience;
use crate::site::Site;

/// As many as there can be.
const NAMES: [&str; 5] = ["hop1", "hop2", "hop3", "hop4", "hop5"];

/// The hosts. Dropping them ends every process on them.
#[derive(Debug)]
pub struct Hops {
    hosts: Vec<Host>,
    /// May the client speak to all of them?
    is_crowd: bool,
}

impl Hops {
    /// So many hosts, each of which takes TCP only from the one before it.
    #[must_use]
    pub fn line(lab: &Lab, count: usize) -> Self {
        Self::boot(lab, count, false)
    }

    /// So many hosts, each of which takes TCP from everybody.
    #[must_use]
    pub fn crowd(lab: &Lab, count: usize) -> Self {
        Self::boot(lab, count, true)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// The place of the proxy with this number, from 1 on.
    #[must_use]
    pub fn site(&self, number: usize) -> Site<'_> {
        Site {
            host: &self.hosts[number - 1],
            address: address(number),
            near: "cable",
            far: "cable",
            is_for_the_client: self.is_crowd || number == 1,
        }
    }

    /// Who has asked this hop for a connection, and how often.
    #[must_use]
    pub fn asked(&self, number: usize) -> BTreeMap<Ipv4Addr, usize> {
        ledger(&self.hosts[number - 1])
    }

    /// Who has asked the origin.
    #[must_use]
    pub fn asked_of_origin(&self, lab: &Lab) -> BTreeMap<Ipv4Addr, usize> {
        ledger(&lab.origin)
    }

    fn boot(lab: &Lab, count: usize, is_crowd: bool) -> Self {
        let hosts: Vec<Host> = (1..=count).map(|number| boot(lab, number)).collect();
        let before = |number: usize| if number == 1 { CLIENT } else { address(number - 1) };
        for (number, host) in (1..).zip(&hosts) {
            keep_ledger(host, (!is_crowd).then(|| before(number)));
        }
        keep_ledger(&lab.origin, (!is_crowd).then(|| address(count)));
        Self { hosts, is_crowd }
    }
}

/// The address of the hop with this number, from 1 on.
#[must_use]
pub fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, u8::try_from(number).expect("few hops"), 2)
}

fn boot(lab: &Lab, number: usize) -> Host {
    let name = NAMES[number - 1];
    let next = format!("{} hop{}.test\n", address(number + 1), number + 1);
    let host = Host::boot(name, &etc_with(lab, name, &next));
    let inner = host.number();
    let batch = |host: &Host, commands: &str| drop(host.setup(&["ip", "-batch", "-"], commands));
    let router = &lab.proxy;
    batch(
        router,
        &format!(
            "link add to-{name} type veth peer name cable netns {inner}
             link set to-{name} up
            "
        ),
    );
    batch(&host, "link set cable up\n");
    for (side, cable) in [(router, format!("to-{name}")), (&host, "cable".to_owned())] {
        patience::wait_until("a cable to carry", || {
            side.setup(&["ip", "-oneline", "link", "show", "dev", &cable], "").contains(" state UP ")
        });
    }
    batch(
        router,
        &format!(
            "address add 10.80.{number}.1/24 dev to-{name}
             address add fd80:{number}::1/64 dev to-{name} nodad
            "
        ),
    );
    batch(
        &host,
        &format!(
            "address add {}/24 dev cable
             address add fd80:{number}::2/64 dev cable nodad
             route add default via 10.80.{number}.1
             route add default via fd80:{number}::1
            ",
            address(number)
        ),
    );
    host
}

/// Counts who asks for a connection from now on; with `only`, refuses everybody else.
fn keep_ledger(host: &Host, only: Option<Ipv4Addr>) {
    let refuse = match only {
        Some(only) => {
            // The way to the IPv6 addresses is the same.
            let [_, _, number, _] = only.octets();
            let only6 = if only == CLIENT { "fd77::2".to_owned() } else { format!("fd80:{number}::2") };
            format!("ip saddr != {only} reject with tcp reset\nip6 saddr != {only6} reject with tcp reset\n")
        }
        None => String::new(),
    };
    host.setup(
        &["nft", "-f", "-"],
        &format!(
            "table inet ledger {{
                set asked {{ type ipv4_addr; flags dynamic; size 65535; counter; }}
                chain input {{
                    type filter hook input priority 0;
                    iifname \"lo\" accept
                    tcp flags & (syn | ack) != syn accept
                    meta l4proto != tcp accept
                    update @asked {{ ip saddr }}
                    {refuse}
                }}
            }}\n"
        ),
    );
}

fn ledger(host: &Host) -> BTreeMap<Ipv4Addr, usize> {
    let listing = host.setup(&["nft", "list", "set", "inet", "ledger", "asked"], "");
    let entries = elements(&listing).into_iter().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let count =
            words.iter().skip_while(|word| **word != "packets").nth(1).and_then(|word| word.parse().ok());
        (words[0].parse().expect("an address"), count.expect("a count"))
    });
    entries.collect()
}

/// The origin's addresses, as URLs' hosts.
#[must_use]
pub fn origins() -> [String; 2] {
    [ORIGIN.to_string(), format!("[{ORIGIN6}]")]
}

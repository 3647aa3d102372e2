//! NSD, an authoritative name server, with a zone of every kind of record.

use std::net::SocketAddr;
use std::process::Command;

use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, ORIGIN6};
use crate::patience;

/// A public address that the origin has as well, when [`DnsServer::start_at`] gives it to it: Quad9's.
pub const QUAD9: &str = "9.9.9.9";

/// How many strings `large.mail.test` has, of 200 bytes each: too many for any datagram.
pub const LARGE_STRINGS: usize = 40;

/// The records below `mail.test`.
const ZONE: &str = "
$ORIGIN mail.test.
$TTL 300
@ SOA ns.mail.test. postmaster.mail.test. 7 3600 900 604800 60
@ NS ns.mail.test.
@ MX 10 mx1.mail.test.
@ MX 20 mx2.mail.test.
@ TXT \"v=spf1 mx -all\"
@ CAA 0 issue \"ca.test\"
ns A 10.88.0.2
mx1 A 10.88.0.2
mx2 A 10.88.0.2
_sip._tcp SRV 1 2 5060 mx1.mail.test.
alias CNAME mail.test.
odd TYPE65400 \\# 3 0a0b0c
@ NAPTR 100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:info@mail.test!\" .
";

/// Where the XMPP server of `chat.test` is (RFC 6120 section 3.2.1, and XEP-0368: some clients insist on both records).
const CHAT_ZONE: &str = "
$ORIGIN chat.test.
$TTL 300
@ SOA ns.mail.test. postmaster.mail.test. 7 3600 900 604800 60
@ NS ns.mail.test.
_xmpp-client._tcp SRV 0 5 5222 origin.test.
_xmpps-client._tcp SRV 5 5 5223 origin.test.
";

/// The names of addresses.
const REVERSE: &str = "
$ORIGIN 88.10.in-addr.arpa.
$TTL 300
@ SOA ns.mail.test. postmaster.mail.test. 7 3600 900 604800 60
@ NS ns.mail.test.
2.0 PTR origin.mail.test.
";

/// A running NSD on port 53 of the origin, over UDP and TCP, IPv4 and IPv6.
#[derive(Debug)]
pub struct DnsServer(#[expect(dead_code, reason = "held for its end")] Daemon);

impl DnsServer {
    /// Starts it.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        Self::start_at(lab, &[])
    }

    /// Starts it on further addresses as well, which the origin gets for this.
    #[must_use]
    pub fn start_at(lab: &Lab, addresses: &[&str]) -> Self {
        for address in addresses {
            let [to_origin, cable] = [
                format!("route add {address}/32 via {ORIGIN} dev to-origin\n"),
                format!("address add {address}/32 dev cable\n"),
            ];
            lab.proxy.setup(&["ip", "-batch", "-"], &to_origin);
            lab.origin.setup(&["ip", "-batch", "-"], &cable);
        }
        let directory = lab.directory().display();
        let strings: String = (0..LARGE_STRINGS).map(|n| format!(" \"{n:0200}\"")).collect();
        let medium: String = (0..LARGE_STRINGS / 4).map(|n| format!(" \"{n:0200}\"")).collect();
        lab.file("mail.test.zone", format!("{ZONE}large TXT{strings}\nmedium TXT{medium}\n"));
        lab.file("chat.test.zone", CHAT_ZONE);
        lab.file("reverse.zone", REVERSE);
        let all = [&ORIGIN.to_string()[..], &ORIGIN6.to_string(), "127.0.0.1"];
        let listen: String =
            all.iter().chain(addresses).map(|address| format!("  ip-address: {address}\n")).collect();
        let configuration = format!(
            "server:\n{listen}  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{directory}\"\n  database: \"\"\n  \
             pidfile: \"\"\n  xfrdfile: \"{directory}/xfrd.state\"\n  xfrdir: \"{directory}\"\n  zonelistfile: \
             \"{directory}/zone.list\"\n  server-count: 1\n  refuse-any: no\n\
             remote-control:\n  control-enable: no\n\
             zone:\n  name: mail.test\n  zonefile: mail.test.zone\n  provide-xfr: 0.0.0.0/0 NOKEY\n\
             zone:\n  name: chat.test\n  zonefile: chat.test.zone\n\
             zone:\n  name: 88.10.in-addr.arpa\n  zonefile: reverse.zone\n"
        );
        let file = lab.file("nsd.conf", configuration);
        let mut command = Command::new("nsd");
        command.env_clear().arg("-d").arg("-c").arg(file);
        let daemon = Daemon::start(lab, &lab.origin, "nsd", &mut command, SocketAddr::from((ORIGIN, 53)));
        // It listens before it has read its zones, and a client asks for one second.
        patience::wait_until("nsd to answer", || daemon.log().contains("nsd started"));
        Self(daemon)
    }
}

//! The witness: counts, where the cable from the client ends, every packet that is not TCP to a proxy's port, nor UDP to a
//! relay's.
//!
//! It stands at the proxy host's ingress hook, before any routing, so raw sockets, foreign protocols, multicast and ARP
//! are seen as well. Two kinds of packets are let pass uncounted: MLD reports, which the client's kernel sends
//! for its own addresses (they carry nothing of a program's), and what a test permits. Where UDP to a relay is permitted,
//! that is the rest of a datagram in fragments, too, of which the first is judged, and what the client's kernel says to
//! the proxy host when a datagram comes to a port that is closed. Everything else is counted by
//! destination, protocol and port, and answered with an ICMP error so that a leaking program fails at once.
//!
//! A packet from or to a loopback address is a leak whatever its port: no host may send one (RFC 1122 section 3.2.1.3, RFC 4291 section
//! 2.5.3), and every host drops it on arrival. It is counted by its source as well, which tells which side of a connection has sent it.
//!
//! A leak is seen even when the packet is still on its way as the test looks: the witness first sends a mark from
//! every processor (packets of one processor stay in order) and waits until all have arrived.

use std::net::{Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::addresses::{PROXY, PROXY6};
use crate::host::Host;
use crate::patience;

/// The mark's payload, also in the rules below as 0x707265736f636b73.
const MARK: &[u8] = b"presocks";

/// Where marks go: the discard port.
const MARK_PORT: u16 = 9;

/// To ask anyone there is a leak, whatever else is permitted.
const DNS_PORT: u16 = 53;

/// Counts what leaves the client.
#[derive(Debug)]
pub struct LeakWitness;

impl LeakWitness {
    /// Puts the witness up on the proxy host.
    pub(crate) fn post(proxy: &Host) -> Self {
        proxy.setup(
            &["nft", "-f", "-"],
            &format!(
                "table netdev witness {{
                    set proxy-ports {{ type inet_service; }}
                    set proxies {{ type ipv4_addr . inet_service; }}
                    set relay-ports {{ type inet_service; flags interval; auto-merge; }}
                    set relays {{ type ipv4_addr; }}
                    set relays6 {{ type ipv6_addr; }}
                    set direct4 {{ type ipv4_addr; flags interval; }}
                    set direct6 {{ type ipv6_addr; flags interval; }}
                    set leaked4 {{ type ipv4_addr . inet_proto . inet_service; flags dynamic; size 65535; counter; }}
                    set leaked6 {{ type ipv6_addr . inet_proto . inet_service; flags dynamic; size 65535; counter; }}
                    set loopback4 {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic; size 65535; counter; }}
                    set loopback6 {{ type ipv6_addr . ipv6_addr . inet_proto . inet_service; flags dynamic; size 65535; counter; }}
                    set leaked-other {{ type ether_type; flags dynamic; size 65535; counter; }}
                    counter marks {{ }}
                    chain loopback {{
                        ip protocol {{ tcp, udp }} update @loopback4 {{ ip saddr . ip daddr . ip protocol . th dport }} drop
                        meta protocol ip update @loopback4 {{ ip saddr . ip daddr . ip protocol . 0 }} drop
                        meta l4proto {{ tcp, udp }} update @loopback6 {{ ip6 saddr . ip6 daddr . meta l4proto . th dport }} drop
                        update @loopback6 {{ ip6 saddr . ip6 daddr . meta l4proto . 0 }} drop
                    }}
                    chain ingress {{
                        type filter hook ingress device \"to-client\" priority 0; policy drop;
                        ip saddr 127.0.0.0/8 goto loopback
                        ip daddr 127.0.0.0/8 goto loopback
                        ip6 saddr ::1 goto loopback
                        ip6 daddr ::1 goto loopback
                        ip daddr {PROXY} udp dport {MARK_PORT} @th,64,64 0x707265736f636b73 counter name marks drop
                        ip daddr {PROXY} tcp dport @proxy-ports accept
                        ip6 daddr {PROXY6} tcp dport @proxy-ports accept
                        ip daddr . tcp dport @proxies accept
                        ip daddr {PROXY} udp dport != {DNS_PORT} udp dport @relay-ports accept
                        ip6 daddr {PROXY6} udp dport != {DNS_PORT} udp dport @relay-ports accept
                        ip daddr @relays ip protocol udp ip frag-off & 0x1fff != 0 accept
                        ip6 daddr @relays6 meta l4proto udp exthdr frag exists frag frag-off != 0 accept
                        ip daddr @relays icmp type destination-unreachable icmp code port-unreachable drop
                        ip6 daddr @relays6 icmpv6 type destination-unreachable icmpv6 code port-unreachable drop
                        ip daddr @direct4 accept
                        ip6 daddr @direct6 accept
                        ip6 daddr ff02::16 icmpv6 type mld2-listener-report drop
                        ip protocol {{ tcp, udp }} update @leaked4 {{ ip daddr . ip protocol . th dport }}
                        ip protocol != {{ tcp, udp }} update @leaked4 {{ ip daddr . ip protocol . 0 }}
                        meta protocol ip6 meta l4proto {{ tcp, udp }} update @leaked6 {{ ip6 daddr . meta l4proto . th dport }}
                        meta protocol ip6 meta l4proto != {{ tcp, udp }} update @leaked6 {{ ip6 daddr . meta l4proto . 0 }}
                        meta protocol != {{ ip, ip6 }} update @leaked-other {{ ether type }}
                        meta protocol ip reject with icmp type admin-prohibited
                        meta protocol ip6 reject with icmpv6 type admin-prohibited
                    }}
                }}\n"
            ),
        );
        // Only what the witness let pass ever gets as far as forwarding.
        proxy.setup(
            &["sh", "-e"],
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n",
        );
        Self
    }

    /// See [`crate::Lab::permit_proxy_port`].
    pub(crate) fn permit_proxy_port(&self, proxy: &Host, port: u16) {
        proxy.setup(&["nft", &format!("add element netdev witness proxy-ports {{ {port} }}")], "");
    }

    /// See [`crate::Lab::permit_proxy`].
    pub(crate) fn permit_proxy(&self, proxy: &Host, address: Ipv4Addr, port: u16) {
        proxy.setup(&["nft", &format!("add element netdev witness proxies {{ {address} . {port} }}")], "");
    }

    /// See [`crate::Lab::permit_relay_ports`].
    pub(crate) fn permit_relay_ports(&self, proxy: &Host, ports: &RangeInclusive<u16>) {
        let (first, last) = (ports.start(), ports.end());
        let rules = format!(
            "add element netdev witness relay-ports {{ {first}-{last} }}
             add element netdev witness relays {{ {PROXY}, 10.88.0.1 }}
             add element netdev witness relays6 {{ {PROXY6}, fd88::1 }}\n"
        );
        proxy.setup(&["nft", "-f", "-"], &rules);
    }

    /// See [`crate::Lab::permit_direct`].
    pub(crate) fn permit_direct(&self, proxy: &Host, destination: &str) {
        let set = if destination.contains(':') { "direct6" } else { "direct4" };
        proxy.setup(&["nft", &format!("add element netdev witness {set} {{ {destination} }}")], "");
    }

    /// See [`crate::Lab::leaked`].
    pub(crate) fn leaked(&self, client: &Host, proxy: &Host) -> Vec<String> {
        let before = self.marks(proxy);
        let sent = client.inside(send_a_mark_from_every_processor);
        patience::wait_until("the marks that flush packets in flight", || self.marks(proxy) >= before + sent);
        let counted = |set| elements(&proxy.setup(&["nft", "list", "set", "netdev", "witness", set], ""));
        let by_source = ["loopback4", "loopback6"].into_iter().flat_map(counted);
        let by_source = by_source.map(|packet| packet.replacen(" . ", " > ", 1));
        by_source.chain(["leaked4", "leaked6", "leaked-other"].into_iter().flat_map(counted)).collect()
    }

    fn marks(&self, proxy: &Host) -> u64 {
        let listing = proxy.setup(&["nft", "list", "counter", "netdev", "witness", "marks"], "");
        let count = listing.split_whitespace().skip_while(|word| *word != "packets").nth(1);
        count.and_then(|count| count.parse().ok()).expect("a counter in nft's listing")
    }
}

/// Sends one mark from each processor that this thread may use; returns how many.
fn send_a_mark_from_every_processor() -> u64 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket for marks");
    let allowed = sched_getaffinity(None).expect("read the affinity");
    let mut sent = 0;
    for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)) {
        let mut only = CpuSet::new();
        only.set(processor);
        sched_setaffinity(None, &only).expect("move to a processor");
        socket.send_to(MARK, (PROXY, MARK_PORT)).expect("send a mark");
        sent += 1;
    }
    sent
}

/// The elements of a set as nft lists them, one a line.
pub(crate) fn elements(listing: &str) -> Vec<String> {
    let Some((_, elements)) = listing.split_once("elements = {") else {
        return Vec::new();
    };
    let elements = elements.rsplit_once('}').map_or(elements, |(head, _)| head);
    let elements = elements.rsplit_once('}').map_or(elements, |(head, _)| head);
    let elements = elements.trim().trim_end_matches('}');
    let elements =
        elements.split(',').map(|element| element.split_whitespace().collect::<Vec<_>>().join(" "));
    elements
        .inspect(|element| assert!(!element.is_empty(), "an element of nft's is empty: {listing}"))
        .collect()
}

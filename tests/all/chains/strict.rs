//! All proxies, in their order. In a line of hosts nothing arrives otherwise.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::CLIENT;
use presocks_tests::origin::{DnsServer, HttpServer, Service, http};
use presocks_tests::proxy::{Dante, Microsocks, Stunnel, Tinyproxy, UnixDoor, Upstream};
use presocks_tests::{Hops, Lab, hops, missing};

use super::Kind::TinyproxyWithPassword;
use super::Kind::{
    self, DanteWithPassword, Embedded, Microsocks as Small, MicrosocksWithPassword, Ssh, SshBySocks4a,
};
use super::{NEEDS, Proxies, through};
use crate::relay;

/// The client has asked the first, each the next, and the last the origin, so many times and nobody else anything. (curl that has addresses
/// of both families asks for both when one takes its time.)
#[track_caller]
fn assert_order(lab: &Lab, hops: &Hops, times: usize) {
    let before = |number: usize| if number == 1 { CLIENT } else { hops::address(number - 1) };
    for number in 1..=hops.count() {
        let asked = hops.asked(number);
        // The first may have been asked once more, for what it is like.
        let times = if number == 1 { *asked.values().next().unwrap() } else { times };
        assert_eq!(asked, BTreeMap::from([(before(number), times)]), "hop {number}");
    }
    assert!(hops.asked(1)[&CLIENT] >= times);
    assert_eq!(hops.asked_of_origin(lab), BTreeMap::from([(hops::address(hops.count()), times)]));
}

#[test]
fn two_to_five_proxies_are_gone_through_in_their_order() {
    if missing(&NEEDS) {
        return;
    }
    for count in 2..=5 {
        let proxies = Proxies::line(&vec![Small; count]);
        let _web = HttpServer::start(&proxies.lab);
        for host in ["10.88.0.2", "origin.test"] {
            let run = proxies.presocks(&["curl", "-4sS", &format!("http://{host}/hello")], &[]).run();
            run.success().stdout_is(http::HELLO).stderr_is("");
        }
        assert_order(&proxies.lab, &proxies.hops, 2);
        let run = proxies.presocks(&["curl", "-sS", "http://[fd88::2]/hello"], &[]).run();
        run.success().stdout_is(http::HELLO).stderr_is("");
        proxies.lab.assert_no_leak();
    }
}

/// Every kind at every place, each with its own credentials.
#[test]
fn chains_of_mixed_kinds_with_a_password_at_each_carry_pages_whole() {
    if missing(&NEEDS) {
        return;
    }
    let mut kinds =
        vec![DanteWithPassword, TinyproxyWithPassword, SshBySocks4a, MicrosocksWithPassword, Embedded];
    for _ in 0..kinds.len() {
        let proxies = Proxies::line(&kinds);
        let _web = HttpServer::start(&proxies.lab);
        for words in [
            &["curl", "-4sS", "http://10.88.0.2/hello", "http://origin.test/large"][..],
            &["env", "-i", "curl", "-4sS", "http://10.88.0.2/hello", "http://origin.test/large"],
        ] {
            let run = proxies.presocks(words, &[]).run();
            run.success().stdout_is([http::HELLO.as_bytes(), http::large()].concat()).stderr_is("");
        }
        assert_order(&proxies.lab, &proxies.hops, 4);
        proxies.lab.assert_no_leak();
        kinds.rotate_left(1);
    }
}

#[test]
fn bytes_arrive_whole_and_so_does_the_end_of_each_direction() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::line(&[DanteWithPassword, Ssh, Embedded]);
    let lab = &proxies.lab;
    let _echo = Service::echo(lab, 7);
    let urls = &proxies.urls;
    relay::carries_megabytes_both_ways_at_once(lab, urls);
    relay::carries_megabytes_one_way_and_then_the_other(lab, urls);
    relay::carries_the_end_of_one_direction(lab, urls);
    relay::shows_the_destination_as_peer(
        lab,
        urls,
        &["origin.test", "10.88.0.2", "fd88::2", "::ffff:10.88.0.2"],
    );
    relay::connects_two_hundred_times_at_once(lab, urls);
    relay::carries_what_was_sent_before_the_exit(lab, urls);
    lab.assert_no_leak();
}

#[test]
fn failures_behind_the_last_proxy_are_those_of_a_direct_connection() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::line(&[Small, DanteWithPassword]);
    // The way to the address that nobody reaches ends where the last proxy is.
    proxies.hops.site(2).host.setup(&["ip", "-batch", "-"], "route add unreachable 10.99.0.0/24\n");
    relay::tells_the_true_errno(&proxies.lab, &proxies.urls);
    proxies.lab.assert_no_leak();
}

#[test]
fn tls_may_be_spoken_at_every_place() {
    if missing(&NEEDS) || missing(&["stunnel4"]) {
        return;
    }
    let lab = Lab::new();
    let hops = Hops::line(&lab, 3);
    let certificates = Certificates::make(&lab);
    let _web = HttpServer::start(&lab);
    let dante = Dante::with_password_at(&lab, hops.site(1));
    let http = Tinyproxy::with_password_at(&lab, hops.site(2));
    let small = Microsocks::open_at(&lab, hops.site(3));
    let tls = |number: u16, port| {
        Stunnel::before_at(&lab, hops.site(number.into()), number, port, &certificates.good)
    };
    let stunnels = [tls(1, dante.port()), tls(2, http.port()), tls(3, small.port())];
    let authority = certificates.authority.display();
    let plain = [dante.url(), http.url(), small.url()];
    let wrapped = [
        format!("{}?ca-file={authority}", stunnels[0].url("socks5+tls", "lab:secret@")),
        format!("{}?ca-file={authority}", stunnels[1].url("https", "lab:secret@")),
        format!("{}?ca-file={authority}", stunnels[2].url("socks5h+tls", "")),
    ];
    // Each is wrapped where its bit is set: TLS in TLS in TLS at last.
    for choice in 0..8_usize {
        let urls: Vec<_> = (0..3)
            .map(|place| if choice >> place & 1 == 1 { wrapped[place].clone() } else { plain[place].clone() })
            .collect();
        let words = ["curl", "-sS", "http://10.88.0.2/hello", "http://origin.test/large"];
        let run = through(&lab, &urls, &words, &[]).run();
        run.success().stdout_is([http::HELLO.as_bytes(), http::large()].concat()).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn a_chain_may_begin_at_a_unix_socket() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Small, DanteWithPassword]);
    let lab = &proxies.lab;
    let _web = HttpServer::start(lab);
    let near = Microsocks::open(lab);
    let door = UnixDoor::before(lab, near.port());
    let urls = [vec![door.url("socks5+unix", "")], proxies.urls.clone()].concat();
    for (family, host) in [("-4", "origin.test"), ("-4", "10.88.0.2"), ("-6", "[fd88::2]")] {
        let run = through(lab, &urls, &["curl", family, "-sS", &format!("http://{host}/hello")], &[]).run();
        run.success().stdout_is(http::HELLO).stderr_is("");
    }
    assert_eq!(door.connections(), 3);
    assert_eq!(proxies.hops.asked(1), BTreeMap::from([(Ipv4Addr::new(10, 80, 1, 1), 3)]));
    assert_eq!(proxies.hops.asked(2), BTreeMap::from([(hops::address(1), 3)]));
    lab.assert_no_leak();
}

/// hop2.test is a name that the first proxy's host knows, and nobody else.
#[test]
fn the_name_of_a_further_proxy_is_resolved_by_the_one_before_it() {
    if missing(&NEEDS) {
        return;
    }
    for kind in [Small, TinyproxyWithPassword, SshBySocks4a] {
        let proxies = Proxies::line(&[kind, Kind::Microsocks, Kind::Embedded]);
        let _web = HttpServer::start(&proxies.lab);
        let mut urls = proxies.urls.clone();
        for number in [2, 3] {
            urls[number - 1] =
                urls[number - 1].replace(&hops::address(number).to_string(), &format!("hop{number}.test"));
        }
        let run = through(&proxies.lab, &urls, &["curl", "-4sS", "http://origin.test/hello"], &[]).run();
        run.success().stdout_is(http::HELLO).stderr_is("");
        assert_order(&proxies.lab, &proxies.hops, 1);
        proxies.lab.assert_no_leak();
    }
}

#[test]
fn a_name_server_is_asked_through_the_whole_chain() {
    if missing(&NEEDS) || missing(&["dig", "nsd"]) {
        return;
    }
    let proxies = Proxies::line(&[Small, TinyproxyWithPassword, DanteWithPassword]);
    let _server = DnsServer::start(&proxies.lab);
    let run = proxies
        .presocks(&["dig", "+short", "@192.0.2.53", "mail.test", "TXT"], &["--dns", "10.88.0.2"])
        .run();
    run.success().stdout_is("\"v=spf1 mx -all\"\n").stderr_is("");
    assert_order(&proxies.lab, &proxies.hops, 1);
    proxies.lab.assert_no_leak();
}

#[test]
fn datagrams_are_refused_and_one_line_says_so() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::line(&[Embedded, DanteWithPassword]);
    relay::refuses_datagrams(&proxies.lab, &proxies.urls);
    proxies.lab.assert_no_leak();
}

#[test]
fn no_password_of_any_hop_is_shown() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::line(&[DanteWithPassword, TinyproxyWithPassword, MicrosocksWithPassword]);
    let _web = HttpServer::start(&proxies.lab);
    for page in ["http://10.88.0.2/hello", "http://10.88.0.2:4/"] {
        let run = proxies.presocks(&["curl", "-sS", page], &["-v"]).run();
        run.stderr_has(&super::shown(1)).stderr_has(&super::shown(3));
        assert!(!run.stderr().contains("secret"), "{}", run.report());
    }
}

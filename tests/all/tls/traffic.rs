//! Whatever a program does with a connection, it does over TLS, too.

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::PROXY;
use presocks_tests::origin::{DnsServer, HttpServer, Service, http};
use presocks_tests::proxy::scripted::{Gate, Script};
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Stunnel};
use presocks_tests::{Lab, missing};

use super::Proxies;
use crate::relay::{self, pages};

#[test]
fn curl_wget_and_python_fetch_by_name_and_by_address() {
    if missing(&["curl", "wget"]) {
        return;
    }
    let Some(proxies) = Proxies::start() else { return };
    let lab = &proxies.lab;
    let _web = HttpServer::start(lab);
    for url in proxies.trusting() {
        pages::are_fetched(lab, &url, pages::hosts(url.starts_with("socks4a")), |run| run);
    }
    lab.assert_no_leak();
}

#[test]
fn whom_to_trust_is_an_option_too_and_https_is_http_over_tls() {
    if missing(&["curl"]) {
        return;
    }
    let Some(proxies) = Proxies::start() else { return };
    let lab = &proxies.lab;
    let _web = HttpServer::start(lab);
    let authority = proxies.certificates.authority.to_str().unwrap();
    for url in proxies.urls.iter().chain([&proxies.squid_by_another_scheme()]) {
        let fetch =
            lab.presocks(["curl", "-sS", "http://origin.test/hello"]).options(["--ca-file", authority]);
        fetch.proxy(url).run().success().stdout_is(http::HELLO).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn large_pages_arrive_whole() {
    if missing(&["curl"]) {
        return;
    }
    let Some(proxies) = Proxies::start() else { return };
    let lab = &proxies.lab;
    let _web = HttpServer::start(lab);
    for url in proxies.trusting() {
        pages::arrive_whole(lab, &url);
    }
    lab.assert_no_leak();
}

#[test]
fn megabytes_both_ways_come_back_unchanged() {
    let Some(proxies) = Proxies::start() else { return };
    for url in proxies.trusting() {
        relay::carries_megabytes_both_ways_at_once(&proxies.lab, &url);
        relay::carries_megabytes_one_way_and_then_the_other(&proxies.lab, &url);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn a_program_that_has_said_its_last_still_receives() {
    let Some(proxies) = Proxies::start() else { return };
    for url in proxies.half_closing() {
        relay::carries_the_end_of_one_direction(&proxies.lab, &url);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn what_a_program_sends_before_it_exits_arrives() {
    let Some(proxies) = Proxies::start() else { return };
    relay::carries_what_was_sent_before_the_exit(&proxies.lab, &proxies.trusting()[0]);
    proxies.lab.assert_no_leak();
}

#[test]
fn sockets_of_both_families_know_their_peer() {
    let Some(proxies) = Proxies::start() else { return };
    let _echo = Service::echo(&proxies.lab, 7);
    for url in proxies.trusting() {
        let hosts: &[&str] = if url.starts_with("socks4a") {
            &["origin.test", "10.88.0.2"]
        } else {
            &["origin.test", "10.88.0.2", "fd88::2", "::ffff:10.88.0.2"]
        };
        relay::shows_the_destination_as_peer(&proxies.lab, &url, hosts);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn an_event_loop_connects_two_hundred_times_at_once() {
    let Some(proxies) = Proxies::start() else { return };
    let _echo = Service::echo(&proxies.lab, 7);
    // tinyproxy takes a hundred clients.
    for url in proxies.trusting().iter().filter(|url| !url.contains(":4403")) {
        relay::connects_two_hundred_times_at_once(&proxies.lab, url);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn failures_behind_the_proxy_are_those_of_a_direct_connection() {
    let Some(proxies) = Proxies::start() else { return };
    let dante = &proxies.trusting()[..2];
    for url in dante {
        relay::tells_the_true_errno(&proxies.lab, url);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn the_exit_status_and_the_signal_are_the_commands() {
    if missing(&["curl"]) {
        return;
    }
    let Some(proxies) = Proxies::start() else { return };
    let lab = &proxies.lab;
    let _web = HttpServer::start(lab);
    let url = &proxies.trusting()[0];
    let fetch = "curl -sS http://origin.test/hello";
    lab.presocks(["sh", "-c", &format!("{fetch}; exit 42")]).proxy(url).run().code(42).stdout_is(http::HELLO);
    let killed = lab.presocks(["sh", "-c", &format!("{fetch}; kill -TERM $$")]).proxy(url).run();
    killed.signal(rustix::process::Signal::TERM).stdout_is(http::HELLO);
}

/// Between presocks and stunnel is a wire that breaks: stunnel itself passes no reset on.
#[test]
fn a_reset_passes_in_either_direction() {
    if missing(&["stunnel4", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let certificates = Certificates::make(&lab);
    let proxy = Microsocks::open(&lab);
    let stunnel = Stunnel::before(&lab, 0, proxy.port(), &certificates.good);
    let url = |wire: &ScriptedProxy| {
        format!("{}?ca-file={}", wire.url_as("socks5+tls"), certificates.authority.display())
    };
    let gate = Gate::closed();
    let wire = Script::new().relay_until(&gate, (PROXY, stunnel.port())).start(&lab);
    relay::tells_of_a_reset(&lab, &url(&wire), &gate);
    let wire = Script::new().relay((PROXY, stunnel.port())).start(&lab);
    relay::resets(&lab, &url(&wire));
    relay::assert_reset(&wire);
    lab.assert_no_leak();
}

/// Whoever cuts the wire may not make a page look complete (RFC 8446 section 6.1): stunnel is killed amid it, and has said no last word.
#[test]
fn an_end_that_tls_does_not_vouch_for_is_a_reset() {
    const PROGRAM: &str = "
import errno, socket
s = socket.create_connection(('10.88.0.2', 7))
s.sendall(b'half a page')
print(s.recv(100), flush=True)
try: print(s.recv(100))
except OSError as error: print(errno.errorcode[error.errno])";
    if missing(&["stunnel4", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let certificates = Certificates::make(&lab);
    let proxy = Microsocks::open(&lab);
    let mut stunnel = Stunnel::before(&lab, 0, proxy.port(), &certificates.good);
    let url = format!("{}?ca-file={}", stunnel.url("socks5+tls", ""), certificates.authority.display());
    let mut running = lab.presocks(["/usr/bin/python3", "-c", PROGRAM]).proxy(&url).start();
    assert_eq!(running.line(), "b'half a page'");
    stunnel.daemon.stop();
    running.finish().success().stdout_is("b'half a page'\nECONNRESET\n");
    lab.assert_no_leak();
}

#[test]
fn a_name_server_is_asked_over_tls() {
    if missing(&["dig", "nsd"]) {
        return;
    }
    let Some(proxies) = Proxies::start() else { return };
    let _server = DnsServer::start(&proxies.lab);
    for url in proxies.trusting() {
        pages::have_records(&proxies.lab, &url);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn datagrams_are_refused_and_one_line_says_so() {
    let Some(proxies) = Proxies::start() else { return };
    for url in proxies.trusting() {
        relay::refuses_datagrams(&proxies.lab, &url);
    }
    proxies.lab.assert_no_leak();
}

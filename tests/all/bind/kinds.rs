//! Proxies of every kind that has BIND, however they are reached; and those that have none.

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::PROXY;
use presocks_tests::origin::caller;
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::proxy::{Dante, Microsocks, Stunnel, Tinyproxy, UnixDoor, Upstream, of_kind};
use presocks_tests::{Lab, missing};

use super::replies::{at, probe};
use super::{LISTEN, LISTENED, PORT};

/// Each of these ways leads to a program that is called back.
#[track_caller]
fn is_called_back(lab: &Lab, host: &str, options: &[&str]) {
    let run = lab.presocks(["python3", "-c", LISTEN, host, "2100"]).options(["--bind"]);
    run.options(options).run().success().stdout_is(LISTENED).stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn socks4_and_socks4a_listen() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = caller::start(&lab, PORT);
    let proxy = Dante::open(&lab);
    for scheme in ["socks4", "socks4a"] {
        is_called_back(&lab, "10.88.0.2", &["-p", &of_kind(scheme, &proxy.url())]);
    }
}

#[test]
fn a_proxy_over_tls_or_at_a_unix_socket_listens() {
    if missing(&["python3", "danted", "stunnel4"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = caller::start(&lab, PORT);
    let certificates = Certificates::make(&lab);
    let proxy = Dante::with_password(&lab);
    let stunnel = Stunnel::before(&lab, 0, proxy.port(), &certificates.good);
    let authority = certificates.authority.to_str().unwrap();
    let url = stunnel.url("socks5+tls", "lab:secret@");
    is_called_back(&lab, "origin.test", &["--ca-file", authority, "-p", &url]);
    let door = UnixDoor::before(&lab, proxy.port());
    is_called_back(&lab, "origin.test", &["-p", &door.url("socks5+unix", "lab:secret@")]);
}

#[test]
fn the_last_of_a_chain_listens_whatever_comes_before_it() {
    if missing(&["python3", "danted", "microsocks", "tinyproxy"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = caller::start(&lab, PORT);
    let (socks, http, last) = (Microsocks::open(&lab), Tinyproxy::open(&lab), Dante::with_password(&lab));
    for first in [socks.url(), http.url()] {
        is_called_back(&lab, "origin.test", &["-p", &first, "-p", &last.url()]);
    }
    // By the one that its connection has gone by; at port 9 nobody is.
    lab.permit_proxy_port(9);
    is_called_back(
        &lab,
        "10.88.0.2",
        &["--order", "failover", "-p", "socks5://10.77.0.1:9", "-p", &last.url(), "-q"],
    );
}

#[test]
fn who_cannot_listen_says_so() {
    if missing(&["python3", "tinyproxy", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = caller::start(&lab, PORT);
    let (http, socks) = (Tinyproxy::open(&lab), Microsocks::open(&lab));
    let chain = ["-p", &socks.url(), "-p", &http.url()];
    for options in [&chain[2..], &chain] {
        let run = lab.presocks(["python3", "-c", LISTEN, "10.88.0.2", "2100"]).options(["--bind"]);
        let run = run.options(options.iter().copied()).run();
        run.code(1).stderr_has("Cannot assign requested address");
        run.stderr_has("its protocol has no way to listen (BIND); SOCKS has\n");
    }
    lab.assert_no_leak();
}

#[test]
fn socks4s_replies_say_where_and_who() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let granted = |address: [u8; 4], port: u16| [&[0, 90][..], &port.to_be_bytes(), &address].concat();
    for (first, listens) in [
        (granted([203, 0, 113, 9], 4000), "203.0.113.9".to_owned()),
        (granted([0; 4], 4000), PROXY.to_string()),
    ] {
        let binds = Script::new().expect(9).send(first).send(granted([10, 88, 0, 2], 20)).send("early");
        let connect = Script::new().expect(9).send(granted([9, 9, 9, 9], 99)).read_all();
        let proxy = connect.and_later(binds).start(&lab);
        let steps = ["listen", "name", "accept", "read"];
        let run = probe(&lab, &proxy.url_as("socks4"), &steps).run();
        run.success().stderr_is("").stdout_is(format!(
            "listens\nlistener {listens} 4000\npeer 10.88.0.2 20 True own {listens} 4000\nread early\n"
        ));
        assert_eq!(proxy.finished(2)[1].received, [4, 2, 8, 52, 10, 88, 0, 2, 0]);
    }
    lab.assert_no_leak();
}

#[test]
fn the_credentials_that_keep_connections_apart_are_the_binds_too() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let known = || Script::new().greeting().send([5, 2]).credentials().send([1, 0]).request();
    for isolation in ["process", "destination", "session"] {
        let binds = known().send(at([203, 0, 113, 9], 4000)).read_all();
        let proxy = known().send(SUCCESS).read_all().and_later(binds).start(&lab);
        let run = probe(&lab, &proxy, &["listen"]).options(["--isolate", isolation]).run();
        run.success().stderr_is("").stdout_is("listens\n");
        // Behind the greeting are user and password, and then the request.
        let connections = proxy.finished(2);
        let credentials = |index: usize| connections[index].pieces[2..6].concat();
        assert_eq!(credentials(0), credentials(1), "{isolation}");
    }
    lab.assert_no_leak();
}

//! nc and telnet: plain bytes both ways, and what a user sees when a connection fails.

use std::io::Write;

use presocks_tests::origin::{Service, http};
use presocks_tests::proxy::{Dante, EACH_NEEDS, Microsocks, SshDynamic, Upstream, one_of_each};
use presocks_tests::{Lab, missing};

#[test]
fn nc_carries_bytes_both_ways_through_every_proxy() {
    if missing(&["nc"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    for proxy in one_of_each(&lab) {
        for host in ["origin.test", "10.88.0.2", "fd88::2"] {
            let mut talk = lab.presocks(["nc", host, "7"]).proxy(&proxy).start();
            for line in ["to the origin and back", "and again"] {
                talk.write(format!("{line}\n"));
                assert_eq!(talk.line(), line);
            }
        }
    }
    lab.assert_no_leak();
}

#[test]
fn the_end_of_one_direction_is_not_the_end_of_the_other() {
    if missing(&["nc", "danted", "ssh", "sshd", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    // microsocks is not among them: it closes both directions when one ends.
    let (dante, ssh) = (Dante::open(&lab), SshDynamic::open(&lab));
    for proxy in [&dante as &dyn Upstream, &ssh] {
        let talk = lab.presocks(["nc", "-N", "origin.test", "7"]).proxy(proxy).stdin(http::large());
        talk.run().success().stdout_is(http::large()).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn nc_tells_an_open_port_from_a_refused_one() {
    if missing(&["nc", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Dante::open(&lab);
    lab.presocks(["nc", "-zv", "10.88.0.2", "7"]).proxy(&proxy).run().success().stderr_has("succeeded");
    let refused = lab.presocks(["nc", "-zv", "10.88.0.2", "4"]).proxy(&proxy).run();
    refused.code(1).stderr_has("Connection refused");
    lab.assert_no_leak();
}

#[test]
fn telnet_shows_the_banner_and_answers_what_is_typed() {
    if missing(&["telnet", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _mail = Service::banner_first(&lab, 25, b"220 mail.origin.test ESMTP\r\n");
    let proxy = Microsocks::open(&lab);
    let mut telnet = lab.presocks(["telnet", "origin.test", "25"]).proxy(&proxy).start();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|line: &String| !line.contains("220 ")) {
        seen.push(telnet.line());
    }
    assert_eq!(seen.last().unwrap().trim_end(), "220 mail.origin.test ESMTP");
    assert!(seen.iter().any(|line| line == "Connected to origin.test."), "{seen:?}");
    telnet.write("NOOP\n");
    assert_eq!(telnet.line().trim_end(), "NOOP");
    drop(telnet);
    lab.assert_no_leak();
}

#[test]
fn nc_sees_every_byte_of_a_server_that_speaks_first() {
    const BANNER: &[u8] = b"220-first line\r\n220-second line\r\n220 last line\r\n";
    if missing(&["nc"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _server = Service::start(&lab, 25, |mut stream| stream.write_all(BANNER));
    for proxy in one_of_each(&lab) {
        lab.presocks(["nc", "origin.test", "25"]).proxy(&proxy).run().success().stdout_is(BANNER);
    }
    lab.assert_no_leak();
}

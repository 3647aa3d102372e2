//! The hosts of a chain themselves, without presocks: what is asked for reaches the next only.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use presocks_tests::lab::{CLIENT, ORIGIN};
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::{Hops, Lab, hops, missing};

fn fetch_from(hops: &Hops, number: usize, address: &str) -> bool {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "-m", "20", &format!("http://{address}/hello")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let output = hops.site(number).host.spawn(&mut command).wait_with_output().unwrap();
    output.stdout == http::HELLO.as_bytes()
}

#[test]
fn each_host_of_a_line_takes_connections_from_the_one_before_it_alone() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let hops = Hops::line(&lab, 3);
    for address in hops::origins() {
        assert_eq!(
            [1, 2, 3].map(|number| fetch_from(&hops, number, &address)),
            [false, false, true],
            "{address}"
        );
    }
    assert_eq!(web.connections(), 2);
    let asked = [1, 2, 3].map(|number| (hops::address(number), 1));
    assert_eq!(hops.asked_of_origin(&lab), BTreeMap::from(asked));
    lab.permit_direct("10.80.0.0/16");
    for (number, status) in [(1, 7), (2, 7)] {
        let address = format!("http://{}/", hops::address(number));
        lab.bare(["curl", "-sS", "-m", "20", &address]).run().code(status).stderr_has("onnect");
        assert_eq!(hops.asked(number), BTreeMap::from([(CLIENT, 1)]));
    }
}

#[test]
fn each_host_of_a_crowd_takes_connections_from_everybody() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let hops = Hops::crowd(&lab, 5);
    assert!((1..=5).all(|number| fetch_from(&hops, number, &ORIGIN.to_string())));
    assert_eq!(hops.asked_of_origin(&lab).len(), 5);
}

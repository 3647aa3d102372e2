//! Names: the whole of getaddrinfo and its kin, stand-ins, and which form of a destination the proxy gets to see.

mod international;
mod machine;

use std::net::Ipv6Addr;

use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::{Lab, missing};

use crate::behaviour::program::compile;
use crate::behaviour::{passes_wrapped, same_bare_and_wrapped};

#[test]
fn getaddrinfo_has_every_flag_family_and_error_of_libc() {
    same_bare_and_wrapped("names");
}

#[test]
fn the_gethostby_family_and_getnameinfo_answer_as_libc_does() {
    same_bare_and_wrapped("hostent");
}

#[test]
fn stand_ins_are_distinct_lasting_and_shared_between_processes() {
    passes_wrapped("standins");
}

#[test]
fn what_looks_up_or_connects_inside_libc_fails_and_leaks_nothing() {
    passes_wrapped("hidden");
}

/// The request that a destination becomes: version, CONNECT, reserved, address type, address, port.
fn request_for(destination: &str) -> Option<Vec<u8>> {
    if missing(&["cc"]) {
        return None;
    }
    let lab = Lab::new();
    let proxy = Script::until_request().send(SUCCESS).read_all().start(&lab);
    let probe = compile(&lab, "probe");
    let to = format!("to={destination}");
    let words = [probe.as_os_str(), to.as_ref()];
    lab.presocks(words).proxy(&proxy).run().success().stdout_is("connect: ok\npeer: the one asked for\n");
    let request = proxy.finished(1)[0].pieces[2..].concat();
    lab.assert_no_leak();
    Some(request)
}

fn request_with(kind: u8, address: &[u8], port: u16) -> Vec<u8> {
    [&[5, 1, 0, kind], address, &port.to_be_bytes()].concat()
}

/// Reads the request up to its end: what follows in `pieces` are the single bytes of `read_all`.
fn assert_request(destination: &str, expected: &[u8]) {
    if let Some(request) = request_for(destination) {
        assert_eq!(request, expected, "for {destination}");
    }
}

#[test]
fn an_ipv4_literal_reaches_the_proxy_as_an_address() {
    assert_request("10.88.0.2:7000", &request_with(1, &[10, 88, 0, 2], 7000));
}

#[test]
fn an_ipv6_literal_reaches_the_proxy_as_an_address() {
    let address: Ipv6Addr = "2001:db8::7".parse().unwrap();
    assert_request("2001:db8::7:443", &request_with(4, &address.octets(), 443));
}

#[test]
fn a_mapped_literal_reaches_the_proxy_as_the_ipv4_address_that_it_is() {
    assert_request("::ffff:10.88.0.2:7000", &request_with(1, &[10, 88, 0, 2], 7000));
}

#[test]
fn a_name_reaches_the_proxy_as_a_name() {
    assert_request("www.example.org:80", &request_with(3, &[&[15_u8][..], b"www.example.org"].concat(), 80));
}

#[test]
fn a_name_of_255_bytes_reaches_the_proxy_whole() {
    let label = "n".repeat(63);
    let name = format!("{label}.{label}.{label}.{label}");
    assert_eq!(name.len(), 255);
    assert_request(&format!("{name}:80"), &request_with(3, &[&[255][..], name.as_bytes()].concat(), 80));
}

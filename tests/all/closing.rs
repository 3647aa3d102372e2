//! A program closes sockets that are pending, and goes on: nothing of theirs is kept, here or at the proxy.

use presocks_tests::proxy::Upstream as _;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::{Lab, missing, patience};

use crate::behaviour::program::compile;

/// As many as the program opens.
const SOCKETS: usize = 120;

/// Bytes of a greeting that offers one method, and of a request for an IPv4 address.
const REQUESTED: usize = 3 + 10;

/// The program closes its sockets in this way, and waits in this call; meanwhile the proxy's connections end.
#[track_caller]
fn ends_at_the_proxy(way: &str, wait: &str) {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Script::until_request().read_all().start(&lab);
    let program = compile(&lab, "closing");
    let words = [program.into_os_string(), "to=192.0.2.1:80".into()];
    let words = words.into_iter().chain([way, wait].map(Into::into));
    // By then the broker would end them itself.
    let limits = ["--timeout", "600", "--handshake-timeout", "600"];
    let mut session = lab.presocks(words).proxy(&proxy.url()).options(limits).start();
    assert_eq!(session.line(), "begun");
    patience::wait_until("all requests to arrive", || {
        let connections = proxy.connections();
        connections.iter().filter(|connection| connection.received.len() >= REQUESTED).count() == SOCKETS
    });
    assert!(proxy.connections().iter().all(|connection| !connection.over), "one has ended early");
    session.write("close\n");
    assert_eq!(session.line(), "closed");
    let ended = proxy.finished(SOCKETS);
    assert_eq!(ended.len(), SOCKETS);
    session.write("end\n");
    session.finish().success().stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn pending_sockets_that_are_closed_end_at_the_proxy() {
    ends_at_the_proxy("way=close", "wait=poll");
}

#[test]
fn a_program_that_waits_in_select_ends_them_too() {
    ends_at_the_proxy("way=close", "wait=select");
}

#[test]
fn a_program_that_waits_in_epoll_wait_ends_them_too() {
    ends_at_the_proxy("way=close", "wait=epoll");
}

#[test]
fn pending_sockets_whose_numbers_are_overwritten_end_at_the_proxy() {
    ends_at_the_proxy("way=dup2", "wait=poll");
}

#[test]
fn pending_sockets_of_a_closed_range_end_at_the_proxy() {
    ends_at_the_proxy("way=range", "wait=poll");
}

#[test]
fn pending_sockets_in_closed_streams_end_at_the_proxy() {
    ends_at_the_proxy("way=stream", "wait=poll");
}

#[test]
fn pending_sockets_end_at_the_proxy_with_their_last_copy() {
    ends_at_the_proxy("way=copies", "wait=poll");
}

#[test]
fn pending_sockets_that_a_child_had_as_well_end_at_the_proxy() {
    ends_at_the_proxy("way=child", "wait=poll");
}

/// So many young connects are let finish at a time.
const LET_FINISH: usize = 16;

#[test]
fn a_few_connects_whose_sockets_are_closed_at_once_are_let_finish_so_that_the_peer_sees_them_end() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).send(SUCCESS).read_all().start(&lab);
    let program = compile(&lab, "closing");
    let words =
        ["to=192.0.2.1:80", "way=close", "wait=poll", &format!("count={}", LET_FINISH + 1)].map(Into::into);
    let words = [program.into_os_string()].into_iter().chain(words);
    let mut session = lab.presocks(words).proxy(&proxy.url()).start();
    assert_eq!(session.line(), "begun");
    gate.wait_for_arrivals(LET_FINISH + 1);
    session.write("close\n");
    assert_eq!(session.line(), "closed");
    gate.open();
    let ended = proxy.finished(LET_FINISH + 1);
    // The proxy's connection is reset when a connect is given up, and is closed when the program has been connected.
    let resets = ended.iter().filter(|connection| connection.error.is_some()).count();
    assert_eq!(resets, 1, "{ended:?}");
    session.write("end\n");
    session.finish().success().stderr_is("");
    lab.assert_no_leak();
}

//! Whom a failure tells against: a proxy that hangs takes no other's time or place, nor does one that connects to nobody, nor a destination that
//! nobody reaches.

use presocks_tests::lab::{CLIENT, SILENT_PORT};
use presocks_tests::missing;
use presocks_tests::proxy::ScriptedProxy;
use presocks_tests::proxy::Upstream as _;
use presocks_tests::proxy::scripted::{Gate, Script, reply};

use super::Kind::{Microsocks, SshBySocks4a};
use super::{NEEDS, Proxies, WHO, shown, tell_the_last_hop, through};

const PYTHON: &str = "/usr/bin/python3";

/// Long for a proxy that lives.
const PATIENCE: [&str; 4] = ["--handshake-timeout", "2", "--timeout", "12"];

/// As [`WHO`], at each of the ports that are its arguments.
const WHO_AT: &str = "
import socket, sys
for port in sys.argv[1:]:
    try:
        with socket.create_connection(('10.88.0.2', int(port))) as s: print(s.recv(100).decode(), end='')
    except OSError as error: print('x', end='')";

/// A proxy that hangs, and the scheme by which it is spoken to.
struct Hung {
    scheme: &'static str,
    /// Does it hang before it has said anything? Else it may be the destination's fault.
    is_dumb: bool,
    script: Script,
}

/// Those that have got the request, and never answer it.
fn hung(never: &Gate) -> [Hung; 3] {
    [
        Hung { scheme: "http", is_dumb: true, script: Script::new().until("\r\n\r\n").pass(never) },
        Hung { scheme: "socks4a", is_dumb: true, script: Script::new().expect(9).pass(never) },
        Hung { scheme: "socks5", is_dumb: false, script: Script::until_request().pass(never) },
    ]
}

/// The hung one first, then the others; each of four connections ends at `last`.
#[track_caller]
fn is_passed_over(proxies: &Proxies, hung: Hung, order: &str, last: &str) -> ScriptedProxy {
    let first = hung.script.start(&proxies.lab);
    let urls = [vec![first.url_as(hung.scheme)], proxies.urls.clone()].concat();
    let options = [&["--order", order][..], &PATIENCE].concat();
    let run = through(&proxies.lab, &urls, &[PYTHON, "-c", WHO, "4"], &options).run();
    assert_eq!(run.success().stdout(), last.repeat(4), "{} {order}\n{}", hung.scheme, run.report());
    run.stderr_has(&urls[0]).stderr_has("did not answer within 2s");
    first
}

#[test]
fn a_failover_leaves_one_that_accepts_and_hangs() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks; 2]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let never = Gate::closed();
    for hung in hung(&never) {
        let (is_dumb, scheme) = (hung.is_dumb, hung.scheme);
        let first = is_passed_over(&proxies, hung, "failover", "1");
        // The other connections have not waited for it.
        assert!(!is_dumb || first.connections().len() == 1, "{scheme}: {}", first.connections().len());
    }
    assert!(proxies.hops.asked(2).is_empty());
    never.open();
    proxies.lab.assert_no_leak();
}

/// With one proxy behind it, it is asked for the destination in the end; with two, it is seen to connect to neither.
#[test]
fn a_dynamic_chain_goes_on_without_a_head_that_hangs() {
    if missing(&NEEDS) {
        return;
    }
    for (count, last) in [(1, "1"), (2, "2")] {
        let proxies = Proxies::crowd(&vec![Microsocks; count]);
        let _origin = tell_the_last_hop(&proxies.lab);
        let never = Gate::closed();
        for hung in hung(&never) {
            let (is_dumb, scheme) = (hung.is_dumb, hung.scheme);
            let first = is_passed_over(&proxies, hung, "dynamic", last);
            let tried = first.connections().len();
            assert!(!is_dumb || tried == 2, "{scheme} before {count}: {tried}");
        }
        never.open();
        proxies.lab.assert_no_leak();
    }
}

/// Three that work and one that connects to nobody, at this place among them.
fn with_a_broken_one(place: usize) -> (Proxies, Vec<String>) {
    let proxies = Proxies::crowd(&[Microsocks; 3]);
    let broken = Script::until_request().send(reply(1)).read_all().start(&proxies.lab);
    let mut urls = proxies.urls.clone();
    urls.insert(place, broken.url());
    (proxies, urls)
}

#[test]
fn one_that_connects_to_nobody_costs_no_other_its_place_in_a_round() {
    if missing(&NEEDS) {
        return;
    }
    let (proxies, urls) = with_a_broken_one(0);
    let _origin = tell_the_last_hop(&proxies.lab);
    let words = [PYTHON, "-c", WHO, "12"];
    let run = through(&proxies.lab, &urls, &words, &["--order", "round-robin", "--length", "2"]).run();
    let ended_at = run.success().stdout();
    assert!(ended_at.len() == 12 && !ended_at.contains('x'), "{}", run.report());
    // Those that are left take turns: three of them, two at a time.
    assert!(["1", "2", "3"].iter().all(|number| ended_at.matches(number).count() >= 3), "{ended_at}");
    proxies.lab.assert_no_leak();
}

/// As the last one of a chain it refuses the destination, which is an answer unless refusals are passed over.
#[test]
fn one_that_connects_to_nobody_costs_no_random_chain_its_connection() {
    if missing(&NEEDS) {
        return;
    }
    let (proxies, urls) = with_a_broken_one(0);
    let _origin = tell_the_last_hop(&proxies.lab);
    let options = ["--order", "random", "--length", "2", "--failover-on-refusal"];
    let run = through(&proxies.lab, &urls, &[PYTHON, "-c", WHO, "40"], &options).run();
    let ended_at = run.success().stdout();
    assert!(ended_at.len() == 40 && !ended_at.contains('x'), "{}", run.report());
    assert!(["1", "2", "3"].iter().all(|number| ended_at.contains(number)), "{ended_at}");
    proxies.lab.assert_no_leak();
}

#[test]
fn one_that_connects_to_nobody_costs_no_other_its_place_in_a_dynamic_chain() {
    if missing(&NEEDS) {
        return;
    }
    for place in 0..2 {
        let (proxies, urls) = with_a_broken_one(place);
        let _origin = tell_the_last_hop(&proxies.lab);
        let words = [PYTHON, "-c", WHO, "6"];
        let run = through(&proxies.lab, &urls, &words, &["--order", "dynamic"]).run();
        assert_eq!(run.success().stdout(), "333333", "broken at {place}\n{}", run.report());
        // All three have carried all of them, once it was known who does not.
        let asked = proxies.asked_by_others();
        assert!(asked[1] >= 6 && asked[2] >= 6, "broken at {place}: {asked:?}");
        proxies.lab.assert_no_leak();
    }
}

/// Its packets are swallowed: no proxy gets an answer, and none has one. Each is asked, and keeps its place.
#[test]
fn a_destination_that_nobody_reaches_tells_against_no_proxy() {
    if missing(&NEEDS) {
        return;
    }
    let silent = SILENT_PORT.to_string();
    for kind in [Microsocks, SshBySocks4a] {
        let proxies = Proxies::crowd(&[kind; 2]);
        let _origin = tell_the_last_hop(&proxies.lab);
        let words = [PYTHON, "-c", WHO_AT, "9000", &silent, "9000", "9000"];
        let options = [&["--order", "failover"][..], &PATIENCE].concat();
        let run = proxies.presocks(&words, &options).run();
        run.success().stdout_is("1x11").stderr_has(&shown(2)).stderr_has("did not answer within 2s");
        assert_eq!(proxies.hops.asked(2).get(&CLIENT), Some(&1), "{kind:?}\n{}", run.report());
        proxies.lab.assert_no_leak();
    }
}

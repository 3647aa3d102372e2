//! `--order random`: so many proxies, picked anew for each connection; the first of them may be fixed.

use std::collections::BTreeMap;

use presocks_tests::lab::CLIENT;
use presocks_tests::{hops, missing};

use super::Kind::Microsocks;
use super::{NEEDS, Proxies, WHO, tell_the_last_hop};

const PYTHON: &str = "/usr/bin/python3";

/// The letters that occur, sorted, each once.
fn occurring(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    letters.into_iter().collect()
}

/// That one of five does not occur in two hundred trials is less likely than 1 in 10^18.
#[test]
fn one_of_them_serves_each_connection_and_every_one_gets_its_turn() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks; 5]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let run = proxies.presocks(&[PYTHON, "-c", WHO, "200"], &["--order", "random"]).run();
    assert_eq!(occurring(&run.success().stdout()), "12345", "{}", run.report());
    assert_eq!((proxies.arrived(), proxies.asked_by_others()), (200, vec![0; 5]));
    proxies.lab.assert_no_leak();
}

#[test]
fn a_chain_has_its_length_and_begins_with_those_that_are_fixed() {
    if missing(&NEEDS) {
        return;
    }
    for (length, fixed, last) in [(3, 1, "2345"), (3, 2, "345"), (2, 0, "12345")] {
        let proxies = Proxies::crowd(&[Microsocks; 5]);
        let _origin = tell_the_last_hop(&proxies.lab);
        let (length_text, fixed_text) = (length.to_string(), fixed.to_string());
        let options = ["--order", "random", "--length", &length_text, "--fixed", &fixed_text];
        let run = proxies.presocks(&[PYTHON, "-c", WHO, "200"], &options).run();
        assert_eq!(occurring(&run.success().stdout()), last, "{}", run.report());
        let asked = proxies.asked_by_others();
        assert_eq!((proxies.arrived(), asked.iter().sum()), (200, 200 * (length - 1)), "{asked:?}");
        if fixed > 0 {
            // The client has spoken to nobody but the first, and the first is nobody's second.
            assert_eq!(asked[0], 0);
            assert!((2..=5).all(|number| !proxies.hops.asked(number).contains_key(&CLIENT)));
        }
        if fixed > 1 {
            assert_eq!(proxies.hops.asked(2), BTreeMap::from([(hops::address(1), 200)]));
        }
        proxies.lab.assert_no_leak();
    }
}

#[test]
fn a_dead_one_is_passed_over_and_a_dead_fixed_one_is_not() {
    if missing(&NEEDS) {
        return;
    }
    let mut proxies = Proxies::crowd(&[Microsocks; 3]);
    let _origin = tell_the_last_hop(&proxies.lab);
    proxies.kill(1);
    let words = [PYTHON, "-c", WHO, "50"];
    let run = proxies.presocks(&words, &["--order", "random"]).run();
    assert_eq!(occurring(&run.success().stdout()), "23", "{}", run.report());
    let run = proxies.presocks(&words, &["--order", "random", "--length", "2", "--fixed", "1"]).run();
    run.success().stdout_is("x".repeat(50)).stderr_has(&super::shown(1));
    proxies.lab.assert_no_leak();
}

#[test]
fn more_proxies_than_there_are_is_an_error_before_the_command_runs() {
    if missing(&["touch"]) {
        return;
    }
    let lab = presocks_tests::Lab::new();
    let urls: Vec<String> = (1..=2).map(|number| format!("socks5://127.0.0.1:{number}")).collect();
    for options in [
        &["--order", "random", "--length", "3"][..],
        &["--order", "round-robin", "--length", "3"],
        &["--order", "random", "--length", "1", "--fixed", "2"],
        &["--order", "random", "--length", "0"],
    ] {
        let run = super::through(&lab, &urls, &["touch", "it-ran"], options).run();
        assert!(run.code(125).stderr().contains("length"), "{}", run.report());
    }
    assert!(!lab.directory().join("it-ran").exists());
}

//! `--order round-robin`: each connection begins after the proxy with which the last one ended, whatever process makes it.

use presocks_tests::missing;

use super::Kind::Microsocks;
use super::{NEEDS, Proxies, WHO, tell_the_last_hop};

const PYTHON: &str = "/usr/bin/python3";
const ROUND: [&str; 2] = ["--order", "round-robin"];

#[test]
fn connections_of_one_process_take_turns_strictly() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks; 4]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let run = proxies.presocks(&[PYTHON, "-c", WHO, "10"], &ROUND).run();
    run.success().stdout_is("1234123412").stderr_is("");
    proxies.lab.assert_no_leak();
}

#[test]
fn the_turns_are_the_sessions_and_go_on_across_its_processes() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks; 3]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let script =
        format!("for i in 1 2 3 4 5 6 7; do {PYTHON} -c \"$0\" 1; env -i {PYTHON} -c \"$0\" 1; done");
    let run = proxies.presocks(&["sh", "-c", &script, WHO], &ROUND).run();
    run.success().stdout_is("12312312312312").stderr_is("");
    // Those at the same time get each its own as well.
    let at_once = format!("for i in 1 2 3 4 5 6; do {PYTHON} -c \"$0\" 5 & done; wait");
    let arrived = || proxies.hops.asked_of_origin(&proxies.lab);
    let before = arrived();
    proxies.presocks(&["sh", "-c", &at_once, WHO], &ROUND).run().success();
    let more: Vec<_> = arrived().iter().map(|(who, now)| now - before[who]).collect();
    assert_eq!(more, [10, 10, 10]);
    proxies.lab.assert_no_leak();
}

#[test]
fn chains_of_a_length_go_on_where_the_last_one_ended() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks; 5]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let run =
        proxies.presocks(&[PYTHON, "-c", WHO, "10"], &["--order", "round-robin", "--length", "2"]).run();
    // 12 34 51 23 45, and again.
    run.success().stdout_is("2413524135").stderr_is("");
    // Of the five chains each has come twice; all but 12, 34, 51, 23 and 45 never.
    assert_eq!(proxies.asked_by_others(), [2; 5]);
    proxies.lab.assert_no_leak();
}

#[test]
fn a_dead_one_loses_its_turn() {
    if missing(&NEEDS) {
        return;
    }
    let mut proxies = Proxies::crowd(&[Microsocks; 3]);
    let _origin = tell_the_last_hop(&proxies.lab);
    proxies.kill(2);
    let run = proxies.presocks(&[PYTHON, "-c", WHO, "8"], &ROUND).run();
    run.success().stdout_is("13131313");
    proxies.lab.assert_no_leak();
}

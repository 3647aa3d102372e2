//! `--order dynamic`: all proxies that are alive, in their order.

use presocks_tests::proxy::Upstream;
use presocks_tests::proxy::scripted::{Script, reply};
use presocks_tests::{hops, missing};

use super::Kind::Microsocks;
use super::{NEEDS, Proxies, WHO, tell_the_last_hop, through};

const DYNAMIC: [&str; 2] = ["--order", "dynamic"];
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn all_are_used_while_all_are_alive() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks; 3]);
    let _origin = tell_the_last_hop(&proxies.lab);
    proxies.presocks(&[PYTHON, "-c", WHO, "5"], &DYNAMIC).run().success().stdout_is("33333").stderr_is("");
    assert_eq!(proxies.asked_by_others(), [0, 5, 5]);
    proxies.lab.assert_no_leak();
}

#[test]
fn a_dead_one_is_passed_over_at_each_place() {
    if missing(&NEEDS) {
        return;
    }
    for (dead, last) in [(1, "3"), (2, "3"), (3, "2")] {
        let mut proxies = Proxies::crowd(&[Microsocks; 3]);
        let _origin = tell_the_last_hop(&proxies.lab);
        proxies.kill(dead);
        let run = proxies.presocks(&[PYTHON, "-c", WHO, "5"], &DYNAMIC).run();
        run.success().stdout_is(last.repeat(5));
        // The one that lives before the last has asked it, and the dead one was tried once or twice and not each time.
        let first = if dead == 1 { 2 } else { 1 };
        let asked = proxies.hops.asked(last.parse().unwrap())[&hops::address(first)];
        assert!((5..10).contains(&asked), "{dead}: {asked}");
        let asked: usize = proxies.hops.asked(dead).values().sum();
        assert!((1..5).contains(&asked), "{dead}: {asked}");
        proxies.lab.assert_no_leak();
    }
}

#[test]
fn one_suffices_and_none_does_not() {
    if missing(&NEEDS) {
        return;
    }
    let mut proxies = Proxies::crowd(&[Microsocks; 3]);
    let _origin = tell_the_last_hop(&proxies.lab);
    proxies.kill(1);
    proxies.kill(3);
    proxies.presocks(&[PYTHON, "-c", WHO, "3"], &DYNAMIC).run().success().stdout_is("222");
    proxies.kill(2);
    let run = proxies.presocks(&[PYTHON, "-c", WHO, "3"], &DYNAMIC).run();
    run.success().stdout_is("xxx").stderr_has("10.80.");
    proxies.lab.assert_no_leak();
}

/// A proxy that lives and answers with a failure is not dead.
#[test]
fn a_refusal_by_the_last_is_the_answer_unless_refusals_are_passed_over() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks; 2]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let refusing = Script::until_request().send(reply(2)).read_all().start(&proxies.lab);
    let urls = [proxies.urls.clone(), vec![refusing.url()]].concat();
    let words = [PYTHON, "-c", WHO, "2"];
    let run = through(&proxies.lab, &urls, &words, &DYNAMIC).run();
    run.success().stdout_is("xx").stderr_has("connection not allowed by ruleset").stderr_has(&refusing.url());
    let options = ["--order", "dynamic", "--failover-on-refusal"];
    through(&proxies.lab, &urls, &words, &options).run().success().stdout_is("22");
    proxies.lab.assert_no_leak();
}

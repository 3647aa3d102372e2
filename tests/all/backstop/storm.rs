//! Calls at random on sockets at random: the proof that no path of the shim, the filter or the broker ends in a direct connection. The seeds are
//! fixed, so that a failure comes again.

use presocks_tests::Build;
use presocks_tests::proxy::{Embedded, Upstream};

use super::{arguments, stage_for};

/// Runs the storm for each seed; and, to see that it can leak, without presocks. `relaying`: by a proxy that takes datagrams, too.
fn nothing_leaves(build: Build, killing: bool, relaying: bool, before: &[&str]) {
    let Some(stage) = stage_for(&[build]) else { return };
    let embedded = relaying.then(|| Embedded::open(&stage.lab));
    let proxy: &dyn Upstream = embedded.as_ref().map_or(&stage.proxy, |embedded| embedded);
    let program = build.of(&stage.lab, "storm", &[]);
    let words = |seed: u32| {
        let own = [
            program.clone().into(),
            format!("seed={seed}").into(),
            format!("killing={}", u8::from(killing)).into(),
        ];
        before.iter().map(Into::into).chain(own).chain(arguments(&stage)).collect::<Vec<_>>()
    };
    for seed in (1..=8).chain([31, 50, 77]) {
        stage.lab.presocks(words(seed)).proxy(proxy).options(["-q", "--timeout", "2"]).run().success();
        stage.lab.assert_no_leak();
    }
    if !killing {
        let _ = stage.lab.bare(words(1)).run();
        assert!(!stage.lab.leaked().is_empty(), "the storm leaks nothing by itself, and so proves nothing");
    }
}

#[test]
fn nothing_of_a_hooked_program_leaves_whatever_it_calls() {
    nothing_leaves(Build::Shared, false, false, &[]);
}

#[test]
fn nothing_of_a_caught_program_leaves_whatever_it_calls() {
    nothing_leaves(Build::Static, false, false, &[]);
}

#[test]
fn nothing_of_a_32_bit_program_leaves_whatever_it_calls() {
    nothing_leaves(Build::Narrow, false, false, &[]);
}

#[test]
fn nothing_of_a_program_without_its_environment_leaves_whatever_it_calls() {
    nothing_leaves(Build::Shared, false, false, &["env", "-i"]);
}

#[test]
fn nothing_leaves_when_the_broker_is_killed_half_way() {
    nothing_leaves(Build::Shared, true, false, &[]);
    nothing_leaves(Build::Static, true, false, &[]);
}

#[test]
fn nothing_leaves_past_a_proxy_that_takes_datagrams() {
    nothing_leaves(Build::Shared, false, true, &[]);
    nothing_leaves(Build::Static, false, true, &[]);
}

//! Calls at random on sockets at random: the proof that no path of the shim, the filter or the broker ends in a direct connection. The seeds are
//! fixed, so that a failure comes again.

use presocks_tests::Build;

use super::{arguments, stage_for};

/// Runs the storm for each seed; and, to see that it can leak, without presocks.
fn nothing_leaves(build: Build, killing: bool, before: &[&str]) {
    let Some(stage) = stage_for(&[build]) else { return };
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
        stage.lab.presocks(words(seed)).proxy(&stage.proxy).options(["-q", "--timeout", "2"]).run().success();
        stage.lab.assert_no_leak();
    }
    if !killing {
        let _ = stage.lab.bare(words(1)).run();
        assert!(!stage.lab.leaked().is_empty(), "the storm leaks nothing by itself, and so proves nothing");
    }
}

#[test]
fn nothing_of_a_hooked_program_leaves_whatever_it_calls() {
    nothing_leaves(Build::Shared, false, &[]);
}

#[test]
fn nothing_of_a_caught_program_leaves_whatever_it_calls() {
    nothing_leaves(Build::Static, false, &[]);
}

#[test]
fn nothing_of_a_32_bit_program_leaves_whatever_it_calls() {
    nothing_leaves(Build::Narrow, false, &[]);
}

#[test]
fn nothing_of_a_program_without_its_environment_leaves_whatever_it_calls() {
    nothing_leaves(Build::Shared, false, &["env", "-i"]);
}

#[test]
fn nothing_leaves_when_the_broker_is_killed_half_way() {
    nothing_leaves(Build::Shared, true, &[]);
    nothing_leaves(Build::Static, true, &[]);
}

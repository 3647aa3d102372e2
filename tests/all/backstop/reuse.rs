//! A call is made on a number, and the number may be another socket's by the time that the call is done.

use presocks_tests::Build;

use super::{after, stage_for, wrapped};

/// `tests/programs/reused.c` in this build, after these words.
#[track_caller]
fn leads_nothing_away(build: Build, before: &[&str]) {
    let Some(stage) = stage_for(&[build]) else { return };
    let program = build.of(&stage.lab, "reused", &[]);
    wrapped(&stage, &after(before, &program)).run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn a_number_that_becomes_another_sockets_under_a_static_programs_call_leads_nothing_away() {
    leads_nothing_away(Build::Static, &[]);
}

#[test]
fn a_number_that_becomes_another_sockets_under_a_32_bit_programs_call_leads_nothing_away() {
    leads_nothing_away(Build::Narrow, &[]);
}

#[test]
fn a_number_that_becomes_another_sockets_under_a_call_that_nothing_hooks_leads_nothing_away() {
    leads_nothing_away(Build::Shared, &["env", "-i"]);
}

#[test]
fn a_number_that_becomes_another_sockets_under_a_hooked_call_leads_nothing_away() {
    leads_nothing_away(Build::Shared, &[]);
}

//! Other ways to call the kernel: 32-bit programs, 32-bit calls of a 64-bit program.
#![cfg(target_arch = "x86_64")]

use presocks_tests::Build;

use super::{bare, same_bare_and_wrapped, stage_for, wrapped};

#[test]
fn a_32_bit_program_connects() {
    is_as_ever("plain");
}

#[test]
fn a_32_bit_programs_wrong_arguments_are_the_kernels_business() {
    is_as_ever("arguments");
}

#[test]
fn a_32_bit_programs_datagrams_on_loopback_are_the_kernels() {
    is_as_ever("datagrams");
}

#[track_caller]
fn is_as_ever(name: &'static str) {
    let Some(stage) = stage_for(&[Build::Narrow]) else { return };
    let program = Build::Narrow.of(&stage.lab, name, &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn a_64_bit_program_that_makes_32_bit_calls_connects_and_is_refused_what_others_are() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "narrow", &[]);
    bare(&stage, &[&program]);
    let words = [program.as_os_str().to_owned()].into_iter().chain(super::arguments(&stage));
    let words = words.chain(["proxied=1".into()]);
    stage.lab.presocks(words).proxy(&stage.proxy).run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn the_upper_halves_of_registers_are_nothing_to_a_32_bit_call() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "halves", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn a_32_bit_program_is_refused_what_others_are() {
    let Some(stage) = stage_for(&[Build::Narrow]) else { return };
    let program = Build::Narrow.of(&stage.lab, "refusals", &[]);
    wrapped(&stage, &[&program]).run().success();
    stage.lab.assert_no_leak();
}

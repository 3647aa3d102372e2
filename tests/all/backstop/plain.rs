//! One C client in every build that the shim cannot get into; and programs of the shim's tests, with nothing preloaded.

use std::path::Path;

use presocks_tests::Build;

use super::{same_bare_and_wrapped, stage_for};

/// `tests/programs/plain.c` in this build.
#[track_caller]
fn connects_as_ever(build: Build) {
    let Some(stage) = stage_for(&[build]) else { return };
    let program = build.of(&stage.lab, "plain", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn a_static_program_connects() {
    connects_as_ever(Build::Static);
}

#[test]
fn a_static_position_independent_program_connects() {
    connects_as_ever(Build::StaticPie);
}

#[test]
fn a_static_musl_program_connects() {
    connects_as_ever(Build::StaticMusl);
}

#[test]
fn a_musl_program_connects() {
    connects_as_ever(Build::SharedMusl);
}

#[test]
fn a_program_with_a_cleared_environment_connects() {
    connects_as_ever_without_preload("plain");
}

#[test]
fn without_preload_a_blocking_connect_is_the_kernels() {
    connects_as_ever_without_preload("blocking");
}

#[test]
fn without_preload_wrong_arguments_are_the_kernels_business() {
    connects_as_ever_without_preload("arguments");
}

#[test]
fn without_preload_forks_spawns_and_daemons_connect() {
    connects_as_ever_without_preload("processes");
}

#[test]
fn without_preload_datagrams_on_loopback_are_the_kernels() {
    connects_as_ever_without_preload("datagrams");
}

#[track_caller]
fn connects_as_ever_without_preload(name: &'static str) {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let program = Build::Shared.of(&stage.lab, name, &[]);
    same_bare_and_wrapped(&stage, &[Path::new("env"), Path::new("-i"), &program]);
}

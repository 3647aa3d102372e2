//! Calls that the broker makes in a caught program's stead are as the kernel would have made them: the errno for an address that the socket knows
//! nothing of, what waits and for how long, and what a signal does to it.

use presocks_tests::{Build, missing};

use super::{after, same_bare_and_wrapped, same_on_older_kernels, stage_for};

/// `tests/programs/NAME.c` in this build, after these words.
#[track_caller]
fn is_as_ever(name: &'static str, build: Build, before: &[&str]) {
    let Some(stage) = stage_for(&[build]) else { return };
    let program = build.of(&stage.lab, name, &[]);
    same_bare_and_wrapped(&stage, &after(before, &program));
}

#[test]
fn an_address_that_a_socket_knows_nothing_of_is_refused_to_a_static_program_as_ever() {
    is_as_ever("addressed", Build::Static, &[]);
}

#[test]
fn an_address_that_a_socket_knows_nothing_of_is_refused_to_a_static_musl_program_as_ever() {
    is_as_ever("addressed", Build::StaticMusl, &[]);
}

#[test]
fn an_address_that_a_socket_knows_nothing_of_is_refused_to_a_32_bit_program_as_ever() {
    is_as_ever("addressed", Build::Narrow, &[]);
}

#[test]
fn an_address_that_a_socket_knows_nothing_of_is_refused_to_a_program_that_nothing_hooks_as_ever() {
    is_as_ever("addressed", Build::Shared, &["env", "-i"]);
}

#[test]
fn an_address_that_a_socket_knows_nothing_of_is_refused_to_a_hooked_program_as_ever() {
    is_as_ever("addressed", Build::Shared, &[]);
}

#[test]
fn a_static_program_sends_on_a_stream_with_an_address_as_without_one() {
    is_as_ever("pushed", Build::Static, &[]);
}

#[test]
fn a_32_bit_program_sends_on_a_stream_with_an_address_as_without_one() {
    is_as_ever("pushed", Build::Narrow, &[]);
}

#[test]
fn a_hooked_program_sends_on_a_stream_with_an_address_as_without_one() {
    is_as_ever("pushed", Build::Shared, &[]);
}

#[test]
fn a_broken_pipe_has_its_signal() {
    is_as_ever("broken", Build::Static, &[]);
}

#[test]
fn a_broken_pipe_has_its_signal_on_older_kernels() {
    same_on_older_kernels("broken");
}

#[test]
fn a_static_program_connects_to_loopback_as_ever_when_that_takes_its_time() {
    is_as_ever("loopbacks", Build::Static, &[]);
}

#[test]
fn a_32_bit_program_connects_to_loopback_as_ever_when_that_takes_its_time() {
    is_as_ever("loopbacks", Build::Narrow, &[]);
}

#[test]
fn a_hooked_program_connects_to_loopback_as_ever_when_that_takes_its_time() {
    is_as_ever("loopbacks", Build::Shared, &[]);
}

#[test]
fn a_static_programs_control_messages_arrive() {
    is_as_ever("marked", Build::Static, &[]);
}

#[test]
fn a_32_bit_programs_control_messages_arrive() {
    is_as_ever("marked", Build::Narrow, &[]);
}

#[test]
fn a_hooked_programs_control_messages_arrive() {
    is_as_ever("marked", Build::Shared, &[]);
}

/// The broker is root, and what it sends for others it could send so.
#[test]
fn a_program_has_no_privilege_of_the_brokers() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    if missing(&["setpriv"]) {
        return;
    }
    let program = Build::Static.of(&stage.lab, "marked", &[]);
    let program = program.to_str().unwrap();
    let nobody = ["setpriv", "--reuid=65534", "--clear-groups", program, "mark=refused"];
    for words in [&[program, "mark=ok"][..], &nobody] {
        stage.lab.presocks(words).proxy(&stage.proxy).run().success();
    }
    stage.lab.assert_no_leak();
}

//! Datagrams of programs that the shim cannot see: static, musl, Go, with a cleared environment.

use std::path::Path;

use presocks_tests::{Build, missing};

use super::scene::Scene;
use crate::backstop::after;
use crate::backstop::confined::SANDBOXES;

/// `tests/programs/udp_plain.c` in this build, after these words.
#[track_caller]
fn talks_as_ever(build: Build, before: &[&str]) {
    if missing(build.needs()) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let program = build.of(&scene.lab, "udp_plain", &[]);
    scene.same_bare_and_wrapped(&after(before, &program), &[&scene.dante, &scene.embedded]);
}

#[test]
fn a_static_program_talks() {
    talks_as_ever(Build::Static, &[]);
}

#[test]
fn a_static_musl_program_talks() {
    talks_as_ever(Build::StaticMusl, &[]);
}

#[test]
fn a_static_32_bit_program_talks() {
    talks_as_ever(Build::Narrow, &[]);
}

#[test]
fn a_program_with_a_cleared_environment_talks() {
    talks_as_ever(Build::Shared, &["env", "-i"]);
}

#[test]
fn a_program_that_the_shim_sees_talks() {
    talks_as_ever(Build::Shared, &[]);
}

#[test]
fn a_program_talks_in_a_sandbox_that_forbids_the_shim_to_ask_the_broker() {
    if missing(Build::Shared.needs()) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let forbidding = Build::Shared.of(&scene.lab, "forbidding", &[]);
    let program = Build::Shared.of(&scene.lab, "udp_plain", &[]);
    for what in SANDBOXES {
        scene.same_bare_and_wrapped(&[&forbidding, Path::new(what), &program], &[&scene.dante]);
    }
}

#[test]
fn go_dials_and_listens() {
    if missing(Build::GoWithCgo.needs()) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let places = ["10.88.0.2:7000", "10.88.0.2:7001", "[fd88::2]:7000", "[fd88::2]:7001"];
    for build in [Build::Go, Build::GoWithCgo] {
        let program = build.of(&scene.lab, "datagrams", &[]);
        for (mode, answer) in [("dial", "true"), ("listen", "true, by the one asked: true")] {
            let expected: String = places.iter().map(|place| format!("{place}: {answer}\n")).collect();
            let words = [program.to_str().unwrap(), mode].into_iter().chain(places);
            scene.lab.presocks(words).proxy(&scene.embedded).run().success().stdout_is(expected);
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn go_dials_a_name_that_only_the_proxy_knows() {
    if missing(Build::GoWithCgo.needs()) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    for build in [Build::Go, Build::GoWithCgo] {
        let program = build.of(&scene.lab, "datagrams", &[]);
        let words = [program.to_str().unwrap(), "dial", "origin.test:7000"];
        let run = scene.lab.presocks(words).proxy(&scene.embedded).run();
        run.success().stdout_is("origin.test:7000: true\n");
    }
    assert_eq!(scene.echo.received().len(), 2);
    scene.lab.assert_no_leak();
}

#[test]
fn python_with_a_cleared_environment_talks() {
    let Some(scene) = Scene::set() else { return };
    let script = "
import socket
for place in ('10.88.0.2', 7000), ('10.88.0.2', 7001):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(15)
    s.sendto(b'hello', place); print(s.recvfrom(100) == (b'hello', place))
    s.connect(place); s.send(b'again'); print(s.recv(100), s.getpeername() == place)
";
    let words = ["env", "-i", "/usr/bin/python3", "-c", script];
    let run = scene.lab.presocks(words).proxy(&scene.dante).run();
    run.success().stdout_is("True\nb'again' True\n".repeat(2));
    scene.lab.assert_no_leak();
}

/// `tests/programs/udp_calls.c` in this build, after these words: messages and their control messages, many at once, to several places.
#[track_caller]
fn calls_as_ever(build: Build, before: &[&str]) {
    if missing(build.needs()) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let program = build.of(&scene.lab, "udp_calls", &[]);
    scene.same_bare_and_wrapped(&after(before, &program), &[&scene.embedded]);
}

#[test]
fn a_static_program_calls_as_ever() {
    calls_as_ever(Build::Static, &[]);
}

#[test]
fn a_static_32_bit_program_calls_as_ever() {
    calls_as_ever(Build::Narrow, &[]);
}

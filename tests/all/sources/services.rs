//! The same sockets, connected to a service at loopback: what that answers would leave.

use std::io;

use super::*;

/// The words by which `tests/programs/bound.c` speaks to the client's echo service, and to a port where nobody listens.
const HERE: &[&str] = &["to=127.0.0.1:7000"];
const HERE6: &[&str] = &["to=[::1]:7000"];
const CLOSED6: &[&str] = &["to=[::1]:9"];

/// [`Scene::set`], with an echo service on the client.
fn set() -> Option<Scene> {
    let scene = Scene::set()?;
    Service::start_on(&scene.lab.client, 7000, |stream| io::copy(&mut &*stream, &mut &*stream).map(drop));
    Some(scene)
}

/// Why all that follows is needed.
#[test]
fn without_presocks_a_service_answers_by_the_default_route_when_the_address_has_left() {
    let Some(scene) = set() else { return };
    let program = Build::Shared.of(&scene.lab, "bound", &[]);
    let words = [program.to_str().unwrap(), "own=[fd77::9]:0", "to=[::1]:7000", "leaves=1"];
    scene.ip(WAY_OUT);
    let mut program = scene.lab.bare(words).start();
    assert_eq!([program.line(), program.line()], ["connect: ok", "own: fd77::9"]);
    assert_eq!(program.line(), "before: ok");
    scene.ip(GO);
    program.write("\n");
    program.finish().success().stdout_has("after: no");
    let leaked = scene.lab.leaked();
    assert!(leaked.iter().any(|packet| packet.starts_with("::1 > fd77::9 . tcp . ")), "{leaked:?}");
}

#[test]
fn an_address_that_leaves_the_machine_takes_nothing_of_a_service_at_loopback_with_it() {
    let Some(scene) = set() else { return };
    let own = ["own=[fd77::9]:0"];
    let proxy = scene.real.url();
    for how in [&[][..], &["nonblocking=1"], &["mptcp=1"], &["fast=1"], &["only=1"], &["to=[::]:7000"]] {
        scene.goes_on(&proxy, "::1", &[&own, how, HERE6], GO);
    }
}

#[test]
fn a_service_answers_no_source_that_is_nobodys() {
    let Some(scene) = set() else { return };
    let own = ["own=[2001:db8:113::77]:0", "free=1"];
    let proxy = scene.real.url();
    scene.goes_on(&proxy, "::1", &[&own, HERE6], GO);
    for build in BUILDS {
        for how in [&[][..], &["nonblocking=1"], &["mptcp=1"], &["fast=1"]] {
            // The kernel's own answer, a reset, stays here as well; and the socket is as before.
            let outcome = scene.program(build, &proxy, &[&own, how, CLOSED6]).run();
            outcome.success().stdout_is("connect: ECONNREFUSED\nown: 2001:db8:113::77\n");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_socket_that_is_bound_to_a_port_as_well_reaches_no_service_at_loopback() {
    let Some(scene) = set() else { return };
    for own in [&["own=[fd77::9]:5555"][..], &["own=[2001:db8:113::77]:5555", "free=1"]] {
        let address = if own.len() > 1 { "2001:db8:113::77" } else { "fd77::9" };
        for build in BUILDS {
            for how in [&[][..], &["nonblocking=1"], &["fast=1"]] {
                let outcome = scene.program(build, &scene.real.url(), &[own, how, HERE6]).run();
                outcome
                    .success()
                    .stdout_is(format!("connect: ENETUNREACH\nown: {address}\n"))
                    .stderr_has(&format!("presocks: [::1]:7000 via direct: the program has bound its socket to {address} and a port: "));
            }
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_socket_that_is_bound_to_loopback_or_to_no_address_keeps_its_port() {
    let Some(scene) = set() else { return };
    for (build, own, shown, to) in BUILDS.into_iter().flat_map(|build| {
        [
            (build, "own=[::1]:5555", "::1", HERE6),
            (build, "own=[::]:5555", "::1", HERE6),
            (build, "own=127.0.0.1:5555", "127.0.0.1", HERE),
            (build, "own=0.0.0.0:5555", "127.0.0.1", HERE),
        ]
    }) {
        let outcome = scene.program(build, &scene.real.url(), &[&[own], to]).run();
        outcome.success().stdout_is(format!("connect: ok\nown: {shown}\nbefore: ok\n"));
    }
    scene.lab.assert_no_leak();
}

#[test]
fn with_loopback_routed_a_service_answers_no_ipv4_address_that_may_leave() {
    let Some(scene) = set() else { return };
    let proxy = scene.real.url();
    for build in BUILDS {
        for own in ["own=10.77.0.9:0", "own=10.77.0.9:5555"] {
            let outcome = scene.program(build, &proxy, &[&[own], HERE]).run();
            outcome.success().stdout_is("connect: ok\nown: 10.77.0.9\nbefore: ok\n");
        }
    }
    scene.lab.client.setup(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/cable/route_localnet"], "");
    scene.goes_on(&proxy, "127.0.0.1", &[&["own=10.77.0.9:0"], HERE], GO);
    let mapped = ["own=[::ffff:10.77.0.9]:0", "to=[::ffff:127.0.0.1]:7000"];
    scene.goes_on(&proxy, "::ffff:127.0.0.1", &[&mapped], GO);
    for build in BUILDS {
        let outcome = scene.program(build, &proxy, &[&["own=10.77.0.2:5555"], HERE]).run();
        outcome.success().stdout_has("connect: ENETUNREACH\n").stderr_has("to 10.77.0.2 and a port");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn routes_that_come_and_go_take_nothing_of_a_service_with_them() {
    let Some(scene) = set() else { return };
    for lines in [
        "route del local fd77::9 dev cable table local\n",
        "route replace fd77::9 via fd77::1 dev cable onlink metric 1\naddress del fd77::9/128 dev cable\n",
        &format!("route del default via fd77::1 dev cable\naddress del fd77::9/128 dev cable\n{WAY_OUT}"),
    ] {
        scene.goes_on(&scene.real.url(), "::1", &[&["own=[fd77::9]:0"], HERE6], lines);
    }
}

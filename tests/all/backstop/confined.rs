//! Programs in a sandbox that forbids what the shim takes to ask the broker: their calls are left to the seccomp filter, which asks it.

use std::fs;
use std::path::Path;

use presocks_tests::lab::{ORIGIN, ORIGIN6};
use presocks_tests::origin::{HttpServer, Service, http};
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Build, Lab, missing, patience};
use rustix::process::Signal;

use super::{same_bare_and_wrapped, stage_for};
use crate::behaviour::stage::ECHO_PORT;

/// What `tests/programs/forbidding.c` forbids.
pub(crate) const SANDBOXES: [&str; 2] = ["families", "options"];

#[track_caller]
fn does_as_ever_in(sandboxes: &[&str], name: &'static str) {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let forbidding = Build::Shared.of(&stage.lab, "forbidding", &[]);
    let program = Build::Shared.of(&stage.lab, name, &[]);
    for what in sandboxes {
        same_bare_and_wrapped(&stage, &[&forbidding, Path::new(what), &program, Path::new("hooked=1")]);
    }
}

#[test]
fn a_program_connects_in_every_way() {
    does_as_ever_in(&SANDBOXES, "plain");
}

#[test]
fn a_blocking_connect_is_the_kernels() {
    // It sets and asks for options itself.
    does_as_ever_in(&["families"], "blocking");
}

#[test]
fn datagrams_on_loopback_are_the_kernels() {
    does_as_ever_in(&SANDBOXES, "datagrams");
}

#[test]
fn names_are_looked_up() {
    if missing(&["curl", "microsocks", "python3", "getent"]) || missing(Build::Shared.needs()) {
        return;
    }
    let lab = Lab::new();
    let (proxy, _web) = (Microsocks::open(&lab), HttpServer::start(&lab));
    let forbidding = Build::Shared.of(&lab, "forbidding", &[]);
    let ask = "from socket import *
name = gethostbyname('origin.test')
print(name[:4], gethostbyaddr(name)[0], getnameinfo((name, 80), NI_NAMEREQD)[0], gethostbyname('localhost'))
for family in AF_INET, AF_INET6, AF_UNSPEC:
    print(len(getaddrinfo('origin.test', 80, family, SOCK_STREAM)))
";
    for what in SANDBOXES {
        let run = |command: &[&str]| {
            let words = [forbidding.to_str().unwrap(), what].into_iter().chain(command.iter().copied());
            lab.presocks(words).proxy(&proxy)
        };
        for ordinary in [false, true] {
            let as_user = |run: presocks_tests::Invocation<'_>| {
                if ordinary { run.ordinary_user().run() } else { run.run() }
            };
            as_user(run(&["curl", "-sS", "http://origin.test/hello"]))
                .success()
                .stdout_is(http::HELLO)
                .stderr_is("");
            as_user(run(&["python3", "-c", ask]))
                .success()
                .stdout_is("198. origin.test origin.test 127.0.0.1\n1\n1\n2\n")
                .stderr_is("");
        }
    }
    lab.assert_no_leak();
}

#[test]
fn tor_behind_its_own_list_of_calls_reaches_a_bridge() {
    if missing(&["tor", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let directory = lab.directory().join("tor-data");
    fs::create_dir(&directory).unwrap();
    for (number, host) in [ORIGIN.to_string(), format!("[{ORIGIN6}]")].iter().enumerate() {
        let bridge = Service::banner_first(&lab, 0, b"no bridge");
        let configuration = format!(
            "Sandbox 1\nSocksPort 0\nUseBridges 1\nBridge {host}:{}\nClientUseIPv6 1\nLog notice stdout\nDataDirectory {}\n",
            bridge.port(),
            directory.display(),
        );
        let file = lab.file(&format!("torrc{number}"), configuration);
        let words = ["tor", "--defaults-torrc", "/dev/null", "-f", file.to_str().unwrap()];
        let tor = lab.presocks(words).proxy(&proxy).env("HOME", &directory).start();
        patience::wait_until("a connection to the bridge", || bridge.connections() > 0);
        // Its list makes glibc set a mask of signals at random, which may hold any other back.
        tor.signal(Signal::KILL);
        tor.finish().signal(Signal::KILL).stdout_has("Bootstrapped 0%").stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn without_the_backstop_a_line_says_what_is_forbidden() {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let forbidding = Build::Shared.of(&stage.lab, "forbidding", &[]);
    let connect = format!("import socket; socket.create_connection(('{ORIGIN}', {ECHO_PORT}))");
    for (what, call) in [("families", "socket(AF_UNIX"), ("options", "getsockopt()")] {
        let words = [forbidding.to_str().unwrap(), what, "python3", "-c", &connect];
        let run = stage.lab.presocks(words).proxy(&stage.proxy).options(["--backstop=off", "-q"]).run();
        assert!(!run.status.success(), "{}", run.report());
        run.stderr_has("Network is unreachable");
        let run = stage.lab.presocks(words).proxy(&stage.proxy).options(["--backstop=off"]).run();
        run.stderr_has(call).stderr_has("forbids").stderr_has("Network is unreachable");
        assert_eq!(run.stderr().matches("forbids").count(), 1, "{}", run.report());
    }
    stage.lab.assert_no_leak();
}

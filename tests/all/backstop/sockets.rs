//! What no proxy carries: raw and packet sockets, other transports, datagrams, multicast, and io_uring, which passes
//! every filter by.

use std::ffi::OsString;
use std::path::Path;

use presocks_tests::lab::{CLIENT, CLIENT6};
use presocks_tests::origin::Service;
use presocks_tests::proxy::Microsocks;
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::{Build, Lab, missing};

use super::{arguments, bare, same_bare_and_wrapped, stage_for, wrapped};

#[test]
fn static_programs_are_refused_what_the_shim_refuses_others() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "refusals", &[]);
    let sources = [format!("source={CLIENT}"), format!("source6={CLIENT6}")].map(Into::into);
    let words = [program.into()].into_iter().chain(arguments(&stage)).chain(sources);
    let run = || stage.lab.presocks(words.clone()).proxy(&stage.proxy);
    run().run().success();
    run().ordinary_user().run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn addresses_groups_devices_and_source_routes_lead_nothing_past_the_proxy() {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let program = Build::Shared.of(&stage.lab, "detours", &[]);
    let words = ["env".into(), "-i".into(), program.into()].into_iter().chain(arguments(&stage));
    stage.lab.presocks(words.chain(["proxied=1".into()])).proxy(&stage.proxy).run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn an_ipv6_socket_that_an_ipv4_proxy_has_reset_goes_to_loopback_and_not_to_the_proxys_host() {
    let Some(stage) = stage_for(&[Build::Shared, Build::Static]) else { return };
    let proxy = Script::until_request().send(SUCCESS).expect(1).reset().start(&stage.lab);
    for build in [Build::Shared, Build::Static] {
        let program = build.of(&stage.lab, "reset", &[]);
        stage.lab.presocks([&program]).proxy(&proxy).run().success();
        stage.lab.assert_no_leak();
    }
}

#[test]
fn an_ipv6_socket_that_was_refused_over_ipv4_goes_to_an_ipv6_proxy() {
    let Some(stage) = stage_for(&[Build::Shared, Build::Static]) else { return };
    for build in [Build::Shared, Build::Static] {
        let program = build.of(&stage.lab, "reset", &[]);
        let words = [program.into()].into_iter().chain(arguments(&stage));
        stage.lab.presocks(words).proxy(&stage.proxy.url6()).run().success();
        stage.lab.assert_no_leak();
    }
}

#[test]
fn a_pending_socket_that_goes_on_in_a_static_program_fails_and_shows_nothing_of_the_handshake() {
    goes_on_without_the_shim(Build::Static, &[]);
}

#[test]
fn a_pending_socket_that_goes_on_in_a_program_with_no_preload_fails_and_shows_nothing_of_the_handshake() {
    goes_on_without_the_shim(Build::Shared, &["preload=no"]);
}

#[track_caller]
fn goes_on_without_the_shim(heir: Build, more: &[&str]) {
    let Some(stage) = stage_for(&[heir, Build::Shared]) else { return };
    let program = Build::Shared.of(&stage.lab, "bequeathed", &[]);
    let heir = heir.of(&stage.lab, "bequeathed", &[]);
    let mut words: Vec<OsString> = [program.into()].into_iter().chain(arguments(&stage)).collect();
    words.push(format!("heir={}", heir.display()).into());
    words.extend(more.iter().map(Into::into));
    let run = || stage.lab.presocks(words.clone()).proxy(&stage.proxy);
    run().run().success();
    run().ordinary_user().run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn a_socket_that_is_dissolved_tells_the_threads_that_connect_it() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "dissolving", &[]);
    same_bare_and_wrapped(&stage, &[&program, Path::new("threads=only")]);
}

/// A direct connection is the kernel's to make: nothing of presocks stands between it and the program.
#[test]
fn a_direct_non_blocking_connect_is_under_way_when_the_call_returns() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    stage.lab.permit_direct("10.88.0.0/24");
    let program = Build::Static.of(&stage.lab, "underway", &[]);
    let expected = bare(&stage, &[&program]);
    let run = || wrapped(&stage, &[&program]).options(["--direct", "10.88.0.0/24"]);
    run().run().success().stdout_is(&expected);
    run().ordinary_user().run().success().stdout_is(&expected);
    stage.lab.assert_no_leak();
}

#[test]
fn a_thread_that_writes_while_another_connects_leaks_nothing() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "datagrams_racing", &[]);
    wrapped(&stage, &[&program]).run().success();
    stage.lab.assert_no_leak();
}

/// What the kernel needs to send to a link-local address at once; the lab's client has no such address of its own.
const LINK_LOCAL: &str = "
address add fe80::77:2/64 dev cable nodad
neighbour add fe80::1 lladdr 02:00:00:00:77:01 dev cable nud permanent
neighbour add fe80::2 lladdr 02:00:00:00:77:01 dev cable nud permanent
";

#[test]
fn link_local_addresses_and_groups_lead_nothing_past_the_proxy() {
    let Some(stage) = stage_for(&[Build::Static, Build::Shared]) else { return };
    stage.lab.client.setup(&["ip", "-batch", "-"], LINK_LOCAL);
    for build in [Build::Static, Build::Shared] {
        let program = build.of(&stage.lab, "scoped", &[]);
        let run = || stage.lab.presocks([program.as_os_str(), "device=cable".as_ref()]).proxy(&stage.proxy);
        run().run().success();
        run().ordinary_user().run().success();
        stage.lab.assert_no_leak();
    }
}

#[test]
fn families_that_lead_elsewhere_are_not_there() {
    let Some(stage) = stage_for(&[Build::Static, Build::Shared]) else { return };
    for build in [Build::Static, Build::Shared] {
        let program = build.of(&stage.lab, "families", &[]);
        wrapped(&stage, &[&program]).run().success();
    }
    stage.lab.assert_no_leak();
}

#[test]
fn of_several_messages_those_before_a_bad_one_are_sent() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "partial", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn a_client_of_io_uring_goes_on_without_it() {
    let header = "/usr/include/liburing.h";
    if missing(Build::Static.needs()) || missing(&[header, "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7000);
    let proxy = Microsocks::open(&lab);
    for build in [Build::Shared, Build::Static] {
        let program = build.of(&lab, "uring", &["-luring"]);
        let run = lab.presocks([program.to_str().unwrap(), "to=10.88.0.2:7000"]).proxy(&proxy).run();
        run.success().stdout_is("no io_uring: ENOSYS\nconnect: ok\necho: ok\n");
    }
    lab.assert_no_leak();
}

#[test]
fn ping_nmap_and_traceroutes_send_nothing() {
    if missing(&["ping", "nmap", "busybox", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let commands: [&[&str]; 7] = [
        &["env", "-i", "ping", "-c", "1", "-W", "1", "10.88.0.2"],
        &["env", "-i", "ping", "-c", "1", "-W", "1", "fd88::2"],
        &["busybox", "ping", "-c", "1", "-W", "1", "10.88.0.2"],
        &["busybox", "traceroute", "-n", "-m", "2", "-q", "1", "-w", "1", "10.88.0.2"],
        &["busybox", "traceroute", "-I", "-n", "-m", "2", "-q", "1", "-w", "1", "10.88.0.2"],
        &["env", "-i", "nmap", "-sS", "-Pn", "-n", "-p", "80", "10.88.0.2"],
        &["env", "-i", "nmap", "-sU", "-Pn", "-n", "-p", "80", "10.88.0.2"],
    ];
    for command in commands {
        let run = || lab.presocks(command).proxy(&proxy);
        for outcome in [run().run(), run().ordinary_user().run()] {
            // nmap reports what it could not do and ends well.
            assert!(!outcome.status.success() || command.contains(&"nmap"), "{}", outcome.report());
            lab.assert_no_leak();
        }
    }
}

#[test]
fn ip_shows_the_addresses_of_the_machine() {
    if missing(&["ip", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let words = ["env", "-i", "ip", "address", "show", "dev", "cable"];
    let bare = lab.bare(words).run();
    lab.presocks(words)
        .proxy(&proxy)
        .run()
        .success()
        .stdout_is(bare.stdout())
        .stdout_has(&CLIENT.to_string());
    lab.assert_no_leak();
}

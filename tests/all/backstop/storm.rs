//! Calls at random on sockets at random: the proof that no path of the shim, the filter or the broker ends in a direct connection. The seeds are
//! fixed, so that a failure comes again.

use std::time::{Duration, Instant};

use presocks_tests::Build;
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{Embedded, UnixDoor, Upstream};

use super::{arguments, stage_for};

const SEEDS: [u32; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 31, 50, 77];

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
            "listening=0".into(),
        ];
        before.iter().map(Into::into).chain(own).chain(arguments(&stage)).collect::<Vec<_>>()
    };
    for seed in SEEDS {
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

/// The first breaks off, the second is at a Unix socket, so that a relay is needed, and rules and a rewrite send destinations to either, or nowhere.
#[test]
fn nothing_leaves_past_chains_relays_and_rules() {
    let builds = [Build::Shared, Build::Static];
    let Some(stage) = stage_for(&builds) else { return };
    let door = UnixDoor::before(&stage.lab, stage.proxy.port());
    let broken = Script::new().start(&stage.lab);
    let routes = [
        ["--order", "failover", "--failover-on-refusal"].as_slice(),
        &[
            "--order",
            "dynamic",
            "--rule",
            "address=10.88.0.3 via=deny",
            "--rule",
            "name=.test port=4 via=deny",
        ],
        &["--order", "random", "--rewrite", "10.88.0.2:4=10.88.0.2:7000", "--isolate", "process"],
    ];
    for (build, options) in builds.iter().flat_map(|build| routes.map(|options| (build, options))) {
        let program = build.of(&stage.lab, "storm", &[]);
        for seed in SEEDS {
            let own = [program.clone().into(), format!("seed={seed}").into()];
            let words = own.into_iter().chain(["killing=0", "listening=0"].map(Into::into));
            let run = stage.lab.presocks(words.chain(arguments(&stage)));
            let run = run.proxy(&broken).proxy(&door.url("socks5+unix", "")).options(options.iter().copied());
            run.options(["-q", "--timeout", "2", "--handshake-timeout", "1"]).run().success();
            stage.lab.assert_no_leak();
        }
    }
    assert!(door.connections() > 0, "nothing was relayed, and so nothing is proved");
}

/// Sockets that listen beside connections through a proxy that listens for them, that are bound to its address, and connect after all.
#[test]
fn nothing_leaves_of_programs_for_which_the_proxy_listens() {
    let builds = [Build::Shared, Build::Static, Build::Narrow];
    let Some(stage) = stage_for(&builds) else { return };
    let at_its_address = [5, 0, 0, 1, 203, 0, 113, 9, 15, 160];
    let proxy = Script::until_request().send(at_its_address).read_all().start(&stage.lab);
    for (build, killing) in builds.iter().flat_map(|build| [(build, 0), (build, 1)]) {
        let program = build.of(&stage.lab, "storm", &[]);
        for seed in SEEDS {
            let own = [program.clone().into(), format!("seed={seed}").into()];
            let words = own.into_iter().chain([format!("killing={killing}").into(), "listening=1".into()]);
            let run =
                stage.lab.presocks(words.chain(arguments(&stage))).proxy(&proxy).options(["--bind", "-q"]);
            run.options(["--udp", "deny", "--timeout", "2", "--handshake-timeout", "1"]).run().success();
            stage.lab.assert_no_leak();
        }
    }
    let is_bind = |received: &[u8]| received.windows(4).any(|bytes| matches!(bytes, [5, 2, 0, 1 | 3 | 4]));
    let binds = proxy.connections().iter().filter(|connection| is_bind(&connection.received)).count();
    assert!(binds > 0, "nobody had the proxy listen, and so nothing is proved");
}

/// Is it a datagram over IPv6 to an IPv4-mapped address? udpv6_sendmsg() looks twice where the socket is connected to, and sends it when another thread
/// connects the socket to a mapped address in between. Nothing else sends such a packet (SECURITY.md).
fn is_the_kernels_own(packet: &str) -> bool {
    packet.starts_with("::ffff:") && packet.contains(" . udp . ")
}

/// Threads that share the sockets: a call is judged, and its descriptor then means another socket. Where threads race, a seed does not repeat a run, so
/// more runs see more: PRESOCKS_STORM_SECONDS says for how long to go on with new seeds.
#[test]
fn nothing_leaves_of_three_threads_that_share_their_sockets() {
    let builds = [Build::Shared, Build::Static, Build::Narrow];
    let Some(stage) = stage_for(&builds) else { return };
    let proxy = Embedded::open(&stage.lab);
    let seconds = std::env::var("PRESOCKS_STORM_SECONDS").map_or(0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let more = (1000..).take_while(|_| Instant::now() < end);
    for seed in SEEDS.into_iter().chain(more) {
        for (build, is_root) in builds.iter().flat_map(|build| [(build, true), (build, false)]) {
            let program = build.of(&stage.lab, "storm", &[]);
            let own = [program.into(), format!("seed={seed}").into(), "threads=3".into()];
            let words = own.into_iter().chain(["killing=0", "listening=0"].map(Into::into));
            let run = stage.lab.presocks(words.chain(arguments(&stage))).proxy(&proxy);
            let run = run.options(["-q", "--timeout", "2"]);
            let run = if is_root { run } else { run.ordinary_user() };
            run.run().success();
            let mut leaked = stage.lab.leaked();
            leaked.retain(|packet| !is_the_kernels_own(packet));
            assert!(leaked.is_empty(), "seed {seed}, {build:?}, root: {is_root}:\n{}", leaked.join("\n"));
        }
    }
}

//! One of three proxies fails: an errno, and one line that names it, at each place. Nothing goes on without it.

use presocks_tests::lab::{ORIGIN, PASSWORD};
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{Gate, Script, reply};
use presocks_tests::{Outcome, missing};

use super::Kind::{DanteWithPassword, Microsocks as Small, MicrosocksWithPassword, TinyproxyWithPassword};
use super::{NEEDS, Proxies, shown, through};
use crate::behaviour::program::compile;

const PORT: u16 = 7000;

/// Three proxies in a line, the probe, and an origin that must not see a connection.
struct Scene {
    proxies: Proxies,
    probe: String,
    origin: Service,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&NEEDS) || missing(&["cc"]) {
            return None;
        }
        let proxies = Proxies::line(&[MicrosocksWithPassword, DanteWithPassword, TinyproxyWithPassword]);
        let probe = compile(&proxies.lab, "probe").to_str().unwrap().to_owned();
        let origin = Service::echo(&proxies.lab, PORT);
        Some(Self { proxies, probe, origin })
    }

    fn run(&self, urls: &[String], options: &[&str], mode: &str) -> Outcome {
        let (to, mode) = (format!("to={ORIGIN}:{PORT}"), format!("mode={mode}"));
        let times = format!("times={}", times(options));
        through(&self.proxies.lab, urls, &[&self.probe, &to, &mode, &times], options).run()
    }

    /// Every kind of connect fails with `errno`; one line names the proxy and its place before it says why.
    #[track_caller]
    fn fails_at(&self, number: usize, urls: &[String], options: &[&str], errno: &str, why: &str) {
        for mode in ["blocking", "epoll"] {
            let outcome = self.run(urls, options, mode);
            outcome.success().stdout_is(format!("connect: {errno}\nunusable\n").repeat(times(options)));
            let said = outcome.stderr();
            // After the chain comes the one of it that has failed.
            let (_, culprit) = said.split_once(" at ").unwrap_or_default();
            let is_named = culprit.split(' ').next().is_some_and(|word| word.contains(&shown(number)));
            let is_placed = said.contains(&format!("(proxy {number} of {})", urls.len()));
            assert!(
                said.lines().count() == 1
                    && is_named
                    && is_placed
                    && said.contains(why)
                    && !said.contains(PASSWORD),
                "proxy {number}, {why}\n{}",
                outcome.report()
            );
        }
        assert_eq!(self.origin.connections(), 0);
        self.proxies.lab.assert_no_leak();
    }
}

/// Twice, so that what is said twice shows, but for those that wait for their time to be up.
fn times(options: &[&str]) -> usize {
    if options.is_empty() { 2 } else { 1 }
}

/// Seconds in which a proxy that answers at all does so, however busy the machine is.
const LIMIT: &str = "3";

#[test]
fn a_dead_proxy_is_named() {
    let Some(mut scene) = Scene::set() else { return };
    for number in [3, 2, 1] {
        scene.proxies.kill(number);
        let urls = scene.proxies.urls.clone();
        scene.fails_at(number, &urls, &[], "ENETUNREACH", "");
    }
}

#[test]
fn a_wrong_password_is_the_fault_of_the_proxy_that_wants_another() {
    let Some(scene) = Scene::set() else { return };
    for number in 1..=3 {
        let mut urls = scene.proxies.urls.clone();
        urls[number - 1] = urls[number - 1].replace(PASSWORD, "hunter2");
        scene.fails_at(number, &urls, &[], "EACCES", "password");
    }
}

#[test]
fn a_proxy_of_another_kind_is_named() {
    let Some(scene) = Scene::set() else { return };
    let urls = &scene.proxies.urls;
    let wrong = [
        urls[0].replace("socks5:", "http:"),
        urls[1].replace("socks5:", "http:"),
        urls[2].replace("http:", "socks5:"),
    ];
    // tinyproxy waits for a line that never ends.
    for (number, errno) in [(1, "ENETUNREACH"), (2, "ENETUNREACH"), (3, "ETIMEDOUT")] {
        let mut urls = urls.clone();
        urls[number - 1].clone_from(&wrong[number - 1]);
        scene.fails_at(number, &urls, &["--handshake-timeout", LIMIT], errno, "");
    }
}

/// A scripted proxy in the place of each in turn.
#[test]
fn a_proxy_that_refuses_or_closes_is_named() {
    let Some(mut scene) = Scene::set() else { return };
    for number in 1..=3 {
        scene.proxies.kill(number);
        for (script, errno, why) in [
            (Script::new().greeting().send([5, 0xff]).read_all(), "EACCES", "authentication methods"),
            (Script::new().greeting().close(), "ENETUNREACH", "closed the connection"),
            (
                Script::new().greeting().send("SSH-2.0-OpenSSH_9.2p1\r\n").read_all(),
                "ENETUNREACH",
                "does not speak SOCKS5",
            ),
        ] {
            let mut urls = scene.proxies.urls.clone();
            let scripted = script.start_at(&scene.proxies.lab, scene.proxies.hops.site(number));
            urls[number - 1] = scripted.url_as("socks5");
            scene.fails_at(number, &urls, &[], errno, why);
        }
        scene = Scene::set().unwrap();
    }
}

/// What a proxy says of the next one is told of the next one; what the last says is told of the destination.
#[test]
fn a_refusal_is_told_of_the_proxy_that_is_not_reached() {
    let Some(scene) = Scene::set() else { return };
    for number in 1..=2 {
        let script = Script::until_request().send(reply(5)).read_all();
        let scripted = script.start_at(&scene.proxies.lab, scene.proxies.hops.site(number));
        let mut urls = scene.proxies.urls.clone();
        urls[number - 1] = scripted.url_as("socks5");
        scene.fails_at(number + 1, &urls, &[], "ENETUNREACH", "connection refused (reply 5)");
    }
    let script = Script::until_request().send(reply(5)).read_all();
    let scripted = script.start_at(&scene.proxies.lab, scene.proxies.hops.site(3));
    let mut urls = scene.proxies.urls.clone();
    urls[2] = scripted.url_as("socks5");
    scene.fails_at(3, &urls, &[], "ECONNREFUSED", "connection refused (reply 5)");
}

#[test]
fn a_proxy_that_says_nothing_is_named_when_its_time_is_up() {
    let Some(scene) = Scene::set() else { return };
    let never = Gate::closed();
    for number in 1..=3 {
        for script in [Script::new(), Script::new().greeting()] {
            let scripted = script.pass(&never).start_at(&scene.proxies.lab, scene.proxies.hops.site(number));
            let mut urls = scene.proxies.urls.clone();
            urls[number - 1] = scripted.url_as("socks5");
            for option in ["--handshake-timeout", "--timeout"] {
                let outcome = scene.run(&urls, &[option, LIMIT], "epoll");
                outcome.stdout_is("connect: ETIMEDOUT\nunusable\n").stderr_has("3s");
                outcome.stderr_has(&format!("at {} (proxy {number} of 3)", scripted.url_as("socks5")));
            }
        }
    }
    never.open();
    scene.proxies.lab.assert_no_leak();
}

/// Asked for the next proxy, it never answers: that one is not reached, and has `--handshake-timeout` to be.
#[test]
fn a_request_for_the_next_proxy_that_is_never_answered_is_limited() {
    let Some(scene) = Scene::set() else { return };
    let never = Gate::closed();
    for number in 1..=2 {
        let script = Script::until_request().pass(&never);
        let scripted = script.start_at(&scene.proxies.lab, scene.proxies.hops.site(number));
        let mut urls = scene.proxies.urls.clone();
        urls[number - 1] = scripted.url_as("socks5");
        scene.fails_at(number + 1, &urls, &["--handshake-timeout", LIMIT], "ETIMEDOUT", "3s");
    }
    never.open();
}

/// Its host swallows every packet: the first has `--connect-timeout` to accept, the next what the one before it has to answer.
#[test]
fn a_proxy_that_does_not_accept_is_named_when_its_time_is_up() {
    let Some(scene) = Scene::set() else { return };
    let urls = &scene.proxies.urls;
    for (number, option, why) in [
        (3, "--handshake-timeout", "did not answer within 3s"),
        (2, "--handshake-timeout", "did not answer within 3s"),
        (1, "--connect-timeout", "did not accept the connection within 3s"),
    ] {
        let drop = "table inet silence { chain input { type filter hook input priority 0; iifname cable drop; }; }\n";
        scene.proxies.hops.site(number).host.setup(&["nft", "-f", "-"], drop);
        scene.fails_at(number, urls, &[option, LIMIT], "ETIMEDOUT", why);
    }
}

/// A SOCKS4 proxy cannot be asked for a name, be it the next proxy's or the destination's.
#[test]
fn what_a_hop_cannot_carry_is_told_with_its_name() {
    let Some(scene) = Scene::set() else { return };
    let lab = &scene.proxies.lab;
    let ask = |urls: &[String], destination: &str| {
        let to = format!("to={destination}");
        through(lab, urls, &[&scene.probe, &to, "mode=poll"], &[]).run()
    };
    let old = Script::new().read_all().start_at(lab, scene.proxies.hops.site(3));
    let mut urls = scene.proxies.urls.clone();
    urls[2] = old.url_as("socks4");
    let outcome = ask(&urls, "origin.test:7000");
    outcome.stdout_is("connect: EHOSTUNREACH\nunusable\n").stderr_has("SOCKS4 carries no names");
    outcome.stderr_has(&format!("at {} (proxy 3 of 3)", urls[2]));
    urls[2] = old.url_as("socks4a");
    let outcome = ask(&urls, "fd88::2:7000");
    outcome.stdout_is("connect: ENETUNREACH\nunusable\n").stderr_has("no IPv6 addresses");
    outcome.stderr_has(&format!("at {} (proxy 3 of 3)", urls[2]));
    assert!(old.connections().iter().all(|connection| connection.received.is_empty()));
    let old = Script::new().read_all().start_at(lab, scene.proxies.hops.site(1));
    let named = vec![old.url_as("socks4"), "socks5://hop2.test:1081".to_owned()];
    let outcome = ask(&named, "10.88.0.2:7000");
    outcome
        .stdout_is("connect: ENETUNREACH\nunusable\n")
        .stderr_has("SOCKS4 carries no names")
        .stderr_has("hop2.test");
    lab.assert_no_leak();
}

#[test]
fn a_chain_with_one_dead_proxy_recovers_when_it_is_back() {
    if missing(&NEEDS) {
        return;
    }
    let mut proxies = Proxies::line(&[Small, Small, Small]);
    let _origin = super::tell_the_last_hop(&proxies.lab);
    let program = "
import socket, sys
for line in sys.stdin:
    try:
        with socket.create_connection(('10.88.0.2', 9000)) as s: print(s.recv(100).decode(), flush=True)
    except OSError as error: print('failed', flush=True)";
    proxies.kill(2);
    let urls = proxies.urls.clone();
    let words = ["/usr/bin/python3", "-c", program];
    let (hops, lab) = (&proxies.hops, &proxies.lab);
    let mut running = through(lab, &urls, &words, &["-q"]).start();
    running.write("go\n");
    assert_eq!(running.line(), "failed");
    let _again = presocks_tests::proxy::Microsocks::open_at(lab, hops.site(2));
    running.write("go\n");
    assert_eq!(running.line(), "3");
    running.finish().success();
    lab.assert_no_leak();
}

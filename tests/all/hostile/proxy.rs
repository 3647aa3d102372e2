//! Hostile proxies, scripted: whatever they say, the program gets an errno that fits, its socket is unusable, one line
//! on stderr names proxy, destination and cause, and the destination sees no connection.

use presocks_tests::lab::{ORIGIN, PROXY, REFUSED_PORT, UNREACHABLE};
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script, reply};
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Upstream, of_kind, url};
use presocks_tests::{Lab, Outcome, missing};

use crate::behaviour::program::compile;

pub(crate) const PORT: u16 = 7000;
pub(crate) const MODES: [&str; 3] = ["blocking", "poll", "epoll"];

/// A lab with the probe and an origin that counts its connections.
pub(crate) struct Scene {
    probe: std::path::PathBuf,
    origin: Service,
    pub(crate) lab: Lab,
}

impl Scene {
    pub(crate) fn set() -> Option<Self> {
        if missing(&["cc"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { probe: compile(&lab, "probe"), origin: Service::echo(&lab, PORT), lab })
    }

    pub(crate) fn probe(&self, upstream: &impl Upstream, options: &[&str], arguments: &[&str]) -> Outcome {
        self.probe_at(&format!("{ORIGIN}:{PORT}"), upstream, options, arguments)
    }

    pub(crate) fn probe_at(
        &self,
        destination: &str,
        upstream: &impl Upstream,
        options: &[&str],
        arguments: &[&str],
    ) -> Outcome {
        let to = format!("to={destination}");
        let words = [self.probe.to_str().unwrap(), &to];
        self.lab
            .presocks(words.iter().chain(arguments))
            .proxy(upstream)
            .options(options.iter().copied())
            .run()
    }

    /// A proxy with this script makes every kind of connect fail with `errno`, and says so once.
    #[track_caller]
    fn fails(&self, what: &str, script: Script, errno: &str) {
        self.fails_with(what, script, errno, &[], None);
    }

    #[track_caller]
    fn fails_with(
        &self,
        what: &str,
        script: Script,
        errno: &str,
        options: &[&str],
        credentials: Option<(&str, &str)>,
    ) {
        self.fails_as("socks5", what, script, errno, options, credentials);
    }

    /// The same with a proxy of any kind.
    #[track_caller]
    pub(crate) fn fails_as(
        &self,
        scheme: &str,
        what: &str,
        script: Script,
        errno: &str,
        options: &[&str],
        credentials: Option<(&str, &str)>,
    ) {
        let proxy = script.start(&self.lab);
        for mode in MODES {
            let mode = format!("mode={mode}");
            let upstream = of_kind(scheme, &url(credentials, proxy.port()));
            let outcome = self.probe(&upstream, options, &[&mode, "times=3"]);
            let expected = format!("connect: {errno}\nunusable\n").repeat(3);
            assert!(
                outcome.stdout() == expected && outcome.status.success(),
                "{what}, {mode}: expected {errno}\n{}",
                outcome.report()
            );
            assert_one_line(what, &outcome, &proxy);
        }
        self.assert_untouched(what);
    }

    #[track_caller]
    pub(crate) fn assert_untouched(&self, what: &str) {
        assert_eq!(self.origin.connections(), 0, "{what}: the destination saw a connection");
        self.lab.assert_no_leak();
    }
}

/// One line in all, which names both ends and holds no password.
#[track_caller]
fn assert_one_line(what: &str, outcome: &Outcome, proxy: &ScriptedProxy) {
    let message = outcome.stderr();
    let names_both = message.contains(&format!("{PROXY}:{}", proxy.port()))
        && message.contains(&format!("{ORIGIN}:{PORT}"));
    assert!(
        message.lines().count() == 1 && message.starts_with("presocks: ") && names_both,
        "{what}: expected one line that names proxy and destination\n{}",
        outcome.report()
    );
    assert!(!message.contains("s3cret"), "{what}: the password is shown\n{}", outcome.report());
}

#[test]
fn each_reply_code_becomes_its_errno() {
    let Some(scene) = Scene::set() else { return };
    let table = [
        (1, "ENETUNREACH"),
        (2, "EACCES"),
        (3, "ENETUNREACH"),
        (4, "EHOSTUNREACH"),
        (5, "ECONNREFUSED"),
        (6, "ETIMEDOUT"),
        (7, "ECONNREFUSED"),
        (8, "ENETUNREACH"),
        (9, "ENETUNREACH"),
        (0xf0, "EHOSTUNREACH"),
        (0xf4, "EACCES"),
        (0xf6, "EHOSTUNREACH"),
        (0xf7, "ETIMEDOUT"),
        (255, "ENETUNREACH"),
    ];
    for (code, errno) in table {
        scene.fails(&format!("reply {code}"), Script::until_request().send(reply(code)), errno);
    }
}

#[test]
fn a_server_that_does_not_speak_socks5_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    let scripts = [
        ("SOCKS4 greeting", Script::new().greeting().send([4, 0])),
        ("HTTP", Script::new().greeting().send(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("zeros", Script::new().greeting().send([0; 64])),
        ("version 0 in the reply", Script::until_request().send([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])),
        ("version 4 in the reply", Script::until_request().send([4, 90, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("unknown address type", Script::until_request().send([5, 0, 0, 2, 0, 0, 0, 0, 0, 0])),
        ("banner before the greeting", Script::new().send(b"220 mail ready\r\n").greeting()),
    ];
    for (what, script) in scripts {
        scene.fails(what, script, "ENETUNREACH");
    }
}

#[test]
fn refused_methods_and_credentials_give_eacces() {
    let Some(scene) = Scene::set() else { return };
    let user = Some(("user", "s3cret"));
    let rejected = Script::new().greeting().send([5, 2]).expect(2 + 4 + 1 + 6).send([1, 1]);
    scene.fails("no acceptable method", Script::new().greeting().send([5, 255]), "EACCES");
    scene.fails_with(
        "no acceptable method, user",
        Script::new().greeting().send([5, 255]),
        "EACCES",
        &[],
        user,
    );
    scene.fails_with("rejected", rejected, "EACCES", &[], user);
}

#[test]
fn a_method_that_was_not_offered_fails_closed() {
    let Some(scene) = Scene::set() else { return };
    for method in [1, 2, 9] {
        let what = format!("method {method} unasked");
        let proxy = Script::new().greeting().send([5, method]).read_all().start(&scene.lab);
        let outcome = scene.probe(&proxy, &[], &[]);
        assert!(
            outcome.stdout() == "connect: ENETUNREACH\nunusable\n"
                || outcome.stdout() == "connect: EACCES\nunusable\n",
            "{what}\n{}",
            outcome.report()
        );
        assert_one_line(&what, &outcome, &proxy);
        scene.assert_untouched(&what);
    }
}

#[test]
fn a_connection_that_ends_at_any_stage_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    let asked = "after the request";
    let stages: [(&str, Script); 5] = [
        ("at once", Script::new()),
        ("after the greeting", Script::new().greeting()),
        ("amid the method", Script::new().greeting().send([5])),
        (asked, Script::until_request()),
        ("amid the reply", Script::until_request().send(&SUCCESS[..7])),
    ];
    for (when, script) in stages {
        // Who closes the connection when it has been asked says so that it cannot connect.
        let errno = if when == asked { "ECONNREFUSED" } else { "ENETUNREACH" };
        scene.fails(&format!("closed {when}"), script.clone().close(), errno);
        // Where a reset meets the handshake is chance, so the causes may differ: each attempt may have its line.
        let proxy = script.reset().start(&scene.lab);
        let outcome = scene.probe(&proxy, &[], &["mode=epoll", "times=3"]);
        outcome.stdout_is("connect: ENETUNREACH\nunusable\n".repeat(3));
        assert!((1..=3).contains(&outcome.stderr().lines().count()), "{}", outcome.report());
        scene.assert_untouched(when);
    }
}

#[test]
fn silence_at_any_stage_gives_etimedout() {
    let Some(scene) = Scene::set() else { return };
    let never = Gate::closed();
    let stages = [
        ("to the greeting", Script::new().greeting()),
        ("amid the method", Script::new().greeting().send([5])),
        ("to the request", Script::until_request()),
        ("amid the reply", Script::until_request().send(&SUCCESS[..9])),
    ];
    for (when, script) in stages {
        let proxy = script.pass(&never).start(&scene.lab);
        for mode in MODES {
            let mode = format!("mode={mode}");
            let outcome = scene.probe(&proxy, &["--timeout", "1"], &[&mode]);
            assert!(
                outcome.stdout() == "connect: ETIMEDOUT\nunusable\n",
                "silent {when}, {mode}\n{}",
                outcome.report()
            );
            assert_one_line(when, &outcome, &proxy);
        }
        scene.assert_untouched(when);
    }
    never.open();
}

#[test]
fn a_proxy_that_is_down_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    scene.lab.permit_proxy_port(9);
    let upstream = url(None, 9);
    for mode in MODES {
        let outcome = scene.probe(&upstream, &[], &[&format!("mode={mode}"), "times=3"]);
        outcome.stdout_is("connect: ENETUNREACH\nunusable\n".repeat(3));
        assert!(
            outcome.stderr().lines().count() == 1 && outcome.stderr().contains(&format!("{PROXY}:9")),
            "{}",
            outcome.report()
        );
    }
    scene.assert_untouched("proxy down");
}

#[test]
fn quiet_says_nothing_and_verbose_never_shows_the_password() {
    let Some(scene) = Scene::set() else { return };
    let script = Script::until_request().send(reply(5));
    let proxy = script.start(&scene.lab);
    scene.probe(&proxy, &["-q"], &["times=3"]).stderr_is("");
    let upstream = url(Some(("user", "s3cret")), proxy.port());
    let outcome = scene.probe(&upstream, &["-v"], &["times=3"]);
    assert!(!outcome.stderr().contains("s3cret"), "{}", outcome.report());
}

#[test]
fn two_causes_are_two_lines_however_many_connections() {
    if missing(&["microsocks"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let proxy = Microsocks::open(&scene.lab);
    let probe = scene.probe.to_str().unwrap();
    let script = format!(
        "{probe} to={ORIGIN}:{REFUSED_PORT} times=5; {probe} to={UNREACHABLE}:80 times=5; {probe} to={ORIGIN}:{REFUSED_PORT}"
    );
    let outcome = scene.lab.presocks(["sh", "-c", &script]).proxy(&proxy).run();
    let message = outcome.stderr();
    assert!(
        message.lines().count() == 2 && message.contains("10.88.0.2:4") && message.contains("10.99.0.1:80"),
        "{}",
        outcome.report()
    );
}

#[test]
fn not_a_byte_after_the_reply_is_lost_or_made_up() {
    let Some(scene) = Scene::set() else { return };
    let banner = b"220 hello\r\n";
    let domain = [&[5, 0, 0, 3, 11][..], b"origin.test", &[27, 88]].concat();
    let ipv6 = [&[5, 0, 0, 4][..], &[0xfd; 16], &[27, 88]].concat();
    let empty_domain = vec![5, 0, 0, 3, 0, 0, 0];
    let replies =
        [("IPv4", SUCCESS.to_vec()), ("domain", domain), ("IPv6", ipv6), ("empty domain", empty_domain)];
    for (what, reply) in replies {
        let together = [&reply[..], banner].concat();
        let scripts = [
            Script::until_request().send(&together),
            Script::until_request().send(&reply).send(banner),
            Script::until_request().dribble(&together),
            Script::new().greeting().dribble([5, 0]).request().dribble(&together),
        ];
        for (how, script) in scripts.into_iter().enumerate() {
            let proxy = script.expect(5).read_all().start(&scene.lab);
            for mode in MODES {
                let arguments = [&format!("mode={mode}"), "expect=11", "say=quit\n"];
                let outcome = scene.probe(&proxy, &[], &arguments);
                let expected = "connect: ok\npeer: the one asked for\nreceived: 220 hello\r\n\n";
                assert!(
                    outcome.stdout() == expected,
                    "bound to {what}, script {how}, {mode}\n{}",
                    outcome.report()
                );
            }
            for connection in proxy.finished(MODES.len()) {
                assert!(
                    connection.received.ends_with(b"quit\n"),
                    "bound to {what}, script {how}: {connection:?}"
                );
            }
        }
    }
    scene.assert_untouched("extra bytes");
}

#[test]
fn a_server_that_speaks_and_closes_at_once_is_heard_to_its_end() {
    let Some(scene) = Scene::set() else { return };
    let farewell = [&SUCCESS[..], b"421 too busy"].concat();
    let proxy = Script::until_request().send(farewell).close().start(&scene.lab);
    for mode in MODES {
        let mode = format!("mode={mode}");
        let outcome = scene.probe(&proxy, &[], &[&mode, "expect=40"]);
        assert!(
            outcome.stdout().starts_with("connect: ok\n")
                && outcome.stdout().ends_with("received: 421 too busy\n"),
            "{mode}\n{}",
            outcome.report()
        );
    }
}

#[test]
fn nothing_is_sent_before_the_reply_however_late_it_is() {
    let Some(scene) = Scene::set() else { return };
    let gate = Gate::closed();
    let script = Script::until_request().pass(&gate).send(SUCCESS).expect(5).read_all();
    let proxy = script.start(&scene.lab);
    let to = format!("to={ORIGIN}:{PORT}");
    let words = [scene.probe.to_str().unwrap(), &to, "mode=epoll", "say=hello"];
    let running = scene.lab.presocks(words).proxy(&proxy).start();
    gate.wait_for_arrivals(1);
    let so_far = proxy.connections()[0].received.len();
    assert_eq!(so_far, proxy.connections()[0].pieces.concat().len());
    gate.open();
    running.finish().success().stdout_is("connect: ok\npeer: the one asked for\n");
    let received = &proxy.finished(1)[0].received;
    assert_eq!(&received[so_far..], b"hello");
}

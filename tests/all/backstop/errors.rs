//! A caught connect that fails has the errno of the cause, and the socket is unusable until it is connected again.
//! (That it can be is a check of `plain.c`.)

use std::path::PathBuf;

use presocks_tests::lab::{ORIGIN, REFUSED_PORT, UNREACHABLE};
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{Gate, Script, reply};
use presocks_tests::proxy::{Dante, Upstream, url};
use presocks_tests::{Build, Lab, missing};

const PORT: u16 = 7000;

struct Scene {
    probe: PathBuf,
    origin: Service,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(Build::Static.needs()) || missing(&["danted"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { probe: Build::Static.of(&lab, "probe", &[]), origin: Service::echo(&lab, PORT), lab })
    }

    /// Blocking or not, the connect fails so.
    #[track_caller]
    fn fails(&self, upstream: &impl Upstream, options: &[&str], to: &str, errno: &str) {
        for mode in ["mode=blocking", "mode=poll"] {
            let to = format!("to={to}");
            let words = [self.probe.to_str().unwrap(), &to, mode];
            let outcome = self.lab.presocks(words).proxy(upstream).options(options).run();
            outcome.success().stdout_is(format!("connect: {errno}\nunusable\n"));
            let said = outcome.stderr();
            assert!(said.starts_with("presocks: ") && said.lines().count() == 1, "{}", outcome.report());
        }
        assert_eq!(self.origin.connections(), 0);
        self.lab.assert_no_leak();
    }
}

#[test]
fn a_refused_and_an_unreachable_destination_give_their_errno() {
    let Some(scene) = Scene::set() else { return };
    let proxy = Dante::open(&scene.lab);
    scene.fails(&proxy, &[], &format!("{ORIGIN}:{REFUSED_PORT}"), "ECONNREFUSED");
    scene.fails(&proxy, &[], &format!("{UNREACHABLE}:80"), "EHOSTUNREACH");
    scene.fails(&proxy, &[], &format!("origin.test:{REFUSED_PORT}"), "ECONNREFUSED");
}

#[test]
fn a_proxy_that_is_gone_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    const NOBODY: u16 = 5001;
    scene.lab.permit_proxy_port(NOBODY);
    scene.fails(&url(None, NOBODY), &[], &format!("{ORIGIN}:{PORT}"), "ENETUNREACH");
}

#[test]
fn a_proxy_that_does_not_answer_in_time_gives_etimedout() {
    let Some(scene) = Scene::set() else { return };
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).start(&scene.lab);
    scene.fails(&proxy, &["--timeout", "1"], &format!("{ORIGIN}:{PORT}"), "ETIMEDOUT");
    gate.open();
}

#[test]
fn reply_codes_and_broken_proxies_give_their_errno() {
    let Some(scene) = Scene::set() else { return };
    let scripts = [
        (Script::until_request().send(reply(1)), "ENETUNREACH"),
        (Script::until_request().send(reply(2)), "EACCES"),
        (Script::until_request().send(reply(6)), "ETIMEDOUT"),
        (Script::new().greeting().send([5, 0xff]), "EACCES"),
        (Script::until_request().close(), "ECONNREFUSED"),
        (Script::until_request().reset(), "ENETUNREACH"),
        (Script::new().greeting().send(b"HTTP/1.0 400 no\r\n"), "ENETUNREACH"),
    ];
    for (script, errno) in scripts {
        scene.fails(&script.start(&scene.lab), &[], &format!("{ORIGIN}:{PORT}"), errno);
    }
}

//! Programs that have seccomp filters of their own.

use std::fs;
use std::path::PathBuf;

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::{Microsocks, Upstream as _};
use presocks_tests::{Build, Invocation, Lab, binary, missing, patience};
use rustix::process::Signal;

const ECHO: u16 = 7000;
const KILLED: &str = "was killed by a seccomp filter";
const ALONE: &str = "presocks env -u LD_PRELOAD";

struct Scene {
    program: PathBuf,
    proxy: Microsocks,
    _echo: Service,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&["microsocks", "sh", "env", "cat"]) || missing(Build::Shared.needs()) {
            return None;
        }
        let lab = Lab::new();
        Some(Self {
            program: Build::Shared.of(&lab, "sandboxed", &[]),
            proxy: Microsocks::open(&lab),
            _echo: Service::echo(&lab, ECHO),
            lab,
        })
    }

    /// The program's words.
    fn sandboxed(&self, filter: &str) -> [String; 3] {
        let program = self.program.to_str().unwrap().to_owned();
        [program, format!("filter={filter}"), format!("to={ORIGIN}:{ECHO}")]
    }

    fn run(&self, before: &[&str], filter: &str) -> Invocation<'_> {
        let words = before.iter().map(ToString::to_string).chain(self.sandboxed(filter));
        self.lab.presocks(words).proxy(&self.proxy)
    }
}

#[test]
fn a_command_that_its_own_filter_kills_is_told_of_and_the_backstop_alone_serves_it() {
    let Some(scene) = Scene::set() else { return };
    let killed = scene.run(&[], "kill").run();
    killed.signal(Signal::SYS).stdout_is("").stderr_has(KILLED).stderr_has("sandboxed").stderr_has(ALONE);
    assert_eq!(killed.stderr().lines().count(), 1, "{}", killed.report());
    scene.run(&[], "kill").options(["-q"]).run().signal(Signal::SYS).stderr_is("");
    let alone = scene.run(&["env", "-u", "LD_PRELOAD"], "kill").run();
    alone.success().stdout_is("connect: ok\n").stderr_is("");
    scene.lab.assert_no_leak();
}

#[test]
fn without_the_backstop_nobody_is_told_to_do_without_the_shim() {
    let Some(scene) = Scene::set() else { return };
    let killed = scene.run(&[], "kill").options(["--backstop=off"]).run();
    killed.signal(Signal::SYS).stderr_has(KILLED);
    assert!(!killed.stderr().contains(ALONE), "{}", killed.report());
    scene.lab.assert_no_leak();
}

#[test]
fn an_orphan_that_its_own_filter_kills_is_told_of() {
    let Some(scene) = Scene::set() else { return };
    let within = |name: &str| scene.lab.directory().join(name);
    let (presocks, url, program) =
        (binary::presocks().display(), scene.proxy.url(), scene.sandboxed("kill").join(" "));
    let orphan = format!("{program} orphan=1 go=go; touch go; read line");
    let script = format!("exec {presocks} -p {url} sh -c '{orphan}' 2> said");
    let mut session = scene.lab.bare(["sh", "-c", &script]).start();
    let said = || fs::read_to_string(within("said")).unwrap_or_default();
    patience::wait_until("a line about the orphan", || said().contains(KILLED));
    session.write("go\n");
    session.finish().success();
    assert!(said().starts_with("presocks: sandboxed") && said().lines().count() == 1, "{}", said());
    scene.lab.assert_no_leak();
}

#[test]
fn a_program_that_wants_a_listener_of_its_own_has_none_behind_the_backstop_and_is_told_of() {
    let Some(scene) = Scene::set() else { return };
    let run = scene.run(&[], "listen").run();
    run.success()
        .stdout_is("listener: EBUSY\nconnect: ok\n")
        .stderr_has("sandboxed")
        .stderr_has("--backstop=off");
    assert_eq!(run.stderr().lines().count(), 1, "{}", run.report());
    scene.run(&[], "listen").options(["-q"]).run().success().stderr_is("");
    let off = scene.run(&[], "listen").options(["--backstop=off", "-q"]).run();
    off.success().stdout_is("listener: ok\nconnect: ok\n").stderr_is("");
    scene.lab.assert_no_leak();
}

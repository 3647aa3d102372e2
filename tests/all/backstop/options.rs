//! `--backstop`: what is said and done where there is none, by wish or by force.

use std::path::PathBuf;

use presocks_tests::origin::{HttpServer, Service, http};
use presocks_tests::proxy::{Microsocks, Upstream};
use presocks_tests::{Build, Lab, Outcome, binary, missing};

struct Scene {
    outer: PathBuf,
    probe: PathBuf,
    proxy: Microsocks,
    _echo: Service,
    _web: HttpServer,
    lab: Lab,
}

const CURL: [&str; 3] = ["curl", "-sS", "http://origin.test/hello"];

impl Scene {
    fn set() -> Option<Self> {
        if missing(Build::Static.needs()) || missing(&["curl", "microsocks"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self {
            outer: Build::Static.of(&lab, "outer", &[]),
            probe: Build::Static.of(&lab, "probe", &[]),
            proxy: Microsocks::open(&lab),
            _echo: Service::echo(&lab, 7000),
            _web: HttpServer::start(&lab),
            lab,
        })
    }

    fn static_command(&self) -> [&str; 2] {
        [self.probe.to_str().unwrap(), "to=10.88.0.2:7000"]
    }

    /// presocks under a filter that denies what `rule` says (`tests/programs/outer.c`).
    fn under(&self, rule: &str, option: &str, command: &[&str], ordinary_user: bool) -> Outcome {
        let url = self.proxy.url();
        let presocks = binary::presocks().to_str().unwrap();
        let words = [self.outer.to_str().unwrap(), rule, presocks, "-p", &url, option];
        let run = self.lab.bare(words.iter().chain(command));
        let run = if ordinary_user { run.ordinary_user() } else { run };
        run.run()
    }
}

#[track_caller]
fn says_one_line(outcome: &Outcome) {
    let said = outcome.stderr();
    assert!(said.starts_with("presocks: ") && said.lines().count() == 1, "{}", outcome.report());
}

#[test]
fn without_the_backstop_the_user_is_told_what_can_leak() {
    let Some(scene) = Scene::set() else { return };
    let run = scene.lab.presocks(CURL).proxy(&scene.proxy).options(["--backstop=off"]).run();
    run.success().stdout_is(http::HELLO).stderr_has("static");
    says_one_line(&run);
    let quiet = scene.lab.presocks(CURL).proxy(&scene.proxy).options(["--backstop=off", "-q"]).run();
    quiet.success().stdout_is(http::HELLO).stderr_is("");
    scene.lab.assert_no_leak();
}

#[test]
fn without_the_backstop_a_static_command_is_not_run() {
    let Some(scene) = Scene::set() else { return };
    let command = scene.static_command();
    let run = scene.lab.presocks(command).proxy(&scene.proxy).options(["--backstop=off"]).run();
    run.code(125).stdout_is("").stderr_has("statically linked").stderr_has("it was not run");
    scene.lab.assert_no_leak();
}

#[test]
fn where_the_backstop_is_forbidden_and_required_nothing_is_run() {
    let Some(scene) = Scene::set() else { return };
    for rule in ["seccomp", "pidfd_getfd", "process_vm_readv"] {
        for ordinary_user in [false, true] {
            let run = scene.under(rule, "--backstop=require", &["echo", "it ran"], ordinary_user);
            run.code(125).stdout_is("").stderr_has("backstop");
            says_one_line(&run);
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn where_the_backstop_is_forbidden_the_shim_serves_and_the_user_is_told() {
    let Some(scene) = Scene::set() else { return };
    for rule in ["seccomp", "pidfd_getfd", "process_vm_readv"] {
        let run = scene.under(rule, "--backstop=auto", &CURL, false);
        run.success().stdout_is(http::HELLO).stderr_has("backstop");
        says_one_line(&run);
        let run = scene.under(rule, "--backstop=auto", &CURL, true);
        run.success().stdout_is(http::HELLO);
        says_one_line(&run);
        let run = scene.under(rule, "--backstop=auto", &scene.static_command(), false);
        run.code(125).stdout_is("").stderr_has("it was not run");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn where_proc_shows_other_processes_there_is_no_backstop() {
    let Some(scene) = Scene::set() else { return };
    let url = scene.proxy.url();
    let run = |option, command: &[&str]| {
        let words = ["unshare", "--pid", "--fork", binary::presocks().to_str().unwrap(), "-p", &url, option];
        scene.lab.bare(words.iter().chain(command)).run()
    };
    let required = run("--backstop=require", &["echo", "it ran"]);
    required.code(125).stdout_is("").stderr_has("/proc");
    says_one_line(&required);
    let hooked = run("--backstop=auto", &CURL);
    hooked.success().stdout_is(http::HELLO).stderr_has("/proc");
    says_one_line(&hooked);
    let caught = run("--backstop=auto", &scene.static_command());
    caught.code(125).stdout_is("").stderr_has("it was not run");
    scene.lab.assert_no_leak();
}

#[test]
fn the_backstop_works_where_it_is_required() {
    let Some(scene) = Scene::set() else { return };
    for option in ["--backstop=require", "--backstop=auto"] {
        let run = scene.lab.presocks(scene.static_command()).proxy(&scene.proxy).options([option]).run();
        run.success().stdout_is("connect: ok\npeer: the one asked for\n").stderr_is("");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn presocks_inside_presocks_says_so_and_is_served() {
    let Some(scene) = Scene::set() else { return };
    let url = scene.proxy.url();
    let inner = [binary::presocks().to_str().unwrap(), "-p", &url];
    let run = scene.lab.presocks(inner.into_iter().chain(CURL)).proxy(&scene.proxy).run();
    run.success().stdout_is(http::HELLO);
    says_one_line(&run);
    let cleared = ["env", "-i"].into_iter().chain(inner).chain(CURL);
    let run = scene.lab.presocks(cleared).proxy(&scene.proxy).run();
    run.success().stdout_is(http::HELLO);
    scene.lab.assert_no_leak();
}

#[test]
fn a_verbose_session_says_which_way_the_command_is_served() {
    let Some(scene) = Scene::set() else { return };
    let said = |command: &[&str]| {
        let run = scene.lab.presocks(command).proxy(&scene.proxy).options(["-v"]).run();
        run.success();
        run.stderr().lines().next().unwrap_or_default().to_owned()
    };
    let (caught, hooked) = (said(&scene.static_command()), said(&CURL));
    assert!(caught.starts_with("presocks: ") && caught.contains("backstop"), "{caught}");
    assert!(hooked.starts_with("presocks: ") && hooked != caught, "{hooked}");
}

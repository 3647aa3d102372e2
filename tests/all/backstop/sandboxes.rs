//! Programs inside something that confines, watches or re-labels them: user namespaces, bubblewrap, strace, gdb, sudo.

use presocks_tests::lab::USER;
use presocks_tests::origin::{HttpServer, Service, http};
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Build, Lab, missing};

use super::{same_bare_and_wrapped, stage_for, wrapped};

const PAGES: [&str; 2] = ["http://origin.test/hello", "http://[fd88::2]/hello"];

struct Scene {
    proxy: Microsocks,
    _web: HttpServer,
    lab: Lab,
}

impl Scene {
    fn set(programs: &[&str]) -> Option<Self> {
        if missing(programs) || missing(&["curl", "microsocks"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { proxy: Microsocks::open(&lab), _web: HttpServer::start(&lab), lab })
    }

    /// curl, behind these words, fetches both pages.
    #[track_caller]
    fn fetches(&self, before: &[&str], as_ordinary_user: bool) {
        let words = before.iter().copied().chain(["curl", "-sS"]).chain(PAGES);
        let run = self.lab.presocks(words).proxy(&self.proxy);
        let run = if as_ordinary_user { run.ordinary_user() } else { run };
        run.run().success().stdout_is(http::HELLO.repeat(2)).stderr_is("");
        self.lab.assert_no_leak();
    }
}

#[test]
fn a_user_namespace_keeps_its_network() {
    let Some(scene) = Scene::set(&["unshare"]) else { return };
    for as_ordinary_user in [false, true] {
        scene.fetches(&["unshare", "--map-root-user"], as_ordinary_user);
        scene.fetches(&["unshare", "--map-root-user", "env", "-i"], as_ordinary_user);
        scene.fetches(
            &["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "env", "-i"],
            as_ordinary_user,
        );
    }
}

#[test]
fn bubblewrap_keeps_its_network() {
    let Some(scene) = Scene::set(&["bwrap"]) else { return };
    let bubble =
        ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-user", "--unshare-pid"];
    for as_ordinary_user in [false, true] {
        scene.fetches(&bubble, as_ordinary_user);
        scene.fetches(&[&bubble[..], &["env", "-i"]].concat(), as_ordinary_user);
        scene.fetches(
            &[&bubble[..], &["--clearenv", "--tmpfs", "/tmp", "--tmpfs", "/run"]].concat(),
            as_ordinary_user,
        );
    }
}

#[test]
fn a_network_namespace_of_its_own_has_no_network() {
    let Some(scene) = Scene::set(&["unshare"]) else { return };
    let words = ["unshare", "--net", "env", "-i", "curl", "-sS", "-m", "10", "http://10.88.0.2/hello"];
    let outcome = scene.lab.presocks(words).proxy(&scene.proxy).run();
    assert!(!outcome.status.success() && outcome.stdout().is_empty(), "{}", outcome.report());
    scene.lab.assert_no_leak();
}

#[test]
fn other_users_keep_their_network() {
    let Some(scene) = Scene::set(&["sudo", "setpriv", "runuser"]) else { return };
    let user = format!("--reuid={USER}");
    scene.fetches(&["sudo", "-u", USER], false);
    scene.fetches(&["sudo", "-u", USER, "env", "-i"], false);
    scene.fetches(&["runuser", "-u", USER, "--"], false);
    scene.fetches(&["runuser", "-u", USER, "--", "env", "-i"], false);
    scene.fetches(&["setpriv", &user, "--clear-groups", "env", "-i"], false);
    scene.fetches(
        &["setpriv", &user, "--clear-groups", "--bounding-set=-all", "--no-new-privs", "env", "-i"],
        false,
    );
}

#[test]
fn what_is_traced_connects() {
    if missing(&["strace", "gdb", "microsocks"]) || missing(Build::Static.needs()) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7000);
    let proxy = Microsocks::open(&lab);
    let probe = Build::Static.of(&lab, "probe", &[]);
    let client = [probe.to_str().unwrap(), "to=10.88.0.2:7000", "times=3"];
    let expected = "connect: ok\npeer: the one asked for\n".repeat(3);
    for before in [
        &["strace", "-f", "-o", "/dev/null"][..],
        &["strace", "-f", "-e", "trace=network", "-o", "/dev/null"],
        &["gdb", "-nx", "-q", "--batch", "-ex", "run", "--args"],
    ] {
        let words = before.iter().chain(&client);
        let run = || lab.presocks(words.clone()).proxy(&proxy);
        for outcome in [run().run(), run().ordinary_user().run()] {
            outcome.success().stdout_has(&expected);
        }
    }
    lab.assert_no_leak();
}

#[test]
fn a_program_that_nobody_may_look_into_does_all_that_it_can_do_bare() {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let program = Build::Shared.of(&stage.lab, "undumpable", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
    wrapped(&stage, &[&program]).ordinary_user().run().success().stderr_is("");
}

//! Few descriptors: presocks serves the command, or says why not before it runs.

mod crowds;
mod memory;

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::{Microsocks, Upstream as _};
use presocks_tests::{Build, Invocation, Lab, Outcome, binary, missing};

const ECHO: u16 = 7000;
const CONNECTED: &str = "connect: ok\npeer: the one asked for\n";
const REFUSAL: &str = "presocks: too few files may be open";

/// With fewer, the loader cannot open a program's libraries.
const LEAST: u32 = 4;
/// With so many, every command is served.
const ENOUGH: u32 = 32;

struct Scene {
    proxy: Microsocks,
    _echo: Service,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&["bash", "sh", "microsocks"]) || missing(Build::Static.needs()) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { proxy: Microsocks::open(&lab), _echo: Service::echo(&lab, ECHO), lab })
    }

    /// `presocks program` by a shell that does this first.
    fn after(&self, preparation: &str, program: &str) -> Invocation<'_> {
        let script = format!("{preparation}; exec \"$@\"");
        let (presocks, url) = (binary::presocks().to_str().unwrap(), self.proxy.url());
        let to = format!("to={ORIGIN}:{ECHO}");
        self.lab.bare(["bash", "-c", &script, "bash", presocks, "-p", &url, program, &to])
    }

    fn program(&self, build: Build) -> String {
        build.of(&self.lab, "probe", &[]).to_str().unwrap().to_owned()
    }
}

#[track_caller]
fn is_served(outcome: &Outcome) {
    outcome.success().stdout_is(CONNECTED).stderr_is("");
}

#[track_caller]
fn is_refused(outcome: &Outcome, why: &str) {
    outcome.code(125).stdout_is("").stderr_has(why);
    assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
}

/// The limit is one for all processes of a user, and root has none: a user of its own, so that other tests are not held up.
#[test]
fn a_connect_fails_in_the_end_when_no_socket_can_be_sent_to_the_broker() {
    let Some(scene) = Scene::set() else { return };
    let program = Build::Shared.of(&scene.lab, "inflight", &[]);
    let (presocks, url) = (binary::presocks().to_str().unwrap(), scene.proxy.url());
    let (program, to) = (program.to_str().unwrap(), format!("to={ORIGIN}:{ECHO}"));
    let user = ["setpriv", "--reuid=61001", "--regid=61001", "--clear-groups", "--"];
    scene.lab.bare(user.iter().chain(&[presocks, "-p", &url, program, &to])).run().success();
    scene.lab.assert_no_leak();
}

#[test]
fn with_few_descriptors_a_command_is_served_or_not_run() {
    let Some(scene) = Scene::set() else { return };
    for program in [scene.program(Build::Shared), scene.program(Build::Static)] {
        for limit in LEAST..=ENOUGH + 8 {
            let outcome = scene.after(&format!("ulimit -n {limit}"), &program).run();
            if limit >= ENOUGH || outcome.status.success() {
                is_served(&outcome);
            } else {
                is_refused(&outcome, REFUSAL);
            }
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_limit_that_can_be_raised_is_and_the_command_has_it_as_it_was() {
    let Some(scene) = Scene::set() else { return };
    for program in [scene.program(Build::Shared), scene.program(Build::Static)] {
        for limit in LEAST + 1..=12 {
            is_served(&scene.after(&format!("ulimit -S -n {limit}"), &program).run());
        }
    }
    let presocks = binary::presocks().to_str().unwrap();
    let script = format!(
        "ulimit -S -n 9; ulimit -H -n 1234; exec {presocks} -p {} sh -c 'ulimit -S -n; ulimit -H -n'",
        scene.proxy.url()
    );
    for run in [scene.lab.bare(["sh", "-c", &script]), scene.lab.bare(["sh", "-c", &script]).ordinary_user()]
    {
        run.run().success().stdout_is("9\n1234\n").stderr_is("");
    }
    scene.lab.assert_no_leak();
}

/// Opens files until only so many more may be open, and becomes another program.
const FILL: &str = "
import os, resource, sys
limit, free = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
opened = []
try:
    while True: opened.append(os.open('/dev/null', os.O_RDONLY))
except OSError: pass
for number in opened: os.set_inheritable(number, True)
for number in opened[-free:]: os.close(number)
os.execvp(sys.argv[3], sys.argv[3:])";

#[test]
fn where_open_files_leave_no_room_the_command_is_not_run() {
    if missing(&["python3"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let (presocks, url) = (binary::presocks().to_str().unwrap(), scene.proxy.url());
    let (program, to) = (scene.program(Build::Shared), format!("to={ORIGIN}:{ECHO}"));
    let mut refused = 0;
    for free in 1..16 {
        let (limit, free) = ((ENOUGH + 8).to_string(), free.to_string());
        let words = ["python3", "-c", FILL, &limit, &free, presocks, "-p", &url, &program, &to];
        let outcome = scene.lab.bare(words).run();
        if outcome.status.success() {
            is_served(&outcome);
        } else {
            outcome.code(125).stdout_is("").stderr_has("Too many open files");
            let said = outcome.stderr();
            assert!(said.starts_with("presocks: ") && !said.contains("panicked"), "{}", outcome.report());
            refused += 1;
        }
    }
    assert!((1..8).contains(&refused), "{refused}");
    scene.lab.assert_no_leak();
}

//! More connects at once than the broker has descriptors for: each has its turn, and who asks for a name does not wait for any.

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::proxy::{Microsocks, Upstream};
use presocks_tests::{Build, Invocation, Lab, binary, missing};

const ECHO: u16 = 7000;

struct Scene {
    microsocks: Microsocks,
    _echo: Service,
    lab: Lab,
}

impl Scene {
    fn set(build: Build) -> Option<Self> {
        if missing(&["sh", "microsocks"]) || missing(build.needs()) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { microsocks: Microsocks::open(&lab), _echo: Service::echo(&lab, ECHO), lab })
    }

    /// `presocks rush` where so many files may be open.
    fn rush(&self, limit: u32, build: Build, proxy: &str, more: &str) -> Invocation<'_> {
        let program = build.of(&self.lab, "rush", &[]);
        let (presocks, program) = (binary::presocks().display(), program.display());
        let script =
            format!("ulimit -n {limit}; exec {presocks} -p {proxy} {program} to={ORIGIN}:{ECHO} {more}");
        self.lab.bare(["sh", "-c", &script])
    }
}

const ALL: &str = "connects that succeed: ok\n";

#[test]
fn a_hundred_programs_connect_at_once_where_48_files_may_be_open() {
    for build in [Build::Shared, Build::Static] {
        let Some(scene) = Scene::set(build) else { return };
        // The second has a relay for each connection.
        for proxy in [scene.microsocks.url(), scene.microsocks.url6()] {
            let rush = || scene.rush(48, build, &proxy, "processes=100");
            for run in [rush(), rush().ordinary_user()] {
                run.run().success().stdout_is(ALL).stderr_is("");
            }
        }
        scene.lab.assert_no_leak();
    }
}

#[test]
fn four_programs_have_450_connects_under_way_where_1024_files_may_be_open() {
    let Some(scene) = Scene::set(Build::Shared) else { return };
    let rush = || scene.rush(1024, Build::Shared, &scene.microsocks.url(), "processes=4 connects=450");
    for run in [rush(), rush().ordinary_user()] {
        run.run().success().stdout_is(ALL).stderr_is("");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_name_is_looked_up_while_every_place_is_taken() {
    for (build, more) in [
        (Build::Shared, "processes=4 connects=15"),
        (Build::Shared, "processes=100"),
        (Build::StaticMusl, "processes=100"),
    ] {
        let Some(scene) = Scene::set(build) else { return };
        let gate = Gate::closed();
        let script = Script::until_request().pass(&gate).send(SUCCESS).relay((ORIGIN, ECHO));
        let proxy = script.start(&scene.lab);
        let mut running = scene.rush(48, build, &proxy.url(), &format!("{more} name=www.example")).start();
        assert_eq!(running.line(), "a name is looked up: ok");
        gate.open();
        running
            .finish()
            .success()
            .stdout_is("a name is looked up: ok\nconnects that succeed: ok\n")
            .stderr_is("");
        scene.lab.assert_no_leak();
    }
}

#[test]
fn a_connect_that_waits_for_its_turn_can_be_called_off() {
    let Some(scene) = Scene::set(Build::Shared) else { return };
    let proxy = Script::until_request().pass(&Gate::closed()).start(&scene.lab);
    let run = scene.rush(48, Build::Shared, &proxy.url(), "processes=4 connects=15 dissolve=1");
    run.run().success().stdout_is("sockets that are dissolved: ok\n").stderr_is("");
    scene.lab.assert_no_leak();
}

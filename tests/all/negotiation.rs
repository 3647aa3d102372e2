//! The broker's work on a program's own socket, and what the program does with that socket meanwhile.

use presocks_tests::lab::{ORIGIN, PROXY};
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::proxy::{Upstream as _, url};
use presocks_tests::{Build, Lab, binary, missing, patience};

use crate::backstop;
use crate::behaviour::stage::{ECHO_PORT, Stage};
use crate::behaviour::{bare_passes, same_as};

/// A port of the proxy host that answers nothing: whoever connects to it waits.
const SILENT_PORT: u16 = 5000;

/// The proxy of which nothing is heard.
fn silent_proxy(stage: &Stage) -> String {
    let drop = format!(
        "table inet silence {{ chain input {{ type filter hook input priority 0; tcp dport {SILENT_PORT} drop; }}; }}\n"
    );
    stage.lab.proxy.setup(&["nft", "-f", "-"], &drop);
    stage.lab.permit_proxy_port(SILENT_PORT);
    url(None, SILENT_PORT)
}

/// Runs `tests/programs/NAME` bare, and through a proxy that waits for the destination, or does not answer at all: it prints the same.
fn same_however_far_it_has_come(name: &str) {
    let Some(stage) = Stage::set() else { return };
    let bare = bare_passes(&stage, name, &[]);
    for proxy in [silent_proxy(&stage), stage.proxy.url()] {
        same_as(&bare, &stage, name, &proxy, &[]);
    }
    stage.lab.assert_no_leak();
}

#[test]
fn a_pending_socket_that_is_dissolved_is_its_programs_own_and_the_broker_answers_on() {
    same_however_far_it_has_come("dissolved");
}

#[test]
fn a_socket_that_one_thread_dissolves_while_another_connects_it_carries_what_it_is_given_next() {
    same_however_far_it_has_come("dissolved_asleep");
    let Some(stage) = backstop::stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "dissolved_asleep", &[]);
    backstop::same_bare_and_wrapped(&stage, &[&program]);
    let proxy = silent_proxy(&stage);
    let words = [program.into()].into_iter().chain(backstop::arguments(&stage));
    stage.lab.presocks(words).proxy(&proxy).run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn a_socket_that_is_not_the_one_meant_is_refused_and_not_touched() {
    if missing(&["python3"]) {
        return;
    }
    let Some(stage) = Stage::set() else { return };
    let script = binary::workspace().join("tests/programs/tickets.py");
    let words =
        ["python3".into(), script.into_os_string(), ORIGIN.to_string().into(), ECHO_PORT.to_string().into()];
    let outcome = stage.lab.presocks(words).proxy(&stage.proxy).run();
    let lines = outcome.success().stdout();
    let (good, refused): (Vec<&str>, Vec<&str>) =
        lines.lines().partition(|line| line.contains("very") || line.contains("is "));
    assert_eq!(
        good,
        ["the very socket: 0", "is connected: True", "is still connected: True"],
        "{}",
        outcome.report()
    );
    assert!(
        refused.len() == 17 && refused.iter().all(|line| line.ends_with(": EBADF, as before")),
        "{}",
        outcome.report()
    );
    stage.lab.assert_no_leak();
}

/// What is held back on the client's connections goes after so long that a connect has failed by then: the kernel gives up waiting for more when it would repeat what was
/// not acknowledged.
fn hold_back_for_long(lab: &Lab) {
    let route = [PROXY.to_string(), "dev".into(), "cable".into(), "rto_min".into(), "100s".into()];
    let words: Vec<&str> =
        ["ip", "route", "replace"].into_iter().chain(route.iter().map(String::as_str)).collect();
    lab.client.setup(&words, "");
}

#[test]
fn options_that_change_when_data_moves_stand_in_no_connects_way_and_keep_their_values() {
    let Some(stage) = Stage::set() else { return };
    let bare = bare_passes(&stage, "options", &[]);
    let dribbling =
        Script::new().greeting().dribble([5, 0]).request().dribble(SUCCESS).relay((ORIGIN, ECHO_PORT));
    let dribbling = dribbling.start(&stage.lab);
    hold_back_for_long(&stage.lab);
    same_as(&bare, &stage, "options", &stage.proxy.url(), &[]);
    stage.wrapped("options", &dribbling.url(), &["refusing=no"]).run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn a_socket_that_lingers_keeps_nobody_waiting_but_its_program() {
    let Some(stage) = Stage::set() else { return };
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).send(SUCCESS).read_all().start(&stage.lab);
    // It never hears that a connection has ended, so closing one that lingers takes as long as it lingers.
    let port = proxy.port();
    let deaf = format!(
        "table inet deaf {{ chain input {{ type filter hook input priority 0; tcp dport {port} tcp flags & fin == fin drop; }}; }}\n"
    );
    stage.lab.proxy.setup(&["nft", "-f", "-"], &deaf);
    let mut running = stage.wrapped("lingering", &proxy.url(), &[]).start();
    for _ in 0..2 {
        assert!(running.line().ends_with(": ok"));
    }
    gate.wait_for_arrivals(1);
    running.write("here\n");
    for _ in 0..2 {
        assert!(running.line().ends_with(": ok"));
    }
    gate.open();
    patience::wait_until("the connection to be closed", || {
        let open = ["ss", "-Htn", "state", "established", "dport", &format!("= :{port}")];
        stage.lab.client.setup(&open, "").is_empty()
    });
    running.write("closed\n");
    running.finish().success();
    stage.lab.assert_no_leak();
}

#[test]
fn connections_from_one_port_to_several_destinations_go_through_one_proxy() {
    let Some(stage) = backstop::stage_for(&[Build::Static]) else { return };
    let bare = bare_passes(&stage, "sameport", &[]);
    for proxy in [stage.proxy.url(), stage.proxy.url6()] {
        same_as(&bare, &stage, "sameport", &proxy, &[]);
    }
    let program = Build::Static.of(&stage.lab, "sameport", &[]);
    backstop::same_bare_and_wrapped(&stage, &[&program]);
    stage.lab.assert_no_leak();
}

/// Shuts its pending socket for reading when it is told to, and says how the connect ends.
const SHUTS: &str = "
import errno, select, socket, sys
s = socket.socket()
s.setblocking(False)
print(errno.errorcode[s.connect_ex((sys.argv[1], 7000))], flush=True)
sys.stdin.readline()
s.shutdown(socket.SHUT_RD)
select.select([], [s], [])
print(errno.errorcode[s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])";

#[test]
fn what_a_program_does_to_its_socket_is_not_laid_at_the_proxys_door() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).start(&lab);
    let mut running = lab.presocks(["python3", "-c", SHUTS, &ORIGIN.to_string()]).proxy(&proxy).start();
    assert_eq!(running.line(), "EINPROGRESS");
    gate.wait_for_arrivals(1);
    running.write("\n");
    running.finish().success().stdout_is("EINPROGRESS\nECONNRESET\n").stderr_is("");
    gate.open();
    lab.assert_no_leak();
}

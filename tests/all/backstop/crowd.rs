//! Very many at once, and programs or the broker ending in the middle of it.

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::Microsocks;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::{Build, Lab, missing, patience};

use super::{same_bare_and_wrapped, stage_for, wrapped};

#[test]
fn a_thousand_threads_wait_in_connect_at_once_and_processes_come_and_go() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "throng", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn calls_are_answered_while_orphans_of_the_session_end_all_the_time() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "orphans", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn a_process_connects_while_threads_of_another_make_calls_without_pause() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "flood", &[]);
    wrapped(&stage, &[&program]).run().success();
    stage.lab.assert_no_leak();
}

/// Starts `$2` clients, and kills them when it is told to. Then the broker, its parent, holds no more than before.
const KILLED: &str = "
held() { ls /proc/$PPID/fd | wc -l; }
before=$(held)
for number in $(seq $2); do $1 to=10.88.0.2:7000 & clients=\"$clients $!\"; done
read line
echo $(($(held) - before > $2))
kill -KILL $clients
wait 2> /dev/null
while [ $(held) -gt $((before + 2)) ]; do sleep 0.05; done
echo released";

#[test]
fn what_was_taken_from_a_killed_program_is_given_back() {
    if missing(Build::Static.needs()) {
        return;
    }
    const CLIENTS: usize = 50;
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7000);
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).send(SUCCESS).relay((ORIGIN, 7000)).start(&lab);
    let probe = Build::Static.of(&lab, "probe", &[]);
    let words =
        ["bash", "-c", KILLED, "killed", probe.to_str().unwrap(), &CLIENTS.to_string()].map(str::to_owned);
    let mut session = lab.presocks(words).proxy(&proxy).options(["-q"]).start();
    gate.wait_for_arrivals(CLIENTS);
    session.write("kill\n");
    assert_eq!(session.line(), "1");
    assert_eq!(session.line(), "released");
    session.finish().success();
    gate.open();
    lab.assert_no_leak();
}

/// A client whose connect waits, then no broker, then another client.
const BROKERLESS: &str = "
$1 to=10.88.0.2:7000 &
read line
kill -KILL $PPID
wait
$1 to=10.88.0.2:7000 times=2
$1 to=10.88.0.2:7000 mode=poll
$1 to=origin.test:7000
send='import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b\"x\", (sys.argv[1], int(sys.argv[2])))'
env -i $2 -c \"$send\" 192.0.2.53 53 2> /dev/null && echo sent
env -i $2 -c \"$send\" 10.88.0.2 80 2> /dev/null && echo sent
echo end";

#[test]
fn caught_calls_fail_when_the_broker_was_killed() {
    if missing(Build::Static.needs()) || missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let origin = Service::echo(&lab, 7000);
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).send(SUCCESS).relay((ORIGIN, 7000)).start(&lab);
    let probe = Build::Static.of(&lab, "probe", &[]);
    let words = ["bash", "-c", BROKERLESS, "brokerless", probe.to_str().unwrap(), "/usr/bin/python3"];
    let mut session = lab.presocks(words).proxy(&proxy).options(["-q"]).start();
    gate.wait_for_arrivals(1);
    session.write("kill\n");
    let outcome = session.finish();
    let said = outcome.stdout();
    let fails = said.lines().filter(|line| line.starts_with("connect: E")).count();
    assert!(
        fails == 5 && !said.contains("connect: ok") && !said.contains("sent") && said.ends_with("end\n"),
        "{}",
        outcome.report()
    );
    assert_eq!(origin.connections(), 0);
    gate.open();
    lab.assert_no_leak();
}

/// A static client in the background, on its own, that connects when it is told to.
const DAEMON: &str = "
(read line < $2/go; $1 to=origin.test:7000 > $2/found; mv $2/found $2/done) < /dev/null > /dev/null 2>&1 &";

#[test]
fn a_static_daemon_keeps_its_network_after_presocks_has_returned() {
    if missing(Build::Static.needs()) || missing(&["mkfifo", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7000);
    let proxy = Microsocks::open(&lab);
    let probe = Build::Static.of(&lab, "probe", &[]);
    let (go, done) = (lab.directory().join("go"), lab.directory().join("done"));
    lab.bare(["mkfifo".as_ref(), go.as_os_str()]).run().success();
    let words = ["sh", "-c", DAEMON, "daemon", probe.to_str().unwrap(), lab.directory().to_str().unwrap()];
    lab.presocks(words).proxy(&proxy).run().success().stdout_is("").stderr_is("");
    std::fs::write(go, "go\n").unwrap();
    let found = patience::wait_for("the daemon", || std::fs::read_to_string(&done).ok());
    assert_eq!(found, "connect: ok\npeer: the one asked for\n");
    lab.assert_no_leak();
}

//! Signals while a caught connect waits, on kernels that hold them back for the broker and on those that do not.

use std::thread::sleep;
use std::time::Duration;

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::{Build, Lab, missing};

use super::{same_bare_and_wrapped, same_on_older_kernels, stage_for};

#[test]
fn signals_restart_or_interrupt_a_connect_as_ever() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "alarms", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn signals_restart_or_interrupt_a_connect_on_older_kernels() {
    same_on_older_kernels("alarms");
}

#[test]
fn one_signal_is_for_one_of_many_threads_in_connect() {
    is_as_ever("siblings");
}

#[test]
fn a_call_with_a_time_limit_is_interrupted_and_not_restarted() {
    is_as_ever("limited");
}

#[test]
fn a_process_in_connect_is_stopped_at_once_and_goes_on() {
    is_as_ever("stopped");
}

#[track_caller]
fn is_as_ever(name: &'static str) {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, name, &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

/// Longer than a connect that does not block keeps a signal waiting.
const LONG: Duration = Duration::from_secs(6);

#[test]
fn a_connect_that_does_not_block_outlasts_signals_however_late_the_answer() {
    if missing(Build::Static.needs()) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7000);
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).send(SUCCESS).relay((ORIGIN, 7000)).start(&lab);
    let program = Build::Static.of(&lab, "ticking", &[]);
    let run = lab.presocks([program.as_os_str(), "to=10.88.0.2:7000".as_ref()]).proxy(&proxy).start();
    gate.wait_for_arrivals(1);
    sleep(LONG);
    // It is still the same attempt.
    assert_eq!(gate.arrived(), 1);
    gate.open();
    run.finish().success();
    lab.assert_no_leak();
}

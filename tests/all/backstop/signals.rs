//! Signals while a caught connect waits, on kernels that hold them back for the broker and on those that do not.

use presocks_tests::proxy::Upstream as _;
use presocks_tests::{Build, binary};

use super::{arguments, bare, same_bare_and_wrapped, stage_for};

#[test]
fn signals_restart_or_interrupt_a_connect_as_ever() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "alarms", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn signals_restart_or_interrupt_a_connect_on_older_kernels() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "alarms", &[]);
    let outer = Build::Static.of(&stage.lab, "outer", &[]);
    let expected = bare(&stage, &[&program]);
    let url = stage.proxy.url();
    let words = [outer.to_str().unwrap(), "killable", binary::presocks().to_str().unwrap(), "-p", &url];
    let words = words.map(Into::into).into_iter().chain([program.into()]).chain(arguments(&stage));
    stage.lab.bare(words).run().success().stdout_is(expected);
    stage.lab.assert_no_leak();
}

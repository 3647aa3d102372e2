//! What `LD_PRELOAD` cannot see is proxied all the same: static programs, other C libraries, Go, cleared environments, bare
//! system calls. What cannot be proxied is refused; nothing leaks.

mod abi;
pub(crate) mod confined;
mod crowd;
mod errors;
mod filters;
mod go;
mod interfaces;
mod names;
mod options;
mod performed;
mod plain;
mod programs;
mod reuse;
mod sandboxes;
mod signals;
mod sockets;
mod storm;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use presocks_tests::proxy::Upstream as _;
use presocks_tests::{Build, Invocation, binary, missing};

use crate::behaviour::stage::Stage;

/// A stage, if all that these builds need is there.
pub(crate) fn stage_for(builds: &[Build]) -> Option<Stage> {
    if builds.iter().any(|build| missing(build.needs())) {
        return None;
    }
    let stage = Stage::set()?;
    // The programs of an ordinary user hold and release connections, too.
    fs::set_permissions(stage.lab.directory().join("control"), Permissions::from_mode(0o777)).unwrap();
    Some(stage)
}

/// What the stage tells every program. (The words are taken from a script: a C program would be compiled for them.)
pub(crate) fn arguments(stage: &Stage) -> Vec<OsString> {
    let words = stage.wrapped("loops.py", "", &[]).words().into_iter();
    words.skip_while(|word| !word.to_string_lossy().starts_with("open=")).collect()
}

/// `program` under presocks, not yet started.
fn wrapped<'stage>(stage: &'stage Stage, program: &[&Path]) -> Invocation<'stage> {
    let words = program.iter().map(|word| word.as_os_str().to_owned());
    stage.lab.presocks(words.chain(arguments(stage))).proxy(&stage.proxy)
}

/// Runs `program` on the proxy host, next to the origin, without presocks: all of its checks hold there. What it printed.
#[track_caller]
fn bare(stage: &Stage, program: &[&Path]) -> String {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).args(arguments(stage)).env_clear();
    let child = stage.lab.proxy.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program:?} fails on a bare machine ({}):\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Runs `program` bare, then wrapped by root and by an ordinary user: each time it prints the same, and nothing leaks.
#[track_caller]
pub(crate) fn same_bare_and_wrapped(stage: &Stage, program: &[&Path]) {
    let expected = bare(stage, program);
    for run in [wrapped(stage, program), wrapped(stage, program).ordinary_user()] {
        let outcome = run.run();
        assert!(outcome.status.success() && outcome.stdout() == expected, "{}", outcome.report());
    }
    stage.lab.assert_no_leak();
}

/// Runs a static `tests/programs/NAME.c` bare, and wrapped as on kernels that do not hold signals back for the broker.
#[track_caller]
fn same_on_older_kernels(name: &'static str) {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, name, &[]);
    let outer = Build::Static.of(&stage.lab, "outer", &[]);
    let expected = bare(&stage, &[&program]);
    let url = stage.proxy.url();
    let words = [outer.to_str().unwrap(), "killable", binary::presocks().to_str().unwrap(), "-p", &url];
    let words = words.map(Into::into).into_iter().chain([program.into()]).chain(arguments(&stage));
    stage.lab.bare(words).run().success().stdout_is(expected);
    stage.lab.assert_no_leak();
}

/// A program and the words before it.
pub(crate) fn after<'a>(before: &[&'a str], program: &'a Path) -> Vec<&'a Path> {
    before.iter().copied().map(Path::new).chain([program]).collect()
}

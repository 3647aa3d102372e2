//! Making a program of `tests/programs` ready to run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use presocks_tests::{Lab, binary};

/// The words of the command that runs NAME: a Python script where the name says so, else a C program.
pub(crate) fn command(lab: &Lab, name: &str) -> Vec<OsString> {
    if name.ends_with(".py") {
        let script = binary::workspace().join("tests/programs").join(name);
        vec!["/usr/bin/python3".into(), script.into()]
    } else {
        vec![compile(lab, name).into()]
    }
}

/// Compiles `tests/programs/NAME.c` into the lab's directory, with the fortified forms of libc's functions.
pub(crate) fn compile(lab: &Lab, name: &str) -> PathBuf {
    let source = binary::workspace().join(format!("tests/programs/{name}.c"));
    let program = lab.directory().join(name);
    let output = Command::new("cc")
        .args(["-O2", "-D_FORTIFY_SOURCE=2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .args([&program, &source])
        .arg("-lresolv")
        .output()
        .expect("run cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

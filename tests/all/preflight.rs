//! A command that the shim cannot get into is caught by the backstop; without that it is not run, for it would connect directly.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use presocks_tests::{Lab, Outcome, missing};

/// These commands must not even start, so no proxy has to be there.
const NO_PROXY_NEEDED: &str = "socks5://127.0.0.1:1";
/// Where an ELF header has the machine (elf(5)): after 16 bytes of identification and the type.
const MACHINE: usize = 18;
const S390: u8 = 22;

fn compiled(lab: &Lab, name: &str, options: &[&str]) -> PathBuf {
    let source = lab.file(&format!("{name}.c"), "#include <stdio.h>\nint main(void) { puts(\"it ran\"); }\n");
    let program = lab.directory().join(name);
    let status = Command::new("cc").args(options).arg("-o").arg(&program).arg(&source).status().unwrap();
    assert!(status.success());
    program
}

fn copy(lab: &Lab, of: &Path, name: &str, change: impl Fn(&mut Vec<u8>)) -> PathBuf {
    let mut content = fs::read(of).unwrap();
    change(&mut content);
    let path = lab.file(name, content);
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

fn run(lab: &Lab, program: &Path) -> Outcome {
    lab.presocks([program]).proxy(NO_PROXY_NEEDED).options(["-v"]).run()
}

/// Runs it without the backstop.
fn is_refused(lab: &Lab, program: &Path, why: &str) {
    let outcome = lab.presocks([program]).proxy(NO_PROXY_NEEDED).options(["--backstop=off"]).run();
    outcome.code(125).stdout_is("").stderr_has(why).stderr_has("it was not run");
    assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
}

fn is_caught(lab: &Lab, program: &Path, why: &str) {
    let outcome = run(lab, program);
    outcome.success().stdout_is("it ran\n").stderr_has(why).stderr_has("the backstop alone");
    assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
    is_refused(lab, program, why);
}

#[test]
fn static_foreign_and_other_libcs_programs_need_the_backstop() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let dynamic = compiled(&lab, "dynamic", &[]);
    run(&lab, &dynamic).success().stdout_is("it ran\n").stderr_has("the shim and the backstop");
    is_caught(&lab, &compiled(&lab, "static", &["-static"]), "statically linked");
    is_caught(&lab, &compiled(&lab, "static-pie", &["-static-pie"]), "statically linked");
    let foreign = copy(&lab, &dynamic, "foreign", |content| content[MACHINE] = S390);
    is_refused(&lab, &foreign, "another kind of machine");
    let narrow = copy(&lab, &dynamic, "narrow", |content| content[4] = 1);
    is_refused(&lab, &narrow, "another kind of machine");
    let musl = copy(&lab, &dynamic, "musl", |content| {
        let glibc = b"/ld-linux-x86-64.so.2";
        let place = content.windows(glibc.len()).position(|window| window == glibc).unwrap();
        content[place..place + glibc.len()].copy_from_slice(b"/ld-musl-x86_64.so.1\0");
    });
    is_refused(&lab, &musl, "another C library");
}

#[test]
fn scripts_are_judged_by_their_interpreter() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let interpreter = compiled(&lab, "interpreter", &["-static"]);
    let script = |name: &str, line: String| {
        copy(&lab, Path::new("/dev/null"), name, |content| content.extend(line.bytes()))
    };
    is_caught(&lab, &script("bad", format!("#! {} -x\n", interpreter.display())), "statically linked");
    let good = script("good", "#!/bin/sh\necho it ran\n".to_owned());
    run(&lab, &good).success().stdout_is("it ran\n");
    let plain = script("plain", "echo it ran\n".to_owned());
    run(&lab, &plain).success().stdout_is("it ran\n");
}

#[test]
fn a_setuid_program_runs_without_its_privileges_for_an_ordinary_user_who_is_told_the_way() {
    if missing(&["cc"]) {
        return;
    }
    let lab = Lab::new();
    let program = compiled(&lab, "setuid", &[]);
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    run(&lab, &program).success().stdout_is("it ran\n");
    let run = || lab.presocks([&program]).proxy(NO_PROXY_NEEDED).ordinary_user();
    let told = run().run();
    told.success().stdout_is("it ran\n").stderr_has("without them").stderr_has("sudo presocks");
    assert_eq!(told.stderr().lines().count(), 1, "{}", told.report());
    // What it wants them for would not be had by root.
    let ping = copy(&lab, &program, "ping", |_| {});
    fs::set_permissions(&ping, Permissions::from_mode(0o4755)).unwrap();
    let told = lab.presocks([&ping]).proxy(NO_PROXY_NEEDED).ordinary_user().run();
    told.success().stderr_has("no proxy carries those");
    assert!(!told.stderr().contains("sudo"), "{}", told.report());
    run().options(["-q"]).run().success().stderr_is("");
    run().options(["--backstop=off"]).run().code(125).stdout_is("").stderr_has("gains privileges");
}

//! Programs with a sanitizer, by gcc and clang: the runtime wants to be the first of all libraries, and intercepts what the shim hooks.

use std::path::{Path, PathBuf};
use std::process::Command;

use presocks_tests::proxy::scripted::{SUCCESS, Script, ScriptedProxy};
use presocks_tests::{Lab, binary, missing};

/// A lab with a proxy, and programs that connect through it.
struct Session {
    proxy: ScriptedProxy,
    lab: Lab,
}

impl Session {
    /// `None` when a compiler is missing.
    fn new() -> Option<Self> {
        if missing(&["gcc", "clang"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { proxy: Script::until_request().send(SUCCESS).read_all().start(&lab), lab })
    }

    fn compile(&self, compiler: &str, flags: &[&str]) -> PathBuf {
        let program = self.lab.directory().join("sanitized");
        let source = binary::workspace().join("tests/programs/probe.c");
        let mut compile = Command::new(compiler);
        compile.args(["-g", "-pthread"]).args(flags).arg("-o").args([&program, &source]);
        let output = compile.output().expect("run the compiler");
        assert!(output.status.success(), "{compile:?}\n{}", String::from_utf8_lossy(&output.stderr));
        program
    }

    fn connects(&self, program: &Path, environment: &[(&str, &str)]) {
        let words = [program.as_os_str(), "to=192.0.2.1:80".as_ref()];
        let mut invocation = self.lab.presocks(words).proxy(&self.proxy);
        for (name, value) in environment {
            invocation = invocation.env(name, value);
        }
        let outcome = invocation.run();
        outcome.success().stdout_is("connect: ok\npeer: the one asked for\n").stderr_is("");
    }
}

/// The file of a runtime, as the compiler knows it.
fn runtime(compiler: &str, name: &str) -> String {
    let output =
        Command::new(compiler).arg(format!("-print-file-name={name}")).output().expect("run the compiler");
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}

#[test]
fn programs_with_a_sanitizer_of_gcc_connect() {
    let Some(session) = Session::new() else { return };
    for sanitizer in ["address", "leak", "thread", "undefined"] {
        let program = session.compile("gcc", &[&format!("-fsanitize={sanitizer}")]);
        session.connects(&program, &[]);
    }
    session.lab.assert_no_leak();
}

#[test]
fn programs_with_a_sanitizer_of_clang_connect() {
    let Some(session) = Session::new() else { return };
    for sanitizer in ["address", "leak", "memory", "thread", "undefined"] {
        let program = session.compile("clang", &[&format!("-fsanitize={sanitizer}")]);
        session.connects(&program, &[]);
    }
    session.lab.assert_no_leak();
}

#[test]
fn a_shared_runtime_may_be_linked_or_preloaded_whatever_its_options_are() {
    let Some(session) = Session::new() else { return };
    let shared = runtime("clang", "libclang_rt.asan-x86_64.so");
    let directory = shared.rsplit_once('/').expect("a path").0;
    let flags = ["-fsanitize=address", "-shared-libasan", &format!("-Wl,-rpath,{directory}")];
    for (compiler, flags, library) in
        [("gcc", &flags[..1], runtime("gcc", "libasan.so.8")), ("clang", &flags[..], shared.clone())]
    {
        let program = session.compile(compiler, flags);
        session.connects(&program, &[]);
        session.connects(&program, &[("ASAN_OPTIONS", "detect_leaks=0")]);
        let strict = "verify_asan_link_order=1";
        session.connects(&program, &[("LD_PRELOAD", &library), ("ASAN_OPTIONS", strict)]);
    }
    session.lab.assert_no_leak();
}

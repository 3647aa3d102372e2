//! A lab with services for datagrams and a real proxy, and the programs of `tests/programs` that talk to them.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use presocks_tests::host::Host;
use presocks_tests::lab::{CLIENT, CLIENT6, ORIGIN, ORIGIN6, PROXY6};
use presocks_tests::origin::Datagrams;
use presocks_tests::origin::datagrams::Many;
use presocks_tests::proxy::{Dante, Embedded, Upstream};
use presocks_tests::{Invocation, Lab, missing, patience};

use crate::behaviour::program::compile;

/// Where the echo services are.
pub(super) const ECHO: u16 = 7000;
const SECOND: u16 = 7001;
/// One that answers from another port.
const ELSEWHERE: u16 = 7002;
/// One that has many addresses.
const MANY: u16 = 7003;

/// The lab, made ready. Its proxies go before their host does.
pub(super) struct Scene {
    pub(super) dante: Dante,
    pub(super) embedded: Embedded,
    pub(super) echo: Datagrams,
    _services: [Datagrams; 2],
    _many: Many,
    pub(super) lab: Lab,
}

impl Scene {
    /// Sets it, or says why it cannot be.
    pub(super) fn set() -> Option<Self> {
        if missing(&["cc", "python3", "danted"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self {
            dante: Dante::open(&lab),
            embedded: Embedded::open(&lab),
            echo: Datagrams::echo(&lab, ECHO),
            _services: [Datagrams::echo(&lab, SECOND), Datagrams::echo_from_another_port(&lab, ELSEWHERE)],
            _many: Many::start(&lab, MANY),
            lab,
        })
    }

    /// Runs `program` with the words for a host whose addresses are these, on the proxy host, bare: all of its checks hold.
    #[track_caller]
    pub(super) fn bare(&self, program: &[&Path]) -> String {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(arguments("10.88.0.1", &PROXY6.to_string())).env_clear();
        let child = self.lab.proxy.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
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

    /// `program` on the client, under presocks, not yet started.
    pub(super) fn wrapped(&self, program: &[&Path], proxy: &str) -> Invocation<'_> {
        let words = program.iter().map(|word| word.as_os_str().to_owned());
        self.lab.presocks(words.chain(arguments(&CLIENT.to_string(), &CLIENT6.to_string()))).proxy(&proxy)
    }

    /// Runs `program` bare, then wrapped with each of these proxies: each time it prints the same, and nothing leaks.
    #[track_caller]
    pub(super) fn same_bare_and_wrapped(&self, program: &[&Path], proxies: &[&dyn Upstream]) {
        let expected = self.bare(program);
        for proxy in proxies {
            let outcome = self.wrapped(program, &proxy.url()).run();
            assert!(
                outcome.status.success() && outcome.stdout() == expected,
                "not as on a bare machine:\n{}\n{}",
                differences(&expected, &outcome.stdout()),
                outcome.report()
            );
        }
        self.lab.assert_no_leak();
    }
}

/// Runs `tests/programs/NAME.c` bare, then wrapped with Dante and with our own server.
#[track_caller]
pub(super) fn same_bare_and_wrapped(name: &str) {
    let Some(scene) = Scene::set() else { return };
    let program = compile(&scene.lab, name);
    scene.same_bare_and_wrapped(&[&program], &[&scene.dante, &scene.embedded]);
}

/// What every program is told; `own` and `own6` are the addresses of its machine.
fn arguments(own: &str, own6: &str) -> Vec<OsString> {
    [
        format!("echo={ORIGIN}:{ECHO}"),
        format!("echo6=[{ORIGIN6}]:{ECHO}"),
        format!("second={ORIGIN}:{SECOND}"),
        format!("second6=[{ORIGIN6}]:{SECOND}"),
        format!("elsewhere={ORIGIN}:{ELSEWHERE}"),
        format!("elsewhere6=[{ORIGIN6}]:{ELSEWHERE}"),
        format!("many=10.88.16.1:{MANY}"),
        format!("own={own}"),
        format!("own6={own6}"),
    ]
    .map(OsString::from)
    .into()
}

/// The lines of `wrapped` that `bare` does not have, and the first that is missing.
fn differences(bare: &str, wrapped: &str) -> String {
    let new = wrapped.lines().filter(|line| !bare.lines().any(|other| other == *line));
    let mut lines: Vec<String> = new.map(|line| format!("> {line}")).collect();
    let missing = bare.lines().find(|line| !wrapped.lines().any(|other| other == *line));
    lines.extend(missing.map(|line| format!("< {line}")));
    lines.join("\n")
}

/// Waits until somebody on `host` has a UDP socket with this port.
pub(super) fn await_socket(host: &Host, port: u16) {
    patience::wait_until(&format!("a socket with port {port}"), || {
        !host.setup(&["ss", "-Huan", "sport", "=", &format!(":{port}")], "").is_empty()
    });
}

//! Programs that listen beside a connection through a proxy (`--bind`): the proxy listens, and who comes there reaches the program.

mod kinds;
mod listeners;
mod replies;

use std::path::Path;
use std::process::{Command, Stdio};

use presocks_tests::lab::{ORIGIN, ORIGIN6};
use presocks_tests::origin::{Service, caller};
use presocks_tests::proxy::{Dante, Upstream};
use presocks_tests::{Build, Lab, Outcome, missing};

use crate::behaviour::program::compile;

const PORT: u16 = 2100;
const ECHO_PORT: u16 = 7000;

/// As Python's ftplib does it: the port is the listener's, the host that of the control connection.
const LISTEN: &str = "
import socket, sys, threading
control = socket.create_connection((sys.argv[1], int(sys.argv[2])))
listener = socket.create_server(('', 0), family=control.family)
host, port = control.getsockname()[0], listener.getsockname()[1]
control.sendall(f'call {host}:{port}\\n'.encode())
data, peer = listener.accept()
said = control.makefile().readline().split()
print('peer', data.getpeername()[:2] == peer[:2], said[-1].endswith(f':{peer[1]}'), peer[0] == control.getpeername()[0])
print('own', data.getsockname()[:2] == (host, port))
print(data.makefile().readline(), end='')
threading.Thread(target=data.sendall, args=[b'x' * 300000]).start()
come = 0
while come < 300000: come += len(data.recv(300000 - come))
print(come)
data.shutdown(socket.SHUT_WR)
print(data.recv(1))
";

const LISTENED: &str = "peer True True True\nown True\nhello from the caller\n300000\nb''\n";

#[test]
fn a_program_is_called_back_where_the_proxy_listens() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = caller::start(&lab, PORT);
    for proxy in [Dante::open(&lab), Dante::with_password(&lab)] {
        for host in ["10.88.0.2", "origin.test"] {
            let run = lab.presocks(["python3", "-c", LISTEN, host, "2100"]).proxy(&proxy);
            run.options(["--bind"]).run().success().stdout_is(LISTENED).stderr_is("");
        }
    }
    lab.assert_no_leak();
}

/// A lab with a service that calls back, and one that echoes. The proxy is the test's.
struct Scene {
    _caller: Service,
    _echo: Service,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&["cc", "danted"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { _caller: caller::start(&lab, PORT), _echo: Service::echo(&lab, ECHO_PORT), lab })
    }

    fn arguments() -> [String; 3] {
        [
            format!("caller={ORIGIN}:{PORT}"),
            format!("caller6=[{ORIGIN6}]:{PORT}"),
            format!("open={ORIGIN}:{ECHO_PORT}"),
        ]
    }

    /// The program on the proxy host, next to the origin, without presocks: all of its checks hold there.
    #[track_caller]
    fn bare(&self, program: &Path, more: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(Self::arguments()).args(more).env_clear();
        let child =
            self.lab.proxy.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}:\n{text}", output.status);
        text
    }

    fn wrapped(&self, program: &Path, more: &[&str], proxy: &impl Upstream, options: &[&str]) -> Outcome {
        let arguments = Self::arguments();
        let words = [program.to_str().unwrap()].into_iter().chain(arguments.iter().map(String::as_str));
        let run = self.lab.presocks(words.chain(more.iter().copied())).proxy(proxy);
        run.options(["--bind"]).options(options).run()
    }

    /// It prints the same on a bare machine as under presocks.
    #[track_caller]
    fn is_as_bare(&self, program: &Path, more: &[&str], proxy: &impl Upstream, options: &[&str]) {
        let expected = self.bare(program, more);
        let outcome = self.wrapped(program, more, proxy, options);
        assert!(outcome.status.success() && outcome.stdout() == expected, "{}", outcome.report());
        self.lab.assert_no_leak();
    }
}

#[test]
fn waiting_accepting_and_all_that_a_listener_says_are_as_on_a_bare_machine() {
    let Some(scene) = Scene::set() else { return };
    let proxy = Dante::open(&scene.lab);
    let program = compile(&scene.lab, "listening");
    scene.is_as_bare(&program, &[], &proxy, &[]);
    scene.is_as_bare(&program, &[], &proxy, &["--backstop=off", "-q"]);
}

#[test]
fn so_they_are_over_ipv6() {
    let Some(scene) = Scene::set() else { return };
    let proxy = Dante::open(&scene.lab);
    scene.is_as_bare(&compile(&scene.lab, "listening"), &["by6=1"], &proxy, &[]);
}

#[test]
fn a_caught_program_listens_as_well() {
    for build in [Build::Static, Build::Narrow] {
        if missing(build.needs()) {
            return;
        }
        let Some(scene) = Scene::set() else { return };
        let proxy = Dante::open(&scene.lab);
        scene.is_as_bare(&build.of(&scene.lab, "listening", &[]), &["caught=1"], &proxy, &[]);
    }
}

#[test]
fn an_ordinary_user_listens_and_so_does_what_runs_under_presocks_twice() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = caller::start(&lab, PORT);
    let proxy = Dante::open(&lab);
    let listen = ["python3", "-c", LISTEN, "origin.test", "2100"];
    let run = lab.presocks(listen).proxy(&proxy).options(["--bind"]).ordinary_user();
    run.run().success().stdout_is(LISTENED).stderr_is("");
    let inner =
        [presocks_tests::binary::presocks().to_str().unwrap(), "-p", "socks5://192.0.2.1"].map(str::to_owned);
    let words = inner.iter().map(String::as_str).chain(listen);
    let run = lab.presocks(words).proxy(&proxy).options(["--bind"]);
    run.run().success().stdout_is(LISTENED).stderr_has("the outer one's proxy");
    // MPTCP, where the kernel has it.
    let mptcp = LISTEN.replace(
        "listener = socket.create_server(('', 0), family=control.family)",
        "listener = socket.socket(control.family, socket.SOCK_STREAM, 262); listener.listen(1)",
    );
    let run = lab.presocks(["python3", "-c", &mptcp, "10.88.0.2", "2100"]).proxy(&proxy);
    run.options(["--bind"]).env("PRESOCKS_BIND", "off").run().success().stdout_is(LISTENED).stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn when_the_broker_is_gone_nobody_listens_and_sockets_keep_their_names() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = caller::start(&lab, PORT);
    let proxy = Dante::open(&lab);
    let program = "
import errno, os, signal, socket
control = socket.create_connection(('10.88.0.2', 2100))
listener = socket.socket(); listener.bind(('', 0))
print(control.getsockname()[0], flush=True)
broker = os.getppid()
os.kill(broker, signal.SIGKILL)
while os.getppid() == broker: pass
for call in (lambda: listener.listen(1), lambda: listener.bind(('192.0.2.1', 0))):
    try: call()
    except OSError as error: print(errno.errorcode[error.errno])
print(control.getsockname()[0], listener.getsockname()[0])
";
    for backstop in ["auto", "off"] {
        let run = lab.presocks(["python3", "-c", program]).proxy(&proxy);
        let run = run.options(["--bind", "-q", "--backstop", backstop]).run();
        run.stdout_is("10.88.0.1\nENETUNREACH\nENETUNREACH\n10.77.0.2 0.0.0.0\n");
    }
    lab.assert_no_leak();
}

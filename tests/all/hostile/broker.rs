//! The broker dies: what stands keeps working, what is pending fails, nothing new begins, nothing leaks. And what must not
//! kill it.

use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::scripted::{Gate, Script};
use presocks_tests::proxy::{Microsocks, Upstream, url};
use presocks_tests::{Lab, binary, missing};

use crate::behaviour::stage::Stage;

#[test]
fn a_killed_broker_fails_pending_and_new_connects_and_spares_standing_ones() {
    let Some(stage) = Stage::set() else { return };
    let outcome = stage.wrapped("brokerless", &stage.proxy.url(), &[]).run();
    assert!(!outcome.stdout().is_empty() && !outcome.stdout().contains("FAILED"), "{}", outcome.report());
    stage.lab.assert_no_leak();
}

/// Connects one socket twice at once: here, and in a new program, where it is blocking, and waits for how the first one ends. Then asks the broker for
/// something else.
const TWICE: &str = "
import errno, socket, subprocess, sys
to = (sys.argv[1], 7000)
if len(sys.argv) > 2:
    s = socket.socket(fileno=int(sys.argv[2]))
    s.setblocking(True)
else:
    s = socket.socket()
    s.setblocking(False)
print(errno.errorcode[s.connect_ex(to)], flush=True)
if len(sys.argv) == 2:
    subprocess.run([sys.executable, '-c', sys.stdin.read(), sys.argv[1], str(s.fileno())], pass_fds=[s.fileno()], check=True)
    print(socket.gethostbyname('origin.test').startswith('198.'))";

/// Where a proxy's host answers nobody.
const SILENT: u16 = 5000;

fn silence(lab: &Lab) {
    lab.permit_proxy_port(SILENT);
    let drop = format!(
        "table inet silence {{ chain input {{ type filter hook input priority 0; tcp dport {SILENT} drop; }}; }}\n"
    );
    lab.proxy.setup(&["nft", "-f", "-"], &drop);
}

#[test]
fn two_programs_that_connect_one_socket_do_not_end_the_broker() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    silence(&lab);
    let words = ["python3", "-c", TWICE, "192.0.2.1"];
    let run = lab.presocks(words).proxy(&url(None, SILENT)).options(["--connect-timeout=2"]);
    let outcome = run.stdin(TWICE).run();
    outcome.success().stdout_is("EINPROGRESS\nETIMEDOUT\nTrue\n");
    lab.assert_no_leak();
}

/// Begins to connect. Then other programs, which have taken the socket and know of no connect under way, connect it to there and to loopback.
const AGAIN: &str = "
import errno, os, socket, subprocess, sys
first, loopback, protocol = sys.argv[1], sys.argv[2], int(sys.argv[3])
again = '''
import ctypes, errno, os, socket, sys
PIDFD_GETFD = 438
s = socket.socket(fileno=ctypes.CDLL(None).syscall(PIDFD_GETFD, os.pidfd_open(os.getppid()), int(sys.argv[3]), 0))
s.setblocking(sys.argv[4] == 'blocking')
print(errno.errorcode.get(s.connect_ex((sys.argv[1], int(sys.argv[2]))), 'connected'), *sys.argv[4:], flush=True)'''
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
s.setblocking(False)
print(errno.errorcode[s.connect_ex((first, 7000))], flush=True)
sys.stdin.readline()
for kind in 'hooked', 'caught':
    environment = {name: value for name, value in os.environ.items() if kind == 'hooked' or name != 'LD_PRELOAD'}
    for manner in 'non-blocking', 'blocking':
        for to in first, loopback:
            words = [sys.executable, '-c', again, to, '7000', str(s.fileno()), manner, kind, to]
            subprocess.run(words, env=environment, check=True)
";

/// The kernel, which knows of the connect, has it done when the proxy is reached, and a blocking one wait for that.
#[test]
fn a_program_that_connects_a_socket_which_another_one_connects_is_not_told_that_the_proxy_is_reached() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    silence(&lab);
    let gate = Gate::closed();
    let mute = Script::new().expect(3).pass(&gate).start(&lab);
    let mut expected = String::from("EINPROGRESS\n");
    for kind in ["hooked", "caught"] {
        for manner in ["non-blocking", "blocking"] {
            for to in ["192.0.2.1", "127.0.0.1"] {
                expected.push_str(&format!("EALREADY {manner} {kind} {to}\n"));
            }
        }
    }
    // TCP and MPTCP.
    for (count, protocol) in (1..).zip(["6", "262"]) {
        for proxy in [url(None, SILENT), mute.url()] {
            let words = ["python3", "-c", AGAIN, "192.0.2.1", "127.0.0.1", protocol];
            let options = ["-q", "--connect-timeout=60", "--handshake-timeout=60"];
            let mut run = lab.presocks(words).proxy(&proxy).options(options).start();
            assert_eq!(run.line(), "EINPROGRESS");
            if proxy == mute.url() {
                gate.wait_for_arrivals(count);
            }
            run.write("go\n");
            run.finish().success().stdout_is(&expected);
        }
    }
    gate.open();
    lab.assert_no_leak();
}

/// Connects to the broker as often as its argument says, and says nothing to it.
const FLOOD: &str = "
import socket, sys
name = next(line.split()[-1] for line in open('/proc/net/unix') if '@presocks-' in line)
held = []
for _ in range(int(sys.argv[1])):
    held.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    held[-1].connect(b'\\x00' + name[1:].encode())
print('flooded', flush=True)
sys.stdin.read()";

#[test]
fn another_user_cannot_take_the_brokers_descriptors() {
    if missing(&["python3", "curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let script = format!(
        "ulimit -n 200; exec {} -p {} sh -c 'echo ready; read line; exec curl -sS -m 20 http://origin.test/hello'",
        binary::presocks().display(),
        proxy.url()
    );
    let mut session = lab.bare(["sh", "-c", &script]).start();
    assert_eq!(session.line(), "ready");
    let mut flood = lab.bare(["python3", "-c", FLOOD, "300"]).ordinary_user().start();
    assert_eq!(flood.line(), "flooded");
    session.write("go\n");
    session.finish().success().stdout_is(format!("ready\n{}", http::HELLO));
    flood.finish().success();
}

#[test]
fn the_status_is_the_commands_when_the_broker_was_killed() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    for _ in 0..20 {
        let run = lab.presocks(["sh", "-c", "kill -KILL $PPID; exit 7"]).proxy("socks5://127.0.0.1:1");
        run.run().code(7).stderr_is("");
    }
}

/// Connects to itself by loopback, before the broker is killed and afterwards; with a word, it binds another socket to the device first.
const UNATTENDED: &str = "
import errno, os, socket, sys, time
listener = socket.create_server(('127.0.0.1', 0))
def connect():
    return errno.errorcode.get(socket.socket().connect_ex(listener.getsockname()), 'ok')
if len(sys.argv) > 1:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
before = connect()
broker = os.getppid()
os.kill(broker, 9)
while os.getppid() == broker:
    time.sleep(0.01)
print(before, connect())";

#[test]
fn loopback_needs_no_broker_unless_a_socket_of_the_program_is_bound_to_a_device() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    for (words, expected) in [(&[][..], "ok ok\n"), (&["cable"], "ok ENETUNREACH\n")] {
        let command = ["python3", "-c", UNATTENDED].iter().chain(words);
        let run = lab.presocks(command).proxy("socks5://127.0.0.1:1").options(["-q"]).run();
        run.success().stdout_is(expected);
    }
    lab.assert_no_leak();
}

#[test]
fn a_request_to_end_that_reaches_the_broker_too_leaves_the_network_to_those_that_remain() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let script = "kill -TERM $PPID; exec curl -sS http://origin.test/hello";
    lab.presocks(["sh", "-c", script]).proxy(&proxy).run().success().stdout_is(http::HELLO);
}

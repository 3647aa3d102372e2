//! The program's listener and the proxy's: they end together, and the network reaches the proxy's alone.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use presocks_tests::lab::{CLIENT, PROXY};
use presocks_tests::proxy::scripted::{Gate, Script};
use presocks_tests::proxy::{Dante, ScriptedProxy};
use presocks_tests::{Lab, missing, patience};

use super::replies::{at, probe, proxy};

fn listening() -> Script {
    Script::until_request().send(at([203, 0, 113, 9], 4000))
}

/// Waits until the proxy sees the end of this connection, and nothing but that.
#[track_caller]
fn ends(proxy: &ScriptedProxy, connection: usize) {
    patience::wait_until("a BIND to end", || {
        proxy.connections().get(connection).is_some_and(|connection| connection.over)
    });
    assert_eq!(proxy.connections()[connection].error, None);
}

#[test]
fn the_proxy_stops_listening_when_the_program_closes_its_listener() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = proxy(&lab, listening().read_all());
    // One that listens, and one that is asked for its name and never listens.
    let steps = ["listen", "close", "name", "close", "wait"];
    let mut running = probe(&lab, &proxy, &steps).start();
    assert_eq!(running.line(), "listens");
    assert_eq!(running.line(), "listener 203.0.113.9 4000");
    for connection in [1, 2] {
        ends(&proxy, connection);
    }
    assert!(!running.ended());
    running.write("\n");
    running.finish().success().stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn the_proxy_stops_listening_when_the_program_ends() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = proxy(&lab, listening().read_all());
    probe(&lab, &proxy, &["listen"]).run().success().stderr_is("");
    ends(&proxy, 1);
    lab.assert_no_leak();
}

#[test]
fn who_comes_when_the_listener_is_closed_is_turned_away() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let binds = listening().pass(&gate).send(at([10, 88, 0, 2], 20)).send("hello").read_all();
    let proxy = proxy(&lab, binds);
    let mut running = probe(&lab, &proxy, &["listen", "close", "wait"]).start();
    assert_eq!(running.line(), "listens");
    // The program has closed it when it waits; the broker may know already, or not.
    gate.open();
    patience::wait_until("the BIND to end", || proxy.connections().get(1).is_some_and(|bind| bind.over));
    running.write("\n");
    running.finish().success();
    lab.assert_no_leak();
}

/// Ports on which the client listens, but for those of loopback (proc(5), `/proc/net/tcp`).
fn listening_ports(lab: &Lab) -> Vec<u16> {
    let table = lab.client.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A" && row[1].starts_with("00000000:"))
        .map(|row| u16::from_str_radix(&row[1][9..], 16).unwrap())
        .collect()
}

#[test]
fn a_stranger_on_the_network_gets_no_answer_from_the_programs_listener() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let proxy = proxy(&lab, listening().pass(&gate).send(at([10, 88, 0, 2], 20)).send("hello"));
    let mut running = probe(&lab, &proxy, &["listen", "accept", "read"]).start();
    assert_eq!(running.line(), "listens");
    let [port] = listening_ports(&lab)[..] else { panic!("one listener") };
    // What it answered, the witness would count: nothing may leave the client but for the proxy.
    let knock = || TcpStream::connect_timeout(&SocketAddr::from((CLIENT, port)), Duration::from_millis(100));
    let error = lab.proxy.inside(knock).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    lab.assert_no_leak();
    gate.open();
    running.finish().success().stdout_has("read hello\n");
    lab.assert_no_leak();
}

/// Kernels that let the unprivileged have no filter on TCP refuse, as where nobody listens.
#[test]
fn a_stranger_does_not_get_to_an_ordinary_users_listener_either() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let proxy = proxy(&lab, listening().pass(&gate).send(at([10, 88, 0, 2], 20)).send("hello"));
    let mut running = probe(&lab, &proxy, &["listen", "look", "accept", "read"]).ordinary_user().start();
    assert_eq!(running.line(), "listens");
    assert_eq!(running.line(), "nobody");
    let [port] = listening_ports(&lab)[..] else { panic!("one listener") };
    lab.permit_direct(&PROXY.to_string());
    let knock = || TcpStream::connect_timeout(&SocketAddr::from((CLIENT, port)), Duration::from_millis(100));
    let error = lab.proxy.inside(knock).unwrap_err();
    let kinds = [std::io::ErrorKind::TimedOut, std::io::ErrorKind::ConnectionRefused];
    assert!(kinds.contains(&error.kind()), "{error}");
    gate.open();
    running.finish().success().stdout_has("peer 10.88.0.2 20 True").stdout_has("read hello\n");
    lab.assert_no_leak();
}

#[test]
fn without_bind_and_without_a_connection_a_listener_is_the_programs_own() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    let program = "
import socket
listener = socket.create_server(('', 0))
print(listener.getsockname() == ('0.0.0.0', listener.getsockname()[1]))
with socket.create_connection(('127.0.0.1', listener.getsockname()[1])) as near:
    far, peer = listener.accept()
    print(peer == near.getsockname(), far.getsockname() == near.getpeername())
";
    for options in [&["--bind"][..], &[]] {
        let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(options);
        run.run().success().stdout_is("True\nTrue True\n").stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn beside_a_direct_connection_a_listener_is_the_programs_own() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let _server = presocks_tests::origin::Service::echo(&lab, 2100);
    lab.permit_direct("10.88.0.0/24");
    let proxy = proxy(&lab, listening().read_all());
    let run = probe(&lab, &proxy, &["listen", "name", "control"]).options(["--direct", "10.88.0.0/24"]).run();
    run.success().stdout_has("listens\nlistener 0.0.0.0 ").stdout_has("control 10.77.0.2 ");
    assert_eq!(proxy.connections().len(), 0);
}

/// `fork()`, `os._exit()` in the parent: as a client that goes on in the background, or a daemon.
#[test]
fn who_outlives_the_parent_that_has_connected_has_the_proxy_listen() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = proxy(&lab, listening().send(at([10, 88, 0, 2], 20)).send("hello"));
    let program = "
import os, socket
control = socket.create_connection(('10.88.0.2', 2100))
parent = os.getpid()
if os.fork(): os._exit(0)
while os.getppid() == parent: pass
listener = socket.socket(); listener.bind((control.getsockname()[0], 0)); listener.listen(1)
print(*listener.getsockname())
print(listener.accept()[0].recv(100).decode())
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind"]).run();
    run.success().stdout_is("203.0.113.9 4000\nhello\n").stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn at_the_proxys_address_nobody_listens_without_a_connection_to_the_proxy() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = proxy(&lab, listening().read_all());
    let program = "
import errno, os, socket
control = socket.create_connection(('10.88.0.2', 2100))
shown = control.getsockname()[0]
listener, other = socket.socket(), socket.socket()
listener.bind((shown, 0)); other.bind(('', 0))
control.close()
for its in (listener, other):
    try: its.listen(1); print('listens')
    except OSError as error: print(errno.errorcode[error.errno])
";
    for backstop in ["auto", "off"] {
        let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind", "-q"]);
        let run = run.options(["--backstop", backstop]).run();
        run.success().stdout_is("EADDRNOTAVAIL\nlistens\n");
    }
    lab.assert_no_leak();
}

#[test]
fn a_listener_that_is_shut_down_connects_through_the_proxy_again() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = presocks_tests::origin::Service::echo(&lab, 2100);
    let proxy = Dante::open(&lab);
    let program = "
import socket
control = socket.create_connection(('10.88.0.2', 2100))
listener = socket.socket(); listener.listen(1)
print(listener.getsockname()[0])
listener.shutdown(socket.SHUT_RDWR)
listener.connect(('10.88.0.2', 2100)); listener.sendall(b'again'); print(listener.recv(100).decode())
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind"]).run();
    run.success().stdout_is("10.88.0.1\nagain\n").stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn a_proxy_that_does_not_listen_once_more_is_asked_once_and_the_listener_keeps_its_address() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let refuses = Script::until_request().send([5, 2, 0, 1, 0, 0, 0, 0, 0, 0]).read_all();
    let listens = listening().send(at([10, 88, 0, 2], 20)).read_all().and_later(refuses);
    let proxy = Script::until_request().send(at([203, 0, 113, 5], 7777)).read_all().and_later(listens);
    let proxy = proxy.start(&lab);
    let program = "
import socket
control = socket.create_connection(('10.88.0.2', 2100))
listener = socket.socket(); listener.listen(1)
print(listener.getsockname(), listener.accept()[1])
print(listener.getsockname(), listener.getsockname())
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind", "-q"]).run();
    let first = "('203.0.113.9', 4000)";
    run.success().stdout_is(format!("{first} ('10.88.0.2', 20)\n{first} {first}\n"));
    assert_eq!(proxy.finished(3).len(), 3);
    lab.assert_no_leak();
}

#[test]
fn a_connection_that_was_reset_is_no_listener() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let dies = Script::until_request().send(at([203, 0, 113, 5], 7778)).pass(&gate).reset();
    let proxy =
        Script::until_request().send(at([203, 0, 113, 5], 7777)).read_all().and_later(dies).start(&lab);
    let program = "
import socket
control = socket.create_connection(('10.88.0.2', 2100))
dead = socket.create_connection(('10.88.0.2', 2100))
print('connected', flush=True)
try: dead.recv(1)
except ConnectionResetError: print('reset')
print(dead.getsockname()[0], control.getsockname())
";
    let mut running = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind"]).start();
    assert_eq!(running.line(), "connected");
    gate.open();
    let run = running.finish();
    run.success().stdout_is("connected\nreset\n10.77.0.2 ('203.0.113.5', 7777)\n").stderr_is("");
    assert_eq!(proxy.finished(2).len(), 2);
    lab.assert_no_leak();
}

#[test]
fn who_has_a_closed_listeners_port_gets_nobody() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let proxy = proxy(&lab, listening().pass(&gate).send(at([10, 88, 0, 2], 20)).send("hello").read_all());
    let program = "
import select, socket, sys
control = socket.create_connection(('10.88.0.2', 2100))
port = 5555
listener = socket.socket(); listener.bind(('', port)); listener.listen(1); listener.close()
other = socket.create_server(('127.0.0.1', port))
print('closed', flush=True); sys.stdin.readline()
for name in ('one.test', 'two.test'): socket.gethostbyname(name)
print('somebody' if select.select([other], [], [], 0)[0] else 'nobody')
";
    let mut running =
        lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind", "-q"]).start();
    assert_eq!(running.line(), "closed");
    gate.open();
    patience::wait_until("the BIND to end", || proxy.connections().get(1).is_some_and(|bind| bind.over));
    running.write("\n");
    running.finish().success().stdout_is("closed\nnobody\n");
    lab.assert_no_leak();
}

#[test]
fn a_datagram_socket_is_bound_to_what_the_program_takes_for_its_address() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = proxy(&lab, listening().read_all());
    let program = "
import socket
control = socket.create_connection(('10.88.0.2', 2100))
datagrams = socket.socket(type=socket.SOCK_DGRAM); datagrams.bind((control.getsockname()[0], 0))
print(datagrams.getsockname()[0], datagrams.getsockname()[1] > 0)
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind"]).run();
    run.success().stdout_is("0.0.0.0 True\n").stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn a_connect_that_has_failed_leaves_no_listener() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let refuses = Script::until_request().send(presocks_tests::proxy::scripted::reply(5));
    let connects = Script::until_request().send(at([203, 0, 113, 5], 7777)).read_all();
    let proxy = connects.and_later(refuses).start(&lab);
    let program = "
import socket
control = socket.create_connection(('10.88.0.2', 2100))
failed = socket.socket(); failed.bind(('', 0))
print(failed.connect_ex(('10.88.0.2', 2100)) > 0, failed.getsockname()[0] == '203.0.113.9')
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind", "-q"]).run();
    run.success().stdout_is("True False\n");
    assert_eq!(proxy.finished(2).len(), 2);
    lab.assert_no_leak();
}

#[test]
fn a_listener_that_is_closed_right_after_accept_loses_nothing() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _caller = presocks_tests::origin::caller::start(&lab, 2100);
    let proxy = Dante::open(&lab);
    // Without an address to fill, accept() asks the broker nothing.
    let program = "
import ctypes, socket
libc = ctypes.CDLL(None)
control = socket.create_connection(('10.88.0.2', 2100))
for turn in range(30):
    listener = socket.create_server(('', 0))
    host, port = control.getsockname()[0], listener.getsockname()[1]
    control.sendall(f'call {host}:{port}\\n'.encode())
    data = socket.socket(fileno=libc.accept(listener.fileno(), None, None)); listener.close()
    print(data.makefile().readline(), end='')
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["--bind"]).run();
    run.success().stderr_is("").stdout_is("hello from the caller\n".repeat(30));
    lab.assert_no_leak();
}

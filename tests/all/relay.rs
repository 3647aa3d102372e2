//! Connections that run through the broker, because the program's socket cannot reach the proxy itself: what must hold for each,
//! whatever the reason, and here for a proxy with an IPv6 address.

mod ends;
pub(crate) mod pages;
mod urgent;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::proxy::{Dante, Microsocks, ScriptedProxy, Upstream};
use presocks_tests::{Lab, lab, missing, patience};

const PYTHON: &str = "/usr/bin/python3";

/// A proxy, or a chain of some.
pub(crate) trait Via {
    /// As presocks has it.
    fn options(&self) -> Vec<String>;
}

impl Via for str {
    fn options(&self) -> Vec<String> {
        vec!["-p".to_owned(), self.to_owned()]
    }
}

impl Via for String {
    fn options(&self) -> Vec<String> {
        self.as_str().options()
    }
}

impl Via for Vec<String> {
    fn options(&self) -> Vec<String> {
        self.iter().flat_map(Via::options).collect()
    }
}

fn run(lab: &Lab, via: &(impl Via + ?Sized), program: &str, arguments: &[&str]) -> presocks_tests::Outcome {
    lab.presocks([PYTHON, "-c", program].iter().chain(arguments)).options(via.options()).run()
}

/// How many bytes the tests send that are about many.
const MANY: u64 = (5 << 20) + 3;

/// Sends to the port, and receives at once or later.
const TALK: &str = "
import hashlib, random, socket, sys, threading
data = random.Random(1).randbytes((5 << 20) + 3)
s = socket.create_connection(('10.88.0.2', int(sys.argv[1])))
sender = threading.Thread(target=s.sendall, args=[data])
sender.start()
if 'later' in sys.argv: sender.join()
got, length = hashlib.sha256(), 0
while length < len(data) and (piece := s.recv(1 << 16)):
    got.update(piece)
    length += len(piece)
sender.join()
print(length, got.digest() == hashlib.sha256(data).digest())";

/// Not for microsocks, which writes to one side without reading from the other.
#[track_caller]
pub(crate) fn carries_megabytes_both_ways_at_once(lab: &Lab, via: &(impl Via + ?Sized)) {
    let port = Service::echo(lab, 0).port().to_string();
    run(lab, via, TALK, &[&port]).success().stdout_is("5242883 True\n").stderr_is("");
}

#[track_caller]
pub(crate) fn carries_megabytes_one_way_and_then_the_other(lab: &Lab, via: &(impl Via + ?Sized)) {
    let port = Service::mirror(lab, 0, MANY).port().to_string();
    run(lab, via, TALK, &[&port, "later"]).success().stdout_is("5242883 True\n").stderr_is("");
}

/// Not for microsocks, tinyproxy and squid, which close both directions at once.
#[track_caller]
pub(crate) fn carries_the_end_of_one_direction(lab: &Lab, via: &(impl Via + ?Sized)) {
    const PROGRAM: &str = "
import hashlib, random, socket, sys
data = random.Random(1).randbytes((5 << 20) + 3)
s = socket.create_connection(('10.88.0.2', int(sys.argv[1])))
s.sendall(data)
s.shutdown(socket.SHUT_WR)
got = bytearray()
while len(got) < len(data): got += s.recv(1 << 16)
print(got == data, flush=True)
print(s.recv(1))";
    // stunnel drops what it has not read yet when both directions have ended.
    let has_arrived = Gate::closed();
    let at_the_end = has_arrived.clone();
    let mirror = Service::start(lab, 0, move |mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        stream.write_all(&received)?;
        at_the_end.pass();
        stream.shutdown(Shutdown::Write)
    });
    let words = [PYTHON, "-c", PROGRAM, &mirror.port().to_string()];
    let mut running = lab.presocks(words).options(via.options()).start();
    assert_eq!(running.line(), "True");
    has_arrived.open();
    running.finish().success().stdout_is("True\nb''\n").stderr_is("");
}

/// Needs [`Service::echo`] on port 7.
#[track_caller]
pub(crate) fn shows_the_destination_as_peer(lab: &Lab, via: &(impl Via + ?Sized), hosts: &[&str]) {
    const PROGRAM: &str = "
import socket, sys
for host in sys.argv[1:]:
    with socket.create_connection((host, 7)) as s:
        s.sendall(b'x' * 10000)
        total = 0
        while total < 10000 and (piece := s.recv(65536)): total += len(piece)
        wanted = socket.getaddrinfo(host, 7, s.family, socket.SOCK_STREAM)[0][4]
        print(total, s.getpeername()[:2] == wanted[:2], s.gettimeout(), s.getblocking())
";
    run(lab, via, PROGRAM, hosts)
        .success()
        .stdout_is("10000 True None True\n".repeat(hosts.len()))
        .stderr_is("");
}

/// Needs [`Service::echo`] on port 7.
#[track_caller]
pub(crate) fn connects_two_hundred_times_at_once(lab: &Lab, via: &(impl Via + ?Sized)) {
    const PROGRAM: &str = "
import asyncio
async def one(number):
    reader, writer = await asyncio.open_connection('10.88.0.2', 7)
    writer.write(b'%d\\n' % number)
    line = await reader.readline()
    await everybody.wait()
    writer.close()
    return line == b'%d\\n' % number
async def main():
    global everybody
    everybody = asyncio.Barrier(200)
    print(all(await asyncio.gather(*map(one, range(200)))))
asyncio.run(main())";
    run(lab, via, PROGRAM, &[]).success().stdout_is("True\n").stderr_is("");
}

/// Needs a proxy that tells causes apart, as Dante does.
#[track_caller]
pub(crate) fn tells_the_true_errno(lab: &Lab, via: &(impl Via + ?Sized)) {
    const PROGRAM: &str = "
import asyncio, errno, select, socket
async def later(address):
    await asyncio.open_connection(*address)
def in_progress(address):
    s = socket.socket()
    s.setblocking(False)
    print(errno.errorcode[s.connect_ex(address)])
    select.select([], [s], [])
    raise OSError(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), '')
for address in ('10.88.0.2', 4), ('10.99.0.1', 80):
    for attempt in (socket.create_connection, lambda address: asyncio.run(later(address)), in_progress):
        try: attempt(address)
        except OSError as error: print(errno.errorcode[error.errno])
";
    let block = |name: &str| format!("{name}\n{name}\nEINPROGRESS\n{name}\n");
    let outcome = run(lab, via, PROGRAM, &[]);
    outcome.success().stdout_is(block("ECONNREFUSED") + &block("EHOSTUNREACH"));
    assert_eq!(outcome.stderr().lines().count(), 2, "{}", outcome.report());
}

/// Needs [`Service::echo`] on port 7, and a proxy that resets the connection when the gate opens.
#[track_caller]
pub(crate) fn tells_of_a_reset(lab: &Lab, via: &(impl Via + ?Sized), gate: &Gate) {
    const PROGRAM: &str = "
import errno, socket
s = socket.create_connection(('10.88.0.2', 7))
s.sendall(b'hello')
print(s.recv(100), flush=True)
try: print(s.recv(100))
except OSError as error: print(errno.errorcode[error.errno])";
    let mut running = lab.presocks([PYTHON, "-c", PROGRAM]).options(via.options()).start();
    assert_eq!(running.line(), "b'hello'");
    gate.open();
    running.finish().success().stdout_is("b'hello'\nECONNRESET\n").stderr_is("");
}

/// Needs [`Service::echo`] on port 7. Resets the connection when all that was sent has come back.
#[track_caller]
pub(crate) fn resets(lab: &Lab, via: &(impl Via + ?Sized)) {
    const PROGRAM: &str = "
import socket, struct
s = socket.create_connection(('10.88.0.2', 7))
s.sendall(b'hello')
print(s.recv(100))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()";
    run(lab, via, PROGRAM, &[]).success().stdout_is("b'hello'\n").stderr_is("");
}

#[track_caller]
pub(crate) fn refuses_datagrams(lab: &Lab, via: &(impl Via + ?Sized)) {
    const PROGRAM: &str = "
import errno, socket
for connected in True, False, False:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if connected: s.connect(('10.88.0.2', 7)); s.send(b'x')
        else: s.sendto(b'x', ('10.88.0.2', 7))
        print('sent')
    except OSError as error: print(errno.errorcode[error.errno])
";
    let outcome = run(lab, via, PROGRAM, &[]);
    outcome.success().stdout_is("ENETUNREACH\n".repeat(3)).stderr_has("datagrams via ");
    assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
}

/// Sends until every buffer on the way is full, tells how much that was, and exits with all of it under way.
const FILL: &str = "
import select, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.setblocking(False)
sent = 0
while select.select([], [s], [], 1)[1]: sent += s.send(bytes(65536))
print(sent)";

#[track_caller]
pub(crate) fn carries_what_was_sent_before_the_exit(lab: &Lab, via: &(impl Via + ?Sized)) {
    let has_exited = Arc::new(AtomicBool::new(false));
    let (received, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let origin = (Arc::clone(&has_exited), Arc::clone(&received), Arc::clone(&is_over));
    let slow = Service::start(lab, 0, move |mut stream| {
        let (has_exited, received, is_over) = &origin;
        patience::wait_until("the program to exit", || has_exited.load(Ordering::SeqCst));
        let mut buffer = vec![0; 65536];
        let ended = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(len) => drop(received.fetch_add(len, Ordering::SeqCst)),
                Err(error) => break Err(error),
            }
        };
        is_over.store(true, Ordering::SeqCst);
        ended
    });
    let outcome = run(lab, via, FILL, &[&ORIGIN.to_string(), &slow.port().to_string()]);
    let sent: usize = outcome.success().stdout().trim().parse().unwrap();
    has_exited.store(true, Ordering::SeqCst);
    patience::wait_until("the connection to end", || is_over.load(Ordering::SeqCst));
    assert_eq!(received.load(Ordering::SeqCst), sent);
}

#[test]
fn what_a_program_sends_before_it_exits_arrives() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    carries_what_was_sent_before_the_exit(&lab, &proxy.url6());
    lab.assert_no_leak();
}

#[test]
fn bytes_arrive_whole_and_so_does_the_end_of_each_direction() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Dante::open(&lab);
    let url = proxy.url().replace(&lab::PROXY.to_string(), &format!("[{}]", lab::PROXY6));
    carries_megabytes_both_ways_at_once(&lab, &url);
    carries_megabytes_one_way_and_then_the_other(&lab, &url);
    carries_the_end_of_one_direction(&lab, &url);
    connects_two_hundred_times_at_once(&lab, &url);
    lab.assert_no_leak();
}

#[test]
fn failures_behind_the_proxy_are_those_of_a_direct_connection() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    tells_the_true_errno(&lab, &proxy.url().replace(&lab::PROXY.to_string(), &format!("[{}]", lab::PROXY6)));
    lab.assert_no_leak();
}

#[test]
fn a_reset_passes_in_either_direction() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let six = |url: String| url.replace(&lab::PROXY.to_string(), &format!("[{}]", lab::PROXY6));
    let granting = || Script::until_request().send(SUCCESS);
    let gate = Gate::closed();
    let proxy = granting().relay_until(&gate, (ORIGIN, 7)).start(&lab);
    tells_of_a_reset(&lab, &six(proxy.url()), &gate);
    let proxy = granting().relay((ORIGIN, 7)).start(&lab);
    resets(&lab, &six(proxy.url()));
    assert_reset(&proxy);
    lab.assert_no_leak();
}

/// The proxy's only connection was reset by the client.
#[track_caller]
pub(crate) fn assert_reset(proxy: &ScriptedProxy) {
    let connection = proxy.finished(1).remove(0);
    assert!(connection.error.as_deref().is_some_and(|error| error.contains("reset")), "{connection:?}");
}

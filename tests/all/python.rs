//! Python: blocking sockets, asyncio, urllib, http.client in threads, and sockets that a child inherits.

use presocks_tests::origin::{HttpServer, HttpsServer, Service, http, https};
use presocks_tests::proxy::{Dante, EACH_NEEDS, Microsocks, one_of_each};
use presocks_tests::{Lab, missing};

#[test]
fn blocking_sockets_talk_and_know_their_peer() {
    if missing(&["python3"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let program = "
import socket
for host in ('origin.test', '10.88.0.2', 'fd88::2', '::ffff:10.88.0.2'):
    with socket.create_connection((host, 7)) as s:
        s.sendall(b'x' * 10000)
        total = 0
        while total < 10000 and (piece := s.recv(65536)): total += len(piece)
        peer = s.getpeername()
        wanted = socket.getaddrinfo(host, 7, s.family, socket.SOCK_STREAM)[0][4]
        print(total, peer[:2] == wanted[:2], s.gettimeout(), s.getblocking())
";
    for proxy in one_of_each(&lab) {
        let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).run();
        run.success().stdout_is("10000 True None True\n".repeat(4)).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn asyncio_fetches_pages_concurrently() {
    if missing(&["python3"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let program = "
import asyncio
async def fetch(host):
    reader, writer = await asyncio.open_connection(host, 80)
    writer.write(b'GET /hello HTTP/1.0\\r\\n\\r\\n')
    answer = await reader.read()
    writer.close()
    return answer.split(b'\\r\\n\\r\\n', 1)[1].decode()
async def main():
    hosts = ['origin.test', 'a.test', '10.88.0.2', 'fd88::2', 'origin6.test'] * 4
    print(''.join(await asyncio.gather(*map(fetch, hosts))), end='')
asyncio.run(main())
";
    for proxy in one_of_each(&lab) {
        lab.presocks(["python3", "-c", program])
            .proxy(&proxy)
            .run()
            .success()
            .stdout_is(http::HELLO.repeat(20));
    }
    lab.assert_no_leak();
}

#[test]
fn urllib_fetches_http_and_https() {
    if missing(&["python3", "openssl", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let secure = HttpsServer::start(&lab);
    let proxy = Dante::with_password(&lab);
    let program = "
import ssl, sys, urllib.request
trust = ssl.create_default_context(cafile=sys.argv[1])
print(urllib.request.urlopen('http://origin.test/hello').read().decode(), end='')
print(urllib.request.urlopen('https://www.origin.test/', context=trust).read().decode(), end='')
print(len(urllib.request.urlopen('http://[fd88::2]/large').read()))
";
    let words = ["python3".as_ref(), "-c".as_ref(), program.as_ref(), secure.authority().as_os_str()];
    let expected = format!("{}{}{}\n", http::HELLO, https::SECURE, http::LARGE_LENGTH);
    lab.presocks(words).proxy(&proxy).run().success().stdout_is(expected);
    lab.assert_no_leak();
}

#[test]
fn a_child_uses_what_its_parent_resolved_and_connected() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Microsocks::open(&lab);
    let program = "
import socket, subprocess, sys
child = '''
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
s.sendall(b'inherited\\\\n'); print(s.recv(100).decode(), end='', flush=True)
print(s.getpeername() == (sys.argv[2], 7), flush=True)
with socket.create_connection((sys.argv[2], 7)) as t:
    t.sendall(b'resolved by the parent\\\\n'); print(t.recv(100).decode(), end='')
'''
address = socket.gethostbyname('origin.test')
s = socket.create_connection((address, 7))
words = [sys.executable, '-c', child, str(s.fileno()), address]
sys.exit(subprocess.run(words, pass_fds=[s.fileno()]).returncode)
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).run();
    run.success().stdout_is("inherited\nTrue\nresolved by the parent\n");
    lab.assert_no_leak();
}

#[test]
fn exceptions_are_those_of_a_direct_connection() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    let program = "
import asyncio, errno, socket
async def later(address):
    await asyncio.open_connection(*address)
for address in (('10.88.0.2', 4), ('10.99.0.1', 80)):
    for attempt in (lambda: socket.create_connection(address), lambda: asyncio.run(later(address))):
        try: attempt()
        except OSError as error: print(type(error).__name__, errno.errorcode[error.errno])
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).options(["-q"]).run();
    let (refused, unreachable) = ("ConnectionRefusedError ECONNREFUSED\n", "OSError EHOSTUNREACH\n");
    run.success().stdout_is([refused, refused, unreachable, unreachable].concat()).stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn servers_and_unix_sockets_and_loopback_are_left_alone() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let program = "
import socket, threading
for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    server = socket.create_server((host, 0), family=family)
    port = server.getsockname()[1]
    with socket.create_connection(('localhost' if family == socket.AF_INET else host, port)) as near:
        far, peer = server.accept()
        print(near.getsockname() == peer, near.getpeername() == far.getsockname())
        near.sendall(b'loopback'); print(far.recv(100).decode())
a, b = socket.socketpair(); a.sendall(b'pair'); print(b.recv(100).decode())
server = socket.socket(socket.AF_UNIX); server.bind('own.sock'); server.listen()
near = socket.socket(socket.AF_UNIX); near.connect('own.sock')
far, _ = server.accept(); near.sendall(b'unix'); print(far.recv(100).decode())
u, v = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
u.bind(('127.0.0.1', 0)); v.sendto(b'datagram', u.getsockname()); print(u.recv(100).decode())
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).run();
    run.success().stdout_is("True True\nloopback\nTrue True\nloopback\npair\nunix\ndatagram\n").stderr_is("");
    lab.assert_no_leak();
}

//! How relayed connections end: what came before a reset arrives before it, however slowly it is read; and what a program has closed ends, whatever
//! the other side does.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use presocks_tests::certificates::Certificates;
use presocks_tests::daemon::Daemon;
use presocks_tests::lab::{PROXY, PROXY6};
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::proxy::{Microsocks, Upstream as _};
use presocks_tests::{Lab, missing};
use rustix::net::{RecvFlags, recv};

use super::{PYTHON, run};

/// Says something that nobody reads, and then reads slowly.
const SLOWLY: &str = "
import errno, socket, time
s = socket.create_connection(('10.88.0.2', 7))
s.sendall(b'unread')
got = 0
try:
    while piece := s.recv(65536):
        got += len(piece)
        time.sleep(.005)
    print(got, 'end')
except OSError as error: print(got, errno.errorcode[error.errno])";

/// As many bytes as a proxy sends before it goes.
const MANY: usize = 4 << 20;

const ALL_AND_A_RESET: &str = "4194304 ECONNRESET\n";

/// A proxy over TLS that closes without a last word (RFC 8446 section 6.1): `PORT CHAIN KEY LENGTH`.
const CURT: &str = "
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
def serve(plain):
    stream = context.wrap_socket(plain, server_side=True)
    stream.recv(3)
    stream.sendall(bytes([5, 0]))
    stream.recv(10)
    stream.sendall(bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
    stream.recv(6)
    stream.sendall(bytes(int(sys.argv[4])))
    stream.close()
listener = socket.create_server(('0.0.0.0', int(sys.argv[1])))
while True: threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()";

/// A proxy at a Unix socket that connects one client, and then does as it is told.
pub(super) fn at_a_unix_socket(lab: &Lab, then: impl FnOnce(UnixStream) + Send + 'static) -> String {
    let path = lab.directory().join("scripted.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.read_exact(&mut [0; 3]).unwrap();
        client.write_all(&[5, 0]).unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        client.write_all(&SUCCESS).unwrap();
        then(client);
    });
    format!("socks5+unix://{}", path.display())
}

#[test]
fn a_slow_reader_gets_all_that_came_before_tls_was_cut_off() {
    const PORT: u16 = 4500;
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let certificates = Certificates::make(&lab);
    let mut command = Command::new(PYTHON);
    command.env_clear().args(["-c", CURT, &PORT.to_string()]);
    command.args([&certificates.good.chain, &certificates.good.key]).arg(MANY.to_string());
    let _proxy = Daemon::start(&lab, &lab.proxy, "curt", &mut command, (PROXY, PORT).into());
    lab.permit_proxy_port(PORT);
    let url = format!("socks5+tls://{PROXY}:{PORT}?ca-file={}", certificates.authority.display());
    run(&lab, &url, SLOWLY, &[]).success().stdout_is(ALL_AND_A_RESET);
    lab.assert_no_leak();
}

/// Closing a Unix socket that holds something unread resets it (unix(7)).
#[test]
fn a_slow_reader_gets_all_that_came_before_a_unix_socket_was_reset() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let url = at_a_unix_socket(&lab, |mut client| {
        recv(&client, &mut [0; 6], RecvFlags::PEEK | RecvFlags::WAITALL).unwrap();
        client.write_all(&vec![0; MANY]).unwrap();
    });
    run(&lab, &url, SLOWLY, &[]).success().stdout_is(ALL_AND_A_RESET);
    lab.assert_no_leak();
}

/// What the broker had sent, and the program had not read, counts as under way for good: it must not be waited for.
#[test]
fn what_a_program_closes_unread_ends_at_once_on_the_far_side() {
    const PROGRAM: &str = "
import socket, sys
for _ in range(20):
    with socket.create_connection(('10.88.0.2', 19)) as s:
        got = 0
        while got < 100000: got += len(s.recv(1000))
print('closed', flush=True)
sys.stdin.read()";
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let _talker = Service::start(&lab, 19, move |mut stream| {
        while stream.write_all(&[0; 65536]).is_ok() {}
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let proxy = Microsocks::open(&lab);
    let url = proxy.url().replace(&PROXY.to_string(), &format!("[{PROXY6}]"));
    let mut running = lab.presocks([PYTHON, "-c", PROGRAM]).options(["-p", &url]).start();
    assert_eq!(running.line(), "closed");
    let begun = Instant::now();
    while ended.load(Ordering::SeqCst) < 20 {
        assert!(begun.elapsed() < Duration::from_secs(30), "only {ended:?} of 20 ended");
        thread::sleep(Duration::from_millis(5));
    }
    running.finish().success();
    lab.assert_no_leak();
}

/// The kernel forgets a closed socket after `tcp_fin_timeout`, and who asks for it half a minute later learns that it is gone.
#[test]
fn what_a_program_has_closed_ends_though_the_other_side_stays() {
    const PROGRAM: &str = "
import os, socket, time
def held(): return len(os.listdir(f'/proc/{os.getppid()}/fd'))
before = held()
for _ in range(20):
    with socket.create_connection(('10.88.0.2', 7)) as s: s.sendall(b'x')
print(held() >= before + 20)
end = time.monotonic() + 50
while held() >= before + 20 and time.monotonic() < end: time.sleep(.1)
print(held() < before + 20)";
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    lab.client.inside(|| std::fs::write("/proc/sys/net/ipv4/tcp_fin_timeout", "1").unwrap());
    let never = Gate::closed();
    let proxy = Script::until_request().send(SUCCESS).read_all().pass(&never).start(&lab);
    let url = proxy.url().replace(&PROXY.to_string(), &format!("[{PROXY6}]"));
    run(&lab, &url, PROGRAM, &[]).success().stdout_is("True\nTrue\n").stderr_is("");
    never.open();
    lab.assert_no_leak();
}

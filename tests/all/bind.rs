//! Programs that listen beside a connection through a proxy (`--bind`): the proxy listens, and who comes there reaches the program.

use presocks_tests::origin::caller;
use presocks_tests::proxy::Dante;
use presocks_tests::{Lab, missing};

const PORT: u16 = 2100;

/// As Python's ftplib does it: the port is the listener's, the host that of the control connection.
const LISTEN: &str = "
import socket, sys
control = socket.create_connection((sys.argv[1], int(sys.argv[2])))
listener = socket.create_server(('', 0), family=control.family)
host, port = control.getsockname()[0], listener.getsockname()[1]
control.sendall(f'call {host}:{port}\\n'.encode())
data, peer = listener.accept()
said = control.makefile().readline().split()
print('peer', data.getpeername()[:2] == peer[:2], said[-1].endswith(f':{peer[1]}'), peer[0] == control.getpeername()[0])
print('own', data.getsockname()[:2] == (host, port))
print(data.makefile().readline(), end='')
data.sendall(b'x' * 300000); data.shutdown(socket.SHUT_WR)
print(sum(iter(lambda: len(data.recv(65536)), 0)))
";

const LISTENED: &str = "peer True True True\nown True\nhello from the caller\n300000\n";

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

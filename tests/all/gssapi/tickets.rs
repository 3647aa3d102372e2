//! Where the user's tickets are, and when.

use presocks_tests::origin::Service;
use presocks_tests::patience;

use super::Realm;

/// The broker works in another directory than the user.
#[test]
fn files_of_kerberos_may_be_named_by_relative_paths() {
    const PROGRAM: &str = "
import os, socket
s = socket.create_connection(('10.88.0.2', 7)); s.sendall(b'x'); print(s.recv(1).decode(), os.environ[os.environ['NAME']])";
    let Some(realm) = Realm::start() else { return };
    let lab = &realm.lab;
    let _echo = Service::echo(lab, 7);
    for (name, value) in [
        ("KRB5CCNAME", "tickets"),
        ("KRB5CCNAME", "FILE:../tickets"),
        ("KRB5_CONFIG", "krb5.conf"),
        ("KRB5_CONFIG", "nothing:krb5.conf"),
    ] {
        let inner = lab.directory().join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        let here = if value.contains("..") { &inner } else { realm.kerberos.directory() };
        let run = lab.presocks(["/usr/bin/python3", "-c", PROGRAM]).proxy(&realm.proxy).directory(here);
        // The program has them as they were.
        let run = run.env(name, value).env("NAME", name).run();
        run.success().stdout_is(format!("x {value}\n")).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn a_ticket_that_comes_while_a_program_runs_is_taken_and_one_that_ends_ends_no_connection() {
    const PROGRAM: &str = "
import errno, socket, sys
def connect():
    try: s = socket.create_connection(('10.88.0.2', 7))
    except OSError as error: print(errno.errorcode[error.errno], flush=True)
    else: print('connected', flush=True); return s
connect()
sys.stdin.readline()
s = connect()
sys.stdin.readline()
s.sendall(b'more'); print(s.recv(9).decode(), flush=True)
sys.stdin.readline()
connect()";
    let Some(realm) = Realm::without_ticket() else { return };
    let lab = &realm.lab;
    let _echo = Service::echo(lab, 7);
    let mut running = lab.presocks(["/usr/bin/python3", "-c", PROGRAM]).proxy(&realm.proxy).start();
    assert_eq!(running.line(), "EACCES");
    realm.kerberos.kinit_with(lab, &["-l", "10s"]);
    running.write("\n");
    assert_eq!(running.line(), "connected");
    patience::wait_until("a ticket to expire", || lab.bare(["klist", "-s"]).run().status.code() == Some(1));
    running.write("\n");
    assert_eq!(running.line(), "more");
    realm.kerberos.kinit(lab);
    running.write("\n");
    assert_eq!(running.line(), "connected");
    running.finish().success();
    lab.assert_no_leak();
}

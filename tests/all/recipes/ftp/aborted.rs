//! Transfers in active mode that end early: the proxy and the server are told, and what has been gained is given back.

use std::fs;

use presocks_tests::host::Host;
use presocks_tests::origin::{FtpServer, http};
use presocks_tests::patience;
use rustix::process::{Pid, Signal, kill_process};

use super::{Session, each_server, no_lab_for};

#[test]
fn a_killed_client_leaves_no_connection_behind() {
    if no_lab_for(&["curl", "ss"]) {
        return;
    }
    each_server(|session| {
        let words =
            ["curl", "-sS", "--limit-rate", "100k", "-P", "-", "-o", "part", "ftp://origin.test/large"];
        let running = session.lab.presocks(words).options(["--bind"]).proxy(&session.proxy).start();
        let part = session.lab.directory().join("part");
        patience::wait_until("the transfer to begin", || {
            fs::metadata(&part).is_ok_and(|file| file.len() > 0)
        });
        kill(session, "curl ");
        running.finish().signal(Signal::KILL);
        assert!(fs::metadata(&part).unwrap().len() < http::LARGE_LENGTH as u64);
        wait_for_connections(&session.lab.origin, 21, 0);
        wait_for_connections(&session.lab.proxy, session.proxy.port(), 0);
    });
}

#[test]
fn an_aborted_transfer_is_followed_by_another() {
    if no_lab_for(&["python3"]) {
        return;
    }
    each_server(|session| {
        // More than all buffers on the way hold, so that the server is in the middle of it.
        fs::write(session.server.root().join("pub/big"), http::large().repeat(20)).unwrap();
        let before = "f.set_pasv(False)\n\
                      f.voidcmd('TYPE I')\n\
                      data = f.transfercmd('RETR pub/big')\n\
                      assert len(data.recv(1000)) > 0\n\
                      data.close()\n\
                      print(f.abort())\n\
                      print(f.getmultiline())";
        session.ftplib(&["--bind"], "origin.test", before).stdout_has("426 ");
    });
}

#[test]
fn a_listener_that_is_closed_early_is_given_back_to_the_proxy() {
    if no_lab_for(&["python3", "ss"]) {
        return;
    }
    let session = Session::new(FtpServer::vsftpd);
    let program = "import ftplib, sys\n\
         f = ftplib.FTP('origin.test')\n\
         f.login()\n\
         f.set_pasv(False)\n\
         for _ in range(2):\n    \
             listener = f.makeport()\n    \
             print('listening', flush=True)\n    \
             sys.stdin.readline()\n    \
             listener.close()\n    \
             print('closed', flush=True)\n    \
             sys.stdin.readline()\n\
         print(f.nlst())\n";
    let words = ["python3", "-c", program];
    let mut running = session.lab.presocks(words).options(["--bind"]).proxy(&session.proxy).start();
    for _ in 0..2 {
        assert_eq!(running.line(), "listening");
        wait_for_connections(&session.lab.proxy, session.proxy.port(), 2);
        running.write("\n");
        assert_eq!(running.line(), "closed");
        wait_for_connections(&session.lab.proxy, session.proxy.port(), 1);
        running.write("\n");
    }
    running.finish().success().stdout_has("hello.txt");
    session.lab.assert_no_leak();
}

#[test]
fn a_client_killed_while_it_listens_gives_back_what_it_had() {
    if no_lab_for(&["python3", "ss"]) {
        return;
    }
    let session = Session::new(FtpServer::vsftpd);
    let program = "import ftplib, sys\n\
         f = ftplib.FTP('origin.test')\n\
         f.login()\n\
         f.set_pasv(False)\n\
         listener = f.makeport()\n\
         print('listening', flush=True)\n\
         listener.accept()\n";
    let words = ["python3", "-c", program];
    let mut running = session.lab.presocks(words).options(["--bind"]).proxy(&session.proxy).start();
    assert_eq!(running.line(), "listening");
    wait_for_connections(&session.lab.proxy, session.proxy.port(), 2);
    kill(&session, "python3 ");
    running.finish().signal(Signal::KILL);
    wait_for_connections(&session.lab.proxy, session.proxy.port(), 0);
    session.lab.assert_no_leak();
}

fn kill(session: &Session, words: &str) {
    for number in session.lab.client.processes(words) {
        let number = i32::try_from(number).ok().and_then(Pid::from_raw).unwrap();
        kill_process(number, Signal::KILL).unwrap();
    }
}

/// Waits until the host has this many established connections at its own `port`.
fn wait_for_connections(host: &Host, port: u16, count: usize) {
    let port = format!(":{port}");
    patience::wait_until(&format!("{count} connections at port {port} of {}", host.name()), || {
        let list = host.setup(&["ss", "-Htn", "state", "established", "sport", "=", &port], "");
        list.lines().count() == count
    });
}

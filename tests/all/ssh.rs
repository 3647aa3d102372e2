//! ssh and scp: the server speaks first, and the bytes must be right or the session dies.

use presocks_tests::origin::{SshServer, http};
use presocks_tests::proxy::{Dante, EACH_NEEDS, one_of_each};
use presocks_tests::{Lab, missing};

#[test]
fn ssh_runs_a_command_through_every_proxy() {
    if missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let server = SshServer::start(&lab);
    for proxy in one_of_each(&lab) {
        for host in ["root@origin.test", "root@10.88.0.2"] {
            let session = lab.presocks(server.client("ssh", [host, "hostname"])).proxy(&proxy);
            session.run().success().stdout_is("origin\n").stderr_is("");
        }
    }
    lab.assert_no_leak();
}

#[test]
fn ssh_passes_input_and_exit_status() {
    if missing(&["danted", "ssh", "sshd", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let server = SshServer::start(&lab);
    let proxy = Dante::open(&lab);
    let copy = lab.presocks(server.client("ssh", ["root@origin.test", "cat; exit 7"])).proxy(&proxy);
    copy.stdin(http::large()).run().code(7).stdout_is(http::large());
    lab.assert_no_leak();
}

#[test]
fn scp_copies_there_and_back() {
    if missing(&["danted", "scp", "sshd", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let server = SshServer::start(&lab);
    let proxy = Dante::with_password(&lab);
    let original = lab.file("original", http::large());
    let there = format!("root@origin.test:{}/there", lab.directory().display());
    let words = server.client("scp", ["-q", &original.to_string_lossy(), &there]);
    lab.presocks(words).proxy(&proxy).run().success();
    lab.presocks(server.client("scp", ["-q", &there, "back"])).proxy(&proxy).run().success();
    assert_eq!(std::fs::read(lab.directory().join("there")).unwrap(), http::large());
    assert_eq!(std::fs::read(lab.directory().join("back")).unwrap(), http::large());
    lab.assert_no_leak();
}

#[test]
fn ssh_says_that_a_connection_was_refused() {
    if missing(&["danted", "ssh", "sshd", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let server = SshServer::start(&lab);
    let proxy = Dante::open(&lab);
    let session = lab.presocks(server.client("ssh", ["-p", "4", "root@10.88.0.2"])).proxy(&proxy);
    session.run().code(255).stderr_has("Connection refused");
    lab.assert_no_leak();
}

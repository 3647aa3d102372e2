//! Copies of files and their history: rsync, Subversion, CVS.

use std::fs;

use presocks_tests::lab::PASSWORD;
use presocks_tests::origin::{CvsServer, RsyncServer, SshServer, SubversionServer, http};
use presocks_tests::proxy::Dante;
use presocks_tests::{Lab, Outcome, missing};

/// Runs a command, its words apart by spaces, and expects it to succeed.
fn run(lab: &Lab, proxy: &Dante, directory: &str, command: &str, input: &str) -> Outcome {
    let invocation = lab.presocks(command.split(' ')).proxy(proxy).directory(lab.directory().join(directory));
    let outcome = invocation.stdin(input).run();
    outcome.success();
    outcome
}

#[test]
fn rsync_copies_there_and_back_by_its_own_protocol_and_by_ssh() {
    if missing(&["danted", "rsync", "ssh", "sshd", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::with_password(&lab);
    let (rsync, ssh) = (RsyncServer::start(&lab), SshServer::start(&lab));
    let mine = lab.directory().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("large"), http::large()).unwrap();
    run(&lab, &proxy, "", "rsync -a mine/ rsync://origin.test/files/there/", "");
    assert_eq!(fs::read(rsync.files().join("there/large")).unwrap(), http::large());
    run(&lab, &proxy, "", "rsync -a rsync://origin.test/files/there/ back/", "");
    assert_eq!(fs::read(lab.directory().join("back/large")).unwrap(), http::large());

    let shell = ssh.client("ssh", []).join(" ");
    let source = format!("root@origin.test:{}/", rsync.files().join("there").display());
    lab.presocks(["rsync", "-a", "-e", &shell, &source, "by-ssh/"]).proxy(&proxy).run().success();
    assert_eq!(fs::read(lab.directory().join("by-ssh/large")).unwrap(), http::large());
    lab.assert_no_leak();
}

#[test]
fn svn_checks_out_and_commits() {
    if missing(&["danted", "svn", "svnserve", "svnadmin", "svnlook"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::with_password(&lab);
    let server = SubversionServer::start(&lab);
    let account = format!("--non-interactive --no-auth-cache --username lab --password {PASSWORD}");
    run(&lab, &proxy, "", &format!("svn checkout {account} svn://origin.test/ copy"), "");
    fs::write(lab.directory().join("copy/file"), "a file under control\n").unwrap();
    run(&lab, &proxy, "copy", "svn add -q file", "");
    run(&lab, &proxy, "copy", &format!("svn commit {account} -m first"), "");
    let file = lab.bare(["svnlook", "cat", &server.repository().to_string_lossy(), "file"]).run();
    file.success().stdout_is("a file under control\n");
    run(&lab, &proxy, "", &format!("svn checkout {account} svn://www.origin.test/ another"), "");
    assert_eq!(fs::read_to_string(lab.directory().join("another/file")).unwrap(), "a file under control\n");
    lab.assert_no_leak();
}

#[test]
fn cvs_checks_out_and_commits() {
    if missing(&["danted", "cvs", "inetd"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::with_password(&lab);
    let server = CvsServer::start(&lab);
    let root = server.root();
    fs::create_dir(lab.directory().join("mine")).unwrap();
    fs::write(lab.directory().join("mine/file"), "first\n").unwrap();
    run(&lab, &proxy, "", &format!("cvs -d {root} login"), &format!("{PASSWORD}\n"));
    run(&lab, &proxy, "mine", &format!("cvs -d {root} import -m first project lab start"), "");
    run(&lab, &proxy, "", &format!("cvs -d {root} checkout project"), "");
    fs::write(lab.directory().join("project/file"), "second\n").unwrap();
    run(&lab, &proxy, "project", "cvs commit -m second", "");
    let history = fs::read_to_string(server.repository().join("project/file,v")).unwrap();
    assert!(history.contains("second\n") && history.contains("first\n"), "{history}");
    lab.assert_no_leak();
}

//! git: several processes of which a grandchild makes the connection.

use presocks_tests::origin::{GitServer, HttpServer, Repository, http};
use presocks_tests::proxy::{Dante, Microsocks, SshDynamic, Upstream};
use presocks_tests::{Lab, missing};

fn clone(lab: &Lab, proxy: &dyn Upstream, source: &str, repository: &Repository) {
    let copy = source.replace([':', '/'], "-");
    lab.presocks(["git", "clone", "-q", source, &copy]).proxy(proxy).run().success();
    let head = lab.bare(["git", "-C", &copy, "rev-parse", "HEAD"]).run();
    head.success().stdout_is(format!("{}\n", repository.head));
    assert_eq!(std::fs::read(lab.directory().join(&copy).join("large")).unwrap(), http::large());
    lab.bare(["git", "-C", &copy, "fsck", "--strict"]).run().success();
}

#[test]
fn git_clones_over_http() {
    if missing(&["git", "danted", "ssh", "sshd"]) {
        return;
    }
    let lab = Lab::new();
    let repository = Repository::create(&lab);
    let _web = HttpServer::start(&lab);
    clone(&lab, &Dante::with_password(&lab), "http://origin.test/repo.git", &repository);
    clone(&lab, &SshDynamic::open(&lab), "http://[fd88::2]/repo.git", &repository);
    lab.assert_no_leak();
}

#[test]
fn git_clones_over_its_own_protocol() {
    if missing(&["git", "danted", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let repository = Repository::create(&lab);
    let _git = GitServer::start(&lab);
    clone(&lab, &Dante::open(&lab), "git://origin.test/repo.git", &repository);
    clone(&lab, &Microsocks::open(&lab), "git://10.88.0.2/repo.git", &repository);
    lab.assert_no_leak();
}

//! QUIC: many datagrams each way, full ones, several in a call, with control messages: HTTP/3 by ngtcp2's client and server.

use std::process::{Command, Stdio};

use presocks_tests::origin::{HttpsServer, http};
use presocks_tests::proxy::{Dante, Embedded, Upstream};
use presocks_tests::{Lab, missing};

use super::scene::await_socket;

#[test]
fn a_quic_client_fetches_a_large_page_by_name_and_by_address() {
    if missing(&["gtlsclient", "gtlsserver", "openssl", "python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    // Its certificate serves here as well.
    let secure = HttpsServer::start(&lab);
    let root = http::root(&lab);
    std::fs::write(root.join("page"), http::large()).unwrap();
    let key = lab.directory().join("key.pem");
    let mut command = Command::new("gtlsserver");
    command.args(["-q", "-d"]).arg(&root).args(["*", "4433"]).args([key.as_path(), secure.authority()]);
    let mut server = lab.origin.spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    await_socket(&lab.origin, 4433);
    let (dante, embedded) = (Dante::open(&lab), Embedded::open(&lab));
    for proxy in [&dante as &dyn Upstream, &embedded] {
        for (number, host) in ["origin.test", "10.88.0.2", "fd88::2"].into_iter().enumerate() {
            let directory = lab.directory().join(format!("fetched-{}-{number}", proxy.url().len()));
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir(&directory).unwrap();
            let download = format!("--download={}", directory.display());
            let url = "https://origin.test:4433/page";
            let words = ["gtlsclient", "-q", "--exit-on-all-streams-close", &download, host, "4433", url];
            let run = lab.presocks(words).proxy(proxy).run();
            run.success();
            let page = std::fs::read(directory.join("page")).unwrap_or_default();
            assert!(page == http::large(), "{host}: {} bytes came\n{}", page.len(), run.report());
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
    lab.assert_no_leak();
}

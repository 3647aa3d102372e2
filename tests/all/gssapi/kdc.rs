//! A KDC that is asked and does not answer.

use presocks_tests::missing;
use presocks_tests::origin::Service;
use presocks_tests::proxy::Upstream;

use super::Realm;

/// Every attempt begins with the proxy for which there is no ticket, and leaves a thread behind that waits for the KDC.
#[test]
fn a_service_whose_kdc_never_answers_keeps_nobody_from_another() {
    const PROGRAM: &str = "
import socket
for _ in range(6):
    s = socket.create_connection(('10.88.0.2', 7)); s.sendall(b'x'); print(s.recv(1))";
    if missing(&["kvno"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let lab = &realm.lab;
    let _echo = Service::echo(lab, 7);
    lab.bare(["kvno", "rcmd/proxy.lab"]).run().success();
    let silent = Service::start_on(&lab.proxy, 89, |stream| {
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut &*stream, &mut rest).map(drop)
    });
    lab.permit_proxy_port(silent.port());
    lab.permit_relay_ports(89..=89);
    let text = std::fs::read_to_string(realm.kerberos.directory().join("krb5.conf")).unwrap();
    let file = lab.file("silent.conf", text.replace(":88", ":89"));
    let run = lab
        .presocks(["/usr/bin/python3", "-c", PROGRAM])
        .env("KRB5_CONFIG", file)
        .options(["--order", "failover", "--handshake-timeout", "0.5"])
        .options(["-p", &realm.proxy.url_with("service=rcmd/other.lab"), "-p", &realm.proxy.url()])
        .run();
    run.success().stdout_is("b'x'\n".repeat(6));
    run.stderr_has("Kerberos has no ticket for rcmd@other.lab within 500ms; do its servers (KDC) answer?\n");
    lab.assert_no_leak();
}

//! Whom the library's own look-ups may tell of a proxy.

use presocks_tests::missing;
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::{Microsocks, Upstream};

use super::Realm;

/// As most machines have it: the library asks the resolver for a host's canonical name, and for the name of its address.
#[test]
fn the_name_of_a_later_proxy_is_told_to_no_resolver_here() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let lab = &realm.lab;
    let hosts = |host: &str| lab.directory().join(format!("etc-{host}/hosts"));
    let near = std::fs::read_to_string(hosts("client")).unwrap();
    std::fs::write(hosts("client"), near.replace("10.77.0.1 proxy.lab\n", "")).unwrap();
    let far = std::fs::read_to_string(hosts("proxy")).unwrap();
    std::fs::write(hosts("proxy"), far + "10.77.0.1 proxy.lab\n").unwrap();
    let file = realm.kerberos.directory().join("krb5.conf");
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.replace("dns_canonicalize_hostname = false\n", "").replace("rdns = false\n", "");
    let file = lab.file("canonical.conf", text);
    let _web = HttpServer::start(lab);
    let first = Microsocks::open(lab);
    let port = realm.proxy.port();
    for (later, succeeds) in [
        (format!("socks5+gssapi://proxy.lab:{port}"), true),
        (format!("socks5+gssapi://10.77.0.1:{port}?service=rcmd/proxy.lab"), true),
        (format!("socks5+gssapi://10.77.0.1:{port}?service=rcmd/Proxy.Lab."), true),
        (format!("socks5+gssapi://10.77.0.1:{port}"), false),
    ] {
        let fetch = lab.presocks(["curl", "-sS", "http://10.88.0.2/hello"]).env("KRB5_CONFIG", &file);
        let run = fetch.options(["-p", &first.url(), "-p", &later]).run();
        if succeeds {
            run.success().stdout_is(http::HELLO).stderr_is("");
        } else {
            run.code(7).stderr_has("Kerberos knows no service rcmd@10.77.0.1; service= says another (");
        }
        lab.assert_no_leak();
    }
}

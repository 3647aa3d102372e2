//! Whatever a program does with a connection, it does under GSSAPI, too.

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::PROXY;
use presocks_tests::missing;
use presocks_tests::origin::{DnsServer, GitServer, HttpServer, Repository, Service, SshServer, http};
use presocks_tests::proxy::scripted::{Gate, Script};
use presocks_tests::proxy::{GssapiProxy, Microsocks, Stunnel, UnixDoor, Upstream};

use super::Realm;
use crate::relay::{self, pages};

#[test]
fn curl_wget_and_python_fetch_by_name_and_by_address() {
    if missing(&["curl", "wget"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let _web = HttpServer::start(&realm.lab);
    for url in realm.urls() {
        pages::are_fetched(&realm.lab, &url, pages::hosts(false), |run| run);
    }
    let log = realm.proxy.daemon.log();
    for level in ["level 0", "level 1", "level 2"] {
        assert_eq!(log.matches(level).count(), 12, "{log}");
    }
    realm.lab.assert_no_leak();
}

#[test]
fn megabytes_both_ways_come_back_unchanged_whatever_the_size_of_the_messages() {
    let Some(realm) = Realm::start() else { return };
    for url in realm.urls() {
        relay::carries_megabytes_both_ways_at_once(&realm.lab, &url);
        relay::carries_megabytes_one_way_and_then_the_other(&realm.lab, &url);
    }
    // 65,535 bytes hold no longer message than that with what protects it.
    for (number, most) in (1..).zip(["1200", "65475"]) {
        let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, number, most);
        relay::carries_megabytes_both_ways_at_once(&realm.lab, &proxy.url());
    }
    realm.lab.assert_no_leak();
}

#[test]
fn messages_arrive_whole_in_whatever_pieces_they_come() {
    if missing(&["curl"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let _web = HttpServer::start(&realm.lab);
    for (number, habit) in (1..).zip(["dribble", "empty", "1", "banner"]) {
        let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, number, habit);
        if habit == "banner" {
            let _ssh = Service::banner_first(&realm.lab, 22, b"SSH-2.0-lab\r\n");
            let run = realm.lab.presocks(["nc", "-N", "origin.test", "22"]).proxy(&proxy).run();
            run.success().stdout_is("SSH-2.0-lab\r\n").stderr_is("");
        } else {
            let fetch = realm.lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&proxy);
            fetch.run().success().stdout_is(http::HELLO).stderr_is("");
        }
    }
    realm.lab.assert_no_leak();
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    if missing(&["nc"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let _ssh = Service::banner_first(&realm.lab, 22, b"SSH-2.0-lab\r\n");
    for url in realm.urls() {
        let run = realm.lab.presocks(["nc", "-N", "origin.test", "22"]).proxy(&url).stdin("hello\n").run();
        run.success().stdout_is("SSH-2.0-lab\r\nhello\n").stderr_is("");
    }
    realm.lab.assert_no_leak();
}

#[test]
fn the_end_of_a_direction_and_what_is_sent_before_the_exit_arrive() {
    let Some(realm) = Realm::start() else { return };
    for url in realm.urls() {
        relay::carries_the_end_of_one_direction(&realm.lab, &url);
        relay::carries_what_was_sent_before_the_exit(&realm.lab, &url);
    }
    realm.lab.assert_no_leak();
}

#[test]
fn an_event_loop_connects_two_hundred_times_at_once() {
    let Some(realm) = Realm::start() else { return };
    let _echo = Service::echo(&realm.lab, 7);
    relay::connects_two_hundred_times_at_once(&realm.lab, &realm.proxy.url());
    realm.lab.assert_no_leak();
}

#[test]
fn sockets_of_both_families_know_their_peer() {
    let Some(realm) = Realm::start() else { return };
    let _echo = Service::echo(&realm.lab, 7);
    for url in realm.urls() {
        let hosts = ["origin.test", "10.88.0.2", "fd88::2", "::ffff:10.88.0.2"];
        relay::shows_the_destination_as_peer(&realm.lab, &url, &hosts);
    }
    realm.lab.assert_no_leak();
}

#[test]
fn a_name_server_is_asked_under_gssapi() {
    if missing(&["dig", "nsd"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let _server = DnsServer::start(&realm.lab);
    pages::have_records(&realm.lab, &realm.proxy.url());
    realm.lab.assert_no_leak();
}

/// Once for all: Kerberos' own file is asked next time.
#[test]
fn the_kdc_is_asked_for_the_service_once_and_not_at_all_when_the_ticket_is_there() {
    if missing(&["curl", "kvno"]) {
        return;
    }
    let Some(mut realm) = Realm::start() else { return };
    let _web = HttpServer::start(&realm.lab);
    realm.lab.bare(["kvno", "rcmd/proxy.lab"]).run().success();
    realm.kerberos.kdc.stop();
    for _ in 0..3 {
        let fetch = realm.lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&realm.proxy);
        fetch.run().success().stdout_is(http::HELLO).stderr_is("");
    }
    realm.lab.assert_no_leak();
}

#[test]
fn the_variables_of_kerberos_reach_the_library_that_the_broker_loads() {
    if missing(&["curl"]) {
        return;
    }
    let Some(realm) = Realm::without_ticket() else { return };
    let _web = HttpServer::start(&realm.lab);
    let cache = realm.lab.directory().join("elsewhere");
    realm.kerberos.kinit_with(&realm.lab, &["-c", cache.to_str().unwrap()]);
    let fetch = || realm.lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&realm.proxy);
    fetch().env("KRB5CCNAME", &cache).run().success().stdout_is(http::HELLO).stderr_is("");
    let copy =
        realm.lab.file("copy.conf", std::fs::read(realm.kerberos.directory().join("krb5.conf")).unwrap());
    let text = std::fs::read_to_string(&copy).unwrap().replace("/tickets", "/elsewhere");
    realm.lab.file("copy.conf", text);
    fetch().env("KRB5_CONFIG", &copy).run().success().stdout_is(http::HELLO).stderr_is("");
    fetch().run().code(7).stdout_is("").stderr_has("there is no Kerberos ticket: run kinit");
    realm.lab.assert_no_leak();
}

#[test]
fn gssapi_goes_over_tls_to_a_unix_socket_and_behind_other_proxies() {
    if missing(&["curl", "stunnel4", "microsocks"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let lab = &realm.lab;
    let _web = HttpServer::start(lab);
    let certificates = Certificates::make(lab);
    let stunnel = Stunnel::before(lab, 0, realm.proxy.port(), &certificates.good);
    let door = UnixDoor::before(lab, realm.proxy.port());
    let other = Microsocks::open(lab);
    let over_tls = format!(
        "{}?ca-file={}&service=rcmd/proxy.lab",
        stunnel.url("socks5+gssapi+tls", ""),
        certificates.authority.display()
    );
    let at_a_socket = format!("{}?service=rcmd/proxy.lab", door.url("socks5+gssapi+unix", ""));
    let by_address = format!("socks5+gssapi://{PROXY}:{}?service=rcmd/proxy.lab", realm.proxy.port());
    for chain in [
        vec![over_tls.clone()],
        vec![at_a_socket],
        vec![other.url(), by_address.clone()],
        vec![by_address.clone(), other.url()],
        vec![by_address.clone(), over_tls],
        vec![format!("{by_address}&protection=clear"), format!("{by_address}&protection=integrity")],
    ] {
        let options = chain.iter().flat_map(|url| ["-p", url]);
        let fetch = lab.presocks(["curl", "-sS", "http://10.88.0.2/large"]).options(options);
        fetch.run().success().stdout_is(http::large()).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn ssh_scp_and_git_work() {
    if missing(&["ssh", "scp", "sshd", "ssh-keygen", "git"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    let lab = &realm.lab;
    let server = SshServer::start(lab);
    let session = lab.presocks(server.client("ssh", ["root@origin.test", "cat; exit 7"])).proxy(&realm.proxy);
    session.stdin(http::large()).run().code(7).stdout_is(http::large());
    let original = lab.file("original", http::large());
    let there = format!("root@origin.test:{}/there", lab.directory().display());
    let words = server.client("scp", ["-q", &original.to_string_lossy(), &there]);
    lab.presocks(words).proxy(&realm.proxy).run().success();
    assert_eq!(std::fs::read(lab.directory().join("there")).unwrap(), http::large());
    let repository = Repository::create(lab);
    let _git = GitServer::start(lab);
    let words = ["git", "clone", "-q", "git://origin.test/repo.git", "copy"];
    lab.presocks(words).proxy(&realm.proxy).run().success();
    let head = lab.bare(["git", "-C", "copy", "rev-parse", "HEAD"]).run();
    head.success().stdout_is(format!("{}\n", repository.head));
    lab.assert_no_leak();
}

#[test]
fn heimdals_library_serves_where_there_is_none_of_mits() {
    const PROGRAM: &str = "
import socket
s = socket.create_connection(('origin.test', 7))
s.sendall(bytes(3_000_000))
s.shutdown(socket.SHUT_WR)
length = 0
while data := s.recv(65536): length += len(data)
print(length)";
    const SCRIPT: &str = "
for file in $(ldconfig -p | sed -n 's/.*libgssapi_krb5.so.2 .* => //p'); do mount --bind /dev/null \"$file\"; done
exec \"$@\"";
    let Some(realm) = Realm::start() else { return };
    let known = realm.lab.bare(["ldconfig", "-p"]).run().stdout();
    if !known.contains("libgssapi.so.3") && missing(&["libgssapi.so.3"]) {
        return;
    }
    let _mirror = Service::mirror(&realm.lab, 7, u64::MAX);
    let presocks = presocks_tests::binary::presocks();
    let run = |url: &str, cache: &str| {
        let words = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", presocks.to_str().unwrap(), "-p", url];
        let bare = realm.lab.bare(words.into_iter().chain(["/usr/bin/python3", "-c", PROGRAM]));
        bare.env("KRB5CCNAME", format!("FILE:{}/{cache}", realm.lab.directory().display())).run()
    };
    // It would ask the KDC by UDP first.
    realm.lab.bare(["kvno", "rcmd/proxy.lab"]).run().success();
    for url in realm.urls() {
        run(&url, "tickets").success().stdout_is("3000000\n").stderr_is("");
    }
    run(&realm.proxy.url(), "none")
        .code(1)
        .stdout_is("")
        .stderr_has("there is no Kerberos ticket: run kinit (");
    realm.lab.assert_no_leak();
}

/// Between presocks and the proxy is a wire that breaks.
#[test]
fn a_reset_passes_in_either_direction() {
    let Some(realm) = Realm::start() else { return };
    let _echo = Service::echo(&realm.lab, 7);
    let gate = Gate::closed();
    let url = |port: u16| format!("socks5+gssapi://proxy.lab:{port}");
    let wire = Script::new().relay_until(&gate, (PROXY, realm.proxy.port())).start(&realm.lab);
    relay::tells_of_a_reset(&realm.lab, &url(wire.port()), &gate);
    let wire = Script::new().relay((PROXY, realm.proxy.port())).start(&realm.lab);
    relay::resets(&realm.lab, &url(wire.port()));
    relay::assert_reset(&wire);
    realm.lab.assert_no_leak();
}

//! What keeps GSSAPI from being had: an errno, one line that says what to do, and no other connection.

use presocks_tests::missing;
use presocks_tests::origin::Service;
use presocks_tests::proxy::{GssapiProxy, Upstream};

use super::Realm;
use crate::relay;

const CONNECT: &str = "
import errno, socket
for _ in range(2):
    try: socket.create_connection(('10.88.0.2', 7))
    except OSError as error: print(errno.errorcode[error.errno])";

impl Realm {
    /// Each connect fails with `errno`, one line says why, and the origin hears nothing.
    #[track_caller]
    pub(super) fn fails(&self, url: &str, errno: &str, why: &str) {
        let origin = Service::echo(&self.lab, 0);
        let program = CONNECT.replace(" 7)", &format!(" {})", origin.port()));
        let run = self.lab.presocks(["/usr/bin/python3", "-c", &program]).proxy(url).run();
        run.success().stdout_is(format!("{errno}\n{errno}\n")).stderr_has(why);
        assert_eq!(run.stderr().lines().count(), 1, "{}", run.report());
        assert_eq!(origin.connections(), 0, "{}", run.report());
        self.lab.assert_no_leak();
    }
}

#[test]
fn without_a_ticket_or_with_an_expired_one_a_line_says_kinit() {
    let Some(realm) = Realm::strict() else { return };
    realm.fails(&realm.proxy.url(), "EACCES", "there is no Kerberos ticket: run kinit (");
    realm.kerberos.kinit_and_let_expire(&realm.lab);
    realm.fails(&realm.proxy.url(), "EACCES", "the Kerberos ticket has expired: run kinit (");
}

/// The proxy takes its time, and then finds that what we have said is too old.
#[test]
fn clocks_that_differ_are_to_be_set() {
    let Some(realm) = Realm::strict() else { return };
    realm.kerberos.kinit(&realm.lab);
    let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, 1, "late");
    realm.fails(&proxy.url(), "EACCES", "this machine's clock and that of Kerberos differ: set it (");
}

#[test]
fn a_service_that_kerberos_does_not_know_is_named() {
    let Some(realm) = Realm::start() else { return };
    let url = realm.proxy.url_with("service=socks");
    realm.fails(&url, "EACCES", "Kerberos knows no service socks@proxy.lab; service= says another (");
}

#[test]
fn without_a_kdc_nothing_waits_for_long() {
    let Some(mut realm) = Realm::start() else { return };
    realm.lab.permit_relay_ports(88..=88);
    realm.kerberos.kdc.stop();
    realm.fails(
        &realm.proxy.url(),
        "ENETUNREACH",
        "no server of Kerberos (KDC) can be reached: see krb5.conf (",
    );
}

/// It does answer, and does not: it is stopped, and connections to it stand.
#[test]
fn a_kdc_that_does_not_answer_is_given_up_in_time() {
    let Some(realm) = Realm::without_ticket() else { return };
    let silent = Service::start_on(&realm.lab.proxy, 89, |stream| {
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut &*stream, &mut rest).map(drop)
    });
    realm.kerberos.kinit(&realm.lab);
    realm.lab.permit_proxy_port(silent.port());
    realm.lab.permit_relay_ports(89..=89);
    let file = realm.kerberos.directory().join("krb5.conf");
    let text = std::fs::read_to_string(&file).unwrap().replace(":88", ":89");
    let file = realm.lab.file("silent.conf", text);
    let run = realm
        .lab
        .presocks(["/usr/bin/python3", "-c", CONNECT])
        .env("KRB5_CONFIG", file)
        .options(["--handshake-timeout", "0.2"])
        .proxy(&realm.proxy)
        .run();
    run.success()
        .stdout_is("ETIMEDOUT\nETIMEDOUT\n")
        .stderr_has("Kerberos has no ticket for rcmd@proxy.lab within 200ms; do its servers (KDC) answer?\n");
    realm.lab.assert_no_leak();
}

#[test]
fn without_the_library_a_line_says_what_to_install() {
    let Some(realm) = Realm::start() else { return };
    let origin = Service::echo(&realm.lab, 7);
    let script = "
for name in libgssapi_krb5.so.2 libgssapi.so.3; do
    for file in $(ldconfig -p | sed -n \"s/.*$name.* => //p\"); do mount --bind /dev/null \"$file\"; done
done
exec \"$@\"";
    let presocks = presocks_tests::binary::presocks();
    let words = ["unshare", "--mount", "sh", "-c", script, "sh", presocks.to_str().unwrap(), "-p"];
    let url = realm.proxy.url();
    let words = words.into_iter().chain([&url[..], "/usr/bin/python3", "-c", CONNECT]);
    let run = realm.lab.bare(words).run();
    run.success()
        .stdout_is("ENETUNREACH\nENETUNREACH\n")
        .stderr_has("no library for GSSAPI can be loaded: install libgssapi-krb5-2 (krb5-libs elsewhere) (");
    assert_eq!((run.stderr().lines().count(), origin.connections()), (1, 0), "{}", run.report());
    realm.lab.assert_no_leak();
}

#[test]
fn a_proxy_that_takes_no_gssapi_or_not_ours_says_so() {
    let Some(realm) = Realm::start() else { return };
    for (number, (habit, errno, why)) in (1..).zip([
        ("no method", "EACCES", "the proxy takes no GSSAPI\n"),
        (
            "no authentication",
            "ENETUNREACH",
            "the proxy chose authentication method 0x00, and GSSAPI alone was offered\n",
        ),
        ("password", "ENETUNREACH", "the proxy chose authentication method 0x02, and GSSAPI alone was offered\n"),
        ("abort", "EACCES", "the proxy refused our Kerberos ticket for rcmd@proxy.lab; its log may say why\n"),
        ("stale keys", "EACCES", "the proxy refused our Kerberos ticket for rcmd@proxy.lab: Key version is not available\n"),
        (
            "close on ticket",
            "EACCES",
            "the proxy closed the connection when it had got our Kerberos ticket for rcmd@proxy.lab; its log may say why\n",
        ),
        (
            "close on level",
            "EACCES",
            "the proxy closed the connection when it was asked for confidentiality (protection says what is wanted)\n",
        ),
    ]) {
        let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, number, habit);
        realm.fails(&proxy.url(), errno, why);
    }
}

#[test]
fn a_weaker_protection_than_was_asked_for_is_refused_and_a_stronger_one_taken() {
    let Some(realm) = Realm::start() else { return };
    for (number, (habit, asked, answered)) in (1..).zip([
        ("weaker", "confidentiality", "integrity"),
        ("none", "confidentiality", "no protection"),
        ("none", "integrity", "no protection"),
        ("selective", "confidentiality", "another protection"),
        ("weaker", "clear", "integrity"),
    ]) {
        let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, number, habit);
        let word = if asked == "clear" { "no protection" } else { asked };
        let why = format!(
            "the proxy wants {answered}, and {word} was asked for (protection says what is wanted)\n"
        );
        realm.fails(&proxy.url_with(&format!("protection={asked}")), "EACCES", &why);
    }
    let _echo = Service::echo(&realm.lab, 7);
    let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, 9, "stronger");
    let url = proxy.url_with("protection=integrity");
    let run = realm.lab.presocks(["nc", "-N", "10.88.0.2", "7"]).proxy(&url).stdin("hello").run();
    run.success().stdout_is("hello").stderr_is("");
    realm.lab.assert_no_leak();
}

#[test]
fn what_the_proxy_does_not_reach_has_its_errno() {
    if missing(&["curl"]) {
        return;
    }
    let Some(realm) = Realm::start() else { return };
    for (host, said) in [
        ("10.88.0.2:4", "the proxy answered: connection refused (reply 5)"),
        ("unreachable.test", "the proxy answered: host unreachable (reply 4)"),
    ] {
        let page = format!("http://{host}/");
        let run = realm.lab.presocks(["curl", "-sS", &page]).proxy(&realm.proxy).run();
        run.code(7).stderr_has(said);
    }
    realm.lab.assert_no_leak();
}

#[test]
fn another_proxy_stands_in_where_kerberos_fails() {
    if missing(&["curl", "danted"]) {
        return;
    }
    let Some(realm) = Realm::without_ticket() else { return };
    let _web = presocks_tests::origin::HttpServer::start(&realm.lab);
    let dante = presocks_tests::proxy::Dante::open(&realm.lab);
    let run = realm
        .lab
        .presocks(["curl", "-sS", "http://origin.test/hello"])
        .proxy(&realm.proxy)
        .proxy(&dante)
        .options(["--order", "failover"])
        .run();
    run.success()
        .stdout_is(presocks_tests::origin::http::HELLO)
        .stderr_has("going on without socks5+gssapi://");
    realm.lab.assert_no_leak();
}

#[test]
fn without_a_ticket_no_datagram_leaves() {
    let Some(realm) = Realm::without_ticket() else { return };
    relay::refuses_datagrams(&realm.lab, &realm.proxy.url());
    realm.lab.assert_no_leak();
}

//! Proxies that break GSSAPI's rules: in the handshake an errno and a line, later a reset, and never a byte that nobody vouches for.

use presocks_tests::origin::Service;
use presocks_tests::proxy::{GssapiProxy, Upstream};

use super::Realm;

#[test]
fn tokens_that_do_not_hold_end_the_handshake() {
    let Some(realm) = Realm::start() else { return };
    for (number, (habit, why)) in (1..).zip([
        ("garbage token", "a message of the proxy's does not hold: "),
        ("longest token", "a message of the proxy's does not hold: "),
        ("no token", "a message of the proxy's does not hold: "),
        ("wrong kind", "what the proxy answered is another message of GSSAPI's than it should be (0x02)\n"),
        ("wrong version", "what the proxy answered is no message of GSSAPI's: it begins with byte 0x07\n"),
        ("http", "what the proxy answered is no message of GSSAPI's: it begins with byte 0x48\n"),
        ("forged level", "a message of the proxy's does not hold: "),
        ("bare level", "a message of the proxy's does not hold: "),
        ("two levels", "the proxy does not say how it protects its messages\n"),
    ]) {
        let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, number, habit);
        realm.fails(&proxy.url(), "ENETUNREACH", why);
    }
}

#[test]
fn what_nobody_vouches_for_is_a_reset_and_not_a_byte_of_it_arrives() {
    const PROGRAM: &str = "
import errno, socket
s = socket.create_connection(('10.88.0.2', 7))
s.sendall(b'half a page')
try:
    while data := s.recv(100): print(data)
    print('end')
except OSError as error: print(errno.errorcode[error.errno])";
    let Some(realm) = Realm::start() else { return };
    let _echo = Service::echo(&realm.lab, 7);
    for (number, habit) in (1..).zip(["flip", "twice", "cut", "bare data", "bare token", "abort later"]) {
        let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, number, habit);
        let run = realm.lab.presocks(["/usr/bin/python3", "-c", PROGRAM]).proxy(&proxy).run();
        let whole = if habit == "twice" { "b'half a page'\n" } else { "" };
        run.success().stdout_is(format!("{whole}ECONNRESET\n")).stderr_is("");
    }
    realm.lab.assert_no_leak();
}

#[test]
fn a_reply_that_others_could_read_is_refused_where_confidentiality_was_agreed_on() {
    let Some(realm) = Realm::start() else { return };
    let _echo = Service::echo(&realm.lab, 7);
    let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, 1, "readable");
    let run = realm.lab.presocks(["nc", "-N", "10.88.0.2", "7"]).proxy(&proxy).stdin("hello").run();
    run.code(1).stdout_is("").stderr_has("broke during the handshake: a message was not confidential\n");
    let integrity = proxy.url_with("protection=integrity");
    let run = realm.lab.presocks(["nc", "-N", "10.88.0.2", "7"]).proxy(&integrity).stdin("hello").run();
    run.success().stdout_is("hello").stderr_is("");
    realm.lab.assert_no_leak();
}

/// None of them is the end, and other connections are served meanwhile.
#[test]
fn empty_messages_in_thousands_are_nothing() {
    const PROGRAM: &str = "
import socket
with socket.create_connection(('10.88.0.2', 7)) as flooded:
    for _ in range(3):
        with socket.create_connection(('10.88.0.2', 7)) as other:
            other.sendall(b'other'); print(other.recv(9))
    flooded.sendall(b'flooded'); print(flooded.recv(9))";
    let Some(realm) = Realm::start() else { return };
    let _echo = Service::echo(&realm.lab, 7);
    let proxy = GssapiProxy::that(&realm.lab, &realm.kerberos, 1, "flood");
    let run = realm.lab.presocks(["/usr/bin/python3", "-c", PROGRAM]).proxy(&proxy).run();
    run.success().stdout_is(format!("{}b'flooded'\n", "b'other'\n".repeat(3))).stderr_is("");
    realm.lab.assert_no_leak();
}

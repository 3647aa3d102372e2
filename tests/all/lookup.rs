//! Names as programs look them up: getent and Python's getaddrinfo get stand-ins, local names stay local, and no
//! resolver is ever asked.

use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Lab, missing};

#[test]
fn getent_shows_a_stand_in_for_every_name() {
    if missing(&["getent", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let lookup = |database: &str, name: &str| {
        let run = lab.presocks(["getent", database, name]).proxy(&proxy).run();
        run.success().stdout().split_whitespace().next().unwrap().to_owned()
    };
    let address = lookup("ahostsv4", "origin.test");
    assert!(address.starts_with("198.18.") || address.starts_with("198.19."), "{address}");
    let address = lookup("ahostsv6", "origin.test");
    assert!(address.starts_with("fd70:7265:736f:636b:7300:"), "{address}");
    // Nobody knows whether the name exists before a connection is asked for.
    lookup("ahosts", "no-such-name.test");
    lab.assert_no_leak();
}

#[test]
fn getent_leaves_local_names_and_literals_alone() {
    if missing(&["getent", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    for name in ["localhost", "client", "proxy.lab", "127.0.0.1", "10.88.0.2", "::1", "fd88::2"] {
        let plain = lab.bare(["getent", "ahosts", name]).run();
        let wrapped = lab.presocks(["getent", "ahosts", name]).proxy(&proxy).run();
        wrapped.success().stdout_is(plain.success().stdout_bytes()).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn python_sees_what_its_flags_ask_for() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let program = "
import ipaddress, socket
from socket import *
near4, near6 = ipaddress.ip_network('198.18.0.0/15'), ipaddress.ip_network('fd70:7265:736f:636b:7300::/96')
def ask(*words, **more):
    try:
        found = getaddrinfo(*words, **more)
    except gaierror as error:
        return {EAI_NONAME: 'NONAME', EAI_FAMILY: 'FAMILY', EAI_SERVICE: 'SERVICE'}.get(error.errno, error)
    def kind(text):
        address = ipaddress.ip_address(text)
        return 'standin4' if address in near4 else 'standin6' if address in near6 else text
    return ' '.join(sorted({f'{kind(place[0])}:{place[1]}' for _, _, _, _, place in found}))
print(ask('origin.test', 80, AF_INET, SOCK_STREAM))
print(ask('origin.test', 'https', AF_INET6, SOCK_STREAM))
print(ask('origin.test', 80, AF_INET, SOCK_STREAM, flags=AI_ADDRCONFIG))
print(ask('origin.test', 80, AF_INET, SOCK_STREAM, flags=AI_NUMERICHOST))
print(ask('10.88.0.2', 80, AF_INET, SOCK_STREAM, flags=AI_NUMERICHOST))
print(ask('10.88.0.2', 80, AF_INET6, SOCK_STREAM, flags=AI_V4MAPPED))
print(ask(None, 80, AF_INET, SOCK_STREAM, flags=AI_PASSIVE))
print(ask(None, 80, AF_INET6, SOCK_STREAM))
print(ask('origin.test', 'no-such-service', AF_INET, SOCK_STREAM))
print(getaddrinfo('origin.test', 80, AF_INET, SOCK_STREAM, 0, AI_CANONNAME)[0][3])
print(ask(b'x' * 300, 80))
print(gethostbyname('origin.test') == getaddrinfo('origin.test', 1, AF_INET)[0][4][0])
print(gethostbyname('origin.test') != gethostbyname('other.test'))
print(gethostbyname('ORIGIN.test') == gethostbyname('origin.TEST'))
print(gethostbyaddr(gethostbyname('origin.test'))[0])
print(getnameinfo((gethostbyname('origin.test'), 80), NI_NUMERICSERV))
";
    let expected = "\
standin4:80
standin6:443
standin4:80
NONAME
10.88.0.2:80
::ffff:10.88.0.2:80
0.0.0.0:80
::1:80
SERVICE
origin.test
NONAME
True
True
True
origin.test
('origin.test', '80')
";
    let run = lab.presocks(["python3", "-c", program]).proxy(&proxy).run();
    run.success().stdout_is(expected).stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn a_stand_in_means_the_same_name_in_every_process_of_the_session() {
    if missing(&["getent", "curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let _web = HttpServer::start(&lab);
    let script = "address=$(getent ahostsv4 origin.test | awk '{ print $1; exit }')
        again=$(getent ahostsv4 origin.test | awk '{ print $1; exit }')
        [ \"$address\" = \"$again\" ] && echo the same
        curl -sS \"http://$address/hello\"";
    let run = lab.presocks(["sh", "-c", script]).proxy(&proxy).run();
    run.success().stdout_is(format!("the same\n{}", http::HELLO));
    lab.assert_no_leak();
}

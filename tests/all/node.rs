//! Node.js: an event loop of its own (libuv on epoll) with name look-ups on a thread pool.

use presocks_tests::origin::{HttpServer, HttpsServer, Service, http, https};
use presocks_tests::proxy::{Dante, EACH_NEEDS, one_of_each};
use presocks_tests::{Lab, missing};

#[test]
fn fetch_gets_pages_through_every_proxy() {
    if missing(&["node"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let program = "
const hosts = ['origin.test', '10.88.0.2', '[fd88::2]', 'both.test'];
Promise.all(hosts.map(host => fetch(`http://${host}/hello`).then(answer => answer.text())))
  .then(pages => process.stdout.write(pages.join('')));
";
    for proxy in one_of_each(&lab) {
        let run = lab.presocks(["node", "-e", program]).proxy(&proxy).run();
        run.success().stdout_is(http::HELLO.repeat(4));
    }
    lab.assert_no_leak();
}

#[test]
fn node_fetches_over_tls_and_large_files() {
    if missing(&["node", "danted", "openssl", "python3"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let secure = HttpsServer::start(&lab);
    let proxy = Dante::with_password(&lab);
    let program = "
(async () => {
  process.stdout.write(await (await fetch('https://origin.test/')).text());
  console.log((await (await fetch('http://origin.test/large')).arrayBuffer()).byteLength);
})();
";
    let run = lab
        .presocks(["node", "-e", program])
        .proxy(&proxy)
        .env("NODE_EXTRA_CA_CERTS", secure.authority())
        .run();
    run.success().stdout_is(format!("{}{}\n", https::SECURE, http::LARGE_LENGTH));
    lab.assert_no_leak();
}

#[test]
fn node_sees_the_error_of_a_direct_connection() {
    if missing(&["node", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Dante::open(&lab);
    let program = "
const net = require('net');
const socket = net.connect(4, '10.88.0.2');
socket.on('connect', () => console.log('connected'));
socket.on('error', error => {
  console.log(error.code);
  const second = net.connect(7, 'origin.test', () => { console.log(second.remotePort); second.end('bye\\n'); });
  second.on('data', data => process.stdout.write(data));
});
";
    let run = lab.presocks(["node", "-e", program]).proxy(&proxy).options(["-q"]).run();
    run.success().stdout_is("ECONNREFUSED\n7\nbye\n");
    lab.assert_no_leak();
}

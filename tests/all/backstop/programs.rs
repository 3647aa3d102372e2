//! Programs as they are installed, that the shim does not reach: cleared environments, static tools, modules with
//! libraries of their own.

use presocks_tests::origin::{HttpServer, Repository, Service, http};
use presocks_tests::proxy::{Dante, EACH_NEEDS, Microsocks, Upstream, one_of_each};
use presocks_tests::{Build, Lab, missing};

/// Runs the command as root and as an ordinary user; it prints this both times, and nothing else.
#[track_caller]
fn prints<'a>(lab: &Lab, proxy: &impl Upstream, command: impl IntoIterator<Item = &'a str>, expected: &str) {
    let words: Vec<_> = command.into_iter().collect();
    let run = || lab.presocks(words.iter().copied()).proxy(proxy);
    run().run().success().stdout_is(expected).stderr_is("");
    run().ordinary_user().run().success().stdout_is(expected).stderr_is("");
}

#[test]
fn curl_with_a_cleared_environment_fetches_through_every_proxy() {
    if missing(&["curl"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let pages =
        ["origin.test", "10.88.0.2", "origin6.test", "[fd88::2]"].map(|host| format!("http://{host}/hello"));
    for (round, proxy) in one_of_each(&lab).iter().enumerate() {
        let words = ["env", "-i", "curl", "-sS"].into_iter().chain(pages.iter().map(String::as_str));
        prints(&lab, proxy, words, &http::HELLO.repeat(4));
        assert_eq!(web.connections(), 8 * (round + 1));
    }
    lab.assert_no_leak();
}

#[test]
fn git_without_preload_clones() {
    if missing(&["git", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let repository = Repository::create(&lab);
    let _web = HttpServer::start(&lab);
    let proxy = Dante::with_password(&lab);
    let words = ["env", "-u", "LD_PRELOAD", "git", "clone", "-q", "http://origin.test/repo.git", "copy"];
    lab.presocks(words).proxy(&proxy).run().success();
    let head = lab.bare(["git", "-C", "copy", "rev-parse", "HEAD"]).run();
    head.success().stdout_is(format!("{}\n", repository.head));
    lab.assert_no_leak();
}

#[test]
fn busybox_fetches_and_talks() {
    if missing(&["busybox", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let _greeter = Service::banner_first(&lab, 25, b"220 hello\r\n");
    let proxy = Microsocks::open(&lab);
    for host in ["origin.test", "10.88.0.2", "origin6.test", "[fd88::2]"] {
        prints(&lab, &proxy, ["busybox", "wget", "-qO-", &format!("http://{host}/hello")], http::HELLO);
    }
    for host in ["origin.test", "10.88.0.2", "fd88::2"] {
        let mut talk = lab.presocks(["busybox", "nc", host, "25"]).proxy(&proxy).start();
        assert_eq!(talk.line(), "220 hello\r");
        talk.write("QUIT\n");
        assert_eq!(talk.line(), "QUIT");
        talk.finish().success();
    }
    lab.assert_no_leak();
}

#[test]
fn a_module_that_prefers_its_own_libraries_connects() {
    if missing(&["cc", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7000);
    let proxy = Microsocks::open(&lab);
    let module = format!("module={}", Build::Module.of(&lab, "probe", &[]).display());
    let program = Build::Shared.of(&lab, "deepbind", &[]);
    for host in ["10.88.0.2", "origin.test"] {
        for mode in ["mode=blocking", "mode=poll", "mode=epoll"] {
            let to = format!("to={host}:7000");
            let words = [program.to_str().unwrap(), &module, &to, mode];
            prints(&lab, &proxy, words, "connect: ok\npeer: the one asked for\n");
        }
    }
    lab.assert_no_leak();
}

#[test]
fn php_fetches_with_curl_and_with_its_own_sockets() {
    if missing(&["php", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let program = r#"
foreach (["origin.test", "10.88.0.2", "[fd88::2]"] as $host) {
    $page = curl_init("http://$host/hello");
    curl_setopt($page, CURLOPT_RETURNTRANSFER, true);
    echo curl_exec($page);
    $stream = fsockopen($host, 80);
    fwrite($stream, "GET /hello HTTP/1.0\r\n\r\n");
    echo explode("\r\n\r\n", stream_get_contents($stream), 2)[1];
    echo file_get_contents("http://$host/hello");
}"#;
    for before in [&[][..], &["env", "-i"]] {
        let words = before.iter().copied().chain(["php", "-r", program]);
        prints(&lab, &proxy, words, &http::HELLO.repeat(9));
    }
    lab.assert_no_leak();
}

#[test]
fn python_with_a_cleared_environment_fetches_many_pages_at_once() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let program = "
import asyncio
async def fetch(number):
    host = ('origin.test', '10.88.0.2', 'fd88::2')[number % 3]
    reader, writer = await asyncio.open_connection(host, 80)
    writer.write(b'GET /hello HTTP/1.0\\r\\n\\r\\n')
    return (await reader.read()).split(b'\\r\\n\\r\\n', 1)[1].decode()
async def main():
    print(''.join(await asyncio.gather(*map(fetch, range(60)))), end='')
asyncio.run(main())";
    prints(&lab, &proxy, ["env", "-i", "python3", "-c", program], &http::HELLO.repeat(60));
    assert_eq!(web.connections(), 120);
    lab.assert_no_leak();
}

#[test]
fn node_with_a_cleared_environment_fetches() {
    if missing(&["node", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let program = "
const hosts = ['origin.test', '10.88.0.2', '[fd88::2]', 'both.test'];
Promise.all(hosts.map(host => fetch(`http://${host}/hello`).then(answer => answer.text())))
  .then(pages => process.stdout.write(pages.join('')));
";
    let run =
        lab.presocks(["env", "-i", "node", "-e", program]).env("PATH", presocks_tests::requirement::PATH);
    run.proxy(&proxy).run().success().stdout_is(http::HELLO.repeat(4));
    lab.assert_no_leak();
}

/// A repository without signatures; what apt does with its own directories stays in the lab.
const UPDATE: &str = "
mkdir -p $1/lists $1/cache
echo \"deb [trusted=yes] http://origin.test/packages ./\" > $1/sources.list
$2 apt-get -q update -o Dir::Etc::sourcelist=$1/sources.list -o Dir::Etc::sourceparts=/dev/null \\
    -o Dir::State::lists=$1/lists -o Dir::Cache=$1/cache -o Dir::State::status=/dev/null -o Acquire::Retries=0
/usr/lib/apt/apt-helper cat-file $1/lists/*_Packages*
";

const PACKAGES: &str = "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: lab\nDescription: a package\n\
                        Filename: ./hello.deb\nSize: 1\n";

#[test]
fn apts_workers_which_become_another_user_fetch() {
    if missing(&["apt-get", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let packages = http::root(&lab).join("packages");
    std::fs::create_dir(&packages).unwrap();
    std::fs::write(packages.join("Packages"), PACKAGES).unwrap();
    let proxy = Microsocks::open(&lab);
    for (directory, before) in [("preloaded", ""), ("cleared", "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin")] {
        let directory = lab.directory().join(directory);
        let words = ["sh", "-e", "-c", UPDATE, "update", directory.to_str().unwrap(), before];
        let connections = web.connections();
        lab.presocks(words).proxy(&proxy).run().success().stdout_has("Package: hello\nVersion: 1\n");
        assert!(web.connections() > connections);
    }
    lab.assert_no_leak();
}

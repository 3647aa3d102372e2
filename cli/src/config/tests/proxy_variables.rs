//! The variables by which programs are told of a proxy: taken from the command, kept, and read for `-p env`.

use super::super::proxy_variables::TAKEN;
use super::*;

fn taken(scene: &Scene) -> Vec<&'static str> {
    scene.load().unwrap().taken.iter().map(|taken| taken.name).collect()
}

fn by_env() -> Scene {
    Scene::new().flags(proxy(&["env"]))
}

#[test]
fn a_variable_that_names_a_proxy_is_taken_and_told_unless_it_has_configured_us() {
    let scene = || {
        Scene::new()
            .set("PRESOCKS_PROXY", "socks5://h")
            .set("https_proxy", "http://u:secret@Proxy.Corp:3128/")
            .set("NO_PROXY", ".corp")
            .set("FTP_PROXY", "")
    };
    assert_eq!(taken(&scene()), ["https_proxy", "NO_PROXY"]);
    let loaded = scene().load().unwrap();
    assert!(TAKEN.iter().all(|name| loaded.withheld.contains(name)), "{:?}", loaded.withheld);
    let shown: Vec<_> = loaded.taken.iter().map(|taken| taken.proxy.map(|at| at.to_string())).collect();
    assert_eq!(shown, [Some("proxy.corp:3128".to_owned()), None]);

    let all = scene().set("PRESOCKS_PROXY", "").set("all_proxy", "socks5://x");
    assert_eq!(taken(&all), ["https_proxy"]);
}

#[test]
fn who_keeps_them_keeps_all_but_those_that_have_configured_us() {
    let scene = || {
        Scene::new()
            .set("ALL_PROXY", "socks5://x")
            .set("https_proxy", "h:1")
            .set("no_proxy", "h")
            .set("PRESOCKS_KEEP_PROXY_ENV", "1")
    };
    let loaded = scene().load().unwrap();
    assert!(loaded.taken.is_empty() && loaded.withheld.contains(&"PRESOCKS_KEEP_PROXY_ENV"));
    assert!(["ALL_PROXY", "no_proxy"].iter().all(|name| loaded.withheld.contains(name)));
    assert!(!loaded.withheld.contains(&"https_proxy"));
    let loaded = scene().flags(proxy(&["socks5://y"])).load().unwrap();
    assert!(["ALL_PROXY", "https_proxy", "no_proxy"].iter().all(|name| !loaded.withheld.contains(name)));
    assert!(taken(&scene().set("PRESOCKS_KEEP_PROXY_ENV", "0")).contains(&"https_proxy"));
    let file = Scene::with("keep-proxy-env = true\nproxy = \"socks5://y\"").set("https_proxy", "h:1");
    assert!(taken(&file).is_empty());
}

#[test]
fn the_proxy_of_the_environment_is_the_first_of_these_and_is_read_as_curl_does() {
    let first = |variables: &[(&str, &str)]| {
        let scene = variables.iter().fold(by_env(), |scene, (name, value)| scene.set(name, value));
        scene.routes().chains[0].proxies[0].to_string()
    };
    let every = [
        ("all_proxy", "socks5://a:1"),
        ("ALL_PROXY", "socks5://b:2"),
        ("https_proxy", "https://c:3"),
        ("HTTPS_PROXY", "http://d:4"),
        ("http_proxy", "e:5"),
        ("HTTP_PROXY", "f:6"),
    ];
    let shown = ["socks5://a:1", "socks5://b:2", "https://c:3", "http://d:4", "http://e:5", "http://f:6"];
    for (place, shown) in shown.iter().enumerate() {
        assert_eq!(first(&every[place..]), *shown);
    }
    for (value, shown) in [
        ("proxy.corp", "http://proxy.corp:80"),
        (" http://u:p@proxy.corp:3128/ ", "http://proxy.corp:3128"),
        ("socks://127.0.0.1:1080/", "socks5://127.0.0.1:1080"),
        ("socks4a://h:1", "socks4a://h:1"),
    ] {
        assert_eq!(first(&[("https_proxy", value)]), shown);
    }
    // Without being asked for, all_proxy alone counts, and it is read alike.
    let all = Scene::new().set("all_proxy", "socks://x").set("ALL_PROXY", "socks5://y");
    assert_eq!(proxies(&all.routes(), 0), "x:1080");
    assert_eq!(Scene::new().set("ALL_PROXY", "x:3").routes().chains[0].proxies[0].to_string(), "http://x:3");
}

#[test]
fn a_header_of_a_request_to_a_cgi_program_names_no_proxy() {
    let error = by_env().set("HTTP_PROXY", "http://evil").set("REQUEST_METHOD", "GET").error();
    assert!(error.starts_with("-p: no variable names a proxy"), "{error}");
}

#[test]
fn the_proxy_of_the_environment_stands_where_a_url_may_and_brings_its_exceptions() {
    let scene = || by_env().set("https_proxy", "http://c:3").set("no_proxy", ".corp");
    assert_eq!(scene().routes().rules[0].via, Verdict::Direct);
    assert!(
        scene().flags(|flags| flags.default = Some(named("proxy", "--default"))).routes().rules.is_empty()
    );
    assert_eq!(taken(&scene().set("http_proxy", "h:1")), ["http_proxy"]);
    let chain = scene().flags(proxy(&["env", "socks5://second"])).routes();
    assert_eq!(proxies(&chain, 0), "http://c:3 second:1080");
    let named_so =
        Scene::with("proxy = \"env\"\n[proxies]\nenv = \"socks5://own:1\"").set("https_proxy", "c:3");
    assert_eq!(proxies(&named_so.routes(), 0), "own:1");
    let in_a_chain = Scene::with(
        "proxy = \"socks5://x\"\nrules = [{ name = \".a\", via = \"far\" }]\n[chains.far]\nproxies = [\"env\"]",
    );
    let routes = in_a_chain.set("https_proxy", "c:3").set("no_proxy", ".corp").routes();
    assert_eq!((proxies(&routes, 1).as_str(), routes.rules.len()), ("http://c:3", 1));
}

#[test]
fn where_no_proxy_is_configured_the_variable_that_names_one_is_offered() {
    let error = Scene::new().set("HTTPS_PROXY", "http://u:secret@c:3").error();
    assert!(error.starts_with("no proxy is configured. Name one"), "{error}");
    assert!(error.contains("presocks -p env COMMAND") && error.contains("HTTPS_PROXY"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert!(!Scene::new().set("ftp_proxy", "c:3").error().contains("-p env"));
}

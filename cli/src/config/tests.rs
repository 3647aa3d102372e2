//! Whole configurations: files, variables and options as users write them, and what comes of them.

mod direct;
mod paths;
mod proxy_variables;
mod weakest;

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::policy::route::{self, Order as Taken, Routes, Verdict};

/// A home directory, an environment, and what was typed.
struct Scene {
    home: TempDir,
    variables: BTreeMap<String, String>,
    flags: Profile,
    wanted: Wanted,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let variables = BTreeMap::from([("HOME".to_owned(), home.path().to_str().unwrap().to_owned())]);
        Self { home, variables, flags: Profile::default(), wanted: Wanted::default() }
    }

    /// With this config.toml.
    fn with(config: &str) -> Self {
        Self::new().file(".config/presocks/config.toml", config)
    }

    fn file(self, name: &str, content: &str) -> Self {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.replace('~', self.home.path().to_str().unwrap()));
        self
    }

    fn profile(mut self, name: &str) -> Self {
        self.wanted.profile = Some(name.into());
        self
    }

    fn flags(mut self, change: impl Fn(&mut Profile)) -> Self {
        change(&mut self.flags);
        self
    }

    fn load(&self) -> Result<Loaded, String> {
        load(self.flags.clone(), &self.wanted, &|name| self.variables.get(name).map(Into::into))
    }

    fn routes(&self) -> Routes {
        routes(&self.load().unwrap()).unwrap()
    }

    /// The message, without the home directory.
    fn error(&self) -> String {
        let error = self.load().and_then(|loaded| routes(&loaded).map(drop)).expect_err("an error");
        error.replace(self.home.path().to_str().unwrap(), "~")
    }
}

/// The proxies of a chain.
fn proxies(routes: &Routes, index: usize) -> String {
    let proxies: Vec<_> = routes.chains[index].proxies.iter().map(ToString::to_string).collect();
    proxies.join(" ").replace("socks5://", "")
}

fn named(value: &str, name: &str) -> Said<String> {
    Said::named(value.into(), name)
}

fn proxy(urls: &[&str]) -> impl Fn(&mut Profile) {
    let list = List::new(urls.iter().copied(), &Place::Named("-p".into()));
    move |flags| flags.proxy = Some(list.clone())
}

const WHOLE: &str = r#"
proxy = ["socks5://a:1", "b"]
order = "dynamic"
failover-on-refusal = true
default = "proxy"
connect-timeout = 5
timeout = 2.5
rules = [{ name = ".corp", via = "direct" }]

[proxies]
b = "socks5://b:2"
tor = "socks5://127.0.0.1:9050"

[chains.far]
proxies = ["socks5://c:3", "tor", "b"]
order = "random"
length = 2
fixed = 1

[rewrite]
"old.example:80" = "new.example:8080"

[profiles.work]
order = "failover"
rules = [
    { name = ["*.onion", "x.example"], port = [22, "6660-6669"], protocol = "tcp", program = "ssh", via = "tor" },
    { address = "10.0.0.0/8", via = "far" },
]
"#;

#[test]
fn a_whole_configuration_is_read() {
    let routes = Scene::with(WHOLE).profile("work").routes();
    assert_eq!(proxies(&routes, 0), "a:1 b:2");
    assert_eq!((routes.chains[0].order, routes.chains[0].passes_over_refusals), (Taken::Failover, false));
    assert_eq!(proxies(&routes, 1), "c:3 127.0.0.1:9050 b:2");
    assert_eq!(routes.chains[1].order, Taken::Random { length: 2, fixed: 1 });
    let [first, second] = &routes.rules[..] else { panic!("{:?}", routes.rules) };
    assert_eq!((first.criteria.ports.len(), first.criteria.names.len()), (2, 2));
    assert_eq!(first.criteria.protocol, Some(route::Protocol::Tcp));
    assert_eq!((first.via, proxies(&routes, 2).as_str()), (Verdict::Chain(2), "127.0.0.1:9050"));
    assert!(first.source.ends_with("config.toml:26"), "{}", first.source);
    assert_eq!(second.via, Verdict::Chain(1));
    assert_eq!(Scene::with(WHOLE).routes().rules[0].via, Verdict::Direct);
    assert_eq!((routes.fallback, routes.rewrites.len()), (Verdict::Chain(0), 1));
}

#[test]
fn options_go_before_variables_and_these_before_the_profile_and_that_before_the_top() {
    let scene = || {
        Scene::with("timeout = 1\n[profiles.p]\ntimeout = 2\nproxy = \"socks5://p:1\"")
            .set("ALL_PROXY", "socks5://x")
    };
    let timeout = |scene: Scene| scene.load().unwrap().profile.timeout.unwrap().value.0.as_secs();
    assert_eq!(timeout(scene()), 1);
    assert_eq!(timeout(scene().profile("p")), 2);
    assert_eq!(timeout(scene().set("PRESOCKS_PROFILE", "p").set("PRESOCKS_TIMEOUT", "3")), 3);
    let typed = Said::named(Seconds::parse("4").unwrap(), "--timeout");
    let all =
        scene().profile("p").set("PRESOCKS_TIMEOUT", "3").flags(|flags| flags.timeout = Some(typed.clone()));
    assert_eq!(timeout(all), 4);
    assert_eq!(proxies(&scene().routes(), 0), "x:1080");
    assert_eq!(proxies(&scene().profile("p").routes(), 0), "p:1");
    assert_eq!(
        proxies(&scene().profile("p").set("PRESOCKS_PROXY", "socks5://v socks5://w").routes(), 0),
        "v:1080 w:1080"
    );
}

#[test]
fn proxies_come_with_their_order() {
    let random = "proxy = [\"socks5://a\", \"socks5://b\"]\norder = \"random\"\nlength = 2\n";
    let typed = Scene::with(random).flags(proxy(&["socks5://c"])).routes();
    assert_eq!((proxies(&typed, 0).as_str(), typed.chains[0].order), ("c:1080", Taken::Strict));
    let reordered = Scene::with(random).set("PRESOCKS_ORDER", "dynamic").routes();
    assert_eq!(
        (proxies(&reordered, 0).as_str(), reordered.chains[0].order),
        ("a:1080 b:1080", Taken::Dynamic)
    );
    let both = Scene::new().set("PRESOCKS_ORDER", "dynamic").flags(proxy(&["socks5://c"])).routes();
    assert_eq!(both.chains[0].order, Taken::Dynamic);
}

#[test]
fn rules_of_all_sources_hold_the_stronger_ones_first_but_a_profiles_are_instead_of_the_tops() {
    let config = "proxy = \"socks5://a\"\n[[rules]]\nport = 1\nvia = \"direct\"\n[[profiles.p.rules]]\nport = 2\nvia = \"deny\"";
    let rule = route::rule::Written::parse("port=3 via=direct").unwrap();
    let rule = Said::named(Rule::new(&rule.criteria, &rule.via, &Place::Named("--rule".into())), "--rule");
    let scene = Scene::with(config).profile("p").flags(|flags| flags.rules = Some(vec![rule.clone()]));
    let ports = |scene: Scene| -> Vec<_> {
        scene.routes().rules.iter().map(|rule| *rule.criteria.ports[0].start()).collect()
    };
    assert_eq!(ports(scene), [3, 2]);
    assert_eq!(ports(Scene::with(config).flags(|flags| flags.rules = Some(vec![rule.clone()]))), [3, 1]);
    let without =
        config.replace("[[profiles.p.rules]]\nport = 2\nvia = \"deny\"", "[profiles.p]\nrules = []");
    assert_eq!(ports(Scene::with(&without).profile("p")), [0; 0]);
    assert_eq!(ports(Scene::with(&without.replace("rules = []", "")).profile("p")), [1]);
}

#[test]
fn only_means_that_all_else_is_direct() {
    let routes = Scene::with("proxy = \"socks5://a\"\nonly = [\".onion\", \"10.0.0.0/8\"]").routes();
    assert_eq!((routes.fallback, routes.rules[0].via), (Verdict::Direct, Verdict::Chain(0)));
    assert_eq!((routes.rules[0].criteria.names.len(), routes.rules[0].criteria.addresses.len()), (1, 1));
    let denied =
        Scene::with("proxy = \"socks5://a\"\nonly = \".onion\"").set("PRESOCKS_DEFAULT", "deny").routes();
    assert_eq!((denied.fallback, denied.rules.len()), (Verdict::Deny, 0));
}

#[test]
fn a_named_chain_serves_without_a_default_one() {
    let chains =
        "[proxies]\na = \"socks5://a\"\n[chains.z]\nproxies = \"a\"\n[chains.b]\nproxies = \"socks5://b\"\n";
    let routes = Scene::with(&format!("default = \"z\"\n{chains}")).routes();
    assert_eq!((routes.fallback, proxies(&routes, 0).as_str()), (Verdict::Chain(0), "a:1080"));
    let config = format!(
        "default = \"direct\"\nrules = [{{ port = 1, via = \"z\" }}, {{ port = 2, via = \"b\" }}]\n{chains}"
    );
    let routes = Scene::with(&config).routes();
    assert_eq!((routes.rules[0].via, routes.rules[1].via), (Verdict::Chain(0), Verdict::Chain(1)));
    assert_eq!((proxies(&routes, 0).as_str(), proxies(&routes, 1).as_str()), ("a:1080", "b:1080"));
}

#[test]
fn proxies_stand_in_a_file_a_line_each() {
    let list = "# the way out\n\nsocks5://a:1\n  socks5://b:2  \n";
    let scene = Scene::with("proxy-file = \"list\"").file(".config/presocks/list", list);
    assert_eq!(proxies(&scene.routes(), 0), "a:1 b:2");
    let home = Scene::with("proxy-file = \"~/list\"").file("list", list);
    assert_eq!(proxies(&home.routes(), 0), "a:1 b:2");
    let wrong =
        Scene::new().set("PRESOCKS_PROXY_FILE", "~/list").file("list", "socks5://a\nsocks5://u:secret@b:x\n");
    let caret =
        "~/list:2:1: the port must be a number from 1 to 65535\n2 | socks5://***@b:x\n  | ^^^^^^^^^^^^^^^^";
    assert_eq!(wrong.error(), caret);
    assert!(Scene::new().set("PRESOCKS_PROXY_FILE", "~/none").error().contains("~/none"));
    assert!(
        Scene::new().set("PRESOCKS_PROXY_FILE", "~/a").file("a", "#\n").error().contains("no proxy in it")
    );
}

#[test]
fn what_is_wrong_is_shown_where_it_stands() {
    for (config, at, why, line) in [
        ("proxy = \"socks5:/h\"", "1:9", "no scheme", "proxy = \"socks5:/h\""),
        ("proxy = [\"socks5://h\",\n  \"nobody\"]", "2:3", "\"nobody\" (none is declared)", "  \"nobody\"]"),
        ("proxy = []", "1:9", "no proxies", "proxy = []"),
        (
            "default = \"socks5://u:secret@h\"",
            "1:11",
            "\"socks5://***@h\" (none",
            "default = \"socks5://***@h\"",
        ),
        ("only = \"socks5://u:secret@h\"", "1:8", "neither a name", "only = \"socks5://***@h\""),
        ("direct = \"u:secret@h\"", "1:10", "\"***@h\"", "direct = \"***@h\""),
        ("proxy = 5.5", "1:9", "a text", "proxy = 5.5"),
        ("order = \"fast\"", "1:9", "strict", "order = \"fast\""),
        ("timeout = 0", "1:11", "above 0", "timeout = 0"),
        ("timeout = -5000000000", "1:11", "above 0", "timeout = -5000000000"),
        ("timeout = 3000000000", "1:11", "ten years", "timeout = 3000000000"),
        ("timeout = 99999999999999999999", "1:11", "ten years", "timeout = 99999999999999999999"),
        ("timeout = 1e19", "1:11", "ten years", "timeout = 1e19"),
        ("timeout = \"5x\"", "1:11", "seconds", "timeout = \"5x\""),
        ("colour = 1", "1:1", "unknown key `colour`", "colour = ***"),
        ("password = \"secret\"", "1:1", "unknown key", "password = ***"),
        ("proxy = \"socks5://u:secret@h", "1:29", "", "proxy = \"socks5://***@h"),
        ("proxy = \"socks5://h\"\nlength = 2", "2:10", "strict", ""),
        ("proxy = \"socks5://h\"\norder = \"random\"\nlength = 2", "3:10", "there is 1", "length = 2"),
        ("proxy = \"socks5://h\"\norder = \"random\"\nlength = 0", "3:10", "no proxy", "length = 0"),
        ("proxy = \"socks5://h\"\norder = \"random\"\nfixed = 2", "3:9", "length, 1", "fixed = 2"),
        (
            "proxy = \"socks5://h\"\nfailover-on-refusal = true",
            "2:23",
            "strict",
            "failover-on-refusal = true",
        ),
        (
            "direct = [\"10.0.0.0/8\", \"10.0.0.0/33\"]",
            "1:25",
            "10.0.0.0/33",
            "direct = [\"10.0.0.0/8\", \"10.0.0.0/33\"]",
        ),
        ("only = \"a:1\"", "1:8", "neither a name", "only = \"a:1\""),
        ("default = \"tor\"", "1:11", "\"tor\" (none", "default = \"tor\""),
        ("default = \"proxy\"", "1:11", "no source", "default = \"proxy\""),
        ("[chains.far]\norder = \"strict\"", "1:1", "no proxies", "[chains.far]"),
        ("[chains.direct]\nproxies = \"socks5://h\"", "1:1", "another name", "[chains.direct]"),
        ("[proxies]\na = \"socks5://\"", "2:5", "host", "a = \"socks5://\""),
        ("[proxies]\na = \"socks5://u:***@h\"", "2:5", "--print-config", "a = \"socks5://***@h\""),
        ("[[rules]]\nport = 1", "1:1", "via", "[[rules]]"),
        ("[[rules]]\nport = 0\nvia = \"deny\"", "2:8", "65535", "port = 0"),
        ("[[rules]]\nport = [1, 0]\nvia = \"deny\"", "2:12", "65535", "port = [1, 0]"),
        ("[[rules]]\naddress = \"h\"\nvia = \"deny\"", "2:11", "network", "address = \"h\""),
        ("[[rules]]\nprotocol = \"icmp\"\nvia = \"deny\"", "2:12", "tcp", "protocol = \"icmp\""),
        (
            "[[rules]]\nvia = \"far\"\n[chains.near]\nproxies = \"socks5://h\"",
            "2:7",
            "there are near",
            "via = \"far\"",
        ),
        ("[rewrite]\n\"a\" = \"b:x\"", "2:7", "port", "\"a\" = \"b:x\""),
        ("[profiles.a]\n[profiles.a.profiles.b]\n", "2:1", "inside another", "[profiles.a.profiles.b]"),
    ] {
        let error = Scene::with(config).error();
        let head = format!("~/.config/presocks/config.toml:{at}: ");
        let line = if line.is_empty() { "length = 2" } else { line };
        if at.ends_with(":10") && why == "strict" {
            assert!(error.contains("round-robin"), "{error}");
        } else {
            assert!(error.starts_with(&head) && error.contains(why), "{config}\n{error}");
        }
        assert!(error.contains(&format!(" | {line}\n")) && error.ends_with('^'), "{config}\n{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_profile_that_is_not_there_is_an_error() {
    let error = Scene::with("[profiles.home]\n[profiles.work]").profile("office").error();
    assert_eq!(
        error,
        "--profile: there is no profile \"office\" in ~/.config/presocks/config.toml; it has home, work"
    );
    assert!(
        Scene::new().set("PRESOCKS_PROFILE", "x").error().starts_with("PRESOCKS_PROFILE: profiles stand in")
    );
    let mut without = Scene::new().set("PRESOCKS_PROFILE", "x").flags(proxy(&["socks5://h"]));
    without.wanted.no_file = true;
    assert_eq!(without.routes().chains.len(), 1);
}

#[test]
fn a_variable_that_is_wrong_is_named_and_not_quoted() {
    for (name, value, why) in [
        ("PRESOCKS_PROXY", "socks5://u:secret@h:x", "port"),
        ("PRESOCKS_ORDER", "fast", "round-robin"),
        ("PRESOCKS_LENGTH", "x", "number"),
        ("PRESOCKS_BIND", "1", "off, peer, any"),
        ("PRESOCKS_TIMEOUT", "0", "seconds"),
        ("PRESOCKS_QUIET", "maybe", "1 or 0"),
        ("PRESOCKS_DIRECT", "10.0.0.0/8,h/8", "network"),
        ("PRESOCKS_DEFAULT", "far", "\"far\""),
        ("ALL_PROXY", "secret:h:1080", "brackets"),
    ] {
        let error = Scene::new().set("PRESOCKS_PROXY", "socks5://h").set(name, value);
        let error = if name == "ALL_PROXY" { error.set("PRESOCKS_PROXY", "") } else { error }.error();
        assert!(error.starts_with(&format!("{name}: ")) && error.contains(why), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn what_is_printed_reads_as_the_same() {
    let printed = |scene: &Scene| print(scene.load().unwrap().profile).unwrap();
    let scene =
        Scene::with(WHOLE).profile("work").set("PRESOCKS_ISOLATE", "process").set("PRESOCKS_CA_FILE", "/ca");
    let first = printed(&scene);
    assert_eq!(printed(&Scene::with(&first)), first);
    assert!(first.contains("isolate = \"process\"") && !first.contains("profiles"), "{first}");
    let (one, other) = (scene.routes(), Scene::with(&first).routes());
    assert_eq!(
        one.rules.iter().map(|rule| rule.criteria.to_string()).collect::<Vec<_>>(),
        other.rules.iter().map(|rule| rule.criteria.to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn passwords_are_not_printed_and_cannot_be_read_back() {
    let config = "proxy = \"socks5://user:secret@h\"\n[proxies]\na = \"http://user:se@cret@h:1\"\nb = \"socks4://user@h\"";
    let printed = print(Scene::with(config).load().unwrap().profile).unwrap();
    assert!(!printed.contains("secret") && !printed.contains("cret"), "{printed}");
    for url in ["\"socks5://user:***@h\"", "\"http://user:***@h:1\"", "\"socks4://user@h\""] {
        assert!(printed.contains(url), "{printed}");
    }
    assert!(Scene::with(&printed).error().contains("masked by --print-config"));
}

#[test]
fn a_file_with_a_password_that_others_can_read_is_noted() {
    use std::os::unix::fs::PermissionsExt as _;
    let notes = |config: &str, mode: u32| {
        let scene = Scene::with(config);
        let path = scene.home.path().join(".config/presocks/config.toml");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        scene.load().unwrap().notes.join("\n").replace(scene.home.path().to_str().unwrap(), "~")
    };
    let (secret, open) = ("proxy = \"socks5://user:secret@h\"", "proxy = \"socks5://h\"\n# a@b:c");
    assert_eq!((notes(secret, 0o600), notes(open, 0o644)), (String::new(), String::new()));
    for mode in [0o640, 0o604, 0o644] {
        let note = notes(secret, mode);
        assert!(
            note.ends_with("chmod 600 ~/.config/presocks/config.toml") && !note.contains("secret"),
            "{note}"
        );
    }
}

#[test]
fn another_programs_file_goes_where_the_configuration_goes() {
    let conf = "strict_chain\nproxy_dns\n[ProxyList]\nsocks5 10.0.0.1 1080\nhttp 10.0.0.2 3128\n";
    let scene = || Scene::new().file("proxychains.conf", conf).set("PRESOCKS_CONFIG", "~/proxychains.conf");
    assert_eq!(proxies(&scene().routes(), 0), "10.0.0.1:1080 http://10.0.0.2:3128");
    assert_eq!(proxies(&scene().set("PRESOCKS_PROXY", "socks5://h").routes(), 0), "h:1080");
    assert!(scene().profile("p").error().contains("no profiles in ~/proxychains.conf"));
    let long = conf.replace("strict_chain", "random_chain\nchain_len = 3");
    let error = scene().file("proxychains.conf", &long).error();
    assert!(error.starts_with("~/proxychains.conf:2:1: a length of 3 is too much"), "{error}");
}

#[test]
fn proxychains_own_search_finds_its_file() {
    let conf = |port| format!("strict_chain\nproxy_dns\n[ProxyList]\nsocks5 10.0.0.1 {port}\n");
    let scene = || {
        let mut scene = Scene::new().file(".proxychains/proxychains.conf", &conf(1)).file("other", &conf(2));
        scene.wanted.is_proxychains = true;
        scene
    };
    assert_eq!(proxies(&scene().routes(), 0), "10.0.0.1:1");
    let named = scene().set("PROXYCHAINS_CONF_FILE", "~/other").set("PROXYCHAINS_QUIET_MODE", "1");
    assert_eq!(proxies(&named.routes(), 0), "10.0.0.1:2");
    let loaded = named.load().unwrap();
    assert!(loaded.profile.quiet.is_some() && loaded.withheld.contains(&"PROXYCHAINS_CONF_FILE"));
    let mut flag = scene();
    flag.wanted.file = Some(flag.home.path().join("none"));
    assert!(flag.error().starts_with("cannot read ~/none"), "{}", flag.error());
}

proptest::proptest! {
    #[test]
    fn nothing_makes_reading_panic(any in ".*", lines in "((proxy|order|length|timeout|via|\\[rules\\]|\\[\\[rules\\]\\]|\\[profiles.a\\])( = )?[\\[\\]\"0-9a,@:/]{0,12}\n){0,6}") {
        for content in [any, lines] {
            let text = Rc::new(Text {
                name: "file".into(),
                directory: "/".into(),
                content: zeroize::Zeroizing::new(content),
                format: Format::Toml,
            });
            if let Ok(profile) = document::profile(&text) {
                let loaded = Loaded {
                    profile,
                    listed: None,
                    notes: Vec::new(),
                    withheld: Vec::new(),
                    taken: Vec::new(),
                    offered: None,
                };
                let _ = routes(&loaded);
            }
        }
    }

    #[test]
    fn any_scalars_print_as_they_are_read(timeout in 1_u32..100_000, length in 1_usize..3, fixed in 0_usize..2, name in "[a-z]{1,8}") {
        let config = format!(
            "proxy = [\"socks5://{name}\", \"http://u@h\"]\norder = \"random\"\nlength = {length}\nfixed = {fixed}\n\
             timeout = {}\nrules = [{{ name = \".{name}\", port = {timeout}, via = \"direct\" }}]\n",
            f64::from(timeout) / 1000.0, timeout = timeout % 65535 + 1,
        );
        let first = print(Scene::with(&config).load().unwrap().profile).unwrap();
        let second = print(Scene::with(&first).load().unwrap().profile).unwrap();
        proptest::prop_assert_eq!(first, second);
    }
}

const GUIDE: &str = include_str!("../../../docs/configuration.md");

/// As serde lists them when it meets a key that is none of them.
fn keys(config: &str) -> Vec<String> {
    let error = Scene::with(config).error();
    let list = error.lines().next().and_then(|line| line.split_once("expected")).unwrap().1;
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_and_every_variable_is_in_the_guide() {
    let all = keys("x = 1");
    assert!(all.len() > 20, "{all:?}");
    for key in all.iter().chain(&keys("[chains.a]\nx = 1")).chain(&keys("[[rules]]\nx = 1")) {
        assert!(GUIDE.contains(&format!("`{key}`")), "{key}");
    }
    for key in &all {
        assert!(GUIDE.contains(&format!("| `{key}` |")), "{key}");
    }
    for name in VARIABLES {
        let key = name.trim_start_matches("PRESOCKS_").to_ascii_lowercase().replace('_', "-");
        assert!(GUIDE.contains(name) || all.contains(&key), "{name}");
    }
}

#[test]
fn the_example_is_right_in_each_of_its_profiles() {
    let example = include_str!("../../../docs/example.toml");
    assert_eq!(Scene::with(example).routes().chains.len(), 4);
    assert!(!Scene::with(example).profile("home").routes().rules.is_empty());
    assert!(Scene::with(example).profile("anonymous").routes().rules.is_empty());
}

#[test]
fn a_password_in_no_urls_shape_is_not_shown_either() {
    for value in [
        "\"h:1080:user:s3cr3t\"",
        "\"socks5 10.0.0.1 1080 user s3cr3t\"",
        "[\"socks5://h\", \"https://h?user=u&password=s3cr3t\"]",
        "\"socks5://u%3as3cr3t%40h:1\"",
        "'socks5:u:s3cr3t'",
    ] {
        let error = Scene::with(&format!("proxy = {value}")).error();
        assert!(!error.contains("s3cr3t") && error.contains("config.toml:1:"), "{error}");
    }
    let error = Scene::with("proxy = \"socks5://[2001:db8::1]:x\"").error();
    assert!(error.contains("2001:db8::1"), "{error}");
}

//! The weakest source, `ALL_PROXY` with `NO_PROXY`: it fills in what the others leave open, and opens nothing that they close.

use super::*;

fn scene(config: &str) -> Scene {
    Scene::with(config).set("ALL_PROXY", "socks5://x").set("NO_PROXY", ".corp,10.0.0.0/8")
}

fn rules(scene: &Scene) -> Vec<Verdict> {
    scene.routes().rules.iter().map(|rule| rule.via).collect()
}

#[test]
fn no_proxy_counts_with_all_proxy_alone() {
    let scene = || Scene::new().set("NO_PROXY", "example.org, 10.0.0.0/8,a:b:c").set("no_proxy", "");
    let all = scene().set("ALL_PROXY", "socks5://x");
    let loaded = all.load().unwrap();
    assert!(loaded.withheld.contains(&"NO_PROXY") && loaded.notes[0].contains("a:b:c"), "{:?}", loaded.notes);
    let routes = all.routes();
    assert_eq!((routes.rules.len(), routes.rules[0].via), (2, Verdict::Direct));
    assert!(routes.rules[0].criteria.names[0].matches(b"www.example.org"));
    let other = scene().set("PRESOCKS_PROXY", "socks5://x");
    assert!(other.routes().rules.is_empty());
}

#[test]
fn no_proxy_weakens_nothing_that_is_said_of_all_connections() {
    assert_eq!(rules(&scene("")), [Verdict::Direct; 2]);
    let denied = scene("rules = [{ name = \".corp\", via = \"deny\" }]");
    assert_eq!(rules(&denied), [Verdict::Deny, Verdict::Direct, Verdict::Direct]);
    for (config, rule, fallback) in [
        (
            "default = \"deny\"\nrules = [{ port = 1, via = \"proxy\" }]",
            Some(Verdict::Chain(0)),
            Verdict::Deny,
        ),
        ("default = \"proxy\"", None, Verdict::Chain(0)),
        ("only = \".corp\"", Some(Verdict::Chain(0)), Verdict::Direct),
    ] {
        let scene = scene(config);
        assert_eq!(rules(&scene), rule.into_iter().collect::<Vec<_>>(), "{config}");
        assert_eq!(
            (scene.routes().fallback, proxies(&scene.routes(), 0).as_str()),
            (fallback, "x:1080"),
            "{config}"
        );
    }
    let typed = scene("").flags(|flags| flags.default = Some(named("deny", "--default")));
    assert_eq!((rules(&typed), typed.routes().fallback), (Vec::new(), Verdict::Deny));
}

#[test]
fn all_proxy_is_left_alone_where_nothing_goes_by_it() {
    let tor = "[proxies]\ntor = \"socks5://t\"\n";
    let by_tor = "rules = [{ name = \".onion\", via = \"tor\" }]\n";
    for config in [
        format!("default = \"deny\"\n{by_tor}{tor}"),
        format!("default = \"direct\"\n{by_tor}{tor}"),
        format!("default = \"tor\"\n{tor}"),
    ] {
        let scene = scene(&config);
        let routes = scene.routes();
        assert_eq!((routes.chains.len(), proxies(&routes, 0).as_str()), (1, "t:1080"), "{config}");
        assert!(!rules(&scene).contains(&Verdict::Direct), "{config}");
    }
    let both = scene(&format!("{by_tor}{tor}")).routes();
    assert_eq!((proxies(&both, 0).as_str(), proxies(&both, 1).as_str()), ("x:1080", "t:1080"));
}

#[test]
fn what_looks_like_a_pattern_makes_nothing_direct() {
    let rules = |value: &str| {
        let scene = scene("").set("no_proxy", value);
        (rules(&scene).len(), scene.load().unwrap().notes.len())
    };
    assert_eq!(rules("*"), (1, 0));
    for (value, ignored) in
        [("example.org,*", 1), ("*,", 1), ("*:80", 1), ("*.example.org,h?st", 2), ("*.example.org:80", 1)]
    {
        let kept = usize::from(value.starts_with("example"));
        assert_eq!(rules(value), (kept, ignored), "{value}");
    }
}

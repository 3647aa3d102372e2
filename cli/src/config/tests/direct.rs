//! What a weaker source calls direct, and a stronger one does not.

use super::*;

fn rule(text: &str) -> Said<Rule> {
    let written = route::rule::Written::parse(text).unwrap();
    Said::named(Rule::new(&written.criteria, &written.via, &Place::Named("--rule".into())), "--rule")
}

fn verdicts(scene: &Scene) -> Vec<Verdict> {
    scene.routes().rules.iter().map(|rule| rule.via).collect()
}

#[test]
fn a_direct_network_stands_behind_the_rules_of_stronger_sources_and_before_all_others() {
    const FILE: &str =
        "proxy = \"socks5://a\"\ndirect = \"10.0.0.0/8\"\nrules = [{ port = 1, via = \"proxy\" }]\n";
    let typed = |flags: &mut Profile| flags.rules = Some(vec![rule("address=10.0.0.5 via=deny")]);
    let typed_too = |flags: &mut Profile| {
        flags.direct = Some(List::new(["10.0.0.0/8"], &Place::Named("--direct".into())))
    };
    let [direct, deny, chain] = [Verdict::Direct, Verdict::Deny, Verdict::Chain(0)];
    assert_eq!(verdicts(&Scene::with(FILE)), [direct, chain]);
    let denied = Scene::with(FILE).flags(typed);
    assert_eq!(verdicts(&denied), [deny, direct, chain]);
    // The same source, and the same order, when it is read back.
    assert_eq!(verdicts(&Scene::with(FILE).flags(typed).flags(typed_too)), [direct, deny, chain]);
    let printed = super::super::print(denied.load().unwrap().profile).unwrap();
    assert_eq!(verdicts(&Scene::with(&printed)), [deny, direct, chain]);
    let taken_back = Scene::with(FILE).flags(typed).flags(|flags| {
        flags.direct = Some(List::new(Vec::<String>::new(), &Place::Named("--direct".into())));
    });
    assert_eq!(verdicts(&taken_back), [deny, chain]);
    let profile = format!("{FILE}[profiles.p]\nrules = [{{ address = \"10.0.0.5\", via = \"deny\" }}]");
    assert_eq!(verdicts(&Scene::with(&profile).profile("p")), [deny, direct]);
}

#[test]
fn names_and_patterns_are_direct_as_networks_are() {
    const FILE: &str = "proxy = \"socks5://a\"\ndirect = [\".corp\", \"10.0.0.0/8\", \"*.lan\"]\n";
    let criteria = |scene: &Scene, at: usize| {
        let route::Criteria { names, addresses, .. } = &scene.routes().rules[at].criteria;
        (names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), addresses.len())
    };
    assert_eq!(criteria(&Scene::with(FILE), 0), (".corp *.lan".into(), 1));
    let denied = |flags: &mut Profile| flags.rules = Some(vec![rule("name=a.corp via=deny")]);
    let behind = Scene::with(FILE).flags(denied);
    assert_eq!(verdicts(&behind), [Verdict::Deny, Verdict::Direct]);
    assert_eq!(criteria(&behind, 1), (".corp *.lan".into(), 1));
    let only_names = "proxy = \"socks5://a\"\ndirect = \"corp\"\n";
    assert_eq!(criteria(&Scene::with(only_names).flags(denied), 1), ("corp".into(), 0));
}

#[test]
fn a_proxy_that_is_named_where_a_file_has_all_else_direct_gets_a_note() {
    let notes = |config: &str| Scene::with(config).flags(proxy(&["socks5://x"])).load().unwrap().notes;
    let [note] = &notes("default = \"direct\"")[..] else { panic!() };
    assert!(note.starts_with("-p names a proxy") && note.contains("config.toml:1"), "{note}");
    assert_eq!(notes("only = \".corp\"").len(), 1);
    assert!(notes("default = \"deny\"").is_empty() && notes("proxy = \"socks5://y\"").is_empty());
    assert!(Scene::with("proxy = \"socks5://y\"\ndefault = \"direct\"").load().unwrap().notes.is_empty());
}

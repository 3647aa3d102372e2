use super::explain::{Limits, Local, Question};
use super::*;
use proptest::prelude::*;
use rule::Written;

use std::cell::Cell;

fn proxy(url: &str) -> Proxy {
    Proxy::parse(url).unwrap()
}

fn chain(name: &str, urls: &[&str], order: Order) -> Chain {
    let proxies = urls.iter().map(|url| proxy(url)).collect();
    Chain { name: name.into(), proxies, order, passes_over_refusals: false }
}

/// Rules without names of chains; `proxy` is the first, `tor` the second.
fn routes(rules: &[&str], fallback: Verdict) -> Routes {
    let rule = |(place, text): (usize, &&str)| {
        let Written { criteria, via } = Written::parse(text).unwrap();
        let via = match via.as_str() {
            "direct" => Verdict::Direct,
            "deny" => Verdict::Deny,
            "tor" => Verdict::Chain(1),
            _ => Verdict::Chain(0),
        };
        Rule { criteria, via, source: format!("--rule {}", place + 1) }
    };
    Routes {
        chains: vec![
            chain("proxy", &["socks5://user:secret@192.0.2.1"], Order::Strict),
            chain("tor", &["socks5://192.0.2.2:9050", "http://192.0.2.3"], Order::Strict),
        ],
        rules: rules.iter().enumerate().map(rule).collect(),
        fallback,
        rewrites: Vec::new(),
    }
}

fn target(text: &str) -> Target {
    let (host, port) = rule::host_and_port(text).unwrap();
    let name = |host: &str| Host::Name(presocks_proto::name::Name::new(host.as_bytes()).unwrap());
    let host = host.parse().map_or_else(|_| name(host), Host::Address);
    Target { host, port: port.parse().unwrap() }
}

fn verdict(routes: &Routes, to: &str, protocol: Protocol, program: &str) -> Verdict {
    let names = || vec![program.to_owned()];
    routes.verdict(&Asked { target: &target(to), protocol, program: &names }).0
}

const PROXY: Verdict = Verdict::Chain(0);

#[test]
fn the_first_rule_that_matches_decides_and_else_the_default() {
    let routes = routes(
        &[
            "name=a.example via=deny",
            "name=.example via=tor",
            "address=10.1.0.0/16 port=22,80-81 protocol=tcp via=direct",
            "address=10.0.0.0/8 via=deny",
            "program=ssh,git* via=tor",
        ],
        PROXY,
    );
    for (to, protocol, program, expected) in [
        ("a.example:1", Protocol::Tcp, "", Verdict::Deny),
        ("A.example.:1", Protocol::Udp, "", Verdict::Deny),
        ("b.example:1", Protocol::Tcp, "", Verdict::Chain(1)),
        ("other.test:1", Protocol::Tcp, "", PROXY),
        ("10.1.2.3:22", Protocol::Tcp, "", Verdict::Direct),
        ("[::ffff:10.1.2.3]:81", Protocol::Tcp, "", Verdict::Direct),
        ("10.1.2.3:82", Protocol::Tcp, "", Verdict::Deny),
        ("10.1.2.3:22", Protocol::Udp, "", Verdict::Deny),
        ("192.0.2.9:22", Protocol::Tcp, "git-remote", Verdict::Chain(1)),
        ("192.0.2.9:22", Protocol::Tcp, "scp", PROXY),
    ] {
        assert_eq!(verdict(&routes, to, protocol, program), expected, "{to} {protocol} {program}");
    }
}

#[test]
fn names_and_addresses_are_one_criterion_and_an_address_never_matches_a_name() {
    let both = routes(&["name=.example address=10.0.0.0/8 port=80 via=direct"], Verdict::Deny);
    for (to, expected) in [
        ("a.example:80", Verdict::Direct),
        ("10.1.2.3:80", Verdict::Direct),
        ("a.example:81", Verdict::Deny),
        ("192.0.2.1:80", Verdict::Deny),
        ("b.test:80", Verdict::Deny),
    ] {
        assert_eq!(verdict(&both, to, Protocol::Tcp, ""), expected, "{to}");
    }
    let all = routes(&["address=0.0.0.0/0,::/0 via=direct"], Verdict::Deny);
    assert_eq!(verdict(&all, "a.example:80", Protocol::Tcp, ""), Verdict::Deny);
    let names = routes(&["name=* via=direct"], Verdict::Deny);
    assert_eq!(verdict(&names, "10.0.0.1:80", Protocol::Tcp, ""), Verdict::Deny);
}

#[test]
fn a_program_is_asked_for_once_and_only_when_a_rule_depends_on_it() {
    let routes = routes(&["port=1 program=a via=deny", "program=b via=deny", "program=c via=deny"], PROXY);
    let times = Cell::new(0);
    let names = || {
        times.update(|times| times + 1);
        vec!["c".to_owned()]
    };
    let to = target("a.example:80");
    let asked = Asked { target: &to, protocol: Protocol::Tcp, program: &names };
    assert_eq!((routes.verdict(&asked).0, times.get()), (Verdict::Deny, 1));
    let none = super::tests::routes(&["port=1 program=a via=deny"], PROXY);
    assert_eq!((none.verdict(&asked).0, times.get()), (PROXY, 1));
}

#[test]
fn a_name_server_is_asked_itself_only_when_a_rule_means_it() {
    for (rules, fallback, expected) in [
        (&["address=10.0.0.0/8 via=direct"][..], PROXY, Some(Verdict::Direct)),
        (&["port=53 via=direct"], PROXY, Some(Verdict::Direct)),
        (&["program=dig via=direct"], PROXY, Some(Verdict::Direct)),
        (&["program=dig via=deny"], PROXY, Some(Verdict::Deny)),
        (&["port=53 via=deny", "via=direct"], PROXY, Some(Verdict::Deny)),
        (&["address=10.0.0.0/8 via=deny"], PROXY, None),
        (&["protocol=udp via=direct"], PROXY, None),
        (&["via=direct"], PROXY, None),
        (&["name=.example via=proxy"], Verdict::Direct, None),
        (&[], Verdict::Deny, None),
        (&["port=53 via=proxy", "address=10.0.0.0/8 via=direct"], PROXY, None),
        (&["port=853 via=direct"], PROXY, None),
        (&["address=10.0.0.0/8 protocol=tcp via=direct"], PROXY, None),
    ] {
        let routes = routes(rules, fallback);
        let names = || vec!["dig".to_owned()];
        let asked = Asked { target: &target("10.0.0.53:53"), protocol: Protocol::Udp, program: &names };
        assert_eq!(routes.name_server(&asked).map(|(verdict, _)| verdict), expected, "{rules:?}");
    }
}

#[test]
fn our_own_questions_go_directly_only_when_a_rule_means_the_server() {
    for (rules, fallback, expected) in [
        (&[][..], PROXY, PROXY),
        (&[], Verdict::Direct, PROXY),
        (&[], Verdict::Deny, Verdict::Deny),
        (&["via=direct"], Verdict::Deny, PROXY),
        (&["protocol=tcp via=direct"], PROXY, PROXY),
        (&["protocol=udp via=deny"], PROXY, PROXY),
        (&["address=9.9.9.9 via=direct"], PROXY, Verdict::Direct),
        (&["port=53 via=direct"], PROXY, Verdict::Direct),
        (&["program=dig via=direct"], PROXY, Verdict::Direct),
        (&["address=9.0.0.0/8 via=deny"], PROXY, Verdict::Deny),
        (&["program=dig via=tor"], Verdict::Direct, Verdict::Chain(1)),
    ] {
        let mut routes = routes(rules, fallback);
        let names = || vec!["dig".to_owned()];
        let asked = Asked { target: &target("9.9.9.9:53"), protocol: Protocol::Tcp, program: &names };
        assert_eq!(routes.upstream(&asked).0, expected, "{rules:?}");
        // Where there is no proxy, there is nothing to keep from the server.
        routes.chains.clear();
        let is_moved = expected == PROXY && routes.verdict(&asked).0 == Verdict::Direct;
        let expected = if is_moved { Verdict::Direct } else { expected };
        assert_eq!(routes.upstream(&asked).0, expected, "{rules:?}");
    }
}

#[test]
fn datagrams_go_through_one_socks5_proxy() {
    let (socks5, http) = ("socks5://192.0.2.1", "http://192.0.2.2");
    let one = |length| Order::Random { length, fixed: 0 };
    for (urls, order, expected) in [
        (&[socks5][..], Order::Strict, Ok(1)),
        (&[socks5], Order::Dynamic, Ok(1)),
        (&[socks5], one(3), Ok(1)),
        (&[http], Order::Strict, Err(NoDatagrams::Protocol)),
        (&[socks5, socks5], Order::Strict, Err(NoDatagrams::Several)),
        (&[socks5, socks5], Order::Dynamic, Err(NoDatagrams::Several)),
        (&[socks5, socks5, http], Order::Failover, Ok(2)),
        (&[socks5, socks5], one(1), Ok(2)),
        (&[socks5, socks5], one(2), Err(NoDatagrams::Several)),
        (&[http, socks5], Order::RoundRobin { length: 1 }, Ok(1)),
        (&["socks5+tls://192.0.2.1"], Order::Strict, Err(NoDatagrams::Transport)),
        (&["socks5+unix:///run/socks"], Order::Strict, Err(NoDatagrams::Transport)),
        (&["socks5+tls://192.0.2.1", socks5], Order::Failover, Ok(1)),
    ] {
        let found = chain("c", urls, order).for_datagrams().map(|proxies| proxies.len());
        assert_eq!(found, expected, "{urls:?} {order:?}");
    }
}

#[test]
fn an_explanation_names_rewrite_rule_chain_and_proxies_without_secrets() {
    let mut routes = routes(&["name=.example port=443 via=tor", "program=ssh via=deny"], PROXY);
    routes.rewrites.push(Rewrite::parse("old.test:80", "new.example:443").unwrap());
    let explain = |routes: &Routes, text: &str, program: &[String]| {
        Question::parse(text).unwrap().answer(routes, program, Limits::default(), |_| Local::Elsewhere)
    };
    assert_eq!(
        explain(&routes, "old.test:80", &[]),
        "old.test:80 (tcp)\n  \
           becomes new.example:443 (rewrite old.test:80=new.example:443)\n  \
           rule: --rule 1: name=.example port=443\n  \
           by the chain \"tor\", strict: all of these, in this order\n    \
             socks5://192.0.2.2:9050\n    \
             http://192.0.2.3:80\n"
    );
    assert_eq!(
        explain(&routes, "[2001:db8::1]:123/udp", &[]),
        "[2001:db8::1]:123 (udp)\n  \
           rule: none; the default\n  \
           by the chain \"proxy\"\n    \
             socks5://192.0.2.1:1080\n  \
           if the proxy serves datagrams\n"
    );
    for (text, program, word) in [
        ("a.example:443/udp", "", "several"),
        ("192.0.2.9:22", "ssh", "denied"),
        ("192.0.2.9:22", "scp", "by the chain \"proxy\""),
        ("127.0.0.1:80", "", "on this machine"),
        ("localhost:80", "", "on this machine"),
        ("127.0.0.53:53/udp", "", "own name server"),
    ] {
        let answer = explain(&routes, text, &[program.to_owned()]);
        assert!(answer.contains(word) && !answer.contains("secret"), "{answer}");
    }
    routes.fallback = Verdict::Direct;
    assert!(explain(&routes, "b.test:1", &[]).contains("resolved on this machine"));
    assert!(explain(&routes, "b.test:1/udp", &[]).contains("but refused"));
    for text in ["", "a", "a:", "a:0", "a:1/sctp", "2001:db8::1:80", "[a]:1", "a b:1"] {
        assert!(Question::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_explanation_knows_what_rules_do_not() {
    let mut routes = Routes {
        chains: vec![chain("proxy", &["socks4://192.0.2.1"], Order::Strict)],
        rules: Vec::new(),
        fallback: Verdict::Chain(0),
        rewrites: vec![
            Rewrite::parse("a.test", "app.localhost:81").unwrap(),
            Rewrite::parse("192.0.2.53:53", "127.0.0.1:54").unwrap(),
        ],
    };
    let limits = Limits { has_no_datagrams: true, is_isolated: false };
    let local = |name: &Name| match name.as_bytes() {
        b"hosted.test" => Local::Address([192, 0, 2, 7].into()),
        b"nobody.test" => Local::Nobody,
        _ => Local::Elsewhere,
    };
    let answer = |routes: &Routes, text: &str, limits| {
        Question::parse(text).unwrap().answer(routes, &[], limits, local)
    };
    for (text, word) in [
        ("a.test:80", "becomes 127.0.0.1:81"),
        ("a.test:80", "on this machine"),
        ("192.0.2.53:53", "own name server"),
        ("b.test:80", "cannot carry"),
        ("[2001:db8::1]:80", "cannot carry"),
        ("hosted.test:80", "192.0.2.7 on this machine"),
        ("nobody.test:80", "no such name"),
        ("192.0.2.7:80/udp", "UDP is off"),
    ] {
        let answer = answer(&routes, text, limits);
        assert!(answer.contains(word), "{text}: {answer}");
    }
    assert!(!answer(&routes, "192.0.2.7:80", limits).contains("refused"));
    routes.chains = vec![chain("proxy", &["socks5://192.0.2.1"], Order::Strict)];
    assert!(answer(&routes, "224.0.0.1:80/udp", Limits::default()).contains("multicast"));
    let isolated = Limits { is_isolated: true, ..Limits::default() };
    assert!(answer(&routes, "192.0.2.7:80/udp", isolated).contains("kept apart"));
}

#[test]
fn a_name_server_in_a_direct_network_is_not_told_names_that_rules_speak_of() {
    let target = Target { host: Host::Address([10, 0, 0, 53].into()), port: 53 };
    let asked = Asked { target: &target, protocol: Protocol::Udp, program: &Vec::new };
    let rule = |text: &str, via| {
        rule::Written::parse(text)
            .map(|written| Rule { criteria: written.criteria, via, source: String::new() })
            .unwrap()
    };
    let mut routes = Routes {
        chains: vec![chain("proxy", &["socks5://192.0.2.1"], Order::Strict)],
        rules: vec![rule("address=10.0.0.0/8 via=direct", Verdict::Direct)],
        fallback: Verdict::Chain(0),
        rewrites: Vec::new(),
    };
    let is_asked = |routes: &Routes| matches!(routes.name_server(&asked), Some((Verdict::Direct, _)));
    assert!(is_asked(&routes));
    routes.rules.push(rule("name=.secret.test via=deny", Verdict::Deny));
    assert!(!is_asked(&routes));
    let about = |routes: &Routes, name: &str| {
        routes.about(&Name::new(name.as_bytes()).unwrap(), &Vec::new).map(|(verdict, _)| verdict)
    };
    assert_eq!(about(&routes, "mail.secret.test"), Some(Verdict::Deny));
    assert_eq!(about(&routes, "mail.test"), None);
    routes.rules.pop();
    routes.rewrites.push(Rewrite::parse("a.test", "b.test").unwrap());
    assert!(!is_asked(&routes));
    routes.rules.insert(0, rule("address=10.0.0.0/8 port=53 via=direct", Verdict::Direct));
    assert!(is_asked(&routes));
}

/// What a rule says, worked out by the definition: each field that is not empty contains the destination.
fn naive(rule: &Rule, to: &Target, protocol: Protocol, program: &str) -> bool {
    let Criteria { names, addresses, ports, protocol: wanted, programs } = &rule.criteria;
    let is_named =
        matches!(to.host, Host::Name(name) if names.iter().any(|pattern| pattern.matches(name.as_bytes())));
    let is_within = matches!(to.host, Host::Address(ip) if addresses.iter().any(|net| net.contains(&ip)));
    let mut fields = Vec::new();
    if names.len() + addresses.len() > 0 {
        fields.push(is_named || is_within);
    }
    if !ports.is_empty() {
        fields.push(ports.iter().any(|ports| *ports.start() <= to.port && to.port <= *ports.end()));
    }
    fields.extend(wanted.map(|wanted| wanted == protocol));
    if !programs.is_empty() {
        fields.push(programs.iter().any(|pattern| pattern.matches_program(program)));
    }
    fields.into_iter().all(|field| field)
}

proptest! {
    #[test]
    fn the_verdict_is_that_of_the_first_rule_whose_every_field_contains_it(
        rules in proptest::collection::vec(
            ("( name=(a|\\.b|\\*)){0,1}( address=(10\\.0\\.0\\.0/8|10\\.0\\.0\\.1)){0,1}", "( port=(1|1-2)){0,1}",
             "( protocol=(tcp|udp)){0,1}( program=(x|y\\*)){0,1} via=(direct|deny|tor|proxy)"), 0..5),
        to in "(a|x\\.b|b|10\\.0\\.0\\.1|10\\.9\\.9\\.9|192\\.0\\.2\\.1):[123]",
        is_udp: bool,
        program in "(x|yy|z)",
    ) {
        let rules: Vec<_> = rules.iter().map(|(place, ports, rest)| format!("{place}{ports}{rest}")).collect();
        let routes = routes(&rules.iter().map(String::as_str).collect::<Vec<_>>(), Verdict::Deny);
        let protocol = if is_udp { Protocol::Udp } else { Protocol::Tcp };
        let first = routes.rules.iter().find(|rule| naive(rule, &target(&to), protocol, &program));
        prop_assert_eq!(verdict(&routes, &to, protocol, &program), first.map_or(Verdict::Deny, |rule| rule.via));
    }

    #[test]
    fn no_question_makes_it_panic(text: String) {
        let routes = routes(&["via=tor"], PROXY);
        if let Ok(question) = Question::parse(&text) {
            let _ = question.answer(&routes, &[], Limits::default(), |_| Local::Elsewhere);
        }
    }
}

#[test]
fn of_a_long_list_a_message_shows_the_beginning() {
    let shown = |count: usize| {
        let ports: Vec<_> = (1..=count).map(|port| port.to_string()).collect();
        rule::Written::parse(&format!("port={} via=deny", ports.join(","))).unwrap().criteria.to_string()
    };
    assert_eq!(shown(8), "port=1,2,3,4,5,6,7,8");
    assert_eq!(shown(10_000), "port=1,2,3,4,5,6,7,8, and 9992 more");
}

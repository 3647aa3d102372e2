//! Files as users of other programs have them.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::super::environment::Environment;
use super::super::profile::{Order, Profile};
use super::super::text::{Format, Text};
use super::*;

fn text(format: Format, content: &str) -> Rc<Text> {
    let content = Zeroizing::new(content.to_owned());
    Rc::new(Text { name: "file".into(), directory: "/".into(), content, format })
}

/// The profile, and the notes.
fn read(format: Format, content: &str) -> Result<(Profile, String), String> {
    let text = text(format, content);
    let mut notes = Vec::new();
    let variables = |name: &str| match name {
        "SOCKS_USERNAME" => Some("me".into()),
        "SOCKS_PASSWORD" => Some("se:cret".into()),
        _ => None,
    };
    let profile = match format {
        Format::Proxychains => proxychains::profile(&text, &mut notes),
        Format::Torsocks => torsocks::profile(&text, &mut notes),
        _ => dante::profile(&text, &Environment(&variables), &mut notes),
    };
    Ok((profile?, notes.join("\n")))
}

fn proxies(profile: &Profile) -> String {
    let items: Vec<_> =
        profile.proxy.iter().flat_map(|list| &list.items).map(|item| item.value.as_str()).collect();
    items.join(" ")
}

/// Rules, one a line.
fn rules(profile: &Profile) -> String {
    let texts = |list: &Option<super::super::value::List>| {
        let items = list.iter().flat_map(|list| &list.items);
        items.map(|item| item.value.clone()).collect::<Vec<_>>().join(",")
    };
    let rule = |rule: &super::super::profile::Rule| {
        let via = rule.via.as_ref().map(|via| via.value.clone()).unwrap_or_default();
        let protocol = rule.protocol.as_ref().map(|said| format!("{:?}", said.value)).unwrap_or_default();
        let words = [texts(&rule.name), texts(&rule.address), texts(&rule.port), protocol, via];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    profile.rules.iter().flatten().map(|said| rule(&said.value)).collect::<Vec<_>>().join("\n")
}

/// As proxychains-ng ships it, less most comments.
const SHIPPED: &str = "\
# proxychains.conf  VER 4.x
#dynamic_chain
strict_chain
#chain_len = 2
#quiet_mode
proxy_dns
remote_dns_subnet 225
tcp_read_time_out 15000
tcp_connect_time_out 8000
# localnet 127.0.0.0/255.0.0.0

[ProxyList]
# add proxy here ...
# defaults set to \"tor\"
socks4 \t127.0.0.1 9050
";

#[test]
fn proxychains_shipped_file_is_read() {
    let (profile, notes) = read(Format::Proxychains, SHIPPED).unwrap();
    assert_eq!(proxies(&profile), "socks4a://127.0.0.1:9050");
    assert_eq!(profile.order.unwrap().value, Order::Strict);
    assert_eq!(profile.handshake_timeout.unwrap().value.0.as_millis(), 15_000);
    assert_eq!(profile.connect_timeout.unwrap().value.0.as_millis(), 8_000);
    assert_eq!(notes.lines().count(), 1, "{notes}");
    assert!(notes.starts_with("file:7: remote_dns_subnet"), "{notes}");
}

#[test]
fn proxychains_proxies_are_read_in_either_form() {
    let content = "[ProxyList]\nsocks5 10.0.0.1 1080 u@s:r p/w%\nsocks5 ::1 1081\nhttp proxy.example 8080 me\n\
                   socks5://user:p@ss:w@10.0.0.2:1082\nhttp://10.0.0.3:3128\nsocks4 10.0.0.4 1080 me secret\n\
                   socks5 10.0.0.5 1080 # the fast one\nsocks5 10.0.0.6 0\n";
    let (profile, notes) = read(Format::Proxychains, content).unwrap();
    let expected = [
        "socks5://u%40s%3Ar:p%2Fw%25@10.0.0.1:1080",
        "socks5://[::1]:1081",
        "http://me@proxy.example:8080",
        "socks5://user:p%40ss%3Aw@10.0.0.2:1082",
        "http://10.0.0.3:3128",
        "socks4a://me@10.0.0.4:1080",
        "socks5://10.0.0.5:1080",
    ];
    assert_eq!(proxies(&profile), expected.join(" "));
    for note in
        ["file:7: SOCKS4", "file:8: proxychains would take the comment", "file:9: this proxy is left out"]
    {
        assert!(notes.contains(note), "{notes}");
    }
    assert_eq!(profile.order.unwrap().value, Order::Dynamic);
}

#[test]
fn proxychains_networks_and_rewrites_are_read() {
    let content = "random_chain\nchain_len = 0\nquiet_mode\nproxy_dns\nlocalnet 10.0.0.0/255.0.0.0\nlocalnet 192.168.0.0:22/16\n\
                   localnet [fd00::]:22/8\nlocalnet fe80::/10\ndnat 1.1.1.1:23 2.2.2.2\ndnat 1.1.1.1 2.2.2.2:443\n\
                   dnat 1.1.1.1 3.3.3.3\n[ProxyList]\nsocks5 10.0.0.1 1080\n";
    let (profile, notes) = read(Format::Proxychains, content).unwrap();
    let expected =
        ["10.0.0.0/8 direct", "192.168.0.0/16 22 direct", "fd00::/8 22 direct", "fe80::/10 direct"];
    assert_eq!(rules(&profile), expected.join("\n"));
    assert_eq!((profile.rewrite["1.1.1.1:23"].value.as_str(), profile.rewrite.len()), ("2.2.2.2", 2));
    assert_eq!(profile.rewrite["1.1.1.1"].value, "2.2.2.2:443");
    assert_eq!((profile.length.unwrap().value, profile.quiet.unwrap().value), (1, true));
    assert!(notes.starts_with("file:11: 1.1.1.1 is rewritten already"), "{notes}");
}

#[test]
fn what_proxychains_passes_over_is_said() {
    let content = "strict_chain # all of them\nproxy_dns_daemon 127.0.0.1:1053\ndinamic_chain\nsocks5 10.0.0.1 1080\n\
                   tcp_read_time_out soon\ntcp_connect_time_out 18446744073709551615\n[ProxyList]\nsocks5 10.0.0.1 1080\n";
    let (profile, notes) = read(Format::Proxychains, content).unwrap();
    assert_eq!(profile.order.unwrap().value, Order::Dynamic);
    let expected = [
        "file:1: strict_chain is ignored",
        "file:2: proxy_dns_daemon is not asked",
        "file:3: \"dinamic_chain\" is ignored",
        "file:4: this socks5 proxy is ignored",
        "file:5: this time is ignored",
        "file:6: this time is ignored",
    ];
    for (note, expected) in notes.lines().zip(expected) {
        assert!(note.starts_with(expected), "{note}");
    }
    assert_eq!(notes.lines().count(), expected.len(), "{notes}");
}

#[test]
fn no_note_shows_a_password() {
    for (format, content) in [
        (
            Format::Proxychains,
            "socks5://user:secret@h:1\nuser:secret@h\n[ProxyList]\nhttp 10.0.0.1 1 # secret\n",
        ),
        (Format::Proxychains, "[ProxyList]\nsocks4 10.0.0.1 1 user secret\nsocks5 10.0.0.1 0 user secret\n"),
        (Format::Torsocks, "SOCKS5Password=secret\nuser:secret\nSOCKS5Pasword secret\n"),
    ] {
        let (_, notes) = read(format, content).unwrap();
        assert!(!notes.is_empty() && !notes.contains("secret"), "{notes}");
    }
}

#[test]
fn what_proxychains_would_not_start_with_is_an_error() {
    for (content, at, why) in [
        ("strict_chain\n", "file: ", "no proxy"),
        ("[ProxyList]\nsocks5 10.0.0.1 0\n", "file: ", "no proxy"),
        ("[ProxyList]\nsocks5h://10.0.0.1:1\n", "file:2:1: ", "TYPE HOST PORT"),
        ("[ProxyList]\nsocks5 10.0.0.1\n", "file:2:1: ", "TYPE HOST PORT"),
        ("[ProxyList]\nsocks5 10.0.0.1 x me secret\n", "file:2:1: ", "TYPE HOST PORT"),
        ("[ProxyList]\nsocks6 10.0.0.1 1 me secret\n", "file:2:1: ", "type"),
        ("[ProxyList]\nraw 10.0.0.1 1\n", "file:2:1: ", "raw"),
        ("[ProxyList]\nstrict_chain\n", "file:2:1: ", "TYPE HOST PORT"),
        ("chain_len 2\n", "file:1:1: ", "equals"),
        ("localnet 10.0.0.0\n", "file:1:10: ", "network"),
        ("localnet 10.0.0.0/33\n", "file:1:10: ", "network"),
        ("localnet 10.0.0.0/255.0.255.0\n", "file:1:10: ", "network"),
        ("localnet 10.0.0.0/8 # home\n", "file:1:21: ", "comment"),
        ("dnat 1.1.1.1\n", "file:1:1: ", "two addresses"),
        ("dnat 1.1.1.1 h\n", "file:1:14: ", "IPv4"),
    ] {
        let error = read(Format::Proxychains, content).expect_err(content);
        assert!(error.starts_with(at) && error.contains(why), "{content}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn torsocks_file_is_read() {
    let content = "# /etc/tor/torsocks.conf\nTorAddress 10.0.0.1\nTorPort 9150 # the browser's\nOnionAddrRange 127.42.43.0/24\n\
                   SOCKS5Username me\nSOCKS5Password p@ss\nAllowInbound 1\nAllowOutboundLocalhost 1\nColour blue\n";
    let (profile, notes) = read(Format::Torsocks, content).unwrap();
    assert_eq!(proxies(&profile), "socks5://me:p%40ss@10.0.0.1:9150");
    for note in ["file:4: OnionAddrRange", "file:8: AllowOutboundLocalhost", "file:9: \"Colour\" is ignored"]
    {
        assert!(notes.contains(note), "{notes}");
    }
    let (profile, notes) = read(Format::Torsocks, "IsolatePID 1\n").unwrap();
    assert_eq!((proxies(&profile).as_str(), notes.as_str()), ("socks5://127.0.0.1:9050", ""));
    assert!(profile.isolate.is_some() && profile.udp.is_some());
}

#[test]
fn what_torsocks_would_not_start_with_is_an_error() {
    for (content, at, why) in [
        ("TorAddress localhost", "file:1:12: ", "name"),
        ("TorPort 0", "file:1:9: ", "port"),
        ("TorPort", "file:1:1: ", "missing"),
        ("AllowInbound 2", "file:1:14: ", "0, 1"),
        ("SOCKS5Password secret", "file:1:16: ", "together"),
        ("SOCKS5Username me\nSOCKS5Password secret\nIsolatePID 1", "file:3:1: ", "no others"),
    ] {
        let error = read(Format::Torsocks, content).expect_err(content);
        assert!(error.starts_with(at) && error.contains(why), "{content}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

const DANTE: &str = "\
# /etc/dante.conf
debug: 0
resolveprotocol: fake
timeout.connect: 30
route {
   from: 0.0.0.0/0   to: 10.0.0.0/8   via: direct
   command: connect udpassociate # everything
}
route { from: 0.0.0.0/0 to: .example.org port = 80 via: 10.1.1.1 port = 8080
        proxyprotocol: http protocol: tcp }
route {
   from:0.0.0.0/0 to:0.0.0.0/0 via: gate.example port = 1080
   proxyprotocol: socks_v4 socks_v5
   method: username none
}
";

#[test]
fn dantes_routes_are_read() {
    let (profile, notes) = read(Format::Dante, DANTE).unwrap();
    assert_eq!(rules(&profile), "10.0.0.0/8 direct\n.example.org 80 Tcp http 10.1.1.1:8080");
    assert_eq!(proxies(&profile), "socks5 gate.example:1080");
    assert_eq!(profile.proxies["socks5 gate.example:1080"].value, "socks5://me:se%3Acret@gate.example:1080");
    assert_eq!(profile.connect_timeout.unwrap().value.0.as_secs(), 30);
    assert!(profile.default.is_none());
    for note in ["file:2: debug is not", "of the proxy protocols socks5 is used", "interfaces"] {
        assert!(notes.contains(note), "{notes}");
    }
}

#[test]
fn socks4_of_other_programs_carries_names() {
    let (profile, _) = read(Format::Proxychains, "proxy_dns\n[ProxyList]\nsocks4 127.0.0.1 9050\n").unwrap();
    assert_eq!(proxies(&profile), "socks4a://127.0.0.1:9050");
    let route = "route { to: 0/0 via: 10.1.1.1 port = 1080 proxyprotocol: socks_v4 }";
    let (profile, _) = read(Format::Dante, route).unwrap();
    assert_eq!(profile.proxies["socks4a 10.1.1.1:1080"].value, "socks4a://me@10.1.1.1:1080");
}

#[test]
fn dantes_routes_to_one_server_keep_each_its_own_protection_and_user() {
    let route = |to: &str, rest: &str| format!("route {{ to: {to} via: gate port = 1080 {rest} }}\n");
    let text = [
        route("192.0.2.0/24", "method: gssapi gssapi.enctype: confidentiality"),
        route("198.51.100.0/24", "method: gssapi gssapi.enctype: clear"),
        route("203.0.113.0/24", "method: none"),
        route("0/0", "method: gssapi gssapi.enctype: confidentiality"),
    ]
    .concat();
    let (profile, _) = read(Format::Dante, &text).unwrap();
    let url = |name: &String| profile.proxies[name].value.trim_start_matches("socks5+gssapi://gate:1080?");
    let rules = profile.rules.as_ref().unwrap();
    let used: Vec<_> = rules.iter().map(|rule| url(&rule.value.via.as_ref().unwrap().value)).collect();
    assert_eq!(used, ["protection=confidentiality", "protection=clear", "socks5://gate:1080"]);
    assert_eq!(profile.proxies.len(), 3);
}

#[test]
fn dantes_gssapi_is_ours() {
    let read = |route: &str| {
        let route = format!("route {{ to: 0/0 via: gate.example port = 1080 {route} }}");
        let (profile, notes) = read(Format::Dante, &route).unwrap();
        (profile.proxies.values().next().unwrap().value.clone(), notes)
    };
    for (route, url) in [
        ("method: gssapi", "socks5+gssapi://gate.example:1080"),
        (
            "method: gssapi gssapi.servicename: socks gssapi.enctype: clear integrity",
            "socks5+gssapi://gate.example:1080?service=socks&protection=integrity",
        ),
        (
            "socksmethod: gssapi none gssapi.servicename: rcmd@a.example clientcompatibility: necgssapi",
            "socks5+gssapi://gate.example:1080?service=rcmd/a.example",
        ),
        ("method: none gssapi", "socks5://gate.example:1080"),
    ] {
        assert_eq!(read(route).0, url);
    }
    for (route, note) in [
        ("method: gssapi none", "of the methods gssapi is used, always"),
        ("method: none gssapi", "GSSAPI is not offered, as it does not stand first"),
        ("method: gssapi clientcompatibility: necgssapi", "clientcompatibility is not carried over"),
    ] {
        assert!(read(route).1.contains(note), "{route}: {}", read(route).1);
    }
}

#[test]
fn what_no_route_of_dantes_is_about_is_denied() {
    let route = "route { from: 0/0 to: 192.0.2.0/24 port 80 - 90 via: 10.1.1.1 port = 1080 method: none }";
    let (profile, _) = read(Format::Dante, route).unwrap();
    assert_eq!(rules(&profile), "192.0.2.0/24 80-90 socks5 10.1.1.1:1080");
    assert_eq!((profile.default.unwrap().value.as_str(), profile.proxy.is_none()), ("deny", true));
    assert_eq!(profile.proxies["socks5 10.1.1.1:1080"].value, "socks5://10.1.1.1:1080");
}

#[test]
fn no_route_of_dantes_makes_more_direct_than_it_says() {
    let proxied = "route { to: 0/0 via: 10.1.1.1 port = 1080 }\n";
    for direct in [
        "route { from: 192.168.0.0/16 to: 10.0.0.0/8 via: direct }",
        "route { to: 0.0.0.0/0 via: direct }",
        "route { to: 10.0.0.0/8 via: direct command: bind }",
    ] {
        let (profile, notes) = read(Format::Dante, &format!("{proxied}{direct}")).unwrap();
        assert!(profile.rules.is_none() && notes.contains("file:2: "), "{direct}: {notes}");
    }
}

#[test]
fn what_is_wrong_with_dantes_file_is_said() {
    for (content, at, why) in [
        ("", "file: ", "no route"),
        ("route {\n to: 0/0 via: 10.1.1.1 port = 1080\n", "file:1:1: ", "no end"),
        ("route { to: 0/0 }", "file:1:1: ", "no via"),
        ("route { to: 0/0 via: 10.1.1.1 }", "file:1:22: ", "port"),
        (
            "route { to: 0/0 via: 10.1.1.1 port = 1080 method: gssapi proxyprotocol: http }",
            "file:1:51: ",
            "SOCKS5 alone",
        ),
        (
            "route { to: 0/0 via: 10.1.1.1 port = 1080 method: gssapi gssapi.enctype: permessage }",
            "file:1:74: ",
            "levels",
        ),
        ("route { to: 0/0 via: 10.1.1.1 port = 1080 proxyprotocol: upnp }", "file:1:1: ", "proxy protocol"),
        ("route { to: eth 0 via: 10.1.1.1 port ne 1080 }", "file:1:33: ", "range"),
        ("client pass { from: 0/0 }", "file:1:1: ", "server"),
        ("}", "file:1:1: ", "brace"),
    ] {
        let error = read(Format::Dante, content).expect_err(content);
        assert!(error.starts_with(at) && error.contains(why), "{content}: {error}");
    }
}

#[test]
fn files_are_recognised() {
    for (name, content, format) in [
        ("a.toml", SHIPPED, Format::Toml),
        ("a.conf", SHIPPED, Format::Proxychains),
        ("proxychains4.conf", "strict_chain", Format::Proxychains),
        ("a.conf", "# x\nTorPort 9050", Format::Torsocks),
        ("torsocks.conf", "", Format::Torsocks),
        ("a", DANTE, Format::Dante),
        ("a", "proxy = \"socks5://h\"", Format::Toml),
    ] {
        assert_eq!(recognise(Path::new(name), content), format, "{name}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_a_reader_panic(any in ".*", lines in "((socks5|http|localnet|dnat|chain_len|TorPort|route|\\{|\\}|to:|via:|port) ?[0-9a.:/@#= ]{0,12}\n?){0,9}") {
        for content in [&any, &lines, &format!("[ProxyList]\n{lines}")] {
            for format in [Format::Proxychains, Format::Torsocks, Format::Dante] {
                let _ = read(format, content);
                recognise(Path::new("a"), content);
            }
        }
    }
}

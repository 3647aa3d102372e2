//! What paths mean, by where they stand.

use super::*;

/// The authorities of the first chain's proxies.
fn ca_files(scene: &Scene) -> String {
    let home = scene.home.path().to_str().unwrap();
    let routes = scene.routes();
    let files = routes.chains[0].proxies.iter().map(|proxy| proxy.tls().unwrap().ca_file.clone().unwrap());
    files.map(|file| file.to_str().unwrap().replace(home, "~")).collect::<Vec<_>>().join(" ")
}

/// Set to this very text.
fn literally(mut scene: Scene, name: &str, value: &str) -> Scene {
    scene.variables.insert(name.into(), value.into());
    scene
}

#[test]
fn paths_in_a_file_start_from_its_directory() {
    let urls = "\"https://a?ca-file=ca.pem\", \"https://b?ca-file=~/my%20ca.pem&server-name=x\", \"https://c?ca-file=/ca%40.pem\", \"https://d\"";
    let scene = Scene::with(&format!("proxy = [{urls}]\nca-file = \"sub/ca.pem\""));
    let expected = "~/.config/presocks/ca.pem ~/my ca.pem /ca@.pem ~/.config/presocks/sub/ca.pem";
    assert_eq!(ca_files(&scene), expected);
    let named =
        Scene::with("proxy = \"a\"\n[proxies]\na = \"https://u:p@a/?server-name=x&ca-file=../ca.pem\"");
    assert_eq!(ca_files(&named), "~/.config/presocks/../ca.pem");
    let chain = Scene::with("default = \"c\"\n[chains.c]\nproxies = [\"socks5+tls://a?ca-file=ca.pem\"]\n");
    assert_eq!(ca_files(&chain), "~/.config/presocks/ca.pem");
    let list = Scene::new()
        .file("lists/list", "https://a?ca-file=ca.pem\n")
        .set("PRESOCKS_PROXY_FILE", "~/lists/list");
    assert_eq!(ca_files(&list), "~/lists/ca.pem");
}

#[test]
fn typed_paths_start_from_the_working_directory() {
    let here = std::env::current_dir().unwrap();
    let here = here.to_str().unwrap();
    let url = "https://h?ca-file=ca.pem";
    for scene in [
        Scene::new().flags(proxy(&[url])),
        Scene::new().set("PRESOCKS_PROXY", url),
        Scene::new().set("ALL_PROXY", url),
    ] {
        assert_eq!(ca_files(&scene), format!("{here}/ca.pem"));
    }
    let home = Scene::new().flags(proxy(&["https://h?ca-file=~/ca.pem"]));
    assert_eq!(ca_files(&home), "~/ca.pem");
    let home = literally(Scene::new().set("PRESOCKS_PROXY", "https://h"), "PRESOCKS_CA_FILE", "~/ca.pem");
    assert_eq!(ca_files(&home), "~/ca.pem");
}

#[test]
fn what_is_printed_names_the_same_files_elsewhere() {
    let here = std::env::current_dir().unwrap();
    let config = "proxy = [\"https://u:secret@a?ca-file=ca.pem&server-name=x\", \"b\"]\n[proxies]\nb = \"https://b?ca-file=~/b%25.pem\"\n";
    let scene = Scene::with(config).set("PRESOCKS_CA_FILE", "ca.pem");
    let (home, printed) =
        (scene.home.path().to_str().unwrap(), print(scene.load().unwrap().profile).unwrap());
    for line in [
        format!("https://u:***@a?ca-file={home}/.config/presocks/ca.pem&server-name=x"),
        format!("b = \"https://b?ca-file={home}/b%25.pem\""),
        format!("ca-file = \"{}/ca.pem\"", here.display()),
    ] {
        assert!(printed.contains(&line), "{printed}");
    }
    let elsewhere = Scene::with(&printed.replace("***", "secret"));
    assert_eq!(ca_files(&elsewhere), ca_files(&scene).replace('~', home));
    let list = Scene::with("proxy-file = \"list\"").file(".config/presocks/list", "socks5://a\n");
    let printed = print(list.load().unwrap().profile).unwrap();
    assert!(printed.contains(&format!("{}/.config/presocks/list", list.home.path().display())), "{printed}");
}

#[test]
fn the_file_itself_may_be_in_the_home_directory() {
    let scene = || {
        Scene::new()
            .file("x.toml", "proxy = \"socks5://x\"")
            .file("p.conf", "proxy_dns\n[ProxyList]\nsocks5 10.0.0.1 1\n")
    };
    let mut typed = scene();
    typed.wanted.file = Some("~/x.toml".into());
    assert_eq!(proxies(&typed.routes(), 0), "x:1080");
    assert_eq!(proxies(&literally(scene(), "PRESOCKS_CONFIG", "~/x.toml").routes(), 0), "x:1080");
    let mut proxychains = literally(scene(), "PROXYCHAINS_CONF_FILE", "~/p.conf");
    proxychains.wanted.is_proxychains = true;
    assert_eq!(proxies(&proxychains.routes(), 0), "10.0.0.1:1");
}

#[test]
fn without_a_home_directory_nothing_is_in_it() {
    let homeless =
        |name: &str, value: &str| literally(literally(Scene::new(), "HOME", ""), name, value).error();
    let why = ": ~ is the home directory, and HOME does not say where that is";
    for (name, value) in [
        ("PRESOCKS_CONFIG", "~/x"),
        ("PRESOCKS_PROXY_FILE", "~/x"),
        ("PRESOCKS_PROXY", "https://u:secret@h?ca-file=~/x"),
    ] {
        assert_eq!(homeless(name, value), format!("{name}{why}"));
    }
}

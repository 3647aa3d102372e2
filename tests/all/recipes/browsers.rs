//! Browsers without a window.
//!
//! Their services of their own (updates, telemetry, safe browsing, the search for portals) ask the proxy for names that it does
//! not know, and fail.

use std::fs;
use std::path::{Path, PathBuf};

use presocks_tests::certificates::Signed;
use presocks_tests::lab::USER_ID;
use presocks_tests::origin::{HttpServer, HttpsServer, StunServer, http};
use presocks_tests::proxy::Dante;
use presocks_tests::{Lab, missing, patience};
use rustix::process::Signal;

/// A page of four pieces, one over TLS, and one that only its script asks for.
const PAGE: &str = r#"<!doctype html>
<title>A page</title>
<link rel="stylesheet" href="style.css">
<p id="text">as it was</p>
<img src="https://www.origin.test/picture">
<script src="script.js"></script>
"#;

const SCRIPT: &str = r#"
document.getElementById("text").textContent = "as the script has it";
new Image().src = "/asked-by-the-script";
"#;

/// A page that looks for ways to itself, as a call between two browsers does, and tells when it knows them all.
const CALL: &str = r#"<!doctype html>
<script>
const peer = new RTCPeerConnection({iceServers: [{urls: "stun:origin.test"}]});
peer.onicegatheringstatechange = () => {
    if (peer.iceGatheringState == "complete") new Image().src = "/gathered";
};
peer.createDataChannel("lab");
peer.createOffer().then(offer => peer.setLocalDescription(offer));
</script>
"#;

/// The lab with what a browser asks for.
struct Site {
    proxy: Dante,
    web: HttpServer,
    secure: HttpsServer,
    certificate: Signed,
    lab: Lab,
}

impl Site {
    fn new() -> Self {
        let lab = Lab::new();
        let (proxy, certificate) = (Dante::with_password(&lab), Signed::for_the_origin(&lab));
        let (web, secure) = (HttpServer::start(&lab), HttpsServer::start_with(&lab, &certificate));
        let files = [
            ("page.html", PAGE),
            ("style.css", "p { color: red }"),
            ("script.js", SCRIPT),
            ("call.html", CALL),
        ];
        for (name, content) in files {
            fs::write(http::root(&lab).join(name), content).unwrap();
        }
        Self { proxy, web, secure, certificate, lab }
    }

    /// A directory of the user's (or of root's) in which certutil(1) has noted the laboratory's authority.
    fn trusting(&self, ordinary_user: bool, name: &str) -> PathBuf {
        let home = self.lab.directory().join(if ordinary_user { "user-home" } else { "root-home" });
        let directory = home.join(name);
        fs::create_dir_all(&directory).unwrap();
        let database = format!("sql:{}", directory.display());
        let authority = self.certificate.authority.to_string_lossy();
        self.lab.origin.setup(&["certutil", "-d", &database, "-N", "--empty-password"], "");
        self.lab
            .origin
            .setup(&["certutil", "-d", &database, "-A", "-t", "C,,", "-n", "lab", "-i", &authority], "");
        if ordinary_user {
            give(&home);
        }
        directory
    }

    /// The page and all that it needs has been asked for.
    fn assert_asked(&self) {
        let mut paths = self.web.paths();
        paths.retain(|path| path != "/favicon.ico");
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths, ["/asked-by-the-script", "/page.html", "/script.js", "/style.css"]);
        assert!(self.secure.log().contains("GET /picture "), "{}", self.secure.log());
    }
}

/// Gives a directory and what is in it to the ordinary user.
fn give(directory: &Path) {
    std::os::unix::fs::chown(directory, Some(USER_ID), Some(USER_ID)).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give(&path);
        } else {
            std::os::unix::fs::chown(path, Some(USER_ID), Some(USER_ID)).unwrap();
        }
    }
}

#[test]
fn chromium_loads_a_page_with_its_sandbox_and_without() {
    if missing(&["danted", "chromium", "certutil"]) {
        return;
    }
    for ordinary_user in [true, false] {
        let site = Site::new();
        site.trusting(ordinary_user, ".pki/nssdb");
        let mut words = vec!["chromium", "--user-data-dir=chromium", "--headless", "--dump-dom"];
        words.extend((!ordinary_user).then_some("--no-sandbox"));
        words.push("http://origin.test/page.html");
        let home = if ordinary_user { "user-home" } else { "root-home" };
        let browser = site.lab.presocks(words).proxy(&site.proxy).directory(site.lab.directory().join(home));
        let browser = if ordinary_user { browser.ordinary_user() } else { browser };
        browser.run().success().stdout_has(r#"<p id="text">as the script has it</p>"#);
        site.assert_asked();
        site.lab.assert_no_leak();
    }
}

#[test]
fn firefox_loads_a_page() {
    if missing(&["danted", "firefox-esr", "certutil"]) {
        return;
    }
    let site = Site::new();
    let profile = site.trusting(true, "profile");
    let picture = profile.with_file_name("page.png");
    let (profile, file) = (profile.to_string_lossy(), picture.to_string_lossy());
    let words = ["firefox-esr", "--no-remote", "--profile", &profile, "--screenshot", &file];
    let words = words.into_iter().chain(["http://origin.test/page.html"]);
    site.lab.presocks(words).proxy(&site.proxy).ordinary_user().run().success();
    site.assert_asked();
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    site.lab.assert_no_leak();
}

#[test]
fn datagrams_of_webrtc_go_through_the_proxy() {
    if missing(&["danted", "chromium", "firefox-esr"]) {
        return;
    }
    let site = Site::new();
    let home = site.lab.directory().join("user-home");
    let profile = home.join("profile");
    fs::create_dir(&profile).unwrap();
    give(&profile);
    let profile = profile.to_string_lossy();
    let stun = StunServer::start(&site.lab);
    let address = "http://origin.test/call.html";
    let policy = "--webrtc-ip-handling-policy=default_public_interface_only";
    let chromium = vec!["chromium", "--user-data-dir=chromium", policy, "--headless", address];
    let firefox = vec!["firefox-esr", "--no-remote", "--profile", &profile, "--headless", address];
    for words in [chromium, firefox] {
        let (gathered, answered) = (gathered(&site.web), stun.requests());
        let browser = site.lab.presocks(words).proxy(&site.proxy).directory(&home).ordinary_user().start();
        patience::wait_until("WebRTC to have looked around", || self::gathered(&site.web) > gathered);
        assert!(stun.requests() > answered, "nothing came to the STUN server");
        browser.signal(Signal::TERM);
        let _ = browser.finish();
        site.lab.assert_no_leak();
    }
}

/// How many times the page of a call has told that it knows all ways to itself.
fn gathered(web: &HttpServer) -> usize {
    web.paths().iter().filter(|path| *path == "/gathered").count()
}

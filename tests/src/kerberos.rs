//! MIT Kerberos: a KDC on the proxy host, for the realm `LAB.TEST`, with a user and a service; and tickets on the client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, USER};
use crate::patience;
use crate::requirement::PATH;

/// Programs and the module that a test with it needs, the proxy included.
pub const NEEDS: [&str; 7] = [
    "krb5kdc",
    "kdb5_util",
    "kadmin.local",
    "kinit",
    "kvno",
    "/usr/bin/python3",
    "/usr/lib/python3/dist-packages/gssapi",
];

/// Names are what they are: nobody is asked for another form of them.
const LIBRARY: &str = "
    default_realm = LAB.TEST
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    LAB.TEST = {
        kdc = 10.77.0.1:88
    }
[domain_realm]
    proxy.lab = LAB.TEST
";

/// A realm, its KDC, which serves it over TCP, and `/etc/krb5.conf` on the client. The client may ask it: that is no leak.
#[derive(Debug)]
pub struct Kerberos {
    /// The KDC, for its log.
    pub kdc: Daemon,
    directory: PathBuf,
}

impl Kerberos {
    /// Makes the realm and starts its KDC.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        Self::with_patience(lab, 300)
    }

    /// One that takes what is no older than so many seconds, and tickets no longer than that after they have expired.
    #[must_use]
    pub fn with_patience(lab: &Lab, seconds: u32) -> Self {
        let directory = lab.directory().to_owned();
        let at = directory.display();
        let configuration = format!(
            "[libdefaults]\n    default_ccache_name = FILE:{at}/tickets\n    clockskew = {seconds}{LIBRARY}"
        );
        let file = lab.file("krb5.conf", configuration);
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(file).arg("/etc/krb5.conf").env_clear().env("PATH", PATH);
        let mounted = lab.client.spawn(&mut mount).wait().expect("wait for mount");
        assert!(mounted.success(), "mount: {mounted}");
        let configuration = format!(
            "[kdcdefaults]
                 kdc_listen = \"\"
                 kdc_tcp_listen = {PROXY}:88
             [realms]
                 LAB.TEST = {{
                     database_name = {at}/principals
                     key_stash_file = {at}/stash
                     supported_enctypes = aes256-cts-hmac-sha1-96:normal
                 }}
             [logging]
                 kdc = STDERR
            "
        );
        let profile = lab.file("kdc.conf", configuration);
        let environment =
            [format!("KRB5_CONFIG={at}/krb5.conf"), format!("KRB5_KDC_PROFILE={}", profile.display())];
        let setup = |words: &[&str]| {
            let words: Vec<_> = ["env"]
                .into_iter()
                .chain(environment.iter().map(String::as_str))
                .chain(words.iter().copied())
                .collect();
            lab.proxy.setup(&words, "")
        };
        setup(&["kdb5_util", "create", "-s", "-r", "LAB.TEST", "-P", "master"]);
        for query in [
            format!("addprinc -pw {PASSWORD} {USER}"),
            "addprinc -randkey rcmd/proxy.lab".to_owned(),
            "addprinc -randkey rcmd/other.lab".to_owned(),
            // Each time it gets another key.
            format!("ktadd -k {at}/keytab.stale rcmd/proxy.lab"),
            format!("ktadd -k {at}/keytab rcmd/proxy.lab"),
        ] {
            setup(&["kadmin.local", "-r", "LAB.TEST", "-q", &query]);
        }
        let mut command = Command::new("krb5kdc");
        command
            .env_clear()
            .arg("-n")
            .envs(environment.iter().filter_map(|variable| variable.split_once('=')));
        let kdc = Daemon::start(lab, &lab.proxy, "krb5kdc", &mut command, SocketAddr::from((PROXY, 88)));
        lab.permit_proxy_port(88);
        Self { kdc, directory }
    }

    /// Fetches a ticket for the user, as one does by hand.
    pub fn kinit(&self, lab: &Lab) {
        self.kinit_with(lab, &[]);
    }

    /// The same, with further options of kinit's.
    pub fn kinit_with(&self, lab: &Lab, options: &[&str]) {
        let words = ["kinit"].iter().chain(options).chain(&[USER]);
        lab.bare(words).stdin(format!("{PASSWORD}\n")).run().success();
    }

    /// Fetches a ticket that holds for a second, and waits until the KDC takes it no more.
    pub fn kinit_and_let_expire(&self, lab: &Lab) {
        self.kinit_with(lab, &["-l", "1s"]);
        patience::wait_until("a ticket to expire", || {
            lab.bare(["kvno", "--no-store", "rcmd/other.lab"]).run().stderr().contains("expired")
        });
    }

    /// Where the user's tickets are.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.directory.join("tickets")
    }

    /// The keys of the service `rcmd@proxy.lab`.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.directory.join("keytab")
    }

    /// Where a file of the realm's is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

//! Proxies behind TLS: what goes through, and what is said when the handshake fails. stunnel in front of Dante, `ssh -D` and
//! tinyproxy; squid by itself.

mod failures;
mod hostile;
mod peers;
mod traffic;

use presocks_tests::certificates::Certificates;
use presocks_tests::proxy::{Dante, Squid, SshDynamic, Stunnel, Tinyproxy, of_kind};
use presocks_tests::{Lab, missing};

const NEEDS: [&str; 8] = ["danted", "ssh", "sshd", "ssh-keygen", "tinyproxy", "squid", "stunnel4", "python3"];

/// One of each kind of proxy over TLS.
struct Proxies {
    _stunnels: Vec<Stunnel>,
    _real: (Dante, Dante, SshDynamic, Tinyproxy),
    squid: Squid,
    urls: Vec<String>,
    certificates: Certificates,
    lab: Lab,
}

impl Proxies {
    fn start() -> Option<Self> {
        if missing(&NEEDS) {
            return None;
        }
        let lab = Lab::new();
        let certificates = Certificates::make(&lab);
        let open = Dante::open(&lab);
        let closed = Dante::with_password(&lab);
        let ssh = SshDynamic::open(&lab);
        let http = Tinyproxy::with_password(&lab);
        let before = [
            ("socks5+tls", "", open.port()),
            ("socks5h+tls", "lab:secret@", closed.port()),
            ("socks4a+tls", "", ssh.port()),
            ("https", "lab:secret@", http.port()),
        ];
        let mut stunnels = Vec::new();
        let mut urls = Vec::new();
        for (number, (scheme, credentials, port)) in (0..).zip(before) {
            let stunnel = Stunnel::before(&lab, number, port, &certificates.good);
            urls.push(stunnel.url(scheme, credentials));
            stunnels.push(stunnel);
        }
        let squid = Squid::with_password(&lab, &certificates);
        urls.push(squid.url_over_tls());
        Some(Self { _stunnels: stunnels, _real: (open, closed, ssh, http), squid, urls, certificates, lab })
    }

    /// The URLs, each of which says whom to trust.
    fn trusting(&self) -> Vec<String> {
        let authority = self.certificates.authority.display();
        self.urls.iter().map(|url| format!("{url}?ca-file={authority}")).collect()
    }

    /// Those that carry the end of one direction by itself: tinyproxy and squid end both.
    fn half_closing(&self) -> Vec<String> {
        self.trusting().into_iter().filter(|url| !url.starts_with("https")).collect()
    }

    /// A proxy that says which name of it is meant.
    fn squid_by_another_scheme(&self) -> String {
        of_kind("http+tls", &self.squid.url_over_tls().replacen("https:", "socks5:", 1))
    }
}

//! A proxy: what it speaks, where it is, and what it is told of us.
//!
//! A [`Proxy`] shows itself without its credentials, everywhere and always.

mod credentials;
mod gssapi;
mod tls;
mod url;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use presocks_proto::handshake::{Error, Handshake};
use presocks_proto::name::Name;
use presocks_proto::target::{self, Target};
use presocks_proto::{http, socks4, socks5};

use credentials::Credentials;
pub(crate) use gssapi::{Gssapi, Level};
pub(crate) use tls::{Read, Tls};

/// A proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    kind: Kind,
    place: Place,
    tls: Option<Tls>,
    /// Of SOCKS5 only, and without credentials.
    gssapi: Option<Gssapi>,
    credentials: Option<Credentials>,
    /// Must it ask for them?
    insists: bool,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Socks5,
    Socks4,
    Socks4a,
    Http,
}

/// Where a proxy is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// At a host's TCP port.
    Tcp(Host, u16),
    /// At a Unix socket.
    Unix(PathBuf),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

/// Made-up credentials by which a SOCKS5 proxy keeps a connection apart from others, if the user has given none for it.
#[derive(Clone, Copy)]
pub(crate) struct IsolationCredentials<'a> {
    pub(crate) credentials: socks5::Credentials<'a>,
    /// Does the connection fail if the proxy does not ask for them?
    pub(crate) is_required: bool,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Socks5 => "socks5",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Http => "http",
        }
    }
}

impl Proxy {
    /// Reads a URL. The paths in it are as they were written ([`Proxy::with_paths`]).
    ///
    /// # Errors
    /// What is wrong with it and what to write instead, without any part of its credentials.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        url::parse(url)
    }

    /// A URL with what `resolve` makes of each path in it but that of a Unix socket, which is absolute. One that cannot be read stays as
    /// it is.
    ///
    /// # Errors
    /// Those of `resolve`.
    pub(crate) fn with_paths(
        url: &str,
        resolve: impl Fn(&Path) -> Result<PathBuf, String>,
    ) -> Result<String, String> {
        url::with_paths(url, resolve)
    }

    /// What it speaks.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Its address, where no name stands in its stead.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.place {
            Place::Tcp(Host::Address(address), _) => Some(address),
            Place::Tcp(Host::Name(_), _) | Place::Unix(_) => None,
        }
    }

    /// With TLS, how.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// With GSSAPI, how.
    pub(crate) fn gssapi(&self) -> Option<&Gssapi> {
        self.gssapi.as_ref()
    }

    /// Must bytes change on their way to it?
    pub(crate) fn changes_bytes(&self) -> bool {
        self.tls.is_some() || self.gssapi.as_ref().is_some_and(|gssapi| gssapi.level > Level::Clear)
    }

    /// Reads the certificates that its own is to be checked by, if it names any.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub(crate) fn read_certificates(&mut self, before: &mut Read) -> Result<(), String> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls.read(before))
    }

    /// These authorities are asked about its certificate, unless its own URL names others.
    pub(crate) fn default_ca_file(&mut self, file: &Path) {
        if let Some(Tls { ca_file: ca_file @ None, .. }) = &mut self.tls {
            *ca_file = Some(file.to_owned());
        }
    }

    /// Can it keep connections apart by made-up credentials?
    pub(crate) fn can_isolate(&self) -> bool {
        self.kind == Kind::Socks5 && self.is_open()
    }

    /// Does it let us in without more?
    pub(crate) fn is_open(&self) -> bool {
        self.credentials.is_none() && self.gssapi.is_none()
    }

    /// Is there something in it that others must not read?
    pub(crate) fn has_password(&self) -> bool {
        self.credentials.as_ref().is_some_and(Credentials::have_password)
    }

    /// It as the destination of another proxy; `None` when no other can reach it.
    pub(crate) fn as_target(&self) -> Option<Target> {
        let Place::Tcp(host, port) = &self.place else { return None };
        let host = match host {
            Host::Address(address) => target::Host::Address(*address),
            Host::Name(name) => target::Host::Name(Name::new(name.as_bytes())?),
        };
        Some(Target { host, port: *port })
    }

    /// A request to connect to `target`; with GSSAPI what comes after it.
    ///
    /// # Errors
    /// Its protocol has no way to ask for this target.
    pub(crate) fn handshake<'a>(
        &'a self,
        target: Target,
        isolation: Option<IsolationCredentials<'a>>,
    ) -> Result<Handshake<'a>, Error> {
        match self.kind {
            Kind::Socks5 if self.gssapi.is_some() => {
                Ok(Handshake::Socks5(socks5::Handshake::new(target, None).past_authentication()))
            }
            Kind::Socks5 => {
                let handshake = match (self.socks5_credentials(), isolation) {
                    (None, Some(IsolationCredentials { credentials, is_required })) => {
                        let handshake = socks5::Handshake::new(target, Some(credentials));
                        if is_required { handshake.insisting() } else { handshake }
                    }
                    (own, _) => self.insist(socks5::Handshake::new(target, own)),
                };
                Ok(Handshake::Socks5(handshake))
            }
            Kind::Socks4 => self.socks4(socks4::Version::V4, &target),
            Kind::Socks4a => self.socks4(socks4::Version::V4a, &target),
            Kind::Http => {
                let credentials = self.credentials.as_ref().and_then(Credentials::for_http);
                http::Handshake::new(&target, credentials).map(Handshake::Http).map_err(Error::Http)
            }
        }
    }

    /// A request that it listen, and let `target` connect to it; `None` of a protocol that has none.
    ///
    /// # Errors
    /// As of [`Proxy::handshake`].
    pub(crate) fn binding<'a>(
        &'a self,
        target: Target,
        isolation: Option<IsolationCredentials<'a>>,
    ) -> Result<Option<Handshake<'a>>, Error> {
        let version = match self.kind {
            Kind::Socks5 => {
                return Ok(match self.handshake(target, isolation)? {
                    Handshake::Socks5(handshake) => Some(Handshake::Socks5(handshake.binding())),
                    Handshake::Socks4(_) | Handshake::Http(_) => None,
                });
            }
            Kind::Socks4 => socks4::Version::V4,
            Kind::Socks4a => socks4::Version::V4a,
            Kind::Http => return Ok(None),
        };
        let bind = socks4::Handshake::binding(version, &target, self.socks4_user());
        bind.map(|handshake| Some(Handshake::Socks4(handshake))).map_err(Error::Socks4)
    }

    /// A request for an association; `None` when it carries no datagrams: another protocol than SOCKS5 has none, and what is to go by TLS or to a
    /// Unix socket must not go to a UDP port in the clear.
    pub(crate) fn association(&self) -> Option<Handshake<'_>> {
        let is_plain = self.tls.is_none() && matches!(self.place, Place::Tcp(..));
        let is_served = self.kind == Kind::Socks5 && is_plain;
        let associate = || {
            let handshake = self.insist(socks5::Handshake::associate(self.socks5_credentials()));
            if self.gssapi.is_some() { handshake.past_authentication() } else { handshake }
        };
        is_served.then(|| Handshake::Socks5(associate()))
    }

    fn insist<'a>(&self, handshake: socks5::Handshake<'a>) -> socks5::Handshake<'a> {
        if self.insists { handshake.insisting() } else { handshake }
    }

    fn socks4(&self, version: socks4::Version, target: &Target) -> Result<Handshake<'_>, Error> {
        socks4::Handshake::new(version, target, self.socks4_user())
            .map(Handshake::Socks4)
            .map_err(Error::Socks4)
    }

    fn socks4_user(&self) -> socks4::User<'_> {
        self.credentials.as_ref().and_then(Credentials::for_socks4).unwrap_or_default()
    }

    fn socks5_credentials(&self) -> Option<socks5::Credentials<'_>> {
        self.credentials.as_ref().and_then(Credentials::for_socks5)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gssapi = if self.gssapi.is_some() { "+gssapi" } else { "" };
        match (self.kind, &self.tls) {
            (Kind::Http, Some(_)) => f.write_str("https://")?,
            (kind, Some(_)) => write!(f, "{}{gssapi}+tls://", kind.as_str())?,
            (kind, None) if matches!(self.place, Place::Unix(_)) => {
                write!(f, "{}{gssapi}+unix://", kind.as_str())?
            }
            (kind, None) => write!(f, "{}{gssapi}://", kind.as_str())?,
        }
        match &self.place {
            Place::Tcp(Host::Address(IpAddr::V6(address)), port) => write!(f, "[{address}]:{port}"),
            Place::Tcp(Host::Address(IpAddr::V4(address)), port) => write!(f, "{address}:{port}"),
            Place::Tcp(Host::Name(name), port) => write!(f, "{}:{port}", name.escape_default()),
            Place::Unix(path) => write!(f, "{}", path.to_string_lossy().escape_debug()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        Proxy::parse(url).unwrap().to_string()
    }

    #[test]
    fn hosts_of_every_kind_are_read() {
        assert_eq!(shown("socks5://192.0.2.1:9050"), "socks5://192.0.2.1:9050");
        assert_eq!(shown("SOCKS5H://Proxy.Example/"), "socks5://proxy.example:1080");
        assert_eq!(shown("socks5://[2001:db8::1]"), "socks5://[2001:db8::1]:1080");
    }

    #[test]
    fn proxies_of_every_kind_have_their_port_and_their_credentials() {
        assert_eq!(shown("socks4://h"), "socks4://h:1080");
        assert_eq!(shown("SOCKS4A://me@[::1]:9050"), "socks4a://[::1]:9050");
        assert_eq!(shown("http://user:pass@192.0.2.1/"), "http://192.0.2.1:80");
        assert_eq!(shown("http://:@h:3128"), "http://h:3128");
        assert_eq!(shown("socks4://@h"), "socks4://h:1080");
        assert_eq!(shown("https://h"), "https://h:443");
        assert_eq!(shown("http+tls://h:8443"), "https://h:8443");
        assert_eq!(shown("socks5h+tls://u:p@[::1]"), "socks5+tls://[::1]:1080");
        assert_eq!(shown("socks4a+tls://192.0.2.1/?server-name=h"), "socks4a+tls://192.0.2.1:1080");
        assert_eq!(shown("socks5+unix:///run/tor/socks"), "socks5+unix:///run/tor/socks");
        assert_eq!(shown("http+unix://u:p@/run/a%20b"), "http+unix:///run/a b");
        assert_eq!(shown("socks5+gssapi://h"), "socks5+gssapi://h:1080");
        assert_eq!(shown("SOCKS5H+GSSAPI+TLS://h:1?protection=clear"), "socks5+gssapi+tls://h:1");
        assert_eq!(shown("socks5+gssapi+unix:///run/s?service=rcmd/h"), "socks5+gssapi+unix:///run/s");
    }

    #[test]
    fn a_certificate_is_for_the_host_or_for_the_name_that_the_url_says() {
        let tls = |url: &str| Proxy::parse(url).unwrap().tls.unwrap();
        assert_eq!(tls("https://proxy.example").server_name.to_str(), "proxy.example");
        assert_eq!(tls("https://192.0.2.1").server_name.to_str(), "192.0.2.1");
        let chosen = tls("socks5+tls://u:p%3Fq@192.0.2.1?server-name=inner.example&ca-file=/etc/my%20ca.pem");
        assert_eq!(chosen.server_name.to_str(), "inner.example");
        assert_eq!(chosen.ca_file.unwrap().to_str(), Some("/etc/my ca.pem"));
    }

    #[test]
    fn with_gssapi_the_service_is_the_hosts_unless_the_url_says_more() {
        let gssapi =
            |url: &str| Proxy::parse(url).unwrap().gssapi.map(|gssapi| (gssapi.service, gssapi.level));
        let is = |service: &str, level| Some((service.to_owned(), level));
        assert_eq!(gssapi("socks5+gssapi://Proxy.example"), is("rcmd@proxy.example", Level::Confidentiality));
        assert_eq!(
            gssapi("socks5+gssapi://[::1]?service=socks&protection=integrity"),
            is("socks@::1", Level::Integrity)
        );
        assert_eq!(
            gssapi("socks5+gssapi://h?service=rcmd/a.b&protection=clear"),
            is("rcmd@a.b", Level::Clear)
        );
        assert_eq!(gssapi("socks5://h"), None);
    }

    #[test]
    fn paths_are_resolved_where_they_stand_in_a_url() {
        let below = |path: &Path| Ok(Path::new("/a b").join(path));
        for (url, resolved) in [
            (
                "https://u:p%3F@h?auth=x&ca-file=c%26a.pem&ca-file=",
                "https://u:p%3F@h?auth=x&ca-file=/a%20b/c%26a.pem&ca-file=",
            ),
            ("https://h/?ca-file=/etc/ca.pem", "https://h/?ca-file=/etc/ca.pem"),
            ("https://h?ca-file=a@b", "https://h?ca-file=a@b"),
            ("tor", "tor"),
            ("?ca-file=x://é", "?ca-file=x://é"),
        ] {
            assert_eq!(Proxy::with_paths(url, below).as_deref(), Ok(resolved), "{url}");
        }
    }

    #[test]
    fn a_proxy_is_asked_for_another_by_its_name() {
        let target = |url: &str| Proxy::parse(url).unwrap().as_target().map(|target| target.to_string());
        assert_eq!(target("https://Proxy.example").as_deref(), Some("proxy.example:443"));
        assert_eq!(target("socks5://[::1]:9").as_deref(), Some("[::1]:9"));
        assert_eq!(target("socks5+unix:///run/tor/socks"), None);
    }

    #[test]
    fn each_kind_asks_for_what_it_can_carry() {
        use presocks_proto::{name::Name, target};
        let port = 80;
        let name = Target { host: target::Host::Name(Name::new(b"a.example").unwrap()), port };
        let v4 = Target { host: target::Host::Address([192, 0, 2, 7].into()), port };
        let v6 = Target { host: target::Host::Address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into()), port };
        for (url, carries, has_datagrams) in [
            ("socks5://h", [true, true, true], true),
            ("socks4://h", [false, true, false], false),
            ("socks4a://h", [true, true, false], false),
            ("http://h", [true, true, true], false),
            ("socks5+tls://h", [true, true, true], false),
            ("socks5+unix:///h", [true, true, true], false),
            ("socks5+gssapi://h", [true, true, true], true),
        ] {
            let proxy = Proxy::parse(url).unwrap();
            assert_eq!([name, v4, v6].map(|target| proxy.handshake(target, None).is_ok()), carries, "{url}");
            assert_eq!(proxy.association().is_some(), has_datagrams, "{url}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy = Proxy::parse("socks5://us%40er:p%3Aa%2Fs%25s:@h:1").unwrap();
        let credentials = proxy.credentials.as_ref().unwrap();
        assert_eq!((&credentials.user[..], &credentials.password[..]), (&b"us@er"[..], &b"p:a/s%s:"[..]));
        assert_eq!(format!("{proxy} {proxy:?}"), "socks5://h:1 Proxy(socks5://h:1)");
    }

    #[test]
    fn the_last_at_sign_ends_the_credentials() {
        let proxy = Proxy::parse("socks5://user:p@ss@h").unwrap();
        assert_eq!(&proxy.credentials.unwrap().password[..], b"p@ss");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, word) in [
            ("h:1080", "scheme"),
            ("ftp://u:secret@h", "http are"),
            ("socks4://u:secret@h", "no passwords"),
            ("socks4a://:secret@h", "no passwords"),
            ("socks4://u%00secret@h", "none of them 0"),
            ("http://u%3Asecret:secret@h", "no colon"),
            ("socks5://", "host"),
            ("socks5://u:secret@", "host"),
            ("socks5://u:sec%ret@h", "%25"),
            ("socks5://:secret@h", "1 to 255"),
            ("socks5://u:secret@h:0", "port"),
            ("socks5://h:65536", "port"),
            ("socks5://h:+80", "port"),
            ("socks5://h:", "port"),
            ("socks5://::1:1080", "brackets"),
            ("socks5://[::1", "]"),
            ("socks5://[h]:1", "IPv6"),
            ("socks5://h/path", "a port"),
            ("http://h:3128/@u:secret@evil", "%40"),
            ("http://u:sec/ret@h", "%2F"),
            ("http://h#u:secret@evil", "%23"),
            ("https://h?ca-file=/home/me@corp.pem", "%40"),
            ("socks5://u:sec?ret@h", "%3F"),
            ("socks5+unix://host/run", "whole path"),
            ("socks5+ssl://u:secret@h", "+tls"),
            ("https+tls://h", "+tls"),
            ("socks5+unix://u:secret@run", "whole path"),
            ("socks5+unix:///%00", "none of them 0"),
            ("socks5://u:secret@h?auth=no", "required"),
            ("socks5://h?auth=required", "USER:PASSWORD"),
            ("http://u:secret@h?auth=required", "for SOCKS5"),
            ("socks5://h?server-name=x", "TLS"),
            ("socks5+unix:///x?ca-file=/y", "TLS"),
            ("https://h?server-name=", "no value"),
            ("https://h?server-name=a%20b", "DNS name"),
            ("https://u:secret@h?secure", "unknown"),
            ("socks5+gssapi://u:secret@h", "ticket"),
            ("http+gssapi://h", "scheme"),
            ("socks5+tls+gssapi://h", "scheme"),
            ("socks5://h?service=rcmd", "for GSSAPI"),
            ("socks5://h?protection=clear", "for GSSAPI"),
            ("socks5+gssapi://h?protection=none", "confidentiality"),
            ("socks5+gssapi://h?service=", "NAME/HOST"),
            ("socks5+gssapi://h?service=rcmd/", "NAME/HOST"),
            ("socks5+gssapi+unix:///s", "HOST"),
            ("socks5://h h", "host"),
        ] {
            let error = Proxy::parse(url).expect_err(url);
            assert!(error.contains(word), "{url}: {error}");
            assert!(!error.contains("secret") && !error.contains("sec%"), "{url}: {error}");
        }
    }
}

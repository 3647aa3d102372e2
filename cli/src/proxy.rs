//! A proxy's URL: `KIND://[USER[:PASSWORD]@]HOST[:PORT]`.
//!
//! USER and PASSWORD are percent-decoded (RFC 3986 section 2.1); HOST is a name, an IPv4 address or an IPv6 address in brackets. A
//! [`Proxy`] shows itself without its credentials, everywhere and always.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use presocks_proto::handshake::{Error, Handshake};
use presocks_proto::target::Target;
use presocks_proto::{http, socks4, socks5};
use zeroize::Zeroizing;

/// A proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    kind: Kind,
    host: Host,
    port: u16,
    credentials: Option<Credentials>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Socks5,
    Socks4,
    Socks4a,
    Http,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

/// As the kind has them: [`Proxy::parse`] sees to it.
#[derive(Clone)]
struct Credentials {
    user: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

impl Kind {
    fn parse(scheme: &str) -> Option<Self> {
        match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => Some(Self::Socks5),
            "socks4" => Some(Self::Socks4),
            "socks4a" => Some(Self::Socks4a),
            "http" => Some(Self::Http),
            _ => None,
        }
    }

    /// The port of a URL that names none (RFC 1928 section 3; RFC 9110 section 4.2.1).
    fn default_port(self) -> u16 {
        match self {
            Self::Socks5 | Self::Socks4 | Self::Socks4a => 1080,
            Self::Http => 80,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socks5 => "socks5",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Http => "http",
        })
    }
}

impl Proxy {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead, without any part of its credentials.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme; write socks5://HOST:PORT")?;
        let kind = Kind::parse(scheme).ok_or_else(|| {
            let scheme = scheme.escape_default();
            format!("the scheme \"{scheme}\" is not supported; socks5, socks5h, socks4, socks4a and http are")
        })?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(Credentials::parse(kind, credentials)?), authority),
            None => (None, rest),
        };
        let (host, port) = host_and_port(authority, kind.default_port())?;
        Ok(Self { kind, host, port, credentials })
    }

    /// What it speaks.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Name or address.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// TCP port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Does it let us in without more?
    pub(crate) fn is_open(&self) -> bool {
        self.credentials.is_none()
    }

    /// A request to connect to `target`.
    ///
    /// # Errors
    /// Its protocol has no way to ask for this target.
    pub(crate) fn handshake(&self, target: Target) -> Result<Handshake<'_>, Error> {
        match self.kind {
            Kind::Socks5 => Ok(Handshake::Socks5(socks5::Handshake::new(target, self.socks5_credentials()))),
            Kind::Socks4 => self.socks4(socks4::Version::V4, &target),
            Kind::Socks4a => self.socks4(socks4::Version::V4a, &target),
            Kind::Http => {
                let credentials = self.credentials.as_ref().and_then(Credentials::for_http);
                http::Handshake::new(&target, credentials).map(Handshake::Http).map_err(Error::Http)
            }
        }
    }

    /// A request for an association; `None` when its protocol carries no datagrams.
    pub(crate) fn association(&self) -> Option<Handshake<'_>> {
        let is_served = self.kind == Kind::Socks5;
        is_served.then(|| Handshake::Socks5(socks5::Handshake::associate(self.socks5_credentials())))
    }

    fn socks4(&self, version: socks4::Version, target: &Target) -> Result<Handshake<'_>, Error> {
        let user = self.credentials.as_ref().and_then(Credentials::for_socks4).unwrap_or_default();
        socks4::Handshake::new(version, target, user).map(Handshake::Socks4).map_err(Error::Socks4)
    }

    fn socks5_credentials(&self) -> Option<socks5::Credentials<'_>> {
        self.credentials.as_ref().and_then(Credentials::for_socks5)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, port, .. } = self;
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "{kind}://[{address}]:{port}"),
            Host::Address(IpAddr::V4(address)) => write!(f, "{kind}://{address}:{port}"),
            Host::Name(name) => write!(f, "{kind}://{}:{port}", name.escape_default()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Credentials {
    fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let credentials = Self { user: decode(user)?, password: decode(password)? };
        let (fits, rule) = match kind {
            Kind::Socks5 => (
                credentials.for_socks5().is_some(),
                "user and password must have 1 to 255 and 0 to 255 bytes (RFC 1929)",
            ),
            Kind::Socks4 | Kind::Socks4a if text.contains(':') => {
                (false, "SOCKS4 has no passwords; write the user alone, as socks4a://USER@HOST:PORT")
            }
            Kind::Socks4 | Kind::Socks4a => (
                credentials.for_socks4().is_some(),
                "the user must have at most 255 bytes, and none of them 0 (SOCKS4)",
            ),
            Kind::Http => (
                credentials.for_http().is_some(),
                "user and password must have at most 255 bytes each, and the user no colon (RFC 7617)",
            ),
        };
        if fits { Ok(credentials) } else { Err(rule.into()) }
    }

    fn for_socks5(&self) -> Option<socks5::Credentials<'_>> {
        socks5::Credentials::new(&self.user, &self.password)
    }

    fn for_socks4(&self) -> Option<socks4::User<'_>> {
        socks4::User::new(&self.user)
    }

    fn for_http(&self) -> Option<http::Credentials<'_>> {
        http::Credentials::new(&self.user, &self.password)
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_escape) {
        return Err("a % in user or password must be written as %25".into());
    }
    Ok(Zeroizing::new(percent_decode_str(text).collect()))
}

fn host_and_port(authority: &str, default_port: u16) -> Result<(Host, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("an IPv6 address must end with \"]\"")?;
            let address = address.parse().map_err(|_| "between the brackets must be an IPv6 address")?;
            (Host::Address(IpAddr::V6(address)), port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (Host::parse(host)?, port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        None => return Err("after the host may only come a colon and a port".into()),
        Some(port) if port.contains(':') => {
            return Err("an IPv6 address must stand in brackets: [::1]:1080".into());
        }
        Some(port) => match port.parse::<u16>() {
            Ok(number @ 1..) if !port.starts_with('+') => number,
            _ => return Err("the port must be a number from 1 to 65535".into()),
        },
    };
    Ok((host, port))
}

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if text.is_empty() || text.len() > 253 || !text.bytes().all(is_name) {
            return Err("the host must be a name, an IPv4 address, or an IPv6 address in brackets".into());
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
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
        ] {
            let proxy = Proxy::parse(url).unwrap();
            assert_eq!([name, v4, v6].map(|target| proxy.handshake(target).is_ok()), carries, "{url}");
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
            ("https://u:secret@h", "http are"),
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
            ("socks5://h/path", "host"),
            ("socks5://h h", "host"),
        ] {
            let error = Proxy::parse(url).expect_err(url);
            assert!(error.contains(word), "{url}: {error}");
            assert!(!error.contains("secret") && !error.contains("sec%"), "{url}: {error}");
        }
    }
}

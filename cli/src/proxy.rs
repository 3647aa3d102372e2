//! A proxy's URL: `socks5://[USER[:PASSWORD]@]HOST[:PORT]`.
//!
//! USER and PASSWORD are percent-decoded (RFC 3986 section 2.1); HOST is a name, an IPv4 address or an IPv6 address in brackets. A
//! [`Proxy`] shows itself without its credentials, everywhere and always.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use presocks_proto::socks5;
use zeroize::Zeroizing;

/// The port of a SOCKS proxy whose URL names none (RFC 1928 section 3).
const DEFAULT_PORT: u16 = 1080;

/// A SOCKS5 proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    host: Host,
    port: u16,
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

#[derive(Clone)]
struct Credentials {
    user: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

impl Proxy {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead, without any part of its credentials.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme; write socks5://HOST:PORT")?;
        if !matches!(scheme.to_ascii_lowercase().as_str(), "socks5" | "socks5h") {
            let scheme = scheme.escape_default();
            return Err(format!("the scheme \"{scheme}\" is not supported; socks5 and socks5h are"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(Credentials::parse(credentials)?), authority),
            None => (None, rest),
        };
        let (host, port) = host_and_port(authority)?;
        Ok(Self { host, port, credentials })
    }

    /// Name or address.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// TCP port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// User and password for RFC 1929.
    pub(crate) fn credentials(&self) -> Option<socks5::Credentials<'_>> {
        let credentials = self.credentials.as_ref()?;
        socks5::Credentials::new(&credentials.user, &credentials.password)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "socks5://[{address}]:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(f, "socks5://{address}:{}", self.port),
            Host::Name(name) => write!(f, "socks5://{}:{}", name.escape_default(), self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Credentials {
    fn parse(text: &str) -> Result<Self, String> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let credentials = Self { user: decode(user)?, password: decode(password)? };
        if socks5::Credentials::new(&credentials.user, &credentials.password).is_none() {
            return Err("user and password must have 1 to 255 and 0 to 255 bytes (RFC 1929)".into());
        }
        Ok(credentials)
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_escape) {
        return Err("a % in user or password must be written as %25".into());
    }
    Ok(Zeroizing::new(percent_decode_str(text).collect()))
}

fn host_and_port(authority: &str) -> Result<(Host, u16), String> {
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
        None if port.is_empty() => DEFAULT_PORT,
        None => return Err("after the host may only come a colon and a port".into()),
        Some(port) if port.contains(':') => {
            return Err("an IPv6 address must stand in brackets: socks5://[::1]:1080".into());
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
            ("http://u:secret@h", "http"),
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

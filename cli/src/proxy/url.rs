//! Reading a proxy's URL.
//!
//! `SCHEME://[USER[:PASSWORD]@]HOST[:PORT][?OPTION=VALUE&…]`, or `SCHEME+unix://[USER[:PASSWORD]@]/PATH[?…]`. USER, PASSWORD, PATH and
//! a file's VALUE are percent-decoded (RFC 3986 section 2.1), so what has a meaning in a URL is written so in them; HOST is a name, an IPv4 address or an IPv6 address in brackets. No error has any part
//! of the credentials in it.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustls_pki_types::ServerName;

use super::credentials::Credentials;
use super::gssapi;
use super::{Host, Kind, Place, Proxy, Tls};

const SCHEMES: &str = "socks5, socks5h, socks, socks5+gssapi, socks4, socks4a and http are, each also as with +tls or +unix, and https";

const ESCAPES: &str =
    "a /, ?, # or @ in user, password, path or option must be written as %2F, %3F, %23 or %40";

/// What is percent-encoded in a path: all but RFC 3986's unreserved characters and the slash.
const NOT_OF_A_PATH: AsciiSet =
    NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the connection to the proxy is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Tcp,
    Tls,
    Unix,
}

/// Reads a URL.
///
/// # Errors
/// What is wrong with it and what to write instead.
pub(super) fn parse(url: &str) -> Result<Proxy, String> {
    let (scheme, rest) = url.split_once("://").ok_or("it has no scheme; write socks5://HOST:PORT")?;
    let Scheme { kind, carrier, has_gssapi } = Scheme::read(scheme).ok_or_else(|| {
        let scheme = scheme.escape_default();
        format!("the scheme \"{scheme}\" is not supported; {SCHEMES}")
    })?;
    // RFC 3986 section 3.2: the authority ends with the first slash, whatever stands behind it. Nobody else's at sign makes another host of it.
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if rest.contains(['#', '@']) {
        return Err(ESCAPES.into());
    }
    let (credentials, host) = match authority.rsplit_once('@') {
        Some(_) if has_gssapi => {
            return Err("GSSAPI takes the user's Kerberos ticket: leave user and password away".into());
        }
        Some((credentials, host)) => (Some(Credentials::parse(kind, credentials)?), host),
        None => (None, authority),
    };
    let (path, options) = match rest.split_once('?') {
        Some((path, options)) => (path, Options::parse(options)?),
        None => (rest, Options::default()),
    };
    let place = if carrier == Carrier::Unix {
        if !host.is_empty() {
            return Err("a Unix socket is named by its whole path, as socks5+unix:///run/tor/socks".into());
        }
        Place::Unix(socket_path(path)?)
    } else if path.len() > 1 {
        return Err("behind the host may only come a colon and a port".into());
    } else {
        let (host, port) = host_and_port(host, || default_port(kind, carrier == Carrier::Tls))?;
        Place::Tcp(host, port)
    };
    let tls = options.tls(carrier, &place)?;
    if options.insists && !has_gssapi && (kind != Kind::Socks5 || credentials.is_none()) {
        return Err(
            "auth=required is for SOCKS5 with a user and password: socks5://USER:PASSWORD@HOST?auth=required"
                .into(),
        );
    }
    if !has_gssapi && options.gssapi.are_there() {
        return Err("service and protection are for GSSAPI: socks5+gssapi://".into());
    }
    let insists = options.insists;
    let gssapi = if has_gssapi { Some(options.gssapi.gssapi(&place)?) } else { None };
    Ok(Proxy { kind, place, tls, gssapi, credentials, insists })
}

/// A URL with what `resolve` makes of each path among its options; as it was where there is nothing to split.
///
/// # Errors
/// Those of `resolve`.
pub(super) fn with_paths(
    url: &str,
    resolve: impl Fn(&Path) -> Result<PathBuf, String>,
) -> Result<String, String> {
    let authority = url.find("://").map_or(0, |at| at + "://".len());
    let end = url.get(authority..).and_then(|rest| rest.find(['/', '?', '#'])).map(|at| authority + at);
    let (front, back) = url.split_at(end.unwrap_or(url.len()));
    let Some((path, options)) = back.split_once('?').filter(|_| !back.contains(['#', '@'])) else {
        return Ok(url.to_owned());
    };
    let resolved = |option: &str| match option.strip_prefix("ca-file=").filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = resolve(&decoded_path(path))?;
            Ok(format!("ca-file={}", percent_encode(path.as_os_str().as_encoded_bytes(), &NOT_OF_A_PATH)))
        }
        None => Ok(option.to_owned()),
    };
    let options = options.split('&').map(resolved).collect::<Result<Vec<_>, String>>()?;
    Ok(format!("{front}{path}?{}", options.join("&")))
}

/// What stands before the colon.
struct Scheme {
    kind: Kind,
    carrier: Carrier,
    has_gssapi: bool,
}

impl Scheme {
    fn read(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "https" {
            return Some(Self { kind: Kind::Http, carrier: Carrier::Tls, has_gssapi: false });
        }
        let mut words = text.split('+').peekable();
        let kind = match words.next()? {
            // GNOME's word for a server of any version, which it tries as SOCKS5 first.
            "socks5" | "socks5h" | "socks" => Kind::Socks5,
            "socks4" => Kind::Socks4,
            "socks4a" => Kind::Socks4a,
            "http" => Kind::Http,
            _ => return None,
        };
        let has_gssapi = kind == Kind::Socks5 && words.next_if_eq(&"gssapi").is_some();
        let carrier = match (words.next(), words.next()) {
            (None, None) => Carrier::Tcp,
            (Some("tls"), None) => Carrier::Tls,
            (Some("unix"), None) => Carrier::Unix,
            _ => return None,
        };
        Some(Self { kind, carrier, has_gssapi })
    }
}

/// The port of a URL that names none (RFC 1928 section 3; RFC 9110 section 4.2).
fn default_port(kind: Kind, has_tls: bool) -> u16 {
    match kind {
        Kind::Socks5 | Kind::Socks4 | Kind::Socks4a => 1080,
        Kind::Http if has_tls => 443,
        Kind::Http => 80,
    }
}

/// What stands behind the question mark.
#[derive(Default)]
struct Options {
    insists: bool,
    server_name: Option<String>,
    ca_file: Option<PathBuf>,
    gssapi: gssapi::Options,
}

impl Options {
    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in text.split('&') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match (name, value) {
                ("auth", "required") => options.insists = true,
                ("auth", _) => return Err("the only value of auth is required".into()),
                ("server-name" | "ca-file", "") => return Err(format!("{name} has no value")),
                ("server-name", name) => options.server_name = Some(name.to_owned()),
                ("ca-file", path) => options.ca_file = Some(decoded_path(path)),
                _ if options.gssapi.take(name, value)? => {}
                _ => {
                    let name = name.escape_default();
                    return Err(format!(
                        "the option \"{name}\" is unknown; auth, server-name, ca-file, service and protection are"
                    ));
                }
            }
        }
        Ok(options)
    }

    fn tls(&self, carrier: Carrier, place: &Place) -> Result<Option<Tls>, String> {
        let Place::Tcp(host, _) = place else { return self.no_tls() };
        if carrier != Carrier::Tls {
            return self.no_tls();
        }
        let server_name = match (&self.server_name, host) {
            (Some(name), _) | (None, Host::Name(name)) => ServerName::try_from(name.clone())
                .map_err(|_| "the server's name for TLS must be a DNS name or an address")?,
            (None, Host::Address(address)) => ServerName::from(*address),
        };
        Ok(Some(Tls::new(server_name, self.ca_file.clone())))
    }

    fn no_tls(&self) -> Result<Option<Tls>, String> {
        if self.server_name.is_some() || self.ca_file.is_some() {
            return Err("server-name and ca-file are for TLS: https://, socks5+tls:// and their like".into());
        }
        Ok(None)
    }
}

fn decoded_path(text: &str) -> PathBuf {
    OsString::from_vec(percent_decode_str(text).collect()).into()
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    /// Of `sockaddr_un` (unix(7)), with its final 0.
    const MOST: usize = 108;
    let path = decoded_path(text);
    if !path.is_absolute() {
        return Err("a Unix socket is named by its whole path, as socks5+unix:///run/tor/socks".into());
    }
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= MOST || bytes.contains(&0) {
        return Err(format!(
            "the path of a Unix socket must have less than {MOST} bytes, none of them 0 (unix(7))"
        ));
    }
    Ok(path)
}

fn host_and_port(authority: &str, default_port: impl Fn() -> u16) -> Result<(Host, u16), String> {
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
        None if port.is_empty() => default_port(),
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

//! The program that the demo runs where there is no curl: one blocking GET with the standard library, no more.
//!
//! It knows nothing of proxies, stand-ins or presocks: it looks a name up, connects and reads, as any program would, and
//! says at the end which address it was connected to. It is no HTTP client for anything else.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::CONNECTED_TO;

/// How long the origin may be silent.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest response.
const MAX_RESPONSE: u64 = 1 << 20;

/// Prints the page at `url`, and then the address that it came from.
///
/// # Errors
/// One sentence.
pub(crate) fn run(url: &str) -> Result<(), String> {
    let url = Url::parse(url).ok_or_else(|| format!("{url:?} is not http://HOST[:PORT]/PATH"))?;
    let failed = |error: io::Error| format!("{}: {error}", url.host);
    let mut stream = TcpStream::connect((url.host, url.port)).map_err(failed)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    let peer = stream.peer_addr().map_err(failed)?.ip();
    write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.path, url.authority)
        .map_err(failed)?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).map_err(failed)?;
    let page = page(&response).ok_or_else(|| format!("{}: not a response with a page", url.host))?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(page)
        .and_then(|()| writeln!(stdout, "{CONNECTED_TO}{peer}"))
        .map_err(|error| format!("cannot write to stdout: {error}"))
}

/// As much of a URL as a plain GET needs.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    authority: &'a str,
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl<'a> Url<'a> {
    /// `None` for anything but `http://host[:port][/path]`; no user, no IPv6 literal, nothing that would break a line.
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        if rest.contains(|c: char| c.is_control() || c == ' ' || c == '@' || c == '[') {
            return None;
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, 80),
        };
        (!host.is_empty()).then_some(Self { authority, host, port, path })
    }
}

/// The body of a response that is a success and came whole, as far as its head tells.
fn page(response: &[u8]) -> Option<&[u8]> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let at = response.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
    let (head, body) = response.split_at_checked(at + END_OF_HEAD.len())?;
    let head = str::from_utf8(head).ok()?;
    let status = head.split(' ').nth(1)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())
    });
    let whole = match length {
        Some(length) => length == Some(body.len()),
        None => true,
    };
    (head.starts_with("HTTP/1.") && status == "200" && whole).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("http://a.test/b/c").unwrap();
        assert_eq!((url.host, url.port, url.path), ("a.test", 80, "/b/c"));
        let url = Url::parse("http://a.test:8080").unwrap();
        assert_eq!((url.authority, url.host, url.port, url.path), ("a.test:8080", "a.test", 8080, "/"));
        for bad in [
            "https://a.test/",
            "a.test",
            "http://",
            "http:///x",
            "http://u@a.test/",
            "http://[::1]/",
            "http://a.test:x/",
            "http://a.test/\r\nX: y",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_page_is_taken_only_from_a_whole_success() {
        assert_eq!(page(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), Some(&b"hi"[..]));
        assert_eq!(page(b"HTTP/1.0 200 OK\r\n\r\nhi"), Some(&b"hi"[..]));
        for bad in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhi",
            b"HTTP/1.1 404 Not Found\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"",
        ] {
            assert_eq!(page(bad), None, "{}", bad.escape_ascii());
        }
    }
}

//! What ended a handshake, in each of the protocols: errno, cause, sentence.

use std::fmt;

use presocks_proto::handshake::Error;
use presocks_proto::{http, socks4, socks5};

use crate::proxy::Kind;

/// The errno for the program.
pub(super) fn errno(error: &Error) -> i32 {
    match error {
        Error::Socks5(error) => socks5_errno(error),
        Error::Socks4(error) => socks4_errno(error),
        Error::Http(error) => http_errno(error),
    }
}

/// Is it what the proxy answers, in its protocol, or cannot be asked?
pub(super) fn is_an_answer(error: &Error) -> bool {
    match error {
        Error::Socks5(error) => matches!(
            error,
            socks5::Error::Refused(_)
                | socks5::Error::NoAcceptableMethod
                | socks5::Error::AuthenticationRejected(_)
        ),
        Error::Socks4(error) => !matches!(error, socks4::Error::NotSocks4(_)),
        Error::Http(error) => matches!(error, http::Error::Refused(_) | http::Error::NameNotCarried),
    }
}

/// Is it that the proxy does not reach its target, or cannot be asked for it, rather than that it does not let us in?
pub(super) fn is_about_the_target(error: &Error) -> bool {
    match error {
        Error::Socks5(error) => matches!(error, socks5::Error::Refused(_)),
        Error::Socks4(error) => match error {
            // What 92 and 93 say is about us.
            socks4::Error::Refused(code) => !matches!(code.0, 92 | 93),
            error => !matches!(error, socks4::Error::NotSocks4(_)),
        },
        Error::Http(error) => match error {
            http::Error::Refused(line) => !matches!(line.status(), 401 | 403 | 407),
            error => matches!(error, http::Error::NameNotCarried),
        },
    }
}

/// RFC 1928 section 6 as errno(3) has it.
fn socks5_errno(error: &socks5::Error) -> i32 {
    match error {
        socks5::Error::Refused(code) => match code.0 {
            2 | 0xf4 | 0xf5 => libc::EACCES,
            4 | 0xf0..=0xf3 | 0xf6 => libc::EHOSTUNREACH,
            5 | 7 => libc::ECONNREFUSED,
            6 | 0xf7 => libc::ETIMEDOUT,
            // 1, 3, 8, and codes that the RFC does not assign.
            _ => libc::ENETUNREACH,
        },
        socks5::Error::NoAcceptableMethod | socks5::Error::AuthenticationRejected(_) => libc::EACCES,
        socks5::Error::NotSocks5(_)
        | socks5::Error::UnofferedMethod(_)
        | socks5::Error::BadAddressType(_) => libc::ENETUNREACH,
    }
}

/// 91 is all that a server has to say of any failure; that nobody listens there is the commonest.
fn socks4_errno(error: &socks4::Error) -> i32 {
    match error {
        socks4::Error::Refused(code) => match code.0 {
            91 => libc::ECONNREFUSED,
            92 | 93 => libc::EACCES,
            _ => libc::ENETUNREACH,
        },
        socks4::Error::NameNotCarried => libc::EHOSTUNREACH,
        socks4::Error::Ipv6NotCarried | socks4::Error::AddressNotCarried | socks4::Error::NotSocks4(_) => {
            libc::ENETUNREACH
        }
    }
}

/// RFC 9110 section 15 as errno(3) has it.
fn http_errno(error: &http::Error) -> i32 {
    match error {
        http::Error::Refused(line) => match line.status() {
            401 | 403 | 407 | 451 => libc::EACCES,
            404 | 502 => libc::EHOSTUNREACH,
            405 | 501 => libc::ECONNREFUSED,
            408 | 504 => libc::ETIMEDOUT,
            _ => libc::ENETUNREACH,
        },
        http::Error::NameNotCarried => libc::EHOSTUNREACH,
        http::Error::NotHttp(_) | http::Error::TooLong => libc::ENETUNREACH,
    }
}

/// As `Failure::cause`: 5 to 8, or from 0x1000 on. One proxy has one protocol, so they may share the small ones.
pub(super) fn cause(error: &Error) -> u32 {
    match error {
        Error::Socks5(socks5::Error::NotSocks5(_))
        | Error::Socks4(socks4::Error::NotSocks4(_))
        | Error::Http(http::Error::NotHttp(_)) => 5,
        Error::Socks5(socks5::Error::NoAcceptableMethod | socks5::Error::UnofferedMethod(_))
        | Error::Socks4(socks4::Error::NameNotCarried)
        | Error::Http(http::Error::NameNotCarried) => 6,
        Error::Socks5(socks5::Error::AuthenticationRejected(_))
        | Error::Socks4(socks4::Error::Ipv6NotCarried)
        | Error::Http(http::Error::TooLong) => 7,
        Error::Socks5(socks5::Error::BadAddressType(_)) | Error::Socks4(socks4::Error::AddressNotCarried) => {
            8
        }
        Error::Socks5(socks5::Error::Refused(code)) => 0x1000 + u32::from(code.0),
        Error::Socks4(socks4::Error::Refused(code)) => 0x1000 + u32::from(code.0),
        Error::Http(http::Error::Refused(line)) => 0x1000 + u32::from(line.status()),
    }
}

/// What a proxy may be instead that has nothing to say to this protocol.
pub(super) fn doubt(spoken: Kind) -> &'static str {
    match spoken {
        Kind::Socks5 => "is it an HTTP proxy (http://), or one over TLS (socks5+tls://, https://)?",
        Kind::Socks4 | Kind::Socks4a => {
            "is it a SOCKS5 proxy (socks5://), or an HTTP one (http://)? SOCKS4 has no other way to refuse a user, either"
        }
        Kind::Http => "is it a SOCKS proxy (socks5://), or one over TLS (https://)?",
    }
}

/// What answers so, by its first byte, when it is none of what was spoken.
struct Guess(Option<u8>);

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(b'H') => "; so does an HTTP proxy (http://)",
            Some(5) => "; so does a SOCKS5 proxy (socks5://)",
            // The first byte of SOCKS4's replies is 0; some servers send their version.
            Some(0 | 4) => "; so does a SOCKS4 proxy (socks4a://)",
            Some(0x15 | 0x16) => "; so does a server that wants TLS (https://, socks5+tls://)",
            Some(b'S') => "; so does an SSH server (ssh -D makes a SOCKS proxy of it)",
            _ => return Ok(()),
        })
    }
}

/// The sentence.
pub(super) fn write(f: &mut fmt::Formatter<'_>, error: &Error) -> fmt::Result {
    match error {
        Error::Socks5(error) => write_socks5(f, error),
        Error::Socks4(error) => write_socks4(f, error),
        Error::Http(error) => write_http(f, error),
    }
}

fn write_socks5(f: &mut fmt::Formatter<'_>, error: &socks5::Error) -> fmt::Result {
    match error {
        socks5::Error::NotSocks5(byte) => {
            let guess = Guess(Some(*byte));
            write!(f, "the proxy does not speak SOCKS5: its answer begins with byte {byte:#04x}{guess}")
        }
        socks5::Error::NoAcceptableMethod => f.write_str(
            "the proxy accepts none of our authentication methods; does it want a user and password?",
        ),
        socks5::Error::UnofferedMethod(method) => {
            write!(f, "the proxy chose authentication method {method:#04x}, which was not offered")
        }
        socks5::Error::AuthenticationRejected(status) => {
            write!(f, "the proxy rejected the user name or password (status {status})")
        }
        socks5::Error::Refused(code) => write!(f, "the proxy answered: {code}"),
        socks5::Error::BadAddressType(kind) => {
            write!(f, "the proxy's reply has an unknown address type {kind:#04x}")
        }
    }
}

fn write_socks4(f: &mut fmt::Formatter<'_>, error: &socks4::Error) -> fmt::Result {
    match error {
        socks4::Error::NameNotCarried => {
            f.write_str("SOCKS4 carries no names; if the proxy speaks SOCKS4a, write socks4a://")
        }
        socks4::Error::Ipv6NotCarried => f.write_str("SOCKS4 and SOCKS4a carry no IPv6 addresses"),
        socks4::Error::AddressNotCarried => {
            f.write_str("SOCKS4 and SOCKS4a carry no addresses of 0.0.0.0/24")
        }
        socks4::Error::NotSocks4(byte) => {
            let guess = Guess(Some(*byte));
            write!(f, "the proxy does not speak SOCKS4: its answer begins with byte {byte:#04x}{guess}")
        }
        socks4::Error::Refused(code) => write!(f, "the proxy answered: {code}"),
    }
}

fn write_authentication(f: &mut fmt::Formatter<'_>, line: &http::StatusLine) -> fmt::Result {
    const OWN: &str = "Basic";
    let has_ours = line.methods().any(|method| method == OWN);
    let methods = line.methods().collect::<Vec<_>>().join(", ");
    match methods.as_str() {
        "" => write!(f, "the proxy wants a user and password, or others: {line}"),
        _ if has_ours => write!(
            f,
            "the proxy wants a user and password, or others (http://USER:PASSWORD@HOST): {line}; it offers {methods}"
        ),
        _ => write!(
            f,
            "the proxy offers {methods} as authentication, and presocks has {OWN} (a translator on this machine, such as cntlm or px, has \
             more): {line}"
        ),
    }
}

fn write_http(f: &mut fmt::Formatter<'_>, error: &http::Error) -> fmt::Result {
    match error {
        http::Error::NameNotCarried => f.write_str("HTTP cannot carry this name"),
        http::Error::NotHttp(line) => {
            let guess = Guess(line.first());
            write!(f, "the proxy does not speak HTTP: its answer begins with \"{line}\"{guess}")
        }
        // 401 is an origin's, and yet what some proxies say.
        http::Error::Refused(line) if matches!(line.status(), 401 | 407) => write_authentication(f, line),
        http::Error::Refused(line) => write!(f, "the proxy answered: {line}"),
        http::Error::TooLong => {
            f.write_str("the proxy's answer has no end: its header is longer than 16 KiB")
        }
    }
}

//! Why a connection did not come about: the errno that the program gets, and the sentence that the user reads.
//!
//! docs/errors.md has the same table for users.

use std::fmt;
use std::io;
use std::time::Duration;

use presocks_proto::socks5::{self, Target};

/// A failed attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection to the proxy itself failed.
    ProxyUnreachable(io::Error),
    /// The proxy did not accept the connection in time.
    ProxyTimeout(Duration),
    /// The proxy closed or reset the connection in the middle of the handshake.
    ProxyClosed(Option<io::Error>),
    /// What the proxy said ends the handshake.
    Handshake(socks5::Error),
    /// The proxy did not answer in time.
    AnswerTimeout(Duration),
    /// A stand-in address of another session.
    UnknownStandIn,
    /// What the proxy gives as its UDP relay's address cannot be sent to.
    NoRelay(Option<Box<Target>>),
    /// A direct connection failed as the kernel says.
    Direct(io::Error),
    /// The program's socket cannot be used.
    Socket(io::Error),
}

impl Failure {
    /// The errno for the program.
    pub(super) fn errno(&self) -> i32 {
        match self {
            Self::ProxyUnreachable(_) | Self::ProxyClosed(_) | Self::NoRelay(_) => libc::ENETUNREACH,
            Self::ProxyTimeout(_) | Self::AnswerTimeout(_) => libc::ETIMEDOUT,
            Self::Handshake(error) => handshake_errno(error),
            Self::UnknownStandIn => libc::EHOSTUNREACH,
            Self::Direct(error) | Self::Socket(error) => error.raw_os_error().unwrap_or(libc::ENETUNREACH),
        }
    }

    /// Failures with the same number have the same cause and are told once.
    pub(super) fn cause(&self) -> u32 {
        match self {
            Self::ProxyUnreachable(error) => 0x100 + error.raw_os_error().unwrap_or(0).unsigned_abs(),
            Self::ProxyTimeout(_) => 1,
            Self::ProxyClosed(_) => 2,
            Self::AnswerTimeout(_) => 3,
            Self::UnknownStandIn => 4,
            Self::Handshake(socks5::Error::NotSocks5(_)) => 5,
            Self::Handshake(socks5::Error::NoAcceptableMethod | socks5::Error::UnofferedMethod(_)) => 6,
            Self::Handshake(socks5::Error::AuthenticationRejected(_)) => 7,
            Self::Handshake(socks5::Error::BadAddressType(_)) => 8,
            Self::Handshake(socks5::Error::Refused(code)) => 0x1000 + u32::from(code.0),
            Self::Direct(_) => 9,
            Self::Socket(_) => 10,
            Self::NoRelay(_) => 11,
        }
    }

    /// Might another address of the proxy do better?
    pub(super) fn is_of_one_address(&self) -> bool {
        matches!(self, Self::ProxyUnreachable(_) | Self::ProxyTimeout(_))
    }

    /// Has the proxy refused, in its way?
    pub(super) fn is_of_the_proxy(&self) -> bool {
        matches!(self, Self::Handshake(socks5::Error::Refused(_)) | Self::ProxyClosed(_))
    }

    /// Will another attempt end alike?
    pub(super) fn is_lasting(&self) -> bool {
        use socks5::Error::{AuthenticationRejected, NoAcceptableMethod, NotSocks5, Refused};
        matches!(
            self,
            Self::NoRelay(_)
                | Self::Handshake(NotSocks5(_) | NoAcceptableMethod | AuthenticationRejected(_))
                | Self::Handshake(Refused(socks5::ReplyCode(7)))
        )
    }

    /// Is it for the user to know? What a direct connection or the program's own socket lacks, the program says.
    pub(super) fn is_news(&self) -> bool {
        !matches!(self, Self::Direct(_) | Self::Socket(_))
    }
}

/// RFC 1928 section 6 as errno(3) has it.
fn handshake_errno(error: &socks5::Error) -> i32 {
    match error {
        socks5::Error::Refused(code) => match code.0 {
            2 => libc::EACCES,
            4 => libc::EHOSTUNREACH,
            5 | 7 => libc::ECONNREFUSED,
            6 => libc::ETIMEDOUT,
            // 1, 3, 8, and codes that the RFC does not assign.
            _ => libc::ENETUNREACH,
        },
        socks5::Error::NoAcceptableMethod | socks5::Error::AuthenticationRejected(_) => libc::EACCES,
        socks5::Error::NotSocks5(_)
        | socks5::Error::UnofferedMethod(_)
        | socks5::Error::BadAddressType(_) => libc::ENETUNREACH,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProxyUnreachable(error) => write!(f, "the proxy cannot be reached: {}", Plain(error)),
            Self::ProxyTimeout(limit) => {
                write!(f, "the proxy did not accept the connection within {limit:?}")
            }
            Self::ProxyClosed(None) => f.write_str("the proxy closed the connection during the handshake"),
            Self::ProxyClosed(Some(error)) => {
                write!(f, "the connection to the proxy broke during the handshake: {}", Plain(error))
            }
            Self::Handshake(error) => write_handshake(f, error),
            Self::AnswerTimeout(limit) => write!(f, "the proxy did not answer within {limit:?}"),
            Self::UnknownStandIn => f.write_str(
                "this address stands for a name of another session; look the name up again in this one",
            ),
            Self::NoRelay(None) => f.write_str("the proxy gives no address for its UDP relay"),
            Self::NoRelay(Some(target)) => {
                write!(f, "the proxy gives {target} as its UDP relay, which cannot be sent to")
            }
            Self::Direct(error) | Self::Socket(error) => Plain(error).fmt(f),
        }
    }
}

fn write_handshake(f: &mut fmt::Formatter<'_>, error: &socks5::Error) -> fmt::Result {
    match error {
        socks5::Error::NotSocks5(byte) => {
            write!(f, "the proxy does not speak SOCKS5: its answer begins with byte {byte:#04x}")
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

/// An operating system's error without Rust's "(os error N)".
struct Plain<'a>(&'a io::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let end = text.find(" (os error").unwrap_or(text.len());
        let text = text.get(..end).unwrap_or(&text);
        let mut letters = text.chars();
        match letters.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), letters.as_str()),
            None => f.write_str("unknown error"),
        }
    }
}

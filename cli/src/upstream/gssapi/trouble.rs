//! Why there is no GSSAPI with a proxy: errno, cause, and a sentence that says what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use presocks_proto::socks5;
use presocks_proto::socks5::gssapi::{Level, Malformed};

use crate::gssapi::{Cause, Error};
use crate::proxy::Gssapi;
use crate::upstream::plain::Plain;

/// Why there is no GSSAPI with a proxy.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The library, or Kerberos by it, does not do it.
    Library(Error),
    /// Kerberos takes too long.
    Slow(Duration),
    /// The proxy does not choose GSSAPI.
    Method(socks5::Error),
    /// What has come is none of the messages that it should be.
    Malformed(Malformed),
    /// The proxy says why it does not take our ticket.
    Denied(Error),
    /// A token of the proxy's does not hold.
    Token(Error),
    /// The context can do no more than prove who is who, or not even that.
    NotOffered,
    /// The proxy answers with another level of protection.
    Level { wanted: Level, answered: u8 },
    /// The proxy answers with no level at all.
    NoLevel,
    /// A token of ours is longer than a message can be.
    TooLong,
    /// The proxy has closed the connection…
    Closed,
    /// … when it had heard who we are …
    ClosedOnUs,
    /// … when it had heard which protection is wanted.
    ClosedOnLevel(Level),
    /// The connection has broken.
    Broken(io::Error),
}

/// A trouble with the service that the proxy was taken for.
#[derive(Debug)]
pub(crate) struct Told {
    trouble: Trouble,
    service: String,
}

impl Trouble {
    /// The library says so of what has come from the proxy.
    pub(super) fn by_the_proxy(self) -> Self {
        match self {
            Self::Library(error @ Error::Status { cause: Cause::Token, .. }) => Self::Token(error),
            Self::Library(error @ Error::Status { cause: Cause::Other, .. }) => Self::Denied(error),
            other => other,
        }
    }

    /// With the service that the proxy was taken for.
    pub(super) fn of(self, gssapi: &Gssapi) -> Told {
        Told { trouble: self, service: gssapi.service.clone() }
    }
}

impl Told {
    /// The errno for the program.
    pub(crate) fn errno(&self) -> i32 {
        match &self.trouble {
            Trouble::Slow(_) => libc::ETIMEDOUT,
            Trouble::Library(Error::Status { cause, .. }) if *cause != Cause::NoKdc => libc::EACCES,
            Trouble::Method(socks5::Error::NoAcceptableMethod)
            | Trouble::Malformed(Malformed::Aborted)
            | Trouble::Denied(_)
            | Trouble::ClosedOnUs
            | Trouble::ClosedOnLevel(_)
            | Trouble::Level { .. } => libc::EACCES,
            _ => libc::ENETUNREACH,
        }
    }

    /// Troubles with the same number have the same cause and are told once.
    pub(crate) fn cause(&self) -> u32 {
        match &self.trouble {
            Trouble::Library(Error::Library(_)) => 0,
            Trouble::Library(Error::Status { cause, .. }) => 0x10 + *cause as u32,
            Trouble::Library(Error::OutOfTurn | Error::Unprotected) | Trouble::Token(_) => 1,
            Trouble::Slow(_) => 2,
            Trouble::Method(socks5::Error::NoAcceptableMethod) => 3,
            Trouble::Method(_) => 4,
            Trouble::Malformed(Malformed::Aborted) | Trouble::Denied(_) | Trouble::ClosedOnUs => 5,
            Trouble::Malformed(_) | Trouble::NoLevel => 6,
            Trouble::NotOffered | Trouble::Level { .. } | Trouble::ClosedOnLevel(_) => 7,
            Trouble::TooLong => 8,
            Trouble::Closed | Trouble::Broken(_) => 9,
        }
    }

    /// Is it this machine's or the user's, and not the proxy's?
    pub(crate) fn is_ours(&self) -> bool {
        match &self.trouble {
            Trouble::Library(Error::Status { cause, .. }) => *cause != Cause::Token,
            Trouble::Library(_) | Trouble::Slow(_) | Trouble::NotOffered | Trouble::TooLong => true,
            _ => false,
        }
    }

    /// Is it what the proxy answers, rather than that it is none?
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(
            self.trouble,
            Trouble::Method(socks5::Error::NoAcceptableMethod | socks5::Error::UnofferedMethod(_))
                | Trouble::Malformed(Malformed::Aborted)
                | Trouble::Denied(_)
                | Trouble::Level { .. }
                | Trouble::ClosedOnUs
                | Trouble::ClosedOnLevel(_)
        )
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = &self.service;
        match &self.trouble {
            Trouble::Library(error) => write_library(f, error, service),
            Trouble::Slow(limit) => write!(
                f,
                "Kerberos has no ticket for {service} within {limit:?}; do its servers (KDC) answer?"
            ),
            Trouble::Method(error) => match error {
                socks5::Error::NoAcceptableMethod => f.write_str("the proxy takes no GSSAPI"),
                socks5::Error::NotSocks5(byte) => {
                    write!(f, "the proxy does not speak SOCKS5: its answer begins with byte {byte:#04x}")
                }
                socks5::Error::UnofferedMethod(method) => {
                    write!(
                        f,
                        "the proxy chose authentication method {method:#04x}, and GSSAPI alone was offered"
                    )
                }
                _ => f.write_str("the proxy did not choose GSSAPI"),
            },
            Trouble::Malformed(Malformed::Aborted) => {
                write!(f, "the proxy refused our Kerberos ticket for {service}; its log may say why")
            }
            Trouble::Malformed(Malformed::Version(byte)) => {
                write!(
                    f,
                    "what the proxy answered is no message of GSSAPI's: it begins with byte {byte:#04x}"
                )
            }
            Trouble::Malformed(Malformed::Kind(kind)) => {
                write!(
                    f,
                    "what the proxy answered is another message of GSSAPI's than it should be ({kind:#04x})"
                )
            }
            Trouble::Denied(error) => {
                write!(f, "the proxy refused our Kerberos ticket for {service}: {error}")
            }
            Trouble::Token(error) => write!(f, "a message of the proxy's does not hold: {error}"),
            Trouble::NotOffered => write!(f, "Kerberos offers no such protection with {service}"),
            Trouble::Level { wanted, answered } => write!(
                f,
                "the proxy wants {}, and {} was asked for (protection says what is wanted)",
                word(Level::new(*answered)),
                word(Some(*wanted))
            ),
            Trouble::NoLevel => f.write_str("the proxy does not say how it protects its messages"),
            Trouble::TooLong => f.write_str("the Kerberos ticket is too long for SOCKS5"),
            Trouble::Closed => f.write_str("the proxy closed the connection during the GSSAPI handshake"),
            Trouble::ClosedOnUs => write!(
                f,
                "the proxy closed the connection when it had got our Kerberos ticket for {service}; its log may say why"
            ),
            Trouble::ClosedOnLevel(level) => write!(
                f,
                "the proxy closed the connection when it was asked for {} (protection says what is wanted)",
                word(Some(*level))
            ),
            Trouble::Broken(error) => {
                write!(f, "the connection broke during the GSSAPI handshake: {}", Plain(error))
            }
        }
    }
}

fn write_library(f: &mut fmt::Formatter<'_>, error: &Error, service: &str) -> fmt::Result {
    match error {
        Error::Library(_) => {
            write!(
                f,
                "no library for GSSAPI can be loaded: install libgssapi-krb5-2 (krb5-libs elsewhere) ({error})"
            )
        }
        Error::Status { cause, .. } => match cause {
            Cause::NoTicket => write!(f, "there is no Kerberos ticket: run kinit ({error})"),
            Cause::Expired => write!(f, "the Kerberos ticket has expired: run kinit ({error})"),
            Cause::NoService => {
                write!(f, "Kerberos knows no service {service}; service= says another ({error})")
            }
            Cause::Clocks => write!(f, "this machine's clock and that of Kerberos differ: set it ({error})"),
            Cause::NoKdc => write!(f, "no server of Kerberos (KDC) can be reached: see krb5.conf ({error})"),
            Cause::Token => write!(f, "a message of the proxy's does not hold: {error}"),
            Cause::Other => write!(f, "GSSAPI fails for {service}: {error}"),
        },
        Error::OutOfTurn | Error::Unprotected => write!(f, "a message of the proxy's does not hold: {error}"),
    }
}

fn word(level: Option<Level>) -> &'static str {
    match level {
        Some(Level::Clear) => "no protection",
        Some(Level::Integrity) => "integrity",
        Some(Level::Confidentiality) => "confidentiality",
        None => "another protection",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each.
    fn all() -> Vec<Trouble> {
        let status = |cause| Error::Status { cause, text: "K".into() };
        let causes =
            [Cause::NoTicket, Cause::Expired, Cause::NoService, Cause::Clocks, Cause::NoKdc, Cause::Other];
        let mut all: Vec<_> = causes.into_iter().map(|cause| Trouble::Library(status(cause))).collect();
        all.extend([
            Trouble::Library(Error::Library("the loader's reason".into())),
            Trouble::Slow(Duration::from_secs(20)),
            Trouble::Method(socks5::Error::NoAcceptableMethod),
            Trouble::Method(socks5::Error::UnofferedMethod(0)),
            Trouble::Method(socks5::Error::NotSocks5(0x48)),
            Trouble::Malformed(Malformed::Aborted),
            Trouble::Malformed(Malformed::Version(0x48)),
            Trouble::Malformed(Malformed::Kind(2)),
            Trouble::Denied(status(Cause::Other)),
            Trouble::Token(status(Cause::Token)),
            Trouble::NotOffered,
            Trouble::Level { wanted: Level::Confidentiality, answered: 1 },
            Trouble::NoLevel,
            Trouble::TooLong,
            Trouble::Closed,
            Trouble::ClosedOnUs,
            Trouble::ClosedOnLevel(Level::Confidentiality),
            Trouble::Broken(io::Error::other("the system's reason")),
        ]);
        all
    }

    #[test]
    fn every_sentence_and_its_errno_stand_in_the_documentation() {
        let document = include_str!("../../../../docs/errors.md");
        for trouble in all() {
            let told = Told { trouble, service: "SERVICE".into() };
            let sentence = told.to_string();
            let line = document.lines().find(|line| line.replace('*', "").contains(&sentence));
            let line = line.unwrap_or_else(|| panic!("not in docs/errors.md: {sentence}"));
            let errno = [
                (libc::EACCES, "`EACCES`"),
                (libc::ENETUNREACH, "`ENETUNREACH`"),
                (libc::ETIMEDOUT, "`ETIMEDOUT`"),
            ];
            let errno = errno.iter().find(|(number, _)| *number == told.errno()).unwrap().1;
            assert!(line.contains(errno), "{sentence}: {errno}");
        }
    }
}

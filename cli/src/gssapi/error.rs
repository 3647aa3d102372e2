//! What the library says when something fails, sorted by what a user can do about it.

use std::fmt::{self, Write as _};

use super::abi::{Functions, Status};
use super::{FAILURE, words};

/// Why the library has not done what it was to do.
#[derive(Debug)]
pub(crate) enum Error {
    /// There is none.
    Library(String),
    /// It says so.
    Status { cause: Cause, text: String },
    /// A message came twice, too late, or not in its turn.
    OutOfTurn,
    /// A message was not confidential, and was to be.
    Unprotected,
}

/// What a user can do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    NoTicket,
    Expired,
    /// Kerberos does not know the service.
    NoService,
    /// Two clocks differ.
    Clocks,
    /// No KDC answers, or none is known.
    NoKdc,
    /// What the service has sent is wrong.
    Token,
    Other,
}

impl Error {
    pub(super) fn check(functions: &'static Functions, major: Status, minor: Status) -> Result<(), Self> {
        if major & FAILURE == 0 {
            return Ok(());
        }
        let (general, particular) = (words(functions, major, false), words(functions, minor, true));
        // The mechanism knows more, if it knows anything.
        let is_said = minor != 0 && !particular.is_empty() && !particular.starts_with("Unknown error");
        let text = if is_said { particular } else { general };
        Err(Self::Status { cause: cause(major, minor), text })
    }
}

/// RFC 2744 section 3.9.1, and Kerberos' own numbers (RFC 4120 section 7.5.9 and the libraries' further ones, from one base).
fn cause(major: Status, minor: Status) -> Cause {
    const BASE: i32 = -1_765_328_384;
    let of_kerberos = minor.cast_signed().checked_sub(BASE);
    match (major >> 16 & 0xff, of_kerberos) {
        (_, Some(7)) => Cause::NoService,
        (11, _) | (_, Some(32)) => Cause::Expired,
        (_, Some(37)) => Cause::Clocks,
        // KRB5_REALM_UNKNOWN, KRB5_KDC_UNREACH, KRB5_REALM_CANT_RESOLVE
        (_, Some(154 | 156 | 220)) => Cause::NoKdc,
        // KRB5_CC_NOTFOUND, KRB5_FCC_NOFILE
        (7, _) | (_, Some(141 | 195)) => Cause::NoTicket,
        // What Heimdal says of a cache that there is not.
        _ if minor.cast_signed() == libc::ENOENT => Cause::NoTicket,
        // GSS_S_BAD_SIG, GSS_S_DEFECTIVE_TOKEN
        (6 | 9, _) => Cause::Token,
        _ => Cause::Other,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(text) | Self::Status { text, .. } => {
                // It may be a KDC's. Quotation marks are the library's own.
                text.trim_end_matches('.').chars().try_for_each(|letter| match letter {
                    '\'' | '"' => f.write_char(letter),
                    _ => letter.escape_debug().fmt(f),
                })
            }
            Self::OutOfTurn => f.write_str("a message came twice or out of turn"),
            Self::Unprotected => f.write_str("a message was not confidential"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_quotation_marks_and_nothing_that_a_terminal_would_obey() {
        let text = "no KDC for realm 'LAB.TEST'\u{1b}[2J\n.".to_owned();
        let shown = Error::Status { cause: Cause::NoKdc, text }.to_string();
        assert_eq!(shown, "no KDC for realm 'LAB.TEST'\\u{1b}[2J\\n");
    }

    #[test]
    fn causes_are_told_apart_by_kerberos_numbers_and_by_gssapis() {
        let kerberos = |number: i32| cause(13 << 16, number.cast_unsigned());
        assert_eq!(kerberos(-1_765_328_377), Cause::NoService);
        assert_eq!(kerberos(-1_765_328_352), Cause::Expired);
        assert_eq!(kerberos(-1_765_328_347), Cause::Clocks);
        assert_eq!([-1_765_328_230, -1_765_328_228, -1_765_328_164].map(kerberos), [Cause::NoKdc; 3]);
        assert_eq!([-1_765_328_243, -1_765_328_189, libc::ENOENT].map(kerberos), [Cause::NoTicket; 3]);
        assert_eq!(
            [7, 9, 11, 13].map(|routine| cause(routine << 16, 0)),
            [Cause::NoTicket, Cause::Token, Cause::Expired, Cause::Other]
        );
    }
}

//! The messages of GSSAPI for SOCKS5 (RFC 1961): a context's tokens, the level of protection, and whatever is said after that, encapsulated.
//!
//! A message is a header of four bytes and a token. The tokens are the mechanism's: nothing here looks into them.

use super::{Error, METHOD_REFUSED, VERSION};

/// Length of a message's header: version, kind, length of the token.
pub const HEADER: usize = 4;

/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 65_535;

const METHOD_GSSAPI: u8 = 1;

/// The greeting that offers GSSAPI and nothing else (RFC 1928 section 3).
pub const GREETING: [u8; 3] = [VERSION, 1, METHOD_GSSAPI];

const MESSAGE_VERSION: u8 = 1;
const ABORT: u8 = 0xff;

/// What a message is (`mtyp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A token of the context that is being established (sections 3.4 and 3.7).
    Authentication = 1,
    /// The level of protection, wrapped (section 4.2).
    Protection = 2,
    /// What is said under protection (section 5).
    Data = 3,
}

/// How messages are protected (section 4.3). Selective protection, 3, is nothing that two programs could agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all, and not encapsulated either: not the RFC's, but what Dante and curl know.
    Clear = 0,
    /// Nobody on the way can change them.
    Integrity = 1,
    /// Nobody on the way can read them either.
    Confidentiality = 2,
}

/// Why what has come is no message of the kind that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The proxy has given up (section 3.8).
    Aborted,
    /// Its version is not 1.
    Version(u8),
    /// It is of this kind instead.
    Kind(u8),
}

impl Level {
    /// `None` for one that nobody here asks for.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        [Self::Clear, Self::Integrity, Self::Confidentiality]
            .into_iter()
            .find(|level| level.number() == number)
    }

    /// As it travels.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The header of a message with a token of this length.
#[must_use]
pub fn header(kind: Kind, token: u16) -> [u8; HEADER] {
    let [high, low] = token.to_be_bytes();
    [MESSAGE_VERSION, kind as u8, high, low]
}

/// How long the token is of a message that begins with these bytes; `None` when that is not known yet.
///
/// # Errors
/// [`Malformed`], at the earliest byte that shows it: an abort has two.
pub fn token_len(kind: Kind, message: &[u8]) -> Result<Option<usize>, Malformed> {
    match *message {
        [version, ..] if version != MESSAGE_VERSION => Err(Malformed::Version(version)),
        [_, ABORT, ..] => Err(Malformed::Aborted),
        [_, other, ..] if other != kind as u8 => Err(Malformed::Kind(other)),
        [_, _, high, low, ..] => Ok(Some(u16::from_be_bytes([high, low]).into())),
        _ => Ok(None),
    }
}

/// Has the proxy chosen GSSAPI (RFC 1928 section 3)?
///
/// # Errors
/// [`Error::NotSocks5`], [`Error::NoAcceptableMethod`], [`Error::UnofferedMethod`].
pub fn check_choice(answer: [u8; 2]) -> Result<(), Error> {
    match answer {
        [VERSION, METHOD_GSSAPI] => Ok(()),
        [VERSION, METHOD_REFUSED] => Err(Error::NoAcceptableMethod),
        [VERSION, other] => Err(Error::UnofferedMethod(other)),
        [other, _] => Err(Error::NotSocks5(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const KINDS: [Kind; 3] = [Kind::Authentication, Kind::Protection, Kind::Data];

    #[test]
    fn a_header_is_what_the_rfc_draws() {
        assert_eq!(header(Kind::Authentication, 0x0102), [1, 1, 1, 2]);
        assert_eq!(header(Kind::Protection, 1), [1, 2, 0, 1]);
        assert_eq!(header(Kind::Data, 0xffff), [1, 3, 0xff, 0xff]);
    }

    #[test]
    fn an_abort_is_seen_by_its_two_bytes_whatever_is_waited_for() {
        for kind in KINDS {
            assert_eq!(token_len(kind, &[1, 0xff]), Err(Malformed::Aborted));
            assert_eq!(token_len(kind, &[1]), Ok(None));
        }
    }

    #[test]
    fn levels_are_those_that_two_can_agree_on() {
        assert_eq!([0, 1, 2].map(|number| Level::new(number).unwrap().number()), [0, 1, 2]);
        assert_eq!([3, 0xff].map(Level::new), [None; 2]);
        assert!(Level::Clear < Level::Integrity && Level::Integrity < Level::Confidentiality);
    }

    #[test]
    fn only_gssapi_may_be_chosen() {
        assert_eq!(check_choice([5, 1]), Ok(()));
        assert_eq!(check_choice([5, 0]), Err(Error::UnofferedMethod(0)));
        assert_eq!(check_choice([5, 2]), Err(Error::UnofferedMethod(2)));
        assert_eq!(check_choice([5, 0xff]), Err(Error::NoAcceptableMethod));
        assert_eq!(check_choice([4, 1]), Err(Error::NotSocks5(4)));
    }

    proptest! {
        #[test]
        fn a_header_says_its_length_as_soon_as_it_is_whole(len: u16, index in 0..3_usize, rest: Vec<u8>) {
            let kind = KINDS[index];
            let message: Vec<u8> = header(kind, len).into_iter().chain(rest).collect();
            for end in 0..HEADER {
                prop_assert_eq!(token_len(kind, &message[..end]), Ok(None));
            }
            prop_assert_eq!(token_len(kind, &message), Ok(Some(len.into())));
            for other in KINDS.into_iter().filter(|other| *other != kind) {
                prop_assert_eq!(token_len(other, &message), Err(Malformed::Kind(kind as u8)));
            }
        }

        #[test]
        fn what_is_wrong_with_any_bytes_is_wrong_with_every_longer_part_of_them(bytes: Vec<u8>, index in 0..3_usize) {
            let kind = KINDS[index];
            let whole = token_len(kind, &bytes);
            for end in 0..bytes.len() {
                match token_len(kind, &bytes[..end]) {
                    Ok(None) => {}
                    decided => prop_assert_eq!(decided, whole),
                }
            }
        }
    }
}

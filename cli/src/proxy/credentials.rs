//! User and password for a proxy, as its protocol has them.

use percent_encoding::percent_decode_str;
use presocks_proto::{http, socks4, socks5};
use zeroize::Zeroizing;

use super::Kind;

/// As the kind has them: [`Credentials::parse`] sees to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Zeroizing<Vec<u8>>,
    pub(super) password: Zeroizing<Vec<u8>>,
}

impl Credentials {
    /// Reads `USER[:PASSWORD]`, percent-encoded.
    ///
    /// # Errors
    /// What is wrong, without any part of it.
    pub(super) fn parse(kind: Kind, text: &str) -> Result<Self, String> {
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

    /// Is there something in them that others must not read?
    pub(super) fn have_password(&self) -> bool {
        !self.password.is_empty()
    }

    pub(super) fn for_socks5(&self) -> Option<socks5::Credentials<'_>> {
        socks5::Credentials::new(&self.user, &self.password)
    }

    pub(super) fn for_socks4(&self) -> Option<socks4::User<'_>> {
        socks4::User::new(&self.user)
    }

    pub(super) fn for_http(&self) -> Option<http::Credentials<'_>> {
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

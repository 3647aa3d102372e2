//! A host name: 1 to 255 bytes, the limit of a SOCKS5 request (RFC 1928 section 5) and of the DNS (RFC 1035
//! section 2.3.4).
//!
//! A [`Name`] is never empty, never longer, and holds no byte that could end or garble a line: control characters,
//! white space and NUL are refused. It does not check labels: the far side resolves, so the far side judges.

use core::fmt;

/// Longest name in bytes.
pub const MAX: usize = 255;

/// A host name of 1 to [`MAX`] bytes, lower case in ASCII, owned and without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    len: u8,
    bytes: [u8; MAX],
}

impl Name {
    /// Takes a name as a program gave it and folds ASCII letters to lower case.
    ///
    /// `None` when it is empty, longer than [`MAX`], or holds a control character, white space or NUL.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        let len = u8::try_from(text.len()).ok().filter(|&len| len > 0)?;
        if text.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
            return None;
        }
        let mut bytes = [0; MAX];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = from.to_ascii_lowercase();
        }
        Some(Self { len, bytes })
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl Name {
    /// The bytes without the dot that makes it a whole name (RFC 1034 section 3.1); empty for the root.
    #[must_use]
    pub fn bare(&self) -> &[u8] {
        self.as_bytes().strip_suffix(b".").unwrap_or(self.as_bytes())
    }

    /// Is it a name for this machine itself, whoever asks (RFC 6761 section 6.3)? With "localdomain" behind it, it is one as well, as
    /// many an /etc/hosts and glibc's nss-myhostname have it.
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        let name = self.bare().strip_suffix(b".localdomain").unwrap_or(self.bare());
        name == b"localhost" || name.ends_with(b".localhost")
    }
}

impl fmt::Display for Name {
    /// Bytes outside printable ASCII are escaped, so that a name cannot steer a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_name_may_have_255_bytes_and_no_more() {
        assert!(Name::new(&[b'a'; 255]).is_some());
        assert!(Name::new(&[b'a'; 256]).is_none());
        assert!(Name::new(b"").is_none());
    }

    #[test]
    fn letters_are_folded_and_control_characters_refused() {
        assert_eq!(Name::new(b"WwW.Example").unwrap().as_bytes(), b"www.example");
        for bad in [&b"a\nb"[..], b"a b", b"a\0b", b"\x1b[31m"] {
            assert!(Name::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn localhost_is_a_top_level_domain() {
        let is_localhost = |text: &[u8]| Name::new(text).unwrap().is_localhost();
        for own in [
            &b"localhost"[..],
            b"LocalHost.",
            b"app.localhost",
            b"a.b.localhost.",
            b"localhost.localdomain",
            b"A.localhost.LocalDomain.",
        ] {
            assert!(is_localhost(own), "{own:?}");
        }
        for other in [
            &b"localhost.example"[..],
            b"mylocalhost",
            b".",
            b"localhost..",
            b"localdomain",
            b"a.localdomain",
        ] {
            assert!(!is_localhost(other), "{other:?}");
        }
    }

    #[test]
    fn bytes_beyond_ascii_are_escaped_when_shown() {
        assert_eq!(Name::new("bücher".as_bytes()).unwrap().to_string(), "b\\xc3\\xbccher");
    }
}

//! Why there is no TLS with a proxy: cause, and a sentence that says what to do.

use std::fmt;
use std::io;

use tokio_rustls::rustls::{CertificateError, Error};

use crate::proxy::Tls;
use crate::upstream::plain::Plain;

/// Why there is no TLS.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The authorities' certificates cannot be had.
    Authorities(String),
    /// The conversation failed.
    Handshake { server_name: String, error: Error },
    /// What came was no TLS, or nothing came.
    Broken(io::Error),
}

impl Trouble {
    pub(super) fn new(tls: &Tls, error: io::Error) -> Self {
        let server_name = tls.server_name.to_str().into_owned();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(inner) => Self::Handshake { server_name, error: inner.clone() },
            None => Self::Broken(error),
        }
    }

    /// Troubles with the same number have the same cause and are told once.
    pub(crate) fn cause(&self) -> u32 {
        match self {
            Self::Authorities(_) => 0,
            Self::Broken(_) => 1,
            Self::Handshake { error: Error::InvalidCertificate(_), .. } => 2,
            Self::Handshake { .. } => 3,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities(why) => write!(f, "{}", why.escape_debug()),
            Self::Broken(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the proxy closed the connection during the TLS handshake")
            }
            Self::Broken(error) => {
                write!(f, "the connection broke during the TLS handshake: {}", Plain(error))
            }
            Self::Handshake { server_name, error } => write_handshake(f, server_name, error),
        }
    }
}

fn write_handshake(f: &mut fmt::Formatter<'_>, server_name: &str, error: &Error) -> fmt::Result {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => f.write_str(
            "no authority that this machine trusts has signed the proxy's certificate (ca-file names another)",
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => write!(f, "the proxy's certificate is not for {server_name} (server-name says whom to expect)"),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            f.write_str("the proxy's certificate has expired")
        }
        Error::InvalidMessage(_) => f.write_str("what the proxy answered is not TLS"),
        error => {
            let text = error.to_string();
            if text.contains("CaUsedAsEndEntity") {
                return f.write_str("the proxy's certificate is an authority's, not a server's (CA:TRUE)");
            }
            // Without an address for programmers; and whatever comes from afar is escaped.
            let text = text.split(": https://").next().unwrap_or_default();
            write!(f, "TLS with the proxy failed: {}", text.escape_debug())
        }
    }
}

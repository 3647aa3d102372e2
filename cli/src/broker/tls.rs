//! TLS with a proxy.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error};

use super::failure::{Failure, Plain};
use super::stream::Stream;
use crate::proxy::Tls;

/// The authorities that have been read, by the file that they stand in; none: this machine's.
#[derive(Default)]
pub(super) struct Authorities(RefCell<HashMap<Option<PathBuf>, TlsConnector>>);

/// Why there is no TLS.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The authorities' certificates cannot be had.
    Authorities(String),
    /// The conversation failed.
    Handshake { server_name: String, error: Error },
    /// What came was no TLS, or nothing came.
    Broken(io::Error),
}

/// Wraps a connection to a proxy.
///
/// # Errors
/// [`Failure::Tls`]
pub(super) async fn wrap(authorities: &Authorities, tls: &Tls, stream: Stream) -> Result<Stream, Failure> {
    let connector = authorities.connector(tls).map_err(failed)?;
    let name = tls.server_name.clone();
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => Err(failed(Trouble::new(tls, error))),
    }
}

fn failed(trouble: Trouble) -> Failure {
    Failure::Tls(Box::new(trouble))
}

impl Authorities {
    fn connector(&self, tls: &Tls) -> Result<TlsConnector, Trouble> {
        if let Some(known) = self.0.borrow().get(&tls.ca_file) {
            return Ok(known.clone());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Trouble::Authorities(error.to_string()))?
            .with_root_certificates(tls.authorities().map_err(Trouble::Authorities)?)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        self.0.borrow_mut().insert(tls.ca_file.clone(), connector.clone());
        Ok(connector)
    }
}

impl Trouble {
    fn new(tls: &Tls, error: io::Error) -> Self {
        let server_name = tls.server_name.to_str().into_owned();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(inner) => Self::Handshake { server_name, error: inner.clone() },
            None => Self::Broken(error),
        }
    }

    /// Troubles with the same number have the same cause and are told once.
    pub(super) fn cause(&self) -> u32 {
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

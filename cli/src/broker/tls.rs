//! TLS with a proxy: whom it must prove to be, and by whose word.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};

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
    Authorities { file: Option<PathBuf>, why: String },
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
    let connector = authorities.connector(tls.ca_file.as_deref()).map_err(failed)?;
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
    fn connector(&self, file: Option<&Path>) -> Result<TlsConnector, Trouble> {
        if let Some(known) = self.0.borrow().get(&file.map(Path::to_owned)) {
            return Ok(known.clone());
        }
        let roots = match file {
            Some(file) => roots_in(file),
            None => roots_of_this_machine(),
        };
        let trouble = |why| Trouble::Authorities { file: file.map(Path::to_owned), why };
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| trouble(error.to_string()))?
            .with_root_certificates(roots.map_err(trouble)?)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        self.0.borrow_mut().insert(file.map(Path::to_owned), connector.clone());
        Ok(connector)
    }
}

fn roots_in(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("there is no certificate in it (PEM)".into()) } else { Ok(roots) }
}

fn roots_of_this_machine() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some of a machine's many may be odd; those that are not suffice.
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(roots),
        (true, Some(error)) => Err(error.to_string()),
        (true, None) => Err("this machine has none; install ca-certificates, or name a ca-file".into()),
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
            Self::Authorities { .. } => 0,
            Self::Broken(_) => 1,
            Self::Handshake { error: Error::InvalidCertificate(_), .. } => 2,
            Self::Handshake { .. } => 3,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities { file: Some(file), why } => {
                write!(f, "the certificates in {} cannot be used: {}", file.display(), why.escape_debug())
            }
            Self::Authorities { file: None, why } => {
                write!(
                    f,
                    "the certificates of this machine's authorities cannot be had: {}",
                    why.escape_debug()
                )
            }
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
        // Whatever comes from afar is escaped.
        error => write!(f, "TLS with the proxy failed: {}", error.to_string().escape_debug()),
    }
}

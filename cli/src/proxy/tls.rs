//! How TLS with a proxy is checked: whom it must prove to be, and by whose word.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::RootCertStore;

/// How TLS with a proxy is checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tls {
    /// Whom its certificate must name.
    pub(crate) server_name: ServerName<'static>,
    /// Certificates of the authorities that may have signed it, in PEM, in the stead of this machine's.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Tls {
    /// The authorities.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn authorities(&self) -> Result<RootCertStore, String> {
        match &self.ca_file {
            Some(file) => {
                let named = |why| format!("the certificates in {} cannot be used: {why}", file.display());
                in_file(file).map_err(named)
            }
            None => {
                of_this_machine().map_err(|why| format!("this machine's certificates cannot be had: {why}"))
            }
        }
    }
}

fn in_file(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let readable = |error: rustls_pki_types::pem::Error| match error {
        rustls_pki_types::pem::Error::Io(error) => error.to_string(),
        error => format!("{error:?}"),
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(readable)? {
        let certificate = certificate.map_err(readable)?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("there is none in it (PEM)".into()) } else { Ok(roots) }
}

fn of_this_machine() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some of a machine's many may be odd; those that are not suffice.
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(roots),
        (true, Some(error)) => Err(error.to_string()),
        (true, None) => Err("there are none; install ca-certificates, or name a ca-file".into()),
    }
}

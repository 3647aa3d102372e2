//! How TLS with a proxy is checked: whom it must prove to be, and by whose word.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::RootCertStore;

/// How TLS with a proxy is checked.
#[derive(Clone)]
pub(crate) struct Tls {
    /// Whom its certificate must name.
    pub(crate) server_name: ServerName<'static>,
    /// Certificates of the authorities that may have signed it, in PEM, in the stead of this machine's.
    pub(crate) ca_file: Option<PathBuf>,
    /// What stands in the file, once it has been read.
    authorities: Option<Arc<RootCertStore>>,
}

/// Files of certificates that have been read. Each is read once: it may be a pipe.
pub(crate) type Read = HashMap<PathBuf, Arc<RootCertStore>>;

impl Tls {
    pub(super) fn new(server_name: ServerName<'static>, ca_file: Option<PathBuf>) -> Self {
        Self { server_name, ca_file, authorities: None }
    }

    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn read(&mut self, before: &mut Read) -> Result<(), String> {
        let Some(file) = &self.ca_file else { return Ok(()) };
        let authorities = match before.get(file) {
            Some(authorities) => Arc::clone(authorities),
            None => {
                let named = |why| format!("the certificates in {} cannot be used: {why}", file.display());
                let authorities = Arc::new(in_file(file).map_err(named)?);
                before.insert(file.clone(), Arc::clone(&authorities));
                authorities
            }
        };
        self.authorities = Some(authorities);
        Ok(())
    }

    /// The authorities.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn authorities(&self) -> Result<Arc<RootCertStore>, String> {
        match &self.authorities {
            Some(authorities) => Ok(Arc::clone(authorities)),
            None => match of_this_machine() {
                Ok(authorities) => Ok(Arc::new(authorities)),
                Err(why) => Err(format!("this machine's certificates cannot be had: {why}")),
            },
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

//! TLS with a proxy.

pub(crate) mod trouble;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

use super::failure::Failure;
use super::stream::Stream;
use crate::proxy::Tls;
use trouble::Trouble;

/// The authorities that have been read, by the file that they stand in; none: this machine's.
#[derive(Default)]
pub(crate) struct Authorities(RefCell<HashMap<Option<PathBuf>, TlsConnector>>);

/// Wraps a connection to a proxy.
///
/// # Errors
/// [`Failure::Tls`]
pub(crate) async fn wrap(authorities: &Authorities, tls: &Tls, stream: Stream) -> Result<Stream, Failure> {
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

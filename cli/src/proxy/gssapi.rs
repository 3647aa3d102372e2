//! GSSAPI with a proxy: as which service Kerberos knows it, and how its messages are protected.

pub(crate) use presocks_proto::socks5::gssapi::Level;

use super::{Host, Place};

/// The service that a proxy is if its URL does not say: what Dante, curl and others take.
const SERVICE: &str = "rcmd";

/// GSSAPI with a proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gssapi {
    /// `NAME@HOST`
    pub(crate) service: String,
    /// At least so its messages are to be protected.
    pub(crate) level: Level,
}

/// What the options of a URL say of it.
#[derive(Default)]
pub(super) struct Options {
    service: Option<String>,
    level: Option<Level>,
}

impl Options {
    /// Is it one of these options? It has been taken then.
    ///
    /// # Errors
    /// What is wrong with its value.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match (name, value) {
            ("service", value) => self.service = Some(value.to_owned()),
            ("protection", "confidentiality") => self.level = Some(Level::Confidentiality),
            ("protection", "integrity") => self.level = Some(Level::Integrity),
            ("protection", "clear") => self.level = Some(Level::Clear),
            ("protection", _) => {
                return Err("protection is confidentiality, integrity or clear".into());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Is there any of them?
    pub(super) fn are_there(&self) -> bool {
        self.service.is_some() || self.level.is_some()
    }

    /// Of a proxy at this place.
    ///
    /// # Errors
    /// The service cannot be named so, or is not named and at no host.
    pub(super) fn gssapi(self, place: &Place) -> Result<Gssapi, String> {
        let service = self.service.as_deref().unwrap_or(SERVICE);
        let (name, host) = match (service.split_once('/'), place) {
            (Some((name, host)), _) => (name, host.to_owned()),
            (None, Place::Tcp(Host::Name(host), _)) => (service, host.clone()),
            (None, Place::Tcp(Host::Address(address), _)) => (service, address.to_string()),
            (None, Place::Unix(_)) => {
                return Err("at a Unix socket GSSAPI must be told the host, too: service=rcmd/HOST".into());
            }
        };
        let is_word = |word: &str| {
            let is_of_it =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
            !word.is_empty() && word.bytes().all(is_of_it)
        };
        if !is_word(name) || !is_word(&host) {
            return Err("a service is NAME or NAME/HOST, as rcmd/proxy.example".into());
        }
        let level = self.level.unwrap_or(Level::Confidentiality);
        Ok(Gssapi { service: format!("{name}@{host}"), level })
    }
}

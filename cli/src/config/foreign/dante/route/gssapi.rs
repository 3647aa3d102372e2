//! What a route says of GSSAPI.

use super::super::super::super::place::Said;
use super::super::super::url;

/// What a route says of GSSAPI.
#[derive(Default)]
pub(super) struct Gssapi {
    /// A name, or a name and a host.
    pub(super) service: Option<Said<String>>,
    /// What may protect its messages; any of it, if nothing is said.
    pub(super) levels: Vec<Said<String>>,
}

impl Gssapi {
    /// The name and the URL of a proxy with GSSAPI. Of several levels of protection the strongest is asked for.
    ///
    /// # Errors
    /// None of the levels is one that can be asked for.
    pub(super) fn proxy(&self, host: &str, port: &str) -> Result<(String, String), String> {
        const KIND: &str = "socks5+gssapi";
        let mut options = Vec::new();
        if let Some(service) = &self.service {
            options.push(format!("service={}", service.value.replace('@', "/")));
        }
        let has = |word: &&str| self.levels.iter().any(|level| level.value == *word);
        match (["confidentiality", "integrity", "clear"].iter().find(|word| has(word)), self.levels.first()) {
            (Some(level), _) => options.push(format!("protection={level}")),
            (None, Some(first)) => {
                return Err(
                    first.fault("of GSSAPI's levels confidentiality, integrity and clear are possible here")
                );
            }
            (None, None) => {}
        }
        let options = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
        Ok((format!("{KIND} {host}:{port}"), format!("{}{options}", url(KIND, host, port, None))))
    }
}

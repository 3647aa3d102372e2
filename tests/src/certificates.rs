//! Certificates, made for each lab. For the proxies that speak TLS: good ones of an authority of our own, and bad ones. For the
//! origin's servers: a good one.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};

use crate::lab::{Lab, PROXY};

/// A name that the good certificate is for, and that nobody resolves.
pub const SERVER_NAME: &str = "tls.proxy.example";

/// An authority and what it has signed.
#[derive(Debug)]
pub struct Certificates {
    /// The certificate (PEM) that a client must trust.
    pub authority: PathBuf,
    /// For the proxy host's address and names, and [`SERVER_NAME`].
    pub good: Certificate,
    /// For another name.
    pub misnamed: Certificate,
    /// For the right names, long ago.
    pub expired: Certificate,
    /// For the right names, by itself.
    pub self_signed: Certificate,
    /// The same, and an authority's, as `openssl req -x509` makes it.
    pub authoritys: Certificate,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What a server on the origin shows, and what its clients must trust.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate (PEM) of the authority.
    pub authority: PathBuf,
    /// The server's certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Signed {
    /// Makes one for the origin's names and `chat.test`.
    #[must_use]
    pub fn for_the_origin(lab: &Lab) -> Self {
        let (authority, issuer) = authority();
        let key = KeyPair::generate().expect("a key");
        let names = ["origin.test", "*.origin.test", "chat.test"].map(str::to_owned);
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &issuer))
            .expect("a certificate");
        let Certificate { chain, key } = write(lab, "origin", &certificate, &key);
        Self { authority: lab.file("origin-authority.pem", authority.pem()), chain, key }
    }
}

impl Certificates {
    /// Makes all of them.
    #[must_use]
    pub fn make(lab: &Lab) -> Self {
        let (authority, issuer) = authority();
        let signed = |name: &str, params: CertificateParams| {
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            write(lab, name, &certificate, &key)
        };
        let mut expired = for_the_proxy_host();
        (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        let misnamed = CertificateParams::new(["another.example".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let self_signed = for_the_proxy_host().self_signed(&key).expect("a certificate");
        let mut params = for_the_proxy_host();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authoritys = params.self_signed(&key).expect("a certificate");
        Self {
            authority: lab.file("tls-authority.pem", authority.pem()),
            good: signed("good", for_the_proxy_host()),
            misnamed: signed("misnamed", misnamed),
            expired: signed("expired", expired),
            self_signed: write(lab, "self-signed", &self_signed, &key),
            authoritys: write(lab, "authoritys", &authoritys, &key),
        }
    }
}

/// An authority's certificate, and what signs in its name.
fn authority() -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the authority of the laboratory");
    let authority = params.self_signed(&key).expect("an authority");
    (authority, Issuer::new(params, key))
}

fn for_the_proxy_host() -> CertificateParams {
    let names = ["proxy.lab", "hop1.test", "hop2.test", "hop3.test", SERVER_NAME];
    let mut params = CertificateParams::new(names.map(str::to_owned)).expect("names");
    let hops = (1..=5).map(crate::hops::address);
    params.subject_alt_names.extend(hops.chain([PROXY]).map(|address| SanType::IpAddress(address.into())));
    params.subject_alt_names.push(SanType::IpAddress(crate::lab::PROXY6.into()));
    params
}

fn write(lab: &Lab, name: &str, certificate: &rcgen::Certificate, key: &KeyPair) -> Certificate {
    Certificate {
        chain: lab.file(&format!("tls-{name}.pem"), certificate.pem()),
        key: lab.file(&format!("tls-{name}.key"), key.serialize_pem()),
    }
}

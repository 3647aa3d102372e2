//! Mail that is sent (SMTP) and fetched (POP3, IMAP).

mod fetched;
mod sent;

use presocks_tests::origin::MailServer;
use presocks_tests::proxy::Dante;
use presocks_tests::{Invocation, Lab, missing};

use super::desk::dot_file;

/// A lab with a proxy and, behind it, a mail server.
struct Scene {
    server: MailServer,
    proxy: Dante,
    lab: Lab,
}

impl Scene {
    fn set(needs: &[&str]) -> Option<Self> {
        if missing(&["danted", "dovecot", "postfix", "openssl"]) || missing(needs) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { server: MailServer::start(&lab), proxy: Dante::with_password(&lab), lab })
    }

    fn presocks<'a>(&'a self, words: &[&'a str]) -> Invocation<'a> {
        self.lab.presocks(words).proxy(&self.proxy)
    }

    /// The certificate that the programs are told to trust.
    fn authority(&self) -> &str {
        self.server.authority().to_str().unwrap()
    }

    /// Writes a file that only its owner may read into the user's home.
    fn dot_file(&self, name: &str, content: &str) {
        dot_file(&self.lab, name, content);
    }
}

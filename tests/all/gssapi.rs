//! SOCKS5 proxies with GSSAPI: a real KDC and real tickets; what goes through, and what is said when it does not.

mod datagrams;
mod failures;
mod hostile;
mod kdc;
mod names;
mod tickets;
mod traffic;

use presocks_tests::kerberos::NEEDS;
use presocks_tests::proxy::{GssapiProxy, Upstream};
use presocks_tests::{Kerberos, Lab, missing};

/// A realm, and a proxy in it.
struct Realm {
    proxy: GssapiProxy,
    kerberos: Kerberos,
    lab: Lab,
}

impl Realm {
    /// One whose user has a ticket.
    fn start() -> Option<Self> {
        let realm = Self::without_ticket()?;
        realm.kerberos.kinit(&realm.lab);
        Some(realm)
    }

    fn without_ticket() -> Option<Self> {
        Self::that_is(Kerberos::start)
    }

    /// One whose clocks must agree.
    fn strict() -> Option<Self> {
        Self::that_is(|lab| Kerberos::with_patience(lab, 1))
    }

    fn that_is(kerberos: impl Fn(&Lab) -> Kerberos) -> Option<Self> {
        if missing(&NEEDS) {
            return None;
        }
        let lab = Lab::new();
        let kerberos = kerberos(&lab);
        let proxy = GssapiProxy::start(&lab, &kerberos);
        Some(Self { proxy, kerberos, lab })
    }

    /// The proxy with each level of protection.
    fn urls(&self) -> [String; 3] {
        [
            self.proxy.url(),
            self.proxy.url_with("protection=integrity"),
            self.proxy.url_with("protection=clear"),
        ]
    }
}

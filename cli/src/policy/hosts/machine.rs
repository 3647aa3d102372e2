//! The names that a machine has without any file: as glibc's nss-myhostname has them, which reads no file either.
//!
//! Its own name, that of uname(2), is on loopback: a connection to another address of its own would go to the proxy, which means another machine by
//! it. 127.0.0.2 is nss-myhostname's address for a machine without a network, and tells its name from localhost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use presocks_proto::name::Name;

const OWN_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Of nss-myhostname's and systemd-resolved's making, for what is near a machine: its gateway, its address towards that, its resolver. Elsewhere they
/// mean what is near somebody else; so here they are nobody, and nobody is asked for them.
const NEAR: [&[u8]; 4] = [b"_gateway", b"_outbound", b"_localdnsstub", b"_localdnsproxy"];

/// The addresses of a name that is one of the machine's, which may have none; `own` is its own name.
pub(super) fn addresses(name: &Name, own: Option<&Name>) -> Option<Vec<IpAddr>> {
    if name.is_localhost() {
        return Some(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
    }
    if is(name, own) {
        return Some(vec![Ipv6Addr::LOCALHOST.into(), OWN_V4.into()]);
    }
    NEAR.contains(&name.bare()).then(Vec::new)
}

/// The name of an address. `is_own`: whether it is one of the machine's.
pub(super) fn name(address: IpAddr, own: Option<Name>, is_own: impl Fn(IpAddr) -> bool) -> Option<Name> {
    let localhost = || Name::new(b"localhost");
    if address == OWN_V4 {
        return own.or_else(localhost);
    }
    if address.is_loopback() {
        return localhost();
    }
    own.filter(|_| is_own(address))
}

/// Is the name for nobody else's ears? A machine's own name with a domain is one of the DNS, too, which may have more to say of it than addresses.
pub(super) fn is_private(name: &Name, own: Option<&Name>) -> bool {
    let has_domain = name.bare().contains(&b'.');
    name.is_localhost() || NEAR.contains(&name.bare()) || is(name, own) && !has_domain
}

/// uname(2)'s name of this machine, if it can be one.
pub(super) fn own() -> Option<Name> {
    Name::new(rustix::system::uname().nodename().to_bytes())
}

fn is(name: &Name, own: Option<&Name>) -> bool {
    own.is_some_and(|own| own.bare() == name.bare())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn found(name: &str, own: &str) -> Option<String> {
        let found = addresses(&a(name), Some(&a(own)))?;
        Some(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_machine_is_known_by_its_name_and_as_localhost() {
        for (name, own, expected) in [
            ("box", "box", Some("::1 127.0.0.2")),
            ("BOX.", "Box", Some("::1 127.0.0.2")),
            ("box.example", "box.example", Some("::1 127.0.0.2")),
            ("box", "box.example", None),
            ("box.example", "box", None),
            ("localhost", "localhost", Some("::1 127.0.0.1")),
            ("a.localhost.localdomain", "box", Some("::1 127.0.0.1")),
            ("_Gateway.", "box", Some("")),
            ("_gateway", "_gateway", Some("::1 127.0.0.2")),
            ("_gateway.example", "box", None),
        ] {
            assert_eq!(found(name, own).as_deref(), expected, "{name} {own}");
        }
        assert_eq!(addresses(&a("box"), None), None);
    }

    #[test]
    fn its_addresses_have_its_name_but_for_those_of_localhost() {
        let own_address = IpAddr::from([192, 0, 2, 7]);
        let of = |address: &str, own: Option<&str>| {
            let found = name(address.parse().unwrap(), own.map(a), |address| address == own_address);
            found.map(|name| name.to_string())
        };
        for (address, expected) in [
            ("127.0.0.1", Some("localhost")),
            ("127.0.0.2", Some("box")),
            ("127.9.9.9", Some("localhost")),
            ("::1", Some("localhost")),
            ("192.0.2.7", Some("box")),
            ("192.0.2.8", None),
        ] {
            assert_eq!(of(address, Some("box")).as_deref(), expected, "{address}");
        }
        assert_eq!(of("127.0.0.2", None).as_deref(), Some("localhost"));
        assert_eq!(of("192.0.2.7", None), None);
    }

    #[test]
    fn only_a_name_with_a_domain_is_asked_of_others() {
        for (name, own, expected) in [
            ("box", "box", true),
            ("box.example.", "box.example", false),
            ("box", "other", false),
            ("a.localhost", "box", true),
            ("_outbound", "box", true),
        ] {
            assert_eq!(is_private(&a(name), Some(&a(own))), expected, "{name} {own}");
        }
    }
}

//! Where a proxy takes datagrams, by the address that it binds for an association (RFC 1928 section 6).

use std::net::{IpAddr, SocketAddr};

use presocks_proto::socks5::{Host, Target};

use crate::socket::canonical;
use crate::upstream::failure::Failure;

/// Where the relay is: at the proxy. An unspecified address means that, and so does one of a private network, which the proxy sees itself by behind a
/// translator of addresses. Another host's is refused: nothing leaves for anybody but the proxy.
pub(super) fn relay_of(bound: Option<Target>, proxy: SocketAddr) -> Result<SocketAddr, Failure> {
    let bound = bound.ok_or(Failure::NoRelay(None))?;
    let unusable = || Failure::NoRelay(Some(Box::new(bound)));
    let Host::Address(address) = bound.host else { return Err(unusable()) };
    if bound.port == 0 {
        return Err(unusable());
    }
    let own = canonical(proxy);
    let address = address.to_canonical();
    let is_the_proxys = address == own.ip() || is_private(address);
    if !is_the_proxys {
        return Err(unusable());
    }
    // With its scope, should it have one.
    let mut relay = own;
    relay.set_port(bound.port);
    Ok(relay)
}

/// Does the address mean something in one network only (RFC 1918, RFC 4193, RFC 6598, RFC 3927, RFC 4291)?
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_shared =
                v4.octets().starts_with(&[100]) && v4.octets().get(1).is_some_and(|b| b & 0xc0 == 64);
            v4.is_unspecified() || v4.is_loopback() || v4.is_private() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified() || v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

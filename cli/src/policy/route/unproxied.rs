//! Addresses for which no proxy is asked, whatever the rules say: they mean others where the proxy is, or nobody in particular.

use std::fmt;
use std::net::IpAddr;

use presocks_proto::target::{Host, Target};

/// Why no proxy is asked for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unproxied {
    /// Multicast or broadcast.
    Group,
    /// One of a link (RFC 4291 section 2.5.6): with its device it means somebody, here alone, and no protocol of proxies carries that. IPv4's
    /// have no device with them: to the kernel they are addresses like any.
    Link,
}

impl Unproxied {
    /// Why this target is none for a proxy, if it is not.
    pub(crate) fn of(target: &Target) -> Option<Self> {
        match target.host {
            Host::Address(address) => Self::of_address(address),
            Host::Name(_) => None,
        }
    }

    /// The same of an address.
    pub(crate) fn of_address(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some(Self::Group),
            IpAddr::V6(v6) if v6.is_multicast() => Some(Self::Group),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Self::Link),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// The sentence that the user reads.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Group => "multicast and broadcast cannot be proxied",
            Self::Link => {
                "an address of a link (fe80::/10) means nothing to a proxy; --direct fe80::/10 reaches it from here"
            }
        }
    }
}

impl fmt::Display for Unproxied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_ipv6_addresses_of_a_link_are_for_no_proxy() {
        let of = |text: &str| Unproxied::of_address(text.parse().unwrap());
        for text in ["fe80::1", "fe80:0:0:1::1", "febf:ffff::1"] {
            assert_eq!(of(text), Some(Unproxied::Link), "{text}");
        }
        for text in
            ["ff02::1", "ff0e::1", "224.0.0.1", "239.255.255.255", "255.255.255.255", "::ffff:224.0.0.1"]
        {
            assert_eq!(of(text), Some(Unproxied::Group), "{text}");
        }
        for text in
            ["fec0::1", "fe7f::1", "fd00::1", "::1", "169.254.0.1", "::ffff:169.254.0.1", "192.0.2.255"]
        {
            assert_eq!(of(text), None, "{text}");
        }
    }
}

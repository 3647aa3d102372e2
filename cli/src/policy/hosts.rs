//! The names that this machine gives itself: /etc/hosts (hosts(5)), then those that it has without a line there (`machine`).

mod machine;

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use presocks_proto::name::Name;
use presocks_proto::session::Localhost;

use crate::kernel_route::is_of_this_machine;

const FILE: &str = "/etc/hosts";

/// The file's content, read again when the file has changed.
#[derive(Default)]
pub(crate) struct Hosts {
    read: Option<(SystemTime, u64)>,
    addresses: HashMap<Box<[u8]>, Vec<IpAddr>>,
    names: HashMap<IpAddr, Box<[u8]>>,
}

impl Hosts {
    /// As if the file held this.
    #[cfg(test)]
    pub(crate) fn of(content: &[u8]) -> Self {
        let mut hosts = Self::default();
        hosts.refresh(Path::new(FILE));
        hosts.parse(content);
        hosts
    }

    /// All addresses of a local name, which may have none; `None` when the name is not local.
    pub(crate) fn addresses(&mut self, name: &Name) -> Option<Vec<IpAddr>> {
        self.refresh(Path::new(FILE));
        if let Some(addresses) = self.addresses.get(name.bare()) {
            return Some(addresses.clone());
        }
        machine::addresses(name, machine::own().as_ref())
    }

    /// What `localhost` means. A file may say anything.
    pub(crate) fn localhost(&mut self) -> Localhost {
        let addresses = Name::new(b"localhost").and_then(|name| self.addresses(&name));
        Localhost::new(&addresses.unwrap_or_default())
    }

    /// Is the name this machine's, and for nobody else's ears, whatever is asked about it?
    pub(crate) fn is_private(name: &Name) -> bool {
        machine::is_private(name, machine::own().as_ref())
    }

    /// The first name of a local address.
    pub(crate) fn name(&mut self, address: IpAddr) -> Option<Name> {
        self.refresh(Path::new(FILE));
        let address = address.to_canonical();
        match self.names.get(&address) {
            Some(name) => Name::new(name),
            None => machine::name(address, machine::own(), is_of_this_machine),
        }
    }

    fn refresh(&mut self, file: &Path) {
        // Without a file, or with one that cannot be read, there are no local names: all go to the proxy.
        let state = fs::metadata(file).ok().and_then(|found| Some((found.modified().ok()?, found.len())));
        if state == self.read && state.is_some() {
            return;
        }
        self.read = state;
        self.addresses.clear();
        self.names.clear();
        self.parse(&fs::read(file).unwrap_or_default());
    }

    fn parse(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let address =
                words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse::<IpAddr>().ok());
            let Some(address) = address else { continue };
            for name in words {
                let name: Box<[u8]> = name.to_ascii_lowercase().into();
                self.names.entry(address).or_insert_with(|| name.clone());
                let addresses = self.addresses.entry(name).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        // As the system's resolver orders them: IPv6 first, else as written.
        for addresses in self.addresses.values_mut() {
            addresses.sort_by_key(IpAddr::is_ipv4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_has_the_addresses_of_all_its_lines_ipv6_first() {
        let mut hosts = Hosts::default();
        hosts.parse(b"127.0.0.1\tlocalhost\n::1 localhost ip6-localhost # a comment\n#10.0.0.1 no\n10.1.2.3 DB db2\nbad line\n");
        let of = |name: &str| {
            hosts.addresses.get(name.as_bytes()).map(|all| all.iter().map(ToString::to_string).collect())
        };
        assert_eq!(of("localhost"), Some(vec!["::1".to_owned(), "127.0.0.1".to_owned()]));
        assert_eq!(of("db"), Some(vec!["10.1.2.3".to_owned()]));
        assert_eq!(of("no"), None);
        assert_eq!(
            hosts.names.get(&"10.1.2.3".parse::<IpAddr>().unwrap()).map(|name| &name[..]),
            Some(&b"db"[..])
        );
    }

    #[test]
    fn localhost_is_local_without_a_file() {
        let mut hosts = Hosts { read: None, ..Hosts::default() };
        assert_eq!(hosts.addresses(&name("app.localhost")).map(|all| all.len()), Some(2));
        assert_eq!(hosts.addresses(&name("localhost.example")), None);
    }

    #[test]
    fn localhost_is_loopback_unless_the_file_has_it_otherwise() {
        let localhost = |content: &[u8]| {
            let mut hosts = Hosts::default();
            hosts.refresh(Path::new(FILE));
            hosts.addresses.clear();
            hosts.parse(content);
            hosts.localhost()
        };
        assert_eq!(localhost(b""), Localhost::Both);
        assert_eq!(localhost(b"127.0.0.1 localhost\n::1 ip6-localhost localhost\n"), Localhost::Both);
        assert_eq!(localhost(b"127.0.0.1 localhost\n::1 ip6-localhost\n"), Localhost::V4);
        assert_eq!(localhost(b"::1 localhost\n"), Localhost::V6);
        assert_eq!(localhost(b"127.0.0.2 localhost\n"), Localhost::Unknown);
        assert_eq!(localhost(b"127.0.0.1 localhost\n192.0.2.1 localhost\n"), Localhost::Unknown);
    }
}

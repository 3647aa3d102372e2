//! The laboratory: client – proxy host – origin, each in its own namespaces.
//!
//! ```text
//!  client                    proxy                      origin
//!  10.77.0.2, fd77::2  ──►  10.77.0.1, fd77::1
//!                           10.88.0.1, fd88::1   ──►   10.88.0.2, fd88::2
//! ```
//!
//! The client has a default route through the proxy host and permanent neighbour entries for it, so a packet that
//! should not leave does leave, at once and without ARP, and is counted where it arrives (see [`crate::leak`]). Names
//! below `.test` are known on the proxy host only; the client's resolver is an address beyond the proxy host, so
//! that asking it is a leak. Nothing is shared with the machine's own network or with other labs: the addresses are
//! constants.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub use crate::addresses::{CLIENT, CLIENT6, ORIGIN, ORIGIN6, PROXY, PROXY6, UNREACHABLE};
use crate::host::Host;
use crate::leak::LeakWitness;
use crate::patience;
use crate::requirement;

/// A port of the origin on which nothing listens: connections are refused.
pub const REFUSED_PORT: u16 = 4;
/// A port of the origin that swallows every packet: connections time out.
pub const SILENT_PORT: u16 = 5;
/// The ports that the kernel gives sockets that are bound to none.
pub const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// The resolver that the client's /etc/resolv.conf names; asking it is a leak.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
/// The ordinary account of all three hosts, with [`PASSWORD`].
pub const USER: &str = "lab";
/// Its password.
pub const PASSWORD: &str = "secret";
/// Its user and group number.
pub const USER_ID: u32 = 61_000;

/// `openssl passwd -6 -salt presocks secret`
const PASSWORD_HASH: &str =
    "$6$presocks$SfeCqKCN4HB4TUUYm2BCwDDAeUfhmKcQ1b1cDcZOXQ4tVaMnLyjVWrK0MZW4I./qhkc9hIaQdzDjqHJROn.As0";

const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";

/// Known on the client only.
const NEAR_NAMES: &str = "10.77.0.1 proxy.lab\n";

/// Known on the proxy host only (and on the origin).
const FAR_NAMES: &str = "\
10.88.0.2 origin.test www.origin.test a.test b.test c.test
fd88::2 origin6.test
10.88.0.2 both.test
fd88::2 both.test
10.99.0.1 unreachable.test
";

/// Three hosts and the witness between them. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Lab {
    /// Where the commands under test run.
    pub client: Host,
    /// Where the proxies run; the only host that knows the names below `.test`.
    pub proxy: Host,
    /// Where the servers run.
    pub origin: Host,
    leak: LeakWitness,
    directory: TempDir,
}

impl Lab {
    /// Boots the three hosts and connects them. There is no lab on a machine that lacks what every lab needs: the test
    /// ends here, as [`crate::missing`] says.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "booting three hosts is no default")]
    pub fn new() -> Self {
        requirement::must_have(&[]);
        let directory = tempfile::Builder::new().prefix("presocks-lab-").tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("open the directory");
        let boot = |name, names: &str, resolver: &str| {
            Host::boot(name, &etc(directory.path(), name, names, resolver))
        };
        let resolver = format!("nameserver {RESOLVER}\noptions timeout:1 attempts:1\n");
        let client = boot("client", NEAR_NAMES, &resolver);
        let proxy = boot("proxy", FAR_NAMES, "");
        let origin = boot("origin", FAR_NAMES, "");
        connect(&client, &proxy, &origin);
        let leak = LeakWitness::post(&proxy);
        let lab = Self { client, proxy, origin, leak, directory };
        for (home, owner) in [("root-home", 0), ("user-home", USER_ID)] {
            let home = lab.directory().join(home);
            fs::create_dir(&home).expect("make a home");
            std::os::unix::fs::chown(&home, Some(owner), Some(owner)).expect("give a home");
        }
        lab
    }

    /// Fails, naming the packets, when anything left the client for anywhere but a proxy.
    pub fn assert_no_leak(&self) {
        let leaked = self.leaked();
        assert!(leaked.is_empty(), "packets left the client past the proxy:\n{}", leaked.join("\n"));
    }

    /// One line for each kind of packet that left the client for anywhere but a proxy.
    #[must_use]
    pub fn leaked(&self) -> Vec<String> {
        self.leak.leaked(&self.client, &self.proxy)
    }

    /// From now on TCP to this port of the proxy host is no leak.
    pub fn permit_proxy_port(&self, port: u16) {
        self.leak.permit_proxy_port(&self.proxy, port);
    }

    /// From now on TCP to this address and port, which are another host's than the proxy host's, is no leak and is forwarded.
    pub fn permit_proxy(&self, address: Ipv4Addr, port: u16) {
        self.leak.permit_proxy(&self.proxy, address, port);
    }

    /// From now on UDP to these ports of the proxy host is no leak, but for port 53: a proxy has its relay's sockets there.
    pub fn permit_relay_ports(&self, ports: RangeInclusive<u16>) {
        self.leak.permit_relay_ports(&self.proxy, &ports);
    }

    /// From now on packets to `destination` (an address or a network) are no leak and are forwarded.
    pub fn permit_direct(&self, destination: &str) {
        self.leak.permit_direct(&self.proxy, destination);
    }

    /// A directory for the test's own files, readable by all, gone with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the lab's directory and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory().join(name);
        fs::write(&path, content).expect("write a file of the lab");
        path
    }
}

/// Writes the files that stand in for those of /etc and returns their directory.
fn etc(directory: &Path, host: &str, names: &str, resolver: &str) -> PathBuf {
    let etc = directory.join(format!("etc-{host}"));
    fs::create_dir(&etc).expect("make an etc directory");
    let machine =
        |name: &str| fs::read_to_string(Path::new("/etc").join(name)).expect("read the machine's accounts");
    let files = [
        ("hosts", format!("{LOCALHOST}127.0.0.1 {host}\n{names}"), 0o644),
        ("resolv.conf", resolver.to_owned(), 0o644),
        ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n".to_owned(), 0o644),
        ("passwd", format!("{USER}:x:{USER_ID}:{USER_ID}::/:/bin/sh\n{}", machine("passwd")), 0o644),
        ("group", format!("{USER}:x:{USER_ID}:\n{}", machine("group")), 0o644),
        ("shadow", format!("{USER}:{PASSWORD_HASH}:19000::::::\n{}", machine("shadow")), 0o600),
    ];
    for (name, content, mode) in files {
        let path = etc.join(name);
        fs::write(&path, content).expect("write an etc file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set its mode");
    }
    etc
}

/// The same for another host that knows the far names, and these.
pub(crate) fn etc_with(lab: &Lab, host: &str, names: &str) -> PathBuf {
    etc(lab.directory(), host, &format!("{FAR_NAMES}{names}"), "")
}

/// Lays the two cables and gives the addresses.
fn connect(client: &Host, proxy: &Host, origin: &Host) {
    let (to_client, to_origin) = (client.number(), origin.number());
    let batch = |host: &Host, commands: &str| drop(host.setup(&["ip", "-batch", "-"], commands));
    batch(
        proxy,
        &format!(
            "link add to-client address 02:00:00:00:77:01 type veth peer name cable address 02:00:00:00:77:02 netns {to_client}
             link add to-origin address 02:00:00:00:88:01 type veth peer name cable address 02:00:00:00:88:02 netns {to_origin}
             link set to-client up
             link set to-origin up
            "
        ),
    );
    batch(client, "link set cable up\n");
    batch(origin, "link set cable up\n");
    // The kernel notices a new carrier in its own time (at once when asked about one device, since Linux 6.13);
    // routes and IPv6 addresses work only after that.
    for (host, cables) in
        [(client, &["cable"][..]), (proxy, &["to-client", "to-origin"]), (origin, &["cable"])]
    {
        for cable in cables {
            patience::wait_until("a cable to carry", || {
                host.setup(&["ip", "-oneline", "link", "show", "dev", cable], "").contains(" state UP ")
            });
        }
    }
    batch(
        proxy,
        &format!(
            "address add {PROXY} peer {CLIENT} dev to-client
             address add {PROXY6} peer {CLIENT6} dev to-client nodad
             address add 10.88.0.1/24 dev to-origin
             address add fd88::1/64 dev to-origin nodad
             neighbour add {CLIENT} lladdr 02:00:00:00:77:02 dev to-client nud permanent
             neighbour add {CLIENT6} lladdr 02:00:00:00:77:02 dev to-client nud permanent
             neighbour add {ORIGIN} lladdr 02:00:00:00:88:02 dev to-origin nud permanent
             neighbour add {ORIGIN6} lladdr 02:00:00:00:88:02 dev to-origin nud permanent
             route add unreachable 10.99.0.0/24
            "
        ),
    );
    batch(
        client,
        &format!(
            "address add {CLIENT} peer {PROXY} dev cable
             address add {CLIENT6} peer {PROXY6} dev cable nodad
             neighbour add {PROXY} lladdr 02:00:00:00:77:01 dev cable nud permanent
             neighbour add {PROXY6} lladdr 02:00:00:00:77:01 dev cable nud permanent
             route add default via {PROXY} dev cable onlink
             route add default via {PROXY6} dev cable onlink
            "
        ),
    );
    batch(
        origin,
        &format!(
            "address add {ORIGIN}/24 dev cable
             address add {ORIGIN6}/64 dev cable nodad
             neighbour add 10.88.0.1 lladdr 02:00:00:00:88:01 dev cable nud permanent
             neighbour add fd88::1 lladdr 02:00:00:00:88:01 dev cable nud permanent
             route add default via 10.88.0.1 dev cable onlink
             route add default via fd88::1 dev cable onlink
            "
        ),
    );
    origin.setup(
        &["nft", "-f", "-"],
        &format!("table inet lab {{ chain input {{ type filter hook input priority 0; tcp dport {SILENT_PORT} drop; }}; }}\n"),
    );
}

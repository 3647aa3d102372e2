//! Chains of two to five real proxies: order, credentials at each hop, which hop fails, and the ways to choose among them.

mod blame;
mod dynamic;
mod failing;
mod hostile;
mod line;
mod random;
mod round_robin;
mod strict;

use std::net::Ipv4Addr;

use presocks_tests::lab::CLIENT;
use presocks_tests::origin::Service;
use presocks_tests::proxy::{Dante, Embedded, Microsocks, SshDynamic, Tinyproxy, Upstream, of_kind};
use presocks_tests::{Hops, Invocation, Lab, Site, hops};

/// The programs that all kinds together need.
pub(crate) const NEEDS: [&str; 8] =
    ["danted", "microsocks", "ssh", "sshd", "ssh-keygen", "tinyproxy", "python3", "curl"];

/// Proxies that can be a chain's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Microsocks,
    MicrosocksWithPassword,
    DanteWithPassword,
    TinyproxyWithPassword,
    Ssh,
    SshBySocks4a,
    Embedded,
}

impl Kind {
    fn start(self, lab: &Lab, site: Site<'_>) -> Box<dyn Upstream> {
        match self {
            Self::Microsocks => Box::new(Microsocks::open_at(lab, site)),
            Self::MicrosocksWithPassword => Box::new(Microsocks::with_password_at(lab, site)),
            Self::DanteWithPassword => Box::new(Dante::with_password_at(lab, site)),
            Self::TinyproxyWithPassword => Box::new(Tinyproxy::with_password_at(lab, site)),
            Self::Ssh | Self::SshBySocks4a => Box::new(SshDynamic::open_at(lab, site)),
            Self::Embedded => Box::new(Embedded::open_at(lab, site)),
        }
    }

    fn url(self, running: &dyn Upstream) -> String {
        match self {
            Self::SshBySocks4a => of_kind("socks4a", &running.url()),
            _ => running.url(),
        }
    }
}

/// A proxy on each of some hosts.
pub(crate) struct Proxies {
    /// One may be missing or be replaced.
    pub(crate) running: Vec<Option<Box<dyn Upstream>>>,
    pub(crate) urls: Vec<String>,
    pub(crate) hops: Hops,
    pub(crate) lab: Lab,
}

impl Proxies {
    /// One of each of these, in a line.
    pub(crate) fn line(kinds: &[Kind]) -> Self {
        let lab = Lab::new();
        let hops = Hops::line(&lab, kinds.len());
        Self::start(lab, hops, kinds)
    }

    /// One of each of these, in a crowd.
    pub(crate) fn crowd(kinds: &[Kind]) -> Self {
        let lab = Lab::new();
        let hops = Hops::crowd(&lab, kinds.len());
        Self::start(lab, hops, kinds)
    }

    fn start(lab: Lab, hops: Hops, kinds: &[Kind]) -> Self {
        let running: Vec<_> =
            (1..).zip(kinds).map(|(number, kind)| kind.start(&lab, hops.site(number))).collect();
        let urls = kinds.iter().zip(&running).map(|(kind, running)| kind.url(running.as_ref())).collect();
        Self { running: running.into_iter().map(Some).collect(), urls, hops, lab }
    }

    /// Ends the proxy with this number, from 1 on: its port refuses from now on.
    pub(crate) fn kill(&mut self, number: usize) {
        self.running[number - 1] = None;
    }

    /// A command that goes through all of them, as the options say.
    pub(crate) fn presocks<'a>(&'a self, words: &[&str], options: &[&str]) -> Invocation<'a> {
        through(&self.lab, &self.urls, words, options)
    }

    /// How often each hop has been asked by another hop. (The client asks more often: it finds out what its proxies are like.)
    pub(crate) fn asked_by_others(&self) -> Vec<usize> {
        let by_others = |number| {
            let mut asked = self.hops.asked(number);
            asked.remove(&CLIENT);
            asked.values().sum()
        };
        (1..=self.hops.count()).map(by_others).collect()
    }

    /// How often the origin has been asked.
    pub(crate) fn arrived(&self) -> usize {
        self.hops.asked_of_origin(&self.lab).values().sum()
    }
}

/// A command that goes through these, as the options say.
pub(crate) fn through<'a>(lab: &'a Lab, urls: &[String], words: &[&str], options: &[&str]) -> Invocation<'a> {
    let chain = urls.iter().flat_map(|url| ["-p", url]);
    lab.presocks(words).options(chain).options(options)
}

/// Tells everybody who connects by whose hands: the number of the hop, on port 9000 of the origin.
pub(crate) fn tell_the_last_hop(lab: &Lab) -> Service {
    Service::start(lab, 9000, |mut stream| {
        let peer = stream.peer_addr()?.ip().to_canonical();
        let number = (1..=5).find(|number| hops::address(*number) == peer);
        let text = number.map_or_else(|| peer.to_string(), |number| number.to_string());
        std::io::Write::write_all(&mut stream, text.as_bytes())
    })
}

/// A program that connects to it so many times, one after the other, and prints what it hears, without anything between.
pub(crate) const WHO: &str = "
import socket, sys
for _ in range(int(sys.argv[1])):
    try:
        with socket.create_connection(('10.88.0.2', 9000)) as s: print(s.recv(100).decode(), end='')
    except OSError as error: print('x', end='')";

/// The address of the hop with this number, as it stands in a URL.
pub(crate) fn shown(number: usize) -> String {
    let address: Ipv4Addr = hops::address(number);
    format!("{address}:")
}

//! Whose datagrams stand for what: the book that the gates keep. Data only, no sockets.
//!
//! A **flow** is a program's socket, a destination, and the way there. It has a **token**, an address on loopback that is the broker's: what the program sends to
//! the token goes to the destination, and what comes from the destination comes to the program from the token. A connected socket
//! needs no token of its own: it is known by the address that it sends from.
//!
//! IPv4 has loopback addresses enough for each flow to have its own. IPv6 has one: its tokens are ports, which sockets that
//! send from different ports share.
//!
//! Everybody on this machine can send to a loopback address, so a datagram counts only when it comes from the port of
//! the token's own socket.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// IPv4 tokens are in 127.192.0.0/10, where nothing else has ever been seen.
const FIRST_TOKEN: u32 = 0x7fc0_0000;
const TOKENS: u32 = 1 << 22;

/// Most tokens at once: some 15 MB. Beyond, those that were not used for long make room.
const MOST: usize = 65_536;

/// A shim believes what it was told of a token for 30 s (`shim/src/flows.rs`), by a coarse clock.
const KNOWN: Duration = Duration::from_secs(40);

/// Which way a flow goes: by the chain with this index, or no further than our own name server.
pub(super) type Via = Option<usize>;

/// `SO_COOKIE` (socket(7)).
pub(super) type Cookie = u64;

/// A program's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) cookie: Cookie,
    /// Its number in /proc/net/udp.
    pub(super) inode: u64,
    /// The port from which it sends.
    pub(super) port: u16,
    /// The address that it is bound to, if it is to one.
    pub(super) ip: Option<IpAddr>,
    /// Is it an IPv6 socket?
    pub(super) is_v6: bool,
    /// Does it speak IPv4?
    pub(super) speaks_v4: bool,
}

impl Who {
    /// Does it speak both families?
    fn speaks_both(&self) -> bool {
        self.is_v6 && self.speaks_v4 && self.ip.is_none()
    }
}

/// A session's flows.
#[derive(Default)]
pub(super) struct Flows {
    sockets: HashMap<Cookie, Entry>,
    tokens: HashMap<Key, Token>,
    /// The IPv6 tokens.
    shared: Vec<SocketAddr>,
    /// Connected sockets, by the address that they send from.
    connected: HashMap<SocketAddr, Cookie>,
    /// All tokens, the oldest first; one that was used since gets another turn.
    turns: VecDeque<Key>,
    given: u32,
}

/// A token, and, for those that are shared, the port of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(SocketAddr, u16);

impl Key {
    fn new(token: SocketAddr, port: u16) -> Self {
        Self(token, if token.is_ipv4() { 0 } else { port })
    }
}

struct Entry {
    who: Who,
    /// The address from which the program was heard last.
    heard: Option<SocketAddr>,
    peer: Option<Peer>,
    tokens: HashMap<(SocketAddr, Via), SocketAddr>,
    /// The names of the program that used it last, where rules ask for them.
    program: Rc<[String]>,
    /// It was not in the kernel's list when that was read last.
    is_missed: bool,
}

/// How a socket is connected.
#[derive(Clone, Copy)]
struct Peer {
    destination: SocketAddr,
    via: Via,
    /// The gate's address.
    gate: SocketAddr,
    /// The socket's own.
    own: SocketAddr,
}

struct Token {
    cookie: Cookie,
    destination: SocketAddr,
    via: Via,
    is_used: bool,
    /// When a shim, which then knows it for a while, was told of it last.
    told: Instant,
}

/// How a datagram comes to a program's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WayBack {
    /// From this address of ours; `None` when the source has no token yet.
    pub(super) own: Option<SocketAddr>,
    /// To this address of the socket's.
    pub(super) to: SocketAddr,
}

impl Flows {
    /// The token for a flow, if it has one.
    pub(super) fn token(&mut self, who: Who, destination: SocketAddr, via: Via) -> Option<SocketAddr> {
        let token = *self.entry(who).tokens.get(&(destination, via))?;
        let known = self.tokens.get_mut(&Key::new(token, who.port))?;
        (known.is_used, known.told) = (true, Instant::now());
        Some(token)
    }

    /// An IPv4 token that no flow has, at the gate's port.
    pub(super) fn free_v4(&mut self, port: u16) -> SocketAddr {
        loop {
            let address = Ipv4Addr::from_bits(FIRST_TOKEN + self.given % TOKENS);
            self.given = self.given.wrapping_add(1);
            // Some programs take addresses that end in 0 or 255 for a network's.
            let [_, _, _, last] = address.octets();
            let token = SocketAddr::from((address, port));
            if !matches!(last, 0 | 255) && !self.tokens.contains_key(&Key::new(token, 0)) {
                return token;
            }
        }
    }

    /// An IPv6 token that no flow of a socket with this port has; `None` when there must be one more.
    pub(super) fn free_v6(&self, who: Who) -> Option<SocketAddr> {
        let taken = self.sockets.get(&who.cookie).map_or(0, |entry| entry.tokens.len());
        // Most often the tokens up to that one are taken, and the next is not.
        let (first, next) = self.shared.split_at_checked(taken).unwrap_or((&self.shared, &[]));
        let is_free = |token: &&SocketAddr| !self.tokens.contains_key(&Key::new(**token, who.port));
        next.iter().chain(first).find(is_free).copied()
    }

    /// There is one more IPv6 token.
    pub(super) fn share(&mut self, token: SocketAddr) {
        self.shared.push(token);
    }

    /// Gives a flow its token.
    pub(super) fn insert(&mut self, who: Who, destination: SocketAddr, via: Via, token: SocketAddr) {
        if self.tokens.len() >= MOST {
            self.make_room(|_, _| true);
        }
        self.entry(who).tokens.insert((destination, via), token);
        let key = Key::new(token, who.port);
        let told = Instant::now();
        self.tokens.insert(key, Token { cookie: who.cookie, destination, via, is_used: true, told });
        self.turns.push_back(key);
    }

    /// The book's page for a socket. When it has another port now, its shared tokens mean nothing any more.
    fn entry(&mut self, who: Who) -> &mut Entry {
        let tokens = &mut self.tokens;
        let entry = self.sockets.entry(who.cookie).or_insert_with(|| Entry {
            who,
            heard: None,
            peer: None,
            tokens: HashMap::new(),
            program: Rc::default(),
            is_missed: false,
        });
        let before = entry.who.port;
        if before != who.port {
            entry
                .tokens
                .retain(|_, token| token.is_ipv4() || tokens.remove(&Key::new(*token, before)).is_none());
        }
        entry.who = who;
        entry
    }

    /// Takes an IPv6 token from the flow of this port that was not used for longest; not from one that a shim may still know: its datagrams would
    /// go to whoever has the token then.
    pub(super) fn free_one(&mut self, port: u16, now: Instant) {
        self.make_room(|key, token| key.1 == port && now.saturating_duration_since(token.told) > KNOWN);
    }

    fn make_room(&mut self, may_go: impl Fn(Key, &Token) -> bool) {
        // Twice round: whoever was used has lost that by the second time.
        for _ in 0..2 * self.turns.len() {
            let Some(key) = self.turns.pop_front() else { return };
            match self.tokens.get_mut(&key) {
                // Of a socket that is gone.
                None => {}
                Some(token) if !may_go(key, token) => self.turns.push_back(key),
                Some(used) if used.is_used => {
                    used.is_used = false;
                    self.turns.push_back(key);
                }
                Some(_) => {
                    if let Some(removed) = self.tokens.remove(&key)
                        && let Some(entry) = self.sockets.get_mut(&removed.cookie)
                    {
                        entry.tokens.remove(&(removed.destination, removed.via));
                    }
                    return;
                }
            }
        }
    }

    /// Is another socket connected that sends from this address?
    pub(super) fn is_taken(&self, own: SocketAddr, cookie: Cookie) -> bool {
        self.connected.get(&own).is_some_and(|other| *other != cookie)
    }

    /// The socket is connected to `gate`, and sends from `own`.
    pub(super) fn connect(
        &mut self,
        who: Who,
        (destination, via): (SocketAddr, Via),
        gate: SocketAddr,
        own: SocketAddr,
    ) {
        self.forget_peer(who.cookie);
        self.connected.insert(own, who.cookie);
        self.entry(who).peer = Some(Peer { destination, via, gate, own });
    }

    /// The socket is connected elsewhere, or to nothing. Was it connected to a gate?
    pub(super) fn forget_peer(&mut self, cookie: Cookie) -> bool {
        let peer = self.sockets.get_mut(&cookie).and_then(|entry| entry.peer.take());
        if let Some(peer) = peer
            && self.connected.get(&peer.own) == Some(&cookie)
        {
            self.connected.remove(&peer.own);
        }
        peer.is_some()
    }

    /// Whose datagram it is that came from `from` to `to`, one of ours, and where it is to go.
    pub(super) fn recognise(
        &mut self,
        to: SocketAddr,
        from: SocketAddr,
    ) -> Option<(Cookie, SocketAddr, Via)> {
        let (cookie, destination, via) = match self.tokens.get_mut(&Key::new(to, from.port())) {
            Some(token) => {
                token.is_used = true;
                (token.cookie, token.destination, token.via)
            }
            None => {
                let cookie = *self.connected.get(&from)?;
                let peer = self.sockets.get(&cookie)?.peer.filter(|peer| peer.gate == to)?;
                (cookie, peer.destination, peer.via)
            }
        };
        let is_from = |who: Who| who.port == from.port() && who.ip.is_none_or(|ip| ip == from.ip());
        let entry = self.sockets.get_mut(&cookie).filter(|entry| is_from(entry.who))?;
        entry.heard = Some(from);
        Some((cookie, destination, via))
    }

    /// How a datagram of `source` that came by `via` comes to the socket; `None` when it is connected to somebody else, or gone.
    pub(super) fn way_back(&self, cookie: Cookie, source: SocketAddr, via: Via) -> Option<WayBack> {
        let entry = self.sockets.get(&cookie)?;
        if let Some(peer) = entry.peer.filter(|peer| (peer.destination, peer.via) == (source, via)) {
            return Some(WayBack { own: Some(peer.gate), to: peer.own });
        }
        let own = entry.tokens.get(&(source, via)).copied();
        // The kernel lets a connected socket hear its peer alone.
        if own.is_none() && entry.peer.is_some() {
            return None;
        }
        let heard = entry.heard?;
        // A socket of both families has an address in each. Another's address in the other family is somebody else's.
        let to = match own.unwrap_or(source) {
            SocketAddr::V4(_) if heard.is_ipv4() => heard,
            SocketAddr::V6(_) if heard.is_ipv6() => heard,
            _ if !entry.who.speaks_both() => return None,
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, heard.port()).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, heard.port()).into(),
        };
        Some(WayBack { own, to })
    }

    /// Whom `address` stands for to this socket.
    pub(super) fn origin(&mut self, cookie: Cookie, address: SocketAddr) -> Option<SocketAddr> {
        let port = self.sockets.get(&cookie)?.who.port;
        let token = self.tokens.get_mut(&Key::new(address, port))?;
        token.told = Instant::now();
        // Sockets that share a port (SO_REUSEPORT) may get each other's answers.
        let is_of_port = self.sockets.get(&token.cookie).is_some_and(|entry| entry.who.port == port);
        is_of_port.then_some(token.destination)
    }

    /// Which way the socket's connection goes, if it is connected to a gate.
    pub(super) fn peer_via(&self, cookie: Cookie) -> Option<Via> {
        Some(self.sockets.get(&cookie)?.peer?.via)
    }

    /// A program that goes by these names uses the socket.
    pub(super) fn note_program(&mut self, cookie: Cookie, names: Vec<String>) {
        if let Some(entry) = self.sockets.get_mut(&cookie) {
            entry.program = names.into();
        }
    }

    /// The names of the program that used it last.
    pub(super) fn program(&self, cookie: Cookie) -> Rc<[String]> {
        self.sockets.get(&cookie).map(|entry| Rc::clone(&entry.program)).unwrap_or_default()
    }

    /// As the book has it.
    pub(super) fn who(&self, cookie: Cookie) -> Option<Who> {
        Some(self.sockets.get(&cookie)?.who)
    }

    /// Has this socket a flow?
    pub(super) fn has(&self, cookie: Cookie) -> bool {
        self.sockets.contains_key(&cookie)
    }

    /// Is there none?
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Closes the book on sockets that are not among `open` for the second time: one that is being moved in the kernel's table may be
    /// missing once. Returns their cookies.
    pub(super) fn sweep(&mut self, open: &HashSet<u64>) -> Vec<Cookie> {
        let mut gone = Vec::new();
        for (cookie, entry) in &mut self.sockets {
            let was_missed = entry.is_missed;
            entry.is_missed = !open.contains(&entry.who.inode);
            if entry.is_missed && was_missed {
                gone.push(*cookie);
            }
        }
        for cookie in &gone {
            self.forget_peer(*cookie);
            if let Some(entry) = self.sockets.remove(cookie) {
                for token in entry.tokens.into_values() {
                    self.tokens.remove(&Key::new(token, entry.who.port));
                }
            }
        }
        if self.turns.len() > 2 * self.tokens.len() {
            let known = &self.tokens;
            self.turns.retain(|key| known.contains_key(key));
        }
        gone
    }
}

#[cfg(test)]
mod tests;

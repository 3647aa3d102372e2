//! A proxy that serves UDP ASSOCIATE in the way that its test wants, and remembers what came of it.
//!
//! There is nobody behind it: it sends every datagram back as if its destination had. What it sends in place of that
//! answer is the test's, header and all.
//!
//! ```ignore
//! let proxy = Relay::new().answering(|answer| vec![(From::AnotherPort, answer.to_vec())]).start(&lab);
//! …
//! assert_eq!(proxy.associations()[0].datagrams[0].to, "origin.test:7");
//! ```

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Upstream, url};
use crate::host::Door;
use crate::lab::{EPHEMERAL, Lab, ORIGIN, PROXY, PROXY6};
use crate::patience;

/// As long as any datagram.
const LONGEST: usize = 65_535;

/// The address of the relay as the proxy gives it in its reply.
#[derive(Clone, Copy, Debug, Default)]
pub enum Bound {
    /// Its own.
    #[default]
    Own,
    /// Its own IPv6 address.
    Own6,
    /// 0.0.0.0.
    Unspecified,
    /// ::
    Unspecified6,
    /// A name, `proxy.lab`, which the client knows.
    Name,
    /// The proxy host's own address as an IPv4-mapped IPv6 address.
    Mapped,
    /// An address where there is nothing, and which is no proxy's.
    Nowhere,
    /// Its own address, and port 0.
    NoPort,
}

/// Which socket an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The relay's.
    Relay,
    /// One with another port of the same host.
    AnotherPort,
    /// One with another address of the proxy host.
    AnotherAddress,
}

/// What is sent for an answer.
type Answering = Arc<dyn Fn(&[u8]) -> Vec<(From, Vec<u8>)> + Send + Sync>;

/// How a relay is to behave.
#[derive(Clone)]
pub struct Relay {
    bound: Bound,
    reply: u8,
    hangs_up_after: Option<usize>,
    most: usize,
    answering: Answering,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("bound", &self.bound)
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// A good one, which sends everything back.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is the beginning of a chain")]
    pub fn new() -> Self {
        let answering = Arc::new(|answer: &[u8]| vec![(From::Relay, answer.to_vec())]);
        Self { bound: Bound::Own, reply: 0, hangs_up_after: None, most: usize::MAX, answering }
    }

    /// Says that its address is this.
    #[must_use]
    pub fn bound(self, bound: Bound) -> Self {
        Self { bound, ..self }
    }

    /// Answers every request with this code.
    #[must_use]
    pub fn reply(self, reply: u8) -> Self {
        Self { reply, ..self }
    }

    /// Opens so many associations, and answers further requests with reply 1.
    #[must_use]
    pub fn opens_at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Closes an association's TCP connection once this many datagrams have come, and after the last one's answer.
    #[must_use]
    pub fn hangs_up_after(self, datagrams: usize) -> Self {
        Self { hangs_up_after: Some(datagrams), ..self }
    }

    /// Sends these instead of each answer. `answer` begins with the SOCKS header.
    #[must_use]
    pub fn answering(
        self,
        answering: impl Fn(&[u8]) -> Vec<(From, Vec<u8>)> + Send + Sync + 'static,
    ) -> Self {
        Self { answering: Arc::new(answering), ..self }
    }

    /// Starts the proxy on the proxy host, on a port of its own.
    #[must_use]
    pub fn start(self, lab: &Lab) -> ScriptedRelay {
        let listener = lab.proxy.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("listen"));
        let port = listener.local_addr().expect("an address").port();
        lab.permit_proxy_port(port);
        lab.permit_relay_ports(EPHEMERAL);
        let proxy = ScriptedRelay { port, associations: Arc::default() };
        let (associations, door) = (Arc::clone(&proxy.associations), lab.proxy.door());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (relay, associations, door) = (self.clone(), Arc::clone(&associations), door.clone());
                // A client that goes away is the client's business: the test looks at the client.
                thread::spawn(move || drop(relay.serve(&stream, &associations, &door)));
            }
        });
        proxy
    }

    /// Serves one client.
    fn serve(
        &self,
        mut stream: &TcpStream,
        associations: &Mutex<Vec<Arc<Mutex<Association>>>>,
        door: &Door,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let [_, methods] = read(stream)?;
        stream.read_exact(&mut vec![0; methods.into()])?;
        stream.write_all(&[5, 0])?;
        let [_, command, _, kind] = read(stream)?;
        let rest = match kind {
            1 => 4,
            4 => 16,
            _ => usize::from(read::<1>(stream)?[0]),
        };
        stream.read_exact(&mut vec![0; rest + 2])?;
        if command != 3 || self.reply != 0 {
            let code = if command == 3 { self.reply } else { 7 };
            return stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        if associations.lock().expect("no panic").len() >= self.most {
            return stream.write_all(&[5, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        let (relay, stranger, neighbour) = door.inside(|| {
            let socket = |port| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port));
            Ok::<_, io::Error>((socket(0)?, socket(0)?, UdpSocket::bind((Ipv4Addr::new(10, 88, 0, 1), 0))?))
        })?;
        let association = Arc::new(Mutex::new(Association::default()));
        associations.lock().expect("no panic").push(Arc::clone(&association));
        let over = AtomicBool::new(false);
        relay.set_read_timeout(Some(Duration::from_millis(10)))?;
        stream.write_all(&self.bound.reply(relay.local_addr()?.port()))?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let sockets = [&relay, &stranger, &neighbour];
                let _ = self.relay(sockets, &association, &over);
                let _ = stream.shutdown(Shutdown::Both);
            });
            let _ = io::copy(&mut { stream }, &mut io::sink());
            over.store(true, Ordering::SeqCst);
        });
        association.lock().expect("no panic").over = true;
        Ok(())
    }

    /// Answers datagrams until the association is over.
    fn relay(
        &self,
        [relay, stranger, neighbour]: [&UdpSocket; 3],
        association: &Mutex<Association>,
        over: &AtomicBool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        while !over.load(Ordering::SeqCst) {
            let (len, client) = match relay.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            let datagram = Datagram::read(&buffer[..len]);
            let mut answer = vec![0; 3];
            answer.extend(datagram.sender());
            answer.extend(&datagram.payload);
            let count = {
                let mut association = association.lock().expect("no panic");
                association.clients.push(client);
                association.datagrams.push(datagram);
                association.datagrams.len()
            };
            for (from, bytes) in (self.answering)(&answer) {
                let socket = match from {
                    From::Relay => relay,
                    From::AnotherPort => stranger,
                    From::AnotherAddress => neighbour,
                };
                let client = match (from, client) {
                    (From::AnotherAddress, SocketAddr::V6(client)) => {
                        (client.ip().to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED), client.port()).into()
                    }
                    _ => client,
                };
                socket.send_to(&bytes, client)?;
            }
            if self.hangs_up_after == Some(count) {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Bound {
    fn reply(self, port: u16) -> Vec<u8> {
        let mut reply = vec![5, 0, 0];
        let v4 = |address: Ipv4Addr| [&[1][..], &address.octets()].concat();
        let v6 = |address: Ipv6Addr| [&[4][..], &address.octets()].concat();
        reply.extend(match self {
            Self::Own | Self::NoPort => v4(PROXY),
            Self::Own6 => v6(PROXY6),
            Self::Unspecified => v4(Ipv4Addr::UNSPECIFIED),
            Self::Unspecified6 => v6(Ipv6Addr::UNSPECIFIED),
            Self::Name => b"\x03\x09proxy.lab".to_vec(),
            Self::Mapped => v6(PROXY.to_ipv6_mapped()),
            Self::Nowhere => v4(Ipv4Addr::new(192, 0, 2, 1)),
        });
        reply.extend(if matches!(self, Self::NoPort) { 0 } else { port }.to_be_bytes());
        reply
    }
}

/// A running proxy.
#[derive(Clone, Debug)]
pub struct ScriptedRelay {
    port: u16,
    associations: Arc<Mutex<Vec<Arc<Mutex<Association>>>>>,
}

/// What is known of one association.
#[derive(Clone, Debug, Default)]
pub struct Association {
    /// What came, in this order.
    pub datagrams: Vec<Datagram>,
    /// Where each came from.
    pub clients: Vec<SocketAddr>,
    /// Its TCP connection has ended.
    pub over: bool,
}

/// A datagram that the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where to, as `host:port`; the whole of it in hexadecimal when it cannot be read.
    pub to: String,
    /// Whether that is a name.
    pub is_named: bool,
    /// Its payload.
    pub payload: Vec<u8>,
    address: Vec<u8>,
}

impl Datagram {
    fn read(bytes: &[u8]) -> Self {
        let unreadable = || Self {
            to: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            is_named: false,
            payload: Vec::new(),
            address: Vec::new(),
        };
        let length = match bytes {
            [0, 0, 0, 1, ..] => 4,
            [0, 0, 0, 4, ..] => 16,
            [0, 0, 0, 3, length, ..] => 1 + usize::from(*length),
            _ => return unreadable(),
        };
        let Some((head, payload)) = bytes.split_at_checked(4 + length + 2) else { return unreadable() };
        let (address, port) = head[4..].split_at(length);
        let host = match head[3] {
            1 => Ipv4Addr::from(<[u8; 4]>::try_from(address).expect("four bytes")).to_string(),
            4 => format!("[{}]", Ipv6Addr::from(<[u8; 16]>::try_from(address).expect("sixteen bytes"))),
            _ => String::from_utf8_lossy(&address[1..]).into_owned(),
        };
        Self {
            to: format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])),
            is_named: head[3] == 3,
            payload: payload.to_vec(),
            address: head[3..].to_vec(),
        }
    }

    /// The address of the answer, as in a header: the destination's, and for a name the origin's.
    fn sender(&self) -> Vec<u8> {
        match self.address.split_last_chunk::<2>() {
            Some((_, port)) if self.is_named => [&[1][..], &ORIGIN.octets(), port].concat(),
            _ => self.address.clone(),
        }
    }
}

impl ScriptedRelay {
    /// What is known of each association so far, in the order of their arrival.
    #[must_use]
    pub fn associations(&self) -> Vec<Association> {
        let associations = self.associations.lock().expect("no panic");
        associations.iter().map(|association| association.lock().expect("no panic").clone()).collect()
    }

    /// Waits until all of them are over, and at least `count`.
    #[must_use]
    pub fn finished(&self, count: usize) -> Vec<Association> {
        patience::wait_for(&format!("{count} associations to end"), || {
            let associations = self.associations();
            let over = associations.iter().filter(|association| association.over).count();
            (over >= count && over == associations.len()).then_some(associations)
        })
    }
}

impl Upstream for ScriptedRelay {
    fn url(&self) -> String {
        url(None, self.port)
    }
}

fn read<const LEN: usize>(mut stream: &TcpStream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

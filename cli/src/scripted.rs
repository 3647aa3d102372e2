//! For tests of services, without namespaces: proxies on loopback that do as a test says, and what a service needs beside them.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::task::LocalSet;

use crate::descriptors::Descriptors;
use crate::policy::route::{Chain, Order, Routes, Verdict};
use crate::proxy::Proxy;
use crate::upstream::chain::Chains;
use crate::upstream::dialer::Dialer;
use crate::upstream::limits::Timeouts;
use crate::upstream::relay::Relays;

/// Replies of RFC 1928.
pub(crate) const SUCCEEDED: u8 = 0;
pub(crate) const REFUSED: u8 = 5;

pub(crate) const CONNECT: u8 = 1;

/// Long enough for loopback, and short enough to be waited for.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(5),
    whole: Duration::from_secs(10),
};

/// A SOCKS5 proxy.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    asked: Receiver<String>,
}

/// A request: its command, and what it is for, `HOST:PORT`.
pub(crate) struct Request {
    pub(crate) command: u8,
    pub(crate) target: String,
    pub(crate) connection: TcpStream,
}

impl Scripted {
    /// One that has each request served by `script`, in a thread.
    pub(crate) fn new(script: impl Fn(Request) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = channel();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (script, tell) = (script.clone(), tell.clone());
                thread::spawn(move || {
                    let Some(request) = greet(connection.unwrap()) else { return };
                    let _ = tell.send(request.target.clone());
                    script(request);
                });
            }
        });
        Self { address, asked }
    }

    /// One that connects to everybody, who says again what is said.
    pub(crate) fn echo() -> Self {
        Self::new(|mut request| {
            request.reply(SUCCEEDED, any());
            let mut buffer = [0; 256];
            while let Ok(len @ 1..) = request.connection.read(&mut buffer) {
                request.connection.write_all(&buffer[..len]).unwrap();
            }
        })
    }

    /// One that refuses with this reply.
    pub(crate) fn refusing(code: u8) -> Self {
        Self::new(move |mut request| request.reply(code, any()))
    }

    pub(crate) fn url(&self) -> String {
        format!("socks5://{}", self.address)
    }

    /// What it has been asked for since this was last called.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

impl Request {
    pub(crate) fn reply(&mut self, code: u8, bound: SocketAddr) {
        let SocketAddr::V4(bound) = bound else { panic!("IPv4 alone is scripted") };
        let mut reply = vec![5, code, 0, 1];
        reply.extend(bound.ip().octets());
        reply.extend(bound.port().to_be_bytes());
        // A test may be over.
        let _ = self.connection.write_all(&reply);
    }
}

/// `None` when nothing is asked.
fn greet(mut connection: TcpStream) -> Option<Request> {
    let mut head = [0; 2];
    connection.read_exact(&mut head).ok()?;
    connection.read_exact(&mut vec![0; head[1].into()]).ok()?;
    connection.write_all(&[5, 0]).ok()?;
    let mut head = [0; 4];
    connection.read_exact(&mut head).ok()?;
    let mut bytes = |len: usize| {
        let mut bytes = vec![0; len];
        connection.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let host = match head[3] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes(4)?).ok()?).to_string(),
        3 => {
            let len = bytes(1)?[0];
            String::from_utf8(bytes(len.into())?).ok()?
        }
        kind => panic!("address type {kind} is not scripted"),
    };
    let port = u16::from_be_bytes(bytes(2)?.try_into().ok()?);
    Some(Request { command: head[1], target: format!("{host}:{port}"), connection })
}

fn any() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// One chain, and no rule.
pub(crate) fn routes(urls: &[String], order: Order) -> Routes {
    let proxies = urls.iter().map(|url| Proxy::parse(url).unwrap()).collect();
    let chain = Chain { name: "proxy".into(), proxies, order, passes_over_refusals: false };
    Routes { chains: vec![chain], rules: Vec::new(), fallback: Verdict::Chain(0), rewrites: Vec::new() }
}

/// A dialer for these routes, and the proxies without which its attempts have gone on.
pub(crate) fn dialer(routes: &Routes) -> (Rc<Dialer>, Rc<RefCell<Vec<String>>>) {
    let passed_over = Rc::<RefCell<Vec<String>>>::default();
    let told = Rc::clone(&passed_over);
    let relays = Rc::new(Relays::new(Rc::new(Descriptors::new()), TIMEOUTS.connect));
    let tell = move |proxy: &Proxy, _: &_| told.borrow_mut().push(proxy.to_string());
    let dialer = Dialer::new(Chains::new(routes, &[]), TIMEOUTS, None, relays, tell).unwrap();
    (Rc::new(dialer), passed_over)
}

/// As the broker runs.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

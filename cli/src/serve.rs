//! `presocks --serve ADDRESS:PORT`: a plain SOCKS5 server, to try things out with and for the demo.
//!
//! The handshake is the library's (fast-socks5); this file says what may be asked for: CONNECT, to an address or to a
//! name, which is resolved here, and UDP ASSOCIATE ([`udp`]; the library's own would cut datagrams short, hear anybody
//! and let all wait for one name). BIND is refused with reply 7. Nothing that a client sends ends the server, and every
//! request that fails is one line on stderr.
//!
//! **It has no access control**: whoever can reach its address can use it. Bind it to loopback.

mod udp;

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fast_socks5::server::{Socks5ServerProtocol, SocksServerError};
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use presocks_proto::socks5::Target;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use udp::Association;

/// A client that has not said what it wants by then is let go.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long one address of a destination may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long to wait when no connection can be accepted, as when no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Threads that resolve names, no more than this many at once.
const RESOLVERS: usize = 16;

/// Serves on `address` until the process is killed.
///
/// # Errors
/// One sentence, when it cannot listen there.
pub(crate) fn run(address: &str) -> Result<(), String> {
    let server = Server::bind(address)?;
    say(format_args!("SOCKS5 server listening on {}", server.address));
    if !server.address.ip().is_loopback() {
        say(format_args!(
            "this server has no access control: whoever can reach {} can use it",
            server.address
        ));
    }
    server.run(|request| {
        if let Err(why) = &request.outcome {
            say(format_args!("{request}: {why}"));
        }
    })
}

/// A server that listens and does not serve yet.
pub(crate) struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    known: Option<Known>,
}

/// A destination that the server knows by itself, whatever the resolver thinks of its name.
struct Known {
    name: &'static str,
    port: u16,
    address: SocketAddr,
}

impl Known {
    fn is(&self, name: &str, port: u16) -> bool {
        name.eq_ignore_ascii_case(self.name) && port == self.port
    }
}

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Who asked.
    pub(crate) client: SocketAddr,
    /// What for, as `host:port`, safe to print; `None` when the client never said it.
    pub(crate) target: Option<String>,
    /// The near end of the connection to the destination, or why there is none. For an association, where it listens.
    pub(crate) outcome: Result<SocketAddr, String>,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(f, "{} asked for {target}", self.client),
            None => write!(f, "{} made no valid request", self.client),
        }
    }
}

impl Server {
    /// Listens on `address`, as `host:port`; port 0 picks a free one.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn bind(address: &str) -> Result<Self, String> {
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidInput => {
                format!("cannot listen on {address:?}: not ADDRESS:PORT, such as 127.0.0.1:1080")
            }
            _ => format!("cannot listen on {address}: {error}"),
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(RESOLVERS)
            .build()
            .map_err(cannot)?;
        let listener = runtime.block_on(listen(address)).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Self { runtime, listener, address, known: None })
    }

    /// Makes requests for `name` and `port` go to `address`, and never to the resolver.
    pub(crate) fn knowing(mut self, name: &'static str, port: u16, address: SocketAddr) -> Self {
        self.known = Some(Known { name, port, address });
        self
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever. `report` hears of each request as soon as its outcome is known, before the client does.
    pub(crate) fn run(self, report: impl Fn(Request) + Send + Sync + 'static) -> ! {
        let Self { runtime, listener, known, .. } = self;
        let report = Arc::new(report);
        let known = Arc::new(known);
        runtime.block_on(async move {
            let mut accepting = true;
            loop {
                match listener.accept().await {
                    Ok((stream, client)) => {
                        accepting = true;
                        let (report, known) = (Arc::clone(&report), Arc::clone(&known));
                        tokio::spawn(async move { serve(stream, client, (*known).as_ref(), &*report).await });
                    }
                    Err(error) => {
                        // One line for as long as it lasts.
                        if accepting {
                            say(format_args!("cannot accept connections: {error}"));
                        }
                        accepting = false;
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }
}

/// Listens at the first address that can be had. At loopback only what comes by lo is answered, and by lo alone: else IPv6 would answer
/// a client whose address has left this machine wherever that is then.
async fn listen(address: &str) -> io::Result<TcpListener> {
    const QUEUE: u32 = 1024;
    let mut last = io::ErrorKind::InvalidInput.into();
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        if address.ip().to_canonical().is_loopback() {
            // All kernels since 5.7 permit it.
            let _ = socket.bind_device(Some(b"lo"));
        }
        match socket.bind(address).and_then(|()| socket.listen(QUEUE)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Serves one client from its first byte to its last.
async fn serve(stream: TcpStream, client: SocketAddr, known: Option<&Known>, report: &impl Fn(Request)) {
    let report = |target, outcome| {
        report(Request { client, target, outcome });
    };
    let server = stream.local_addr();
    let request = timeout(REQUEST_LIMIT, async {
        Socks5ServerProtocol::accept_no_auth(stream).await?.read_command().await
    });
    let (protocol, command, target) = match request.await {
        Ok(Ok(request)) => request,
        // It came, perhaps to see whether someone listens, and left.
        Ok(Err(SocksServerError::Io { source, .. })) if source.kind() == io::ErrorKind::UnexpectedEof => {
            return;
        }
        Ok(Err(error)) => return report(None, Err(error.to_string())),
        Err(_) => return report(None, Err("no complete request in time".to_owned())),
    };
    // A name comes as the client wrote it and must not steer a terminal.
    let shown = Some(target.to_string().escape_default().to_string());
    let served = match command {
        Socks5Command::TCPConnect => connect(&target, known).await,
        Socks5Command::UDPAssociate => associate(server, client).await,
        Socks5Command::TCPBind => Err(Failure::unsupported("BIND")),
    };
    match served {
        Ok((far, bound)) => {
            report(shown, Ok(bound));
            // From here on either side ends it as it likes, and that is no failure of the request.
            let Ok(mut near) = protocol.reply_success(bound).await else {
                return;
            };
            let _ = near.set_nodelay(true);
            match far {
                Far::Connection(mut far) => drop(tokio::io::copy_bidirectional(&mut near, &mut far).await),
                Far::Association(association) => {
                    let unresolved = |target: Target, error: io::Error| {
                        report(Some(format!("{target} (UDP)")), Err(Failure::unresolved(&error).why));
                    };
                    association.serve(near, known, unresolved).await;
                }
            }
        }
        Err(failure) => {
            report(shown, Err(failure.why));
            let _ = protocol.reply_error(&failure.reply).await;
        }
    }
}

/// What a client has got.
enum Far {
    Connection(TcpStream),
    Association(Box<Association>),
}

/// Why a request failed, for the client and for the log.
struct Failure {
    reply: ReplyError,
    why: String,
}

impl Failure {
    fn unsupported(command: &str) -> Self {
        Self {
            reply: ReplyError::CommandNotSupported,
            why: format!("{command} is not served here, only CONNECT and UDP ASSOCIATE are"),
        }
    }

    fn unresolved(why: &dyn fmt::Display) -> Self {
        Self { reply: ReplyError::HostUnreachable, why: format!("the name cannot be resolved: {why}") }
    }

    /// RFC 1928 section 6.
    fn unreached(address: SocketAddr, error: &io::Error) -> Self {
        let reply = match error.kind() {
            io::ErrorKind::ConnectionRefused => ReplyError::ConnectionRefused,
            io::ErrorKind::NetworkUnreachable => ReplyError::NetworkUnreachable,
            io::ErrorKind::HostUnreachable => ReplyError::HostUnreachable,
            io::ErrorKind::TimedOut => ReplyError::TtlExpired,
            io::ErrorKind::PermissionDenied => ReplyError::ConnectionNotAllowed,
            _ => ReplyError::GeneralFailure,
        };
        Self { reply, why: format!("no connection to {address}: {error}") }
    }
}

/// Connects to the first address of `target` that answers; gives the connection and its near end.
async fn connect(target: &TargetAddr, known: Option<&Known>) -> Result<(Far, SocketAddr), Failure> {
    let mut failure = Failure::unresolved(&"it has no address");
    for address in addresses(target, known).await? {
        match connect_to(address).await {
            Ok((stream, bound)) => return Ok((Far::Connection(stream), bound)),
            Err(error) => failure = Failure::unreached(address, &error),
        }
    }
    Err(failure)
}

async fn addresses(target: &TargetAddr, known: Option<&Known>) -> Result<Vec<SocketAddr>, Failure> {
    match target {
        TargetAddr::Ip(address) => Ok(vec![*address]),
        TargetAddr::Domain(name, port) => match known {
            Some(known) if known.is(name, *port) => Ok(vec![known.address]),
            _ => match lookup_host((name.as_str(), *port)).await {
                Ok(addresses) => Ok(addresses.collect()),
                Err(error) => Err(Failure::unresolved(&error)),
            },
        },
    }
}

/// Opens an association for `client`, which has reached this machine at `server`; gives the address to send to.
async fn associate(server: io::Result<SocketAddr>, client: SocketAddr) -> Result<(Far, SocketAddr), Failure> {
    let association = match server {
        Ok(server) => Association::open(server.ip(), client.ip()).await,
        Err(error) => Err(error),
    };
    let opened = association.and_then(|association| Ok((association.address()?, association)));
    match opened {
        Ok((address, association)) => Ok((Far::Association(Box::new(association)), address)),
        Err(error) => Err(Failure {
            reply: ReplyError::GeneralFailure,
            why: format!("no socket for datagrams: {error}"),
        }),
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // Each side has chosen its own segments already; holding them back helps nobody.
    let _ = stream.set_nodelay(true);
    let near_end = stream.local_addr()?;
    Ok((stream, near_end))
}

/// A line on stderr. That nobody reads it is no reason to stop.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "presocks: {line}");
}

#[cfg(test)]
mod tests;

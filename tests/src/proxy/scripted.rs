//! A proxy that does what its script says to every connection, and remembers what it received.
//!
//! ```ignore
//! let gate = Gate::closed();
//! let proxy = Script::new().expect(3).send([5, 0]).request().pass(&gate).send(SUCCESS).relay(address).start(&lab);
//! ```

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::{Upstream, of_kind, url_at};
use crate::host::Door;
use crate::lab::Lab;
use crate::patience;
use crate::site::Site;

/// A SOCKS5 reply: success, bound to 0.0.0.0:0.
pub const SUCCESS: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// A SOCKS5 reply with this code, bound to 0.0.0.0:0.
#[must_use]
pub fn reply(code: u8) -> [u8; 10] {
    [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// One step of a script.
#[derive(Clone, Debug)]
enum Step {
    Expect(usize),
    Until(Vec<u8>),
    Greeting,
    Credentials,
    Request,
    Send(Vec<u8>),
    Dribble(Vec<u8>),
    Urgent(Vec<u8>),
    Pass(Gate),
    Relay(SocketAddr),
    RelayUntil(SocketAddr, Gate),
    ReadAll,
    Reset,
    Close,
    WhenPipelined(Box<Script>),
}

/// What a proxy does with each connection, in order; at the end the connection is closed.
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: Vec<Step>,
    /// For all connections after the first, if it is another.
    later: Option<Box<Script>>,
    /// How many have been played by [`Script::when_pipelined`].
    played: Arc<AtomicUsize>,
}

impl Script {
    /// An empty one: accept and close.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A polite proxy up to the request: greeting, "no authentication", request. The answer is yours.
    #[must_use]
    pub fn until_request() -> Self {
        Self::new().greeting().send([5, 0]).request()
    }

    /// Receives exactly `count` bytes.
    #[must_use]
    pub fn expect(self, count: usize) -> Self {
        self.with(Step::Expect(count))
    }

    /// Receives bytes up to these.
    #[must_use]
    pub fn until(self, end: impl AsRef<[u8]>) -> Self {
        self.with(Step::Until(end.as_ref().to_owned()))
    }

    /// Receives a SOCKS5 greeting, however many methods it offers.
    #[must_use]
    pub fn greeting(self) -> Self {
        self.with(Step::Greeting)
    }

    /// Receives a user and a password (RFC 1929).
    #[must_use]
    pub fn credentials(self) -> Self {
        self.with(Step::Credentials)
    }

    /// Receives a SOCKS5 request, whatever its address type.
    #[must_use]
    pub fn request(self) -> Self {
        self.with(Step::Request)
    }

    /// Sends these bytes in one write.
    #[must_use]
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.with(Step::Send(bytes.as_ref().to_owned()))
    }

    /// Sends these bytes one at a time, each in its own segment.
    #[must_use]
    pub fn dribble(self, bytes: impl AsRef<[u8]>) -> Self {
        self.with(Step::Dribble(bytes.as_ref().to_owned()))
    }

    /// Sends these bytes, of which the last is urgent (`MSG_OOB`).
    #[must_use]
    pub fn urgent(self, bytes: impl AsRef<[u8]>) -> Self {
        self.with(Step::Urgent(bytes.as_ref().to_owned()))
    }

    /// Waits at a gate.
    #[must_use]
    pub fn pass(self, gate: &Gate) -> Self {
        self.with(Step::Pass(gate.clone()))
    }

    /// Connects to `address` from the origin host and carries bytes both ways until both sides are done.
    #[must_use]
    pub fn relay(self, address: impl Into<SocketAddr>) -> Self {
        self.with(Step::Relay(address.into()))
    }

    /// The same, until a gate opens: then it resets the connection.
    #[must_use]
    pub fn relay_until(self, gate: &Gate, address: impl Into<SocketAddr>) -> Self {
        self.with(Step::RelayUntil(address.into(), gate.clone()))
    }

    /// Receives until the client closes; when it resets the connection instead, that is the script's error.
    #[must_use]
    pub fn read_all(self) -> Self {
        self.with(Step::ReadAll)
    }

    /// Resets the connection (`SO_LINGER` 0).
    #[must_use]
    pub fn reset(self) -> Self {
        self.with(Step::Reset)
    }

    /// Closes the connection.
    #[must_use]
    pub fn close(self) -> Self {
        self.with(Step::Close)
    }

    /// Does this instead of the rest where more has come with what was received: one flight of a client is one segment here. The script's
    /// first and later connections are those of its own.
    #[must_use]
    pub fn when_pipelined(self, script: Script) -> Self {
        self.with(Step::WhenPipelined(Box::new(script)))
    }

    /// Starts the proxy on the proxy host, on a port of its own.
    #[must_use]
    pub fn start(self, lab: &Lab) -> ScriptedProxy {
        self.start_at(lab, Site::proxy_host(lab))
    }

    /// The same elsewhere.
    #[must_use]
    pub fn start_at(self, lab: &Lab, site: Site<'_>) -> ScriptedProxy {
        ScriptedProxy::start(lab, site, self)
    }

    /// Does this with every connection but the first.
    #[must_use]
    pub fn and_later(self, script: Self) -> Self {
        Self { later: Some(Box::new(script)), ..self }
    }

    fn with(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// A running scripted proxy.
#[derive(Debug)]
pub struct ScriptedProxy {
    address: Ipv4Addr,
    port: u16,
    connections: Arc<Mutex<Vec<Arc<Mutex<Connection>>>>>,
}

/// What is known of one connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The bytes received by the script (not those of a relay).
    pub received: Vec<u8>,
    /// How many of the bytes came in each step that receives.
    pub pieces: Vec<Vec<u8>>,
    /// [`Script::when_pipelined`] was played.
    pub pipelined: bool,
    /// The script has ended, all of it or at an error.
    pub over: bool,
    /// Why the script ended early.
    pub error: Option<String>,
}

impl ScriptedProxy {
    fn start(lab: &Lab, site: Site<'_>, script: Script) -> Self {
        let listener = site.host.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("listen"));
        rustix::net::listen(&listener, 1024).expect("a long queue");
        let port = listener.local_addr().expect("an address").port();
        site.permit(lab, port);
        let connections = Arc::default();
        let proxy = Self { address: site.address, port, connections: Arc::clone(&connections) };
        let origin = lab.origin.door();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = Arc::new(Mutex::new(Connection::default()));
                connections.lock().expect("no panic").push(Arc::clone(&connection));
                let is_first = connections.lock().expect("no panic").len() == 1;
                let later = script.later.as_deref().filter(|_| !is_first);
                let (script, origin) = (later.unwrap_or(&script).clone(), origin.clone());
                thread::spawn(move || {
                    let outcome = perform(&script, &stream, &connection, &origin);
                    let mut connection = connection.lock().expect("no panic");
                    connection.over = true;
                    connection.error = outcome.err().map(|error| error.to_string());
                });
            }
        });
        proxy
    }

    /// The port on which it listens, on IPv4 and IPv6.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL that says that it is of this kind.
    #[must_use]
    pub fn url_as(&self, scheme: &str) -> String {
        of_kind(scheme, &self.url())
    }

    /// What is known of each connection so far, in the order of their arrival.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let connections = self.connections.lock().expect("no panic");
        connections.iter().map(|connection| connection.lock().expect("no panic").clone()).collect()
    }

    /// Waits until `count` connections have been played to their end and returns what is known of them.
    #[must_use]
    pub fn finished(&self, count: usize) -> Vec<Connection> {
        patience::wait_for(&format!("{count} connections to the scripted proxy to end"), || {
            let connections = self.connections();
            (connections.iter().filter(|connection| connection.over).count() >= count).then_some(connections)
        })
    }
}

impl Upstream for ScriptedProxy {
    fn url(&self) -> String {
        url_at(self.address, None, self.port)
    }
}

/// A place where scripts wait until it opens: at a number of arrivals, or when the test says so.
#[derive(Clone, Debug)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug)]
struct GateState {
    arrived: usize,
    opens_at: usize,
}

impl Gate {
    /// Opens when `count` scripts wait at it; later ones pass.
    #[must_use]
    pub fn after(count: usize) -> Self {
        Self(Arc::new((Mutex::new(GateState { arrived: 0, opens_at: count }), Condvar::new())))
    }

    /// Opens only by [`Gate::open`].
    #[must_use]
    pub fn closed() -> Self {
        Self::after(usize::MAX)
    }

    /// Lets everyone through from now on.
    pub fn open(&self) {
        self.0.0.lock().expect("no panic").opens_at = 0;
        self.0.1.notify_all();
    }

    /// How many have arrived so far.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.0.0.lock().expect("no panic").arrived
    }

    /// Waits until `count` have arrived.
    pub fn wait_for_arrivals(&self, count: usize) {
        patience::wait_until(&format!("{count} arrivals at the gate"), || self.arrived() >= count);
    }

    /// Waits until it opens.
    pub fn pass(&self) {
        let mut state = self.0.0.lock().expect("no panic");
        state.arrived += 1;
        self.0.1.notify_all();
        drop(self.0.1.wait_while(state, |state| state.arrived < state.opens_at));
    }
}

/// Plays a script on one connection.
fn perform(
    script: &Script,
    stream: &TcpStream,
    connection: &Mutex<Connection>,
    origin: &Door,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let receive = |count: usize| receive(stream, connection, count);
    for step in &script.steps {
        match step {
            Step::Expect(count) => drop(receive(*count)?),
            Step::Until(end) => {
                let mut text = Vec::new();
                while !text.ends_with(end) {
                    text.extend(receive(1)?);
                }
            }
            Step::Greeting => {
                let methods = receive(2)?[1];
                receive(methods.into())?;
            }
            Step::Credentials => {
                let user = receive(2)?[1];
                receive(user.into())?;
                let password = receive(1)?[0];
                receive(password.into())?;
            }
            Step::Request => {
                let address = match receive(4)?[3] {
                    1 => 4,
                    4 => 16,
                    _ => receive(1)?[0].into(),
                };
                receive(address + 2)?;
            }
            Step::Send(bytes) => (&*stream).write_all(bytes)?,
            Step::Dribble(bytes) => bytes.iter().try_for_each(|byte| (&*stream).write_all(&[*byte]))?,
            Step::Urgent(bytes) => drop(rustix::net::send(stream, bytes, rustix::net::SendFlags::OOB)?),
            Step::Pass(gate) => gate.pass(),
            Step::Relay(address) => relay(stream, &origin.inside(|| TcpStream::connect(address))?)?,
            Step::RelayUntil(address, gate) => {
                let far = origin.inside(|| TcpStream::connect(address))?;
                return thread::scope(|scope| {
                    scope.spawn(|| {
                        gate.pass();
                        // Disconnecting a connected socket resets it, whoever else reads from it (connect(2), AF_UNSPEC).
                        rustix::net::connect_unspec(stream)
                    });
                    relay(stream, &far)
                });
            }
            Step::ReadAll => loop {
                match receive(1) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(error),
                }
            },
            Step::Reset => {
                rustix::net::sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO))?;
                return Ok(());
            }
            Step::Close => return stream.shutdown(Shutdown::Both),
            Step::WhenPipelined(script) => {
                stream.set_nonblocking(true)?;
                let is_pipelined = stream.peek(&mut [0]).is_ok_and(|count| count > 0);
                stream.set_nonblocking(false)?;
                if is_pipelined {
                    connection.lock().expect("no panic").pipelined = true;
                    let is_first = script.played.fetch_add(1, Ordering::Relaxed) == 0;
                    let later = script.later.as_deref().filter(|_| !is_first);
                    return perform(later.unwrap_or(script), stream, connection, origin);
                }
            }
        }
    }
    Ok(())
}

/// Receives exactly `count` bytes; what came of them is recorded even when the connection ends within.
fn receive(mut stream: &TcpStream, connection: &Mutex<Connection>, count: usize) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match stream.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    let mut connection = connection.lock().expect("no panic");
    connection.received.extend(&piece);
    connection.pieces.push(piece.clone());
    if filled == count { Ok(piece) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Carries bytes both ways; the end of one direction ends that direction only, an error ends both.
fn relay(near: &TcpStream, far: &TcpStream) -> io::Result<()> {
    thread::scope(|scope| {
        let there = scope.spawn(|| carry(near, far));
        let back = carry(far, near);
        there.join().expect("no panic").and(back)
    })
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let carried = io::copy(&mut from, &mut to);
    let ends = if carried.is_ok() { Shutdown::Write } else { Shutdown::Both };
    // One that the other side has closed already is closed enough.
    let _ = to.shutdown(ends);
    carried.map(drop)
}

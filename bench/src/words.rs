//! The words by which a worker is told what to do.

/// Tells this executable that it is a worker.
pub(crate) const FLAG: &str = "--task";

/// Connects: `connects DESTINATION [PROXY]`; with a proxy it speaks SOCKS itself.
pub(crate) const CONNECTS: &str = "connects";
/// One byte there and back: `ping plain|poll|epoll DESTINATION [PROXY]`.
pub(crate) const PING: &str = "ping";
/// System calls: `calls free|caught`.
pub(crate) const CALLS: &str = "calls";
/// One that nobody looks at.
pub(crate) const FREE: &str = "free";
/// One that the broker is asked about, and that goes on.
pub(crate) const CAUGHT: &str = "caught";
/// Calls that stay on this machine: `local CALL DIRECTORY`.
pub(crate) const LOCAL: &str = "local";
/// Starts a program: `start PROGRAM`.
pub(crate) const START: &str = "start";
/// Connects, and looks up [`NAMES_PER_CONNECT`] names that are new: `names DESTINATION`.
pub(crate) const NAMES: &str = "names";
/// See [`NAMES`].
pub(crate) const NAMES_PER_CONNECT: usize = 10;

/// Datagrams: `datagrams WAY FIRST-DESTINATION [PROXY]`; with a proxy it speaks SOCKS itself. The ways:
pub(crate) const DATAGRAMS: &str = "datagrams";
/// There and back on a connected socket.
pub(crate) const PEER: &str = "peer";
/// There and back on one that is not.
pub(crate) const ANYBODY: &str = "anybody";
/// Many in flight.
pub(crate) const FLIGHT: &str = "flight";
/// Many in flight to thousands of destinations, all of which have been written to.
pub(crate) const MANY: &str = "many";
/// Many in flight, each to a destination that is new, as long as there are any.
pub(crate) const NEW: &str = "new";
/// A new socket each time.
pub(crate) const SOCKETS: &str = "sockets";
/// A new socket each time, none of them closed.
pub(crate) const KEPT_SOCKETS: &str = "kept-sockets";

/// DNS queries: `queries alone|flight|stream SERVER [echo]`; many in flight as datagrams, or over one connection.
pub(crate) const QUERIES: &str = "queries";
/// There and back, one after the other.
pub(crate) const ALONE: &str = "alone";
/// Many in flight over TCP.
pub(crate) const STREAM: &str = "stream";
/// The server is none, and sends back what it gets.
pub(crate) const ECHO: &str = "echo";
/// The names of [`QUERIES`] by getaddrinfo(3): `look-ups`.
pub(crate) const LOOK_UPS: &str = "look-ups";

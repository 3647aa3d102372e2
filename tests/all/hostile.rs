//! Proxies that lie, stall and vanish, brokers that die, sessions that are not ours: an errno, one line, no connection.

mod broker;
mod kinds;
pub(crate) mod proxy;
pub(crate) mod scripts;
mod session;
mod stuck;

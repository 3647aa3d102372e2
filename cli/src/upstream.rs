//! By way of proxies: which ones, how each is spoken to, and why that fails. Nothing here decides where something goes, or knows a program.

pub(crate) mod chain;
pub(crate) mod dialer;
pub(crate) mod failure;
pub(crate) mod first_hop;
pub(crate) mod gssapi;
pub(crate) mod hop;
pub(crate) mod isolation;
pub(crate) mod limits;
pub(crate) mod negotiate;
pub(crate) mod pipelining;
pub(crate) mod plain;
pub(crate) mod relay;
pub(crate) mod stream;
pub(crate) mod tls;

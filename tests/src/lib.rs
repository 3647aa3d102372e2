//! The laboratory in which presocks is tested: three hosts, real proxies, real servers, and a witness that counts
//! every packet which should not have left.
//!
//! A test reads top-down:
//!
//! ```ignore
//! #[test]
//! fn curl_fetches_a_page_by_name_through_dante() {
//!     if missing(&["danted", "curl"]) {
//!         return;
//!     }
//!     let lab = Lab::new();
//!     let proxy = Dante::open(&lab);
//!     let web = HttpServer::start(&lab);
//!     lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&proxy).run().success().stdout_is(http::HELLO);
//!     assert_eq!(web.connections(), 1);
//!     lab.assert_no_leak();
//! }
//! ```
//!
//! * [`lab`]: the three hosts and their addresses. [`host`]: one host (namespaces and what runs in them).
//! * [`hops`]: more hosts, for the proxies of a chain.
//! * [`leak`]: what left the client for anywhere but a proxy.
//! * [`command`]: running a client, wrapped or bare, and looking at the outcome. [`terminal`]: the same under a pty.
//! * [`compiler`]: programs built so that the shim cannot get into them.
//! * [`proxy`]: dante, microsocks, `ssh -D`, tinyproxy, squid, tor, one with GSSAPI, TLS and Unix sockets in front of them, and a scripted one for
//!   answers that no sane proxy gives. [`site`]: where one runs. [`certificates`]: good and bad ones.
//! * [`kerberos`]: a realm with its KDC, and tickets.
//! * [`origin`]: the servers that clients want to reach.
//! * [`requirement`]: what the machine must offer; a test without it is ignored, and fails in CI. [`harness`]: runs the tests.
//!
//! Everything here panics with all that is known when something goes wrong: it runs inside tests only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness that cannot go on must fail its test, loudly"
)]

mod addresses;
pub mod binary;
pub mod certificates;
pub mod command;
pub mod compiler;
pub mod daemon;
pub mod harness;
pub mod hops;
pub mod host;
pub mod kerberos;
pub mod lab;
pub mod leak;
mod namespaces;
pub mod origin;
pub mod patience;
pub mod proxy;
pub mod requirement;
pub mod site;
pub mod terminal;

pub use command::{Invocation, Outcome, Running};
pub use compiler::Build;
pub use hops::Hops;
pub use kerberos::Kerberos;
pub use lab::Lab;
pub use requirement::missing;
pub use site::Site;

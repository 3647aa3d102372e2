//! All integration tests, one module per subject; the laboratory is the crate `presocks_tests`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

mod behaviour;
mod datagram;
mod hostile;
mod laboratory;
mod names;

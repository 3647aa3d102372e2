//! Chains of two to five real proxies: order, credentials at each hop, which hop fails, and the ways to choose among them.

mod line;
